"""Verdicts of several inspectors as one list, with where they agree and where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.inspector.verdicts import BEST, WORST, Verdicts, is_verdicts
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.outputs.formats import cells_of, plain
from spectromer_cli.spectra import catalogues

if TYPE_CHECKING:
    from astropy.table import Table

# What the inspections of DESI take for a conflict (Lan et al. 2023, ApJ 943, 68; Alexander et al.
# 2023, AJ 165, 124): another class, redshifts that differ by 1000 km/s, qualities by two.
MAX_VELOCITY = 1000.0  # km/s
MAX_QUALITY_STEP = 1
# Below this quality nobody says that the class and the redshift are right.
LEAST_QUALITY = 2


@dataclass(frozen=True)
class Verdict:
    """What one inspector says of one spectrum.

    Parameters
    ----------
    file : str
    row : int
    object_id : str
    found_class : str
    found_z : float or None
        What the results say.
    inspector : str
    class_name : str
    z : float or None
    quality : int or None
    comment : str
    date : str
        UTC, in the order of ISO 8601.
    """

    file: str
    row: int
    object_id: str
    found_class: str
    found_z: float | None
    inspector: str
    class_name: str
    z: float | None
    quality: int | None
    comment: str
    date: str


@dataclass(frozen=True)
class Merged:
    """What several inspectors say together.

    Parameters
    ----------
    table : astropy Table
        One row per spectrum; see `merge`.
    inspectors : dict of str to int
        How many spectra each has judged.
    agreement : list of dict
        For every two inspectors: ``inspectors``, ``spectra`` that both judged, and the shares of
        these with the same ``class``, ``z`` and ``quality``, and with no conflict at all (``all``);
        None where they have none in common.
    conflicts : list of str
        One line for every spectrum with a conflict.
    """

    table: Table
    inspectors: dict[str, int]
    agreement: list[dict[str, Any]]
    conflicts: list[str]


def merge(paths: Sequence[Path]) -> Merged:
    """Bring the verdicts of several inspectors together.

    Parameters
    ----------
    paths : sequence of Path
        Exported verdicts (CSV, or the same columns in any other format), or the files that
        `spectromer inspect` keeps them in.

    Returns
    -------
    Merged
        Its table has ``file``, ``row``, ``object_id``, ``class``, ``z`` as the results have them;
        ``vi_class``, ``vi_z`` (of the verdict of the highest quality, the latest of these) and
        ``vi_quality`` (the mean), each empty where inspectors contradict each other;
        ``vi_conflict``: ``class``, ``z`` and ``quality``, those that are in conflict;
        ``vi_inspectors``, ``vi_count``, ``vi_comment`` of all, and ``vi_date``, the latest.

    Raises
    ------
    ReadError
        If a file cannot be read or holds something that is no verdict.
    UsageError
        If none of them has a verdict.

    Notes
    -----
    Of an inspector who judged a spectrum twice the later verdict counts. Verdicts without quality
    hand on their comment only. Class and redshift are compared among qualities from 2 on.
    """
    latest: dict[tuple[str, int, str], Verdict] = {}
    for path in paths:
        for verdict in read_verdicts(path):
            place = (verdict.file, verdict.row, verdict.inspector)
            if place not in latest or latest[place].date <= verdict.date:
                latest[place] = verdict
    if not latest:
        raise UsageError(f"{', '.join(map(str, paths))} contains no verdicts", "check the names")
    spectra: dict[tuple[str, int], list[Verdict]] = {}
    for (file, row, _), verdict in latest.items():
        spectra.setdefault((file, row), []).append(verdict)
    for verdicts in spectra.values():
        verdicts.sort(key=lambda verdict: verdict.inspector)
    judged = [_judged(verdicts) for verdicts in spectra.values()]
    names = sorted({verdict.inspector for verdict in latest.values()})
    counts = Counter(verdict.inspector for some in judged for verdict in some)
    rows = [_row(verdicts) for verdicts in spectra.values()]
    return Merged(
        _table(rows),
        {name: counts[name] for name in names},
        [_agreement(one, other, judged) for one, other in combinations(names, 2)],
        [_line(row, some) for row, some in zip(rows, judged, strict=True) if row["vi_conflict"]],
    )


def _judged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.quality is not None]


def conflicts_of(verdicts: Sequence[Verdict]) -> list[str]:
    """Of ``class``, ``z`` and ``quality`` those that verdicts on one spectrum contradict in."""
    found = []
    sure = [one for one in verdicts if one.quality is not None and one.quality >= LEAST_QUALITY]
    if len({verdict.class_name for verdict in sure}) > 1:
        found.append("class")
    redshifts = [verdict.z for verdict in sure if verdict.z is not None]
    if redshifts:
        velocity = LIGHT_SPEED * (max(redshifts) - min(redshifts)) / (1.0 + min(redshifts))
        if velocity > MAX_VELOCITY:
            found.append("z")
    qualities = [verdict.quality for verdict in verdicts if verdict.quality is not None]
    if qualities and max(qualities) - min(qualities) > MAX_QUALITY_STEP:
        found.append("quality")
    return found


def _agreement(one: str, other: str, spectra: Sequence[Sequence[Verdict]]) -> dict[str, Any]:
    both = []
    for verdicts in spectra:
        pair = [verdict for verdict in verdicts if verdict.inspector in (one, other)]
        if len(pair) == 2:
            both.append(conflicts_of(pair))
    shares = {
        name: fmean(name not in found for found in both) if both else None
        for name in ("class", "z", "quality")
    }
    whole = fmean(not found for found in both) if both else None
    return {"inspectors": [one, other], "spectra": len(both), **shares, "all": whole}


def _row(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    first, judged = verdicts[0], _judged(verdicts)
    conflicts = conflicts_of(judged)
    best = max(judged, key=lambda verdict: (verdict.quality, verdict.date), default=None)
    return {
        "file": first.file,
        "row": first.row,
        "object_id": first.object_id,
        "class": first.found_class,
        "z": first.found_z,
        "vi_class": "" if best is None or "class" in conflicts else best.class_name,
        "vi_z": None if best is None or {"class", "z"} & set(conflicts) else best.z,
        "vi_quality": None if best is None or "quality" in conflicts
        else fmean(verdict.quality or 0 for verdict in judged),
        "vi_conflict": " ".join(conflicts),
        "vi_count": len(judged),
        "vi_inspectors": "; ".join(verdict.inspector for verdict in judged),
        "vi_comment": "; ".join(
            f"{verdict.inspector}: {verdict.comment}" for verdict in verdicts if verdict.comment
        ),
        "vi_date": max(verdict.date for verdict in verdicts),
    }  # fmt: skip


def _line(row: dict[str, Any], verdicts: Sequence[Verdict]) -> str:
    said = ", ".join(
        f"{one.inspector} {one.class_name or 'no class'}"
        f"{'' if one.z is None else f' {one.z:.5f}'} quality {one.quality}"
        for one in verdicts
    )
    return f"{row['file']}[{row['row']}]: {row['vi_conflict'].replace(' ', ', ')}: {said}"


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from astropy.table import MaskedColumn, Table

    table = Table()
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in ("z", "vi_z", "vi_quality"):
            missing = [value is None for value in values]
            numbers = [0.0 if value is None else value for value in values]
            table[name] = MaskedColumn(numbers, mask=missing, dtype=float)
        else:
            table[name] = values
    return table


# --- reading --------------------------------------------------------------------------------


def read_verdicts(path: Path) -> list[Verdict]:
    """The latest verdicts that a file holds.

    Parameters
    ----------
    path : Path
        As `merge` takes it. A file that does not say whose verdicts they are is of the inspector
        that it is named after.

    Raises
    ------
    ReadError
    """
    if is_verdicts(path):
        return [
            Verdict(
                file=one["file"], row=one["row"], object_id=one["object_id"] or "",
                found_class=one["found_class"] or "", found_z=one["found_z"],
                inspector=one["inspector"], class_name=one["class"] or "", z=one["z"],
                quality=one["quality"], comment=one["comment"], date=one["date"],
            )
            for one in Verdicts(path).latest() if not one["withdrawn"]
        ]  # fmt: skip
    table = plain(catalogues.read_table(path))
    needed = ("file", "vi_class", "vi_z", "vi_quality")
    missing = [name for name in needed if name not in table.colnames]
    if missing:
        raise ReadError(
            f"{path} contains no verdicts: it has no column {', '.join(missing)}",
            "give a file exported from the page",
        )
    columns = {name: cells_of(table[name]) for name in table.colnames}
    return [
        _of_row({name: cells[number] for name, cells in columns.items()}, path, number)
        for number in range(len(table))
    ]


def _of_row(cells: dict[str, Any], path: Path, number: int) -> Verdict:
    def text(name: str) -> str:
        value = cells.get(name)
        return "" if value is None else str(value).strip()

    def real(name: str) -> float | None:
        value = text(name)
        try:
            found = float(value) if value else None
        except ValueError as error:
            raise ReadError(
                f"{path}, row {number}: {name} {value!r} is not a number", "correct the file"
            ) from error
        return found if found is None or found == found else None

    def whole(name: str, least: int, most: int | None) -> int | None:
        value = real(name)
        if value is None:
            return None
        if not value.is_integer() or value < least or (most is not None and value > most):
            upper = "on" if most is None else f"to {most}"
            raise ReadError(
                f"{path}, row {number}: {name} {value:g} is not a whole number from {least} "
                f"{upper}",
                "correct the file",
            )
        return int(value)

    return Verdict(
        file=text("file"), row=whole("row", 0, None) or 0, object_id=text("object_id"),
        found_class=text("class"), found_z=real("z"),
        inspector=text("vi_inspector") or path.stem, class_name=text("vi_class"),
        z=real("vi_z"), quality=whole("vi_quality", WORST, BEST), comment=text("vi_comment"),
        date=text("vi_date"),
    )  # fmt: skip
