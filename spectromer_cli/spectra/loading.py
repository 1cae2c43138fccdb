"""From the command line to spectra: read in order, in worker processes if there are many.

Memory does not grow with the number of files, nor with the number of spectra in one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import NotASpectrum, ReadError, UsageError
from spectromer_cli.spectra import catalogues, identity, sources
from spectromer_cli.spectra.grid import Grid, Prepared, prepare
from spectromer_cli.spectra.readers import ReadOptions, Spectra, open_spectra
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    from astropy.table import Table

# At most this many spectra of one file are read at a time, so that memory stays bounded.
PIECE = 256
# For fewer files, worker processes take longer to start than they save.
FEW_FILES = 50
# Up to this many files are counted first, so that the progress bar knows its end.
COUNTABLE = 100_000


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to read; the fields are the options of the command line.

    Parameters
    ----------
    files : path or sequence of paths
        As `sources.expand` takes them: files, folders, patterns, ``FILE[12]``.
    catalog : path, optional
        As `catalogues.read_catalogue` takes it, instead of `files`.
    spectra_dir : path, optional
        Where the spectra of the catalogue lie.
    air : bool, optional
    wavelength_unit : str
        See `ReadOptions`.
    workers : int, optional
        Processes that read; None chooses by the number of files.

    Raises
    ------
    UsageError
        If there is nothing to read, or the options contradict each other.
    """

    files: str | Path | Sequence[str | Path] | None = None
    catalog: Path | None = None
    spectra_dir: Path | None = None
    air: bool | None = None
    wavelength_unit: str = ""
    workers: int | None = None
    _names: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from spectromer_cli.spectra.quantities import is_unit

        # From Python, names are strings as often as paths, and one may come alone.
        files = [self.files] if isinstance(self.files, str | Path) else self.files or ()
        object.__setattr__(self, "_names", [str(file) for file in files])
        for name in ("catalog", "spectra_dir"):
            if getattr(self, name):
                object.__setattr__(self, name, Path(getattr(self, name)))
        if self._names and self.catalog:
            raise UsageError("FILES and --catalog exclude each other", "give one of them")
        if not self._names and not self.catalog:
            raise UsageError("nothing to read", "give files, a folder, - or --catalog TABLE")
        if self.spectra_dir and not self.catalog:
            raise UsageError(
                "--spectra-dir goes with --catalog", "name the folder as an input instead"
            )
        if self.wavelength_unit and not is_unit(self.wavelength_unit):
            raise UsageError(
                f"--wavelength-unit {self.wavelength_unit} is not a unit of wavelength",
                "use Angstrom, nm or um",
            )

    @property
    def options(self) -> ReadOptions:
        """What the files do not say themselves."""
        return ReadOptions(self.air, self.wavelength_unit)

    @property
    def from_stdin(self) -> bool:
        """Whether names come from stdin, one by one: whoever writes them may wait for results."""
        return "-" in self._names

    def targets(self) -> tuple[Iterator[Target], Table | None, int | None]:
        """What to read, in order.

        Returns
        -------
        targets : iterator of Target
        catalogue : astropy Table or None
            The catalogue, if there is one; the targets know their rows in it.
        total : int or None
            How many targets, where that can be told soon.
        """
        if self.catalog is not None:
            listed, catalogue = catalogues.read_catalogue(self.catalog, self.spectra_dir)
            return iter(listed), catalogue, len(listed)
        targets = sources.expand(self._names)
        if self.from_stdin:
            return targets, None, None
        head = list(islice(targets, COUNTABLE))
        if len(head) < COUNTABLE:
            return iter(head), None, len(head)
        return chain(head, targets), None, None

    def processes(self, total: int | None) -> int:
        """How many processes read `total` targets (None: not known); 0 for this one alone."""
        if self.workers is not None:
            return self.workers
        if self.from_stdin or (total is not None and total < FEW_FILES):
            return 0
        return max(1, min(4, (os.cpu_count() or 2) - 1))


@dataclass
class Item:
    """One spectrum on its way to a row.

    Parameters
    ----------
    file : str
        Where it came from.
    row : int
        Its number in the file.
    meta : dict
        `Spectrum.meta`.
    sn_median : float
        Median S/N per pixel.
    spectrum : Spectrum or None
        In its own sampling, where no grid was given; None if it could not be read.
    prepared : Prepared or None
        On the grid, where one was given; None if it could not be read.
    problem : str
        Why there is neither; empty otherwise.
    catalogue_row : int or None
        Row of the catalogue that asked for it.
    skipped : bool
        A file in a searched folder that holds no spectrum; it gets no row.
    target : int
        Number of its target among all, from 0.
    place : int
        Its number among the spectra of its target, from 0.
    of_many : bool
        The file has other spectra too.
    left_out : str
        What else the file holds that is not read; with its first spectrum only.
    """

    file: str
    row: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    sn_median: float = float("nan")
    spectrum: Spectrum | None = None
    prepared: Prepared | None = None
    problem: str = ""
    catalogue_row: int | None = None
    skipped: bool = False
    target: int = 0
    place: int = 0
    of_many: bool = False
    left_out: str = ""

    @property
    def begins(self) -> bool:
        """Whether it is the first of its target, so that targets can be counted."""
        return self.place == 0

    @property
    def label(self) -> str:
        """The file, with the number of the spectrum where the file has several."""
        return f"{self.file}[{self.row}]" if self.of_many else self.file

    @property
    def complaint(self) -> str:
        """What is wrong, in one line that names the file."""
        return self.problem if self.file in self.problem else f"{self.label}: {self.problem}"


def load_all(
    targets: Iterable[Target], options: ReadOptions, *, grid: Grid | None = None, workers: int = 0
) -> Iterator[Item]:
    """Read spectra, in the order of the targets.

    A file that consecutive targets name, each for another of its spectra, is opened once.

    Parameters
    ----------
    targets : iterable of Target
        What to read; consumed as the work goes on.
    options : ReadOptions
        What the files do not say themselves.
    grid : Grid, optional
        Bring the spectra onto this grid; without it they keep their own sampling.
    workers : int
        Processes that read; 0 reads in this one.

    Yields
    ------
    Item
        What cannot be read has its reason in ``problem``.
    """
    with _loader(workers, grid, options) as submit:
        window = max(1, 4 * workers)
        first_pieces = ((unit, 0) for unit in _units(targets))
        for (unit, _), (items, count) in _in_order(first_pieces, submit, window):
            later = ((unit, start) for start in range(PIECE, count, PIECE))
            pieces = (more for _, (more, _) in _in_order(later, submit, window))
            for place, item in enumerate(chain(items, chain.from_iterable(pieces))):
                if len(unit) == 1:
                    item.target, item.place = unit[0][0], place
                else:
                    item.target = unit[place][0]
                if item.left_out:
                    console.warn(f"{item.file}: {item.left_out} left out")
                yield item


# Numbered targets that are read together: one file, or several spectra of one file.
Unit = list[tuple[int, Target]]


def _units(targets: Iterable[Target]) -> Iterator[Unit]:
    waiting: Unit = []
    for number, target in enumerate(targets):
        alone = (target.row is None and not target.shares_file) or bool(target.problem)
        if waiting and (alone or waiting[0][1].path != target.path or len(waiting) == PIECE):
            yield waiting
            waiting = []
        if alone:
            yield [(number, target)]
        else:
            waiting.append((number, target))
    if waiting:
        yield waiting


def _load(
    unit: Unit, start: int, grid: Grid | None, options: ReadOptions
) -> tuple[list[Item], int]:
    """Read a file, from spectrum `start` on and at most `PIECE`, or the spectra named of it.

    Returns
    -------
    items : list of Item
        What cannot be read has its reason in ``problem``.
    count : int
        How many spectra the unit has in all.
    """
    first = unit[0][1]
    file = str(first.path)
    if first.problem:
        return [Item(file, problem=first.problem, catalogue_row=first.catalogue_row)], 1
    try:
        with open_spectra(first.path, options) as spectra:
            count = len(spectra)
            if not count:
                raise ReadError(f"{file} has no spectrum in it")
            alone = first.row is None and not first.shares_file
            every = alone and own_row(first, count, options) is None
            if every:
                rows = range(count)[start : start + PIECE]
                asking = [first] * len(rows)
                items = [_read_row(spectra, row, file, grid) for row in rows]
            else:
                asking = [target for _, target in unit]
                items = [_read_own(spectra, target, options, grid) for target in asking]
            for item, target in zip(items, asking, strict=True):
                item.catalogue_row = target.catalogue_row
                item.of_many = count > 1 or target.row is not None
                _compare(item, target)
            return items, count if every else len(items)
    except ReadError as error:
        return [
            Item(
                file, target.row or 0, problem=_line(error), catalogue_row=target.catalogue_row,
                skipped=target.found_in_folder and isinstance(error, NotASpectrum),
                of_many=target.row is not None,
            )
            for _, target in unit
        ], len(unit)  # fmt: skip


def _read_own(spectra: Spectra, target: Target, options: ReadOptions, grid: Grid | None) -> Item:
    """The one spectrum of a file that a target is."""
    try:
        row = own_row(target, len(spectra), options) if target.row is None else target.row
    except ReadError as error:
        return Item(str(target.path), problem=_line(error))
    return _read_row(spectra, row or 0, str(target.path), grid)


def own_row(target: Target, count: int, options: ReadOptions) -> int | None:
    """Which spectrum of a file a target is, by the identifiers that the catalogue gives.

    Parameters
    ----------
    target : Target
        Of no row.
    count : int
        How many spectra the file has.
    options : ReadOptions

    Returns
    -------
    int or None
        None for all of them: there is one only, or nothing says which.

    Raises
    ------
    ReadError
        If it is not in the file, or cannot be told from others that the catalogue names.
    """
    if count < 2 or not target.identity:
        return None
    changed = target.path.stat().st_mtime_ns
    try:
        row = identity.row_of(target.identity, _told(target.path, changed, options), target.path)
    except LookupError as error:
        raise ReadError(str(error.args[0])) from error
    if row is None and target.shares_file:
        raise ReadError(
            f"{target.path} holds {count} spectra, and none says which row of the catalogue it is",
            "give the catalogue a column row",
        )
    return row


@lru_cache(maxsize=8)
def _told(path: Path, changed: int, options: ReadOptions) -> list[dict[str, Any]]:
    """What each spectrum of a file says of itself; nothing of one that cannot be read."""
    found = []
    with open_spectra(path, options) as spectra:
        for row in range(len(spectra)):
            try:
                meta = spectra.get(row).meta
            except ReadError:
                meta = {}
            found.append(identity.told(meta, f"{path}[{row}]"))
    return found


def _compare(item: Item, target: Target) -> None:
    """Take the spectrum from an item that is another than the catalogue asks for."""
    problem = identity.contradiction(target.identity, item.meta, item.label)
    if problem:
        item.problem, item.spectrum, item.prepared = problem, None, None
        item.meta, item.sn_median = {}, float("nan")


def _read_row(spectra: Spectra, row: int, file: str, grid: Grid | None) -> Item:
    if not 0 <= row < len(spectra):
        problem = f"{file} has {len(spectra)} spectra, numbered from 0: there is no {row}"
        return Item(file, row, problem=problem)
    try:
        item = item_of(spectra.get(row), file, row, grid)
    except ReadError as error:  # leaves the other spectra of its file untouched
        item = Item(file, row, problem=_line(error))
    item.left_out = spectra.left_out if row == 0 else ""
    return item


def item_of(spectrum: Spectrum, file: str, row: int, grid: Grid | None) -> Item:
    """An item of a spectrum, brought onto the grid if there is one.

    A spectrum that cannot be brought onto it has the reason in ``problem``.
    """
    item = Item(file, row, spectrum.meta, spectrum.sn_median)
    if grid is None:
        item.spectrum = spectrum
        return item
    try:
        item.prepared = prepare(spectrum, grid)
        item.sn_median = item.prepared.sn_median
    except ReadError as error:
        item.problem = _line(error)
    except (ValueError, ArithmeticError, IndexError) as error:  # must not end the run
        item.problem = f"it could not be brought onto the grid ({type(error).__name__}: {error})"
    return item


def _line(error: Exception) -> str:
    """The message with its hint, in one line."""
    hint = getattr(error, "hint", "")
    text = f"{error}: {hint}" if hint else str(error) or type(error).__name__
    return " ".join(text.split())


Submit = Callable[[Unit, int], Callable[[], tuple[list[Item], int]]]


@contextmanager
def _loader(workers: int, grid: Grid | None, options: ReadOptions) -> Iterator[Submit]:
    """Give `submit(unit, start)`, which returns a function that waits for the result."""
    if workers == 0:
        yield lambda unit, start: lambda: _load(unit, start, grid, options)
        return
    import multiprocessing
    import signal
    from concurrent.futures import ProcessPoolExecutor

    # Fresh processes: forking one in which torch runs threads may hang.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield lambda unit, start: pool.submit(_load, unit, start, grid, options).result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


Piece = tuple[Unit, int]


def _in_order(
    pieces: Iterable[Piece], submit: Submit, window: int
) -> Iterator[tuple[Piece, tuple[list[Item], int]]]:
    waiting: deque[tuple[Piece, Callable[[], tuple[list[Item], int]]]] = deque()
    for piece in pieces:
        waiting.append((piece, submit(*piece)))
        if len(waiting) >= window:
            done, result = waiting.popleft()
            yield done, result()
    while waiting:
        done, result = waiting.popleft()
        yield done, result()
