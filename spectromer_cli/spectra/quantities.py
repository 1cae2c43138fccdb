"""What a file says of its own quantities: medium, frame, units, errors and masks, obeyed.

Every reader of files that are not of one survey hands over what it found as `Measured`, and
`spectrum_of` makes a `Spectrum` of it: vacuum, barycentric wavelengths in Å, f_λ and its inverse
variance. What a file does not say and has to be assumed is named in ``meta["flags"]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.spectra.ranks import median
from spectromer_cli.spectra.spectrum import (
    Spectrum,
    air_to_vacuum,
    filling,
    ivar_from_scatter,
    merged,
    refuse_long,
)

# What is said about the input where something had to be assumed or was done to it.
FLAGS = {
    "MEDIUM_ASSUMED": "the file does not say whether its wavelengths are in air or in vacuum",
    "FRAME_ASSUMED": "the file does not say whether its wavelengths are barycentric, "
    "heliocentric or topocentric; they are taken as barycentric (an error of up to 30 km/s)",
    "FLUX_UNIT_ASSUMED": "the flux has no known unit; it is taken as f_λ",
    "NOT_FLUX_CALIBRATED": "the flux is in counts, or divided by the continuum",
    "COLUMNS_GUESSED": "the columns have no names; they are taken by their order",
    "MASK_IGNORED": "the mask would leave less than a tenth of the pixels and is not applied",
    "PIXELS_MERGED": "repeated or overlapping wavelengths were sorted and averaged",
    "REST_FRAME": "the file says that its wavelengths were shifted to the rest frame",
}
# A mask that leaves a smaller share of the pixels is questioned.
MIN_UNMASKED = 0.1


@dataclass
class Column:
    """The values of one quantity, with what the file says about them.

    Parameters
    ----------
    values : array, shape (n,)
    name : str
        Of the column or extension.
    unit : str
        As the file spells it; empty if it gives none.
    description : str
        Comment, UCD or description of this column.
    """

    values: np.ndarray
    name: str = ""
    unit: str = ""
    description: str = ""


@dataclass(kw_only=True)
class Measured:
    """A spectrum as a file holds it, before its quantities are understood.

    Parameters
    ----------
    wavelength, flux : Column
        Shape (n,) each.
    error : Column, optional
        Standard deviation, variance, inverse variance or S/N: by its name and unit.
    mask : Column, optional
        Non-zero marks a bad pixel, unless `good_is` says otherwise.
    good_is : {"zero", "nonzero"}
        Which mask values mark good pixels.
    header : mapping
        Header cards, or the meta data of a table; looked up in any case.
    comments : str
        Comments, history, text above the table.
    medium : {"", "air", "vacuum"}
        What the format fixes; empty: as the file says.
    frame : {"", "barycentric", "heliocentric", "topocentric", "rest"}
        What the format fixes; empty: as the file says.
    custom : {"air", "vacuum"}
        What is assumed where nothing is said.
    flux_is_known : bool
        The format fixes that a flux without unit is f_λ.
    guessed : bool
        The columns were taken by their order.
    numbers : int array, shape (n,), optional
        The place of each pixel in the file, for messages; counted from 1 if not given.
    line : str
        What is counted: "line", "row" or "pixel".
    meta : dict
        Of the `Spectrum`.
    """

    wavelength: Column
    flux: Column
    error: Column | None = None
    mask: Column | None = None
    good_is: Literal["zero", "nonzero"] = "zero"
    header: Mapping[str, Any] = field(default_factory=dict)
    comments: str = ""
    medium: str = ""
    frame: str = ""
    custom: str = "vacuum"
    flux_is_known: bool = False
    guessed: bool = False
    numbers: np.ndarray | None = None
    line: str = "pixel"
    meta: dict[str, Any] = field(default_factory=dict)


def spectrum_of(measured: Measured, *, air: bool | None = None, unit: str = "") -> Spectrum:
    """Make a spectrum of what a file holds.

    Parameters
    ----------
    measured : Measured
    air : bool, optional
        The user says that wavelengths are in air (True) or vacuum (False), whatever the file says.
    unit : str
        The user's unit of wavelength, where the file gives none.

    Returns
    -------
    Spectrum
        Its ``meta`` has ``medium``, ``frame``, ``has_ivar`` (False where errors were estimated)
        and ``flags``, the names in `FLAGS` that apply.

    Raises
    ------
    ReadError
        If the lengths differ or are more than `MAX_PIXELS`, a unit is not one of wavelength or
        flux density, or the wavelengths are damaged.
    """
    refuse_long(np.size(measured.wavelength.values))
    flags = ["COLUMNS_GUESSED"] if measured.guessed else []
    columns = [measured.wavelength, measured.flux, measured.error, measured.mask]
    values = [None if c is None else np.asarray(c.values, np.float64).ravel() for c in columns]
    raw, flux, error, mask = values
    assert raw is not None
    assert flux is not None
    for name, other in (("fluxes", flux), ("errors", error), ("mask values", mask)):
        if other is not None and other.size != raw.size:
            raise ReadError(f"{raw.size} wavelengths, but {other.size} {name}")
    # Wavelength 0, −1 or none at all is padding.
    real = np.isfinite(raw) & (raw != 0) & (raw != -1)
    if not real.any():
        raise ReadError("no wavelength is positive", "check that it is the right column")
    numbers = (np.arange(1, raw.size + 1) if measured.numbers is None else measured.numbers)[real]
    raw, flux = raw[real], flux[real]
    error = None if error is None else error[real]
    mask = None if mask is None else mask[real]

    angstrom = to_angstrom(raw, measured.wavelength, unit)
    wavelength, medium = _to_vacuum(angstrom, measured, air, flags)
    wavelength, frame = _to_barycentre(wavelength, measured, flags)
    flux, factor = _to_flambda(wavelength, flux, measured, flags)
    sigma = _sigma(flux, error, factor, measured)
    if mask is not None:
        bad = mask != 0 if measured.good_is == "zero" else mask == 0
        usable = np.isfinite(flux)
        if (usable & ~bad).sum() < MIN_UNMASKED * usable.sum():
            flags.append("MASK_IGNORED")
        else:
            flux = np.where(bad, np.nan, flux)
    flux, sigma = _in_range(flux, sigma)
    if sigma is None:
        ivar = ivar_from_scatter(np.where(filling(flux), np.nan, flux))
    else:
        good = np.isfinite(flux) & np.isfinite(sigma)
        ivar = np.where(good, np.where(good, sigma, 1.0) ** -2.0, 0.0)
    (wavelength, flux, ivar), changed = merged(
        wavelength, flux, ivar, numbers=numbers, line=measured.line
    )
    if changed:
        flags.append("PIXELS_MERGED")
    meta = measured.meta | {"medium": medium, "frame": frame}
    meta["flags"] = tuple(dict.fromkeys((*measured.meta.get("flags", ()), *flags)))
    if sigma is None:
        meta["has_ivar"] = False
    return Spectrum(wavelength, flux, ivar, meta)


# --- wavelength -----------------------------------------------------------------------------

LOG_NAME = re.compile(r"log_?(10)?[_\W]*(lam|lambda|wave|wavelength|wl)|loglam", re.IGNORECASE)
NATURAL_LOG_NAME = re.compile(r"ln[_\W]*(lam|lambda|wave|wavelength|wl)", re.IGNORECASE)


_UNIT_IN_NAME = re.compile(r"[_\W](nm|um|aa|ang|angstrom|micron|hz|ghz|ev)\W*$", re.IGNORECASE)


def to_angstrom(values: np.ndarray, column: Column, users_unit: str = "") -> np.ndarray:
    """Wavelengths in Å, in whatever unit a file has them; frequencies and energies will do.

    Parameters
    ----------
    values : array, shape (n,)
    column : Column
        Whose name and unit count; ``loglam`` and the like hold log10(λ/Å).
    users_unit : str
        Taken where the file gives no unit that is known.

    Raises
    ------
    ReadError
        If the unit is not one of wavelength, or there is none and the values are not plainly Å.

    Notes
    -----
    Without any unit, values whose median lies between 2500 and 25000 are Å, since no optical
    spectrum reaches there in nm or µm; everything else is refused, not guessed.
    """
    unit, name = column.unit.strip(), column.name.strip()
    if logarithm := re.fullmatch(r"(log10|log|dex|ln)\s*[\(\[ ]?\s*([^\)\]]*)[\)\]]?", unit, re.I):
        base = np.e if logarithm[1].lower() == "ln" else 10.0
        return _in_angstrom(base**values, logarithm[2].strip() or "Angstrom")
    if LOG_NAME.search(name):
        return 10.0**values
    if NATURAL_LOG_NAME.search(name):
        return np.exp(values)
    if not unit and (in_name := _UNIT_IN_NAME.search(name)):
        unit = in_name[1]
    if not _without_medium(unit):
        unit = ""
    if unit and not is_unit(unit):
        if not users_unit and unit.lower() not in NO_UNIT:
            _in_angstrom(values, unit)  # says what is wrong with it
        unit = ""
    unit = unit or users_unit
    if unit:
        return _in_angstrom(values, unit)
    if values[0] in (0.0, 1.0) and values.size > 2 and np.all(np.diff(values) == 1.0):
        raise ReadError(
            "the wavelength column contains pixel numbers", "give the wavelength of each pixel"
        )
    middle = median(values[values > 0]) if (values > 0).any() else float("nan")
    if not 2500.0 <= middle <= 25000.0:
        raise ReadError(
            f"the wavelengths have no unit and are probably not in Å (median {middle:.4g})",
            _unit_hint(middle),
        )
    return values


def _unit_hint(middle: float) -> str:
    """What the wavelengths may be, by their median."""
    if 250.0 <= middle < 2500.0:
        return "if they are in nm: --wavelength-unit nm"
    if 0.25 <= middle < 2.5:
        return "if they are in µm: --wavelength-unit um"
    if 3.4 <= middle <= 4.4:
        return "if they are log10 of Å, name the column loglam"
    return "name the columns wavelength and flux, and give --wavelength-unit"


# What files write where they mean that there is no unit.
NO_UNIT = ("", "none", "unknown", "-", "--", "n/a", "null", "pixel", "pixels", "deg", "degree")
# As files spell units of wavelength, in lower case.
_SPELLINGS = {
    **dict.fromkeys(("a", "å", "aa", "ang", "angs", "angstroem", "angstroms"), "Angstrom"),
    **dict.fromkeys(("angstrom", "ångström", "ångstrom", "0.1nm", "0.1 nm"), "Angstrom"),
    **dict.fromkeys(("nanometer", "nanometers", "nanometre", "nanometres"), "nm"),
    **dict.fromkeys(("micron", "microns", "micrometer", "micrometers", "µm", "μm"), "um"),
    **dict.fromkeys(("meter", "meters", "metre", "metres"), "m"),
}


@lru_cache(maxsize=256)
def is_unit(unit: str) -> bool:
    """Whether a unit is one of wavelength, or of frequency or energy."""
    try:
        _in_angstrom(np.ones(1), unit)
    except ReadError:
        return False
    return True


def _in_angstrom(values: np.ndarray, unit: str) -> np.ndarray:
    from astropy import units

    bare = _without_medium(unit)
    try:
        given = units.Unit(_SPELLINGS.get(bare.lower(), bare))
        return np.asarray(
            (values * given).to_value("Angstrom", equivalencies=units.spectral()), np.float64
        )
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise ReadError(
            f"{unit!r} is not a unit of wavelength",
            "use Angstrom, nm or um, or set --wavelength-unit",
        ) from error


def _without_medium(unit: str) -> str:
    """``Angstrom`` of ``Angstrom (air)`` or ``Angstroms, vacuum``: the medium is read elsewhere."""
    bare = re.sub(r"[\(\[,;]?\s*\b(in\s+)?(air|vac|vacuum)\b\s*[\)\]]?", "", unit, flags=re.I)
    return bare.strip().strip("[]()").strip()


# --- air or vacuum --------------------------------------------------------------------------

_WORD = re.compile(r"(?<![a-z])(?:(?P<vacuum>vac(?:uum)?)|(?P<air>air))(?![a-z])", re.IGNORECASE)
_TO_VACUUM = re.compile(r"air\W*_?(to|2|->|→|into)_?\W*vac", re.IGNORECASE)
_TO_AIR = re.compile(r"vac(uum)?\W*_?(to|2|->|→|into)_?\W*air", re.IGNORECASE)
_ABOUT_WAVELENGTH = re.compile(r"wave|lambda|λ|spectral|angstrom|\bwl\b", re.IGNORECASE)
# Products of one medium that do not all say so, by INSTRUME, TELESCOP or ORIGIN: 6dFGS (Jones et
# al. 2004), MUSE (Weilbacher et al. 2020) and GALAH (Kos et al. 2017) calibrate in air; STScI gives
# vacuum wavelengths for HST and JWST.
_PRODUCTS = {
    "6df": "air", "muse": "air", "hermes-2df": "air",
    "hst": "vacuum", "jwst": "vacuum", "stis": "vacuum", "nirspec": "vacuum",
}  # fmt: skip


@lru_cache(maxsize=1024)
def medium_in(text: str) -> str:
    """The medium that a name, a unit or a phrase says; empty if it says none, or both.

    Parameters
    ----------
    text : str
        Such as ``wave_air``, ``Angstrom (vacuum)`` or ``converted from air to vacuum``.
    """
    if _TO_VACUUM.search(text):
        return "vacuum"
    if _TO_AIR.search(text):
        return "air"
    said = {match.lastgroup for match in _WORD.finditer(text.replace("_", " "))}
    return str(said.pop()) if len(said) == 1 else ""


def medium_of(measured: Measured) -> str:
    """Find in which medium the file says that its wavelengths are.

    What stands nearest to the wavelengths counts first: the column's name, its unit and
    description, the header, the comments, the kind of product.

    Returns
    -------
    {"air", "vacuum", ""}
        Empty if it does not say.
    """
    column = measured.wavelength
    if re.search(r"em\.wl\S*obs\.atmos", column.description, re.IGNORECASE):
        return "air"  # ESO Science Data Products Standard: the UCD of wavelengths in air
    nearest = (column.name, column.unit, column.description.replace(".", " "))
    about = (line for line in measured.comments.splitlines() if _ABOUT_WAVELENGTH.search(line))
    said = (
        next(filter(None, map(medium_in, nearest)), "")
        or _medium_of_header(measured.header)
        or next(filter(None, map(medium_in, about)), "")
    )
    if said:
        return said
    for name in ("INSTRUME", "TELESCOP", "ORIGIN"):
        product = str(card(measured.header, name) or "").strip().lower()
        if product in _PRODUCTS:
            return _PRODUCTS[product]
    if card(measured.header, "PYP_SPEC") is not None:  # PypeIt, unless it is told otherwise
        return "vacuum"
    # FITS 4.0, table 25: WAVE is the vacuum wavelength. Pipelines that know no better write it
    # too, so that anything else the file says comes before, and a header without the unit, which
    # the standard takes as metres, says nothing.
    kind = str(card(measured.header, "CTYPE1") or "").strip().upper()
    keeps = is_unit(str(card(measured.header, "CUNIT1") or "").strip())
    return "vacuum" if keeps and re.fullmatch(r"WAVE(-[A-Z0-9]{3})?", kind) else ""


def _medium_of_header(header: Mapping[str, Any]) -> str:
    for name in ("VACUUM", "VACWAVE"):
        value = str(card(header, name)).strip().upper()
        if value in ("T", "TRUE", "1", "YES"):
            return "vacuum"
        if value in ("F", "FALSE", "0", "NO"):
            return "air"
    if str(card(header, "CTYPE1") or "").strip().upper().startswith("AWAV"):
        return "air"
    names = ("AIRORVAC", "AIR_VAC", "AIRVAC", "WAVEMED", "MEDIUM", "VACUUM", "CTYPE1", "CUNIT1",
             "WAT1_001", "WCSNAME", "METADATA")  # fmt: skip
    return next(filter(None, (medium_in(str(card(header, name) or "")) for name in names)), "")


def _to_vacuum(
    wavelength: np.ndarray, measured: Measured, air: bool | None, flags: list[str]
) -> tuple[np.ndarray, str]:
    if air is not None:
        medium = "air" if air else "vacuum"
    else:
        medium = measured.medium or medium_of(measured)
    if not medium:
        medium = measured.custom
        flags.append("MEDIUM_ASSUMED")
    return (air_to_vacuum(wavelength) if medium == "air" else wavelength), medium


# --- the frame of velocities ----------------------------------------------------------------

_FRAMES = {
    "BARYCENT": "barycentric", "BARYCENTRIC": "barycentric", "BARY": "barycentric",
    "HELIOCEN": "heliocentric", "HELIOCENTRIC": "heliocentric", "HELIO": "heliocentric",
    "TOPOCENT": "topocentric", "TOPOCENTRIC": "topocentric", "OBSERVED": "topocentric",
    "GEOCENTR": "topocentric", "SOURCE": "rest", "REST": "rest",
}  # fmt: skip
# The velocity to add, v_bary or v_helio of the observer towards the object [km/s], where a header
# has it beside a topocentric scale.
_CORRECTIONS = (
    "BERV", "HELIOVEL", "VHELIO", "VBARY", "BARYCORR", "HELICORR", "HIERARCH ESO QC VRAD BARYCOR",
    "ESO QC VRAD BARYCOR", "HIERARCH ESO QC VRAD HELICOR", "ESO QC VRAD HELICOR",
    "HIERARCH ESO DRS BERV", "ESO DRS BERV",
)  # fmt: skip
_NOT_CORRECTED = re.compile(
    r"\b(no|not|without|un)\W?\w*\W*(\w+\W+){0,3}(helio|bary)", re.IGNORECASE
)


def frame_of(measured: Measured) -> str:
    """Find in which frame the file says that its wavelengths are.

    Returns
    -------
    {"barycentric", "heliocentric", "topocentric", "rest", ""}
        Empty if it does not say.
    """
    header = measured.header
    for name in ("SPECSYS", "SPECSYS1", "VELFRAME", "REFFRAME", "VEL_TYPE", "FRAMEVEL"):
        said = str(card(header, name) or "").strip().upper()
        if said in _FRAMES:
            return _FRAMES[said]
    for name, frame in (("HELIO", "heliocentric"), ("HELIOCEN", "heliocentric"),
                        ("BARYCORR", "barycentric"), ("BARYCOR", "barycentric")):  # fmt: skip
        value = str(card(header, name)).strip().upper()
        if value in ("T", "TRUE", "F", "FALSE"):
            return frame if value in ("T", "TRUE") else "topocentric"
    if card(header, "HELIO_RV") is not None:
        return "heliocentric"
    if number(header, "BARYEFF") is not None:  # HERMES: what was corrected for (Kos et al. 2017)
        return "barycentric"
    # IRAF's dopcor writes what it did to the wavelengths; rvcorrect only what it would be.
    done = " ".join(str(card(header, f"DOPCOR{i:02d}") or "") for i in range(1, 10)).strip()
    if done:
        return "heliocentric" if "vhelio" in done.lower() else "rest"
    text = "\n".join((measured.wavelength.name, measured.wavelength.description, measured.comments))
    return next(filter(None, map(_frame_in, text.splitlines())), "")


def _frame_in(line: str) -> str:
    """The frame that a line of text says; empty if it says none."""
    if re.search(r"rest.?(frame|wave)|(wave\w*|lambda).?rest", line, re.IGNORECASE):
        return "rest"
    for word, frame in (("helio", "heliocentric"), ("bary", "barycentric")):
        if re.search(rf"(?<![a-z]){word}(centr|cor|-|\s|$)", line, re.IGNORECASE):
            return "topocentric" if _NOT_CORRECTED.search(line) else frame
    return "topocentric" if re.search(r"\btopocentric\b", line, re.IGNORECASE) else ""


def _to_barycentre(
    wavelength: np.ndarray, measured: Measured, flags: list[str]
) -> tuple[np.ndarray, str]:
    """Wavelengths as seen from the Solar System's barycentre, and the frame they were in."""
    frame = measured.frame or frame_of(measured)
    if frame == "rest":
        flags.append("REST_FRAME")
    elif frame == "topocentric":
        velocity = _observers_velocity(measured.header)
        if velocity is None:
            flags.append("FRAME_ASSUMED")
        else:
            return wavelength * (1.0 + velocity / LIGHT_SPEED), frame
    elif not frame:
        flags.append("FRAME_ASSUMED")
        return wavelength, "barycentric"
    return wavelength, frame


def _observers_velocity(header: Mapping[str, Any]) -> float | None:
    """The observer's barycentric velocity towards the object [km/s]; None if it is not known.

    As the header gives it, or by astropy from position and time. Without the observatory's own
    position a pole is taken, whose velocity differs by 0.5 km/s at most.
    """
    for name in _CORRECTIONS:
        velocity = number(header, name)
        if velocity is not None and 0 < abs(velocity) < 35.0:
            return velocity
    position, time = _position(header), _time(header)
    if position is None or time is None:
        return None
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    places = (
        [f"HIERARCH ESO TEL {name}" for name in ("GEOLON", "GEOLAT", "GEOELEV")],
        ["LONG_OBS", "LAT_OBS", "ALT_OBS"],
        ["LON-OBS", "LAT-OBS", "ALT-OBS"],
        ["SITELONG", "SITELAT", "SITEALT"],
    )
    known = ([number(header, name) for name in names] for names in places)
    geodetic = next((place for place in known if None not in place), None)
    geocentric = [number(header, f"OBSGEO-{axis}") for axis in "XYZ"]
    if geodetic is not None:
        site = EarthLocation.from_geodetic(*geodetic)
    elif None not in geocentric:
        site = EarthLocation.from_geocentric(*geocentric, unit=units.m)
    else:
        # At a pole, the Earth's rotation adds nothing.
        site = EarthLocation.from_geodetic(0.0, 90.0)
    try:
        # Bundled tables do: an error in the Earth's rotation is far below 1 m/s here.
        with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
            when = Time(time, format="mjd", scale="utc")
            towards = SkyCoord(*position, unit="deg")
            correction = towards.radial_velocity_correction("barycentric", when, site)
            return float(correction.to_value("km/s"))
    except Exception:  # a time that no table covers
        return None


def _position(header: Mapping[str, Any]) -> tuple[float, float] | None:
    """Right ascension and declination of a header [deg, ICRS or J2000]; None if there are none."""
    equinox = number(header, "EQUINOX")
    if equinox is not None and abs(equinox - 2000.0) > 1.0:
        return None
    for ra_name, dec_name in (("RA", "DEC"), ("RA_OBJ", "DEC_OBJ"), ("RA_TARG", "DEC_TARG"),
                              ("OBJRA", "OBJDEC"), ("PLUG_RA", "PLUG_DEC")):  # fmt: skip
        ra, dec = card(header, ra_name), card(header, dec_name)
        if ra is None or dec is None:
            continue
        hours = ":" in str(ra) or len(str(ra).split()) == 3
        degrees = sexagesimal(ra), sexagesimal(dec)
        if degrees[0] is None or degrees[1] is None:
            continue
        right = degrees[0] * (15.0 if hours else 1.0)
        if 0.0 <= right <= 360.0 and -90.0 <= degrees[1] <= 90.0:
            return right, degrees[1]
    return None


def sexagesimal(value: Any) -> float | None:
    """A number, or three of them as in ``-17:20:02.4``; None if it is neither."""
    parts = str(value).strip().replace(":", " ").split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) not in (1, 2, 3):
        return None
    total = sum(abs(part) / 60.0**power for power, part in enumerate(numbers))
    return -total if parts[0].startswith("-") else total


def _time(header: Mapping[str, Any]) -> float | None:
    """The middle of the exposure as modified Julian date (UTC); None if it is not known."""
    exposure = number(header, "EXPTIME") or number(header, "EXPOSURE") or 0.0
    half = 0.5 * exposure / 86400.0 if 0.0 < exposure < 40000.0 else 0.0
    middle = number(header, "TMID")
    if middle is not None and 30000.0 < middle < 90000.0:
        return middle
    for name in ("MJD-OBS", "MJD", "UTMJD"):
        mjd = number(header, name)
        # A whole number is a night, not a time.
        if mjd is not None and 30000.0 < mjd < 90000.0 and mjd % 1.0:
            return mjd if name == "UTMJD" else mjd + half  # 2dfdr: the middle
    for name in ("JD", "JULDATE"):
        jd = number(header, name)
        if jd is not None and 2430000.0 < jd < 2490000.0:
            return jd - 2400000.5 + half
    date = str(card(header, "DATE-OBS") or "").strip()
    if "T" not in date:
        clock = next((str(card(header, name)).strip() for name in
                      ("UT", "UTSTART", "TIME-OBS", "UTC", "UTC-OBS")
                      if ":" in str(card(header, name) or "")), "")  # fmt: skip
        date = f"{date[:10]}T{clock}" if clock else ""
    if not date:
        return None
    from astropy.time import Time

    try:
        return float(Time(date, format="isot", scale="utc").mjd) + half
    except ValueError:
        return None


# --- flux -----------------------------------------------------------------------------------

_COUNTS = re.compile(
    r"(?<![a-z])(counts?|cts?|adus?|electrons?|e-|dn|du|photons?|ph)(?![a-z])(?!.*(cm|m)\W*\^?\*{0,2}\W*-?2)",
    re.IGNORECASE,
)
_FNU_NAME = re.compile(r"(^|_)(f|flux)_?(nu|jy|mjy|ujy)$|^fnu", re.IGNORECASE)
_MAGNITUDE_NAME = re.compile(r"(^|_)(ab)?mags?($|_)|magnitude", re.IGNORECASE)
_LOG_FLUX_NAME = re.compile(r"^log_?(10)?_?(f|flux|flam|fnu)", re.IGNORECASE)
_ARBITRARY = re.compile(r"(arb(itrary|\.)?|rel(ative|\.)?)(\W+(flux\W+)?units?)?|a\.? ?u\.?", re.I)
_NORMALISED = re.compile(r"continuum.?normali|^norm(ali[sz]ed)?(_?flux)?$", re.IGNORECASE)


def _to_flambda(
    wavelength: np.ndarray, flux: np.ndarray, measured: Measured, flags: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Flux as f_λ in some unit, and what an error in the flux's own unit is multiplied by."""
    column = measured.flux
    unit, name = column.unit.strip(), column.name.strip()
    if unit.lower() in NO_UNIT or _ARBITRARY.fullmatch(unit):
        unit = ""
    one = np.ones_like(flux)
    if (
        re.search(r"\b(ab|st)?mag(nitudes?)?\b", unit, re.IGNORECASE)
        or (not unit and _MAGNITUDE_NAME.search(name))
    ):  # fmt: skip
        return _from_magnitudes(wavelength, flux, f"{unit} {name} {column.description}")
    if logarithm := re.fullmatch(r"(log10|log|dex)\s*[\(\[ ]\s*([^\]]*?)[\)\]]?", unit, re.I):
        unit, flux = logarithm[2], 10.0**flux
        flux, factor = _to_flambda(
            wavelength, flux, replace(measured, flux=Column(flux, "flux", unit)), flags
        )
        return flux, np.log(10.0) * flux
    if not unit and _LOG_FLUX_NAME.search(name):
        flux = 10.0**flux
        return flux, np.log(10.0) * flux
    continuum = str(card(measured.header, "CONTNORM") or "").strip().upper() in ("T", "TRUE")
    if continuum or _NORMALISED.search(name) or _NORMALISED.search(unit):
        flags.append("NOT_FLUX_CALIBRATED")
        return flux, one
    if _COUNTS.search(unit) or (not unit and re.search(r"(^|_)counts?($|_)", name, re.I)):
        flags.append("NOT_FLUX_CALIBRATED")
        return flux, one
    kind = _flux_kind(unit) if unit else ""
    if not kind:
        if _FNU_NAME.search(name):
            kind = "nu"
        else:
            known = measured.flux_is_known or re.search(r"lam|^flam", name, re.IGNORECASE)
            if not known:
                flags.append("FLUX_UNIT_ASSUMED")
            kind = "lambda"
    if kind == "other":
        raise ReadError(
            f"the flux is in {unit!r}, which is not a flux density",
            "convert it to erg/s/cm2/Angstrom or Jy",
        )
    # f_λ = f_ν c/λ²; a photon's energy is hc/λ. Only the shape matters: at 5000 Å the factor is 1.
    if kind == "lambda":
        return flux, one
    power = {"nu": -2, "photons": -1, "photons nu": -3}[kind]
    factor = (wavelength / 5000.0) ** power
    return flux * factor, factor


def _from_magnitudes(
    wavelength: np.ndarray, values: np.ndarray, said: str
) -> tuple[np.ndarray, np.ndarray]:
    """f_λ of magnitudes of a system that is said, AB or ST (Oke & Gunn 1983; Koornneef 1986)."""
    if re.search(r"\bst_?mags?\b|\bmag_?\(?st\b|\bst magn", said, re.IGNORECASE):
        power = 0
    elif re.search(r"\bab_?mags?\b|mag\w*_?\W*ab\b|\bab\b", said, re.IGNORECASE):
        power = -2
    else:
        raise ReadError(
            "the flux is in magnitudes of an unstated system",
            "convert it to a flux density, or name the unit mag(AB) or mag(ST)",
        )
    finite = np.isfinite(values)
    if not finite.any():
        raise ReadError("every magnitude is missing")
    flux = 10.0 ** (-0.4 * (values - np.median(values[finite]))) * (wavelength / 5000.0) ** power
    return flux, 0.4 * np.log(10.0) * flux


@lru_cache(maxsize=256)
def _flux_kind(text: str) -> str:
    """Per wavelength, per frequency, in photons, "other"; empty for a unit that cannot be read.

    Areas on the sky, pixels and the distances of luminosities are no matter.
    """
    from astropy import units

    lowered = re.sub(r"\s+", " ", text.lower()).strip()
    if lowered in ("flam", "f_lambda", "flambda"):
        return "lambda"
    if lowered in ("fnu", "f_nu"):
        return "nu"
    _, unit = _parsed(text)
    if unit is None:
        return _flux_kind_by_words(lowered)
    if unit.physical_type == "dimensionless":
        return ""
    kinds = {
        "lambda": units.erg / units.s / units.cm**2 / units.AA,
        "nu": units.erg / units.s / units.cm**2 / units.Hz,
        "photons": units.photon / units.s / units.cm**2 / units.AA,
        "photons nu": units.photon / units.s / units.cm**2 / units.Hz,
    }
    beside = [units.dimensionless_unscaled, units.sr, units.cm**-2, units.pix]
    for kind, density in kinds.items():
        for extra in beside:
            for scaled in (unit * extra, unit / extra):
                if scaled.is_equivalent(density):
                    return kind
    return "other"


def _flux_kind_by_words(lowered: str) -> str:
    """The kind of a unit of which only words can be made out."""
    if re.search(r"jy\b", lowered) or ("erg" in lowered and "hz" in lowered):
        return "nu"
    per_wavelength = re.search(r"ang|\baa?\b|/a|å|nm|um|micron", lowered)
    return "lambda" if re.search(r"erg|watt|\bw\b", lowered) and per_wavelength else ""


_SCALE = re.compile(
    r"(?P<number>\d+\.?\d*)(?:[eE](?P<exponent>[+-]?\d+))?"
    r"\s*(?:(?:\*\*|\^)?\s*\(?(?P<power>[+-]?\d+)\)?)?\s*[*.x× ]?\s*"
)
_POWER_OF_ALL = re.compile(
    r"(?P<scale>[^(]*)\((?P<inner>.+)\)\s*(?:\*\*|\^)\s*\(?(?P<power>[+-]?\d)\)?"
)


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[float, Any]:
    """Scale and astropy unit of what a file writes; the unit is None if it cannot be read."""
    bare = text.strip().strip("[]").strip()
    if whole := _POWER_OF_ALL.fullmatch(bare):
        scale, unit = _parsed(whole["inner"])
        power = int(whole["power"])
        factor = _scale(whole["scale"])[0]
        return factor * scale**power, None if unit is None else unit**power
    scale, bare = _scale(bare)
    return scale, _unit(bare)


def _scale(text: str) -> tuple[float, str]:
    """The number at the beginning of a unit, as in 1E-17 or 10**(-17), and the rest."""
    found = _SCALE.match(text)
    if not found:
        return 1.0, text
    value = float(found["number"])
    if found["power"]:  # 10**-17, 10^-17, 10(-17), and 10-17
        value = value ** int(found["power"])
    return value * 10.0 ** int(found["exponent"] or 0), text[found.end() :]


def _unit(bare: str) -> Any:
    """An astropy unit of a text without a scale; None if it cannot be read."""
    import warnings

    from astropy import units

    bare = bare if any(c.islower() for c in bare) else bare.lower()
    for pattern, usual in (
        (r"Å", "Angstrom"),
        (r"\^", "**"),
        (r"(?i)(?<![a-z])a{1,2}(?![a-z])", "Angstrom"),  # in a flux, A is Å and not Ampere
        (r"(?i)\bang(s|stroms?|stroem)?\b", "Angstrom"),
        (r"(?i)\b(photon|count|erg)s\b", r"\1"),
        (r"(?i)\bsec(onds?)?\b", "s"),
        (r"\b(micron|μm|µm)\b", "um"),
        (r"(?<=[a-zA-Z])([+-]?\d+)", r"**(\1)"),  # cm2, cm-2, s-1
    ):
        bare = re.sub(pattern, usual, bare)
    for attempt in (bare, bare.replace(".", " ")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return units.Unit(attempt)
        except (ValueError, TypeError, ZeroDivisionError):
            continue
    return None


# --- errors ---------------------------------------------------------------------------------

_KINDS = {
    "fraction": re.compile(r"^(rel(ative)?|frac(tional)?)_?(flux_?)?(err|unc|sig)", re.IGNORECASE),
    "ivar": re.compile(r"ivar|inv(erse)?_?var|invvar|weight|nivar", re.IGNORECASE),
    "variance": re.compile(r"^var($|_|iance)|variance|_var$|^stat$|fluxvar|var_?flux", re.I),
    "snr": re.compile(r"^(snr|s_n|s/n|sn|sn_?ratio|signal.?to.?noise)$|_snr$", re.IGNORECASE),
}


def error_kind(error: Column, flux_unit: str) -> str:
    """What errors are: "sigma", "variance", "ivar", "snr", "percent" or "fraction" of the flux.

    The name decides where it is plain; a name such as ``error`` may be either a standard deviation
    or a variance, and the unit decides.
    """
    for kind, name in _KINDS.items():
        if name.search(error.name.strip()):
            return kind
    unit = error.unit.strip()
    if unit.startswith("%") or unit.lower() in ("percent", "per cent", "pct"):
        return "percent"
    own, of_flux = (_parsed(u)[1] if u.strip() else None for u in (unit, flux_unit))
    if own is not None and of_flux is not None and of_flux.physical_type != "dimensionless":
        if own.is_equivalent(of_flux**2):
            return "variance"
        if own.is_equivalent(of_flux**-2):
            return "ivar"
    return "sigma"


def _sigma(
    flux: np.ndarray, error: np.ndarray | None, factor: np.ndarray, measured: Measured
) -> np.ndarray | None:
    """Standard deviation of f_λ, NaN where there is none; None if no pixel has one."""
    if error is None or measured.error is None:
        return None
    kind = error_kind(measured.error, measured.flux.unit)
    with np.errstate(all="ignore"):
        own = np.where(error > 0, error, np.nan)
        if kind == "snr":
            sigma = np.abs(flux) / own
        elif kind in ("percent", "fraction"):
            sigma = np.abs(flux) * own * (0.01 if kind == "percent" else 1.0)
        else:
            powers = {"sigma": 1.0, "variance": 0.5, "ivar": -0.5}
            scale = _scale_of(measured.error, measured.flux, kind)
            sigma = own ** powers[kind] * np.abs(factor) * scale
    sigma = np.where(np.isfinite(sigma) & (sigma > 0), sigma, np.nan)
    return sigma if np.isfinite(sigma[np.isfinite(flux)]).any() else None


def _in_range(flux: np.ndarray, sigma: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Flux and error divided by a power of ten, where their squares would leave float64."""
    level = np.abs(flux[np.isfinite(flux) & (flux != 0)])
    if not level.size or 1e-100 < (middle := median(level)) < 1e100:
        return flux, sigma
    scale = 10.0 ** -np.floor(np.log10(middle))
    return flux * scale, None if sigma is None else sigma * scale


def _scale_of(error: Column, flux: Column, kind: str) -> float:
    """What an error is multiplied by to be in the unit of the flux, if both give their units."""
    if not error.unit.strip() or not flux.unit.strip() or error.unit.strip() == flux.unit.strip():
        return 1.0
    (scale, own), (flux_scale, of_flux) = (_parsed(text) for text in (error.unit, flux.unit))
    power = {"sigma": 1, "variance": 2, "ivar": -2}[kind]
    if own is None or of_flux is None or not own.is_equivalent(of_flux**power):
        return 1.0
    ratio = float(own.to(of_flux**power)) * scale / flux_scale**power
    return float(ratio ** (1.0 / power)) if ratio > 0 and np.isfinite(ratio) else 1.0


# --- what a header says ---------------------------------------------------------------------


def card(header: Mapping[str, Any], name: str) -> Any:
    """The value of a card in any case; None if there is none, or it cannot be read."""
    try:
        if name in header:
            return header[name]
        if isinstance(header, dict):  # the meta data of a table, in whatever case
            return next((v for key, v in header.items() if str(key).upper() == name), None)
    except Exception:  # astropy raises on cards that break the standard
        return None
    return None


def number(header: Mapping[str, Any], name: str) -> float | None:
    """The number that a card holds; None if there is none, or it is not a finite number."""
    try:
        value = float(card(header, name))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def comments_of(header: Any) -> str:
    """COMMENT and HISTORY of a FITS header, a line each, and the comment of VACUUM-like cards."""
    lines: list[str] = []
    for name in ("COMMENT", "HISTORY"):
        try:
            lines += [str(line) for line in header[name]]
        except Exception:  # none, or one that cannot be read
            continue
    return "\n".join(lines)


def positions_of(header: Mapping[str, Any]) -> dict[str, float]:
    """``ra`` and ``dec`` of a header [deg], where it has them."""
    found = _position(header)
    return {} if found is None else {"ra": found[0], "dec": found[1]}
