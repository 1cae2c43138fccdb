"""Doubt about a spectrum: its errors, its wavelengths, and confidence in levels."""

import numpy as np
import pytest

from spectromer_cli.model.decoding import RedshiftPrediction
from spectromer_cli.model.line_positions import lines_disagree
from spectromer_cli.model.template_fit import Basis, template_curve
from spectromer_cli.model.zwarn import ZWarn, doubts, z_conf
from spectromer_cli.simulation import outliers
from spectromer_cli.spectra.grid import Grid, Prepared, prepare
from spectromer_cli.spectra.spectrum import Spectrum, errors_fit_scatter

GRID = Grid()
WAVELENGTH = 3600.0 * 10.0 ** (1e-4 * np.arange(4500))
SIGMA = 0.02 + 0.2 * np.exp(-(np.arange(4500) / 700.0)) + 0.08 * (np.arange(4500) > 3600)
LINES = (3934.8, 3969.6, 4341.7, 4862.7, 5008.2, 5176.0, 5895.0, 6564.6, 6718.0, 7700.0, 8544.0)


def noisy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    flux = 5.0 * with_lines(WAVELENGTH) + rng.normal(size=4500) * SIGMA
    return flux, 1.0 / SIGMA**2


def with_lines(wavelength: np.ndarray) -> np.ndarray:
    depth = [np.exp(-0.5 * ((wavelength - line) / (line * 5e-4)) ** 2) for line in LINES]
    # Bands that no polynomial follows, so that the templates are needed for more than the lines.
    bands = 1.0 + 0.3 * np.sin(wavelength / 180.0)
    return bands * (1.0 - 0.3 * np.sum(depth, axis=0))


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_errors_of_the_noise_fit_it(seed: int) -> None:
    flux, ivar = noisy(seed)
    assert errors_fit_scatter(flux, ivar)
    assert errors_fit_scatter(flux, ivar / 4.0)
    # Resampled to finer pixels, neighbours are alike.
    fine = np.interp(np.arange(0, 4499, 0.5), np.arange(4500), flux)
    assert errors_fit_scatter(fine, np.repeat(ivar, 2)[: fine.size])


@pytest.mark.parametrize("kind", ["σ as ivar", "variance as ivar", "shuffled", "too small"])
def test_other_errors_do_not(kind: str) -> None:
    flux, ivar = noisy(1)
    wrong = {
        "σ as ivar": SIGMA,
        "variance as ivar": SIGMA**2,
        "shuffled": np.random.default_rng(3).permutation(ivar),
        "too small": 1e6 * ivar,
    }[kind]
    if kind == "too small":  # lines may scatter by a few per cent of the flux, not by all of it
        flux = 0.01 * flux + np.random.default_rng(5).normal(size=4500) * SIGMA
    assert not errors_fit_scatter(flux, wrong)
    assert prepare(Spectrum(WAVELENGTH, flux, wrong), GRID).errors_doubtful
    estimated = Spectrum(WAVELENGTH, flux, wrong, {"has_ivar": False})
    assert not prepare(estimated, GRID).errors_doubtful


def test_of_few_pixels_nothing_is_said() -> None:
    assert errors_fit_scatter(np.ones(200), np.full(200, 1e9))


# --- wavelengths ----------------------------------------------------------------------------


def spectrum(distorted, sn: float = 30.0) -> Prepared:
    """On the grid, as a file with such a wavelength scale would give it."""
    flux = np.interp(GRID.wavelength, distorted(GRID.wavelength), with_lines(GRID.wavelength))
    flux = flux + np.random.default_rng(2).normal(size=GRID.n) / sn
    return Prepared(flux.astype(np.float32), np.full(GRID.n, sn**2, np.float32), 1.0)


@pytest.mark.parametrize(
    ("distorted", "expected"),
    [
        (lambda wavelength: wavelength, False),
        (lambda wavelength: 1.0005 * wavelength, False),
        (lambda wavelength: wavelength + 50.0, True),
        (lambda wavelength: wavelength - 30.0, True),
        (lambda wavelength: 6500.0 + 1.03 * (wavelength - 6500.0), True),
    ],
)
def test_parts_at_other_shifts_are_found(distorted, expected: bool) -> None:
    # Templates reach beyond the grid on both sides.
    loglam0 = GRID.loglam0 - 0.02
    line = with_lines(10.0 ** (loglam0 + 1e-4 * np.arange(GRID.n + 400)))
    basis = Basis(loglam0, (line / np.linalg.norm(line))[None].astype(np.float32))
    one = spectrum(distorted)
    _, model = template_curve(one, basis, GRID, 0.0005 if distorted(1.0) == 1.0005 else 0.0)
    models = np.stack([model, np.full(GRID.n, np.nan)])
    assert lines_disagree([one, one], models, np.array([0.0, np.nan])).tolist() == [expected, False]


def test_without_lines_nothing_disagrees() -> None:
    flux = np.random.default_rng(4).normal(1.0, 0.05, GRID.n).astype(np.float32)
    flat = Prepared(flux, np.full(GRID.n, 400.0, np.float32), 1.0)
    dark = Prepared(0.0 * flux, np.zeros(GRID.n, np.float32), 1.0)
    line = with_lines(GRID.wavelength)[None].astype(np.float32)
    basis = Basis(GRID.loglam0, line / np.linalg.norm(line))
    models = np.stack([template_curve(one, basis, GRID, 0.0)[1] for one in (flat, dark)])
    assert not lines_disagree([flat, dark], models, np.zeros(2)).any()
    assert lines_disagree([], np.empty((0, GRID.n)), np.empty(0)).shape == (0,)


def test_disagreement_is_a_doubt() -> None:
    one, nothing = np.ones(2), np.full((2, 1), np.nan)
    found = RedshiftPrediction(one, 1e-5 * one, one, nothing, nothing, one < 0, 99.0 * one, one)
    known = {"sn_median": 20.0 * one, "novelty": 0.1 * one}
    assert doubts(found, **known).tolist() == [0, 0]
    found.lines_disagree = np.array([True, False])
    assert doubts(found, **known).tolist() == [int(ZWarn.LINES_DISAGREE), 0]


def test_levels_of_confidence() -> None:
    zwarn = np.array([0, 0, 0, 4, 0])
    z_prob = np.array([0.999, 0.97, 0.9, 0.999, np.nan])
    assert z_conf(zwarn, z_prob).tolist() == [3, 2, 1, 0, 1]


# --- outliers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", outliers.SHARES)
def test_outliers_are_spectra(kind: str) -> None:
    real = spectrum(lambda wavelength: wavelength)
    ivar = np.where(np.arange(GRID.n) < 3500, real.ivar, 0.0)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        flux, own = outliers.draw(rng, kind, real.flux, ivar, GRID)
        assert np.isfinite(flux).all()
        assert np.isfinite(own).all()
        assert (own > 0).sum() > 300
        assert np.percentile(np.abs(flux[own > 0]), 90.0) > 0.5
    again = outliers.draw(np.random.default_rng(7), kind, real.flux, ivar, GRID)[0]
    np.testing.assert_array_equal(again, flux)


def test_supernovae_have_broad_features() -> None:
    for seed in range(10):
        flux = outliers.supernova(np.random.default_rng(seed), GRID)
        smooth = np.convolve(flux, np.ones(15) / 15.0, mode="same")[50:-50]
        assert np.isfinite(flux).all()
        assert (flux > 0).all()
        # 1000 km/s blur little of them.
        assert np.median(np.abs(smooth / flux[50:-50] - 1.0)) < 0.02


def test_outliers_of_all_kinds_are_drawn() -> None:
    real = spectrum(lambda wavelength: wavelength)
    flux, ivar = outliers.draw_many(
        np.random.default_rng(1), 30, real.flux[None], real.ivar[None], GRID
    )
    assert flux.shape == ivar.shape == (30, GRID.n)
    assert np.isclose(sum(outliers.SHARES.values()), 1.0)
