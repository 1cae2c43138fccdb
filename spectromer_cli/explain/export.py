"""Explanations shown: as lines, JSON, a figure, numbers, or a page."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.inference.run import Failures

if TYPE_CHECKING:
    from spectromer_cli.explain.explanation import Explanation
    from spectromer_cli.inference.predictor import Spectromer

FIGURES = (".png", ".pdf", ".svg")
# astropy's name of the format by suffix.
TABLES = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits", ".vot": "votable"}


def _asked(explanation: Explanation) -> str:
    question = explanation.question
    return f"{question.task.name} = {question.label}"


def print_stretches(explanation: Explanation) -> None:
    """The strongest stretches, as lines of a table."""
    print(
        f"# {explanation.item.file}[{explanation.item.row}]: {_asked(explanation)}, "
        f"p {explanation.probability:.4f}, z {explanation.z:.5f}"
    )
    for stretch in explanation.stretches:
        print(
            f"{stretch.low:.1f}", f"{stretch.high:.1f}", f"{stretch.share:.3f}",
            ", ".join(stretch.lines), sep="\t",
        )  # fmt: skip


def print_json(made: Iterator[Explanation], model: Spectromer, failed: Failures) -> None:
    """One document of all, on stdout."""
    from spectromer_cli.outputs.provenance import provenance
    from spectromer_cli.outputs.screen import to_json_document

    rows = [
        {
            "file": e.item.file,
            "row": e.item.row,
            "target": e.question.task.name,
            "answer": e.question.label,
            "method": e.method,
            "probability": e.probability,
            "class": e.class_name,
            "z": e.z,
            "stretches": [
                {"low": s.low, "high": s.high, "share": s.share, "lines": list(s.lines)}
                for s in e.stretches
            ],
        }
        for e in made
    ]
    print(to_json_document(rows, provenance(model), failed.status, failed.lines))


def write(made: Iterator[Explanation], output: Path, rest: bool, dark: bool) -> None:
    """Figures or numbers in a file, figures in a folder or on a page, as the name asks."""
    from spectromer_cli.explain.figure import draw

    suffix = output.suffix.lower()
    if suffix == ".html":
        _write_page(made, output, rest, dark)
    elif output.is_dir():
        for explanation in made:
            path = output / f"{_stem(explanation)}.png"
            draw(_sheet(explanation, rest, dark), path)
            console.info(f"wrote {path}")
    else:
        first = next(made, None)
        if first is None:
            return
        if suffix in FIGURES:
            draw(_sheet(first, rest, dark), output)
        else:
            _write_numbers(first, output)
        console.info(f"wrote {output}")
        if next(made, None) is not None:
            raise UsageError(
                f"{output} holds the first spectrum; there are more",
                "give -o a folder, or a page: -o why.html",
            )


def _stem(explanation: Explanation) -> str:
    item = explanation.item
    stem = Path(item.file).name.split(".fits")[0]
    return f"{stem}-{item.row}" if item.of_many else stem


def _write_numbers(explanation: Explanation, output: Path) -> None:
    import numpy as np
    from astropy.table import Table

    from spectromer_cli.paths import atomic_path

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
        "asked": _asked(explanation),
        "method": explanation.method,
        "p": explanation.probability,
        "z": explanation.z,
    }
    with atomic_path(output) as temporary:
        table.write(temporary, format=TABLES[output.suffix.lower()], overwrite=True)


def _sheet(explanation: Explanation, rest: bool, dark: bool) -> Any:
    """What the figure shows, in its terms."""
    import numpy as np

    from spectromer_cli.explain.figure import Sheet

    e = explanation
    good = e.prepared.ivar > 0
    z = e.z
    alternatives = [
        float(e.row[f"z_alt{rank}"])
        for rank in range(1, 6)
        if f"z_alt{rank}" in e.row.colnames and np.isfinite(e.row[f"z_alt{rank}"])
    ]
    side = int(len(e.shown) ** 0.5)
    token = (e.shown * e.importance).sum(axis=1).reshape(side, side)
    zwarn = f"   zwarn {e.row['zwarn']}" if "zwarn" in e.row.colnames else ""
    probability = f"   p {e.probability:.3f}" if e.question.outputs.size else ""
    title = (
        f"{_stem(e)}   S/N {e.item.sn_median:.1f}   {_asked(e)}{probability}{zwarn}   by {e.method}"
    )
    with np.errstate(divide="ignore"):
        error = np.where(good, 1.0 / np.sqrt(e.prepared.ivar), np.nan)
    return Sheet(
        title, e.grid.wavelength, np.where(good, e.prepared.flux, np.nan), error, e.importance,
        _asked(e), [(s.low, s.high, s.share, s.lines) for s in e.stretches], e.template, z,
        e.class_probabilities, e.p_z, alternatives, e.curve, e.image, token,
        rest and np.isfinite(z), dark,
    )  # fmt: skip


def _write_page(made: Iterator[Explanation], output: Path, rest: bool, dark: bool) -> None:
    """One page that holds all its figures."""
    import tempfile

    from spectromer_cli.explain.figure import draw
    from spectromer_cli.paths import atomic_path

    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for explanation in made:
            picture = Path(folder) / "one.png"
            draw(_sheet(explanation, rest, dark), picture)
            data = b64encode(picture.read_bytes()).decode()
            name = html.escape(f"{explanation.item.file}[{explanation.item.row}]")
            asked = html.escape(_asked(explanation))
            parts.append(
                f"<figure><figcaption>{name}</figcaption>"
                f'<img src="data:image/png;base64,{data}" alt="{name}: {asked}"></figure>'
            )
    colours = "background:#161616;color:#e8e8e8" if dark else "background:white;color:#1a1a1a"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Explanations</title>'
        f"<style>body{{font-family:sans-serif;{colours};max-width:75em;margin:auto}}"
        "img{max-width:100%}figure{margin:2em 0}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with atomic_path(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    console.info(f"wrote {len(parts)} figures to {output}")
