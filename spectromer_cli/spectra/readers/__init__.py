"""Readers: one file a survey, each with `identify(source)` and `read(source, options)`.

A new survey is a new module with these two functions, named in `READERS`. `identify` looks
at the structure only, never at the file's name; the first that says yes reads the file, and one
that raises says no.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra, opened
from spectromer_cli.spectra.readers.fits_bytes import NotPlain
from spectromer_cli.spectra.spectrum import Spectrum

# In this order: the most particular structure first, plain tables and specutils last.
READERS = (
    *("sdss", "lamost", "desi", "parquet_tables", "hdf5_tables", "fits_tables", "fits_images"),
    *("votable", "text", "table", "specutils"),
)
# Those that take a file by its bytes (`Source.hdus`) as well as by astropy.
QUICK = ("sdss", "lamost", "desi")

FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz")

T = TypeVar("T")

__all__ = ["READERS", "ReadOptions", "Spectra", "open_spectra", "read"]


@contextmanager
def open_spectra(path: str | Path, options: ReadOptions | None = None) -> Iterator[Spectra]:
    """Open a file and give its spectra, each read on demand.

    Parameters
    ----------
    path : str or Path
        A file of any kind that the readers know.
    options : ReadOptions, optional
        What the file does not say itself.

    Yields
    ------
    Spectra

    Raises
    ------
    ReadError
        If the file is missing or broken; `NotASpectrum` if it holds none known here.
    """
    options = options or ReadOptions()
    with opened(Path(path), options) as source:
        carefully = cache(lambda: _spectra(source, options))
        quick = _quick_spectra(source.quick, options)
        if quick is None:
            yield carefully()
            return

        def get(row: int) -> Spectrum:
            try:
                return quick.get(row)
            except (Exception, NotPlain):  # said in the words that astropy leads to
                return carefully().get(row)

        yield replace(quick, get=get)


def _quick_spectra(source: Source | None, options: ReadOptions) -> Spectra | None:
    """The spectra of a survey's file by its bytes; None where that is not plain."""
    if source is None:
        return None
    try:
        for name in QUICK:
            reader = import_module(f"spectromer_cli.spectra.readers.{name}")
            if reader.identify(source):
                return reader.read(source, options)
    except (Exception, NotPlain):  # said in the words that astropy leads to
        pass
    return None


def _spectra(source: Source, options: ReadOptions) -> Spectra:
    """The spectra of any file that a reader knows."""
    reader = _reader_for(source)
    spectra = _guarded(source, reader, lambda: reader.read(source, options))
    return replace(spectra, get=lambda row: _guarded(source, reader, lambda: spectra.get(row), row))


def read(path: str | Path, *, air: bool | None = None, wavelength_unit: str = "") -> list[Spectrum]:
    """Read every spectrum of a file.

    Parameters
    ----------
    path : str or Path
        SDSS, LAMOST or DESI file, Multimodal Universe or SPARCL table, or a plain table.
    air : bool, optional
        The wavelengths are in air (True) or vacuum (False), whatever the file says.
    wavelength_unit : str
        Unit of a plain table's wavelengths, where it has none.

    Returns
    -------
    list of Spectrum

    Raises
    ------
    ReadError
        If the file, or any spectrum in it, cannot be read.
    """
    with open_spectra(path, ReadOptions(air, wavelength_unit, file_timeout=0)) as spectra:
        return list(spectra)


def _reader_for(source: Source) -> ModuleType:
    _ = source.handle  # what cannot be opened is said here
    for name in READERS:
        reader = import_module(f"spectromer_cli.spectra.readers.{name}")
        try:
            if reader.identify(source):
                return reader
        except (MemoryError, RecursionError) as error:
            raise _too_large(str(source.path), error) from error
        except Exception:  # a damaged file makes the libraries raise anything: not of this kind
            continue
    if source.kind == "text" and source.path.name.lower().endswith(FITS_SUFFIXES):
        # A server's message in place of the file: not to be skipped in a folder.
        raise ReadError(f"{source.path} {_what_it_is(source)}", "download it again")
    more = (
        "" if find_spec("specutils") else "; for more formats: pip install 'spectromer[specutils]'"
    )
    raise NotASpectrum(
        f"{source.path} {_what_it_is(source)}",
        "supported are survey files, images with a wavelength scale, and tables with columns of "
        f"wavelength and flux{more}",
    )


def _what_it_is(source: Source) -> str:
    """What kind of file it is, if it is not a spectrum."""
    if source.kind == "text":
        if "<html" in source.handle[:2000].lower():
            return "is a web page that a server sent instead of a spectrum"
        if source.path.name.lower().endswith(FITS_SUFFIXES):
            return f"is named as FITS, but is text: {source.handle.strip()[:40]!r}"
        if re.search(r"(?m)^\s*\d+(,\d+)?[;\t ]+-?\d+,\d+", source.handle[:200_000]):
            return "has decimal commas: write numbers with decimal points"
    if source.kind == "fits":
        try:
            shapes = [hdu.shape for hdu in source.handle if getattr(hdu, "is_image", False)]
        except Exception as error:  # astropy raises whatever a damaged header leads to
            return f"is a damaged FITS file ({type(error).__name__}: {error})"
        images = [shape for shape in shapes if len(shape) >= 2]
        if images and len(images) == len(source.handle):
            return f"is an image ({' × '.join(map(str, images[0][::-1]))} pixels), not a spectrum"
    return "contains no spectrum in a supported format"


def _guarded(source: Source, reader: ModuleType, work: Callable[[], T], row: int = 0) -> T:
    """Do the work of a reader; whatever it raises becomes a `ReadError` that names the file.

    Damaged files make the libraries below raise errors of every kind, and one bad file must
    not end a run over a million good ones.
    """
    where = f"{source.path}[{row}]" if row else str(source.path)
    try:
        return work()
    except ReadError as error:
        if str(source.path) in str(error):
            raise
        raise ReadError(f"{where}: {error}", error.hint) from error
    except (MemoryError, RecursionError) as error:
        raise _too_large(where, error) from error
    except Exception as error:
        name = reader.__name__.rsplit(".", 1)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ReadError(
            f"{where} looks like a {name} file but is damaged ({reason})",
            "download the file again",
        ) from error


def _too_large(where: str, error: Exception) -> ReadError:
    what = "memory" if isinstance(error, MemoryError) else "nested levels"
    return ReadError(f"{where} needs more {what} than available", "read it on a larger machine")
