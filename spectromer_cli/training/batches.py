"""Training batches: real spectra, evenly by class, and simulated ones.

A batch is a pure function of the seed and the step, so that a run that was interrupted goes
on exactly as it would have, whatever the number of worker processes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch  # noqa: TID253  (this module is imported only where torch is needed)
from torch.utils.data import Dataset  # noqa: TID253

from spectromer_cli.model import tasks
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import augment
from spectromer_cli.training.dataset import LabelledSpectra, on_model_grid
from spectromer_cli.training.simulate import Simulator

Batch = dict[str, torch.Tensor]


class Batches(Dataset):
    """Item `step` is the batch of that step.

    Parameters
    ----------
    real : LabelledSpectra
        The training split; only spectra with a class are drawn.
    templates : Path
        Templates of the simulator.
    grid : Grid
        The model's.
    batch_size, steps : int
        Spectra a batch, and how many batches.
    simulated_share : float
        Share of each batch that is simulated.
    seed : int
    """

    def __init__(
        self,
        real: LabelledSpectra,
        templates: Path,
        grid: Grid,
        *,
        batch_size: int,
        steps: int,
        simulated_share: float,
        seed: int,
    ) -> None:
        self.real = real.take(real.class_ >= 0)
        self.flux, self.ivar = on_model_grid(self.real, grid)
        self.grid = grid
        self.steps = steps
        self.seed = seed
        self.n_simulated = round(batch_size * simulated_share)
        self.n_real = batch_size - self.n_simulated
        self.weights = _balance(self.real)
        donors = self.ivar[self.real.has_ivar]
        self.simulator = Simulator(templates, grid, donors if len(donors) else None)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        simulated = self.simulator.draw(rng, self.n_simulated)
        picked = rng.choice(len(self.real), size=self.n_real, p=self.weights)
        star = tasks.CLASSES.index("STAR")
        real = [
            augment.real(
                rng,
                self.flux[i],
                self.ivar[i],
                float(self.real.z[i]),
                self.real.class_[i] == star,
                self.grid,
            )
            for i in picked
        ]
        flux = np.stack([*(flux for flux, _, _ in real), *simulated.flux])
        ivar = np.stack([*(ivar for _, ivar, _ in real), *simulated.ivar])
        # What is simulated has no further labels: templates follow other scales of types.
        none = np.full(self.n_simulated, np.nan)
        further = {
            name: torch.from_numpy(np.concatenate([values[picked], none]).astype(np.float32))
            for name, values in self.real.labels.items()
        }
        return {
            **further,
            "flux": torch.from_numpy(flux.astype(np.float32)),
            "ivar": torch.from_numpy(np.minimum(ivar, 1e8).astype(np.float32)),
            "class": torch.from_numpy(np.concatenate([self.real.class_[picked], simulated.class_])),
            "subclass": torch.from_numpy(
                np.concatenate([self.real.subclass[picked], simulated.subclass])
            ),
            "z": torch.from_numpy(
                np.concatenate([[z for _, _, z in real], simulated.z]).astype(np.float32)
            ),
        }


def _balance(real: LabelledSpectra) -> np.ndarray:
    """Chance of each spectrum: classes evenly, survey and type by the root of their number."""
    kinds = list(zip(real.class_, real.survey, real.subclass, strict=True))
    count = Counter(kinds)
    weight = np.array([count[kind] ** -0.5 for kind in kinds])
    for class_ in np.unique(real.class_):
        weight[real.class_ == class_] /= weight[real.class_ == class_].sum()
    return weight / weight.sum()
