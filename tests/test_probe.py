"""The head before the first step: what a convex fit finds on the trunk as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import linear_probe
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.initialise import start
from spectromer_cli.training.targets import Target

CPU = torch.device("cpu")
KIND = Target("kind", np.arange(60) % 2, ("dwarf", "nova"))


@pytest.fixture(scope="module")
def data() -> LabelledSpectra:
    """60 spectra of 30 objects: Hβ in absorption, in emission, by turns."""
    grid, rng = Grid(), np.random.default_rng(5)
    line = np.exp(-0.5 * ((grid.wavelength - 4862.7) / 12.0) ** 2)
    sign = np.where(np.arange(60) % 2, 1.0, -0.7)
    flux = 1.0 + sign[:, None] * line + rng.normal(0.0, 0.1, (60, grid.n))
    n = len(flux)
    return LabelledSpectra(
        grid=grid, flux=flux.astype("f2"), ivar=np.full(flux.shape, 100.0, "f4"),
        has_ivar=np.ones(n, bool), survey=np.full(n, ""), group=(np.arange(n) // 2).astype(str),
        sn=np.full(n, 10.0), file=np.full(n, "a.fits"), row=np.arange(n),
        ra=np.full(n, np.nan), dec=np.full(n, np.nan), labels={},
    )  # fmt: skip


def model_for(*asked: tasks.Task) -> SpectralViT:
    torch.manual_seed(2)
    config = ModelConfig("test_vit", "tiles", 7, Grid(), [tasks.to_dict(task) for task in asked])
    return start(config, None)


def batches(data: LabelledSpectra, *targets: Target) -> Batches:
    rows = np.arange(40)
    return Batches(data, targets, rows, data.grid, batch_size=16, steps=10, seed=3)


def logits(model: SpectralViT, data: LabelledSpectra, rows: slice) -> dict[str, torch.Tensor]:
    flux = torch.from_numpy(data.flux[rows].astype("f4"))
    with torch.inference_mode():
        return model.eval()(flux, torch.from_numpy(data.ivar[rows]))


def test_classes_are_told_apart_on_a_trunk_that_has_learned_nothing(data) -> None:
    model = model_for(KIND.task(np.ones(60, bool)))
    trunk = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    linear_probe.fit_head(model, batches(data, KIND), CPU)
    found = logits(model, data, slice(40, 60))["kind"].argmax(dim=1).numpy()
    assert (found == KIND.values[40:]).mean() >= 0.9
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, trunk[name])


def test_the_same_again(data) -> None:
    heads = []
    for _ in range(2):
        model = model_for(KIND.task(np.ones(60, bool)))
        linear_probe.fit_head(model, batches(data, KIND), CPU)
        heads.append(model.head.weight.detach().clone())
    assert torch.equal(*heads)


def test_a_number_and_its_error(data) -> None:
    depth = Target("depth", np.where(KIND.values == 1, 3.0, 1.0) + 0.01 * np.arange(60))
    model = model_for(depth.task(np.ones(60, bool)))
    linear_probe.fit_head(model, batches(data, depth), CPU)
    task = model.tasks[0]
    value, error = task.prediction(logits(model, data, slice(40, 60))["depth"]).T.numpy()
    assert np.corrcoef(value, depth.values[40:])[0, 1] > 0.8
    pull = (value - depth.values[40:]) / error
    assert np.median(np.abs(pull)) < 3.0


def test_what_the_data_say_nothing_of_stays_as_it_was(data) -> None:
    """Weights that were there before are the start; without a label nothing moves them."""
    unknown = Target("grade", np.full(60, -1), ("A", "B"))
    one = np.ones(60, bool)
    model = model_for(KIND.task(one), unknown.task(one))
    with torch.no_grad():
        model.head.weight.normal_()
        model.head.bias.normal_()
    before = logits(model, data, slice(0, 60))["grade"].clone()
    linear_probe.fit_head(model, batches(data, KIND, unknown), CPU)
    torch.testing.assert_close(
        logits(model, data, slice(0, 60))["grade"], before, rtol=1e-3, atol=1e-3
    )


def test_one_object_cannot_be_split_and_is_fitted_all_the_same(data) -> None:
    alone = replace(data, group=np.full(60, "one"))
    model = model_for(KIND.task(np.ones(60, bool)))
    linear_probe.fit_head(model, batches(alone, KIND), CPU)
    assert torch.isfinite(model.head.weight).all()
