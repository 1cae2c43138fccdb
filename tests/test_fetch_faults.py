"""`spectromer fetch` over weak networks and moody archives: nothing lost, nothing fetched twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_server import ArchiveServer
from astropy.table import Table
from conftest import ROOT, Run
from http_server import Fault

from spectromer_cli.archives.download import Pace

PLATE = ("fetch", "sdss", "--plate", 266)
NAMES = [f"spec-0266-51602-{fiber:04d}.fits" for fiber in (1, 2, 3)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    from astroquery import cache_conf

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spectromer_cli.archives.download.REQUESTS_PER_SECOND", 1000.0)
    monkeypatch.setattr("spectromer_cli.archives.http._reached", {})
    with ArchiveServer(tmp_path) as server, cache_conf.set_temp("cache_active", False):
        for name, url in server.environment.items():
            monkeypatch.setenv(name, url)
        for fiber in (1, 2, 3):
            server.add_sdss(266, 51602, fiber)
        yield server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept for a server's sake, without sleeping them."""
    slept: list[float] = []
    monkeypatch.setattr("spectromer_cli.archives.http.time.sleep", slept.append)
    return slept


def catalogue() -> Table:
    return Table.read("spectra/fetched.ecsv")


def here() -> list[str]:
    return sorted(path.name for path in Path("spectra").glob("spec-*"))


def path_of(server: ArchiveServer, fiber: int) -> str:
    return next(path for path in server.files if path.endswith(NAMES[fiber - 1]))


# A second run -------------------------------------------------------------------------------


def test_a_second_run_fetches_only_what_is_missing(run: Run, server: ArchiveServer) -> None:
    assert run(*PLATE).code == 0
    first = catalogue()
    assert len(server.requests) == 3
    Path("spectra", NAMES[1]).unlink()
    with Path("spectra", NAMES[2]).open("ab") as file:
        file.write(b"changed")
    result = run(*PLATE)
    assert result.code == 0
    assert sorted(Path(request.path).name for request in server.requests[3:]) == NAMES[1:]
    assert "2 fetched, 1 already here" in result.err
    assert catalogue()["sha256"].tolist() == first["sha256"].tolist()
    assert run(*PLATE, "--force").code == 0
    assert len(server.requests) == 8


def test_files_without_a_catalogue_are_verified_and_kept(run: Run, server: ArchiveServer) -> None:
    assert run(*PLATE).code == 0
    Path("spectra/fetched.ecsv").unlink()
    Path("spectra", NAMES[0]).write_bytes(b"SIMPLE  = nonsense")
    assert run(*PLATE).code == 0
    assert [Path(request.path).name for request in server.requests[3:]] == NAMES[:1]
    assert catalogue()["status"].tolist() == ["ok"] * 3


def test_a_catalogue_that_is_none(run: Run, server: ArchiveServer) -> None:
    Path("spectra").mkdir()
    Path("spectra/fetched.ecsv").write_text("a,b\n")
    result = run(*PLATE)
    assert result.code == 2 and "is not a catalogue written by fetch" in result.err


def test_one_spectrum_for_two_targets_comes_once(run: Run, server: ArchiveServer) -> None:
    Path("t.csv").write_text("name,plate,mjd,fiber\na,266,51602,1\nb,266,51602,1\n")
    assert run("fetch", "sdss", "--catalog", "t.csv").code == 0
    assert len(server.requests) == 1
    assert catalogue()["file"].tolist() == [NAMES[0]] * 2
    assert catalogue()["target"].tolist() == ["a", "b"]


# Files that do not come ---------------------------------------------------------------------


def test_404_costs_its_own_row(run: Run, server: ArchiveServer) -> None:
    del server.files[path_of(server, 2)]
    result = run(*PLATE, "--json")
    assert result.code == 3
    assert here() == [NAMES[0], NAMES[2]]
    document = json.loads(result.out)
    assert document["status"] == "partial"
    assert [row["status"][:6] for row in document["rows"]] == ["ok", "failed", "ok"]
    assert "does not exist (404" in document["errors"][0]
    assert catalogue()["file"].tolist() == [NAMES[0], None, NAMES[2]]


def test_none_came(run: Run, server: ArchiveServer) -> None:
    server.files.clear()
    result = run(*PLATE, "--json")
    assert result.code == 4
    assert json.loads(result.out)["status"] == "error"
    assert "run the same command again later" in result.err


def test_503_with_retry_after(run: Run, server: ArchiveServer, waits: list[float]) -> None:
    server.faults = [Fault(status=503, headers={"Retry-After": "7"})]
    assert run(*PLATE).code == 0
    assert 7.0 in waits
    server.service_faults = [Fault(status=503, headers={"Retry-After": "9"}), Fault(status=502)]
    assert run(*PLATE, "--force").code == 0
    assert 9.0 in waits and any(0.5 <= wait <= 3.0 for wait in waits)


def test_a_server_that_asks_for_too_much_patience(
    run: Run, server: ArchiveServer, waits: list[float]
) -> None:
    server.service_faults = [Fault(status=503, headers={"Retry-After": "86400"})]
    result = run(*PLATE)
    assert result.code == 4
    assert "asks to wait 86400 s" in result.err


def test_cut_off_and_fetched_again(run: Run, server: ArchiveServer, waits: list[float]) -> None:
    server.faults = [Fault(cut=5000)]
    assert run(*PLATE, "--max-connections", 1).code == 0
    assert len(server.requests) == 4
    assert here() == NAMES


@pytest.mark.parametrize("length", [9000, 900_000])
def test_a_wrong_length(run: Run, server: ArchiveServer, waits: list[float], length: int) -> None:
    server.faults = [Fault(length=length)] * 8
    result = run("fetch", "sdss", "--plate", 266, "--mjd", 51602, "--fiber", 1)
    assert result.code == 4
    assert ("cut off" if length == 9000 else "cannot be downloaded") in result.err
    assert here() == []
    server.faults = []
    assert run("fetch", "sdss", "--plate", 266, "--mjd", 51602, "--fiber", 1).code == 0
    assert here() == NAMES[:1]


def test_a_record_that_the_disk_does_not_take(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sparcl", reason="the extra desi is not installed")
    server.add_desi(5)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Table, "write", no_room)
    result = run("fetch", "desi", "--targetid", 5)
    assert result.code == 1 and "the disk is full" in result.err


def test_html_instead_of_fits(run: Run, server: ArchiveServer) -> None:
    server.add(path_of(server, 1), b"<!DOCTYPE html><html>Down for maintenance</html>")
    result = run(*PLATE)
    assert result.code == 3
    assert "is a web page, not the file" in result.err
    assert here() == NAMES[1:]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:20000], "cut off"),
        (lambda data: b"", "is empty"),
        (lambda data: b"404: Not Found", "contains no spectrum"),
    ],
)
def test_truncated_or_no_spectrum(
    run: Run, server: ArchiveServer, spoil: Any, message: str
) -> None:
    path = path_of(server, 1)
    server.add(path, spoil(server.files[path][0]))
    result = run(*PLATE)
    assert result.code == 3
    assert message in result.err
    assert here() == NAMES[1:]
    assert [p.name for p in Path("spectra").iterdir() if p.name.startswith(".")] == []


def test_another_object_is_refused(run: Run, server: ArchiveServer) -> None:
    server.add(path_of(server, 1), server.files[path_of(server, 2)][0])
    server.add_lamost(101001)
    server.add_lamost(101002)
    files = server.files
    files["/lamost/dr10/v2.0/spectrum/fits/101001"] = files[
        "/lamost/dr10/v2.0/spectrum/fits/101002"
    ]
    result = run(*PLATE)
    assert result.code == 3
    assert "contains another object: fiberid 2 instead of 1; it was deleted" in result.err
    assert here() == NAMES[1:]
    assert "obsid 101002 instead of 101001" in run("fetch", "lamost", "--obsid", 101001).err


def test_a_forced_fetch_that_fails_keeps_the_file(run: Run, server: ArchiveServer) -> None:
    assert run(*PLATE).code == 0
    del server.files[path_of(server, 1)]
    assert run(*PLATE, "--force").code == 3
    assert catalogue()["file"].tolist() == NAMES
    assert here() == NAMES


def test_redirect_loop(run: Run, server: ArchiveServer, waits: list[float]) -> None:
    path = path_of(server, 1)
    server.faults = [Fault(status=302, headers={"Location": path})] * 40
    result = run("fetch", "sdss", "--plate", 266, "--fiber", 1)
    assert result.code == 4
    assert "redirects in a loop" in result.err


def test_silence(run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectromer_cli.archives.download.TIMEOUT", 0.2)
    monkeypatch.setattr("spectromer_cli.archives.download.RETRIES", 0)
    server.faults = [Fault(wait=0.6)]
    result = run(*PLATE, "--max-connections", 1)
    assert result.code == 3
    assert here() == NAMES[1:]


def test_a_broken_certificate(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that speaks no TLS has no certificate.
    monkeypatch.setenv("SPECTROMER_SAS_URL", server.url.replace("http:", "https:") + "/sas")
    result = run(*PLATE)
    assert result.code == 4
    assert "certificate of 127.0.0.1" in result.err


@pytest.mark.parametrize("name", ["SKYSERVER", "SAS", "SESAME", "VIZIER", "ESO_TAP"])
def test_no_network(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch, waits: list, name: str
) -> None:
    monkeypatch.setenv(f"SPECTROMER_{name}_URL", "http://127.0.0.1:9")
    command: dict[str, tuple[Any, ...]] = {
        "SESAME": ("fetch", "lamost", "M 87"),
        "VIZIER": ("fetch", "lamost", "10.0 10.0"),
        "ESO_TAP": ("fetch", "eso", "10.0 10.0"),
    }
    if name != "SAS":
        assert run(*command.get(name, PLATE), "--dry-run").code == 4
    result = run(*command.get(name, PLATE))
    assert result.code == 4, result.err
    assert "127.0.0.1:9 cannot be reached" in result.err
    assert "check the network" in result.err
    assert max(waits, default=0.0) < 0.1  # what never answered is not waited for


def test_disk_full(run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spectromer_cli.archives.download.http.is_web_page", no_room)
    result = run(*PLATE)
    assert result.code == 1
    assert "the disk is full" in result.err and "free some space" in result.err


# Services that answer something else --------------------------------------------------------


def test_a_web_page_instead_of_a_table(run: Run, server: ArchiveServer) -> None:
    server.html = b"<html><body>\nSkyServer is down\n</body></html>"
    for command in (PLATE, ("fetch", "lamost", "10.0 10.0"), ("fetch", "eso", "10.0 10.0")):
        result = run(*command)
        assert result.code == 4, result.err
        assert "Traceback" not in result.err
        assert "try" in result.err


def test_one_archive_down_does_not_stop_the_others(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTROMER_ESO_TAP_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "sparcl", None)
    monkeypatch.setitem(sys.modules, "sparcl.client", None)
    result = run("fetch", "147.25 -0.5")
    assert result.code == 3
    status = dict(zip(catalogue()["archive"], catalogue()["status"], strict=True))
    assert status["sdss"] == "ok" and status["lamost"] == "no match"
    assert status["eso"].startswith("failed: 127.0.0.1:9 cannot be reached")


@pytest.mark.parametrize("target", [("examples",), ("M 87",), ("sdss", "--plate", 266)])
def test_a_dry_run_without_network_fails_in_seconds(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch, target: tuple
) -> None:
    """A network that swallows connections, and takes for ever to resolve a name."""
    from spectromer_cli.archives import http

    monkeypatch.setattr(http, "_connects", lambda place: time.sleep(20.0))
    monkeypatch.setattr(http, "CONNECT", -0.9)
    monkeypatch.setattr(http, "_reached", {})
    began = time.monotonic()
    result = run("fetch", *target, "--dry-run")
    assert result.code == 4 and not result.out
    assert "cannot be reached" in result.err and "Traceback" not in result.err
    assert time.monotonic() - began < 15.0


def test_no_separation_where_there_is_no_position(run: Run, server: ArchiveServer) -> None:
    assert "separation" not in run(*PLATE).out
    server.names["the galaxy"] = (147.25, -0.5)
    assert "separation" in run("fetch", "sdss", "the galaxy").out


def test_an_archive_that_stops_answering_keeps_what_it_said(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr("spectromer_cli.archives.fetch.TARGETS_PER_QUESTION", 1)
    rows = "".join(f"{name},266,51602,{name}\n" for name in (1, 2, 3))
    Path("t.csv").write_text("name,plate,mjd,fiber\n" + rows)
    server.service_faults = [Fault(), Fault(status=404), Fault()]
    result = run("fetch", "sdss", "--catalog", "t.csv")
    assert result.code == 3
    assert [status[:6] for status in catalogue()["status"]] == ["ok", "failed", "failed"]
    assert run("fetch", "sdss", "--catalog", "t.csv").code == 0
    assert catalogue()["status"].tolist() == ["ok"] * 3


def test_what_failed_before_leaves_no_row_behind(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.names["the galaxy"] = (147.25, -0.5)
    good = os.environ["SPECTROMER_SKYSERVER_URL"]
    monkeypatch.setenv("SPECTROMER_SKYSERVER_URL", "http://127.0.0.1:9")
    assert run("fetch", "sdss", "the galaxy").code == 4
    monkeypatch.setenv("SPECTROMER_SKYSERVER_URL", good)
    assert run("fetch", "sdss", "the galaxy").code == 0
    assert catalogue()["status"].tolist() == ["ok"] * 3


# Manners ------------------------------------------------------------------------------------


def test_so_many_connections_at_a_time(
    run: Run, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectromer_cli.archives import download

    now, most = 0, 0
    save = download._save

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.05)
        save(*arguments, **options)
        now -= 1

    monkeypatch.setattr(download, "_save", counted)
    for fiber in range(4, 9):
        server.add_sdss(266, 51602, fiber)
    assert run(*PLATE, "--max-connections", 2).code == 0
    assert most == 2


def test_requests_to_a_host_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 100.0 + sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = Pace(per_second=50.0)
    for _ in range(6):
        pace.wait("one")
    assert slept == pytest.approx([0.0] + 5 * [0.02])
    pace.wait("another")
    assert slept[-1] == 0.0


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_what_is_done(
    server: ArchiveServer, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    server.faults = [Fault(), Fault(wait=30.0), Fault(wait=30.0)]
    command = [sys.executable, "-m", "spectromer_cli", *map(str, PLATE)]
    command += ["-o", str(tmp_path / "spectra"), "--max-connections", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 60
    # The second file is asked for when the first is told of; then that is written down.
    while time.monotonic() < deadline and process.poll() is None and len(server.faults) > 1:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert b"Traceback" not in err
    assert sorted(path.name for path in Path("spectra").iterdir()) == ["fetched.ecsv", NAMES[0]]
    assert catalogue()["status"].tolist() == ["ok", "wanted", "wanted"]
