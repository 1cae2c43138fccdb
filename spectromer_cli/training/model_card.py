"""The model card: what went in and what came out, written beside the weights."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli._version import __version__
from spectromer_cli.model import taxonomy
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.recipe import Recipe

if TYPE_CHECKING:
    from spectromer_cli.model.config import ModelConfig

MEANING = {
    "n": "spectra with a class that was held out",
    "class_accuracy": "class right",
    "class_ece": "expected calibration error of the class probability",
    "recall_STAR": "stars found",
    "recall_GALAXY": "galaxies found",
    "recall_QSO": "quasars found",
    "type_accuracy": "letter of the stars' spectral type right",
    "z_outliers": "galaxies and quasars with |Δz|/(1+z) > 0.01",
    "z_nmad": "1.4826 · median |Δz|/(1+z) of galaxies and quasars",
    "z_r2": "R² of z over galaxies and quasars",
    "star_type_error": "mean error of the stars' types, in tenths of a letter",
    "star_type_within_1": "stars' types right to one tenth of a letter",
    "teff_scatter": "scatter of Teff about LASP's, K",
    "logg_scatter": "scatter of log g about LASP's, dex",
    "feh_scatter": "scatter of [Fe/H] about LASP's, dex",
    "teff_pull": "robust width of Teff's error over its estimate",
    "logg_pull": "robust width of log g's error over its estimate",
    "feh_pull": "robust width of [Fe/H]'s error over its estimate",
    "rv_scatter_LAMOST": "scatter of the radial velocity against LAMOST at S/N > 20, km/s",
}
# What figures of one class and survey begin with.
OF_PART = {
    "z_outliers_": "|Δz|/(1+z) > 0.01",
    "z_nmad_": "1.4826 · median |Δz|/(1+z)",
    "z_1000kms_": "|Δv| > 1000 km/s",
    "recall_": "class right",
}


def trained_on(real: LabelledSpectra, recipe: Recipe) -> str:
    """One line for the manifest."""
    surveys = Counter(real.survey)
    counts = ", ".join(f"{name} {count}" for name, count in surveys.most_common())
    share = f"{recipe.simulated_share:.0%} of every batch simulated"
    return f"{len(real)} real spectra ({counts}); {share}"


def _meaning(name: str) -> str:
    """A figure's name in words."""
    if name.startswith("vit_"):
        return f"{_meaning(name.removeprefix('vit_'))}, before refinement"
    if name in MEANING:
        return MEANING[name]
    for start, words in OF_PART.items():
        if name.startswith(start):
            return f"{name.removeprefix(start).replace('_', ', ')}: {words}"
    return name


def card(
    recipe: Recipe,
    config: ModelConfig,
    real: LabelledSpectra,
    validation: LabelledSpectra,
    figures: dict[str, float],
    state: dict[str, Any],
    start: str,
) -> str:
    """The card as Markdown.

    Parameters
    ----------
    recipe, config
        How the weights were made and what they need.
    real, validation : LabelledSpectra
        The two sides of the split.
    figures : dict
        As `validate.figures` gives them.
    state : dict
        Steps and seconds of the run.
    start : str
        What the backbone started from.

    Returns
    -------
    str
    """
    import timm
    import torch

    pairs = Counter(zip(real.class_, real.survey, strict=True))
    held = Counter(zip(validation.class_, validation.survey, strict=True))
    rows = "\n".join(
        f"| {survey} | {taxonomy.CLASSES[number]} | {count} | {held[(number, survey)]} |"
        for (number, survey), count in sorted(pairs.items(), key=lambda item: -item[1])
    )
    lines = "\n".join(f"| {_meaning(name)} | {value:g} |" for name, value in figures.items())
    settings = "\n".join(f"{name} = {value!r}" for name, value in asdict(recipe).items())
    return f"""# {recipe.name}

{recipe.description}.

A {config.backbone} that started from `{start}` and sees a spectrum as
`{config.image}`, {config.tokens}×{config.tokens} patches of 16×16 pixels, log10 λ from
{config.grid.loglam0} in {config.grid.n} steps of {config.grid.dloglam:g}. Temperatures:
{config.temperatures}.

## What went in

{state["step"]} batches of {recipe.batch_size} spectra in {state["seconds"] / 60:.0f} minutes;
{recipe.simulated_share:.0%} of every batch simulated, the rest real. Real spectra, after a split by
object ({recipe.validation_fraction:.0%} of the objects held out, seed {recipe.split_seed}):

| survey | class | trained on | held out |
| --- | --- | --- | --- |
{rows}

Labels are the surveys' own; those with a warning are left out. Spectral types of SDSS are
those of the best template, not of an eye: some are wrong.

## What came out

On the held-out objects, all {int(figures["n"])} of them, at whatever S/N they have. The
temperatures (one number a task), the scales of the redshift errors (two a class), the limits of
the outlier score (two numbers) and the table of confidences were fitted on them too; nothing else
was.

| figure | value |
| --- | --- |
{lines}

## Where it should not be used

Redshifts beyond {np.expm1(1.94):.0f}, other wavelength ranges than 3600–10400 Å, resolution far
from 2000, and objects that are none of the three classes (supernovae, sky, blank fibres): the
weights have not seen them; the outlier score flags many of these, not all.

## Made with

spectromer {__version__}, Python {platform.python_version()}, torch
{torch.__version__.split("+")[0]}, timm {timm.__version__}:

```toml
{settings}
```
"""
