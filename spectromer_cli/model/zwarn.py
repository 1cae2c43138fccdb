"""Reasons to doubt a redshift, as a bit mask.

A bit that SDSS and redrock also have keeps their number.
"""

from __future__ import annotations

from enum import IntFlag


class ZWarn(IntFlag):
    """Bits of the column ``zwarn``; 0 is a redshift that nothing speaks against."""

    LITTLE_COVERAGE = 1 << 1
    """Less than half of the wavelength grid has good pixels."""
    AMBIGUOUS = 1 << 2
    """Another redshift is likely too, or fits templates nearly as well (SMALL_DELTA_CHI2)."""
    Z_FITLIMIT = 1 << 5
    """The redshift lies at the end of the range that is searched."""
    NODATA = 1 << 9
    """Nothing could be read, or too few good pixels."""
    LOW_SN = 1 << 11
    """The median signal-to-noise ratio a pixel is low (POORDATA in redrock)."""
    TEMPLATES_DISAGREE = 1 << 16
    """Templates fit better at one of the alternatives than at the redshift given."""

    OUT_OF_DOMAIN = 1 << 17
    """The spectrum is unlike all that the weights have learned from."""
    BELOW_CUT = 1 << 18
    """Less confident than ``--max-outlier-rate`` asks for."""


# Below this, half of a grid's pixels, lines that would tell redshifts apart are often missing.
MIN_COVERAGE = 0.5
# Median S/N a pixel below which the held-out spectra are wrong more often than not flagged.
MIN_SN = 2.0
# A redshift with less than this probability within ±0.01 (1 + z) is called ambiguous.
MIN_Z_PROB = 0.8
# Templates that fit the best alternative nearly as well leave a redshift ambiguous too; redrock
# draws the line at the same Δχ².
MIN_DELTA_CHI2 = 9.0
