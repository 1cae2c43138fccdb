"""Weights written: fp16 safetensors with the configuration in the header, and their entry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.paths import atomic_path, make_folder
from spectromer_cli.weights.manifest import add_entry, describe
from spectromer_cli.weights.store import HEADER_KEY

if TYPE_CHECKING:
    import torch


def write_weights(
    folder: Path,
    name: str,
    state_dict: Mapping[str, torch.Tensor],
    config: ModelConfig,
    entry_extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Write weights as fp16 safetensors, with their entry in the folder's manifest.

    Parameters
    ----------
    folder : Path
        Made if missing.
    name : str
        Letters, digits, ``. _ -``; an entry of the same name is replaced.
    state_dict : mapping of str to Tensor
        Floating-point tensors become half precision, others stay as they are.
    config : ModelConfig
        Goes into the file's header.
    entry_extra : mapping
        As for `manifest.describe`.

    Returns
    -------
    dict
        The manifest's entry. The first weights in a folder become its default.

    Raises
    ------
    UsageError
        If the name will not do, or the folder cannot be written.
    SpectromerError
        If a weight is not finite in half precision.
    """
    from safetensors.torch import save_file

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"invalid name for weights: {name!r}", "use letters, digits, . _ and - only"
        )
    tensors = {key: _as_half(key, tensor) for key, tensor in state_dict.items()}
    make_folder(folder)
    target = folder / f"{name}.safetensors"
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, metadata={HEADER_KEY: config.to_json()})
    entry = describe(target, config, **entry_extra)
    add_entry(folder, entry)
    return entry


def _as_half(key: str, tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor.contiguous().clone()
    half = tensor.half().contiguous().clone()  # safetensors refuses shared memory
    if not half.isfinite().all():
        raise SpectromerError(
            f"the weights {key} are not finite in half precision",
            "the training diverged: lower the learning rate",
        )
    return half
