"""Positions on the sky: where they stand, and which spectra are of one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table

RA_NAMES = ("ra", "raj2000", "_raj2000", "ra_deg", "plug_ra", "target_ra")
DEC_NAMES = ("dec", "dej2000", "_dej2000", "dec_deg", "plug_dec", "target_dec")
# Spectra closer on the sky than this are of one object.
SAME_OBJECT_ARCSEC = 1.0


def of_table(labels: Table, rows: np.ndarray, metas: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of each spectrum, from the table or else from the file."""
    lower = {name.lower(): name for name in reversed(labels.colnames)}
    ra = next((lower[name] for name in RA_NAMES if name in lower), None)
    dec = next((lower[name] for name in DEC_NAMES if name in lower), None)
    if ra is None or dec is None:
        found = ([meta.get(key) for meta in metas] for key in ("ra", "dec"))
    else:
        found = (labels[column][rows].tolist() for column in (ra, dec))
    right, declination = (degrees(values) for values in found)
    return right, declination


def degrees(values: Sequence[object]) -> np.ndarray:
    """Numbers, NaN for what is none."""

    def number(value: object) -> float:
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return np.nan

    return np.array([number(value) for value in values])


def same_objects(ra: np.ndarray, dec: np.ndarray, contents: Sequence[object]) -> np.ndarray:
    """Which spectra are of one object: a split goes by object, never by spectrum.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        In degrees; NaN where unknown. Files that know no position often say 0, 0: unknown too.
    contents : sequence, length n
        Equal and hashable for copies of one spectrum.

    Returns
    -------
    array of int, shape (n,)
        Equal numbers for positions within 1″ of each other, chains of them, and copies.
    """
    from astropy import units
    from astropy.coordinates import SkyCoord
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(contents)
    first: dict[object, int] = {}
    copy_of = np.array([first.setdefault(content, i) for i, content in enumerate(contents)])
    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90.0) & ~((ra == 0) & (dec == 0))
    where = np.flatnonzero(known)
    left, right = np.arange(n), copy_of
    if len(where) > 1:
        sky = SkyCoord(ra[where], dec[where], unit="deg")
        one, other, _, _ = sky.search_around_sky(sky, SAME_OBJECT_ARCSEC * units.arcsec)
        left, right = np.append(left, where[one]), np.append(right, where[other])
    links = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    return connected_components(links, directed=False)[1]
