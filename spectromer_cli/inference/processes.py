"""Many spectra on a CPU: processes that each read and predict, with the same model, on one core.

One process with threads on all cores takes nearly twice as long on two cores, and longer on more:
only the ViT has work for many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.errors import WeightsNotVerified
from spectromer_cli.model.decoding import Predictions
from spectromer_cli.paths import sha256_of

if TYPE_CHECKING:
    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.model.prior import Prior
    from spectromer_cli.spectra.loading import Item
    from spectromer_cli.weights.store import Weights


@dataclass(frozen=True)
class Predicting:
    """What a process does with the spectra that it has read (see `loading.load_all`).

    Parameters
    ----------
    weights : Weights
        Of the run.
    precision : {"fp32", "bf16"}
        Of the ViT's matrix products.
    threads : int
        That torch may use in each process.
    refined : bool
        Refine redshifts with templates.
    prior : Prior or None
        What is known of class and redshift.
    """

    weights: Weights
    precision: str
    threads: int
    refined: bool
    prior: Prior | None

    def __call__(self, items: Sequence[Item]) -> None:
        """Predict for items, each of which then refers to its prediction.

        Raises
        ------
        WeightsNotVerified
            If the file of the weights has changed since the run began.
        """
        found = self._model.predictions(items, self.refined, self.prior)
        for place, row in enumerate(found.rows):
            items[row].predicted = found, place

    @property
    def _model(self) -> Spectromer:
        """Loaded once in a process."""
        sha256 = self.weights.sha256
        if sha256 not in _models:
            import torch

            from spectromer_cli.inference.predictor import Spectromer
            from spectromer_cli.model.device import keep_freed_memory

            if sha256_of(self.weights.path) != sha256:
                raise WeightsNotVerified(f"{self.weights.path} changed while it was in use")
            torch.set_num_threads(self.threads)
            keep_freed_memory()
            _models[sha256] = Spectromer(self.weights, torch.device("cpu"), self.precision)
        return _models[sha256]


# Of this process, by the sha256 of the weights.
_models: dict[str, Spectromer] = {}


def predictions_of(items: Sequence[Item]) -> Predictions:
    """What other processes have predicted for items."""
    rows: list[int] = []
    parts: list[tuple[Predictions, list[int]]] = []
    for row, item in enumerate(items):
        if item.predicted is None:
            continue
        found, place = item.predicted
        if not parts or parts[-1][0] is not found:
            parts.append((found, []))
        parts[-1][1].append(place)
        rows.append(row)
    return Predictions.joined(np.array(rows, dtype=int), parts)
