"""`spectromer report`: results and their spectra as one page to look through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.paths import claimed, require_writable_folder

EPILOG = """Examples:

spectromer redshift examples/*.fits -o z.ecsv

spectromer report z.ecsv -o report.html

spectromer report z.ecsv --spectra-dir examples/ -o report.html

spectromer report --catalog examples/truth.csv -o survey.html
"""


def report(
    results: Annotated[
        Path | None,
        typer.Argument(
            metavar="RESULTS",
            help="Output of redshift or classify: CSV, ECSV, FITS, VOTable, Parquet, JSON Lines.",
            show_default=False,
        ),
    ] = None,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDirOfResults = None,
    importance: options.Importance = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="HTML page to write.",
            rich_help_panel=options.RESULTS,
        ),
    ] = Path("report.html"),
    model: options.Model = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    quiet: options.Quiet = 0,
) -> None:
    """Write an HTML page for visual inspection of results and spectra.

    One HTML file that needs no network: a table to sort and filter, each
    spectrum with lines and the best template at any redshift, and buttons for
    your own verdict, which you export as CSV. With --catalog instead of
    results, the page shows the class and redshift of the catalogue. More than
    5,000 rows are split into several pages. Prints the names of the pages. A
    row whose spectrum is not found is kept, and the exit code is 3.
    """
    from spectromer_cli.inspector.build import write_report
    from spectromer_cli.weights.store import resolve

    console.set_quiet(quiet)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: not an HTML file", "give -o FILE.html")
    require_writable_folder(output)
    with claimed(output):
        written = write_report(
            results,
            output,
            resolve(model),
            catalog=catalog,
            spectra_dir=spectra_dir,
            importance=importance,
            air=air,
            wavelength_unit=wavelength_unit,
            max_file_size=max_file_size,
            file_timeout=file_timeout,
        )
    for path in written.pages:
        print(path)
    if written.missing:
        raise SomeInputsFailed(
            f"{written.missing} of {written.rows} rows have no spectrum; the page gives the "
            f"reasons",
            "give the folder of the spectra with --spectra-dir DIR",
        )
