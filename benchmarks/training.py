"""What a step of training costs on a CPU, with plain attention and with the fused kernel.

Usage: python benchmarks/training.py [--batch 96] [--steps 5]

Prints seconds of CPU time per step, which a busy machine changes little, and the ratio.
"""

from __future__ import annotations

import argparse
import time

import torch

from spectromer_cli.model import tasks
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training.loop import Stepper


def seconds(fused: bool, batch: dict[str, torch.Tensor], steps: int) -> float:
    """CPU time of a step, the mean of some."""
    config = ModelConfig(
        backbone="vit_tiny_patch16_224",
        image="tiles",
        tokens=7,
        grid=Grid(),
        tasks=[tasks.to_dict(task) for task in tasks.default_tasks()],
    )
    model = SpectralViT(config)
    stepper = Stepper(model, torch.optim.AdamW(model.parameters()), torch.device("cpu"))
    for part in model.backbone.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = fused  # type: ignore[assignment]
    stepper.step(batch)
    began = time.process_time()
    for _ in range(steps):
        stepper.step(batch)
    return (time.process_time() - began) / steps


def main() -> None:
    """Measure both on the same batch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    n = arguments.batch
    batch = {"flux": torch.randn(n, Grid().n), "ivar": torch.ones(n, Grid().n)}
    unknown = {"class": -1, "subclass": -1}
    batch |= {task.name: torch.full((n,), unknown.get(task.name, float("nan")))
              for task in tasks.default_tasks()}  # fmt: skip
    batch |= {"class": torch.zeros(n, dtype=torch.long), "z": torch.full((n,), 0.1)}
    plain, fused = (seconds(which, batch, arguments.steps) for which in (False, True))
    print(f"plain attention  {plain:6.3f} s of CPU time per step of {n}")
    print(f"fused kernel     {fused:6.3f} s")
    print(f"ratio            {fused / plain:6.2f}")


if __name__ == "__main__":
    main()
