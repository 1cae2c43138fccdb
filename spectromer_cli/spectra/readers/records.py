"""Tables with a spectrum a row: Multimodal Universe, SPARCL and their like, in HDF5 or Parquet.

The cells of the wavelength and flux columns are arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spectromer_cli.spectra.quantities import Column, Measured, spectrum_of
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.spectrum import Spectrum

# Multimodal Universe: flat columns begin with this, or are the fields of a column of this name.
PREFIX = "spectrum_"
_ID = ("object_id", "targetid", "sparcl_id", "specid", "obsid", "id", "object", "name")
# Where a survey's own result stands, and what it is called here.
_ANSWERS: dict[str, tuple[str, ...]] = {
    "survey_class": ("spectype", "class"),
    "survey_subclass": ("subtype", "subclass"),
    "survey_z": ("redshift", "z"),
}
_PLACE: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "target_ra", "raj2000"),
    "dec": ("dec", "target_dec", "dej2000"),
}

Record = Callable[[int], dict[str, Any]]


@dataclass
class Said:
    """What a container says beside the cells, for all and by column unit and description."""

    header: Mapping[str, Any] = field(default_factory=dict)
    comments: str = ""
    units: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)


def identify(source: Source) -> bool:
    """Whether the file is a table whose cells hold wavelengths and fluxes."""
    try:
        names = _array_columns(source)
    except Exception:  # whatever a damaged file raises: no table of spectra
        return False
    return _names_of(names) is not None


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra, one a row, each read when asked for.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Air, and the unit where the table has none.

    Returns
    -------
    Spectra
        Padding (wavelength 0 or −1) is cut off; a mask that is set marks a bad pixel; without
        errors, one is estimated from the scatter.
    """
    count, record, said = _open(source)
    names = _names_of(_array_columns(source))
    assert names is not None
    return Spectra(count, lambda row: _spectrum(record(row), names, said, options, source, row))


def _names_of(array_columns: list[str]) -> dict[str, str] | None:
    """The names of the columns that make a spectrum; None if there is no spectrum."""
    return columns.find_spectrum(array_columns, PREFIX) or columns.find_spectrum(array_columns)


def _spectrum(
    record: dict[str, Any],
    names: dict[str, str],
    said: Said,
    options: ReadOptions,
    source: Source,
    row: int,
) -> Spectrum:
    found = {
        role: Column(
            record[name], name.lower().removeprefix(PREFIX),
            said.units.get(name, ""), said.descriptions.get(name, ""),
        )
        for role, name in names.items()
    }  # fmt: skip
    product = is_product(names, record)
    return spectrum_of(
        Measured(
            wavelength=found["wavelength"],
            flux=found["flux"],
            error=found.get("error"),
            mask=found.get("mask"),
            good_is=columns.good_is(names.get("mask", ""), record, said.header),
            header=said.header,
            comments=said.comments,
            medium="vacuum" if product else "",
            frame="heliocentric" if product else "",
            flux_is_known=product,
            meta=meta_of(record, source, row),
        ),
        air=options.air,
        unit=options.wavelength_unit,
    )


def is_product(names: Mapping[str, str], record: Mapping[str, Any]) -> bool:
    """Whether a row is of Multimodal Universe or SPARCL: vacuum wavelengths, and f_λ.

    Parameters
    ----------
    names : mapping
        Of the columns that make the spectrum.
    record : mapping
        All cells of the row.
    """
    return any(name.lower().startswith(PREFIX) for name in names.values()) or (
        columns.find(record, ("sparcl_id", "data_release")) is not None
    )


def meta_of(record: dict[str, Any], source: Source, row: int) -> dict[str, Any]:
    """What the cells of a row say of the object, as `Spectrum.meta` has it."""
    scalars = {name: value for name, value in record.items() if np.ndim(value) == 0}

    def get(known: tuple[str, ...]) -> Any:
        name = columns.find(scalars, known)
        return None if name is None else scalars[name]

    identity = get(_ID)
    release = get(("survey", "data_release"))  # SPARCL: "DESI-DR1"
    meta: dict[str, Any] = {
        "survey": "" if release is None else _text(release).split("-")[0],
        "object_id": f"{source.path.stem}[{row}]" if identity is None else _text(identity),
    }
    for key, known in _PLACE.items():
        value = get(known)
        if value is not None:
            meta[key] = float(value)
    for key, known in _ANSWERS.items():
        value = get(known)
        if value is not None:
            meta[key] = float(value) if key == "survey_z" else _text(value)
    return meta


def _text(value: Any) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


# --- the three containers -------------------------------------------------------------------


def _array_columns(source: Source) -> list[str]:
    """The columns whose cells are arrays; struct fields as ``spectrum_flux``."""
    if source.kind == "hdf5":
        import h5py

        data = {name: v for name, v in source.handle.items() if isinstance(v, h5py.Dataset)}
        # One wavelength axis may serve all rows.
        return [name for name, v in data.items() if v.ndim == 2 or _is_axis(name, v, data)]
    if source.kind == "parquet":
        return list(_parquet_arrays(source))
    return []


def _is_axis(name: str, dataset: Any, data: dict[str, Any]) -> bool:
    if columns.find([name], columns.WAVELENGTH, PREFIX) is None:
        return False
    return any(v.ndim == 2 and v.shape[1] == dataset.shape[0] for v in data.values())


def _parquet_arrays(source: Source) -> dict[str, tuple[str, str | None]]:
    """Name of an array column → its column and, in a struct, its field."""
    import pyarrow

    found: dict[str, tuple[str, str | None]] = {}
    for entry in source.handle.schema_arrow:
        kind = entry.type
        if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
            found[entry.name] = (entry.name, None)
        elif pyarrow.types.is_struct(kind) and entry.name.lower() == PREFIX.rstrip("_"):
            for inner in kind:
                found[f"{PREFIX}{inner.name}"] = (entry.name, inner.name)
    return found


def _open(source: Source) -> tuple[int, Record, Said]:
    """How many rows there are, a way to read one, and what is said beside."""
    return {"hdf5": _open_hdf5, "parquet": _open_parquet}[source.kind](source)


def _open_hdf5(source: Source) -> tuple[int, Record, Said]:
    import h5py

    data = {name: v for name, v in source.handle.items() if isinstance(v, h5py.Dataset)}
    count = max(v.shape[0] for v in data.values() if v.ndim == 2)

    def record(row: int) -> dict[str, Any]:
        return {
            name: v[()] if _is_axis(name, v, data) else v[row]
            for name, v in data.items()
            if v.ndim and (v.shape[0] == count or _is_axis(name, v, data))
        }

    return count, record, Said()


def _open_parquet(source: Source) -> tuple[int, Record, Said]:
    file = source.handle
    arrays = _parquet_arrays(source)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    first = np.concatenate([[0], np.cumsum(sizes)])
    held: dict[str, Any] = {"group": -1}  # the last row group read: rows come in order

    def record(row: int) -> dict[str, Any]:
        group = int(np.searchsorted(first, row, side="right")) - 1
        if held["group"] != group:
            held.update(group=group, table=file.read_row_group(group))
        cells = held["table"].slice(row - int(first[group]), 1).to_pylist()[0]
        for name, (column, inner) in arrays.items():
            if inner is not None:
                cells[name] = cells[column][inner]
        return {name: cell for name, cell in cells.items() if not isinstance(cell, dict)}

    return file.metadata.num_rows, record, Said()
