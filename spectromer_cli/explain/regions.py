"""The wavelength regions that matter most, named by the lines that fall there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.lines import Line

# Pixels of a region: 2800 km/s on the default grid, about a blend of narrow lines. Those that
# come nearer than this to each other, as in a broad line, are one.
WIDTH = 40
NEAR = 20
# As many at most, and none below this share of all positive importance.
MOST = 8
MIN_SHARE = 0.03
# A line belongs to a region that reaches this near, in Å at rest.
REACH = 6.0


@dataclass(frozen=True)
class Region:
    """A wavelength region that supports the prediction.

    Parameters
    ----------
    low, high : float
        Observed vacuum wavelength in Å.
    share : float
        Its fraction of all positive importance.
    lines : tuple of Line
        What falls there at the redshift found; may be empty.
    """

    low: float
    high: float
    share: float
    lines: tuple[Line, ...]

    @property
    def names(self) -> list[str]:
        """Of the lines."""
        return [line.name for line in self.lines]


def strongest_regions(
    importance: np.ndarray, grid: Grid, lines: Sequence[Line], z: float, width: int = WIDTH
) -> list[Region]:
    """Find the regions with the largest shares of the positive importance.

    Parameters
    ----------
    importance : array, shape (grid.n,)
    grid : Grid
    lines : sequence of Line
        Those that the object may show.
    z : float
        Where they are; NaN names none.
    width : int
        Pixels of the window whose importance is compared; the size of a token where importance
        is known by tokens only.

    Returns
    -------
    list of Region
        The strongest first; none overlap.
    """
    left = np.clip(importance, 0.0, None)
    total = left.sum()
    inside = np.zeros(grid.n, dtype=bool)
    for _ in range(MOST):
        around = np.convolve(left, np.ones(width), mode="valid")
        start = int(around.argmax())
        if not around[start] > MIN_SHARE * total:
            break
        inside[max(start - NEAR // 2, 0) : start + width + NEAR // 2] = True
        left[start : start + width] = 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    found = []
    for start, stop in edges.reshape(-1, 2):
        share = float(np.clip(importance[start:stop], 0.0, None).sum() / total)
        low, high = float(grid.wavelength[start]), float(grid.wavelength[stop - 1])
        found.append(Region(low, high, share, lines_between(low, high, lines, z)))
    return sorted(found, key=lambda region: -region.share)


def lines_between(low: float, high: float, lines: Sequence[Line], z: float) -> tuple[Line, ...]:
    """The lines between two observed wavelengths in Å, at a redshift; none if it is NaN."""
    rest_low, rest_high = low / (1.0 + z) - REACH, high / (1.0 + z) + REACH
    return tuple(line for line in lines if rest_low <= line.wavelength <= rest_high)
