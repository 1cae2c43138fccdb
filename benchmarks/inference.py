"""Where the time goes from file to row, and what the whole way is against the ViT alone.

Usage: python benchmarks/inference.py [-n 192] [--rounds 3] [--model NAME] [--write PAGE.md]
           [KIND=PATTERN ...]

Reads simulated spectra from files of several kinds, written for it, and those that are named
(such as ``lite='/data/spec-*.fits'``), and predicts classes alone and redshifts too. Speeds are in
units of the ViT's own, and of the fp32 matrix rate that is measured beside it. Start-up is not in
them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from page import Clock, flops_of, lines_of, matrix_rate, parser, put
from samples import FILES, simulated, write_files, write_parquet

import spectromer_cli
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.inference.run import predict_targets
from spectromer_cli.spectra.loading import Item, load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import expand

BATCH = 64


def items_of(names: list[str], model: Spectromer) -> list[Item]:
    """All spectra of files, on the grid."""
    return list(load_all(expand(names), ReadOptions(), grid=model.grid))


def predicted(names: list[str], model: Spectromer, refined: bool) -> int:
    """From files to rows, in this process."""
    found = predict_targets(model, expand(names), options=ReadOptions(), refined=refined)
    return sum(len(table) for _, table in found)


def batches(items: list[Item]) -> list[list[Item]]:
    """As the program makes them."""
    return [items[i : i + BATCH] for i in range(0, len(items), BATCH)]


def vit(model: Spectromer, items: list[Item]) -> None:
    """The ViT and the image before it."""
    for some in batches(items):
        prepared = [item.prepared for item in some if item.prepared is not None]
        flux = torch.from_numpy(np.stack([p.flux for p in prepared]))
        ivar = torch.from_numpy(np.stack([p.ivar for p in prepared]))
        with torch.inference_mode():
            model.network.seen(flux, ivar)


def whole(
    names: dict[str, list[str]], model: Spectromer, rounds: int
) -> tuple[list[str], dict[str, list[Item]]]:
    """From files to rows, by kind of file."""
    items = {kind: items_of(names[kind], model) for kind in names}
    works: dict[tuple[str, str], Callable[[], object]] = {
        (kind, command): partial(predicted, names[kind], model, command == "redshift")
        for kind in names
        for command in ("classify", "redshift")
    }
    some = next(iter(items.values()))
    alone = ("ViT alone", "")
    rate = matrix_rate()
    took = Clock({alone: lambda: vit(model, some), **works}, rounds)  # type: ignore[arg-type]
    rate = max(rate, matrix_rate())
    width, depth = model.network.backbone.num_features, len(model.network.backbone.blocks)
    flops = flops_of(width, depth, model.config.tokens**2 + 1)
    counts = {**{kind: len(own) for kind, own in items.items()}, "ViT alone": len(some)}
    unit = took.wall[alone] / len(some)
    rows = []
    for kind, command in took.wall:
        each = took.wall[kind, command] / counts[kind]
        rows.append([
            kind, command, f"{1.0 / each:.1f}", f"{unit / each:.2f}",
            f"{flops / each / rate:.2f}",
            f"{took.cpu[kind, command] / counts[kind] * 1e3:.1f}",
        ])  # fmt: skip
    head = ["from", "command", "spectra/s", "of the ViT", "of the matrix rate",
            "CPU-ms per spectrum"]  # fmt: skip
    lines = [
        f"The ViT is {flops / 1e9:.2f} GFLOP per spectrum; matrices were multiplied at "
        f"{rate / 1e9:.0f} GFLOP/s.",
        "",
        *lines_of(head, rows),
    ]
    return lines, items


def shares(names: dict[str, list[str]], items: dict[str, list[Item]], model: Spectromer,
           rounds: int) -> list[str]:  # fmt: skip
    """CPU time of the stages, by kind of file."""
    rows = []
    for kind, own in items.items():
        works = {
            "reading": lambda kind=kind: items_of(names[kind], model),
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
    options.add_argument("-n", type=int, default=192)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--model")
    chosen = options.parse_args()
    model = spectromer_cli.load_model(chosen.model, "cpu")
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
        for word in chosen.named:
            kind, _, pattern = word.partition("=")
            names[kind] = [pattern]
        table, items = whole(names, model, chosen.rounds)
        parts = shares(names, items, model, chosen.rounds)
    put(
        chosen.write,
        "inference",
        [*table, "", "Shares of the CPU time, with redshifts:", "", *parts],
    )


if __name__ == "__main__":
    main()
