"""The default image: each ViT patch holds one contiguous wavelength region.

A patch of 16×16 pixels takes 256 samples of the log λ grid, row by row; patches follow each
other in reading order, and neighbours overlap so that no line is cut at a border. No sample
is lost, and a token is exactly a wavelength region.

Channels: (1) asinh-scaled flux, for the continuum's shape and level; (2) significance of
what stands out, (flux − continuum)·√ivar; (3) its strength, (flux − continuum)/|continuum|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.images.base import PATCH, Image

if TYPE_CHECKING:
    import torch

    from spectromer_cli.spectra.grid import Grid

SAMPLES_PER_PATCH = PATCH * PATCH
# Half-width in pixels of the running mean taken twice for the local continuum: 2·100 pixels
# are 14,000 km/s on the default grid, wider than a quasar's broad lines.
CONTINUUM_HALF_WIDTH = 100


def draw(flux: torch.Tensor, ivar: torch.Tensor, grid: Grid, tokens: int) -> torch.Tensor:
    """Fold a batch of spectra into patches; see `Image.draw`."""
    import torch

    values = channels(flux, ivar)
    index = torch.as_tensor(_index(grid, tokens), device=flux.device)
    batch = flux.shape[0]
    patches = values[:, :, index].view(batch, 3, tokens, tokens, PATCH, PATCH)
    return patches.permute(0, 1, 2, 4, 3, 5).reshape(batch, 3, tokens * PATCH, tokens * PATCH)


def channels(flux: torch.Tensor, ivar: torch.Tensor) -> torch.Tensor:
    """The three channels before folding.

    Parameters
    ----------
    flux, ivar : Tensor, shape (batch, n)
        Prepared flux (median level 1) and inverse variance.

    Returns
    -------
    Tensor, shape (batch, 3, n)
    """
    import torch

    good = (ivar > 0).to(flux.dtype)
    continuum, covered = local_continuum(flux, good)
    residual = (flux - continuum) * good
    # A lone bad pixel takes its neighbours' level; a region without data is black.
    level = torch.where(good > 0, flux, continuum)
    level = torch.where(covered, torch.asinh(level) - 0.9, -1.0)
    significance = torch.asinh(residual * ivar.sqrt() / 2.0) / 2.0
    strength = torch.asinh(5.0 * residual / (continuum.abs() + 0.1))
    return torch.stack([level, significance, strength], dim=1).clamp(-3.0, 3.0)


def samples(grid: Grid, tokens: int) -> np.ndarray:
    """Which samples each token shows; see `Image.samples`."""
    shown = np.zeros((tokens * tokens, grid.n), dtype=bool)
    np.put_along_axis(shown, _index(grid, tokens), True, axis=1)
    return shown


def _index(grid: Grid, tokens: int) -> np.ndarray:
    """Sample number of every pixel of every patch, shape (tokens², 256)."""
    start = np.linspace(0, grid.n - SAMPLES_PER_PATCH, tokens * tokens).round().astype(int)
    return start[:, None] + np.arange(SAMPLES_PER_PATCH)


def local_continuum(flux: torch.Tensor, good: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Running mean over the good pixels, twice, and where it rests on any."""
    import torch

    weight = _running_sum(good)
    mean = torch.where(weight > 0.5, _running_sum(flux * good) / weight.clamp_min(1.0), 0.0)
    has = (weight > 0.5).to(flux.dtype)
    again = _running_sum(has)
    smooth = torch.where(again > 0.5, _running_sum(mean * has) / again.clamp_min(1.0), 0.0)
    return smooth, has > 0


def _running_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum over ± CONTINUUM_HALF_WIDTH pixels, fewer at the ends."""
    from torch.nn.functional import pad

    half = CONTINUUM_HALF_WIDTH
    # In float64, or a bright line would leave its rounding error in all that follows it.
    # Apple's GPUs have none.
    wide = values if values.device.type == "mps" else values.double()
    total = pad(wide, (half + 1, half)).cumsum(dim=1)
    return (total[:, 2 * half + 1 :] - total[:, : -2 * half - 1]).to(values.dtype)


REGISTRY = {
    "tiles": Image(
        "tiles",
        "one contiguous wavelength region per patch; channels level, significance, strength",
        draw,
        samples,
    )
}
