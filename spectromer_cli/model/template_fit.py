"""Redshifts to a fraction of a pixel: templates fitted by χ² at the peak of p(z).

Rest-frame templates and a low polynomial are fitted to the spectrum by weighted least squares: at
every redshift of every class on coarse pixels and in single precision (`chi2_curves`), near the
redshift that the ViT proposes on all pixels and in double precision (`fit`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model.decoding import PEAK_HALF_WIDTH, STAR_MAX_X, RedshiftPrediction
from spectromer_cli.model.line_positions import lines_disagree
from spectromer_cli.model.prior import FORBIDDEN, Prior
from spectromer_cli.spectra.grid import Grid, Prepared

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Legendre polynomials added to the templates, for what is wrong with the flux calibration.
POLYNOMIALS = 3
# A minimum of χ² that is so much lower than all around, in units of the scale of the error squared,
# needs no further search.
MUCH_HIGHER = 50.0
# The step in pixels that finds a minimum; its shape is found pixel by pixel.
COARSE = 3
# χ² at all shifts is found on bins of so many pixels. Of the variance of what is narrower than 200
# pixels, this takes 6 % from the templates of stars, 15 % from quasars', 30 % from galaxies'.
BINS = {"STAR": 4, "GALAXY": 4, "QSO": 8}
OTHER_BINS = 4
# Shifts times spectra that are fitted at once: what a processor's cache holds; more elsewhere.
AT_ONCE_CPU, AT_ONCE = 10_000, 1_000_000
# Spectra whose windows are fitted at once.
AT_ONCE_FITS = 64
# So few shifts are quicker one by one than by transforms.
FEW = 40
# Products of two of the polynomials: the lower triangle, column by column.
PAIRS = [(i, j) for j in range(POLYNOMIALS) for i in range(j, POLYNOMIALS)]
# Of a row of its normal equations, less than this is rounding in single precision.
PIVOT = 1e-5
# Errors below 1 % of the level would weigh the templates' own faults, not the data.
MAX_WEIGHT = 1e4
# Of the trace of normal equations, added to their diagonal.
RIDGE = 1e-12
# Blueward of it [Å] each quasar has its own absorption lines, which no template has.
LYMAN_ALPHA = 1216.0
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
    # Of `chi2_curves`: what is the same for all spectra.
    shifted: dict[Any, _Shifted] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def products(self) -> tuple[np.ndarray, np.ndarray]:
        """The vectors and the products of two of them, in double precision.

        Shapes (k, m) and (k (k + 1) / 2, m), the latter by rows of the lower triangle.
        """
        vectors = self.vectors.astype(np.float64)
        rows, columns = np.tril_indices(len(vectors))
        return vectors, vectors[rows] * vectors[columns]

    @cached_property
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

    def scale(self, noise: np.ndarray) -> np.ndarray:
        """What formal errors are multiplied by where χ² per degree of freedom is `noise`."""
        return np.hypot(self.error_scale, self.misfit_scale * np.sqrt(noise - 1.0))

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
class Fits:
    """The best template fits of some spectra; NaN where there is none.

    Parameters
    ----------
    x, x_err : array, shape (n,)
        ln(1 + z) and its 1-σ error.
    formal : array, shape (n, 2)
        The parts of that error, from noise and from misfit, before their scales.
    chi2_nu : array, shape (n,)
        χ² per degree of freedom, over the good pixels that the templates cover.
    model : array of float32, shape (n, grid.n)
        The best sum of templates and polynomials, at the nearest whole pixel; NaN where no
        template reaches, and blueward of Lyα, whose forest is then left out of the sum too.
    """

    x: np.ndarray
    x_err: np.ndarray
    formal: np.ndarray
    chi2_nu: np.ndarray
    model: np.ndarray

    @classmethod
    def none(cls, n: int, pixels: int) -> Fits:
        """No fit of n spectra."""
        x, x_err, chi2_nu = np.full((3, n), np.nan)
        model = np.full((n, pixels), np.nan, np.float32)
        return cls(x, x_err, np.full((n, 2), np.nan), chi2_nu, model)

    def set_error(self, rows: np.ndarray, x_err: np.ndarray, scale: np.ndarray) -> None:
        """Put in the errors of some spectra, and their parts, from the scale of the error."""
        from_noise = x_err / scale
        from_misfit = from_noise * np.sqrt(np.maximum(self.chi2_nu[rows] - 1.0, 0.0))
        self.x_err[rows] = x_err
        self.formal[rows] = np.stack([from_noise, from_misfit], axis=1)


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
        By how much χ² is lower at z than at the best redshift elsewhere, of any class, more than
        `PEAK_HALF_WIDTH` away; below zero where templates fit better there. In units of `chi2_nu`
        where that is above one. NaN where there is nothing to compare.
    chi2_nu : array
        χ² per degree of freedom of the fit, over the good pixels that the templates cover.
    lines_disagree : bool array
        See `line_positions.lines_disagree`.
    """

    z: np.ndarray
    z_err: np.ndarray
    formal: np.ndarray
    delta_chi2: np.ndarray
    chi2_nu: np.ndarray
    lines_disagree: np.ndarray

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
            chi2_nu=self.chi2_nu,
            at_edge=found.at_edge | (far & is_star),
            lines_disagree=self.lines_disagree,
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


# --- χ² at all shifts ------------------------------------------------------------------------


@dataclass(frozen=True)
class Curves:
    """χ² of a batch of spectra against the redshift, for one class.

    Parameters
    ----------
    x : array of float64, shape (shifts,)
        ln(1 + z), rising.
    chi2 : array of float64, shape (batch, shifts)
        Over all good pixels; infinite where the templates cover too few of them.
    """

    x: np.ndarray
    chi2: np.ndarray

    @cached_property
    def minima(self) -> np.ndarray:
        """Where χ² is lower than beside, bool of the shape of `chi2`."""
        beside = np.pad(self.chi2, ((0, 0), (1, 1)), constant_values=np.inf)
        return (self.chi2 < beside[:, :-2]) & (self.chi2 <= beside[:, 2:])

    def of(self, rows: np.ndarray) -> Curves:
        """The curves of some of the spectra."""
        return Curves(self.x, self.chi2[rows])

    def least(self, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The least χ² of each spectrum among some shifts, and the ln(1 + z) where it is.

        Parameters
        ----------
        within : bool array, shape (batch, shifts)

        Returns
        -------
        chi2, x : array, shape (batch,)
            Of the parabola through the three points at the minimum; infinite and NaN where there
            is none.
        """
        best = np.argmin(np.where(within, self.chi2, np.inf), axis=1)
        every = np.arange(len(best))
        middle = np.where(within[every, best], self.chi2[every, best], np.inf)
        beside = np.pad(self.chi2, ((0, 0), (1, 1)), constant_values=np.inf)
        left, right = beside[every, best], beside[every, best + 2]
        with np.errstate(invalid="ignore"):
            curvature = left - 2.0 * middle + right
        curved = np.isfinite(curvature) & (curvature > 0)
        left, right, curvature = (
            np.where(curved, values, fill)
            for values, fill in ((left, 0.0), (right, 0.0), (curvature, 1.0))
        )
        offset = np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)
        step = self.x[1] - self.x[0] if len(self.x) > 1 else 0.0
        x = np.where(np.isfinite(middle), self.x[best] + offset * step, np.nan)
        return middle - 0.5 * curvature * offset**2, x


def chi2_curves(
    prepared: Sequence[Prepared],
    bases: Mapping[str, Basis],
    grid: Grid,
    device: torch.device | str = "cpu",
) -> dict[str, Curves]:
    """χ² of spectra at all redshifts of all classes.

    Parameters
    ----------
    prepared : sequence of Prepared
        The spectra on the model's grid.
    bases : mapping of str to Basis
        Templates by class. Of a STAR, the radial velocities of the Galaxy are searched; else all
        redshifts at which the templates cover enough of the grid.
    grid : Grid
        The model's.
    device : torch.device or str
        Where it is computed.

    Returns
    -------
    dict of Curves
        By class.

    Notes
    -----
    On a grid even in log λ a redshift is a shift s of the templates T against the pixels p, and
    every sum in the normal equations of the weighted least-squares fit is a correlation, which
    Fourier transforms give for all s at once: Σ_p w_p T_i(p+s) T_j(p+s) of two templates,
    Σ_p w_p L_a(p) T_i(p+s) of a template and a polynomial, Σ_p w_p f_p T_i(p+s) of a template and
    the flux. With these sums as A and b, χ²(s) = Σ w f² − bᵀA⁻¹b. Tonry & Davis (1979, AJ 84, 1511)
    did so with one template and without errors, Glazebrook, Offer & Deeley (1998, ApJ 492, 98)
    with several.

    Templates and polynomials are fitted to the pixels that the templates cover at a shift. χ² is
    that of polynomials alone, less what the templates take off it there, so that shifts of
    different coverage compare.
    """
    import torch

    device = torch.device("cpu" if torch.device(device).type == "mps" else device)
    shifted = {name: _Shifted.of(basis, grid, name, device) for name, basis in bases.items()}
    if not prepared:
        return {name: Curves(one.x, np.empty((0, one.count))) for name, one in shifted.items()}
    with torch.inference_mode():
        spectra = _Weighted(prepared, device)
        return {name: Curves(one.x, one.chi2(spectra)) for name, one in shifted.items()}


def chi2_curve(
    prepared: Prepared, basis: Basis, grid: Grid, class_: str
) -> tuple[np.ndarray, np.ndarray]:
    """χ² of one spectrum at all redshifts of a class (see `chi2_curves`).

    Parameters
    ----------
    prepared : Prepared
    basis : Basis
        Templates of the class.
    grid : Grid
    class_ : str

    Returns
    -------
    z, chi2 : array, shape (shifts,)
        z rises; χ² is over all good pixels, infinite where the templates cover too few of them.
    """
    curves = chi2_curves([prepared], {class_: basis}, grid)[class_]
    return np.expm1(curves.x), curves.chi2[0]


class _Weighted:
    """What the curves of all classes need of some spectra; arrays of shape (batch, grid.n)."""

    def __init__(self, prepared: Sequence[Prepared], device: torch.device) -> None:
        import torch

        flux = torch.from_numpy(np.stack([one.flux for one in prepared])).to(device)
        ivar = torch.from_numpy(np.stack([one.ivar for one in prepared])).to(device)
        self.good = (ivar > 0).float()
        self.weight = ivar.clamp(max=MAX_WEIGHT)
        # In single precision little may be left to cancel: the best polynomials are taken off.
        smooth = torch.from_numpy(_polynomials(flux.shape[1])).float().to(device)
        products = torch.stack([smooth[i] * smooth[j] for i, j in PAIRS])
        normal = torch.zeros(len(flux), POLYNOMIALS, POLYNOMIALS, device=device).double()
        for (i, j), sums in zip(PAIRS, (self.weight @ products.T).double().T, strict=True):
            normal[:, i, j] = normal[:, j, i] = sums
        normal += RIDGE * torch.eye(POLYNOMIALS).to(normal) * (1.0 + normal[:, :1, :1])
        right = ((self.weight * flux) @ smooth.T).double()
        best = torch.linalg.solve(normal, right[..., None])[..., 0].float()
        left = flux - best @ smooth
        self.flux = self.weight * left
        self.total = (self.flux * left).sum(dim=1)
        self._binned: dict[int, Tensor] = {}

    def binned(self, size: int) -> Tensor:
        """What is correlated with templates, on bins of `size` pixels; shape (rows, batch, bins).

        Weights times the products of two polynomials (`PAIRS`), weighted flux times each
        polynomial, and the number of good pixels.
        """
        if size not in self._binned:
            self._binned[size] = self._make_binned(size)
        return self._binned[size]

    def _make_binned(self, size: int) -> Tensor:
        import torch

        missing = -self.good.shape[1] % size
        three = torch.stack([self.weight, self.flux, self.good])
        if missing:
            three = torch.nn.functional.pad(three, (0, missing))
        # Term by term: sums along a short axis are slow.
        parts = [three[..., i::size] for i in range(size)]
        weight, flux, good = sum(parts[1:], parts[0])
        smooth = torch.from_numpy(_polynomials(weight.shape[1])).to(weight)
        weights = smooth[:, None] * weight
        return torch.cat([
            weights,
            torch.stack([weights[i] * smooth[j] for i, j in PAIRS[POLYNOMIALS:]]),
            smooth[:, None] * flux,
            good[None],
        ])  # fmt: skip


class _Shifted:
    """The templates of a class and their products, ready to be shifted against any spectrum."""

    def __init__(self, basis: Basis, grid: Grid, class_: str, device: torch.device) -> None:
        import torch

        self.size = BINS.get(class_, OTHER_BINS)
        k, m = len(basis.vectors), basis.vectors.shape[1] // self.size
        vectors = basis.vectors[:, : m * self.size].reshape(k, m, self.size).mean(axis=2)
        own_pixels = basis.learned[: m * self.size].reshape(m, self.size)
        learned = np.array(own_pixels.all(axis=1), dtype=bool)
        bins = -(-grid.n // self.size)
        # First and last shift: the template's bin at the first one of the spectrum.
        step = self.size * grid.dloglam
        at_rest = (grid.loglam0 - basis.loglam0) / step
        reach = (STAR_MAX_X if class_ == "STAR" else PEAK_HALF_WIDTH) / (LN10 * step)
        last = math.floor(at_rest + reach)
        if class_ == "STAR":
            first = math.ceil(at_rest - reach)
        else:  # as far as the templates cover enough of the grid
            blue = int(np.flatnonzero(learned)[0]) if learned.any() else 0
            first = min(last, blue - math.floor((1.0 - MIN_OVERLAP) * bins))
        self.count = last - first + 1
        self.x = (at_rest - np.arange(last, first - 1, -1)) * step * LN10
        # Templates at the bins that any shift meets, and the rest of a period of the transforms,
        # so long that their ends do not meet.
        stop = min(last + bins, m)
        few = self.count <= FEW
        whole = self.count + bins - 1
        self.length = whole if few else _fast_length(max(whole - max(-first, 0), stop - first))
        place = first + np.arange(self.length)
        inside = (place >= 0) & (place < stop)
        rows = np.zeros((1 + k, self.length), np.float32)
        rows[:, inside] = np.concatenate([learned[None], vectors * learned])[:, place[inside]]
        own = torch.from_numpy(rows).to(device)
        # The mask, the templates, and their products column by column of the lower triangle.
        own = torch.cat([own, *(own[j:] * own[j] for j in range(1, k + 1))])
        self.k, self.few, self.device = k, few, device
        self.templates = own.unfold(1, bins, 1).contiguous() if few else torch.fft.rfft(own)

    @classmethod
    def of(cls, basis: Basis, grid: Grid, class_: str, device: torch.device) -> _Shifted:
        """Those of a basis, made once."""
        key = (grid, class_, device)
        if key not in basis.shifted:
            basis.shifted[key] = cls(basis, grid, class_, device)
        return basis.shifted[key]

    def chi2(self, spectra: _Weighted) -> np.ndarray:
        """χ² at every shift, the last one first; shape (batch, shifts)."""

        limit = AT_ONCE_CPU if self.device.type == "cpu" else AT_ONCE
        at_once = max(1, limit // self.count)
        starts = range(0, len(spectra.total), at_once)
        return np.concatenate([self._chi2(spectra, slice(i, i + at_once)) for i in starts])

    def _chi2(self, spectra: _Weighted, rows: slice) -> np.ndarray:
        import torch

        data = spectra.binned(self.size)[:, rows]
        good = data[-1].sum(dim=1, keepdim=True)
        if not self.few:
            data = torch.fft.rfft(data, n=self.length).conj()
        n, mask, own = POLYNOMIALS, self.templates[:1], self.templates[1 : 1 + self.k]
        weights, flux = data[: len(PAIRS)].split(list(range(n, 0, -1))), data[len(PAIRS) : -1]
        # Column by column of the lower triangle: row j to the last; then the right side.
        parts = [part for j in range(n) for part in ((weights[j], mask), (data[j : j + 1], own))]
        parts += [(data[:1], self.templates[1 + self.k :])]
        parts += [(flux, mask), (flux[:1], own), (data[-1:], mask)]
        sums = self._correlations(parts)
        size = n + self.k
        *columns, right, covered = sums.split([*range(size, 0, -1), size, 1])
        enough = covered[0] >= MIN_OVERLAP * good
        chi2 = torch.where(enough, spectra.total[rows, None] - _gain(columns, right), torch.inf)
        return np.flip(chi2.double().cpu().numpy(), axis=1)

    def _correlations(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Rows of data with rows of templates (or all with one) at every shift, one after another.

        Shape (rows, batch, shifts).
        """
        import torch

        if self.few:
            return torch.cat([
                torch.einsum("abp,csp->acbs", data, templates).flatten(0, 1)
                for data, templates in parts
            ])  # fmt: skip
        rows = [max(len(data), len(templates)) for data, templates in parts]
        _, batch, length = parts[0][0].shape
        product = parts[0][0].new_empty((sum(rows), batch, length))
        for part, (data, templates) in zip(product.split(rows), parts, strict=True):
            torch.mul(data, templates[:, None], out=part)
        return torch.fft.irfft(product, n=self.length)[..., : self.count]


def _gain(columns: list[Tensor], right: Tensor) -> Tensor:
    """By how much templates lower χ² against the polynomials alone, for many fits at once.

    Parameters
    ----------
    columns : list of Tensor, shape (size − j, batch, shifts)
        Column j of the lower triangle of the normal equations' A; the polynomials come first.
    right : Tensor, shape (size, batch, shifts)
        Their b. Both are overwritten.

    Notes
    -----
    By elimination, A = L D Lᵀ, bᵀA⁻¹b is the sum of (L⁻¹b)²/D over the rows, in which each row
    stands for what it adds to those before it.
    """
    import torch

    gain = torch.zeros_like(right[0])
    least = [PIVOT * column[0] for column in columns]
    for j, column in enumerate(columns):
        inverse = torch.maximum(column[0], least[j]).reciprocal_()
        if j >= POLYNOMIALS:
            gain.addcmul_(right[j], right[j] * inverse)
        factors = column[1:] * inverse
        right[j + 1 :].addcmul_(factors, right[j], value=-1.0)
        for i in range(j + 1, len(columns)):
            columns[i].addcmul_(factors[i - j - 1 :], column[i - j], value=-1.0)
    return gain


def _fast_length(least: int) -> int:
    """The smallest product of 64 and powers of 2, 3 and 5 from there, for fast transforms."""
    odd = [3**i * 5**j for i in range(12) for j in range(8)]
    return min(one * 2 ** max(6, math.ceil(math.log2(least / one))) for one in odd)


@lru_cache
def _polynomials(n: int) -> np.ndarray:
    """Legendre polynomials over n pixels, shape (POLYNOMIALS, n)."""
    line = np.linspace(-1.0, 1.0, n)
    return np.ascontiguousarray(np.polynomial.legendre.legvander(line, POLYNOMIALS - 1).T)


# --- fitting --------------------------------------------------------------------------------


def refine(
    found: RedshiftPrediction,
    prepared: Sequence[Prepared],
    classes: Sequence[str],
    bases: Mapping[str, Basis],
    grid: Grid,
    device: torch.device | str = "cpu",
    prior: Prior | None = None,
) -> Refined:
    """Fit templates around the peaks of p(z).

    The ViT's best peak is kept: on held-out spectra, letting χ² choose among the peaks made
    more redshifts wrong than right. χ² at all redshifts of all classes (`chi2_curves`) says
    where templates would fit better, and where, near the peak, the least χ² is to be found.

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
    device : torch.device or str
        Where χ² at all redshifts is computed.
    prior : Prior, optional
        What is known of the redshift beforehand.

    Returns
    -------
    Refined
    """
    n = len(prepared)
    z, z_err, delta_chi2, chi2_nu = np.full((4, n), np.nan)
    refined = Refined(
        z, z_err, np.full((n, 2), np.nan), delta_chi2, chi2_nu, np.zeros(n, dtype=bool)
    )
    model = np.full((n, grid.n), np.nan, np.float32)
    curves = chi2_curves(prepared, bases, grid, device)
    for name, basis in bases.items():
        rows = np.flatnonzero(np.asarray(classes, dtype=object) == name)
        if not rows.size:
            continue
        is_star = name == "STAR"  # all radial velocities of the Galaxy are searched
        x = np.zeros(len(rows)) if is_star else np.log1p(found.z[rows])
        half_width = STAR_MAX_X if is_star else PEAK_HALF_WIDTH
        own = curves[name].of(rows)
        spectra = [prepared[i] for i in rows.tolist()]
        near = np.full(len(rows), np.nan)
        if prior is None:
            good = np.array([int((one.ivar > 0).sum()) for one in spectra])
            noise = own.chi2.min(axis=1) / np.maximum(good, 1)
            noise = np.where((noise > 1.0) & (noise < np.inf), noise, 1.0)
            rise = MUCH_HIGHER * basis.scale(noise) ** 2
            near = _only_minimum(own, x, half_width, rise, grid, is_star)
        best = fit(spectra, basis, grid, x, half_width, VELOCITIES if is_star else (), near, prior)
        refined.z[rows] = np.expm1(best.x)
        refined.z_err[rows] = best.x_err * np.exp(best.x)
        refined.formal[rows] = best.formal
        refined.chi2_nu[rows] = best.chi2_nu
        everywhere = {key: curve.of(rows) for key, curve in curves.items()}
        refined.delta_chi2[rows] = _lead(everywhere, name, best, prior)
        model[rows] = best.model
    return replace(refined, lines_disagree=lines_disagree(prepared, model, refined.z))


def _lead(
    curves: Mapping[str, Curves], name: str, best: Fits, prior: Prior | None = None
) -> np.ndarray:
    """By how much χ² is lower at fits of class `name` than at any other redshift of any class.

    In units of the fit's own χ² per degree of freedom where that is above one; NaN where there is
    nothing to compare.
    """
    own, x = curves[name], best.x[:, None]
    step = own.x[1] - own.x[0] if len(own.x) > 1 else np.inf
    chi2, _ = own.least(np.abs(own.x - x) <= step)
    others = np.full(len(x), np.inf)
    for key, one in curves.items():
        if prior is None or prior.class_.upper() in ("", key):
            possible = one.minima & (np.abs(one.x - x) > PEAK_HALF_WIDTH)
            if prior is not None:
                possible &= prior.log(one.x) > FORBIDDEN
            others = np.minimum(others, one.least(possible)[0])
    comparable = np.isfinite(others) & np.isfinite(chi2)
    lead = np.where(comparable, others, np.nan) - np.where(comparable, chi2, np.nan)
    return lead / np.maximum(best.chi2_nu, 1.0)


def _only_minimum(
    curves: Curves,
    x: np.ndarray,
    half_width: float,
    least_rise: np.ndarray,
    grid: Grid,
    velocities: bool,
) -> np.ndarray:
    """Where χ² is least within `half_width` of x, if nothing else there is nearly as low; or NaN.

    For a star, whose error counts all velocities, that is all around; else minima and the ends.
    """
    within = np.abs(curves.x - x[:, None]) <= half_width
    least, near = curves.least(within)
    rivals = within & (np.abs(curves.x - near[:, None]) > COARSE * LN10 * grid.dloglam)
    beside = np.pad(within, ((0, 0), (1, 1)))
    ends = within & ~(beside[:, :-2] & beside[:, 2:])
    if not velocities:
        rivals &= curves.minima | ends
    first = np.where(ends, curves.x, np.inf).min(axis=1)
    last = np.where(ends, curves.x, -np.inf).max(axis=1)
    rival = np.where(rivals, curves.chi2, np.inf).min(axis=1)
    with np.errstate(invalid="ignore"):  # no χ² at all
        alone = (first < near) & (near < last) & (rival - least > least_rise)
    return np.where(alone, near, np.nan)


def fit(
    prepared: Sequence[Prepared],
    basis: Basis,
    grid: Grid,
    x: np.ndarray,
    half_width: float,
    velocities: Sequence[tuple[float, float]] = (),
    near: np.ndarray | None = None,
    prior: Prior | None = None,
) -> Fits:
    """Fit templates within `half_width` of redshifts.

    Parameters
    ----------
    prepared : sequence of Prepared
        Spectra on the model's grid.
    basis : Basis
        Templates of their class.
    grid : Grid
        The model's.
    x : array, shape (n,)
        ln(1 + z) to search around.
    half_width : float
        How far, in ln(1 + z).
    velocities : sequence of (float, float)
        What is known of the velocity beforehand (see `velocity_prior`); nothing by default.
    near : array, shape (n,), optional
        ln(1 + z) where χ² is known to be least within these limits (see `chi2_curves`); without
        it, or where it is NaN, they are scanned.
    prior : Prior, optional
        What the user knows of the redshift beforehand.

    Returns
    -------
    Fits
        NaN where the templates cover too little of the spectrum.

    Notes
    -----
    Least is χ²/s² − 2 ln p(x), where s is what formal errors are multiplied by (see `Basis`), so
    that prior and spectrum are weighed as the error says. Its curvature gives the error; of a star,
    the other minima of the range count too, each by its probability.
    """
    near = np.full(len(prepared), np.nan) if near is None else near
    fits = Fits.none(len(prepared), grid.n)
    order = np.argsort(x, kind="stable")  # those together meet the same stretch of the templates
    for start in range(0, len(order), AT_ONCE_FITS):
        rows = order[start : start + AT_ONCE_FITS]
        search = _Search([prepared[i] for i in rows], basis, grid, x[rows], half_width, velocities,
                         prior)  # fmt: skip
        search.fill(fits, rows, near[rows])
        forest = rows[np.exp(fits.x[rows]) * LYMAN_ALPHA > grid.wavelength[0]]
        if forest.size:
            spectra = [prepared[i] for i in forest]
            fits.model[forest] = _without_forest(spectra, basis, grid, fits.x[forest])
    return fits


def _without_forest(
    prepared: Sequence[Prepared], basis: Basis, grid: Grid, x: np.ndarray
) -> np.ndarray:
    """The best models at ln(1 + z) redward of Lyα, NaN elsewhere; shape (n, grid.n)."""
    forest = grid.wavelength <= LYMAN_ALPHA * np.exp(x)[:, None]
    masked = [
        replace(one, ivar=np.where(own, 0.0, one.ivar).astype(np.float32))
        for one, own in zip(prepared, forest, strict=True)
    ]
    start = np.rint(((grid.loglam0 - basis.loglam0) * LN10 - x) / (LN10 * grid.dloglam)).astype(int)
    windows = _Windows(masked, basis, grid, start, 0)
    _, coefficients = windows.fitted(np.arange(len(x)), start[:, None])
    return np.where(forest, np.nan, windows.models(start, coefficients[:, 0]))


class _Search:
    """The search for the least χ² of some spectra, each within a range of shifts."""

    def __init__(
        self,
        prepared: Sequence[Prepared],
        basis: Basis,
        grid: Grid,
        x: np.ndarray,
        half_width: float,
        velocities: Sequence[tuple[float, float]],
        prior: Prior | None,
    ) -> None:
        self.basis, self.velocities, self.prior = basis, velocities, prior
        self.per_pixel = LN10 * grid.dloglam
        self.at_rest = (grid.loglam0 - basis.loglam0) * LN10
        # Template pixel of the first pixel of each spectrum, at the centre of its search.
        self.centre = self.start_at(x)
        self.reach = int(np.ceil(half_width / self.per_pixel))
        self.reach += -self.reach % COARSE
        self.windows = _Windows(prepared, basis, grid, self.centre, self.reach + 3)

    def start_at(self, x: np.ndarray) -> np.ndarray:
        """The template pixel at the first one of the spectrum, at ln(1 + z)."""
        return np.rint((self.at_rest - x) / self.per_pixel).astype(int)

    def fill(self, fits: Fits, places: np.ndarray, near: np.ndarray) -> None:
        """Put the fits of those that the templates cover in their places."""
        enough = self.windows.overlap >= MIN_OVERLAP
        led = np.isfinite(near)
        rows = np.flatnonzero(enough & led)
        if rows.size:
            self._descend(fits, places[rows], rows, self.start_at(near[rows]), 1)
        rows = np.flatnonzero(enough & ~led)
        if not rows.size:
            return
        coarse = np.arange(-self.reach, self.reach + 1, COARSE) + self.centre[rows, None]
        chi2, beforehand, _ = self._scan(rows, coarse)
        total = chi2 / self._scale(rows, chi2)[:, None] ** 2 + beforehand
        best = np.take_along_axis(coarse, np.argmin(total, axis=1)[:, None], axis=1)[:, 0]
        start, scale, lowest = self._descend(fits, places[rows], rows, best, COARSE)
        if not self.velocities:
            return
        # The whole range was searched: minima that are nearly as deep widen the error.
        x_err = fits.x_err[places[rows]]
        away = coarse - start[:, None]
        depth = chi2 / scale[:, None] ** 2 + beforehand - lowest[:, None]
        chance = COARSE * np.exp(-0.5 * np.maximum(depth, 0.0)) * (np.abs(away) > COARSE)
        own = np.sqrt(2.0 * np.pi) * x_err / self.per_pixel
        variance = own * x_err**2 + (chance * (self.per_pixel * away) ** 2).sum(axis=1)
        fits.set_error(places[rows], np.sqrt(variance / (own + chance.sum(axis=1))), scale)

    def _descend(
        self, fits: Fits, places: np.ndarray, rows: np.ndarray, best: np.ndarray, beside: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Go down to the minima that are nearest, looking at `beside` pixels to both sides.

        Returns
        -------
        start, scale, lowest : array
            Where they are in template pixels, the scale of the error there and the least of what
            is minimised.
        """
        low, high = self.centre[rows] - self.reach, self.centre[rows] + self.reach
        start, scale, lowest = (np.empty(len(rows)) for _ in range(3))
        left = np.arange(len(rows))  # not there yet
        for turn in range(2 * self.reach + 1):
            best = np.clip(best, low[left], high[left])
            fine = best[:, None] + np.arange(-beside, beside + 1)
            chi2, cost, weights = self._scan(rows[left], fine)
            own_scale = self._scale(rows[left], chi2)
            total = chi2 / own_scale[:, None] ** 2 + cost
            least = np.argmin(total, axis=1)
            every = np.arange(len(left))
            best = fine[every, least]
            there = (least > 0) & (least < 2 * beside)
            there |= (best <= low[left]) | (best >= high[left]) | (turn == 2 * self.reach)
            # A parabola through the three points at the minimum; at an end of the scan, the end.
            i = np.clip(least, 1, 2 * beside - 1)
            three = [total[every, i + side] for side in (-1, 0, 1)]
            curvature = three[0] - 2.0 * three[1] + three[2]
            # Beside what the prior excludes there is no minimum.
            has_minimum = (curvature > 0) & (curvature <= -FORBIDDEN)
            curvature = np.where(has_minimum, curvature, 1.0)
            offset = np.clip(0.5 * (three[0] - three[2]) / curvature, -1, 1) * has_minimum
            at = fine[every, i] + offset
            # Where there is no minimum, the error is that of the scan.
            error = np.where(has_minimum, np.sqrt(2.0 / curvature), COARSE * own_scale)
            done, to = left[there], places[left[there]]
            start[done], scale[done], lowest[done] = (
                values[there] for values in (at, own_scale, total.min(axis=1))
            )
            fits.x[to] = self.at_rest - at[there] * self.per_pixel
            freedom = self.windows.freedom[rows[done]]
            fits.chi2_nu[to] = chi2[there].min(axis=1) / freedom
            fits.set_error(to, self.per_pixel * error[there], own_scale[there])
            fits.model[to] = self.windows.models(best[there], weights[every, least][there])
            left, best = left[~there], best[~there]  # the minimum lies farther on
            if not left.size:
                break
        return start, scale, lowest

    def _scan(
        self, rows: np.ndarray, starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """χ² at some shifts, −2 ln of the priors there, and the best coefficients."""
        shifts = self.at_rest - starts * self.per_pixel
        cost = velocity_prior(shifts, self.velocities)
        if self.prior is not None:
            cost = cost - 2.0 * self.prior.log(shifts)
        chi2, weights = self.windows.fitted(rows, starts)
        return chi2, cost, weights

    def _scale(self, rows: np.ndarray, chi2: np.ndarray) -> np.ndarray:
        """What formal errors are multiplied by, from the least χ² of each spectrum."""
        noise = chi2.min(axis=1) / self.windows.freedom[rows]
        return np.asarray(self.basis.scale(np.maximum(noise, 1.0)))


def velocity_prior(x: np.ndarray, velocities: Sequence[tuple[float, float]]) -> np.ndarray:
    """−2 ln of the prior probability of radial velocities, 0 at rest.

    Parameters
    ----------
    x : array
        ln(1 + z).
    velocities : sequence of (float, float)
        Gaussians about rest that are summed: share, and σ in km/s. None: 0 everywhere.

    Returns
    -------
    array, of the shape of x

    Notes
    -----
    `VELOCITIES` has a core as wide as the Galaxy's stars, seen from the Sun, are at most: those
    of the halo have 111 km/s along the line of sight (Xue et al. 2008, ApJ 684, 1143), to which
    the Sun's 220 to 240 km/s add. One star in a hundred is left to wings that runaway and
    hypervelocity stars fill (Brown 2015, ARA&A 53, 15).
    """
    if not velocities:
        return np.zeros(np.shape(x))
    share, sigma = np.transpose(velocities)
    sigma = sigma / LIGHT_SPEED

    def density(x: np.ndarray) -> np.ndarray:
        return (share / sigma * np.exp(-0.5 * (x[..., None] / sigma) ** 2)).sum(axis=-1)

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
    centre = np.array([round((grid.loglam0 - x / LN10 - basis.loglam0) / grid.dloglam)])
    reach = int(np.ceil(PEAK_HALF_WIDTH / per_pixel))
    windows = _Windows([prepared], basis, grid, centre, reach)
    starts = centre[:, None] + np.arange(-reach, reach + 1)
    chi2, coefficients = windows.fitted(np.zeros(1, dtype=int), starts)
    z = np.expm1((grid.loglam0 - basis.loglam0) * LN10 - starts[0] * per_pixel)
    return np.stack([z, chi2[0]], axis=1), windows.models(centre, coefficients[:, reach])[0]


class _Windows:
    """Spectra beside the stretches of the templates that scans pass over.

    In double precision: of a bright star, χ² is a small difference of large sums.

    Parameters
    ----------
    prepared : sequence of Prepared
    basis : Basis
    grid : Grid
    centre : array of int, shape (n,)
        The templates' pixel at the first one of each spectrum, in the middle of its scan.
    reach : int
        How far scans go to both sides.
    """

    def __init__(
        self,
        prepared: Sequence[Prepared],
        basis: Basis,
        grid: Grid,
        centre: np.ndarray,
        reach: int,
    ) -> None:
        self.basis, self.n = basis, grid.n
        flux = np.stack([one.flux for one in prepared])
        ivar = np.stack([one.ivar for one in prepared])
        # Only pixels that the templates cover at every shift count, so that χ² compare.
        width = 2 * reach + 1
        before = np.concatenate([[0], np.cumsum(basis.learned)])
        always = before[width:] - before[:-width] == width
        covered = np.zeros(flux.shape, dtype=bool)
        for row, first in zip(covered, centre - reach, strict=True):
            here, there = _overlap(int(first), self.n, len(always))
            row[there] = always[here]
        good = ivar > 0
        self.overlap = (good & covered).sum(axis=1) / np.maximum(good.sum(axis=1), 1)
        weight = np.where(covered, np.minimum(ivar, MAX_WEIGHT), 0.0).astype(np.float64)
        self.flux, self.weight = flux.astype(np.float64), weight
        self.smooth = _polynomials(self.n)
        weighted = weight * self.flux
        self.total = np.einsum("np,np->n", weighted, self.flux)
        self.smooth_right = _product(weighted, self.smooth)
        pairs = (self.smooth[:, None] * self.smooth).reshape(-1, self.n)
        self.smooth_normal = _product(weight, pairs).reshape(-1, POLYNOMIALS, POLYNOMIALS)
        coefficients = len(basis.vectors) + POLYNOMIALS
        self.freedom = np.maximum((weight > 0).sum(axis=1) - coefficients, 1)

    def fitted(self, rows: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """χ² and the best coefficients of some spectra at some shifts.

        Parameters
        ----------
        rows : array of int, shape (r,)
        starts : array of int, shape (r, s)
            The templates' pixels at the spectrum's first one; all rows in the same steps.

        Returns
        -------
        chi2 : array, shape (r, s)
        coefficients : array, shape (r, s, k + POLYNOMIALS)
            Of the templates, then of the polynomials.
        """
        first, steps = starts[:, 0], starts[0] - starts[0, 0]
        vectors, products = self.basis.products
        k, lower, count = len(vectors), np.tril_indices(len(vectors)), len(rows)
        normal = np.empty((*starts.shape, k + POLYNOMIALS, k + POLYNOMIALS))
        right = np.empty(normal.shape[:-1])
        # What templates are multiplied by: weight times each polynomial, the first of which is 1,
        # and weighted flux; each spectrum at its place, so that the templates meet all at once.
        begin = int(first.min())
        length = int(first.max()) - begin + self.n
        placed = np.zeros((POLYNOMIALS + 1, count, length))
        for i, (row, at) in enumerate(zip(rows, first - begin, strict=True)):
            own = placed[:, i, at : at + self.n]
            np.multiply(self.weight[row], self.smooth, out=own[:-1])
            np.multiply(self.weight[row], self.flux[row], out=own[-1])
        together = placed.reshape(-1, length)
        for j, step in enumerate(steps.tolist()):
            here, there = _overlap(begin + step, length, vectors.shape[1])
            own = _product(together[:count, there], products[:, here])
            normal[:, j, lower[0], lower[1]] = normal[:, j, lower[1], lower[0]] = own
            mixed = _product(together[:, there], vectors[:, here]).reshape(-1, count, k)
            normal[:, j, :k, k:] = mixed[:-1].transpose(1, 2, 0)
            right[:, j, :k] = mixed[-1]
        normal[..., k:, :k] = normal[..., :k, k:].swapaxes(-1, -2)
        normal[..., k:, k:] = self.smooth_normal[rows, None]
        right[..., k:] = self.smooth_right[rows, None]
        diagonal = np.einsum("...ii->...i", normal)  # a view
        diagonal += RIDGE * (diagonal.sum(axis=-1, keepdims=True) + 1.0)
        coefficients = np.linalg.solve(normal, right[..., None])[..., 0]
        chi2 = self.total[rows, None] - np.einsum("rsi,rsi->rs", right, coefficients)
        return chi2, coefficients

    def models(self, starts: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """Templates and polynomials with their coefficients; NaN where there are no templates.

        Parameters
        ----------
        starts : array of int, shape (r,)
            The templates' pixels at the spectrum's first one.
        coefficients : array, shape (r, k + POLYNOMIALS)

        Returns
        -------
        array, shape (r, grid.n)
        """
        vectors, _ = self.basis.products
        k, m = vectors.shape
        summed = coefficients[:, :k] @ vectors
        summed[:, ~self.basis.learned] = np.nan
        model = np.full((len(starts), self.n), np.nan)
        for row, own, start in zip(model, summed, starts, strict=True):
            here, there = _overlap(int(start), self.n, m)
            row[there] = own[here]
        return model + coefficients[:, k:] @ self.smooth


def _overlap(start: int, n: int, m: int) -> tuple[slice, slice]:
    """Where n pixels, the first of which lies at pixel `start` of m others, meet these.

    As a slice of the m, and one of the n.
    """
    low = min(max(start, 0), m)
    high = max(min(start + n, m), low)
    return slice(low, high), slice(low - start, high - start)


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each row of the one with each of the other, by torch, which keeps to its own threads."""
    import torch

    return (torch.from_numpy(left) @ torch.from_numpy(right).T).numpy()
