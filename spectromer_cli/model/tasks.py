"""What the model predicts: each task has its outputs, its loss and its way to a prediction.

A new quantity is a new task class here, named in `KINDS`. A spectrum without a label for a
task adds nothing to that task's loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spectromer_cli.model.taxonomy import CLASSES, SEQUENCE, SUBCLASSES

if TYPE_CHECKING:
    import torch


class _Probabilities:
    """What tasks share whose outputs are probabilities of labels or bins."""

    def temper(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logits made less sure, for a temperature above one."""
        return logits / temperature

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities, shape (batch, size)."""
        return logits.softmax(dim=1)

    def imitation(self, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Cross-entropy against the probabilities of a teacher's logits, which it is least at."""
        own = logits.log_softmax(dim=1)
        return -(teacher.softmax(dim=1) * own).sum(dim=1).mean()


@dataclass(frozen=True)
class Category(_Probabilities):
    """One of several labels, predicted as probabilities.

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

    def known(self, target: torch.Tensor) -> torch.Tensor:
        """Which targets are known."""
        return target >= 0

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy; `target` holds label numbers, −1 where there is none."""
        from torch.nn.functional import cross_entropy

        # Zero, not NaN, for a batch without any label.
        total = cross_entropy(logits, target, ignore_index=-1, reduction="sum")
        return total / (target >= 0).sum().clamp_min(1)


@dataclass(frozen=True)
class Ordered(_Probabilities):
    """A place in an ordered sequence of labels, predicted as probabilities.

    Parameters
    ----------
    name : str
        Name of the task and of its label column.
    labels : tuple of str
        The labels in their order. A target is a place among them, 0 to len(labels) − 1,
        fractions allowed; NaN unknown.
    weight : float
        Weight of its loss.
    """

    name: str
    labels: tuple[str, ...]
    weight: float = 1.0
    kind: ClassVar[str] = "ordered"

    # A survey's types are good to about one; neighbours share a label's probability.
    SPREAD: ClassVar[float] = 0.75

    @property
    def size(self) -> int:
        """Number of outputs."""
        return len(self.labels)

    def known(self, target: torch.Tensor) -> torch.Tensor:
        """Which targets are known."""
        return _within(target, self.size)

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy against a narrow Gaussian at the true place; NaN has no loss."""
        return _cross_entropy_at(logits, target, self.SPREAD)


@dataclass(frozen=True)
class Quantity:
    """A number, predicted with its error.

    Parameters
    ----------
    name : str
        Name of the task and of its label column.
    centre, scale : float
        The training split's median and robust width; the model works on
        (value − centre) / scale.
    log : bool
        The value is a logarithm to base 10 inside the model.
    weight : float
        Weight of its loss.
    """

    name: str
    centre: float = 0.0
    scale: float = 1.0
    log: bool = False
    weight: float = 1.0
    kind: ClassVar[str] = "quantity"

    # Student's t with few degrees of freedom: a wrong label pulls little.
    FREEDOM: ClassVar[float] = 5.0

    @property
    def size(self) -> int:
        """Number of outputs: the value and the logarithm of its error."""
        return 2

    def known(self, target: torch.Tensor) -> torch.Tensor:
        """Which targets are known."""
        return (target.log10() if self.log else target).isfinite()

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of Student's t; NaN targets have no loss."""
        import torch

        value = target.log10() if self.log else target
        known = self.known(target)
        y = torch.where(known, (value - self.centre) / self.scale, torch.zeros_like(value))
        log_error = logits[:, 1].clamp(-6.0, 4.0)
        pull = (y - logits[:, 0]) / log_error.exp()
        each = log_error + 0.5 * (self.FREEDOM + 1.0) * torch.log1p(pull**2 / self.FREEDOM)
        return (each * known).sum() / known.sum().clamp_min(1)

    def temper(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Errors multiplied by the temperature."""
        import torch

        return torch.stack([logits[:, 0], logits[:, 1] + math.log(temperature)], dim=1)

    def imitation(self, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Mean squared difference from a teacher's logits."""
        return (logits - teacher).square().mean()

    def restandardised(self, logits: torch.Tensor, other: Quantity) -> torch.Tensor:
        """The logits with which `other`, of another centre and scale, gives the same prediction."""
        import torch

        value = (self.centre + self.scale * logits[:, 0] - other.centre) / other.scale
        return torch.stack([value, logits[:, 1] + math.log(self.scale / other.scale)], dim=1)

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """The value and its 1-σ error in the label's unit, shape (batch, 2)."""
        import torch

        value = self.centre + self.scale * logits[:, 0]
        error = self.scale * logits[:, 1].clamp(-6.0, 4.0).exp()
        if self.log:
            value = 10.0**value
            error = value * math.log(10.0) * error
        return torch.stack([value, error], dim=1)


@dataclass(frozen=True)
class Redshift(_Probabilities):
    """The redshift, predicted as a distribution over x = ln(1 + z).

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
    bins: int = 1080
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

    def known(self, target: torch.Tensor) -> torch.Tensor:
        """Which targets are known, and within the bins."""
        return _within((target.log1p() - self.x0) / self.dx, self.size)

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy against a narrow Gaussian at the true z; NaN targets have no loss."""
        return _cross_entropy_at(logits, (target.log1p() - self.x0) / self.dx, self.SPREAD)


def _cross_entropy_at(logits: torch.Tensor, place: torch.Tensor, spread: float) -> torch.Tensor:
    """Cross-entropy against Gaussians of σ `spread` at places along the outputs, NaN left out."""
    import torch

    size = logits.shape[1]
    known = _within(place, size)
    place = torch.where(known, place, torch.zeros_like(place))
    bins = torch.arange(size, device=logits.device, dtype=place.dtype)
    soft = torch.softmax(-0.5 * ((bins - place[:, None]) / spread) ** 2, dim=1)
    each = -(soft * torch.log_softmax(logits, dim=1)).sum(dim=1)
    return (each * known).sum() / known.sum().clamp_min(1)


def _within(place: torch.Tensor, size: int) -> torch.Tensor:
    """Which places lie among the outputs."""
    return place.isfinite() & (place > -0.5) & (place < size - 0.5)


Task = Category | Ordered | Quantity | Redshift
KINDS: dict[str, type[Task]] = {kind.kind: kind for kind in (Category, Ordered, Quantity, Redshift)}


def default_tasks() -> list[Task]:
    """The tasks of the general model: class, subclass, what describes a star, z.

    The centre and scale of the stars' quantities are those of the A to K dwarfs and giants
    that surveys mostly see.
    """
    return [
        Category("class", CLASSES),
        Category("subclass", tuple(SUBCLASSES), weight=0.6),
        Ordered("star_type", SEQUENCE, weight=0.5),
        Quantity("teff", centre=3.78, scale=0.08, log=True, weight=0.1),
        Quantity("logg", centre=4.1, scale=0.5, weight=0.1),
        Quantity("feh", centre=-0.2, scale=0.3, weight=0.1),
        Redshift(),
    ]


def calibrated(
    known: Sequence[Task], logits: Mapping[str, torch.Tensor], temperatures: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """What each task predicts, given its temperature (1 where there is none).

    Parameters
    ----------
    known : sequence of Task
    logits : mapping of str to Tensor, shapes (n, task.size)
    temperatures : mapping of str to float

    Returns
    -------
    dict of str to array, shape (n, task.size)
        By task: probabilities; of a quantity, value and 1-σ error, shape (n, 2).
    """
    found = {}
    for task in known:
        tempered = task.temper(logits[task.name], temperatures.get(task.name, 1.0))
        found[task.name] = task.prediction(tempered).double().cpu().numpy()
    return found


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
