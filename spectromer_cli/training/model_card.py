"""The model card: what the weights were trained on, and their accuracy."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli._version import __version__
from spectromer_cli.accuracy import markdown
from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.paths import atomic_path
from spectromer_cli.training.dataset import LabelledSpectra


def survey_counts(data: LabelledSpectra) -> str:
    """How many spectra each survey has, in one line."""
    surveys = Counter(data.survey.tolist())
    return ", ".join(f"{name or 'unknown'} {count}" for name, count in surveys.most_common())


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
    part: np.ndarray,
    report: Mapping[str, Any],
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
    part : array of str, shape (n,)
        Where each spectrum of the data was.
    report : mapping
        Of the spectra that test, as `accuracy.summary.summarise` gives it.
    settings : mapping
    command : str
        The command line; empty if there is none.
    """
    import timm
    import torch

    first, last = config.grid.wavelength[[0, -1]]
    parts = Counter(part.tolist())
    predicts = "\n".join(_predicts(tasks.from_dict(task)) for task in config.tasks)
    lines = "\n".join(f"- {line}" for line in found)
    learned = "\n".join(f"- {line}" for line in training)
    chosen = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    called = f"\n```\n{command}\n```\n" if command else ""
    accuracy = "\n\n".join(markdown.sections(report, "###"))
    text = f"""# {path.stem}

{description}.

A {config.backbone}, initialised from {origin}, with spectra drawn as `{config.image}`,
{config.tokens}×{config.tokens} patches of 16×16 pixels, {first:.0f} to {last:.0f} Å in
{config.grid.n} pixels. It predicts:

{predicts}

## Data

{lines}
- split by object: {", ".join(f"{name} {count}" for name, count in sorted(parts.items()))} (spectra)

Labels are those of the source. A label that is wrong, but not listed as wrong, counts against the
prediction.

## Training

{learned}

## Accuracy

{testing}

{markdown.NOTES}

{accuracy}

Temperatures: {config.temperatures}. Every tested prediction is in `predictions.ecsv`, the split in
`split.ecsv`, the losses in `metrics.jsonl`.

## Do not use for

Spectra that differ from those above in wavelength range, resolution or kind of object: the weights
were not trained on them. The outlier score flags many of these, but not all.

## Software

spectromer {__version__}, Python {platform.python_version()}, torch
{torch.__version__.split("+")[0]}, timm {timm.__version__}:
{called}
```toml
{chosen}
```
"""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
