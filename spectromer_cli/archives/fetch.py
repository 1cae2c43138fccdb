"""Fetching: from targets to files and a catalogue. Only what is missing comes; nothing is lost."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.archives import download, http, lamost, sdss
from spectromer_cli.archives.catalogue import NAME, Fetched, Row, table_of
from spectromer_cli.archives.targets import (
    KEYS,
    NO_MATCH,
    WANTED,
    Match,
    Wanted,
    from_catalogue,
    from_ids,
    from_text,
    radius_of,
    resolve,
)
from spectromer_cli.errors import NetworkError, SpectromerError, UsageError
from spectromer_cli.paths import claimed, make_folder

if TYPE_CHECKING:
    from astropy.table import Table

SAVE_EVERY = 2.0  # s, or longer where the catalogue takes long to write
TARGETS_PER_QUESTION = 100  # after so many it is seen whether the archive still answers
# Asking for the size of each of thousands of files would be as impolite as fetching them.
SIZED = 5
# A star, a galaxy and a quasar of SDSS, and a LAMOST star; by their surveys F9, z = 0.0365,
# z = 0.294, F7. With run2d SkyServer need not be asked where they lie.
_SDSS_EXAMPLES = (
    ("star", {"plate": 3128, "mjd": 54776, "fiberid": 8, "run2d": "104"}),
    ("galaxy", {"plate": 2127, "mjd": 53859, "fiberid": 518, "run2d": "26"}),
    ("quasar", {"plate": 1449, "mjd": 53116, "fiberid": 1, "run2d": "26"}),
)
_LAMOST_EXAMPLE = Wanted("LAMOST star", ids={"obsid": 1001704233})


@dataclass
class Outcome:
    """What a fetch did, or would do.

    Parameters
    ----------
    rows : list of dict
        The catalogue's rows of this run, in the order of the targets.
    fetched, here, without, failed : int
        Files that came; that were here already; targets without a match; failures.
    errors : list of str
        What went wrong, one line each.
    missing : list of Match
        What a dry run would fetch.
    """

    rows: list[Row] = field(default_factory=list)
    fetched: int = 0
    here: int = 0
    without: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    missing: list[Match] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add another run to this one."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def table(self) -> Table:
        """The rows as an astropy Table, with the columns of ``fetched.ecsv``.

        Without the separation, where no target has a position to be separated from.
        """
        table = table_of(self.rows)
        if not np.isfinite(table["separation"]).any():
            table.remove_column("separation")
        return table

    def about_bytes(self) -> int | None:
        """How large the missing files are together; None if no server tells a size.

        Estimated from a few files of each archive.

        Raises
        ------
        NetworkError
            If no server can be reached.
        """
        total = lost = None
        archives = list(dict.fromkeys(match.archive for match in self.missing))
        for archive in archives:
            mine = [match for match in self.missing if match.archive == archive]
            try:
                sizes = filter(None, map(_size, mine[:SIZED]))
                if found := list(sizes):
                    total = (total or 0.0) + sum(found) / len(found) * len(mine)
            except http.Unreachable as error:
                lost, archives = error, [other for other in archives if other != archive]
        if lost is not None and not archives:
            raise lost
        return None if total is None else round(total)


def fetch(
    targets: str | Sequence[str] = (),
    output: str | Path = "spectra",
    *,
    catalog: str | Path | None = None,
    ids: Sequence[Mapping[str, int]] = (),
    sql: str = "",
    archive: str | None = None,
    radius: str | float = "2arcsec",
    release: str | None = None,
    instrument: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    max_connections: int = download.CONNECTIONS,
) -> Outcome:
    """Find spectra in archives, download and verify them, and list them in a catalogue.

    What was to be fetched is said by one of `targets`, `catalog`, `ids` and `sql`. A spectrum
    that does not come costs its own row only.

    Parameters
    ----------
    targets : str or sequence of str
        Names of objects, or coordinates in degrees or sexagesimal (hours and degrees).
    output : path
        The folder for the files and their catalogue ``fetched.ecsv``; created if missing. What is
        there already does not come again.
    catalog : path, optional
        A table of targets in any format; columns of ids, coordinates or names are found by
        their usual names.
    ids : sequence of mapping
        ``plate``, ``mjd``, ``fiberid`` (a plate alone stands for all its spectra) or ``field``,
        ``mjd``, ``catalogid`` of SDSS, ``obsid`` of LAMOST, ``targetid`` of DESI.
    sql : str
        SQL for SkyServer that selects plate, mjd, fiberID and run2d.
    archive : {"sdss", "lamost", "desi", "eso"}, optional
        By default all are asked; ids and SQL need one.
    radius : str or float
        How far from a position: an angle such as "0.1arcmin", or a number of arcsec; at most
        3 arcmin.
    release : str, optional
        Data release of SDSS, LAMOST or DESI.
    instrument : str, optional
        Of ESO, this instrument only.
    token : str, optional
        For LAMOST's releases that are not public; by default ``SPECTROMER_LAMOST_TOKEN``.
    dry_run : bool
        Look only: nothing is downloaded or written.
    force : bool
        Download again what is here already.
    max_connections : int
        Simultaneous downloads, over all servers.

    Returns
    -------
    Outcome
        ``table`` has a row per spectrum, in the order of the targets; its column ``status``
        says of what did not come why.

    Raises
    ------
    UsageError
        If it is not said what to fetch, or an archive does not know such a thing.
    NetworkError
        If names cannot be resolved, or SkyServer does not answer the SQL.
    SpectromerError
        If the disk is full or cannot be written: then the rest is not tried.
    """
    if sum(map(bool, (targets, catalog, ids, sql))) != 1:
        some = targets or catalog or ids or sql
        raise UsageError(
            "several kinds of target given" if some else "nothing to fetch",
            "give one of: targets, a catalogue, ids, SQL",
        )
    given = {"release": release, "instrument": instrument, "token": token}
    options = {name: value for name, value in given.items() if value}
    listed = Path(output) / NAME
    if catalog and listed.exists() and Path(catalog).exists() and listed.samefile(catalog):
        raise UsageError(
            f"the catalogue {catalog} would be overwritten by that of the fetch",
            "copy it, or choose another -o",
        )
    arcsec = radius_of(radius)
    archives = _archives(archive, options, "ids" if ids else "SQL" if sql else "")
    if sql:
        console.info("querying sdss")
        matches = sdss.find_sql(sql, release or sdss.RELEASE)
    else:
        if ids:
            wanted = [from_ids(one, archives[0]) for one in ids]
        elif catalog:
            wanted = resolve(from_catalogue(Path(catalog)))
        else:
            words = [targets] if isinstance(targets, str) else targets
            wanted = resolve([from_text(word) for word in words])
        matches = _search(archives, wanted, arcsec, options)
    return fetch_matches(
        matches, Path(output), dry_run=dry_run, force=force, max_connections=max_connections
    )


def example_matches() -> list[Match]:
    """A small real sample for the tutorial; position and class come from the files."""
    dr = sdss.release_number(sdss.RELEASE)
    matches = [sdss.match_of(row, name, dr) for name, row in _SDSS_EXAMPLES]
    return matches + lamost.find([_LAMOST_EXAMPLE], radius=0.0)


def fetch_matches(
    matches: Sequence[Match],
    folder: Path,
    *,
    dry_run: bool = False,
    force: bool = False,
    max_connections: int = download.CONNECTIONS,
) -> Outcome:
    """Download what is missing of some matches into a folder, and keep its catalogue.

    Parameters
    ----------
    matches : sequence of Match
        From the archives' ``find``.
    folder : Path
        Made if missing.
    dry_run, force, max_connections
        As for `fetch`.

    Returns
    -------
    Outcome

    Raises
    ------
    SpectromerError
        If the disk is full or cannot be written: then the rest is not tried.
    """
    if dry_run:
        return _fetch_matches(matches, folder, True, force, max_connections)
    make_folder(folder)
    with claimed(folder / NAME):
        return _fetch_matches(matches, folder, False, force, max_connections)


def _fetch_matches(
    matches: Sequence[Match], folder: Path, dry_run: bool, force: bool, max_connections: int
) -> Outcome:
    fetched = Fetched(folder)
    here = fetched.index()
    absent = {m.key: m for m in matches if m.status == WANTED and (force or m.key not in here)}
    failures: dict[tuple[str, str, str], str] = {}

    def rows() -> list[Row]:
        return [_row(fetched, match, here, failures) for match in matches]

    outcome = Outcome(rows())  # in the order of the targets, whatever comes first
    if dry_run:
        outcome.missing = list(absent.values())
    else:
        arriving = download.download_all(
            list(absent.values()), folder, force=force, connections=max_connections
        )
        due = time.monotonic() + SAVE_EVERY
        try:
            with console.progress("spectra", len(absent)) as advance:
                for match, result in arriving:
                    if isinstance(result, NetworkError):
                        failures[match.key] = f"failed: {result}"
                        console.error(str(result), result.hint)
                    elif isinstance(result, SpectromerError):
                        raise result
                    else:
                        here[match.key] = fetched.put(match, result)
                        outcome.fetched += 1
                    advance(1)
                    if time.monotonic() > due:
                        due = time.monotonic()
                        fetched.save()  # 30,000 rows take two seconds
                        due += max(SAVE_EVERY, 10 * (time.monotonic() - due))
        finally:
            # Also after Ctrl-C, and where the disk is full: as much of it as can be.
            outcome.rows = rows()
            fetched.save()
    for match in matches:
        if match.key in failures or match.status.startswith("failed"):
            outcome.failed += 1
            outcome.errors.append(failures.get(match.key, match.status).removeprefix("failed: "))
        elif match.status.startswith(NO_MATCH):
            outcome.without += 1
        elif match.key not in absent:
            outcome.here += 1
    outcome.errors = list(dict.fromkeys(outcome.errors))
    return outcome


def _row(
    fetched: Fetched,
    match: Match,
    here: dict[tuple[str, str, str], Row],
    failures: dict[tuple[str, str, str], str],
) -> Row:
    if match.status == WANTED and match.key in here:
        return fetched.put(match, other=here[match.key])
    match.status = failures.get(match.key, match.status)
    return fetched.put(match)


def _archives(archive: str | None, options: Mapping[str, str], by: str) -> list[str]:
    """The archives to ask, after a check that they take the options."""
    if archive is None:
        if by or options:
            raise UsageError(
                f"{by or next(iter(options))} needs an archive",
                f"choose from {', '.join(KEYS)}",
            )
        return list(KEYS)
    if archive not in KEYS:
        raise UsageError(f"{archive} is not an archive", f"choose from {', '.join(KEYS)}")
    unknown = set(options) - set(inspect.signature(_find_of(archive)).parameters)
    if unknown or (by == "SQL" and archive != "sdss"):
        raise UsageError(f"{archive} takes no {', '.join(unknown) or by}", "leave it out")
    return [archive]


def _find_of(archive: str) -> Callable[..., list[Match]]:
    return import_module(f"spectromer_cli.archives.{archive}").find


def _search(
    archives: Sequence[str], wanted: Sequence[Wanted], radius: float, options: Mapping[str, Any]
) -> list[Match]:
    """Ask archives for targets, some at a time.

    Where an archive stops answering, every target that is left has a match that says so; what
    it answered before is kept.
    """
    matches: list[Match] = []
    for archive in archives:
        console.info(f"querying {archive} for {len(wanted)} target{'s' * (len(wanted) != 1)}")
        find = _find_of(archive)
        with console.progress(f"querying {archive}", len(wanted)) as advance:
            for start in range(0, len(wanted), TARGETS_PER_QUESTION):
                some = wanted[start : start + TARGETS_PER_QUESTION]
                try:
                    matches += find(some, radius, **options)
                except NetworkError as error:
                    console.error(str(error), error.hint)
                    failed = f"failed: {error}"
                    matches += [Match(one.label, archive, status=failed) for one in wanted[start:]]
                    break
                except UsageError as error:  # the client of one archive is missing
                    if len(archives) == 1:
                        raise
                    console.warn(f"{archive} is skipped: {error}; {error.hint}")
                    break
                advance(len(some))
    return matches


def _size(match: Match) -> int | None:
    if match.write is not None:
        return None

    def once(first: bool) -> int | None:
        with http.request(
            "HEAD", match.url, timeout=download.TIMEOUT, first=first, query=match.query
        ) as response:
            return http.size_of(response)

    try:
        return http.patiently(match.url, once, 2)
    except http.Unreachable:
        raise
    except NetworkError as error:  # some servers refuse to tell a size, and send the file
        console.info(f"size unknown: {error}")
        return None
