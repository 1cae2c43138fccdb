"""ESO Phase 3: reduced 1-D spectra of all instruments, found by TAP.

By the TAP service behind astroquery.eso: that module's own Phase 3 search filled in a web form
until 0.4.11, and has other arguments since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from spectromer_cli.archives import services
from spectromer_cli.archives.services import rows_of, text
from spectromer_cli.archives.targets import Match, Wanted, no_match, safe_name, separation


def find(wanted: Sequence[Wanted], radius: float, instrument: str = "") -> list[Match]:
    """Find the spectra around targets.

    Parameters
    ----------
    wanted, radius
        As for every archive.
    instrument : str
        As "XSHOOTER"; all if empty.

    Returns
    -------
    list of Match
    """
    matches: list[Match] = []
    for one in wanted:
        rows = _around(one, radius, instrument) if one.has_place else []
        matches += [_match(one, row) for row in rows] or [no_match(one, "eso")]
    return matches


def _around(one: Wanted, radius: float, instrument: str) -> list[dict[str, Any]]:
    circle = f"CIRCLE('ICRS', {one.ra:.7f}, {one.dec:.7f}, {radius / 3600.0:.8f})"
    adql = (
        "SELECT dp_id, target_name, s_ra, s_dec, instrument_name, access_estsize "
        "FROM ivoa.ObsCore WHERE dataproduct_type = 'spectrum' "
        f"AND 1 = CONTAINS(POINT('ICRS', s_ra, s_dec), {circle})"
    )
    if instrument:
        adql += f" AND instrument_name = '{instrument.upper().replace(chr(39), '')}'"

    def question() -> list[dict[str, Any]]:
        import pyvo

        service = pyvo.dal.TAPService(services.base("ESO_TAP"))
        return rows_of(service.search(f"{adql} ORDER BY dp_id", maxrec=10000).to_table())

    return services.ask("ESO_TAP", question)


def _match(one: Wanted, row: dict[str, Any]) -> Match:
    name = text(row, "dp_id")
    ra, dec = float(row["s_ra"]), float(row["s_dec"])
    return Match(
        one.label,
        "eso",
        text(row, "instrument_name").lower(),
        object_id=name,
        ra=ra,
        dec=dec,
        separation=separation(one.ra, one.dec, ra, dec),
        file=f"{safe_name(name)}.fits",
        url=f"{services.base('ESO')}/{quote(name, safe=':')}",
    )
