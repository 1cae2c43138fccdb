"""The report of an evaluation as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]

_REDSHIFT_ROWS = {
    "n": "spectra",
    "nmad": "NMAD of Δz/(1+z)",
    "bias": "median Δz/(1+z)",
    "outliers_1000kms": "|Δv| > 1000 km/s",
    "outliers_0.01": "|Δz|/(1+z) > 0.01",
    "outliers_0.05": "|Δz|/(1+z) > 0.05",
    "r2": "R²",
    "r2_without_worst": "R² without the largest outlier",
}
_STELLAR = {
    "teff": "Teff (K)",
    "logg": "log g (dex)",
    "feh": "[Fe/H] (dex)",
}
NOTES = """Numbers in parentheses are 68 % intervals: Wilson for fractions, bootstrap for the rest.
A spectrum without a prediction counts as misclassified. Spectra of every S/N are included.
"Without the largest outlier": R² is a sum of squares, so one wrong label at high redshift can
dominate it; the spectrum with the largest |Δz| is left out of that row and of no other."""


def markdown(
    report: Report,
    provenance: Mapping[str, str],
    others: Mapping[str, Report] | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The report as Markdown.

    Parameters
    ----------
    report : mapping
        As `summary.summarise` gives it.
    provenance : mapping of str to str
        How the predictions were made.
    others : mapping of str to mapping, optional
        Name → report of other methods evaluated on the same spectra.
    remarks : sequence of str
        Notes on the data and on the other methods, one list item each.

    Returns
    -------
    str
    """
    parts = ["# Accuracy", f"{report['n']} spectra, {report['predicted']} with a prediction."]
    parts.append("\n".join(f"- {key}: `{value}`" for key, value in provenance.items()))
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    parts.append(NOTES)
    if others:
        parts += ["## Comparison", _comparison({"spectromer": report, **others})]
    parts += sections(report)
    return "\n\n".join(parts) + "\n"


def sections(report: Report, level: str = "##") -> list[str]:
    """The parts of a report on classes, redshifts, stars and all else, under their headings."""
    parts: list[str] = []
    if "classes" in report:
        parts += _classes(report["classes"])
    if "redshifts" in report:
        parts += _redshifts(report["redshifts"])
    if "calibration" in report:
        parts += _calibration(report)
    if "stars" in report:
        parts += _stars(report["stars"])
    if "subclasses" in report:
        parts += _subclasses(report["subclasses"])
    for name, figures in report.get("categories", {}).items():
        parts += _category(name, figures)
    if "quantities" in report:
        parts += _quantities(report["quantities"])
    return [
        f"{level}{part.removeprefix('##')}" if part.startswith("## ") else part for part in parts
    ]


def _comparison(reports: Mapping[str, Report]) -> str:
    """One row per metric, one column per method; a metric that no method has is left out."""
    ours = next(iter(reports.values()))
    rows: list[list[Any]] = []
    for words, path in _figures_to_compare(ours):
        cells = []
        for report in reports.values():
            part: Any = report
            try:
                for key in path[:-1]:
                    part = part[key]
                cells.append(_with_interval(part, path[-1]))
            except KeyError:  # this method does not predict that
                cells.append("")
        if any(cells):
            rows.append([words, *cells])
    return _table(["", *reports], rows)


def _figures_to_compare(report: Report) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The name of each metric and its path in a report."""
    yield "class accuracy", ("classes", "accuracy")
    for kind in ("recall", "precision"):
        for label in report.get("classes", {}).get("by_class", {}):
            yield f"{kind} of {label}", ("classes", "by_class", label, kind)
    yield "expected calibration error of the class", ("classes", "ece")
    yield "stars: spectral class correct", ("stars", "letter", "right")
    yield "stars: within one spectral class", ("stars", "letter", "within_one")
    yield "stars: type correct to one subtype", ("stars", "star_type", "within_one")
    for name, words in _STELLAR.items():
        yield f"stars: scatter of {words}", ("stars", name, "scatter")
    for key, label in (("GALAXY", "galaxies"), ("QSO", "quasars"), ("", "both")):
        for name, words in _REDSHIFT_ROWS.items():
            part = ("by_class", key) if key else ("galaxies_and_quasars",)
            if name != "n":
                yield f"{label}: {words}", ("redshifts", *part, name)
    for name in report.get("categories", {}):
        yield f"{name}: accuracy", ("categories", name, "accuracy")
        yield f"{name}: mean recall", ("categories", name, "mean_recall")
    for name in report.get("quantities", {}):
        yield f"{name}: scatter", ("quantities", name, "scatter")
        yield f"{name}: R²", ("quantities", name, "r2")


def _classes(classes: Report) -> list[str]:
    labels, matrix = classes["confusion"]["labels"], classes["confusion"]["rows_true"]
    by_class = [
        [name, row["n"], _with_interval(row, "recall"), _with_interval(row, "precision")]
        for name, row in classes["by_class"].items()
    ]
    confusion = [[name, *row] for name, row in zip(labels, matrix, strict=True)]
    by_survey = [
        [row["survey"] or "unknown", row["class"], row["n"], _with_interval(row, "accuracy")]
        for row in classes["by_survey"]
    ]
    by_sn = [[_bin(row), row["n"], _with_interval(row, "accuracy")] for row in classes["by_sn"]]
    cuts = [
        [row["class_prob"], row["completeness"], row["purity"]]
        for row in classes["completeness_purity"]
    ]
    return [
        "## Classes",
        f"Accuracy: {_with_interval(classes, 'accuracy')}, {classes['n']} spectra. "
        f"Expected calibration error: {_text(classes['ece'])}.",
        _table(["class", "spectra", "recall", "precision"], by_class),
        _table(["label \\ predicted", *labels], confusion),
        _table(["survey", "class", "spectra", "accuracy"], by_survey),
        _table(["S/N per pixel", "spectra", "accuracy"], by_sn),
        _table(["class_prob at least", "fraction kept", "fraction correct"], cuts),
    ]


def _redshifts(redshifts: Report) -> list[str]:
    sets = {"galaxies and quasars": redshifts["galaxies_and_quasars"]}
    if "without_zwarn" in redshifts:
        sets["zwarn = 0 only"] = redshifts["without_zwarn"]
    # Stars have velocities, below.
    sets |= {name: row for name, row in redshifts["by_class"].items() if name != "STAR"}
    rows = [
        [words, *(_with_interval(figures, key) for figures in sets.values())]
        for key, words in _REDSHIFT_ROWS.items()
    ]
    parts = ["## Redshifts", _table(["", *sets], rows)]
    if "worst" in redshifts:
        worst = redshifts["worst"]
        name = " ".join(filter(None, [worst["survey"], worst["object_id"]])) or "unnamed spectrum"
        parts.append(
            f"The largest |Δz|: {name}, {worst['class'] or 'class unknown'}, reference z = "
            f"{worst['z_true']:.4f}, predicted z = {worst['z']:.4f}."
        )
    surveys = [
        [
            row["survey"] or "unknown",
            row["class"],
            *(_with_interval(row, k) for k in _REDSHIFT_ROWS),
        ]
        for row in redshifts["by_survey"]
    ]
    parts.append(_table(["survey", "class", *_REDSHIFT_ROWS.values()], surveys))
    for key, words in (("by_sn", "S/N per pixel"), ("by_z", "redshift")):
        rows = [[_bin(row), *(row[name] for name in _REDSHIFT_ROWS)] for row in redshifts[key]]
        parts.append(_table([words, *_REDSHIFT_ROWS.values()], rows))
    quasars = [[_bin(row), row["n"], *_scatter(row)] for row in redshifts["quasar_velocity_by_z"]]
    if quasars:
        head = ["redshift", "quasars", "scatter (km/s)", "median Δv (km/s)"]
        parts.append(_table(head, quasars))
    histogram = [[_bin(row), row["labels"], row["predictions"]] for row in redshifts["z_histogram"]]
    parts.append(_table(["redshift", "labels", "predictions"], histogram))
    scatter = redshifts["star_velocity_scatter_km_s"]
    if scatter is not None:
        parts.append(f"Scatter of the stars' radial velocities: {scatter:.1f} km/s.")
        rows = [
            [row["survey"] or "unknown", row["n"], *_scatter(row)]
            for row in redshifts["star_velocity_by_survey"]
        ]
        parts.append(_table(["survey", "stars", "scatter (km/s)", "median Δv (km/s)"], rows))
        rows = [[_bin(row), row["n"], *_scatter(row)] for row in redshifts["star_velocity_by_sn"]]
        parts.append(_table(["S/N per pixel", "stars", "scatter (km/s)", "median Δv (km/s)"], rows))
    pulls = [
        [name, where, row["n"], row["width"], row["centre"], row["beyond_5"]]
        for name, pull in redshifts.get("pull", {}).items()
        for where, row in [("all", pull), *((_bin(row), row) for row in pull["by_sn"])]
    ]
    if pulls:
        head = ["S/N per pixel", "spectra", "width", "centre", "beyond 5"]
        parts.append(_table(["pull (z − z_label)/z_err", *head], pulls))
    cuts = [
        [row["z_prob"], row["completeness"], row["purity"]]
        for row in redshifts.get("completeness_purity", [])
    ]
    if cuts:
        head = ["z_prob at least", "fraction kept", "fraction within 0.01 (1+z)"]
        parts.append(_table(head, cuts))
    return parts


def _calibration(report: Report) -> list[str]:
    """Calibration as stored in the weights, and by cross-validation over the objects."""
    folds = report["calibration"]
    rows = [["expected calibration error of the class", report["classes"]["ece"], folds["ece"]]]
    pulls = report.get("redshifts", {}).get("pull", {})
    rows += [
        [f"pull width, {name}", pulls[name]["width"], pull["width"]]
        for name, pull in folds["pull"].items()
    ]
    parts = [
        "## Cross-validated calibration",
        "The calibration of the weights was fitted on all the spectra evaluated here. In the last "
        f"column, each of {folds['folds']} folds of the objects is evaluated with a fit to the "
        "others.",
        _table(["", "as in the weights", "cross-validated"], rows),
    ]
    limited = folds["max_outlier_rate"]
    if limited["kept"] is not None:
        parts.append(
            f"`--max-outlier-rate {limited['promised']:g}`, with its cut cross-validated, keeps "
            f"{_text(limited['kept'])} of the galaxies and quasars; {_text(limited['wrong'])} of "
            "those are off by more than 0.01 (1+z)."
        )
    return parts


def _stars(stars: Report) -> list[str]:
    parts = ["## Stars"]
    if "letter" in stars:
        rows = [
            [where, row["n"], _with_interval(row, "right"), _with_interval(row, "within_one")]
            for where, row in _all_and_surveys(stars["letter"])
        ]
        parts.append(_table(["spectral class", "stars", "correct", "within one class"], rows))
    if "star_type" in stars:
        shares = ("right", "within_one", "within_sigma")
        rows = [
            [where, row["n"], *(_with_interval(row, n) for n in shares), row["mean_error"]]
            for where, row in _all_and_surveys(stars["star_type"])
        ]
        head = ["stars", "correct", "to one subtype", "within its error", "mean error, subtypes"]
        parts.append(_table(["decimal type", *head], rows))
    rows = [
        [words, where, row["n"], *_scatter(row), row["pull"]]
        for name, words in _STELLAR.items()
        if name in stars
        for where, row in _all_and_surveys(stars[name])
    ]
    if rows:
        parts.append(_table(["", "survey", "stars", "scatter", "median error", "pull width"], rows))
    return parts


def _subclasses(subclasses: Report) -> list[str]:
    parts = ["## Subclasses of galaxies and quasars"]
    for name, figures in subclasses.items():
        rows = [["all", figures["n"], _with_interval(figures, "right"), ""]]
        rows += [
            [label, row["n"], _with_interval(row, "recall"), _with_interval(row, "precision")]
            for label, row in figures["by_label"].items()
        ]
        parts.append(_table([name, "spectra", "recall", "precision"], rows))
    return parts


def _category(name: str, figures: Report) -> list[str]:
    rows = [
        [label, row["n"], _with_interval(row, "recall"), _with_interval(row, "precision")]
        for label, row in figures["by_label"].items()
    ]
    said = f"Accuracy: {_with_interval(figures, 'accuracy')}, {figures['n']} spectra; mean recall "
    said += f"{_text(figures['mean_recall'])}."
    if figures.get("ece") is not None:
        said += f" Expected calibration error: {_text(figures['ece'])}."
    return [f"## {name}", said, _table(["label", "spectra", "recall", "precision"], rows)]


def _quantities(quantities: Report) -> list[str]:
    rows = [
        [name, row["n"], *_scatter(row), _with_interval(row, "r2"), row.get("pull")]
        for name, row in quantities.items()
    ]
    head = ["", "spectra", "scatter", "median error", "R²", "pull width"]
    return ["## Quantities", _table(head, rows)]


def _all_and_surveys(figures: Report) -> list[tuple[str, Report]]:
    surveys = [(row["survey"] or "unknown", row) for row in figures["by_survey"]]
    return [("all", figures), *surveys]


def _scatter(row: Report) -> tuple[str, str]:
    return _with_interval(row, "scatter"), _with_interval(row, "bias")


def _bin(row: Report) -> str:
    return (
        f"{row['from']:g} and above" if row["to"] is None else f"{row['from']:g} to {row['to']:g}"
    )


def _with_interval(figures: Report, name: str) -> str:
    """A figure and, where there is one, its interval in brackets."""
    value = figures[name]
    interval = figures.get("interval", {}).get(name)
    if value is None or interval is None:
        return _text(value)
    return f"{_text(value)} ({interval[0]:.4g} to {interval[1]:.4g})"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
