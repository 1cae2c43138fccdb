"""Noise-free spectra of stars, galaxies and quasars out of a file of rest-frame templates.

Templates are reddened, given lines, broadened and shifted to a redshift. The truth is known by
construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.simulation.spectral_physics import (
    Templates,
    broad_absorption,
    extend_blue,
    gaussian_line,
    lyman_forest,
    mean_transmission,
    reddening,
    smooth,
)
from spectromer_cli.spectra.grid import Grid

# Vacuum wavelengths in Å (NIST Atomic Spectra Database, ver. 5).
BALMER = {"Ha": 6564.61, "Hb": 4862.69, "Hg": 4341.69, "Hd": 4102.90}
# Case B at 10⁴ K, relative to Hβ (Osterbrock & Ferland 2006, table 4.4).
CASE_B = {"Ha": 2.86, "Hb": 1.0, "Hg": 0.468, "Hd": 0.259}

# Interstellar absorption in the rest ultraviolet: vacuum wavelength and equivalent width [Å]
# (Shapley et al. 2003, ApJ 588, 65, table 3; Mg II and Fe II: Erb et al. 2012, ApJ 759, 26).
INTERSTELLAR = {
    1260.42: 1.6, 1303.3: 2.2, 1334.53: 1.7, 1393.76: 1.8, 1402.77: 1.2, 1526.71: 1.7,
    1549.5: 3.0, 1608.45: 1.0, 1670.79: 1.5, 2344.21: 1.5, 2374.46: 1.3, 2382.76: 1.8,
    2586.65: 1.5, 2600.17: 2.0, 2796.35: 2.0, 2803.53: 1.7,
}  # fmt: skip

ZRange = tuple[float, float]


@dataclass(frozen=True)
class Drawn:
    """A spectrum without noise, and the truth about it.

    Parameters
    ----------
    flux : array, shape (grid.n,)
        In any unit; NaN where the templates do not reach.
    z : float
        Redshift; of a star, its radial velocity over the speed of light.
    subclass : str
        A name in `taxonomy.SUBCLASSES`; empty where none is defined.
    """

    flux: np.ndarray
    z: float
    subclass: str


class Library:
    """Templates of a file.

    Parameters
    ----------
    path : Path
        Templates (.npz) with ``star_*``, ``galaxy_*`` and ``qso_*`` arrays.
    grid : Grid
        Where the spectra are drawn.

    Raises
    ------
    ReadError
        If the templates cannot be read.
    """

    classes: tuple[str, ...] = ("STAR", "GALAXY", "QSO")

    def __init__(self, path: Path, grid: Grid) -> None:
        self.grid = grid
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

    def draw(self, rng: np.random.Generator, name: str, z_range: ZRange | None = None) -> Drawn:
        """Draw a spectrum of a class.

        Parameters
        ----------
        rng : numpy.random.Generator
        name : str
            One of `classes`.
        z_range : pair of float, optional
            Least and greatest redshift of galaxies and quasars, even in ln(1 + z).

        Returns
        -------
        Drawn
        """
        if name == "STAR":
            return self._star(rng)
        return (self._galaxy if name == "GALAXY" else self._quasar)(rng, z_range)

    def _star(self, rng: np.random.Generator) -> Drawn:
        # Types evenly, except that only a few O, L and carbon stars are there to be varied.
        kinds = np.unique(self.star_types)
        weight = np.array([min((self.star_types == kind).sum(), 20.0) ** 0.5 for kind in kinds])
        kind = rng.choice(kinds, p=weight / weight.sum())
        number = rng.choice(np.flatnonzero(self.star_types == kind))
        flux = self.stars.flux[number] * reddening(
            self.stars.rest_wavelength(),
            rng.exponential(0.15) if rng.random() < 0.9 else rng.uniform(0.2, 1.0),
        )
        z = radial_velocity(rng) / LIGHT_SPEED
        observed = self.stars.observe(flux, z, self.grid)
        return Drawn(smooth(observed, rng.uniform(0.0, 1.5)), z, f"STAR {kind}")

    def _galaxy(self, rng: np.random.Generator, z_range: ZRange | None) -> Drawn:
        pick = rng.random()
        z = np.expm1(rng.uniform(0.0, 0.25)) if pick < 0.4 else rng.uniform(0.05, 1.7)
        if pick > 0.85:
            z = rng.uniform(1.5, 6.2)
        if z_range:
            z = between(rng, z_range)
        if z > 1.7:
            return self._young_galaxy(rng, z)
        wavelength = self.galaxies.rest_wavelength()
        parts = rng.integers(len(self.galaxies), size=rng.integers(1, 4))
        shares = rng.dirichlet(np.ones(len(parts)))
        flux = reddening(wavelength, rng.exponential(0.15)) * (shares @ self.galaxies.flux[parts])
        dispersion = rng.uniform(60.0, 350.0) / LIGHT_SPEED / (np.log(10.0) * self.grid.dloglam)
        flux = smooth(flux, dispersion)
        subclass = ""
        if rng.random() < 0.65:
            flux, subclass = self._add_lines(rng, wavelength, flux)
        return Drawn(self.galaxies.observe(flux, z, self.grid), z, subclass)

    def _young_galaxy(self, rng: np.random.Generator, z: float) -> Drawn:
        """A star-forming galaxy of which the rest ultraviolet is seen.

        A power law with interstellar lines, Lyman α in emission or absorption, and the break
        (Shapley et al. 2003, ApJ 588, 65: composite spectra of Lyman-break galaxies).
        """
        wavelength = self.galaxies.rest_wavelength()
        wavelength = np.concatenate([np.exp(np.arange(np.log(820.0), np.log(wavelength[0]), 1e-4)),
                                     wavelength])  # fmt: skip
        flux = (wavelength / 1500.0) ** rng.normal(-1.6, 0.6)
        old = self.galaxies.flux[rng.integers(len(self.galaxies))]
        old = np.interp(wavelength, self.galaxies.rest_wavelength(), np.nan_to_num(old))
        flux = np.where(wavelength > 1800.0, flux + rng.exponential(0.3) * old, flux)
        strength = rng.lognormal(0.0, 0.4)
        for line, width in INTERSTELLAR.items():
            sigma = rng.uniform(150.0, 350.0) / LIGHT_SPEED
            centre = line * (1.0 - rng.normal(150.0, 100.0) / LIGHT_SPEED)  # outflow
            depth = strength * width * float(np.interp(line, wavelength, flux))
            flux -= gaussian_line(wavelength, centre, sigma, depth)
        flux = np.clip(flux, 0.0, None)
        level = float(np.interp(1260.0, wavelength, flux))
        emitter = rng.random() < 0.6
        flux *= mean_transmission(wavelength, min(z, 2.5)) * lyman_forest(rng, wavelength, z)
        if emitter:
            sigma = rng.uniform(80.0, 300.0) / LIGHT_SPEED
            centre = 1215.67 * (1.0 + rng.normal(250.0, 150.0) / LIGHT_SPEED)
            amount = level * np.exp(rng.uniform(np.log(5.0), np.log(250.0)))
            lya = gaussian_line(wavelength, centre, sigma, amount)
            # The blue side is absorbed.
            flux += lya / (1.0 + np.exp(np.clip((1215.67 - wavelength) / 0.3, -50.0, 50.0)))
        else:
            damped = rng.exponential(12.0)
            flux *= 1.0 - 0.95 * np.exp(-0.5 * ((wavelength - 1215.67) / (3.0 + damped)) ** 2)
        for line, width in {1908.7: 4.0, 1663.5: 1.0, 3728.5: 60.0}.items():
            amount = np.interp(line, wavelength, flux) * width * rng.exponential(0.7)
            flux += gaussian_line(wavelength, line, 120.0 / LIGHT_SPEED, amount)
        flux = np.where(wavelength < 912.0, 0.0, flux)
        position = self.grid.wavelength / (1.0 + z)
        return Drawn(np.interp(position, wavelength, flux, 0.0, np.nan), z, "")

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
        # Equivalent width of Hα in Å; that of green peas and their like at its upper end.
        width_ha = 10 ** (rng.uniform(-0.3, 2.3) if rng.random() < 0.85 else rng.uniform(2.0, 3.1))
        level = float(np.nanmedian(flux[np.abs(wavelength - 6564.6) < 100.0]))
        sigma = rng.uniform(50.0, 250.0) / LIGHT_SPEED
        dust = reddening(wavelength, rng.exponential(0.2))
        emission = np.zeros_like(flux)
        # The surveys leave lines of up to some 1000 km/s to galaxies; beyond, it is a quasar.
        broad = rng.random() < 0.12
        wide = rng.uniform(250.0, 1000.0) / LIGHT_SPEED
        for centre, strength in strengths.items():
            amount = width_ha * level * strength / CASE_B["Ha"]
            emission += gaussian_line(wavelength, centre, sigma, amount)
            if broad and centre in BALMER.values():
                emission += gaussian_line(wavelength, centre, wide, 2.0 * amount)
        if broad or width_ha < 3.0:
            return flux + emission * dust, ""  # between the survey's subclasses
        if agn:
            return flux + emission * dust, "GALAXY AGN" if log_oiii > 0.3 else ""
        # SDSS calls it a starburst from an equivalent width of Hα of 50 Å.
        return flux + emission * dust, (
            "GALAXY STARBURST" if width_ha > 50.0 else "GALAXY STARFORMING"
        )

    def _quasar(self, rng: np.random.Generator, z_range: ZRange | None) -> Drawn:
        pick = rng.random()
        z = rng.uniform(0.03, 1.0) if pick < 0.3 else rng.uniform(0.8, 3.8)
        if pick > 0.85:
            z = rng.uniform(3.5, 7.1)
        if z_range:
            z = between(rng, z_range)
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
        ebv = rng.exponential(0.04) if rng.random() < 0.85 else rng.uniform(0.05, 0.5)
        flux *= 10 ** (-0.4 * ebv * 1.39 * (wavelength / 1e4) ** -1.2)
        if rng.random() < 0.12:
            flux *= broad_absorption(rng, wavelength)
        end = float(np.nanmedian(flux[np.isfinite(flux)][:50]))
        if z > 1.9:
            flux *= lyman_forest(rng, wavelength, z)
        observed = eigen.observe(flux, z, self.grid)
        if z > 4.0:  # what lies blueward of the templates is dark, not unseen
            rest = self.grid.wavelength / (1.0 + z)
            beyond = ~np.isfinite(observed) & (rest < 1030.0)
            light = np.where(rest > 912.0, end, 0.0) * mean_transmission(rest, z, from_z=2.5)
            observed = np.where(beyond, light, observed)
        if z < 0.9 and rng.random() < 0.7:
            host = self.galaxies.flux[rng.integers(len(self.galaxies))]
            host = self.galaxies.observe(host, z, self.grid)
            share = rng.uniform(0.0, 0.75)
            observed = (1 - share) * observed / np.nanmedian(observed) + share * np.where(
                np.isfinite(host), host / np.nanmedian(host), 0.0
            )
        return Drawn(observed, z, "")  # the survey's subclasses depend on the S/N


def radial_velocity(rng: np.random.Generator) -> float:
    """Of a star, in km/s: most of the disc, some of the halo, none beyond 600."""
    return rng.uniform(-600.0, 600.0) if rng.random() < 0.15 else rng.normal(0.0, 100.0)


def between(rng: np.random.Generator, z_range: ZRange) -> float:
    """A redshift of a range, even in ln(1 + z)."""
    return float(np.expm1(rng.uniform(*np.log1p(z_range))))
