"""`spectromer finetune`: fine-tuning on your own labelled spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import UsageError

DATA = "Data"
LEARNING = "Training"

EPILOG = """Examples:

spectromer finetune ./mydata

spectromer finetune --catalog stars.csv --target teff,logg,feh -o runs/stars

spectromer classify --model runs/stars new/*.fits
"""


def finetune(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR|FILE",
            help="A folder with one sub-folder per class, with labels.csv (.ecsv .fits .vot "
            ".parquet), or with survey files that state class and redshift; or an HDF5 set.",
            show_default=False,
        ),
    ] = None,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="COLUMNS",
            help="Columns to predict: text becomes classes, numbers are regressed, z is a "
            "redshift; grade:class treats numbers as classes (default: class and z, where "
            "present).",
            rich_help_panel=DATA,
            show_default=False,
        ),
    ] = "",
    grid: Annotated[
        str,
        typer.Option(
            "--grid",
            metavar="auto|model",
            help="auto chooses a new wavelength grid if that of the weights does not fit.",
            rich_help_panel=DATA,
        ),
    ] = "auto",
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Report what was found, without training.", rich_help_panel=DATA
        ),
    ] = False,
    model: options.Model = None,
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="Start from another timm ViT with ImageNet weights instead of --model.",
            rich_help_panel=options.MODEL,
        ),
    ] = "",
    pretrained: Annotated[
        Path | None,
        typer.Option(
            "--pretrained",
            metavar="FILE",
            help="ImageNet weights of the --backbone (safetensors), for use without network.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    random_start: Annotated[
        bool,
        typer.Option(
            "--random-start",
            help="Start the backbone from random weights, for comparison.",
            rich_help_panel=options.MODEL,
        ),
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="head|lora|full|auto",
            help="Parameters to train: the last layer, low-rank adapters, or all. auto uses lora "
            "for fewer than 500 objects.",
            rich_help_panel=LEARNING,
        ),
    ] = "auto",
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of epochs (default: by the size of the training split).",
            rich_help_panel=LEARNING,
            show_default=False,
        ),
    ] = None,
    max_minutes: Annotated[
        float,
        typer.Option(
            "--max-minutes",
            min=0,
            help="Time limit in minutes, including reading and validation; 0 for none.",
            rich_help_panel=LEARNING,
        ),
    ] = 0.0,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            min=0,
            help="Peak learning rate (default: by --mode).",
            rich_help_panel=LEARNING,
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=2, help="Spectra per step.", rich_help_panel=LEARNING)
    ] = 64,
    held_out: Annotated[
        float,
        typer.Option(
            "--held-out",
            min=0.01,
            max=0.4,
            help="Fraction of the objects for validation, and the same again for the test.",
            rich_help_panel=LEARNING,
        ),
    ] = 0.15,
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=LEARNING)] = 1,
    compile: Annotated[
        bool, typer.Option("--compile", help="Use torch.compile.", rich_help_panel=LEARNING)
    ] = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Output folder of the run (default: runs/NAME, after the data).",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    resume: options.ResumeTraining = False,
    overwrite: options.OverwriteRun = False,
    quiet: options.Quiet = 0,
) -> None:
    """Fine-tune a model on your own labelled spectra.

    First reports the spectra and labels found. Spectra are split by object,
    and the accuracy is measured on objects not used in training. Other tasks
    of the weights are kept. The output folder can be given to --model of
    every command.
    """
    console.set_quiet(quiet)
    if (folder is None) == (catalog is None):
        raise UsageError("give either a folder or --catalog", "spectromer finetune ./mydata")
    from spectromer_cli.outputs.provenance import command_line
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.training.finetune import finetune as run
    from spectromer_cli.training.settings import Settings

    figures = run(
        folder or catalog or Path(),
        spectra_dir=spectra_dir,
        target=target,
        model=model,
        backbone=backbone,
        pretrained=pretrained,
        random_start=random_start,
        grid=grid,
        settings=Settings(
            mode=mode,
            epochs=epochs,
            max_minutes=max_minutes,
            batch_size=batch_size,
            learning_rate=learning_rate,
            held_out=held_out,
            seed=seed,
            compile=compile,
        ),
        options=ReadOptions(air, wavelength_unit, max_file_size, file_timeout),
        device=device,
        workers=workers or 0,
        output=output,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        command=command_line(),
    )
    options.print_figures(figures)
