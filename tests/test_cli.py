"""The commands as a user meets them: outputs, exit codes, one clear line for what is wrong."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from astropy.table import Table
from conftest import EXAMPLES, ROOT, Run

from spectromer_cli.cli import app as cli
from spectromer_cli.inference.columns import CLASSIFY_COLUMNS, REDSHIFT_COLUMNS

FILES = sorted(str(path) for path in EXAMPLES.glob("*.fits"))
GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"


# The main job -----------------------------------------------------------------------------


def test_classify_the_examples(run: Run) -> None:
    result = run("classify", *FILES)
    assert result.code == 0, result.err
    assert tuple(result.rows[0]) == CLASSIFY_COLUMNS
    found = {(Path(row["file"]).stem, row["row"]): row for row in result.rows}
    assert found["simulated-sdss-galaxy", "0"]["class"] == "GALAXY"
    assert found["simulated-boss-quasar", "0"]["class"] == "QSO"
    assert found["simulated-sdss-star", "0"]["class"] == "STAR"
    assert found["simulated-sdss-star", "0"]["subclass"] == "K"
    assert found["simulated-lamost-star", "0"]["subclass"] == "A"
    assert found["simulated-desi-coadd", "0"]["class"] == "GALAXY"
    assert found["simulated-desi-coadd", "1"]["class"] == "QSO"
    assert all(float(row["subclass_prob"] or 1) <= 1 for row in result.rows)


def test_redshift_of_the_examples(run: Run) -> None:
    result = run("redshift", *FILES)
    assert result.code == 0, result.err
    assert tuple(result.rows[0]) == REDSHIFT_COLUMNS
    found = {(Path(row["file"]).stem, row["row"]): row for row in result.rows}
    # What make_examples.py drew.
    truth = {
        ("simulated-sdss-galaxy", "0"): 0.08555,
        ("simulated-boss-quasar", "0"): 2.23513,
        ("simulated-sdss-star", "0"): -0.00014,
        ("simulated-lamost-star", "0"): 0.00010,
        ("simulated-desi-coadd", "0"): 0.27687,
        ("simulated-desi-coadd", "1"): 1.61299,
    }
    for key, z in truth.items():
        assert float(found[key]["z"]) == pytest.approx(z, abs=0.005 * (1 + z)), key
        assert found[key]["zwarn"] == "0", key


def test_real_spectra_of_every_survey(run: Run, shared: Path) -> None:
    index = Table.read(shared / "data" / "fits" / "index.csv")
    chosen = index[(index["zwarning"] == 0) & (index["class"] != "")]
    files = [shared / "data" / "fits" / name for name in chosen["file"]]
    result = run("redshift", *files)
    assert result.code == 0, result.err
    right = [row["class"] == name for row, name in zip(result.rows, chosen["class"], strict=True)]
    assert sum(right) / len(right) > 0.96
    far = [
        abs(float(row["z"]) - z) / (1 + z) < 0.01
        for row, z, name in zip(result.rows, chosen["z"], chosen["class"], strict=True)
        if name != "STAR"
    ]
    assert sum(far) / len(far) > 0.95


def test_a_catalogue_and_its_columns(run: Run, tmp_path: Path, weights: list[str]) -> None:
    output = tmp_path / "z.ecsv"
    result = run("redshift", "--catalog", EXAMPLES / "targets.csv", "-o", output, *weights)
    assert result.code == 0, result.err
    assert result.out == ""
    table = Table.read(output)
    assert table.colnames == [*REDSHIFT_COLUMNS, "cat_file", "name", "priority"]
    assert table["priority"].tolist() == [2, 1, 3]
    assert table.meta["weights"] == "random.v0"
    assert len(table.meta["sha256"]) == 64
    assert table.meta["command"].startswith("spectromer redshift --catalog")


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot", "parquet", "jsonl"])
def test_every_format(run: Run, tmp_path: Path, weights: list[str], suffix: str) -> None:
    output = tmp_path / f"z.{suffix}"
    assert run("redshift", GALAXY, "-o", output, "-q", *weights).code == 0
    assert output.stat().st_size > 100
    assert {p.name for p in tmp_path.iterdir()} <= {output.name, f"{output.name}.meta.json"}


def test_json_is_one_document(run: Run, tmp_path: Path, weights: list[str]) -> None:
    missing = tmp_path / "missing.fits"
    result = run("classify", GALAXY, missing, "--json", *weights)
    assert result.code == 3
    document = json.loads(result.out)
    assert document["spectromer_result_version"] == 1
    assert document["status"] == "partial"
    assert document["rows"][0]["survey"] == "SDSS"
    assert document["rows"][1]["p_star"] is None
    assert "missing.fits" in document["errors"][0]
    result = run("classify", "--json", "--model", "no-such-weights", GALAXY)
    document = json.loads(result.out)
    assert document["status"] == "error"
    assert result.code == 2


def test_names_from_stdin(run: Run, monkeypatch, weights: list[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(FILES).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    result = run("classify", "-", *weights)
    assert [row["file"] for row in result.rows if row["row"] == "0"] == FILES


def test_patterns_folders_and_one_of_many(run: Run, weights: list[str]) -> None:
    assert len(run("classify", str(EXAMPLES / "*-star.fits"), *weights).rows) == 2
    rows = run("classify", EXAMPLES, *weights).rows
    assert len(rows) == 6  # targets.csv and the program are no spectra
    one = run("classify", f"{EXAMPLES}/simulated-desi-coadd.fits[1]", *weights)
    assert [row["row"] for row in one.rows] == ["1"]


def test_quiet_says_nothing(run: Run, tmp_path: Path, weights: list[str]) -> None:
    assert run("classify", GALAXY, "-o", tmp_path / "a.csv", "-q", *weights).err == ""


# What goes wrong ----------------------------------------------------------------------------


def test_the_good_are_done_beside_the_bad(run: Run, tmp_path: Path, weights: list[str]) -> None:
    empty, cut = tmp_path / "empty.fits", tmp_path / "cut.fits"
    empty.write_bytes(b"")
    cut.write_bytes(GALAXY.read_bytes()[:20000])
    result = run("classify", empty, GALAXY, cut, GALAXY, *weights)
    assert result.code == 3
    assert [bool(row["class"]) for row in result.rows] == [False, True, False, True]
    assert "empty.fits is empty" in result.rows[0]["flags"]
    assert "cut.fits" in result.rows[2]["flags"]
    lines = result.err.splitlines()
    assert any("empty.fits" in line for line in lines)
    assert "2 of 4 inputs have no prediction" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "-q"], "no input given"),
        (["classify", "a.fits", "--catalog", "b.csv"], "exclude each other"),
        (["classify", "a.fits", "--spectra-dir", "."], "needs --catalog"),
        (["classify", "a.fits", "--json", "-o", "b.csv"], "exclude each other"),
        (["classify", "a.fits", "-o", "b.xlsx"], "unknown suffix '.xlsx'"),
        (["classify", "a.fits", "-o", "no/such/folder/b.csv"], "does not exist"),
        (["classify", GALAXY, "--model", "spectromer-tinny.v4"], "spectromer-tiny.v4"),
        (["classify", GALAXY, "--device", "gpu"], "invalid --device 'gpu'"),
        (["classify", GALAXY, "--device", "cuda:99"], "CUDA devices here"),
        (["classify", "a.fits", "-o", "b.csv"], "a.fits does not exist"),
        (["classify", "a.fits", "b*.fits", "-o", "b.csv"], "none of the 2 inputs exist"),
        (["clasify", "a.fits"], "classify"),
        (["classify", "a.csv", "--wavelength-unit", "parsnips"], "not a unit of wavelength"),
        (["classify", "a.fits", "--batch-size", "0"], "batch-size"),
        (["render", "a.fits", "-o", "x", "--image", "tile"], "tiles"),
    ],
)
def test_usage_errors_come_before_the_work(run: Run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code == 2
    assert message in result.err
    assert result.out == "" or "--json" in arguments
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path, monkeypatch) -> None:
    # Asked of the system, since to root every folder is open.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = run("classify", GALAXY, "-o", tmp_path / "a.csv")
    assert result.code == 2
    assert f"the folder {tmp_path} cannot be written" in result.err


def test_a_catalogue_without_its_column(run: Run, tmp_path: Path) -> None:
    catalogue = tmp_path / "t.csv"
    catalogue.write_text("name,ra\nM 87,187.7\n")
    result = run("redshift", "--catalog", catalogue)
    assert result.code == 2
    assert "name, ra" in result.err
    assert "plate, mjd and fiberid" in result.err


def test_a_catalogue_whose_files_are_not_there(run: Run, tmp_path: Path, weights) -> None:
    catalogue = tmp_path / "t.csv"
    catalogue.write_text(f"file,name\n{GALAXY},here\ngone.fits,gone\n")
    result = run("redshift", "--catalog", catalogue, *weights)
    assert result.code == 3
    assert [row["name"] for row in result.rows] == ["here", "gone"]
    assert "gone.fits" in result.rows[1]["flags"]


def test_tampered_weights_are_refused(run: Run, tmp_path: Path, random_weights: Path) -> None:
    for path in random_weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / "random.v0.safetensors"
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    result = run("classify", GALAXY, "--model", tmp_path)
    assert result.code == 5
    assert "random.v0.safetensors" in result.err
    result = run("weights", "verify", tmp_path, "--json")
    assert result.code == 5
    assert json.loads(result.out)["weights"][0]["verified"] is False


@pytest.mark.parametrize("arguments", [["--batch-size", "0", GALAXY], [GALAXY, "--device", "x"]])
def test_json_also_when_nothing_works(run: Run, arguments: list[object]) -> None:
    result = run("classify", "--json", *arguments)
    assert result.code == 2
    assert json.loads(result.out)["status"] == "error"


def test_json_status_of_nothing_but_failures(run: Run, tmp_path: Path, weights) -> None:
    (tmp_path / "notes.txt").write_text("cloudy\n")
    for argument, code in ((tmp_path / "missing.fits", 2), (tmp_path, 3)):
        result = run("classify", "--json", argument, *weights)
        assert result.code == code
        assert json.loads(result.out)["status"] == "error"
    assert "skipped 1 files" in result.err


def test_a_server_message_in_a_folder_has_its_row(run: Run, tmp_path: Path, weights) -> None:
    (tmp_path / "a.fits").write_text("404: Not Found\n")
    result = run("classify", tmp_path, *weights)
    assert result.code == 3
    assert "named as FITS" in result.rows[0]["flags"]


def test_debug_brings_the_traceback_back(run: Run, monkeypatch) -> None:
    from spectromer_cli.errors import UsageError

    monkeypatch.setenv("SPECTROMER_DEBUG", "1")
    with pytest.raises(UsageError):
        run("classify", "-q")


def test_an_unexpected_error_is_one_line(run: Run, monkeypatch, weights) -> None:
    from spectromer_cli.inference.predictor import Spectromer

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(Spectromer, "predictions", broken)
    result = run("classify", GALAXY, *weights)
    assert result.code == 1
    assert "RuntimeError: boom" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_run_leaves_no_half_file(
    tmp_path: Path, random_weights: Path, sent: signal.Signals, code: int
) -> None:
    # Names keep coming through a pipe, so the run never ends by itself.
    command = [sys.executable, "-m", "spectromer_cli", "classify", "-", "--model"]
    command += [str(random_weights), "--batch-size", "2", "-o", str(tmp_path / "out.csv")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write((str(GALAXY) + "\n").encode() * 8)
    process.stdin.flush()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        begun = [p for p in tmp_path.iterdir() if p.stat().st_size > 100]
        if begun or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    kept = {"out.csv.spectromer-part", "out.csv.spectromer-part.json"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert b"Traceback" not in err
    (line,) = [line for line in err.splitlines() if b"rows are kept in" in line]
    assert b"--resume" in line


# Examples -----------------------------------------------------------------------------------


def test_the_examples_are_copied_and_nothing_is_overwritten_unasked(run: Run, tmp_path) -> None:
    folder = tmp_path / "new" / "folder"
    result = run("examples", folder)
    assert result.code == 0, result.err
    written = [Path(line) for line in result.out.splitlines()]
    assert sorted(path.name for path in written) == sorted(path.name for path in EXAMPLES.iterdir())
    assert all(path.read_bytes() == (EXAMPLES / path.name).read_bytes() for path in written)

    (folder / "truth.csv").write_text("mine")
    for path in written:
        if path.name != "truth.csv":
            path.unlink()
    result = run("examples", folder)
    assert result.code == 2 and "already holds truth.csv" in result.err
    assert [path.name for path in folder.iterdir()] == ["truth.csv"]
    assert (folder / "truth.csv").read_text() == "mine"
    assert run("examples", folder, "--overwrite").code == 0
    assert (folder / "truth.csv").read_bytes() == (EXAMPLES / "truth.csv").read_bytes()

    (tmp_path / "file").write_text("")
    assert run("examples", tmp_path / "file").code == 2


# Help ---------------------------------------------------------------------------------------


# Their examples need labelled spectra, results, a run, a network, or those before them, or serve
# until they are interrupted.
UNRUN = ("train", "finetune", "publish", "report", "inspect", "fetch", "simulate")
# So do those with such an option: the hub of other programs, a cluster.
UNRUN_OPTIONS = ("--samp", "--scheduler")


def examples() -> list[str]:
    """Every example of every --help that needs nothing but the project."""
    found = set()

    def visit(command: Any) -> None:
        text = (command.epilog or "").removeprefix("Examples:").replace("·", "\n")
        assert "spectromer" in text, f"{command.name} has no examples"
        if command.name not in UNRUN:
            lines = (line.strip() for line in text.splitlines())
            found.update(line for line in lines if line and not any(map(line.count, UNRUN_OPTIONS)))
        if command.name != "fetch":
            for inner in getattr(command, "commands", {}).values():
                visit(inner)

    visit(typer.main.get_command(cli.app))
    return sorted(found)


@pytest.mark.parametrize("line", examples())
def test_the_examples_in_the_help_run(line: str, run: Run, tmp_path: Path, monkeypatch) -> None:
    # In a copy of what a user has after `spectromer examples`, and a folder to write to.
    if shlex.split(line)[1] != "examples":
        (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    arguments: list[str] = []
    for word in words:
        found = sorted(map(str, Path().glob(word))) if "*" in word else []
        arguments += found or [word]
    result = run(*arguments)
    assert result.code == 0, result.err
