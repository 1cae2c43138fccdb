"""The ViT that predicts is timm's, without timm."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.vit import SIZES, plain_vit
from spectromer_cli.spectra.grid import Grid


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


def test_a_prediction_imports_what_it_needs(random_weights: Path) -> None:
    unneeded = ("timm", "torchvision", "torch._dynamo", "matplotlib", "requests",
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
