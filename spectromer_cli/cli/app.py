"""The Typer app: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from spectromer_cli import console
from spectromer_cli._version import __version__
from spectromer_cli.cli import (
    classify,
    evaluate,
    explain,
    fetch,
    finetune,
    plot,
    redshift,
    render,
    report,
    simulate,
    train,
    weights,
)
from spectromer_cli.errors import SpectromerError

app = typer.Typer(
    name="spectromer",
    help="Classes and redshifts of astronomical spectra with a Vision Transformer.",
    epilog="Examples:  spectromer classify docs/examples/*.fits  ·  "
    "spectromer redshift --catalog docs/examples/targets.csv -o z.ecsv",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"spectromer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Classes and redshifts of astronomical spectra with a Vision Transformer."""


for _module in (
    classify,
    redshift,
    explain,
    evaluate,
    render,
    plot,
    report,
    fetch,
    simulate,
    weights,
    finetune,
    train,
):
    _name = _module.__name__.rpartition(".")[2]
    if hasattr(_module, "commands"):
        app.add_typer(_module.commands, name=_name)
    else:
        _command = app.command(_name, epilog=_module.EPILOG, no_args_is_help=True)
        _command(getattr(_module, _name))


def main() -> None:
    """Run the program; the entry point of `spectromer` and `python -m spectromer_cli`."""
    # Batch systems end jobs with SIGTERM: leave as after Ctrl-C, without half a file.
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except SpectromerError as error:
        _debug()
        if not error.told:
            _json_error(str(error))
        console.error(str(error), error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.error("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == 2:
            _json_error("the command line is not understood: see stderr")
        raise
    except Exception as error:
        _debug()
        _json_error(f"{type(error).__name__}: {error}")
        console.error(
            f"something unexpected happened ({type(error).__name__}: {error})",
            "run it again with SPECTROMER_DEBUG=1 and report what it prints",
        )
        sys.exit(1)


def _json_error(message: str) -> None:
    """Who asked for JSON gets JSON, whatever happens."""
    if "--json" in sys.argv:
        from spectromer_cli.outputs.screen import envelope

        print(envelope("error", [message]))


def _stop(signal_number: int, frame: object) -> None:
    raise SystemExit(128 + signal_number)


def _debug() -> None:
    if os.environ.get("SPECTROMER_DEBUG") == "1":
        raise
