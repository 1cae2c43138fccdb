"""One HTTP request, its troubles told in a line: what passes by waiting, and what does not."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spectromer_cli import __version__
from spectromer_cli.errors import NetworkError

if TYPE_CHECKING:
    import requests

PASSING_STATUS = (408, 429, 500, 502, 503, 504)


class TryAgain(Exception):
    """Something that will probably pass; `wait` is how long the server wishes (s), if it does."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def get(
    url: str, *, offset: int, validator: str | None, timeout: float, first: bool
) -> requests.Response:
    """Ask for a file from a byte on; the answer's body is not read yet.

    Parameters
    ----------
    url : str
        http or https; certificates are always verified.
    offset : int
        First byte wanted.
    validator : str or None
        Version of the file (`validator_of`) that the bytes before `offset` belong to. A
        server with another version sends the whole file.
    timeout : float
        Longest silence of the server, in seconds.
    first : bool
        Whether this is the first try; a server that was never reached is not tried again.

    Returns
    -------
    requests.Response
        With status 200 (whole file), 206 (from `offset` on) or 416 (there is no such byte).

    Raises
    ------
    TryAgain
        If the connection broke or the server is busy.
    NetworkError
        If trying again would not help.
    """
    import requests

    # identity: ranges, sizes and hashes are those of the file as it lies on the server.
    headers = {"User-Agent": f"spectromer/{__version__}", "Accept-Encoding": "identity"}
    if offset and validator:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=timeout)
    except requests.exceptions.SSLError as error:
        raise NetworkError(
            f"the certificate of {host(url)} cannot be verified",
            "check the clock; behind an institute's proxy set REQUESTS_CA_BUNDLE",
        ) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        if first and _never_connected(error):
            raise NetworkError(
                f"{host(url)} cannot be reached", "check the network, then run it again"
            ) from error
        raise TryAgain("the connection broke") from error
    except requests.RequestException as error:
        raise NetworkError(f"{url} cannot be downloaded ({error})", "check the address") from error
    _check_status(url, response)
    return response


def _never_connected(error: Exception) -> bool:
    import requests
    import urllib3

    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    response.close()
    answer = f"{status} {response.reason}"
    if status in PASSING_STATUS:
        wait = retry_after(response.headers.get("Retry-After"))
        raise TryAgain(f"the server answers {answer}", wait)
    if status in (404, 410):
        raise NetworkError(f"{url} does not exist ({answer})", "check the name and the release")
    login = "it needs a login or a permission" if status in (401, 403) else "try again later"
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


def validator_of(response: requests.Response) -> str | None:
    """What tells this version of the file from others: strong ETag, else modification date."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):  # If-Range takes no weak ones (RFC 9110, 13.1.5)
        return etag
    return response.headers.get("Last-Modified")


def is_web_page(response: requests.Response, start: bytes) -> bool:
    """Whether the body that starts so is a page for people: a login, or an error in disguise."""
    text = start[:200].lstrip().lower()
    declared = "html" in response.headers.get("Content-Type", "").lower()
    return text.startswith((b"<!doctype html", b"<html")) or (declared and text.startswith(b"<"))


def host(url: str) -> str:
    """The server's name in a URL."""
    return urlsplit(url).netloc or url
