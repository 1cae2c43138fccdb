"""Which objects are learned from and which judge: by object, by one hash of name and seed."""

from __future__ import annotations

import hashlib

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = ("train", "validation", "test")


def places(group: np.ndarray, seed: int, stratum: np.ndarray | None = None) -> np.ndarray:
    """A place between 0 and 1 for each object.

    Parameters
    ----------
    group : array, shape (n,)
        The object of each spectrum.
    seed : int
        Random seed: another one, another order.
    stratum : array of int, shape (n,), optional
        The class of each spectrum (an object has that of its first one): places are then even
        within each class, and depend on which other objects there are. Without it an object
        keeps its place whatever else is in the set.

    Returns
    -------
    array, shape (n,)
        Equal for spectra of one object.
    """
    objects, first, number = np.unique(group, return_index=True, return_inverse=True)
    place = np.array([_hash(f"{seed}:{name}") for name in objects])
    if stratum is not None:
        home = stratum[first]
        for value in np.unique(home):
            members = np.flatnonzero(home == value)
            order = members[np.argsort(place[members], kind="stable")]
            place[order] = (np.arange(len(members)) + 0.5) / len(members)
    return place[number]


def _hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def three_parts(place: np.ndarray, share: float) -> np.ndarray:
    """TRAIN, VALIDATION or TEST of each spectrum; the last two have the share `share` each."""
    return np.where(place < share, TEST, np.where(place < 2 * share, VALIDATION, TRAIN))


def folds(place: np.ndarray, count: int) -> np.ndarray:
    """The fold of each spectrum, 0 to `count` − 1."""
    return np.minimum((place * count).astype(int), count - 1)
