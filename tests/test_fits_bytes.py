"""What is taken from the bytes of FITS files is what astropy reads, or is left to it."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import survey_files
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers import base, read
from spectromer_cli.spectra.readers import fits_bytes as module
from spectromer_cli.spectra.readers.fits_bytes import cells
from spectromer_cli.spectra.spectrum import Spectrum

SCALARS = {"B": "u1", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8"}
FORMS = st.lists(
    st.sampled_from([*SCALARS, "3E", "12A", "A", "5J", "11X", "L", "4L", "C", "M", "PE()", "0D"]),
    min_size=1,
    max_size=12,
)


def column(form: str, number: int, rows: int, rng: np.random.Generator) -> fits.Column:
    name = f"Name_{number}"
    if form in SCALARS:
        kind = np.dtype(SCALARS[form])
        values = (100 * rng.normal(size=rows)).astype(kind)
    elif form.endswith("A"):
        values = np.array(["STARBURST ", "", "a b", "x"])[rng.integers(4, size=rows)]
    elif form == "PE()":
        values = np.array([np.ones(i, "f4") for i in range(rows)], dtype=object)
    elif form.endswith("X"):
        values = rng.random((rows, 11)) > 0.5
    elif form.endswith("L"):
        values = rng.random((rows, 4) if form == "4L" else rows) > 0.5
    elif form in "CM":
        values = rng.normal(size=rows) + 1j
    else:
        count = int(form[:-1])
        values = rng.normal(size=(rows, count)).astype(SCALARS[form[-1]])
    return fits.Column(name, form, array=values)


def opened(columns: list[fits.Column]) -> fits.HDUList:
    file = io.BytesIO()
    table = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)
    return fits.open(io.BytesIO(file.getvalue()), memmap=False)


@settings(deadline=None, max_examples=60)
@given(forms=FORMS, rows=st.integers(1, 4), seed=st.integers(0, 1000))
def test_every_cell_is_what_astropy_reads(forms: list[str], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    forms = [*forms, "E"]  # astropy writes no table whose rows have no bytes
    with opened([column(form, i, rows, rng) for i, form in enumerate(forms)]) as hdus:
        row = int(rng.integers(rows))
        wanted = [f"name_{i}" for i, form in enumerate(forms) if form in (*SCALARS, "12A", "A")]
        quick = module._plain(hdus[1]).cells(row, [*wanted, "absent"])
        assert list(quick) == wanted
        slow = module._by_astropy(hdus[1], row, wanted)
        for name in wanted:
            value = slow[name].rstrip() if isinstance(slow[name], str) else slow[name]
            assert quick[name] == value


@pytest.mark.parametrize("form", ["3E", "11X", "L"])
def test_what_is_no_plain_cell_is_left_to_astropy(form: str) -> None:
    with opened([column(form, 0, 2, np.random.default_rng(0))]) as hdus:
        with pytest.raises(module.NotPlain):
            module._plain(hdus[1]).cells(0, ["name_0"])
        found = cells(hdus[1], 0, ["name_0"])
        np.testing.assert_array_equal(found["name_0"], hdus[1].data["Name_0"][0])


def test_scaled_numbers_are_left_to_astropy() -> None:
    scaled = fits.Column("fiber", "I", array=np.array([40000, 2], "u2"), bzero=32768)
    with opened([scaled]) as hdus:
        assert cells(hdus[1], 0, ["fiber"])["fiber"] == 40000


def test_no_such_row_and_no_table() -> None:
    with opened([column("E", 0, 1, np.random.default_rng(0))]) as hdus:
        with pytest.raises(IndexError):
            cells(hdus[1], 1, ["name_0"])
        assert cells(hdus[0], 0, ["name_0"]) == {}


@pytest.mark.parametrize("card", ["TFORM1", "NAXIS1"])
def test_a_broken_header_costs_no_more_than_the_cell(card: str) -> None:
    file = io.BytesIO()
    fits.BinTableHDU.from_columns([column("E", 0, 1, np.random.default_rng(0))]).writeto(file)
    data = bytearray(file.getvalue())
    place = data.index(card.encode())
    data[place + 10 : place + 30] = b"'?'                 "
    try:
        with fits.open(io.BytesIO(bytes(data)), memmap=False) as hdus:
            assert cells(hdus[1], 0, ["name_0"]) == {}
    except (OSError, IndexError, TypeError, ValueError):
        pass  # astropy itself does not open it


# --- whole files ------------------------------------------------------------------------------


def by_astropy(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Spectrum] | str:
    """The spectra of a file without its bytes, or why there are none."""
    with monkeypatch.context() as patched:
        patched.setattr(base.fits_bytes, "hdus_of", lambda *given: None)
        return read_or_reason(path)


def read_or_reason(path: Path) -> list[Spectrum] | str:
    try:
        return read(path)
    except ReadError as error:
        return str(error)


def assert_same(found: list[Spectrum] | str, expected: list[Spectrum] | str) -> None:
    if isinstance(found, str) or isinstance(expected, str):
        assert found == expected
        return
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("wavelength", "flux", "ivar"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.meta == other.meta


def files_of_each(folder: Path) -> list[Path]:
    """A file of each layout that is read by its bytes."""
    one = survey_files.made(2000, CLASS="STAR", SUBCLASS="it's F5", Z=-1e-3)
    one.and_mask[100:120] = 1 << 3
    two = survey_files.made(2000, seed=1)
    paths = [survey_files.write_spec(folder / f"{survey}.fits", one, survey)
             for survey in ("SDSS", "BOSS", "eBOSS", "SDSS-V")]  # fmt: skip
    return [
        *paths,
        survey_files.write_spplate(folder / "spPlate.fits", [one, two]),
        survey_files.write_spspec(folder / "spSpec.fit", one),
        survey_files.write_lamost_image(folder / "image.fits", one),
        survey_files.write_lamost_image(folder / "packed.fits.gz", one),
    ]


def test_the_surveys_files_need_no_astropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in files_of_each(tmp_path):
        expected = by_astropy(path, monkeypatch)
        with monkeypatch.context() as patched:
            patched.setattr(base, "_open_fits", None)
            assert_same(read_or_reason(path), expected)


CHANGES = [
    b"BSCALE  =                  2.0", b"BZERO   =           2147483648", b"BLANK   =  0",
    b"HIERARCH COEFF0 = 3.7", b"coeff0  =                  3.7", b"COEFF0  = '3.58'",
    b"CONTINUE  'x'", b"TSCAL1  =                  2.0", b"TZERO4  =           2147483648",
    b"TDIM1   = '(2,2)'", b"TTYPE2  = 'FLUX'", b"TTYPE2  = 'Loglam'", b"PLATEID =",
    b"MJD     =               5.2D+4", b"RUN2D   = 'v6_0'", b"EXTNAME = 'a: 1'", b"NAXIS   = 2.0",
    b"Z       = 'caf\xe9'", b"OBSID   =", b"SIMPLE  =                    F", b"RA      =5",
]  # fmt: skip


@pytest.mark.parametrize("card", CHANGES)
def test_what_is_out_of_order_is_read_as_astropy_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: bytes
) -> None:
    """A card that is changed, in each header of a file in turn."""
    for path in files_of_each(tmp_path)[::3]:
        data = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
        with fits.open(io.BytesIO(data)) as hdus:
            headers = [hdu.fileinfo() for hdu in hdus]
        for number, place in enumerate(headers):
            changed = bytearray(data)
            at = data.find(card[:8], place["hdrLoc"], place["datLoc"])
            if at < 0 or at % 80:  # the last card that says something
                at = data.index(b"END" + b" " * 77, place["hdrLoc"]) - 80
            changed[at : at + 80] = card.ljust(80)
            other = tmp_path / f"{number}-{path.name.removesuffix('.gz')}"
            other.write_bytes(changed)
            assert_same(read_or_reason(other), by_astropy(other, monkeypatch))


@pytest.mark.parametrize("size", [2880, 5760, 7000, 20_000])
def test_the_end_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for path in files_of_each(tmp_path):
        if path.suffix != ".gz":
            data = path.read_bytes()
            for changed in (data[:-size], data + b"x" * size):
                path.write_bytes(changed)
                assert_same(read_or_reason(path), by_astropy(path, monkeypatch))


def test_real_files(shared: Path) -> None:
    """Every named cell of every table in the surveys' own files."""
    compared = 0
    for path in sorted((shared / "data" / "fits").glob("sdss*/*.fits")):
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus[1:]:
                if not hasattr(hdu, "columns") or not len(hdu.data):
                    continue
                for name in (name.lower() for name in hdu.columns.names):
                    try:
                        quick = module._plain(hdu).cells(0, [name])
                    except module.NotPlain:
                        continue
                    slow = hdu.data[name][0]
                    assert quick[name] == (slow.rstrip() if isinstance(slow, str) else slow) or (
                        slow != slow
                    )
                    compared += 1
    assert compared > 1000
