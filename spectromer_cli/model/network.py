"""The network: a ViT that sees the image of a spectrum, with one linear head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spectromer_cli.images import PATCH, get_image
from spectromer_cli.model import tasks

if TYPE_CHECKING:
    from spectromer_cli.model.config import ModelConfig


class SpectralViT(nn.Module):
    """A Vision Transformer over the image of a spectrum.

    Parameters
    ----------
    config : ModelConfig
        Backbone, image, grid and tasks.
    pretrained : Path, optional
        ImageNet weights of the backbone in timm's names (safetensors). Without it the
        backbone starts at random, to be filled by `load_state_dict`.
    backbone : Module, optional
        In place of timm's: one whose parameters have the same names, to be filled likewise.
    """

    def __init__(
        self,
        config: ModelConfig,
        pretrained: Path | None = None,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.tasks = [tasks.from_dict(task) for task in config.tasks]
        self.backbone = backbone or _from_timm(config, pretrained)
        width = int(self.backbone.num_features)  # type: ignore[arg-type]
        self.head = nn.Linear(width, sum(task.size for task in self.tasks))
        self.draw = get_image(config.image).draw

    def features(self, flux: Tensor, ivar: Tensor) -> Tensor:
        """What the ViT makes of prepared spectra.

        Parameters
        ----------
        flux, ivar : Tensor of float32, shape (batch, grid.n)
            As `spectra.grid.prepare` gives them.

        Returns
        -------
        Tensor, shape (batch, num_features)
        """
        return self.backbone(self.image(flux, ivar))

    @property
    def within(self) -> list[int]:
        """Numbers of the blocks at half and at three quarters of the depth, from 0."""
        depth = len(self.backbone.blocks)  # type: ignore[arg-type]
        return [depth // 2 - 1, 3 * depth // 4 - 1]

    def image(self, flux: Tensor, ivar: Tensor) -> Tensor:
        """What the ViT is shown of prepared spectra; parameters are those of `features`.

        Returns
        -------
        Tensor, shape (batch, 3, PATCH * tokens, PATCH * tokens)
        """
        return self.draw(flux, ivar, self.config.grid, self.config.tokens)

    def seen(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """What `see` makes of prepared spectra; parameters are those of `features`."""
        return self.see(self.image(flux, ivar))

    def see(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and all that tells spectra of the training set from others.

        The last layer's class token keeps what the tasks ask for and forgets the rest: a constant
        or a sky looks like an object there. Its other tokens, and those of the layers at half and
        at three quarters of the depth, still show the difference.

        Parameters
        ----------
        image : Tensor
            As `image` gives it.

        Returns
        -------
        features : Tensor, shape (batch, num_features)
        layers : Tensor, shape (batch, 4 * num_features)
            The features, the mean over the last layer's tokens, and over those of the two layers
            within; the features alone of a backbone that is no sequence of blocks.
        """
        backbone: Any = self.backbone
        if not (hasattr(backbone, "blocks") and hasattr(backbone, "forward_intermediates")):
            features = backbone(image)
            return features, features
        last, within = backbone.forward_intermediates(
            image, indices=self.within, norm=True, output_fmt="NLC"
        )
        features = backbone.forward_head(last, pre_logits=True)
        tokens = last[:, backbone.num_prefix_tokens :]
        layers = [features, tokens.mean(dim=1), *(each.mean(dim=1) for each in within)]
        return features, torch.cat(layers, dim=1)

    def forward(self, flux: Tensor, ivar: Tensor) -> dict[str, Tensor]:
        """Logits of every task, by its name; shapes (batch, task.size).

        Parameters are those of `features`.
        """
        return self.logits(self.features(flux, ivar))

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """Logits of every task from the ViT's features, by its name; shapes (batch, task.size)."""
        logits = self.head(features).float()
        parts = logits.split([task.size for task in self.tasks], dim=1)
        return {task.name: part for task, part in zip(self.tasks, parts, strict=True)}


def _from_timm(config: ModelConfig, pretrained: Path | None) -> nn.Module:
    import timm

    return timm.create_model(
        config.backbone,
        pretrained=pretrained is not None,
        pretrained_cfg_overlay={"file": str(pretrained)} if pretrained else None,
        num_classes=0,
        img_size=PATCH * config.tokens,
    )
