"""The training loop: the same on a CPU and on a GPU, and resumable to the bit."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.paths import make_folder
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import dataset, journal, loop, validate
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.finish import finish
from spectromer_cli.training.initialise import start
from spectromer_cli.training.recipe import Recipe


def train(
    recipe: Recipe,
    output: Path,
    *,
    data: Path,
    templates: Path,
    pretrained: Path | None,
    device: torch.device,
    workers: int = 1,
    resume: bool = False,
) -> dict[str, float]:
    """Train weights by a recipe.

    Parameters
    ----------
    recipe : Recipe
    output : Path
        Folder for the checkpoint, the metrics, the weights with their manifest, and the card.
    data : Path
        Labelled real spectra (see `dataset.load`).
    templates : Path
        Rest-frame templates for the simulator.
    pretrained : Path or None
        ImageNet weights of the backbone, or weights of this program to go on from; None starts
        at random.
    device : torch.device
    workers : int
        Processes that make batches beside the one that learns.
    resume : bool
        Go on from the checkpoint in `output`.

    Returns
    -------
    dict
        Figures on the validation split (see `validate.figures`).

    Raises
    ------
    UsageError
        If `output` holds a run and `resume` is false.
    ReadError
        If the data, the templates, the pretrained weights or the checkpoint cannot be read.
    """
    with loop.processes(device) as device:
        return _train(recipe, output, data, templates, pretrained, device, workers, resume)


def _train(
    recipe: Recipe,
    output: Path,
    data: Path,
    templates: Path,
    pretrained: Path | None,
    device: torch.device,
    workers: int,
    resume: bool,
) -> dict[str, float]:
    make_folder(output)
    if (output / loop.CHECKPOINT).exists() and not resume:
        raise UsageError(
            f"{output} holds a run already", "go on with --resume, or choose another -o"
        )
    config = ModelConfig(
        backbone=recipe.backbone,
        image=recipe.image,
        tokens=recipe.tokens,
        grid=Grid(),
        tasks=[tasks.to_dict(task) for task in tasks.default_tasks()],
        split={"fraction": recipe.validation_fraction, "seed": recipe.split_seed},
    )
    spectra = dataset.load(data)
    held_out = dataset.validation_mask(spectra.group, recipe.validation_fraction, recipe.split_seed)
    validation = spectra.take(held_out)
    batches = Batches(
        spectra.take(~held_out),
        templates,
        config.grid,
        batch_size=recipe.batch_size,
        steps=recipe.steps,
        simulated_share=recipe.simulated_share,
        seed=recipe.seed,
    )
    torch.manual_seed(recipe.seed)
    model = start(config, pretrained).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    state = {"step": 0, "seconds": 0.0}
    if resume:
        state, _ = loop.load_checkpoint(output / loop.CHECKPOINT, model, optimizer, asdict(recipe))
    console.info(
        f"{len(batches.real)} real spectra to learn from, {len(validation)} held out; "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters on {device}"
    )
    _loop(model, optimizer, batches, validation, recipe, output, state, device, workers)
    origin = pretrained.name if pretrained else "random weights"
    if loop.rank() > 0:
        return {}
    return finish(model, batches, validation, recipe, output, state, origin, device)


def _loop(
    model: SpectralViT,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    validation: dataset.LabelledSpectra,
    recipe: Recipe,
    output: Path,
    state: dict[str, Any],
    device: torch.device,
    workers: int,
) -> None:
    """Learn until the schedule ends; `state` counts the steps and seconds."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(state["step"], recipe.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    stepper = loop.Stepper(model, optimizer, device)
    began = time.monotonic() - state["seconds"]
    with console.progress("training", recipe.steps) as advance:
        advance(state["step"])
        for batch in loader:
            done = loop.agreed(_progress(recipe, state), device)
            if done >= 1.0:
                break
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _rate(done, state["step"], recipe)
            losses = stepper.step(batch)
            state["step"] += 1
            state["seconds"] = time.monotonic() - began
            advance(1)
            if state["step"] % recipe.evaluate_every == 0 and loop.rank() == 0:
                _record(model, optimizer, validation, recipe, output, state, losses, device)
    if loop.rank() == 0:
        loop.save_checkpoint(output / loop.CHECKPOINT, model, optimizer, asdict(recipe), state)


def _progress(recipe: Recipe, state: dict[str, Any]) -> float:
    """How much of the schedule is done, 0 to 1, by steps or by time, whichever is further."""
    by_steps = state["step"] / recipe.steps
    by_time = state["seconds"] / (60.0 * recipe.max_minutes) if recipe.max_minutes else 0.0
    return max(by_steps, by_time)


def _rate(done: float, step: int, recipe: Recipe) -> float:
    """Learning rate relative to its maximum: linear warm-up, cosine to zero."""
    warm = min(1.0, (step + 1) / max(recipe.warmup, 1))
    return warm * 0.5 * (1.0 + math.cos(math.pi * done))


def _record(
    model: SpectralViT,
    optimizer: torch.optim.Optimizer,
    validation: dataset.LabelledSpectra,
    recipe: Recipe,
    output: Path,
    state: dict[str, Any],
    losses: dict[str, float],
    device: torch.device,
) -> None:
    """Checkpoint, look at the validation split, and write a line of metrics."""
    loop.save_checkpoint(output / loop.CHECKPOINT, model, optimizer, asdict(recipe), state)
    figures = validate.figures(model, validate.logits(model, validation, device), validation)
    line = {**state, **{f"loss_{name}": round(v, 4) for name, v in losses.items()}, **figures}
    journal.write(output, line)
    shown = ("class_accuracy", "type_accuracy", "z_outliers")
    said = "  ".join(f"{name} {figures[name]:.4f}" for name in shown if name in figures)
    console.info(f"step {state['step']}  {state['seconds'] / 60:.1f} min  {said}")
