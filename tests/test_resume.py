"""A run that was interrupted goes on where it stopped."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from survey_files import made, write_spplate

from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.outputs import resume


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder: four files of one spectrum, one of seven, one that is broken, and a note."""
    folder = tmp_path / "night"
    folder.mkdir()
    rng = np.random.default_rng(4)
    wavelength = np.linspace(4000.0, 9000.0, 2500)
    for name in ("a", "b", "y", "z"):
        flux = rng.normal(10.0, 1.0, wavelength.size)
        Table({"wavelength": wavelength, "flux": flux, "error": np.ones(2500)}).write(
            folder / f"{name}.csv"
        )
    (folder / "c.fits").write_bytes(b"SIMPLE  = no")
    (folder / "d.txt").write_text("The weather was fine.\n")
    write_spplate(folder / "m.fits", [made(n=3000, seed=i) for i in range(7)])
    return folder


@pytest.fixture
def interrupted(run, weights, inputs, monkeypatch):
    """Run until so many batches of two are predicted; the arguments of the run."""

    def interrupted(output: Path, batches: int, *options: str, error=KeyboardInterrupt) -> list:
        arguments = ["classify", inputs, *weights, "--batch-size", "2", "-o", output, *options]
        original = Spectromer.predictions
        left = batches

        def predictions(self, items, refined=True):
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return original(self, items, refined)

        with monkeypatch.context() as patch:
            patch.setattr(Spectromer, "predictions", predictions)
            stopped = run(*arguments)
        assert stopped.code == (130 if error is KeyboardInterrupt else 1)
        assert not output.exists()
        return arguments

    monkeypatch.setattr(resume, "WORTH_KEEPING", 0.0)
    return interrupted


def same(one: Path, two: Path) -> None:
    """The same rows, up to the rounding of batches of other sizes."""
    texts = [path.read_text().splitlines() for path in (one, two)]
    rows = [[line for line in text if not line.startswith("#")] for text in texts]
    if one.suffix == ".jsonl":
        tables = [[json.loads(line) for line in text] for text in rows]
    else:
        tables = [list(csv.DictReader(text)) for text in rows]
    assert len(tables[0]) == len(tables[1]) == 12
    for a, b in zip(*tables, strict=True):
        assert list(a) == list(b)
        for name, value in a.items():
            try:
                assert float(value) == pytest.approx(
                    float(b[name]), rel=1e-3, abs=1e-5, nan_ok=True
                )
            except (TypeError, ValueError):
                assert value == b[name]


@pytest.mark.parametrize("suffix", resume.SUFFIXES)
@pytest.mark.parametrize("batches", [1, 2, 3, 5])
def test_it_ends_as_if_nothing_had_happened(
    run, interrupted, tmp_path, suffix: str, batches: int
) -> None:
    output = tmp_path / f"out{suffix}"
    arguments = interrupted(output, batches)
    done = run(*arguments, "--resume")
    assert done.code == 3  # c.fits, whether it came before or after the interruption
    assert "1 of 12 inputs have no prediction" in done.err
    assert f"resuming after {2 * batches} rows" in done.err
    assert "wrote 12 rows" in done.err
    assert not list(tmp_path.glob("out*.part*"))
    whole = tmp_path / f"whole{suffix}"
    assert run(*arguments[:-1], whole).code == 3
    same(output, whole)


def test_interrupted_again_and_again(run, interrupted, tmp_path) -> None:
    output = tmp_path / "out.csv"
    interrupted(output, 1)
    interrupted(output, 2, "--resume")
    arguments = interrupted(output, 1, "--resume")
    assert run(*arguments).code == 3
    assert run(*arguments[:-3], "-o", tmp_path / "whole.csv").code == 3
    same(output, tmp_path / "whole.csv")


def test_rows_are_not_lost_by_forgetting_to_resume(run, interrupted, tmp_path) -> None:
    arguments = interrupted(tmp_path / "out.csv", 2)
    kept = (tmp_path / "out.csv.part").read_bytes()
    refused = run(*arguments)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert (tmp_path / "out.csv.part").read_bytes() == kept


def test_a_failure_keeps_rows_too_and_half_a_row_is_cut_off(run, interrupted, tmp_path) -> None:
    output = tmp_path / "out.csv"
    arguments = interrupted(output, 2, error=RuntimeError("no more memory"))
    with (tmp_path / "out.csv.part").open("a") as file:
        file.write("half/a/ro")
    assert run(*arguments, "--resume").code == 3
    assert run(*arguments[:-1], tmp_path / "whole.csv").code == 3
    same(output, tmp_path / "whole.csv")


def test_other_inputs_or_options_are_refused(run, interrupted, inputs, tmp_path) -> None:
    arguments = interrupted(tmp_path / "out.csv", 2)
    air = run(*arguments, "--resume", "--air")
    assert air.code == 2 and "other options" in air.err
    (inputs / "a.csv").rename(inputs / "x.csv")
    moved = run(*arguments, "--resume")
    assert moved.code == 2
    assert "the inputs are not those of the unfinished run" in moved.err
    assert (tmp_path / "out.csv.part").exists()


@pytest.mark.parametrize("spoil", ["part", "state"])
def test_what_is_damaged_is_told(run, interrupted, tmp_path, spoil: str) -> None:
    arguments = interrupted(tmp_path / "out.csv", 2)
    path = tmp_path / ("out.csv.part" if spoil == "part" else "out.csv.part.json")
    path.write_bytes(path.read_bytes()[:40])
    result = run(*arguments, "--resume")
    assert result.code == 1
    assert "start afresh: rm" in result.err


def test_short_runs_leave_nothing(run, interrupted, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(resume, "WORTH_KEEPING", 60.0)
    arguments = interrupted(tmp_path / "out.csv", 2)
    assert not list(tmp_path.glob("out*"))
    done = run(*arguments, "--resume")
    assert done.code == 3
    assert "nothing to resume: starting from the beginning" in done.err


def test_formats_that_do_not_grow_are_refused(run, weights, inputs, tmp_path) -> None:
    for options in (["-o", tmp_path / "out.fits"], []):
        result = run("classify", inputs, *weights, "--resume", *options)
        assert result.code == 2
        assert ".csv .ecsv .jsonl" in result.err
