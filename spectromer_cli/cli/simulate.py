"""`spectromer simulate`: spectra of known class and redshift, as the surveys would observe them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.paths import make_folder

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.simulation.simulator import Simulated, Simulator, Source

EPILOG = """Examples:

spectromer simulate -n 100 -o simulated/

spectromer simulate -n 50 --class QSO --z 2:3 --sn 3:10 --survey DESI -o quasars/

spectromer simulate -n 100 --elsewhere 1 -o elsewhere/

spectromer evaluate --catalog simulated/truth.ecsv -o report/
"""
TRUTH = "truth.ecsv"
DRAW = "Simulation"
COMMENT = "Simulated by spectromer: not an observation."
# Rows per write of the catalogue of reference values.
CHUNK = 256


def simulate(
    count: Annotated[
        int, typer.Option("-n", "--number", min=1, max=999999, help="Number of spectra.")
    ] = 100,
    output: options.OutputFolder = Path("simulated"),
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="STAR, GALAXY or QSO; may be repeated (default: all).",
            autocompletion=options.offer("STAR", "GALAXY", "QSO"),
            rich_help_panel=DRAW,
            show_default=False,
        ),
    ] = None,
    z: Annotated[
        str | None,
        typer.Option(
            "--z",
            metavar="LOW:HIGH",
            help="Redshift range of galaxies and quasars (default: that of the templates).",
            rich_help_panel=DRAW,
            show_default=False,
        ),
    ] = None,
    sn: Annotated[
        str,
        typer.Option(
            "--sn",
            metavar="LOW:HIGH",
            help="Range of the median S/N per pixel.",
            rich_help_panel=DRAW,
        ),
    ] = "1:60",
    survey: Annotated[
        list[str] | None,
        typer.Option(
            "--survey",
            metavar="NAME",
            autocompletion=options.offer("SDSS", "BOSS", "LAMOST", "DESI", "FORS2", "MILES"),
            help="Wavelength range and resolution: SDSS, BOSS, LAMOST, DESI, FORS2 or MILES; may "
            "be repeated (default: all).",
            rich_help_panel=DRAW,
            show_default=False,
        ),
    ] = None,
    elsewhere: Annotated[
        float,
        typer.Option(
            "--elsewhere",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Fraction of the spectra simulated as from other spectrographs: wavelength range, "
            "resolution, calibration, errors.",
            rich_help_panel=DRAW,
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, help="Random seed.", rich_help_panel=DRAW),
    ] = 1,
    templates: Annotated[
        Path | None,
        typer.Option(
            "--templates",
            metavar="FILE",
            help="Rest-frame templates (.npz; default: those in the weights).",
            rich_help_panel=DRAW,
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Overwrite the simulated spectra in -o.",
            rich_help_panel=options.RESULTS,
        ),
    ] = False,
    quiet: options.Quiet = 0,
) -> None:
    """Simulate spectra of known class and redshift.

    Writes simulated-000001.fits and so on, in SDSS format, without class or
    redshift, and truth.ecsv with the reference values, which other commands
    read with --catalog. Spectrum 7 is the same for every -n.
    """
    console.set_quiet(quiet)
    from spectromer_cli.simulation.simulator import SHARES, Simulator
    from spectromer_cli.simulation.survey_effects import SURVEYS

    names = _known("--class", classes, tuple(SHARES))
    taken_by = _known("--survey", survey, tuple(SURVEYS))
    sn_range = _range("--sn", sn, least=0.01)
    z_range = _range("--z", z, least=0.0) if z else None
    source, origin = _source(templates, model)
    missing = [name for name in names if name not in source.classes]
    if missing and classes:
        raise UsageError(
            f"{origin['source']} has no {' and no '.join(missing)}",
            f"it has {', '.join(source.classes)}",
        )
    shares = {name: SHARES[name] for name in names if name in source.classes}
    simulator = Simulator(
        source, source.grid, shares=shares, sn_range=sn_range, z_range=z_range, taken_by=taken_by,
        elsewhere=elsewhere,
    )  # fmt: skip
    _clear(output, overwrite)
    asked = {
        "seed": str(seed), "classes": " ".join(shares), "sn": sn, "z": z or "all",
        "surveys": " ".join(taken_by), "elsewhere": f"{elsewhere:g}", **origin,
    }  # fmt: skip
    _write(simulator, count, seed, output, asked)
    print(output / TRUTH)


def _known(option: str, asked: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen names in their usual spelling; all if none are chosen."""
    spelling = {name.lower(): name for name in known}
    for name in asked or ():
        if name.lower() not in spelling:
            raise UsageError(f"invalid {option} {name!r}", f"choose from {', '.join(known)}")
    return tuple(dict.fromkeys(spelling[name.lower()] for name in asked or known))


def _range(option: str, text: str, least: float) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 1.0, 0.0
    if not least <= low <= high < 1e6:
        raise UsageError(
            f"invalid {option} {text!r}: not a range",
            f"give LOW:HIGH, at least {least:g}, such as {option} 1:3",
        )
    return low, high


def _source(templates: Path | None, model: str | None) -> tuple[Source, dict[str, str]]:
    """Where spectra come from, and how the catalogue of truth names it."""
    from spectromer_cli.simulation.populations import load_populations
    from spectromer_cli.simulation.template_library import Library
    from spectromer_cli.spectra.grid import Grid
    from spectromer_cli.weights.store import resolve

    if templates is not None:
        return Library(templates, Grid()), {"source": templates.name}
    weights = resolve(model)
    origin = {"source": weights.name, "sha256": weights.sha256}
    return load_populations(weights, weights.config.grid), origin


def _clear(output: Path, overwrite: bool) -> None:
    """Make the folder; what an earlier run left in it goes only if that was asked for."""
    make_folder(output)
    if (output / TRUTH).exists():
        if not overwrite:
            raise UsageError(
                f"{output} already contains simulated spectra", "choose another -o, or --overwrite"
            )
        (output / TRUTH).unlink()
        for old in output.glob("simulated-??????.fits"):
            old.unlink()


def _write(
    simulator: Simulator, count: int, seed: int, output: Path, asked: dict[str, str]
) -> None:
    import numpy as np

    from spectromer_cli.outputs.provenance import provenance
    from spectromer_cli.outputs.tables import open_writer
    from spectromer_cli.spectra.spectrum import Spectrum
    from spectromer_cli.spectra.writing import write_spec

    wavelength = simulator.grid.wavelength
    rows: list[tuple[str, Simulated]] = []
    with (
        open_writer(output / TRUTH, provenance(**asked)) as truth,
        console.progress("simulating", count) as advance,
    ):
        for number in range(1, count + 1):
            drawn = simulator.draw(np.random.default_rng([seed, number]), 1)
            seen = np.flatnonzero(drawn.ivar[0] > 0)
            cut = slice(seen[0], seen[-1] + 1)
            path = output / f"simulated-{number:06d}.fits"
            spectrum = Spectrum(wavelength[cut], drawn.flux[0, cut], drawn.ivar[0, cut])
            try:
                write_spec(path, spectrum, COMMENT)
            except OSError as error:
                raise SpectromerError(
                    f"{path} cannot be written: {error.strerror or error}",
                    "free some space or choose another -o",
                ) from error
            rows.append((path.name, drawn))
            if len(rows) == CHUNK or number == count:
                truth.write(_table(rows))
                rows.clear()
            advance(1)


def _table(rows: list[tuple[str, Simulated]]) -> Table:
    """Rows of the catalogue of truth."""
    from astropy.table import Table

    from spectromer_cli.model.taxonomy import CLASSES, SUBCLASSES

    names = list(SUBCLASSES)
    return Table(
        {
            "file": [name for name, _ in rows],
            "class": [CLASSES[drawn.class_[0]] for _, drawn in rows],
            "subclass": [
                names[drawn.subclass[0]].split(" ", 1)[1] if drawn.subclass[0] >= 0 else ""
                for _, drawn in rows
            ],
            "z": [float(drawn.z[0]) for _, drawn in rows],
            "sn": [float(drawn.sn[0]) for _, drawn in rows],
            "survey": [drawn.survey[0] for _, drawn in rows],
        }
    )
