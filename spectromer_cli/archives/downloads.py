"""The one queue of downloads: a few at a time, not too fast, each verified, then renamed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from spectromer_cli.archives import http
from spectromer_cli.archives.download import disk_errors, download
from spectromer_cli.archives.match import Match, safe_name
from spectromer_cli.archives.verify import file_name, verify
from spectromer_cli.errors import NetworkError, ReadError, SpectromerError

CONNECTIONS = 4
A_SECOND = 10.0  # requests to one host, at most
TIMEOUT = 30.0  # s, longest silence of a server
RETRIES = 5


class Pace:
    """Keeps the requests to each host apart.

    Parameters
    ----------
    a_second : float
        How many requests a second a host is sent at most.
    """

    def __init__(self, a_second: float) -> None:
        self._gap = 1.0 / a_second
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        """Sleep until the next request may start."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next.get(host, now))
            self._next[host] = start + self._gap
        time.sleep(start - now)


def bring_all(
    matches: Sequence[Match], folder: Path, connections: int = CONNECTIONS
) -> Iterator[tuple[Match, str | SpectromerError]]:
    """Download, verify and rename, several files at a time.

    Parameters
    ----------
    matches : sequence of Match
        Each spectrum once.
    folder : Path
        Where to.
    connections : int
        How many at a time, over all hosts.

    Yields
    ------
    match : Match
        As they come.
    result : str or SpectromerError
        The file's name, or why there is none.
    """
    waiting: queue.SimpleQueue[Match] = queue.SimpleQueue()
    for match in matches:
        waiting.put(match)
    done: queue.SimpleQueue[tuple[Match, str | Exception]] = queue.SimpleQueue()
    pace = Pace(A_SECOND)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                match = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((match, bring(match, folder, pace)))
            except Exception as error:  # told to the one who waits, below
                done.put((match, error))

    # Daemons: Ctrl-C need not wait for a slow server; what is unfinished is resumed next time.
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


def bring(match: Match, folder: Path, pace: Pace) -> str:
    """Bring one file under a temporary name, verify it, and give it its own.

    Returns
    -------
    str
        Its name in the folder.

    Raises
    ------
    NetworkError
        If it does not come, or is not the spectrum that was asked for.
    SpectromerError
        If the disk does not take it.
    """
    if match.file and (name := _here_already(match, folder)):
        return name
    temporary = folder / f".{safe_name(f'{match.archive}-{match.release}-{match.object_id}')}"
    pace.wait(http.host(match.url))
    if match.bring is not None:
        with disk_errors(folder / match.file):
            match.bring(temporary)
    else:
        download(
            match.url, temporary, timeout=TIMEOUT, retries=RETRIES, query=match.query, bar=False
        )
    try:
        verify(temporary, match)
        name = file_name(temporary, match)
        with disk_errors(folder / name):
            temporary.replace(folder / name)
    except ReadError as error:
        said = str(error).replace(str(temporary), match.url)
        raise NetworkError(f"{said}; it was thrown away", "run it again later") from error
    finally:
        temporary.unlink(missing_ok=True)
    return name


def _here_already(match: Match, folder: Path) -> str:
    """The name of a sound file of this spectrum that lies here without a row in the catalogue."""
    path = folder / safe_name(match.file)
    if match.forced or not path.is_file():
        return ""
    try:
        verify(path, match)
    except ReadError:
        return ""
    return path.name
