"""The ViT run by OpenVINO on a CPU, where it is installed: the same features, sooner.

In single precision on every machine, so that predictions depend on the machine by no more than
rounding. Gradients and attention matrices are PyTorch's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from spectromer_cli import console
from spectromer_cli.model.vit import PlainViT

if TYPE_CHECKING:
    from spectromer_cli.model.network import SpectralViT

# Images that are computed at a time, of a batch that as many threads share.
CHUNK = 8
# Building the graph takes as long as it saves on about so many spectra.
WORTHWHILE = 256
# The most that a feature may differ from PyTorch's, in units of the largest: 100 times the
# rounding that is seen.
TOLERANCE = 1e-4

See = Callable[[Tensor], tuple[Tensor, Tensor]]


class Runtime:
    """What computes the features of a network that predicts.

    Parameters
    ----------
    network : SpectralViT
        With its weights, which must not change any more once `WORTHWHILE` spectra were seen.
    device : torch.device
        Where it is.
    """

    def __init__(self, network: SpectralViT, device: torch.device) -> None:
        self._network = network
        self._see: See = network.see
        self._seen = 0
        # On other devices, and for other backbones, PyTorch stays.
        self._may_be_faster = device.type == "cpu" and isinstance(network.backbone, PlainViT)

    def seen(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """As `SpectralViT.seen`, without gradients."""
        image = self._network.image(flux, ivar)
        if self._may_be_faster and self._seen >= WORTHWHILE:
            self._may_be_faster = False
            self._see = self._fastest(image)
        self._seen += len(image)
        return self._see(image)

    def _fastest(self, image: Tensor) -> See:
        """OpenVINO, if it is there and agrees with PyTorch on some images."""
        see = self._network.see
        if importlib.util.find_spec("openvino") is None:
            return see
        try:
            fast = by_openvino(self._network, torch.get_num_threads())
            for own, known in zip(fast(image[:CHUNK]), see(image[:CHUNK]), strict=True):
                apart = float((own - known).abs().max() / known.abs().max())
                if not apart <= TOLERANCE:
                    raise ArithmeticError(f"features are off by {apart:.1g}")
        except Exception as error:  # whatever it raises, PyTorch is there
            reason = " ".join(str(error).split())[:200]
            console.warn(f"OpenVINO is not used ({type(error).__name__}: {reason})")
            return see
        return fast


def by_openvino(network: SpectralViT, threads: int) -> See:
    """`SpectralViT.see` of a plain ViT, compiled by OpenVINO.

    Parameters
    ----------
    network : SpectralViT
        With a `PlainViT` as its backbone; its weights are copied.
    threads : int
        CPU threads.

    Returns
    -------
    callable
        Takes images on the CPU and returns features and layers.
    """
    import openvino

    model = openvino.Model(*_graph(network))
    streams = min(threads, CHUNK)
    settings = {
        # On some machines its own choice is half precision.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def see(image: Tensor) -> tuple[Tensor, Tensor]:
        count = len(image)
        images = nn.functional.pad(image, (0, 0) * 3 + (0, -count % CHUNK)).numpy()
        found: list[list[np.ndarray]] = [[]] * (len(images) // CHUNK)
        queue = openvino.AsyncInferQueue(compiled, streams)

        def keep(request: Any, number: int) -> None:
            found[number] = [output.data.copy() for output in request.output_tensors]

        queue.set_callback(keep)
        for number in range(len(found)):
            part = images[number * CHUNK : (number + 1) * CHUNK]
            queue.start_async([part], number, share_inputs=True)
        queue.wait_all()
        features, layers = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
        return torch.from_numpy(features), torch.from_numpy(layers)

    return see


def _graph(network: SpectralViT) -> tuple[list[Any], list[Any]]:
    """Results and parameters of the graph that `SpectralViT.see` of a `PlainViT` is."""
    from openvino import opset13 as op

    backbone = network.backbone
    assert isinstance(backbone, PlainViT)
    width, side = backbone.num_features, network.config.tokens
    tokens = side**2 + 1

    def constant(value: Any) -> Any:
        return op.constant(value.detach().float().contiguous().numpy())

    def integers(*values: int) -> Any:
        return op.constant(np.array(values, dtype=np.int64))

    def linear(x: Any, layer: nn.Linear) -> Any:
        return op.add(op.matmul(x, constant(layer.weight), False, True), constant(layer.bias))

    def norm(x: Any, layer: nn.LayerNorm) -> Any:
        scaled = op.mvn(x, integers(-1), True, layer.eps, "inside_sqrt")
        return op.add(op.multiply(scaled, constant(layer.weight)), constant(layer.bias))

    def attention(x: Any, layer: Any) -> Any:
        split = integers(CHUNK, tokens, 3, layer.heads, width // layer.heads)
        qkv = op.transpose(op.reshape(linear(x, layer.qkv), split, False), integers(2, 0, 3, 1, 4))
        parts = op.split(qkv, op.constant(np.int64(0)), 3).outputs()
        q, k, v = (op.squeeze(part, integers(0)) for part in parts)
        mixed = op.transpose(op.scaled_dot_product_attention(q, k, v), integers(0, 2, 1, 3))
        return linear(op.reshape(mixed, integers(CHUNK, tokens, width), False), layer.proj)

    def mean_of_image_tokens(x: Any) -> Any:
        image_tokens = op.slice(x, integers(1), integers(tokens), integers(1), integers(1))
        return op.reduce_mean(image_tokens, integers(1), False)

    pixels = backbone.patch_embed.proj.kernel_size[0]
    image = op.parameter([CHUNK, 3, pixels * side, pixels * side], np.float32)
    patches = op.convolution(
        image, constant(backbone.patch_embed.proj.weight), [pixels] * 2, [0, 0], [0, 0], [1, 1]
    )
    patches = op.reshape(patches, integers(CHUNK, width, tokens - 1), False)
    x = op.add(op.transpose(patches, integers(0, 2, 1)), constant(backbone.patch_embed.proj.bias))
    first = constant(backbone.cls_token.expand(CHUNK, -1, -1))
    x = op.add(op.concat([first, x], 1), constant(backbone.pos_embed))
    means = []
    blocks: list[Any] = list(backbone.blocks)
    for number, block in enumerate(blocks):
        x = op.add(x, attention(norm(x, block.norm1), block.attn))
        inner = op.gelu(linear(norm(x, block.norm2), block.mlp.fc1), "erf")
        x = op.add(x, linear(inner, block.mlp.fc2))
        if number in network.within:
            means.append(mean_of_image_tokens(norm(x, backbone.norm)))
    last = norm(x, backbone.norm)
    features = op.gather(last, op.constant(np.int64(0)), op.constant(np.int64(1)))
    layers = op.concat([features, mean_of_image_tokens(last), *means], 1)
    return [features, layers], [image]
