"""Catalogues: tables that name the spectra wanted, and where those lie on disk.

CSV, ECSV, FITS, VOTable and Parquet, known by their content.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra.readers.base import opened
from spectromer_cli.spectra.readers.votable import tables_of
from spectromer_cli.spectra.sources import Target, home_expanded, walk

if TYPE_CHECKING:
    from astropy.table import Table

# Names under which catalogues state class and redshift, in lower case.
LABEL_COLUMNS = {
    "class": ("class", "spectype", "true_class", "class_true", "survey_class"),
    "z": ("z", "redshift", "true_z", "z_true", "survey_z"),
}
# What can name a spectrum, the plainest first.
_KEYS: tuple[tuple[str, ...], ...] = (
    ("file",),
    ("plate", "mjd", "fiberid"),
    ("obsid",),
    ("targetid",),
)

# The place of a spectrum, or LookupError with the reason why there is none.
Find = Callable[..., tuple[Path, int | None]]


def read_catalogue(path: Path, spectra_dir: Path | None) -> tuple[list[Target], Table]:
    """Read a table of targets and find their spectra.

    Parameters
    ----------
    path : Path
        CSV, ECSV, FITS, VOTable or Parquet, known by its content.
    spectra_dir : Path or None
        As for `find_targets`.

    Returns
    -------
    targets : list of Target
        One per row of the catalogue, with `problem` where the spectrum was not found.
    table : astropy Table
        The catalogue.

    Raises
    ------
    UsageError
        As `find_targets`.
    ReadError
        If the catalogue cannot be read.
    """
    table = read_table(path)
    return find_targets(table, path, spectra_dir), table


def find_targets(table: Table, path: Path, spectra_dir: Path | None) -> list[Target]:
    """Find the spectra that a table names.

    Parameters
    ----------
    table : astropy Table
        The columns (upper or lower case) ``file`` (with ``row``, if there is one), or
        ``plate, mjd, fiberid`` (or ``fiber``), or ``obsid``, or ``targetid`` say which
        spectra; the first of these wins.
    path : Path
        Where the table lies. A ``file`` is relative to `spectra_dir`, to the folder of the
        table, or to the working directory, whichever has it; in `spectra_dir` it is also found
        without the folders in its name, unless another row has a file of that name.
    spectra_dir : Path or None
        The folder below which spectra are looked up by number. Of several files that fit,
        the first by name is taken.

    Returns
    -------
    list of Target
        One per row of the table, with `problem` where the spectrum was not found.

    Raises
    ------
    UsageError
        If the table is empty or has none of these columns, or there is no `spectra_dir`.
    """
    columns = {name.lower(): name for name in reversed(table.colnames)}
    if "fiber" in columns:
        columns.setdefault("fiberid", columns["fiber"])
    key = next((key for key in _KEYS if all(name in columns for name in key)), None)
    if key is None:
        raise UsageError(
            f"the catalogue {path} names no spectra; its columns are: {', '.join(table.colnames)}",
            "give it a column file, or plate, mjd and fiberid, or obsid, or targetid",
        )
    if len(table) == 0:
        raise UsageError(f"the catalogue {path} has no rows", "check that it is the right file")
    if spectra_dir is not None and not spectra_dir.is_dir():
        raise UsageError(f"--spectra-dir {spectra_dir} is not a directory", "check the name")
    if key == ("file",):
        find = _finder_by_name(table[columns["file"]].tolist(), path, spectra_dir)
        key += ("row",) if "row" in columns else ()
    else:
        find = _finder_by_number(key, path, spectra_dir)
    rows = zip(*(table[columns[name]].tolist() for name in key), strict=True)
    return [
        replace(_target(find, key, values, f"{path.name}, row {number}"), catalogue_row=number)
        for number, values in enumerate(rows)
    ]


def _target(find: Find, key: tuple[str, ...], values: tuple[Any, ...], where: str) -> Target:
    if not values[0] or (key[0] != "file" and None in values):
        return Target(Path(where), problem=f"the catalogue gives no {', '.join(key)} in this row")
    label = " ".join(f"{name} {value}" for name, value in zip(key, values, strict=True))
    nameless = Path(str(values[0]) if key[0] == "file" else label)
    try:
        found, row = find(*values)
    except LookupError as error:
        return Target(nameless, problem=str(error.args[0]))
    except (ValueError, OverflowError):
        return Target(nameless, problem=f"no whole number in the catalogue: {label}")
    return Target(found, row)


def _whole(value: Any) -> int:
    """A whole number of a catalogue.

    Raises
    ------
    ValueError
        If it is none; or a float so large that its last digits are lost, which would name
        another target.
    """
    if isinstance(value, float) and (not value.is_integer() or abs(value) >= 2**53):
        raise ValueError(value)
    return int(value)


_SPEC = re.compile(r"spec-(?P<plate>\d{4,})-(?P<mjd>\d{5})-(?P<fiber>\d{4,})\.fits(\.gz)?")
_SPEC_DR7 = re.compile(r"spSpec-(?P<mjd>\d{5})-(?P<plate>\d{4})-(?P<fiber>\d{3})\.fit(\.gz)?")
_SPPLATE = re.compile(r"spPlate-(?P<plate>\d{4,})-(?P<mjd>\d{5})\.fits(\.gz)?")
_LAMOST = re.compile(r"(spec|med)-\d{5}-.+_sp\d\d-\d{3}\.fits(\.gz)?")
_DESI = re.compile(r"(coadd|spectra)-.+\.fits(\.gz)?")


def _finder_by_name(files: list[Any], catalogue: Path, spectra_dir: Path | None) -> Find:
    folders = list(dict.fromkeys([catalogue.parent, Path()]))
    # Files of one name in several folders cannot be told apart without their folders.
    names = Counter(_path(file).name for file in set(files))

    def find(file: Any, row: Any = None) -> tuple[Path, int | None]:
        name = _path(file)
        places = [folder / name for folder in folders]
        if spectra_dir is not None:
            flat = [spectra_dir / name.name] if names[name.name] == 1 else []
            places = [spectra_dir / name, *flat, *places]
        found = next((place for place in places if _is_file(place)), None)
        if found is None:
            searched = " or ".join(map(str, [*([spectra_dir] if spectra_dir else []), *folders]))
            hint = (
                "the column file" if spectra_dir else "the column file, or give --spectra-dir DIR"
            )
            raise LookupError(f"{name} is not in {searched}; check {hint}")
        return found, None if row is None else _whole(row)

    return find


def _path(file: Any) -> Path:
    return home_expanded(str(file or "").strip())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no disk can have
        return False


def _finder_by_number(key: tuple[str, ...], catalogue: Path, spectra_dir: Path | None) -> Find:
    if spectra_dir is None:
        raise UsageError(
            f"the catalogue {catalogue} has {', '.join(key)}, but where are the spectra?",
            "name their folder: --spectra-dir DIR",
        )
    files = []
    for target in walk(spectra_dir):
        if target.problem:
            console.warn(target.problem)
        else:
            files.append(target.path)
    find_in = {"plate": _sdss_finder, "obsid": _lamost_finder, "targetid": _desi_finder}[key[0]]
    find_number = find_in(files)

    def find(*numbers: Any) -> tuple[Path, int | None]:
        whole = tuple(_whole(number) for number in numbers)
        try:
            return find_number(*whole)
        except KeyError:
            label = ", ".join(f"{name} {number}" for name, number in zip(key, whole, strict=True))
            raise LookupError(f"no spectrum of {label} below {spectra_dir}") from None

    return find


def _sdss_finder(files: list[Path]) -> Find:
    """By plate, MJD and fibre in the files' names; spPlate files where there is no other."""
    single: dict[tuple[int, int, int], Path] = {}
    plates: dict[tuple[int, int], Path] = {}
    for path in files:
        if named := _SPEC.fullmatch(path.name) or _SPEC_DR7.fullmatch(path.name):
            key = int(named["plate"]), int(named["mjd"]), int(named["fiber"])
            single.setdefault(key, path)
        elif named := _SPPLATE.fullmatch(path.name):
            plates.setdefault((int(named["plate"]), int(named["mjd"])), path)
    fibers: dict[Path, dict[int, int]] = {}

    def find(plate: int, mjd: int, fiber: int) -> tuple[Path, int | None]:
        if (plate, mjd, fiber) in single:
            return single[plate, mjd, fiber], None
        path = plates[plate, mjd]
        if path not in fibers:
            fibers[path] = _first_rows(path, "FIBERID", 5)
        return path, fibers[path][fiber]

    return find


def _lamost_finder(files: list[Path]) -> Find:
    """By obsid in the files' names, or else in the headers of files named as LAMOST does."""
    named: dict[int, Path] = {}
    unnamed = []
    for path in files:
        stem = path.name.split(".")[0]
        if _LAMOST.fullmatch(path.name):
            unnamed.append(path)  # the numbers in this name are a date and a fibre
        elif not any(other.fullmatch(path.name) for other in (_SPEC, _SPEC_DR7, _SPPLATE, _DESI)):
            for number in re.findall(r"(?<=-)\d+(?=\D|$)", stem):
                named.setdefault(int(number), path)
    # <obsid>.fits says it plainer than <something>-<obsid>.fits
    for path in reversed(files):
        if re.fullmatch(r"\d+", path.name.split(".")[0]):
            named[int(path.name.split(".")[0])] = path
    in_headers: dict[int, Path] | None = None

    def find(obsid: int) -> tuple[Path, int | None]:
        nonlocal in_headers
        if obsid in named:
            return named[obsid], None
        if in_headers is None:
            in_headers = _obsids(unnamed)
        return in_headers[obsid], None

    return find


def _obsids(files: list[Path]) -> dict[int, Path]:
    from astropy.io import fits

    index: dict[int, Path] = {}
    with console.progress("reading OBSIDs", len(files)) as advance:
        for path in files:
            try:
                index.setdefault(int(fits.getheader(path).get("OBSID", 0)), path)
            except (OSError, EOFError, ValueError, TypeError) as error:
                console.warn(f"{path} is skipped: its OBSID cannot be read ({error})")
            advance(1)
    index.pop(0, None)  # the oldest files have none
    return index


def _desi_finder(files: list[Path]) -> Find:
    """By TARGETID in the FIBERMAPs; coadds before the single exposures of the same target."""
    index: dict[int, tuple[Path, int | None]] = {}
    files = sorted((f for f in files if _DESI.fullmatch(f.name)), key=lambda f: f.name[0] == "s")
    with console.progress("reading TARGETIDs", len(files)) as advance:
        for path in files:
            for row, targetid in enumerate(_targetids(path)):
                index.setdefault(targetid, (path, row))
            advance(1)
    return lambda targetid: index[targetid]


def _targetids(path: Path) -> list[int]:
    """The targets of a DESI file, in the order in which its reader counts them."""
    from astropy.io import fits

    try:
        names = fits.getdata(path, 1).names or []
    except (OSError, EOFError, IndexError, AttributeError):
        names = []
    # The commissioning layout has no FIBERMAP, but a column a target.
    early = [name.removeprefix("TARGET") for name in names if re.fullmatch(r"TARGET\d+", name)]
    return [int(name) for name in early] or list(_first_rows(path, "TARGETID", "FIBERMAP"))


def _first_rows(path: Path, column: str, hdu: str | int) -> dict[int, int]:
    """The first row of each value of an integer column; empty, with a warning, if unreadable."""
    from astropy.io import fits

    index: dict[int, int] = {}
    try:
        with fits.open(path) as hdus:
            for row, value in enumerate(hdus[hdu].data[column].tolist()):
                index.setdefault(value, row)
    except (OSError, EOFError, KeyError, IndexError, ValueError, TypeError) as error:
        console.warn(f"{path} is skipped: its column {column} cannot be read ({error})")
    return index


# --- the formats of tables ------------------------------------------------------------------


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
            elif (kind := _table_format(head, path)) == "votable":
                with opened(path) as source:
                    table = tables_of(source.handle)[0]
            else:
                table = Table.read(path, format=kind)
            table.convert_bytestring_to_unicode()
            for name in table.colnames:  # spreadsheets begin a CSV with a byte order mark
                table.rename_column(name, name.lstrip("\ufeff"))
    except UsageError:
        raise
    except ReadError as error:
        raise ReadError(f"the catalogue {path} cannot be read: {error}", error.hint) from error
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
