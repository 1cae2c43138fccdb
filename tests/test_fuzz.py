"""Small valid files of each format, damaged at random: a spectrum or a reason, soon.

Run as a script, it damages and reads files in a process of its own, whose memory is measured.
"""

from __future__ import annotations

import bz2
import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import survey_files

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.loading import item_of
from spectromer_cli.spectra.readers import open_spectra

# The numbers that size fields are set to.
SIZES = (0, 1, -1, 999, 1000, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, -(2**31))
VALUES = (*map(str, SIZES), "T", "F", "'abc'", "''", "1E400", "NaN", "-0.0", "1E-300", "'999999E'",
          "'1PE(9999999)'", "'(1,999999999)'", "9" * 60)  # fmt: skip


def make_files(folder: Path) -> list[Path]:
    """A file of each format, a few kilobytes each."""
    import h5py
    import pyarrow
    import pyarrow.parquet
    from astropy.io import fits
    from astropy.table import Table

    spectrum = survey_files.made()
    files = [
        survey_files.write_spec(folder / "spec.fits", spectrum),
        survey_files.write_spplate(folder / "plate.fits", [spectrum, spectrum]),
        survey_files.write_spspec(folder / "spspec.fits", spectrum),
        survey_files.write_lamost_image(folder / "lamost_image.fits", spectrum),
        survey_files.write_lamost_table(folder / "lamost_table.fits", spectrum),
        survey_files.write_desi(folder / "desi.fits", [1, 2], [10.0, 20.0]),
    ]
    wave, flux = spectrum.wavelength, spectrum.flux
    plain = Table({"wavelength": wave, "flux": flux, "error": np.ones_like(flux)})
    image = fits.PrimaryHDU(flux.astype("f4"))
    image.header.update({"CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1.0, "CUNIT1": "Angstrom"})
    image.writeto(folder / "image.fits")
    ragged = [
        fits.Column(name, "PE()", array=np.array([values, values[:300]], object))
        for name, values in (("wavelength", wave), ("flux", flux))
    ]
    fits.BinTableHDU.from_columns(ragged).writeto(folder / "ragged.fits")
    tiled = fits.CompImageHDU(np.tile(flux, (3, 1)).astype("i2"), compression_type="RICE_1")
    tiled.header.update({"CRVAL1": 4000.0, "CDELT1": 2.0, "CTYPE1": "WAVE", "CUNIT1": "Angstrom"})
    tiled.writeto(folder / "tiled.fits")
    for name, kind in (("t.fits", "fits"), ("t.vot", "votable"), ("t.ecsv", "ascii.ecsv"),
                       ("t.csv", "ascii.csv"), ("t.txt", "ascii.commented_header")):  # fmt: skip
        plain.write(folder / name, format=kind)
    rows = {"object_id": ["a", "b"], "wavelength": [wave, wave], "flux": [flux, flux]}
    pyarrow.parquet.write_table(
        pyarrow.table({k: [list(v) if len(v) > 1 else v for v in values]
                       for k, values in rows.items()}), folder / "rows.parquet")  # fmt: skip
    pyarrow.parquet.write_table(
        pyarrow.table({"wavelength": wave, "flux": flux}), folder / "plain.parquet"
    )
    with h5py.File(folder / "rows.h5", "w") as file:
        file["wavelength"] = np.tile(wave, (2, 1))
        file.create_dataset("flux", data=np.tile(flux, (2, 1)), chunks=(1, 400), compression="gzip")
    with h5py.File(folder / "plain.h5", "w") as file:
        file["wavelength"], file["flux"] = wave, flux
    made = sorted(set(files) | {p for p in folder.iterdir() if p.is_file()})
    for path, pack in ((folder / "t.csv", gzip.compress), (folder / "image.fits", gzip.compress),
                       (folder / "t.txt", bz2.compress)):  # fmt: skip
        packed = path.with_name(path.name + (".bz2" if pack is bz2.compress else ".gz"))
        packed.write_bytes(pack(path.read_bytes()))
        made.append(packed)
    return made


# --- damages: each takes the bytes of a file and changes them ---------------------------------

Rng = np.random.Generator


def _place(data: bytearray, rng: Rng) -> int:
    """Headers and their like are small and tell the most: every other damage is done there."""
    limit = min(len(data), 6000) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(limit, 1)))


def flip(data: bytearray, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 20))):
        data[_place(data, rng)] = int(rng.integers(256))


def cut(data: bytearray, rng: Rng) -> None:
    del data[_place(data, rng) :]


def card(data: bytearray, rng: Rng) -> None:
    """Give a card of a FITS header, or a number of a text, another value."""
    cards = [m for m in re.finditer(rb"[A-Z][A-Z0-9_-]{1,7} *= [ '\w.+-]{18}", bytes(data))
             if data.startswith(b"SIMPLE") or data.startswith(b"XTENSION")]  # fmt: skip
    value = str(rng.choice(np.array(VALUES, object)))
    if cards:
        start = cards[int(rng.integers(len(cards)))].start()
        data[start + 10 : start + 80] = value[:70].rjust(20).ljust(70).encode()
        return
    numbers = [
        m.span() for m in re.finditer(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", bytes(data[:40_000]))
    ]
    if numbers:
        start, end = numbers[int(rng.integers(len(numbers)))]
        data[start:end] = value.encode()


def structure(data: bytearray, rng: Rng) -> None:
    """Give a card of a FITS header that says sizes another value."""
    found = list(
        re.finditer(rb"(NAXIS\d*|[PG]COUNT|TFIELDS|TFORM\d+|BITPIX|TDIM\d+|THEAP) *= ", bytes(data))
    )
    if not found:
        return field(data, rng)
    start = found[int(rng.integers(len(found)))].start()
    value = str(rng.choice(np.array(VALUES, object)))
    data[start + 10 : start + 80] = value[:70].rjust(20).ljust(70).encode()
    return None


def field(data: bytearray, rng: Rng) -> None:
    """Set what may be a size in a binary file."""
    width = int(rng.choice([2, 4, 8]))
    place = _place(data, rng) // width * width
    size = int(rng.choice(np.array(SIZES, object))) % 2 ** (8 * width)
    data[place : place + width] = size.to_bytes(width, str(rng.choice(["little", "big"])))  # type: ignore[arg-type]


def double(data: bytearray, rng: Rng) -> None:
    length = int(rng.choice([80, 2880, 1000]))
    start = _place(data, rng) // length * length
    data[start:start] = data[start : start + length] * int(rng.integers(1, 50))


def drop(data: bytearray, rng: Rng) -> None:
    length = int(rng.choice([1, 80, 2880]))
    start = _place(data, rng) // length * length
    del data[start : start + length]


def blank(data: bytearray, rng: Rng) -> None:
    start = _place(data, rng)
    length = min(int(rng.integers(1, 3000)), len(data) - start)
    data[start : start + length] = bytes([int(rng.choice([0, 32, 255]))]) * length


DAMAGES: tuple[Callable[[bytearray, Rng], None], ...] = (
    flip, cut, card, card, structure, structure, field, double, drop, blank,
)  # fmt: skip


def damaged(originals: list[Path], number: int) -> tuple[str, bytes]:
    """File `number`: its suffix and bytes, the same on every machine."""
    rng = np.random.default_rng([20, number])
    original = originals[int(rng.integers(len(originals)))]
    data = bytearray(original.read_bytes())
    packed = next((s for s in (".gz", ".bz2") if original.name.endswith(s)), "")
    inside = bool(packed) and rng.random() < 0.5
    if inside:
        data = bytearray((gzip if packed == ".gz" else bz2).decompress(bytes(data)))
    for _ in range(int(rng.integers(1, 4))):
        if data:
            DAMAGES[int(rng.integers(len(DAMAGES)))](data, rng)
    if inside:
        data = bytearray((gzip if packed == ".gz" else bz2).compress(bytes(data)))
    return original.name, bytes(data)


def read_all(path: Path) -> str:
    """What comes of a file: how many spectra, or the reason."""
    try:
        with open_spectra(path) as spectra:
            for row in range(min(len(spectra), 300)):
                try:
                    item_of(spectra.get(row), str(path), row, Grid())
                except ReadError as error:
                    assert str(error)
            return f"{len(spectra)} spectra"
    except ReadError as error:
        return str(error)


def main(folder: Path, count: int) -> None:
    """Damage and read; the last line is what was found, as JSON."""
    import faulthandler
    import resource
    import warnings

    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    # The machine that runs the tests must survive what is to be found.
    resource.setrlimit(resource.RLIMIT_AS, (12 * 10**9, 12 * 10**9))
    originals = make_files(folder)
    for path in originals:
        assert read_all(path) in ("1 spectra", "2 spectra", "3 spectra"), (path, read_all(path))
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    uncaught, slow, read = [], [], 0
    for number in range(count):
        name, data = damaged(originals, number)
        path = folder / f"damaged-{name}"
        path.write_bytes(data)
        print(number, name, flush=True)
        faulthandler.dump_traceback_later(60, exit=True)
        start = time.monotonic()
        try:
            read += read_all(path).endswith(" spectra")
        except Exception as error:
            uncaught.append(f"{number} {name}: {type(error).__name__}: {error}")
        faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - start > 20:
            slow.append(f"{number} {name}: {time.monotonic() - start:.0f} s")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin) / (
        1e9 if sys.platform == "darwin" else 1e6
    )
    print(json.dumps({"uncaught": uncaught, "slow": slow, "grown": grown, "read": read}))


def fuzz(folder: Path, count: int) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(count)], capture_output=True, text=True
    )
    last = done.stdout.splitlines()[-1:] or [""]
    assert done.returncode == 0, f"ended at {last[0]}: {done.stderr[-3000:]}"
    found = json.loads(last[0])
    assert found["uncaught"] == []
    assert found["slow"] == []
    assert found["grown"] < 1.0
    # Many damages hit what is not read; if none did, the test would test nothing.
    assert 0.05 * count < found["read"] < 0.95 * count


posix = pytest.mark.skipif(sys.platform == "win32", reason="measures memory by resource")


@posix
def test_five_hundred_damaged_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 500)


@posix
@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 10_000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
