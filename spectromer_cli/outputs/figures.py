"""Figures: an image as PNG, and the gallery of all images of one spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.images import IMAGES, Image, get_image, render
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.grid import Grid, Prepared

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which the colour-blind tell apart; also distinct in grey print.
FLUX_COLOUR, SIGMA_COLOUR, NO_DATA_COLOUR = "#000000", "#56B4E9", "#D9D9D9"

GALLERY_COLUMNS = 4
WIDTH = 11.0  # inches: a landscape page
SPECTRUM_HEIGHT, IMAGE_HEIGHT = 2.5, 2.75
DPI = 200
# So many labels fit beside an image, and so many of four or five digits below it.
MOST_ROW_LABELS, MOST_COLUMN_LABELS = 14, 8
# So many characters of the usual width fit on the page, and below an image.
TITLE_CHARACTERS, SUMMARY_CHARACTERS = 100, 46
# Where the lines are darker than white, by channel: white less red is cyan.
CHANNEL_COLOURS = ("cyan", "magenta", "yellow")


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


def save_figure_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


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
    from textwrap import fill

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(IMAGES) // GALLERY_COLUMNS)
    figure = Figure(
        figsize=(WIDTH, SPECTRUM_HEIGHT + rows * IMAGE_HEIGHT + 0.5), layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(_shortened(title), fontsize=10, parse_math=False)
    figure.supxlabel(
        "Numbers in Å. Left and right of an image: the first and the last wavelength that a row "
        "of patches shows. Below it: where its columns of patches begin.",
        fontsize=7.5,
    )
    layout = figure.add_gridspec(
        1 + rows, GALLERY_COLUMNS, height_ratios=[SPECTRUM_HEIGHT] + rows * [IMAGE_HEIGHT]
    )
    _draw_spectrum(figure.add_subplot(layout[0, :]), prepared, grid)
    for number, name in enumerate(IMAGES):
        row, column = divmod(number, GALLERY_COLUMNS)
        axes = figure.add_subplot(layout[1 + row, column])
        pixels = _to_bytes(render_one(name, prepared, grid, tokens))
        axes.imshow(pixels, interpolation="nearest", extent=(0, tokens, tokens, 0))
        axes.set_title(name, fontsize=10, fontweight="bold")
        axes.set_xlabel(fill(get_image(name).summary, SUMMARY_CHARACTERS), fontsize=7)
        _mark_wavelengths(axes, get_image(name), grid, tokens)
    return figure


# --- the parts ------------------------------------------------------------------------------


def _draw_spectrum(axes: Axes, prepared: Prepared, grid: Grid) -> None:
    """Flux with its 1σ band, and shades where nothing was measured."""
    good = prepared.ivar > 0
    wavelength = grid.wavelength
    flux = np.where(good, prepared.flux, np.nan)
    sigma = np.where(good, 1.0 / np.sqrt(np.where(good, prepared.ivar, 1.0)), np.nan)
    axes.fill_between(
        wavelength, flux - sigma, flux + sigma, color=SIGMA_COLOUR, linewidth=0, label="±1σ"
    )
    axes.plot(wavelength, flux, color=FLUX_COLOUR, linewidth=0.4, label="flux")
    edges = 10.0 ** (grid.loglam0 + grid.dloglam * (np.arange(grid.n + 1) - 0.5))
    for number, (first, last) in enumerate(_runs(~good)):
        axes.axvspan(
            edges[first], edges[last], color=NO_DATA_COLOUR, linewidth=0,
            label="_" * (number > 0) + "no data",
        )  # fmt: skip
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(*_flux_axis(prepared.flux[good], sigma[good]))
    axes.axhline(0.0, color="#7F7F7F", linewidth=0.5, linestyle=":")
    axes.set_xlabel("Vacuum wavelength, observed [Å]", fontsize=9)
    axes.set_ylabel("Flux density per Å / median", fontsize=9)
    axes.tick_params(labelsize=8, direction="in", top=True, right=True)
    axes.minorticks_on()
    axes.tick_params(which="minor", direction="in", top=True, right=True)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=8, frameon=False)


def _flux_axis(flux: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """Ends of the flux axis: lines are seen whole, wild pixels and noisy ends are not."""
    low, high = np.quantile(flux[sigma <= 3.0 * np.median(sigma)], [0.002, 0.998])
    margin = 0.12 * max(high - low, 0.01)
    return float(low - margin), float(high + margin)


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

    Columns that show several stretches, each its own channel, have them one below the other.
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


def _shortened(title: str) -> str:
    if len(title) <= TITLE_CHARACTERS:
        return title
    half = TITLE_CHARACTERS // 2
    return f"{title[:half]} … {title[-half:]}"
