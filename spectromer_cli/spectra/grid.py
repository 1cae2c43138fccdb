"""The fixed wavelength grid: every spectrum is brought onto it before an image is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.spectrum import Spectrum


@dataclass(frozen=True)
class Grid:
    """Pixels evenly spaced in log10 of the vacuum wavelength.

    The default is the sampling of SDSS and LAMOST, so that their pixels are copied untouched.

    Parameters
    ----------
    loglam0 : float
        log10(λ/Å) of the first pixel's centre.
    dloglam : float
        Step in log10 λ; 1e-4 is 69 km/s.
    n : int
        Number of pixels.
    """

    loglam0: float = 3.5560
    dloglam: float = 1e-4
    n: int = 4608

    @property
    def loglam(self) -> np.ndarray:
        """log10(λ/Å) of the pixel centres, shape (n,)."""
        return self.loglam0 + self.dloglam * np.arange(self.n)

    @property
    def wavelength(self) -> np.ndarray:
        """Wavelength of the pixel centres in Å, shape (n,)."""
        return 10.0**self.loglam


@dataclass
class Prepared:
    """A spectrum on the grid, ready to be drawn.

    Parameters
    ----------
    flux : array of float32, shape (n,)
        Flux divided by `scale`; 0 where `ivar` is 0.
    ivar : array of float32, shape (n,)
        Inverse variance in the same unit; 0 where nothing was measured.
    scale : float
        The median of \\|flux\\| over the good pixels.
    """

    flux: np.ndarray
    ivar: np.ndarray
    scale: float


# Fewer good pixels than this say nothing: a fifteenth of the default grid.
MIN_GOOD_PIXELS = 300
# In units of the median level; the strongest emission lines reach some thousand.
MAX_FLUX = 1e6


def prepare(spectrum: Spectrum, grid: Grid) -> Prepared:
    """Bring a spectrum onto the grid and divide it by its median level.

    Parameters
    ----------
    spectrum : Spectrum
        Any sampling.
    grid : Grid
        The grid of the model.

    Returns
    -------
    Prepared

    Raises
    ------
    ReadError
        If too few good pixels lie on the grid, or the flux is zero throughout.
    """
    if not spectrum.good.any():
        raise ReadError("every pixel is masked, zero or not a number", "look at the mask and ivar")
    spectrum = _without_wild(spectrum)
    flux, ivar = _copy(spectrum, grid) if _on_grid(spectrum, grid) else _rebin(spectrum, grid)
    good = ivar > 0
    if good.sum() < MIN_GOOD_PIXELS:
        first, last = spectrum.wavelength[spectrum.good][[0, -1]]
        raise ReadError(
            f"only {int(good.sum())} good pixels between {grid.wavelength[0]:.0f} and "
            f"{grid.wavelength[-1]:.0f} Å (the spectrum's: {first:.4g} to {last:.4g} Å)",
            "check the wavelength unit and the mask",
        )
    scale = float(np.median(np.abs(flux[good])))
    if not scale > 0:
        raise ReadError("the flux is zero throughout", "is this a sky or an unplugged fibre?")
    flux = np.where(good, flux / scale, 0.0)
    # An error below 1e-4 of the level is no measurement; it would swamp the float32 image.
    ivar = np.minimum(np.where(good, ivar * scale**2, 0.0), 1e8)
    return Prepared(flux.astype(np.float32), ivar.astype(np.float32), scale)


def _without_wild(spectrum: Spectrum) -> Spectrum:
    """The spectrum with pixels beyond `MAX_FLUX` medians marked bad: no light is that bright."""
    good = spectrum.good
    level = float(np.median(np.abs(spectrum.flux[good])))
    wild = good & (np.abs(spectrum.flux) > MAX_FLUX * level)
    if level == 0.0 or not wild.any():
        return spectrum
    ivar = np.where(wild, 0.0, spectrum.ivar)
    return Spectrum(spectrum.wavelength, spectrum.flux, ivar, spectrum.meta)


def _pixel_positions(spectrum: Spectrum, grid: Grid) -> np.ndarray:
    """The spectrum's pixel centres in units of grid pixels."""
    return (np.log10(spectrum.wavelength) - grid.loglam0) / grid.dloglam


def _on_grid(spectrum: Spectrum, grid: Grid) -> bool:
    """Whether the spectrum has the grid's own pixels, within a twentieth of one."""
    position = _pixel_positions(spectrum, grid)
    aligned = np.abs(position - np.round(position)) < 0.05
    return bool(aligned.all() and np.all(np.diff(position) > 0.9))


def _copy(spectrum: Spectrum, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    index = np.round(_pixel_positions(spectrum, grid)).astype(int)
    inside = (index >= 0) & (index < grid.n)
    flux, ivar = np.zeros(grid.n), np.zeros(grid.n)
    flux[index[inside]] = spectrum.flux[inside]
    ivar[index[inside]] = spectrum.ivar[inside]
    return flux, ivar


def _rebin(spectrum: Spectrum, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Average over each grid pixel, conserving the flux density and the information.

    Flux: the mean over the grid pixel of the line through the good samples. ivar: the
    information per unit wavelength, integrated over the grid pixel, so that splitting or
    joining pixels neither adds nor loses any. A grid pixel less than half covered by good
    input pixels is bad.
    """
    edges_in = _edges(np.log(spectrum.wavelength))
    edges_out = np.log(10.0) * (grid.loglam0 + grid.dloglam * (np.arange(grid.n + 1) - 0.5))
    width_in, width_out = np.diff(edges_in), np.diff(edges_out)
    x = np.log(spectrum.wavelength)
    # A pixel that seems ten times wider than the others borders a gap in the table.
    good = spectrum.good & (width_in < 10.0 * np.median(width_in))
    if not good.any():
        return np.zeros(grid.n), np.zeros(grid.n)
    filled = np.interp(x, x[good], spectrum.flux[good])

    def integral(values: np.ndarray) -> np.ndarray:
        """Integral of a function constant over each input pixel, between the output edges."""
        total = np.concatenate([[0.0], np.cumsum(values * width_in)])
        return np.diff(np.interp(edges_out, edges_in, total))

    coverage = integral(good.astype(float)) / width_out
    ivar = integral(np.where(good, spectrum.ivar, 0.0) / width_in)
    # The line through the samples, integrated exactly: knots at both samples and output edges.
    knots = np.union1d(edges_out, x)
    values = np.interp(knots, x, filled)
    area = np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(knots))])
    flux = np.diff(np.interp(edges_out, knots, area)) / width_out
    return flux, np.where(coverage > 0.5, ivar, 0.0)


def _edges(centres: np.ndarray) -> np.ndarray:
    middle = 0.5 * (centres[1:] + centres[:-1])
    first, last = 1.5 * centres[0] - 0.5 * centres[1], 1.5 * centres[-1] - 0.5 * centres[-2]
    return np.concatenate([[first], middle, [last]])
