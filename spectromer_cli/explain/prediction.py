"""What is explained: one prediction of one task, as a number that the network computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import decoding, tasks, taxonomy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A label, a redshift or a value that the model predicts, or might have predicted.

    Parameters
    ----------
    task : Task
        Which of the model's tasks.
    label : str
        For people: the label, or the redshift or value.
    outputs : array of int
        The task's outputs whose probabilities add up to that of the prediction; empty for a
        quantity.
    temperature : float
        That the logits are divided by.
    """

    task: tasks.Task
    label: str
    outputs: np.ndarray
    temperature: float = 1.0

    def __str__(self) -> str:
        return f"{self.task.name} = {self.label}"

    def score(self, logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What importance adds up to, shape (batch,).

        The log odds of the prediction; a quantity's value in the model's standard unit.
        """
        own = logits[self.task.name]
        if isinstance(self.task, tasks.Quantity):
            return own[:, 0]
        tempered = self.task.temper(own, self.temperature)
        others = np.setdiff1d(np.arange(self.task.size), self.outputs)
        return tempered[:, self.outputs].logsumexp(1) - tempered[:, others].logsumexp(1)

    def probability(self, logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The prediction's calibrated probability, shape (batch,); of a quantity, `score`."""
        score = self.score(logits)
        return score if isinstance(self.task, tasks.Quantity) else score.sigmoid()


def choose(
    known: Sequence[tasks.Task],
    temperatures: Mapping[str, float],
    outputs: Mapping[str, np.ndarray],
    task_name: str = "",
    wanted: str | None = None,
) -> Prediction:
    """Choose the prediction to explain.

    Parameters
    ----------
    known : sequence of Task
        The model's.
    temperatures : mapping of str to float
    outputs : mapping of str to array, shape (task.size or 2,)
        The model's calibrated output for the spectrum, by task.
    task_name : str, optional
        By default class, or else the model's first task.
    wanted : str, optional
        A label of the task, or a redshift; by default what the model predicts.

    Returns
    -------
    Prediction

    Raises
    ------
    UsageError
        If there is no such task, label or redshift.
    """
    named = {task.name: task for task in known}
    task_name = task_name or ("class" if "class" in named else known[0].name)
    if task_name not in named:
        raise UsageError(
            f"invalid --task {task_name!r} for these weights",
            f"choose from {', '.join(named)}",
        )
    task, own = named[task_name], outputs[task_name]
    temperature = temperatures.get(task_name, 1.0)
    if isinstance(task, tasks.Quantity):
        if wanted is not None:
            raise UsageError(
                f"--for takes no value for {task_name}, which is a number", "leave out --for"
            )
        label, chosen = f"{own[0]:.5g}", np.array([], dtype=int)
    elif isinstance(task, tasks.Redshift):
        label, chosen = _redshift(task, own, outputs, wanted)
    else:
        number = int(own.argmax()) if wanted is None else _number(task, wanted)
        label, chosen = task.labels[number], np.array([number])
    return Prediction(task=task, label=label, outputs=chosen, temperature=temperature)


def _number(task: tasks.Category | tasks.Ordered, wanted: str) -> int:
    """The number of a label; of "STAR K" its last word is enough."""
    for number, label in enumerate(task.labels):
        if wanted.upper() in (label.upper(), label.upper().rsplit(" ", 1)[-1]):
            return number
    raise UsageError(
        f"invalid --for {wanted!r}: not a label of {task.name}",
        f"choose from {', '.join(task.labels[:30])}",
    )


def _redshift(
    task: tasks.Redshift, own: np.ndarray, outputs: Mapping[str, np.ndarray], wanted: str | None
) -> tuple[str, np.ndarray]:
    """A redshift, and the outputs within ± 0.01 of it in ln(1 + z)."""
    if wanted is None:
        star = "class" in outputs and outputs["class"].argmax() == taxonomy.CLASSES.index("STAR")
        z = float(decoding.decode_redshift(task, own[None], np.array([star])).z[0])
    else:
        try:
            z = float(wanted)
        except ValueError:
            raise UsageError(
                f"invalid --for {wanted!r}: not a redshift", "give a number such as 0.35"
            ) from None
        if not task.x[0] <= np.log1p(max(z, -0.99)) <= task.x[-1]:
            ends = np.expm1(task.x[[0, -1]])
            raise UsageError(
                f"invalid --for {wanted!r}: outside the redshift range of the model",
                f"give a number from {ends[0]:.3f} to {ends[1]:.2f}",
            )
    return f"{z:.5f}", np.flatnonzero(np.abs(task.x - np.log1p(z)) <= decoding.PEAK_HALF_WIDTH)
