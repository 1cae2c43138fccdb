"""Held-out sets and baselines: what is parted, learned, kept and asked."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from conftest import Run
from small_set import write_labelled

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.evaluation import baselines, held_out
from spectromer_cli.evaluation.baselines import svm_rf
from spectromer_cli.evaluation.held_out import HeldOut
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import dataset, targets
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.targets import Target

GRID = Grid(3.5560, 1e-4, 4608)
TINY = {
    "patch": 192, "step": 192, "width": 32, "layers": 1, "heads": 2, "batch_size": 16,
    "learning_rate": 2e-3, "weight_decay": 0.0, "warmup": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("data") / "real.h5", 120)


@pytest.fixture
def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    pca = {"n_components": [10], "whiten": [False]}
    grids = {
        "svm": {"pca": pca, "model": {"C": [10.0]}},
        "rf": {"pca": pca, "model": {"min_samples_leaf": [1]}},
    }
    monkeypatch.setattr(svm_rf, "GRIDS", grids)
    monkeypatch.setattr(svm_rf, "TREES", 20)


def made(n: int, seed: int = 0) -> tuple[LabelledSpectra, list[Target]]:
    """A star falls to the red, a galaxy rises; a quasar is a bump whose place tells z."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1.0, 1.0, GRID.n)
    class_ = np.arange(n) % 3
    z = np.where(class_ == 0, 0.0, rng.uniform(0.0, 1.0, n))
    bump = np.exp(-0.5 * ((x - z[:, None] + 0.5) / 0.2) ** 2)
    slope = np.array([-0.4, 0.4, 0.0])[class_][:, None] * x
    flux = 1.0 + slope + np.where(class_ == 0, 0.0, 1.0)[:, None] * bump
    data = LabelledSpectra(
        grid=GRID, flux=(flux + rng.normal(0.0, 0.05, flux.shape)).astype(np.float32),
        ivar=np.full(flux.shape, 400.0, dtype=np.float32), has_ivar=np.ones(n, bool),
        survey=np.full(n, "SDSS"), group=np.arange(n).astype(str), sn=np.full(n, 20.0),
        file=np.full(n, "a"), row=np.arange(n), ra=np.full(n, np.nan), dec=np.full(n, np.nan),
        labels={},
    )  # fmt: skip
    letter = np.where(class_ == 0, np.where(np.arange(n) % 2, 4, 6), -1)  # G or M
    return data, [
        Target("class", class_, taxonomy.CLASSES),
        Target("subclass", letter, taxonomy.STAR_TYPES),
        Target("z", z, fixed=tasks.Redshift(), of_z=np.array),
    ]


def halves(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectra to learn from, to choose settings by, and to predict."""
    number = np.arange(n)
    testing = number >= n * 5 // 7
    inner = ~testing & (number % 10 < 2)
    return ~testing & ~inner, inner, testing


def held(labelled: Path, fraction: float | None = 0.3, seed: int | None = 1) -> HeldOut:
    source = dataset.find(labelled)
    data = source.read(source.general(), GRID, ReadOptions())
    weights = SimpleNamespace(path=labelled, config=SimpleNamespace(split={}, grid=GRID))
    return held_out.hold_out(data, targets.general(data), weights, fraction, seed)


def test_the_split_of_the_weights_decides() -> None:
    assert held_out.choose_split({"fraction": 0.15, "seed": 1.0}, None, None) == {
        "fraction": 0.15,
        "seed": 1,
    }
    assert held_out.choose_split({}, 0.2, 3) == {"fraction": 0.2, "seed": 3}
    with pytest.raises(UsageError, match="do not record") as caught:
        held_out.choose_split({}, 0.2, None)
    assert "--split-seed" in caught.value.hint
    with pytest.raises(UsageError, match="another split: fraction"):
        held_out.choose_split({"fraction": 0.15, "seed": 1}, 0.2, 1)


def test_the_sides_share_no_object_and_hold_no_doubtful_class(labelled: Path) -> None:
    split = held(labelled)
    group = split.data.group
    assert not {*group[split.training]} & {*group[split.testing]}
    known = split.targets[0].known
    assert known[split.training].all() and known[split.testing].all()
    # one has a warning
    assert split.training.sum() + split.testing.sum() == len(split.data) - 1
    with pytest.raises(UsageError, match="no spectrum"):
        held(labelled, 0.0)
    assert held(labelled, 1.0, None).testing.sum() == len(split.data) - 1


def test_items_are_the_spectra_and_know_no_label(labelled: Path) -> None:
    split = held(labelled)
    items = list(split.data.items(np.flatnonzero(split.testing), GRID))
    assert [item.row for item in items] == np.flatnonzero(split.testing).tolist()
    assert all(set(item.meta) == {"survey", "object_id", "has_ivar"} for item in items)
    flux, _ = split.data.take(split.testing).on_grid(GRID)
    assert items[3].prepared is not None
    np.testing.assert_allclose(items[3].prepared.flux, flux[3], rtol=1e-5)


def test_objects_that_a_fine_tuning_has_seen_are_left_out(tmp_path: Path) -> None:
    """By position, by content, and with all other spectra of their object."""
    data, _ = made(8)
    data.ra[:] = [10.0, 20.0, 30.0, 40.0, 50.0, np.nan, 60.0, 70.0]
    data.dec[:] = 5.0
    data.group[7] = data.group[1]
    contents = data.contents(GRID)
    record = Table({
        "split": ["train", "test", "validation", "fold 2"],
        "ra": [10.0, 20.0, 30.0 + 0.5 / 3600, np.nan], "dec": [5.0, 5.0, 5.0, np.nan],
        "content": ["other", "another", "third", contents[5]],
    })  # fmt: skip
    path = tmp_path / "split.ecsv"
    record.write(path, format="ascii.ecsv")
    expected = [False, True, False, True, True, False, True, True]
    assert held_out.unseen(data, path, GRID).tolist() == expected
    record["split"] = ["test", "train", "test", "test"]
    record.write(path, format="ascii.ecsv", overwrite=True)
    unseen = held_out.unseen(data, path, GRID)
    assert (~unseen).nonzero()[0].tolist() == [1, 7]  # 7 is of the same object as 1
    path.write_text("broken")
    with pytest.raises(ReadError, match=r"split\.ecsv"):
        held_out.unseen(data, path, GRID)


def test_flat_bridges_gaps_and_forgets_the_scale() -> None:
    flux = np.tile(np.linspace(0.5, 1.5, 400, dtype=np.float32), (3, 1))
    ivar = np.ones_like(flux)
    flux[1, 100:140], ivar[1, 100:140] = 99.0, 0.0
    flux[2] *= 3.0
    rows = svm_rf.flat(flux, ivar)
    assert rows.shape == (3, 400 // svm_rf.BIN)
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-5)
    np.testing.assert_allclose(rows[2], rows[0], atol=1e-5)
    assert np.isfinite(svm_rf.flat(flux[:1], 0.0 * ivar[:1])).all()


@pytest.mark.parametrize("name", ["svm", "rf"])
def test_scikit_learn_learns_what_can_be_learned(name: str, small_grids: None) -> None:
    pytest.importorskip("sklearn")
    data, learned = made(210)
    learning, inner, testing = halves(210)
    out = svm_rf.predict(name, data, learned, learning, inner, testing, GRID)
    class_, z = learned[0].values[testing], learned[2].values[testing]
    assert np.mean(out["class"] == np.array(taxonomy.CLASSES)[class_]) > 0.9
    p = np.stack([out[f"p_{c.lower()}"] for c in taxonomy.CLASSES], axis=1)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert np.median(np.abs(out["z"] - z)[class_ != 0]) < 0.05
    assert {*out["subclass"]} <= {"G", "M"}
    learned[0].values[inner] = 1
    with pytest.raises(UsageError, match="a class is missing"):
        svm_rf.predict(name, data, learned, learning, inner, testing, GRID)


@pytest.mark.parametrize("name", ["svm", "rf"])
def test_labels_and_numbers_of_ones_own(name: str, small_grids: None) -> None:
    """Two classes of any name, and a number."""
    pytest.importorskip("sklearn")
    data, learned = made(210)
    kind = Target("kind", (learned[0].values == 2).astype(int), ("plain", "bumpy"))
    depth = Target("depth", np.where(learned[0].values == 0, -1.0, 3.0))
    out = svm_rf.predict(name, data, [kind, depth], *halves(210), GRID)
    testing = halves(210)[2]
    assert np.mean(out["kind"] == np.array(kind.labels)[kind.values[testing]]) > 0.9
    np.testing.assert_allclose(out["p_plain"] + out["p_bumpy"], 1.0)
    assert np.median(np.abs(out["depth"] - depth.values[testing])) < 0.5


def test_the_specformer_learns_the_class(monkeypatch) -> None:
    import torch

    from spectromer_cli.evaluation.baselines import specformer
    from spectromer_cli.training import loop

    monkeypatch.setattr(loop, "fastest_precision", lambda model, device, pixels: None)
    # Steps, not minutes: however busy the machine is.
    monkeypatch.setattr(specformer, "MOST_STEPS", 150)
    data, learned = made(210)
    learning, inner, testing = halves(210)
    out = specformer.predict(
        data, learned, learning, inner, testing, GRID,
        minutes=0.0, device=torch.device("cpu"), settings=TINY,
    )  # fmt: skip
    names = np.array(taxonomy.CLASSES)[learned[0].values[testing]]
    assert np.mean(out["class"] == names) > 0.6
    assert np.isfinite(out["z"]).all()
    assert {*out["subclass"]} <= {*taxonomy.STAR_TYPES}


def test_dead_pixels_and_scale_mean_nothing_to_the_specformer() -> None:
    import torch

    from spectromer_cli.evaluation.baselines.specformer import SpecFormer

    torch.manual_seed(0)
    model = SpecFormer(GRID.n, [tasks.Redshift()], TINY).eval()
    data, _ = made(3)
    flux, ivar = torch.from_numpy(data.flux), torch.from_numpy(data.ivar)
    ivar[:, 1000:1100] = 0.0
    other = flux.clone()
    other[:, 1000:1100] = 7.0
    with torch.inference_mode():
        torch.testing.assert_close(model(flux, ivar)["z"], model(other, ivar)["z"])
        # Mean and σ have a token of their own.
        assert not torch.allclose(model(flux, ivar)["z"], model(3 * flux, ivar)["z"])


def test_names_of_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert baselines.parse("SVM, specformer,svm") == ["svm", "specformer"]
    for text in ("knn", ","):
        with pytest.raises(UsageError, match="invalid --baseline"):
            baselines.parse(text)
    monkeypatch.setattr(baselines.importlib.util, "find_spec", lambda name: None)
    assert baselines.parse("specformer") == ["specformer"]
    with pytest.raises(UsageError, match="scikit-learn") as caught:
        baselines.parse("rf")
    assert "spectromer[baselines]" in caught.value.hint


def test_predictions_are_kept_only_for_the_same_data_and_settings(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from spectromer_cli.evaluation.baselines import specformer

    split = held(labelled)
    trained = []

    def train(data, learned, learning, inner, testing, *rest, **options) -> dict:
        trained.append(options)
        return {"class": np.full(testing.sum(), "STAR"), "z": learned[2].values[testing]}

    monkeypatch.setattr(specformer, "predict", train)

    def predict(minutes: float = 1.0, **origin: object) -> Table:
        return baselines.predictions_of(
            "specformer", split, GRID, origin={"content": "a", "split": "mine", **origin},
            folder=tmp_path, minutes=minutes, device=torch.device("cpu"),
        )  # fmt: skip

    first = predict()
    np.testing.assert_array_equal(np.asarray(predict()["z"]), np.asarray(first["z"]))
    assert len(trained) == 1
    predict(minutes=2.0)
    predict(minutes=2.0, content="b")
    predict(minutes=2.0, content="b", split="another")
    assert len(trained) == 4
    (tmp_path / "baseline-specformer.ecsv").write_text("broken")
    predict()
    assert len(trained) == 5


def test_evaluate_on_a_labelled_set(
    run: Run, labelled: Path, tmp_path: Path, weights, small_grids: None
) -> None:
    pytest.importorskip("sklearn")
    folder, page = tmp_path / "report", tmp_path / "accuracy.md"
    options = ["--data", labelled, "--baseline", "svm", "-o", folder, *weights]
    result = run("evaluate", *options)
    assert result.code == 2
    assert "--held-out" in result.err
    options += ["--held-out", 0.3, "--split-seed", 1, "--no-refine", "--docs", page]
    result = run("evaluate", *options)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    split = held(labelled)
    assert report["n"] == split.testing.sum()
    assert report["baselines"]["svm"]["classes"]["accuracy"] > 0.6
    assert "star_type" not in report["baselines"]["svm"]["stars"]
    predictions = Table.read(folder / "predictions.ecsv")
    assert predictions["row"].tolist() == np.flatnonzero(split.testing).tolist()
    names = np.array(taxonomy.CLASSES)[split.targets[0].values[split.testing]]
    assert predictions["class_true"].tolist() == names.tolist()
    text = page.read_text()
    assert json.loads((folder / "report.json").read_text())["provenance"]["sha256"] in text
    assert "| class accuracy |" in text
    assert "seed 1" in text
    assert f"{report['n']} spectra" in text
    assert text in (folder / "report.md").read_text()
    again = run("evaluate", *options)
    assert "predictions of an earlier run" in again.err


def test_a_set_that_nobody_learned_from(run: Run, labelled: Path, tmp_path: Path, weights) -> None:
    options = ["--data", labelled, "--held-out", 1, "-o", tmp_path / "r", *weights]
    refused = run("evaluate", *options, "--baseline", "svm")
    assert refused.code == 2
    assert "spectra to train on" in refused.err
    result = run("evaluate", *options, "--no-refine")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["n"] == held(labelled).targets[0].known.sum()
    assert "calibration" not in report  # nothing of these weights was fitted on this set
    assert "this is not checked" in (tmp_path / "r" / "report.md").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--catalog", "t.csv", "--data", "real.h5"],
        ["--catalog", "t.csv", "--baseline", "svm"],
        ["--data", "real.h5", "--baseline", "knn"],
    ],
)
def test_options_that_make_no_sense(run: Run, options: list[str]) -> None:
    assert run("evaluate", *options).code == 2


def test_a_file_that_is_no_labelled_set(run: Run, tmp_path: Path, weights) -> None:
    path = tmp_path / "real.h5"
    path.write_text("nothing")
    options = ["--held-out", 0.15, "--split-seed", 1, "-o", tmp_path / "r"]
    result = run("evaluate", "--data", path, *options, *weights)
    assert result.code == 1
    assert str(path) in result.err
    assert "Traceback" not in result.err


def test_options_of_files_are_refused_for_a_set_that_has_none(
    run: Run, labelled: Path, tmp_path: Path, weights
) -> None:
    result = run("evaluate", "--data", labelled, "--air", "-o", tmp_path / "r", *weights)
    assert result.code == 2
    assert "is an HDF5 set, which takes no --air" in result.err
