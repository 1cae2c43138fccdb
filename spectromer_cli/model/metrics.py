"""Figures of merit that training and evaluation share."""

from __future__ import annotations

import numpy as np

LIGHT_SPEED = 299792.458  # km/s
# |Δz|/(1+z) beyond which a redshift counts as wrong: 1000 km/s, the usual limit, and far off.
OUTLIERS = {"1000kms": 1000.0 / LIGHT_SPEED, "0.01": 0.01, "0.05": 0.05}


def redshift_figures(z: np.ndarray, z_true: np.ndarray) -> dict[str, float | int | None]:
    """How well redshifts agree with the truth.

    Parameters
    ----------
    z, z_true : array, shape (n,)
        Finite.

    Returns
    -------
    dict
        ``n``; ``nmad``, 1.4826 · median \\|Δz − median Δz\\|/(1+z); ``bias``, the median of
        Δz/(1+z); ``outliers_*`` for the limits of `OUTLIERS`; ``r2`` = 1 − Σ Δz²/Σ (z − z̄)².
        None where there is nothing to take them of.
    """
    n = len(z)
    names = ("nmad", "bias", *(f"outliers_{name}" for name in OUTLIERS), "r2")
    if n == 0:
        return {"n": 0, **dict.fromkeys(names)}
    scaled = (z - z_true) / (1.0 + z_true)
    bias = float(np.median(scaled))
    spread = float(np.sum((z_true - z_true.mean()) ** 2))
    return {
        "n": n,
        "nmad": float(1.4826 * np.median(np.abs(scaled - bias))),
        "bias": bias,
        **{f"outliers_{k}": float(np.mean(np.abs(scaled) > v)) for k, v in OUTLIERS.items()},
        "r2": float(1.0 - np.sum((z - z_true) ** 2) / spread) if spread > 0 else None,
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
        "width": float(1.4826 * np.median(np.abs(pull))),
        "centre": float(np.median(pull)),
        "beyond_5": float(np.mean(np.abs(pull) > 5.0)),
    }


def calibration_bins(p: np.ndarray, truth: np.ndarray, bins: int = 15) -> list[dict[str, float]]:
    """Confidence against accuracy, in equal bins of confidence between 0 and 1.

    Parameters
    ----------
    p : array, shape (n, k)
        Probabilities.
    truth : array of int, shape (n,)
        The right label.
    bins : int

    Returns
    -------
    list of dict
        ``confidence``, ``accuracy`` and ``n`` of each bin that is not empty.
    """
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
            "n": int((place == b).sum()),
        }
        for b in np.unique(place)
    ]


def expected_calibration_error(p: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over `calibration_bins`.

    Parameters are those of `calibration_bins`.

    Notes
    -----
    Naeini et al. (2015, AAAI), as in Guo et al. (2017), equation 3.
    """
    rows = calibration_bins(p, truth, bins)
    return float(sum(abs(r["confidence"] - r["accuracy"]) * r["n"] for r in rows) / len(truth))
