"""Plain tables, tables with a spectrum a row, and specutils."""

from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra import air_to_vacuum, readers
from spectromer_cli.spectra.readers import open_spectra, read

N = 500
WAVELENGTH = np.linspace(4000.0, 9000.0, N)
FLUX = 2.0 + np.sin(WAVELENGTH / 100.0)
ERROR = np.full(N, 0.1)


def check(path: Path, has_ivar: bool = True, **options) -> None:
    (spectrum,) = read(path, **options)
    in_air = "COLUMNS_GUESSED" in spectrum.meta["flags"]
    expected = air_to_vacuum(WAVELENGTH) if in_air else WAVELENGTH
    np.testing.assert_allclose(spectrum.wavelength, expected, rtol=1e-6)
    np.testing.assert_allclose(spectrum.flux, FLUX, rtol=1e-5)
    assert spectrum.meta["object_id"] == path.name.split(".")[0]
    assert spectrum.meta.get("has_ivar", True) is has_ivar
    if has_ivar:
        np.testing.assert_allclose(spectrum.ivar, 100.0, rtol=1e-4)
    else:
        assert (spectrum.ivar > 0).all()


# Plain tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.ecsv", "a.fits", "a.parquet"])
def test_tables_with_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        columns = {"Wave": WAVELENGTH, "Flux": FLUX, "err": ERROR}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        Table({"Wave": WAVELENGTH, "Flux": FLUX, "err": ERROR}).write(path)
    check(path)


@pytest.mark.parametrize("delimiter", [" ", ",", ";", "\t", "   "])
@pytest.mark.parametrize(
    "header", ["", "# wavelength flux error", "# made by hand\n#", "lam{0}flux{0}sigma"]
)
def test_text(tmp_path: Path, delimiter: str, header: str) -> None:
    rows = zip(WAVELENGTH, FLUX, ERROR, strict=True)
    lines = [delimiter.join(f"{value:.8g}" for value in row) for row in rows]
    top = [header.format(delimiter)] if header else []
    (tmp_path / "a.dat").write_text("\n".join([*top, *lines]) + "\n")
    check(tmp_path / "a.dat")


def test_two_columns_get_errors_from_the_scatter(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", np.column_stack([WAVELENGTH, FLUX]))
    check(tmp_path / "a.txt", has_ivar=False)


def test_ivar_mask_and_log_wavelength(tmp_path: Path) -> None:
    mask = np.zeros(N, dtype=int)
    mask[10:20] = 1
    columns = {"loglam": np.log10(WAVELENGTH), "flux": FLUX, "ivar": 1 / ERROR**2, "mask": mask}
    Table(columns).write(tmp_path / "a.csv")
    (spectrum,) = read(tmp_path / "a.csv")
    np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH, rtol=1e-6)
    assert (spectrum.ivar == 0).sum() == 10


@pytest.mark.parametrize(("unit", "factor"), [("nm", 0.1), ("um", 1e-4), ("Angstrom", 1.0)])
def test_units_of_the_table_and_of_the_option(tmp_path: Path, unit: str, factor: float) -> None:
    values = {"wavelength": WAVELENGTH * factor, "flux": FLUX, "error": ERROR}
    table = Table(values)
    table.write(tmp_path / "a.csv")
    check(tmp_path / "a.csv", wavelength_unit=unit)
    table["wavelength"].unit = unit
    table.write(tmp_path / "b.fits")
    check(tmp_path / "b.fits", wavelength_unit="um")  # the table's own unit counts first
    table.write(tmp_path / "c.ecsv")
    check(tmp_path / "c.ecsv")


def test_wavelengths_that_are_not_plainly_angstrom_are_refused(tmp_path: Path) -> None:
    Table({"wavelength": WAVELENGTH / 10, "flux": FLUX}).write(tmp_path / "a.csv")
    with pytest.raises(ReadError, match="probably not in Å") as caught:
        read(tmp_path / "a.csv")
    assert "--wavelength-unit nm" in caught.value.hint
    with pytest.raises(ReadError, match="'parrots' is not a unit"):
        read(tmp_path / "a.csv", wavelength_unit="parrots")


def test_air(tmp_path: Path) -> None:
    Table({"wavelength": WAVELENGTH, "flux": FLUX}).write(tmp_path / "a.csv")
    (spectrum,) = read(tmp_path / "a.csv", air=True)
    np.testing.assert_allclose(spectrum.wavelength, air_to_vacuum(WAVELENGTH), rtol=1e-9)
    assert spectrum.meta["medium"] == "air"


def test_red_to_blue_is_turned(tmp_path: Path) -> None:
    columns = {"wavelength": WAVELENGTH[::-1], "flux": FLUX[::-1], "error": ERROR}
    Table(columns).write(tmp_path / "a.csv")
    check(tmp_path / "a.csv")


@pytest.mark.parametrize("value", [4000.0, 9999.0])
def test_not_monotonic_names_the_line(tmp_path: Path, value: float) -> None:
    wavelength = WAVELENGTH.copy()
    wavelength[40] = value
    Table({"wavelength": wavelength, "flux": FLUX}).write(tmp_path / "a.csv")
    wrong = 42 if value < 5000 else 43  # line 1 is the header
    with pytest.raises(ReadError, match=f"line {wrong} "):
        read(tmp_path / "a.csv")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    rows = [f"{w} {f}" for w, f in zip(WAVELENGTH, FLUX, strict=True)]
    rows[99] = "4990.1"
    (tmp_path / "a.txt").write_text("\n".join(rows))
    with pytest.raises(ReadError, match=r"a\.txt: line 100 "):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "text",
    [
        "file,ra,dec\na.fits,1.0,2.0\n",
        "ra,dec\n10.5,20.5\n11.5,21.5\n",
        "Dear Tom,\nthe spectra are on the disk.\n",
        "{}",
        "1\n2\n3\n",
    ],
)
def test_other_text_is_no_spectrum(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(NotASpectrum):
        read(tmp_path / "a.txt")


def test_a_web_page_is_named_as_one(tmp_path: Path) -> None:
    for name in ("a.fits", "a.txt"):
        (tmp_path / name).write_text("<!DOCTYPE html><html><body>404</body></html>")
        with pytest.raises(ReadError, match="web page"):
            read(tmp_path / name)


def test_an_index_column_without_a_name(tmp_path: Path) -> None:
    rows = zip(range(N), WAVELENGTH, FLUX, ERROR, strict=True)
    lines = [",".join(map(str, row)) for row in rows]
    (tmp_path / "a.csv").write_text("\n".join([",wavelength,flux,error", *lines]) + "\n")
    check(tmp_path / "a.csv")


@pytest.mark.parametrize("unit", ["ANGSTROM", "Angstroms", "Ang", "A"])
def test_spellings_of_angstrom(tmp_path: Path, unit: str) -> None:
    columns = [
        fits.Column(name, "D", array=array, unit=unit if name == "wave" else None)
        for name, array in (("wave", WAVELENGTH), ("flux", FLUX), ("err", ERROR))
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    check(tmp_path / "a.fits")


def test_the_option_overrules_a_unit_that_nobody_knows(tmp_path: Path) -> None:
    columns = [
        fits.Column("wave", "D", array=WAVELENGTH / 10, unit="nanoparsnips"),
        fits.Column("flux", "D", array=FLUX),
        fits.Column("err", "D", array=ERROR),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    check(tmp_path / "a.fits", wavelength_unit="nm")
    with pytest.raises(ReadError, match="'nanoparsnips' is not a unit"):
        read(tmp_path / "a.fits")


def test_hints_fit_the_numbers(tmp_path: Path) -> None:
    for factor, hint in ((0.1, "in nm:"), (1e-4, "in µm:")):
        np.savetxt(tmp_path / "a.txt", np.column_stack([WAVELENGTH * factor, FLUX]))
        with pytest.raises(ReadError) as caught:
            read(tmp_path / "a.txt")
        assert hint in caught.value.hint
    np.savetxt(tmp_path / "a.txt", np.column_stack([np.log10(WAVELENGTH), FLUX]))
    with pytest.raises(ReadError) as caught:
        read(tmp_path / "a.txt")
    assert "loglam" in caught.value.hint


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    lines = [f"{w:.2f};{f:.3f}".replace(".", ",") for w, f in zip(WAVELENGTH, FLUX, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["wavelength;flux", *lines]))
    with pytest.raises(ReadError, match="decimal commas"):
        read(tmp_path / "a.csv")


# A spectrum a row ----------------------------------------------------------------------------


def many(rows: int = 3) -> dict[str, np.ndarray]:
    flux = np.stack([FLUX * (row + 1) for row in range(rows)])
    wavelength = np.tile(WAVELENGTH, (rows, 1))
    wavelength[:, -20:] = -1.0  # padding
    return {"lambda": wavelength, "flux": flux, "ivar": np.full(flux.shape, 100.0)}


def check_many(path: Path, rows: int = 3) -> None:
    with open_spectra(path) as spectra:
        assert len(spectra) == rows
        for row in reversed(range(rows)):  # in any order
            spectrum = spectra.get(row)
            assert spectrum.wavelength.size == N - 20
            np.testing.assert_allclose(spectrum.flux, FLUX[:-20] * (row + 1), rtol=1e-6)
            np.testing.assert_allclose(spectrum.ivar, 100.0)
            assert spectrum.meta["object_id"] == str(100 + row)
            assert spectrum.meta["survey_z"] == pytest.approx(0.1 * row)


def test_multimodal_universe_hdf5(tmp_path: Path) -> None:
    data = many()
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, values in data.items():
            file[f"spectrum_{name}"] = values
        file["spectrum_mask"] = np.zeros(data["flux"].shape, dtype=bool)
        file["object_id"] = np.array([b"100", b"101", b"102"])
        file["Z"] = 0.1 * np.arange(3)
        file["ra"] = np.ones(3)
    check_many(tmp_path / "a.hdf5")


@pytest.mark.parametrize("struct", [False, True])
def test_multimodal_universe_parquet(tmp_path: Path, struct: bool) -> None:
    data = many()
    cells = {"object_id": ["100", "101", "102"], "Z": 0.1 * np.arange(3)}
    if struct:
        keys = list(data)
        rows = [{key: data[key][row].tolist() for key in keys} for row in range(3)]
        cells["spectrum"] = pyarrow.array(rows)
    else:
        cells |= {f"spectrum_{key}": values.tolist() for key, values in data.items()}
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "a.parquet", row_group_size=2)
    check_many(tmp_path / "a.parquet")


def test_sparcl_fits(tmp_path: Path) -> None:
    data = many()
    table = Table({"targetid": [100, 101, 102], "redshift": 0.1 * np.arange(3)})
    table["wavelength"], table["flux"], table["ivar"] = data["lambda"], data["flux"], data["ivar"]
    table["mask"] = np.zeros(data["flux"].shape, dtype=int)
    table["data_release"] = "DESI-DR1"
    table["spectype"] = "GALAXY"
    table.write(tmp_path / "a.fits")
    check_many(tmp_path / "a.fits")
    assert read(tmp_path / "a.fits")[0].meta["survey"] == "DESI"
    assert read(tmp_path / "a.fits")[0].meta["survey_class"] == "GALAXY"


def test_eso_phase_3(tmp_path: Path) -> None:
    table = Table()
    table["WAVE"] = (WAVELENGTH / 10)[None] * units.nm
    table["FLUX"], table["ERR"] = FLUX[None], ERROR[None]
    table.write(tmp_path / "a.fits")
    (spectrum,) = read(tmp_path / "a.fits")
    np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH)
    np.testing.assert_allclose(spectrum.ivar, 100.0)


def test_one_wavelength_axis_for_all_and_no_errors(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectrum_wavelength"] = WAVELENGTH
        file["spectrum_flux"] = many()["flux"]
    spectra = read(tmp_path / "a.h5")
    assert len(spectra) == 3
    assert spectra[1].meta["has_ivar"] is False
    assert spectra[1].meta["object_id"] == "a[1]"


def test_hdf5_of_something_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["temperature"] = np.zeros((3, 4))
    with pytest.raises(NotASpectrum):
        read(tmp_path / "a.h5")


# specutils ---------------------------------------------------------------------------------


def test_specutils_reads_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("specutils")
    monkeypatch.setattr(readers, "READERS", ("specutils",))
    header = {"CTYPE1": "WAVE", "CUNIT1": "Angstrom", "CRVAL1": 4000.0, "CDELT1": 2.0}
    header |= {"CRPIX1": 1.0, "BUNIT": "Jy", "WCSDIM": 1}
    hdu = fits.PrimaryHDU(FLUX)
    hdu.header.update(header)
    hdu.writeto(tmp_path / "a.fits")
    (spectrum,) = read(tmp_path / "a.fits")
    np.testing.assert_allclose(spectrum.wavelength, 4000.0 + 2.0 * np.arange(N))
    f_lambda = FLUX * (spectrum.wavelength / 5000.0) ** -2  # from Jy
    np.testing.assert_allclose(spectrum.flux, f_lambda)
    assert spectrum.meta["has_ivar"] is False


def test_spectra_that_another_package_ships() -> None:
    ppxf = pytest.importorskip("ppxf")
    files = sorted(Path(ppxf.__file__).parent.rglob("*SDSS*.fits"))
    if not files:
        pytest.skip("this ppxf ships no SDSS spectra")
    for path in files:
        (spectrum,) = read(path)
        assert spectrum.sn_median > 5
        assert 3500 < spectrum.wavelength[0] < 4000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.text(alphabet="0123456789.,;-+eE \n\t#naNabcwflux", max_size=400))
def test_any_text_is_a_spectrum_or_a_read_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    try:
        spectra = read(tmp_path / "a.txt")
    except ReadError:
        return
    assert len(spectra) == 1
