"""`spectromer finetune`: fine-tuning on your own labelled spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import UsageError

DATA = "Data"
LEARNING = "Learning"

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
            help="One sub-folder per class; or labels.csv (.ecsv .fits .vot .parquet) in it; or "
            "survey files whose headers carry class and redshift; or an HDF5 set.",
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
            help="What to learn: text columns are classes, numbers are measured, z is a redshift; "
            "grade:class makes numbers classes. By default class, and z where there is one.",
            rich_help_panel=DATA,
            show_default=False,
        ),
    ] = "",
    grid: Annotated[
        str,
        typer.Option(
            "--grid",
            metavar="auto|model",
            help="auto makes another wavelength grid if the weights' does not fit.",
            rich_help_panel=DATA,
        ),
    ] = "auto",
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Report what was found, and stop.", rich_help_panel=DATA),
    ] = False,
    model: options.Model = None,
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="Start from another ViT of timm and its ImageNet weights, not from --model.",
            rich_help_panel=options.MODEL,
        ),
    ] = "",
    pretrained: Annotated[
        Path | None,
        typer.Option(
            "--pretrained",
            metavar="FILE",
            help="ImageNet weights of the --backbone (safetensors), where there is no network.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    random_start: Annotated[
        bool,
        typer.Option(
            "--random-start",
            help="Start the backbone at random, for comparison.",
            rich_help_panel=options.MODEL,
        ),
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="head|lora|full|auto",
            help="What learns: the last layer; low-rank adapters; everything. auto takes lora "
            "for fewer than 500 objects.",
            rich_help_panel=LEARNING,
        ),
    ] = "auto",
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Epochs over the training split; by default by its size.",
            rich_help_panel=LEARNING,
            show_default=False,
        ),
    ] = None,
    max_minutes: Annotated[
        float,
        typer.Option(
            "--max-minutes",
            min=0,
            help="Limit for everything, reading and validation included; 0 for none.",
            rich_help_panel=LEARNING,
        ),
    ] = 0.0,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            min=0,
            help="Highest learning rate; by default by the mode.",
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
            help="Share of objects for early stopping, and again for the figures.",
            rich_help_panel=LEARNING,
        ),
    ] = 0.15,
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=LEARNING)] = 1,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile.", rich_help_panel=LEARNING)
    ] = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Folder of the run; by default runs/NAME, by the data's name.",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    resume: options.ResumeTraining = False,
    overwrite: options.OverwriteRun = False,
    quiet: options.Quiet = 0,
) -> None:
    """Fine-tune a model on your own labelled spectra.

    What was found is reported first. Spectra are split by object, never by
    row; the figures are of objects that were not learned from. Tasks of the
    weights that nothing new is learned for are kept. The folder of the run
    is a model that --model takes everywhere.
    """
    console.set_quiet(quiet)
    if (folder is None) == (catalog is None):
        raise UsageError("give a folder or --catalog, one of them", "spectromer finetune ./mydata")
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
