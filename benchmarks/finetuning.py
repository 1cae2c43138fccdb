"""Fine-tuning at equal data: from Spectromer's weights, from ImageNet's, from random ones.

Usage: python benchmarks/finetuning.py real.h5 --pretrained vit_tiny.safetensors
           [--model NAME] [--minutes 2] [--write docs/how-to/finetuning.md]

The scheme is one that needs fine spectral detail and that weights without log g have not seen:
LAMOST stars as dwarf (log g ≥ 4), subgiant (3.5–4) or giant (< 3.5). Each start learns from the
same 50, 200 or 1000 spectra per class (fewer where there are fewer) with `spectromer finetune`,
and predicts the same test objects; a random forest on 50 principal components of the flux learns
from the same spectra too. Then Teff, log g and [Fe/H] against LASP's values.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.table import Table

from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import dataset, split
from spectromer_cli.training.dataset import LabelledSpectra

CLASSES = ("dwarf", "subgiant", "giant")
PARAMETERS = ("teff", "logg", "feh")
# The stars that all starts are tested on: this share of the objects.
TEST_SHARE, SEED = 0.3, 7
SIZES = (50, 200, 1000)
MARKERS = ("<!-- measured -->\n", "<!-- end of measured -->\n")


def labels_of(data: LabelledSpectra) -> np.ndarray:
    """The class of each star by its log g."""
    logg = np.ma.getdata(data.labels["logg"])
    return np.where(logg >= 4.0, "dwarf", np.where(logg >= 3.5, "subgiant", "giant"))


def write_files(data: LabelledSpectra, folder: Path) -> list[str]:
    """One FITS table per spectrum."""
    names = []
    for i in range(len(data)):
        good = data.ivar[i] > 0
        table = Table(
            {
                "wavelength": data.grid.wavelength[good],
                "flux": data.flux[i][good].astype("f4"),
                "ivar": data.ivar[i][good].astype("f4"),
            }
        )
        table["wavelength"].unit = "Angstrom"
        names.append(f"star-{i}.fits")
        table.write(folder / names[-1])
    return names


def spectromer(*arguments: object) -> str:
    """Run the program; its stdout."""
    command = [sys.executable, "-m", "spectromer_cli", *map(str, arguments)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def figures(truth: np.ndarray, found: np.ndarray) -> str:
    """Accuracy and mean recall as cells of a table."""
    recall = np.mean([(found[truth == name] == name).mean() for name in CLASSES])
    return f"{(found == truth).mean():.3f} | {recall:.3f}"


def forest(data: LabelledSpectra, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions of a random forest on principal components of the flux."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier

    flux = np.clip(data.flux.astype("f4"), -3.0, 5.0)
    some = (data.ivar[train] > 0).mean(axis=0) > 0.9
    pca = PCA(min(50, len(train) - 1), random_state=1).fit(flux[train][:, some])
    model = RandomForestClassifier(500, class_weight="balanced", random_state=1)
    model.fit(pca.transform(flux[train][:, some]), labels_of(data)[train])
    return model.predict(pca.transform(flux[test][:, some]))


def compare(
    data: LabelledSpectra, files: np.ndarray, folder: Path, asked: argparse.Namespace
) -> list[str]:
    """The table of starts."""
    label = labels_of(data)
    test = np.flatnonzero(split.places(data.group, SEED) < TEST_SHARE)
    rest = np.setdiff1d(np.arange(len(data)), test)
    Table({"file": files[test]}).write(folder / "test.csv")
    starts = {
        "Spectromer": ["--model", asked.model] if asked.model else [],
        "ImageNet": ["--backbone", "vit_tiny_patch16_224", "--pretrained", asked.pretrained],
        "random": ["--random-start"],
    }
    lines = [
        f"Test: {len(test)} stars ("
        + ", ".join(f"{name} {(label[test] == name).sum()}" for name in CLASSES)
        + ").",
        "",
        "| per class | spectra | start | accuracy | mean recall | minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size in SIZES:
        rng = np.random.default_rng(size)
        own = [rng.permutation(rest[label[rest] == name])[:size] for name in CLASSES]
        train = np.concatenate(own)
        catalogue = folder / f"train{size}.csv"
        Table({"file": files[train], "class": label[train]}).write(catalogue)
        for name, options in starts.items():
            began = time.monotonic()
            run = folder / f"{name}{size}"
            # A small set is fitted six times over.
            limit = asked.minutes * (2 if len(train) < 500 else 1)
            spectromer(
                "finetune", "--catalog", catalogue, *options, "-o", run,
                "--max-minutes", limit, "-q",
            )  # fmt: skip
            minutes = (time.monotonic() - began) / 60
            out = folder / "classes.ecsv"
            spectromer("classify", "--catalog", folder / "test.csv", "--model", run, "-o", out)
            found = np.array(Table.read(out)["class"].tolist())
            cells = figures(label[test], found)
            lines.append(f"| {size} | {len(train)} | {name} | {cells} | {minutes:.1f} |")
            print(lines[-1], file=sys.stderr)
        cells = figures(label[test], forest(data, train, test))
        lines.append(f"| {size} | {len(train)} | random forest | {cells} | |")
    return lines


def parameters(
    data: LabelledSpectra, files: np.ndarray, folder: Path, asked: argparse.Namespace
) -> list[str]:
    """The table of Teff, log g and [Fe/H]."""
    table = Table({"file": files, **data.labels})
    table["ra"], table["dec"] = np.nan, np.nan
    table.write(folder / "stars.ecsv")
    began = time.monotonic()
    options = ["--model", asked.model] if asked.model else []
    out = spectromer(
        "finetune", "--catalog", folder / "stars.ecsv", "--target", ",".join(PARAMETERS), *options,
        "-o", folder / "stars", "--max-minutes", 2 * asked.minutes, "-q",
    )  # fmt: skip
    minutes = (time.monotonic() - began) / 60
    values = {line.split("\t")[0]: float(line.split("\t")[1]) for line in out.splitlines()}
    lines = [
        f"{len(data)} stars, {values['teff_n']:.0f} of them to judge by; {minutes:.1f} minutes.",
        "",
        "| quantity | scatter | bias | pull |",
        "| --- | --- | --- | --- |",
    ]
    units = {"teff": "K", "logg": "dex", "feh": "dex"}
    for name in PARAMETERS:
        scatter, bias, pull = (values[f"{name}_{key}"] for key in ("scatter", "bias", "pull"))
        lines.append(f"| {name} [{units[name]}] | {scatter:.3g} | {bias:.2g} | {pull:.2f} |")
    return lines


def main() -> None:
    """Measure, print, and write the tables into a page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    data = dataset.find(asked.data).read(PARAMETERS, Grid(), ReadOptions())
    known = ~np.ma.getmaskarray(data.labels["logg"])
    data = data.take((data.survey == "LAMOST") & known)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = np.array(write_files(data, folder))
        lines = compare(data, files, folder, asked)
        stars = parameters(data, files, folder, asked)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    lines += ["", "Teff, log g and [Fe/H] of the same stars, against LASP:", "", *stars, ""]
    lines.append(f"Most memory that any of these runs held: {memory:.1f} GiB.")
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.write:
        page = asked.write.read_text(encoding="utf-8")
        start, end = (re.escape(marker) for marker in MARKERS)
        filled = MARKERS[0] + "\n" + text + "\n" + MARKERS[1]
        page = re.sub(f"{start}.*{end}", lambda found: filled, page, flags=re.DOTALL)
        asked.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
