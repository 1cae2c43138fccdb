"""Train the general model by a recipe: fine-tuning from ImageNet, with a simulator beside the data.

Data → targets → split → model → fit → export: the same steps as in `finetune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectromer_cli import console
from spectromer_cli.accuracy import summary
from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.simulation.populations import to_arrays
from spectromer_cli.simulation.simulator import SAME_INSTRUMENT, Donors, Simulator
from spectromer_cli.simulation.survey_effects import SURVEYS
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import dataset, distributed, model_card, split, targets
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.checkpoint import Run
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.export import HeldOutLogits, export, predictions
from spectromer_cli.training.initialise import start
from spectromer_cli.training.loop import fit, predict_logits
from spectromer_cli.training.settings import Recipe
from spectromer_cli.training.targets import Target
from spectromer_cli.training.templates import learn_populations, learn_templates

# Of the real spectra of a batch: stars have the most to be learned, their types and parameters;
# quasars are few, and are learned by heart where they come too often.
CLASS_SHARES = {"STAR": 0.45, "GALAXY": 0.3, "QSO": 0.25}
STAGE = "training"
# Shares of the simulated and of the real spectra that are changed as other spectrographs would have
# taken them.
ELSEWHERE, REAL_ELSEWHERE = 0.5, 0.25


def pretrain(
    recipe: Recipe,
    output: Path,
    *,
    data: Sequence[Path],
    templates: Path | None,
    pretrained: Path | None,
    device: torch.device,
    spectra_dir: Path | None = None,
    options: ReadOptions | None = None,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, float]:
    """Train weights by a recipe.

    Parameters
    ----------
    recipe : Recipe
    output : Path
        Folder for everything: weights, manifest, card, checkpoint, metrics, split, predictions.
    data : sequence of Path
        Labelled real spectra, each in any form that `dataset.find` knows.
    templates : Path or None
        Rest-frame templates for the simulator; None where the recipe simulates nothing.
    pretrained : Path or None
        ImageNet weights of the backbone, or weights of this program to go on from; None starts
        at random.
    device : torch.device
    spectra_dir : Path, optional
        Where the spectra of a table of labels lie.
    options : ReadOptions, optional
    workers : int
        Processes that read, and make batches beside the one that learns.
    resume : bool
        Resume from the checkpoint in `output`; without one, start from the beginning.
    overwrite : bool
        Overwrite the run in `output`.
    command : str
        The command line, for the card.

    Returns
    -------
    dict of str to float
        Figures on the objects that were held out (see `accuracy.summary.headline`).

    Raises
    ------
    UsageError
        If `output` holds a run and neither `resume` nor `overwrite` is set, or the data hold no
        class that can be learned.
    ReadError
        If the data, the templates, the pretrained weights or the checkpoint cannot be read.
    """
    with distributed.processes(device) as device:
        run = Run(output, asdict(recipe), resume=resume, overwrite=overwrite)
        config = ModelConfig(
            backbone=recipe.backbone,
            image=recipe.image,
            tokens=recipe.tokens,
            grid=Grid(),
            tasks=[tasks.to_dict(task) for task in tasks.default_tasks()],
            split={"fraction": recipe.validation_fraction, "seed": recipe.split_seed},
        )
        sources = [dataset.find(path, spectra_dir) for path in data]
        spectra, *others = (
            source.read(source.general(), config.grid, options or ReadOptions(), workers)
            for source in sources
        )
        for other in others:
            spectra = spectra.joined(other)
        found = dataset.describe(sources, spectra)
        learned = targets.general(spectra)
        held_out = split.places(spectra.group, recipe.split_seed) < recipe.validation_fraction
        trusted = learned[0].known
        if not (trusted & ~held_out).any() or not (trusted & held_out).any():
            raise UsageError(
                f"{', '.join(map(str, data))}: no spectrum with a class of "
                f"{', '.join(taxonomy.CLASSES)} for "
                + ("training" if not (trusted & ~held_out).any() else "the test"),
                "check the column class, and validation_fraction in the recipe",
            )
        batches = Batches(
            spectra, learned, np.flatnonzero(trusted & ~held_out), config.grid,
            batch_size=recipe.batch_size, steps=recipe.steps, seed=recipe.seed,
            shares=CLASS_SHARES,
            simulator=_simulator(recipe, templates, spectra, ~held_out & trusted, config.grid),
            simulated_share=recipe.simulated_share, elsewhere=REAL_ELSEWHERE,
        )  # fmt: skip
        torch.manual_seed(recipe.seed)
        model = start(config, pretrained).to(device)
        console.info(
            f"{len(batches.rows)} real spectra for training, {int(held_out.sum())} held out; "
            f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters on {device}"
        )
        rows = np.flatnonzero(held_out & trusted)
        flux, ivar = spectra.take(rows).on_grid(config.grid)

        def check() -> tuple[None, dict[str, float]]:
            table = predictions(model, spectra, predict_logits(model, flux, ivar, device), rows)
            report = summary.compare(table, targets.references(learned, rows), model.tasks)
            shown = ("class_accuracy", "letter_right", "z_outliers_0.01")
            figures = {name: v for name, v in summary.headline(report).items() if name in shown}
            said = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            console.info(f"step {run.state.step}  {run.state.seconds / 60:.1f} min  {said}")
            return None, figures

        fit(model, batches, recipe.schedule(), run, stage=STAGE, device=device, check=check,
            workers=workers)  # fmt: skip
        if distributed.rank() > 0:
            return {}
        return _export(
            model, spectra, learned, batches, held_out, recipe, run, found,
            pretrained.name if pretrained else "random weights", device, command,
        )  # fmt: skip


def _simulator(
    recipe: Recipe,
    templates: Path | None,
    spectra: LabelledSpectra,
    train: np.ndarray,
    grid: Grid,
) -> Simulator | None:
    """The simulator, with the errors of the real training spectra."""
    if recipe.simulated_share == 0:
        return None
    if templates is None:
        raise UsageError(
            f"the recipe simulates {recipe.simulated_share:.0%} of each batch and needs templates",
            "give --templates FILE.npz, or set simulated_share = 0 in the recipe",
        )
    known = train & spectra.has_ivar & np.isin(spectra.survey, [*SURVEYS, *SAME_INSTRUMENT])
    donors = None
    if known.any():
        own = spectra.take(known)
        donors = Donors(own.on_grid(grid)[1], own.survey)
    return Simulator(Library(templates, grid), grid, donors, elsewhere=ELSEWHERE)


def _export(
    model: Any,
    spectra: LabelledSpectra,
    learned: list[Target],
    batches: Batches,
    held_out: np.ndarray,
    recipe: Recipe,
    run: Run,
    found: list[str],
    origin: str,
    device: torch.device,
    command: str,
) -> dict[str, float]:
    """Learn templates and populations, calibrate, judge, and write weights and card."""
    train = np.zeros(len(spectra), dtype=bool)
    train[batches.rows] = True
    bases = learn_templates(spectra, learned, train)
    populations = to_arrays(learn_populations(spectra, learned, train, bases))
    flux, ivar = spectra.take(held_out).on_grid(model.config.grid)
    logits = {}
    for name, values in predict_logits(model, flux, ivar, device).items():
        logits[name] = torch.full((len(spectra), values.shape[1]), torch.nan)
        logits[name][torch.from_numpy(held_out)] = values
    judged = HeldOutLogits(
        logits, held_out, held_out & learned[0].known, np.where(held_out, "test", "train")
    )
    simulated = f"{recipe.simulated_share:.0%} of each batch simulated"
    entry = {
        "licence": "BSD-3-Clause",
        "description": recipe.description,
        "trained_on": f"{len(batches.rows)} real spectra "
        f"({model_card.survey_counts(spectra.take(batches.rows))}); {simulated}",
    }
    report = export(
        model, spectra, learned, judged, folder=run.folder, name=recipe.name, entry=entry,
        batches=batches, device=device, bases=bases, extra=populations,
    )  # fmt: skip
    state = run.state
    model_card.write_card(
        run.folder / f"{recipe.name}.md",
        config=model.config,
        description=recipe.description or "General model",
        origin=f"`{origin}`",
        found=found,
        training=[
            f"{state.step} of {recipe.steps} steps of {recipe.batch_size} spectra in "
            f"{state.seconds / 60:.0f} minutes",
            f"{simulated}, the rest real; classes {CLASS_SHARES}",
        ],
        testing="For the held-out objects, at every S/N. Temperatures, the scales of redshift "
        "errors, the limits of the outlier score and the table of confidences were also fitted on "
        "them; nothing else was.",
        part=judged.part,
        report=report,
        settings=asdict(recipe),
        command=command,
    )
    return summary.headline(report)
