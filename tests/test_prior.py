"""What is known beforehand: class and redshift, applied to p(z), the classes and the fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from conftest import EXAMPLES, Run

import spectromer_cli as spectromer
from spectromer_cli.errors import UsageError
from spectromer_cli.model.prior import FORBIDDEN, Prior, prior_of
from spectromer_cli.model.tasks import Redshift

GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"
QUASAR = EXAMPLES / "simulated-boss-quasar.fits"
STAR = EXAMPLES / "simulated-sdss-star.fits"
TASK = Redshift()


@pytest.fixture(scope="module")
def model() -> spectromer.Spectromer:
    return spectromer.load_model(device="cpu")


def bins_of(prior: Prior | None) -> np.ndarray:
    assert prior is not None
    return prior.of_bins(TASK)


def test_a_range_takes_of_each_bin_the_part_inside() -> None:
    edges = np.expm1(TASK.x0 + TASK.dx * (np.arange(TASK.bins + 1) - 0.5))
    low, high = edges[500] + 0.25 * (edges[501] - edges[500]), edges[503]
    bins = bins_of(prior_of(z_range=(low, high)))
    assert np.allclose(bins[499:505], [0, 0.75, 1, 1, 0, 0], atol=1e-9)
    assert bins.sum() == pytest.approx(2.75)
    # Narrower than a bin, between two centres: not lost.
    narrow = bins_of(prior_of(z_range=(edges[500] + 1e-5, edges[500] + 2e-5)))
    assert np.flatnonzero(narrow).tolist() == [500]


def test_a_density_is_the_mean_over_each_bin_and_its_logarithm_in_the_fit() -> None:
    z = np.linspace(0.2, 0.8, 301)
    p = np.exp(-0.5 * ((z - 0.5) / 0.05) ** 2)
    prior = prior_of(z_prior=(z, 7.0 * p))
    assert prior is not None
    at = np.expm1(TASK.x)
    assert np.allclose(bins_of(prior), np.where(abs(at - 0.5) < 0.3,
                       np.exp(-0.5 * ((at - 0.5) / 0.05) ** 2), 0), atol=2e-3)  # fmt: skip
    assert prior.log(np.log1p([0.45])) == pytest.approx(-0.5, abs=1e-3)
    assert prior.log(np.log1p([0.5, 0.1])).tolist() == [0.0, FORBIDDEN]
    both = prior_of(z_prior=(z, p), z_range="0.5:")
    assert not bins_of(both)[at < 0.495].any() and bins_of(both)[abs(at - 0.51) < 0.005].all()


@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "votable", "parquet"])
def test_a_prior_comes_from_a_table_of_any_format(tmp_path: Path, form: str) -> None:
    table = Table({"Redshift": [0.3, 0.1, 0.2], "PDF": [0.0, 1.0, 2.0], "other": [1, 2, 3]})
    path = tmp_path / f"prior.{form}"
    table.write(path, format={"csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(form, form))
    prior = prior_of(z_prior=path)
    assert prior is not None
    assert prior.z.tolist() == [0.1, 0.2, 0.3] and prior.p.tolist() == [1.0, 2.0, 0.0]
    assert "sha256=" in str(prior)


def test_without_a_prior_nothing_changes(model: spectromer.Spectromer) -> None:
    files = [GALAXY, QUASAR, STAR]
    free = spectromer.predict(files, model=model)
    wide = spectromer.predict(files, model=model, z_range="-0.05:20")
    assert "prior" not in free.meta and "z-range -0.05:20" in wide.meta["prior"]
    for name in ("class", "zwarn", "flags"):
        assert free[name].tolist() == wide[name].tolist()
    for name in ("z", "z_err", "z_prob", "class_prob", "delta_chi2"):
        assert np.allclose(free[name], wide[name], rtol=1e-4, atol=1e-7, equal_nan=True)


def test_a_range_is_kept_to_and_what_the_model_finds_unlikely_is_said(
    model: spectromer.Spectromer,
) -> None:
    (free,) = spectromer.predict(QUASAR, model=model)
    (near,) = spectromer.predict(QUASAR, model=model, z_range=(2.0, 3.0))
    assert near["z"] == pytest.approx(free["z"], abs=1e-4) and "UNLIKE" not in near["flags"]
    (other,) = spectromer.predict(QUASAR, model=model, z_range="0.5:1")
    assert 0.5 <= other["z"] <= 1.0 and "UNLIKE_PRIOR" in other["flags"]
    alternatives = np.array([other[f"z_alt{i}"] for i in range(1, 6)])
    alternatives = alternatives[np.isfinite(alternatives)]
    assert ((alternatives >= 0.5) & (alternatives <= 1.0)).all()
    # No star is at z 2 to 4.
    table = spectromer.predict([STAR, QUASAR], model=model, z_range="2:4")
    assert "STAR" not in table["class"] and ((table["z"] >= 2) & (table["z"] <= 4)).all()
    assert "UNLIKE_PRIOR" in table["flags"][0]


def test_the_fit_obeys_the_prior_as_it_does_the_spectrum(model: spectromer.Spectromer) -> None:
    """A Gaussian prior as narrow as the fit's own error moves z half of the way, and halves σ²."""
    (free,) = spectromer.predict(GALAXY, model=model, class_="GALAXY")
    z, sigma = float(free["z"]), float(free["z_err"])
    grid = z + np.linspace(-30, 30, 6001) * sigma
    density = np.exp(-0.5 * ((grid - z - 2.0 * sigma) / sigma) ** 2)
    (known,) = spectromer.predict(
        GALAXY, model=model, class_="GALAXY", z_prior=(grid, np.maximum(density, 1e-200))
    )
    assert (known["z"] - z) / sigma == pytest.approx(1.0, abs=0.15)
    assert known["z_err"] / sigma == pytest.approx(0.5**0.5, abs=0.08)


def test_a_redshift_at_the_end_of_the_range_is_marked(model: spectromer.Spectromer) -> None:
    (free,) = spectromer.predict(GALAXY, model=model)
    (cut,) = spectromer.predict(GALAXY, model=model, z_range=(free["z"] + 0.002, 1.0))
    assert cut["z"] >= free["z"] + 0.002 and "Z_FITLIMIT" in cut["flags"]
    assert cut["z_err"] > 1e-5
    (inside,) = spectromer.predict(GALAXY, model=model, z_range=(free["z"] - 0.01, 1.0))
    assert inside["z"] == pytest.approx(free["z"], abs=1e-5)
    assert "Z_FITLIMIT" not in inside["flags"]


def test_a_class_that_is_known(run: Run, model: spectromer.Spectromer) -> None:
    free = spectromer.predict([GALAXY, QUASAR], model=model)
    known = spectromer.predict([GALAXY, QUASAR], model=model, class_="qso")
    assert known["class"].tolist() == ["QSO", "QSO"] and known["class_prob"].tolist() == [1, 1]
    assert known["p_galaxy"].tolist() == [0, 0] and "UNLIKE_PRIOR" in known["flags"][0]
    assert known["z"][1] == pytest.approx(free["z"][1], abs=1e-6)
    (star,) = spectromer.predict(QUASAR, model=model, class_="STAR")
    assert abs(star["z"]) < 0.005 and star["subclass"]
    result = run("classify", QUASAR, "--class", "GALAXY", "--device", "cpu")
    assert result.code == 0 and result.rows[0]["class"] == "GALAXY"


def test_it_is_recorded_and_a_run_with_another_is_not_resumed(run: Run, tmp_path: Path) -> None:
    Table({"z": [2.0, 3.0], "p": [1.0, 1.0]}).write(tmp_path / "p.csv")
    result = run(
        "redshift", QUASAR, "--json", "--device", "cpu", "--class", "QSO", "--z-range", "2:",
        "--z-prior", tmp_path / "p.csv",
    )  # fmt: skip
    assert result.code == 0, result.err
    said = json.loads(result.out)["provenance"]["prior"]
    assert "class QSO" in said and "z-range 2:1000" in said and "p.csv sha256=" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--z-range", "8:9"], "excludes all redshifts of the model"),
        (["--class", "STAR", "--z-range", "2:4"], "excludes every class and redshift"),
        (["--class", "COMET"], "choose from STAR, GALAXY, QSO"),
        (["--z-range", "4:2"], "the lower limit first"),
        (["--z-range", "nan:2"], "the lower limit first"),
        (["--z-range", "2"], "give a range such as 2:4"),
        (["--z-range", "a:b"], "give a range such as 2:4"),
        (["--z-prior", "missing.csv"], "does not exist"),
    ],
)
def test_a_prior_that_excludes_everything_is_refused(
    run: Run, weights: list[str], options: list[str], message: str
) -> None:
    result = run("redshift", GALAXY, *weights, *options)
    assert result.code == 2 and message in result.err and not result.out
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("z", "p", "message"),
    [
        ([0.1, 0.2], [0.0, 0.0], "zero everywhere"),
        ([0.1, 0.2], [1.0, -1.0], "negative"),
        ([0.1, 0.1], [1.0, 1.0], "repeated"),
        ([0.1, np.nan], [1.0, 1.0], "missing"),
        ([0.1], [1.0], "too few rows"),
        (["a", "b"], ["c", "d"], "not numbers"),
    ],
)
def test_a_table_that_is_no_prior_is_refused(z: list, p: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prior_of(z_prior=Table({"z": z, "p": p}))
    with pytest.raises(UsageError, match="no columns z and p"):
        prior_of(z_prior=Table({"z": [1, 2], "a": [1, 2], "b": [1, 2]}))
    with pytest.raises(UsageError, match="exclude all redshifts"):
        prior_of(z_prior=([0.1, 0.2], [1.0, 1.0]), z_range="1:2")


def test_weights_without_classes_or_redshift() -> None:
    with pytest.raises(UsageError, match="predict no redshift"):
        Prior(z=np.array([1.0, 2.0]), p=np.ones(2)).check((), None)
    with pytest.raises(UsageError, match="these weights predict no class"):
        Prior("QSO").check((), TASK)
