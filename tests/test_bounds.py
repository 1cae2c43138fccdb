"""One input never costs another: files that claim too much, end nothing or take no end."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import survey_files
from astropy.io import fits
from astropy.table import Table

from spectromer_cli.errors import NotASpectrum, ReadError, UsageError
from spectromer_cli.spectra import loading
from spectromer_cli.spectra.catalogues import read_catalogue
from spectromer_cli.spectra.loading import Inputs, Item, load_all
from spectromer_cli.spectra.readers import ReadOptions, desi, open_spectra, read, sdss
from spectromer_cli.spectra.sources import Target, expand

WAVE = np.linspace(4000.0, 9000.0, 2000)
FLUX = np.random.default_rng(0).normal(10.0, 1.0, 2000)
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files and signals")


@contextmanager
def soon(seconds: float = 10.0) -> Iterator[None]:
    """What is done within must not take longer."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def refused(path: Path, match: str, **options: object) -> None:
    """A file is refused soon, and costs a spectrum beside it nothing."""
    reading = ReadOptions(**options)  # type: ignore[arg-type]
    with soon(), pytest.raises(ReadError, match=match), open_spectra(path, reading) as spectra:
        for row in range(len(spectra)):
            spectra.get(row)


# --- the structure of FITS files ----------------------------------------------------------------


def with_cards(path: Path, hdu: int = 1, **cards: object) -> Path:
    """A FITS file with some cards of an HDU replaced, whatever else they then are at odds with."""
    data = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as hdus:
        place = hdus[hdu].fileinfo()["hdrLoc"]
        end = hdus[hdu].fileinfo()["datLoc"]
    for name, value in cards.items():
        start = data.find(f"{name:8}=".encode(), place, end)
        if start < 0:  # in front of END
            start = data.find(b"END" + b" " * 77, place, end)
            data[start + 80 : start + 160] = b"END" + b" " * 77
        data[start : start + 80] = f"{name:8}= {value:>20}".ljust(80).encode()
    path.write_bytes(data)
    return path


def table(path: Path) -> Path:
    Table({"wavelength": WAVE, "flux": FLUX}).write(path, format="fits")
    return path


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"NAXIS": 2**63 - 1}, "NAXIS"),
        ({"NAXIS": -1}, "NAXIS"),
        ({"TFIELDS": 2**32}, "TFIELDS"),
        ({"TFIELDS": 1000}, "TFIELDS"),
        ({"GCOUNT": -1}, "GCOUNT"),
        ({"PCOUNT": -32000}, "PCOUNT"),
        ({"PCOUNT": 10**11}, "cut off.*claims 100 GB"),
        ({"NAXIS2": -2000}, "NAXIS2"),
        ({"NAXIS2": 10**12}, "cut off.*GB"),
        ({"NAXIS2": 10**30}, "NAXIS2"),
        ({"NAXIS1": 0, "NAXIS2": 10**11}, "without a byte"),
        ({"NAXIS1": "'abc'"}, "NAXIS1"),
        ({"BITPIX": 7}, "BITPIX"),
        ({"TFORM1": "'999999999D'"}, "columns that need more"),
        ({"TFORM2": "'99999999999999999999999D'"}, "columns that need more"),
    ],
)
def test_sizes_in_a_header_are_held_against_the_file(
    tmp_path: Path, cards: dict[str, object], match: str
) -> None:
    refused(with_cards(table(tmp_path / "a.fits"), **cards), match)


def test_a_primary_header_is_checked_too(tmp_path: Path) -> None:
    survey_files.write_lamost_image(tmp_path / "a.fits", survey_files.made())
    refused(with_cards(tmp_path / "a.fits", 0, NAXIS=10**18), "NAXIS")


def test_headers_without_an_end(tmp_path: Path) -> None:
    path = table(tmp_path / "a.fits")
    data = path.read_bytes()
    path.write_bytes(data[:2880].replace(b"END  ", b"ENT  "))
    refused(path, "no end")
    card = b"COMMENT and so on".ljust(80)
    path.write_bytes(data[:2880] + data[2880:2960] + card * 200_000)
    refused(path, "no end")


def test_a_size_with_two_values(tmp_path: Path) -> None:
    path = table(tmp_path / "a.fits")
    data = path.read_bytes()
    end = data.index(b"END" + b" " * 77, 2880)
    again = f"{'NAXIS2':8}= {7:>20}".ljust(80).encode()
    path.write_bytes(data[:end] + again + data[end : end + 80] + data[end + 160 :])
    refused(path, "NAXIS2 twice")


@pytest.mark.parametrize("kind", ["P", "Q"])
def test_arrays_of_variable_length(tmp_path: Path, kind: str) -> None:
    columns = [
        fits.Column(name, f"{kind}D()", array=np.array([values, values[:1000], values], object))
        for name, values in (("wavelength", WAVE), ("flux", FLUX))
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.writeto(tmp_path / "a.fits")
    assert [len(s.flux) for s in read(tmp_path / "a.fits")] == [2000, 1000, 2000]
    data = (tmp_path / "a.fits").read_bytes()
    with fits.open(tmp_path / "a.fits") as hdus:
        place = hdus[1].fileinfo()["datLoc"]
    dtype = ">i4" if kind == "P" else ">i8"
    for count, offset, match in [
        (2000, 10**8, "beyond the table"),
        (-5, 0, "beyond the table"),
        (2**31 - 1, 0, "beyond the table"),
    ]:
        wrong = np.array([count, offset], dtype).tobytes()
        (tmp_path / "b.fits").write_bytes(data[:place] + wrong + data[place + len(wrong) :])
        refused(tmp_path / "b.fits", match)


def test_arrays_that_share_their_bytes_are_each_counted(tmp_path: Path) -> None:
    """A megabyte of heap named by a million rows would be a terabyte."""
    rows, values = 20_000, np.zeros(100_000)
    columns = [
        fits.Column(name, "PD()", array=np.array([values[:1]] * rows, object))
        for name in ("wavelength", "flux")
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.writeto(tmp_path / "a.fits")
    data = bytearray((tmp_path / "a.fits").read_bytes())
    with fits.open(tmp_path / "a.fits") as hdus:
        place = hdus[1].fileinfo()["datLoc"]
    all_of_it = np.array([[20_000, 0, 20_000, 0]] * rows, ">i4").tobytes()
    data[place : place + len(all_of_it)] = all_of_it
    (tmp_path / "a.fits").write_bytes(data)
    refused(tmp_path / "a.fits", "allow|in memory")


def test_a_packed_image_may_claim_no_more_than_is_allowed(tmp_path: Path) -> None:
    image = fits.CompImageHDU(np.zeros((4, 300), "i2"), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits")
    refused(with_cards(tmp_path / "a.fits", ZNAXIS1=10**7, ZNAXIS2=10**7), "in memory")


def test_a_file_with_something_after_its_end_is_read(tmp_path: Path) -> None:
    path = table(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes() + b"\0" * 2880)
    assert len(read(path)) == 1


# --- what may be unpacked, and how many pixels --------------------------------------------------


def test_the_size_of_a_file_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(table(tmp_path / "a.fits").read_bytes()))
    assert len(read(path)) == 1
    refused(path, "unpacks to more than", max_file_size="20kB")
    refused(tmp_path / "a.fits", "in memory, and 20 kB are allowed", max_file_size="20 kB")
    for text, size in (("500MB", 500_000_000), ("1.5g", 1_500_000_000), ("7", 7), (8, 8)):
        assert ReadOptions(max_file_size=text).max_bytes == size
    for wrong in ("much", "-1", "0", "", "1e400", "1" * 5000):
        with pytest.raises(UsageError, match="--max-file-size"):
            ReadOptions(max_file_size=wrong)
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--file-timeout"):
            Inputs(files="a", file_timeout=seconds)


def test_more_pixels_than_a_spectrum_has(tmp_path: Path) -> None:
    many = np.arange(1_000_001, dtype=np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("wavelength", "flux"):
            file.create_dataset(name, data=many, compression="gzip")
    refused(tmp_path / "a.h5", "too many for a spectrum")
    pyarrow.parquet.write_table(
        pyarrow.table({"wavelength": many, "flux": many}), tmp_path / "a.parquet"
    )
    refused(tmp_path / "a.parquet", "too many for a spectrum")
    Table({"wavelength": many, "flux": many}).write(tmp_path / "a.fits")
    refused(tmp_path / "a.fits", "too many for a spectrum")


def test_a_text_column_of_a_parquet_table_is_not_unpacked(tmp_path: Path) -> None:
    """One long text, repeated in a dictionary, takes bytes on disk and terabytes in memory."""
    text = pyarrow.DictionaryArray.from_arrays(np.zeros(1000, "i4"), ["1" * 1_000_000])
    pyarrow.parquet.write_table(
        pyarrow.table({"wavelength": WAVE[:1000], "flux": text}), tmp_path / "a.parquet"
    )
    refused(tmp_path / "a.parquet", "not numbers")


def test_columns_of_text_that_are_wider_than_their_rows(tmp_path: Path) -> None:
    columns = [
        fits.Column("wavelength", "F10.3", array=WAVE),
        fits.Column("flux", "F10.3", array=FLUX),
    ]
    fits.TableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    assert len(read(tmp_path / "a.fits")) == 1
    refused(with_cards(tmp_path / "a.fits", TFORM2="'F999999999.3'"), "columns that need more")


def test_an_image_of_a_row_without_end(tmp_path: Path) -> None:
    image = fits.PrimaryHDU(np.zeros(1_000_001, "u1"))
    image.header.update({"CRVAL1": 4000.0, "CDELT1": 1e-3, "CRPIX1": 1.0, "CUNIT1": "Angstrom"})
    image.writeto(tmp_path / "a.fits")
    refused(tmp_path / "a.fits", "too many for a spectrum")


def test_meta_data_that_hold_themselves_many_times(tmp_path: Path) -> None:
    """YAML names what it has said already: ten lines are 10^10 words."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    head = ["%ECSV 1.0", "---", "datatype:", "- {name: wavelength, datatype: float64}"]
    head += ["- {name: flux, datatype: float64}", "meta:", *(f"  {line}" for line in lines)]
    rows = [f"{w} {f}" for w, f in zip(WAVE, FLUX, strict=True)]
    text = "\n".join([*(f"# {line}" for line in head), "wavelength flux", *rows, ""])
    (tmp_path / "a.ecsv").write_text(text)
    with soon():
        assert len(read(tmp_path / "a.ecsv")[0].flux) == 2000


# --- HDF5 data elsewhere --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["external storage", "virtual", "external link", "fifo"])
@posix
def test_plain_hdf5_tables_take_no_data_of_other_files(tmp_path: Path, way: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(FLUX.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["flux"] = FLUX
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["wavelength"] = WAVE
        if way == "external storage":
            file.create_dataset(
                "flux", FLUX.shape, FLUX.dtype, external=[(str(secret), 0, FLUX.nbytes)]
            )
        elif way == "virtual":
            layout = h5py.VirtualLayout(FLUX.shape, FLUX.dtype)
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "flux", FLUX.shape)
            file.create_virtual_dataset("flux", layout)
        else:
            name = "other.h5"
            if way == "fifo":
                name = "pipe"
                os.mkfifo(tmp_path / name)
            file["flux"] = h5py.ExternalLink(str(tmp_path / name), "flux")
    refused(tmp_path / "a.h5", "another file|no spectrum")


@posix
def test_a_soft_link_through_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["wavelength"] = np.tile(WAVE, (2, 1))
        file["there"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
        file["flux"] = h5py.SoftLink("/there/flux")
    refused(tmp_path / "a.h5", "another file|no spectrum")


# --- readers that raise ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyError("TTYPE2"), SystemError()])
def test_an_identify_that_raises_says_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def raising(source: object) -> bool:
        raise error

    monkeypatch.setattr(sdss, "identify", raising)
    assert len(read(table(tmp_path / "a.fits"))) == 1  # by another reader


@pytest.mark.parametrize("error", [MemoryError(), RecursionError()])
@pytest.mark.parametrize("where", ["identify", "read"])
def test_what_is_too_large_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    path = survey_files.write_spec(tmp_path / "a.fits", survey_files.made())

    def raising(*given: object) -> bool:
        raise error

    monkeypatch.setattr(sdss, where, raising)
    with pytest.raises(ReadError, match="needs more") as caught:
        read(path)
    assert not isinstance(caught.value, NotASpectrum)


def test_whatever_opening_raises_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = table(tmp_path / "good.fits")
    original = loading.open_spectra

    def opening(path: Path, options: ReadOptions) -> object:
        if path == good:
            return original(path, options)
        raise MemoryError if path.name == "m" else OSError("the disk is on fire")

    monkeypatch.setattr(loading, "open_spectra", opening)
    targets = [Target(tmp_path / "m"), Target(good), Target(tmp_path / "o"), Target(good)]
    items = list(load_all(targets, ReadOptions()))
    assert [bool(item.problem) for item in items] == [True, False, True, False]
    assert "memory" in items[0].problem
    assert "on fire" in items[2].problem


# --- folders, patterns, names ---------------------------------------------------------------------


@pytest.fixture
def fan(tmp_path: Path) -> Path:
    """Forty folders, each with two links to the next: 2^40 ways, one file."""
    for level in range(40):
        (tmp_path / "fan" / f"l{level}").mkdir(parents=True)
    for level in range(39):
        for name in ("a", "b"):
            (tmp_path / "fan" / f"l{level}" / name).symlink_to(tmp_path / "fan" / f"l{level + 1}")
    table(tmp_path / "fan" / "l39" / "a.fits")
    return tmp_path / "fan"


@posix
def test_each_real_folder_is_searched_once(fan: Path) -> None:
    with soon():
        targets = list(expand([str(fan)]))
        assert [(target.path.name, target.problem) for target in targets] == [("a.fits", "")]
        targets = list(expand([str(fan / "**" / "*.fits")]))
        assert [(target.path.name, target.problem) for target in targets] == [("a.fits", "")]


@posix
def test_links_and_pipes_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.fits").symlink_to(folder / "a.fits")
    (folder / "around").symlink_to(folder)
    (folder / "b.fits").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "c.fits")
    os.mkfifo(folder / "properties")
    (folder / "dataset").mkdir()
    table(folder / "dataset" / "e.fits")
    with soon():
        items = list(load_all(expand([str(folder)]), ReadOptions()))
    assert [item.problem for item in items if item.file.endswith("e.fits")] == [""]


@posix
def test_what_is_not_a_file_is_a_row_each(tmp_path: Path) -> None:
    (tmp_path / "loop.fits").symlink_to(tmp_path / "loop.fits")
    (tmp_path / "broken.fits").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.fits")
    table(tmp_path / "sound.fits")
    with soon():
        items = list(load_all(expand([str(tmp_path)]), ReadOptions()))
    assert [(Path(item.file).name, bool(item.problem)) for item in items] == [
        ("broken.fits", True), ("loop.fits", True), ("pipe.fits", True), ("sound.fits", False)
    ]  # fmt: skip


@posix
def test_a_folder_that_is_very_deep(tmp_path: Path) -> None:
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        os.chdir(tmp_path)
        with soon():
            assert list(expand(["."]))  # a reason where the path is too long, and no end of the run
    finally:
        os.chdir(tmp_path)
        subprocess.run(["rm", "-rf", "d"], check=True)
        os.chdir(before)


@pytest.mark.parametrize(
    "name", ["x" * 300, "x\0y", "~\0", "x" * 5000, "a" * 70_000, f"a[{'9' * 5000}]", "~" * 300]
)
def test_names_that_no_disk_can_have(tmp_path: Path, name: str) -> None:
    sound = str(table(tmp_path / "a.fits"))
    items = list(load_all(expand([name, sound]), ReadOptions()))
    assert [bool(item.problem) for item in items] == [True, False]
    assert len(items[0].complaint) < 2000
    catalogue = tmp_path / "c.ecsv"
    Table({"file": [name.replace("\0", "\\0"), sound]}).write(catalogue)
    targets, _ = read_catalogue(catalogue, tmp_path)
    items = list(load_all(targets, ReadOptions()))
    assert [bool(item.problem) for item in items] == [True, False]
    (item,) = load_all([Target(Path(name))], ReadOptions())
    assert item.problem


def test_a_name_without_end_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = table(tmp_path / "a.fits")
    data = b"x" * 50_000_000 + b"\n" + os.fsencode(sound) + b"\n"
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    with soon():
        first, second = expand(["-"])
    assert "too long for a file name" in first.problem
    assert len(first.problem) < 1000
    assert second.path == sound
    assert not second.problem


# --- time -----------------------------------------------------------------------------------------


def slowly(monkeypatch: pytest.MonkeyPatch, seconds: float = 30.0) -> None:
    """SDSS files take their time, and swallow every exception meanwhile, as libraries do."""

    def identify(source: object) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except Exception:
                continue
        return False

    monkeypatch.setattr(sdss, "identify", identify)


@posix
def test_each_file_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "a.fits")
    text = tmp_path / "b.txt"
    np.savetxt(text, np.c_[WAVE, FLUX], header="wavelength flux")
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    try:
        mine = signal.getsignal(signal.SIGALRM)
        with monkeypatch.context() as patched:
            slowly(patched)
            with soon():
                items = list(load_all([Target(path)], ReadOptions(file_timeout=0.5)))
        assert "took longer than 0.5 s: --file-timeout" in items[0].problem
        assert not items[0].skipped
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert not rang
        assert not next(load_all([Target(path)], ReadOptions(file_timeout=0))).problem
        assert not next(load_all([Target(text)], ReadOptions(file_timeout=9))).problem
    finally:
        signal.signal(signal.SIGALRM, before)


@posix
def test_looking_up_a_target_has_a_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    table(folder / "coadd-main-dark-1.fits")
    (tmp_path / "c.csv").write_text("targetid\n5\n")

    def slow(*given: object) -> list[object]:
        time.sleep(30)
        return []

    monkeypatch.setattr(desi, "identities", slow)
    inputs = Inputs(catalog=tmp_path / "c.csv", spectra_dir=folder, file_timeout=0.5)
    with soon():
        (target,) = inputs.targets()[0]
    assert "no spectrum of targetid 5" in target.problem


def test_a_process_that_reads_starts_without_the_model() -> None:
    program = (
        "import sys, spectromer_cli.spectra.loading\n"
        "print(*{'torch', 'timm', 'astropy', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("cores", "total", "on_gpu", "processes"),
    [(2, 10**6, False, 0), (8, 10**6, False, 2), (8, 100, False, 0), (8, None, True, 4)],
)
def test_processes_read_where_they_win(
    monkeypatch: pytest.MonkeyPatch, cores: int, total: int | None, on_gpu: bool, processes: int
) -> None:
    monkeypatch.setattr(loading, "cores", lambda: cores)
    assert Inputs(files="a.fits").processes(total, loading.readers(on_gpu)) == processes
    assert Inputs(files="a.fits", workers=3).processes(total, loading.readers(on_gpu)) == 3


@pytest.mark.parametrize(
    ("cores", "total", "size", "processes"),
    [(2, 10**6, 0, 2), (64, None, 0, 16), (8, 100, 0, 0), (8, 1, 10**9, 8)],
)
def test_processes_predict_where_they_win(
    monkeypatch: pytest.MonkeyPatch, cores: int, total: int | None, size: int, processes: int
) -> None:
    monkeypatch.setattr(loading, "cores", lambda: cores)
    monkeypatch.setattr(loading, "memory", lambda: 64_000_000_000)
    most = loading.predictors()
    assert Inputs(files="a.fits").processes(total, most, size) == processes
    assert Inputs(files="a.fits", workers=3).processes(total, most, size) == 3
    assert Inputs(files="-").processes(total, most, size) == 0


def test_processes_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "cores", lambda: 16)
    for gigabytes, processes in ((0.5, 1), (4.5, 4), (100, 16)):
        monkeypatch.setattr(loading, "memory", lambda size=gigabytes: int(size * 1e9))
        assert Inputs(files="a.fits").processes(10**6, loading.predictors()) == processes
    monkeypatch.undo()
    assert 100_000_000 < loading.memory() <= sys.maxsize


def test_the_size_of_files_is_that_of_each_once(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(5000))
    missing = Target(tmp_path / "missing.fits")
    assert loading.size_of([Target(path, row=0), Target(path, row=1), missing]) == 5000


@posix
def test_spectra_read_in_time_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many spectra: one row each, whichever of them takes too long."""
    monkeypatch.setattr(loading, "PIECE", 3)
    rows = 8
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["wavelength"], file["flux"] = np.tile(WAVE, (rows, 1)), np.tile(FLUX, (rows, 1))
    original = loading._read_row

    def slow(spectra: object, row: int, file: str, grid: object) -> Item:
        if row == 4:
            time.sleep(30)
        return original(spectra, row, file, grid)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "_read_row", slow)
    with soon():
        items = list(load_all([Target(tmp_path / "a.h5")], ReadOptions(file_timeout=1)))
    assert [item.row for item in items] == list(range(rows))
    assert [bool(item.problem) for item in items] == [row in (4, 5) for row in range(rows)]


# --- processes that die ---------------------------------------------------------------------------

# In every process: a reader that ends its process, hangs in compiled code, or works, by the name of
# the file.
PATCH = """
import os, time
from spectromer_cli.spectra import loading

original = loading._load
def load(piece, grid, options):
    name = piece.unit[0][1].path.name
    if name.startswith("die"):
        os._exit(9)
    if name.startswith("hang"):
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(600)
    if name.startswith("wait"):
        print(os.getpid(), flush=True)
        time.sleep(600)
    return original(piece, grid, options)
loading._load = load
loading.GRACE = 1.0
"""
# As users write scripts: without a part that only the first process runs.
SCRIPT = """
import sys
from pathlib import Path
from spectromer_cli.spectra.loading import Target, load_all
from spectromer_cli.spectra.readers import ReadOptions

targets = [Target(Path(name)) for name in sys.argv[2:]]
options = ReadOptions(file_timeout=float(sys.argv[1]))
for item in load_all(targets, options, workers=2, total=len(targets)):
    print(Path(item.file).name, item.problem, sep="|", flush=True)
"""


def script(folder: Path, seconds: float, names: list[str]) -> dict[str, Any]:
    """A run of the script over files of these names, for subprocess."""
    for name in names:
        table(folder / name)
    (folder / "script.py").write_text(SCRIPT)
    (folder / "sitecustomize.py").write_text(PATCH)  # imported as Python starts
    paths = [str(folder / name) for name in names]
    own = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {
        "args": [sys.executable, str(folder / "script.py"), str(seconds), *paths],
        "env": os.environ | {"PYTHONPATH": own},
        "text": True,
    }


def test_a_dead_reader_costs_its_file(tmp_path: Path) -> None:
    names = [f"{'die' if i in (3, 4, 20) else 'ok'}{i}.fits" for i in range(25)]
    done = subprocess.run(
        **script(tmp_path, 60, names), capture_output=True, timeout=200, check=True
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == names
    assert [bool(row[1]) for row in rows] == [name.startswith("die") for name in names]
    assert "the process reading it died" in rows[3][1]


@posix
def test_a_reader_that_never_returns_is_ended(tmp_path: Path) -> None:
    names = ["ok1.fits", "hang.fits", "ok2.fits"]
    done = subprocess.run(
        **script(tmp_path, 8, names), capture_output=True, timeout=120, check=True
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == names
    assert "did not respond within 8 s" in rows[1][1]
    assert rows[0][1] == rows[2][1] == ""


@posix
def test_readers_end_with_their_parent(tmp_path: Path) -> None:
    names = ["wait1.fits", "wait2.fits"]
    with subprocess.Popen(**script(tmp_path, 60, names), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        readers = [int(line) for line in itertools.islice(parent.stdout, 2)]
        assert all(map(alive, readers))
        parent.kill()
        end = time.monotonic() + 10
        while any(map(alive, readers)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(alive, readers))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_shared_hostile_files(shared: Path) -> None:
    folder = shared / "data" / "hostile"
    if not folder.is_dir():
        pytest.skip("the shared hostile files are not beside the project")
    with soon(30):
        items = list(load_all(expand([str(folder)]), ReadOptions()))
    assert {Path(item.file).name for item in items} == {p.name for p in folder.iterdir()}
