"""Evaluation: figures of known cases, truth found in catalogues, and the report on disk."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import EXAMPLES, ROOT, Run
from small_set import write_labelled
from survey_files import made, write_spec

from spectromer_cli.accuracy import markdown
from spectromer_cli.accuracy.summary import summarise
from spectromer_cli.errors import UsageError
from spectromer_cli.metrics import (
    bootstrap_interval,
    expected_calibration_error,
    letter_figures,
    pull_figures,
    redshift_figures,
    scatter_figures,
    share_interval,
    velocity_figures,
)
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.training import targets
from spectromer_cli.training.dataset import Source

LABELS = {"class": taxonomy.CLASSES, "subclass": tuple(taxonomy.SUBCLASSES)}


def evaluate(found, classes, z, further=None) -> dict:
    return summarise(found, {"class": classes, "z": z, **(further or {})}, LABELS)


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
    assert (found["n"], found["predicted"]) == (6, 5)
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
    pull = redshifts["pull"]["GALAXY"]
    assert [(row["from"], row["to"], row["n"]) for row in pull["by_sn"]] == [(5.0, 10.0, pull["n"])]
    assert pull["by_sn"][0]["beyond_5"] == pull["beyond_5"] == pytest.approx(1 / 4)
    assert redshifts["completeness_purity"][0] == {
        "z_prob": 0.0,
        "completeness": 1.0,
        "purity": pytest.approx(4 / 5),
    }
    assert redshifts["quasar_velocity_by_z"] == [
        {"from": 0.0, "to": 0.5, **velocity_figures(np.array([0.3]), np.array([0.3]))}
    ]
    counts = {
        (row["from"], row["to"]): (row["labels"], row["predictions"])
        for row in redshifts["z_histogram"]
    }
    # One of 0.2 is found at 0.7; the last, without a prediction, does not count.
    assert counts[0.1, 0.3] == (2, 1) and counts[0.6, 1.0] == (0, 1)
    json.dumps(found, allow_nan=False)


def test_nothing_known_gives_nothing() -> None:
    found = evaluate(answers(), np.full(6, ""), np.full(6, np.nan))
    assert set(found) == {"n", "predicted"}
    assert "6 spectra, 5 with a prediction" in markdown.markdown(found, {})


def test_redshift_figures() -> None:
    truth = np.linspace(0.0, 1.0, 1001)
    noisy = truth + np.random.default_rng(0).normal(0.0, 1e-3, 1001) * (1 + truth)
    figures = redshift_figures(noisy, truth)
    assert figures["nmad"] == pytest.approx(1e-3, rel=0.1)
    assert figures["bias"] == pytest.approx(0.0, abs=2e-4)
    assert figures["r2"] == pytest.approx(1.0, abs=1e-4)
    assert redshift_figures(np.array([]), np.array([]))["nmad"] is None
    assert redshift_figures(np.array([0.2]), np.array([0.1]))["outliers_0.05"] == 1.0


def test_one_wrong_label_is_seen_in_r2_and_told() -> None:
    truth = np.linspace(0.0, 0.5, 101)
    truth[50] = 4.0
    found = truth.copy()
    found[50] = 0.0
    figures = redshift_figures(found, truth)
    assert figures["r2"] < 0.1
    assert figures["r2_without_worst"] == 1.0
    low, high = figures["interval"]["outliers_0.01"]
    assert low < figures["outliers_0.01"] < high
    assert redshift_figures(found[:1], truth[:1])["nmad"] is None


def test_intervals_of_known_cases() -> None:
    assert share_interval(0, 0) is None
    # Wilson's limits at one σ: n/(n+1) of the share and half a count, for none of n.
    assert share_interval(0, 9) == pytest.approx((0.0, 0.1))
    low, high = share_interval(50, 100)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(0.1, rel=0.01)
    values = np.random.default_rng(2).normal(0.0, 1.0, 400)
    low, high = bootstrap_interval(np.mean, values)
    assert high - low == pytest.approx(2 / 20, rel=0.2)
    assert low < values.mean() < high
    assert bootstrap_interval(np.mean, values) == (low, high)
    assert bootstrap_interval(np.mean, values[:3]) is None


def test_letters_and_their_neighbours() -> None:
    truth = np.array(["G", "G", "M", "WD", "A"])
    figures = letter_figures(np.array(["G", "K", "G", "A", ""]), truth)
    assert (figures["right"], figures["within_one"]) == (pytest.approx(0.2), pytest.approx(0.4))
    assert letter_figures(truth[:0], truth[:0])["right"] is None


def test_scatter_and_pull_of_parameters() -> None:
    error = np.random.default_rng(3).normal(100.0, 50.0, 2000)
    figures = scatter_figures(error - 100.0, np.full(2000, 25.0))
    assert figures["scatter"] == pytest.approx(50.0, rel=0.1)
    assert figures["pull"] == pytest.approx(2.0, rel=0.1)
    assert scatter_figures(error)["bias"] == pytest.approx(100.0, abs=5.0)


def test_stars_are_judged_where_there_is_truth() -> None:
    n = 6
    found = answers(n) | {
        "class": np.array(["STAR"] * 5 + ["GALAXY"]),
        "survey": np.array(["LAMOST"] * 3 + ["SDSS"] * 3),
        "subclass": np.array(["G", "G", "K", "M", "WD", "AGN"]),
        "star_type": np.array([42.0, 45.0, 50.0, np.nan, np.nan, np.nan]),
        "star_type_err": np.array([1.0, 1.0, 1.0, np.nan, np.nan, np.nan]),
        "teff": np.array([5800.0, 5500.0, 5000.0, np.nan, np.nan, np.nan]),
        "teff_err": np.full(n, 100.0),
    }
    truth = {
        "letter": np.array(["G", "G", "G", "M", "", "K"]),
        "star_type": np.array([42.0, 43.0, 51.0, np.nan, np.nan, 50.0]),
        "teff": np.array([5700.0, 5600.0, np.nan, np.nan, np.nan, 5000.0]),
        "logg": np.full(n, np.nan),
        "feh": np.full(n, np.nan),
    }
    report_ = evaluate(found, np.full(n, "STAR"), np.zeros(n), truth)
    stars = report_["stars"]
    assert stars["letter"]["n"] == 5
    assert stars["letter"]["right"] == pytest.approx(3 / 5)
    assert stars["letter"]["within_one"] == pytest.approx(4 / 5)
    assert stars["letter"]["by_survey"][0]["survey"] == "LAMOST"
    assert stars["star_type"]["n"] == 3
    assert stars["star_type"]["right"] == stars["star_type"]["within_sigma"] / 2 == 1 / 3
    assert stars["star_type"]["mean_error"] == 1.0
    assert stars["star_type"]["within_one"] == pytest.approx(2 / 3)
    assert (stars["teff"]["n"], stars["teff"]["scatter"]) == (2, pytest.approx(148.26))
    assert stars["teff"]["pull"] == pytest.approx(1.4826)
    assert "logg" not in stars
    text = markdown.markdown(
        report_, {}, {"svm": evaluate(answers(), np.full(n, "STAR"), np.zeros(n))}
    )
    assert "| Teff (K) | all | 2 | 148.3 | 0 | 1.483 |" in text
    assert "| stars: type correct to one subtype | 0.6667 (" in text
    assert (
        "| stars: spectral class correct | 0.6 (" in text
    )  # and the other, which has none, an empty cell


def test_subclasses_of_galaxies_and_quasars() -> None:
    n = 6
    found = answers(n) | {
        "class": np.array(["GALAXY", "GALAXY", "STAR", "QSO", "QSO", "STAR"]),
        "subclass": np.array(["AGN", "AGN", "G", "BROADLINE", "BROADLINE", "G"]),
    }
    truth = ["GALAXY AGN", "GALAXY PASSIVE", "GALAXY AGN", "QSO BROADLINE", "", "STAR G"]
    report_ = evaluate(
        found, np.array(["GALAXY"] * 3 + ["QSO"] * 2 + ["STAR"]), np.zeros(n),
        {"subclass": np.array(truth), "letter": np.array([""] * 5 + ["G"])},
    )  # fmt: skip
    galaxies = report_["subclasses"]["GALAXY"]
    assert (galaxies["n"], galaxies["right"]) == (3, pytest.approx(1 / 3))
    agn = galaxies["by_label"]["AGN"]
    assert (agn["recall"], agn["precision"]) == (0.5, 0.5)
    assert report_["subclasses"]["QSO"]["right"] == 1.0
    assert set(report_["subclasses"]) == {"GALAXY", "QSO"}
    assert "| AGN |" in markdown.markdown(report_, {})


def test_the_page_of_the_documentation_is_that_of_the_default_weights() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    manifest = json.loads((ROOT / "weights" / "manifest.json").read_text(encoding="utf-8"))
    default = next(w for w in manifest["weights"] if w["name"] == manifest["default"])
    assert f"- sha256: `{default['sha256']}`" in page, "run spectromer evaluate --docs again"
    assert "- command: `spectromer evaluate --data" in page


def test_pulls() -> None:
    figures = pull_figures(np.random.default_rng(1).normal(0.5, 2.0, 4000))
    assert figures["width"] == pytest.approx(2.05, abs=0.15)
    assert figures["centre"] == pytest.approx(0.5, abs=0.15)


def test_calibration_error_of_known_cases() -> None:
    sure, right = np.ones(10), np.ones(10, dtype=bool)
    assert expected_calibration_error(sure, right) == 0.0
    assert expected_calibration_error(sure, ~right) == 1.0
    assert expected_calibration_error(np.full(10, 0.8), np.arange(10) < 8) == pytest.approx(0.0)


def test_tasks_of_ones_own_have_their_figures() -> None:
    found = {
        "kind": np.array(["nova", "dwarf", "nova", ""]), "kind_prob": np.array([1, 1, 1, np.nan]),
        "depth": np.array([1.0, 2.0, 3.5, np.nan]), "depth_err": np.full(4, 0.25),
        "sn_median": np.full(4, 9.0),
    }  # fmt: skip
    references = {
        "kind": np.array(["nova", "dwarf", "dwarf", "nova"]),
        "depth": np.array([1.0, 2.0, 3.0, 4.0]),
    }
    report = summarise(found, references, {"kind": ("dwarf", "nova")})
    assert (report["n"], report["predicted"]) == (4, 3)
    kind, depth = report["categories"]["kind"], report["quantities"]["depth"]
    assert kind["accuracy"] == 0.5  # what has no prediction is not right
    assert kind["by_label"]["dwarf"]["recall"] == 0.5
    assert kind["ece"] == pytest.approx(1 / 3)
    assert (depth["n"], depth["bias"]) == (3, 0.0)
    assert depth["r2"] == pytest.approx(1 - 0.25 / 2)
    text = markdown.markdown(report, {}, {"rf": report})
    assert "## kind" in text and "| nova | 2 | 0.5 (" in text
    assert "| depth | 3 | 0 | 0 | 0.875 |" in text
    assert "| kind: accuracy | 0.5 (" in text
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("columns", "chosen", "expected"),
    [
        (["file", "CLASS", "Z"], {}, ("CLASS", "Z")),
        (["file", "redshift"], {}, (None, "redshift")),
        (["file", "class", "kind"], {"class": "kind"}, ("kind", None)),
    ],
)
def test_label_columns_are_found(columns, chosen, expected) -> None:
    source = Source("it", labels=Table({name: [0] for name in columns}), chosen=chosen)
    assert (source.column("class"), source.column("z")) == expected


def test_label_columns_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="no column 'kind'"):
        Source("it", labels=Table({"class": [0]}), chosen={"class": "kind"}).column("class")
    with pytest.raises(UsageError, match="holds 'far', which is not a number"):
        targets.of_tasks({"z": np.ma.array(["0.1", "far"])}, [tasks.Redshift()], 2)


def test_unknown_labels_are_left_out() -> None:
    labels = {
        "class": np.ma.array(["galaxy ", "", "Unknown"]),
        "z": np.ma.array([0.1, -9999.0, np.nan]),
    }
    known = [tasks.Category("class", taxonomy.CLASSES), tasks.Redshift()]
    class_, z = targets.of_tasks(labels, known, 3)
    assert class_.values.tolist() == [1, -1, -1]
    assert np.isfinite(z.values).tolist() == [True, False, False]


def test_the_report_on_disk(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "report"
    result = run("evaluate", "--catalog", EXAMPLES / "truth.csv", "-o", folder)
    assert result.code == 0, result.err
    assert json.loads(result.out)["classes"]["accuracy"] == 1.0
    assert {path.name for path in folder.iterdir()} == {
        "predictions.ecsv", "report.json", "report.md", "report.png",
    }  # fmt: skip
    table = Table.read(folder / "predictions.ecsv")
    assert table["class_true"].tolist() == table["class"].tolist()
    document = json.loads((folder / "report.json").read_text())
    assert len(document["provenance"]["sha256"]) == 64
    assert document["redshifts"]["galaxies_and_quasars"]["outliers_0.01"] == 0.0
    assert "| GALAXY | 1 | 1 (0.5 to 1) | 1 (0.5 to 1) |" in (folder / "report.md").read_text()


def test_missing_files_count_as_wrong(run: Run, tmp_path: Path, weights) -> None:
    catalogue = tmp_path / "t.csv"
    catalogue.write_text(f"file,class\ngone.fits,STAR\n{EXAMPLES}/simulated-sdss-star.fits,\n")
    result = run("evaluate", "--catalog", catalogue, "-o", tmp_path / "r", *weights)
    assert result.code == 3
    assert json.loads(result.out)["classes"]["accuracy"] == 0.0
    assert run("evaluate", "-q").code == 2


WRONG = ("5207", "56018", "260")  # plate, mjd, fiber


def test_a_label_that_is_known_to_be_wrong_is_not_judged(run: Run, tmp_path: Path, weights) -> None:
    for name in ("a.fits", "b.fits"):
        write_spec(tmp_path / name, made(n=3000), "BOSS")
    with fits.open(tmp_path / "b.fits", mode="update") as file:
        for card, value in zip(("PLATEID", "MJD", "FIBERID"), WRONG, strict=True):
            file[0].header[card] = int(value)
        for card, value in zip(("PLATE", "MJD", "FIBERID"), WRONG, strict=True):
            file[2].data[card] = int(value)
    catalogue = tmp_path / "t.csv"
    catalogue.write_text("file,class,z\na.fits,QSO,3.82\nb.fits,QSO,3.82\n")
    result = run("evaluate", "--catalog", catalogue, "-o", tmp_path / "r", *weights)
    assert result.code == 0, result.err
    assert json.loads(result.out)["classes"]["n"] == 1
    text = (tmp_path / "r" / "report.md").read_text()
    assert "Left out because their labels are known to be wrong: 1 spectrum." in text
    table = Table.read(tmp_path / "r" / "predictions.ecsv")
    assert len(table) == 2 and str(table["class_true"][1]) in ("", "--")
    # The reader's own label of it is judged.
    catalogue.write_text("file,class,z\na.fits,QSO,3.82\nb.fits,STAR,0\n")
    result = run("evaluate", "--catalog", catalogue, "-o", tmp_path / "r", *weights)
    assert json.loads(result.out)["classes"]["n"] == 2
    assert "Left out" not in (tmp_path / "r" / "report.md").read_text()


def test_nor_in_a_labelled_set(run: Run, tmp_path: Path, weights) -> None:
    path = write_labelled(tmp_path / "set.h5", n=12)
    options = ("--held-out", 1, "-o", tmp_path / "r", *weights)
    whole = json.loads(run("evaluate", "--data", path, *options).out)["classes"]["n"]
    with h5py.File(path, "r+") as file:
        key = [f"1-2-{i}" for i in range(11)] + ["-".join(WRONG)]
        file.create_dataset("key", data=key, dtype=h5py.string_dtype())
        file["survey"][11], file["z"][11] = "BOSS", 3.826
    assert json.loads(run("evaluate", "--data", path, *options).out)["classes"]["n"] == whole - 1
    assert "known to be wrong: 1 spectrum" in (tmp_path / "r" / "report.md").read_text()
