"""Fine-tune on a user's own spectra: from labelled data to weights, figures and a card."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.paths import make_folder
from spectromer_cli.training import fit, journal, loop, lora, results, split
from spectromer_cli.training.initialise import start
from spectromer_cli.training.owndata import OwnSpectra
from spectromer_cli.training.plan import Origin, Plan, Settings, make_plan
from spectromer_cli.training.targets import Target


def finetune(
    data: OwnSpectra,
    targets: list[Target],
    origin: Origin,
    output: Path,
    settings: Settings,
    *,
    device: torch.device,
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    found: list[str],
    command: str,
) -> dict[str, float]:
    """Fine-tune, judge and write.

    Parameters
    ----------
    data : OwnSpectra
    targets : list of Target
    origin : Origin
    output : Path
        Folder for everything: weights, manifest, card, checkpoint, metrics, split,
        predictions, figures.
    settings : Settings
    device : torch.device
    workers : int
        Processes that make batches.
    resume : bool
        Go on from the checkpoint.
    overwrite : bool
        Begin anew where a run is.
    found : list of str
        What was found in the data, for the card.
    command : str
        The command line, for the card.

    Returns
    -------
    dict
        Figures on objects that the weights have not learned from.

    Raises
    ------
    UsageError
        If the folder holds a run, and neither `resume` nor `overwrite` is set.
    """
    with loop.processes(device) as device:
        checkpoint = output / loop.CHECKPOINT
        if loop.rank() == 0:
            make_folder(output)
            if checkpoint.exists() and not (resume or overwrite):
                raise UsageError(
                    f"{output} holds a run already", "go on with --resume, or --overwrite it"
                )
            if overwrite:
                for path in (checkpoint, output / journal.METRICS):
                    path.unlink(missing_ok=True)
        loop.wait_for_all()
        plan = make_plan(data, targets, settings)
        console.info(plan.said)
        run = fit.Run(
            data, targets, output, device, workers, _fingerprint(data, targets, origin, settings),
            settings.compile,
        )  # fmt: skip
        done = run.resume() if resume else fit.Done()
        judged, steps = _judge(run, plan, origin, done)
        model = judged if judged is not None else _on_all(run, plan, origin, done, steps)
        if loop.rank() > 0:
            return {}
        return results.write(model, run, plan, origin, settings, done, found=found, command=command)


def _model(run: fit.Run, plan: Plan, origin: Origin, train: np.ndarray) -> SpectralViT:
    """A fresh model for a training split, ready to learn."""
    torch.manual_seed(plan.seed)
    asked = [tasks.to_dict(target.task(train)) for target in run.targets]
    config = replace(
        origin.config, tasks=asked, temperatures={}, templates={}, confidence={}, split={}
    )
    model = start(config, origin.weights).to(run.device)
    lora.prepare(model, plan.mode)
    return model.to(run.device)


def _judge(
    run: fit.Run, plan: Plan, origin: Origin, done: fit.Done
) -> tuple[SpectralViT | None, int]:
    """Fit on part of the data and answer for the rest.

    Returns the model that was fitted, if it is the final one, and how many steps were best.
    """
    if not plan.folds:
        train = plan.part == split.TRAIN
        model = _model(run, plan, origin, train)
        run.fit("the fit", model, plan.mode, train, plan.part == split.VALIDATION, plan, done)
        run.answer(model, plan.part != split.TRAIN, done, model.tasks)
        return model, 0
    common = [target.task(np.ones(len(run.data), dtype=bool)) for target in run.targets]
    for number in range(plan.folds):
        stage = f"fold {number + 1} of {plan.folds}"
        if stage in done.best_steps:
            continue
        train = plan.part != number
        model = _model(run, plan, origin, train)
        run.fit(stage, model, plan.mode, train, ~train, plan, done)
        run.answer(model, ~train, done, common)
    best = [done.best_steps[f"fold {number + 1} of {plan.folds}"] for number in range(plan.folds)]
    return None, int(np.median(best))


def _on_all(run: fit.Run, plan: Plan, origin: Origin, done: fit.Done, steps: int) -> SpectralViT:
    """The final fit on all data, for as many steps as were best for the folds."""
    everything = np.ones(len(run.data), dtype=bool)
    model = _model(run, plan, origin, everything)
    run.fit("all data", model, plan.mode, everything, None, plan, done, stop_at=steps)
    return model


def _fingerprint(
    data: OwnSpectra, targets: list[Target], origin: Origin, settings: Settings
) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    digest = hashlib.sha256()
    for target in targets:
        digest.update(target.name.encode() + np.ascontiguousarray(target.values).tobytes())
    digest.update("\n".join(data.file.tolist()).encode())
    return {
        **asdict(settings),
        "origin": origin.said,
        "grid": asdict(data.grid),
        "data": digest.hexdigest(),
    }
