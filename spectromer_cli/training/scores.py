"""Figures of merit of a fine-tuning, with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spectromer_cli.metrics import expected_calibration_error
from spectromer_cli.model import tasks

RESAMPLES = 200
Figures = dict[str, float]


def score(task: tasks.Task, answer: np.ndarray, truth: np.ndarray, seed: int = 0) -> Figures:
    """Figures of one task.

    Parameters
    ----------
    task : Task
    answer : array, shape (n, task.size or 2)
        As `task.answer` gives it; for a redshift, shape (n, 2): z and z_err.
    truth : array, shape (n,)
        As the loss takes it; unknown ones are left out.
    seed : int
        Of the resampling.

    Returns
    -------
    dict of str to float
        Figures, and for each ``<figure>_low`` and ``<figure>_high``: 68 % of bootstrap
        resamples lie between. Empty if nothing is known.

        Category: ``accuracy``, ``mean_recall`` over the classes, ``ece``. Number and redshift:
        ``scatter`` (1.4826 × median |error|; of a redshift, error/(1+z)), ``bias`` (median),
        ``r2``, ``pull`` (robust width of error over its estimate); of a redshift also
        ``outliers``, the share with |Δz|/(1+z) > 0.01.
    """
    known = truth >= 0 if isinstance(task, tasks.Category) else np.isfinite(truth)
    answer, truth = answer[known], truth[known]
    if not len(truth):
        return {}
    figures = _category if isinstance(task, tasks.Category) else _number
    if isinstance(task, tasks.Redshift):
        figures = _redshift
    found = figures(answer, truth)
    rng = np.random.default_rng(seed)
    again = [_resampled(figures, answer, truth, rng) for _ in range(RESAMPLES)]
    for name in list(found):
        low, high = np.percentile([values[name] for values in again], [16, 84])
        found[f"{name}_low"], found[f"{name}_high"] = float(low), float(high)
    return {"n": float(len(truth)), **{k: float(f"{v:.5g}") for k, v in found.items()}}


def _resampled(
    figures: Callable[[np.ndarray, np.ndarray], Figures],
    answer: np.ndarray,
    truth: np.ndarray,
    rng: np.random.Generator,
) -> Figures:
    some = rng.integers(len(truth), size=len(truth))
    return figures(answer[some], truth[some])


def _category(p: np.ndarray, truth: np.ndarray) -> Figures:
    right = p.argmax(axis=1) == truth
    recalls = [right[truth == label].mean() for label in np.unique(truth)]
    return {
        "accuracy": float(right.mean()),
        "mean_recall": float(np.mean(recalls)),
        "ece": expected_calibration_error(p, truth),
    }


def _number(answer: np.ndarray, truth: np.ndarray) -> Figures:
    error = answer[:, 0] - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "scatter": float(1.4826 * np.median(np.abs(error))),
        "bias": float(np.median(error)),
        "r2": 1.0 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        "pull": float(1.4826 * np.median(np.abs(error / answer[:, 1]))),
    }


def _redshift(answer: np.ndarray, truth: np.ndarray) -> Figures:
    relative = (answer[:, 0] - truth) / (1.0 + truth)
    return {
        **_number(answer, truth),
        "scatter": float(1.4826 * np.median(np.abs(relative))),
        "bias": float(np.median(relative)),
        "outliers": float((np.abs(relative) > 0.01).mean()),
    }
