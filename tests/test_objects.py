"""Spectra that come as objects: of specutils, as Quantities, one or many; units are obeyed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty
from astropy.table import MaskedColumn
from conftest import emission_galaxy

import spectromer_cli as spectromer
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra.objects import spectra_of
from spectromer_cli.spectra.spectrum import Spectrum

specutils = pytest.importorskip("specutils", reason="the extra specutils is not installed")
FLAM = u.Unit("erg / (s cm2 Angstrom)")


@pytest.fixture(scope="module")
def model(random_weights: Path) -> spectromer.Spectromer:
    return spectromer.load_model(str(random_weights), "cpu")


def as_specutils(made: Spectrum, unit: str = "nm", **options: object) -> specutils.Spectrum:
    """The same spectrum for specutils, in another unit of wavelength."""
    given = {"flux": made.flux * FLAM, "uncertainty": InverseVariance(made.ivar)} | options
    return specutils.Spectrum(
        spectral_axis=(made.wavelength * u.AA).to(unit, u.spectral()), **given
    )


def same(table: object, reference: object) -> bool:
    return all(np.array_equal(table[name], reference[name]) for name in ("class", "z", "sn_median"))


@pytest.mark.parametrize("unit", ["Angstrom", "nm", "um", "THz", "eV"])
def test_units_of_the_spectral_axis_are_obeyed(model: spectromer.Spectromer, unit: str) -> None:
    made = emission_galaxy(0.1)
    (found,) = spectra_of(as_specutils(made, unit))
    assert np.allclose(found.wavelength, made.wavelength, rtol=1e-10)
    assert np.allclose(found.flux, made.flux)
    assert np.allclose(found.ivar, made.ivar)
    assert same(model.predict(found), model.predict(made))


def test_frequency_densities_become_densities_per_wavelength() -> None:
    made = emission_galaxy(0.1)
    wavelength = made.wavelength * u.AA
    jansky = (made.flux * FLAM).to(u.Jy, u.spectral_density(wavelength))
    error = (made.ivar**-0.5 * FLAM).to(u.mJy, u.spectral_density(wavelength))
    for given in (
        specutils.Spectrum(
            flux=jansky, spectral_axis=wavelength.to(u.um), uncertainty=StdDevUncertainty(error)
        ),
        (wavelength.to(u.nm), jansky, error),
        (wavelength, jansky, error**-2),
    ):
        (found,) = spectra_of(given)
        ratio = found.flux / made.flux
        assert np.ptp(ratio) < 1e-9 * ratio[0]
        assert found.sn_median == pytest.approx(made.sn_median)


def test_a_spectrum_of_quantities_obeys_their_units() -> None:
    made = emission_galaxy(0.1)
    nm, flux = made.wavelength / 10.0 * u.nm, made.flux * 1e-17 * FLAM
    found = Spectrum(nm, flux, made.ivar * 1e34 / FLAM**2)
    assert np.allclose(found.wavelength, made.wavelength)
    assert found.sn_median == pytest.approx(made.sn_median)
    jansky = flux.to(u.Jy, u.spectral_density(nm))
    found = Spectrum(nm, jansky, (np.full(jansky.size, 0.1) * jansky.max()) ** -2)
    ratio = found.flux / made.flux
    assert np.ptp(ratio) < 1e-9 * ratio[0]
    column = MaskedColumn(made.flux, mask=np.arange(made.flux.size) < 5, unit="adu")
    found = Spectrum(nm, column, made.ivar)
    assert not found.good[:5].any() and found.good[5:].all()
    for wrong in ((nm, nm), (nm.value * u.s, flux), (nm, flux, flux)):
        with pytest.raises(ValueError, match=r"unit|convertible"):
            Spectrum(*wrong)


def test_errors_are_estimated_where_there_are_none(model: spectromer.Spectromer) -> None:
    made = emission_galaxy(0.1)
    bare = as_specutils(made, uncertainty=None)
    unknown = as_specutils(made, uncertainty=UnknownUncertainty(np.ones(made.flux.size)))
    table = model.predict([bare, unknown, Spectrum(made.wavelength, made.flux), made])
    assert ["ERRORS_ESTIMATED" in flags for flags in table["flags"]] == [True, True, True, False]
    assert table["sn_median"][0] == pytest.approx(table["sn_median"][3], rel=0.1)


def test_one_or_many(model: spectromer.Spectromer) -> None:
    made = [emission_galaxy(z, seed=seed) for seed, z in enumerate((0.1, 0.2, 0.3))]
    reference = model.predict(made)
    each = [as_specutils(one) for one in made]
    flux = np.array([one.flux for one in made]) * FLAM
    error = StdDevUncertainty(np.array([one.ivar**-0.5 for one in made]))
    axis = np.array([one.wavelength for one in made]) * u.AA
    collection = specutils.SpectrumCollection(flux=flux, spectral_axis=axis, uncertainty=error)
    cube = specutils.Spectrum(flux=flux, spectral_axis=axis[0], uncertainty=error)
    upright = specutils.Spectrum(
        flux=flux.T, spectral_axis=axis[0], uncertainty=StdDevUncertainty(error.array.T),
        spectral_axis_index=0,
    )  # fmt: skip
    quantities = (axis[0].to(u.nm), flux, error.array * FLAM)
    for many in (each, specutils.SpectrumList(each), collection, cube, upright, quantities,
                 (one for one in each), [each[0], made[1], quantities_of(made[2])]):  # fmt: skip
        table = spectromer.predict(many, model=model)
        assert same(table, reference)
        assert table["row"].tolist() == [0, 1, 2]
    assert len(spectromer.predict(each[0], model=model)) == 1
    assert len(spectromer.predict(made[0], model=model)) == 1


def quantities_of(made: Spectrum) -> tuple[u.Quantity, ...]:
    return made.wavelength * u.AA, made.flux * FLAM, made.ivar**-0.5 * FLAM


def test_masks_of_any_kind_mark_bad_pixels() -> None:
    made = emission_galaxy(0.1)
    mask = np.zeros(made.flux.size, dtype=bool)
    mask[100:200] = True
    (found,) = spectra_of(as_specutils(made, mask=mask))
    assert np.array_equal(found.good, ~mask)
    flux = MaskedColumn(made.flux, mask=mask, unit=FLAM)
    (found,) = spectra_of((made.wavelength * u.AA, flux, made.ivar**-0.5 * FLAM))
    assert np.array_equal(found.good, ~mask)


def test_the_medium_that_the_header_says_is_obeyed() -> None:
    made = emission_galaxy(0.1)
    for meta in ({"header": {"VACUUM": False}}, {"medium": "air"}):
        (found,) = spectra_of(as_specutils(made, meta=meta))
        assert found.meta["medium"] == "air"
        assert found.wavelength[0] - made.wavelength[0] > 1.0
    (found,) = spectra_of(as_specutils(made), air=True)
    assert found.wavelength[0] - made.wavelength[0] > 1.0
    (found,) = spectra_of(as_specutils(made))
    assert "MEDIUM_ASSUMED" in found.meta["flags"]


def test_what_cannot_be_understood_costs_its_own_row(model: spectromer.Spectromer) -> None:
    made = emission_galaxy(0.1)
    velocity = specutils.Spectrum(
        flux=made.flux * FLAM, spectral_axis=np.linspace(-500, 500, made.flux.size) * u.km / u.s
    )
    length = as_specutils(made, flux=made.flux * u.m, uncertainty=None)
    table = spectromer.predict([velocity, length, made], model=model)
    assert "velocity without a rest wavelength" in table["flags"][0]
    assert "not a flux density" in table["flags"][1]
    assert np.isfinite(table["z"][2]) and not table["class"][0]
    (found,) = spectra_of((np.arange(5) * u.AA, np.arange(6) * FLAM))
    assert isinstance(found, ReadError) and "differ in shape" in str(found)
    for wrong in ([made, "file.fits"], [np.ones(5)], [3], {"flux": made}):
        with pytest.raises(UsageError):
            spectromer.predict(wrong, model=model)
    with pytest.raises(UsageError, match="cannot be resumed"):
        spectromer.predict(made, model=model, output="z.csv", resume=True)


def test_to_specutils_and_back(model: spectromer.Spectromer) -> None:
    made = emission_galaxy(0.1)
    made.ivar[50:60] = 0.0
    # It was in air in its file; the wavelengths of a Spectrum are in vacuum.
    made.meta |= {"medium": "air", "frame": "heliocentric", "ra": 1.0, "dec": 2.0}
    handed = made.to_specutils()
    assert handed.spectral_axis.unit == u.AA
    assert np.array_equal(handed.mask, made.ivar == 0)
    assert handed.uncertainty.uncertainty_type == "ivar"
    (back,) = spectra_of(handed)
    assert np.array_equal(back.wavelength, made.wavelength)
    assert np.allclose(back.ivar, made.ivar) and not back.meta["flags"]
    assert back.meta["object_id"] == "made" and back.meta["ra"] == 1.0
    assert same(model.predict(handed), model.predict(made))
    assert Spectrum(made.wavelength, made.flux).to_specutils().uncertainty is None


def test_public_names_are_what_completion_shows() -> None:
    names = dir(spectromer)
    assert {"predict", "read", "load_model", "Spectrum", "evaluate"} <= set(names)
    assert not [name for name in names if name.startswith("_") and name != "__version__"]
    for name in names:
        assert getattr(spectromer, name) is not None


def test_a_notebook_shows_a_sketch_and_the_facts() -> None:
    made = emission_galaxy(0.1)
    made.meta |= {"object_id": "<b>7</b>", "flags": ("MEDIUM_ASSUMED",)}
    shown = made._repr_html_()
    assert "<svg" in shown and "&lt;b&gt;7" in shown and "MEDIUM_ASSUMED" in shown
    assert "3800 good of 3800" in shown and "nan" not in shown
    made.flux[:] = 0.0
    assert "nan" not in made._sketch()
    made.ivar[:] = 0.0
    assert "0 good of 3800" in made._repr_html_()
