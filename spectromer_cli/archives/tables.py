"""Cells of the tables that services answer with, whatever they are called and masked as."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spectromer_cli.errors import NetworkError

if TYPE_CHECKING:
    from astropy.table import Table


def rows_of(table: Table | None) -> list[dict[str, Any]]:
    """The rows as dicts with lower-case names, None where a cell is masked.

    Raises
    ------
    NetworkError
        If it is the first line of a web page, which some parsers take for a table.
    """
    if table is None:
        return []
    names = [name.lower() for name in table.colnames]
    if any(name.startswith(("<", "{")) for name in names):
        raise NetworkError(
            "the service sent a web page instead of a table",
            "try again later; the service may be down for maintenance",
        )
    columns = [table[name].tolist() for name in table.colnames]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def text(row: Mapping[str, Any], *names: str) -> str:
    """The first of the named cells that is there, as text; empty if none is."""
    value = next((row[name] for name in names if row.get(name) is not None), "")
    return value.decode() if isinstance(value, bytes) else str(value).strip()


def number(row: Mapping[str, Any], *names: str) -> float:
    """The first of the named cells that is a number; NaN if none is."""
    for name in names:
        try:
            return float(row[name])
        except (KeyError, TypeError, ValueError):
            continue
    return math.nan


def whole(row: Mapping[str, Any], *names: str) -> int | None:
    """The first of the named cells that is a whole number; None if none is."""
    for name in names:
        try:
            return int(row[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return None
