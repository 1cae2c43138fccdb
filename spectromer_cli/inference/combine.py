"""Several exposures of one object as one spectrum, where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.archives.targets import separation
from spectromer_cli.errors import UsageError
from spectromer_cli.spectra.grid import Grid, level
from spectromer_cli.spectra.loading import Item, item_of
from spectromer_cli.spectra.spectrum import Spectrum, joined

if TYPE_CHECKING:
    from astropy.table import Table

Key = Callable[[Item], str]
# Of the meta data; a catalogue may have any column.
KEYS = ("object_id", "targetid", "obsid", "catalogid")
# Exposures of one object agree in level, and in position [arcsec], within these.
MAX_RATIO, MAX_SEPARATION = 10.0, 10.0


def key_of(name: str, catalogue: Table | None) -> Key:
    """What tells objects apart: a column of the catalogue, or what the files say.

    Parameters
    ----------
    name : str
        A column, or one of `KEYS`.
    catalogue : Table or None

    Returns
    -------
    callable
        Gives the object of an `Item` as text, empty where it is not known.

    Raises
    ------
    UsageError
        If there is no such thing.
    """
    if catalogue is not None:
        columns = {column.lower(): column for column in reversed(catalogue.colnames)}
        if name.lower() in columns:
            values = [_text(value) for value in catalogue[columns[name.lower()]].tolist()]
            return lambda item: "" if item.catalogue_row is None else values[item.catalogue_row]
    if name not in KEYS:
        names = [*KEYS, *([] if catalogue is None else catalogue.colnames)]
        raise UsageError(f"invalid --combine {name!r}", f"choose from {', '.join(names)}")
    return lambda item: _text(item.meta.get(name))


def combined(items: Iterable[Item], key: Key, grid: Grid) -> Iterator[Item]:
    """Combine the exposures of each object: their mean by inverse variance on the grid.

    All items are read before the first is given; of each object one spectrum is in memory.

    Parameters
    ----------
    items : iterable of Item
        Prepared on the grid.
    key : callable
        As `key_of` gives it. What has no key, or cannot be read, stays as it is.
    grid : Grid

    Yields
    ------
    Item
        In the order of first appearance, with the file and row of the first exposure, the flags of
        all, and ``COMBINED: n``. Exposures that cannot be of one object, by position or by level,
        have the reason in ``problem``.
    """
    objects: dict[Any, _Object] = {}
    for number, item in enumerate(items):
        name = key(item) if item.prepared is not None else ""
        own = objects.setdefault(name or number, _Object(item))
        if own.item is not item:
            own.add(item, name, grid)
    for one in objects.values():
        yield one.whole(grid)


@dataclass
class _Object:
    """What there is of an object so far."""

    item: Item
    sum: Spectrum | None = None
    count: int = 1
    zwarn: int = 0
    problem: str = ""

    def __post_init__(self) -> None:
        self.seen = {(self.item.file, self.item.row)}

    def add(self, item: Item, name: str, grid: Grid) -> None:
        """Take in another exposure; one that was named twice counts once."""
        if self.problem or (item.file and (item.file, item.row) in self.seen):
            return
        self.seen.add((item.file, item.row))
        if self.sum is None:
            self.sum = _on_grid(self.item, grid)
        other = _on_grid(item, grid)
        both = self.sum.good & other.good
        if both.any():
            levels = [level(one.flux[both]) for one in (self.sum, other)]
            if not max(levels) <= MAX_RATIO * min(levels):
                factor = max(levels) / min(levels)
                self.problem = (
                    f"the exposures of {name} differ by a factor of {factor:.3g} in flux: are "
                    "their units the same?"
                )
        apart = separation(
            *(
                float(one.meta.get(name, np.nan))
                for one in (self.item, item)
                for name in ("ra", "dec")
            )
        )
        if apart > MAX_SEPARATION:
            self.problem = (
                f"the exposures of {name} are {apart:.0f} arcsec apart: not the same object"
            )
        self.sum = joined([self.sum, other])
        self.count += 1
        self.zwarn |= int(item.meta.get("zwarn", 0))

    def whole(self, grid: Grid) -> Item:
        """The item of the object."""
        if self.sum is None:
            return self.item
        first = self.item
        flags = (*self.sum.meta.get("flags", ()), f"COMBINED: {self.count}")
        meta = self.sum.meta | {"flags": flags}
        if "zwarn" in meta or self.zwarn:
            meta["zwarn"] = int(meta.get("zwarn", 0)) | self.zwarn
        if self.problem:
            return replace(first, meta=meta, prepared=None, problem=self.problem)
        made = item_of(replace(self.sum, meta=meta), first.file, first.row, grid)
        # S/N is per pixel of the files' own sampling, which the first exposure knows.
        assert first.prepared is not None
        before = first.prepared.flux * np.sqrt(first.prepared.ivar)
        after = self.sum.flux * np.sqrt(self.sum.ivar)
        gain = np.median(after[self.sum.good]) / np.median(before[first.prepared.ivar > 0])
        return replace(
            first, meta=meta, prepared=made.prepared, problem=made.problem,
            sn_median=float(first.sn_median * gain),
        )  # fmt: skip


def _on_grid(item: Item, grid: Grid) -> Spectrum:
    """What was prepared, in the unit of the file again."""
    prepared = item.prepared
    assert prepared is not None
    flux, ivar = prepared.flux.astype(float), prepared.ivar.astype(float)
    scale = prepared.scale
    return Spectrum(grid.wavelength, flux * scale, ivar / scale**2, item.meta)


def _text(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("", "nan", "none", "--") else text
