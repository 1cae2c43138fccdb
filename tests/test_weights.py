"""Weights: found by name, verified at every use, described by their own header."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from http_server import FileServer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from spectromer_cli.cli import weights as commands
from spectromer_cli.errors import NetworkError, SpectromerError, UsageError, WeightsNotVerified
from spectromer_cli.model.config import CONFIG_VERSION, ModelConfig
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.weights.manifest import load_manifest
from spectromer_cli.weights.publish import download_published, publish
from spectromer_cli.weights.save import write_weights
from spectromer_cli.weights.store import resolve

CONFIG = ModelConfig(
    backbone="vit_tiny_patch16_224",
    image="tiles",
    tokens=7,
    grid=Grid(3.55, 2e-4, 2304),
    tasks=[
        {"name": "class", "kind": "category", "labels": ["STAR", "GALAXY", "QSO"]},
        {"name": "z", "kind": "redshift", "bins": 800, "x0": -0.01, "dx": 0.0025},
    ],
    temperatures={"class": 1.25},
)
STATE = {
    "head.weight": torch.linspace(-2, 2, 12).reshape(3, 4),
    "tied.weight": torch.eye(3),
    "steps": torch.tensor(7),
}
STATE["tied.again"] = STATE["tied.weight"]
EXTRA = {"licence": "CC-BY-4.0", "trained_on": "made-up spectra", "description": "A toy."}


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that came with two sets of weights, and an empty cache."""
    folder = tmp_path / "bundled"
    write_weights(folder, "toy-tiny.v1", STATE, CONFIG, EXTRA)
    write_weights(folder, "toy-small.v2", STATE, replace(CONFIG, tokens=14), EXTRA)
    monkeypatch.setattr("spectromer_cli.weights.manifest.bundled_weights_dir", lambda: folder)
    monkeypatch.setenv("SPECTROMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture
def online(bundled: Path, server: FileServer) -> FileServer:
    """The second set is on a server instead of beside the manifest."""
    file = bundled / "toy-small.v2.safetensors"
    url = server.add("/toy-small.v2.safetensors", file.read_bytes())
    file.unlink()
    edit_entry(bundled, "toy-small.v2", url=url)
    return server


def edit_entry(folder: Path, name: str, **values: object) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    next(e for e in document["weights"] if e["name"] == name).update(values)
    (folder / "manifest.json").write_text(json.dumps(document))


def tamper(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.add_typer(commands.commands, name="weights")
    return CliRunner().invoke(app, ["weights", *arguments])


# The configuration


def test_config_comes_back() -> None:
    text = CONFIG.to_json()
    assert "\n" not in text
    assert ModelConfig.from_json(text) == CONFIG
    assert json.loads(text)["grid"] == {"loglam0": 3.55, "dloglam": 2e-4, "n": 2304}


def edited_config(**values: object) -> str:
    return json.dumps(json.loads(CONFIG.to_json()) | values)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        (edited_config(version=CONFIG_VERSION + 1, extra=1), "newer version", "upgrade"),
        (edited_config(extra=1), "unknown to this version: extra", "upgrade"),
        (edited_config(grid={"loglam0": 3.5, "speed": 1}), "invalid model", "again"),
        (edited_config(tasks="class"), "invalid model", "again"),
        (edited_config(tokens="7"), "invalid model", "again"),
        ('{"version": 1, "image": "tiles"}', "invalid model", "again"),
        ("[1]", "invalid model", "again"),
        ("{", "invalid model", "again"),
    ],
)
def test_config_that_will_not_do(text: str, words: str, hint: str) -> None:
    with pytest.raises(SpectromerError, match=words) as caught:
        ModelConfig.from_json(text, source="a.safetensors")
    assert str(caught.value).startswith("a.safetensors")
    assert "\n" not in str(caught.value) and hint in caught.value.hint


@pytest.mark.parametrize(
    "backbone",
    [
        "hf-hub:someone/evil", "local-dir:/tmp/evil", "timm/vit_tiny", "../vit_tiny", "vit tiny",
        "", "vit_tiny.a.b", "VIT", "vit_tiny\n", "file:x", "vit_tiny_patch16_224.",
    ],
)  # fmt: skip
def test_a_backbone_is_a_plain_name_of_timm(backbone: str) -> None:
    with pytest.raises(SpectromerError, match="is not a plain name of timm"):
        ModelConfig.from_json(edited_config(backbone=backbone))
    tagged = edited_config(backbone="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert ModelConfig.from_json(tagged).backbone.endswith("in1k")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tokens": 10**6}, "tokens 1000000 is not a whole number from 1 to 64"),
        ({"tokens": 0}, "tokens 0"),
        ({"tokens": True}, "tokens True"),
        ({"grid": {"loglam0": 3.5, "dloglam": 1e-4, "n": 10**12}}, "grid.n 1000000000000"),
        ({"grid": {"loglam0": 3.5, "dloglam": 1e-30, "n": 100}}, "grid.dloglam 1e-30"),
        ({"grid": {"loglam0": 3.5, "dloglam": "x", "n": 100}}, "grid.dloglam is not a number"),
        ({"grid": {"loglam0": 1e300, "dloglam": 1e-4, "n": 100}}, "grid.loglam0"),
        ({"grid": {"loglam0": 3.5, "dloglam": 0.1, "n": 1000}}, "the grid ends at"),
        ({"tasks": [{"name": "z", "kind": "redshift", "bins": 10**10}]}, "bins of z"),
        ({"tasks": [{"name": "z", "kind": "redshift", "bins": 60000}] * 2}, "120000 outputs"),
        ({"tasks": [{"name": "a", "kind": "quantity"}] * 1000}, "number of tasks 1000"),
        ({"tasks": []}, "number of tasks 0"),
    ],
)
def test_absurd_sizes_are_refused_in_words(values: dict[str, object], words: str) -> None:
    with pytest.raises(SpectromerError, match="invalid model configuration") as caught:
        ModelConfig.from_json(edited_config(**values))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[" * 100_000, "nested too deeply"), (f'{{"a": "{"x" * 5_000_000}"}}', "characters")],
)
def test_absurd_json_is_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpectromerError, match=words):
        ModelConfig.from_json(text)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(SpectromerError, match="is broken"):
        load_manifest(tmp_path)


def test_weights_that_are_not_those_of_their_header(tmp_path: Path) -> None:
    from spectromer_cli.inference.predictor import load_model

    write_weights(tmp_path / "a", "a.v1", STATE, CONFIG, EXTRA)
    unknown = replace(CONFIG, backbone="vit_that_nobody_made")
    write_weights(tmp_path / "b", "b.v1", STATE, unknown, EXTRA)
    for folder in ("a", "b"):
        with pytest.raises(SpectromerError, match="does not hold the model") as caught:
            load_model(str(tmp_path / folder), "cpu")
        assert "\n" not in str(caught.value)


def test_config_with_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(CONFIG, temperatures={"class": float("nan")}).to_json()


# Writing


def test_write_and_read_back(tmp_path: Path) -> None:
    entry = write_weights(tmp_path / "mine", "toy.v1", STATE, CONFIG, EXTRA)
    file = tmp_path / "mine" / "toy.v1.safetensors"
    assert entry == load_manifest(tmp_path / "mine").entries["toy.v1"]
    assert entry["size"] == file.stat().st_size
    assert entry["licence"] == "CC-BY-4.0" and entry["image"] == "tiles"
    assert entry["labels"] == {"class": ["STAR", "GALAXY", "QSO"]}
    assert entry["grid"]["n"] == 2304
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == {"spectromer": CONFIG.to_json()}
    state = load_file(file)
    assert set(state) == set(STATE)
    assert state["head.weight"].dtype == torch.float16 and state["steps"] == 7
    torch.testing.assert_close(
        state["head.weight"].float(), STATE["head.weight"], atol=1e-3, rtol=0
    )
    assert sorted(p.name for p in file.parent.iterdir()) == ["manifest.json", file.name]


def test_same_name_replaces_and_the_default_stays(bundled: Path) -> None:
    write_weights(bundled, "toy-small.v2", {"a": torch.ones(1)}, CONFIG, {"licence": "other"})
    manifest = load_manifest(bundled)
    assert list(manifest.entries) == ["toy-tiny.v1", "toy-small.v2"]
    assert manifest.default == "toy-tiny.v1"
    assert manifest.entries["toy-small.v2"]["licence"] == "other"
    assert resolve("toy-small.v2").config == CONFIG


@pytest.mark.parametrize("name", ["../toy", "", "hf-hub:a/b", ".hidden"])
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="invalid name for weights"):
        write_weights(tmp_path, name, STATE, CONFIG, EXTRA)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold(tmp_path: Path, value: float) -> None:
    with pytest.raises(SpectromerError, match=r"head\.bias are not finite"):
        write_weights(tmp_path, "toy", {"head.bias": torch.tensor([value])}, CONFIG, EXTRA)
    assert list(tmp_path.iterdir()) == []


# Finding and verifying


def test_default(bundled: Path) -> None:
    found = resolve()
    assert found.name == "toy-tiny.v1"
    assert found.path == bundled / "toy-tiny.v1.safetensors"
    assert found.config == CONFIG
    assert found.sha256 == found.entry["sha256"] and len(found.sha256) == 64


def test_by_name(bundled: Path) -> None:
    assert resolve("toy-small.v2").config.tokens == 14


def test_tampered_file(bundled: Path) -> None:
    resolve()
    tamper(bundled / "toy-tiny.v1.safetensors")
    with pytest.raises(WeightsNotVerified) as caught:
        resolve()
    assert caught.value.exit_code == 5
    expected = load_manifest(bundled).entries["toy-tiny.v1"]["sha256"]
    assert "toy-tiny.v1.safetensors" in str(caught.value) and expected[:12] in str(caught.value)
    assert "reinstall" in caught.value.hint  # no address to download it from


def test_typo_offers_near_names(bundled: Path) -> None:
    with pytest.raises(UsageError, match="toy-tyni") as caught:
        resolve("toy-tyni.v1")
    assert "toy-tiny.v1" in caught.value.hint and caught.value.exit_code == 2
    with pytest.raises(UsageError) as caught:
        resolve("something else")
    assert "toy-tiny.v1, toy-small.v2" in caught.value.hint


def test_no_weights_came_with_the_program(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(tmp_path / "mine", "own.v1", STATE, CONFIG, EXTRA)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr("spectromer_cli.weights.manifest.bundled_weights_dir", lambda: empty)
    with pytest.raises(SpectromerError, match="this installation contains no weights"):
        resolve()
    assert resolve("mine").name == "own.v1"


def test_folder(tmp_path: Path, bundled: Path) -> None:
    write_weights(tmp_path / "mine", "own.v1", STATE, CONFIG, {})
    found = resolve(str(tmp_path / "mine"))
    assert (found.name, found.config) == ("own.v1", CONFIG)
    tamper(found.path)
    with pytest.raises(WeightsNotVerified) as caught:
        resolve("mine")
    assert "folder" in caught.value.hint
    found.path.unlink()
    with pytest.raises(SpectromerError, match="cannot be read"):
        resolve("mine")
    (tmp_path / "mine" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="contains no weights"):
        resolve("mine")


def test_file_in_a_folder(bundled: Path, tmp_path: Path) -> None:
    path = bundled / "toy-small.v2.safetensors"
    assert resolve(str(path)).name == "toy-small.v2"
    stray = tmp_path / "stray.safetensors"
    stray.write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match="contains no weights"):
        resolve(str(stray))
    write_weights(tmp_path, "other.v1", STATE, CONFIG, EXTRA)
    with pytest.raises(UsageError, match="cannot be verified"):
        resolve(str(stray))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version": 1, "weights": []}',
        '{"version": 1, "default": "a", "weights": []}',
        '{"version": 1, "default": "a", "weights": [{"name": "a", "file": "f"}]}',
        '{"version": 1, "default": "a", "weights": [{"name":"a","file":"../f","sha256":"0"}]}',
        '{"version": 2, "default": "a", "weights": []}',
    ],
)
def test_broken_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    said = r"manifest\.json (is broken|needs a newer)"
    with pytest.raises(SpectromerError, match=said) as caught:
        load_manifest(tmp_path)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_file_of_another_program(bundled: Path) -> None:
    import hashlib

    file = bundled / "toy-tiny.v1.safetensors"
    save_file({"a": torch.ones(1)}, file)
    edit_entry(bundled, "toy-tiny.v1", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(SpectromerError, match="not written by spectromer"):
        resolve()
    file.write_bytes(b"no safetensors at all")
    edit_entry(bundled, "toy-tiny.v1", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(SpectromerError, match="not a safetensors file"):
        resolve()


# Publishing


def test_published_weights_come_back_with_the_same_entry(
    tmp_path: Path, bundled: Path, server: FileServer
) -> None:
    mine = write_weights(tmp_path / "mine", "own.v1", STATE, CONFIG, EXTRA)
    assert publish(tmp_path / "mine", tmp_path / "out") == mine
    url = server.add("/own.v1.safetensors", (tmp_path / "out" / "own.v1.safetensors").read_bytes())
    folder = download_published(url, mine["sha256"].upper())
    # What the file does not hold comes with its card.
    assert load_manifest(folder).entries["own.v1"] == {
        **{key: value for key, value in mine.items() if key not in EXTRA}, "url": url
    }  # fmt: skip
    assert resolve("own.v1").config == CONFIG
    with pytest.raises(UsageError, match="safetensors"):
        download_published(server.url + "/own.zip", mine["sha256"])


# Downloading


def test_downloaded_once_into_the_cache(tmp_path: Path, bundled: Path, online: FileServer) -> None:
    found = resolve("toy-small.v2")
    assert found.path == tmp_path / "cache" / "weights" / "toy-small.v2.safetensors"
    assert found.config.tokens == 14
    assert (tmp_path / "cache" / "CACHEDIR.TAG").exists()
    resolve("toy-small.v2")
    assert len(online.requests) == 1


def test_damaged_download_is_mended_by_force(bundled: Path, online: FileServer) -> None:
    found = resolve("toy-small.v2")
    tamper(found.path)
    with pytest.raises(WeightsNotVerified) as caught:
        resolve("toy-small.v2")
    assert caught.value.hint == "spectromer weights download toy-small.v2 --force"
    assert resolve("toy-small.v2", force=True).sha256 == found.sha256
    assert resolve("toy-small.v2").sha256 == found.sha256


def test_damaged_bundled_file_is_mended_by_force(bundled: Path, server: FileServer) -> None:
    file = bundled / "toy-tiny.v1.safetensors"
    edit_entry(bundled, "toy-tiny.v1", url=server.add("/toy", file.read_bytes()))
    tamper(file)
    with pytest.raises(WeightsNotVerified):
        resolve()
    resolve("toy-tiny.v1", force=True)
    assert resolve().config == CONFIG


def test_server_with_other_weights(bundled: Path, online: FileServer, tmp_path: Path) -> None:
    data = bytearray(online.files["/toy-small.v2.safetensors"][0])
    data[-1] ^= 1
    online.add("/toy-small.v2.safetensors", bytes(data))
    with pytest.raises(WeightsNotVerified):
        resolve("toy-small.v2")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_absent_without_an_address(bundled: Path) -> None:
    (bundled / "toy-small.v2.safetensors").unlink()
    with pytest.raises(SpectromerError, match="no download URL"):
        resolve("toy-small.v2")


# The hub


@pytest.fixture
def hub(
    bundled: Path, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FileServer:
    """The hub's file API on this machine, with one repository."""
    import huggingface_hub

    write_weights(tmp_path / "repo", "theirs.v3", STATE, CONFIG, EXTRA)
    files = {p.name: p.read_bytes() for p in (tmp_path / "repo").iterdir()}
    server.add_hub_repository("someone/spectra", files)
    local = functools.partial(
        huggingface_hub.hf_hub_download, endpoint=server.url, cache_dir=tmp_path / "hf"
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", local)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return server


def test_hub(hub: FileServer, tmp_path: Path) -> None:
    found = resolve("hf-hub:someone/spectra")
    assert found.name == "hf-hub:someone/spectra"
    assert found.entry["name"] == "theirs.v3" and found.config == CONFIG
    assert (tmp_path / "hf") in found.path.parents


def test_hub_offline_takes_what_is_in_the_cache(
    hub: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="not in its cache") as caught:
        resolve("hf-hub:someone/spectra")
    assert "HF_HUB_OFFLINE" in caught.value.hint and hub.requests == []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    resolve("hf-hub:someone/spectra")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert resolve("hf-hub:someone/spectra").config == CONFIG
    assert len(hub.requests) == asked


def test_hub_file_tampered_with(hub: FileServer) -> None:
    found = resolve("hf-hub:someone/spectra")
    tamper(found.path)
    with pytest.raises(WeightsNotVerified) as caught:
        resolve("hf-hub:someone/spectra")
    assert caught.value.hint == "spectromer weights download hf-hub:someone/spectra --force"
    assert resolve("hf-hub:someone/spectra", force=True).sha256 == found.sha256


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("hf-hub:nobody/nothing", "does not exist on the hub", 4),
        ("hf-hub:someone/else", "has no file manifest.json", 4),
        ("hf-hub:not/a/name", "not the name of a repository", 2),
    ],
)
def test_hub_without_such_weights(hub: FileServer, name: str, words: str, code: int) -> None:
    hub.add_hub_repository("someone/else", {"README.md": b"hello"})
    with pytest.raises(SpectromerError, match=words) as caught:
        resolve(name)
    assert caught.value.exit_code == code and caught.value.hint
    assert "\n" not in str(caught.value)


def test_the_hub_sends_no_more_than_the_manifest_says(hub: FileServer, tmp_path: Path) -> None:
    path = next(path for path in hub.files if path.endswith(".safetensors"))
    data, headers = hub.files[path]
    hub.files[path] = data + bytes(100_000), headers
    with pytest.raises(NetworkError, match=r"more than the \d+ bytes expected"):
        resolve("hf-hub:someone/spectra")
    assert not list((tmp_path / "hf").rglob("snapshots/*/*.safetensors"))


def test_a_download_ends_at_the_size_of_the_manifest(online: FileServer, bundled: Path) -> None:
    edit_entry(bundled, "toy-small.v2", size=100)
    with pytest.raises(NetworkError, match="more bytes than the 100 expected"):
        resolve("toy-small.v2")
    edit_entry(bundled, "toy-small.v2", size="many")
    with pytest.raises(SpectromerError, match="a size is not a number of bytes"):
        resolve("toy-small.v2")


# The commands


def test_list(bundled: Path, online: FileServer) -> None:
    result = run("list")
    assert result.exit_code == 0
    first, second = (line for line in result.stdout.splitlines() if "toy-" in line)
    assert first.split("\t")[:2] == ["toy-tiny.v1", "yes"] and first.endswith("yes\tA toy.")
    assert second.split("\t")[:2] == ["toy-small.v2", ""] and "\tno\t" in second
    document = json.loads(run("list", "--json").stdout)
    assert document["default"] == "toy-tiny.v1"
    here, there = document["weights"]
    assert here["path"] == str(bundled / "toy-tiny.v1.safetensors") and there["path"] is None
    assert online.requests == []


def test_info(bundled: Path) -> None:
    text = run("info", "toy-tiny.v1").stdout
    for words in ("CC-BY-4.0", "made-up spectra", "class: STAR, GALAXY, QSO", "dloglam 0.0002"):
        assert words in text
    assert json.loads(run("info", "toy-tiny.v1", "--json").stdout)["sha256"] == resolve().sha256


def test_path_and_download_print_only_the_path(bundled: Path, online: FileServer) -> None:
    for arguments in (["path"], ["download"], ["download", "--force", "-q"]):
        result = run(*arguments, "toy-small.v2")
        assert result.exit_code == 0
        assert Path(result.stdout.strip()) == resolve("toy-small.v2").path
    assert len(online.requests) == 2


def test_verify(bundled: Path, online: FileServer) -> None:
    result = run("verify")  # what is not here is not asked for
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["ok", "toy-tiny.v1"]]
    absent = run("verify", "toy-small.v2").exception
    assert isinstance(absent, UsageError) and "toy-small.v2" in absent.hint


def test_verify_names_what_is_wrong(bundled: Path) -> None:
    tamper(bundled / "toy-tiny.v1.safetensors")
    result = run("verify", "--json")
    assert isinstance(result.exception, WeightsNotVerified)  # exit code 5, set by the app
    assert "toy-tiny.v1.safetensors" in str(result.exception)
    rows = json.loads(result.stdout)["weights"]
    assert [(row["name"], row["verified"]) for row in rows] == [
        ("toy-tiny.v1", False),
        ("toy-small.v2", True),
    ]


@pytest.mark.parametrize("command", [[], ["list"], ["info"], ["path"], ["download"], ["verify"]])
def test_every_help_ends_with_examples(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in " ".join(result.stdout.strip().splitlines()[-3:])
