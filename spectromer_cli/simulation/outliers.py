"""Spectra that are none of stars, galaxies and quasars, for learning and judging what is novel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.simulation.spectral_physics import smooth
from spectromer_cli.simulation.spectrographs import taken_elsewhere
from spectromer_cli.spectra.grid import Grid, level

# Lines of supernovae [Å], by what their atmospheres hold.
HYDROGEN = (4102.0, 4341.0, 4861.0, 6563.0)
CALCIUM, IRON = (3945.0, 8579.0), (4233.0, 4555.0, 4924.0, 5018.0, 5169.0, 5535.0)
ATMOSPHERES = {
    "Ia": (*CALCIUM, 4130.0, 4481.0, *IRON, 5454.0, 5640.0, 5972.0, 6355.0, 7774.0),
    "II": (*CALCIUM, *HYDROGEN, *IRON, 5893.0),
    "Ib": (*CALCIUM, 4471.0, *IRON, 5016.0, 5876.0, 6678.0, 7065.0, 7774.0),
    "Ic": (*CALCIUM, 4481.0, *IRON, 5893.0, 6355.0, 7774.0),
}
# When the atmosphere is thin: Mg I], [Fe III], [Fe II], Na I, [O I], [Ca II], O I, Ca II.
NEBULAR = (4571.0, 4701.0, 5200.0, 5893.0, 6300.0, 6364.0, 7307.0, 7774.0, 8579.0)
INTERACTING = (4102.0, 4341.0, 4861.0, 5876.0, 6563.0, 7065.0)
# Of the gas of their galaxies: Hβ, [O III], Hα, [N II], [S II].
HOST = (4862.7, 4960.3, 5008.2, 6564.6, 6585.3, 6718.3)
# Night sky [Å]; the hydroxyl lines redward are drawn anew for each spectrum.
SKY_LINES = (5578.9, 5891.6, 6302.0, 6365.5)


def supernova(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """A supernova-like spectrum without noise, shape (grid.n,): broad lines on a continuum.

    Thermal continua with P Cygni profiles of 2500 to 14,000 km/s; narrower emission lines on a blue
    continuum, where the ejecta meet gas; or the emission lines of the nebular phase. Blends of iron
    are random waves as broad as the lines. Some have narrow lines of the galaxy's gas.
    """
    z = 0.12 * rng.random() if rng.random() < 0.8 else rng.uniform(0.0, 0.7)
    rest = grid.wavelength / (1.0 + z)
    kind = rng.choice(["atmosphere", "interacting", "nebular"], p=[0.7, 0.17, 0.13])
    if kind == "atmosphere":
        name = str(rng.choice(list(ATMOSPHERES)))
        speed = np.exp(rng.uniform(np.log(2500.0 if name == "II" else 5000.0), np.log(14000.0)))
        flux = _thermal(rest, np.exp(rng.uniform(np.log(4000.0), np.log(14000.0))))
        flux *= np.exp(_waves(rng, grid, speed * rng.uniform(0.4, 1.0), rng.uniform(0.03, 0.3)))
        strength = rng.uniform(0.3, 1.0)
        for line in ATMOSPHERES[name]:
            peak = 4.0 if line == HYDROGEN[-1] else 1.0
            flux *= _p_cygni(rng, rest, line, speed * rng.uniform(0.8, 1.2), strength, peak)
    elif kind == "interacting":
        flux = _thermal(rest, np.exp(rng.uniform(np.log(6000.0), np.log(20000.0))))
        flux *= np.exp(_waves(rng, grid, 4000.0, rng.uniform(0.0, 0.15)))
        narrow, broad = rng.uniform(150.0, 1000.0), rng.uniform(1500.0, 6000.0)
        heights = rng.uniform(0.2, 2.0) * np.array([0.3, 0.4, 0.6, 0.3, 1.0, 0.2])
        for line, height in zip(INTERACTING, heights, strict=True):
            flux *= 1.0 + height * rng.exponential(1.0) * _gaussian(rest, line, narrow)
            flux *= 1.0 + height * rng.exponential(0.7) * _gaussian(rest, line, broad)
            flux *= 1.0 - rng.uniform(0.0, 0.4) * _gaussian(rest, line * 0.997, narrow)
    else:
        speed = rng.uniform(1500.0, 5000.0)
        flux = _thermal(rest, 5000.0) * np.exp(_waves(rng, grid, 3.0 * speed, 0.3))
        for line in NEBULAR:
            flux += rng.exponential(1.0) * _gaussian(rest, line, speed)
    if rng.random() < 0.3:
        for line in HOST:
            flux += rng.exponential(0.3) * _gaussian(rest, line, 150.0)
    return flux


def _thermal(wavelength: np.ndarray, temperature: float) -> np.ndarray:
    """A black body per wavelength, 1 at 6000 Å."""

    def planck(angstrom: np.ndarray | float) -> np.ndarray | float:
        return 1.0 / (angstrom**5 * np.expm1(1.43878e8 / (angstrom * temperature)))

    return np.asarray(planck(wavelength) / planck(6000.0))


def _gaussian(wavelength: np.ndarray, centre: float, speed: float) -> np.ndarray:
    """A line of height 1 and of σ `speed` km/s."""
    return np.exp(-0.5 * ((wavelength / centre - 1.0) * LIGHT_SPEED / speed) ** 2)


def _p_cygni(
    rng: np.random.Generator,
    wavelength: np.ndarray,
    line: float,
    speed: float,
    strength: float,
    peak: float,
) -> np.ndarray:
    """A factor: emission about the line, absorption blueward by `speed` km/s."""
    emission = peak * strength * rng.exponential(0.3) * _gaussian(wavelength, line, 0.45 * speed)
    trough = line * (1.0 - speed / LIGHT_SPEED)
    depth = strength * rng.beta(1.2, 2.0)
    absorption = depth * _gaussian(wavelength, trough, rng.uniform(0.2, 0.4) * speed)
    return (1.0 + emission) * (1.0 - absorption)


def _waves(rng: np.random.Generator, grid: Grid, speed: float, amplitude: float) -> np.ndarray:
    """Random waves of σ `amplitude`, as broad as `speed` km/s, shape (grid.n,)."""
    sigma = max(speed / (LIGHT_SPEED * np.log(10.0) * grid.dloglam), 1.0)
    reach = int(4.0 * sigma)
    rough = smooth(rng.normal(size=grid.n + 2 * reach), sigma)[reach : reach + grid.n]
    return amplitude * rough / rough.std()


def sky(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """The night sky, or what a subtraction leaves of it: lines of either sign."""
    left = rng.random() < 0.4
    flux = np.full(grid.n, 0.0 if left else rng.uniform(0.1, 1.0))
    speed = LIGHT_SPEED / rng.uniform(1500.0, 5000.0) / 2.355
    for line in (*SKY_LINES, *rng.uniform(7200.0, 10400.0, 90)):
        height = 3.0 * rng.normal() if left else rng.exponential(5.0)
        flux += height * _gaussian(grid.wavelength, line, speed)
    return flux


def steps(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """A level that jumps."""
    jumps = rng.normal(size=grid.n) * (rng.random(grid.n) < rng.uniform(0.001, 0.005))
    return rng.uniform(2.0, 6.0) + np.cumsum(jumps)


def emission_lines(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Emission lines where no object has them together."""
    flux = (grid.wavelength / 6000.0) ** rng.uniform(-2.0, 2.0)
    speed = np.exp(rng.uniform(np.log(80.0), np.log(2000.0)))
    for centre in rng.uniform(grid.wavelength[0], grid.wavelength[-1], rng.integers(5, 16)):
        flux += rng.exponential(3.0) * _gaussian(grid.wavelength, centre, speed)
    return flux


# What makes each kind without noise, and how often each is drawn. Noise has no light, and what is
# reversed in wavelength is real.
MADE: dict[str, Callable[[np.random.Generator, Grid], np.ndarray]] = {
    "supernova": supernova,
    "sky": sky,
    "steps": steps,
    "emission lines": emission_lines,
    "constant": lambda rng, grid: (grid.wavelength / 6000.0) ** rng.uniform(-0.5, 0.5),
    "noise": lambda rng, grid: np.zeros(grid.n),
}
SHARES = {
    "supernova": 0.4, "sky": 0.12, "reversed": 0.12, "steps": 0.09, "emission lines": 0.09,
    "constant": 0.09, "noise": 0.09,
}  # fmt: skip
# Median S/N per pixel, even in its logarithm.
SN_RANGE = (4.0, 60.0)


def draw(
    rng: np.random.Generator,
    kind: str,
    flux: np.ndarray,
    ivar: np.ndarray,
    grid: Grid,
    elsewhere: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """A spectrum that is no star, galaxy or quasar, with the errors and window of a real one.

    Parameters
    ----------
    rng : numpy.random.Generator
    kind : str
        Name in `SHARES`.
    flux, ivar : array, shape (grid.n,)
        The real spectrum.
    grid : Grid
    elsewhere : float
        The chance that it is changed as another spectrograph would have taken it.

    Returns
    -------
    flux, ivar : array of float32, shape (grid.n,)
        Of level 1.
    """
    good = ivar > 0
    made, error = np.asarray(flux, np.float64), 1.0 / np.sqrt(np.where(good, ivar, 1.0))
    if kind == "reversed":
        made, good, error = made[::-1], good[::-1], error[::-1]
    else:
        made = MADE[kind](rng, grid)
    # What has no continuum, as noise and sky residuals, is as deep as others of level 0.1.
    scale = max(np.percentile(np.abs(made[good]), 90.0), 0.1) if good.any() else 1.0
    sn = np.exp(rng.uniform(*np.log(SN_RANGE)))
    error = error * scale / (sn * np.median(error[good]) if good.any() else 1.0)
    made = made + rng.normal(size=grid.n) * error
    own = np.where(good, 1.0 / error**2, 0.0)
    if rng.random() < elsewhere:
        made, own = taken_elsewhere(rng, made, own, grid)
        good = own > 0
    scale = level(made[good]) if good.any() else 1.0
    return (
        np.where(good, made / scale, 0.0).astype(np.float32),
        np.minimum(own * scale**2, 1e8).astype(np.float32),
    )


def draw_many(
    rng: np.random.Generator,
    n: int,
    flux: np.ndarray,
    ivar: np.ndarray,
    grid: Grid,
    elsewhere: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """`n` spectra as `draw` gives them, of all kinds by `SHARES`, shapes (n, grid.n).

    `flux` and `ivar`, of shape (k, grid.n), are those of real spectra, one of which is picked for
    each.
    """
    kinds = rng.choice(list(SHARES), size=n, p=list(SHARES.values()))
    picks = rng.integers(len(flux), size=n)
    drawn = [
        draw(rng, str(kind), flux[pick], ivar[pick], grid, elsewhere)
        for kind, pick in zip(kinds, picks, strict=True)
    ]
    return np.array([one for one, _ in drawn]), np.array([one for _, one in drawn])
