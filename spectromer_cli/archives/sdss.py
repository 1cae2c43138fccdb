"""SDSS: SkyServer says what there is, the Science Archive Server (SAS) has the files.

Files are `spec` lite, the coadd without its exposures, a quarter of the full size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from spectromer_cli.archives import services
from spectromer_cli.archives.services import number, rows_of, text, whole
from spectromer_cli.archives.targets import Match, Wanted, label_of, no_match, separation
from spectromer_cli.errors import UsageError

RELEASE = "dr17"
FIELDS = ("plate", "mjd", "fiberID", "run2d", "ra", "dec", "class", "subClass", "z", "zErr",
          "zWarning", "snMedian")  # fmt: skip
# Questions go into the URL, which servers cut at some 8000 characters.
IDS_A_QUESTION = 60
PLACES_A_QUESTION = 100
# The reductions of SDSS-V in the public releases: sdss.org/dr19/data_access, dr18 likewise.
_SDSS_V = {18: "v6_0_4", 19: "v6_1_3"}


def find(wanted: Sequence[Wanted], radius: float, release: str = RELEASE) -> list[Match]:
    """Find the spectra of targets, by ids or by position.

    Parameters
    ----------
    wanted, radius
        As for every archive; the ids of a plate alone stand for all its spectra.
    release : str
        As "dr17"; SDSS-V's field, mjd and catalogid are known from "dr18" on.

    Returns
    -------
    list of Match
    """
    dr = release_number(release)
    by_ids: list[Wanted] = []
    by_place: list[Wanted] = []
    found: dict[int, list[Match]] = {id(one): [] for one in wanted}
    for one in wanted:
        if {"plate", "mjd", "fiberid"} <= set(one.ids):
            by_ids.append(one)
        elif one.has_ids("sdss"):
            found[id(one)].append(_of_robot(one, dr))
        elif one.has_place:
            by_place.append(one)
        elif "plate" in one.ids and not one.problem:
            found[id(one)] += _of_plate(one, dr)
    for one, match in (*_of_ids(by_ids, dr), *_of_places(by_place, radius, dr)):
        found[id(one)].append(match)
    matches: list[Match] = []
    for one in wanted:
        matches += found[id(one)] or [no_match(one, "sdss", f"dr{dr}")]
    return matches


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
    matches: list[Match] = []
    wanted = []
    for place, row in enumerate(query(sql, dr)):
        ids = {key: whole(row, key) for key in ("plate", "mjd", "fiberid", "field", "catalogid")}
        known = {key: value for key, value in ids.items() if value is not None}
        one = Wanted(label_of(known), ids=known)
        if not one.has_ids("sdss"):
            raise UsageError(
                f"row {place} returned by the SQL identifies no spectrum; its columns are: "
                f"{', '.join(row)}",
                "select plate, mjd, fiberID and run2d",
            )
        if "fiberid" in known and "run2d" in row:
            matches.append(match_of(row, one.label, dr))
        else:
            wanted.append(one)
    # Without run2d nobody knows the folder: one question more tells all of them.
    matches += find(wanted, 0.0, release)
    return matches or [no_match(Wanted("SQL"), "sdss", f"dr{dr}")]


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
                f"SkyServer rejected the SQL: {said[:300]}", "try it at skyserver.sdss.org first"
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
        If it is not one, or older than DR9, the first whose files have this layout.
    """
    digits = release.lower().removeprefix("dr")
    if not digits.isdigit() or int(digits) < 9:
        raise UsageError(f"{release} is not an SDSS release", "choose from dr9 to dr19")
    return int(digits)


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


def _of_plate(one: Wanted, dr: int) -> list[Match]:
    """The spectra of a plate: of all its nights and fibres, or of those given."""
    where = " AND ".join(f"s.{key} = {value}" for key, value in one.ids.items())
    rows = query(f"{_select()} WHERE {where} ORDER BY s.mjd, s.fiberID", dr)
    return [match_of(row, one.label, dr) for row in rows]


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
                yield one, _match(row, one, dr)


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
            at = number(row, "ra"), number(row, "dec")
            # The answer does not say for which place it is. The photometric object lies within
            # the radius, the fibre up to an arcsec from it.
            for one in group:
                if separation(one.ra, one.dec, *at) > radius + 1.0:
                    continue
                match = _match(row, one, dr)
                if (id(one), match.object_id) not in seen:
                    seen.add((id(one), match.object_id))
                    yield one, match


def _match(row: dict[str, Any], one: Wanted, dr: int) -> Match:
    match = match_of(row, one.label, dr)
    match.separation = separation(one.ra, one.dec, match.ra, match.dec)
    return match


def _of_robot(one: Wanted, dr: int) -> Match:
    """SDSS-V: the ids say where the file is; position and answer are in the file itself."""
    if dr not in _SDSS_V:
        raise UsageError(
            f"dr{dr} has no SDSS-V spectra by field, mjd and catalogid",
            "use --release dr18 or dr19",
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
