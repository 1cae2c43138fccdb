"""From targets to prepared spectra: read in order, in worker processes if there are many.

Memory does not grow with the number of files, nor with the number of spectra in one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra.grid import Grid, Prepared, prepare
from spectromer_cli.spectra.readers import ReadOptions, open_spectra
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum

# A file of many spectra is read in pieces of this many, so that memory stays bounded.
PIECE = 256


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
        Median S/N a pixel.
    prepared : Prepared or None
        None if it could not be read.
    problem : str
        Why not.
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
    """

    file: str
    row: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    sn_median: float = float("nan")
    prepared: Prepared | None = None
    problem: str = ""
    catalogue_row: int | None = None
    skipped: bool = False
    target: int = 0
    place: int = 0
    of_many: bool = False

    @property
    def begins(self) -> bool:
        """Whether it is the first of its target, so that targets can be counted."""
        return self.place == 0

    @property
    def complaint(self) -> str:
        """What is wrong, in one line that names the file."""
        if self.file in self.problem:
            return self.problem
        where = f"{self.file}[{self.row}]" if self.of_many else self.file
        return f"{where}: {self.problem}"


def load_all(
    targets: Iterable[Target], grid: Grid, options: ReadOptions, workers: int = 0
) -> Iterator[Item]:
    """Read and prepare spectra, in the order of the targets.

    Parameters
    ----------
    targets : iterable of Target
        What to read; consumed as the work goes on.
    grid : Grid
        The model's.
    options : ReadOptions
        What the files do not say themselves.
    workers : int
        Processes that read; 0 reads in this one.

    Yields
    ------
    Item
        What cannot be read has its reason in ``problem``.
    """
    with _loader(workers, grid, options) as submit:
        window = max(1, 4 * workers)
        first_pieces = ((target, 0) for target in targets)
        read = _in_order(first_pieces, submit, window)
        for number, ((target, _), (items, count)) in enumerate(read):
            later = ((target, start) for start in range(PIECE, count, PIECE))
            pieces = (more for _, (more, _) in _in_order(later, submit, window))
            for place, item in enumerate(chain(items, chain.from_iterable(pieces))):
                item.target, item.place = number, place
                yield item


def load(target: Target, start: int, grid: Grid, options: ReadOptions) -> tuple[list[Item], int]:
    """Read and prepare the spectra of one target.

    Parameters
    ----------
    target : Target
        A file, or one spectrum in it.
    start : int
        First spectrum wanted; at most `PIECE` are read.
    grid : Grid
        The model's.
    options : ReadOptions

    Returns
    -------
    items : list of Item
        What cannot be read has its reason in ``problem``.
    count : int
        How many spectra the target has in all.
    """
    file = str(target.path)
    if target.problem:
        return [Item(file, problem=target.problem, catalogue_row=target.catalogue_row)], 1
    try:
        with open_spectra(target.path, options) as spectra:
            if target.row is None:
                rows = range(len(spectra))[start : start + PIECE]
                count = len(spectra)
            elif 0 <= target.row < len(spectra):
                rows, count = range(target.row, target.row + 1), 1
            else:
                raise ReadError(
                    f"{file} has {len(spectra)} spectra, numbered from 0: there is no {target.row}"
                )
            if not count:
                raise ReadError(f"{file} has no spectrum in it")
            items = [_read_row(spectra.get, row, file, grid) for row in rows]
    except ReadError as error:
        skipped = target.found_in_folder and isinstance(error, NotASpectrum)
        items, count = [Item(file, target.row or 0, problem=_line(error), skipped=skipped)], 1
    for item in items:
        item.catalogue_row = target.catalogue_row
        item.of_many = count > 1 or target.row is not None
    return items, count


def _read_row(get: Callable[[int], Spectrum], row: int, file: str, grid: Grid) -> Item:
    try:
        return item_of(get(row), file, row, grid)
    except ReadError as error:  # leaves the other spectra of its file untouched
        return Item(file, row, problem=_line(error))


def item_of(spectrum: Spectrum, file: str, row: int, grid: Grid) -> Item:
    """Prepare a spectrum; one that cannot be drawn gets its reason in ``problem``."""
    item = Item(file, row, spectrum.meta, spectrum.sn_median)
    try:
        item.prepared = prepare(spectrum, grid)
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


Submit = Callable[[Target, int], Callable[[], tuple[list[Item], int]]]


@contextmanager
def _loader(workers: int, grid: Grid, options: ReadOptions) -> Iterator[Submit]:
    """Give `submit(target, start)`, which returns a function that waits for the result."""
    if workers == 0:
        yield lambda target, start: lambda: load(target, start, grid, options)
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
        yield lambda target, start: pool.submit(load, target, start, grid, options).result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


Piece = tuple[Target, int]


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
