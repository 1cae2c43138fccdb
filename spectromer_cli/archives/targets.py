"""What is wanted, from ids, coordinates, names and catalogues, and what an archive has of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spectromer_cli.archives import http, services
from spectromer_cli.errors import NetworkError, UsageError

# How catalogues call it, in lower case; the plainest name wins.
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
# Those that files carry, and that the catalogue lists.
IDS = ("plate", "mjd", "fiberid", "obsid", "targetid")
# Statuses of a match that is not a file.
WANTED, NO_MATCH = "wanted", "no match"


@dataclass(frozen=True)
class Wanted:
    """A target: something with ids, or a position, or a name still to be resolved.

    Parameters
    ----------
    label : str
        The user's words for it.
    ra, dec : float
        Degrees, ICRS; NaN if unknown.
    ids : dict of str to int
        Ids, by the names in `KEYS`.
    name : str
        A name to be resolved; empty if there is a position or an id.
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
        return any(set(key) <= set(self.ids) for key in KEYS[archive])


@dataclass
class Match:
    """A spectrum that an archive has for a target, or the news that it has none.

    Parameters
    ----------
    target : str
        The target as the user gave it.
    archive, release : str
        Where it is: "sdss", "dr17".
    object_id : str
        The survey's name of the spectrum; empty where there is none.
    ra, dec : float
        Position in degrees (ICRS); NaN if unknown.
    separation : float
        From the target's position, in arcsec; NaN if either is unknown.
    survey_class, survey_subclass, survey_z, survey_z_err, survey_zwarning, survey_sn
        The survey's own result, for comparison only.
    ids : dict of str to int
        ``plate``, ``mjd``, ``fiberid``; ``obsid``; ``targetid``: what the file must say.
    file : str
        Name of the file; empty if only the file's header will tell.
    url : str
        Where the file is, without anything secret.
    query : mapping of str to str, optional
        What goes behind the URL and is shown nowhere, such as a token.
    write : callable, optional
        ``write(path)`` writes the file, where no URL has it.
    status : str
        `WANTED`, `NO_MATCH`, ``ok`` or ``failed: …``.
    """

    target: str
    archive: str
    release: str = ""
    object_id: str = ""
    ra: float = math.nan
    dec: float = math.nan
    separation: float = math.nan
    survey_class: str = ""
    survey_subclass: str = ""
    survey_z: float = math.nan
    survey_z_err: float = math.nan
    survey_zwarning: int | None = None
    survey_sn: float = math.nan
    ids: dict[str, int] = field(default_factory=dict)
    file: str = ""
    url: str = ""
    query: Mapping[str, str] | None = field(default=None, repr=False)
    write: Callable[[Path], None] | None = field(default=None, repr=False)
    status: str = WANTED

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells one spectrum from all others."""
        return self.archive, self.release, self.object_id


def no_match(one: Wanted, archive: str, release: str = "") -> Match:
    """The row of a target for which an archive has nothing."""
    status = f"{NO_MATCH}: {one.problem}" if one.problem else NO_MATCH
    return Match(one.label, archive, release, status=status)


def safe_name(text: str) -> str:
    """A file name of what a server or a header says: never a path, never hidden."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", text).lstrip(".") or "unnamed"


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Angle between two directions in arcsec, all arguments in degrees; NaN if one is."""
    from astropy.coordinates import angular_separation

    return math.degrees(angular_separation(*map(math.radians, (ra1, dec1, ra2, dec2)))) * 3600.0


def from_text(text: str) -> Wanted:
    """A target from one argument: coordinates in degrees or sexagesimal, or else a name."""
    place = _place(text)
    return Wanted(text, name=text) if place is None else Wanted(text, *place)


def _place(text: str) -> tuple[float, float] | None:
    """Right ascension and declination in degrees; None if the text contains no coordinates."""
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


def from_ids(ids: Mapping[str, int], archive: str) -> Wanted:
    """A target from the ids of an archive; of SDSS, a plate alone stands for all its spectra.

    Parameters
    ----------
    ids : mapping of str to int
        By the names that a catalogue's columns may have.
    archive : str

    Raises
    ------
    UsageError
        If the archive knows no spectrum by these ids.
    """
    names = {alias: name for name, aliases in _IDS.items() for alias in aliases}
    known = {names.get(given.lower(), given): int(value) for given, value in ids.items()}
    wanted = Wanted(label_of(known), ids=known)
    plate = archive == "sdss" and "plate" in known and set(known) <= set(KEYS["sdss"][0])
    if not wanted.has_ids(archive) and not plate:
        keys = " or ".join(", ".join(key) for key in KEYS[archive])
        raise UsageError(
            f"{archive} cannot be searched by {', '.join(ids)}",
            f"give {keys}" if keys else "give coordinates or a name",
        )
    return wanted


def label_of(ids: Mapping[str, int]) -> str:
    """Ids as one word: 266-51602-1."""
    return "-".join(map(str, ids.values()))


def radius_of(angle: str | float) -> float:
    """A radius in arcsec, from ``2arcsec``, ``0.5arcmin`` or a number of arcsec.

    Raises
    ------
    UsageError
        If it is not an angle, or not between 0 and 3 arcmin, the most that SkyServer matches.
    """
    from astropy import units
    from astropy.coordinates import Angle

    text = str(angle)
    try:
        plain = not re.search(r"[^\d.\s]", text)
        parsed = Angle(float(text), units.arcsec) if plain else Angle(text)
        radius = float(parsed.to_value(units.arcsec))
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"invalid radius {text!r}: not an angle", "write 2arcsec or 0.5arcmin"
        ) from (error)
    if not 0 < radius <= 180:
        raise UsageError(f"invalid radius {text!r}: out of range", "give 0 to 3arcmin")
    return radius


def from_catalogue(path: Path) -> list[Wanted]:
    """The targets of a table, in its order; its columns are found by their usual names.

    Raises
    ------
    UsageError
        If the table has no column of ids, coordinates or names, or its coordinates are in a unit or
        system that cannot be converted.
    ReadError
        If it cannot be read.
    """
    from spectromer_cli.spectra import positions
    from spectromer_cli.spectra.catalogues import read_table

    if not path.is_file():
        raise UsageError(f"the catalogue {path} does not exist", "check the name")
    table = read_table(path)
    columns = {name.lower(): name for name in reversed(table.colnames)}
    ids = {key: _first(columns, names) for key, names in _IDS.items()}
    ids = {key: name for key, name in ids.items() if name is not None}
    name = _first(columns, _NAME)
    keyed = any(set(key) <= set(ids) for keys in KEYS.values() for key in keys)
    found = positions.in_degrees(table)
    if not keyed and found is None and name is None:
        raise UsageError(
            f"the catalogue {path} has no ids or coordinates; its columns are: "
            f"{', '.join(table.colnames)}",
            "add columns ra and dec, or plate, mjd and fiberid, or obsid, or targetid, or name",
        )
    places = [(math.nan, math.nan)] * len(table)
    wrong = [""] * len(table)
    if found is not None:
        places = list(zip(found.ra.tolist(), found.dec.tolist(), strict=True))
        wrong = found.problems
    wanted = []
    for row in range(len(table)):
        numbers = {key: _whole(table[column][row]) for key, column in ids.items()}
        known = {key: number for key, number in numbers.items() if number is not None}
        text = "" if name is None else _text(table[name][row])
        label = text or _label(known, places[row]) or f"row {row}"
        one = Wanted(label, *places[row], ids=known)
        if not one.has_place and not any(one.has_ids(archive) for archive in KEYS):
            problem = wrong[row] or ("" if text else "no id or position")
            one = Wanted(label, ids=known, name="" if wrong[row] else text, problem=problem)
        wanted.append(one)
    return wanted


def _first(columns: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


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
                return label_of({name: ids[name] for name in key})
    return f"{place[0]:.6f} {place[1]:+.6f}" if math.isfinite(place[0]) else ""


def resolve(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Give the targets that are names a position, by Sesame (SIMBAD, NED and VizieR).

    An unknown name gets a `problem` instead.

    Raises
    ------
    NetworkError
        If Sesame does not answer.
    """
    return [_resolved(one) if one.name and not one.has_place else one for one in wanted]


def _resolved(one: Wanted) -> Wanted:
    from astropy.coordinates import name_resolve

    address = services.base("SESAME") + "/"

    def question() -> tuple[float, float] | None:
        with name_resolve.sesame_url.set([address]):
            try:
                place = name_resolve.get_icrs_coordinates(one.name)
            except name_resolve.NameResolveError as error:
                if "Unable to find" in str(error):
                    return None
                raise _sesame_trouble(address, str(error)) from error
        return float(place.ra.deg), float(place.dec.deg)

    place = services.ask("SESAME", question)
    if place is None:
        return replace(one, problem="Sesame cannot resolve the name")
    return replace(one, ra=place[0], dec=place[1])


def _sesame_trouble(address: str, said: str) -> Exception:
    """The library tells only in words what went wrong."""
    if "CERTIFICATE" in said.upper():
        return NetworkError(
            f"the certificate of {http.host(address)} cannot be verified",
            "check the clock; behind an institute's proxy set SSL_CERT_FILE",
        )
    if any(word in said for word in ("Service Unavailable", "Too Many", "Bad Gateway", "time")):
        return http.TryAgain("Sesame is busy")
    return NetworkError(
        f"{http.host(address)} cannot be reached to resolve names",
        "check the network, or give coordinates instead of the name",
    )
