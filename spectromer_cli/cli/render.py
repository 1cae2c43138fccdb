"""`spectromer render`: the images that the model sees, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.paths import disk_errors, make_folder

if TYPE_CHECKING:
    from spectromer_cli.model.config import ModelConfig
    from spectromer_cli.spectra.grid import Prepared
    from spectromer_cli.spectra.loading import Item

EPILOG = """Examples:

spectromer render examples/*.fits -o images/

spectromer render examples/simulated-boss-quasar.fits --gallery -o images/

spectromer render "examples/simulated-desi-coadd.fits[1]" --image line -o images/

spectromer render --catalog examples/targets.csv -o images/
"""


def render(
    files: options.Files = None,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    output: options.OutputFolder = Path("images"),
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="NAME",
            autocompletion=options.images,
            help="Image to draw: tiles, line, overlap, strip, map2d, map2d-norm, map2d-deriv or "
            "map2d-roi (default: the one the model uses).",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery",
            help="One sheet per spectrum, with the spectrum and all its images.",
            rich_help_panel=options.RESULTS,
        ),
    ] = False,
    model: options.Model = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    quiet: options.Quiet = 0,
) -> None:
    """Draw spectra as the images that the model uses.

    Writes NAME.tiles.png for each spectrum, or NAME.12.tiles.png for spectrum
    12 of a file with several, and prints the names. Spectra that cannot be
    drawn are reported on stderr, and the exit code is 3.
    """
    from spectromer_cli.images import get_image
    from spectromer_cli.outputs.naming import output_stem, unique
    from spectromer_cli.spectra.loading import Inputs, load_all
    from spectromer_cli.weights.store import resolve

    console.set_quiet(quiet)
    inputs = Inputs(
        files=files, catalog=catalog, spectra_dir=spectra_dir, air=air,
        wavelength_unit=wavelength_unit, max_file_size=max_file_size, file_timeout=file_timeout,
    )  # fmt: skip
    if image and gallery:
        raise UsageError("--image and --gallery exclude each other", "a gallery shows all images")
    if image:
        get_image(image)
    targets, _, _ = inputs.targets()
    config = resolve(model).config
    make_folder(output)
    kind = "gallery" if gallery else image or config.image
    drawn = failed = 0
    taken: set[str] = set()
    for item in load_all(targets, inputs.options, grid=config.grid):
        if item.skipped:
            continue
        if item.prepared is None:
            failed += 1
            console.error(item.complaint)
            continue
        name = unique(output_stem(item.file, item.row, item.of_many), taken)
        path = output / f"{name}.{kind}.png"
        _draw(item, item.prepared, kind, config, path)
        print(path, flush=True)
        drawn += 1
    if failed:
        raise SomeInputsFailed(f"{failed} of {failed + drawn} inputs could not be drawn")
    if not drawn:
        raise SomeInputsFailed("none of the files found contains a spectrum", "give the file names")


def _draw(item: Item, prepared: Prepared, kind: str, config: ModelConfig, path: Path) -> None:
    from spectromer_cli.outputs import plotting

    with disk_errors(path):
        if kind == "gallery":
            title = f"{Path(item.label).name}, S/N {item.sn_median:.1f} per pixel"
            sheet = plotting.gallery(prepared, config.grid, config.tokens, title)
            plotting.save_figure(sheet, path)
        else:
            pixels = plotting.render_one(kind, prepared, config.grid, config.tokens)
            plotting.save_image_png(pixels, path)
