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
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Training recipe.")],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="FILE|DIR",
            help="Labelled real spectra: an HDF5 set, a table of labels or a folder, as for "
            "spectromer finetune; may be repeated.",
        ),
    ],
    output: options.OutputFolder,
    templates: Annotated[
        Path | None,
        typer.Option(
            "--templates",
            metavar="FILE",
            help="Rest-frame templates (.npz) of the simulator; needed unless the recipe has "
            "simulated_share = 0.",
            show_default=False,
        ),
    ] = None,
    spectra_dir: options.SpectraDir = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    pretrained: Annotated[
        Path | None,
        typer.Option(
            "--pretrained",
            metavar="FILE",
            help="Initial weights: ImageNet weights of the backbone (safetensors, timm names) or "
            "weights of spectromer (default: random).",
            show_default=False,
        ),
    ] = None,
    resume: options.ResumeTraining = False,
    overwrite: options.OverwriteRun = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    quiet: options.Quiet = 0,
) -> None:
    """Train weights from labelled real spectra and simulated ones."""
    console.set_quiet(quiet)
    from spectromer_cli.model.device import choose_device
    from spectromer_cli.outputs.provenance import command_line
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.training.pretrain import pretrain
    from spectromer_cli.training.settings import load_recipe

    figures = pretrain(
        load_recipe(recipe),
        output,
        data=data,
        templates=templates,
        pretrained=pretrained,
        device=choose_device(device),
        spectra_dir=spectra_dir,
        options=ReadOptions(air, wavelength_unit, max_file_size, file_timeout),
        workers=1 if workers is None else workers,
        resume=resume,
        overwrite=overwrite,
        command=command_line(),
    )
    options.print_figures(figures)
