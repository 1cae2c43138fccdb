"""Where the time goes from file to row, and what the ViT costs against reading alone.

Usage: python benchmarks/inference.py [--device cpu] FILES...

Prints spectra a second for reading and preparing, for the ViT alone, for the ViT and the template
fits, for these fits alone, and for the whole way, with each stage's share of the whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import spectromer_cli
from spectromer_cli.inference.run import predict_targets
from spectromer_cli.spectra.loading import Item, load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import expand


def rate(count: int, work: Callable[[], object]) -> float:
    """Things a second, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return count / best


def main() -> None:
    """Measure the stages on the same spectra."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    model = spectromer_cli.load_model(device=arguments.device)
    targets = list(expand(arguments.files))
    options = ReadOptions()

    def read() -> list[Item]:
        return list(load_all(targets, options, grid=model.grid))

    items = [item for item in read() if item.prepared is not None]
    batch = [items[i] for i in np.arange(256) % len(items)]
    rates = {
        "read and prepare": rate(len(items), read),
        "ViT alone, batches of 256": rate(len(batch), lambda: model.table(batch, refined=False)),
        "with refined redshifts": rate(len(batch), lambda: model.table(batch)),
        "files to rows": rate(
            len(items), lambda: list(predict_targets(model, targets, options=options, workers=0))
        ),
    }
    both, vit = rates["with refined redshifts"], rates["ViT alone, batches of 256"]
    rates["refinement alone"] = 1.0 / (1.0 / both - 1.0 / vit)
    whole = rates["files to rows"]
    for name, value in rates.items():
        print(f"{name:26s} {value:8.1f} spectra/s   {whole / value:5.0%} of the time")


if __name__ == "__main__":
    main()
