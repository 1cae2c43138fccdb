"""Names of the files that commands write, one per spectrum."""

from __future__ import annotations

from pathlib import Path

from spectromer_cli import console


def output_stem(file: str | Path, row: int = 0, of_many: bool = False) -> str:
    """The name of what is written for a spectrum, without its suffix.

    Parameters
    ----------
    file : str or Path
        Where the spectrum came from.
    row : int
        Its number in the file.
    of_many : bool
        Whether the file has other spectra too.

    Returns
    -------
    str
        ``NAME``, or ``NAME.12`` for number 12 of many. NAME is the file's name without its
        suffix, nor the one of what is packed in a .gz or .fz.
    """
    path = Path(file)
    name = Path(path.stem).stem if path.suffix.lower() in (".gz", ".fz") else path.stem
    return f"{name}.{row}" if of_many else name


def unique(name: str, taken: set[str]) -> str:
    """A name that this run has not used: nothing that it wrote is overwritten.

    Parameters
    ----------
    name : str
    taken : set of str
        The names that were used, in lower case; the one given is added.

    Returns
    -------
    str
        The name, or with -2, -3, … after it, which a warning tells.
    """
    number, free = 1, name
    while free.casefold() in taken:  # some file systems do not tell a from A
        number += 1
        free = f"{name}-{number}"
    if free != name:
        console.warn(f"another input is also named {name}: writing this one as {free}")
    taken.add(free.casefold())
    return free
