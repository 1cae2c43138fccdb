"""What a file says of its own quantities is obeyed, and what it does not say stands in flags."""

from pathlib import Path

import numpy as np
import pytest

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.grid import Grid, in_window, prepare
from spectromer_cli.spectra.quantities import FLAGS, Column, Measured, error_kind, spectrum_of
from spectromer_cli.spectra.spectrum import (
    Spectrum,
    air_to_vacuum,
    filling,
    ivar_from_scatter,
    merged,
)

N = 2000
WAVELENGTH = 4000.0 + 2.0 * np.arange(N)
RANDOM = np.random.default_rng(13)
FLUX = 10.0 + np.sin(WAVELENGTH / 300.0) + RANDOM.normal(0.0, 0.1, N)
GRID = Grid()


def measured(**changes: object) -> Measured:
    """A spectrum of which the file says everything, but for what is changed."""
    given: dict = {
        "wavelength": Column(WAVELENGTH, "wavelength", "Angstrom"),
        "flux": Column(FLUX, "flux", "erg/s/cm2/Angstrom"),
        "error": Column(np.full(N, 0.1), "error"),
        "header": {"VACUUM": True, "SPECSYS": "BARYCENT"},
    }
    return Measured(**(given | changes))


def test_a_file_that_says_everything_has_no_flags() -> None:
    spectrum = spectrum_of(measured())
    np.testing.assert_array_equal(spectrum.wavelength, WAVELENGTH)
    np.testing.assert_allclose(spectrum.flux, FLUX)
    np.testing.assert_allclose(spectrum.ivar, 100.0)
    assert spectrum.meta == {"medium": "vacuum", "frame": "barycentric", "flags": ()}


def test_the_documentation_explains_every_flag() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/results.md").read_text(encoding="utf-8")
    assert [flag for flag in FLAGS if f"| `{flag}` |" not in page] == []


# --- air or vacuum ---------------------------------------------------------------------------

STATEMENTS = [
    ({"VACUUM": True}, "", "", "", "vacuum"),
    ({"VACUUM": False}, "", "", "", "air"),
    ({"VACUUM": 0}, "", "", "", "air"),
    ({"VACUUM": "T"}, "", "", "", "vacuum"),
    ({"vacuum": False}, "", "", "", "air"),
    ({"Vacuum": "true"}, "", "", "", "vacuum"),
    ({"AIRORVAC": "air"}, "", "", "", "air"),
    ({"AIRORVAC": "vac"}, "", "", "", "vacuum"),
    ({"CTYPE1": "AWAV"}, "", "", "", "air"),
    ({"CTYPE1": "AWAV-LOG"}, "", "", "", "air"),
    ({"CTYPE1": "WAVE", "CUNIT1": "Angstrom"}, "", "", "", "vacuum"),
    ({"CUNIT1": "Angstrom (air)"}, "", "", "", "air"),
    ({"INSTRUME": "MUSE"}, "", "", "", "air"),
    ({"TELESCOP": "HST"}, "", "", "", "vacuum"),
    ({"PYP_SPEC": "keck_lris_red"}, "", "", "", "vacuum"),
    ({"METADATA": '{"airvac": "vac"}'}, "", "", "", "vacuum"),
    ({}, "wave_air", "", "", "air"),
    ({}, "lambda_vac", "", "", "vacuum"),
    ({}, "wave", "em.wl;em.air", "", "air"),
    ({}, "wave", "em.wl;obs.atmos", "", "air"),
    ({}, "wave", "vacuum wavelength", "", "vacuum"),
    ({}, "wave", "", "Wavelengths are in air.", "air"),
    ({}, "wave", "", "# 1: wavelength, vacuum, unit: Angstrom", "vacuum"),
    ({}, "wave", "", "wavelengths converted from air to vacuum (Ciddor)", "vacuum"),
    ({}, "wave", "", "WAVELENGTH SCALE: vactoair applied", "air"),
    # The nearest statement counts: the column's own before the header's.
    ({"VACUUM": True}, "wave_air", "", "", "air"),
]


@pytest.mark.parametrize(("header", "name", "description", "comments", "medium"), STATEMENTS)
def test_the_medium_is_read(
    header: dict, name: str, description: str, comments: str, medium: str
) -> None:
    column = Column(WAVELENGTH, name or "wavelength", "Angstrom", description)
    spectrum = spectrum_of(measured(wavelength=column, header=header, comments=comments))
    assert spectrum.meta["medium"] == medium
    assert "MEDIUM_ASSUMED" not in spectrum.meta["flags"]
    expected = air_to_vacuum(WAVELENGTH) if medium == "air" else WAVELENGTH
    np.testing.assert_allclose(spectrum.wavelength, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("header", "comments"),
    [
        ({}, ""),
        ({"AIRMASS": 1.2}, "airmass 1.2; extraction aperture 5"),
        ({}, "observed through a vacuum dewar in fair weather"),
        ({"CTYPE1": "LINEAR"}, ""),
        ({"CTYPE1": "WAVE"}, ""),  # without CUNIT1, and yet not in metres
    ],
)
def test_nothing_said_is_flagged(header: dict, comments: str) -> None:
    for custom, expected in (("vacuum", WAVELENGTH), ("air", air_to_vacuum(WAVELENGTH))):
        spectrum = spectrum_of(measured(header=header, comments=comments, custom=custom))
        assert spectrum.meta["flags"] == ("MEDIUM_ASSUMED", "FRAME_ASSUMED")
        np.testing.assert_allclose(spectrum.wavelength, expected)


@pytest.mark.parametrize("air", [True, False])
def test_the_user_overrules_the_file(air: bool) -> None:
    for header in ({"VACUUM": True}, {"VACUUM": False}, {}):
        spectrum = spectrum_of(measured(header=header), air=air)
        assert spectrum.meta["medium"] == ("air" if air else "vacuum")
        assert "MEDIUM_ASSUMED" not in spectrum.meta["flags"]


# --- the frame -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "comments", "frame"),
    [
        ({"SPECSYS": "HELIOCEN"}, "", "heliocentric"),
        ({"SPECSYS": "BARYCENT"}, "", "barycentric"),
        ({"HELIO": True}, "", "heliocentric"),
        ({"HELIO_RV": 12.3}, "", "heliocentric"),
        ({"DOPCOR01": "VHELIO 12.3"}, "", "heliocentric"),
        ({}, "1: wavelength, vacuum, helio-corrected", "heliocentric"),
        ({}, "barycentric wavelengths in vacuum", "barycentric"),
    ],
)
def test_the_frame_is_read(header: dict, comments: str, frame: str) -> None:
    spectrum = spectrum_of(measured(header={"VACUUM": True} | header, comments=comments))
    assert spectrum.meta["frame"] == frame
    assert spectrum.meta["flags"] == ()
    np.testing.assert_array_equal(spectrum.wavelength, WAVELENGTH)


TOPOCENTRIC = {"VACUUM": True, "SPECSYS": "TOPOCENT"}
POSITION = {"RA": 149.8, "DEC": 1.8, "EQUINOX": 2000.0}


@pytest.mark.parametrize(
    "when",
    [
        {"MJD-OBS": 57841.01163},
        {"DATE-OBS": "2017-03-29T00:16:44.8"},
        {"DATE-OBS": "2017-03-29", "UT": "00:16:44.8"},
        {"JD": 2457841.51163},
    ],
)
@pytest.mark.parametrize("ra", [149.8, "09:59:12.0"])
def test_topocentric_wavelengths_are_corrected(when: dict, ra: object) -> None:
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time

    spectrum = spectrum_of(measured(header=TOPOCENTRIC | POSITION | {"RA": ra} | when))
    paranal = EarthLocation.from_geodetic(-70.4045, -24.6268, 2648.0)
    target = SkyCoord(149.8, 1.8, unit="deg")
    time = Time(57841.01163, format="mjd")
    true = target.radial_velocity_correction("barycentric", time, paranal).to(units.km / units.s)
    velocity = 299792.458 * (spectrum.wavelength / WAVELENGTH - 1.0)
    assert abs(true.value) > 5.0
    np.testing.assert_allclose(velocity, true.value, atol=0.5)
    assert spectrum.meta["flags"] == ()


def test_the_headers_own_correction_is_taken() -> None:
    spectrum = spectrum_of(measured(header=TOPOCENTRIC | {"HIERARCH ESO QC VRAD BARYCOR": -21.5}))
    np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH * (1 - 21.5 / 299792.458))
    assert spectrum.meta["flags"] == ()


@pytest.mark.parametrize("known", [{}, POSITION, {"MJD-OBS": 57841.01}, {"MJD-OBS": 3129584.6}])
def test_a_frame_that_cannot_be_corrected_is_flagged(known: dict) -> None:
    assert spectrum_of(measured(header=TOPOCENTRIC | known)).meta["flags"] == ("FRAME_ASSUMED",)


def test_the_rest_frame_is_flagged() -> None:
    spectrum = spectrum_of(measured(header={"VACUUM": True}, comments="rest-frame wavelength"))
    assert spectrum.meta["flags"] == ("REST_FRAME",)


# --- units -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "name", "unit"),
    [
        (WAVELENGTH / 10.0, "wave", "nm"),
        (WAVELENGTH / 1e4, "wave", "um"),
        (WAVELENGTH / 1e4, "wave", "micron"),
        (WAVELENGTH / 1e10, "wave", "m"),
        (WAVELENGTH / 10.0, "wave_nm", ""),
        (np.log10(WAVELENGTH), "loglam", ""),
        (np.log10(WAVELENGTH), "wave", "log10(Angstrom)"),
        (np.log10(WAVELENGTH), "wave", "dex(AA)"),
        (np.log(WAVELENGTH), "ln_wave", ""),
        (2.99792458e18 / WAVELENGTH, "frequency", "Hz"),
        (WAVELENGTH, "wave", "ANGSTROMS"),
        (WAVELENGTH, "wave", "Angstrom (vacuum)"),
        (WAVELENGTH, "wave", ""),
    ],
)
def test_units_of_wavelength(values: np.ndarray, name: str, unit: str) -> None:
    spectrum = spectrum_of(measured(wavelength=Column(values, name, unit)))
    np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH, rtol=1e-8)


LAMBDA_2 = (WAVELENGTH / 5000.0) ** -2


@pytest.mark.parametrize(
    ("unit", "name", "factor"),
    [
        ("Jy", "flux", LAMBDA_2),
        ("mJy", "flux", LAMBDA_2),
        ("W/m2/Hz", "flux", LAMBDA_2),
        ("erg/s/cm2/Hz", "flux", LAMBDA_2),
        ("10^-26 erg s-1 cm-2 Hz-1", "flux", LAMBDA_2),
        ("FNU", "flux", LAMBDA_2),
        ("", "flux_nu", LAMBDA_2),
        ("photon/s/cm2/A", "flux", (WAVELENGTH / 5000.0) ** -1),
        ("10**-17 erg/(s cm2 Angstrom)", "flux", 1.0),
        ("10**(-19).erg.cm**(-2).s**(-1).angstrom**(-1)", "flux", 1.0),
        ("1E-17 erg/cm^2/s/Ang", "flux", 1.0),
        ("W m-2 um-1", "flux", 1.0),
        ("FLAM", "flux", 1.0),
        ("", "flam", 1.0),
    ],
)
def test_flux_becomes_f_lambda(unit: str, name: str, factor: np.ndarray) -> None:
    spectrum = spectrum_of(measured(flux=Column(FLUX, name, unit)))
    np.testing.assert_allclose(spectrum.flux, FLUX * factor)
    np.testing.assert_allclose(spectrum.ivar, 100.0 / np.broadcast_to(factor, N) ** 2)
    assert spectrum.meta["flags"] == ()


@pytest.mark.parametrize("unit", ["", "garbage!!", "erg/s/cm2/", "none"])
def test_a_flux_without_a_unit_is_flagged(unit: str) -> None:
    spectrum = spectrum_of(measured(flux=Column(FLUX, "flux", unit)))
    np.testing.assert_array_equal(spectrum.flux, FLUX)
    assert spectrum.meta["flags"] == ("FLUX_UNIT_ASSUMED",)


@pytest.mark.parametrize("unit", ["counts", "adu", "electron/s", "e-", "DN/s", "photons"])
def test_counts_are_flagged(unit: str) -> None:
    spectrum = spectrum_of(measured(flux=Column(FLUX, "flux", unit)))
    assert spectrum.meta["flags"] == ("NOT_FLUX_CALIBRATED",)


@pytest.mark.parametrize(
    ("unit", "name", "power"),
    [("mag(AB)", "flux", -2), ("ABmag", "flux", -2), ("mag", "mag_ab", -2), ("mag(ST)", "mag", 0)],
)
def test_magnitudes_are_converted(unit: str, name: str, power: int) -> None:
    magnitudes = 15.0 - 2.5 * np.log10(FLUX)
    found = spectrum_of(
        measured(flux=Column(magnitudes, name, unit), error=Column(np.full(N, 0.02), "mag_err"))
    )
    ratio = found.flux / (FLUX * (WAVELENGTH / 5000.0) ** power)
    np.testing.assert_allclose(ratio, ratio[0])
    np.testing.assert_allclose(found.flux * np.sqrt(found.ivar), 1 / (0.02 * 0.4 * np.log(10)))


@pytest.mark.parametrize(("unit", "name"), [("mag", "flux"), ("", "mag"), ("K", "flux"),
                                            ("erg/s/cm2", "flux"), ("km/s", "flux")])  # fmt: skip
def test_what_is_no_flux_density_is_refused(unit: str, name: str) -> None:
    with pytest.raises(ReadError, match=r"magnitudes|not a flux density"):
        spectrum_of(measured(flux=Column(FLUX, name, unit)))


@pytest.mark.parametrize(("unit", "name"), [("log10(erg/s/cm2/A)", "flux"), ("", "log_flux")])
def test_logarithms_of_the_flux(unit: str, name: str) -> None:
    error = Column(np.full(N, 0.01), "error")
    spectrum = spectrum_of(measured(flux=Column(np.log10(FLUX), name, unit), error=error))
    np.testing.assert_allclose(spectrum.flux, FLUX)
    np.testing.assert_allclose(spectrum.ivar**-0.5, 0.01 * np.log(10) * FLUX)


# --- errors and masks ------------------------------------------------------------------------

SIGMA = 0.1 + 0.01 * np.arange(N) / N


@pytest.mark.parametrize(
    ("name", "unit", "values"),
    [
        ("error", "", SIGMA),
        ("STATERROR", "FLAM", SIGMA),
        ("stat_error", "", SIGMA),
        ("ERR", "erg/s/cm2/Angstrom", SIGMA),
        ("error", "1e-2 erg/s/cm2/Angstrom", SIGMA * 100.0),
        ("ivar", "", SIGMA**-2),
        ("error", "(erg/s/cm2/Angstrom)^-2", SIGMA**-2),
        ("STAT", "", SIGMA**2),
        ("VARIANCE", "", SIGMA**2),
        ("flux_var", "", SIGMA**2),
        ("error", "(erg/s/cm2/Angstrom)**2", SIGMA**2),
        ("snr", "", FLUX / SIGMA),
        ("error", "%", 100.0 * SIGMA / FLUX),
    ],
)
def test_errors_by_name_and_by_unit(name: str, unit: str, values: np.ndarray) -> None:
    spectrum = spectrum_of(measured(error=Column(values, name, unit)))
    np.testing.assert_allclose(spectrum.ivar, SIGMA**-2, rtol=1e-6)
    assert spectrum.meta.get("has_ivar") is not False


def test_a_plain_name_decides_against_a_sloppy_unit() -> None:
    assert error_kind(Column(SIGMA, "ivar", "erg/s/cm2/A"), "erg/s/cm2/A") == "ivar"


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_errors_that_are_none_are_estimated(value: float) -> None:
    spectrum = spectrum_of(measured(error=Column(np.full(N, value), "error")))
    assert spectrum.meta["has_ivar"] is False
    np.testing.assert_allclose(spectrum.ivar, ivar_from_scatter(FLUX))


@pytest.mark.parametrize("good_is", ["zero", "nonzero"])
def test_masks(good_is: str) -> None:
    mask = (np.arange(N) % 7 == 0).astype(float)
    column = Column(mask if good_is == "zero" else 1.0 - mask, "mask")
    spectrum = spectrum_of(measured(mask=column, good_is=good_is))
    np.testing.assert_array_equal(spectrum.good, mask == 0)
    assert spectrum.meta["flags"] == ()


def test_a_mask_that_leaves_little_is_questioned() -> None:
    mask = (np.arange(N) % 20 != 0).astype(float)  # leaves 5 %
    spectrum = spectrum_of(measured(mask=Column(mask, "mask")))
    assert spectrum.good.all()
    assert spectrum.meta["flags"] == ("MASK_IGNORED",)


@pytest.mark.parametrize("padding", [0.0, -1.0, np.nan])
def test_padding_is_cut_off(padding: float) -> None:
    wavelength = WAVELENGTH.copy()
    wavelength[-100:] = padding
    spectrum = spectrum_of(measured(wavelength=Column(wavelength, "wavelength", "Angstrom")))
    np.testing.assert_array_equal(spectrum.wavelength, WAVELENGTH[:-100])


@pytest.mark.parametrize("scale", [1e-159, 1e-200, 1e150])
def test_flux_beyond_the_range_of_squares(scale: float) -> None:
    plain = prepare(spectrum_of(measured()), GRID)
    tiny = spectrum_of(
        measured(
            flux=Column(FLUX * scale, "flux", "erg/s/cm2/Angstrom"),
            error=Column(np.full(N, 0.1 * scale), "error"),
        )
    )
    np.testing.assert_allclose(prepare(tiny, GRID).flux, plain.flux, rtol=1e-5)
    np.testing.assert_allclose(prepare(tiny, GRID).ivar, plain.ivar, rtol=1e-5)


# --- filling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -1.0, -999.0, -9999.0, np.nan])
@pytest.mark.parametrize("where", [slice(0, 300), slice(-3, None), slice(800, 1200)])
def test_filling_is_no_data(value: float, where: slice) -> None:
    flux = FLUX.copy()
    flux[where] = value
    expected = np.zeros(N, dtype=bool)
    expected[where] = True
    np.testing.assert_array_equal(filling(flux), expected)
    spectrum = Spectrum(WAVELENGTH, flux, np.full(N, 100.0))
    cut = Spectrum(WAVELENGTH[~expected], FLUX[~expected], np.full((~expected).sum(), 100.0))
    with_filling = in_window(spectrum, GRID)
    np.testing.assert_array_equal(with_filling.good, ~expected)
    assert with_filling.sn_median == pytest.approx(in_window(cut, GRID).sn_median)


def test_a_long_run_of_any_value_is_filling() -> None:
    flux = FLUX.copy()
    flux[500:540] = 1.2345
    assert filling(flux).sum() == 40


def test_data_are_no_filling() -> None:
    assert not filling(FLUX).any()
    counts = RANDOM.poisson(30.0, 4000).astype(float)
    assert not filling(counts).any()
    assert not filling(np.ones(500)).any()
    absorbed = FLUX.copy()
    absorbed[600:604] = 0.0  # a few pixels of exactly zero
    assert not filling(absorbed).any()


def test_estimated_errors_leave_out_filling() -> None:
    flux = FLUX.copy()
    flux[: N // 2 + 200] = 0.0
    spectrum = spectrum_of(measured(flux=Column(flux, "flux", "FLAM"), error=None))
    estimated = in_window(spectrum, GRID)
    assert np.median(estimated.ivar[estimated.good] ** -0.5) == pytest.approx(0.1, rel=0.15)


# --- only what the model sees ----------------------------------------------------------------


def test_level_and_errors_are_those_of_the_window() -> None:
    """The far ultraviolet of a hot star is a thousand times brighter than its optical light."""
    wavelength = np.concatenate([np.arange(1200.0, 3500.0), np.arange(3500.0, 30000.0)])
    flux = 1e4 * (wavelength / 3500.0) ** -4 + RANDOM.normal(0.0, 1.0, wavelength.size)
    flux[wavelength < 3000] *= 1e4
    whole = Spectrum(wavelength, flux, ivar_from_scatter(flux), {"has_ivar": False})
    seen = (wavelength > 3590) & (wavelength < 10400)
    optical = Spectrum(
        wavelength[seen], flux[seen], ivar_from_scatter(flux[seen]), {"has_ivar": False}
    )
    ours, theirs = prepare(whole, GRID), prepare(optical, GRID)
    assert ours.scale == pytest.approx(theirs.scale, rel=0.01)
    assert in_window(whole, GRID).sn_median == pytest.approx(optical.sn_median, rel=0.1)


@pytest.mark.parametrize("factor", [3, 5, 7])
def test_a_binned_spectrum_leaves_no_gaps(factor: int) -> None:
    wavelength = GRID.wavelength[factor // 2 :: factor]
    flux = 10.0 + np.sin(wavelength / 300.0)
    prepared = prepare(Spectrum(wavelength, flux, np.full(flux.size, 100.0)), GRID)
    inside = slice(factor, -2 * factor)
    assert (prepared.ivar[inside] > 0).all()
    expected = (10.0 + np.sin(GRID.wavelength / 300.0)) / prepared.scale
    np.testing.assert_allclose(prepared.flux[inside], expected[inside], rtol=2e-3)


# --- order -----------------------------------------------------------------------------------


def test_overlapping_arms_are_merged_and_said() -> None:
    blue, red = slice(0, 1100), slice(1000, N)
    wavelength = np.concatenate([WAVELENGTH[blue], WAVELENGTH[red]])
    flux = np.concatenate([FLUX[blue], FLUX[red]])
    spectrum = spectrum_of(
        measured(
            wavelength=Column(wavelength, "wavelength", "Angstrom"),
            flux=Column(flux, "flux", "FLAM"),
            error=Column(np.full(flux.size, 0.1), "error"),
        )
    )
    np.testing.assert_array_equal(spectrum.wavelength, WAVELENGTH)
    np.testing.assert_allclose(spectrum.flux, FLUX)
    np.testing.assert_allclose(spectrum.ivar[1000:1100], 200.0)
    assert spectrum.meta["flags"] == ("PIXELS_MERGED",)


@pytest.mark.parametrize("value", [-4100.0, 4010.0, 9999.0])
def test_a_damaged_wavelength_is_refused(value: float) -> None:
    wavelength = WAVELENGTH.copy()
    wavelength[700] = value
    with pytest.raises(ReadError, match=r"pixel 70[12] "):
        merged(wavelength, FLUX, np.ones(N))
