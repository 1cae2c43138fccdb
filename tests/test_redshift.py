"""Refinement: a known redshift comes back to a fraction of a pixel, with an honest error."""

from dataclasses import replace

import numpy as np
import pytest
from small_set import in_memory

from spectromer_cli.model.decoding import decode_redshift
from spectromer_cli.model.tasks import Redshift
from spectromer_cli.model.template_fit import Basis, fit, refine, weighted_pca
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.training import targets
from spectromer_cli.training.templates import learn_templates

GRID = Grid()
PIXEL = GRID.dloglam * np.log(10.0)
LINES = ((3728.5, 3.0), (4341.7, 1.0), (4862.7, 2.0), (5008.2, 4.0), (6564.6, 6.0))


def rest(loglam: np.ndarray) -> np.ndarray:
    """A break and some lines, rest frame."""
    wavelength = 10.0**loglam
    flux = 1.0 + 0.5 * np.tanh((wavelength - 4000.0) / 30.0)
    for centre, height in LINES:
        flux += height * np.exp(-0.5 * ((wavelength - centre) / (3e-4 * centre)) ** 2)
    return flux


def observed(z: float, sn: float, seed: int = 0) -> Prepared:
    flux = rest(GRID.loglam - np.log10(1.0 + z))
    flux = flux + np.random.default_rng(seed).normal(0.0, 1.0 / sn, GRID.n)
    return Prepared(flux.astype(np.float32), np.full(GRID.n, sn**2, np.float32), 1.0)


@pytest.fixture(scope="module")
def basis() -> Basis:
    loglam0 = 3.40
    vector = rest(loglam0 + 1e-4 * np.arange(6000))
    return Basis(loglam0, (vector / np.linalg.norm(vector))[None].astype(np.float32))


@pytest.mark.parametrize("z", [0.0, 0.05, 0.12345, 0.4])
def test_a_known_redshift_comes_back(basis: Basis, z: float) -> None:
    found = fit(observed(z, 20.0), basis, GRID, np.log1p(z) + 0.004, 0.01)
    assert found is not None
    assert found.x == pytest.approx(np.log1p(z), abs=0.1 * PIXEL)
    assert 0 < found.x_err < 0.1 * PIXEL
    assert found.gain > 100


def test_the_error_is_the_scatter(basis: Basis) -> None:
    fits = [fit(observed(0.1, 2.0, seed), basis, GRID, np.log1p(0.1), 0.005) for seed in range(60)]
    pull = [(found.x - np.log1p(0.1)) / found.x_err for found in fits if found]
    assert len(pull) == 60
    assert np.std(pull) == pytest.approx(1.0, abs=0.25)
    assert np.mean(pull) == pytest.approx(0.0, abs=0.4)


def test_the_calibration_of_the_flux_does_not_matter(basis: Basis) -> None:
    spectrum = observed(0.2, 30.0)
    spectrum.flux += np.linspace(0.5, -0.3, GRID.n).astype(np.float32)
    found = fit(spectrum, basis, GRID, np.log1p(0.2), 0.01)
    assert found is not None
    assert found.x == pytest.approx(np.log1p(0.2), abs=0.2 * PIXEL)


def test_bad_pixels_do_not_count(basis: Basis) -> None:
    spectrum = observed(0.2, 30.0)
    hit = slice(1500, 1600)
    spectrum.flux[hit], spectrum.ivar[hit] = 50.0, 0.0
    found = fit(spectrum, basis, GRID, np.log1p(0.2), 0.01)
    assert found is not None
    assert found.x == pytest.approx(np.log1p(0.2), abs=0.1 * PIXEL)


def test_errors_below_a_hundredth_of_the_level_count_as_that(basis: Basis) -> None:
    # The templates' own faults are of that size: bright pixels must not decide alone.
    prepared = observed(0.1, 50.0)
    ivar = np.full(GRID.n, 1e4, np.float32)
    capped = fit(replace(prepared, ivar=ivar), basis, GRID, np.log1p(0.1), 0.01)
    ivar = np.where(np.arange(GRID.n) % 2, 1e4, 1e8).astype(np.float32)
    brighter = fit(replace(prepared, ivar=ivar), basis, GRID, np.log1p(0.1), 0.01)
    assert capped == brighter
    ivar = np.where(np.arange(GRID.n) % 2, 1e4, 1e3).astype(np.float32)
    assert fit(replace(prepared, ivar=ivar), basis, GRID, np.log1p(0.1), 0.01) != capped


def test_no_fit_where_the_templates_do_not_reach(basis: Basis) -> None:
    assert fit(observed(0.1, 20.0), basis, GRID, np.log1p(3.0), 0.01) is None


def test_refine_keeps_the_peak_and_says_how_sure(basis: Basis) -> None:
    task = Redshift()
    place = (np.log1p([0.1, 0.35]) - task.x0) / task.dx
    bins = np.arange(task.bins)
    p = sum(
        weight * np.exp(-0.5 * (bins - x) ** 2) for x, weight in zip(place, (0.3, 0.7), strict=True)
    )
    answer = decode_redshift(task, (p / p.sum())[None], np.array([False]))
    right = refine(answer, [observed(0.35, 10.0)], ["GALAXY"], {"GALAXY": basis}, GRID)
    assert right.z[0] == pytest.approx(0.35, abs=1e-4)
    assert right.delta_chi2[0] > 100
    wrong = refine(answer, [observed(0.1, 10.0)], ["GALAXY"], {"GALAXY": basis}, GRID)
    assert wrong.z[0] == pytest.approx(0.35, abs=0.02)  # the ViT's peak
    assert wrong.delta_chi2[0] < -100  # and the doubt
    none = refine(answer, [observed(0.1, 10.0)], ["QSO"], {"GALAXY": basis}, GRID)
    assert np.isnan(none.z[0])


def test_components_are_found_through_noise_and_gaps() -> None:
    rng = np.random.default_rng(1)
    truth = np.linalg.qr(rng.normal(size=(300, 2)))[0].T
    flux = rng.normal(size=(400, 2)) * [10.0, 5.0] @ truth
    weight = np.where(rng.random(flux.shape) < 0.3, 0.0, 400.0)
    flux += rng.normal(0.0, 0.05, flux.shape)
    flux[weight == 0] = 99.0
    found = weighted_pca(flux.astype(np.float32), weight.astype(np.float32), 2)
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-5)
    overlap = np.linalg.svd(found @ truth.T)[1]
    assert overlap.min() > 0.995


def test_templates_are_learned_at_rest() -> None:
    rng = np.random.default_rng(2)
    n, grid = 80, Grid(3.55, 1e-4, 4700)
    z = rng.uniform(0.01, 0.3, n)
    flux = np.array([rest(grid.loglam - np.log10(1 + value)) for value in z])
    flux += rng.normal(0.0, 0.05, flux.shape)
    data = in_memory(grid, flux, **{"class": np.full(n, "GALAXY")}, z=z)
    bases = learn_templates(data, targets.general(data), np.ones(n, bool))
    assert list(bases) == ["GALAXY"]
    found = fit(observed(0.17, 20.0), bases["GALAXY"], GRID, np.log1p(0.172), 0.01)
    assert found is not None
    assert found.x == pytest.approx(np.log1p(0.17), abs=0.15 * PIXEL)
