"""Templates and populations learned from de-redshifted spectra, shipped with the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spectromer_cli.model.template_fit import Basis
from spectromer_cli.simulation import populations
from spectromer_cli.simulation.populations import Population
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.targets import Target


@dataclass(frozen=True)
class Plan:
    """How the templates of a class are learned.

    Parameters
    ----------
    vectors : int
        How many.
    min_sn : float
        Least median S/N a pixel of the spectra used.
    min_count : int
        A template pixel needs so many spectra.
    max_ivar : float
        Cap of the weights, so that a few bright spectra do not decide alone.
    """

    vectors: int
    min_sn: float
    min_count: int
    max_ivar: float


PLANS = {
    "STAR": Plan(10, 40.0, 10, 400.0),
    "GALAXY": Plan(8, 5.0, 20, 400.0),
    "QSO": Plan(4, 3.0, 8, 100.0),
}
# Surveys whose wavelengths are good to a few km/s.
PRECISE = ("SDSS", "BOSS", "eBOSS", "SEGUE", "LAMOST")
# Fewer spectra make no templates.
MIN_SPECTRA = 50
ITERATIONS = 12
# Objects kept of each class, and the least S/N of each.
MEMBERS = 400
MIN_SN = {"STAR": 15.0, "GALAXY": 8.0, "QSO": 3.0}
# Of the variance over wavelength, what the templates may leave beyond the noise; quasars differ
# most, and have the fewest templates.
MAX_UNEXPLAINED = {"STAR": 0.1, "GALAXY": 0.1, "QSO": 0.4}


def learn_templates(
    data: LabelledSpectra, targets: Sequence[Target], train: np.ndarray
) -> dict[str, Basis]:
    """Learn the templates of each class.

    Parameters
    ----------
    data : LabelledSpectra
    targets : sequence of Target
        With ``class`` and ``z``.
    train : bool array, shape (n,)
        The training split.

    Returns
    -------
    dict of str to Basis
        By class; a class with too few spectra has none.
    """
    named = {target.name: target for target in targets}
    found = {}
    for name, plan in PLANS.items():
        usable = _usable(data, named, name, plan.min_sn) & train
        if usable.sum() >= MIN_SPECTRA:
            found[name] = _learn(data.take(usable), named["z"].values[usable], plan)
    return found


def _usable(
    data: LabelledSpectra, named: Mapping[str, Target], name: str, min_sn: float
) -> np.ndarray:
    """Spectra of a class whose redshift and errors can be relied on."""
    own = np.array([*named["class"].labels, ""])[named["class"].values] == name
    own &= np.isfinite(named["z"].values) & (data.sn > min_sn)
    return own & data.has_ivar & np.isin(data.survey, PRECISE)


def _learn(data: LabelledSpectra, z: np.ndarray, plan: Plan) -> Basis:
    grid = data.grid
    furthest = np.log10(1.0 + z.max())
    nearest = np.log10(1.0 + z.min())
    extra = int(np.ceil((furthest - nearest) / grid.dloglam)) + 2
    loglam0 = grid.loglam0 - furthest
    n = grid.n + extra
    flux, weight = np.zeros((len(data), n), np.float32), np.zeros((len(data), n), np.float32)
    pixels = np.arange(grid.n)
    for i in range(len(data)):
        # Where the template's pixels lie in this spectrum.
        shift = (grid.loglam0 - np.log10(1.0 + z[i]) - loglam0) / grid.dloglam
        position = np.arange(n) - shift
        ivar = data.ivar[i].astype(np.float64)
        good = ivar > 0
        flux[i] = np.interp(position, pixels[good], data.flux[i].astype(np.float64)[good])
        left = np.clip(np.floor(position).astype(int), 0, grid.n - 2)
        both_good = good[left] & good[left + 1] & (position >= 0) & (position <= grid.n - 1)
        weight[i] = np.where(
            both_good, np.minimum(np.interp(position, pixels, ivar), plan.max_ivar), 0
        )
    enough = np.flatnonzero((weight > 0).sum(axis=0) >= plan.min_count)
    cut = slice(enough[0], enough[-1] + 1)
    vectors = weighted_pca(flux[:, cut], weight[:, cut], plan.vectors)
    return Basis(loglam0 + grid.dloglam * int(enough[0]), vectors)


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


def learn_populations(
    data: LabelledSpectra,
    targets: Sequence[Target],
    train: np.ndarray,
    bases: Mapping[str, Basis],
) -> dict[str, Population]:
    """Describe well-measured spectra by the templates of their class.

    Parameters
    ----------
    data, targets, train
        As for `learn_templates`; targets with ``subclass`` too.
    bases : mapping of str to Basis
        Templates by class.

    Returns
    -------
    dict of str to Population
        By class; a class of which no spectrum is described well has none.
    """
    named = {target.name: target for target in targets}
    found = {}
    for name, basis in bases.items():
        usable = _usable(data, named, name, MIN_SN[name]) & train
        described = populations.describe(
            data.flux[usable], data.ivar[usable], data.grid, named["z"].values[usable],
            named["subclass"].values[usable], basis, MAX_UNEXPLAINED[name],
        )  # fmt: skip
        if name == "STAR":
            # A star of no type could not be told from one of any.
            described = described.take(described.subclass >= 0)
            described = replace(described, z=np.zeros_like(described.z))
        if len(described.z):
            found[name] = populations.drawn_evenly(described, MEMBERS)
    return found
