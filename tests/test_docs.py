"""The documentation says what the program does, in the words of the project."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from conftest import EXAMPLES, ROOT
from test_language import tics

from spectromer_cli import errors
from spectromer_cli.outputs.formats import FORMATS

DOCS = ROOT / "docs"
# Tables that programs write, and history.
WRITTEN_BY_PROGRAMS = ("accuracy.md", "training-log.md", "CHANGELOG.md")
PAGES = sorted(
    path
    for path in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    if not any(part.startswith("_") for part in path.relative_to(ROOT).parts)
)
IDS = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.fixture(scope="module")
def generate():
    """The program that writes what comes from the code."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lists_in_the_pages_are_those_of_the_code(generate) -> None:
    page = generate.PAGE.read_text(encoding="utf-8")
    assert page == generate.written(page), "run python docs/generate.py"


def test_every_command_and_option_is_in_the_reference(generate) -> None:
    text = generate.commands()
    for name in ("classify", "redshift", "examples", "weights publish", "fetch sdss"):
        assert f"`spectromer {name}`" in text
    for option in (
        "`--max-outlier-rate` `SHARE`",
        "`-o`, `--output` `FILE`",
        "`--air`, `--vacuum`",
    ):
        assert option in text


def test_the_exit_codes_and_formats_are_documented() -> None:
    page = (DOCS / "reference" / "results.md").read_text(encoding="utf-8")
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.SpectromerError)
    }
    assert [code for code in sorted(codes) if f"\n| {code} | " not in page] == []
    assert [suffix for suffix in FORMATS if f"`{suffix}`" not in page] == []


def anchors(path: Path) -> set[str]:
    """The names by which the headings of a page are linked to, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), f"{target}: no such file"
        if anchor and page.suffix == ".md":
            assert anchor in anchors(page), f"{target}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_the_words_are_those_of_the_glossary(path: Path) -> None:
    if path.name in WRITTEN_BY_PROGRAMS:
        pytest.skip("written by programs, or history")
    # The name of a flag is no prose.
    assert tics(path.read_text(encoding="utf-8").replace("UNLIKE_PRIOR", "")) == []


def test_every_page_is_in_the_navigation() -> None:
    listed = {DOCS / "index.md"}
    for path in DOCS.rglob("*.md"):
        for toctree in re.findall(r"```\{toctree\}(.*?)```", path.read_text("utf-8"), re.S):
            for entry in re.findall(r"^(?:.*<)?([\w/-]+)>?$", toctree, re.M):
                listed.add((path.parent / entry).with_suffix(".md"))
    assert [page for page in PAGES if DOCS in page.parents and page not in listed] == []


def test_the_examples_of_the_python_page_run(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    ran = 0
    for skipped, code in re.findall(r"(<!-- not run[^>]*-->\n)?```python\n(.*?)```", page, re.S):
        if not skipped:
            exec(compile(code, "python.md", "exec"), names)
            ran += 1
    assert ran >= 5
    assert (tmp_path / "z.ecsv").exists() and (tmp_path / "why.png").exists()


def test_the_example_reader_and_the_example_image_work(tmp_path: Path, monkeypatch) -> None:
    import numpy as np
    import torch
    from astropy.io import fits

    from spectromer_cli import images
    from spectromer_cli.spectra import readers
    from spectromer_cli.spectra.grid import Grid

    def module(page: str, name: str) -> None:
        text = (DOCS / "how-to" / page).read_text(encoding="utf-8")
        code = re.search(r'```python\n(""".*?)```', text, re.S)
        assert code is not None
        (tmp_path / f"{name}.py").write_text(code[1], encoding="utf-8")

    module("own-reader.md", "myscope")
    module("own-image.md", "fold")
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])
    monkeypatch.setattr(readers, "READERS", ("myscope", *readers.READERS))
    header = fits.Header(
        {"OBJECT": "M51", "CRVAL1": 4000.0, "CDELT1": 2.0, "BUNIT": "erg / (s cm2 Angstrom)",
         "VACUUM": True, "SPECSYS": "BARYCENT"}
    )  # fmt: skip
    flux = np.random.default_rng(1).normal(1.0, 0.1, (2, 2000)).astype("f4")
    fits.HDUList(
        [fits.PrimaryHDU(), fits.ImageHDU(flux, header, "MYFLUX"),
         fits.ImageHDU(np.full_like(flux, 0.1), header, "MYSIGMA")]
    ).writeto(tmp_path / "two.fits")  # fmt: skip
    spectra = readers.read(tmp_path / "two.fits")
    assert [one.meta["object_id"] for one in spectra] == ["M51-0", "M51-1"]
    assert spectra[1].meta["flags"] == ()
    np.testing.assert_allclose(spectra[1].flux, flux[1], rtol=1e-5)

    monkeypatch.setattr(images, "__path__", [*images.__path__, str(tmp_path)])
    monkeypatch.setitem(images.IMAGES, "fold", "fold")
    grid = Grid()
    wave = torch.linspace(0.0, 2.0, grid.n)[None]
    drawn = images.render("fold", wave, torch.ones_like(wave), grid)
    assert drawn.shape == (1, 3, 112, 112)
    assert images.get_image("fold").samples(grid, 7).any(axis=0).all()
    # The first token shows the beginning of the grid, the last its end.
    assert drawn[0, 0, 0, 0] == drawn.min() and drawn[0, 0, -1, -1] == drawn.max()


def test_the_readme_states_what_the_card_of_the_weights_states() -> None:
    from spectromer_cli.weights.manifest import bundled_manifest

    card = (ROOT / "weights" / f"{bundled_manifest().default}.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    right = re.search(r"^Right: ([\d.]+) .* of (\d+)\.", card, re.M)
    assert right is not None
    wrong = re.search(
        r"^\| \\\|Δz\\\|/\(1\+z\) > 0\.01 \| ([\d.]+) \(.*?\) \| ([\d.]+) ", card, re.M
    )
    assert wrong is not None
    stated = [f"Of {right[2]} held-out", f"{100 * float(right[1]):.1f} %"]
    stated += [f"{100 * (1 - float(share)):.1f} %" for share in wrong.groups()]
    assert [words for words in stated if words not in readme] == []
