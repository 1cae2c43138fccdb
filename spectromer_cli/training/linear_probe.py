"""The head before the first step: the best that it can be on the backbone as it is.

A head that starts at zero spends its first steps, and bends the backbone, for what a convex fit
finds at once (Kumar et al. 2022, arXiv:2202.10054: first the linear probe, then fine-tuning).
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from spectromer_cli import console
from spectromer_cli.model import tasks
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.training import split
from spectromer_cli.training.batches import Batches

# Spectra that are drawn for the fit: so many for each of the training split, within limits.
DRAWS_EACH, LEAST_DRAWS, MOST_DRAWS = 4, 512, 8192
# Strengths of the pull towards the head's start, per output and standardised feature; the one
# with the least loss on a fifth of the objects is taken.
PULLS = (0.1, 0.03, 0.01, 0.003, 0.001, 3e-4)
FOLDS = 5
ITERATIONS = 100


def fit_head(
    model: SpectralViT, batches: Batches, device: torch.device, seconds: float = 0.0
) -> None:
    """Fit the head to the features of the frozen backbone.

    Parameters
    ----------
    model : SpectralViT
        Its head is changed: outputs that the weights had before stay near what they were, if the
        data do not want them elsewhere; those of tasks without targets stay as they are.
    batches : Batches
        Of the training split, drawn and changed as for learning.
    device : torch.device
    seconds : float
        About as long as it may take; 0 for no limit. With less time it draws fewer spectra and
        tries fewer strengths.
    """
    until = time.monotonic() + seconds if seconds else float("inf")
    asked = [task for task in model.tasks if task.name in {t.name for t in batches.targets}]
    outputs = torch.cat(
        [own for task, own in zip(model.tasks, _outputs(model), strict=True) if task in asked]
    )
    features, targets, held_out = _drawn(model, batches, asked, device, until)
    mean, width = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    features = (features - mean) / width
    weight = model.head.weight.detach().float().cpu()[outputs]
    bias = model.head.bias.detach().float().cpu()[outputs] + weight @ mean
    began = torch.cat([weight * width, bias[:, None]], dim=1)
    best = PULLS[0]
    if held_out.any() and not held_out.all():
        losses = []
        for pull in PULLS:
            found = _fit(asked, features[~held_out], _of(targets, ~held_out), began, pull, until)
            losses.append(float(_loss(asked, features[held_out], _of(targets, held_out), found)))
            if time.monotonic() > until:
                break
        best = PULLS[int(np.argmin(np.nan_to_num(losses, nan=np.inf)))]
    found = _fit(asked, features, targets, began, best, until)
    if not found.isfinite().all():
        return
    weight = found[:, :-1] / width
    with torch.no_grad():
        model.head.weight[outputs] = weight.to(model.head.weight)
        model.head.bias[outputs] = (found[:, -1] - weight @ mean).to(model.head.bias)


def _outputs(model: SpectralViT) -> tuple[Tensor, ...]:
    """Numbers of the head's outputs, task by task."""
    sizes = [task.size for task in model.tasks]
    return torch.arange(sum(sizes)).split(sizes)


def _drawn(
    model: SpectralViT,
    batches: Batches,
    asked: list[tasks.Task],
    device: torch.device,
    until: float,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Features and targets of drawn spectra, and which are of a fifth of the objects."""
    wanted = int(np.clip(DRAWS_EACH * len(batches.rows), LEAST_DRAWS, MOST_DRAWS))
    # The last batches' numbers are never reached by learning, so these are draws of their own.
    first, count = len(batches), -(-wanted // batches.batch_size)
    features: list[Tensor] = []
    targets: dict[str, list[Tensor]] = {task.name: [] for task in asked}
    held_out = split.folds(split.places(batches.group, batches.seed), FOLDS) == 0
    chosen = []
    # The fits take some half of the time.
    end = time.monotonic() + 0.5 * (until - time.monotonic())
    model.eval()
    with torch.inference_mode(), console.progress("fitting the head", count) as advance:
        for step in range(first, first + count):
            batch = batches[step]
            flux, ivar = batch["flux"].to(device), batch["ivar"].to(device)
            features.append(model.features(flux, ivar).float().cpu())
            for name, values in targets.items():
                values.append(batch[name])
            chosen.append(held_out[batches.picked(step)])
            advance(1)
            if time.monotonic() > end:
                break
    return (
        torch.cat(features).clone(),
        {name: torch.cat(values) for name, values in targets.items()},
        torch.from_numpy(np.concatenate(chosen)),
    )


def _of(targets: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    return {name: values[which] for name, values in targets.items()}


def _loss(
    asked: list[tasks.Task], features: Tensor, targets: dict[str, Tensor], head: Tensor
) -> Tensor:
    """Loss of a head, shape (outputs, width + 1) with the bias last, on standardised features."""
    logits = features @ head[:, :-1].T + head[:, -1]
    parts = logits.split([task.size for task in asked], dim=1)
    losses = [
        task.weight * task.loss(part, targets[task.name])
        for task, part in zip(asked, parts, strict=True)
    ]
    return torch.stack(losses).sum()


def _fit(
    asked: list[tasks.Task],
    features: Tensor,
    targets: dict[str, Tensor],
    began: Tensor,
    pull: float,
    until: float,
) -> Tensor:
    """The head of least loss plus `pull` times the square of its way from where it began."""
    head = began.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([head], max_iter=ITERATIONS // 10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        away = (head - began)[:, :-1].square().sum()
        loss = _loss(asked, features, targets, head) + pull * away
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
        if time.monotonic() > until:
            break
    return head.detach()
