"""Results read back: the rows of a table that `classify` or `redshift` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.outputs.formats import json_rows, plain

if TYPE_CHECKING:
    from astropy.table import Table

# JavaScript's numbers end here; the identifiers of DESI go on.
MAX_SAFE_INTEGER = 2**53 - 1


def read_results(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Read a table of results.

    Parameters
    ----------
    path : Path
        CSV, ECSV, FITS, VOTable, Parquet or JSON Lines.

    Returns
    -------
    rows : list of dict
        As JSON has them: None where there is no value; integers too large for JavaScript and
        identifiers are text.
    provenance : dict of str to str
        How the results were made, where the file says so.

    Raises
    ------
    UsageError
        If there is no column ``file``, or no row.
    ReadError
        If it cannot be read.
    """
    if path.suffix.lower() == ".jsonl":
        rows, meta = _read_jsonl(path), {}
    else:
        table = _read_table(path)
        rows, meta = list(json_rows(plain(table))), dict(table.meta)
    if not rows:
        raise UsageError(f"{path} has no rows", "check that it is the right file")
    if "file" not in rows[0]:
        raise UsageError(
            f"{path} has no column file; its columns are: {', '.join(rows[0])}",
            "give it a table that spectromer redshift or classify wrote",
        )
    beside = path.with_name(f"{path.name}.meta.json")
    if beside.is_file():
        try:
            meta = json.loads(beside.read_text("utf-8"))
        except (OSError, ValueError) as error:
            console.warn(f"{beside} cannot be read and is left out ({error})")
    provenance = {str(key).lower(): value for key, value in meta.items() if isinstance(value, str)}
    return [{name: _safe(name, value) for name, value in row.items()} for row in rows], provenance


def _read_table(path: Path) -> Table:
    from spectromer_cli.spectra.catalogues import read_catalogue

    return read_catalogue(path, None)[1]


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReadError(f"{path} cannot be read: {reason}", "check that it is whole") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ReadError(f"{path} is no table: a line in it is no object", "check the name")
    return rows


def _safe(name: str, value: Any) -> Any:
    if value is not None and name in ("file", "object_id"):
        return str(value)
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        return str(value)
    return value
