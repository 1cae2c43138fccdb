"""How long and how fast a fit learns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

# Share of the fit.
WARMUP = 0.05


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a fit learns.

    Parameters
    ----------
    steps, batch_size : int
    rate : float
        Highest learning rate.
    minutes : float
        0 for no limit.
    seed : int
    """

    steps: int
    batch_size: int
    rate: float
    minutes: float
    seed: int


class Scheduled(Protocol):
    """Something that knows the schedule for a training split."""

    def schedule(self, rows: np.ndarray) -> Schedule: ...  # noqa: D102


def rate(progress: float) -> float:
    """Learning rate relative to its maximum: linear warm-up, cosine to zero."""
    warm = min(1.0, (progress + 1e-3) / WARMUP)
    return warm * 0.5 * (1.0 + math.cos(math.pi * progress))
