"""What the `fetch` commands share: from targets to matches, files, rows and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import NetworkError, SomeInputsFailed, UsageError

if TYPE_CHECKING:
    from spectromer_cli.archives.fetch import Outcome
    from spectromer_cli.archives.match import Match


@dataclass(frozen=True)
class How:
    """The options of all `fetch` commands, by their names."""

    output: Path
    dry_run: bool
    force: bool
    max_connections: int
    json: bool


def one_way(targets: object, catalog: Path | None, ids: object, option: str) -> None:
    """Check that exactly one thing says what to fetch.

    Raises
    ------
    UsageError
        If none does, or several.
    """
    ways = [bool(targets), catalog is not None, bool(ids)]
    if sum(ways) != 1:
        raise UsageError(
            "too many ways to say what to fetch" if any(ways) else "nothing to fetch",
            f"give one of: {', '.join(filter(None, ['targets', '--catalog', option]))}",
        )


def by_ids(how: How, archive: str, ids: Sequence[dict[str, int]], **asking: Any) -> None:
    """Fetch spectra that their ids name."""
    from spectromer_cli.archives.targets import Wanted

    wanted = [Wanted("-".join(map(str, one.values())), ids=one) for one in ids]
    finish(how, _found(archive, wanted, 0.0, asking))


def by_targets(
    how: How,
    archives: Sequence[str],
    targets: Sequence[str] | None,
    catalog: Path | None,
    radius: str,
    **asking: Any,
) -> None:
    """Fetch what archives have of names, places, or the rows of a catalogue."""
    from spectromer_cli.archives import names
    from spectromer_cli.archives.targets import KEYS, from_catalogue, from_text, radius_of

    for text in targets or []:
        if text in KEYS:
            raise UsageError(f"{text} is an archive", f"write it first: spectromer fetch {text} …")
    arcsec = radius_of(radius)
    wanted = [from_text(text) for text in targets or []]
    if catalog is not None:
        wanted = from_catalogue(catalog)
    wanted = names.resolve(wanted)
    matches: list[Match] = []
    for archive in archives:
        try:
            matches += _found(archive, wanted, arcsec, asking)
        except UsageError as error:  # the client of one archive is missing: the others go on
            if len(archives) == 1:
                raise
            console.warn(f"{archive} is passed over: {error}; {error.hint}")
    finish(how, matches)


def _found(archive: str, wanted: Sequence[Any], radius: float, asking: Any) -> list[Match]:
    from spectromer_cli.archives import fetch

    find = import_module(f"spectromer_cli.archives.{archive}").find
    console.info(f"asking {archive} for {len(wanted)} targets")
    return fetch.look(lambda some: find(some, radius, **asking), wanted, archive)


def asked(archive: str, find: Callable[[], list[Match]]) -> list[Match]:
    """The answer to a question that is no list of targets."""
    console.info(f"asking {archive}")
    return find()


def finish(how: How, matches: list[Match]) -> None:
    """Bring what is missing, print the rows, and end with the exit code that is due.

    Raises
    ------
    SomeInputsFailed
        If some spectra did not come.
    NetworkError
        If none did.
    """
    from spectromer_cli.archives import fetch
    from spectromer_cli.archives.catalogue import NAME
    from spectromer_cli.archives.match import NO_MATCH, WANTED

    if how.dry_run:
        missing = fetch.missing(matches, how.output, how.force)
        wanted = len({match.key for match in matches if match.status == WANTED})
        without = sum(match.status.startswith(NO_MATCH) for match in matches)
        _say_plan(how, missing, wanted - len(missing), without)
        failed = [match for match in matches if match.status.startswith("failed")]
        _raise_for(len(failed), len(matches) - len(failed))
        return
    outcome = fetch.bring(matches, how.output, force=how.force, connections=how.max_connections)
    _print(how, outcome)
    _end(how.output / NAME, outcome)


def training_set(how: How, release: str, per_class: int, min_sn: float) -> None:
    """Assemble a training set, and end as `finish` does."""
    from spectromer_cli.archives import sdss_training_set
    from spectromer_cli.outputs.screen import envelope

    choice = sdss_training_set.Choice(release, per_class, min_sn)
    if how.dry_run:
        missing, total = sdss_training_set.missing(choice, how.output, how.force)
        _say_plan(how, missing, total - len(missing), 0)
        return
    outcome = sdss_training_set.assemble(
        choice, how.output, force=how.force, connections=how.max_connections
    )
    labels = how.output / sdss_training_set.LABELS
    if how.json:
        counts = {name: getattr(outcome, name) for name in ("came", "here", "without", "failed")}
        print(envelope(_status(outcome), outcome.errors, **counts, labels=str(labels)))
    else:
        print(labels)
    _end(labels, outcome)


def _say_plan(how: How, missing: list[Match], here: int, without: int) -> None:
    """Counts and sizes of --dry-run."""
    from spectromer_cli.archives import fetch
    from spectromer_cli.outputs.screen import envelope

    size = fetch.about_bytes(missing)
    if how.json:
        numbers = {"to_fetch": len(missing), "bytes": size, "here": here, "without": without}
        print(envelope("success", [], **numbers))
        return
    told = "size not told" if size is None else f"about {size / 1e6:.1f} MB"
    print(
        f"{len(missing)} to fetch ({told}), {here} here already, "
        f"{without} targets without a spectrum"
    )


def _status(outcome: Outcome) -> str:
    if not outcome.failed:
        return "success"
    return "partial" if outcome.came + outcome.here else "error"


def _print(how: How, outcome: Outcome) -> None:
    """The rows on stdout: JSON, a table for a person, or CSV for a pipe."""
    from spectromer_cli.archives.catalogue import table_of
    from spectromer_cli.outputs import screen, tables
    from spectromer_cli.outputs.provenance import provenance

    table = table_of(outcome.rows)
    if how.json:
        print(screen.to_json_document(table, provenance(), _status(outcome), outcome.errors))
    elif sys.stdout.isatty():
        columns = ["file", "target", "archive", "survey_class", "survey_z", "separation", "status"]
        screen.show(table[columns], "Fetched")
    else:
        with tables.open_writer(None, provenance()) as writer:
            writer.write(table)


def _end(catalogue: Path, outcome: Outcome) -> None:
    console.info(
        f"{outcome.came} came, {outcome.here} were here, {outcome.without} targets have no "
        f"spectrum, {outcome.failed} failed; {catalogue} lists them"
    )
    _raise_for(outcome.failed, outcome.came + outcome.here)


def _raise_for(failed: int, others: int) -> None:
    """End with the exit code that is due."""
    if failed and others:
        raise SomeInputsFailed(
            f"{failed} failed; the column status says why",
            "run the same command again: it fetches only what is missing",
        )
    if failed:
        failure = NetworkError(
            f"all {failed} failed; the column status says why",
            "run the same command again later",
        )
        failure.told = True
        raise failure
