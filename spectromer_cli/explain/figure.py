"""The figure of an explanation: one look must tell whether to trust the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.paths import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): colours that the colour-blind tell apart.
BLUE, SKY_BLUE, ORANGE = "#0072B2", "#56B4E9", "#D55E00"


@dataclass(frozen=True)
class Sheet:
    """What the figure shows; arrays are on the wavelength grid, shape (n,).

    Parameters
    ----------
    title : str
    wavelength : array
        Observed, Å, vacuum.
    flux, error : array
        NaN where nothing was measured.
    importance : array
        Positive where the spectrum speaks for the answer.
    asked : str
        The question, for people.
    stretches : sequence of (low, high, share, names)
        In Å, observed.
    template : array or None
    z : float
        NaN if unknown.
    classes : dict of str to float
        Probabilities.
    p_z : tuple of arrays (z, p), or None
    alternatives : sequence of float
    curve : array, shape (m, 2), or None
        z and χ².
    image : array, shape (3, side, side)
    token_importance : array, shape (tokens, tokens)
    rest : bool
        Draw over the rest-frame wavelength.
    dark : bool
    """

    title: str
    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    importance: np.ndarray
    asked: str
    stretches: Sequence[tuple[float, float, float, tuple[str, ...]]]
    template: np.ndarray | None
    z: float
    classes: dict[str, float]
    p_z: tuple[np.ndarray, np.ndarray] | None
    alternatives: Sequence[float]
    curve: np.ndarray | None
    image: np.ndarray
    token_importance: np.ndarray
    rest: bool
    dark: bool

    @property
    def blue(self) -> str:
        """Blue that is seen on the paper."""
        return SKY_BLUE if self.dark else BLUE


def draw(sheet: Sheet, path: Path) -> None:
    """Draw a sheet into a PNG, PDF or SVG file.

    Parameters
    ----------
    sheet : Sheet
    path : Path
        The suffix chooses the format.
    """
    import matplotlib
    from matplotlib.figure import Figure

    ink = "#e8e8e8" if sheet.dark else "#1a1a1a"
    paper = "#161616" if sheet.dark else "white"
    style: dict[Any, Any] = {
        "font.size": 9,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.facecolor": paper,
        "figure.facecolor": paper,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.5, 7.2), layout="constrained")
        rows = figure.add_gridspec(3, 4, height_ratios=(4.2, 0.45, 2.2))
        top = figure.add_subplot(rows[0, :])
        band = figure.add_subplot(rows[1, :], sharex=top)
        _spectrum(top, sheet, ink)
        _band(band, sheet)
        _classes(figure.add_subplot(rows[2, 0]), sheet, ink)
        _redshift(figure.add_subplot(rows[2, 1]), sheet, ink)
        _chi2(figure.add_subplot(rows[2, 2]), sheet, ink)
        _image(figure.add_subplot(rows[2, 3]), sheet)
        figure.suptitle(sheet.title, x=0.01, ha="left", fontsize=10)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)


def _axis(sheet: Sheet) -> np.ndarray:
    """The wavelengths that are drawn."""
    return sheet.wavelength / (1.0 + sheet.z) if sheet.rest else sheet.wavelength


def _spectrum(axes: Axes, sheet: Sheet, ink: str) -> None:
    x = _axis(sheet)
    good = np.isfinite(sheet.flux)
    first, last = np.flatnonzero(good)[[0, -1]]
    axes.fill_between(
        x, sheet.flux - sheet.error, sheet.flux + sheet.error, color=ink, alpha=0.18, lw=0
    )
    axes.plot(x, sheet.flux, color=ink, lw=0.6)
    if sheet.template is not None:
        axes.plot(x, sheet.template, color=ORANGE, lw=1.0, label="best template fit")
        axes.legend(frameon=False, loc="lower right", fontsize=8)
    _shade(axes, x, ~good & (np.arange(good.size) > first) & (np.arange(good.size) < last), ink)
    low, high = np.nanpercentile(sheet.flux, [0.5, 99.5])
    peak = np.nanmax(_smooth(sheet.flux))
    margin = 0.08 * (max(high, peak) - low)
    # Room above for the names.
    axes.set_ylim(low - margin, max(high, peak) + 5.5 * margin)
    axes.set_xlim(x[first], x[last])
    axes.set_ylabel("flux / median")
    axes.tick_params(labelbottom=False)
    _names(axes, sheet, x[last] - x[first])
    if np.isfinite(sheet.z) and not sheet.rest and abs(sheet.z) > 0.002:
        factor = 1.0 + sheet.z
        functions = (lambda v: np.divide(v, factor), lambda v: np.multiply(v, factor))
        other = axes.secondary_xaxis("top", functions=functions)
        other.set_xlabel("rest wavelength [Å]")


def _smooth(flux: np.ndarray) -> np.ndarray:
    """Mean over nine pixels, so that one noisy pixel does not set the scale."""
    filled = np.where(np.isfinite(flux), flux, np.nanmedian(flux))
    return np.convolve(filled, np.ones(9) / 9.0, mode="same")


def _shade(axes: Axes, x: np.ndarray, masked: np.ndarray, ink: str) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], masked, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start > 2:
            axes.axvspan(x[start], x[min(stop, x.size - 1)], color=ink, alpha=0.10, lw=0)


def _names(axes: Axes, sheet: Sheet, width: float) -> None:
    """Mark the strongest stretches; names stand on rising steps where they would collide."""
    bottom, top = axes.get_ylim()
    taken = [-np.inf] * 4
    for low, high, share, names in sorted(sheet.stretches):
        scale = 1.0 + sheet.z if sheet.rest else 1.0
        low, high = low / scale, high / scale
        axes.axvspan(low, high, color=sheet.blue, alpha=0.16, lw=0)
        text = "\n".join([*names[:2], f"{share:.0%}"])
        centre = 0.5 * (low + high)
        half = 0.006 * width * max(len(word) for word in text.split("\n"))
        level = next((i for i, end in enumerate(taken) if centre - half > end), 3)
        taken[level] = centre + half
        height = top - (0.01 + 0.085 * level) * (top - bottom)
        axes.text(centre, height, text, color=sheet.blue, fontsize=7, ha="center", va="top",
                  linespacing=0.95, clip_on=True)  # fmt: skip


def _band(axes: Axes, sheet: Sheet) -> None:
    """Importance over wavelength: blue speaks for the answer, orange against it."""
    from matplotlib.colors import LinearSegmentedColormap

    x = _axis(sheet)
    colours = [ORANGE, "white" if not sheet.dark else "#161616", sheet.blue]
    colormap = LinearSegmentedColormap.from_list("for", colours)
    smooth = np.convolve(sheet.importance, np.ones(9) / 9.0, mode="same")
    limit = float(np.percentile(np.abs(smooth), 99.5)) or 1.0
    edges = np.concatenate([[1.5 * x[0] - 0.5 * x[1]], 0.5 * (x[1:] + x[:-1]), [2 * x[-1] - x[-2]]])
    axes.pcolormesh(
        edges, [0.0, 1.0], smooth[None], cmap=colormap, vmin=-limit, vmax=limit, rasterized=True
    )
    axes.set_yticks([])
    axes.set_ylabel("for", rotation=0, ha="right", va="center", color=sheet.blue)
    frame = "rest" if sheet.rest else "observed, vacuum"
    axes.set_xlabel(f"wavelength [Å], {frame}.   Blue speaks for {sheet.asked}, orange against it")


def _classes(axes: Axes, sheet: Sheet, ink: str) -> None:
    best = sorted(sheet.classes.items(), key=lambda pair: -pair[1])[:6]
    if not best:
        axes.set_axis_off()
        return
    place = np.arange(len(best))[::-1]
    axes.barh(place, [p for _, p in best], color=sheet.blue, height=0.6)
    for y, (name, p) in zip(place, best, strict=True):
        inside = p > 0.55
        axes.text(
            p - 0.03 if inside else p + 0.03, y, f"{name} {p:.3f}", va="center",
            ha="right" if inside else "left", color="white" if inside else ink, fontsize=8,
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(-0.6, len(best) - 0.4), xlabel="p(class)")
    axes.set_yticks([])


def _redshift(axes: Axes, sheet: Sheet, ink: str) -> None:
    if sheet.p_z is None:
        axes.set_axis_off()
        return
    z, p = sheet.p_z
    axes.fill_between(z, 1e-6, np.maximum(p, 1e-6), step="mid", color=sheet.blue, alpha=0.8, lw=0)
    axes.set(yscale="log", ylim=(1e-4, 1.5), xlabel="z", ylabel="p(z)")
    seen = z[p > 1e-4]
    if seen.size:
        span = max(float(np.ptp(seen)), 0.05)
        axes.set_xlim(seen.min() - 0.15 * span, seen.max() + 0.15 * span)
    for number, alternative in enumerate(sheet.alternatives, start=1):
        axes.annotate(f"{number}", (alternative, 0.6), color=ORANGE, ha="center", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_title(f"z = {sheet.z:.5f}", fontsize=8, color=ink)


def _chi2(axes: Axes, sheet: Sheet, ink: str) -> None:
    if sheet.curve is None:
        axes.set_axis_off()
        return
    z, chi2 = sheet.curve.T
    axes.plot(z, chi2 - chi2.min(), color=ORANGE, lw=1.0)
    axes.axvline(sheet.z, color=ink, lw=0.6, ls=":")
    axes.set(xlabel="z", ylabel="Δχ² of templates")
    axes.locator_params(axis="x", nbins=3)
    axes.tick_params(labelsize=7)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.ticklabel_format(axis="y", scilimits=(-2, 4))


def _image(axes: Axes, sheet: Sheet) -> None:
    """The image that the network sees, brighter where it matters."""
    tokens = len(sheet.token_importance)
    side = sheet.image.shape[1]
    picture = np.clip(0.5 + 0.5 * np.moveaxis(sheet.image, 0, 2), 0.0, 1.0)
    weight = np.clip(sheet.token_importance, 0.0, None)
    weight = weight / (weight.max() or 1.0)
    shade = np.kron(0.35 + 0.65 * weight, np.ones((side // tokens, side // tokens)))
    axes.imshow(picture * shade[..., None], interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("image, bright where it matters", fontsize=8)
