"""The options that commands share: the same word means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

INPUTS = "Input"
MODEL = "Model"
RESULTS = "Output"

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES...",
        help="Spectrum files, folders, patterns, or - to read names from stdin. "
        "FILE[12] takes one spectrum of many: the one numbered 12, counted from 0.",
        show_default=False,
    ),
]
Catalog = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help="Table of targets (CSV, ECSV, FITS, VOTable, Parquet) with a column file "
        "(looked up in --spectra-dir, then beside the table), or plate, mjd, fiberid; obsid; "
        "targetid.",
        rich_help_panel=INPUTS,
    ),
]
SpectraDir = Annotated[
    Path | None,
    typer.Option(
        "--spectra-dir",
        metavar="DIR",
        help="Where the spectra of a --catalog lie.",
        rich_help_panel=INPUTS,
    ),
]
Air = Annotated[
    bool | None,
    typer.Option(
        "--air/--vacuum",
        help="Medium of the wavelengths, whatever a file says. Survey files keep their own.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
WavelengthUnit = Annotated[
    str,
    typer.Option(
        "--wavelength-unit",
        metavar="UNIT",
        help="Wavelength unit of plain tables that name none: Angstrom, nm, um.",
        rich_help_panel=INPUTS,
    ),
]
MaxFileSize = Annotated[
    str,
    typer.Option(
        "--max-file-size",
        metavar="SIZE",
        help="What a packed file may unpack to, and a part of a file take in memory: 500MB, 2GB.",
        rich_help_panel=INPUTS,
    ),
]
FileTimeout = Annotated[
    float,
    typer.Option(
        "--file-timeout",
        metavar="SECONDS",
        help="Give up a file, or 256 spectra of one, that takes longer; 0 for never.",
        rich_help_panel=INPUTS,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="Weights by name (see spectromer weights list), a folder or file of your own, "
        "or hf-hub:owner/name; by default those that ship with the program.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MODEL),
]
BatchSize = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Spectra per batch.", rich_help_panel=MODEL),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that work beside the model, 0 for none; by default as the work asks.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
NoRefine = Annotated[
    bool,
    typer.Option(
        "--no-refine",
        help="The ViT's redshift alone, without the template fit.",
        rich_help_panel=MODEL,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write here; the suffix chooses the format: .csv .ecsv .fits .vot .parquet .jsonl",
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume an interrupted run with the same -o; where there is none, start from the "
        "beginning.",
        rich_help_panel=RESULTS,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Predict on a Dask cluster: tcp://HOST:8786, a scheduler file, auto (the one that "
        "Dask is configured for), or local (processes on this machine, --workers many). -o may "
        "be a folder, of Parquet parts.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
OutputFolder = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="DIR", help="Write here.", rich_help_panel=RESULTS),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=RESULTS),
]
Quiet = Annotated[
    int,
    typer.Option(
        "-q",
        "--quiet",
        count=True,
        help="Say less: -q warnings and errors only, -qq errors only.",
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
ResumeTraining = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume from the checkpoint in -o; without one, start afresh.",
        rich_help_panel=RESULTS,
    ),
]
OverwriteRun = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite the run in -o.", rich_help_panel=RESULTS)
]


def print_figures(figures: dict[str, float]) -> None:
    """Print figures on stdout: name, value and, where there is one, the 68 % interval."""
    for name, value in figures.items():
        if not name.endswith(("_low", "_high")):
            interval = [figures[k] for k in (f"{name}_low", f"{name}_high") if k in figures]
            print(name, *(f"{number:g}" for number in (value, *interval)), sep="\t")
