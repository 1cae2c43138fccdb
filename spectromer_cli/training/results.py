"""What a fine-tuning leaves: calibrated weights, a card, figures, and every judged answer."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from spectromer_cli._version import __version__
from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.model.confidence import confidence_table
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.novelty import ReferenceSet
from spectromer_cli.paths import atomic_path
from spectromer_cli.training import fit, journal, plots, scores, split
from spectromer_cli.training.calibration import best_temperature
from spectromer_cli.weights.save import write_weights

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.training.plan import Origin, Plan, Settings

# Spectra whose features tell what is familiar.
FAMILIAR_SPECTRA = 2000
# Fewer judged redshifts make no table of confidences.
MIN_CONFIDENCE = 50


def write(
    model: SpectralViT,
    run: fit.Run,
    plan: Plan,
    origin: Origin,
    settings: Settings,
    done: fit.Done,
    *,
    found: list[str],
    command: str,
) -> dict[str, float]:
    """Calibrate, judge and write everything into the run's folder.

    Parameters
    ----------
    model : SpectralViT
        The final one.
    run, plan, origin, settings, done
        See `training.finetune`.
    found : list of str
        What was found in the data.
    command : str
        The command line.

    Returns
    -------
    dict
        Figures by ``<target>_<figure>`` (see `training.scores.score`).
    """
    everything = np.ones(len(run.data), dtype=bool)
    calibrating = everything if plan.folds else plan.part == split.VALIDATION
    judging = everything if plan.folds else plan.part == split.TEST
    temperatures, answers = {}, {}
    figures: dict[str, float] = {}
    confidence: dict[str, list[float]] = {}
    for task, target in zip(model.tasks, run.targets, strict=True):
        logits = torch.from_numpy(done.logits[task.name])
        truth = torch.from_numpy(target.values)
        truth = truth if target.labels else truth.float()
        temperatures[task.name] = best_temperature(task, logits[calibrating], truth[calibrating])
        answer = task.answer(task.temper(logits, temperatures[task.name])).numpy()
        if isinstance(task, tasks.Redshift):
            known = np.isfinite(answer[:, 0])
            z = decoding.decode_redshift(task, answer[known], np.zeros(known.sum(), dtype=bool))
            answer = np.full((len(known), 2), np.nan)
            answer[known] = np.stack([z.z, z.z_err], axis=1)
            judged = judging[known] & np.isfinite(target.values[known])
            if judged.sum() >= MIN_CONFIDENCE:
                off = np.abs(z.z - target.values[known]) / (1.0 + target.values[known])
                confidence = confidence_table(z.z_prob[judged], off[judged] > 0.01)
        answers[task.name] = answer
        own = scores.score(task, answer[judging], target.values[judging])
        figures |= {f"{task.name}_{name}": value for name, value in own.items()}
    model.config = replace(model.config, temperatures=temperatures, confidence=confidence)
    tensors = {**model.state_dict(), **_familiar(model, run, calibrating)}
    if origin.templates and _keeps_templates(run):
        model.config = replace(model.config, templates=origin.config.templates)
        tensors |= origin.templates
    name = re.sub(r"[^A-Za-z0-9._-]", "-", run.output.resolve().name).strip("._-") or "mine"
    name = f"{name}.v1"
    entry = {
        "licence": "the user's",
        "description": f"fine-tuned from {origin.said} for {', '.join(answers)}",
        "trained_on": f"{len(run.data)} spectra of the user's",
    }
    write_weights(run.output, name, tensors, model.config, entry)
    _write_tables(run, plan, answers, judging, model.tasks)
    _draw(run, answers, judging, model.tasks)
    text = _card(name, model, plan, origin, settings, figures, found, command)
    with atomic_path(run.output / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return figures


def _keeps_templates(run: fit.Run) -> bool:
    """Whether redshifts can still be refined: the classes have templates."""
    labels = {target.name: target.labels for target in run.targets}
    return "z" in labels and "class" in labels and set(labels["class"]) <= set(taxonomy.CLASSES)


def _familiar(model: SpectralViT, run: fit.Run, held_out: np.ndarray) -> dict[str, torch.Tensor]:
    """What tells spectra that are unlike the user's (see `model.novelty`)."""
    rng = np.random.default_rng(0)
    learned = np.flatnonzero(~held_out) if not held_out.all() else np.arange(len(held_out))
    some = rng.choice(learned, size=min(FAMILIAR_SPECTRA, len(learned)), replace=False)
    class_ = next((t.values for t in run.targets if t.labels), np.zeros(len(held_out), dtype=int))
    known = ReferenceSet.learn(
        run.features(model, some), class_[some], run.features(model, np.flatnonzero(held_out))
    )
    return {
        f"familiar.{name}": torch.from_numpy(values.astype(np.float32))
        for name, values in vars(known).items()
    }


def _write_tables(
    run: fit.Run,
    plan: Plan,
    answers: dict[str, np.ndarray],
    judging: np.ndarray,
    asked: list[tasks.Task],
) -> None:
    """``split.ecsv``, and in ``predictions.ecsv`` every answer that was judged."""
    from astropy.table import Table

    data = run.data
    if plan.folds:
        part = [f"fold {number + 1}" for number in plan.part]
    else:
        part = [split.NAMES[number] for number in plan.part]
    whole = Table({"file": data.file, "row": data.row, "object": data.group, "split": part})
    _write_table(run, whole, "split.ecsv")
    table = whole[judging]
    table["sn_median"] = data.sn[judging].astype(np.float32)
    for task, target in zip(asked, run.targets, strict=True):
        answer = answers[task.name][judging]
        if isinstance(task, tasks.Category):
            names = np.array([*task.labels, ""])
            table[f"{task.name}_label"] = names[target.values[judging]]
            table[task.name] = names[answer.argmax(axis=1)]
            table[f"{task.name}_prob"] = answer.max(axis=1).astype(np.float32)
        else:
            table[f"{task.name}_label"] = target.values[judging]
            table[task.name] = answer[:, 0].astype(np.float64)
            table[f"{task.name}_err"] = answer[:, 1].astype(np.float32)
    _write_table(run, table, "predictions.ecsv")


def _write_table(run: fit.Run, table: Table, name: str) -> None:
    with atomic_path(run.output / name) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)


def _draw(
    run: fit.Run, answers: dict[str, np.ndarray], judging: np.ndarray, asked: list[tasks.Task]
) -> None:
    lines = (run.output / journal.METRICS).read_text(encoding="utf-8").splitlines()
    plots.learning_curves(run.output / "learning.png", [json.loads(line) for line in lines])
    for task, target in zip(asked, run.targets, strict=True):
        known = judging & target.known
        answer, truth = answers[task.name][known], target.values[known]
        if not len(truth):
            continue
        if isinstance(task, tasks.Category):
            path = run.output / f"confusion_{task.name}.png"
            plots.confusion(path, task.labels, truth, answer.argmax(axis=1))
        else:
            path = run.output / f"residual_{task.name}.png"
            plots.residuals(path, task.name, truth, answer[:, 0])


def _card(
    name: str,
    model: SpectralViT,
    plan: Plan,
    origin: Origin,
    settings: Settings,
    figures: dict[str, float],
    found: list[str],
    command: str,
) -> str:
    import timm

    config = model.config
    rows = "\n".join(
        f"| {key} | {value:g} | "
        + (
            f"{figures[f'{key}_low']:g} to {figures[f'{key}_high']:g} |"
            if f"{key}_low" in figures
            else " |"
        )
        for key, value in figures.items()
        if not key.endswith(("_low", "_high"))
    )
    judged = (
        f"Every object was judged by a fit that had not seen it ({plan.folds} folds by object); "
        "the weights here learned from all of them. Temperatures were fitted on the same answers."
        if plan.folds
        else "Objects were split once: training, validation (early stopping, temperatures), and "
        "the test split that these figures are of."
    )
    asked = "\n".join(f"- {_told(task)}" for task in model.tasks)
    seen = "\n".join(f"- {line}" for line in found)
    first, last = config.grid.wavelength[[0, -1]]
    settings_text = "\n".join(f"{k} = {v!r}" for k, v in asdict(settings).items())
    return f"""# {name}

A {config.backbone} that started from {origin.said} and sees a spectrum as `{config.image}`,
{config.tokens}×{config.tokens} patches, {first:.0f} to {last:.0f} Å in {config.grid.n} pixels.
It answers:

{asked}

## Data

{seen}

## How it was judged

{plan.said}. {judged}

| figure | value | 68 % of bootstrap resamples |
| --- | --- | --- |
{rows}

Temperatures: {config.temperatures}. Every judged answer is in `predictions.ecsv`, the split in
`split.ecsv`, the losses in `metrics.jsonl`.

## Made with

spectromer {__version__}, Python {platform.python_version()}, torch
{torch.__version__.split("+")[0]}, timm {timm.__version__}:

```
{command}
```

```
{settings_text}
```
"""


def _told(task: tasks.Task) -> str:
    if isinstance(task, tasks.Category):
        return f"{task.name}: {', '.join(task.labels)}"
    if isinstance(task, tasks.Quantity):
        return f"{task.name}: a number with its error, about {task.centre:g} ± {task.scale:g}"
    return f"{task.name}: redshift"
