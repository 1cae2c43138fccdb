"""SDSS: SkyServer says what there is, the Science Archive Server (SAS) has the files.

Files are `spec` lite, the coadd without its exposures, a quarter of the full size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from spectromer_cli.archives import services
from spectromer_cli.archives.match import Match, no_match, separation
from spectromer_cli.archives.tables import number, rows_of, text, whole
from spectromer_cli.archives.targets import Wanted
from spectromer_cli.errors import UsageError

RELEASE = "dr17"
FIELDS = ("plate", "mjd", "fiberID", "run2d", "ra", "dec", "class", "subClass", "z", "zErr",
          "zWarning", "snMedian")  # fmt: skip
# Questions go into the URL, which servers cut at some 8000 characters.
IDS_A_QUESTION = 60
PLACES_A_QUESTION = 100
# The reductions of SDSS-V in the public releases: sdss.org/dr19/data_access, dr18 likewise.
_SDSS_V = {18: "v6_0_4", 19: "v6_1_3"}
_LONG_AGO = ("26", "103", "104")  # the reductions of SDSS-I and II


def find(wanted: Sequence[Wanted], radius: float, release: str = RELEASE) -> list[Match]:
    """Find the spectra of targets.

    Parameters
    ----------
    wanted : sequence of Wanted
        With ids, or with a place on the sky.
    radius : float
        Arcsec around a place.
    release : str
        As "dr17"; SDSS-V's field, mjd and catalogid are known from "dr18" on.

    Returns
    -------
    list of Match
        In the order of the targets; all spectra of a place, and a row that says so for none.

    Raises
    ------
    NetworkError
        If SkyServer does not answer.
    UsageError
        If the release is none.
    """
    dr = release_number(release)
    by_ids = [one for one in wanted if {"plate", "mjd", "fiberid"} <= set(one.ids)]
    robots = [one for one in wanted if {"field", "mjd", "catalogid"} <= set(one.ids)]
    named = {id(one) for one in (*by_ids, *robots)}
    by_place = [one for one in wanted if id(one) not in named and one.has_place]
    found: dict[int, list[Match]] = {id(one): [] for one in wanted}
    for one, match in _of_ids(by_ids, dr):
        found[id(one)].append(match)
    for one in robots:
        found[id(one)].append(_of_robot(one, dr))
    for one, match in _of_places(by_place, radius, dr):
        found[id(one)].append(match)
    matches: list[Match] = []
    for one in wanted:
        matches += found[id(one)] or [no_match(one.label, "sdss", f"dr{dr}")]
    return matches


def find_plate(plate: int, mjd: int | None, fiber: int | None, release: str) -> list[Match]:
    """Find the spectra of a plate: of all its nights and fibres, or of those given.

    Raises
    ------
    NetworkError, UsageError
        As `find`.
    """
    dr = release_number(release)
    given = {"plate": plate, "mjd": mjd, "fiberID": fiber}
    where = " AND ".join(f"s.{key} = {value}" for key, value in given.items() if value is not None)
    label = "-".join(str(value) for value in given.values() if value is not None)
    rows = query(f"{_select()} WHERE {where} ORDER BY s.mjd, s.fiberID", dr)
    matches = [match_of(row, label, dr) for row in rows]
    return matches or [no_match(label, "sdss", f"dr{dr}")]


def find_sql(sql: str, release: str) -> list[Match]:
    """Find the spectra that the user's own SQL names.

    Raises
    ------
    UsageError
        If the answer has not the columns plate, mjd and fiberID (or field, mjd and catalogid),
        or SkyServer refuses the SQL.
    NetworkError
        If SkyServer does not answer.
    """
    dr = release_number(release)
    rows = query(sql, dr)
    matches: list[Match] = []
    for place, row in enumerate(rows):
        ids = {key: whole(row, key) for key in ("plate", "mjd", "fiberid", "field", "catalogid")}
        known = {key: value for key, value in ids.items() if value is not None}
        if {"plate", "mjd", "fiberid"} <= set(known) and "run2d" in row:
            matches.append(match_of(row, _label(known), dr))
        elif {"field", "mjd", "catalogid"} <= set(known):
            matches.append(_of_robot(Wanted(_label(known), ids=known), dr))
        elif {"plate", "mjd", "fiberid"} <= set(known):
            # Without run2d nobody knows the folder: one question more tells all of them.
            wanted = [
                Wanted(_label(r), ids=r)
                for r in ({k: int(row[k]) for k in ("plate", "mjd", "fiberid")} for row in rows)
            ]
            return find(wanted, 0.0, release)
        else:
            raise UsageError(
                f"row {place} of the answer to --sql names no spectrum; its columns are: "
                f"{', '.join(row)}",
                "select plate, mjd, fiberID and run2d",
            )
    return matches or [no_match("--sql", "sdss", f"dr{dr}")]


def query(sql: str, dr: int) -> list[dict[str, Any]]:
    """The answer of SkyServer to SQL, as dicts with lower-case names.

    Raises
    ------
    NetworkError
        If SkyServer does not answer.
    UsageError
        If it refuses the SQL.
    """

    def question() -> list[dict[str, Any]]:
        from astroquery.exceptions import RemoteServiceError

        try:
            # The library would keep a wrong answer for a week: its cache is not used.
            answer = _client().query_sql(
                sql, timeout=services.LONG_TIMEOUT, data_release=dr, cache=False
            )
        except RemoteServiceError as error:
            said = " ".join(re.sub("<[^>]*>", " ", str(error)).split())
            raise UsageError(
                f"SkyServer refuses the SQL: {said[:300]}", "try it at skyserver.sdss.org first"
            ) from error
        return rows_of(answer)

    return services.ask("SKYSERVER", question)


def match_of(row: dict[str, Any], target: str, dr: int) -> Match:
    """The match of one row of SpecObj, which has at least plate, mjd, fiberid and run2d."""
    ids = {key: int(row[key]) for key in ("plate", "mjd", "fiberid")}
    name = f"spec-{ids['plate']:04d}-{ids['mjd']}-{ids['fiberid']:04d}"
    return Match(
        target,
        "sdss",
        f"dr{dr}",
        object_id=name.removeprefix("spec-"),
        ra=number(row, "ra"),
        dec=number(row, "dec"),
        survey_class=text(row, "class"),
        survey_subclass=text(row, "subclass"),
        survey_z=number(row, "z"),
        survey_z_err=number(row, "zerr", "z_err"),
        survey_zwarning=whole(row, "zwarning"),
        survey_sn=number(row, "snmedian", "sn_median_all"),
        ids=ids,
        file=f"{name}.fits",
        url=f"{_redux(text(row, 'run2d'), dr)}/spectra/lite/{ids['plate']:04d}/{name}.fits",
    )


def release_number(release: str) -> int:
    """The number of a release, from "dr17", "DR17" or "17".

    Raises
    ------
    UsageError
        If it is none, or older than DR9, the first whose files have this layout.
    """
    digits = release.lower().removeprefix("dr")
    if not digits.isdigit() or int(digits) < 9:
        raise UsageError(f"--release {release}: no release of SDSS", "from dr9 to dr19")
    return int(digits)


def _label(ids: dict[str, int]) -> str:
    return "-".join(str(value) for value in ids.values())


def _select() -> str:
    return f"SELECT {', '.join(f's.{name}' for name in FIELDS)} FROM SpecObjAll AS s"


def _client() -> Any:
    from astroquery.sdss import SDSS, conf

    # The library reads its addresses here at every call.
    conf.skyserver_baseurl = services.base("SKYSERVER")
    conf.sas_baseurl = services.base("SAS")
    return SDSS


def _redux(run2d: str, dr: int) -> str:
    """The folder of a reduction: it moved with DR18, and for SDSS-V with DR19."""
    survey = "sdss/spectro" if dr < 18 else "spectro/sdss"
    if dr > 18 and run2d.startswith("v6"):
        survey = "spectro/boss"
    return f"{services.base('SAS')}/dr{dr}/{survey}/redux/{run2d}"


def _of_ids(wanted: Sequence[Wanted], dr: int) -> Iterable[tuple[Wanted, Match]]:
    """By SQL rather than query_specobj, which loses spectra that have no photometry."""
    for start in range(0, len(wanted), IDS_A_QUESTION):
        group = wanted[start : start + IDS_A_QUESTION]
        where = " OR ".join(
            f"(s.plate={one.ids['plate']} AND s.mjd={one.ids['mjd']}"
            f" AND s.fiberID={one.ids['fiberid']})"
            for one in group
        )
        rows = query(f"{_select()} WHERE {where}", dr)
        keyed = {(int(r["plate"]), int(r["mjd"]), int(r["fiberid"])): r for r in rows}
        for one in group:
            row = keyed.get((one.ids["plate"], one.ids["mjd"], one.ids["fiberid"]))
            if row is not None:
                yield one, _near(match_of(row, one.label, dr), one)


def _of_places(wanted: Sequence[Wanted], radius: float, dr: int) -> Iterable[tuple[Wanted, Match]]:
    from astropy import units
    from astropy.coordinates import SkyCoord

    for start in range(0, len(wanted), PLACES_A_QUESTION):
        group = wanted[start : start + PLACES_A_QUESTION]
        places = SkyCoord([w.ra for w in group], [w.dec for w in group], unit="deg")

        def question(places: Any = places) -> list[dict[str, Any]]:
            answer = _client().query_crossid(
                places,
                radius=radius * units.arcsec,
                specobj_fields=list(FIELDS),
                spectro=True,
                timeout=services.LONG_TIMEOUT,
                data_release=dr,
                cache=False,
            )
            return rows_of(answer)

        seen = set()
        for row in services.ask("SKYSERVER", question):
            match = match_of(row, "", dr)
            # The answer does not say for which place it is. The photometric object lies within
            # the radius, the fibre up to an arcsec from it.
            for one in group:
                key = id(one), match.object_id
                away = separation(one.ra, one.dec, match.ra, match.dec)
                if away <= radius + 1.0 and key not in seen:
                    seen.add(key)
                    yield one, _near(match_of(row, one.label, dr), one)


def _near(match: Match, one: Wanted) -> Match:
    if one.has_place:
        match.separation = separation(one.ra, one.dec, match.ra, match.dec)
    return match


def _of_robot(one: Wanted, dr: int) -> Match:
    """SDSS-V: the ids say where the file is; position and answer are in the file itself."""
    if dr not in _SDSS_V:
        raise UsageError(
            f"SDSS-V has no field, mjd and catalogid in dr{dr}", "use --release dr18 or dr19"
        )
    field, mjd, catalogid = (one.ids[key] for key in ("field", "mjd", "catalogid"))
    if dr == 18:
        name, folder = f"spec-{field}-{mjd}-{catalogid:011d}.fits", f"{field:04d}p"
    else:
        name, folder = f"spec-{field:06d}-{mjd}-{catalogid}.fits", f"{field:06d}"
    return Match(
        one.label,
        "sdss",
        f"dr{dr}",
        object_id=f"{field:06d}-{mjd}-{catalogid}",
        ids={"mjd": mjd},
        file=name,
        url=f"{_redux(_SDSS_V[dr], dr)}/spectra/lite/{folder}/{mjd}/{name}",
    )
