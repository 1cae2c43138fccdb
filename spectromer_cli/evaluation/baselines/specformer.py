"""A 1-D transformer on the flux, like AstroCLIP's spectrum encoder, trained from scratch.

Parker et al. (2024, MNRAS 531, 4990, arXiv:2310.03024) cut the flux into overlapping patches of
20 pixels, put the mean and σ that it was scaled by into a token of their own, and use 6 layers,
768 wide, on GPUs. Here patches are longer and layers narrower, so that a CPU can train it.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from spectromer_cli import console
from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import augment

SETTINGS: dict[str, Any] = {
    "patch": 96, "step": 48, "width": 256, "layers": 6, "heads": 8, "batch_size": 64,
    "learning_rate": 4e-4, "weight_decay": 0.05, "warmup": 100, "recipe": 2,
}  # fmt: skip
TASKS: tuple[tasks.Category | tasks.Redshift, ...] = (
    tasks.Category("class", taxonomy.CLASSES),
    tasks.Category("letter", taxonomy.STAR_TYPES, weight=0.4),
    tasks.Redshift(),
)


class SpecFormer(nn.Module):
    """Patches of flux through a transformer; one linear layer for all answers.

    Parameters
    ----------
    pixels : int
        Of a spectrum.
    settings : dict
        As `SETTINGS`.
    """

    def __init__(self, pixels: int, settings: dict[str, Any]) -> None:
        super().__init__()
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
        # The last output is ln(1 + z) itself: the regression beside the bins.
        self.head = nn.Linear(width, sum(task.size for task in TASKS) + 1)

    def forward(self, flux: Tensor, ivar: Tensor) -> dict[str, Tensor]:
        """Logits of each task by its name, and ``x``, ln(1 + z), shape (batch,).

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
        seen = self.norm(self.layers(torch.cat([level, tokens], dim=1) + self.place).mean(dim=1))
        parts = self.head(seen).float().split([*(task.size for task in TASKS), 1], dim=1)
        out = {task.name: part for task, part in zip(TASKS, parts, strict=False)}
        return {**out, "x": parts[-1][:, 0]}


def answer(
    training: dict[str, np.ndarray],
    inner: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    grid: Grid,
    *,
    minutes: float,
    device: torch.device,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Train the transformer and let it answer.

    Parameters
    ----------
    training : dict of arrays, shape (n,) or (n, pixels)
        ``flux``, ``ivar``, ``class`` (number), ``letter``, ``z``.
    inner : bool array, shape (n,)
        Training spectra kept back, to choose between bins and regression and to fit the
        temperature of the class.
    flux, ivar : array, shape (m, pixels)
        What is asked.
    grid : Grid
        Of all of them.
    minutes : float
        Of training; the learning rate falls to zero over them (cosine).
    device : torch.device
    settings : dict, optional
        As `SETTINGS`.
    seed : int

    Returns
    -------
    dict of arrays
        As `classical.answer` gives it.
    """
    settings = settings or SETTINGS
    torch.manual_seed(seed)
    model = SpecFormer(grid.n, settings).to(device)
    learned = {name: values[~inner] for name, values in training.items()}
    _learn(model, learned, grid, 60.0 * minutes, settings, device, seed)
    kept = _ask(model, training["flux"][inner], training["ivar"][inner], device)
    x_kept = np.log1p(training["z"][inner])
    far = np.isfinite(x_kept) & (training["class"][inner] != taxonomy.CLASSES.index("STAR"))
    by_bins = True
    if far.any():
        # The better one: fewer redshifts off by more than 0.01, then the smaller error.
        errors = [np.abs(x - x_kept)[far] for x in (_x_of_bins(kept["z"]), kept["x"].numpy())]
        binned, regressed = ((float(np.mean(e > 0.01)), float(np.mean(e))) for e in errors)
        by_bins = binned <= regressed
    console.info(f"specformer: redshifts by {'bins' if by_bins else 'regression'}")
    out = _ask(model, flux, ivar, device)
    temperature = _temperature(kept["class"], training["class"][inner])
    p = torch.softmax(out["class"] / temperature, 1).double().numpy()
    x = _x_of_bins(out["z"]) if by_bins else out["x"].numpy()
    return {
        "class": np.array(taxonomy.CLASSES)[p.argmax(axis=1)],
        **{f"p_{name.lower()}": p[:, i] for i, name in enumerate(taxonomy.CLASSES)},
        "subclass": np.array(taxonomy.STAR_TYPES)[out["letter"].argmax(1).numpy()],
        "z": np.expm1(np.clip(x, -0.5, 2.5)),
    }


def _learn(
    model: SpecFormer,
    data: dict[str, np.ndarray],
    grid: Grid,
    seconds: float,
    settings: dict[str, Any],
    device: torch.device,
    seed: int,
) -> None:
    """AdamW, warm-up and cosine, for a given time; classes are drawn evenly."""
    rng = np.random.default_rng(seed)
    chance = 1.0 / np.bincount(data["class"], minlength=len(taxonomy.CLASSES))[data["class"]]
    chance /= chance.sum()
    letters = {letter: i for i, letter in enumerate(taxonomy.STAR_TYPES)}
    letter = np.array([letters.get(name, -1) for name in data["letter"]])
    optimizer = torch.optim.AdamW(
        model.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    model.train()
    began, step, done = time.monotonic(), 0, 0.0
    with console.progress("training specformer (seconds)", seconds) as advance:
        while done < 1.0:
            picked = rng.choice(len(chance), settings["batch_size"], p=chance)
            loss = _loss(model, _batch(rng, data, letter, picked, grid), device)
            warm = min(1.0, (step + 1) / settings["warmup"])
            rate = warm * 0.5 * (1.0 + math.cos(math.pi * done))
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * rate
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            now = min(1.0, (time.monotonic() - began) / seconds)
            advance((now - done) * seconds)
            done = now
    seen = step * settings["batch_size"]
    console.info(f"specformer: {step} batches, {seen / len(chance):.1f} times all spectra")


def _batch(
    rng: np.random.Generator,
    data: dict[str, np.ndarray],
    letter: np.ndarray,
    picked: np.ndarray,
    grid: Grid,
) -> dict[str, Tensor]:
    """Real spectra changed as those of the ViT's batches are (see `augment.real`)."""
    star = taxonomy.CLASSES.index("STAR")
    changed = [
        augment.real(
            rng, data["flux"][i], data["ivar"][i], float(data["z"][i]),
            bool(data["class"][i] == star), grid,
        )
        for i in picked
    ]  # fmt: skip
    return {
        "flux": torch.from_numpy(np.stack([flux for flux, _, _ in changed]).astype(np.float32)),
        "ivar": torch.from_numpy(np.stack([ivar for _, ivar, _ in changed]).astype(np.float32)),
        "class": torch.from_numpy(data["class"][picked]),
        "letter": torch.from_numpy(letter[picked]),
        "z": torch.tensor([z for _, _, z in changed], dtype=torch.float32),
    }


def _loss(model: SpecFormer, batch: dict[str, Tensor], device: torch.device) -> Tensor:
    batch = {name: value.to(device) for name, value in batch.items()}
    # On a CPU the fused attention's backward pass takes longer than that of plain products.
    plain = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), plain:
        out = model(batch["flux"], batch["ivar"])
    losses = [task.weight * task.loss(out[task.name], batch[task.name]) for task in TASKS]
    x = torch.log1p(batch["z"])
    known = torch.isfinite(x)
    regression = nn.functional.smooth_l1_loss(out["x"][known], x[known], beta=0.05)
    return torch.stack(losses).sum() + (regression if known.any() else 0.0)


def _ask(
    model: SpecFormer, flux: np.ndarray, ivar: np.ndarray, device: torch.device
) -> dict[str, Tensor]:
    """What `SpecFormer.forward` gives, on the CPU, for any number of spectra."""
    model.eval()
    parts: list[dict[str, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(flux), 128):
            cut = slice(start, start + 128)
            seen = (torch.from_numpy(each[cut]).to(device) for each in (flux, ivar))
            parts.append({name: part.cpu() for name, part in model(*seen).items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _x_of_bins(logits: Tensor) -> np.ndarray:
    """ln(1 + z) of the best peak of p(z), whatever the class."""
    task = TASKS[-1]
    assert isinstance(task, tasks.Redshift)
    p = torch.softmax(logits, 1).double().numpy()
    return np.log1p(decoding.decode_redshift(task, p, np.zeros(len(p), dtype=bool)).z)


def _temperature(logits: Tensor, truth: np.ndarray) -> float:
    """What the class's logits are divided by to fit the labels best (Guo et al. 2017)."""
    target = torch.from_numpy(truth)
    grid = np.geomspace(0.3, 5.0, 57)
    losses = [float(TASKS[0].loss(logits / t, target)) for t in grid]
    return float(grid[int(np.argmin(losses))])
