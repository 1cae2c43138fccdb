"""Spectra that are objects in Python already: of specutils, Quantities with units, or made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra.quantities import Column, Measured, comments_of, spectrum_of
from spectromer_cli.spectra.spectrum import HANDED_ON, ORIGIN, Spectrum

_HINT = (
    "give a Spectrum, a specutils spectrum, Quantities (wavelength, flux) or (wavelength, flux, "
    "error), or a list of them"
)


def spectra_of(given: Any, *, air: bool | None = None) -> list[Spectrum | ReadError]:
    """The spectra that an object, or a list of objects, holds.

    Parameters
    ----------
    given : object
        A `Spectrum`; ``Spectrum``, ``SpectrumList`` or ``SpectrumCollection`` of specutils, of any
        number of dimensions; a tuple of Quantities, wavelength, flux and perhaps the error, which
        is a variance or inverse variance if its unit says so; or an iterable of such things.
    air : bool, optional
        Wavelengths with units are in air (True) or vacuum (False), whatever the object says.

    Returns
    -------
    list of Spectrum or ReadError
        In their order. What cannot be understood has the reason in its place.

    Raises
    ------
    UsageError
        If there is something that is no spectrum.
    """
    if isinstance(given, Spectrum):
        return [given]
    if hasattr(given, "spectral_axis") and hasattr(given, "flux"):
        return _each(measured_of, given, air)
    if isinstance(given, tuple | list) and given and _has_unit(given[0]):
        return _each(_of_quantities, given, air)
    if isinstance(given, str | Path):
        raise UsageError("spectra and file names cannot be mixed", "give them in separate calls")
    if not isinstance(given, Iterable) or isinstance(given, Mapping | np.ndarray):
        raise UsageError(f"an object of type {type(given).__name__} is not a spectrum", _HINT)
    return [spectrum for one in given for spectrum in spectra_of(one, air=air)]


def are_names(given: Any) -> bool:
    """Whether something names files, one or a list of them, rather than being spectra."""
    if isinstance(given, str | Path):
        return True
    return isinstance(given, list | tuple) and all(isinstance(one, str | Path) for one in given)


def measured_of(part: Any) -> list[Measured]:
    """What an object of specutils holds, one for each of its spectra.

    Parameters
    ----------
    part : specutils.Spectrum or specutils.SpectrumCollection
        Of any number of dimensions.

    Raises
    ------
    ReadError
        If the spectral axis is a velocity without a rest wavelength.
    """
    axis, unit = _axis(part)
    flux = _spectra_as_rows(part, np.ma.getdata(part.flux.value))
    axis = np.broadcast_to(axis, _spectra_as_rows(part, np.empty(part.flux.shape)).shape)
    error = mask = None
    kind = ""
    if (sigma := _sigma(part)) is not None:
        error = _spectra_as_rows(part, np.asarray(sigma.array, dtype=float))
        kind = "" if sigma.unit is None else sigma.unit.to_string()
    if part.mask is not None:
        mask = _spectra_as_rows(part, np.broadcast_to(np.asarray(part.mask) != 0, part.flux.shape))
    meta = part.meta or {}
    header = _header(part, meta)
    return [
        Measured(
            wavelength=Column(axis[row], "spectral_axis", unit),
            flux=Column(flux[row], "flux", part.flux.unit.to_string()),
            error=None if error is None else Column(error[row], "sigma", kind),
            mask=None if mask is None else Column(mask[row], "mask"),
            header=header,
            flux_is_known=header.get("ORIGIN") == ORIGIN,
            comments=comments_of(header),
            meta={"survey": ""} | {key: meta[key] for key in HANDED_ON if key in meta},
        )
        for row in range(len(flux))
    ]


def _each(
    make: Callable[[Any], list[Measured]], given: Any, air: bool | None
) -> list[Spectrum | ReadError]:
    """The spectra of one object; a fault in one costs that one only."""
    try:
        every = make(given)
    except ReadError as error:
        return [error]
    found: list[Spectrum | ReadError] = []
    for one in every:
        try:
            found.append(spectrum_of(one, air=air))
        except ReadError as error:
            found.append(error)
        except ValueError as error:  # what a `Spectrum` refuses
            found.append(ReadError(str(error)))
    return found


def _of_quantities(given: Any) -> list[Measured]:
    """Of (wavelength, flux) or (wavelength, flux, error); each may have a row per spectrum."""
    if len(given) not in (2, 3):
        raise ReadError(f"{len(given)} Quantities are not a spectrum", _HINT)
    names = ("wavelength", "flux", "error")
    columns = [_column(one, name) for one, name in zip(given, names, strict=False)]
    try:
        rows = np.broadcast_arrays(*(np.atleast_2d(column.values) for column in columns))
    except ValueError:
        sizes = ", ".join(f"{column.values.size} {column.name} values" for column in columns)
        raise ReadError(f"the arrays differ in shape: {sizes}") from None
    measured = []
    for own in zip(*rows, strict=True):
        wavelength, flux, *error = map(_with_values, columns, own)
        measured.append(
            Measured(
                wavelength=wavelength, flux=flux, error=error[0] if error else None,
                meta={"survey": ""},
            )
        )  # fmt: skip
    return measured


def _with_values(column: Column, values: np.ndarray) -> Column:
    return replace(column, values=values)


def _column(values: Any, name: str) -> Column:
    """Values with their unit, NaN where they are masked."""
    unit = getattr(values, "unit", None)
    bare = values.unmasked.value if hasattr(values, "unmasked") else np.ma.getdata(values)
    numbers = np.where(getattr(values, "mask", False), np.nan, np.asarray(bare, dtype=float))
    return Column(numbers, name, "" if unit is None else unit.to_string())


def _has_unit(value: Any) -> bool:
    return getattr(value, "unit", None) is not None and not hasattr(value, "spectral_axis")


def _axis(part: Any) -> tuple[np.ndarray, str]:
    """The spectral axis and its unit; of a velocity with a rest wavelength, in Å."""
    axis = part.spectral_axis
    if axis.unit.physical_type != "speed":
        return axis.value, axis.unit.to_string()
    try:
        return axis.to_value("Angstrom"), "Angstrom"
    except Exception as error:  # astropy raises whatever it lacks
        raise ReadError(
            "the spectral axis is a velocity without a rest wavelength", "convert it to Angstrom"
        ) from error


def _spectra_as_rows(part: Any, values: np.ndarray) -> np.ndarray:
    """Values of the shape of the flux as (spectra, pixels)."""
    axis = getattr(part, "spectral_axis_index", None)
    values = np.moveaxis(values, -1 if axis is None else axis, -1)
    return values.reshape(-1, values.shape[-1])


def _sigma(part: Any) -> Any:
    """Standard deviations; None if there are none, or it is not said what the errors are."""
    from astropy.nddata import StdDevUncertainty

    if part.uncertainty is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return part.uncertainty.represent_as(StdDevUncertainty)
    except TypeError:  # UnknownUncertainty
        return None


def _header(part: Any, meta: Mapping[str, Any]) -> Any:
    """The header that the meta data hold, or else they themselves, and what the WCS says."""
    header = meta.get("header", meta)
    if not isinstance(header, Mapping) and not hasattr(header, "cards"):
        header = {}
    kinds = getattr(getattr(getattr(part, "wcs", None), "wcs", None), "ctype", ())
    spectral = [kind for kind in kinds if str(kind)[:4] in ("AWAV", "WAVE")]
    if spectral and "CTYPE1" not in header:
        return {**dict(header), "CTYPE1": spectral[0], "CUNIT1": "Angstrom"}
    return header
