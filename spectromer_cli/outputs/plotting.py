"""Figures: a quick look at a spectrum, an image, the gallery of all images, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.images import IMAGES, Image, get_image, render
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.drawing import (
    BETWEEN,
    HEIGHT,
    WIDTH,
    Theme,
    draw_alone,
    plot_spectrum,
    runs_of,
)
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.lines import Line

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectromer_cli.spectra.spectrum import Spectrum

DPI = 200
SPECTRUM_HEIGHT, IMAGE_HEIGHT = 2.5, 2.75  # inches
# So many characters of a title fit on the whole page, and beside the legend of a quick look.
TITLE_CHARACTERS, LOOK_CHARACTERS = 100, 108
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
        raise ReadError("every pixel is masked, zero or NaN", "check the mask and ivar")
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
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    spectrum = look.spectrum
    draw_alone(axes, spectrum.wavelength, spectrum.flux, spectrum.ivar, z=look.z, lines=look.lines)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    # Its phrases, such as z with its error, stay whole.
    title = "\n".join(_lines_of(look.title.split(BETWEEN), LOOK_CHARACTERS))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    return figure


def _lines_of(phrases: Sequence[str], most: int) -> list[str]:
    """Phrases in lines of at most so many characters, if no phrase is longer."""
    lines = [""]
    for phrase in phrases:
        longer = f"{lines[-1]}{BETWEEN}{phrase}" if lines[-1] else phrase
        if len(longer) <= most or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(phrase)
    return [part for line in lines for part in wrap(line, most, replace_whitespace=False)]


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
        "Wavelengths in Å. Left and right of an image: the first and last wavelength of each row "
        "of patches. Below it: the offset of each column of patches.",
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
    runs = [runs_of(samples) for samples in by_column]
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


def _to_bytes(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """Pixels of shape (height, width, 3), 0 to 255."""
    values = np.clip((np.asarray(image) + 1.0) / 2.0, 0.0, 1.0)
    return (values * 255.0).round().astype(np.uint8).transpose(1, 2, 0)


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, cut in the middle if it is longer."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"
