"""Verdicts of several inspectors, in a file of SQLite beside the results.

Nothing is ever changed or removed in it: a verdict that is changed or withdrawn is one more
row, and the latest one of each inspector counts, so that every verdict can be traced.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spectromer_cli.errors import ReadError, SpectromerError
from spectromer_cli.inspector.build import spectrum_name

SUFFIX = ".verdicts.sqlite"
# "SPvi": what PRAGMA application_id says of such a file.
APPLICATION = 0x53507669
PATIENCE = 20.0  # s to wait for another program that writes
WORST, BEST = 0, 4  # qualities
LONGEST_NAME, LONGEST_CLASS, LONGEST_COMMENT = 80, 80, 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file TEXT NOT NULL,        -- as the results name it
    row INTEGER NOT NULL,      -- number of the spectrum in it
    object_id TEXT,
    inspector TEXT NOT NULL,
    date TEXT NOT NULL,        -- UTC, when the server took it
    class TEXT,
    z REAL,
    quality INTEGER,           -- 0 to 4
    comment TEXT NOT NULL,
    withdrawn INTEGER NOT NULL, -- 1: the inspector takes the verdict before it back
    found_class TEXT,          -- what the results said then
    found_z REAL
);
CREATE INDEX IF NOT EXISTS one ON verdicts (file, row, inspector, id);
"""
_LATEST = """
SELECT * FROM verdicts WHERE id > ? AND id IN
    (SELECT max(id) FROM verdicts GROUP BY file, row, inspector)
ORDER BY id
"""


class Refused(Exception):
    """What was sent is no verdict; the reason is the message."""


def verdicts_beside(results: Path) -> Path:
    """The file of the verdicts on some results."""
    return results.with_name(results.name + SUFFIX)


def is_verdicts(path: Path) -> bool:
    """Whether a file is one of SQLite."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


class Verdicts:
    """A verdicts file, created if there is none.

    Several threads and several programs may use it at once.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ReadError
        If it is not a file of verdicts.
    SpectromerError
        If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            (application,) = file.execute("PRAGMA application_id").fetchone()
            if application not in (0, APPLICATION) or (application == 0 and _tables(file)):
                raise ReadError(f"{path} is not a verdicts file", "move it away")
            # Readers do not wait for writers; a disk that cannot do it keeps its own mode.
            file.execute("PRAGMA journal_mode = WAL")
            file.execute(f"PRAGMA application_id = {APPLICATION}")
            file.executescript(_SCHEMA)

    def record(self, row: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a verdict.

        Parameters
        ----------
        row : mapping
            The row of the results.
        said : mapping
            ``inspector``, ``class``, ``z``, ``quality``, ``comment``; or ``withdrawn``.

        Returns
        -------
        dict
            The verdict as it is kept. One that says the same as the one before it is not kept
            again: its sender did not hear that it had arrived.

        Raises
        ------
        Refused
            If it is none.
        SpectromerError
            If the disk does not take it.
        """
        found = {name: row.get(name) for name in ("file", "row", "object_id")}
        verdict = _checked(said)
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            before = file.execute(
                "SELECT * FROM verdicts WHERE file = ? AND row = ? AND inspector = ? "
                "ORDER BY id DESC LIMIT 1",
                (found["file"], found["row"], verdict["inspector"]),
            ).fetchone()
            if before is not None and all(before[name] == verdict[name] for name in verdict):
                file.execute("ROLLBACK")
                return _sent(before)
            date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            values = found | verdict | {
                "date": date, "found_class": row.get("class"), "found_z": row.get("z"),
            }  # fmt: skip
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            number = file.execute(f"INSERT INTO verdicts ({names}) VALUES ({marks})", values)
            kept = file.execute("SELECT * FROM verdicts WHERE id = ?", (number.lastrowid,))
            sent = _sent(kept.fetchone())
            file.execute("COMMIT")
            return sent

    def latest(self, since: int = 0) -> list[dict[str, Any]]:
        """The latest verdict of each inspector on each spectrum, those that were withdrawn too.

        Parameters
        ----------
        since : int
            Only what came after the one of this id.
        """
        with self._open() as file:
            return [_sent(row) for row in file.execute(_LATEST, (since,))]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            file = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
            try:
                file.row_factory = sqlite3.Row
                file.execute("PRAGMA synchronous = FULL")  # a verdict that was taken stays
                yield file
            finally:
                file.close()
        except sqlite3.OperationalError as error:
            raise SpectromerError(
                f"the verdicts file {self._path} cannot be used: {error}",
                "check the permissions and the free space of its folder",
            ) from error
        except sqlite3.DatabaseError as error:
            raise ReadError(f"{self._path} is not a verdicts file: {error}", "move it away") from (
                error
            )


def _tables(file: sqlite3.Connection) -> int:
    (number,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(number)


def _sent(row: sqlite3.Row) -> dict[str, Any]:
    verdict = dict(row)
    return {"spectrum": spectrum_name(verdict), **verdict, "withdrawn": bool(verdict["withdrawn"])}


# --- what may be kept -----------------------------------------------------------------------


def _checked(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a verdict.

    Raises
    ------
    Refused
    """
    inspector = _text(said, "inspector", LONGEST_NAME).strip()
    if not inspector or not inspector.isprintable():
        raise Refused("the name of the inspector is missing or not printable")
    if said.get("withdrawn"):
        return {"inspector": inspector, "class": None, "z": None, "quality": None, "comment": "",
                "withdrawn": 1}  # fmt: skip
    quality = said.get("quality")
    if quality is not None and (type(quality) is not int or not WORST <= quality <= BEST):
        raise Refused(f"the quality must be a whole number from {WORST} to {BEST}")
    return {
        "inspector": inspector,
        "class": _text(said, "class", LONGEST_CLASS),
        "z": _redshift(said.get("z")),
        "quality": quality,
        "comment": _text(said, "comment", LONGEST_COMMENT),
        "withdrawn": 0,
    }


def _redshift(z: Any) -> float | None:
    if z is None:
        return None
    try:
        number = float(z) if type(z) in (int, float) else math.nan
    except OverflowError:
        number = math.nan
    if not -1.0 < number < 1000.0:
        raise Refused("z is not a redshift")
    return number


def _text(said: Mapping[str, Any], name: str, longest: int) -> str:
    text = said.get(name) or ""
    if not isinstance(text, str) or len(text) > longest or "\0" in text:
        raise Refused(f"{name} must be a text of up to {longest} characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{name} contains an incomplete character") from error
    return text
