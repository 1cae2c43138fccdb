"""LAMOST low-resolution files in their three layouts: what is written comes back."""

import csv
import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from survey_files import (
    damaged,
    lamost_header,
    made,
    table,
    write_lamost_image,
    write_lamost_oldest,
    write_lamost_table,
)

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra import readers
from spectromer_cli.spectra.readers import open_spectra
from spectromer_cli.spectra.spectrum import Spectrum

FITS = Path(__file__).parents[2] / "shared" / "data" / "fits"
LAYOUTS = [write_lamost_image, write_lamost_oldest, write_lamost_table]


@pytest.fixture(autouse=True)
def _the_survey_readers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # sdss goes first, as in the program: it must not take a LAMOST file for its own.
    monkeypatch.setattr(readers, "READERS", ("sdss", "lamost"))


def read_one(path: Path) -> Spectrum:
    with open_spectra(path) as spectra:
        (spectrum,) = spectra
    return spectrum


# --- synthetic truth ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_comes_back(tmp_path: Path, write: Callable, suffix: str) -> None:
    truth = made(loglam0=3.5682)
    truth.flux[[0, 1]] = truth.flux[-10:] = 0.0  # dead edges, with an error and no mask bit
    truth.flux[200] = 0.0  # a zero within is a measurement
    truth.and_mask[50] = 1
    truth.ivar[60] = 0.0
    spectrum = read_one(write(tmp_path / f"any{suffix}", truth))
    ivar = truth.ivar.copy()
    ivar[[0, 1, 50, 60]] = ivar[-10:] = 0.0
    np.testing.assert_allclose(spectrum.wavelength, truth.wavelength, rtol=1e-7)
    np.testing.assert_array_equal(spectrum.flux, truth.flux)
    np.testing.assert_array_equal(spectrum.ivar, ivar)
    assert spectrum.meta["medium"] == "vacuum"
    assert (spectrum.meta["ra"], spectrum.meta["dec"]) == (45.75, -0.5)


@pytest.mark.parametrize("fiber", [21, "21", " 021"])
def test_identity_with_and_without_obsid(tmp_path: Path, fiber: int | str) -> None:
    old = read_one(write_lamost_oldest(tmp_path / "old.fits", made(), FIBERID=fiber)).meta
    assert old["object_id"] == "55859-F5907-09-021"
    assert "obsid" not in old
    new = read_one(write_lamost_image(tmp_path / "new.fits", made(), FIBERID=fiber)).meta
    assert (new["survey"], new["object_id"], new["obsid"]) == ("LAMOST", "209021", 209021)


def test_the_survey_answer_and_its_gaps(tmp_path: Path) -> None:
    known = made(CLASS="STAR", SUBCLASS="K3 ", Z=-2.5e-5)
    meta = read_one(write_lamost_table(tmp_path / "known.fits", known)).meta
    assert (meta["survey_class"], meta["survey_subclass"]) == ("STAR", "K3")
    assert meta["survey_z"] == -2.5e-5
    assert "survey_zwarning" not in meta
    unknown = made(CLASS="Unknown", SUBCLASS="Non", Z=-9999)
    meta = read_one(write_lamost_table(tmp_path / "unknown.fits", unknown)).meta
    assert (meta["survey_class"], meta["survey_subclass"], meta["survey_z"]) == ("", "", None)


def test_a_spectrum_of_zeros_has_no_good_pixel(tmp_path: Path) -> None:
    truth = made()
    truth.flux[:] = 0.0
    assert not read_one(write_lamost_image(tmp_path / "a.fits", truth)).good.any()


# --- original files -----------------------------------------------------------------------


def test_every_original_file() -> None:
    if not (FITS / "index.csv").exists():
        pytest.skip("the original survey files are not beside the project")
    with (FITS / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["survey"] == "LAMOST"]
    assert len(rows) > 20
    for row in rows:
        name, spectrum = row["file"], read_one(FITS / row["file"])
        meta = spectrum.meta
        assert (meta["survey"], meta["survey_class"]) == ("LAMOST", row["class"]), name
        assert meta["survey_subclass"] == row["subclass"], name
        assert meta["survey_z"] == (float(row["z"]) if row["z"] else None), name
        assert meta["object_id"].isdigit() == ("obsid" in meta), name
        blue, red = spectrum.wavelength[[0, -1]]
        assert 3699 < blue < 3701 and 8900 < red < 9101, name
        assert spectrum.good.mean() > 0.9, name
        assert spectrum.sn_median > 3.0, name


# --- malformed input ----------------------------------------------------------------------


def test_medium_resolution_is_refused_with_a_reason(tmp_path: Path) -> None:
    arm = {"FLUX": np.ones((1, 50)), "IVAR": np.ones((1, 50)), "ORMASK": np.zeros((1, 50))}
    arm["WAVELENGTH"] = np.linspace(4950.0, 5350.0, 50)[None]
    primary = fits.PrimaryHDU()
    primary.header.update(lamost_header(made()))
    path = tmp_path / "med.fits"
    fits.HDUList([primary, table(arm, "COADD_B"), table(arm, "COADD_R")]).writeto(path)
    with pytest.raises(
        NotASpectrum, match=r"med\.fits is a LAMOST medium-resolution file"
    ) as error:
        read_one(path)
    assert "low-resolution" in error.value.hint


def test_without_wavelengths_anywhere_it_is_broken(tmp_path: Path) -> None:
    path = write_lamost_oldest(tmp_path / "a.fits", made())
    with fits.open(path, mode="update") as hdus:
        del hdus[0].header["COEFF1"]
    with pytest.raises(ReadError, match=r"a\.fits .*COEFF1"):
        read_one(path)


def test_a_gzip_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_lamost_image(tmp_path / "a.fits.gz", made())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ReadError, match=r"a\.fits\.gz"):
        read_one(path)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for write in LAYOUTS:
        write(folder / write.__name__, made(n=30))
    return folder


@given(
    layout=st.sampled_from([write.__name__ for write in LAYOUTS]),
    how=st.sampled_from(["cut", "overwrite", "append"]),
    where=st.floats(0.0, 1.0),
    junk=st.binary(min_size=1, max_size=8),
    packed=st.booleans(),
)
@settings(max_examples=100, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on absurd numbers
def test_damage_gives_a_spectrum_or_a_read_error(
    whole_files: Path, layout: str, how: str, where: float, junk: bytes, packed: bool
) -> None:
    data = damaged((whole_files / layout).read_bytes(), how, where, junk)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        path.write_bytes(gzip.compress(data, 1) if packed else data)
        try:
            spectrum = read_one(path)
        except ReadError as error:
            assert "a.fits" in str(error)
            assert "\n" not in str(error)
        else:
            assert isinstance(spectrum, Spectrum)
