"""Talk: messages and progress bars, all on stderr. stdout belongs to the data."""

from __future__ import annotations

import sys
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


def _say(message: str, style: str) -> None:
    if not sys.stderr.isatty():
        print(message, file=sys.stderr)
        return
    from rich.console import Console

    Console(stderr=True).print(message, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(
    description: str, total: float | None, unit: str = ""
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

    Yields
    ------
    callable
        ``advance(amount, said)``, where `said`, if given, stands behind the description.
        Nothing is shown with ``-q`` or where stderr is not a terminal.
    """
    if _quiet or not sys.stderr.isatty():
        yield lambda amount, said="": None
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
