"""Shared by all tests: the shared data where present, and a small model with random weights."""

import csv
import io
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.spectrum import Spectrum

# Tests run side by side: one thread each, before PyTorch is imported, and for what they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real spectra beside the project; tests that need it skip without it."""
    folder = ROOT.parent / "shared"
    if not (folder / "data" / "real.h5").exists():
        pytest.skip("the shared real spectra are not beside the project")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache."""
    monkeypatch.setenv("SPECTROMER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of valid weights of the default shape that have learnt nothing."""
    import torch

    from spectromer_cli.model import tasks
    from spectromer_cli.model.config import ModelConfig
    from spectromer_cli.model.network import SpectralViT
    from spectromer_cli.weights.save import write_weights

    torch.manual_seed(0)
    config = ModelConfig(
        backbone="vit_tiny_patch16_224",
        image="tiles",
        tokens=3,
        grid=Grid(),
        tasks=[tasks.to_dict(task) for task in tasks.default_tasks()],
    )
    folder = tmp_path_factory.mktemp("weights")
    extra = {"licence": "none", "description": "random", "trained_on": "nothing"}
    write_weights(folder, "random.v0", SpectralViT(config).state_dict(), config, extra)
    return folder


@pytest.fixture(scope="session")
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


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, str]]:
        """The table on stdout."""
        return list(csv.DictReader(io.StringIO(self.out)))

    @property
    def names(self) -> list[str]:
        """The names of the files that it printed."""
        return [Path(line).name for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process, as `spectromer` would."""
    from spectromer_cli.cli import app as cli

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["spectromer", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def weights(random_weights: Path) -> list[str]:
    """Options for a quick model that has learnt nothing."""
    return ["--model", str(random_weights), "--device", "cpu"]


def emission_galaxy(z: float, sn: float = 30.0, seed: int = 0) -> Spectrum:
    """A flat continuum with Hα, [O III] and [O II] at redshift z, on the SDSS sampling."""
    rng = np.random.default_rng(seed)
    wavelength = 10.0 ** (3.5800 + 1e-4 * np.arange(3800))
    flux = np.ones(wavelength.size)
    for line, height in ((6564.6, 8.0), (5008.2, 4.0), (4960.3, 1.4), (4862.7, 2.0), (3728.5, 4.0)):
        centre = line * (1.0 + z)
        flux += height * np.exp(-0.5 * ((wavelength - centre) / (3e-4 * centre)) ** 2)
    flux += rng.normal(0.0, 1.0 / sn, wavelength.size)
    return Spectrum(wavelength, flux, np.full(wavelength.size, sn**2), {"object_id": "made"})


def texts_that_overlap(figure: object) -> list[tuple[str, str]]:
    """Pairs of texts in the figure whose boxes meet, and texts that leave the page."""
    from matplotlib.text import Text

    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = set()  # ticks beyond the ends of an axis exist, but are not drawn
    every = [part for axes in figure.axes for part in (axes, *axes.child_axes)]
    for axis in (axis for axes in every for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t not in hidden]
    texts = [t for t in texts if t.get_text().strip()]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    page = figure.bbox.padded(1)
    pairs = []
    for i, (text, box) in enumerate(boxes):
        if not (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1)):
            pairs.append((text, "the page's border"))
        pairs += [
            (text, other)
            for other, box2 in boxes[i + 1 :]
            if box.padded(-1).overlaps(box2.padded(-1))
        ]
    return pairs
