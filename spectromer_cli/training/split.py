"""Which objects are learned from and which judge: by object, evenly by class, by a seed."""

from __future__ import annotations

import hashlib

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = ("train", "validation", "test")


def positions(group: np.ndarray, stratum: np.ndarray, seed: int) -> np.ndarray:
    """A place between 0 and 1 for each object, even within each stratum.

    Parameters
    ----------
    group : array, shape (n,)
        The object of each spectrum.
    stratum : array of int, shape (n,)
        The class of each spectrum; an object is where its first one is.
    seed : int
        Another seed, another order.

    Returns
    -------
    array, shape (n,)
        Equal for spectra of one object.
    """
    objects, first, number = np.unique(group, return_index=True, return_inverse=True)
    home = stratum[first]
    drawn = np.array([_hash(f"{seed}:{name}") for name in objects])
    of_object = np.empty(len(objects))
    for value in np.unique(home):
        members = np.flatnonzero(home == value)
        order = members[np.argsort(drawn[members], kind="stable")]
        of_object[order] = (np.arange(len(members)) + 0.5) / len(members)
    return of_object[number]


def _hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def three_parts(place: np.ndarray, share: float) -> np.ndarray:
    """TRAIN, VALIDATION or TEST of each spectrum; the last two have the share `share` each."""
    return np.where(place < share, TEST, np.where(place < 2 * share, VALIDATION, TRAIN))


def folds(place: np.ndarray, count: int) -> np.ndarray:
    """The fold of each spectrum, 0 to `count` − 1."""
    return np.minimum((place * count).astype(int), count - 1)
