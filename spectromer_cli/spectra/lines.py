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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["galaxy", "qso", "star"]


@dataclass(frozen=True)
class Line:
    """A spectral line or the head of a molecular band.

    Parameters
    ----------
    name : str
        As it is written in the literature.
    wavelength : float
        Rest wavelength in vacuum, Å.
    kind : {"galaxy", "qso", "star"}
        Whose spectra it marks.
    emission : bool
        Seen in emission; otherwise in absorption.
    """

    name: str
    wavelength: float
    kind: Kind
    emission: bool


LINES = (
    # Quasars: broad and high-ionisation lines; Lyman limit to the near ultraviolet.
    Line("Lyman limit", 911.75, "qso", False),
    Line("Lyβ", 1025.72, "qso", True),
    Line("O VI 1034", 1033.82, "qso", True),
    Line("Lyα", 1215.67, "qso", True),
    Line("N V 1240", 1240.81, "qso", True),
    Line("O I 1305", 1305.53, "qso", True),
    Line("C II 1335", 1335.31, "qso", True),
    Line("Si IV + O IV] 1400", 1399.80, "qso", True),
    Line("C IV 1549", 1549.48, "qso", True),
    Line("He II 1640", 1640.42, "qso", True),
    Line("O III] 1666", 1665.85, "qso", True),
    Line("Al III 1857", 1857.40, "qso", True),
    Line("C III] 1909", 1908.73, "qso", True),
    Line("C II] 2326", 2326.00, "qso", True),
    Line("[Ne IV] 2424", 2423.83, "qso", True),
    Line("Mg II 2798", 2799.12, "qso", True),
    Line("[Ne V] 3346", 3346.79, "qso", True),
    Line("[Ne V] 3426", 3426.85, "qso", True),
    Line("Hγ", 4341.68, "qso", True),
    Line("Hβ", 4862.68, "qso", True),
    Line("Hα", 6564.61, "qso", True),
    # Galaxies, emission: gas ionised by young stars or by a nucleus.
    Line("[O II] 3726", 3727.09, "galaxy", True),
    Line("[O II] 3729", 3729.88, "galaxy", True),
    Line("[Ne III] 3869", 3869.86, "galaxy", True),
    Line("Hδ", 4102.89, "galaxy", True),
    Line("Hγ", 4341.68, "galaxy", True),
    Line("[O III] 4363", 4364.44, "galaxy", True),
    Line("He II 4686", 4687.02, "galaxy", True),
    Line("Hβ", 4862.68, "galaxy", True),
    Line("[O III] 4959", 4960.30, "galaxy", True),
    Line("[O III] 5007", 5008.24, "galaxy", True),
    Line("He I 5876", 5877.25, "galaxy", True),
    Line("[O I] 6300", 6302.05, "galaxy", True),
    Line("[O I] 6363", 6365.54, "galaxy", True),
    Line("[N II] 6548", 6549.86, "galaxy", True),
    Line("Hα", 6564.61, "galaxy", True),
    Line("[N II] 6584", 6585.27, "galaxy", True),
    Line("[S II] 6716", 6718.29, "galaxy", True),
    Line("[S II] 6731", 6732.67, "galaxy", True),
    Line("[Ar III] 7136", 7137.77, "galaxy", True),
    Line("[S III] 9069", 9071.1, "galaxy", True),
    Line("[S III] 9531", 9533.2, "galaxy", True),
    # Galaxies, absorption: old stars, and cool gas in the ultraviolet of distant galaxies.
    Line("Fe II 2586", 2586.65, "galaxy", False),
    Line("Fe II 2600", 2600.17, "galaxy", False),
    Line("Mg II 2796", 2796.35, "galaxy", False),
    Line("Mg II 2803", 2803.53, "galaxy", False),
    Line("Ca II K", 3934.78, "galaxy", False),
    Line("Ca II H", 3969.59, "galaxy", False),
    Line("G band", 4305.61, "galaxy", False),
    Line("Mg b", 5176.70, "galaxy", False),
    Line("Na D", 5895.60, "galaxy", False),
    # Stars: lines from hot to cool.
    Line("H10", 3798.98, "star", False),
    Line("H9", 3836.47, "star", False),
    Line("H8", 3890.15, "star", False),
    Line("Hε", 3971.20, "star", False),
    Line("Hδ", 4102.89, "star", False),
    Line("Hγ", 4341.68, "star", False),
    Line("Hβ", 4862.68, "star", False),
    Line("Hα", 6564.61, "star", False),
    Line("He II 4686", 4687.02, "star", False),
    Line("He II 5412", 5413.02, "star", False),
    Line("He I 4471", 4472.75, "star", False),
    Line("He I 5876", 5877.25, "star", False),
    Line("Ca II K", 3934.78, "star", False),
    Line("Ca I 4227", 4227.92, "star", False),
    Line("Mg b1 5184", 5185.05, "star", False),
    Line("Mg b2 5173", 5174.13, "star", False),
    Line("Mg b4 5167", 5168.76, "star", False),
    Line("Fe I 5270", 5271.83, "star", False),
    Line("Na D2 5890", 5891.58, "star", False),
    Line("Na D1 5896", 5897.56, "star", False),
    Line("Li I 6708", 6709.69, "star", False),
    Line("K I 7665", 7667.01, "star", False),
    Line("K I 7699", 7701.08, "star", False),
    Line("Na I 8183", 8185.51, "star", False),
    Line("Na I 8195", 8197.07, "star", False),
    Line("Ca II 8498", 8500.36, "star", False),
    Line("Ca II 8542", 8544.44, "star", False),
    Line("Ca II 8662", 8664.52, "star", False),
    # Stars: molecular bands, by their heads.
    Line("CN 3883", 3884.5, "star", False),
    Line("CN 4216", 4217.2, "star", False),
    Line("CH G band", 4305.6, "star", False),
    Line("C2 4737", 4738.4, "star", False),
    Line("C2 5165", 5166.6, "star", False),
    Line("C2 5636", 5637.1, "star", False),
    Line("MgH 5211", 5212.6, "star", False),
    Line("TiO 4955", 4956.0, "star", False),
    Line("TiO 5167", 5168.2, "star", False),
    Line("TiO 6159", 6160.2, "star", False),
    Line("TiO 7053", 7055.0, "star", False),
    Line("TiO 8432", 8434.3, "star", False),
    Line("CaH 6382", 6383.8, "star", False),
    Line("CaH 6750", 6751.9, "star", False),
    Line("VO 7334", 7336.0, "star", False),
    Line("VO 7851", 7853.2, "star", False),
    Line("FeH 9896", 9898.7, "star", False),
)


def lines_for(kind: Kind) -> tuple[Line, ...]:
    """The lines that mark a kind of object, by wavelength.

    Parameters
    ----------
    kind : {"galaxy", "qso", "star"}

    Returns
    -------
    tuple of Line
    """
    return tuple(sorted((line for line in LINES if line.kind == kind), key=_wavelength))


def _wavelength(line: Line) -> float:
    return line.wavelength
