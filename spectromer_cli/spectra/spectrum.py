"""The one container that readers fill and models use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Spectrum:
    """One spectrum of one object.

    Parameters
    ----------
    wavelength : array of float64, shape (n,)
        Vacuum wavelength of the pixel centres in Å, heliocentric or barycentric as the
        survey gives it, strictly increasing.
    flux : array of float64, shape (n,)
        Flux density per Å, in any unit: only its shape is used.
    ivar : array of float64, shape (n,)
        Inverse variance in 1/flux². Zero marks a bad pixel: masks, dead edges and values
        that are not finite are folded in, and `flux` is 0 there if it was not finite.
    meta : dict
        ``survey`` and ``object_id`` (str); ``ra`` and ``dec`` (degrees) where known; the
        survey pipeline's own result where the file has it, as ``survey_class``,
        ``survey_subclass``, ``survey_z`` and ``survey_zwarning``; ``medium`` ("air" or
        "vacuum"), as found in the file; ``has_ivar`` (False where the errors were estimated
        from the scatter, because the file has none). The survey's own result is for
        comparison only: it never reaches an image.

    Raises
    ------
    ValueError
        If the arrays differ in shape or the wavelengths do not increase strictly.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wavelength = np.asarray(self.wavelength, dtype=np.float64)
        self.flux = np.array(self.flux, dtype=np.float64)
        self.ivar = np.array(self.ivar, dtype=np.float64)
        if not self.wavelength.shape == self.flux.shape == self.ivar.shape:
            raise ValueError(
                f"wavelength, flux and ivar differ in shape: {self.wavelength.shape}, "
                f"{self.flux.shape}, {self.ivar.shape}"
            )
        if self.wavelength.ndim != 1 or self.wavelength.size < 2:
            raise ValueError("a spectrum needs one dimension and at least two pixels")
        if not np.all(np.diff(self.wavelength) > 0):
            raise ValueError("the wavelengths do not increase strictly")
        if self.wavelength[0] <= 0 or not np.isfinite(self.wavelength[-1]):
            raise ValueError("the wavelengths must be positive and finite")
        bad = ~np.isfinite(self.flux) | ~np.isfinite(self.ivar) | (self.ivar < 0)
        self.ivar[bad] = 0.0
        self.flux[~np.isfinite(self.flux)] = 0.0

    @property
    def good(self) -> np.ndarray:
        """Boolean array, shape (n,): the pixels that carry information."""
        return self.ivar > 0

    @property
    def sn_median(self) -> float:
        """Median signal-to-noise ratio a pixel over the good pixels; NaN if there are none."""
        good = self.good
        if not good.any():
            return float("nan")
        return float(np.median(self.flux[good] * np.sqrt(self.ivar[good])))


def air_to_vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Convert air wavelengths to vacuum wavelengths.

    Parameters
    ----------
    wavelength : array
        Wavelength in dry air at 15 °C and 1 atm, in Å.

    Returns
    -------
    array
        Vacuum wavelength in Å. Values below 2000 Å are vacuum by custom and stay as they are.

    Notes
    -----
    Ciddor (1996, Applied Optics 35, 1566), equation 1, refractive index of standard air,
    evaluated at the vacuum wavenumber found by iteration.
    """
    air = np.asarray(wavelength, dtype=np.float64)
    vacuum = air.copy()
    for _ in range(3):  # converges to 1e-9 Å
        sigma2 = (1e4 / vacuum) ** 2  # µm⁻²
        index = 1.0 + 0.05792105 / (238.0185 - sigma2) + 0.00167917 / (57.362 - sigma2)
        vacuum = air * index
    return np.where(air < 2000.0, air, vacuum)


def ivar_from_scatter(flux: np.ndarray) -> np.ndarray:
    """Estimate an inverse variance where a file has none.

    Parameters
    ----------
    flux : array, shape (n,)
        Flux of neighbouring pixels; values that are not finite get ivar 0.

    Returns
    -------
    array, shape (n,)
        One constant inverse variance, 0 where `flux` is not finite.

    Notes
    -----
    DER_SNR (Stoehr et al. 2008, ST-ECF Newsletter 42, 4): the noise is
    1.482602/√6 · median |2 f(i) − f(i−2) − f(i+2)|, which smooth spectra leave at zero.
    """
    flux = np.asarray(flux, dtype=np.float64)
    finite = np.isfinite(flux)
    f = flux[finite]
    if f.size < 5:
        return np.zeros_like(flux)
    sigma = 1.482602 / np.sqrt(6.0) * np.median(np.abs(2.0 * f[2:-2] - f[:-4] - f[4:]))
    # A noiseless model still needs a finite error: a thousandth of its level.
    sigma = max(sigma, 1e-3 * float(np.median(np.abs(f))))
    if sigma <= 0:
        return np.zeros_like(flux)
    return np.where(finite, 1.0 / sigma**2, 0.0)
