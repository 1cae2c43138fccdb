"""The network: a timm ViT that sees the image of a spectrum, with one linear head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn  # noqa: TID253  (this module is imported only where torch is needed)

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
    """

    def __init__(self, config: ModelConfig, pretrained: Path | None = None) -> None:
        import timm

        super().__init__()
        self.config = config
        self.tasks = [tasks.from_dict(task) for task in config.tasks]
        overlay = {"file": str(pretrained)} if pretrained else None
        self.backbone = timm.create_model(
            config.backbone,
            pretrained=pretrained is not None,
            pretrained_cfg_overlay=overlay,
            num_classes=0,
            img_size=PATCH * config.tokens,
        )
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
        return self.backbone(self.draw(flux, ivar, self.config.grid, self.config.tokens))

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
