"""From files to rows: order, bad spectra, worker processes, catalogues, and the Python API."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table, vstack
from conftest import EXAMPLES, Run, emission_galaxy

import spectromer_cli
from spectromer_cli.errors import SomeInputsFailed, UsageError, WeightsNotVerified
from spectromer_cli.inference import predictor
from spectromer_cli.inference.columns import (
    CLASSIFY_COLUMNS,
    REDSHIFT_COLUMNS,
    TAIL,
    classify_columns,
    fill,
    table_of,
    with_catalogue,
)
from spectromer_cli.inference.run import predict_targets
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model import device as devices
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.decoding import RedshiftPrediction
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.prior import prior_of
from spectromer_cli.model.template_fit import Refined
from spectromer_cli.model.zwarn import OF_REDSHIFT, SURE_Z_PROB, ZWarn, doubts
from spectromer_cli.spectra import loading
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum
from spectromer_cli.weights.save import write_weights

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
    assert table["class"][1] is np.ma.masked
    assert table["flags"][1].startswith("UNREADABLE: every pixel is masked")
    assert table["zwarn"][1] == ZWarn.NODATA
    assert table["z"][1] is np.ma.masked
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
    assert table["class"].tolist()[0] is None
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


def test_what_the_catalogue_says_never_reaches_the_model(model) -> None:
    known, unknown = emission_galaxy(0.1), emission_galaxy(0.1)
    known.meta |= {"survey_class": "QSO", "survey_z": 5.0, "survey_subclass": "BROADLINE"}
    labelled, without = model.predict([known]), model.predict([unknown])
    assert str(list(labelled[0])) == str(list(without[0]))  # as text, where NaN equals NaN


def test_files_keep_their_order_with_and_without_workers(model, tmp_path) -> None:
    targets = []
    for i in range(6):
        targets.append(Target(write_csv(tmp_path / f"{i}.csv", 0.03 * i), catalogue_row=i))
    (tmp_path / "broken.csv").write_bytes(b"")
    targets.insert(2, Target(tmp_path / "broken.csv"))
    targets.insert(4, Target(Path("missing"), problem="it is not there"))
    results = {}
    for workers in (0, 2):
        parts = list(
            predict_targets(model, targets, options=OPTIONS, batch_size=3, workers=workers)
        )
        items = [item for part, _ in parts for item in part]
        assert [item.file for item in items] == [str(target.path) for target in targets]
        assert [item.catalogue_row for item in items] == [0, 1, None, 2, None, 3, 4, 5]
        results[workers] = np.concatenate([np.asarray(table["p_star"]) for _, table in parts])
    np.testing.assert_allclose(results[0], results[2], rtol=1e-6)
    assert np.isnan(results[0]).tolist() == [False, False, True, False, True, False, False, False]


@pytest.fixture
def known(model) -> predictor.Known:
    """The model as the run knows it while other processes load it."""
    return predictor.Known(model.weights, "cpu")


def many_spectra(folder: Path) -> list[Target]:
    """Files of one spectrum and of more than a piece, some without any."""
    (folder / "broken.csv").write_bytes(b"")
    wavelength = emission_galaxy(0.1).wavelength
    flux = [emission_galaxy(0.005 * i, seed=i).flux for i in range(40)]
    Table({"wavelength": [wavelength] * 40, "flux": flux}).write(folder / "many.fits")
    return [
        Target(write_csv(folder / "first.csv", 0.2)),
        Target(folder / "broken.csv"),
        Target(folder / "many.fits"),
        Target(Path("missing"), problem="it is not there"),
        Target(write_csv(folder / "last.csv", 0.1)),
    ]


def test_other_processes_predict_the_same(model, known, tmp_path) -> None:
    targets = many_spectra(tmp_path)
    parts = {}
    for one, workers in ((model, 0), (known, 2)):
        found = list(predict_targets(one, targets, options=OPTIONS, workers=workers, batch_size=16))
        items, tables = zip(*found, strict=True)
        assert [len(batch) for batch in items] == [16, 16, 12]
        assert [[item.target for item in batch] for batch in items] == [
            [0, 1, *[2] * 14], [2] * 16, [*[2] * 10, 3, 4],
        ]  # fmt: skip
        parts[workers] = vstack(tables)
    here, there = parts[0], parts[2]
    assert here.colnames == there.colnames
    assert there["row"].tolist() == [0, 0, *range(40), 0, 0]
    assert there["z"].mask.nonzero()[0].tolist() == [1, 42]
    for name in here.colnames:
        if here[name].dtype.kind == "f":
            np.testing.assert_allclose(
                here[name].filled(np.nan), there[name].filled(np.nan), rtol=1e-4, atol=1e-6
            )
        else:
            assert here[name].tolist() == there[name].tolist()


def test_other_processes_predict_with_what_is_known_beforehand(known, tmp_path) -> None:
    targets = [Target(write_csv(tmp_path / "a.csv"))]
    prior = prior_of("qso", (0.5, 0.6), None)
    ((_, table),) = predict_targets(
        known, targets, options=OPTIONS, workers=1, refined=False, prior=prior
    )
    assert table["class"].tolist() == ["QSO"]
    assert 0.5 <= table["z"][0] <= 0.6
    assert table["chi2_nu"].mask.all()


def test_other_processes_verify_the_weights(known, tmp_path) -> None:
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(known.weights.path.read_bytes() + b"\n")
    known.weights = replace(known.weights, path=changed)
    targets = [Target(write_csv(tmp_path / "a.csv"))]
    with pytest.raises(WeightsNotVerified, match="changed"):
        list(predict_targets(known, targets, options=OPTIONS, workers=1))


def test_a_run_of_many_loads_no_model_here(
    run: Run, weights: list[str], monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(predictor.Spectromer, "__init__", None)
    paths = [write_csv(tmp_path / f"{i}.csv", 0.1 * i) for i in range(3)]
    found = run("redshift", *paths, *weights, "--device", "cpu", "--workers", 1, "--json")
    assert found.code == 0
    assert [Path(row["file"]).name for row in json.loads(found.out)["rows"]] == [
        "0.csv", "1.csv", "2.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "there", "surely"),
    [("cpu", True, True), ("cuda", False, False), ("auto", True, False), ("auto", False, True)],
)
def test_a_cpu_without_asking_torch(monkeypatch, tmp_path, device, there, surely) -> None:
    path = tmp_path / "gpu"
    if there:
        path.touch()
    monkeypatch.setattr(devices, "GPU_FILES", (str(path),))
    monkeypatch.setattr(sys, "platform", "linux")
    assert devices.is_surely_cpu(device) is surely


@pytest.mark.parametrize(
    ("name", "device", "amx", "precision"),
    [
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("auto", "cuda:1", True, "fp32"),
        ("fp32", "cpu", True, "fp32"),
        ("bf16", "cpu", True, "bf16"),
        ("bf16", "cpu", False, "no instructions"),
        ("bf16", "mps", True, "no instructions"),
        ("half", "cpu", True, "invalid --precision 'half'"),
    ],
)
def test_the_precision_is_one_that_the_device_has(monkeypatch, name, device, amx, precision):
    monkeypatch.setattr(devices, "_has_amx", lambda: amx)
    if " " not in precision:
        assert devices.choose_precision(name, device) == precision
        return
    with pytest.raises(UsageError, match=precision):
        devices.choose_precision(name, device)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_bf16_is_near_single_precision_in_any_batch(random_weights, monkeypatch, threads) -> None:
    monkeypatch.setattr(devices, "_has_amx", lambda: True)  # it works without, if slowly
    spectra = [emission_galaxy(0.02 * i, seed=i) for i in range(35)]
    names = ("p_star", "teff", "z", "z_prob", "outlier_score")

    def predicted(precision: str, count: int, number: int) -> Table:
        threads(number)
        model = spectromer_cli.load_model(str(random_weights), "cpu", precision)
        table = model.predict(spectra[:count])
        assert torch.get_num_threads() == number
        return table

    fp32, bf16, alone = predicted("fp32", 35, 2), predicted("bf16", 35, 3), predicted("bf16", 1, 1)
    assert fp32.meta["precision"] == "fp32"
    assert bf16.meta["precision"] == "bf16"
    for name in names[:1]:
        assert 0.0 < np.abs(fp32[name] - bf16[name]).max() < 0.05
    for name in names:
        np.testing.assert_allclose(alone[name].filled(-1)[0], bf16[name].filled(-1)[0], rtol=1e-5)


def test_a_file_of_many_is_read_in_pieces(model, monkeypatch) -> None:
    reads = []
    original = loading._load

    def load(piece, grid, options):
        items, count = original(piece, grid, options)
        reads.append((piece.start, len(items)))
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
    assert "no number 7" in table["flags"][1]


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
    joined = with_catalogue(table[["file", "z"]], catalogue[[item.catalogue_row for item in items]])
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
    output = np.array([[5800.0, 90.0], [9000.0, 1000.0], [5000.0, 50.0]])
    fill(columns, np.arange(3), tasks.Quantity("teff"), output)
    np.testing.assert_array_equal(columns["teff"], [5800.0, np.nan, np.nan])
    np.testing.assert_array_equal(columns["teff_err"], [90.0, np.nan, np.nan])


def test_flags_say_what_is_doubtful(model) -> None:
    spectrum = emission_galaxy(0.1, sn=1.0)
    spectrum.ivar[:2400] = 0.0
    spectrum.meta["has_ivar"] = False
    table = model.predict([spectrum])
    words = table["flags"][0].split(";")
    assert words[:3] == ["LOW_SN", "LITTLE_COVERAGE", "ERRORS_ESTIMATED"]
    assert set(words[3:]) <= {"VELOCITY_UNCERTAIN", *(str(bit.name) for bit in ZWarn)}
    assert len(set(words)) == len(words)


def test_little_coverage_is_no_doubt_about_the_redshift() -> None:
    spectrum = emission_galaxy(0.1)
    spectrum.ivar[spectrum.wavelength > 6100.0] = 0.0
    table = spectromer_cli.load_model(device="cpu").predict([spectrum])
    assert "LITTLE_COVERAGE" in table["flags"][0].split(";")
    assert not table["zwarn"][0] & 2  # reserved: bit 1 of SDSS
    assert 2 not in [int(bit) for bit in ZWarn]


def test_flags_name_every_bit_of_zwarn(model, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    low = emission_galaxy(0.3, sn=0.5)
    (tmp_path / "broken.csv").write_text("wavelength,flux\n")
    Table({"wavelength": low.wavelength, "flux": low.flux, "ivar": low.ivar}).write(
        tmp_path / "b.csv"
    )
    files = sorted(tmp_path.glob("*.csv"))
    seen = ZWarn(0)
    redshifts = spectromer_cli.predict(files, model=model, columns="redshift")
    classes = spectromer_cli.predict(files, model=model, columns="classify")
    assert redshifts is not None and classes is not None
    for row, classified in zip(redshifts, classes, strict=True):
        bits = ZWarn(int(row["zwarn"]))
        words = str(row["flags"]).split(";")
        # LOW_SN is a word about the input too, whether or not the redshift is doubted for it.
        named = {bit.name for bit in ZWarn} & set(words)
        assert {bit.name for bit in bits} | {"LOW_SN"} == named | {"LOW_SN"}
        # A table without redshifts has no doubts about them, and the same others.
        left = [word for word in words if word not in {bit.name for bit in OF_REDSHIFT}]
        left = [word for word in left if word != "VELOCITY_UNCERTAIN"]
        assert classified["flags"] == ";".join(left)
        seen |= bits
    assert seen & OF_REDSHIFT and seen & ZWarn.NODATA and seen & ZWarn.LOW_SN


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
    found = Refined(*map(np.array, ([0.1], [1e-4], [[1e-4, 0.0]], [delta_chi2], [1.0], [False])))
    monkeypatch.setattr(predictor, "refine", lambda *_: found)
    table = model.predict([emission_galaxy(0.1)])
    assert table["z_prob"][0] > 0.8
    if table["z_prob"][0] >= SURE_Z_PROB:
        bits = ZWarn(0)
    both = ZWarn.AMBIGUOUS | ZWarn.TEMPLATES_DISAGREE
    assert ZWarn(int(table["zwarn"][0])) & both == bits


def test_every_doubt_has_its_bit() -> None:
    n = 8
    found = RedshiftPrediction(
        z=np.full(n, 0.1), z_err=np.full(n, 1e-4), z_prob=np.full(n, 0.95),
        alt_z=np.full((n, 5), np.nan), alt_prob=np.full((n, 5), np.nan),
        at_edge=np.arange(n) == 1, delta_chi2=np.full(n, np.nan), chi2_nu=np.ones(n),
    )  # fmt: skip
    sn_median, novelty = np.full(n, 20.0), np.full(n, np.nan)
    found.z_prob[2], found.delta_chi2[3], found.delta_chi2[4] = 0.7, 5.0, -1.0
    # p(z) is sure, at whatever χ² and S/N
    found.z_prob[0], found.delta_chi2[0], sn_median[0] = 0.995, -1.0, 1.0
    sn_median[5], novelty[6], found.z_prob[7] = np.nan, 1.1, 0.85
    bits = doubts(found, sn_median=sn_median, novelty=novelty, min_z_prob=0.9)
    assert [ZWarn(int(value)) for value in bits] == [
        ZWarn(0), ZWarn.Z_FITLIMIT, ZWarn.AMBIGUOUS | ZWarn.BELOW_CUT, ZWarn.AMBIGUOUS,
        ZWarn.AMBIGUOUS | ZWarn.TEMPLATES_DISAGREE, ZWarn.LOW_SN, ZWarn.OUT_OF_DOMAIN,
        ZWarn.BELOW_CUT,
    ]  # fmt: skip
    # Where the errors are doubtful, p(z) is not sure.
    bits = doubts(found, sn_median=sn_median, novelty=novelty, errors_doubtful=np.arange(n) == 0)
    assert bits[0] == ZWarn.AMBIGUOUS | ZWarn.TEMPLATES_DISAGREE | ZWarn.LOW_SN


def test_a_velocity_known_badly_is_flagged() -> None:
    model = spectromer_cli.load_model(device="cpu")
    items = [loading.item_of(emission_galaxy(0.0), "", i, model.grid) for i in range(3)]
    found = model.predictions(items)
    found.outputs["class"][:] = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    found.redshift.z_err[:] = np.array([20.0, 80.0, 80.0]) / LIGHT_SPEED
    table = table_of(items, found, model.tasks)
    assert table["class"].tolist() == ["STAR", "STAR", "GALAXY"]
    said = ["VELOCITY_UNCERTAIN" in words.split(";") for words in table["flags"]]
    assert said == [False, True, False]
    assert len(set(table["zwarn"])) == 1


# Models with tasks of one's own ---------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path):
    """A model with random weights and these tasks."""
    import torch

    def made(known: list[tasks.Task]) -> predictor.Spectromer:
        torch.manual_seed(0)
        config = ModelConfig(
            backbone="vit_tiny_patch16_224", image="tiles", tokens=3, grid=Grid(),
            tasks=[tasks.to_dict(task) for task in known],
        )  # fmt: skip
        extra = {"licence": "none", "description": "random", "trained_on": "nothing"}
        write_weights(tmp_path, "own.v0", SpectralViT(config).state_dict(), config, extra)
        return spectromer_cli.load_model(str(tmp_path), device="cpu")

    return made


def general(**own: tasks.Task) -> list[tasks.Task]:
    """The general tasks, some of them replaced."""
    return [own.get(task.name, task) for task in tasks.default_tasks()]


SPECTRA = [emission_galaxy(0.1, seed=i) for i in range(3)]


def test_further_tasks_stand_beside_the_general_ones(made) -> None:
    grade, age = tasks.Category("grade", ("good", "bad")), tasks.Quantity("age", 5.0, 2.0)
    model = made([grade, *general(), age])
    names = classify_columns(model.tasks)
    head = CLASSIFY_COLUMNS[: -len(TAIL)]
    assert names == (*head, "grade", "grade_prob", "age", "age_err", *TAIL)
    table = model.predict(SPECTRA)
    assert set(table.colnames) == {*names, *REDSHIFT_COLUMNS}
    assert set(table["grade"]) <= {"good", "bad"}
    assert (table["grade_prob"] >= 0.5).all()
    assert np.isfinite(table["age"]).all() and (table["age_err"] > 0).all()
    assert set(table["class"]) <= set(taxonomy.CLASSES)
    assert np.isfinite(table["z"]).all()


def test_labels_of_ones_own_beside_the_general_subclass(made) -> None:
    scheme = tasks.Category("class", ("QSO", "supernova", "nova"))
    model = made(general(**{"class": scheme}))
    logits = model.network.logits

    def decided(features):
        found = logits(features)
        found["class"][:] = 0.0
        for row in range(3):
            found["class"][row, row] = 9.0
        return found

    model.network.logits = decided
    table = model.predict(SPECTRA)
    assert table["class"].tolist() == ["QSO", "supernova", "nova"]
    assert {"class_prob", "p_qso", "p_supernova", "p_nova"} <= set(table.colnames)
    # Subclasses of ours are of QSO only.
    assert table["subclass"][0] in taxonomy.QSO_TYPES
    assert table["subclass"].tolist()[1:] == [None, None]
    assert table["star_type"].tolist() == [None, None, None]
    for name in ("teff", "logg", "feh", "z", "z_prob"):
        assert np.isfinite(table[name]).all(), name


def test_no_task_overwrites_what_the_table_says_of_the_file(made) -> None:
    survey = tasks.Category("survey", ("ours", "theirs"))
    table = made([*general(), survey, tasks.Quantity("z_err")]).predict(SPECTRA)
    assert table["survey"].tolist() == [None, None, None]
    assert set(table["predicted_survey"]) <= {"ours", "theirs"}
    assert np.isfinite(table["predicted_z_err"]).all()
    assert (table["z_err"] > 0).all()


def test_subclasses_and_types_without_a_class(made) -> None:
    subclass = next(task for task in tasks.default_tasks() if task.name == "subclass")
    star_type = next(task for task in tasks.default_tasks() if task.name == "star_type")
    table = made([subclass, star_type]).predict(SPECTRA)
    assert set(table["subclass"]) <= set(taxonomy.SUBCLASSES)
    spaced = tasks.Category("subclass", ("red giant", "white dwarf"))
    table = made([spaced, star_type]).predict(SPECTRA)
    assert set(table["subclass"]) <= set(spaced.labels)
    table = made([star_type]).predict(SPECTRA)
    assert set(table["star_type"]) <= set(taxonomy.SEQUENCE)


@pytest.mark.parametrize(
    ("known", "command", "message"),
    [
        ([tasks.Redshift()], "classify", "predict redshifts only"),
        ([tasks.Quantity("age")], "redshift", "predict no redshift, only age"),
    ],
)
def test_a_command_that_the_model_cannot_obey(made, tmp_path, known, command, message) -> None:
    made(known)
    with pytest.raises(UsageError, match=message):
        spectromer_cli.predict(EXAMPLES, columns=command, model=str(tmp_path), device="cpu")


# From Python ----------------------------------------------------------------------------------

GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"


def test_predict_is_what_the_command_does(run: Run, tmp_path) -> None:
    output = tmp_path / "z.csv"
    assert run("redshift", GALAXY, EXAMPLES / "*-star.fits", "-o", output).code == 0
    table = spectromer_cli.predict([GALAXY, str(EXAMPLES / "*-star.fits")], columns="redshift")
    again = tmp_path / "again.csv"
    table.write(again)
    there, here = (Table.read(path, format="ascii.csv") for path in (output, again))
    assert there.colnames == here.colnames == list(REDSHIFT_COLUMNS)
    assert there["z"].tolist() == here["z"].tolist()
    assert there["zwarn"].tolist() == here["zwarn"].tolist()
    assert table.meta["weights"] == "spectromer-tiny.v4"
    assert set(table.meta) == {
        "version", "weights", "sha256", "image", "device", "precision", "date", "command",
    }  # fmt: skip


def test_a_catalogue_read_in_pieces_gives_the_same_table(
    run: Run, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        write_csv(tmp_path / f"{i}.csv", 0.1 * i)
    lines = [f"{i % 3}.csv,{15 * i}.5,{-i},{i},'x{i}'" for i in range(7)]
    lines.insert(4, "missing.csv,1,2,3,")
    catalogue = tmp_path / "targets.cat.csv"
    catalogue.write_text("\n".join(["file,ra,dec,z,note", *lines, ""]))
    outputs = []
    for name in ("whole", "pieces"):
        if name == "pieces":
            for setting, value in {"LONG_BYTES": 0, "PIECE_BYTES": 64}.items():
                monkeypatch.setattr(f"spectromer_cli.spectra.catalogues.{setting}", value)
        output = tmp_path / f"{name}.jsonl"
        result = run(
            "redshift", "--catalog", catalogue, "--model", random_weights, "--batch-size", 3,
            "-o", output,
        )  # fmt: skip
        assert result.code == 3, result.err
        outputs.append(output.read_text().splitlines()[-8:])
    assert outputs[0] == outputs[1]
    rows = [json.loads(line) for line in outputs[1]]
    assert [row["cat_z"] for row in rows] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert [row["ra"] for row in rows][:3] == [0.5, 15.5, 30.5]
    assert rows[1]["note"] == "'x1'" and rows[4]["flags"].startswith("UNREADABLE")


def test_predict_knows_all_columns_and_the_catalogue(model) -> None:
    inputs = spectromer_cli.Inputs(catalog=str(EXAMPLES / "targets.csv"))
    table = spectromer_cli.predict(inputs, model=model, batch_size=2)
    assert len(table) == 3
    assert {*CLASSIFY_COLUMNS, *REDSHIFT_COLUMNS, "priority"} <= set(table.colnames)
    assert table["priority"].tolist() == [2, 1, 3]


def test_predict_writes_and_resumes(model, tmp_path, capsys) -> None:
    output = tmp_path / "all.csv"
    assert spectromer_cli.predict(GALAXY, model=model, output=output, resume=True) is None
    assert "nothing to resume: starting from the beginning" in capsys.readouterr().err
    assert len(Table.read(output, format="ascii.csv")) == 1
    assert not list(tmp_path.glob("*spectromer*"))


def test_a_bad_file_is_a_row_from_python_too(model, tmp_path) -> None:
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"")
    table = spectromer_cli.predict([bad, GALAXY], model=model)
    assert table["flags"][0].startswith("UNREADABLE")
    assert table["class"][1] != ""


def test_the_cut_is_the_runs_and_not_the_models(model) -> None:
    loaded = spectromer_cli.load_model(device="cpu")
    files = sorted(EXAMPLES.glob("*.fits"))
    rate = min(loaded.config.confidence["rate"])
    marked = spectromer_cli.predict(files, model=loaded, refined=False, max_outlier_rate=rate)
    cut = max(
        cut
        for cut, limit in zip(
            loaded.config.confidence["cut"], loaded.config.confidence["rate"], strict=True
        )
        if limit == rate
    )
    below = (marked["zwarn"] & int(ZWarn.BELOW_CUT)) > 0
    assert below.tolist() == (marked["z_prob"] < np.float32(cut)).tolist()
    plain = spectromer_cli.predict(files, model=loaded, refined=False)
    assert not (plain["zwarn"] & int(ZWarn.BELOW_CUT)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "everything"}, "invalid columns"),
        ({"batch_size": 0}, "invalid batch size"),
        ({"output": "z.xlsx"}, "unknown suffix"),
        ({"resume": True}, "--resume needs -o"),
        ({"model": "no-such-weights"}, "no-such-weights"),
    ],
)
def test_wrong_arguments_are_told_before_any_work(arguments, message) -> None:
    with pytest.raises(UsageError, match=message):
        spectromer_cli.predict(GALAXY, **arguments)


def test_no_spectrum_at_all_is_an_error(model, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("cloudy\n")
    with pytest.raises(SomeInputsFailed, match="contains a spectrum"):
        spectromer_cli.predict(tmp_path, model=model)
