"""Talk: messages and progress bars, all on stderr. stdout belongs to the data."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# 0 everything, 1 (-q) warnings and errors only, 2 (-qq) errors only.
_quiet = 0


def set_quiet(level: int) -> None:
    """Set how much is said: 0 everything, 1 warnings and errors, 2 errors only."""
    global _quiet
    _quiet = level


def info(message: str) -> None:
    """Say what is going on."""
    if _quiet < 1:
        _say(message, "dim")


def warn(message: str) -> None:
    """Say what the user should know but need not stop for."""
    if _quiet < 2:
        _say(f"warning: {message}", "yellow")


def error(message: str, hint: str = "") -> None:
    """Say what is wrong, in one line, and in a second what to do."""
    _say(f"error: {message}", "bold red")
    if hint:
        _say(f"  try: {hint}", "")


def printable(text: str) -> str:
    """The text with escapes for what a terminal would obey instead of show.

    Names of files may hold line feeds, or sequences that clear the screen or turn the direction
    of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _say(message: str, style: str) -> None:
    message = printable(message)
    try:
        if not sys.stderr.isatty():
            print(message, file=sys.stderr)
            return
        from rich.console import Console

        Console(stderr=True).print(
            message, style=style, markup=False, highlight=False, soft_wrap=True
        )
    except OSError:  # the terminal was closed, or the disk of a log is full: nobody can be told
        pass


def prepare_streams() -> None:
    """Make stdout and stderr take any name, whatever the code page.

    Data that go to a file or a pipe are UTF-8, unless ``PYTHONIOENCODING`` says otherwise. What
    an encoding has no character for is written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if not hasattr(stream, "reconfigure"):  # replaced by one that takes any text
            continue
        stream.reconfigure(errors="backslashreplace")
        is_data = stream is sys.stdout and not stream.isatty()
        if is_data and not os.environ.get("PYTHONIOENCODING"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def progress(
    description: str, total: float | None, unit: str = "", every: float | None = None
) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr while the block runs.

    Parameters
    ----------
    description : str
        What is being done.
    total : float or None
        How much there is to do; None if nobody knows.
    unit : {"", "bytes"}
        "bytes" shows sizes and rates as a download does.
    every : float, optional
        Where stderr is not a terminal, seconds between two reports of progress, for
        the log of a job that takes hours. By default nothing is said there.

    Yields
    ------
    callable
        ``advance(amount, said)``, where `said`, if given, stands behind the description.
        Nothing is shown with ``-q``.
    """
    if _quiet or not sys.stderr.isatty():
        yield _ignore if _quiet or every is None else _lines(description, total, every)
        return
    from rich import progress as rich_progress
    from rich.console import Console

    amounts: list[rich_progress.ProgressColumn]
    if unit == "bytes":
        amounts = [rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn()]
    else:
        amounts = [rich_progress.MofNCompleteColumn()]
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        *amounts,
        rich_progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # rich would send the data to stderr with the talk
    )
    with bar:
        task = bar.add_task(description, total=total)

        def advance(amount: float, said: str = "") -> None:
            if said:
                bar.update(task, description=f"{description}  {said}")
            bar.advance(task, amount)

        yield advance


def _ignore(amount: float, said: str = "") -> None:
    pass


def _lines(description: str, total: float | None, every: float) -> Callable[..., None]:
    """An `advance` that prints a plain line now and then."""
    done, latest, due = 0.0, "", time.monotonic() + every
    end = "" if total is None else f"/{total:.0f}"

    def advance(amount: float, said: str = "") -> None:
        nonlocal done, latest, due
        done += amount
        latest = said or latest
        if time.monotonic() >= due:
            due = time.monotonic() + every
            info(f"{description} {done:.0f}{end}" + (f", {latest}" if latest else ""))

    return advance
