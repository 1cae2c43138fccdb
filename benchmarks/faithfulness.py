"""Which method's explanations are true: deletion and insertion curves, and the lines found.

Usage: python benchmarks/faithfulness.py real.h5 [--model NAME] [-n 210] [--write PAGE.md]

Takes held-out spectra (the split that the weights record), evenly by class, explains the class
that the model predicts, and hides, and shows, windows of 24 pixels in the order of each method's
importance. A random order and the plain gradient stand beside. Then: how often the lines that
should decide are in the strongest regions.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import torch

import spectromer_cli
from spectromer_cli.explain.attribution import METHODS, baseline, region_width
from spectromer_cli.explain.faithfulness import area, curves
from spectromer_cli.explain.prediction import choose
from spectromer_cli.explain.regions import strongest_regions
from spectromer_cli.model import taxonomy
from spectromer_cli.spectra.grid import Prepared
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import dataset, split, targets

MARKERS = ("<!-- measured -->\n", "<!-- end of measured -->\n")
# Rest wavelengths in Å (vacuum) of lines that should decide, by class, and the least S/N at
# which they are looked for.
DECISIVE = {
    "GALAXY": {
        "Hα + [N II]": (6549.0, 6586.0), "Hβ + [O III]": (4862.0, 5009.0),
        "Ca II H, K": (3934.0, 3970.0), "Mg b": (5167.0, 5186.0),
    },
    "QSO": {
        "C IV": (1549.0, 1549.0), "C III]": (1908.0, 1909.0), "Mg II": (2796.0, 2803.0),
        "Hβ + [O III]": (4862.0, 5009.0), "Hα + [N II]": (6549.0, 6586.0),
    },
    "STAR": {
        "Hα": (6564.0, 6565.0), "Hβ": (4862.0, 4863.0), "Ca II H, K": (3934.0, 3970.0),
        "Mg b": (5167.0, 5186.0),
    },
}  # fmt: skip
MIN_SN = 5.0


def plain_gradient(model, flux, ivar, prediction):  # type: ignore[no-untyped-def]
    """Size of the gradient, times what stands out: the simplest thing there is."""
    with torch.enable_grad():
        leaf = flux.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(prediction.score(model(leaf, ivar)).sum(), leaf)
    return (gradient * (flux - baseline(flux, ivar))).abs()[0].double().cpu().numpy()


def random_order(model, flux, ivar, prediction):  # type: ignore[no-untyped-def]
    """No explanation at all."""
    return np.random.default_rng(int(flux.sum().abs() * 1e3) % 2**32).random(flux.shape[1])


def main() -> None:
    """Measure, print, and write the tables into a page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("-n", type=int, default=210)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    model = spectromer_cli.load_model(options.model, "cpu")
    recorded = model.config.split or {"fraction": 0.15, "seed": 1}
    source = dataset.find(options.data)
    data = source.read(source.general(), model.grid, ReadOptions())
    named = {target.name: target.values for target in targets.general(data)}
    place = split.places(data.group, int(recorded["seed"]))
    rng = np.random.default_rng(1)
    chosen = np.concatenate([
        rng.permutation(np.flatnonzero((place < recorded["fraction"]) & (named["class"] == c)))[
            : options.n // 3
        ]
        for c in range(3)
    ])  # fmt: skip
    data, class_, z = data.take(chosen), named["class"][chosen], named["z"][chosen]
    flux, ivar = data.on_grid(model.grid)
    methods = {**METHODS, "plain gradient": plain_gradient, "random order": random_order}
    results: dict[str, list] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    found: dict[str, dict[str, list[bool]]] = {name: {} for name in METHODS}
    for i in range(len(data)):
        prepared = Prepared(flux[i], ivar[i], 1.0)
        outputs = {name: values[0] for name, values in model.outputs([prepared]).items()}
        prediction = choose(model.network.tasks, model.config.temperatures, outputs, "class")
        pair = torch.from_numpy(flux[i : i + 1]), torch.from_numpy(ivar[i : i + 1])
        for name, method in methods.items():
            began = time.perf_counter()
            importance = method(model.network, *pair, prediction)
            seconds[name] += time.perf_counter() - began
            results[name].append(curves(model.network, *pair, prediction, importance))
            if name in METHODS and data.sn[i] > MIN_SN and np.isfinite(z[i]):
                class_name = taxonomy.CLASSES[class_[i]]
                if class_name == prediction.label:
                    width = region_width(name, model.grid, model.config.tokens)
                    regions = strongest_regions(
                        np.where(ivar[i] > 0, importance, 0.0), model.grid, (), z[i], width
                    )
                    _note(found[name], class_name, z[i], regions, model.grid, ivar[i])
    lines = [
        f"{len(data)} held-out spectra, {len(data) // 3} per class, weights {model.weights.name}.",
        "",
        "| method | deletion (less is better) | insertion (more is better) | s per spectrum |",
        "| --- | --- | --- | --- |",
    ]
    for name, pairs in results.items():
        deletion = np.array([area(pair[0]) for pair in pairs])
        insertion = np.array([area(pair[1]) for pair in pairs])
        lines.append(
            f"| {name} | {_with_error(deletion)} | {_with_error(insertion)} "
            f"| {seconds[name] / len(data):.2f} |"
        )
    lines += [
        "",
        f"How often a line lies in one of the strongest regions, of correct predictions with S/N > "
        f"{MIN_SN:g} where the line is observed:",
        "",
        "| class, line | spectra | " + " | ".join(METHODS) + " |",
        "| --- | --- |" + " --- |" * len(METHODS),
    ]
    keys = sorted({key for own in found.values() for key in own})
    for key in keys:
        shares = [np.mean(found[name][key]) for name in METHODS]
        number = len(found[next(iter(METHODS))][key])
        lines.append(f"| {key} | {number} | " + " | ".join(f"{s:.2f}" for s in shares) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        start, end = (re.escape(marker) for marker in MARKERS)
        filled = MARKERS[0] + "\n" + text + "\n" + MARKERS[1]
        page = re.sub(f"{start}.*{end}", lambda match: filled, page, flags=re.DOTALL)
        options.write.write_text(page, encoding="utf-8")


def _note(found, class_name, z, regions, grid, ivar) -> None:  # type: ignore[no-untyped-def]
    """Whether each decisive line that is observed lies in a strong region."""
    for name, (low, high) in DECISIVE[class_name].items():
        low, high = low * (1 + z), high * (1 + z)
        around = (grid.wavelength > low - 10) & (grid.wavelength < high + 10)
        if not around.any() or (ivar[around] > 0).mean() < 0.9:
            continue
        inside = any(region.low <= high and region.high >= low for region in regions)
        found.setdefault(f"{class_name}, {name}", []).append(inside)


def _with_error(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std() / np.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    main()
