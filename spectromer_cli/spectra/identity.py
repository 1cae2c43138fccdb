"""Which spectrum a catalogue asks for, and whether a spectrum that was read is that one.

Only identifiers of one kind are compared, and only where both sides have them: a name that a
user gave to an object says nothing about the number that a survey gave to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table

# Identifiers by kind, whole numbers or text; those of a row of a catalogue.
Identity = Mapping[str, Any]

# The first columns of every table of results, in this order: such a table says of each spectrum
# what its file said, so that all that it says can be compared.
RESULT_HEAD = ("file", "row", "object_id", "survey")
# What catalogues call the identifiers, in lower case; the plainest name wins.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "targetid": ("targetid",),
    "obsid": ("obsid",),
    "plate": ("plate", "plateid"),
    "mjd": ("mjd",),
    "fiberid": ("fiberid", "fiber"),
    "field": ("field", "fieldid"),
    "catalogid": ("catalogid",),
    "run2d": ("run2d",),
    "survey": ("survey",),
    "program": ("program",),
    "healpix": ("healpix", "hpxpixel"),
    "tileid": ("tileid",),
    "night": ("lastnight", "night"),
    "object_id": ("object_id",),
}
_TEXTS = ("run2d", "survey", "program", "object_id")
# These name one spectrum of a file; the others tell files apart.
_NAMING = ("targetid", "obsid", "fiberid", "catalogid", "object_id", "result_id")
# Words that mean something else in many catalogues, unless one of these stands beside them: the
# MJD of an image, a pixel of another HEALPix scheme, a field of the imaging.
_BESIDE = {
    "mjd": {"plate", "fiberid", "catalogid"},
    "healpix": {"targetid", "survey"},
    "field": {"catalogid"},
}
# SURVEY of DESI; in other catalogues the column says whose spectra they are.
_DESI_SURVEY = re.compile(r"cmx|special|sv\d|main")
_UNKNOWN = ("", "--", "nan", "none", "null", "n/a")
# What tables write where a number is missing; the numbers of DESI's skies are negative.
_MISSING = {0, -1, -99, -999, -9999, -(2**31), -(2**63)}
_PLATE_MJD_FIBER = re.compile(r"(\d+)-(\d{5})-(\d+)")
_NUMBERED = re.compile(r"\[\d+\]$")  # FILE[12]
_LAMOST_PLACE = re.compile(r"\d{5}-.+-\d{2}-\d{3}")


def of_table(table: Table) -> list[dict[str, Any]]:
    """The identifiers of each row of a catalogue, without those that are masked or empty.

    Parameters
    ----------
    table : astropy Table
        Its columns are found by name, in upper or lower case.

    Returns
    -------
    list of dict
        By kind. The ``object_id`` of a table of results is of the kind ``result_id``.
    """
    lower = {name.lower(): name for name in reversed(table.colnames)}
    rows: list[dict[str, Any]] = [{} for _ in range(len(table))]
    is_result = tuple(table.colnames[: len(RESULT_HEAD)]) == RESULT_HEAD
    for kind, names in _COLUMNS.items():
        name = next((lower[name] for name in names if name in lower), None)
        if name is None or table[name].ndim > 1:
            continue
        for row, value in zip(rows, table[name].tolist(), strict=True):
            known = _text(kind, value) if kind in _TEXTS else _number(kind, value)
            if known is not None:
                row["result_id" if kind == "object_id" and is_result else kind] = known
    for row in rows:
        if not _DESI_SURVEY.fullmatch(row.get("survey", "main")):
            del row["survey"]
        for kind in [kind for kind, beside in _BESIDE.items() if not beside & row.keys()]:
            row.pop(kind, None)
    return rows


def _text(kind: str, value: Any) -> str | None:
    whole = _whole(value) if isinstance(value, float) else None
    if isinstance(value, float) and whole is None:
        return None
    text = str(value if whole is None else whole).strip()
    if value is None or text.lower() in _UNKNOWN:
        return None
    return text.lower() if kind in ("survey", "program") else text


def _number(kind: str, value: Any) -> int | None:
    number = _whole(value)
    if number is None or (number in _MISSING and not (kind == "healpix" and number == 0)):
        return None
    return number if number >= 0 or kind == "targetid" else None


def _whole(value: Any) -> int | None:
    """A whole number; None where there is none, or a float has lost its last digits."""
    try:
        if isinstance(value, float):
            return int(value) if value.is_integer() and abs(value) < 2**53 else None
        return int(value)
    except (TypeError, ValueError):
        return None


def contradiction(wanted: Identity, meta: Mapping[str, Any], label: str) -> str:
    """What is wrong with a spectrum that was read for a row of a catalogue.

    Parameters
    ----------
    wanted : mapping
        Identifiers of the row, as `of_table` gives them.
    meta : mapping
        `Spectrum.meta`.
    label : str
        The file, with the number of the spectrum if it has several.

    Returns
    -------
    str
        In one line; empty if nothing contradicts.
    """
    return _contradiction(wanted, told(meta, label), label)


def agreement(wanted: Identity, meta: Mapping[str, Any], label: str = "") -> int:
    """How many identifiers of a row a spectrum has too, with the same value."""
    return _agreement(wanted, told(meta, label))


def row_of(wanted: Identity, spectra: Sequence[Identity], file: Path) -> int | None:
    """Which spectrum of a file is the one that a row of a catalogue asks for.

    Parameters
    ----------
    wanted : mapping
        Identifiers of the row.
    spectra : sequence of mapping
        What each spectrum of the file says of itself, as `told` gives it.
    file : Path

    Returns
    -------
    int or None
        Its number; None if the file says nothing of the kind that the catalogue says.

    Raises
    ------
    LookupError
        With the reason in words, if the file holds others only, or several that fit.
    """
    naming = {kind: value for kind, value in wanted.items() if kind in _NAMING}
    label = ", ".join(f"{_word(kind)} {value}" for kind, value in naming.items())
    fitting, others = [], ""
    for row, said in enumerate(spectra):
        wrong = _contradiction(wanted, said, f"{file}[{row}]")
        others = wrong or others
        if not wrong and _agreement(naming, said):
            fitting.append(row)
    if len(fitting) > 1:
        rows = ", ".join(map(str, fitting[:3])) + (", …" if len(fitting) > 3 else "")
        raise LookupError(
            f"{label} matches {len(fitting)} spectra of {file} ({rows}); give one in a column row"
        )
    if fitting:
        return fitting[0]
    if others:
        raise LookupError(f"none of the {len(spectra)} spectra of {file} is {label or 'wanted'}: "
                          f"{others}")  # fmt: skip
    return None


def kept(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Of `Spectrum.meta`, what identifies the spectrum."""
    return {key: meta[key] for key in (*_COLUMNS, "desi_survey") if key in meta}


def numbers(meta: Mapping[str, Any], label: str) -> dict[str, int]:
    """The numbers that SDSS, LAMOST and DESI gave to a spectrum, as far as they are known.

    Parameters
    ----------
    meta : mapping
        `Spectrum.meta`.
    label : str
        The file, with the number of the spectrum if it has several.

    Returns
    -------
    dict of str to int
        Of ``plate``, ``mjd``, ``fiberid``, ``obsid`` and ``targetid``.
    """
    said = told(meta, label)
    of_survey = {"LAMOST": "obsid", "DESI": "targetid"}.get(said["survey_name"])
    if of_survey and said.get(of_survey) is None:  # tables have it in their one column of names
        said[of_survey] = said["object_id"]
    if not _BESIDE["mjd"] & {kind for kind, value in said.items() if value is not None}:
        said.pop("mjd", None)
    found = {}
    for kind in ("plate", "mjd", "fiberid", "obsid", "targetid"):
        number = None if isinstance(said.get(kind), tuple) else _number(kind, said.get(kind))
        size = 63 if kind in ("obsid", "targetid") else 31
        if number is not None and abs(number) < 2**size:
            found[kind] = number
    return found


def told(meta: Mapping[str, Any], label: str) -> dict[str, Any]:
    """What a spectrum says of itself, by kind; what only the file's name says is left out."""
    said = kept(meta)
    said["survey_name"] = str(said.pop("survey", "") or "")
    said["survey"] = said.pop("desi_survey", None)
    name = str(meta.get("object_id") or "")
    file, bare = Path(_NUMBERED.sub("", label)), _NUMBERED.sub("", name)
    if bare in (file.name.split(".")[0], file.stem) and (bare != name or not said["survey_name"]):
        name = ""
    said["object_id"] = said["result_id"] = name or None
    numbers = _PLATE_MJD_FIBER.fullmatch(name)
    if numbers and said["survey_name"] != "SDSS-V":
        for kind, number in zip(("plate", "mjd", "fiberid"), numbers.groups(), strict=True):
            said.setdefault(kind, int(number))
    return said


# --- one identifier -------------------------------------------------------------------------


def _contradiction(wanted: Identity, said: Identity, label: str) -> str:
    differing = [kind for kind in wanted if _agrees(kind, wanted[kind], said) is False]
    if not differing:
        return ""
    names = ", ".join(f"{_word(kind)} {wanted[kind]}" for kind in differing)
    held = ", ".join(_as_text(_said(kind, said)) for kind in differing)
    return f"the catalogue has {names}, but {label} contains {held}"


def _agreement(wanted: Identity, said: Identity) -> int:
    return sum(_agrees(kind, value, said) is True for kind, value in wanted.items())


def _said(kind: str, spectrum: Identity) -> Any:
    return spectrum.get("object_id" if _by_object_id(kind, spectrum) else kind)


def _by_object_id(kind: str, spectrum: Identity) -> bool:
    """Whether the number stands in ``object_id``, as in tables with a spectrum per row."""
    return kind in ("targetid", "obsid") and spectrum.get(kind) is None


def _agrees(kind: str, value: Any, spectrum: Identity) -> bool | None:
    """Whether an identifier is the spectrum's own; None where they cannot be compared."""
    said = _said(kind, spectrum)
    if said is None:
        return None
    if kind in ("object_id", "result_id"):
        same = _same_id(str(value), str(said))
        return same or (False if kind == "result_id" or _same_kind(str(value), str(said)) else None)
    if _by_object_id(kind, spectrum):
        survey = {"targetid": "DESI", "obsid": "LAMOST"}[kind]
        certain = spectrum["survey_name"] == survey and str(said).isdigit()
        return str(said) == str(value) or (False if certain else None)
    if isinstance(said, tuple):  # a coadd of several tiles, or nights
        return value in said
    if kind in _TEXTS:
        return str(said).strip().lower() == str(value).lower()
    return _whole(said) == value


def _same_id(one: str, other: str) -> bool:
    """Whether identifiers are the same; zeros in front are lost where a table holds numbers."""
    return _parts(one) == _parts(other)


def _parts(text: str) -> list[str]:
    return [part.lstrip("0") or "0" if part.isdigit() else part for part in text.split("-")]


def _same_kind(one: str, other: str) -> bool:
    """Whether identifiers that differ are of one kind, so that one of them must be wrong.

    Plate, MJD and fibre; the place of a LAMOST spectrum; or numbers of like length: a
    running number is none that a survey gives, nor are the identifiers of other surveys as
    long as those of DESI.
    """
    for shape in (_PLATE_MJD_FIBER, _LAMOST_PLACE):
        if shape.fullmatch(one) and shape.fullmatch(other):
            return True
    numbers = [text.removeprefix("-") for text in (one, other)]
    if not all(number.isdigit() for number in numbers):
        return False
    lengths = sorted(map(len, numbers))
    return lengths[0] == lengths[1] if lengths[1] > 14 else lengths[1] - lengths[0] <= 4


def _word(kind: str) -> str:
    return "object_id" if kind in ("object_id", "result_id") else kind.upper()


def _as_text(said: Any) -> str:
    return " and ".join(map(str, said)) if isinstance(said, tuple) else str(said)
