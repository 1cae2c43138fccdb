"""`spectromer inspect`: the page as a team uses it, its server, its verdicts, and their merging."""

import csv
import http.client
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from astropy.table import Table
from conftest import emission_galaxy
from survey_files import Made, made, write_spec, write_spplate

from spectromer_cli.inspector.merge import conflicts_of, merge, read_verdicts
from spectromer_cli.inspector.verdicts import Refused, Verdicts, verdicts_beside

WAIT = 120_000  # ms; a machine that tests may have much else to do
HA, OIII = 6564.61, 5008.24

# Names as nobody should give them; each would do something somewhere.
HOSTILE = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=2</script>",
    "<img src=x onerror=window.hit=3>",
    '"><svg onload=window.hit=4>',
    "' onmouseover='window.hit=5",
    "javascript:window.hit=6",
    "${window.hit=7}`+(window.hit=7)+`",
    "{{data}}{{script}}",
    "\u2028window.hit=9\u2029",
    "\u202egnp.evil\u202d",
    "<!--<script>",
    "&lt;script&gt;&#60;b&#62;",
    "__proto__",
    '=HYPERLINK("http://evil.example","x")',
    '\\u003cscript\\u003ewindow.hit=15\\\\";//',
)


def write_galaxies(folder: Path, redshifts: list[float]) -> list[str]:
    """Emission galaxies; their names differ in the middle alone."""
    names = []
    for number, z in enumerate(redshifts):
        spectrum = emission_galaxy(z, seed=number)
        made_ = Made(
            np.log10(spectrum.wavelength), spectrum.flux, spectrum.ivar,
            np.zeros(spectrum.flux.size, dtype=np.int32),
        )  # fmt: skip
        names.append(f"night-1-object-{number:03d}-coadd.fits")
        write_spec(folder / names[-1], made_)
    return names


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of six galaxies, as `redshift` would write them; the fourth is wrong."""
    redshifts = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    table = Table({"file": write_galaxies(tmp_path, redshifts), "row": [0] * 6})
    table["object_id"] = "0266-51602-0031"
    table["survey"] = "SDSS"
    table["class"] = ["GALAXY"] * 4 + ["QSO"] * 2
    table["z"] = [0.05, 0.1, 0.15, 0.02, 0.25, 0.3]
    table["z_prob"] = 0.9
    table["z_alt1"] = 0.4
    table["z_alt1_prob"] = 0.05
    table["zwarn"] = [0, 0, 0, 4, 0, 0]
    table["sn_median"] = [30.0, 20.0, 10.0, 5.0, 3.0, 1.0]
    table.write(tmp_path / "z.ecsv")
    return tmp_path / "z.ecsv"


class Served:
    """`spectromer inspect` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "spectromer_cli", "inspect", *map(str, arguments)]
        # A group of its own, in which Ctrl-C is not ignored as in the background of a shell.
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, self._process.communicate()[1]
        self.path = urlsplit(self.url).path
        self.port = urlsplit(self.url).port

    def ask(
        self, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """The answer to a request; of a path that begins with a slash the token is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(
            method, path if path.startswith("/") else self.path + path, body,
            {name.replace("_", "-"): value for name, value in headers.items()},
        )  # fmt: skip
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def record(self, **verdict: Any) -> tuple[int, Any]:
        status, content, _ = self.ask("verdicts", "POST", json.dumps(verdict))
        return status, json.loads(content)

    def stop(self) -> tuple[int, str]:
        """End it as a user does: the exit code, and what stderr has."""
        self._process.send_signal(signal.SIGINT)
        _, err = self._process.communicate(timeout=60)
        return self._process.returncode, err


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    running: list[Served] = []

    def start(*arguments: object) -> Served:
        running.append(Served(*arguments))
        return running[-1]

    yield start
    for one in running:
        one._process.kill()
        one._process.communicate()


@pytest.fixture
def page_at(browser) -> Iterator[Callable[..., Any]]:
    """Open a page, and see that nothing complains in it."""
    contexts, complaints = [], []

    def open_(url: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**{"accept_downloads": True, **options}))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(url)
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page: Any) -> str:
    """Which spectrum is shown, once it is there: its file, and what else stands in that line."""
    page.wait_for_selector("#view:not(.loading)")
    return str(page.inner_text("#facts"))


def in_csv(text: str) -> str:
    """With escapes for what some readers take for the end of a line."""
    return re.sub("[\u2028\u2029]", lambda found: ascii(found[0])[1:-1], text)


def click_at(page: Any, wavelength: float) -> None:
    """Click on the spectrum at an observed wavelength, Å."""
    x, y = page.evaluate(
        "(wavelength) => {"
        "  const frame = Bokeh.index[Object.keys(Bokeh.index)[0]] ?? [...Bokeh.index.roots][0];"
        "  const box = document.querySelector('#plot').getBoundingClientRect();"
        "  const inner = frame.frame.bbox, { start, end } = view.observed;"
        "  return [box.x + inner.left + (inner.width * (wavelength - start)) / (end - start),"
        "          box.y + inner.top + inner.height / 2];"
        "}",
        wavelength,
    )
    page.mouse.click(x, y)


# --- the page, as a team uses it ------------------------------------------------------------


def test_two_inspectors(serve, results, page_at, run) -> None:
    server = serve(results)
    page = page_at(server.url, viewport={"width": 1440, "height": 900})
    # Nobody's verdict is not taken.
    page.keyboard.press("4")
    assert page.inner_text("#saved") == "Enter your name first."
    page.keyboard.type("Anna")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert "000-coadd.fits" in shown(page)
    # Of the filter, the first match is shown; what it does not understand, it says.
    page.fill("#filter", "z<0.03")
    assert "003-coadd.fits" in shown(page)
    for text, says in (
        ("redshift>1", "there is no column redshift"),
        ("z>abc", "z is a number, abc is not"),
        ("z>", "no value to compare with"),
    ):
        page.fill("#filter", text)
        assert says in page.inner_text("#filter-problem")
        assert page.inner_text("#count") == "1 of 6 spectra"
    page.fill("#filter", '"redshift>1"')
    assert page.inner_text("#filter-problem") == ""
    assert page.inner_text("#count") == "no spectra match the filter (of 6)"
    page.fill("#filter", "class=galaxy")
    assert "000-coadd.fits" in shown(page)
    # Up and down change the row, whatever has the focus, and z is that of the row.
    for number, place in enumerate(("#coarse", "#fine", "#class"), start=1):
        page.focus(place)
        page.keyboard.press("ArrowDown")
        assert f"{number:03d}-coadd.fits" in shown(page)
        assert float(page.input_value("#z")) == (0.05, 0.1, 0.15, 0.02)[number]
        assert page.inner_text("#differs") == ""
    page.focus("#z")
    page.keyboard.press("ArrowUp")
    assert "002-coadd.fits" in shown(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert "003-coadd.fits" in shown(page)
    # A line that is clicked on and named gives z, wherever close to it the click was.
    click_at(page, OIII * 1.2 + 8.0)
    page.wait_for_selector("#picker:not([hidden])")
    page.keyboard.type("oiii5007")
    page.keyboard.press("Enter")
    assert float(page.input_value("#z")) == pytest.approx(0.2, abs=2e-4)
    assert page.inner_text("#differs").startswith("≠ predicted z, 0.02000: by +0.1")
    picked = page.input_value("#z")
    page.keyboard.press("u")
    assert page.input_value("#z") == "0.02000"
    assert page.inner_text("#differs") == ""
    page.keyboard.press("4")
    page.keyboard.press("u")  # a verdict can be undone too
    assert page.inner_text("#recorded") == "nothing recorded for this spectrum"
    click_at(page, HA * 1.2)
    page.keyboard.type("ha")
    page.keyboard.press("Enter")
    assert float(page.input_value("#z")) == pytest.approx(float(picked), abs=2e-4)
    page.fill("#comment", "all of them")
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    assert "quality 3" in page.inner_text("#recorded")
    row = page.locator("#rows tr[aria-selected=true]")
    assert "3≠" in row.inner_text()
    # The fit of every class, side by side; a click takes its z.
    page.wait_for_selector("#best[data-row='3']")
    cards = page.locator("#best button")
    assert [cards.nth(n).inner_text().split()[0] for n in range(3)] == ["STAR", "GALAXY", "QSO"]
    assert "GALAXY ✓ z 0.2" in cards.nth(1).inner_text()
    # Verdicts are there after a reload, and were when the server has been another.
    page.wait_for_function("() => !waiting.length")
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    page.fill("#filter", "changed=1")
    assert "003-coadd.fits" in shown(page)
    assert "quality 3" in page.inner_text("#recorded")
    assert page.input_value("#comment") == "all of them"
    assert float(page.input_value("#z")) == pytest.approx(0.2, abs=2e-4)
    # A second inspector sees that there is a verdict, and which after one of their own.
    other = page_at(server.url, viewport={"width": 1024, "height": 768})
    other.fill("#inspector", "Ben")
    other.keyboard.press("Enter")
    other.fill("#filter", "inspectors>0")
    assert "003-coadd.fits" in shown(other)
    assert other.inner_text("#recorded") == "nothing recorded for this spectrum"
    assert other.inner_text("#others") == "1 other has a verdict, shown after yours"
    other.keyboard.press("Escape")
    other.keyboard.press("4")  # at the z found, which is wrong
    assert "Anna: GALAXY, z = 0.2" in other.inner_text("#others")
    assert "“all of them”" in other.inner_text("#others")
    other.wait_for_function("() => !waiting.length")
    page.wait_for_function("() => document.querySelector('#others').textContent.includes('Ben')")
    # All columns fit.
    for narrow in (1024, 600):
        other.set_viewport_size({"width": narrow, "height": 768})
        cut = other.evaluate(
            "() => [...document.querySelectorAll('#columns th button, #rows td:not(.object)')]"
            " .filter((cell) => cell.scrollWidth > cell.clientWidth + 1).map((c) => c.textContent)"
        )
        assert cut == []
        wide = "() => document.documentElement.scrollWidth <= innerWidth"
        assert other.evaluate(wide)
    with other.expect_download() as download:
        other.click("#export")
    exported = results.with_name("team.csv")
    download.value.save_as(exported)
    for one in (page, other):
        one.context.close()
    code, err = server.stop()
    assert (code, "Traceback" in err) == (0, False)
    # Both ways to merge say the same.
    for source in (verdicts_beside(results), exported):
        merged = run("inspect", "--merge", source)
        assert merged.code == 0, merged.err
        (row,) = merged.rows
        assert row["file"] == "night-1-object-003-coadd.fits"
        assert (row["vi_class"], row["vi_z"], row["vi_conflict"]) == ("GALAXY", "", "z")
        assert row["vi_inspectors"] == "Anna; Ben"
        assert "Anna and Ben: 1 spectra in common; agreement: class 1.000, z 0.000" in merged.err
        assert "conflict: night-1-object-003-coadd.fits[0]: z: Anna GALAXY 0.2" in merged.err
    # Whose they are, and how they came about, stays.
    history = sqlite3.connect(verdicts_beside(results)).execute(
        "SELECT inspector, quality, withdrawn, found_z FROM verdicts ORDER BY id"
    )
    steps = history.fetchall()
    assert steps[:2] == [("Anna", 4, 0, 0.02), ("Anna", None, 1, 0.02)]
    assert steps[-1] == ("Ben", 4, 0, 0.02)


def test_what_the_reader_does_in_a_page_on_disk(run, results, page_at, tmp_path) -> None:
    out = tmp_path / "r.html"
    assert run("report", results, "-o", out).code == 0
    page = page_at(out.as_uri(), viewport={"width": 1440, "height": 900})
    # The list shows in what the names differ.
    names = page.locator("#rows td.object").all_inner_texts()
    assert names == [f"…{number:03d}" for number in range(6)]
    # Somebody who has zoomed in sees the same wavelengths of the next spectrum, at its own height.
    page.evaluate("() => view.observed.setv({ start: 6000, end: 7500 })")
    page.keyboard.press("ArrowDown")
    assert "001-coadd.fits" in shown(page)
    zoomed = "() => [view.observed.start, view.observed.end]"
    assert page.evaluate(zoomed) == [6000, 7500]
    page.keyboard.press("r")
    assert page.evaluate(zoomed)[0] < 3900
    # No name stands where something is drawn, and none over another.
    paper = page.evaluate("() => view.model('names paper').glyph.bottom.value")
    lines = page.evaluate("() => [view.model('emission').data, view.model('absorption').data]")
    scale = page.evaluate(
        "() => view.figure.inner_width / (view.observed.end - view.observed.start)"
    )
    places = np.sort(np.concatenate([kind["at"] for kind in lines])) * scale
    assert len(places) > 10 and np.diff(places).min() > 11.0
    feet = page.evaluate("() => view.model('emission names').glyph.y.value")
    assert feet > paper
    # A slider is undone as a whole, and a click on the fit of a class takes its z.
    before = page.input_value("#z")
    page.focus("#fine")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.input_value("#z") != before and page.inner_text("#differs")
    page.keyboard.press("Control+z")
    assert page.input_value("#z") == before
    page.wait_for_selector("#best[data-row='1']")
    page.locator("#best button", has_text="GALAXY").click()
    assert float(page.input_value("#z")) == pytest.approx(0.1, abs=2e-4)
    # Links to where the object stands on the sky, by the position in the file.
    links = page.evaluate("() => [...document.querySelectorAll('#links a')].map((a) => a.href)")
    assert len(links) == 3 and all("147.25" in link and "-0.5" in link for link in links)
    assert [urlsplit(link).hostname for link in links] == [
        "simbad.cds.unistra.fr", "www.legacysurvey.org", "skyserver.sdss.org"
    ]  # fmt: skip
    # A verdict is taken back, and comes back.
    page.keyboard.press("2")
    page.click("#clear")
    assert page.inner_text("#recorded") == "nothing recorded for this spectrum"
    page.click("#undo")
    assert "quality 2" in page.inner_text("#recorded")
    # A comment that is still being typed belongs to its own row.
    page.fill("#comment", "typed")
    page.press("#comment", "ArrowDown")
    assert "002-coadd.fits" in shown(page) and page.input_value("#comment") == ""
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    page.keyboard.press("ArrowDown")
    assert "001-coadd.fits" in shown(page)
    assert page.input_value("#comment") == "typed"


def test_hostile_names_inject_nothing(serve, tmp_path, page_at, run) -> None:
    plate = write_spplate(tmp_path / "plate.fits", [made(3000, seed) for seed in range(15)])
    lines = [
        {"file": plate.name, "row": number, "id": name, "class": name, "z": 0.1,
         "__proto__": name, "flags": name}
        for number, name in enumerate(HOSTILE)
    ]  # fmt: skip
    (tmp_path / "z.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    server = serve(tmp_path / "z.jsonl")
    page = page_at(server.url)
    for number, name in enumerate(HOSTILE):
        comment = HOSTILE[-1 - number]
        verdict = {
            "spectrum": f"plate.fits[{number}]", "inspector": "=cmd|' /C calc'!A0 <b>",
            "class": name, "z": 0.1, "quality": 3, "comment": comment,
        }  # fmt: skip
        assert server.record(**verdict)[0] == 200
    # The page asks for the verdicts of others every few seconds.
    page.wait_for_function("() => [...everyone.values()].some((one) => one.size === 15)")
    page.fill("#inspector", "</script><img src=x onerror=window.hit=16>")
    page.keyboard.press("Enter")
    for number, name in enumerate(HOSTILE):
        page.evaluate("(number) => select(number)", number)
        page.wait_for_selector("#view:not(.loading)")
        assert page.input_value("#class") == name
        page.fill("#comment", HOSTILE[-1 - number])
        page.evaluate("() => record({ quality: 4 })")
        told = page.locator("#others").text_content()
        assert HOSTILE[-1 - number] in told and name in told
        assert name in page.locator("#all").text_content()
    page.fill("#filter", '<script> "<img"')
    elements = page.evaluate(
        "() => [document.querySelectorAll('script:not([type])').length,"
        " document.querySelectorAll('body img, body svg, iframe, object').length,"
        " window.hit === undefined, Object.prototype.hit === undefined]"
    )
    assert elements == [2, 0, True, True]
    page.wait_for_function("() => !waiting.length")
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "verdicts.csv")
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").open(newline="", encoding="utf-8")))
    assert len(rows) == 30
    for number in range(15):
        both = [row for row in rows if row["row"] == str(number)]
        assert {row["vi_class"] for row in both} == {in_csv(HOSTILE[number])}
        assert {row["vi_comment"] for row in both} == {in_csv(HOSTILE[-1 - number])}
    merged = run("inspect", "--merge", tmp_path / "verdicts.csv", "--json")
    assert merged.code == 0, merged.err
    document = json.loads(merged.out)
    assert {row["vi_class"] for row in document["rows"]} == set(map(in_csv, HOSTILE))
    assert document["conflicts"] == []


def test_five_thousand_rows_are_as_light_as_the_seen_ones(serve, tmp_path, page_at) -> None:
    plate = write_spplate(tmp_path / "plate.fits", [made(300, seed) for seed in range(5)])
    table = Table({"file": [plate.name] * 5000, "row": np.arange(5000) % 5})
    table["object_id"] = [f"J{number:04d}" for number in range(5000)]
    table["z"] = np.linspace(0.0, 1.0, 5000)
    table.write(tmp_path / "z.csv")
    page = page_at(serve(tmp_path / "z.csv").url)
    assert page.inner_text("#count") == "5000 of 5000 spectra"
    assert page.locator("#rows tr").count() < 100
    page.evaluate("() => { $('scroll').scrollTop = 27 * 4990; }")
    last = page.locator("#rows tr", has_text="J4999")
    last.wait_for()
    last.click()
    assert shown(page) and page.inner_text("#name") == "J4999"
    page.locator("#columns button", has_text="z").first.click()
    page.keyboard.press("ArrowUp")
    assert shown(page) and page.inner_text("#name") == "J4998"
    assert page.locator("#rows tr[aria-selected=true]").count() == 1


# --- the server -----------------------------------------------------------------------------


def test_only_loopback_and_only_the_token_are_answered(serve, results) -> None:
    server = serve(results)
    status, content, headers = server.ask("")
    assert status == 200 and b"night-1-object-000" in content
    assert headers["Referrer-Policy"] == "no-referrer"
    token = server.path.strip("/")
    assert len(token) >= 32 and server.ask("")[1] == content
    # Nothing, not even that there is something.
    elsewhere = [
        "/", "/index.html", f"/{token[:-1]}/", f"/{token}x/", f"/{token.swapcase()}/", "//",
        f"/./{token}/", f"/x/../{token}/", "/favicon.ico", f"/{token[:-1]}/verdicts", "/%00/",
    ]  # fmt: skip
    for path in elsewhere:
        assert server.ask(path)[:2] == (404, b""), path
    for path in ("z.ecsv", "../z.ecsv", "..%2fz.ecsv", "spectra/../../z.ecsv", "page.js",
                 "z.ecsv.verdicts.sqlite", "spectra/6", "spectra/-1", "spectra/0/x",
                 "spectra/99999999999999999999", "docs", "openapi.json"):  # fmt: skip
        assert server.ask(path)[0] in (404, 405), path
        assert b"night-1" not in server.ask(path)[1]
    # Another site, by DNS rebinding or a form.
    hosts = [
        "evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0", "",
        f"192.0.2.1:{server.port}", "127.0.0.1:x", "127.0.0.1@evil.example",
    ]  # fmt: skip
    for name in hosts:
        assert server.ask("", Host=name)[:2] == (404, b""), name
    for name in (f"localhost:{server.port}", "127.0.0.1", "LOCALHOST:9999"):
        assert server.ask("", Host=name)[0] == 200, name
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{server.port}"):
        assert server.ask("verdicts", "POST", "{}", Origin=origin)[:2] == (404, b"")
    assert server.ask("verdicts", "POST", "{}", Origin=server.url.split("/" + token)[0])[0] == 422
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert server.ask("verdicts", method)[0] in (404, 405)
    # No other address of this machine.
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    for address in {*addresses, "127.0.0.2"} - {"127.0.0.1", "::1"}:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.settimeout(5)
            assert probe.connect_ex((address, server.port)) != 0, address


def test_the_server_sends_what_the_page_shows(serve, results, tmp_path) -> None:
    (tmp_path / "night-1-object-002-coadd.fits").unlink()
    server = serve(results)
    good = json.loads(server.ask("spectra/0")[1])
    assert good["problem"] == "" and good["packed"]["n"] == 3800
    assert good["position"] == [147.25, -0.5]
    missing = json.loads(server.ask("spectra/2")[1])
    assert missing["packed"] is None and "is not in" in missing["problem"]


def test_what_is_no_verdict_is_refused(serve, results) -> None:
    server = serve(results)
    name = "night-1-object-000-coadd.fits[0]"
    good = {"spectrum": name, "inspector": "A", "class": "QSO", "z": 1.0, "quality": 4}
    for wrong in (
        {"spectrum": "other.fits[0]"}, {"spectrum": None}, {"spectrum": ["x"]},
        {"inspector": ""}, {"inspector": "  "}, {"inspector": 5}, {"inspector": "a\nb"},
        {"inspector": "\ud800"}, {"inspector": "x" * 81}, {"z": "1"}, {"z": True},
        {"z": -1.0}, {"z": 1e999}, {"z": float("nan")}, {"z": 10**400}, {"quality": 5},
        {"quality": -1}, {"quality": 2.5}, {"quality": True}, {"quality": "4"}, {"class": 3},
        {"class": "x" * 81}, {"comment": "x" * 10_001}, {"comment": {"a": 1}}, {"comment": "\0"},
    ):  # fmt: skip
        status, answer = server.record(**good | wrong)
        assert status == 422 and answer["error"], wrong
    for body in ("", "[]", "1", "{", "[" * 50_000, "\xff", "x" * 70_000):
        assert server.ask("verdicts", "POST", body.encode("latin-1"))[0] == 422
    for since in ("x", "-1", "1e3", "9" * 30):
        assert server.ask(f"verdicts?since={since}")[0] == 422
    assert json.loads(server.ask("verdicts")[1]) == []
    status, kept = server.record(**good)
    assert status == 200 and kept["found_z"] == 0.05
    # What is sent twice, since the answer got lost, is one verdict.
    assert server.record(**good)[1]["id"] == kept["id"]
    assert [one["id"] for one in json.loads(server.ask("verdicts")[1])] == [kept["id"]]
    assert json.loads(server.ask(f"verdicts?since={kept['id']}")[1]) == []


def test_several_servers_keep_every_verdict(serve, results) -> None:
    """Two programs, each with several inspectors at once; and what they kept is there next time."""
    servers = [serve(results), serve(results)]

    def judge(number: int) -> int:
        verdict = {
            "spectrum": f"night-1-object-{number % 6:03d}-coadd.fits[0]",
            "inspector": f"inspector {number % 5}", "class": "GALAXY", "z": number / 100.0,
            "quality": number % 5, "comment": str(number),
        }  # fmt: skip
        return servers[number % 2].record(**verdict)[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(judge, range(60))) == {200}
    assert [server.stop()[0] for server in servers] == [0, 0]
    kept = Verdicts(verdicts_beside(results))
    assert len(kept.latest()) == 30
    file = sqlite3.connect(verdicts_beside(results))
    assert file.execute("SELECT count(*) FROM verdicts").fetchone() == (60,)
    assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again = serve(results)
    assert len(json.loads(again.ask("verdicts")[1])) == 30


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("z.ecsv", "z.ecsv"), "2 tables of results given"),
        ((), "give either RESULTS or --catalog"),
        (("z.ecsv", "-o", "x.csv"), "-o and --json need --merge"),
        (("--merge",), "--merge needs files of verdicts"),
        (("--merge", "z.ecsv"), "z.ecsv contains no verdicts: it has no column vi_class"),
        (("--merge", "gone.csv"), "gone.csv"),
        (("z.ecsv", "--port", "70000"), "65535"),
    ],
)
def test_what_makes_no_sense(run, results, monkeypatch, options, says: str) -> None:
    monkeypatch.chdir(results.parent)
    result = run("inspect", "-q", *options)
    assert result.code in (1, 2)
    assert says in result.err and "Traceback" not in result.err


def test_a_taken_port_is_told(run, results) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("inspect", results, "--port", port)
    assert result.code == 2
    assert f"--port {port} cannot be used" in result.err


# --- verdicts -------------------------------------------------------------------------------

ROW = {"file": "a.fits", "row": 3, "object_id": "x", "class": "STAR", "z": 0.0}


def test_a_verdict_is_never_lost_from_the_history(tmp_path) -> None:
    kept = Verdicts(tmp_path / "v.sqlite")
    first = kept.record(ROW, {"inspector": "A", "class": "QSO", "z": 2, "quality": 3})
    kept.record(ROW, {"inspector": "B", "class": "STAR", "z": None, "quality": 1})
    kept.record(ROW, {"inspector": "A", "withdrawn": True})
    latest = {one["inspector"]: one for one in Verdicts(tmp_path / "v.sqlite").latest()}
    assert latest["A"]["withdrawn"] and latest["A"]["z"] is None
    assert latest["B"]["class"] == "STAR" and latest["B"]["spectrum"] == "a.fits[3]"
    assert [one["inspector"] for one in kept.latest(first["id"])] == ["B", "A"]
    with pytest.raises(Refused):
        kept.record(ROW, {"inspector": ""})
    assert [verdict.inspector for verdict in read_verdicts(tmp_path / "v.sqlite")] == ["B"]


@pytest.mark.parametrize("kind", ["text", "other", "folder"])
def test_another_file_in_the_place_of_the_verdicts_is_left_alone(run, results, kind: str) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    path = verdicts_beside(results)
    if kind == "text":
        path.write_text("my notes, which are longer than a header of SQLite " * 20)
    elif kind == "other":
        with sqlite3.connect(path) as file:
            file.execute("CREATE TABLE mine (x)")
        file.close()
    else:
        path.mkdir()
    before = path.read_bytes() if kind != "folder" else None
    result = run("inspect", results)
    assert result.code == 1
    assert path.name in result.err and "Traceback" not in result.err
    assert before is None or path.read_bytes() == before


def test_threads_write_at_once(tmp_path) -> None:
    kept = Verdicts(tmp_path / "v.sqlite")
    threads = [
        threading.Thread(
            target=lambda n=n: [
                kept.record(ROW, {"inspector": f"I{n}", "z": float(k)}) for k in range(10)
            ]
        )
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["inspector"] for one in kept.latest()) == [f"I{n}" for n in range(6)]
    assert {one["z"] for one in kept.latest()} == {9.0}


# --- merging --------------------------------------------------------------------------------

HEAD = "file,row,object_id,class,z,z_prob,zwarn,vi_class,vi_z,vi_quality,vi_comment,vi_date"


def exported(path: Path, *lines: str, inspector: str = "") -> Path:
    """As the page exports verdicts; before it asked who somebody is, without the last column."""
    head = HEAD + (",vi_inspector" if inspector else "")
    end = f",{inspector}" if inspector else ""
    path.write_text("\n".join([head, *(line + end for line in lines)]) + "\n")
    return path


def test_agreement_conflicts_and_the_merged_list(run, tmp_path) -> None:
    day = "2026-11-26T10:00:0"
    anna = exported(
        tmp_path / "a.csv",
        f'a.fits,0,"x, 1",GALAXY,0.1,0.9,0,GALAXY,0.1001,4,"a ""b""",{day}0Z',
        f"b.fits,0,y,QSO,1.0,0.9,4,QSO,1.0,3,,{day}1Z",
        f"c.fits,7,,STAR,0.0,0.9,0,STAR,0.0,4,,{day}2Z",
        f"d.fits,0,,STAR,0.0,0.9,0,GALAXY,0.3,1,,{day}3Z",
        f"e.fits,0,,STAR,0.0,0.9,0,GALAXY,0.3,,look again,{day}4Z",
        inspector="Anna",
    )
    ben = exported(
        tmp_path / "ben.csv",
        f'a.fits,0,"x, 1",GALAXY,0.1,0.9,0,GALAXY,0.1002,3,,{day}0Z',
        f"b.fits,0,y,QSO,1.0,0.9,4,QSO,1.02,3,,{day}1Z",
        f"c.fits,7,,STAR,0.0,0.9,0,GALAXY,0.0,4,,{day}2Z",
        f"d.fits,0,,STAR,0.0,0.9,0,STAR,0.0,4,,{day}3Z",
    )
    result = run("inspect", "--merge", anna, ben, "-o", tmp_path / "merged.csv")
    assert result.code == 0, result.err
    assert result.names == ["merged.csv"]
    rows = {row["file"]: row for row in csv.DictReader((tmp_path / "merged.csv").open(newline=""))}
    assert {name: row["vi_conflict"] for name, row in rows.items()} == {
        "a.fits": "", "b.fits": "z", "c.fits": "class", "d.fits": "quality", "e.fits": "",
    }  # fmt: skip
    assert rows["a.fits"]["vi_z"] == "0.1001" and rows["a.fits"]["vi_quality"] == "3.5"
    assert rows["a.fits"]["vi_inspectors"] == "Anna; ben" and rows["a.fits"]["object_id"] == "x, 1"
    assert rows["a.fits"]["vi_comment"] == 'Anna: a "b"'
    assert rows["b.fits"]["vi_z"] == "" and rows["b.fits"]["vi_class"] == "QSO"
    assert rows["c.fits"]["vi_class"] == "" and rows["c.fits"]["vi_z"] == ""
    assert rows["d.fits"]["vi_class"] == "STAR" and rows["d.fits"]["vi_quality"] == ""
    assert rows["e.fits"]["vi_count"] == "0" and rows["e.fits"]["vi_comment"] == "Anna: look again"
    assert "Anna: 4 spectra" in result.err and "ben: 4 spectra" in result.err
    assert "agreement: class 0.750, z 0.750, quality 0.750, all 0.250" in result.err
    assert "3 of 5 spectra are in conflict" in result.err
    document = json.loads(run("inspect", "--merge", anna, ben, "--json").out)
    assert document["agreement"] == [
        {"inspectors": ["Anna", "ben"], "spectra": 4, "class": 0.75, "z": 0.75, "quality": 0.75,
         "all": 0.25}
    ]  # fmt: skip
    assert len(document["conflicts"]) == 3 and len(document["rows"]) == 5
    # In every format, and from every format.
    for suffix in (".ecsv", ".fits", ".parquet", ".vot"):
        out = tmp_path / f"merged{suffix}"
        assert run("inspect", "--merge", anna, ben, "-o", out, "-q").code == 0
    table = Table.read(anna, format="ascii.csv")
    table.write(tmp_path / "a.ecsv")
    assert merge([tmp_path / "a.ecsv", ben]).conflicts == merge([anna, ben]).conflicts


def test_the_later_verdict_of_an_inspector_counts(tmp_path) -> None:
    lines = [
        f"a.fits,0,,STAR,0,1,0,{name},0,4,,2026-11-{day}T00:00:00Z"
        for name, day in (("QSO", 25), ("STAR", 26), ("GALAXY", 24))
    ]
    paths = [exported(tmp_path / f"{n}.csv", line, inspector="A") for n, line in enumerate(lines)]
    merged = merge(paths)
    assert list(merged.table["vi_class"]) == ["STAR"] and list(merged.table["vi_count"]) == [1]
    assert merged.agreement == [] and merged.inspectors == {"A": 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a.fits,0,,STAR,0,1,0,STAR,fast,4,,", "vi_z 'fast' is not a number"),
        ("a.fits,0,,STAR,0,1,0,STAR,0,5,,", "vi_quality 5 is not a whole number from 0 to 4"),
        ("a.fits,0,,STAR,0,1,0,STAR,0,2.5,,", "vi_quality 2.5 is not a whole number"),
        ("a.fits,-1,,STAR,0,1,0,STAR,0,2,,", "row -1 is not a whole number from 0 on"),
    ],
)
def test_a_file_that_is_wrong_is_told(run, tmp_path, line: str, says: str) -> None:
    path = exported(tmp_path / "a.csv", line)
    result = run("inspect", "--merge", path)
    assert result.code == 1
    assert f"{path}, row 0: {says}" in result.err
    assert result.out == ""


def test_the_merged_list_is_no_input(run, tmp_path) -> None:
    path = exported(tmp_path / "a.csv", "a.fits,0,,STAR,0,1,0,STAR,0,4,,")
    before = path.read_bytes()
    assert run("inspect", "--merge", path, "-o", path).code == 2
    assert path.read_bytes() == before


def test_conflicts_are_those_of_sure_verdicts(tmp_path) -> None:
    def verdicts(*said: tuple[str, float, int]) -> list:
        lines = [f"a.fits,0,,STAR,0,1,0,{name},{z},{quality},," for name, z, quality in said]
        return [
            read_verdicts(exported(tmp_path / "v.csv", line, inspector=f"I{number}"))[0]
            for number, line in enumerate(lines)
        ]

    limit = 1000.0 / 299792.458
    assert conflicts_of(verdicts(("QSO", 1.0, 3), ("QSO", 1.0 + 2 * limit * 0.99, 4))) == []
    assert conflicts_of(verdicts(("QSO", 1.0, 3), ("QSO", 1.0 + 2 * limit * 1.01, 4))) == ["z"]
    assert conflicts_of(verdicts(("QSO", 1.0, 1), ("STAR", 0.0, 2))) == []
    assert conflicts_of(verdicts(("QSO", 1.0, 2), ("STAR", 0.0, 4))) == ["class", "z", "quality"]
