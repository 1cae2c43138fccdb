"""From the command line to a work list: files, folders, patterns, names on stdin."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.spectra import hats

# What a folder is searched for, packed or not.
SUFFIXES = (
    *(".fits", ".fit", ".fts", ".fits.fz", ".h5", ".hdf5", ".parquet", ".csv", ".ecsv", ".txt"),
    *(".dat", ".ascii", ".asci", ".asc", ".flm", ".tsv", ".tab", ".spec", ".sp", ".vot", ".xml"),
)
PACKED = (".gz", ".bz2", ".xz", ".zst", ".z")


@dataclass(frozen=True)
class Target:
    """Something to read.

    Parameters
    ----------
    path : Path
        The file.
    row : int, optional
        The one spectrum wanted, counted from 0; None for all of the file.
    catalogue_row : int, optional
        The row of the catalogue that asked for it.
    problem : str, optional
        Why there is nothing to read; empty if there is.
    found_in_folder : bool
        Nobody named the file: it need not hold a spectrum.
    identity : mapping
        Identifiers that the catalogue gives, as `identity.of_table` has them.
    shares_file : bool
        Other rows of the catalogue name the same file with other identifiers, so that just one
        of its spectra is meant.
    """

    path: Path
    row: int | None = None
    catalogue_row: int | None = None
    problem: str = ""
    found_in_folder: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict, hash=False)
    shares_file: bool = False


def expand(arguments: Iterable[str]) -> Iterator[Target]:
    """Turn arguments into targets, one by one, in constant memory.

    Parameters
    ----------
    arguments : iterable of str
        Files; ``FILE[12]`` for the spectrum numbered 12 of a file; folders, searched with all
        below them for the usual suffixes; patterns with ``* ? [...] **``; ``-`` for
        names from stdin, one a line or separated by NUL.

    Yields
    ------
    Target
        In the order of the arguments, folders and patterns sorted by name. What leads
        nowhere gives one target that says why in `problem`.
    """
    for argument in arguments:
        names = _names_from_stdin() if argument == "-" else [argument]
        for name in names:
            yield from _expand_name(name)


def only_one(targets: Iterator[Target], reason: str, hint: str) -> Iterator[Target]:
    """Refuse targets that are plainly several, before any work is done on the first.

    A folder may hold other files than spectra, and a file may hold many: what lies in them
    shows later.

    Parameters
    ----------
    targets : iterator of Target
    reason, hint : str
        Why there may be one only, and what to do about it.

    Returns
    -------
    iterator of Target
        The same targets.

    Raises
    ------
    UsageError
        If more than one was named.
    """
    first = list(islice(targets, 2))
    if len(first) > 1 and not any(target.found_in_folder for target in first):
        raise UsageError(f"{reason}, but several spectra are named", hint)
    return chain(first, targets)


def _names_from_stdin() -> Iterator[str]:
    stdin: Any = sys.stdin.buffer
    separator = rest = b""
    while chunk := stdin.read1(65536):  # what is there by now: names come from a live pipe
        # `find -print0` shows itself by its first NUL; its names may hold newlines.
        separator = separator or (b"\0" if b"\0" in chunk else b"\n")
        *names, rest = (rest + chunk).split(separator)
        yield from _decoded(names)
    yield from _decoded([rest])


def _decoded(names: list[bytes]) -> Iterator[str]:
    return (os.fsdecode(name) for raw in names if (name := raw.strip(b"\r\n")))


def _expand_name(name: str) -> Iterator[Target]:
    path = home_expanded(name)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = getattr(error, "strerror", None) or error
            yield Target(path, problem=f"{name} cannot be opened: {reason}")
            return
    else:
        yield from _expand_path(path)
        return
    with_row = re.fullmatch(r"(.+)\[(\d+)\]", str(path), re.DOTALL)
    if with_row and Path(with_row[1]).is_file():
        yield Target(Path(with_row[1]), row=int(with_row[2]))
    elif not re.search(r"[*?[]", name):
        yield Target(path, problem=f"{name} does not exist; check the name")
    else:
        yield from _expand_pattern(str(path))


def home_expanded(name: str) -> Path:
    """The path of a name that may begin with ``~``."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~someone who does not exist: an ordinary name
        return Path(name)


def _expand_path(path: Path) -> Iterator[Target]:
    if not path.is_dir():
        yield Target(path)
        return
    is_empty = True
    left_out: Counter[str] = Counter()
    for target in walk(path, (), left_out):
        is_empty = False
        yield target
    if left_out:
        most = [suffix or "none" for suffix, _ in left_out.most_common(6)]
        more = ", …" if len(left_out) > len(most) else ""
        console.info(
            f"{path}: left out {left_out.total()} files by suffix ({', '.join(most)}{more})"
        )
    if is_empty:
        reason = f"{path} holds no spectra; looked for names ending in {' '.join(SUFFIXES)}"
        yield Target(path, problem=reason)


def walk(
    folder: Path, above: tuple[str, ...] = (), left_out: Counter[str] | None = None
) -> Iterator[Target]:
    """The spectra below a folder; one listing a level is in memory at a time.

    Parameters
    ----------
    folder : Path
    above : tuple of str
        The folders above it, so that a link that leads back up is not followed.
    left_out : Counter, optional
        Takes the suffixes of the files that are left out.

    Yields
    ------
    Target
        Files with a suffix of a spectrum, and folders that cannot be searched.
    """
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back up
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        problem = f"{folder} cannot be searched: {error.strerror}"
        yield Target(folder, problem=problem, found_in_folder=True)
        return
    for entry in hats.entries(folder, entries, asked_for=not above):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk(folder / entry.name, (*above, real), left_out)
        elif _is_named_as_spectrum(entry.name):
            yield Target(folder / entry.name, found_in_folder=True)
        elif left_out is not None:
            left_out[Path(entry.name).suffix.lower()] += 1


def _is_named_as_spectrum(name: str) -> bool:
    lowered = name.lower()
    for packed in PACKED:
        lowered = lowered.removesuffix(packed)
    return lowered.endswith(SUFFIXES)


def _expand_pattern(pattern: str) -> Iterator[Target]:
    import glob

    # Path.glob takes no absolute pattern.
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not matches:
        yield Target(Path(pattern), problem=f"no file is or matches {pattern}; check the name")
    for match in map(Path, matches):
        # ** gives the folders and what is in them: once is enough.
        if "**" not in pattern:
            yield from _expand_path(match)
        elif not match.is_dir():
            yield Target(match)
