"""`spectromer finetune`: a model of one's own from labelled spectra."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import UsageError

if TYPE_CHECKING:
    from spectromer_cli.training.plan import Origin

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
            metavar="FOLDER",
            help="One sub-folder a class; or labels.csv (.ecsv .fits .vot .parquet) in it; or "
            "survey files whose headers carry class and redshift.",
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
    air: options.Air = False,
    wavelength_unit: options.WavelengthUnit = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what was found, and stop.", rich_help_panel=DATA),
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
            help="Passes over the data; by default by their number.",
            rich_help_panel=LEARNING,
            show_default=False,
        ),
    ] = None,
    max_minutes: Annotated[
        float,
        typer.Option(
            "--max-minutes", min=0, help="End the schedule by then.", rich_help_panel=LEARNING
        ),
    ] = 0.0,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            min=0,
            help="Highest rate; by default as the mode asks.",
            rich_help_panel=LEARNING,
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=2, help="Spectra a step.", rich_help_panel=LEARNING)
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
    seed: Annotated[int, typer.Option(help="Decides every draw.", rich_help_panel=LEARNING)] = 1,
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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on.", rich_help_panel=options.RESULTS)
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Begin anew where a run is.", rich_help_panel=options.RESULTS
        ),
    ] = False,
    quiet: options.Quiet = 0,
) -> None:
    """Fine-tune a model on your own labelled spectra.

    What was found is printed first. Spectra are split by object, never by
    row; the figures are of objects that were not learned from. The folder
    of the run is a model that --model takes everywhere.
    """
    console.set_quiet(quiet)
    _check(mode, grid, backbone, pretrained, random_start, resume, overwrite)
    from spectromer_cli.model.device import choose_device
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.training import gridchoice, owndata, targets
    from spectromer_cli.training.finetune import finetune as run
    from spectromer_cli.training.plan import Settings

    if backbone and not pretrained and not random_start:
        console.info(f"the ImageNet weights of {backbone} come from the hub")
    chosen_device = choose_device(device)
    reading = ReadOptions(air, wavelength_unit)
    found = owndata.find(folder, catalog, spectra_dir)
    asked = targets.parse(target or _default_target(found))
    origin = _origin(model, backbone, pretrained, random_start)
    config, said = origin.config, "the grid of the weights, as asked"
    if grid == "auto":
        config, said = gridchoice.choose(found.targets, config, reading)
    data = owndata.read(found, list(asked), config.grid, reading, workers or 0)
    told = owndata.describe(found, data, [name for name, is_class in asked.items() if is_class])
    for line in (*told, said):
        console.info(line)
    learnt = targets.make(data.labels, data.group, asked)
    for one in learnt:
        kind = f"{len(one.labels)} classes" if one.labels else "a number"
        console.info(f"to learn: {one.name}, {kind}, from {int(one.known.sum())} spectra")
    if dry_run:
        return
    from dataclasses import replace

    settings = Settings(
        mode, epochs, max_minutes, batch_size, learning_rate, held_out, seed, compile
    )
    figures = run(
        data,
        learnt,
        replace(origin, config=config),
        output or Path("runs") / (folder or catalog or Path("mine")).resolve().stem,
        settings,
        device=chosen_device,
        workers=workers or 0,
        resume=resume,
        overwrite=overwrite,
        found=[*told, said],
        command=shlex.join(["spectromer", *sys.argv[1:]]),
    )
    for name, value in figures.items():
        if not name.endswith(("_low", "_high")):
            interval = [figures[k] for k in (f"{name}_low", f"{name}_high") if k in figures]
            print(name, *(f"{number:g}" for number in (value, *interval)), sep="\t")


def _check(
    mode: str,
    grid: str,
    backbone: str,
    pretrained: Path | None,
    random_start: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    if mode not in ("head", "lora", "full", "auto"):
        raise UsageError(f"--mode {mode} is none", "take head, lora, full or auto")
    if grid not in ("auto", "model"):
        raise UsageError(f"--grid {grid} is none", "take auto or model")
    if pretrained and not backbone:
        raise UsageError("--pretrained goes with --backbone", "name the ViT of the weights")
    if pretrained and random_start:
        raise UsageError("--pretrained and --random-start exclude each other", "give one")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", "give one")


def _default_target(found) -> str:  # type: ignore[no-untyped-def]
    """Class, and z where there is one."""
    if found.labels is None:
        return "class,z"
    names = [name for name in ("class", "z") if name in map(str.lower, found.labels.colnames)]
    if not names:
        raise UsageError(
            f"{found.how} has no column class or z",
            f"say what to learn: --target, of {', '.join(found.labels.colnames)}",
        )
    return ",".join(names)


def _origin(
    model: str | None, backbone: str, pretrained: Path | None, random_start: bool
) -> Origin:
    """What the training starts from."""
    from dataclasses import replace

    from safetensors.torch import load_file

    from spectromer_cli.training.initialise import FROM_HUB
    from spectromer_cli.training.plan import Origin
    from spectromer_cli.weights.store import resolve

    weights = resolve(model)
    if backbone or random_start:
        import timm

        name = backbone or weights.config.backbone
        if not timm.is_model(name):
            raise UsageError(f"timm has no model {name}", "see timm.list_models('vit*')")
        config = replace(weights.config, backbone=name)
        if random_start:
            return Origin(config, None, f"random weights of {name}", {})
        source = pretrained or FROM_HUB
        return Origin(config, source, f"ImageNet weights of {name}", {})
    templates = {
        name: value.float()
        for name, value in load_file(weights.path).items()
        if name.startswith("templates.")
    }
    return Origin(weights.config, weights.path, weights.name, templates)
