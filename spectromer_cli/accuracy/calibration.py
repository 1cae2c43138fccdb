"""Calibration of confidences and errors, fitted on spectra that the weights have not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from spectromer_cli.metrics import OUTLIERS, pull_figures
from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.model.template_fit import Basis, Refined, refine
from spectromer_cli.spectra.grid import Grid, Prepared

# Off by more than this, in |Δz|/(1+z), a redshift is wrong and tells nothing of its error.
Z_OUTLIER = OUTLIERS["0.01"]
# Scales of redshift errors that are tried.
SCALES = np.geomspace(0.3, 50.0, 90)
# Of fewer redshifts nothing is learned.
FEWEST = 20

Logits = Mapping[str, torch.Tensor]


# --- what the logits say --------------------------------------------------------------------


def predicted_classes(asked: Sequence[tasks.Task], logits: Logits) -> np.ndarray:
    """The likeliest label of the task ``class`` for each spectrum; empty without that task."""
    for task in asked:
        if isinstance(task, tasks.Category) and task.name == "class":
            return np.array(task.labels)[logits["class"].argmax(1).numpy()]
    n = len(next(iter(logits.values())))
    return np.full(n, "")


def predicted_redshifts(
    asked: Sequence[tasks.Task], logits: Logits, temperatures: Mapping[str, float]
) -> decoding.RedshiftPrediction:
    """Redshift and probability from p(z) for each spectrum, given its class."""
    task = next(task for task in asked if isinstance(task, tasks.Redshift))
    p = tasks.calibrated([task], logits, temperatures)[task.name]
    return decoding.decode_redshift(task, p, predicted_classes(asked, logits) == "STAR")


def refined_redshifts(
    proposed: decoding.RedshiftPrediction,
    classes: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    bases: Mapping[str, Basis],
    grid: Grid,
) -> Refined:
    """Template fits (see `model.template_fit.refine`) of spectra on the model's grid.

    Parameters
    ----------
    proposed : RedshiftPrediction
        What p(z) says of them.
    classes : array of str, shape (n,)
    flux, ivar : array, shape (n, grid.n)
    bases : mapping of str to Basis
        Templates by class.
    grid : Grid
    """
    prepared = [Prepared(f, i, 1.0) for f, i in zip(flux, ivar, strict=True)]
    return refine(proposed, prepared, classes.tolist(), bases, grid)


# --- what is fitted -------------------------------------------------------------------------


def fit_temperatures(
    asked: Sequence[tasks.Task], logits: Logits, targets: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """The temperature of each task with targets that makes its probabilities fit them best.

    Notes
    -----
    Guo et al. (2017, ICML, arXiv:1706.04599): logits divided by one number, found by least
    negative log-likelihood, here on a logarithmic grid between 0.3 and 5.
    """
    return {
        task.name: best_temperature(task, logits[task.name], targets[task.name])
        for task in asked
        if task.name in targets
    }


def best_temperature(task: tasks.Task, logits: torch.Tensor, target: torch.Tensor) -> float:
    """The temperature that makes the predictions of a task fit the labels best.

    A weak prior (σ = 0.5 in ln t about 1) keeps a handful of labels, all predicted correctly, from
    giving probabilities of 1.
    """
    grid = np.geomspace(0.3, 5.0, 113)
    number = int(task.known(target).sum())
    losses = [
        number * float(task.loss(task.temper(logits, t), target)) + 0.5 * (math.log(t) / 0.5) ** 2
        for t in grid
    ]
    return round(float(grid[int(np.argmin(losses))]), 4)


def error_scales(
    refined: Refined,
    found: np.ndarray,
    class_: np.ndarray,
    z: np.ndarray,
    has_ivar: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Factors that correct formal redshift errors (see `model.template_fit.Basis`).

    Parameters
    ----------
    refined : Refined
        Redshifts of shape (n,), with their formal errors.
    found, class_ : array of str, shape (n,)
        The class that they were refined as, and that of the label.
    z : array, shape (n,)
        Reference redshifts; NaN unknown.
    has_ivar : bool array, shape (n,)
        Where the spectra have errors of their own.

    Returns
    -------
    dict of dict
        Class → ``error_scale`` and ``misfit_scale``, learned from spectra with errors whose
        class is right and whose redshift is not off by more than `Z_OUTLIER`.
    """
    error = np.log1p(refined.z) - np.log1p(z)
    usable = (found == class_) & has_ivar & np.isfinite(error)
    usable &= np.abs(error) < Z_OUTLIER
    return {
        name: two_scales(error[these], refined.formal[these])
        for name in taxonomy.CLASSES
        for these in [usable & (class_ == name)]
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


def wrong_redshifts(
    z: np.ndarray, class_: np.ndarray, z_reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which redshifts are wrong, and which can be judged.

    Returns
    -------
    wrong : bool array, shape (n,)
        Off by more than `Z_OUTLIER`.
    known : bool array, shape (n,)
        Of known redshift, and no stars: theirs are velocities.
    """
    known = (class_ != "STAR") & np.isfinite(z_reference)
    return np.abs(z - z_reference) / (1.0 + z_reference) > Z_OUTLIER, known
