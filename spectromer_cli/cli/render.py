"""`spectromer render`: the images that the model sees, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed, SpectromerError, UsageError
from spectromer_cli.paths import make_folder

if TYPE_CHECKING:
    from spectromer_cli.model.config import ModelConfig
    from spectromer_cli.spectra.grid import Prepared
    from spectromer_cli.spectra.loading import Item

EPILOG = """Examples:

spectromer render docs/examples/*.fits -o images/

spectromer render docs/examples/simulated-boss-quasar.fits --gallery -o images/

spectromer render "docs/examples/simulated-desi-coadd.fits[1]" --image line -o images/
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("render", epilog=EPILOG, no_args_is_help=True)(render)


def render(
    files: options.Files = None,
    output: options.OutputFolder = Path("images"),
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="NAME",
            help="Draw this image: tiles, line, overlap, strip, map2d, map2d-norm, map2d-deriv "
            "or map2d-roi; by default the one that the model sees.",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery",
            help="One sheet with the spectrum and all its images.",
            rich_help_panel=options.RESULTS,
        ),
    ] = False,
    model: options.Model = None,
    air: options.Air = False,
    wavelength_unit: options.WavelengthUnit = "",
    quiet: options.Quiet = 0,
) -> None:
    """Draw the images that the model sees.

    Writes NAME.tiles.png for each spectrum, or NAME.12.tiles.png for number
    12 of a file of many, and prints the names. A spectrum that cannot be drawn
    is named on stderr, and the exit code is 3.
    """
    from spectromer_cli.images import get_image
    from spectromer_cli.spectra.loading import load_all
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.spectra.sources import expand
    from spectromer_cli.weights.store import resolve

    console.set_quiet(quiet)
    if not files:
        raise UsageError("nothing to read", "give files, a folder or -")
    if image and gallery:
        raise UsageError("--image and --gallery exclude each other", "a gallery shows all images")
    if image:
        get_image(image)
    config = resolve(model).config
    make_folder(output)
    kind = "gallery" if gallery else image or config.image
    drawn = failed = 0
    taken: set[str] = set()
    for item in load_all(expand(files), ReadOptions(air, wavelength_unit), grid=config.grid):
        if item.skipped:
            continue
        if item.prepared is None:
            failed += 1
            console.error(item.complaint)
            continue
        name = _stem(Path(item.file)) + (f".{item.row}" if item.of_many else "")
        path = output / f"{_free(name, taken)}.{kind}.png"
        _draw(item, item.prepared, kind, config, path)
        print(path, flush=True)
        drawn += 1
    if failed:
        raise SomeInputsFailed(f"{failed} of {failed + drawn} inputs could not be drawn")
    if not drawn:
        raise SomeInputsFailed("none of the files found holds a spectrum", "name the files")


def _stem(path: Path) -> str:
    """The file's name without its suffix, nor the one of what is packed in it."""
    return Path(path.stem).stem if path.suffix.lower() in (".gz", ".fz") else path.stem


def _free(name: str, taken: set[str]) -> str:
    """The name, or with -2, -3, … after it if this run has used it: nothing is overwritten."""
    number, free = 1, name
    while free.casefold() in taken:  # some file systems do not tell a from A
        number += 1
        free = f"{name}-{number}"
    if free != name:
        console.warn(f"another input is named {name}: this one is drawn as {free}")
    taken.add(free.casefold())
    return free


def _draw(item: Item, prepared: Prepared, kind: str, config: ModelConfig, path: Path) -> None:
    from spectromer_cli.outputs import plotting

    try:
        if kind == "gallery":
            row = f" [{item.row}]" if item.row else ""
            title = f"{Path(item.file).name}{row}, S/N {item.sn_median:.1f} per pixel"
            sheet = plotting.gallery(prepared, config.grid, config.tokens, title)
            plotting.save_figure(sheet, path)
        else:
            pixels = plotting.render_one(kind, prepared, config.grid, config.tokens)
            plotting.save_image_png(pixels, path)
    except OSError as error:
        reason = error.strerror or error
        hint = "look at the space on the disk and the length of the name"
        raise SpectromerError(f"{path} cannot be written: {reason}", hint) from error
