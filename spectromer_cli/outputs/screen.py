"""Results on stdout: a table for people, a JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spectromer_cli.outputs.formats import (
    Provenance,
    as_text,
    cells_of,
    json_rows,
    json_value,
    plain,
    stacked,
)
from spectromer_cli.outputs.tables import open_writer

if TYPE_CHECKING:
    from astropy.table import Column, Table

# Raised when programs that read the document would misread it.
RESULT_VERSION = 1


def envelope(status: str, errors: Sequence[Any], **content: Any) -> str:
    """The JSON document of ``--json``, whatever it holds.

    Parameters
    ----------
    status : {"success", "partial", "error"}
        Whether all inputs, some or none have a result.
    errors : sequence
        What went wrong, as JSON values.
    **content
        What it holds, as JSON values.

    Returns
    -------
    str
    """
    document = {
        "spectromer_result_version": RESULT_VERSION,
        "status": status,
        **content,
        "errors": list(errors),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def to_json_document(
    rows: Table | Sequence[Mapping[str, Any]],
    provenance: Provenance,
    status: str,
    errors: Sequence[Any],
    **content: Any,
) -> str:
    """The JSON document of results.

    Parameters
    ----------
    rows : astropy Table or sequence of dict
        The results; masked and values that are not finite become null.
    provenance : mapping of str to str
        How they were made.
    status : {"success", "partial", "error"}
        Whether all inputs, some or none have a result.
    errors : sequence
        What went wrong, as JSON values.
    **content
        What else it holds, as JSON values.

    Returns
    -------
    str
        As `envelope` makes it, with ``provenance`` and ``rows``.
    """
    if isinstance(rows, Sequence):
        values = [json_value(dict(row)) for row in rows]
    else:
        values = list(json_rows(plain(rows)))
    made = {key: as_text(value) for key, value in provenance.items()}
    return envelope(status, errors, provenance=made, **content, rows=values)


def put(chunks: Iterable[Table], provenance: Provenance, title: str) -> None:
    """Print results on stdout: a table for people on a terminal, CSV as it comes elsewhere."""
    if sys.stdout.isatty():
        show(stacked(list(chunks)), title)
        return
    with open_writer(None, provenance) as writer:
        for chunk in chunks:
            writer.write(chunk)


# How many decimals are worth showing; other numbers get six significant digits.
_DECIMALS = {"p": 3, "prob": 3, "z": 5, "err": 5, "alt1": 5, "alt2": 5, "ra": 5, "dec": 5}
_DECIMALS |= {"median": 1, "chi2": 1}
# The first are the last to go from a narrow terminal; others go before all of these.
_MOST_WORTH_SEEING = (
    *("file", "class", "z", "flags", "zwarn", "subclass", "class_prob", "z_prob", "z_err"),
    *("row", "p_star", "p_galaxy", "p_qso"),
)
_ROWS_SHOWN = 50


def show(table: Table, title: str) -> None:
    """Print a table for people on stdout.

    Columns that are empty throughout are left out, and so are the last columns of a table
    too wide for the terminal, which is said below it; so is how many rows there are more
    than fifty.

    Parameters
    ----------
    table : astropy Table
    title : str
        The line above it.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as Sheet
    from rich.text import Text

    total = len(table)
    table = plain(table[:_ROWS_SHOWN])
    columns = {column.name: _shown(column) for column in table.itercols()}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    console = Console()
    if "file" in columns:
        columns["file"] = _shortened(columns["file"], max(12, console.width // 4))
    notes = []
    if total > _ROWS_SHOWN:
        notes.append(f"{total - _ROWS_SHOWN} more rows; all of them go to a file with -o FILE")
    # Reasons are sentences and may wrap; a wrapped number cannot be read.
    widths = {
        name: 16 if name == "flags" else max(cell_len(cell) for cell in (name, *cells))
        for name, cells in columns.items()
    }
    hidden: list[str] = []
    worth = {name: rank for rank, name in enumerate(_MOST_WORTH_SEEING)}
    candidates = sorted(columns, key=lambda name: worth.get(name, len(worth)))
    while len(widths) > 1 and sum(widths.values()) + 2 * len(widths) + 2 > console.width:
        hidden.append(candidates.pop())
        del columns[hidden[-1]], widths[hidden[-1]]
    if hidden:
        notes.append(f"too wide for {', '.join(reversed(hidden))}: -o FILE has them")
    sheet = Sheet(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name, width in widths.items():
        is_number = table[name].dtype.kind in "iuf"
        sheet.add_column(Text(name), justify="right" if is_number else "left", min_width=width)
    for row in zip(*columns.values(), strict=True):
        sheet.add_row(*(Text(cell) for cell in row))  # Text: a name[12] is no markup
    console.print(sheet)
    for note in notes:
        console.print(note, style="dim", markup=False, highlight=False)


def _shown(column: Column) -> list[str]:
    """The cells as a person wants them, empty where there is no value."""
    decimals = _DECIMALS.get(column.name.split("_")[0 if column.name.startswith("p_") else -1])

    def cell(value: Any) -> str:
        if value is None or value != value:
            return ""
        if isinstance(value, float):
            return f"{value:.6g}" if decimals is None else f"{value:.{decimals}f}"
        return str(value)

    return [cell(value) for value in cells_of(column)]


def _shortened(names: list[str], width: int) -> list[str]:
    """From the left: the end of a path tells files apart."""
    return [name if len(name) <= width else "…" + name[1 - width :] for name in names]
