"""The archives' services: addresses, how their libraries are asked, and cells of the answers."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from spectromer_cli.archives import http
from spectromer_cli.errors import NetworkError, SpectromerError

if TYPE_CHECKING:
    from astropy.table import Table

# Each can be set by the environment variable SPECTROMER_<NAME>_URL, for a mirror.
SERVICES = {
    "SKYSERVER": "https://skyserver.sdss.org",
    "SAS": "https://data.sdss.org/sas",
    "LAMOST": "https://www.lamost.org",
    "VIZIER": "https://vizier.cds.unistra.fr",
    "GAVO": "https://dc.zah.uni-heidelberg.de",
    "SPARCL": "https://astrosparcl.datalab.noirlab.edu",
    "ESO_TAP": "https://archive.eso.org/tap_obs",
    "ESO": "https://dataportal.eso.org/dataportal_new/file",
    "SESAME": "https://cds.unistra.fr/cgi-bin/nph-sesame",
}

TIMEOUT = 60.0  # s, longest silence of a service that answers a small question
LONG_TIMEOUT = 600.0  # s, of one that searches a whole table

T = TypeVar("T")


def base(name: str) -> str:
    """The address of a service, without a slash at its end."""
    return (os.environ.get(f"SPECTROMER_{name}_URL") or SERVICES[name]).rstrip("/")


def ask(name: str, question: Callable[[], T]) -> T:
    """Call a client library, patiently, and tell its troubles in a line.

    Parameters
    ----------
    name : str
        A key of `SERVICES`.
    question : callable
        Calls the library.

    Raises
    ------
    NetworkError
        If the service cannot be reached, or answers something else than it should.
    """
    url = base(name)

    def once(first: bool) -> T:
        if first:
            http.require_reachable(url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no result is a row here, not a warning
            try:
                return question()
            except (SpectromerError, http.TryAgain):
                raise
            except Exception as error:  # the client libraries raise whatever comes up
                raise _told(url, error, first) from error

    return http.patiently(url, once)


def _told(url: str, error: Exception, first: bool) -> Exception:
    import requests

    # Libraries wrap what requests raised; what it was tells whether waiting helps.
    cause: object = error
    while isinstance(cause, BaseException) and not isinstance(cause, requests.RequestException):
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    if isinstance(cause, requests.HTTPError) and cause.response is not None:
        try:
            http.check_status(cause.response.url.split("?")[0], cause.response)
        except (http.TryAgain, NetworkError) as refusal:
            return refusal
    elif isinstance(cause, requests.RequestException) and not isinstance(cause, ValueError):
        return http.told(url, cause, first)
    if "timeout" in type(error).__name__.lower() or isinstance(error, TimeoutError):
        return http.TryAgain("timed out")
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if "<html" in reason.lower() or "<!doctype" in reason.lower():
        reason = "it returned a web page"
    return NetworkError(
        f"{http.host(url)} returned an unexpected response ({reason[:200]})",
        "try again later; if the problem persists, the service may have changed: upgrade "
        "spectromer",
    )


def rows_of(table: Table | None) -> list[dict[str, Any]]:
    """The rows as dicts with lower-case names, None where a cell is masked.

    Raises
    ------
    NetworkError
        If it is the first line of a web page, which some parsers take for a table.
    """
    if table is None:
        return []
    names = [name.lower() for name in table.colnames]
    if any(name.startswith(("<", "{")) for name in names):
        raise NetworkError(
            "the service returned a web page instead of a table",
            "try again later; the service may be down for maintenance",
        )
    columns = [table[name].tolist() for name in table.colnames]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def text(row: Mapping[str, Any], *names: str) -> str:
    """The first of the named cells that is there, as text; empty if none is."""
    value = next((row[name] for name in names if row.get(name) is not None), "")
    return value.decode() if isinstance(value, bytes) else str(value).strip()


def number(row: Mapping[str, Any], *names: str) -> float:
    """The first of the named cells that is a number; NaN if none is."""
    for name in names:
        try:
            return float(row[name])
        except (KeyError, TypeError, ValueError):
            continue
    return math.nan


def whole(row: Mapping[str, Any], *names: str) -> int | None:
    """The first of the named cells that is a whole number; None if none is."""
    for name in names:
        try:
            return int(row[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return None
