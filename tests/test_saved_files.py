"""Files for other programs: redrock's layout, and p(z), χ²(z) and models in full."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import EXAMPLES, Run
from survey_files import made, write_desi, write_spec

import spectromer_cli
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.model.best_fit import best_fit
from spectromer_cli.model.template_fit import POLYNOMIALS, Basis
from spectromer_cli.spectra.grid import Grid, Prepared, prepare

COADD = EXAMPLES / "simulated-desi-coadd.fits"
STAR = EXAMPLES / "simulated-sdss-star.fits"
GRID = Grid()
# Of redrock 0.21's `rrdesi`, in its order: name, format and, of texts, width.
LAYOUT = [
    ("TARGETID", "K"), ("Z", "D"), ("ZERR", "D"), ("ZWARN", "K"), ("CHI2", "D"), ("COEFF", "D"),
    ("FITMETHOD", "4A"), ("NPIXELS", "K"), ("SPECTYPE", "6A"), ("SUBTYPE", "20A"),
    ("NCOEFF", "K"), ("DELTACHI2", "D"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Spectromer:
    return spectromer_cli.load_model(device="cpu")


# The fit itself -------------------------------------------------------------------------------


def test_the_best_fit_is_the_sum_that_was_made() -> None:
    rng = np.random.default_rng(1)
    vectors = np.linalg.qr(rng.normal(size=(6000, 3)))[0].T.astype(np.float32)
    basis = Basis(3.40, vectors)
    line = np.linspace(-1.0, 1.0, GRID.n)
    z = 10.0 ** (700 * GRID.dloglam) - 1.0  # whole pixels
    flux = np.array([30.0, -20.0, 5.0]) @ basis.at_redshift(z, GRID) + 1.0 + 0.2 * line
    ivar = np.full(GRID.n, 100.0, np.float32)
    ivar[1000:1100] = 0.0
    found = best_fit(Prepared(flux.astype(np.float32), ivar, 1.0), basis, GRID, z)
    assert found is not None and found.pixels == GRID.n - 100
    np.testing.assert_allclose(found.coefficients, [30, -20, 5, 1, 0.2, 0], atol=1e-3)
    np.testing.assert_allclose(found.model, flux, atol=1e-4)
    assert found.chi2 < 1e-3
    far = best_fit(Prepared(flux.astype(np.float32), ivar, 1.0), basis, GRID, 30.0)
    assert far is None  # the templates do not reach


# As redrock writes it -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rr(model, tmp_path_factory) -> Path:
    """DESI's example, and beside it a file without a spectrum."""
    path = tmp_path_factory.mktemp("rr") / "rr.fits"
    spectromer_cli.predict(COADD, model=model, output=path, format="redrock")
    return path


def test_the_layout_is_redrocks(rr: Path) -> None:
    with fits.open(rr) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "REDSHIFTS", "FIBERMAP"]
        found = [(column.name, column.format) for column in hdus["REDSHIFTS"].columns]
        assert [(name, form.lstrip("0123456789") if form[-1] == "D" else form)
                for name, form in found] == LAYOUT  # fmt: skip
        with fits.open(COADD) as coadd:
            own, theirs = (file["FIBERMAP"].data for file in (hdus, coadd))
            assert own.names == theirs.names
            assert own["TARGETID"].tolist() == theirs["TARGETID"].tolist()
        table = hdus["REDSHIFTS"].data
        assert table["TARGETID"].tolist() == own["TARGETID"].tolist() == [1403, 1001]
        assert hdus["REDSHIFTS"].header["TEMNAM01"] == "GALAXY:::spectromer"


def test_the_numbers_are_the_results(model, rr: Path) -> None:
    table = spectromer_cli.predict(COADD, model=model)
    assert table is not None
    rows = Table.read(rr, "REDSHIFTS")
    assert rows["SPECTYPE"].tolist() == table["class"].tolist() == ["GALAXY", "QSO"]
    assert np.all(np.ma.filled(rows["SUBTYPE"], "") == "")
    np.testing.assert_allclose(rows["Z"], table["z"])
    np.testing.assert_allclose(rows["ZERR"], table["z_err"])
    assert (rows["NCOEFF"] > POLYNOMIALS).all() and (rows["DELTACHI2"] > 9).all()
    assert rows["ZWARN"].tolist() == table["zwarn"].tolist()
    # χ² of the model that the coefficients make, pixel by pixel.
    for spectrum, row in zip(spectromer_cli.read(COADD), rows, strict=True):
        prepared = prepare(spectrum, model.grid)
        basis = model.bases[str(row["SPECTYPE"])]
        smooth = np.polynomial.legendre.legvander(np.linspace(-1, 1, GRID.n), POLYNOMIALS - 1).T
        design = np.concatenate([basis.at_redshift(row["Z"], model.grid), smooth])
        learned = replace(basis, vectors=basis.learned[None].astype(np.float32), counts=None)
        design[0, learned.at_redshift(row["Z"], model.grid)[0] < 0.999] = np.nan
        left = prepared.flux - row["COEFF"][: row["NCOEFF"]] @ design
        weight = np.where(np.isfinite(left), np.minimum(prepared.ivar, 1e4), 0.0)
        chi2 = float(np.sum(weight * np.nan_to_num(left) ** 2))
        assert row["CHI2"] == pytest.approx(chi2, rel=0.02)
        assert row["NPIXELS"] <= (prepared.ivar > 0).sum()


def test_doubts_keep_redrocks_bits_and_targets_their_numbers(model, tmp_path) -> None:
    noise = write_spec(tmp_path / "noise.fits", made(n=3500))
    broken = tmp_path / "broken.csv"
    broken.write_text("wavelength,flux\n")
    path = tmp_path / "rr.fits"
    spectromer_cli.predict(
        [STAR, noise, broken], model=model, output=path, format="redrock"
    )  # fmt: skip
    with fits.open(path) as hdus:
        assert "FIBERMAP" not in hdus
        star, strange, nothing = hdus["REDSHIFTS"].data
    assert star["TARGETID"] == 992 * 10**9 + 50000 * 10**4 + 1027  # as rrboss numbers them
    assert star["SPECTYPE"] == "STAR" and star["SUBTYPE"] == "K" and star["ZWARN"] == 0
    assert strange["ZWARN"] & (1 << 2) or strange["ZWARN"] & (1 << 17)
    assert nothing["ZWARN"] == 1 << 9 and nothing["SPECTYPE"] == "" and nothing["TARGETID"] == 2
    assert np.isnan(nothing["Z"]) and nothing["NPIXELS"] == 0 and not nothing["COEFF"].any()


def test_a_fibermap_has_a_row_for_every_spectrum(model, tmp_path) -> None:
    levels = 2.0 + np.sin(np.arange(7781) / 50.0)
    # Three exposures of two targets; the first exposure of one saw nothing.
    exposures = {"FIBERSTATUS": np.array([1 << 16, 0, 0]), "EXPID": np.arange(3)}
    write_desi(tmp_path / "spectra-1.fits", [7, 9, 7], [levels] * 3, fibermap=exposures)
    write_desi(tmp_path / "coadd-2.fits", [11], [levels], fibermap={"OTHER": np.ones(1)})
    path = tmp_path / "rr.fits"
    spectromer_cli.predict(tmp_path, model=model, output=path, format="redrock")
    with fits.open(path) as hdus:
        assert hdus["FIBERMAP"].data["TARGETID"].tolist() == [11, 7, 9]
        assert hdus["REDSHIFTS"].data["TARGETID"].tolist() == [11, 7, 9]
        assert "OTHER" not in hdus["FIBERMAP"].data.names  # not all files have it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "redrock"], "--format needs -o"),
        (["--format", "fancy", "-o", "rr.fits"], "choose from redrock"),
        (["--format", "redrock", "-o", "rr.csv"], "choose from .fits"),
        (["--save-pz", "pz.csv"], "choose from .fits .h5 .hdf5"),
        (["--save-pz", "a.fits", "-o", "a.fits"], "are the same file"),
        (["--save-pz", str(COADD)], "would be overwritten"),
    ],
)
def test_what_cannot_be_written_is_told_first(run: Run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("redshift", COADD, *arguments)
    assert result.code == 2 and message in result.err, result.err
    assert list(tmp_path.iterdir()) == []


def test_redrock_reads_it(model, rr: Path) -> None:
    """Its own classes evaluate the rows, and find none of its templates under our names."""
    templates = pytest.importorskip("redrock.templates", reason="redrock is not installed")
    header = fits.getheader(rr, "REDSHIFTS")
    with pytest.raises(OSError, match="unable to find"):
        templates.load_templates_from_header(header)
    table = Table.read(rr, "REDSHIFTS")
    table["SUBTYPE"] = np.ma.filled(table["SUBTYPE"], "")
    own = {}
    for name, basis in model.bases.items():
        wave = 10.0 ** (basis.loglam0 + model.grid.dloglam * np.arange(basis.vectors.shape[1]))
        own[name, ""] = templates.Template(
            spectype=name, redshifts=np.arange(3.0), wave=wave,
            flux=basis.vectors.astype(np.float64), subtype="",
        )  # fmt: skip
    line = np.linspace(-1.0, 1.0, model.grid.n)
    smooth = np.polynomial.legendre.legvander(line, POLYNOMIALS - 1).T
    for i, spectrum in enumerate(spectromer_cli.read(COADD)):
        row, basis = table[i], model.bases[table["SPECTYPE"][i]]
        found = best_fit(prepare(spectrum, model.grid), basis, model.grid, row["Z"])
        assert found is not None
        reach = np.flatnonzero(np.isfinite(basis.at_redshift(row["Z"], model.grid)[0]))
        here = slice(reach[0] + 5, reach[-1] - 5)
        evaluated = templates.eval_model(
            table[i : i + 1], model.grid.wavelength[here], R=[None], templates=own
        )[0]
        own_smooth = row["COEFF"][row["NCOEFF"] - POLYNOMIALS : row["NCOEFF"]] @ smooth
        expected = found.model[here]
        use = np.isfinite(expected)
        # It averages over pixels where we interpolate: lines differ a little.
        left = np.abs(evaluated + own_smooth[here] - expected)[use]
        assert use.sum() > 1000 and np.median(left) < 0.01 * np.median(np.abs(expected[use]))


# In full --------------------------------------------------------------------------------------


def test_pz_chi2_and_models_with_their_grids(model, tmp_path) -> None:
    table = spectromer_cli.predict([COADD, STAR], model=model, save_pz=tmp_path / "pz.fits")
    assert table is not None
    with fits.open(tmp_path / "pz.fits") as hdus:
        hdus.verify("exception")
        rows = hdus["PZ"].data
        z, wavelength = hdus["PZ_Z"].data, hdus["WAVELENGTH"].data
        assert hdus["WAVELENGTH"].header["BUNIT"] == "Angstrom"
        np.testing.assert_allclose(rows["z"], table["z"])
        np.testing.assert_allclose(rows["pz"].sum(axis=1), 1.0, atol=1e-4)
        best = z[rows["pz"].argmax(axis=1)]
        np.testing.assert_allclose(best, table["z"], atol=0.02)
        galaxy, quasar, star = range(3)
        for row, name in ((galaxy, "galaxy"), (quasar, "qso"), (star, "star")):
            grid, chi2 = hdus[f"CHI2_{name}_Z"].data, rows[f"chi2_{name}"][row]
            assert grid.shape == chi2.shape and np.all(np.diff(grid) > 0)
            assert grid[np.nanargmin(chi2)] == pytest.approx(table["z"][row], abs=0.003)
        # In the unit of the spectrum.
        spectra = [*spectromer_cli.read(COADD), *spectromer_cli.read(STAR)]
        for spectrum, own in zip(spectra, rows["model"], strict=True):
            flux = np.interp(wavelength, spectrum.wavelength, spectrum.flux)
            use = np.isfinite(own) & (flux != 0)
            assert np.median(own[use]) == pytest.approx(np.median(flux[use]), rel=0.1)
        assert set(rows["flux_unit"]) == {"1e-17 erg / (s cm2 Angstrom)"}


def test_hdf5_holds_the_same_as_fits(model, tmp_path, run: Run) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("wavelength,flux\n")
    for name in ("pz.h5", "pz.fits"):
        spectromer_cli.predict([COADD, broken], model=model, save_pz=tmp_path / name, batch_size=2)
    with h5py.File(tmp_path / "pz.h5") as file, fits.open(tmp_path / "pz.fits") as hdus:
        assert file.attrs["weights"] == model.weights.name
        assert file["pz"].attrs["ucd"] == "stat.probability;src.redshift"
        assert file["wavelength"].attrs["unit"] == "Angstrom"
        np.testing.assert_array_equal(file["pz_z"][:], hdus["PZ_Z"].data)
        for name in ("pz", "model", "chi2_qso", "z"):
            np.testing.assert_array_equal(file[name][:], hdus["PZ"].data[name])
            assert np.isnan(file[name][2]).all()
        assert file["class"].asstr()[:].tolist() == ["GALAXY", "QSO", ""]
        assert file["targetid"][:].tolist() == [1403, 1001, -1]


def test_a_model_of_ones_own_may_lack_what_is_asked(tmp_path, run: Run, random_weights) -> None:
    # Random weights have no templates: p(z) alone.
    spectromer_cli.predict(
        COADD, model=str(random_weights), save_pz=tmp_path / "pz.h5", output=tmp_path / "z.csv"
    )
    with h5py.File(tmp_path / "pz.h5") as file:
        assert "chi2_star" not in file and np.isnan(file["model"][:]).all()
        np.testing.assert_allclose(file["pz"][:].sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize("options", [["-o", "rr.fits", "--format", "redrock"], ["-o", "z.csv"]])
@pytest.mark.parametrize("name", ["pz.fits", "pz.h5"])
def test_what_was_interrupted_is_resumed_with_it(
    run: Run, tmp_path, monkeypatch, options, name
) -> None:
    monkeypatch.chdir(tmp_path)
    files = sorted(map(str, EXAMPLES.glob("*.fits")))
    arguments = ["redshift", *files, "--batch-size", "2", *options, "--save-pz", name]
    original, left = Spectromer.predictions, 2

    def predictions(self, *args, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return original(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Spectromer, "predictions", predictions)
        assert run(*arguments).code == 130
    kept = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}.spectromer-part", f"{options[1]}.spectromer-part"} <= kept
    assert run(*arguments[:-2], "--resume").code == 2  # without the other file
    done = run(*arguments, "--resume")
    assert done.code == 0, done.err
    assert not list(tmp_path.glob("*spectromer*"))
    spectromer_cli.predict(files, batch_size=2, device="cpu", save_pz=tmp_path / "whole.h5")
    with h5py.File("whole.h5") as whole:
        if name.endswith("h5"):
            with h5py.File(name) as file:
                found, z = file["pz"][:], file["z"][:]
        else:
            found, z = fits.getdata(name, "PZ")["pz"], fits.getdata(name, "PZ")["z"]
        np.testing.assert_allclose(found, whole["pz"][:], atol=1e-4)
        np.testing.assert_allclose(z, whole["z"][:], atol=1e-5)
