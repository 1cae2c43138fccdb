"""`spectromer fetch`: spectra from the archives, from a list of targets to files on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spectromer_cli import console
from spectromer_cli.cli import fetching, options
from spectromer_cli.errors import UsageError

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
    help="Spectra from the archives: found, downloaded, verified, and kept in a catalogue.\n\n"
    "What is no command is the name of an object, and every archive is asked for it. The folder "
    "gets a catalogue, fetched.ecsv, which --catalog of the other commands takes. A second run "
    "fetches only what is missing.",
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
        help="Table of targets in any format; columns of ids, coordinates or names are found "
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
        help="How far from a place: 2arcsec, 0.1arcmin; at most 3arcmin.",
        rich_help_panel=options.INPUTS,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say how many files and bytes; download nothing.")
]
Force = Annotated[bool, typer.Option("--force", help="Download again what is already here.")]
Connections = Annotated[
    int,
    typer.Option("--max-connections", min=1, max=16, help="Files at a time, over all servers."),
]


def _release(default: str, text: str) -> Any:
    return typer.Option("--release", metavar=default, help=text, rich_help_panel=options.INPUTS)


@commands.command(
    epilog="Examples:\n\nspectromer fetch sdss --plate 266 --mjd 51602 --fiber 1 -o spectra/\n\n"
    "spectromer fetch sdss --catalog targets.csv --radius 2arcsec\n\n"
    'spectromer fetch sdss --sql "SELECT TOP 500 plate, mjd, fiberID, run2d FROM SpecObj '
    "WHERE class = 'QSO' AND z > 3\"\n\n"
    "spectromer fetch sdss --field 15000 --mjd 59146 --catalogid 4375924756 --release dr19\n"
)
def sdss(
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
            help="SQL for SkyServer; select plate, mjd, fiberID, run2d, and what else is wanted "
            "of ra, dec, class, subClass, z, zErr, zWarning.",
            rich_help_panel=options.INPUTS,
        ),
    ] = None,
    radius: Radius = "2arcsec",
    release: Annotated[str, _release("dr17", "Data release, dr9 to dr19.")] = "dr17",
    output: options.OutputFolder = Path("spectra"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """SDSS, BOSS, eBOSS and SDSS-V: the small "lite" files."""
    console.set_quiet(quiet)
    from spectromer_cli.archives import sdss as archive

    ways = [bool(targets), catalog is not None, sql is not None, plate is not None]
    ways.append(field is not None or catalogid is not None)
    if sum(ways) != 1:
        raise UsageError(
            "nothing to fetch" if not any(ways) else "too many ways to say what to fetch",
            "give one of: targets, --catalog, --plate, --field and --catalogid, --sql",
        )
    how = fetching.How(output, dry_run, force, max_connections, as_json)
    if sql is not None:
        fetching.finish(how, fetching.asked("sdss", lambda: archive.find_sql(sql, release)))
    elif plate is not None:
        one = lambda: archive.find_plate(plate, mjd, fiber, release)  # noqa: E731
        fetching.finish(how, fetching.asked("sdss", one))
    elif field is not None or catalogid is not None:
        if field is None or catalogid is None or mjd is None:
            raise UsageError("SDSS-V goes by three ids", "give --field, --mjd and --catalogid")
        ids = {"field": field, "mjd": mjd, "catalogid": catalogid}
        fetching.by_ids(how, "sdss", [ids], release=release)
    else:
        fetching.by_targets(how, ["sdss"], targets, catalog, radius, release=release)


@commands.command(
    epilog="Examples:\n\nspectromer fetch lamost --obsid 101001 --release dr10\n\n"
    "spectromer fetch lamost '332.2024 -2.0567' --release gavo\n"
)
def lamost(
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
            help="For releases that are not public; better in SPECTROMER_LAMOST_TOKEN.",
            rich_help_panel=options.INPUTS,
            show_default=False,
        ),
    ] = None,
    output: options.OutputFolder = Path("spectra"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """LAMOST, low resolution; places are looked up in the catalogues of DR5 and DR7."""
    console.set_quiet(quiet)
    how = fetching.How(output, dry_run, force, max_connections, as_json)
    fetching.one_way(targets, catalog, obsid, "--obsid")
    if obsid:
        ids = [{"obsid": one} for one in obsid]
        fetching.by_ids(how, "lamost", ids, release=release, token=token)
    else:
        fetching.by_targets(how, ["lamost"], targets, catalog, radius, release=release, token=token)


@commands.command(
    epilog="Examples:\n\nspectromer fetch desi --targetid 39628473198347264 --release DR1\n\n"
    "spectromer fetch desi '187.706 12.391' --radius 10arcsec\n"
)
def desi(
    targets: Targets = None,
    catalog: Catalog = None,
    targetid: Ids = None,
    radius: Radius = "2arcsec",
    release: Annotated[str, _release("DR1", "Data release, EDR or DR1.")] = "DR1",
    output: options.OutputFolder = Path("spectra"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """DESI, through SPARCL and its client, which the extra desi installs."""
    console.set_quiet(quiet)
    how = fetching.How(output, dry_run, force, max_connections, as_json)
    fetching.one_way(targets, catalog, targetid, "--targetid")
    if targetid:
        fetching.by_ids(how, "desi", [{"targetid": one} for one in targetid], release=release)
    else:
        fetching.by_targets(how, ["desi"], targets, catalog, radius, release=release)


@commands.command(
    epilog="Examples:\n\nspectromer fetch eso 'NGC 253' --instrument XSHOOTER --radius 10arcsec\n"
)
def eso(
    targets: Targets = None,
    catalog: Catalog = None,
    radius: Radius = "2arcsec",
    instrument: Annotated[
        str, typer.Option(help="Of this instrument only.", rich_help_panel=options.INPUTS)
    ] = "",
    output: options.OutputFolder = Path("spectra"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """ESO Phase 3: reduced spectra of all instruments."""
    console.set_quiet(quiet)
    how = fetching.How(output, dry_run, force, max_connections, as_json)
    fetching.one_way(targets, catalog, None, "")
    fetching.by_targets(how, ["eso"], targets, catalog, radius, release=instrument)


@commands.command(
    "object",
    epilog='Examples:\n\nspectromer fetch "M 87"\n\n'
    "spectromer fetch object '187.706 12.391' --radius 10arcsec --dry-run\n",
)
def any_archive(
    targets: Targets = None,
    catalog: Catalog = None,
    radius: Radius = "5arcsec",
    output: options.OutputFolder = Path("spectra"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """Ask every archive for an object; the word object may be left out."""
    console.set_quiet(quiet)
    how = fetching.How(output, dry_run, force, max_connections, as_json)
    fetching.one_way(targets, catalog, None, "")
    archives = ["sdss", "lamost", "desi", "eso"]
    fetching.by_targets(how, archives, targets, catalog, radius)


@commands.command(epilog="Examples:\n\nspectromer fetch examples -o spectra/\n")
def examples(
    output: options.OutputFolder = Path("spectra"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """A small real sample: a star, a galaxy and a quasar of SDSS, and a LAMOST star."""
    console.set_quiet(quiet)
    from spectromer_cli.archives import examples as sample

    how = fetching.How(output, dry_run, force, max_connections, as_json)
    fetching.finish(how, sample.find())


@commands.command(
    epilog="Examples:\n\n"
    "spectromer fetch training --release dr17 --per-class 30000 --min-sn 5 -o training/\n"
)
def training(
    release: Annotated[str, _release("dr17", "Data release of SDSS.")] = "dr17",
    per_class: Annotated[
        int, typer.Option(min=1, help="Spectra of each class.", rich_help_panel=options.INPUTS)
    ] = 30000,
    min_sn: Annotated[
        float, typer.Option(help="Least median S/N a pixel.", rich_help_panel=options.INPUTS)
    ] = 5.0,
    output: options.OutputFolder = Path("training"),
    dry_run: DryRun = False,
    force: Force = False,
    max_connections: Connections = 4,
    as_json: options.Json = False,
    quiet: options.Quiet = 0,
) -> None:
    """A labelled set of SDSS for finetune: zWarning = 0, as many stars as galaxies and quasars."""
    console.set_quiet(quiet)
    how = fetching.How(output, dry_run, force, max_connections, as_json)
    fetching.training_set(how, release, per_class, min_sn)
