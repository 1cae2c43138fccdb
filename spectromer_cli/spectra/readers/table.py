"""Plain tables: wavelength, flux and, if there is one, an error or ivar; one spectrum a file.

CSV, ECSV and other text, FITS tables and Parquet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.spectrum import Spectrum, ivar_from_scatter

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
    values, units, first_line = _read_columns(source)
    found = columns.find_spectrum(list(values))
    if found is None:
        raise ReadError(
            f"{source.path} has no columns of wavelength and flux; it has {', '.join(values)}",
            "name them wavelength and flux",
        )
    name = found["wavelength"]
    wavelength = columns.vacuum_angstrom(values[name], name, units.get(name, ""), options)
    flux = values[found["flux"]]
    if "ivar" in found:
        ivar = values[found["ivar"]]
    elif "error" in found:
        ivar = columns.ivar_of(values[found["error"]])
    else:
        ivar = ivar_from_scatter(flux)
    if "mask" in found:
        ivar = np.where(values[found["mask"]] != 0, 0.0, ivar)
    keep = np.isfinite(wavelength)
    wavelength, flux, ivar = columns.increasing(
        wavelength[keep], flux[keep], ivar[keep], first_line=first_line, unit="line"
    )
    meta: dict[str, Any] = {
        "survey": "",
        "object_id": source.path.name.split(".")[0],
        "medium": "air" if options.air else "vacuum",
    }
    if "ivar" not in found and "error" not in found:
        meta["has_ivar"] = False
    spectrum = Spectrum(wavelength, flux, ivar, meta)
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


def _read_columns(source: Source) -> tuple[dict[str, np.ndarray], dict[str, str], int]:
    """Columns of float64 by name, units by name, and the number of the first row or line."""
    if source.kind == "fits":
        hdu = _fits_table(source)
        units = {column.name: str(column.unit or "") for column in hdu.columns}
        wanted = (columns.find_spectrum(hdu.columns.names) or {}).values()
        return {n: np.array(hdu.data[n], dtype=np.float64).ravel() for n in wanted}, units, 1
    if source.kind == "parquet":
        table = source.handle.read()
        wanted = (columns.find_spectrum(table.column_names) or {}).values()
        return {n: table[n].to_numpy().astype(np.float64) for n in wanted}, {}, 1
    if _is_ecsv(source.handle):
        return _read_ecsv(source)
    return _read_text(source)


def _is_ecsv(text: str) -> bool:
    return text.startswith("# %ECSV")


def _ecsv_names(text: str) -> list[str]:
    """The names of the columns: the first line behind the header of comments."""
    line = next((line for line in text.splitlines() if not line.startswith("#")), "")
    return [name.strip().strip("\"'") for name in line.replace(",", " ").split()]


def _read_ecsv(source: Source) -> tuple[dict[str, np.ndarray], dict[str, str], int]:
    from astropy.table import Table

    table = Table.read(source.handle.splitlines(), format="ascii.ecsv")
    numeric = [name for name in table.colnames if table[name].dtype.kind in "iufb"]
    values = {
        name: np.ma.filled(np.ma.asarray(table[name]).astype(np.float64), np.nan)
        for name in numeric
        if table[name].ndim == 1
    }
    units = {name: str(table[name].unit or "") for name in values}
    return values, units, 1


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


def _read_text(source: Source) -> tuple[dict[str, np.ndarray], dict[str, str], int]:
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
    return {name: values[:, i] for i, name in enumerate(names)}, {}, first_line


def _number(cell: str) -> float:
    cell = cell.strip().strip('"')
    if cell.lower() in ("", "--", "null"):
        return float("nan")
    return float(cell.replace("D", "E").replace("d", "e"))
