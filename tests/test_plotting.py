"""Figures of spectra: one palette, lines where they belong, names that can be read."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLES, emission_galaxy, texts_that_overlap

import spectromer_cli
from spectromer_cli.errors import UsageError
from spectromer_cli.outputs import plotting, terminal
from spectromer_cli.outputs.plotting import Look, draw
from spectromer_cli.spectra import drawing
from spectromer_cli.spectra.drawing import DARK, LIGHT, flux_range, spread_out
from spectromer_cli.spectra.lines import lines_for
from spectromer_cli.spectra.readers import read
from spectromer_cli.spectra.spectrum import Spectrum


def axes_of(spectrum: Spectrum, **options: object) -> object:
    axes = plotting.new_figure(11, 4).add_subplot()
    drawing.plot_spectrum(axes, spectrum.wavelength, spectrum.flux, spectrum.ivar, **options)
    return axes


def test_colours_are_defined_in_one_place() -> None:
    package = Path(spectromer_cli.__file__).parent
    files = [*package.rglob("*.py"), *package.rglob("*.js")]
    assert len(files) > 100
    for colour in (drawing.ORANGE, drawing.SKY_BLUE, drawing.BLUE, drawing.VERMILION):
        assert [path.name for path in files if colour.lower() in path.read_text().lower()] == [
            "drawing.py"
        ]


def test_blue_supports_and_orange_opposes() -> None:
    assert (LIGHT.supporting, LIGHT.opposing) == (drawing.BLUE, drawing.VERMILION)
    assert (DARK.supporting, DARK.opposing) == (drawing.SKY_BLUE, drawing.ORANGE)


def test_lines_stand_at_their_redshift_and_masked_pixels_are_grey() -> None:
    spectrum = emission_galaxy(0.1)
    spectrum.ivar[1000:1100] = 0.0
    axes = axes_of(spectrum, z=0.1, lines=lines_for("GALAXY"))
    texts = {text.get_text() for text in axes.texts}
    assert {"Hα", "[O III] 5007", "Mg b"} <= texts
    first, last = axes.get_xlim()
    marks = [line.get_xdata()[0] * (last - first) + first for line in axes.lines[2:]]
    assert any(abs(mark - 6564.61 * 1.1) < 0.01 for mark in marks)
    assert not texts & {"Lyα", "TiO 7053"}
    (masked,) = [patch for patch in axes.patches if patch.get_label() == "masked"]
    low, high = masked.get_x(), masked.get_x() + masked.get_width()
    assert spectrum.wavelength[999] < low < spectrum.wavelength[1000]
    assert spectrum.wavelength[1099] < high < spectrum.wavelength[1100]
    flux = axes.lines[0].get_ydata()
    assert np.array_equal(np.isnan(flux), spectrum.ivar == 0)
    assert len(axes.child_axes) == 1  # the rest-frame axis


def test_over_the_rest_frame() -> None:
    spectrum = emission_galaxy(0.1)
    axes = axes_of(spectrum, z=0.1, lines=lines_for("GALAXY"), rest_frame=True)
    assert np.allclose(axes.lines[0].get_xdata(), spectrum.wavelength / 1.1)
    assert not axes.child_axes
    assert axes.get_xlabel().startswith("Rest-frame")
    first, last = axes.get_xlim()
    marks = [line.get_xdata()[0] * (last - first) + first for line in axes.lines[2:]]
    assert any(abs(mark - 6564.61) < 0.01 for mark in marks)


@pytest.mark.parametrize(
    ("name", "z", "class_name", "spectral_type"),
    [
        ("simulated-sdss-star", -0.0001, "STAR", "M3"),
        ("simulated-boss-quasar", 2.23, "QSO", ""),
        ("simulated-sdss-galaxy", 0.0856, "GALAXY", ""),
    ],
)
def test_names_in_a_quick_look_do_not_overlap(
    name: str, z: float, class_name: str, spectral_type: str
) -> None:
    spectrum = read(EXAMPLES / f"{name}.fits")[0]
    title = "a-very-long-name-" * 6 + "   S/N 21.5 per pixel   z = 0.08556 ± 0.00002 (p 1.00)"
    figure = draw(Look(spectrum, title, z, lines_for(class_name, spectral_type)))
    assert texts_that_overlap(figure) == []


def test_spread_out_keeps_order_distance_and_the_ends() -> None:
    places = np.array([0.0, 0.001, 0.002, 0.3, 0.305, 0.6, 0.999, 1.0])
    spread = spread_out(places, 0.02)
    assert (np.diff(spread) >= 0.02 - 1e-12).all()
    assert spread[0] == pytest.approx(0.01) and spread[-1] == pytest.approx(0.99)
    assert spread[5] == 0.6
    assert spread[3:5].mean() == pytest.approx(places[3:5].mean())
    assert spread_out(np.array([]), 0.02).size == 0


def test_the_flux_axis_holds_lines_but_not_wild_pixels() -> None:
    flux = np.ones(4000)
    flux[[100, 101]] = 1000.0, -500.0
    flux[2000:2005] = 3.0, 8.0, 10.0, 8.0, 3.0
    low, high = flux_range(flux, np.full(4000, 100.0))
    assert low == 0.0
    assert 8.0 <= high < 20.0


def test_figures_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    figure = draw(Look(emission_galaxy(0.1), "a title", 0.1, lines_for("GALAXY")))
    for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        plotting.save_figure(figure, tmp_path / f"look{suffix}")
        assert (tmp_path / f"look{suffix}").read_bytes().startswith(start)
    assert "Rest-frame wavelength" in (tmp_path / "look.svg").read_text()  # text, not outlines
    with pytest.raises(UsageError):
        plotting.save_figure(figure, tmp_path / "none" / "look.png")


@pytest.mark.parametrize("name", ["simulated-boss-quasar", "simulated-sdss-galaxy"])
def test_names_of_lines_stay_inside_and_above_the_spectrum(name: str) -> None:
    spectrum = read(EXAMPLES / f"{name}.fits")[0]
    kind, z = ("QSO", 2.23) if "quasar" in name else ("GALAXY", 0.0856)
    figure = draw(Look(spectrum, "a title", z, lines_for(kind)))
    figure.canvas.draw()
    axes = figure.axes[0]
    frame = axes.get_window_extent()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert max(box.y1 for box in boxes) < frame.y1
    high = axes.transData.transform((0.0, flux_range(spectrum.flux, spectrum.ivar)[1]))[1]
    assert high < min(box.y0 for box in boxes)
    # Not half of the canvas is left to them.
    assert high - frame.y0 > 0.55 * frame.height


@pytest.mark.parametrize("scale", [1e-17, 3e7, 1.0])
def test_ticks_are_plain_numbers(scale: float) -> None:
    made = emission_galaxy(0.1)
    spectrum = Spectrum(made.wavelength, made.flux * scale, made.ivar / scale**2)
    figure = draw(Look(spectrum, "a title", 0.1, lines_for("GALAXY")))
    assert texts_that_overlap(figure) == []
    axes = figure.axes[0]
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert all(len(label) <= 5 for label in labels) and "1e" not in "".join(labels)
    power = {1e-17: "10$^{-17}$", 3e7: "10$^{8}$", 1.0: "unit"}[scale]
    assert power in axes.get_ylabel() and ("10$" in axes.get_ylabel()) == (scale != 1.0)


def test_a_narrow_range_far_above_zero_fills_the_axis() -> None:
    flux = 10.0 + np.linspace(-1.0, 1.0, 4000)
    assert flux_range(flux, np.full(4000, 100.0))[0] > 8.0


def test_a_title_is_broken_between_its_phrases() -> None:
    words = ["a-very-long-name" * 4, "S/N 21.5 per pixel", "GALAXY (p 1.00)"]
    words.append("z = 0.08556 ± 0.00002 (p 1.00)")
    title = draw(Look(emission_galaxy(0.1), "   ".join(words))).get_suptitle()
    assert title.splitlines() == ["   ".join(words[:3]), words[3]]


def test_a_spectrum_draws_itself() -> None:
    import matplotlib.pyplot as plt

    made = emission_galaxy(0.1)
    axes = plotting.new_figure(11, 4).add_subplot()
    assert made.plot(axes, z=0.1, class_="GALAXY") is axes
    assert "Hα" in {text.get_text() for text in axes.texts}
    own = made.plot()
    assert not own.texts and own.figure.get_size_inches().tolist() == [11.0, 4.6]
    plt.close(own.figure)


@pytest.mark.parametrize("n", [2, 30])
def test_a_confusion_matrix(n: int) -> None:
    counts = np.eye(n, dtype=int) * 7
    counts[0, 1] = 3
    axes = plotting.new_figure(6, 6).add_subplot()
    plotting.plot_confusion(axes, counts, [f"class {i}" for i in range(n)])
    numbers = {text.get_text() for text in axes.texts if text.get_text()}
    assert numbers == ({"7", "3"} if n == 2 else set())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "reference")


# --- in the terminal ------------------------------------------------------------------------


def test_a_spectrum_in_dots() -> None:
    look = Look(emission_galaxy(0.1), "a title", 0.1, lines_for("GALAXY"))
    lines = terminal.text_plot(look, 100, colour=False).splitlines()
    assert lines[0] == "a title"
    assert all(len(line) <= 100 for line in lines)
    assert "Hα" in "".join(lines) and "\x1b" not in "".join(lines)
    dotted = [line for line in lines if re.search("[⠁-⣿]", line)]
    assert len(dotted) > 5
    # The strongest line reaches the top where Hα is.
    inside = emission_galaxy(0.1).wavelength
    place = (6564.61 * 1.1 - inside[0]) / (inside[-1] - inside[0])
    top = re.search("[⠁-⣿]", dotted[0])
    assert top and abs((top.start() - terminal.MARGIN) / (100 - terminal.MARGIN) - place) < 0.03
    coloured = terminal.text_plot(look, 100, colour=True)
    assert terminal.CYAN in coloured and terminal.MAGENTA in coloured


def test_the_terminal_is_asked_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    terminal.show(Look(emission_galaxy(0.1), "a title"))
    out = capsys.readouterr().out
    assert "⣀" in out or re.search("[⠁-⣿]", out)
    assert "\x1b_G" not in out and "\x1bP" not in out and "\x1b[c" not in out
