"""Whether a FITS file can be what its headers claim, before anything is allocated for it.

The HDUs are walked by their header blocks alone, as FITS 4.0 lays them out (sections 3 and 4).
astropy trusts the sizes in a header: a damaged one makes it loop, or ask for terabytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError

BLOCK = 2880
CARD = 80
# Of NAXIS and of TFIELDS (FITS 4.0, 4.4.1 and 7.2.1).
MOST = 999
# A table of 999 columns has some 600 kB; the rest is HISTORY.
MAX_HEADER_BYTES = 5_000_000
BITPIX = (8, 16, 32, 64, -32, -64)
# Bytes of an element, by the letter of TFORM (FITS 4.0, table 18); X counts bits.
ELEMENT_BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "A": 1, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16}
ELEMENT_BYTES |= {"P": 8, "Q": 16}

_SIZES = re.compile(
    rb"(BITPIX|Z?NAXIS\d*|[PG]COUNT|TFIELDS|THEAP|ZBITPIX|GROUPS|XTENSION|ZIMAGE|TFORM\d+)$"
)
_FORM = re.compile(r"(\d*)([A-Z])(?:\(?.*)")
_VARIABLE = re.compile(r"(\d*)([PQ])([A-Z])")


@dataclass
class _Header:
    """What a header says of sizes, and where its data begin."""

    cards: dict[str, str]
    start: int

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number.

        Raises
        ------
        ReadError
            If the card is missing and there is no default, or it holds no such number.
        """
        text = self.cards.get(name)
        if text is None and default is not None:
            return default
        try:
            value = float(text or "") if len(text or "") < 30 else float("nan")
            if not value.is_integer():
                raise ValueError
            return int(text or "") if re.fullmatch(r"[-+]?\d+", text or "") else int(value)
        except (ValueError, OverflowError):
            said = "has no" if text is None else f"claims {text[:40]!r} as"
            raise ReadError(f"a header {said} {name}", "fetch the file again") from None


def check(plain: Path, max_bytes: int) -> None:
    """Refuse a FITS file whose headers claim what it cannot hold.

    Parameters
    ----------
    plain : Path
        The file, unpacked.
    max_bytes : int
        What one HDU may take in memory.

    Raises
    ------
    ReadError
        If it does, or a header has no end.
    """
    length = plain.stat().st_size
    with plain.open("rb") as file:
        place, number = 0, 0
        while place < length:
            header = _header(file, place, number)
            if header is None:  # what follows the last HDU is no concern of a reader
                return
            size = _size(header, number, length)
            left = length - header.start
            if size > left:
                raise ReadError(
                    f"the file is cut off: its end is missing. HDU {number} claims "
                    f"{_amount(size)}, and {_amount(left)} are there",
                    "fetch it again",
                )
            kind = header.cards.get("XTENSION")
            in_memory = size
            if kind == "BINTABLE":
                in_memory = max(size, _unpacked_size(header, plain, number, size, max_bytes))
            elif kind == "TABLE":
                _check_text_columns(header, number)
            if header.whole("NAXIS") < 3:  # cubes hold no spectra, and nobody reads their data
                refuse_large(f"HDU {number}", in_memory, max_bytes)
            place = header.start + -(-size // BLOCK) * BLOCK
            number += 1


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
            "allow more with --max-file-size",
        )


def _amount(size: int) -> str:
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.3g} {unit}"
    return f"{size} bytes"


def _header(file: Any, place: int, number: int) -> _Header | None:
    """The header that begins at a place; None if none does.

    Raises
    ------
    ReadError
        If it has no end, or a size has two values.
    """
    file.seek(place)
    cards: dict[str, str] = {}
    begins = b"SIMPLE" if number == 0 else b"XTENSION"
    known = True
    for blocks in range(1, MAX_HEADER_BYTES // BLOCK + 1):
        block = file.read(BLOCK)
        if blocks == 1:
            known = block.startswith(begins)
        for start in range(0, len(block), CARD):
            card = block[start : start + CARD]
            name = card[:8].rstrip()
            if name == b"END" and not card[8:].strip():
                # astropy takes whatever ends like a header for one.
                return _Header(cards, place + blocks * BLOCK)
            if card[8:9] == b"=" and _SIZES.match(name):
                key, value = name.decode(), _value(card)
                if cards.setdefault(key, value) != value and not key.startswith("TFORM"):
                    raise ReadError(
                        f"a header has {key} twice, as {cards[key][:40]} and {value[:40]}",
                        "fetch the file again",
                    )
        if len(block) < BLOCK:
            break
    if not known:
        return None
    raise ReadError(f"the file is cut off: the header of HDU {number} has no end", "fetch it again")


def _value(card: bytes) -> str:
    """The value of a card without its comment; of a text what stands in its quotes."""
    text = card[9:].decode("latin-1").strip()
    if text.startswith("'"):
        return text[1:].split("'")[0].strip()
    return text.split("/")[0].strip()


def _size(header: _Header, number: int, length: int) -> int:
    """Bytes of the data of an HDU (FITS 4.0, equations 1, 2 and 4), without padding.

    Raises
    ------
    ReadError
        If a size is out of its range.
    """

    def within(name: str, most: int, default: int | None = None) -> int:
        value = header.whole(name, default)
        if not 0 <= value <= most:
            why = f"FITS allows {most}" if most == MOST else f"the file has {_amount(length)}"
            raise ReadError(
                f"HDU {number} claims {name} = {str(value)[:40]}, but {why}",
                "fetch the file again",
            )
        return value

    count = within("NAXIS", MOST)
    bitpix = header.whole("BITPIX")
    if bitpix not in BITPIX:
        raise ReadError(f"HDU {number} claims BITPIX = {bitpix}", "fetch the file again")
    # So many bits are more than any of these can count; the size says whether the file is whole.
    anything = max(10**12, 8 * length)
    axes = [within(f"NAXIS{axis}", anything) for axis in range(1, count + 1)]
    groups, extra = within("GCOUNT", anything, 1), within("PCOUNT", anything, 0)
    within("TFIELDS", MOST, 0)
    in_groups = header.cards.get("GROUPS") == "T" and bool(axes) and axes[0] == 0
    if not in_groups and 0 in axes and max(axes) > length:
        raise ReadError(
            f"HDU {number} claims {max(axes)} rows without a byte in them", "fetch the file again"
        )
    elements = prod(axes[1:] if in_groups else axes) if axes else 0
    return abs(bitpix) // 8 * groups * (extra + elements) if axes else 0


def _check_text_columns(header: _Header, number: int) -> None:
    """Refuse a table in ASCII whose columns are wider than its rows.

    Raises
    ------
    ReadError
        If one is.
    """
    width = header.whole("NAXIS1", 0)
    for column in range(1, header.whole("TFIELDS", 0) + 1):
        digits = re.search(r"\d+", header.cards.get(f"TFORM{column}", ""))
        if digits and (len(digits[0]) > 9 or int(digits[0]) > width):
            raise ReadError(
                f"HDU {number} claims rows of {width} bytes, and columns that need more",
                "fetch the file again",
            )


def _unpacked_size(header: _Header, plain: Path, number: int, size: int, max_bytes: int) -> int:
    """Bytes that a binary table takes in memory, its arrays of variable length included.

    Raises
    ------
    ReadError
        If a row is shorter than its columns, or an array lies beyond the table.
    """
    if header.cards.get("ZIMAGE") == "T":
        axes = header.whole("ZNAXIS", 0)
        if not 0 <= axes <= MOST:
            raise ReadError(f"HDU {number} claims ZNAXIS = {axes}", "fetch the file again")
        bits = abs(header.whole("ZBITPIX", 8))
        sides = [header.whole(f"ZNAXIS{axis}", 0) for axis in range(1, axes + 1)]
        if min(sides, default=0) < 0:
            raise ReadError(f"HDU {number} claims a negative size", "fetch the file again")
        return prod(sides) * max(1, bits // 8)
    width, rows = header.whole("NAXIS1", 0), header.whole("NAXIS2", 0)
    heap = header.whole("THEAP", width * rows)
    place, total = 0, width * rows
    for column in range(1, header.whole("TFIELDS", 0) + 1):
        form = header.cards.get(f"TFORM{column}", "").upper()
        found = _FORM.fullmatch(form)
        if not found or found[2] not in {*ELEMENT_BYTES, "X"}:
            return total  # astropy says what is wrong with it
        repeat = int(found[1][:20] or 1)
        taken = (repeat + 7) // 8 if found[2] == "X" else repeat * ELEMENT_BYTES[found[2]]
        if place + taken > width:
            raise ReadError(
                f"HDU {number} claims rows of {width} bytes, and columns that need more",
                "fetch the file again",
            )
        if (array := _VARIABLE.match(form)) and repeat and rows:
            kind = ">i4" if array[2] == "P" else ">i8"
            at = np.dtype(
                {"names": ["array"], "formats": [(kind, 2)], "offsets": [place], "itemsize": width}
            )
            said = np.memmap(plain, at, "r", header.start, (rows,))["array"].astype(np.float64)
            ends = said[:, 1] + said[:, 0] * ELEMENT_BYTES.get(array[3], 1 / 8)
            used = said[:, 0] > 0
            if said.min() < 0 or np.any(ends[used] > size - heap):
                raise ReadError(
                    f"column {column} of HDU {number} has arrays that lie beyond the table",
                    "fetch the file again",
                )
            # Arrays may share their bytes; each of them is read.
            total += int(np.sum(said[:, 0] * max(1, ELEMENT_BYTES.get(array[3], 1))))
            refuse_large(f"column {column} of HDU {number}", total, max_bytes)
        place += taken
    return total
