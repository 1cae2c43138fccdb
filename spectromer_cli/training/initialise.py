"""The model before the first step: at random, from ImageNet, or from weights of this program."""

from __future__ import annotations

from pathlib import Path

import torch

from spectromer_cli.errors import NetworkError, ReadError
from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.weights.store import HEADER_KEY

# In place of a file: timm's own weights of the backbone, over the network.
FROM_HUB = Path("hub")


def start(config: ModelConfig, pretrained: Path | None) -> SpectralViT:
    """The model before the first step.

    Parameters
    ----------
    config : ModelConfig
        What is to be trained.
    pretrained : Path or None
        ImageNet weights of the backbone in timm's names, or weights of this program, whose
        tasks and number of tokens may be others; `FROM_HUB` fetches timm's; None starts at
        random.

    Returns
    -------
    SpectralViT

    Raises
    ------
    ReadError
        If the file cannot be read or its backbone is another one.
    NetworkError
        If the hub cannot be reached.
    """
    from safetensors import SafetensorError, safe_open

    if pretrained is None:
        return SpectralViT(config)
    if pretrained is FROM_HUB:
        return _from_hub(config)
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
        _resample_positions(model, trunk)
        model.backbone.load_state_dict(trunk)
        old = ModelConfig.from_json(header, str(pretrained))
        _take_over_head(model, old, tensors["head.weight"], tensors["head.bias"])
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ReadError(
            f"{pretrained} does not fit {config.backbone} ({reason})",
            f"give weights of {config.backbone}, as safetensors",
        ) from error
    return model


def _from_hub(config: ModelConfig) -> SpectralViT:
    """A model whose backbone starts from timm's weights of that name."""
    import timm

    model = SpectralViT(config)
    try:
        source = timm.create_model(config.backbone, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises what comes up, offline or not
        reason = " ".join(str(error).split())[:120]
        raise NetworkError(
            f"the ImageNet weights of {config.backbone} cannot be fetched ({reason})",
            f"bring model.safetensors of huggingface.co/timm/{config.backbone} from elsewhere: "
            "--pretrained FILE",
        ) from error
    trunk = dict(source.state_dict())
    _resample_positions(model, trunk)
    model.backbone.load_state_dict(trunk)
    return model


def _resample_positions(model: SpectralViT, trunk: dict[str, torch.Tensor]) -> None:
    """Stretch the position embeddings to another number of tokens, if there are others."""
    from timm.layers import resample_abs_pos_embed

    old = trunk.get("pos_embed")
    if old is not None and old.shape[1] != model.backbone.pos_embed.shape[1]:  # type: ignore[index]
        side = model.config.tokens
        trunk["pos_embed"] = resample_abs_pos_embed(
            old, new_size=[side, side], num_prefix_tokens=model.backbone.num_prefix_tokens
        )


@torch.no_grad()
def _take_over_head(
    model: SpectralViT, old: ModelConfig, weight: torch.Tensor, bias: torch.Tensor
) -> None:
    """Give every output that the old head had too, by task and label, its weights.

    The others begin at nought: they say nothing before they have learned something.
    """
    model.head.weight.zero_()
    model.head.bias.zero_()
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
