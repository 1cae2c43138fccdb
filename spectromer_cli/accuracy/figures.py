"""Figures that compare predictions with reference values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.metrics import OUTLIERS
from spectromer_cli.outputs.plotting import new_figure, plot_confusion, save_figure
from spectromer_cli.spectra.drawing import BLUE, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"STAR": ORANGE, "GALAXY": BLUE, "QSO": VERMILION}


def sheet(
    report: Mapping[str, Any],
    predictions: Mapping[str, np.ndarray],
    class_true: np.ndarray,
    z_true: np.ndarray,
) -> Figure:
    """Six panels: confusion, reliability, z against z, residual against S/N, pull, and
    completeness and purity of a cut on the confidence.

    Parameters
    ----------
    report : mapping
        As `summary.summarise` gives it.
    predictions : mapping of arrays, shape (n,)
        ``z``, ``z_err``, ``sn_median``.
    class_true, z_true : array, shape (n,)
        The reference values.

    Returns
    -------
    matplotlib.figure.Figure
    """
    drawn = new_figure(13, 8)
    axes = drawn.subplots(2, 3).ravel()
    if "classes" in report:
        confusion = report["classes"]["confusion"]
        plot_confusion(axes[0], np.array(confusion["rows_true"]), confusion["labels"])
        axes[0].set_title("Classes")
        _draw_reliability(axes[1], report["classes"]["reliability"])
    if "redshifts" in report:
        _draw_redshifts(axes[2], axes[3], axes[4], predictions, class_true, z_true)
    _draw_completeness(axes[5], report)
    for panel in axes:
        if not panel.has_data():
            panel.set_axis_off()
    return drawn


def _draw_reliability(axes: Axes, rows: list[dict[str, float]]) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    size = [10 + 3 * np.sqrt(row["n"]) for row in rows]
    axes.scatter(
        [row["confidence"] for row in rows],
        [row["accuracy"] for row in rows],
        s=size,
        color=BLUE,
    )
    axes.set(
        xlim=(0.3, 1.02), ylim=(0, 1.05), xlabel="confidence", ylabel="accuracy",
        title="Reliability of the class",
    )  # fmt: skip


def _draw_redshifts(
    plane: Axes,
    residual: Axes,
    pull: Axes,
    predictions: Mapping[str, np.ndarray],
    class_true: np.ndarray,
    z_true: np.ndarray,
) -> None:
    use = np.isfinite(z_true) & np.isfinite(predictions["z"])
    x = np.linspace(-5, 5, 41)
    for name, colour in COLOURS.items():
        these = use & (class_true == name)
        if not these.any():
            continue
        z, reference = predictions["z"][these], z_true[these]
        style: dict[str, Any] = {"s": 8, "color": colour, "label": name, "alpha": 0.6}
        if name != "STAR":
            plane.scatter(1 + reference, 1 + z, **style)
            scaled = np.maximum(np.abs(z - reference) / (1 + reference), 1e-6)
            residual.scatter(np.maximum(predictions["sn_median"][these], 0.1), scaled, **style)
        width = (z - reference) / predictions["z_err"][these]
        pull.hist(
            np.clip(width, -5, 5),
            bins=list(x),
            density=True,
            histtype="step",
            color=colour,
            label=name,
        )
    if not use.any():
        return
    high = max(1.1, 1.05 * float(np.nanmax(1 + z_true[use])))
    plane.plot([1, high], [1, high], color="0.7", lw=1, zorder=0)
    plane.set(
        xscale="log", yscale="log", xlim=(0.98, high), ylim=(0.98, high), xlabel="1 + z, reference",
        ylabel="1 + z, predicted", title="Redshifts",
    )  # fmt: skip
    for limit in (OUTLIERS["1000kms"], OUTLIERS["0.01"]):
        residual.axhline(limit, color="0.7", lw=1, ls="--")
    residual.set(
        xscale="log", yscale="log", xlabel="median S/N per pixel", ylabel="|Δz|/(1+z)",
        title="Error against S/N (dashed: 1000 km/s, 0.01)",
    )  # fmt: skip
    pull.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.7", lw=1)
    pull.set(xlabel="(z − reference)/z_err", title="Pull (grey: unit Gaussian)")
    pull.legend(frameon=False)


def _draw_completeness(axes: Axes, report: Mapping[str, Any]) -> None:
    """Completeness and purity, as the cuts on two confidences rise."""
    for part, name, colour, words in (
        ("redshifts", "z_prob", BLUE, "z within 0.01 (1+z), by z_prob"),
        ("classes", "class_prob", VERMILION, "class, by class_prob"),
    ):
        rows = report.get(part, {}).get("completeness_purity", [])
        if not rows:
            continue
        kept = [row["completeness"] for row in rows]
        axes.plot(kept, [row["purity"] for row in rows], "o-", color=colour, label=words)
        for row in rows[::2]:
            place = (row["completeness"], row["purity"])
            axes.annotate(
                f"{row[name]:g}", place, xytext=(3, -11), textcoords="offset points", fontsize=8
            )
        axes.legend(frameon=False)
    axes.set(
        xlabel="completeness (at or above the number)", ylabel="purity",
        title="Completeness and purity",
    )  # fmt: skip


def confusion(
    path: Path, labels: Sequence[str], reference: np.ndarray, predicted: np.ndarray
) -> None:
    """Confusion matrix of one task, rows normalised.

    Parameters
    ----------
    path : Path
        PNG.
    labels : sequence of str
        All of them, in order.
    reference, predicted : array of str, shape (n,)
    """
    counts = [[np.sum((reference == row) & (predicted == col)) for col in labels] for row in labels]
    side = min(2.5 + 0.5 * len(labels), 14.0)
    figure = new_figure(side, side)
    plot_confusion(figure.subplots(), np.array(counts), labels)
    save_figure(figure, path)


def residuals(path: Path, name: str, reference: np.ndarray, predicted: np.ndarray) -> None:
    """Predictions of a number against reference values, and their difference.

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
