"""Spectra in text: a table of numbers, with whatever stands above it; one spectrum a file.

Names, units and header cards are looked for above the numbers, in comments or not. ECSV, IPAC and
the machine-readable tables of the journals are read by astropy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.quantities import Column, card, is_unit, number
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.readers.table import Table, spectrum_in
from spectromer_cli.spectra.spectrum import filling, ivar_from_scatter

# Between the columns; None is any white space.
_DELIMITERS = (",", ";", "\t", "|", None)
# How a comment line begins.
_MARKS = ("#", "%", ";", "!", "//", "|", "*", "\\")
_ROW = re.compile(r"\*{3,}\s+[-+.\d]|\|\s*[-+.\d]+\s*\|")
# The first row of numbers counts as one if most of so many rows from there on are like it.
_AHEAD = 6
# So many lines that begin with a number and are no rows make a text that is no table.
_PROSE = 5000
# A larger share of cells that overflowed their width is no accident.
_MAX_OVERFLOW = 0.1
# An error is of the size of the scatter between neighbouring pixels: above it where pixels are
# correlated, below it where lines are as narrow as pixels. (The scatter among the members of a
# composite, which some libraries give, is larger.)
_LEAST, _MOST = 0.02, 5.0


def identify(source: Source) -> bool:
    """Whether the file is a text that holds wavelengths and fluxes."""
    if source.kind != "text":
        return False
    try:
        if _astropys_format(source.handle):
            return columns.find_spectrum(_by_astropy(source).columns) is not None
        text = _parsed(source.handle)
        return text is not None and (_image(text) is not None or _roles(text) is not None)
    except ReadError:  # a table of numbers, of which something is wrong
        return True


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the one spectrum of the text.

    Columns are found by the names that stand above them, or else taken in the order wavelength,
    flux and, if it is plainly one, error.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Unit where the text has none; air.

    Returns
    -------
    Spectra

    Raises
    ------
    ReadError
        If a line is no row of numbers, the wavelengths are damaged, their unit is unknown, or the
        fluxes are magnitudes of an unknown system.
    """
    if _astropys_format(source.handle):
        table = _by_astropy(source)
    else:
        text = _parsed(source.handle)
        assert text is not None
        table = _image(text) or _table(text)
    spectrum = spectrum_in(table, source, options)
    return Spectra(1, lambda row: spectrum)


# --- formats that say of themselves what they are ---------------------------------------------


def _astropys_format(text: str) -> str:
    """The name by which astropy knows the format of a text; empty if it is none of these."""
    if text.startswith("# %ECSV"):
        return "ascii.ecsv"
    head = text[:20000]
    if re.search(r"^\|[^|\n]+\|.*\|\s*\r?\n\|\s*(double|float|real|int|long|char|d|r|f)\b", head,
                 re.MULTILINE | re.IGNORECASE):  # fmt: skip
        return "ascii.ipac"
    return "ascii.mrt" if re.search(r"Byte-by-byte Description of file", head, re.I) else ""


def _by_astropy(source: Source) -> Table:
    import warnings

    from astropy import table as tables

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units out of standard
        lines = _lines(source.handle)
        table = tables.Table.read(lines, format=_astropys_format(source.handle))
    return Table.all_of_astropy(table)[0]


# --- lines, header and numbers ------------------------------------------------------------------


@dataclass
class _Text:
    """A text taken apart.

    Parameters
    ----------
    above : list of str
        The lines above the numbers, without their comment marks.
    plain : str
        The last of them that is no comment.
    values : array, shape (n, m)
    numbers : int array, shape (n,)
        In which line of the file each row stands, counted from 1.
    delimiter : str or None
    header : dict
        What `above` says as KEY = value or KEY: value, by the key in upper case.
    """

    above: list[str]
    plain: str
    values: np.ndarray
    numbers: np.ndarray
    delimiter: str | None
    header: dict[str, str] = field(default_factory=dict)

    @property
    def comments(self) -> str:
        """What stands above the numbers."""
        return "\n".join(self.above)


def _lines(text: str) -> list[str]:
    # Not splitlines, which takes form feeds and other rare characters for ends of lines.
    return re.split(r"\r\n|\n|\r", text)


def _bare(line: str) -> tuple[str, bool]:
    """The line without its comment mark, and whether it had one."""
    bare = line.strip()
    # A row between bars, and one whose wavelength overflowed, are no comments.
    if not bare.startswith(_MARKS) or _ROW.match(bare):
        return bare, False
    return bare.lstrip("#%;!/*\\").strip(), True


@lru_cache(maxsize=1)  # to identify a file and to read it are two calls
def _parsed(text: str) -> _Text | None:
    """The text taken apart; None if there is no table of numbers in it.

    Raises
    ------
    ReadError
        If a line below the first row is no row like it.
    """
    lines = _lines(text)
    first, delimiter = _first_row(lines)
    if first is None:
        return None
    above = [_bare(line) for line in lines[:first]]
    header = dict(_cards(bare for bare, _ in above))
    plain = next((bare for bare, comment in reversed(above) if bare and not comment), "")
    rows, numbers = _rows(lines, first, delimiter, any_width=_is_image(header))
    if rows[0][:2] == [len(rows) - 1, len(rows[0])]:  # the numbers of rows and columns
        rows, numbers = rows[1:], numbers[1:]
    taken = _Text(
        [bare for bare, _ in above], plain, np.array(rows), np.array(numbers), delimiter, header
    )
    # What is commented below the first row counts too.
    taken.above += [_bare(line)[0] for line in lines[first:] if _bare(line)[1]]
    return taken


def _first_row(lines: list[str]) -> tuple[int | None, str | None]:
    """Where the numbers begin, from 0, and what is between them."""
    fluxes_only = _is_image(dict(_cards(_bare(line)[0] for line in lines[:2000])))
    looked_at = 0
    for place, line in enumerate(lines):
        if not re.match(r"[\s\"'|]*[-+.\d*]", line) or _bare(line)[1]:
            continue
        looked_at += 1
        if looked_at > _PROSE:
            break
        for delimiter in _DELIMITERS:
            count = len(_numbers(line, delimiter))
            if count < (1 if fluxes_only else 2):
                continue
            below = _next_rows(lines, place + 1)
            like = [
                fluxes_only or len(found) == count
                for found in (_numbers(other, delimiter) for other in below)
            ]
            if 2 * sum(like) >= len(like):
                return place, delimiter
    return None, None


def _next_rows(lines: list[str], place: int) -> list[str]:
    """The next lines that are no comments, as far as a few lines ahead."""
    found = []
    for line in lines[place : place + 50]:
        bare, comment = _bare(line)
        if bare and not comment:
            found.append(line)
        if len(found) == _AHEAD:
            break
    return found


def _cells(line: str, delimiter: str | None) -> list[str]:
    bare = line.strip()
    if delimiter == "|":
        bare = bare.strip("|")
    return bare.split(delimiter)


def _numbers(line: str, delimiter: str | None) -> list[float]:
    """The numbers of a row; empty if it is none."""
    found = [_number(cell) for cell in _cells(line, delimiter)]
    return [] if None in found else found  # type: ignore[return-value]


_MISSING = dict.fromkeys(
    ("", "--", "-", "null", "none", "n/a", "na", "indef", "...", "masked"), float("nan")
)
_WORDS = {**_MISSING, "true": 1.0, "false": 0.0}
# Fortran leaves out the letter of an exponent of three digits: 1.234-100.
_NO_LETTER = re.compile(r"([+-]?\d?\.\d+)([+-]\d{3})")


def _number(cell: str) -> float | None:
    """The number in a cell, NaN where it is missing or has overflowed; None if it is no number."""
    cell = cell.strip().strip("\"'").strip()
    try:
        if "_" not in cell:
            return float(cell)
    except ValueError:
        pass
    lowered = cell.lower()
    if lowered in _WORDS:
        return _WORDS[lowered]
    if not cell.strip("*"):
        return float("nan")
    try:
        if re.fullmatch(r"[-+\d.]+d[-+]?\d+", lowered):
            return float(lowered.replace("d", "e"))
        if found := _NO_LETTER.fullmatch(cell):
            return float(f"{found[1]}e{found[2]}")
    except ValueError:
        pass
    return None


def _rows(
    lines: list[str], first: int, delimiter: str | None, *, any_width: bool
) -> tuple[list[list[float]], list[int]]:
    """The rows of numbers from line `first` on, and their line numbers.

    Raises
    ------
    ReadError
        If a line is no row like the first, or many cells have overflowed.
    """
    rows: list[list[float]] = []
    numbers: list[int] = []
    overflown = 0
    for line_number, line in enumerate(lines[first:], start=first + 1):
        bare, is_comment = _bare(line)
        if is_comment or not bare:
            continue
        found = _numbers(line, delimiter)
        if not found or (rows and len(found) != len(rows[0]) and not any_width):
            end = "check whether the file is cut off, or a separator between columns is missing"
            raise ReadError(
                f"line {line_number} is not a row of numbers like those above it: {bare[:60]!r}",
                end,
            )
        overflown += "**" in bare
        rows.append(found)
        numbers.append(line_number)
    if any_width:
        rows = [[value] for row in rows for value in row] if len({*map(len, rows)}) > 1 else rows
    if overflown > _MAX_OVERFLOW * len(rows):
        raise ReadError(
            f"{overflown} of {len(rows)} rows have cells that overflowed (****)",
            "write the table again with wider columns",
        )
    return rows, numbers if len(numbers) == len(rows) else list(range(1, len(rows) + 1))


_CARD = re.compile(r"(?:SET\s+|HIERARCH\s+)?([A-Za-z.][\w.\- ]{0,60}?)\s*(?:=|:(?=\s|$))\s*(.*)")


def _cards(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Key and value of the lines that are FITS cards, ``KEY = value`` or ``KEY: value``."""
    for line in lines:
        found = _CARD.fullmatch(line)
        if not found:
            continue
        key, value = found[1].strip().upper(), found[2].strip()
        quoted = re.match(r"'((?:[^']|'')*)'|\"([^\"]*)\"", value)
        if quoted:
            value = (quoted[1] or quoted[2] or "").strip()
        else:
            value = re.split(r"\s+/|/\s", value)[0].strip()
        if key not in ("COMMENT", "HISTORY", "END"):
            yield key, value


# --- images written as text ---------------------------------------------------------------------


def _is_image(header: dict[str, str]) -> bool:
    """Whether header cards give a wavelength to each pixel, so that a column of fluxes will do."""
    step = number(header, "CDELT1") or number(header, "CD1_1")
    return number(header, "CRVAL1") is not None and bool(step)


def _image(text: _Text) -> Table | None:
    """The spectrum of an image that IRAF's wtextimage wrote; None if it is none.

    Raises
    ------
    ReadError
        If the image has several rows.
    """
    header, values = text.header, text.values
    naxis = [int(number(header, f"NAXIS{axis}") or 1) for axis in (1, 2, 3)]
    whole = naxis[0] * naxis[1] * naxis[2]
    if not _is_image(header) or (values.shape[1] > 1 and values.size != whole):
        return None
    if naxis[1] * naxis[2] > 1 and values.size == whole:
        raise ReadError(
            f"the text holds an image of {' × '.join(map(str, naxis))} pixels, not one spectrum",
            "write one file per spectrum",
        )
    flux = values.ravel()
    step = number(header, "CDELT1") or number(header, "CD1_1") or 0.0
    reference = number(header, "CRPIX1")
    pixel = np.arange(1.0, flux.size + 1.0) - (1.0 if reference is None else reference)
    axis = (number(header, "CRVAL1") or 0.0) + step * pixel
    # IRAF's spectral formats: DC-FLAG 1 is log10 of the wavelength.
    if number(header, "DC-FLAG") == 1 or re.search(r"LOG", str(card(header, "CTYPE1"))):
        axis = 10.0**axis
    found = {
        "wavelength": Column(axis, "wavelength", _unit_of_axis(header)),
        "flux": Column(flux, "flux", header.get("BUNIT", "")),
    }
    return Table(columns=found, header=header, comments=text.comments, line="pixel")


def _unit_of_axis(header: dict[str, str]) -> str:
    """The unit of wavelength that header cards give; empty if they give none."""
    in_wat = re.search(r"units=(\S+)", header.get("WAT1_001", ""))
    for unit in (header.get("CUNIT1", ""), in_wat[1] if in_wat else ""):
        if unit and is_unit(unit):
            return unit
    return ""


# --- what is in which column --------------------------------------------------------------------


@dataclass
class _Roles:
    """Names and units of the columns.

    Parameters
    ----------
    names, units, descriptions : list of str, one per column
    found : dict
        As `columns.find_spectrum` gives it, with the numbers of the columns.
    guessed : bool
        By order, or by elimination.
    """

    names: list[str]
    units: list[str]
    descriptions: list[str]
    found: dict[str, int]
    guessed: bool = False


def _table(text: _Text) -> Table:
    roles = _roles(text)
    assert roles is not None
    _refuse_several(text, roles)
    wavelength, flux = roles.found["wavelength"], roles.found["flux"]
    if not roles.units[wavelength]:
        roles.units[wavelength] = _unit_said(text, "wavelength", wavelength) or _unit_of_axis(
            text.header
        )
    if not roles.units[flux]:
        roles.units[flux] = _unit_said(text, "flux", flux)
    keys = {key: f"{place}" for key, place in roles.found.items()}
    read = {
        str(place): Column(
            text.values[:, place], roles.names[place], roles.units[place],
            roles.descriptions[place],
        )
        for place in roles.found.values()
    }  # fmt: skip
    return Table(
        columns=read, found=keys, header=text.header, comments=text.comments, numbers=text.numbers,
        line="line", guessed=roles.guessed,
    )  # fmt: skip


_ID = re.compile(r"(object|target|obj|spec|obs|fib(er|re)|source|star)?_?(id|number)|object|name")


def _refuse_several(text: _Text, roles: _Roles) -> None:
    """Refuse a table of several objects, which would be taken for arms of one spectrum.

    Raises
    ------
    ReadError
        If a column that numbers objects has several values.
    """
    for place, name in enumerate(roles.names):
        if _ID.fullmatch(name.strip().lower()) and place not in roles.found.values():
            count = np.unique(text.values[:, place]).size
            if 1 < count <= len(text.values) / 10:
                raise ReadError(
                    f"the table holds several spectra: {name} has {count} values",
                    "write one file per spectrum",
                )


def _roles(text: _Text) -> _Roles | None:
    """Which column is what; None if the table is one of something else.

    Raises
    ------
    ReadError
        If it cannot be told and something has to be said about it.
    """
    count = text.values.shape[1]
    for cells in (_described(text, count), *_name_lines(text, count)):
        if roles := _by_names(cells):
            return roles
    own = next(iter(_tokenised(text.plain, text.delimiter, count)), None)
    if own is not None and any(name for name, _ in own) and not _is_regular(text.values):
        return None  # a table with names, but of something else
    if own is None:  # three words in a comment may as well be prose
        own = _last_names(text, count)
        if own and not any(columns.role_in_words(name) for name, _ in own):
            own = None
    if own and columns.role_in_words(own[0][0]) == "other":
        return None
    return _by_order(text, own)


def _by_names(cells: list[tuple[str, str, str]]) -> _Roles | None:
    """Roles by names, units and descriptions; None if there is no wavelength or no flux."""
    names, units, descriptions = (list(part) for part in zip(*cells, strict=True))
    unique = [f"{name}" if names.index(name) == i else f"{name} {i}"
              for i, name in enumerate(names)]  # fmt: skip
    found = columns.find_spectrum(unique)
    guessed = False
    if found is None:
        found, guessed = _by_words(unique)
    if not found:
        return None
    for role in ("error", "mask"):
        by_words = [name for name in unique if columns.role_in_words(name) == role]
        if role not in found and len(by_words) == 1:
            found[role] = by_words[0]
    places = {key: unique.index(name) for key, name in found.items()}
    return _Roles(names, units, descriptions, places, guessed)


def _by_words(names: list[str]) -> tuple[dict[str, str], bool]:
    """Roles by the words in names that are not quite the usual ones, and whether they are unsure.

    Empty if there is no wavelength or no flux. Where the wavelength is known and only one
    column has no other role, that one is the flux.
    """
    said = {name: columns.role_in_words(name) for name in names}
    found: dict[str, str] = {}
    unsure = False
    for role in columns.ROLES:
        exact = columns.find(names, columns.ROLES[role])
        others = [name for name in names if said[name] == role]
        if exact or others:
            found[role] = exact or others[0]
            unsure |= role == "flux" and exact is None and len(others) > 1
    if "wavelength" not in found:
        return {}, False
    if "flux" not in found:
        left = [name for name in names if not said[name] and name not in found.values()]
        if len(left) != 1:
            return {}, False
        found["flux"], unsure = left[0], True
    return found, unsure


# "1: wavelength, …", "col1 = wave", "(2) flux [Jy]", "Column 3 - error".
_NUMBERED = re.compile(
    r"(?:col(?:umn)?[\s._]*)?[(\[]?(\d{1,2})[)\]]?\s*[:=.)\-–]?\s*([A-Za-zλσ].*)", re.IGNORECASE
)


def _described(text: _Text, count: int) -> list[tuple[str, str, str]]:
    """Name, unit and description of each column, from lines that number or list them."""
    found: dict[int, str] = {}
    for line in text.above:
        numbered = _NUMBERED.fullmatch(line)
        if numbered and int(numbered[1]) <= count:
            found.setdefault(int(numbered[1]), numbered[2])
    if not {1, 2} <= set(found):
        return _listed(text, count)
    return [_described_cell(found.get(i, "")) for i in range(1, count + 1)]


def _described_cell(said: str) -> tuple[str, str, str]:
    unit = re.search(r"\bunits?\s*[:=]?\s*(.+)$", said, re.IGNORECASE)
    name = re.split(r"[,:;]|\bin\b|\s-\s", said)[0].strip()
    name, in_name = _name_and_unit(name if "(" not in name and "[" not in name else said)
    in_words = re.search(r"\bin\s+(\S.*)$", said)
    given = unit[1].strip() if unit else in_name or (in_words[1].strip() if in_words else "")
    return name, given, said


def _listed(text: _Text, count: int) -> list[tuple[str, str, str]]:
    """Name and unit of each column from as many lines in a row of a name and a unit."""
    pairs = [re.fullmatch(r"([A-Za-z][\w ]*?)\s*[|:]\s*(.*)", line) for line in text.above]
    for start in range(len(pairs) - count + 1):
        cells = [(m[1], m[2].strip(" |"), m[2]) for m in pairs[start : start + count] if m]
        if len(cells) == count and columns.find_spectrum(name for name, *_ in cells):
            return cells
    return [("", "", "")] * count


# What every usual name of a wavelength contains.
_WAVELENGTH_WORD = re.compile(r"wav|lam|wl|lbda|λ|nu|freq|spectral", re.IGNORECASE)


def _name_lines(text: _Text, count: int) -> Iterator[list[tuple[str, str, str]]]:
    """Lines that may hold the names of the columns, the nearest to the numbers first."""
    nearest = [line for line in reversed(text.above) if line]
    if text.plain:
        nearest.insert(0, text.plain)
    for place, line in enumerate(nearest):
        if not _WAVELENGTH_WORD.search(line):
            continue
        for cells in _tokenised(line, text.delimiter, count):
            if is_unit(cells[0][0] or "?"):  # the line of units: the names stand above it
                continue
            # Units may stand in a line of their own, on either side.
            beside = nearest[max(place - 1, 0) : place] + nearest[place + 1 : place + 2]
            units = next(filter(None, (_units_line(other, text, count) for other in beside)), None)
            yield [
                (name, unit or (units[i] if units else ""), "")
                for i, (name, unit) in enumerate(cells)
            ]


def _units_line(line: str, text: _Text, count: int) -> list[str] | None:
    """The units in a line that has one for each column; None if it is no such line."""
    for cells in _tokenised(line, text.delimiter, count, split_units=False):
        units = [name.strip("()[]") for name, _ in cells]
        if units[0] and is_unit(units[0]):
            return units
    return None


def _last_names(text: _Text, count: int) -> list[tuple[str, str]] | None:
    """The names in the last line above the numbers that is not empty."""
    line = next((line for line in reversed(text.above) if line), "")
    return next(iter(_tokenised(line, text.delimiter, count)), None)


def _tokenised(
    line: str, delimiter: str | None, count: int, *, split_units: bool = True
) -> Iterator[list[tuple[str, str]]]:
    """The line as `count` names with their units, by each separator that gives so many."""
    if not line:
        return
    line = re.sub(r"(?i)^(column names|columns|names)(\s+are)?\s*[:=]\s*", "", line)
    for separator in dict.fromkeys((delimiter, "|", "\t", ",", ";", "  ", None)):
        cells = [cell.strip().strip("\"'").strip() for cell in _split(line, separator)]
        # A column without a name, as pandas writes its index, is still a column.
        if len(cells) != count or any(cell and _number(cell) is not None for cell in cells):
            continue
        yield [_name_and_unit(cell) if split_units else (cell, "") for cell in cells]


def _split(line: str, separator: str | None) -> list[str]:
    """Split outside brackets and quotes; "  " is white space of at least two characters."""
    pattern = {None: r"\s+(?![(\[])", "  ": r"\s{2,}|\t"}.get(separator, re.escape(separator or ""))
    if separator == "|":
        line = line.strip("| ")
    parts, depth, quote, last = [], 0, "", 0
    matches = {m.start(): m.end() for m in re.finditer(pattern, line)}
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character == '"':
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        if place in matches and depth <= 0 and not quote and place >= last:
            parts.append(line[last:place])
            last = matches[place]
    return [*parts, line[last:]]


_NAME_AND_UNIT = re.compile(r"(.*?)\s*[(\[](.*)[)\]]\s*")


def _name_and_unit(cell: str) -> tuple[str, str]:
    """``flux (Jy)`` or ``flux [Jy]`` as name and unit; brackets of a known name stay."""
    found = _NAME_AND_UNIT.fullmatch(cell)
    if not found or not found[1] or columns.role_of(cell):
        return cell, ""
    if re.fullmatch(r"(log(10)?|ln|f|d)", found[1].strip(), re.IGNORECASE):
        return cell, ""
    return found[1].strip(), found[2].strip()


# --- columns without names ----------------------------------------------------------------------


def _by_order(text: _Text, names: list[tuple[str, str]] | None) -> _Roles | None:
    """Wavelength, flux and, if it is plainly one, error, in this order.

    Raises
    ------
    ReadError
        If the second column looks like magnitudes and nothing says so.
    """
    values, count = text.values, text.values.shape[1]
    if count < 2:
        return None
    first = 1 if count > 2 and _counts(values[:, 0]) and _is_regular(values[:, 1:]) else 0
    found = {"wavelength": first, "flux": first + 1}
    third = values[:, first + 2] if count == first + 3 else None
    names_given = names or [("", "")] * count
    if any(name for name, _ in names_given) and not _is_regular(values[:, first:]):
        return None
    bandwidth = third is not None and _is_bandwidth(third, values[:, first])
    flux_unit = names_given[first + 1][1] or _unit_said(text, "flux", first + 1)
    if bandwidth and not flux_unit and _look_like_magnitudes(values[:, first + 1]):
        raise ReadError(
            "the second column looks like magnitudes, and the third like bandwidths",
            "add a header line such as: # wavelength mag_ab bandwidth",
        )
    if (
        third is not None
        and names is None
        and not bandwidth
        and _is_error(third, values[:, first + 1])
    ):
        found["error"] = first + 2
    # What a column is called that is taken by its order says nothing about it.
    plain = [""] * count
    plain[first], plain[first + 1] = "wavelength", "flux"
    if "error" in found:
        plain[first + 2] = "error"
    units = [unit for _, unit in names_given]
    return _Roles(plain, units, [""] * count, found, guessed=True)


def _counts(values: np.ndarray) -> bool:
    """Whether a column counts the pixels."""
    return bool(values[0] in (0.0, 1.0) and np.all(np.diff(values) == 1.0))


def _is_regular(values: np.ndarray) -> bool:
    """Whether the first column runs one way in steps of about one size, as wavelengths do."""
    steps = np.diff(values[:, 0])
    if steps.size < 10 or not np.isfinite(steps).all():
        return False
    middle = np.median(steps)
    return bool(middle and np.mean(np.abs(steps - middle) < 0.5 * abs(middle)) > 0.9)


def _is_bandwidth(third: np.ndarray, wavelength: np.ndarray) -> bool:
    """Whether a column holds the widths of bands: few values, or multiples of the step."""
    finite = third[np.isfinite(third)]
    step = abs(float(np.median(np.diff(wavelength))))
    if not finite.size or not step > 0:
        return False
    multiple = finite / step
    if not (multiple > 0.5).all():
        return False
    return bool(np.unique(finite).size <= 3 or np.all(np.abs(multiple - multiple.round()) < 1e-3))


def _look_like_magnitudes(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 3.0 and finite.max() < 25.0)


def _is_error(third: np.ndarray, flux: np.ndarray) -> bool:
    """Whether a column may hold the standard deviations of the flux, by their size."""
    if not np.isfinite(third).any():
        return True  # none are given, and they are estimated
    flux = np.where(filling(flux), np.nan, flux)
    finite = np.isfinite(third) & np.isfinite(flux)
    if finite.sum() < 10 or np.mean(third[finite] > 0) < 0.9:
        return False
    usual, level = np.median(third[finite]), np.median(np.abs(flux[finite]))
    ivar = ivar_from_scatter(flux)
    if not (ivar > 0).any():
        return False
    noise = float(ivar.max() ** -0.5)
    # Sixth differences leave nothing of a smooth curve, and of noise √924 times its size.
    rough = 1.4826 * np.median(np.abs(np.diff(flux[finite], n=6))) / 924**0.5
    if rough < 0.05 * noise:  # a model, or smoothed: its scatter is no measure
        return bool(usual < level)
    return bool(_LEAST * noise < usual < _MOST * noise)


_SAYS_UNIT = {
    "wavelength": re.compile(r"\b(?:wave\w*|lambda)[^(\[\n]{0,12}[(\[]([^)\]]+)[)\]]", re.I),
    "flux": re.compile(
        r"\b(?:flux\w*|f_?lam\w*|f_?nu)(?:\s+density)?\s*(?:[(\[]((?:[^()\[\]]|\([^()]*\))+)[)\]])",
        re.IGNORECASE,
    ),
}
_FLUX_UNIT_CARDS = ("BUNIT", ".Z.UNITS", "FLUX_UNIT", "FLUXUNIT", "FLUX_UNITS", "FLUX UNITS",
                    "FLUX UNIT", "FLUX", "FLUXUNITS", "YUNITS", "YUNIT")  # fmt: skip
_WAVELENGTH_UNIT_CARDS = ("WAVE_UNIT", "WAVEUNIT", "WAVE_UNITS", "WAVELENGTH UNITS", "XUNITS",
                          "WAVELENGTH UNIT", "WAVELENGTH", "WAVE", "XUNIT", "LAMBDA")  # fmt: skip


def _unit_said(text: _Text, role: str, column: int) -> str:
    """The unit of a column that the header or the prose above gives; empty if none does."""
    if role == "wavelength":
        cards: Any = (text.header.get(key, "") for key in _WAVELENGTH_UNIT_CARDS)
        if said := next((unit for unit in cards if unit and is_unit(unit)), ""):
            return said
    elif said := next(filter(None, (text.header.get(key) for key in _FLUX_UNIT_CARDS)), ""):
        return said
    for line in text.above:
        found = _SAYS_UNIT[role].search(line)
        if found and (role == "flux" or is_unit(found[1])):
            return found[1].strip()
        magnitudes = re.search(r"\b(AB|ST)[ _-]?mag(nitude)?s?\b", line, re.IGNORECASE)
        if magnitudes and role == "flux" and _look_like_magnitudes(text.values[:, column]):
            return f"mag({magnitudes[1].upper()})"
    return ""
