"""Maps: the spectrum binned to square blocks that fill a raster.

A block is bright where the flux is high; blocks without data, and what the blocks leave of
the image at its right and lower border, are black (−1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from spectromer_cli.images.base import PATCH, Image
from spectromer_cli.images.plots import HIGH, LOW, divide, quantiles

if TYPE_CHECKING:
    import torch

    from spectromer_cli.spectra.grid import Grid

# "standard": every row left to right; "boustrophedon": every second one right to left, as
# the ox ploughs, so that neighbours in wavelength are neighbours in the image.
Order = Literal["standard", "boustrophedon"]
Paint = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]

BLOCK = 3  # side of a block in pixels
# A region of interest stands out by this many σ and is among this fraction of all blocks.
ROI_SIGMA, ROI_FRACTION = 5.0, 0.1
# Half-width of the running mean that is its continuum, as a fraction of the grid: 100 of
# 4608 pixels, as for tiles.
ROI_HALF_WIDTH = 100 / 4608


def draw(
    flux: torch.Tensor,
    ivar: torch.Tensor,
    grid: Grid,
    tokens: int,
    *,
    paint: Paint,
    order: Order = "boustrophedon",
    block: int = BLOCK,
) -> torch.Tensor:
    """Bin a batch of spectra and fill the raster; see `Image.draw`.

    Parameters
    ----------
    flux, ivar, grid, tokens
        As for `Image.draw`.
    paint : callable
        ``paint(flux, ivar) -> Tensor (batch, 3, blocks)``: the colours of the binned spectra.
    order : {"boustrophedon", "standard"}
        In which order the blocks fill the raster.
    block : int
        Side of a block in pixels.
    """
    import torch

    where = torch.as_tensor(_block_of_pixel(tokens, order, block), device=flux.device)
    colours = paint(*_binned(flux, ivar, _blocks(tokens, block))).clamp(-3.0, 3.0)
    return torch.where(where >= 0, colours[:, :, where.clamp_min(0)], -1.0)


def samples(
    grid: Grid,
    tokens: int,
    *,
    reach: int = 0,
    order: Order = "boustrophedon",
    block: int = BLOCK,
) -> np.ndarray:
    """Which samples each token shows; see `Image.samples`.

    Parameters
    ----------
    grid, tokens
        As for `Image.samples`.
    reach : int
        The colour of a block depends on so many neighbours on either side.
    order, block
        As for `draw`.
    """
    where = _block_of_pixel(tokens, order, block)
    bounds = divide(0, grid.n, _blocks(tokens, block))
    shown = np.zeros((tokens * tokens, grid.n), dtype=bool)
    patches = where.reshape(tokens, PATCH, tokens, PATCH).swapaxes(1, 2)
    for token, patch in enumerate(patches.reshape(tokens * tokens, -1)):
        for number in np.unique(patch[patch >= 0]):
            first, last = max(number - reach, 0), min(number + reach, len(bounds) - 1)
            shown[token, bounds[first, 0] : bounds[last, 1]] = True
    return shown


# --- colours --------------------------------------------------------------------------------


def raw(flux: torch.Tensor, ivar: torch.Tensor) -> torch.Tensor:
    """Paint the flux itself: 0 is black, twice the median level white."""
    return _grey(flux - 1.0, ivar > 0)


def normalised(flux: torch.Tensor, ivar: torch.Tensor) -> torch.Tensor:
    """Paint the flux scaled to each spectrum's own range."""
    return _grey(_to_range(flux, ivar > 0).clamp(-1.0, 1.0), ivar > 0)


def derivatives(flux: torch.Tensor, ivar: torch.Tensor) -> torch.Tensor:
    """Paint normalised flux, first and second derivative; 0 is no slope, no curvature."""
    import torch

    good = ivar > 0
    level = _to_range(flux, good)
    both = good[:, 2:] & good[:, :-2]
    first = torch.zeros_like(flux)
    first[:, 1:-1] = torch.where(both, level[:, 2:] - level[:, :-2], 0.0) / 2.0
    second = torch.zeros_like(flux)
    all_three = both & good[:, 1:-1]
    curvature = level[:, 2:] - 2.0 * level[:, 1:-1] + level[:, :-2]
    second[:, 1:-1] = torch.where(all_three, curvature, 0.0)
    level = torch.where(good, level.clamp(-1.0, 1.0), -1.0)
    return torch.stack([level, _to_unit(first, good), _to_unit(second, good)], dim=1)


def regions_of_interest(flux: torch.Tensor, ivar: torch.Tensor) -> torch.Tensor:
    """Paint normalised flux in R and G; B marks what stands out from the continuum.

    Marked are the tenth of all blocks with the most significant |flux − continuum|, if that
    is 5σ or more. The continuum is a running mean; no redshift enters. The mark, unlike R and
    G, rests on more than the block's own samples.
    """
    import torch
    from torch.nn.functional import avg_pool1d

    good = ivar > 0
    half = round(ROI_HALF_WIDTH * flux.shape[1])
    # Both means count the blocks beyond the ends as zeros, which cancel in the ratio.
    mean = partial(avg_pool1d, kernel_size=2 * half + 1, stride=1, padding=half)
    share = mean(good.to(flux.dtype)[:, None])[:, 0]
    continuum = mean((flux * good)[:, None])[:, 0] / share.clamp_min(1e-6)
    significance = ((flux - continuum) * ivar.sqrt()).abs()
    (threshold,) = quantiles(significance, good, 1.0 - ROI_FRACTION)
    marked = good & (significance >= threshold.clamp_min(ROI_SIGMA))
    level = torch.where(good, _to_range(flux, good).clamp(-1.0, 1.0), -1.0)
    return torch.stack([level, level, 2.0 * marked.to(flux.dtype) - 1.0], dim=1)


def _grey(level: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    return level.masked_fill(~good, -1.0)[:, None].repeat(1, 3, 1)


def _to_range(flux: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """Scale each spectrum so that its robust range is −1 to 1."""
    low, high = quantiles(flux, good, LOW, HIGH)
    span = (high - low).clamp_min(0.01)  # a flat spectrum: a hundredth of the median level
    return 2.0 * (flux - low) / span - 1.0


def _to_unit(derivative: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """Divide by the robust greatest size, and cut at ±1."""
    (size,) = quantiles(derivative.abs(), good, HIGH)
    return (derivative / size.clamp_min(1e-4)).clamp(-1.0, 1.0)


# --- the raster -----------------------------------------------------------------------------


def _blocks(tokens: int, block: int) -> int:
    return (PATCH * tokens // block) ** 2


def _binned(
    flux: torch.Tensor, ivar: torch.Tensor, blocks: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse-variance weighted mean flux of each block, and its ivar; (batch, blocks)."""
    import torch

    start, stop = divide(0, flux.shape[1], blocks).T
    index = start[:, None] + np.arange((stop - start).max())
    inside = torch.as_tensor(index < stop[:, None], device=flux.device)
    index = torch.as_tensor(np.minimum(index, flux.shape[1] - 1), device=flux.device)
    weight = ivar[:, index] * inside
    total = weight.sum(dim=2)
    mean = (flux[:, index] * weight).sum(dim=2) / total.clamp_min(1e-30)
    return mean, total


def _block_of_pixel(tokens: int, order: Order, block: int) -> np.ndarray:
    """Number of the block at every pixel, shape (16·tokens, 16·tokens); −1 beside them."""
    side = PATCH * tokens // block
    number = np.arange(side * side).reshape(side, side)
    if order == "boustrophedon":
        number[1::2] = number[1::2, ::-1].copy()
    pixels = np.full((PATCH * tokens, PATCH * tokens), -1)
    pixels[: side * block, : side * block] = number.repeat(block, axis=0).repeat(block, axis=1)
    return pixels


def _image(name: str, summary: str, paint: Paint, reach: int = 0) -> Image:
    return Image(name, summary, partial(draw, paint=paint), partial(samples, reach=reach))


REGISTRY = {
    "map2d": _image("map2d", "one block per pixel: flux on a fixed scale", raw),
    "map2d-norm": _image("map2d-norm", "one block per pixel: normalised flux", normalised),
    "map2d-deriv": _image(
        "map2d-deriv", "normalised flux, first and second derivative in R, G, B", derivatives, 1
    ),
    "map2d-roi": _image(
        "map2d-roi", "normalised flux, salient features in blue", regions_of_interest
    ),
}
