"""One sheet of figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which the colour-blind tell apart.
COLOURS = {"STAR": "#E69F00", "GALAXY": "#0072B2", "QSO": "#D55E00"}


def figures(
    report: Mapping[str, Any],
    predictions: Mapping[str, np.ndarray],
    class_true: np.ndarray,
    z_true: np.ndarray,
) -> Figure:
    """Six panels: confusion, reliability, z against z, residual against S/N, pull, and what a
    cut on the confidence keeps.

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
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(13, 8), layout="constrained")
    axes = sheet.subplots(2, 3).ravel()
    if "classes" in report:
        _draw_confusion(axes[0], report["classes"]["confusion"])
        _draw_reliability(axes[1], report["classes"]["reliability"])
    if "redshifts" in report:
        _draw_redshifts(axes[2], axes[3], axes[4], predictions, class_true, z_true)
    _draw_completeness(axes[5], report)
    for panel in axes:
        if not panel.has_data():
            panel.set_axis_off()
    return sheet


def _draw_confusion(axes: Axes, confusion: Mapping[str, Any]) -> None:
    counts = np.array(confusion["rows_true"], dtype=float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    labels = confusion["labels"]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="found", ylabel="true", title="Classes")


def _draw_reliability(axes: Axes, rows: list[dict[str, float]]) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    size = [10 + 3 * np.sqrt(row["n"]) for row in rows]
    axes.scatter(
        [row["confidence"] for row in rows],
        [row["accuracy"] for row in rows],
        s=size,
        color="#0072B2",
    )
    axes.set(
        xlim=(0.3, 1.02), ylim=(0, 1.05), xlabel="confidence", ylabel="share right",
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
        z, truth = predictions["z"][these], z_true[these]
        style: dict[str, Any] = {"s": 8, "color": colour, "label": name, "alpha": 0.6}
        if name != "STAR":
            plane.scatter(1 + truth, 1 + z, **style)
            scaled = np.maximum(np.abs(z - truth) / (1 + truth), 1e-6)
            residual.scatter(np.maximum(predictions["sn_median"][these], 0.1), scaled, **style)
        width = (z - truth) / predictions["z_err"][these]
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
        xscale="log", yscale="log", xlim=(0.98, high), ylim=(0.98, high), xlabel="1 + z, true",
        ylabel="1 + z, found", title="Redshifts",
    )  # fmt: skip
    for limit in (1000 / 299792.458, 0.01):
        residual.axhline(limit, color="0.7", lw=1, ls="--")
    residual.set(
        xscale="log", yscale="log", xlabel="median S/N a pixel", ylabel="|Δz|/(1+z)",
        title="Error against S/N (dashed: 1000 km/s, 0.01)",
    )  # fmt: skip
    pull.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.7", lw=1)
    pull.set(xlabel="(z − truth)/z_err", title="Pull (grey: honest errors)")
    pull.legend(frameon=False)


def _draw_completeness(axes: Axes, report: Mapping[str, Any]) -> None:
    """What is kept and how much of it is right, as the cuts on two confidences rise."""
    for part, name, colour, words in (
        ("redshifts", "z_prob", "#0072B2", "z within 0.01 (1+z), by z_prob"),
        ("classes", "class_prob", "#D55E00", "class, by class_prob"),
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
        xlabel="share kept, at or above the number", ylabel="share right",
        title="Completeness and purity",
    )  # fmt: skip
