"""How well answers agree with the truth: classes, redshifts, errors, confidence."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks
from spectromer_cli.model.metrics import (
    LIGHT_SPEED,
    calibration_bins,
    expected_calibration_error,
    pull_figures,
    redshift_figures,
)

if TYPE_CHECKING:
    from astropy.table import Table

SN_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, np.inf)
Z_EDGES = (-0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 7.0)
# Names under which catalogues state the truth, in lower case.
CLASS_NAMES = ("class", "spectype", "true_class", "class_true", "survey_class")
Z_NAMES = ("z", "redshift", "true_z", "z_true", "survey_z")


def find_truth(
    columns: list[str], class_column: str | None, z_column: str | None
) -> tuple[str | None, str | None]:
    """The columns that hold the truth.

    Parameters
    ----------
    columns : list of str
        Those of the catalogue.
    class_column, z_column : str or None
        The user's choice; None finds the usual names.

    Returns
    -------
    class_column, z_column : str or None
        None where the catalogue has none; not both.

    Raises
    ------
    UsageError
        If a chosen column is not there, or there is neither.
    """
    lower = {name.lower(): name for name in reversed(columns)}
    found = []
    for chosen, known in ((class_column, CLASS_NAMES), (z_column, Z_NAMES)):
        if chosen is not None and chosen not in columns:
            raise UsageError(
                f"the catalogue has no column {chosen!r}", f"it has {', '.join(columns)}"
            )
        found.append(chosen or next((lower[name] for name in known if name in lower), None))
    if found == [None, None]:
        raise UsageError(
            "the catalogue states no truth: neither a class nor a redshift",
            f"name its columns: --class-column, --z-column; it has {', '.join(columns)}",
        )
    return found[0], found[1]


def truth_of(
    catalogue: Table, class_column: str | None, z_column: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """The truth that a catalogue states.

    Parameters
    ----------
    catalogue : astropy Table, n rows
    class_column, z_column : str or None
        As `find_truth` gives them.

    Returns
    -------
    class_true : array of str, shape (n,)
        In capitals; empty where unknown.
    z_true : array of float, shape (n,)
        NaN where unknown.

    Raises
    ------
    UsageError
        If the redshifts are no numbers.
    """
    n = len(catalogue)
    class_true, z_true = np.full(n, "", dtype=object), np.full(n, np.nan)
    if class_column is not None:
        texts = np.ma.filled(np.ma.asarray(catalogue[class_column]).astype(str), "")
        class_true = np.array([text.strip().upper() for text in texts], dtype=object)
    if z_column is not None:
        try:
            values = np.ma.asarray(catalogue[z_column]).astype(np.float64)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"the column {z_column!r} holds values that are no redshifts ({error})",
                "choose another with --z-column",
            ) from error
        z_true = np.ma.filled(values, np.nan)
        z_true[z_true <= -1.0] = np.nan  # −9999 and its like say that nobody knows
    return class_true.astype(str), z_true


def evaluate(
    answers: dict[str, np.ndarray], class_true: np.ndarray, z_true: np.ndarray
) -> dict[str, Any]:
    """Compare answers with the truth.

    Parameters
    ----------
    answers : dict of arrays, shape (n,)
        Columns of `spectromer redshift` and `spectromer classify`: ``class``, ``p_star``,
        ``p_galaxy``, ``p_qso``, ``z``, ``z_err``, ``z_prob``, ``zwarn``, ``sn_median``.
    class_true : array of str, shape (n,)
        One of `tasks.CLASSES`; anything else is unknown.
    z_true : array of float, shape (n,)
        NaN where unknown.

    Returns
    -------
    dict
        Plain values: ``n``, ``answered``; ``classes`` (accuracy, ECE, precision and recall,
        confusion matrix, reliability) where classes are known; ``redshifts`` (see
        `metrics.redshift_figures`, over all, by class, z and S/N; pulls; completeness and
        purity) where redshifts are.
    """
    answered = answers["class"] != ""
    report: dict[str, Any] = {"n": len(answered), "answered": int(answered.sum())}
    known = np.isin(class_true, tasks.CLASSES)
    if known.any():
        report["classes"] = _classes(answers, class_true, known, known & answered)
    has_z = np.isfinite(z_true) & answered & np.isfinite(answers["z"])
    if has_z.any():
        report["redshifts"] = _redshifts(answers, class_true, z_true, has_z)
    return report


def _classes(
    answers: dict[str, np.ndarray], truth: np.ndarray, known: np.ndarray, use: np.ndarray
) -> dict[str, Any]:
    found = answers["class"]
    p = np.stack([answers[f"p_{name.lower()}"] for name in tasks.CLASSES], axis=1)
    number = np.array([tasks.CLASSES.index(t) if t in tasks.CLASSES else -1 for t in truth])
    matrix = [
        [int(np.sum(known & (truth == row) & (found == column))) for column in tasks.CLASSES]
        for row in tasks.CLASSES
    ]
    return {
        "n": int(known.sum()),
        # What has no answer is not right.
        "accuracy": float(np.mean(found[known] == truth[known])),
        "ece": expected_calibration_error(p[use], number[use]) if use.any() else None,
        "confusion": {"labels": list(tasks.CLASSES), "rows_true": matrix},
        "by_class": {
            name: {
                "n": int(np.sum(known & (truth == name))),
                "recall": _share(found[known & (truth == name)] == name),
                "precision": _share(truth[use & (found == name)] == name),
            }
            for name in tasks.CLASSES
        },
        "reliability": calibration_bins(p[use], number[use]) if use.any() else [],
    }


def _redshifts(
    answers: dict[str, np.ndarray], class_true: np.ndarray, z_true: np.ndarray, use: np.ndarray
) -> dict[str, Any]:
    z, sn = answers["z"], answers["sn_median"]
    far = use & (class_true != "STAR")

    def judge(which: np.ndarray) -> dict[str, Any]:
        return redshift_figures(z[which], z_true[which])

    star = use & (class_true == "STAR")
    return {
        "galaxies_and_quasars": judge(far),
        "without_zwarn": {
            "share": _share(answers["zwarn"][far] == 0),
            **judge(far & (answers["zwarn"] == 0)),
        },
        "by_class": {name: judge(use & (class_true == name)) for name in tasks.CLASSES},
        "star_velocity_scatter_km_s": _scatter(LIGHT_SPEED * (z - z_true)[star]),
        "by_sn": _binned(judge, far, sn, SN_EDGES),
        "by_z": _binned(judge, far, z_true, Z_EDGES),
        "pull": {
            name: pull_figures((z - z_true)[which] / answers["z_err"][which])
            for name in tasks.CLASSES
            if (which := use & (class_true == name) & (answers["z_err"] > 0)).any()
        },
        "completeness_purity": _completeness_purity(
            answers["z_prob"][far], np.abs(z - z_true)[far] / (1.0 + z_true[far])
        ),
    }


def _binned(judge: Any, which: np.ndarray, values: np.ndarray, edges: Any) -> list[dict[str, Any]]:
    rows = []
    for low, high in pairwise(edges):
        here = which & (values >= low) & (values < high)
        if here.any():
            end = None if np.isinf(high) else float(high)
            rows.append({"from": float(low), "to": end, **judge(here)})
    return rows


def _completeness_purity(confidence: np.ndarray, error: np.ndarray) -> list[dict[str, float]]:
    """Share kept, and share of those right, as the cut on ``z_prob`` rises."""
    rows = []
    for cut in (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
        kept = confidence >= cut
        if kept.any():
            purity = float(np.mean(error[kept] < 0.01))
            rows.append({"z_prob": cut, "completeness": float(kept.mean()), "purity": purity})
    return rows


def _scatter(values: np.ndarray) -> float | None:
    return float(1.4826 * np.median(np.abs(values))) if len(values) else None


def _share(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
