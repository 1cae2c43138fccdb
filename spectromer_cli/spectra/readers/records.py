"""What tables with a spectrum a row have in common, in FITS, HDF5 and Parquet.

Which arrays make a spectrum, whose it is, and what its format fixes. Each container
has a reader of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.quantities import Column, Measured, medium_of, spectrum_of
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import ReadOptions, Source
from spectromer_cli.spectra.spectrum import Spectrum, joined, refuse_long

# Multimodal Universe: flat columns begin with this, or are the fields of a column of this name.
PREFIX = "spectrum_"

_ID = ("object_id", "targetid", "sparcl_id", "specid", "obsid", "id", "object", "name", "source_id",
       "specobjid", "_healpix_29")  # fmt: skip
# What says whose spectra they are, the most particular first.
_SURVEY = ("obs_collection", "survey", "data_release", "dataset")
# Where a survey's own result stands, and what it is called here.
_ANSWERS: dict[str, tuple[str, ...]] = {
    "survey_class": ("spectype", "class"),
    "survey_subclass": ("subtype", "subclass"),
    "survey_z": ("redshift", "z"),
}
_PLACE: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "target_ra", "raj2000"),
    "dec": ("dec", "target_dec", "dej2000"),
}
_NUMBERS = ("targetid", "plate", "mjd", "fiberid", "obsid")
# The columns beside the spectra that count; a catalogue may have hundreds.
SCALARS = (
    *_ID, *_SURVEY, *_NUMBERS, *(name for known in _ANSWERS.values() for name in known),
    *(name for known in _PLACE.values() for name in known),
)  # fmt: skip


@dataclass
class Said:
    """What a container says beside the cells, for all and by column unit and description."""

    header: Mapping[str, Any] = field(default_factory=dict)
    comments: str = ""
    units: dict[Any, str] = field(default_factory=dict)
    descriptions: dict[Any, str] = field(default_factory=dict)


# --- which columns make a spectrum ------------------------------------------------------------

# Where an array stands: the names of the columns or groups around it, and its own.
Place = tuple[str, ...]
_ARMS = ("b", "g", "r", "z", "blue", "green", "red", "uvb", "vis", "nir")
_CONTAINERS = ("spectra", "spectrum", "spec")


@dataclass(frozen=True)
class Found:
    """The arrays that make a spectrum.

    Parameters
    ----------
    container : str
        The column or group that holds them; empty for columns of their own.
    arms : dict
        Of each arm, role → place; one without name if there are no arms.
    names : dict
        Of each arm, the plain names of all its arrays, by place.
    """

    container: str
    arms: dict[str, dict[str, Place]]
    names: dict[str, dict[Place, str]]

    @property
    def places(self) -> list[Place]:
        """All places that are read."""
        return list(dict.fromkeys(p for roles in self.arms.values() for p in roles.values()))


def find(places: Iterable[Place]) -> list[Found]:
    """Find the spectra that the arrays of a table make.

    Parameters
    ----------
    places : iterable of tuple of str
        Where the arrays stand.

    Returns
    -------
    list of Found
        Several, if a row holds spectra of several surveys. Arms are known by ``b``, ``r``, ``z``
        and the like in a name: ``spectra_b``, ``spectrum.b``, ``b_flux``, ``flux_b``; they are
        not asked for where the same container has the whole spectrum.
    """
    groups: dict[str, dict[str, dict[Place, str]]] = {}
    for place in places:
        arms: list[str] = []
        words = [_without_arm(part, arms) for part in ("_".join(place[:-1]), place[-1])]
        container = "spectrum" if words[0] in _CONTAINERS else words[0]
        groups.setdefault(container, {}).setdefault(arms[0] if arms else "", {})[place] = words[1]
    # One axis of wavelengths may stand beside all.
    common = {
        place: name
        for place, name in groups.get("", {}).get("", {}).items()
        if columns.find([name], columns.WAVELENGTH)
    }
    found = []
    for container, by_arm in groups.items():
        arms_found: dict[str, dict[str, Place]] = {}
        for arm, names in by_arm.items():
            by_name = {name: place for place, name in reversed(names.items())}
            beside = {name: place for place, name in common.items()}
            roles = (
                columns.find_spectrum(by_name, PREFIX)
                or columns.find_spectrum(by_name)
                or (columns.find_spectrum(beside | by_name) if not arm else None)
            )
            if roles:
                both = beside | by_name
                arms_found[arm] = {role: both[name] for role, name in roles.items()}
        if "" in arms_found:
            arms_found = {"": arms_found[""]}
        if arms_found:
            found.append(Found(container, arms_found, {a: by_arm[a] for a in arms_found}))
    return found


def _without_arm(name: str, arms: list[str]) -> str:
    """The name in lower case without that of an arm, which `arms` takes."""
    words = [word for word in name.strip().lower().split("_") if word]
    arm = next((word for word in words if word in _ARMS), None)
    if arm is None:
        return name.strip().lower()
    arms.append(arm)
    words.remove(arm)
    return "_".join(words)


# --- a row --------------------------------------------------------------------------------------


def spectrum_of_row(
    found: Found,
    cells: Mapping[Place, np.ndarray | None],
    scalars: dict[str, Any],
    said: Said,
    options: ReadOptions,
    source: Source,
    row: int,
) -> Spectrum:
    """Make a spectrum of the cells of a row; its arms are joined.

    Parameters
    ----------
    found : Found
    cells : mapping
        The arrays by place; None where there is none.
    scalars : dict
        The other cells.
    said : Said
        Units and descriptions by place.
    options : ReadOptions
    source : Source
    row : int

    Raises
    ------
    ReadError
        If there is no wavelength or no flux, or there are more than `MAX_PIXELS` pixels.
    """
    meta = meta_of(scalars, source, row)
    product = _fixes_medium(found, scalars, meta["survey"])
    parts = []
    for arm, roles in found.arms.items():
        wavelength, flux = cells.get(roles["wavelength"]), cells.get(roles["flux"])
        if wavelength is None or flux is None or not len(wavelength) or not len(flux):
            continue
        if len(found.arms) > 1 and not np.any(np.nan_to_num(wavelength) > 0):  # no such arm
            continue
        refuse_long(max(len(wavelength), len(flux)))
        names = found.names[arm]
        of = {
            role: Column(
                values, names.get(place, place[-1].lower()).removeprefix(PREFIX),
                said.units.get(place, ""), said.descriptions.get(place, ""),
            )
            for role, place in roles.items()
            if (values := cells.get(place)) is not None and len(values)
        }  # fmt: skip
        measured = Measured(
            wavelength=of["wavelength"],
            flux=of["flux"],
            error=of.get("error"),
            mask=of.get("mask"),
            good_is=columns.good_is(
                of["mask"].name if "mask" in of else "", names.values(), said.header
            ),
            header=said.header,
            comments=said.comments,
            frame="heliocentric" if product else "",
            flux_is_known=product,
            meta=meta,
        )
        if product and not medium_of(measured):
            measured.medium = "vacuum"
        parts.append(spectrum_of(measured, air=options.air, unit=options.wavelength_unit))
    if not parts:
        raise ReadError(
            "the row has no spectrum: its wavelength or flux is empty", "remove such rows"
        )
    return joined(parts)


# Surveys by what a release or a collection is called, and what SURVEY is called in DESI.
_KNOWN_SURVEYS = {
    "desi": "DESI", "eboss": "eBOSS", "boss": "BOSS", "segue": "SEGUE", "sdss": "SDSS",
    "lamost": "LAMOST",
}  # fmt: skip
_DESI_SURVEY = re.compile(r"main|sv\d|cmx|special")


def survey_in(text: str) -> str:
    """Whose spectra they are, by the name of a release or a collection.

    Parameters
    ----------
    text : str
        Such as ``DESI-DR1``, ``mmu_desi_edr_sv3`` or ``sv1``.

    Returns
    -------
    str
        As the readers call the survey; of one that is not known, `text` before its first hyphen.
    """
    lowered = text.strip().lower()
    if _DESI_SURVEY.fullmatch(lowered):
        return "DESI"
    known = (name for key, name in _KNOWN_SURVEYS.items() if key in lowered)
    return next(known, text.strip().split("-")[0])


def _fixes_medium(found: Found, scalars: Mapping[str, Any], survey: str) -> bool:
    """Whether the format fixes vacuum wavelengths, heliocentric, and f_λ.

    SPARCL does; so do Multimodal Universe and the HATS tables of DESI, SDSS and LAMOST, but not
    those of other surveys.
    """
    if columns.find(scalars, ("sparcl_id", "data_release")) is not None:
        return True
    if survey and survey not in _KNOWN_SURVEYS.values():
        return False
    names = {name for by_place in found.names.values() for name in by_place.values()}
    flat = any(name.startswith(PREFIX) for name in names)
    names = {name.removeprefix(PREFIX) for name in names}
    has_errors = bool(names & {"ivar", "mask", "lsf_sigma"})
    of_desi = found.arms.keys() == {"b", "r", "z"} and "ivar" in names
    return flat or bool(survey) or of_desi or (
        found.container == "spectrum" and "lambda" in names and has_errors
    )  # fmt: skip


def is_product(names: Mapping[str, str], record: Mapping[str, Any]) -> bool:
    """Whether a row is of Multimodal Universe or SPARCL: vacuum wavelengths, and f_λ.

    Parameters
    ----------
    names : mapping
        Of the columns that make the spectrum.
    record : mapping
        All cells of the row.
    """
    return any(name.lower().startswith(PREFIX) for name in names.values()) or (
        columns.find(record, ("sparcl_id", "data_release")) is not None
    )


def meta_of(record: dict[str, Any], source: Source, row: int) -> dict[str, Any]:
    """What the cells of a row say of the object, as `Spectrum.meta` has it."""
    scalars = {name: value for name, value in record.items() if np.ndim(value) == 0}

    def get(known: tuple[str, ...]) -> Any:
        """The first that is given, and not a missing value."""
        cells = (scalars[name] for k in known if (name := columns.find(scalars, (k,))) is not None)
        return next((c for c in cells if c is not None and _text(c) not in ("", "nan")), None)

    identity = get(_ID)
    release = get(_SURVEY)
    meta: dict[str, Any] = {
        "survey": "" if release is None else survey_in(_text(release)),
        "object_id": f"{source.path.stem}[{row}]" if identity is None else _text(identity),
    }
    for name in _NUMBERS:
        value = get((name,))
        if isinstance(value, int | np.integer):
            meta[name] = int(value)
    for key, known in _PLACE.items():
        value = get(known)
        if value is not None:
            meta[key] = float(value)
    for key, known in _ANSWERS.items():
        value = get(known)
        if value is not None:
            meta[key] = float(value) if key == "survey_z" else _text(value)
    return meta


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    # Some tables hold what Python writes for bytes.
    written = re.fullmatch(r"b(['\"])(.*)\1", text)
    return (written[2] if written else text).strip()
