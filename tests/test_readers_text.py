"""Spectra in text, whatever stands above the numbers, and in VOTables and 1-D HDF5."""

import bz2
import gzip
import io
import lzma
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pytest
from astropy import units
from astropy.io.votable import from_table
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra import Spectrum, air_to_vacuum
from spectromer_cli.spectra.readers import base, read

N = 600
WAVELENGTH = np.linspace(4000.0, 8193.0, N)  # steps of 7 Å
RANDOM = np.random.default_rng(7)
FLUX = 5.0 + np.sin(WAVELENGTH / 200.0) + RANDOM.normal(0.0, 0.1, N)
ERROR = RANDOM.uniform(0.08, 0.12, N)
FRAME = "# barycentric wavelengths\n"


def rows(*columns: np.ndarray, delimiter: str = " ", template: str = "{:.9g}") -> str:
    lines = zip(*columns, strict=True)
    return "\n".join(delimiter.join(template.format(v) for v in line) for line in lines) + "\n"


def spectrum_of(
    folder: Path, text: str | bytes, name: str = "a.txt", **options: object
) -> Spectrum:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    (spectrum,) = read(path, **options)  # type: ignore[arg-type]
    return spectrum


def check(
    spectrum: Spectrum, *flags: str, error: np.ndarray | None = None, medium: str = ""
) -> None:
    """λ, flux, ivar and the flags; the flag that no frame is given is always allowed.

    Columns that are taken by their order are in air, if nothing is said; others in vacuum.
    """
    by_order = {"COLUMNS_GUESSED", "MEDIUM_ASSUMED"} <= {*flags}
    medium = medium or ("air" if by_order else "vacuum")
    expected = air_to_vacuum(WAVELENGTH) if medium == "air" else WAVELENGTH
    np.testing.assert_allclose(spectrum.wavelength, expected, rtol=1e-7)
    np.testing.assert_allclose(
        spectrum.flux / np.median(spectrum.flux), FLUX / np.median(FLUX), 5e-5
    )
    if error is None:
        assert spectrum.meta["has_ivar"] is False
        assert (spectrum.ivar > 0).all()
    else:
        assert "has_ivar" not in spectrum.meta
        sn = spectrum.flux * np.sqrt(spectrum.ivar)
        np.testing.assert_allclose(sn, FLUX / error, rtol=1e-4)
    assert spectrum.meta["medium"] == medium
    assert {*spectrum.meta["flags"]} - {"FRAME_ASSUMED"} == {*flags}


# --- what stands above the numbers --------------------------------------------------------------

CGS = "erg/s/cm2/A"
THREE = {
    "names and units in brackets": "# wave_vac [Angstrom]  flux [erg/s/cm^2/A]  err [erg/s/cm^2/A]",
    "in parentheses": "# lambda_vac (A)\tFlux (erg/s/cm2/A)\tUncertainty (erg/s/cm2/A)",
    "of two words": "# vacuum wavelength (A)   Flux density (erg/s/cm2/A)   Flux error ()",
    "nested": "# wave_vac (A)  flux (erg/(s cm2 A))  sigma (erg/(s cm2 A))",
    "units below": f"wave_vac flux error\nAngstrom  {CGS}  {CGS}",
    "units below in comments": f"# wave_vac flux error\n# Angstrom {CGS} {CGS}",
    "units above": f"# Angstrom {CGS} {CGS}\n# wave_vac flux error",
    "units with spaces": "# wave_vac\tflux\terror\n# Angstrom\terg s-1 cm-2 A-1\terg s-1 cm-2 A-1",
    "numbered": "# 1: wavelength, vacuum, helio-corrected, unit: Angstrom\n"
    f"# 2: flux, unit: {CGS}\n# 3: flux uncertainty, unit: {CGS}",
    "columns": f"# col1 = wave_vac\n# col2 = flux ({CGS})\n# col3 = error",
    "Column": f"% Column 1: Wavelength in vacuum (Angstrom)\n% Column 2: flux ({CGS})\n"
    "% Column 3: sigma",
    "in brackets": f"! (1) vacuum wavelength [A]\n! (2) Flux [{CGS}]\n! (3) error",
    "listed": f"# wave_vac | Angstrom\n# flux | {CGS}\n# err | {CGS}",
    "names with |": f"# wave_vac | flux | err\n# Angstrom | {CGS} | {CGS}",
    "cards": f"# VACUUM = T / vacuum wavelengths\n# BUNIT = '{CGS}'\n# wave flux err",
    "cards before names": f"#SIMPLE = True\n#VACUUM = T\n#BUNIT = {CGS}\n"
    "#Wave (A)\tFlux ()\tUnc ()",
    "KEY: value": f"# MEDIUM: vacuum\n# FLUX_UNIT: {CGS}\n# wave flux err",
    "names far above": f"# wave_vac flux err\n# FLUX UNITS: {CGS}\n"
    + "".join(f"# HISTORY step {i} of many\n" for i in range(400)),
    "unmarked prose": "Spectrum of a star\n\nobserved in 1997 12 24 by\nA. Nonymous\n"
    f"Vacuum wavelengths\n\nFlux units: {CGS}\n# wave flux err",
    "marks": f"// vacuum wavelengths\n* made 2001\n; BUNIT = '{CGS}'\n| notes\n% wave flux err",
    "quoted": f'"wave_vac (A)" "flux ({CGS})" "err"',
}  # fmt: skip


@pytest.mark.parametrize("header", THREE.values(), ids=THREE)
def test_headers(tmp_path: Path, header: str) -> None:
    text = f"{header}\n{rows(WAVELENGTH, FLUX, ERROR)}"
    check(spectrum_of(tmp_path, text), error=ERROR)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_bytes_of_every_system(tmp_path: Path, end: str, encoding: str) -> None:
    text = f"# wave_vac (Å)\tflux ({CGS})\terr\n{rows(WAVELENGTH, FLUX, ERROR, delimiter=chr(9))}"
    spectrum = spectrum_of(tmp_path, text.replace("\n", end).encode(encoding))
    check(spectrum, error=ERROR)


def test_csv_with_quotes_and_other_columns(tmp_path: Path) -> None:
    sky = np.full(N, 3.0)
    lines = rows(WAVELENGTH, FLUX, sky, sky, ERROR**-2, delimiter='","').splitlines()
    text = "\n".join(['"Wavelength","Flux","BestFit","SkyFlux","IVar"', *(f'"{x}"' for x in lines)])
    check(spectrum_of(tmp_path, text), "MEDIUM_ASSUMED", "FLUX_UNIT_ASSUMED", error=ERROR)


def test_semicolons(tmp_path: Path) -> None:
    text = "wave_air;flam;sigma\n" + rows(WAVELENGTH, FLUX, ERROR, delimiter=";")
    check(spectrum_of(tmp_path, text), error=ERROR, medium="air")


@pytest.mark.parametrize("line", ["{},{};{},{}", "{},{}\t{},{}", "{};{},{}"])
def test_decimal_commas_are_refused_in_words(tmp_path: Path, line: str) -> None:
    text = "\n".join(line.format(*range(4000 + i, 4004 + i)) for i in range(50))
    with pytest.raises(ReadError, match="decimal commas"):
        spectrum_of(tmp_path, text)


def test_units_of_the_prose_are_obeyed(tmp_path: Path) -> None:
    f_nu = FLUX * WAVELENGTH**2
    text = "Units are: vacuum wavelength (nm), observed flux (mJy)\n" + rows(WAVELENGTH / 10, f_nu)
    check(spectrum_of(tmp_path, text))
    text = "# wave_vac: nm\n# flux: mJy\n" + rows(WAVELENGTH / 10, f_nu)
    check(spectrum_of(tmp_path, text))


@pytest.mark.parametrize("unit", ["arbitrary units", "a.u.", "arb. units", "rel. flux units"])
def test_arbitrary_units_do_not_stop_a_file(tmp_path: Path, unit: str) -> None:
    text = f"# wave (vacuum)   flux ({unit})\n" + rows(WAVELENGTH, FLUX)
    check(spectrum_of(tmp_path, text), "FLUX_UNIT_ASSUMED")


def test_magnitudes(tmp_path: Path) -> None:
    magnitude = -2.5 * np.log10(FLUX * WAVELENGTH**2) + 30.0
    width = np.full(N, 40.0)
    said = '#SET .Z.UNITS = "AB magnitudes"\n'
    for header in (said, "# AB magnitudes of a standard star\n", "# wavelength mag_ab bandwidth\n"):
        spectrum = spectrum_of(
            tmp_path, f"# VACUUM = T\n{header}{rows(WAVELENGTH, magnitude, width)}"
        )
        guessed = [] if "bandwidth" in header else ["COLUMNS_GUESSED"]
        check(spectrum, *guessed)
    with pytest.raises(ReadError, match="looks like magnitudes"):
        spectrum_of(tmp_path, f"# G1\n{rows(WAVELENGTH, magnitude, width)}")
    # The magnitude of the object is not the unit of its flux.
    text = f"# AB magnitude 17.2\n{rows(WAVELENGTH, FLUX * 1e-16)}"
    check(spectrum_of(tmp_path, text), "COLUMNS_GUESSED", "MEDIUM_ASSUMED", "FLUX_UNIT_ASSUMED")


# --- columns without names ----------------------------------------------------------------------

GUESSED = ("COLUMNS_GUESSED", "MEDIUM_ASSUMED", "FLUX_UNIT_ASSUMED")


def test_a_third_column_is_an_error_if_it_is_plainly_one(tmp_path: Path) -> None:
    check(spectrum_of(tmp_path, rows(WAVELENGTH, FLUX, ERROR)), *GUESSED, error=ERROR)


@pytest.mark.parametrize(
    "third",
    [
        np.full(N, 50.0),  # a bandwidth
        np.full(N, 0.1),
        np.repeat([7.0, 14.0, 21.0, 28.0], N // 4),  # multiples of the step
        FLUX - FLUX.mean(),  # as often below zero as above
        ERROR * 1e4,
        np.full(N, np.nan),
    ],
)
def test_a_third_column_of_something_else(tmp_path: Path, third: np.ndarray) -> None:
    check(spectrum_of(tmp_path, rows(WAVELENGTH, FLUX * 1e-3, third)), *GUESSED)


def test_of_four_columns_none_is_the_error(tmp_path: Path) -> None:
    check(spectrum_of(tmp_path, rows(WAVELENGTH, FLUX, ERROR, FLUX)), *GUESSED)


def test_errors_of_filling_do_not_count(tmp_path: Path) -> None:
    flux, error = FLUX.copy(), ERROR.copy()
    flux[:200] = error[:200] = 0.0
    spectrum = spectrum_of(tmp_path, rows(WAVELENGTH, flux, error))
    assert "has_ivar" not in spectrum.meta
    np.testing.assert_allclose(spectrum.ivar[200:], error[200:] ** -2, rtol=1e-5)


def test_a_column_that_counts_the_pixels(tmp_path: Path) -> None:
    check(spectrum_of(tmp_path, rows(np.arange(N), WAVELENGTH, FLUX)), *GUESSED)
    for first in (0, 1):
        with pytest.raises(ReadError, match="contains pixel numbers"):
            spectrum_of(tmp_path, rows(np.arange(first, 9000), np.ones(9000 - first)))


def test_names_that_nobody_knows(tmp_path: Path) -> None:
    header = "#iRMS=3.9e-05 0\n#    lk   ukf_f0v   uks_f0v        fh\n#\n"
    text = header + rows(WAVELENGTH, FLUX, FLUX / 2, FLUX / 3)
    check(spectrum_of(tmp_path, text), *GUESSED)
    # The wavelength is known, and only one other column is left.
    text = "# VACUUM = T\n# lambda  brightness  err\n" + rows(WAVELENGTH, FLUX, ERROR)
    check(spectrum_of(tmp_path, text), "COLUMNS_GUESSED", "FLUX_UNIT_ASSUMED", error=ERROR)


def test_one_of_several_fluxes_is_flagged(tmp_path: Path) -> None:
    text = "wave_vac,flux_a,flux_b\n" + rows(WAVELENGTH, FLUX, FLUX / 2, delimiter=",")
    check(spectrum_of(tmp_path, text), "COLUMNS_GUESSED", "FLUX_UNIT_ASSUMED")


@pytest.mark.parametrize(
    "header",
    ["# HJD mag err", "time,flux,err", "id ra dec", "pixel counts error", "# MJD flux err"],
)
def test_tables_of_something_else(tmp_path: Path, header: str) -> None:
    delimiter = "," if "," in header else " "
    text = f"{header}\n{rows(WAVELENGTH, FLUX, ERROR, delimiter=delimiter)}"
    with pytest.raises(NotASpectrum):
        spectrum_of(tmp_path, text)


# --- numbers ------------------------------------------------------------------------------------


def test_fortran_exponents(tmp_path: Path) -> None:
    flux = FLUX * 1e-120
    cells = [f"{w:.6f} {f:.8e}".replace("e-", "-") for w, f in zip(WAVELENGTH, flux, strict=True)]
    check(spectrum_of(tmp_path, "\n".join(cells)), *GUESSED)
    cells = [f"{w:.6f} {f:.8e}".replace("e", "D") for w, f in zip(WAVELENGTH, FLUX, strict=True)]
    check(spectrum_of(tmp_path, "\n".join(cells)), *GUESSED)


def test_cells_that_overflowed_are_bad_pixels(tmp_path: Path) -> None:
    lines = rows(WAVELENGTH, FLUX).splitlines()
    lines[100] = f"{WAVELENGTH[100]} ********"
    lines[200] = f"{WAVELENGTH[200]} INDEF"
    spectrum = spectrum_of(tmp_path, "\n".join(lines))
    np.testing.assert_array_equal(np.flatnonzero(spectrum.ivar == 0), [100, 200])
    lines[:100] = [f"{w} ********" for w in WAVELENGTH[:100]]
    with pytest.raises(ReadError, match="101 of 600 rows have cells that overflowed"):
        spectrum_of(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4700.5-0.011 0.1", "line 103 is not a row"),
        ("-4700.5 0.2 0.1", "line 103 has a negative wavelength"),
        ("4700.5", "line 103 is not a row"),
        ("4700.5 5.0 0.1 0.2", "line 103 is not a row"),
        ("4700.5 5.0 1_0", "line 103 is not a row"),
        ("end of data", "line 103 is not a row"),
        ("9999.0 5.0 0.1", "line 104 has"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, line: str, reason: str) -> None:
    lines = ["# wave flux err", "", *rows(WAVELENGTH, FLUX, ERROR).splitlines()]
    lines[102] = line
    with pytest.raises(ReadError, match=reason):
        spectrum_of(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("damaged", [0, 1, 2, 4])
def test_a_damaged_line_near_the_top_does_not_pass_for_prose(tmp_path: Path, damaged: int) -> None:
    lines = rows(WAVELENGTH, FLUX).splitlines()
    lines[damaged] = lines[damaged].replace(" ", "")
    if damaged == 0:  # a single number is not a row, and may be a count of pixels
        assert spectrum_of(tmp_path, "\n".join(lines)).wavelength.size == N - 1
    else:
        with pytest.raises(ReadError, match=f"line {damaged + 1} is not a row"):
            spectrum_of(tmp_path, "\n".join(lines))


def test_a_footer_in_comments(tmp_path: Path) -> None:
    text = f"# wave flux err\n{rows(WAVELENGTH, FLUX, ERROR)}\n# vacuum wavelengths\n# end\n"
    check(spectrum_of(tmp_path, text), "FLUX_UNIT_ASSUMED", error=ERROR)


def test_overlapping_orders_are_merged_and_said(tmp_path: Path) -> None:
    lines = rows(WAVELENGTH, FLUX).splitlines()
    spectrum = spectrum_of(tmp_path, "\n".join([*lines[:350], *lines[250:]]))
    check(spectrum, *GUESSED, "PIXELS_MERGED")


# --- images written as text ---------------------------------------------------------------------

CARDS = """BITPIX  =                    8  /  8-bit ASCII characters
NAXIS   =                    1  /  Number of Image Dimensions
NAXIS1  =                  600  /  Length of axis
ORIGIN  = 'NOAO-IRAF: WTEXTIMAGE'  /
CTYPE1  = 'LINEAR  '
CRVAL1  = {first}
CRPIX1  =                   1.
CD1_1   = {step}
WAT1_001= 'wtype=linear label=Wavelength units={unit}'
DC-FLAG = {log}
BUNIT   = 'erg/cm2/s/A'
VACUUM  =                    T / vacuum wavelengths
END


"""


@pytest.mark.parametrize("per_line", [1, 2, 5, 7])
def test_wtextimage_of_fluxes_only(tmp_path: Path, per_line: int) -> None:
    cards = CARDS.format(first=4000.0, step=7.0, unit="Angstroms", log=0)
    lines = [" ".join(f"{f:.9g}" for f in FLUX[i : i + per_line]) for i in range(0, N, per_line)]
    check(spectrum_of(tmp_path, cards + "\n".join(lines)))
    nanometres = CARDS.format(first=400.0, step=0.7, unit="nm", log=0)
    check(spectrum_of(tmp_path, nanometres + "\n".join(lines)))


def test_wtextimage_in_log_wavelength(tmp_path: Path) -> None:
    cards = CARDS.format(first=3.6, step=1e-4, unit="angstroms", log=1)
    spectrum = spectrum_of(tmp_path, cards + rows(FLUX))
    np.testing.assert_allclose(spectrum.wavelength, 10 ** (3.6 + 1e-4 * np.arange(N)))


def test_wtextimage_with_wavelengths(tmp_path: Path) -> None:
    cards = CARDS.format(first=1.0, step=1.0, unit="Angstroms", log=0)
    check(spectrum_of(tmp_path, cards + rows(WAVELENGTH, FLUX)), "COLUMNS_GUESSED")


def test_an_image_of_many_rows_is_refused(tmp_path: Path) -> None:
    cards = CARDS.format(first=4000.0, step=7.0, unit="Angstroms", log=0)
    cards = cards.replace("ORIGIN", "NAXIS2  = 3\nORIGIN")
    with pytest.raises(ReadError, match="image of 600 × 3 × 1 pixels"):
        spectrum_of(tmp_path, cards + rows(FLUX, FLUX, FLUX))


def test_cards_in_comments_are_obeyed(tmp_path: Path) -> None:
    cards = "".join(f"# {line}\n" for line in CARDS.splitlines() if line and line != "END")
    cards = cards.format(first=1, step=1, unit="Angstroms", log=0).replace("T /", "F /")
    spectrum = spectrum_of(tmp_path, cards + rows(WAVELENGTH, FLUX))
    check(spectrum, "COLUMNS_GUESSED", medium="air")


# --- formats that say what they are -------------------------------------------------------------


def astropy_table() -> Table:
    table = Table({"wave": WAVELENGTH / 10, "f": FLUX * WAVELENGTH**2, "e": ERROR * WAVELENGTH**2})
    table["wave"].unit, table["f"].unit, table["e"].unit = units.nm, units.Jy, units.Jy
    table["wave"].description = "wavelength in air"
    return table


def test_ecsv_says_medium_frame_and_units(tmp_path: Path) -> None:
    table = astropy_table()
    table.rename_columns(["f", "e"], ["flux", "error"])
    table.meta["SPECSYS"] = "BARYCENT"
    table.write(tmp_path / "a.ecsv")
    (spectrum,) = read(tmp_path / "a.ecsv")
    check(spectrum, error=ERROR, medium="air")
    assert spectrum.meta["frame"] == "barycentric"


def test_ipac(tmp_path: Path) -> None:
    table = astropy_table()
    table.rename_columns(["f", "e"], ["flux", "error"])
    table.rename_column("wave", "wave_air")
    table.write(tmp_path / "a.tbl", format="ascii.ipac")
    check(read(tmp_path / "a.tbl")[0], error=ERROR, medium="air")


def test_machine_readable_tables_of_journals(tmp_path: Path) -> None:
    table = astropy_table()
    table.rename_columns(["wave", "f", "e"], ["lambda_air", "flux", "e_flux"])
    table.write(tmp_path / "a.txt", format="ascii.mrt")
    check(read(tmp_path / "a.txt")[0], error=ERROR, medium="air")


def votable(**ucds: str) -> str:
    table = astropy_table()
    for name, ucd in ucds.items():
        table[name].meta["ucd"] = ucd
    document = from_table(table)
    for field in document.get_first_table().fields:
        field.ucd = ucds.get(field.name)
    text = io.BytesIO()
    document.to_xml(text)
    return text.getvalue().decode()


UCDS = {"wave": "em.wl;obs.atmos", "f": "phot.flux.density;em.wl", "e": "stat.error;phot.flux"}


def test_votable_by_ucd(tmp_path: Path) -> None:
    spectrum = spectrum_of(tmp_path, votable(**UCDS), "a.vot")
    check(spectrum, error=ERROR, medium="air")
    assert read(tmp_path / "a.vot", air=False)[0].meta["medium"] == "vacuum"


def test_votable_with_a_spectrum_a_row(tmp_path: Path) -> None:
    table = Table({"wave_vac": np.tile(WAVELENGTH, (2, 1)), "flux": np.stack([FLUX, 2 * FLUX])})
    table["err"] = np.stack([ERROR, 2 * ERROR])
    table.write(tmp_path / "a.xml", format="votable")
    spectra = read(tmp_path / "a.xml")
    assert [s.meta["object_id"] for s in spectra] == ["a[0]", "a[1]"]
    for spectrum in spectra:
        check(spectrum, "FLUX_UNIT_ASSUMED", error=ERROR)


def test_votable_asks_no_network_and_allocates_no_claims(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fields = '<FIELD name="wave" datatype="double"/><FIELD name="flux" datatype="double"/>'
    head = f"<VOTABLE version='1.3'><RESOURCE><TABLE{{}}>{fields}<DATA>"
    tail = "</DATA></TABLE></RESOURCE></VOTABLE>"
    href = f"<BINARY><STREAM href='http://127.0.0.1:{server.server_port}/x'/></BINARY>"
    try:
        with pytest.raises(ReadError, match="elsewhere"):
            spectrum_of(tmp_path, head.format("") + href + tail, "a.vot")
    finally:
        server.shutdown()
        server.server_close()
    assert not asked
    cells = "".join(
        f"<TR><TD>{w}</TD><TD>{f}</TD></TR>" for w, f in zip(WAVELENGTH, FLUX, strict=True)
    )
    text = head.format(' nrows="900000000000"') + f"<TABLEDATA>{cells}</TABLEDATA>" + tail
    check(spectrum_of(tmp_path, text), "MEDIUM_ASSUMED", "FLUX_UNIT_ASSUMED")
    with pytest.raises(ReadError, match="claims cells"):
        spectrum_of(
            tmp_path,
            text.replace('datatype="double"', 'datatype="double" arraysize="99999x9999"', 1),
        )


# --- HDF5 ---------------------------------------------------------------------------------------


def fill(group: h5py.Group, factor: float = 1.0) -> None:
    group["wave"], group["flux"], group["err"] = WAVELENGTH / 10, FLUX * factor, ERROR * factor
    group["wave"].attrs["unit"] = "nm"
    group["wave"].attrs["description"] = b"in vacuum"
    group["flux"].attrs["units"] = CGS


def test_hdf5_with_a_dataset_a_column(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file)
        file["temperature"] = 3.0
    check(read(tmp_path / "a.h5")[0], error=ERROR)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        fill(file.create_group("spectra/first"))
        fill(file.create_group("spectra/second"), 2.0)
        file["wave"] = h5py.ExternalLink("elsewhere.h5", "/wave")
    spectra = read(tmp_path / "b.h5")
    assert [s.meta["object_id"] for s in spectra] == ["b/spectra/first", "b/spectra/second"]
    for spectrum in spectra:
        check(spectrum, error=ERROR)


def test_hdf5_with_a_table(tmp_path: Path) -> None:
    table = astropy_table()
    table.rename_columns(["f", "e"], ["flux", "error"])
    table.write(tmp_path / "a.h5", path="spectrum", serialize_meta=True)
    check(read(tmp_path / "a.h5")[0], error=ERROR, medium="air")


def test_hdf5_that_claims_too_many_pixels(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("wave", "flux"):
            file.create_dataset(name, (10**10,), "f8", chunks=(10**6,), compression="gzip")
    with pytest.raises(ReadError, match="too many for a spectrum"):
        read(tmp_path / "a.h5")


# --- packed files -------------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}
TEXT = "# wave_vac flux err\n" + rows(WAVELENGTH, FLUX, ERROR)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_packed_files_are_known_by_their_content(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    check(spectrum_of(tmp_path, pack(TEXT.encode())), "FLUX_UNIT_ASSUMED", error=ERROR)
    Table({"wave_vac": WAVELENGTH, "flux": FLUX, "err": ERROR}).write(tmp_path / "a.fits")
    packed = pack((tmp_path / "a.fits").read_bytes())
    check(spectrum_of(tmp_path, packed), "FLUX_UNIT_ASSUMED", error=ERROR)
    with pytest.raises(ReadError, match=r"damaged|cut off|not a whole|is empty"):
        spectrum_of(tmp_path, packed[: len(packed) // 2])


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_what_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(base, "MAX_TEXT_BYTES", 5_000_000)
    with pytest.raises(ReadError, match="unpacks to more than"):
        spectrum_of(tmp_path, pack(b" " * 20_000_000))


@pytest.mark.parametrize(
    ("data", "how"),
    [
        (b"PK\x03\x04" + b"\x00" * 300, "unzip"),
        (b"\x1f\x9d" + b"\x00" * 300, "uncompress"),
        (b"\x00" * 257 + b"ustar" + b"\x00" * 300, "tar xf"),
    ],
)
def test_archives_are_to_be_unpacked_first(tmp_path: Path, data: bytes, how: str) -> None:
    with pytest.raises(ReadError) as caught:
        spectrum_of(tmp_path, data)
    assert how in caught.value.hint


# --- anything -----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["# ", "% ", "wave", "flux", "err", "(A)", "[", "]", "(", ")", "|", "\n", "\r\n", ",", ";",
     "\t", " ", "1: ", "unit: ", "CRVAL1 = ", "CDELT1 = ", "NAXIS1 = ", "'", '"', "4000.0 1.0\n",
     "4001.0,2.0\n", "-1", "1e400", "****", "nan", "1.0D-15", "AB magnitudes", "\ufeff", "Å",
     "<VOTABLE>", "# %ECSV 1.0\n", "Byte-by-byte Description of file:\n", "|a|b|\n|double|r|\n"]
)  # fmt: skip


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
@given(st.lists(PIECES, max_size=60).map("".join))
def test_any_header_is_a_spectrum_or_a_read_error(tmp_path: Path, text: str) -> None:
    for whole in (text, f"{text}\n{rows(WAVELENGTH, FLUX, ERROR)}"):
        (tmp_path / "a.txt").write_text(whole)
        try:
            spectra = read(tmp_path / "a.txt")
        except ReadError:
            continue
        for spectrum in spectra:
            assert (np.diff(spectrum.wavelength) > 0).all()
