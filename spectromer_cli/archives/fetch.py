"""From matches to files and a catalogue: only what is missing, and nothing that came is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spectromer_cli import console
from spectromer_cli.archives import downloads, http
from spectromer_cli.archives.catalogue import Fetched, Row
from spectromer_cli.archives.match import NO_MATCH, WANTED, Match, no_match
from spectromer_cli.archives.targets import Wanted
from spectromer_cli.errors import NetworkError, SpectromerError
from spectromer_cli.paths import make_folder

SAVE_EVERY = 2.0  # s, or longer where the catalogue takes long to write
ASKED = 100  # targets between two looks at whether the archive still answers
# Asking for the size of each of thousands of files would be as impolite as fetching them.
SIZED = 5

Find = Callable[[Sequence[Wanted]], list[Match]]


@dataclass
class Outcome:
    """What a run did.

    Parameters
    ----------
    rows : list of dict
        The catalogue's rows of this run, in the order of the targets.
    came, here, without, failed : int
        Files that came; that were here already; targets without a match; failures.
    errors : list of str
        What went wrong, one line each.
    """

    rows: list[Row] = field(default_factory=list)
    came: int = 0
    here: int = 0
    without: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)


def look(find: Find, wanted: Sequence[Wanted], archive: str) -> list[Match]:
    """Ask an archive for targets, some at a time.

    Parameters
    ----------
    find : callable
        The archive's, which takes targets only.
    wanted : sequence of Wanted
        Those with a problem are not asked for.
    archive : str
        Its name.

    Returns
    -------
    list of Match
        Where the archive stops answering, every target that is left has a match that says so;
        what it answered before is kept.
    """
    known = [one for one in wanted if not one.problem]
    matches = [no_match(one.label, archive, why=one.problem) for one in wanted if one.problem]
    with console.progress(f"asking {archive}", len(known)) as advance:
        for start in range(0, len(known), ASKED):
            try:
                matches += find(known[start : start + ASKED])
            except NetworkError as error:
                console.error(str(error), error.hint)
                return matches + [_failed(one, archive, error) for one in known[start:]]
            advance(len(known[start : start + ASKED]))
    return matches


def _failed(one: Wanted, archive: str, error: SpectromerError) -> Match:
    return Match(one.label, archive, status=f"failed: {error}")


def bring(
    matches: Sequence[Match],
    folder: Path,
    *,
    force: bool = False,
    connections: int = downloads.CONNECTIONS,
) -> Outcome:
    """Bring what is missing of some matches into a folder, and keep its catalogue.

    Parameters
    ----------
    matches : sequence of Match
        From the archives' ``find``.
    folder : Path
        Made if missing.
    force : bool
        Bring also what is here already.
    connections : int
        How many files at a time.

    Returns
    -------
    Outcome

    Raises
    ------
    SpectromerError
        If the disk is full or cannot be written: then the rest is not tried.
    """
    make_folder(folder)
    fetched = Fetched(folder)
    before = fetched.index()
    here = {} if force else dict(before)
    outcome = Outcome()
    absent = {m.key: m for m in matches if m.status == WANTED and m.key not in here}
    for match in absent.values():
        match.forced = force
    failures: dict[tuple[str, str, str], str] = {}
    for match in matches:  # in the order of the targets, whatever comes first
        _row(fetched, match, before, failures)
    due = time.monotonic() + SAVE_EVERY
    try:
        with console.progress("spectra", len(absent)) as advance:
            for match, result in downloads.bring_all(list(absent.values()), folder, connections):
                if isinstance(result, NetworkError):
                    failures[match.key] = f"failed: {result}"
                    console.error(str(result), result.hint)
                    outcome.errors.append(str(result))
                elif isinstance(result, SpectromerError):
                    raise result
                else:
                    here[match.key] = fetched.put(match, result)
                    outcome.came += 1
                advance(1)
                if time.monotonic() > due:
                    due = time.monotonic()
                    fetched.save()  # 30,000 rows take two seconds
                    due += max(SAVE_EVERY, 10 * (time.monotonic() - due))
    finally:
        # Also after Ctrl-C, and where the disk is full: as much of it as can be.
        before |= here
        outcome.rows = [_row(fetched, match, before, failures) for match in matches]
        fetched.save()
    for match in matches:
        if match.key in failures or match.status.startswith("failed"):
            outcome.failed += 1
        elif match.status.startswith(NO_MATCH):
            outcome.without += 1
        elif match.key not in absent:
            outcome.here += 1
    outcome.errors += sorted(
        {m.status.removeprefix("failed: ") for m in matches if m.status.startswith("failed")}
        - set(outcome.errors)
    )
    return outcome


def _row(
    fetched: Fetched,
    match: Match,
    here: dict[tuple[str, str, str], Row],
    failures: dict[tuple[str, str, str], str],
) -> Row:
    if match.status == WANTED and match.key in here:
        return fetched.put(match, other=here[match.key])
    if match.key in failures:
        match.status = failures[match.key]
    return fetched.put(match)


def missing(matches: Sequence[Match], folder: Path, force: bool) -> list[Match]:
    """What `bring` would bring: each spectrum once, without those that are here already."""
    here = {} if force else Fetched(folder).index()
    return list({m.key: m for m in matches if m.status == WANTED and m.key not in here}.values())


def about_bytes(matches: Sequence[Match]) -> int | None:
    """How large the files of matches are together; None if no server tells a size.

    A few files of each archive are asked for, the others are taken to be like them.
    """
    total, known = 0.0, False
    for archive in sorted({match.archive for match in matches}):
        mine = [match for match in matches if match.archive == archive]
        sizes = [_size(match) for match in mine[:SIZED] if match.bring is None]
        found = [size for size in sizes if size]
        if found:
            known = True
            total += sum(found) / len(found) * len(mine)
    return round(total) if known else None


def _size(match: Match) -> int | None:
    try:
        return http.patiently(
            match.url, lambda first: http.size_of(match.url, downloads.TIMEOUT, match.query), 2
        )
    except NetworkError as error:  # some servers refuse to tell a size, and send the file
        console.info(f"no size: {error}")
        return None
