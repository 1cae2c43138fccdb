"""A spectrum as a figure shows it, with its lines; and the one palette."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.spectra.lines import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito (2008): colours that the colour-blind tell apart.
ORANGE, SKY_BLUE, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Theme:
    """The colours of a figure or page, by what they mean.

    Importance that speaks for a prediction is `supporting` (blue), importance that speaks
    against it `opposing` (orange).
    """

    ground: str
    text: str
    rule: str
    error: str
    masked: str
    template: str
    emission: str
    absorption: str
    supporting: str
    opposing: str


# The reddish purple of absorption lines is darker, or lighter, than Okabe & Ito's: it is text.
LIGHT = Theme(
    ground="#FFFFFF", text="#1B1D21", rule="#D4D7DD", error=SKY_BLUE, masked="#D9D9D9",
    template=GREEN, emission=BLUE, absorption="#A3477F", supporting=BLUE, opposing=VERMILION,
)  # fmt: skip
DARK = Theme(
    ground="#15181D", text="#E4E6EA", rule="#363D47", error="#3A7FB0", masked="#2C323A",
    template="#1FCB9B", emission=SKY_BLUE, absorption="#E7A0C8", supporting=SKY_BLUE,
    opposing=ORANGE,
)  # fmt: skip

# Of a figure of one spectrum [inches].
WIDTH, HEIGHT = 11.0, 4.6
# Names of lines stand above the spectrum, so many points apart, of so many points per character.
NAME_GAP, NAME_CHARACTER = 9.8, 4.1
# Between the phrases of a title.
BETWEEN = "   "


def plot_spectrum(
    axes: Axes,
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    *,
    z: float | None = None,
    lines: Sequence[Line] = (),
    template: np.ndarray | None = None,
    rest_frame: bool = False,
    theme: Theme = LIGHT,
) -> None:
    """Draw a spectrum with its 1σ band, masked regions in grey, and lines with their names.

    Parameters
    ----------
    axes : matplotlib Axes
        The caller names the flux axis and makes the legend.
    wavelength : array, shape (n,)
        Observed vacuum wavelength in Å, increasing.
    flux : array, shape (n,)
    ivar : array, shape (n,)
        0 where a pixel is masked; at least one is not.
    z : float, optional
        Gives the lines their places, and the axes a second one of rest-frame wavelength on top.
    lines : sequence of Line
    template : array, shape (n,), optional
        A template fit, drawn over the flux; NaN where there is none.
    rest_frame : bool
        Draw over the rest-frame wavelength at `z`, which must be known.
    theme : Theme
    """
    at_rest = 1.0 + (z or 0.0)
    x, stretch = (wavelength / at_rest, 1.0) if rest_frame else (wavelength, at_rest)
    good = ivar > 0
    shown = np.where(good, flux, np.nan)
    sigma = np.where(good, 1.0 / np.sqrt(np.where(good, ivar, 1.0)), np.nan)
    axes.fill_between(
        x, shown - sigma, shown + sigma, step="mid", color=theme.error, linewidth=0, alpha=0.6,
        label="±1σ",
    )  # fmt: skip
    axes.step(x, shown, where="mid", color=theme.text, linewidth=0.6, label="flux")
    if template is not None:
        axes.plot(x, template, color=theme.template, linewidth=1.0, label="best template fit")
    edges = np.concatenate([x[:1], 0.5 * (x[1:] + x[:-1]), x[-1:]])
    for number, (first, last) in enumerate(runs_of(~good)):
        axes.axvspan(
            edges[first], edges[last], color=theme.masked, linewidth=0, zorder=0,
            label="_" * (number > 0) + "masked",
        )  # fmt: skip
    axes.axhline(0.0, color="#7F7F7F", linewidth=0.5, linestyle=":")
    low, high = flux_range(flux, ivar)
    if template is not None and np.isfinite(template[good]).any():  # it has no wild pixels
        high = max(high, float(np.nanmax(template[good])))
    margin = 0.01 * (x[good][-1] - x[good][0])
    axes.set_xlim(x[good][0] - margin, x[good][-1] + margin)
    kind = "Rest-frame" if rest_frame else "Observed vacuum"
    axes.set_xlabel(f"{kind} wavelength [Å]", fontsize=9)
    _tick(axes, top=z is None or rest_frame, right=True)
    if z is not None and not rest_frame:
        ways = (lambda seen: np.divide(seen, stretch), lambda rest: np.multiply(rest, stretch))
        upper = axes.secondary_xaxis("top", functions=ways)
        upper.set_xlabel("Rest-frame wavelength [Å]", fontsize=9)
        _tick(upper)
    first, last = axes.get_xlim()
    inside = [] if z is None else [
        line for line in lines if first < line.wavelength * stretch < last
    ]  # fmt: skip
    names = _names_from(axes, inside)
    # The spectrum keeps below the names, where there are any.
    top = 1.1 / (names - 0.03) - 1.1 if inside else 0.12
    axes.set_ylim(low - 0.1 * (high - low), high + top * (high - low))
    _mark_lines(axes, inside, stretch, names, theme)


def draw_alone(
    axes: Axes, wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray, **how: Any
) -> None:
    """Draw a spectrum with its flux axis, whose ticks are plain numbers.

    Parameters
    ----------
    axes : matplotlib Axes
    wavelength, flux, ivar : array, shape (n,)
    **how
        As `plot_spectrum` takes it.
    """
    power = power_of_ten(max(map(abs, flux_range(flux, ivar))))
    scale = 10.0**power
    plot_spectrum(axes, wavelength, flux / scale, ivar * scale**2, **how)
    unit = f"10$^{{{power}}}$ of the file's unit" if power else "unit of the file"
    axes.set_ylabel(f"Flux density per Å ({unit})", fontsize=9)


def power_of_ten(value: float) -> int:
    """The power that makes a plain number of a very small or large one; 0 of all others."""
    if not value > 0 or 1e-2 <= value < 1e5:
        return 0
    return int(np.floor(np.log10(value)))


def _names_from(axes: Axes, lines: Sequence[Line]) -> float:
    """The share of the axes' height from which the names of lines have room."""
    points = axes.get_position().height * axes.figure.bbox.height / axes.figure.dpi * 72.0
    longest = max((len(line.name) for line in lines), default=0)
    # A little less high than before its labels are laid out.
    return float(np.clip(1.0 - (NAME_CHARACTER * longest + 8.0) / (0.92 * points), 0.4, 0.9))


def flux_range(flux: np.ndarray, ivar: np.ndarray) -> tuple[float, float]:
    """Least and greatest flux worth showing, without wild pixels and noisy ends.

    Zero is in, unless the spectrum keeps to a narrow range far above it.

    Parameters
    ----------
    flux, ivar : array, shape (n,)
        At least one pixel has an inverse variance above 0.
    """
    good = ivar > 0
    sigma = ivar[good] ** -0.5
    seen = flux[good][sigma <= 3.0 * np.median(sigma)]
    low, high = np.quantile(seen, [0.002, 0.998])
    if seen.size > 5:  # emission lines are in, however few their pixels
        five = np.lib.stride_tricks.sliding_window_view(seen, 5)
        high = max(high, np.median(five, axis=1).max())
    low, high = float(low), float(high)
    if not 0.0 < 0.6 * high < low:  # else most of the axis would be empty
        low, high = min(0.0, low), max(0.0, high)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _tick(axes: Any, **sides: bool) -> None:
    axes.minorticks_on()
    for which in ("major", "minor"):
        axes.tick_params(which=which, labelsize=8, direction="in", **sides)


def _mark_lines(
    axes: Axes, lines: Sequence[Line], stretch: float, names: float, theme: Theme
) -> None:
    """Each line with its name above; names of close lines move apart, the lines do not."""
    first, last = axes.get_xlim()
    inside = sorted(lines, key=lambda line: line.wavelength)
    at = np.array([(line.wavelength * stretch - first) / (last - first) for line in inside])
    gap = NAME_GAP / (axes.figure.bbox.width / axes.figure.dpi * 72.0)
    for line, share, name_at in zip(inside, at, spread_out(at, gap), strict=True):
        colour = theme.emission if line.emission else theme.absorption
        axes.plot(
            [share, share, name_at], [0.0, names - 0.02, names], transform=axes.transAxes,
            color=colour, linewidth=0.7, linestyle="-" if line.emission else "--", alpha=0.8,
        )  # fmt: skip
        axes.text(
            name_at, names + 0.01, line.name, transform=axes.transAxes, color=colour, fontsize=7,
            rotation=90, ha="center", va="bottom", zorder=5,
            bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 0.3},
        )  # fmt: skip


def spread_out(places: np.ndarray, gap: float) -> np.ndarray:
    """Move places between 0 and 1 apart to at least `gap`, as little as can be, in their order.

    Parameters
    ----------
    places : array, shape (n,)
        Increasing.
    gap : float

    Returns
    -------
    array, shape (n,)
        Runs of places that touch, each centred where its members were, half a gap or more
        from 0 and 1 as long as there is room.
    """
    groups: list[list[float]] = []  # members of a run

    def centre(group: list[float]) -> float:
        half = 0.5 * gap * len(group)
        return float(np.clip(np.mean(group), half, max(half, 1.0 - half)))

    for place in places:
        group = [float(place)]
        while groups:
            before = groups[-1]
            if centre(group) - centre(before) >= 0.5 * gap * (len(before) + len(group)):
                break
            group = groups.pop() + group
        groups.append(group)
    return np.array(
        [centre(group) + gap * (i - 0.5 * (len(group) - 1)) for group in groups
         for i in range(len(group))]
    )  # fmt: skip


def runs_of(wanted: np.ndarray) -> list[Any]:
    """First index of each run of True, and the one after its last."""
    steps = np.diff(np.concatenate([[False], wanted, [False]]).astype(int))
    return list(zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True))
