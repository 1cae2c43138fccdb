"""The ViT that predicts is timm's, whoever computes it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

import spectromer_cli
from spectromer_cli.model import runtime, tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.vit import SIZES, plain_vit
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.spectrum import Spectrum

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def config_of(backbone: str, tokens: int) -> ModelConfig:
    known = [tasks.to_dict(task) for task in tasks.default_tasks()]
    return ModelConfig(backbone, "tiles", tokens, Grid(), known)


def networks(backbone: str = "vit_tiny_patch16_224", tokens: int = 4) -> tuple[SpectralViT, ...]:
    """Timm's and the plain one, of the same weights, none of which is zero or one."""
    config = config_of(backbone, tokens)
    torch.manual_seed(1)
    timms = SpectralViT(config)
    for name, value in timms.named_parameters():
        if value.dim() == 1 or "token" in name:
            torch.nn.init.normal_(value, mean=0.5, std=0.3)
    plain = SpectralViT(config, backbone=plain_vit(config))
    plain.load_state_dict(timms.state_dict())
    return timms.eval(), plain.eval()


def spectra(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(2)
    flux = 1.0 + 0.3 * rng.normal(size=(count, Grid().n))
    ivar = rng.uniform(1.0, 20.0, size=flux.shape) * (rng.uniform(size=flux.shape) > 0.1)
    return torch.from_numpy(flux.astype("f4")), torch.from_numpy(ivar.astype("f4"))


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "vit_small_patch16_224.augreg_in1k"])
def test_the_plain_vit_is_timms(backbone: str) -> None:
    timms, plain = networks(backbone)
    assert not type(plain.backbone).__module__.startswith("timm")
    with torch.inference_mode():
        for own, known in zip(plain.seen(*spectra(3)), timms.seen(*spectra(3)), strict=True):
            torch.testing.assert_close(own, known, rtol=1e-5, atol=1e-5)
        for name, logits in timms(*spectra(3)).items():
            torch.testing.assert_close(plain(*spectra(3))[name], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", SIZES)
def test_sizes_are_timms(backbone: str) -> None:
    import timm

    with torch.device("meta"):
        known = timm.create_model(backbone, num_classes=0, img_size=112)
        own = plain_vit(config_of(backbone, 7))
    assert own is not None
    assert {k: v.shape for k, v in own.state_dict().items()} == {
        k: v.shape for k, v in known.state_dict().items()
    }
    assert own.blocks[0].attn.heads == known.blocks[0].attn.num_heads
    assert own.norm.eps == known.norm.eps


@pytest.mark.parametrize(
    "backbone", ["test_vit", "vit_base_patch16_clip_224", "deit3_small_patch16_224"]
)
def test_other_backbones_stay_timms(backbone: str) -> None:
    assert plain_vit(config_of(backbone, 7)) is None


@pytest.mark.parametrize("fused", [True, False])
def test_attention_and_gradients_are_timms(fused: bool) -> None:
    from spectromer_cli.explain.attribution import attention_of

    seen = []
    for network in networks():
        flux, ivar = spectra(2)
        flux.requires_grad_()
        with attention_of(network) as matrices:
            if fused:
                for part in network.backbone.modules():
                    if hasattr(part, "fused_attn"):
                        part.fused_attn = True  # type: ignore[assignment]
            total = network(flux, ivar)["class"].sum()
        (gradient,) = torch.autograd.grad(total, flux)
        seen.append([*matrices, gradient])
    assert len(seen[0]) == len(seen[1]) == (1 if fused else 13)
    for known, own in zip(*seen, strict=True):
        torch.testing.assert_close(own, known, rtol=1e-4, atol=1e-6)


@needs_openvino
@pytest.mark.parametrize("count", [1, runtime.CHUNK, 2 * runtime.CHUNK + 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_openvino_gives_the_same_features(count: int, threads: int) -> None:
    _, plain = networks()
    image = plain.image(*spectra(count))
    fast = runtime.by_openvino(plain, threads)
    with torch.inference_mode():
        for own, known in zip(fast(image), plain.see(image), strict=True):
            assert own.shape == known.shape
            torch.testing.assert_close(own, known, rtol=0, atol=2e-5 * float(known.abs().max()))


class Counted:
    """In place of OpenVINO: says how often it was asked, and adds an error."""

    def __init__(self, error: float = 0.0) -> None:
        self.error, self.built, self.images = error, 0, 0

    def __call__(self, network: SpectralViT, threads: int) -> runtime.See:
        self.built += 1
        if self.error == np.inf:
            raise RuntimeError("no such\nplugin")

        def see(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.images += len(image)
            features, layers = network.see(image)
            return features + self.error, layers

        return see


def run_of(count: int, monkeypatch: pytest.MonkeyPatch, instead: Counted) -> list[torch.Tensor]:
    monkeypatch.setattr(runtime, "by_openvino", instead)
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: name)
    _, plain = networks(tokens=2)
    this = runtime.Runtime(plain, torch.device("cpu"))
    with torch.inference_mode():
        return [this.seen(*spectra(64))[0] for _ in range(count // 64)]


def test_few_spectra_do_not_wait_for_it_to_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(runtime.WORTHWHILE, monkeypatch, instead := Counted())
    assert instead.built == 0
    run_of(runtime.WORTHWHILE + 128, monkeypatch, instead)
    assert instead.built == 1
    assert instead.images == 128 + runtime.CHUNK  # and those it was tried on


@pytest.mark.parametrize(
    ("error", "reason"), [(np.inf, "no such plugin"), (0.1, "off by"), (np.nan, "off by nan")]
)
def test_pytorch_takes_its_place(
    error: float, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instead = Counted(error)
    found = run_of(runtime.WORTHWHILE + 128, monkeypatch, instead)
    assert instead.built == 1, "it is tried once"
    said = capsys.readouterr().err
    assert said.count("OpenVINO is not used") == 1
    assert reason in " ".join(said.split())
    assert torch.equal(found[-1], found[0])


@needs_openvino
def test_a_long_run_has_the_rows_of_a_short_one(random_weights: Path) -> None:
    model = spectromer_cli.load_model(str(random_weights), "cpu")
    flux, ivar = (values[:5].numpy().astype(float) for values in spectra(5))
    five = [Spectrum(Grid().wavelength, f, i) for f, i in zip(flux, ivar, strict=True)]
    first = model.predict(five)
    model.predict(five * (runtime.WORTHWHILE // 5 + 1), refined=False)
    later = model.predict(five)
    assert model._runtime._see != model.network.see
    for name in first.colnames:
        if first[name].dtype.kind == "f":
            np.testing.assert_allclose(
                np.ma.filled(first[name], np.nan),
                np.ma.filled(later[name], np.nan),
                rtol=2e-4,
                err_msg=name,
            )
        else:
            assert list(first[name]) == list(later[name]), name


def test_a_prediction_imports_what_it_needs(random_weights: Path) -> None:
    unneeded = ("timm", "torchvision", "torch._dynamo", "openvino", "matplotlib", "requests",
                "huggingface_hub", "h5py", "bokeh", "pyvo", "astroquery")  # fmt: skip
    example = next((ROOT / "docs" / "examples").glob("*.fits"))
    code = (
        "import sys\n"
        "from spectromer_cli.cli.app import app\n"
        f"try: app(['redshift', {str(example)!r}, '--model', {str(random_weights)!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('UNNEEDED', [name for name in {unneeded!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("UNNEEDED []"), done.stdout + done.stderr
