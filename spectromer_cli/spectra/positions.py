"""Positions on the sky: where they stand, and which spectra are of one object."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError

if TYPE_CHECKING:
    from astropy.table import Column, Table

# Spectra closer on the sky than this are of one object.
SAME_OBJECT_ARCSEC = 1.0

# How catalogues call it, in lower case and without the underscores around it: the plainest prefix
# wins; a unit and an equinox may be part of the name.
_PREFIXES = ("", "target_", "plug_", "fiber_", "mean_", "s_")
_NAME = re.compile(
    rf"({'|'.join(_PREFIXES)})(?:(ra|right_?ascension)|(de|dec|decl|declination))"
    r"_?(deg|hours?|hrs?|hms|dms|rad|radians?)?_?(icrs|fk[45]|[bj]?\d{4}(?:\.\d+)?)?"
)
_GALACTIC = (("l", "b"), ("glon", "glat"), ("gal_l", "gal_b"), ("galactic_l", "galactic_b"))
# Where a table says of what system its coordinates are.
_SYSTEM_KEYS, _EQUINOX_KEYS = ("coosys", "radesys", "radecsys"), ("equinox",)
# Of words about a column only those that say an equinox: an epoch is another thing.
_SAID = re.compile(
    r"\b(icrs|fk4|b1[89]\d\d(?:\.\d+)?|eq(?:uinox|\.)?\s*[=:]?\s*[bj]?\d{4}(?:\.\d+)?)"
    r"|\(([bj]\d{4}(?:\.\d+)?)\)"
)
_HOURS = ("h", "hr", "hrs", "hour", "hours", "hms", "h:m:s", "h m s", "hourangle")
_DEGREES = (
    "d",
    "deg",
    "degs",
    "degree",
    "degrees",
    "dms",
    "d:m:s",
    "d m s",
    "°",
    "decimal degrees",
)
# What tables write where a number is missing.
_MISSING = (-99.0, -999.0, -9999.0)


def of_table(labels: Table, rows: np.ndarray, metas: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of each spectrum, from the table or else from the file."""
    try:
        found = in_degrees(labels)
    except UsageError:  # it need not be known to tell objects apart: the files may say it
        found = None
    if found is not None:
        return found.ra[rows], found.dec[rows]
    return of_spectra(metas)


def of_spectra(metas: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination that spectra state in their meta.

    Parameters
    ----------
    metas : sequence of mapping
        `Spectrum.meta`, whose ``ra`` and ``dec`` are degrees (ICRS).

    Returns
    -------
    ra, dec : array of float, shape (n,)
        0 ≤ ra < 360; NaN where unknown. Files that know no position often say 0, 0: unknown too.
    """
    ra, dec = (degrees([meta.get(key) for meta in metas]) for key in ("ra", "dec"))
    places = _places(ra, dec, None, {})
    unknown = ((ra == 0) & (dec == 0)) | np.isin(ra, _MISSING)
    for values in (places.ra, places.dec):
        values[unknown] = np.nan
    return places.ra, places.dec


@dataclass(frozen=True)
class Places:
    """Positions of the rows of a table.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        Degrees, ICRS, 0 ≤ ra < 360; NaN where unknown.
    problems : list of str
        What is wrong with the coordinates of a row; empty if nothing is.
    """

    ra: np.ndarray
    dec: np.ndarray
    problems: list[str]


def in_degrees(table: Table) -> Places | None:
    """The positions that a table states, whatever their unit and equinox.

    Parameters
    ----------
    table : astropy Table
        Right ascension and declination, or else galactic coordinates, or a SkyCoord, found by the
        usual names. Units are taken from the columns, their names or descriptions, else numbers are
        degrees, and sexagesimal text is in hours and degrees; equinox and system from the names,
        the columns' or the table's meta (EQUINOX, RADESYS, COOSYS), else they are ICRS.

    Returns
    -------
    Places or None
        None if there are no such columns.

    Raises
    ------
    UsageError
        If a unit is none of an angle, or the system is none that can be converted.
    """
    chosen = _columns(table)
    if chosen is None:
        from astropy.coordinates import SkyCoord

        mixin = next((c for c in table.itercols() if isinstance(c, SkyCoord)), None)
        if mixin is None:
            return None
        return _places(mixin.icrs.ra.deg, mixin.icrs.dec.deg, None, {})
    names, system = chosen
    values, problems = [], {}
    for name, is_longitude in zip(names, (True, False), strict=True):
        numbers, wrong = _angles(table[name], name, is_longitude and system != "galactic")
        values.append(numbers)
        problems.update(wrong)
    equinox = system
    if not system:
        system, equinox = _system_of(table, names)
    return _places(values[0], values[1], _frame(system, equinox), problems)


def _columns(table: Table) -> tuple[tuple[str, str], str] | None:
    """The columns of longitude and latitude, and the system that their names say."""
    named = [(name, _NAME.fullmatch(_bare(name))) for name in table.colnames]
    right = [(name, found) for name, found in named if found and found[2]]
    declination = [(name, found) for name, found in named if found and found[3]]

    def cost(pair: tuple[Any, Any]) -> tuple[int, ...]:
        (_, first), (_, second) = pair
        said = {first[5] or second[5], second[5] or first[5]}
        apart = first[1] != second[1] or len(said) > 1
        return apart, said != {None} and not _is_icrs(*said), _PREFIXES.index(first[1])

    best = min(product(right, declination), key=cost, default=None)
    if best is not None and not cost(best)[0]:
        return (best[0][0], best[1][0]), str(best[0][1][5] or best[1][1][5] or "")
    if best is not None and {best[0][1][5], best[1][1][5]} <= {None, "icrs", "j2000", "2000"}:
        return (best[0][0], best[1][0]), ""
    bare = {_bare(name): name for name in reversed(table.colnames)}
    for longitude, latitude in _GALACTIC:
        if longitude in bare and latitude in bare:
            return (bare[longitude], bare[latitude]), "galactic"
    return None


def _bare(name: str) -> str:
    """A name without its unit in brackets."""
    return re.sub(r"[(\[{].*", "", name.lower()).strip().strip("_").replace(" ", "_")


def _is_icrs(*said: str | None) -> bool:
    """Whether the words are of ICRS, or the same to 0.02 arcsec."""
    return all(word in (None, "", "icrs", "fk5", "j2000", "2000", "j2000.0") for word in said)


def _angles(column: Column, name: str, hours: bool) -> tuple[np.ndarray, dict[int, str]]:
    """The numbers of a column in degrees, and what is wrong with the cells that are none."""
    unit, factor = _unit_of(column, name, hours)
    values = column.tolist()
    numbers = np.full(len(values), np.nan)
    wrong = {}
    for row, value in enumerate(values):
        text = "" if value is None else str(value).strip()
        if text.lower() in ("", "--", "nan", "none", "null"):
            continue
        try:
            number = float(text)
        except ValueError:
            try:
                numbers[row] = _sexagesimal(text, unit, hours)
            except Exception:  # astropy's parser raises whatever comes up
                wrong[row] = f"{name} {text!r} is not an angle"
        else:
            numbers[row] = np.nan if number in _MISSING else number * factor
    return numbers, wrong


def _sexagesimal(text: str, unit: str, hours: bool) -> float:
    from astropy import units
    from astropy.coordinates import Angle

    in_hours = hours and (not unit or unit in _HOURS)
    return float(Angle(text, unit=units.hourangle if in_hours else units.deg).deg)


def _unit_of(column: Column, name: str, hours: bool) -> tuple[str, float]:
    """The unit of a column of angles, empty if nothing says it, and what it is in degrees."""
    brackets = re.search(r"[(\[{](.*?)[)\]}]", name)
    found = _NAME.fullmatch(_bare(name))
    description = str(getattr(column, "description", None) or "").lower()
    words = re.search(r"\b(hours?|hms|radians?)\b", description)
    said = [str(column.unit or ""), brackets[1] if brackets else "", (found and found[4]) or ""]
    said += [words[1]] if words else []
    for number, text in enumerate(said):
        unit = text.strip(" \"'").lower()
        if not unit:
            continue
        try:
            return unit, _in_degrees(unit, hours)
        except ValueError as error:
            if number == 1:  # (J2000) is no unit
                continue
            raise UsageError(
                f"the unit {text} of the column {name} is not an angle",
                "use degrees, hours or radians, or leave out the unit",
            ) from error
    return "", 1.0


def _in_degrees(unit: str, hours: bool) -> float:
    from astropy import units

    if unit in _DEGREES:
        return 1.0
    if unit in _HOURS or unit in ("radian", "radians"):
        unit = "rad" if unit.startswith("rad") else "hourangle"
    if unit == "hourangle" and not hours:
        raise ValueError(unit)
    try:
        parsed = units.Unit(unit)
        if hours and parsed.is_equivalent(units.hour):
            return float(15.0 * parsed.to(units.hour))
        return float(parsed.to(units.deg))
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise ValueError(unit) from error


def _system_of(table: Table, names: Sequence[str]) -> tuple[str, str]:
    """System and equinox, as the columns' or the table's meta says; empty if it does not."""
    columns = [table[name] for name in names]
    for meta in (*(column.meta for column in columns), table.meta):
        system, equinox = (_first_of(meta, keys) for keys in (_SYSTEM_KEYS, _EQUINOX_KEYS))
        if system or equinox:
            return system or "", equinox or system
    for name, column in zip(names, columns, strict=True):
        text = f"{getattr(column, 'description', None) or ''} {re.sub(r'^[^([{]*', '', name)}"
        if said := _SAID.search(text.lower()):
            word = said[1] or said[2]
            return word, word
    return "", ""


def _first_of(meta: Mapping[str, Any], keys: Sequence[str]) -> str:
    lower = {str(key).lower(): value for key, value in meta.items()}
    return next((str(lower[key]).strip() for key in keys if lower.get(key)), "")


def _frame(system: str, equinox: str) -> Any:
    """The frame of astropy; None for ICRS.

    Raises
    ------
    UsageError
        If it is none of equatorial or galactic coordinates.
    """
    said = system.lower().removeprefix("eq_")
    named = re.match(r"[a-z_]+\d?(?=\s|$)", said)
    name = named[0] if named else ""
    year = re.search(r"([bj])?\s*(\d{4}(?:\.\d+)?)", equinox.lower())
    letter, number = (year[1], float(year[2])) if year else (None, 1950.0)
    if name in ("gal", "galactic"):
        from astropy.coordinates import Galactic

        return Galactic()
    if name not in ("", "eq", "equinox", "icrs", "fk4", "fk5"):
        raise UsageError(
            f"the positions of the catalogue are in the system {system}", "convert them to ICRS"
        )
    # FK5 at J2000 is ICRS to 0.02 arcsec.
    if name == "icrs" or (name != "fk4" and (year is None or number == 2000.0)):
        return None
    from astropy.coordinates import FK4, FK5
    from astropy.time import Time

    # Years without a letter are Besselian before 1984 (IAU).
    if name == "fk4" or letter == "b" or (not letter and name != "fk5" and number < 1984.0):
        return FK4(equinox=Time(number, format="byear"))
    return FK5(equinox=Time(number, format="jyear"))


def _places(longitude: Any, latitude: Any, frame: Any, problems: Mapping[int, str]) -> Places:
    longitude, latitude = (np.array(v, dtype=np.float64) for v in (longitude, latitude))
    wrong = [problems.get(row, "") for row in range(longitude.size)]
    for row, (first, second) in enumerate(zip(longitude.tolist(), latitude.tolist(), strict=True)):
        if abs(second) > 90.0 and not wrong[row]:
            wrong[row] = f"the declination {second:g} is beyond ±90 degrees"
        elif math.isfinite(first) and not -360.0 <= first <= 720.0 and not wrong[row]:
            wrong[row] = f"the right ascension {first:g} is not between 0 and 360 degrees"
    good = np.isfinite(longitude) & np.isfinite(latitude) & (np.array(wrong, dtype=object) == "")
    ra, dec = np.full(longitude.size, np.nan), np.full(longitude.size, np.nan)
    ra[good], dec[good] = longitude[good], latitude[good]
    if frame is not None and good.any():
        from astropy.coordinates import SkyCoord

        sky = SkyCoord(ra[good], dec[good], unit="deg", frame=frame).icrs
        ra[good], dec[good] = sky.ra.deg, sky.dec.deg
    return Places(np.mod(ra, 360.0), dec, wrong)


def degrees(values: Sequence[object]) -> np.ndarray:
    """Numbers, NaN for what is none."""

    def number(value: object) -> float:
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return np.nan

    return np.array([number(value) for value in values])


def same_objects(ra: np.ndarray, dec: np.ndarray, contents: Sequence[object]) -> np.ndarray:
    """Which spectra are of one object: a split goes by object, never by spectrum.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        In degrees; NaN where unknown. Files that know no position often say 0, 0: unknown too.
    contents : sequence, length n
        Equal and hashable for copies of one spectrum.

    Returns
    -------
    array of int, shape (n,)
        Equal numbers for positions within 1″ of each other, chains of them, and copies.
    """
    from astropy import units
    from astropy.coordinates import SkyCoord
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(contents)
    first: dict[object, int] = {}
    copy_of = np.array([first.setdefault(content, i) for i, content in enumerate(contents)])
    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90.0) & ~((ra == 0) & (dec == 0))
    where = np.flatnonzero(known)
    left, right = np.arange(n), copy_of
    if len(where) > 1:
        sky = SkyCoord(ra[where], dec[where], unit="deg")
        one, other, _, _ = sky.search_around_sky(sky, SAME_OBJECT_ARCSEC * units.arcsec)
        left, right = np.append(left, where[one]), np.append(right, where[other])
    links = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    return connected_components(links, directed=False)[1]
