"""`spectromer evaluate`: predictions compared with labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed
from spectromer_cli.model.device import BATCH_SIZE

EPILOG = """Examples:

spectromer evaluate --catalog examples/truth.csv -o report/

spectromer evaluate --catalog examples/truth.csv --class-column class --no-refine -o report/
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
            help="Column of the class labels (default: class, spectype, …).",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    z_column: Annotated[
        str | None,
        typer.Option(
            "--z-column",
            metavar="NAME",
            help="Column of the reference redshifts (default: z, redshift, …).",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE|DIR",
            help="Labelled set (HDF5, table of labels, folder) instead of a catalogue, as for "
            "spectromer finetune; objects used in training are left out.",
            rich_help_panel=HELD_OUT,
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            "--held-out",
            min=0.0,
            max=1.0,
            help="Fraction of the objects held out in training, for weights that do not record it; "
            "1 for a set not used in training.",
            rich_help_panel=HELD_OUT,
            show_default=False,
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            "--split-seed",
            help="Random seed of that split.",
            rich_help_panel=HELD_OUT,
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAMES",
            help="Also train these baselines on the same training split: svm,rf,specformer.",
            rich_help_panel=HELD_OUT,
            show_default=False,
        ),
    ] = None,
    baseline_minutes: Annotated[
        float,
        typer.Option(
            "--baseline-minutes",
            min=0.001,
            help="Training time of the specformer in minutes.",
            rich_help_panel=HELD_OUT,
        ),
    ] = 20.0,
    model: options.Model = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = BATCH_SIZE,
    workers: options.Workers = None,
    no_refine: options.NoRefine = False,
    output: options.OutputFolder = Path("report"),
    docs: Annotated[
        Path | None,
        typer.Option(
            "--docs",
            metavar="FILE",
            help="Also write the report here, as Markdown.",
            rich_help_panel=options.RESULTS,
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """Compare predictions with the labels of a catalogue or a labelled set.

    Writes report.md, report.json, report.png and predictions.ecsv, and prints
    the main figures; with --json, or into a pipe, all of them as JSON. All
    spectra of a catalogue are evaluated, at every S/N; an unreadable spectrum
    counts as wrong, and the exit code is 3.
    """
    console.set_quiet(quiet)
    from spectromer_cli.evaluation import baselines, run

    found = run.evaluate(
        catalog=catalog,
        data=data,
        spectra_dir=spectra_dir,
        class_column=class_column,
        z_column=z_column,
        air=air,
        wavelength_unit=wavelength_unit,
        max_file_size=max_file_size,
        file_timeout=file_timeout,
        held_out=held_out,
        split_seed=split_seed,
        baselines=baselines.parse(baseline) if baseline else (),
        baseline_minutes=baseline_minutes,
        model=model,
        device=device,
        batch_size=batch_size,
        workers=workers,
        refined=not no_refine,
        output=output,
        docs=docs,
    )
    if as_json or not sys.stdout.isatty():
        print(json.dumps(found.report, indent=2))
    else:
        _show(found.report, output)
    if found.failures.count:
        raise SomeInputsFailed(
            f"{found.failures.count} of {found.report['n']} inputs have no prediction"
        )


# What is shown on a terminal: the name of a figure, as `summary.headline` has it, and in words.
SHOWN = {
    "class_accuracy": "class accuracy",
    "class_macro_recall": "class recall, mean",
    "class_ece": "class calibration error",
    "subclass_accuracy": "subclass accuracy",
    "z_nmad": "NMAD of Δz/(1+z), galaxies and quasars",
    "z_outliers_0.01": "outliers, |Δz|/(1+z) > 0.01",
    "z_outliers_0.05": "outliers, |Δz|/(1+z) > 0.05",
    "rv_scatter": "scatter of stellar velocities, km/s",
}


def _show(report: Mapping[str, Any], output: Path) -> None:
    """The main figures, one per line, with their 68 % intervals."""
    from spectromer_cli.accuracy.summary import headline
    from spectromer_cli.outputs import screen

    figures = headline(report)
    lines = {"spectra": f"{report['n']}, {report['predicted']} with a prediction"}
    for name, words in SHOWN.items():
        if name in figures:
            limits = [
                figures[f"{name}_{end}"] for end in ("low", "high") if f"{name}_{end}" in figures
            ]
            interval = f"  ({limits[0]:g} to {limits[1]:g})" if len(limits) == 2 else ""
            lines[words] = f"{figures[name]:g}{interval}"
    lines["more"] = str(output / "report.md")
    screen.print_pairs(lines)
