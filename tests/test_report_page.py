"""`spectromer report` and `plot`: what they write, and what the page does in a browser."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table, vstack
from conftest import EXAMPLES

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


def test_a_missing_spectrum_keeps_its_row(run, answers, tmp_path) -> None:
    table = Table.read(answers / "z.ecsv")
    table["file"] = [str(answers / name) for name in table["file"]]
    table["file"][1] = "gone.fits"
    table.write(tmp_path / "z.ecsv")
    result = run("report", tmp_path / "z.ecsv", "-o", tmp_path / "r.html")
    assert result.code == 3
    assert "gone.fits" in (tmp_path / "r.html").read_text()


def test_many_rows_are_paged(run, answers, tmp_path) -> None:
    table = Table.read(answers / "z.ecsv")
    table["file"] = [str(answers / name) for name in table["file"]]
    vstack([table] * 168).write(tmp_path / "many.ecsv")  # 504
    result = run("report", tmp_path / "many.ecsv", "-o", tmp_path / "r.html", "-q")
    assert result.code == 0, result.err
    assert {path.name for path in tmp_path.glob("*.html")} == {"r.html", "r-2.html"}
    assert "r-2.html" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("text", ["not a table", ""])
def test_results_that_are_none(run, tmp_path, text: str) -> None:
    (tmp_path / "z.ecsv").write_text(text)
    result = run("report", tmp_path / "z.ecsv", "-o", tmp_path / "r.html")
    assert result.code in (1, 2)
    assert "z.ecsv" in result.err and "Traceback" not in result.err
    assert not (tmp_path / "r.html").exists()


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


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where playwright and a browser are installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


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
        "() => Bokeh.documents[0].roots().flatMap(root => [...root.references()])"
        ".filter(model => model.type === 'ColumnDataSource').map(model => model.data)"
        ".flatMap(data => Object.values(data).filter(Array.isArray).flat())"
        ".concat(Bokeh.documents[0].roots().flatMap(root => [...root.references()])"
        ".filter(model => model.type === 'Span').map(model => model.location))"
        ".filter(value => typeof value === 'number')"
    )
    assert any(abs(value - 1549.48 * 3.0) < 0.5 for value in places)
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


def test_importance_is_blue_where_it_speaks_for_the_prediction(
    run, answers, browser, tmp_path
) -> None:
    from spectromer_cli.outputs.plotting import DARK, LIGHT

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


def test_the_page_marks_the_lines_of_a_stars_type(run, answers, browser, tmp_path) -> None:
    table = Table.read(answers / "z.ecsv")[2:]
    table["file"] = [str(answers / table["file"][0])]
    for star_type, shown, not_shown in (("G2", "Mg b1 5184", "TiO 7053"), ("M5", "TiO 7053", "Hδ")):
        table["star_type"] = star_type
        table["class"] = "STAR"
        table.write(tmp_path / "z.ecsv", overwrite=True)
        path = tmp_path / "report.html"
        assert run("report", tmp_path / "z.ecsv", "-o", path).code == 0
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector("[data-ready=yes]")
        names = page.evaluate("() => view.lines.map((line) => line.name)")
        assert shown in names and not_shown not in names
        page.close()
