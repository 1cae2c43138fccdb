"""The simulator and the augmentations: the truth that they state is the truth in the flux."""

from pathlib import Path

import numpy as np
import pytest
from small_set import write_templates

from spectromer_cli.errors import ReadError
from spectromer_cli.model import taxonomy
from spectromer_cli.simulation.simulator import Simulator
from spectromer_cli.simulation.spectral_physics import (
    Templates,
    gaussian_line,
    mean_transmission,
    reddening,
)
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid, level
from spectromer_cli.training import augment

GRID = Grid()


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    return Simulator(Library(write_templates(tmp_path_factory.mktemp("t") / "t.npz"), GRID), GRID)


def test_draws_are_whole_and_repeatable(simulator: Simulator) -> None:
    one = simulator.draw(np.random.default_rng(5), 40)
    two = simulator.draw(np.random.default_rng(5), 40)
    np.testing.assert_array_equal(one.flux, two.flux)
    assert np.isfinite(one.flux).all()
    assert np.isfinite(one.ivar).all()
    assert (one.ivar >= 0).all()
    assert set(one.class_) == {0, 1, 2}
    stars = one.class_ == taxonomy.CLASSES.index("STAR")
    assert (np.abs(one.z[stars]) < 0.0021).all()
    assert (one.z[~stars] > -1e-9).all()
    good = one.ivar > 0
    levels = [level(f[g]) for f, g in zip(one.flux, good, strict=True)]
    np.testing.assert_allclose(levels, 1.0, rtol=1e-3)


def test_noise_is_what_ivar_says(simulator: Simulator) -> None:
    # Neighbouring pixels of smooth stretches differ by √2 σ.
    drawn = simulator.draw(np.random.default_rng(6), 60)
    scatter = []
    for flux, ivar in zip(drawn.flux, drawn.ivar, strict=True):
        both = (ivar[1:] > 0) & (ivar[:-1] > 0)
        pull = np.diff(flux)[both] / np.sqrt(1 / ivar[1:][both] + 1 / ivar[:-1][both])
        scatter.append(1.4826 * np.median(np.abs(pull)))
    assert np.median(scatter) == pytest.approx(1.0, abs=0.07)


@pytest.mark.parametrize("z", [0.0, 0.3, 2.0])
def test_a_line_lands_where_its_redshift_says(z: float) -> None:
    loglam = 3.0 + 1e-4 * np.arange(10800)
    rest = 4000.0 / 1.0
    flux = 1.0 + gaussian_line(10**loglam, rest / (1 + z) * 1.5, 1e-3, 100.0)
    templates = Templates(loglam, flux[None])
    observed = templates.observe(templates.flux[0], z, GRID)
    assert GRID.wavelength[np.nanargmax(observed)] == pytest.approx(rest * 1.5, rel=2e-4)


def test_a_line_holds_its_flux() -> None:
    wavelength = np.arange(6000.0, 7000.0, 0.5)
    assert gaussian_line(wavelength, 6500.0, 3e-4, 42.0).sum() * 0.5 == pytest.approx(42.0)


def test_dust_reddens() -> None:
    factor = reddening(np.array([3000.0, 5500.0, 9000.0]), 0.3)
    assert factor[0] < factor[1] < factor[2]
    assert factor[1] == pytest.approx(1.0, abs=0.01)


def test_shift_moves_the_line_and_the_label() -> None:
    flux = np.zeros(GRID.n, np.float32)
    flux[1000] = 1.0
    moved, ivar = augment.shift(flux, np.ones(GRID.n, np.float32), 300)
    assert moved.argmax() == 1300
    assert not ivar[:300].any()
    back, _ = augment.shift(moved, ivar, -300)
    assert back.argmax() == 1000


def test_augmented_redshift_follows_the_pixels() -> None:
    z, centre = 0.2, 2000
    flux = np.ones(GRID.n, np.float32)
    flux[centre] = 500.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        new_flux, new_ivar, new_z = augment.real(
            rng, flux, np.full(GRID.n, 1e4, np.float32), z, False, GRID
        )
        if new_ivar[new_flux.argmax()] == 0:
            continue
        pixels = new_flux.argmax() - centre
        expected = np.log1p(z) + pixels * GRID.dloglam * np.log(10)
        assert np.log1p(new_z) == pytest.approx(expected, abs=1e-9)


def test_added_noise_is_in_the_errors() -> None:
    flux, ivar = np.ones(4000), np.full(4000, 100.0)
    noisy, new_ivar = augment.add_noise(np.random.default_rng(0), flux, ivar, 2.0)
    assert noisy.std() == pytest.approx(0.2, rel=0.05)
    np.testing.assert_allclose(1 / new_ivar, 0.1**2 + 0.2**2)


def test_templates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"no zip")
    with pytest.raises(ReadError, match=r"t\.npz is not a set of templates"):
        Library(tmp_path / "t.npz", GRID)


def test_shared_templates_give_every_type(shared: Path) -> None:
    simulator = Simulator(Library(shared / "data" / "templates.npz", GRID), GRID)
    drawn = simulator.draw(np.random.default_rng(7), 150)
    found = {list(taxonomy.SUBCLASSES)[i] for i in drawn.subclass if i >= 0}
    assert len(found) >= 10
    assert np.isfinite(drawn.flux).all()


def test_the_mean_transmission_follows_its_formula() -> None:
    rest = np.array([1100.0, 1200.0, 1215.0, 1216.0, 1500.0, 5000.0])
    for z in (2.0, 3.0, 4.0, 5.0, 6.0, 6.5):
        found = mean_transmission(rest, z)
        assert (found[3:] == 1.0).all()
        absorber = (1.0 + z) * rest[:3] / 1215.67
        depth = np.where(
            absorber < 6.5, 0.85 * (absorber / 5.0) ** 4.3, 2.63 * (absorber / 6.5) ** 10.9
        )
        np.testing.assert_allclose(found[:3], np.exp(-depth), rtol=1e-12)
    # Lyman β adds its own, by gas nearer to the source.
    beta = 0.16 * 0.85 * (4.0 * 1000.0 / 1025.72 / 5.0) ** 4.3
    alpha = 0.85 * (4.0 * 1000.0 / 1215.67 / 5.0) ** 4.3
    assert mean_transmission(np.array([1000.0]), 3.0)[0] == pytest.approx(np.exp(-alpha - beta))


def test_the_mean_transmission_falls_with_redshift() -> None:
    rest = np.linspace(1050.0, 1210.0, 50)
    seen = np.array([mean_transmission(rest, z) for z in np.arange(2.0, 7.2, 0.1)])
    assert (np.diff(seen, axis=0) < 0).all()
    assert mean_transmission(np.array([1200.0]), 6.5)[0] < 1e-4
    # What the templates hold already is not applied again.
    held = mean_transmission(rest, 5.0, from_z=2.5) * mean_transmission(rest, 2.5)
    np.testing.assert_allclose(held, mean_transmission(rest, 5.0))


def library(tmp_path: Path) -> Library:
    return Library(write_templates(tmp_path / "t.npz"), GRID)


@pytest.mark.parametrize("z", [5.9, 6.3, 6.8])
def test_a_quasar_far_away_is_dark_blueward(tmp_path: Path, z: float) -> None:
    drawn = library(tmp_path).draw(np.random.default_rng(1), "QSO", (z, z))
    assert drawn.z == pytest.approx(z)
    rest = GRID.wavelength / (1.0 + z)
    # It is measured, and dark, over the whole blue side.
    assert np.isfinite(drawn.flux).all()
    bright = np.median(drawn.flux[rest > 1230.0])
    assert not drawn.flux[rest < 912.0].any()
    assert np.median(drawn.flux[(rest > 1150.0) & (rest < 1205.0)]) < 0.05 * bright
    assert np.median(drawn.flux[rest < 1205.0]) < 0.02 * bright
    # More than half of it is dark: its level is that of the bright part all the same.
    assert np.median(np.abs(drawn.flux)) < 0.02 * bright
    if z < 6.5:  # beyond, less than a tenth is bright
        assert level(drawn.flux) > 0.2 * bright


def test_the_dark_side_alone_is_no_draw(tmp_path: Path) -> None:
    """At z 6.8 Lyα lies beyond SDSS's window: what is left says nothing of the quasar."""
    options = {"shares": {"QSO": 1.0}, "z_range": (6.8, 6.8), "sn_range": (50.0, 60.0)}
    simulator = Simulator(library(tmp_path), GRID, taken_by=("SDSS",), **options)
    with pytest.raises(ReadError, match="cover too little"):
        simulator.draw(np.random.default_rng(0), 1)
    simulator = Simulator(library(tmp_path), GRID, taken_by=("BOSS",), **options)
    drawn = simulator.draw(np.random.default_rng(0), 5)
    assert np.allclose(drawn.z, 6.8)
    red, blue = GRID.wavelength > 9600.0, GRID.wavelength < 9300.0
    for flux, ivar in zip(drawn.flux, drawn.ivar, strict=True):
        bright = np.median(flux[red & (ivar > 0)])
        assert np.median(flux[blue & (ivar > 0)]) < 0.1 * bright


@pytest.mark.parametrize("z", [2.5, 3.5, 4.5, 5.8])
def test_a_galaxy_far_away_ends_at_its_break(tmp_path: Path, z: float) -> None:
    source = library(tmp_path)
    ratios = []
    for seed in range(15):
        drawn = source.draw(np.random.default_rng(seed), "GALAXY", (z, z))
        assert drawn.z == pytest.approx(z)
        rest = GRID.wavelength / (1.0 + z)
        red = np.nanmedian(drawn.flux[(rest > 1280.0) & (rest < 1500.0)])
        if (rest < 905.0).any():
            assert not np.nan_to_num(drawn.flux[rest < 905.0]).any()
        ratios.append(np.nanmean(drawn.flux[(rest > 1050.0) & (rest < 1180.0)]) / red)
    between = np.linspace(1050.0, 1180.0, 50)
    expected = (mean_transmission(between, z) * (between / 1390.0) ** -1.6).mean()
    assert np.median(ratios) == pytest.approx(expected, rel=0.35, abs=0.02)


@pytest.mark.parametrize("elsewhere", [0.0, 1.0])
def test_simulated_spectra_of_other_spectrographs(tmp_path: Path, elsewhere: float) -> None:
    simulator = Simulator(library(tmp_path), GRID, elsewhere=elsewhere)
    drawn = simulator.draw(np.random.default_rng(2), 40)
    assert np.isfinite(drawn.flux).all() and (drawn.ivar >= 0).all()
    assert (drawn.ivar <= 1e8).all()
    filled = [(one > 0).mean() for one in drawn.ivar]
    assert min(filled) > 0.07
    levels = [level(f[i > 0]) for f, i in zip(drawn.flux, drawn.ivar, strict=True)]
    np.testing.assert_allclose(levels, 1.0, rtol=1e-3)
    # Other spectrographs have narrow windows.
    assert (np.mean(filled) < 0.7) == (elsewhere == 1.0)


def test_the_level_of_a_spectrum() -> None:
    rng = np.random.default_rng(0)
    ordinary = rng.normal(3.0, 0.3, 4000)
    assert level(ordinary) == np.median(ordinary)
    dark = np.concatenate([np.zeros(3000), np.full(1000, 2.0)])
    assert level(dark) == pytest.approx(0.8)
    assert level(-dark) == level(dark)
    assert level(np.zeros(10)) == 0.0
