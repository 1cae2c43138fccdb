"""One HTTP request, and its troubles in one line: those that waiting mends, and the others."""

from __future__ import annotations

import email.utils
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from spectromer_cli import console
from spectromer_cli._version import __version__
from spectromer_cli.errors import NetworkError

if TYPE_CHECKING:
    import requests

RETRIES = 5
PASSING_STATUS = (408, 429, 500, 502, 503, 504)
# Nobody waits longer at a prompt; a server that asks for more is an error that says so.
LONGEST_WAIT = 120.0  # seconds
# Seconds for a connection; where a network swallows it, a library would wait as for an answer.
CONNECT = 6.0
# So long it is remembered whether a server could be reached.
REMEMBER = 30.0
_reached: dict[tuple[str, int], tuple[float, bool]] = {}

T = TypeVar("T")


class Unreachable(NetworkError):
    """A server that no connection reaches."""


class TryAgain(Exception):
    """Something that will probably pass; `wait` is how long the server wishes (s), if it does."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def patiently(url: str, work: Callable[[bool], T], retries: int = RETRIES) -> T:
    """Do some work on a server, and try again where its trouble will probably pass.

    Parameters
    ----------
    url : str
        What is asked for; only to be named.
    work : callable
        ``work(first)``, where `first` is true at the first try; raises `TryAgain`.
    retries : int
        How often to try again.

    Raises
    ------
    NetworkError
        If it does not pass.
    """
    for attempt in range(retries + 1):
        try:
            return work(attempt == 0)
        except TryAgain as trouble:
            # 1, 2, 4, ... s, spread so that clients that failed together do not return together.
            usual = min(2.0**attempt, 60.0) * random.uniform(0.5, 1.5)
            wait = usual if trouble.wait is None else trouble.wait
            if attempt == retries or wait > LONGEST_WAIT:
                asked = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
                raise NetworkError(
                    f"{url} cannot be downloaded: {trouble}{asked}", "run it again later"
                ) from trouble
            console.info(f"{host(url)}: {trouble}; trying again in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def require_reachable(url: str) -> None:
    """Refuse to ask a server that does not take a connection within `CONNECT` seconds.

    Behind a proxy nothing can be said, and nothing is.

    Parameters
    ----------
    url : str

    Raises
    ------
    Unreachable
    """
    from requests.utils import get_environ_proxies

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    if parts.scheme in get_environ_proxies(url):
        return
    place = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    when, is_up = _reached.get(place, (-REMEMBER, False))
    if time.monotonic() - when > REMEMBER:
        answer: list[bool] = []
        # In a thread of its own: the look-up of a name has no limit of time.
        thread = threading.Thread(target=lambda: answer.append(_connects(place)), daemon=True)
        thread.start()
        thread.join(CONNECT + 1.0)
        is_up = answer == [True]
        _reached[place] = time.monotonic(), is_up
    if not is_up:
        raise Unreachable(f"{host(url)} cannot be reached", "check the network, then run it again")


def _connects(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, timeout=CONNECT):
            return True
    except OSError:
        return False


def request(
    method: str,
    url: str,
    *,
    timeout: float,
    first: bool = True,
    query: Mapping[str, str] | None = None,
) -> requests.Response:
    """Ask for a file; the answer's body is not read yet.

    Parameters
    ----------
    method : {"GET", "HEAD"}
    url : str
        http or https; certificates are always verified.
    timeout : float
        Longest silence of the server, in seconds.
    first : bool
        Whether this is the first try; a server that was never reached is not tried again.
    query : mapping of str to str, optional
        Parameters to go behind the URL that no message may show, such as a token.

    Returns
    -------
    requests.Response
        With status 200.

    Raises
    ------
    TryAgain
        If the connection broke or the server is busy.
    NetworkError
        If trying again would not help.
    """
    import requests

    if first:
        require_reachable(url)
    # identity: sizes and hashes are those of the file as it lies on the server.
    headers = {"User-Agent": f"spectromer/{__version__}", "Accept-Encoding": "identity"}
    try:
        response = requests.request(
            method, url, params=query, headers=headers, stream=True,
            timeout=(CONNECT, timeout),
        )  # fmt: skip
    except OSError as error:  # of requests, or of a file of certificates that is not there
        raise told(url, error, first) from error
    check_status(url, response)
    return response


def size_of(response: requests.Response) -> int | None:
    """The size of the file in bytes; None where the server does not tell."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def told(url: str, error: Exception, first: bool) -> Exception:
    """The error to raise for one of requests: `TryAgain` if waiting helps, else `NetworkError`.

    Parameters
    ----------
    url : str
        The requested target.
    error : OSError
        What went wrong; `requests` raises subclasses of it.
    first : bool
        As in `request`.
    """
    import requests

    if not isinstance(error, requests.RequestException):
        return NetworkError(f"{host(url)} cannot be reached: {error}", "check REQUESTS_CA_BUNDLE")
    if isinstance(error, requests.exceptions.SSLError):
        return NetworkError(
            f"the certificate of {host(url)} cannot be verified",
            "check the clock; behind an institute's proxy set REQUESTS_CA_BUNDLE",
        )
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        if first and _never_connected(error):
            return Unreachable(
                f"{host(url)} cannot be reached", "check the network, then run it again"
            )
        return TryAgain("the connection broke")
    if isinstance(error, requests.TooManyRedirects):
        return NetworkError(
            f"{host(url)} redirects in a loop",
            "try again later; if the problem persists, contact the archive",
        )
    return NetworkError(f"{url} cannot be downloaded ({type(error).__name__})", "check the address")


def _never_connected(error: Exception) -> bool:
    import requests
    import urllib3

    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def check_status(url: str, response: requests.Response) -> None:
    """Raise the error of a response that is not 200.

    Raises
    ------
    TryAgain
        If the server is busy.
    NetworkError
        If there is no such file, or it is refused.
    """
    status = response.status_code
    if status == 200:
        return
    response.close()
    answer = f"{status} {response.reason}"
    if status in PASSING_STATUS:
        wait = retry_after(response.headers.get("Retry-After"))
        raise TryAgain(f"the server responds {answer}", wait)
    if status in (404, 410):
        raise NetworkError(f"{url} does not exist ({answer})", "check the name and the release")
    login = "it needs a login or permission" if status in (401, 403) else "try again later"
    raise NetworkError(f"{url} is refused ({answer})", login)


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000": UTC of an unknown zone
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def is_web_page(response: requests.Response, start: bytes) -> bool:
    """Whether the body that starts so is a page for people: a login, or an error in disguise."""
    text = start[:200].lstrip().lower()
    declared = "html" in response.headers.get("Content-Type", "").lower()
    return text.startswith((b"<!doctype html", b"<html")) or (declared and text.startswith(b"<"))


def host(url: str) -> str:
    """The server's name in a URL."""
    return urlsplit(url).netloc or url
