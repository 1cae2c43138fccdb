"""Some cells of a FITS table, without reading the rest of it.

The survey's catalogue row, which its files carry along, has some two hundred columns. astropy takes
longer to describe them than to read the spectrum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from spectromer_cli.spectra.readers.structure import ELEMENT_BYTES

_NUMBERS = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_CARD = re.compile(rb"(TTYPE|TFORM|TSCAL|TZERO)(\d{1,3}) *= *'?([^'/]*)")


def cells(hdu: Any, row: int, names: Iterable[str]) -> dict[str, Any]:
    """Those of the named cells that a row of a table has.

    Parameters
    ----------
    hdu : astropy.io.fits.BinTableHDU
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
    try:
        found = _from_bytes(hdu, row, wanted)
    except Exception:  # a broken header: astropy knows more ways around it
        found = None
    return _by_astropy(hdu, row, wanted) if found is None else found


def _from_bytes(hdu: Any, row: int, names: list[str]) -> dict[str, Any] | None:
    """The cells from where the header says that they lie; None where that is not plain."""
    place = hdu.fileinfo()
    header = hdu.header
    if place is None or header.get("XTENSION") != "BINTABLE" or "ZTABLE" in header:
        return None
    file, length = place["file"], header.get("NAXIS1")
    if not isinstance(length, int) or not 0 <= row < header.get("NAXIS2", 0):
        return None
    file.seek(place["hdrLoc"])
    text = file.read(place["datLoc"] - place["hdrLoc"])
    cards: dict[bytes, dict[int, str]] = {b"TTYPE": {}, b"TFORM": {}, b"TSCAL": {}, b"TZERO": {}}
    for start in range(0, len(text), 80):
        card = _CARD.match(text, start, start + 80)
        if card:
            cards[card[1]][int(card[2])] = card[3].decode("ascii", "replace").strip()
    kinds: dict[str, np.dtype] = {}
    offsets: dict[str, int] = {}
    offset = 0
    for number in range(1, len(cards[b"TFORM"]) + 1):
        form = re.match(r"(\d*)([A-Z])", cards[b"TFORM"].get(number, ""))
        if not form or form[2] not in {*ELEMENT_BYTES, "X"}:
            return None
        count = int(form[1] or 1)
        name = cards[b"TTYPE"].get(number, "").lower()
        if name in names and name not in kinds:
            scaled = number in cards[b"TSCAL"] or number in cards[b"TZERO"]
            if form[2] == "A":
                kinds[name] = np.dtype(f"S{count}")
            elif form[2] in _NUMBERS and count == 1 and not scaled:
                kinds[name] = np.dtype(_NUMBERS[form[2]])
            else:
                return None
            offsets[name] = offset
        offset += (count + 7) // 8 if form[2] == "X" else count * ELEMENT_BYTES[form[2]]
    if offset != length:
        return None
    file.seek(place["datLoc"] + row * length)
    data = file.read(length)
    if len(data) != length:
        return None
    values = {
        name: np.frombuffer(data, kinds[name], 1, offsets[name])[0]
        for name in names
        if name in kinds
    }
    return {name: _text(v) if isinstance(v, bytes) else v for name, v in values.items()}


def _text(value: bytes) -> str:
    """A text cell ends at its first NUL, and blanks at its end say nothing."""
    return value.split(b"\0")[0].decode("ascii", "replace").rstrip()


def _by_astropy(hdu: Any, row: int, names: list[str]) -> dict[str, Any]:
    try:
        there = {name.lower() for name in hdu.columns.names} if hasattr(hdu, "columns") else set()
    except Exception:  # astropy fails in a dozen ways on a table with a broken header
        return {}
    if there and not 0 <= row < len(hdu.data):
        raise IndexError(f"the table has {len(hdu.data)} rows: there is no {row}")
    return {name: hdu.data[name][row] for name in names if name in there}
