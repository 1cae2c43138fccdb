"""FITS images that hold spectra: the flux along the first axis, its wavelengths in the header.

One-dimensional images with a spectral WCS, the bands and multispec images of IRAF, rows of
wavelength, flux and error, files with an extension for each quantity (MPDAF, linetools, HERMES,
VIMOS), and the fibres of 2dF (2dfdr, Marz). Images of the sky and of a slit are none of these.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.quantities import (
    NO_UNIT,
    Column,
    Measured,
    card,
    is_unit,
    medium_of,
    number,
    positions_of,
    spectrum_of,
    to_angstrom,
)
from spectromer_cli.spectra.readers import columns
from spectromer_cli.spectra.readers.base import (
    Part,
    ReadOptions,
    Source,
    Spectra,
    file_stem,
    header_of,
    is_arm,
    spectra_of_parts,
)
from spectromer_cli.spectra.spectrum import Spectrum, ivar_from_scatter, refuse_long

# Fewer pixels are no spectrum; more rows are an image of a slit, unless a table says what they are.
MIN_PIXELS, MAX_ROWS = 50, 10
# Those of an image, which become float64: 2 GB.
MAX_VALUES = 250_000_000
# From so many orders on, a file of different ranges is an echelle spectrum and not a few arms.
MIN_ORDERS = 5

# What the extensions of one spectrum are called, beside the names of columns.
_NAMES = {
    "wavelength": columns.WAVELENGTH,
    "flux": (*columns.FLUX, "primary", "sci", "science", "data", "object"),
    "error": (*columns.ERROR, "relative_error"),
    "mask": columns.MASK,
}
# Extensions with such a word are not the object's own flux, error or mask.
_BESIDE = {
    "sky", "model", "continuum", "cont", "raw", "arc", "flat", "background", "bkg", "normalized",
    "normalised", "norm", "telluric", "teluric", "fit", "template", "response", "scattered",
    "rwss", "resolution", "res", "lsf", "disp",
}  # fmt: skip
# Rows as their labels say (GAMA, 2dFGRS, 6dFGS, IRAF).
_LABELS = (
    ("", re.compile(r"unreduced|raw|sky|background|badpix|continuum|normali|not used", re.I)),
    ("variance", re.compile(r"varian", re.I)),
    ("ivar", re.compile(r"ivar|inverse", re.I)),
    ("sigma", re.compile(r"st(andar)?d.?dev|sigma|error|noise|uncert", re.I)),
    ("wavelength", re.compile(r"wavelength|lambda", re.I)),
    ("mask", re.compile(r"mask|quality|flag", re.I)),
    ("flux", re.compile(r"spectrum|flux|object|reduced|science|counts", re.I)),
)


@dataclass
class _Rows:
    """One spectrum of an image: which of its rows are what; wavelengths may stand in the header."""

    flux: np.ndarray
    wavelength: Column | None = None
    error: Column | None = None
    mask: Column | None = None
    guessed: bool = False


@dataclass(eq=False)
class _Set:
    """The images of one spectrum, or of as many as their rows are."""

    tag: str
    hdus: dict[str, Any] = field(default_factory=dict)
    guessed: bool = False


def identify(source: Source) -> bool:
    """Whether there is an image of few rows, or of many that a table of fibres describes."""
    if source.kind != "fits":
        return False
    try:
        return bool(_sets(source, _images(source.handle))[0])
    except ReadError:
        return True  # to be said in words


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra of all images: a row, an aperture, an extension or a fibre each.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Air, and the unit where the header has none.

    Returns
    -------
    Spectra
        Arms of one object are joined. Images that do not say are taken to be in air, as IRAF
        calibrates.

    Raises
    ------
    ReadError
        If there is no wavelength scale, or the orders of an echelle spectrum are not merged.
    """
    hdus = source.handle
    fibres = _fibres(hdus)
    found: list[Part] = []
    sets, left_out = _sets(source, _images(hdus))
    for images in sets:
        if fibres is not None and _count(images.hdus["flux"]) == len(fibres.data):
            parts, aside = _of_fibres(source, images, fibres, options)
            found += parts
            left_out += aside
            continue
        try:
            found += _of_set(source, images, options)
        except ReadError as error:
            if len(sets) == 1:
                raise
            found.append(Part(images.tag, "", _raising(error)))  # the others are read
    if not found and left_out:
        raise ReadError(f"no spectrum is that of an object: {', '.join(left_out)}")
    spectra = spectra_of_parts(source, found)
    spectra.left_out = ", ".join(left_out)
    return spectra


def _raising(error: ReadError) -> Callable[[], Spectrum]:
    def get() -> Spectrum:
        raise error

    return get


# --- which images are there -----------------------------------------------------------------


def _shape(hdu: Any) -> tuple[int, ...]:
    """Of an image with axes of one pixel left out, except the last; empty if it is none."""
    if not getattr(hdu, "is_image", False) or not hdu.shape:
        return ()
    return (*(n for n in hdu.shape[:-1] if n != 1), hdu.shape[-1])


def _count(hdu: Any) -> int:
    """How many rows an image has."""
    return int(np.prod(_shape(hdu)[:-1], dtype=int))


def _fibres(hdus: Any) -> Any:
    """The table that says what each row of an image is, as 2dfdr writes it; None without one."""
    return next((h for h in hdus if re.fullmatch(r"FIB(RE|ER)S?(_\w+)?", h.name.upper())
                 and hasattr(h, "columns")), None)  # fmt: skip


def _is_multispec(header: Any) -> bool:
    said = f"{card(header, 'CTYPE1')} {card(header, 'WAT0_001')} {card(header, 'WAT1_001')}"
    return "multispe" in said.lower()


def _images(hdus: Any) -> list[Any]:
    """The images that may hold spectra."""
    fibres = _fibres(hdus)
    rows = None if fibres is None else len(fibres.data)
    return [
        hdu
        for hdu in hdus
        if (shape := _shape(hdu))
        and shape[-1] >= MIN_PIXELS
        and (_count(hdu) in (rows, 1) or _is_multispec(hdu.header)
             or (_count(hdu) <= MAX_ROWS
                 and (len(shape) == 2 or card(hdu.header, "BANDID1") is not None)))
    ]  # fmt: skip


def _role(name: str) -> tuple[str, str, str]:
    """What an extension is by its name, the word that says so, and the rest, as B of FLUX_B."""
    words = re.split(r"[\s_.\-]+", name.strip().lower())
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            run = "_".join(words[start : start + length])
            for role, known in _NAMES.items():
                if run in known:
                    return role, run, " ".join(words[:start] + words[start + length :])
    return "", "", " ".join(words)


def _sets(source: Source, images: list[Any]) -> tuple[list[_Set], list[str]]:
    """The images of each spectrum, by the names of the extensions, and what is left out."""
    if unnamed := _by_order(images):
        return [unnamed], []
    sets: list[_Set] = []
    beside: list[tuple[str, str, Any]] = []
    others: list[_Set] = []  # extensions called by an object or an arm, or by nothing
    for hdu in images:
        role, _, tag = _role(hdu.name)
        if _BESIDE & set(tag.split()):
            continue
        version = str(hdu.ver) if hdu.ver and hdu.ver > 1 else ""
        tag = f"{tag} {version}".strip()
        if role == "flux":
            sets.append(_Set(tag, {"flux": hdu}))
        elif role:
            beside.append((role, tag, hdu))
        elif _scale_key(hdu) is not None:
            others.append(_Set(tag, {"flux": hdu}))
    new, unknown = _own_spectra(sets, others)
    sets, arms = _without_parts(sets + new)
    places = {id(hdu): place for place, hdu in enumerate(source.handle)}
    for role, tag, hdu in beside:
        own = [s for s in sets if s.tag == tag]
        before = [s for s in own if places[id(s.hdus["flux"])] < places[id(hdu)]]
        if role != "wavelength":
            own = before[-1:] or own[:1]
        for images_of in own or (sets if role == "wavelength" else []):
            if _shape(hdu)[-1] == _shape(images_of.hdus["flux"])[-1]:
                images_of.hdus.setdefault(role, hdu)
    return sets, arms + unknown


def _own_spectra(sets: list[_Set], others: list[_Set]) -> tuple[list[_Set], list[str]]:
    """Which extensions of no known name are spectra of their own, and what is left out.

    Beside a flux, one of its scale is its sky, its continuum or the like, unless it is of another
    object; one of another scale is an arm if it is called so, or by nothing.
    """
    objects = {_object(s.hdus["flux"]) for s in sets}
    scales = {_scale_key(s.hdus["flux"]) for s in sets}
    own, left_out = [], []
    for images in others:
        hdu = images.hdus["flux"]
        foreign = _object(hdu) not in ("", *objects)
        new_scale = _scale_key(hdu) not in scales
        if not sets or foreign or (new_scale and (not images.tag or is_arm(images.tag))):
            own.append(images)
        elif new_scale or not images.tag:
            left_out.append(f"an extension {hdu.name}".rstrip() + " that is not known")
    return own, left_out


def _object(hdu: Any) -> str:
    return str(card(hdu.header, "OBJECT") or "").strip()


def _scale_key(hdu: Any) -> tuple[Any, ...] | None:
    """What tells one wavelength scale from another; None for an image without a scale."""
    if not _is_multispec(hdu.header):
        try:
            _linear(hdu.header, _shape(hdu)[-1])
        except ReadError:
            return None
    return (_shape(hdu)[-1], *(card(hdu.header, n) for n in ("CRVAL1", "CD1_1", "CDELT1")))


def _by_order(images: list[Any]) -> _Set | None:
    """Flux, error and wavelength in images without names, as older linetools writes them."""
    unnamed = [h for h in images if h.name.upper() in ("", "PRIMARY") and len(_shape(h)) == 1]
    if len(unnamed) < 2 or len({_shape(h) for h in unnamed}) > 1 or unnamed[0] is not images[0]:
        return None
    values = [_data(hdu).ravel() for hdu in unnamed]
    scale = next((i for i in range(1, len(values)) if _is_scale(values[i])), None)
    found = _Set("", {"flux": unnamed[0]}, guessed=True)
    if scale is not None:
        found.hdus["wavelength"] = unnamed[scale]
    error = next((i for i in range(1, len(values)) if i != scale), None)
    if error is not None and _error_kind(values[0], values[error]):
        found.hdus["error"] = unnamed[error]
    return found if len(found.hdus) > 1 else None


def _without_parts(sets: list[_Set]) -> tuple[list[_Set], list[str]]:
    """The sets that are the result, and how many others stand beside it.

    6dFGS has the arms V and R beside VR, the Liverpool Telescope's SPRAT has SPEC_NONSS and SPEC_SS
    beside FLUX.
    """
    tags = [s.tag for s in sets]
    for i, tag in enumerate(tags):
        others = tags[:i] + tags[i + 1 :]
        if len(others) > 1 and all(others) and sorted(tag) == sorted("".join(others)):
            return [sets[i]], [f"{len(others)} arms that {tag.upper()} joins"]
    plain = [s for s in sets if not s.tag]
    scales = {_scale_key(s.hdus["flux"]) for s in plain}
    steps = [s for s in sets if s.tag and _scale_key(s.hdus["flux"]) in scales]
    steps = [s for s in steps if not s.tag.isdigit()]
    names = ", ".join(s.hdus["flux"].name for s in steps)
    left_out = [f"{names} beside {plain[0].hdus['flux'].name}"] if steps else []
    return [s for s in sets if s not in steps], left_out


# --- the values of an image -----------------------------------------------------------------


def _data(hdu: Any) -> np.ndarray:
    """The values of an image as float64, as the header scales them.

    Raises
    ------
    ReadError
        If the scale cannot be understood, or there are too many values for spectra.
    """
    refuse_long(hdu.shape[-1])
    if np.prod(hdu.shape, dtype=float) > MAX_VALUES:
        raise ReadError(f"an image of {hdu.shape} values is too large for spectra")
    scale = [card(hdu.header, name) for name in ("BSCALE", "BZERO")]
    if any(isinstance(value, str) for value in scale):
        # Headers of text cards carry along the scale of the raw frame's 16-bit integers.
        is_left = (number(hdu.header, "BSCALE") or 1.0, number(hdu.header, "BZERO") or 0.0) in (
            (1.0, 0.0), (1.0, 32768.0),
        )  # fmt: skip
        if not is_left or number(hdu.header, "BITPIX") not in (-32.0, -64.0):
            raise ReadError(
                f"BSCALE and BZERO are texts, {scale[0]!r} and {scale[1]!r}: the scale of the flux "
                "is not known",
                "write them as numbers",
            )
        place, shape = hdu.fileinfo(), hdu.shape
        place["file"].seek(place["datLoc"])
        kind = np.dtype(f">f{-hdu.header['BITPIX'] // 8}")
        raw = place["file"].read(int(np.prod(shape)) * kind.itemsize)
        return np.frombuffer(raw, kind).reshape(shape).astype(np.float64)
    if number(hdu.header, "BSCALE") == 0.0:
        raise ReadError("BSCALE is 0, so the flux cannot be recovered", "download the file again")
    return np.asarray(hdu.data, np.float64)


def _is_scale(values: np.ndarray) -> bool:
    """Whether values can be wavelengths: positive, and running one way throughout."""
    values = values[np.isfinite(values) & (values != 0)]
    if values.size < MIN_PIXELS or (values < 0).any():
        return False
    steps = np.diff(values)
    pixels = np.allclose(steps, 1.0) and values[0] <= 1.5
    return bool(((steps > 0).all() or (steps < 0).all()) and not pixels)


def _error_kind(flux: np.ndarray, values: np.ndarray) -> Literal["", "sigma", "variance"]:
    """What values beside a flux are, if they fit its scatter; empty if they do not."""
    good = np.isfinite(flux) & np.isfinite(values) & (flux != 0)
    if good.sum() < MIN_PIXELS or (values[good] < 0).any() or not values[good].any():
        return ""
    scatter, own = (ivar_from_scatter(array[good])[0] ** -0.5 for array in (flux, values))
    level = float(np.median(values[good & (values > 0)]))
    # Rebinning and skies that are brighter in places change the scatter by some factors. Errors are
    # not as noisy as the flux; another spectrum is.
    if 0.2 < level / scatter < 6.0:
        return "sigma" if own < 0.5 * scatter else ""
    return "variance" if 0.2 < level**0.5 / scatter < 6.0 and own < level else ""


def _bands(hdu: Any) -> list[_Rows]:
    """The spectra in an image of few rows, by what the header says of the rows or their values."""
    header = hdu.header
    values = _data(hdu).reshape(_shape(hdu))
    if values.ndim == 1:
        return [_Rows(values)]
    if len(hdu.shape) >= 3 and hdu.shape[-2] == 1 and values.ndim == 2:
        values = values[:, None]  # IRAF: pixels, apertures, bands
    named = [str(card(header, f"BANDID{i + 1}") or "") for i in range(len(values))]
    if values.ndim == 2 and all(named) and card(header, "APNUM2") is None:
        values = values[:, None]
    if values.ndim == 3:
        return _iraf_bands(values, named)
    labels = [
        str(card(header, f"ROW{i + 1}") or card(header, f"ARRAY{i + 1}") or "")
        for i in range(len(values))
    ]
    is_spectrum = re.match("SPECTRUM", f"{card(header, 'IMAGE') or hdu.name}", re.IGNORECASE)
    if not any(labels) and is_spectrum and len(values) in (3, 4):  # 2dFGRS, 6dFGS
        labels = ["spectrum", "variance", "sky", "wavelength"][: len(values)]
    roles = [next((r for r, known in _LABELS if known.search(text)), "") for text in labels]
    if "flux" in roles:
        return [_labelled(values, roles)]
    apertures = all(card(header, f"APNUM{i + 1}") is not None for i in range(len(values)))
    if apertures or _is_multispec(header):
        return [_Rows(row) for row in values]
    return _guessed(values)


def _iraf_bands(values: np.ndarray, named: list[str]) -> list[_Rows]:
    """A spectrum an aperture: the first band is the flux, that of sigma its error."""
    flux = next((i for i, text in enumerate(named) if text.lower().startswith("spectrum")), 0)
    error = next((i for i, text in enumerate(named) if "sigma" in text.lower()), None)
    guessed = not any(named) and len(values) > 1
    if guessed:  # apall writes spectrum, raw, background and sigma
        error = 3 if len(values) == 4 else 1 if len(values) == 2 else None
    return [
        _Rows(
            values[flux, i], guessed=guessed,
            error=None if error is None else Column(values[error, i], "sigma"),
        )
        for i in range(values.shape[1])
    ]  # fmt: skip


def _labelled(values: np.ndarray, roles: list[str]) -> _Rows:
    rows = _Rows(values[roles.index("flux")])
    for role, row in zip(roles, values, strict=True):
        if role == "wavelength" and _is_scale(row):
            rows.wavelength = Column(row, "wavelength")
        elif role in ("variance", "sigma", "ivar") and rows.error is None:
            rows.error = Column(row, role)
        elif role == "mask":
            rows.mask = Column(row, role)
    return rows


def _guessed(values: np.ndarray) -> list[_Rows]:
    """Rows without labels: wavelength, flux and error, flux and error, or all of them spectra."""
    scale = next((i for i, row in enumerate(values) if _is_scale(row)), None)
    rest = [row for i, row in enumerate(values) if i != scale]
    wavelength = None if scale is None else Column(values[scale], "")
    if scale is not None:
        error = rest[1] if len(rest) > 1 and not (rest[1] < 0).any() else None
        column = None if error is None else Column(error, _error_kind(rest[0], error) or "sigma")
        return [_Rows(rest[0], wavelength, column, guessed=True)]
    if kind := _error_kind(rest[0], rest[1]):
        return [_Rows(rest[0], None, Column(rest[1], kind), guessed=True)]
    return [_Rows(row, guessed=True) for row in values]


# --- from images to spectra -----------------------------------------------------------------


def _of_set(source: Source, images: _Set, options: ReadOptions) -> list[Part]:
    """The spectra of one image and of those beside it."""
    hdu = images.hdus["flux"]
    header, comments = header_of(source.handle, hdu)
    beside = {
        role: (other, _data(other).reshape(-1, _shape(other)[-1]))
        for role, other in images.hdus.items()
        if role != "flux"
    }
    count = _count(hdu)
    if count > 1 and any(len(values) == count for _, values in beside.values()):
        rows = [_Rows(row) for row in _data(hdu).reshape(count, -1)]
    else:
        rows = _bands(hdu)
    scales: list[Column] | None = None
    if "wavelength" not in beside and any(r.wavelength is None for r in rows):
        scales = _scales(hdu.header, rows)
    parts = []
    for i, row in enumerate(rows):
        found: dict[str, Column | None] = {
            "wavelength": row.wavelength, "error": row.error, "mask": row.mask,
        }  # fmt: skip
        for role, (other, values) in beside.items():
            if len(values) in (1, len(rows)):
                found[role] = _column(role, other, values[i if len(values) > 1 else 0])
        scale = found["wavelength"] or (scales[i] if scales is not None else None)
        if scale is None:
            raise _no_scale()
        mask = found["mask"]
        measured = Measured(
            wavelength=scale,
            flux=Column(row.flux, "flux", str(card(header, "BUNIT") or "")),
            error=found["error"],
            mask=mask,
            good_is=columns.good_is("" if mask is None else mask.name, (), header),
            header=header,
            comments=comments,
            custom="air",
            guessed=row.guessed or images.guessed,
            meta={"survey": "", "object_id": file_stem(source)} | positions_of(header),
        )
        parts.append(_part(measured, images.tag, hdu, options))
    return parts


def _part(measured: Measured, tag: str, hdu: Any, options: ReadOptions) -> Part:
    return Part(
        tag, _object(hdu),
        lambda: spectrum_of(measured, air=options.air, unit=options.wavelength_unit),
    )  # fmt: skip


def _column(role: str, hdu: Any, values: np.ndarray) -> Column:
    own, name, _ = _role(hdu.name)
    if own != role:  # by its place: it has no name
        name = "sigma" if role == "error" else role
    unit = str(card(hdu.header, "BUNIT") or "").strip()
    if role == "wavelength":
        name = _log_name(values, name, unit)
    return Column(values, name, unit)


def _log_name(values: np.ndarray, name: str, unit: str) -> str:
    """``loglam`` for wavelengths that are plainly log10 of Å; else the name that they have."""
    good = values[np.isfinite(values) & (values > 0)]
    log = not is_unit(unit) and good.size and good.min() > 3.0 and good.max() < 4.8
    return "loglam" if log else name


def _of_fibres(
    source: Source, images: _Set, fibres: Any, options: ReadOptions
) -> tuple[list[Part], list[str]]:
    """A spectrum a fibre that the table calls a programme's (TYPE = P), and what was left out.

    2dfdr and Marz: counts, in air unless VACUUM says otherwise; DO_HELIO asks for the correction,
    which is then still to be done.
    """
    hdu = images.hdus["flux"]
    header, comments = header_of(source.handle, hdu)
    flux = _data(hdu).reshape(-1, _shape(hdu)[-1])
    beside = {
        role: (other, _data(other).reshape(-1, _shape(other)[-1]))
        for role, other in images.hdus.items()
        if role != "flux"
    }
    scale = None if "wavelength" in beside else _linear(hdu.header, flux.shape[-1])
    table = {name.upper(): fibres.data[name] for name in fibres.columns.names}
    kinds = [str(kind).strip().upper() for kind in table.get("TYPE", ["P"] * len(flux))]
    places = _positions(table, fibres)
    to_do = str(card(header, "DO_HELIO")).strip().upper() in ("T", "TRUE", "1")
    parts: list[Part] = []
    for i, kind in enumerate(kinds):
        if kind != "P":
            continue
        found = {
            role: _column(role, other, values[i if len(values) == len(flux) else 0])
            for role, (other, values) in beside.items()
        }
        own: dict[str, Any] = {"EQUINOX": 2000.0} | (
            {"RA": places[i][0], "DEC": places[i][1]} if places is not None else {}
        )
        name = str(table["NAME"][i]).strip() if "NAME" in table else ""
        measured = Measured(
            wavelength=found["wavelength"] if scale is None else scale,
            flux=Column(flux[i], "flux", str(card(header, "BUNIT") or "counts")),
            error=found.get("error"),
            mask=found.get("mask"),
            header=ChainMap(own, header),  # type: ignore[arg-type]
            comments=comments,
            frame="topocentric" if to_do else "",
            meta={"survey": "", "object_id": name or f"{file_stem(source)}[{i}]"}
            | ({} if places is None else {"ra": places[i][0], "dec": places[i][1]}),
        )
        measured = replace(measured, medium=medium_of(measured) or "air")
        parts.append(_part(measured, f"{images.tag} {i}", hdu, options))
    aside = len(kinds) - len(parts)
    return parts, [f"{aside} fibres whose TYPE is not P (sky, guide, parked)"] if aside else []


def _positions(table: Mapping[str, Any], fibres: Any) -> np.ndarray | None:
    """Right ascension and declination of each fibre [deg], shape (n, 2); 2dfdr writes radians."""
    if not {"RA", "DEC"} <= set(table):
        return None
    places = np.stack([np.asarray(table[name], np.float64) for name in ("RA", "DEC")], axis=-1)
    units = {c.name.upper(): str(c.unit or "").lower() for c in fibres.columns}
    radians = (np.abs(places[:, 0]) <= 2 * np.pi).all() and (np.abs(places[:, 1]) <= 1.6).all()
    if units["RA"].startswith("rad") or (radians and not units["RA"].startswith("deg")):
        places = np.degrees(places)
    places[:, 0] %= 360.0
    return places


# --- the wavelength scale of a header -------------------------------------------------------


def _no_scale() -> ReadError:
    return ReadError(
        "the image has no wavelength scale",
        "calibrate it: add CRVAL1, CDELT1 and CUNIT1 to the header, or an extension WAVELENGTH",
    )


def _scales(header: Any, rows: list[_Rows]) -> list[Column]:
    """The wavelengths of each row."""
    n = rows[0].flux.size
    if not _is_multispec(header):
        return [_linear(header, n)] * len(rows)
    dispersions = _multispec(header, n)
    if len(dispersions) < len(rows):
        raise ReadError(
            f"the header has the wavelengths of {len(dispersions)} spectra, the image {len(rows)}",
            "download the file again",
        )
    scales = dispersions[: len(rows)]
    if len(rows) >= MIN_ORDERS:
        ends = sorted((float(s.values.min()), float(s.values.max())) for s in scales)
        shared = [a[1] - b[0] > 0.5 * (a[1] - a[0]) for a, b in pairwise(ends)]
        if not all(shared) or ends[-1][0] > ends[0][1]:
            raise ReadError(
                f"an echelle spectrum of {len(rows)} orders: merge the orders first",
                "for example with IRAF's scombine, after dividing by the blaze",
            )
    return scales


def _linear(header: Any, n: int) -> Column:
    """Wavelengths by the WCS of the first axis (FITS papers I and III; IRAF's DC-FLAG).

    CD1_1 counts before CDELT1, a unit of wavelength in CUNIT1 before that in WAT1_001.

    Raises
    ------
    ReadError
        If the header has none, or counts pixels.
    """
    kind = str(card(header, "CTYPE1") or "").strip().upper()
    start, step = number(header, "CRVAL1"), number(header, "CD1_1") or number(header, "CDELT1")
    reference = number(header, "CRPIX1")
    reference = 1.0 if reference is None else reference
    logarithmic = False
    if start is None or not step:
        start, step, reference = number(header, "COEFF0"), number(header, "COEFF1"), 1.0  # SDSS
        logarithmic = True
        if start is None or not step:  # old IRAF
            start, step = number(header, "W0"), number(header, "WPC")
            logarithmic = False
    other = re.match(r"(RA|DEC|GLON|GLAT|TIME|STOKES|PIXEL)", kind)
    flag = str(card(header, "DC-FLAG")).strip().removesuffix(".0")  # IRAF: −1 is not calibrated
    if start is None or not step or other or flag == "-1":
        raise _no_scale()
    offset = np.arange(1, n + 1) - reference
    values = start + step * offset
    unit = _unit_of(header, values)
    if kind.endswith("-LOG"):
        return Column(start * np.exp(step * offset / start), "", unit)
    if re.fullmatch(r"[A-Z]{4}-(F2W|W2F|V2W|W2V|A2W|W2A|F2A|V2A|F2V|V2F|GRI|GRA)", kind):
        return _by_astropy(header, n)
    if abs(values[0]) <= 1.5 and np.isclose(abs(step), 1.0):  # pixel numbers
        raise _no_scale()
    said = f"{card(header, 'WAT1_001')} {kind}".lower()
    logarithmic = (
        logarithmic
        or flag == "1"
        or "wtype=log" in said
        or bool(re.search(r"log.?(lin|lam|wave|10)|(lin|lam|wave).?log", kind.lower()))
    )
    low, high = float(values.min()), float(values.max())
    is_log10 = low > 3.0 and high < 4.8
    is_ln = low > 6.9 and high < 11.0
    # Å that small are no light that reaches the ground: the scale is a logarithm.
    plainly = unit in ("", "Angstrom") and abs(step) < 0.02
    if is_ln and (logarithmic or plainly):
        return Column(np.exp(values), "", unit or "Angstrom")
    if logarithmic or (plainly and is_log10):
        if high > 10.0:
            raise ReadError(
                f"the header states a logarithmic scale, but has {low:.6g} to {high:.6g}",
                "correct DC-FLAG",
            )
        return Column(10.0**values, "", unit or ("Angstrom" if is_log10 else ""))
    if not unit and low >= 1000.0 and high <= 30000.0:
        unit = "Angstrom"
    return Column(values, "", unit)


def _unit_of(header: Any, values: np.ndarray) -> str:
    """The unit that the header gives; the first that makes light of the values if it gives two."""
    wat = re.search(r"units=\s*(\w+)", str(card(header, "WAT1_001") or ""))
    given = [str(card(header, "CUNIT1") or "").strip(), wat[1] if wat else ""]
    known = [unit for unit in given if unit.lower() not in NO_UNIT and is_unit(unit)]
    known = ["Angstrom" if re.match(r"ang|0\.1", u, re.IGNORECASE) else u for u in known]
    if len(set(known)) > 1:
        middle = values[values.size // 2 : values.size // 2 + 1]
        for unit in known:
            if 1000.0 < to_angstrom(middle, Column(middle, "", unit))[0] < 100000.0:
                return unit
    return known[0] if known else ""


def _by_astropy(header: Any, n: int) -> Column:
    """Wavelengths of the algorithms of FITS paper III, in metres."""
    from astropy.wcs import WCS

    wcs = WCS(naxis=1)
    wcs.wcs.ctype = [str(card(header, "CTYPE1")).strip()]
    wcs.wcs.cunit = [str(card(header, "CUNIT1") or "").strip()]
    wcs.wcs.crval = [number(header, "CRVAL1")]
    wcs.wcs.crpix = [number(header, "CRPIX1") or 1.0]
    wcs.wcs.cdelt = [number(header, "CD1_1") or number(header, "CDELT1")]
    for name in ("RESTWAV", "RESTFRQ"):
        if (value := number(header, name)) is not None:
            setattr(wcs.wcs, name.lower(), value)
    for i in range(7):  # of the grism
        if (value := number(header, f"PV1_{i}")) is not None:
            wcs.wcs.set_pv([*wcs.wcs.get_pv(), (1, i, value)])
    values = wcs.all_pix2world(np.arange(n), 0)[0]
    return Column(np.asarray(values), "", str(wcs.wcs.cunit[0]))


# --- IRAF's multispec -----------------------------------------------------------------------


def _multispec(header: Any, n: int) -> list[Column]:
    """Wavelengths of every aperture of a multispec image.

    Parameters
    ----------
    header : Header
    n : int
        Pixels.

    Returns
    -------
    list of Column
        In the order of the rows.

    Notes
    -----
    IRAF, ``help specwcs``: aperture, beam, dtype, w1, dw, nw, z, aplow, aphigh and, for dtype 2,
    functions, each with a weight, a zero point, a type and its coefficients.
    """
    text, place = "", 1
    while (piece := card(header, f"WAT2_{place:03d}")) is not None:
        text += str(piece).ljust(68)  # FITS drops blanks at the end
        place += 1
    unit = _unit_of(header, np.array([5000.0]))
    shift, scale = number(header, "LTV1") or 0.0, number(header, "LTM1_1") or 1.0
    pixel = (np.arange(1, n + 1) - shift) / scale
    found: dict[int, Column] = {}
    for number_of, inside in re.findall(r'spec(\d+)\s*=\s*"([^"]*)"', text):
        values = [float(word) for word in inside.split()]
        dtype, w1, dw, z = values[2], values[3], values[4], values[6]
        if dtype == -1:
            raise _no_scale()
        if dtype == 2:
            wavelength = _functions(values[9:], pixel)
        else:
            wavelength = w1 + dw * (pixel - 1.0)
            wavelength = 10.0**wavelength if dtype == 1 else wavelength
        found[int(number_of)] = Column(wavelength / (1.0 + z), "", unit)
    if not found:
        raise _no_scale()
    return [found[i] for i in sorted(found)]


def _functions(values: list[float], pixel: np.ndarray) -> np.ndarray:
    """The weighted sum of the functions that give the wavelengths of a nonlinear dispersion."""
    total = np.zeros_like(pixel)
    left = list(values)

    def take(count: int) -> list[float]:
        taken, left[:count] = left[:count], []
        if len(taken) < count:
            raise ReadError("the dispersion function of the header is cut off", "download it again")
        return taken

    while left:
        weight, zero, kind = take(3)
        if kind in (1, 2):
            order, low, high = take(3)
            x = (pixel - 0.5 * (high + low)) / (0.5 * (high - low))
            series = np.polynomial.chebyshev.chebval if kind == 1 else np.polynomial.legendre.legval
            wavelength = series(x, take(int(order)))
        elif kind in (3, 4):
            pieces, low, high = take(3)
            s = np.clip((pixel - low) / (high - low) * pieces, 0.0, pieces)
            wavelength = _spline(s, int(pieces), take(int(pieces) + (3 if kind == 3 else 1)))
        elif kind == 5:
            coordinates = take(int(take(1)[0]))
            wavelength = np.interp(pixel, np.arange(1, len(coordinates) + 1), coordinates)
        elif kind == 6:
            pairs = np.reshape(take(2 * int(take(1)[0])), (-1, 2))
            wavelength = np.interp(pixel, pairs[:, 0], pairs[:, 1])
        else:
            raise ReadError(
                f"the dispersion function {kind:.0f} is not an IRAF function",
                "linearise the spectrum",
            )
        total += weight * (zero + wavelength)
    return total


def _spline(s: np.ndarray, pieces: int, coefficients: list[float]) -> np.ndarray:
    """IRAF's linear or cubic spline at `s`, counted in pieces."""
    c = np.asarray(coefficients)
    j = np.minimum(s.astype(int), pieces - 1)
    b = s - j
    a = 1.0 - b
    if c.size == pieces + 1:
        return c[j] * a + c[j + 1] * b
    weights = (a**3, 1 + 3 * a * (1 + a * b), 1 + 3 * b * (1 + a * b), b**3)
    return sum((c[j + i] * weight for i, weight in enumerate(weights)), np.zeros_like(s))
