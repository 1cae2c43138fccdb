"""`spectromer render` and its figures: right pixels, right names, one line for what is wrong."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, emission_galaxy, texts_that_overlap
from matplotlib.image import imread
from survey_files import made, write_spec, write_spplate

from spectromer_cli import images
from spectromer_cli.errors import UsageError
from spectromer_cli.outputs import plotting
from spectromer_cli.outputs.naming import output_stem, unique
from spectromer_cli.spectra.grid import Grid, Prepared, prepare
from spectromer_cli.spectra.readers import read

TOKENS = 3  # of the model in `random_weights`


@pytest.fixture
def render(run: Run, random_weights: Path) -> Run:
    """Run `spectromer render` in this process, with a small model."""
    return partial(run, "render", "--model", random_weights)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_spec(tmp_path / "spec-0266-51602-0001.fits", made(3000))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(emission_galaxy(0.1), Grid())


# --- the command ----------------------------------------------------------------------------


def test_the_png_is_what_the_model_sees(render: Run, spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "images"
    result = render(spec, "-o", out)
    assert result.code == 0, result.err
    assert result.out == f"{out}/spec-0266-51602-0001.tiles.png\n"
    assert result.err == ""
    pixels = np.round(imread(result.out.strip())[..., :3] * 255)
    assert pixels.shape == (TOKENS * 16 * 4, TOKENS * 16 * 4, 3)
    image = plotting.render_one("tiles", prepare(read(spec)[0], Grid()), Grid(), TOKENS)
    seen = np.round(np.clip(image / 2 + 0.5, 0, 1) * 255).transpose(1, 2, 0)
    for y, x in ((0, 0), (1, 2), (3, 3)):  # enlarged four times, not smoothed
        assert np.array_equal(pixels[y::4, x::4], seen)


@pytest.mark.parametrize("name", images.IMAGES)
def test_every_image_by_name(render: Run, spec: Path, tmp_path: Path, name: str) -> None:
    result = render(spec, "--image", name, "-o", tmp_path)
    assert result.code == 0, result.err
    assert result.names == [f"spec-0266-51602-0001.{name}.png"]
    assert imread(result.out.strip()).std() > 0.01


def test_help_names_every_image(render: Run) -> None:
    words = render("--help").out.replace(",", " ").split()
    assert set(images.IMAGES) <= {word.rstrip(".;") for word in words}


def test_gallery_is_one_sheet(render: Run, spec: Path, tmp_path: Path) -> None:
    result = render(spec, "--gallery", "-o", tmp_path)
    assert result.code == 0, result.err
    assert result.names == ["spec-0266-51602-0001.gallery.png"]
    height, width, _ = imread(result.out.strip()).shape
    assert width == 2200
    assert height > 1500


def test_spectra_of_one_file_have_numbers(render: Run, tmp_path: Path) -> None:
    plate = write_spplate(
        tmp_path / "spPlate-0266-51602.fits", [made(3000, seed) for seed in range(3)]
    )
    result = render(plate, "-o", tmp_path / "all")
    assert result.names == [f"spPlate-0266-51602.{row}.tiles.png" for row in range(3)]
    one = render(f"{plate}[1]", "-o", tmp_path / "one")
    assert one.names == ["spPlate-0266-51602.1.tiles.png"]
    pictures = [(tmp_path / "all" / name).read_bytes() for name in result.names]
    assert len(set(pictures)) == 3
    assert Path(one.out.strip()).read_bytes() == pictures[1]


def test_inputs_of_the_same_name_do_not_overwrite_each_other(render: Run, tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / f"night{number}"
        folder.mkdir()
        write_spec(folder / ("Spec.fits" if number == 2 else "spec.fits"), made(3000, number))
    result = render(*(tmp_path / f"night{number}" for number in range(3)), "-o", tmp_path / "out")
    assert result.code == 0
    assert result.names == ["spec.tiles.png", "spec-2.tiles.png", "Spec-3.tiles.png"]
    assert "spec-2" in result.err
    assert len({path.read_bytes() for path in (tmp_path / "out").iterdir()}) == 3


def test_names_of_what_is_written() -> None:
    assert output_stem("night/spec.fits") == "spec"
    assert output_stem(Path("spec-55859.v2.fits.gz"), 0) == "spec-55859.v2"
    assert output_stem("coadd.FITS.FZ", 12, of_many=True) == "coadd.12"
    assert output_stem("coadd.fits", 0, of_many=True) == "coadd.0"
    taken: set[str] = set()
    names = [unique(name, taken) for name in ("a.1", "A.1", "b", "a.1", "a.1-2")]
    assert names == ["a.1", "A.1-2", "b", "a.1-3", "a.1-2-2"]


def test_spectra_of_a_catalogue(render: Run, tmp_path: Path) -> None:
    write_spec(tmp_path / "a.fits", made(3000))
    write_spplate(tmp_path / "plate.fits", [made(3000, seed) for seed in range(3)])
    catalogue = tmp_path / "targets.csv"
    catalogue.write_text("file,row\nplate.fits,2\na.fits,\ngone.fits,\n")
    result = render("--catalog", catalogue, "-o", tmp_path / "out")
    assert result.code == 3
    assert result.names == ["plate.2.tiles.png", "a.tiles.png"]
    assert "gone.fits" in result.err
    both = render(tmp_path / "a.fits", "--catalog", catalogue, "-o", tmp_path / "none")
    assert both.code == 2
    assert not (tmp_path / "none").exists()


def test_a_second_run_replaces_the_first(render: Run, spec: Path, tmp_path: Path) -> None:
    names = [render(spec, "-o", tmp_path / "out").names for _ in range(2)]
    assert names[0] == names[1]
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_folder_is_not_named_like_a_file(render: Run, spec: Path, tmp_path: Path) -> None:
    result = render(spec, "-o", tmp_path / "image.png")
    assert result.code == 2 and "a folder is written here" in result.err
    assert not (tmp_path / "image.png").exists()


def test_bad_inputs_are_named_and_the_others_drawn(render: Run, spec: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.fits"
    empty.touch()
    masked = made(3000)
    masked.ivar[:] = 0.0
    bad = write_spec(tmp_path / "masked.fits", masked)
    result = render(empty, tmp_path / "missing.fits", bad, spec, "-o", tmp_path / "out")
    assert result.code == 3
    assert result.names == [f"{spec.stem}.tiles.png"]
    for path in (empty, tmp_path / "missing.fits", bad):
        assert sum(str(path) in line for line in result.err.splitlines()) == 1
    assert "3 of 4" in result.err
    assert "Traceback" not in result.err
    assert len(list((tmp_path / "out").iterdir())) == 1  # and no half file


def test_a_row_that_is_not_there(render: Run, spec: Path, tmp_path: Path) -> None:
    result = render(f"{spec}[7]", "-o", tmp_path)
    assert result.code == 3
    assert "no number 7" in result.err


def test_other_files_in_a_folder_are_passed_over(render: Run, spec: Path, tmp_path: Path) -> None:
    from astropy.io import fits

    folder = tmp_path / "mixed"
    folder.mkdir()
    fits.PrimaryHDU(np.ones((50, 40))).writeto(folder / "galaxy-image.fits")
    alone = render(folder, "-o", tmp_path / "out")
    assert alone.code == 3
    assert "none of the files" in alone.err
    spec.rename(folder / spec.name)
    both = render(folder, "-o", tmp_path / "out")
    assert both.code == 0, both.err
    assert both.names == [f"{spec.stem}.tiles.png"]


def test_wrong_words_are_refused_before_any_work(render: Run, spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    typo = render(spec, "--image", "tilse", "-o", out)
    assert typo.code == 2
    assert "tiles" in typo.err
    assert render(spec, "--image", "line", "--gallery", "-o", out).code == 2
    assert render("-o", out).code == 2
    assert not out.exists()


def test_an_output_that_is_no_folder(
    render: Run, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (spec, spec / "below"):
        result = render(spec, "-o", place)
        assert result.code == 2
        assert str(place) in result.err
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and path == tmp_path))
    locked = render(spec, "-o", tmp_path)
    assert locked.code == 2
    assert f"{tmp_path} cannot be written" in locked.err
    assert not list(tmp_path.glob("*.png"))


def test_a_full_disk_is_told(
    render: Run, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plotting, "save_image_png", full)
    result = render(spec, "-o", tmp_path)
    assert result.code == 1
    assert f"{spec.stem}.tiles.png cannot be written: the disk is full" in result.err


def test_real_files(render: Run, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "fits"
    files = (
        sorted((folder / "sdss").glob("*.fits"))[:2] + sorted((folder / "lamost").glob("*.gz"))[:1]
    )
    result = render(*files, "-o", tmp_path)
    assert result.code == 0, result.err
    assert result.names == [f"{path.name.split('.fits')[0]}.tiles.png" for path in files]


# --- figures --------------------------------------------------------------------------------


def test_pixels_of_a_png(tmp_path: Path) -> None:
    image = np.zeros((3, 2, 1), dtype=np.float32)
    image[:, 0, 0] = -1.0, 1.0, -2.5
    image[:, 1, 0] = 0.0, 0.5, 9.0
    path = tmp_path / "a.png"
    plotting.save_image_png(image, path, scale=3)
    pixels = np.round(imread(path)[..., :3] * 255).astype(int)
    assert pixels.shape == (6, 3, 3)
    assert (pixels[:3] == [0, 255, 0]).all()
    assert (pixels[3:] == [128, 191, 255]).all()
    with pytest.raises(UsageError):
        plotting.save_image_png(image, tmp_path / "none" / "a.png")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("tokens", "count"), [(7, 8), (14, 5)])
def test_gallery_texts_do_not_overlap(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tokens: int, count: int
) -> None:
    some = dict(list(images.IMAGES.items())[:count])
    monkeypatch.setattr(plotting, "IMAGES", some)
    sheet = plotting.gallery(prepared, Grid(), tokens, "spec_$with_a-long-name-" * 20 + ".fits")
    assert [axes.get_title() for axes in sheet.axes[1:]] == list(some)
    assert texts_that_overlap(sheet) == []


def test_gallery_marks_the_wavelengths_that_are_shown(prepared: Prepared) -> None:
    sheet = plotting.gallery(prepared, Grid(), 7, "made")
    axes = {a.get_title(): a for a in sheet.axes[1:]}
    wavelength = Grid().wavelength

    def labels(axis: object) -> list[str]:
        return [tick.get_text() for tick in axis.get_ticklabels()]

    tiles = images.get_image("tiles").samples(Grid(), 7).reshape(7, 7, -1).any(axis=1)
    first = [f"{wavelength[row][0]:.0f}" for row in tiles]
    assert labels(axes["tiles"].yaxis) == first
    assert first[0] == "3597"
    (right,) = axes["tiles"].child_axes
    assert labels(right.yaxis)[-1] == "10392"
    assert labels(axes["line"].xaxis)[0] == "3597"
    assert labels(axes["line"].xaxis)[-1] == "10392"
    assert labels(axes["overlap"].xaxis)[-1].split("\n") == [
        f"{wavelength[last]:.0f}" for last in (1535, 3071, 4607)
    ]
    spectrum = sheet.axes[0]
    assert spectrum.get_xlim() == pytest.approx((wavelength[0], wavelength[-1]), abs=2)
    line = next(line for line in spectrum.lines if len(line.get_xdata()) == Grid().n)
    good = prepared.ivar > 0
    assert np.array_equal(np.isnan(line.get_ydata()), ~good)
    assert np.allclose(np.asarray(line.get_ydata())[good], prepared.flux[good])
