"""`spectromer evaluate`: how well the model does where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed
from spectromer_cli.evaluation import run
from spectromer_cli.inference.run import Settings
from spectromer_cli.paths import require_writable_folder

EPILOG = """Examples:

spectromer evaluate --catalog docs/examples/truth.csv -o report/

spectromer evaluate --catalog docs/examples/truth.csv --class-column class --no-refine -o report/
"""
HELD_OUT = "Held-out part of a labelled set"


def evaluate(
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    class_column: Annotated[
        str | None,
        typer.Option(
            "--class-column",
            metavar="NAME",
            help="Column of the true class; by default class, spectype, ….",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    z_column: Annotated[
        str | None,
        typer.Option(
            "--z-column",
            metavar="NAME",
            help="Column of the true redshift; by default z, redshift, ….",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    air: options.Air = False,
    wavelength_unit: options.WavelengthUnit = "",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A labelled set (HDF5), as for spectromer train, instead of a catalogue.",
            rich_help_panel=HELD_OUT,
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            "--held-out",
            min=0.0,
            max=1.0,
            help="Share of the objects held out from training, for weights that do not say; "
            "1 for a set that they have not seen.",
            rich_help_panel=HELD_OUT,
            show_default=False,
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            "--split-seed",
            help="Seed of that split.",
            rich_help_panel=HELD_OUT,
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAMES",
            help="Train these on the same training split, to compare: svm,rf,specformer.",
            rich_help_panel=HELD_OUT,
            show_default=False,
        ),
    ] = None,
    baseline_minutes: Annotated[
        float,
        typer.Option(
            "--baseline-minutes",
            min=0.001,
            help="How long the specformer is trained.",
            rich_help_panel=HELD_OUT,
        ),
    ] = 20.0,
    model: options.Model = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 64,
    workers: options.Workers = None,
    no_refine: options.NoRefine = False,
    output: options.OutputFolder = Path("report"),
    docs: Annotated[
        Path | None,
        typer.Option(
            "--docs",
            metavar="FILE",
            help="Write the text of the report here too (Markdown).",
            rich_help_panel=options.RESULTS,
        ),
    ] = None,
    quiet: options.Quiet = 0,
) -> None:
    """Compare answers with the truth of a catalogue or a labelled set, and write a report.

    Writes report.md, report.json, report.png and answers.ecsv. Everything in
    the catalogue counts, whatever its S/N; an unreadable spectrum counts as
    wrong, and the exit code is 3.
    """
    console.set_quiet(quiet)
    from spectromer_cli.spectra.loading import Inputs

    truth = run.HeldOut(data, held_out, split_seed, baseline, baseline_minutes)
    run.check(catalog, truth)
    if docs is not None:
        require_writable_folder(docs)
    settings = Settings(model=model, device=device, batch_size=batch_size, refined=not no_refine)
    if data is None:
        inputs = Inputs(
            catalog=catalog, spectra_dir=spectra_dir, air=air, wavelength_unit=wavelength_unit,
            workers=workers,
        )  # fmt: skip
        judged = run.of_catalogue(inputs, settings, class_column, z_column, output)
    else:
        judged = run.of_held_out(settings, truth, output)
    report = run.write(judged, output, docs)
    print(json.dumps(report, indent=2))
    count = judged.failures.count
    if count:
        raise SomeInputsFailed(f"{count} of {report['n']} inputs have no prediction")
