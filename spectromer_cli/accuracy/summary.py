"""How well predictions agree with reference values: classes, redshifts, errors, confidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.inference.columns import column_of
from spectromer_cli.metrics import (
    OUTLIERS,
    calibration_bins,
    expected_calibration_error,
    letter_figures,
    number_figures,
    pull_figures,
    redshift_figures,
    scatter_figures,
    share_interval,
    type_figures,
    velocity_figures,
)
from spectromer_cli.model import taxonomy
from spectromer_cli.model.tasks import Category, Ordered, Task

if TYPE_CHECKING:
    from astropy.table import Table

SN_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, np.inf)
# What describes a star, in the general model.
STELLAR = ("star_type", *taxonomy.PARAMETERS)
Z_EDGES = (-0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 7.0)
QUASAR_EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0)
# Narrow at the ends, where redshifts pile up if they stick to the limits of a search.
HISTOGRAM_EDGES = (-0.01, 0.0, 0.01, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 6.8, 7.0)


def compare(
    table: Table, references: Mapping[str, np.ndarray], known: Sequence[Task]
) -> dict[str, Any]:
    """The report of a table of predictions.

    Parameters
    ----------
    table : Table
        As `inference.columns.table_of` gives it.
    references : mapping of arrays, shape (n,)
        As `summarise` takes them.
    known : sequence of Task
        Of the model that predicted.

    Returns
    -------
    dict
        As `summarise` gives it.
    """
    labels = {task.name: task.labels for task in known if isinstance(task, Category)}
    return summarise(arrays(table, known), references, labels)


def arrays(table: Table, known: Sequence[Task]) -> dict[str, np.ndarray]:
    """The columns of a table, those of a task by its name; types as places in their sequence."""
    found = {name: np.asarray(table[name]) for name in table.colnames}
    for task in known:
        for end in ("", "_prob", "_err"):
            if f"{column_of(task)}{end}" in table.colnames:
                found[f"{task.name}{end}"] = np.asarray(table[f"{column_of(task)}{end}"])
        if isinstance(task, Ordered):
            places = [taxonomy.star_place(text) for text in found[task.name]]
            found[task.name] = np.array(places, dtype=float)
    return found


def headline(report: Mapping[str, Any]) -> dict[str, float]:
    """The main figures of a report, by name.

    Parameters
    ----------
    report : mapping
        As `summarise` gives it.

    Returns
    -------
    dict of str to float
        ``<task>_<figure>``, and of each that has a 68 % interval ``…_low`` and ``…_high``.
        Redshifts are those of all but stars, whose velocities (km/s) are ``rv_…``; the letter
        of stars' types is ``letter_…``.
    """
    parts: dict[str, Mapping[str, Any]] = {}
    if "classes" in report:
        parts["class"] = report["classes"]
    if "redshifts" in report:
        parts["z"] = report["redshifts"]["galaxies_and_quasars"]
        parts["rv"] = {"scatter": report["redshifts"]["star_velocity_scatter_km_s"]}
    for name in ("stars", "categories", "quantities"):
        parts |= report.get(name, {})
    figures = {}
    for name, part in parts.items():
        interval = part.get("interval", {})
        for key, value in part.items():
            if not isinstance(value, int | float):
                continue
            figures[f"{name}_{key}"] = value
            for end, limit in zip(("low", "high"), interval.get(key) or (), strict=False):
                figures[f"{name}_{key}_{end}"] = limit
    return {name: float(f"{value:.5g}") for name, value in figures.items()}


def summarise(
    predictions: Mapping[str, np.ndarray],
    references: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Compare predictions with reference values.

    Parameters
    ----------
    predictions : mapping of arrays, shape (n,)
        Columns of `spectromer redshift` and `spectromer classify`, as `arrays` gives them,
        ``sn_median`` among them; a figure whose column is not there is left out.
    references : mapping of arrays, shape (n,)
        By task: labels as text (empty unknown), numbers (NaN unknown). Of the general model
        ``subclass`` is one of `taxonomy.SUBCLASSES`, ``letter`` one of `taxonomy.STAR_TYPES`,
        ``star_type`` the place in `taxonomy.SEQUENCE`.
    labels : mapping of str to sequence of str
        The labels of each category that the model has.

    Returns
    -------
    dict
        Plain values: ``n``, ``predicted``; ``classes`` (accuracy, ECE, precision and recall,
        confusion matrix, reliability) where classes are known; ``redshifts`` (see
        `metrics.redshift_figures`, over all, by class, survey, z and S/N; pulls; completeness
        and purity) where redshifts are; ``stars`` (letter, type, parameters) and ``subclasses``
        of galaxies and quasars where any are; ``categories`` and ``quantities``, the figures of
        all other tasks.
        Shares and scatters have their 68 % interval in ``interval``.
    """
    n = len(predictions["sn_median"])
    has = {name: predictions[name] != "" for name in labels if name in predictions}
    predicted = has.get("class", next(iter(has.values()), np.ones(n, dtype=bool)))
    if not has and "z" in predictions:
        predicted = np.isfinite(predictions["z"])
    report: dict[str, Any] = {"n": n, "predicted": int(predicted.sum())}
    classes = references.get("class", np.full(n, ""))
    if "class" in labels:
        known = np.isin(classes, list(labels["class"]))
        if known.any():
            report["classes"] = _classes(predictions, classes, labels["class"], known)
    if "z" in references and "z" in predictions:
        has_z = np.isfinite(references["z"]) & np.isfinite(predictions["z"])
        if has_z.any():
            report["redshifts"] = _redshifts(predictions, classes, references["z"], has_z)
    report |= _further(predictions, references, labels)
    return report


def _further(
    predictions: Mapping[str, np.ndarray],
    references: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Figures of all but class and redshift, where there are any."""
    star = references.get("class", np.array([])) == "STAR"
    parts: dict[str, dict[str, Any]] = {"categories": {}, "quantities": {}}
    if "letter" in references:
        parts["stars"] = _stars(predictions, star, references)
        parts["subclasses"] = _subclasses(predictions, references)
    done = {"class", "z", "letter"}
    if "letter" in references:
        done |= {"subclass", *STELLAR}
    for name, reference in references.items():
        if name in done or name not in predictions:
            continue
        if name in labels:
            parts["categories"][name] = _category(predictions, name, reference, labels[name])
        else:
            parts["quantities"][name] = _quantity(predictions, name, reference)
    return {
        key: {k: v for k, v in part.items() if v}
        for key, part in parts.items()
        if any(part.values())
    }


def _category(
    predictions: Mapping[str, np.ndarray], name: str, reference: np.ndarray, labels: Sequence[str]
) -> dict[str, Any]:
    known = np.isin(reference, list(labels))
    found = predictions[name]
    right = found == reference
    figures = _share("accuracy", right[known]) if known.any() else {}
    if not figures:
        return {}
    by_label = {
        label: _recall_precision(right, known & (reference == label), known & (found == label))
        for label in labels
    }
    recalls = [row["recall"] for row in by_label.values() if row["recall"] is not None]
    figures |= {"mean_recall": float(np.mean(recalls)), "by_label": by_label}
    if f"{name}_prob" in predictions:
        use = known & np.isfinite(predictions[f"{name}_prob"])
        confidence = predictions[f"{name}_prob"][use]
        figures["ece"] = expected_calibration_error(confidence, right[use]) if use.any() else None
    return figures


def _quantity(
    predictions: Mapping[str, np.ndarray], name: str, reference: np.ndarray
) -> dict[str, Any]:
    use = np.isfinite(reference) & np.isfinite(predictions[name])
    if not use.any():
        return {}
    sigma = predictions.get(f"{name}_err")
    own = None if sigma is None else sigma[use]
    return number_figures(predictions[name][use], own, reference[use])


def _classes(
    predictions: Mapping[str, np.ndarray],
    reference: np.ndarray,
    labels: Sequence[str],
    known: np.ndarray,
) -> dict[str, Any]:
    found = predictions["class"]
    right = found == reference  # no prediction counts as wrong
    use = known & (found != "")
    columns = [f"p_{name.lower()}" for name in labels]
    confidence = (
        np.max([predictions[column] for column in columns], axis=0)
        if {*columns} <= {*predictions}
        else predictions["class_prob"]
    )
    matrix = [
        [int(np.sum(known & (reference == row) & (found == column))) for column in labels]
        for row in labels
    ]

    def judge(which: np.ndarray) -> dict[str, Any]:
        return _share("accuracy", right[which])

    by_class = {}
    for name in labels:
        by_class[name] = _recall_precision(
            right, known & (reference == name), use & (found == name)
        )
    confidence = confidence[use]
    return {
        **judge(known),
        "ece": expected_calibration_error(confidence, right[use]) if use.any() else None,
        "confusion": {"labels": list(labels), "rows_true": matrix},
        "by_class": by_class,
        "by_survey": _by_survey(judge, known, predictions, reference),
        "by_sn": _binned(judge, known, predictions["sn_median"], SN_EDGES),
        "reliability": calibration_bins(confidence, right[use]) if use.any() else [],
        "completeness_purity": _cuts("class_prob", confidence, right[use]),
    }


def _redshifts(
    predictions: Mapping[str, np.ndarray],
    class_true: np.ndarray,
    z_true: np.ndarray,
    use: np.ndarray,
) -> dict[str, Any]:
    z, sn = predictions["z"], predictions["sn_median"]
    star, far = use & (class_true == "STAR"), use & (class_true != "STAR")
    names = [*taxonomy.CLASSES, *np.setdiff1d(class_true[use], [*taxonomy.CLASSES, ""])]
    wrong = np.abs(z - z_true) / (1.0 + z_true) > OUTLIERS["0.01"]

    def judge(which: np.ndarray) -> dict[str, Any]:
        return redshift_figures(z[which], z_true[which])

    def judge_velocity(which: np.ndarray) -> dict[str, Any]:
        return velocity_figures(z[which], z_true[which])

    def judge_pull(which: np.ndarray) -> dict[str, Any]:
        return pull_figures((z - z_true)[which] / predictions["z_err"][which])

    report = {
        "galaxies_and_quasars": judge(far),
        "by_class": {name: judge(use & (class_true == name)) for name in names},
        "by_survey": _by_survey(judge, far, predictions, class_true),
        "star_velocity_scatter_km_s": velocity_figures(z[star], z_true[star])["scatter"],
        "star_velocity_by_survey": _by_survey(judge_velocity, star, predictions, class_true),
        "star_velocity_by_sn": _binned(judge_velocity, star, sn, SN_EDGES),
        "by_sn": _binned(judge, far, sn, SN_EDGES),
        "by_z": _binned(judge, far, z_true, Z_EDGES),
        "quasar_velocity_by_z": _binned(
            judge_velocity, use & (class_true == "QSO"), z_true, QUASAR_EDGES
        ),
        "z_histogram": _histogram(z[far], z_true[far]),
    }
    if far.any():
        worst = np.flatnonzero(far)[np.argmax(np.abs(z - z_true)[far])]
        report["worst"] = {
            "object_id": str(predictions["object_id"][worst]) if "object_id" in predictions else "",
            "survey": str(predictions["survey"][worst]) if "survey" in predictions else "",
            "class": str(class_true[worst]),
            "z_true": float(z_true[worst]),
            "z": float(z[worst]),
        }
    if "zwarn" in predictions:
        clean = predictions["zwarn"] == 0
        share = _share("share", clean[far])["share"]
        report["without_zwarn"] = {"share": share, **judge(far & clean)}
    if "z_err" in predictions:
        report["pull"] = {
            name: {**judge_pull(which), "by_sn": _binned(judge_pull, which, sn, SN_EDGES)}
            for name in names
            if (which := use & (class_true == name) & (predictions["z_err"] > 0)).any()
        }
    if "z_prob" in predictions:
        report["completeness_purity"] = _cuts("z_prob", predictions["z_prob"][far], ~wrong[far])
    return report


def _stars(
    predictions: Mapping[str, np.ndarray], star: np.ndarray, truth: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Spectral class over all stars by label; type and parameters over those predicted."""
    report: dict[str, Any] = {}
    true_class = np.where(star, "STAR", "")
    lettered = star & (truth["letter"] != "")
    if "subclass" in predictions and lettered.any():
        # The spectral class of a star that was predicted as a galaxy counts as wrong.
        found = np.where(predictions["class"] == "STAR", predictions["subclass"], "")

        def judge_letter(which: np.ndarray) -> dict[str, Any]:
            return letter_figures(found[which], truth["letter"][which])

        report["letter"] = {
            **judge_letter(lettered),
            "by_survey": _by_survey(judge_letter, lettered, predictions, true_class),
        }
    for name in STELLAR:
        if name not in predictions or name not in truth:
            continue
        error, sigma = predictions[name] - truth[name], predictions[f"{name}_err"]
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
            by_survey = _by_survey(judge, known, predictions, true_class)
            report[name] = {**judge(known), "by_survey": by_survey}
    return report


def _subclasses(
    predictions: Mapping[str, np.ndarray], details: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Subclasses of galaxies and quasars; that of a galaxy predicted as a star counts as wrong."""
    report: dict[str, Any] = {}
    if "subclass" not in predictions or "subclass" not in details:
        return report
    truth = details["subclass"]
    found = np.array(
        [f"{a} {b}" for a, b in zip(predictions["class"], predictions["subclass"], strict=True)]
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
    judge: Judge, which: np.ndarray, predictions: Mapping[str, np.ndarray], class_true: np.ndarray
) -> list[dict[str, Any]]:
    """Figures of each class in each survey, most spectra first."""
    rows: list[dict[str, Any]] = []
    if "survey" not in predictions:
        return rows
    for survey in np.unique(predictions["survey"][which]):
        for name in np.unique(class_true[which & (predictions["survey"] == survey)]):
            here = which & (predictions["survey"] == survey) & (class_true == name)
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


def _histogram(z: np.ndarray, z_true: np.ndarray) -> list[dict[str, Any]]:
    """How many labels and predictions each interval of redshift has."""
    labels, _ = np.histogram(z_true, HISTOGRAM_EDGES)
    predictions, _ = np.histogram(z, HISTOGRAM_EDGES)
    return [
        {"from": low, "to": high, "labels": int(known), "predictions": int(found)}
        for (low, high), known, found in zip(
            pairwise(HISTOGRAM_EDGES), labels, predictions, strict=True
        )
    ]


def _cuts(name: str, confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Fraction kept, and the correct fraction of those, as the cut on a confidence rises."""
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
    """Recall and precision of one label."""
    recall, precision = _share("recall", right[are_it]), _share("precision", right[found_it])
    return {**precision, **recall, "interval": recall["interval"] | precision["interval"]}


def _share(name: str, right: np.ndarray) -> dict[str, Any]:
    """A fraction with its interval; None where there are no spectra."""
    n = len(right)
    share = float(np.mean(right)) if n else None
    return {"n": n, name: share, "interval": {name: share_interval(int(right.sum()), n)}}
