"""`spectromer weights`: list, describe, find, download and verify the weights."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import UsageError, WeightsNotVerified

if TYPE_CHECKING:
    from spectromer_cli.weights.store import Located

Name = Annotated[
    str,
    typer.Argument(
        help="A listed name, a folder, or hf-hub:owner/name.",
        autocompletion=options.weights,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="As for info (default: all listed weights on this machine).",
        autocompletion=options.weights,
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Download again what is already here.")]

commands = typer.Typer(
    help="List, locate, download, publish and verify the weights of the model.",
    epilog="Examples:  spectromer weights list  ·  spectromer weights verify",
    no_args_is_help=True,
)


@commands.command(
    "list",
    epilog="Examples:  spectromer weights list  ·  spectromer weights list --json",
)
def list_weights(as_json: options.Json = False) -> None:
    """List the weights that this version knows."""
    from spectromer_cli.weights.manifest import bundled_manifest
    from spectromer_cli.weights.store import locate

    manifest = bundled_manifest()
    rows = [_described(locate(name)) for name in manifest.entries]
    if as_json:
        _print_json({"default": manifest.default, "weights": rows})
        return
    if not rows:
        console.warn(f"this installation contains no weights (no manifest in {manifest.folder})")
        return
    from spectromer_cli.outputs import screen

    screen.print_rows(
        [
            {
                "name": row["name"],
                "default": "yes" if row["name"] == manifest.default else "",
                "size": _size(row.get("size")),
                "image": row.get("image", ""),
                "on this machine": "yes" if row["path"] else "no",
                "description": row.get("description", ""),
            }
            for row in rows
        ]
    )


@commands.command(
    epilog="Examples:  spectromer weights info spectromer-tiny.v4  ·  "
    "spectromer weights info spectromer-tiny.v4 --json",
)
def info(name: Name, as_json: options.Json = False) -> None:
    """Describe weights: size, licence, what they were trained on, image, grid, labels."""
    from spectromer_cli.weights.store import locate

    row = _described(locate(name))
    if as_json:
        _print_json(row)
        return
    from spectromer_cli.outputs import screen

    row = {**row, "path": row["path"] or "not on this machine"}
    screen.print_pairs({key: _readable(key, value) for key, value in row.items()})


@commands.command(
    epilog="Examples:  spectromer weights path spectromer-tiny.v4",
)
def path(name: Name) -> None:
    """Print the path of the verified file, downloading it first if necessary."""
    from spectromer_cli.weights.store import resolve

    print(resolve(name).path)


@commands.command(
    epilog="Examples:  spectromer weights download spectromer-tiny.v4 -q",
)
def download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL",
            help="A listed name, hf-hub:owner/name, or the URL of a published file.",
        ),
    ],
    sha256: Annotated[
        str, typer.Option("--sha256", metavar="HEX", help="Expected sha256 of the file at a URL.")
    ] = "",
    force: Force = False,
    quiet: options.Quiet = 0,
) -> None:
    """Download weights into the cache, verify them, and print their path."""
    from spectromer_cli.weights.publish import download_published
    from spectromer_cli.weights.store import resolve

    console.set_quiet(quiet)
    if not name.startswith(("http://", "https://")):
        print(resolve(name, force=force).path)
        return
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(
            "weights from a URL need their sha256",
            "give --sha256 HEX (64 digits), as published with the weights",
        )
    print(download_published(name, sha256))


@commands.command(
    epilog="Examples:  spectromer weights publish runs/mine --to published/",
)
def publish(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Output folder.")],
) -> None:
    """Copy the weights of a run, their card and manifest to a folder for a web server.

    Prints the sha256 and the file. Others download it with spectromer weights
    download URL --sha256 HEX.
    """
    from spectromer_cli.weights.publish import publish as copy

    entry = copy(run, to)
    print(entry["sha256"], to / entry["file"], sep="  ")
    console.info(
        f"put {to} on a server; to download: spectromer weights download URL/{entry['file']} "
        f"--sha256 {entry['sha256']}"
    )


@commands.command(
    epilog="Examples:  spectromer weights verify  ·  "
    "spectromer weights verify spectromer-tiny.v4 --json",
)
def verify(names: Names = None, as_json: options.Json = False) -> None:
    """Check the sha256 of the files against the manifest; exit code 5 if one is wrong."""
    from spectromer_cli.weights import store
    from spectromer_cli.weights.manifest import bundled_manifest

    rows, wrong = [], []
    for name in names or bundled_manifest().entries:
        found = store.locate(name)
        if found.path is None:
            if names:
                raise UsageError(
                    f"the weights {name} are not on this machine",
                    f"spectromer weights download {name}",
                )
            continue
        try:
            store.verify(found)
            verified = True
        except WeightsNotVerified as error:
            wrong.append(error)
            verified = False
        rows.append({"name": found.name, "path": str(found.path), "verified": verified})
    if as_json:
        _print_json({"weights": rows})
    else:
        for row in rows:
            print("ok   " if row["verified"] else "WRONG", row["name"], row["path"], sep="  ")
    for other in wrong[:-1]:
        console.error(str(other), other.hint)
    if wrong:
        wrong[-1].told = as_json
        raise wrong[-1]


def _described(found: Located) -> dict[str, Any]:
    """The manifest's entry and where the file is, or null."""
    return {**found.entry, "name": found.name, "path": str(found.path) if found.path else None}


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _readable(key: str, value: Any) -> str:
    if key == "size":
        return _size(value)
    if key == "labels":
        return "; ".join(f"{task}: {', '.join(labels)}" for task, labels in value.items())
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return str(value)


def _size(size: int | None) -> str:
    """For people in MB, elsewhere in bytes."""
    if not size:
        return ""
    return f"{size / 1e6:.1f} MB" if sys.stdout.isatty() else str(size)
