"""A run that was interrupted goes on where it stopped."""

import csv
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from survey_files import made, write_spplate

from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.outputs.formats import FORMATS
from spectromer_cli.spectra.catalogues import read_table


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

        def predictions(self, items, *how):
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return original(self, items, *how)

        with monkeypatch.context() as patch:
            patch.setattr(Spectromer, "predictions", predictions)
            stopped = run(*arguments)
        assert stopped.code == (130 if error is KeyboardInterrupt else 1)
        assert not output.exists()
        return arguments

    return interrupted


def rows_of(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    table = read_table(path)
    return [dict(zip(table.colnames, row, strict=True)) for row in table.as_array().tolist()]


def same(one: Path, two: Path, count: int = 12) -> None:
    """The same rows, up to the rounding of batches of other sizes."""
    tables = [rows_of(path) for path in (one, two)]
    assert len(tables[0]) == len(tables[1]) == count
    for a, b in zip(*tables, strict=True):
        assert list(a) == list(b)
        for name, value in a.items():
            try:
                assert float(value) == pytest.approx(
                    float(b[name]), rel=1e-3, abs=1e-5, nan_ok=True
                )
            except (TypeError, ValueError):
                assert value == b[name]


@pytest.mark.parametrize("suffix", FORMATS)
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
    assert not list(tmp_path.glob("out*spectromer*"))
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
    kept = (tmp_path / "out.csv.spectromer-part").read_bytes()
    refused = run(*arguments)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert (tmp_path / "out.csv.spectromer-part").read_bytes() == kept


def test_a_failure_keeps_rows_too_and_half_a_row_is_cut_off(run, interrupted, tmp_path) -> None:
    output = tmp_path / "out.csv"
    arguments = interrupted(output, 2, error=RuntimeError("no more memory"))
    with (tmp_path / "out.csv.spectromer-part").open("a") as file:
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
    assert "the inputs differ from those of the unfinished run" in moved.err
    assert (tmp_path / "out.csv.spectromer-part").exists()


@pytest.mark.parametrize("spoil", ["part", "state"])
def test_what_is_damaged_is_told(run, interrupted, tmp_path, spoil: str) -> None:
    arguments = interrupted(tmp_path / "out.csv", 2)
    path = tmp_path / (
        "out.csv.spectromer-part" if spoil == "part" else "out.csv.spectromer-part.json"
    )
    path.write_bytes(path.read_bytes()[:40])
    result = run(*arguments, "--resume")
    assert result.code == 1
    assert "start from the beginning: rm" in result.err


def test_the_first_batch_is_kept_and_it_is_said_how_to_go_on(run, interrupted, tmp_path) -> None:
    arguments = interrupted(tmp_path / "out.fits", 0)
    assert not list(tmp_path.glob("out*"))  # nothing yet
    done = run(*arguments, "--resume")
    assert "nothing to resume: starting from the beginning" in done.err
    (tmp_path / "out.fits").unlink()
    interrupted(tmp_path / "out.fits", 1)
    state = json.loads((tmp_path / "out.fits.spectromer-part.json").read_text())
    assert state["progress"]["rows"] == 2


def test_a_users_own_part_file_is_another(run, interrupted, tmp_path) -> None:
    mine = tmp_path / "out.csv.part"
    mine.write_text("mine")
    arguments = interrupted(tmp_path / "out.csv", 1)
    assert run(*arguments, "--resume").code == 3
    assert mine.read_text() == "mine"


def test_what_went_to_stdout_cannot_be_resumed(run, weights, inputs) -> None:
    result = run("classify", inputs, *weights, "--resume")
    assert result.code == 2 and "--resume needs -o" in result.err


@pytest.mark.parametrize("place", ["rows", "state", "end"])
def test_a_full_disk_costs_no_row(run, interrupted, tmp_path, monkeypatch, place) -> None:
    from spectromer_cli.outputs import formats, resume, tables

    output = tmp_path / "out.csv"
    arguments = interrupted(output, 1)
    written = 0

    def full(*_: object) -> None:
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*_)

    names = {"rows": (formats, "_append"), "state": (resume, "atomic_path"),
             "end": (tables, "atomic_path")}  # fmt: skip
    module, name = names[place]
    original = getattr(module, name)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        patch.setattr(resume, "SAVE_EVERY", 0.0)
        written = int(place == "end")
        stopped = run(*arguments, "--resume")
    assert stopped.code == 1 and "the disk is full" in stopped.err
    assert "rows are kept in" in stopped.err and "--resume" in stopped.err
    assert not output.exists()
    assert run(*arguments, "--resume").code == 3
    assert run(*arguments[:-1], tmp_path / "whole.csv").code == 3
    same(output, tmp_path / "whole.csv")


# Kills --------------------------------------------------------------------------------------


def killed_chain(folder: Path, weights: list[str], suffix: str, kills: int, seed: int) -> None:
    """Kill a run and resume it, again and again; then no row is lost or doubled."""
    rng = np.random.default_rng(seed)
    spectra = folder / "many"
    if not spectra.exists():
        spectra.mkdir()
        for number in range(6):
            write_spplate(
                spectra / f"{number}.fits",
                [made(n=3000, seed=10 * number + i) for i in range(8)],
            )
    output = folder / f"out{suffix}"
    command = [sys.executable, "-c", SLOW_RUN, "classify", str(spectra), *weights]
    command += ["--batch-size", "2", "-o", str(output), "--resume"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for _ in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
        assert process.stderr is not None
        process.stderr.readline()  # the run has begun: it resumes, or it has nothing to resume
        time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
        process.wait()
        assert not output.exists() or output.stat().st_size
    done = subprocess.run(command, stderr=subprocess.PIPE, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = [(Path(str(row["file"])).name, int(str(row["row"]))) for row in rows_of(output)]
    assert found == [(f"{number}.fits", row) for number in range(6) for row in range(8)]
    assert not list(folder.glob("*spectromer*"))
    output.unlink()


# Ten batches a second, so that a kill comes in their midst.
SLOW_RUN = """
import time
from spectromer_cli.cli.app import main
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.outputs import resume
original = Spectromer.predictions
def slow(*arguments, **options):
    time.sleep(0.05)
    return original(*arguments, **options)
Spectromer.predictions = slow
resume.SAVE_EVERY = 0.15
main()
"""


def test_killed_and_resumed(tmp_path: Path, weights: list[str]) -> None:
    killed_chain(tmp_path, weights, ".fits", kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_killed_and_resumed_ten_times(tmp_path: Path, weights: list[str], suffix: str) -> None:
    for chain in range(10):
        killed_chain(tmp_path, weights, suffix, kills=3, seed=chain)
