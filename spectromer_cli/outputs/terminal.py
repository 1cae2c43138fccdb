"""Spectra drawn in the terminal, in braille dots."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import numpy as np

from spectromer_cli.outputs.plotting import Look
from spectromer_cli.spectra.drawing import flux_range
from spectromer_cli.spectra.spectrum import Spectrum

TEXT_ROWS = 16
MARGIN = 10  # characters for the numbers beside the flux axis
NAME_ROWS = 3
# Where names crowd, these have their place before the others.
BEST_KNOWN = (
    *("Hα", "Hβ", "[O III] 5007", "[O II] 3726", "Lyα", "C IV 1549", "C III] 1909", "Mg II 2798"),
    *("Ca II K", "Ca II H", "Mg b", "Na D", "Hγ", "Hδ", "Ca II 8542", "TiO 7053"),
)
CYAN, MAGENTA, PLAIN = "\x1b[36m", "\x1b[35m", "\x1b[0m"


def show(look: Look) -> None:
    """Print a spectrum as wide as the terminal; in colour on a terminal without NO_COLOR."""
    columns = max(40, shutil.get_terminal_size((100, 30)).columns)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(text_plot(look, columns, colour))


def text_plot(look: Look, columns: int, colour: bool) -> str:
    """The spectrum in braille dots, two by four per character.

    Parameters
    ----------
    look : Look
    columns : int
        Characters per row.
    colour : bool
        Colour the names: emission cyan, absorption magenta.

    Returns
    -------
    str
        Lines without an end at the last; the flux is the inverse-variance mean in each dot.
    """
    spectrum = look.spectrum
    width = columns - MARGIN
    inside = spectrum.wavelength[spectrum.good]
    first, last = float(inside[0]), float(inside[-1])
    mean = _means(spectrum, 2 * width)
    low, high = flux_range(spectrum.flux, spectrum.ivar)
    high = max(min(high, float(np.nanmax(mean))), low + 0.01 * (high - low))
    high += 0.05 * (high - low)
    dots = _dots(mean, low, high)
    out = [look.title]
    if look.z is not None:
        out += _names(look, width, first, last, colour)
    for number, row in enumerate(_braille(dots)):
        label = f"{high:.3g}" if number == 0 else f"{low:.3g}" if number == TEXT_ROWS - 1 else ""
        out.append(f"{label:>{MARGIN - 2}} │{row}".rstrip("⠀ "))
    return "\n".join(out + _axis(width, first, last))


def _means(spectrum: Spectrum, across: int) -> np.ndarray:
    """Inverse-variance means of the flux in evenly wide bins, shape (across,); NaN without any."""
    good = spectrum.good
    wavelength = spectrum.wavelength[good]
    share = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0])
    place = (share * (across - 1)).round().astype(int)
    weight = np.bincount(place, spectrum.ivar[good], across)
    total = np.bincount(place, spectrum.ivar[good] * spectrum.flux[good], across)
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)


def _dots(mean: np.ndarray, low: float, high: float) -> np.ndarray:
    """Boolean array, shape (4 rows, len(mean)): where a dot is set, from the top left."""
    across, down = len(mean), 4 * TEXT_ROWS
    has = np.isfinite(mean)
    height = (high - np.clip(mean, low, high)) / (high - low) * (down - 1)
    dots = np.zeros((down, across), dtype=bool)
    for column in np.flatnonzero(has):
        here = round(float(height[column]))
        # Joined with the dot before, so that a narrow line is a line and not a speck.
        before = here
        if column and has[column - 1]:
            before = round(float(height[column - 1]))
        top, bottom = sorted((here, before))
        dots[top : bottom + 1, column] = True
    return dots


def _braille(dots: np.ndarray) -> list[str]:
    """Unicode's braille patterns: U+2800 and one bit a dot, down the left column first."""
    bits = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    rows, columns = dots.shape[0] // 4, dots.shape[1] // 2
    cells = dots.reshape(rows, 4, columns, 2).transpose(0, 2, 1, 3)
    codes = 0x2800 + (cells * bits).sum(axis=(2, 3))
    return ["".join(map(chr, row)) for row in codes.tolist()]


def _names(look: Look, width: int, first: float, last: float, colour: bool) -> list[str]:
    """Rows of names, each beginning above its line, and below them a row of marks."""
    stretch = 1.0 + (look.z or 0.0)
    rows = [[" "] * width for _ in range(NAME_ROWS)]
    marks = [" "] * width
    for line in sorted(look.lines, key=lambda line: line.name not in BEST_KNOWN):
        at = round((line.wavelength * stretch - first) / (last - first) * (width - 1))
        if not 0 <= at < width:
            continue
        code = CYAN if line.emission else MAGENTA
        marks[at] = _coloured("╷" if line.emission else "╎", code, colour)
        end = at + len(line.name)
        # A name that fits in no row goes without: its mark is still there.
        free = (row for row in rows if end < width and set(row[max(0, at - 1) : end + 1]) == {" "})
        row = next(free, None)
        if row is not None:
            row[at:end] = [_coloured(letter, code, colour) for letter in line.name]
    return [(" " * MARGIN + "".join(row)).rstrip() for row in [*reversed(rows), marks]]


def _coloured(letter: str, code: str, colour: bool) -> str:
    return f"{code}{letter}{PLAIN}" if colour else letter


def _axis(width: int, first: float, last: float) -> list[str]:
    """The wavelength axis with round numbers, observed."""
    steps: Sequence[int] = (100, 200, 250, 500, 1000, 2000, 2500, 5000, 10000)
    step = next((s for s in steps if (last - first) / s <= width / 10), 20000)
    line, labels = ["─"] * width, [" "] * (width + 8)
    for value in range(step * int(np.ceil(first / step)), int(last) + 1, step):
        at = round((value - first) / (last - first) * (width - 1))
        text = str(value)
        start = max(0, at - len(text) // 2)
        if labels[max(0, start - 1)] == " ":
            line[at] = "┴"
            labels[start : start + len(text)] = text
    margin = " " * MARGIN
    return [
        " " * (MARGIN - 1) + "└" + "".join(line),
        (margin + "".join(labels)).rstrip()[: MARGIN + width],
        margin + "observed vacuum wavelength [Å]",
    ]
