"""What every representation has: a way to draw it, and its map from tokens to samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from spectromer_cli.spectra.grid import Grid

PATCH = 16  # side of a ViT patch in pixels


@dataclass(frozen=True)
class Image:
    """A 2-D representation of a spectrum.

    Parameters
    ----------
    name : str
        Its name in the registry.
    summary : str
        One line for people.
    draw : callable
        ``draw(flux, ivar, grid, tokens) -> Tensor (batch, 3, 16·tokens, 16·tokens)``, about
        −1 to 1.
    samples : callable
        ``samples(grid, tokens) -> bool array (tokens², grid.n)``: which samples of the grid
        each token shows, tokens in reading order.
    """

    name: str
    summary: str
    draw: Callable[[torch.Tensor, torch.Tensor, Grid, int], torch.Tensor]
    samples: Callable[[Grid, int], np.ndarray]
