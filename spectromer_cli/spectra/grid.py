"""The fixed wavelength grid: every spectrum is brought onto it before an image is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.spectra.ranks import median, percentile
from spectromer_cli.spectra.spectrum import Spectrum, errors_fit_scatter, filling, ivar_from_scatter


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
        """log10(λ/Å) of the pixel centres, shape (n,); not to be written to."""
        return _loglam(self)

    @property
    def wavelength(self) -> np.ndarray:
        """Wavelength of the pixel centres in Å, shape (n,); not to be written to."""
        return _wavelength(self)


# Every spectrum needs them, and they are the same for all.
@lru_cache(maxsize=8)
def _loglam(grid: Grid) -> np.ndarray:
    values = grid.loglam0 + grid.dloglam * np.arange(grid.n)
    values.flags.writeable = False
    return values


@lru_cache(maxsize=8)
def _wavelength(grid: Grid) -> np.ndarray:
    values = 10.0 ** _loglam(grid)
    values.flags.writeable = False
    return values


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
        Its `level`.
    sn_median : float
        Median S/N per pixel of the spectrum's own sampling, over the good pixels on the grid.
    errors_doubtful : bool
        The file's errors cannot be those of its flux (see `spectrum.errors_fit_scatter`).
    """

    flux: np.ndarray
    ivar: np.ndarray
    scale: float
    sn_median: float = float("nan")
    errors_doubtful: bool = False


# Fewer good pixels than this say nothing: a fifteenth of the default grid.
MIN_GOOD_PIXELS = 300
# In units of the median level; the strongest emission lines reach some thousand.
MAX_FLUX = 1e6
# Of the 90th percentile of the flux; ordinary spectra have a median above that.
BRIGHT_SHARE = 0.4
# Message and hint for a spectrum without any light.
NO_FLUX = ("the flux is zero everywhere", "is this a sky spectrum or an unplugged fibre?")


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
        raise ReadError("every pixel is masked, zero or NaN", "check the mask and ivar")
    spectrum = _without_wild(in_window(spectrum, grid))
    index = _on_grid((np.log10(spectrum.wavelength) - grid.loglam0) / grid.dloglam)
    flux, ivar = _rebin(spectrum, grid) if index is None else _copy(spectrum, index, grid)
    good = ivar > 0
    scale = level(flux[good]) if good.any() else 1.0
    if not scale > 0:
        raise ReadError(*NO_FLUX)
    # An error below 1e-4 of the level is no measurement; it would swamp the float32 image.
    scaled = np.minimum((np.sqrt(ivar) * scale) ** 2, 1e8).astype(np.float32)
    good = scaled > 0
    if good.sum() < MIN_GOOD_PIXELS:
        usable = spectrum.wavelength[spectrum.good]
        where = f"{usable[0]:.4g} to {usable[-1]:.4g} Å" if usable.size else "none is good"
        raise ReadError(
            f"only {int(good.sum())} good pixels between {grid.wavelength[0]:.0f} and "
            f"{grid.wavelength[-1]:.0f} Å (the spectrum's: {where})",
            "check the wavelength unit and the mask",
        )
    flux = np.where(good, flux / scale, 0.0).astype(np.float32)
    # Errors that were estimated are those of the scatter.
    doubtful = spectrum.meta.get("has_ivar") is not False and not errors_fit_scatter(
        spectrum.flux, spectrum.ivar
    )
    return Prepared(flux, scaled, scale, spectrum.sn_median, doubtful)


def level(flux: np.ndarray) -> float:
    """The level of a spectrum, by which it is divided before an image is drawn.

    Parameters
    ----------
    flux : array
        Of the good pixels.

    Returns
    -------
    float
        The median of \\|flux\\|; of a spectrum that is dark over half of its length, as a quasar is
        beyond z 5.5, a share of its brighter part.
    """
    size = np.abs(np.asarray(flux, dtype=np.float64))
    return max(percentile(size, 50.0), BRIGHT_SHARE * percentile(size, 90.0))


def in_window(spectrum: Spectrum, grid: Grid) -> Spectrum:
    """The part of a spectrum that a model sees, from which its level and errors are taken.

    Parameters
    ----------
    spectrum : Spectrum
    grid : Grid
        The model's.

    Returns
    -------
    Spectrum
        Cut to the grid, with pixels of filling marked bad; errors that were estimated are
        estimated separately there, where the scatter may differ from that of the whole.

    Raises
    ------
    ReadError
        If the flux is zero throughout.
    """
    margin = 10.0 ** (2.0 * grid.dloglam)
    cut = spectrum.between(grid.wavelength[0] / margin, grid.wavelength[-1] * margin)
    if cut.good.any() and not cut.flux[cut.good].any():
        raise ReadError(*NO_FLUX)
    filled = filling(np.where(cut.good, cut.flux, np.nan))
    if cut.meta.get("has_ivar") is False and cut is not spectrum:
        ivar = ivar_from_scatter(np.where(filled, np.nan, cut.flux))
    else:
        ivar = np.where(filled, 0.0, cut.ivar)
    return Spectrum(cut.wavelength, cut.flux, ivar, cut.meta)


def _without_wild(spectrum: Spectrum) -> Spectrum:
    """The spectrum with pixels beyond `MAX_FLUX` medians marked bad: no light is that bright."""
    good = spectrum.good
    if not good.any():
        return spectrum
    size = np.abs(spectrum.flux)
    # Where half of the pixels are above this, so is the median, and no pixel is wild.
    enough = 2.0 * size.max() / MAX_FLUX
    if 2 * np.count_nonzero(good & (size > enough)) > np.count_nonzero(good):
        return spectrum
    level = median(size[good])
    wild = good & (size > MAX_FLUX * level)
    if level == 0.0 or not wild.any():
        return spectrum
    ivar = np.where(wild, 0.0, spectrum.ivar)
    return Spectrum(spectrum.wavelength, spectrum.flux, ivar, spectrum.meta)


def _on_grid(position: np.ndarray) -> np.ndarray | None:
    """The grid pixels at whose centres, within a twentieth, pixel centres are; None if at none.

    Parameters
    ----------
    position : array, shape (n,)
        In units of grid pixels.
    """
    index, steps = np.round(position), np.diff(position)
    # Spectra binned by 3, 5 or 7 pixels would lie on it too, and leave gaps.
    on_grid = (
        (np.abs(position - index) < 0.05).all()
        and (steps > 0.9).all()
        and ((steps < 1.5).all() or np.median(steps) < 1.5)
    )
    return index.astype(int) if on_grid else None


def _copy(spectrum: Spectrum, index: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    flux, ivar = np.zeros(grid.n), np.zeros(grid.n)
    inside = slice(*np.searchsorted(index, [0, grid.n]))
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
