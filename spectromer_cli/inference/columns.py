"""The columns of the answers: which there are, and how a task's answer fills its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import decoding, tasks, taxonomy
from spectromer_cli.model.zwarn import MIN_COVERAGE, MIN_SN, ZWarn
from spectromer_cli.spectra.loading import Item

if TYPE_CHECKING:
    from astropy.table import Table

Columns = dict[str, np.ndarray]

HEAD = ("file", "row", "object_id", "survey")
TAIL = ("outlier_score", "sn_median", "flags")
ALTERNATIVE_COLUMNS = tuple(
    f"z_alt{rank}{end}" for rank in range(1, decoding.ALTERNATIVES + 1) for end in ("", "_prob")
)
# Of the general model: stars, galaxies and quasars.
CLASSIFY_COLUMNS = (
    *HEAD, "class", "p_star", "p_galaxy", "p_qso",
    "subclass", "subclass_prob", "star_type", "star_type_err", "teff", "teff_err",
    "logg", "logg_err", "feh", "feh_err", *TAIL,
)  # fmt: skip
REDSHIFT_COLUMNS = (
    *HEAD, "class", "class_prob", "z", "z_err", "z_prob", "zwarn", "delta_chi2",
    *ALTERNATIVE_COLUMNS, *TAIL,
)  # fmt: skip
# What describes a star, and is left empty for a galaxy.
STELLAR = ("star_type", "teff", "logg", "feh")
# Stars whose Teff, log g and [Fe/H] no training set tells: they are left empty.
WITHOUT_PARAMETERS = ("L", "WD", "CV", "Carbon")
# A class scheme of one's own with more labels has no column of probability for each.
MAX_PROBABILITIES = 20


def is_general(asked: Sequence[tasks.Task]) -> bool:
    """Whether the tasks are those of the general model."""
    named = {task.name: task for task in asked}
    class_ = named.get("class")
    general = isinstance(class_, tasks.Category) and class_.labels == taxonomy.CLASSES
    return general and {"subclass", "z"} <= set(named)


def redshift_task(asked: Sequence[tasks.Task]) -> tasks.Redshift | None:
    """The task that gives the redshift, if there is one."""
    return next((task for task in asked if isinstance(task, tasks.Redshift)), None)


def classify_columns(asked: Sequence[tasks.Task]) -> tuple[str, ...]:
    """The columns that `spectromer classify` shows for a model with these tasks."""
    if is_general(asked):
        return CLASSIFY_COLUMNS
    own: list[str] = []
    for task in asked:
        if isinstance(task, tasks.Category):
            own += [task.name, f"{task.name}_prob"]
            if task.name == "class" and len(task.labels) <= MAX_PROBABILITIES:
                own += [_probability(label) for label in task.labels]
        elif not isinstance(task, tasks.Redshift):
            own += [task.name, f"{task.name}_err"]
    if not own:
        raise UsageError("these weights know redshifts only", "use spectromer redshift")
    return (*HEAD, *own, *TAIL)


def redshift_columns(asked: Sequence[tasks.Task]) -> tuple[str, ...]:
    """The columns that `spectromer redshift` shows for a model with these tasks.

    Raises
    ------
    UsageError
        If none of them is a redshift.
    """
    if redshift_task(asked) is None:
        names = ", ".join(task.name for task in asked)
        raise UsageError(
            f"these weights know no redshift, only {names}",
            "use spectromer classify, or another --model",
        )
    if any(task.name == "class" for task in asked):
        return REDSHIFT_COLUMNS
    return tuple(name for name in REDSHIFT_COLUMNS if name not in ("class", "class_prob"))


def _probability(label: str) -> str:
    return f"p_{label.lower()}"


def empty_columns(items: Sequence[Item], asked: Sequence[tasks.Task]) -> Columns:
    """Columns for rows that have no answer yet."""
    n = len(items)
    texts = {task.name for task in asked if isinstance(task, tasks.Category | tasks.Ordered)}
    wanted: tuple[str, ...] = ()
    if any(not isinstance(task, tasks.Redshift) for task in asked):
        wanted += classify_columns(asked)
    if redshift_task(asked) is not None:
        wanted += redshift_columns(asked)
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(wanted):
        text = name in texts or name == "star_type"
        columns[name] = np.full(n, "", dtype=object) if text else np.full(n, np.nan)
    columns["file"] = np.array([item.file for item in items], dtype=object)
    columns["row"] = np.array([item.row for item in items], dtype=int)
    columns["object_id"] = np.array([_text(item.meta.get("object_id")) for item in items], object)
    columns["survey"] = np.array([_text(item.meta.get("survey")) for item in items], object)
    columns["sn_median"] = np.array([item.sn_median for item in items], dtype=float)
    columns["flags"] = np.array([_flags(item) for item in items], dtype=object)
    if "zwarn" in columns:
        columns["zwarn"] = np.full(n, int(ZWarn.NODATA))
    return columns


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def coverage(item: Item) -> float:
    """Share of the grid's pixels that are good."""
    return float(np.mean(item.prepared.ivar > 0)) if item.prepared else 0.0


def _flags(item: Item) -> str:
    """What the user should know about the input, as words joined by semicolons."""
    if item.problem:
        return f"UNREADABLE: {item.problem}"
    words = []
    if not item.sn_median >= MIN_SN:
        words.append("LOW_SN")
    if coverage(item) < MIN_COVERAGE:
        words.append("LITTLE_COVERAGE")
    if item.meta.get("has_ivar") is False:
        words.append("ERRORS_ESTIMATED")
    return ";".join(words)


def fill_outliers(columns: Columns, good: np.ndarray, score: np.ndarray) -> None:
    """Outlier scores, and the flag of those that are out of domain."""
    columns["outlier_score"][good] = score
    for i in good[score > 1.0]:
        columns["flags"][i] = ";".join(filter(None, [columns["flags"][i], "OUT_OF_DOMAIN"]))


def fill(columns: Columns, good: np.ndarray, task: tasks.Task, answer: np.ndarray) -> None:
    """Write a task's answer into its columns.

    Tasks come in the order of the model, class first: what describes a star is left empty
    where the class is another.

    Parameters
    ----------
    columns : dict of arrays
        As `empty_columns` made them.
    good : array of int, shape (n,)
        The rows that have an answer.
    task : Task
    answer : array, shape (n, task.size or 2)
        As `task.answer` gives it.
    """
    if isinstance(task, tasks.Category):
        if task.name == "subclass" and all(" " in label for label in task.labels):
            _fill_subclass(columns, good, task, answer)
        else:
            _fill_category(columns, good, task, answer)
        return
    applies = np.ones(len(good), dtype=bool)
    if task.name in STELLAR and "p_star" in columns:
        applies = columns["class"][good] == "STAR"
    if isinstance(task, tasks.Ordered):
        _fill_ordered(columns, good, applies, task, answer)
    elif isinstance(task, tasks.Quantity):
        if task.name in STELLAR and "subclass" in columns:
            applies &= ~np.isin(columns["subclass"][good].astype(str), WITHOUT_PARAMETERS)
        columns[task.name][good[applies]] = answer[applies, 0]
        columns[f"{task.name}_err"][good[applies]] = answer[applies, 1]


def _fill_category(columns: Columns, good: np.ndarray, task: tasks.Category, p: np.ndarray) -> None:
    columns[task.name][good] = np.array(task.labels, dtype=object)[p.argmax(axis=1)]
    if f"{task.name}_prob" in columns:
        columns[f"{task.name}_prob"][good] = p.max(axis=1)
    if task.name == "class":
        for number, label in enumerate(task.labels):
            if _probability(label) in columns:
                columns[_probability(label)][good] = p[:, number]


def _fill_subclass(columns: Columns, good: np.ndarray, task: tasks.Category, p: np.ndarray) -> None:
    """The likeliest subclass of the class that was found, and its probability among them."""
    for row, own in zip(good, p, strict=True):
        prefix = f"{columns['class'][row]} "
        of_class = np.array([label.startswith(prefix) for label in task.labels])
        total = own[of_class].sum()
        if total > 0:
            best = int(np.where(of_class, own, -1.0).argmax())
            columns["subclass"][row] = task.labels[best].removeprefix(prefix)
            columns["subclass_prob"][row] = own[best] / total


def _fill_ordered(
    columns: Columns,
    good: np.ndarray,
    applies: np.ndarray,
    task: tasks.Ordered,
    p: np.ndarray,
) -> None:
    letters = [""] * len(good)
    if task.name == "star_type":
        letters = list(columns["subclass"][good])
        applies = applies & np.isin(letters, list("OBAFGKML"))
    place, error = decoding.decode_type(p, letters)
    for i in np.flatnonzero(applies):
        columns[task.name][good[i]] = task.labels[place[i]]
        columns[f"{task.name}_err"][good[i]] = error[i]


def to_table(columns: Columns) -> Table:
    """A table with numbers as precise as they are, and texts as text."""
    from astropy.table import Table

    table = Table()
    for name, values in columns.items():
        if values.dtype == object:
            table[name] = values.astype(str)
        elif name == "z" or name in ALTERNATIVE_COLUMNS[::2]:
            table[name] = values.round(7)  # 30 m/s; what follows is noise
        else:
            table[name] = values.astype(np.float32) if values.dtype == np.float64 else values
    return table
