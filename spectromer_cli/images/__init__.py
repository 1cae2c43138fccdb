"""Images: one function a representation, each knowing which samples every token shows.

A new representation is a module-level `Image` in one of the modules here, named in `IMAGES`.
All of them are drawn on the model's fixed wavelength grid, for a whole batch at once, with
torch on whatever device the batch lies on.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from spectromer_cli.errors import UsageError
from spectromer_cli.images.base import PATCH, Image

if TYPE_CHECKING:
    import torch

    from spectromer_cli.spectra.grid import Grid

# name → module that holds it
IMAGES = {
    "tiles": "tiles",
    "line": "plots",
    "overlap": "plots",
    "strip": "plots",
    "map2d": "maps",
    "map2d-norm": "maps",
    "map2d-deriv": "maps",
    "map2d-roi": "maps",
}
DEFAULT_IMAGE = "tiles"

__all__ = ["DEFAULT_IMAGE", "IMAGES", "PATCH", "Image", "get_image", "render"]


def get_image(name: str) -> Image:
    """The representation of that name.

    Raises
    ------
    UsageError
        If there is none; the hint lists the nearest names.
    """
    if name not in IMAGES:
        near = difflib.get_close_matches(name, IMAGES, n=2)
        known = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(IMAGES)}"
        raise UsageError(f"invalid image {name!r}", known)
    return import_module(f"spectromer_cli.images.{IMAGES[name]}").REGISTRY[name]


def render(
    name: str, flux: torch.Tensor, ivar: torch.Tensor, grid: Grid, tokens: int = 7
) -> torch.Tensor:
    """Draw a batch of prepared spectra.

    Parameters
    ----------
    name : str
        One of `IMAGES`.
    flux, ivar : Tensor of float32, shape (batch, grid.n)
        As `spectra.grid.prepare` gives them.
    grid : Grid
        The wavelength grid.
    tokens : int
        Patches along one side of the image.

    Returns
    -------
    Tensor of float32, shape (batch, 3, 16·tokens, 16·tokens)
        Values about −1 to 1, as ViTs trained with mean = std = 0.5 expect them.
    """
    return get_image(name).draw(flux, ivar, grid, tokens)
