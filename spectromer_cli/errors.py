"""Every error a user can meet, each with its exit code and a next step.

Exit codes: 0 ok, 1 failure, 2 usage, 3 some inputs failed, 4 network,
5 weights not verified, 130 interrupted.
"""

from __future__ import annotations


class SpectromerError(Exception):
    """An error with a message for people.

    Parameters
    ----------
    message : str
        One line: what is wrong, with which file.
    hint : str, optional
        One line: what to do about it.
    """

    exit_code = 1
    # Whether --json has its document on stdout already.
    told = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SpectromerError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class ReadError(SpectromerError):
    """A file, or one spectrum in it, cannot be read."""


class NotASpectrum(ReadError):
    """A valid file without a spectrum in a supported format; skipped in searched folders."""


class SomeInputsFailed(SpectromerError):
    """The run went through, but some inputs have no prediction."""

    exit_code = 3
    told = True


class NetworkError(SpectromerError):
    """A server cannot be reached or returns an unexpected response."""

    exit_code = 4


class WeightsNotVerified(SpectromerError):
    """Weights whose sha256 is not the one in their manifest."""

    exit_code = 5
