"""What has no prediction: counted, named, and the exit code that is due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectromer_cli import console
from spectromer_cli.errors import SomeInputsFailed
from spectromer_cli.outputs.resume import Progress

if TYPE_CHECKING:
    from spectromer_cli.spectra.loading import Item

# So many bad files are named one by one; the rest are in the table.
NAMED_PROBLEMS = 20


class Failures:
    """Counts the rows and names the inputs that have no prediction.

    Parameters
    ----------
    progress : Progress, optional
        Of the run that is resumed.
    """

    def __init__(self, progress: Progress = Progress()) -> None:
        self.progress = progress
        self.lines: list[str] = []
        # Where the inputs of this run begin among all.
        self._first = progress.target

    @property
    def seen(self) -> int:
        """Rows."""
        return self.progress.rows

    @property
    def count(self) -> int:
        """Rows without a prediction."""
        return self.progress.failed

    @property
    def status(self) -> str:
        """Of the JSON document: whether all inputs have a prediction, some, or none."""
        if self.count == self.seen:
            return "error"
        return "partial" if self.count else "success"

    def note(self, items: Sequence[Item]) -> None:
        """Count a batch, and say on stderr what is wrong with which file."""
        count = self.count
        for item in items:
            if not item.problem:
                continue
            count += 1
            if count <= NAMED_PROBLEMS:
                self.lines.append(item.complaint)
                console.error(item.complaint)
            elif count == NAMED_PROBLEMS + 1:
                console.error("more inputs cannot be read; see the column flags")
        last = items[-1]
        self.progress = Progress(
            rows=self.seen + len(items),
            failed=count,
            target=self._first + last.target,
            file=last.file,
            place=last.place + 1,
        )

    def raise_if_empty(self) -> None:
        """Refuse a run without a single row.

        Raises
        ------
        SomeInputsFailed
        """
        if not self.seen:
            raise SomeInputsFailed(
                "none of the files found contains a spectrum", "give the file names"
            )

    def raise_if_incomplete(self) -> None:
        """End a run with the exit code that is due.

        Raises
        ------
        SomeInputsFailed
            If there is no row, or one without a prediction.
        """
        self.raise_if_empty()
        if self.count:
            raise SomeInputsFailed(
                f"{self.count} of {self.seen} inputs have no prediction; see the column flags"
            )
