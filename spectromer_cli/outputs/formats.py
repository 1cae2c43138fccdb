"""The table formats that astronomers use, and the cells of a table as plain values for them all.

Each format is a function that gives a function for rows; a new one is a new function below and
its entry in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

if TYPE_CHECKING:
    import pyarrow
    from astropy.table import Column, Table

Write = Callable[["Table"], None]
Provenance = Mapping[str, str]

_PARQUET_ROWS = 8192  # rows collected into one row group


def plain(table: Table) -> Table:
    """The same table in columns that every format can hold.

    Coordinates and times become columns of numbers, bytes and objects text, masked where there
    was nothing; display formats, which would round, and the table's own meta are dropped.

    Parameters
    ----------
    table : astropy Table

    Returns
    -------
    astropy Table
        Shares the numbers with `table`.
    """
    from astropy.table import Table
    from astropy.table.serialize import represent_mixins_as_columns

    if table.has_mixin_columns:
        table = represent_mixins_as_columns(table)
    return Table([_plain_column(column) for column in table.itercols()], copy=False)


def _plain_column(column: Column) -> Column:
    from astropy.table import MaskedColumn

    if column.ndim > 1 or column.dtype.kind not in "OSU":
        copy = column.copy(copy_data=False)
        copy.info.format = None
        return copy
    values = column.tolist()
    return MaskedColumn(
        np.array(["" if value is None else as_text(value) for value in values], dtype=str),
        mask=[value is None for value in values],
        name=column.name,
        unit=column.unit,
        description=column.description,
    )


def as_text(value: Any) -> str:
    """Valid Unicode: a file name's stray bytes become visible escapes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "tolist"):
        value = value.tolist()
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def cells_of(column: Column) -> list[Any]:
    """Python values, None where masked; single precision keeps its own short decimals."""
    from astropy.table import MaskedColumn

    if column.dtype.kind == "f" and column.dtype.itemsize < 8:
        # 0.1 in float32 is 0.10000000149 in float64: noise that nobody measured.
        short = np.asarray(column).astype(str).astype(np.float64)
        return MaskedColumn(short, mask=getattr(column, "mask", False)).tolist()
    return column.tolist()


def rows_of(table: Table) -> Iterator[tuple[Any, ...]]:
    """The rows, each as `cells_of` gives its cells."""
    return zip(*(cells_of(column) for column in table.itercols()), strict=True)


def json_value(value: Any) -> Any:
    """As JSON has it: null for whatever is masked or not finite."""
    if isinstance(value, dict):
        return {name: json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def json_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows as JSON objects."""
    for row in rows_of(table):
        yield dict(zip(table.colnames, map(json_value, row), strict=True))


def stacked(chunks: Sequence[Table]) -> Table:
    """One table of chunks with the same columns; without chunks, one without columns."""
    from astropy.table import Table, vstack

    return vstack(list(chunks), metadata_conflicts="silent") if chunks else Table()


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
    hdu = fits.table_to_hdu(_for_fits(_in_common_types(stacked(chunks))))
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
    document = votable.from_table(_in_common_types(stacked(chunks)))
    for key, value in provenance.items():
        document.resources[0].infos.append(votable.tree.Info(name=key, value=value))
    document.to_xml(str(path))


def _in_common_types(table: Table) -> Table:
    """The table in types that FITS and VOTable both know."""
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
