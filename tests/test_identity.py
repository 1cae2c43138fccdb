"""The spectrum that a catalogue has is the one that is read, or the row says why not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from conftest import emission_galaxy
from survey_files import made, write_desi, write_lamost_image, write_spec, write_spplate

from spectromer_cli.inference.columns import table_of
from spectromer_cli.model.decoding import Predictions
from spectromer_cli.model.tasks import default_tasks
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.outputs import schema
from spectromer_cli.spectra.catalogues import read_catalogue
from spectromer_cli.spectra.identity import contradiction, of_table
from spectromer_cli.spectra.loading import Item, load_all
from spectromer_cli.spectra.readers import ReadOptions, read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def items_of(
    columns: dict[str, Any], spectra_dir: Path | None = None, workers: int = 0
) -> list[Item]:
    Table(columns).write("c.ecsv", overwrite=True)
    targets, _ = read_catalogue(Path("c.ecsv"), spectra_dir)
    return list(load_all(targets, ReadOptions(), workers=workers))


def level(item: Item) -> float:
    """The level of a flat spectrum, which says which one it is."""
    assert not item.problem and item.spectrum is not None
    return float(np.median(item.spectrum.flux[item.spectrum.good]))


def lamost(path: Path, obsid: int, seed: int = 0) -> Path:
    return write_lamost_image(path, made(seed=seed), OBSID=obsid)


def spec(path: Path, seed: int = 0, **cards: Any) -> Path:
    """A BOSS spectrum, 3655-51602-0031."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_spec(path, made(seed=seed), "BOSS")
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(cards)
    return path


# --- one spectrum, one row ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"TARGETID": [8]}, "has TARGETID 8, but c.fits contains 7"),
        ({"targetid": ["8"]}, "has TARGETID 8, but"),
        ({"row": [0], "TargetID": [8]}, "but c.fits[0] contains 7"),
        ({"TARGETID": [7], "HEALPIX": [5]}, "has HEALPIX 5, but c.fits contains 3"),
        ({"TARGETID": [7], "SURVEY": ["sv3"]}, "has SURVEY sv3, but c.fits contains main"),
        ({"TARGETID": [7], "PROGRAM": ["bright"]}, "has PROGRAM bright, but"),
        ({"TILEID": [2]}, "has TILEID 2, but c.fits contains 1"),
        ({"LASTNIGHT": [20210102]}, "has NIGHT 20210102, but c.fits contains 20210101"),
        ({"object_id": [8]}, "has object_id 8, but c.fits contains 7"),
    ],
)
def test_another_desi_spectrum_than_was_asked_for(folder, columns, words) -> None:
    cards = {"SURVEY": "main", "PROGRAM": "dark", "HPXPIXEL": 3, "TILEID": 1, "NIGHT": 20210101}
    write_desi(Path("c.fits"), [7], [2.0], cards=cards)
    (item,) = items_of({"file": ["c.fits"], **columns})
    assert words in item.problem and "\n" not in item.problem
    assert item.spectrum is None and item.prepared is None and not item.meta
    right = {"SURVEY": "MAIN", "PROGRAM": "dark", "HEALPIX": 3, "TILEID": 1, "LASTNIGHT": 20210101}
    (item,) = items_of({"file": ["c.fits"], "TARGETID": [7]} | {k: [v] for k, v in right.items()})
    assert level(item) == 2.0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"plate": [3655], "mjd": [51602], "fiberid": [32]}, "FIBERID 32, but s.fits contains 31"),
        ({"PLATE": [3656.0]}, "PLATE 3656, but s.fits contains 3655"),
        ({"fiberID": [31], "MJD": [51603]}, "MJD 51603, but s.fits contains 51602"),
        ({"object_id": ["3655-51602-0032"]}, "object_id 3655-51602-0032, but s.fits contains"),
        ({"RUN2D": ["v5_10_0"]}, "RUN2D v5_10_0, but s.fits contains v5_13_0"),
    ],
)
def test_another_sdss_spectrum_than_was_asked_for(folder, columns, words) -> None:
    spec(Path("s.fits"))
    (item,) = items_of({"file": ["s.fits"], **columns})
    assert words in item.problem
    right = {"plate": [3655], "mjd": [51602], "fiberid": [31], "run2d": ["v5_13_0"],
             "object_id": ["3655-51602-31"]}  # fmt: skip
    (item,) = items_of({"file": ["s.fits"], **right})
    assert not item.problem


@pytest.mark.parametrize("columns", [{"obsid": [101002]}, {"object_id": ["1001704233"]}])
def test_another_lamost_spectrum_than_was_asked_for(folder, columns) -> None:
    lamost(Path("l.fits"), 101001)
    (item,) = items_of({"file": ["l.fits"], **columns})
    assert "but l.fits contains 101001" in item.problem
    (item,) = items_of({"file": ["l.fits"], "obsid": [101001], "object_id": [101001]})
    assert not item.problem


@pytest.mark.parametrize(
    "columns",
    [
        # Names, running numbers and the identifiers of others.
        {"object_id": ["M 87"]},
        {"object_id": ["J1234+5678"]},
        {"object_id": [3]},
        {"object_id": ["1237648720693690487"]},
        # What means something else beside a spectrum of DESI.
        {"mjd": [58123.4], "survey": ["DESI"], "healpix": [17], "program": [""]},
        {"plate": [266], "mjd": [51602], "fiberid": [1], "obsid": [17]},
        # What is masked or empty, or says that nobody knows.
        {"TARGETID": MaskedColumn([5], mask=[True]), "object_id": ["--"]},
        {"TARGETID": [-9999], "HEALPIX": [-1], "TILEID": [np.nan], "object_id": [""]},
        # Its last digits are lost.
        {"TARGETID": [3.9628473198347264e16]},
    ],
)
def test_no_false_alarm(folder, columns) -> None:
    cards = {"SURVEY": "main", "PROGRAM": "dark", "HPXPIXEL": 3}
    write_desi(Path("c.fits"), [39628473198347265], [2.0], cards=cards)
    (item,) = items_of({"file": ["c.fits"], **columns})
    assert level(item) == 2.0


def test_an_id_that_is_only_the_files_name_is_none(folder) -> None:
    spectrum = emission_galaxy(0.1)
    values = {"wavelength": spectrum.wavelength, "flux": spectrum.flux, "ivar": spectrum.ivar}
    Table(values).write("moved.csv")
    head = {"file": ["moved.csv"], "row": [0], "object_id": ["old"], "survey": [""]}
    for columns in (head, {"file": ["moved.csv"], "object_id": ["0266-51602-0001"]}):
        (item,) = items_of(columns)
        assert not item.problem


def test_results_are_a_catalogue_again(folder) -> None:
    """All that they say was read from the files: names too are compared."""
    write_desi(Path("c.fits"), [7, -8], [2.0, 3.0], cards={"SURVEY": "main"})
    spec(Path("s.fits"))
    wave = np.tile(emission_galaxy(0.1).wavelength, (2, 1))
    columns = {"object_id": ["a b", "c"], "wavelength": wave, "flux": wave, "ivar": wave}
    Table(columns).write("r.fits")
    names = [("c.fits", 0), ("c.fits", 1), ("s.fits", 0), ("r.fits", 0), ("r.fits", 1)]
    metas = [read(file)[row].meta for file, row in names]
    head = {
        "file": [file for file, _ in names], "row": [row for _, row in names],
        "object_id": [str(meta["object_id"]) for meta in metas],
        "survey": [str(meta["survey"]) for meta in metas],
    }  # fmt: skip
    assert tuple(head) == schema.names_of(schema.HEAD)[: len(head)]
    assert not any(item.problem for item in items_of(head))
    head["object_id"] = [head["object_id"][i] for i in (1, 0, 2, 4, 3)]
    problems = [item.problem for item in items_of(head)]
    assert [bool(problem) for problem in problems] == [True, True, False, True, True]
    assert "has object_id c, but r.fits[0] contains a b" in problems[3]


def test_a_coadd_of_several_tiles_is_of_each() -> None:
    meta = {"survey": "DESI", "targetid": 7, "tileid": (1, 2)}
    rows = of_table(Table({"TARGETID": [7, 7], "TILEID": [2, 3]}))
    assert not contradiction(rows[0], meta, "x.fits")
    assert "TILEID 3, but x.fits contains 1 and 2" in contradiction(rows[1], meta, "x.fits")


# --- the target's own row in a file of many ---------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_the_row_of_a_target_in_its_file(folder, workers) -> None:
    write_desi(Path("c.fits"), [5, 9, 7], [1.0, 2.0, 3.0])
    items = items_of({"file": ["c.fits"] * 4, "TARGETID": [7, 5, 6, 9]}, workers=workers)
    assert [(item.catalogue_row, item.row) for item in items] == [(0, 2), (1, 0), (2, 0), (3, 1)]
    assert [level(items[i]) for i in (0, 1, 3)] == [3.0, 1.0, 2.0]
    assert "none of the 3 spectra of c.fits is TARGETID 6" in items[2].problem


@pytest.mark.parametrize(
    "columns", [{"FIBERID": [3, 1]}, {"plate": [3655] * 2, "mjd": [55240] * 2, "fiber": [3, 1]},
                {"object_id": ["3655-55240-3", "3655-55240-0001"]}],
)  # fmt: skip
def test_the_row_of_a_fibre_on_its_plate(folder, columns) -> None:
    write_spplate(Path("plate.fits"), [made(seed=seed) for seed in range(3)])
    items = items_of({"file": ["plate.fits"] * 2, **columns})
    assert [(item.row, item.meta["fiberid"]) for item in items] == [(2, 3), (0, 1)]


def test_the_row_of_an_object_in_a_table_of_spectra(folder) -> None:
    wave = np.tile(emission_galaxy(0.1).wavelength, (3, 1))
    columns = {"object_id": ["a", "b", "b"], "wavelength": wave, "flux": wave, "ivar": wave}
    Table(columns).write("t.fits")
    first, second = items_of({"file": ["t.fits"] * 2, "object_id": ["a", "b"]})
    assert first.row == 0 and not first.problem
    assert "object_id b matches 2 spectra of t.fits (1, 2); give one in a column row" in (
        second.problem
    )


@pytest.mark.parametrize("name", ["TARGETID", "obsid"])
def test_the_number_of_a_survey_in_a_table_of_spectra(folder, name) -> None:
    """Tables with a spectrum per row keep it in whatever column is their id."""
    wave = np.tile(emission_galaxy(0.1).wavelength, (2, 1))
    columns = {"object_id": ["39628473198347264", "39628473198347265"], "wavelength": wave}
    Table(columns | {"flux": wave, "ivar": wave}).write("t.fits")
    (item,) = items_of({"file": ["t.fits"], name: [39628473198347265]})
    assert item.row == 1 and not item.problem


def test_targets_that_a_file_cannot_tell_apart(folder) -> None:
    """Each with every spectrum would be wrong for all but one; a single row means them all."""
    path = write_desi(Path("c.fits"), [5, 9], [1.0, 2.0])
    with fits.open(path) as hdus:
        fits.HDUList([hdu for hdu in hdus if hdu.name != "FIBERMAP"]).writeto("bare.fits")
    items = items_of({"file": ["bare.fits"] * 2, "TARGETID": [5, 9]})
    assert ["add a column row to the catalogue" in item.problem for item in items] == [True] * 2
    items = items_of({"file": ["bare.fits"], "TARGETID": [5]})
    assert [level(item) for item in items] == [1.0, 2.0]


def test_evaluate_pairs_each_label_with_its_own_spectrum(folder, run, weights) -> None:
    write_desi(Path("c.fits"), [5, 9], [1.0, 2.0])
    Table({"file": ["c.fits"] * 2, "TARGETID": [9, 5], "z": [0.1, 0.2],
           "class": ["GALAXY", "QSO"]}).write("c.ecsv")  # fmt: skip
    run("evaluate", "--catalog", "c.ecsv", "-o", "e", *weights)
    table = Table.read("e/predictions.ecsv")
    assert table["object_id"].astype(str).tolist() == ["9", "5"]
    assert table["z_true"].tolist() == [0.1, 0.2]


# --- which of several files --------------------------------------------------------------------


COADDS = {
    "coadd-main-dark-3": ({}, {"SURVEY": "main", "PROGRAM": "dark", "HEALPIX": 3}),
    "coadd-main-bright-3": ({}, {"SURVEY": "main", "PROGRAM": "bright", "HEALPIX": 3}),
    "x/coadd-a": ({"SURVEY": "sv3", "PROGRAM": "dark", "HPXPIXEL": 4},
                  {"SURVEY": "sv3", "PROGRAM": "dark", "HEALPIX": 4}),
    "coadd-1-80-thru20210101": ({}, {"TILEID": 80, "LASTNIGHT": 20210101}),
    "coadd-b": ({"TILEID": 80, "NIGHT": 20210202}, {"TILEID": 80, "LASTNIGHT": 20210202}),
}  # fmt: skip


@pytest.mark.parametrize("name", COADDS)
def test_a_target_in_several_coadds(folder, name) -> None:
    for number, (stem, (cards, _)) in enumerate(COADDS.items()):
        write_desi(Path(f"d/{stem}.fits"), [1, 7], [9.0, number + 1.0], cards=cards)
    wanted = {key: [value] for key, value in COADDS[name][1].items()}
    (item,) = items_of({"TARGETID": [7], **wanted}, Path("d"))
    assert item.file == f"d/{name}.fits"
    assert level(item) == list(COADDS).index(name) + 1.0
    (item,) = items_of({"TARGETID": [7]}, Path("d"))
    assert (
        "targetid 7 matches 5 files: d/coadd-1-80-thru20210101.fits, d/coadd-b.fits" in item.problem
    )
    assert "give one in a column file" in item.problem
    (item,) = items_of({"TARGETID": [7], "HEALPIX": [99]}, Path("d"))
    assert "matches 2 files: d/coadd-1-80" in item.problem  # those that know no pixel
    (item,) = items_of({"TARGETID": [7], "TILEID": [81], "SURVEY": ["cmx"]}, Path("d"))
    assert "none of the 5 files of targetid 7 matches" in item.problem


def test_copies_are_one(folder) -> None:
    """The same name packed, the same numbers elsewhere, exposures beside their coadd."""
    cards = {"SURVEY": "main", "PROGRAM": "dark", "HPXPIXEL": 3}
    path = write_desi(Path("d/coadd-main-dark-3.fits"), [7], [2.0], cards=cards)
    shutil.copytree("d", "d/copy")
    with fits.open(path) as hdus:
        hdus.writeto("d/coadd-main-dark-3.fits.gz")
    write_desi(Path("d/spectra-main-dark-3.fits"), [7, 7], [2.0, 2.2], cards=cards)
    (item,) = items_of({"TARGETID": [7]}, Path("d"))
    assert item.file == "d/coadd-main-dark-3.fits" and level(item) == 2.0
    # The exposures of another pixel are other data.
    write_desi(Path("d/spectra-main-dark-4.fits"), [7], [3.0], cards=cards | {"HPXPIXEL": 4})
    (item,) = items_of({"TARGETID": [7]}, Path("d"))
    assert "targetid 7 matches" in item.problem


def test_a_spectrum_in_several_reductions(folder) -> None:
    name = "spec-3655-51602-0031.fits"
    ids = {"plate": [3655], "mjd": [51602], "fiberid": [31]}
    spec(Path("s/26/lite") / name)
    spec(Path("s/26/full") / name)
    (item,) = items_of(ids, Path("s"))  # lite and full of one reduction
    assert item.file == f"s/26/full/{name}" and not item.problem
    spec(Path("s/old") / name, seed=1, RUN2D="v5_7_0")
    (item,) = items_of(ids, Path("s"))
    assert "plate 3655, mjd 51602, fiberid 31 matches 3 files: s/26/full/" in item.problem
    (item,) = items_of(ids | {"RUN2D": ["v5_7_0"]}, Path("s"))
    assert item.file == f"s/old/{name}" and not item.problem
    (item,) = items_of(ids | {"RUN2D": ["v6"]}, Path("s"))
    assert "none of the 3 files" in item.problem


def test_a_spectrum_beside_its_plate(folder) -> None:
    """The plate of the same reduction adds nothing; that of another is another spectrum."""
    ids = {"plate": [3655], "mjd": [51602], "fiberid": [31]}
    spec(Path("s/spec-3655-51602-0031.fits"))
    plate = write_spplate(Path("s/spPlate-3655-51602.fits"), [made(seed=i) for i in range(31)])
    with fits.open(plate, mode="update") as hdus:
        hdus[0].header.update({"MJD": 51602, "RUN2D": "v5_13_0"})
    (item,) = items_of(ids, Path("s"))
    assert item.file == "s/spec-3655-51602-0031.fits"
    with fits.open(plate, mode="update") as hdus:
        hdus[0].header["RUN2D"] = "v5_7_0"
    (item,) = items_of(ids, Path("s"))
    assert "matches 2 files" in item.problem
    (item,) = items_of(ids | {"run2d": ["v5_7_0"]}, Path("s"))
    assert item.file == str(plate) and item.row == 30


@pytest.mark.parametrize(
    "names",
    [
        ("a/101001.fits", "b/101001.fits"),
        ("spec-1-101001.fits", "x-101001.fits"),
        ("spec-55859-F1_sp09-021.fits", "spec-55859-F1_sp09-022.fits"),
    ],
)
def test_an_obsid_in_several_files(folder, names) -> None:
    for seed, name in enumerate(names):
        (folder / "l" / name).parent.mkdir(parents=True, exist_ok=True)
        lamost(folder / "l" / name, 101001, seed)
    (item,) = items_of({"obsid": [101001]}, Path("l"))
    assert "obsid 101001 matches 2 files" in item.problem
    shutil.copy(folder / "l" / names[0], folder / "l" / names[1])
    (item,) = items_of({"obsid": [101001]}, Path("l"))
    assert item.file == f"l/{names[0]}" and not item.problem


def test_a_number_in_a_name_is_checked_by_the_header(folder) -> None:
    Path("l").mkdir()
    lamost(Path("l/night-101001.fits"), 5)
    (item,) = items_of({"obsid": [101001]}, Path("l"))
    assert "has OBSID 101001, but l/night-101001.fits contains 5" in item.problem
    lamost(Path("l/right-101001.fits"), 101001)
    (item,) = items_of({"obsid": [101001]}, Path("l"))
    assert item.file == "l/right-101001.fits" and not item.problem


# --- the pages, and the table ---------------------------------------------------------------------


def test_the_page_shows_no_other_nights_spectrum(folder, run, weights) -> None:
    """The results' folder first; elsewhere only what the file itself says is the same."""
    for night, obsid in (("night1", 101001), ("night2", 202002)):
        (folder / night).mkdir()
        write_lamost_image(folder / night / "s.fits", made(3000), OBSID=obsid)
    row = {"file": ["s.fits"], "row": [0], "object_id": ["101001"], "survey": ["LAMOST"],
           "z": [0.1]}  # fmt: skip
    shutil.copy("night2/s.fits", "s.fits")
    Table(row).write("night1/z.csv")
    assert run("report", "night1/z.csv", "-o", "a.html", *weights[:2]).code == 0
    Table(row).write("z.csv")
    result = run("report", "z.csv", "-o", "b.html", *weights[:2])
    assert result.code == 3
    assert "has object_id 101001, but s.fits" in Path("b.html").read_text()
    for command in (["plot", "--no-lines"], ["explain", *weights]):
        result = run(*command, "--catalog", "z.csv", "-o", "looks")
        assert result.code == 3 and "but s.fits[0] contains 202002" in result.err
        assert run(*command, "--catalog", "night1/z.csv", "-o", "looks").code == 0


def test_the_page_shows_no_other_spectrum_without_an_id(folder, run, weights) -> None:
    """A plain table's only id is its name, which those of all nights share."""
    for night, sn in (("night1", 30.0), ("night2", 20.0)):
        spectrum = emission_galaxy(0.1, sn)
        values = {"wavelength": spectrum.wavelength, "flux": spectrum.flux, "ivar": spectrum.ivar}
        Path(night).mkdir()
        Table(values).write(f"{night}/s.csv")
    shutil.copy("night1/s.csv", "s.csv")
    Path("out").mkdir()
    assert run("redshift", "s.csv", "-o", "out/z.csv", *weights).code == 0
    assert run("report", "out/z.csv", "-o", "a.html", *weights[:2]).code == 0
    shutil.copy("night2/s.csv", "s.csv")
    assert run("report", "out/z.csv", "-o", "b.html", *weights[:2]).code == 3
    assert "but s.csv[0] has" in Path("b.html").read_text()
    shutil.copy("night1/s.csv", "out/s.csv")  # beside the results comes first
    assert run("report", "out/z.csv", "-o", "c.html", *weights[:2]).code == 0


def test_a_page_of_a_catalogue_has_each_target_once(folder, run, weights) -> None:
    write_desi(Path("c.fits"), [5, 9], [1.0, 2.0])
    Table({"file": ["c.fits"] * 3, "TARGETID": [9, 5, 6], "z": [0.1] * 3}).write("c.csv")
    result = run("report", "--catalog", "c.csv", "-o", "r.html", *weights[:2])
    assert result.code == 3 and "1 of 3 rows" in result.err


def test_what_a_file_says_of_its_fibre_reaches_the_table() -> None:
    meta = {"zwarn": int(ZWarn.SKY | ZWarn.UNPLUGGED), "flags": ("SKY", "UNPLUGGED")}
    item = Item("x.fits", 0, meta, 10.0)
    table = table_of([item], Predictions(np.array([], dtype=int)), default_tasks())
    assert table["zwarn"][0] & ZWarn.SKY and table["zwarn"][0] & ZWarn.UNPLUGGED
    assert {"SKY", "UNPLUGGED"} <= set(str(table["flags"][0]).split(";"))
    item.problem = "every pixel is masked"
    table = table_of([item], Predictions(np.array([], dtype=int)), default_tasks())
    assert table["flags"][0] == "UNREADABLE: every pixel is masked;SKY;UNPLUGGED;NODATA"
