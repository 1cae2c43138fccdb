"""`spectromer redshift`: how far away, how sure, and what else it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.inference.request import Output, Settings
from spectromer_cli.inference.run import run
from spectromer_cli.model.device import BATCH_SIZE

EPILOG = """Examples:

spectromer redshift examples/*.fits

spectromer redshift --catalog examples/targets.csv -o z.ecsv

spectromer redshift examples/*.fits --max-outlier-rate 0.05

spectromer redshift examples/*coadd.fits -o rr.fits --format redrock --save-pz pz.h5

spectromer redshift examples/*quasar.fits --class QSO --z-range 2:4

spectromer redshift examples/*.fits --samp topcat

spectromer redshift examples/ -o out/ --scheduler local

spectromer redshift examples/simulated-desi-coadd.fits[1] --json
"""


def redshift(
    files: options.Files = None,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    combine: options.Combine = None,
    model: options.Model = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = BATCH_SIZE,
    workers: options.Workers = None,
    no_refine: options.NoRefine = False,
    max_outlier_rate: Annotated[
        float | None,
        typer.Option(
            "--max-outlier-rate",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Limit the outlier rate: flag the least confident redshifts (zwarn bit 18), so "
            "that at most this fraction of the rest is off by more than 0.01 (1 + z).",
        ),
    ] = None,
    class_: options.Class = "",
    z_range: options.ZRange = None,
    z_prior: options.ZPrior = None,
    columns: options.Columns = "",
    output: options.Output = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="redrock: write -o FILE.fits in the format of redrock.",
            autocompletion=options.offer("redrock"),
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = "",
    save_pz: Annotated[
        Path | None,
        typer.Option(
            "--save-pz",
            metavar="FILE",
            help="Write p(z), χ²(z) and the best model of each spectrum to this file (.fits or "
            ".h5).",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    resume: options.Resume = False,
    scheduler: options.Scheduler = None,
    as_json: options.Json = False,
    samp: options.Samp = None,
    quiet: options.Quiet = 0,
) -> None:
    """Measure redshifts, with their probabilities and the alternatives.

    One row per spectrum, in input order. zwarn is a bit mask of warnings, 0
    if there are none. An unreadable spectrum still gets a row, with the
    reason in flags, and the exit code is 3.
    """
    from spectromer_cli.spectra.loading import Inputs

    console.set_quiet(quiet)
    inputs = Inputs(
        files=files, catalog=catalog, spectra_dir=spectra_dir, air=air,
        wavelength_unit=wavelength_unit, max_file_size=max_file_size, file_timeout=file_timeout,
        workers=workers,
    )  # fmt: skip
    settings = Settings(
        columns="redshift", only=columns, model=model, device=device, precision=precision,
        batch_size=batch_size, refined=not no_refine, max_outlier_rate=max_outlier_rate,
        class_=class_, combine=combine, z_range=z_range, z_prior=z_prior,
    )  # fmt: skip
    where = Output(
        path=output, json=as_json, resume=resume, format=format_, save_pz=save_pz,
        scheduler=scheduler, samp=samp,
    )  # fmt: skip
    run(inputs, settings, where, "Redshifts")
