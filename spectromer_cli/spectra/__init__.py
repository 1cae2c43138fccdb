"""Spectra: the container, the wavelength grid, the lines, the readers."""

from spectromer_cli.spectra.spectrum import Spectrum, air_to_vacuum, ivar_from_scatter

__all__ = ["Spectrum", "air_to_vacuum", "ivar_from_scatter"]
