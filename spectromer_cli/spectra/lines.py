"""The well-known lines and bands of galaxies, quasars and stars, 900 to 10,000 Å.

Wavelengths are vacuum, also above 2000 Å. Names keep the customary numbers of the optical,
which are air wavelengths: [O III] 5007 lies at 5008.24 Å.

Sources
-------
Atomic lines: NIST Atomic Spectra Database (https://www.nist.gov/pml/atomic-spectra-database),
Ritz wavelengths; unresolved multiplets are means weighted by strength. Blended quasar lines,
the G band, Mg b and Na D of galaxies: the SDSS line list
(https://classic.sdss.org/dr6/algorithms/linestable.html).
Heads of molecular bands: Pearse & Gaydon 1976, The Identification of Molecular Spectra, for
C2, CN, CH, MgH and TiO; Kirkpatrick, Henry & McCarthy 1991, ApJS 77, 417, for CaH, VO and
TiO beyond 7000 Å; both in air, converted with `spectrum.air_to_vacuum`. Wing-Ford (FeH):
Wing & Ford 1969, PASP 81, 527.
Spectral types that show a line at survey resolution: Gray & Corbally 2009, Stellar Spectral
Classification, chapters 3 to 8 for O to M and carbon stars, 13 for white dwarfs; Kirkpatrick,
Henry & McCarthy 1991 for M; Kirkpatrick et al. 1999, ApJ 519, 802, for L; Burgasser et al.
2003, ApJ 594, 510, for T; Warner 1995, Cataclysmic Variable Stars, chapter 2.
Galaxies with lines of ionised gas: Osterbrock & Ferland 2006, Astrophysics of Gaseous Nebulae and
Active Galactic Nuclei, chapters 13 and 14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

ClassName = Literal["STAR", "GALAXY", "QSO"]

SEQUENCE = "OBAFGKMLT"
# Types beside the sequence; a survey's label holds their names, as in "Carbon_lines".
BESIDE = ("WD", "CV", "Carbon")
# Galaxies whose gas is ionised, in whose spectra it is hot, and by whose nucleus.
GAS = "STARFORMING STARBURST AGN BROADLINE"
HOT_GAS = "STARBURST AGN BROADLINE"
NUCLEAR = "AGN BROADLINE"
# Of unknown type, a star gets the atomic lines of this one, a galaxy the lines of this one.
TYPICAL, TYPICAL_GALAXY = "G2", "STARFORMING"
# Names of bands begin so.
MOLECULES = ("CN ", "CH ", "C2 ", "MgH ", "TiO ", "CaH ", "VO ", "FeH ")


@dataclass(frozen=True)
class Line:
    """A spectral line or the head of a molecular band.

    Parameters
    ----------
    name : str
        As it is written in the literature.
    wavelength : float
        Rest wavelength in vacuum, Å.
    class_name : {"STAR", "GALAXY", "QSO"}
        Whose spectra it marks.
    emission : bool
        Seen in emission; otherwise in absorption.
    types : str
        That show it: spectral types of a stellar line, as in "F5–L Carbon", subclasses of a
        galaxy's. All of the class, if empty.
    """

    name: str
    wavelength: float
    class_name: ClassName
    emission: bool
    types: str = ""

    @property
    def molecular(self) -> bool:
        """Whether it is a molecular band of stars."""
        return self.name.startswith(MOLECULES)


LINES = (
    # Quasars: broad and high-ionisation lines; Lyman limit to the near ultraviolet.
    Line("Lyman limit", 911.75, "QSO", False),
    Line("Lyβ", 1025.72, "QSO", True),
    Line("O VI 1034", 1033.82, "QSO", True),
    Line("Lyα", 1215.67, "QSO", True),
    Line("N V 1240", 1240.81, "QSO", True),
    Line("O I 1305", 1305.53, "QSO", True),
    Line("C II 1335", 1335.31, "QSO", True),
    Line("Si IV + O IV] 1400", 1399.80, "QSO", True),
    Line("C IV 1549", 1549.48, "QSO", True),
    Line("He II 1640", 1640.42, "QSO", True),
    Line("O III] 1666", 1665.85, "QSO", True),
    Line("Al III 1857", 1857.40, "QSO", True),
    Line("C III] 1909", 1908.73, "QSO", True),
    Line("C II] 2326", 2326.00, "QSO", True),
    Line("[Ne IV] 2424", 2423.83, "QSO", True),
    Line("Mg II 2798", 2799.12, "QSO", True),
    Line("[Ne V] 3346", 3346.79, "QSO", True),
    Line("[Ne V] 3426", 3426.85, "QSO", True),
    Line("Hγ", 4341.68, "QSO", True),
    Line("Hβ", 4862.68, "QSO", True),
    Line("Hα", 6564.61, "QSO", True),
    # Galaxies, emission: gas ionised by young stars or by a nucleus.
    Line("[O II] 3726", 3727.09, "GALAXY", True, GAS),
    Line("[O II] 3729", 3729.88, "GALAXY", True, GAS),
    Line("[Ne III] 3869", 3869.86, "GALAXY", True, GAS),
    Line("Hδ", 4102.89, "GALAXY", True, GAS),
    Line("Hγ", 4341.68, "GALAXY", True, GAS),
    Line("[O III] 4363", 4364.44, "GALAXY", True, HOT_GAS),
    Line("He II 4686", 4687.02, "GALAXY", True, NUCLEAR),
    Line("Hβ", 4862.68, "GALAXY", True, GAS),
    Line("[O III] 4959", 4960.30, "GALAXY", True, GAS),
    Line("[O III] 5007", 5008.24, "GALAXY", True, GAS),
    Line("He I 5876", 5877.25, "GALAXY", True, GAS),
    Line("[O I] 6300", 6302.05, "GALAXY", True, GAS),
    Line("[O I] 6363", 6365.54, "GALAXY", True, NUCLEAR),
    Line("[N II] 6548", 6549.86, "GALAXY", True, GAS),
    Line("Hα", 6564.61, "GALAXY", True, GAS),
    Line("[N II] 6584", 6585.27, "GALAXY", True, GAS),
    Line("[S II] 6716", 6718.29, "GALAXY", True, GAS),
    Line("[S II] 6731", 6732.67, "GALAXY", True, GAS),
    Line("[Ar III] 7136", 7137.77, "GALAXY", True, HOT_GAS),
    Line("[S III] 9069", 9071.1, "GALAXY", True, GAS),
    Line("[S III] 9531", 9533.2, "GALAXY", True, GAS),
    # Galaxies, absorption: old stars, and cool gas in the ultraviolet of distant galaxies.
    Line("Fe II 2586", 2586.65, "GALAXY", False),
    Line("Fe II 2600", 2600.17, "GALAXY", False),
    Line("Mg II 2796", 2796.35, "GALAXY", False),
    Line("Mg II 2803", 2803.53, "GALAXY", False),
    Line("Ca II K", 3934.78, "GALAXY", False),
    Line("Ca II H", 3969.59, "GALAXY", False),
    Line("G band", 4305.61, "GALAXY", False),
    Line("Mg b", 5176.70, "GALAXY", False),
    Line("Na D", 5895.60, "GALAXY", False),
    # Stars: lines from hot to cool, and the spectral types that show them.
    Line("H10", 3798.98, "STAR", False, "B–F WD"),
    Line("H9", 3836.47, "STAR", False, "B–F WD"),
    Line("H8", 3890.15, "STAR", False, "B–F WD"),
    Line("Hε", 3971.20, "STAR", False, "O–F WD"),
    Line("Hδ", 4102.89, "STAR", False, "O–G WD CV"),
    Line("Hγ", 4341.68, "STAR", False, "O–G WD CV"),
    Line("Hβ", 4862.68, "STAR", False, "O–K WD CV"),
    Line("Hα", 6564.61, "STAR", False, "O–M WD CV Carbon"),
    Line("He II 4686", 4687.02, "STAR", False, "O–B0 CV"),
    Line("He II 5412", 5413.02, "STAR", False, "O–B0"),
    Line("He I 4471", 4472.75, "STAR", False, "O–B WD CV"),
    Line("He I 5876", 5877.25, "STAR", False, "O–B WD CV"),
    Line("Ca II K", 3934.78, "STAR", False, "A–M"),
    Line("Ca II H", 3969.59, "STAR", False, "A–M"),
    Line("Ca I 4227", 4227.92, "STAR", False, "G–M"),
    Line("Mg b1 5184", 5185.05, "STAR", False, "F–M3"),
    Line("Mg b2 5173", 5174.13, "STAR", False, "F–M3"),
    Line("Mg b4 5167", 5168.76, "STAR", False, "F–M3"),
    Line("Fe I 5270", 5271.83, "STAR", False, "F5–K"),
    Line("Na D2 5890", 5891.58, "STAR", False, "F5–L Carbon"),
    Line("Na D1 5896", 5897.56, "STAR", False, "F5–L Carbon"),
    Line("Li I 6708", 6709.69, "STAR", False, "L"),
    Line("K I 7665", 7667.01, "STAR", False, "M–T"),
    Line("K I 7699", 7701.08, "STAR", False, "M–T"),
    Line("Na I 8183", 8185.51, "STAR", False, "K5–L"),
    Line("Na I 8195", 8197.07, "STAR", False, "K5–L"),
    Line("Ca II 8498", 8500.36, "STAR", False, "F–M6"),
    Line("Ca II 8542", 8544.44, "STAR", False, "F–M6"),
    Line("Ca II 8662", 8664.52, "STAR", False, "F–M6"),
    # Stars: molecular bands, by their heads.
    Line("CN 3883", 3884.5, "STAR", False, "G–K Carbon"),
    Line("CN 4216", 4217.2, "STAR", False, "G–K Carbon"),
    Line("CH G band", 4305.6, "STAR", False, "F2–K Carbon"),
    Line("C2 4737", 4738.4, "STAR", False, "Carbon"),
    Line("C2 5165", 5166.6, "STAR", False, "Carbon"),
    Line("C2 5636", 5637.1, "STAR", False, "Carbon"),
    Line("MgH 5211", 5212.6, "STAR", False, "K–M3"),
    Line("TiO 4955", 4956.0, "STAR", False, "K7–M"),
    Line("TiO 5167", 5168.2, "STAR", False, "K7–M"),
    Line("TiO 6159", 6160.2, "STAR", False, "K7–M"),
    Line("TiO 7053", 7055.0, "STAR", False, "K5–L2"),
    Line("TiO 8432", 8434.3, "STAR", False, "M–L2"),
    Line("CaH 6382", 6383.8, "STAR", False, "K7–M"),
    Line("CaH 6750", 6751.9, "STAR", False, "K7–M"),
    Line("VO 7334", 7336.0, "STAR", False, "M5–L1"),
    Line("VO 7851", 7853.2, "STAR", False, "M5–L1"),
    Line("FeH 9896", 9898.7, "STAR", False, "M3–L"),
)


def lines_for(class_name: str, spectral_type: str = "") -> tuple[Line, ...]:
    """The lines that mark a class of objects.

    Parameters
    ----------
    class_name : str
        STAR, GALAXY or QSO; any other has the lines of galaxies.
    spectral_type : str, optional
        As the model or a survey writes it: "G", "K5", "sdM2", "WD", "DA"; of a galaxy its
        subclass: "PASSIVE", "AGN BROADLINE". Only the lines that such an object shows are given.
        If it is unknown, these are the atomic lines of a star like the Sun, or the lines of a
        galaxy that forms stars.

    Returns
    -------
    tuple of Line
        By wavelength.
    """
    known = class_name if class_name in ("STAR", "QSO") else "GALAXY"
    lines = [line for line in LINES if line.class_name == known]
    if known == "STAR":
        star = _places(spectral_type)
        if star is None:
            lines = [line for line in lines if not line.molecular]
        lines = [line for line in lines if _shows(star or _places(TYPICAL), line.types)]
    elif known == "GALAXY":
        words = {"PASSIVE", *GAS.split()} & set(spectral_type.split()) or {TYPICAL_GALAXY}
        lines = [line for line in lines if not line.types or words & set(line.types.split())]
    return tuple(sorted(lines, key=lambda line: line.wavelength))


def spectral_type_of(row: Any) -> str:
    """The spectral type or subclass in a row of results, as detailed as it is; empty if none.

    Parameters
    ----------
    row : mapping or astropy Row
        Perhaps with ``star_type`` or ``subclass``.
    """
    for name in ("star_type", "subclass"):
        try:
            value = row[name]
        except KeyError:
            continue
        if value:
            return str(value)
    return ""


# White dwarfs by their spectra: DA, DB4, DAH (Sion et al. 1983, ApJ 269, 253).
_DEGENERATE = re.compile(r"D[ABCOQZX]")
_LABEL = re.compile(rf"(?:e?sd|usd|d|g)?([{SEQUENCE}])(?:(\d(?:\.\d)?)|[.VI/+:]|$)")


def _places(label: str) -> tuple[float, float] | None:
    """First and last place of a type, 0 for O0, 10 for B0: a letter alone stands for all ten."""
    if _DEGENERATE.match(label.strip()):
        label = "WD"
    for number, name in enumerate(BESIDE, start=len(SEQUENCE)):
        if name in label:
            return 10.0 * number, 10.0 * number
    found = _LABEL.match(label.strip())
    if not found:
        return None
    first = 10.0 * SEQUENCE.index(found[1])
    return (first, first + 9.9) if found[2] is None else (first + float(found[2]),) * 2


def _shows(star: tuple[float, float] | None, types: str) -> bool:
    """Whether the places of a star meet types such as "F5–L Carbon"."""
    for part in types.split():
        first, _, last = part.partition("–")
        low, high = _places(first), _places(last or first)
        if star and low and high and low[0] <= star[1] and star[0] <= high[1]:
            return True
    return False
