"""`spectromer report`: results and their spectra as one page to look through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.paths import require_writable_folder

EPILOG = """Examples:

spectromer redshift docs/examples/*.fits -o z.ecsv

spectromer report z.ecsv -o report.html

spectromer report z.ecsv --spectra docs/examples/ -o report.html
"""


def report(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="What redshift or classify wrote: CSV, ECSV, FITS, VOTable, Parquet, JSON Lines.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The page, .html.",
            rich_help_panel=options.RESULTS,
        ),
    ] = Path("report.html"),
    spectra: Annotated[
        Path | None,
        typer.Option(
            "--spectra",
            metavar="DIR",
            help="Where the spectra lie, if their names lead nowhere from the working directory "
            "nor from the folder of the results.",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    importance: Annotated[
        Path | None,
        typer.Option(
            "--importance",
            metavar="DIR|FILE",
            help="ECSV tables with wavelength and importance, NAME.ecsv or NAME.12.ecsv for each "
            "spectrum; shown as a band.",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    air: options.Air = False,
    wavelength_unit: options.WavelengthUnit = "",
    quiet: options.Quiet = 0,
) -> None:
    """Show results and their spectra in a page to look through and judge.

    One HTML file that needs no network: a table to sort and filter, each
    spectrum with lines and the best template at any redshift, and buttons for
    your own verdict, which you export as CSV. More than 500 rows make several
    pages. Prints their names. A row whose spectrum is not found stays, and the
    exit code is 3.
    """
    from spectromer_cli.inspector.build import write_report
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.weights.store import resolve

    console.set_quiet(quiet)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: the page is HTML", "end -o in .html")
    require_writable_folder(output)
    if spectra is not None and not spectra.is_dir():
        raise UsageError(f"--spectra {spectra} is no folder", "check the name")
    written = write_report(
        results,
        output,
        resolve(model),
        spectra_dir=spectra,
        importance=importance,
        options=ReadOptions(air, wavelength_unit),
    )
    for path in written.pages:
        print(path)
    if written.missing:
        raise SomeInputsFailed(
            f"{written.missing} of {written.rows} rows have no spectrum; the page says why",
            "name the folder of the spectra: --spectra DIR",
        )
