"""From the command line to spectra: read in order, by several processes if there are many.

Memory does not grow with the number of files, nor with the number of spectra in one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from spectromer_cli import console
from spectromer_cli.errors import NotASpectrum, ReadError, SpectromerError, UsageError
from spectromer_cli.spectra import catalogues, identity, sources
from spectromer_cli.spectra.grid import Grid, Prepared, prepare
from spectromer_cli.spectra.objects import are_names, spectra_of
from spectromer_cli.spectra.readers import ReadOptions, Spectra, open_spectra
from spectromer_cli.spectra.readers.base import FILE_TIMEOUT, MAX_FILE_SIZE
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    from spectromer_cli.spectra.catalogues import Catalogue

# At most so many spectra are read at a time, so that memory stays bounded; the first piece of a
# file, which tells how many there are, is smaller where other processes wait for the rest.
PIECE, FIRST_PIECE = 256, 32
# Pieces for each process, so that none works on the last one for long.
PIECES = 4
# For fewer files, and bytes, further processes take longer to start than they save.
FEW_FILES, FEW_BYTES = 200, 50_000_000
# Processes that only read: work that comes after takes this many cores for each of them.
CORES_PER_READER = 4
MOST_READERS, MOST_PREDICTORS = 4, 16
# Bytes for each process that predicts; it needs six tenths of that.
PREDICTOR_BYTES = 1_000_000_000
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
        As `catalogues.Catalogue` takes it, instead of `files`.
    spectra_dir : path, optional
        Where the spectra of the catalogue lie.
    air : bool, optional
    wavelength_unit : str
    max_file_size : int or str
    file_timeout : float
        See `ReadOptions`.
    workers : int, optional
        Processes that read, and without a GPU predict; None chooses by the number of files.
    spectra : object, optional
        Spectra that are here already, instead of `files`, as `objects.spectra_of` takes them.

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
    max_file_size: int | str = MAX_FILE_SIZE
    file_timeout: float = FILE_TIMEOUT
    workers: int | None = None
    spectra: Any = None
    _names: list[str] = field(init=False, repr=False)
    _made: list[Spectrum | ReadError] = field(init=False, repr=False)

    @classmethod
    def of(cls, given: Any) -> Inputs:
        """What Python users hand over: inputs, names of files, or spectra, one or many."""
        if isinstance(given, Inputs):
            return given
        # Names may come from a generator as well as from a list; an iterator gives them once.
        given = list(given) if isinstance(given, Iterator) else given
        return cls(files=given) if are_names(given) else cls(spectra=given)

    def __post_init__(self) -> None:
        from spectromer_cli.spectra.quantities import is_unit

        # From Python, names are strings as often as paths, and one may come alone.
        files = [self.files] if isinstance(self.files, str | Path) else self.files or ()
        object.__setattr__(self, "_names", [str(file) for file in files])
        for name in ("catalog", "spectra_dir"):
            if getattr(self, name):
                object.__setattr__(self, name, Path(getattr(self, name)))
        made = [] if self.spectra is None else spectra_of(self.spectra, air=self.air)
        object.__setattr__(self, "_made", made)
        if self._names and self.catalog:
            raise UsageError("FILES and --catalog exclude each other", "give one of them")
        if made and (self._names or self.catalog):
            raise UsageError("spectra and files exclude each other", "give one of them")
        if not self._names and not self.catalog and not made:
            raise UsageError("no input given", "give files, a folder, - or --catalog TABLE")
        if self.spectra_dir and not self.catalog:
            raise UsageError("--spectra-dir needs --catalog", "give the folder as an input instead")
        if self.wavelength_unit and not is_unit(self.wavelength_unit):
            raise UsageError(
                f"--wavelength-unit {self.wavelength_unit} is not a unit of wavelength",
                "use Angstrom, nm or um",
            )
        _ = self.options  # refuses limits that are none

    @property
    def options(self) -> ReadOptions:
        """What the files do not say themselves, and how much they may ask for."""
        return ReadOptions(self.air, self.wavelength_unit, self.max_file_size, self.file_timeout)

    @property
    def from_stdin(self) -> bool:
        """Whether names come from stdin, one by one: whoever writes them may wait for results."""
        return "-" in self._names

    def targets(self) -> tuple[Iterator[Target], Catalogue | None, int | None]:
        """What to read, in order.

        Returns
        -------
        targets : iterator of Target
        catalogue : Catalogue or None
            The catalogue, if there is one; the targets know their rows in it.
        total : int or None
            How many targets, where that can be told soon.
        """
        if self.catalog is not None:
            catalogue = catalogues.Catalogue(self.catalog, self.spectra_dir, options=self.options)
            return catalogue.targets(), catalogue, len(catalogue)
        if self._made:
            return made_targets(self._made), None, len(self._made)
        targets = sources.expand(self._names)
        if self.from_stdin:
            return targets, None, None
        head = list(islice(targets, COUNTABLE))
        if len(head) < COUNTABLE:
            return iter(head), None, len(head)
        return chain(head, targets), None, None

    def processes(self, total: int | None, most: int, size: int = 0) -> int:
        """How many further processes share the work.

        Parameters
        ----------
        total : int or None
            How many targets; None if that is not known.
        most : int
            `readers` or `predictors`.
        size : int
            Bytes that the targets are, where few of them may be large.

        Returns
        -------
        int
            0 for this process alone.
        """
        if self.workers is not None:
            return self.workers
        if self.from_stdin or self._made:  # whoever writes names may wait for results
            return 0
        are_few = total is not None and total < FEW_FILES and size < FEW_BYTES
        return 0 if are_few else most


def readers(on_gpu: bool = False) -> int:
    """How many processes at most read, for work in this one, which on a GPU needs no cores."""
    return min(MOST_READERS, cores() - 1 if on_gpu else cores() // CORES_PER_READER)


def predictors() -> int:
    """How many processes at most read and predict, on a CPU."""
    return max(1, min(MOST_PREDICTORS, cores(), memory() // PREDICTOR_BYTES))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """How many bytes this process and those that it starts may use; many if nothing says so."""
    limits = [sys.maxsize]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    groups = {Path()}
    with suppress(OSError, IndexError):  # of Linux: of a container, or a batch job
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            own = Path(line.split(":", 2)[2].strip("/"))
            groups |= {own, *own.parents}
    for group in groups:
        for name in (group / "memory.max", "memory" / group / "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(limits)


def size_of(targets: Iterable[Target]) -> int:
    """Bytes of the files of some targets."""
    total = 0
    for path in {target.path for target in targets if target.spectrum is None}:
        with suppress(OSError, ValueError):
            total += path.stat().st_size
    return total


def made_targets(spectra: Iterable[Spectrum | ReadError]) -> Iterator[Target]:
    """Targets of spectra that are here already, as `objects.spectra_of` gives them."""
    return (Target(Path(), spectrum=spectrum) for spectrum in spectra)


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
    predicted : tuple of (Predictions, int) or None
        Where it is predicted by the process that reads it: what is predicted for its batch, and
        its place there.
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
    predicted: Any = None

    @property
    def begins(self) -> bool:
        """Whether it is the first of its target, so that targets can be counted."""
        return self.place == 0

    @property
    def label(self) -> str:
        """The file, with the number of the spectrum where the file has several."""
        if not self.file:
            return f"spectrum {self.row}"
        return f"{self.file}[{self.row}]" if self.of_many else self.file

    @property
    def complaint(self) -> str:
        """What is wrong, in one line that names the file."""
        named = self.file and self.file in self.problem
        return self.problem if named else f"{self.label}: {self.problem}"


def load_all(
    targets: Iterable[Target],
    options: ReadOptions,
    *,
    grid: Grid | None = None,
    workers: int = 0,
    total: int | None = None,
    then: Then | None = None,
    warn: Callable[[str], None] = console.warn,
) -> Iterator[Item]:
    """Read spectra, in the order of the targets.

    A file that consecutive targets name, each for another of its spectra, is opened once.

    Parameters
    ----------
    targets : iterable of Target
        What to read; consumed as the work goes on.
    options : ReadOptions
        What the files do not say themselves, and how much they may ask for.
    grid : Grid, optional
        Bring the spectra onto this grid; without it they keep their own sampling.
    workers : int
        Processes that read; 0 reads in this one.
    total : int, optional
        How many targets there are, if that is known.
    then : callable, optional
        What these processes do with the items that they have read, in place, a list at a time.
    warn : callable
        Is told what of a file is left out.

    Yields
    ------
    Item
        What cannot be read has its reason in ``problem``.
    """
    with _loader(workers, grid, options, then) as submit:
        window = max(1, PIECES * workers)
        first = FIRST_PIECE if workers else PIECE
        at_once = _share(total, workers, 1) if workers and total else PIECE if then else 1
        first_pieces = (Piece(unit, 0, first) for unit in _units(targets))
        for (unit, *_), (items, count) in _in_order(first_pieces, submit, window, at_once):
            size = _share(count, workers, FIRST_PIECE) if workers else PIECE
            later = (Piece(unit, start, size, count) for start in range(first, count, size))
            pieces = (more for _, (more, _) in _in_order(later, submit, window))
            for place, item in enumerate(chain(items, chain.from_iterable(pieces))):
                if len(unit) == 1:
                    item.target, item.place = unit[0][0], place
                else:
                    item.target = unit[place][0]
                if item.left_out:
                    warn(f"{item.file}: skipped {item.left_out}")
                yield item


# Of a list of items, in place.
Then = Callable[[list["Item"]], None]
# Numbered targets that are read together: one file, or several spectra of one file.
Unit = list[tuple[int, Target]]


class Piece(NamedTuple):
    """What is read at a time: a unit, or of a file with many spectra those from `start` on.

    Parameters
    ----------
    unit : list of (int, Target)
    start, size : int
    total : int or None
        How many spectra the file has, once that is known.
    """

    unit: Unit
    start: int
    size: int
    total: int | None = None


Result = tuple[list[Item], int]


def _share(count: int, workers: int, least: int) -> int:
    """Into pieces of how many spectra, or files, so many are cut."""
    return max(least, min(PIECE, -(-count // (PIECES * workers))))


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


def _load(piece: Piece, grid: Grid | None, options: ReadOptions) -> Result:
    """Read a piece.

    Returns
    -------
    items : list of Item
        What cannot be read has its reason in ``problem``.
    count : int
        How many spectra the unit has in all.
    """
    unit, start, size, _ = piece
    number, first = unit[0]
    file = first.file
    if isinstance(first.spectrum, ReadError):
        return [Item(file, number, problem=_line(first.spectrum))], 1
    if first.spectrum is not None:
        return [item_of(first.spectrum, file, number, grid)], 1
    if first.problem:
        return [Item(file, problem=first.problem, catalogue_row=first.catalogue_row)], 1
    items: list[Item] = []
    try:
        with open_spectra(first.path, options) as spectra:
            count = len(spectra)
            if not count:
                raise ReadError(f"{file} contains no spectrum")
            alone = first.row is None and not first.shares_file
            every = alone and own_row(first, count, options) is None
            if every:
                piece = piece._replace(total=count)
                asking = [replace(first, row=row) for row in range(count)[start : start + size]]
            else:
                asking = [target for _, target in unit]
            for target in asking:
                item = _read_own(spectra, target, options, grid)
                item.catalogue_row = target.catalogue_row
                item.of_many = count > 1 or (target.row is not None and not every)
                _compare(item, target)
                items.append(item)
            return items, count if every else len(items)
    except ReadError as error:
        return _refused(piece, error, items)
    except MemoryError:
        return _refused(piece, ReadError(f"{file} needs more memory than is available"), items)
    except Exception as error:  # whatever a library raises, it must not end the run
        reason = f"{file} cannot be read ({type(error).__name__}: {error})"
        return _refused(piece, ReadError(reason), items)


def _refused(piece: Piece, error: ReadError, read: Sequence[Item] = ()) -> Result:
    """The spectra of a piece that were read before an error, and the reason for all others."""
    unit, start, size, total = piece
    skipped = isinstance(error, NotASpectrum)
    if total is not None:
        rows = [(unit[0][1], row) for row in range(start, min(start + size, total))]
    else:
        rows = [(target, target.row or 0) for _, target in unit]
    return [
        *read,
        *(
            Item(
                str(target.path), row, problem=_line(error), catalogue_row=target.catalogue_row,
                skipped=target.found_in_folder and skipped,
                of_many=target.row is not None or (total or 1) > 1,
            )
            for target, row in rows[len(read) :]
        ),
    ], len(rows) if total is None else total  # fmt: skip


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
            f"{target.path} contains {count} spectra, and none of them states which row of the "
            f"catalogue it belongs to",
            "add a column row to the catalogue",
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
        problem = f"{file} has {len(spectra)} spectra, numbered from 0, but no number {row}"
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
    item = Item(file, row, spectrum.meta)
    if grid is None:
        item.spectrum, item.sn_median = spectrum, spectrum.sn_median
        return item
    try:
        item.prepared = prepare(spectrum, grid)
        item.sn_median = item.prepared.sn_median
        return item
    except ReadError as error:
        item.problem = _line(error)
    except (ValueError, ArithmeticError, IndexError, MemoryError) as error:  # must not end the run
        item.problem = f"resampling to the model's grid failed ({type(error).__name__}: {error})"
    item.sn_median = spectrum.sn_median
    return item


def _line(error: Exception) -> str:
    """The message with its hint, in one line."""
    hint = getattr(error, "hint", "")
    text = f"{error}: {hint}" if hint else str(error) or type(error).__name__
    return " ".join(text.split())


# Has pieces read together; gives what waits for their results.
Submit = Callable[[Sequence[Piece]], Callable[[], list[Result]]]


@contextmanager
def _loader(
    workers: int, grid: Grid | None, options: ReadOptions, then: Then | None
) -> Iterator[Submit]:
    if workers == 0:
        assert then is None
        yield lambda pieces: lambda: [_load(piece, grid, options) for piece in pieces]
        return
    processes = _Processes(workers, _Task(grid, options, then))
    try:
        yield processes.submit
    finally:
        processes.stop()


@dataclass(frozen=True)
class _Task:
    """What processes do with pieces.

    Parameters
    ----------
    grid : Grid or None
    options : ReadOptions
    then : callable or None
        See `load_all`.
    """

    grid: Grid | None
    options: ReadOptions
    then: Then | None

    def __call__(self, pieces: Sequence[Piece]) -> list[Result]:
        """The pieces' items, and how many spectra each unit has."""
        results: list[Result] = []
        waiting: list[Item] = []
        for piece in pieces:
            results.append(self._load(piece))
            waiting += results[-1][0]
            if self.then is not None and len(waiting) >= PIECE:
                self.then(waiting)
                waiting = []
        if self.then is not None:
            self.then(waiting)
        return results

    def _load(self, piece: Piece) -> Result:
        """`_load`; what never comes back from compiled code ends its process."""
        import faulthandler

        seconds = self.options.file_timeout
        if not seconds:
            return _load(piece, self.grid, self.options)
        with Path(os.devnull).open("w") as nowhere:
            faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=nowhere)
            try:
                return _load(piece, self.grid, self.options)
            finally:
                faulthandler.cancel_dump_traceback_later()


class _Processes:
    """Processes that read. One that dies costs no more than the file that it died of.

    Parameters
    ----------
    number : int
    task : _Task
    """

    def __init__(self, number: int, task: _Task) -> None:
        self._number, self._task = number, task
        self._pool = _started(number)
        self._alone: ProcessPoolExecutor | None = None
        for _ in range(number):  # all begin at once, with what they need for any piece
            _submitted(self._pool, task, [])

    def submit(self, pieces: Sequence[Piece]) -> Callable[[], list[Result]]:
        """Have pieces read; gives what waits for their results."""
        try:
            future = _submitted(self._pool, self._task, pieces)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = _started(self._number)
            future = _submitted(self._pool, self._task, pieces)

        def results() -> list[Result]:
            try:
                return future.result()
            except BrokenProcessPool:  # all that was waiting, whoever it was
                return [self._alone_with(piece) for piece in pieces]

        return results

    def _alone_with(self, piece: Piece) -> Result:
        """Read a piece that one process after the other may die of."""
        try:
            if self._alone is None:
                self._alone = _started(1)
                _submitted(self._alone, os.getpid).result()
        except BrokenProcessPool as error:
            raise SpectromerError(
                "no further process can be started", "read without extra processes: --workers 0"
            ) from error
        try:
            (result,) = _submitted(self._alone, self._task, [piece]).result()
            return result
        except BrokenProcessPool:
            self._alone.shutdown(wait=False)
            self._alone = None
            file, seconds = piece.unit[0][1].path, self._task.options.file_timeout
            late = f", or did not respond within {seconds:g} s" if seconds else ""
            return _refused(piece, ReadError(f"{file}: the process reading it died{late}"))

    def stop(self) -> None:
        """End the processes at once: what they may still be doing, nobody waits for."""
        for pool in (self._pool, self._alone):
            if pool is not None:
                # As `terminate_workers` does, of Python 3.14 on.
                processes = list((pool._processes or {}).values())
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.terminate()


def _started(number: int) -> ProcessPoolExecutor:
    import multiprocessing

    # Fresh processes: forking one in which torch runs threads may hang.
    return ProcessPoolExecutor(
        number, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_process
    )


def _submitted(pool: ProcessPoolExecutor, work: Callable[..., Any], *given: Any) -> Future[Any]:
    """What a pool is given to do; it starts its processes for that.

    They need nothing of the user's script, which may not be made to be imported.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        return pool.submit(work, *given)
    finally:
        sys.modules["__main__"] = script


def _begin_process() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


# Seconds after which a process that stays in compiled code is ended, beyond the file's time.
GRACE = 15.0


def _in_order(
    pieces: Iterable[Piece], submit: Submit, window: int, at_once: int = 1
) -> Iterator[tuple[Piece, Result]]:
    """The pieces with their results, so many of which are submitted together."""
    waiting: deque[tuple[list[Piece], Callable[[], list[Result]]]] = deque()
    pieces = iter(pieces)
    while together := list(islice(pieces, at_once)):
        waiting.append((together, submit(together)))
        if len(waiting) >= window:
            done, results = waiting.popleft()
            yield from zip(done, results(), strict=True)
    while waiting:
        done, results = waiting.popleft()
        yield from zip(done, results(), strict=True)
