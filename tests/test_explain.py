"""Explanations: exact where they claim to be, untouched networks, true lines, honest failures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from conftest import EXAMPLES

from spectromer_cli.errors import UsageError
from spectromer_cli.explain import attribution, faithfulness
from spectromer_cli.explain.question import Question, ask
from spectromer_cli.explain.regions import lines_in, strongest
from spectromer_cli.images import IMAGES
from spectromer_cli.inference.predictor import Spectromer, load_model
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.spectra.grid import Grid, prepare
from spectromer_cli.spectra.readers import read

GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"
QUASAR = EXAMPLES / "simulated-boss-quasar.fits"
STAR = EXAMPLES / "simulated-sdss-star.fits"


@pytest.fixture(scope="module")
def model() -> Spectromer:
    return load_model(device="cpu")


def tensors(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    prepared = prepare(read(path)[0], Grid())
    return torch.from_numpy(prepared.flux[None]), torch.from_numpy(prepared.ivar[None])


def question_of(model: Spectromer, path: Path, target: str, wanted: str | None = None) -> Question:
    prepared = prepare(read(path)[0], Grid())
    answers = {name: values[0] for name, values in model.outputs([prepared]).items()}
    return ask(model.network.tasks, model.config.temperatures, answers, target, wanted)


def small(image: str = "tiles", tokens: int = 3, seed: int = 0) -> SpectralViT:
    torch.manual_seed(seed)
    asked = [tasks.to_dict(tasks.Category("class", taxonomy.CLASSES))]
    return SpectralViT(ModelConfig("test_vit", image, tokens, Grid(), asked)).eval()


CLASS = Question(tasks.Category("class", taxonomy.CLASSES), "GALAXY", np.array([1]), 1.0)


def test_gradients_share_the_score_out_completely(model) -> None:
    flux, ivar = tensors(GALAXY)
    question = question_of(model, GALAXY, "class")
    shares = attribution.gradients(model.network, flux, ivar, question)
    with torch.no_grad():
        whole = question.score(model.network(flux, ivar))
        none = question.score(model.network(attribution.baseline(flux, ivar), ivar))
    assert shares.sum() == pytest.approx(float(whole - none), rel=0.05)
    assert not shares[(ivar == 0)[0].numpy()].any()


def test_attention_is_collected_and_the_network_left_as_it_was() -> None:
    model = small()
    flux, ivar = tensors(GALAXY)
    layers = [part for part in model.backbone.modules() if hasattr(part, "fused_attn")]
    before = [layer.fused_attn for layer in layers]
    with torch.no_grad():
        answer = model(flux, ivar)["class"]
        with attribution.attention_of(model) as seen:
            inside = model(flux, ivar)["class"]
    assert len(seen) == len(layers)
    torch.testing.assert_close(inside, answer, atol=1e-4, rtol=1e-4)
    for attention in seen:
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    with pytest.raises(RuntimeError), attribution.attention_of(model):
        raise RuntimeError
    assert [layer.fused_attn for layer in layers] == before
    assert not any(layer.attn_drop._forward_hooks for layer in layers)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("method", attribution.METHODS)
def test_every_method_works_on_every_image(image: str, method: str) -> None:
    model = small(image, tokens=7)
    flux, ivar = tensors(GALAXY)
    if method == "gradients" and image in attribution.NO_GRADIENT:
        with pytest.raises(UsageError, match="no gradient"):
            attribution.METHODS[method](model, flux, ivar, CLASS)
        return
    importance = attribution.METHODS[method](model, flux, ivar, CLASS)
    assert importance.shape == (4608,)
    assert np.isfinite(importance).all()
    assert np.ptp(importance) > 0


@pytest.mark.parametrize("method", attribution.METHODS)
def test_other_weights_give_another_map(model, method: str) -> None:
    """Adebayo et al. (2018): a map that survives shuffled weights explains nothing."""
    flux, ivar = tensors(QUASAR)
    question = question_of(model, QUASAR, "class")
    shuffled = load_model(device="cpu").network
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            flat = parameter.view(-1)
            parameter.copy_(flat[torch.randperm(len(flat))].view_as(parameter))
    maps = [attribution.METHODS[method](m, flux, ivar, question) for m in (model.network, shuffled)]
    binned = [np.add.reduceat(values, np.arange(0, 4608, 96)) for values in maps]
    ranks = [np.argsort(np.argsort(values)) for values in binned]
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("path", "target", "line"),
    [
        (QUASAR, "z", "C IV 1549"),
        (QUASAR, "z", "C III] 1909"),
        (GALAXY, "z", "Hα"),
        (GALAXY, "z", "[O III] 5007"),
    ],
)
def test_the_lines_that_decide_are_found(run, path: Path, target: str, line: str) -> None:
    result = run("explain", path, "--target", target, "--json")
    assert result.code == 0, result.err
    row = json.loads(result.out)["rows"][0]
    assert line in {name for stretch in row["stretches"] for name in stretch["lines"]}
    assert row["probability"] > 0.9


@pytest.mark.parametrize(("path", "target"), [(GALAXY, "class"), (QUASAR, "z")])
def test_hiding_what_matters_lowers_the_answer_more_than_hiding_at_random(
    model, path: Path, target: str
) -> None:
    flux, ivar = tensors(path)
    question = question_of(model, path, target)
    own = attribution.gradients(model.network, flux, ivar, question)
    rng = np.random.default_rng(0)
    deletion, insertion = faithfulness.curves(model.network, flux, ivar, question, own)
    randoms = [
        faithfulness.curves(model.network, flux, ivar, question, rng.random(4608)) for _ in range(5)
    ]
    assert deletion[0] == pytest.approx(insertion[-1], abs=1e-4)  # nothing hidden: all shown
    assert faithfulness.area(deletion) < min(faithfulness.area(d) for d, _ in randoms)
    assert faithfulness.area(insertion) > np.mean([faithfulness.area(i) for _, i in randoms]) - 0.01


def test_a_question_about_another_answer(model) -> None:
    own = question_of(model, STAR, "class")
    other = question_of(model, STAR, "class", "galaxy")
    assert (own.label, other.label) == ("STAR", "GALAXY")
    flux, ivar = tensors(STAR)
    with torch.no_grad():
        logits = model.network(flux, ivar)
    p = model.outputs([prepare(read(STAR)[0], Grid())])["class"][0]
    assert float(own.probability(logits)) == pytest.approx(p[0], abs=1e-4)
    assert float(other.probability(logits)) == pytest.approx(p[1], abs=1e-4)
    z = question_of(model, GALAXY, "z", "0.2")
    assert np.ptp(np.expm1(z.task.x[z.outputs])) < 0.03
    assert question_of(model, STAR, "subclass", "K").label == "STAR K"


def test_stretches_are_named_by_the_lines_at_z() -> None:
    grid = Grid()
    importance = np.zeros(grid.n)
    centre = 6564.61 * 1.1
    importance[np.abs(grid.wavelength - centre) < 5.0] = 2.0
    importance[np.abs(grid.wavelength - 5008.24 * 1.1) < 5.0] = 1.0
    importance[100:200] = -5.0
    found = strongest(importance, grid, "GALAXY", 0.1)
    assert [stretch.share for stretch in found] == sorted((s.share for s in found), reverse=True)
    assert found[0].low < centre < found[0].high
    assert "Hα" in found[0].lines
    assert "[O III] 5007" in found[1].lines
    assert sum(stretch.share for stretch in found) == pytest.approx(1.0)
    assert lines_in(4000.0, 5000.0, "GALAXY", float("nan")) == ()
    assert strongest(np.zeros(grid.n), grid, "STAR", 0.0) == []


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures(run, tmp_path, suffix: str) -> None:
    path = tmp_path / f"why{suffix}"
    result = run("explain", QUASAR, "--frame", "rest", "--dark", "-o", path)
    assert result.code == 0, result.err
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start)
    if suffix == ".svg":
        text = path.read_text()
        assert "wavelength" in text and "rest" in text and "QSO" in text


def test_numbers(run, tmp_path) -> None:
    path = tmp_path / "why.ecsv"
    assert run("explain", GALAXY, "--method", "occlusion", "-o", path).code == 0
    table = Table.read(path)
    assert table.colnames == ["wavelength", "flux", "ivar", "importance"]
    assert len(table) == 4608
    assert table.meta["method"] == "occlusion"
    bad = np.asarray(table["ivar"]) == 0
    assert bad.any() and not np.asarray(table["importance"])[bad].any()


def test_several_spectra_and_a_broken_one(run, tmp_path) -> None:
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE  =")
    folder = tmp_path / "why"
    result = run("explain", STAR, broken, GALAXY, "-o", folder)
    assert result.code == 3
    assert "broken.fits" in result.err
    names = {path.name for path in folder.iterdir()}
    assert names == {"simulated-sdss-star.png", "simulated-sdss-galaxy.png"}
    page = tmp_path / "<why>.html"
    result = run("explain", STAR, GALAXY, "--top", "1", "-o", page)
    assert result.code == 0, result.err
    assert page.read_text().count("<figure>") == 1
    assert "http" not in page.read_text()
    one = run("explain", STAR, GALAXY, "-o", tmp_path / "one.png")
    assert one.code == 2 and "there are more" in one.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--target", "colour"), "no task 'colour'"),
        (("--for", "PLANET"), "no label 'PLANET'"),
        (("--target", "z", "--for", "far"), "no redshift"),
        (("--target", "z", "--for", "99"), "outside"),
        (("--method", "magic"), "no method 'magic'"),
        (("--frame", "moving"), "--frame moving"),
        (("-o", "why.doc"), "unknown suffix"),
    ],
)
def test_questions_that_make_no_sense(run, options, says: str) -> None:
    result = run("explain", STAR, *options)
    assert result.code == 2
    assert says in result.err


def test_a_quantity_can_be_explained(run, tmp_path) -> None:
    from spectromer_cli.weights.save import write_weights

    torch.manual_seed(0)
    asked = [tasks.to_dict(tasks.Quantity("teff", 5800.0, 500.0))]
    config = ModelConfig("test_vit", "tiles", 3, Grid(), asked)
    write_weights(tmp_path, "t.v1", SpectralViT(config).state_dict(), config, {})
    result = run("explain", STAR, "--model", tmp_path, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["rows"][0]["target"] == "teff"
    assert run("explain", STAR, "--model", tmp_path, "-o", tmp_path / "why.png").code == 0
