"""Simulated spectra of stars, galaxies and quasars, as a survey would have taken them.

Rest-frame templates are reddened, given lines, broadened, shifted to a redshift, cut to a
survey's window and buried in noise. The truth is known by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.model import tasks
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import augment
from spectromer_cli.training.restframe import (
    LIGHT_SPEED,
    Templates,
    broad_absorption,
    extend_blue,
    gaussian_line,
    lyman_forest,
    reddening,
    smooth,
)

# What a draw is, and how often: real sets are short of galaxies and quasars at high z.
SHARES = {"STAR": 0.3, "GALAXY": 0.38, "QSO": 0.32}

# Vacuum wavelengths in Å (NIST Atomic Spectra Database, ver. 5).
BALMER = {"Ha": 6564.61, "Hb": 4862.69, "Hg": 4341.69, "Hd": 4102.90}
# Case B at 10⁴ K, relative to Hβ (Osterbrock & Ferland 2006, table 4.4).
CASE_B = {"Ha": 2.86, "Hb": 1.0, "Hg": 0.468, "Hd": 0.259}


@dataclass
class Simulated:
    """A batch of simulated spectra on the grid, with the truth.

    Parameters
    ----------
    flux, ivar : array of float32, shape (n, grid.n)
        Flux of median level 1 and its inverse variance.
    class_, subclass : array of int, shape (n,)
        Numbers in `tasks.CLASSES` and `tasks.SUBCLASSES`; −1 where not defined.
    z : array of float, shape (n,)
        Redshift; of a star, its radial velocity over the speed of light.
    """

    flux: np.ndarray
    ivar: np.ndarray
    class_: np.ndarray
    subclass: np.ndarray
    z: np.ndarray


class Simulator:
    """Draws spectra of known class and redshift.

    Parameters
    ----------
    path : Path
        Templates (.npz) with ``star_*``, ``galaxy_*`` and ``qso_*`` arrays.
    grid : Grid
        The grid of the model.
    noise_donors : tuple of arrays (ivar, shape (k, grid.n)), optional
        Inverse variances of real spectra: their shapes, windows and masks are used for half
        of the draws, so that noise looks as the surveys make it.

    Raises
    ------
    ReadError
        If the templates cannot be read.
    """

    def __init__(self, path: Path, grid: Grid, noise_donors: np.ndarray | None = None) -> None:
        self.grid = grid
        self.noise_donors = noise_donors
        try:
            with np.load(path, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            self.stars = Templates(data["star_loglam"], data["star_flux"])
            galaxies = Templates(data["galaxy_loglam"], data["galaxy_flux"])
            eigen = Templates(data["galaxy_eigen_loglam"], data["galaxy_eigen"], basis=True)
            self.quasars_low = Templates(data["qso_loglam"], data["qso_eigen_z0_1p7"], basis=True)
            self.quasars_high = Templates(data["qso_loglam"], data["qso_eigen_z1p3_7"], basis=True)
            star_types = data["star_type"]
        except (OSError, KeyError, ValueError) as error:
            raise ReadError(f"{path} is not a set of templates: {error}") from error
        self.star_types = np.array([{"C": "Carbon"}.get(str(t), str(t)) for t in star_types])
        self.galaxies = extend_blue(galaxies, eigen)

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
        """
        grid = self.grid
        out = Simulated(
            np.zeros((n, grid.n), np.float32),
            np.zeros((n, grid.n), np.float32),
            np.full(n, -1),
            np.full(n, -1),
            np.full(n, np.nan),
        )
        makers = {"STAR": self._star, "GALAXY": self._galaxy, "QSO": self._quasar}
        names = rng.choice(list(SHARES), size=n, p=list(SHARES.values()))
        for i, name in enumerate(names):
            for _ in range(50):  # until the survey's window shows enough of it
                flux, z, subclass = makers[str(name)](rng)
                flux, ivar = self._observe(rng, flux)
                if (ivar > 0).sum() > grid.n // 4:
                    break
            else:
                raise ReadError(f"the templates of {name} cover too little of the grid")
            out.flux[i], out.ivar[i], out.z[i] = flux, ivar, z
            out.class_[i] = tasks.CLASSES.index(str(name))
            if subclass:
                out.subclass[i] = list(tasks.SUBCLASSES).index(subclass)
        return out

    def _star(self, rng: np.random.Generator) -> tuple[np.ndarray, float, str]:
        # Types evenly, except that only a few O, L and carbon stars are there to be varied.
        kinds = np.unique(self.star_types)
        weight = np.array([min((self.star_types == kind).sum(), 20.0) ** 0.5 for kind in kinds])
        kind = rng.choice(kinds, p=weight / weight.sum())
        number = rng.choice(np.flatnonzero(self.star_types == kind))
        flux = self.stars.flux[number] * reddening(
            self.stars.rest_wavelength(), rng.exponential(0.15)
        )
        wide = rng.random() < 0.15
        velocity = rng.uniform(-600.0, 600.0) if wide else rng.normal(0.0, 100.0)
        z = velocity / LIGHT_SPEED
        observed = self.stars.observe(flux, z, self.grid)
        return smooth(observed, rng.uniform(0.0, 1.5)), z, f"STAR {kind}"

    def _galaxy(self, rng: np.random.Generator) -> tuple[np.ndarray, float, str]:
        nearby = rng.random() < 0.45
        z = np.expm1(rng.uniform(0.0, 0.25)) if nearby else rng.uniform(0.05, 1.3)
        wavelength = self.galaxies.rest_wavelength()
        parts = rng.integers(len(self.galaxies), size=rng.integers(1, 4))
        shares = rng.dirichlet(np.ones(len(parts)))
        flux = reddening(wavelength, rng.exponential(0.15)) * (shares @ self.galaxies.flux[parts])
        dispersion = rng.uniform(60.0, 350.0) / LIGHT_SPEED / (np.log(10.0) * self.grid.dloglam)
        flux = smooth(flux, dispersion)
        subclass = ""
        if rng.random() < 0.65:
            flux, subclass = self._add_lines(rng, wavelength, flux)
        return self.galaxies.observe(flux, z, self.grid), z, subclass

    def _add_lines(
        self, rng: np.random.Generator, wavelength: np.ndarray, flux: np.ndarray
    ) -> tuple[np.ndarray, str]:
        """Add emission lines between the star-forming and the AGN branch of the BPT diagram."""
        log_nii = rng.uniform(-1.3, 0.4)  # log [N II] 6585 / Hα
        agn = log_nii > -0.2 or rng.random() < 0.1
        if agn:
            log_oiii = rng.uniform(0.0, 1.1)  # log [O III] 5008 / Hβ
        else:
            # Kauffmann et al. 2003 (MNRAS 346, 1055), equation 1, with its scatter.
            log_oiii = 0.61 / (log_nii - 0.05) + 1.3 - abs(rng.normal(0.15, 0.15))
        strengths = {BALMER[name]: CASE_B[name] for name in BALMER}
        nii, oiii = CASE_B["Ha"] * 10**log_nii, 10 ** min(log_oiii, 1.0)
        oii = 10 ** rng.normal(0.4, 0.25)
        sii = CASE_B["Ha"] * 10 ** rng.normal(-0.55, 0.15)
        strengths |= {
            6585.27: nii,
            6549.85: nii / 3.0,
            5008.24: oiii,
            4960.30: oiii / 2.98,
            3727.09: 0.42 * oii,
            3729.88: 0.58 * oii,
            6718.29: 0.56 * sii,
            6732.67: 0.44 * sii,
            3869.86: 0.1 * oiii,
            5877.25: 0.12,
            6302.05: 0.3 * sii * (2.0 if agn else 0.4),
            9071.1: 0.3,
            9533.2: 0.7,
        }
        width_ha = 10 ** rng.uniform(-0.3, 2.3)  # equivalent width of Hα in Å
        level = float(np.nanmedian(flux[np.abs(wavelength - 6564.6) < 100.0]))
        sigma = rng.uniform(50.0, 250.0) / LIGHT_SPEED
        dust = reddening(wavelength, rng.exponential(0.2))
        emission = np.zeros_like(flux)
        broad = rng.random() < 0.12
        for centre, strength in strengths.items():
            amount = width_ha * level * strength / CASE_B["Ha"]
            emission += gaussian_line(wavelength, centre, sigma, amount)
            if broad and centre in BALMER.values():
                wide = rng.uniform(800.0, 2500.0) / LIGHT_SPEED
                emission += gaussian_line(wavelength, centre, wide, 2.0 * amount)
        if broad or width_ha < 3.0:
            return flux + emission * dust, ""  # between the survey's subclasses
        if agn:
            return flux + emission * dust, "GALAXY AGN" if log_oiii > 0.3 else ""
        # SDSS calls it a starburst from an equivalent width of Hα of 50 Å.
        return flux + emission * dust, (
            "GALAXY STARBURST" if width_ha > 50.0 else "GALAXY STARFORMING"
        )

    def _quasar(self, rng: np.random.Generator) -> tuple[np.ndarray, float, str]:
        pick = rng.random()
        z = rng.uniform(0.03, 1.0) if pick < 0.3 else rng.uniform(0.8, 3.8)
        if pick > 0.9:
            z = rng.uniform(3.5, 5.8)
        eigen = self.quasars_low if z < 1.5 else self.quasars_high
        wavelength = eigen.rest_wavelength()
        for _ in range(20):  # until the sum is positive, as nearly all are
            weights = np.array([1.0, *rng.normal(0.0, [0.35, 0.25, 0.2])])
            flux = weights @ eigen.flux
            if np.nanpercentile(flux[(wavelength > 1250) & (wavelength < 7000)], 2) > 0:
                break
        flux = np.clip(flux, 0.0, None) * (wavelength / 2500.0) ** rng.normal(0.0, 0.4)
        # The Small Magellanic Cloud's dust has no bump: k = 1.39 (λ/µm)^−1.2 (Prevot et al.
        # 1984, A&A 132, 389).
        flux *= 10 ** (-0.4 * rng.exponential(0.04) * 1.39 * (wavelength / 1e4) ** -1.2)
        if rng.random() < 0.12:
            flux *= broad_absorption(rng, wavelength)
        if z > 1.9:
            flux *= lyman_forest(rng, wavelength, z)
        observed = eigen.observe(flux, z, self.grid)
        if z < 0.7 and rng.random() < 0.6:
            host = self.galaxies.flux[rng.integers(len(self.galaxies))]
            host = self.galaxies.observe(host, z, self.grid)
            share = rng.uniform(0.0, 0.45)
            observed = (1 - share) * observed / np.nanmedian(observed) + share * np.where(
                np.isfinite(host), host / np.nanmedian(host), 0.0
            )
        return observed, z, ""

    def _observe(self, rng: np.random.Generator, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Survey window, flux calibration, noise, dead and hit pixels."""
        grid = self.grid
        covered = np.isfinite(flux)
        flux = np.where(covered, flux, 0.0)
        flux = flux * augment.warp(rng, grid, 0.12)
        relative, seen = self._noise_shape(rng, flux)
        covered &= seen
        if covered.sum() < grid.n // 4:
            return flux, np.zeros_like(flux)
        level = float(np.median(np.abs(flux[covered])))
        if level <= 0:
            return flux, np.zeros_like(flux)
        sn = np.exp(rng.uniform(np.log(1.0), np.log(60.0)))
        # sn is the median S/N a pixel.
        noise = relative * float(np.median(np.abs(flux[covered]) / relative[covered])) / sn
        flux = flux + rng.normal(size=grid.n) * noise
        for hit in rng.integers(grid.n, size=rng.poisson(1.5)):
            flux[hit] += noise[hit] * rng.exponential(20.0)  # cosmic rays that nobody masked
        covered &= rng.random(grid.n) > rng.exponential(0.005)
        level = float(np.median(np.abs(flux[covered])))
        flux = np.where(covered, flux / level, 0.0)
        return flux, np.where(covered, (level / noise) ** 2, 0.0)

    def _noise_shape(
        self, rng: np.random.Generator, flux: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Noise over wavelength in any unit, and the pixels that the survey sees."""
        if self.noise_donors is not None and rng.random() < 0.6:
            ivar = self.noise_donors[rng.integers(len(self.noise_donors))].astype(np.float32)
            seen = ivar > 0
            return 1.0 / np.sqrt(np.where(seen, ivar, 1.0)), seen
        wavelength = self.grid.wavelength
        seen = augment.window(rng, self.grid)
        first, last = np.flatnonzero(seen)[[0, -1]]
        # Optics lose light towards both ends; the sky adds lines, ever more beyond 7200 Å.
        place = np.clip((np.arange(self.grid.n) - first) / (last - first), 0.0, 1.0)
        throughput = 0.15 + np.sqrt(np.clip(place * (1.0 - place), 0.0, None)) * 2.0
        sky = 1.0 + 0.5 * (wavelength / 6000.0) ** 3
        for line in (5578.9, 5891.6, 6302.0, 6365.5):
            sky += gaussian_line(wavelength, line, 1.5e-4, 1.0) * rng.uniform(5.0, 60.0)
        forest = np.clip((wavelength - 7200.0) / 1500.0, 0.0, 1.5)
        sky += forest * rng.gamma(0.3, 6.0, self.grid.n)
        own = np.clip(flux, 0.0, None) / (np.median(np.abs(flux[seen])) + 1e-9)
        return np.sqrt(sky + rng.exponential(1.0) * own) / throughput, seen
