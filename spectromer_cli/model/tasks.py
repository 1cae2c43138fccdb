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
    from collections.abc import Sequence

    import torch

CLASSES = ("STAR", "GALAXY", "QSO")
STAR_TYPES = ("O", "B", "A", "F", "G", "K", "M", "L", "WD", "CV", "Carbon")
GALAXY_TYPES = ("PASSIVE", "STARFORMING", "STARBURST", "AGN", "BROADLINE")
# WEAKLINE: the survey's pipeline found no broad line that it was sure of.
QSO_TYPES = ("BROADLINE", "WEAKLINE")
# The class that each subclass belongs to, in the order of the model's outputs.
SUBCLASSES = {
    **{f"STAR {name}": "STAR" for name in STAR_TYPES},
    **{f"GALAXY {name}": "GALAXY" for name in GALAXY_TYPES},
    **{f"QSO {name}": "QSO" for name in QSO_TYPES},
}
# The sequence of spectral types with their decimals, O0 to L9.
SEQUENCE = tuple(f"{letter}{decimal}" for letter in "OBAFGKML" for decimal in range(10))


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

    def known(self, target: torch.Tensor) -> torch.Tensor:
        """Which targets are known."""
        return target >= 0

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy; `target` holds label numbers, −1 where there is none."""
        from torch.nn.functional import cross_entropy

        # Zero, not NaN, for a batch without any label.
        total = cross_entropy(logits, target, ignore_index=-1, reduction="sum")
        return total / (target >= 0).sum().clamp_min(1)

    def temper(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logits made less sure, for a temperature above one."""
        return logits / temperature

    def answer(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities of the labels, shape (batch, size)."""
        return logits.softmax(dim=1)


@dataclass(frozen=True)
class Ordered:
    """A place in an ordered sequence of labels, answered by probabilities.

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

    def temper(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logits made less sure, for a temperature above one."""
        return logits / temperature

    def answer(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities of the labels, shape (batch, size)."""
        return logits.softmax(dim=1)


@dataclass(frozen=True)
class Quantity:
    """A number, answered with its error.

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

    def restandardised(self, logits: torch.Tensor, other: Quantity) -> torch.Tensor:
        """The logits with which `other`, of another centre and scale, gives the same answer."""
        import torch

        value = (self.centre + self.scale * logits[:, 0] - other.centre) / other.scale
        return torch.stack([value, logits[:, 1] + math.log(self.scale / other.scale)], dim=1)

    def answer(self, logits: torch.Tensor) -> torch.Tensor:
        """The value and its 1-σ error in the label's unit, shape (batch, 2)."""
        import torch

        value = self.centre + self.scale * logits[:, 0]
        error = self.scale * logits[:, 1].clamp(-6.0, 4.0).exp()
        if self.log:
            value = 10.0**value
            error = value * math.log(10.0) * error
        return torch.stack([value, error], dim=1)


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

    def known(self, target: torch.Tensor) -> torch.Tensor:
        """Which targets are known, and within the bins."""
        return _within((target.log1p() - self.x0) / self.dx, self.size)

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy against a narrow Gaussian at the true z; NaN targets have no loss."""
        return _cross_entropy_at(logits, (target.log1p() - self.x0) / self.dx, self.SPREAD)

    def temper(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logits made less sure, for a temperature above one."""
        return logits / temperature

    def answer(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities of the bins, shape (batch, bins)."""
        return logits.softmax(dim=1)


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
    alt_z, alt_prob : array, shape (batch, ALTERNATIVES)
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
# How many other peaks are given.
ALTERNATIVES = 5
# Another peak below this probability is not worth a column.
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
        alt_z=np.full((n, ALTERNATIVES), np.nan),
        alt_prob=np.full((n, ALTERNATIVES), np.nan),
        at_edge=np.zeros(n, dtype=bool),
    )
    star_bins = np.abs(x) <= STAR_MAX_X + 0.5 * task.dx
    for i in range(n):
        left = p[i] * star_bins if is_star[i] else p[i].copy()
        if not left.any():
            left = star_bins * 1e-12  # a star that p(z) holds for impossible: no preference
        first, last = np.flatnonzero(star_bins)[[0, -1]] if is_star[i] else (0, task.bins - 1)
        for rank in range(1 + ALTERNATIVES):
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


def decode_type(p: np.ndarray, letters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The decimal spectral type within a known letter.

    Parameters
    ----------
    p : array, shape (batch, len(SEQUENCE))
        Probabilities of the types.
    letters : sequence of str
        The letter of each star; without one, the type may be any.

    Returns
    -------
    place : array of int, shape (batch,)
        Number in `SEQUENCE` of the mean type, kept within the letter.
    error : array of float, shape (batch,)
        σ of the type in tenths of a letter, the labels' own spread left out.
    """
    places = np.arange(len(SEQUENCE))
    mean = p @ places
    variance = p @ places**2 - mean**2 - Ordered.SPREAD**2
    place = np.rint(mean).astype(int)
    for i, letter in enumerate(letters):
        if letter and letter in "OBAFGKML":
            first = 10 * "OBAFGKML".index(letter)
            place[i] = min(max(place[i], first), first + 9)
    return place, np.sqrt(np.maximum(variance, 0.3**2))


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


_SUBTYPE = re.compile(r"^(?:e?sd|usd|d|g)?([OBAFGKML])(\d(?:\.\d)?)")


def star_place(label: str) -> float:
    """The place in `SEQUENCE` of the spectral type in a survey's label.

    Parameters
    ----------
    label : str
        As for `star_type`.

    Returns
    -------
    float
        0 for O0, 10 for B0, … with the decimal of B9.5; NaN if the label gives no decimal.
    """
    match = _SUBTYPE.match(label.strip())
    if not match or star_type(label) != match.group(1):
        return math.nan
    return 10.0 * "OBAFGKML".index(match.group(1)) + float(match.group(2))


def subclass_label(class_name: str, subclass: str, lines_classified: bool) -> str | None:
    """The label of the subclass task for a survey's class and subclass.

    Parameters
    ----------
    class_name, subclass : str
        The survey pipeline's.
    lines_classified : bool
        Whether the survey classifies galaxies and quasars by their lines, so that an empty subclass
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
    if class_name == "QSO" and lines_classified:
        return "QSO BROADLINE" if "BROADLINE" in subclass else "QSO WEAKLINE"
    return None
