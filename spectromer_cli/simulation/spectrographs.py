"""What other spectrographs than those of the large surveys make of a spectrum.

Windows, resolution and sampling, flux calibration, errors: each is a function of its parameters,
and `taken_elsewhere` draws them at random over what optical spectrographs have, so that a model
learns to rely on none of them.
"""

from __future__ import annotations

import numpy as np

from spectromer_cli.simulation.spectral_physics import smooth
from spectromer_cli.simulation.survey_effects import SIGMA_PER_FWHM, TEMPLATE_RESOLUTION
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.spectrum import ivar_from_scatter

# Wavelength windows [Å]: blue and red arms, grisms, integral-field units.
WINDOWS = (
    (3500.0, 5600.0), (3700.0, 7000.0), (3700.0, 7500.0), (3300.0, 8000.0), (4000.0, 9000.0),
    (4750.0, 9350.0), (5000.0, 9800.0), (5500.0, 10000.0), (6200.0, 9000.0), (6300.0, 10400.0),
    (5300.0, 10200.0), (4200.0, 6900.0),
)  # fmt: skip
# So many pixels have to remain.
MIN_PIXELS = 700
# Throughput far from its maximum, of that there.
LEAST_THROUGHPUT = 0.05
# Absorption by the atmosphere that nobody corrected [Å]: from, to, greatest depth. O₂ and H₂O,
# after Hinkle, Wallace & Livingston 2003 (BAAS 35, 1260).
TELLURIC = (
    (6868.0, 6930.0, 0.4), (7165.0, 7340.0, 0.25), (7594.0, 7700.0, 0.8), (8130.0, 8345.0, 0.25),
    (8940.0, 9240.0, 0.4), (9280.0, 9800.0, 0.6),
)  # fmt: skip


def taken_elsewhere(
    rng: np.random.Generator, flux: np.ndarray, ivar: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """The spectrum as some other spectrograph might have taken it.

    Parameters
    ----------
    rng : numpy.random.Generator
    flux, ivar : array, shape (grid.n,)
        With noise; ivar is 0 where there is no pixel.
    grid : Grid

    Returns
    -------
    flux, ivar : array of float32, shape (grid.n,)
    """
    flux, ivar = flux.astype(np.float64), ivar.astype(np.float64)
    if rng.random() < 0.6:
        seen = _any_window(rng, grid)
        if (ivar[seen] > 0).sum() > MIN_PIXELS:
            ivar = np.where(seen, ivar, 0.0)
    if rng.random() < 0.6:
        resolution = np.exp(rng.uniform(np.log(80.0), np.log(2500.0)))
        per_element = rng.uniform(1.5, 4.0)
        flux, ivar = lower_resolution(rng, flux, ivar, grid, resolution, per_element)
    if rng.random() < 0.7:
        factor = _any_calibration(rng, flux, ivar, grid)
        flux, ivar = flux * factor, ivar / factor**2
    flux, ivar = _any_errors(rng, flux, ivar)
    return flux.astype(np.float32), ivar.astype(np.float32)


# --- one change at a time --------------------------------------------------------------------


def window(grid: Grid, low: float, high: float) -> np.ndarray:
    """The pixels from `low` to `high` Å: bool array, shape (grid.n,)."""
    return (grid.wavelength >= low) & (grid.wavelength <= high)


def lower_resolution(
    rng: np.random.Generator,
    flux: np.ndarray,
    ivar: np.ndarray,
    grid: Grid,
    resolution: float,
    per_element: float = 2.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower resolution and wider pixels, brought back onto the grid as readers do it.

    Parameters
    ----------
    rng : numpy.random.Generator
    flux, ivar : array, shape (grid.n,)
    grid : Grid
    resolution : float
        λ/FWHM.
    per_element : float
        Pixels per resolution element (FWHM).

    Returns
    -------
    flux, ivar : array, shape (grid.n,)
        With as much noise per wavelength as before: a spectrograph blurs the light only.
    """
    good = ivar > 0
    per_pixel = np.log(10.0) * grid.dloglam
    square = resolution**-2 - TEMPLATE_RESOLUTION**-2
    if square > 0:
        sigma = np.sqrt(square) * SIGMA_PER_FWHM / per_pixel
        flux = np.where(good, smooth(np.where(good, flux, np.nan), sigma), 0.0)
        flux = flux + _what_smoothing_took(rng, ivar, sigma)
    width = int(np.clip(round(1.0 / (resolution * per_element * per_pixel)), 1, 40))
    if width < 2:
        return flux, ivar
    offset = int(rng.integers(width))
    block = (np.arange(grid.n) + offset) // width
    count = np.bincount(block)
    number = np.bincount(block, good)
    mean = np.bincount(block, np.where(good, flux, 0.0)) / np.maximum(number, 1)
    variance = np.bincount(block, np.where(good, 1.0 / np.where(good, ivar, 1.0), 0.0))
    information = number**2 / np.where(number > 0, variance, 1.0)
    usable = number > 0.5 * count
    centre = np.bincount(block, np.arange(grid.n)) / count
    if usable.sum() < 2:
        return flux, ivar
    line = np.interp(np.arange(grid.n), centre[usable], mean[usable])
    return np.where(usable[block], line, 0.0), np.where(usable, information / count, 0.0)[block]


def slope(grid: Grid, power: float) -> np.ndarray:
    """A wrong slope of the flux calibration, (λ / 6000 Å)^power: factor, shape (grid.n,)."""
    return (grid.wavelength / 6000.0) ** power


def ripple(grid: Grid, amplitude: float, period: float, phase: float = 0.0) -> np.ndarray:
    """Fringes, or a flat field's waves of a period in Å: factor, shape (grid.n,)."""
    return 1.0 + amplitude * np.sin(2.0 * np.pi * grid.wavelength / period + phase)


def arm_step(grid: Grid, border: float, ratio: float) -> np.ndarray:
    """The arm redward of a border in Å, too bright by a ratio: factor, shape (grid.n,)."""
    return np.where(grid.wavelength < border, 1.0, ratio)


def response(grid: Grid, peak: float, width: float) -> np.ndarray:
    """The throughput that counts still hold: a bell of σ `width` Å about `peak` Å.

    Returns
    -------
    array, shape (grid.n,)
        Factor; `LEAST_THROUGHPUT` far from the peak.
    """
    return LEAST_THROUGHPUT + np.exp(-0.5 * ((grid.wavelength - peak) / width) ** 2)


def telluric(rng: np.random.Generator, grid: Grid, strength: float) -> np.ndarray:
    """Absorption by the atmosphere, ragged as its bands are: factor, shape (grid.n,).

    A `strength` of 1 has the depths of `TELLURIC`.
    """
    factor = np.ones(grid.n)
    ragged = np.convolve(rng.uniform(0.3, 1.0, grid.n + 4), np.ones(5) / 5.0, mode="valid")
    for first, last, depth in TELLURIC:
        inside = (grid.wavelength > first) & (grid.wavelength < last)
        factor[inside] *= 1.0 - np.clip(strength * depth * ragged[inside], 0.0, 0.95)
    return factor


def over_continuum(flux: np.ndarray, ivar: np.ndarray, sigma: float) -> np.ndarray:
    """The factor, shape (n,), that divides by the continuum: a mean over σ of `sigma` pixels."""
    good = np.flatnonzero(ivar > 0)
    filled = np.interp(np.arange(len(flux)), good, flux[good])
    continuum = smooth(filled, sigma)
    floor = 0.1 * np.median(np.abs(flux[good]))
    return 1.0 / np.maximum(np.abs(continuum), floor if floor > 0 else 1.0)


def error_floor(flux: np.ndarray, ivar: np.ndarray, share: float) -> np.ndarray:
    """The inverse variance with a share of the median level added to the errors, in squares."""
    good = ivar > 0
    median = np.median(np.abs(flux[good])) if good.any() else 0.0
    variance = np.where(good, 1.0 / np.where(good, ivar, 1.0), 0.0)
    floor = np.where(good, variance + (share * median) ** 2, 1.0)
    return np.where(good, 1.0 / floor, 0.0)


def errors_of_scatter(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """The inverse variance as readers estimate it where a file has no errors."""
    good = ivar > 0
    return np.where(good, ivar_from_scatter(np.where(good, flux, np.nan)), 0.0)


# --- drawn at random ------------------------------------------------------------------------


def _what_smoothing_took(rng: np.random.Generator, ivar: np.ndarray, sigma: float) -> np.ndarray:
    """Noise with the power that a smoothing over `sigma` pixels took from that of the pixels."""
    good = ivar > 0
    error = np.where(good, 1.0 / np.sqrt(np.where(good, ivar, 1.0)), 0.0)
    spectrum = np.fft.rfft(rng.normal(size=len(ivar)))
    # A Gaussian's transfer function; what is left of the power is its square.
    kept = np.exp(-2.0 * (np.pi * sigma * np.fft.rfftfreq(len(ivar))) ** 2)
    return error * np.fft.irfft(spectrum * np.sqrt(1.0 - kept**2), len(ivar))


def _any_window(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """The pixels of one arm, of a random range, or of two arms with a gap between."""
    if rng.random() < 0.5:
        low, high = WINDOWS[rng.integers(len(WINDOWS))]
        low, high = low * rng.uniform(0.97, 1.03), high * rng.uniform(0.97, 1.03)
    else:
        width = np.exp(rng.uniform(np.log(1.3), np.log(3.0)))
        low = np.exp(rng.uniform(np.log(3300.0), np.log(10400.0 / width)))
        high = low * width
    seen = window(grid, low, high)
    if rng.random() < 0.25:
        middle, half = rng.uniform(low, high), rng.uniform(20.0, 250.0)
        seen &= ~window(grid, middle - half, middle + half)
    return seen


def _any_calibration(
    rng: np.random.Generator, flux: np.ndarray, ivar: np.ndarray, grid: Grid
) -> np.ndarray:
    """A factor, shape (grid.n,): what is wrong with the flux calibration, or that there is none."""
    factor = np.ones(grid.n)
    good = np.flatnonzero(ivar > 0)
    if rng.random() < 0.35:
        factor *= slope(grid, rng.uniform(-2.0, 2.0))
    if rng.random() < 0.25:
        period, phase = rng.uniform(150.0, 900.0), rng.uniform(0.0, 2.0 * np.pi)
        factor *= ripple(grid, rng.uniform(0.0, 0.1), period, phase)
    if rng.random() < 0.2:
        factor *= arm_step(grid, rng.uniform(4500.0, 8000.0), rng.uniform(0.8, 1.3))
    if rng.random() < 0.25:
        factor *= telluric(rng, grid, rng.uniform(0.2, 1.2))
    kind = rng.random()
    if kind < 0.12 and good.size:
        low, high = grid.wavelength[good[0]], grid.wavelength[good[-1]]
        peak, width = rng.uniform(low, high), rng.uniform(0.25, 0.8) * (high - low)
        factor *= response(grid, peak, width)
    elif kind < 0.2 and good.size:
        factor *= over_continuum(flux, ivar, rng.uniform(80.0, 300.0))
    return factor


def _any_errors(
    rng: np.random.Generator, flux: np.ndarray, ivar: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors that are estimated from the scatter, too large or too small, or have a floor."""
    pick = rng.random()
    if pick < 0.35:
        ivar = errors_of_scatter(flux, ivar)
    elif pick < 0.55:
        ivar = ivar * np.exp(rng.normal(0.0, 0.7)) ** 2
    if rng.random() < 0.2:
        ivar = error_floor(flux, ivar, rng.uniform(0.0, 0.06))
    return flux, ivar
