"""Plain tables: wavelength, flux and, if there is one, an error or ivar; one spectrum per table.

Parquet and HDF5, and what every reader of such tables shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.quantities import Column, Measured, spectrum_of
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.readers.hdf5_tables import attributes_of, inside, is_hard
from spectromer_cli.spectra.readers.structure import refuse_large
from spectromer_cli.spectra.spectrum import Spectrum, refuse_long

# Lines of meta data that are looked at.
MAX_COMMENTS = 10_000


@dataclass(kw_only=True)
class Table:
    """One spectrum as columns of a table.

    Parameters
    ----------
    columns : dict
        Columns by name, those that are needed at least.
    found : dict, optional
        As `columns.find_spectrum` gives it, where the names do not say it themselves.
    header : mapping
        Header cards or meta data.
    comments : str
        What is said elsewhere.
    numbers : int array, optional
        The place of each row in the file, for messages.
    line : str
        What is counted.
    guessed : bool
        The columns were taken by their order.
    """

    columns: dict[str, Column]
    found: dict[str, str] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    comments: str = ""
    numbers: np.ndarray | None = None
    line: str = "row"
    guessed: bool = False

    @classmethod
    def all_of_astropy(cls, table: Any) -> list[Table]:
        """The spectra of an astropy table, with all that it says of them.

        One, or one a row if the cells are arrays.
        """
        are_arrays = any(_is_array(table[name]) for name in table.colnames)
        return [cls._of_astropy(table, row) for row in (range(len(table)) if are_arrays else [-1])]

    @classmethod
    def _of_astropy(cls, table: Any, row: int) -> Table:
        read = {}
        for name in table.colnames:
            own = table[name]
            if _is_array(own) != (row >= 0):
                continue
            values = np.ma.asarray(own[row] if row >= 0 else own)
            if values.dtype.kind not in "iufb" or values.ndim != 1:
                continue
            said = (own.description, own.meta.get("ucd"), own.meta.get("utype"))
            read[name] = Column(
                np.ma.filled(values.astype(np.float64), np.nan), name, str(own.unit or ""),
                " ".join(text for text in said if isinstance(text, str)),
            )  # fmt: skip
        header = {str(key): value for key, value in table.meta.items() if _is_plain(value)}
        comments = "\n".join(islice(_texts(table.meta), MAX_COMMENTS))
        return cls(columns=read, header=header, comments=comments)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | np.generic)


def _texts(meta: Any, name: str = "") -> Iterator[str]:
    """What meta data say, a line for each value. Those of YAML may hold themselves many times."""
    if isinstance(meta, Mapping):
        for key, value in meta.items():
            yield from _texts(value, str(key))
    elif isinstance(meta, list | tuple):
        for value in meta:
            yield from _texts(value, name)
    else:
        yield f"{name}: {meta}"


def _is_array(column: Any) -> bool:
    """Whether the cells of an astropy column are arrays of numbers, of one length or of many."""
    if column.dtype.kind == "O":
        return len(column) > 0 and getattr(column[0], "ndim", 0) == 1
    return bool(column.ndim == 2 and column.dtype.kind in "iufb")


def spectrum_in(table: Table, source: Source, options: ReadOptions, *, name: str = "") -> Spectrum:
    """The spectrum of a table.

    Parameters
    ----------
    table : Table
    source : Source
        The file it is from.
    options : ReadOptions
        Unit where the table has none; air.
    name : str
        Of this table, where the file has several.

    Returns
    -------
    Spectrum

    Raises
    ------
    ReadError
        If there are no columns of wavelength and flux, or their quantities cannot be understood.
    """
    found = table.found or columns.find_spectrum(table.columns)
    if found is None:
        raise ReadError(
            f"{source.path} has no columns of wavelength and flux; it has "
            f"{', '.join(table.columns)}",
            "name them wavelength and flux",
        )
    mask = table.columns.get(found.get("mask", ""))
    return spectrum_of(
        Measured(
            wavelength=table.columns[found["wavelength"]],
            flux=table.columns[found["flux"]],
            error=table.columns.get(found.get("error", "")),
            mask=mask,
            good_is=columns.good_is("" if mask is None else mask.name, table.columns, table.header),
            header=table.header,
            comments=table.comments,
            numbers=table.numbers,
            line=table.line,
            guessed=table.guessed,
            # Columns without names are what IRAF and its like write, which calibrate in air.
            custom="air" if table.guessed else "vacuum",
            meta={"survey": "", "object_id": name or source.path.name.split(".")[0]},
        ),
        air=options.air,
        unit=options.wavelength_unit,
    )


def identify(source: Source) -> bool:
    """Whether the file has a table of numbers with wavelengths and fluxes."""
    if source.kind == "hdf5":
        return bool(_hdf5_tables(source.handle))
    if source.kind != "parquet":
        return False
    return columns.find_spectrum(source.handle.schema_arrow.names) is not None


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectrum of the table, or of each group of an HDF5 file.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Unit where the table has none; air.

    Returns
    -------
    Spectra

    Raises
    ------
    ReadError
        If the wavelengths do not run one way, or their unit is unknown.
    """
    if source.kind == "hdf5":
        return _read_hdf5(source, options)
    spectrum = spectrum_in(_read_parquet(source), source, options)
    return Spectra(1, lambda row: spectrum)


# --- Parquet with a column for each quantity --------------------------------------------------


def _read_parquet(source: Source) -> Table:
    import pyarrow

    schema = source.handle.schema_arrow
    wanted = list((columns.find_spectrum(schema.names) or {}).values())
    for name in wanted:  # a text may be repeated to any length by a few bytes
        kind = schema.field(name).type
        if not (pyarrow.types.is_primitive(kind) or pyarrow.types.is_decimal(kind)):
            raise ReadError(f"the column {name} holds {kind}, not numbers", "write it as numbers")
    refuse_long(source.handle.metadata.num_rows)
    table = source.handle.read(columns=wanted)
    return Table(columns={n: Column(table[n].to_numpy().astype(np.float64), n) for n in wanted})


# --- HDF5 with a dataset, or the field of one, for each column ----------------------------------


def _hdf5_tables(file: Any) -> list[str]:
    """The groups whose datasets make a spectrum, and the datasets with named fields that do."""
    return [place for place, names in _hdf5_places(file) if columns.find_spectrum(names)]


def _hdf5_places(group: Any, depth: int = 0) -> Iterator[tuple[str, list[str]]]:
    flat = []
    for name in group:
        link = group.get(name, getlink=True)
        if type(link).__name__ != "HardLink":  # to another file, or back up
            continue
        item = group[name]
        if hasattr(item, "keys"):
            if depth < 3:
                yield from _hdf5_places(item, depth + 1)
        elif item.dtype.names:
            yield item.name, list(item.dtype.names)
        elif item.ndim == 1 and item.dtype.kind in "iufb":
            flat.append(name)
    yield group.name, flat


def _read_hdf5(source: Source, options: ReadOptions) -> Spectra:
    places = _hdf5_tables(source.handle)
    stem = source.path.name.split(".")[0]

    def get(row: int) -> Spectrum:
        place = places[row]
        name = f"{stem}{place if place != '/' else ''}" if len(places) > 1 else ""
        return spectrum_in(_hdf5_table(source.handle, place, options), source, options, name=name)

    return Spectra(len(places), get)


def _hdf5_table(file: Any, place: str, options: ReadOptions) -> Table:
    item = file[place]
    fields = item.dtype.names if hasattr(item, "dtype") else None
    names = list(fields) if fields else [name for name in item if is_hard(item, name)]
    found = columns.find_spectrum(n for n in names if fields or getattr(item[n], "ndim", 0) == 1)
    assert found is not None
    parts = tuple(place.strip("/").split("/")) if place != "/" else ()
    for one in [parts] if fields else [(*parts, name) for name in found.values()]:
        dataset = inside(file, one)
        refuse_large("/".join(one), dataset.size * dataset.dtype.itemsize, options.max_bytes)
    if fields:
        from astropy.io.misc.hdf5 import meta_path, read_table_hdf5

        described = (*parts[:-1], meta_path(parts[-1]))
        if file.get("/".join(described), getlink=True) is not None:
            inside(file, described)
        return Table.all_of_astropy(read_table_hdf5(file, place))[0]
    read = {}
    for name in found.values():
        said = attributes_of(item[name])
        unit = next((said[key] for key in ("unit", "units") if key in said), "")
        words = " ".join(said[key] for key in said if key not in ("unit", "units"))
        read[name] = Column(np.asarray(item[name][()], dtype=np.float64), name, unit, words)
    header = attributes_of(file) | attributes_of(item)
    comments = "\n".join(f"{key}: {value}" for key, value in header.items())
    return Table(columns=read, header=header, comments=comments)
