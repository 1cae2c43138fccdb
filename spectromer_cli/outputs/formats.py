"""The table formats that astronomers use, each as a function that gives a function for rows.

A new format is a new function below and its entry in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from spectromer_cli.outputs.cells import json_rows, json_value, rows_of

if TYPE_CHECKING:
    import pyarrow
    from astropy.table import Table

Write = Callable[["Table"], None]
Provenance = Mapping[str, str]

_PARQUET_ROWS = 8192  # rows collected into one row group


@contextmanager
def _csv(path: Path, provenance: Provenance) -> Iterator[Write]:
    with path.open("a", encoding="utf-8", newline="") as file:
        yield csv_rows(file, has_header=file.tell() > 0)


def csv_rows(file: TextIO, has_header: bool = False) -> Write:
    """What writes CSV into an open file, after the rows that it may have already."""
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


FORMATS: dict[str, Callable[[Path, Provenance], Any]] = {
    ".csv": _csv,
    ".ecsv": _ecsv,
    ".fits": _fits,
    ".vot": _votable,
    ".parquet": _parquet,
    ".jsonl": _jsonl,
}
