"""The ViT on a GPU: by batch, precision, compiled or not, and in CUDA graphs.

Usage: python benchmarks/gpu.py [--device cuda] [--batches 64 256 1024] [--model NAME]
           [--write PAGE.md]

Prints spectra per second, their share of the rate of products of large matrices in the same
precision, and the largest difference from the probabilities of the classes in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from page import flops_of, lines_of, matrix_rate, parser, put, synchronise
from samples import simulated

import spectromer_cli
from spectromer_cli.model.network import SpectralViT

# Name, precision, mode of torch.compile ("" for none).
WAYS = (
    ("fp32", torch.float32, None),
    ("fp32, compiled", torch.float32, "default"),
    ("bf16", torch.bfloat16, None),
    ("bf16, compiled", torch.bfloat16, "default"),
    ("bf16, CUDA graphs", torch.bfloat16, "reduce-overhead"),
)
SECONDS = 2.0


def seen_by(network: SpectralViT, dtype: torch.dtype, mode: str | None, device: str) -> Callable:  # type: ignore[type-arg]
    """Features of images in a precision."""
    see = network.see if mode is None else torch.compile(network.see, mode=mode)

    def run(image: torch.Tensor) -> torch.Tensor:
        enabled = dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(device.split(":")[0], dtype, enabled=enabled):
            return see(image)[0].float()

    return run


def rate(run: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, device: str) -> float:
    """Images per second, after three that are not counted."""
    for _ in range(3):
        run(image)
    synchronise(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        run(image)
        synchronise(device)
        count += len(image)
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure."""
    options = parser(__doc__)
    options.add_argument("--device", default="cuda")
    options.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    options.add_argument("--model")
    chosen = options.parse_args()
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here: nothing is measured")
    model = spectromer_cli.load_model(chosen.model, chosen.device)
    network = model.network
    backbone = network.backbone
    flops = flops_of(backbone.num_features, len(backbone.blocks), model.config.tokens**2 + 1)  # type: ignore[arg-type]
    drawn = simulated(model, 64)
    which = torch.arange(max(chosen.batches)) % 64
    flux, ivar = (torch.from_numpy(v)[which].to(chosen.device) for v in (drawn.flux, drawn.ivar))
    with torch.inference_mode():
        image = network.image(flux, ivar)

        def classes(features: torch.Tensor) -> torch.Tensor:
            return network.logits(features)["class"].softmax(dim=1)

        known = classes(network.see(image)[0])
    peaks = {dtype: matrix_rate(chosen.device, dtype) for dtype in {way[1] for way in WAYS}}
    rows = []
    for name, dtype, mode in WAYS:
        run = seen_by(network, dtype, mode, chosen.device)
        for batch in chosen.batches:
            with torch.inference_mode():
                apart = (classes(run(image[:batch])) - known[:batch]).abs().max()
            speed = rate(run, image[:batch], chosen.device)
            rows.append([
                name, str(batch), f"{speed:.0f}", f"{speed * flops / peaks[dtype]:.2f}",
                f"{float(apart):.1e}",
            ])  # fmt: skip
    head = ["precision", "batch", "spectra/s", "of the matrix rate", "largest Δp"]
    put(chosen.write, "gpu", lines_of(head, rows), chosen.device)


if __name__ == "__main__":
    main()
