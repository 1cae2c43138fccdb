"""`spectromer examples`: the simulated example spectra, copied into a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SpectromerError, UsageError

EPILOG = """Examples:

spectromer examples

spectromer examples tutorial/
"""


def examples(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to copy them into; made if missing.")
    ] = Path("examples"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite files of the same name.")
    ] = False,
    quiet: options.Quiet = 0,
) -> None:
    """Copy the example spectra that come with the program.

    Simulated spectra in the file formats of SDSS, BOSS, LAMOST and DESI,
    targets.csv, which lists some of them, and truth.csv, with their classes
    and redshifts. No network is needed.
    """
    console.set_quiet(quiet)
    from spectromer_cli.paths import atomic_path, bundled_examples_dir, make_folder

    files = sorted(path for path in bundled_examples_dir().iterdir() if path.is_file())
    present = [path.name for path in files if (folder / path.name).exists()]
    if present and not overwrite:
        raise UsageError(
            f"{folder} already holds {present[0]}", "choose another folder, or use --overwrite"
        )
    make_folder(folder)
    for path in files:
        target = folder / path.name
        try:
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise SpectromerError(
                f"{target} cannot be written: {error.strerror or error}",
                "free some space or choose another folder",
            ) from error
        print(target)
