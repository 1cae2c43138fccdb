"""`fetched.ecsv`: what lies in a folder of fetched spectra, and what is still missing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli.archives.targets import IDS, Match
from spectromer_cli.errors import UsageError
from spectromer_cli.paths import atomic_path, disk_errors, sha256_of

if TYPE_CHECKING:
    from astropy.table import Table

NAME = "fetched.ecsv"
# `file` first: it is what --catalog of the other commands goes by.
COLUMNS: dict[str, type] = {
    "file": str, "target": str, "archive": str, "release": str, "object_id": str,
    "ra": float, "dec": float, "separation": float,
    "survey_class": str, "survey_subclass": str, "survey_z": float, "survey_z_err": float,
    "survey_zwarning": int, "survey_sn": float,
    **dict.fromkeys(IDS, int),
    "size": int, "sha256": str, "time": str, "url": str, "status": str,
}  # fmt: skip
_UNITS = {"ra": "deg", "dec": "deg", "separation": "arcsec", "size": "byte"}

Row = dict[str, Any]


class Fetched:
    """The catalogue of a folder.

    Parameters
    ----------
    folder : Path
        Where the spectra lie; it need not exist yet.

    Raises
    ------
    UsageError
        If there is a catalogue that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.rows: dict[tuple[str, str, str, str], Row] = {}
        if self.path.exists():
            for row in _read(self.path):
                self.rows[_key(row)] = row

    def index(self) -> dict[tuple[str, str, str], Row]:
        """All spectra whose file is here as it came, by `Match.key`; hashes every file."""
        checked: dict[str, bool] = {}
        found = {}
        for row in self.rows.values():
            name = row["file"]
            if name and name not in checked:
                checked[name] = _whole(self.folder, row)
            if name and checked[name]:
                found[row["archive"], row["release"], row["object_id"]] = row
        return found

    def put(self, match: Match, file: str = "", other: Row | None = None) -> Row:
        """Note a match: a new row, or a new state of the row that it has.

        Parameters
        ----------
        match : Match
            The requested target.
        file : str
            The name of a file that has just come.
        other : dict, optional
            The row of the same spectrum, where its file is here already.
        """
        row: Row = {name: _cell(getattr(match, name, None)) for name in COLUMNS}
        row |= {name: match.ids.get(name) for name in IDS}
        if other is not None:
            kept = {k: v for k, v in other.items() if v not in (None, "")}
            row = {name: kept.get(name, row[name]) for name in COLUMNS}
            row |= {"target": match.target, "separation": _cell(match.separation)}
        elif file:
            from datetime import UTC, datetime

            path = self.folder / file
            row |= {
                "file": file,
                "size": path.stat().st_size,
                "sha256": sha256_of(path),
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "status": "ok",
            }
        else:
            row["file"] = ""
        key = _key(row)
        if row["object_id"]:  # something came of what had no match, or had failed, before
            self.rows.pop((row["target"], row["archive"], "", ""), None)
        self.rows[key] = row
        return row

    def save(self) -> None:
        """Write the catalogue, whole or not at all.

        Raises
        ------
        SpectromerError
            If the disk does not take it.
        """
        with disk_errors(self.path), atomic_path(self.path) as temporary:
            table_of(self.rows.values()).write(
                temporary, format="ascii.ecsv", delimiter=",", overwrite=True
            )


def table_of(rows: Iterable[Row]) -> Table:
    """A table of rows; integers that are unknown are masked, texts empty, numbers NaN."""
    from astropy.table import MaskedColumn, Table

    rows = list(rows)
    table = Table()
    for name, kind in COLUMNS.items():
        cells = [row[name] for row in rows]
        if kind is int:
            numbers = [0 if cell is None else int(cell) for cell in cells]
            mask = [cell is None for cell in cells]
            table[name] = MaskedColumn(numbers, mask=mask, dtype="int64")
        elif kind is float:
            table[name] = [math.nan if cell is None else float(cell) for cell in cells]
        else:
            table[name] = [str(cell or "") for cell in cells] or MaskedColumn([], dtype="U1")
        table[name].unit = _UNITS.get(name)
    return table


def _key(row: Row) -> tuple[str, str, str, str]:
    release = row["release"] if row["object_id"] else ""
    return row["target"], row["archive"], release, row["object_id"]


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _whole(folder: Path, row: Row) -> bool:
    path = folder / row["file"]
    try:
        same_size = bool(row["file"]) and path.stat().st_size == row["size"]
        return same_size and sha256_of(path) == row["sha256"]
    except OSError:
        return False


def _read(path: Path) -> list[Row]:
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
        columns = [table[name].tolist() for name in COLUMNS]
    except Exception as error:  # astropy's reader raises whatever comes up
        raise UsageError(
            f"{path} is not a catalogue written by fetch ({' '.join(str(error).split())[:100]})",
            "choose another -o, or move it away: existing files are then verified again",
        ) from error
    rows = [dict(zip(COLUMNS, cells, strict=True)) for cells in zip(*columns, strict=True)]
    for row in rows:
        for name, kind in COLUMNS.items():
            if kind is str:
                row[name] = str(row[name] or "")
    return rows
