"""Calibration from held-out spectra, and calibration judged by objects it was not fitted on."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Run
from small_set import write_labelled

from spectromer_cli.accuracy import calibration
from spectromer_cli.evaluation import cross_calibration
from spectromer_cli.metrics import expected_calibration_error
from spectromer_cli.model import taxonomy
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.tasks import Category, Redshift
from spectromer_cli.model.template_fit import Refined
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import split

TASKS = [Category("class", taxonomy.CLASSES), Redshift("z", bins=300, x0=0.0, dx=0.002)]


class Made(SimpleNamespace):
    """Logits, refined redshifts and labels of made spectra."""

    @property
    def names(self) -> np.ndarray:
        return np.array(taxonomy.CLASSES)[self.class_]

    def judged(self) -> dict:
        config = ModelConfig("vit", "tiles", 7, Grid(3.6, 1e-4, 4), [])
        targets = {"class": torch.from_numpy(self.class_), "z": torch.from_numpy(self.z)}
        return cross_calibration.judge(
            SimpleNamespace(tasks=TASKS, config=config), self.out, self.refined, targets, self.z,
            self.group, self.has_ivar,
        )  # fmt: skip


def made(n: int = 1500, *, seed: int = 0, noise: float = 1.0, misfit: float = 1.0) -> Made:
    """Predictions too sure of the class by a factor 3, of z by `noise` and `misfit`.

    Every tenth redshift is wrong, and its p(z) has a second peak.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 6.0, (n, 3))
    honest = np.exp(logits / 3.0) / np.exp(logits / 3.0).sum(axis=1, keepdims=True)
    z = rng.uniform(0.1, 0.5, n)
    formal = np.stack([rng.uniform(1, 3, n), rng.uniform(0, 9, n)], axis=1) * 1e-5
    sigma = np.hypot(noise * formal[:, 0], misfit * formal[:, 1])
    x = np.log1p(z) + rng.normal(0.0, sigma)
    wrong = np.arange(n) % 10 == 9
    x[wrong] += 0.05
    peaks = np.exp(-0.5 * ((TASKS[1].x - x[:, None]) / 0.002) ** 2)
    peaks += np.where(wrong, 0.8, 0.001)[:, None] * np.roll(peaks, 40, axis=1)
    return Made(
        out={"class": torch.from_numpy(logits), "z": torch.from_numpy(np.log(peaks + 1e-6))},
        refined=Refined(
            np.expm1(x), sigma * np.exp(x), formal, np.full(n, np.nan), np.ones(n),
            np.zeros(n, dtype=bool),
        ),
        class_=np.array([rng.choice(3, p=p) for p in honest]), z=z, has_ivar=np.ones(n, bool),
        group=np.array([f"object {i // 2}" for i in range(n)]),
    )  # fmt: skip


def test_temperature_and_scales_are_found_from_other_objects() -> None:
    it = made(noise=3.0, misfit=5.0)
    p = torch.softmax(it.out["class"], 1).numpy()
    assert expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == it.class_) > 0.1
    figures = it.judged()
    assert figures["ece"] < 0.05
    assert set(figures["pull"]) == set(taxonomy.CLASSES)
    for pull in figures["pull"].values():
        assert pull["width"] == pytest.approx(1.1, abs=0.15)  # a tenth is wrong


def test_all_spectra_of_an_object_are_in_one_fold() -> None:
    objects = np.array([f"object {number % 50}" for number in range(400)])
    place = split.places(objects, 0, np.zeros(400, dtype=int))
    fold = split.folds(place, cross_calibration.FOLDS)
    assert all(len(set(fold[objects == name])) == 1 for name in np.unique(objects))
    assert [int((fold == number).sum()) for number in range(cross_calibration.FOLDS)] == [80] * 5


def test_an_object_does_not_judge_itself() -> None:
    """One of many spectra whose errors are too small by 30: no other object knows of that."""
    it = made(600)
    it.class_[:] = 1
    it.out["class"][:] = torch.tensor([0.0, 9.0, 0.0])
    it.group[300:] = "odd"
    it.refined.formal[300:] /= 30.0
    # Its own spectra, half of all, would have made the scale several times larger.
    assert it.judged()["pull"]["GALAXY"]["beyond_5"] > 0.4


def test_a_promise_is_kept_or_not_given() -> None:
    it = made()
    it.out["class"] = 20.0 * torch.nn.functional.one_hot(torch.from_numpy(it.class_), 3).double()
    promise = it.judged()["max_outlier_rate"]
    assert promise["wrong"] <= promise["promised"]
    assert promise["kept"] == pytest.approx(0.9, abs=0.01)
    it = made(60)
    assert it.judged()["max_outlier_rate"]["kept"] is None
    it.class_[:] = 0
    assert it.judged()["max_outlier_rate"]["kept"] is None


@pytest.mark.parametrize(("noise", "misfit"), [(1.0, 1.0), (1.5, 5.0), (8.0, 3.0)])
def test_the_scales_of_both_parts_of_an_error_come_back(noise: float, misfit: float) -> None:
    rng = np.random.default_rng(4)
    formal = np.stack([rng.uniform(1, 3, 4000), 10 ** rng.uniform(-1, 2, 4000)], axis=1) * 1e-5
    sigma = np.hypot(noise * formal[:, 0], misfit * formal[:, 1])
    found = calibration.two_scales(rng.normal(0.0, sigma), formal)
    assert found["error_scale"] == pytest.approx(noise, rel=0.2)
    assert found["misfit_scale"] == pytest.approx(misfit, rel=0.2)


def test_too_few_redshifts_leave_the_errors_as_they_are() -> None:
    found = calibration.two_scales(np.full(10, 1.0), np.full((10, 2), 1e-5))
    assert found == {"error_scale": 1.0, "misfit_scale": 1.0}


@pytest.mark.parametrize("spoil", ["class", "outlier", "has_ivar"])
def test_what_does_not_tell_the_scale(spoil: str) -> None:
    """Half of the spectra have errors that are far too small, for a reason of their own."""
    it = made(noise=2.0, misfit=2.0)
    found = it.class_.copy()
    odd = np.arange(len(found)) % 2 == 0
    it.refined.formal[odd] /= 100.0
    if spoil == "class":
        found[odd] = (found[odd] + 1) % 3
    elif spoil == "outlier":
        it.refined.z[odd] += 0.1
    else:
        it.has_ivar[odd] = False
    names = np.array(taxonomy.CLASSES)[found]
    for scales in calibration.error_scales(it.refined, names, it.names, it.z, it.has_ivar).values():
        assert scales["error_scale"] < 5.0
        assert scales["misfit_scale"] < 5.0


def test_the_report_has_it_beside_the_weights_own(run: Run, tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "real.h5")
    result = run("evaluate", "--data", data, "-o", tmp_path / "report", "--device", "cpu")
    assert result.code == 0, result.err
    calibration = json.loads(result.out)["calibration"]
    assert calibration["folds"] == cross_calibration.FOLDS
    text = (tmp_path / "report" / "report.md").read_text()
    ece = json.loads(result.out)["classes"]["ece"]
    assert f"| {ece:.4g} | {calibration['ece']:.4g} |" in text
    assert "--max-outlier-rate" not in text  # too few for the promise
