"""SDSS files: `spec` of SDSS-I/II, BOSS, eBOSS and SDSS-V, `spPlate`, and `spSpec` of DR1-7.

All three hold coadded spectra in vacuum wavelengths, heliocentric, evenly spaced in log10 λ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers.base import (
    ReadOptions,
    Source,
    Spectra,
    damaged_headers_named,
)
from spectromer_cli.spectra.readers.fits_bytes import cells
from spectromer_cli.spectra.spectrum import Spectrum

# Bits of the pixel mask that do not say that a pixel is bad: a bright neighbour on the CCD and
# the three kinds of smear exposure (NEARWHOPPER, SMEARIMAGE, SMEARHIGHSN, SMEARMEDSN; set for
# whole spectra before DR9: sdss3.org/dr9/algorithms/bitmask_sppixmask.php), and the pixels of
# emission lines that spectro1d found (SP_MASK_EMLINE, in spSpec only: classic.sdss.org/dr7/dm).
_NOT_BAD = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 30

# SPEC_CLN of spSpec: classic.sdss.org/dr7/dm/flatFiles/spSpec.html. 0 is unknown, 5 sky.
_SPEC_CLN = {1: "STAR", 2: "GALAXY", 3: "QSO", 4: "QSO", 6: "STAR"}

# The first plate of BOSS, and the first of SEQUELS, the pilot survey of eBOSS.
_FIRST_BOSS_PLATE, _FIRST_SEQUELS_PLATE = 3510, 7027


# --- which layout -------------------------------------------------------------------------


def identify(source: Source) -> bool:
    """Whether the file has the structure of a `spec`, `spPlate` or `spSpec` file."""
    return source.kind == "fits" and any(
        is_layout(source.handle) for is_layout in (_is_spec, _is_spplate, _is_spspec)
    )


def read(source: Source, options: ReadOptions) -> Spectra:
    """Give the spectra: one of a `spec` or `spSpec` file, those of all fibres of a `spPlate`.

    Parameters
    ----------
    source : Source
        A file that `identify` knows.
    options : ReadOptions
        Not needed here: the files say everything themselves.

    Returns
    -------
    Spectra
        In flux units of 1e-17 erg/s/cm²/Å; a `spPlate` in the order of its rows.

    Raises
    ------
    ReadError
        From ``get`` of a `spPlate`, if that spectrum is broken.
    KeyError, IndexError, ValueError, TypeError
        If the file's one spectrum is broken; `open_spectra` says so in words.
    """
    hdus = source.handle
    if _is_spplate(hdus):
        return Spectra(hdus[0].shape[0], partial(_plate_row, source))
    with damaged_headers_named():
        spectrum = _spec(hdus) if _is_spec(hdus) else _spspec(hdus)
    return Spectra(1, lambda row: spectrum)


def _is_spec(hdus: Any) -> bool:
    # By position: some eBOSS files have blank extension names.
    return len(hdus) > 1 and {"flux", "loglam", "ivar"} <= _columns(hdus[1])


def _is_spplate(hdus: Any) -> bool:
    return (
        len(hdus) > 5
        and len(_shape(hdus[0])) == 2
        and _shape(hdus[0]) == _shape(hdus[1]) == _shape(hdus[2])
        and "COEFF0" in hdus[0].header
        and "fiberid" in _columns(hdus[5])
    )


def _is_spspec(hdus: Any) -> bool:
    shape, header = _shape(hdus[0]), hdus[0].header
    keys = ("COEFF0", "COEFF1", "PLATEID", "FIBERID")
    return len(shape) == 2 and shape[0] in (4, 5) and all(key in header for key in keys)


def _shape(hdu: Any) -> tuple[int, ...]:
    """The shape of an image, slowest axis first; empty of a table."""
    return getattr(hdu, "shape", ())


def _columns(hdu: Any) -> set[str]:
    """The names of a table's columns in lower case; none of an image or a broken table."""
    try:
        return {name.lower() for name in hdu.columns.names} if hasattr(hdu, "columns") else set()
    except Exception:  # astropy fails in a dozen ways on a table with a broken header
        return set()


# --- the three layouts --------------------------------------------------------------------


def _spec(hdus: Any) -> Spectrum:
    coadd, header = hdus[1].data, hdus[0].header
    masks = [name for name in ("and_mask", "mask") if name in _columns(hdus[1])]
    ivar = np.array(coadd["ivar"], dtype=np.float64)
    if masks:
        ivar[_bad(coadd[masks[0]])] = 0.0
    wavelength = 10.0 ** np.asarray(coadd["loglam"], dtype=np.float64)
    return Spectrum(wavelength, coadd["flux"], ivar, _spec_meta(header, _catalogue_row(hdus)))


def _plate_row(source: Source, row: int) -> Spectrum:
    hdus = source.handle
    header, plugmap = hdus[0].header, hdus[5]
    try:
        flux, ivar, mask = (np.array(hdu.data[row]) for hdu in hdus[:3])
        target = cells(plugmap, row, ("fiberid", "plug_ra", "plug_dec", "ra", "dec"))
        meta = _meta(_survey(header, target), header, target)
        ivar[_bad(mask)] = 0.0
        return Spectrum(_log_linear(header, flux.size), flux, ivar, meta)
    except Exception as error:
        if isinstance(error, MemoryError | RecursionError):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ReadError(f"{source.path}[{row}] is a damaged spectrum ({reason})") from error


def _spspec(hdus: Any) -> Spectrum:
    header = hdus[0].header
    # Flux, continuum-subtracted flux, standard deviation, mask, and in most files the sky.
    flux, _, sigma, mask = np.asarray(hdus[0].data[:4], dtype=np.float64)
    good = (sigma > 0) & ~_bad(mask)
    ivar = np.zeros(flux.size)
    ivar[good] = 1.0 / sigma[good] ** 2
    meta = _meta("SDSS", header, {"ra": header.get("RAOBJ"), "dec": header.get("DECOBJ")})
    if "SPEC_CLN" in header:
        meta["survey_class"] = _SPEC_CLN.get(int(header["SPEC_CLN"]), "")
    if "Z" in header:
        meta["survey_z"] = float(header["Z"])
    if "Z_WARNIN" in header:
        meta["survey_zwarning"] = int(header["Z_WARNIN"])
    return Spectrum(_log_linear(header, flux.size), flux, ivar, meta)


def _bad(mask: Any) -> np.ndarray:
    """Where the AND mask marks a bad pixel; the OR mask, set on half of all pixels, is not read."""
    # spSpec keeps the bits as floats; what is no number is bad (bit 0).
    bits = np.clip(np.nan_to_num(mask, nan=1.0), 0, 2**31 - 1).astype(np.int64)
    return (bits & ~_NOT_BAD) != 0


def _log_linear(header: Any, n: int) -> np.ndarray:
    """Wavelengths in Å, shape (n,): log10 λ = COEFF0 + COEFF1·i."""
    return 10.0 ** (float(header["COEFF0"]) + float(header["COEFF1"]) * np.arange(n))


# --- what the file says about the object --------------------------------------------------

_POSITIONS = ("plug_ra", "plug_dec", "fiber_ra", "fiber_dec", "racat", "deccat")
_IDENTITY = ("plate", "mjd", "fiberid", "field", "catalogid", "run2d", "programname")
_ANSWER = ("class", "subclass", "z", "zwarning")


def _catalogue_row(hdus: Any) -> dict[str, Any]:
    """The object's row of specObj or spAll, which the file keeps in its third HDU."""
    try:
        return cells(hdus[2], 0, (*_IDENTITY, *_POSITIONS, *_ANSWER))
    except IndexError:  # two HDUs, or a table without rows
        return {}


def _spec_meta(header: Any, target: Mapping[str, Any]) -> dict[str, Any]:
    meta = _meta(_survey(header, target), header, target)
    for name in ("class", "subclass"):
        if name in target:
            meta[f"survey_{name}"] = str(target[name]).strip()
    if "z" in target:
        z = float(target["z"])
        meta["survey_z"] = z if np.isfinite(z) else None
    if "zwarning" in target:
        meta["survey_zwarning"] = int(target["zwarning"])
    return meta


def _meta(survey: str, header: Any, target: Mapping[str, Any]) -> dict[str, Any]:
    """Survey, identity and position, from the catalogue row or else from the header."""
    meta: dict[str, Any] = {"survey": survey, "object_id": "", "medium": "vacuum"}
    mjd = _integer(target.get("mjd", header.get("MJD")))
    plate = _integer(target.get("plate", header.get("PLATEID")))
    fiber = _integer(target.get("fiberid", header.get("FIBERID")))
    if "catalogid" in target:  # SDSS-V has fields of robots where there were plates
        plate = fiber = None
        field = _integer(target.get("field"))
        meta |= {"field": field, "catalogid": str(target["catalogid"]).strip()}
        meta["object_id"] = f"{field or 0:06d}-{mjd}-{meta['catalogid']}"
    elif None not in (plate, mjd, fiber):
        meta["object_id"] = f"{plate:04d}-{mjd}-{fiber:04d}"
    # SDSS-I/II say it in the catalogue row only.
    run2d = str(header.get("RUN2D") or target.get("run2d") or "").strip()
    known = {"plate": plate, "mjd": mjd, "fiberid": fiber, "run2d": run2d or None}
    meta.update((name, number) for name, number in known.items() if number is not None)
    for name in ("ra", "dec"):
        # The header's RA and DEC are where the telescope pointed, PLUG_RA is the fibre.
        candidates = [target.get(prefix + name) for prefix in ("plug_", "fiber_", "")]
        candidates += [target.get(f"{name}cat"), header.get(f"PLUG_{name.upper()}")]
        degrees = next((value for value in candidates if value is not None), None)
        if degrees is not None:
            meta[name] = float(degrees)
    return meta


def _integer(value: Any) -> int | None:
    return None if value is None or not str(value).strip() else int(value)


def _survey(header: Any, target: Mapping[str, Any]) -> str:
    """SDSS, BOSS, eBOSS or SDSS-V, from the pipeline's version and the plate number."""
    version = str(header.get("RUN2D") or header.get("VERS2D") or target.get("run2d") or "")
    release = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if "catalogid" in target or (release >= (6,) and version.startswith("v")):
        return "SDSS-V"
    plate = _integer(target.get("plate", header.get("PLATEID"))) or 0
    if plate < _FIRST_BOSS_PLATE:
        return "SDSS"
    program = f"{header.get('PLATETYP', '')} {target.get('programname', '')}"
    # The reductions of SDSS-IV, from v5_8 on, count SEQUELS to eBOSS; those before, to BOSS.
    if "eboss" in program.lower() or (plate >= _FIRST_SEQUELS_PLATE and release >= (5, 8)):
        return "eBOSS"
    return "BOSS"
