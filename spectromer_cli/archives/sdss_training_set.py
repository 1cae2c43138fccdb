"""A labelled set for training: SDSS spectra of safe redshift, as many of each class.

The "small" set of the paper (arXiv:2506.00294). It comes in shards, folders of a thousand spectra
with a catalogue each, so that it can be interrupted and resumed at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spectromer_cli import console
from spectromer_cli.archives import sdss
from spectromer_cli.archives.catalogue import NAME, Row
from spectromer_cli.archives.download import CONNECTIONS
from spectromer_cli.archives.fetch import Outcome, fetch_matches
from spectromer_cli.archives.targets import Match
from spectromer_cli.errors import UsageError
from spectromer_cli.paths import atomic_path, make_folder

CLASSES = ("STAR", "GALAXY", "QSO")
SHARD = 1000  # spectra
SELECTION, LABELS = "selection.ecsv", "labels.ecsv"
_COLUMNS = ("plate", "mjd", "fiberid", "run2d", "ra", "dec", "class", "subclass", "z", "zerr",
            "zwarning", "snmedian")  # fmt: skip
# Column of `labels.ecsv`, and where a row of the catalogues has it.
_LABELS = {
    "file": "file", "class": "survey_class", "subclass": "survey_subclass", "z": "survey_z",
    "z_err": "survey_z_err", "sn": "survey_sn", "ra": "ra", "dec": "dec",
    "plate": "plate", "mjd": "mjd", "fiberid": "fiberid",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which spectra make the set.

    Parameters
    ----------
    release : str
        Of SDSS.
    per_class : int
        How many of each class, where there are so many.
    min_sn : float
        Least median S/N per pixel.
    """

    release: str
    per_class: int
    min_sn: float


def assemble(
    choice: Choice,
    folder: Path,
    *,
    dry_run: bool = False,
    force: bool = False,
    max_connections: int = CONNECTIONS,
) -> Outcome:
    """Fetch what is missing of the set, shard by shard, and write its labels.

    Parameters
    ----------
    choice : Choice
        If the folder holds the beginning of a set, it must be of the same choice.
    folder : Path
        Made if missing.
    dry_run, force, max_connections
        As for `fetch.fetch`.

    Returns
    -------
    Outcome
        Its rows are those of all shards, with ``file`` relative to `folder`.

    Raises
    ------
    NetworkError
        If SkyServer does not answer.
    UsageError
        If the folder holds a set of another choice.
    SpectromerError
        If the disk is full.
    """
    matches = select(choice, folder, keep=not dry_run)
    whole = Outcome()
    starts = range(0, len(matches), SHARD)
    for number, start in enumerate(starts):
        shard = folder / f"shard-{number:04d}"
        if not dry_run:
            console.info(f"shard {number + 1} of {len(starts)}")
        part = fetch_matches(
            matches[start : start + SHARD],
            shard,
            dry_run=dry_run,
            force=force,
            max_connections=max_connections,
        )
        for row in part.rows:
            row["file"] = row["file"] and f"{shard.name}/{row['file']}"
        whole.add(part)
        if not dry_run:
            _write(folder / LABELS, _labels(whole.rows), choice)
    return whole


def select(choice: Choice, folder: Path, keep: bool) -> list[Match]:
    """Choose the spectra: classes in turn, so that each shard is balanced.

    Parameters
    ----------
    choice : Choice
    folder : Path
        Where the selection is kept, so that a run that goes on has the same.
    keep : bool
        Whether to keep it.

    Returns
    -------
    list of Match
    """
    dr = sdss.release_number(choice.release)
    rows = _kept(folder / SELECTION, choice)
    if rows is None:
        rows = list(_in_turn([_class_rows(name, choice, dr) for name in CLASSES]))
        if keep:
            make_folder(folder)
            _write(folder / SELECTION, {c: [row.get(c) for row in rows] for c in _COLUMNS}, choice)
    return [sdss.match_of(row, sdss.match_of(row, "", dr).object_id, dr) for row in rows]


def _class_rows(name: str, choice: Choice, dr: int) -> list[dict[str, Any]]:
    """The spectra of a class, from all over the survey and the same ones every time.

    `SpecObj` has the best spectrum of each object only, so no object comes twice. The order by
    a remainder scatters the plates; the ids behind it decide between equal remainders.
    """
    fields = ", ".join(f"s.{field}" for field in sdss.FIELDS)
    shuffled = (
        "(CAST(s.plate AS bigint) * 7919 + CAST(s.mjd AS bigint) * 104729"
        " + CAST(s.fiberID AS bigint) * 1299709) % 1000003"
    )
    rows = sdss.query(
        f"SELECT TOP {choice.per_class} {fields} FROM SpecObj AS s "
        f"WHERE s.class = '{name}' AND s.zWarning = 0 AND s.snMedian >= {choice.min_sn:g} "
        f"ORDER BY {shuffled}, s.plate, s.mjd, s.fiberID",
        dr,
    )
    if len(rows) < choice.per_class:
        console.warn(f"only {len(rows)} spectra of class {name} match, fewer than requested")
    return rows


def _in_turn(classes: list[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for place in range(max(map(len, classes))):
        yield from (rows[place] for rows in classes if place < len(rows))


def _kept(path: Path, choice: Choice) -> list[dict[str, Any]] | None:
    from astropy.table import Table

    if not path.exists():
        return None
    table = Table.read(path, format="ascii.ecsv")
    if dict(table.meta.get("choice", {})) != asdict(choice):
        raise UsageError(
            f"{path} belongs to another selection: {table.meta.get('choice')}",
            "repeat that selection to resume it, or choose another -o",
        )
    cells = zip(*(table[name].tolist() for name in table.colnames), strict=True)
    return [dict(zip(table.colnames, row, strict=True)) for row in cells]


def _labels(rows: list[Row]) -> dict[str, list[Any]]:
    here = [row for row in rows if row["file"]]
    return {name: [row[source] for row in here] for name, source in _LABELS.items()}


def _write(path: Path, columns: dict[str, list[Any]], choice: Choice) -> None:
    from astropy.table import Table

    cells = {
        name: ["" if cell is None else cell for cell in column]
        if name in ("subclass", "class", "run2d", "file")
        else column
        for name, column in columns.items()
    }
    table = Table(cells, meta={"choice": asdict(choice), "catalogues": f"shard-*/{NAME}"})
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", delimiter=",", overwrite=True)
