"""Nothing that a user has is lost: outputs that are inputs, old results, two runs, odd names."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.outputs import tables
from spectromer_cli.paths import claimed
from spectromer_cli.spectra.catalogues import read_table

ROOT = Path(__file__).parents[1]


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two spectra, which is the working directory, with catalogues beside them."""
    folder = tmp_path / "night"
    folder.mkdir()
    rng = np.random.default_rng(4)
    wavelength = np.linspace(4000.0, 9000.0, 2500)
    for name in ("a.csv", "b.ecsv"):
        flux = rng.normal(10.0, 1.0, wavelength.size)
        Table({"wavelength": wavelength, "flux": flux, "error": np.ones(2500)}).write(folder / name)
    (tmp_path / "cat.csv").write_text("file,class,z\nnight/a.csv,STAR,0.0\n")
    (tmp_path / "linked.csv").symlink_to("night/a.csv")
    os.link(folder / "b.ecsv", tmp_path / "hard.ecsv")
    monkeypatch.chdir(tmp_path)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["classify", "redshift"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["night/a.csv", "-o", "night/a.csv"],
        ["night/a.csv", "-o", "linked.csv"],
        ["linked.csv", "-o", "night/../night/a.csv"],
        ["night", "-o", "night/a.csv"],
        ["night", "-o", "hard.ecsv"],
        ["night/*.ecsv", "-o", "hard.ecsv"],
        ["--catalog", "cat.csv", "-o", "cat.csv"],
        ["--catalog", "cat.csv", "-o", "night/a.csv"],
        ["--catalog", "cat.csv", "-o", "linked.csv"],
    ],
)
def test_an_output_that_is_an_input_is_refused(run, weights, night, command, arguments) -> None:
    before = contents(night.parent)
    result = run(command, *arguments, *weights)
    assert result.code == 2, result.err
    assert "would be overwritten" in result.err
    assert contents(night.parent) == before


def test_an_output_with_the_name_of_a_missing_input_is_refused(run, weights, night) -> None:
    Path("two.csv").write_text("file\nnight/a.csv\ngone.csv\n")
    result = run("classify", "--catalog", "two.csv", "-o", "gone.csv", *weights)
    assert result.code == 2 and not Path("gone.csv").exists()


def test_an_earlier_result_in_the_searched_folder_is_no_input(run, weights, night) -> None:
    for _ in range(2):
        result = run("classify", "night", "-o", "night/classes.ecsv", *weights)
        assert result.code == 0, result.err
    assert "replacing the old file" in result.err
    assert len(read_table(night / "classes.ecsv")) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "night/b.ecsv", "-o", "night/b.ecsv"],
        ["explain", "night/b.ecsv", "-o", "night"],
        ["explain", "night", "-o", "night"],
        ["explain", "--catalog", "cat.csv", "-o", "cat.csv"],
        ["evaluate", "--catalog", "report/predictions.ecsv", "-o", "report"],
        ["evaluate", "--catalog", "cat.csv", "-o", "report", "--docs", "cat.csv"],
        ["evaluate", "--data", "cat.csv", "-o", "report", "--docs", "night/a.csv"],
        ["report", "results.csv", "-o", "page.html"],
        ["finetune", "--catalog", "report/predictions.ecsv", "-o", "report"],
        ["fetch", "sdss", "--catalog", "spectra/fetched.ecsv", "-o", "spectra"],
    ],
)
def test_other_commands_refuse_too(run, weights, night, arguments) -> None:
    for folder, name in (("report", "predictions.ecsv"), ("spectra", "fetched.ecsv")):
        Path(folder).mkdir()
        table = Table({"file": ["../night/a.csv"], "class": ["STAR"], "z": [0.1], "name": ["x"]})
        table.write(Path(folder) / name)
    shutil.copyfile("cat.csv", "results.csv")
    Path("page.html").symlink_to("results.csv")
    before = contents(night.parent)
    model = [] if arguments[0] == "fetch" else weights[:2]
    result = run(*arguments, *model)
    assert result.code == 2, result.err
    assert "would be overwritten" in result.err
    assert contents(night.parent) == before


# Inputs that do not exist, and runs that answer nothing ---------------------------------------


def test_missing_inputs_are_said_before_the_model_loads(run, weights, night) -> None:
    Path("old.csv").write_text("good results\n")
    result = run("classify", "x.fits", "y.fits", "-o", "old.csv", "--model", "no-such-model")
    assert result.code == 2
    assert "none of the 2 inputs exist" in result.err and "x.fits does not exist" in result.err
    assert Path("old.csv").read_text() == "good results\n"
    result = run("classify", "x.fits", "night/a.csv", "-o", "new.csv", *weights)
    assert result.code == 3
    assert "1 of 2 inputs do not exist: x.fits" in result.err.splitlines()[0]
    assert read_table(Path("new.csv"))["flags"][0].startswith("UNREADABLE")


def test_old_results_stay_where_nothing_could_be_read(run, weights, night) -> None:
    Path("old.csv").write_text("good results\n")
    Path("bad.fits").write_bytes(b"SIMPLE  = no")
    result = run("classify", "bad.fits", "-o", "old.csv", *weights)
    assert result.code == 3 and "old.csv was left unchanged" in result.err
    assert Path("old.csv").read_text() == "good results\n"
    assert not list(night.parent.glob("*spectromer*"))
    result = run("classify", "night/a.csv", "-o", "old.csv", *weights)
    assert result.code == 0 and "replacing the old file" in result.err
    assert len(read_table(Path("old.csv"))) == 1
    result = run("classify", "bad.fits", "-o", "new.csv", *weights)  # the reason is worth a row
    assert result.code == 3 and len(read_table(Path("new.csv"))) == 1


def test_a_users_own_file_beside_the_output_stays(run, weights, night) -> None:
    Path("out.csv.meta.json").write_text("[1, 2]")
    result = run("classify", "night/a.csv", "-o", "out.csv", *weights)
    assert result.code == 2 and "is another file" in result.err
    assert Path("out.csv.meta.json").read_text() == "[1, 2]"


# Two runs -------------------------------------------------------------------------------------


def test_a_second_run_on_one_output_is_refused(run, weights, night) -> None:
    with claimed(night.parent / "out.csv"):
        result = run("classify", "night", "-o", "out.csv", *weights)
        assert result.code == 2
        assert "another run is writing out.csv" in result.err
        assert f"process {os.getpid()} on " in result.err
    assert run("classify", "night", "-o", "out.csv", *weights).code == 0
    assert not list(night.parent.glob("*spectromer*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--catalog", "cat.csv", "-o", "out"],
        ["explain", "night", "-o", "out.html"],
        ["report", "--catalog", "cat.csv", "-o", "out.html"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_claims_its_output(run, weights, night, arguments) -> None:
    with claimed(night.parent / arguments[-1]):
        result = run(*arguments, *(() if arguments[0] == "report" else weights))
    assert result.code == 2 and f"another run is writing {arguments[-1]}" in result.err


def test_a_lock_that_a_killed_run_left_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from spectromer_cli.paths import claimed\n"
        "with claimed(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "out.csv"
    killed = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    lock = tmp_path / "out.csv.spectromer-lock"
    assert lock.exists()
    with claimed(target):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


def test_a_lock_of_another_host_is_refused_with_a_way_out(tmp_path: Path) -> None:
    lock = tmp_path / "out.csv.spectromer-lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with (
        pytest.raises(UsageError, match="process 1 on elsewhere") as told,
        claimed(tmp_path / "out.csv"),
    ):
        pass
    assert f"rm {lock}" in told.value.hint
    assert lock.exists()


def test_the_lock_goes_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "out.csv"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


# Names of any kind ----------------------------------------------------------------------------

ODD = ["a\rb", "c\nd", "é β", "\x1b[2Je", '"q", r', "=1+1", "f\x85g", "\x07", "#h", "plain"]


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".vot", ".parquet", ".jsonl"])
def test_odd_names_cost_no_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    with tables.open_writer(path, {"version": "spectromer", "command": "x \x01"}) as writer:
        writer.write(Table({"file": ODD, "n": np.arange(len(ODD))}))
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
        assert [row["file"] for row in rows] == ODD
        return
    table = read_table(path)
    assert table["n"].tolist() == list(range(len(ODD)))
    assert table["file"][2] == "é β" and table["file"][4] == '"q", r'
    if suffix == ".csv":
        assert b'"a\rb",0' in path.read_bytes()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_name_in_any_code_page(night, weights, encoding: str) -> None:
    names = ["é β.csv", "\x1b[2Jz.csv", os.fsdecode(b"\xff.csv")]
    for name in names:
        shutil.copyfile("night/a.csv", name)
    command = [sys.executable, "-m", "spectromer_cli", "classify", *names, "ß\x1b.csv", *weights]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 3, done.stderr
    assert len(done.stdout.decode(encoding).split("\n")) == 6
    assert b"\x1b" not in done.stderr and rb"\x1b" in done.stderr


def test_what_a_terminal_would_obey_is_shown(capsys) -> None:
    console.error("a\x1b[2Jb\nc\u202ed é")
    assert capsys.readouterr().err == "error: a\\x1b[2Jb\\nc\\u202ed é\n"


# stdout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_stdout_that_fails_is_told_in_a_line(night, weights, options) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-m", "spectromer_cli", "classify", "night", *weights, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment,
                              check=False)  # fmt: skip
    assert done.returncode == 1
    assert b"stdout cannot be written: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment,
                          check=False)  # fmt: skip
    os.close(write)
    assert done.returncode == 1
    assert b"stdout was closed by the reading program" in done.stderr
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
    if not options:
        assert b"with -o FILE and --resume they can" in done.stderr
