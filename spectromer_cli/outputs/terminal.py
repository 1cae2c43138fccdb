"""Spectra drawn in the terminal: as a picture where it can show one, else in braille dots."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from spectromer_cli.outputs.quicklook import Look, draw, flux_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Graphics = Literal["kitty", "sixel", "text"]

# How long a terminal may take to say what it can, in seconds.
PATIENCE = 0.3
# Pixels of a character where the terminal does not tell.
CHARACTER_WIDTH = 9
KITTY_CHUNK = 4096  # bytes: the protocol's limit
SIXEL_COLOURS = 64
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
    """Draw a spectrum on stdout, with whatever the terminal can."""
    columns = _columns()
    way = graphics()
    if way == "text":
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(text_plot(look, columns, colour))
        return
    figure = draw(look)
    figure.set_dpi(_pixel_width(columns) / figure.get_figwidth())
    print(look.title)  # to be found again when the picture is scrolled out of sight
    print(kitty(_png(figure)) if way == "kitty" else sixel(_pixels(figure)))


def graphics() -> Graphics:
    """What the terminal says it can show: the graphics of kitty, sixels, or text only.

    kitty and ghostty name themselves in the environment; others are asked for their primary
    device attributes, of which 4 means sixels (DEC STD 070; xterm's ctlseqs). Multiplexers
    pass on the environment, but not the graphics.
    """
    if not sys.stdout.isatty():
        return "text"
    term = os.environ.get("TERM", "")
    if term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if term in ("", "dumb", "linux") or not sys.stdin.isatty():
        return "text"
    found = re.search(rb"\x1b\[\?([\d;]*)c", _ask("\x1b[c"))
    return "sixel" if found and b"4" in found[1].split(b";") else "text"


def _ask(question: str) -> bytes:
    """What the terminal answers, or nothing if it stays silent."""
    try:
        import select
        import termios
        import tty
    except ImportError:  # Windows
        return b""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    answer = b""
    try:
        tty.setcbreak(keyboard)
        sys.stdout.write(question)
        sys.stdout.flush()
        end = time.monotonic() + PATIENCE
        while not answer.endswith(b"c") and (left := end - time.monotonic()) > 0:
            if select.select([keyboard], [], [], left)[0]:
                answer += os.read(keyboard, 64)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
    return answer


def _columns() -> int:
    import shutil

    return max(40, shutil.get_terminal_size((100, 30)).columns)


def _pixel_width(columns: int) -> int:
    try:
        import fcntl
        import struct
        import termios

        size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        return struct.unpack("HHHH", size)[2] or columns * CHARACTER_WIDTH
    except (ImportError, OSError, ValueError):
        return columns * CHARACTER_WIDTH


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    return file.getvalue()


def _pixels(figure: Figure) -> np.ndarray:
    """Shape (height, width, 3), 0 to 255."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def kitty(png: bytes) -> str:
    """A PNG in the escape codes of kitty's graphics protocol (a=T transmit and show, f=100 PNG)."""
    text = base64.b64encode(png).decode("ascii")
    chunks = [text[i : i + KITTY_CHUNK] for i in range(0, len(text), KITTY_CHUNK)]
    codes = []
    for number, chunk in enumerate(chunks):
        keys = "a=T,f=100," if number == 0 else ""
        codes.append(f"\x1b_G{keys}m={int(number < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(codes)


def sixel(pixels: np.ndarray) -> str:
    """Pixels as DEC sixels: bands six pixels high, each colour a run-length coded line.

    Parameters
    ----------
    pixels : array of uint8, shape (height, width, 3)

    Returns
    -------
    str
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(SIXEL_COLOURS)
    index = np.asarray(image)
    palette = np.array(image.getpalette()).reshape(-1, 3)
    height, width = index.shape
    codes = [f'\x1bPq"1;1;{width};{height}']
    for number in range(int(index.max()) + 1):
        red, green, blue = np.round(palette[number] / 2.55).astype(int)  # per cent
        codes.append(f"#{number};2;{red};{green};{blue}")
    for top in range(0, height, 6):
        band = index[top : top + 6]
        weights = 1 << np.arange(len(band))
        lines = [
            f"#{colour}" + _run_lengths(63 + weights @ (band == colour))
            for colour in np.unique(band)
        ]
        codes.append("$".join(lines) + "-")
    return "".join(codes) + "\x1b\\"


def _run_lengths(codes: np.ndarray) -> str:
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    lengths = np.diff(np.concatenate([starts, [codes.size]]))
    return "".join(
        chr(code) * length if length < 4 else f"!{length}{chr(code)}"
        for code, length in zip(codes[starts].tolist(), lengths.tolist(), strict=True)
    )


# --- text -----------------------------------------------------------------------------------


def text_plot(look: Look, columns: int, colour: bool) -> str:
    """The spectrum in braille dots, two by four a character.

    Parameters
    ----------
    look : Look
    columns : int
        Characters a row.
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
    low, high = flux_range(spectrum)
    high += 0.05 * (high - low)
    dots = _dots(look, width, first, last, low, high)
    out = [look.title]
    if look.z is not None:
        out += _names(look, width, first, last, colour)
    for number, row in enumerate(_braille(dots)):
        label = f"{high:.3g}" if number == 0 else f"{low:.3g}" if number == TEXT_ROWS - 1 else ""
        out.append(f"{label:>{MARGIN - 2}} │{row}".rstrip("⠀ "))
    return "\n".join(out + _axis(width, first, last))


def _dots(look: Look, width: int, first: float, last: float, low: float, high: float) -> np.ndarray:
    """Boolean array, shape (4 rows, 2 width): where a dot is set, from the top left."""
    spectrum, across, down = look.spectrum, 2 * width, 4 * TEXT_ROWS
    good = spectrum.good
    share = (spectrum.wavelength[good] - first) / (last - first)
    place = (share * (across - 1)).round().astype(int)
    weight = np.bincount(place, spectrum.ivar[good], across)
    total = np.bincount(place, spectrum.ivar[good] * spectrum.flux[good], across)
    has = weight > 0
    mean = np.where(has, total / np.where(has, weight, 1.0), np.nan)
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
