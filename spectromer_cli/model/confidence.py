"""Which confidence a redshift needs for a promised share of wrong ones."""

from __future__ import annotations

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.metrics import wilson_limits

MAX_ROWS = 200


def confidence_table(z_prob: np.ndarray, wrong: np.ndarray) -> dict[str, list[float]]:
    """The share of wrong redshifts among those at least so confident.

    Parameters
    ----------
    z_prob : array, shape (n,)
        Confidences of held-out redshifts.
    wrong : bool array, shape (n,)
        Which of them are off by more than 0.01 (1 + z).

    Returns
    -------
    dict of lists
        ``cut``: confidence, rising; ``rate``: upper 1-σ limit (`metrics.wilson_limits`, one-sided
        84 %) of the share of wrong ones among those at or above it; ``kept``: share of all that
        lie there. Empty of no redshifts.
    """
    if not len(z_prob):
        return {}
    order = np.argsort(-z_prob, kind="stable")
    number = np.arange(1, len(order) + 1)
    share = np.cumsum(wrong[order]) / number
    _, rate = wilson_limits(share, number)
    # Equal confidences stand or fall together.
    cuts = z_prob[order]
    last = np.append(cuts[1:] != cuts[:-1], True)
    rows = np.flatnonzero(last)[::-1]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MAX_ROWS).round().astype(int))]
    return {
        "cut": [float(f"{value:.6g}") for value in cuts[rows]],
        "rate": [float(f"{value:.4g}") for value in rate[rows]],
        "kept": [float(f"{value:.4g}") for value in number[rows] / len(order)],
    }


def cut_for(table: dict[str, list[float]], rate: float) -> tuple[float, float]:
    """The least confidence at which no more than a share `rate` of redshifts is wrong.

    Parameters
    ----------
    table : dict of lists
        As `confidence_table` makes it.
    rate : float
        The share promised, 0 to 1.

    Returns
    -------
    cut : float
        The confidence.
    kept : float
        Share of the held-out redshifts that were at least so confident.

    Raises
    ------
    UsageError
        If the weights hold no table, or their held-out set is too small for the promise.
    """
    if not table:
        raise UsageError(
            "these weights contain no table of confidences", "leave out --max-outlier-rate"
        )
    for cut, limit, kept in zip(table["cut"], table["rate"], table["kept"], strict=True):
        if limit <= rate:
            return cut, kept
    raise UsageError(
        f"these weights cannot keep the outlier rate below {rate:g}",
        f"the lowest rate that their held-out set supports is {min(table['rate']):g}",
    )
