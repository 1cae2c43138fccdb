"""What tables of spectra have in common: by which names their columns are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from spectromer_cli.spectra.quantities import card

# The usual names in lower case, the most particular first. Of several wavelengths, those in vacuum.
WAVELENGTH = (
    *("wavelength_vac", "wave_vac", "vacuum_wavelength", "lambda_vac", "lam_vac", "wl_vac"),
    *("wavelength_vacuum", "wave_vacuum", "lambda_vacuum", "vac_wave", "vac_wavelength"),
    *("wavelength", "wave", "lambda", "lam", "wl", "wavelengths", "wav", "spectral_axis", "waves"),
    *("lambda_obs", "wave_obs", "wavelength_obs", "obs_wavelength", "wlen", "lamb", "lbda", "awav"),
    *(
        "wavelength_air",
        "wave_air",
        "air_wavelength",
        "lambda_air",
        "lam_air",
        "wl_air",
        "air_wave",
    ),
    *("air_wave", "wavelength_angstrom", "wavelength_aa", "wave_aa", "lambda_aa", "wavelength_a"),
    *("wavelength_nm", "wave_nm", "lambda_nm", "wavelength_um", "wave_um", "lambda_um"),
    *("wavelength_micron", "spectral_coord", "frequency", "freq", "nu"),
    *("loglam", "log_wave", "log_wavelength", "loglambda", "log_lambda", "log10_lambda"),
    *("log10lam", "log10_wave", "logwave", "ln_wave", "lnlam", "ln_lambda", "lnwave"),
)
FLUX = (
    *("flux", "flam", "f_lambda", "flux_density", "flux_lambda", "flambda", "fluxes", "flux_lam"),
    *("spec", "spectrum", "fluxdensity", "flx", "f_lam", "flux_calibrated", "fluxcal"),
    *("fnu", "f_nu", "flux_nu", "flux_jy", "flux_mjy", "flux_ujy"),
    *("log_flux", "logflux", "log_flam", "log10_flux"),
    *("mag", "abmag", "mag_ab", "ab_mag", "stmag", "mag_st", "magnitude"),
    *("counts", "count", "net", "norm_flux", "normalized_flux", "normalised_flux", "flux_norm"),
    *("flux_normalized", "flux_normalised"),
)
ERROR = (
    *("ivar", "inverse_variance", "invvar", "flux_ivar", "ivar_flux", "inv_var", "weight"),
    *("error", "err", "sigma", "flux_err", "flux_error", "fluxerr", "e_flux", "eflux", "noise"),
    *("uncertainty", "unc", "std", "sig", "err_flux", "flux_sigma", "flux_unc", "errs", "fluxunc"),
    *("staterror", "stat_error", "stat_err", "staterr", "errors", "flux_std", "flux_uncertainty"),
    *("error_flux", "sigma_flux", "dflux", "fluxerror", "ferr", "flux_stat_error", "rms", "eflx"),
    *("flam_err", "flam_sig", "fnu_err", "e_flam", "stddev", "std_dev", "uncert", "flux_errors"),
    *("variance", "var", "flux_var", "flux_variance", "var_flux", "stat", "fluxvar"),
    *("mag_err", "e_mag", "magerr", "mag_error", "counts_err", "count_err", "counts_error"),
    *("net_error", "snr", "s/n", "sn", "s_n", "signal_to_noise"),
)
MASK = (
    *("mask", "and_mask", "andmask", "flux_mask", "bad", "qual", "dq", "quality", "flag", "flags"),
    *("dataqual", "data_quality", "qual_flag", "badpix", "bad_pixel", "dqf", "quality_flag"),
    *("good", "gpm", "good_pixels", "is_good", "valid"),
)
ROLES = {"wavelength": WAVELENGTH, "flux": FLUX, "error": ERROR, "mask": MASK}
# What a flux's own error may be called by, behind its name.
_ERROR_ENDS = ("_ivar", "_err", "_error", "_sig", "_sigma", "_unc", "_std", "_var", "_variance")
# Masks in which 1 marks a good pixel; CALSPEC has its own DATAQUAL beside these columns.
_GOOD = ("good", "gpm", "good_pixels", "is_good", "valid")
_CALSPEC = {"staterror", "syserror", "dataqual"}


def find(names: Iterable[str], known: tuple[str, ...], prefix: str = "") -> str | None:
    """The column that has one of the known names, in whatever case; None if there is none.

    ``Flux error`` and ``log(lambda)`` are as good as ``flux_error`` and ``log_lambda``.
    """
    return _find(tuple(names), known, prefix)


# Every row of a table is asked for the same names.
@lru_cache(maxsize=1024)
def _find(names: tuple[str, ...], known: tuple[str, ...], prefix: str) -> str | None:
    by_lower = {_plain(name): name for name in reversed(names)}
    by_lower |= {name.strip().lower(): name for name in names}
    return next((by_lower[prefix + name] for name in known if prefix + name in by_lower), None)


def _plain(name: str) -> str:
    """The name in lower case, with one _ in place of all that is neither letter nor digit."""
    return re.sub(r"[^\w]+|_+", "_", name.lower().replace("λ", "lambda")).strip("_")


def role_of(name: str) -> str:
    """What a column of this very name holds, of `ROLES`; empty if the name is not known."""
    return next((role for role, known in ROLES.items() if find([name], known)), "")


_IN_WORDS = {
    "other": r"sky|model|cont(inuum)?(?![a-z])|(?<![a-z])fit|telluric|smooth|background|"
    r"response|wave\w*_(err|unc)|resol|disp|time|date|phase|pix(el)?(?![a-z])|(?<![a-z])([mhb]?jd|ra|dec|\w*id|x|y|z|redshift)$",
    "mask": r"mask|flag|quality|(?<![a-z])(dq|bad)(?![a-z])",
    "error": r"err|sigma|uncert|(?<![a-z])(unc|std|rms|var|ivar|stat)(?![a-z])|noise|variance|"
    r"deviation|signal_to_noise|^e_|(?<![a-z])snr",
    "flux": r"flux|flx|flam|fnu|(?<![a-z])f_?(lambda|lam|nu)|intensit|counts?(?![a-z])|"
    r"(?<![a-z])(ab|st)?mag(s|nitudes?)?(?![a-z])|spectrum",
    "wavelength": r"wav|lambda|(?<![a-z])(wl|lam|angstroms?|ang)(?![a-z])",
}


def role_in_words(name: str) -> str:
    """What the words of a name or a description say that a column holds.

    Returns
    -------
    str
        Of `ROLES`; "other" for what is none of them, such as the sky; empty if nothing is said.
    """
    plain = _plain(name)
    return next((role for role, words in _IN_WORDS.items() if re.search(words, plain)), "")


def find_spectrum(names: Iterable[str], prefix: str = "") -> dict[str, str] | None:
    """Which column is what.

    Parameters
    ----------
    names : iterable of str
        The columns that there are.
    prefix : str
        What the known names begin with, in lower case.

    Returns
    -------
    dict or None
        ``wavelength``, ``flux`` and, where there are any, ``error`` (of any kind) and ``mask`` →
        the column's name; None if there are no wavelengths or no flux.
    """
    names = list(names)
    found = {key: find(names, known, prefix) for key, known in ROLES.items()}
    if found["wavelength"] is None or found["flux"] is None:
        return None
    own = found["flux"].strip().lower()  # OPT_FLAM_IVAR belongs to OPT_FLAM
    found["error"] = find(names, tuple(own + end for end in _ERROR_ENDS)) or found["error"]
    return {key: name for key, name in found.items() if name is not None}


# Utypes of the IVOA Spectrum data model 1.1, and UCD1+ words, by role.
_BY_UCD = {
    "error": r"accuracy\.staterror|stat\.error(;|$)|stat\.variance|stat\.snr",
    "mask": r"accuracy\.qualitystatus|meta\.code\.qual",
    "wavelength": r"spectralaxis\.value|(^|\s)em\.(wl|freq|energy|wavenumber)",
    "flux": r"fluxaxis\.value|(^|\s)phot\.(flux|flux\.density|fluence)(;|\s|$)|(^|\s)phot\.mag",
}


def find_by_ucd(said: Mapping[str, str]) -> dict[str, str] | None:
    """Which column is what, by utype or UCD.

    Parameters
    ----------
    said : mapping
        Description, UCD and utype by the column's name.

    Returns
    -------
    dict or None
        As of `find_spectrum`.
    """
    found: dict[str, str] = {}
    for name, words in said.items():
        role = next((r for r, ucd in _BY_UCD.items() if re.search(ucd, words.lower())), "")
        if role:
            found.setdefault(role, name)
    return found if {"wavelength", "flux"} <= found.keys() else None


def good_is(
    mask: str, names: Iterable[str] = (), header: Mapping[str, Any] | None = None
) -> Literal["zero", "nonzero"]:
    """Which values of a mask mark good pixels.

    Parameters
    ----------
    mask : str
        Name of its column.
    names : iterable of str
        All columns of the table.
    header : mapping, optional
        Of the file.

    Returns
    -------
    {"zero", "nonzero"}
        Zero, as ESO, STScI and specutils have it; one in PypeIt's files and in CALSPEC's.
    """
    lowered = {name.strip().lower() for name in names}
    own = mask.strip().lower()
    pypeit = header is not None and (
        card(header, "DMODCLS") is not None or card(header, "PYP_SPEC") is not None
    )
    if own in _GOOD or pypeit or own in ("opt_mask", "box_mask") or lowered >= _CALSPEC:
        return "nonzero"
    return "zero"
