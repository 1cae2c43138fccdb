"""`spectromer plot`: a quick look at spectra, in a file or in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import ReadError, SomeInputsFailed, UsageError
from spectromer_cli.paths import atomic_path, disk_errors, make_folder, require_writable_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.outputs.plotting import Look
    from spectromer_cli.outputs.samp import Recipients
    from spectromer_cli.spectra.lines import Line
    from spectromer_cli.spectra.loading import Item

    Take = Callable[[Look, Item], None]

SUFFIXES = (".png", ".pdf", ".svg")
SEVERAL = "give -o FILE.pdf, or a folder"

EPILOG = """Examples:

spectromer plot examples/simulated-sdss-galaxy.fits --term

spectromer plot examples/*.fits --smooth 2 -o looks.pdf

spectromer plot examples/simulated-boss-quasar.fits --z 2.235 --class QSO -o quasar.png

spectromer plot --catalog examples/targets.csv -o looks/

spectromer plot examples/simulated-boss-quasar.fits --samp topcat
"""


def plot(
    files: options.Files = None,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDir = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|DIR",
            help=".png or .svg for one spectrum, .pdf with one page per spectrum, or a folder for "
            "NAME.png per spectrum.",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    term: Annotated[
        bool,
        typer.Option(
            "--term",
            help="Plot in the terminal, with braille dots (default on a terminal without -o).",
            rich_help_panel=options.RESULTS,
        ),
    ] = False,
    samp: options.Samp = None,
    z: Annotated[
        float | None,
        typer.Option(
            "--z",
            min=-0.9,
            help="Mark lines at this redshift instead of the predicted one.",
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Mark the lines of STAR, GALAXY or QSO instead of the predicted class.",
            autocompletion=options.offer("STAR", "GALAXY", "QSO"),
            rich_help_panel=options.RESULTS,
            show_default=False,
        ),
    ] = None,
    no_lines: Annotated[
        bool,
        typer.Option(
            "--no-lines",
            help="Mark no lines, and do not run the model.",
            rich_help_panel=options.RESULTS,
        ),
    ] = False,
    smooth: Annotated[
        float,
        typer.Option(
            "--smooth",
            min=0.0,
            max=100.0,
            metavar="PIXELS",
            help="Smooth with a Gaussian of this σ, weighted by inverse variance.",
            rich_help_panel=options.RESULTS,
        ),
    ] = 0.0,
    model: options.Model = None,
    device: options.Device = "auto",
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    quiet: options.Quiet = 0,
) -> None:
    """Plot spectra, with lines marked at the predicted or a given redshift.

    Prints the names of the files it writes. Spectra that cannot be plotted
    are reported on stderr, and the exit code is 3.
    """
    from spectromer_cli.inference.predictor import load_model
    from spectromer_cli.outputs.plotting import Look, smoothed
    from spectromer_cli.outputs.samp import send_spectrum
    from spectromer_cli.spectra.loading import Inputs, load_all
    from spectromer_cli.spectra.sources import only_one

    console.set_quiet(quiet)
    kind = _kind(class_)
    inputs = Inputs(
        files=files, catalog=catalog, spectra_dir=spectra_dir, air=air,
        wavelength_unit=wavelength_unit, max_file_size=max_file_size, file_timeout=file_timeout,
    )  # fmt: skip
    is_drawn = output is not None or term or samp is None
    if is_drawn:
        _check(output, term, z, no_lines)
    targets, _, _ = inputs.targets()
    if output is not None and _holds_one(output):
        targets = only_one(targets, f"{output} holds one figure", SEVERAL)
    lines_found = is_drawn and not no_lines and (z is None or kind is None)
    predictor = load_model(model, device) if lines_found else None
    drawn = failed = 0
    with _recipients(samp) as recipients, _taker(output) as take:
        for item in load_all(targets, inputs.options):
            if item.skipped:
                continue
            try:
                if item.spectrum is None:
                    raise ReadError(item.problem)
                spectrum = smoothed(item.spectrum, smooth)
                if recipients is not None:
                    send_spectrum(recipients, spectrum, Path(item.label).name)
                if is_drawn:
                    title, at, lines = _prediction(item, predictor, z, kind)
                    take(Look(spectrum, title, None if no_lines else at, lines), item)
            except ReadError as error:
                failed += 1
                item.problem = str(error)
                console.error(item.complaint)
            else:
                drawn += 1
    if failed:
        raise SomeInputsFailed(f"{failed} of {failed + drawn} inputs could not be plotted")
    if not drawn:
        raise SomeInputsFailed("none of the files found contains a spectrum", "give the file names")


def _kind(class_: str | None) -> str | None:
    if class_ is None:
        return None
    from spectromer_cli.model.taxonomy import CLASSES

    if class_.upper() not in CLASSES:
        raise UsageError(f"invalid --class {class_!r}", f"choose from {', '.join(CLASSES)}")
    return class_.upper()


def _holds_one(output: Path) -> bool:
    """Whether the output is a file for the figure of one spectrum."""
    return bool(output.suffix) and output.suffix.lower() != ".pdf" and not output.is_dir()


def _check(output: Path | None, term: bool, z: float | None, no_lines: bool) -> None:
    if z is not None and no_lines:
        raise UsageError("--z and --no-lines exclude each other", "give one of them")
    if output is not None and term:
        raise UsageError("-o and --term exclude each other", "give one of them")
    if output is None and not term and not sys.stdout.isatty():
        raise UsageError("no output given", "give -o FILE.pdf, -o FOLDER, or --term")
    if output is not None and output.suffix and not output.is_dir():
        if output.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{output}: unknown figure format",
                f"choose from {' '.join(SUFFIXES)}",
            )
        require_writable_folder(output)


def _recipients(samp: str | None) -> AbstractContextManager[Recipients | None]:
    """Who is sent the spectra; looked for before the work."""
    from spectromer_cli.outputs.samp import SPECTRUM, TABLE, connected

    return nullcontext() if samp is None else connected(samp, SPECTRUM, TABLE)


def _prediction(
    item: Item, predictor: Spectromer | None, z: float | None, kind: str | None
) -> tuple[str, float | None, Sequence[Line]]:
    """Title, redshift and lines: what was given counts, the rest is predicted."""
    from spectromer_cli.spectra.lines import lines_for, spectral_type_of
    from spectromer_cli.spectra.loading import item_of

    assert item.spectrum is not None
    words = [Path(item.label).name, f"S/N {item.spectrum.sn_median:.1f} per pixel"]
    given = z is not None
    spectral_type = ""
    if predictor is not None:
        prepared = item_of(item.spectrum, item.file, item.row, predictor.grid)
        if prepared.prepared is None:
            # It can still be looked at, only not classified.
            console.warn(f"{item.label} has no prediction: {prepared.problem}")
            words.append("no prediction")
        else:
            row = predictor.table([prepared])[0]
            kind = kind or (str(row["class"]) if "class" in row.colnames else None)
            spectral_type = spectral_type_of(row)
            words += _in_words(row, given)
            if not given and "z" in row.colnames:
                z = float(row["z"])
    if given:
        words.append(f"z = {z:g} (given)")
    lines = lines_for(kind, spectral_type) if kind else ()
    return "   ".join(words), z, lines


def _in_words(row: Any, given: bool) -> list[str]:
    """The predicted class and redshift, as they stand in the title."""
    from spectromer_cli.model.zwarn import names_of

    words = []
    if "class" in row.colnames:
        words.append(f"{row['class']} (p {row['class_prob']:.2f})")
    if "z" in row.colnames and not given:
        words.append(f"z = {row['z']:.5f} ± {row['z_err']:.5f} (p {row['z_prob']:.2f})")
        if row["zwarn"]:
            words.append(" ".join(names_of(int(row["zwarn"]))))
    return words


# --- where figures go -----------------------------------------------------------------------


@contextmanager
def _taker(output: Path | None) -> Iterator[Take]:
    """Give `take(look, item)`, which draws into the terminal, a folder, a PDF or one file."""
    if output is None:
        from spectromer_cli.outputs import terminal

        yield lambda look, item: terminal.show(look)
    elif _holds_one(output):
        looks: list[Look] = []

        def keep(look: Look, item: Item) -> None:
            if looks:
                raise UsageError(f"{output} holds one figure, but there are more spectra", SEVERAL)
            looks.append(look)

        yield keep
        for look in looks:
            _save(look, output)
    elif output.suffix.lower() == ".pdf" and not output.is_dir():
        with _pdf_taker(output) as take:
            yield take
    else:
        make_folder(output)
        yield _folder_taker(output)


def _folder_taker(folder: Path) -> Take:
    from spectromer_cli.outputs.naming import output_stem, unique

    taken: set[str] = set()

    def take(look: Look, item: Item) -> None:
        name = unique(output_stem(item.file, item.row, item.of_many), taken)
        _save(look, folder / f"{name}.png")

    return take


@contextmanager
def _pdf_taker(output: Path) -> Iterator[Take]:
    from matplotlib.backends.backend_pdf import PdfPages

    from spectromer_cli.outputs.plotting import draw

    pages = 0

    def take(look: Look, item: Item) -> None:
        nonlocal pages
        pdf.savefig(draw(look))
        pages += 1

    with disk_errors(output), atomic_path(output) as temporary:
        with PdfPages(temporary) as pdf:
            yield take
        if not pages:
            raise SomeInputsFailed("no spectrum could be plotted", "see the messages above")
    print(output)


def _save(look: Look, path: Path) -> None:
    from spectromer_cli.outputs.plotting import draw, save_figure

    with disk_errors(path):
        save_figure(draw(look), path)
    print(path, flush=True)
