"""Evaluation: figures of known cases, truth found in catalogues, and the report on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from conftest import EXAMPLES, Run

from spectromer_cli.errors import UsageError
from spectromer_cli.evaluate import evaluate, find_truth, truth_of
from spectromer_cli.model.metrics import (
    expected_calibration_error,
    pull_figures,
    redshift_figures,
)
from spectromer_cli.outputs import report


def answers(n: int = 6) -> dict[str, np.ndarray]:
    """All right and sure, but for one class and one redshift; the last without an answer."""
    p = {name: np.zeros(n) for name in ("p_star", "p_galaxy", "p_qso")}
    p["p_galaxy"][:] = 1.0
    z = np.linspace(0.1, 0.6, n)
    z[1] += 0.5
    z[-1] = np.nan
    return {
        **p,
        "class": np.array(["GALAXY"] * (n - 1) + [""]),
        "z": z,
        "z_err": np.full(n, 1e-3),
        "z_prob": np.linspace(1.0, 0.5, n),
        "zwarn": np.array([0, 4] + [0] * (n - 2)),
        "sn_median": np.full(n, 7.0),
    }


def test_figures_of_a_known_case() -> None:
    truth = np.array(["GALAXY", "GALAXY", "QSO", "GALAXY", "GALAXY", "GALAXY"])
    found = evaluate(answers(), truth, np.linspace(0.1, 0.6, 6))
    assert (found["n"], found["answered"]) == (6, 5)
    classes = found["classes"]
    assert classes["accuracy"] == pytest.approx(4 / 6)  # no answer is not right
    assert classes["by_class"]["GALAXY"]["recall"] == pytest.approx(4 / 5)
    assert classes["by_class"]["GALAXY"]["precision"] == pytest.approx(4 / 5)
    assert classes["by_class"]["QSO"]["recall"] == 0.0
    assert classes["by_class"]["QSO"]["precision"] is None
    assert classes["confusion"]["rows_true"] == [[0, 0, 0], [0, 4, 0], [0, 1, 0]]
    redshifts = found["redshifts"]
    assert redshifts["galaxies_and_quasars"]["outliers_0.01"] == pytest.approx(1 / 5)
    assert redshifts["without_zwarn"]["outliers_0.01"] == 0.0
    assert redshifts["without_zwarn"]["share"] == pytest.approx(4 / 5)
    assert redshifts["by_sn"][0]["from"] == 5.0
    assert redshifts["completeness_purity"][0] == {
        "z_prob": 0.0,
        "completeness": 1.0,
        "purity": pytest.approx(4 / 5),
    }
    json.dumps(found, allow_nan=False)


def test_nothing_known_gives_nothing() -> None:
    found = evaluate(answers(), np.full(6, ""), np.full(6, np.nan))
    assert set(found) == {"n", "answered"}
    assert "6 spectra, 5 with an answer" in report.markdown(found, {})


def test_redshift_figures() -> None:
    truth = np.linspace(0.0, 1.0, 1001)
    noisy = truth + np.random.default_rng(0).normal(0.0, 1e-3, 1001) * (1 + truth)
    figures = redshift_figures(noisy, truth)
    assert figures["nmad"] == pytest.approx(1e-3, rel=0.1)
    assert figures["bias"] == pytest.approx(0.0, abs=2e-4)
    assert figures["r2"] == pytest.approx(1.0, abs=1e-4)
    assert redshift_figures(np.array([]), np.array([]))["nmad"] is None
    assert redshift_figures(np.array([0.2]), np.array([0.1]))["outliers_0.05"] == 1.0


def test_pulls() -> None:
    figures = pull_figures(np.random.default_rng(1).normal(0.5, 2.0, 4000))
    assert figures["width"] == pytest.approx(2.05, abs=0.15)
    assert figures["centre"] == pytest.approx(0.5, abs=0.15)


def test_calibration_error_of_known_cases() -> None:
    sure = np.array([[1.0, 0.0]] * 10)
    assert expected_calibration_error(sure, np.zeros(10, int)) == 0.0
    assert expected_calibration_error(sure, np.ones(10, int)) == 1.0
    honest = np.array([[0.8, 0.2]] * 10)
    truth = np.array([0] * 8 + [1] * 2)
    assert expected_calibration_error(honest, truth) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("columns", "chosen", "expected"),
    [
        (["file", "CLASS", "Z"], (None, None), ("CLASS", "Z")),
        (["file", "redshift"], (None, None), (None, "redshift")),
        (["file", "class", "kind"], ("kind", None), ("kind", None)),
    ],
)
def test_truth_is_found(columns, chosen, expected) -> None:
    assert find_truth(columns, *chosen) == expected


def test_truth_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="states no truth"):
        find_truth(["file", "ra"], None, None)
    with pytest.raises(UsageError, match="no column 'kind'"):
        find_truth(["file", "class"], "kind", None)
    with pytest.raises(UsageError, match="no redshifts"):
        truth_of(Table({"z": ["near", "far"]}), None, "z")


def test_unknown_truth_is_left_out() -> None:
    table = Table({"c": ["galaxy ", "", "Unknown"], "z": [0.1, -9999.0, np.nan]})
    classes, z = truth_of(table, "c", "z")
    assert classes.tolist() == ["GALAXY", "", "UNKNOWN"]
    assert np.isfinite(z).tolist() == [True, False, False]


def test_the_report_on_disk(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "report"
    result = run("evaluate", "--catalog", EXAMPLES / "truth.csv", "-o", folder)
    assert result.code == 0, result.err
    assert json.loads(result.out)["classes"]["accuracy"] == 1.0
    assert {path.name for path in folder.iterdir()} == {
        "answers.ecsv", "report.json", "report.md", "report.png",
    }  # fmt: skip
    table = Table.read(folder / "answers.ecsv")
    assert table["class_true"].tolist() == table["class"].tolist()
    document = json.loads((folder / "report.json").read_text())
    assert len(document["provenance"]["sha256"]) == 64
    assert document["redshifts"]["galaxies_and_quasars"]["outliers_0.01"] == 0.0
    assert "| GALAXY | 1 | 1 | 1 |" in (folder / "report.md").read_text()


def test_missing_files_count_as_wrong(run: Run, tmp_path: Path, weights) -> None:
    catalogue = tmp_path / "t.csv"
    catalogue.write_text("file,class\ngone.fits,STAR\n")
    result = run("evaluate", "--catalog", catalogue, "-o", tmp_path / "r", *weights)
    assert result.code == 3
    assert json.loads(result.out)["classes"]["accuracy"] == 0.0
    assert run("evaluate", "-q").code == 2
