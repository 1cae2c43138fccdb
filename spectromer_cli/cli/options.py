"""The options that commands share: the same word means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

# What a shell offers for the value of an option.
Offer = Callable[[str], list[str]]


def offer(*values: str) -> Offer:
    """Offer these values, those that begin as what is typed already."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def weights(incomplete: str) -> list[str]:
    """Offer the weights that this version knows."""
    from spectromer_cli.weights.manifest import bundled_manifest

    return offer(*bundled_manifest().entries)(incomplete)


def images(incomplete: str) -> list[str]:
    """Offer the images that there are."""
    from spectromer_cli.images import IMAGES

    return offer(*IMAGES)(incomplete)


def _columns(incomplete: str) -> list[str]:
    from spectromer_cli.outputs.schema import BY_NAME

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in offer(*BY_NAME)(last)]


INPUTS = "Input"
MODEL = "Model"
PRIOR = "Known beforehand"
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
SpectraDirOfResults = Annotated[
    Path | None,
    typer.Option(
        "--spectra-dir",
        metavar="DIR",
        help="Where the spectra lie, if neither beside the table nor below the working directory.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Importance = Annotated[
    Path | None,
    typer.Option(
        "--importance",
        metavar="DIR|FILE",
        help="What explain -o DIR wrote: NAME.ecsv or NAME.12.ecsv for each spectrum, with "
        "wavelength and importance; shown as a band.",
        rich_help_panel=INPUTS,
        show_default=False,
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
        autocompletion=offer("Angstrom", "nm", "um"),
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
        autocompletion=weights,
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:1 or mps.",
        autocompletion=offer("auto", "cpu", "cuda", "mps"),
        rich_help_panel=MODEL,
    ),
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
Combine = Annotated[
    str | None,
    typer.Option(
        "--combine",
        metavar="KEY",
        help="Exposures that agree in object_id, targetid or a column of the --catalog become one "
        "spectrum, their mean by inverse variance.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Class = Annotated[
    str,
    typer.Option(
        "--class",
        metavar="CLASS",
        help="The class is known: STAR, GALAXY or QSO.",
        rich_help_panel=PRIOR,
        show_default=False,
    ),
]
ZRange = Annotated[
    str | None,
    typer.Option(
        "--z-range",
        metavar="FROM:TO",
        help="The redshift is known to lie there, as 2:4, 2: or :0.5.",
        rich_help_panel=PRIOR,
        show_default=False,
    ),
]
ZPrior = Annotated[
    str | None,
    typer.Option(
        "--z-prior",
        metavar="FILE",
        help="What is known of the redshift: a table of z and its relative probability density p, "
        "such as a photometric p(z).",
        rich_help_panel=PRIOR,
        show_default=False,
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
Columns = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="NAMES",
        help="These columns only, in this order: file,class,z. Those of a --catalog too.",
        autocompletion=_columns,
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
Samp = Annotated[
    str | None,
    typer.Option(
        "--samp",
        metavar="[NAME]",
        help="Send it to the program of this name, such as topcat, or without a name to every "
        "program that takes it, by SAMP.",
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
# What these options stand for where no value follows them.
WITHOUT_VALUE = {"--samp": "all"}
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
