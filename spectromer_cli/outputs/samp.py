"""Tables and spectra handed to other programs on the screen, such as TOPCAT, by SAMP.

SAMP 1.3 (Taylor et al. 2012, IVOA Recommendation): programs that are connected to one hub on this
machine send each other messages; ``table.load.votable`` is one that asks to load a table.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import SpectromerError, UsageError

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.spectra.spectrum import Spectrum

# Every program that takes what is sent.
EVERYONE = "all"
TABLE, FITS_TABLE = "table.load.votable", "table.load.fits"
SPECTRUM = "spectrum.load.ssa-generic"
# By suffix, the messages that ask to load such a file.
MESSAGES = {".vot": TABLE, ".fits": FITS_TABLE}
# Seconds that a program may take to load a file.
PATIENCE = 120


class Recipients:
    """The programs that take what is sent; given by `connected`.

    Parameters
    ----------
    client : SAMPIntegratedClient
    names : dict of str to dict of str to str
        By message, what programs understand it: their name by their number at the hub.
    """

    def __init__(self, client: Any, names: Mapping[str, Mapping[str, str]]) -> None:
        self._client = client
        self._names = names

    def send(self, path: Path, name: str, *, identity: str = "") -> None:
        """Have a file loaded, and wait until it is.

        Parameters
        ----------
        path : Path
            VOTable or FITS table.
        name : str
            What the programs show.
        identity : str
            By what later messages would name it.

        Raises
        ------
        SpectromerError
            If a program cannot load it, or does not answer.
        """
        url = path.resolve().as_uri()
        sent: set[str] = set()
        failures = []
        for message, names in self._names.items():
            for number in sorted(set(names) - sent):
                sent.add(number)
                if problem := self._send_to(number, message, url, name, identity or url):
                    failures.append(f"{names[number]} ({problem})")
                else:
                    console.info(f"sent {name} to {names[number]}")
        if failures:
            raise SpectromerError(
                f"not loaded by {', '.join(failures)}", "check the messages of that program"
            )

    def _send_to(self, number: str, message: str, url: str, name: str, identity: str) -> str:
        """What went wrong; empty if nothing."""
        params: dict[str, Any] = {"url": url, "name": name}
        if message == SPECTRUM:
            params["spectrum-id"] = identity
            params["meta"] = {
                "Access.Reference": url, "Access.Format": "application/x-votable+xml",
                "Target.Name": name,
            }  # fmt: skip
        else:
            params["table-id"] = identity
        call = {"samp.mtype": message, "samp.params": params}
        try:
            answer = self._client.call_and_wait(number, call, str(PATIENCE))
        except Exception as error:  # the hub, or a program, has gone in the meantime
            return " ".join(str(error).split())[:200] or type(error).__name__
        if answer.get("samp.status") == "samp.ok":
            return ""
        said = answer.get("samp.error", {}).get("samp.errortxt", "")
        return " ".join(said.split())[:200] or "no reason given"


@contextmanager
def connected(wanted: str, *messages: str) -> Iterator[Recipients]:
    """Connect to the hub, before any work, and see who takes what is to be sent.

    Parameters
    ----------
    wanted : str
        The name of a program, in any case, or `EVERYONE`.
    *messages : str
        Those that will do, the best first.

    Yields
    ------
    Recipients

    Raises
    ------
    UsageError
        If there is no hub, or no such program is connected to it.
    """
    samp = _library()
    client = samp.SAMPIntegratedClient(
        name="spectromer", description="classes and redshifts of spectra", addr="127.0.0.1",
        callable=False,
    )  # fmt: skip
    try:
        client.connect()
    except Exception as error:  # SAMPHubError, and whatever a dead hub's lock file leads to
        raise UsageError(
            "no SAMP hub is running on this machine", "start TOPCAT, Aladin or another hub first"
        ) from error
    try:
        yield Recipients(client, _named(client, wanted, messages))
    finally:
        try:
            client.disconnect()
        except Exception as error:  # the hub has gone
            console.info(f"the SAMP hub has stopped: {error}")


def send_table(recipients: Recipients, table: Table, provenance: Mapping[str, str]) -> None:
    """Send results as a VOTable, which is gone once it is loaded."""
    from spectromer_cli.outputs.tables import open_writer

    with tempfile.TemporaryDirectory(prefix="spectromer-") as folder:
        path = Path(folder) / "results.vot"
        with open_writer(path, provenance) as writer:
            writer.write(table)
        recipients.send(path, "spectromer results")


def send_spectrum(recipients: Recipients, spectrum: Spectrum, name: str) -> None:
    """Send a spectrum as a VOTable of wavelength, flux and its error, which is masked where bad."""
    import numpy as np
    from astropy.io.votable import from_table
    from astropy.table import MaskedColumn, Table

    good = spectrum.good
    sigma = np.where(good, spectrum.ivar, 1.0) ** -0.5
    table = Table(
        {
            "wavelength": MaskedColumn(spectrum.wavelength, unit="Angstrom"),
            "flux": MaskedColumn(spectrum.flux, mask=~good),
            "flux_err": MaskedColumn(sigma, mask=~good),
        }
    )
    # Utypes of the IVOA Spectrum Data Model 1.1, by which SPLAT finds its columns.
    described = {
        "wavelength": ("em.wl", "SpectralAxis.Value", "vacuum wavelength"),
        "flux": ("phot.flux.density;em.wl", "FluxAxis.Value", "flux density per wavelength"),
        "flux_err": (
            "stat.error;phot.flux.density;em.wl", "FluxAxis.Accuracy.StatError", "1-sigma error",
        ),
    }  # fmt: skip
    document = from_table(table)
    for field in document.get_first_table().fields:
        field.ucd, utype, field.description = described[field.name]
        field.utype = f"spec:Spectrum.Data.{utype}"
    with tempfile.TemporaryDirectory(prefix="spectromer-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # VOUnit would rather have 0.1nm
        path = Path(folder) / "spectrum.vot"
        document.to_xml(str(path))
        recipients.send(path, name)


def _named(client: Any, wanted: str, messages: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """By message, the names by number of the programs that are wanted."""
    found: dict[str, dict[str, str]] = {}
    for message in messages:
        numbers = client.get_subscribed_clients(message)
        found[message] = {
            number: client.get_metadata(number).get("samp.name", number) for number in numbers
        }
    every = sorted({name for names in found.values() for name in names.values()})
    if wanted.lower() != EVERYONE:
        for message, names in found.items():
            found[message] = {
                n: name for n, name in names.items() if name.lower() == wanted.lower()
            }
    if not any(found.values()):
        there = ", ".join(every) or "none"
        what = "such a message" if wanted.lower() == EVERYONE else f"it by the name {wanted}"
        raise UsageError(
            f"no program that accepts {what} is connected to the SAMP hub",
            f"connected programs: {there}; --samp without a name, as the last option, sends to all",
        )
    return found


def _library() -> Any:
    """`pyvo.samp`, or `astropy.samp`, which it was until astropy 8."""
    try:
        from pyvo import samp
    except ImportError:
        from astropy import samp
    return samp
