"""Other spectrographs: what they change is what they say, and the truth stays in the spectrum."""

import numpy as np
import pytest

from spectromer_cli.simulation import spectrographs
from spectromer_cli.simulation.spectral_physics import gaussian_line
from spectromer_cli.spectra.grid import Grid

GRID = Grid()
LINE = 6500.0


def spectrum(rng: np.random.Generator, sn: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    """A flat continuum with a strong emission line, noise and all."""
    flux = 1.0 + gaussian_line(GRID.wavelength, LINE, 3e-4, 300.0)
    ivar = np.full(GRID.n, sn**2)
    return (flux + rng.normal(size=GRID.n) / sn).astype(np.float32), ivar.astype(np.float32)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_drawn_is_a_spectrum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flux, ivar = spectrum(rng)
    flux, ivar = spectrographs.taken_elsewhere(rng, flux, ivar, GRID)
    assert flux.shape == ivar.shape == (GRID.n,)
    assert np.isfinite(flux).all() and np.isfinite(ivar).all()
    assert (ivar >= 0).all()
    assert (ivar > 0).sum() > 0.9 * spectrographs.MIN_PIXELS
    # The line is where it was, within the lowest resolution, unless it is outside of the window.
    here = np.abs(GRID.wavelength - LINE) < 30.0
    if (ivar[here] > 0).all():
        inside = np.abs(GRID.wavelength - LINE) < 3.0 * LINE / 80.0
        seen = np.where((ivar > 0) & inside, flux, -np.inf)
        peak = GRID.wavelength[seen.argmax()]
        assert abs(peak - LINE) < LINE / 80.0


def test_a_short_spectrum_stays_whole() -> None:
    flux, ivar = np.ones(GRID.n, np.float32), np.zeros(GRID.n, np.float32)
    ivar[:600] = 100.0
    for seed in range(20):
        _, changed = spectrographs.taken_elsewhere(np.random.default_rng(seed), flux, ivar, GRID)
        assert (changed > 0).sum() > 500


@pytest.mark.parametrize(
    "grid", [Grid(3.836, 1e-4, 800), Grid(3.8401, 1e-4, 900), Grid(3.0, 1e-3, 90)]
)
def test_grids_of_ones_own(grid: Grid) -> None:
    """The edge of a grid may lie anywhere, two pixels into a telluric band too."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        flux, ivar = np.ones(grid.n, np.float32), np.full(grid.n, 100.0, np.float32)
        flux, ivar = spectrographs.taken_elsewhere(rng, flux, ivar, grid)
        assert np.isfinite(flux).all() and (ivar > 0).any()


@pytest.mark.parametrize("resolution", [100.0, 300.0, 1000.0])
def test_noise_is_what_ivar_says_at_lower_resolution(resolution: float) -> None:
    rng = np.random.default_rng(3)
    pulls = []
    for _ in range(20):
        error = 0.05 * (1.0 + 2.0 * (rng.random(GRID.n) < 0.1))  # sky lines
        flux = 1.0 + rng.normal(size=GRID.n) * error
        one, ivar = spectrographs.lower_resolution(rng, flux, error**-2, GRID, resolution)
        # Means over many pixels: there it does not matter that pixels of the grid are interpolated.
        parts = np.array_split(np.arange(200, GRID.n - 200), 20)
        pulls += [(one[p].mean() - 1.0) / np.sqrt((1.0 / ivar[p]).sum()) * len(p) for p in parts]
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_noise_of_single_pixels_is_what_ivar_says() -> None:
    rng = np.random.default_rng(4)
    flux = 1.0 + rng.normal(size=GRID.n) * 0.05
    one, ivar = spectrographs.lower_resolution(
        rng, flux, np.full(GRID.n, 400.0), GRID, 900.0, per_element=5.0
    )
    pull = (one - 1.0) * np.sqrt(ivar)
    assert pull[100:-100].std() == pytest.approx(1.0, abs=0.05)
    assert abs(np.corrcoef(pull[100:-101], pull[101:-100])[0, 1]) < 0.05


@pytest.mark.parametrize("resolution", [150.0, 500.0, 1500.0])
def test_a_line_is_as_wide_as_the_resolution_says(resolution: float) -> None:
    flux = gaussian_line(GRID.wavelength, LINE, 1e-4, 100.0)
    one, _ = spectrographs.lower_resolution(
        np.random.default_rng(0), flux, np.full(GRID.n, 1e12), GRID, resolution, per_element=8.0
    )
    near = np.abs(GRID.wavelength / LINE - 1.0) < 6.0 / resolution
    x, one = GRID.wavelength[near], one[near]
    centre = np.average(x, weights=np.clip(one, 0, None))
    assert centre == pytest.approx(LINE, rel=3e-4)
    spread = np.sqrt(np.average((x / LINE - 1.0) ** 2, weights=np.clip(one, 0, None)))
    # FWHM in quadrature, from that of the templates on.
    own = (resolution**-2 - spectrographs.TEMPLATE_RESOLUTION**-2) / (8.0 * np.log(2.0)) + 1e-8
    assert spread == pytest.approx(np.sqrt(own), rel=0.1)


def test_factors_are_what_they_are_called() -> None:
    x = GRID.wavelength
    np.testing.assert_allclose(spectrographs.slope(GRID, 2.0), (x / 6000.0) ** 2)
    wave = spectrographs.ripple(GRID, 0.1, 400.0)
    assert wave.max() == pytest.approx(1.1, abs=1e-4) and wave.min() == pytest.approx(0.9, abs=1e-4)
    crossings = np.flatnonzero(np.diff(wave > 1.0))
    np.testing.assert_allclose(np.diff(x[crossings]), 200.0, atol=5.0)
    step = spectrographs.arm_step(GRID, 6000.0, 1.2)
    assert set(step[x < 6000.0]) == {1.0} and set(step[x > 6000.0]) == {1.2}
    bell = spectrographs.response(GRID, 6000.0, 1000.0)
    assert x[bell.argmax()] == pytest.approx(6000.0, abs=2.0)
    band = spectrographs.telluric(np.random.default_rng(0), GRID, 1.0)
    assert band[(x > 7600) & (x < 7690)].max() < 0.8 and band[(x > 5000) & (x < 6800)].min() == 1.0
    assert spectrographs.window(GRID, 5000.0, 6000.0).sum() == ((x >= 5000) & (x <= 6000)).sum()
    tilted = spectrographs.slope(GRID, 1.0)
    flat = tilted * spectrographs.over_continuum(tilted, np.ones(GRID.n), 100.0)
    np.testing.assert_allclose(flat[400:-400], 1.0, atol=0.01)


def test_errors_with_a_floor() -> None:
    flux, ivar = np.full(100, 2.0), np.full(100, 1e4)
    ivar[:10] = 0.0
    changed = spectrographs.error_floor(flux, ivar, 0.05)
    assert not changed[:10].any()
    np.testing.assert_allclose(1.0 / changed[10:], 1e-4 + 0.1**2)
    noisy = 1.0 + np.random.default_rng(0).normal(size=GRID.n) * 0.1
    estimated = spectrographs.errors_of_scatter(noisy, np.full(GRID.n, 7.0))
    assert estimated[0] ** -0.5 == pytest.approx(0.1, rel=0.1)
