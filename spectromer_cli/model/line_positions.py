"""Whether the lines of a spectrum agree on one redshift: blue, middle and red apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spectromer_cli.spectra.grid import Prepared

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


def lines_disagree(prepared: Sequence[Prepared], model: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Find spectra of which a part fits its templates far better at another shift.

    So do spectra with a wavelength scale that is shifted by some Å or stretched. One that is
    stretched about zero looks like another redshift, and does not.

    Parameters
    ----------
    prepared : sequence of Prepared
    model : array of float32, shape (n, grid.n)
        Their best template fits; NaN where there is none.
    z : array, shape (n,)
        The redshifts of these; NaN where there is no fit.

    Returns
    -------
    bool array, shape (n,)
    """
    if not prepared:
        return np.zeros(0, dtype=bool)
    flux = np.stack([one.flux for one in prepared])
    ivar = np.minimum(np.stack([one.ivar for one in prepared]), MAX_IVAR)
    ivar[np.isnan(model)] = 0.0
    weight, flux, model = _binned(ivar), _binned(ivar * flux), _binned(model) / BIN
    flux = flux / np.maximum(weight, 1e-9)
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
    import torch

    length = own.shape[2] + REACH
    length += -length % 64
    own, model = (torch.fft.rfft(torch.from_numpy(values), length) for values in (own, model))
    sums = torch.fft.irfft(own * model.conj(), length).numpy()
    return np.moveaxis(np.concatenate([sums[..., -REACH:], sums[..., : REACH + 1]], axis=-1), -1, 0)


def _without_continuum(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The good bins less their running mean, others 0; shape (n, bins)."""

    def running(values: np.ndarray) -> np.ndarray:
        total = np.pad(values, ((0, 0), (HALF_WIDTH + 1, HALF_WIDTH))).cumsum(axis=1, dtype=float)
        return total[:, 2 * HALF_WIDTH + 1 :] - total[:, : -2 * HALF_WIDTH - 1]

    mean = running(np.where(good, flux, 0.0)) / np.maximum(running(good.astype(float)), 1.0)
    return np.where(good, flux - mean, 0.0).astype(np.float32)


def _binned(values: np.ndarray) -> np.ndarray:
    """Sums over `BIN` pixels, shape (n, pixels // BIN)."""
    whole = values[:, : values.shape[1] // BIN * BIN]
    parts = [whole[:, i::BIN] for i in range(BIN)]  # sums along a short axis are slow
    return sum(parts[1:], parts[0])
