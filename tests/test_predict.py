"""From files to rows: order, bad spectra, worker processes, catalogues, and the Python API."""

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from conftest import EXAMPLES, emission_galaxy

import spectromer_cli
from spectromer_cli.inference import predictor
from spectromer_cli.inference.columns import (
    CLASSIFY_COLUMNS,
    REDSHIFT_COLUMNS,
    fill,
    with_catalogue,
)
from spectromer_cli.inference.run import predict_targets
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.template_fit import Refined
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.spectra import loading
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum

OPTIONS = ReadOptions()


@pytest.fixture(scope="module")
def model(random_weights: Path) -> predictor.Spectromer:
    return spectromer_cli.load_model(str(random_weights), device="cpu")


def write_csv(path: Path, z: float = 0.1) -> Path:
    spectrum = emission_galaxy(z)
    error = 1 / np.sqrt(spectrum.ivar)
    Table({"wavelength": spectrum.wavelength, "flux": spectrum.flux, "error": error}).write(path)
    return path


def test_every_spectrum_has_its_row(model) -> None:
    blank = Spectrum(np.linspace(4000, 9000, 3000), np.ones(3000), np.zeros(3000))
    table = model.predict([emission_galaxy(0.1), blank, emission_galaxy(0.2)])
    assert len(table) == 3
    assert set(CLASSIFY_COLUMNS) | set(REDSHIFT_COLUMNS) == set(table.colnames)
    assert table["class"][0] in taxonomy.CLASSES
    assert table["class"][1] == ""
    assert table["flags"][1].startswith("UNREADABLE: every pixel is masked")
    assert table["zwarn"][1] == ZWarn.NODATA
    assert math.isnan(table["z"][1])
    total = table["p_star"] + table["p_galaxy"] + table["p_qso"]
    np.testing.assert_allclose(total[[0, 2]], 1.0, rtol=1e-6)
    assert table["sn_median"][0] == pytest.approx(30.0, rel=0.05)


def test_no_prediction_is_made_out_of_nan(model, monkeypatch) -> None:
    original = model._calibrated

    def spoilt(prepared):
        outputs, novelty = original(prepared)
        if len(prepared) == 2:
            outputs["z"][0] = np.nan
        return outputs, novelty

    monkeypatch.setattr(model, "_calibrated", spoilt)
    table = model.predict([emission_galaxy(0.1), emission_galaxy(0.2)])
    assert table["class"].tolist()[0] == ""
    assert table["zwarn"][0] == ZWarn.NODATA
    assert "not a number" in table["flags"][0]
    assert table["class"][1] in taxonomy.CLASSES


def test_no_spectra_give_an_empty_table(model) -> None:
    table = model.predict([])
    assert len(table) == 0
    assert set(REDSHIFT_COLUMNS) <= set(table.colnames)


def test_the_prediction_does_not_depend_on_the_batch(model) -> None:
    spectra = [emission_galaxy(0.05 * i, seed=i) for i in range(5)]
    one, five = model.predict(spectra, batch_size=1), model.predict(spectra, batch_size=5)
    np.testing.assert_allclose(one["p_star"], five["p_star"], rtol=1e-3)
    np.testing.assert_allclose(one["z_prob"], five["z_prob"], rtol=1e-3)


def test_the_catalogues_answer_never_reaches_the_model(model) -> None:
    known, unknown = emission_galaxy(0.1), emission_galaxy(0.1)
    known.meta |= {"survey_class": "QSO", "survey_z": 5.0, "survey_subclass": "BROADLINE"}
    with_answer, without = model.predict([known]), model.predict([unknown])
    assert str(list(with_answer[0])) == str(list(without[0]))  # as text, where NaN equals NaN


def test_files_keep_their_order_with_and_without_workers(model, tmp_path) -> None:
    targets = []
    for i in range(6):
        targets.append(Target(write_csv(tmp_path / f"{i}.csv", 0.03 * i), catalogue_row=i))
    (tmp_path / "broken.csv").write_bytes(b"")
    targets.insert(2, Target(tmp_path / "broken.csv"))
    targets.insert(4, Target(Path("missing"), problem="it is not there"))
    results = {}
    for workers in (0, 2):
        parts = list(predict_targets(model, targets, options=OPTIONS, batch_size=3, workers=workers))
        items = [item for part, _ in parts for item in part]
        assert [item.file for item in items] == [str(target.path) for target in targets]
        assert [item.catalogue_row for item in items] == [0, 1, None, 2, None, 3, 4, 5]
        results[workers] = np.concatenate([table["p_star"] for _, table in parts])
    np.testing.assert_allclose(results[0], results[2], rtol=1e-6)
    assert np.isnan(results[0]).tolist() == [False, False, True, False, True, False, False, False]


def test_a_file_of_many_is_read_in_pieces(model, monkeypatch) -> None:
    reads = []
    original = loading._load

    def load(unit, start, grid, options):
        items, count = original(unit, start, grid, options)
        reads.append((start, len(items)))
        return items, count

    monkeypatch.setattr(loading, "_load", load)
    monkeypatch.setattr(loading, "PIECE", 1)
    targets = [Target(EXAMPLES / "simulated-desi-coadd.fits")]
    ((items, table),) = predict_targets(model, targets, options=OPTIONS, workers=0)
    assert reads == [(0, 1), (1, 1)]
    assert table["row"].tolist() == [0, 1]
    assert len({item.meta["object_id"] for item in items}) == 2


def test_one_of_many_by_its_number(model) -> None:
    path = EXAMPLES / "simulated-desi-coadd.fits"
    targets = [Target(path, row=1), Target(path, row=7)]
    ((_, table),) = predict_targets(model, targets, options=OPTIONS)
    assert table["row"].tolist() == [1, 7]
    assert table["class"][0] != ""
    assert "there is no 7" in table["flags"][1]


def test_a_file_named_many_times_in_a_row_is_opened_once(model, monkeypatch) -> None:
    opened = []
    original = loading.open_spectra

    def count(path, options):
        opened.append(path.name)
        return original(path, options)

    monkeypatch.setattr(loading, "open_spectra", count)
    many, other = EXAMPLES / "simulated-desi-coadd.fits", EXAMPLES / "simulated-sdss-star.fits"
    targets = [Target(many, 1), Target(many, 0), Target(many, 7), Target(other), Target(many, 1)]
    items = list(loading.load_all(targets, OPTIONS))
    assert opened == [many.name, other.name, many.name]
    assert [(item.target, item.row) for item in items] == [(0, 1), (1, 0), (2, 7), (3, 0), (4, 1)]
    assert [item.spectrum is not None for item in items] == [True, True, False, True, True]
    assert all(item.prepared is None for item in items)


def test_what_holds_no_spectrum_is_skipped_in_a_folder_only(model, tmp_path) -> None:
    page = tmp_path / "notes.txt"
    page.write_text("a few words about the night\n")
    found, named = Target(page, found_in_folder=True), Target(page)
    assert list(predict_targets(model, [found], options=OPTIONS)) == []
    ((_, table),) = predict_targets(model, [named], options=OPTIONS)
    assert table["flags"][0].startswith("UNREADABLE")


def test_catalogue_columns_come_through(model, tmp_path) -> None:
    path = write_csv(tmp_path / "a.csv")
    targets = [Target(path, catalogue_row=1), Target(path, catalogue_row=0)]
    ((items, table),) = predict_targets(model, targets, options=OPTIONS)
    catalogue = Table({"name": ["first", "second"], "z": [7.0, 8.0], "cat_z": [1, 2]})
    joined = with_catalogue(table[["file", "z"]], items, catalogue)
    assert joined.colnames == ["file", "z", "name", "cat_z", "cat_cat_z"]
    assert joined["name"].tolist() == ["second", "first"]
    assert joined["cat_z"].tolist() == [8.0, 7.0]
    assert joined["cat_cat_z"].tolist() == [2, 1]


def test_parameters_are_for_stars_that_had_labels() -> None:
    columns = {
        "class": np.array(["STAR", "STAR", "GALAXY"], dtype=object),
        "subclass": np.array(["G", "WD", "AGN"], dtype=object),
        "p_star": np.array([1.0, 1.0, 0.0]),
        "teff": np.full(3, np.nan),
        "teff_err": np.full(3, np.nan),
    }
    answer = np.array([[5800.0, 90.0], [9000.0, 1000.0], [5000.0, 50.0]])
    fill(columns, np.arange(3), tasks.Quantity("teff"), answer)
    np.testing.assert_array_equal(columns["teff"], [5800.0, np.nan, np.nan])
    np.testing.assert_array_equal(columns["teff_err"], [90.0, np.nan, np.nan])


def test_flags_say_what_is_doubtful(model) -> None:
    spectrum = emission_galaxy(0.1, sn=1.0)
    spectrum.ivar[:2400] = 0.0
    spectrum.meta["has_ivar"] = False
    table = model.predict([spectrum])
    assert table["flags"][0] == "LOW_SN;LITTLE_COVERAGE;ERRORS_ESTIMATED"
    assert table["zwarn"][0] & ZWarn.LITTLE_COVERAGE
    assert table["zwarn"][0] & ZWarn.LOW_SN


@pytest.mark.parametrize(
    ("delta_chi2", "bits"),
    [
        (-1.0, ZWarn.AMBIGUOUS | ZWarn.TEMPLATES_DISAGREE),
        (8.9, ZWarn.AMBIGUOUS),
        (9.1, ZWarn(0)),
        (np.nan, ZWarn(0)),
    ],
)
def test_templates_that_fit_an_alternative_as_well(
    monkeypatch: pytest.MonkeyPatch, delta_chi2: float, bits: ZWarn
) -> None:
    model = spectromer_cli.load_model(device="cpu")
    found = Refined(*map(np.array, ([0.1], [1e-4], [[1e-4, 0.0]], [delta_chi2])))
    monkeypatch.setattr(predictor, "refine", lambda *_: found)
    table = model.predict([emission_galaxy(0.1)])
    assert table["z_prob"][0] > 0.8
    both = ZWarn.AMBIGUOUS | ZWarn.TEMPLATES_DISAGREE
    assert ZWarn(int(table["zwarn"][0])) & both == bits
