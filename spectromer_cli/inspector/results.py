"""What a page is made from: the rows of a table, their spectra, and their importance."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.inspector.packing import pack_importance
from spectromer_cli.model.taxonomy import CLASSES
from spectromer_cli.outputs.formats import as_text, json_rows, json_value, plain
from spectromer_cli.outputs.naming import output_stem
from spectromer_cli.spectra import catalogues, positions
from spectromer_cli.spectra.loading import Inputs, own_row
from spectromer_cli.spectra.readers import ReadOptions, open_spectra
from spectromer_cli.spectra.sources import Target

if TYPE_CHECKING:
    from astropy.table import Table

Row = dict[str, Any]
Position = tuple[float, float]

# JavaScript's numbers end here; the identifiers of DESI go on.
MAX_SAFE_INTEGER = 2**53 - 1
# Columns that the page knows, and what catalogues call them, in lower case.
COLUMNS = {
    "file": ("file",),
    "row": ("row",),
    "object_id": ("object_id",),
    **catalogues.LABEL_COLUMNS,
    "z_err": ("z_err", "zerr", "survey_z_err"),
    "zwarn": ("zwarn", "zwarning", "survey_zwarning"),
}
# The page calculates with these.
NUMBERS = re.compile(r"z|z_err|z_prob|zwarn|class_prob|sn_median|z_alt\d+(_prob)?")


@dataclass(frozen=True)
class Found:
    """The rows of a table, and where their spectra are.

    Parameters
    ----------
    rows : list of dict
        As JSON has them: None where there is no value; integers too large for JavaScript and
        identifiers are text. Columns that the page knows have the page's names.
    targets : list of Target
        The spectrum of each row.
    positions : list of (float, float) or None
        Right ascension and declination of each row [deg, ICRS], where the table has them.
    provenance : dict of str to str
        How the results were made, where the file says so.
    """

    rows: list[Row]
    targets: list[Target]
    positions: list[Position | None]
    provenance: dict[str, str]


def read_rows(inputs: Inputs, is_catalogue: bool) -> Found:
    """Read a table of results, or a catalogue, and find its spectra.

    Parameters
    ----------
    inputs : Inputs
        The table is its `catalog`: CSV, ECSV, FITS, VOTable, Parquet or JSON Lines.
    is_catalogue : bool
        The class and the redshift stand in it under any of their usual names. Beside results
        such columns are not the model's.

    Returns
    -------
    Found
        A row that names a file of many spectra, but none of them, becomes one row for each.

    Raises
    ------
    UsageError
        If the table names no spectra, or has no row.
    ReadError
        If it cannot be read.
    """
    path = inputs.catalog
    assert path is not None
    if path.suffix.lower() == ".jsonl":
        rows, table = _read_jsonl(path)
    else:
        table = catalogues.read_table(path)
        rows = list(json_rows(plain(table)))
    targets = catalogues.find_targets(table, path, inputs.spectra_dir)
    own = {name.lower(): name for name in reversed(rows[0])}
    names: dict[str, str] = {}
    for known, usual in COLUMNS.items():
        here = [own[name] for name in (usual if is_catalogue else usual[:1]) if name in own]
        names |= {known: here[0]} if here else {}
    found = Found([], [], [], _provenance(path, table))
    for row, target, position in zip(rows, targets, _positions(table), strict=True):
        shown = _page_row(row, names, target)
        for its_row, its_target in _one_spectrum_each(shown, target, inputs.options):
            found.rows.append(its_row)
            found.targets.append(its_target)
            found.positions.append(position)
    return found


def _positions(table: Table) -> list[Position | None]:
    try:
        places = positions.in_degrees(table)
    except UsageError as error:
        console.warn(f"no links by position for these rows: {error}")
        places = None
    if places is None:
        return [None] * len(table)
    return [position_of(ra, dec) for ra, dec in zip(places.ra, places.dec, strict=True)]


def position_of(ra: object, dec: object) -> Position | None:
    """A position in degrees; None if it is none, or 0, 0, which stands for an unknown one."""
    right, declination = positions.degrees([ra, dec]).tolist()
    if not (math.isfinite(right) and abs(declination) <= 90.0) or right == declination == 0.0:
        return None
    return round(right % 360.0, 7), round(declination, 7)


def _page_row(row: Row, names: dict[str, str], target: Target) -> Row:
    """A row with the columns that the page knows in front."""
    known = {name: row.get(own) for name, own in names.items()}
    known["file"] = known.get("file") or as_text(target.path)
    known["row"] = target.row
    if str(known.get("class")).strip().upper() in CLASSES:
        known["class"] = str(known["class"]).strip().upper()
    others = {name: value for name, value in row.items() if name not in known}
    return {name: _safe(name, value) for name, value in (known | others).items()}


def _safe(name: str, value: Any) -> Any:
    if NUMBERS.fullmatch(name) and not isinstance(value, int | float):
        return None
    if name == "z" and value <= -1.0:  # −9999 and its like say that nobody knows
        return None
    if value is not None and name in ("file", "object_id", "class"):
        return str(value)
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        return str(value)
    return value


def _one_spectrum_each(
    row: Row, target: Target, options: ReadOptions
) -> Iterator[tuple[Row, Target]]:
    count = 1
    if target.row is None and not target.problem:
        try:
            with open_spectra(target.path, options) as spectra:
                count = len(spectra)
            target = replace(target, row=own_row(target, count, options))
        except ReadError:
            count = 1  # it is told where its spectrum would stand
    if target.row is not None or count < 2:
        yield row | {"row": target.row or 0}, target
        return
    for number in range(count):
        yield row | {"row": number}, replace(target, row=number)


def _provenance(path: Path, table: Table) -> dict[str, str]:
    meta = dict(table.meta)
    beside = path.with_name(f"{path.name}.meta.json")
    if beside.is_file():
        try:
            meta = json.loads(beside.read_text("utf-8"))
        except (OSError, ValueError) as error:
            console.warn(f"{beside} cannot be read and is ignored ({error})")
    return {str(key).lower(): value for key, value in meta.items() if isinstance(value, str)}


def _read_jsonl(path: Path) -> tuple[list[Row], Table]:
    """The rows, and a table of the columns that name their spectra."""
    import numpy as np
    from astropy.table import Table

    try:
        lines = path.read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReadError(f"{path} cannot be read: {reason}", "check that it is complete") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ReadError(f"{path} is not a table: a line in it is not an object", "check the name")
    if not rows:
        raise UsageError(f"{path} has no rows", "check that it is the right file")
    table = Table()
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        if all(value is None or isinstance(value, str | int | float) for value in values):
            table[name] = np.array(values, dtype=object)
    return [{name: json_value(value) for name, value in row.items()} for row in rows], table


# --- importance -----------------------------------------------------------------------------


def read_importance(place: Path, targets: Sequence[Target]) -> list[dict[str, Any] | None]:
    """Read what `spectromer explain` wrote about spectra, packed for the page.

    Parameters
    ----------
    place : Path
        A folder of ECSV tables, ``NAME.ecsv`` or ``NAME.12.ecsv`` for number 12 of a file of
        many, with columns wavelength and importance; or one such table.
    targets : sequence of Target

    Returns
    -------
    list of dict or None
        As `packing.pack_importance` gives it, one per target; None where there is none.

    Raises
    ------
    UsageError
        If there is none at all; or if `place` is one table, but there are several targets.
    """
    if not place.exists():
        raise UsageError(f"--importance {place} does not exist", "check the name")
    if not place.is_dir() and len(targets) > 1:
        raise UsageError(
            f"--importance {place} is a single file, but there are {len(targets)} rows",
            "give a folder with one file per spectrum",
        )
    bands: list[dict[str, Any] | None] = []
    with console.progress("importance", len(targets)) as advance:
        for target in targets:
            files = _files_of(target, place) if place.is_dir() else [place]
            bands.append(_band(files, target) if not target.problem else None)
            advance(1)
    count = sum(band is not None for band in bands)
    if not count:
        raise UsageError(
            f"--importance {place} has no importance map for any of the {len(targets)} rows",
            "write them with spectromer explain FILES -o DIR: NAME.ecsv, or NAME.12.ecsv",
        )
    console.info(f"{count} of {len(targets)} rows have an importance map")
    return bands


def _files_of(target: Target, folder: Path) -> Iterator[Path]:
    """The tables whose names fit a spectrum."""
    row = target.row or 0
    stems = [output_stem(target.path, row, of_many=True)]
    if row == 0:
        stems.append(output_stem(target.path))
    for stem in stems:
        path, number = folder / f"{stem}.ecsv", 1
        while path.is_file():
            yield path
            number += 1
            path = folder / f"{stem}-{number}.ecsv"  # see `outputs.naming.unique`


def _band(files: Iterable[Path], target: Target) -> dict[str, Any] | None:
    """The importance of a spectrum, from the table that is most surely about it."""
    read = (_read_importance(path, target) for path in files)
    best = max(filter(None, read), key=itemgetter(0), default=(0.0, None))
    return best[1] if best[0] > 0.0 else None


def _read_importance(path: Path, target: Target) -> tuple[float, dict[str, Any]] | None:
    """How surely a table is about a spectrum, and its importance; None if it is broken."""
    import numpy as np
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
        name = next(name for name in table.colnames if name.startswith("importance"))
        wavelength = np.asarray(table["wavelength"], dtype=float)
        values = np.nan_to_num(np.asarray(table[name], dtype=float))
        if wavelength.size < 2 or not (wavelength[0] > 0 and np.all(np.diff(wavelength) > 0)):
            raise ValueError("its wavelengths do not increase")
    except StopIteration:
        console.warn(f"{path} is skipped: it has no column importance")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        console.warn(f"{path} is skipped: {reason}")
    else:
        return _closeness(table.meta, target), pack_importance(wavelength, values)
    return None


def _closeness(meta: dict[str, Any], target: Target) -> float:
    """How surely a table is about a spectrum, by what it says of itself; 0 if about another."""
    row = target.row or 0
    if meta.get("row", row) != row:
        return 0.0
    if "file" not in meta:
        return 0.5
    file = Path(str(meta["file"]))
    try:
        return math.inf if file.samefile(target.path) else 0.0
    except (OSError, ValueError):  # the file was moved: how much of the path is the same
        parts = zip(reversed(file.parts), reversed(target.path.parts), strict=False)
        return float(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], parts)))
