"""Catalogues: tables that name the spectra wanted, and where those lie on disk.

CSV, ECSV, FITS, VOTable and Parquet, known by their content.
"""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra import identity
from spectromer_cli.spectra.readers.base import ReadOptions, opened
from spectromer_cli.spectra.readers.votable import tables_of
from spectromer_cli.spectra.sources import Target, home_expanded, shown, walk

if TYPE_CHECKING:
    import pyarrow
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

# Longer tables, in bytes of text or rows of Parquet, are read in pieces of such a size.
LONG_BYTES, LONG_ROWS = 16 * 2**20, 200_000
PIECE_BYTES, PIECE_ROWS = 4 * 2**20, 50_000
# So many rows are at hand after they were given: readers run ahead of the results.
RECENT = 20_000

Identity = Mapping[str, Any]
# The place of a spectrum, or LookupError with the reason why there is none.
Find = Callable[..., tuple[Path, int | None]]


def read_catalogue(path: Path, spectra_dir: Path | None) -> tuple[list[Target], Table]:
    """Read a table of targets as a whole, and find their spectra.

    Parameters
    ----------
    path, spectra_dir
        As for `Catalogue`.

    Returns
    -------
    targets : list of Target
        As `Catalogue.targets` gives them.
    table : astropy Table
        The catalogue.

    Raises
    ------
    UsageError, ReadError
        As `Catalogue`.
    """
    table = read_table(path)
    return find_targets(table, path, spectra_dir), table


def find_targets(table: Table, path: Path, spectra_dir: Path | None) -> list[Target]:
    """Find the spectra that a table in memory names; as `Catalogue`."""
    return list(Catalogue(path, spectra_dir, table).targets())


class Catalogue:
    """A table that names the spectra wanted.

    A long CSV or Parquet table is read in pieces, of which the last few are in memory; it is read
    once for the types of its columns and for the names that are there more than once, and again
    for its rows. Other tables are read as a whole.

    Parameters
    ----------
    path : Path
        CSV, ECSV, FITS, VOTable or Parquet, known by its content. The columns (upper or lower
        case) ``file`` (with ``row``, if there is one), or ``plate, mjd, fiberid`` (or ``fiber``),
        or ``obsid``, or ``targetid`` say which spectra; the first of these wins. A ``file`` is
        relative to `spectra_dir`, to the folder of the table, or to the working directory,
        whichever has it; in `spectra_dir` it is also found without the folders in its name,
        unless another row has a file of that name.
    spectra_dir : Path or None
        The folder below which spectra are looked up by number. Of several files that fit,
        one is taken only if they hold the same, or the other columns of the row tell them apart.
    table : astropy Table, optional
        What `path` holds, if it has been read.
    options : ReadOptions
        How much the files may ask for that are opened to find the spectra.

    Attributes
    ----------
    colnames : list of str
        Names of its columns.

    Raises
    ------
    UsageError
        If the table is empty or has none of these columns, or there is no `spectra_dir`.
    ReadError
        If the table cannot be read.
    """

    def __init__(
        self,
        path: Path,
        spectra_dir: Path | None,
        table: Table | None = None,
        options: ReadOptions = ReadOptions(),
    ) -> None:
        self.path = path
        if table is None:
            table = (_in_pieces(path) if _is_long(path) else None) or read_table(path)
        self._source: Table | _InPieces = table
        self._recent: deque[tuple[int, Table]] = deque()
        self.colnames: list[str] = table.colnames
        columns = {name.lower(): name for name in reversed(self.colnames)}
        if "fiber" in columns:
            columns.setdefault("fiberid", columns["fiber"])
        key = next((key for key in _KEYS if all(name in columns for name in key)), None)
        if key is None:
            raise UsageError(
                f"the catalogue {path} identifies no spectra; its columns are: "
                + ", ".join(self.colnames),
                "add a column file, or plate, mjd and fiberid, or obsid, or targetid",
            )
        if len(self) == 0:
            raise UsageError(f"the catalogue {path} has no rows", "check that it is the right file")
        if spectra_dir is not None and not spectra_dir.is_dir():
            raise UsageError(f"--spectra-dir {spectra_dir} is not a directory", "check the name")
        self._shared: set[int] = set()
        if key == ("file",):
            several = self._named_several_times(columns["file"], in_folders=not spectra_dir)
            self._shared = several.files
            self._find = _finder_by_name(several.names, path, spectra_dir)
            key += ("row",) if "row" in columns else ()
        else:
            self._find = _finder_by_number(key, path, spectra_dir, options)
        self._key = {name: columns[name] for name in key}

    def __len__(self) -> int:
        return len(self._source)

    def targets(self) -> Iterator[Target]:
        """The spectra that the rows name, one by one.

        Yields
        ------
        Target
            One per row, with `problem` where the spectrum was not found, or cannot be told from
            others; with the identifiers of the row, to be compared with what is read.
        """
        for first, piece in self._pieces():
            wanted = identity.of_table(piece)
            rows = zip(*(piece[name].tolist() for name in self._key.values()), strict=True)
            for i, values in enumerate(rows):
                yield self._target(first + i, values, wanted[i])

    def rows(self, numbers: Sequence[int]) -> Table:
        """Rows by their numbers, which are among the last `RECENT` that `targets` has given."""
        from astropy.table import vstack

        if not isinstance(self._source, _InPieces):
            return self._source[list(numbers)]
        if not numbers:
            return next(iter(self._source))[:0]
        parts = [
            piece[inside]
            for first, piece in list(self._recent)
            if (inside := [n - first for n in numbers if first <= n < first + len(piece)])
        ]
        return parts[0] if len(parts) == 1 else vstack(parts)

    def with_rows_of(self, table: Table) -> Catalogue:
        """This catalogue with a table in memory in place of its columns, row by row."""
        other = copy(self)
        other._source, other.colnames = table, table.colnames
        return other

    def table(self) -> Table:
        """The whole table."""
        from astropy.table import vstack

        return vstack([piece for _, piece in self._pieces()])

    def _pieces(self) -> Iterator[tuple[int, Table]]:
        """The number of the first row of each piece, and the piece."""
        if not isinstance(self._source, _InPieces):
            yield 0, self._source
            return
        self._recent.clear()
        first = 0
        for piece in self._source:
            while len(self._recent) > 1 and first - self._recent[1][0] >= RECENT:
                self._recent.popleft()
            self._recent.append((first, piece))
            yield first, piece
            first += len(piece)

    def _named_several_times(self, column: str, in_folders: bool) -> _Several:
        """What of the files' names is there more than once: see `_Several`."""
        # Of names that are looked for in the folders that they name only, none is in doubt.
        by_name, by_file = (array("q"), array("q")), (array("q"), array("q"))
        for _, piece in self._pieces():
            for file, one in zip(piece[column].tolist(), identity.of_table(piece), strict=True):
                if not in_folders:
                    by_name[0].append(hash(Path(_name(file)).name))
                    by_name[1].append(hash(file))
                if one:
                    by_file[0].append(hash(file))
                    by_file[1].append(hash(tuple(sorted(one.items()))))
        return _Several(_with_several(*by_name), _with_several(*by_file))

    def _target(self, number: int, values: tuple[Any, ...], wanted: Identity) -> Target:
        own: dict[str, Any] = {"catalogue_row": number, "identity": wanted}
        own["shares_file"] = hash(values[0]) in self._shared
        is_file = "file" in self._key
        if not values[0] or (not is_file and None in values):
            where = Path(f"{self.path.name}, row {number}")
            problem = f"this row of the catalogue has no {', '.join(self._key)}"
            return Target(where, problem=problem, **own)
        try:
            found, row = self._find(*values, wanted=wanted)
        except (LookupError, ValueError, OverflowError) as error:
            label = " ".join(
                f"{name} {value}" for name, value in zip(self._key, values, strict=True)
            )
            nameless = Path(shown(str(values[0]) if is_file else label))
            problem = f"not a whole number in the catalogue: {label}"
            if isinstance(error, LookupError):
                problem = str(error.args[0])
            return Target(nameless, problem=problem, **own)
        return Target(found, row, **own)


@dataclass(frozen=True)
class _Several:
    """Hashes of names, of which a catalogue of millions has no more than fit into memory.

    Parameters
    ----------
    names : set of int
        Of names of files, without folders, that stand for files of several folders.
    files : set of int
        Of files that rows with different identifiers name.
    """

    names: set[int]
    files: set[int]


def _with_several(keys: array[int], values: array[int]) -> set[int]:
    """The keys that have different values."""
    import numpy as np

    key, value = np.asarray(keys, np.int64), np.asarray(values, np.int64)
    order = np.lexsort([value, key])
    key, value = key[order], value[order]
    another = (key[1:] == key[:-1]) & (value[1:] != value[:-1])
    return set(key[1:][another].tolist())


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


def _finder_by_name(several: set[int], catalogue: Path, spectra_dir: Path | None) -> Find:
    """By name; with strings in place of `Path`, which takes most of the time of a million."""
    folders = list(map(str, dict.fromkeys([catalogue.parent, Path()])))
    if spectra_dir is not None:
        folders.insert(0, str(spectra_dir))
    searched = " or ".join(folders)
    hint = "the column file" if spectra_dir else "the column file, or give --spectra-dir DIR"

    def find(file: Any, row: Any = None, *, wanted: Identity) -> tuple[Path, int | None]:
        name = _name(file)
        places = [os.path.join(folder, name) for folder in folders]  # noqa: PTH118
        if spectra_dir is not None:
            # Files of one name in several folders cannot be told apart without their folders.
            flat = Path(name).name
            places += [] if hash(flat) in several else [str(spectra_dir / flat)]
        found = next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113
        if found is None:
            raise LookupError(f"{shown(name)} is not in {searched}; check {hint}")
        return Path(found), None if row is None else _whole(row)

    return find


def _name(file: Any) -> str:
    """The name that a catalogue gives for a file."""
    name = str(file or "").strip()
    return str(home_expanded(name)) if name.startswith("~") else name


def _finder_by_number(
    key: tuple[str, ...], catalogue: Path, spectra_dir: Path | None, options: ReadOptions
) -> Find:
    if spectra_dir is None:
        raise UsageError(
            f"the catalogue {catalogue} has {', '.join(key)}, but no folder of spectra is given",
            "give their folder with --spectra-dir DIR",
        )
    files = []
    for target in walk(spectra_dir):
        if target.problem:
            console.warn(target.problem)
        else:
            files.append(target.path)
    find_in = {"plate": _sdss_finder, "obsid": _lamost_finder, "targetid": _desi_finder}[key[0]]
    candidates = find_in(files, options)

    def find(*numbers: Any, wanted: Identity) -> tuple[Path, int | None]:
        whole = tuple(_whole(number) for number in numbers)
        label = ", ".join(f"{name} {number}" for name, number in zip(key, whole, strict=True))
        found = candidates(*whole)
        if not found:
            raise LookupError(f"no spectrum of {label} below {spectra_dir}")
        one = _the_one(found, wanted, label, options)
        return one.path, one.row

    return find


@dataclass(frozen=True)
class _Candidate:
    """A spectrum that has the number that is looked for.

    Parameters
    ----------
    path : Path
    row : int or None
        Its number, in a file of several.
    meta : mapping or None
        What identifies it, as in `Spectrum.meta`; None if it must be read for that.
    rank : int
        Of several kinds of files of one reduction, that of rank 0 comes first.
    """

    path: Path
    row: int | None = None
    meta: Identity | None = None
    rank: int = 0


# What tells the files of a survey apart.
_FILE_IDS = ("run2d", "desi_survey", "program", "healpix", "tileid", "night")
# The candidates of a number.
Candidates = Callable[..., list[_Candidate]]


def _the_one(
    found: list[_Candidate], wanted: Identity, label: str, options: ReadOptions
) -> _Candidate:
    """The candidate that is wanted.

    Raises
    ------
    LookupError
        If none is, or several are that do not hold the same.
    """
    # x.fits and x.fits.gz in one folder; sorted by name, the one that is quicker to read is first.
    unique = {(one.path.parent, one.path.name.removesuffix(".gz"), one.row): one for one in
              reversed(found)}  # fmt: skip
    found = [one for one in found if one in unique.values()]
    if len(found) > 1:
        found = [one if one.meta is not None else _with_meta(one, options) for one in found]
        readable = {one.rank for one in found if one.meta is not None}
        found = [one for one in found if one.meta is not None or one.rank not in readable]
    reasons = [identity.contradiction(wanted, one.meta or {}, str(one.path)) for one in found]
    fitting = [one for one, reason in zip(found, reasons, strict=True) if not reason]
    if not fitting and len(found) == 1:
        return found[0]  # what it holds instead is said when it is read
    if not fitting:
        raise LookupError(f"none of the {len(found)} files of {label} matches: {reasons[0]}")
    telling = {kind: value for kind, value in wanted.items() if kind in (*_FILE_IDS, "survey")}
    agreeing = [identity.agreement(telling, one.meta or {}) for one in fitting]
    fitting = [one for one, n in zip(fitting, agreeing, strict=True) if n == max(agreeing)]
    fitting = _of_first_rank(fitting)
    if len(fitting) > 1 and not _hold_the_same(fitting, options):
        names = ", ".join(str(one.path) for one in fitting[:4]) + (", …" if fitting[4:] else "")
        raise LookupError(
            f"{label} matches {len(fitting)} files: {names}; give one in a column file"
        )
    return fitting[0]


def _of_first_rank(fitting: list[_Candidate]) -> list[_Candidate]:
    """Without the files that repeat, in another form, what one of the first rank has."""
    first = [one for one in fitting if one.rank == 0]
    return [
        one for one in fitting
        if one.rank == 0 or not any(_of_one_reduction(one, other) for other in first)
    ]  # fmt: skip


def _of_one_reduction(one: _Candidate, other: _Candidate) -> bool:
    """Whether two files are the same data: a plate and its spectrum, exposures and their coadd."""
    metas = [{k: v for k, v in (c.meta or {}).items() if k in _FILE_IDS} for c in (one, other)]
    both = metas[0].keys() & metas[1].keys()
    if _SPPLATE.fullmatch(one.path.name) or both:
        return all(_have_common(metas[0][key], metas[1][key]) for key in both)
    names = [re.sub(r"^(coadd|spectra)-|\.gz$", "", path.name) for path in (one.path, other.path)]
    return not all(metas) and names[0] == names[1]


def _have_common(one: Any, other: Any) -> bool:
    """Whether an identifier, of which a file may have several, is that of another file."""
    first, second = (set(v) if isinstance(v, tuple) else {v} for v in (one, other))
    return bool(first & second)


def _with_meta(one: _Candidate, options: ReadOptions) -> _Candidate:
    """The candidate with what its file says; as it is if the file cannot be read."""
    from spectromer_cli.spectra.readers import open_spectra

    try:
        with open_spectra(one.path, options) as spectra:
            return replace(one, meta=identity.kept(spectra.get(one.row or 0).meta))
    except ReadError:
        return one


def _hold_the_same(found: Sequence[_Candidate], options: ReadOptions) -> bool:
    """Whether several files hold the same spectrum, pixel by pixel."""
    import numpy as np

    from spectromer_cli.spectra.readers import open_spectra

    held = []
    for one in found:
        try:
            with open_spectra(one.path, options) as spectra:
                spectrum = spectra.get(one.row or 0)
        except (ReadError, IndexError):
            return False
        held.append((spectrum.wavelength, spectrum.flux, spectrum.ivar))
    return all(
        np.array_equal(mine, its)
        for other in held[1:]
        for mine, its in zip(held[0], other, strict=True)
    )


def _sdss_finder(files: list[Path], options: ReadOptions) -> Candidates:
    """By plate, MJD and fibre in the files' names; spPlate files where there is no other."""
    single: dict[tuple[int, int, int], list[_Candidate]] = {}
    plates: dict[tuple[int, int], list[Path]] = {}
    for path in files:
        if named := _SPEC.fullmatch(path.name) or _SPEC_DR7.fullmatch(path.name):
            key = int(named["plate"]), int(named["mjd"]), int(named["fiber"])
            single.setdefault(key, []).append(_Candidate(path))
        elif named := _SPPLATE.fullmatch(path.name):
            plates.setdefault((int(named["plate"]), int(named["mjd"])), []).append(path)
    fibers: dict[Path, tuple[dict[int, int], dict[str, Any]]] = {}

    def find(plate: int, mjd: int, fiber: int) -> list[_Candidate]:
        found = list(single.get((plate, mjd, fiber), ()))
        for path in plates.get((plate, mjd), ()):
            if path not in fibers:
                fibers[path] = _first_rows(path, "FIBERID", 5, options), _run2d(path, options)
            rows, meta = fibers[path]
            if fiber in rows:
                found.append(_Candidate(path, rows[fiber], meta, rank=1))
        return found

    return find


def _run2d(path: Path, options: ReadOptions) -> dict[str, Any]:
    """The reduction that a spPlate file is of, where its header says it."""
    try:
        run2d = str(_primary_header(path, options).get("RUN2D") or "").strip()
    except Exception:  # a damaged file raises whatever comes up, and is refused when it is read
        return {}
    return {"run2d": run2d} if run2d else {}


def _primary_header(path: Path, options: ReadOptions) -> Any:
    """The primary header of a FITS file.

    Raises
    ------
    ReadError
        If it is none.
    """
    with opened(path, options) as source:
        if source.kind != "fits":
            raise ReadError(f"{path} is not a FITS file")
        return source.handle[0].header


def _lamost_finder(files: list[Path], options: ReadOptions) -> Candidates:
    """By obsid in the files' names, or else in the headers of files named as LAMOST does."""
    plain: dict[int, list[_Candidate]] = {}
    named: dict[int, list[_Candidate]] = {}
    unnamed = []
    for path in files:
        stem = path.name.split(".")[0]
        if re.fullmatch(r"\d+", stem):
            plain.setdefault(int(stem), []).append(_Candidate(path))
        elif _LAMOST.fullmatch(path.name):
            unnamed.append(path)  # the numbers in this name are a date and a fibre
        elif not any(other.fullmatch(path.name) for other in (_SPEC, _SPEC_DR7, _SPPLATE, _DESI)):
            for number in set(re.findall(r"(?<=-)\d+(?=\D|$)", stem)):
                named.setdefault(int(number), []).append(_Candidate(path))
    in_headers: dict[int, list[_Candidate]] | None = None

    def find(obsid: int) -> list[_Candidate]:
        nonlocal in_headers
        # <obsid>.fits says it plainer than <something>-<obsid>.fits
        for known in (plain, named):
            if obsid in known:
                return known[obsid]
        if in_headers is None:
            in_headers = _obsids(unnamed, options)
        return in_headers.get(obsid, [])

    return find


def _obsids(files: list[Path], options: ReadOptions) -> dict[int, list[_Candidate]]:
    index: dict[int, list[_Candidate]] = {}
    with console.progress("reading OBSIDs", len(files)) as advance:
        for path in files:
            try:
                obsid = int(_primary_header(path, options).get("OBSID", 0))
            except Exception as error:  # a damaged file raises whatever comes up
                console.warn(f"{path} is skipped: its OBSID cannot be read ({error})")
            else:
                index.setdefault(obsid, []).append(_Candidate(path))
            advance(1)
    index.pop(0, None)  # the oldest files have none
    return index


def _desi_finder(files: list[Path], options: ReadOptions) -> Candidates:
    """By TARGETID in the FIBERMAPs; a coadd before the single exposures that it is of."""
    index: dict[int, list[_Candidate]] = {}
    files = [path for path in files if _DESI.fullmatch(path.name)]
    with console.progress("reading TARGETIDs", len(files)) as advance:
        for path in files:
            rank = int(path.name.startswith("spectra"))
            for row, meta in enumerate(_identities(path, options)):
                index.setdefault(meta["targetid"], []).append(_Candidate(path, row, meta, rank))
            advance(1)
    return lambda targetid: index.get(targetid, [])


def _identities(path: Path, options: ReadOptions) -> list[dict[str, Any]]:
    """What identifies the targets of a DESI file; empty, with a warning, if unreadable."""
    from spectromer_cli.spectra.readers import desi
    from spectromer_cli.spectra.readers.base import opened, without_astropy

    try:
        with opened(path, options) as source:
            if source.kind != "fits":
                return []
            return without_astropy(source, lambda plain: desi.identities(plain.handle, path))
    except Exception as error:  # a damaged FITS file raises whatever comes up
        reason = " ".join(str(error).split())
        console.warn(f"{path} is skipped: its column TARGETID cannot be read ({reason})")
    return []


def _first_rows(path: Path, column: str, hdu: str | int, options: ReadOptions) -> dict[int, int]:
    """The first row of each value of an integer column; empty, with a warning, if unreadable."""
    index: dict[int, int] = {}
    try:
        with opened(path, options) as source:
            for row, value in enumerate(source.handle[hdu].data[column].tolist()):
                index.setdefault(value, row)
    except Exception as error:  # a damaged file raises whatever comes up
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

    from astropy.table import Table

    with _refused(path):
        with path.open("rb") as file:
            head = file.read(512)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                head = file.read(512)
        if not head.strip():
            raise UsageError(f"the catalogue {path} is empty", "check that it is the right file")
        if head.startswith(b"PAR1"):
            table = _read_parquet(path)
        elif (kind := _table_format(head, path)) == "votable":
            with opened(path, ReadOptions(file_timeout=0)) as source:
                table = tables_of(source.handle)[0]
                _note_systems(table, source.handle)
        else:
            table = Table.read(path, format=kind)
        if not table.has_mixin_columns:  # SkyCoord and Time have no bytes, and no dtype
            table.convert_bytestring_to_unicode()
        for name in table.colnames:  # spreadsheets begin a CSV with a byte order mark
            table.rename_column(name, name.lstrip("\ufeff"))
    return table


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Say in one line why a table cannot be read, whatever its reader raises."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and dates out of standard do no harm here
            yield
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


class _InPieces:
    """A long table, read piece by piece; columns have one type throughout.

    Parameters
    ----------
    path : Path
        For which `_is_long` holds.

    Raises
    ------
    ReadError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import numpy as np

        self.path = path
        self._length = 0
        self._types: dict[str, Any] = {}
        self._masked: set[str] = set()
        for piece in self._read({}):
            self._length += len(piece)
            for name in piece.colnames:
                column = piece[name]
                self._types[name] = np.promote_types(
                    self._types.get(name, column.dtype), column.dtype
                )
                if hasattr(column, "mask"):
                    self._masked.add(name)
        self.colnames = list(self._types)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Table]:
        from astropy.table import MaskedColumn

        for piece in self._read({name: dtype.kind for name, dtype in self._types.items()}):
            for name, dtype in self._types.items():
                column = piece[name].astype(dtype, copy=False)
                piece[name] = MaskedColumn(column) if name in self._masked else column
            yield piece

    def _read(self, kinds: Mapping[str, str]) -> Iterator[Table]:
        """The pieces; of a CSV file, with columns of these kinds, or as each piece suggests."""
        pieces = self._opened(kinds)
        while True:
            with _refused(self.path):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def _opened(self, kinds: Mapping[str, str]) -> Iterator[Table]:
        import pyarrow.csv
        import pyarrow.parquet

        with self.path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            with pyarrow.parquet.ParquetFile(self.path) as parquet:
                for batch in parquet.iter_batches(PIECE_ROWS):
                    yield from_arrow(pyarrow.Table.from_batches([batch]))
            return
        names = dict.fromkeys(_header(self.path), pyarrow.string())
        with pyarrow.csv.open_csv(
            self.path,
            pyarrow.csv.ReadOptions(use_threads=False, block_size=PIECE_BYTES),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=names),
        ) as reader:
            for batch in reader:
                columns = {
                    name: _of_text(column, kinds.get(name, ""))
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                yield from_arrow(pyarrow.table(columns))


def _in_pieces(path: Path) -> _InPieces | None:
    """A long table, or None where only the more patient readers of `read_table` may take it."""
    try:
        return _InPieces(path)
    except ReadError:
        return None


def _header(path: Path) -> list[str]:
    """The names of the columns of a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _of_text(column: pyarrow.Array, kind: str) -> pyarrow.Array:
    """A column of text as numbers of a kind of NumPy ("i", "f"), or as the first that it fits.

    Empty cells are null.
    """
    import pyarrow
    from pyarrow import compute

    column = compute.utf8_trim_whitespace(column)
    column = compute.if_else(compute.equal(column, ""), None, column)
    for numbers in (pyarrow.int64(), pyarrow.float64()):
        if kind not in ("", numbers.to_pandas_dtype()().dtype.kind):
            continue
        try:
            return column.cast(numbers)
        except pyarrow.ArrowInvalid:
            pass
    return column


def _is_long(path: Path) -> bool:
    """Whether a table is better read in pieces, and can be: CSV with commas, and Parquet."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith(b"PAR1"):
            import pyarrow.parquet

            return pyarrow.parquet.read_metadata(path).num_rows > LONG_ROWS
        if path.stat().st_size <= LONG_BYTES or not path.name.lower().endswith(".csv"):
            return False
    except Exception:  # said when it is read
        return False
    return b"," in head.split(b"\n")[0] and _table_format(head, path) == "ascii.csv"


def _table_format(head: bytes, path: Path) -> str:
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"SIMPLE"):
        return "fits"
    if head.startswith((b"<?xml", b"<VOTABLE")):
        return "votable"
    if head.startswith(b"# %ECSV"):
        return "ascii.ecsv"
    return "ascii.csv" if path.name.lower().endswith((".csv", ".csv.gz")) else "ascii"


def _note_systems(table: Table, text: str) -> None:
    """Put the systems of coordinates, which astropy's tables leave out, into the columns' meta.

    ``coosys`` and ``equinox``, as the COOSYS says that a FIELD refers to, or the only one.
    """
    text = re.split(r"<DATA\b", text)[0]
    attribute = re.compile(r"([\w:]+)\s*=\s*(['\"])(.*?)\2")

    def attributes(tag: str) -> list[dict[str, str]]:
        found = re.findall(rf"<{tag}\b([^>]*)>", text)
        return [{key.lower(): value for key, _, value in attribute.findall(one)} for one in found]

    systems = {one.get("id", ""): one for one in attributes("COOSYS")}
    only = next(iter(systems.values())) if len(systems) == 1 else {}
    for name, one in zip(table.colnames, attributes("FIELD"), strict=False):
        system = systems.get(one.get("ref", ""), only)
        for key, said in (("coosys", "system"), ("equinox", "equinox")):
            if said in system:
                table[name].meta[key] = system[said]


def _read_parquet(path: Path) -> Table:
    """Through pyarrow alone: astropy's way needs pandas and loses masked integers."""
    import pyarrow.parquet

    return from_arrow(pyarrow.parquet.read_table(path))


def _equal_rows(column: pyarrow.ChunkedArray) -> Any:
    """Lists of numbers of one length as an array, shape (n, m); None if they are not such."""
    import numpy as np
    import pyarrow

    array = column.combine_chunks()
    numbers = array.type.value_type
    is_plain = pyarrow.types.is_floating(numbers) or pyarrow.types.is_integer(numbers)
    if not is_plain or array.null_count or not len(array):
        return None
    flat = array.flatten()
    lengths = array.value_lengths().to_numpy()
    if flat.null_count or not lengths[0] or np.any(lengths != lengths[0]):
        return None
    return flat.to_numpy().reshape(len(array), lengths[0])


def from_arrow(arrow: pyarrow.Table) -> Table:
    """An astropy table of an Arrow table, masked where there is no value."""
    import numpy as np
    import pyarrow
    from astropy.table import MaskedColumn, Table

    table = Table()
    for name, column in zip(arrow.column_names, arrow.columns, strict=True):
        mask = column.is_null().to_numpy()
        if pyarrow.types.is_integer(column.type):
            column = column.fill_null(0)
        elif pyarrow.types.is_boolean(column.type):
            column = column.fill_null(False)
        if pyarrow.types.is_list(column.type) and (rows := _equal_rows(column)) is not None:
            table[name] = rows
            continue
        values = column.to_numpy()
        if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
            values = np.array(["" if value is None else value for value in values], dtype=str)
        elif pyarrow.types.is_list(column.type) and not mask.any():
            values = np.array(column.to_pylist())
        table[name] = MaskedColumn(values, mask=mask) if mask.any() else values
    return table
