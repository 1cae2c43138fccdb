"""Held-out sets and baselines: what is parted, learned, kept and asked."""

import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from conftest import Run
from small_set import write_labelled

from spectromer_cli.errors import UsageError
from spectromer_cli.evaluation import baselines, held_out
from spectromer_cli.evaluation.baselines import svm_rf
from spectromer_cli.model import taxonomy
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import dataset

GRID = Grid(3.5560, 1e-4, 4608)
SPLIT = {"fraction": 0.3, "seed": 1}
TINY = {
    "patch": 192, "step": 192, "width": 32, "layers": 1, "heads": 2, "batch_size": 16,
    "learning_rate": 2e-3, "weight_decay": 0.0, "warmup": 5,
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


def made(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A star falls to the red, a galaxy rises; a quasar is a bump whose place tells z."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1.0, 1.0, GRID.n)
    class_ = np.arange(n) % 3
    z = np.where(class_ == 0, 0.0, rng.uniform(0.0, 1.0, n))
    bump = np.exp(-0.5 * ((x - z[:, None] + 0.5) / 0.2) ** 2)
    slope = np.array([-0.4, 0.4, 0.0])[class_][:, None] * x
    flux = 1.0 + slope + np.where(class_ == 0, 0.0, 1.0)[:, None] * bump
    return {
        "flux": (flux + rng.normal(0.0, 0.05, flux.shape)).astype(np.float32),
        "ivar": np.full(flux.shape, 400.0, dtype=np.float32),
        "class": class_,
        "letter": np.where(class_ == 0, np.where(np.arange(n) % 2, "G", "M"), ""),
        "z": z,
    }


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
    split = held_out.load_split(labelled, SPLIT)
    assert not {*split.training.group} & {*split.held_out.group}
    assert (split.held_out.class_ >= 0).all()
    assert (split.training.class_ >= 0).all()
    whole = dataset.load(labelled)
    assert len(split.training) + len(split.held_out) == len(whole) - 1  # one has a warning
    assert (whole.class_[split.rows] == split.held_out.class_).all()
    with pytest.raises(UsageError, match="no spectrum"):
        held_out.load_split(labelled, {"fraction": 0.0, "seed": 1})


def test_items_are_the_spectra_and_know_no_label(labelled: Path) -> None:
    split = held_out.load_split(labelled, SPLIT)
    items = list(held_out.items_of(split, labelled, GRID))
    assert [item.row for item in items] == split.rows.tolist()
    assert all(set(item.meta) == {"survey", "object_id", "has_ivar"} for item in items)
    flux, _ = dataset.on_model_grid(split.held_out, GRID)
    assert items[3].prepared is not None
    np.testing.assert_allclose(items[3].prepared.flux * items[3].prepared.scale, flux[3], rtol=1e-5)
    letters = held_out.letters_of(split.held_out)
    assert {*letters[split.held_out.class_ == 0]} == {"G"}
    assert {*letters[split.held_out.class_ != 0]} == {""}


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
def test_scikit_learn_learns_what_can_be_learnt(name: str, small_grids: None) -> None:
    pytest.importorskip("sklearn")
    training, asked = made(150), made(60, seed=1)
    inner = np.arange(150) % 10 < 2
    out = svm_rf.answer(name, training, inner, asked["flux"], asked["ivar"])
    truth = np.array(taxonomy.CLASSES)[asked["class"]]
    assert np.mean(out["class"] == truth) > 0.9
    p = np.stack([out[f"p_{c.lower()}"] for c in taxonomy.CLASSES], axis=1)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    far = asked["class"] != 0
    assert np.median(np.abs(out["z"] - asked["z"])[far]) < 0.05
    assert {*out["subclass"]} <= {"G", "M"}
    with pytest.raises(UsageError, match="a class is missing"):
        only = {key: values[training["class"] != 2] for key, values in training.items()}
        svm_rf.answer(name, only, np.arange(100) % 5 == 0, asked["flux"], asked["ivar"])


def test_the_specformer_learns_the_class(monkeypatch) -> None:
    import torch

    from spectromer_cli.evaluation.baselines import specformer

    # A clock that knows steps only: 150 of them, however busy the machine is.
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))
    monkeypatch.setattr(specformer, "time", clock)
    training, asked = made(150), made(60, seed=1)
    inner = np.arange(150) % 10 < 2
    out = specformer.answer(
        training, inner, asked["flux"], asked["ivar"], GRID,
        minutes=1.5 / 60, device=torch.device("cpu"), settings=TINY,
    )  # fmt: skip
    assert np.mean(out["class"] == np.array(taxonomy.CLASSES)[asked["class"]]) > 0.6
    assert np.isfinite(out["z"]).all()
    assert {*out["subclass"]} <= {*taxonomy.STAR_TYPES}


def test_dead_pixels_and_scale_mean_nothing_to_the_specformer() -> None:
    import torch

    from spectromer_cli.evaluation.baselines.specformer import SpecFormer

    torch.manual_seed(0)
    model = SpecFormer(GRID.n, TINY).eval()
    flux, ivar = (torch.from_numpy(made(3)[name]) for name in ("flux", "ivar"))
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
        with pytest.raises(UsageError, match="no such baseline"):
            baselines.parse(text)
    monkeypatch.setattr(baselines.importlib.util, "find_spec", lambda name: None)
    assert baselines.parse("specformer") == ["specformer"]
    with pytest.raises(UsageError, match="scikit-learn") as caught:
        baselines.parse("rf")
    assert "spectromer[baselines]" in caught.value.hint


def test_answers_are_kept_only_for_the_same_data_and_settings(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    split = held_out.load_split(labelled, SPLIT)
    trained = []

    def train(name: str, split: held_out.Split, *rest: object) -> dict[str, np.ndarray]:
        trained.append(name)
        return {"class": np.full(len(split.held_out), "STAR"), "z": split.held_out.z}

    monkeypatch.setattr(baselines, "_train", train)

    def ask(minutes: float = 1.0, **origin: object) -> Table:
        return baselines.answers_of(
            "specformer", split, GRID, origin={"data_sha256": "a", "split": SPLIT, **origin},
            folder=tmp_path, minutes=minutes, device=torch.device("cpu"),
        )  # fmt: skip

    first = ask()
    np.testing.assert_array_equal(np.asarray(ask()["z"]), np.asarray(first["z"]))
    assert len(trained) == 1
    ask(minutes=2.0)
    ask(minutes=2.0, data_sha256="b")
    ask(minutes=2.0, data_sha256="b", split={"fraction": 0.3, "seed": 2})
    assert len(trained) == 4
    (tmp_path / "baseline-specformer.ecsv").write_text("broken")
    ask()
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
    split = held_out.load_split(labelled, SPLIT)
    assert report["n"] == len(split.held_out)
    assert report["baselines"]["svm"]["classes"]["accuracy"] > 0.6
    assert "star_type" not in report["baselines"]["svm"]["stars"]
    answers = Table.read(folder / "answers.ecsv")
    assert answers["row"].tolist() == split.rows.tolist()
    assert answers["class_true"].tolist() == [taxonomy.CLASSES[c] for c in split.held_out.class_]
    text = page.read_text()
    assert json.loads((folder / "report.json").read_text())["provenance"]["sha256"] in text
    assert "| class right |" in text
    assert "seed 1" in text
    assert f"{report['n']} spectra" in text
    assert text in (folder / "report.md").read_text()
    again = run("evaluate", *options)
    assert "answers of an earlier run" in again.err


def test_a_set_that_nobody_learned_from(run: Run, labelled: Path, tmp_path: Path, weights) -> None:
    options = ["--data", labelled, "--held-out", 1, "-o", tmp_path / "r", *weights]
    refused = run("evaluate", *options, "--baseline", "svm")
    assert refused.code == 2
    assert "spectra to train on" in refused.err
    result = run("evaluate", *options, "--no-refine")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["n"] == int((dataset.load(labelled).class_ >= 0).sum())
    assert "calibration" not in report  # nothing of these weights was fitted on this set
    assert "said, not checked" in (tmp_path / "r" / "report.md").read_text()


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
