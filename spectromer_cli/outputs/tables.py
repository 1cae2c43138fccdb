"""Results as files: written row by row, under their name when they are whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from spectromer_cli.errors import UsageError
from spectromer_cli.outputs import schema
from spectromer_cli.outputs.formats import (
    BLOCK,
    FORMATS,
    Format,
    Provenance,
    Write,
    as_text,
    csv_rows,
    plain,
)
from spectromer_cli.paths import atomic_path, disk_errors, require_writable_folder, scratch_path

if TYPE_CHECKING:
    from astropy.table import Table


# Formats whose provenance lies beside them.
WITHOUT_HEADER = (".csv", ".jsonl")


def provenance_beside(path: Path) -> Path:
    """The file for the provenance of a format that has no header."""
    return path.with_name(f"{path.name}.meta.json")


def check_output(path: Path, formats: Mapping[str, Format] = FORMATS) -> None:
    """Check, before any work is done, that a table can be written to `path`.

    Parameters
    ----------
    path : Path
    formats : mapping of str to Format
        By suffix.

    Raises
    ------
    UsageError
        If the suffix names no format, the folder is missing or cannot be written, or a file of
        another origin lies where the provenance would go.
    """
    if path.suffix.lower() not in formats:
        suffix = f"unknown suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise UsageError(f"{path}: {suffix}", f"choose from {' '.join(formats)}")
    require_writable_folder(path)
    beside = provenance_beside(path)
    if path.suffix.lower() in WITHOUT_HEADER and not _is_ours(beside):
        raise UsageError(
            f"{beside}, needed for the provenance of {path.name}, is another file",
            "move it away, or choose another -o",
        )


def _is_ours(beside: Path) -> bool:
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "version" in record


class TableWriter:
    """Takes a table in chunks; given by `open_writer`.

    Attributes
    ----------
    columns : dict of str to dict
        Unit, UCD and description of each column, once they are described or written.
    """

    def __init__(self, path: Path | None, write: Write) -> None:
        self._path = path
        self._write = write
        self._names: list[str] | None = None
        self.columns: dict[str, dict[str, str]] = {}

    def describe(self, table: Table) -> None:
        """Say which columns there will be; the first rows do so too."""
        self._names = table.colnames
        self.columns = {
            as_text(column.info.name): schema.about(column.info) for column in table.itercols()
        }

    def write(self, table: Table) -> None:
        """Write the next rows.

        Parameters
        ----------
        table : astropy Table
            The same columns each time. A table without rows is a good first chunk: the file
            has its columns then, even if no row follows.

        Raises
        ------
        ValueError
            If the columns are not those of the first chunk.
        SpectromerError
            If the disk does not take them.
        """
        if self._names is None:
            self.describe(table)
        if table.colnames != self._names:
            raise ValueError(f"columns {table.colnames} after columns {self._names}")
        for start in range(0, max(len(table), 1), BLOCK):
            block = plain(table if len(table) <= BLOCK else table[start : start + BLOCK])
            with disk_errors(self._path):
                self._write(block)


@contextmanager
def open_writer(
    path: Path | None,
    provenance: Provenance,
    part: Path | None = None,
    formats: Mapping[str, Format] = FORMATS,
) -> Iterator[TableWriter]:
    """Open a table for writing, chunk by chunk, in the format of its suffix.

    Memory does not grow with the rows. The file appears under its name when the block ends well;
    after an error or Ctrl-C what was there before is still there.

    Parameters
    ----------
    path : Path or None
        The file; None writes CSV to stdout.
    provenance : mapping of str to str
        How the result was made: into the header, or, for CSV and JSONL, which have none,
        into ``<name>.meta.json`` beside the file, with what the columns are.
    part : Path, optional
        Grow this file, which may hold rows already (see `formats.Format`), and is left where it is
        after an error.
    formats : mapping of str to Format
        By suffix.

    Yields
    ------
    TableWriter

    Raises
    ------
    UsageError
        As `check_output`.
    SpectromerError
        If the disk does not take the file.
    """
    if path is None:
        yield TableWriter(None, csv_rows(sys.stdout))
        return
    check_output(path, formats)
    format_ = formats[path.suffix.lower()]
    provenance = {key: as_text(value) for key, value in provenance.items()}
    with scratch_path(path) if part is None else nullcontext(part) as grown:
        with ExitStack() as stack:
            with disk_errors(path):
                write = stack.enter_context(format_.grow(grown, provenance))
            writer = TableWriter(path, write)
            yield writer
            with disk_errors(path):
                stack.close()
        with disk_errors(path):
            if path.suffix.lower() in WITHOUT_HEADER:
                with atomic_path(provenance_beside(path)) as sidecar:
                    record = provenance | {"columns": writer.columns}
                    text = json.dumps(record, indent=2, ensure_ascii=False)
                    sidecar.write_text(text + "\n", encoding="utf-8")
            if format_.finish is None:
                grown.replace(path)
            else:
                with atomic_path(path) as whole:
                    format_.finish(grown, whole, provenance)
