"""Spectra, templates and importance as short texts that the page unpacks when they are wanted.

Fluxes and errors are half-precision numbers in units of the median level: 11 significant bits
(0.05 %) at every brightness, half the size of what the surveys ship.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError

if TYPE_CHECKING:
    from spectromer_cli.model.template_fit import Basis
    from spectromer_cli.spectra.spectrum import Spectrum

# In units of the median level, below the largest half-precision number, 65504.
MAX_LEVELS = 6e4
# Pixels that are evenly spaced within this share of one need no list of wavelengths.
EVEN_ENOUGH = 0.05
# The band below the plot is some hundred screen pixels wide.
IMPORTANCE_BINS = 400


def pack_spectrum(spectrum: Spectrum) -> dict[str, Any]:
    """Pack a spectrum for the page.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    dict
        For JSON: ``n``, the ``level`` (median \\|flux\\|, in the file's unit), the wavelength
        ``axis``, and base64 of little-endian half-precision ``flux`` and ``sigma`` in units
        of the level; sigma is 0 at bad pixels.

    Raises
    ------
    ReadError
        If there is nothing to draw.
    """
    good = spectrum.good
    if not good.any():
        raise ReadError("every pixel is masked, zero or not a number")
    level = float(np.median(np.abs(spectrum.flux[good])))
    if not level > 0:
        raise ReadError("the flux is zero throughout")
    flux = spectrum.flux / level
    good = good & (np.abs(flux) < MAX_LEVELS)
    sigma = np.zeros(flux.size)
    # An error too small for the format is shown as the smallest: zero would mean a bad pixel.
    sigma[good] = np.clip(spectrum.ivar[good] ** -0.5 / level, 1e-7, MAX_LEVELS)
    return {
        "n": flux.size,
        "level": level,
        "axis": _axis(spectrum.wavelength),
        "flux": _base64(np.where(good, flux, 0.0), "<f2"),
        "sigma": _base64(sigma, "<f2"),
    }


def pack_templates(bases: dict[str, Basis], dloglam: float) -> dict[str, Any]:
    """Pack the rest-frame templates, which the page fits itself at any redshift.

    Pixels that fits may not use are NaN.

    Parameters
    ----------
    bases : dict of str to Basis
        By class.
    dloglam : float
        Their step in log10 λ.
    """
    return {
        name: {
            "loglam0": basis.loglam0,
            "dloglam": dloglam,
            "count": len(basis.vectors),
            "data": _base64(np.where(basis.learned, basis.vectors, np.nan), "<f4"),
        }
        for name, basis in bases.items()
    }


def pack_importance(wavelength: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """Pack what the model looked at, which is shown as a band below the spectrum.

    Parameters
    ----------
    wavelength : array, shape (n,)
        Observed vacuum wavelength in Å, increasing.
    values : array, shape (n,)
        In any unit; below zero where a region speaks against the prediction.

    Returns
    -------
    dict
        Means over bins even in log λ, as signed bytes with the strongest bin at ±127.
    """
    loglam = np.log10(wavelength)
    edges = np.linspace(loglam[0], loglam[-1], IMPORTANCE_BINS + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    place = np.clip(np.digitize(loglam, edges) - 1, 0, IMPORTANCE_BINS - 1)
    number = np.bincount(place, minlength=IMPORTANCE_BINS)
    total = np.bincount(place, values, IMPORTANCE_BINS)
    mean = np.interp(middle, loglam, values)  # where a bin has no sample
    mean[number > 0] = total[number > 0] / number[number > 0]
    strongest = float(np.abs(mean).max()) or 1.0
    return {
        "first": float(edges[0]),
        "step": float(edges[1] - edges[0]),
        "data": _base64(np.round(127.0 * mean / strongest), "i1"),
    }


def _axis(wavelength: np.ndarray) -> dict[str, Any]:
    """First value and step where the pixels are even in log10 λ or in λ; else every one."""
    for kind, values in (("log", np.log10(wavelength)), ("linear", wavelength)):
        step = (values[-1] - values[0]) / (values.size - 1)
        even = values[0] + step * np.arange(values.size)
        if np.abs(values - even).max() < EVEN_ENOUGH * step:
            return {"kind": kind, "first": float(values[0]), "step": float(step)}
    return {"kind": "listed", "data": _base64(wavelength, "<f4")}


def _base64(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")
