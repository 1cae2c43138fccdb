"""A 1-D transformer on the flux, like AstroCLIP's spectrum encoder, trained from scratch.

Parker et al. (2024, MNRAS 531, 4990, arXiv:2310.03024) cut the flux into overlapping patches of
20 pixels, put the mean and σ that it was scaled by into a token of their own, and use 6 layers,
768 wide, on GPUs. Here patches are longer and layers narrower, so that a CPU can train it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from spectromer_cli import console
from spectromer_cli.accuracy import calibration
from spectromer_cli.model import decoding, tasks
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.checkpoint import Run
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.loop import fit, predict_logits
from spectromer_cli.training.settings import Schedule
from spectromer_cli.training.targets import Target

SETTINGS: dict[str, Any] = {
    "patch": 96, "step": 48, "width": 256, "layers": 6, "heads": 8, "batch_size": 64,
    "learning_rate": 4e-4, "weight_decay": 0.05, "warmup": 0.03, "recipe": 3,
}  # fmt: skip
# Steps enough that the time ends first.
MOST_STEPS = 1_000_000
# Loss weights of what is not class or redshift.
MINOR_WEIGHT = 0.4


@dataclass(frozen=True)
class LogRedshift:
    """ln(1 + z) itself: the regression beside the bins."""

    name: str = "x"
    weight: float = 1.0
    size: ClassVar[int] = 1

    def known(self, target: Tensor) -> Tensor:
        """Which targets are known."""
        return target.isfinite()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Huber's loss; NaN targets have none."""
        known = self.known(target)
        if not known.any():
            return logits.sum() * 0.0
        return nn.functional.smooth_l1_loss(logits[known, 0], target[known], beta=0.05)


class SpecFormer(nn.Module):
    """Patches of flux through a transformer; one linear layer for all predictions.

    Parameters
    ----------
    pixels : int
        Of a spectrum.
    asked : sequence of Task
    settings : dict
        As `SETTINGS`.
    """

    def __init__(self, pixels: int, asked: Sequence[Any], settings: dict[str, Any]) -> None:
        super().__init__()
        self.tasks = list(asked)
        self.patch, self.step = settings["patch"], settings["step"]
        width = settings["width"]
        count = (pixels - self.patch) // self.step + 1
        self.embed = nn.Linear(self.patch, width)
        self.embed_level = nn.Linear(2, width)
        self.place = nn.Parameter(torch.randn(count + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, settings["heads"], 4 * width, dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, settings["layers"], enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, sum(task.size for task in self.tasks))

    def forward(self, flux: Tensor, ivar: Tensor) -> dict[str, Tensor]:
        """Logits of each task by its name, shapes (batch, task.size).

        Parameters
        ----------
        flux, ivar : Tensor, shape (batch, pixels)
            Dead pixels (ivar 0) count for nothing in mean and σ and are 0 after the scaling.
        """
        good = (ivar > 0).float()
        n = good.sum(1, keepdim=True).clamp_min(1.0)
        flux = flux.clamp(-10.0, 100.0)
        mean = (flux * good).sum(1, keepdim=True) / n
        sigma = (((flux - mean) * good).square().sum(1, keepdim=True) / n).sqrt().clamp_min(1e-3)
        scaled = (flux - mean) / sigma * good
        tokens = self.embed(scaled.unfold(1, self.patch, self.step))
        level = self.embed_level(torch.cat([mean, sigma.log()], dim=1))[:, None]
        # On a CPU the fused attention's backward pass takes longer than that of plain products.
        plain = sdpa_kernel(SDPBackend.MATH) if flux.device.type == "cpu" else nullcontext()
        with plain:
            seen = self.layers(torch.cat([level, tokens], dim=1) + self.place)
        logits = self.head(self.norm(seen.mean(dim=1))).float()
        parts = logits.split([task.size for task in self.tasks], dim=1)
        return {task.name: part for task, part in zip(self.tasks, parts, strict=True)}


def predict(
    data: LabelledSpectra,
    targets: Sequence[Target],
    learning: np.ndarray,
    inner: np.ndarray,
    testing: np.ndarray,
    grid: Grid,
    *,
    minutes: float,
    device: torch.device,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Train the transformer and let it predict.

    Parameters
    ----------
    data : LabelledSpectra
    targets : sequence of Target
        What is learned; redshifts by bins and by regression.
    learning, inner, testing : bool array, shape (n,)
        Spectra that are learned from; that are kept back, to choose between bins and regression
        and to fit the temperature of the class; and that are predicted.
    grid : Grid
        What the flux is brought onto.
    minutes : float
        Of training; the learning rate falls to zero over them (cosine).
    device : torch.device
    settings : dict, optional
        As `SETTINGS`.
    seed : int

    Returns
    -------
    dict of arrays
        As `svm_rf.predict` gives it.
    """
    settings = settings or SETTINGS
    torch.manual_seed(seed)
    learned = list(targets)
    redshift = next((target for target in targets if target.of_z), None)
    asked: list[Any] = [_lighter(target.task(learning)) for target in targets]
    if redshift is not None:
        x = Target("x", np.log1p(redshift.values), of_z=np.log1p)
        learned.append(x)
        asked.append(LogRedshift())
    model = SpecFormer(grid.n, asked, settings).to(device)
    schedule = Schedule(
        steps=MOST_STEPS, batch_size=settings["batch_size"], seed=seed, minutes=minutes,
        learning_rate=settings["learning_rate"], weight_decay=settings["weight_decay"],
        warmup=settings["warmup"], check_every=MOST_STEPS,
    )  # fmt: skip
    first = next((target for target in targets if target.labels), None)
    batches = Batches(
        data, learned, np.flatnonzero(learning), grid, batch_size=schedule.batch_size,
        steps=schedule.steps, seed=seed, shares=dict.fromkeys(first.labels, 1.0) if first else None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), {})
        fit(model, batches, schedule, run, stage="training specformer", device=device)
    seen = run.state.step * schedule.batch_size / len(batches.rows)
    console.info(f"specformer: {run.state.step} steps, {seen:.1f} epochs")
    kept = predict_logits(model, *data.take(inner).on_grid(grid), device)
    out = predict_logits(model, *data.take(testing).on_grid(grid), device)
    columns: dict[str, np.ndarray] = {}
    for target, task in zip(targets, asked, strict=False):
        if isinstance(task, tasks.Redshift):
            columns[target.name] = _redshifts(task, target, targets, inner, kept, out)
        elif isinstance(task, tasks.Quantity):
            columns[target.name] = task.prediction(out[task.name])[:, 0].numpy()
        else:
            rows = np.flatnonzero(inner)
            temperature = calibration.best_temperature(task, kept[task.name], target.tensor(rows))
            p = torch.softmax(out[task.name] / temperature, 1).double().numpy()
            columns[target.name] = np.array(target.labels)[p.argmax(axis=1)]
            if target is first:
                columns |= {f"p_{c.lower()}": p[:, i] for i, c in enumerate(target.labels)}
    return columns


def _lighter(task: tasks.Task) -> tasks.Task:
    weight = 1.0 if task.name in ("class", "z") else MINOR_WEIGHT
    return replace(task, weight=weight)


def _redshifts(
    task: tasks.Redshift,
    target: Target,
    targets: Sequence[Target],
    inner: np.ndarray,
    kept: dict[str, Tensor],
    out: dict[str, Tensor],
) -> np.ndarray:
    """By bins or by regression, whichever is better for the spectra that were kept back."""
    x = np.log1p(target.values[inner])
    far = np.isfinite(x)
    classes = next((t for t in targets if t.name == "class" and "STAR" in t.labels), None)
    if classes is not None:
        far &= classes.values[inner] != classes.labels.index("STAR")
    by_bins = True
    if far.any():
        # The better one: fewer redshifts off by more than 0.01, then the smaller error.
        found = _x_of_bins(task, kept[task.name]), kept["x"][:, 0].numpy()
        errors = [np.abs(one - x)[far] for one in found]
        binned, regressed = ((float(np.mean(e > 0.01)), float(np.mean(e))) for e in errors)
        by_bins = binned <= regressed
    console.info(f"specformer: redshifts by {'bins' if by_bins else 'regression'}")
    chosen = _x_of_bins(task, out[task.name]) if by_bins else out["x"][:, 0].numpy()
    return np.expm1(np.clip(chosen, -0.5, 2.5))


def _x_of_bins(task: tasks.Redshift, logits: Tensor) -> np.ndarray:
    """ln(1 + z) of the best peak of p(z), whatever the class."""
    p = torch.softmax(logits, 1).double().numpy()
    return np.log1p(decoding.decode_redshift(task, p, np.zeros(len(p), dtype=bool)).z)
