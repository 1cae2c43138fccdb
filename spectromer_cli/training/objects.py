"""Which spectra are of one object: a split goes by object, never by spectrum."""

from __future__ import annotations

import numpy as np

# Spectra of positions closer than this are of one object.
SAME_OBJECT_ARCSEC = 1.0


def same_objects(positions: list[tuple], contents: list[bytes]) -> np.ndarray:
    """Which spectra are of one object.

    Parameters
    ----------
    positions : list of (ra, dec)
        In degrees; None or NaN where unknown.
    contents : list of bytes
        Equal for copies of one spectrum.

    Returns
    -------
    array of int, shape (n,)
        Equal numbers for positions within 1″ of each other, and for copies.
    """
    parent = list(range(len(positions)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[int, int] = {}
    for i, content in enumerate(contents):
        parent[i] = root(first.setdefault(hash(content), i))
    sky = np.array([_degrees(ra, dec) for ra, dec in positions])
    known = np.flatnonzero(np.isfinite(sky).all(axis=1))
    known = known[np.argsort(sky[known, 1], kind="stable")].tolist()
    radius = SAME_OBJECT_ARCSEC / 3600.0
    for place, i in enumerate(known):
        for j in known[place + 1 :]:  # ever further north
            if sky[j, 1] - sky[i, 1] > radius:
                break
            if _separation(sky[i], sky[j]) <= radius:
                parent[root(j)] = root(i)
    return np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1]


def _degrees(ra: object, dec: object) -> tuple[float, float]:
    try:
        position = float(ra), float(dec)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return np.nan, np.nan
    # Files that know no position often say 0, 0.
    return (np.nan, np.nan) if position == (0.0, 0.0) else position


def _separation(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two positions in degrees (haversine)."""
    (ra1, dec1), (ra2, dec2) = np.radians(a), np.radians(b)
    chord = np.sin((dec2 - dec1) / 2) ** 2
    chord += np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return float(np.degrees(2 * np.arcsin(np.sqrt(min(chord, 1.0)))))
