"""`spectromer train`: make weights from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options

EPILOG = """Examples:

spectromer train weights/recipes/spectromer-tiny.v1.toml --data real.h5
--templates templates.npz --pretrained vit_tiny_patch16_224.safetensors -o runs/tiny

spectromer train weights/recipes/spectromer-tiny.v1.toml --data real.h5
--templates templates.npz -o runs/tiny --resume
"""


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="How to train.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="Labelled real spectra (HDF5).")
    ],
    templates: Annotated[
        Path,
        typer.Option("--templates", metavar="FILE", help="Rest-frame templates (.npz)."),
    ],
    output: options.OutputFolder,
    pretrained: Annotated[
        Path | None,
        typer.Option(
            "--pretrained",
            metavar="FILE",
            help="Where to start: ImageNet weights of the backbone (safetensors, timm's "
            "names), or weights of this program; without it, at random.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in -o.")
    ] = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    quiet: options.Quiet = 0,
) -> None:
    """Train weights from labelled real spectra and simulated ones."""
    console.set_quiet(quiet)
    from spectromer_cli.model.device import choose_device
    from spectromer_cli.training.pretrain import train as run
    from spectromer_cli.training.recipe import load_recipe

    figures = run(
        load_recipe(recipe),
        output,
        data=data,
        templates=templates,
        pretrained=pretrained,
        device=choose_device(device),
        workers=1 if workers is None else workers,
        resume=resume,
    )
    for name, value in figures.items():
        print(f"{name}\t{value:g}")
