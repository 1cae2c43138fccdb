"""Simulated spectra of stars, galaxies and quasars, as a survey would have taken them.

What a source of noise-free spectra draws is cut to a survey's window, brought to its resolution
and buried in noise. The truth is known by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.model import taxonomy
from spectromer_cli.simulation import survey_effects
from spectromer_cli.simulation.spectrographs import taken_elsewhere
from spectromer_cli.simulation.survey_effects import SURVEYS
from spectromer_cli.simulation.template_library import Drawn, ZRange
from spectromer_cli.spectra.grid import Grid, level

# What a draw is, and how often: real sets are short of galaxies and quasars at high z.
SHARES = {"STAR": 0.25, "GALAXY": 0.35, "QSO": 0.4}
SN_RANGE = (1.0, 60.0)
# A spectrum is drawn again until the survey's window shows this share of the grid.
MIN_SHARE, MAX_TRIES = 0.25, 50
# A window whose brightest pixels have a smaller share of the bright part's flux shows the dark side
# of a quasar only, or of a dwarf.
MIN_BRIGHT = 0.2
# Surveys that take their spectra with the instrument of another.
SAME_INSTRUMENT = {"eBOSS": "BOSS", "SEGUE": "SDSS", "STELIB": "MILES"}


class Source(Protocol):
    """Where noise-free spectra come from: templates of a file, or populations of the weights."""

    classes: tuple[str, ...]
    grid: Grid

    def draw(self, rng: np.random.Generator, name: str, z_range: ZRange | None = None) -> Drawn:
        """Draw a spectrum of a class."""


@dataclass(frozen=True)
class Donors:
    """Inverse variances of real spectra: their shapes, windows and masks are taken over.

    Parameters
    ----------
    ivar : array, shape (k, grid.n)
    survey : array of str, shape (k,)
    """

    ivar: np.ndarray
    survey: np.ndarray


@dataclass
class Simulated:
    """A batch of simulated spectra on the grid, with the truth.

    Parameters
    ----------
    flux, ivar : array of float32, shape (n, grid.n)
        Flux of median level 1 and its inverse variance.
    class_, subclass : array of int, shape (n,)
        Numbers in `taxonomy.CLASSES` and `taxonomy.SUBCLASSES`; −1 where not defined.
    z : array of float, shape (n,)
        Redshift; of a star, its radial velocity over the speed of light.
    sn : array of float, shape (n,)
        Median S/N per pixel.
    survey : list of str
        As which survey each was taken.
    """

    flux: np.ndarray
    ivar: np.ndarray
    class_: np.ndarray
    subclass: np.ndarray
    z: np.ndarray
    sn: np.ndarray
    survey: list[str]


class Simulator:
    """Draws spectra of known class and redshift.

    Parameters
    ----------
    source : Source
        Of spectra without noise.
    grid : Grid
        The grid of the model.
    donors : Donors, optional
        Real errors, used for 60 % of the draws, so that noise looks as the surveys make it.
    shares : dict of str to float
        How often each class is drawn.
    sn_range, z_range : pair of float
        Median S/N per pixel, even in its logarithm; redshift of galaxies and quasars, as the
        source likes where it is None.
    taken_by : sequence of str
        Names in `SURVEYS`, each as often as the others.
    elsewhere : float
        Share of the draws that are changed as another spectrograph would have taken them.
    """

    def __init__(
        self,
        source: Source,
        grid: Grid,
        donors: Donors | None = None,
        *,
        shares: dict[str, float] = SHARES,
        sn_range: tuple[float, float] = SN_RANGE,
        z_range: ZRange | None = None,
        taken_by: Sequence[str] = tuple(SURVEYS),
        elsewhere: float = 0.0,
    ) -> None:
        self.source = source
        self.grid = grid
        self.donors = donors
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        self.sn_range = sn_range
        self.z_range = z_range
        self.taken_by = tuple(taken_by)
        self.elsewhere = elsewhere

    def draw(self, rng: np.random.Generator, n: int) -> Simulated:
        """Draw `n` spectra.

        Parameters
        ----------
        rng : numpy.random.Generator
            The same state gives the same spectra.
        n : int
            How many.

        Returns
        -------
        Simulated

        Raises
        ------
        ReadError
            If the templates of a class reach too little of the grid.
        """
        shape = (n, self.grid.n)
        out = Simulated(
            np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.full(n, -1),
            np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan), [""] * n,
        )  # fmt: skip
        names = rng.choice(list(self.shares), size=n, p=list(self.shares.values()))
        for i, name in enumerate(str(name) for name in names):
            for _ in range(MAX_TRIES):
                drawn = self.source.draw(rng, name, self.z_range)
                if self._observe(rng, drawn.flux, out, i):
                    break
            else:
                raise ReadError(
                    f"the templates of {name} cover too little of the wavelengths",
                    "choose other redshifts or another survey",
                )
            out.z[i] = drawn.z
            out.class_[i] = taxonomy.CLASSES.index(name)
            if drawn.subclass:
                out.subclass[i] = list(taxonomy.SUBCLASSES).index(drawn.subclass)
        return out

    def _observe(self, rng: np.random.Generator, flux: np.ndarray, out: Simulated, i: int) -> bool:
        """Fill row i: window, resolution, flux calibration, noise, dead and hit pixels.

        Returns whether enough of the spectrum is seen.
        """
        grid = self.grid
        enough = MIN_SHARE * grid.n
        survey, seen, error = self._conditions(rng)
        covered = np.isfinite(flux)
        flux = np.where(covered, survey_effects.blur(flux, SURVEYS[survey], grid), 0.0)
        flux = flux * survey_effects.warp(rng, grid, 0.12)
        bright = np.percentile(np.abs(flux[covered]), 95.0) if covered.any() else 0.0
        covered &= seen
        if covered.sum() < enough:
            return False
        if np.percentile(np.abs(flux[covered]), 99.0) < MIN_BRIGHT * bright:
            return False
        if error is None:
            error = survey_effects.noise_shape(rng, flux, seen, grid)
        sn = np.exp(rng.uniform(*np.log(self.sn_range)))
        # Of a spectrum that is dark over half of its length, the S/N is that of the rest.
        ratio = level(flux[covered] / error[covered])
        if not ratio > 0:
            return False
        error = error * ratio / sn
        flux = flux + rng.normal(size=grid.n) * error
        for hit in rng.integers(grid.n, size=rng.poisson(1.5)):
            flux[hit] += error[hit] * rng.exponential(20.0)  # cosmic rays that nobody masked
        covered &= rng.random(grid.n) > rng.exponential(0.005)
        if covered.sum() < enough:
            return False
        ivar = np.where(covered, 1.0 / error**2, 0.0)
        if rng.random() < self.elsewhere:
            flux, ivar = taken_elsewhere(rng, flux, ivar, grid)
            covered = ivar > 0
            if covered.sum() < enough / 2:
                return False
        scale = level(flux[covered])
        if not scale > 0:
            return False
        out.flux[i] = np.where(covered, flux / scale, 0.0)
        out.ivar[i] = np.minimum(ivar * scale**2, 1e8)
        out.sn[i], out.survey[i] = sn, survey
        return True

    def _conditions(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray | None]:
        """The survey, the pixels that it sees, and their errors in any unit, if a donor has any."""
        if self.donors is not None and rng.random() < 0.6:
            number = rng.integers(len(self.donors.ivar))
            ivar = self.donors.ivar[number].astype(np.float32)
            survey = str(self.donors.survey[number])
            seen = ivar > 0
            error = 1.0 / np.sqrt(np.where(seen, ivar, 1.0))
            return SAME_INSTRUMENT.get(survey, survey), seen, error
        survey = self.taken_by[rng.integers(len(self.taken_by))]
        return survey, survey_effects.window(rng, self.grid, SURVEYS[survey]), None
