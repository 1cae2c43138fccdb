"""How far a spectrum lies from the training set, in the features of the ViT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 10
# Share of held-out good spectra that either distance may flag.
FLAGGED = 0.01
# Ridge on the covariance, as a share of its mean variance: some features hardly vary.
RIDGE = 1e-3


@dataclass(frozen=True)
class ReferenceSet:
    """The features of the training set; here those that `SpectralViT.seen` gives of the layers.

    Parameters
    ----------
    centres : array, shape (classes, features)
        Mean features of each class.
    whitening : array, shape (features, features)
        Inverse square root of the covariance that the classes share.
    examples : array, shape (k, features)
        Features, of unit length, of training spectra.
    limits : array, shape (2,)
        The distance to the nearest centre and to the examples that the share `FLAGGED` of
        held-out good spectra exceeds.
    """

    centres: np.ndarray
    whitening: np.ndarray
    examples: np.ndarray
    limits: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distances to the nearest class centre and to the nearest examples.

        Parameters
        ----------
        features : array, shape (n, features)

        Returns
        -------
        array, shape (n, 2)
            Mahalanobis distance (Lee et al. 2018, arXiv:1807.03888, equation 2), and
            1 − cosine of the angle to the tenth nearest example (Sun et al. 2022,
            arXiv:2204.06507).
        """
        mahalanobis = np.min(
            [
                np.linalg.norm((features - centre) @ self.whitening, axis=1)
                for centre in self.centres
            ],
            axis=0,
        )
        cosine = _unit(features) @ self.examples.T
        tenth = min(NEIGHBOURS, len(self.examples))
        nearest = np.partition(cosine, -tenth, axis=1)[:, -tenth]
        return np.stack([mahalanobis, 1.0 - nearest], axis=1)

    def score(self, features: np.ndarray) -> np.ndarray:
        """The larger distance over its limit, shape (n,): above 1 is out of distribution."""
        return (self.distances(features) / self.limits).max(axis=1)

    @classmethod
    def learn(cls, features: np.ndarray, class_: np.ndarray, held_out: np.ndarray) -> ReferenceSet:
        """Learn centres, whitening and limits.

        Parameters
        ----------
        features : array, shape (n, features)
            Of training spectra.
        class_ : array of int, shape (n,)
            Their classes.
        held_out : array, shape (m, features)
            Features of good spectra outside the training set; they set the limits.

        Returns
        -------
        ReferenceSet
        """
        numbers = np.unique(class_)
        centres = np.stack([features[class_ == number].mean(axis=0) for number in numbers])
        residual = features - centres[np.searchsorted(numbers, class_)]
        covariance = residual.T @ residual / len(residual)
        covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        variance, axes = np.linalg.eigh(covariance)
        whitening = axes / np.sqrt(variance) @ axes.T
        known = cls(centres, whitening, _unit(features), np.ones(2))
        limits = np.quantile(known.distances(held_out), 1.0 - FLAGGED, axis=0)
        return cls(known.centres, known.whitening, known.examples, limits)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
