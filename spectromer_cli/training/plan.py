"""How a fine-tuning goes about its data: mode, split, passes, rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spectromer_cli.model.config import ModelConfig
from spectromer_cli.training import lora, split
from spectromer_cli.training.owndata import OwnSpectra
from spectromer_cli.training.schedule import Schedule
from spectromer_cli.training.targets import Target

# Below so many objects, figures come from folds, and only a few parameters learn.
FEW_OBJECTS = 500
FOLDS = 5


@dataclass(frozen=True)
class Settings:
    """What decides a fine-tuning.

    Parameters
    ----------
    mode : str
        "head", "lora", "full", or "auto": "lora" for fewer objects than `FEW_OBJECTS`, else
        "full".
    epochs : int or None
        Passes over the training split; None by its size.
    max_minutes : float
        The schedule ends after this time if that comes before; 0 for no limit.
    batch_size : int
    learning_rate : float or None
        Of the head; None as the mode asks.
    held_out : float
        Share of the objects for validation, and again for the test.
    seed : int
    compile : bool
        Compile the network with `torch.compile`.
    """

    mode: str = "auto"
    epochs: int | None = None
    max_minutes: float = 0.0
    batch_size: int = 64
    learning_rate: float | None = None
    held_out: float = 0.15
    seed: int = 1
    compile: bool = False


@dataclass(frozen=True)
class Origin:
    """What a fine-tuning starts from.

    Parameters
    ----------
    config : ModelConfig
        Backbone, image, tokens and grid; its tasks are replaced.
    weights : Path or None
        See `training.initialise.start`.
    said : str
        For people and the card.
    templates : dict of str to Tensor
        Templates for redshifts that are kept where classes and redshift are kept.
    """

    config: ModelConfig
    weights: Path | None
    said: str
    templates: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """How the data are used.

    Parameters
    ----------
    mode : str
    part : array of int, shape (n,)
        Without folds: TRAIN, VALIDATION or TEST of `training.split`; with folds: the fold.
    folds : int
        0 for none.
    epochs : int
    rate : float
    batch_size : int
    minutes : float
        For one fit; 0 for no limit.
    seed : int
    said : str
        For people.
    """

    mode: str
    part: np.ndarray
    folds: int
    epochs: int
    rate: float
    batch_size: int
    minutes: float
    seed: int
    said: str

    def schedule(self, rows: np.ndarray) -> Schedule:
        """The schedule for a training split."""
        batch_size = min(self.batch_size, max(len(rows), 2))
        steps = math.ceil(len(rows) / batch_size) * self.epochs
        return Schedule(steps, batch_size, self.rate, self.minutes, self.seed)


def make_plan(data: OwnSpectra, targets: list[Target], settings: Settings) -> Plan:
    """Decide how the data are used.

    Parameters
    ----------
    data : OwnSpectra
    targets : list of Target
    settings : Settings

    Returns
    -------
    Plan
        With folds for fewer than `FEW_OBJECTS` objects, else with three parts.
    """
    objects = len(np.unique(data.group))
    category = next((target for target in targets if target.labels), None)
    stratum = category.values if category else np.zeros(len(data), dtype=int)
    place = split.positions(data.group, stratum, settings.seed)
    few = objects < FEW_OBJECTS
    mode = settings.mode if settings.mode != "auto" else "lora" if few else "full"
    # As many passes as bring a small set a few hundred steps, and a large one a few passes.
    epochs = settings.epochs or int(np.clip(60 * math.sqrt(300 / len(data)), 3, 60))
    folds = min(FOLDS, _smallest_class(data, category)) if few else 0
    if few:
        part = split.folds(place, folds)
        said = f"{objects} objects: {folds} folds for the figures, then all of them"
    else:
        part = split.three_parts(place, settings.held_out)
        count = [int((part == i).sum()) for i in range(3)]
        said = f"{count[0]} spectra to learn from, {count[1]} to stop by, {count[2]} to judge by"
    said += f"; mode {mode}, {epochs} passes"
    if category:
        said += f"; rare labels of {category.name} are drawn more often, by the root of the count"
    return Plan(
        mode,
        part,
        folds,
        epochs,
        settings.learning_rate or lora.RATES[mode],
        settings.batch_size,
        settings.max_minutes / (folds + 1),
        settings.seed,
        said,
    )


def _smallest_class(data: OwnSpectra, category: Target | None) -> int:
    """How many objects the rarest class has; all of them where there are no classes."""
    if category is None:
        return len(np.unique(data.group))
    known = category.values >= 0
    pairs = np.unique(np.stack([category.values[known], data.group[known]]), axis=1)
    return int(np.unique(pairs[0], return_counts=True)[1].min())
