"""The methods: each gives every pixel of the grid an importance for a prediction.

All use the network unchanged. Importance is positive where the spectrum supports the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spectromer_cli.errors import UsageError
from spectromer_cli.explain import METHODS as NAMES
from spectromer_cli.explain.prediction import Prediction
from spectromer_cli.explain.regions import WIDTH
from spectromer_cli.images import get_image
from spectromer_cli.images.tiles import local_continuum

if TYPE_CHECKING:
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.spectra.grid import Grid

# Steps of the path from the baseline to the spectrum.
STEPS = 64
# Widths of the windows that occlusion hides, in pixels of the grid, narrow to broad: about
# the width of a galaxy's line, of a blend, and of a quasar's broad line.
WINDOWS = (24, 64, 160)
BATCH = 64
# Line plots: flux moves the line from pixel to pixel, in steps.
NO_GRADIENT = ("line", "overlap", "strip")

Method = Callable[["SpectralViT", Tensor, Tensor, Prediction], np.ndarray]


def baseline(flux: Tensor, ivar: Tensor) -> Tensor:
    """The spectrum without lines: its local continuum.

    The model's own running mean; so importance tells which lines and edges decide, not how
    bright the spectrum is.

    Parameters
    ----------
    flux, ivar : Tensor, shape (batch, n)

    Returns
    -------
    Tensor, shape (batch, n)
    """
    good = (ivar > 0).to(flux.dtype)
    return local_continuum(flux, good)[0] * good


@contextmanager
def attention_of(model: SpectralViT) -> Iterator[list[Tensor]]:
    """Collect the attention matrices of a forward pass, block by block.

    timm's fused attention never forms them, so it is switched off inside, and on again
    after, whatever happens.

    Yields
    ------
    list of Tensor, each of shape (batch, heads, tokens, tokens)
    """
    seen: list[Tensor] = []
    layers = [part for part in model.backbone.modules() if hasattr(part, "fused_attn")]
    if not layers:
        raise UsageError(
            f"{model.config.backbone} has no attention matrices",
            "use --method gradients or occlusion",
        )
    before = [layer.fused_attn for layer in layers]
    hooks = []
    try:
        for layer in layers:
            layer.fused_attn = False  # type: ignore[assignment]
            hooks.append(
                layer.attn_drop.register_forward_hook(  # type: ignore[union-attr]
                    lambda part, inputs, output: seen.append(output)
                )
            )
        yield seen
    finally:
        for layer, fused in zip(layers, before, strict=True):
            layer.fused_attn = fused
        for hook in hooks:
            hook.remove()


def attention(model: SpectralViT, flux: Tensor, ivar: Tensor, prediction: Prediction) -> np.ndarray:
    """The attention map over wavelength: attention weighted by what it does for the prediction.

    Never negative; its resolution is that of the tokens.

    Notes
    -----
    Chefer, Gur & Wolf (2021, arXiv:2103.15679), equations 5 and 6: the positive part of
    gradient × attention, mean over heads, accumulated through the blocks.
    """
    with torch.enable_grad(), attention_of(model) as seen:
        score = prediction.score(model(flux.detach().requires_grad_(), ivar)).sum()
        gradients = torch.autograd.grad(score, seen)
    total = torch.eye(seen[0].shape[-1], device=flux.device)
    for matrix, gradient in zip(seen, gradients, strict=True):
        total = total + (gradient * matrix)[0].clamp_min(0.0).mean(dim=0).detach() @ total
    return _to_samples(model, _read_out(model, total))


def _read_out(model: SpectralViT, total: Tensor) -> np.ndarray:
    """What the prediction takes from each image token: the class token's row, or all rows' mean."""
    prefix = int(model.backbone.num_prefix_tokens)  # type: ignore[arg-type]
    row = total[0] if prefix else total.mean(dim=0)
    return row[prefix:].double().cpu().numpy()


def _to_samples(model: SpectralViT, importance: np.ndarray) -> np.ndarray:
    """Give each sample the mean importance of the tokens that show it, shape (grid.n,)."""
    config = model.config
    shown = get_image(config.image).samples(config.grid, config.tokens).astype(float)
    return importance @ shown / np.maximum(shown.sum(axis=0), 1.0)


def _differentiable(model: SpectralViT) -> None:
    """Refuse images of a drawn line: flux moves its pixels, so it has no gradient."""
    if model.config.image in NO_GRADIENT:
        raise UsageError(
            f"the image {model.config.image} has no gradient with respect to flux",
            "use --method occlusion",
        )


def gradients(model: SpectralViT, flux: Tensor, ivar: Tensor, prediction: Prediction) -> np.ndarray:
    """Integrated gradients at the spectrum's own sampling: exact shares.

    The shares sum to the score of the spectrum less that of its continuum, up to the steps of
    the path.

    Notes
    -----
    Sundararajan, Taly & Yan (2017, arXiv:1703.01365), equation 1, midpoint rule.
    """
    _differentiable(model)
    start = baseline(flux, ivar)
    total = torch.zeros_like(flux)
    for first in range(0, STEPS, BATCH):
        some = torch.arange(first, min(first + BATCH, STEPS), device=flux.device)
        along = start + ((some + 0.5) / STEPS)[:, None] * (flux - start)
        with torch.enable_grad():
            along = along.detach().requires_grad_()
            score = prediction.score(model(along, ivar.expand_as(along))).sum()
            (gradient,) = torch.autograd.grad(score, along)
        total += gradient.sum(dim=0, keepdim=True)
    return ((flux - start) * total / STEPS)[0].detach().double().cpu().numpy()


def occlusion(model: SpectralViT, flux: Tensor, ivar: Tensor, prediction: Prediction) -> np.ndarray:
    """By how much the score falls when a window is hidden, mean over windows and widths.

    A hidden window has the local continuum as flux, and no weight.
    """
    n = flux.shape[1]
    smooth = baseline(flux, ivar)
    with torch.inference_mode():
        whole = prediction.score(model(flux, ivar))
        total = np.zeros(n)
        for width in WINDOWS:
            starts = np.arange(-width // 2, n, width // 2)
            windows = [(max(int(s), 0), min(int(s) + width, n)) for s in starts]
            windows = [w for w in windows if bool((ivar[0, w[0] : w[1]] > 0).any())]
            share, count = np.zeros(n), np.zeros(n)
            for first in range(0, len(windows), BATCH):
                some = windows[first : first + BATCH]
                hidden, weight = flux.repeat(len(some), 1), ivar.repeat(len(some), 1)
                for row, (low, high) in enumerate(some):
                    hidden[row, low:high] = smooth[0, low:high]
                    weight[row, low:high] = 0.0
                fall = (whole - prediction.score(model(hidden, weight))).double().cpu().numpy()
                for (low, high), amount in zip(some, fall, strict=True):
                    share[low:high] += amount / (high - low)
                    count[low:high] += 1
            total += share / np.maximum(count, 1)
    return total / len(WINDOWS)


METHODS: dict[str, Method] = dict(zip(NAMES, (gradients, occlusion, attention), strict=True))


def region_width(method: str, grid: Grid, tokens: int) -> int:
    """Pixels of the regions that a method tells apart: the attention map resolves only tokens."""
    return max(WIDTH, grid.n // tokens**2) if method == "attention" else WIDTH
