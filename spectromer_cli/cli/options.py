"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli.model.device import PRECISIONS

# Shell completion of the value of an option.
Offer = Callable[[str], list[str]]


def offer(*values: str) -> Offer:
    """Complete with the values that begin with the text typed so far."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def weights(incomplete: str) -> list[str]:
    """Complete with the names of the weights of this version."""
    from spectromer_cli.weights.manifest import bundled_manifest

    return offer(*bundled_manifest().entries)(incomplete)


def images(incomplete: str) -> list[str]:
    """Complete with the names of the images."""
    from spectromer_cli.images import IMAGES

    return offer(*IMAGES)(incomplete)


def _columns(incomplete: str) -> list[str]:
    from spectromer_cli.outputs.schema import BY_NAME

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in offer(*BY_NAME)(last)]


INPUTS = "Input"
MODEL = "Model"
PRIOR = "Prior knowledge"
RESULTS = "Output"

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES...",
        help="Spectrum files, folders, patterns, or - to read names from stdin. FILE[12] is "
        "spectrum 12 of a file, counted from 0.",
        show_default=False,
    ),
]
Catalog = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help="Table of targets (CSV, ECSV, FITS, VOTable, Parquet) with a column file (searched "
        "for in --spectra-dir, then beside the table), or plate, mjd, fiberid; obsid; targetid.",
        rich_help_panel=INPUTS,
    ),
]
SpectraDir = Annotated[
    Path | None,
    typer.Option(
        "--spectra-dir",
        metavar="DIR",
        help="Folder of the spectra of a --catalog.",
        rich_help_panel=INPUTS,
    ),
]
SpectraDirOfResults = Annotated[
    Path | None,
    typer.Option(
        "--spectra-dir",
        metavar="DIR",
        help="Folder of the spectra, if neither beside the table nor below the working directory.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Importance = Annotated[
    Path | None,
    typer.Option(
        "--importance",
        metavar="DIR|FILE",
        help="Importance maps to show as a band: output of explain -o DIR, NAME.ecsv or "
        "NAME.12.ecsv per spectrum.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Air = Annotated[
    bool | None,
    typer.Option(
        "--air/--vacuum",
        help="Medium of the wavelengths, overriding what a file states; ignored for survey files.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
WavelengthUnit = Annotated[
    str,
    typer.Option(
        "--wavelength-unit",
        metavar="UNIT",
        help="Wavelength unit of tables that state none: Angstrom, nm, um.",
        autocompletion=offer("Angstrom", "nm", "um"),
        rich_help_panel=INPUTS,
    ),
]
MaxFileSize = Annotated[
    str,
    typer.Option(
        "--max-file-size",
        metavar="SIZE",
        help="Limit on the uncompressed size of a file, and on the memory for a part of it: "
        "500MB, 2GB.",
        rich_help_panel=INPUTS,
    ),
]
FileTimeout = Annotated[
    float,
    typer.Option(
        "--file-timeout",
        metavar="SECONDS",
        help="Give up on a file, or on 256 spectra of one, after this time; 0 for no limit.",
        rich_help_panel=INPUTS,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="Weights: a name (see spectromer weights list), a folder or file, or "
        "hf-hub:owner/name (default: the weights included in the package).",
        autocompletion=weights,
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Device: auto, cpu, cuda, cuda:1 or mps.",
        autocompletion=offer("auto", "cpu", "cuda", "mps"),
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Precision of the ViT: auto (bf16 on CPUs with AMX), fp32 or bf16.",
        autocompletion=offer(*PRECISIONS),
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
        help="Further processes, which read spectra and without a GPU predict too; 0 for none "
        "(default: chosen by the amount of work).",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
NoRefine = Annotated[
    bool,
    typer.Option(
        "--no-refine",
        help="Use the ViT's redshift alone, without the template fit.",
        rich_help_panel=MODEL,
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(
        "--combine",
        metavar="KEY",
        help="Coadd exposures with the same object_id, targetid or value of a --catalog column, "
        "weighted by inverse variance.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Class = Annotated[
    str,
    typer.Option(
        "--class",
        metavar="CLASS",
        help="Known class: STAR, GALAXY or QSO.",
        rich_help_panel=PRIOR,
        show_default=False,
    ),
]
ZRange = Annotated[
    str | None,
    typer.Option(
        "--z-range",
        metavar="FROM:TO",
        help="Known range of the redshift: 2:4, 2: or :0.5.",
        rich_help_panel=PRIOR,
        show_default=False,
    ),
]
ZPrior = Annotated[
    str | None,
    typer.Option(
        "--z-prior",
        metavar="FILE",
        help="Prior on the redshift, such as a photometric p(z): a table with columns z and p, the "
        "relative probability density.",
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
        help="Output file; its suffix sets the format: .csv .ecsv .fits .vot .parquet .jsonl",
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="NAMES",
        help="Write only these columns, in this order: file,class,z. Columns of a --catalog can "
        "be included.",
        autocompletion=_columns,
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume an interrupted run with the same -o, or start from the beginning if there is "
        "none.",
        rich_help_panel=RESULTS,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Predict on a Dask cluster: tcp://HOST:8786, a scheduler file, auto (from Dask's "
        "configuration), or local (--workers processes on this machine). -o may be a folder for "
        "Parquet parts.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
OutputFolder = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="DIR", help="Output folder.", rich_help_panel=RESULTS),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=RESULTS),
]
Quiet = Annotated[
    int,
    typer.Option(
        "-q",
        "--quiet",
        count=True,
        help="Reduce output: -q for warnings and errors only, -qq for errors only.",
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
Samp = Annotated[
    str | None,
    typer.Option(
        "--samp",
        metavar="[NAME]",
        help="Send the result by SAMP to the named program, such as topcat, or to every program "
        "that accepts it.",
        rich_help_panel=RESULTS,
        show_default=False,
    ),
]
# The value of these options if none follows.
WITHOUT_VALUE = {"--samp": "all"}
ResumeTraining = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume from the checkpoint in -o, or start from the beginning if there is none.",
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
