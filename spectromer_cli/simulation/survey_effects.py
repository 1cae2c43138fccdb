"""What a survey does to a spectrum: its window, its resolution, its calibration, its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spectromer_cli.simulation.spectral_physics import gaussian_line, smooth
from spectromer_cli.spectra.grid import Grid


@dataclass(frozen=True)
class Survey:
    """What a survey sees.

    Parameters
    ----------
    low, high : float
        Wavelength window in Å.
    resolution : float
        λ/FWHM.
    """

    low: float
    high: float
    resolution: float


# SDSS and BOSS: Smee et al. 2013 (AJ 146, 32); LAMOST: Zhao et al. 2012 (RAA 12, 723); DESI:
# Guy et al. 2023 (AJ 165, 144), of R = 2000 to 5500 the middle; FORS2 with its grism 300I: the
# instrument's manual; MILES: Falcón-Barroso et al. 2011 (A&A 532, A95), 2.5 Å at 5500 Å.
SURVEYS = {
    "SDSS": Survey(3800.0, 9200.0, 2000.0),
    "BOSS": Survey(3600.0, 10400.0, 2000.0),
    "LAMOST": Survey(3690.0, 9100.0, 1800.0),
    "DESI": Survey(3600.0, 9824.0, 3500.0),
    "FORS2": Survey(4500.0, 9500.0, 660.0),
    "MILES": Survey(3600.0, 7410.0, 2200.0),
}
# Templates come mostly from SDSS: what resolves more than they do cannot be shown.
TEMPLATE_RESOLUTION = 2000.0
# Sky lines that stay strong after subtraction, in Å: [O I], Na D, and OH beyond 7200 Å.
SKY_LINES = (5578.9, 5891.6, 6302.0, 6365.5)
SIGMA_PER_FWHM = 1.0 / np.sqrt(8.0 * np.log(2.0))


def window(rng: np.random.Generator, grid: Grid, survey: Survey | None = None) -> np.ndarray:
    """The pixels that a survey sees, or any of them: bool array, shape (grid.n,)."""
    survey = survey or list(SURVEYS.values())[rng.integers(len(SURVEYS))]
    # Edges vary from fibre to fibre; now and then a red or blue end is lost.
    lost = rng.random(2) * 0.02 + np.where(rng.random(2) < 0.15, 0.2 * rng.random(2), 0.0)
    low, high = survey.low * (1.0 + lost[0]), survey.high * (1.0 - lost[1])
    return (grid.wavelength >= low) & (grid.wavelength <= high)


def blur(flux: np.ndarray, survey: Survey, grid: Grid) -> np.ndarray:
    """Bring a spectrum of the templates' resolution to the survey's, if that is lower."""
    square = survey.resolution**-2 - TEMPLATE_RESOLUTION**-2
    if square <= 0:
        return flux
    return smooth(flux, np.sqrt(square) * SIGMA_PER_FWHM / (np.log(10.0) * grid.dloglam))


def warp(rng: np.random.Generator, grid: Grid, size: float) -> np.ndarray:
    """A smooth error of the flux calibration, and now and then a step at the dichroic.

    Parameters
    ----------
    rng : numpy.random.Generator
    grid : Grid
    size : float
        RMS of the logarithm of the factor.

    Returns
    -------
    array, shape (grid.n,)
        Positive factor.
    """
    x = np.linspace(-1.0, 1.0, grid.n)
    log_factor = np.zeros(grid.n)
    for order, phase in enumerate(rng.uniform(0.0, 2.0 * np.pi, 3), start=1):
        log_factor += rng.normal(0.0, size / order) * np.cos(order * np.pi * x / 2.0 + phase)
    if rng.random() < 0.2:
        dichroic = rng.uniform(5750.0, 6150.0)
        log_factor += rng.normal(0.0, 0.06) * np.tanh((grid.wavelength - dichroic) / 60.0)
    return np.exp(log_factor)


def noise_shape(
    rng: np.random.Generator, flux: np.ndarray, seen: np.ndarray, grid: Grid
) -> np.ndarray:
    """The error of every pixel in any unit: sky, throughput and the object's own light.

    Parameters
    ----------
    rng : numpy.random.Generator
    flux : array, shape (grid.n,)
        What the object sends.
    seen : bool array, shape (grid.n,)
        Pixels in the survey's window.
    grid : Grid

    Returns
    -------
    array, shape (grid.n,)
    """
    wavelength = grid.wavelength
    first, last = np.flatnonzero(seen)[[0, -1]]
    # Optics lose light towards both ends; the sky adds lines, ever more beyond 7200 Å.
    place = np.clip((np.arange(grid.n) - first) / (last - first), 0.0, 1.0)
    throughput = 0.15 + np.sqrt(np.clip(place * (1.0 - place), 0.0, None)) * 2.0
    sky = 1.0 + 0.5 * (wavelength / 6000.0) ** 3
    for line in SKY_LINES:
        sky += gaussian_line(wavelength, line, 1.5e-4, 1.0) * rng.uniform(5.0, 60.0)
    forest = np.clip((wavelength - 7200.0) / 1500.0, 0.0, 1.5)
    sky += forest * rng.gamma(0.3, 6.0, grid.n)
    own = np.clip(flux, 0.0, None) / (np.median(np.abs(flux[seen])) + 1e-9)
    return np.sqrt(sky + rng.exponential(1.0) * own) / throughput
