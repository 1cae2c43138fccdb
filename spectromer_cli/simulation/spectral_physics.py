"""Rest-frame spectra and what happens to light on its way: templates, dust, lines, absorption."""

from __future__ import annotations

import numpy as np

from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.spectra.grid import Grid


class Templates:
    """Rest-frame spectra with a constant step in log λ, that can be shifted and resampled.

    Parameters
    ----------
    loglam : array, shape (m,)
        log10(λ/Å), vacuum.
    flux : array, shape (k, m)
        Zero or NaN where a template does not reach.
    basis : bool
        The rows are eigenspectra, to be summed: they reach where any of them does.
    """

    def __init__(self, loglam: np.ndarray, flux: np.ndarray, basis: bool = False) -> None:
        self.loglam0 = float(loglam[0])
        self.step = float(loglam[1] - loglam[0])
        flux = np.asarray(flux, dtype=np.float32)
        covered = np.isfinite(flux) & (flux != 0)
        if basis:
            covered = np.broadcast_to(covered.any(axis=0), flux.shape)
        # Only the dead ends are "not covered"; a zero within is a zero.
        seen_left = np.maximum.accumulate(covered, axis=1)
        seen_right = np.maximum.accumulate(covered[:, ::-1], axis=1)[:, ::-1]
        self.flux = np.where(seen_left & seen_right, np.nan_to_num(flux), np.nan)

    def __len__(self) -> int:
        return len(self.flux)

    def rest_wavelength(self) -> np.ndarray:
        """Wavelength of the templates' own pixels in Å, shape (m,)."""
        return 10.0 ** (self.loglam0 + self.step * np.arange(self.flux.shape[1]))

    def observe(self, rest_flux: np.ndarray, z: float, grid: Grid) -> np.ndarray:
        """Shift a rest-frame spectrum of these templates to redshift z, on the grid.

        Returns
        -------
        array, shape (grid.n,)
            NaN where the template does not reach.
        """
        shift = (grid.loglam0 - np.log10(1.0 + z) - self.loglam0) / self.step
        position = shift + np.arange(grid.n) * (grid.dloglam / self.step)
        pixels = np.arange(rest_flux.size)
        return np.interp(position, pixels, rest_flux, left=np.nan, right=np.nan)


def reddening(wavelength: np.ndarray, ebv: float) -> np.ndarray:
    """Factor by which dust dims, grey part left out.

    Parameters
    ----------
    wavelength : array
        Rest-frame wavelength in Å.
    ebv : float
        Colour excess E(B−V) in magnitudes.

    Returns
    -------
    array
        Transmission relative to that at 5500 Å.

    Notes
    -----
    Calzetti et al. (2000, ApJ 533, 682), equation 4.
    """
    x = 1e4 / np.clip(wavelength, 1200.0, 22000.0)  # 1/µm
    red = 2.659 * (-1.857 + 1.040 * x)
    blue = 2.659 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3)
    k = np.where(wavelength > 6300.0, red, blue) + 4.05
    return 10 ** (-0.4 * ebv * (k - 4.05))


def gaussian_line(wavelength: np.ndarray, centre: float, sigma: float, amount: float) -> np.ndarray:
    """An emission line.

    Parameters
    ----------
    wavelength : array
        Wavelength in Å.
    centre : float
        Of the line, in Å.
    sigma : float
        Width σ as a fraction of the speed of light.
    amount : float
        Flux integrated over wavelength, in flux·Å.

    Returns
    -------
    array
        Flux density.
    """
    width = sigma * centre
    line = np.exp(-0.5 * ((wavelength - centre) / width) ** 2)
    return amount / (width * np.sqrt(2.0 * np.pi)) * line


def smooth(flux: np.ndarray, sigma: float) -> np.ndarray:
    """Convolve with a Gaussian of σ pixels; pixels that are not covered stay so."""
    if sigma < 0.3:
        return flux
    reach = min(int(np.ceil(3.5 * sigma)), (flux.size - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    covered = np.isfinite(flux)
    total = np.convolve(np.where(covered, flux, 0.0), kernel, mode="same")
    weight = np.convolve(covered.astype(float), kernel, mode="same")
    return np.where(covered, total / np.maximum(weight, 1e-9), np.nan)


def extend_blue(galaxies: Templates, eigen: Templates) -> Templates:
    """Continue the stellar populations into the ultraviolet with galaxy eigenspectra.

    Each population is matched between 3300 and 4800 Å by the eigenspectra (least squares,
    lines left out), whose sum goes on where the population ends, at both ends.
    """
    loglam = eigen.loglam0 + eigen.step * np.arange(eigen.flux.shape[1])
    own = galaxies.loglam0 + galaxies.step * np.arange(galaxies.flux.shape[1])
    wavelength = 10.0**loglam
    base = np.nan_to_num(eigen.flux)
    full = np.empty((len(galaxies), loglam.size), dtype=np.float32)
    for i, flux in enumerate(galaxies.flux):
        here = np.interp(loglam, own, flux, left=np.nan, right=np.nan)
        covered = np.isfinite(here)
        fit = covered & (wavelength > 3300.0) & (wavelength < 4800.0)
        fit &= np.abs(wavelength - 3728.5) > 25.0
        weights, *_ = np.linalg.lstsq(base[:, fit].T, here[fit], rcond=None)
        continued = np.clip(weights @ base, 0.02 * np.nanmedian(here), None)
        first, last = np.flatnonzero(covered)[[0, -1]]
        # Joined without a step at either end.
        continued[:first] *= here[first : first + 50].mean() / continued[first : first + 50].mean()
        continued[last:] *= here[last - 50 : last].mean() / continued[last - 50 : last].mean()
        full[i] = np.where(covered, here, continued)
        full[i, (wavelength < 1230.0) | (loglam > loglam[-1])] = np.nan
    return Templates(loglam, full)


def broad_absorption(rng: np.random.Generator, wavelength: np.ndarray) -> np.ndarray:
    """Troughs blueward of the resonance lines, as in a broad-absorption-line quasar."""
    lines = [1239.0, 1398.0, 1549.0] + ([2799.0] if rng.random() < 0.2 else [])
    velocity = rng.uniform(3000.0, 20000.0) / LIGHT_SPEED
    width = rng.uniform(1000.0, 5000.0) / LIGHT_SPEED
    depth = rng.uniform(0.3, 1.0)
    transmission = np.ones_like(wavelength)
    for line in lines:
        centre = line * (1.0 - velocity)
        trough = np.exp(-0.5 * ((wavelength - centre) / (width * line)) ** 4)
        transmission *= 1.0 - depth * trough
    return transmission


def lyman_forest(rng: np.random.Generator, wavelength: np.ndarray, z: float) -> np.ndarray:
    """Lyman-α forest lines and the Lyman limit, about the mean that the templates hold."""
    transmission = np.ones_like(wavelength)
    forest = np.flatnonzero((wavelength > 1030.0) & (wavelength < 1215.0))
    if forest.size:
        depth = np.zeros_like(wavelength)
        hits = rng.choice(forest, size=forest.size // 8)
        depth[hits] = rng.exponential(0.5 * ((1.0 + z) / 3.5) ** 1.5, hits.size)
        depth = np.convolve(depth, [0.3, 0.7, 1.0, 0.7, 0.3], mode="same")
        transmission = np.exp(-depth)
        transmission[forest] /= transmission[forest].mean()
    transmission *= mean_transmission(wavelength, z, from_z=min(z, 2.5))
    if rng.random() < 0.4 or z > 4.0:
        limit = 912.0 * (rng.uniform(0.8, 1.0) if z < 4.0 else 1.0)
        transmission = np.where(wavelength < limit, 0.05 if z < 4.0 else 0.0, transmission)
    return transmission


def mean_transmission(wavelength: np.ndarray, z: float, from_z: float | None = None) -> np.ndarray:
    """Mean transmission of the intergalactic medium, by Lyman α and β.

    Parameters
    ----------
    wavelength : array
        Rest-frame wavelength in Å.
    z : float
        Redshift of the source.
    from_z : float, optional
        The templates hold the absorption that a source at this redshift has; only what is beyond
        that is applied.

    Notes
    -----
    Effective optical depth of Lyman α: Fan et al. 2006 (AJ 132, 117), section 3: 0.85
    ((1 + z)/5)^4.3, steeper with a power of 10.9 beyond z 5.5. That of Lyman β is smaller by its
    oscillator strength times wavelength, 0.16.
    """

    def depth(source_z: float) -> np.ndarray:
        total = np.zeros_like(wavelength)
        for line, strength in ((1215.67, 1.0), (1025.72, 0.16)):
            absorber = (1.0 + source_z) * wavelength / line  # 1 + z of the gas
            tau = np.where(
                absorber < 6.5, 0.85 * (absorber / 5.0) ** 4.3, 2.63 * (absorber / 6.5) ** 10.9
            )
            total += np.where(wavelength < line, strength * np.minimum(tau, 50.0), 0.0)
        return total

    return np.exp(-(depth(z) - (0.0 if from_z is None else depth(from_z))))
