"""Explanations shown: as lines of text, JSON, figures, tables, or a page of figures."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.outputs import naming
from spectromer_cli.outputs.protect import Outputs, checked_targets
from spectromer_cli.paths import atomic_path, make_folder, require_writable_folder

if TYPE_CHECKING:
    from spectromer_cli.explain.explanation import Explanation
    from spectromer_cli.inference.failures import Failures
    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.spectra.loading import Inputs

FIGURES = (".png", ".pdf", ".svg")
# astropy's name of the format by suffix.
TABLES = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits", ".vot": "votable"}
# What each spectrum gets in a folder.
IN_FOLDER = (".png", ".ecsv")
SUFFIXES = (*FIGURES, *TABLES, ".html")


def check_output(output: Path, inputs: Inputs) -> None:
    """Refuse, before any work, an output that cannot be written, or would overwrite an input.

    Raises
    ------
    UsageError
        If the suffix is unknown, the folder is missing or not writable, a file to be written is
        an input, or none of the inputs exists.
    """
    if _is_folder(output):
        if not inputs.from_stdin:
            targets, _, _ = inputs.targets()
            stems = {naming.output_stem(target.path) for target in targets}
            written = [output / f"{stem}{suffix}" for stem in stems for suffix in IN_FOLDER]
            checked_targets(inputs, written)
        make_folder(output)
        return
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"-o {output}: unknown file type",
            f"choose from {', '.join(SUFFIXES)}, or give a folder",
        )
    require_writable_folder(output)
    if not inputs.from_stdin:
        checked_targets(inputs, [output])


def _is_folder(output: Path) -> bool:
    return output.is_dir() or not output.suffix


def holds_one(output: Path) -> bool:
    """Whether an output holds one explanation: a figure or a table."""
    return not _is_folder(output) and output.suffix.lower() != ".html"


def print_regions(explanations: Iterable[Explanation]) -> None:
    """The strongest regions, as lines of a table."""
    for explanation in explanations:
        item = explanation.item
        print(
            f"# {item.file}[{item.row}]: {explanation.prediction}, "
            f"p {explanation.probability:.4f}, z {explanation.z:.5f}"
        )
        for region in explanation.regions:
            names = ", ".join(region.names)
            print(f"{region.low:.1f}\t{region.high:.1f}\t{region.share:.3f}\t{names}")


def print_json(explanations: Iterable[Explanation], model: Spectromer, failures: Failures) -> None:
    """One document of all, on stdout."""
    from spectromer_cli.outputs.provenance import provenance
    from spectromer_cli.outputs.screen import to_json_document

    rows = [json_row(explanation) for explanation in explanations]
    print(to_json_document(rows, provenance(model), failures.status, failures.lines))


def json_row(explanation: Explanation) -> dict[str, Any]:
    """What JSON says of an explanation."""
    z = explanation.z
    return {
        "file": explanation.item.file,
        "row": explanation.item.row,
        "task": explanation.prediction.task.name,
        "prediction": explanation.prediction.label,
        "method": explanation.method,
        "probability": explanation.probability,
        "class": explanation.class_name,
        "z": z if z == z else None,
        "regions": [
            {"low": region.low, "high": region.high, "share": region.share, "lines": region.names}
            for region in explanation.regions
        ],
    }


def write(
    explanations: Iterable[Explanation],
    output: Path,
    *,
    rest_frame: bool = False,
    dark: bool = False,
) -> None:
    """Write explanations in the form that the name of the output asks for.

    Parameters
    ----------
    explanations : iterable of Explanation
        Consumed one by one; of a figure or table, the only one.
    output : Path
        A figure (.png .pdf .svg), a table (.ecsv .csv .fits .vot), a page of figures (.html), or
        a folder, which gets NAME.png and NAME.ecsv for each spectrum, or NAME.12.png and
        NAME.12.ecsv for number 12 of a file of many: what ``report --importance`` looks for.
    rest_frame, dark : bool
        See `figure.save`.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    from spectromer_cli.explain import figure

    if output.suffix.lower() == ".html":
        _write_page(explanations, output, rest_frame, dark)
        return
    taken: set[str] = set()
    for explanation in explanations:
        item = explanation.item
        if output.is_dir():
            stem = naming.unique(naming.output_stem(item.file, item.row, item.of_many), taken)
            paths = [output / f"{stem}{suffix}" for suffix in IN_FOLDER]
        else:
            paths = [output]
        # Names from stdin, and of many spectra in one file, were not known before.
        Outputs(paths).refuse(Path(item.file), "an input")
        for path in paths:
            if path.suffix.lower() in FIGURES:
                figure.save(explanation, path, rest_frame=rest_frame, dark=dark)
            else:
                _write_table(explanation, path)
            console.info(f"wrote {path}")


def to_table(explanation: Explanation) -> Any:
    """An astropy table of wavelength, flux, ivar and importance, one row per pixel of the grid."""
    import numpy as np
    from astropy.table import Table

    prepared = explanation.prepared
    table = Table(
        {
            "wavelength": explanation.grid.wavelength,
            "flux": np.where(prepared.ivar > 0, prepared.flux * prepared.scale, np.nan),
            "ivar": prepared.ivar.astype(float) / prepared.scale**2,
            "importance": explanation.importance,
        }
    )
    table["wavelength"].unit = "Angstrom"
    table.meta = {
        "file": explanation.item.file,
        "row": explanation.item.row,
        "prediction": str(explanation.prediction),
        "method": explanation.method,
        "p": explanation.probability,
        "z": explanation.z,
    }
    return table


def _write_table(explanation: Explanation, output: Path) -> None:
    with atomic_path(output) as temporary:
        to_table(explanation).write(temporary, format=TABLES[output.suffix.lower()], overwrite=True)


def _write_page(
    explanations: Iterable[Explanation], output: Path, rest_frame: bool, dark: bool
) -> None:
    """One page that holds all its figures."""
    import tempfile

    from spectromer_cli.explain import figure
    from spectromer_cli.spectra.drawing import DARK, LIGHT

    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for explanation in explanations:
            picture = Path(folder) / "one.png"
            figure.save(explanation, picture, rest_frame=rest_frame, dark=dark)
            data = b64encode(picture.read_bytes()).decode()
            name = html.escape(f"{explanation.item.file}[{explanation.item.row}]")
            said = html.escape(str(explanation.prediction))
            parts.append(
                f"<figure><figcaption>{name}</figcaption>"
                f'<img src="data:image/png;base64,{data}" alt="{name}: {said}"></figure>'
            )
    theme = DARK if dark else LIGHT
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Explanations</title>'
        f"<style>body{{font-family:sans-serif;background:{theme.ground};color:{theme.text};"
        "max-width:75em;margin:auto}img{max-width:100%}figure{margin:2em 0}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with atomic_path(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    console.info(f"wrote {len(parts)} figures to {output}")
