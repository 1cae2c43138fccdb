"""`spectromer report` and `plot`: what they write, and what the page does in a browser."""

import csv
import json
import re
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table, vstack
from conftest import EXAMPLES, emission_galaxy
from survey_files import made, write_spec, write_spplate

from spectromer_cli.inspector.packing import pack_spectrum, pack_templates
from spectromer_cli.model.template_fit import template_curve
from spectromer_cli.outputs.naming import output_stem
from spectromer_cli.spectra.grid import Grid, prepare
from spectromer_cli.spectra.lines import lines_for
from spectromer_cli.spectra.spectrum import Spectrum
from spectromer_cli.weights.store import load_templates, resolve

NAMES = ("simulated-boss-quasar", "simulated-sdss-galaxy", "simulated-sdss-star")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three spectra, one of an evil name, and their results."""
    from spectromer_cli.inference.predictor import load_model
    from spectromer_cli.spectra.readers import read

    folder = tmp_path_factory.mktemp("report")
    files = [folder / f"{name}.fits" for name in NAMES]
    files[2] = folder / "<script>alert(1)<\\script>.fits"
    for name, file in zip(NAMES, files, strict=True):
        shutil.copy(EXAMPLES / f"{name}.fits", file)
    model = load_model(device="cpu")
    table = model.predict([read(file)[0] for file in files])
    table["file"] = [file.name for file in files]
    table["row"] = 0
    table.write(folder / "z.ecsv", format="ascii.ecsv")
    return folder


def data_of(page: Path) -> dict[str, Any]:
    """What a page knows, but for the spectra."""
    found = re.search(r'<script type="application/json" id="data">(.*)</script>', page.read_text())
    return json.loads(found[1])


def page_of(run, answers: Path) -> Path:
    page = answers / "report.html"
    result = run("report", answers / "z.ecsv", "-o", page)
    assert result.code == 0, result.err
    return page


def test_the_page_stands_alone_and_quotes_what_it_shows(run, answers) -> None:
    text = page_of(run, answers).read_text()
    assert "<script>alert" not in text
    assert ' src="http' not in text and ' href="http' not in text
    assert "default-src 'none'" in text  # the browser is told to fetch nothing
    assert "connect-src 'none'" in text and "unsafe-inline'; img" in text
    assert re.search(r"script-src 'sha256-\S+' 'sha256-\S+';", text)  # and to run no other script


def test_a_missing_spectrum_keeps_its_row(run, answers, tmp_path) -> None:
    table = Table.read(answers / "z.ecsv")
    table["file"] = [str(answers / name) for name in table["file"]]
    table["file"][1] = "gone.fits"
    table.write(tmp_path / "z.ecsv")
    result = run("report", tmp_path / "z.ecsv", "-o", tmp_path / "r.html")
    assert result.code == 3
    assert "gone.fits" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("limit", ["ROWS_PER_PAGE", "BYTES_PER_PAGE"])
def test_many_rows_are_paged(run, answers, tmp_path, monkeypatch, limit: str) -> None:
    """By their number, and by what their spectra weigh."""
    table = Table.read(answers / "z.ecsv")
    table["file"] = [str(answers / name) for name in table["file"]]
    table = vstack([table] * 4)
    table.write(tmp_path / "many.ecsv")  # 12
    whole = run("report", tmp_path / "many.ecsv", "-o", tmp_path / "r.html", "-q")
    assert whole.names == ["r.html"]
    text = (tmp_path / "r.html").read_text()
    weight = sum(len(found[1]) for found in re.finditer(r'id="spectrum-\d+">(.*)</script>', text))
    most = {"ROWS_PER_PAGE": 5, "BYTES_PER_PAGE": 2 * weight // 5}[limit]
    monkeypatch.setattr(f"spectromer_cli.inspector.build.{limit}", most)
    result = run("report", tmp_path / "many.ecsv", "-o", tmp_path / "r.html", "-q")
    assert result.code == 0, result.err
    names = [f"r{number}.html" for number in ("", "-2", "-3")]
    assert result.names == names
    files = []
    for name in names:
        text = (tmp_path / name).read_text()
        assert all(f'href="./{other}"' in text for other in names if other != name)
        files += [row["file"] for row in data_of(tmp_path / name)["rows"]]
        found = re.findall(r'id="spectrum-(\d+)"', text)
        assert found == [str(number) for number in range(len(data_of(tmp_path / name)["rows"]))]
    assert files == list(table["file"])


def test_no_page_may_be_an_input(run, answers, tmp_path) -> None:
    """That of the second page too, before any work."""
    table = Table.read(answers / "z.ecsv")
    table["file"] = [str(answers / name) for name in table["file"]]
    shutil.copy(answers / f"{NAMES[0]}.fits", tmp_path / "r-2.html")
    table["file"][0] = str(tmp_path / "r-2.html")
    table.write(tmp_path / "z.ecsv")
    result = run("report", tmp_path / "z.ecsv", "-o", tmp_path / "r.html")
    assert result.code == 2
    assert "r-2.html is an input" in result.err
    assert not (tmp_path / "r.html").exists()


def test_spectra_elsewhere(run, weights, tmp_path) -> None:
    """By name, also without the folders in it; files of one name in two folders stay apart."""
    for folder in ("far/night1", "far/night2"):
        (tmp_path / folder).mkdir(parents=True)
        write_spec(tmp_path / folder / "spec.fits", made(3000))
    write_spec(tmp_path / "far" / "spec.fits", made(3000))
    write_spec(tmp_path / "far" / "moved.fits", made(3000))
    names = ["night1/spec.fits", "night2/spec.fits", "night3/spec.fits", "/gone/moved.fits"]
    Table({"file": names, "row": [0] * 4, "z": [0.5] * 4}).write(tmp_path / "z.csv")
    page = tmp_path / "r.html"
    result = run("report", tmp_path / "z.csv", "--spectra-dir", tmp_path / "far", "-o", page)
    assert result.code == 3
    assert "1 of 4 rows" in result.err
    assert [bool(problem) for problem in data_of(page)["problems"]] == [False, False, True, False]
    none = run("report", tmp_path / "z.csv", "--spectra-dir", tmp_path / "none", "-o", page)
    assert none.code == 2
    assert f"--spectra-dir {tmp_path / 'none'} is not a directory" in none.err


def test_json_lines_are_results_too(run, weights, tmp_path) -> None:
    write_spec(tmp_path / "a.fits", made(3000))
    lines = [{"file": "a.fits", "row": 0, "z": None, "id": 2**60 + 1}, {"file": None, "row": 0}]
    (tmp_path / "z.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    page = tmp_path / "r.html"
    result = run("report", tmp_path / "z.jsonl", "-o", page, *weights[:2])
    assert result.code == 3
    data = data_of(page)
    assert data["rows"][0]["id"] == str(2**60 + 1) and data["rows"][0]["z"] is None
    assert [bool(problem) for problem in data["problems"]] == [False, True]
    assert "has no file" in data["problems"][1]


@pytest.mark.parametrize("text", ["not a table", ""])
def test_results_that_are_none(run, tmp_path, text: str) -> None:
    (tmp_path / "z.ecsv").write_text(text)
    result = run("report", tmp_path / "z.ecsv", "-o", tmp_path / "r.html")
    assert result.code in (1, 2)
    assert "z.ecsv" in result.err and "Traceback" not in result.err
    assert not (tmp_path / "r.html").exists()


def test_a_full_disk_is_told(run, answers, tmp_path, monkeypatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if "w" in mode:
            raise OSError(28, "No space left on device")
        return opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    result = run("report", answers / "z.ecsv", "-o", tmp_path / "r.html")
    assert result.code == 1
    assert f"{tmp_path / 'r.html'} cannot be written: the disk is full" in result.err


# --- a catalogue instead of results ---------------------------------------------------------


def test_a_catalogue_is_shown_with_its_own_class_and_redshift(run, weights, tmp_path) -> None:
    for number in range(3):
        write_spec(tmp_path / f"{number}.fits", made(3000, number))
    catalogue = Table({"FILE": [f"{number}.fits" for number in range(3)]})
    catalogue["SPECTYPE"] = ["galaxy", "QSO", "Nova"]
    catalogue["Z"] = [0.25, 1.5, -9999.0]
    catalogue["ZWARNING"] = [0, 4, 0]
    catalogue["z_alt1"] = ["?", "?", "?"]
    catalogue["mag"] = [17.5, 18.5, np.nan]
    catalogue.write(tmp_path / "targets.fits")
    page = tmp_path / "r.html"
    result = run("report", "--catalog", tmp_path / "targets.fits", "-o", page, *weights[:2])
    assert result.code == 0, result.err
    data = data_of(page)
    shown = [{name: row[name] for name in ("file", "class", "z", "zwarn")} for row in data["rows"]]
    assert shown == [
        {"file": "0.fits", "class": "GALAXY", "z": 0.25, "zwarn": 0},
        {"file": "1.fits", "class": "QSO", "z": 1.5, "zwarn": 4},
        {"file": "2.fits", "class": "Nova", "z": None, "zwarn": 0},
    ]
    assert [row["mag"] for row in data["rows"]] == [17.5, 18.5, None]
    assert data["rows"][0]["SPECTYPE"] == "galaxy"  # the catalogue's own columns stay
    assert data["rows"][0]["z_alt1"] is None  # the page calculates with it
    assert data["rows"][0]["sn_median"] > 5  # of the spectrum
    assert data["zwarn"] == {}  # other bits than ours


def test_columns_beside_results_are_not_the_predictions(run, weights, tmp_path) -> None:
    write_spec(tmp_path / "a.fits", made(3000))
    Table({"file": ["a.fits"], "row": [0], "survey_z": [0.5]}).write(tmp_path / "classes.csv")
    page = tmp_path / "r.html"
    assert run("report", tmp_path / "classes.csv", "-o", page, *weights[:2]).code == 0
    assert "z" not in data_of(page)["rows"][0]


def test_a_file_of_many_has_a_row_for_each(run, weights, tmp_path) -> None:
    write_spplate(tmp_path / "many.fits", [made(3000, seed) for seed in range(3)])
    write_spec(tmp_path / "one.fits", made(3000))
    Table({"file": ["many.fits", "one.fits", "gone.fits"]}).write(tmp_path / "t.csv")
    page = tmp_path / "r.html"
    result = run("report", "--catalog", tmp_path / "t.csv", "-o", page, *weights[:2])
    assert result.code == 3
    data = data_of(page)
    assert [(row["file"], row["row"]) for row in data["rows"]] == [
        *(("many.fits", number) for number in range(3)), ("one.fits", 0), ("gone.fits", 0),
    ]  # fmt: skip
    assert [bool(problem) for problem in data["problems"]] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give either RESULTS or --catalog"),
        (("z.csv", "--catalog", "z.csv"), "give either RESULTS or --catalog"),
        (("z.csv", "--wavelength-unit", "furlong"), "furlong"),
        (("z.csv", "--spectra", "."), "No such option"),
    ],
)
def test_options_that_make_no_sense(run, tmp_path, options, says: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("z.csv").write_text("file,row\na.fits,0\n")
    result = run("report", "-q", *options)
    assert result.code == 2
    assert says in result.err
    assert not Path("report.html").exists()


# --- importance -----------------------------------------------------------------------------


def write_importance(path: Path, peak: float, **meta: object) -> None:
    """As `explain` writes it, with one peak."""
    wavelength = np.linspace(3700.0, 7000.0, 500)
    table = Table({"wavelength": wavelength, "importance": np.zeros(500)}, meta=meta)
    table["importance"][np.abs(wavelength - peak).argmin()] = 1.0
    path.parent.mkdir(exist_ok=True)
    table.write(path, format="ascii.ecsv")


def peaks(page: Path) -> list[int | None]:
    """Where the importance of each row is strongest, Å; None where it has none."""
    found = []
    for number in range(len(data_of(page)["rows"])):
        packed = re.search(rf'id="spectrum-{number}">(.*)</script>', page.read_text())
        band = json.loads(packed[1]).get("importance")
        if band is not None:
            strongest = np.abs(np.frombuffer(b64decode(band["data"]), "i1").astype(int)).argmax()
            band = 10.0 ** (band["first"] + band["step"] * (strongest + 0.5))
        found.append(band and round(band, -2))
    return found


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of a file of two spectra, of two files of one name, and of another."""
    write_spplate(tmp_path / "spPlate.fits", [made(3000, seed) for seed in range(2)])
    for folder in ("night1", "night2"):
        (tmp_path / folder).mkdir()
        write_spec(tmp_path / folder / "spec.fits", made(3000))
    write_spec(tmp_path / "other.fits", made(3000))
    names = ["spPlate.fits", "spPlate.fits", "night1/spec.fits", "night2/spec.fits", "other.fits"]
    Table({"file": names, "row": [0, 1, 0, 0, 0]}).write(tmp_path / "z.csv")
    return tmp_path / "z.csv"


def test_importance_is_found_by_the_names_that_explain_gives(
    run, weights, results, tmp_path
) -> None:
    folder, page = tmp_path / "why", tmp_path / "r.html"
    write_importance(folder / "spPlate.1.ecsv", 4000.0, file=str(tmp_path / "spPlate.fits"), row=1)
    write_importance(folder / "spec.ecsv", 5000.0, file=str(tmp_path / "night2" / "spec.fits"))
    write_importance(folder / "spec-2.ecsv", 6000.0, file=str(tmp_path / "night1" / "spec.fits"))
    options = ("report", results, "--importance", folder, "-o", page, *weights[:2])
    result = run(*options)
    assert result.code == 0, result.err
    assert peaks(page) == [None, 4000, 6000, 5000, None]
    assert "3 of 5 rows have an importance map" in result.err
    # The files moved: the names of their folders tell them apart.
    write_importance(folder / "other.ecsv", 4500.0)  # one that says nothing of itself
    write_importance(folder / "spPlate.ecsv", 6500.0, file=str(tmp_path / "spPlate.fits"), row=1)
    for number, night in ((1, "night2"), (2, "night1")):
        path = folder / ("spec.ecsv" if number == 1 else "spec-2.ecsv")
        path.write_text(path.read_text().replace(str(tmp_path), "/gone"))
        assert f"/gone/{night}/spec.fits" in path.read_text()
    assert run(*options).code == 0
    assert peaks(page) == [None, 4000, 6000, 5000, 4500]


def test_what_explain_writes_is_shown(run, tmp_path) -> None:
    file, page = EXAMPLES / f"{NAMES[1]}.fits", tmp_path / "r.html"
    numbers = tmp_path / f"{output_stem(file)}.ecsv"
    assert run("explain", file, "-o", numbers).code == 0
    Table({"file": [str(file)], "row": [0]}).write(tmp_path / "z.csv")
    result = run("report", tmp_path / "z.csv", "--importance", tmp_path, "-o", page)
    assert result.code == 0, result.err
    (peak,) = peaks(page)
    table = Table.read(numbers)
    assert abs(peak - table["wavelength"][np.abs(table["importance"]).argmax()]) < 60


@pytest.mark.parametrize("name", ["spPlate-1.ecsv", "nothing.ecsv", "other.ecsv"])
def test_importance_of_no_row_is_an_error(run, weights, results, tmp_path, name: str) -> None:
    """Other names, another file's, and a table without the column: each is told before work."""
    page, path = tmp_path / "r.html", tmp_path / "why" / name
    write_importance(path, 5000.0)
    if name == "other.ecsv":
        path.write_text(path.read_text().replace("importance", "weight"))
    result = run("report", results, "--importance", path.parent, "-o", page, *weights[:2])
    assert result.code == 2
    assert f"--importance {path.parent} has no importance map for any of the 5 rows" in result.err
    assert not page.exists()


def test_one_file_of_importance_is_for_one_row(run, weights, results, tmp_path) -> None:
    write_importance(tmp_path / "why.ecsv", 5000.0)
    options = ("--importance", tmp_path / "why.ecsv", "-o", tmp_path / "r.html", *weights[:2])
    several = run("report", results, *options)
    assert several.code == 2
    assert "there are 5 rows" in several.err
    Table({"file": ["other.fits"], "row": [0]}).write(tmp_path / "one.csv")
    assert run("report", tmp_path / "one.csv", *options).code == 0
    assert peaks(tmp_path / "r.html") == [5000]
    missing = run("report", results, "--importance", tmp_path / "none")
    assert missing.code == 2


# --- plot -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_plots(run, tmp_path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"look{suffix}"
    result = run("plot", EXAMPLES / f"{NAMES[0]}.fits", "--smooth", "2", "-o", path)
    assert result.code == 0, result.err
    assert path.read_bytes().startswith(start)


def test_a_plot_in_the_terminal(run, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    result = run("plot", EXAMPLES / f"{NAMES[1]}.fits", "--term")
    assert result.code == 0, result.err
    assert "\x1b[" not in result.out
    assert len(result.out.splitlines()) > 5


def test_a_broken_file_among_plots(run, tmp_path) -> None:
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE  =")
    result = run("plot", broken, EXAMPLES / f"{NAMES[1]}.fits", "-o", tmp_path / "looks")
    assert result.code == 3
    assert "broken.fits" in result.err
    assert [path.name for path in (tmp_path / "looks").iterdir()] == [f"{NAMES[1]}.png"]


def test_several_spectra_for_one_figure_are_refused_before_work(run, tmp_path, monkeypatch) -> None:
    def load(*_: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("spectromer_cli.inference.predictor.load_model", load)
    path = tmp_path / "look.png"
    several = [
        ("plot", EXAMPLES / f"{NAMES[0]}.fits", EXAMPLES / f"{NAMES[1]}.fits"),
        ("plot", f"{EXAMPLES}/*-sdss-*.fits"),
        ("plot", "--catalog", EXAMPLES / "targets.csv"),
    ]
    for command in several:
        result = run(*command, "-o", path)
        assert result.code == 2
        assert f"{path} holds one figure, but several spectra are given" in result.err
        assert not path.exists()


def test_a_file_of_many_is_no_single_figure(run, tmp_path) -> None:
    plate = write_spplate(tmp_path / "spPlate.fits", [made(3000, seed) for seed in range(2)])
    path = tmp_path / "look.svg"
    result = run("plot", plate, "--no-lines", "-o", path)
    assert result.code == 2
    assert "there are more spectra" in result.err
    assert not path.exists()
    assert run("plot", f"{plate}[1]", "--no-lines", "-o", path).code == 0
    # A folder may hold other files: it is seen when they are read.
    (tmp_path / "night").mkdir()
    write_spec(tmp_path / "night" / "spec.fits", made(3000))
    (tmp_path / "night" / "notes.txt").write_text("cloudy")
    assert run("plot", tmp_path / "night", "--no-lines", "-o", path).code == 0


def test_plots_of_a_catalogue(run, tmp_path) -> None:
    names = "file,row\nplate.fits,1\nspec.fits.gz,\nplate.fits,1\n"
    (tmp_path / "targets.csv").write_text(names)
    write_spplate(tmp_path / "plate.fits", [made(3000, seed) for seed in range(2)])
    write_spec(tmp_path / "spec.fits.gz", made(3000))
    out = tmp_path / "looks"
    result = run("plot", "--catalog", tmp_path / "targets.csv", "--no-lines", "-o", out)
    assert result.code == 0, result.err
    assert result.names == ["plate.1.png", "spec.png", "plate.1-2.png"]
    clash = run("plot", tmp_path / "plate.fits", "--catalog", tmp_path / "targets.csv", "-o", out)
    assert clash.code == 2


# --- the page in a browser ------------------------------------------------------------------


def test_the_page_in_a_browser(run, answers, browser, tmp_path) -> None:
    path = page_of(run, answers)
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#rows tr")
    assert page.locator("#rows tr").count() == 3
    # Sorted by z, the quasar is last, then first.
    header = page.locator("#columns th", has_text="z").first
    header.click()
    assert "QSO" in page.locator("#rows tr").last.inner_text()
    header.click()
    assert "QSO" in page.locator("#rows tr").first.inner_text()
    # Filtered, it is alone.
    page.fill("#filter", "z>1")
    assert page.locator("#rows tr:visible").count() == 1
    page.locator("#rows tr:visible").click()
    assert float(page.input_value("#z")) == pytest.approx(2.23, abs=0.02)
    # Lines lie at λ₀ (1 + z), wherever z is slid.
    page.fill("#z", "2.0")
    page.press("#z", "Enter")
    places = page.evaluate(
        "() => Object.fromEntries(['emission', 'absorption'].flatMap(kind => {"
        "  const { name, x } = Bokeh.documents[0].get_model_by_name(kind).data;"
        "  return name.map((each, i) => [each, x[i]]);"
        "}))"
    )
    first, last = page.evaluate(
        "() => { const { start, end } = Bokeh.documents[0].get_model_by_name('observed');"
        " return [start, end]; }"
    )
    expected = {line.name: 3.0 * line.wavelength for line in lines_for("QSO")}
    assert places == pytest.approx({n: x for n, x in expected.items() if first < x < last})
    assert places["C IV 1549"] == pytest.approx(4648.44)
    # A verdict is recorded and exported.
    page.locator("#qualities button").nth(4).click()
    page.fill("#comment", 'clear, "C IV"')
    page.press("#comment", "Enter")
    assert "quality 4" in page.inner_text("#recorded")
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "verdicts.csv")
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").open(newline="")))
    assert len(rows) == 1
    assert rows[0]["vi_quality"] == "4"
    assert float(rows[0]["vi_z"]) == pytest.approx(2.0)
    assert rows[0]["vi_comment"] == 'clear, "C IV"'
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    context.close()


@pytest.fixture
def page(browser, run, answers):
    """The page of the results, open."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(page_of(run, answers).as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    context.close()


def test_the_page_fits_templates_as_the_program_does(page) -> None:
    grid, z = Grid(), 0.1
    basis = load_templates(resolve())["GALAXY"]
    prepared = prepare(emission_galaxy(z, sn=300.0), grid)
    # The program fits pixels that count at all shifts that it tries, the page those at this one.
    pixels = basis.loglam0 + grid.dloglam * np.flatnonzero(basis.learned)
    margin = np.log10(1.0 + z) + 0.006 * np.array([1, -1])
    first, last = pixels[[0, -1]] + margin
    prepared.ivar[(grid.loglam < first) | (grid.loglam > last)] = 0.0
    curve, model = template_curve(prepared, basis, grid, float(np.log1p(z)))
    at_z, chi2 = curve[len(curve) // 2]
    packed = pack_spectrum(Spectrum(grid.wavelength, prepared.flux, prepared.ivar))
    packed_basis = pack_templates({"GALAXY": basis}, grid.dloglam)["GALAXY"]
    fit = page.evaluate(
        "async ([spectrum, basis, z]) => {"
        " const fit = fitTemplates(await unpackSpectrum(spectrum), unpackTemplates(basis), z);"
        " return { chi2: fit.chi2, model: Array.from(fit.model) }; }",
        [packed, packed_basis, at_z],
    )
    assert fit["chi2"] == pytest.approx(chi2, rel=1e-3)
    good = (prepared.ivar > 0) & np.isfinite(model)
    shown = np.array(fit["model"], dtype=float)
    assert np.abs(shown * packed["level"] - model)[good].max() < 0.005


def test_importance_is_blue_where_it_speaks_for_the_prediction(
    run, answers, browser, tmp_path
) -> None:
    from spectromer_cli.spectra.drawing import DARK, LIGHT

    wavelength = np.linspace(3600.0, 10400.0, 4000)
    importance = np.where(wavelength < 7000.0, 1.0, -1.0)
    table = Table({"wavelength": wavelength, "importance": importance})
    for file in Table.read(answers / "z.ecsv")["file"]:
        table.write(tmp_path / f"{Path(file).stem}.ecsv")
    path = answers / "importance.html"
    result = run("report", answers / "z.ecsv", "--importance", tmp_path, "-o", path)
    assert result.code == 0, result.err
    for scheme, theme in (("light", LIGHT), ("dark", DARK)):
        page = browser.new_page(color_scheme=scheme)
        page.goto(path.as_uri())
        page.wait_for_selector("[data-ready=yes]")
        band = page.evaluate("() => view.model('importance').data")
        colours = [colour.upper() for colour in band["colour"]]
        for left, right, colour in zip(band["left"], band["right"], colours, strict=True):
            if right < 6900.0:
                assert colour == f"{theme.supporting}FE".upper()
            elif left > 7100.0:
                assert colour == f"{theme.opposing}FE".upper()
        page.close()


def test_the_page_marks_the_lines_of_the_type(run, answers, browser, tmp_path) -> None:
    table = Table.read(answers / "z.ecsv")[2:]
    table["file"] = [str(answers / table["file"][0])]
    for class_, kind, shown, not_shown in (
        ("STAR", "G2", "Mg b1 5184", "TiO 7053"),
        ("STAR", "M5", "TiO 7053", "Hδ"),
        ("GALAXY", "PASSIVE", "Mg b", "Hα"),
        ("GALAXY", "", "Hα", "He II 4686"),
    ):
        table["star_type"] = kind if class_ == "STAR" else ""
        table["subclass"] = kind
        table["class"] = class_
        table.write(tmp_path / "z.ecsv", overwrite=True)
        path = tmp_path / "report.html"
        assert run("report", tmp_path / "z.ecsv", "-o", path).code == 0
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector("[data-ready=yes]")
        names = page.evaluate("() => view.lines.map((line) => line.name)")
        assert shown in names and not_shown not in names
        page.close()
