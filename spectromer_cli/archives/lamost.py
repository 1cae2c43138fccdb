"""LAMOST: VizieR has the catalogues, lamost.org the files; GAVO has both of DR6."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from spectromer_cli.archives import services
from spectromer_cli.archives.services import number, rows_of, text, whole
from spectromer_cli.archives.targets import Match, Wanted, no_match, safe_name, separation
from spectromer_cli.errors import UsageError

RELEASE = "dr10"
TOKEN = "SPECTROMER_LAMOST_TOKEN"
# The last version of each release that is public: www.lamost.org/lmusers.
_VERSIONS = {"dr7": "v2.0", "dr8": "v2.0", "dr9": "v2.0", "dr10": "v2.0", "dr11": "v2.0"}
# DR5 and DR7: obsids stay the same in later releases, which VizieR has not.
_CATALOGUES = ["V/164", "V/156"]
PLACES_A_QUESTION = 50


def find(
    wanted: Sequence[Wanted], radius: float, release: str = RELEASE, token: str | None = None
) -> list[Match]:
    """Find the low-resolution spectra of targets, by obsid or by position.

    Parameters
    ----------
    wanted, radius
        As for every archive.
    release : str
        As "dr10" or "dr10/v2.0"; "gavo" asks GAVO's copy of DR6, which knows positions only.
    token : str, optional
        For releases that are not public; by default the environment's.

    Returns
    -------
    list of Match
    """
    if release.lower() == "gavo":
        found = {id(one): _at_gavo(one, radius) for one in wanted}
        release = "dr6"
    else:
        folder = _folder(release)
        token = token or os.environ.get(TOKEN)
        places = [one for one in wanted if "obsid" not in one.ids and one.has_place]
        rows = _at_vizier(places, radius)
        rows |= {id(one): [dict(one.ids)] for one in wanted if "obsid" in one.ids}
        found = {
            id(one): [_match(one, row, folder, token) for row in rows.get(id(one), [])]
            for one in wanted
        }
    matches: list[Match] = []
    for one in wanted:
        none = no_match(one, "lamost", release.split("/")[0].lower())
        matches += found[id(one)] or [none]
    return matches


def _folder(release: str) -> str:
    """The release and its version, as in the URLs."""
    name, _, version = release.lower().partition("/")
    version = version or _VERSIONS.get(name, "")
    if not re.fullmatch(r"dr\d+", name) or not re.fullmatch(r"v[\d.]+", version):
        raise UsageError(
            f"{release} is not a supported LAMOST release",
            f"choose from {', '.join(_VERSIONS)}, gavo; or include the version: dr12/v1.0",
        )
    return f"{name}/{version}"


def _match(one: Wanted, row: dict[str, Any], folder: str, token: str | None) -> Match:
    obsid = int(row["obsid"])
    ra, dec = number(row, "raj2000", "ra"), number(row, "dej2000", "dec")
    return Match(
        one.label,
        "lamost",
        folder.split("/")[0],
        object_id=str(obsid),
        ra=ra,
        dec=dec,
        separation=separation(one.ra, one.dec, ra, dec),
        survey_class=text(row, "class"),
        survey_subclass=text(row, "subclass"),
        survey_z=number(row, "z"),
        survey_z_err=number(row, "e_z"),
        ids={"obsid": obsid},
        url=f"{services.base('LAMOST')}/{folder}/spectrum/fits/{obsid}",
        query={"token": token} if token else None,
    )


def _at_vizier(wanted: Sequence[Wanted], radius: float) -> dict[int, list[dict[str, Any]]]:
    """The catalogues' rows around places, by the target's `id`; each obsid once a place."""
    found: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(wanted), PLACES_A_QUESTION):
        group = wanted[start : start + PLACES_A_QUESTION]

        def question(group: Sequence[Wanted] = group) -> list[dict[str, Any]]:
            from astropy import units
            from astropy.coordinates import SkyCoord
            from astroquery.vizier import Vizier

            # By default 50 rows and a choice of columns come.
            vizier = Vizier(row_limit=-1, columns=["**"], timeout=services.TIMEOUT)
            # The library knows servers by name and adds https: a mirror has its own address.
            address = services.base("VIZIER")
            vizier._server_to_url = lambda return_type="votable": f"{address}/viz-bin/{return_type}"
            tables = vizier.query_region(
                SkyCoord([one.ra for one in group], [one.dec for one in group], unit="deg"),
                radius=radius * units.arcsec,
                catalog=_CATALOGUES,
                cache=False,
            )
            return [row for table in tables for row in rows_of(table)]

        for row in services.ask("VIZIER", question):
            # Tables of medium-resolution spectra and of stellar parameters have no class.
            if not whole(row, "obsid") or not text(row, "class"):
                continue
            place = number(row, "raj2000"), number(row, "dej2000")
            for one in group:
                mine = found.setdefault(id(one), [])
                # VizieR rounds the places, to 1e-8 degrees.
                near = separation(one.ra, one.dec, *place) <= radius + 0.01
                if near and row["obsid"] not in [other["obsid"] for other in mine]:
                    mine.append(row)
    return found


def _at_gavo(one: Wanted, radius: float) -> list[Match]:
    """The spectra around a place in GAVO's copy of DR6, by the protocol SSA."""
    if one.problem:
        return []
    if not one.has_place:
        raise UsageError(
            f"GAVO's copy of LAMOST can be searched by position only, not by obsid ({one.label})",
            "give coordinates or a name, or another release",
        )

    def question() -> list[dict[str, Any]]:
        import pyvo
        from astropy import units
        from astropy.coordinates import SkyCoord

        service = pyvo.dal.SSAService(f"{services.base('GAVO')}/lamost6/q/svc_lrs/ssap.xml?")
        place = SkyCoord(one.ra, one.dec, unit="deg")
        answer = service.search(pos=place, diameter=2 * radius * units.arcsec)
        rows = rows_of(answer.to_table())
        for row, record in zip(rows, answer, strict=True):
            row |= {"url": record.getdataurl(), "format": record.format}
            row["ra"], row["dec"] = _position(record) or (one.ra, one.dec)
        return rows

    matches = []
    for row in services.ask("GAVO", question):
        away = separation(one.ra, one.dec, row["ra"], row["dec"])
        if "fits" not in str(row["format"]) or away > radius:
            continue  # SSA may give the same spectrum in other formats, and neighbours
        matches.append(
            Match(
                one.label,
                "lamost",
                "dr6",
                object_id=safe_name(str(row["url"]).split("?")[0].rsplit("/", 1)[-1].split(".")[0]),
                ra=float(row["ra"]),
                dec=float(row["dec"]),
                separation=away,
                survey_class=text(row, "ssa_targclass", "targclass"),
                survey_subclass=text(row, "ssa_targsubclass", "targsubclass"),
                survey_z=number(row, "ssa_redshift", "redshift"),
                url=str(row["url"]),
            )
        )
    return matches


def _position(record: Any) -> tuple[float, float] | None:
    """Where a record of SSA is: an array or a text of two numbers, in degrees."""
    for utype in ("ssa:Char.SpatialAxis.Coverage.Location.Value", "ssa:Target.Pos"):
        numbers = re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", str(record.getbyutype(utype)))
        if len(numbers) == 2:
            return float(numbers[0]), float(numbers[1])
    return None
