"""FITS tables of spectra: a spectrum a table with a pixel a row, or a spectrum a row of arrays.

ESO Phase 3, CALSPEC, HST and JWST x1d, PypeIt's spec1d and coadds, SPARCL, and whatever has columns
of wavelength and flux; every table of a file is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.quantities import Column, Measured, card, positions_of, spectrum_of
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import (
    Part,
    ReadOptions,
    Source,
    Spectra,
    described,
    file_stem,
    header_of,
    spectra_of_parts,
)
from spectromer_cli.spectra.readers.records import PREFIX, is_product, meta_of
from spectromer_cli.spectra.spectrum import Spectrum, refuse_long

# PypeIt: optimal extraction before that of a box.
_PREFIXES = ("", PREFIX, "opt_", "box_")
# DEEP2's spec1d (DEIMOS) has its two halves by several extractions; its redshifts were measured in
# the first of these. Wavelengths are in air (Newman et al. 2013).
_EXTRACTIONS = ("bxspf", "horne", "optimal", "bxspf-nl", "horne-nl")
# A shorter table is a list of lines.
MIN_ROWS = 50


@dataclass
class _Table:
    """Columns of spectra: what is where, and whether each row is a spectrum."""

    places: dict[str, tuple[Any, str]]
    a_row_each: bool

    @property
    def hdu(self) -> Any:
        """The table of the flux."""
        return self.places["flux"][0]

    @property
    def names(self) -> dict[str, str]:
        """The columns by what they are."""
        return {role: name for role, (_, name) in self.places.items()}


def identify(source: Source) -> bool:
    """Whether a table has columns of wavelength and flux."""
    if source.kind != "fits":
        return False
    return bool(_tables(source.handle)) or _is_rest_frame(source.handle)


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra of all tables, each read on demand.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Air, and the unit where a table has none.

    Returns
    -------
    Spectra
        A row of arrays each, or a table each; arms of one object are joined.

    Raises
    ------
    ReadError
        If the wavelengths were shifted to the rest frame by a redshift that somebody chose, or
        a column has no name.
    """
    tables = _tables(source.handle)
    if not tables:
        raise ReadError(
            "these are PyQSOFit fits, with wavelengths shifted to the rest frame",
            "give the original spectrum",
        )
    for table in tables:
        _refuse_nameless(table)
    if len(tables) == 1 and tables[0].a_row_each:  # a table of millions needs no list
        table = tables[0]
        return Spectra(len(table.hdu.data), lambda row: _spectrum(source, table, row, options))
    tables, left_out = _one_extraction(tables)
    parts = []
    for table in tables:
        identity = next(
            (str(v).strip() for n in ("OBJECT", "SRCNAME", "SOURCEID", "NAME", "OBJID", "OBJNO",
              "TARGET")
             if (v := card(table.hdu.header, n)) is not None), "")  # fmt: skip
        rows = range(len(table.hdu.data)) if table.a_row_each else (0,)
        for row in rows:
            own = f"{identity} row {row}" if len(rows) > 1 else identity
            get = partial(_spectrum, source, table, row, options)
            parts.append(Part(table.hdu.name, own, get))
    return replace(spectra_of_parts(source, parts), left_out=left_out)


def _refuse_nameless(table: _Table) -> None:
    """Refuse what astropy cannot read, and where errors or a mask may have lost their name."""
    for number, column in enumerate(table.hdu.columns, 1):
        if not column.name:
            raise ReadError(
                f"column {number} of the table has no name",
                f"download the file again, or name the column in TTYPE{number}",
            )


def _extraction(hdu: Any) -> str:
    """How DEEP2 extracted the half that a table holds; empty for other tables."""
    how, _, half = hdu.name.strip().lower().rpartition("-")
    return how if half in ("b", "r") and how in _EXTRACTIONS else ""


def _one_extraction(tables: list[_Table]) -> tuple[list[_Table], str]:
    """The tables without further extractions of the same object, and how many these are."""
    how = {_extraction(table.hdu) for table in tables} - {""}
    if len(how) < 2:
        return tables, ""
    others = how - {min(how, key=_EXTRACTIONS.index)}
    kept = [table for table in tables if _extraction(table.hdu) not in others]
    return kept, f"{len(tables) - len(kept)} tables of other extractions"


def _tables(hdus: Any) -> list[_Table]:
    """The tables of spectra; if none is one, the columns of all of them together may be."""
    tables = [hdu for hdu in hdus if hasattr(hdu, "columns")]
    found = [table for hdu in tables if (table := _table([hdu])) is not None]
    whole = _table(tables) if not found and len(tables) > 1 else None
    return found if whole is None else [whole]


def _table(hdus: list[Any]) -> _Table | None:
    """What the columns of some tables make; None if it is no spectrum."""
    for a_row_each in (True, False):
        places = {
            column.name: hdu
            for hdu in reversed(hdus)
            for column in hdu.columns
            if column.name and (_many(column.format) or not a_row_each)
        }
        known = (columns.find_spectrum(places, prefix) for prefix in _PREFIXES)
        roles = next(filter(None, known), None)
        if roles is None:
            continue
        table = _Table({role: (places[name], name) for role, name in roles.items()}, a_row_each)
        rows = {hdu.header["NAXIS2"] for hdu, _ in table.places.values()}
        if len(rows) == 1 and _alike(table) and (a_row_each or not _is_list(table.hdu)):
            return table
    return None


def _is_list(hdu: Any) -> bool:
    """Whether a table is one of lines, or a catalogue: it is short, or has a position per row."""
    return (
        len(hdu.data) < MIN_ROWS or columns.find(hdu.columns.names, ("ra", "raj2000")) is not None
    )


def _alike(table: _Table) -> bool:
    """Whether wavelengths and fluxes are both numbers, or both arrays."""
    wavelength, flux = (
        str(hdu.columns[name].format)
        for hdu, name in (table.places["wavelength"], table.places["flux"])
    )
    return _many(wavelength) == _many(flux) and "A" not in wavelength + flux


def _many(fits_format: Any) -> bool:
    """Whether a FITS column holds an array a cell, and no text."""
    text = str(fits_format)
    if "P" in text or "Q" in text:
        return True
    digits = text.rstrip("ABCDEFGHIJKLMX")
    return "A" not in text and digits.isdigit() and int(digits) > 1


def _is_rest_frame(hdus: Any) -> bool:
    names = (n.lower() for hdu in hdus if hasattr(hdu, "columns") for n in hdu.columns.names)
    return "wave_prereduced" in names


def _spectrum(source: Source, table: _Table, row: int, options: ReadOptions) -> Spectrum:
    hdu = table.hdu
    header, comments = header_of(source.handle, hdu)
    found = {
        role: _column(own, name, row, table.a_row_each)
        for role, (own, name) in table.places.items()
    }
    names = (str(card(hdu.header, n) or "").strip() for n in ("SRCNAME", "NAME", "OBJNO"))
    own_name = next(filter(None, names), "") or file_stem(source)
    meta = {"survey": "", "object_id": own_name} | positions_of(header)
    product = False
    if table.a_row_each:
        record = {name: hdu.data[name][row] for name in hdu.columns.names}
        own = meta_of(record, source, row)
        if len(hdu.data) == 1 and own["object_id"] == f"{source.path.stem}[0]":
            own["object_id"] = own_name
        meta, product = meta | own, is_product(table.names, record)
    fluxed = str(card(header, "FLUXED")).strip().upper()  # PypeIt
    if fluxed in ("F", "FALSE"):
        found["flux"].unit = found["flux"].unit or "counts"
    return spectrum_of(
        Measured(
            wavelength=found["wavelength"],
            flux=found["flux"],
            error=found.get("error"),
            mask=found.get("mask"),
            good_is=columns.good_is(table.names.get("mask", ""), hdu.columns.names, header),
            header=header,
            comments=comments,
            medium="vacuum" if product else "",
            frame="heliocentric" if product else "",
            custom="air" if _extraction(hdu) else "vacuum",
            flux_is_known=product or fluxed in ("T", "TRUE"),
            line="pixel" if table.a_row_each else "row",
            meta=meta,
        ),
        air=options.air,
        unit=options.wavelength_unit,
    )


def _column(hdu: Any, name: str, row: int, a_row_each: bool) -> Column:
    if not a_row_each:
        refuse_long(hdu.header["NAXIS2"])
    values = hdu.data[name][row] if a_row_each else hdu.data[name]
    refuse_long(np.size(values))
    plain = name.lower()
    for prefix in _PREFIXES[1:]:
        plain = plain.removeprefix(prefix)
    return Column(
        np.asarray(values, np.float64).ravel(), plain, str(hdu.columns[name].unit or ""),
        described(hdu.header, hdu.columns.names.index(name) + 1),
    )  # fmt: skip
