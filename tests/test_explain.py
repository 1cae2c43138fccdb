"""Explanations: exact where they claim to be, with the lines that decide, untouched networks."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from conftest import EXAMPLES, texts_that_overlap
from matplotlib.colors import to_hex

from spectromer_cli.errors import UsageError
from spectromer_cli.explain import METHODS, attribution, explain, faithfulness, figure
from spectromer_cli.explain.prediction import Prediction, choose
from spectromer_cli.explain.regions import lines_between, strongest_regions
from spectromer_cli.images import IMAGES
from spectromer_cli.inference.predictor import Spectromer, load_model
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.spectra.drawing import DARK, LIGHT
from spectromer_cli.spectra.grid import Grid, prepare
from spectromer_cli.spectra.lines import lines_for
from spectromer_cli.spectra.loading import Inputs
from spectromer_cli.spectra.readers import read

GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"
QUASAR = EXAMPLES / "simulated-boss-quasar.fits"
STAR = EXAMPLES / "simulated-sdss-star.fits"
TWO = EXAMPLES / "simulated-desi-coadd.fits"


@pytest.fixture(scope="module")
def model() -> Spectromer:
    return load_model(device="cpu")


def tensors(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    prepared = prepare(read(path)[0], Grid())
    return torch.from_numpy(prepared.flux[None]), torch.from_numpy(prepared.ivar[None])


def prediction_of(
    model: Spectromer, path: Path, task: str, wanted: str | None = None
) -> Prediction:
    prepared = prepare(read(path)[0], Grid())
    outputs = {name: values[0] for name, values in model.outputs([prepared]).items()}
    return choose(model.network.tasks, model.config.temperatures, outputs, task, wanted)


def small(image: str = "tiles", tokens: int = 3, seed: int = 0) -> SpectralViT:
    torch.manual_seed(seed)
    asked = [tasks.to_dict(tasks.Category("class", taxonomy.CLASSES))]
    return SpectralViT(ModelConfig("test_vit", image, tokens, Grid(), asked)).eval()


CLASS = Prediction(
    task=tasks.Category("class", taxonomy.CLASSES), label="GALAXY", outputs=np.array([1])
)


def test_gradients_share_the_score_out_completely(model) -> None:
    flux, ivar = tensors(GALAXY)
    prediction = prediction_of(model, GALAXY, "class")
    shares = attribution.gradients(model.network, flux, ivar, prediction)
    with torch.no_grad():
        whole = prediction.score(model.network(flux, ivar))
        none = prediction.score(model.network(attribution.baseline(flux, ivar), ivar))
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
@pytest.mark.parametrize("method", METHODS)
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


@pytest.mark.parametrize("method", METHODS)
def test_other_weights_give_another_map(model, method: str) -> None:
    """Adebayo et al. (2018): a map that survives shuffled weights explains nothing."""
    flux, ivar = tensors(QUASAR)
    prediction = prediction_of(model, QUASAR, "class")
    shuffled = load_model(device="cpu").network
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            flat = parameter.view(-1)
            parameter.copy_(flat[torch.randperm(len(flat))].view_as(parameter))
    maps = [
        attribution.METHODS[method](m, flux, ivar, prediction) for m in (model.network, shuffled)
    ]
    binned = [np.add.reduceat(values, np.arange(0, 4608, 96)) for values in maps]
    ranks = [np.argsort(np.argsort(values)) for values in binned]
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("path", "task", "line"),
    [
        (QUASAR, "z", "C IV 1549"),
        (QUASAR, "z", "C III] 1909"),
        (GALAXY, "z", "Hα"),
        (GALAXY, "z", "[O III] 5007"),
    ],
)
def test_the_lines_that_decide_are_found(run, path: Path, task: str, line: str) -> None:
    result = run("explain", path, "--task", task, "--json")
    assert result.code == 0, result.err
    row = json.loads(result.out)["rows"][0]
    assert line in {name for region in row["regions"] for name in region["lines"]}
    assert row["probability"] > 0.9


@pytest.mark.parametrize(("path", "task"), [(GALAXY, "class"), (QUASAR, "z")])
def test_hiding_what_matters_lowers_the_answer_more_than_hiding_at_random(
    model, path: Path, task: str
) -> None:
    flux, ivar = tensors(path)
    prediction = prediction_of(model, path, task)
    own = attribution.gradients(model.network, flux, ivar, prediction)
    rng = np.random.default_rng(0)
    deletion, insertion = faithfulness.curves(model.network, flux, ivar, prediction, own)
    randoms = [
        faithfulness.curves(model.network, flux, ivar, prediction, rng.random(4608))
        for _ in range(5)
    ]
    assert deletion[0] == pytest.approx(insertion[-1], abs=1e-4)  # nothing hidden: all shown
    assert faithfulness.area(deletion) < min(faithfulness.area(d) for d, _ in randoms)
    assert faithfulness.area(insertion) > np.mean([faithfulness.area(i) for _, i in randoms]) - 0.01


def test_another_prediction_than_the_models(model) -> None:
    own = prediction_of(model, STAR, "class")
    other = prediction_of(model, STAR, "class", "galaxy")
    assert (own.label, other.label) == ("STAR", "GALAXY")
    flux, ivar = tensors(STAR)
    with torch.no_grad():
        logits = model.network(flux, ivar)
    p = model.outputs([prepare(read(STAR)[0], Grid())])["class"][0]
    assert float(own.probability(logits)) == pytest.approx(p[0], abs=1e-4)
    assert float(other.probability(logits)) == pytest.approx(p[1], abs=1e-4)
    z = prediction_of(model, GALAXY, "z", "0.2")
    assert np.ptp(np.expm1(z.task.x[z.outputs])) < 0.03
    assert prediction_of(model, STAR, "subclass", "K").label == "STAR K"


def test_regions_are_named_by_the_lines_at_z() -> None:
    grid, lines = Grid(), lines_for("GALAXY")
    importance = np.zeros(grid.n)
    centre = 6564.61 * 1.1
    importance[np.abs(grid.wavelength - centre) < 5.0] = 2.0
    importance[np.abs(grid.wavelength - 5008.24 * 1.1) < 5.0] = 1.0
    importance[100:200] = -5.0
    found = strongest_regions(importance, grid, lines, 0.1)
    assert [region.share for region in found] == sorted((r.share for r in found), reverse=True)
    assert found[0].low < centre < found[0].high
    assert "Hα" in found[0].names
    assert "[O III] 5007" in found[1].names
    assert sum(region.share for region in found) == pytest.approx(1.0)
    assert lines_between(4000.0, 5000.0, lines, float("nan")) == ()
    assert strongest_regions(np.zeros(grid.n), grid, lines, 0.0) == []
    mg_b = strongest_regions(
        np.where(np.abs(grid.wavelength - 5175.0) < 5.0, 1.0, 0.0), grid, lines_for("STAR", "G2"), 0
    )
    assert mg_b[0].names == ["Mg b4 5167", "Mg b2 5173", "Mg b1 5184"]


# --- from Python ----------------------------------------------------------------------------


def test_spectra_and_files_in_explanations_out(model, tmp_path) -> None:
    own = read(STAR)[0]
    (of_spectrum,) = explain([own], model, method="attention")
    (of_file,) = explain(str(STAR), model, method="attention")
    (of_inputs,) = explain(Inputs(files=[str(STAR)]), model, method="attention")
    assert str(of_spectrum.prediction) == "class = STAR"
    assert of_spectrum.importance.shape == (model.grid.n,)
    assert (of_spectrum.importance >= 0).all() and of_spectrum.importance.any()
    for other in (of_file, of_inputs):
        np.testing.assert_allclose(other.importance, of_spectrum.importance)
        assert other.item.file == str(STAR)
    several = list(explain([GALAXY, TWO], model, task="z", method="attention"))
    assert [(Path(e.item.file), e.item.row) for e in several] == [(GALAXY, 0), (TWO, 0), (TWO, 1)]
    assert len(list(explain([GALAXY, TWO], model, method="attention", top=2))) == 2
    figure.save(of_spectrum, tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_explained_is_counted(model, tmp_path, capsys) -> None:
    from spectromer_cli.inference.failures import Failures

    failures = Failures()
    made = explain([tmp_path / "none.fits", STAR], model, method="attention", failures=failures)
    assert len(list(made)) == 1
    assert (failures.seen, failures.count) == (2, 1)
    assert "none.fits" in capsys.readouterr().err
    with pytest.raises(UsageError, match="invalid --method 'rollout'"):
        explain(STAR, model, method="rollout")
    with pytest.raises(UsageError, match="mixed"):
        list(explain([STAR, read(STAR)[0]], model))


def test_a_model_that_answers_not_a_number_explains_nothing(capsys) -> None:
    from spectromer_cli.inference.failures import Failures

    broken, failures = load_model(device="cpu"), Failures()
    with torch.no_grad():
        for parameter in broken.network.parameters():
            parameter.fill_(torch.nan)
    assert list(explain(STAR, broken, failures=failures)) == []
    assert (failures.seen, failures.count) == (1, 1)
    assert "not a number" in capsys.readouterr().err


# --- figures --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS[::2])
@pytest.mark.parametrize(("path", "task"), [(QUASAR, "z"), (GALAXY, "class"), (STAR, "class")])
def test_texts_of_a_figure_do_not_overlap(model, path: Path, task: str, method: str) -> None:
    (explanation,) = explain(path, model, task=task, method=method)
    for rest_frame in (False, True):
        assert texts_that_overlap(figure.draw(explanation, rest_frame=rest_frame)) == []


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_blue_speaks_for_the_prediction_and_orange_against(model, theme) -> None:
    (explanation,) = explain(STAR, model)
    assert explanation.importance.min() < 0 < explanation.importance.max()
    band = figure.draw(explanation, theme=theme).axes[1]
    (mesh,) = band.collections
    ends = [
        to_hex(mesh.cmap(mesh.norm(value))).upper() for value in (mesh.norm.vmin, mesh.norm.vmax)
    ]
    assert ends == [theme.opposing.upper(), theme.supporting.upper()]
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert "blue supports class = STAR, orange opposes it" in band.get_xlabel()


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures(run, tmp_path, suffix: str) -> None:
    path = tmp_path / f"why{suffix}"
    result = run("explain", QUASAR, "--frame", "rest", "--dark", "-o", path)
    assert result.code == 0, result.err
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start)
    if suffix == ".svg":
        text = path.read_text()
        assert "Rest-frame wavelength" in text and "class = QSO" in text


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
    result = run("explain", STAR, broken, TWO, "--method", "attention", "-o", folder)
    assert result.code == 3
    assert "broken.fits" in result.err
    stems = {STAR.stem, f"{TWO.stem}.0", f"{TWO.stem}.1"}
    names = {path.name for path in folder.iterdir()}
    assert names == {stem + suffix for stem in stems for suffix in (".png", ".ecsv")}
    table = Table.read(folder / f"{TWO.stem}.1.ecsv")
    assert "importance" in table.colnames and np.ptp(table["importance"]) > 0
    page = tmp_path / "<why>.html"
    result = run("explain", STAR, GALAXY, "--top", "1", "-o", page)
    assert result.code == 0, result.err
    assert page.read_text().count("<figure>") == 1
    assert "http" not in page.read_text()


def test_a_folder_of_explanations_goes_into_a_report(run, tmp_path) -> None:
    folder, results = tmp_path / "why", tmp_path / "z.ecsv"
    assert run("redshift", STAR, TWO, "-o", results).code == 0
    assert run("explain", STAR, TWO, "--method", "attention", "-o", folder).code == 0
    page = tmp_path / "report.html"
    result = run("report", results, "--importance", folder, "-o", page)
    assert result.code == 0, result.err
    spectra = re.findall(r'id="spectrum-(\d)">(.*)</script>', page.read_text())
    assert len(spectra) == 3
    assert all("importance" in json.loads(packed) for _, packed in spectra)


def test_inputs_of_the_same_name_do_not_overwrite_each_other(run, tmp_path) -> None:
    for night in ("a", "b"):
        (tmp_path / night).mkdir()
        shutil.copy(STAR, tmp_path / night / "spec.fits")
    inputs = (tmp_path / "a", tmp_path / "b")
    result = run("explain", *inputs, "--method", "attention", "-o", tmp_path / "why")
    assert result.code == 0
    names = {path.name for path in (tmp_path / "why").iterdir()}
    assert names == {"spec.png", "spec.ecsv", "spec-2.png", "spec-2.ecsv"}
    assert "spec-2" in result.err


@pytest.mark.parametrize("name", ["one.png", "one.ecsv"])
def test_one_output_for_several_spectra_is_refused_before_any_work(
    run, tmp_path, monkeypatch, name: str
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an explanation was computed")

    monkeypatch.setitem(attribution.METHODS, "gradients", never)
    folder = tmp_path / "spectra"
    folder.mkdir()
    for path in (STAR, GALAXY):
        shutil.copy(path, folder)
    output = tmp_path / name
    output.write_text("precious")
    for inputs in ((STAR, GALAXY), (folder,), (folder / "*.fits",), (TWO,)):
        result = run("explain", *inputs, "-o", output)
        assert result.code == 2, inputs
        assert "holds one spectrum" in result.err
        assert output.read_text() == "precious"


def test_one_output_for_one_spectrum_among_other_files(run, tmp_path) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    shutil.copy(STAR, folder)
    (folder / "notes.txt").write_text("clouds\n")
    attention = ("--method", "attention")
    result = run("explain", folder, *attention, "-o", tmp_path / "one.png")
    assert result.code == 0, result.err
    for number, inputs in enumerate(((TWO, "--top", "1"), (f"{TWO}[1]",))):
        result = run("explain", *inputs, *attention, "-o", tmp_path / f"{number}.png")
        assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--task", "colour"), "invalid --task 'colour'"),
        (("--for", "PLANET"), "not a label of class"),
        (("--task", "z", "--for", "far"), "not a redshift"),
        (("--task", "z", "--for", "99"), "outside"),
        (("--task", "teff", "--for", "5000"), "teff, which is a number"),
        (("--method", "rollout"), "invalid --method 'rollout'"),
        (("--frame", "moving"), "invalid --frame 'moving'"),
        (("--target", "z"), "--target"),
        (("-o", "why.doc"), "unknown file type"),
    ],
)
def test_options_that_make_no_sense(run, options, says: str) -> None:
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
    assert json.loads(result.out)["rows"][0]["task"] == "teff"
    assert run("explain", STAR, "--model", tmp_path, "-o", tmp_path / "why.png").code == 0
