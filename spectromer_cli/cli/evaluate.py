"""`spectromer evaluate`: how well the model does where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from spectromer_cli import console
from spectromer_cli.cli import inference, options
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.paths import atomic_path, make_folder

EPILOG = """Examples:

spectromer evaluate --catalog docs/examples/truth.csv -o report/

spectromer evaluate --catalog docs/examples/truth.csv --class-column class --no-refine -o report/
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", epilog=EPILOG, no_args_is_help=True)(evaluate)


def evaluate(
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    class_column: Annotated[
        str | None,
        typer.Option(
            "--class-column",
            metavar="NAME",
            help="Column of the true class; by default class, spectype, ….",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    z_column: Annotated[
        str | None,
        typer.Option(
            "--z-column",
            metavar="NAME",
            help="Column of the true redshift; by default z, redshift, ….",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    air: options.Air = False,
    wavelength_unit: options.WavelengthUnit = "",
    model: options.Model = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 64,
    workers: options.Workers = None,
    no_refine: options.NoRefine = False,
    output: options.OutputFolder = Path("report"),
    quiet: options.Quiet = 0,
) -> None:
    """Compare answers with the truth of a catalogue, and write a report.

    Writes report.md, report.json, report.png and answers.ecsv. Everything in
    the catalogue counts, whatever its S/N; an unreadable spectrum counts as
    wrong, and the exit code is 3.
    """
    console.set_quiet(quiet)
    if catalog is None:
        raise UsageError("nothing to evaluate on", "give --catalog TABLE with the truth")
    request = inference.Request(
        None, catalog, spectra_dir, model, device, batch_size, workers, None, False, air,
        wavelength_unit, refined=not no_refine,
    )  # fmt: skip
    report, failed = _evaluate(request, class_column, z_column, output)
    print(json.dumps(report, indent=2))
    if failed:
        raise SomeInputsFailed(f"{failed} of {report['n']} inputs have no answer")


def _evaluate(
    request: inference.Request, class_column: str | None, z_column: str | None, output: Path
) -> tuple[dict[str, Any], int]:
    """Write the report; give it, and how many inputs have no answer."""
    import numpy as np
    from astropy.table import Table

    from spectromer_cli import evaluate as evaluation
    from spectromer_cli.outputs import figures, report, tables
    from spectromer_cli.predict import load_model
    from spectromer_cli.rows import CLASSIFY_COLUMNS, REDSHIFT_COLUMNS

    targets, catalogue, total = inference.targets_of(request)
    assert catalogue is not None
    columns = evaluation.find_truth(catalogue.colnames, class_column, z_column)
    class_true, z_true = evaluation.truth_of(catalogue, *columns)
    model = load_model(request.model, request.device)
    make_folder(output)
    failed = inference.Failures()
    truth = Table({"class_true": class_true, "z_true": z_true})
    wanted = tuple(dict.fromkeys(CLASSIFY_COLUMNS + REDSHIFT_COLUMNS))
    answers = inference.stack(
        list(inference.chunks_of(request, wanted, model, targets, truth, total, failed))
    )
    provenance = inference.provenance_of(model)
    arrays = {name: np.asarray(answers[name]) for name in answers.colnames}
    result = evaluation.evaluate(arrays, arrays["class_true"], arrays["z_true"])
    with tables.open_writer(output / "answers.ecsv", provenance) as writer:
        writer.write(answers)
    sheet = report.figures(result, arrays, arrays["class_true"], arrays["z_true"])
    figures.save_figure_png(sheet, output / "report.png")
    document = json.dumps({"provenance": provenance, **result}, indent=2)
    for name, text in {
        "report.json": document + "\n",
        "report.md": report.markdown(result, provenance),
    }.items():
        with atomic_path(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return result, failed.count
