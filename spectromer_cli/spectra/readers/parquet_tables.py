"""Parquet tables with a spectrum a row: packed ones, HATS, Multimodal Universe, SPARCL.

The spectra are lists of their own, or of a struct, or lists of structs (nested-pandas); whole or in
arms. Only the columns that count are read, some rows at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra import hats, packed
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.readers.records import (
    SCALARS,
    Found,
    Place,
    Said,
    find,
    spectrum_of_row,
)
from spectromer_cli.spectra.spectrum import MAX_PIXELS

# So many values of one column are decoded at a time, whatever the file calls a row group.
BATCH_VALUES = 1_000_000
BUFFER_BYTES = 1_000_000
# Noise takes more room than this [bits per pixel], however well it is packed.
MIN_BITS = 1.0


@dataclass
class _Leaf:
    """A column of numbers as Parquet stores it, and the way to it.

    Parameters
    ----------
    path : str
        As Parquet writes it.
    number : int
        Among all columns of the file.
    structs : tuple of str
        The column and the fields of structs that lead to the list.
    inner : str
        The field of the structs in the list; empty if it is a list of numbers.
    unit, description : str
    """

    path: str
    number: int
    structs: tuple[str, ...]
    inner: str = ""
    unit: str = ""
    description: str = ""


def identify(source: Source) -> bool:
    """Whether the file is a table whose cells hold wavelengths and fluxes."""
    if source.kind != "parquet":
        return False
    return bool(find(_leaves(source.handle)[0]))


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra, one per row, each read on demand.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Air, and the unit where the table has none.

    Returns
    -------
    Spectra
        Several a row, if a row has spectra of several surveys. Padding (wavelength 0 or −1) is cut
        off, arms are joined; null is a bad pixel, and without errors, one is estimated from
        the scatter.
    """
    file = source.handle
    leaves, scalars = _leaves(file)
    spectra = find(leaves)
    said = _said(file, leaves)
    collection = hats.catalogue_of(source.path).get("obs_collection", "")
    needed = {place: leaves[place] for found in spectra for place in found.places}
    ends = [_end(found) for found in spectra] if len(spectra) > 1 else []
    counted = {*SCALARS, *(f"{name}{end}" for name in SCALARS for end in ends)}
    counted |= {packed.META, *(f"{packed.META}{end}" for end in ends)}
    scalars = {name: path for name, path in scalars.items() if name.lower() in counted}
    rows = _rows_of(source, needed, scalars)

    def get(number: int) -> Any:
        row, which = divmod(number, len(spectra))
        found = spectra[which]
        cells, beside = rows.row(row, found.places)
        if collection and columns.find(beside, ("obs_collection",)) is None:
            beside["obs_collection"] = collection
        beside = _own(beside, found, spectra)
        if packed.META in beside:
            arrays = {place[-1]: array for place, array in cells.items()}
            return packed.spectrum_of(arrays, beside[packed.META], options.air)
        return spectrum_of_row(found, cells, beside, said, options, source, row)

    return Spectra(file.metadata.num_rows * len(spectra), get)


def row_groups(source: Source) -> list[int]:
    """How many spectra each row group of a file holds that `identify` knows.

    Parameters
    ----------
    source : Source
    """
    spectra = len(find(_leaves(source.handle)[0]))
    meta = source.handle.metadata
    return [spectra * meta.row_group(i).num_rows for i in range(meta.num_row_groups)]


def _end(found: Found) -> str:
    """What a crossmatch appends to the names of the columns that belong to a spectrum."""
    return f"_{found.container.removeprefix('spectrum_')}"


def _own(scalars: dict[str, Any], found: Found, spectra: list[Found]) -> dict[str, Any]:
    """The cells that belong to one of several spectra of a row."""
    if len(spectra) == 1:
        return scalars
    ends = {_end(other): other for other in spectra}
    kept: dict[str, Any] = {}
    for name, value in scalars.items():
        end = next((end for end in ends if name.lower().endswith(end)), "")
        if not end:
            kept.setdefault(name, value)
        elif ends[end] is found:
            kept[name[: -len(end)]] = value
    return kept


# --- columns --------------------------------------------------------------------------------------


def _leaves(file: Any) -> tuple[dict[Place, _Leaf], dict[str, str]]:
    """The lists of numbers by place, and the path of each column that is no list, by name."""
    schema = _Schema([file.schema.column(i).path for i in range(len(file.schema))])
    for entry in file.schema_arrow:
        schema.add(entry, (), None)
    return schema.lists, schema.scalars


@dataclass
class _Schema:
    """What a schema holds, gathered in the order of Parquet's columns.

    Parameters
    ----------
    paths : list of str
        Of all columns, as Parquet writes them.
    """

    paths: list[str]
    lists: dict[Place, _Leaf] = field(default_factory=dict)
    scalars: dict[str, str] = field(default_factory=dict)
    _number: int = 0

    def add(self, entry: Any, around: Place, structs: Place | None) -> None:
        """Add a field and all in it; `structs` is the list of structs that it is in."""
        from pyarrow import types

        kind, place = _stored(entry.type), (*around, entry.name)
        value = _stored(kind.value_type) if _is_list(kind) and structs is None else None
        if types.is_struct(kind) and structs is None:
            for child in kind:
                self.add(child, place, None)
        elif value is not None and types.is_struct(value):
            for child in value:
                self.add(child, place, place)
        else:
            words = _words(entry)
            if value is not None and _is_number(value):
                self.lists[place] = _Leaf(self.paths[self._number], self._number, place, "", *words)
            elif structs is not None and _is_number(kind):
                path = self.paths[self._number]
                self.lists[place] = _Leaf(path, self._number, structs, entry.name, *words)
            elif not around and not types.is_nested(kind):
                self.scalars[entry.name] = self.paths[self._number]
            self._number += _width(kind)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    known = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(is_one(kind) for is_one in known)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    known = (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
    return any(is_one(kind) for is_one in known)


def _stored(kind: Any) -> Any:
    """The type that lies below an extension's, such as a tensor's."""
    return getattr(kind, "storage_type", kind)


def _width(kind: Any) -> int:
    """How many columns Parquet makes of a type."""
    import pyarrow

    kind = _stored(kind)
    if pyarrow.types.is_nested(kind):
        return sum(_width(kind.field(i).type) for i in range(kind.num_fields))
    return 1


def _words(entry: Any) -> tuple[str, str]:
    """Unit and description that a field of the schema has."""
    meta = _decoded(entry.metadata)
    unit = next((meta[key] for key in ("unit", "units") if key in meta), "")
    return unit, " ".join(meta[key] for key in ("ucd", "description", "comment") if key in meta)


def _decoded(metadata: Any) -> dict[str, str]:
    return {
        key.decode("utf-8", "replace").lower(): value.decode("utf-8", "replace")
        for key, value in (metadata or {}).items()
    }


def _said(file: Any, leaves: dict[Place, _Leaf]) -> Said:
    """What the schema says of the table and of its columns; astropy writes both as YAML."""
    header: dict[str, Any] = {
        key: value
        for key, value in _decoded(file.schema_arrow.metadata).items()
        if key not in ("arrow:schema", "pandas", "huggingface")
    }
    units = {place: leaf.unit for place, leaf in leaves.items()}
    descriptions = {place: leaf.description for place, leaf in leaves.items()}
    if yaml := header.pop("table_meta_yaml", ""):
        from astropy.table import meta

        written = meta.get_header_from_yaml(yaml.splitlines())
        header |= written.get("meta") or {}
        for column in written.get("datatype") or ():
            place = (column.get("name"),)
            units[place] = units.get(place) or str(column.get("unit") or "")
            descriptions[place] = descriptions.get(place) or str(column.get("description") or "")
    comments = "\n".join(f"{key}: {value}" for key, value in header.items())
    return Said(header, comments, units, descriptions)


# --- rows -----------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """The rows of a file, decoded some at a time, forward through each row group.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile
    leaves : dict
        The lists that are read, by place.
    scalars : dict
        The other columns that are read, name → path.
    """

    file: Any
    leaves: dict[Place, _Leaf]
    scalars: dict[str, str]
    _group: int = -1
    _batches: Iterator[Any] = field(default_factory=lambda: iter(()))
    _batch: Any = None
    _lists: dict[Place, _Lists] = field(default_factory=dict)
    _start: int = 0

    def __post_init__(self) -> None:
        meta = self.file.metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._first = np.concatenate([[0], np.cumsum(sizes)])

    def row(
        self, row: int, places: list[Place]
    ) -> tuple[dict[Place, np.ndarray | None], dict[str, Any]]:
        """The arrays of a row by place, None where there is none, and its other cells by name."""
        batch, i = self._at(row)
        for place in places:
            if place not in self._lists:
                self._lists[place] = _lists(batch, self.leaves[place])
        cells = {place: self._lists[place].cell(i) for place in places}
        return cells, {name: batch.column(name)[i].as_py() for name in self.scalars}

    def _at(self, row: int) -> tuple[Any, int]:
        """The batch that holds a row, and its place there."""
        group = int(np.searchsorted(self._first, row, side="right")) - 1
        if group != self._group or row < self._start:
            # Whatever fails from here on must not leave a row in another one's place.
            self._batch, self._group, self._lists = None, -1, {}
            self._batches = self._decoded(group)
            self._group, self._start = group, int(self._first[group])
        while self._batch is None or row >= self._start + self._batch.num_rows:
            if self._batch is not None:
                self._start += self._batch.num_rows
                self._batch = None
            self._lists = {}
            try:
                self._batch = next(self._batches)
            except StopIteration:
                self._group = -1
                raise ReadError(
                    "it has fewer rows than it states", "download the file again"
                ) from None
            except BaseException:
                self._group = -1
                raise
        return self._batch, row - self._start

    def _decoded(self, group: int) -> Iterator[Any]:
        """The rows of a row group, as many at a time as need little memory."""
        meta = self.file.metadata.row_group(group)
        _refuse_bombs(meta, list(self.leaves.values()))
        values = max(meta.column(leaf.number).num_values for leaf in self.leaves.values())
        size = max(1, min(meta.num_rows, BATCH_VALUES * meta.num_rows // max(values, 1)))
        paths = [leaf.path for leaf in self.leaves.values()] + list(self.scalars.values())
        return iter(
            self.file.iter_batches(
                batch_size=size, row_groups=[group], columns=paths, use_threads=False
            )
        )


def _refuse_bombs(group: Any, leaves: list[_Leaf]) -> None:
    """Refuse a row group in which some row may have more pixels than any spectrum.

    The encodings of Parquet store a billion equal values in some bytes.

    Raises
    ------
    ReadError
        If the rows have more than `MAX_PIXELS` pixels on average, or one may have so many and the
        bytes that are there cannot hold a measurement for each.
    """
    stored = [group.column(leaf.number) for leaf in leaves]
    most = max(column.num_values for column in stored)
    if most > MAX_PIXELS * max(group.num_rows, 1):
        raise ReadError(
            f"{most} pixels in {group.num_rows} rows are too many for spectra "
            f"(at most {MAX_PIXELS} per row)",
            "is the table transposed?",
        )
    noisiest = max(stored, key=lambda column: column.total_uncompressed_size)
    if most - group.num_rows >= MAX_PIXELS and (
        8 * noisiest.total_uncompressed_size < MIN_BITS * most
    ):
        raise ReadError(
            f"{most} pixels are stored in {noisiest.total_uncompressed_size} bytes: "
            "too few for real measurements",
            "download the file again",
        )


def _rows_of(source: Source, leaves: dict[Place, _Leaf], scalars: dict[str, str]) -> _Rows:
    """The rows of a file, at the place where they were left if it is opened again.

    A row group can be decoded from its beginning only, and a file is opened again for every few
    hundred of its spectra.
    """
    is_plain = False
    if source.path.is_file():
        with source.path.open("rb") as file:
            is_plain = file.read(4) == b"PAR1"
    if not is_plain:  # it was unpacked for this time, or is in memory
        return _Rows(source.handle, leaves, scalars)
    state = source.path.stat()
    key = (source.path, state.st_size, state.st_mtime_ns, state.st_ino)
    if getattr(_kept, "key", None) != key:
        import pyarrow.parquet

        # Without a buffer, a column of a row group is taken into memory whole before it is decoded.
        file = pyarrow.parquet.ParquetFile(source.path, buffer_size=BUFFER_BYTES)
        _kept.key, _kept.rows = key, _Rows(file, {}, {})
    rows: _Rows = _kept.rows
    rows.leaves, rows.scalars = leaves, scalars
    return rows


class _Kept(threading.local):
    """The rows of the file that was read last; each thread has its own place in them."""

    key: tuple[Path, int, int, int]
    rows: _Rows


_kept = _Kept()


@dataclass
class _Lists:
    """The lists of a column in a batch: their numbers in one array, NaN for null.

    Parameters
    ----------
    values : array of float64
        Of all lists, one after the other.
    starts, ends : int array
        Where each list lies in them.
    there : bool array
        Whether there is a list.
    """

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    there: np.ndarray

    def cell(self, i: int) -> np.ndarray | None:
        """The numbers of list i; None if there is none."""
        return self.values[self.starts[i] : self.ends[i]] if self.there[i] else None


def _lists(batch: Any, leaf: _Leaf) -> _Lists:
    import pyarrow
    from pyarrow import compute

    array = _plain(batch.column(leaf.structs[0]))
    for name in leaf.structs[1:]:
        array = _plain(compute.struct_field(array, [name]))
    if pyarrow.types.is_fixed_size_list(array.type):
        edges = (array.offset + np.arange(len(array) + 1)) * array.type.list_size
    else:
        edges = _numbers(array.offsets)
    first, last = (int(edges[0]), int(edges[-1])) if len(edges) else (0, 0)
    values = _plain(_plain(array.values).slice(first, last - first))
    if leaf.inner:
        values = _plain(compute.struct_field(values, [leaf.inner]))
    numbers = _numbers(values.cast(pyarrow.float64()))
    there = np.ones(len(array), dtype=bool)
    if array.null_count:
        there = array.is_valid().to_numpy(zero_copy_only=False)
    return _Lists(numbers, edges[:-1] - first, edges[1:] - first, there)


def _numbers(array: Any) -> np.ndarray:
    """The numbers of an array, NaN for null; for the latter alone pyarrow has to import pandas."""
    if array.null_count:
        return np.asarray(array.to_numpy(zero_copy_only=False))
    kind = np.dtype(array.type.to_pandas_dtype())
    buffer = array.buffers()[1]
    if buffer is None:
        return np.empty(0, kind)
    return np.frombuffer(buffer, kind, len(array), array.offset * kind.itemsize)


def _plain(array: Any) -> Any:
    """The array below an extension's, such as a tensor's."""
    return getattr(array, "storage", array)
