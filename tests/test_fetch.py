"""`spectromer fetch`: the forms of the command, and what each archive answers."""

from __future__ import annotations

import json
import shlex
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_server import ArchiveServer
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Column, Table
from conftest import Run

import spectromer_cli as spectromer
from spectromer_cli.archives import targets
from spectromer_cli.archives.targets import safe_name, separation
from spectromer_cli.cli import fetch
from spectromer_cli.errors import NetworkError, UsageError
from spectromer_cli.spectra.catalogues import read_catalogue
from spectromer_cli.training.dataset import Source

STAR = {"class": "STAR", "subClass": "F9", "z": 1e-4}
GALAXY_PLACE = {"ra": 187.70593, "dec": 12.39112}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    from astroquery import cache_conf

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SPECTROMER_LAMOST_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spectromer_cli.archives.download.REQUESTS_PER_SECOND", 1000.0)
    with ArchiveServer(tmp_path) as server, cache_conf.set_temp("cache_active", False):
        for name, url in server.environment.items():
            monkeypatch.setenv(name, url)
        server.add_sdss(266, 51602, 1, **STAR)
        server.add_sdss(266, 51602, 2, ra=150.0, dec=2.0, z=0.25)
        server.add_sdss(3655, 55240, 744, run2d="v5_13_2", **GALAXY_PLACE)
        server.add_lamost(101001)
        server.add_desi(39628473198347264)
        server.add_eso("ADP.2014-09-16T11:04:49.123")
        yield server


def catalogue(folder: Path = Path("spectra")) -> Table:
    return Table.read(folder / "fetched.ecsv")


def files(folder: Path = Path("spectra")) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The forms of the command -------------------------------------------------------------------


def test_one_spectrum_by_its_ids(run: Run, server: ArchiveServer) -> None:
    result = run("fetch", "sdss", "--plate", 266, "--mjd", 51602, "--fiber", 1, "-o", "spectra/")
    assert result.code == 0, result.err
    assert files() == ["fetched.ecsv", "spec-0266-51602-0001.fits"]
    assert [request.path for request in server.requests] == [
        "/sas/dr17/sdss/spectro/redux/26/spectra/lite/0266/spec-0266-51602-0001.fits"
    ]
    (row,) = catalogue()
    assert (row["file"], row["status"]) == ("spec-0266-51602-0001.fits", "ok")
    assert (row["survey_class"], row["survey_subclass"]) == ("STAR", "F9")
    assert (row["plate"], row["mjd"], row["fiberid"]) == (266, 51602, 1)
    assert len(row["sha256"]) == 64 and row["url"].startswith(server.url)
    assert result.rows[0]["file"] == "spec-0266-51602-0001.fits"


def test_a_whole_plate(run: Run, server: ArchiveServer) -> None:
    assert run("fetch", "sdss", "--plate", 266).code == 0
    assert catalogue()["fiberid"].tolist() == [1, 2]


def test_a_catalogue_of_places(run: Run, server: ArchiveServer) -> None:
    Path("targets.csv").write_text(
        "name,RAJ2000,DEJ2000\nfirst,147.25,-0.5\nnothing there,10.0,10.0\n"
        "third,10:00:00,+02:00:00.5\n"
    )
    result = run("fetch", "sdss", "--catalog", "targets.csv", "--radius", "2arcsec")
    assert result.code == 0, result.err
    table = catalogue()
    assert table["target"].tolist() == ["first", "nothing there", "third"]
    assert table["status"].tolist() == ["ok", "no match", "ok"]
    assert table["separation"][2] == pytest.approx(0.5, abs=1e-3)
    assert table["object_id"].tolist()[2] == "0266-51602-0002"


def test_sql(run: Run, server: ArchiveServer) -> None:
    sql = "SELECT TOP 500 plate, mjd, fiberID, run2d, class, z FROM SpecObj WHERE z > 0.2"
    assert run("fetch", "sdss", "--sql", sql).code == 0
    assert catalogue()["survey_z"].tolist() == [0.25]
    # Where run2d is missing it is asked for.
    sql = "SELECT plate, mjd, fiberID FROM SpecObj WHERE plate = 3655"
    assert run("fetch", "sdss", "--sql", sql, "-o", "other").code == 0
    assert "v5_13_2" in catalogue(Path("other"))["url"][0]
    refused = run("fetch", "sdss", "--sql", "SELECT plate FROM Nonsense")
    assert refused.code == 2 and "rejected the SQL: " in refused.err and "Nonsense" in refused.err
    useless = run("fetch", "sdss", "--sql", "SELECT z FROM SpecObj")
    assert useless.code == 2 and "select plate, mjd, fiberID" in useless.err


@pytest.mark.parametrize(
    ("release", "path"),
    [
        ("dr18", "dr18/spectro/sdss/redux/v6_0_4/spectra/lite/15143p/59205/"
         "spec-15143-59205-04544940698.fits"),
        ("dr19", "dr19/spectro/boss/redux/v6_1_3/spectra/lite/015143/59205/"
         "spec-015143-59205-4544940698.fits"),
    ],
)  # fmt: skip
def test_sdss_v(run: Run, server: ArchiveServer, release: str, path: str) -> None:
    server.add_sdss_v(f"/sas/{path}")
    ids = ["--field", 15143, "--mjd", 59205, "--catalogid", 4544940698]
    assert run("fetch", "sdss", *ids, "--release", release).code == 0
    (row,) = catalogue()
    assert row["file"] == path.rsplit("/", 1)[1]
    assert row["survey_class"] == "QSO"  # from the file, since nobody was asked
    assert run("fetch", "sdss", *ids, "--release", "dr17").code == 2


def test_lamost_by_obsid(run: Run, server: ArchiveServer) -> None:
    result = run("fetch", "lamost", "--obsid", 101001, "--release", "dr10")
    assert result.code == 0, result.err
    # As LAMOST calls it; the server's own name would have left the folder.
    assert files() == ["fetched.ecsv", "spec-55859-F5907_sp09-021.fits.gz"]
    assert not list(Path("..").glob("evil*")) and not list(Path().glob("evil*"))
    assert server.requests[0].path == "/lamost/dr10/v2.0/spectrum/fits/101001"
    assert catalogue()["obsid"].tolist() == [101001]
    assert np.isnan(catalogue()["separation"][0])  # from no position that was asked for


def test_the_token_goes_to_the_server_and_nowhere_else(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "s3cret"
    refused = run("fetch", "lamost", "--obsid", 101001)
    assert refused.code == 4 and "login" in refused.err
    monkeypatch.setenv("SPECTROMER_LAMOST_TOKEN", "s3cret")
    result = run("fetch", "lamost", "--obsid", 101001, "--json")
    assert result.code == 0, result.err
    assert server.tokens[-1] == "s3cret"
    monkeypatch.delenv("SPECTROMER_LAMOST_TOKEN")
    again = run("fetch", "lamost", "--obsid", 101001, "--token", "s3cret", "--force", "--json")
    assert again.code == 0
    written = "".join(path.read_text() for path in Path("spectra").glob("*.ecsv"))
    for text in (written, result.out, result.err, again.out, again.err):
        assert "s3cret" not in text


def test_lamost_by_place(run: Run, server: ArchiveServer) -> None:
    assert run("fetch", "lamost", "03:03:00 -00:30:00").code == 0
    (row,) = catalogue()
    assert (row["obsid"], row["survey_subclass"]) == (101001, "F7")
    assert row["separation"] < 0.001
    assert run("fetch", "lamost", "45.75 -0.5", "--release", "gavo", "-o", "gavo").code == 0
    (row,) = catalogue(Path("gavo"))
    assert row["url"] == f"{server.url}/gavo/getproduct/101001.fits"
    assert row["release"] == "dr6"


def test_desi(run: Run, server: ArchiveServer) -> None:
    pytest.importorskip("sparcl", reason="the extra desi is not installed")
    server.add_desi(39628473198347265, ra=0.0002, dec=0.0)
    result = run("fetch", "desi", "--targetid", 39628473198347264, "--release", "DR1")
    assert result.code == 0, result.err
    assert files() == ["desi-dr1-39628473198347264.fits", "fetched.ecsv"]
    (row,) = catalogue()
    assert (row["targetid"], row["survey_class"]) == (39628473198347264, "GALAXY")
    # Over the edge at 0°, 1.08 arcsec away.
    assert run("fetch", "desi", "359.9999 0.0", "-o", "edge").code == 0
    assert catalogue(Path("edge"))["separation"][0] == pytest.approx(1.08)


class _Client:
    """Answers as SPARCL's client does, with other records first."""

    def __init__(self, **_: object) -> None:
        pass

    def retrieve(self, ids: list[str], include: list[str]) -> types.SimpleNamespace:
        names = dict.fromkeys(include)
        other = names | {"sparcl_id": "another", "targetid": 1, "flux": [1.0]}
        mine = names | {"sparcl_id": ids[0], "targetid": 2, "flux": [2.0, 3.0]}
        return types.SimpleNamespace(records=[other, mine] if ids[0] == "mine" else [other])


def test_the_record_that_was_asked_for(tmp_path: Path, server: ArchiveServer) -> None:
    from spectromer_cli.archives import desi

    desi._write(_Client(), "mine", tmp_path / "mine.fits")
    (row,) = Table.read(tmp_path / "mine.fits")
    assert row["targetid"] == 2 and row["flux"].tolist() == [2.0, 3.0]
    with pytest.raises(NetworkError, match="no longer has the record gone"):
        desi._write(_Client(), "gone", tmp_path / "gone.fits")
    assert not (tmp_path / "gone.fits").exists()


def test_desi_without_its_client(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sparcl", None)
    monkeypatch.setitem(sys.modules, "sparcl.client", None)
    result = run("fetch", "desi", "--targetid", 1)
    assert result.code == 2
    assert "pip install 'spectromer[desi]'" in result.err


def test_a_name_is_asked_of_every_archive(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sparcl", None)
    monkeypatch.setitem(sys.modules, "sparcl.client", None)
    result = run("fetch", "M 87")
    assert result.code == 0, result.err
    assert "desi is skipped" in result.err
    table = catalogue()
    assert dict(zip(table["archive"], table["status"], strict=True)) == {
        "sdss": "ok", "lamost": "no match", "eso": "ok"
    }  # fmt: skip
    assert table["file"].tolist()[2] == "ADP.2014-09-16T11_04_49.123.fits"
    assert any(name == "/sesame/SNV" for name in server.questions)
    unknown = run("fetch", "--radius", "3arcsec", "Nothing So Named", "-o", "none")
    assert unknown.code == 0
    assert set(catalogue(Path("none"))["status"]) == {"no match: Sesame cannot resolve the name"}
    assert run("fetch", "lamost", "45.75 -0.5", "Unheard Of", "10.0 10.0", "-o", "mixed").code == 0
    order = ["45.75 -0.5", "Unheard Of", "10.0 10.0"]
    assert catalogue(Path("mixed"))["target"].tolist() == order
    archive = run("fetch", "object", "sdss")
    assert archive.code == 2 and "is an archive" in archive.err


def test_examples(run: Run, server: ArchiveServer) -> None:
    server.add_sdss(3128, 54776, 8, run2d="104", **STAR)
    server.add_sdss(2127, 53859, 518)
    server.add_sdss(1449, 53116, 1, **{"class": "QSO"}, z=0.294)
    server.add_lamost(1001704233)
    result = run("fetch", "examples", "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["rows"]
    assert [row["survey_class"] for row in rows] == ["STAR", "GALAXY", "QSO", "STAR"]
    assert rows[2]["survey_z"] == 0.294


def test_the_examples_are_what_they_are_said_to_be(shared: Path) -> None:
    from spectromer_cli.archives.fetch import example_matches
    from spectromer_cli.archives.verify import verify

    folder = shared / "data" / "fits"
    names = ["sdss/" + match.file for match in example_matches()[:3]]
    names.append("lamost/spec-59674-HD141736N112006M01_sp04-233.fits.gz")
    for match, name in zip(example_matches(), names, strict=True):
        verify(folder / name, match)
        assert match.survey_class == {"galaxy": "GALAXY", "quasar": "QSO"}.get(match.target, "STAR")


def test_training_in_shards(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectromer_cli.archives.sdss_training_set.SHARD", 4)
    for fiber in range(10, 13):
        for plate, name in ((300, "STAR"), (301, "GALAXY"), (302, "QSO")):
            server.add_sdss(plate, 52000, fiber, **{"class": name}, snMedian=fiber)
    server.add_sdss(300, 52000, 99, **STAR, snMedian=4.0)  # too noisy
    server.add_sdss(300, 52000, 98, **STAR, zWarning=4)
    server.sdss = [row for row in server.sdss if row["plate"] in (300, 301, 302)]
    command = ["fetch", "training", "--release", "dr17", "--per-class", 2, "--min-sn", 5]
    result = run(*command, "-o", "set")
    assert result.code == 0, result.err
    labels = Table.read("set/labels.ecsv")
    assert labels["class"].tolist() == ["STAR", "GALAXY", "QSO"] * 2
    assert labels.colnames == ["file", "class", "subclass", "z", "z_err", "sn", "ra", "dec",
                               "plate", "mjd", "fiberid"]  # fmt: skip
    assert all((Path("set") / name).is_file() for name in labels["file"])
    assert {Path(name).parent.name for name in labels["file"]} == {"shard-0000", "shard-0001"}
    # Another run asks nobody; what was lost comes again.
    asked, lost = len(server.questions), Path("set") / labels["file"][4]
    lost.unlink()
    assert run(*command, "-o", "set").code == 0
    assert len(server.questions) == asked and lost.is_file()
    assert len(server.requests) == 7
    lost.unlink()
    planned = run(*command, "-o", "set", "--dry-run")
    assert planned.out.startswith("1 to fetch") and "5 already here" in planned.out
    other = run("fetch", "training", "--per-class", 3, "-o", "set")
    assert other.code == 2 and "another selection" in other.err


def help_examples() -> list[str]:
    found = [fetch.EPILOG, *(str(command.epilog) for command in fetch.commands.registered_commands)]
    lines = "\n".join(text.removeprefix("Examples:") for text in found).splitlines()
    return sorted({line for line in lines if line})


@pytest.mark.parametrize("line", help_examples())
def test_the_examples_in_the_help(line: str, run: Run, server: ArchiveServer) -> None:
    if " desi " in line or "M 87" in line:
        pytest.importorskip("sparcl", reason="the extra desi is not installed")
    if "--catalogid" in line or "fetch examples" in line:
        pytest.skip("tested above, with files of its own")
    server.names["NGC 253"] = (11.888, -25.288)
    Path("targets.csv").write_text("ra,dec\n147.25,-0.5\n")
    result = run(*shlex.split(line)[1:])
    assert result.code == 0, result.err


# From Python ---------------------------------------------------------------------------------


def test_from_python(server: ArchiveServer) -> None:
    found = spectromer.fetch(["147.25 -0.5", "10.0 10.0"], "mine", archive="sdss")
    assert (found.fetched, found.without, found.failed) == (1, 1, 0)
    assert found.table["target"].tolist() == ["147.25 -0.5", "10.0 10.0"]
    assert (Path("mine") / found.table["file"][0]).is_file()
    again = spectromer.fetch("147.25 -0.5", "mine", archive="sdss", radius=2.0)
    assert (again.fetched, again.here) == (0, 1)
    planned = spectromer.fetch(ids=[{"Plate": 266, "mjd": 51602, "fiber": 2}], archive="sdss",
                               output="other", dry_run=True)  # fmt: skip
    assert [match.object_id for match in planned.missing] == ["0266-51602-0002"]
    assert planned.table["status"].tolist() == ["wanted"]
    size = len(server.files[next(iter(server.files))][0])
    assert planned.about_bytes() == pytest.approx(size, rel=0.02)
    assert not Path("other").exists()


def test_from_python_a_failure_is_a_row(server: ArchiveServer) -> None:
    server.files.clear()
    found = spectromer.fetch(ids=[{"obsid": 101001}], archive="lamost")
    assert found.failed == 1 and found.table["status"][0].startswith("failed: ")
    assert "does not exist" in found.errors[0]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({}, "nothing to fetch"),
        ({"targets": "M 87", "sql": "SELECT"}, "several kinds of target"),
        ({"targets": "M 87", "archive": "hubble"}, "hubble is not an archive"),
        ({"targets": "M 87", "release": "dr17"}, "release needs an archive"),
        ({"targets": "M 87", "archive": "eso", "release": "dr17"}, "eso takes no release"),
        ({"targets": "M 87", "archive": "sdss", "token": "t"}, "sdss takes no token"),
        ({"sql": "SELECT", "archive": "eso"}, "eso takes no SQL"),
        ({"ids": [{"obsid": 1}]}, "ids needs an archive"),
        ({"ids": [{"obsid": 1}], "archive": "sdss"}, "sdss cannot be searched by obsid"),
        (
            {"ids": [{"mjd": 1, "fiberid": 2}], "archive": "sdss"},
            "cannot be searched by mjd, fiberid",
        ),
        (
            {"ids": [{"plate": 1, "fibre": 2}], "archive": "sdss"},
            "cannot be searched by plate, fibre",
        ),
        ({"ids": [{"field": 1, "mjd": 2}], "archive": "sdss"}, "cannot be searched by field, mjd"),
    ],
)
def test_from_python_what_cannot_be_asked(
    server: ArchiveServer, what: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        spectromer.fetch(**what)
    assert not Path("spectra").exists() and server.questions == []


# What comes of it ---------------------------------------------------------------------------


def test_the_catalogue_is_one_for_the_other_commands(run: Run, server: ArchiveServer) -> None:
    Path("t.csv").write_text("ra,dec\n147.25,-0.5\n10.0,10.0\n")
    assert run("fetch", "sdss", "--catalog", "t.csv").code == 0
    listed, table = read_catalogue(Path("spectra/fetched.ecsv"), None)
    assert listed[0].path.is_file() and listed[0].problem == ""
    assert "has no file" in listed[1].problem
    source = Source("fetched", labels=table)
    assert source.column("class") == "survey_class" and source.column("z") == "survey_z"


def test_dry_run(run: Run, server: ArchiveServer) -> None:
    result = run("fetch", "sdss", "--plate", 266, "--dry-run")
    size = len(server.files[next(iter(server.files))][0])
    assert result.code == 0
    assert result.out.startswith(f"2 to fetch (about {2 * size / 1e6:.1f} MB), 0 already here")
    assert not Path("spectra").exists()
    document = json.loads(run("fetch", "sdss", "--plate", 266, "--dry-run", "--json").out)
    assert document["bytes"] == pytest.approx(2 * size, rel=0.02)


def test_nothing_is_said_where_nothing_shall_be(run: Run, server: ArchiveServer) -> None:
    assert run("fetch", "sdss", "--plate", 266, "-q").err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["fetch", "sdss"],
        ["fetch", "sdss", "M 87", "--plate", "1"],
        ["fetch", "lamost", "--obsid", "1", "--catalog", "x.csv"],
        ["fetch", "lamost", "--obsid", "1", "--release", "dr77"],
        ["fetch", "sdss", "1.0 2.0", "--radius", "1deg"],
        ["fetch", "sdss", "1.0 2.0", "--radius", "wide"],
        ["fetch", "sdss", "--catalog", "missing.csv"],
        ["fetch", "sdss", "--plate", "1", "--release", "seventeen"],
        ["fetch", "lamost", "--obsid", "1", "--release", "gavo"],
    ],
)
def test_usage(run: Run, server: ArchiveServer, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert not Path("spectra").exists()


# Targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("187.70593 12.39112", (187.70593, 12.39112)),
        ("187.70593,+12.39112", (187.70593, 12.39112)),
        ("12:30:49.42 +12:23:28.0", (187.70592, 12.39111)),
        ("12h30m49.42s +12d23m28s", (187.70592, 12.39111)),
        ("12 30 49.42 -12 23 28.0", (187.70592, -12.39111)),
        ("3C 273", None),
        ("47 Tuc", None),
        ("M 87", None),
        ("2MASS J12304942+1223279", None),
        ("400.0 95.0", None),
    ],
)
def test_coordinates_and_names(text: str, place: tuple[float, float] | None) -> None:
    wanted = targets.from_text(text)
    if place is None:
        assert wanted.name == text and not wanted.has_place
    else:
        assert (wanted.ra, wanted.dec) == pytest.approx(place, abs=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot"])
def test_columns_are_found(tmp_path: Path, suffix: str) -> None:
    table = Table(
        {"_RAJ2000": [10.0, 20.0], "_DEJ2000": [-5.0, 5.0], "PLATE": [266, 267],
         "MJD": [51602, 51608], "fiber": [1, 2],
         "TARGETID": np.array([39628473198347264, 39628473198347265])}
    )  # fmt: skip
    path = tmp_path / f"t.{suffix}"
    table.write(path, format="votable" if suffix == "vot" else None)
    first, second = targets.from_catalogue(path)
    assert (first.ra, first.dec) == (10.0, -5.0)
    assert second.ids == {"plate": 267, "mjd": 51608, "fiberid": 2, "targetid": 39628473198347265}
    assert second.has_ids("sdss") and second.has_ids("desi") and not second.has_ids("lamost")


def test_a_catalogue_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="a, b"):
        targets.from_catalogue(path)


def test_names_stay_in_the_folder() -> None:
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name("/a\\b:c") == "_a_b_c"
    assert safe_name("..") == "unnamed"


def test_separation() -> None:
    assert separation(10.0, 60.0, 10.0 + 2 / 3600.0, 60.0) == pytest.approx(1.0, rel=1e-6)
    assert separation(359.9999, 0.0, 0.0001, 0.0) == pytest.approx(0.72, rel=1e-6)
    assert np.isnan(separation(np.nan, np.nan, 10.0, 60.0))


# M 87, in the ways of catalogues; to the digits that a table has.
M87 = (187.70593, 12.39112)
PLACES = {
    "degrees": {"ra": [M87[0]], "dec": [M87[1]]},
    "hours by unit": {"ra": [M87[0] / 15] * units.hourangle, "dec": [M87[1]] * units.deg},
    "hours of time": {"RA": Column([M87[0] / 15], unit="h"), "Dec": [M87[1]]},
    "hours by name": {"ra_hours": [M87[0] / 15], "dec_deg": [M87[1]]},
    "hours in brackets": {"RA (hours)": [M87[0] / 15], "DEC [deg]": [M87[1]]},
    "hours by description": {"ra": Column([M87[0] / 15], description="in hours"),
                             "dec": [M87[1]]},
    "radians": {"ra": np.radians([M87[0]]) * units.rad, "dec": np.radians([M87[1]]) * units.rad},
    "radians by name": {"ra_rad": np.radians([M87[0]]), "dec_rad": np.radians([M87[1]])},
    "arcseconds": {"ra": [M87[0] * 3600] * units.arcsec, "dec": [M87[1] * 3600] * units.arcsec},
    "sexagesimal": {"RAJ2000": ["12 30 49.423"], "DEJ2000": ["+12 23 28.03"]},
    "colons": {"ra": Column(["12:30:49.423"], unit="h:m:s"),
               "dec": Column(["+12:23:28.03"], unit="d:m:s")},
    "letters": {"ra": ["12h30m49.423s"], "dec": ["12d23m28.03s"]},
    "text of numbers": {"ra": [str(M87[0])], "dec": [str(M87[1])]},
    "degrees and minutes": {"ra": Column(["187:42:21.35"], unit="deg"), "dec": ["12:23:28.03"]},
    "below zero": {"ra": [M87[0] - 360.0], "dec": [M87[1]]},
    "above a circle": {"ra": [M87[0] + 360.0], "dec": [M87[1]]},
    "B1950 by name": {"ra_b1950": [187.07323], "dec_b1950": [12.66718]},
    "B1950 of VizieR": {"_RAB1950": [187.07323], "_DEB1950": [12.66718]},
    "B1950 beside J2000": {"RA1950": [0.0], "DE1950": [0.0], "raj2000": [M87[0]],
                           "dej2000": [M87[1]]},
    "B1950 in brackets": {"RA (B1950)": [187.07323], "Dec (B1950)": [12.66718]},
    "B1950 by description": {"ra": Column([187.07323], description="Equinox=B1950"),
                             "dec": [12.66718]},
    "an epoch is no equinox": {"ra": Column([M87[0]], description="RA (ICRS) at Ep=1991.25"),
                               "dec": [M87[1]]},
    "J1975": {"ra_j1975": [187.38971], "dec_j1975": [12.52910]},
    "galactic": {"l": [283.77778], "b": [74.49120]},
    "galactic of Gaia": {"GLON": [283.77778], "GLAT": [74.49120]},
}  # fmt: skip


@pytest.mark.parametrize("way", PLACES)
def test_positions_in_any_unit_and_equinox(tmp_path: Path, way: str) -> None:
    Table(PLACES[way]).write(tmp_path / "t.ecsv")
    (one,) = targets.from_catalogue(tmp_path / "t.ecsv")
    assert separation(one.ra, one.dec, *M87) < 0.2
    assert 0 <= one.ra < 360


@pytest.mark.parametrize(
    ("meta", "place"),
    [
        ({"EQUINOX": 1950.0, "RADESYS": "FK4"}, (187.07323, 12.66718)),
        ({"equinox": "B1950"}, (187.07323, 12.66718)),
        ({"EQUINOX": 1950}, (187.07323, 12.66718)),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, (187.38971, 12.52910)),
        ({"RADESYS": "ICRS", "EQUINOX": 2000.0}, M87),
        ({"EQUINOX": 2000.0, "EPOCH": 1950.0}, M87),
        ({"COOSYS": "galactic"}, (283.77778, 74.49120)),
    ],
)
@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_the_equinox_of_a_table(tmp_path: Path, suffix: str, meta: dict, place: tuple) -> None:
    table = Table({"ra": [place[0]], "dec": [place[1]]}, meta=meta)
    table.write(tmp_path / f"t.{suffix}")
    (one,) = targets.from_catalogue(tmp_path / f"t.{suffix}")
    assert separation(one.ra, one.dec, *M87) < 0.2


@pytest.mark.parametrize("ref", ['ref="B"', ""])
def test_the_equinox_of_a_votable(tmp_path: Path, ref: str) -> None:
    fields = "".join(
        f'<FIELD name="{n}" datatype="double" {ref} unit="deg"/>' for n in ("ra", "dec")
    )
    (tmp_path / "t.vot").write_text(
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        '<RESOURCE><COOSYS ID="B" system="eq_FK4" equinox="B1950"/>'
        f"<TABLE>{fields}<DATA><TABLEDATA><TR><TD>187.07323</TD><TD>12.66718</TD></TR></TABLEDATA>"
        "</DATA></TABLE></RESOURCE></VOTABLE>"
    )
    (one,) = targets.from_catalogue(tmp_path / "t.vot")
    assert separation(one.ra, one.dec, *M87) < 0.2


def test_a_table_with_sky_coordinates(tmp_path: Path) -> None:
    sky = SkyCoord([187.07323], [12.66718], unit="deg", frame="fk4")
    Table({"place": sky}).write(tmp_path / "t.ecsv")
    (one,) = targets.from_catalogue(tmp_path / "t.ecsv")
    assert separation(one.ra, one.dec, *M87) < 0.2


def test_positions_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "name,ra,dec\na,10,95\nb,10,-9999\n,-9999,-9999\nd,5000,1\n,12:xx,1\nf,,\n"
    )
    found = targets.from_catalogue(tmp_path / "t.csv")
    assert not any(one.has_place for one in found)
    assert "declination 95 is beyond ±90" in found[0].problem and not found[0].name
    assert found[1].name == "b" and not found[1].problem
    assert found[2].problem == "no id or position"
    assert "right ascension 5000" in found[3].problem
    assert "'12:xx' is not an angle" in found[4].problem


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table({"ra": [1.0] * units.Jy, "dec": [2.0]}), "unit Jy of the column ra is not an angle"),
        (Table({"ra": [1.0], "dec": [2.0] * units.hourangle}), "of the column dec is not an angle"),
        (Table({"ra": [1.0], "dec": [2.0]}, meta={"RADESYS": "GAPPT"}), "in the system GAPPT"),
        (Table({"ra": [1.0], "dec": [2.0]}, meta={"coosys": "ecl_FK5"}), "in the system ecl_FK5"),
    ],
)
def test_positions_that_are_refused(tmp_path: Path, run: Run, table: Table, words: str) -> None:
    table.write(tmp_path / "t.ecsv")
    result = run("fetch", "sdss", "--catalog", tmp_path / "t.ecsv", "--dry-run")
    assert result.code == 2 and words in result.err and "Traceback" not in result.err
