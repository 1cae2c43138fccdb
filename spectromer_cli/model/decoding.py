"""From probabilities to predictions: redshifts from p(z), the decimal spectral type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from spectromer_cli.model.tasks import Ordered, Redshift


@dataclass
class RedshiftPrediction:
    """Redshifts of a batch; arrays of shape (batch,) and (batch, alternatives).

    Parameters
    ----------
    z, z_err : array
        The best redshift and its 1-σ error: from its peak in p(z), or from the template fit.
    z_prob : array
        Probability that \\|Δz\\|/(1+z) is below 0.01, from p(z).
    alt_z, alt_prob : array, shape (batch, ALTERNATIVES)
        The next best peaks and their probabilities; NaN where p(z) has no other peak.
    at_edge : bool array
        The best redshift lies at the end of the range that was searched.
    delta_chi2 : array
        By how much templates fit better at z than at the best redshift elsewhere, of any class
        (see `template_fit.Refined`); NaN where there is no fit.
    chi2_nu : array
        χ² per degree of freedom of the template fit at z; NaN where there is no fit.
    lines_disagree : bool array, or False
        Parts of the spectrum fit templates far better at other redshifts (see
        `line_positions.lines_disagree`); False before any fit.
    """

    z: np.ndarray
    z_err: np.ndarray
    z_prob: np.ndarray
    alt_z: np.ndarray
    alt_prob: np.ndarray
    at_edge: np.ndarray
    delta_chi2: np.ndarray
    chi2_nu: np.ndarray
    lines_disagree: np.ndarray | bool = False

    def taken(self, places: list[int]) -> list[np.ndarray]:
        """The values of some of the batch, field by field."""
        every = (getattr(self, one.name) for one in fields(self))
        return [
            np.broadcast_to(v, len(self.z))[places] if np.ndim(v) == 0 else v[places] for v in every
        ]


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for n spectra of a batch.

    Parameters
    ----------
    rows : array of int, shape (n,)
        Their places in the batch; the others have no prediction.
    outputs : dict of str to array, shape (n, task.size)
        By task, calibrated: probabilities; of a quantity, value and 1-σ error.
    novelty : array, shape (n,)
        Out-of-distribution score, above 1 for what is unlike the reference set; NaN where the
        weights carry none.
    redshift : RedshiftPrediction or None
        None if no task is a redshift.
    """

    rows: np.ndarray
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    novelty: np.ndarray = field(default_factory=lambda: np.empty(0))
    redshift: RedshiftPrediction | None = None

    @classmethod
    def joined(
        cls, rows: np.ndarray, parts: Sequence[tuple[Predictions, list[int]]]
    ) -> Predictions:
        """Some spectra of several batches, as one.

        Parameters
        ----------
        rows : array of int, shape (n,)
            Their places in the one.
        parts : sequence of (Predictions, list of int)
            The others, and which of their n spectra are meant, in the order of `rows`.
        """
        if not parts:
            return cls(rows)
        first, _ = parts[0]
        redshift = None
        if first.redshift is not None:
            values = [one.redshift.taken(places) for one, places in parts if one.redshift]
            redshift = RedshiftPrediction(
                *(np.concatenate(each) for each in zip(*values, strict=True))
            )
        return cls(
            rows,
            {
                name: np.concatenate([one.outputs[name][places] for one, places in parts])
                for name in first.outputs
            },
            np.concatenate([one.novelty[places] for one, places in parts]),
            redshift,
        )


# Half-width of a peak in ln(1 + z), which is |Δz|/(1+z): the field's usual outlier limit.
PEAK_HALF_WIDTH = 0.01
# Stars keep to ± 1200 km/s, beyond the escape velocity of the Galaxy.
STAR_MAX_X = 0.004
# How many other peaks are given.
ALTERNATIVES = 5
# Another peak below this probability is not worth a column.
MIN_ALTERNATIVE = 1e-3


def decode_redshift(task: Redshift, p: np.ndarray, is_star: np.ndarray) -> RedshiftPrediction:
    """Read redshifts off p(z).

    Parameters
    ----------
    task : Redshift
        Gives the bins.
    p : array, shape (batch, bins)
        Probabilities that sum to one.
    is_star : bool array, shape (batch,)
        Where the class is STAR, only radial velocities of the Galaxy are searched.

    Returns
    -------
    RedshiftPrediction
        Before any template fit.
    """
    n = len(p)
    x = task.x
    half = max(1, math.ceil(PEAK_HALF_WIDTH / task.dx))
    found = RedshiftPrediction(
        z=np.full(n, np.nan),
        z_err=np.full(n, np.nan),
        z_prob=np.full(n, np.nan),
        alt_z=np.full((n, ALTERNATIVES), np.nan),
        alt_prob=np.full((n, ALTERNATIVES), np.nan),
        at_edge=np.zeros(n, dtype=bool),
        delta_chi2=np.full(n, np.nan),
        chi2_nu=np.full(n, np.nan),
    )
    star_bins = np.abs(x) <= STAR_MAX_X + 0.5 * task.dx
    for i in range(n):
        left = p[i] * star_bins if is_star[i] else p[i].copy()
        if not left.any():
            left = star_bins * 1e-12  # a star that p(z) holds for impossible: no preference
        first, last = np.flatnonzero(star_bins)[[0, -1]] if is_star[i] else (0, task.bins - 1)
        for rank in range(1 + ALTERNATIVES):
            # The peak is where the window holds most, so that two half bins beat one spike.
            window = np.convolve(left, np.ones(2 * half + 1), mode="same")
            inside = np.where(left > 0, window, 0.0)
            # Of equally full windows, the one centred on the highest bin.
            centre = int(np.argmax(inside + 1e-3 * left))
            start, stop = max(0, centre - half), min(task.bins, centre + half + 1)
            mass = left[start:stop]
            probability = float(mass.sum())
            if rank > 0 and probability < MIN_ALTERNATIVE:
                break
            mean = float(np.sum(mass * x[start:stop]) / probability)
            if rank == 0:
                variance = float(np.sum(mass * (x[start:stop] - mean) ** 2) / probability)
                # The labels' own spread is no error; a fifth of a bin is the least one.
                variance = max(variance - (task.SPREAD * task.dx) ** 2, (0.2 * task.dx) ** 2)
                found.z[i] = math.expm1(mean)
                found.z_prob[i] = min(probability, 1.0)
                found.z_err[i] = math.sqrt(variance) * math.exp(mean)
                margin = 0 if is_star[i] else 1
                found.at_edge[i] = not first + margin < centre < last - margin
                if is_star[i]:
                    break
            else:
                found.alt_z[i, rank - 1] = math.expm1(mean)
                found.alt_prob[i, rank - 1] = probability
            left[start:stop] = 0.0
    return found


def decode_type(p: np.ndarray, letters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The decimal spectral type within a known letter.

    Parameters
    ----------
    p : array, shape (batch, len(SEQUENCE))
        Probabilities of the types.
    letters : sequence of str
        The letter of each star; without one, the type may be any.

    Returns
    -------
    place : array of int, shape (batch,)
        Number in `SEQUENCE` of the median type, kept within the letter.
    error : array of float, shape (batch,)
        In tenths of a letter, half of the interval that holds 68 % of the probability, the
        labels' own spread left out. Wings of few per cent do not count: a standard deviation
        would be twice as large.
    """
    low, median, high = (_quantile(p, share) for share in (0.1587, 0.5, 0.8413))
    place = np.rint(median).astype(int)
    for i, letter in enumerate(letters):
        if letter and letter in "OBAFGKMLT":
            first = 10 * "OBAFGKMLT".index(letter)
            place[i] = min(max(place[i], first), first + 9)
    # Less what the labels were spread by for learning, and the variance of a bin's width.
    variance = (0.5 * (high - low)) ** 2 - Ordered.SPREAD**2 - 1.0 / 12.0
    return place, np.sqrt(np.maximum(variance, 0.3**2))


def _quantile(p: np.ndarray, share: float) -> np.ndarray:
    """Where the cumulative probability reaches a share, each bin from −½ to +½ of its number."""
    edges = np.arange(p.shape[1] + 1) - 0.5
    below = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, axis=1)], axis=1)
    return np.array([np.interp(share * own[-1], own, edges) for own in below])
