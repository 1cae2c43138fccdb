"""DESI files: arms merged, exposures coadded, targets apart."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from survey_files import write_desi

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.spectra.readers import open_spectra, read


def test_arms_are_merged_and_nothing_counts_twice(tmp_path: Path) -> None:
    (spectrum,) = read(write_desi(tmp_path / "c.fits", [7], [2.0]))
    assert spectrum.wavelength[[0, -1]] == pytest.approx([3600.0, 9824.0])
    np.testing.assert_allclose(np.diff(spectrum.wavelength), 0.8, rtol=1e-6)
    np.testing.assert_allclose(spectrum.flux, 2.0)
    overlap = (spectrum.wavelength > 5761) & (spectrum.wavelength < 5799)
    np.testing.assert_allclose(spectrum.ivar[overlap], 200.0)
    alone = (spectrum.wavelength > 4000) & (spectrum.wavelength < 5000)
    np.testing.assert_allclose(spectrum.ivar[alone], 100.0)
    assert spectrum.meta["survey"] == "DESI"
    assert spectrum.meta["targetid"] == 7
    assert spectrum.meta["ra"] == 10.0


def test_the_arm_with_less_noise_wins(tmp_path: Path) -> None:
    n = len(np.arange(5760.0, 7620.4, 0.8))
    changes = {"R_FLUX": np.full((1, n), 4.0), "R_IVAR": np.full((1, n), 300.0)}
    (spectrum,) = read(write_desi(tmp_path / "c.fits", [7], [2.0], **changes))
    overlap = (spectrum.wavelength > 5761) & (spectrum.wavelength < 5799)
    np.testing.assert_allclose(spectrum.flux[overlap], (2.0 * 100 + 4.0 * 300) / 400)


def test_masked_pixels_are_bad(tmp_path: Path) -> None:
    n = len(np.arange(3600.0, 5800.4, 0.8))
    mask = np.zeros((1, n), dtype=np.uint32)
    mask[0, 100:110] = 4
    (spectrum,) = read(write_desi(tmp_path / "c.fits", [7], [2.0], B_MASK=mask))
    assert not spectrum.ivar[100:110].any()
    assert spectrum.ivar[[99, 110]].all()


def test_exposures_of_a_target_are_coadded(tmp_path: Path) -> None:
    path = write_desi(tmp_path / "s.fits", [5, 9, 5], [1.0, 7.0, 3.0], arms="B")
    first, second = read(path)
    assert [first.meta["targetid"], second.meta["targetid"]] == [5, 9]
    np.testing.assert_allclose(first.flux, 2.0)
    np.testing.assert_allclose(first.ivar, 200.0)
    np.testing.assert_allclose(second.flux, 7.0)


def test_a_missing_arm_leaves_a_gap(tmp_path: Path) -> None:
    (spectrum,) = read(write_desi(tmp_path / "c.fits", [7], [2.0], arms="BZ"))
    gap = (spectrum.wavelength > 5801) & (spectrum.wavelength < 7519)
    assert not spectrum.ivar[gap].any()


def test_malformed_files_are_refused(tmp_path: Path) -> None:
    short = write_desi(tmp_path / "a.fits", [1, 2], [1.0, 1.0], R_FLUX=np.ones((1, 2326)))
    with pytest.raises(ReadError, match=r"a\.fits is malformed: R_FLUX"):
        read(short)
    shifted = np.arange(5760.3, 7620.4, 0.8)
    n = shifted.size
    odd = {"R_WAVELENGTH": shifted, "R_FLUX": np.ones((1, n)), "R_IVAR": np.ones((1, n))}
    odd |= {"R_MASK": np.zeros((1, n), dtype=np.uint32)}
    with pytest.raises(ReadError, match="do not share one wavelength grid"):
        read(write_desi(tmp_path / "d.fits", [1], [1.0], **odd))


def test_a_file_without_fibermap(tmp_path: Path) -> None:
    with fits.open(write_desi(tmp_path / "b.fits", [1, 2], [1.0, 3.0])) as hdus:
        hdus = fits.HDUList([hdu for hdu in hdus if not hdu.name.endswith(("MAP", "MASK"))])
        hdus.writeto(tmp_path / "c.fits")
    first, second = read(tmp_path / "c.fits")
    assert [first.meta["object_id"], second.meta["object_id"]] == ["c[0]", "c[1]"]
    np.testing.assert_allclose(second.flux, 3.0)


@pytest.mark.parametrize("arm", ["BRZ", "BR", "RZ", "B0"])
def test_arms_of_any_name(tmp_path: Path, arm: str) -> None:
    """Merged already, of one spectrograph, of one target without an axis for it; no IVAR."""
    wavelength = np.arange(3600.0, 9000.0, 0.8)
    fibermap = fits.BinTableHDU(Table({"TARGETID": [7]}), name="FIBERMAP")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(wavelength, name=f"{arm}_WAVELENGTH"), fibermap]
    flux = np.random.default_rng(0).normal(2.0, 0.1, wavelength.size)
    fits.HDUList([*hdus, fits.ImageHDU(flux, name=f"{arm.lower()}_flux")]).writeto(
        tmp_path / "c.fits"
    )
    (spectrum,) = read(tmp_path / "c.fits")
    np.testing.assert_allclose(spectrum.flux, flux)
    assert spectrum.meta["targetid"] == 7 and spectrum.meta["has_ivar"] is False


def test_arms_beside_their_merger_do_not_count_twice(tmp_path: Path) -> None:
    path = write_desi(tmp_path / "c.fits", [7], [2.0])
    (apart,) = read(path)
    with fits.open(path, mode="append") as hdus:
        for what in ("wavelength", "flux", "ivar"):
            values = np.asarray(getattr(apart, what))
            hdus.append(fits.ImageHDU(values if what == "wavelength" else values[None],
                                      name=f"BRZ_{what}"))  # fmt: skip
    (both,) = read(path)
    np.testing.assert_allclose(both.ivar, apart.ivar)


def test_steps_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    tiny = {
        f"{arm}_{what}": array
        for arm, start in (("B", 3600.0), ("Z", 9800.0))
        for what, array in (
            ("WAVELENGTH", start + np.array([0.0, 1e-7, 2e-7])),
            ("FLUX", np.ones((1, 3))), ("IVAR", np.ones((1, 3))),
            ("MASK", np.zeros((1, 3), dtype=np.int32)),
        )
    }  # fmt: skip
    with pytest.raises(ReadError, match="steps of 1e-07 Å over 6200 Å"):
        read(write_desi(tmp_path / "c.fits", [1], [1.0], arms="BZ", **tiny))


FIBRES = {
    "a target": ("TGT", 0, 7, 0, ()),
    "stuck on its target": ("TGT", 1 << 1 | 1 << 3, 7, 0, ()),
    "sky": ("SKY", 0, 7, ZWarn.SKY, ("SKY",)),
    "sky by its number": ("TGT", 0, -7, ZWarn.SKY, ("SKY",)),
    "bad": ("BAD", 0, 7, ZWarn.NODATA, ("NODATA",)),
    "broken": ("TGT", 1 << 2, 7, ZWarn.UNPLUGGED | ZWarn.NODATA,
               ("UNPLUGGED", "NODATA", "BROKENFIBER")),
    "off its target": ("TGT", 1 << 9, 7, ZWarn.NODATA, ("NODATA", "BADPOSITION")),
    "a little off": ("TGT", 1 << 10, 7, 0, ("POORPOSITION",)),
}  # fmt: skip


@pytest.mark.parametrize("column", ["COADD_FIBERSTATUS", "FIBERSTATUS"])
@pytest.mark.parametrize("fibre", FIBRES)
def test_what_the_fibermap_says_of_a_fibre(tmp_path: Path, column: str, fibre: str) -> None:
    kind, status, target, zwarn, flags = FIBRES[fibre]
    fibermap = {"OBJTYPE": [kind], column: np.array([status], dtype=np.int32)}
    (spectrum,) = read(write_desi(tmp_path / "c.fits", [target], [2.0], fibermap=fibermap))
    assert spectrum.meta.get("zwarn", 0) == int(zwarn)
    assert spectrum.meta.get("flags", ()) == flags


def test_exposures_of_a_broken_fibre_are_left_out(tmp_path: Path) -> None:
    status = {"FIBERSTATUS": np.array([1 << 2, 0], dtype=np.int32)}
    (spectrum,) = read(write_desi(tmp_path / "s.fits", [5, 5], [1.0, 3.0], "B", fibermap=status))
    np.testing.assert_allclose(spectrum.flux, 3.0)
    assert "zwarn" not in spectrum.meta


@pytest.mark.parametrize(
    ("name", "cards", "columns", "known"),
    [
        ("c", {"SURVEY": "sv3", "PROGRAM": "DARK", "HPXPIXEL": 0}, {},
         {"desi_survey": "sv3", "program": "dark", "healpix": 0}),
        ("coadd-main-bright-123", {}, {},
         {"desi_survey": "main", "program": "bright", "healpix": 123}),
        ("coadd-main-bright-123", {"HPXPIXEL": 7, "SURVEY": "sv1"}, {},
         {"desi_survey": "sv1", "program": "bright", "healpix": 7}),
        ("c", {"TILEID": 80613, "NIGHT": 20210324}, {}, {"tileid": 80613, "night": 20210324}),
        ("coadd-4-169-thru20210419", {}, {}, {"tileid": 169, "night": 20210419}),
        ("spectra-main-dark-5", {}, {"TILEID": [1, 2], "NIGHT": [20210101, 20210101]},
         {"desi_survey": "main", "tileid": (1, 2), "night": 20210101}),
    ],
)  # fmt: skip
def test_which_part_of_the_survey(tmp_path: Path, name, cards, columns, known) -> None:
    path = tmp_path / f"{name}.fits"
    (spectrum,) = read(write_desi(path, [5, 5], [1.0, 1.0], "B", cards=cards, fibermap=columns))
    assert known.items() <= spectrum.meta.items()


# File → number of targets; what is None is no spectrum.
REAL = {
    "coadd-4-80613-thru20210324.fits": 1,
    "coadd-special-dark-27247.fits": 1,
    "coadd-sv3-dark-26065.fits": 5,
    "spectra-sv3-dark-26065.fits": 5,
    "spectra-main-dark-9144.fits": 2,  # the R arm alone
    "coadd-bgs-66003-20200315.fits": 5,  # the commissioning layout, without errors
    "redrock-4-80613-thru20210324.fits": None,
    "redrock-special-dark-27247.fits": None,
}


@pytest.mark.parametrize(("name", "count"), REAL.items())
def test_real_files(shared: Path, name: str, count: int | None) -> None:
    path = shared / "data" / "fits" / "desi" / name
    if count is None:
        with pytest.raises(NotASpectrum):
            read(path)
        return
    with open_spectra(path) as spectra:
        assert len(spectra) == count
        for spectrum in spectra:
            assert spectrum.meta["survey"] == "DESI"
            assert 3599 < spectrum.wavelength[0] < 5761
            assert 7619 < spectrum.wavelength[-1] < 9825


def test_the_early_layout_has_signal(shared: Path) -> None:
    path = shared / "data" / "fits" / "desi" / "coadd-bgs-66003-20200315.fits"
    spectrum = read(path)[0]
    assert spectrum.meta["has_ivar"] is False
    assert spectrum.sn_median > 3
