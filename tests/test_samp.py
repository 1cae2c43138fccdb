"""Results and spectra sent to other programs by SAMP: a hub and a program that the tests start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import astropy
import numpy as np
import pytest
from astropy.table import Table
from conftest import EXAMPLES, Run

from spectromer_cli.outputs.samp import _library
from spectromer_cli.spectra.readers import read

samp = _library()
GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"
STAR = EXAMPLES / "simulated-sdss-star.fits"
TABLE, FITS, SPECTRUM = "table.load.votable", "table.load.fits", "spectrum.load.ssa-generic"


class Program:
    """What TOPCAT does when it is asked to load a file."""

    def __init__(self, name: str, *messages: str, refuses: str = "") -> None:
        self.loaded: list[tuple[str, dict[str, str], Table]] = []
        self.refuses = refuses
        self.client = samp.SAMPIntegratedClient(name=name, addr="127.0.0.1")
        self.client.connect()
        for message in messages:
            self.client.bind_receive_call(message, self.load)

    def load(
        self, private_key: str, sender: str, number: str, message: str, params: Any, extra: Any
    ) -> None:
        answer: dict[str, Any] = {"samp.status": "samp.ok", "samp.result": {}}
        if self.refuses:
            error = {"samp.errortxt": self.refuses}
            answer = {"samp.status": "samp.error", "samp.result": {}, "samp.error": error}
        else:
            path = url2pathname(urlsplit(params["url"]).path)
            kind = "fits" if message == FITS else "votable"
            self.loaded.append((message, params, Table.read(path, format=kind)))
        self.client.reply(number, answer)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'hub').as_uri()}")
    monkeypatch.setattr(astropy.log, "disabled", True)  # the hub's own, on stdout
    server = samp.SAMPHubServer(addr="127.0.0.1", web_profile=False)
    server.start()
    yield
    server.stop()


@pytest.fixture
def program(hub: None) -> Iterator[Any]:
    started = []

    def start(*arguments: str, **options: str) -> Program:
        started.append(Program(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.client.disconnect()


def test_a_table_goes_to_who_takes_tables(run: Run, weights: list[str], program: Any) -> None:
    topcat, aladin = program("topcat", TABLE, FITS), program("Aladin", TABLE)
    other = program("ds9", "image.load.fits")
    result = run("redshift", GALAXY, STAR, *weights, "--samp")
    assert result.code == 0, result.err
    assert len(result.rows) == 2
    assert not other.loaded
    for one in (topcat, aladin):
        ((message, params, table),) = one.loaded
        assert message == TABLE and params["name"] == "spectromer results"
        assert table["file"].tolist() == [str(GALAXY), str(STAR)]
        assert np.allclose(table["z"], [float(row["z"]) for row in result.rows], atol=1e-7)
        assert not Path(url2pathname(urlsplit(params["url"]).path)).exists()
    assert "sent spectromer results to topcat" in result.err


def test_a_program_is_chosen_by_its_name(
    run: Run, weights: list[str], program: Any, tmp_path: Path
) -> None:
    topcat, aladin = program("topcat", TABLE, FITS), program("Aladin", TABLE)
    assert run("classify", GALAXY, *weights, "--samp", "TOPCAT", "--json").code == 0
    for suffix, message in ((".vot", TABLE), (".fits", FITS)):
        output = tmp_path / f"classes{suffix}"
        assert run("classify", GALAXY, *weights, "-o", output, "--samp", "topcat").code == 0
        sent, params, table = topcat.loaded[-1]
        assert (sent, params["url"]) == (message, output.as_uri()) and len(table) == 1
    assert len(topcat.loaded) == 3 and not aladin.loaded
    result = run("classify", GALAXY, *weights, "-o", tmp_path / "x.csv", "--samp", "topcat")
    assert result.code == 2 and "--samp cannot send .csv" in result.err


def test_a_spectrum_goes_to_who_takes_spectra_or_else_tables(run: Run, program: Any) -> None:
    splat, topcat = program("SPLAT", SPECTRUM, TABLE), program("topcat", TABLE)
    result = run("plot", GALAXY, "--samp")
    assert result.code == 0, result.err
    (spectrum,) = read(GALAXY)
    for one, expected in ((splat, SPECTRUM), (topcat, TABLE)):
        ((message, params, table),) = one.loaded
        assert message == expected and params["name"] == GALAXY.name
        assert np.array_equal(table["wavelength"], spectrum.wavelength)
        assert table["wavelength"].unit == "Angstrom"
        good = ~np.ma.getmaskarray(table["flux"])
        assert np.array_equal(good, spectrum.good)
        assert np.allclose(np.asarray(table["flux_err"])[good] ** -2, spectrum.ivar[good])
        assert table["flux"].meta["ucd"] == "phot.flux.density;em.wl"
    assert splat.loaded[0][1]["meta"]["Access.Format"] == "application/x-votable+xml"


def test_without_a_hub_or_a_program_nothing_is_done(
    run: Run, weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Any
) -> None:
    program("topcat", TABLE)
    result = run("redshift", *weights, "--samp", str(GALAXY), STAR)
    assert result.code == 2 and "connected programs: topcat" in result.err and not result.out
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'none').as_uri()}")
    for command in (("redshift", GALAXY, *weights), ("plot", GALAXY)):
        result = run(*command, "--samp")
        assert result.code == 2 and "no SAMP hub is running on this machine" in result.err


def test_what_a_program_does_not_load_is_said(run: Run, weights: list[str], program: Any) -> None:
    program("topcat", TABLE, refuses="out of\nmemory")
    result = run("redshift", GALAXY, *weights, "--samp")
    assert result.code == 1 and len(result.rows) == 1
    assert "not loaded by topcat (out of memory)" in result.err
