"""After the last step: calibrate on held-out spectra, judge, write weights, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table

from spectromer_cli.accuracy import calibration, figures, summary
from spectromer_cli.inference.columns import column_of, redshift_task, table_of
from spectromer_cli.model import tasks
from spectromer_cli.model.confidence import confidence_table
from spectromer_cli.model.decoding import Predictions, RedshiftPrediction
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.novelty import Novelty
from spectromer_cli.model.novelty import to_arrays as novelty_arrays
from spectromer_cli.model.template_fit import Basis, to_arrays
from spectromer_cli.paths import atomic_path
from spectromer_cli.simulation.outliers import draw_many
from spectromer_cli.simulation.spectrographs import taken_elsewhere
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.loop import novelty_features
from spectromer_cli.training.targets import Target, references, true_columns
from spectromer_cli.weights.save import write_weights

# Known spectra that the novelty score is learned from: so many as they are, and so many as batches
# change them, with as many outliers as these.
REFERENCE_SPECTRA = 2000
PREDICTIONS, SPLIT = "predictions.ecsv", "split.ecsv"

Logits = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class HeldOutLogits:
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

    def of(self, rows: np.ndarray) -> Logits:
        """The logits of some rows."""
        return {name: values[rows] for name, values in self.logits.items()}


def export(
    model: SpectralViT,
    data: LabelledSpectra,
    targets: Sequence[Target],
    held_out: HeldOutLogits,
    *,
    folder: Path,
    name: str,
    entry: Mapping[str, Any],
    batches: Batches,
    device: torch.device,
    bases: Mapping[str, Basis],
    fit_errors: bool = True,
    extra: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Calibrate trained weights, judge them, and write them with their manifest entry.

    Parameters
    ----------
    model : SpectralViT
        Trained; its configuration is filled in.
    data : LabelledSpectra
    targets : sequence of Target
    held_out : HeldOutLogits
    folder : Path
    name : str
        Of the weights.
    entry : mapping
        For the manifest (see `weights.save.write_weights`).
    batches : Batches
        What was learned from: they tell what is not novel.
    device : torch.device
    bases : mapping of str to Basis
        Templates for redshifts, by class.
    fit_errors : bool
        Fit the scales of their errors.
    extra : mapping of str to array, optional
        Further tensors for the file.

    Returns
    -------
    dict
        The report on the spectra that test (see `accuracy.summary.summarise`).
    """
    rows = np.flatnonzero(held_out.calibrating)
    tensors = {target.name: target.tensor(rows) for target in targets}
    temperatures = calibration.fit_temperatures(model.tasks, held_out.of(rows), tensors)
    # Tasks without targets were calibrated before.
    model.config = replace(model.config, temperatures={**model.config.temperatures, **temperatures})
    rows = np.flatnonzero(held_out.calibrating | held_out.testing)
    flux, ivar = data.take(rows).on_grid(model.config.grid)
    redshift = None
    if redshift_task(model.tasks) is not None:
        redshift, bases = _redshifts(
            model, data, targets, held_out, rows, flux, ivar, bases, fit_errors
        )
    calibrating = held_out.calibrating[rows]
    novelty = learn_novelty(model, batches, flux[calibrating], ivar[calibrating], device)
    scores = novelty.score(novelty_features(model, flux, ivar, device))
    write_weights(
        folder, name,
        {
            **model.state_dict(),
            **{key: torch.from_numpy(values) for key, values in to_arrays(bases).items()},
            **{
                key: torch.from_numpy(values)
                for key, values in {**novelty_arrays(novelty), **(extra or {})}.items()
            },
        },
        model.config, entry,
    )  # fmt: skip
    table = predictions(model, data, held_out.of(rows), rows, redshift=redshift, novelty=scores)
    table["split"] = held_out.part[rows]
    table = table[held_out.testing[rows]]
    rows = rows[held_out.testing[rows]]
    for column, values in true_columns(targets, rows).items():
        table[column] = values
    _write_table(folder / PREDICTIONS, table)
    whole = Table({
        "file": data.file, "row": data.row, "object": data.group, "split": held_out.part,
        "ra": data.ra, "dec": data.dec, "content": data.contents(model.config.grid),
    })  # fmt: skip
    _write_table(folder / SPLIT, whole)
    _draw(folder, targets, model.tasks, table)
    return summary.compare(table, references(targets, rows), model.tasks)


def predictions(
    model: SpectralViT,
    data: LabelledSpectra,
    logits: Logits,
    rows: np.ndarray,
    *,
    redshift: RedshiftPrediction | None = None,
    novelty: np.ndarray | None = None,
) -> Table:
    """The table of results, from logits.

    Parameters
    ----------
    model : SpectralViT
        Gives the tasks and their temperatures.
    data : LabelledSpectra
    logits : mapping of str to Tensor, shapes (k, task.size)
        Of `rows`.
    rows : array of int, shape (k,)
    redshift : RedshiftPrediction, optional
        Of `rows`; by default what p(z) says.
    novelty : array, shape (k,), optional
        Scores of `rows`; unknown by default.

    Returns
    -------
    astropy.table.Table
        As `inference.columns.table_of` makes it.
    """
    temperatures = model.config.temperatures
    outputs = tasks.calibrated(model.tasks, logits, temperatures)
    if redshift is None and redshift_task(model.tasks) is not None:
        redshift = calibration.predicted_redshifts(model.tasks, logits, temperatures)
    scores = np.full(len(rows), np.nan) if novelty is None else novelty
    found = Predictions(np.arange(len(rows)), outputs, scores, redshift)
    return table_of(list(data.items(rows, model.config.grid)), found, model.tasks)


def _redshifts(
    model: SpectralViT,
    data: LabelledSpectra,
    targets: Sequence[Target],
    held_out: HeldOutLogits,
    rows: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    bases: Mapping[str, Basis],
    fit_errors: bool,
) -> tuple[RedshiftPrediction, Mapping[str, Basis]]:
    """Redshifts of held-out rows by template fits; the templates with their error scales.

    Templates and the table of confidences (see `model.confidence`) go into the model's
    configuration.
    """
    logits = held_out.of(rows)
    classes = calibration.predicted_classes(model.tasks, logits)
    proposed = calibration.predicted_redshifts(model.tasks, logits, model.config.temperatures)
    refined = calibration.refined_redshifts(proposed, classes, flux, ivar, bases, model.config.grid)
    true = references(targets, rows)
    class_true = true.get("class", np.full(len(rows), ""))
    z_true = np.where(held_out.calibrating[rows], true.get("z", np.nan), np.nan)
    if fit_errors:
        scales = calibration.error_scales(refined, classes, class_true, z_true, data.has_ivar[rows])
        bases = {key: basis.rescaled(**scales[key]) for key, basis in bases.items()}
        refined = refined.rescaled(bases, classes.tolist())
    described = {key: basis.described() for key, basis in bases.items()}
    found = refined.merged(proposed, classes == "STAR")
    model.config = replace(model.config, templates=described)
    if "z" in true:
        wrong, known = calibration.wrong_redshifts(found.z, class_true, z_true)
        table = confidence_table(found.z_prob[known], wrong[known])
        model.config = replace(model.config, confidence=table)
    return found, bases


def learn_novelty(
    model: SpectralViT,
    batches: Batches,
    flux: np.ndarray,
    ivar: np.ndarray,
    device: torch.device,
) -> Novelty:
    """Learn the novelty score from training spectra and synthetic outliers.

    Parameters
    ----------
    model : SpectralViT
    batches : Batches
        What was learned from; as it is, and as batches change it, it is known.
    flux, ivar : array, shape (n, grid.n)
        Good held-out spectra: their scores set the limit, as they are and, where batches are, as
        other spectrographs would have taken them.
    device : torch.device

    Returns
    -------
    Novelty
    """
    rng = np.random.default_rng(batches.seed)
    count = min(REFERENCE_SPECTRA, len(batches.rows))
    some = rng.choice(len(batches.rows), size=count, replace=False)
    changed = [batches[step] for step in range(min(-(-count // batches.batch_size), len(batches)))]
    known = [(batches.flux[some], batches.ivar[some])]
    known += [(batch["flux"].numpy(), batch["ivar"].numpy()) for batch in changed]
    elsewhere = 0.6 if batches.elsewhere else 0.0
    outliers = draw_many(rng, 2 * count, batches.flux, batches.ivar, batches.grid, elsewhere)
    judged = [(flux, ivar)]
    if batches.elsewhere:
        pairs = [taken_elsewhere(rng, *pair, batches.grid) for pair in zip(flux, ivar, strict=True)]
        judged += [(np.array([f for f, _ in pairs]), np.array([i for _, i in pairs]))]

    def features(sets: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.concatenate([novelty_features(model, *each, device) for each in sets])

    return Novelty.learn(features(known), features([outliers]), features(judged))


def _write_table(path: Path, table: Table) -> None:
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def _draw(
    folder: Path, targets: Sequence[Target], known: Sequence[tasks.Task], table: Table
) -> None:
    """Who is taken for whom, and by how much numbers are off."""
    for task in known:
        name = f"{task.name}_true"
        if name not in table.colnames or isinstance(task, tasks.Ordered):
            continue
        found, true = np.asarray(table[column_of(task)]), np.asarray(table[name])
        if isinstance(task, tasks.Category):
            figures.confusion(folder / f"confusion_{task.name}.png", task.labels, true, found)
            continue
        both = np.isfinite(found) & np.isfinite(true)
        if both.any():
            figures.residuals(
                folder / f"residual_{task.name}.png", task.name, true[both], found[both]
            )
