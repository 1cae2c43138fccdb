"""FITS images and tables of other instruments: each is written here with known wavelengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra import Spectrum, air_to_vacuum, readers
from spectromer_cli.spectra.loading import load_all
from spectromer_cli.spectra.readers import ReadOptions, open_spectra, read
from spectromer_cli.spectra.sources import Target

N = 1200
PIXEL = np.arange(N)
LINEAR = 4000.0 + 2.5 * PIXEL
RNG = np.random.default_rng(5)
SIGMA = RNG.uniform(0.04, 0.06, N)
FLUX = 2.0 + np.sin(LINEAR / 100.0) + SIGMA * RNG.normal(size=N)
WCS = {"CTYPE1": "LINEAR", "CRVAL1": 4000.0, "CDELT1": 2.5, "CRPIX1": 1.0, "CUNIT1": "Angstrom"}


def image(values: np.ndarray, cards: dict | None = None, name: str = "") -> fits.ImageHDU:
    hdu = fits.ImageHDU(np.asarray(values), name=name or None)
    hdu.header.update(cards or {})
    return hdu


def write(path: Path, *hdus: object) -> Path:
    """The first image becomes the primary HDU; a table gets an empty one before it."""
    first, *rest = hdus
    if isinstance(first, fits.ImageHDU):
        primary = fits.PrimaryHDU(first.data)
        primary.header.update({k: v for k, v in first.header.items() if k not in
                               ("XTENSION", "PCOUNT", "GCOUNT", "SIMPLE")})  # fmt: skip
        fits.HDUList([primary, *rest]).writeto(path)
    else:
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def check(
    spectrum: Spectrum,
    wavelength: np.ndarray = LINEAR,
    *,
    flux: np.ndarray = FLUX,
    sigma: np.ndarray | None = None,
    flags: set[str] | None = None,
) -> None:
    """Compare a spectrum of a medium that it states with its wavelengths and flux."""
    if spectrum.meta["medium"] == "air":
        wavelength = air_to_vacuum(wavelength)
    np.testing.assert_allclose(spectrum.wavelength, wavelength, rtol=1e-6)
    good = spectrum.good
    np.testing.assert_allclose(spectrum.flux[good], flux[good], rtol=1e-5)
    assert good.sum() > 0.9 * good.size
    assert (spectrum.meta.get("has_ivar") is not False) is (sigma is not None)
    if sigma is not None:
        np.testing.assert_allclose(spectrum.ivar[good], sigma[good] ** -2.0, rtol=1e-4)
    if flags is not None:
        assert set(spectrum.meta["flags"]) == flags


# The wavelength scale of a header -----------------------------------------------------------


LOG10 = 10.0 ** (3.6 + 1e-4 * PIXEL)
LN = np.exp(8.3 + 3e-4 * PIXEL)


@pytest.mark.parametrize(
    ("cards", "wavelength"),
    [
        (WCS, LINEAR),
        (WCS | {"CUNIT1": "nm", "CRVAL1": 400.0, "CDELT1": 0.25}, LINEAR),
        (WCS | {"CUNIT1": "um", "CRVAL1": 0.4, "CDELT1": 2.5e-4}, LINEAR),
        (WCS | {"CUNIT1": "m", "CRVAL1": 4e-7, "CDELT1": 2.5e-10}, LINEAR),
        ({"CRVAL1": 4000.0, "CDELT1": 2.5}, LINEAR),
        ({"CRVAL1": 4000.0, "CD1_1": 2.5, "CDELT1": 1.0, "CRPIX1": 1.0}, LINEAR),
        ({"CRVAL1": 4250.0, "CD1_1": 2.5, "CRPIX1": 101.0}, LINEAR),
        ({"CTYPE1": "WAVE", "CRVAL1": 4000.0, "CDELT1": 2.5}, LINEAR),
        ({"CRVAL1": 3.6, "CDELT1": 1e-4, "CRPIX1": 1, "DC-FLAG": 1, "CTYPE1": "LINEAR"}, LOG10),
        ({"CRVAL1": 3.6, "CD1_1": 1e-4}, LOG10),
        ({"CRVAL1": 3.6, "CDELT1": 1e-4, "WAT1_001": "wtype=linear units=Angstroms"}, LOG10),
        ({"COEFF0": 3.6, "COEFF1": 1e-4}, LOG10),
        ({"CRVAL1": 8.3, "CDELT1": 3e-4}, LN),
        (WCS | {"CTYPE1": "WAVE-LOG"}, 4000.0 * np.exp(2.5 * PIXEL / 4000.0)),
        (WCS | {"CTYPE1": "AWAV-LOG", "CUNIT1": "nm", "CRVAL1": 400.0, "CDELT1": 0.25},
         4000.0 * np.exp(2.5 * PIXEL / 4000.0)),
        ({"CRVAL1": 400.0, "CDELT1": 0.25, "WAT1_001": "wtype=linear units=nm"}, LINEAR),
        # Two units: the one that makes light of the numbers.
        ({"CRVAL1": 400.0, "CDELT1": 0.25, "CUNIT1": "nm", "WAT1_001": "units=angstroms"}, LINEAR),
        ({"CRVAL1": 4000.0, "CDELT1": 2.5, "CUNIT1": "deg", "WAT1_001": "units=Angstroms"}, LINEAR),
        ({"CRVAL1": 4000.0, "CDELT1": 2.5, "CUNIT1": "pixel"}, LINEAR),
        ({"CTYPE1": "FREQ", "CUNIT1": "Hz", "CRVAL1": 4e14, "CDELT1": 2e11},
         (2.99792458e18 / (4e14 + 2e11 * PIXEL))),
        # Axes beyond NAXIS.
        (WCS | {"CTYPE2": "RA---TAN", "CRVAL2": 12.0, "CDELT2": 1e-4, "WCSDIM": 3}, LINEAR),
    ],
)  # fmt: skip
def test_scales(tmp_path: Path, cards: dict, wavelength: np.ndarray) -> None:
    (spectrum,) = read(write(tmp_path / "a.fits", image(FLUX, cards)))
    turned = wavelength[0] > wavelength[-1]
    check(
        spectrum,
        wavelength[::-1] if turned else wavelength,
        flux=FLUX[::-1] if turned else FLUX,
    )


def test_a_scale_of_paper_iii_is_left_to_astropy(tmp_path: Path) -> None:
    cards = {"CTYPE1": "WAVE-F2W", "CUNIT1": "m", "CRVAL1": 4e-7, "CDELT1": 2.5e-10, "CRPIX1": 1}
    (spectrum,) = read(write(tmp_path / "a.fits", image(FLUX, cards)))
    # Linear in frequency, with the step of the wavelength given at the reference.
    frequency = 1.0 / 4000.0 - 2.5 / 4000.0**2 * PIXEL
    check(spectrum, 1.0 / frequency)
    assert spectrum.meta["medium"] == "vacuum"


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CRVAL1": 1.0, "CDELT1": 1.0},
        {"CRVAL1": 1.0, "CDELT1": 1.0, "CTYPE1": "PIXEL"},
        {"CRVAL1": 0.0, "CD1_1": 1.0, "CUNIT1": "Angstrom"},
        {"CRVAL1": 150.0, "CDELT1": 1e-4, "CTYPE1": "RA---TAN"},
        WCS | {"DC-FLAG": -1},
    ],
)
def test_pixel_numbers_are_no_wavelengths(tmp_path: Path, cards: dict) -> None:
    with pytest.raises(ReadError, match="has no wavelength scale"):
        read(write(tmp_path / "a.fits", image(FLUX, cards)))


def test_a_unit_that_is_not_said_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", image(FLUX, {"CRVAL1": 400.0, "CDELT1": 0.25}))
    with pytest.raises(ReadError, match="no unit") as caught:
        read(path)
    assert "nm" in caught.value.hint
    check(read(path, wavelength_unit="nm")[0])


def test_air_is_assumed_and_said(tmp_path: Path) -> None:
    (spectrum,) = read(write(tmp_path / "a.fits", image(FLUX, WCS)))
    check(spectrum, flags={"MEDIUM_ASSUMED", "FRAME_ASSUMED", "FLUX_UNIT_ASSUMED"})
    assert spectrum.meta["medium"] == "air"
    (spectrum,) = read(tmp_path / "a.fits", air=False)
    assert spectrum.meta["medium"] == "vacuum"
    check(spectrum)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"AIRMASS = nan nan", b"AIRMASS "),
        (b"BUNIT   = erg/s/cm2/A", b"BUNIT   "),
    ],
)
def test_a_broken_card_stops_nothing(tmp_path: Path, broken: bytes, words: bytes) -> None:
    path = write(tmp_path / "a.fits", image(FLUX, WCS | {words.decode().strip(): "x"}))
    data = path.read_bytes()
    at = data.index(words + b"= ")
    path.write_bytes(data[:at] + broken.ljust(80) + data[at + 80 :])
    check(read(path)[0])


def test_scales_of_the_flux(tmp_path: Path) -> None:
    """Text cards left of the raw frame's integers are ignored; a scale nobody knows is refused."""
    for bscale, bzero, well in (("1", "32768", True), ("1", "0", True), ("?", "1e-17", False)):
        hdu = image(FLUX, WCS | {"BSCALF": bscale, "BZERF": bzero})
        path = write(tmp_path / f"{bzero}.fits", hdu)
        data = path.read_bytes().replace(b"BSCALF", b"BSCALE").replace(b"BZERF ", b"BZERO ")
        path.write_bytes(data)
        if well:
            check(read(path)[0])
        else:
            with pytest.raises(ReadError, match="BSCALE and BZERO are texts"):
                read(path)


# Rows and bands of an image -----------------------------------------------------------------


BANDS = {
    "BANDID1": "spectrum - background fit, weights variance, clean yes",
    "BANDID2": "raw - background fit, weights none, clean no",
    "BANDID3": "background - background fit",
    "BANDID4": "sigma - background fit, weights variance, clean yes",
}


@pytest.mark.parametrize("named", [True, False])
def test_bands_of_iraf(tmp_path: Path, named: bool) -> None:
    values = np.stack([FLUX, FLUX + 5.0, np.full(N, 9.0), SIGMA])[:, None]
    cards = WCS | (BANDS if named else {}) | {"WCSDIM": 3, "CTYPE2": "LINEAR", "APNUM1": "1 1"}
    (spectrum,) = read(write(tmp_path / "a.fits", image(values, cards)))
    check(spectrum, sigma=SIGMA)
    assert ("COLUMNS_GUESSED" in spectrum.meta["flags"]) is not named


def test_apertures_are_spectra(tmp_path: Path) -> None:
    cards = WCS | {"APNUM1": "1 1 96.4 103.9", "APNUM2": "2 2 109.8 115.3", "BANDID1": "spectrum"}
    spectra = read(write(tmp_path / "a.fits", image(np.stack([FLUX, 3.0 * FLUX]), cards)))
    assert len(spectra) == 2
    check(spectra[0])
    check(spectra[1], flux=3.0 * FLUX)
    assert spectra[1].meta["object_id"] == "a[1]"


@pytest.mark.parametrize("kind", ["sigma", "variance"])
def test_two_rows(tmp_path: Path, kind: str) -> None:
    error = SIGMA if kind == "sigma" else SIGMA**2
    (spectrum,) = read(write(tmp_path / "a.fits", image(np.stack([FLUX, error]), WCS)))
    check(spectrum, sigma=SIGMA)
    assert "COLUMNS_GUESSED" in spectrum.meta["flags"]


def test_a_second_spectrum_is_no_error(tmp_path: Path) -> None:
    spectra = read(write(tmp_path / "a.fits", image(np.stack([FLUX, 40.0 + FLUX]), WCS)))
    assert len(spectra) == 2
    check(spectra[1], flux=40.0 + FLUX)


@pytest.mark.parametrize("with_error", [True, False])
def test_rows_with_their_wavelengths(tmp_path: Path, with_error: bool) -> None:
    """As of Kast: the celestial WCS of the raw frame is still in the header."""
    rows = [LINEAR, FLUX, SIGMA] if with_error else [LINEAR, FLUX]
    cards = {"CTYPE1": "RA---TAN", "CRVAL1": "238.51", "CD1_1": "1.2e-4", "CUNIT1": "deg"}
    (spectrum,) = read(write(tmp_path / "a.fits", image(np.stack(rows), cards)))
    check(spectrum, sigma=SIGMA if with_error else None)
    assert "COLUMNS_GUESSED" in spectrum.meta["flags"]


@pytest.mark.parametrize("card", ["ROW", "ARRAY"])
def test_labelled_rows(tmp_path: Path, card: str) -> None:
    """As of GAMA and 2SLAQ: what the labels say, wherever it stands."""
    labels = ["Unreduced spectrum", "Sky", "Variance", "Spectrum"]
    values = np.stack([9.0 * FLUX, np.full(N, 7.0), SIGMA**2, FLUX])
    cards = WCS | {f"{card}{i}": label for i, label in enumerate(labels, 1)}
    (spectrum,) = read(write(tmp_path / "a.fits", image(values, cards)))
    check(spectrum, sigma=SIGMA)
    assert "COLUMNS_GUESSED" not in spectrum.meta["flags"]


def test_6dfgs(tmp_path: Path) -> None:
    """The spliced spectrum counts, and the arms are said to be left out."""

    def arm(name: str, wavelength: np.ndarray) -> fits.ImageHDU:
        n = wavelength.size
        rows = np.stack([FLUX[:n], SIGMA[:n] ** 2, np.full(n, 3.0), wavelength])
        return image(rows, {"CRVAL1": 1.0, "CDELT1": 1.0}, name)

    halves = LINEAR[:500], LINEAR[500:]
    path = write(
        tmp_path / "a.fits", image(np.zeros((80, 80))),
        arm("SPECTRUM V", halves[0]), arm("SPECTRUM R", halves[1]), arm("SPECTRUM VR", LINEAR),
    )  # fmt: skip
    with open_spectra(path) as spectra:
        assert len(spectra) == 1
        assert spectra.left_out == "2 arms that VR joins"
        check(spectra.get(0), sigma=SIGMA)


# IRAF's multispec ---------------------------------------------------------------------------


def multispec(functions: list[str]) -> dict:
    text = "wtype=multispec " + " ".join(
        f'spec{i} = "{i} {i} {words}"' for i, words in enumerate(functions, 1)
    )
    cards = {"CTYPE1": "MULTISPE", "CTYPE2": "MULTISPE", "CD1_1": 1.0, "CDELT1": 1.0,
             "WAT0_001": "system=multispec",
             "WAT1_001": "wtype=multispec label=Wavelength units=angstroms"}  # fmt: skip
    return cards | {f"WAT2_{i // 68 + 1:03d}": text[i : i + 68] for i in range(0, len(text), 68)}


X = (PIXEL + 1 - 0.5 * (1 + N)) / (0.5 * (N - 1))
NODES = [4000.0, 5000.0, 5900.0, 7000.0]
SPLINE = np.interp(PIXEL / (N - 1) * 3, range(4), NODES)


@pytest.mark.parametrize(
    ("function", "wavelength"),
    [
        (f"0 4000. 2.5 {N} 0. 9. 21.", LINEAR),
        (f"0 4000. 2.5 {N} 0.01 9. 21.", LINEAR / 1.01),
        (f"1 3.6 1e-4 {N} 0. 9. 21.", LOG10),
        (f"2 4000. 2.5 {N} 0. 9. 21. 1. 0. 1 3 1. {N}. 5500. 1500. -20.",
         5500.0 + 1500.0 * X - 20.0 * (2 * X**2 - 1)),
        (f"2 4000. 2.5 {N} 0. 9. 21. 1. 0. 2 3 1. {N}. 5500. 1500. -20.",
         5500.0 + 1500.0 * X - 20.0 * (1.5 * X**2 - 0.5)),
        (f"2 4000. 2.5 {N} 0. 9. 21. 1. 5. 4 3 1. {N}. 3995. 4995. 5895. 6995.", SPLINE),
        # A cubic spline whose coefficients lie on a line is that line, times 6.
        (f"2 4000. 2.5 {N} 0. 9. 21. 1. 0. 3 3 1. {N}. 500. 666.6666667 833.3333333 1000. "
         "1166.6666667 1333.3333333", 4000.0 + 1000.0 * 3 * PIXEL / (N - 1)),
        (f"2 4000. 2.5 {N} 0. 9. 21. 1. 0. 6 2 1. 4000. {N}. 7000.",
         np.linspace(4000.0, 7000.0, N)),
        # Two functions with weights.
        (f"2 4000. 2.5 {N} 0. 9. 21. 0.5 0. 1 2 1. {N}. 5500. 1500. 0.5 0. 1 2 1. {N}. 5502. "
         "1500.", 5501.0 + 1500.0 * X),
    ],
)  # fmt: skip
def test_dispersion_functions(tmp_path: Path, function: str, wavelength: np.ndarray) -> None:
    (spectrum,) = read(write(tmp_path / "a.fits", image(FLUX[None], multispec([function]))))
    check(spectrum, wavelength)


def linear(start: float, step: float = 0.1) -> str:
    return f"0 {start} {step} {N} 0. 1. 2."


def test_orders_have_to_be_merged(tmp_path: Path) -> None:
    cards = multispec([linear(8000.0 - 80.0 * order) for order in range(20)])
    path = write(tmp_path / "a.fits", image(np.tile(FLUX, (20, 1)), cards))
    with pytest.raises(ReadError, match="an echelle spectrum of 20 orders: merge the orders first"):
        read(path)


def test_apertures_of_one_range_are_spectra(tmp_path: Path) -> None:
    cards = multispec([linear(4000.0 + fibre, 2.5) for fibre in range(20)])
    spectra = read(write(tmp_path / "a.fits", image(np.tile(FLUX, (20, 1)), cards)))
    assert len(spectra) == 20
    check(spectra[3], LINEAR + 3.0)


def test_arms_are_joined(tmp_path: Path) -> None:
    starts = [4713.0, 5649.0, 6478.0, 7585.0]
    cards = multispec([linear(start) for start in starts])
    (spectrum,) = read(write(tmp_path / "a.fits", image(np.tile(FLUX, (4, 1)), cards)))
    check(
        spectrum,
        np.concatenate([start + 0.1 * PIXEL for start in starts]),
        flux=np.tile(FLUX, 4),
    )


def test_a_multispec_image_without_dispersion(tmp_path: Path) -> None:
    cards = multispec([f"-1 1. 1. {N} 0. 1. 2."])
    with pytest.raises(ReadError, match="has no wavelength scale"):
        read(write(tmp_path / "a.fits", image(FLUX[None], cards)))


# An extension for each quantity -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("STAT", SIGMA**2), ("VARIANCE", SIGMA**2), ("VAR", SIGMA**2), ("NOISE", SIGMA),
        ("ERROR", SIGMA), ("ERR", SIGMA), ("SIGMA", SIGMA), ("IVAR", SIGMA**-2.0),
        ("relative_error", SIGMA / np.abs(FLUX)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["DATA", "SCI", "FLUX", "PRIMARY"])
def test_errors_by_extension(tmp_path: Path, first: str, name: str, values: np.ndarray) -> None:
    """As of MPDAF, HERMES and VIMOS; the sky and two-dimensional cut-outs are passed over."""
    hdus = [image(FLUX, WCS, first), image(values, WCS, name), image(9.0 + FLUX, WCS, "SKY"),
            image(np.ones((40, N)), WCS, "EXR2D")]  # fmt: skip
    if first != "PRIMARY":
        hdus.insert(0, fits.ImageHDU())
    (spectrum,) = read(write(tmp_path / "a.fits", *hdus))
    check(spectrum, sigma=SIGMA)


def test_mpdaf(tmp_path: Path) -> None:
    cards = WCS | {"CTYPE1": "AWAV", "BUNIT": "10**(-20)*erg/s/cm**2/Angstrom"}
    flux, mask = FLUX.copy(), np.zeros(N, dtype=np.uint8)
    flux[100:110], mask[200:220] = np.nan, 1
    variance = cards | {"BUNIT": "(10**(-20)*erg/s/cm**2/Angstrom)**2"}
    hdus = (image(flux, cards, "DATA"), image(SIGMA**2, variance, "STAT"), image(mask, {}, "DQ"))
    (spectrum,) = read(write(tmp_path / "a.fits", fits.ImageHDU(), *hdus))
    check(spectrum, sigma=SIGMA, flags={"FRAME_ASSUMED"})
    assert spectrum.meta["medium"] == "air"
    bad = ~spectrum.good
    assert bad.sum() == 30
    assert bad[100:110].all()
    assert bad[200:220].all()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("name", ["ERROR", "SIG"])
def test_linetools(tmp_path: Path, named: bool, name: str) -> None:
    hdus = [image(FLUX, {"BUNIT": "erg/s/cm2/Angstrom"}), image(SIGMA), image(LINEAR),
            image(np.full(N, 1.01))]  # fmt: skip
    if named:
        for hdu, called in zip(hdus, ("FLUX", name, "WAVELENGTH", "CONTINUUM"), strict=True):
            hdu.name = called
        hdus[0].header["METADATA"] = '{"headers": [{}], "airvac": "vac"}'
    (spectrum,) = read(write(tmp_path / "a.fits", *hdus))
    check(spectrum, sigma=SIGMA)
    if named:
        assert spectrum.meta["flags"] == ("FRAME_ASSUMED",)
    else:
        assert "COLUMNS_GUESSED" in spectrum.meta["flags"]


def test_hermes_is_barycentric_counts(tmp_path: Path) -> None:
    cards = WCS | {"BUNIT": "counts", "BARYEFF": -13.4, "INSTRUME": "HERMES-2dF"}
    hdus = (image(FLUX, cards), image(FLUX / 2.5, cards, "normalized"),
            image(SIGMA / np.abs(FLUX), cards, "relative_error"))  # fmt: skip
    (spectrum,) = read(write(tmp_path / "a.fits", *hdus))
    check(spectrum, sigma=SIGMA, flags={"NOT_FLUX_CALIBRATED"})
    assert (spectrum.meta["medium"], spectrum.meta["frame"]) == ("air", "barycentric")


@pytest.mark.parametrize(
    "names", [("FLUX_B", "ERR_B", "FLUX_R", "ERR_R"), ("SCI", "ERR", "SCI", "ERR")]
)
def test_two_arms_in_one_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    red = WCS | {"CRVAL1": 7100.0}
    hdus = [image(FLUX, WCS, names[0]), image(SIGMA, WCS, names[1]),
            image(2 * FLUX, red, names[2]), image(2 * SIGMA, red, names[3])]  # fmt: skip
    if names[0] == names[2]:
        for hdu in hdus[2:]:
            hdu.ver = 2
    (spectrum,) = read(write(tmp_path / "a.fits", fits.ImageHDU(), *hdus))
    check(
        spectrum,
        np.concatenate([LINEAR, LINEAR + 3100.0]),
        flux=np.concatenate([FLUX, 2 * FLUX]),
        sigma=np.concatenate([SIGMA, 2 * SIGMA]),
    )


def test_extensions_of_a_source_of_mpdaf(tmp_path: Path) -> None:
    hdus = [image(np.ones((30, 30)), {}, "IMA_WHITE_DATA"), image(FLUX, WCS, "SPE_TOT_DATA"),
            image(SIGMA**2, WCS, "SPE_TOT_STAT"), image(FLUX, WCS, "SPE_SKY_DATA")]  # fmt: skip
    (spectrum,) = read(write(tmp_path / "a.fits", fits.ImageHDU(), *hdus))
    check(spectrum, sigma=SIGMA)


def test_rows_of_several_extensions(tmp_path: Path) -> None:
    """Errors of the same shape say that the rows are spectra."""
    pairs = np.stack([FLUX, 2 * FLUX]), np.stack([SIGMA, 2 * SIGMA])
    hdus = [image(pairs[0]), image(pairs[1], {}, "ERR"), image(LINEAR, {}, "WAVE")]
    spectra = read(write(tmp_path / "a.fits", *hdus))
    assert len(spectra) == 2
    check(spectra[1], flux=2 * FLUX, sigma=2 * SIGMA)
    assert "COLUMNS_GUESSED" not in spectra[1].meta["flags"]


def test_steps_of_the_reduction_are_left_out(tmp_path: Path) -> None:
    """As of SPRAT: with and without the sky beside the calibrated flux."""
    hdus = [image(np.ones((60, N)), WCS, "LSS"), image(9.0 + FLUX[None], WCS, "SPEC_NONSS"),
            image(3.0 + FLUX[None], WCS, "SPEC_SS"), image(FLUX[None], WCS, "FLUX")]  # fmt: skip
    with open_spectra(write(tmp_path / "a.fits", *hdus)) as spectra:
        assert len(spectra) == 1
        assert spectra.left_out == "SPEC_NONSS, SPEC_SS beside FLUX"
        check(spectra.get(0))


def test_another_extension_of_the_scale_is_no_second_spectrum(tmp_path: Path) -> None:
    odd = image(50.0 + FLUX, WCS)
    with open_spectra(write(tmp_path / "a.fits", image(FLUX, WCS), odd)) as spectra:
        assert len(spectra) == 1
        assert "not known" in spectra.left_out
    odd.header["OBJECT"] = "another"
    assert len(read(write(tmp_path / "b.fits", image(FLUX, WCS), odd))) == 2


def test_several_extensions_are_a_row_each(tmp_path: Path) -> None:
    hdus = [image((i + 1) * FLUX, WCS, f"OBJ{i}") for i in range(3)]
    spectra = read(write(tmp_path / "a.fits", fits.ImageHDU(), *hdus))
    assert len(spectra) == 3
    check(spectra[2], flux=3 * FLUX)


def test_an_extension_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    hdus = [image(FLUX, {}, "FLUX_1"), image(FLUX, WCS, "FLUX_2")]
    with open_spectra(write(tmp_path / "a.fits", fits.ImageHDU(), *hdus)) as spectra:
        with pytest.raises(ReadError, match="has no wavelength scale"):
            spectra.get(0)
        check(spectra.get(1))


# Fibres -------------------------------------------------------------------------------------


def fibres(tmp_path: Path, cards: dict, scale: np.ndarray | None = None) -> Path:
    """Five fibres as 2dfdr writes them, two of them on objects of the programme."""
    table = Table({"NAME": [f"F{i}" for i in range(5)], "TYPE": list("PSPFU"),
                   "RA": np.radians([10.0, 20.0, 30.0, 40.0, 50.0]),
                   "DEC": np.radians([-1.0, -2.0, -3.0, -4.0, -5.0]),
                   "MAGNITUDE": np.full(5, 18.0), "WLEN": np.full(5, 650.0),
                   "PIVOT": np.arange(5)})  # fmt: skip
    hdus = [image(np.stack([(i + 1) * FLUX for i in range(5)]), cards),
            image(np.stack([((i + 1) * SIGMA) ** 2 for i in range(5)]), {}, "VARIANCE"),
            fits.BinTableHDU(table, name="FIBRES")]  # fmt: skip
    if scale is not None:
        hdus.append(image(np.tile(scale, (5, 1)), {}, "WAVELENGTH"))
    return write(tmp_path / "fibres.fits", *hdus)


@pytest.mark.parametrize("log", [True, False])
def test_fibres_of_the_programme(tmp_path: Path, log: bool) -> None:
    path = fibres(tmp_path, WCS | {"VACUUM": True}, np.log10(LINEAR) if log else None)
    with open_spectra(path) as spectra:
        assert len(spectra) == 2
        assert spectra.left_out == "3 fibres whose TYPE is not P (sky, guide, parked)"
        check(spectra.get(1), flux=3 * FLUX, sigma=3 * SIGMA,
              flags={"FRAME_ASSUMED", "NOT_FLUX_CALIBRATED"})  # fmt: skip
        meta = spectra.get(1).meta
    assert (meta["object_id"], meta["medium"]) == ("F2", "vacuum")
    assert (meta["ra"], meta["dec"]) == pytest.approx((30.0, -3.0))


def test_fibres_are_in_air_and_corrected_where_the_header_asks(tmp_path: Path) -> None:
    cards = WCS | {"DO_HELIO": True, "UTMJD": 57373.5593, "LAT_OBS": -31.27704,
                   "LONG_OBS": 149.0661, "ALT_OBS": 1164}  # fmt: skip
    spectrum = read(fibres(tmp_path, cards))[0]
    telescope = EarthLocation.from_geodetic(149.0661, -31.27704, 1164)
    towards = SkyCoord(10.0, -1.0, unit="deg")
    when = Time(57373.5593, format="mjd")
    velocity = towards.radial_velocity_correction("barycentric", when, telescope)
    assert abs(velocity.to_value("km/s")) > 25
    shift = spectrum.wavelength / air_to_vacuum(LINEAR) - 1.0
    np.testing.assert_allclose(shift * 299792.458, velocity.to_value("km/s"), atol=0.01)
    assert spectrum.meta["medium"] == "air"
    assert not {"MEDIUM_ASSUMED", "FRAME_ASSUMED"} & set(spectrum.meta["flags"])


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = list(load_all([Target(fibres(tmp_path, WCS))], ReadOptions()))
    assert len(items) == 2
    said = capsys.readouterr().err
    assert said.count("skipped") == 1
    assert "fibres.fits: skipped 3 fibres whose TYPE is not P (sky, guide, parked)" in said


# Tables -------------------------------------------------------------------------------------


def test_pypeit_spec1d(tmp_path: Path) -> None:
    def hdu(name: str, first: float, prefix: str = "OPT_") -> fits.BinTableHDU:
        table = Table({f"{prefix}WAVE": LINEAR + first, f"{prefix}COUNTS": FLUX + 50.0,
                       f"{prefix}COUNTS_IVAR": SIGMA**-2.0 / 9, f"{prefix}FLAM": FLUX,
                       f"{prefix}FLAM_IVAR": SIGMA**-2.0, f"{prefix}FLAM_SIG": SIGMA,
                       f"{prefix}MASK": np.ones(N, dtype=bool), "trace_spec": PIXEL})  # fmt: skip
        table[f"{prefix}MASK"][100:110] = False
        made = fits.BinTableHDU(table, name=name)
        made.header.update({"DMODCLS": "SpecObj", "VEL_TYPE": "heliocentric", "NAME": name,
                            "PYP_SPEC": "shane_kast_red"})  # fmt: skip
        return made

    detector = fits.BinTableHDU(Table({"gain": [1.0]}), name="DET01-DETECTOR")
    spectra = read(write(tmp_path / "a.fits", hdu("SPAT0132", 0.0), hdu("SPAT0500", 5.0, "BOX_"),
                         detector))  # fmt: skip
    assert [s.meta["object_id"] for s in spectra] == ["SPAT0132", "SPAT0500"]
    for spectrum, first in zip(spectra, (0.0, 5.0), strict=True):
        check(spectrum, LINEAR + first, sigma=SIGMA)
        assert "MEDIUM_ASSUMED" not in spectrum.meta["flags"]
        assert spectrum.meta["frame"] == "heliocentric"
        assert (~spectrum.good).sum() == 10


@pytest.mark.parametrize("fluxed", [True, False])
def test_pypeit_onespec(tmp_path: Path, fluxed: bool) -> None:
    table = Table({"wave": LINEAR, "wave_grid_mid": LINEAR + 1.0, "flux": FLUX,
                   "ivar": SIGMA**-2.0, "mask": np.ones(N, dtype=int)})  # fmt: skip
    table["mask"][:20] = 0
    table["wave"][-5:] = 0.0
    hdu = fits.BinTableHDU(table, name="SPECTRUM")
    hdu.header.update({"DMODCLS": "OneSpec", "PYP_SPEC": "keck_lris_red", "FLUXED": fluxed})
    (spectrum,) = read(write(tmp_path / "a.fits", hdu))
    check(spectrum, LINEAR[:-5], flux=FLUX[:-5], sigma=SIGMA[:-5],
          flags={"FRAME_ASSUMED"} | (set() if fluxed else {"NOT_FLUX_CALIBRATED"}))  # fmt: skip
    assert not spectrum.good[:20].any()


def test_jwst_x1d(tmp_path: Path) -> None:
    hdus = []
    for source in (7, 9):
        table = Table({"WAVELENGTH": LINEAR / 1e4, "FLUX": source * FLUX * (LINEAR / 5000) ** 2,
                       "FLUX_ERROR": source * SIGMA * (LINEAR / 5000) ** 2,
                       "DQ": np.zeros(N, dtype=int)})  # fmt: skip
        table["WAVELENGTH"].unit = "um"
        table["FLUX"].unit = table["FLUX_ERROR"].unit = "Jy"
        hdu = fits.BinTableHDU(table, name="EXTRACT1D")
        hdu.header.update({"SOURCEID": source, "TELESCOP": "JWST", "SPECSYS": "BARYCENT"})
        hdus.append(hdu)
    spectra = read(write(tmp_path / "a.fits", *hdus))
    assert len(spectra) == 2
    for spectrum, source in zip(spectra, (7, 9), strict=True):
        check(spectrum, flux=source * FLUX, sigma=source * SIGMA, flags=set())


def test_an_order_a_row(tmp_path: Path) -> None:
    """As of HST x1d; the flux counts and not the rates beside it."""
    orders = np.stack([LINEAR, LINEAR + 1000.0])
    table = Table({"SPORDER": [66, 67], "WAVELENGTH": orders, "NET": np.stack([FLUX * 9] * 2),
                   "FLUX": np.stack([FLUX] * 2), "ERROR": np.stack([SIGMA] * 2),
                   "DQ": np.zeros((2, N), dtype=np.int16)})  # fmt: skip
    table["WAVELENGTH"].unit, table["FLUX"].unit = "Angstrom", "erg/s/cm**2/Angstrom"
    spectra = read(write(tmp_path / "a.fits", fits.BinTableHDU(table, name="SCI")))
    for spectrum, order in zip(spectra, orders, strict=True):
        check(spectrum, order, sigma=SIGMA)


@pytest.mark.parametrize("cells", ["pixels", "arrays"])
def test_arms_in_two_tables(tmp_path: Path, cells: str) -> None:
    hdus = []
    for extraction in ("Star", "Galaxy"):
        for arm, first in (("B", 0.0), ("R", 3100.0)):
            columns = {"LAMBDA": LINEAR + first, "SPEC": FLUX, "IVAR": SIGMA**-2.0}
            if cells == "arrays":
                columns = {name: values[None] for name, values in columns.items()}
            hdus.append(fits.BinTableHDU(Table(columns), name=f"{extraction}-{arm}"))
    spectra = read(write(tmp_path / "a.fits", *hdus))
    assert len(spectra) == 2
    for spectrum in spectra:
        check(
            spectrum,
            np.concatenate([LINEAR, LINEAR + 3100.0]),
            flux=np.tile(FLUX, 2),
            sigma=np.tile(SIGMA, 2),
        )


@pytest.mark.parametrize("cells", ["pixels", "arrays"])
def test_columns_in_several_tables(tmp_path: Path, cells: str) -> None:
    hdus = []
    for name, values in (("WAVE", LINEAR), ("FLUX", FLUX), ("IVAR", SIGMA**-2.0)):
        table = Table({name: values if cells == "pixels" else np.stack([values, 1.01 * values])})
        hdus.append(fits.BinTableHDU(table, name=name))
    spectra = read(write(tmp_path / "a.fits", *hdus))
    assert len(spectra) == (1 if cells == "pixels" else 2)
    check(spectra[0], sigma=SIGMA)


def test_more_columns_than_a_table_may_have(tmp_path: Path) -> None:
    hdu = fits.BinTableHDU(Table({"wave": LINEAR, "flux": FLUX}))
    path = write(tmp_path / "a.fits", hdu)
    cards = path.read_bytes().replace(
        b"TFIELDS =                    2", b"TFIELDS =             99999999"
    )
    path.write_bytes(cards)
    with pytest.raises(ReadError, match="claims TFIELDS = 99999999"):
        read(path)


def test_a_list_of_lines_beside_a_spectrum(tmp_path: Path) -> None:
    lines = Table({"wave": [4861.3, 5006.8], "flux": [3.0, 9.0]})
    spectrum = Table({"wave": LINEAR, "flux": FLUX, "err": SIGMA})
    (found,) = read(
        write(tmp_path / "a.fits", fits.BinTableHDU(lines, name="LINES"),
              fits.BinTableHDU(spectrum, name="SPECTRUM"))
    )  # fmt: skip
    check(found, sigma=SIGMA)


def test_wavelengths_of_the_rest_frame_are_refused(tmp_path: Path) -> None:
    table = Table({"wave_prereduced": LINEAR / 1.3, "flux_prereduced": FLUX})
    with pytest.raises(ReadError, match=r"PyQSOFit.* rest frame"):
        read(write(tmp_path / "a.fits", fits.BinTableHDU(table)))


# What is no spectrum ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, N), (20, 30, N), (2048, 2048)])
def test_images_of_the_sky_and_of_slits(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path / "a.fits", image(np.ones(shape, dtype=np.float32), WCS))
    with pytest.raises(NotASpectrum, match="is an image"):
        read(path)


def test_every_real_file_is_read_or_refused_in_words(shared: Path) -> None:
    for folder in ("instruments", "formats"):
        for path in sorted((shared / "data" / folder).glob("*/*.fits*")):
            try:
                spectra = read(path)
            except ReadError as error:
                assert "is broken" not in str(error), path
                continue
            for spectrum in spectra:
                assert 1000.0 < spectrum.wavelength[0] < 8000.0, path


@pytest.mark.parametrize("there", [True, False])
def test_specutils_is_advised_where_it_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(readers, "READERS", ("sdss", "fits_tables", "fits_images"))
    monkeypatch.setattr(readers, "find_spec", lambda name: object() if there else None)
    with pytest.raises(NotASpectrum) as caught:
        read(write(tmp_path / "a.fits", image(np.ones((60, N)), WCS)))
    assert ("specutils" in caught.value.hint) is not there
