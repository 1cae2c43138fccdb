"""Figures of merit on labelled spectra that the weights have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from spectromer_cli.metrics import LIGHT_SPEED, OUTLIERS, expected_calibration_error
from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.model.template_fit import Basis, Refined, refine
from spectromer_cli.spectra.grid import Prepared
from spectromer_cli.training.dataset import LabelledSpectra, on_model_grid

if TYPE_CHECKING:
    from spectromer_cli.model.network import SpectralViT

Z_OUTLIER = OUTLIERS["0.01"]


def logits(
    model: SpectralViT, data: LabelledSpectra, device: torch.device, batch_size: int = 256
) -> dict[str, torch.Tensor]:
    """Logits of every task for every spectrum, on the CPU; shapes (n, task.size)."""
    model.eval()
    flux, ivar = on_model_grid(data, model.config.grid)
    parts: dict[str, list[torch.Tensor]] = {task.name: [] for task in model.tasks}
    with torch.inference_mode():
        for start in range(0, len(data), batch_size):
            cut = slice(start, start + batch_size)
            out = model(
                torch.from_numpy(flux[cut]).to(device), torch.from_numpy(ivar[cut]).to(device)
            )
            for name, part in out.items():
                parts[name].append(part.cpu())
    return {name: torch.cat(part) for name, part in parts.items()}


def features(
    model: SpectralViT, data: LabelledSpectra, device: torch.device, batch_size: int = 256
) -> np.ndarray:
    """What tells the familiar from the strange (`SpectralViT.seen`), shape (n, layers)."""
    model.eval()
    flux, ivar = on_model_grid(data, model.config.grid)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(data), batch_size):
            cut = slice(start, start + batch_size)
            _, seen = model.seen(
                torch.from_numpy(flux[cut]).to(device), torch.from_numpy(ivar[cut]).to(device)
            )
            parts.append(seen.float().cpu().numpy())
    return np.concatenate(parts)


def targets(data: LabelledSpectra) -> dict[str, torch.Tensor]:
    """The labels as the losses take them."""
    further = {
        name: torch.from_numpy(values.astype(np.float32)) for name, values in data.labels.items()
    }
    return {
        **further,
        "class": torch.from_numpy(data.class_),
        "subclass": torch.from_numpy(data.subclass),
        "z": torch.from_numpy(data.z.astype(np.float32)),
    }


def answer_redshifts(
    model: SpectralViT, out: dict[str, torch.Tensor], found: np.ndarray
) -> decoding.RedshiftPrediction:
    """What p(z) says of every spectrum, given its class."""
    task = next(task for task in model.tasks if isinstance(task, tasks.Redshift))
    p = torch.softmax(out["z"] / model.config.temperatures.get("z", 1.0), 1).double().numpy()
    return decoding.decode_redshift(task, p, found == taxonomy.CLASSES.index("STAR"))


def refine_redshifts(
    model: SpectralViT,
    out: dict[str, torch.Tensor],
    data: LabelledSpectra,
    bases: Mapping[str, Basis],
) -> Refined:
    """Refined redshifts of every spectrum (see `model.template_fit.refine`)."""
    found = out["class"].argmax(1).numpy()
    flux, ivar = on_model_grid(data, model.config.grid)
    prepared = [Prepared(f, i, 1.0) for f, i in zip(flux, ivar, strict=True)]
    names = [taxonomy.CLASSES[number] for number in found]
    answer = answer_redshifts(model, out, found)
    return refine(answer, prepared, names, bases, model.config.grid)


def figures(
    model: SpectralViT,
    out: dict[str, torch.Tensor],
    data: LabelledSpectra,
    refined: Refined | None = None,
) -> dict[str, float]:
    """Figures of merit.

    Parameters
    ----------
    model : SpectralViT
        Gives the tasks and their temperatures.
    out : dict
        As `logits` gives it.
    data : LabelledSpectra
        The truth.
    refined : Refined, optional
        Redshifts to be judged instead of the ViT's own, where there are any.

    Returns
    -------
    dict
        ``class_accuracy`` over all, ``recall_<CLASS>``, ``type_accuracy`` (letter of stars,
        known class), ``z_outliers`` (share of galaxies and quasars with \\|Δz\\|/(1+z) > 0.01),
        the same by class and survey, ``z_nmad``, ``z_r2``, ``class_ece``, ``n``; a figure
        that nothing was there for is left out.
    """
    temperature = model.config.temperatures
    p = {
        task.name: task.answer(task.temper(out[task.name], temperature.get(task.name, 1.0))).numpy()
        for task in model.tasks
    }
    found = p["class"].argmax(1)
    known = data.class_ >= 0
    star = taxonomy.CLASSES.index("STAR")
    right = found == data.class_
    result = {
        "n": float(known.sum()),
        "class_accuracy": _mean(right[known]),
        "class_ece": expected_calibration_error(p["class"][known], data.class_[known]),
    }
    for number, name in enumerate(taxonomy.CLASSES):
        result[f"recall_{name}"] = _mean(right[data.class_ == number])
    typed = (data.class_ == star) & (data.subclass >= 0)
    of_stars = [owner == "STAR" for owner in taxonomy.SUBCLASSES.values()]
    best_type = np.where(of_stars, p["subclass"], -1.0).argmax(1)
    result["type_accuracy"] = _mean((best_type == data.subclass)[typed])
    names = list(taxonomy.SUBCLASSES)
    letters = [names[number].removeprefix("STAR ") for number in best_type]
    result |= _stellar(p, letters, data)
    z = answer_redshifts(model, out, found).z
    if refined is not None:
        z = np.where(np.isfinite(refined.z), refined.z, z)
    error = np.abs(z - data.z) / (1.0 + data.z)
    far = known & (data.class_ != star) & np.isfinite(data.z)
    result["z_outliers"] = _mean(error[far] > Z_OUTLIER)
    if far.any():
        result["z_nmad"] = float(1.4826 * np.median(error[far]))
        spread = np.sum((data.z[far] - data.z[far].mean()) ** 2)
        result["z_r2"] = float(1.0 - np.sum((z[far] - data.z[far]) ** 2) / spread)
    for name in ("GALAXY", "QSO"):
        for survey in np.unique(data.survey):
            these = far & (data.class_ == taxonomy.CLASSES.index(name)) & (data.survey == survey)
            if these.sum() >= 10:
                result[f"z_outliers_{name}_{survey}"] = _mean(error[these] > Z_OUTLIER)
                result[f"z_nmad_{name}_{survey}"] = float(1.4826 * np.median(error[these]))
                result[f"z_1000kms_{name}_{survey}"] = _mean(error[these] > OUTLIERS["1000kms"])
                result[f"recall_{name}_{survey}"] = _mean(right[these])
    velocity = (
        LIGHT_SPEED * error[(data.survey == "LAMOST") & (data.class_ == star) & (data.sn > 20)]
    )
    if np.isfinite(velocity).sum() >= 10:
        result["rv_scatter_LAMOST"] = float(1.4826 * np.nanmedian(velocity))
    return {name: float(f"{value:.5g}") for name, value in result.items() if np.isfinite(value)}


def _stellar(
    p: dict[str, np.ndarray], letters: list[str], data: LabelledSpectra
) -> dict[str, float]:
    """How far the stars' types (in tenths of a letter) and parameters scatter about the survey's.

    ``<name>_scatter``: robust σ; ``<name>_pull``: robust width of the error over its estimate.
    Of the types, which are whole tenths, the mean error and the share right to one tenth.
    """
    result = {}
    if "star_type" in p:
        known = np.isfinite(data.labels["star_type"])
        place, _ = decoding.decode_type(p["star_type"], letters)
        if known.any():
            off = np.abs(place - data.labels["star_type"])[known]
            result["star_type_error"] = float(off.mean())
            result["star_type_within_1"] = _mean(off < 1.5)
    for name in ("teff", "logg", "feh"):
        known = np.isfinite(data.labels.get(name, np.nan)) & (data.survey == "LAMOST")
        if name in p and known.any():
            error = np.abs(p[name][:, 0] - data.labels[name])[known]
            result[f"{name}_scatter"] = float(1.4826 * np.median(error))
            result[f"{name}_pull"] = float(1.4826 * np.median(error / p[name][known, 1]))
    return result


def _mean(values: np.ndarray) -> float:
    """Mean; NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")
