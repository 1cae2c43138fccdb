"""Lines: where they lie, and which of them an object shows."""

import numpy as np
import pytest
from astropy.table import Table

from spectromer_cli.spectra.lines import LINES, TYPICAL, lines_for, spectral_type_of
from spectromer_cli.spectra.spectrum import air_to_vacuum


@pytest.mark.parametrize(
    ("name", "air"),
    [
        ("[O III] 5007", 5006.84), ("[O II] 3726", 3726.03), ("[S II] 6731", 6730.82),
        ("Hα", 6562.79), ("Hβ", 4861.33), ("Ca II K", 3933.66), ("Ca II H", 3968.47),
        ("Na D2 5890", 5889.95), ("Ca II 8542", 8542.09), ("He II 4686", 4685.70),
        ("Li I 6708", 6707.84), ("[O I] 6300", 6300.30), ("Mg b1 5184", 5183.60),
        ("C2 5165", 5165.2),
    ],
)  # fmt: skip
def test_lines_are_vacuum(name: str, air: float) -> None:
    vacuum = float(air_to_vacuum(np.array(air)))
    found = [line.wavelength for line in LINES if line.name == name]
    assert found
    assert found == pytest.approx([vacuum] * len(found), abs=0.06)


def test_lines_agree_with_the_numbers_in_their_names() -> None:
    for line in LINES:
        number = line.name.split()[-1]
        if number.isdigit():
            assert abs(line.wavelength - int(number)) < 0.0004 * line.wavelength + 0.6, line


@pytest.mark.parametrize("class_name", ["GALAXY", "QSO", "STAR"])
def test_lines_for_gives_each_line_once_by_wavelength(class_name: str) -> None:
    lines = lines_for(class_name)
    wavelengths = [line.wavelength for line in lines]
    assert len(lines) > 15
    assert wavelengths == sorted(wavelengths)
    assert len({line.name for line in lines}) == len(lines)
    assert {line.class_name for line in lines} == {class_name}
    assert len(set(LINES)) == len(LINES)


def test_a_class_of_ones_own_has_the_lines_of_galaxies() -> None:
    assert lines_for("SUPERNOVA") == lines_for("GALAXY")


def names(spectral_type: str) -> set[str]:
    return {line.name for line in lines_for("STAR", spectral_type)}


BALMER = {"Hα", "Hβ", "Hγ", "Hδ"}


@pytest.mark.parametrize(
    ("spectral_type", "shown", "not_shown"),
    [
        ("O5", {"He II 4686", "He I 4471", *BALMER}, {"Mg b1 5184", "Na D1 5896", "Ca II K"}),
        ("A0V", {"H9", "Ca II K", *BALMER}, {"He II 4686", "CH G band", "Mg b1 5184"}),
        (
            "G2",
            {"Mg b1 5184", "Ca II K", "Ca II H", "CH G band", "Na D1 5896", *BALMER},
            {"C2 5165", "TiO 5167", "VO 7334", "He II 4686", "He I 4471", "K I 7665"},
        ),
        ("sdM6", {"TiO 7053", "VO 7334", "CaH 6750", "Na I 8183"}, {"C2 5165", "Hδ", "He I 4471"}),
        ("M0", {"TiO 5167", "Mg b1 5184"}, {"VO 7334", "FeH 9896"}),
        ("L", {"K I 7665", "FeH 9896"}, {"Hβ", "Ca II K"}),
        ("T5", {"K I 7665"}, {"Hα", "TiO 7053", "FeH 9896"}),
        ("Carbon_lines", {"C2 5165", "CN 4216", "Na D1 5896"}, {"TiO 5167", "Mg b1 5184"}),
        ("WDhotter", {"H9", *BALMER}, {"Mg b1 5184", "TiO 7053"}),
        ("DA1.5", {"H9", *BALMER}, {"Mg b1 5184", "TiO 7053"}),
        ("CV", {"He II 4686", "Hα"}, {"Mg b1 5184"}),
    ],
)
def test_a_star_shows_the_lines_of_its_type(
    spectral_type: str, shown: set[str], not_shown: set[str]
) -> None:
    assert shown <= names(spectral_type)
    assert not not_shown & names(spectral_type)


@pytest.mark.parametrize("spectral_type", ["", "unknown", "GALAXY"])
def test_a_star_of_unknown_type_shows_the_common_lines(spectral_type: str) -> None:
    lines = lines_for("STAR", spectral_type)
    common = {"Ca II K", "Ca II H", "Mg b1 5184", "Na D1 5896", "Ca II 8542", *BALMER}
    assert common <= {line.name for line in lines}
    assert not any(line.molecular for line in lines)
    assert {line.name for line in lines} < names(TYPICAL)


def test_a_galaxy_shows_the_lines_of_its_subclass() -> None:
    def of(subclass: str) -> set[str]:
        return {line.name for line in lines_for("GALAXY", subclass)}

    stars = {"Ca II K", "Ca II H", "G band", "Mg b", "Na D"}
    gas = {"Hα", "Hβ", "[O III] 5007", "[O II] 3729", "[N II] 6584"}
    assert stars <= of("PASSIVE") and not any(
        line.emission for line in lines_for("GALAXY", "PASSIVE")
    )
    for subclass in ("STARFORMING", "STARBURST", "AGN", "BROADLINE", "AGN BROADLINE", ""):
        assert stars | gas <= of(subclass)
    assert "He II 4686" in of("AGN") and "He II 4686" not in of("STARFORMING")
    assert of("") == of("K5") == of("STARFORMING")  # the type of a star is none of a galaxy
    assert lines_for("QSO", "WEAKLINE") == lines_for("QSO")


def test_a_letter_alone_stands_for_all_its_subtypes() -> None:
    assert names("M") == names("M0") | names("M3") | names("M9")


def test_the_spectral_type_of_a_row() -> None:
    table = Table({"star_type": ["K5", ""], "subclass": ["K", "WD"], "class": ["STAR", "STAR"]})
    assert [spectral_type_of(row) for row in table] == ["K5", "WD"]
    assert spectral_type_of({"star_type": None, "subclass": "M"}) == "M"
    assert spectral_type_of({"class": "STAR"}) == ""
