"""DESI files: `coadd` and `spectra`, three arms and many targets each, one row a target.

Wavelengths are vacuum, barycentric, and the arms share one grid of 0.8 Å.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra
from spectromer_cli.spectra.spectrum import Spectrum, ivar_from_scatter

_ARMS = ("B", "R", "Z")
# The commissioning layout: one table, a column of wavelengths and one of flux a target.
_EARLY_TARGET = re.compile(r"TARGET(\d+)")


def identify(source: Source) -> bool:
    """Whether the file has arms with wavelength and flux, or is of the early layout."""
    if source.kind != "fits":
        return False
    try:
        return bool(_arms(source.handle)) or bool(_early_columns(source.handle))
    except Exception:  # a damaged header may raise anything: no layout that is known
        return False


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra, one a target, in the order in which targets first appear.

    The arms are merged, and the exposures of a target in a `spectra` file coadded, by
    inverse variance on the arms' common grid, so that no photon counts twice.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Not needed: the files say everything themselves.

    Returns
    -------
    Spectra
        In 1e-17 erg/s/cm²/Å.

    Raises
    ------
    ReadError
        If there is no FIBERMAP, or its length is not that of the arms.
    """
    hdus = source.handle
    early = _early_columns(hdus)
    if early:
        return Spectra(len(early), lambda row: _read_early(hdus, early[row]))
    arms = _arms(hdus)
    if "FIBERMAP" not in hdus:
        raise ReadError(f"{source.path} has no FIBERMAP: its targets are unknown", "fetch it again")
    fibermap = hdus["FIBERMAP"].data
    targetid = np.asarray(fibermap["TARGETID"], dtype=np.int64)
    for arm in arms:
        shape = hdus[f"{arm}_FLUX"].shape
        wanted = (len(targetid), hdus[f"{arm}_WAVELENGTH"].shape[0])
        if shape != wanted:
            raise ReadError(
                f"{source.path} is malformed: {arm}_FLUX has the shape {shape}, but there are "
                f"{wanted[0]} fibres of {wanted[1]} pixels",
                "fetch it again",
            )
    rows: dict[int, list[int]] = {}
    for number, target in enumerate(targetid.tolist()):
        rows.setdefault(target, []).append(number)
    targets = list(rows)

    def get(row: int) -> Spectrum:
        target = targets[row]
        merged = _merge([_arm(hdus, arm, i) for arm in arms for i in rows[target]])
        meta = _meta(target, fibermap, rows[target][0])
        if not all(f"{arm}_IVAR" in hdus for arm in arms):
            meta["has_ivar"] = False
        return Spectrum(*merged, meta=meta)

    return Spectra(len(targets), get)


def _arms(hdus: Any) -> list[str]:
    names = {hdu.name for hdu in hdus}
    return [arm for arm in _ARMS if {f"{arm}_WAVELENGTH", f"{arm}_FLUX"} <= names]


def _arm(hdus: Any, arm: str, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux and ivar of one row of one arm; masked pixels have ivar 0."""
    wavelength = np.asarray(hdus[f"{arm}_WAVELENGTH"].data, dtype=np.float64)
    # A section reads one row of the file, where data would read all of the arm.
    flux = np.array(hdus[f"{arm}_FLUX"].section[row], dtype=np.float64)
    if f"{arm}_IVAR" in hdus:
        ivar = np.array(hdus[f"{arm}_IVAR"].section[row], dtype=np.float64)
    else:
        ivar = ivar_from_scatter(flux)
    if f"{arm}_MASK" in hdus:
        ivar[np.asarray(hdus[f"{arm}_MASK"].section[row]) != 0] = 0.0
    ivar[~np.isfinite(flux) | ~np.isfinite(ivar) | (ivar < 0)] = 0.0
    return wavelength, np.where(ivar > 0, flux, 0.0), ivar


def _merge(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average by inverse variance on the common grid; shapes (n,) each."""
    step = float(np.median(np.diff(parts[0][0])))
    start = min(wavelength[0] for wavelength, _, _ in parts)
    stop = max(wavelength[-1] for wavelength, _, _ in parts)
    if not (step > 0 and np.isfinite(start) and np.isfinite(stop)):
        raise ValueError("the wavelengths of an arm do not increase")
    grid = start + step * np.arange(round((stop - start) / step) + 1)
    total, weight = np.zeros(grid.size), np.zeros(grid.size)
    for wavelength, flux, ivar in parts:
        index = np.round((wavelength - start) / step).astype(int)
        if np.abs(grid[index] - wavelength).max() > 0.05 * step:
            raise ValueError("the arms do not share one wavelength grid")
        total[index] += ivar * flux
        weight[index] += ivar
    return grid, np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.0), weight


def _meta(target: int, fibermap: Any, row: int) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "survey": "DESI",
        "object_id": str(target),
        "targetid": target,
        "medium": "vacuum",
    }
    for key, column in (("ra", "TARGET_RA"), ("dec", "TARGET_DEC")):
        if column in fibermap.names:
            meta[key] = float(fibermap[column][row])
    return meta


def _early_columns(hdus: Any) -> list[str]:
    """The columns of targets in the early layout; none if it is another one."""
    if len(hdus) < 2 or not hasattr(hdus[1], "columns"):
        return []
    names = hdus[1].columns.names
    return [n for n in names if _EARLY_TARGET.fullmatch(n)] if "WAVELENGTH" in names else []


def _read_early(hdus: Any, column: str) -> Spectrum:
    table = hdus[1].data
    flux = np.array(table[column], dtype=np.float64)
    target = int(column.removeprefix("TARGET"))
    meta = {
        "survey": "DESI",
        "object_id": str(target),
        "targetid": target,
        "medium": "vacuum",
        "has_ivar": False,  # this layout has flux only
    }
    # The table runs through the arms, which overlap: sorted, with repeated pixels averaged.
    wavelength = np.asarray(table["WAVELENGTH"], dtype=np.float64)
    grid, inverse = np.unique(np.round(wavelength, 3), return_inverse=True)
    good = np.isfinite(flux)
    number = np.bincount(inverse, good)
    mean = np.bincount(inverse, np.where(good, flux, 0.0)) / np.maximum(number, 1)
    mean[number == 0] = np.nan
    return Spectrum(grid, mean, ivar_from_scatter(mean), meta)
