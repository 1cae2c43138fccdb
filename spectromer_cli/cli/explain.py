"""`spectromer explain`: which wavelengths a prediction rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.explain import DEFAULT_METHOD, METHODS
from spectromer_cli.paths import claimed

PREDICTION = "Prediction"

EPILOG = """Examples:

spectromer explain examples/simulated-sdss-galaxy.fits -o why.png

spectromer explain examples/simulated-boss-quasar.fits --method attention -o why.png

spectromer explain examples/simulated-boss-quasar.fits --task z --json

spectromer explain examples/simulated-sdss-star.fits --for GALAXY -o why.ecsv

spectromer explain --catalog examples/targets.csv --top 20 -o report.html
"""


def explain(
    files: options.Files = None,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            help="Explain only the first N spectra.",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="NAME",
            help="Task to explain: class, subclass, z, teff, … (default: class).",
            rich_help_panel=PREDICTION,
            show_default=False,
        ),
    ] = "",
    wanted: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="LABEL|Z",
            help="Explain this label or redshift instead of the predicted one.",
            rich_help_panel=PREDICTION,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            autocompletion=options.offer(*METHODS),
            help="gradients: integrated gradients per pixel; occlusion: hide wavelength windows in "
            "turn; attention: attention over wavelength, weighted by its gradient (Chefer et al. "
            "2021).",
            rich_help_panel=PREDICTION,
        ),
    ] = DEFAULT_METHOD,
    frame: Annotated[
        str,
        typer.Option(
            "--frame",
            metavar="observed|rest",
            help="Wavelength frame of the figure.",
            autocompletion=options.offer("observed", "rest"),
            rich_help_panel=options.RESULTS,
        ),
    ] = "observed",
    dark: Annotated[
        bool, typer.Option("--dark", help="Dark background.", rich_help_panel=options.RESULTS)
    ] = False,
    model: options.Model = None,
    device: options.Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|DIR",
            help="A figure (.png .pdf .svg), a table (.ecsv .csv .fits .vot), a page of figures "
            "(.html), or a folder for NAME.png and NAME.ecsv of each spectrum.",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """Show which wavelengths a prediction rests on.

    Each pixel gets an importance: how much it supports the prediction,
    relative to the continuum of the spectrum. Without -o, the strongest
    wavelength regions are printed with the lines that fall in them. Several
    spectra need a folder or an .html page.
    """
    from spectromer_cli.explain import explanation, export
    from spectromer_cli.inference.failures import Failures
    from spectromer_cli.inference.predictor import load_model
    from spectromer_cli.spectra.loading import Inputs

    console.set_quiet(quiet)
    if frame not in ("observed", "rest"):
        raise UsageError(f"invalid --frame {frame!r}", "choose from observed, rest")
    if output is not None and as_json:
        raise UsageError("--json and -o exclude each other", "use --json > FILE")
    inputs = Inputs(
        files=files,
        catalog=catalog,
        spectra_dir=spectra_dir,
        air=air,
        wavelength_unit=wavelength_unit,
        max_file_size=max_file_size,
        file_timeout=file_timeout,
    )
    alone = output is not None and export.holds_one(output) and top != 1
    if alone and len(files or ()) > 1:
        raise UsageError(
            f"-o {output} holds one spectrum, but {len(files or ())} inputs are given",
            "give -o a folder, or a page: -o FILE.html",
        )
    if output is not None:
        export.check_output(output, inputs)
    loaded = load_model(model, device)
    failures = Failures()
    explanations = explanation.explain(
        inputs, loaded, task=task, wanted=wanted, method=method, top=top, alone=alone,
        failures=failures,
    )  # fmt: skip
    if as_json:
        export.print_json(explanations, loaded, failures)
    elif output is None:
        export.print_regions(explanations)
    else:
        with claimed(output):
            export.write(explanations, output, rest_frame=frame == "rest", dark=dark)
    if failures.count:
        raise SomeInputsFailed(f"{failures.count} of {failures.seen} spectra have no explanation")
    if not failures.seen:
        raise SomeInputsFailed("none of the files found contains a spectrum", "give the file names")
