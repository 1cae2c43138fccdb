"""The best template fit at a redshift that is known: coefficients, χ² and the model itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spectromer_cli.model.template_fit import MAX_WEIGHT, POLYNOMIALS, RIDGE, Basis
from spectromer_cli.spectra.grid import Grid, Prepared


@dataclass(frozen=True)
class BestFit:
    """Templates and polynomials fitted at one redshift.

    Parameters
    ----------
    coefficients : array, shape (k + POLYNOMIALS,)
        Of the templates, then of the Legendre polynomials.
    chi2 : float
        Over the pixels that count.
    pixels : int
        How many these are: good ones that the templates cover.
    model : array, shape (grid.n,)
        In the unit of `Prepared.flux`; NaN where there are no templates.
    """

    coefficients: np.ndarray
    chi2: float
    pixels: int
    model: np.ndarray


def best_fit(prepared: Prepared, basis: Basis, grid: Grid, z: float) -> BestFit | None:
    """Fit templates and polynomials at a redshift, by weighted least squares.

    Parameters
    ----------
    prepared : Prepared
        The spectrum on the model's grid.
    basis : Basis
        Templates of its class.
    grid : Grid
        The model's.
    z : float

    Returns
    -------
    BestFit or None
        None if the templates meet fewer good pixels than there are coefficients.
    """
    learned = replace(basis, vectors=basis.learned[None].astype(np.float32), counts=None)
    templates = basis.at_redshift(z, grid)
    covered = learned.at_redshift(z, grid)[0] > 0.999
    line = np.linspace(-1.0, 1.0, grid.n)
    smooth = np.polynomial.legendre.legvander(line, POLYNOMIALS - 1).T
    design = np.concatenate([np.where(covered, templates, 0.0), smooth])
    weight = np.where(covered, np.minimum(prepared.ivar, MAX_WEIGHT), 0.0).astype(np.float64)
    pixels = int((weight > 0).sum())
    if pixels < len(design):
        return None
    normal = (design * weight) @ design.T
    normal[np.diag_indices_from(normal)] += RIDGE * (np.trace(normal) + 1.0)
    coefficients = np.linalg.solve(normal, (design * weight) @ prepared.flux)
    model = coefficients @ design
    chi2 = float(weight @ (prepared.flux - model) ** 2)
    return BestFit(coefficients, chi2, pixels, np.where(covered, model, np.nan))
