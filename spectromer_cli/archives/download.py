"""Downloads: one file, and a queue of spectra; each is checked before it gets its name.

Nothing is resumed: a spectrum has 0.2 MB, and what broke off comes again from its start.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from spectromer_cli import console
from spectromer_cli.archives import http
from spectromer_cli.archives.http import RETRIES
from spectromer_cli.archives.targets import Match, safe_name
from spectromer_cli.archives.verify import file_name, verify
from spectromer_cli.errors import NetworkError, ReadError, SpectromerError, WeightsNotVerified
from spectromer_cli.paths import atomic_path, disk_errors, sha256_of

CONNECTIONS = 4
REQUESTS_PER_SECOND = 10.0  # to one host, at most
TIMEOUT = 30.0  # s, longest silence of a server
CHUNK = 1 << 18  # bytes
# Where nobody says how large a file is, no more of it is taken, whatever the server sends. The
# largest weights have one gigabyte, the largest one-dimensional spectra a hundred megabytes.
MAX_BYTES = 2_000_000_000
MAX_SPECTRUM_BYTES = 500_000_000


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    retries: int = RETRIES,
) -> None:
    """Download a file; `target` is replaced only when the new one is whole and right.

    Parameters
    ----------
    url : str
        http or https; certificates are always verified.
    target : Path
        Where to put it. The folder is created if missing.
    sha256 : str, optional
        What the file must hash to (hexadecimal).
    size : int, optional
        How many bytes it must have. Without it, at most `MAX_BYTES` are taken.
    retries : int
        How often to try again after a dropped connection or a busy server.

    Raises
    ------
    NetworkError
        If the server cannot be reached, has no such file, or sends something else or more.
    WeightsNotVerified
        If the sha256 is wrong.
    SpectromerError
        If the file cannot be written (disk full, no permission).
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            bar = f"Downloading {target.name}"
            _save(url, temporary, retries=retries, size=size, limit=MAX_BYTES, bar=bar)
            if sha256 is not None and (found := sha256_of(temporary)) != sha256.lower():
                raise WeightsNotVerified(
                    f"{target.name} from {http.host(url)} has the wrong sha256, {found[:12]} "
                    f"instead of {sha256[:12]}; it was deleted",
                    "run it again; if that does not help, upgrade spectromer or contact the owner "
                    "of the file",
                )


def _save(
    url: str,
    path: Path,
    *,
    retries: int,
    size: int | None = None,
    limit: int,
    query: Mapping[str, str] | None = None,
    bar: str = "",
) -> None:
    """Write what a server sends to `path`, with a progress bar where `bar` says what it is.

    No more than `size` bytes, or `limit` where the size is not known, whatever it sends.
    """
    import urllib3

    most = limit if size is None else size

    def check(count: int) -> None:
        if count > most:
            said = f"the limit of {most}" if size is None else f"the {most} expected"
            raise NetworkError(
                f"{url} has more bytes than {said}; the download was deleted",
                "check the address; if the problem persists, contact the owner of the file",
            )

    def once(first: bool) -> None:
        with http.request("GET", url, timeout=TIMEOUT, first=first, query=query) as response:
            total = http.size_of(response)
            check(total or 0)
            shown = console.progress(bar, total, "bytes") if bar else nullcontext(lambda _: None)
            with shown as advance, path.open("wb") as file:
                try:
                    # raw: the bytes as sent, even if the server calls a .gz its encoding.
                    for chunk in response.raw.stream(CHUNK, decode_content=False):
                        if file.tell() == 0 and http.is_web_page(response, chunk):
                            raise NetworkError(
                                f"{url} is a web page, not the file",
                                "open it in a browser: it may need a login, or your network may "
                                "show a page first",
                            )
                        check(file.tell() + len(chunk))
                        file.write(chunk)
                        advance(len(chunk))
                except urllib3.exceptions.HTTPError as error:
                    raise http.TryAgain("the connection broke") from error
                expected = total if size is None else size
                if expected not in (None, file.tell()):
                    raise http.TryAgain(f"received {file.tell()} bytes instead of {expected}")

    http.patiently(url, once, retries)


class Pace:
    """Keeps the requests to each host apart.

    Parameters
    ----------
    per_second : float
        How many requests a host is sent at most.
    """

    def __init__(self, per_second: float) -> None:
        self._gap = 1.0 / per_second
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        """Sleep until the next request may start."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next.get(host, now))
            self._next[host] = start + self._gap
        time.sleep(start - now)


def download_all(
    matches: Sequence[Match], folder: Path, *, force: bool, connections: int
) -> Iterator[tuple[Match, str | SpectromerError]]:
    """Download and verify spectra, several at a time, and give each its name.

    Parameters
    ----------
    matches : sequence of Match
        Each spectrum once.
    folder : Path
        Where to.
    force : bool
        Do not take a sound file of the spectrum that lies there already.
    connections : int
        How many at a time, over all hosts.

    Yields
    ------
    match : Match
        As they come.
    result : str or SpectromerError
        The file's name, or why there is none.

    Raises
    ------
    SpectromerError
        If the folder cannot be written.
    """
    waiting: queue.SimpleQueue[Match] = queue.SimpleQueue()
    for match in matches:
        waiting.put(match)
    done: queue.SimpleQueue[tuple[Match, str | Exception]] = queue.SimpleQueue()
    pace = Pace(REQUESTS_PER_SECOND)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                match = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                name = "" if force else _here_already(match, folder)
                done.put((match, name or _download(match, folder, unfinished, pace)))
            except Exception as error:  # told to the one who waits, below
                done.put((match, error))

    with disk_errors(folder):
        scratch = TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True)
    unfinished = Path(scratch.name)
    with scratch:
        # Daemons: Ctrl-C need not wait for a slow server.
        for _ in range(min(connections, len(matches))):
            threading.Thread(target=work, daemon=True).start()
        try:
            for _ in matches:
                match, result = done.get()
                if isinstance(result, Exception) and not isinstance(result, SpectromerError):
                    raise result
                yield match, result
        finally:
            stop.set()


def _here_already(match: Match, folder: Path) -> str:
    """The name of a sound file of this spectrum that lies here without a row in the catalogue."""
    path = folder / safe_name(match.file)
    if not match.file or not path.is_file():
        return ""
    try:
        verify(path, match)
    except ReadError:
        return ""
    return path.name


def _download(match: Match, folder: Path, unfinished: Path, pace: Pace) -> str:
    """Download one file into the folder for unfinished ones, verify it, and give it its name.

    Raises
    ------
    NetworkError
        If it does not come, or is not the requested spectrum.
    SpectromerError
        If the disk does not take it.
    """
    temporary = unfinished / safe_name("-".join(match.key))
    pace.wait(http.host(match.url))
    with disk_errors(folder / match.file):
        try:
            if match.write is not None:
                match.write(temporary)
            else:
                _save(
                    match.url, temporary, retries=RETRIES, limit=MAX_SPECTRUM_BYTES,
                    query=match.query,
                )  # fmt: skip
            verify(temporary, match)
            name = file_name(temporary, match)
            temporary.replace(folder / name)
        except ReadError as error:
            said = str(error).replace(str(temporary), match.url)
            raise NetworkError(f"{said}; it was deleted", "run it again later") from error
        finally:
            temporary.unlink(missing_ok=True)
    return name
