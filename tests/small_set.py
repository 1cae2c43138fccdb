"""Small templates and labelled spectra, made by hand, for the training tests."""

from pathlib import Path

import numpy as np

from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training.dataset import LabelledSpectra

LINES = (4102.9, 4341.7, 4862.7, 6564.6)


def write_templates(path: Path) -> Path:
    """Stars with absorption, galaxies with a break, quasars with broad lines."""
    fine = 3.0 + 1e-4 * np.arange(10800)
    star = 3.49 + 1e-4 * np.arange(5510)
    galaxy = 3.505 + 1e-4 * np.arange(4750)

    def lines(loglam: np.ndarray, centres: tuple[float, ...], width: float) -> np.ndarray:
        wavelength = 10**loglam
        return sum(np.exp(-0.5 * ((wavelength - c) / (width * c)) ** 2) for c in centres)

    stars = np.stack(
        [(10**star / 5000.0) ** slope - 0.5 * lines(star, LINES, 2e-3) for slope in (-2, -1, 1)]
    )
    populations = np.stack([np.where(10**galaxy > 4000.0, 1.0, level) for level in (0.4, 0.6)])
    eigen = np.stack([np.where(10**fine > 4000.0, 1.0, 0.5), lines(fine, LINES, 5e-4)])
    quasar = np.stack(
        [
            (10**fine / 3000.0) ** -1.0
            + 2.0 * lines(fine, (1215.7, 1549.1, 1908.7, 2799.1, *LINES), 1e-2),
            *(0.1 * lines(fine, (c,), 1e-2) for c in (1549.1, 2799.1, 4862.7)),
        ]
    )
    np.savez(
        path,
        star_loglam=star,
        star_flux=stars.astype(np.float16),
        star_type=np.array(["A", "F", "M"]),
        galaxy_loglam=galaxy,
        galaxy_flux=populations.astype(np.float16),
        galaxy_eigen_loglam=fine,
        galaxy_eigen=eigen.astype(np.float32),
        qso_loglam=fine,
        qso_eigen_z0_1p7=quasar.astype(np.float32),
        qso_eigen_z1p3_7=quasar.astype(np.float32),
    )
    return path


def write_labelled(path: Path, n: int = 60) -> Path:
    """A labelled set: each object twice, one label with a warning, one without redshift."""
    import h5py

    rng = np.random.default_rng(3)
    classes = np.array(["STAR", "GALAXY", "QSO"])[np.arange(n) % 3]
    flux = 1.0 + rng.normal(0.0, 0.1, (n, 4700))
    z = np.where(classes == "STAR", 0.0, rng.uniform(0.05, 0.5, n))
    for i in range(n):
        centre = 3.55 + 1e-4 * np.arange(4700)
        height = {"STAR": -0.8, "GALAXY": 3.0, "QSO": 3.0}[classes[i]]
        width = {"STAR": 1e-3, "GALAXY": 2e-4, "QSO": 3e-3}[classes[i]]
        line = np.log10(4862.7 * (1 + z[i]))
        flux[i] += height * np.exp(-0.5 * ((centre - line) / width) ** 2)
    zwarning = np.zeros(n, dtype=int)
    zwarning[0], z[4] = 4, np.nan
    with h5py.File(path, "w") as file:
        file.attrs["loglam0"], file.attrs["dloglam"] = 3.55, 1e-4
        file["flux"] = flux.astype(np.float16)
        file["ivar"] = np.full((n, 4700), 100.0, dtype=np.float16)
        file["z"], file["zwarning"] = z, zwarning
        star = classes == "STAR"
        file["teff"], file["feh"] = np.where(star, 5800.0, np.nan), np.where(star, 0.1, np.nan)
        file["has_ivar"], file["sn"] = np.ones(n, dtype=bool), np.full(n, 10.0)
        texts = {
            "class": classes,
            "subclass": np.where(classes == "STAR", "G2V", ""),
            "survey": np.full(n, "SDSS"),
            "group": np.array([f"object {i // 2}" for i in range(n)]),
        }
        for name, values in texts.items():
            file.create_dataset(name, data=list(values), dtype=h5py.string_dtype())
    return path


def in_memory(grid: Grid, flux: np.ndarray, **labels: np.ndarray) -> LabelledSpectra:
    """A labelled set of SDSS spectra of S/N 20, each of an object of its own."""
    n = len(flux)
    return LabelledSpectra(
        grid=grid,
        flux=flux.astype(np.float16),
        ivar=np.full(flux.shape, 400.0, np.float16),
        has_ivar=np.ones(n, bool),
        survey=np.full(n, "SDSS"),
        group=np.arange(n).astype(str),
        sn=np.full(n, 20.0),
        file=np.full(n, "made.h5"),
        row=np.arange(n),
        ra=np.full(n, np.nan),
        dec=np.full(n, np.nan),
        labels={name: np.ma.asarray(values) for name, values in labels.items()},
    )
