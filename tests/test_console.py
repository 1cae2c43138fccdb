"""Progress: a bar on a terminal; a line now and then in a log, where that is asked for."""

import pytest

from spectromer_cli import console


class Clock:
    """The time, which only the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    monkeypatch.setattr(console, "_quiet", 0)
    return clock


def test_a_long_job_says_now_and_then_how_far_it_is(clock, capsys) -> None:
    with console.progress("training", 6000, every=60.0) as advance:
        for step in range(6000):
            clock.now += 0.125  # twelve minutes and a half in all
            advance(1, f"loss {6000 - step}, 10 spectra/s")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[0] == "training 480/6000, loss 5521, 10 spectra/s"


def test_what_was_said_last_stays_and_the_end_may_be_unknown(clock, capsys) -> None:
    with console.progress("reading", None, every=60.0) as advance:
        advance(2, "two files")
        clock.now += 61.0
        advance(1)
        advance(1)
        clock.now += 61.0
        advance(1)
    assert capsys.readouterr().err == "reading 3, two files\nreading 5, two files\n"


@pytest.mark.parametrize(("every", "quiet"), [(None, 0), (60.0, 1), (60.0, 2)])
def test_other_progress_is_silent_when_piped(clock, capsys, monkeypatch, every, quiet) -> None:
    monkeypatch.setattr(console, "_quiet", quiet)
    with console.progress("spectra", 10, every=every) as advance:
        clock.now += 1000.0
        advance(1, "going well")
    assert capsys.readouterr().err == ""
