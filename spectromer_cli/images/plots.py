"""Line plots: plain, three wavelength thirds drawn over each other, and folded into strips.

A dark line (−1) on white (1). Every pixel column shows the range between the least and the
greatest of its good samples, stretched to meet the column before; a column without a good
sample stays empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.images.base import PATCH, Image

if TYPE_CHECKING:
    import torch

    from spectromer_cli.spectra.grid import Grid

# The flux axis spans these quantiles of the good samples, so that cosmic rays and sky
# residuals do not flatten the rest, and this much more (of the span) on either side.
LOW, HIGH = 0.005, 0.995
MARGIN = 0.15
THIRDS = 3


# --- the three images ---------------------------------------------------------------------


def draw_line(flux: torch.Tensor, ivar: torch.Tensor, grid: Grid, tokens: int) -> torch.Tensor:
    """Draw a plain line plot; see `Image.draw`."""
    side = tokens * PATCH
    plot = _trace(flux, ivar > 0, *_axis(flux, ivar > 0), _columns(grid.n, side), side)
    return plot[:, None].repeat(1, 3, 1, 1)


def samples_line(grid: Grid, tokens: int) -> np.ndarray:
    """Which samples each token shows; see `Image.samples`."""
    return np.tile(_seen(_columns(grid.n, tokens * PATCH), tokens, grid.n), (tokens, 1))


def draw_overlap(flux: torch.Tensor, ivar: torch.Tensor, grid: Grid, tokens: int) -> torch.Tensor:
    """Draw the blue, middle and red third in channel 0, 1 and 2; see `Image.draw`."""
    import torch

    side = tokens * PATCH
    good = ivar > 0
    axis = _axis(flux, good)
    plots = [_trace(flux, good, *axis, columns, side) for columns in _thirds(grid.n, side)]
    return torch.stack(plots, dim=1)


def samples_overlap(grid: Grid, tokens: int) -> np.ndarray:
    """Which samples each token shows; see `Image.samples`."""
    thirds = [_seen(columns, tokens, grid.n) for columns in _thirds(grid.n, tokens * PATCH)]
    return np.tile(np.any(thirds, axis=0), (tokens, 1))


def draw_strip(flux: torch.Tensor, ivar: torch.Tensor, grid: Grid, tokens: int) -> torch.Tensor:
    """Draw one long plot, one patch high, folded in reading order; see `Image.draw`."""
    side = tokens * PATCH
    columns = _columns(grid.n, tokens * side)
    plot = _trace(flux, ivar > 0, *_axis(flux, ivar > 0), columns, PATCH)
    strips = plot.view(-1, PATCH, tokens, side).transpose(1, 2).reshape(-1, side, side)
    return strips[:, None].repeat(1, 3, 1, 1)


def samples_strip(grid: Grid, tokens: int) -> np.ndarray:
    """Which samples each token shows; see `Image.samples`."""
    return _seen(_columns(grid.n, tokens * tokens * PATCH), tokens * tokens, grid.n)


# --- what they share ------------------------------------------------------------------------


def divide(first: int, last: int, parts: int) -> np.ndarray:
    """Share samples out among equal parts, none left over.

    Parameters
    ----------
    first, last : int
        The samples ``first … last − 1``.
    parts : int
        How many parts; where there are more than samples, neighbours show the same one.

    Returns
    -------
    array of int, shape (parts, 2)
        First sample of each part, and the one after its last.
    """
    edges = first + np.arange(parts + 1) * (last - first) // parts
    return np.stack([edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)], axis=1)


def quantiles(
    values: torch.Tensor, good: torch.Tensor, *fractions: float
) -> tuple[torch.Tensor, ...]:
    """Quantiles of the good values of each row: the nearest of them, not interpolated.

    Parameters
    ----------
    values, good : Tensor, shape (batch, n)
        Numbers, and which of them count (bool).
    *fractions : float
        0 to 1.

    Returns
    -------
    tuple of Tensor, each of shape (batch, 1)
        0 where nothing is good.
    """
    import torch

    count = good.sum(dim=1, keepdim=True)
    ordered = values.masked_fill(~good, torch.inf).sort(dim=1).values
    ranks = [((count - 1) * fraction).round().long().clamp_min(0) for fraction in fractions]
    return tuple(ordered.gather(1, rank).masked_fill(count == 0, 0.0) for rank in ranks)


def _columns(n: int, width: int) -> np.ndarray:
    return divide(0, n, width)


def _thirds(n: int, width: int) -> list[np.ndarray]:
    return [divide(first, last, width) for first, last in divide(0, n, THIRDS)]


def _axis(flux: torch.Tensor, good: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower and upper end of the flux axis, each of shape (batch, 1)."""
    low, high = quantiles(flux, good, LOW, HIGH)
    # A flat spectrum still needs an axis: a hundredth of the median level, which is 1.
    margin = MARGIN * (high - low).clamp_min(0.01)
    return low - margin, high + margin


def _trace(
    flux: torch.Tensor,
    good: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    columns: np.ndarray,
    height: int,
) -> torch.Tensor:
    """Draw a line, shape (batch, height, columns), white 1 and dark −1."""
    import torch

    # Row of the image for every sample, 0 at the top; beyond the axis the line runs along
    # the border.
    rows = ((high - flux) / (high - low) * (height - 1)).round().clamp(0, height - 1)
    start, stop = columns.T
    index = np.minimum(start[:, None] + np.arange((stop - start).max()), stop[:, None] - 1)
    index = torch.as_tensor(index, device=flux.device)
    inside, usable = rows[:, index], good[:, index]  # (batch, columns, samples a column)
    top = inside.masked_fill(~usable, torch.inf).amin(dim=2)
    bottom = inside.masked_fill(~usable, -torch.inf).amax(dim=2)
    top[:, 1:], bottom[:, 1:] = _joined(top, bottom, inside, usable)
    row = torch.arange(height, device=flux.device, dtype=flux.dtype)[:, None]
    dark = (row >= top[:, None]) & (row <= bottom[:, None])
    return 1.0 - 2.0 * dark.to(flux.dtype)


def _joined(
    top: torch.Tensor, bottom: torch.Tensor, inside: torch.Tensor, usable: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Top and bottom of all columns but the first, stretched to the last sample before."""
    import torch

    place = torch.arange(1, usable.shape[2] + 1, device=usable.device)
    last = inside.gather(2, (usable * place).argmax(dim=2, keepdim=True))[:, :-1, 0]
    both = usable.any(dim=2)
    both = both[:, 1:] & both[:, :-1]  # no line across a gap
    top = torch.where(both, torch.minimum(top[:, 1:], last), top[:, 1:])
    bottom = torch.where(both, torch.maximum(bottom[:, 1:], last), bottom[:, 1:])
    return top, bottom


def _seen(columns: np.ndarray, tokens: int, n: int) -> np.ndarray:
    """Which samples each token of one strip shows, shape (tokens, n).

    The first column of a token is joined to the sample before it, which is therefore seen.
    """
    start, stop = columns.reshape(tokens, PATCH, 2)[:, 0, 0], columns[PATCH - 1 :: PATCH, 1]
    joined = np.where(start > columns[0, 0], start - 1, start)
    sample = np.arange(n)
    return (sample >= joined[:, None]) & (sample < stop[:, None])


REGISTRY = {
    "line": Image("line", "the plain line plot", draw_line, samples_line),
    "overlap": Image(
        "overlap",
        "three thirds of the wavelength range as overlaid line plots, one per channel",
        draw_overlap,
        samples_overlap,
    ),
    "strip": Image(
        "strip", "a line plot folded into strips one patch high", draw_strip, samples_strip
    ),
}
