"""Whatever lies in the way: every file is a spectrum or one clear line."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import EXAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra.grid import Grid, prepare
from spectromer_cli.spectra.readers import read

GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"
DESI = EXAMPLES / "simulated-desi-coadd.fits"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_missing_empty_and_folders(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "no.fits", "does not exist"),
        (write(tmp_path / "empty.fits", b""), "is empty"),
        (write(tmp_path / "empty.gz", gzip.compress(b"")), "is empty"),
        (tmp_path, "is a folder or a device"),
        (Path("/dev/null"), "is a folder or a device"),
    ):
        with pytest.raises(ReadError, match=message) as caught:
            read(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, share: float) -> None:
    for source in (GALAXY, DESI):
        data = source.read_bytes()
        with pytest.raises(ReadError, match=r"cut\.fits"):
            read(write(tmp_path / "cut.fits", data[: int(len(data) * share)]))
        packed = gzip.compress(data)
        with pytest.raises(ReadError, match=r"cut\.fits\.gz"):
            read(write(tmp_path / "cut.fits.gz", packed[: int(len(packed) * share)]))


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    (plain,) = read(write(tmp_path / "plain.fits.gz", GALAXY.read_bytes()))
    (packed,) = read(write(tmp_path / "packed.fits", gzip.compress(GALAXY.read_bytes())))
    np.testing.assert_array_equal(plain.flux, packed.flux)


def test_names_do_not_matter(tmp_path: Path) -> None:
    (spectrum,) = read(write(tmp_path / "coadd-17.csv", GALAXY.read_bytes()))
    assert spectrum.meta["survey"] == "SDSS"


def test_random_bytes(tmp_path: Path) -> None:
    with pytest.raises(ReadError):
        read(write(tmp_path / "a.fits", random.Random(0).randbytes(5000)))
    with pytest.raises(ReadError, match=r"damaged gzip|cannot be opened"):
        read(write(tmp_path / "a.gz", b"\x1f\x8b\x08\x00" + random.Random(1).randbytes(500)))


def test_text_named_fits_is_broken_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"a\.fits is named as FITS, but is text") as caught:
        read(write(tmp_path / "a.fits", b"404: Not Found\n"))
    assert not isinstance(caught.value, NotASpectrum)


def test_a_header_that_astropy_cannot_parse(tmp_path: Path) -> None:
    data = bytearray(GALAXY.read_bytes())
    place = data.index(b"XTENSION")
    data[place + 10 : place + 20] = b"\x00\xffBIN'TABL"
    with pytest.raises(ReadError, match=r"a\.fits"):
        read(write(tmp_path / "a.fits", bytes(data)))


def test_an_image_of_a_galaxy(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((50, 60), dtype=np.float32)).writeto(tmp_path / "m87.fits")
    with pytest.raises(NotASpectrum, match=r"m87\.fits is an image \(60 × 50 pixels\)"):
        read(tmp_path / "m87.fits")


def test_a_catalogue_is_no_spectrum(tmp_path: Path) -> None:
    columns = [fits.Column("RA", "D", array=[1.0, 2.0]), fits.Column("Z", "D", array=[0.1, 0.2])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "cat.fits")
    with pytest.raises(NotASpectrum):
        read(tmp_path / "cat.fits")


@pytest.mark.parametrize("column", ["flux", "ivar"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_blank_spectra_are_read_and_then_refused(tmp_path: Path, column: str, value: float) -> None:
    with fits.open(GALAXY) as hdus:
        hdus[1].data[column] = value
        hdus.writeto(tmp_path / "blank.fits")
    (spectrum,) = read(tmp_path / "blank.fits")
    with pytest.raises(ReadError, match=r"masked|zero"):
        prepare(spectrum, Grid())


def test_wavelengths_that_do_not_increase(tmp_path: Path) -> None:
    with fits.open(GALAXY) as hdus:
        hdus[1].data["loglam"][100] = 3.9
        hdus.writeto(tmp_path / "odd.fits")
    with pytest.raises(ReadError, match=r"odd\.fits"):
        read(tmp_path / "odd.fits")


SMALL = st.sampled_from([GALAXY, DESI, EXAMPLES / "simulated-lamost-star.fits"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(source=SMALL, hits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=30)), max_size=6))
def test_damaged_files_never_end_in_another_error(tmp_path: Path, source: Path, hits) -> None:
    data = bytearray(source.read_bytes())
    for place, junk in hits:
        # Half of the damage goes to the headers, where it hurts.
        start = int(place * 2 * (len(data) if place > 0.5 else 12000)) % len(data)
        data[start : start + len(junk)] = junk
    try:
        for spectrum in read(write(tmp_path / "a.fits", bytes(data))):
            assert np.isfinite(spectrum.flux).all()
            assert (spectrum.ivar >= 0).all()
    except ReadError as error:
        assert "\n" not in str(error)
