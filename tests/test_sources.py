"""Arguments and catalogues become the right list of files, rows and reasons."""

from __future__ import annotations

import io
import itertools
import os
import types
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table, vstack

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.outputs.tables import open_writer
from spectromer_cli.spectra import catalogues
from spectromer_cli.spectra.catalogues import Catalogue, find_targets, read_catalogue
from spectromer_cli.spectra.sources import Target, expand

SHARED = Path(__file__).parents[2] / "shared" / "data" / "fits"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))


# --- arguments ----------------------------------------------------------------------------


def test_files_in_the_order_given(folder):
    touch("b.fits", "a é.txt", "no suffix")
    assert list(expand(["b.fits", "a é.txt", "no suffix", "b.fits"])) == [
        Target(Path(name)) for name in ("b.fits", "a é.txt", "no suffix", "b.fits")
    ]


def test_one_row_of_a_file(folder):
    touch("plate.fits", "odd[3].fits", "odd[3].fits[1]")
    assert list(expand(["plate.fits[12]", "plate.fits[0]"])) == [
        Target(Path("plate.fits"), row=12),
        Target(Path("plate.fits"), row=0),
    ]
    # A name that exists is meant as it stands.
    assert list(expand(["odd[3].fits", "odd[3].fits[1]", "odd[3].fits[7]"])) == [
        Target(Path("odd[3].fits")),
        Target(Path("odd[3].fits[1]")),
        Target(Path("odd[3].fits"), row=7),
    ]


def test_a_folder_is_searched_to_the_bottom(folder):
    wanted = ["d/a.fits", "d/b/c.FITS.GZ", "d/b/z.h5", "d/c.csv", "d/e f/ü.fit"]
    touch(*wanted, "d/.hidden.fits", "d/.git/x.fits", "d/readme.md", "d/r.csv.meta.json")
    (folder / "d/b/up").symlink_to(folder / "d")  # must not run in circles
    assert list(expand(["d"])) == [Target(Path(name), found_in_folder=True) for name in wanted]


def test_patterns_that_the_shell_left(folder):
    touch("s/b2.fits", "s/b1.fits", "s/c.fits", "s/deep/er/b9.fits", "s/deep/d.txt")
    assert [t.path.name for t in expand(["s/b?.fits"])] == ["b1.fits", "b2.fits"]
    assert [t.path.name for t in expand([f"{folder}/s/[c-d].fits"])] == ["c.fits"]
    found = list(expand(["s/**/*.fits"]))
    assert [t.path.name for t in found] == ["b1.fits", "b2.fits", "c.fits", "b9.fits"]
    assert not any(t.found_in_folder for t in found)  # they were asked for
    # ** alone gives folders and their files: every file once all the same.
    assert sorted(t.path.name for t in expand(["s/**"])) == sorted(
        ["b1.fits", "b2.fits", "c.fits", "b9.fits", "d.txt"]
    )
    touch("s3")
    assert list(expand(["s[3]"])) == [Target(Path("s3"))]
    assert list(expand(["s/d*"])) == list(expand(["s/deep"]))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("missing.fits", "missing.fits does not exist"),
        ("missing.fits[3]", "no file matches missing.fits[3]"),
        ("*.fits", "no file matches *.fits"),
        ("s[0-9]", "no file matches s[0-9]"),
        ("empty", "empty contains no spectra"),
        ("a.txt/b.fits", "does not exist"),
        ("x" * 300, "cannot be opened: File name too long"),
        ("nul\0.fits", "cannot be opened"),
        ("~nobody-of-this-name/x.fits", "does not exist"),
    ],
)
def test_what_leads_nowhere_says_why(folder, argument, words):
    touch("a.txt", "empty/notes.md")
    (target,) = expand([argument])
    assert words in target.problem and "\n" not in target.problem
    assert not target.found_in_folder


def test_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    touch("x.fits", "~backup.fits")
    assert [t.path for t in expand(["~/x.fits", "~/*.fits", "~backup.fits"])] == [
        folder / "x.fits",
        folder / "x.fits",
        folder / "~backup.fits",
        Path("~backup.fits"),
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_locked_folder_is_not_lost_silently(folder):
    touch("d/locked/x.fits", "d/y.fits")
    Path("d/locked").chmod(0)
    try:
        first, second = expand(["d"])
    finally:
        Path("d/locked").chmod(0o700)
    assert "cannot be searched" in first.problem and second.path == Path("d/y.fits")


@pytest.mark.parametrize(
    "data",
    [b"a.fits\n\nb c.fits[2]\r\nd", b"a.fits\0b c.fits[2]\0d\0", b"a.fits\nb c.fits[2]\nd\n"],
)
def test_names_from_stdin(folder, monkeypatch, data):
    touch("a.fits", "b c.fits", "d/é.fits", "last.fits")
    give_stdin(monkeypatch, data)
    assert list(expand(["-", "last.fits"])) == [
        Target(Path("a.fits")),
        Target(Path("b c.fits"), row=2),
        Target(Path("d/é.fits"), found_in_folder=True),
        Target(Path("last.fits")),
    ]


def test_names_that_are_no_unicode(folder, monkeypatch):
    name = os.fsdecode(b"caf\xe9.fits")
    touch(name)
    give_stdin(monkeypatch, b"caf\xe9.fits\n")
    assert list(expand(["-"])) == [Target(Path(name))]


def test_stdin_is_read_as_it_comes(folder, monkeypatch):
    """The first target is there while the pipe is still open: nothing is collected first."""
    touch("x.fits")
    endless = itertools.repeat(b"x.fits\n" * 1000)
    buffer = types.SimpleNamespace(read1=lambda size: next(endless)[:size])
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=buffer))
    assert sum(not t.problem for t in itertools.islice(expand(["-"]), 2500)) == 2500


# --- catalogues ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".vot", ".parquet"])
def test_catalogue_with_names_in_every_format(folder, suffix):
    touch("cat/a.fits", "cat/sub/ü.fits")
    table = Table({"File": ["a.fits", "sub/ü.fits", "gone.fits", "a.fits"]})
    table["ROW"] = MaskedColumn([0, 3, 1, 7], mask=[True, False, False, False])
    table["mag"] = [17.5, 18.25, np.nan, 20.0]
    table["id"] = np.array([2**62 + 1, 2, 3, 4])
    path = folder / "cat" / f"c{suffix}"
    with open_writer(path, {}) as writer:
        writer.write(table)
    # By content: the suffix may be wrong, but text without one must be guessed.
    targets, read = read_catalogue(path if suffix == ".csv" else path.rename("cat/c"), None)
    assert [(t.path.name, t.row, t.catalogue_row) for t in targets] == [
        ("a.fits", None, 0),
        ("ü.fits", 3, 1),
        ("gone.fits", None, 2),
        ("a.fits", 7, 3),
    ]
    assert targets[1].path.exists() and not targets[0].problem and not targets[3].problem
    assert "gone.fits is not in" in targets[2].problem
    assert read["id"].tolist() == [2**62 + 1, 2, 3, 4] and read["mag"][1] == 18.25
    assert read.colnames == ["File", "ROW", "mag", "id"]


def test_catalogue_of_other_tables(folder):
    touch("a.fits", "dir/b.fits")
    Path("topcat.txt").write_text("# file        mag\n  a.fits        17.5\n")
    Path("excel.csv").write_bytes("\ufefffile,z\na.fits,1\n,2\n".encode())
    assert read_catalogue(Path("topcat.txt"), None)[0] == [Target(Path("a.fits"), catalogue_row=0)]
    first, second = read_catalogue(Path("excel.csv"), None)[0]
    assert first.path == Path("a.fits") and "has no file" in second.problem
    assert second.path.name.endswith(", row 1")
    # Not beside the catalogue, but where --spectra-dir says.
    Path("c.csv").write_text("file\nb.fits\n/nowhere/x.fits\n")
    first, second = read_catalogue(Path("c.csv"), Path("dir"))[0]
    assert first == Target(Path("dir/b.fits"), catalogue_row=0)
    assert second.problem and second.path == Path("/nowhere/x.fits")


def test_where_files_of_a_catalogue_lie(folder):
    """Below --spectra-dir, beside the catalogue, or below the working directory, in this order."""
    touch("cat/a.fits", "dir/a.fits", "a.fits", "cat/b.fits", "b.fits", "c.fits")
    Path("cat/c.csv").write_text("file\na.fits\nb.fits\nc.fits\n")
    targets, _ = read_catalogue(Path("cat/c.csv"), Path("dir"))
    assert [str(target.path) for target in targets] == ["dir/a.fits", "cat/b.fits", "c.fits"]
    targets, _ = read_catalogue(Path("cat/c.csv"), None)
    assert [str(target.path) for target in targets] == ["cat/a.fits", "cat/b.fits", "c.fits"]


def test_files_that_were_moved_into_one_folder(folder):
    touch("dir/a.fits", "dir/x.fits")
    Path("c.csv").write_text("file\nnight1/a.fits\n/gone/x.fits\nnight1/a.fits\n")
    targets, _ = read_catalogue(Path("c.csv"), Path("dir"))
    assert [str(target.path) for target in targets] == ["dir/a.fits", "dir/x.fits", "dir/a.fits"]
    # Two spectra of one name: which of them is here cannot be told.
    Path("c.csv").write_text("file\nnight1/a.fits\nnight2/a.fits\n")
    targets, _ = read_catalogue(Path("c.csv"), Path("dir"))
    assert all("is not in dir or ." in target.problem for target in targets)


@pytest.mark.parametrize("name", ["x" * 300, "nul\0.fits", "  "])
def test_a_name_that_no_disk_can_have(folder, name):
    table = Table({"file": [name, "a.fits"]})
    touch("a.fits")
    bad, good = find_targets(table, Path("c.csv"), None)
    assert "is not in ." in bad.problem
    assert good == Target(Path("a.fits"), catalogue_row=1)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few rows are long ones."""
    for name, value in (
        ("LONG_BYTES", 0),
        ("PIECE_BYTES", 64),
        ("LONG_ROWS", 2),
        ("PIECE_ROWS", 3),
    ):
        monkeypatch.setattr(catalogues, name, value)


def in_pieces(path: str, spectra_dir: Path | None = None) -> tuple[list[Target], Table]:
    """Targets and the rows beside them, four at a time."""
    catalogue = Catalogue(Path(path), spectra_dir)
    targets, rows = [], []
    stream = catalogue.targets()
    while some := list(itertools.islice(stream, 4)):
        targets += some
        rows.append(catalogue.rows([target.catalogue_row for target in some]))
    return targets, vstack(rows, join_type="exact")


CSV = (
    "file,ra,n,code,note\n"
    "a.fits,1,7,1.50,\n"
    'b.fits,2,8,2.0,"two\nlines, and a comma"\n'
    "c.fits,,9,3,x\n"
    "d.fits,4.5,10,3,\n"
    "a.fits,5,11,3x,y\n"
    "e.fits,6,12,nan,z\n"
    " f.fits ,7,13,6,z\n"
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_long_catalogue_in_pieces(folder, small_pieces, monkeypatch, suffix):
    touch("a.fits", "c.fits", "f.fits")
    Path("c.csv").write_text(CSV)
    whole = catalogues.read_table(Path("c.csv"))
    if suffix == ".parquet":
        with open_writer(Path("c.parquet"), {}) as writer:
            writer.write(whole)
    monkeypatch.setattr(catalogues, "RECENT", 4)
    targets, rows = in_pieces(f"c{suffix}")
    assert targets == find_targets(whole, Path("c.csv"), None)
    assert rows.colnames == whole.colnames
    for name in whole.colnames:
        assert rows[name].dtype.kind == whole[name].dtype.kind, name
        assert rows[name].tolist() == whole[name].tolist(), name
    assert rows["code"].tolist()[:2] == ["1.50", "2.0"]  # as it stands there


def test_names_are_compared_across_pieces(folder, small_pieces):
    touch("d/a.fits", "d/b.fits")
    lines = [f"night1/x{i}.fits,{i}" for i in range(20)]
    text = "\n".join(["file,TARGETID", "night1/a.fits,1", "night1/b.fits,2", *lines])
    Path("c.csv").write_text(text + "\nnight2/a.fits,1\nnight1/b.fits,3\n")
    targets, _ = in_pieces("c.csv", Path("d"))
    assert targets[0].problem and not targets[1].problem
    assert [t.shares_file for t in targets] == [False, True, *[False] * 21, True]


def test_a_long_catalogue_that_only_patient_readers_take(folder, small_pieces):
    touch("a.fits")
    Path("c.csv").write_text("file,z\na.fits\n" + "a.fits,1\n" * 30)
    targets, rows = in_pieces("c.csv")
    assert len(targets) == 31 and rows["z"].tolist() == [None, *[1] * 30]
    Path("c.csv").write_text("file,z\n" + "a.fits,1\n" * 30 + "a.fits,1,2\n")
    with pytest.raises(ReadError, match=r"the catalogue c\.csv cannot be read"):
        Catalogue(Path("c.csv"), None)


def test_names_of_a_long_catalogue_are_looked_up_as_they_come(folder, monkeypatch, capsys):
    from spectromer_cli.outputs import protect
    from spectromer_cli.spectra.loading import Inputs

    monkeypatch.setattr(protect, "COUNTABLE", 5)
    touch("a.fits")
    Path("c.csv").write_text("file\na.fits\n" + "b.fits\n" * 9)
    targets, _, total = protect.checked_targets(Inputs(catalog=Path("c.csv")), [])
    assert total == 10 and len(list(targets)) == 10
    assert "4 of first 5 inputs do not exist" in capsys.readouterr().err
    Path("c.csv").write_text("file\n" + "b.fits\n" * 9)
    with pytest.raises(UsageError, match="none of the first 5 inputs exist"):
        protect.checked_targets(Inputs(catalog=Path("c.csv")), [])


def plate_file(path: str, fibers: list[int]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    plugmap = fits.BinTableHDU(Table({"FIBERID": np.array(fibers, "i4")}))
    hdus = [fits.PrimaryHDU(np.ones((len(fibers), 8))), *(fits.ImageHDU() for _ in range(4))]
    fits.HDUList([*hdus, plugmap]).writeto(path)


def test_plate_mjd_fiberid(folder):
    touch("s/0266/spec-0266-51602-0001.fits", "s/x/spec-10743-58222-0410.fits.gz")
    touch("s/spSpec-51782-0391-155.fit", "s/spec-0266-51602-0009.txt")
    plate_file("s/spPlate-0266-51602.fits", [1, 3, 2])
    Path("c.csv").write_text(
        "PLATE,MJD,Fiber,Z\n0266,51602,1,9\n10743,58222,410,9\n391,51782,155,9\n"
        "266,51602,2,9\n266,51602,5,9\n1,2,3,9\n266,,3,9\n266,x,3,9\n"
    )
    targets, _ = read_catalogue(Path("c.csv"), Path("s"))
    assert [(t.path.name, t.row) for t in targets[:4]] == [
        ("spec-0266-51602-0001.fits", None),
        ("spec-10743-58222-0410.fits.gz", None),
        ("spSpec-51782-0391-155.fit", None),
        ("spPlate-0266-51602.fits", 2),
    ]
    assert not any(t.problem for t in targets[:4])
    assert targets[5].problem == "no spectrum of plate 1, mjd 2, fiberid 3 below s"
    assert "fiberid 5" in targets[4].problem
    assert "has no plate, mjd, fiberid" in targets[6].problem
    assert "not a whole number" in targets[7].problem
    assert [t.catalogue_row for t in targets] == list(range(8))


def lamost_file(path: str, obsid: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.ones((5, 8)), fits.Header({"OBSID": obsid})).writeto(path)


def test_obsid(folder, monkeypatch, capsys):
    touch("l/101001.fits", "l/old-101001.fits", "l/lrs-202002-v2.fits.gz")
    touch("l/spec-0266-51602-0001.fits")
    lamost_file("l/spec-58575-HD103621N361936B01_sp03-182.fits.gz", 303003)
    lamost_file("l/deep/spec-58575-HD103621N361936B01_sp03-183.fits", 404004)
    Path("l/spec-58575-HD1_sp03-184.fits").write_bytes(b"broken")
    Table({"obsid": [101001, 202002, 303003, 404004, 182, 58575, 51602]}).write("c.fits")
    targets, _ = read_catalogue(Path("c.fits"), Path("l"))
    assert [t.path.name for t in targets[:4]] == [
        "101001.fits",
        "lrs-202002-v2.fits.gz",
        "spec-58575-HD103621N361936B01_sp03-182.fits.gz",
        "spec-58575-HD103621N361936B01_sp03-183.fits",
    ]
    # Fibres and dates in names are no obsids.
    assert [bool(t.problem) for t in targets] == [False] * 4 + [True] * 3
    assert "HD1_sp03-184.fits is skipped" in capsys.readouterr().err
    # Headers are read only if a name does not say it.
    monkeypatch.setattr(fits, "getheader", lambda path: pytest.fail("a header was read"))
    Path("c.csv").write_text("obsid\n101001\n")
    assert read_catalogue(Path("c.csv"), Path("l"))[0][0].path == Path("l/101001.fits")


def desi_file(path: str, targetids: list[int]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    fibermap = fits.BinTableHDU(Table({"TARGETID": targetids}), name="FIBERMAP")
    fits.HDUList([fits.PrimaryHDU(), fibermap]).writeto(path)


def test_targetid(folder):
    desi_file("d/1/spectra-main-dark-1.fits", [2**60 + 1, 50, 2**60 + 1, 50, 60])
    desi_file("d/2/coadd-main-dark-1.fits", [70, 60])
    desi_file("d/2/redrock-main-dark-1.fits", [90])
    Table({"TARGETID": [2**60 + 1, 60, 70, 90, 50]}).write("c.fits")
    targets, _ = read_catalogue(Path("c.fits"), Path("d"))
    assert [(t.path.name, t.row) for t in targets[:3]] == [
        ("spectra-main-dark-1.fits", 0),
        ("coadd-main-dark-1.fits", 1),  # the coadd before its exposures
        ("coadd-main-dark-1.fits", 0),
    ]
    assert targets[3].problem == "no spectrum of targetid 90 below d"
    assert targets[4].row == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the original survey files are not here")
def test_real_files(folder):
    Path("c.csv").write_text("plate,mjd,fiberid\n266,51602,31\n391,51782,155\n10743,58222,410\n")
    assert [t.path.name for t in read_catalogue(Path("c.csv"), SHARED)[0]] == [
        "spec-0266-51602-0031.fits",
        "spSpec-51782-0391-155.fit",
        "spec-10743-58222-0410.fits",
    ]
    Path("c.csv").write_text("obsid\n209021\n")
    (target,) = read_catalogue(Path("c.csv"), SHARED)[0]
    assert target.path.name == "spec-55859-F5907_sp09-021.fits.gz"
    desi = SHARED / "desi" / "coadd-sv3-dark-26065.fits"
    targetids = fits.getdata(desi, "FIBERMAP")["TARGETID"].tolist()
    Path("c.csv").write_text("targetid\n" + "\n".join(map(str, targetids)))
    found = [(t.path, t.row) for t in read_catalogue(Path("c.csv"), SHARED)[0]]
    assert found == [(desi, row) for row in range(5)]
    # index.csv is a catalogue of all of them, relative to itself; its answers go nowhere.
    targets, table = read_catalogue(SHARED / "index.csv", None)
    assert len(targets) == len(table) and not any(t.problem for t in targets)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("ra,dec\n1,2\n", UsageError, "its columns are: ra, dec"),
        ("plate,mjd\n1,2\n", UsageError, "identifies no spectra"),
        ("", UsageError, "is empty"),
        ("file\n", UsageError, "has no rows"),
        ("obsid\n1\n", UsageError, "no folder of spectra is given"),
        ("file,z\na,1,2,3\n", ReadError, "cannot be read"),
        (b"SIMPLE  =  T" + b" " * 100, ReadError, "cannot be read"),
        (b"PAR1 and no more", ReadError, "cannot be read"),
        (b"<?xml version='1.0'?><VOTABLE><oops>", ReadError, "cannot be read"),
        (b"\x1f\x8bno gzip", ReadError, "cannot be read"),
        (b"file\n\xff\xfe\xfa.fits\n", ReadError, "cannot be read"),
    ],
)
def test_a_bad_catalogue(folder, content, error, words):
    path = Path("c.csv")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error) as caught:
        read_catalogue(path, None)
    message = str(caught.value)
    assert words in message and "c.csv" in message and "\n" not in message and caught.value.hint


def test_folders_that_are_not_there(folder):
    Path("c.csv").write_text("obsid\n1\n")
    with pytest.raises(UsageError, match="nowhere is not a directory"):
        read_catalogue(Path("c.csv"), Path("nowhere"))
    with pytest.raises(ReadError, match="No such file"):
        read_catalogue(Path("missing.csv"), None)


@pytest.mark.parametrize("value", ["inf", "209021.5", "9007199254740993.0", "many"])
def test_numbers_that_name_nothing_for_sure(tmp_path: Path, value: str) -> None:
    (tmp_path / "t.csv").write_text(f"obsid\n{value}\n740103182\n")
    targets, _ = read_catalogue(tmp_path / "t.csv", tmp_path)
    assert all(target.problem for target in targets)
    assert "not a whole number" in targets[0].problem


def test_an_obsid_is_not_looked_for_in_names_of_other_surveys(tmp_path: Path) -> None:
    for name in ("coadd-sv3-dark-26065.fits", "spPlate-0266-26065.fits"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "t.csv").write_text("obsid\n26065\n")
    (target,), _ = read_catalogue(tmp_path / "t.csv", tmp_path)
    assert "no spectrum of obsid 26065" in target.problem


def test_targets_of_the_early_desi_layout(tmp_path: Path) -> None:
    columns = [fits.Column(n, "D", array=np.ones(9)) for n in ("WAVELENGTH", "TARGET7", "TARGET5")]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "coadd-bgs-1-2.fits")
    (tmp_path / "t.csv").write_text("targetid\n5\n6\n")
    (found, missing), _ = read_catalogue(tmp_path / "t.csv", tmp_path)
    assert found.row == 1
    assert missing.problem


def test_a_folder_says_what_it_leaves_out(folder, capsys):
    console.set_quiet(0)  # a command of another test may have said less
    spectra = ["a.FLM", "b.asc", "c.ascii", "d.tsv", "e.tab", "f.spec", "g.vot", "h.dat.bz2",
               "i.fits.xz", "j.txt.zst", "k.csv.gz", "sub/l.asci"]  # fmt: skip
    touch(*(f"all/{name}" for name in spectra), "all/1.png", "all/2.png", "all/sub/3.log", "all/4")
    touch("all/.hidden")
    found = [str(target.path) for target in expand(["all"])]
    assert found == [f"all/{name}" for name in sorted(spectra)]
    assert "all: skipped 4 files by suffix (.png, none, .log)" in capsys.readouterr().err
    touch("one/a.fits")
    assert len(list(expand(["one"]))) == 1
    assert not capsys.readouterr().err
