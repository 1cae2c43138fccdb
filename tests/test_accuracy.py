"""What the default weights reach on spectra that anybody has: simulated ones, and those of pPXF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import spectromer_cli as spectromer
from spectromer_cli.simulation.populations import load_populations
from spectromer_cli.simulation.simulator import Simulator
from spectromer_cli.weights.store import resolve

NUMBER = 200


@pytest.fixture(scope="module")
def model() -> spectromer.Spectromer:
    return spectromer.load_model(device="cpu")


@pytest.mark.parametrize("name", ["STAR", "GALAXY", "QSO"])
def test_simulated_spectra_of_a_class(name: str, model: spectromer.Spectromer) -> None:
    source = load_populations(resolve(None), model.config.grid)
    simulator = Simulator(
        source, source.grid, shares={name: 1.0}, sn_range=(8, 40),
        taken_by=("SDSS", "BOSS", "LAMOST"),
    )  # fmt: skip
    drawn = simulator.draw(np.random.default_rng(7), NUMBER)
    wavelength = source.grid.wavelength
    table = model.predict(
        [
            spectromer.Spectrum(wavelength, flux, ivar)
            for flux, ivar in zip(drawn.flux, drawn.ivar, strict=True)
        ]
    )
    assert np.mean(table["class"] == name) >= 0.995
    off = (np.asarray(table["z"]) - drawn.z) / (1 + drawn.z)
    assert np.mean(np.abs(off) < 0.003) >= 0.99
    assert np.median(np.abs(off)) < 3e-5  # 9 km/s
    assert np.mean(table["zwarn"] == 0) >= 0.9
    # Errors allow for what templates do not fit in real spectra; these fit better.
    assert np.median(np.abs(off) * (1 + drawn.z) / np.asarray(table["z_err"])) < 1


# Redshifts of the SDSS pipeline, in the files, and of the LEGA-C catalogue, in pPXF's example.
SHIPPED = {
    "NGC3073_SDSS_DR18.fits": ("GALAXY", 0.003763, 1e-3),
    "NGC3522_SDSS_DR18.fits": ("GALAXY", 0.004018, 1e-4),
    "legac_M19_56670_v3.0.fits": ("GALAXY", 0.6686, 5e-4),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_real_spectra_that_another_package_ships(name: str, model: spectromer.Spectromer) -> None:
    ppxf = pytest.importorskip("ppxf", reason="ppxf, which ships real spectra, is not installed")
    path = Path(ppxf.__file__).parent / "spectra" / name
    if not path.exists():
        pytest.skip("this ppxf does not ship the spectrum")
    class_, z, tolerance = SHIPPED[name]
    (row,) = model.predict(spectromer.read(path))
    assert row["class"] == class_
    assert row["z"] == pytest.approx(z, abs=tolerance)
    assert row["zwarn"] == 0
