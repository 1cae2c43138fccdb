"""`spectromer classify`: star, galaxy or quasar, and of which type."""

from __future__ import annotations

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.inference.request import Output, Settings
from spectromer_cli.inference.run import run
from spectromer_cli.model.device import BATCH_SIZE

EPILOG = """Examples:

spectromer classify examples/*.fits

spectromer classify examples/ -o classes.ecsv

spectromer classify --catalog examples/targets.csv --json
"""


def classify(
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
    class_: options.Class = "",
    columns: options.Columns = "",
    output: options.Output = None,
    resume: options.Resume = False,
    scheduler: options.Scheduler = None,
    as_json: options.Json = False,
    samp: options.Samp = None,
    quiet: options.Quiet = 0,
) -> None:
    """Classify spectra as STAR, GALAXY or QSO, with a subclass.

    One row per spectrum, in input order. An unreadable spectrum still gets a
    row, with the reason in flags, and the exit code is 3.
    """
    from spectromer_cli.spectra.loading import Inputs

    console.set_quiet(quiet)
    inputs = Inputs(
        files=files, catalog=catalog, spectra_dir=spectra_dir, air=air,
        wavelength_unit=wavelength_unit, max_file_size=max_file_size, file_timeout=file_timeout,
        workers=workers,
    )  # fmt: skip
    settings = Settings(
        columns="classify", only=columns, model=model, device=device, precision=precision,
        batch_size=batch_size, refined=False, class_=class_, combine=combine,
    )  # fmt: skip
    where = Output(path=output, json=as_json, resume=resume, scheduler=scheduler, samp=samp)
    run(inputs, settings, where, "Classes")
