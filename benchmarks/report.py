"""How long a page of `spectromer report` takes to open in headless Chromium.

Usage: python benchmarks/report.py [SPECTRA [PIXELS]]

Makes SPECTRA (5000) spectra of PIXELS (4600, as SDSS has them) and their results, writes the
report, opens it several times, and prints the seconds from asking for the page until the first
spectrum is drawn, and those for stepping to the next; and the most memory that writing it took.
Needs playwright and a Chromium.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.table import Table

from spectromer_cli.inspector.build import write_report
from spectromer_cli.weights.store import resolve

ROUNDS = 5
# Two animation frames: what was asked to be drawn is on the screen then.
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def make_results(folder: Path, count: int, pixels: int) -> Path:
    """Random spectra in plain tables, and a table of results for them."""
    rng = np.random.default_rng(1)
    order = np.arange(pixels)
    wavelength = np.linspace(3600.0, 10000.0, pixels) ** 1.0001  # no even axis: the largest page
    names = []
    for number in range(count):
        error = 1.0 + 0.3 * np.sin(order / 50.0) + 0.02 * rng.normal(size=pixels)
        flux = rng.normal(10.0, error)
        table = Table({"wavelength": wavelength, "flux": flux, "error": error})
        names.append(f"{number:05d}.fits")
        table.write(folder / names[-1])
    z = rng.uniform(0.0, 1.0, count)
    results = Table({"file": names, "row": np.zeros(count, dtype=int)})
    results["object_id"] = [f"made-{number}" for number in range(count)]
    results["class"] = np.where(z > 0.5, "QSO", "GALAXY")
    for rank, name in enumerate(("z", "z_alt1", "z_alt2")):
        results[name] = z + rank
        results[f"{name}_prob"] = rng.uniform(size=count)
    results["zwarn"] = 0
    results["sn_median"] = 10.0
    results.write(folder / "results.ecsv")
    return folder / "results.ecsv"


def main() -> None:
    """Measure."""
    from playwright.sync_api import sync_playwright

    count, pixels = (int(value) for value in (*sys.argv[1:], *(5000, 4600)[len(sys.argv) - 1 :]))
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        results = make_results(Path(name), count, pixels)
        start = time.perf_counter()
        written = write_report(results, Path(name) / "report.html", resolve(None))
        made = time.perf_counter() - start
        page_file = written.pages[0]
        size = page_file.stat().st_size / 1e6
        print(f"{len(written.pages)} pages, the first of {size:.1f} MB, made in {made:.1f} s")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{most:.0f} MiB of memory at most, with the making of the spectra")
        opened, stepped = [], []
        for _ in range(ROUNDS):
            browser = playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            start = time.perf_counter()
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-ready=yes]")
            page.evaluate(DRAWN)
            opened.append(time.perf_counter() - start)
            start = time.perf_counter()
            page.keyboard.press("ArrowDown")
            page.evaluate(DRAWN)
            stepped.append(time.perf_counter() - start)
            browser.close()
        for what, values in (("open", opened), ("next spectrum", stepped)):
            print(f"{what:14s} median {statistics.median(values):.2f} s, worst {max(values):.2f} s")


if __name__ == "__main__":
    main()
