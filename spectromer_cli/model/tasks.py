"""What the model is asked: each task has its outputs, its loss and its way to an answer.

A new quantity is a new task class here, named in `KINDS`. A spectrum without a label for a
task adds nothing to that task's loss.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch

CLASSES = ("STAR", "GALAXY", "QSO")
STAR_TYPES = ("O", "B", "A", "F", "G", "K", "M", "L", "WD", "CV", "Carbon")
GALAXY_TYPES = ("PASSIVE", "STARFORMING", "STARBURST", "AGN", "BROADLINE")
# The class that each subclass belongs to, in the order of the model's outputs.
SUBCLASSES = {
    **{f"STAR {name}": "STAR" for name in STAR_TYPES},
    **{f"GALAXY {name}": "GALAXY" for name in GALAXY_TYPES},
}


@dataclass(frozen=True)
class Category:
    """One of several labels, answered by probabilities.

    Parameters
    ----------
    name : str
        Name of the task and of its label column.
    labels : tuple of str
        The labels, in the order of the outputs.
    weight : float
        Weight of its loss.
    """

    name: str
    labels: tuple[str, ...]
    weight: float = 1.0
    kind: ClassVar[str] = "category"

    @property
    def size(self) -> int:
        """Number of outputs."""
        return len(self.labels)

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy; `target` holds label numbers, −1 where there is none."""
        from torch.nn.functional import cross_entropy

        # Zero, not NaN, for a batch without any label.
        total = cross_entropy(logits, target, ignore_index=-1, reduction="sum")
        return total / (target >= 0).sum().clamp_min(1)


@dataclass(frozen=True)
class Redshift:
    """The redshift, answered by a distribution over x = ln(1 + z).

    Parameters
    ----------
    name : str
        Name of the task and of its label column.
    bins : int
        Number of bins.
    x0, dx : float
        Centre of the first bin and width of a bin in ln(1 + z).
    weight : float
        Weight of its loss.
    """

    name: str = "z"
    bins: int = 1000
    x0: float = -0.01
    dx: float = 0.00196
    weight: float = 1.0
    kind: ClassVar[str] = "redshift"

    # Labels are spread over neighbouring bins, so that the position within a bin is learnt.
    SPREAD: ClassVar[float] = 0.75

    @property
    def size(self) -> int:
        """Number of outputs."""
        return self.bins

    @property
    def x(self) -> np.ndarray:
        """Bin centres in ln(1 + z), shape (bins,)."""
        return self.x0 + self.dx * np.arange(self.bins)

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy against a narrow Gaussian at the true z; NaN targets have no loss."""
        import torch

        x = (torch.log1p(target) - self.x0) / self.dx
        known = torch.isfinite(x) & (x > 0) & (x < self.bins - 1)
        x = torch.where(known, x, torch.zeros_like(x))
        bins = torch.arange(self.bins, device=logits.device, dtype=x.dtype)
        soft = torch.softmax(-0.5 * ((bins - x[:, None]) / self.SPREAD) ** 2, dim=1)
        each = -(soft * torch.log_softmax(logits, dim=1)).sum(dim=1)
        return (each * known).sum() / known.sum().clamp_min(1)


Task = Category | Redshift
KINDS: dict[str, type[Category] | type[Redshift]] = {"category": Category, "redshift": Redshift}


def default_tasks() -> list[Task]:
    """The tasks of the general model: class, subclass, z."""
    return [
        Category("class", CLASSES),
        Category("subclass", tuple(SUBCLASSES), weight=0.3),
        Redshift(),
    ]


def to_dict(task: Task) -> dict[str, Any]:
    """A task as plain data, for the weights' header."""
    return {"kind": task.kind, **asdict(task)}


def from_dict(data: dict[str, Any]) -> Task:
    """The task that `to_dict` described."""
    data = dict(data)
    kind = KINDS[data.pop("kind")]
    if "labels" in data:
        data["labels"] = tuple(data["labels"])
    return kind(**data)


@dataclass
class RedshiftAnswer:
    """What p(z) says, for a batch; arrays of shape (batch,) and (batch, alternatives).

    Parameters
    ----------
    z, z_err : array
        The best redshift and its 1-σ error from the width of its peak.
    z_prob : array
        Probability that \\|Δz\\|/(1+z) is below 0.01, from p(z).
    alt_z, alt_prob : array, shape (batch, 2)
        The next best peaks and their probabilities; NaN where p(z) has no other peak.
    at_edge : bool array
        The best peak touches the end of the range that was searched.
    """

    z: np.ndarray
    z_err: np.ndarray
    z_prob: np.ndarray
    alt_z: np.ndarray
    alt_prob: np.ndarray
    at_edge: np.ndarray


# Half-width of a peak in ln(1 + z), which is |Δz|/(1+z): the field's usual outlier limit.
PEAK_HALF_WIDTH = 0.01
# Stars keep to ± 1200 km/s, beyond the escape velocity of the Galaxy.
STAR_MAX_X = 0.004
# A second peak below this probability is not worth a column.
MIN_ALTERNATIVE = 1e-3


def decode_redshift(task: Redshift, p: np.ndarray, is_star: np.ndarray) -> RedshiftAnswer:
    """Read redshifts off p(z).

    Parameters
    ----------
    task : Redshift
        Gives the bins.
    p : array, shape (batch, bins)
        Probabilities that sum to one.
    is_star : bool array, shape (batch,)
        Where the class is STAR, only radial velocities of the Galaxy are searched.

    Returns
    -------
    RedshiftAnswer
    """
    n = len(p)
    x = task.x
    half = max(1, math.ceil(PEAK_HALF_WIDTH / task.dx))
    answer = RedshiftAnswer(
        z=np.full(n, np.nan),
        z_err=np.full(n, np.nan),
        z_prob=np.full(n, np.nan),
        alt_z=np.full((n, 2), np.nan),
        alt_prob=np.full((n, 2), np.nan),
        at_edge=np.zeros(n, dtype=bool),
    )
    star_bins = np.abs(x) <= STAR_MAX_X + 0.5 * task.dx
    for i in range(n):
        left = p[i] * star_bins if is_star[i] else p[i].copy()
        if not left.any():
            left = star_bins * 1e-12  # a star that p(z) holds for impossible: no preference
        first, last = np.flatnonzero(star_bins)[[0, -1]] if is_star[i] else (0, task.bins - 1)
        for rank in range(3):
            # The peak is where the window holds most, so that two half bins beat one spike.
            window = np.convolve(left, np.ones(2 * half + 1), mode="same")
            inside = np.where(left > 0, window, 0.0)
            # Of equally full windows, the one centred on the highest bin.
            centre = int(np.argmax(inside + 1e-3 * left))
            start, stop = max(0, centre - half), min(task.bins, centre + half + 1)
            mass = left[start:stop]
            probability = float(mass.sum())
            if rank > 0 and probability < MIN_ALTERNATIVE:
                break
            mean = float(np.sum(mass * x[start:stop]) / probability)
            if rank == 0:
                variance = float(np.sum(mass * (x[start:stop] - mean) ** 2) / probability)
                # The labels' own spread is no error; a fifth of a bin is the least one.
                variance = max(variance - (task.SPREAD * task.dx) ** 2, (0.2 * task.dx) ** 2)
                answer.z[i] = math.expm1(mean)
                answer.z_prob[i] = min(probability, 1.0)
                answer.z_err[i] = math.sqrt(variance) * math.exp(mean)
                margin = 0 if is_star[i] else 1
                answer.at_edge[i] = not first + margin < centre < last - margin
                if is_star[i]:
                    break
            else:
                answer.alt_z[i, rank - 1] = math.expm1(mean)
                answer.alt_prob[i, rank - 1] = probability
            left[start:stop] = 0.0
    return answer


_STAR_TYPE = re.compile(r"^(?:e?sd|usd|d|g)?([OBAFGKML])(?:[\d.VI/+:]|$)")


def star_type(label: str) -> str | None:
    """The spectral type in a survey's label.

    Parameters
    ----------
    label : str
        As SDSS, LAMOST, MILES or STELIB write it: "K0III", "F3/F5V (30743)", "WDhotter",
        "sdM2", "Carbon_lines".

    Returns
    -------
    str or None
        One of `STAR_TYPES`; None if the label says nothing clear.
    """
    label = label.strip()
    for word, name in (("WD", "WD"), ("Carbon", "Carbon"), ("CV", "CV")):
        if word in label:
            return name
    match = _STAR_TYPE.match(label)
    return match.group(1) if match else None


def subclass_label(class_name: str, subclass: str, lines_classified: bool) -> str | None:
    """The label of the subclass task for a survey's class and subclass.

    Parameters
    ----------
    class_name, subclass : str
        The survey pipeline's.
    lines_classified : bool
        Whether the survey classifies galaxies by their lines, so that an empty subclass
        means that it found none (SDSS, BOSS, eBOSS).

    Returns
    -------
    str or None
        A key of `SUBCLASSES`; None if there is no clear one.
    """
    if class_name == "STAR":
        name = star_type(subclass)
        return f"STAR {name}" if name else None
    if class_name == "GALAXY":
        for name in ("AGN", "STARBURST", "STARFORMING", "BROADLINE"):
            if name in subclass:
                return f"GALAXY {name}"
        if not subclass and lines_classified:
            return "GALAXY PASSIVE"
    return None
