"""Training: resumed runs equal uninterrupted ones, splits go by object, recipes are checked."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from safetensors.torch import load_file
from small_set import in_memory, write_labelled, write_templates

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.simulation.simulator import Simulator
from spectromer_cli.simulation.template_library import Library
from spectromer_cli.spectra.grid import Grid, level
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import dataset, loop, split, targets
from spectromer_cli.training.batches import Batches, balance
from spectromer_cli.training.checkpoint import Run
from spectromer_cli.training.pretrain import CLASS_SHARES, pretrain
from spectromer_cli.training.settings import Recipe, load_recipe
from spectromer_cli.weights.store import resolve

RECIPE = Recipe("test.v1", tokens=2, batch_size=6, steps=4, evaluate_every=2, warmup=0.25)
CPU = torch.device("cpu")
FASTEST = loop.fastest_precision


@pytest.fixture(autouse=True)
def _one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are compared must not choose their precision by the clock."""
    monkeypatch.setattr(loop, "fastest_precision", lambda model, device, pixels: None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("set")
    return {
        "data": [write_labelled(folder / "real.h5")],
        "templates": write_templates(folder / "templates.npz"),
    }


def run(files: dict[str, Path], output: Path, recipe: Recipe = RECIPE, **options) -> dict:
    options = {"pretrained": None, "device": CPU, "workers": 0, **options}
    return pretrain(recipe, output, **files, **options)


def test_a_run_leaves_weights_that_load(files, tmp_path) -> None:
    figures = run(files, tmp_path / "a")
    weights = resolve(str(tmp_path / "a"))
    assert weights.name == "test.v1"
    assert weights.config.tokens == 2
    asked = {"class", "subclass", "star_type", "teff", "logg", "feh", "z"}
    assert set(weights.config.temperatures) == asked
    assert weights.config.split == {"fraction": RECIPE.validation_fraction, "seed": 1}
    assert 0.0 <= figures["class_accuracy"] <= 1.0
    from spectromer_cli.inference.predictor import load_model

    model = load_model(str(tmp_path / "a"))
    assert model.novelty is not None
    assert model.novelty.coefficients.shape == (4 * 192,)
    assert weights.config.confidence["kept"][0] == 1.0
    card = (tmp_path / "a" / "test.v1.md").read_text()
    # The card prints the figures of the report.
    assert f"Accuracy: {figures['class_accuracy']:.4g} (" in card
    table = Table.read(tmp_path / "a" / "predictions.ecsv")
    right = np.asarray(table["class"] == table["class_true"])
    assert right.mean() == pytest.approx(figures["class_accuracy"], abs=1e-4)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_a_resumed_run_equals_an_uninterrupted_one(files, tmp_path, monkeypatch) -> None:
    run(files, tmp_path / "whole")
    original = Run.save

    def save_then_die(*arguments):
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path / "parts")
    monkeypatch.undo()
    run(files, tmp_path / "parts", resume=True)
    whole = load_file(tmp_path / "whole" / "test.v1.safetensors")
    parts = load_file(tmp_path / "parts" / "test.v1.safetensors")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_run_is_not_overwritten(files, tmp_path) -> None:
    run(files, tmp_path / "a", replace(RECIPE, steps=1))
    with pytest.raises(UsageError, match="already contains a run"):
        run(files, tmp_path / "a", replace(RECIPE, steps=1))
    with pytest.raises(UsageError, match="other settings"):
        run(files, tmp_path / "a", replace(RECIPE, steps=2), resume=True)
    (tmp_path / "a" / "checkpoint.safetensors").write_bytes(b"cut off")
    with pytest.raises(ReadError, match="checkpoint"):
        run(files, tmp_path / "a", replace(RECIPE, steps=1), resume=True)


def test_training_learns(files, tmp_path) -> None:
    # Six lines of three widths: a few dozen steps must beat chance by far on held-out objects.
    recipe = replace(RECIPE, steps=40, batch_size=12, simulated_share=0.0, learning_rate=1e-3)
    recipe = replace(recipe, tokens=4, validation_fraction=0.4, evaluate_every=1000, warmup=0.1)
    figures = run(files, tmp_path / "a", recipe)
    assert figures["class_accuracy"] > 0.6


def test_training_goes_on_from_weights_of_our_own(files, tmp_path) -> None:
    run(files, tmp_path / "a")
    first = tmp_path / "a" / "test.v1.safetensors"
    run(files, tmp_path / "b", replace(RECIPE, steps=1, learning_rate=0.0), pretrained=first)
    before, after = load_file(first), load_file(tmp_path / "b" / "test.v1.safetensors")
    for name, value in before.items():
        if name.startswith(("backbone", "head")):
            assert torch.equal(value, after[name]), name
    with pytest.raises(ReadError, match=r"test\.v1\.safetensors does not fit"):
        other = replace(RECIPE, backbone="vit_small_patch16_224")
        run(files, tmp_path / "c", other, pretrained=first)
    with pytest.raises(ReadError, match="does not fit"):
        run(files, tmp_path / "d", pretrained=files["data"][0])


def labelled(files: dict[str, Path]) -> tuple[dataset.LabelledSpectra, list[targets.Target]]:
    source = dataset.find(files["data"][0])
    data = source.read(source.general(), Grid(), ReadOptions())
    return data, targets.general(data)


def batches_of(files: dict[str, Path], seed: int = 1, share: float = 0.5) -> Batches:
    data, learned = labelled(files)
    simulator = Simulator(Library(files["templates"], Grid()), Grid())
    rows = np.flatnonzero(learned[0].known)
    return Batches(
        data, learned, rows, Grid(), batch_size=6, steps=10, seed=seed, shares=CLASS_SHARES,
        simulator=simulator, simulated_share=share,
    )  # fmt: skip


def test_batches_depend_on_seed_and_step_only(files) -> None:
    one, same, other = (batches_of(files, seed)[3] for seed in (1, 1, 2))
    assert torch.equal(one["flux"], same["flux"])
    assert not torch.equal(one["flux"], other["flux"])
    assert one["flux"].shape == (6, Grid().n)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_batch_holds_the_share_that_is_simulated(files, share) -> None:
    """Simulated spectra have a class and a redshift, but no parameters of stars."""
    batches = batches_of(files, share=share)
    batch = {name: torch.cat([batches[i][name] for i in range(10)]) for name in batches[0]}
    assert len(batch["flux"]) == 60
    real = np.concatenate([np.arange(6) < 6 - round(6 * share)] * 10)
    simulated = torch.from_numpy(~real)
    assert bool((batch["class"] >= 0).all())
    assert bool(torch.isfinite(batch["z"][simulated]).all())
    assert not bool(torch.isfinite(batch["teff"][simulated]).any())
    stars = (batch["class"] == 0).numpy() & real
    assert np.isfinite(batch["teff"].numpy()[stars]).all()
    assert int((~real).sum()) == round(60 * share)


def test_an_object_seen_often_counts_once() -> None:
    n = 40
    group = np.array(["often"] * 20 + [f"o{i}" for i in range(20)])
    data = dataset.LabelledSpectra(
        grid=Grid(3.6, 1e-4, 4), flux=np.ones((n, 4)), ivar=np.ones((n, 4)),
        has_ivar=np.ones(n, bool), survey=np.full(n, "SDSS"), group=group, sn=np.ones(n),
        file=np.full(n, "a"), row=np.arange(n), ra=np.full(n, np.nan), dec=np.full(n, np.nan),
        labels={},
    )  # fmt: skip
    kind = targets.Target("class", np.array([0] * 24 + [1] * 16), ("A", "B"))
    chance = balance(data, [kind], np.arange(n))
    assert chance.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(chance[:20].sum(), chance[20])
    # five objects of A, sixteen of B: by the root of the number
    assert chance[:24].sum() / chance[24:].sum() == pytest.approx((5 / 16) ** 0.5)
    shared = balance(data, [kind], np.arange(n), {"A": 0.9, "B": 0.1})
    assert shared[:24].sum() == pytest.approx(0.9)


def test_labels_with_a_warning_are_left_out(files) -> None:
    _, learned = labelled(files)
    named = {target.name: target.values for target in learned}
    assert named["class"][0] == -1
    assert np.isnan(named["z"][0])
    assert np.isnan(named["z"][4])
    assert named["class"][4] == taxonomy.CLASSES.index("GALAXY")


def test_split_goes_by_object() -> None:
    group = np.array([f"o{i // 3}" for i in range(3000)])
    held = split.places(group, 1) < 0.2
    assert 0.15 < held.mean() < 0.25
    assert not set(group[held]) & set(group[~held])
    # An object stays on its side whatever else is in the set.
    assert ((split.places(group[:300], 1) < 0.2) == held[:300]).all()
    assert ((split.places(group, 2) < 0.2) != held).any()


def same_but_for_level(flux: np.ndarray, whole: np.ndarray) -> None:
    """The pixels of another grid, divided by the level that is seen there."""
    levels = np.array([[level(one)] for one in whole.astype("f4")])
    np.testing.assert_allclose(flux, whole.astype("f4") / levels, rtol=1e-5)
    np.testing.assert_allclose([level(one) for one in flux], 1.0, rtol=1e-5)


def test_a_set_on_another_grid_is_cut_or_rebinned(files) -> None:
    data, _ = labelled(files)
    flux, ivar = data.on_grid(Grid())
    first = round((Grid().loglam0 - 3.55) / 1e-4)
    same_but_for_level(flux, data.flux[:, first : first + Grid().n])
    wide, weight = data.on_grid(Grid(3.54, 1e-4, 4900))  # reaches beyond the set at both ends
    assert not weight[:, :100].any() and weight[:, 100:4800].all() and not weight[:, 4800:].any()
    same_but_for_level(wide[:, 100:4800], data.flux)
    assert weight[0, 200] * wide[0, 200] ** 2 == pytest.approx(
        float(data.ivar[0, 100]) * float(data.flux[0, 100]) ** 2
    )
    coarse, _ = data.on_grid(Grid(3.56, 2e-4, 2000))
    middle = data.flux[:, 101:4101].astype(float).reshape(len(data), -1, 2).mean(axis=2)
    assert np.corrcoef(coarse[:, 500:1500].ravel(), middle[:, 500:1500].ravel())[0, 1] > 0.9
    del ivar


def test_shipped_recipes_are_valid() -> None:
    recipes = sorted((Path(__file__).parents[1] / "weights" / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 1", "has no name"),
        ('name = "a"\nspeed = 1', "unknown key 'speed'"),
        ('name = "a"\nsteps = "many"', "steps must be of type int"),
        ("name =", "is not TOML"),
    ],
)
def test_bad_recipes(tmp_path, text, message) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_recipe(tmp_path / "r.toml")


def test_data_that_is_none(files, tmp_path) -> None:
    with pytest.raises(ReadError, match="not a labelled set"):
        dataset.from_hdf5(files["templates"])
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "missing.toml")


def test_a_head_is_taken_over_by_task_and_label(files, tmp_path) -> None:
    from spectromer_cli.training.initialise import start

    run(files, tmp_path / "a")
    path = tmp_path / "a" / "test.v1.safetensors"
    old = load_file(path)
    config = resolve(str(tmp_path / "a")).config
    asked = [
        tasks.Category("class", ("QSO", "NOVA", "STAR")),
        tasks.Redshift(bins=500),
        tasks.Quantity("feh", centre=-0.2, scale=0.3, weight=7.0),
    ]
    model = start(replace(config, tasks=[tasks.to_dict(task) for task in asked]), path)
    weight = model.head.weight.detach()
    assert torch.equal(weight[[0, 2]], old["head.weight"][[2, 0]].float())  # QSO, STAR
    feh = sum(task.size for task in tasks.default_tasks()[:5])
    assert torch.equal(weight[-2:], old["head.weight"][feh : feh + 2].float())
    assert not torch.equal(weight[3:503], old["head.weight"][-500:].float())
    assert torch.equal(
        model.backbone.state_dict()["norm.weight"], old["backbone.norm.weight"].float()
    )


def test_the_journal_writes_to_tensorboard_where_it_is_installed(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    Run(tmp_path, {}).log({"step": 3, "stage": "fold 1", "loss": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1
    assert list((tmp_path / "tensorboard" / "fold-1").glob("events*"))


def test_a_share_beyond_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text('name = "old.v1"\nwarmup = 200\n')
    with pytest.raises(UsageError, match="warmup is a fraction, between 0 and 1"):
        load_recipe(path)


@pytest.mark.parametrize("slow", [None, torch.bfloat16])
def test_the_faster_precision_is_taken(slow: torch.dtype | None) -> None:
    class Patient(torch.nn.Module):
        """Takes its time in one precision."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, flux: torch.Tensor, ivar: torch.Tensor) -> dict[str, torch.Tensor]:
            half = torch.is_autocast_enabled("cpu")
            time.sleep(0.05 if half == (slow is not None) else 0.001)
            return {"class": self.weight * flux.mean()}

    other = None if slow is not None else torch.bfloat16
    assert FASTEST(Patient(), CPU, 10) is other


def on_usual_grid(**labels: np.ndarray) -> dataset.LabelledSpectra:
    n = len(next(iter(labels.values())))
    return in_memory(Grid(), np.ones((n, Grid().n)), **labels)


def test_sets_are_joined(files) -> None:
    one = on_usual_grid(**{"class": np.array(["STAR", "QSO"]), "teff": np.array([5000.0, np.nan])})
    two = on_usual_grid(**{"class": np.array(["GALAXY"]), "z": np.array([0.123456789012345])})
    both = one.joined(two)
    assert len(both) == 3
    assert both.labels["class"].tolist() == ["STAR", "QSO", "GALAXY"]
    assert both.labels["teff"].mask.tolist() == [False, False, True]
    assert both.labels["z"].mask.tolist() == [True, True, False]
    assert both.labels["z"][2] == 0.123456789012345
    assert np.isnan(targets.general(both)[-1].values[:2]).all()
    other = in_memory(Grid(3.55, 1e-4, 4700), np.ones((1, 4700)), z=np.array([0.1]))
    with pytest.raises(UsageError, match="different wavelength grids"):
        one.joined(other)


def test_joined_sets_know_their_common_objects() -> None:
    """An object of both sets must not be learned from and tested by."""
    one, two = (on_usual_grid(z=np.arange(3.0)) for _ in range(2))
    for number, flux in enumerate([*one.flux, *two.flux], start=1):
        flux[:] = number
    one.ra, one.dec = np.array([10.0, 20.0, np.nan]), np.array([1.0, 2.0, np.nan])
    two.ra, two.dec = np.array([20.0, 30.0, np.nan]), np.array([2.0 + 0.5 / 3600, 3.0, np.nan])
    both = one.joined(two)
    assert both.group[:3].tolist() == one.group.tolist()
    assert both.group[3] == "1"  # by position
    assert len({*both.group.tolist()}) == 5  # numbers of two sets are no names
    copy = replace(two, flux=np.stack([two.flux[0], two.flux[1], one.flux[2]]))
    assert one.joined(copy).group[5] == "2"  # a copy of a spectrum
    named = replace(one, group=np.array(["a", "b", "c"]))
    other = replace(two, group=np.array(["d", "a", "e"]), ra=np.full(3, np.nan))
    assert named.joined(other).group.tolist() == ["a", "b", "c", "d", "a", "e"]


def test_data_may_be_given_twice(files, tmp_path) -> None:
    more = write_labelled(tmp_path / "more.h5", n=6)
    import h5py

    with h5py.File(more, "r+") as file:
        del file["group"]
        names = [f"other {i}" for i in range(6)]
        file.create_dataset("group", data=names, dtype=h5py.string_dtype())
    whole = {**files, "data": [*files["data"], more]}
    pretrain(RECIPE, tmp_path / "a", **whole, pretrained=None, device=CPU, workers=0)
    split_table = Table.read(tmp_path / "a" / "split.ecsv")
    assert set(split_table["file"]) == {"real.h5", "more.h5"}
    card = (tmp_path / "a" / "test.v1.md").read_text()
    assert "real.h5" in card and "more.h5" in card


def test_a_set_that_does_not_state_its_grid(files, tmp_path) -> None:
    import h5py

    path = write_labelled(tmp_path / "bare.h5", n=6)
    with h5py.File(path, "r+") as file:
        del file.attrs["loglam0"], file.attrs["dloglam"]
    data = dataset.from_hdf5(path).spectra
    assert data is not None and data.grid == dataset.USUAL_GRID
    with h5py.File(path, "r+") as file:
        file.attrs["loglam0"] = 3.6
    with pytest.raises(ReadError, match="dloglam"):
        dataset.from_hdf5(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["loglam0"]
        for name in ("flux", "ivar"):
            values = file[name][:, :4000]
            del file[name]
            file[name] = values
    with pytest.raises(ReadError, match="loglam0"):
        dataset.from_hdf5(path)


def test_a_head_with_fewer_bins_predicts_the_same(tmp_path) -> None:
    """More bins of redshift, and more types, leave what was learned as it was."""
    from spectromer_cli.model.config import ModelConfig
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.training.initialise import start
    from spectromer_cli.weights.save import write_weights

    few = [tasks.Ordered("star_type", taxonomy.SEQUENCE[:80]), tasks.Redshift(bins=1000)]
    config = ModelConfig(
        backbone="vit_tiny_patch16_224", image="tiles", tokens=2, grid=Grid(),
        tasks=[tasks.to_dict(task) for task in few],
    )  # fmt: skip
    torch.manual_seed(1)
    old = SpectralViT(config).eval()
    torch.nn.init.normal_(old.head.weight)
    entry = {"licence": "none", "description": "x", "trained_on": "nothing"}
    write_weights(tmp_path, "few.v0", old.state_dict(), config, entry)
    more = [tasks.Ordered("star_type", taxonomy.SEQUENCE), tasks.Redshift()]
    wider = replace(config, tasks=[tasks.to_dict(task) for task in more])
    new = start(wider, tmp_path / "few.v0.safetensors").eval()
    rng = np.random.default_rng(0)
    flux = torch.from_numpy(1.0 + 0.1 * rng.normal(size=(3, Grid().n)).astype("f4"))
    with torch.no_grad():
        before, after = (net(flux, torch.full_like(flux, 100.0)) for net in (old, new))
    for name, size in (("star_type", 80), ("z", 1000)):
        torch.testing.assert_close(after[name][:, :size], before[name], atol=0.1, rtol=0.02)
        assert not after[name][:, size:].any()
    # The last of all bins lies beyond z 7.
    assert np.expm1(tasks.Redshift().x[-1]) > 7.1


def test_labels_that_are_known_to_be_wrong_are_left_out(tmp_path) -> None:
    import h5py

    from spectromer_cli.accuracy import wrong_labels

    entry = wrong_labels.KNOWN[0]
    path = write_labelled(tmp_path / "set.h5", n=12)
    key = [f"1-2-{i}" for i in range(12)]
    key[2], key[8] = entry.key, entry.key
    with h5py.File(path, "r+") as file:
        file.create_dataset("key", data=key, dtype=h5py.string_dtype())
        z, class_ = file["z"][:], file["class"].asstr()[:]
        survey = np.array([entry.survey] * 12, object)
        z[2], class_[2], survey[8] = entry.z, entry.class_, "LAMOST"
        z[3], class_[3] = entry.z, entry.class_  # another spectrum of the object
        file["z"][:], file["class"][:] = z, class_
        file["survey"][:] = survey
    data = dataset.from_hdf5(path).spectra
    assert data is not None
    for values in data.labels.values():
        assert values.mask[[2, 3]].all()
    assert not data.labels["class"].mask[4:].any()
    assert len(data.mislabelled) == 2
    assert "2 spectra" in dataset.describe([], data)[-1]
    assert "white dwarf" in dataset.describe([], data)[-1]
    # The split is by object, whatever is left out.
    assert data.group[2] == "object 1"


@pytest.mark.parametrize(
    ("survey", "key", "labels", "left_out"),
    [
        ("BOSS", "5207-56018-0260", {"class": "QSO", "z": 3.8256}, True),
        ("eBOSS", "5207-56018-260", {"class": "qso"}, True),
        ("BOSS", "5207-56018-0260", {"class": "STAR", "z": 0.0}, False),  # put right by the user
        ("BOSS", "5207-56018-0260", {"teff": 9000.0}, False),
        ("BOSS", "5207-56018-0261", {"class": "QSO", "z": 3.8256}, False),
        ("LAMOST", "5207-56018-260", {"class": "QSO", "z": 3.8256}, False),
        ("BOSS", "", {"class": "QSO", "z": 3.8256}, False),
    ],
)
def test_which_labels_are_wrong(survey, key, labels, left_out) -> None:
    from spectromer_cli.accuracy import wrong_labels

    columns = {name: np.ma.array([value]) for name, value in labels.items()}
    found = wrong_labels.wrong(np.array([survey]), np.array([key]), np.array([0]), columns)
    assert bool(found) == left_out


def test_labels_in_the_numbers_of_weights_that_know_fewer_types() -> None:
    old = [
        tasks.Category("class", taxonomy.CLASSES),
        tasks.Category("subclass", tuple(n for n in taxonomy.SUBCLASSES if n != "STAR T")),
        tasks.Ordered("star_type", taxonomy.SEQUENCE[:80]),
        tasks.Redshift(bins=1000),
    ]
    names = {"class": ["STAR", "STAR", "STAR"], "subclass": ["WD", "T6", "L5"]}
    data = on_usual_grid(**{name: np.array(values) for name, values in names.items()})
    named = {target.name: target for target in targets.general(data, old)}
    assert named["subclass"].shown.tolist() == ["STAR WD", "", "STAR L"]
    assert (named["subclass"].values < 18).all()
    np.testing.assert_array_equal(named["star_type"].values, [np.nan, np.nan, 75.0])
    assert named["z"].fixed == old[-1]
    letters = targets.references([*named.values()], np.arange(3))["letter"]
    assert letters.tolist() == ["WD", "", "L"]
    now = {target.name: target for target in targets.general(data)}
    assert now["subclass"].shown.tolist() == ["STAR WD", "STAR T", "STAR L"]
    np.testing.assert_array_equal(now["star_type"].values, [np.nan, 86.0, 75.0])
