"""Training batches: real spectra, balanced by class, and simulated ones beside them.

A batch is a pure function of the seed and the step, so that a run that was interrupted resumes
exactly as it would have gone on, whatever the number of worker processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from spectromer_cli.model import taxonomy
from spectromer_cli.simulation.simulator import Simulated, Simulator
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import augment
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.targets import Target

Batch = dict[str, torch.Tensor]


class Batches(Dataset):
    """Item `step` is the batch of that step.

    Parameters
    ----------
    data : LabelledSpectra
    targets : sequence of Target
        Of all of `data`.
    rows : array of int
        The training split; spectra without any label are not drawn.
    grid : Grid
        The model's.
    batch_size, steps : int
        Spectra per batch, and number of batches.
    seed : int
    shares : mapping of str to float, optional
        Share of each label of the first category; see `balance`.
    simulator : Simulator, optional
        Draws the simulated spectra.
    simulated_share : float
        Share of each batch that is simulated.
    elsewhere : float
        Share of the real spectra that are changed as other spectrographs would have taken them.
    """

    def __init__(
        self,
        data: LabelledSpectra,
        targets: Sequence[Target],
        rows: np.ndarray,
        grid: Grid,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        shares: Mapping[str, float] | None = None,
        simulator: Simulator | None = None,
        simulated_share: float = 0.0,
        elsewhere: float = 0.0,
    ) -> None:
        labelled = np.any([target.known for target in targets], axis=0)
        self.rows = rows[labelled[rows]]
        self.targets = list(targets)
        self.grid = grid
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.elsewhere = elsewhere
        self.simulator = simulator
        self.simulated = round(batch_size * simulated_share) if simulator else 0
        own = data.take(self.rows)
        self.group = own.group
        self.flux, self.ivar = own.on_grid(grid)
        self.weights = balance(own, self.targets, self.rows, shares)
        named = {target.name: target for target in targets}
        self.z = named["z"].values[self.rows] if "z" in named else np.full(len(own), np.nan)
        star = np.zeros(len(own), dtype=bool)
        if "class" in named and "STAR" in named["class"].labels:
            star = named["class"].values[self.rows] == named["class"].labels.index("STAR")
        # What has no redshift to be changed with it may only be shifted a little, as stars are.
        self.fixed = star | ~np.isfinite(self.z)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        picked = self._choose(rng)
        changed = [
            augment.real(
                rng,
                self.flux[i],
                self.ivar[i],
                float(self.z[i]),
                bool(self.fixed[i]),
                self.grid,
                self.elsewhere,
            )
            for i in picked
        ]
        z = np.array([moved for _, _, moved in changed])
        columns = {
            target.name: target.of_z(z) if target.of_z else target.values[self.rows[picked]]
            for target in self.targets
        }
        flux, ivar = [one for one, _, _ in changed], [one for _, one, _ in changed]
        if self.simulated:
            assert self.simulator is not None
            drawn = self.simulator.draw(rng, self.simulated)
            flux, ivar = [*flux, *drawn.flux], [*ivar, *drawn.ivar]
            columns = {
                target.name: np.concatenate([columns[target.name], _labels(drawn, target)])
                for target in self.targets
            }
        shape = (self.batch_size, self.grid.n)
        return {
            "flux": torch.from_numpy(np.array(flux, np.float32).reshape(shape)),
            "ivar": torch.from_numpy(np.minimum(np.array(ivar, np.float32).reshape(shape), 1e8)),
            **{
                target.name: torch.from_numpy(
                    columns[target.name].astype(np.int64 if target.labels else np.float32)
                )
                for target in self.targets
            },
        }

    def picked(self, step: int) -> np.ndarray:
        """Which real spectra the batch of a step holds: indices into `rows`."""
        return self._choose(np.random.default_rng([self.seed, step]))

    def _choose(self, rng: np.random.Generator) -> np.ndarray:
        count = self.batch_size - self.simulated
        return rng.choice(len(self.rows), size=count, p=self.weights)


def _labels(drawn: Simulated, target: Target) -> np.ndarray:
    """What is known of simulated spectra; unknown what they do not tell.

    Types and parameters of stars are not among it: templates follow other scales.
    """
    names = {
        "class": np.array([*taxonomy.CLASSES, ""])[drawn.class_],
        "subclass": np.array([*taxonomy.SUBCLASSES, ""])[drawn.subclass],
    }
    if target.of_z:
        return target.of_z(drawn.z)
    if not target.labels or target.name not in names:
        return np.full(len(drawn.z), -1 if target.labels else np.nan)
    number = {label: i for i, label in enumerate(target.labels)}
    return np.array([number.get(str(name), -1) for name in names[target.name]])


def balance(
    data: LabelledSpectra,
    targets: Sequence[Target],
    rows: np.ndarray,
    shares: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Chance of each training spectrum.

    All spectra of an object share the chance of one: a quasar may be there eighty times. Within
    a class, each survey and subclass counts by the root of the number of its objects.

    Parameters
    ----------
    data : LabelledSpectra
        The training spectra.
    targets : sequence of Target
        The first category is the class, the second the subclass.
    rows : array of int, shape (n,)
        Where `data` lie among the targets' values.
    shares : mapping of str to float, optional
        Share of each class; without it, classes count by the root of the number of their
        objects: one a hundred times rarer is drawn ten times more rarely.

    Returns
    -------
    array, shape (n,)
        Sums to one.
    """
    categories = [target for target in targets if target.labels][:2]
    numbers = [target.values[rows] for target in categories] or [np.zeros(len(rows), dtype=int)]
    _, survey = np.unique(data.survey, return_inverse=True)
    _, object_, count = np.unique(data.group, return_inverse=True, return_counts=True)
    weight = 1.0 / count[object_]
    classes = numbers[0]
    objects = np.bincount(classes + 1, weight)[classes + 1]
    _, kind = np.unique(np.stack([survey, *numbers]), axis=1, return_inverse=True)
    weight = weight * np.bincount(kind, weight)[kind] ** -0.5
    within = weight / np.bincount(classes + 1, weight)[classes + 1]
    if shares is not None and categories:
        share = np.array([*(shares.get(label, 0.0) for label in categories[0].labels), 0.0])
        chance = within * share[classes]
    else:
        chance = within * np.sqrt(objects)
    return chance / chance.sum()
