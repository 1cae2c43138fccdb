"""From the command line to a work list: files, folders, patterns, names on stdin."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra import hats
from spectromer_cli.spectra.spectrum import Spectrum

# What a folder is searched for, packed or not.
SUFFIXES = (
    *(".fits", ".fit", ".fts", ".fits.fz", ".h5", ".hdf5", ".parquet", ".csv", ".ecsv", ".txt"),
    *(".dat", ".ascii", ".asci", ".asc", ".flm", ".tsv", ".tab", ".spec", ".sp", ".vot", ".xml"),
)
PACKED = (".gz", ".bz2", ".xz", ".zst", ".z")
# No system takes a longer name; what comes without an end on stdin is no name.
MAX_NAME = 65_536
# A longer name is not shown whole.
_SHOWN = 300


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
        Its row of the catalogue.
    problem : str, optional
        Why there is nothing to read; empty if there is.
    found_in_folder : bool
        Nobody named the file: it need not hold a spectrum.
    identity : mapping
        Identifiers that the catalogue gives, as `identity.of_table` has them.
    shares_file : bool
        Other rows of the catalogue name the same file with other identifiers, so that just one
        of its spectra is meant.
    spectrum : Spectrum or ReadError, optional
        What came from Python, of no file, or what is wrong with it.
    """

    path: Path
    row: int | None = None
    catalogue_row: int | None = None
    problem: str = ""
    found_in_folder: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict, hash=False)
    shares_file: bool = False
    spectrum: Spectrum | ReadError | None = field(default=None, compare=False, repr=False)

    @property
    def file(self) -> str:
        """The name of the file; empty for a spectrum of no file."""
        return str(self.path) if self.spectrum is None else ""


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
        raise UsageError(f"{reason}, but several spectra are given", hint)
    return chain(first, targets)


def _names_from_stdin() -> Iterator[str]:
    stdin: Any = sys.stdin.buffer
    separator = rest = b""
    while chunk := stdin.read1(65536):  # what is there by now: names come from a live pipe
        # `find -print0` shows itself by its first NUL; its names may hold newlines.
        separator = separator or (b"\0" if b"\0" in chunk else b"\n")
        first, *others = chunk.split(separator)
        # Of a name that is too long no more is kept than shows it.
        rest += first[: max(0, 4 * MAX_NAME + 4 - len(rest))]
        if others:
            yield from _decoded([rest, *others[:-1]])
            rest = others[-1]
    yield from _decoded([rest])


def _decoded(names: list[bytes]) -> Iterator[str]:
    return (os.fsdecode(name) for raw in names if (name := raw.strip(b"\r\n")))


def _expand_name(name: str) -> Iterator[Target]:
    if len(name) > MAX_NAME:
        problem = f"{shown(name)} is too long for a file name"
        yield Target(Path(name[:_SHOWN]), problem=problem)
        return
    path = home_expanded(name)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = getattr(error, "strerror", None) or error
            problem = f"{shown(name)} cannot be opened: {reason}"
            yield Target(Path(str(path)[:_SHOWN]), problem=problem)
            return
    else:
        yield from _expand_path(path)
        return
    with_row = re.fullmatch(r"(.+)\[(\d{1,18})\]", str(path), re.DOTALL)
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
    except (RuntimeError, ValueError):  # ~someone who does not exist: an ordinary name
        return Path(name)


def _expand_path(path: Path) -> Iterator[Target]:
    if not path.is_dir():
        yield Target(path)
        return
    is_empty = True
    left_out: Counter[str] = Counter()
    for target in walk(path, left_out):
        is_empty = False
        yield target
    if left_out:
        most = [suffix or "none" for suffix, _ in left_out.most_common(6)]
        more = ", …" if len(left_out) > len(most) else ""
        console.info(
            f"{path}: skipped {left_out.total()} file{'s' * (left_out.total() != 1)} by suffix "
            f"({', '.join(most)}{more})"
        )
    if is_empty:
        reason = f"{path} contains no spectra; searched for names ending in {' '.join(SUFFIXES)}"
        yield Target(path, problem=reason)


def walk(folder: Path, left_out: Counter[str] | None = None) -> Iterator[Target]:
    """The spectra below a folder; one listing a level is in memory at a time.

    Links are followed, but what a folder holds is given once, by however many ways it is reached.

    Parameters
    ----------
    folder : Path
    left_out : Counter, optional
        Takes the suffixes of the files that are left out.

    Yields
    ------
    Target
        Files with a suffix of a spectrum, and folders that cannot be searched.
    """
    for path, problem in _below(folder, hats.entries):
        if problem or _is_named_as_spectrum(path.name):
            yield Target(path, problem=problem, found_in_folder=True)
        elif left_out is not None:
            left_out[path.suffix.lower()] += 1


def _below(
    top: Path, chosen: Callable[..., list[os.DirEntry[str]]] | None = None
) -> Iterator[tuple[Path, str]]:
    """All files below a folder, sorted by name, without hidden ones; and what cannot be searched.

    Each real folder is searched once: links that lead back or fan out would have no end.

    Parameters
    ----------
    top : Path
    chosen : callable, optional
        What of a listing is wanted, as `hats.entries` is called.

    Yields
    ------
    path : Path
    problem : str
        Why it cannot be searched; empty for files.
    """
    seen: set[tuple[int, int]] = set()
    searched: list[tuple[Path, Iterator[os.DirEntry[str]]]] = []
    folder: Path | None = top
    while folder is not None or searched:
        if folder is not None:
            entries: list[os.DirEntry[str]] = []
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    with os.scandir(folder) as listing:
                        entries = sorted(listing, key=lambda entry: entry.name)
                if chosen is not None:
                    entries = chosen(folder, entries, asked_for=not searched)
            except OSError as error:
                yield folder, f"{folder} cannot be searched: {error.strerror}"
            searched.append((folder, iter(entries)))
            folder = None
        around, rest = searched[-1]
        entry = next(rest, None)
        if entry is None:
            searched.pop()
        elif not entry.name.startswith("."):
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself: said when it is to be read
                is_folder = False
            if is_folder:
                folder = around / entry.name
            else:
                yield around / entry.name, ""


def _is_named_as_spectrum(name: str) -> bool:
    lowered = name.lower()
    for packed in PACKED:
        lowered = lowered.removesuffix(packed)
    return lowered.endswith(SUFFIXES)


def _expand_pattern(pattern: str) -> Iterator[Target]:
    import glob

    if "**" in Path(pattern).parts:
        found = _matching_below(pattern)
    else:  # Path.glob takes no absolute pattern
        matches = sorted(glob.glob(pattern))  # noqa: PTH207
        found = (target for match in matches for target in _expand_path(Path(match)))
    first = next(found, None)
    if first is None:
        problem = f"no file matches {shown(pattern)}; check the name"
        first = Target(Path(pattern[:_SHOWN]), problem=problem)
    yield first
    yield from found


def _matching_below(pattern: str) -> Iterator[Target]:
    """The files that match a pattern with ``**``, which stands for any number of folders."""
    parts = Path(pattern).parts
    plain = next(i for i, part in enumerate(parts) if re.search(r"[*?[]", part))
    top = Path(*parts[:plain])
    if not top.is_dir():
        return
    for path, problem in _below(top):
        if problem:
            yield Target(path, problem=problem, found_in_folder=True)
        elif _fits(path.parts[len(top.parts) :], parts[plain:]):
            yield Target(path)


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path are those of a pattern."""
    import fnmatch

    def and_none(places: set[int]) -> set[int]:
        for place in sorted(places):
            while place < len(pattern) and pattern[place] == "**":
                place += 1
                places.add(place)
        return places

    places = and_none({0})
    for part in parts:
        fitting = (i for i in places if i < len(pattern))
        places = and_none(
            {
                i if pattern[i] == "**" else i + 1
                for i in fitting
                if pattern[i] == "**" or fnmatch.fnmatch(part, pattern[i])
            }
        )
    return len(pattern) in places


def shown(name: str) -> str:
    """A name, or the beginning of one that would fill the screen."""
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}… ({len(name)} characters)"
