"""The one list of columns: what it says is what every file, table and page says."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits, votable
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table
from conftest import EXAMPLES, Run, emission_galaxy
from survey_files import made, write_desi, write_lamost_table, write_spec

import spectromer_cli
from spectromer_cli.errors import UsageError
from spectromer_cli.inference import columns
from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model import tasks
from spectromer_cli.outputs import schema, screen, tables
from spectromer_cli.outputs.formats import FORMATS
from spectromer_cli.spectra import identity
from spectromer_cli.spectra.catalogues import read_table

STAR = EXAMPLES / "simulated-sdss-star.fits"
GALAXY = EXAMPLES / "simulated-sdss-galaxy.fits"


@pytest.fixture(scope="module")
def model(random_weights: Path) -> Spectromer:
    return spectromer_cli.load_model(str(random_weights), device="cpu")


def write_csv(path: Path, **meta: object) -> Path:
    spectrum = emission_galaxy(0.1)
    error = 1 / np.sqrt(spectrum.ivar)
    Table({"wavelength": spectrum.wavelength, "flux": spectrum.flux, "error": error}).write(path)
    return path


# The list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", schema.COLUMNS, ids=lambda column: column.name)
def test_what_the_list_says_is_valid_everywhere(column: schema.Column) -> None:
    parse_ucd(column.ucd, check_controlled_vocabulary=True)
    units.Unit(column.unit).to_string("fits")
    units.Unit(column.unit).to_string("vounit")
    assert column.description and column.description.isascii()
    assert column.type in ("text", "int32", "int64", "float32", "float64")


def test_names_are_told_apart_and_begin_as_results_do() -> None:
    names = schema.names_of(schema.COLUMNS)
    assert len({name.lower() for name in names}) == len(names)
    assert names[:4] == identity.RESULT_HEAD
    # Tools find the redshift by its UCD: no other column has it.
    assert [column.name for column in schema.COLUMNS if column.ucd == "src.redshift"] == ["z"]


def test_columns_of_ones_own_tasks_are_described() -> None:
    scheme = tasks.Category("class", ("QSO", "supernova"))
    grade, age = tasks.Category("grade", ("good", "bad")), tasks.Quantity("age")
    found = {one.name: one for one in columns.columns_of([scheme, grade, age, tasks.Redshift()])}
    assert found["p_supernova"].description == "probability of the class supernova"
    assert found["class"].description == "predicted class, one of 2 labels: QSO, supernova"
    assert found["grade_prob"].type == "float32" and found["age"].type == "float32"
    assert found["age_err"].ucd == "stat.error"
    assert "rv" not in found  # it knows no stars
    assert found["z"] is schema.BY_NAME["z"]


# Tables from Python ---------------------------------------------------------------------------


def test_a_table_from_python_says_what_it_holds(model) -> None:
    table = model.predict([emission_galaxy(0.1)])
    for column in table.itercols():
        known = schema.BY_NAME[column.name]
        assert column.description == known.description
        assert str(column.unit or "") == str(units.Unit(known.unit) if known.unit else "")
        assert column.meta["ucd"] == known.ucd
        assert known.type == "text" or column.dtype == known.type
    assert table["plate"][0] is np.ma.masked and table["ra"][0] is np.ma.masked
    assert table["flags"].tolist()[0] is not None  # no flag is no missing value
    assert table.meta["weights"] == "random.v0"


def test_velocities_are_of_stars_only() -> None:
    table = spectromer_cli.predict([STAR, GALAXY], columns="redshift")
    star, galaxy = table
    assert star["class"] == "STAR"
    assert star["rv"] == pytest.approx(LIGHT_SPEED * star["z"], abs=0.02)
    assert star["rv_err"] == pytest.approx(LIGHT_SPEED * star["z_err"], rel=1e-3)
    assert galaxy["rv"] is np.ma.masked and galaxy["rv_err"] is np.ma.masked
    assert (table["chi2_nu"] > 0.3).all()


def test_positions_and_numbers_come_from_the_files(model, tmp_path) -> None:
    levels = 2.0 + np.sin(np.arange(7781) / 50.0)
    sdss = write_spec(tmp_path / "sdss.fits", made(n=3000))
    lamost = write_lamost_table(tmp_path / "lamost.fits", made(n=3000))
    desi = write_desi(tmp_path / "desi.fits", [39627, 39628], [levels, levels])
    plain = write_csv(tmp_path / "plain.csv")
    table = spectromer_cli.predict([sdss, lamost, desi, plain], model=model)
    assert table["plate"].tolist()[0] == 266 and table["mjd"].tolist()[0] > 50000
    assert (table["ra"][0], table["dec"][0]) == (147.25, -0.5)
    meta = spectromer_cli.read(lamost)[0].meta
    assert table["obsid"].tolist()[1] == meta["obsid"]
    metas = [spectrum.meta for spectrum in spectromer_cli.read(desi)]
    assert table["targetid"].tolist()[2:-1] == [meta["targetid"] for meta in metas]
    assert table["ra"].tolist()[2:-1] == [pytest.approx(meta["ra"], abs=1e-6) for meta in metas]
    for name in ("ra", "dec", *schema.IDENTIFIERS):
        assert table[name].tolist()[-1] is None
    assert table["targetid"].dtype == np.int64 and table["plate"].dtype == np.int32


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 0.0), (-9999.0, -9999.0), (np.nan, 1.0), (10.0, 95.0), ("x", 1.0)]
)
def test_places_that_are_none_are_masked(model, ra, dec) -> None:
    spectrum = emission_galaxy(0.1)
    spectrum.meta |= {"ra": ra, "dec": dec}
    table = model.predict([spectrum])
    assert table["ra"][0] is np.ma.masked and table["dec"][0] is np.ma.masked


def test_what_a_file_leaves_out_stands_in_the_catalogue(model, tmp_path) -> None:
    place = SkyCoord(150.1, 2.2, unit="deg")
    write_csv(tmp_path / "a.csv")
    write_spec(tmp_path / "b.fits", made(n=3000))
    catalogue = tmp_path / "targets.csv"
    Table({
        "file": ["a.csv", "b.fits", "missing.fits"], "l": [place.galactic.l.deg] * 3,
        "b": [place.galactic.b.deg] * 3, "TARGETID": [39627, 0, 39628],
    }).write(catalogue)  # fmt: skip
    table = spectromer_cli.predict(spectromer_cli.Inputs(catalog=catalogue), model=model)
    assert table["ra"].tolist() == [pytest.approx(150.1), 147.25, pytest.approx(150.1)]
    assert table["dec"].tolist() == [pytest.approx(2.2), -0.5, pytest.approx(2.2)]
    assert table["targetid"].tolist() == [39627, None, 39628]
    assert "cat_TARGETID" in table.colnames and "l" in table.colnames


# Files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nothing(model, tmp_path_factory) -> Table:
    """Results in which next to every column is empty throughout."""
    bad = tmp_path_factory.mktemp("bad") / "bad.csv"
    bad.write_text("wavelength,flux\n")
    table = spectromer_cli.predict([bad], model=model)
    assert table is not None
    return table


def written(folder: Path, suffix: str, *chunks: Table) -> Path:
    path = folder / f"t{suffix}"
    with tables.open_writer(path, dict(chunks[0].meta)) as writer:
        for chunk in chunks:
            writer.write(chunk)
    return path


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".vot", ".parquet"])
def test_a_column_without_a_value_has_its_type(tmp_path, suffix, nothing) -> None:
    table = read_table(written(tmp_path, suffix, nothing, nothing))
    for column in schema.COLUMNS:
        found = table[column.name]
        if column.type != "text":
            assert found.dtype.newbyteorder("=") == np.dtype(column.type), column.name
        if column.name not in ("file", "row", "zwarn", "z_conf", "flags"):
            # Text of a VOTable is empty where there is none.
            empty = suffix == ".vot" and column.type == "text"
            assert np.all(found == "") if empty else np.all(np.ma.getmaskarray(found)), column.name
    assert table["zwarn"].tolist() == [512, 512]


def test_json_and_csv_have_nothing_where_nothing_is(tmp_path, nothing) -> None:
    row = json.loads(written(tmp_path, ".jsonl", nothing).read_text())
    assert {row[name] for name in ("class", "z", "plate", "object_id", "ra")} == {None}
    path = written(tmp_path, ".csv", nothing)
    record = json.loads(path.with_name("t.csv.meta.json").read_text())
    assert record["columns"]["ra"] == {
        "unit": "deg", "ucd": "pos.eq.ra;meta.main",
        "description": schema.BY_NAME["ra"].description,
    }  # fmt: skip


def test_fits_says_what_its_columns_are(tmp_path, nothing) -> None:
    path = written(tmp_path, ".fits", nothing)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header = hdus["RESULTS"].header
        numbers = {header[f"TTYPE{i}"]: i for i in range(1, header["TFIELDS"] + 1)}
        assert header[f"TUNIT{numbers['rv']}"] == "km s-1"
        assert header[f"TUCD{numbers['z']}"] == "src.redshift"
        for name, number in numbers.items():
            known = schema.BY_NAME[name].description
            assert header[f"TCOMM{number}"] == known
            assert known.startswith(header.comments[f"TTYPE{number}"])
            assert len(header.comments[f"TTYPE{number}"]) >= 10
        # FITS 4.0, section 4.4.2.1: UTC, without an offset.
        assert header["DATE"] == nothing.meta["date"].removesuffix("+00:00")
        assert header["WEIGHTS"] == "random.v0"


def test_provenance_takes_no_word_of_the_standard(tmp_path) -> None:
    record = {"object": "M 31", "bscale": "2", "seed": "7", "a-b c": "x", "date": "2026-01-01"}
    with tables.open_writer(tmp_path / "t.fits", record) as writer:
        writer.write(Table({"n": [1, 2]}))
    header = fits.getheader(tmp_path / "t.fits", 1)
    assert "OBJECT" not in header and "BSCALE" not in header
    assert header["XOBJECT"] == "M 31" and header["SEED"] == "7" and header["ABC"] == "x"


def test_votable_and_parquet_say_what_their_columns_are(tmp_path, nothing) -> None:
    document = votable.parse(written(tmp_path, ".vot", nothing))
    fields = {field.name: field for field in document.get_first_table().fields}
    assert fields["z"].ucd == "src.redshift" and fields["rv"].unit == units.Unit("km/s")
    assert str(fields["class"].description) == schema.BY_NAME["class"].description
    assert fields["ra"].ref == fields["dec"].ref == "icrs"
    assert document.resources[0].coordinate_systems[0].system == "ICRS"
    import pyarrow.parquet

    parquet = pyarrow.parquet.read_schema(written(tmp_path, ".parquet", nothing))
    said = parquet.field("ra").metadata
    assert said[b"unit"] == b"deg" and said[b"ucd"] == b"pos.eq.ra;meta.main"
    assert said[b"description"] == schema.BY_NAME["ra"].description.encode()


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".jsonl"])
def test_results_are_a_catalogue_again(model, tmp_path, suffix) -> None:
    write_spec(tmp_path / "a.fits", made(n=3000))
    levels = 2.0 + np.sin(np.arange(7781) / 50.0)
    write_desi(tmp_path / "b.fits", [39627, 39628], [levels, levels])
    write_csv(tmp_path / "c.csv")
    output = tmp_path / f"z{suffix}"
    names = [tmp_path / name for name in ("a.fits", "b.fits", "c.csv")]
    spectromer_cli.predict(names, model=model, output=output)
    again = spectromer_cli.predict(spectromer_cli.Inputs(catalog=output), model=model)
    assert again is not None
    assert again["row"].tolist() == [0, 0, 1, 0]
    assert not [text for text in again["flags"] if "UNREADABLE" in text]
    first = read_table(output)
    for name in ("file", "plate", "targetid", "class"):
        assert again[name].tolist() == first[name].tolist() == again[f"cat_{name}"].tolist()
    np.testing.assert_allclose(again["z"], np.ma.asarray(first["z"]), atol=1e-4)
    np.testing.assert_allclose(
        np.ma.filled(again["ra"], -1), np.ma.filled(np.ma.asarray(first["ra"]), -1)
    )


# Choosing -------------------------------------------------------------------------------------


def test_chosen_columns_in_their_order(run: Run, weights, tmp_path) -> None:
    result = run("redshift", GALAXY, *weights, "--columns", "z, subclass,file,z")
    assert result.code == 0 and list(result.rows[0]) == ["z", "subclass", "file"]
    catalogue = EXAMPLES / "targets.csv"
    output = tmp_path / "c.csv"
    result = run("classify", "--catalog", catalogue, *weights, "--columns", "priority,class",
                 "-o", output)  # fmt: skip
    assert result.code == 0 and output.read_text().splitlines()[0] == "priority,class"
    table = spectromer_cli.predict(GALAXY, columns=["rv", "flags"], model=str(weights[1]))
    assert table.colnames == ["rv", "flags"]
    assert str(table["rv"].unit) == "km / s"


@pytest.mark.parametrize(
    ("command", "names", "message"),
    [
        ("redshift", "z,zz", "there is no column zz"),
        ("classify", "z", "there is no column z"),  # it does not refine it
        ("redshift", ",", "there is no column ,"),
    ],
)
def test_columns_that_are_not_there(run: Run, weights, command, names, message) -> None:
    result = run(command, GALAXY, *weights, "--columns", names)
    assert result.code == 2 and result.out == ""
    assert message in result.err and "choose from file, row" in result.err


def test_a_resumed_run_has_the_columns_it_had(model, tmp_path) -> None:
    output = tmp_path / "z.csv"
    run = spectromer_cli.inference.run
    other = run.Settings(model=model, columns="redshift", only="file,z")
    inputs = spectromer_cli.Inputs(files=GALAXY)
    one, two = (
        run.Run(inputs, settings)._layout.identity(inputs, "")
        for settings in (other, run.Settings(model=model, columns="redshift"))
    )
    assert one["columns"] == ("file", "z") and two["columns"] != one["columns"]
    assert not output.exists()


# Doubts by name -------------------------------------------------------------------------------


def test_zwarn_explains_a_number(run: Run) -> None:
    result = run("zwarn", "133124")
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert [line[3] for line in lines] == ["name", "AMBIGUOUS", "LOW_SN", "OUT_OF_DOMAIN"]
    assert [line[1] for line in lines[1:]] == ["2", "11", "17"]
    assert "no warning" in run("zwarn", "0").out
    assert "not used by spectromer" in run("zwarn", "8").out
    found = json.loads(run("zwarn", "0x4", "512", "--json").out)["zwarn"]
    assert [(row["zwarn"], row["name"]) for row in found] == [(4, "AMBIGUOUS"), (512, "NODATA")]
    for wrong in ("many", "1.5", "99999999999"):
        assert run("zwarn", wrong).code == 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_has_what_matters_first(capsys, monkeypatch, model, width) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = model.predict([emission_galaxy(0.1 + 0.1 * i) for i in range(3)])
    table = table[list(columns.REDSHIFT_COLUMNS)]
    table["file"] = ["/data/night one/a-001-b.fits"] * 2 + ["/data/night one/a-002-b.fits"]
    table["class"] = ["GALAXY"] * 3
    table["zwarn"][:] = [4, 0, 131072 + 2048]
    table["flags"] = ["AMBIGUOUS", "", "FRAME_ASSUMED;LOW_SN;OUT_OF_DOMAIN"]
    screen.show(table, "Redshifts")
    out = capsys.readouterr().out
    head = next(line for line in out.splitlines() if "class" in line).split()
    assert head[:2] == ["file", "row"]
    assert head.index("z_err") == head.index("z") + 1
    assert ("class_prob" in head) == (width == 120)
    assert "zwarn" in head and out.count("AMBIGUOUS") == 1 and "LOW_SN" in out
    assert "002-b" in out and out.count("001") == 2
    assert all(len(line) <= width for line in out.splitlines())


def test_a_catalogues_own_zwarn_stays_a_number(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    screen.show(Table({"file": ["a.fits"], "zwarn": [4]}), "Theirs")
    assert "AMBIGUOUS" not in capsys.readouterr().out


# Manners --------------------------------------------------------------------------------------


def test_weights_are_tab_separated_in_a_pipe(run: Run) -> None:
    head, *rows = [line.split("\t") for line in run("weights", "list").out.splitlines()]
    assert head[:3] == ["name", "default", "size"] and rows
    assert all(len(row) == len(head) for row in rows)
    assert any(row[1] == "yes" and int(row[2]) > 1e6 for row in rows)
    pairs = [line.split("\t") for line in run("weights", "info", rows[0][0]).out.splitlines()]
    assert all(len(pair) == 2 for pair in pairs)
    assert dict(pairs)["name"] == rows[0][0]


def test_info_is_for_a_bug_report(run: Run) -> None:
    pairs = dict(line.split("\t") for line in run("info").out.splitlines())
    assert pairs["spectromer"] == spectromer_cli.__version__
    assert {"python", "torch", "astropy", "devices", "cache"} <= set(pairs)
    assert json.loads(run("info", "--json").out)["numpy"] == np.__version__


def test_what_a_shell_offers() -> None:
    from spectromer_cli.cli import options

    assert options.images("map2d-r") == ["map2d-roi"]
    assert "spectromer-tiny.v4" in options.weights("spec")
    assert options._columns("file,z_e") == ["file,z_err"]
    assert options.offer("STAR", "QSO")("Q") == ["QSO"]


def test_evaluate_shows_ten_lines_on_a_terminal(run: Run, tmp_path, monkeypatch) -> None:
    from spectromer_cli.cli import evaluate

    arguments = ["evaluate", "--catalog", EXAMPLES / "truth.csv", "-o", tmp_path / "r"]
    whole = json.loads(run(*arguments, "--json").out)
    monkeypatch.setenv("COLUMNS", "100")
    evaluate._show(whole, tmp_path / "r")


def test_the_hub_is_told_of_once(monkeypatch, caplog) -> None:
    import logging

    from spectromer_cli.errors import NetworkError
    from spectromer_cli.weights import hub

    def retries(*_, **__):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", retries)
    with pytest.raises(NetworkError, match="no route to host"):
        hub.hub_file("owner/name", "weights.safetensors", force=False)
    assert "Retrying" not in caplog.text


def test_no_column_is_named_twice_by_accident() -> None:
    table = Table({"a": [1]})
    with pytest.raises(UsageError, match="there is no column b"):
        schema.chosen(table, ["a", "b"])
    assert schema.chosen(table, ["a", "a"]) == ("a",)
