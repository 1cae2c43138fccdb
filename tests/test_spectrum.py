"""The container, air to vacuum, errors from scatter, and the grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra import ranks
from spectromer_cli.spectra.grid import Grid, prepare
from spectromer_cli.spectra.spectrum import Spectrum, air_to_vacuum, ivar_from_scatter

GRID = Grid()


def smooth(wavelength: np.ndarray) -> np.ndarray:
    return 2.0 + np.sin(wavelength / 300.0)


def test_bad_values_become_bad_pixels() -> None:
    spectrum = Spectrum([1.0, 2, 3, 4, 5], [1, np.nan, 1, 1, np.inf], [1, 1, -1, np.inf, 1])
    assert spectrum.good.tolist() == [True, False, False, False, False]
    assert np.isfinite(spectrum.flux).all()
    assert np.isfinite(spectrum.ivar).all()


def test_the_callers_arrays_are_left_alone() -> None:
    flux = np.array([1.0, np.nan, 3.0])
    Spectrum([1.0, 2.0, 3.0], flux, np.ones(3))
    assert np.isnan(flux[1])


@pytest.mark.parametrize(
    "wavelength", [[1, 2, 2], [3, 2, 1], [1, np.nan, 3], [-1, 2, 3], [1, 2, np.inf]]
)
def test_wavelengths_must_increase(wavelength: list[float]) -> None:
    with pytest.raises(ValueError, match="wavelengths"):
        Spectrum(wavelength, np.ones(3), np.ones(3))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        Spectrum(np.arange(1.0, 4), np.ones(3), np.ones(2))


def test_air_to_vacuum_of_known_lines() -> None:
    # NIST: Hα 6562.79 air, 6564.60 vacuum; Na D2 5889.95 air, 5891.58 vacuum.
    vacuum = air_to_vacuum(np.array([6562.79, 5889.95, 1215.67]))
    np.testing.assert_allclose(vacuum[:2], [6564.60, 5891.58], atol=0.01)
    assert vacuum[2] == 1215.67


def test_scatter_gives_the_noise_back() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.2, 4000)
    ivar = ivar_from_scatter(smooth(np.linspace(4000, 8000, 4000)) + noise)
    assert 1 / np.sqrt(ivar[0]) == pytest.approx(0.2, rel=0.05)


def test_scatter_of_too_little_is_nothing() -> None:
    assert not ivar_from_scatter(np.array([1.0, np.nan, 2.0])).any()


def test_pixels_of_the_grid_are_copied_untouched() -> None:
    rng = np.random.default_rng(2)
    wavelength = GRID.wavelength[200:4200]
    flux = rng.uniform(0.5, 1.5, wavelength.size)
    ivar = rng.uniform(1, 2, wavelength.size)
    prepared = prepare(Spectrum(wavelength, flux, ivar), GRID)
    np.testing.assert_allclose(prepared.flux[200:4200] * prepared.scale, flux, rtol=1e-6)
    np.testing.assert_allclose(prepared.ivar[200:4200] / prepared.scale**2, ivar, rtol=1e-6)
    assert not prepared.ivar[:200].any()
    assert not prepared.ivar[4200:].any()


@pytest.mark.parametrize("step", [0.2, 0.8, 3.4])
def test_rebinning_keeps_flux_and_information(step: float) -> None:
    wavelength = np.arange(3700.0, 9500.0, step)
    spectrum = Spectrum(wavelength, smooth(wavelength), np.full(wavelength.size, 25.0))
    prepared = prepare(spectrum, GRID)
    good = prepared.ivar > 0
    assert good.sum() > 4000
    np.testing.assert_allclose(
        prepared.flux[good] * prepared.scale, smooth(GRID.wavelength[good]), rtol=5e-3
    )
    information = prepared.ivar[good].sum() / prepared.scale**2
    assert information == pytest.approx(spectrum.ivar.sum(), rel=0.01)


def test_rebinning_does_not_let_bad_pixels_leak() -> None:
    wavelength = np.arange(3700.0, 9500.0, 0.8)
    flux, ivar = smooth(wavelength), np.ones(wavelength.size)
    hit = (wavelength > 6000) & (wavelength < 6010)
    flux[hit], ivar[hit] = 1e6, 0.0
    prepared = prepare(Spectrum(wavelength, flux, ivar), GRID)
    good = prepared.ivar > 0
    assert prepared.flux.max() * prepared.scale < 3.1
    assert not good[(GRID.wavelength > 6001) & (GRID.wavelength < 6009)].any()
    assert good[(GRID.wavelength > 6012) & (GRID.wavelength < 6100)].all()


def test_a_gap_in_a_table_is_not_filled() -> None:
    wavelength = np.concatenate([np.arange(4000.0, 5000.0), np.arange(7000.0, 8000.0)])
    prepared = prepare(Spectrum(wavelength, np.ones(2000), np.ones(2000)), GRID)
    inside = (GRID.wavelength > 5100) & (GRID.wavelength < 6900)
    assert not prepared.ivar[inside].any()


def test_scale_does_not_matter() -> None:
    wavelength = GRID.wavelength
    flux = smooth(wavelength)
    one = prepare(Spectrum(wavelength, flux, np.ones(GRID.n)), GRID)
    other = prepare(Spectrum(wavelength, flux * 1e-17, np.ones(GRID.n) * 1e34), GRID)
    np.testing.assert_allclose(one.flux, other.flux, rtol=1e-5)
    np.testing.assert_allclose(one.ivar, other.ivar, rtol=1e-5)


@pytest.mark.parametrize(
    ("wavelength", "flux", "ivar", "message"),
    [
        (GRID.wavelength, np.ones(GRID.n), np.zeros(GRID.n), "every pixel is masked"),
        (GRID.wavelength, np.full(GRID.n, np.nan), np.ones(GRID.n), "every pixel is masked"),
        (np.linspace(360, 900, 4000), np.ones(4000), np.ones(4000), "only 0 good pixels"),
        (GRID.wavelength, np.zeros(GRID.n), np.ones(GRID.n), "zero everywhere"),
    ],
)
def test_what_cannot_be_drawn_is_said(wavelength, flux, ivar, message) -> None:
    with pytest.raises(ReadError, match=message):
        prepare(Spectrum(wavelength, flux, ivar), GRID)


@pytest.mark.parametrize("wild", [1e20, 1e45, 1e300])
def test_one_wild_pixel_is_bad_and_harms_no_other(wild: float) -> None:
    for wavelength in (GRID.wavelength, np.arange(3700.0, 9500.0, 0.8)):
        flux = smooth(wavelength)
        clean = prepare(Spectrum(wavelength, flux, np.ones(wavelength.size)), GRID)
        flux[2000] = wild
        hit = prepare(Spectrum(wavelength, flux, np.ones(wavelength.size)), GRID)
        both = hit.ivar > 0
        assert 0 < (clean.ivar > 0).sum() - both.sum() < 5
        np.testing.assert_allclose(hit.flux[both], clean.flux[both], rtol=2e-2)


def test_good_pixels_beside_gaps_only() -> None:
    wavelength = np.concatenate([np.arange(4000.0, 4400.0), [6000.0], np.arange(8000.0, 8400.0)])
    ivar = (wavelength == 6000.0).astype(float)
    with pytest.raises(ReadError, match="only 0 good pixels"):
        prepare(Spectrum(wavelength, np.ones(wavelength.size), ivar), GRID)


values = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(
    flux=arrays(np.float64, 4608, elements=st.just(1.0)),
    patches=st.lists(st.tuples(st.integers(0, 4607), st.integers(1, 500), values), max_size=8),
)
def test_prepared_is_always_finite(flux, patches) -> None:
    ivar = np.ones(GRID.n)
    for start, length, value in patches:
        flux[start : start + length] = value
        ivar[start : start + length] = abs(value)
    try:
        prepared = prepare(Spectrum(GRID.wavelength, flux, ivar), GRID)
    except ReadError:
        return
    assert np.isfinite(prepared.flux).all()
    assert np.isfinite(prepared.ivar).all()
    assert (prepared.ivar >= 0).all()


# --- medians and percentiles ----------------------------------------------------------------------


@given(
    values=arrays(np.float64, st.integers(1, 40), elements=st.floats(width=32)),
    percent=st.floats(0.0, 99.9),
)
def test_ranks_are_numpys(values: np.ndarray, percent: float) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        np.testing.assert_array_equal(ranks.median(values), np.median(values))
        np.testing.assert_array_equal(
            ranks.percentile(values, percent), np.percentile(values, percent)
        )
