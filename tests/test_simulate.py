"""The simulator and the augmentations: the truth that they state is the truth in the flux."""

from pathlib import Path

import numpy as np
import pytest
from small_set import write_templates

from spectromer_cli.errors import ReadError
from spectromer_cli.model import taxonomy
from spectromer_cli.simulation.simulator import Simulator
from spectromer_cli.simulation.spectral_physics import Templates, gaussian_line, reddening
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid
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
    levels = [np.median(np.abs(f[g])) for f, g in zip(one.flux, good, strict=True)]
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
