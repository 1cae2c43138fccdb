"""Figures of merit that training and evaluation share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

LIGHT_SPEED = 299792.458  # km/s
# |Δz|/(1+z) beyond which a redshift counts as wrong: 1000 km/s, the usual limit, and far off.
OUTLIERS = {"1000kms": 1000.0 / LIGHT_SPEED, "0.01": 0.01, "0.05": 0.05}
# Spectral types that follow each other.
LETTERS = "OBAFGKMLT"


# 68 %: what lies within 1 σ of a normal distribution.
SIGMA = 1.0
QUANTILES = (0.15865525, 0.84134475)
RESAMPLES = 200
# Fewer than this say nothing of their own scatter.
FEWEST = 5

Interval = tuple[float, float]


def robust_sigma(values: np.ndarray) -> float:
    """1.4826 · median \\|value\\|: the σ of a normal distribution about zero, blind to outliers.

    Notes
    -----
    1/Φ⁻¹(3/4) = 1.4826 (Hampel 1974, JASA 69, 383).
    """
    return float(1.4826 * np.median(np.abs(values)))


def nmad(values: np.ndarray) -> float:
    """Normalised median absolute deviation: `robust_sigma` about the median."""
    return robust_sigma(values - np.median(values))


def wilson_limits(share: Any, n: Any) -> tuple[Any, Any]:
    """68 % interval of binomial shares of `n`, numbers or arrays: lower and upper limits.

    Notes
    -----
    Wilson (1927, JASA 22, 209): it is sound for shares of 0 and 1 too.
    """
    centre = share + SIGMA**2 / (2 * n)
    half = SIGMA * np.sqrt(share * (1 - share) / n + SIGMA**2 / (4 * n**2))
    whole = 1 + SIGMA**2 / n
    return (centre - half) / whole, (centre + half) / whole


def share_interval(count: int, n: int) -> Interval | None:
    """68 % interval of a share, `count` of `n` (see `wilson_limits`); None of nothing."""
    if n == 0:
        return None
    low, high = wilson_limits(count / n, n)
    # For none and for all the formula gives 0 and 1, but for rounding.
    return 0.0 if count == 0 else float(low), 1.0 if count == n else float(high)


def bootstrap_interval(figure: Callable[..., float], *values: np.ndarray) -> Interval | None:
    """68 % interval of a figure, from samples drawn with replacement, the same in every run.

    Parameters
    ----------
    figure : callable
        Takes the arrays, gives a number; one that is not finite is left out.
    *values : array, shape (n,)
        What is resampled together.

    Returns
    -------
    tuple of float, or None
        None of fewer than `FEWEST`.
    """
    n = len(values[0])
    if n < FEWEST:
        return None
    rng = np.random.default_rng(n)
    picks = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    drawn = np.array([figure(*(each[pick] for each in values)) for pick in picks])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    low, high = np.quantile(drawn, QUANTILES)
    return float(low), float(high)


def redshift_figures(z: np.ndarray, z_true: np.ndarray) -> dict[str, Any]:
    """How well redshifts agree with the reference values.

    Parameters
    ----------
    z, z_true : array, shape (n,)
        Finite.

    Returns
    -------
    dict
        ``n``; ``nmad``, 1.4826 · median \\|Δz − median Δz\\|/(1+z); ``bias``, the median of
        Δz/(1+z); ``outliers_*`` for the limits of `OUTLIERS`; ``r2`` = 1 − Σ Δz²/Σ (z − z̄)²;
        ``r2_without_worst``, the same without the one spectrum of the largest \\|Δz\\|;
        ``interval``, of each but the last its 68 % interval. None where there is nothing to
        take them of.
    """
    n = len(z)
    names = ("nmad", "bias", *(f"outliers_{name}" for name in OUTLIERS), "r2")
    if n == 0:
        return {"n": 0, **dict.fromkeys([*names, "r2_without_worst"]), "interval": {}}
    scaled = (z - z_true) / (1.0 + z_true)
    wrong = {f"outliers_{k}": np.abs(scaled) > v for k, v in OUTLIERS.items()}
    others = np.arange(n) != np.argmax(np.abs(z - z_true))
    return {
        "n": n,
        "nmad": nmad(scaled) if n > 1 else None,
        "bias": float(np.median(scaled)),
        **{name: float(np.mean(beyond)) for name, beyond in wrong.items()},
        "r2": _finite(_r2(z, z_true)),
        "r2_without_worst": _finite(_r2(z[others], z_true[others])),
        "interval": {
            "nmad": bootstrap_interval(nmad, scaled),
            "bias": bootstrap_interval(np.median, scaled),
            **{name: share_interval(int(beyond.sum()), n) for name, beyond in wrong.items()},
            "r2": bootstrap_interval(_r2, z, z_true),
        },
    }


def _r2(z: np.ndarray, z_true: np.ndarray) -> float:
    """1 − Σ Δz²/Σ (z − z̄)²; NaN where the reference does not vary."""
    spread = float(np.sum((z_true - z_true.mean()) ** 2)) if len(z) else 0.0
    return float(1.0 - np.sum((z - z_true) ** 2) / spread) if spread > 0 else float("nan")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def velocity_figures(z: np.ndarray, z_true: np.ndarray) -> dict[str, Any]:
    """How well radial velocities agree with the reference values, in km/s.

    Returns
    -------
    dict
        ``n``; ``scatter``, 1.4826 · median \\|Δv\\|; ``bias``, the median of Δv = c Δz;
        ``interval`` of both. None of nothing.
    """
    return scatter_figures(LIGHT_SPEED * (z - z_true))


def scatter_figures(error: np.ndarray, sigma: np.ndarray | None = None) -> dict[str, Any]:
    """The scatter of values about the reference.

    Parameters
    ----------
    error : array, shape (n,)
        Value − truth.
    sigma : array, shape (n,), optional
        The error that the values claim.

    Returns
    -------
    dict
        ``n``; ``scatter``, 1.4826 · median \\|error\\|; ``bias``, the median; ``interval`` of
        both; with `sigma`, ``pull``, the robust width of error/sigma. None of nothing.
    """
    if len(error) == 0:
        return {"n": 0, "scatter": None, "bias": None, "interval": {}}
    figures: dict[str, Any] = {
        "n": len(error),
        "scatter": robust_sigma(error),
        "bias": float(np.median(error)),
        "interval": {
            "scatter": bootstrap_interval(robust_sigma, error),
            "bias": bootstrap_interval(np.median, error),
        },
    }
    if sigma is not None:
        figures["pull"] = _finite(robust_sigma(error / np.maximum(sigma, 1e-12)))
    return figures


def number_figures(
    value: np.ndarray, sigma: np.ndarray | None, reference: np.ndarray
) -> dict[str, Any]:
    """How well numbers agree with their reference values.

    Parameters
    ----------
    value, reference : array, shape (n,)
    sigma : array, shape (n,), or None
        The errors that the values claim.

    Returns
    -------
    dict
        As `scatter_figures`, with ``r2`` = 1 − Σ error²/Σ (reference − mean)².
    """
    figures = scatter_figures(value - reference, sigma)
    figures["r2"] = _finite(_r2(value, reference)) if len(value) else None
    figures["interval"]["r2"] = bootstrap_interval(_r2, value, reference)
    return figures


def type_figures(error: np.ndarray, sigma: np.ndarray) -> dict[str, Any]:
    """How well decimal spectral types agree.

    Types are whole tenths of a letter, so a median would be one too: here are shares.

    Parameters
    ----------
    error, sigma : array, shape (n,)
        Type − truth, and the error that the types claim, in tenths of a letter.

    Returns
    -------
    dict
        ``n``; shares of ``right`` types, of those ``within_one`` tenth of a letter, and of those
        ``within_sigma``, the error that they claim (of honest ones 0.68); ``interval`` of each;
        ``mean_error``, the mean of \\|error\\|. Nothing but ``n`` of nothing.
    """
    n = len(error)
    if n == 0:
        return {"n": 0, "interval": {}}
    off = np.abs(error)
    figures: dict[str, Any] = {"n": n, "mean_error": float(off.mean()), "interval": {}}
    # Some labels lie half way between two types.
    for name, good in (
        ("right", off < 0.75),
        ("within_one", off < 1.5),
        ("within_sigma", off <= sigma),
    ):
        figures[name] = float(good.mean())
        figures["interval"][name] = share_interval(int(good.sum()), n)
    return figures


def letter_figures(found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """How well the letters of spectral types agree.

    Parameters
    ----------
    found, truth : array of str, shape (n,)
        Letters; also WD, CV, Carbon, which have no neighbour.

    Returns
    -------
    dict
        ``n``; ``right``, share of the same letter; ``within_one``, share of the same or the next
        letter of `LETTERS`; ``interval`` of both. None of nothing.
    """
    place = {letter: number for number, letter in enumerate(LETTERS)}
    right = found == truth
    near = right | np.array(
        [
            a in place and b in place and abs(place[a] - place[b]) <= 1
            for a, b in zip(found, truth, strict=True)
        ],
        dtype=bool,
    )
    n = len(truth)
    return {
        "n": n,
        "right": float(np.mean(right)) if n else None,
        "within_one": float(np.mean(near)) if n else None,
        "interval": {
            "right": share_interval(int(right.sum()), n),
            "within_one": share_interval(int(near.sum()), n),
        },
    }


def pull_figures(pull: np.ndarray) -> dict[str, float | int]:
    """Width and centre of (z − z_true)/z_err, which honest errors leave at 1 and 0.

    Parameters
    ----------
    pull : array, shape (n,)

    Returns
    -------
    dict
        ``n``; ``width``, 1.4826 · median \\|pull\\|; ``centre``, the median; ``beyond_5``, the
        share of \\|pull\\| > 5.
    """
    return {
        "n": len(pull),
        "width": robust_sigma(pull),
        "centre": float(np.median(pull)),
        "beyond_5": float(np.mean(np.abs(pull) > 5.0)),
    }


def calibration_bins(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15
) -> list[dict[str, float]]:
    """Confidence against accuracy, in equal bins of confidence between 0 and 1.

    Parameters
    ----------
    confidence : array, shape (n,)
        Probability of the predicted label.
    right : bool array, shape (n,)
        Whether that is the right one.
    bins : int

    Returns
    -------
    list of dict
        ``confidence``, ``accuracy`` and ``n`` of each bin that is not empty.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
            "n": int((place == b).sum()),
        }
        for b in np.unique(place)
    ]


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over `calibration_bins`.

    Parameters are those of `calibration_bins`.

    Notes
    -----
    Naeini et al. (2015, AAAI), as in Guo et al. (2017), equation 3.
    """
    rows = calibration_bins(confidence, right, bins)
    return float(sum(abs(r["confidence"] - r["accuracy"]) * r["n"] for r in rows) / len(right))
