"""Redshifts to a fraction of a pixel: templates fitted by χ² around the peaks of p(z).

The ViT proposes, physics disposes: near a proposed redshift, rest-frame templates and a low
polynomial are fitted to the spectrum at every shift by weighted least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model.decoding import PEAK_HALF_WIDTH, STAR_MAX_X, RedshiftPrediction
from spectromer_cli.model.prior import FORBIDDEN, Prior
from spectromer_cli.spectra.grid import Grid, Prepared

# Legendre polynomials added to the templates, for what is wrong with the flux calibration.
POLYNOMIALS = 3
# Steps in pixels: the coarse scan finds the minimum, the fine one its shape.
COARSE, FINE = 3, 1
# A template must cover this share of the good pixels.
MIN_OVERLAP = 0.3
LN10 = np.log(10.0)
# Radial velocities of stars before their spectrum is seen, as Gaussians about rest: share, σ in
# km/s. See `velocity_prior`.
VELOCITIES = ((0.99, 150.0), (0.01, 500.0))
# A template pixel counts in fits if it was learned from so many spectra, or, where the training
# set is small, from this share of those behind the best one.
ENOUGH_SPECTRA, ENOUGH_SHARE = 100, 0.1
# Of `weighted_pca`.
ITERATIONS = 12
# Of the templates' arrays in the weights.
PREFIX, COUNTS = "templates.", ".counts"


@dataclass(frozen=True)
class Basis:
    """Rest-frame templates of one class, to be summed.

    Parameters
    ----------
    loglam0 : float
        log10(λ/Å) of the first pixel; the step is that of the model's grid.
    vectors : array of float32, shape (k, m)
        Orthonormal.
    error_scale, misfit_scale : float
        What the formal errors have to be multiplied by, found on held-out spectra: that from
        noise, and that from what the templates cannot fit, which is alike over many pixels and
        moves z more than noise does.
    counts : array of int, shape (m,), optional
        How many spectra each pixel was learned from; unknown of templates from elsewhere.
    """

    loglam0: float
    vectors: np.ndarray
    error_scale: float = 1.0
    misfit_scale: float = 1.0
    counts: np.ndarray | None = None

    @property
    def learned(self) -> np.ndarray:
        """The pixels that fits may use, bool of shape (m,): learned from enough spectra.

        Where few spectra reach, the templates are those spectra with their sky and noise, which
        a spectrum that reaches there is then shifted to. Without counts all pixels may be used.
        """
        if self.counts is None:
            return np.ones(self.vectors.shape[1], dtype=bool)
        return self.counts >= min(ENOUGH_SPECTRA, ENOUGH_SHARE * self.counts.max())

    def rescaled(self, error_scale: float, misfit_scale: float) -> Basis:
        """The same templates with other scales of their errors."""
        return replace(self, error_scale=error_scale, misfit_scale=misfit_scale)

    def described(self) -> dict[str, float]:
        """What of them goes into the model's configuration: all but the arrays."""
        return {
            "loglam0": self.loglam0,
            "error_scale": self.error_scale,
            "misfit_scale": self.misfit_scale,
        }

    def at_redshift(self, z: float, grid: Grid) -> np.ndarray:
        """The templates at redshift z on the grid, shape (k, grid.n); NaN beyond them."""
        start = (grid.loglam0 - np.log10(1.0 + z) - self.loglam0) / grid.dloglam
        position = start + np.arange(grid.n)
        pixels = np.arange(self.vectors.shape[1])
        return np.array([np.interp(position, pixels, v, np.nan, np.nan) for v in self.vectors])


@dataclass(frozen=True)
class Fit:
    """The best template fit near a redshift.

    Parameters
    ----------
    x, x_err : float
        ln(1 + z) and its 1-σ error.
    formal : tuple of float
        The parts of that error, from noise and from misfit, before their scales.
    gain : float
        By how much the templates lower χ² against the polynomials alone, on the same pixels,
        in units of the fit's own χ² a degree of freedom where that is above one.
    """

    x: float
    x_err: float
    formal: tuple[float, float]
    gain: float


@dataclass(frozen=True)
class Refined:
    """Refined redshifts of a batch; arrays of shape (batch,).

    Parameters
    ----------
    z, z_err : array
        From the template fit; NaN where there is none.
    formal : array, shape (batch, 2)
        The parts of the error of ln(1 + z), from noise and from misfit, before their scales.
    delta_chi2 : array
        By how much the best peak's fit beats that of the best alternative; below zero where
        an alternative fits better. NaN where p(z) has no alternative.
    """

    z: np.ndarray
    z_err: np.ndarray
    formal: np.ndarray
    delta_chi2: np.ndarray

    def rescaled(self, bases: Mapping[str, Basis], classes: Sequence[str]) -> Refined:
        """The same redshifts, with errors by the scales of these templates."""
        scales = np.array([
            (bases[name].error_scale, bases[name].misfit_scale) if name in bases else (1.0, 1.0)
            for name in classes
        ]).reshape(-1, 2)  # fmt: skip
        return replace(self, z_err=np.hypot(*(scales * self.formal).T) * (1.0 + self.z))

    def merged(self, found: RedshiftPrediction, is_star: np.ndarray) -> RedshiftPrediction:
        """What p(z) says, with the template fits in place of its redshifts where there are any.

        Parameters
        ----------
        found : RedshiftPrediction
            From p(z), of the same spectra.
        is_star : bool array, shape (batch,)
        """
        has = np.isfinite(self.z)
        far = np.abs(np.log1p(self.z)) > 0.95 * STAR_MAX_X
        return replace(
            found,
            z=np.where(has, self.z, found.z),
            z_err=np.where(has, self.z_err, found.z_err),
            delta_chi2=self.delta_chi2,
            at_edge=found.at_edge | (far & is_star),
        )


# --- in the weights -------------------------------------------------------------------------


def to_arrays(bases: Mapping[str, Basis]) -> dict[str, np.ndarray]:
    """Templates by the names that their arrays have in the weights."""
    arrays = {f"{PREFIX}{name}": basis.vectors for name, basis in bases.items()}
    counts = {
        f"{PREFIX}{name}{COUNTS}": basis.counts.astype(np.int32)
        for name, basis in bases.items()
        if basis.counts is not None
    }
    return {**arrays, **counts}


def from_arrays(
    arrays: Mapping[str, Any], described: Mapping[str, Mapping[str, float]]
) -> dict[str, Basis]:
    """The templates in weights.

    Parameters
    ----------
    arrays : mapping of str to array
        By the names of `to_arrays`.
    described : mapping of str to dict
        By class, as `Basis.described` gives it.
    """
    return {
        name: Basis(
            vectors=np.asarray(arrays[f"{PREFIX}{name}"], np.float32),
            counts=None if (counts := arrays.get(f"{PREFIX}{name}{COUNTS}")) is None
            else np.asarray(counts, np.int32),
            **values,
        )
        for name, values in described.items()
    }  # fmt: skip


# --- learning -------------------------------------------------------------------------------


def learn(
    flux: np.ndarray,
    ivar: np.ndarray,
    grid: Grid,
    z: np.ndarray,
    *,
    vectors: int,
    min_count: int,
    max_ivar: float,
) -> Basis:
    """Learn templates from de-redshifted spectra.

    Parameters
    ----------
    flux, ivar : array, shape (n, grid.n)
        Flux of median level 1 and its inverse variance (0 = bad).
    grid : Grid
    z : array, shape (n,)
    vectors : int
        How many templates.
    min_count : int
        A template pixel needs so many spectra.
    max_ivar : float
        Cap of the weights.
    """
    furthest = np.log10(1.0 + z.max())
    nearest = np.log10(1.0 + z.min())
    loglam0 = grid.loglam0 - furthest
    m = grid.n + int(np.ceil((furthest - nearest) / grid.dloglam)) + 2
    at_rest, weight = np.zeros((len(z), m), np.float32), np.zeros((len(z), m), np.float32)
    pixels = np.arange(grid.n)
    for i in range(len(z)):
        # Where the template's pixels lie in this spectrum.
        shift = (grid.loglam0 - np.log10(1.0 + z[i]) - loglam0) / grid.dloglam
        position = np.arange(m) - shift
        own = ivar[i].astype(np.float64)
        good = own > 0
        at_rest[i] = np.interp(position, pixels[good], flux[i].astype(np.float64)[good])
        left = np.clip(np.floor(position).astype(int), 0, grid.n - 2)
        both_good = good[left] & good[left + 1] & (position >= 0) & (position <= grid.n - 1)
        weight[i] = np.where(both_good, np.minimum(np.interp(position, pixels, own), max_ivar), 0)
    counts = (weight > 0).sum(axis=0)
    enough = np.flatnonzero(counts >= min_count)
    cut = slice(enough[0], enough[-1] + 1)
    found = weighted_pca(at_rest[:, cut], weight[:, cut], vectors)
    return Basis(loglam0 + grid.dloglam * int(enough[0]), found, counts=counts[cut])


def weighted_pca(flux: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Principal components of spectra with errors and gaps; no mean is subtracted.

    Parameters
    ----------
    flux, weight : array of float32, shape (n, pixels)
        Spectra and their inverse variances; 0 where there is no pixel.
    count : int
        How many components.

    Returns
    -------
    array of float32, shape (count, pixels)
        Orthonormal, the most important first.

    Notes
    -----
    Expectation maximisation (Bailey 2012, PASP 124, 1015, section 5): coefficients and
    components are solved for in turn by weighted least squares.
    """
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(flux.shape[1], count)))[0].T
    coefficients = np.zeros((len(flux), count))
    for _ in range(ITERATIONS):
        for i, (f, w) in enumerate(zip(flux, weight, strict=True)):
            weighted = vectors * w
            normal = weighted @ vectors.T + 1e-6 * np.eye(count)
            coefficients[i] = np.linalg.solve(normal, weighted @ f)
        for start in range(0, flux.shape[1], 512):  # in blocks, for memory
            f, w = flux[:, start : start + 512], weight[:, start : start + 512]
            normal = np.einsum("np,nk,nl->pkl", w, coefficients, coefficients, optimize=True)
            right = np.einsum("np,np,nk->pk", w, f, coefficients, optimize=True)
            solved = np.linalg.solve(normal + 1e-3 * np.eye(count), right[..., None])
            vectors[:, start : start + 512] = solved[..., 0].T
        vectors = np.linalg.qr(vectors.T)[0].T
    order = np.linalg.svd(coefficients, full_matrices=False)[2]
    return (order @ vectors).astype(np.float32)


# --- fitting --------------------------------------------------------------------------------


def refine(
    found: RedshiftPrediction,
    prepared: Sequence[Prepared],
    classes: Sequence[str],
    bases: Mapping[str, Basis],
    grid: Grid,
    prior: Prior | None = None,
) -> Refined:
    """Fit templates around the peaks of p(z).

    The ViT's best peak is kept: on held-out spectra, letting χ² choose among the peaks made
    more redshifts wrong than right.

    Parameters
    ----------
    found : RedshiftPrediction
        What p(z) says.
    prepared : sequence of Prepared
        The spectra.
    classes : sequence of str
        Their classes.
    bases : mapping of str to Basis
        Templates by class.
    grid : Grid
        The model's.
    prior : Prior, optional
        What is known of the redshift beforehand.

    Returns
    -------
    Refined
    """
    n = len(prepared)
    refined = Refined(*(np.full(shape, np.nan) for shape in (n, n, (n, 2), n)))
    for i, (spectrum, name) in enumerate(zip(prepared, classes, strict=True)):
        if name not in bases:
            continue
        if name == "STAR":  # all radial velocities of the Galaxy
            best = fit(spectrum, bases[name], grid, 0.0, STAR_MAX_X, VELOCITIES, prior)
        else:
            x = np.log1p(found.z[i])
            best = fit(spectrum, bases[name], grid, x, PEAK_HALF_WIDTH, prior=prior)
        if best is None:
            continue
        refined.z[i] = np.expm1(best.x)
        refined.z_err[i] = best.x_err * np.exp(best.x)
        refined.formal[i] = best.formal
        others = [
            fit(spectrum, bases[name], grid, np.log1p(z), PEAK_HALF_WIDTH, prior=prior)
            for z in found.alt_z[i]
            if np.isfinite(z)
        ]
        gains = [other.gain for other in others if other is not None]
        if gains:
            refined.delta_chi2[i] = best.gain - max(gains)
    return refined


def fit(
    prepared: Prepared,
    basis: Basis,
    grid: Grid,
    x: float,
    half_width: float,
    velocities: Sequence[tuple[float, float]] = (),
    prior: Prior | None = None,
) -> Fit | None:
    """Fit templates within `half_width` of a redshift.

    Parameters
    ----------
    prepared : Prepared
        The spectrum on the model's grid.
    basis : Basis
        Templates of its class.
    grid : Grid
        The model's.
    x : float
        ln(1 + z) to search around.
    half_width : float
        How far, in ln(1 + z).
    velocities : sequence of (float, float)
        What is known of the velocity beforehand (see `velocity_prior`); nothing by default.
    prior : Prior, optional
        What the user knows of the redshift beforehand.

    Returns
    -------
    Fit or None
        None if the templates cover too little of the spectrum there.

    Notes
    -----
    Least is χ²/s² − 2 ln p(x), where s is what formal errors are multiplied by (see `Basis`), so
    that prior and spectrum are weighed as the error says. Its curvature gives the error; of a star,
    the other minima of the range count too, each by its probability.
    """
    # Template pixel of the first pixel of the spectrum, at the centre of the search.
    centre = round((grid.loglam0 - x / LN10 - basis.loglam0) / grid.dloglam)
    reach = int(np.ceil(half_width / (LN10 * grid.dloglam)))
    reach += -reach % COARSE
    window = _Window(prepared, basis, grid, centre - reach - 3, centre + reach + 3)
    if window.overlap < MIN_OVERLAP:
        return None
    per_pixel = LN10 * grid.dloglam

    def scan(starts: np.ndarray) -> tuple[np.ndarray, float, float, float]:
        """What is to be least; the least χ², that per degree of freedom, and s there."""
        chi2 = np.array([window.chi2(int(start)) for start in starts])
        noise = max(float(chi2.min()) / window.freedom, 1.0)
        scale = float(np.hypot(basis.error_scale, basis.misfit_scale * np.sqrt(noise - 1.0)))
        shifts = (grid.loglam0 - basis.loglam0) * LN10 - starts * per_pixel
        cost = velocity_prior(shifts, velocities)
        if prior is not None:
            cost = cost - 2.0 * prior.log(shifts)
        return chi2 / scale**2 + cost, float(chi2.min()), noise, scale

    coarse = np.arange(centre - reach, centre + reach + 1, COARSE)
    everywhere = scan(coarse)[0]
    best = int(coarse[np.argmin(everywhere)])
    fine = np.arange(best - COARSE, best + COARSE + 1, FINE)
    total, chi2, noise, scale = scan(fine)
    # A parabola through the three points at the minimum; at an end of the scan, the end.
    i = int(np.clip(np.argmin(total), 1, len(fine) - 2))
    left, middle, right = total[i - 1 : i + 2]
    curvature = left - 2.0 * middle + right
    if curvature > -FORBIDDEN:  # beside what the prior excludes there is no minimum
        curvature = 0.0
    offset = float(np.clip(0.5 * (left - right) / curvature, -1, 1)) if curvature > 0 else 0.0
    start = float(fine[i]) + offset
    # Where there is no minimum, the error is that of the scan.
    x_err = per_pixel * (float(np.sqrt(2.0 / curvature)) if curvature > 0 else COARSE * scale)
    if velocities:
        # The whole range was searched: minima that are nearly as deep widen the error.
        beside = np.abs(coarse - start) > COARSE
        chance = COARSE * np.exp(-0.5 * np.maximum(everywhere[beside] - total.min(), 0.0))
        own = np.sqrt(2.0 * np.pi) * x_err / per_pixel
        away = per_pixel * (coarse[beside] - start)
        variance = (own * x_err**2 + chance @ away**2) / (own + chance.sum())
        x_err = float(np.sqrt(variance))
    from_noise = x_err / scale
    return Fit(
        x=float((grid.loglam0 - basis.loglam0) * LN10 - start * per_pixel),
        x_err=x_err,
        formal=(from_noise, from_noise * float(np.sqrt(noise - 1.0))),
        gain=(window.chi2_polynomials - chi2) / noise,
    )


def velocity_prior(x: np.ndarray, velocities: Sequence[tuple[float, float]]) -> np.ndarray:
    """−2 ln of the prior probability of radial velocities, 0 at rest.

    Parameters
    ----------
    x : array, shape (n,)
        ln(1 + z).
    velocities : sequence of (float, float)
        Gaussians about rest that are summed: share, and σ in km/s. None: 0 everywhere.

    Returns
    -------
    array, shape (n,)

    Notes
    -----
    `VELOCITIES` has a core as wide as the Galaxy's stars, seen from the Sun, are at most: those
    of the halo have 111 km/s along the line of sight (Xue et al. 2008, ApJ 684, 1143), to which
    the Sun's 220 to 240 km/s add. One star in a hundred is left to wings that runaway and
    hypervelocity stars fill (Brown 2015, ARA&A 53, 15).
    """
    if not velocities:
        return np.zeros(len(x))
    share, sigma = np.transpose(velocities)[:, :, None]
    sigma = sigma / LIGHT_SPEED

    def density(x: np.ndarray) -> np.ndarray:
        return (share / sigma * np.exp(-0.5 * (x / sigma) ** 2)).sum(axis=0)

    return -2.0 * np.log(density(x) / density(np.zeros(1)))


def template_curve(
    prepared: Prepared, basis: Basis, grid: Grid, x: float
) -> tuple[np.ndarray, np.ndarray]:
    """χ² around a redshift, and the best fit there, for a look.

    Parameters
    ----------
    prepared : Prepared
    basis : Basis
    grid : Grid
    x : float
        ln(1 + z).

    Returns
    -------
    curve : array, shape (m, 2)
        z and χ² within `PEAK_HALF_WIDTH` of x.
    model : array, shape (grid.n,)
        The templates and polynomials that fit best at x; NaN where there are no templates.
    """
    per_pixel = LN10 * grid.dloglam
    centre = round((grid.loglam0 - x / LN10 - basis.loglam0) / grid.dloglam)
    reach = int(np.ceil(PEAK_HALF_WIDTH / per_pixel))
    window = _Window(prepared, basis, grid, centre - reach, centre + reach)
    starts = np.arange(centre - reach, centre + reach + 1)
    chi2 = np.array([window.chi2(int(start)) for start in starts])
    z = np.expm1((grid.loglam0 - basis.loglam0) * LN10 - starts * per_pixel)
    return np.stack([z, chi2], axis=1), window.model(centre)


class _Window:
    """The spectrum beside the stretch of the templates that a scan passes over."""

    def __init__(self, prepared: Prepared, basis: Basis, grid: Grid, first: int, last: int) -> None:
        n, k = grid.n, len(basis.vectors)
        self.first = first
        stretch = np.zeros((k, last - first + n))
        learned = np.zeros(last - first + n, dtype=bool)
        low, high = max(first, 0), min(last + n, basis.vectors.shape[1])
        if high > low:
            stretch[:, low - first : high - first] = basis.vectors[:, low:high]
            learned[low - first : high - first] = basis.learned[low:high]
        self.templates = sliding_window_view(stretch, n, axis=1)
        self.learned = sliding_window_view(learned, n)
        # Only pixels that the templates cover at every shift count, so that χ² compare.
        covered = self.learned.all(axis=0)
        good = prepared.ivar > 0
        self.overlap = float((good & covered).sum() / max(good.sum(), 1))
        # Errors below 1 % of the level would weigh the templates' own faults, not the data.
        weight = np.where(covered, np.minimum(prepared.ivar, 1e4), 0.0)
        # In double precision: of a bright star, χ² is a small difference of large sums.
        self.root = np.sqrt(weight.astype(np.float64))
        self.flux = prepared.flux * self.root
        self.total = float(self.flux @ self.flux)
        line = np.linspace(-1.0, 1.0, n)
        smooth = np.polynomial.legendre.legvander(line, POLYNOMIALS - 1).T
        self.design = np.empty((k + POLYNOMIALS, n))
        self.design[k:] = smooth * self.root
        self.freedom = max(int((weight > 0).sum()) - k - POLYNOMIALS, 1)
        self.chi2_polynomials = self._chi2(self.design[k:])

    def chi2(self, start: int) -> float:
        """χ² with the templates' pixel `start` at the spectrum's first pixel."""
        k = len(self.templates)
        np.multiply(self.templates[:, start - self.first], self.root, out=self.design[:k])
        return self._chi2(self.design)

    def model(self, start: int) -> np.ndarray:
        """The best fit with the templates' pixel `start` at the spectrum's first pixel."""
        self.chi2(start)
        line = np.linspace(-1.0, 1.0, self.design.shape[1])
        smooth = np.polynomial.legendre.legvander(line, POLYNOMIALS - 1).T
        own = self.templates[:, start - self.first]
        design = np.concatenate([own, smooth])
        weights = self._solve(self.design)
        return np.where(self.learned[start - self.first], weights @ design, np.nan)

    def _solve(self, design: np.ndarray) -> np.ndarray:
        normal = design @ design.T
        normal[np.diag_indices_from(normal)] += 1e-12 * (np.trace(normal) + 1.0)
        return np.linalg.solve(normal, design @ self.flux)

    def _chi2(self, design: np.ndarray) -> float:
        return self.total - float((design @ self.flux) @ self._solve(design))
