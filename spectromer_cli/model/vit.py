"""The plain ViT for predicting, without timm, whose import takes longer than torch's own.

The modules have timm's names, so that the weights fit both. Training, and every other backbone,
is timm's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from spectromer_cli.images import PATCH

if TYPE_CHECKING:
    from spectromer_cli.model.config import ModelConfig

# Width, layers and heads, by timm's name without the tag of the weights.
SIZES = {
    "vit_tiny_patch16_224": (192, 12, 3),
    "vit_small_patch16_224": (384, 12, 6),
    "vit_base_patch16_224": (768, 12, 12),
    "vit_large_patch16_224": (1024, 24, 16),
}


def plain_vit(config: ModelConfig) -> PlainViT | None:
    """The backbone of a configuration, its weights at random; None if it is no plain ViT."""
    size = SIZES.get(config.backbone.partition(".")[0])
    return PlainViT(config.tokens, *size) if size else None


class PlainViT(nn.Module):
    """A Vision Transformer with a class token, after Dosovitskiy et al. (2021, arXiv:2010.11929).

    Parameters
    ----------
    side : int
        Patches along one side of the image.
    width : int
        Features per token.
    depth : int
        Number of blocks.
    heads : int
        Attention heads per block.
    """

    num_prefix_tokens = 1

    def __init__(self, side: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.num_features = width
        self.patch_embed = _PatchEmbedding(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2 + 1, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = _norm(width)

    def forward(self, image: Tensor) -> Tensor:
        """The features: the class token after the last block; shape (batch, width)."""
        return self.forward_head(self.forward_intermediates(image, [])[0])

    def forward_intermediates(
        self, image: Tensor, indices: list[int], norm: bool = True, output_fmt: str = "NLC"
    ) -> tuple[Tensor, list[Tensor]]:
        """All tokens of the last block, and those of the image after some others.

        Parameters
        ----------
        image : Tensor, shape (batch, 3, 16 * side, 16 * side)
        indices : list of int
            Numbers of these blocks, from 0.
        norm, output_fmt
            As timm has them; no other value is known here.

        Returns
        -------
        last : Tensor, shape (batch, tokens, width)
        within : list of Tensor, each of shape (batch, tokens - 1, width)
        """
        assert norm and output_fmt == "NLC"
        x = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        within = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in indices:
                within.append(self.norm(x)[:, self.num_prefix_tokens :])
        return self.norm(x), within

    def forward_head(self, last: Tensor, pre_logits: bool = True) -> Tensor:
        """The features from all tokens of the last block; `pre_logits` as timm has it."""
        assert pre_logits
        return last[:, 0]


class _PatchEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = _norm(width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    """Attention whose matrices `explain.attribution` can see, by the names that timm gives them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fused_attn = True
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_drop = nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self.fused_attn:
            x = scaled_dot_product_attention(q, k, v)
        else:
            scores = q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)
            x = self.attn_drop(scores.softmax(dim=-1)) @ v
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)
