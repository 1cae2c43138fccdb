"""Evaluate a model where labels are known: predict, compare, and write the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.inference.columns import is_general
from spectromer_cli.inference.failures import Failures
from spectromer_cli.inference.request import Settings
from spectromer_cli.inference.run import Run
from spectromer_cli.model.device import BATCH_SIZE
from spectromer_cli.outputs.protect import Outputs
from spectromer_cli.paths import atomic_path, claimed, make_folder, require_writable_folder
from spectromer_cli.spectra.loading import Inputs
from spectromer_cli.spectra.readers import ReadOptions

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.evaluation.held_out import HeldOut
    from spectromer_cli.inference.predictor import Spectromer

WRITTEN = ("report.md", "report.json", "report.png", "predictions.ecsv")
# Options that an HDF5 set, which is read whole, has no use for.
FILE_OPTIONS = ("spectra_dir", "air", "wavelength_unit", "workers")


@dataclass
class Evaluation:
    """Predictions with the reference values, and what the report says about them.

    Parameters
    ----------
    report : dict
        As `summary.summarise` gives it, with ``calibration`` and ``baselines`` where there are
        any.
    predictions : Table
        With the reference values beside them, ``<task>_true``.
    failures : Failures
        Of the inputs that have no prediction.
    provenance : dict of str to str
    remarks : list of str
        What the reader must know, one line each.
    """

    report: dict[str, Any]
    predictions: Table = field(repr=False)
    failures: Failures = field(repr=False)
    provenance: dict[str, str]
    remarks: list[str]
    references: dict[str, np.ndarray] = field(repr=False)


def evaluate(
    *,
    catalog: str | Path | None = None,
    data: str | Path | None = None,
    spectra_dir: str | Path | None = None,
    class_column: str | None = None,
    z_column: str | None = None,
    air: bool | None = None,
    wavelength_unit: str = "",
    max_file_size: int | str = "2GB",
    file_timeout: float = 60.0,
    held_out: float | None = None,
    split_seed: int | None = None,
    baselines: Sequence[str] = (),
    baseline_minutes: float = 20.0,
    model: str | Spectromer | None = None,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    refined: bool = True,
    output: str | Path = "report",
    docs: str | Path | None = None,
) -> Evaluation:
    """Compare predictions with the labels of a catalogue or of a labelled set.

    Writes report.md, report.json, report.png and predictions.ecsv.

    Parameters
    ----------
    catalog : path, optional
        A table of targets with their labels; all of them are judged.
    data : path, optional
        A labelled set instead, in any form that fine-tuning takes; only spectra of objects that
        the weights have not learned from are judged.
    spectra_dir, air, wavelength_unit, max_file_size, file_timeout, workers
        As `spectra.loading.Inputs` takes them.
    class_column, z_column : str, optional
        Columns of class and redshift, if they have unusual names.
    held_out, split_seed
        Share of the objects that was held out, and the random seed of the split, for weights
        that do not record them; a share of 1 judges all of a set that they have not seen.
    baselines : sequence of str
        Of `baselines.BASELINES`: trained on the same training split, to compare.
    baseline_minutes : float
        Training time of the specformer in minutes.
    model, device, batch_size, refined
        As `inference.request.Settings` takes them.
    output : path
        Folder.
    docs : path, optional
        The report is also written here, as Markdown.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If the options contradict each other, or there is no label that the model predicts.
    ReadError
        If the data cannot be read.
    """
    if (catalog is None) == (data is None):
        raise UsageError(
            "no labelled spectra given"
            if data is None
            else "--catalog and --data exclude each other",
            "give either --catalog TABLE with labels or --data FILE or DIR",
        )
    if data is None and (baselines or held_out is not None or split_seed is not None):
        raise UsageError(
            "--baseline, --held-out and --split-seed need --data", "give --data FILE or DIR"
        )
    if baselines and held_out == 1.0:
        raise UsageError(
            "--baseline needs spectra to train on, but --held-out 1 leaves none",
            "leave out one of them",
        )
    output, page = Path(output), Path(docs) if docs else None
    if page is not None:
        require_writable_folder(page)
    settings = Settings(model=model, device=device, batch_size=batch_size, refined=refined)
    columns = {"class": class_column, "z": z_column}
    folder = Path(spectra_dir) if spectra_dir else None
    with claimed(output):
        if catalog is not None:
            inputs = Inputs(
                catalog=Path(catalog), spectra_dir=folder, air=air, wavelength_unit=wavelength_unit,
                max_file_size=max_file_size, file_timeout=file_timeout, workers=workers,
            )  # fmt: skip
            found = _on_catalogue(inputs, settings, columns, output, page)
        else:
            assert data is not None
            options = dict(zip(FILE_OPTIONS, (folder, air, wavelength_unit, workers), strict=True))
            reading = ReadOptions(air, wavelength_unit, max_file_size, file_timeout)
            found = _on_labelled_set(
                Path(data), options, reading, settings, columns, held_out, split_seed, baselines,
                baseline_minutes, output, page,
            )  # fmt: skip
        _write(found, output, page)
    return found


# --- on a catalogue -------------------------------------------------------------------------


def _on_catalogue(
    inputs: Inputs,
    settings: Settings,
    columns: Mapping[str, str | None],
    output: Path,
    page: Path | None,
) -> Evaluation:
    """Evaluate all spectra listed in a catalogue."""
    from astropy.table import Table

    from spectromer_cli.accuracy import summary, wrong_labels
    from spectromer_cli.training import dataset, targets

    run = Run(inputs, settings, _written(output, page))
    assert run.catalogue is not None
    stated = run.catalogue.table()
    source = dataset.Source(f"the catalogue {inputs.catalog}", labels=stated,
                            chosen=_chosen(columns))  # fmt: skip
    names = {task.name: source.column(task.name) for task in run.model.tasks}
    labels = {name: np.ma.asarray(stated[column]) for name, column in names.items() if column}
    # The surveys' own subclasses mean something in the light of the survey: see `targets.general`.
    general = {"subclass", "star_type"} if is_general(run.model.tasks) else set()
    known = [task for task in run.model.tasks if task.name not in general]
    found = targets.of_tasks(labels, known, len(stated))
    if not any(target.known.any() for target in found):
        raise UsageError(
            f"{source.how} has no labels of {', '.join(task.name for task in known)}",
            "name the columns with --class-column and --z-column; it has "
            + ", ".join(stated.colnames),
        )
    make_folder(output)
    every = np.arange(len(stated))
    run.catalogue = run.catalogue.with_rows_of(Table(targets.true_columns(found, every)))
    table = run.table()
    references = {target.name: np.asarray(table[f"{target.name}_true"]) for target in found}
    reasons = _without_wrong(table, references)
    report = summary.compare(table, references, known)
    remarks = wrong_labels.remark(reasons)
    return Evaluation(report, table, run.failures, run.provenance, remarks, references)


def _without_wrong(table: Table, references: dict[str, np.ndarray]) -> list[str]:
    """Take out reference values that are known to be wrong, in place; says what is wrong."""
    from spectromer_cli.accuracy import wrong_labels

    survey, key = (np.asarray(table[name]).astype(str) for name in ("survey", "object_id"))
    unknown = {name: "" if values.dtype.kind in "OUS" else np.nan
               for name, values in references.items()}  # fmt: skip
    masked = {
        name: np.ma.MaskedArray(values, mask=np.array([v == "" for v in values], dtype=bool))
        for name, values in references.items()
    }
    found = wrong_labels.wrong(survey, key, np.arange(len(table)), masked)
    rows = list(found)
    for name, values in references.items():
        references[name] = values.copy()
        references[name][rows] = unknown[name]
        table[f"{name}_true"][rows] = unknown[name]
    return list(found.values())


def _written(output: Path, page: Path | None) -> list[Path]:
    """The files of the report."""
    return [*(output / name for name in WRITTEN), *([page] if page else [])]


def _chosen(columns: Mapping[str, str | None]) -> dict[str, str]:
    return {name: column for name, column in columns.items() if column is not None}


# --- on a labelled set ----------------------------------------------------------------------


def _on_labelled_set(
    data: Path,
    options: dict[str, Any],
    reading: ReadOptions,
    settings: Settings,
    columns: Mapping[str, str | None],
    fraction: float | None,
    seed: int | None,
    names: Sequence[str],
    minutes: float,
    output: Path,
    page: Path | None,
) -> Evaluation:
    """Evaluate weights, and baselines, on the part of a labelled set not used in training."""
    from astropy.table import Table, hstack

    from spectromer_cli.accuracy import summary
    from spectromer_cli.evaluation import baselines, cross_calibration, held_out
    from spectromer_cli.outputs.provenance import provenance
    from spectromer_cli.paths import sha256_of
    from spectromer_cli.training import dataset, targets

    source = dataset.find(data, options["spectra_dir"])
    protected = Outputs(_written(output, page))
    protected.refuse_all([data, *(target.path for target in source.targets or ())])
    model = settings.load()
    source.chosen = _chosen(columns)
    if source.spectra is not None:
        given = [f"--{name.replace('_', '-')}" for name in FILE_OPTIONS if options[name]]
        if given:
            raise UsageError(
                f"{data} is an HDF5 set, which takes no {', '.join(given)}",
                "leave these options out",
            )
    general = is_general(model.tasks) and any(source.column(name) for name in ("class", "z"))
    wanted = [task.name for task in model.tasks if source.column(task.name)]
    if general:
        wanted = list(dict.fromkeys([*source.general(), *wanted]))
    spectra = source.read(wanted, model.grid, reading, options["workers"] or 0)
    found = targets.of_tasks(spectra.labels, model.tasks, len(spectra))
    if general:
        learned = targets.general(spectra, model.tasks)
        own = {target.name for target in learned}
        found = [*learned, *(target for target in found if target.name not in own)]
    if not any(target.known.any() for target in found):
        raise UsageError(
            f"{source.how} has no labels of {', '.join(task.name for task in model.tasks)}",
            f"it has {', '.join(source.columns)}",
        )
    split = held_out.hold_out(spectra, found, model.weights, fraction, seed)
    make_folder(output)
    origin = {"data": data.name, "content": _content(data, spectra), "split": split.said}
    failures = Failures()
    table = _predict(model, settings, split, failures)
    rows = np.flatnonzero(split.testing)
    references = targets.references(found, rows)
    others = {
        name: baselines.predictions_of(
            name, split, model.grid, origin=origin, folder=output, minutes=minutes,
            device=model.device,
        )
        for name in names
    }  # fmt: skip
    report = summary.compare(table, references, model.tasks)
    if general and split.training.any() and settings.refined:
        with console.progress("calibration by folds", None):
            report["calibration"] = cross_calibration.cross_calibrate(
                model.network, model.bases, split, model.device
            )
    if others:
        shown = {"sn_median": np.asarray(table["sn_median"]), "survey": np.asarray(table["survey"])}
        report["baselines"] = {
            name: summary.summarise(
                summary.arrays(own, ()) | shown, _without_velocities(references), _labels_of(split)
            )
            for name, own in others.items()
        }
    sha256 = f" (sha256 {sha256_of(data)})" if data.is_file() else ""
    record = provenance(model, data=f"{data.name}{sha256}", **{"held out": split.said})
    remarks = [*split.remarks(), *baselines.remarks(names, minutes)]
    beside = Table(targets.true_columns(found, rows))
    return Evaluation(report, hstack([table, beside]), failures, record, remarks, references)


def _content(data: Path, spectra: Any) -> str:
    """What tells a set from others of the same name."""
    import hashlib

    digest = hashlib.sha256(np.ascontiguousarray(spectra.flux).tobytes())
    for values in spectra.labels.values():
        digest.update("\n".join(map(str, values)).encode())
    return digest.hexdigest()


def _predict(model: Spectromer, settings: Settings, split: HeldOut, failures: Failures) -> Table:
    """Predictions for the held-out spectra, in their order."""
    from itertools import islice

    from spectromer_cli.outputs.formats import stacked

    tables = []
    with console.progress("held-out spectra", int(split.testing.sum())) as advance:
        items = split.data.items(np.flatnonzero(split.testing), model.grid)
        while batch := list(islice(items, settings.batch_size)):
            failures.note(batch)
            tables.append(model.table(batch, settings.refined))
            advance(len(batch))
    return stacked(tables)


def _without_velocities(references: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What baselines are judged by: they learn neither velocities nor subclasses but letters."""
    found = dict(references)
    if "letter" in found:
        found["subclass"] = np.full(len(found["subclass"]), "")
        found["z"] = np.where(found["class"] == "STAR", np.nan, found["z"])
    return found


def _labels_of(split: HeldOut) -> dict[str, Sequence[str]]:
    return {target.name: target.labels for target in split.targets if target.labels}


# --- the report -----------------------------------------------------------------------------


def _write(found: Evaluation, output: Path, docs: Path | None) -> None:
    """The files of the report."""
    from spectromer_cli.accuracy import figures, markdown, summary
    from spectromer_cli.outputs import tables
    from spectromer_cli.outputs.plotting import save_figure

    with tables.open_writer(output / "predictions.ecsv", found.provenance) as writer:
        writer.write(found.predictions)
    n = len(found.predictions)
    sheet = figures.sheet(
        found.report,
        summary.arrays(found.predictions, ()),
        found.references.get("class", np.full(n, "")),
        found.references.get("z", np.full(n, np.nan)),
    )
    save_figure(sheet, output / "report.png")
    document = json.dumps({"provenance": found.provenance, **found.report}, indent=2)
    others = found.report.get("baselines", {})
    text = markdown.markdown(found.report, found.provenance, others, found.remarks)
    files = {
        output / "report.json": document + "\n",
        output / "report.md": f"{text}\n![figures](report.png)\n",
    }
    if docs is not None:
        files[docs] = text
    for path, content in files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
