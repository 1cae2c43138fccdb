"""What the benchmarks of accuracy share: held-out spectra, batches, shares as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
from astropy.table import Table

from spectromer_cli.evaluation.held_out import hold_out
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.outputs.formats import stacked
from spectromer_cli.spectra.loading import Item
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import dataset, targets
from spectromer_cli.training.dataset import LabelledSpectra

BATCH = 64


def labelled(
    paths: Sequence[Path], model: Spectromer
) -> tuple[LabelledSpectra, dict[str, np.ndarray], np.ndarray]:
    """Labelled sets joined, their labels by task, and the rows that the weights have not seen."""
    sources = [dataset.find(path) for path in paths]
    data = reduce(
        LabelledSpectra.joined,
        [source.read(source.general(), model.grid, ReadOptions()) for source in sources],
    )
    learned = targets.general(data, model.tasks)
    testing = hold_out(data, learned, model.weights, None, None).testing
    return data, {target.name: target.shown for target in learned}, np.flatnonzero(testing)


def table_of(model: Spectromer, items: list[Item]) -> Table:
    """The table of items, predicted in batches."""
    return stacked([model.table(items[i : i + BATCH]) for i in range(0, len(items), BATCH)])


def share(which: np.ndarray) -> str:
    """The share that is true, as text; empty of none."""
    return f"{which.mean():.3f}" if len(which) else ""
