"""The faithfulness of an explanation: hide what it calls important, and watch the prediction.

Deletion: windows are hidden, the most important first; a faithful one brings the score
down fast. Insertion: all is hidden, then shown again in the same order; it brings the score up
fast (Petsiuk, Das & Saenko 2018, arXiv:1806.07421, section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spectromer_cli.explain.attribution import baseline
from spectromer_cli.explain.prediction import Prediction

if TYPE_CHECKING:
    from spectromer_cli.model.network import SpectralViT

# Pixels that are hidden or shown together.
WINDOW = 24
# Shares of the windows with data at which the probability is computed.
SHARES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0])


def curves(
    model: SpectralViT, flux: Tensor, ivar: Tensor, prediction: Prediction, importance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The probability while the spectrum is hidden, and shown, in order of importance.

    Parameters
    ----------
    model : SpectralViT
    flux, ivar : Tensor, shape (1, n)
    prediction : Prediction
    importance : array, shape (n,)

    Returns
    -------
    deletion, insertion : array, shape (len(SHARES),)
        At the shares `SHARES`.
    """
    n = flux.shape[1]
    number = np.arange(n) // WINDOW
    amount = np.bincount(number, weights=importance, minlength=number[-1] + 1)
    data = np.bincount(number, weights=(ivar[0] > 0).cpu().numpy())
    order = np.argsort(-amount, kind="stable")
    order = order[data[order] > 0]
    rank = np.full(len(amount), len(order))
    rank[order] = np.arange(len(order))
    first = rank[number][None] < np.round(SHARES * len(order))[:, None]
    chosen = torch.from_numpy(first).to(flux.device)
    hidden = baseline(flux, ivar).expand(len(SHARES), -1)
    whole, weight = flux.expand(len(SHARES), -1), ivar.expand(len(SHARES), -1)
    nothing = torch.zeros_like(weight)
    with torch.inference_mode():
        without = model(torch.where(chosen, hidden, whole), torch.where(chosen, nothing, weight))
        alone = model(torch.where(chosen, whole, hidden), torch.where(chosen, weight, nothing))
    return (
        prediction.probability(without).double().cpu().numpy(),
        prediction.probability(alone).double().cpu().numpy(),
    )


def area(curve: np.ndarray) -> float:
    """Area under a curve over `SHARES`, 0 to 1."""
    return float(np.sum(0.5 * (curve[1:] + curve[:-1]) * np.diff(SHARES)))
