"""Results go out and come back the same, in every format; an error leaves no half file."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits, votable
from astropy.table import MaskedColumn, Table

from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.outputs import screen, tables
from spectromer_cli.outputs.provenance import command_line, provenance
from spectromer_cli.spectra.catalogues import read_catalogue

SUFFIXES = (".csv", ".ecsv", ".fits", ".vot", ".parquet", ".jsonl")
PROVENANCE = {
    "version": "0.1.0",
    "weights": "first.light",
    "sha256": "0123456789abcdef" * 4,
    "command": "spectromer redshift " + " ".join(f"'field {i}/näme.fits'" for i in range(12)),
}
HUB_TOKEN = f"hf_{17 * 'Ab'}"
NAMES = ["a.fits", "é.fits[12]", 'folder, with comma/"quoted".fits', "β" * 30]


def chunk(first: int, last: int) -> Table:
    """Rows first to last of a table of known content; row 0 is not known, z of row 3 neither."""
    n = np.arange(first, last)
    return Table(
        {
            "file": np.array(NAMES[first:last], dtype=str),
            "row": MaskedColumn(n, mask=n == 0),
            "z": (n + 0.1).astype(np.float32),
            "z_err": np.where(n == 3, np.nan, np.pi / (n + 1)),
            "zwarn": MaskedColumn(n.astype(np.int16) + 999, mask=n == 2),
            "good": MaskedColumn(n > 1, mask=n == 1),
            "magnitudes": np.stack([n, n + 0.5], axis=1),
        }
    )


def write(path: Path, *chunks: Table) -> Path:
    with tables.open_writer(path, PROVENANCE) as writer:
        for table in chunks:
            writer.write(table)
    return path


def rows(path: Path) -> list[list]:
    """The rows as Python values, None where nothing is known."""
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        return [list(json.loads(line).values()) for line in lines]
    _, table = read_catalogue(path, None)
    lists = [column.tolist() for column in table.itercols()]
    return [[None if v != v else v for v in row] for row in zip(*lists, strict=True)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    # Chunks whose strings grow, after one that only tells the columns.
    path = write(tmp_path / f"t{suffix}", chunk(0, 0), chunk(0, 1), chunk(1, 2), chunk(2, 4))
    got = rows(path)
    assert [row[0] for row in got] == NAMES
    assert [row[1] for row in got] == [None, 1, 2, 3]
    assert [np.float32(row[2]) for row in got] == [np.float32(n + 0.1) for n in range(4)]
    assert [row[3] for row in got] == [np.pi, np.pi / 2, np.pi / 3, None]
    assert [row[4] for row in got] == [999, 1000, None, 1002]
    if suffix == ".csv":
        assert [row[5] for row in got] == ["False", None, "True", "True"]
        assert [json.loads(row[6]) for row in got] == [[n, n + 0.5] for n in range(4)]
    else:
        assert [row[5] for row in got] == [False, None, True, True]
        assert [list(row[6]) for row in got] == [[n, n + 0.5] for n in range(4)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_value_of_every_number_type(tmp_path, suffix):
    names = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
    values = [200, 60000, 4000000000, 2**63 + 5, -100, -30000, -5, 2**62 + 1, 0.5, 0.1, 1e300]
    table = Table({n: np.array([v], dtype=f">{n}") for n, v in zip(names, values, strict=True)})
    table["file"] = "x"
    (row,) = rows(write(tmp_path / f"t{suffix}", table))
    expected = [*values[:9], float(np.float32(0.1)), 1e300]
    got = [int(v) if isinstance(v, str) else v for v in row[:11]]
    assert [float(np.float32(v)) if n == "f4" else v for n, v in zip(names, got, strict=True)] == (
        expected
    )


def test_text_has_no_noise_of_single_precision(tmp_path):
    path = write(tmp_path / "t.csv", chunk(0, 4))
    with path.open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["z"] for row in read] == ["0.1", "1.1", "2.1", "3.1"]
    assert read[0]["z_err"] == repr(np.pi) and read[3]["z_err"] == "" and read[0]["row"] == ""
    assert '"z": 0.1,' in write(tmp_path / "t.jsonl", chunk(0, 1)).read_text()
    assert "NaN" not in write(tmp_path / "t.jsonl", chunk(3, 4)).read_text()


def test_provenance_comes_back(tmp_path):
    def path(suffix: str) -> Path:
        return write(tmp_path / f"t{suffix}", chunk(0, 4))

    for suffix in (".csv", ".jsonl"):
        record = json.loads((path(suffix).with_name(f"t{suffix}.meta.json")).read_text())
        assert list(record.pop("columns")) == chunk(0, 0).colnames
        assert record == PROVENANCE
    assert dict(Table.read(path(".ecsv")).meta) == PROVENANCE
    infos = votable.parse(path(".vot")).resources[0].infos
    assert {info.name: info.value for info in infos} == PROVENANCE
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_schema(path(".parquet")).metadata
    assert {k.decode(): v.decode() for k, v in metadata.items()} == PROVENANCE
    meta = Table.read(path(".fits")).meta
    assert meta["SHA256"] == PROVENANCE["sha256"] and meta["VERSION"] == "0.1.0"
    # Cards are ASCII: an ä comes as its escape.
    assert meta["COMMAND"] == PROVENANCE["command"].replace("ä", "\\xe4")


def test_long_provenance_names_do_not_overwrite_each_other_in_fits(tmp_path):
    with tables.open_writer(tmp_path / "t.fits", {"weights_name": "a", "weights_nasty": "b"}) as w:
        w.write(chunk(0, 1))
    header = fits.getheader(tmp_path / "t.fits", 1)
    assert {"a", "b"} <= {header[key] for key in header if key.startswith("WEIGHT")}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_is_a_valid_file_with_its_columns(tmp_path, suffix):
    table = chunk(0, 0)
    table.remove_column("magnitudes")
    path = write(tmp_path / f"t{suffix}", table)
    if suffix == ".jsonl":
        assert path.read_text() == ""
        return
    with pytest.raises(UsageError, match="has no rows"):  # read as a catalogue: columns, no rows
        read_catalogue(path, None)
    assert write(tmp_path / f"none{suffix}").exists()  # not even columns


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, suffix, error):
    path = tmp_path / f"t{suffix}"
    path.write_text("what was there")

    def fail() -> None:
        with tables.open_writer(path, PROVENANCE) as writer:
            writer.write(chunk(0, 2))
            raise error

    with pytest.raises(error):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there"


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, monkeypatch):
    def full(table):
        raise OSError(28, "No space left on device")

    writer = tables.TableWriter(tmp_path / "t.csv", full)
    with pytest.raises(SpectromerError, match=r"t\.csv cannot be written: the disk is full"):
        writer.write(chunk(0, 1))


def test_other_columns_in_a_later_chunk_are_refused(tmp_path):
    with tables.open_writer(tmp_path / "t.csv", {}) as writer:
        writer.write(Table({"a": [1]}))
        with pytest.raises(ValueError, match="after columns"):
            writer.write(Table({"b": [1]}))


def test_the_suffix_is_checked_before_the_work(tmp_path):
    for name in ("t.xlsx", "t", "t.csv.gz"):
        with pytest.raises(UsageError, match="suffix") as caught:
            tables.check_output(tmp_path / name)
        assert all(suffix in caught.value.hint for suffix in SUFFIXES)
    with pytest.raises(UsageError, match="does not exist"):
        tables.check_output(tmp_path / "missing" / "t.csv")
    tables.check_output(tmp_path / "T.FITS")


def test_csv_on_stdout(capsys):
    with tables.open_writer(None, PROVENANCE) as writer:
        writer.write(chunk(0, 1))
    out, err = capsys.readouterr()
    assert out == (
        "file,row,z,z_err,zwarn,good,magnitudes\n"
        'a.fits,,0.1,3.141592653589793,999,False,"[0.0, 0.5]"\n'
    )
    assert err == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_catalogue_may_bring_along(tmp_path, suffix):
    table = Table(
        {"file": [os.fsdecode(b"caf\xe9.fits")], "position": SkyCoord([10], [20], unit="deg")}
    )
    table["bytes"] = np.array([b"ABC"])
    table["nothing"] = np.array([None], dtype=object)
    (row,) = rows(write(tmp_path / f"t{suffix}", table))
    # A name that is no Unicode shows its stray byte; nobody crashes over it.
    assert row[0] == "caf\\xe9.fits" and row[1:4] == [10.0, 20.0, "ABC"]
    assert row[4] in (None, "")


def test_units_and_descriptions_stay(tmp_path):
    table = Table({"file": ["x"], "wave": [5000.0]}, units={"wave": "km/s"})
    table["wave"].description = "rest"
    for suffix in (".ecsv", ".fits", ".vot"):
        read = Table.read(write(tmp_path / f"t{suffix}", table))
        if suffix != ".fits":  # FITS has no place for it
            assert read["wave"].description == "rest"
        assert str(read["wave"].unit) == "km / s"


def test_parquet_collects_small_chunks_into_large_groups(tmp_path):
    import pyarrow.parquet

    path = write(tmp_path / "t.parquet", *[Table({"n": np.arange(i, i + 500)}) for i in range(30)])
    file = pyarrow.parquet.ParquetFile(path)
    assert file.num_row_groups == 2 and file.metadata.num_rows == 15000
    assert file.read(["n"]).column("n")[500].as_py() == 1


def test_json_document():
    errors = [{"file": "b.fits", "message": "is empty"}]
    text = screen.to_json_document(chunk(2, 4), PROVENANCE, "partial", errors)
    document = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} in JSON"))
    assert list(document) == [
        "spectromer_result_version", "status", "provenance", "rows", "errors",
    ]  # fmt: skip
    assert document["spectromer_result_version"] == 1 and document["status"] == "partial"
    assert document["provenance"] == PROVENANCE and document["errors"] == errors
    assert document["rows"][1] == {
        "file": "β" * 30, "row": 3, "z": 3.1, "z_err": None, "zwarn": 1002, "good": True,
        "magnitudes": [3.0, 3.5],
    }  # fmt: skip
    assert document["rows"][0]["zwarn"] is None


def test_json_document_of_plain_rows():
    rows = [
        {"file": "caf\udce9.fits", "z": np.nan, "regions": [{"share": np.inf, "lines": ["Hα"]}]}
    ]
    document = json.loads(screen.to_json_document(rows, PROVENANCE, "success", []))
    assert document["rows"] == [
        {"file": "caf\\xe9.fits", "z": None, "regions": [{"share": None, "lines": ["Hα"]}]}
    ]
    assert list(document) == list(
        json.loads(screen.to_json_document(chunk(0, 1), PROVENANCE, "success", []))
    )
    failed = json.loads(screen.envelope("error", ["no such model"]))
    assert failed["spectromer_result_version"] == document["spectromer_result_version"]
    assert failed["errors"] == ["no such model"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--token", "s3cret", "-o", "a b"], "--token *** -o 'a b'"),
        (["--token=s3cret", "--json"], "--token=*** --json"),
        ([HUB_TOKEN], "hf_***"),
        ([f"--repo=https://u:{HUB_TOKEN}@hf.co"], "--repo=https://u:hf_***@hf.co"),
        (["hf-hub:owner/name", "hf_spectrum12345.fits"], "hf-hub:owner/name hf_spectrum12345.fits"),
    ],
)
def test_provenance_hides_tokens(monkeypatch, words, line):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/spectromer", "fetch", *words])
    assert command_line() == f"spectromer fetch {line}"
    record = provenance(seed="7")
    assert list(record) == ["version", "date", "command", "seed"]
    assert record["command"] == command_line()


def test_provenance_names_the_program_that_ran(monkeypatch):
    for program, name in (
        ("/a/spectromer_cli/__main__.py", "spectromer"),
        ("/home/me/night.py", "night.py"),
        ("", "python"),
        ("-c", "python"),
    ):
        monkeypatch.setattr(sys, "argv", [program, "a.fits"])
        assert command_line() == f"{name} a.fits"


@pytest.mark.parametrize("width", [40, 60, 100])
def test_show_fits_the_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    n = 53
    table = Table(
        {
            "file": [f"/a/very/long/folder/name/spec-{i:04d}[3].fits" for i in range(n)],
            "class": ["GALAXY"] * n,
            "z": [0.123456789] * n,
            "empty": [np.nan] * n,
            "flags": MaskedColumn([""] * n, mask=[True] * n),
            "class_prob": [0.98765] * n,
            "ivar": [1e-7] * n,
        }
    )
    screen.show(table, "Redshifts")
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "\x1b" not in out and "empty" not in out and "flags" not in out
    assert sum("[3].fits" in line for line in lines) == 50  # no markup; shortened from the left
    assert ("…" in out) == (width < 100) and "0.12346" in out and "GALAXY" in out
    assert "3 more rows" in out.replace("\n", " ")
    assert ("1e-07" in out) == (width >= 60)
    assert ("no room for" in out) == (width < 60)
