"""Training batches: real spectra, evenly by class, and simulated ones.

A batch is a pure function of the seed and the step, so that a run that was interrupted goes
on exactly as it would have, whatever the number of worker processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from spectromer_cli.model import taxonomy
from spectromer_cli.simulation.simulator import SAME_INSTRUMENT, Donors, Simulator
from spectromer_cli.simulation.survey_effects import SURVEYS
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import augment
from spectromer_cli.training.dataset import LabelledSpectra, on_model_grid

Batch = dict[str, torch.Tensor]

# Of the real spectra of a batch: stars have the most to be learned, their types and parameters;
# quasars are few, and are learned by heart where they come too often.
CLASS_SHARES = {"STAR": 0.45, "GALAXY": 0.3, "QSO": 0.25}


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
        known = self.real.has_ivar & np.isin(self.real.survey, [*SURVEYS, *SAME_INSTRUMENT])
        donors = Donors(self.ivar[known], self.real.survey[known]) if known.any() else None
        self.simulator = Simulator(Library(templates, grid), grid, donors)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        simulated = self.simulator.draw(rng, self.n_simulated)
        picked = rng.choice(len(self.real), size=self.n_real, p=self.weights)
        star = taxonomy.CLASSES.index("STAR")
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
    """Chance of each spectrum.

    Within a class, survey and type count by the root of the number of their objects, and all
    spectra of an object share what one would have: one quasar may be there eighty times.
    """
    kinds = list(zip(real.class_, real.survey, real.subclass, strict=True))
    of_object = Counter(real.group)
    weight = np.array([1.0 / of_object[group] for group in real.group])
    objects: dict[tuple[int, str, int], float] = defaultdict(float)
    for kind, share in zip(kinds, weight, strict=True):
        objects[kind] += share
    weight *= [objects[kind] ** -0.5 for kind in kinds]
    for number, name in enumerate(taxonomy.CLASSES):
        own = real.class_ == number
        if own.any():
            weight[own] *= CLASS_SHARES[name] / weight[own].sum()
    return weight / weight.sum()
