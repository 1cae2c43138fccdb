"""Where the time goes from file to row, and what the whole way is against the ViT alone.

Usage: python benchmarks/inference.py [-n 1500] [--rounds 3] [--model NAME] [--write PAGE.md]
           [KIND=PATTERN ...]

Reads simulated spectra from files of several kinds, written for it, and those that are named
(such as ``lite='/data/spec-*.fits'``), and predicts classes alone and redshifts too, by the command
line; the time of one spectrum, which is that of starting up, is taken off. Speeds are in units of
the ViT's own in one process and single precision, and of the fp32 matrix rate that is measured
beside it.
"""

from __future__ import annotations

import statistics
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from page import PROGRAM, Clock, flops_of, lines_of, matrix_rate, parser, put, seconds
from samples import FILES, simulated, write_files, write_parquet

import spectromer_cli
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.model.device import BATCH_SIZE
from spectromer_cli.spectra.loading import Item, load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import expand

# Spectra of which the shares are measured.
SHARED = 256


def items_of(names: list[str], model: Spectromer) -> list[Item]:
    """All spectra of files, on the grid."""
    return list(load_all(expand(names), ReadOptions(), grid=model.grid))


def batches(items: list[Item]) -> list[list[Item]]:
    """As the program makes them."""
    return [items[i : i + BATCH_SIZE] for i in range(0, len(items), BATCH_SIZE)]


def vit(model: Spectromer, items: list[Item]) -> None:
    """The ViT and the image before it, in batches of 64, as everybody would call it."""
    for start in range(0, len(items), 64):
        some = items[start : start + 64]
        prepared = [item.prepared for item in some if item.prepared is not None]
        flux = torch.from_numpy(np.stack([p.flux for p in prepared]))
        ivar = torch.from_numpy(np.stack([p.ivar for p in prepared]))
        with torch.inference_mode():
            model.network.seen(flux, ivar)


def whole(
    names: dict[str, list[str]], counts: dict[str, int], model: Spectromer, items: list[Item],
    precisions: list[str], options: list[str], rounds: int,
) -> list[str]:  # fmt: skip
    """From files to rows, by kind of file, command and precision."""
    rate = matrix_rate()
    spent: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for command in ("classify", "redshift"):
            for precision in precisions:
                words = [*PROGRAM, command, "--device", "cpu", "--precision", precision, *options,
                         "-qq"]  # fmt: skip
                begin = seconds([*words, names[next(iter(names))][0]])
                for kind, own in names.items():
                    whole = seconds([*words, *own])
                    each = tuple((b - a) / counts[kind] for a, b in zip(begin, whole, strict=True))
                    spent.setdefault((kind, command, precision), []).append(each)  # type: ignore[arg-type]
    took = Clock({"ViT": lambda: vit(model, items)}, rounds)
    rate = max(rate, matrix_rate())
    width, depth = model.network.backbone.num_features, len(model.network.backbone.blocks)
    flops = flops_of(width, depth, model.config.tokens**2 + 1)
    unit = took.wall["ViT"] / len(items)
    middle = {key: [statistics.median(v) for v in zip(*values, strict=True)]
              for key, values in spent.items()}  # fmt: skip
    middle = {("ViT alone", "", "fp32"): [unit, took.cpu["ViT"] / len(items)], **middle}
    rows = [
        [*key, f"{1.0 / wall:.1f}", f"{unit / wall:.2f}", f"{flops / wall / rate:.2f}",
         f"{cpu * 1e3:.1f}"]
        for key, (wall, cpu) in middle.items()
    ]  # fmt: skip
    head = ["from", "command", "precision", "spectra/s", "of the ViT", "of the matrix rate",
            "CPU-ms per spectrum"]  # fmt: skip
    return [
        f"The ViT is {flops / 1e9:.2f} GFLOP per spectrum; matrices were multiplied at "
        f"{rate / 1e9:.0f} GFLOP/s in single precision. {max(counts.values())} spectra.",
        "",
        *lines_of(head, rows),
    ]


def shares(names: dict[str, list[str]], items: dict[str, list[Item]], model: Spectromer,
           rounds: int) -> list[str]:  # fmt: skip
    """CPU time of the stages, by kind of file."""
    rows = []
    for kind, own in items.items():
        works = {
            "reading": lambda kind=kind, n=len(own): list(
                islice(load_all(expand(names[kind]), ReadOptions(), grid=model.grid), n)
            ),
            "ViT": lambda own=own: vit(model, own),
            "outputs": lambda own=own: [
                model.outputs([item.prepared for item in some if item.prepared is not None])
                for some in batches(own)
            ],
            "classes": lambda own=own: [model.table(some, refined=False) for some in batches(own)],
            "redshifts": lambda own=own: [model.table(some) for some in batches(own)],
        }
        took = Clock(works, rounds).cpu
        stages = {
            "reading, grid": took["reading"],
            "image, ViT": took["ViT"],
            "probabilities, novelty": took["outputs"] - took["ViT"],
            "template fit": took["redshifts"] - took["classes"],
            "decoding, rows": took["classes"] - took["outputs"],
        }
        total = sum(stages.values())
        rows.append(
            [kind, *(f"{100.0 * max(value, 0.0) / total:.0f} %" for value in stages.values())]
        )
    return lines_of(["from", *stages], rows)


def main() -> None:
    """Measure."""
    options = parser(__doc__)
    options.add_argument("named", nargs="*", metavar="KIND=PATTERN")
    options.add_argument("-n", type=int, default=1500)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--model")
    chosen = options.parse_args()
    model = spectromer_cli.load_model(chosen.model, "cpu", "fp32")
    auto = spectromer_cli.load_model(chosen.model, "cpu")
    grid = model.grid
    drawn = simulated(model, chosen.n)
    with tempfile.TemporaryDirectory() as folder:
        names = {
            kind: write_files(Path(folder) / str(number), kind, drawn, grid.loglam)
            for number, kind in enumerate(FILES)
        }
        path = Path(folder) / "spectra.parquet"
        write_parquet(path, drawn, grid.wavelength, chosen.n)
        names["Parquet"] = [str(path)]
        counts = dict.fromkeys(names, chosen.n)
        for word in chosen.named:
            kind, _, pattern = word.partition("=")
            names[kind] = [str(found.path) for found in expand([pattern])]
            counts[kind] = len(items_of(names[kind], model))
        first = {kind: items_of(own, model)[:SHARED] for kind, own in names.items()}
        kept = ["--model", chosen.model] if chosen.model else []
        precisions = sorted({"fp32", auto.precision})
        some = next(iter(first.values()))
        table = whole(names, counts, model, some, precisions, kept, chosen.rounds)
        parts = shares(names, first, auto, chosen.rounds)
    put(
        chosen.write,
        "inference",
        [*table, "", f"Shares of the CPU time, with redshifts, in {auto.precision}:", "", *parts],
    )


if __name__ == "__main__":
    main()
