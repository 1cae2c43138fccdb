"""Fine-tuning from the command line: what is found, what is learnt, what is refused."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from http_server import FileServer
from safetensors.torch import load_file

from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import linear_probe, loop
from spectromer_cli.training.checkpoint import Run as TrainingRun

FAST = ("--max-minutes", "0", "--epochs", "1", "--batch-size", "16", "--device", "cpu")


@pytest.fixture(autouse=True)
def quick_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit of the head takes most of the time of so small a training."""
    monkeypatch.setattr(linear_probe, "PULLS", (0.03, 0.003))
    monkeypatch.setattr(linear_probe, "ITERATIONS", 30)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a very small ViT to start from."""
    import torch

    from spectromer_cli.model import tasks
    from spectromer_cli.model.config import ModelConfig
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.weights.save import write_weights

    torch.manual_seed(0)
    asked = [tasks.to_dict(task) for task in tasks.default_tasks()]
    config = ModelConfig("test_vit", "tiles", 3, Grid(), asked)
    folder = tmp_path_factory.mktemp("start")
    write_weights(folder, "small.v0", SpectralViT(config).state_dict(), config, {})
    return folder


def write_spectrum(path: Path, rng: np.random.Generator, strength: float, low=3800.0) -> None:
    """A continuum with Hβ: emission or absorption by the sign of the strength."""
    wavelength = np.arange(low, low + 5200.0, 4.0)
    line = np.exp(-0.5 * ((wavelength - 4862.7) / 12.0) ** 2)
    flux = 1.0 + strength * line + rng.normal(0.0, 0.05, wavelength.size)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wavelength", "flux", "ivar"])
        writer.writerows(
            zip(wavelength, flux.round(5), np.full(wavelength.size, 400.0), strict=True)
        )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of 15 spectra, named after their classes."""
    rng = np.random.default_rng(7)
    root = tmp_path_factory.mktemp("mydata")
    for name, sign in (("nova", 1.0), ("dwarf", -0.7)):
        (root / name).mkdir()
        for i in range(15):
            write_spectrum(root / name / f"{name}-{i}.csv", rng, sign * rng.uniform(0.6, 1.0))
    return root


@pytest.fixture
def table(tmp_path: Path, folders: Path):
    """Write a table of labels: a function of its columns, which come after ``file``."""

    def write(**columns) -> Path:
        files = sorted(folders.rglob("*.csv"))
        path = tmp_path / "labels.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", *columns])
            for i, name in enumerate(files):
                writer.writerow([name, *(values[i % len(values)] for values in columns.values())])
        return path

    return write


def test_folders_are_classes(run, folders, start) -> None:
    result = run("finetune", folders, "--model", start, "--dry-run")
    assert result.code == 0, result.err
    assert "folders named after classes: dwarf, nova" in result.err
    assert "dwarf 15, nova 15" in result.err
    assert result.out == ""


def test_a_run_learns_and_answers(run, folders, start, tmp_path) -> None:
    done = run(
        "finetune", folders, "--model", start, "-o", tmp_path / "mine", "--epochs", "40",
        "--batch-size", "16", "--mode", "full", "--learning-rate", "2e-3",
    )  # fmt: skip
    assert done.code == 0, done.err
    figures = {line.split("\t")[0]: line.split("\t")[1:] for line in done.out.splitlines()}
    assert float(figures["class_accuracy"][0]) > 0.9
    assert len(figures["class_accuracy"]) == 3
    files = {path.name for path in (tmp_path / "mine").iterdir()}
    assert files >= {
        "mine.v1.safetensors", "manifest.json", "mine.v1.md", "metrics.jsonl", "learning.png",
        "confusion_class.png", "predictions.ecsv", "split.ecsv", "checkpoint.safetensors",
    }  # fmt: skip
    new = folders / "nova" / "nova-0.csv"
    answer = run("classify", new, "--model", tmp_path / "mine")
    assert answer.code == 0, answer.err
    assert list(answer.rows[0])[11:15] == ["class", "class_prob", "p_dwarf", "p_nova"]
    assert answer.rows[0]["class"] == "nova"
    # The redshift, for which nothing new was learned, is still there.
    assert run("redshift", new, "--model", tmp_path / "mine").code == 0
    card = (tmp_path / "mine" / "mine.v1.md").read_text()
    assert "kept from small.v0" in card and "| unknown | nova |" in card
    # and others can have it
    put = run("weights", "publish", tmp_path / "mine", "--to", tmp_path / "out")
    assert put.code == 0
    sha256, file = put.out.split()
    assert Path(file).name == "mine.v1.safetensors" and len(sha256) == 64
    again = run("classify", new, "--model", tmp_path / "out")
    assert again.rows == answer.rows


@pytest.mark.parametrize("mode", ["head", "full"])
def test_tasks_that_nothing_new_is_learned_for_go_on_predicting(
    run, table, folders, start, tmp_path, mode
) -> None:
    spectra = sorted(folders.rglob("*.csv"))[::6]
    kinds = ["a" if "nova" in path.name else "b" for path in sorted(folders.rglob("*.csv"))]
    done = run(
        "finetune", "--catalog", table(kind=kinds), "--target", "kind", "--model", start,
        "--mode", mode, "--epochs", "10", "--batch-size", "16", "--learning-rate", "1e-3",
        "-o", tmp_path / "kept",
    )  # fmt: skip
    assert done.code == 0, done.err
    before, after = (
        run("classify", *spectra, "--model", model).rows for model in (start, tmp_path / "kept")
    )
    assert [row["kind"] for row in after] == ["a" if "nova" in p.name else "b" for p in spectra]
    assert set(before[0]) < set(after[0])
    tolerance = {"head": 1e-3, "full": 0.15}[mode]
    for name in ("p_star", "p_galaxy", "p_qso"):
        old, new = ([float(row[name]) for row in rows] for rows in (before, after))
        np.testing.assert_allclose(new, old, atol=tolerance)
    if mode == "head":
        z = [
            [float(row["z"]) for row in run("redshift", *spectra, "--model", model).rows]
            for model in (start, tmp_path / "kept")
        ]
        np.testing.assert_allclose(z[1], z[0], atol=1e-3)


def test_fine_tuned_weights_are_evaluated_on_what_they_have_not_seen(
    run, table, folders, start, tmp_path
) -> None:
    """Any tasks, on a catalogue and on a labelled set; its own objects are left out."""
    kinds = ["a" if "nova" in path.name else "b" for path in sorted(folders.rglob("*.csv"))]
    depths = [float(i) for i in range(30)]
    own = table(kind=kinds, depth=depths)
    arguments = ("--target", "kind,depth", "--model", start, *FAST, "-o", tmp_path / "m")
    assert run("finetune", "--catalog", own, *arguments).code == 0
    model = ("--model", tmp_path / "m", "--device", "cpu")
    refused = run("evaluate", "--data", own, *model, "-o", tmp_path / "r")
    assert refused.code == 2  # all of them were learned from
    assert "no spectrum with a label is held out" in refused.err
    rng = np.random.default_rng(9)
    rows = []
    for i, kind in enumerate("ab" * 4):
        write_spectrum(tmp_path / f"new-{i}.csv", rng, 1.0 if kind == "a" else -0.7)
        rows.append(f"{tmp_path / f'new-{i}.csv'},{kind},{i}")
    new = tmp_path / "new.csv"
    new.write_text("\n".join(["file,kind,depth", *rows, own.read_text().splitlines()[1]]))
    result = run("evaluate", "--data", new, *model, "-o", tmp_path / "r")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["n"] == 8  # the copy of a spectrum that was learned from is left out
    assert report["categories"]["kind"]["n"] == 8
    assert report["quantities"]["depth"]["n"] == 8
    assert "## kind" in (tmp_path / "r" / "report.md").read_text()
    everything = run("evaluate", "--catalog", new, *model, "-o", tmp_path / "c")
    assert everything.code == 0, everything.err
    assert json.loads(everything.out)["n"] == 9


def test_a_time_limit_counts_the_head_too_and_what_was_not_done_is_said(
    run, folders, start, tmp_path, monkeypatch
) -> None:
    """A clock that the head's fit alone brings to its end."""
    from spectromer_cli.training import linear_probe

    fitted, seconds = linear_probe.fit_head, []

    def slow(model, batches, device, limit):
        seconds.append(limit)
        fitted(model, batches, device, limit)
        time.sleep(limit * 2.5)  # half of the fit's time is the head's

    monkeypatch.setattr(linear_probe, "fit_head", slow)
    done = run(
        "finetune", folders, "--model", start, "--max-minutes", "0.02", "--epochs", "50",
        "--mode", "full", "--device", "cpu", "-o", tmp_path / "quick",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert all(0.0 < limit < 0.6 for limit in seconds)  # of 1.2 s for all
    assert "fold 1 of 5: stopped by the time limit after 0 of 50 epochs; only the head" in done.err
    card = (tmp_path / "quick" / "quick.v1.md").read_text()
    assert "stopped by the time limit after 0 of 50 epochs" in card
    assert not (tmp_path / "quick" / "learning.png").exists()  # there is nothing to draw


def test_published_weights_come_back_by_url_and_hash(run, start, tmp_path) -> None:
    run("weights", "publish", start, "--to", tmp_path)
    data = (tmp_path / "small.v0.safetensors").read_bytes()
    sha256 = json.loads((tmp_path / "manifest.json").read_text())["weights"][0]["sha256"]
    with FileServer() as server:
        url = server.add("/w/small.v0.safetensors", data)
        refused = run("weights", "download", url)
        assert refused.code == 2 and "need their sha256" in refused.err
        wrong = run("weights", "download", url, "--sha256", "0" * 64)
        assert wrong.code == 5
        got = run("weights", "download", url, "--sha256", sha256)
    assert got.code == 0, got.err
    assert run("weights", "verify", "small.v0").code == 0
    assert run("weights", "verify", got.out.strip()).code == 0


def test_several_targets_with_gaps(run, table, start, tmp_path) -> None:
    depth = [1.0, "", 2.0, 3.0, "nan"]
    catalogue = table(kind=["a", "b", ""], depth=depth, z=[0.1, 0.2, 0.3, ""])
    done = run(
        "finetune", "--catalog", catalogue, "--target", "kind,depth,z", "--model", start,
        "-o", tmp_path / "three", *FAST,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "kind: a 10, b 10; missing 10" in done.err
    assert {"kind_accuracy", "depth_scatter", "z_outliers_0.01"} <= {
        line.split("\t")[0] for line in done.out.splitlines()
    }
    answer = run("classify", next(catalogue.parent.glob("labels.csv")), "--model", start)
    assert answer.code == 3  # a table of labels is no spectrum
    spectrum = next(csv.DictReader(catalogue.open()))["file"]
    answer = run("classify", spectrum, "--model", tmp_path / "three")
    assert set(answer.rows[0]) >= {"kind", "kind_prob", "depth", "depth_err"}
    assert float(answer.rows[0]["depth_err"]) > 0
    assert run("redshift", spectrum, "--model", tmp_path / "three").code == 0
    split = (tmp_path / "three" / "split.ecsv").read_text()
    assert split.count("fold") >= 30


def test_a_resumed_run_equals_an_uninterrupted_one(run, folders, start, tmp_path, monkeypatch):
    arguments = ("finetune", folders, "--model", start, *FAST)
    assert run(*arguments, "-o", tmp_path / "whole").code == 0
    saved = TrainingRun.save
    calls = []

    def save_then_die(*args, **kwargs):
        saved(*args, **kwargs)
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "save", save_then_die)
        assert run(*arguments, "-o", tmp_path / "parts").code == 130
    refused = run(*arguments, "-o", tmp_path / "parts")
    assert refused.code == 2
    assert "--resume" in refused.err and "--overwrite" in refused.err
    other = run(*arguments, "--seed", "2", "-o", tmp_path / "parts", "--resume")
    assert other.code == 2 and "other settings" in other.err
    done = run(*arguments, "-o", tmp_path / "parts", "--resume")
    assert done.code == 0, done.err
    whole = load_file(tmp_path / "whole" / "whole.v1.safetensors")
    parts = load_file(tmp_path / "parts" / "parts.v1.safetensors")
    for name, value in whole.items():
        assert bool((value == parts[name]).all()), name


def test_a_truncated_checkpoint_is_told(run, folders, start, tmp_path) -> None:
    arguments = ("finetune", folders, "--model", start, *FAST, "-o", tmp_path / "cut")
    assert run(*arguments).code == 0
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    result = run(*arguments, "--resume")
    assert result.code == 1
    assert "checkpoint.safetensors cannot be read" in result.err
    assert run(*arguments, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("columns", "target", "says"),
    [
        ({"class": ["a"]}, "class", "has 1 class with 2 objects"),
        ({"class": ["a", "b"], "x": [1, "2", "many"]}, "x", "mixes 20 numbers and 10 texts"),
        ({"x": ["", "nan"]}, "x", "no label in any row"),
        ({"x": [3.0]}, "x", "all equal"),
        ({"x": [3.0]}, "y", "has no column y"),
        ({"x": [3.0]}, "", "no column class or z"),
        ({"z": ["far"]}, "z", "text, not redshifts"),
    ],
)
def test_labels_that_will_not_do(run, table, start, columns, target, says) -> None:
    result = run(
        "finetune", "--catalog", table(**columns), "--target", target, "--model", start, "--dry-run"
    )
    assert result.code == 2
    assert says in result.err


def test_a_class_of_one_member_is_left_out(run, table, start) -> None:
    classes = ["rare"] + ["a", "b"] * 15
    result = run(
        "finetune", "--catalog", table(**{"class": classes}), "--model", start, "--dry-run"
    )
    assert result.code == 0, result.err
    assert "fewer than 2 objects: rare" in result.err
    assert "2 classes, from 29 spectra" in result.err


def test_all_files_missing(run, start, tmp_path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,class\nnone.fits,a\nnowhere.fits,b\n")
    result = run("finetune", "--catalog", path, "--model", start)
    assert result.code == 1
    assert "none of the spectra" in result.err


def test_some_files_missing_are_named_and_the_rest_is_used(run, folders, start, tmp_path) -> None:
    path = tmp_path / "labels.csv"
    files = sorted(folders.rglob("*.csv"))
    rows = [f"{name},{name.parent.name}" for name in files]
    path.write_text("\n".join(["file,class", "gone.csv,nova", *rows]))
    result = run("finetune", "--catalog", path, "--model", start, "--dry-run")
    assert result.code == 0, result.err
    assert "gone.csv" in result.err
    assert "1 cannot be read" in result.err


def test_another_wavelength_range_gets_its_own_grid(run, start, tmp_path) -> None:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / "ir" / name).mkdir(parents=True)
        for i in range(4):
            write_spectrum(tmp_path / "ir" / name / f"{i}.csv", rng, 0.1, low=15000.0)
    kept = run("finetune", tmp_path / "ir", "--model", start, "--grid", "model", "--dry-run")
    assert kept.code == 1
    assert "none of the 8 spectra can be read" in kept.err
    result = run(
        "finetune", tmp_path / "ir", "--model", start, *FAST, "--mode", "head",
        "-o", tmp_path / "run",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "a new grid, 15000 to 20196 Å" in result.err
    assert "position embeddings resampled from 3×3" in result.err
    assert "15000 to" in (tmp_path / "run" / "run.v1.md").read_text()
    answer = run("classify", tmp_path / "ir" / "a" / "0.csv", "--model", tmp_path / "run")
    assert answer.code == 0, answer.err


def test_spectra_of_one_object_stay_together() -> None:
    from spectromer_cli.spectra.positions import same_objects
    from spectromer_cli.training import split

    arcsec = 1 / 3600
    sky = [(10.0, 5.0), (10.0, 5.0 + 0.9 * arcsec), (10.0, 5.0 + 1.8 * arcsec), (200.0, 5.0)]
    sky += [(359.9999, 0.5), (0.0001, 0.5), (np.nan, np.nan), (np.nan, 1.0), (0, 0), (0, 0)]
    contents = [bytes([i]) for i in range(len(sky))]
    contents[3] = contents[7]
    group = same_objects(*np.array(sky, dtype=float).T, contents)
    # A chain within 1″ is one object, RA is wrapped, copies are one, unknown places are not.
    assert group[0] == group[1] == group[2]
    assert group[4] == group[5]
    assert group[3] == group[7]
    assert len(np.unique(group)) == 6
    rng = np.random.default_rng(0)
    many = rng.integers(300, size=1000)
    stratum = (many % 10 == 0).astype(int)
    part = split.three_parts(split.places(many, 1, stratum), 0.15)
    for number in range(300):
        assert len(set(part[many == number])) <= 1
    first = np.unique(many, return_index=True)[1]
    for value in (0, 1):
        own = part[first][stratum[first] == value]
        assert (own == split.TEST).mean() == pytest.approx(0.15, abs=0.03)


def test_out_of_memory_halves_the_batch(run, folders, start, tmp_path, monkeypatch) -> None:
    import torch

    from spectromer_cli.model.network import SpectralViT

    original = SpectralViT.forward

    def forward(self, flux, ivar):
        if self.training and len(flux) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, flux, ivar)

    arguments = ("finetune", folders, "--model", start, *FAST, "--mode", "full")
    assert run(*arguments, "-o", tmp_path / "whole").code == 0
    monkeypatch.setattr(loop, "fastest_precision", lambda model, device, pixels: None)
    monkeypatch.setattr(SpectralViT, "forward", forward)
    result = run(*arguments, "-o", tmp_path / "pieces")
    assert result.code == 0, result.err
    assert "splitting each batch into 4 parts" in result.err
    lines = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[1])
        for name in ("whole", "pieces")
    ]
    assert lines[0]["loss_class"] == pytest.approx(lines[1]["loss_class"], rel=0.02)


def test_two_processes_equal_one(run, folders, start, tmp_path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = ["finetune", str(folders), "--model", str(start), *FAST, "--mode", "full"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "spectromer_cli", *command, "-o", tmp_path / "two"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run(*command, "-o", tmp_path / "one").code == 0
    one = load_file(tmp_path / "one" / "one.v1.safetensors")
    two = load_file(tmp_path / "two" / "two.v1.safetensors")
    worst = max(float((one[name].float() - two[name].float()).abs().max()) for name in one
                if name.startswith(("backbone", "head")))  # fmt: skip
    assert worst < 0.01


def test_adapters_vanish_into_the_layers() -> None:
    import torch

    from spectromer_cli.model import tasks
    from spectromer_cli.model.config import ModelConfig
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.training import lora

    torch.manual_seed(0)
    asked = [tasks.to_dict(tasks.Category("class", ("a", "b")))]
    model = SpectralViT(ModelConfig("test_vit", "tiles", 2, Grid(), asked)).eval()
    plain = set(model.state_dict())
    flux, ivar = torch.randn(3, 4608), torch.ones(3, 4608)
    before = model(flux, ivar)["class"]
    lora.prepare(model, "lora")
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning and all(n.startswith("head") or n.endswith((".up", ".down")) for n in learning)
    torch.testing.assert_close(model(flux, ivar)["class"], before)  # they begin at nothing
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter, std=0.05)
    changed = model(flux, ivar)["class"]
    assert not torch.allclose(changed, before, atol=1e-3)
    lora.merge(model)
    assert set(model.state_dict()) == plain
    torch.testing.assert_close(model(flux, ivar)["class"], changed, atol=1e-4, rtol=1e-4)


def test_a_backbone_without_network_says_how_to_bring_the_file(run, folders, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    result = run(
        "finetune", folders, "--backbone", "vit_tiny_patch16_224", "-o", tmp_path / "r", *FAST
    )
    assert result.code == 4
    assert "--pretrained FILE" in result.err


def test_training_and_evaluation_print_the_same_figures(run, table, tmp_path) -> None:
    labels = table(
        **{"class": ["STAR", "GALAXY", "QSO"], "z": ["0", "0.1", "0.2"]},
        subclass=["G2", "", ""], teff=["5700", "", ""],
    )  # fmt: skip
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        'name = "small.v1"\ntokens = 2\nbatch_size = 6\nsteps = 2\nevaluate_every = 1\n'
        "simulated_share = 0\nvalidation_fraction = 0.4\n"
    )
    trained = run("train", recipe, "--data", labels, "-o", tmp_path / "run", "--workers", 0)
    assert trained.code == 0, trained.err
    twice = run("train", recipe, "--data", labels, "--data", labels, "-o", tmp_path / "two",
                "--workers", 0)  # fmt: skip
    assert twice.code == 0, twice.err
    one, both = (Table.read(tmp_path / name / "split.ecsv") for name in ("run", "two"))
    assert len(both) == 2 * len(one)
    sides = [set(both["split"][both["content"] == content]) for content in one["content"]]
    assert all(len(side) == 1 for side in sides)  # a copy of a spectrum is on the same side
    figures = {line.split("\t")[0]: line.split("\t")[1:] for line in trained.out.splitlines()}
    judged = run(
        "evaluate", "--data", labels, "--model", tmp_path / "run", "-o", tmp_path / "report"
    )
    assert judged.code == 0, judged.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert int(figures["class_n"][0]) == report["classes"]["n"] > 5
    # The weights are kept in half precision.
    accuracy = float(figures["class_accuracy"][0])
    assert accuracy == pytest.approx(report["classes"]["accuracy"], abs=0.15)
    far = report["redshifts"]["galaxies_and_quasars"]
    assert float(figures["z_nmad"][0]) == pytest.approx(far["nmad"], rel=0.05)
    assert f"| NMAD of Δz/(1+z) | {float(figures['z_nmad'][0]):.4g} (" in (
        tmp_path / "run" / "small.v1.md"
    ).read_text(encoding="utf-8")
    again = run("train", recipe, "--data", labels, "-o", tmp_path / "run")
    assert again.code == 2 and "--resume it, --overwrite it" in again.err
