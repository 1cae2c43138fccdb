"""Spectra in VOTables: one spectrum a table, or one a row whose cells are arrays.

Columns are known by name, by utype (IVOA Spectrum data model 1.1) or by UCD. Nothing is fetched.
"""

from __future__ import annotations

import io
import re
from math import prod
from typing import Any

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.readers.table import Table, spectrum_in
from spectromer_cli.spectra.spectrum import MAX_PIXELS, Spectrum


def is_votable(text: str) -> bool:
    """Whether a text is a VOTable."""
    return bool(re.search(r"<(\w+:)?VOTABLE\b", text[:4000]))


def identify(source: Source) -> bool:
    """Whether the file is a VOTable that holds wavelengths and fluxes."""
    if source.kind != "text" or not is_votable(source.handle):
        return False
    try:
        return bool(_spectra(source.handle))
    except ReadError:
        return True


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra of all tables.

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
        If the data lie elsewhere, or claim to be too large.
    """
    found = _spectra(source.handle)
    stem = source.path.name.split(".")[0]

    def get(row: int) -> Spectrum:
        name = f"{stem}[{row}]" if len(found) > 1 else ""
        return spectrum_in(found[row], source, options, name=name)

    return Spectra(len(found), get)


def tables_of(text: str) -> list[Any]:
    """The tables of a VOTable, with what its parameters say in their ``meta``.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of astropy Table

    Raises
    ------
    ReadError
        If the data lie in another file or on the network, or a cell claims to be too large.
    """
    import warnings

    from astropy.io.votable import parse

    if re.search(r"<(\w+:)?STREAM\b[^>]*\bhref\s*=", text, re.IGNORECASE):
        raise ReadError(
            "the data of the VOTable are elsewhere (STREAM href)", "download it with its data"
        )
    if "<!ENTITY" in text:
        raise ReadError("the VOTable defines XML entities", "download it again from its archive")
    for size in re.findall(r"\barraysize\s*=\s*[\"']([^\"']*)", text):
        if prod(int(axis) for axis in re.findall(r"\d+", size)) > MAX_PIXELS:
            raise ReadError(f"a column of the VOTable claims cells of {size[:40]} values")
    # So many rows would be allocated, whatever there are.
    text = re.sub(r"(<(?:\w+:)?TABLE\b[^>]*?)\s+nrows\s*=\s*([\"']).*?\2", r"\1", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units and dates out of standard do no harm here
        document = parse(io.BytesIO(text.encode()), verify="ignore")
        found = []
        for resource in _resources(document):
            said = {param.name: param.value for param in resource.params}
            said |= {info.name: info.value for info in resource.infos}
            for element in resource.tables:
                table = element.to_table(use_names_over_ids=True)
                table.meta |= said | {param.name: param.value for param in element.params}
                if resource.description:
                    table.meta.setdefault("description of the resource", resource.description)
                found.append(table)
    return found


def _resources(parent: Any) -> list[Any]:
    nested = [_resources(resource) for resource in parent.resources]
    return [*parent.resources, *(resource for part in nested for resource in part)]


def _spectra(text: str) -> list[Table]:
    found = []
    for table in tables_of(text):
        for part in Table.all_of_astropy(table):
            said = {name: column.description for name, column in part.columns.items()}
            roles = columns.find_spectrum(said) or columns.find_by_ucd(said)
            if roles:
                part.found = roles
                found.append(part)
    return found
