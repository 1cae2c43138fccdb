"""A quick look: one spectrum as a figure, with its errors, gaps and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.outputs.figures import FLUX_COLOUR, NO_DATA_COLOUR, SIGMA_COLOUR
from spectromer_cli.spectra.lines import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectromer_cli.spectra.spectrum import Spectrum

WIDTH, HEIGHT = 11.0, 4.6  # inches
EMISSION_COLOUR, ABSORPTION_COLOUR = "#0072B2", "#A3477F"
# Lines end at this share of the height, and their names stand above.
NAMES = 0.80
# An upright name takes this share of the width.
NAME_WIDTH = 0.0125


@dataclass(frozen=True)
class Look:
    """What is drawn.

    Parameters
    ----------
    spectrum : Spectrum
    title : str
    z : float or None
        Where lines and the rest-frame axis stand; None draws neither.
    lines : sequence of Line
    """

    spectrum: Spectrum
    title: str
    z: float | None = None
    lines: Sequence[Line] = ()


def smoothed(spectrum: Spectrum, width: float) -> Spectrum:
    """Smooth with a Gaussian; pixels weigh by their inverse variance, and bad ones stay bad.

    Parameters
    ----------
    spectrum : Spectrum
    width : float
        The Gaussian's σ in pixels; 0 changes nothing.

    Returns
    -------
    Spectrum
        With the inverse variance of the weighted means, for independent pixels.

    Raises
    ------
    ReadError
        If no pixel is good.
    """
    from spectromer_cli.spectra.spectrum import Spectrum

    if not spectrum.good.any():
        raise ReadError("every pixel is masked, zero or not a number", "look at the mask and ivar")
    if width == 0:
        return spectrum
    reach = int(np.ceil(4.0 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)

    def spread(values: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.convolve(values, by)[reach : reach + values.size]

    good = spectrum.good
    total = np.where(good, spread(spectrum.ivar, kernel), 1.0)
    flux = spread(spectrum.flux * spectrum.ivar, kernel) / total
    variance = spread(spectrum.ivar, kernel**2) / total**2
    ivar = np.where(good, 1.0 / np.where(good, variance, 1.0), 0.0)
    return Spectrum(spectrum.wavelength, np.where(good, flux, 0.0), ivar, spectrum.meta)


def draw(look: Look) -> Figure:
    """Draw a spectrum with its 1σ band, shades where pixels are bad, and lines.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_flux(axes, look.spectrum)
    if look.z is not None:
        stretch = 1.0 + look.z

        def to_rest(observed: Any) -> Any:
            return observed / stretch

        def to_observed(rest: Any) -> Any:
            return rest * stretch

        rest = axes.secondary_xaxis("top", functions=(to_rest, to_observed))
        rest.set_xlabel("Rest-frame wavelength [Å]", fontsize=9)
        rest.tick_params(labelsize=8, direction="in")
        rest.minorticks_on()
        rest.tick_params(which="minor", direction="in")
        _mark_lines(axes, look.lines, stretch)
    figure.suptitle(look.title, fontsize=10, x=0.01, ha="left", parse_math=False)
    return figure


def _draw_flux(axes: Axes, spectrum: Spectrum) -> None:
    good, wavelength = spectrum.good, spectrum.wavelength
    flux = np.where(good, spectrum.flux, np.nan)
    sigma = np.where(good, 1.0 / np.sqrt(np.where(good, spectrum.ivar, 1.0)), np.nan)
    axes.fill_between(
        wavelength, flux - sigma, flux + sigma, step="mid", color=SIGMA_COLOUR, linewidth=0,
        alpha=0.6, label="±1σ",
    )  # fmt: skip
    axes.step(wavelength, flux, where="mid", color=FLUX_COLOUR, linewidth=0.6, label="flux")
    middles = 0.5 * (wavelength[1:] + wavelength[:-1])
    edges = np.concatenate([wavelength[:1], middles, wavelength[-1:]])
    steps = np.flatnonzero(np.diff(np.concatenate([[False], ~good, [False]]).astype(int)))
    for number, (first, last) in enumerate(steps.reshape(-1, 2)):
        axes.axvspan(
            edges[first], edges[last], color=NO_DATA_COLOUR, linewidth=0, zorder=0,
            label="_" * (number > 0) + "no data",
        )  # fmt: skip
    low, high = flux_range(spectrum)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.47 * (high - low))  # names stand above
    inside = wavelength[good]
    margin = 0.01 * (inside[-1] - inside[0])
    axes.set_xlim(inside[0] - margin, inside[-1] + margin)
    axes.axhline(0.0, color="#7F7F7F", linewidth=0.5, linestyle=":")
    axes.set_xlabel("Observed vacuum wavelength [Å]", fontsize=9)
    axes.set_ylabel("Flux density per Å (unit of the file)", fontsize=9)
    axes.minorticks_on()
    for which in ("major", "minor"):
        axes.tick_params(which=which, labelsize=8, direction="in", right=True)
    axes.figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)


def flux_range(spectrum: Spectrum) -> tuple[float, float]:
    """Least and greatest flux worth showing: zero is in, wild pixels and noisy ends are not."""
    good = spectrum.good
    sigma = spectrum.ivar[good] ** -0.5
    seen = spectrum.flux[good][sigma <= 3.0 * np.median(sigma)]
    low, high = np.quantile(seen, [0.002, 0.998])
    low, high = min(0.0, float(low)), max(0.0, float(high))
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _mark_lines(axes: Axes, lines: Sequence[Line], stretch: float) -> None:
    """Each line with its name above; names of close lines move apart, the lines do not."""
    first, last = axes.get_xlim()
    inside = sorted(
        (line for line in lines if first < line.wavelength * stretch < last),
        key=lambda line: line.wavelength,
    )
    at = np.array([(line.wavelength * stretch - first) / (last - first) for line in inside])
    for line, share, name_at in zip(inside, at, spread_out(at, NAME_WIDTH), strict=True):
        colour = EMISSION_COLOUR if line.emission else ABSORPTION_COLOUR
        axes.plot(
            [share, share, name_at], [0.0, NAMES - 0.02, NAMES], transform=axes.transAxes,
            color=colour, linewidth=0.7, linestyle="-" if line.emission else "--", alpha=0.8,
        )  # fmt: skip
        axes.text(
            name_at, NAMES + 0.01, line.name, transform=axes.transAxes, color=colour, fontsize=7,
            rotation=90, ha="center", va="bottom",
        )  # fmt: skip


def spread_out(places: np.ndarray, gap: float) -> np.ndarray:
    """Move places apart to at least `gap`, as little as can be, in their order.

    Parameters
    ----------
    places : array, shape (n,)
        Increasing.
    gap : float

    Returns
    -------
    array, shape (n,)
        Runs of places that touch, each centred where its members were.
    """
    groups: list[list[float]] = []  # members of a run
    for place in places:
        group = [float(place)]
        while groups:
            before = groups[-1]
            if np.mean(group) - np.mean(before) >= 0.5 * gap * (len(before) + len(group)):
                break
            group = groups.pop() + group
        groups.append(group)
    return np.array(
        [np.mean(group) + gap * (i - 0.5 * (len(group) - 1)) for group in groups
         for i in range(len(group))]
    )  # fmt: skip
