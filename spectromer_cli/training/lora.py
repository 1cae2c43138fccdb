"""Which parameters learn: the head, low-rank adapters in the backbone, or all of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from spectromer_cli.model.network import SpectralViT

# Of the adapters. LoRA: Hu et al. 2021 (arXiv:2106.09685).
LORA_RANK = 8
LORA_SCALE = 2.0
# Learning rates that suit AdamW with batches of about 64.
RATES = {"head": 2e-3, "lora": 1e-3, "full": 3e-4}
# A layer learns this much slower than the one after it (Clark et al. 2020, arXiv:2003.10555).
LAYER_DECAY = 0.75


class LowRank(nn.Module):
    """A frozen linear layer and a correction of low rank that learns.

    Parameters
    ----------
    base : nn.Linear
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.empty(LORA_RANK, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, LORA_RANK))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5.0))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output with the correction, shape (…, out_features)."""
        return self.base(x) + (x @ self.down.T) @ self.up.T * LORA_SCALE

    def merged(self) -> nn.Linear:
        """One plain layer that does the same."""
        with torch.no_grad():
            self.base.weight += LORA_SCALE * self.up @ self.down
        return self.base


def prepare(model: SpectralViT, mode: str) -> None:
    """Freeze and extend the model for "head", "lora" or "full"."""
    if mode == "full":
        return
    for parameter in model.backbone.parameters():
        parameter.requires_grad = False
    if mode == "lora":
        layers = [name for name, part in model.backbone.named_modules() if _adapts(name, part)]
        for name in layers:
            _replace(model.backbone, name, LowRank(model.backbone.get_submodule(name)))  # type: ignore[arg-type]


def _adapts(name: str, part: nn.Module) -> bool:
    return isinstance(part, nn.Linear) and name.startswith("blocks.")


def merge(model: SpectralViT) -> None:
    """Put the adapters' corrections into the layers, so that a plain ViT remains."""
    for name, part in list(model.backbone.named_modules()):
        if isinstance(part, LowRank):
            _replace(model.backbone, name, part.merged())
    for parameter in model.backbone.parameters():
        parameter.requires_grad = True


def _replace(root: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, part)


def groups(model: SpectralViT, mode: str, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW, each with ``scale``, its share of the learning rate.

    Parameters
    ----------
    model : SpectralViT
        As `prepare` left it.
    mode : str
        In "full", deeper layers learn slower by `LAYER_DECAY` a layer.
    weight_decay : float
        Biases, norms and embeddings have none.
    """
    head = {"params": list(model.head.parameters()), "weight_decay": weight_decay, "scale": 1.0}
    if mode == "full":
        from timm.optim import param_groups_layer_decay

        backbone = param_groups_layer_decay(
            model.backbone, weight_decay=weight_decay, layer_decay=LAYER_DECAY
        )
        for group in backbone:
            group["scale"] = group.pop("lr_scale")
            group.pop("param_names", None)
        return [*backbone, head]
    adapters = [p for p in model.backbone.parameters() if p.requires_grad]
    if not adapters:
        return [head]
    return [{"params": adapters, "weight_decay": 0.0, "scale": 1.0}, head]
