"""What a class and a redshift cost here, by the paper's way, and by redrock.

Usage: python benchmarks/alternatives.py [-n 32] [--data LABELLED_SET] [--model NAME]
           [--redrock-templates DIR] [--write PAGE.md]

The paper's way: matplotlib draws the spectrum, a ViT-B/16 in single precision sees the picture at
224 by 224 pixels (Strano Moraes et al. 2026, arXiv:2506.00294). redrock, where it is installed,
fits the same spectra, with the templates in $RR_TEMPLATE_DIR or that directory, otherwise with
those that the weights carry. --data takes held-out spectra of a labelled set, evenly by class;
otherwise they are simulated from what the weights have learned. Each runs in this process, with as
many threads as OMP_NUM_THREADS says; spectra are in memory, as all three need them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from page import Clock, lines_of, parser, put
from samples import simulated

import spectromer_cli
from spectromer_cli.evaluation.held_out import hold_out
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.model.device import BATCH_SIZE, keep_freed_memory
from spectromer_cli.model.taxonomy import CLASSES
from spectromer_cli.model.vit import SIZES, PlainViT
from spectromer_cli.outputs.formats import stacked
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.loading import Item, item_of
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.spectrum import Spectrum
from spectromer_cli.training import dataset, targets

# The program's batches; few spectra come again to fill one.
BATCH = BATCH_SIZE
SIDE = 224
WITHOUT_FIT = "without the template fit"
# A redshift is right within this, in 1 + z; a star's class is enough.
RIGHT = 0.003
# redrock's own ranges and steps of redshift.
REDSHIFTS = {
    "GALAXY": 10.0 ** np.arange(np.log10(0.995), np.log10(2.7), 3e-4) - 1.0,
    "QSO": 10.0 ** np.arange(np.log10(1.05), np.log10(7.0), 5e-4) - 1.0,
    "STAR": np.arange(-0.002, 0.00201, 4e-5),
}

Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def sample(data: Path | None, model: Spectromer, count: int) -> Sample:
    """Flux, ivar, class and z of spectra."""
    if data is None:
        drawn = simulated(model, count)
        return drawn.flux, drawn.ivar, np.array(CLASSES)[drawn.class_], drawn.z
    source = dataset.find(data)
    found = source.read(source.general(), model.grid, ReadOptions())
    learned = targets.general(found, model.tasks)
    shown = {target.name: target.shown for target in learned}
    testing = hold_out(found, learned, model.weights, None, None).testing & np.isfinite(shown["z"])
    rng = np.random.default_rng(1)
    rows = np.concatenate([
        rng.permutation(np.flatnonzero(testing & (shown["class"] == name)))[: count // 3]
        for name in CLASSES
    ])  # fmt: skip
    flux, ivar = found.take(rows).on_grid(model.grid)
    return flux, ivar, shown["class"][rows], shown["z"][rows]


def by_spectromer(model: Spectromer, items: list[Item], refined: bool = True) -> Table:
    """Class and redshift, as `spectromer redshift` gives them."""
    starts = range(0, len(items), BATCH)
    return stacked([model.table(items[i : i + BATCH], refined) for i in starts])


def as_in_the_paper(backbone: PlainViT, spectra: list[Spectrum]) -> None:
    """Pictures by matplotlib, and what a ViT-B/16 makes of them."""
    import matplotlib.pyplot as plt

    pictures = []
    for spectrum in spectra:
        figure, axes = plt.subplots(figsize=(SIDE / 100, SIDE / 100), dpi=100)
        axes.plot(spectrum.wavelength, spectrum.flux, lw=0.5)
        file = io.BytesIO()
        figure.savefig(file, format="png")
        plt.close(figure)
        file.seek(0)
        pictures.append(plt.imread(file)[:, :, :3])
    image = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        for some in image.split(8):
            backbone(some)


def templates_of(model: Spectromer, folder: str | None) -> list[Any]:
    """redrock's templates."""
    from redrock.templates import Template, find_templates

    if folder:
        return [Template(path) for path in find_templates(folder)]
    made = []
    step = model.grid.dloglam
    for name, basis in model.bases.items():
        # It asks for templates that cover the spectrum at all redshifts: beyond them is zero.
        before = int((basis.loglam0 - np.log10(400.0)) / step)
        vectors = np.pad(np.where(basis.learned, basis.vectors, 0.0), ((0, 0), (before, 0)))
        loglam = basis.loglam0 + step * (np.arange(vectors.shape[1] + 2000) - before)
        made.append(
            Template(
                spectype=name, redshifts=REDSHIFTS[name], wave=10.0**loglam, subtype="",
                flux=np.pad(vectors, ((0, 0), (0, 2000))).astype(float), method="PCA",
                igm_model="None",
            )
        )  # fmt: skip
    return made


def by_redrock(templates: list[Any], flux: np.ndarray, ivar: np.ndarray, grid: Grid) -> Table:
    """redrock's best fit of each spectrum; the resolution is a Gaussian of one pixel."""
    from redrock.targets import DistTargetsCopy, Target
    from redrock.targets import Spectrum as RedrockSpectrum
    from redrock.templates import DistTemplate
    from redrock.zfind import zfind
    from scipy.sparse import dia_matrix

    n, offsets = grid.n, np.arange(-5, 6)
    kernel = np.exp(-0.5 * offsets**2)
    bands = np.repeat((kernel / kernel.sum())[:, None], n, axis=1)
    objects = [
        Target(number, [RedrockSpectrum(grid.wavelength, f.astype(float), i.astype(float),
                                        dia_matrix((bands, offsets), shape=(n, n)))])
        for number, (f, i) in enumerate(zip(flux, ivar, strict=True))
    ]  # fmt: skip
    distributed = DistTargetsCopy(objects)
    waves = distributed.wavegrids()
    _, fits = zfind(distributed, [DistTemplate(each, waves) for each in templates], mp_procs=1)
    best = fits[fits["znum"] == 0]
    best.sort("targetid")
    return Table({"class": np.asarray(best["spectype"]).astype(str), "z": np.asarray(best["z"])})


def success(table: Table, class_: np.ndarray, z: np.ndarray) -> str:
    """Share of right classes with right redshifts."""
    right = np.asarray(table["class"]).astype(str) == class_
    near = np.abs(np.ma.filled(table["z"], np.nan).astype(float) - z) <= RIGHT * (1.0 + z)
    return f"{(right & (near | (class_ == 'STAR'))).mean():.3f}"


def main() -> None:
    """Measure."""
    options = parser(__doc__)
    options.add_argument("-n", type=int, default=32)
    options.add_argument("--data", type=Path)
    options.add_argument("--model")
    options.add_argument("--redrock-templates", default=os.environ.get("RR_TEMPLATE_DIR"))
    chosen = options.parse_args()
    model = spectromer_cli.load_model(chosen.model, "cpu")
    flux, ivar, class_, z = sample(chosen.data, model, chosen.n)
    spectra = [
        Spectrum(model.grid.wavelength, f.astype(float), i.astype(float))
        for f, i in zip(flux, ivar, strict=True)
    ]
    items = [item_of(spectrum, "", i, model.grid) for i, spectrum in enumerate(spectra)]
    items = (items * -(-BATCH // len(items)))[:BATCH]
    few = spectra[:8]
    keep_freed_memory()  # as the commands do
    backbone = PlainViT(SIDE // 16, *SIZES["vit_base_patch16_224"]).eval()
    results: dict[str, Table] = {}
    works: dict[str, Callable[[], object]] = {
        "spectromer": lambda: results.update(spectromer=by_spectromer(model, items)),
        WITHOUT_FIT: lambda: results.update({WITHOUT_FIT: by_spectromer(model, items, False)}),
        "the paper's way": lambda: as_in_the_paper(backbone, few),
    }
    counts = {
        "spectromer": len(items),
        WITHOUT_FIT: len(items),
        "the paper's way": len(few),
        "redrock": len(flux),
    }
    said = "redrock is not installed, and so not measured."
    if importlib.util.find_spec("redrock"):
        with contextlib.redirect_stdout(sys.stderr):
            fit = partial(by_redrock, templates_of(model, chosen.redrock_templates))
            fit(flux[:1], ivar[:1], model.grid)  # compiles
        origin = "its own" if chosen.redrock_templates else "those of the weights"
        said = f"redrock's templates are {origin}."

        def redrock() -> None:
            with contextlib.redirect_stdout(sys.stderr):
                results["redrock"] = fit(flux, ivar, model.grid)

        works["redrock"] = redrock
    by_spectromer(model, items[:BATCH])
    took = Clock(works, 1)
    unit = {
        "wall": took.wall["spectromer"] / len(items),
        "cpu": took.cpu["spectromer"] / len(items),
    }
    rows = []
    for name in works:
        wall, cpu = took.wall[name] / counts[name], took.cpu[name] / counts[name]
        rows.append([
            name, f"{wall * 1e3:.1f}", f"{wall / unit['wall']:.1f}", f"{cpu * 1e3:.1f}",
            f"{cpu / unit['cpu']:.1f}",
            success(results[name][: len(flux)], class_, z) if name in results else "",
        ])  # fmt: skip
    head = ["", "ms per spectrum", "against spectromer", "CPU-ms per spectrum",
            "against spectromer", "class and z right"]  # fmt: skip
    kind = f"held-out spectra of {chosen.data.name}" if chosen.data else "simulated spectra"
    put(chosen.write, "alternatives", [f"{len(flux)} {kind}. {said}", "", *lines_of(head, rows)])


if __name__ == "__main__":
    main()
