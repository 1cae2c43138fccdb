"""SDSS spec, spPlate and spSpec files: what is written comes back, and nothing else passes."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from survey_files import Made, damaged, made, write_spec, write_spplate, write_spspec

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra import readers
from spectromer_cli.spectra.readers import open_spectra
from spectromer_cli.spectra.spectrum import Spectrum

FITS = Path(__file__).parents[2] / "shared" / "data" / "fits"
BRIGHTSKY, NEARWHOPPER, EMLINE = 1 << 23, 1 << 8, 1 << 30


@pytest.fixture(autouse=True)
def _this_reader_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "READERS", ("sdss",))


def read_all(path: Path) -> list[Spectrum]:
    with open_spectra(path) as spectra:
        assert len(spectra) == spectra.count
        return list(spectra)


def read_one(path: Path) -> Spectrum:
    (spectrum,) = read_all(path)
    return spectrum


def assert_same(spectrum: Spectrum, truth: Made, bad: list[int]) -> None:
    ivar = truth.ivar.copy()
    ivar[bad] = 0.0
    np.testing.assert_allclose(spectrum.wavelength, truth.wavelength, rtol=1e-6)
    np.testing.assert_array_equal(spectrum.flux, truth.flux)
    np.testing.assert_allclose(spectrum.ivar, ivar, rtol=1e-6)


# --- synthetic truth ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("survey", "object_id"),
    [
        ("SDSS", "0266-51602-0031"),
        ("BOSS", "3655-51602-0031"),
        ("eBOSS", "9367-51602-0031"),
        ("SDSS-V", "015143-59205-4544940698"),
    ],
)
def test_spec_comes_back(tmp_path: Path, survey: str, object_id: str) -> None:
    truth = made()
    truth.and_mask[[3, 70]] = BRIGHTSKY
    truth.and_mask[[10, 11]] = NEARWHOPPER  # a bright neighbour spoils no pixel
    truth.ivar[[5, 399]] = 0.0
    spectrum = read_one(write_spec(tmp_path / "any name", truth, survey))
    assert_same(spectrum, truth, bad=[3, 5, 70, 399])
    meta = spectrum.meta
    assert (meta["survey"], meta["object_id"], meta["medium"]) == (survey, object_id, "vacuum")
    assert (meta["ra"], meta["dec"]) == (147.25, -0.5)
    assert (meta["survey_class"], meta["survey_subclass"]) == ("QSO", "BROADLINE")
    assert (meta["survey_z"], meta["survey_zwarning"]) == (1.25, 4)
    if survey == "SDSS-V":
        assert meta["mjd"] == 59205
        assert not {"plate", "fiberid"} & set(meta)
    else:
        plate, mjd, fiber = map(int, object_id.split("-"))
        assert (meta["plate"], meta["mjd"], meta["fiberid"]) == (plate, mjd, fiber)


@pytest.mark.parametrize(
    ("plate", "run2d", "survey"),
    [
        (3509, "v5_7_0", "SDSS"),
        (3510, "v5_7_0", "BOSS"),
        (7102, "v5_7_0", "BOSS"),
        (7102, "v5_10_0", "eBOSS"),
        (7026, "v5_13_2", "BOSS"),
        (15000, "v6_0_4", "SDSS-V"),
    ],
)
def test_survey_follows_plate_and_pipeline(
    tmp_path: Path, plate: int, run2d: str, survey: str
) -> None:
    path = write_spec(tmp_path / "a.fits", made(), "BOSS")
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["RUN2D"] = hdus[0].header["VERS2D"] = run2d
        hdus[2].data["PLATE"] = plate
    assert read_one(path).meta["survey"] == survey


def test_what_the_file_does_not_say_is_no_key(tmp_path: Path) -> None:
    path = write_spec(tmp_path / "a.fits", made())
    with fits.open(path) as hdus:
        trimmed = tmp_path / "trimmed.fits"
        fits.HDUList([fits.PrimaryHDU(), hdus[1]]).writeto(trimmed)
    assert read_one(trimmed).meta == {"survey": "SDSS", "object_id": "", "medium": "vacuum"}


def test_a_failed_redshift_is_none(tmp_path: Path) -> None:
    meta = read_one(write_spec(tmp_path / "a.fits", made(Z=np.nan, CLASS="  "))).meta
    assert meta["survey_z"] is None
    assert meta["survey_class"] == ""


def test_spplate_gives_every_fibre_in_row_order(tmp_path: Path) -> None:
    fibres = [made(seed=seed) for seed in range(4)]
    fibres[2].and_mask[7] = BRIGHTSKY
    spectra = read_all(write_spplate(tmp_path / "plate.fits", fibres))
    assert len(spectra) == 4
    for row, (spectrum, truth) in enumerate(zip(spectra, fibres, strict=True)):
        assert_same(spectrum, truth, bad=[7] if row == 2 else [])
        assert spectrum.meta == {
            **{"survey": "BOSS", "object_id": f"3655-55240-000{row + 1}", "medium": "vacuum"},
            **{"plate": 3655, "mjd": 55240, "fiberid": row + 1, "run2d": "v5_7_0"},
            **{"ra": 110.0 + row, "dec": 41.0 - row},
        }


def test_a_broken_fibre_leaves_the_others_untouched(tmp_path: Path) -> None:
    fibres = [made(seed=seed) for seed in range(3)]
    path = write_spplate(tmp_path / "plate.fits", fibres)
    with fits.open(path, mode="update") as hdus:
        hdus[5] = fits.BinTableHDU(hdus[5].data[:2])  # the plug map ends too soon
    with open_spectra(path) as spectra:
        assert_same(spectra.get(1), fibres[1], bad=[])
        with pytest.raises(ReadError, match=r"plate\.fits\[2\] is a damaged spectrum"):
            spectra.get(2)
        assert_same(spectra.get(0), fibres[0], bad=[])


@pytest.mark.parametrize("rows", [4, 5])
def test_spspec_comes_back(tmp_path: Path, rows: int) -> None:
    truth = made()
    truth.ivar[20] = 0.0
    truth.and_mask[[3, 4]] = BRIGHTSKY, BRIGHTSKY | EMLINE
    truth.and_mask[100:150] = EMLINE  # an emission line is no bad pixel
    spectrum = read_one(write_spspec(tmp_path / "a.fit", truth, rows))
    assert_same(spectrum, truth, bad=[3, 4, 20])
    assert spectrum.meta == {
        **{"survey": "SDSS", "object_id": "0391-51782-0155", "medium": "vacuum"},
        **{"plate": 391, "mjd": 51782, "fiberid": 155, "ra": 7.25, "dec": -0.5},
        **{"survey_class": "QSO", "survey_z": 1.25, "survey_zwarning": 16},
    }


@pytest.mark.parametrize(
    ("spec_cln", "name"),
    [(0, ""), (1, "STAR"), (2, "GALAXY"), (3, "QSO"), (4, "QSO"), (5, ""), (6, "STAR")],
)
def test_spec_cln_is_named(tmp_path: Path, spec_cln: int, name: str) -> None:
    path = write_spspec(tmp_path / "a.fit", made(), spec_cln=spec_cln)
    assert read_one(path).meta["survey_class"] == name


# --- original files -----------------------------------------------------------------------


def original_files() -> list[dict[str, str]]:
    if not (FITS / "index.csv").exists():
        return []
    with (FITS / "index.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["file"].startswith("sdss")]


def test_every_original_file() -> None:
    rows = original_files()
    if not rows:
        pytest.skip("the original survey files are not beside the project")
    for row in rows:
        spectrum = read_one(FITS / row["file"])
        meta, name = spectrum.meta, row["file"]
        assert (meta["survey"], meta["survey_class"]) == (row["survey"], row["class"]), name
        assert meta["survey_z"] == pytest.approx(float(row["z"]), abs=5e-6), name
        assert meta["survey_zwarning"] == int(row["zwarning"]), name
        if "SPEC_CLN" not in row["subclass"]:
            assert meta["survey_subclass"] == row["subclass"], name
            assert meta["object_id"] == Path(name).stem.removeprefix("spec-")
        blue, red = spectrum.wavelength[[0, -1]]
        assert 3500 < blue < 3850 and 9100 < red < 10450, name
        # One fibre of an eBOSS file has no flat field for a third of its pixels.
        assert spectrum.good.mean() > (0.55 if "9367-57758-0500" in name else 0.9), name
        assert spectrum.sn_median > 0.5, name


def test_emission_lines_of_an_original_spspec_are_kept() -> None:
    path = FITS / "sdss-dr7" / "spSpec-51930-0285-579.fit"
    if not path.exists():
        pytest.skip("the original survey files are not beside the project")
    spectrum = read_one(path)
    rest = spectrum.wavelength / (1.0 + spectrum.meta["survey_z"])
    for line in (3728.5, 4960.3, 5008.2, 6585.3):  # marked EMLINE in the file
        assert spectrum.good[np.abs(rest - line) < 5.0].all(), line


# --- malformed input ----------------------------------------------------------------------


def test_wavelengths_out_of_order_are_refused(tmp_path: Path) -> None:
    truth = made()
    truth.loglam[[10, 11]] = truth.loglam[[11, 10]]
    with pytest.raises(ReadError, match=r"a\.fits .*not strictly increasing"):
        read_all(write_spec(tmp_path / "a.fits", truth))


def test_an_image_is_not_a_spectrum(tmp_path: Path) -> None:
    path = tmp_path / "galaxy.fits"
    fits.PrimaryHDU(np.zeros((5, 400), dtype=np.float32)).writeto(path)
    with pytest.raises(NotASpectrum, match=r"galaxy\.fits"):
        read_all(path)


@given(
    st.lists(st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 2.0]), min_size=20, max_size=20)
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_ivar_that_is_no_information_becomes_zero(pattern: list[float]) -> None:
    truth = made(n=20)
    truth.ivar[:] = pattern
    with tempfile.TemporaryDirectory() as folder:
        spectrum = read_one(write_spec(Path(folder) / "a.fits", truth))
    np.testing.assert_array_equal(spectrum.ivar, [2.0 if v == 2.0 else 0.0 for v in pattern])


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_spec(folder / "spec", made(n=30))
    write_spplate(folder / "spPlate", [made(n=30), made(n=30)])
    write_spspec(folder / "spSpec", made(n=30))
    return folder


@given(
    layout=st.sampled_from(["spec", "spPlate", "spSpec"]),
    how=st.sampled_from(["cut", "overwrite", "append"]),
    where=st.floats(0.0, 1.0),
    junk=st.binary(min_size=1, max_size=8),
)
@settings(max_examples=150, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on absurd numbers
def test_damage_gives_spectra_or_a_read_error(
    whole_files: Path, layout: str, how: str, where: float, junk: bytes
) -> None:
    data = damaged((whole_files / layout).read_bytes(), how, where, junk)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        path.write_bytes(data)
        try:
            spectra = read_all(path)
        except ReadError as error:
            assert "a.fits" in str(error)
            assert "\n" not in str(error)
        else:
            assert spectra and all(isinstance(spectrum, Spectrum) for spectrum in spectra)


@pytest.mark.parametrize("keyword", ["PLATEID", "COEFF0", "SPEC_CLN", "Z"])
def test_a_header_card_that_cannot_be_read_is_refused(tmp_path: Path, keyword: str) -> None:
    data = write_spspec(tmp_path / "a.fit", made()).read_bytes()
    start = data.index(f"{keyword:8}=".encode())
    (tmp_path / "a.fit").write_bytes(data[: start + 10] + b"= 'no " + data[start + 16 :])
    with pytest.raises(ReadError, match=r"a\.fit .*the header is damaged"):
        read_all(tmp_path / "a.fit")
