"""Doubt: what is unlike the training set, and which confidence keeps a promise."""

import numpy as np
import pytest
from conftest import EXAMPLES

import spectromer_cli
from spectromer_cli.errors import UsageError
from spectromer_cli.model.confidence import confidence_table, cut_for
from spectromer_cli.model.novelty import FLAGGED, Novelty, from_arrays, to_arrays
from spectromer_cli.spectra.spectrum import Spectrum

RNG = np.random.default_rng(5)
SPREAD = np.array([1.0, 0.5, 3.0, 0.5])
CENTRES = np.array([[10.0, 0, 0, 0], [0, 0, 20.0, 0]])


def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
    class_ = RNG.integers(2, size=n)
    return CENTRES[class_] + RNG.normal(size=(n, 4)) * SPREAD, class_


@pytest.fixture(scope="module")
def novelty() -> Novelty:
    strange = draw(500)[0] + [0.0, 4.0, 0.0, 0.0]
    return Novelty.learn(draw(2000)[0], strange, draw(2000)[0])


def test_few_of_the_known_and_all_of_the_unknown_are_flagged(novelty) -> None:
    known = novelty.score(draw(4000)[0])
    assert 0.0 < (known > 1.0).mean() < 2 * FLAGGED
    far = novelty.score(draw(50)[0] + [0.0, 6.0, 0.0, 0.0])
    assert (far > 1.0).all()
    assert known.min() >= 0.0
    assert far.max() <= 2.0


def test_features_out_of_all_bounds_have_a_score(novelty) -> None:
    score = novelty.score(np.array([[1e30, 1e30, -1e30, 0.0], [0.0, -1e30, 0.0, 1e30]]))
    assert np.isfinite(score).all()


def test_the_score_survives_in_half_precision(novelty) -> None:
    kept = {key: values.astype(np.float16) for key, values in to_arrays(novelty).items()}
    features = draw(100)[0]
    np.testing.assert_allclose(from_arrays(kept).score(features), novelty.score(features), atol=0.1)
    assert from_arrays({"novelty.mean": np.zeros(4)}) is None


def test_the_cut_keeps_its_promise() -> None:
    confidence = RNG.random(20000)
    wrong = RNG.random(20000) < 0.3 * (1.0 - confidence)
    table = confidence_table(confidence, wrong)
    for rate in (0.02, 0.05, 0.1):
        cut, kept = cut_for(table, rate)
        assert wrong[confidence >= cut].mean() <= rate
        assert kept == pytest.approx((confidence >= cut).mean(), abs=0.01)
    assert table["cut"] == sorted(table["cut"])


def test_a_small_set_vouches_for_little() -> None:
    table = confidence_table(np.full(50, 0.9), np.zeros(50, dtype=bool))
    assert cut_for(table, 0.05)[0] == pytest.approx(0.9)
    with pytest.raises(UsageError, match=r"cannot keep the outlier rate below 0\.001"):
        cut_for(table, 0.001)
    with pytest.raises(UsageError, match="no table"):
        cut_for({}, 0.1)


def strange(kind: str) -> Spectrum:
    """What no telescope should send, on the SDSS sampling."""
    rng = np.random.default_rng(5)
    wavelength = 10.0 ** (3.5800 + 1e-4 * np.arange(3800))
    noise = rng.normal(0.0, 0.05, wavelength.size)
    flux = {
        "noise": 20.0 * noise,
        "constant": 1.0 + 0.02 * noise,
        "sky": 0.3 + noise,
        "steps": 5.0 + np.cumsum(rng.normal(size=3800) * (rng.random(3800) < 0.004)) + noise,
    }[kind]
    if kind == "sky":
        for line in (5578.9, 5891.6, 6302.0, 6365.5, *rng.uniform(7200.0, 9100.0, 60)):
            flux += rng.exponential(9.0) * np.exp(-0.5 * ((wavelength - line) / 2.0) ** 2)
    return Spectrum(wavelength, flux, np.full(3800, 400.0 if kind != "noise" else 1.0))


@pytest.mark.parametrize("kind", ["noise", "constant", "sky", "steps"])
def test_the_default_weights_know_what_they_do_not_know(kind: str) -> None:
    model = spectromer_cli.load_model(device="cpu")
    if model.novelty is None:
        pytest.skip("the default weights carry no novelty score that this version reads")
    table = model.predict([strange(kind)])
    assert table["outlier_score"][0] > 1.0
    assert "OUT_OF_DOMAIN" in table["flags"][0]


def test_the_default_weights_know_their_own() -> None:
    files = sorted(EXAMPLES.glob("*.fits"))
    spectra = [spectrum for path in files for spectrum in spectromer_cli.read(path)]
    model = spectromer_cli.load_model(device="cpu")
    if model.novelty is None:
        pytest.skip("the default weights carry no novelty score that this version reads")
    assert (model.predict(spectra)["outlier_score"] < 1.0).all()
