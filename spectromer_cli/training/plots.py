"""Figures of a fine-tuning: how it learned, whom it confuses, by how much it is off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spectromer_cli.paths import atomic_path

# Colours that the colour-blind tell apart (Okabe & Ito 2008).
BLUE, ORANGE = "#0072B2", "#D55E00"


def learning_curves(path: Path, lines: Sequence[dict]) -> None:
    """Losses against steps, fit by fit.

    Parameters
    ----------
    path : Path
        PNG.
    lines : sequence of dict
        Of ``metrics.jsonl``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, stage in enumerate(dict.fromkeys(line["stage"] for line in lines)):
        own = [line for line in lines if line["stage"] == stage]
        step = [line["step"] for line in own]
        loss = [sum(v for k, v in line.items() if k.startswith("loss_")) for line in own]
        label = number == 0
        axes.plot(step, loss, color=BLUE, alpha=0.6, label="training" if label else None)
        judged = [line.get("validation_loss", np.nan) for line in own]
        axes.plot(step, judged, color=ORANGE, alpha=0.8, label="held out" if label else None)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    _save(figure, path)


def confusion(path: Path, labels: Sequence[str], truth: np.ndarray, found: np.ndarray) -> None:
    """Confusion matrix, rows normalised.

    Parameters
    ----------
    path : Path
        PNG.
    labels : sequence of str
    truth, found : array of int, shape (n,)
    """
    from matplotlib.figure import Figure

    n = len(labels)
    count = np.zeros((n, n), dtype=int)
    np.add.at(count, (truth, found), 1)
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    side = min(2.5 + 0.5 * n, 14.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if n <= 20:
        for i, j in np.ndindex(n, n):
            if count[i, j]:
                colour = "white" if share[i, j] > 0.5 else "black"
                axes.text(j, i, f"{count[i, j]}", ha="center", va="center", color=colour)
    axes.set_xticks(range(n), labels, rotation=90 if n > 5 else 0)
    axes.set_yticks(range(n), labels)
    axes.set(xlabel="found", ylabel="label")
    _save(figure, path)


def residuals(path: Path, name: str, truth: np.ndarray, found: np.ndarray) -> None:
    """Found against label, and their difference.

    Parameters
    ----------
    path : Path
        PNG.
    name : str
    truth, found : array, shape (n,)
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.plot(truth, found, ".", color=BLUE, ms=3, alpha=0.5)
    ends = [float(np.min(truth)), float(np.max(truth))]
    upper.plot(ends, ends, color="0.4", lw=0.8)
    upper.set(ylabel=f"{name} found")
    lower.plot(truth, found - truth, ".", color=BLUE, ms=3, alpha=0.5)
    lower.axhline(0.0, color="0.4", lw=0.8)
    limit = float(np.percentile(np.abs(found - truth), 98)) or 1.0
    lower.set(xlabel=f"{name} label", ylabel="difference", ylim=(-1.3 * limit, 1.3 * limit))
    _save(figure, path)


def _save(figure, path: Path) -> None:  # type: ignore[no-untyped-def]
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
