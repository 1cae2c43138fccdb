"""Results as files, in the table formats that astronomers use.

A new format is a new function below and its entry in `_FORMATS`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.outputs.cells import as_text, json_rows, json_value, plain, rows_of
from spectromer_cli.paths import atomic_path, require_writable_folder

if TYPE_CHECKING:
    import pyarrow
    from astropy.table import Table

Write = Callable[["Table"], None]
Provenance = Mapping[str, str]

_PARQUET_ROWS = 8192  # rows collected into one row group


def check_output(path: Path) -> None:
    """Check, before any work is done, that a table can be written to `path`.

    Raises
    ------
    UsageError
        If the suffix names no format, or the folder is missing or cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        suffix = f"the suffix {path.suffix!r}" if path.suffix else "a name without suffix"
        raise UsageError(
            f"{path}: {suffix} names no format of tables", f"end it in {' '.join(_FORMATS)}"
        )
    require_writable_folder(path)


class TableWriter:
    """Takes a table in chunks; given by `open_writer`."""

    def __init__(self, path: Path | None, write: Write) -> None:
        self._path = path
        self._write = write
        self._names: list[str] | None = None

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
        table = plain(table)
        if self._names is None:
            self._names = table.colnames
        if table.colnames != self._names:
            raise ValueError(f"columns {table.colnames} after columns {self._names}")
        with _disk_errors(self._path):
            self._write(table)


@contextmanager
def open_writer(
    path: Path | None, provenance: Provenance, part: Path | None = None
) -> Iterator[TableWriter]:
    """Open a table for writing, chunk by chunk, in the format of its suffix.

    CSV, ECSV, JSONL and Parquet files grow as the rows come, in constant memory; FITS and
    VOTable are collected and written at the end. The file appears under its name when the
    block ends well; after an error or Ctrl-C what was there before is still there.

    Parameters
    ----------
    path : Path or None
        The file; None writes CSV to stdout.
    provenance : mapping of str to str
        How the result was made: into the header, or, for CSV and JSONL, which have none,
        into ``<name>.meta.json`` beside the file.
    part : Path, optional
        Grow this file (CSV, ECSV or JSONL), which may hold rows already and is left where it
        is after an error.

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
        yield TableWriter(None, _csv_rows(sys.stdout))
        return
    check_output(path)
    suffix = path.suffix.lower()
    provenance = {key: as_text(value) for key, value in provenance.items()}
    place = atomic_path(path) if part is None else _moved_at_the_end(part, path)
    with place as temporary, ExitStack() as stack:
        with _disk_errors(path):
            write = stack.enter_context(_FORMATS[suffix](temporary, provenance))
        yield TableWriter(path, write)
        with _disk_errors(path):
            stack.close()  # the last rows, or for FITS and VOTable all of them
            if suffix in (".csv", ".jsonl"):
                with atomic_path(path.with_name(f"{path.name}.meta.json")) as sidecar:
                    text = json.dumps(dict(provenance), indent=2, ensure_ascii=False)
                    sidecar.write_text(text + "\n", encoding="utf-8")


@contextmanager
def _moved_at_the_end(part: Path, path: Path) -> Iterator[Path]:
    yield part
    part.replace(path)


@contextmanager
def _disk_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if path is None:  # stdout: a closed pipe is not for us to explain
            raise
        reason = error.strerror or error
        raise SpectromerError(
            f"{path} cannot be written: {reason}", "free some space or choose another -o"
        ) from error


@contextmanager
def _csv(path: Path, provenance: Provenance) -> Iterator[Write]:
    with path.open("a", encoding="utf-8", newline="") as file:
        yield _csv_rows(file, has_header=file.tell() > 0)


def _csv_rows(file: TextIO, has_header: bool = False) -> Write:
    import csv

    writer = csv.writer(file, lineterminator="\n")

    def cell(value: Any) -> Any:
        if isinstance(value, list):
            return json.dumps(json_value(value))
        return "" if value is None or value != value else value

    def write(table: Table) -> None:
        nonlocal has_header
        if not has_header:
            writer.writerow(table.colnames)
            has_header = True
        writer.writerows([cell(value) for value in row] for row in rows_of(table))
        file.flush()  # who reads along, reads whole chunks

    return write


@contextmanager
def _ecsv(path: Path, provenance: Provenance) -> Iterator[Write]:
    import io
    from itertools import dropwhile

    from astropy.table import Table

    with path.open("a", encoding="utf-8", newline="") as file:

        def write(table: Table) -> None:
            table.meta = dict(provenance)
            text = io.StringIO()
            table.write(text, format="ascii.ecsv", delimiter=",")
            text.seek(0)
            if file.tell() == 0:
                file.write(text.read())
            else:
                after_header = dropwhile(lambda line: line.startswith("#"), text)
                next(after_header)  # the names of the columns
                file.writelines(after_header)
            file.flush()

        yield write
        if file.tell() == 0:
            write(Table())


@contextmanager
def _jsonl(path: Path, provenance: Provenance) -> Iterator[Write]:
    with path.open("a", encoding="utf-8", newline="") as file:

        def write(table: Table) -> None:
            for row in json_rows(table):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()

        yield write


@contextmanager
def _parquet(path: Path, provenance: Provenance) -> Iterator[Write]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    writer = None
    waiting: list[pyarrow.Table] = []

    def write_group() -> None:
        nonlocal writer
        group = pyarrow.concat_tables(waiting)
        if writer is None:
            writer = stack.enter_context(ParquetWriter(path, group.schema))
        writer.write_table(group)
        waiting.clear()

    def write(table: Table) -> None:
        waiting.append(_arrow(table, provenance))
        if sum(len(chunk) for chunk in waiting) >= _PARQUET_ROWS:
            write_group()

    with ExitStack() as stack:
        yield write
        if writer is None and not waiting:
            waiting.append(pyarrow.table({}).replace_schema_metadata(dict(provenance)))
        if waiting:
            write_group()


def _arrow(table: Table, provenance: Provenance) -> pyarrow.Table:
    import pyarrow

    fields, arrays = [], []
    for column in table.itercols():
        is_text = column.dtype.kind not in "biuf"
        kind = (
            pyarrow.string()
            if is_text
            else pyarrow.from_numpy_dtype(column.dtype.newbyteorder("="))
        )
        for _ in column.shape[1:]:
            kind = pyarrow.list_(kind)
        fields.append(pyarrow.field(column.name, kind))
        arrays.append(pyarrow.array(column.tolist(), kind))
    return pyarrow.table(arrays, pyarrow.schema(fields, metadata=dict(provenance)))


@contextmanager
def _fits(path: Path, provenance: Provenance) -> Iterator[Write]:
    from astropy.io import fits

    chunks: list[Table] = []
    yield chunks.append
    hdu = fits.table_to_hdu(_for_fits(_stacked(chunks)))
    for key, value in provenance.items():
        keyword = key.replace("_", "").upper()[:8]
        while keyword in hdu.header:  # two long names that start alike
            keyword = f"{keyword[:6]}{len(hdu.header) % 100:02d}"
        # Cards are ASCII; a long value goes on in CONTINUE cards.
        hdu.header[keyword] = value.encode("unicode_escape").decode("ascii")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


@contextmanager
def _votable(path: Path, provenance: Provenance) -> Iterator[Write]:
    from astropy.io import votable

    chunks: list[Table] = []
    yield chunks.append
    document = votable.from_table(_stacked(chunks))
    for key, value in provenance.items():
        document.resources[0].infos.append(votable.tree.Info(name=key, value=value))
    document.to_xml(str(path))


def _stacked(chunks: list[Table]) -> Table:
    """One table, in types that FITS and VOTable both know."""
    from astropy.table import Table, vstack

    table = vstack(chunks, metadata_conflicts="silent") if chunks else Table()
    for name in table.colnames:
        dtype = table[name].dtype
        if dtype.kind == "u" and dtype.itemsize == 8 and np.any(table[name] > 2**63 - 1):
            table[name] = table[name].astype(str)
        elif dtype.kind == "u" or dtype == np.int8:
            table[name] = table[name].astype(np.int64)
        elif dtype.kind == "f" and dtype.itemsize == 2:
            table[name] = table[name].astype(np.float32)
    return table


def _for_fits(table: Table) -> Table:
    """Text as UTF-8 bytes, and the lowest number of the type (TNULL) for masked integers."""
    for name in table.colnames:
        column = table[name]
        is_masked = bool(np.any(getattr(column, "mask", False)))
        if column.dtype.kind == "U":
            text = column.filled("") if is_masked else column
            table[name] = np.char.encode(np.asarray(text), "utf-8")
        elif is_masked and column.dtype.kind in "bi":
            if column.dtype.kind == "b":  # a FITS logical has no TNULL
                table[name] = column.astype(np.int16)
            table[name].fill_value = np.iinfo(table[name].dtype).min
    return table


_FORMATS: dict[str, Callable[[Path, Provenance], Any]] = {
    ".csv": _csv,
    ".ecsv": _ecsv,
    ".fits": _fits,
    ".vot": _votable,
    ".parquet": _parquet,
    ".jsonl": _jsonl,
}
