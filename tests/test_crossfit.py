"""Calibration from held-out spectra, and calibration judged by objects it was not fitted on."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Run
from small_set import write_labelled

from spectromer_cli.model import taxonomy
from spectromer_cli.model.metrics import expected_calibration_error
from spectromer_cli.model.redshift import Refined
from spectromer_cli.model.tasks import Category
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import calibration, crossfit
from spectromer_cli.training.dataset import LabelledSpectra

N = 1500


def made(n: int, rng: np.random.Generator) -> tuple[LabelledSpectra, torch.Tensor]:
    """A set whose true classes follow the logits divided by 3."""
    logits = rng.normal(0.0, 6.0, (n, 3))
    p = np.exp(logits / 3.0)
    class_ = np.array([rng.choice(3, p=row / row.sum()) for row in p])
    names = np.array([f"object {number // 2}" for number in range(n)])
    pixels = np.ones((n, 4), dtype=np.float16)
    data = LabelledSpectra(
        grid=Grid(3.6, 1e-4, 4), flux=pixels, ivar=pixels, has_ivar=np.ones(n, dtype=bool),
        survey=np.full(n, "SDSS"), group=names, subclass_name=np.full(n, ""),
        class_=class_, subclass=np.full(n, -1), z=rng.uniform(0.1, 0.5, n), sn=np.full(n, 10.0),
    )  # fmt: skip
    return data, torch.from_numpy(logits)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch):
    """Cross-fits made answers: logits, redshifts and confidences do not come from a model."""

    def run(data: LabelledSpectra, logits: torch.Tensor, refined: Refined, z_prob, wrong):
        task = Category("class", taxonomy.CLASSES)
        model = SimpleNamespace(tasks=[task], config=Configuration({}))
        far = data.class_ > 0
        monkeypatch.setattr(crossfit.validate, "logits", lambda *_: {"class": logits})
        monkeypatch.setattr(crossfit.validate, "refine_redshifts", lambda *_: refined)
        monkeypatch.setattr(
            crossfit.calibration, "redshift_confidences", lambda *_: (z_prob, wrong, far)
        )
        monkeypatch.setattr(
            crossfit.validate, "targets", lambda data: {"class": torch.from_numpy(data.class_)}
        )
        monkeypatch.setattr(calibration, "targets", crossfit.validate.targets)
        figures = crossfit.crossfit(model, {}, data, torch.device("cpu"))
        assert model.config.temperatures == {}  # the weights' own come back
        return figures

    return run
