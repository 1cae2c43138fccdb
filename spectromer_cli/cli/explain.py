"""`spectromer explain`: where in wavelength the model looked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.explain import DEFAULT_METHOD, export
from spectromer_cli.inference.run import Failures

if TYPE_CHECKING:
    from spectromer_cli.explain.explanation import Explanation
    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.spectra.loading import Inputs

QUESTION = "Question"

EPILOG = """Examples:

spectromer explain docs/examples/simulated-sdss-galaxy.fits -o why.png

spectromer explain docs/examples/simulated-boss-quasar.fits --target z --json

spectromer explain docs/examples/simulated-sdss-star.fits --for GALAXY -o why.ecsv

spectromer explain --catalog docs/examples/targets.csv --top 20 -o report.html
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
            help="The first so many spectra only.",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    air: options.Air = False,
    wavelength_unit: options.WavelengthUnit = "",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="TASK",
            help="Which answer: class, subclass, z, teff…; by default class.",
            rich_help_panel=QUESTION,
            show_default=False,
        ),
    ] = "",
    wanted: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="ANSWER",
            help="Why (not) this one: a label, or a redshift; by default the model's own.",
            rich_help_panel=QUESTION,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="gradients, occlusion, grad-attention or rollout.",
            rich_help_panel=QUESTION,
        ),
    ] = DEFAULT_METHOD,
    frame: Annotated[
        str,
        typer.Option(
            "--frame", metavar="observed|rest", help="Of the figure.", rich_help_panel=QUESTION
        ),
    ] = "observed",
    dark: Annotated[
        bool, typer.Option("--dark", help="Light on dark.", rich_help_panel=options.RESULTS)
    ] = False,
    model: options.Model = None,
    device: options.Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|DIR",
            help="A figure (.png .pdf .svg), numbers (.ecsv .csv .fits .vot), a page of figures "
            "(.html), or a folder for one PNG a spectrum.",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """Show which stretches of wavelength an answer rests on.

    Each pixel gets its share in the answer, against the spectrum's own
    continuum. Without -o, the strongest stretches are printed with the lines
    that fall there. Several spectra need a folder or an .html page.
    """
    console.set_quiet(quiet)
    if frame not in ("observed", "rest"):
        raise UsageError(f"--frame {frame} is none", "take observed or rest")
    from spectromer_cli.inference.predictor import load_model
    from spectromer_cli.spectra.loading import Inputs

    inputs = Inputs(
        files=files, catalog=catalog, spectra_dir=spectra_dir, air=air,
        wavelength_unit=wavelength_unit,
    )  # fmt: skip
    _check_output(output, as_json)
    targets, _, total = inputs.targets()
    if top is not None:
        targets, total = islice(targets, top), min(top, total or top)
    loaded = load_model(model, device)
    target = target or _default_target(loaded)
    failed = Failures()
    made = _explanations(inputs, loaded, targets, total, target, wanted, method, failed)
    if as_json:
        export.print_json(made, loaded, failed)
    elif output is None:
        for explanation in made:
            export.print_stretches(explanation)
    else:
        export.write(made, output, frame == "rest", dark)
    if failed.count:
        raise SomeInputsFailed(f"{failed.count} of {failed.seen} spectra have no explanation")
    if not failed.seen:
        raise SomeInputsFailed("none of the files found holds a spectrum", "name the files")


def _check_output(output: Path | None, as_json: bool) -> None:
    from spectromer_cli.paths import make_folder, require_writable_folder

    if output is None:
        return
    if as_json:
        raise UsageError("--json and -o exclude each other", "use --json > FILE")
    known = (*export.FIGURES, *export.TABLES, ".html")
    if output.is_dir() or not output.suffix:
        make_folder(output)
    elif output.suffix.lower() not in known:
        raise UsageError(f"-o {output}: unknown suffix", f"take {' '.join(known)} or a folder")
    else:
        require_writable_folder(output)


def _default_target(model: Spectromer) -> str:
    names = [task.name for task in model.network.tasks]
    return "class" if "class" in names else names[0]


def _explanations(
    inputs: Inputs,
    model: Spectromer,
    targets: Any,
    total: int | None,
    target: str,
    wanted: str | None,
    method: str,
    failed: Failures,
) -> Iterator[Explanation]:
    from spectromer_cli.explain.explanation import explain as one
    from spectromer_cli.spectra.loading import load_all

    with console.progress("explaining", total) as advance:
        for item in load_all(targets, inputs.options, grid=model.grid):
            advance(item.begins)
            if item.skipped:
                continue
            failed.note([item])
            if item.prepared is not None:
                yield one(model, item, target, wanted, method)
