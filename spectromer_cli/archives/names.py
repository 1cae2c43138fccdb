"""Names of objects, resolved to places on the sky by Sesame (SIMBAD, NED and VizieR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spectromer_cli.archives import http, services
from spectromer_cli.archives.targets import Wanted
from spectromer_cli.errors import NetworkError


def resolve(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Give the targets that are names a place; an unknown name gets a `problem` instead.

    Raises
    ------
    NetworkError
        If Sesame does not answer.
    """
    return [_resolved(one) if one.name and not one.has_place else one for one in wanted]


def _resolved(one: Wanted) -> Wanted:
    from astropy.coordinates import name_resolve

    address = services.base("SESAME") + "/"

    def question() -> tuple[float, float] | None:
        with name_resolve.sesame_url.set([address]):
            try:
                place = name_resolve.get_icrs_coordinates(one.name)
            except name_resolve.NameResolveError as error:
                if "Unable to find" in str(error):
                    return None
                raise _trouble(address, str(error)) from error
        return float(place.ra.deg), float(place.dec.deg)

    place = services.ask("SESAME", question)
    if place is None:
        return replace(one, problem="Sesame does not know the name")
    return replace(one, ra=place[0], dec=place[1])


def _trouble(address: str, said: str) -> Exception:
    """The library tells only in words what went wrong."""
    if "CERTIFICATE" in said.upper():
        return NetworkError(
            f"the certificate of {http.host(address)} cannot be verified",
            "check the clock; behind an institute's proxy set SSL_CERT_FILE",
        )
    if any(word in said for word in ("Service Unavailable", "Too Many", "Bad Gateway", "time")):
        return http.TryAgain("Sesame is busy")
    return NetworkError(
        f"{http.host(address)} cannot be reached to resolve names",
        "check the network, or give coordinates instead of the name",
    )
