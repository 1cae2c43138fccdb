"""What a user has is not overwritten: an output that is an input is refused before any work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from spectromer_cli import console
from spectromer_cli.errors import NotASpectrum, ReadError, UsageError
from spectromer_cli.spectra.loading import COUNTABLE

if TYPE_CHECKING:
    from spectromer_cli.spectra.catalogues import Catalogue
    from spectromer_cli.spectra.loading import Inputs
    from spectromer_cli.spectra.sources import Target

# So many inputs that do not exist are named before the work.
NAMED = 3


class Outputs:
    """The files that a command will write.

    Parameters
    ----------
    paths : iterable of Path
        They need not exist.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._real = {os.path.realpath(path): path for path in paths}
        self._names = {Path(real).name for real in self._real}
        self._files: dict[tuple[int, int], Path] = {}
        for path in self._real.values():
            try:
                stat = path.stat()
            except (OSError, ValueError):
                continue
            self._files[stat.st_dev, stat.st_ino] = path

    def same_as(self, path: Path) -> Path | None:
        """The output that is this file, under whatever name, links resolved; None if none is."""
        try:
            if self._files:
                stat = path.stat()
                if found := self._files.get((stat.st_dev, stat.st_ino)):
                    return found
            if path.name in self._names:
                return self._real.get(os.path.realpath(path))
        except (OSError, ValueError):
            pass
        return None

    def refuse(self, path: Path, what: str) -> None:
        """Refuse to work if a file would be overwritten.

        Parameters
        ----------
        path : Path
            Of the user.
        what : str
            What it is, for the message.

        Raises
        ------
        UsageError
        """
        if found := self.same_as(path):
            also = "" if found == path else f", {path}"
            raise UsageError(
                f"the output {found} is {what}{also} and would be overwritten",
                "choose another -o",
            )

    def refuse_all(self, paths: Iterable[Path]) -> None:
        """Refuse to work if one of these inputs would be overwritten; see `refuse`."""
        for path in paths:
            self.refuse(path, "an input")

    def refuse_target(self, target: Target, inputs: Inputs) -> None:
        """Refuse to work if a target would be overwritten, or a file not found would be made.

        A file that a searched folder holds, and that is no spectrum, such as an earlier result, is
        not an input.

        Raises
        ------
        UsageError
        """
        if not self.same_as(target.path):
            return
        if target.found_in_folder and not target.problem:
            from spectromer_cli.spectra.readers import open_spectra

            try:
                with open_spectra(target.path, inputs.options):
                    pass
            except NotASpectrum:
                return
            except ReadError:
                pass
        self.refuse(target.path, "an input")


def checked_targets(
    inputs: Inputs, outputs: Iterable[Path]
) -> tuple[Iterator[Target], Catalogue | None, int | None]:
    """The targets of `Inputs.targets`, after a look at them, before any work.

    Parameters
    ----------
    inputs : Inputs
    outputs : iterable of Path
        The files that the command will write.

    Returns
    -------
    targets, catalogue, total
        As `Inputs.targets`. Of targets that come one by one, such as names from stdin, and of
        more than `loading.COUNTABLE`, each is looked at when it comes.

    Raises
    ------
    UsageError
        If an output is an input or the catalogue, or none of the inputs exists.
    """
    own = Outputs(outputs)
    if inputs.catalog is not None:
        own.refuse(inputs.catalog, "the catalogue")
    targets, catalogue, total = inputs.targets()
    targets = _looked_at(targets, own, inputs)
    if total is not None:
        head = list(islice(targets, COUNTABLE))
        _say_missing(head, total)
        targets = chain(head, targets)
    return targets, catalogue, total


def _looked_at(targets: Iterable[Target], own: Outputs, inputs: Inputs) -> Iterator[Target]:
    for target in targets:
        own.refuse_target(target, inputs)
        yield target


def _say_missing(targets: Sequence[Target], total: int) -> None:
    """Say which named inputs do not exist, of the first of a total.

    Raises
    ------
    UsageError
        If none does.
    """
    missing = [target for target in targets if target.problem and _is_missing(target.path)]
    if not missing:
        return
    count = f"{len(targets)}" if len(targets) == total else f"first {len(targets)}"
    if len(missing) == len(targets):
        if len(missing) == 1:
            raise UsageError(missing[0].problem)
        raise UsageError(
            f"none of the {count} inputs exist; the first: {missing[0].problem}",
            "check the names; nothing was done",
        )
    names = ", ".join(str(target.path) for target in missing[:NAMED])
    more = ", …" if len(missing) > NAMED else ""
    console.warn(f"{len(missing)} of {count} inputs do not exist: {names}{more}")


def _is_missing(path: Path) -> bool:
    try:
        return not os.path.lexists(path)
    except (OSError, ValueError):
        return True
