"""`spectromer pack`: spectra of many files in one Parquet table, quick to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options

EPILOG = """Examples:

spectromer pack examples/*.fits -o spectra.parquet

spectromer pack examples/ --vacuum -o spectra.parquet
"""


def pack(
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|DIR",
            help="Output file NAME.parquet, or a folder for a HATS catalogue, whose partitions are "
            "kept.",
            rich_help_panel=options.RESULTS,
        ),
    ],
    files: options.Files = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    workers: options.Workers = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume an interrupted run in the folder -o.",
            rich_help_panel=options.RESULTS,
        ),
    ] = False,
    quiet: options.Quiet = 0,
) -> None:
    """Pack spectra into Parquet, for faster reading and for LSDB, HATS and Dask.

    Every spectrum keeps the metadata of its file, and gives the same results:
    spectromer redshift spectra.parquet. Unreadable spectra are reported, and
    the exit code is 3.
    """
    from spectromer_cli.outputs.packed_spectra import pack as pack_spectra
    from spectromer_cli.spectra.loading import Inputs

    console.set_quiet(quiet)
    inputs = Inputs(
        files=files, air=air, wavelength_unit=wavelength_unit, max_file_size=max_file_size,
        file_timeout=file_timeout, workers=workers,
    )  # fmt: skip
    pack_spectra(inputs, output, resume)
