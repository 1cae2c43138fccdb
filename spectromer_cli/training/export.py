"""After the last step: calibrate on held-out spectra, judge, write weights, card and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spectromer_cli import metrics
from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.model.confidence import confidence_table
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.novelty import ReferenceSet
from spectromer_cli.model.template_fit import Basis, Refined
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import calibration, plots
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.loop import novelty_features
from spectromer_cli.training.targets import Target
from spectromer_cli.weights.save import write_weights

if TYPE_CHECKING:
    from astropy.table import Table

# Spectra of the reference set of the novelty score: so many as they are, and so many as batches
# change them.
REFERENCE_SPECTRA = 1000

Logits = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class HeldOut:
    """Logits of spectra that the weights have not learned from, and what they are used for.

    Parameters
    ----------
    logits : dict of str to Tensor, shapes (n, task.size)
        For all of the data; NaN where a spectrum was not held out.
    calibrating, testing : bool array, shape (n,)
        Spectra that temperatures and errors are fitted on, and those that the figures are of.
    part : array of str, shape (n,)
        Where each spectrum was: "train", "validation", "test", "fold 1", …
    """

    logits: Logits
    calibrating: np.ndarray
    testing: np.ndarray
    part: np.ndarray


@dataclass
class Results:
    """What a training came to, for the card and for stdout.

    Parameters
    ----------
    figures : dict of str to float
        ``<task>_<figure>``, and for each its interval as ``…_low`` and ``…_high``.
    by_part : list of dict
        Figures of each class in each survey.
    predictions : dict of str to array
        By task, shape (n, task.size) or (n, 2); of z: z and its error.
    """

    figures: dict[str, float]
    by_part: list[dict[str, Any]]
    predictions: dict[str, np.ndarray] = field(repr=False)


# --- predictions and figures ----------------------------------------------------------------


def judge(
    model: SpectralViT,
    logits: Logits,
    data: LabelledSpectra,
    targets: Sequence[Target],
    which: np.ndarray,
    refined: Refined | None = None,
) -> Results:
    """Figures of merit.

    Parameters
    ----------
    model : SpectralViT
        Gives the tasks and their temperatures.
    logits : dict of str to Tensor, shapes (n, task.size)
    data : LabelledSpectra
    targets : sequence of Target
        The reference values.
    which : bool array, shape (n,)
        The spectra that are judged.
    refined : Refined, optional
        Redshifts that replace the ViT's own where there are any.

    Returns
    -------
    Results
        A figure that nothing is there for is left out. Redshifts are those of all but stars,
        whose velocities (km/s) are ``rv_…``; the letter of stars' types is ``letter_…``.
    """
    named = {target.name: target for target in targets}
    p = {
        task.name: task.answer(
            task.temper(logits[task.name], model.config.temperatures.get(task.name, 1.0))
        ).numpy()
        for task in model.tasks
        if task.name in named
    }
    found = calibration.predicted_classes(model.tasks, logits)
    classes = class_names(named, len(data))
    redshift = next((t for t in model.tasks if isinstance(t, tasks.Redshift)), None)
    if redshift is not None and redshift.name in named:
        p[redshift.name] = _redshifts(model, logits, which, refined)
    figures: dict[str, Any] = {}
    for task in model.tasks:
        if task.name not in named:
            continue
        target = named[task.name]
        known = which & target.known
        prediction, reference = p[task.name][known], target.values[known]
        if isinstance(task, tasks.Category):
            own = metrics.category_figures(prediction, reference, task.labels)
        elif isinstance(task, tasks.Ordered):
            letters = _letters(model.tasks, p)
            place, error = decoding.decode_type(p[task.name][known], letters[known])
            own = metrics.type_figures(place - reference, error)
        elif isinstance(task, tasks.Redshift):
            star = classes[known] == "STAR"
            own = metrics.redshift_figures(prediction[~star, 0], reference[~star])
            if (~star).any():
                error = prediction[~star, 0] - reference[~star]
                own["pull"] = metrics.pull_figures(error / prediction[~star, 1])["width"]
            _add(figures, "rv", metrics.velocity_figures(prediction[star, 0], reference[star]))
        else:
            own = metrics.number_figures(prediction[:, 0], prediction[:, 1], reference)
        _add(figures, task.name, own)
    if {"class", "subclass"} <= set(named) & set(p) and "STAR" in named["class"].labels:
        truth = np.array([name.removeprefix("STAR ") for name in taxonomy.SUBCLASSES] + [""])
        true_letters = truth[named["subclass"].values]
        typed = which & (classes == "STAR") & (true_letters != "")
        _add(figures, "letter", metrics.letter_figures(_letters(model.tasks, p)[typed],
                                                       true_letters[typed]))  # fmt: skip
    z = p[redshift.name][:, 0] if redshift is not None and redshift.name in p else None
    by_part = _by_part(data, classes, found, z, named, which)
    return Results(figures, by_part, p)


def class_names(named: Mapping[str, Target], n: int) -> np.ndarray:
    """The labelled class of each spectrum; empty where unknown, or no class is labelled."""
    if "class" not in named:
        return np.full(n, "")
    return np.array([*named["class"].labels, ""])[named["class"].values]


def _redshifts(
    model: SpectralViT, logits: Logits, which: np.ndarray, refined: Refined | None
) -> np.ndarray:
    """z and its error, shape (n, 2); NaN where there are no logits."""
    some = {name: values[which] for name, values in logits.items()}
    proposed = calibration.predicted_redshifts(model.tasks, some, model.config.temperatures)
    found = np.full((len(which), 2), np.nan)
    found[which] = np.stack([proposed.z, proposed.z_err], axis=1)
    if refined is not None:
        has = which & np.isfinite(refined.z)
        found[has] = np.stack([refined.z[has], refined.z_err[has]], axis=1)
    return found


def _letters(asked: Sequence[tasks.Task], p: Mapping[str, np.ndarray]) -> np.ndarray:
    """The likeliest letter of a star's type, whatever its class; empty without that task."""
    labels = next((t.labels for t in asked if t.name == "subclass"), ())  # type: ignore[union-attr]
    n = len(next(iter(p.values())))
    if "subclass" not in p or tuple(labels) != tuple(taxonomy.SUBCLASSES):
        return np.full(n, "")
    of_stars = [owner == "STAR" for owner in taxonomy.SUBCLASSES.values()]
    best = np.where(of_stars, p["subclass"], -1.0).argmax(axis=1)
    return np.array([name.removeprefix("STAR ") for name in taxonomy.SUBCLASSES])[best]


def _add(figures: dict[str, Any], name: str, own: dict[str, Any]) -> None:
    """Put the figures of a task among the others, with their intervals beside them."""
    if not own["n"]:
        return
    for key, value in own.items():
        if key == "interval" or value is None or not np.isfinite(value):
            continue
        figures[f"{name}_{key}"] = float(f"{value:.5g}")
        for end, limit in zip(("low", "high"), own["interval"].get(key) or (), strict=False):
            figures[f"{name}_{key}_{end}"] = float(f"{limit:.5g}")


def _by_part(
    data: LabelledSpectra,
    classes: np.ndarray,
    found: np.ndarray,
    z: np.ndarray | None,
    named: Mapping[str, Target],
    which: np.ndarray,
) -> list[dict[str, Any]]:
    """Spectra of each class in each survey, most first, with the figures of those judged."""
    rows: list[dict[str, Any]] = []
    for survey, name in sorted({*zip(data.survey.tolist(), classes.tolist(), strict=True)}):
        own = (data.survey == survey) & (classes == name)
        if not name:
            continue
        row: dict[str, Any] = {"survey": survey, "class": name, "spectra": int(own.sum())}
        own &= which
        row |= {"judged": int(own.sum()), "recall": None}
        if own.any():
            row["recall"] = float((found[own] == name).mean())
        if z is not None and name != "STAR":
            known = own & np.isfinite(named["z"].values) & np.isfinite(z)
            row["z"] = metrics.redshift_figures(z[known], named["z"].values[known])
        rows.append(row)
    return sorted(rows, key=lambda row: -row["spectra"])


# --- writing --------------------------------------------------------------------------------


def export(
    model: SpectralViT,
    data: LabelledSpectra,
    targets: Sequence[Target],
    held_out: HeldOut,
    *,
    folder: Path,
    name: str,
    entry: Mapping[str, Any],
    batches: Batches,
    device: torch.device,
    bases: Mapping[str, Basis] | None = None,
    fit_errors: bool = True,
    extra: Mapping[str, np.ndarray] | None = None,
) -> Results:
    """Calibrate trained weights, judge them, and write them with their manifest entry.

    Parameters
    ----------
    model : SpectralViT
        Trained; its configuration is filled in.
    data : LabelledSpectra
    targets : sequence of Target
    held_out : HeldOut
    folder : Path
    name : str
        Of the weights.
    entry : mapping
        For the manifest (see `weights.save.write_weights`).
    batches : Batches
        What was learned from: they tell what is not novel.
    device : torch.device
    bases : mapping of str to Basis, optional
        Templates for redshifts, by class.
    fit_errors : bool
        Fit the scales of their errors.
    extra : mapping of str to array, optional
        Further tensors for the file.

    Returns
    -------
    Results
        Of the spectra that test.
    """
    named = {target.name: target for target in targets}
    use = held_out.calibrating | held_out.testing
    rows = np.flatnonzero(held_out.calibrating)
    logits = {key: values[rows] for key, values in held_out.logits.items()}
    tensors = {target.name: target.tensor(rows) for target in targets}
    temperatures = calibration.fit_temperatures(model.tasks, logits, tensors)
    # Tasks without targets were calibrated before.
    model.config = replace(model.config, temperatures={**model.config.temperatures, **temperatures})
    refined = None
    has_z = any(isinstance(task, tasks.Redshift) and task.name in named for task in model.tasks)
    if has_z:
        refined, bases = _refine(model, data, named, held_out, use, bases or {}, fit_errors)
        model.config = replace(
            model.config, confidence=_confidence(model, named, held_out, refined, len(data))
        )
    results = judge(model, held_out.logits, data, targets, held_out.testing, refined)
    if has_z and bases:
        plain = judge(model, held_out.logits, data, targets, held_out.testing)
        results.figures |= {
            f"vit_{key}": value for key, value in plain.figures.items() if key[:2] == "z_"
        }
    flux, ivar = data.on_grid(model.config.grid)
    seen = novelty_features(model, flux[rows], ivar[rows], device)
    novelty = ReferenceSet.learn(*reference_set(model, batches, device), seen)
    write_weights(
        folder, name,
        {
            **model.state_dict(),
            **{f"templates.{key}": torch.from_numpy(b.vectors) for key, b in (bases or {}).items()},
            **{
                f"familiar.{key}": torch.from_numpy(values.astype(np.float32))
                for key, values in vars(novelty).items()
            },
            **{key: torch.from_numpy(values) for key, values in (extra or {}).items()},
        },
        model.config, entry,
    )  # fmt: skip
    _write_tables(folder, data, model.config.grid, targets, held_out, model.tasks, results)
    _draw(folder, targets, held_out.testing, model.tasks, results)
    return results


def reference_set(
    model: SpectralViT, batches: Batches, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Novelty features of spectra that were learned from, as they are and as batches change them.

    Returns
    -------
    features : array, shape (k, features)
    class_ : array of int, shape (k,)
        Number of the label of the first category; 0 for all without a category.
    """
    category = next((target for target in batches.targets if target.labels), None)
    rng = np.random.default_rng(batches.seed)
    count = min(REFERENCE_SPECTRA, len(batches.rows))
    some = rng.choice(len(batches.rows), size=count, replace=False)
    features = [novelty_features(model, batches.flux[some], batches.ivar[some], device)]
    class_ = [category.values[batches.rows[some]] if category else np.zeros(count, dtype=int)]
    for step in range(min(-(-count // batches.batch_size), batches.steps)):
        batch = batches[step]
        flux, ivar = batch["flux"].numpy(), batch["ivar"].numpy()
        features.append(novelty_features(model, flux, ivar, device))
        own = batch[category.name].numpy() if category else np.zeros(len(flux), dtype=int)
        class_.append(own)
    whole, labels = np.concatenate(features), np.concatenate(class_)
    return whole[labels >= 0], labels[labels >= 0]


def _refine(
    model: SpectralViT,
    data: LabelledSpectra,
    named: Mapping[str, Target],
    held_out: HeldOut,
    use: np.ndarray,
    bases: Mapping[str, Basis],
    fit_errors: bool,
) -> tuple[Refined, dict[str, Basis]]:
    """Refined redshifts of all of the data, NaN where not held out; the templates' error scales.

    Templates go into the model's configuration.
    """
    n = len(data)
    rows = np.flatnonzero(use)
    some = {key: values[rows] for key, values in held_out.logits.items()}
    flux, ivar = data.take(rows).on_grid(model.config.grid)

    def refine(bases: Mapping[str, Basis]) -> Refined:
        found = calibration.refined_redshifts(model.tasks, some, model.config, flux, ivar, bases)
        whole = Refined(*(np.full((n, *v.shape[1:]), np.nan) for v in vars(found).values()))
        for key, values in vars(found).items():
            getattr(whole, key)[rows] = values
        return whole

    refined = refine(bases)
    if fit_errors and bases:
        found = np.full(n, "", dtype=object)
        found[rows] = calibration.predicted_classes(model.tasks, some)
        calibrating = np.where(held_out.calibrating, named["z"].values, np.nan)
        scales = calibration.error_scales(
            refined, found, class_names(named, n), calibrating, data.has_ivar
        )
        bases = {
            key: Basis(basis.loglam0, basis.vectors, **scales[key]) for key, basis in bases.items()
        }
        refined = refine(bases)
    described = {
        key: {k: v for k, v in vars(basis).items() if k != "vectors"}
        for key, basis in bases.items()
    }
    model.config = replace(model.config, templates=described)
    return refined, dict(bases)


def _confidence(
    model: SpectralViT,
    named: Mapping[str, Target],
    held_out: HeldOut,
    refined: Refined,
    n: int,
) -> dict[str, list[float]]:
    """The table of confidences (see `model.confidence`), of the spectra that calibrate."""
    rows = held_out.calibrating
    z = _redshifts(model, held_out.logits, rows, refined)[:, 0]
    wrong, known = calibration.wrong_redshifts(z, class_names(named, n), named["z"].values)
    some = {key: values[rows] for key, values in held_out.logits.items()}
    z_prob = calibration.predicted_redshifts(model.tasks, some, model.config.temperatures).z_prob
    use = known[rows]
    return confidence_table(z_prob[use], wrong[rows][use])


def _write_tables(
    folder: Path,
    data: LabelledSpectra,
    grid: Grid,
    targets: Sequence[Target],
    held_out: HeldOut,
    asked: Sequence[tasks.Task],
    results: Results,
) -> None:
    """``split.ecsv``, and in ``predictions.ecsv`` every prediction that was judged."""
    from astropy.table import Table

    whole = Table({
        "file": data.file, "row": data.row, "object": data.group, "split": held_out.part,
        "ra": data.ra, "dec": data.dec, "content": data.contents(grid),
    })  # fmt: skip
    _write_table(folder / "split.ecsv", whole)
    testing = held_out.testing
    table = whole["file", "row", "object", "split"][testing]
    table["sn_median"] = data.sn[testing].astype(np.float32)
    named = {target.name: target for target in targets}
    for task in asked:
        if task.name not in named:
            continue
        prediction, target = results.predictions[task.name][testing], named[task.name]
        if isinstance(task, tasks.Category):
            names = np.array([*task.labels, ""])
            table[f"{task.name}_label"] = names[target.values[testing]]
            table[task.name] = names[prediction.argmax(axis=1)]
            table[f"{task.name}_prob"] = prediction.max(axis=1).astype(np.float32)
        elif isinstance(task, tasks.Ordered):
            place, error = decoding.decode_type(prediction, [""] * len(prediction))
            table[f"{task.name}_label"] = target.values[testing]
            table[task.name] = np.array(task.labels)[place]
            table[f"{task.name}_err"] = error.astype(np.float32)
        else:
            table[f"{task.name}_label"] = target.values[testing]
            table[task.name] = prediction[:, 0].astype(np.float64)
            table[f"{task.name}_err"] = prediction[:, 1].astype(np.float32)
    _write_table(folder / "predictions.ecsv", table)


def _write_table(path: Path, table: Table) -> None:
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def _draw(
    folder: Path,
    targets: Sequence[Target],
    testing: np.ndarray,
    asked: Sequence[tasks.Task],
    results: Results,
) -> None:
    """Who is taken for whom, and by how much numbers are off."""
    named = {target.name: target for target in targets}
    for task in asked:
        if task.name not in named or isinstance(task, tasks.Ordered):
            continue
        known = testing & named[task.name].known
        prediction, reference = (
            results.predictions[task.name][known],
            named[task.name].values[known],
        )
        if not len(reference):
            continue
        if isinstance(task, tasks.Category):
            path = folder / f"confusion_{task.name}.png"
            plots.confusion(path, task.labels, reference, prediction.argmax(axis=1))
        else:
            plots.residuals(folder / f"residual_{task.name}.png", task.name, reference,
                            prediction[:, 0])  # fmt: skip
