"""Download one file: resumed where it broke off, checked, and moved into place when whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectromer_cli import console
from spectromer_cli.archives import http
from spectromer_cli.errors import NetworkError, SpectromerError, WeightsNotVerified
from spectromer_cli.paths import cache_dir

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 18  # bytes
# Smaller files come without a progress bar: one that flashes by says nothing.
BAR_FROM = 5_000_000  # bytes


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    size: int | None
    timeout: float
    query: Mapping[str, str] | None
    bar: bool

    @property
    def part(self) -> Path:
        """The unfinished file."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def note(self) -> Path:
        """What the unfinished file is a part of: its URL and the version there."""
        return self.target.with_name(self.target.name + ".part.json")


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    timeout: float = 30,
    retries: int = 5,
    query: Mapping[str, str] | None = None,
    bar: bool = True,
) -> None:
    """Download a file; `target` is replaced only when the new one is whole and right.

    An interrupted download leaves ``<target>.part`` behind, and the next call goes on from
    there if the server's file is still the same one.

    Parameters
    ----------
    url : str
        http or https; certificates are always verified.
    target : Path
        Where to put it. The folder is made if missing.
    sha256 : str, optional
        What the file must hash to (hexadecimal).
    size : int, optional
        What the file must measure, in bytes.
    timeout : float
        Longest silence of the server, in seconds.
    retries : int
        How often to try again after a dropped connection or a busy server.
    query : mapping of str to str, optional
        Parameters to go behind the URL that no message and no file may show, such as a token.
    bar : bool
        Whether a large file shows its progress; not where several come at once.

    Raises
    ------
    NetworkError
        If the server cannot be reached, has no such file, or sends something else.
    WeightsNotVerified
        If the sha256 is wrong; nothing of it is kept.
    SpectromerError
        If the file cannot be written (disk full, no permission).
    """
    job = _Job(url, target, size, timeout, query, bar)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(job):
        http.patiently(url, lambda first: _fetch(job, first), retries)
        if sha256 is not None:
            _check_sha256(job, sha256)
        with disk_errors(target):
            job.part.replace(target)
            job.note.unlink(missing_ok=True)


def cache_folder(name: str) -> Path:
    """A folder of the user's cache, made if missing.

    The cache is marked as one (CACHEDIR.TAG, https://bford.info/cachedir), so that backup
    programs skip it.

    Raises
    ------
    SpectromerError
        If it cannot be made.
    """
    folder = cache_dir() / name
    tag = cache_dir() / "CACHEDIR.TAG"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not tag.exists():
            tag.write_text(
                "Signature: 8a477f597d28d172789f06886806bc55\n"
                "# This file marks the cache of spectromer. See https://bford.info/cachedir\n"
            )
    return folder


def _fetch(job: _Job, first: bool) -> None:
    """Bring the unfinished file to its end, or raise `TryAgain`."""
    import urllib3

    validator = _validator_of_part(job)
    # Without a validator nobody could tell whether the rest belongs to the same file.
    offset = job.part.stat().st_size if validator and job.part.exists() else 0
    with http.get(
        job.url,
        offset=offset,
        validator=validator,
        timeout=job.timeout,
        first=first,
        query=job.query,
    ) as response:
        offset = _start_of(job, response, offset, validator)
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else None
        if job.size is not None and total not in (None, job.size):
            _forget(job)
            raise NetworkError(
                f"{job.url} has {total} bytes instead of {job.size}",
                "the file on the server was changed: upgrade spectromer, or tell its owner",
            )
        try:
            _save(job, response, offset, total)
        except urllib3.exceptions.HTTPError as error:
            raise http.TryAgain("the connection broke") from error
    found, expected = job.part.stat().st_size, total if job.size is None else job.size
    if expected is not None and found != expected:
        _forget(job)
        raise http.TryAgain(f"{found} bytes came instead of {expected}")


def _validator_of_part(job: _Job) -> str | None:
    try:
        note = json.loads(job.note.read_text())
        return note["validator"] if note["url"] == job.url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no note, or half a one: as good as none


def _start_of(job: _Job, response: requests.Response, offset: int, validator: str | None) -> int:
    """Where the answer starts: at `offset` if the server goes on, at 0 if it starts anew."""
    if response.status_code == 200:
        return 0
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    same = http.validator_of(response) in (None, validator)
    if response.status_code == 206 and start and int(start[1]) == offset and same:
        return offset
    # Also 416: more is here than the server has.
    _forget(job)
    raise http.TryAgain("the file on the server changed")


def _save(job: _Job, response: requests.Response, offset: int, total: int | None) -> None:
    """Stream the answer onto the unfinished file, from `offset` on."""
    with (
        _bar(f"Downloading {job.target.name}", total if job.bar else None) as advance,
        disk_errors(job.target),
        job.part.open("ab") as file,
    ):
        file.truncate(offset)
        if offset == 0:
            note = {"url": job.url, "validator": http.validator_of(response)}
            job.note.write_text(json.dumps(note))
        advance(offset)
        # raw: the bytes as sent, even if the server calls the .gz of a file its encoding.
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            if file.tell() == 0 and http.is_web_page(response, chunk):
                raise NetworkError(
                    f"{job.url} is a web page, not the file",
                    "open it in a browser: a login or the network's own page may stand before it",
                )
            file.write(chunk)
            advance(len(chunk))


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Callable[[float], None]]:
    if total is None or total < BAR_FROM:
        yield lambda amount: None
        return
    with console.progress(description, total, "bytes") as advance:
        yield advance


def _check_sha256(job: _Job, expected: str) -> None:
    with disk_errors(job.target), job.part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        _forget(job)
        raise WeightsNotVerified(
            f"{job.target.name} from {http.host(job.url)} is not what it should be: sha256 "
            f"{found[:12]} instead of {expected[:12]}; it was thrown away",
            "run it again; if it stays so, upgrade spectromer or tell the owner of the file",
        )


def _forget(job: _Job) -> None:
    """Empty the unfinished file; `_alone` removes it in the end, as its lock hangs on it."""
    with disk_errors(job.target):
        job.part.write_bytes(b"")
        job.note.unlink(missing_ok=True)


@contextmanager
def _alone(job: _Job) -> Iterator[None]:
    """Keep two processes from writing the same unfinished file; leave none that is empty."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with disk_errors(job.target):
        lock = job.part.open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = os.path.samestat(os.fstat(lock.fileno()), job.part.stat())
        except (BlockingIOError, FileNotFoundError):
            alone = False  # another has it, or has just finished and moved it away
        except OSError:
            alone = True  # a network disk without locks
        if not alone:
            raise NetworkError(
                f"{job.target} is being downloaded by another process",
                "wait until that is done, then run it again",
            )
        try:
            yield
        finally:
            if os.fstat(lock.fileno()).st_size == 0:
                job.part.unlink(missing_ok=True)
                job.note.unlink(missing_ok=True)


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Tell in words why a file cannot be written.

    Raises
    ------
    SpectromerError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpectromerError(
                f"{target} cannot be written: the disk is full",
                "make room and run it again: it goes on where it stopped",
            ) from error
        raise SpectromerError(
            f"{target} cannot be written ({error.strerror or error})",
            "check the permissions, or choose another folder",
        ) from error
