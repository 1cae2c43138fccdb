"""The model card: what the weights were made from and how well they do, beside the weights."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectromer_cli._version import __version__
from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.paths import atomic_path
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.export import HeldOut, Results

# What the ends of the figures' names mean (see `metrics`).
MEANING = {
    "accuracy": "label right",
    "mean_recall": "recall, mean over the labels",
    "ece": "expected calibration error",
    "right": "right",
    "within_one": "within one (letter, or tenth of a letter)",
    "within_sigma": "within its error",
    "mean_error": "mean error, tenths of a letter",
    "nmad": "NMAD of Δz/(1+z)",
    "bias": "median error (of z: Δz/(1+z))",
    "outliers_1000kms": "|Δv| > 1000 km/s",
    "outliers_0.01": "|Δz|/(1+z) > 0.01",
    "outliers_0.05": "|Δz|/(1+z) > 0.05",
    "r2": "R²",
    "r2_without_worst": "R² without the worst one",
    "scatter": "1.4826 · median |error|",
    "pull": "robust width of error over its estimate",
    "n": "spectra",
}


def survey_counts(data: LabelledSpectra) -> str:
    """How many spectra each survey has, in one line."""
    surveys = Counter(data.survey.tolist())
    return ", ".join(f"{name or 'unknown'} {count}" for name, count in surveys.most_common())


def _meaning(name: str) -> str:
    """A figure's name in words: the task, and what is measured."""
    if name.startswith("vit_"):
        return f"{_meaning(name.removeprefix('vit_'))}, before refinement"
    for end in sorted(MEANING, key=len, reverse=True):
        if name.endswith(f"_{end}"):
            return f"{name.removesuffix(f'_{end}')}: {MEANING[end]}"
    task, _, label = name.partition("_recall_")
    return f"{task}: recall of {label}" if label else name


def _figures(results: Results) -> str:
    figures = results.figures
    rows = ["| figure | value | 68 % interval |", "| --- | --- | --- |"]
    for key, value in figures.items():
        if key.endswith(("_low", "_high")):
            continue
        interval = (
            f"{figures[f'{key}_low']:g} to {figures[f'{key}_high']:g}"
            if f"{key}_low" in figures
            else ""
        )
        meaning = _meaning(key).replace("|", "\\|")
        rows.append(f"| {meaning} | {value:g} | {interval} |")
    return "\n".join(rows)


def _parts(results: Results) -> str:
    """The spectra by survey and class, and how well those that were held out do."""
    head = ["survey", "class", "spectra", "tested", "class right", "NMAD of z",
            "z off by > 0.01 (1+z)"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for row in results.by_part:
        z = row.get("z", {})
        cells = [row["survey"] or "unknown", row["class"], row["spectra"], row["judged"],
                 row["recall"], z.get("nmad"), z.get("outliers_0.01")]  # fmt: skip
        lines.append([_cell(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _predicts(task: tasks.Task) -> str:
    if isinstance(task, tasks.Ordered):
        return f"- {task.name}: {task.labels[0]} to {task.labels[-1]}"
    if isinstance(task, tasks.Category):
        return f"- {task.name}: {', '.join(task.labels)}"
    if isinstance(task, tasks.Quantity):
        centre, scale = (10**task.centre, "") if task.log else (task.centre, f" ± {task.scale:g}")
        return f"- {task.name}: a number with its error, about {centre:.4g}{scale}"
    return f"- {task.name}: redshift"


def write_card(
    path: Path,
    *,
    config: ModelConfig,
    description: str,
    origin: str,
    found: Sequence[str],
    training: Sequence[str],
    testing: str,
    held_out: HeldOut,
    results: Results,
    settings: Mapping[str, Any],
    command: str,
) -> None:
    """Write a card as Markdown.

    Parameters
    ----------
    path : Path
        Beside the weights; its stem is their name.
    config : ModelConfig
        Of the weights, filled in.
    description : str
        One line for people.
    origin : str
        What the weights started from.
    found : sequence of str
        What was found in the data, one line each.
    training : sequence of str
        How long what was learned from, and what was not done, one line each.
    testing : str
        How the figures were obtained.
    held_out : HeldOut
    results : Results
    settings : mapping
    command : str
        The command line; empty if there is none.
    """
    import timm
    import torch

    first, last = config.grid.wavelength[[0, -1]]
    parts = Counter(held_out.part.tolist())
    predicts = "\n".join(_predicts(tasks.from_dict(task)) for task in config.tasks)
    lines = "\n".join(f"- {line}" for line in found)
    learned = "\n".join(f"- {line}" for line in training)
    chosen = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    called = f"\n```\n{command}\n```\n" if command else ""
    by_part = f"\n{_parts(results)}\n" if results.by_part else ""
    text = f"""# {path.stem}

{description}.

A {config.backbone} that started from {origin} and sees a spectrum as `{config.image}`,
{config.tokens}×{config.tokens} patches of 16×16 pixels, {first:.0f} to {last:.0f} Å in
{config.grid.n} pixels. It predicts:

{predicts}

## Data

{lines}
- split by object: {", ".join(f"{name} {count}" for name, count in sorted(parts.items()))} (spectra)

Labels are those of the source; some of them are wrong, and count against the prediction all the
same.

## Training

{learned}

## Accuracy

{testing}

{_figures(results)}
{by_part}
Temperatures: {config.temperatures}. Every tested prediction is in `predictions.ecsv`, the split in
`split.ecsv`, the losses in `metrics.jsonl`.

## Do not use it for

Spectra unlike those above in wavelength range, resolution or kind of object: the weights have not
seen them. The outlier score flags many of these, not all.

## Made with

spectromer {__version__}, Python {platform.python_version()}, torch
{torch.__version__.split("+")[0]}, timm {timm.__version__}:
{called}
```toml
{chosen}
```
"""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
