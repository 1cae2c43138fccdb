"""DESI through SPARCL, NOIRLab's server of spectra, and its own client (the extra `desi`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectromer_cli.archives import services
from spectromer_cli.archives.services import number, text, whole
from spectromer_cli.archives.targets import Match, Wanted, no_match, separation
from spectromer_cli.errors import NetworkError, UsageError

RELEASE = "DR1"
INSTALL = "pip install 'spectromer[desi]'"
FIELDS = ["sparcl_id", "targetid", "ra", "dec", "redshift", "redshift_err", "redshift_warning",
          "spectype", "data_release"]  # fmt: skip
ARRAYS = ["flux", "wavelength", "ivar", "mask"]
IDS_A_QUESTION = 500


def find(wanted: Sequence[Wanted], radius: float, release: str = RELEASE) -> list[Match]:
    """Find the spectra of targets, by targetid or by position.

    Parameters
    ----------
    wanted, radius
        As for every archive.
    release : str
        "DR1" or "EDR".

    Returns
    -------
    list of Match

    Raises
    ------
    UsageError
        Also if SPARCL's client is not installed.
    """
    client = _client()
    release = release.lower().removeprefix("desi-")
    name = f"DESI-{release.upper()}"
    targetids = [one.ids["targetid"] for one in wanted if "targetid" in one.ids]
    records: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(targetids), IDS_A_QUESTION):
        some = targetids[start : start + IDS_A_QUESTION]
        for record in _find(client, {"targetid": some, "data_release": [name]}):
            records.setdefault(int(record["targetid"]), []).append(record)
    matches: list[Match] = []
    for one in wanted:
        if "targetid" in one.ids:
            found = records.get(one.ids["targetid"], [])
        else:
            found = _around(client, one, radius, name) if one.has_place else []
        matches += [_match(client, one, record, release) for record in found] or [
            no_match(one, "desi", release)
        ]
    return matches


def _client() -> Any:
    try:
        from sparcl.client import SparclClient
    except ImportError as error:
        raise UsageError("DESI spectra need sparclclient, which is not installed", INSTALL) from (
            error
        )
    url = services.base("SPARCL")
    # It asks the server for its version as soon as it is made.
    return services.ask(
        "SPARCL",
        lambda: SparclClient(
            url=url, announcement=False, connect_timeout=3.1, read_timeout=services.LONG_TIMEOUT
        ),
    )


def _find(client: Any, constraints: dict[str, list[Any]]) -> list[dict[str, Any]]:
    # The limit is 500 records by default; a target may have several.
    return services.ask(
        "SPARCL",
        lambda: list(client.find(outfields=FIELDS, constraints=constraints, limit=20000).records),
    )


def _around(client: Any, one: Wanted, radius: float, name: str) -> list[dict[str, Any]]:
    """A box is asked for, as SPARCL knows no circles, and its corners are cut off."""
    from math import cos, radians

    up = radius / 3600.0
    aside = min(180.0, up / max(1e-6, cos(radians(min(89.9, abs(one.dec) + up)))))
    low, high = one.ra - aside, one.ra + aside
    spans = [[max(0.0, low), min(360.0, high)]]
    spans += [[low + 360.0, 360.0]] if low < 0 else []
    spans += [[0.0, high - 360.0]] if high > 360 else []
    found = []
    for span in spans:
        box: dict[str, list[Any]] = {
            "ra": span,
            "dec": [one.dec - up, one.dec + up],
            "data_release": [name],
        }
        found += _find(client, box)
    return [r for r in found if separation(one.ra, one.dec, r["ra"], r["dec"]) <= radius]


def _match(client: Any, one: Wanted, record: dict[str, Any], release: str) -> Match:
    targetid, sparcl_id = int(record["targetid"]), str(record["sparcl_id"])
    ra, dec = float(record["ra"]), float(record["dec"])
    return Match(
        one.label,
        "desi",
        release,
        object_id=str(targetid),
        ra=ra,
        dec=dec,
        separation=separation(one.ra, one.dec, ra, dec),
        survey_class=text(record, "spectype"),
        survey_z=number(record, "redshift"),
        survey_z_err=number(record, "redshift_err"),
        survey_zwarning=whole(record, "redshift_warning"),
        ids={"targetid": targetid},
        file=f"desi-{release}-{targetid}.fits",
        url=f"{services.base('SPARCL')}/sparcl_id/{sparcl_id}",
        write=lambda path: _write(client, sparcl_id, path),
    )


def _write(client: Any, sparcl_id: str, path: Path) -> None:
    """Write one record as a FITS table of one row, each cell of an array column a vector."""
    import numpy as np
    from astropy.table import Table

    answer = services.ask(
        "SPARCL", lambda: client.retrieve([sparcl_id], include=[*FIELDS, *ARRAYS]).records
    )
    # The server does not promise the order of its answer, nor that it holds nothing else.
    record = next((one for one in answer if str(one.get("sparcl_id")) == sparcl_id), None)
    if record is None:
        raise NetworkError(f"SPARCL no longer has the record {sparcl_id}", "run it again")
    row = {key: [np.asarray(record[key])] for key in ARRAYS if record.get(key) is not None}
    row |= {key: [record[key]] for key in FIELDS if record.get(key) is not None}
    Table(row).write(path, format="fits", overwrite=True)
