"""One spectrum explained: the answer, what speaks for it, and what a figure of it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from spectromer_cli.errors import UsageError
from spectromer_cli.explain.attribution import METHODS
from spectromer_cli.explain.question import Question, ask
from spectromer_cli.explain.regions import Stretch, strongest
from spectromer_cli.inference.columns import redshift_task
from spectromer_cli.model import tasks
from spectromer_cli.model.template_fit import template_curve
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.loading import Item

if TYPE_CHECKING:
    from astropy.table import Row

    from spectromer_cli.inference.predictor import Spectromer


@dataclass
class Explanation:
    """Why the model answered as it did.

    Parameters
    ----------
    item : Item
        The spectrum.
    row : astropy Row
        The model's answers, as `classify` and `redshift` give them.
    grid : Grid
    prepared : Prepared
    question : Question
    method : str
    importance : array, shape (grid.n,)
        Positive where the spectrum speaks for the answer.
    probability : float
        Of the answer asked about; of a quantity, its value.
    stretches : list of Stretch
    class_probabilities : dict of str to float
    p_z : tuple of arrays (z, p), or None
    curve : array, shape (m, 2), or None
        z and χ² of the template fit around the redshift.
    template : array, shape (grid.n,), or None
        The best template fit.
    image : array, shape (3, side, side)
        What the network sees.
    shown : bool array, shape (tokens², grid.n)
        Which samples each token shows.
    """

    item: Item
    row: Row
    grid: Grid
    prepared: Prepared
    question: Question
    method: str
    importance: np.ndarray
    probability: float
    stretches: list[Stretch]
    class_probabilities: dict[str, float]
    p_z: tuple[np.ndarray, np.ndarray] | None
    curve: np.ndarray | None
    template: np.ndarray | None
    image: np.ndarray
    shown: np.ndarray

    @property
    def z(self) -> float:
        """The redshift found; NaN where the model knows none."""
        return float(self.row["z"]) if "z" in self.row.colnames else float("nan")

    @property
    def class_name(self) -> str:
        """The class found; empty where the model knows none."""
        return str(self.row["class"]) if "class" in self.row.colnames else ""


def explain(
    model: Spectromer, item: Item, target: str, wanted: str | None, method: str
) -> Explanation:
    """Explain one answer.

    Parameters
    ----------
    model : Spectromer
    item : Item
        A spectrum that could be read.
    target : str
        The task.
    wanted : str or None
        Another answer than the model's own.
    method : str
        One of `methods.METHODS`.

    Returns
    -------
    Explanation

    Raises
    ------
    UsageError
        If there is no such task, answer or method.
    """
    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}", f"take {', '.join(METHODS)}")
    prepared = item.prepared
    assert prepared is not None, "only what could be read can be explained"
    flux = torch.from_numpy(prepared.flux[None]).to(model.device)
    ivar = torch.from_numpy(prepared.ivar[None]).to(model.device)
    answers = {name: values[0] for name, values in model.outputs([prepared]).items()}
    network = model.network
    question = ask(network.tasks, model.config.temperatures, answers, target, wanted)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    importance = METHODS[method](network, flux, ivar, question)
    importance = np.where(prepared.ivar > 0, importance, 0.0)
    with torch.inference_mode():
        probability = float(question.probability(network(flux, ivar)))
        image = network.draw(flux, ivar, model.grid, model.config.tokens)[0].cpu().numpy()
    row = model.table([item])[0]
    explanation = Explanation(
        item, row, model.grid, prepared, question, method, importance, probability, [], {}, None,
        None, None, image, _shown(model),
    )  # fmt: skip
    explanation.stretches = strongest(importance, model.grid, explanation.class_name, explanation.z)
    named = {task.name: task for task in network.tasks}
    if isinstance(named.get("class"), tasks.Category):
        labels = named["class"].labels  # type: ignore[union-attr]
        pairs = zip(labels, answers["class"].tolist(), strict=True)
        explanation.class_probabilities = dict(pairs)
    redshift = redshift_task(network.tasks)
    if redshift is not None:
        explanation.p_z = np.expm1(redshift.x), answers[redshift.name]
    if explanation.class_name in model.bases and np.isfinite(explanation.z):
        basis = model.bases[explanation.class_name]
        explanation.curve, explanation.template = template_curve(
            prepared, basis, model.grid, np.log1p(explanation.z)
        )
    return explanation


def _shown(model: Spectromer) -> np.ndarray:
    from spectromer_cli.images import get_image

    return get_image(model.config.image).samples(model.grid, model.config.tokens)
