"""HDF5 tables with a spectrum a row: Multimodal Universe and their like.

The datasets are rows × pixels, in the file itself or in a group such as ``spectrum``; one axis of
wavelengths may serve all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.readers.records import (
    SCALARS,
    Place,
    Said,
    find,
    spectrum_of_row,
)
from spectromer_cli.spectra.spectrum import Spectrum, refuse_long

# A chunk is unpacked whole, however few of its rows are wanted.
MAX_CHUNK_BYTES = 500_000_000
# Rows of a chunk are kept while they fit in here.
BLOCK_BYTES = 50_000_000


def identify(source: Source) -> bool:
    """Whether the file is a table whose rows hold wavelengths and fluxes."""
    if source.kind != "hdf5":
        return False
    return bool(find(_arrays(source.handle)))


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra, one per row, each read on demand.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Air, and the unit where the file has none.

    Returns
    -------
    Spectra
        Several a row, if there are spectra of several surveys. Padding (wavelength 0 or −1) is cut
        off, arms are joined; without errors, one is estimated from the scatter.

    Raises
    ------
    ReadError
        If a dataset lies in another file, or has rows that are too long for spectra.
    """
    file = source.handle
    arrays = _arrays(file)
    spectra = find(arrays)
    flux = [next(iter(found.arms.values()))["flux"] for found in spectra]
    held = {
        place: _Held(inside(file, place), place, arrays[place])
        for found in spectra
        for place in found.places
    }
    counts = [held[place].dataset.shape[0] for place in flux]
    first = np.concatenate([[0], np.cumsum(counts)])
    said = _said(file, list(held))

    def get(number: int) -> Spectrum:
        which = int(np.searchsorted(first, number, side="right")) - 1
        row, found = number - int(first[which]), spectra[which]
        cells = {place: held[place].row(row) for place in found.places}
        beside = _scalars(file, flux[which][:-1], row, counts[which])
        return spectrum_of_row(found, cells, beside, said, options, source, row)

    return Spectra(int(first[-1]), get)


def _arrays(file: Any) -> dict[Place, bool]:
    """The datasets with an array a row, by place; True for an axis that serves all rows.

    What a link finds in another file is not looked at, and may be anything.
    """
    import h5py

    places: list[Place] = []
    for name in file:
        places.append((name,))
        if is_hard(file, name) and isinstance(file[name], h5py.Group):
            places += [(name, inner) for inner in file[name]]
    arrays: dict[Place, bool] = {}
    flat: dict[Place, int] = {}
    lengths = set()
    for place in places:
        if not all(is_hard(file, "/".join(place[:i])) for i in range(1, len(place) + 1)):
            arrays[place] = False
            continue
        item = file["/".join(place)]
        if not isinstance(item, h5py.Dataset):
            continue
        ragged = h5py.check_vlen_dtype(item.dtype)
        if item.ndim == 2 and item.dtype.kind in "iufb":
            arrays[place] = False
            lengths.add(item.shape[1])
        elif item.ndim == 1 and ragged is not None and np.dtype(ragged).kind in "iufb":
            arrays[place] = False
        elif item.ndim == 1 and item.dtype.kind in "iuf":
            flat[place] = item.shape[0]
    for place, length in flat.items():
        name = place[-1].lower()
        if length in lengths and (
            columns.find([name], columns.WAVELENGTH)
            or columns.find([name], columns.WAVELENGTH, "spectrum_")
        ):
            arrays[place] = True
    return arrays


def is_hard(file: Any, name: str) -> bool:
    """Whether a name leads to something in a file, or a group, and not through another file."""
    import h5py

    link = file.get(name, getlink=True)
    if isinstance(link, h5py.SoftLink):
        # It may lead through a link to another file, which even a look would open.
        around = name.rpartition("/")[0]
        begin = file.file if link.path.startswith("/") else file[around] if around else file
        steps = link.path.strip("/").split("/")
        names = ("/".join(steps[:i]) for i in range(1, len(steps) + 1))
        return all(isinstance(begin.get(way, getlink=True), h5py.HardLink) for way in names)
    return isinstance(link, h5py.HardLink)


def inside(file: Any, place: Place) -> Any:
    """A dataset, if its data lie in this file, in pieces that fit into memory.

    Parameters
    ----------
    file : h5py.File
    place : tuple of str
        The groups around it, and its name.

    Raises
    ------
    ReadError
        If they do not, or its rows are too long.
    """
    name = "/".join(place)
    elsewhere = ReadError(
        f"the data of {name!r} are in another file, which is not opened",
        "copy them into one file (h5repack, h5copy)",
    )
    if not all(is_hard(file, "/".join(place[:i])) for i in range(1, len(place) + 1)):
        raise elsewhere
    dataset = file[name]
    if dataset.external:
        raise elsewhere
    if dataset.is_virtual and any(s.file_name != "." for s in dataset.virtual_sources()):
        raise elsewhere
    refuse_long(dataset.shape[-1] if dataset.ndim == 2 or dataset.dtype.kind in "iufbV" else 0)
    if dataset.chunks:
        size = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
        if size > MAX_CHUNK_BYTES:
            raise ReadError(
                f"{name!r} is stored in chunks of {size / 1e9:.1f} GB: too large for spectra",
                "write it in chunks of some rows (h5repack -l)",
            )
    return dataset


@dataclass
class _Held:
    """A dataset with the rows of its that were read last."""

    dataset: Any
    place: Place
    is_axis: bool
    _start: int = -1
    _rows: Any = field(default=None, repr=False)

    def row(self, row: int) -> np.ndarray:
        """One row, of shape (pixels,)."""
        if self.is_axis:
            if self._rows is None:
                self._rows = self.dataset[()]
            return np.asarray(self._rows)
        if row >= self.dataset.shape[0]:
            raise ReadError(
                f"{'/'.join(self.place)!r} has {self.dataset.shape[0]} rows only",
                "download the file again",
            )
        size = self._rows_at_once()
        start = row - row % size
        if start != self._start:
            self._rows = None  # before memory for more is taken
            self._rows, self._start = self.dataset[start : start + size], start
        values = np.asarray(self._rows[row - start])
        refuse_long(values.size)
        return values

    def _rows_at_once(self) -> int:
        """The rows of a chunk, which are unpacked together."""
        chunks = self.dataset.chunks
        if not chunks or self.dataset.ndim != 2:
            return 1
        row_bytes = self.dataset.shape[1] * self.dataset.dtype.itemsize
        return int(max(1, min(chunks[0], BLOCK_BYTES // max(row_bytes, 1))))


def _scalars(file: Any, group: Place, row: int, count: int) -> dict[str, Any]:
    """The cells of a row that are no arrays, of those that count, the group's own first."""
    import h5py

    cells: dict[str, Any] = {}
    for around in dict.fromkeys([group, ()]):
        parent = file["/".join(around)] if around else file
        for name in parent:
            known = columns.find([name], SCALARS)
            if not known or name.lower() in cells or not is_hard(parent, name):
                continue
            item = parent[name]
            if (
                isinstance(item, h5py.Dataset) and item.shape == (count,)
                and not item.external and not item.is_virtual
            ):  # fmt: skip
                cells[name.lower()] = item[row]
    attributes = attributes_of(file)
    for name in ("obs_collection", "survey", "data_release"):
        if name not in cells and attributes.get(name):
            cells[name] = attributes[name]
    return cells


def _said(file: Any, places: list[Place]) -> Said:
    header: dict[str, Any] = dict(attributes_of(file))
    units, descriptions = {}, {}
    for place in places:
        if len(place) > 1:
            header |= attributes_of(file[place[0]])
        said = attributes_of(file["/".join(place)])
        units[place] = next((said[key] for key in ("unit", "units") if key in said), "")
        descriptions[place] = " ".join(v for k, v in said.items() if k not in ("unit", "units"))
    comments = "\n".join(f"{key}: {value}" for key, value in header.items())
    return Said(header, comments, units, descriptions)


def attributes_of(item: Any) -> dict[str, str]:
    """The attributes of a file, group or dataset that are text or numbers, in lower case."""
    said = {}
    for key in item.attrs:
        try:
            value = item.attrs[key]
        except (OSError, TypeError, ValueError):  # of a type that numpy does not have
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str | int | float | np.number | np.bool_):
            said[str(key).lower()] = str(value)
    return said
