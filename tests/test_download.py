"""Downloads: whole or not at all, whatever the server does."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_server import Fault, FileServer

from spectromer_cli.archives.download import download
from spectromer_cli.archives.http import retry_after
from spectromer_cli.errors import NetworkError, SpectromerError, WeightsNotVerified
from spectromer_cli.paths import cache_folder

DATA = np.random.default_rng(1).bytes(700_000)  # more than two chunks
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer() as server:
        server.add("/spec.fits", DATA)
        yield server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, without sleeping them."""
    slept: list[float] = []
    monkeypatch.setattr("spectromer_cli.archives.http.time.sleep", slept.append)
    return slept


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "spec.fits"


def left_behind(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if p != target)


def test_fresh_download(server: FileServer, target: Path) -> None:
    download(server.url + "/spec.fits", target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert left_behind(target) == []
    (request,) = server.requests
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["User-Agent"].startswith("spectromer/")


def test_a_gzip_file_that_the_server_calls_an_encoding_stays_as_it_is(
    server: FileServer, target: Path
) -> None:
    url = server.add("/a.gz", DATA, Content_Encoding="gzip")
    download(url, target, sha256=SHA256)
    assert target.read_bytes() == DATA


def test_no_more_than_the_expected_size_is_taken(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"what was there")
    # A body without a length ends where the server hangs up: it may be any number of bytes.
    server.faults = [Fault(no_length=True)]
    with pytest.raises(NetworkError, match="more bytes than the 1000 expected") as told:
        download(server.url + "/spec.fits", target, sha256=SHA256, size=1000, retries=0)
    assert "\n" not in str(told.value)
    assert target.read_bytes() == b"what was there" and left_behind(target) == []


def test_a_size_that_the_server_states_wrongly_is_refused_before_the_body(
    server: FileServer, target: Path
) -> None:
    with pytest.raises(NetworkError, match="more bytes than the 1000 expected"):
        download(server.url + "/spec.fits", target, size=1000)
    assert not target.exists() and left_behind(target) == []


@pytest.mark.parametrize("no_length", [False, True])
def test_where_no_size_is_known_there_is_a_limit(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch, no_length: bool
) -> None:
    monkeypatch.setattr("spectromer_cli.archives.download.MAX_BYTES", 100_000)
    server.faults = [Fault(no_length=no_length)]
    with pytest.raises(NetworkError, match="the limit of 100000"):
        download(server.url + "/spec.fits", target)
    assert not target.exists() and left_behind(target) == []


def test_fewer_bytes_than_expected_come_again(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    with pytest.raises(NetworkError, match="received 700000 bytes instead of 800000"):
        download(server.url + "/spec.fits", target, size=800_000, retries=1)
    assert not target.exists() and len(server.requests) == 2


def test_empty_file(server: FileServer, target: Path) -> None:
    download(server.add("/empty", b""), target)
    assert target.read_bytes() == b""
    assert left_behind(target) == []


def test_dropped_connection_starts_again(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.faults = [Fault(cut=300_000), Fault(cut=100_000)]
    download(server.url + "/spec.fits", target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 3 and left_behind(target) == []
    assert 0.5 <= waits[0] <= 1.5 and 1.0 <= waits[1] <= 3.0


def test_a_connection_that_keeps_dropping_leaves_nothing(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.faults = [Fault(cut=300_000)] * 3
    with pytest.raises(NetworkError, match="the connection broke"):
        download(server.url + "/spec.fits", target, retries=2)
    assert list(target.parent.iterdir()) == []


def test_wrong_hash(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"what was there")
    with pytest.raises(WeightsNotVerified) as caught:
        download(server.url + "/spec.fits", target, sha256="0" * 64)
    assert caught.value.exit_code == 5
    assert "spec.fits" in str(caught.value)
    assert SHA256[:12] in str(caught.value) and "0" * 12 in str(caught.value)
    assert target.read_bytes() == b"what was there"
    assert left_behind(target) == []


@pytest.mark.parametrize("status", [429, 503])
def test_busy_server_is_given_the_time_it_asks_for(
    server: FileServer, target: Path, waits: list[float], status: int
) -> None:
    server.faults = [Fault(status, {"Retry-After": "7"}), Fault(status)]
    download(server.url + "/spec.fits", target)
    assert target.read_bytes() == DATA
    assert waits[0] == 7.0 and 1.0 <= waits[1] <= 3.0


def test_server_that_stays_busy(server: FileServer, target: Path, waits: list[float]) -> None:
    server.faults = [Fault(503)] * 10
    with pytest.raises(NetworkError, match="503") as caught:
        download(server.url + "/spec.fits", target, retries=3)
    assert len(server.requests) == 4 and len(waits) == 3
    assert caught.value.exit_code == 4 and caught.value.hint
    assert left_behind(target) == []


def test_nobody_waits_an_hour(server: FileServer, target: Path, waits: list[float]) -> None:
    server.faults = [Fault(503, {"Retry-After": "3600"})]
    with pytest.raises(NetworkError, match="asks to wait 3600 s"):
        download(server.url + "/spec.fits", target)
    assert waits == []


def test_retry_after() -> None:
    assert retry_after(None) is None
    assert retry_after(" 12 ") == 12.0
    assert retry_after("soon") is None
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after(in_a_minute) == pytest.approx(60, abs=2)
    assert retry_after("Fri, 07 Nov 2014 10:00:00 -0000") == 0.0


@pytest.mark.parametrize(
    ("status", "words"), [(404, "does not exist"), (410, "does not exist"), (403, "refused")]
)
def test_refused_at_once(server: FileServer, target: Path, status: int, words: str) -> None:
    server.faults = [Fault(status)]
    with pytest.raises(NetworkError, match=words) as caught:
        download(server.url + "/spec.fits", target)
    assert "/spec.fits" in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.requests) == 1
    assert left_behind(target) == []


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (b"\n<!DOCTYPE html><html>Please log in</html>", "application/octet-stream"),
        (b"<?xml version='1.0'?><html>Please log in</html>", "text/html; charset=utf-8"),
    ],
)
def test_web_page_instead_of_data(server: FileServer, target: Path, page: bytes, kind: str) -> None:
    with pytest.raises(NetworkError, match="is a web page"):
        download(server.add("/login", page, Content_Type=kind), target)
    assert left_behind(target) == []


def test_xml_data_is_no_web_page(server: FileServer, target: Path) -> None:
    table = b"<?xml version='1.0'?><VOTABLE/>"
    download(server.add("/table", table, Content_Type="text/xml"), target)
    assert target.read_bytes() == table


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(NetworkError, match="cannot be reached") as caught:
        download(url, tmp_path / "x")
    assert "check the network" in caught.value.hint
    assert waits == [] and list(tmp_path.iterdir()) == []


def test_certificates_are_verified(tmp_path: Path, server: FileServer, waits: list) -> None:
    # A server that speaks no TLS has no certificate; nothing may come of it.
    with pytest.raises(NetworkError, match="certificate"):
        download(server.url.replace("http:", "https:") + "/spec.fits", tmp_path / "x")


def test_bad_address(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="cannot be downloaded"):
        download("ftp://example.invalid/x", tmp_path / "x")


def test_disk_full(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch, waits: list
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spectromer_cli.archives.download.http.is_web_page", no_room)
    with pytest.raises(SpectromerError, match="the disk is full"):
        download(server.url + "/spec.fits", target)
    assert waits == [] and not target.exists()


def test_folder_that_cannot_be_made(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpectromerError, match="cannot be written"):
        download(server.url + "/spec.fits", tmp_path / "file" / "x")


def test_interrupt_leaves_nothing_behind(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib3

    stream = urllib3.HTTPResponse.stream

    def interrupted(self: urllib3.HTTPResponse, *arguments: Any, **options: Any) -> Iterator:
        yield next(stream(self, *arguments, **options))
        raise KeyboardInterrupt

    target.parent.mkdir()
    target.write_bytes(b"what was there")
    monkeypatch.setattr(urllib3.HTTPResponse, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(server.url + "/spec.fits", target)
    assert target.read_bytes() == b"what was there" and left_behind(target) == []


def test_two_downloads_of_the_same_file_do_not_mix(server: FileServer, target: Path) -> None:
    server.faults = [Fault(wait=0.2), Fault()]
    with ThreadPoolExecutor(2) as pool:
        url = server.url + "/spec.fits"
        for done in [pool.submit(download, url, target, sha256=SHA256) for _ in range(2)]:
            done.result()
    assert target.read_bytes() == DATA and left_behind(target) == []


def test_a_file_of_certificates_that_is_not_there(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(NetworkError, match=r"bundle\.pem") as caught:
        download(server.url.replace("http:", "https:") + "/spec.fits", target)
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint


def test_cache_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTROMER_CACHE", str(tmp_path / "cache"))
    assert cache_folder("weights") == tmp_path / "cache" / "weights"
    assert (tmp_path / "cache" / "weights").is_dir()
    tag = (tmp_path / "cache" / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")
