"""What is left of the predictions when spectra are worse than those of the large surveys.

Usage: python benchmarks/degradations.py --data real.h5 [--data more.h5] [--templates templates.npz]
           [--model NAME] [-n 600] [--simulated 300] [--seed 1] [--write docs/accuracy.md]

Takes held-out spectra of labelled sets (the split that the weights record), evenly by class, and
simulated ones of S/N 5 to 60; changes them in one way at a time by the functions of
`simulation.spectrographs`; predicts, and prints a table of each as Markdown. --write puts them into
a page, in place of those of an earlier run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from held_out import labelled, table_of
from page import put_section

import spectromer_cli
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.metrics import OUTLIERS
from spectromer_cli.model import taxonomy
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.simulation import spectrographs
from spectromer_cli.simulation.populations import load_populations
from spectromer_cli.simulation.simulator import Simulator
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.loading import item_of
from spectromer_cli.spectra.spectrum import Spectrum
from spectromer_cli.training import augment

HEADING = "Degraded spectra"

Change = Callable[
    [np.random.Generator, np.ndarray, np.ndarray, Grid], tuple[np.ndarray, np.ndarray]
]


@dataclass
class Known:
    """Spectra on the model's grid, and what they are.

    Parameters
    ----------
    flux, ivar : array, shape (n, grid.n)
    class_ : array of str, shape (n,)
    z : array, shape (n,)
        NaN unknown.
    """

    flux: np.ndarray
    ivar: np.ndarray
    class_: np.ndarray
    z: np.ndarray


def window(low: float, high: float) -> Change:
    """What one arm or instrument sees of it."""

    def change(rng, flux, ivar, grid):  # type: ignore[no-untyped-def]
        return flux, np.where(spectrographs.window(grid, low, high), ivar, 0.0)

    return change


def gap(low: float, high: float) -> Change:
    """Two arms that do not meet."""

    def change(rng, flux, ivar, grid):  # type: ignore[no-untyped-def]
        return flux, np.where(spectrographs.window(grid, low, high), 0.0, ivar)

    return change


def resolution(value: float) -> Change:
    """λ/FWHM of `value`, 2.5 pixels per FWHM."""
    return lambda rng, flux, ivar, grid: spectrographs.lower_resolution(
        rng, flux, ivar, grid, value
    )


def factor(of: Callable[[np.random.Generator, np.ndarray, np.ndarray, Grid], np.ndarray]) -> Change:
    """A wrong or missing flux calibration; the errors go along."""

    def change(rng, flux, ivar, grid):  # type: ignore[no-untyped-def]
        by = of(rng, flux, ivar, grid)
        return flux * by, ivar / by**2

    return change


def noise(times: float) -> Change:
    """Noise of so many times the own one, so that the S/N falls to 1/√(1 + times²)."""
    return lambda rng, flux, ivar, grid: augment.add_noise(rng, flux, ivar, times)


CHANGES: dict[str, Change] = {
    "as they are": lambda rng, flux, ivar, grid: (flux, ivar),
    "window 3700–7000 Å": window(3700.0, 7000.0),
    "window 4750–9350 Å": window(4750.0, 9350.0),
    "window 5500–10000 Å": window(5500.0, 10000.0),
    "window 6200–9000 Å": window(6200.0, 9000.0),
    "gap 5500–6200 Å": gap(5500.0, 6200.0),
    "R 1000": resolution(1000.0),
    "R 500": resolution(500.0),
    "R 200": resolution(200.0),
    "R 100": resolution(100.0),
    "ripple of 5 %, 400 Å": factor(lambda r, f, i, g: spectrographs.ripple(g, 0.05, 400.0)),
    "ripple of 10 %, 400 Å": factor(lambda r, f, i, g: spectrographs.ripple(g, 0.1, 400.0)),
    "slope (λ/6000 Å)²": factor(lambda r, f, i, g: spectrographs.slope(g, 2.0)),
    "slope (λ/6000 Å)⁻²": factor(lambda r, f, i, g: spectrographs.slope(g, -2.0)),
    "red arm 1.3 × brighter": factor(lambda r, f, i, g: spectrographs.arm_step(g, 6000.0, 1.3)),
    "not calibrated (bell)": factor(lambda r, f, i, g: spectrographs.response(g, 6500.0, 1500.0)),
    "divided by the continuum": factor(
        lambda r, f, i, g: spectrographs.over_continuum(f, i, 150.0)
    ),
    "tellurics left in": factor(lambda r, f, i, g: spectrographs.telluric(r, g, 1.0)),
    "S/N / 2": noise(3.0**0.5),
    "S/N / 4": noise(15.0**0.5),
    "errors of 1/2 the size": lambda rng, flux, ivar, grid: (flux, 4.0 * ivar),
    "errors twice the size": lambda rng, flux, ivar, grid: (flux, 0.25 * ivar),
    "errors of the scatter": lambda rng, flux, ivar, grid: (
        flux,
        spectrographs.errors_of_scatter(flux, ivar),
    ),
    "error floor of 5 %": lambda rng, flux, ivar, grid: (
        flux,
        spectrographs.error_floor(flux, ivar, 0.05),
    ),
}


def main() -> None:
    """Measure, print, and write the tables into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--model")
    parser.add_argument("-n", type=int, default=600)
    parser.add_argument("--simulated", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    model = spectromer_cli.load_model(options.model, "cpu")
    sets = {"Held-out real": real(options.data, model, options.n, options.seed)}
    if options.simulated:
        sets["Simulated"] = simulated(options.templates, model, options.simulated, options.seed)
    lines = [
        f"Weights {model.weights.name}; made by `python benchmarks/degradations.py`. Spectra are "
        "changed in one way at a time. Wrong: |Δz|/(1+z) > 0.01, of galaxies and quasars. Right: "
        "class, and of galaxies and quasars the redshift. Of windows, spectra with "
        f"{spectrographs.MIN_PIXELS} pixels in it.",
    ]
    for name, known in sets.items():
        lines += ["", f"{name} spectra:", "", *table(known, model, options.seed)]
    put_section(options.write, HEADING, lines)


def real(paths: list[Path], model: Spectromer, count: int, seed: int) -> Known:
    """Held-out spectra of known class, as many of each as there are or are asked for."""
    data, named, testing = labelled(paths, model)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([
        rng.permutation(testing[named["class"][testing] == name])[: count // 3]
        for name in taxonomy.CLASSES
    ])  # fmt: skip
    flux, ivar = data.take(rows).on_grid(model.grid)
    return Known(flux, ivar, named["class"][rows], named["z"][rows])


def simulated(templates: Path | None, model: Spectromer, count: int, seed: int) -> Known:
    """Simulated spectra of S/N 5 to 60."""
    source = (
        Library(templates, model.grid) if templates else load_populations(model.weights, model.grid)
    )
    drawn = Simulator(source, model.grid, sn_range=(5.0, 60.0)).draw(
        np.random.default_rng(seed), count
    )
    return Known(drawn.flux, drawn.ivar, np.array(taxonomy.CLASSES)[drawn.class_], drawn.z)


def table(known: Known, model: Spectromer, seed: int) -> Iterator[str]:
    """The lines of a table: one for each change."""
    yield (
        "| change | spectra | class | – star | – galaxy | – quasar | z wrong | zwarn 0 "
        "| – of right | – right of those | out of domain |"
    )
    yield "| --- |" + " --- |" * 10
    for name, change in CHANGES.items():
        yield f"| {name} | " + " | ".join(figures(known, model, change, seed)) + " |"


def figures(known: Known, model: Spectromer, change: Change, seed: int) -> list[str]:
    """The cells of a line."""
    items, rows = [], []
    for i in range(len(known.flux)):
        rng = np.random.default_rng([seed, i])
        flux, ivar = known.flux[i].astype(float), known.ivar[i].astype(float)
        flux, ivar = change(rng, flux, ivar, model.grid)
        if (ivar > 0).sum() < spectrographs.MIN_PIXELS:
            continue
        items.append(item_of(Spectrum(model.grid.wavelength, flux, ivar), "", i, model.grid))
        rows.append(i)
    if not items:
        return ["0", *[""] * 9]
    found = table_of(model, items)
    class_true, z_true = known.class_[rows], known.z[rows]
    right = np.asarray(found["class"]).astype(str) == class_true
    far = (class_true != "STAR") & np.isfinite(z_true)
    off = ~(np.abs(np.asarray(found["z"], float) - z_true) / (1.0 + z_true) <= OUTLIERS["0.01"])
    whole = right & ~(far & off)
    zwarn = np.asarray(found["zwarn"], dtype=int)
    sure = zwarn == 0
    return [
        str(len(rows)),
        share(right, np.ones(len(rows), dtype=bool)),
        *(share(right, class_true == name) for name in taxonomy.CLASSES),
        share(off, far),
        share(sure, np.ones(len(rows), dtype=bool)),
        share(sure, whole),
        share(whole, sure),
        share((zwarn & int(ZWarn.OUT_OF_DOMAIN)) > 0, np.ones(len(rows), dtype=bool)),
    ]


def share(which: np.ndarray, among: np.ndarray) -> str:
    """The share of those among which it is true, as text; empty where there is none."""
    return f"{which[among].mean():.3f}" if among.any() else ""


if __name__ == "__main__":
    main()
