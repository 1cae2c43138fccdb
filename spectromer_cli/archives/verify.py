"""Checks that a downloaded file is a spectrum, and the requested one."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

from spectromer_cli.archives.targets import IDS, Match, safe_name
from spectromer_cli.errors import ReadError

# FITS readers catch warnings, which is global to the process.
_one_at_a_time = threading.Lock()


def verify(path: Path, match: Match) -> None:
    """Read a file's spectrum and compare the ids in its headers with the requested ones.

    Parameters
    ----------
    path : Path
        The file, whatever its name.
    match : Match
        What was asked for; what the archive did not say of position and the survey's result
        is filled in from the file.

    Raises
    ------
    ReadError
        If it contains no spectrum, or another one.
    """
    from spectromer_cli.spectra.readers import open_spectra

    with _one_at_a_time, open_spectra(path) as spectra:
        if not len(spectra):
            raise ReadError("the file contains no spectrum", "run it again with --force")
        meta = spectra.get(0).meta
    for key, number in match.ids.items():
        said = meta.get(key, number)
        if key == "targetid":
            said = meta.get("targetid", meta.get("object_id", number))
        if str(said) != str(number):
            raise _another(match, f"{key} {said} instead of {number}")
    if match.archive == "sdss":
        said = str(meta.get("object_id") or match.object_id)
        if said != match.object_id:
            raise _another(match, f"{said} instead of {match.object_id}")
    _fill(match, meta)


def _another(match: Match, which: str) -> ReadError:
    return ReadError(
        f"{match.url} contains another object: {which}",
        "run it again later, or contact the archive",
    )


def _fill(match: Match, meta: dict[str, Any]) -> None:
    for name in ("ra", "dec", "survey_z"):
        if math.isnan(getattr(match, name)) and isinstance(meta.get(name), float):
            setattr(match, name, meta[name])
    for name in ("survey_class", "survey_subclass"):
        if not getattr(match, name):
            setattr(match, name, str(meta.get(name) or ""))
    if match.survey_zwarning is None:
        match.survey_zwarning = meta.get("survey_zwarning")
    for name in IDS:
        if name in meta:
            match.ids.setdefault(name, int(meta[name]))


def file_name(path: Path, match: Match) -> str:
    """The name that the survey gives to a verified file; LAMOST's is known from its header only.

    It never leaves the folder, whatever a header says.
    """
    if match.file:
        return safe_name(match.file)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    suffix = ".fits.gz" if packed else ".fits"
    stem = _lamost_name(path) if match.archive == "lamost" else ""
    return safe_name((stem or f"{match.archive}-{match.object_id}") + suffix)


def _lamost_name(path: Path) -> str:
    """``spec-LMJD-PLANID_spSS-FFF``, as the files are called in the releases."""
    from astropy.io import fits

    header = fits.getheader(path)
    try:
        return (
            f"spec-{int(header['LMJD'])}-{str(header['PLANID']).strip()}"
            f"_sp{int(header['SPID']):02d}-{int(header['FIBERID']):03d}"
        )
    except (KeyError, ValueError, TypeError):
        return ""
