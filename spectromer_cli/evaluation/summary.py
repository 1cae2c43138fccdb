"""How well answers agree with the truth: classes, redshifts, errors, confidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from spectromer_cli.metrics import (
    OUTLIERS,
    calibration_bins,
    expected_calibration_error,
    letter_figures,
    pull_figures,
    redshift_figures,
    scatter_figures,
    share_interval,
    type_figures,
    velocity_figures,
)
from spectromer_cli.model import taxonomy

SN_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, np.inf)
Z_EDGES = (-0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 7.0)


def evaluate(
    answers: Mapping[str, np.ndarray],
    class_true: np.ndarray,
    z_true: np.ndarray,
    details: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Compare answers with the truth.

    Parameters
    ----------
    answers : mapping of arrays, shape (n,)
        Columns of `spectromer redshift` and `spectromer classify`: ``class``, ``p_star``,
        ``p_galaxy``, ``p_qso``, ``z``, ``sn_median``, ``survey``; where there are any also
        ``z_err``, ``z_prob``, ``zwarn``, ``subclass``, and for stars ``star_type``, ``teff``,
        ``logg``, ``feh`` with their errors.
    class_true : array of str, shape (n,)
        One of `taxonomy.CLASSES`; anything else is unknown.
    z_true : array of float, shape (n,)
        NaN where unknown.
    details : mapping of arrays, shape (n,), optional
        What else is known: ``subclass`` (one of `taxonomy.SUBCLASSES`, empty unknown); of stars
        ``letter`` (one of `taxonomy.STAR_TYPES`, empty unknown), ``star_type`` (place in
        `taxonomy.SEQUENCE`), ``teff``, ``logg``, ``feh`` (NaN unknown).

    Returns
    -------
    dict
        Plain values: ``n``, ``answered``; ``classes`` (accuracy, ECE, precision and recall,
        confusion matrix, reliability) where classes are known; ``redshifts`` (see
        `metrics.redshift_figures`, over all, by class, survey, z and S/N; pulls; completeness
        and purity) where redshifts are; ``stars`` (letter, type, parameters) and ``subclasses``
        of galaxies and quasars where any are.
        Shares and scatters have their 68 % interval in ``interval``.
    """
    answered = answers["class"] != ""
    report: dict[str, Any] = {"n": len(answered), "answered": int(answered.sum())}
    known = np.isin(class_true, taxonomy.CLASSES)
    if known.any():
        report["classes"] = _classes(answers, class_true, known, known & answered)
    has_z = np.isfinite(z_true) & answered & np.isfinite(answers["z"])
    if has_z.any():
        report["redshifts"] = _redshifts(answers, class_true, z_true, has_z)
    if details is not None:
        stars = _stars(answers, class_true == "STAR", details)
        subclasses = _subclasses(answers, details)
        report |= {"stars": stars} if stars else {}
        report |= {"subclasses": subclasses} if subclasses else {}
    return report


def _classes(
    answers: Mapping[str, np.ndarray], truth: np.ndarray, known: np.ndarray, use: np.ndarray
) -> dict[str, Any]:
    found = answers["class"]
    right = found == truth  # what has no answer is not right
    p = np.stack([answers[f"p_{name.lower()}"] for name in taxonomy.CLASSES], axis=1)
    number = np.array([taxonomy.CLASSES.index(t) if t in taxonomy.CLASSES else -1 for t in truth])
    matrix = [
        [int(np.sum(known & (truth == row) & (found == column))) for column in taxonomy.CLASSES]
        for row in taxonomy.CLASSES
    ]

    def judge(which: np.ndarray) -> dict[str, Any]:
        return _share("accuracy", right[which])

    by_class = {}
    for name in taxonomy.CLASSES:
        by_class[name] = _recall_precision(right, known & (truth == name), use & (found == name))
    return {
        **judge(known),
        "ece": expected_calibration_error(p[use], number[use]) if use.any() else None,
        "confusion": {"labels": list(taxonomy.CLASSES), "rows_true": matrix},
        "by_class": by_class,
        "by_survey": _by_survey(judge, known, answers, truth),
        "by_sn": _binned(judge, known, answers["sn_median"], SN_EDGES),
        "reliability": calibration_bins(p[use], number[use]) if use.any() else [],
        "completeness_purity": _cuts("class_prob", p[use].max(axis=1), right[use]),
    }


def _redshifts(
    answers: Mapping[str, np.ndarray], class_true: np.ndarray, z_true: np.ndarray, use: np.ndarray
) -> dict[str, Any]:
    z, sn = answers["z"], answers["sn_median"]
    star, far = use & (class_true == "STAR"), use & (class_true != "STAR")
    wrong = np.abs(z - z_true) / (1.0 + z_true) > OUTLIERS["0.01"]

    def judge(which: np.ndarray) -> dict[str, Any]:
        return redshift_figures(z[which], z_true[which])

    def judge_velocity(which: np.ndarray) -> dict[str, Any]:
        return velocity_figures(z[which], z_true[which])

    def judge_pull(which: np.ndarray) -> dict[str, Any]:
        return pull_figures((z - z_true)[which] / answers["z_err"][which])

    report = {
        "galaxies_and_quasars": judge(far),
        "by_class": {name: judge(use & (class_true == name)) for name in taxonomy.CLASSES},
        "by_survey": _by_survey(judge, far, answers, class_true),
        "star_velocity_scatter_km_s": velocity_figures(z[star], z_true[star])["scatter"],
        "star_velocity_by_survey": _by_survey(judge_velocity, star, answers, class_true),
        "star_velocity_by_sn": _binned(judge_velocity, star, sn, SN_EDGES),
        "by_sn": _binned(judge, far, sn, SN_EDGES),
        "by_z": _binned(judge, far, z_true, Z_EDGES),
    }
    if far.any():
        worst = np.flatnonzero(far)[np.argmax(np.abs(z - z_true)[far])]
        report["worst"] = {
            "object_id": str(answers["object_id"][worst]) if "object_id" in answers else "",
            "survey": str(answers["survey"][worst]) if "survey" in answers else "",
            "class": str(class_true[worst]),
            "z_true": float(z_true[worst]),
            "z": float(z[worst]),
        }
    if "zwarn" in answers:
        clean = answers["zwarn"] == 0
        share = _share("share", clean[far])["share"]
        report["without_zwarn"] = {"share": share, **judge(far & clean)}
    if "z_err" in answers:
        report["pull"] = {
            name: {**judge_pull(which), "by_sn": _binned(judge_pull, which, sn, SN_EDGES)}
            for name in taxonomy.CLASSES
            if (which := use & (class_true == name) & (answers["z_err"] > 0)).any()
        }
    if "z_prob" in answers:
        report["completeness_purity"] = _cuts("z_prob", answers["z_prob"][far], ~wrong[far])
    return report


def _stars(
    answers: Mapping[str, np.ndarray], star: np.ndarray, truth: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Letter over all true stars; type and parameters over those that have an answer."""
    report: dict[str, Any] = {}
    true_class = np.where(star, "STAR", "")
    lettered = star & (truth["letter"] != "")
    if "subclass" in answers and lettered.any():
        # The letter of a star that was taken for a galaxy is not right.
        found = np.where(answers["class"] == "STAR", answers["subclass"], "")

        def judge_letter(which: np.ndarray) -> dict[str, Any]:
            return letter_figures(found[which], truth["letter"][which])

        report["letter"] = {
            **judge_letter(lettered),
            "by_survey": _by_survey(judge_letter, lettered, answers, true_class),
        }
    for name in ("star_type", "teff", "logg", "feh"):
        if name not in answers:
            continue
        values = answers[name]
        if name == "star_type":
            values = np.array([taxonomy.star_place(text) for text in values], dtype=float)
        error, sigma = values - truth[name], answers[f"{name}_err"]
        known = star & np.isfinite(error)

        figures = type_figures if name == "star_type" else scatter_figures

        def judge(
            which: np.ndarray,
            figures: Callable[..., dict[str, Any]] = figures,
            error: np.ndarray = error,
            sigma: np.ndarray = sigma,
        ) -> dict[str, Any]:
            return figures(error[which], sigma[which])

        if known.any():
            by_survey = _by_survey(judge, known, answers, true_class)
            report[name] = {**judge(known), "by_survey": by_survey}
    return report


def _subclasses(
    answers: Mapping[str, np.ndarray], details: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Subclasses of galaxies and quasars; that of a galaxy taken for a star is not right."""
    report: dict[str, Any] = {}
    if "subclass" not in answers or "subclass" not in details:
        return report
    truth = details["subclass"]
    found = np.array(
        [f"{a} {b}" for a, b in zip(answers["class"], answers["subclass"], strict=True)]
    )
    right = found == truth
    for name in ("GALAXY", "QSO"):
        known = np.char.startswith(truth.astype(str), f"{name} ")
        if not known.any():
            continue
        by_label = {}
        for label in (label for label, of in taxonomy.SUBCLASSES.items() if of == name):
            by_label[label.split()[1]] = _recall_precision(
                right, known & (truth == label), known & (found == label)
            )
        report[name] = {**_share("right", right[known]), "by_label": by_label}
    return report


Judge = Callable[[np.ndarray], dict[str, Any]]


def _by_survey(
    judge: Judge, which: np.ndarray, answers: Mapping[str, np.ndarray], class_true: np.ndarray
) -> list[dict[str, Any]]:
    """Figures of each class in each survey, most spectra first."""
    rows: list[dict[str, Any]] = []
    if "survey" not in answers:
        return rows
    for survey in np.unique(answers["survey"][which]):
        for name in np.unique(class_true[which & (answers["survey"] == survey)]):
            here = which & (answers["survey"] == survey) & (class_true == name)
            rows.append({"survey": str(survey), "class": str(name), **judge(here)})
    return sorted(rows, key=lambda row: -row["n"])


def _binned(
    judge: Judge, which: np.ndarray, values: np.ndarray, edges: tuple[float, ...]
) -> list[dict[str, Any]]:
    rows = []
    for low, high in pairwise(edges):
        here = which & (values >= low) & (values < high)
        if here.any():
            end = None if np.isinf(high) else float(high)
            rows.append({"from": float(low), "to": end, **judge(here)})
    return rows


def _cuts(name: str, confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Share kept, and share of those right, as the cut on a confidence rises."""
    rows = []
    for cut in (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
        kept = confidence >= cut
        if kept.any():
            purity = float(np.mean(right[kept]))
            rows.append({name: cut, "completeness": float(kept.mean()), "purity": purity})
    return rows


def _recall_precision(
    right: np.ndarray, are_it: np.ndarray, found_it: np.ndarray
) -> dict[str, Any]:
    """Share right of those that are of a label, and of those that were found to be."""
    recall, precision = _share("recall", right[are_it]), _share("precision", right[found_it])
    return {**precision, **recall, "interval": recall["interval"] | precision["interval"]}


def _share(name: str, right: np.ndarray) -> dict[str, Any]:
    """A share with its interval; None of nothing."""
    n = len(right)
    share = float(np.mean(right)) if n else None
    return {"n": n, name: share, "interval": {name: share_interval(int(right.sum()), n)}}
