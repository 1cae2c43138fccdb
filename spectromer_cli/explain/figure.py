"""The figure of an explanation: one look must tell whether to trust the prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.model.zwarn import names_of
from spectromer_cli.outputs.plotting import new_figure, rc_params, save_figure, shortened
from spectromer_cli.spectra.drawing import DARK, LIGHT, Theme, plot_spectrum, spread_out

if TYPE_CHECKING:
    from astropy.table import Row
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectromer_cli.explain.explanation import Explanation

WIDTH, HEIGHT = 9.5, 7.6  # inches
# So many characters of a name fit beside the legend.
NAME_CHARACTERS = 64
# A share as text takes this part of the width.
SHARE_WIDTH = 0.032
# Importance is drawn as a mean over so many pixels, about what the eye can tell apart.
SMOOTHING = 9
MOST_CLASSES = 6


def save(
    explanation: Explanation, path: Path, *, rest_frame: bool = False, dark: bool = False
) -> None:
    """Draw an explanation into a file.

    Parameters
    ----------
    explanation : Explanation
    path : Path
        .png, .pdf or .svg.
    rest_frame : bool
        Draw over the rest-frame wavelength, if the redshift is known.
    dark : bool
        Light on dark.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    import matplotlib

    theme = DARK if dark else LIGHT
    with matplotlib.rc_context({"font.size": 9} | rc_params(theme)):
        save_figure(draw(explanation, rest_frame=rest_frame, theme=theme), path)


def draw(explanation: Explanation, *, rest_frame: bool = False, theme: Theme = LIGHT) -> Figure:
    """Draw an explanation.

    Parameters
    ----------
    explanation : Explanation
    rest_frame : bool
    theme : Theme

    Returns
    -------
    matplotlib.figure.Figure
        The spectrum with the strongest regions, importance over wavelength, and below them the
        class probabilities, p(z), χ² of the template fit, and the image with its important
        tokens bright.
    """
    figure = new_figure(WIDTH, HEIGHT)
    rest_frame = rest_frame and bool(np.isfinite(explanation.z))
    rows = figure.add_gridspec(3, 4, height_ratios=(4.4, 0.4, 2.2))
    top = figure.add_subplot(rows[0, :])
    band = figure.add_subplot(rows[1, :], sharex=top)
    _spectrum(top, explanation, rest_frame, theme)
    _band(band, explanation, rest_frame, theme)
    _classes(figure.add_subplot(rows[2, 0]), explanation, theme)
    _redshift(figure.add_subplot(rows[2, 1]), explanation, theme)
    _chi2(figure.add_subplot(rows[2, 2]), explanation, theme)
    _image(figure.add_subplot(rows[2, 3]), explanation)
    figure.suptitle(_title(explanation), x=0.01, ha="left", fontsize=9, parse_math=False)
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper right", ncols=4,
                  fontsize=8, frameon=False)  # fmt: skip
    return figure


def _title(explanation: Explanation) -> str:
    """The name of the file, and below it what is explained."""
    item, row = explanation.item, explanation.row
    words = [f"S/N {item.sn_median:.1f} per pixel", str(explanation.prediction)]
    if explanation.prediction.outputs.size:
        words.append(f"p {explanation.probability:.3f}")
    if np.isfinite(explanation.z) and not str(explanation.prediction).startswith("z "):
        words.append(f"z = {explanation.z:.5f}")
    if "zwarn" in row.colnames and row["zwarn"]:
        words.append(" ".join(names_of(int(row["zwarn"]))))
    words.append(f"method {explanation.method}")
    name = f"{Path(item.file).name}[{item.row}]" if item.of_many else Path(item.file).name
    return f"{shortened(name, NAME_CHARACTERS)}\n{'   '.join(words)}"


def _scale(explanation: Explanation, rest_frame: bool) -> float:
    """What observed wavelengths are divided by."""
    return 1.0 + explanation.z if rest_frame else 1.0


def _spectrum(axes: Axes, explanation: Explanation, rest_frame: bool, theme: Theme) -> None:
    """The spectrum, the strongest regions with their shares, and the lines that fall there."""
    prepared, regions = explanation.prepared, explanation.regions
    lines = dict.fromkeys(line for region in regions for line in region.lines)
    plot_spectrum(
        axes, explanation.grid.wavelength, prepared.flux, prepared.ivar,
        z=explanation.z if np.isfinite(explanation.z) else None, lines=list(lines),
        template=explanation.template, rest_frame=rest_frame, theme=theme,
    )  # fmt: skip
    axes.set_xlabel("")
    axes.set_ylabel("Flux density per Å / median", fontsize=9)
    axes.tick_params(labelbottom=False)
    scale = _scale(explanation, rest_frame)
    regions = sorted(regions, key=lambda region: region.low)
    for region in regions:
        axes.axvspan(
            region.low / scale, region.high / scale, color=theme.supporting, alpha=0.16,
            linewidth=0, zorder=0.5,
        )  # fmt: skip
    first, last = axes.get_xlim()
    middles = [0.5 * (region.low + region.high) / scale for region in regions]
    places = spread_out((np.array(middles) - first) / (last - first), SHARE_WIDTH)
    for region, place in zip(regions, places, strict=True):
        axes.text(
            place, 0.015, f"{region.share:.0%}", transform=axes.transAxes, ha="center",
            color=theme.supporting, fontsize=7, zorder=5,
            bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 0.3},
        )  # fmt: skip


def _band(axes: Axes, explanation: Explanation, rest_frame: bool, theme: Theme) -> None:
    """Importance over wavelength, coloured by whether it supports or opposes the prediction."""
    from matplotlib.colors import LinearSegmentedColormap

    x = explanation.grid.wavelength / _scale(explanation, rest_frame)
    colours = [theme.opposing, theme.ground, theme.supporting]
    colormap = LinearSegmentedColormap.from_list("importance", colours)
    importance = np.convolve(explanation.importance, np.ones(SMOOTHING) / SMOOTHING, mode="same")
    limit = float(np.percentile(np.abs(importance), 99.5)) or 1.0
    edges = np.concatenate([[1.5 * x[0] - 0.5 * x[1]], 0.5 * (x[1:] + x[:-1]), [2 * x[-1] - x[-2]]])
    axes.pcolormesh(
        edges, [0.0, 1.0], importance[None], cmap=colormap, vmin=-limit, vmax=limit, rasterized=True
    )
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    frame = "Rest-frame" if rest_frame else "Observed vacuum"
    speaks = f"band: importance, blue supports {explanation.prediction}"
    if (importance < 0.0).any():
        speaks += ", orange opposes it"
    shaded = "shaded: the strongest regions, with their fractions"
    axes.set_xlabel(f"{frame} wavelength [Å]\n{shaded};   {speaks}", fontsize=9)


def _classes(axes: Axes, explanation: Explanation, theme: Theme) -> None:
    ranked = sorted(explanation.class_probabilities.items(), key=lambda pair: -pair[1])
    best = ranked[:MOST_CLASSES]
    if not best:
        axes.set_axis_off()
        return
    place = np.arange(len(best))[::-1]
    axes.barh(place, [p for _, p in best], color=theme.supporting, height=0.6)
    for y, (name, p) in zip(place, best, strict=True):
        inside = p > 0.55
        axes.text(
            p - 0.03 if inside else p + 0.03, y, f"{name} {p:.3f}", va="center",
            ha="right" if inside else "left", color=theme.ground if inside else theme.text,
            fontsize=8,
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(-0.6, len(best) - 0.4), xlabel="p(class)")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7)
    axes.set_yticks([])


def _redshift(axes: Axes, explanation: Explanation, theme: Theme) -> None:
    """p(z), and the numbers of the alternatives on top."""
    if explanation.p_z is None:
        axes.set_axis_off()
        return
    z, p = explanation.p_z
    axes.fill_between(z, 1e-6, np.maximum(p, 1e-6), step="mid", color=theme.supporting, alpha=0.8,
                      linewidth=0)  # fmt: skip
    axes.set(yscale="log", ylim=(1e-4, 3.0), xlabel="z", ylabel="p(z)")
    seen = z[p > 1e-3]
    if seen.size:
        span = max(float(np.ptp(seen)), 0.05)
        axes.set_xlim(seen.min() - 0.15 * span, seen.max() + 0.15 * span)
    axes.set_yticks([1e-4, 1e-3, 1e-2, 1e-1, 1.0], ["0.0001", "0.001", "0.01", "0.1", "1"])
    _mark_alternatives(axes, explanation.row, theme)
    _few_ticks(axes)
    axes.axvline(explanation.z, color=theme.text, linewidth=0.6, linestyle=":")


def _mark_alternatives(axes: Axes, row: Row, theme: Theme) -> None:
    low, high = axes.get_xlim()
    names = (f"z_alt{rank}" for rank in range(1, 6))
    found = {
        name[-1]: float(row[name])
        for name in names
        if name in row.colnames and row[name] is not np.ma.masked
    }
    inside = sorted((z, rank) for rank, z in found.items() if low < z < high)
    places = spread_out(np.array([(z - low) / (high - low) for z, _ in inside]), 0.07)
    for (_, rank), place in zip(inside, places, strict=True):
        axes.text(place, 0.98, rank, transform=axes.transAxes, ha="center", va="top", fontsize=7,
                  color=theme.text)  # fmt: skip


def _chi2(axes: Axes, explanation: Explanation, theme: Theme) -> None:
    if explanation.curve is None:
        axes.set_axis_off()
        return
    z, chi2 = explanation.curve.T
    axes.plot(z, chi2 - chi2.min(), color=theme.template, linewidth=1.0)
    axes.axvline(explanation.z, color=theme.text, linewidth=0.6, linestyle=":")
    axes.set(xlabel="z", ylabel="Δχ² of templates")
    axes.locator_params(axis="y", nbins=5)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    _few_ticks(axes)


def _few_ticks(axes: Axes) -> None:
    """Redshifts as plain numbers, few enough to stand beside each other."""
    axes.locator_params(axis="x", nbins=3)
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.tick_params(labelsize=7)


def _image(axes: Axes, explanation: Explanation) -> None:
    """The image that the network sees, brighter where it matters."""
    shown, image = explanation.shown, explanation.image
    tokens = round(len(shown) ** 0.5)
    weight = np.clip((shown * explanation.importance).sum(axis=1), 0.0, None)
    weight = (weight / (weight.max() or 1.0)).reshape(tokens, tokens)
    picture = np.clip(0.5 + 0.5 * np.moveaxis(image, 0, 2), 0.0, 1.0)
    shade = np.kron(0.35 + 0.65 * weight, np.ones((image.shape[1] // tokens,) * 2))
    axes.imshow(picture * shade[..., None], interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("image, bright: important", fontsize=8)
