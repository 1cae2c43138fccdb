"""Figures, and the one palette: a spectrum, a quick look, an image, the gallery of all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.images import IMAGES, Image, get_image, render
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.lines import Line

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectromer_cli.spectra.spectrum import Spectrum

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

DPI = 200
WIDTH = 11.0  # inches: a landscape page
LOOK_HEIGHT, SPECTRUM_HEIGHT, IMAGE_HEIGHT = 4.6, 2.5, 2.75
# So many characters of a title fit beside the legend of a quick look, and on the whole page.
LOOK_CHARACTERS, TITLE_CHARACTERS = 95, 100
# Lines end at this share of the height, and their names stand above, so many points apart.
NAMES, NAME_GAP = 0.80, 9.8
GALLERY_COLUMNS = 4
# So many labels fit beside an image, and so many of four or five digits below it.
MOST_ROW_LABELS, MOST_COLUMN_LABELS = 14, 8
# So many characters fit below an image.
SUMMARY_CHARACTERS = 46
# Where the lines are darker than white, by channel: white less red is cyan.
CHANNEL_COLOURS = ("cyan", "magenta", "yellow")
# A confusion matrix of more classes has no numbers in it.
MOST_NUMBERED_CLASSES = 20


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, which lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : Path
        The suffix chooses the format: .png, .pdf or .svg, the last two with their text as text.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    import matplotlib

    with (
        matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}),
        atomic_path(path) as temporary,
    ):
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DPI)


def rc_params(theme: Theme) -> dict[Any, Any]:
    """Settings of matplotlib for a theme, for drawing and for saving."""
    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    paper = ("axes.facecolor", "figure.facecolor")
    return dict.fromkeys(ink, theme.text) | dict.fromkeys(paper, theme.ground)


# --- a spectrum -----------------------------------------------------------------------------


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
    for number, (first, last) in enumerate(_runs(~good)):
        axes.axvspan(
            edges[first], edges[last], color=theme.masked, linewidth=0, zorder=0,
            label="_" * (number > 0) + "masked",
        )  # fmt: skip
    axes.axhline(0.0, color="#7F7F7F", linewidth=0.5, linestyle=":")
    low, high = flux_range(flux, ivar)
    room = 0.47 if len(lines) else 0.12  # names stand above
    axes.set_ylim(low - 0.1 * (high - low), high + room * (high - low))
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
    if z is not None:
        _mark_lines(axes, lines, stretch, theme)


def flux_range(flux: np.ndarray, ivar: np.ndarray) -> tuple[float, float]:
    """Least and greatest flux worth showing: zero is in, wild pixels and noisy ends are not.

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
    low, high = min(0.0, float(low)), max(0.0, float(high))
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _tick(axes: Any, **sides: bool) -> None:
    axes.minorticks_on()
    for which in ("major", "minor"):
        axes.tick_params(which=which, labelsize=8, direction="in", **sides)


def _mark_lines(axes: Axes, lines: Sequence[Line], stretch: float, theme: Theme) -> None:
    """Each line with its name above; names of close lines move apart, the lines do not."""
    first, last = axes.get_xlim()
    inside = sorted(
        (line for line in lines if first < line.wavelength * stretch < last),
        key=lambda line: line.wavelength,
    )
    at = np.array([(line.wavelength * stretch - first) / (last - first) for line in inside])
    gap = NAME_GAP / (axes.figure.bbox.width / axes.figure.dpi * 72.0)
    for line, share, name_at in zip(inside, at, spread_out(at, gap), strict=True):
        colour = theme.emission if line.emission else theme.absorption
        axes.plot(
            [share, share, name_at], [0.0, NAMES - 0.02, NAMES], transform=axes.transAxes,
            color=colour, linewidth=0.7, linestyle="-" if line.emission else "--", alpha=0.8,
        )  # fmt: skip
        axes.text(
            name_at, NAMES + 0.01, line.name, transform=axes.transAxes, color=colour, fontsize=7,
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


# --- a quick look ---------------------------------------------------------------------------


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
    """Draw a quick look.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(WIDTH, LOOK_HEIGHT)
    axes = figure.add_subplot()
    spectrum = look.spectrum
    plot_spectrum(
        axes, spectrum.wavelength, spectrum.flux, spectrum.ivar, z=look.z, lines=look.lines
    )
    axes.set_ylabel("Flux density per Å (unit of the file)", fontsize=9)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    title = fill(look.title, LOOK_CHARACTERS, replace_whitespace=False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    return figure


# --- classes --------------------------------------------------------------------------------


def plot_confusion(axes: Axes, counts: np.ndarray, labels: Sequence[str]) -> None:
    """Draw a confusion matrix, shaded by its share of each row.

    Parameters
    ----------
    axes : matplotlib Axes
    counts : array of int, shape (n, n)
        Rows are reference labels, columns predictions.
    labels : sequence of str
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= MOST_NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:.0f}" if count else "", ha="center", va="center",
                      color=colour)  # fmt: skip
    axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 5 else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="reference")


# --- images ---------------------------------------------------------------------------------


def render_one(name: str, prepared: Prepared, grid: Grid, tokens: int) -> np.ndarray:
    """Draw one spectrum.

    Parameters
    ----------
    name : str
        One of `images.IMAGES`.
    prepared : Prepared
        The spectrum on the grid.
    grid : Grid
    tokens : int
        Patches along one side of the image.

    Returns
    -------
    array of float32, shape (3, 16·tokens, 16·tokens)
    """
    import torch

    flux, ivar = torch.from_numpy(prepared.flux)[None], torch.from_numpy(prepared.ivar)[None]
    return render(name, flux, ivar, grid, tokens)[0].numpy()


def save_image_png(image: torch.Tensor | np.ndarray, path: Path, scale: int = 4) -> None:
    """Write an image as the model sees it, enlarged without smoothing.

    Parameters
    ----------
    image : Tensor or array, shape (3, height, width)
        −1 (black) to 1 (white); what lies beyond is cut.
    path : Path
        The PNG file.
    scale : int
        Pixels of the file along each side of a pixel of the image.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    from matplotlib.image import imsave

    pixels = _to_bytes(image).repeat(scale, axis=0).repeat(scale, axis=1)
    with atomic_path(path) as temporary:
        imsave(temporary, pixels, format="png")


def gallery(prepared: Prepared, grid: Grid, tokens: int, title: str) -> Figure:
    """Lay out a spectrum and all its images on one sheet.

    Parameters
    ----------
    prepared : Prepared
        The spectrum on the grid.
    grid : Grid
    tokens : int
        Patches along one side of the images.
    title : str
        What stands above; cut in the middle if it is too long for the page.

    Returns
    -------
    matplotlib.figure.Figure
        The wavelengths beside an image are those of its rows of patches, or, where every row
        shows the same, those of its columns.
    """
    rows = -(-len(IMAGES) // GALLERY_COLUMNS)
    figure = new_figure(WIDTH, SPECTRUM_HEIGHT + rows * IMAGE_HEIGHT + 0.5)
    figure.suptitle(shortened(title, TITLE_CHARACTERS), fontsize=10, parse_math=False)
    figure.supxlabel(
        "Numbers in Å. Left and right of an image: the first and the last wavelength that a row "
        "of patches shows. Below it: where its columns of patches begin.",
        fontsize=7.5,
    )
    layout = figure.add_gridspec(
        1 + rows, GALLERY_COLUMNS, height_ratios=[SPECTRUM_HEIGHT] + rows * [IMAGE_HEIGHT]
    )
    top = figure.add_subplot(layout[0, :])
    plot_spectrum(top, grid.wavelength, prepared.flux, prepared.ivar)
    top.set_xlim(grid.wavelength[0], grid.wavelength[-1])  # as the images show it
    top.set_ylabel("Flux density per Å / median", fontsize=9)
    top.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=8, frameon=False)
    for number, name in enumerate(IMAGES):
        row, column = divmod(number, GALLERY_COLUMNS)
        axes = figure.add_subplot(layout[1 + row, column])
        pixels = _to_bytes(render_one(name, prepared, grid, tokens))
        axes.imshow(pixels, interpolation="nearest", extent=(0, tokens, tokens, 0))
        axes.set_title(name, fontsize=10, fontweight="bold")
        axes.set_xlabel(fill(get_image(name).summary, SUMMARY_CHARACTERS), fontsize=7)
        _mark_wavelengths(axes, get_image(name), grid, tokens)
    return figure


def _mark_wavelengths(axes: Axes, image: Image, grid: Grid, tokens: int) -> None:
    """Write wavelengths beside the rows of patches, or else below the columns."""
    shown = image.samples(grid, tokens).reshape(tokens, tokens, grid.n)
    by_row = np.asarray(shown.any(axis=1))
    axes.tick_params(labelsize=6.5, length=2, pad=1.5)
    if (by_row == by_row[0]).all():
        _mark_columns(axes, np.asarray(shown.any(axis=0)), grid)
    else:
        _mark_rows(axes, by_row, grid)


def _mark_rows(axes: Axes, by_row: np.ndarray, grid: Grid) -> None:
    """Write the first wavelength of a row of patches on its left, the last on its right.

    `by_row` has shape (tokens, grid.n): the samples that each row shows.
    """
    rows = _spread(len(by_row) - 1, MOST_ROW_LABELS)
    shown = [grid.wavelength[by_row[row]] for row in rows]
    axes.set_xticks([])
    axes.set_yticks(rows + 0.5, [f"{wavelengths[0]:.0f}" for wavelengths in shown])
    right = axes.secondary_yaxis("right")
    right.set_yticks(rows + 0.5, [f"{wavelengths[-1]:.0f}" for wavelengths in shown])
    right.tick_params(labelsize=6.5, length=2, pad=1.5)


def _mark_columns(axes: Axes, by_column: np.ndarray, grid: Grid) -> None:
    """Write the wavelengths at which columns of patches begin, and the last one's end.

    Columns that show several regions, each in its own channel, have them one below the other.
    `by_column` has shape (tokens, grid.n).
    """
    tokens = len(by_column)
    runs = [_runs(samples) for samples in by_column]
    edges = [[first for first, _ in of_column] for of_column in runs]
    edges.append([last - 1 for _, last in runs[-1]])
    borders = _spread(tokens, MOST_COLUMN_LABELS)
    labels = ["\n".join(f"{grid.wavelength[i]:.0f}" for i in edges[at]) for at in borders]
    axes.set_yticks([])
    axes.set_xticks(borders, labels)
    if len(edges[0]) == len(CHANNEL_COLOURS):
        axes.set_xlabel(f"{axes.get_xlabel()}\n(numbers: {', '.join(CHANNEL_COLOURS)})")


def _spread(last: int, most: int) -> np.ndarray:
    """At most `most` whole numbers from 0 to `last`, both among them, evenly spaced but there."""
    step = max(1, -(-last // (most - 1)))
    numbers = np.arange(0, last + 1, step)
    numbers[-1] = last
    return numbers


def _runs(wanted: np.ndarray) -> list[Any]:
    """First index of each run of True, and the one after its last."""
    steps = np.diff(np.concatenate([[False], wanted, [False]]).astype(int))
    return list(zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True))


def _to_bytes(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """Pixels of shape (height, width, 3), 0 to 255."""
    values = np.clip((np.asarray(image) + 1.0) / 2.0, 0.0, 1.0)
    return (values * 255.0).round().astype(np.uint8).transpose(1, 2, 0)


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, cut in the middle if it is longer."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"
