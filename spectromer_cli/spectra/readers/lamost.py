"""LAMOST low-resolution spectra, in the three layouts that its data releases have had.

All are coadds in vacuum wavelengths, heliocentric, their flux calibrated relatively only.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from spectromer_cli.errors import NotASpectrum
from spectromer_cli.spectra.readers.base import (
    ReadOptions,
    Source,
    Spectra,
    damaged_headers_named,
)
from spectromer_cli.spectra.spectrum import Spectrum

# What LAMOST writes where it knows nothing.
_MISSING = -9999.0


# --- which layout -------------------------------------------------------------------------


def identify(source: Source) -> bool:
    """Whether the file has the structure of a LAMOST spectrum, of low or medium resolution."""
    return source.kind == "fits" and any(
        is_layout(source.handle) for is_layout in (_is_image, _is_table, _is_medium_resolution)
    )


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the one spectrum of the file.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Not needed here: the files say everything themselves.

    Returns
    -------
    Spectra

    Raises
    ------
    NotASpectrum
        For a medium-resolution file.
    KeyError, IndexError, ValueError, TypeError
        If the spectrum is broken; `open_spectra` says so in words.
    """
    hdus = source.handle
    if _is_medium_resolution(hdus):
        raise NotASpectrum(
            f"{source.path} is a LAMOST medium-resolution file, which covers too little "
            "(4950-5350 and 6300-6800 Å)",
            "use the low-resolution spectrum of the object, if there is one",
        )
    with damaged_headers_named():
        spectrum = _from_image(hdus) if _is_image(hdus) else _from_table(hdus)
    return Spectra(1, lambda row: spectrum)


def _is_image(hdus: Any) -> bool:
    shape: tuple[int, ...] = getattr(hdus[0], "shape", ())
    return len(shape) == 2 and shape[0] == 5 and "LMJD" in hdus[0].header


def _is_table(hdus: Any) -> bool:
    try:
        names = set(hdus[1].columns.names) if len(hdus) > 1 else set()
    except Exception:  # an image, or one of astropy's dozen ways to fail on a broken header
        return False
    return {"FLUX", "IVAR", "WAVELENGTH", "ANDMASK"} <= names


def _is_medium_resolution(hdus: Any) -> bool:
    # Coadds of the blue and the red arm, then the single exposures, by local modified minute.
    arm = re.compile(r"COADD_[BR]|[BR]-\d+")
    try:
        return "LMJD" in hdus[0].header and any(arm.fullmatch(hdu.name) for hdu in hdus[1:])
    except Exception:  # a name that cannot be read
        return False


# --- the layouts --------------------------------------------------------------------------


def _from_image(hdus: Any) -> Spectrum:
    """Rows: flux, inverse variance, wavelength, AND mask, OR mask.

    Before DR2 the third row was the flux over the continuum, and only the header knew the
    wavelengths. The files do not always say which: a wavelength row increases strictly.
    """
    header = hdus[0].header
    flux, ivar, third, and_mask = np.asarray(hdus[0].data[:4], dtype=np.float64)
    if np.all(np.diff(third) > 0):
        wavelength = third
    else:
        exponent = float(header["COEFF0"]) + float(header["COEFF1"]) * np.arange(flux.size)
        wavelength = 10.0**exponent
    return _spectrum(wavelength, flux, ivar, and_mask, header)


def _from_table(hdus: Any) -> Spectrum:
    """One row, each cell a whole vector."""
    table = hdus[1].data
    wavelength, flux, ivar, and_mask = (
        np.asarray(table[name][0], dtype=np.float64)
        for name in ("WAVELENGTH", "FLUX", "IVAR", "ANDMASK")
    )
    return _spectrum(wavelength, flux, ivar, and_mask, hdus[0].header)


def _spectrum(
    wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray, and_mask: np.ndarray, header: Any
) -> Spectrum:
    """Fold the AND mask and the dead edges into `ivar`; all arrays have shape (n,)."""
    # Half of the files end in pixels of flux 0 that have an error and no mask bit.
    alive = np.flatnonzero(flux)
    dead = np.ones(flux.shape, dtype=bool)
    if alive.size:
        dead[alive[0] : alive[-1] + 1] = False
    return Spectrum(wavelength, flux, np.where(dead | (and_mask != 0), 0.0, ivar), _meta(header))


# --- what the header says about the object ------------------------------------------------


def _meta(header: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"survey": "LAMOST", "object_id": _place(header), "medium": "vacuum"}
    obsid = _number(header, "OBSID")
    if obsid is not None:
        meta["obsid"] = int(obsid)
        meta["object_id"] = str(meta["obsid"])
    for name in ("ra", "dec"):
        value = _number(header, name)
        if value is not None:
            meta[name] = value
    for name in ("class", "subclass"):
        if name.upper() in header:
            text = str(header[name.upper()]).strip()
            meta[f"survey_{name}"] = "" if text in ("Unknown", "UNKNOWN", "Non") else text
    if "Z" in header:
        z = _number(header, "Z")
        meta["survey_z"] = None if z == _MISSING else z
    return meta


def _number(header: Any, name: str) -> float | None:
    """A number of the header; None if it is not there or is none: the spectrum is still good."""
    try:
        return float(header[name.upper()])
    except (KeyError, ValueError, TypeError):
        return None


def _place(header: Any) -> str:
    """Night, plan, spectrograph and fibre, as the files are named: the first files had no OBSID."""
    # FIBERID is a number in some releases and a string in others.
    spectrograph, fibre = str(header.get("SPID", "")), str(header.get("FIBERID", ""))
    night, plan = header.get("LMJD", ""), header.get("PLANID", "")
    return f"{night}-{plan}-{spectrograph.strip():0>2}-{fibre.strip():0>3}"
