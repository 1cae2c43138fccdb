"""Results on stdout: a table for people, a JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spectromer_cli.model.zwarn import names_of
from spectromer_cli.outputs import schema
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


# The first are the last to go from a narrow terminal; others go before all of these. The number
# of a spectrum comes second where a file has several.
_MOST_WORTH_SEEING = (
    *("file", "class", "z", "zwarn", "z_err", "flags", "subclass", "class_prob", "z_prob"),
    *("p_star", "p_galaxy", "p_qso", "star_type", "rv", "rv_err", "object_id"),
)
_ROWS_SHOWN = 50
# Names of files have so many characters at least.
_FILE_WIDTH = 12


def show(table: Table, title: str) -> None:
    """Print a table for people on stdout.

    Columns that are empty throughout are left out, and so are the last columns of a table
    too wide for the terminal, which is said below it; so is how many rows there are more
    than fifty. Our ``zwarn`` is shown by the names of its bits, which ``flags`` then leaves out.

    Parameters
    ----------
    table : astropy Table
    title : str
        The line above it.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as Sheet
    from rich.text import Text

    total = len(table)
    table = plain(table[:_ROWS_SHOWN])
    columns = {column.name: _shown(column) for column in table.itercols()}
    if "zwarn" in columns and schema.is_ours(table["zwarn"]):
        columns |= _in_words(table["zwarn"].tolist(), columns.get("flags"))
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    console = Console()
    notes = []
    if total > _ROWS_SHOWN:
        notes.append(f"{total - _ROWS_SHOWN} more rows; write all with -o FILE")
    widths, hidden = _fitted(columns, console.width)
    columns = {name: columns[name] for name in widths}
    if "file" in columns:
        columns["file"] = _shortened(columns["file"], widths["file"])
    if hidden:
        notes.append(f"no room for {', '.join(hidden)}; write all columns with -o FILE")
    sheet = Sheet(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name, width in widths.items():
        is_number = table[name].dtype.kind in "iuf" and name != "zwarn"
        sheet.add_column(
            Text(name, overflow="ellipsis"), justify="right" if is_number else "left",
            width=min(width, console.width - 4), overflow="fold",
        )  # fmt: skip
    for row in zip(*columns.values(), strict=True):
        sheet.add_row(*(Text(cell) for cell in row))  # Text: a name[12] is no markup
    console.print(sheet)
    for note in notes:
        console.print(note, style="dim", markup=False, highlight=False)


def _fitted(columns: Mapping[str, list[str]], room: int) -> tuple[dict[str, int], list[str]]:
    """Which columns a terminal has room for, with their widths, and which it has not."""
    from rich.cells import cell_len

    longest = {
        name: max(cell_len(cell) for cell in (name, *cells)) for name, cells in columns.items()
    }
    widths = dict(longest)
    # Reasons are sentences and may wrap; a wrapped number cannot be read.
    for name in {"flags", "zwarn"} & widths.keys():
        word = max(cell_len(word) for cell in columns[name] for word in (*cell.split(), ""))
        widths[name] = max(len(name), min(word, room // 6))
    if "file" in columns:
        widths["file"] = min(_FILE_WIDTH, widths["file"])
    several = len(set(columns.get("file", ()))) < len(columns.get("file", ()))
    most = ("file", "row", *_MOST_WORTH_SEEING[1:]) if several else _MOST_WORTH_SEEING
    worth = {name: rank for rank, name in enumerate(most)}
    candidates = sorted(columns, key=lambda name: worth.get(name, len(worth)))
    hidden: list[str] = []
    while len(widths) > 1 and sum(widths.values()) + 2 * len(widths) + 2 > room:
        hidden.append(candidates.pop())
        del widths[hidden[-1]]
    left = room - sum(widths.values()) - 2 * len(widths) - 2
    for name in ("file", "zwarn", "flags"):  # what is left of the width goes to the long ones
        if name in widths and left > 0:
            more = min(left, longest[name] - widths[name])
            widths[name] += more
            left -= more
    return widths, hidden[::-1]


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows on stdout: a table on a terminal, tab-separated with a header elsewhere.

    Parameters
    ----------
    rows : sequence of dict
        With the same keys each; None is an empty cell.
    """
    lines = [["" if value is None else str(value) for value in row.values()] for row in rows]
    names = list(rows[0]) if rows else []
    if not sys.stdout.isatty():
        _print_tsv([names, *lines] if names else [])
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table as Sheet
    from rich.text import Text

    sheet = Sheet(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, name in enumerate(names):
        is_last = number == len(names) - 1
        sheet.add_column(Text(name), overflow="fold", no_wrap=not is_last)
    for line in lines:
        sheet.add_row(*map(Text, line))
    Console(highlight=False).print(sheet)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and values on stdout, one per line, tab-separated where it is no terminal."""
    if not sys.stdout.isatty():
        _print_tsv(pairs.items())
        return
    from rich.console import Console
    from rich.table import Table as Sheet
    from rich.text import Text

    sheet = Sheet(box=None, show_header=False)
    sheet.add_column(style="bold", no_wrap=True)
    sheet.add_column(overflow="fold")
    for name, value in pairs.items():
        sheet.add_row(Text(name), Text(value))
    Console(highlight=False).print(sheet)


def _print_tsv(lines: Iterable[Iterable[str]]) -> None:
    """Lines of cells; what would end a cell or a line is a space."""
    for line in lines:
        print("\t".join(" ".join(cell.split()) for cell in line))


def _shown(column: Column) -> list[str]:
    """The cells as a person wants them, empty where there is no value."""
    known = schema.BY_NAME.get(column.name)
    decimals = known.decimals if known else 3 if column.name.endswith("_prob") else None

    def cell(value: Any) -> str:
        if value is None or value != value:
            return ""
        if isinstance(value, float):
            return f"{value:.6g}" if decimals is None else f"{value:.{decimals}f}"
        return str(value)

    return [cell(value) for value in cells_of(column)]


def _in_words(bits: Sequence[int], flags: Sequence[str] | None) -> dict[str, list[str]]:
    """The bits of ``zwarn`` by name, and ``flags`` without these names."""
    names = [names_of(value) for value in bits]
    words = {"zwarn": [", ".join(own) or "0" for own in names]}
    if flags is not None:
        words["flags"] = [
            ", ".join(word for word in filter(None, text.split(";")) if word not in own)
            for text, own in zip(flags, names, strict=True)
        ]
    return words


def _shortened(names: list[str], width: int) -> list[str]:
    """Names of at most `width` characters, by which as many as possible are told apart."""
    start = _common(names)
    end = _common([name[start:][::-1] for name in names])
    ways = (
        lambda name: _window(name, start, len(name) - end, width),
        lambda name: f"…{name[1 - width :]}",
        lambda name: f"{name[: width - 1]}…",
    )
    found = [[name if len(name) <= width else way(name) for name in names] for way in ways]
    return max(found, key=lambda shown: len(set(shown)))


def _common(names: Sequence[str]) -> int:
    """With how many characters all names begin."""
    first, last = min(names), max(names)
    pairs = zip(first, last, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))


def _window(name: str, start: int, end: int, width: int) -> str:
    """What of a name stands around the characters from `start` to `end`, in which it differs."""
    if end - start > width - 2:  # more differs than fits: how it begins and how it ends
        half = (width - 1) // 2
        return f"{name[start : start + half]}…{name[len(name) - (width - 1 - half) :]}"
    first = max(min(start, len(name) - width + 1), 0)
    slash = name.find("/", first, start)
    first = slash if slash > 0 else first
    shown = name[first:] if first == 0 else f"…{name[first:]}"
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"
