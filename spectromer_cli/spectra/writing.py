"""A spectrum as a file that everything reads: the layout of SDSS `spec` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.spectrum import Spectrum

# NODATA of the SDSS pixel masks.
_BAD = 1 << 22


def write_spec(path: Path, spectrum: Spectrum, comment: str) -> None:
    """Write a spectrum as table COADD with flux, loglam, ivar and and_mask.

    Parameters
    ----------
    path : Path
        Appears when it is whole.
    spectrum : Spectrum
        Its class and redshift, should it know them, are not written.
    comment : str
        Into the primary header.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    from astropy.io import fits

    bad = np.where(spectrum.ivar > 0, 0, _BAD)
    columns = [
        fits.Column("flux", "E", array=spectrum.flux, unit="1E-17 erg/cm^2/s/Ang"),
        # In double precision: float32 would move a pixel by a twentieth of its width.
        fits.Column("loglam", "D", array=np.log10(spectrum.wavelength)),
        fits.Column("ivar", "E", array=spectrum.ivar),
        fits.Column("and_mask", "J", array=bad),
    ]
    primary = fits.PrimaryHDU()
    primary.header["VACUUM"] = (True, "wavelengths are in vacuum")
    primary.header["COMMENT"] = comment
    coadd = fits.BinTableHDU.from_columns(columns, name="COADD")
    for hdu in (primary, coadd):
        hdu.add_checksum(when="")  # without the time: the same spectrum is the same file
    with atomic_path(path) as temporary:
        fits.HDUList([primary, coadd]).writeto(temporary, overwrite=True)
