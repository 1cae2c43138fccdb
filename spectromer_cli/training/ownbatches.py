"""Batches of a user's own spectra, changed in ways that keep the labels true."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from spectromer_cli.model import taxonomy
from spectromer_cli.training import augment
from spectromer_cli.training.loop import Batch
from spectromer_cli.training.owndata import OwnSpectra
from spectromer_cli.training.targets import Target


class OwnBatches(Dataset):
    """Item `step` is the batch of that step: a pure function of the seed and the step.

    Parameters
    ----------
    data : OwnSpectra
    targets : list of Target
    rows : array of int
        The training split.
    batch_size, steps : int
    seed : int
    """

    def __init__(
        self,
        data: OwnSpectra,
        targets: list[Target],
        rows: np.ndarray,
        *,
        batch_size: int,
        steps: int,
        seed: int,
    ) -> None:
        self.data = data
        self.targets = targets
        self.rows = rows
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.weights = balance(targets, rows)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        picked = self.rows[self._choose(rng)]
        z = next((t.values for t in self.targets if t.name == "z"), np.full(len(self.data), np.nan))
        star = self._stars()
        changed = [
            augment.real(
                rng,
                self.data.flux[i].astype(np.float32),
                self.data.ivar[i],
                float(z[i]),
                # What has no redshift to be changed along may only move a little.
                bool(star[i]) or not np.isfinite(z[i]),
                self.data.grid,
            )
            for i in picked
        ]
        batch = {
            "flux": torch.from_numpy(np.stack([flux for flux, _, _ in changed]).astype("f4")),
            "ivar": torch.from_numpy(
                np.minimum(np.stack([ivar for _, ivar, _ in changed]), 1e8).astype("f4")
            ),
        }
        for target in self.targets:
            if target.name == "z":
                values = np.array([moved for _, _, moved in changed])
            else:
                values = target.values[picked]
            batch[target.name] = torch.from_numpy(
                values if target.labels else values.astype(np.float32)
            )
        return batch

    def picked(self, step: int) -> np.ndarray:
        """Which of `rows` the batch of a step holds: indices, shape (batch_size,)."""
        return self._choose(np.random.default_rng([self.seed, step]))

    def _choose(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(len(self.rows), size=self.batch_size, p=self.weights)

    def _stars(self) -> np.ndarray:
        class_ = next((t for t in self.targets if t.name == "class"), None)
        if class_ is None or taxonomy.CLASSES[0] not in class_.labels:
            return np.zeros(len(self.data), dtype=bool)
        return class_.values == class_.labels.index(taxonomy.CLASSES[0])


def balance(targets: list[Target], rows: np.ndarray) -> np.ndarray:
    """Chance of each training spectrum: by the root of its class's number.

    Parameters
    ----------
    targets : list of Target
        The first category decides; without one, all are alike.
    rows : array of int, shape (n,)

    Returns
    -------
    array, shape (n,)
        Sums to one. A class a hundred times rarer is drawn ten times rarer.
    """
    category = next((target for target in targets if target.labels), None)
    if category is None:
        return np.full(len(rows), 1.0 / len(rows))
    own = category.values[rows]
    values, number, count = np.unique(own, return_inverse=True, return_counts=True)
    del values
    weight = count[number] ** -0.5
    return weight / weight.sum()
