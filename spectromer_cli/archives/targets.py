"""What is wanted: from ids, coordinates, names and catalogues to a list of targets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli.errors import UsageError

if TYPE_CHECKING:
    from astropy.table import Table

# How catalogues call it, in lower case; the plainest name wins.
_RA = ("ra", "raj2000", "_raj2000", "ra_icrs", "ra_deg", "radeg", "target_ra", "plug_ra", "_ra")
_DEC = ("dec", "dej2000", "decj2000", "_dej2000", "de_icrs", "dec_deg", "dedeg", "decdeg",
        "target_dec", "plug_dec", "_de")  # fmt: skip
_NAME = ("name", "target", "object", "main_id", "object_id", "source", "id")
_IDS = {
    "plate": ("plate", "plateid"),
    "mjd": ("mjd",),
    "fiberid": ("fiberid", "fiber"),
    "field": ("field", "fieldid"),
    "catalogid": ("catalogid",),
    "obsid": ("obsid",),
    "targetid": ("targetid",),
}
# The ids that name one spectrum of an archive; DR18 and later know those of the second line.
KEYS = {
    "sdss": (("plate", "mjd", "fiberid"), ("field", "mjd", "catalogid")),
    "lamost": (("obsid",),),
    "desi": (("targetid",),),
    "eso": (),
}


@dataclass(frozen=True)
class Wanted:
    """A target: something with ids, or a place on the sky, or a name still to be resolved.

    Parameters
    ----------
    label : str
        The user's words for it.
    ra, dec : float
        Degrees, ICRS; NaN if unknown.
    ids : dict of str to int
        Ids, by the names in `KEYS`.
    name : str
        A name to be resolved; empty if there is a place or an id.
    problem : str
        Why nothing can be looked for.
    """

    label: str
    ra: float = math.nan
    dec: float = math.nan
    ids: dict[str, int] = field(default_factory=dict)
    name: str = ""
    problem: str = ""

    @property
    def has_place(self) -> bool:
        """Whether it has coordinates."""
        return math.isfinite(self.ra) and math.isfinite(self.dec)

    def has_ids(self, archive: str) -> bool:
        """Whether it has ids by which the archive names one spectrum."""
        return any(all(name in self.ids for name in key) for key in KEYS[archive])


def from_text(text: str) -> Wanted:
    """A target from one argument: coordinates in degrees or sexagesimal, or else a name."""
    place = _place(text)
    return Wanted(text, name=text) if place is None else Wanted(text, *place)


def _place(text: str) -> tuple[float, float] | None:
    """Right ascension and declination in degrees; None if the text holds no coordinates."""
    parts = text.replace(",", " ").split()
    # Two decimal numbers are degrees; anything with h, :, or six numbers is sexagesimal.
    if not re.match(r"[\d.+-]", text.strip()) or len(parts) not in (1, 2, 6):
        return None
    from astropy import units
    from astropy.coordinates import SkyCoord

    try:
        numbers = [float(part) for part in parts]
        unit: Any = units.deg if len(numbers) == 2 else (units.hourangle, units.deg)
    except ValueError:
        unit = (units.hourangle, units.deg)
        if not re.search(r"[:hd°]", text) and len(parts) != 6:
            return None
    try:
        place = SkyCoord(" ".join(parts), unit=unit)
    except (ValueError, TypeError):
        return None
    return float(place.ra.deg), float(place.dec.deg)


def radius_of(text: str) -> float:
    """A radius in arcsec, from ``2arcsec``, ``0.5arcmin`` or a plain number of arcsec.

    Raises
    ------
    UsageError
        If it is none, or not between 0 and 3 arcmin, the most that SkyServer matches.
    """
    from astropy import units
    from astropy.coordinates import Angle

    try:
        angle = Angle(text) if re.search(r"[^\d.\s]", text) else Angle(float(text), units.arcsec)
        radius = float(angle.to_value(units.arcsec))
    except (ValueError, TypeError) as error:
        raise UsageError(f"--radius {text}: no angle", "write 2arcsec or 0.5arcmin") from error
    if not 0 < radius <= 180:
        raise UsageError(f"--radius {text} is out of range", "from 0 to 3arcmin")
    return radius


def from_catalogue(path: Path) -> list[Wanted]:
    """The targets of a table, in its order; its columns are found by their usual names.

    Raises
    ------
    UsageError
        If the table has no column of ids, coordinates or names.
    ReadError
        If it cannot be read.
    """
    from spectromer_cli.spectra.catalogues import read_table

    if not path.is_file():
        raise UsageError(f"the catalogue {path} does not exist", "check the name")
    table = read_table(path)
    columns = {name.lower(): name for name in reversed(table.colnames)}
    ids = {key: _first(columns, names) for key, names in _IDS.items()}
    ids = {key: name for key, name in ids.items() if name is not None}
    ra, dec, name = _first(columns, _RA), _first(columns, _DEC), _first(columns, _NAME)
    keyed = any(set(key) <= set(ids) for keys in KEYS.values() for key in keys)
    if not keyed and (ra is None or dec is None) and name is None:
        raise UsageError(
            f"the catalogue {path} says of no target where it is; its columns are: "
            f"{', '.join(table.colnames)}",
            "give it ra and dec, or plate, mjd and fiberid, or obsid, or targetid, or name",
        )
    places = _places(table, ra, dec)
    wanted = []
    for row in range(len(table)):
        numbers = {key: _whole(table[column][row]) for key, column in ids.items()}
        known = {key: number for key, number in numbers.items() if number is not None}
        text = "" if name is None else _text(table[name][row])
        label = text or _label(known, places[row]) or f"row {row}"
        one = Wanted(label, *places[row], ids=known)
        if not one.has_place and not any(one.has_ids(archive) for archive in KEYS):
            one = Wanted(label, ids=known, name=text, problem="" if text else "no id, no place")
        wanted.append(one)
    return wanted


def _first(columns: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _places(table: Table, ra: str | None, dec: str | None) -> list[tuple[float, float]]:
    """Coordinates in degrees, row by row; NaN where there are none."""
    nowhere = (math.nan, math.nan)
    if ra is None or dec is None:
        return [nowhere] * len(table)
    hours = str(table[ra].unit or "").startswith(("h", "hourangle"))
    places = []
    for first, second in zip(table[ra].tolist(), table[dec].tolist(), strict=True):
        try:
            place = (float(first) * (15.0 if hours else 1.0), float(second))
        except (TypeError, ValueError):
            place = _place(f"{first} {second}") or nowhere
        places.append(place if 0 <= place[0] <= 360 and -90 <= place[1] <= 90 else nowhere)
    return places


def _whole(value: Any) -> int | None:
    """A whole number, exactly; None where there is none (ids of 64 bits do not fit a float)."""
    try:
        if isinstance(value, float) or getattr(getattr(value, "dtype", None), "kind", "") == "f":
            return int(value) if float(value).is_integer() and abs(value) < 2**53 else None
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return "" if value is None or str(value) in ("--", "nan") else str(value).strip()


def _label(ids: dict[str, int], place: tuple[float, float]) -> str:
    for keys in KEYS.values():
        for key in keys:
            if set(key) <= set(ids):
                return "-".join(str(ids[name]) for name in key)
    return f"{place[0]:.6f} {place[1]:+.6f}" if math.isfinite(place[0]) else ""
