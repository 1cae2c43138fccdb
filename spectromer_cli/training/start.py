"""The model before the first step: at random, from ImageNet, or from weights of this program."""

from __future__ import annotations

from pathlib import Path

import torch  # noqa: TID253  (this module is imported only where torch is needed)

from spectromer_cli.errors import ReadError
from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.spectromer import SpectralViT
from spectromer_cli.model.weights import HEADER_KEY


def start(config: ModelConfig, pretrained: Path | None) -> SpectralViT:
    """The model before the first step.

    Parameters
    ----------
    config : ModelConfig
        What is to be trained.
    pretrained : Path or None
        ImageNet weights of the backbone in timm's names, or weights of this program, whose
        tasks may be others; None starts at random.

    Returns
    -------
    SpectralViT

    Raises
    ------
    ReadError
        If the file cannot be read or its backbone is another one.
    """
    from safetensors import SafetensorError, safe_open

    if pretrained is None:
        return SpectralViT(config)
    try:
        with safe_open(pretrained, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER_KEY)
            if header is None:
                return SpectralViT(config, pretrained)
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        model = SpectralViT(config)
        trunk = {
            name.removeprefix("backbone."): value
            for name, value in tensors.items()
            if name.startswith("backbone.")
        }
        model.backbone.load_state_dict(trunk)
        old = ModelConfig.from_json(header, str(pretrained))
        _take_over_head(model, old, tensors["head.weight"], tensors["head.bias"])
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ReadError(
            f"{pretrained} does not fit {config.backbone} ({reason})",
            "give weights of the recipe's backbone and tokens, as safetensors",
        ) from error
    return model


@torch.no_grad()
def _take_over_head(
    model: SpectralViT, old: ModelConfig, weight: torch.Tensor, bias: torch.Tensor
) -> None:
    """Give every output that the old head had too, by task and label, its weights."""
    rows = {key: row for row, key in enumerate(_outputs([tasks.from_dict(t) for t in old.tasks]))}
    for row, key in enumerate(_outputs(model.tasks)):
        if key in rows:
            model.head.weight[row] = weight[rows[key]]
            model.head.bias[row] = bias[rows[key]]


def _outputs(asked: list[tasks.Task]) -> list[tuple[object, ...]]:
    """What each output means: task and label, or all that fixes the value, and its number."""
    found: list[tuple[object, ...]] = []
    for task in asked:
        if isinstance(task, tasks.Category | tasks.Ordered):
            found += [(task.kind, task.name, label) for label in task.labels]
        else:
            settings = {k: v for k, v in tasks.to_dict(task).items() if k != "weight"}
            found += [(*settings.items(), number) for number in range(task.size)]
    return found
