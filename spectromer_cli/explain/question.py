"""What is to be explained: one answer of one task, as a number that the network computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import decoding, tasks, taxonomy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Question:
    """Why this answer?

    Parameters
    ----------
    task : Task
        Which of the model's tasks.
    label : str
        For people: the label, or the redshift or value.
    outputs : array of int
        Of probabilities: the outputs that mean this answer. Empty for a quantity.
    temperature : float
        That the logits are divided by.
    """

    task: tasks.Task
    label: str
    outputs: np.ndarray
    temperature: float

    def score(self, logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What importance is importance for, shape (batch,).

        The log odds of the answer; a quantity's value in the model's standard unit.
        """
        own = logits[self.task.name]
        if isinstance(self.task, tasks.Quantity):
            return own[:, 0]
        tempered = self.task.temper(own, self.temperature)
        others = np.setdiff1d(np.arange(self.task.size), self.outputs)
        return tempered[:, self.outputs].logsumexp(1) - tempered[:, others].logsumexp(1)

    def probability(self, logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The answer's calibrated probability, shape (batch,); of a quantity, `score`."""
        score = self.score(logits)
        return score if isinstance(self.task, tasks.Quantity) else score.sigmoid()


def ask(
    asked: list[tasks.Task],
    temperatures: Mapping[str, float],
    answers: Mapping[str, np.ndarray],
    target: str,
    wanted: str | None,
) -> Question:
    """Turn options into a question about one spectrum.

    Parameters
    ----------
    asked : list of Task
        The model's.
    temperatures : mapping of str to float
    answers : mapping of str to array, shape (task.size or 2,)
        The model's calibrated answers for the spectrum.
    target : str
        Name of the task.
    wanted : str or None
        A label of it, or a redshift; None takes the model's own answer.

    Returns
    -------
    Question

    Raises
    ------
    UsageError
        If there is no such task, label or redshift.
    """
    named = {task.name: task for task in asked}
    if target not in named:
        raise UsageError(f"these weights have no task {target!r}", f"take {', '.join(named)}")
    task = named[target]
    temperature = temperatures.get(target, 1.0)
    if isinstance(task, tasks.Quantity):
        if wanted is not None:
            raise UsageError(f"{target} is a number: there is no other answer to ask for")
        return Question(task, f"{answers[target][0]:.5g}", np.array([], dtype=int), temperature)
    if isinstance(task, tasks.Redshift):
        return _of_redshift(task, answers, wanted, temperature)
    labels = list(task.labels)
    if wanted is None:
        number = int(answers[target].argmax())
    else:
        fits = [i for i, label in enumerate(labels) if wanted.upper() in _names(label)]
        if not fits:
            raise UsageError(
                f"{target} has no label {wanted!r}", f"it has {', '.join(labels[:30])}"
            )
        number = fits[0]
    return Question(task, labels[number], np.array([number]), temperature)


def _names(label: str) -> set[str]:
    """A label, and its last word: "STAR K" is also K."""
    return {label.upper(), label.upper().rsplit(" ", 1)[-1]}


def _of_redshift(
    task: tasks.Redshift, answers: Mapping[str, np.ndarray], wanted: str | None, temperature: float
) -> Question:
    """The mass of p(z) within ± 0.01 in ln(1 + z)."""
    if wanted is None:
        star = "class" in answers and answers["class"].argmax() == taxonomy.CLASSES.index("STAR")
        z = float(decoding.decode_redshift(task, answers[task.name][None], np.array([star])).z[0])
    else:
        try:
            z = float(wanted)
        except ValueError:
            raise UsageError(
                f"--for {wanted} is no redshift", "give a number, as in 0.35"
            ) from None
        if not task.x[0] <= np.log1p(max(z, -0.99)) <= task.x[-1]:
            raise UsageError(f"--for {wanted} lies outside the model's range of redshifts")
    outputs = np.flatnonzero(np.abs(task.x - np.log1p(z)) <= decoding.PEAK_HALF_WIDTH)
    return Question(task, f"{z:.5f}", outputs, temperature)
