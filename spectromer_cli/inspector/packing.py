"""Spectra, templates and importance as short texts that the page unpacks when they are wanted.

A flux is kept to a sixteenth of the smallest errors, an error to a half percent: what is lost adds
less than a thousandth to χ². Such whole numbers, each as its difference from the one before, are
deflated (RFC 1950), to a quarter of what the numbers themselves would take.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError

if TYPE_CHECKING:
    from spectromer_cli.model.template_fit import Basis
    from spectromer_cli.spectra.spectrum import Spectrum

# In units of the median level; what is beyond is a bad pixel.
MAX_LEVELS = 6e4
# A step of the flux in units of the errors that a tenth of the pixels are below, and its least in
# units of the level: MAX_LEVELS of these are whole numbers of 32 bits.
FLUX_STEP, LEAST_FLUX_STEP = 1 / 16, 4e-5
# A step of ln σ, from the smallest error that is told from none, in units of the level.
SIGMA_STEP, LEAST_SIGMA = 0.01, 1e-7
# Pixels that are evenly spaced within this share of one need no list of wavelengths.
EVEN_ENOUGH = 0.05
# Wavelengths that are listed are kept to this share of the smallest step between pixels.
WAVELENGTH_STEP = 0.005
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
        ``axis``, and the packed ``flux`` (whole numbers of ``step``, in units of the level) and
        ``sigma`` (0 at bad pixels, else 1 + ln(σ / LEAST_SIGMA) in steps of SIGMA_STEP).

    Raises
    ------
    ReadError
        If there is nothing to draw.
    """
    good = spectrum.good
    if not good.any():
        raise ReadError("every pixel is masked, zero or NaN")
    level = float(np.median(np.abs(spectrum.flux[good])))
    if not level > 0:
        raise ReadError("the flux is zero everywhere")
    flux = spectrum.flux / level
    good = good & (np.abs(flux) < MAX_LEVELS)
    # An error too small for the format is shown as the smallest: zero would mean a bad pixel.
    sigma = np.clip(spectrum.ivar[good] ** -0.5 / level, LEAST_SIGMA, MAX_LEVELS)
    step = max(FLUX_STEP * float(np.quantile(sigma, 0.1)), LEAST_FLUX_STEP)
    steps, logs = np.zeros(flux.size), np.zeros(flux.size)
    steps[good] = np.round(flux[good] / step)
    logs[good] = 1.0 + np.round(np.log(sigma / LEAST_SIGMA) / SIGMA_STEP)
    return {
        "n": flux.size,
        "level": level,
        "axis": _axis(spectrum.wavelength),
        "step": step,
        "flux": _deflated(steps),
        "sigma": _deflated(logs),
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
        first, step = float(values[0]), float(values[-1] - values[0]) / max(len(values) - 1, 1)
        even = first + step * np.arange(len(values))
        if step > 0 and np.abs(values - even).max() < EVEN_ENOUGH * step:
            return {"kind": kind, "first": first, "step": step}
    smallest = np.diff(wavelength).min() if len(wavelength) > 1 else 1.0
    # A float64 has no more than 53 bits, a whole number here 31.
    step = max(WAVELENGTH_STEP * float(smallest), float(np.ptp(wavelength)) / 2**30, 1e-7)
    whole = np.round((wavelength - wavelength[0]) / step)
    return {"kind": "listed", "first": float(wavelength[0]), "step": step,
            "data": _deflated(np.diff(whole, prepend=0))}  # fmt: skip


def _deflated(values: np.ndarray) -> str:
    """Whole numbers of 32 bits as differences, the lowest bytes of all before the next ones."""
    whole = values.astype(np.int64)
    differences = np.diff(whole, prepend=0).astype("<i4")  # modulo 2³², as they are summed again
    planes = differences.view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def _base64(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")
