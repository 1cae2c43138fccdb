"""Whether a FITS file can be what its headers claim, before anything is allocated for it.

The HDUs are walked by their header blocks alone, as FITS 4.0 lays them out (sections 3 and 4).
astropy trusts the sizes in a header: a damaged one makes it loop, or ask for terabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, wraps
from math import prod
from typing import BinaryIO, TypeVar

import numpy as np

from spectromer_cli.errors import ReadError

BLOCK = 2880
CARD = 80
# Of NAXIS and of TFIELDS (FITS 4.0, 4.4.1 and 7.2.1).
MOST = 999
# A table of 999 columns has some 600 kB; the rest is HISTORY.
MAX_HEADER_BYTES = 5_000_000
# A longer header is no survey's.
REMEMBERED_BYTES = 100_000
BITPIX = (8, 16, 32, 64, -32, -64)
# Bytes of an element, by the letter of TFORM (FITS 4.0, table 18); X counts bits.
ELEMENT_BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "A": 1, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16}
ELEMENT_BYTES |= {"P": 8, "Q": 16}

# The first eight bytes of the cards that say how large something is.
_SIZES = frozenset(
    name.ljust(8).encode()
    for name in (
        *("BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP", "GROUPS", "XTENSION"),
        *("ZIMAGE", "ZBITPIX", "ZNAXIS", *(f"ZNAXIS{number}" for number in range(1, 100))),
        *(f"{name}{number}" for name in ("NAXIS", "TFORM") for number in range(1, MOST + 1)),
    )
)
_END = b"END     "
_FORM = re.compile(r"(\d*)([A-Z])(?:\(?.*)")
_VARIABLE = re.compile(r"(\d*)([PQ])([A-Z])")
# Of a table, so many bytes are looked at at a time.
_CHUNK = 1 << 24
T = TypeVar("T")


@dataclass
class Extent:
    """Where an HDU lies in its file, as far as its header says.

    Parameters
    ----------
    cards : dict of str to str
        What the header says of sizes; shared, not to be changed.
    text : bytes
        The header, with all of its blocks.
    start : int
        Where the data begin.
    size : int
        Bytes of the data, without padding.
    """

    cards: dict[str, str]
    text: bytes
    start: int
    size: int = 0

    @property
    def end(self) -> int:
        """Where the next HDU begins."""
        return self.start + -(-self.size // BLOCK) * BLOCK


def check(file: BinaryIO, length: int, max_bytes: int) -> list[Extent]:
    """Refuse a FITS file whose headers claim what it cannot hold.

    Parameters
    ----------
    file : binary file
        Unpacked.
    length : int
        Its bytes.
    max_bytes : int
        What one HDU may take in memory.

    Returns
    -------
    list of Extent
        The HDUs.

    Raises
    ------
    ReadError
        If it does, or a header has no end.
    """
    found: list[Extent] = []
    place = 0
    while place < length:
        number = len(found)
        hdu = header_at(file, place, number)
        if hdu is None:  # what follows the last HDU is no concern of a reader
            break
        hdu.size = _size(hdu, number, length)
        left = length - hdu.start
        if hdu.size > left:
            raise ReadError(
                f"the file is cut off: its end is missing. HDU {number} claims "
                f"{_amount(hdu.size)}, and {_amount(max(0, left))} are there",
                "download it again",
            )
        kind = hdu.cards.get("XTENSION")
        in_memory = hdu.size
        if kind == "BINTABLE":
            in_memory = max(in_memory, _unpacked_size(hdu, file, number, max_bytes))
        elif kind == "TABLE":
            _check_text_columns(hdu, number)
        if _whole(hdu, "NAXIS") < 3:  # cubes hold no spectra, and nobody reads their data
            refuse_large(f"HDU {number}", in_memory, max_bytes)
        place = hdu.end
        found.append(hdu)
    return found


def refuse_large(what: str, size: int, max_bytes: int) -> None:
    """Refuse what takes more memory than the user allows.

    Raises
    ------
    ReadError
        If `size` is more than `max_bytes`.
    """
    if size > max_bytes:
        raise ReadError(
            f"{what} takes {_amount(size)} in memory, and {_amount(max_bytes)} are allowed",
            "raise the limit with --max-file-size",
        )


def _amount(size: int) -> str:
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.3g} {unit}"
    return f"{size} bytes"


def header_at(file: BinaryIO, place: int, number: int) -> Extent | None:
    """The header that begins at a place.

    Parameters
    ----------
    file : binary file
    place : int
    number : int
        Of the HDU, from 0.

    Returns
    -------
    Extent or None
        Without the size; None if no header begins there.

    Raises
    ------
    ReadError
        If it has no end, or a size has two values.
    """
    file.seek(place)
    blocks: list[bytes] = []
    while len(blocks) < MAX_HEADER_BYTES // BLOCK:
        block = file.read(BLOCK)
        blocks.append(block)
        # astropy takes whatever ends like a header for one.
        if _has_end(block):
            text = b"".join(blocks)
            return Extent(sizes_in(text), text, place + len(blocks) * BLOCK)
        if len(block) < BLOCK:
            break
    if not blocks[0].startswith(b"SIMPLE" if number == 0 else b"XTENSION"):
        return None
    raise ReadError(
        f"the file is cut off: the header of HDU {number} has no end", "download it again"
    )


def _has_end(block: bytes) -> bool:
    """Whether the card END is in a block of a header."""
    place = block.find(_END)
    while place >= 0:
        if place % CARD == 0 and not block[place + 8 : place + CARD].strip():
            return True
        place = block.find(_END, place + 1)
    return False


def by_header(work: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Remember what a function has made of the last headers: many files of a survey share them."""
    remembering = lru_cache(maxsize=64)(work)

    @wraps(work)
    def made(text: bytes) -> T:
        return remembering(text) if len(text) <= REMEMBERED_BYTES else work(text)

    return made


@by_header
def sizes_in(text: bytes) -> dict[str, str]:
    """The cards of a header that say how large something is.

    Raises
    ------
    ReadError
        If a size has two values.
    """
    cards: dict[str, str] = {}
    for start in range(0, len(text), CARD):
        name = text[start : start + 8]
        if name in _SIZES and text[start + 8 : start + 9] == b"=":
            key, value = name.decode().rstrip(), _value(text[start + 9 : start + CARD])
            if cards.setdefault(key, value) != value and not key.startswith("TFORM"):
                raise ReadError(
                    f"a header has {key} twice, as {cards[key][:40]} and {value[:40]}",
                    "download the file again",
                )
        elif name == _END and not text[start + 8 : start + CARD].strip():
            break
    return cards


def _value(said: bytes) -> str:
    """The value of a card without its comment; of a text what stands in its quotes."""
    said = said.strip()
    text = said[1:].split(b"'", 1)[0] if said.startswith(b"'") else said.split(b"/", 1)[0]
    return text.strip().decode("latin-1")


def _whole(hdu: Extent, name: str, default: int | None = None) -> int:
    """A whole number of the header.

    Raises
    ------
    ReadError
        If the card is missing and there is no default, or it holds no such number.
    """
    text = hdu.cards.get(name)
    if text is None and default is not None:
        return default
    if text is not None and len(text) < 19 and text.isascii() and text.isdigit():
        return int(text)
    try:
        value = float(text or "") if len(text or "") < 30 else float("nan")
        if not value.is_integer():
            raise ValueError
        return int(text or "") if re.fullmatch(r"[-+]?\d+", text or "") else int(value)
    except (ValueError, OverflowError):
        said = "has no" if text is None else f"claims {text[:40]!r} as"
        raise ReadError(f"a header {said} {name}", "download the file again") from None


def _size(hdu: Extent, number: int, length: int) -> int:
    """Bytes of the data of an HDU (FITS 4.0, equations 1, 2 and 4), without padding.

    Raises
    ------
    ReadError
        If a size is out of its range.
    """

    def within(name: str, most: int, default: int | None = None) -> int:
        value = _whole(hdu, name, default)
        if not 0 <= value <= most:
            why = f"FITS allows {most}" if most == MOST else f"the file has {_amount(length)}"
            raise ReadError(
                f"HDU {number} claims {name} = {str(value)[:40]}, but {why}",
                "download the file again",
            )
        return value

    count = within("NAXIS", MOST)
    bitpix = _whole(hdu, "BITPIX")
    if bitpix not in BITPIX:
        raise ReadError(f"HDU {number} claims BITPIX = {bitpix}", "download the file again")
    # So many bits are more than any of these can count; the size says whether the file is whole.
    anything = max(10**12, 8 * length)
    axes = [within(f"NAXIS{axis}", anything) for axis in range(1, count + 1)]
    groups, extra = within("GCOUNT", anything, 1), within("PCOUNT", anything, 0)
    within("TFIELDS", MOST, 0)
    in_groups = hdu.cards.get("GROUPS") == "T" and bool(axes) and axes[0] == 0
    if not in_groups and 0 in axes and max(axes) > length:
        raise ReadError(
            f"HDU {number} claims {max(axes)} rows without a byte in them",
            "download the file again",
        )
    elements = prod(axes[1:] if in_groups else axes) if axes else 0
    return abs(bitpix) // 8 * groups * (extra + elements) if axes else 0


def _check_text_columns(hdu: Extent, number: int) -> None:
    """Refuse a table in ASCII whose columns are wider than its rows.

    Raises
    ------
    ReadError
        If one is.
    """
    width = _whole(hdu, "NAXIS1", 0)
    for column in range(1, _whole(hdu, "TFIELDS", 0) + 1):
        digits = re.search(r"\d+", hdu.cards.get(f"TFORM{column}", ""))
        if digits and (len(digits[0]) > 9 or int(digits[0]) > width):
            raise ReadError(
                f"HDU {number} claims rows of {width} bytes, and columns that need more",
                "download the file again",
            )


def _unpacked_size(hdu: Extent, file: BinaryIO, number: int, max_bytes: int) -> int:
    """Bytes that a binary table takes in memory, its arrays of variable length included.

    Raises
    ------
    ReadError
        If a row is shorter than its columns, or an array lies beyond the table.
    """
    if hdu.cards.get("ZIMAGE") == "T":
        axes = _whole(hdu, "ZNAXIS", 0)
        if not 0 <= axes <= MOST:
            raise ReadError(f"HDU {number} claims ZNAXIS = {axes}", "download the file again")
        bits = abs(_whole(hdu, "ZBITPIX", 8))
        sides = [_whole(hdu, f"ZNAXIS{axis}", 0) for axis in range(1, axes + 1)]
        if min(sides, default=0) < 0:
            raise ReadError(f"HDU {number} claims a negative size", "download the file again")
        return prod(sides) * max(1, bits // 8)
    width, rows = _whole(hdu, "NAXIS1", 0), _whole(hdu, "NAXIS2", 0)
    room = hdu.size - _whole(hdu, "THEAP", width * rows)
    total = width * rows
    arrays, taken = _layout(hdu.text)
    for column, form, place in arrays if rows else ():
        found = _VARIABLE.match(form)
        assert found is not None
        for said in _arrays(hdu, file, ">i4" if found[2] == "P" else ">i8", place):
            ends = said[:, 1] + said[:, 0] * ELEMENT_BYTES.get(found[3], 1 / 8)
            used = said[:, 0] > 0
            if said.min() < 0 or np.any(ends[used] > room):
                raise ReadError(
                    f"column {column} of HDU {number} has arrays that lie beyond the table",
                    "download the file again",
                )
            # Arrays may share their bytes; each of them is read.
            total += int(np.sum(said[:, 0] * max(1, ELEMENT_BYTES.get(found[3], 1))))
        refuse_large(f"column {column} of HDU {number}", total, max_bytes)
    if taken > width:
        raise ReadError(
            f"HDU {number} claims rows of {width} bytes, and columns that need more",
            "download the file again",
        )
    return total


@by_header
def _layout(text: bytes) -> tuple[list[tuple[int, str, int]], int]:
    """Of a table's columns, up to one that cannot be understood: what they need, by the header.

    Returns
    -------
    arrays : list of (int, str, int)
        Number, form and place of the columns of arrays of variable length.
    taken : int
        Bytes of a row, as far as they fit into it or one more column.
    """
    hdu = Extent(sizes_in(text), text, 0)
    width = _whole(hdu, "NAXIS1", 0)
    arrays, place = [], 0
    for column in range(1, _whole(hdu, "TFIELDS", 0) + 1):
        form = hdu.cards.get(f"TFORM{column}", "").upper()
        taken = cell_bytes(form)
        if taken is None:
            break  # astropy says what is wrong with it
        if taken and place + taken <= width and _VARIABLE.match(form):
            arrays.append((column, form, place))
        place += taken
        if place > width:
            break
    return arrays, place


def _arrays(hdu: Extent, file: BinaryIO, kind: str, place: int) -> Iterator[np.ndarray]:
    """Lengths and places of a column's arrays of variable length, shape (rows, 2), in pieces.

    Raises
    ------
    ReadError
        If there are fewer rows than the header says.
    """
    width, left = _whole(hdu, "NAXIS1"), _whole(hdu, "NAXIS2")
    one = np.dtype({"names": ["array"], "formats": [(kind, 2)], "offsets": [place],
                    "itemsize": width})  # fmt: skip
    file.seek(hdu.start)
    while left:
        rows = min(left, max(1, _CHUNK // width))
        data = file.read(rows * width)
        if len(data) < rows * width:
            raise ReadError("a table has fewer rows than its header claims", "download it again")
        yield np.frombuffer(data, one)["array"].astype(np.float64)
        left -= rows


@lru_cache(maxsize=4096)
def cell_bytes(form: str) -> int | None:
    """Bytes that one cell takes in its row.

    Parameters
    ----------
    form : str
        TFORM, in upper case.

    Returns
    -------
    int or None
        None if it cannot be understood.
    """
    found = _FORM.fullmatch(form)
    if not found or found[2] not in {*ELEMENT_BYTES, "X"}:
        return None
    repeat = int(found[1][:20] or 1)
    return (repeat + 7) // 8 if found[2] == "X" else repeat * ELEMENT_BYTES[found[2]]
