"""Cells of a table as plain Python values, the same for every format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Column, Table


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
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def json_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows as JSON objects."""
    for row in rows_of(table):
        yield dict(zip(table.colnames, map(json_value, row), strict=True))
