"""Calibration judged by objects that it was not fitted on: by folds of the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spectromer_cli.errors import UsageError
from spectromer_cli.metrics import expected_calibration_error, pull_figures
from spectromer_cli.model import taxonomy
from spectromer_cli.model.confidence import confidence_table, cut_for
from spectromer_cli.model.template_fit import Refined
from spectromer_cli.training import calibration, split, validate

if TYPE_CHECKING:
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.model.template_fit import Basis
    from spectromer_cli.training.dataset import LabelledSpectra

FOLDS = 5
# The promise of `--max-outlier-rate` that is put to the test.
PROMISE = 0.01


def crossfit(
    model: SpectralViT, bases: Mapping[str, Basis], data: LabelledSpectra, device: torch.device
) -> dict[str, Any]:
    """How good the calibration is where its numbers come from other objects.

    The weights' own numbers were fitted on all held-out spectra. Here each fifth of the held-out
    objects is judged by numbers fitted, in the same way, on the other four.

    Parameters
    ----------
    model : SpectralViT
    bases : mapping of str to Basis
        Its templates by class.
    data : LabelledSpectra
        The held-out spectra, of known class.
    device : torch.device

    Returns
    -------
    dict
        ``folds``; ``ece`` of the class; ``pull`` of the template fits, figures by class as
        `metrics.pull_figures` gives them; ``max_outlier_rate``: what is ``promised``, the share
        of galaxies and quasars ``kept`` and the share ``wrong`` of those, None where the promise
        could not be given.
    """
    out = validate.logits(model, data, device)
    return judge(model, out, validate.refine_redshifts(model, out, data, bases), data)


def judge(
    model: SpectralViT, out: dict[str, torch.Tensor], refined: Refined, data: LabelledSpectra
) -> dict[str, Any]:
    """The figures of `crossfit`, from logits and refined redshifts."""
    found = out["class"].argmax(1).numpy()
    error = np.log1p(refined.z) - np.log1p(data.z)
    fold = split.folds(split.positions(data.group, data.class_, seed=0), FOLDS)
    p = np.zeros(out["class"].shape)
    sigma = np.full(len(data), np.nan)
    kept = np.zeros(len(data), dtype=bool)
    promised = True
    config = model.config
    for number in range(FOLDS):
        here, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        taught = data.take(others)
        temperatures = calibration.fit_temperatures(
            model, {name: values[others] for name, values in out.items()}, taught
        )
        p[here] = torch.softmax(out["class"][here] / temperatures["class"], 1).numpy()

        some = Refined(*(values[others] for values in vars(refined).values()))
        scales = calibration.error_scales(some, found[others], taught)
        by_class = [
            (scales[name]["error_scale"], scales[name]["misfit_scale"]) for name in taxonomy.CLASSES
        ]
        sigma[here] = np.hypot(*(np.array(by_class)[found[here]] * refined.formal[here]).T)

        model.config = replace(config, temperatures=temperatures)
        z_prob, wrong, far = calibration.redshift_confidences(model, out, data, refined)
        table = confidence_table(z_prob[others][far[others]], wrong[others][far[others]])
        try:
            kept[here] = far[here] & (z_prob[here] >= cut_for(table, PROMISE)[0])
        except UsageError:  # too few redshifts to promise so much
            promised = False
    model.config = config
    known = np.isfinite(error / sigma)
    return {
        "folds": FOLDS,
        "ece": expected_calibration_error(p, data.class_),
        "pull": {
            name: pull_figures((error / sigma)[which])
            for k, name in enumerate(taxonomy.CLASSES)
            if (which := known & (data.class_ == k)).any()
        },
        "max_outlier_rate": {
            "promised": PROMISE,
            "kept": float(kept.sum() / far.sum()) if promised else None,
            "wrong": float(wrong[kept].mean()) if promised and kept.any() else None,
        },
    }
