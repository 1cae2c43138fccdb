"""What an archive has for a target: the one container that archives fill and downloads empty."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Statuses of a match that is no file.
WANTED, NO_MATCH = "wanted", "no match"


@dataclass
class Match:
    """A spectrum that an archive has for a target, or the news that it has none.

    Parameters
    ----------
    target : str
        What the user asked for, in the user's words.
    archive, release : str
        Where it is: "sdss", "dr17".
    object_id : str
        The survey's name of the spectrum; empty where there is none.
    ra, dec : float
        Position in degrees (ICRS); NaN if unknown.
    separation : float
        From the target's position, in arcsec; NaN if the target has none.
    survey_class, survey_subclass, survey_z, survey_z_err, survey_zwarning, survey_sn
        The survey's own answer, for comparison only.
    ids : dict of str to int
        ``plate``, ``mjd``, ``fiberid``; ``obsid``; ``targetid``: what the file must say.
    file : str
        Name of the file; empty if only the file's header will tell.
    url : str
        Where the file is, without anything secret.
    query : mapping of str to str, optional
        What goes behind the URL and is shown nowhere, such as a token.
    bring : callable, optional
        ``bring(path)`` writes the file, where there is no URL of one.
    status : str
        `WANTED`, `NO_MATCH`, ``ok`` or ``failed: …``.
    forced : bool
        A file of it that is here already does not count.
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
    bring: Callable[[Path], None] | None = field(default=None, repr=False)
    status: str = WANTED
    forced: bool = field(default=False, repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells one spectrum from all others."""
        return self.archive, self.release, self.object_id


def no_match(target: str, archive: str, release: str = "", why: str = "") -> Match:
    """The row of a target for which an archive has nothing."""
    return Match(target, archive, release, status=f"{NO_MATCH}: {why}" if why else NO_MATCH)


def safe_name(text: str) -> str:
    """A file name of what a server or a header says: never a path, never hidden."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", text).lstrip(".") or "unnamed"


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Angle between two directions in arcsec, all arguments in degrees.

    Notes
    -----
    The haversine formula, exact for small angles (Sinnott 1984, Sky & Telescope 68, 158).
    """
    lon1, lat1, lon2, lat2 = map(math.radians, (ra1, dec1, ra2, dec2))
    h = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(h)))) * 3600.0
