"""Packed spectra: rows of a Parquet table that hold a `Spectrum` as a reader made it.

The columns are those of LSDB, HATS and the Multimodal Universe, for any program to use, and one of
this program's own, `META`, with what the reader established beside the arrays: nothing has to be
found out, or assumed, again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.spectrum import Spectrum, air_to_vacuum

if TYPE_CHECKING:
    import pyarrow

# The column with `Spectrum.meta` as JSON.
META = "spectromer_meta"
# The fields of the column ``spectrum``.
FIELDS = ("flux", "ivar", "lambda", "mask")
# Fluxes of another level than 1, by more than this, are divided by a power of ten: of 1e-20, the
# inverse variance would leave single precision.
MAX_LEVEL = 1e6
_FLOAT32_MAX = float(np.finfo(np.float32).max)
# Order of the HEALPix scheme of HATS: pixels of 0.4 milliarcseconds.
ORDER = 29


def schema() -> pyarrow.Schema:
    """The columns of packed spectra, with units and descriptions of the numbers."""
    import pyarrow as pa

    def field(name: str, kind: pa.DataType, unit: str = "", description: str = "") -> pa.Field:
        said = {"unit": unit, "description": description}
        return pa.field(name, kind, metadata={key: text for key, text in said.items() if text})

    numbers = pa.list_(pa.float32())
    spectrum = pa.struct([
        field("flux", numbers, description="flux density per wavelength"),
        field("ivar", numbers, description="inverse variance of flux; 0 where it is bad"),
        field("lambda", pa.list_(pa.float64()), "Angstrom", "wavelength in vacuum"),
        field("mask", pa.list_(pa.bool_()), description="true where the pixel is bad"),
    ])  # fmt: skip
    return pa.schema([
        field("object_id", pa.string()),
        field("survey", pa.string()),
        field("ra", pa.float64(), "deg"),
        field("dec", pa.float64(), "deg"),
        field("_healpix_29", pa.int64(), description="nested HEALPix index of order 29"),
        field("file", pa.string(), description="file that the spectrum was packed from"),
        field("row", pa.int64(), description="index of the spectrum in that file, from 0"),
        field("spectrum", spectrum),
        field(META, pa.string(), description="metadata from that file"),
    ])  # fmt: skip


def table_of(spectra: Sequence[Spectrum], origins: Sequence[tuple[str, int]]) -> pyarrow.Table:
    """Spectra as rows.

    Parameters
    ----------
    spectra : sequence of Spectrum
    origins : sequence of (str, int)
        The file of each, and its number there.

    Returns
    -------
    pyarrow.Table
        Of `schema`, one row per spectrum, in order.
    """
    import pyarrow as pa

    scaled = [_in_single_precision(spectrum) for spectrum in spectra]
    places = [_place(spectrum.meta) for spectrum in spectra]
    ends = np.cumsum([0, *(spectrum.flux.size for spectrum in scaled)])
    kinds = schema()

    def lists(arrays: Sequence[np.ndarray], kind: type) -> pa.Array:
        values = np.concatenate(arrays) if arrays else np.empty(0)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values.astype(kind)))

    arrays = [
        lists([s.flux for s in scaled], np.float32),
        lists([s.ivar for s in scaled], np.float32),
        lists([s.wavelength for s in scaled], np.float64),
        lists([~s.good for s in scaled], np.bool_),
    ]
    fields = list(kinds.field("spectrum").type)
    return pa.table(
        [
            [_valid(str(s.meta.get("object_id") or "")) for s in spectra],
            [_valid(str(s.meta.get("survey") or "")) for s in spectra],
            pa.array([ra for ra, _ in places], pa.float64()),
            pa.array([dec for _, dec in places], pa.float64()),
            pa.array(healpix_29(places), pa.int64()),
            [_valid(file) for file, _ in origins],
            pa.array([row for _, row in origins], pa.int64()),
            pa.StructArray.from_arrays(arrays, fields=fields),
            [_as_json(s.meta) for s in scaled],
        ],
        schema=kinds,
    )  # fmt: skip


def spectrum_of(cells: Mapping[str, np.ndarray | None], meta: Any, air: bool | None) -> Spectrum:
    """The spectrum that a row holds, as it was packed.

    Parameters
    ----------
    cells : mapping
        The arrays by the names in `FIELDS`.
    meta : str
        The cell of `META`.
    air : bool, optional
        The user's word on the medium; it counts where the medium had to be assumed.

    Raises
    ------
    ReadError
        If the row is damaged.
    """
    flux, ivar, wavelength, mask = (cells.get(name) for name in FIELDS)
    try:
        said = json.loads(meta)
        found = {
            name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise ReadError(f"the column {META} is damaged: {error}", "pack it again") from error
    if flux is None or ivar is None or wavelength is None:
        raise ReadError("the row has no spectrum", "remove such rows")
    flags = found.get("flags", ())
    if air is not None and "MEDIUM_ASSUMED" in flags:
        if air and found.get("medium") == "vacuum":
            wavelength = air_to_vacuum(wavelength)
            found["medium"] = "air"
        found["flags"] = tuple(flag for flag in flags if flag != "MEDIUM_ASSUMED")
    if mask is not None:  # somebody may have marked more
        ivar = np.where(mask != 0, 0.0, ivar)
    return Spectrum(wavelength, flux, ivar, found)


def healpix_29(places: Sequence[tuple[float | None, float | None]]) -> list[int | None]:
    """The index of each position in the nested HEALPix scheme of order 29, as HATS has it.

    Parameters
    ----------
    places : sequence of (float, float)
        Right ascension and declination [deg, ICRS].

    Returns
    -------
    list of int
        None where there is no position.

    Notes
    -----
    Górski et al. (2005, ApJ 622, 759).
    """
    known = [i for i, place in enumerate(places) if None not in place]
    found: list[int | None] = [None] * len(places)
    if known:
        from astropy import units
        from astropy_healpix import lonlat_to_healpix

        ra, dec = np.array([places[i] for i in known], float).T * units.deg
        indices = lonlat_to_healpix(ra, dec, 2**ORDER, order="nested")
        for i, index in zip(known, indices.tolist(), strict=True):
            found[i] = index
    return found


def _valid(text: str) -> str:
    """Unicode: a file's name may hold any bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _place(meta: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Right ascension and declination [deg], where both are known and make sense."""
    try:
        ra, dec = float(meta["ra"]), float(meta["dec"])
    except (KeyError, TypeError, ValueError):
        return None, None
    if not (-360.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        return None, None
    return ra % 360.0, dec


def _in_single_precision(spectrum: Spectrum) -> Spectrum:
    """The spectrum in numbers that float32 holds, divided by a power of ten if it must be.

    ``meta`` has that number as ``flux_scale`` then.
    """
    flux, ivar, meta = spectrum.flux, spectrum.ivar, spectrum.meta
    level = np.abs(flux[spectrum.good & (flux != 0)])
    middle = float(np.median(level)) if level.size else 1.0
    if not 1.0 / MAX_LEVEL < middle < MAX_LEVEL:
        scale = 10.0 ** np.floor(np.log10(middle))
        flux, ivar = flux / scale, (np.sqrt(ivar) * scale) ** 2
        meta = meta | {"flux_scale": scale * meta.get("flux_scale", 1.0)}
    # What is beyond is no light, and stays far enough beyond to be marked.
    flux, ivar = np.clip(flux, -_FLOAT32_MAX, _FLOAT32_MAX), np.minimum(ivar, _FLOAT32_MAX)
    return replace(spectrum, flux=flux, ivar=ivar, meta=meta)


def _as_json(meta: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    return json.dumps(meta, default=plain)
