"""What makes confidences and errors honest, fitted on spectra that the weights have not seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from spectromer_cli.metrics import pull_figures
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.template_fit import Refined
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.validate import Z_OUTLIER, answer_redshifts, targets

if TYPE_CHECKING:
    from spectromer_cli.model.network import SpectralViT

# Scales of redshift errors that are tried.
SCALES = np.geomspace(0.3, 50.0, 90)
# Of fewer redshifts nothing is learned.
FEWEST = 20


def fit_temperatures(
    model: SpectralViT, out: dict[str, torch.Tensor], data: LabelledSpectra
) -> dict[str, float]:
    """The temperature of each task that makes its probabilities fit the held-out labels best.

    Notes
    -----
    Guo et al. (2017, ICML, arXiv:1706.04599): logits divided by one number, found by least
    negative log-likelihood, here on a logarithmic grid between 0.3 and 5.
    """
    truth = targets(data)
    return {
        task.name: best_temperature(task, out[task.name], truth[task.name]) for task in model.tasks
    }


def best_temperature(task: tasks.Task, logits: torch.Tensor, truth: torch.Tensor) -> float:
    """The temperature that makes a task's answers fit the labels best.

    A weak prior (σ = 0.5 in ln t about 1) keeps a handful of labels, all answered right, from
    calling for certainty.
    """
    grid = np.geomspace(0.3, 5.0, 113)
    number = int(task.known(truth).sum())
    losses = [
        number * float(task.loss(task.temper(logits, t), truth)) + 0.5 * (math.log(t) / 0.5) ** 2
        for t in grid
    ]
    return round(float(grid[int(np.argmin(losses))]), 4)


def error_scales(
    refined: Refined, found: np.ndarray, data: LabelledSpectra
) -> dict[str, dict[str, float]]:
    """What formal redshift errors must be multiplied by (see `model.template_fit.Basis`).

    Parameters
    ----------
    refined : Refined
        Redshifts of shape (n,), with their formal errors.
    found : array of int, shape (n,)
        Number of the class that they were refined as.
    data : LabelledSpectra
        The truth.

    Returns
    -------
    dict of dict
        Class → ``error_scale`` and ``misfit_scale``, learned from spectra with errors whose
        class is right and whose redshift is not off by more than `Z_OUTLIER`.
    """
    error = np.log1p(refined.z) - np.log1p(data.z)
    usable = (found == data.class_) & data.has_ivar & np.isfinite(error)
    usable &= np.abs(error) < Z_OUTLIER
    return {
        name: two_scales(error[these], refined.formal[these])
        for number, name in enumerate(taxonomy.CLASSES)
        for these in [usable & (data.class_ == number)]
    }


def two_scales(error: np.ndarray, formal: np.ndarray) -> dict[str, float]:
    """The scales of the two parts of the formal errors that make the errors likeliest.

    Parameters
    ----------
    error : array, shape (n,)
        Of ln(1 + z).
    formal : array, shape (n, 2)
        Its formal errors from noise and from misfit.

    Returns
    -------
    dict
        ``error_scale`` and ``misfit_scale``; both 1 where there are too few.

    Notes
    -----
    Their ratio is that of the greatest likelihood under Student's t, as for stellar parameters
    (`tasks.Quantity`), so that a few wrong redshifts pull little; their size gives the pull the
    robust width 1.
    """
    if len(error) < FEWEST:
        return {"error_scale": 1.0, "misfit_scale": 1.0}
    freedom = tasks.Quantity.FREEDOM
    best, least = (1.0, 1.0), np.inf
    for noise in SCALES:
        sigma = np.hypot(noise * formal[:, 0], SCALES[:, None] * formal[:, 1])
        each = np.log(sigma) + 0.5 * (freedom + 1.0) * np.log1p((error / sigma) ** 2 / freedom)
        total = each.sum(axis=1)
        if total.min() < least:
            best, least = (float(noise), float(SCALES[total.argmin()])), float(total.min())
    sigma = np.hypot(best[0] * formal[:, 0], best[1] * formal[:, 1])
    width = pull_figures(error / sigma)["width"] or 1.0
    return {"error_scale": round(best[0] * width, 3), "misfit_scale": round(best[1] * width, 3)}


def redshift_confidences(
    model: SpectralViT, out: dict[str, torch.Tensor], data: LabelledSpectra, refined: Refined
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How sure the redshifts are, and which of them are wrong.

    Returns
    -------
    z_prob : array, shape (n,)
    wrong : bool array, shape (n,)
        Off by more than `Z_OUTLIER`.
    judged : bool array, shape (n,)
        Galaxies and quasars of known redshift.
    """
    answer = answer_redshifts(model, out, out["class"].argmax(1).numpy())
    z = np.where(np.isfinite(refined.z), refined.z, answer.z)
    judged = (data.class_ > taxonomy.CLASSES.index("STAR")) & np.isfinite(data.z)
    wrong = np.abs(z - data.z) / (1.0 + data.z) > Z_OUTLIER
    return answer.z_prob, wrong, judged
