"""How well weights know what they do not know: novelty, wavelengths, errors, levels of confidence.

Usage: python benchmarks/doubts.py --data real.h5 [--data more.h5] [--weights DIR]
           [--instruments FOLDER] [-n 300] [--seed 1]

Takes held-out spectra of labelled sets (the split that the weights record), as they are and as
other spectrographs would have taken them; spectra that are no objects; files of other instruments
with a truth.csv (columns file, class, subclass, z; class OOD is to be flagged); shifted and
stretched wavelength scales; and nonsense in the place of errors. Prints tables as Markdown.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Table
from held_out import labelled, share, table_of

import spectromer_cli
from spectromer_cli.errors import SpectromerError
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.metrics import OUTLIERS
from spectromer_cli.model import taxonomy
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.simulation import outliers, spectrographs
from spectromer_cli.spectra.loading import Item, item_of
from spectromer_cli.spectra.spectrum import Spectrum

# Redshifts of quasars beyond z = 5 are known to 0.03 only.
FAR, FAR_LIMIT = 5.0, 0.03
WAVELENGTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "+ 50 Å": lambda wavelength: wavelength + 50.0,
    "− 30 Å": lambda wavelength: wavelength - 30.0,
    "stretched by 1 % about 6500 Å": lambda wavelength: 6500.0 + 1.01 * (wavelength - 6500.0),
    "stretched by 3 % about 6500 Å": lambda wavelength: 6500.0 + 1.03 * (wavelength - 6500.0),
    "3 % longer": lambda wavelength: 1.03 * wavelength,
}
# By level: the spectra here have a median flux of 1, that of the file is the number.
ERRORS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "as they are": lambda rng, ivar: ivar,
    "σ as ivar, flux 1": lambda rng, ivar: ivar**-0.5,
    "σ as ivar, flux 10": lambda rng, ivar: 1e3 * ivar**-0.5,
    "σ as ivar, flux 100": lambda rng, ivar: 1e6 * ivar**-0.5,
    "shuffled": lambda rng, ivar: rng.permutation(ivar),
    "constant, the median": lambda rng, ivar: np.full_like(ivar, np.median(ivar)),
    "constant, 1": lambda rng, ivar: np.ones_like(ivar),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--instruments", type=Path)
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = spectromer_cli.load_model(options.weights, "cpu")
    print(f"Weights {model.weights.name}; made by `python benchmarks/doubts.py`.")
    held_out(model, options.data, options.n, options.seed)
    if options.instruments:
        instruments(model, options.instruments)


def held_out(model: Spectromer, paths: list[Path], n: int, seed: int) -> None:
    """All tables that are of held-out spectra."""
    data, named, testing = labelled(paths, model)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(testing)[: 4 * n])
    flux, ivar = (values.astype(float) for values in data.take(rows).on_grid(model.grid))
    class_, z, has_ivar = named["class"][rows], named["z"][rows], data.has_ivar[rows]
    own = predicted(model, flux, ivar, has_ivar)
    right = is_right(own, class_, z)
    pairs = [
        spectrographs.taken_elsewhere(
            np.random.default_rng([seed, i]), flux[i], ivar[i], model.grid
        )
        for i in range(len(rows))
    ]
    changed = predicted(model, *map(np.array, zip(*pairs, strict=True)), has_ivar)
    changed_right = is_right(changed, class_, z)
    print("\n| spectra | number | out of domain | LINES_DISAGREE | ERRORS_DOUBTFUL |")
    print("| --- |" + " --- |" * 4)
    print(f"| held out, right | {flagged(own, right)} |")
    print(f"| – as other spectrographs, right | {flagged(changed, changed_right)} |")
    for kind in outliers.SHARES:
        drawn = []
        for i in range(n // 2):
            one = np.random.default_rng([seed, i, len(kind)])
            pick = one.integers(len(rows))
            drawn.append(outliers.draw(one, kind, flux[pick], ivar[pick], model.grid))
        found = predicted(model, *map(np.array, zip(*drawn, strict=True)))
        print(f"| {kind} | {flagged(found, np.ones(len(found), dtype=bool))} |")
    print("\n| z_conf | held out | wrong | share | as other spectrographs | wrong | share |")
    print("| --- |" + " --- |" * 6)
    known = (class_ != "STAR") & np.isfinite(z)
    for level in range(4):
        cells = []
        for table in (own, changed):
            these = known & (np.asarray(table["z_conf"]) == level)
            wrong = these & off(table, z)
            cells += [these.sum(), wrong.sum(), f"{these.sum() / known.sum():.3f}"]
        print(f"| {level} | " + " | ".join(map(str, cells)) + " |")
    wavelengths(model, flux, ivar, class_, right, n)
    errors(model, flux[has_ivar], ivar[has_ivar], n, seed)


def wavelengths(
    model: Spectromer,
    flux: np.ndarray,
    ivar: np.ndarray,
    class_: np.ndarray,
    right: np.ndarray,
    n: int,
) -> None:
    """Spectra of S/N above 5 that are right as they are, on a wrong wavelength scale."""
    sn = np.array([np.median((f * np.sqrt(i))[i > 0]) for f, i in zip(flux, ivar, strict=True)])
    usable = np.flatnonzero(right & (sn > 5.0))
    rows = np.concatenate([usable[class_[usable] == c][: n // 6] for c in taxonomy.CLASSES])
    print(
        "\n| wavelengths | " + " | ".join(f"{c}: LINES_DISAGREE | zwarn" for c in taxonomy.CLASSES)
    )
    print("| --- |" + " --- |" * 2 * len(taxonomy.CLASSES))
    for name, distorted in WAVELENGTHS.items():
        # As a file would have them, with its own pixels.
        items = [
            item_of(Spectrum(distorted(model.grid.wavelength), flux[i], ivar[i]), "", 0, model.grid)
            for i in rows
        ]
        found = table_of(model, items)
        disagree = np.asarray(found["zwarn"]) & int(ZWarn.LINES_DISAGREE) > 0
        cells = []
        for own in taxonomy.CLASSES:
            these = class_[rows] == own
            cells += [share(disagree[these]), share(np.asarray(found["zwarn"])[these] != 0)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def errors(model: Spectromer, flux: np.ndarray, ivar: np.ndarray, n: int, seed: int) -> None:
    """Spectra with errors of their own, and nonsense in their place."""
    print("\n| errors | ERRORS_DOUBTFUL |\n| --- | --- |")
    for name, instead in ERRORS.items():
        words = []
        for i in range(len(flux) if name == "as they are" else min(n, len(flux))):
            good = ivar[i] > 0
            other = np.zeros(len(good))
            other[good] = instead(np.random.default_rng([seed, i]), ivar[i][good])
            item = item_of(Spectrum(model.grid.wavelength, flux[i], other), "", i, model.grid)
            words.append(item.prepared is not None and item.prepared.errors_doubtful)
        print(f"| {name} | {share(np.array(words))} |")


def instruments(model: Spectromer, folder: Path) -> None:
    """Files of other instruments."""
    items: list[Item] = []
    truth = []
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                spectra = spectromer_cli.read(folder / row["file"])
            except SpectromerError:
                continue
            own = [item_of(one, row["file"], i, model.grid) for i, one in enumerate(spectra[:3])]
            items += own
            truth += [row] * len(own)
    found = table_of(model, items)
    class_ = np.array([row["class"] for row in truth])
    z = np.array([float(row["z"] or "nan") for row in truth])
    readable = np.array([item.prepared is not None for item in items])
    supernova = np.array([row["subclass"].startswith("SN") for row in truth]) & readable
    strange = (class_ == "OOD") & ~supernova & readable
    print("\n| other instruments | number | out of domain | LINES_DISAGREE | ERRORS_DOUBTFUL |")
    print("| --- |" + " --- |" * 4)
    right = is_right(found, class_, z) & readable
    for name, which in {
        "right": right, "supernovae": supernova, "others out of domain": strange,
    }.items():  # fmt: skip
        print(f"| {name} | {flagged(found, which)} |")
    score = np.asarray(found["outlier_score"])
    for i in np.flatnonzero((right & (score > 1.0)) | (supernova & (score <= 1.0))):
        print(f"- {class_[i]} {truth[i]['file']}: {found['class'][i]}, score {score[i]:.2f}")


def predicted(
    model: Spectromer, flux: np.ndarray, ivar: np.ndarray, has_ivar: np.ndarray | None = None
) -> Table:
    """The table of spectra on the model's grid."""
    items = [
        item_of(
            Spectrum(
                model.grid.wavelength, flux[i], ivar[i],
                {"has_ivar": bool(has_ivar is None or has_ivar[i])},
            ),
            "", i, model.grid,
        )
        for i in range(len(flux))
    ]  # fmt: skip
    return table_of(model, items)


def off(table: Table, z: np.ndarray) -> np.ndarray:
    """Which redshifts are wrong; unknown ones are not."""
    limit = np.where(z > FAR, FAR_LIMIT, OUTLIERS["0.01"])
    return np.abs(np.asarray(table["z"], float) - z) > limit * (1.0 + z)


def is_right(table: Table, class_: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Which have the right class and, of galaxies and quasars, no wrong redshift."""
    return (np.asarray(table["class"]).astype(str) == class_) & ~(
        (class_ != "STAR") & off(table, z)
    )


def flagged(table: Table, which: np.ndarray) -> str:
    """Cells: how many, and the shares out of domain, with lines that disagree, of odd errors."""
    zwarn = np.asarray(table["zwarn"], int)[which]
    words = np.array(["ERRORS_DOUBTFUL" in text.split(";") for text in table["flags"]])[which]
    shares = [
        share((zwarn & int(ZWarn.OUT_OF_DOMAIN)) > 0),
        share((zwarn & int(ZWarn.LINES_DISAGREE)) > 0),
        share(words),
    ]
    return " | ".join([str(int(which.sum())), *shares])


if __name__ == "__main__":
    main()
