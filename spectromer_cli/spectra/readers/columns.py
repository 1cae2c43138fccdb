"""What tables of spectra have in common: the names of their columns and units of wavelength."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.readers.base import ReadOptions
from spectromer_cli.spectra.spectrum import air_to_vacuum

# The usual names in lower case, the most particular first.
WAVELENGTH = (
    *("wavelength", "wave", "lambda", "lam", "wl", "wavelengths", "wav", "spectral_axis"),
    *("wavelength_vac", "wave_vac", "vacuum_wavelength", "lambda_obs", "wave_obs"),
)
LOG_WAVELENGTH = ("loglam", "log_wave", "log_wavelength", "loglambda", "log_lambda")
FLUX = ("flux", "flam", "f_lambda", "flux_density", "flux_lambda", "fluxes", "spec", "spectrum")
IVAR = ("ivar", "inverse_variance", "invvar", "flux_ivar", "ivar_flux")
ERROR = (
    *("error", "err", "sigma", "flux_err", "flux_error", "fluxerr", "e_flux", "eflux", "noise"),
    *("uncertainty", "unc", "std", "sig", "err_flux", "flux_sigma", "flux_unc", "errs"),
)
MASK = ("mask", "and_mask", "andmask", "flux_mask", "bad")


def find(names: Iterable[str], known: tuple[str, ...], prefix: str = "") -> str | None:
    """The column that has one of the known names, in whatever case; None if there is none."""
    by_lower = {name.strip().lower(): name for name in names}
    return next((by_lower[prefix + name] for name in known if prefix + name in by_lower), None)


def find_spectrum(names: Iterable[str], prefix: str = "") -> dict[str, str] | None:
    """Which column is what.

    Parameters
    ----------
    names : iterable of str
        The columns that there are.
    prefix : str
        What the known names begin with.

    Returns
    -------
    dict or None
        ``wavelength``, ``flux`` and, where there are any, ``ivar``, ``error``, ``mask`` → the
        column's name; None if there are no wavelengths or no flux.
    """
    names = list(names)
    known = {
        "wavelength": WAVELENGTH + LOG_WAVELENGTH,
        "flux": FLUX,
        "ivar": IVAR,
        "error": ERROR,
        "mask": MASK,
    }
    found = {key: find(names, values, prefix) for key, values in known.items()}
    if found["wavelength"] is None or found["flux"] is None:
        return None
    return {key: name for key, name in found.items() if name is not None}


def vacuum_angstrom(values: Any, name: str, unit: str, options: ReadOptions) -> np.ndarray:
    """Wavelengths of a table as vacuum wavelengths in Å.

    Parameters
    ----------
    values : array, shape (n,)
        As the table has them.
    name : str
        Name of the column; one of `LOG_WAVELENGTH` holds log10(λ/Å).
    unit : str
        The table's own unit; empty if it has none. Frequencies and energies will do.
    options : ReadOptions
        Unit where the table has none, and whether wavelengths are in air.

    Returns
    -------
    array of float64, shape (n,)

    Raises
    ------
    ReadError
        If the unit is unknown, or there is none and the values are not plainly Å.

    Notes
    -----
    Without any unit, values whose median lies between 2500 and 25000 are Å, since no optical
    spectrum reaches there in nm or µm; everything else is refused, not guessed.
    """
    wavelength = np.asarray(values, dtype=np.float64)
    if name.strip().lower() in LOG_WAVELENGTH:
        wavelength = 10.0**wavelength
    else:
        if unit and options.wavelength_unit and not is_unit(unit):
            unit = ""  # a unit that nobody knows does not overrule the user
        unit = unit or options.wavelength_unit
        if unit:
            wavelength = _to_angstrom(wavelength, unit)
        else:
            finite = wavelength[np.isfinite(wavelength)]
            middle = float(np.median(finite)) if finite.size else float("nan")
            if not 2500.0 <= middle <= 25000.0:
                raise ReadError(
                    f"the wavelengths have no unit and are not plainly Å (median {middle:.4g})",
                    _unit_hint(middle),
                )
    return air_to_vacuum(wavelength) if options.air else wavelength


def _unit_hint(middle: float) -> str:
    """What the wavelengths may be, by their median."""
    if 250.0 <= middle < 2500.0:
        return "nm? then say so: --wavelength-unit nm"
    if 0.25 <= middle < 2.5:
        return "µm? then say so: --wavelength-unit um"
    if 3.4 <= middle <= 4.4:
        return "log10 of Å? then name the column loglam"
    return "name the columns wavelength and flux, and give --wavelength-unit"


# As files spell them, in lower case.
_SPELLINGS = {
    **dict.fromkeys(("a", "å", "ang", "angs", "angstrom", "angstroms"), "Angstrom"),
    **dict.fromkeys(("nanometer", "nanometers", "nanometre", "nanometres"), "nm"),
    **dict.fromkeys(("micron", "microns", "micrometer", "micrometers", "µm"), "um"),
}


def is_unit(unit: str) -> bool:
    """Whether a unit is one of wavelength, or of frequency or energy."""
    try:
        _to_angstrom(np.ones(1), unit)
    except ReadError:
        return False
    return True


def _to_angstrom(values: np.ndarray, unit: str) -> np.ndarray:
    from astropy import units

    try:
        given = units.Unit(_SPELLINGS.get(unit.strip().lower(), unit.strip()))
        return (values * given).to_value("Angstrom", equivalencies=units.spectral())
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise ReadError(
            f"{unit!r} is no unit of wavelength", "use Angstrom, nm or um, or set --wavelength-unit"
        ) from error


def increasing(
    wavelength: np.ndarray, *others: np.ndarray, first_line: int = 1, unit: str = "row"
) -> list[np.ndarray]:
    """The arrays in the order of increasing wavelength.

    Parameters
    ----------
    wavelength, *others : array, shape (n,)
        A spectrum that runs from red to blue is reversed.
    first_line : int
        Number of the first pixel, for the message.
    unit : str
        What is counted.

    Raises
    ------
    ReadError
        If the wavelengths run neither up nor down throughout; names the first that does not.
    """
    steps = np.diff(wavelength)
    if steps.size and np.median(steps) < 0:
        turned = increasing(-wavelength, *others, first_line=first_line, unit=unit)
        return [-turned[0][::-1], *(array[::-1] for array in turned[1:])]
    wrong = np.flatnonzero(~(steps > 0))
    if wrong.size:
        i = int(wrong[0])
        raise ReadError(
            f"the wavelengths do not run one way: {unit} {first_line + i + 1} has "
            f"{abs(wavelength[i + 1]):.6g} after {abs(wavelength[i]):.6g} Å",
            "sort the table by wavelength and drop repeated pixels",
        )
    return [wavelength, *others]


def ivar_of(error: np.ndarray) -> np.ndarray:
    """Inverse variance of 1-σ errors; 0 where an error is not above zero."""
    good = np.isfinite(error) & (error > 0)
    with np.errstate(over="ignore", divide="ignore"):  # what overflows is marked bad later
        return np.where(good, 1.0 / np.where(good, error, 1.0) ** 2, 0.0)
