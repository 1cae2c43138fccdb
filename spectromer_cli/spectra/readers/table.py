"""Plain tables: wavelength, flux and, if there is one, an error or ivar; one spectrum a file.

CSV, ECSV and other text, FITS tables and Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.quantities import Column, Measured, spectrum_of
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import (
    ReadOptions,
    Source,
    Spectra,
    described,
    header_of,
)

_DELIMITERS = (",", ";", "\t", "|", None)  # None is any white space
# So many lines of text are looked at to tell what a file is.
_LOOK = 200


@dataclass
class _Layout:
    """How a text table is laid out.

    Parameters
    ----------
    delimiter : str or None
        Between the columns; None for white space.
    names : list of str
        Of the columns; empty if the table has none.
    first : int
        Number of the first line of data, from 0.
    """

    delimiter: str | None
    names: list[str]
    first: int


def identify(source: Source) -> bool:
    """Whether the file is a table of numbers with wavelengths and fluxes."""
    try:
        if source.kind == "text":
            if _is_ecsv(source.handle):
                return columns.find_spectrum(_ecsv_names(source.handle)) is not None
            return _layout(source.handle) is not None
        return columns.find_spectrum(_names(source)) is not None
    except Exception:  # whatever a damaged file raises: no plain table
        return False


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the one spectrum of the table.

    Columns are found by their usual names, or else taken as wavelength, flux and error.

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
        If a line is no row of numbers, the wavelengths do not run one way, or their unit is
        unknown.
    """
    columns_read, header, comments, first_line = _read_columns(source)
    found = columns.find_spectrum(columns_read)
    if found is None:
        raise ReadError(
            f"{source.path} has no columns of wavelength and flux; it has "
            f"{', '.join(columns_read)}",
            "name them wavelength and flux",
        )
    spectrum = spectrum_of(
        Measured(
            wavelength=columns_read[found["wavelength"]],
            flux=columns_read[found["flux"]],
            error=columns_read.get(found.get("error", "")),
            mask=columns_read.get(found.get("mask", "")),
            good_is=columns.good_is(found.get("mask", ""), columns_read, header),
            header=header,
            comments=comments,
            first_line=first_line,
            line="line" if source.kind == "text" else "row",
            guessed=source.kind == "text" and not _has_names(source),
            meta={"survey": "", "object_id": source.path.name.split(".")[0]},
        ),
        air=options.air,
        unit=options.wavelength_unit,
    )
    return Spectra(1, lambda row: spectrum)


# --- columns of each kind of file -------------------------------------------------------------


def _names(source: Source) -> list[str]:
    if source.kind == "parquet":
        return list(source.handle.schema_arrow.names)
    if source.kind == "fits":
        return list(_fits_table(source).columns.names)
    return []


def _fits_table(source: Source) -> Any:
    """The first table of a FITS file that has the columns; KeyError if there is none."""
    for hdu in source.handle:
        if hasattr(hdu, "columns") and columns.find_spectrum(list(hdu.columns.names)):
            return hdu
    raise KeyError("no table with wavelength and flux")


# Columns by name (also those that no spectrum needs, empty), header, comments, number of the first
# row or line of data.
Table = tuple[dict[str, Column], Mapping[str, Any], str, int]


def _read_columns(source: Source) -> Table:
    if source.kind == "fits":
        return _read_fits(source)
    if source.kind == "parquet":
        table = source.handle.read()
        wanted = (columns.find_spectrum(table.column_names) or {}).values()
        return {n: Column(table[n].to_numpy().astype(np.float64), n) for n in wanted}, {}, "", 1
    if _is_ecsv(source.handle):
        return _read_ecsv(source)
    return _read_text(source)


def _read_fits(source: Source) -> Table:
    hdu = _fits_table(source)
    wanted = (columns.find_spectrum(hdu.columns.names) or {}).values()
    read = {
        name: Column(
            np.array(hdu.data[name], dtype=np.float64).ravel(), name,
            str(hdu.columns[name].unit or ""),
            described(hdu.header, hdu.columns.names.index(name) + 1),
        )
        if name in wanted
        else Column(np.empty(0), name)
        for name in hdu.columns.names
    }  # fmt: skip
    header, comments = header_of(source.handle, hdu)
    return read, header, comments, 1


def _is_ecsv(text: str) -> bool:
    return text.startswith("# %ECSV")


def _ecsv_names(text: str) -> list[str]:
    """The names of the columns: the first line behind the header of comments."""
    line = next((line for line in text.splitlines() if not line.startswith("#")), "")
    return [name.strip().strip("\"'") for name in line.replace(",", " ").split()]


def _read_ecsv(source: Source) -> Table:
    from astropy.table import Table

    table = Table.read(source.handle.splitlines(), format="ascii.ecsv")
    read = {
        name: Column(
            np.ma.filled(np.ma.asarray(table[name]).astype(np.float64), np.nan), name,
            str(table[name].unit or ""), str(table[name].description or ""),
        )
        for name in table.colnames
        if table[name].dtype.kind in "iufb" and table[name].ndim == 1
    }  # fmt: skip
    said = [f"{key}: {value}" for key, value in table.meta.items()]
    return read, table.meta, "\n".join(said), 1


# --- text -------------------------------------------------------------------------------------


def _layout(text: str) -> _Layout | None:
    """How a text is laid out as a table; None if it is none with wavelength and flux."""
    header, comment = "", ""  # the last line of each kind before the data: names, maybe
    for number, line in enumerate(text.splitlines()[:_LOOK]):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            comment = bare.lstrip("# ") or comment
            continue
        for delimiter in _DELIMITERS:
            cells = bare.split(delimiter)
            if len(cells) >= 2 and all(_is_number(cell) for cell in cells):
                names = _header_names(header, delimiter, len(cells))
                if names and columns.find_spectrum(names) is None:
                    return None  # a table, but of something else
                in_comment = _header_names(comment, delimiter, len(cells))
                if not names and columns.find_spectrum(in_comment):  # else it is prose
                    names = in_comment
                return _Layout(delimiter, names, number)
        header = bare
    return None


def _header_names(header: str, delimiter: str | None, count: int) -> list[str]:
    """Names of the columns, if the line above the data has one for each."""
    for separator in (delimiter, None, ","):
        cells = [cell.strip().strip("\"'") for cell in header.split(separator)]
        # A column without a name, as pandas writes its index, is still a column.
        if len(cells) == count and not any(cell and _is_number(cell) for cell in cells):
            return cells
    return []


def _is_number(cell: str) -> bool:
    cell = cell.strip().strip('"')
    if cell.lower() in ("", "nan", "--", "null", "inf", "-inf"):
        return True
    try:
        float(cell.replace("D", "E").replace("d", "e"))
    except ValueError:
        return False
    return True


def _read_text(source: Source) -> Table:
    layout = _layout(source.handle)
    assert layout is not None
    rows: list[list[float]] = []
    first_line = 0
    for number, line in enumerate(source.handle.splitlines()):
        bare = line.strip()
        if number < layout.first or not bare or bare.startswith("#"):
            continue
        cells = bare.split(layout.delimiter)
        if (rows and len(cells) != len(rows[0])) or not all(map(_is_number, cells)):
            raise ReadError(
                f"{source.path}, line {number + 1}, is no row of numbers like those above it: "
                f"{bare[:60]!r}",
                "is the file cut off?",
            )
        first_line = first_line or number + 1
        rows.append([_number(cell) for cell in cells])
    values = np.array(rows, dtype=np.float64)
    names = layout.names or ["wavelength", "flux", "error"][: values.shape[1]]
    comments = "\n".join(source.handle.splitlines()[: layout.first])
    read = {name: Column(values[:, i], name) for i, name in enumerate(names)}
    return read, {}, comments, first_line


def _has_names(source: Source) -> bool:
    """Whether the columns of a text are named."""
    if _is_ecsv(source.handle):
        return True
    layout = _layout(source.handle)
    return layout is not None and bool(layout.names)


def _number(cell: str) -> float:
    cell = cell.strip().strip('"')
    if cell.lower() in ("", "--", "null"):
        return float("nan")
    return float(cell.replace("D", "E").replace("d", "e"))
