"""FITS files by their bytes: as much of the surveys' own files as their readers need.

astropy describes every card and every column of a file, of SDSS some thousand, and takes longer
over it than over the spectrum. Here only what a reader asks for is looked at, and only where it
stands as FITS 4.0 has it. Whatever else comes up raises `NotPlain`: astropy knows more ways around
it, and its word counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from spectromer_cli.spectra.readers.structure import (
    CARD,
    Extent,
    by_header,
    cell_bytes,
    header_at,
    sizes_in,
)

# What the whole of a header may consist of, and the names of cards (FITS 4.0, 4.1).
_PRINTABLE = bytes(range(0x20, 0x7F))
_IN_NAMES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_- "
# Random groups, and images packed in tables.
_ODD = ("GROUPS", "ZIMAGE")
_FORM = re.compile(r"(\d*)([A-Z])")
_WHOLE_FORM = re.compile(r"(\d*)(?:([LXBIJKAEDCM])|([PQ])[A-Z](?:\(\d*\))?)")
_CARD = re.compile(rb"(TTYPE|TFORM|TSCAL|TZERO|TDIM)(\d{1,3}) *= *(?:'([^']*))?")
_TEXT = re.compile(rb"= +'((?:[^']|'')*)' *(?:/|$)")
_WHOLE = re.compile(rb"= +([+-]?\d+) *(?:/|$)")
_REAL = re.compile(rb"= +([+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[ED][+-]?\d+)?) *(?:/|$)")
_LOGICAL = re.compile(rb"= +([TF]) *(?:/|$)")
_NUMBERS = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_PIXELS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class NotPlain(BaseException):
    """A file is to be read by astropy; no `except Exception` on the way may take it for less."""


class Header:
    """The cards of a header, each parsed on demand.

    Parameters
    ----------
    text : bytes
        Of whole blocks.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    @cached_property
    def _places(self) -> dict[bytes, int]:
        """Where the first card of each name is."""
        text = self._text
        places = {text[i : i + 8]: i for i in range(len(text) - CARD, -1, -CARD)}
        names = b"".join(places)
        blank = any(names[i] == 0x20 and names[i : i + 8].strip() for i in range(0, len(names), 8))
        if blank or b"HIERARCH" in places or names.translate(None, _IN_NAMES):
            raise NotPlain  # astropy knows such cards by other names
        return places

    def __contains__(self, name: str) -> bool:
        return name.encode().ljust(8) in self._places

    def __getitem__(self, name: str) -> Any:
        place = self._places.get(name.encode().ljust(8))
        if place is None:
            raise KeyError(name)
        return self._value(place)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a card, or the default where there is no such card."""
        place = self._places.get(name.encode().ljust(8))
        return default if place is None else self._value(place)

    def _value(self, place: int) -> Any:
        said = self._text[place + 8 : place + CARD]
        if text := _TEXT.match(said):
            if b": " in text[1] or self._text.startswith(b"CONTINUE", place + CARD):
                raise NotPlain
            return text[1].replace(b"''", b"'").decode().rstrip()
        if whole := _WHOLE.match(said):
            return int(whole[1])
        if real := _REAL.match(said):
            return float(real[1].replace(b"D", b"E"))
        if logical := _LOGICAL.match(said):
            return logical[1] == b"T"
        raise NotPlain


class Hdu:
    """An image, or the primary header alone.

    Parameters
    ----------
    file : binary file
        Stays open as long as data may be read.
    extent : Extent
        Where the HDU is.
    """

    _default_name = ""

    def __init__(self, file: BinaryIO, extent: Extent) -> None:
        self._file, self._extent = file, extent
        self.header = Header(extent.text)

    @cached_property
    def name(self) -> str:
        """EXTNAME, as it is spelled."""
        return str(self.header.get("EXTNAME", self._default_name))

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(self._extent.start + start)
        data = self._file.read(size)
        if len(data) != size:
            raise NotPlain
        return data


class Image(Hdu):
    """Pixels, read on demand."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Slowest axis first; empty if there are no pixels."""
        cards = self._extent.cards
        return tuple(int(cards[f"NAXIS{axis}"]) for axis in range(int(cards["NAXIS"]), 0, -1))

    @cached_property
    def data(self) -> np.ndarray:
        """All of them."""
        return self._pixels(0, self.shape)

    @property
    def section(self) -> Image:
        """Itself, whose rows are read one by one."""
        return self

    def __getitem__(self, row: int) -> np.ndarray:
        if len(self.shape) != 2:
            raise NotPlain
        if not 0 <= row < self.shape[0]:
            raise IndexError(f"the image has {self.shape[0]} rows, but no row {row}")
        return self._pixels(row * self.shape[1], self.shape[1:])

    def _pixels(self, first: int, shape: tuple[int, ...]) -> np.ndarray:
        header, bits = self.header, self.header["BITPIX"]
        kind, count = np.dtype(_PIXELS[bits]), int(np.prod(self.shape))
        scale = header.get("BSCALE", 1), header.get("BZERO", 0)
        if not count or count * kind.itemsize != self._extent.size or "BLANK" in header:
            raise NotPlain
        size = int(np.prod(shape)) * kind.itemsize
        values = np.frombuffer(self._read(first * kind.itemsize, size), kind).reshape(shape)
        if scale == (1, 0):
            return values
        if bits > 8 and scale == (1, 2 ** (bits - 1)):  # unsigned (FITS 4.0, table 11)
            flipped = values.astype(f"u{kind.itemsize}")
            return flipped ^ flipped.dtype.type(2 ** (bits - 1))
        raise NotPlain


class _Column(NamedTuple):
    """What a column holds, where in its row, and whether its numbers or its shape need more."""

    letter: str
    repeat: int
    place: int
    is_scaled: bool


class Table(Hdu):
    """A binary table, of which single columns or cells are read."""

    @cached_property
    def columns(self) -> Columns:
        """Its columns in their order."""
        return _columns(self._extent.text)

    @property
    def names(self) -> list[str]:
        """Of the columns, as the data of astropy's tables have them."""
        return self.columns.names

    @property
    def data(self) -> Table:
        """Itself: a column by its name."""
        return self

    @cached_property
    def _width(self) -> int:
        return int(self._extent.cards["NAXIS1"])

    @cached_property
    def _rows(self) -> bytes:
        return self._read(0, len(self) * self._width)

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        """The requested columns."""
        return {}

    def __len__(self) -> int:
        return int(self._extent.cards["NAXIS2"])

    def __getitem__(self, name: str) -> np.ndarray:
        """A column, in whatever case its name is: shape (rows,), or (rows, n) of arrays."""
        if name not in self._values:
            column = self.columns.find(name)
            if column is None:
                raise KeyError(name)
            self._values[name] = self._column(column)
        return self._values[name]

    def _column(self, column: _Column) -> np.ndarray:
        if not len(self):
            raise NotPlain
        one = np.dtype({"names": ["cell"], "formats": [self._kind(column)],
                        "offsets": [column.place], "itemsize": self._width})  # fmt: skip
        values = np.frombuffer(self._rows, one)["cell"]
        if column.letter != "A":
            return values
        letters = np.frombuffer(values.tobytes(), np.uint8).reshape(len(self), column.repeat)
        if np.any((letters[:, :-1] == 0) & (letters[:, 1:] != 0)):  # a text that goes on behind NUL
            raise NotPlain
        return np.char.rstrip(np.char.decode(values, "ascii"))

    def cells(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """Those of the named cells, in lower case, that a row has; see `cells`."""
        if not 0 <= row < len(self):
            raise IndexError(f"the table has {len(self)} rows, but no row {row}")
        data = self._read(row * self._width, self._width)
        found: dict[str, Any] = {}
        for name in names:
            column = _first(self._extent.text).get(name)
            if column is None:
                continue
            if column.repeat != 1 and column.letter != "A":
                raise NotPlain
            value = np.frombuffer(data, self._kind(column), 1, column.place)[0]
            found[name] = _text(value) if column.letter == "A" else value
        return found

    def _kind(self, column: _Column) -> Any:
        """The type of a column's cells."""
        if column.is_scaled or not column.repeat:
            raise NotPlain
        if column.letter == "A":
            return f"S{column.repeat}"
        if column.letter not in _NUMBERS:
            raise NotPlain
        kind = _NUMBERS[column.letter]
        return kind if column.repeat == 1 else (kind, column.repeat)


class Columns:
    """The columns of a table.

    Parameters
    ----------
    by_name : dict of str to _Column
    """

    def __init__(self, by_name: dict[str, _Column]) -> None:
        self._by_name = by_name
        self.names = list(by_name)
        self._lowered = {name.lower(): column for name, column in by_name.items()}

    def find(self, name: str) -> _Column | None:
        """The column of a name, in this case or another; None if there is none."""
        if name in self._by_name:
            return self._by_name[name]
        if len(self._lowered) < len(self.names):  # Flux and FLUX: which is meant?
            raise NotPlain
        return self._lowered.get(name.lower())


@by_header
def _described(text: bytes) -> list[tuple[str, _Column]]:
    """Name and description of a table's columns, by its header.

    What is wrong with a name, or with a column that nobody asks for, does no harm here.
    """
    cards: dict[bytes, dict[int, str]] = {}
    for start in range(0, len(text), CARD):
        if card := _CARD.match(text, start, start + CARD):
            value = (card[3] or b"").decode("ascii", "replace").strip()
            cards.setdefault(card[1], {})[int(card[2])] = value
    names, forms = cards.get(b"TTYPE", {}), cards.get(b"TFORM", {})
    more = {number for name in (b"TSCAL", b"TZERO", b"TDIM") for number in cards.get(name, ())}
    found = []
    place = 0
    for number in range(1, len(forms) + 1):
        form = _FORM.match(forms.get(number, ""))
        taken = None if form is None else cell_bytes(form[0])
        if form is None or taken is None:
            raise NotPlain
        column = _Column(form[2], int(form[1] or 1), place, number in more)
        found.append((names.get(number, ""), column))
        place += taken
    if str(place) != sizes_in(text).get("NAXIS1") or b"ZTABLE  =" in text:
        raise NotPlain
    return found


@by_header
def _first(text: bytes) -> dict[str, _Column]:
    """The columns by their names in lower case; of those that have one in common, the first."""
    return {name.lower(): column for name, column in reversed(_described(text))}


@by_header
def _columns(text: bytes) -> Columns:
    """The columns of a table in which nothing is out of order."""
    header, found = Header(text), {}
    for number, (_, column) in enumerate(_described(text), 1):
        name, said = header.get(f"TTYPE{number}"), header.get(f"TFORM{number}")
        form = _WHOLE_FORM.fullmatch(said) if isinstance(said, str) else None
        if form is None or (form[2] or form[3], int(form[1] or 1)) != (
            column.letter,
            column.repeat,
        ):
            raise NotPlain
        if not isinstance(name, str) or not name.strip() or name in found:
            raise NotPlain
        found[name] = column
    if len(found) != int(sizes_in(text)["TFIELDS"]):
        raise NotPlain
    return Columns(found)


class Hdus(list[Any]):
    """The HDUs of a file, by number or name."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        hdu = self._named(key)
        if hdu is None:
            raise KeyError(key)
        return hdu

    def __contains__(self, key: object) -> bool:
        return self._named(str(key)) is not None

    def _named(self, key: str) -> Hdu | None:
        return next((hdu for hdu in self if hdu.name.strip().upper() == key.upper()), None)


def hdus_of(file: BinaryIO, extents: Sequence[Extent], length: int) -> Hdus | None:
    """The HDUs of a file, if it is in all its parts what FITS 4.0 says.

    Parameters
    ----------
    file : binary file
        Stays open as long as data may be read.
    extents : sequence of Extent
        As `structure.check` gives them.
    length : int
        Bytes of the file.

    Returns
    -------
    Hdus or None
        None if there is anything that is better left to astropy.
    """
    if not extents or extents[-1].end != length:
        return None
    found = Hdus()
    for number, extent in enumerate(extents):
        kind = extent.cards.get("XTENSION")
        if not _is_regular(extent.text) or (kind is None) != (number == 0):
            return None
        hdu = (Table if kind == "BINTABLE" else Image)(file, extent)
        hdu._default_name = "" if number else "PRIMARY"
        found.append(hdu)
    return found


@by_header
def _is_regular(text: bytes) -> bool:
    """Whether a header is printable and has its mandatory cards in order (FITS 4.0, 4.4.1)."""
    cards = sizes_in(text)
    axes, kind = cards.get("NAXIS", ""), cards.get("XTENSION")
    if text.translate(None, _PRINTABLE) or not axes.isdigit() or not cards.keys().isdisjoint(_ODD):
        return False
    order = ["SIMPLE" if kind is None else "XTENSION", "BITPIX", "NAXIS"]
    order += [f"NAXIS{axis}" for axis in range(1, int(axes) + 1)]
    if kind == "BINTABLE":
        order += ["PCOUNT", "GCOUNT", "TFIELDS"]
    return (
        kind in (None, "IMAGE", "BINTABLE")
        and (kind is not None or text[29:30] == b"T")
        and all(text.startswith(f"{n:8}= ".encode(), i * CARD) for i, n in enumerate(order))
        and all(cards[name].lstrip("-").isdigit() for name in order[1:])
        and not text[text.rindex(b"END     ") + 3 :].strip()
        and not any(
            text.startswith(b"CONTINUE", i) and b"&'" not in text[i - CARD : i]
            for i in range(CARD, len(text) if b"CONTINUE" in text else 0, CARD)
        )
    )


# --- cells, of whatever HDU -------------------------------------------------------------------


def cells(hdu: Any, row: int, names: Iterable[str]) -> dict[str, Any]:
    """Those of the named cells that a row of a table has, without describing its other columns.

    Parameters
    ----------
    hdu : Hdu or HDU of astropy
        Of an open file.
    row : int
        From 0.
    names : iterable of str
        In lower case.

    Returns
    -------
    dict of str to number or str
        Empty of what is no table.

    Raises
    ------
    IndexError
        If the table has no such row.
    """
    wanted = list(names)
    if isinstance(hdu, Hdu):
        return hdu.cells(row, wanted) if isinstance(hdu, Table) else {}
    try:
        return _plain(hdu).cells(row, wanted)
    except (Exception, NotPlain):  # astropy knows more ways around a broken header
        return _by_astropy(hdu, row, wanted)


def _plain(hdu: Any) -> Table:
    """A table that astropy has opened."""
    place = hdu.fileinfo()
    extent = None if place is None else header_at(place["file"], place["hdrLoc"], 1)
    if extent is None or extent.cards.get("XTENSION") != "BINTABLE":
        raise NotPlain
    return Table(place["file"], extent)


def _text(value: bytes) -> str:
    """A text cell ends at its first NUL, and blanks at its end say nothing."""
    return value.split(b"\0")[0].decode("ascii", "replace").rstrip()


def _by_astropy(hdu: Any, row: int, names: list[str]) -> dict[str, Any]:
    try:
        there = {name.lower() for name in hdu.columns.names} if hasattr(hdu, "columns") else set()
    except Exception:  # astropy fails in a dozen ways on a table with a broken header
        return {}
    if there and not 0 <= row < len(hdu.data):
        raise IndexError(f"the table has {len(hdu.data)} rows, but no row {row}")
    return {name: hdu.data[name][row] for name in names if name in there}
