"""Calibration judged by objects that it was not fitted on: by folds of the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch  # noqa: TID253  (this module is imported only where torch is needed)

from spectromer_cli.errors import UsageError
from spectromer_cli.model import taxonomy
from spectromer_cli.model.confidence import confidence_table, cut_for
from spectromer_cli.model.metrics import expected_calibration_error, pull_figures
from spectromer_cli.training.validate import Z_OUTLIER, best_temperature, pull_scale

if TYPE_CHECKING:
    from spectromer_cli.model.spectromer import SpectralViT

FOLDS = 5
# The promise of `--max-outlier-rate` that is put to the test.
PROMISE = 0.01


def crossfit(
    model: SpectralViT, answers: Mapping[str, np.ndarray], has_ivar: np.ndarray
) -> dict[str, Any]:
    """How good the calibration is where its numbers come from other objects.

    The weights' own numbers were fitted on all held-out spectra. Here each fifth of the held-out
    objects is judged by numbers fitted, in the same way, on the other four.

    Parameters
    ----------
    model : SpectralViT
        The one that gave the answers.
    answers : mapping of arrays, shape (n,)
        ``object_id``, ``class``, ``p_star``, ``p_galaxy``, ``p_qso``, ``z``, ``z_err``,
        ``z_prob``; and the truth, ``class_true`` and ``z_true``.
    has_ivar : bool array, shape (n,)
        Whether the spectrum came with errors; others do not tell the scale of z_err.

    Returns
    -------
    dict
        ``folds``; ``ece`` of the class; ``pull``, figures by class as `metrics.pull_figures`
        gives them; ``max_outlier_rate``: what is ``promised``, the share of galaxies and quasars
        ``kept`` and the share ``wrong`` of those, None where the promise could not be given.
    """
    answered = answers["class"] != ""
    found = {name: values[answered] for name, values in answers.items()}
    fold = _folds(found["object_id"])
    return {
        "folds": FOLDS,
        "ece": _class_error(model, found, fold),
        "pull": _pulls(found, has_ivar[answered], fold),
        "max_outlier_rate": _promise(found, fold),
    }


def _folds(objects: np.ndarray) -> np.ndarray:
    """Each spectrum's fold, all those of an object in the same."""
    names, place = np.unique(objects, return_inverse=True)
    return (np.random.default_rng(0).permutation(len(names)) % FOLDS)[place]


def _class_error(model: SpectralViT, found: Mapping[str, np.ndarray], fold: np.ndarray) -> float:
    task = next(task for task in model.tasks if task.name == "class")
    truth = np.array([taxonomy.CLASSES.index(name) for name in found["class_true"]])
    p = np.stack([found[f"p_{name.lower()}"] for name in taxonomy.CLASSES], axis=1)
    # The logits, but for a constant that changes nothing.
    tempered = np.log(np.maximum(p, 1e-30)) * model.config.temperatures.get("class", 1.0)
    logits = torch.from_numpy(tempered)
    anew = np.zeros(p.shape)
    for number in range(FOLDS):
        here, others = fold == number, fold != number
        temperature = best_temperature(task, logits[others], torch.from_numpy(truth[others]))
        anew[here] = task.answer(task.temper(logits[here], temperature)).numpy()
    return expected_calibration_error(anew, truth)


def _pulls(
    found: Mapping[str, np.ndarray], has_ivar: np.ndarray, fold: np.ndarray
) -> dict[str, dict[str, float | int]]:
    true, error = found["class_true"], found["z"] - found["z_true"]
    judged = np.isfinite(error) & (found["z_err"] > 0)
    pull = np.divide(error, found["z_err"], out=np.zeros(len(error)), where=judged)
    close = np.abs(error) / (1.0 + found["z_true"]) < Z_OUTLIER
    fitting = judged & close & has_ivar & (found["class"] == true)
    figures = {}
    for name in taxonomy.CLASSES:
        own = true == name
        if not (judged & own).any():
            continue
        anew = [
            pull[judged & own & (fold == number)]
            / pull_scale(pull[fitting & own & (fold != number)])
            for number in range(FOLDS)
        ]
        figures[name] = pull_figures(np.concatenate(anew))
    return figures


def _promise(found: Mapping[str, np.ndarray], fold: np.ndarray) -> dict[str, float | None]:
    off = np.abs(found["z"] - found["z_true"]) / (1.0 + found["z_true"])
    far = (found["class_true"] != "STAR") & np.isfinite(off)
    wrong, z_prob = off > Z_OUTLIER, found["z_prob"]
    kept = np.zeros(len(fold), dtype=bool)
    try:
        for number in range(FOLDS):
            others = far & (fold != number)
            cut, _ = cut_for(confidence_table(z_prob[others], wrong[others]), PROMISE)
            kept |= far & (fold == number) & (z_prob >= cut)
    except UsageError:  # too few redshifts to promise so much
        return {"promised": PROMISE, "kept": None, "wrong": None}
    share = float(wrong[kept].mean()) if kept.any() else None
    return {"promised": PROMISE, "kept": float(kept.sum() / far.sum()), "wrong": share}
