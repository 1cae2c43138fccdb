"""Catalogues as tables: CSV, ECSV, FITS, VOTable and Parquet, known by their content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectromer_cli.errors import ReadError, UsageError

if TYPE_CHECKING:
    from astropy.table import Table


def read_table(path: Path) -> Table:
    """Read a catalogue, in whichever format it is.

    Parameters
    ----------
    path : Path
        CSV, ECSV, FITS, VOTable or Parquet, known by its content.

    Returns
    -------
    astropy Table

    Raises
    ------
    UsageError
        If the file is empty.
    ReadError
        If it cannot be read.
    """
    import gzip
    import warnings

    from astropy.table import Table

    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                head = file.read(512)
        if not head.strip():
            raise UsageError(f"the catalogue {path} is empty", "check that it is the right file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and dates out of standard do no harm here
            if head.startswith(b"PAR1"):
                table = _read_parquet(path)
            else:
                table = Table.read(path, format=_table_format(head, path))
            table.convert_bytestring_to_unicode()
            for name in table.colnames:  # spreadsheets begin a CSV with a byte order mark
                table.rename_column(name, name.lstrip("\ufeff"))
    except UsageError:
        raise
    except Exception as error:  # astropy's readers raise whatever comes up
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReadError(
            f"the catalogue {path} cannot be read: {reason}",
            "catalogues are CSV, ECSV, FITS, VOTable or Parquet tables",
        ) from error
    return table


def _table_format(head: bytes, path: Path) -> str:
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"SIMPLE"):
        return "fits"
    if head.startswith((b"<?xml", b"<VOTABLE")):
        return "votable"
    if head.startswith(b"# %ECSV"):
        return "ascii.ecsv"
    return "ascii.csv" if path.name.lower().endswith((".csv", ".csv.gz")) else "ascii"


def _read_parquet(path: Path) -> Table:
    """Through pyarrow alone: astropy's way needs pandas and loses masked integers."""
    import numpy as np
    import pyarrow
    import pyarrow.parquet
    from astropy.table import MaskedColumn, Table

    arrow = pyarrow.parquet.read_table(path)
    table = Table()
    for name, column in zip(arrow.column_names, arrow.columns, strict=True):
        mask = column.is_null().to_numpy()
        if pyarrow.types.is_integer(column.type):
            column = column.fill_null(0)
        elif pyarrow.types.is_boolean(column.type):
            column = column.fill_null(False)
        values = column.to_numpy()
        if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
            values = np.array(["" if value is None else value for value in values], dtype=str)
        elif pyarrow.types.is_list(column.type) and not mask.any():
            values = np.array(column.to_pylist())
        table[name] = MaskedColumn(values, mask=mask) if mask.any() else values
    return table
