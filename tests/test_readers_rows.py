"""Tables with a spectrum per row: nested Parquet, HATS folders, HDF5."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra.readers import ReadOptions, open_spectra, parquet_tables, read
from spectromer_cli.spectra.sources import expand
from spectromer_cli.spectra.spectrum import Spectrum, air_to_vacuum, joined

N = 300
WAVELENGTH = 4000.0 + 0.8 * np.arange(N)
FLUX_2 = np.full(N, 2.0)
ROWS = 5


def arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Flux is row + 1 with a wave on it; ten pixels are masked, ten are padding."""
    wave = np.sin(WAVELENGTH / 9.0)
    mask = np.zeros((rows, N), dtype=bool)
    mask[:, 50:60] = True
    wavelength = np.tile(WAVELENGTH, (rows, 1))
    wavelength[:, -10:] = -1.0
    return {
        "flux": np.arange(1.0, rows + 1)[:, None] + 0.3 * wave,
        "ivar": np.full((rows, N), 25.0),
        "lambda": wavelength,
        "mask": mask,
    }


def check(spectra: list[Spectrum], rows: int = ROWS, flags: tuple[str, ...] = ()) -> None:
    assert len(spectra) == rows
    for row, spectrum in enumerate(spectra):
        np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH[:-10], rtol=1e-6)
        np.testing.assert_allclose(
            spectrum.flux[70:], row + 1 + 0.3 * np.sin(WAVELENGTH[70:-10] / 9.0), rtol=1e-5
        )
        assert (spectrum.ivar[50:60] == 0).all()
        np.testing.assert_allclose(np.delete(spectrum.ivar, range(50, 60)), 25.0, rtol=1e-6)
        assert spectrum.meta["flags"] == flags
        assert spectrum.meta["object_id"] == f"39627{row}"
        assert spectrum.meta["ra"] == 10.0 + row


def scalars(rows: int = ROWS) -> dict[str, Any]:
    number = np.arange(rows)
    return {
        "_healpix_29": 1000 + number,
        "object_id": [f"39627{i}" for i in number],
        "ra": 10.0 + number,
        "dec": -number.astype(float),
        "Z": 0.1 * number,
        "ZWARN": np.ones(rows, bool),
        "thumbnail": ["x" * 5000] * rows,
    }


def structs(data: dict[str, np.ndarray], keys: tuple[str, ...] | None = None) -> pa.Array:
    keys = keys or tuple(data)
    rows = len(next(iter(data.values())))
    return pa.array([{k: data[k][i].tolist() for k in keys} for i in range(rows)])


def lists_of_structs(data: dict[str, np.ndarray]) -> pa.Array:
    rows = len(data["flux"])
    return pa.array(
        [[{k: data[k][i, j].item() for k in data} for j in range(N)] for i in range(rows)]
    )


def large(data: dict[str, np.ndarray]) -> pa.Array:
    kind = pa.struct([(k, pa.large_list(pa.float32())) for k in data])
    return structs(data | {"mask": data["mask"].astype(float)}).cast(kind)


def fixed(data: dict[str, np.ndarray]) -> pa.Array:
    made = [pa.FixedSizeListArray.from_arrays(pa.array(v.ravel()), N) for v in data.values()]
    return pa.StructArray.from_arrays(made, list(data))


# Parquet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [structs, lists_of_structs, large, fixed])
def test_nested_columns_of_every_kind(tmp_path: Path, column: Any) -> None:
    table = pa.table(scalars() | {"spectrum": column(arrays())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    spectra = read(tmp_path / "a.parquet")
    check(spectra)
    assert spectra[1].meta["medium"] == "vacuum"
    assert spectra[1].meta["survey_z"] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, "fixed"])
def test_lists_of_their_own(tmp_path: Path, kind: Any) -> None:
    cells: dict[str, Any] = scalars()
    for name, values in arrays().items():
        flat = values.astype(np.float32).tolist()
        of = pa.list_(pa.float32(), N) if kind == "fixed" else kind(pa.float32())
        cells[f"Spectrum_{name.title()}"] = pa.array(flat, of)
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    check(read(tmp_path / "a.parquet"))


def test_threads_read_one_file_each_at_its_own_place(tmp_path: Path) -> None:
    table = pa.table(scalars(40) | {"spectrum": structs(arrays(40))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)

    def some(start: int) -> list[str]:
        with open_spectra(tmp_path / "a.parquet") as spectra:
            return [spectra.get(row).meta["object_id"] for row in range(start, 40)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(some, [0, 20, 10, 0, 30, 5] * 3))
    assert found == [[f"39627{row}" for row in range(s, 40)] for s in [0, 20, 10, 0, 30, 5] * 3]


def test_only_columns_that_count_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    original = pq.ParquetFile.iter_batches

    def spy(self: Any, **options: Any) -> Any:
        asked.append(options["columns"])
        return original(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    data = arrays() | {"model": arrays()["flux"]}
    table = pa.table(scalars() | {"spectrum": structs(data)})
    pq.write_table(table, tmp_path / "a.parquet")
    check(read(tmp_path / "a.parquet"))
    assert len(asked) == 1
    assert not any("thumbnail" in path or "model" in path for path in asked[0])
    assert sum(path.startswith("spectrum") for path in asked[0]) == 4


def desi_arms(rows: int = ROWS) -> dict[str, tuple[slice, dict[str, np.ndarray]]]:
    """The spectrum cut into arms that overlap by 20 pixels, each with half of the information."""
    data = arrays(rows)
    data["lambda"] = np.tile(WAVELENGTH, (rows, 1)).astype(np.float32)
    del data["mask"]
    cuts = {"b": slice(0, 120), "r": slice(100, 220), "z": slice(200, N)}
    return {arm: (cut, {k: v[:, cut] for k, v in data.items()}) for arm, cut in cuts.items()}


@pytest.mark.parametrize("layout", ["spectra_{}", "spectrum_{}", "{}_spectrum", "inside", "flat"])
def test_arms_are_joined(tmp_path: Path, layout: str) -> None:
    cells: dict[str, Any] = {"targetid": 39627 + np.arange(ROWS)}
    arms = desi_arms()
    if layout == "inside":
        made = [structs(data) for _, data in arms.values()]
        cells["spectra"] = pa.StructArray.from_arrays(made, list(arms))
    else:
        for arm, (_, data) in arms.items():
            if layout == "flat":
                cells |= {f"{arm}_{k}": v.tolist() for k, v in data.items()}
            else:
                cells[layout.format(arm)] = structs(data)
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    spectra = read(tmp_path / "a.parquet")
    assert len(spectra) == ROWS
    for row, spectrum in enumerate(spectra):
        np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH, rtol=1e-6)
        np.testing.assert_allclose(
            spectrum.flux, row + 1 + 0.3 * np.sin(WAVELENGTH / 9.0), rtol=1e-5
        )
        np.testing.assert_allclose(spectrum.ivar[:100], 25.0)
        np.testing.assert_allclose(spectrum.ivar[100:120], 50.0)
        assert spectrum.meta["targetid"] == 39627 + row
        assert spectrum.meta["object_id"] == str(39627 + row)
        assert spectrum.meta["medium"] == "vacuum"
        assert spectrum.meta["flags"] == ()


def test_an_arm_may_be_missing(tmp_path: Path) -> None:
    made: dict[str, list[Any]] = {}
    for arm, (_, data) in desi_arms(3).items():
        made[f"spectra_{arm}"] = structs(data).to_pylist()
    made["spectra_z"][0] = None
    made["spectra_r"][1]["lambda"] = [-1.0] * 120
    made["spectra_b"][2]["flux"] = []
    pq.write_table(pa.table(made), tmp_path / "a.parquet")
    sizes = [spectrum.wavelength.size for spectrum in read(tmp_path / "a.parquet")]
    assert sizes == [220, 220, 200]


def test_the_whole_spectrum_is_taken_before_its_arms(tmp_path: Path) -> None:
    cells = scalars() | {"spectrum": structs(arrays())}
    cells |= {f"spectra_{arm}": structs(data) for arm, (_, data) in desi_arms().items()}
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    check(read(tmp_path / "a.parquet"))


def test_joined_averages_by_inverse_variance() -> None:
    blue = Spectrum(np.array([1.0, 2, 3]), np.array([1.0, 1, 1]), np.array([1.0, 1, 0]))
    red = Spectrum(np.array([2.0, 3, 4]), np.array([4.0, 4, 4]), np.array([2.0, 2, 2]))
    whole = joined([red, blue])
    np.testing.assert_allclose(whole.wavelength, [1, 2, 3, 4])
    np.testing.assert_allclose(whole.flux, [1, 3, 4, 4])
    np.testing.assert_allclose(whole.ivar, [1, 3, 2, 2])


def test_null_is_a_bad_pixel_or_the_reason_of_its_row(tmp_path: Path) -> None:
    rows = structs(arrays()).to_pylist()
    rows[0]["flux"][20] = None
    rows[0]["ivar"][21] = None
    rows[0]["mask"][22] = None
    rows[0]["lambda"][23] = None
    rows[1] = None
    rows[2]["flux"] = None
    rows[3]["ivar"] = None
    cells = scalars()
    cells["object_id"][4] = None
    cells["Z"] = [None] * ROWS
    kind = structs(arrays()).type
    table = pa.table(cells | {"spectrum": pa.array(rows, kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    with open_spectra(tmp_path / "a.parquet") as spectra:
        first = spectra.get(0)
        assert first.wavelength.size == N - 11
        assert (first.ivar[[20, 21, 22]] == 0).all()
        assert (first.ivar[23:49] > 0).all()
        for row in (1, 2):
            with pytest.raises(ReadError, match=r"a\.parquet\[.\]: the row has no spectrum"):
                spectra.get(row)
        assert spectra.get(3).meta["has_ivar"] is False
        assert spectra.get(4).meta["object_id"] == "1004"
        assert "survey_z" not in spectra.get(4).meta


@pytest.mark.parametrize(
    ("names", "flags"),
    [
        ({"wavelength": "lambda", "flux": "flux", "error": "ivar"}, ("MEDIUM_ASSUMED",)),
        ({"wave_air": "lambda", "flux": "flux"}, ()),
    ],
)
def test_a_table_of_nobody_says_what_is_assumed(
    tmp_path: Path, names: dict[str, str], flags: tuple[str, ...]
) -> None:
    data = arrays()
    column = structs({name: data[key] for name, key in names.items()})
    pq.write_table(pa.table({"nested": column}), tmp_path / "a.parquet")
    (spectrum, *_) = read(tmp_path / "a.parquet")
    medium = [flag for flag in spectrum.meta["flags"] if flag == "MEDIUM_ASSUMED"]
    assert tuple(medium) == flags
    assert {"FRAME_ASSUMED", "FLUX_UNIT_ASSUMED"} <= set(spectrum.meta["flags"])
    assert spectrum.meta["medium"] == ("air" if "wave_air" in names else "vacuum")
    assert (read(tmp_path / "a.parquet", air=False)[0].meta["medium"]) == "vacuum"


def test_another_surveys_medium_is_not_known(tmp_path: Path) -> None:
    table = pa.table({"spectrum": structs(arrays()), "survey": ["vipers"] * ROWS})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "MEDIUM_ASSUMED" in read(tmp_path / "a.parquet")[0].meta["flags"]


def test_units_in_the_schema(tmp_path: Path) -> None:
    data = arrays()
    fields = [
        pa.field("wave", pa.list_(pa.float64()), metadata={"unit": "nm", "ucd": "em.wl;em.air"}),
        pa.field("flux", pa.list_(pa.float64()), metadata={"unit": "mJy"}),
    ]
    wavelength = np.tile(WAVELENGTH / 10, (ROWS, 1))
    table = pa.table([wavelength.tolist(), data["flux"].tolist()], schema=pa.schema(fields))
    pq.write_table(table, tmp_path / "a.parquet")
    spectrum = read(tmp_path / "a.parquet")[0]
    assert spectrum.meta["medium"] == "air"
    assert spectrum.wavelength[0] == pytest.approx(4001.13, abs=0.01)
    ratio = spectrum.flux / data["flux"][0]
    np.testing.assert_allclose(
        ratio / ratio[0], (spectrum.wavelength[0] / spectrum.wavelength) ** 2
    )


def test_spectra_of_two_surveys_in_a_row(tmp_path: Path) -> None:
    cells: dict[str, Any] = {"spectrum_sdss": structs(arrays()), "spectrum_desi": structs(arrays())}
    cells |= {"object_id_sdss": [f"s{i}" for i in range(ROWS)]}
    cells |= {"object_id_desi": [f"d{i}" for i in range(ROWS)]}
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    ids = [spectrum.meta["object_id"] for spectrum in read(tmp_path / "a.parquet")]
    assert ids == ["s0", "d0", "s1", "d1", "s2", "d2", "s3", "d3", "s4", "d4"]


@pytest.mark.parametrize(
    ("column", "value", "survey"),
    [
        ("obs_collection", "mmu_desi_edr_sv3", "DESI"),
        ("survey", "sv1", "DESI"),
        ("data_release", "SDSS-DR16", "SDSS"),
        ("obs_collection", "LAMOST DR10", "LAMOST"),
        ("survey", "6dFGS", "6dFGS"),
    ],
)
def test_the_survey(tmp_path: Path, column: str, value: str, survey: str) -> None:
    table = pa.table({"spectrum": structs(arrays()), column: [value] * ROWS})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0].meta["survey"] == survey


def test_ids_that_python_wrote(tmp_path: Path) -> None:
    ids = ["b' 482050393'", "b'x'", " 12 ", "bd+17", "b'"]
    table = pa.table({"spectrum": structs(arrays()), "object_id": ids})
    pq.write_table(table, tmp_path / "a.parquet")
    found = [spectrum.meta["object_id"] for spectrum in read(tmp_path / "a.parquet")]
    assert found == ["482050393", "x", "12", "bd+17", "b'"]


# Memory -----------------------------------------------------------------------------------------


PEAK = """
import resource, sys
from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers import open_spectra
import pyarrow.parquet, pyarrow.compute, h5py
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reasons = set()
try:
    with open_spectra(sys.argv[1]) as spectra:
        for row in range(len(spectra)):
            try:
                spectra.get(row)
            except ReadError as error:
                reasons.add(str(error))
except ReadError as error:
    reasons.add(str(error))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print("; ".join(reasons))
"""


def peak(path: Path) -> tuple[float, str]:
    """Memory that reading takes [MB], and the reasons of rows that are refused."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    grown, _, reasons = run.stdout.partition("\n")
    return int(grown) / 1000.0, reasons.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
@pytest.mark.parametrize("beside", [0, 500])
def test_a_list_that_fills_the_memory_is_refused(tmp_path: Path, beside: int) -> None:
    longest = 20_000_000
    flux = np.concatenate([np.ones(longest), np.random.default_rng(0).normal(size=beside * N)])
    ends = np.concatenate([[0], longest + N * np.arange(beside + 1)]).astype(np.int32)
    column = pa.ListArray.from_arrays(ends, flux)
    pq.write_table(
        pa.table({"spectrum_flux": column, "spectrum_lambda": column}), tmp_path / "a.parquet"
    )
    del column, flux
    grown, reasons = peak(tmp_path / "a.parquet")
    assert "too many for spectra" in reasons or "stored in" in reasons
    assert grown < 100.0


def test_a_bad_row_group_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_tables, "BATCH_VALUES", 2 * N)
    data = arrays(12)
    with pq.ParquetWriter(tmp_path / "a.parquet", (table := _flat(data, 0, 4)).schema) as writer:
        writer.write_table(table)
        long = np.ones((4, 1_100_000), np.float32)
        writer.write_table(_flat({"flux": long, "lambda": long}, 0, 4))
        writer.write_table(_flat(data, 8, 12))
    with open_spectra(tmp_path / "a.parquet") as spectra:
        for row in (0, 5, 1, 9, 6, 3, 8, 2):
            if 4 <= row < 8:
                with pytest.raises(ReadError, match="too many for spectra"):
                    spectra.get(row)
            else:
                np.testing.assert_allclose(spectra.get(row).flux, data["flux"][row, :-10], 1e-6)


def _flat(data: dict[str, np.ndarray], start: int, stop: int) -> pa.Table:
    of = pa.list_(pa.float32())
    keys = ("flux", "lambda")
    return pa.table(
        {f"spectrum_{k}": pa.array(list(data[k][start:stop].astype("f4")), of) for k in keys}
    )


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_a_row_group_is_not_held_whole(tmp_path: Path) -> None:
    rows = 8000
    flux = np.random.default_rng(0).normal(size=rows * 3000)
    ends = np.arange(rows + 1, dtype=np.int32) * 3000
    wavelength = np.tile(4000.0 + np.arange(3000), rows)
    columns = {"spectrum_flux": flux, "spectrum_lambda": wavelength}
    table = pa.table({k: pa.ListArray.from_arrays(ends, v) for k, v in columns.items()})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows)  # 380 MB
    grown, reasons = peak(tmp_path / "a.parquet")
    assert reasons == ""
    assert grown < 100.0


def test_a_row_group_is_decoded_once_when_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_tables, "BATCH_VALUES", 2 * N)
    started: list[int] = []
    original = pq.ParquetFile.iter_batches

    def spy(self: Any, **options: Any) -> Any:
        started.append(options["row_groups"][0])
        return original(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    table = pa.table(scalars(40) | {"spectrum": structs(arrays(40))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    found = []
    for start in range(0, 40, 7):
        with open_spectra(tmp_path / "a.parquet") as spectra:
            found += [spectra.get(row) for row in range(start, min(start + 7, 40))]
    check(found, 40)
    assert started == [0, 1]
    with open_spectra(tmp_path / "a.parquet") as spectra:  # and in any order
        check([spectra.get(row) for row in reversed(range(40))][::-1], 40)


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    for rows in (3, 4):
        table = pa.table(scalars(rows) | {"spectrum": structs(arrays(rows))})
        pq.write_table(table, tmp_path / "a.parquet")
        check(read(tmp_path / "a.parquet"), rows)


# HATS -------------------------------------------------------------------------------------------


def hats(folder: Path, rows: int = 2, kind: str = "object", collection: str = "desi_dr1") -> None:
    """A catalogue of three partitions with all the files that stand beside them."""
    dataset = folder / "dataset"
    parts = ["Norder=1/Dir=0/Npix=44.parquet", "Norder=1/Dir=0/Npix=5.parquet",
             "Norder=2/Dir=0/Npix=180/part0.snappy.parquet"]  # fmt: skip
    for part in parts:
        path = dataset / part
        path.parent.mkdir(parents=True, exist_ok=True)
        number = int(part.split("Npix=")[1].split(".")[0].split("/")[0])
        cells = {"object_id": [f"{number}-{i}" for i in range(rows)], "ra": np.ones(rows)}
        table = pa.table(cells | {"spectrum": structs(arrays(rows))})
        pq.write_table(table, path)
    pq.write_table(table, dataset / "data_thumbnail.parquet")
    pq.write_metadata(table.schema, dataset / "_metadata")
    pq.write_metadata(table.schema, dataset / "_common_metadata")
    (folder / "partition_info.csv").write_text("Norder,Npix\n1,44\n1,5\n2,180\n")
    (folder / "skymap.fits").write_bytes(b"not read")
    lines = [f"obs_collection={collection}", f"dataproduct_type={kind}", "hats_nrows=6"]
    (folder / "hats.properties").write_text("#HATS catalog\n" + "\n".join(lines) + "\n")


def test_a_hats_folder(tmp_path: Path) -> None:
    hats(tmp_path / "desi")
    for name in ("desi", "desi/dataset"):
        targets = list(expand([str(tmp_path / name)]))
        assert not any(target.problem for target in targets)
        spectra = [spectrum for target in targets for spectrum in read(target.path)]
        ids = [spectrum.meta["object_id"] for spectrum in spectra]
        assert ids == ["5-0", "5-1", "44-0", "44-1", "180-0", "180-1"]
        assert {spectrum.meta["survey"] for spectrum in spectra} == {"DESI"}
        assert {spectrum.meta["flags"] for spectrum in spectra} == {()}


def test_copies_in_a_collection_are_not_read_twice(tmp_path: Path) -> None:
    hats(tmp_path / "c" / "main")
    hats(tmp_path / "c" / "main_10arcs", kind="margin")
    hats(tmp_path / "c" / "main_index", kind="index")
    (tmp_path / "c" / "collection.properties").write_text("hats_primary_table_url=main\n")
    assert len(list(expand([str(tmp_path / "c")]))) == 3
    assert len(list(expand([str(tmp_path / "c" / "main_10arcs")]))) == 3  # somebody asks for it


def test_a_hats_folder_through_the_loader(tmp_path: Path) -> None:
    from spectromer_cli.spectra.loading import load_all

    hats(tmp_path / "desi")
    items = list(load_all(expand([str(tmp_path / "desi")]), ReadOptions()))
    assert [item.problem for item in items] == [""] * 6
    assert not any(item.skipped for item in items)


def test_a_catalogue_without_spectra_is_none(tmp_path: Path) -> None:
    pq.write_table(pa.table(scalars()), tmp_path / "a.parquet")
    lightcurve = pa.array([[{"mjd": 1.0, "flux": 2.0, "band": "g"}]] * ROWS)
    table = pa.table(scalars() | {"lightcurve": lightcurve, "fluxes_r": [[1.0, 2.0]] * ROWS})
    pq.write_table(table, tmp_path / "b.parquet")
    for name in ("a.parquet", "b.parquet"):
        with pytest.raises(NotASpectrum):
            read(tmp_path / name)


# HDF5 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spectrum_{}", "SPECTRUM_{}", "spectrum/{}", "Spectra/{}", "{}"])
@pytest.mark.parametrize("chunks", [None, True])
def test_hdf5(tmp_path: Path, name: str, chunks: bool | None) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for key, values in arrays().items():
            file.create_dataset(name.format(key), data=values, chunks=chunks)
        for key, values in scalars().items():
            file[key.upper()] = values
        if name == "{}":
            file["survey"] = ["desi"] * ROWS
    check(read(tmp_path / "a.hdf5"))


def test_hdf5_arms_and_an_axis_beside_a_group(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for arm, (_, data) in desi_arms().items():
            for key, values in data.items():
                file[f"spectra_{arm}/{key}"] = values
        file["targetid"] = np.arange(ROWS)
    assert [s.wavelength.size for s in read(tmp_path / "a.h5")] == [N] * ROWS
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["wavelength"] = WAVELENGTH / 10
        file["wavelength"].attrs["units"] = "nm"
        file["spectrum/flux"] = arrays()["flux"]
    (spectrum, *_) = spectra = read(tmp_path / "b.h5")
    assert len(spectra) == ROWS
    np.testing.assert_allclose(spectrum.wavelength, WAVELENGTH)
    assert spectrum.meta["has_ivar"] is False


def test_hdf5_rows_of_different_length(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key in ("flux", "lambda"):
            held = file.create_dataset(f"spectrum_{key}", (2,), h5py.vlen_dtype(np.float64))
            for row, size in enumerate((100, 200)):
                held[row] = arrays()[key][row, :size]
    assert [s.wavelength.size for s in read(tmp_path / "a.h5")] == [100, 200]


@pytest.mark.parametrize("way", ["link", "group", "soft", "raw", "virtual"])
def test_hdf5_data_of_other_files_are_not_opened(tmp_path: Path, way: str) -> None:
    data = arrays()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["flux"], file["lambda"] = data["flux"], data["lambda"]
    data["flux"].tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if way == "group":
            file["spectrum"] = h5py.ExternalLink("secret.h5", "/")
            file["spectrum_flux"] = h5py.ExternalLink("secret.h5", "/flux")
        elif way in ("link", "soft"):
            file["spectrum_flux"] = h5py.ExternalLink("secret.h5", "/flux")
        elif way == "raw":
            file.create_dataset(
                "spectrum_flux", data["flux"].shape, np.float64,
                external=[(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)],
            )  # fmt: skip
        else:
            layout = h5py.VirtualLayout(data["flux"].shape, np.float64)
            layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "flux", data["flux"].shape)
            file.create_virtual_dataset("spectrum_flux", layout)
        if way == "soft":
            file["spectrum_lambda"] = h5py.SoftLink("/spectrum_flux")
        else:
            file["spectrum_lambda"] = data["lambda"]
    with pytest.raises(ReadError, match="are in another file, which is not opened"):
        read(tmp_path / "a.h5")


@pytest.mark.parametrize("chunks", [(1, 3_000_000), (40_000, 4000)])
def test_hdf5_that_unpacks_to_gigabytes(tmp_path: Path, chunks: tuple[int, int]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key in ("flux", "lambda"):
            shape = (chunks[0], 30_000_000 if chunks[0] == 1 else 4000)
            file.create_dataset(
                f"spectrum_{key}", shape, np.float64, chunks=chunks, compression="gzip"
            )
    with pytest.raises(ReadError, match=r"too many for a spectrum|too large for spectra"):
        read(tmp_path / "a.h5")


def test_hdf5_rows_that_are_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectrum_flux"] = arrays()["flux"]
        file["spectrum_lambda"] = arrays()["lambda"][:2]
    with open_spectra(tmp_path / "a.h5") as spectra:
        assert spectra.get(1).wavelength.size == N - 10
        with pytest.raises(ReadError, match="has 2 rows only"):
            spectra.get(3)


def test_shared_hostile_tables(shared: Path) -> None:
    for name in ("pq_list_bomb.parquet", "h5_gzbomb.h5"):
        grown, reasons = peak(shared / "data" / "hostile" / name)
        assert "too many for" in reasons
        assert grown < 100.0


# FITS -------------------------------------------------------------------------------------------


def deep2(path: Path, extractions: tuple[str, ...]) -> np.ndarray:
    """Halves of one object by several extractions; what was extracted last is the brightest."""
    wavelength = 5000.0 + 0.3 * np.arange(2000)
    hdus: list[Any] = [fits.PrimaryHDU()]
    for number, name in enumerate(extractions, 1):
        for half, cut in (("B", slice(0, 1000)), ("R", slice(1000, 2000))):
            flux = number * 100.0 + np.sin(wavelength[cut] / 9.0)
            columns = [
                fits.Column("SPEC", "1000E", array=flux[None]),
                fits.Column("LAMBDA", "1000D", array=wavelength[cut][None]),
                fits.Column("IVAR", "1000E", array=np.full((1, 1000), 4.0)),
            ]
            hdus.append(fits.BinTableHDU.from_columns(columns, name=f"{name}-{half}"))
            hdus[-1].header["OBJNO"] = "12003456"
    fits.HDUList(hdus).writeto(path)
    return wavelength


@pytest.mark.parametrize("names", [("Horne", "Bxspf"), ("Bxspf-NL", "Horne", "Bxspf"), ("Bxspf",)])
def test_deimos_is_one_object_in_one_extraction(tmp_path: Path, names: tuple[str, ...]) -> None:
    wavelength = deep2(tmp_path / "spec1d.fits", names)
    with open_spectra(tmp_path / "spec1d.fits") as spectra:
        assert len(spectra) == 1
        spectrum = spectra.get(0)
        others = f"{2 * len(names) - 2} tables of other extractions" if len(names) > 1 else ""
        assert spectra.left_out == others
    np.testing.assert_allclose(spectrum.wavelength, air_to_vacuum(wavelength))
    bxspf = names.index("Bxspf") + 1
    np.testing.assert_allclose(spectrum.flux, bxspf * 100.0 + np.sin(wavelength / 9.0), rtol=1e-6)
    assert spectrum.meta["object_id"] == "12003456"
    assert "MEDIUM_ASSUMED" in spectrum.meta["flags"]


def test_every_row_of_every_fits_table(tmp_path: Path) -> None:
    hdus: list[Any] = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((3, 3)))]
    for number in (1, 2):
        flux = [np.full(N - row, number * 10.0 + row) for row in range(3)]
        columns = [
            fits.Column("WAVE", "PD()", array=np.array([WAVELENGTH[: f.size] for f in flux], "O")),
            fits.Column("FLUX", "PE()", array=np.array(flux, "O")),
            fits.Column("FLUX_REDUCED", "PE()", array=np.array([f * 0 for f in flux], "O")),
            fits.Column("ERR", "PE()", array=np.array([f * 0 + 0.5 for f in flux], "O")),
        ]
        hdus.append(fits.BinTableHDU.from_columns(columns, name=f"PART{number}"))
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    spectra = read(tmp_path / "a.fits")
    assert [s.flux[0] for s in spectra] == [10, 11, 12, 20, 21, 22]
    assert [s.wavelength.size for s in spectra] == [N, N - 1, N - 2] * 2
    assert all((s.ivar == 4.0).all() for s in spectra)


@pytest.mark.parametrize("nameless", [1, 2, 3, 4])
def test_columns_without_a_name(tmp_path: Path, nameless: int) -> None:
    arrays = {"WAVE": WAVELENGTH, "FLUX": FLUX_2, "ERR": FLUX_2 / 4, "EXTRA": FLUX_2}
    columns = [fits.Column(name, f"{N}D", array=a[None]) for name, a in arrays.items()]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    data = (tmp_path / "a.fits").read_bytes()
    place = data.index(f"TTYPE{nameless}".encode())
    (tmp_path / "a.fits").write_bytes(data[:place] + b"COMMENT " + data[place + 8 :])
    reason = f"column {nameless} of the table has no name" if nameless > 2 else "no spectrum"
    with pytest.raises(ReadError, match=reason):
        read(tmp_path / "a.fits")
