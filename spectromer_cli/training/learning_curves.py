"""A figure of how a training went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spectromer_cli.outputs.plotting import new_figure, save_figure
from spectromer_cli.spectra.drawing import BLUE, VERMILION


def plot(path: Path, lines: Sequence[dict]) -> None:
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
