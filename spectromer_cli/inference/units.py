"""Units of work: so many spectra as one worker of a cluster predicts at a time, into one part."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from spectromer_cli._version import __version__
from spectromer_cli.errors import SpectromerError
from spectromer_cli.spectra.sources import Target

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.layout import Layout
    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.inference.request import Settings
    from spectromer_cli.spectra.catalogues import Catalogue
    from spectromer_cli.spectra.loading import Item
    from spectromer_cli.spectra.readers import ReadOptions

# Spectra per unit: some seconds to a minute of work, beside which handing it out is nothing; whole
# batches.
UNIT = 2048
# Larger files may hold many spectra and are counted before they are shared out; of Parquet, every
# file is, since its end says how many there are.
LARGE_FILE = 8_000_000
# So many bad inputs of a unit are sent back by name.
COMPLAINTS = 20


@dataclass(frozen=True)
class Slice:
    """A target, or some spectra of its file.

    Parameters
    ----------
    target : Target
    start : int
        The first spectrum.
    stop : int or None
        Where they end; None for the whole target.
    """

    target: Target
    start: int = 0
    stop: int | None = None

    def targets(self) -> Iterator[Target]:
        """What is to be read."""
        if self.stop is None:
            yield self.target
        else:
            yield from (replace(self.target, row=row) for row in range(self.start, self.stop))


@dataclass(frozen=True)
class Unit:
    """What a worker predicts at a time.

    Parameters
    ----------
    number : int
        Among all units, from 0.
    slices : tuple of Slice
        Each target's ``catalogue_row`` is that of `catalogue`.
    size : int
        How many spectra they are, as far as can be told.
    content : str
        A hash of what is read; another unit has another.
    catalogue : Table or None
        The rows of the catalogue that ask for them.
    """

    number: int
    slices: tuple[Slice, ...]
    size: int
    content: str
    catalogue: Table | None = None

    @property
    def part(self) -> str:
        """The name of its part of the result; names are in the order of the input."""
        return f"part-{self.number:06d}.parquet"

    @property
    def label(self) -> str:
        """What it is, for messages."""
        first, last = (str(slice_.target.path) for slice_ in (self.slices[0], self.slices[-1]))
        return f"{self.part} ({first}" + (f" to {last})" if last != first else ")")


def units_of(
    targets: Iterable[Target], catalogue: Catalogue | None, options: ReadOptions, size: int = UNIT
) -> Iterator[Unit]:
    """Share targets out into units, in their order; files of many spectra are cut.

    Parameters
    ----------
    targets : iterable of Target
        Consumed as units are taken.
    catalogue : Catalogue or None
        That the targets are of.
    options : ReadOptions
    size : int
        Spectra per unit.

    Yields
    ------
    Unit
    """
    number, total = 0, 0
    waiting: list[Slice] = []
    for slice_, count in _slices(targets, options, size):
        if waiting and total + count > size:
            yield _unit(number, waiting, total, catalogue)
            number, waiting, total = number + 1, [], 0
        last = waiting[-1] if waiting else None
        if last and last.target is slice_.target and last.stop == slice_.start:
            waiting[-1] = replace(last, stop=slice_.stop)
        else:
            waiting.append(slice_)
        total += count
    if waiting:
        yield _unit(number, waiting, total, catalogue)


def _unit(number: int, slices: list[Slice], size: int, catalogue: Catalogue | None) -> Unit:
    said = hashlib.sha256()
    for slice_ in slices:
        target = slice_.target
        what = (str(target.path), target.row, target.catalogue_row, slice_.start, slice_.stop)
        said.update(repr(what).encode("utf-8", "surrogateescape"))
    own = None
    if catalogue is not None:
        own = catalogue.rows([slice_.target.catalogue_row or 0 for slice_ in slices])
        slices = [
            replace(slice_, target=replace(slice_.target, catalogue_row=row))
            for row, slice_ in enumerate(slices)
        ]
    return Unit(number, tuple(slices), size, said.hexdigest()[:16], own)


def _slices(
    targets: Iterable[Target], options: ReadOptions, size: int
) -> Iterator[tuple[Slice, int]]:
    """The targets, those of many spectra cut, and how many spectra each holds."""
    for target in targets:
        groups = [] if target.catalogue_row is not None else _groups(target, options)
        if sum(groups) <= size:
            yield Slice(target), max(1, sum(groups))
            continue
        start = 0
        for group in groups:
            pieces = -(-group // size)
            for piece in range(pieces):
                stop = start + (group * (piece + 1)) // pieces - (group * piece) // pieces
                yield Slice(target, start, stop), stop - start
                start = stop


def _groups(target: Target, options: ReadOptions) -> list[int]:
    """How many spectra a file holds, by parts that are best read whole; empty: few, or unknown."""
    from spectromer_cli.spectra.readers import open_spectra, parquet_tables
    from spectromer_cli.spectra.readers.base import opened

    if target.row is not None or target.problem:
        return []
    try:
        with target.path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            with opened(target.path, options) as source:
                return parquet_tables.row_groups(source)
        if target.path.stat().st_size >= LARGE_FILE:
            with open_spectra(target.path, options) as spectra:
                return [len(spectra)]
    except Exception:  # whoever reads it says what is wrong
        pass
    return []


# --- on a worker ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is the same for all units of a run; small, since every task carries it.

    Parameters
    ----------
    settings : Settings
        Of the run; the model is named.
    layout : Layout
        Of its tables.
    sha256 : str
        Of the weights.
    options : ReadOptions
    folder : str
        What relative paths begin from.
    version : str
        Of the program.
    """

    settings: Settings
    layout: Layout
    sha256: str
    options: ReadOptions
    folder: str
    version: str = __version__

    @property
    def model(self) -> str | None:
        """The name of the weights."""
        name = self.settings.model
        assert name is None or isinstance(name, str)
        return name


@dataclass(frozen=True)
class Done:
    """A unit that was predicted.

    Parameters
    ----------
    data : bytes
        Its part, a Parquet file.
    rows, failed, skipped : int
        Rows, those without a prediction, and files of a searched folder that hold no spectrum.
    complaints : list of str
        What is wrong with the first `COMPLAINTS` inputs that have no prediction.
    left_out : list of str
        What of the first `COMPLAINTS` files that hold more was not read.
    """

    data: bytes
    rows: int
    failed: int
    skipped: int
    complaints: list[str]
    left_out: list[str]


class OtherVersion(SpectromerError):
    """A worker has another program or other weights."""


@dataclass(frozen=True)
class Answer:
    """What a worker says of itself.

    Parameters
    ----------
    differs : str
        How its program or weights differ from those of a run; empty if they do not.
    device : str
        Where it would predict.
    """

    differs: str = ""
    device: str = ""


def answer(work: Work) -> Answer:
    """Whether this process has the program, the weights and the device of a run."""
    from spectromer_cli.model.device import choose_device
    from spectromer_cli.weights.store import resolve

    if work.version != __version__:
        return Answer(f"it has spectromer {__version__}, not {work.version}")
    try:
        weights = resolve(work.model)
    except SpectromerError as error:
        return Answer(f"it does not have the weights: {error}")
    if weights.sha256 != work.sha256:
        return Answer(
            f"its weights {weights.name} have the sha256 {weights.sha256[:12]}…, not "
            f"{work.sha256[:12]}…"
        )
    try:
        return Answer(device=str(choose_device(work.settings.device)))
    except SpectromerError as error:
        return Answer(str(error))


_loading = threading.Lock()
_models: dict[tuple[str, str, str], Spectromer] = {}


def loaded(work: Work, threads: int | None = None) -> Spectromer:
    """The model of a run, loaded once in a process.

    Parameters
    ----------
    work : Work
    threads : int, optional
        That torch may use.

    Raises
    ------
    OtherVersion
        If the program or the weights here are others.
    """
    with _loading:
        key = work.sha256, work.settings.device, work.settings.precision
        if work.version != __version__ or key not in _models:
            if differs := answer(work).differs:
                raise OtherVersion(differs)
            from spectromer_cli.inference.predictor import load_model
            from spectromer_cli.model.device import keep_freed_memory

            if threads is not None:
                import torch

                torch.set_num_threads(threads)
                keep_freed_memory()
            _models.clear()  # one model at a time is enough for the memory
            _models[key] = load_model(work.model, work.settings.device, work.settings.precision)
        return _models[key]


def predict_unit(work: Work, unit: Unit, threads: int | None = None) -> Done:
    """Predict a unit, in this process.

    Parameters
    ----------
    work : Work
    unit : Unit
    threads : int, optional
        That torch may use.

    Raises
    ------
    OtherVersion
        If the program or the weights here are others.
    """
    from spectromer_cli.outputs.tables import open_writer
    from spectromer_cli.spectra.loading import load_all

    model, settings, layout = loaded(work, threads), work.settings, work.layout
    rows = failed = skipped = 0
    complaints: list[str] = []
    left_out: list[str] = []
    targets = [target for slice_ in unit.slices for target in slice_.targets()]
    # Relative paths begin where the run was started, and are what its rows say.
    there = [replace(target, path=Path(work.folder) / target.path) for target in targets]

    def wanted() -> Iterator[Item]:
        nonlocal skipped
        for item in load_all(there, work.options, grid=model.grid, warn=left_out.append):
            own = str(targets[item.target].path)
            item.problem = item.problem.replace(item.file, own)
            left_out[:] = [text.replace(item.file, own) for text in left_out]
            item.file = own
            skipped += item.skipped
            if not item.skipped:
                yield item

    items = wanted()
    with tempfile.TemporaryDirectory(prefix="spectromer-") as folder:
        path = Path(folder) / unit.part
        with open_writer(path, layout.provenance) as writer:
            while batch := list(islice(items, settings.batch_size)):
                found = model.predictions(batch, settings.refined, settings.prior)
                stated = None
                if unit.catalogue is not None:
                    stated = unit.catalogue[[item.catalogue_row for item in batch]]
                writer.write(layout.finished(layout.table(batch, found), stated, stated))
                bad = [item.complaint for item in batch if item.problem]
                rows, failed = rows + len(batch), failed + len(bad)
                complaints += bad[: COMPLAINTS - len(complaints)]
        data = path.read_bytes()
    return Done(data, rows, failed, skipped, complaints, left_out[:COMPLAINTS])
