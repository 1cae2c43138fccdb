"""Calibration judged by other objects: known cases, and what objects in one fold may not tell."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Run
from small_set import write_labelled

from spectromer_cli.model import taxonomy
from spectromer_cli.model.metrics import expected_calibration_error
from spectromer_cli.model.tasks import Category
from spectromer_cli.training import crossfit

MODEL = SimpleNamespace(
    tasks=[Category("class", taxonomy.CLASSES)],
    config=SimpleNamespace(temperatures={"class": 0.5}),
)


def made(n: int = 3000, *, overconfidence: float = 1.0, claimed: float = 1.0, seed: int = 0):
    """Answers whose logits are too large and whose errors are too small by known factors."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 2.0, (n, 3))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = np.array([rng.choice(3, p=p) for p in honest])
    p = honest**overconfidence
    p /= p.sum(axis=1, keepdims=True)
    z_true = rng.uniform(0.1, 0.5, n)
    sigma = np.full(n, 1e-4)
    classes = np.array(taxonomy.CLASSES)
    return {
        "object_id": np.array([f"object {number // 2}" for number in range(n)]),
        "class": classes[p.argmax(axis=1)],
        **{f"p_{name.lower()}": p[:, k] for k, name in enumerate(taxonomy.CLASSES)},
        "z": z_true + rng.normal(0.0, sigma),
        "z_err": claimed * sigma,
        "z_prob": rng.uniform(0.5, 1.0, n),
        "class_true": classes[true],
        "z_true": z_true,
    }


def judged(answers, has_ivar=None):
    everything = np.ones(len(answers["z"]), dtype=bool)
    return crossfit.crossfit(MODEL, answers, everything if has_ivar is None else has_ivar)


def test_temperature_and_scale_are_found_from_other_objects() -> None:
    answers = made(overconfidence=3.0, claimed=0.2)
    p = np.stack([answers[f"p_{name.lower()}"] for name in taxonomy.CLASSES], axis=1)
    truth = np.array([taxonomy.CLASSES.index(name) for name in answers["class_true"]])
    assert expected_calibration_error(p, truth) > 0.1
    figures = judged(answers)
    assert figures["ece"] < 0.03
    assert set(figures["pull"]) == set(taxonomy.CLASSES)
    for pull in figures["pull"].values():
        assert pull["width"] == pytest.approx(1.0, abs=0.1)


def test_all_spectra_of_an_object_are_in_one_fold() -> None:
    objects = np.array([f"object {number % 50}" for number in range(400)])
    fold = crossfit._folds(objects)
    assert all(len(set(fold[objects == name])) == 1 for name in np.unique(objects))
    assert [int((fold == number).sum()) for number in range(crossfit.FOLDS)] == [80] * 5


def test_an_object_does_not_judge_itself() -> None:
    """One object of many spectra and errors too small by ten: others do not know of that."""
    answers = made(600)
    answers["class"] = answers["class_true"] = np.full(600, "GALAXY")
    odd = np.arange(600) >= 300
    answers["object_id"][odd] = "odd"
    answers["z_err"][odd] /= 10.0
    # Scaled with its own object's knowledge half of these spectra would not lie beyond 5.
    assert judged(answers)["pull"]["GALAXY"]["beyond_5"] == pytest.approx(0.31, abs=0.05)


def test_spectra_without_errors_do_not_tell_the_scale() -> None:
    answers = made()
    has_ivar = np.arange(3000) % 5 < 2
    answers["z_err"][~has_ivar] *= 1e3
    assert judged(answers)["pull"]["STAR"]["width"] == pytest.approx(1.0, abs=0.2)
    assert judged(answers, has_ivar)["pull"]["STAR"]["width"] < 0.1


def test_a_promise_is_kept_or_not_given() -> None:
    answers = made()
    answers["z"] = answers["z_true"] + np.where(answers["z_prob"] < 0.6, 0.5, 0.0)
    promise = judged(answers)["max_outlier_rate"]
    assert promise["wrong"] <= promise["promised"]
    assert promise["kept"] == pytest.approx(0.8, abs=0.03)
    few = {name: values[:40] for name, values in made().items()}
    assert judged(few)["max_outlier_rate"]["kept"] is None


def test_spectra_without_an_answer_are_left_out() -> None:
    answers = made(300)
    answers["class"][7], answers["z"][7], answers["z_err"][7] = "", np.nan, np.nan
    for name in taxonomy.CLASSES:
        answers[f"p_{name.lower()}"][7] = np.nan
    figures = judged(answers)
    assert np.isfinite(figures["ece"])
    assert sum(pull["n"] for pull in figures["pull"].values()) == 299


def test_the_report_has_it_beside_the_weights_own(run: Run, tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "real.h5")
    result = run("evaluate", "--data", data, "-o", tmp_path / "report", "--device", "cpu")
    assert result.code == 0, result.err
    calibration = json.loads(result.out)["calibration"]
    assert calibration["folds"] == crossfit.FOLDS
    text = (tmp_path / "report" / "report.md").read_text()
    ece = json.loads(result.out)["classes"]["ece"]
    assert f"| {ece:.4g} | {calibration['ece']:.4g} |" in text
    assert "--max-outlier-rate" not in text  # too few for the promise
