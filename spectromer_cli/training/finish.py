"""After the last step: calibrate on the held-out split, learn templates, write the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectromer_cli.model.confidence import confidence_table
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.novelty import ReferenceSet
from spectromer_cli.model.template_fit import Basis
from spectromer_cli.simulation.populations import to_arrays
from spectromer_cli.training import calibration, model_card, validate
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.recipe import Recipe
from spectromer_cli.training.templates import learn_populations, learn_templates
from spectromer_cli.weights.save import write_weights

# Spectra that tell what is familiar: so many as they are, and so many as batches change them.
FAMILIAR_SPECTRA = 1000


def finish(
    model: SpectralViT,
    batches: Batches,
    validation: LabelledSpectra,
    recipe: Recipe,
    output: Path,
    state: dict[str, Any],
    origin: str,
    device: torch.device,
) -> dict[str, float]:
    """Calibrate trained weights and write them with their manifest entry and card.

    Parameters
    ----------
    model : SpectralViT
        Trained; its configuration is filled in.
    batches : Batches
        What it was trained on.
    validation : LabelledSpectra
        What it was not trained on.
    recipe : Recipe
    output : Path
        Folder.
    state : dict
        Steps and seconds of the training, for the card.
    origin : str
        What it started from, for the card.
    device : torch.device

    Returns
    -------
    dict
        Figures on the validation split (see `validate.figures`).
    """
    out = validate.logits(model, validation, device)
    model.config = replace(
        model.config, temperatures=calibration.fit_temperatures(model, out, validation)
    )
    bases = learn_templates(batches.real)
    refined = validate.refine_redshifts(model, out, validation, bases)
    scales = calibration.error_scales(refined, out["class"].argmax(1).numpy(), validation)
    described = {name: {"loglam0": basis.loglam0, **scales[name]} for name, basis in bases.items()}
    z_prob, wrong, far = calibration.redshift_confidences(model, out, validation, refined)
    model.config = replace(
        model.config, templates=described, confidence=confidence_table(z_prob[far], wrong[far])
    )
    familiar = _familiar(model, batches, validation, device)
    populations = to_arrays(learn_populations(batches.real, bases))
    figures = {
        **{
            f"vit_{name}": v
            for name, v in validate.figures(model, out, validation).items()
            if name.startswith("z_")
        },
        **validate.figures(model, out, validation, refined),
    }
    entry = {
        "licence": "BSD-3-Clause",
        "description": recipe.description,
        "trained_on": model_card.trained_on(batches.real, recipe),
    }
    tensors = {
        **model.state_dict(),
        **_vectors(bases),
        **_tensors(familiar),
        **{name: torch.from_numpy(values) for name, values in populations.items()},
    }
    write_weights(output, recipe.name, tensors, model.config, entry)
    text = model_card.card(recipe, model.config, batches.real, validation, figures, state, origin)
    (output / f"{recipe.name}.md").write_text(text, encoding="utf-8")
    return figures


def _vectors(bases: dict[str, Basis]) -> dict[str, torch.Tensor]:
    return {f"templates.{name}": torch.from_numpy(basis.vectors) for name, basis in bases.items()}


def _tensors(familiar: ReferenceSet) -> dict[str, torch.Tensor]:
    return {
        f"familiar.{name}": torch.from_numpy(values.astype(np.float32))
        for name, values in vars(familiar).items()
    }


def _familiar(
    model: SpectralViT, batches: Batches, validation: LabelledSpectra, device: torch.device
) -> ReferenceSet:
    """What is familiar: training spectra as they are, and as batches change them."""
    rng = np.random.default_rng(batches.seed)
    count = min(FAMILIAR_SPECTRA, len(batches.real))
    some = rng.choice(len(batches.real), size=count, replace=False)
    as_they_are = batches.real.take(some)
    features = [validate.features(model, as_they_are, device)]
    class_ = [as_they_are.class_]
    for step in range(min(-(-count // (batches.n_real + batches.n_simulated)), batches.steps)):
        batch = batches[step]
        with torch.inference_mode():
            _, seen = model.seen(batch["flux"].to(device), batch["ivar"].to(device))
        features.append(seen.float().cpu().numpy())
        class_.append(batch["class"].numpy())
    known = validation.take(validation.class_ >= 0)
    held_out = validate.features(model, known, device)
    return ReferenceSet.learn(np.concatenate(features), np.concatenate(class_), held_out)
