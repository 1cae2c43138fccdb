"""Packed spectra are read back as they were, from one file or from a HATS catalogue."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from survey_files import made, write_spec, write_spplate

from spectromer_cli.outputs import packed_spectra
from spectromer_cli.outputs.packed_spectra import pack
from spectromer_cli.outputs.parts import MANIFEST
from spectromer_cli.spectra import packed
from spectromer_cli.spectra.catalogues import read_table
from spectromer_cli.spectra.loading import Inputs
from spectromer_cli.spectra.readers import read
from spectromer_cli.spectra.spectrum import Spectrum, air_to_vacuum


def text_table(path: Path, unit: str = "", seed: int = 0) -> Path:
    """A plain table that says neither medium nor frame, without errors."""
    rng = np.random.default_rng(seed)
    wavelength = np.linspace(4000.0, 9000.0, 2500)
    table = Table({"wavelength": wavelength, "flux": rng.normal(10.0, 1.0, wavelength.size)})
    table["flux"].unit = unit or None
    table.write(path, format="ascii.ecsv")
    return path


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Files of several kinds: of a survey, one of many spectra, plain ones, and a note."""
    folder = tmp_path / "night"
    folder.mkdir()
    write_spec(folder / "a.fits", made(n=3000))
    text_table(folder / "b.ecsv")
    text_table(folder / "c.ecsv", unit="count", seed=1)
    write_spplate(folder / "m.fits", [made(n=3000, seed=i) for i in range(4)])
    (folder / "n.txt").write_text("The weather was fine.\n")
    return folder


def same(one: Spectrum, other: Spectrum) -> None:
    np.testing.assert_array_equal(one.wavelength, other.wavelength)
    np.testing.assert_allclose(one.flux, other.flux, rtol=2e-7)
    np.testing.assert_allclose(one.ivar, other.ivar, rtol=2e-7)
    assert one.meta == other.meta


def test_spectra_come_back_as_they_were(night: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.parquet"
    pack(Inputs(files=[night]), output)
    back = read(output)
    files = [night / name for name in ("a.fits", "b.ecsv", "c.ecsv", "m.fits")]
    before = [spectrum for file in files for spectrum in read(file)]
    assert len(back) == len(before) == 7
    for one, other in zip(before, back, strict=True):
        same(one, other)
    assert "MEDIUM_ASSUMED" in back[1].meta["flags"]
    assert "NOT_FLUX_CALIBRATED" in back[2].meta["flags"]
    assert back[1].meta["has_ivar"] is False


def test_the_columns_are_those_of_hats(night: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.parquet"
    pack(Inputs(files=[night]), output)
    table = pq.read_table(output)
    spectrum = table.schema.field("spectrum").type
    assert [field.name for field in spectrum] == ["flux", "ivar", "lambda", "mask"]
    assert table["survey"].to_pylist()[:2] == ["SDSS", ""]
    assert table["file"].to_pylist() == [
        *(str(night / name) for name in ("a.fits", "b.ecsv", "c.ecsv")),
        *[str(night / "m.fits")] * 4,
    ]
    assert table["row"].to_pylist() == [0, 0, 0, 0, 1, 2, 3]
    assert table["ra"].to_pylist()[:2] == [147.25, None]
    pixels = table["_healpix_29"].to_pylist()
    assert pixels[0] == packed.healpix_29([(147.25, -0.5)])[0]
    assert pixels[1] is None
    assert b"version" in table.schema.metadata


def test_the_healpix_index_is_that_of_hats() -> None:
    # By cdshealpix.
    known = {
        (10.0, 5.0): 1277268106671753906,
        (350.0, -80.0): 3176340711776211655,
        (187.70593, 12.39112): 1953854728243268183,
    }
    places = [*known, (None, 1.0)]
    assert packed.healpix_29(places) == [*known.values(), None]


def test_results_are_those_of_the_files(run, weights, night, tmp_path) -> None:
    output = tmp_path / "all.parquet"
    assert run("pack", night, "-o", output).code == 0
    for command in ("redshift", "classify"):
        one, other = (tmp_path / f"{command}{i}.ecsv" for i in range(2))
        assert run(command, night, *weights, "-o", one).code == 0
        assert run(command, output, *weights, "-o", other).code == 0
        before, after = read_table(one), read_table(other)
        assert list(after["row"]) == list(range(7))
        for name in before.colnames[2:]:
            if before[name].dtype.kind == "f":
                close = (
                    {"rtol": 1e-7, "atol": 1e-7} if name == "z" else {"rtol": 1e-3, "atol": 1e-5}
                )
                np.testing.assert_allclose(after[name], before[name], err_msg=name, **close)
            else:
                assert list(after[name]) == list(before[name]), name


def test_what_cannot_be_read_costs_nothing_else(run, night, tmp_path) -> None:
    (night / "bad.fits").write_bytes(b"SIMPLE  = no")
    output = tmp_path / "all.parquet"
    done = run("pack", night, "-o", output, "--workers", 0)
    assert done.code == 3
    assert "bad.fits" in done.err
    assert "1 of 8 spectra could not be packed" in done.err
    assert len(read(output)) == 7


def test_nothing_is_written_where_nothing_can_be_read(run, tmp_path) -> None:
    bad, output = tmp_path / "bad.fits", tmp_path / "all.parquet"
    bad.write_bytes(b"SIMPLE  = no")
    output.write_bytes(b"what was there")
    done = run("pack", bad, "-o", output)
    assert done.code == 3
    assert "was left unchanged" in done.err
    assert output.read_bytes() == b"what was there"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["all.parquet", "-o", "all.parquet"], "would be overwritten"),
        (["night", "-o", "folder"], "not a HATS catalogue"),
        (["night", "-o", "all.fits"], "give a name ending in .parquet"),
        (["night", "-o", "none/all.parquet"], "does not exist"),
        (["night", "-o", "other.parquet", "--resume"], "leave out --resume"),
        (["none.fits", "-o", "other.parquet"], "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(run, night, monkeypatch, arguments, said) -> None:
    monkeypatch.chdir(night.parent)
    pack(Inputs(files=["night"]), Path("all.parquet"))
    before = Path("all.parquet").read_bytes()
    done = run("pack", *arguments)
    assert done.code == 2
    assert said in done.err
    assert Path("all.parquet").read_bytes() == before


@pytest.mark.parametrize("level", [1e-22, 1e-17, 1.0, 1e12])
def test_fluxes_of_any_unit_stay(level: float) -> None:
    rng = np.random.default_rng(0)
    wavelength = np.linspace(4000.0, 9000.0, 500)
    flux = level * rng.normal(10.0, 1.0, 500)
    flux[100] = 1e45 * level
    before = Spectrum(wavelength, flux, np.full(500, level**-2.0))
    table = packed.table_of([before], [("a", 0)])
    row = table.to_pylist()[0]
    cells = {name: np.array(values, float) for name, values in row["spectrum"].items()}
    after = packed.spectrum_of(cells, row[packed.META], None)
    scale = after.meta.get("flux_scale", 1.0)
    keep = np.arange(500) != 100
    np.testing.assert_allclose(after.flux[keep] * scale, flux[keep], rtol=1e-6)
    np.testing.assert_allclose(after.ivar / scale**2, level**-2.0, rtol=1e-6)
    assert after.sn_median == pytest.approx(before.sn_median)
    assert (scale == 1.0) == (1e-6 < 10 * level < 1e6)


def test_pixels_that_somebody_masks_are_bad(night: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.parquet"
    pack(Inputs(files=[night / "a.fits"]), output)
    table = pq.read_table(output)
    rows = table["spectrum"].to_pylist()
    rows[0]["mask"][10] = True
    place = table.schema.get_field_index("spectrum")
    field = table.schema.field("spectrum")
    pq.write_table(table.set_column(place, field, pa.array(rows, field.type)), output)
    ivar = read(output)[0].ivar
    assert ivar[10] == 0
    assert (ivar > 0).sum() == ivar.size - 1


def test_the_users_word_counts_where_the_medium_was_assumed(night: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.parquet"
    pack(Inputs(files=[night / "a.fits", night / "b.ecsv"]), output)
    as_said, assumed = read(output, air=True)
    same(as_said, read(night / "a.fits")[0])
    direct = read(night / "b.ecsv", air=True)[0]
    np.testing.assert_allclose(assumed.wavelength, direct.wavelength, rtol=1e-12)
    assert np.all(assumed.wavelength == air_to_vacuum(read(output)[1].wavelength))
    assert assumed.meta == direct.meta
    assert "MEDIUM_ASSUMED" not in read(output, air=False)[1].meta["flags"]


def test_a_damaged_row_is_refused_and_costs_no_other(run, night, weights, tmp_path) -> None:
    output = tmp_path / "all.parquet"
    pack(Inputs(files=[night / "m.fits"]), output)
    table = pq.read_table(output)
    said = table[packed.META].to_pylist()
    said[1] = "{"
    place = table.schema.get_field_index(packed.META)
    pq.write_table(table.set_column(place, packed.META, pa.array(said)), output)
    done = run("classify", output, *weights)
    assert done.code == 3
    assert [row["flags"].startswith("UNREADABLE") for row in done.rows] == [
        False,
        True,
        False,
        False,
    ]


def test_row_groups_are_small(monkeypatch, night: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(packed_spectra, "GROUP", 3)
    output = tmp_path / "all.parquet"
    pack(Inputs(files=[night]), output)
    meta = pq.ParquetFile(output).metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [3, 3, 1]
    assert len(read(output)) == 7


# HATS -----------------------------------------------------------------------------------------


@pytest.fixture
def hats(tmp_path: Path) -> Path:
    """A catalogue of three partitions, as the Multimodal Universe has them."""
    folder = tmp_path / "catalogue"
    rng = np.random.default_rng(0)
    for number in (4, 17, 45):
        path = folder / f"dataset/Norder=1/Dir=0/Npix={number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "flux": rng.normal(5.0, 1.0, 900).tolist(),
                "ivar": np.full(900, 1.0).tolist(),
                "lambda": np.linspace(4000.0, 8000.0, 900).tolist(),
                "mask": np.zeros(900, bool).tolist(),
            }
            for _ in range(5)
        ]
        ids = [f"{number}-{i}" for i in range(5)]
        ra, dec = rng.uniform(0.0, 360.0, 5), rng.uniform(-80.0, 80.0, 5)
        table = pa.table({"object_id": ids, "ra": ra, "dec": dec, "spectrum": pa.array(rows)})
        pq.write_table(table, path)
    (folder / "hats.properties").write_text(
        "obs_collection=boss_dr17\ndataproduct_type=object\nhats_nrows=15\nmoc_sky_fraction=0.1\n"
    )
    return folder


def test_a_hats_catalogue_gives_one(run, hats: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed"
    assert run("pack", hats, "-o", output).code == 0
    names = [p.relative_to(hats / "dataset") for p in sorted((hats / "dataset").rglob("*.parquet"))]
    assert names == [
        p.relative_to(output / "dataset") for p in sorted((output / "dataset").rglob("*.parquet"))
    ]
    for name in names:
        for one, other in zip(read(hats / "dataset" / name), read(output / "dataset" / name),
                              strict=True):  # fmt: skip
            same(one, other)
            assert other.meta["survey"] == "BOSS"
    said = dict(
        line.split("=", 1) for line in (output / "hats.properties").read_text().splitlines()
    )
    assert said["obs_collection"] == "boss_dr17"
    assert said["hats_nrows"] == "15"
    assert said["hats_order"] == "1"
    assert (output / "partition_info.csv").read_text().splitlines() == [
        "Norder,Npix", "1,4", "1,17", "1,45"
    ]  # fmt: skip
    assert pq.read_schema(output / "dataset" / "_common_metadata").names == packed.schema().names


def test_an_interrupted_one_is_resumed(run, hats, tmp_path, monkeypatch) -> None:
    output = tmp_path / "packed"
    original, calls = packed.table_of, []

    def table_of(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(packed, "table_of", table_of)
    assert run("pack", hats, "-o", output).code == 130
    assert len(list(output.rglob("*.parquet"))) == 2
    refused = run("pack", hats, "-o", output)
    assert refused.code == 2
    assert "--resume" in refused.err
    with (output / MANIFEST).open("a") as manifest:
        manifest.write('{"part": "data')  # as a kill leaves it
    done = run("pack", hats, "-o", output, "--resume")
    assert done.code == 0
    assert "2 parts are done" in done.err
    assert "packed 15 spectra" in done.err
    assert len(calls) == 4
    assert sum(len(read(path)) for path in output.rglob("*.parquet")) == 15
    records = [json.loads(line) for line in (output / MANIFEST).read_text().splitlines()]
    assert [record.get("rows") for record in records] == [None, 5, 5, 5]


def test_a_changed_partition_is_not_taken_for_the_old(run, hats, tmp_path) -> None:
    output = tmp_path / "packed"
    assert run("pack", hats, "-o", output).code == 0
    first = next((hats / "dataset").rglob("*.parquet"))
    pq.write_table(pq.read_table(first).slice(0, 2), first)
    done = run("pack", hats, "-o", output, "--resume")
    assert done.code == 2
    assert "differ from those of the unfinished run" in done.err


def test_a_folder_that_holds_the_inputs_is_refused(run, hats) -> None:
    before = {path: path.read_bytes() for path in hats.rglob("*.parquet")}
    done = run("pack", hats, "-o", hats)
    assert done.code == 2
    assert "contains an input" in done.err
    assert {path: path.read_bytes() for path in hats.rglob("*.parquet")} == before


def test_a_folder_of_other_files_is_refused(run, hats, tmp_path) -> None:
    output = tmp_path / "packed"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    done = run("pack", hats, "-o", output)
    assert done.code == 2
    assert [path.name for path in output.iterdir()] == ["mine.txt"]


def test_a_partition_that_cannot_be_read_costs_no_other(run, hats, tmp_path) -> None:
    bad = hats / "dataset/Norder=1/Dir=0/Npix=17.parquet"
    bad.write_bytes(b"PAR1" + bytes(100))
    output = tmp_path / "packed"
    done = run("pack", hats, "-o", output)
    assert done.code == 3
    assert "1 of 11 spectra could not be packed" in done.err
    assert sum(len(read(path)) for path in output.rglob("Npix=4*.parquet")) == 10
    assert (output / "partition_info.csv").read_text().splitlines() == [
        "Norder,Npix",
        "1,4",
        "1,45",
    ]
