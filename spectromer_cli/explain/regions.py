"""The stretches of wavelength that matter most, named by the lines that fall there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.lines import Kind, lines_for

# Pixels of a stretch: 2800 km/s on the default grid, about a blend of narrow lines. Those that
# come nearer than this to each other, as in a broad line, are one.
WIDTH = 40
NEAR = 20
# As many at most, and none below this share of all positive importance.
MOST = 8
MIN_SHARE = 0.03
# A line belongs to a stretch that reaches this near, in Å at rest.
REACH = 6.0

KINDS: dict[str, Kind] = {"STAR": "star", "GALAXY": "galaxy", "QSO": "qso"}


@dataclass(frozen=True)
class Stretch:
    """A stretch that speaks for the answer.

    Parameters
    ----------
    low, high : float
        Observed wavelength in Å, vacuum.
    share : float
        Of all that speaks for the answer.
    lines : tuple of str
        What falls there at the redshift found; may be empty.
    """

    low: float
    high: float
    share: float
    lines: tuple[str, ...]


def strongest(importance: np.ndarray, grid: Grid, class_name: str, z: float) -> list[Stretch]:
    """Find the strongest stretches.

    Parameters
    ----------
    importance : array, shape (grid.n,)
    grid : Grid
    class_name : str
        Whose lines to name; another than STAR, GALAXY and QSO has the galaxies'.
    z : float
        Where they are; NaN names none.

    Returns
    -------
    list of Stretch
        The strongest first; none overlap.
    """
    left = np.clip(importance, 0.0, None)
    total = left.sum()
    inside = np.zeros(grid.n, dtype=bool)
    for _ in range(MOST):
        around = np.convolve(left, np.ones(WIDTH), mode="valid")
        start = int(around.argmax())
        if not around[start] > MIN_SHARE * total:
            break
        inside[max(start - NEAR // 2, 0) : start + WIDTH + NEAR // 2] = True
        left[start : start + WIDTH] = 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    found = []
    for start, stop in edges.reshape(-1, 2):
        share = float(np.clip(importance[start:stop], 0.0, None).sum() / total)
        low, high = float(grid.wavelength[start]), float(grid.wavelength[stop - 1])
        found.append(Stretch(low, high, share, lines_in(low, high, class_name, z)))
    return sorted(found, key=lambda stretch: -stretch.share)


def lines_in(low: float, high: float, class_name: str, z: float) -> tuple[str, ...]:
    """Names of the lines between two observed wavelengths in Å, at a redshift."""
    if not np.isfinite(z):
        return ()
    kind = KINDS.get(class_name, "galaxy")
    rest_low, rest_high = low / (1.0 + z) - REACH, high / (1.0 + z) + REACH
    names = (line.name for line in lines_for(kind) if rest_low <= line.wavelength <= rest_high)
    return tuple(dict.fromkeys(names))
