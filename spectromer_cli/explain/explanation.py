"""An explained prediction: which wavelengths support it, and what its figure needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.explain import DEFAULT_METHOD, attribution, regions
from spectromer_cli.explain.prediction import Prediction, choose
from spectromer_cli.images import get_image
from spectromer_cli.inference.columns import redshift_task
from spectromer_cli.inference.failures import Failures
from spectromer_cli.model import tasks
from spectromer_cli.model.template_fit import template_curve
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.lines import lines_for, spectral_type_of
from spectromer_cli.spectra.loading import Inputs, Item, load_all
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    from astropy.table import Row

    from spectromer_cli.inference.predictor import Spectromer


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why the model predicts what it does.

    Parameters
    ----------
    item : Item
        The spectrum on the grid, and where it came from.
    row : astropy Row
        The model's results, as `classify` and `redshift` give them.
    grid : Grid
    prediction : Prediction
        What is explained.
    probability : float
        Of the prediction; of a quantity, its value in the model's standard unit.
    method : str
        One of `explain.METHODS`.
    importance : array, shape (grid.n,)
        Positive where the spectrum supports the prediction, 0 where nothing was measured.
    regions : list of Region
        The strongest, the first of all first.
    class_probabilities : dict of str to float
        Empty where the model has no classes.
    p_z : tuple of arrays (z, p), or None
    curve : array, shape (m, 2), or None
        z and χ² of the template fit around the redshift.
    template : array, shape (grid.n,), or None
        The best template fit.
    image : array, shape (3, side, side)
        What the network sees, −1 to 1.
    shown : bool array, shape (tokens², grid.n)
        Which samples each token shows.
    """

    item: Item
    row: Row
    grid: Grid
    prediction: Prediction
    probability: float
    method: str
    importance: np.ndarray
    regions: list[regions.Region]
    class_probabilities: dict[str, float]
    p_z: tuple[np.ndarray, np.ndarray] | None
    curve: np.ndarray | None
    template: np.ndarray | None
    image: np.ndarray
    shown: np.ndarray

    @property
    def prepared(self) -> Prepared:
        """The spectrum on the grid."""
        assert self.item.prepared is not None, "only spectra that were read are explained"
        return self.item.prepared

    @property
    def z(self) -> float:
        """The redshift found; NaN where the model measures none."""
        return float(self.row["z"]) if "z" in self.row.colnames else float("nan")

    @property
    def class_name(self) -> str:
        """The class found; empty where the model knows none."""
        return str(self.row["class"]) if "class" in self.row.colnames else ""


def explain(
    spectra: Inputs | str | Path | Spectrum | Iterable[Any],
    model: Spectromer | str | None = None,
    *,
    task: str = "",
    wanted: str | None = None,
    method: str = DEFAULT_METHOD,
    top: int | None = None,
    alone: bool = False,
    failures: Failures | None = None,
) -> Iterator[Explanation]:
    """Explain predictions: how much each wavelength contributes.

    This is what `spectromer explain` does.

    Parameters
    ----------
    spectra : str, Path or Spectrum, or iterable of them, or Inputs
        Spectra, as `predict` takes them, or names of files, folders and patterns; `Inputs` also
        takes a catalogue and says what plain tables do not say themselves.
    model : Spectromer or str, optional
        A loaded model, or what `load_model` takes; by default the weights that ship with the
        program.
    task : str, optional
        The task whose prediction is explained: class (the default), subclass, z, teff, …
    wanted : str, optional
        Another label, or redshift, than the one that the model predicts.
    method : str
        One of `METHODS`: integrated gradients, occlusion, or the attention map.
    top : int, optional
        Explain only the first N spectra.
    alone : bool
        Refuse several spectra, before the first is explained: for an output that holds one.
    failures : Failures, optional
        Counts the spectra, and what cannot be explained.

    Yields
    ------
    Explanation
        In the order of the spectra. One that cannot be read is named on stderr and skipped.

    Raises
    ------
    UsageError
        If there is no such method, task, label or redshift, or, with `alone`, a second spectrum.
    """
    from spectromer_cli.inference.predictor import load_model

    if method not in attribution.METHODS:
        choices = ", ".join(attribution.METHODS)
        raise UsageError(f"invalid --method {method!r}", f"choose from {choices}")
    if model is None or isinstance(model, str):
        model = load_model(model)
    items: Iterator[Item] = islice(_items(spectra, model.grid, top), top)
    if alone:
        items = _only_one(items)
    return _explanations(items, model, task, wanted, method, failures or Failures())


def _items(spectra: Any, grid: Grid, top: int | None) -> Iterator[Item]:
    """Spectra on the grid, from wherever they come; no more than `top` are awaited."""
    spectra = Inputs.of(spectra)
    targets, _, total = spectra.targets()
    if total is not None and top is not None:
        total = min(total, top)
    with console.progress("explaining", total) as advance:
        for item in load_all(targets, spectra.options, grid=grid):
            advance(item.begins)
            if not item.skipped:
                yield item


def _only_one(items: Iterator[Item]) -> Iterator[Item]:
    first = list(islice(items, 2))
    if len(first) > 1:
        raise UsageError(
            f"the output holds one spectrum, but there are more ({first[1].label})",
            "give -o a folder, or a page: -o FILE.html",
        )
    return chain(first, items)


def _explanations(
    items: Iterable[Item],
    model: Spectromer,
    task: str,
    wanted: str | None,
    method: str,
    failures: Failures,
) -> Iterator[Explanation]:
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    for item in items:
        row = model.table([item])[
            0
        ]  # what the model has no finite prediction for has a problem then
        failures.note([item])
        if item.prepared is not None:
            yield _explain_one(model, item, row, task, wanted, method)


def _explain_one(
    model: Spectromer, item: Item, row: Row, task: str, wanted: str | None, method: str
) -> Explanation:
    network, grid, config, prepared = model.network, model.grid, model.config, item.prepared
    assert prepared is not None
    flux = torch.from_numpy(prepared.flux[None]).to(model.device)
    ivar = torch.from_numpy(prepared.ivar[None]).to(model.device)
    outputs = {name: values[0] for name, values in model.outputs([prepared]).items()}
    prediction = choose(network.tasks, config.temperatures, outputs, task, wanted)
    importance = attribution.METHODS[method](network, flux, ivar, prediction)
    importance = np.where(prepared.ivar > 0, importance, 0.0)
    with torch.inference_mode():
        probability = float(prediction.probability(network(flux, ivar)))
        image = network.image(flux, ivar)[0].cpu().numpy()
    shown = get_image(config.image).samples(grid, config.tokens)
    class_name = str(row["class"]) if "class" in row.colnames else ""
    z = float(row["z"]) if "z" in row.colnames else float("nan")
    curve = template = None
    if class_name in model.bases and np.isfinite(z):
        curve, template = template_curve(prepared, model.bases[class_name], grid, np.log1p(z))
    redshift = redshift_task(network.tasks)
    class_task = next((known for known in network.tasks if known.name == "class"), None)
    labels = class_task.labels if isinstance(class_task, tasks.Category) else ()
    return Explanation(
        item=item,
        row=row,
        grid=grid,
        prediction=prediction,
        probability=probability,
        method=method,
        importance=importance,
        regions=regions.strongest_regions(
            importance, grid, lines_for(class_name, spectral_type_of(row)), z,
            attribution.region_width(method, grid, config.tokens),
        ),
        class_probabilities=dict(zip(labels, outputs["class"].tolist(), strict=True))
        if labels else {},
        p_z=None if redshift is None else (np.expm1(redshift.x), outputs[redshift.name]),
        curve=curve,
        template=template,
        image=image,
        shown=shown,
    )  # fmt: skip
