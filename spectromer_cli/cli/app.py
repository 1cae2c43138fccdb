"""The Typer app: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from spectromer_cli import console
from spectromer_cli._version import __version__
from spectromer_cli.cli import (
    classify,
    evaluate,
    examples,
    explain,
    fetch,
    finetune,
    info,
    inspect,
    options,
    pack,
    plot,
    redshift,
    render,
    report,
    simulate,
    train,
    weights,
    zwarn,
)
from spectromer_cli.errors import SpectromerError

# What writing to stdout fails with, where a file's own errors have been told by its name.
_OF_STDOUT = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EINVAL)


class _Interrupted(Exception):
    """Ctrl-C."""


class _StdoutFailed(Exception):
    """The OSError of a stdout that was closed, or whose disk is full."""


class _App(TyperGroup):
    """The commands; what Typer would end the program for comes to `main` instead."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except OSError as error:
            if error.filename is None and error.errno in _OF_STDOUT:
                raise _StdoutFailed(error) from error
            raise


class _Command(TyperCommand):
    """A command some of whose options may stand without their value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = list(args)
        for i, word in enumerate(args):
            is_last = i + 1 == len(args) or args[i + 1].startswith("-")
            if word in options.WITHOUT_VALUE and is_last:
                args[i] = f"{word}={options.WITHOUT_VALUE[word]}"
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="spectromer",
    cls=_App,
    help="Classes and redshifts of astronomical spectra with a Vision Transformer.",
    epilog="Examples:  spectromer examples  ·  spectromer classify examples/*.fits  ·  "
    "spectromer redshift --catalog examples/targets.csv -o z.ecsv",
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
    pack,
    inspect,
    zwarn,
    examples,
    info,
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
        # These two are of use without arguments.
        _command = app.command(
            _name,
            cls=_Command,
            epilog=_module.EPILOG,
            no_args_is_help=_module not in (info, examples),
        )
        _command(getattr(_module, _name))


def main() -> None:
    """Run the program; the entry point of `spectromer` and `python -m spectromer_cli`."""
    console.prepare_streams()
    # Batch systems end jobs with SIGTERM, and a terminal that closes sends SIGHUP: leave as after
    # Ctrl-C, without half a file.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _stdout_failed(error)
    sys.exit(code)


def _run() -> int | str | None:
    """The app, and its errors as messages; the exit code."""
    try:
        app()
    except SpectromerError as error:
        _debug()
        if not error.told:
            _json_error(str(error))
        console.error(str(error), error.hint)
        return error.exit_code
    except _Interrupted:
        console.error("interrupted")
        return 130
    except _StdoutFailed as failure:
        return _stdout_failed(failure.args[0])
    except SystemExit as stop:
        if stop.code == 2:
            _json_error("invalid command line: see stderr")
        return stop.code
    except Exception as error:
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    _debug()
    _json_error(f"{type(error).__name__}: {error}")
    console.error(
        f"unexpected error ({type(error).__name__}: {error})",
        "run it again with SPECTROMER_DEBUG=1 and report the output",
    )
    return 1


def _stdout_failed(error: OSError) -> int:
    if error.errno in (errno.EPIPE, errno.EINVAL):  # Windows says EINVAL of a closed pipe
        reason = "stdout was closed by the reading program"
    else:
        reason = f"stdout cannot be written: {error.strerror or error}"
    console.error(reason)
    # What is left in the buffer must not fail again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _json_error(message: str) -> None:
    """Who asked for JSON gets JSON, whatever happens."""
    if "--json" in sys.argv:
        from spectromer_cli.outputs.screen import envelope

        print(envelope("error", [message]))


def _stop(signal_number: int, frame: object) -> None:
    console.error(f"stopped by {signal.Signals(signal_number).name}")
    raise SystemExit(128 + signal_number)


def _debug() -> None:
    if os.environ.get("SPECTROMER_DEBUG") == "1":
        raise
