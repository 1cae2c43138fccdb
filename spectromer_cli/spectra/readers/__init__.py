"""Readers: one file a survey, each with `identify(source)` and `read(source, options)`.

A new survey is a new module with these two functions, named in `READERS`. `identify` looks
at the structure only, never at the file's name, and never raises; the first that says yes
reads the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from spectromer_cli.errors import NotASpectrum, ReadError
from spectromer_cli.spectra.readers.base import ReadOptions, Source, Spectra, opened
from spectromer_cli.spectra.spectrum import Spectrum

# In this order: the most particular structure first, plain tables and specutils last.
READERS = ("sdss", "lamost", "desi", "multimodal", "table", "specutils")

__all__ = ["READERS", "ReadOptions", "Spectra", "open_spectra", "read"]


@contextmanager
def open_spectra(path: str | Path, options: ReadOptions | None = None) -> Iterator[Spectra]:
    """Open a file and give its spectra, each read when asked for.

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
    with opened(Path(path)) as source:
        reader = _reader_for(source)
        try:
            yield reader.read(source, options or ReadOptions())
        except (KeyError, IndexError, ValueError, TypeError, OSError) as error:
            raise _as_read_error(source, reader, error) from error


def read(
    path: str | Path, *, air: bool = False, wavelength_unit: str = ""
) -> list[Spectrum]:
    """Read every spectrum of a file.

    Parameters
    ----------
    path : str or Path
        SDSS, LAMOST or DESI file, Multimodal Universe or SPARCL table, or a plain table.
    air : bool
        The wavelengths of a plain table are in air.
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
    with open_spectra(path, ReadOptions(air, wavelength_unit)) as spectra:
        return list(spectra)


def _reader_for(source: Source) -> ModuleType:
    for name in READERS:
        reader = import_module(f"spectromer_cli.spectra.readers.{name}")
        if reader.identify(source):
            return reader
    raise NotASpectrum(
        f"{source.path} holds no spectrum that is known here",
        "read are SDSS, LAMOST, DESI, Multimodal Universe and SPARCL files, and tables with "
        "columns for wavelength and flux; more with: pip install 'spectromer[specutils]'",
    )


def _as_read_error(source: Source, reader: ModuleType, error: Exception) -> ReadError:
    name = reader.__name__.rsplit(".", 1)[-1]
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ReadError(f"{source.path} looks like a {name} file but is broken ({reason})")
