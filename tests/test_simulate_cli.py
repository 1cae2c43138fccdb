"""`spectromer simulate` as a user meets it: files without the truth, the truth beside them."""

import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import Run
from small_set import write_templates

from spectromer_cli import read


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_templates(tmp_path_factory.mktemp("templates") / "t.npz")


def test_spectra_and_their_truth(run: Run, tmp_path: Path, templates: Path) -> None:
    folder = tmp_path / "sim"
    result = run("simulate", "-n", 12, "-o", folder, "--templates", templates, "--sn", "5:20")
    assert result.code == 0, result.err
    assert result.out.strip() == str(folder / "truth.ecsv")
    truth = Table.read(folder / "truth.ecsv")
    assert truth.colnames == ["file", "class", "subclass", "z", "sn", "survey"]
    assert len(truth) == 12
    assert (truth["sn"] >= 5).all()
    assert (truth["sn"] <= 20).all()
    assert truth.meta["seed"] == "1"
    for row in truth:
        (spectrum,) = read(folder / row["file"])
        good = spectrum.ivar > 0
        assert good.mean() > 0.5
        measured = np.median(np.abs(spectrum.flux[good]) * np.sqrt(spectrum.ivar[good]))
        assert measured == pytest.approx(row["sn"], rel=0.35)


def test_no_truth_is_in_the_files(run: Run, tmp_path: Path, templates: Path) -> None:
    run("simulate", "-n", 2, "-o", tmp_path / "s", "--templates", templates)
    with fits.open(tmp_path / "s" / "simulated-000001.fits") as file:
        assert len(file) == 2
        assert not {"Z", "CLASS", "SUBCLASS"} & {key for hdu in file for key in hdu.header}
        assert file[1].columns.names == ["flux", "loglam", "ivar", "and_mask"]


def test_a_spectrum_is_the_same_whatever_the_number(
    run: Run, tmp_path: Path, templates: Path
) -> None:
    for name, n, seed in (("a", 5, 1), ("b", 3, 1), ("c", 3, 2)):
        run("simulate", "-n", n, "-o", tmp_path / name, "--templates", templates, "--seed", seed)
        if name == "a":
            time.sleep(1.1)  # nor whatever the time
    third = {name: (tmp_path / name / "simulated-000003.fits").read_bytes() for name in "abc"}
    with fits.open(tmp_path / "a" / "simulated-000003.fits", checksum=True) as hdus:
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
    assert third["a"] == third["b"]
    assert third["a"] != third["c"]


def test_classes_redshifts_and_surveys_as_asked(run: Run, tmp_path: Path, templates: Path) -> None:
    result = run(
        "simulate", "-n", 8, "-o", tmp_path / "q", "--templates", templates,
        "--class", "qso", "--z", "1:1.5", "--survey", "desi",
    )  # fmt: skip
    assert result.code == 0, result.err
    truth = Table.read(tmp_path / "q" / "truth.ecsv")
    assert set(truth["class"]) == {"QSO"}
    assert set(truth["survey"]) == {"DESI"}
    assert (truth["z"] >= 1).all()
    assert (truth["z"] <= 1.5).all()
    for name in truth["file"]:
        (spectrum,) = read(tmp_path / "q" / name)
        assert spectrum.wavelength[0] > 3595
        assert spectrum.wavelength[-1] < 9830


def test_what_is_there_is_not_lost(run: Run, tmp_path: Path, templates: Path) -> None:
    options = ("-o", tmp_path / "s", "--templates", templates)
    run("simulate", "-n", 4, *options)
    mine = tmp_path / "s" / "mine.fits"
    mine.write_bytes(b"mine")
    again = run("simulate", "-n", 2, *options)
    assert again.code == 2
    assert "already contains simulated spectra" in again.err
    assert len(Table.read(tmp_path / "s" / "truth.ecsv")) == 4
    assert run("simulate", "-n", 2, *options, "--overwrite").code == 0
    assert sorted(p.name for p in (tmp_path / "s").glob("*.fits")) == [
        "mine.fits", "simulated-000001.fits", "simulated-000002.fits",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--class", "PLANET"), "invalid --class 'PLANET'"),
        (("--survey", "HST"), "invalid --survey 'HST'"),
        (("--sn", "9:3"), "invalid --sn '9:3'"),
        (("--z", "high"), "invalid --z 'high'"),
        (("--z", "nan:2"), "invalid --z 'nan:2'"),
    ],
)
def test_what_cannot_be_drawn(
    run: Run, tmp_path: Path, templates: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = run("simulate", "-o", tmp_path / "s", "--templates", templates, *arguments)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "s").exists()


def test_templates_that_are_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_text("no zip")
    result = run("simulate", "-o", tmp_path / "s", "--templates", tmp_path / "t.npz")
    assert result.code != 0
    assert "t.npz is not a set of templates" in result.err


def test_every_command_takes_the_truth(
    run: Run, tmp_path: Path, templates: Path, weights: list[str]
) -> None:
    run("simulate", "-n", 6, "-o", tmp_path / "s", "--templates", templates)
    truth = tmp_path / "s" / "truth.ecsv"
    result = run("classify", "--catalog", truth, *weights)
    assert result.code == 0, result.err
    assert len(result.rows) == 6
    judged = run("evaluate", "--catalog", truth, *weights, "-o", tmp_path / "report")
    assert judged.code == 0, judged.err
    assert (tmp_path / "report" / "report.json").exists()


def test_as_other_spectrographs_would_have_taken_them(
    run: Run, tmp_path: Path, templates: Path
) -> None:
    options = ("-n", 12, "--templates", templates, "--survey", "BOSS")
    widths = {}
    for share in (0, 1):
        folder = tmp_path / str(share)
        result = run("simulate", *options, "--elsewhere", share, "-o", folder)
        assert result.code == 0, result.err
        truth = Table.read(folder / "truth.ecsv")
        assert truth.meta["elsewhere"] == str(share)
        spectra = [read(folder / name)[0] for name in truth["file"]]
        widths[share] = np.median([(one.ivar > 0).sum() for one in spectra])
    assert widths[1] < 0.9 * widths[0]
    assert run("simulate", *options, "--elsewhere", 2, "-o", tmp_path / "b").code == 2
