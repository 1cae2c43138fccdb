"""Runs on a Dask cluster: the rows of a single process, whatever dies on the way."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from conftest import emission_galaxy
from survey_files import made, write_spplate

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.inference import cluster, units
from spectromer_cli.outputs.packed_spectra import pack
from spectromer_cli.spectra.catalogues import Catalogue, read_table
from spectromer_cli.spectra.loading import Inputs
from spectromer_cli.spectra.readers import ReadOptions, base
from spectromer_cli.spectra.sources import Target, expand

# Units are cut ----------------------------------------------------------------------------------


def shared_out(names: list[Any], size: int) -> list[list[tuple[str, int, int | None]]]:
    cut = units.units_of(expand(map(str, names)), None, ReadOptions(), size)
    return [[(s.target.path.name, s.start, s.stop) for s in unit.slices] for unit in cut]


def lists(path: Path, rows: int, group: int) -> Path:
    cell = [5000.0 + i for i in range(10)]
    column = pa.array([{"flux": cell, "lambda": cell, "ivar": cell}] * rows)
    pq.write_table(pa.table({"spectrum": column}), path, row_group_size=group)
    return path


def test_files_of_one_spectrum_are_counted(tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.csv" for i in range(5)]
    for name in names:
        name.write_text("x")
    assert shared_out(names, 2) == [
        [("0.csv", 0, None), ("1.csv", 0, None)],
        [("2.csv", 0, None), ("3.csv", 0, None)],
        [("4.csv", 0, None)],
    ]


def test_parquet_is_cut_between_row_groups(tmp_path: Path) -> None:
    large, small = lists(tmp_path / "l.parquet", 25, 4), lists(tmp_path / "s.parquet", 6, 6)
    assert shared_out([large, small], 10) == [
        [("l.parquet", 0, 8)],
        [("l.parquet", 8, 16)],
        [("l.parquet", 16, 25)],
        [("s.parquet", 0, None)],
    ]
    assert shared_out([small, large], 15)[0] == [("s.parquet", 0, None), ("l.parquet", 0, 8)]


def test_a_large_row_group_is_cut(tmp_path: Path) -> None:
    large = lists(tmp_path / "l.parquet", 25, 25)
    assert shared_out([large], 10) == [
        [("l.parquet", 0, 8)], [("l.parquet", 8, 16)], [("l.parquet", 16, 25)]
    ]  # fmt: skip


def test_large_files_of_other_kinds_are_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(units, "LARGE_FILE", 1000)
    file = write_spplate(tmp_path / "m.fits", [made(n=500, seed=i) for i in range(7)])
    assert shared_out([file], 5) == [[("m.fits", 0, 3)], [("m.fits", 3, 7)]]


def test_what_cannot_be_counted_counts_as_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(units, "LARGE_FILE", 10)
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"SIMPLE  = no" * 10)
    broken = tmp_path / "bad.parquet"
    broken.write_bytes(b"PAR1" + bytes(100))
    assert shared_out([bad, broken, tmp_path / "none"], 3) == [
        [("bad.fits", 0, None), ("bad.parquet", 0, None), ("none", 0, None)]
    ]


def test_units_of_other_inputs_have_another_content(tmp_path: Path) -> None:
    def content(names: list[str]) -> list[str]:
        return [unit.content for unit in units.units_of(
            [Target(Path(name)) for name in names], None, ReadOptions(), 2)]  # fmt: skip

    assert content(["a", "b", "c"]) == content(["a", "b", "c"])
    assert content(["a", "b", "c"])[0] == content(["a", "b"])[0]
    assert content(["a", "c"]) != content(["a", "b"])


def test_a_unit_has_its_rows_of_the_catalogue(tmp_path: Path) -> None:
    table = Table({"file": ["f"] * 4, "name": ["a", "b", "c", "d"]})
    catalogue = Catalogue(tmp_path / "c.csv", None, table)
    targets = [Target(Path(f"{row}"), catalogue_row=row) for row in (3, 1, 0)]
    first, second = units.units_of(targets, catalogue, ReadOptions(), 2)
    assert list(first.catalogue["name"]) == ["d", "b"]
    assert [s.target.catalogue_row for s in first.slices] == [0, 1]
    assert list(second.catalogue["name"]) == ["a"]


def test_a_file_has_its_time_in_any_thread() -> None:
    said: list[str] = []

    def work() -> None:
        for seconds in (0.3, 60.0):
            try:
                with base.time_limit(seconds, "slow.fits"):
                    end = time.monotonic() + 3.0
                    while time.monotonic() < end and seconds < 1:
                        pass
                said.append("in time")
            except ReadError as error:
                said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["slow.fits took longer than 0.3 s", "in time"]


# Runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers in threads of this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as own:
        yield own.scheduler_address


@pytest.fixture(scope="module")
def processes() -> Iterator[str]:
    """A scheduler on loopback with two workers, each a process."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as own:
        yield own.scheduler_address


@pytest.fixture
def client(processes: str, tmp_path: Path) -> Iterator[Any]:
    """Whose units take a while."""
    from distributed import Client

    (tmp_path / "begun").mkdir()
    with Client(processes, set_as_default=False, timeout=60) as client:
        client.wait_for_workers(2)
        client.run(_slow, tmp_path / "begun")
        yield client


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder: files of one spectrum, one of seven, a packed one, a broken one, and a note."""
    monkeypatch.setattr(cluster, "UNIT", 4)
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
    pack(Inputs(files=[folder / "m.fits"], workers=0), folder / "p.parquet")
    return folder


ROWS = 19
Rows = list[dict[str, Any]]


def rows_in(path: Path) -> Rows:
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    tables = [read_table(file) for file in files]
    return [
        dict(zip(table.colnames, row, strict=True))
        for table in tables
        for row in table.as_array().tolist()
    ]


def same(one: Rows, two: Rows) -> None:
    """The same rows, up to the rounding of batches of other sizes."""
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert list(a) == list(b)
        for name, value in a.items():
            if isinstance(value, float):
                assert value == pytest.approx(b[name], rel=1e-3, abs=1e-5, nan_ok=True)
            else:
                assert value == b[name]


@pytest.fixture
def alone(run, weights, night, tmp_path) -> Callable[..., Rows]:
    """The rows of a single process."""

    def alone(*arguments: Any, command: str = "classify", suffix: str = ".parquet") -> Rows:
        output = tmp_path / f"alone{suffix}"
        done = run(command, *arguments, *weights, "--precision", "fp32", "-o", output)
        assert done.code in (0, 3), done.err
        return rows_in(output)

    return alone


@pytest.mark.parametrize("command", ["classify", "redshift"])
def test_the_rows_are_those_of_one_process(
    run, weights, night, tmp_path, address, alone, command
) -> None:
    output = tmp_path / "out"
    done = run(command, night, *weights, "-o", output, "--scheduler", address)
    assert done.code == 3, done.err
    assert f"1 of {ROWS} inputs have no prediction" in done.err
    assert "c.fits" in done.err
    assert "dashboard: http" in done.err
    assert "skipped 1 files without a spectrum" in done.err
    assert f"wrote {ROWS} rows" in done.err
    same(rows_in(output), alone(night, command=command))
    assert len(list(output.glob("part-*"))) == 4
    assert not list(tmp_path.glob("*spectromer-lock"))
    parts = [pq.read_schema(part) for part in sorted(output.glob("part-*"))]
    own = pq.read_schema(tmp_path / "alone.parquet")
    for part in parts:
        # Types, and units, UCDs and descriptions of the columns.
        assert part.equals(own.with_metadata(None), check_metadata=False)
        assert [field.metadata for field in part] == [field.metadata for field in own]
        assert of_run(part) == of_run(own)


def of_run(schema: pa.Schema) -> dict[bytes, bytes]:
    """The provenance but for when and by which command."""
    return {k: v for k, v in schema.metadata.items() if k not in (b"date", b"command")}


def test_relative_names_and_a_file_as_output(
    run, weights, night, tmp_path, address, alone, monkeypatch
) -> None:
    monkeypatch.chdir(night.parent)
    done = run("classify", "night", *weights, "-o", "z.ecsv", "--scheduler", address)
    assert done.code == 3, done.err
    same(rows_in(Path("z.ecsv")), alone("night", suffix=".ecsv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.ecsv", "night", "z.ecsv"]


def test_what_is_known_and_which_columns_travel_too(
    run, weights, night, tmp_path, address, alone
) -> None:
    prior = tmp_path / "prior.csv"
    prior.write_text("z,p\n0.5,0\n1,1\n1.5,0\n")
    options = ["--class", "GALAXY", "--z-prior", prior, "--columns", "object_id,z,zwarn,flags"]
    output = tmp_path / "out"
    arguments = ["redshift", night, *weights, "-o", output, "--scheduler", address, *options]
    assert run(*arguments).code == 3
    rows = rows_in(output)
    same(rows, alone(night, *options, command="redshift"))
    assert list(rows[0]) == ["object_id", "z", "zwarn", "flags"]
    assert all(0.5 <= row["z"] <= 1.5 for row in rows if row["zwarn"] & 1 << 9 == 0)
    assert b"prior" in pq.read_schema(output / "part-000000.parquet").metadata
    other = run(*arguments[:-4], "--columns", "object_id,z,zwarn,flags", "--resume")
    assert other.code == 2 and "written with other prior" in other.err


def test_a_catalogue_fills_what_files_leave_out(run, night, weights, tmp_path, address, alone):
    table = Table({"file": ["y.csv", "a.csv"], "ra": [10.0, 20.0], "dec": [-5.0, 5.0]})
    table["TARGETID"] = [7, 8]
    table.write(night / "targets.fits")
    output = tmp_path / "z.parquet"
    arguments = ["--catalog", night / "targets.fits"]
    done = run("redshift", *arguments, *weights, "-o", output, "--scheduler", address)
    assert done.code == 0, done.err
    rows = rows_in(output)
    assert [(row["ra"], row["dec"], row["targetid"]) for row in rows] == [
        (10.0, -5.0, 7), (20.0, 5.0, 8)
    ]  # fmt: skip
    same(rows, alone(*arguments, command="redshift"))
    one, two = (pq.read_schema(path) for path in (output, tmp_path / "alone.parquet"))
    assert [(field, field.metadata) for field in one] == [(field, field.metadata) for field in two]


def test_a_catalogue(run, weights, night, tmp_path, address, alone) -> None:
    catalogue = night / "targets.ecsv"
    table = Table({"file": ["y.csv", "m.fits", "m.fits", "z.csv", "a.csv"]})
    table["row"] = [0, 5, 2, 0, 0]
    table["remark"] = list("abcde")
    table.write(catalogue)
    output = tmp_path / "z.csv"
    done = run("classify", "--catalog", catalogue, *weights, "-o", output, "--scheduler", address)
    assert done.code == 0, done.err
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [row["remark"] for row in rows] == list("abcde")
    assert [row["cat_row"] for row in rows] == list("05200")
    expected = alone("--catalog", catalogue)
    assert [row["class"] for row in rows] == [row["class"] for row in expected]


def test_a_hats_catalogue(run, weights, night, tmp_path, address, alone) -> None:
    folder = tmp_path / "catalogue" / "dataset" / "Norder=0" / "Dir=0"
    folder.mkdir(parents=True)
    for pixel in (2, 10):
        table = pq.read_table(night / "p.parquet")
        pq.write_table(table, folder / f"Npix={pixel}.parquet", row_group_size=3)
    (tmp_path / "catalogue" / "hats.properties").write_text("dataproduct_type=object\n")
    output = tmp_path / "out"
    done = run("redshift", folder.parents[2], *weights, "-o", output, "--scheduler", address)
    assert done.code == 0, done.err
    rows = rows_in(output)
    assert len(rows) == 14
    same(rows, alone(folder.parents[2], command="redshift"))


def killing(is_time: Callable[[], bool], kill: Callable[[], None]) -> threading.Thread:
    """Kill something once it is time."""

    def watch() -> None:
        end = time.monotonic() + 300.0
        while time.monotonic() < end and not is_time():
            time.sleep(0.02)
        kill()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def _slow(folder: Path) -> None:
    """On a worker: units take a while, and a file named by its process says that one has begun."""

    def predict_unit(*arguments: Any) -> Any:
        (folder / str(os.getpid())).touch()
        time.sleep(0.5)
        return units.predict_unit(*arguments)

    cluster.predict_unit = predict_unit  # type: ignore[assignment]


SCRIPT = """
import sys
from spectromer_cli.cli import app
from spectromer_cli.inference import cluster
cluster.UNIT = 4
sys.argv = ["spectromer", *sys.argv[1:]]
app.main()
"""


def test_a_client_and_a_worker_that_are_killed_cost_nothing(
    run, weights, night, tmp_path, processes, client, alone
) -> None:
    output, begun = tmp_path / "out", tmp_path / "begun"
    arguments = ["classify", night, *weights, "-o", output, "--scheduler", processes]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    killing(lambda: any(output.glob("part-*.parquet")), process.kill).join()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = len(list(output.glob("part-*.parquet")))
    assert 0 < done < 4
    refused = run(*arguments)
    assert refused.code == 2
    assert "--resume" in refused.err
    other = run("redshift", *arguments[1:], "--resume")
    assert other.code == 2
    assert "other columns" in other.err

    victims = set(client.run(os.getpid).values())
    for file in begun.iterdir():
        file.unlink()
    victim: list[int] = []

    def kill() -> None:
        victim.append(int(next(begun.iterdir()).name))
        os.kill(victim[0], signal.SIGKILL)

    thread = killing(lambda: any(begun.iterdir()), kill)
    resumed = run(*arguments, "--resume")
    thread.join()
    assert victim[0] in victims and victim[0] not in client.run(os.getpid).values()
    assert resumed.code == 3, resumed.err
    assert f"resuming: {done} parts are done" in resumed.err
    assert f"wrote {ROWS} rows" in resumed.err
    same(rows_in(output), alone(night))
    assert len(list(output.glob("part-*.parquet"))) == 4

    (night / "b.csv").unlink()
    changed = run(*arguments, "--resume")
    assert changed.code == 2
    assert "differ from those of the unfinished run" in changed.err


@pytest.mark.parametrize("name", ["out", "z.csv"])
def test_a_unit_that_fails_costs_no_other(
    run, weights, night, tmp_path, address, alone, monkeypatch, name
) -> None:
    def predict_unit(work: Any, unit: units.Unit, threads: int) -> Any:
        if any(s.target.path.name == "y.csv" for s in unit.slices):
            raise MemoryError("too much")
        return units.predict_unit(work, unit, threads)

    output = tmp_path / name
    folder = output if name == "out" else tmp_path / "z.csv.spectromer-parts"
    arguments = ["classify", night, *weights, "-o", output, "--scheduler", address]
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "predict_unit", predict_unit)
        failed = run(*arguments)
    assert failed.code == 3
    assert "part-000003.parquet" in failed.err
    assert "failed 3 times: MemoryError: too much" in failed.err
    assert "1 units failed" in failed.err
    assert len(list(folder.glob("part-*.parquet"))) == 3
    done = run(*arguments, "--resume")
    assert done.code == 3
    assert f"1 of {ROWS} inputs" in done.err
    if name == "out":
        same(rows_in(output), alone(night))
    else:
        assert len(output.read_text().splitlines()) == ROWS + 1
        assert not folder.exists()


def test_workers_with_another_program_are_refused(
    run, weights, night, tmp_path, address, monkeypatch
) -> None:
    monkeypatch.setattr(units, "__version__", "0.0.0")  # that of runs was taken before
    output = tmp_path / "out"
    done = run("classify", night, *weights, "-o", output, "--scheduler", address)
    assert done.code == 2
    assert "2 of 2 workers differ" in done.err
    assert "it has spectromer 0.0.0" in done.err
    assert not list(output.glob("part-*"))


def test_auto_and_a_scheduler_file(run, weights, night, tmp_path, address, monkeypatch) -> None:
    import dask

    output = tmp_path / "out"
    with dask.config.set({"scheduler-address": address}):
        done = run("classify", night / "a.csv", *weights, "-o", output, "--scheduler", "auto")
    assert done.code == 0, done.err
    file = tmp_path / "scheduler.json"
    text = json.dumps({"address": address, "workers": {}})
    threading.Timer(0.5, file.write_text, [text]).start()  # it may come a little later
    output = tmp_path / "other"
    done = run("classify", night / "a.csv", *weights, "-o", output, "--scheduler", file)
    assert done.code == 0, done.err
    assert len(rows_in(output)) == 1


@pytest.mark.slow
def test_a_cluster_for_the_run(run, weights, night, tmp_path, alone) -> None:
    output = tmp_path / "out"
    done = run("classify", night, *weights, "-o", output, "--scheduler", "local", "--workers", 2)
    assert done.code == 3, done.err
    assert "2 workers at tcp://127.0.0.1" in done.err
    same(rows_in(output), alone(night))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--scheduler", "local"], 2, "--scheduler needs -o"),
        (["--scheduler", "local", "--json"], 2, "--scheduler needs -o"),
        (["--scheduler", "nowhere", "-o", "out"], 2, "not a file or an address"),
        (["--scheduler", "auto", "-o", "out"], 2, "DASK_SCHEDULER_ADDRESS"),
        (["--scheduler", "tcp://127.0.0.1:9", "-o", "out"], 4, "no Dask scheduler responds"),
        (["--scheduler", "tcp://h:1", "-o", "out", "--workers", 2], 2, "--workers needs"),
        (["--scheduler", "local", "-o", "night"], 2, "contains other files"),
        (["--scheduler", "local", "-o", "night/a.csv"], 2, "would be overwritten"),
        (["--scheduler", "local", "-o", "out", "--combine", "object_id"], 2, "--combine and"),
        (["--scheduler", "local", "-o", "out", "--samp", "all"], 2, "-o is a folder"),
        (["--scheduler", "local", "-o", "out", "--columns", "y"], 2, "no column y"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run, weights, night, monkeypatch, arguments, code, said
) -> None:
    monkeypatch.chdir(night.parent)
    monkeypatch.setattr(cluster, "CONNECTING", 1.0)
    monkeypatch.setattr(cluster.Cluster, "prepare", lambda *_: None)
    before = sorted(night.iterdir())
    done = run("classify", "night", *weights, *arguments)
    assert done.code == code, done.err
    assert said in done.err
    assert sorted(night.iterdir()) == before


@pytest.mark.parametrize(
    "options", [["--format", "redrock", "-o", "z.fits"], ["--save-pz", "pz.fits", "-o", "out"]]
)
def test_what_a_cluster_does_not_write(run, weights, night, monkeypatch, options) -> None:
    monkeypatch.chdir(night.parent)
    done = run("redshift", "night", *weights, "--scheduler", "local", *options)
    assert done.code == 2
    assert f"{options[0]} and --scheduler exclude each other" in done.err


def test_from_python(weights, night, tmp_path, address) -> None:
    from spectromer_cli.inference.run import predict

    output = tmp_path / "out"
    assert predict(
        night / "m.fits", model=weights[1], device="cpu", output=output, scheduler=address
    ) is None  # fmt: skip
    assert len(rows_in(output)) == 7
    with pytest.raises(UsageError, match="not spectra from Python"):
        predict(
            emission_galaxy(0.1), model=weights[1], device="cpu", output=output, scheduler=address
        )
