"""What an interrupted run had written: kept beside its output, so that it can be resumed.

The rows lie in ``NAME.csv.spectromer-part``; ``NAME.csv.spectromer-part.json`` says how far they go
and of which run they are. Both are gone when the run has ended well.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spectromer_cli import console
from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.paths import atomic_path, disk_errors

SAVE_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    rows, failed : int
        Rows written, and those without a prediction among them.
    target : int
        Number of the input of the last row.
    file : str
        Its name.
    place : int
        How many of its spectra are written.
    size, beside : int
        Bytes written, and those of the file that grows beside it.
    """

    rows: int = 0
    failed: int = 0
    target: int = 0
    file: str = ""
    place: int = 0
    size: int = 0
    beside: int = 0


class Unfinished:
    """The unfinished output of a run: a context in which its rows are written.

    Rows that were written whole when the context ends in an error are kept, and it is said how to
    go on; after a good end nothing is left.

    Parameters
    ----------
    output : Path
        Where the whole result will be.
    run : dict
        What must be the same for a run to be resumed: weights, columns, options.
    resume : bool
        Continue after the rows that are there; without any, start from the beginning.
    beside : Path, optional
        Another file that will be whole with it, of which rows are written at the same time.

    Raises
    ------
    UsageError
        If rows are there and `resume` is not set, or they are of another run.
    SpectromerError
        If they are damaged.
    """

    def __init__(
        self, output: Path, run: dict[str, Any], resume: bool, beside: Path | None = None
    ) -> None:
        # Names that nobody else gives: a user's own NAME.part is another file.
        self.part = output.with_name(f"{output.name}.spectromer-part")
        self.beside = beside and beside.with_name(f"{beside.name}.spectromer-part")
        self._state = output.with_name(f"{output.name}.spectromer-part.json")
        self._run = json.loads(json.dumps(run))
        self._saved = -math.inf
        self._worthless = False
        # How far the rows go that a kill would leave.
        self._kept = 0
        with disk_errors(self.part):
            self.progress = self._begin(resume)

    def _begin(self, resume: bool) -> Progress:
        """Find out where to begin, and bring the rows that are there to that point."""
        if not (self._state.exists() and all(part.exists() for part in self._parts)):
            self.discard()
            for part in self._parts:
                part.touch()
            if resume:
                console.info("nothing to resume: starting from the beginning")
            return Progress()
        afresh = f"start from the beginning: rm {self.part}*"
        if not resume:
            raise UsageError(
                f"{self.part} contains the rows of an unfinished run",
                f"resume it with --resume, or {afresh}",
            )
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            progress = Progress(**state["progress"])
            run = dict(state["run"])
            sizes = dict(zip(self._parts, (progress.size, progress.beside), strict=False))
            whole = all(part.stat().st_size >= size for part, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpectromerError(f"{self._state} cannot be read: {error}", afresh) from error
        if not whole:
            raise SpectromerError(f"{self.part} is shorter than it was", afresh)
        if run != self._run:
            differs = [name for name in self._run if run.get(name) != self._run[name]]
            raise UsageError(
                f"{self.part} was written with other {', '.join(differs)}",
                f"resume it with the same command, or {afresh}",
            )
        self._cut(progress)  # rows written after the state was last saved
        console.info(f"resuming after {progress.rows} rows")
        self._kept = progress.rows
        return progress

    @property
    def _parts(self) -> list[Path]:
        return [self.part] if self.beside is None else [self.part, self.beside]

    def _cut(self, progress: Progress) -> None:
        for part, size in zip(self._parts, (progress.size, progress.beside), strict=False):
            if part.exists():  # else it has its final name already
                os.truncate(part, size)

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self._worthless:
            self.discard()
        else:
            self._keep()

    def advance(self, progress: Progress) -> None:
        """After rows were written whole: how far they go; saved at once, then every few seconds.

        Raises
        ------
        SpectromerError
            If the disk does not take it.
        """
        sizes = [part.stat().st_size for part in self._parts]
        self.progress = replace(progress, size=sizes[0], beside=sum(sizes[1:]))
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self._saved = time.monotonic()
            with disk_errors(self._state):
                self._save()

    def _keep(self) -> None:
        """After an interruption: keep the rows that are whole, and say so."""
        if self.progress.rows:
            try:
                self._cut(self.progress)
                self._save()
            except OSError:  # a full disk: what was saved last still holds
                pass
        if self._kept:
            console.warn(
                f"{self._kept} rows are kept in {self.part}; resume with the same command and "
                "--resume"
            )
        else:
            self.discard()
            console.warn("no rows were written; run the same command again")

    def _save(self) -> None:
        for part in self._parts:
            with part.open("rb+") as file:
                os.fsync(file.fileno())  # the rows must not be younger than what is said of them
        with atomic_path(self._state) as temporary:
            document = {"run": self._run, "progress": asdict(self.progress)}
            with temporary.open("w", encoding="utf-8") as file_of_text:
                file_of_text.write(json.dumps(document) + "\n")
                file_of_text.flush()
                os.fsync(file_of_text.fileno())
        self._kept = self.progress.rows

    def drop(self) -> None:
        """Keep nothing, however the run ends."""
        self._worthless = True

    def discard(self) -> None:
        """Remove all of it."""
        for path in (self._state, *self._parts):
            path.unlink(missing_ok=True)
