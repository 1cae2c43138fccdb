"""Refinement: a known redshift comes back to a fraction of a pixel, with an honest error."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from small_set import in_memory

from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model import template_fit
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.decoding import STAR_MAX_X, decode_redshift
from spectromer_cli.model.tasks import Redshift, to_dict
from spectromer_cli.model.template_fit import (
    BINS,
    VELOCITIES,
    Basis,
    chi2_curve,
    chi2_curves,
    learn,
    refine,
    template_curve,
    to_arrays,
    velocity_prior,
    weighted_pca,
)
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.training import targets
from spectromer_cli.training.templates import learn_templates
from spectromer_cli.weights.save import write_weights
from spectromer_cli.weights.store import load_templates, resolve

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


class Fit(NamedTuple):
    x: float
    x_err: float
    formal: tuple[float, ...]
    chi2_nu: float


def fit(prepared, basis, grid, x, half_width, velocities=(), near=np.nan) -> Fit | None:
    """The fit of one spectrum, None if there is none."""
    one, beside = np.array([x]), np.array([near])
    found = template_fit.fit([prepared], basis, grid, one, half_width, velocities, beside)
    if np.isnan(found.x[0]):
        return None
    formal = tuple(found.formal[0].tolist())
    return Fit(float(found.x[0]), float(found.x_err[0]), formal, float(found.chi2_nu[0]))


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
    assert 0.9 < found.chi2_nu < 3.0  # between two pixels, lines are a little off


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


# χ² at all redshifts --------------------------------------------------------------------------


def by_brute_force(prepared: Prepared, basis: Basis, z: float) -> tuple[float, float]:
    """χ² on binned pixels of templates and polynomials, as the curves have it, and their gain."""
    size = BINS["GALAXY"]
    weight = np.minimum(prepared.ivar, 1e4).astype(float)
    flux = prepared.flux.astype(float)
    line = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, GRID.n), 2)
    root = np.sqrt(weight)
    smooth = line @ np.linalg.lstsq(line * root[:, None], flux * root)[0]
    left = flux - smooth
    total = weight @ left**2
    w, wf = weight.reshape(-1, size).sum(1), (weight * left).reshape(-1, size).sum(1)
    bins = len(w)
    m = basis.vectors.shape[1] // size
    shift = round((GRID.loglam0 - np.log10(1.0 + z) - basis.loglam0) / GRID.dloglam / size)
    place = shift + np.arange(bins)
    inside = (place >= 0) & (place < m)
    learned = basis.learned[: m * size].reshape(m, size).all(axis=1)
    inside[inside] &= learned[place[inside]]
    if prepared_share(prepared, inside, size) < 0.3:
        return np.inf, 0.0
    own = basis.vectors[:, : m * size].reshape(-1, m, size).mean(axis=2)[:, place[inside]].T
    poly = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, bins), 2)[inside]
    root, data = np.sqrt(w[inside]), (wf / np.where(w > 0, w, 1.0))[inside]

    def chi2(design: np.ndarray) -> float:
        best = np.linalg.lstsq(design * root[:, None], data * root)[0]
        return float((((data - design @ best) * root) ** 2).sum())

    gain = chi2(poly) - chi2(np.hstack([poly, own]))
    return float(total - gain), gain


def prepared_share(prepared: Prepared, inside: np.ndarray, size: int) -> float:
    good = (prepared.ivar > 0).reshape(-1, size).sum(axis=1)
    return float(good[inside].sum() / good.sum())


def two_templates(basis: Basis, counts: np.ndarray | None = None) -> Basis:
    """The template of `basis` and one of waves."""
    m = basis.vectors.shape[1]
    vectors = np.stack([basis.vectors[0].astype(float), np.sin(np.arange(m) / 40.0)])
    return Basis(basis.loglam0, np.linalg.qr(vectors.T)[0].T.astype(np.float32), counts=counts)


def test_all_shifts_at_once_are_what_single_fits_are(basis: Basis) -> None:
    counts = np.full(basis.vectors.shape[1], 500)
    counts[:300] = counts[3000:3010] = counts[-900:] = 3  # learned from too few
    both = two_templates(basis, counts)
    spectrum = observed(0.3, 15.0)
    spectrum.ivar[1000:1200] = spectrum.ivar[4200:] = 0.0
    spectrum.ivar[2000:] *= 0.3
    z, chi2 = chi2_curve(spectrum, both, GRID, "GALAXY")
    assert (np.diff(z) > 0).all() and z[0] < 0 < 0.5 < z[-1]
    assert z[np.argmin(chi2)] == pytest.approx(0.3, abs=4e-4)
    found = 0
    for i in [*range(0, len(z), len(z) // 25), len(z) - 1]:
        expected, gain = by_brute_force(spectrum, both, z[i])
        if np.isinf(expected):
            assert np.isinf(chi2[i])
            continue
        assert chi2[i] == pytest.approx(expected, abs=1e-3 * gain + 0.5)
        found += 1
    assert found > 15
    assert np.isinf(chi2).any()  # the templates leave the spectrum


def test_a_batch_has_the_curves_of_its_spectra(basis: Basis) -> None:
    spectra = [observed(z, 20.0, seed) for seed, z in enumerate((0.05, 0.2, 0.4) * 7)]
    bases = {"GALAXY": two_templates(basis), "STAR": basis}
    together = chi2_curves(spectra, bases, GRID)
    for i in (0, 5, 20):
        for name in bases:
            z, chi2 = chi2_curve(spectra[i], bases[name], GRID, name)
            np.testing.assert_allclose(together[name].chi2[i], chi2, rtol=1e-4)
            np.testing.assert_allclose(np.expm1(together[name].x), z)
    assert np.abs(together["STAR"].x).max() <= STAR_MAX_X
    assert chi2_curves([], bases, GRID)["STAR"].chi2.shape == (0, len(together["STAR"].x))


def test_a_spectrum_without_good_pixels_has_no_fit(basis: Basis) -> None:
    empty = Prepared(np.zeros(GRID.n, np.float32), np.zeros(GRID.n, np.float32), 1.0)
    answer = decode_redshift(Redshift(), np.eye(1, Redshift().bins, 60), np.array([False]))
    found = refine(answer, [empty], ["GALAXY"], {"GALAXY": basis, "STAR": basis}, GRID)
    assert np.isnan([found.z[0], found.delta_chi2[0], found.chi2_nu[0]]).all()


def test_delta_chi2_looks_at_all_classes_and_redshifts(basis: Basis) -> None:
    task = Redshift()
    place = (np.log1p(0.1) - task.x0) / task.dx
    p = np.exp(-0.5 * (np.arange(task.bins) - place) ** 2)  # p(z) knows no alternative
    answer = decode_redshift(task, (p / p.sum())[None], np.array([False]))
    waves = Basis(
        basis.loglam0, two_templates(basis).vectors[1:], counts=np.full(basis.vectors.shape[1], 500)
    )
    far = observed(0.35, 10.0)
    alone = refine(answer, [far], ["GALAXY"], {"GALAXY": basis}, GRID)
    assert alone.delta_chi2[0] < -100  # its own class, elsewhere
    other = refine(answer, [far], ["QSO"], {"QSO": waves, "GALAXY": basis}, GRID)
    assert other.delta_chi2[0] < -100  # another class
    right = refine(answer, [observed(0.1, 10.0)], ["GALAXY"], {"GALAXY": basis}, GRID)
    both = {"GALAXY": basis, "QSO": waves}
    beside = refine(answer, [observed(0.1, 10.0)], ["GALAXY"], both, GRID)
    assert right.delta_chi2[0] >= beside.delta_chi2[0] > 100
    assert right.chi2_nu[0] == pytest.approx(1.0, abs=0.1)


def test_the_full_curve_and_the_window_find_one_redshift(basis: Basis) -> None:
    spectrum = observed(0.2, 8.0)
    scanned = fit(spectrum, basis, GRID, np.log1p(0.203), 0.01)
    led = fit(spectrum, basis, GRID, np.log1p(0.203), 0.01, near=np.log1p(0.2) + 2 * PIXEL)
    assert scanned is not None and led is not None
    assert led.x == pytest.approx(scanned.x, abs=1e-9)
    assert led.x_err == pytest.approx(scanned.x_err, rel=1e-6)


@pytest.mark.parametrize("velocities", [(), VELOCITIES])
@pytest.mark.parametrize("led", ["none", "some", "all"])
def test_a_batch_has_the_fits_of_its_spectra(basis: Basis, velocities, led: str) -> None:
    half_width = STAR_MAX_X if velocities else 0.01
    # More than are fitted at once, apart by far, one of which no template reaches and one empty.
    x = np.log1p(np.linspace(-0.002, 0.002, 70) if velocities else np.linspace(0.0, 0.6, 70))
    spectra = [observed(np.expm1(one), 1.0 + i % 9, i) for i, one in enumerate(x)]
    spectra[7].ivar[:] = 0.0
    searched = np.zeros(70) if velocities else x + 0.004 * np.sin(np.arange(70))
    searched[3] = np.log1p(6.0)
    near = np.where({"none": False, "some": np.arange(70) % 3 > 0, "all": True}[led], x, np.nan)
    both = two_templates(basis)
    order = np.random.default_rng(1).permutation(70)
    together = template_fit.fit(
        [spectra[i] for i in order],
        both,
        GRID,
        searched[order],
        half_width,
        velocities,
        near[order],
    )
    for i in (0, 3, 7, 8, 22, 35, 36, 69):
        place = int(np.flatnonzero(order == i)[0])
        alone = fit(spectra[i], both, GRID, searched[i], half_width, velocities, near[i])
        if i in (3, 7):
            assert alone is None and np.isnan(together.x[place])
            assert np.isnan(together.model[place]).all()
            continue
        assert alone is not None
        assert together.x[place] == pytest.approx(alone.x, abs=1e-9)
        assert together.x_err[place] == pytest.approx(alone.x_err, rel=1e-6)
        assert together.chi2_nu[place] == pytest.approx(alone.chi2_nu, rel=1e-9)
        np.testing.assert_allclose(together.formal[place], alone.formal, rtol=1e-5, atol=1e-12)
        start = round((GRID.loglam0 - alone.x / np.log(10.0) - basis.loglam0) / GRID.dloglam)
        _, model = template_curve(
            spectra[i], both, GRID, (GRID.loglam0 - basis.loglam0 - 1e-4 * start) * np.log(10.0)
        )
        np.testing.assert_allclose(together.model[place], model, atol=0.1)


def test_the_best_fit_of_a_quasar_leaves_the_forest_out() -> None:
    def quasar(wavelength: np.ndarray) -> np.ndarray:
        lines = [np.exp(-0.5 * ((wavelength / c - 1.0) / 3e-3) ** 2) for c in (1100, 1549, 1909)]
        return 1.0 + np.sum(lines, axis=0)

    vector = quasar(10.0 ** (2.95 + 1e-4 * np.arange(6000)))
    basis = Basis(2.95, (vector / np.linalg.norm(vector))[None].astype(np.float32))
    x = np.log1p([3.0])
    forest = GRID.wavelength <= 1215.0 * 4.0
    absorbed = np.where(forest & (np.arange(GRID.n) % 7 < 3), 0.5, 1.0)
    models = []
    for left in (np.ones(GRID.n), absorbed):
        flux = (quasar(GRID.wavelength / 4.0) * left).astype(np.float32)
        spectrum = Prepared(flux, np.full(GRID.n, 900.0, np.float32), 1.0)
        models.append(template_fit.fit([spectrum], basis, GRID, x, 0.01).model[0])
    assert all(np.isnan(model[forest]).all() for model in models)
    red = GRID.wavelength > 1217.0 * 4.0
    np.testing.assert_allclose(models[1][red], models[0][red], atol=0.02)
    np.testing.assert_allclose(models[1][red], quasar(GRID.wavelength / 4.0)[red], atol=0.05)


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


# Stars ----------------------------------------------------------------------------------------

SEEN = 9100.0  # Å: where most of the spectra end that the templates below are learned from


def star(velocity: float, sn: float, seed: int, red_shift: float = 0.0) -> Prepared:
    """Weak lines below `SEEN`, strong ones beyond, which may be displaced (km/s)."""
    rng = np.random.default_rng(seed)
    wavelength = GRID.wavelength / (1.0 + velocity / LIGHT_SPEED)
    flux = np.ones(GRID.n)
    for centre, depth in ((4300.0, 0.1), (5180.0, 0.1), (8500.0, 0.15), (8660.0, 0.1)):
        flux -= depth * np.exp(-0.5 * ((wavelength - centre) / (4e-4 * centre)) ** 2)
    for centre in (9300.0, 9550.0, 9800.0, 10100.0):
        centre *= 1.0 + red_shift / LIGHT_SPEED
        flux -= 0.6 * np.exp(-0.5 * ((wavelength - centre) / (4e-4 * centre)) ** 2)
    flux += rng.normal(0.0, 1.0 / sn, GRID.n)
    return Prepared(flux.astype(np.float32), np.full(GRID.n, sn**2, np.float32), 1.0)


def learned_from(n: int, reach_red: int) -> Basis:
    """Templates from `n` stars, of which `reach_red` go on beyond `SEEN`, with wrong lines."""
    rng = np.random.default_rng(5)
    velocity = rng.uniform(-100.0, 100.0, n)
    spectra = [star(v, 50.0, seed, 600.0) for seed, v in enumerate(velocity)]
    flux = np.array([spectrum.flux for spectrum in spectra])
    ivar = np.array([spectrum.ivar for spectrum in spectra])
    ivar[reach_red:, GRID.wavelength > SEEN] = 0.0
    z = velocity / LIGHT_SPEED
    return learn(flux, ivar, GRID, z, vectors=2, min_count=10, max_ivar=400.0)


@pytest.mark.parametrize("n", [60, 300])
def test_stars_are_fitted_only_where_templates_were_learned(n: int) -> None:
    few = learned_from(n, n // 20 + 10 if n > 200 else 10)
    counts = few.counts
    assert counts is not None and counts.shape == few.vectors.shape[1:]
    assert counts.max() >= n - 1
    if n == 300:
        wavelength = 10.0 ** (few.loglam0 + 1e-4 * np.arange(len(counts)))
        assert wavelength[-1] > 10300.0  # they are there, from 25 spectra a pixel
        assert wavelength[few.learned].max() < SEEN * 1.001
        velocities = [
            LIGHT_SPEED * found.x
            for seed in range(5)
            if (found := fit(star(50.0, 50.0, 1000 + seed), few, GRID, 0.0, STAR_MAX_X))
        ]
        np.testing.assert_allclose(velocities, 50.0, atol=30.0)
        _, model = template_curve(star(0.0, 50.0, 0), few, GRID, 0.0)
        assert np.isnan(model[GRID.wavelength > SEEN * 1.001]).all()
        assert np.isfinite(model[(GRID.wavelength > 3700) & (GRID.wavelength < 9000)]).all()
        without = replace(few, counts=None)
        wrong = fit(star(50.0, 50.0, 1000), without, GRID, 0.0, STAR_MAX_X)
        assert wrong is not None and abs(LIGHT_SPEED * wrong.x - 50.0) > 300.0
    else:  # a small set: a tenth of its spectra are enough
        assert few.learned.all()


def test_templates_that_cover_too_little_of_what_was_learned_are_not_fitted() -> None:
    few = learned_from(300, 25)
    red = star(0.0, 50.0, 0)
    red.ivar[GRID.wavelength < 8800.0] = 0.0
    assert fit(red, few, GRID, 0.0, STAR_MAX_X) is None


def test_counts_travel_with_the_weights(tmp_path: Path) -> None:
    import torch

    counts = np.array([5, 4097, 4096], np.int32)  # half precision would round
    basis = Basis(3.5, np.eye(3, dtype=np.float32)[:2], 2.0, 3.0, counts)
    task = to_dict(Redshift())
    config = ModelConfig("vit", "tiles", 3, GRID, [task], templates={"STAR": basis.described()})
    arrays = {name: torch.from_numpy(values) for name, values in to_arrays({"STAR": basis}).items()}
    write_weights(tmp_path, "made.v1", arrays, config, {})
    loaded = load_templates(resolve(str(tmp_path)))["STAR"]
    np.testing.assert_array_equal(loaded.counts, counts)
    assert loaded.learned.tolist() == [False, True, True]
    assert (loaded.loglam0, loaded.error_scale, loaded.misfit_scale) == (3.5, 2.0, 3.0)


def test_the_weights_that_ship_know_where_their_templates_were_learned() -> None:
    for name, blue, red in (("STAR", 3700, 9100), ("GALAXY", 3450, 9600), ("QSO", 900, 7800)):
        basis = load_templates(resolve())[name]
        wavelength = 10.0 ** (basis.loglam0 + 1e-4 * np.arange(basis.vectors.shape[1]))
        used = wavelength[basis.learned]
        assert used.min() == pytest.approx(blue, rel=0.01), name
        assert used.max() == pytest.approx(red, rel=0.01), name


@pytest.fixture(scope="module")
def hot() -> Basis:
    """Templates of which one is smooth and one has broad lines."""
    wavelength = 10.0 ** (3.55 + 1e-4 * np.arange(4700))
    broad = sum(np.exp(-0.5 * ((wavelength - c) / 60.0) ** 2) for c in (4341.0, 4862.0, 6564.0))
    vectors = np.stack([(wavelength / 5000.0) ** -3, broad])
    return Basis(3.55, np.linalg.qr(vectors.T)[0].T.astype(np.float32), 1.5, 3.0)


@pytest.mark.parametrize("sn", [5.0, 30.0, 200.0])
def test_a_featureless_star_stays_near_rest(hot: Basis, sn: float) -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(12):
        flux = (GRID.wavelength / 5000.0) ** -3.4 * (1.0 + 0.01 * np.sin(GRID.wavelength / 900.0))
        flux += rng.normal(0.0, 1.0 / sn, GRID.n)
        spectrum = Prepared(flux.astype(np.float32), np.full(GRID.n, sn**2, np.float32), 1.0)
        found.append(fit(spectrum, hot, GRID, 0.0, STAR_MAX_X, VELOCITIES))
    velocity = LIGHT_SPEED * np.array([one.x for one in found if one])
    error = LIGHT_SPEED * np.array([one.x_err for one in found if one])
    assert len(velocity) == 12
    assert np.abs(velocity).max() < 700.0
    assert np.std(velocity) < 250.0
    assert error.max() < 550.0  # no wider than what is known beforehand


def test_a_fast_star_keeps_its_velocity(basis: Basis) -> None:
    for velocity in (-900.0, 30.0, 700.0):
        z = velocity / LIGHT_SPEED
        free = fit(observed(z, 20.0), basis, GRID, 0.0, STAR_MAX_X)
        kept = fit(observed(z, 20.0), basis, GRID, 0.0, STAR_MAX_X, VELOCITIES)
        assert kept is not None and free is not None
        assert LIGHT_SPEED * kept.x == pytest.approx(velocity, abs=10.0)
        assert kept.x == pytest.approx(free.x, abs=0.2 * free.x_err)
        assert kept.x_err == pytest.approx(free.x_err, rel=0.02)


def test_the_error_of_a_velocity_counts_all_minima() -> None:
    """A weak line of two: either may be the one that the template has."""
    loglam = GRID.loglam0 + GRID.dloglam * np.arange(GRID.n)

    def line(velocity: float) -> np.ndarray:
        centre = np.log10(6000.0 * (1.0 + velocity / LIGHT_SPEED))
        return 1.0 - 0.4 * np.exp(-0.5 * ((loglam - centre) / 1.5e-4) ** 2)

    template = line(0.0) - 1.0
    basis = Basis(GRID.loglam0, (template / np.linalg.norm(template))[None].astype(np.float32))
    ivar = np.full(GRID.n, 25.0, np.float32)
    one = Prepared(line(-350.0).astype(np.float32), ivar, 1.0)
    two = Prepared((line(-350.0) + line(350.0) - 1.0).astype(np.float32), ivar, 1.0)
    alone = fit(one, basis, GRID, 0.0, STAR_MAX_X, VELOCITIES)
    both = fit(two, basis, GRID, 0.0, STAR_MAX_X, VELOCITIES)
    assert alone is not None
    assert both is not None
    assert both.x_err * LIGHT_SPEED > 200.0
    assert both.x_err > 1.5 * alone.x_err


def test_velocities_beforehand() -> None:
    v = np.array([0.0, 150.0, -150.0, 1000.0])
    at_rest, one_sigma, other, fast = velocity_prior(v / LIGHT_SPEED, VELOCITIES)
    assert at_rest == pytest.approx(0.0, abs=1e-9)
    assert one_sigma == pytest.approx(other) == pytest.approx(1.0, abs=0.02)
    assert 10.0 < fast < 20.0  # a Gaussian of 150 km/s alone: 44
    assert not velocity_prior(v, ()).any()


def test_only_stars_have_velocities_beforehand(basis: Basis) -> None:
    answer = decode_redshift(Redshift(), np.eye(1, Redshift().bins, 5), np.array([True]))
    z = 1100.0 / LIGHT_SPEED
    found = refine(answer, [observed(z, 0.2)], ["STAR"], {"STAR": basis}, GRID)
    galaxy = refine(answer, [observed(z, 0.2)], ["GALAXY"], {"GALAXY": basis}, GRID)
    assert abs(found.z[0]) < abs(galaxy.z[0])


@pytest.mark.parametrize("z", [6.9, 30.0, -0.95])
def test_a_redshift_where_templates_do_not_reach(basis: Basis, z: float) -> None:
    spectrum = observed(0.1, 20.0)
    assert fit(spectrum, basis, GRID, np.log1p(z), 0.01) is None
    curve, model = template_curve(spectrum, basis, GRID, np.log1p(z))
    assert np.isfinite(curve).all() and not np.isfinite(model).any()
