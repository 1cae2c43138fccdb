"""The real archives, one test a URL pattern: which of them has moved?

``python -m pytest -m remote_data tests/test_fetch_remote.py`` needs the network.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from astropy.table import Table
from conftest import Run

from spectromer_cli.archives import desi, eso, lamost, sdss
from spectromer_cli.archives.targets import WANTED, Match, Wanted, resolve

pytestmark = pytest.mark.remote_data

IDS = {"plate": 266, "mjd": 51602, "fiberid": 31}
# The star of a LAMOST file of DR10, by its header.
LAMOST = Wanted("LAMOST", ids={"obsid": 1001704233})


def fetched(run: Run, tmp_path: Path, *arguments: object) -> Table:
    result = run("fetch", *arguments, "-o", tmp_path)
    assert result.code == 0, result.err
    return Table.read(tmp_path / "fetched.ecsv")


def one(matches: list[Match]) -> Match:
    assert [match.status for match in matches[:1]] == [WANTED]
    return matches[0]


def test_skyserver_sql() -> None:
    match = one(sdss.find([Wanted("white dwarf", ids=IDS)], 2.0))
    assert match.survey_class == "STAR" and "/redux/26/" in match.url


def test_skyserver_crossid() -> None:
    place = one(sdss.find([Wanted("white dwarf", ids=IDS)], 2.0))
    assert one(sdss.find([Wanted("there", place.ra, place.dec)], 2.0)).ids == IDS


def test_skyserver_training_order(tmp_path: Path) -> None:
    from spectromer_cli.archives import sdss_training_set

    matches = sdss_training_set.select(
        sdss_training_set.Choice("dr17", 3, 5.0), tmp_path, keep=False
    )
    assert [match.survey_class for match in matches] == list(sdss_training_set.CLASSES) * 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--plate", 266, "--mjd", 51602, "--fiber", 31),
        ("--plate", 7102, "--mjd", 56666, "--fiber", 142),  # a reduction v5
        ("--plate", 266, "--mjd", 51602, "--fiber", 31, "--release", "dr18"),
        ("--field", 15000, "--mjd", 59146, "--catalogid", 4375924756, "--release", "dr18"),
        ("--field", 15000, "--mjd", 59146, "--catalogid", 4375924756, "--release", "dr19"),
    ],
)
def test_sas(run: Run, tmp_path: Path, arguments: tuple[object, ...]) -> None:
    assert fetched(run, tmp_path, "sdss", *arguments)["status"].tolist() == ["ok"]


@pytest.mark.parametrize("release", ["dr8", "dr10", "dr11"])
def test_lamost_files(run: Run, tmp_path: Path, release: str) -> None:
    obsid = 367408048 if release == "dr8" else LAMOST.ids["obsid"]
    if release == "dr11" and not os.environ.get(lamost.TOKEN):
        pytest.skip(f"set {lamost.TOKEN}: this release may ask for it")
    table = fetched(run, tmp_path, "lamost", "--obsid", obsid, "--release", release)
    assert table["file"][0].startswith("spec-")


def test_lamost_catalogues_at_vizier() -> None:
    # A bright K giant of the anticentre, in DR5 and DR7.
    matches = lamost.find([Wanted("there", 45.7, -0.5)], 180.0)
    assert any(match.survey_class == "STAR" for match in matches)


def test_lamost_at_gavo() -> None:
    assert one(lamost.find([Wanted("there", 45.7, -0.5)], 180.0, "gavo")).url.startswith("http")


def test_sparcl(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sparcl", reason="the extra desi is not installed")
    match = one(desi.find([Wanted("there", 187.706, 12.391)], 180.0))
    table = fetched(run, tmp_path, "desi", "--targetid", match.ids["targetid"])
    assert table["status"].tolist() == ["ok"]


def test_eso_tap_and_files(run: Run, tmp_path: Path) -> None:
    match = one(eso.find([Wanted("NGC 253", 11.888, -25.2882)], 60.0, "XSHOOTER"))
    assert match.object_id.startswith("ADP.")
    result = run("fetch", "eso", "11.888 -25.2882", "--radius", "60arcsec", "--dry-run")
    assert result.code == 0, result.err


def test_sesame() -> None:
    (resolved,) = resolve([Wanted("M 87", name="M 87")])
    assert (resolved.ra, resolved.dec) == pytest.approx((187.7059, 12.3911), abs=1e-3)
