"""The work of `spectromer evaluate`: ask, put the truth beside the answers, judge, write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.inference import run
from spectromer_cli.inference.failures import Failures
from spectromer_cli.paths import atomic_path, make_folder

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table

    from spectromer_cli.evaluation.held_out import Split
    from spectromer_cli.inference.predictor import Spectromer


@dataclass(frozen=True)
class HeldOut:
    """The options of a labelled set; their names and meanings are those of the command."""

    data: Path | None
    fraction: float | None
    seed: int | None
    baseline: str | None
    minutes: float


@dataclass
class Judged:
    """Answers with the truth beside them, and what the report says about them."""

    model: Spectromer
    answers: Table
    details: Mapping[str, np.ndarray] | None = None
    baselines: dict[str, Table] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def check(request: run.Request, truth: HeldOut) -> None:
    """Refuse options that make no sense together."""
    if truth.data is None:
        if request.catalog is None:
            raise UsageError(
                "nothing to evaluate on", "give --catalog TABLE with the truth, or --data FILE"
            )
        if truth.baseline or truth.fraction is not None or truth.seed is not None:
            raise UsageError(
                "--baseline, --held-out and --split-seed go with --data", "give --data FILE"
            )
    elif request.catalog is not None:
        raise UsageError("--catalog and --data exclude each other", "give one of them")
    if truth.baseline:
        from spectromer_cli.evaluation import baselines

        baselines.parse(truth.baseline)


def _load(request: run.Request) -> Spectromer:
    """The model, which must know stars, galaxies and quasars."""
    from spectromer_cli.inference import columns
    from spectromer_cli.inference.predictor import load_model

    model = load_model(request.model, request.device)
    if not columns.is_general(model.network.tasks):
        known = ", ".join(task.name for task in model.network.tasks)
        raise UsageError(
            f"only weights for stars, galaxies and quasars can be judged; these know {known}",
            "choose another --model",
        )
    return model


def _wanted() -> tuple[str, ...]:
    from spectromer_cli.inference.columns import CLASSIFY_COLUMNS, REDSHIFT_COLUMNS

    return tuple(dict.fromkeys(CLASSIFY_COLUMNS + REDSHIFT_COLUMNS))


def of_catalogue(
    request: run.Request,
    class_column: str | None,
    z_column: str | None,
    output: Path,
    failed: Failures,
) -> Judged:
    """Answers for the spectra that a catalogue names."""
    from astropy.table import Table

    from spectromer_cli.spectra.truth import find_truth, truth_of

    targets, catalogue, total = run.targets_of(request)
    assert catalogue is not None
    columns = find_truth(catalogue.colnames, class_column, z_column)
    class_true, z_true = truth_of(catalogue, *columns)
    model = _load(request)
    make_folder(output)
    truth = Table({"class_true": class_true, "z_true": z_true})
    chunks = run.chunks_of(request, _wanted(), model, targets, truth, total, failed)
    return Judged(model, run.stack(list(chunks)), provenance=run.provenance_of(model))


def of_held_out(request: run.Request, truth: HeldOut, output: Path, failed: Failures) -> Judged:
    """Answers for the held-out part of a labelled set, and those of the baselines."""
    import hashlib

    from astropy.table import hstack

    from spectromer_cli.evaluation import baselines, cross_calibration, held_out

    assert truth.data is not None
    model = _load(request)
    chosen = held_out.choose_split(model.config.split, truth.fraction, truth.seed)
    if truth.baseline and chosen["fraction"] == 1.0:
        raise UsageError(
            "--baseline needs spectra to train on, and --held-out 1 leaves none",
            "leave out one of them",
        )
    split = held_out.load_split(truth.data, chosen)
    make_folder(output)
    with truth.data.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    answers = run.stack(list(_answers(request, model, split, truth.data, failed)))
    names = baselines.parse(truth.baseline) if truth.baseline else []
    others = {
        name: baselines.answers_of(
            name, split, model.grid, origin={"data_sha256": sha256, "split": chosen},
            folder=output, minutes=truth.minutes, device=model.device,
        )
        for name in names
    }  # fmt: skip
    provenance = {
        **run.provenance_of(model),
        "data": f"{truth.data.name} (sha256 {sha256})",
        "held out": f"{chosen['fraction']:g} of the objects, seed {chosen['seed']:g}",
    }
    judged = Judged(
        model,
        hstack([answers, held_out.truth_table(split.held_out)]),
        held_out.details_of(split.held_out),
        others,
        provenance=provenance,
        remarks=[*held_out.remarks(split), *baselines.remarks(names, truth.minutes)],
    )
    if len(split.training) and request.refined:
        with console.progress("calibration by folds", None):
            judged.calibration = cross_calibration.crossfit(
                model.network, model.bases, split.held_out, model.device
            )
    return judged


def _answers(
    request: run.Request,
    model: Spectromer,
    split: Split,
    path: Path,
    failed: Failures,
) -> Iterator[Table]:
    """Tables of answers, batch by batch, in the order of the held-out spectra."""
    from itertools import islice

    from spectromer_cli.evaluation import held_out

    items = held_out.items_of(split, path, model.grid)
    with console.progress("held-out spectra", len(split.rows)) as advance:
        while batch := list(islice(items, request.batch_size)):
            failed.note(batch)
            yield model.answer(batch, request.refined)[list(_wanted())]
            advance(len(batch))


def write(judged: Judged, output: Path, docs: Path | None) -> dict[str, Any]:
    """Judge, and write the files of the report."""
    from spectromer_cli.evaluation import markdown, plots
    from spectromer_cli.outputs import plotting, tables

    result, others = _judge(judged)
    arrays = _arrays(judged.answers)
    with tables.open_writer(output / "answers.ecsv", judged.provenance) as writer:
        writer.write(judged.answers)
    sheet = plots.figures(result, arrays, arrays["class_true"], arrays["z_true"])
    plotting.save_figure(sheet, output / "report.png")
    whole = {**result, **({"baselines": others} if others else {})}
    document = json.dumps({"provenance": judged.provenance, **whole}, indent=2)
    text = markdown.markdown(result, judged.provenance, others, judged.remarks)
    files = {
        output / "report.json": document + "\n",
        output / "report.md": f"{text}\n![figures](report.png)\n",
    }
    if docs is not None:
        files[docs] = text
    for path, content in files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return whole


def _judge(judged: Judged) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of the model, and those of the baselines by their names."""
    import numpy as np

    from spectromer_cli.evaluation import summary as evaluation

    arrays = _arrays(judged.answers)
    class_true, z_true = arrays["class_true"], arrays["z_true"]
    result = evaluation.evaluate(arrays, class_true, z_true, judged.details)
    if judged.calibration:
        result["calibration"] = judged.calibration
    others = {}
    # Nor do they learn subclasses of galaxies and quasars.
    details = {k: v for k, v in (judged.details or {}).items() if k != "subclass"}
    for name, table in judged.baselines.items():
        own = {**_arrays(table), "sn_median": arrays["sn_median"], "survey": arrays["survey"]}
        # The baselines learn no radial velocities.
        far = np.where(class_true == "STAR", np.nan, z_true)
        others[name] = evaluation.evaluate(own, class_true, far, details)
    return result, others


def _arrays(table: Table) -> dict[str, np.ndarray]:
    import numpy as np

    return {name: np.asarray(table[name]) for name in table.colnames}
