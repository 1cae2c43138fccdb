"""Figures of a fine-tuning: learning curves, confusion matrices, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spectromer_cli.outputs.plotting import (
    BLUE,
    VERMILION,
    new_figure,
    plot_confusion,
    save_figure,
)


def learning_curves(path: Path, lines: Sequence[dict]) -> None:
    """Losses against steps, fit by fit.

    Parameters
    ----------
    path : Path
        PNG.
    lines : sequence of dict
        Of ``metrics.jsonl``.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for number, stage in enumerate(dict.fromkeys(line["stage"] for line in lines)):
        own = [line for line in lines if line["stage"] == stage]
        step = [line["step"] for line in own]
        loss = [sum(v for k, v in line.items() if k.startswith("loss_")) for line in own]
        label = number == 0
        axes.plot(step, loss, color=BLUE, alpha=0.6, label="training" if label else None)
        judged = [line.get("validation_loss", np.nan) for line in own]
        axes.plot(step, judged, color=VERMILION, alpha=0.8, label="held out" if label else None)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    save_figure(figure, path)


def confusion(
    path: Path, labels: Sequence[str], reference: np.ndarray, predicted: np.ndarray
) -> None:
    """Confusion matrix, rows normalised.

    Parameters
    ----------
    path : Path
        PNG.
    labels : sequence of str
        All of them, in the order of their numbers.
    reference, predicted : array of int, shape (n,)
    """
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(counts, (reference, predicted), 1)
    side = min(2.5 + 0.5 * len(labels), 14.0)
    figure = new_figure(side, side)
    plot_confusion(figure.subplots(), counts, labels)
    save_figure(figure, path)


def residuals(path: Path, name: str, reference: np.ndarray, predicted: np.ndarray) -> None:
    """Predictions against reference values, and their difference.

    Parameters
    ----------
    path : Path
        PNG.
    name : str
    reference, predicted : array, shape (n,)
    """
    figure = new_figure(5, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.plot(reference, predicted, ".", color=BLUE, ms=3, alpha=0.5)
    ends = [float(np.min(reference)), float(np.max(reference))]
    upper.plot(ends, ends, color="0.4", lw=0.8)
    upper.set(ylabel=f"{name}, predicted")
    lower.plot(reference, predicted - reference, ".", color=BLUE, ms=3, alpha=0.5)
    lower.axhline(0.0, color="0.4", lw=0.8)
    limit = float(np.percentile(np.abs(predicted - reference), 98)) or 1.0
    lower.set(xlabel=f"{name}, reference", ylabel="difference", ylim=(-1.3 * limit, 1.3 * limit))
    save_figure(figure, path)
