"""Calibration judged by objects that it was not fitted on: by folds of the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spectromer_cli.accuracy import calibration
from spectromer_cli.errors import UsageError
from spectromer_cli.metrics import expected_calibration_error, pull_figures
from spectromer_cli.model import taxonomy
from spectromer_cli.model.confidence import confidence_table, cut_for
from spectromer_cli.model.template_fit import Refined
from spectromer_cli.training import split
from spectromer_cli.training.loop import predict_logits

if TYPE_CHECKING:
    from spectromer_cli.evaluation.held_out import HeldOut
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.model.template_fit import Basis

FOLDS = 5
# The promise of `--max-outlier-rate` that is put to the test.
PROMISE = 0.01


def cross_calibrate(
    model: SpectralViT, bases: Mapping[str, Basis], held_out: HeldOut, device: torch.device
) -> dict[str, Any]:
    """How good the calibration is where its numbers come from other objects.

    The weights' own numbers were fitted on all held-out spectra. Here each fifth of the held-out
    objects is judged by numbers fitted, in the same way, on the other four.

    Parameters
    ----------
    model : SpectralViT
        Of stars, galaxies and quasars.
    bases : mapping of str to Basis
        Its templates by class.
    held_out : HeldOut
    device : torch.device

    Returns
    -------
    dict
        ``folds``; ``ece`` of the class; ``pull`` of the template fits, figures by class as
        `metrics.pull_figures` gives them; ``max_outlier_rate``: what is ``promised``, the share
        of galaxies and quasars ``kept`` and the share ``wrong`` of those, None where the promise
        could not be given.
    """
    data = held_out.data.take(held_out.testing)
    flux, ivar = data.on_grid(model.config.grid)
    logits = predict_logits(model, flux, ivar, device)
    proposed = calibration.predicted_redshifts(model.tasks, logits, model.config.temperatures)
    classes = calibration.predicted_classes(model.tasks, logits)
    refined = calibration.refined_redshifts(proposed, classes, flux, ivar, bases, model.config.grid)
    rows = np.flatnonzero(held_out.testing)
    targets = {target.name: target for target in held_out.targets}
    return judge(
        model, logits, refined, {name: t.tensor(rows) for name, t in targets.items()},
        targets["z"].values[rows], data.group, data.has_ivar,
    )  # fmt: skip


def judge(
    model: SpectralViT,
    logits: Mapping[str, torch.Tensor],
    refined: Refined,
    targets: Mapping[str, torch.Tensor],
    z: np.ndarray,
    group: np.ndarray,
    has_ivar: np.ndarray,
) -> dict[str, Any]:
    """The figures of `cross_calibrate`, from logits and refined redshifts.

    Parameters
    ----------
    model : SpectralViT
    logits : mapping of str to Tensor, shapes (n, task.size)
    refined : Refined
    targets : mapping of str to Tensor, shape (n,)
        Labels of the tasks, ``class`` among them.
    z : array, shape (n,)
        Reference redshifts.
    group : array of str, shape (n,)
        The object of each spectrum.
    has_ivar : bool array, shape (n,)
    """
    number = targets["class"].numpy()
    classes = np.array([*taxonomy.CLASSES, ""])[number]
    found = calibration.predicted_classes(model.tasks, logits)
    error = np.log1p(refined.z) - np.log1p(z)
    fold = split.folds(split.places(group, 0, number), FOLDS)
    n = len(group)
    confidence, right = np.zeros(n), np.zeros(n, dtype=bool)
    sigma = np.full(n, np.nan)
    kept = np.zeros(n, dtype=bool)
    promised = True
    for k in range(FOLDS):
        here, others = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        temperatures = calibration.fit_temperatures(
            model.tasks,
            {name: values[others] for name, values in logits.items()},
            {name: values[others] for name, values in targets.items()},
        )
        p = torch.softmax(logits["class"][here] / temperatures["class"], 1).numpy()
        confidence[here], right[here] = p.max(axis=1), p.argmax(axis=1) == number[here]

        some = Refined(*(values[others] for values in vars(refined).values()))
        scales = calibration.error_scales(
            some, found[others], classes[others], z[others], has_ivar[others]
        )
        both = np.array([[*scales[name].values()] for name in found[here]]).reshape(-1, 2)
        sigma[here] = np.hypot(*(both * refined.formal[here]).T)

        proposed = calibration.predicted_redshifts(model.tasks, logits, temperatures)
        best = np.where(np.isfinite(refined.z), refined.z, proposed.z)
        wrong, far = calibration.wrong_redshifts(best, classes, z)
        table = confidence_table(proposed.z_prob[others][far[others]], wrong[others][far[others]])
        try:
            kept[here] = far[here] & (proposed.z_prob[here] >= cut_for(table, PROMISE)[0])
        except UsageError:  # too few redshifts to promise so much
            promised = False
    known = np.isfinite(error / sigma)
    return {
        "folds": FOLDS,
        "ece": expected_calibration_error(confidence, right),
        "pull": {
            name: pull_figures((error / sigma)[which])
            for name in taxonomy.CLASSES
            if (which := known & (classes == name)).any()
        },
        "max_outlier_rate": {
            "promised": PROMISE,
            "kept": float(kept.sum() / far.sum()) if promised else None,
            "wrong": float(wrong[kept].mean()) if promised and kept.any() else None,
        },
    }
