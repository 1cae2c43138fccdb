"""The model before the first step: its grid, its tasks, and the weights that it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from spectromer_cli.errors import NetworkError, ReadError, UsageError
from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training.dataset import Source
from spectromer_cli.weights.store import HEADER_KEY, resolve

# In place of a file: timm's own weights of the backbone, over the network.
FROM_HUB = Path("hub")
# The model's grid is kept if the typical spectrum fills so much of it, and it shows so much of
# the spectrum.
MIN_FILLED, MIN_SHOWN = 0.5, 0.6
# Samples per token on the default grid (4608 samples in 49 tokens), and the fewest and most
# tokens along a side.
SAMPLES_PER_TOKEN = 94
MIN_TOKENS, MAX_TOKENS = 4, 14
MIN_SAMPLES = 1024


@dataclass(frozen=True)
class Origin:
    """What a training starts from.

    Parameters
    ----------
    config : ModelConfig
        Backbone, image, tokens and grid; its tasks are those of the weights.
    weights : Path or None
        See `start`.
    said : str
        For people and the card.
    templates : dict of str to Tensor
        Templates for redshifts, of weights of this program.
    keeps_tasks : bool
        Whether the weights' own tasks can be kept beside new ones: they are weights of this
        program, and see spectra on the same grid.
    """

    config: ModelConfig
    weights: Path | None
    said: str
    templates: dict[str, torch.Tensor] = field(default_factory=dict)
    keeps_tasks: bool = False

    def on_grid_of(self, source: Source, options: ReadOptions) -> tuple[Origin, str]:
        """With a grid that fits the spectra, and what was chosen, for people.

        Raises
        ------
        ReadError
            If none of the spectra that are looked at can be read.
        """
        config, said = choose_grid(source, self.config, options)
        same = config.grid == self.config.grid
        return replace(self, config=config, keeps_tasks=self.keeps_tasks and same), said


def choose_origin(
    model: str | None, backbone: str = "", pretrained: Path | None = None, at_random: bool = False
) -> Origin:
    """What a fine-tuning starts from.

    Parameters
    ----------
    model : str or None
        Weights of this program, as `weights.store.resolve` takes them.
    backbone : str
        Another ViT of timm, started from its ImageNet weights.
    pretrained : Path or None
        The file of those; without it they come from the hub.
    at_random : bool
        Start the backbone at random instead.

    Raises
    ------
    UsageError
        If there is no such model or backbone, or the options contradict each other.
    """
    if pretrained and not backbone:
        raise UsageError("--pretrained needs --backbone", "give the timm name of the ViT")
    if pretrained and at_random:
        raise UsageError("--pretrained and --random-start exclude each other", "give one of them")
    weights = resolve(model)
    config = weights.config
    if backbone or at_random:
        import timm

        name = backbone or config.backbone
        if not timm.is_model(name):
            raise UsageError(f"timm has no model {name}", "see timm.list_models('vit*')")
        config = replace(config, backbone=name)
        if at_random:
            return Origin(config, None, f"random weights of {name}")
        return Origin(config, pretrained or FROM_HUB, f"ImageNet weights of {name}")
    from safetensors.torch import load_file

    templates = {
        name: value.float()
        for name, value in load_file(weights.path).items()
        if name.startswith("templates.")
    }
    return Origin(config, weights.path, weights.name, templates, keeps_tasks=True)


def choose_grid(
    source: Source, config: ModelConfig, options: ReadOptions
) -> tuple[ModelConfig, str]:
    """A configuration whose grid fits the spectra.

    Parameters
    ----------
    source : Source
    config : ModelConfig
        The weights' own.
    options : ReadOptions

    Returns
    -------
    config : ModelConfig
        With the same grid, or another grid and number of tokens.
    said : str
        For people: what was chosen, and why.

    Raises
    ------
    ReadError
        If none of the spectra that are looked at can be read.
    """
    seen = source.ranges(options)
    if not len(seen):
        raise ReadError("none of the spectra tried can be read", "check the paths and the formats")
    low, high, sampling = np.median(seen, axis=0)
    own = config.grid.loglam[[0, -1]]
    overlap = max(0.0, min(high, own[1]) - max(low, own[0]))
    filled, shown = overlap / (own[1] - own[0]), overlap / (high - low)
    if filled >= MIN_FILLED and shown >= MIN_SHOWN:
        return config, f"the grid of the weights fits: the typical spectrum fills {filled:.0%}"
    # From where nearly all begin to where nearly all end, as finely as they are sampled.
    low, high = np.percentile(seen[:, 0], 5), np.percentile(seen[:, 1], 95)
    finest = (high - low) / (SAMPLES_PER_TOKEN * MAX_TOKENS**2)
    coarsest = (high - low) / MIN_SAMPLES
    dloglam = float(np.clip(sampling, finest, coarsest))
    n = int(np.ceil((high - low) / dloglam)) + 1
    tokens = int(np.clip(round(np.sqrt(n / SAMPLES_PER_TOKEN)), MIN_TOKENS, MAX_TOKENS))
    said = (
        f"the typical spectrum fills {filled:.0%} of the weights' grid, which covers {shown:.0%} "
        f"of it: using a new grid, {10**low:.0f} to {10**high:.0f} Å in {n} pixels, "
        f"{tokens}×{tokens} tokens"
    )
    if tokens != config.tokens:
        said += f" (position embeddings resampled from {config.tokens}×{config.tokens})"
    return replace(config, grid=Grid(float(low), dloglam, n), tokens=tokens), said


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
        backbone = {
            name.removeprefix("backbone."): value
            for name, value in tensors.items()
            if name.startswith("backbone.")
        }
        _resample_positions(model, backbone)
        model.backbone.load_state_dict(backbone)
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
            f"download model.safetensors of huggingface.co/timm/{config.backbone} elsewhere and "
            f"give "
            "--pretrained FILE",
        ) from error
    backbone = dict(source.state_dict())
    _resample_positions(model, backbone)
    model.backbone.load_state_dict(backbone)
    return model


def _resample_positions(model: SpectralViT, backbone: dict[str, torch.Tensor]) -> None:
    """Stretch the position embeddings to another number of tokens, if there are others."""
    from timm.layers import resample_abs_pos_embed

    old = backbone.get("pos_embed")
    if old is not None and old.shape[1] != model.backbone.pos_embed.shape[1]:  # type: ignore[index]
        side = model.config.tokens
        backbone["pos_embed"] = resample_abs_pos_embed(
            old, new_size=[side, side], num_prefix_tokens=model.backbone.num_prefix_tokens
        )


@torch.no_grad()
def _take_over_head(
    model: SpectralViT, old: ModelConfig, weight: torch.Tensor, bias: torch.Tensor
) -> None:
    """Give every output that the old head had too, by task and label, its weights.

    The others start at zero: they say nothing before they have learned something.
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
            settings = {k: v for k, v in tasks.to_dict(task).items() if k not in ("weight", "bins")}
            found += [(*settings.items(), number) for number in range(task.size)]
    return found
