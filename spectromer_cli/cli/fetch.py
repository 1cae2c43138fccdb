"""`spectromer fetch`: spectra from the archives, from a list of targets to files on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import NetworkError, SomeInputsFailed, UsageError

if TYPE_CHECKING:
    from spectromer_cli.archives.fetch import Outcome

EPILOG = """Examples:

spectromer fetch examples -o spectra/

spectromer fetch "M 87"

spectromer fetch sdss --plate 266 --mjd 51602 --fiber 1 -o spectra/
"""


class _NamesToo(TyperGroup):
    """A group of commands whose first word may also be the name of an object on the sky."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["object", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(
    cls=_NamesToo,
    help="Find, download and verify spectra from the archives.\n\n"
    "Anything that is not a command is taken as the name of an object and searched for in every "
    "archive. The spectra are listed in fetched.ecsv in the output folder, which other commands "
    "read with --catalog. A second run fetches only what is missing.",
    epilog=EPILOG,
    no_args_is_help=True,
)


Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGETS...",
        help="Names, or coordinates in degrees or sexagesimal: 'M 87', '187.706 12.391'.",
        show_default=False,
    ),
]
Catalog = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help="Table of targets in any format; columns of ids, coordinates or names are recognised "
        "by their usual names.",
        rich_help_panel=options.INPUTS,
    ),
]
Id = Annotated[int | None, typer.Option(rich_help_panel=options.INPUTS)]
RobotId = Annotated[
    int | None, typer.Option(help="SDSS-V, with --mjd.", rich_help_panel=options.INPUTS)
]
Ids = Annotated[
    list[int] | None,
    typer.Option(help="May be repeated.", rich_help_panel=options.INPUTS, show_default=False),
]
Radius = Annotated[
    str,
    typer.Option(
        "--radius",
        metavar="ANGLE",
        help="Search radius: 2arcsec, 0.1arcmin; at most 3arcmin.",
        rich_help_panel=options.INPUTS,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the number and size of the files without downloading them."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Download files again even if they are already here.")
]
Connections = Annotated[
    int,
    typer.Option(
        "--max-connections", min=1, max=16, help="Simultaneous downloads, over all servers."
    ),
]


@dataclass(frozen=True)
class How:
    """The options that all `fetch` commands have, and what they do with an outcome."""

    output: options.OutputFolder = Path("spectra")
    dry_run: DryRun = False
    force: Force = False
    max_connections: Connections = 4
    as_json: options.Json = False
    quiet: options.Quiet = 0

    def __post_init__(self) -> None:
        console.set_quiet(self.quiet)

    @property
    def settings(self) -> dict[str, Any]:
        """Those of `archives.fetch.fetch`."""
        return {
            "dry_run": self.dry_run, "force": self.force, "max_connections": self.max_connections,
        }  # fmt: skip

    def run(self, *, targets: list[str] | None, **what: Any) -> None:
        """Fetch, and show what came of it."""
        from spectromer_cli.archives.fetch import fetch

        self.show(fetch(targets or (), self.output, **what, **self.settings))

    def show(self, outcome: Outcome, labels: Path | None = None) -> None:
        """Print the rows, or for a training set where its labels are; end with the exit code due.

        Raises
        ------
        SomeInputsFailed
            If some spectra did not come.
        NetworkError
            If none did.
        """
        from spectromer_cli.archives.catalogue import NAME
        from spectromer_cli.outputs import screen

        others = outcome.fetched + outcome.here + len(outcome.missing)
        status = "success" if not outcome.failed else "partial" if others else "error"
        if self.dry_run and outcome.failed and not others:
            raise NetworkError("no archive responded", "run it again later")
        if self.dry_run:
            _show_plan(outcome, status, self.as_json)
        else:
            if labels is None:
                _show_rows(outcome, status, self.as_json)
            elif self.as_json:
                counts = ("fetched", "here", "without", "failed")
                numbers = {name: getattr(outcome, name) for name in counts}
                print(screen.envelope(status, outcome.errors, **numbers, labels=str(labels)))
            else:
                print(labels)
            console.info(
                f"{outcome.fetched} fetched, {outcome.here} already here, {outcome.without} "
                f"targets without a spectrum, {outcome.failed} failed; listed in "
                f"{labels or self.output / NAME}"
            )
        if outcome.failed and others:
            raise SomeInputsFailed(
                f"{outcome.failed} failed; see the column status",
                "run the same command again to fetch only what is missing",
            )
        if outcome.failed:
            failure = NetworkError(
                f"all {outcome.failed} failed; see the column status",
                "run the same command again later",
            )
            failure.told = True
            raise failure


def _command(name: str | None = None, *, epilog: str, folder: str = "spectra") -> Any:
    """Register a function of a `How` and its own options as a command that has both kinds."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(function, eval_str=True).parameters.values())[1:]
        shared = dict(signature(How, eval_str=True).parameters)
        shared["output"] = shared["output"].replace(default=Path(folder))

        @wraps(function)
        def command(**given: Any) -> None:
            how = How(**{name: given.pop(name) for name in shared})
            function(how, **given)

        # What Typer reads the options from.
        command.__signature__ = Signature([*own, *shared.values()])  # type: ignore[attr-defined]
        command.__annotations__ = {}
        commands.command(name, epilog=epilog)(command)
        return function

    return register


def _release(default: str, text: str) -> Any:
    return typer.Option("--release", metavar=default, help=text, rich_help_panel=options.INPUTS)


@_command(
    epilog="Examples:\n\nspectromer fetch sdss --plate 266 --mjd 51602 --fiber 1 -o spectra/\n\n"
    "spectromer fetch sdss --catalog targets.csv --radius 2arcsec\n\n"
    'spectromer fetch sdss --sql "SELECT TOP 500 plate, mjd, fiberID, run2d FROM SpecObj '
    "WHERE class = 'QSO' AND z > 3\"\n\n"
    "spectromer fetch sdss --field 15000 --mjd 59146 --catalogid 4375924756 --release dr19\n"
)
def sdss(
    how: How,
    targets: Targets = None,
    catalog: Catalog = None,
    plate: Id = None,
    mjd: Id = None,
    fiber: Id = None,
    field: RobotId = None,
    catalogid: RobotId = None,
    sql: Annotated[
        str | None,
        typer.Option(
            help="SQL for SkyServer; select plate, mjd, fiberID, run2d, and optionally ra, dec, "
            "class, subClass, z, zErr, zWarning.",
            rich_help_panel=options.INPUTS,
        ),
    ] = None,
    radius: Radius = "2arcsec",
    release: Annotated[str, _release("dr17", "Data release, dr9 to dr19.")] = "dr17",
) -> None:
    """SDSS, BOSS, eBOSS and SDSS-V: the small "lite" files."""
    given = {"plate": plate, "field": field, "mjd": mjd, "fiberid": fiber, "catalogid": catalogid}
    ids = {name: value for name, value in given.items() if value is not None}
    how.run(
        targets=targets, catalog=catalog, ids=[ids] if ids else [], sql=sql or "",
        archive="sdss", radius=radius, release=release,
    )  # fmt: skip


@_command(
    epilog="Examples:\n\nspectromer fetch lamost --obsid 101001 --release dr10\n\n"
    "spectromer fetch lamost '332.2024 -2.0567' --release gavo\n"
)
def lamost(
    how: How,
    targets: Targets = None,
    catalog: Catalog = None,
    obsid: Ids = None,
    radius: Radius = "2arcsec",
    release: Annotated[
        str, _release("dr10", "Data release: dr7 to dr11, dr12/v1.0, or gavo for GAVO's DR6.")
    ] = "dr10",
    token: Annotated[
        str | None,
        typer.Option(
            help="For releases that are not public; better set as SPECTROMER_LAMOST_TOKEN.",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
) -> None:
    """LAMOST, low resolution; places are looked up in the catalogues of DR5 and DR7."""
    how.run(
        targets=targets, catalog=catalog, ids=[{"obsid": one} for one in obsid or []],
        archive="lamost", radius=radius, release=release, token=token,
    )  # fmt: skip


@_command(
    epilog="Examples:\n\nspectromer fetch desi --targetid 39628473198347264 --release DR1\n\n"
    "spectromer fetch desi '187.706 12.391' --radius 10arcsec\n"
)
def desi(
    how: How,
    targets: Targets = None,
    catalog: Catalog = None,
    targetid: Ids = None,
    radius: Radius = "2arcsec",
    release: Annotated[str, _release("DR1", "Data release, EDR or DR1.")] = "DR1",
) -> None:
    """DESI, through SPARCL and its client, which the extra desi installs."""
    how.run(
        targets=targets, catalog=catalog, ids=[{"targetid": one} for one in targetid or []],
        archive="desi", radius=radius, release=release,
    )  # fmt: skip


@_command(
    epilog="Examples:\n\nspectromer fetch eso 'NGC 253' --instrument XSHOOTER --radius 10arcsec\n"
)
def eso(
    how: How,
    targets: Targets = None,
    catalog: Catalog = None,
    radius: Radius = "2arcsec",
    instrument: Annotated[
        str, typer.Option(help="Only spectra of this instrument.", rich_help_panel=options.INPUTS)
    ] = "",
) -> None:
    """ESO Phase 3: reduced spectra of all instruments."""
    how.run(targets=targets, catalog=catalog, archive="eso", radius=radius, instrument=instrument)


@_command(
    "object",
    epilog='Examples:\n\nspectromer fetch "M 87"\n\n'
    "spectromer fetch object '187.706 12.391' --radius 10arcsec --dry-run\n",
)
def any_archive(
    how: How,
    targets: Targets = None,
    catalog: Catalog = None,
    radius: Radius = "5arcsec",
) -> None:
    """Search every archive for an object; the word object may be left out."""
    from spectromer_cli.archives.targets import KEYS

    for text in targets or []:
        if text in KEYS:
            raise UsageError(f"{text} is an archive", f"put it first: spectromer fetch {text} …")
    how.run(targets=targets, catalog=catalog, radius=radius)


@_command(epilog="Examples:\n\nspectromer fetch examples -o spectra/\n")
def examples(how: How) -> None:
    """A small real sample: a star, a galaxy and a quasar of SDSS, and a LAMOST star."""
    from spectromer_cli.archives.fetch import example_matches, fetch_matches

    how.show(fetch_matches(example_matches(), how.output, **how.settings))


@_command(
    epilog="Examples:\n\n"
    "spectromer fetch training --release dr17 --per-class 30000 --min-sn 5 -o training/\n",
    folder="training",
)
def training(
    how: How,
    release: Annotated[str, _release("dr17", "Data release of SDSS.")] = "dr17",
    per_class: Annotated[
        int, typer.Option(min=1, help="Spectra per class.", rich_help_panel=options.INPUTS)
    ] = 30000,
    min_sn: Annotated[
        float, typer.Option(help="Minimum median S/N per pixel.", rich_help_panel=options.INPUTS)
    ] = 5.0,
) -> None:
    """A labelled SDSS set for finetune: zWarning = 0, equal numbers of each class."""
    from spectromer_cli.archives.sdss_training_set import LABELS, Choice, assemble

    choice = Choice(release, per_class, min_sn)
    how.show(assemble(choice, how.output, **how.settings), how.output / LABELS)


def _show_plan(outcome: Outcome, status: str, as_json: bool) -> None:
    """Counts and sizes of --dry-run."""
    from spectromer_cli.outputs.screen import envelope

    missing, size = len(outcome.missing), outcome.about_bytes()
    if as_json:
        numbers = {"to_fetch": missing, "bytes": size}
        print(envelope(status, [], **numbers, here=outcome.here, without=outcome.without))
        return
    said = "size unknown" if size is None else f"about {size / 1e6:.1f} MB"
    print(
        f"{missing} to fetch ({said}), {outcome.here} already here, {outcome.without} targets "
        f"without a spectrum"
    )


def _show_rows(outcome: Outcome, status: str, as_json: bool) -> None:
    """The rows on stdout: JSON, a table for a person, or CSV for a pipe."""
    from spectromer_cli.outputs import screen, tables
    from spectromer_cli.outputs.provenance import provenance

    if as_json:
        print(screen.to_json_document(outcome.table, provenance(), status, outcome.errors))
    elif sys.stdout.isatty():
        columns = ["file", "target", "archive", "survey_class", "survey_z", "separation", "status"]
        table = outcome.table
        screen.show(table[[name for name in columns if name in table.colnames]], "Fetched")
    else:
        with tables.open_writer(None, provenance()) as writer:
            writer.write(outcome.table)
