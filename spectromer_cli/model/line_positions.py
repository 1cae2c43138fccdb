"""Whether the lines of a spectrum agree on one redshift: blue, middle and red apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from spectromer_cli.spectra.grid import Grid, Prepared

# Number of parts of equal size that the measured pixels are cut into.
PARTS = 3
# Pixels that are taken together, and how many of these a part may be shifted by: ± 4100 km/s, more
# than 50 Å at 4000 Å.
BIN, REACH = 3, 20
# The continuum is a running mean over ± so many bins, ± 6800 km/s.
HALF_WIDTH = 33
# A part disagrees if its own shift lowers χ², in units of that of its fit per degree of freedom,
# by more than this, and by more than this share of what its lines lower it at all. 0.3 % of
# held-out spectra with the right redshift have such a part.
MIN_GAIN, MIN_SHARE = 35.0, 0.4
# Beyond this redshift Lyα, whose form templates do not have exactly, outweighs all other lines: a
# part must gain more than this share of what the lines of all parts lower χ².
FAR, MIN_SHARE_OF_ALL = 3.0, 0.1
# No more weight per pixel than an error of 1 % gives: templates are not better.
MAX_IVAR = 1e4
# Blueward of it [Å] each quasar has its own absorption lines, which no template has.
LYMAN_ALPHA = 1216.0
# Legendre polynomials that are fitted beside the templates.
POLYNOMIALS = 3


class Templates(Protocol):
    """What is needed of `template_fit.Basis`."""

    @property
    def loglam0(self) -> float:
        """log10(λ/Å) of the first pixel."""

    @property
    def vectors(self) -> np.ndarray:
        """The templates, shape (k, m)."""

    @property
    def learned(self) -> np.ndarray:
        """The pixels that fits may use."""


def lines_disagree(
    prepared: Sequence[Prepared],
    classes: Sequence[str],
    bases: Mapping[str, Templates],
    z: np.ndarray,
    grid: Grid,
) -> np.ndarray:
    """Find spectra of which a part fits its templates far better at another shift.

    So do spectra with a wavelength scale that is shifted by some Å or stretched. One that is
    stretched about zero looks like another redshift, and does not.

    Parameters
    ----------
    prepared : sequence of Prepared
    classes : sequence of str
        Their classes.
    bases : mapping of str to Templates
        Templates by class.
    z : array, shape (n,)
        The redshifts that templates fit best at; NaN where there is no fit.
    grid : Grid
        The model's.

    Returns
    -------
    bool array, shape (n,)
    """
    design = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, grid.n), POLYNOMIALS - 1).T
    design = design.astype(np.float32)
    flux, weight, model = (np.zeros((len(prepared), grid.n // BIN), np.float32) for _ in range(3))
    for i in np.flatnonzero(np.isfinite(z)).tolist():
        if classes[i] in bases:
            ivar = np.minimum(prepared[i].ivar, MAX_IVAR)
            best_fit = _best_fit(prepared[i].flux, ivar, bases[classes[i]], z[i], grid, design)
            ivar = np.where(np.isfinite(best_fit), ivar, 0.0)
            weight[i] = _binned(ivar)
            flux[i] = _binned(ivar * prepared[i].flux) / np.maximum(weight[i], 1e-9)
            model[i] = _binned(best_fit) / BIN
    good = weight > 0
    reached = np.isfinite(model) & (model != 0)
    flux, model = _without_continuum(flux, good), _without_continuum(model, reached)
    # A shift must not bring in what the templates do not reach.
    inside = np.zeros(model.shape[1], dtype=bool)
    inside[REACH : model.shape[1] - REACH] = True
    place = np.cumsum(good, axis=1) / np.maximum(good.sum(axis=1), 1)[:, None]
    part = np.minimum(np.ceil(place * PARTS), PARTS) - 1
    own = (part == np.arange(PARTS)[:, None, None]) & inside & good
    weight = own * weight
    common, norm = _at_shifts(weight * flux, model), _at_shifts(weight, model**2)
    # By how much the lines, times the factor that fits best, lower χ²; shape (shifts, parts, n).
    gains = np.maximum(common, 0.0) ** 2 / np.maximum(norm, 1e-6)
    best = gains.max(axis=0)
    here = gains[REACH - 1 : REACH + 2].max(axis=0)
    misfit = ((weight * flux**2).sum(axis=2) - best) / np.maximum(own.sum(axis=2), 1)
    misfit = np.maximum(misfit, 1.0)
    gain = best - here
    far = (gain > MIN_GAIN * misfit) & (gain > MIN_SHARE * best)
    far &= ~(z > FAR) | (gain > MIN_SHARE_OF_ALL * best.sum(axis=0))
    return far.any(axis=0)


def _best_fit(
    flux: np.ndarray,
    ivar: np.ndarray,
    basis: Templates,
    z: float,
    grid: Grid,
    polynomials: np.ndarray,
) -> np.ndarray:
    """The best sum of templates and polynomials at a redshift; NaN where no template reaches."""
    start = round((grid.loglam0 - np.log10(1.0 + z) - basis.loglam0) / grid.dloglam)
    low, high = max(start, 0), min(start + grid.n, basis.vectors.shape[1])
    model = np.full(grid.n, np.nan, np.float32)
    if high <= low:
        return model
    seen = slice(low - start, high - start)
    rest = basis.loglam0 + grid.dloglam * np.arange(low, high)
    learned = basis.learned[low:high] & (rest > np.log10(LYMAN_ALPHA))
    # Scaled, so that single precision is enough.
    design = np.concatenate([basis.vectors[:, low:high] * np.sqrt(grid.n), polynomials[:, seen]])
    weighted = design * np.where(learned, ivar[seen], 0.0)
    normal = (weighted @ design.T).astype(np.float64)
    normal[np.diag_indices_from(normal)] += 1e-6 * (np.trace(normal) + 1.0)
    weights = np.linalg.solve(normal, weighted @ flux[seen]).astype(np.float32)
    model[seen] = np.where(learned, weights @ design, np.nan)
    return model


def _at_shifts(own: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Sums of `own` times the model shifted redward by −REACH to REACH bins.

    Parameters
    ----------
    own : array, shape (parts, n, bins)
    model : array, shape (n, bins)

    Returns
    -------
    array, shape (2 REACH + 1, parts, n)
    """
    length = own.shape[2] + REACH
    length += -length % 64
    product = np.fft.rfft(own, length) * np.conj(np.fft.rfft(model, length))
    sums = np.fft.irfft(product, length)
    return np.moveaxis(np.concatenate([sums[..., -REACH:], sums[..., : REACH + 1]], axis=-1), -1, 0)


def _without_continuum(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The good bins less their running mean, others 0; shape (n, bins)."""

    def running(values: np.ndarray) -> np.ndarray:
        total = np.pad(values, ((0, 0), (HALF_WIDTH + 1, HALF_WIDTH))).cumsum(axis=1, dtype=float)
        return total[:, 2 * HALF_WIDTH + 1 :] - total[:, : -2 * HALF_WIDTH - 1]

    mean = running(np.where(good, flux, 0.0)) / np.maximum(running(good.astype(float)), 1.0)
    return np.where(good, flux - mean, 0.0).astype(np.float32)


def _binned(values: np.ndarray) -> np.ndarray:
    """Sums over `BIN` pixels, shape (pixels // BIN,)."""
    return values[: len(values) // BIN * BIN].reshape(-1, BIN).sum(axis=1)
