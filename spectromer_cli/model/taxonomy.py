"""Classes, subclasses and spectral types: their names here, and in the surveys' labels."""

from __future__ import annotations

import math
import re

CLASSES = ("STAR", "GALAXY", "QSO")
STAR_TYPES = ("O", "B", "A", "F", "G", "K", "M", "L", "T", "WD", "CV", "Carbon")
GALAXY_TYPES = ("PASSIVE", "STARFORMING", "STARBURST", "AGN", "BROADLINE")
# WEAKLINE: the survey's pipeline found no broad line that it was sure of.
QSO_TYPES = ("BROADLINE", "WEAKLINE")
# The class that each subclass belongs to, in the order of the model's outputs.
SUBCLASSES = {
    **{f"STAR {name}": "STAR" for name in STAR_TYPES},
    **{f"GALAXY {name}": "GALAXY" for name in GALAXY_TYPES},
    **{f"QSO {name}": "QSO" for name in QSO_TYPES},
}
# Parameters of stars: effective temperature (K), log10 of surface gravity (cm/s²), [Fe/H] (dex).
PARAMETERS = ("teff", "logg", "feh")
# The sequence of spectral types with their decimals, O0 to T9.
SEQUENCE = tuple(f"{letter}{decimal}" for letter in "OBAFGKMLT" for decimal in range(10))

_STAR_TYPE = re.compile(r"^(?:e?sd|usd|d|g)?([OBAFGKMLT])(?:[\d.VI/+:]|$)")


def star_type(label: str) -> str | None:
    """The spectral type in a survey's label.

    Parameters
    ----------
    label : str
        As SDSS, LAMOST, MILES or STELIB write it: "K0III", "F3/F5V (30743)", "WDhotter",
        "sdM2", "Carbon_lines".

    Returns
    -------
    str or None
        One of `STAR_TYPES`; None if the label says nothing clear.
    """
    label = label.strip()
    for word, name in (("WD", "WD"), ("Carbon", "Carbon"), ("CV", "CV")):
        if word in label:
            return name
    match = _STAR_TYPE.match(label)
    return match.group(1) if match else None


_SUBTYPE = re.compile(r"^(?:e?sd|usd|d|g)?([OBAFGKMLT])(\d(?:\.\d)?)")


def star_place(label: str) -> float:
    """The place in `SEQUENCE` of the spectral type in a survey's label.

    Parameters
    ----------
    label : str
        As for `star_type`.

    Returns
    -------
    float
        0 for O0, 10 for B0, … with the decimal of B9.5; NaN if the label gives no decimal.
    """
    match = _SUBTYPE.match(label.strip())
    if not match or star_type(label) != match.group(1):
        return math.nan
    return 10.0 * "OBAFGKMLT".index(match.group(1)) + float(match.group(2))


def subclass_label(class_name: str, subclass: str, lines_classified: bool) -> str | None:
    """The label of the subclass task for a survey's class and subclass.

    Parameters
    ----------
    class_name, subclass : str
        The survey pipeline's.
    lines_classified : bool
        Whether the survey classifies galaxies and quasars by their lines, so that an empty subclass
        means that it found none (SDSS, BOSS, eBOSS).

    Returns
    -------
    str or None
        A key of `SUBCLASSES`; None if there is no clear one.
    """
    if class_name == "STAR":
        name = star_type(subclass)
        return f"STAR {name}" if name else None
    if class_name == "GALAXY":
        for name in ("AGN", "STARBURST", "STARFORMING", "BROADLINE"):
            if name in subclass:
                return f"GALAXY {name}"
        if not subclass and lines_classified:
            return "GALAXY PASSIVE"
    if class_name == "QSO" and lines_classified:
        return "QSO BROADLINE" if "BROADLINE" in subclass else "QSO WEAKLINE"
    return None
