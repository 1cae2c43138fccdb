"""Reasons to doubt a redshift, as a bit mask.

A bit that SDSS and redrock also have keeps their number.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np

from spectromer_cli.model.decoding import RedshiftPrediction


class ZWarn(IntFlag):
    """Bits of the column ``zwarn``; 0 is a redshift that nothing speaks against.

    Bit 1 is reserved: LITTLE_COVERAGE of SDSS and redrock.
    """

    SKY = 1 << 0
    AMBIGUOUS = 1 << 2
    Z_FITLIMIT = 1 << 5
    UNPLUGGED = 1 << 7
    NODATA = 1 << 9
    LOW_SN = 1 << 11
    TEMPLATES_DISAGREE = 1 << 16
    OUT_OF_DOMAIN = 1 << 17
    BELOW_CUT = 1 << 18
    LINES_DISAGREE = 1 << 19


# Doubts about the redshift alone; the others are about the spectrum, whatever is predicted.
OF_REDSHIFT = (
    ZWarn.AMBIGUOUS
    | ZWarn.Z_FITLIMIT
    | ZWarn.TEMPLATES_DISAGREE
    | ZWarn.BELOW_CUT
    | ZWarn.LINES_DISAGREE
)
# Median S/N per pixel below which a redshift is doubted, unless p(z) is sure of it: of 384 held-out
# spectra whose noise was raised to a S/N of 0.4 to 2, 137 were that sure and not out of domain, and
# all of them had the right class and redshift; of 43 with z_prob 0.8 to 0.95, 6 had not.
MIN_SN = 2.0
# A redshift with less than this probability within ±0.01 (1 + z) is called ambiguous.
MIN_Z_PROB = 0.8
# Templates that fit nearly as well elsewhere leave a redshift ambiguous too; redrock draws the line
# at the same Δχ². A redshift that p(z) is as sure of as this is not doubted for it: of held-out
# spectra, 26 right redshifts and no wrong one were; of those less sure, 9 right and 6 wrong ones.
MIN_DELTA_CHI2, SURE_Z_PROB = 9.0, 0.99

# Of `z_conf`: the least probability of levels 2 and 3.
CONFIDENT, SURE = 0.95, 0.99


def z_conf(zwarn: np.ndarray, z_prob: np.ndarray) -> np.ndarray:
    """Levels of confidence in redshifts, from both, as DESI's catalogues have them.

    Parameters
    ----------
    zwarn : array of int, shape (n,)
        All doubts.
    z_prob : array, shape (n,)
        Probability of the redshift; NaN counts as none.

    Returns
    -------
    array of int, shape (n,)
        0 with any doubt, 1 without; 2 and 3 where besides the redshift is probable by more than
        `CONFIDENT` and `SURE`: of level 3, each is wrong by a chance of at most 1 %.
    """
    level = 1 + (z_prob >= CONFIDENT).astype(int) + (z_prob >= SURE)
    return np.where(zwarn == 0, level, 0)


# What each bit means, for people.
MEANINGS: dict[ZWarn, str] = {
    ZWarn.SKY: "sky fibre according to the file (DESI: OBJTYPE, or a negative TARGETID)",
    ZWarn.AMBIGUOUS: f"z_prob < {MIN_Z_PROB:g}, or z_prob < {SURE_Z_PROB:g} and delta_chi2 < "
    f"{MIN_DELTA_CHI2:g}: another redshift is also likely, or fits the templates nearly as well",
    ZWarn.Z_FITLIMIT: "the redshift is at the edge of the searched range",
    ZWarn.UNPLUGGED: "broken fibre, or unknown fibre position, according to the file (DESI: "
    "FIBERSTATUS BROKENFIBER, MISSINGPOSITION, BADFIBER)",
    ZWarn.NODATA: "unreadable, too few good pixels, or fibre not on the target or not reducible "
    "according to the file (DESI: OBJTYPE BAD, FIBERSTATUS UNASSIGNED, "
    "BADPOSITION, BADTRACE, BADFLAT, BADARC and those of UNPLUGGED)",
    ZWarn.LOW_SN: f"sn_median < {MIN_SN:g} and z_prob < {SURE_Z_PROB:g}",
    ZWarn.TEMPLATES_DISAGREE: f"delta_chi2 < 0 and z_prob < {SURE_Z_PROB:g}: templates fit better "
    "at another redshift",
    ZWarn.OUT_OF_DOMAIN: "outlier_score > 1: out of the distribution of the training set",
    ZWarn.BELOW_CUT: "not confident enough for --max-outlier-rate",
    ZWarn.LINES_DISAGREE: "a third of the spectrum fits far better at another redshift: the "
    "wavelength scale may be shifted or stretched",
}


def names_of(bits: int) -> list[str]:
    """The names of the bits that are set, or the number of an unknown bit."""
    return [
        str(ZWarn(1 << bit).name) if 1 << bit in MEANINGS else f"bit {bit}"
        for bit in range(max(bits, 0).bit_length())
        if bits >> bit & 1
    ]


def markdown() -> str:
    """The bits as a table of Markdown, for the documentation."""
    lines = ["| bit | value | name | meaning |", "| --- | --- | --- | --- |"]
    for bit, meaning in MEANINGS.items():
        lines.append(f"| {int(bit).bit_length() - 1} | {int(bit)} | `{bit.name}` | {meaning} |")
    return "\n".join(lines) + "\n"


def doubts(
    found: RedshiftPrediction,
    *,
    sn_median: np.ndarray,
    novelty: np.ndarray,
    errors_doubtful: np.ndarray | bool = False,
    min_z_prob: float = 0.0,
) -> np.ndarray:
    """The doubts about redshifts.

    Parameters
    ----------
    found : RedshiftPrediction
    sn_median : array, shape (n,)
        Median S/N per pixel; NaN counts as low.
    novelty : array, shape (n,)
        Out-of-distribution scores, NaN if there are none.
    errors_doubtful : bool array, shape (n,), optional
        Whose errors do not fit the scatter: no probability is sure then.
    min_z_prob : float
        Redshifts of a lower probability are marked `ZWarn.BELOW_CUT`.

    Returns
    -------
    array of int, shape (n,)
        Bits of `ZWarn`.
    """
    unsure = (found.z_prob < SURE_Z_PROB) | errors_doubtful
    ambiguous = (found.z_prob < MIN_Z_PROB) | unsure & (found.delta_chi2 < MIN_DELTA_CHI2)
    bits = {
        ZWarn.AMBIGUOUS: ambiguous,
        ZWarn.Z_FITLIMIT: found.at_edge,
        ZWarn.LOW_SN: unsure & ~(sn_median >= MIN_SN),
        ZWarn.TEMPLATES_DISAGREE: unsure & (found.delta_chi2 < 0),
        ZWarn.OUT_OF_DOMAIN: novelty > 1.0,
        ZWarn.BELOW_CUT: found.z_prob < min_z_prob,
        ZWarn.LINES_DISAGREE: np.broadcast_to(found.lines_disagree, found.z.shape),
    }
    return np.sum([is_set * int(bit) for bit, is_set in bits.items()], axis=0)
