"""DESI files: `coadd` and `spectra`, any arms and many targets each, one row a target.

Wavelengths are vacuum, barycentric, and the arms share one grid of 0.8 Å.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.spectrum import Spectrum, ivar_from_scatter

# One camera, or several that were merged already, as BRZ; of one spectrograph, as B0.
_ARM_FLUX = re.compile(r"([BRZ]{1,3}\d?)_FLUX")
# The commissioning layout: one table, a column of wavelengths and one of flux a target.
_EARLY_TARGET = re.compile(r"TARGET(\d+)")
# DESI's arms together have 7781 pixels.
_MAX_PIXELS = 100_000

# Bits of redrock's ZWARN (redrock/zwarning.py), set as rrdesi sets them.
_SKY, _UNPLUGGED, _NODATA = 1 << 0, 1 << 7, 1 << 9
_NAMES = {_SKY: "SKY", _UNPLUGGED: "UNPLUGGED", _NODATA: "NODATA"}
# Bits of FIBERSTATUS after which no light of the target is in the spectrum, and those of these
# where the fibre is at fault (desidatamodel, bit masks). A positioner that is stuck or restricted
# (bits 1 and 3) may still be on its target.
_BROKEN = {2: "BROKENFIBER", 8: "MISSINGPOSITION", 16: "BADFIBER"}
_FATAL = _BROKEN | {
    0: "UNASSIGNED", 9: "BADPOSITION", 17: "BADTRACE", 18: "BADFLAT", 19: "BADARC",
}  # fmt: skip
# More than 30 µm off its target, a fibre still has some of the light: said, no more.
_WORDS = _FATAL | {10: "POORPOSITION"}

# How files are named: coadd-SURVEY-PROGRAM-HEALPIX, coadd-PETAL-TILEID-thruNIGHT.
_BY_HEALPIX = re.compile(r"(cmx|special|sv\d|main)-([a-z]+)-(\d+)")
_BY_TILE = re.compile(r"\d-(\d+)-(?:thru)?(\d{8})")


def identify(source: Source) -> bool:
    """Whether the file has arms with wavelength and flux, or is of the early layout."""
    if source.kind != "fits":
        return False
    return bool(_arms(source.handle)) or bool(_early_columns(source.handle))


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra, one a target, in the order in which targets first appear.

    The arms are merged, and the exposures of a target in a `spectra` file coadded, by
    inverse variance on the arms' common grid, so that no photon counts twice. Exposures with a
    fibre that saw nothing of the target are left out, unless there are no others.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Not needed: the files say everything themselves.

    Returns
    -------
    Spectra
        In 1e-17 erg/s/cm²/Å. ``zwarn`` and ``flags`` of the meta say what OBJTYPE and FIBERSTATUS
        mean for a redshift. Without a FIBERMAP a spectrum has its number for an id.

    Raises
    ------
    ReadError
        If the lengths of FIBERMAP and the arms differ.
    """
    hdus = source.handle
    early = _early_columns(hdus)
    if early:
        known = identities(hdus, source.path)
        return Spectra(len(early), lambda row: _read_early(hdus, early[row], known[row]))
    arms = _arms(hdus)
    fibermap = _fibermap(hdus)
    count = _shape(hdus[f"{arms[0]}_FLUX"])[0] if fibermap is None else len(fibermap)
    for arm in arms:
        shape = _shape(hdus[f"{arm}_FLUX"])
        wanted = (count, hdus[f"{arm}_WAVELENGTH"].shape[0])
        if shape != wanted:
            raise ReadError(
                f"{source.path} is malformed: {arm}_FLUX has the shape {shape}, but there are "
                f"{wanted[0]} fibres of {wanted[1]} pixels",
                "download it again",
            )
    if fibermap is None:
        rows = [[row] for row in range(count)]
        known = [{"object_id": f"{source.path.stem}[{row}]"} for row in range(count)]
    else:
        rows = list(_rows_by_target(fibermap).values())
        known = identities(hdus, source.path)

    def get(row: int) -> Spectrum:
        used, about = (rows[row], {}) if fibermap is None else _about(fibermap, rows[row])
        spectrum = Spectrum(*_merge([_arm(hdus, arm, i) for arm in arms for i in used]))
        spectrum.meta = {"survey": "DESI", "medium": "vacuum"} | known[row] | about
        if not all(f"{arm}_IVAR" in hdus for arm in arms):
            spectrum.meta["has_ivar"] = False
        return spectrum

    return Spectra(len(rows), get)


def _arms(hdus: Any) -> list[str]:
    names = [hdu.name for hdu in hdus]
    arms = [found[1] for name in names if (found := _ARM_FLUX.fullmatch(name))]
    arms = [arm for arm in dict.fromkeys(arms) if f"{arm}_WAVELENGTH" in names]
    # What was merged already must not count twice.
    return [arm for arm in arms if not any(set(arm) < set(other) for other in arms)]


def _shape(flux: Any) -> tuple[int, ...]:
    """Spectra and pixels; a file of one spectrum may have no axis for the former."""
    return (1, *flux.shape) if len(flux.shape) == 1 else tuple(flux.shape)


def _arm(hdus: Any, arm: str, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux and ivar of one row of one arm; masked pixels have ivar 0."""

    def values(what: str) -> np.ndarray:
        hdu = hdus[f"{arm}_{what}"]
        # A section reads one row of the file, where data would read all of the arm.
        return np.array(hdu.data if len(hdu.shape) == 1 else hdu.section[row])

    wavelength, flux = (values(what).astype(np.float64) for what in ("WAVELENGTH", "FLUX"))
    has_ivar = f"{arm}_IVAR" in hdus
    ivar = values("IVAR").astype(np.float64) if has_ivar else ivar_from_scatter(flux)
    if f"{arm}_MASK" in hdus:
        ivar[values("MASK") != 0] = 0.0
    ivar[~np.isfinite(flux) | ~np.isfinite(ivar) | (ivar < 0)] = 0.0
    return wavelength, np.where(ivar > 0, flux, 0.0), ivar


def _merge(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average by inverse variance on the common grid; shapes (n,) each."""
    if len(parts) == 1:
        return parts[0]
    step = float(np.median(np.diff(parts[0][0])))
    start = min(wavelength[0] for wavelength, _, _ in parts)
    stop = max(wavelength[-1] for wavelength, _, _ in parts)
    if not (step > 0 and np.isfinite(start) and np.isfinite(stop)):
        raise ReadError("the wavelengths of an arm do not increase")
    if not (stop - start) / step < _MAX_PIXELS:
        raise ReadError(f"the arms have steps of {step:.3g} Å over {stop - start:.5g} Å, not 0.8 Å")
    grid = start + step * np.arange(round((stop - start) / step) + 1)
    total, weight = np.zeros(grid.size), np.zeros(grid.size)
    for wavelength, flux, ivar in parts:
        if not (np.all(wavelength >= start) and np.all(wavelength <= stop)):
            raise ReadError("the wavelengths of an arm do not increase")
        index = np.round((wavelength - start) / step).astype(int)
        if np.abs(grid[index] - wavelength).max() > 0.05 * step or np.any(np.diff(index) < 1):
            raise ReadError("the arms do not share one wavelength grid")
        total[index] += ivar * flux
        weight[index] += ivar
    return grid, np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.0), weight


# --- what the file says about its targets -----------------------------------------------------


def identities(hdus: Any, path: Path) -> list[dict[str, Any]]:
    """What identifies each target of a file, in the order of its spectra.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
    path : Path
        Its name says what the header does not.

    Returns
    -------
    list of dict
        ``object_id``, ``targetid`` and, where known, ``desi_survey``, ``program``, ``healpix``,
        ``tileid`` and ``night``, the last that went into a coadd; the last two are tuples if
        there are several. Empty if there is no FIBERMAP.
    """
    early = [int(name.removeprefix("TARGET")) for name in _early_columns(hdus)]
    if early:
        return [{"object_id": str(target), "targetid": target} for target in early]
    fibermap = _fibermap(hdus)
    if fibermap is None:
        return []
    by_name = _by_name(path)
    of_file: dict[str, Any] = {}
    for key, cards in _CARDS.items():
        headers = (hdus[0].header, hdus["FIBERMAP"].header, by_name)
        places = ((header, card) for header in headers for card in cards)
        found = (_plain(header.get(card)) for header, card in places)
        of_file[key] = next((value for value in found if value is not None), None)
    columns = {key: _column(fibermap, *cards) for key, cards in _CARDS.items()}
    known = []
    for target, rows in _rows_by_target(fibermap).items():
        one: dict[str, Any] = {"object_id": str(target), "targetid": target}
        for key, values in columns.items():
            own = [] if values is None else map(_plain, values[rows].tolist())
            several = tuple(dict.fromkeys(value for value in own if value is not None))
            if of_file[key] is not None:
                one[key] = of_file[key]
            elif several:
                one[key] = several[0] if len(several) == 1 else several
        known.append(one)
    return known


def fibermap_rows(hdus: Any, spectra: Sequence[int]) -> np.ndarray | None:
    """The rows of the FIBERMAP that belong to spectra of a file.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
    spectra : sequence of int
        Their numbers, as `read` gives them.

    Returns
    -------
    structured array or None
        One row per spectrum, of several exposures the first that has light of the target; None
        without a FIBERMAP.
    """
    fibermap = _fibermap(hdus)
    if fibermap is None:
        return None
    rows = list(_rows_by_target(fibermap).values())
    return np.asarray(fibermap[[_about(fibermap, rows[number])[0][0] for number in spectra]])


# Where a file says which part of the survey it is of; later cards are older, or catalogues'.
_CARDS = {
    "desi_survey": ("SURVEY",),
    "program": ("PROGRAM", "FAPRGRM"),
    "healpix": ("HPXPIXEL", "HEALPIX"),
    "tileid": ("TILEID",),
    "night": ("LASTNIGHT", "LASTNITE", "NIGHT"),
}


def _by_name(path: Path) -> dict[str, str]:
    healpix, tile = _BY_HEALPIX.search(path.name), _BY_TILE.search(path.name)
    if healpix:
        return dict(zip(("SURVEY", "PROGRAM", "HEALPIX"), healpix.groups(), strict=True))
    return dict(zip(("TILEID", "NIGHT"), tile.groups(), strict=True)) if tile else {}


def _plain(value: Any) -> int | str | None:
    """A number, or text in lower case; None if there is nothing."""
    text = str("" if value is None else value).strip().lower()
    return (int(text) if text.isdigit() else text) or (0 if text == "0" else None)


def _column(fibermap: Any, *names: str) -> np.ndarray | None:
    name = next((name for name in names if name in fibermap.names), None)
    return None if name is None else np.asarray(fibermap[name])


def _about(fibermap: Any, rows: list[int]) -> tuple[list[int], dict[str, Any]]:
    """The rows of a target that have its light, and what they say of it."""
    found = _column(fibermap, "COADD_FIBERSTATUS", "FIBERSTATUS")
    status = np.zeros(len(fibermap), np.int64) if found is None else found.astype(np.int64)
    fatal = sum(1 << bit for bit in _FATAL)
    used = [row for row in rows if not status[row] & fatal] or rows
    bits = int(np.bitwise_and.reduce(status[used]))
    kinds = _column(fibermap, "OBJTYPE")
    kind = "" if kinds is None else str(kinds[used[0]]).strip().upper()
    zwarn = 0
    # The fibres of positioners that are stuck look at the sky, and have negative TARGETIDs.
    if kind == "SKY" or int(fibermap["TARGETID"][used[0]]) < 0:
        zwarn |= _SKY
    if bits & sum(1 << bit for bit in _BROKEN):
        zwarn |= _UNPLUGGED
    if kind == "BAD" or bits & fatal:
        zwarn |= _NODATA
    words = [name for bit, name in _NAMES.items() if zwarn & bit]
    words += [name for bit, name in _WORDS.items() if bits >> bit & 1]
    about: dict[str, Any] = {"zwarn": zwarn, "flags": tuple(words)} if zwarn or words else {}
    for key, column in (("ra", "TARGET_RA"), ("dec", "TARGET_DEC")):
        if column in fibermap.names:
            about[key] = float(fibermap[column][used[0]])
    return used, about


def _fibermap(hdus: Any) -> Any:
    """The table of the fibres; None if there is none with targets."""
    if "FIBERMAP" not in hdus:
        return None
    data = hdus["FIBERMAP"].data
    return data if data is not None and "TARGETID" in (data.names or ()) else None


def _rows_by_target(fibermap: Any) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for number, target in enumerate(np.asarray(fibermap["TARGETID"], dtype=np.int64).tolist()):
        rows.setdefault(target, []).append(number)
    return rows


def _early_columns(hdus: Any) -> list[str]:
    """The columns of targets in the early layout; none if it is another one."""
    if len(hdus) < 2 or not hasattr(hdus[1], "columns"):
        return []
    names = hdus[1].columns.names
    return [n for n in names if _EARLY_TARGET.fullmatch(n)] if "WAVELENGTH" in names else []


def _read_early(hdus: Any, column: str, known: dict[str, Any]) -> Spectrum:
    table = hdus[1].data
    flux = np.array(table[column], dtype=np.float64)
    # This layout has flux only.
    meta = {"survey": "DESI", "medium": "vacuum", "has_ivar": False} | known
    # The table runs through the arms, which overlap: sorted, with repeated pixels averaged.
    wavelength = np.asarray(table["WAVELENGTH"], dtype=np.float64)
    grid, inverse = np.unique(np.round(wavelength, 3), return_inverse=True)
    good = np.isfinite(flux)
    number = np.bincount(inverse, good)
    mean = np.bincount(inverse, np.where(good, flux, 0.0)) / np.maximum(number, 1)
    mean[number == 0] = np.nan
    return Spectrum(grid, mean, ivar_from_scatter(mean), meta)
