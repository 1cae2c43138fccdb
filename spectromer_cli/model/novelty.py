"""Whether a spectrum is like those of the training set, by the features of the ViT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# Share of held-out good spectra that the score may flag.
FLAGGED = 0.04
# Of the logistic regression: the weight of the squares of the coefficients, and the steps of
# Newton's method.
RIDGE, ITERATIONS = 1e-3, 15
# Features further from the mean than this [σ] count as so far.
FARTHEST = 8.0
# Of its arrays in the weights.
PREFIX = "novelty."
NAMES = ("mean", "scale", "coefficients", "limit")


@dataclass(frozen=True)
class Novelty:
    """A line between the features of known spectra and those of synthetic outliers.

    Features are those that `SpectralViT.seen` gives of several layers. Learned with outliers at
    hand, the line also tells outliers of other kinds from known spectra (outlier exposure:
    Hendrycks et al. 2019, arXiv:1812.04606), and far better than distances to the training set
    do, to which a window or a flux calibration that is new counts as much as an object.

    Parameters
    ----------
    mean, scale : array, shape (features,)
        Of the known spectra.
    coefficients : array, shape (features,)
        Of the logistic regression on the scaled features.
    limit : array, shape ()
        What the share `FLAGGED` of held-out good spectra exceeds.
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    limit: np.ndarray

    def score(self, features: np.ndarray) -> np.ndarray:
        """From 0 to 2: above 1 is out of distribution.

        Parameters
        ----------
        features : array, shape (n, features)

        Returns
        -------
        array, shape (n,)
            2/(1 + exp(limit − x)) of the log-odds x of being an outlier.
        """
        return 2.0 / (1.0 + np.exp(np.clip(self.limit - self._log_odds(features), -50.0, 50.0)))

    def _log_odds(self, features: np.ndarray) -> np.ndarray:
        scaled = np.clip((features - self.mean) / self.scale, -FARTHEST, FARTHEST)
        return scaled @ self.coefficients

    @classmethod
    def learn(cls, known: np.ndarray, outliers: np.ndarray, held_out: np.ndarray) -> Novelty:
        """Learn the line and its limit.

        Parameters
        ----------
        known : array, shape (n, features)
            Of spectra of the training set.
        outliers : array, shape (m, features)
            Of spectra that are no such objects; all of them together count as much as `known`.
        held_out : array, shape (k, features)
            Of good spectra outside the training set; they set the limit.

        Returns
        -------
        Novelty
        """
        mean, scale = known.mean(axis=0), known.std(axis=0) + 1e-6
        features = np.concatenate([known, outliers]).astype(np.float64)
        scaled = np.clip((features - mean) / scale, -FARTHEST, FARTHEST)
        is_outlier = np.arange(len(features)) >= len(known)
        weight = np.where(is_outlier, 0.5 / max(len(outliers), 1), 0.5 / len(known))
        line = cls(mean, scale, _logistic(scaled, is_outlier, weight), np.zeros(()))
        limit = np.quantile(line._log_odds(held_out), 1.0 - FLAGGED)
        return cls(line.mean, line.scale, line.coefficients, np.asarray(limit))


def _logistic(features: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients of a logistic regression, shape (features,), by Newton's method.

    The constant is left out: the limit takes its place.
    """
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    ridge = np.append(np.full(features.shape[1], RIDGE), 0.0)
    coefficients = np.zeros(design.shape[1])

    def loss(trial: np.ndarray) -> float:
        x = design @ trial
        return float(weight @ (np.logaddexp(0.0, x) - label * x) + 0.5 * ridge @ trial**2)

    current = loss(coefficients)
    for _ in range(ITERATIONS):
        p = 0.5 * (1.0 + np.tanh(0.5 * (design @ coefficients)))
        slope = design.T @ (weight * (p - label)) + ridge * coefficients
        curved = (design * (weight * p * (1.0 - p))[:, None]).T @ design + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curved, slope)
        while (trial := loss(coefficients - step)) > current and np.abs(step).max() > 1e-6:
            step = 0.5 * step
        if not trial < current - 1e-9:
            break
        coefficients, current = coefficients - step, trial
    return coefficients[:-1]


def to_arrays(novelty: Novelty) -> dict[str, np.ndarray]:
    """The arrays by the names that they have in the weights."""
    return {f"{PREFIX}{name}": np.asarray(getattr(novelty, name), np.float32) for name in NAMES}


def from_arrays(arrays: Mapping[str, Any]) -> Novelty | None:
    """The score in weights, by the names of `to_arrays`; None where they have none."""
    if not all(f"{PREFIX}{name}" in arrays for name in NAMES):
        return None
    return Novelty(**{name: np.asarray(arrays[f"{PREFIX}{name}"], np.float64) for name in NAMES})
