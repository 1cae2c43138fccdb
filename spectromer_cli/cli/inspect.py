"""`spectromer inspect`: results looked through by several inspectors, and their verdicts merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectromer_cli import console
from spectromer_cli.cli import options
from spectromer_cli.errors import UsageError
from spectromer_cli.paths import claimed

if TYPE_CHECKING:
    from spectromer_cli.inspector.merge import Merged

EPILOG = """Examples:

spectromer inspect z.ecsv

spectromer inspect z.ecsv --port 8765

spectromer inspect --catalog examples/truth.csv

spectromer inspect --merge anna.csv ben.csv -o merged.csv

spectromer inspect --merge z.ecsv.verdicts.sqlite
"""


def inspect(
    tables: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULTS",
            help="Output of redshift or classify; with --merge, files of verdicts.",
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Merge verdicts: exported CSV files, or the database kept beside the results.",
        ),
    ] = False,
    catalog: options.Catalog = None,
    spectra_dir: options.SpectraDirOfResults = None,
    importance: options.Importance = None,
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 for any free port."),
    ] = 0,
    output: options.Output = None,
    json_output: options.Json = False,
    model: options.Model = None,
    air: options.Air = None,
    wavelength_unit: options.WavelengthUnit = "",
    max_file_size: options.MaxFileSize = "2GB",
    file_timeout: options.FileTimeout = 60.0,
    quiet: options.Quiet = 0,
) -> None:
    """Inspect results visually with several people, and merge the verdicts.

    Serves the page of `report` on this machine only, at an address with a
    random token, which is printed; stop it with Ctrl-C. The verdicts of all
    inspectors, with their history, are kept beside the results in
    RESULTS.verdicts.sqlite; run the same command to resume. From another
    machine: ssh -L 8765:127.0.0.1:8765 HOST, and --port 8765 there.

    With --merge, prints the merged list, one row per spectrum (or writes it,
    with -o), the agreement between inspectors and the spectra in conflict.
    """
    console.set_quiet(quiet)
    tables = tables or []
    if merge:
        _merge(tables, output, json_output)
        return
    if output or json_output:
        raise UsageError("-o and --json need --merge", "export verdicts from the page instead")
    if len(tables) > 1:
        raise UsageError(f"{len(tables)} tables of results given", "give one, or --merge")
    from spectromer_cli.inspector.build import Material
    from spectromer_cli.inspector.server import serve
    from spectromer_cli.weights.store import resolve

    material = Material(
        tables[0] if tables else None,
        resolve(model),
        catalog=catalog,
        spectra_dir=spectra_dir,
        importance=importance,
        air=air,
        wavelength_unit=wavelength_unit,
        max_file_size=max_file_size,
        file_timeout=file_timeout,
    )
    serve(material, port, lambda address: print(address, flush=True))


def _merge(paths: list[Path], output: Path | None, json_output: bool) -> None:
    from spectromer_cli.inspector.merge import merge
    from spectromer_cli.outputs import screen
    from spectromer_cli.outputs.protect import Outputs
    from spectromer_cli.outputs.provenance import provenance
    from spectromer_cli.outputs.tables import check_output, open_writer

    if not paths:
        raise UsageError(
            "--merge needs files of verdicts", "spectromer inspect --merge a.csv b.csv"
        )
    if output and json_output:
        raise UsageError("-o and --json exclude each other", "give one of them")
    if output:
        check_output(output)
        Outputs([output]).refuse_all(paths)
    merged = merge(paths)
    record = provenance()
    if json_output:
        content = {
            "inspectors": merged.inspectors, "agreement": merged.agreement,
            "conflicts": merged.conflicts,
        }  # fmt: skip
        print(screen.to_json_document(merged.table, record, "success", [], **content))
        return
    if output:
        with claimed(output), open_writer(output, record) as writer:
            writer.write(merged.table)
        print(output)
    else:
        screen.put([merged.table], record, "merged verdicts")
    _say(merged)


def _say(merged: Merged) -> None:
    for name, count in merged.inspectors.items():
        console.info(f"{name}: {count} spectra")
    for pair in merged.agreement:
        names = " and ".join(pair["inspectors"])
        shares = [
            f"{name} {pair[name]:.3f}"
            for name in ("class", "z", "quality", "all")
            if pair[name] is not None
        ]
        console.info(f"{names}: {pair['spectra']} spectra in common; agreement: "
                     f"{', '.join(shares) or 'none'}")  # fmt: skip
    console.info(f"{len(merged.conflicts)} of {len(merged.table)} spectra are in conflict")
    for line in merged.conflicts:
        console.info(f"conflict: {line}")
