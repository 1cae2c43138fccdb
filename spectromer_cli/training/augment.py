"""Changes to a spectrum that keep its labels true, or change them along with it."""

from __future__ import annotations

import numpy as np

from spectromer_cli.simulation.spectrographs import taken_elsewhere
from spectromer_cli.simulation.survey_effects import warp, window
from spectromer_cli.spectra.grid import Grid, level


def shift(flux: np.ndarray, ivar: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Move a spectrum redwards by whole pixels; what comes in from outside is bad.

    ln(1 + z) grows by ``pixels · dloglam · ln 10``.
    """
    if pixels == 0:
        return flux, ivar
    moved_flux, moved_ivar = np.zeros_like(flux), np.zeros_like(ivar)
    if pixels > 0:
        moved_flux[pixels:], moved_ivar[pixels:] = flux[:-pixels], ivar[:-pixels]
    else:
        moved_flux[:pixels], moved_ivar[:pixels] = flux[-pixels:], ivar[-pixels:]
    return moved_flux, moved_ivar


def add_noise(
    rng: np.random.Generator, flux: np.ndarray, ivar: np.ndarray, times: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add Gaussian noise of `times` the spectrum's own error to every good pixel."""
    good = ivar > 0
    error = np.zeros_like(flux)
    error[good] = times / np.sqrt(ivar[good])
    return flux + rng.normal(size=flux.size).astype(flux.dtype) * error, ivar / (1.0 + times**2)


def real(
    rng: np.random.Generator,
    flux: np.ndarray,
    ivar: np.ndarray,
    z: float,
    is_star: bool,
    grid: Grid,
    elsewhere: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, float]:
    """A real spectrum as it might also have been taken.

    Parameters
    ----------
    rng : numpy.random.Generator
    flux, ivar : array of float32, shape (grid.n,)
        Prepared spectrum.
    z : float
        Its redshift; NaN if unknown.
    is_star : bool
        Stars move by radial velocities only.
    grid : Grid
    elsewhere : float
        The chance that it is changed as another spectrograph would have taken it.

    Returns
    -------
    flux, ivar : array of float32, shape (grid.n,)
    z : float
        The redshift after the shift.
    """
    per_pixel = grid.dloglam * np.log(10.0)
    pixels = 0
    if is_star:
        pixels = int(rng.integers(-5, 6))
    elif np.isfinite(z) and rng.random() < 0.7:
        # Not below z = 0.001.
        least = int(np.ceil((np.log(1.001) - np.log1p(z)) / per_pixel))
        pixels = int(rng.integers(max(-500, min(least, 0)), 501))
    good_before = int((ivar > 0).sum())
    flux, ivar = shift(flux, ivar, pixels)
    z = float(np.expm1(np.log1p(z) + pixels * per_pixel))
    if rng.random() < 0.3:
        seen = window(rng, grid)
        if (ivar[seen] > 0).sum() > max(grid.n // 4, good_before // 2):
            ivar = np.where(seen, ivar, 0.0)
    if rng.random() < 0.5:
        flux, ivar = add_noise(rng, flux, ivar, np.exp(rng.uniform(np.log(0.3), np.log(6.0))))
    if rng.random() < 0.7:
        # A star's continuum tells its type: a strong warp would make the label untrue.
        factor = warp(rng, grid, 0.05 if is_star else 0.12).astype(np.float32)
        flux, ivar = flux * factor, ivar / factor**2
    if rng.random() < elsewhere:
        flux, ivar = taken_elsewhere(rng, flux, ivar, grid)
    good = ivar > 0
    scale = level(flux[good]) or 1.0
    flux = np.where(good, flux / scale, 0.0).astype(np.float32)
    return flux, np.minimum(ivar * scale**2, 1e8).astype(np.float32), z
