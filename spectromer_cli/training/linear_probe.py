"""The head before the first step: the best that it can be on the trunk as it is.

A head that starts at nought spends its first steps, and bends the trunk, for what a convex fit
finds at once (Kumar et al. 2022, arXiv:2202.10054: first the linear probe, then fine-tuning).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spectromer_cli import console
from spectromer_cli.model import tasks
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.training.ownbatches import OwnBatches

# Spectra that are drawn for the fit: so many for each of the training split, within limits.
DRAWS_EACH, LEAST_DRAWS, MOST_DRAWS = 4, 512, 8192
# Strengths of the pull towards the head's start, per output and standardised feature; the one
# with the least loss on a fifth of the objects is taken.
PULLS = (0.1, 0.03, 0.01, 0.003, 0.001, 3e-4)
FOLDS = 5
ITERATIONS = 100


def fit_head(
    model: SpectralViT, batches: OwnBatches, group: np.ndarray, device: torch.device
) -> None:
    """Fit the head to the features of the frozen trunk.

    Parameters
    ----------
    model : SpectralViT
        Its head is changed: outputs that the weights had before stay near what they were, if the
        data do not want them elsewhere.
    batches : OwnBatches
        Of the training split, drawn and changed as for learning.
    group : array of int, shape (n,)
        The object of every spectrum of the data.
    device : torch.device
    """
    features, targets, objects = _drawn(model, batches, group, device)
    mean, width = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    features = (features - mean) / width
    weight = model.head.weight.detach().float().cpu()
    bias = model.head.bias.detach().float().cpu() + weight @ mean
    began = torch.cat([weight * width, bias[:, None]], dim=1)
    held_out = torch.from_numpy(objects % FOLDS == 0)
    best = PULLS[0]
    if held_out.any() and not held_out.all():
        losses = []
        for pull in PULLS:
            found = _fit(model.tasks, features[~held_out], _of(targets, ~held_out), began, pull)
            losses.append(
                float(_loss(model.tasks, features[held_out], _of(targets, held_out), found))
            )
        best = PULLS[int(np.argmin(np.nan_to_num(losses, nan=np.inf)))]
    found = _fit(model.tasks, features, targets, began, best)
    if not found.isfinite().all():
        return
    weight = found[:, :-1] / width
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(found[:, -1] - weight @ mean)


def _drawn(
    model: SpectralViT, batches: OwnBatches, group: np.ndarray, device: torch.device
) -> tuple[Tensor, dict[str, Tensor], np.ndarray]:
    """Features and targets of drawn spectra, and a number for the object of each."""
    wanted = int(np.clip(DRAWS_EACH * len(batches.rows), LEAST_DRAWS, MOST_DRAWS))
    # The last batches' numbers are never reached by learning, so these are draws of their own.
    first, count = len(batches), -(-wanted // batches.batch_size)
    features: list[Tensor] = []
    targets: dict[str, list[Tensor]] = {task.name: [] for task in model.tasks}
    numbers = []
    # Objects in the order of a shuffle, so that a fifth of them is a fair fifth.
    _, number = np.unique(group[batches.rows], return_inverse=True)
    number = np.random.default_rng(batches.seed).permutation(number.max() + 1)[number]
    model.eval()
    with torch.inference_mode(), console.progress("head", count) as advance:
        for step in range(first, first + count):
            batch = batches[step]
            flux, ivar = batch["flux"].to(device), batch["ivar"].to(device)
            features.append(model.features(flux, ivar).float().cpu())
            for name, values in targets.items():
                values.append(batch[name])
            numbers.append(number[batches.picked(step)])
            advance(1)
    return (
        torch.cat(features).clone(),
        {name: torch.cat(values) for name, values in targets.items()},
        np.concatenate(numbers),
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
) -> Tensor:
    """The head of least loss plus `pull` times the square of its way from where it began."""
    head = began.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([head], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        away = (head - began)[:, :-1].square().sum()
        loss = _loss(asked, features, targets, head) + pull * away
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.detach()
