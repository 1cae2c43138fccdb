"""Last resort: whatever specutils reads, where it is installed (an extra)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from spectromer_cli.spectra.objects import measured_of
from spectromer_cli.spectra.quantities import spectrum_of
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.spectrum import Spectrum


def identify(source: Source) -> bool:
    """Whether specutils is installed and makes a spectrum of the file.

    It has to be tried: one of its formats claims every FITS table.
    """
    if source.kind != "fits" or find_spec("specutils") is None:
        return False
    return bool(_read(source, ReadOptions()))


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give what specutils reads, with its spectral axis as vacuum wavelengths in Å.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Whether wavelengths are in air; specutils does not say.

    Returns
    -------
    Spectra
    """
    spectra = _read(source, options)
    return Spectra(len(spectra), spectra.__getitem__)


def _read(source: Source, options: ReadOptions) -> list[Spectrum]:
    """The spectra that the first format which works gives; none if none does."""
    for name in _formats(source):
        try:
            spectra = _read_as(source, name, options)
        except Exception:  # its readers raise whatever comes up: the next one
            continue
        if spectra:
            return spectra
    return []


def _formats(source: Source) -> list[str]:
    """The formats of specutils that the file may have, without guesses from its name."""
    import specutils
    from astropy.io import registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [
            name
            for kind in (specutils.Spectrum, specutils.SpectrumList)
            for name in registry.identify_format(
                "read", kind, str(source.path), None, [str(source.path)], {}
            )
        ]
    return list(dict.fromkeys(found))


def _read_as(source: Source, name: str, options: ReadOptions) -> list[Spectrum]:
    import specutils

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parts = [specutils.Spectrum.read(str(source.path), format=name)]
        except Exception:  # some formats are read as lists only
            parts = list(specutils.SpectrumList.read(str(source.path), format=name))
        return [spectrum for part in parts for spectrum in _convert(part, source, options)]


def _convert(part: Any, source: Source, options: ReadOptions) -> list[Spectrum]:
    name = {"object_id": source.path.name.split(".")[0]}
    return [
        spectrum_of(replace(measured, meta=measured.meta | name), air=options.air)
        for measured in measured_of(part)
    ]
