"""The table of results: which columns there are, and how predictions fill them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import decoding, tasks
from spectromer_cli.model.taxonomy import CLASSES, SUBCLASSES
from spectromer_cli.model.zwarn import MIN_SN, OF_REDSHIFT, ZWarn, doubts
from spectromer_cli.spectra.identity import RESULT_HEAD
from spectromer_cli.spectra.loading import Item

if TYPE_CHECKING:
    from astropy.table import Table

Columns = dict[str, np.ndarray]

HEAD = RESULT_HEAD
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
# Stars without reference values of Teff, log g and [Fe/H] in any training set.
WITHOUT_PARAMETERS = ("L", "T", "WD", "CV", "Carbon")
# Below this, half of a grid's pixels, lines that a prediction rests on are often missing.
MIN_COVERAGE = 0.5
# A class scheme of one's own with more labels has no column of probability for each.
MAX_PROBABILITIES = 20
# Columns that a task of one's own may not take by its name.
TAKEN = {*CLASSIFY_COLUMNS, *REDSHIFT_COLUMNS} - {"class", "subclass", "z", *STELLAR}


def is_general(known: Sequence[tasks.Task]) -> bool:
    """Whether the tasks of the general model are among these."""
    named = {task.name: task for task in known}
    class_ = named.get("class")
    general = isinstance(class_, tasks.Category) and class_.labels == CLASSES
    return general and {"subclass", "z"} <= set(named)


def redshift_task(known: Sequence[tasks.Task]) -> tasks.Redshift | None:
    """The task that gives the redshift, if there is one."""
    return next((task for task in known if isinstance(task, tasks.Redshift)), None)


def column_names(known: Sequence[tasks.Task], which: str = "all") -> tuple[str, ...]:
    """The columns of a model with these tasks.

    Parameters
    ----------
    known : sequence of Task
    which : {"all", "classify", "redshift"}
        What one of the commands shows, or all that can be told.

    Raises
    ------
    UsageError
        If none of the tasks gives what the command shows.
    """
    names: tuple[str, ...] = ()
    if which == "classify" or (which == "all" and any(map(_is_no_redshift, known))):
        names += classify_columns(known)
    if which == "redshift" or (which == "all" and redshift_task(known) is not None):
        names += redshift_columns(known)
    return tuple(dict.fromkeys(names))


def classify_columns(known: Sequence[tasks.Task]) -> tuple[str, ...]:
    """The columns that `spectromer classify` shows for a model with these tasks.

    Those of the general model, where its tasks are there, then those of further tasks.
    """
    own = [name for task in known if _is_no_redshift(task) for name in _columns_of(task)]
    if not own:
        raise UsageError("these weights measure redshifts only", "use spectromer redshift")
    if is_general(known):
        general = CLASSIFY_COLUMNS[: -len(TAIL)]
        own = [*general, *(name for name in own if name not in (*general, "class_prob"))]
    return tuple(dict.fromkeys((*HEAD, *own, *TAIL)))


def redshift_columns(known: Sequence[tasks.Task]) -> tuple[str, ...]:
    """The columns that `spectromer redshift` shows for a model with these tasks."""
    if redshift_task(known) is None:
        names = ", ".join(task.name for task in known)
        raise UsageError(
            f"these weights know no redshift, only {names}",
            "use spectromer classify, or another --model",
        )
    if any(task.name == "class" for task in known):
        return REDSHIFT_COLUMNS
    return tuple(name for name in REDSHIFT_COLUMNS if name not in ("class", "class_prob"))


def _is_no_redshift(task: tasks.Task) -> bool:
    return not isinstance(task, tasks.Redshift)


def column_of(task: tasks.Task) -> str:
    """The column of a task; of a name that is taken, ``predicted_<name>``."""
    return f"predicted_{task.name}" if task.name in TAKEN else task.name


def _columns_of(task: tasks.Task) -> list[str]:
    name = column_of(task)
    if not isinstance(task, tasks.Category):
        return [name, f"{name}_err"]
    names = [name, f"{name}_prob"]
    if name == "class" and len(task.labels) <= MAX_PROBABILITIES:
        names += [_probability(label) for label in task.labels]
    return names


def _probability(label: str) -> str:
    return f"p_{label.lower()}"


def table_of(
    items: Sequence[Item],
    predictions: decoding.Predictions,
    known: Sequence[tasks.Task],
    min_z_prob: float = 0.0,
) -> Table:
    """The table of a batch.

    Parameters
    ----------
    items : sequence of Item
    predictions : Predictions
        For these items.
    known : sequence of Task
        The model's.
    min_z_prob : float
        Redshifts of a lower probability are marked in ``zwarn`` (`ZWarn.BELOW_CUT`).

    Returns
    -------
    astropy.table.Table
        One row per item, in order, with all columns of `column_names`.
    """
    columns = _empty(items, known)
    good = predictions.rows
    if len(good):
        columns["outlier_score"][good] = predictions.novelty
        for i in good[predictions.novelty > 1.0]:
            columns["flags"][i] = _joined(columns["flags"][i], ZWarn.OUT_OF_DOMAIN)
        for task in filter(_is_no_redshift, known):
            fill(columns, good, task, predictions.outputs[task.name])
    if predictions.redshift is not None:
        _fill_redshift(columns, good, predictions.redshift)
        columns["zwarn"][good] = doubts(
            predictions.redshift,
            sn_median=columns["sn_median"][good],
            novelty=predictions.novelty,
            is_star=columns["class"][good] == "STAR" if "class" in columns else None,
            min_z_prob=min_z_prob,
        )
    if "zwarn" in columns:
        columns["zwarn"] |= np.array([int(item.meta.get("zwarn", 0)) for item in items], dtype=int)
        for i, bits in enumerate(columns["zwarn"]):
            columns["flags"][i] = _joined(columns["flags"][i], ZWarn(int(bits)))
    return _to_table(columns)


def shown(table: Table, names: Sequence[str]) -> Table:
    """These columns of a table of `table_of`.

    Without ``zwarn``, ``flags`` is without the doubts about the redshift alone.
    """
    own = table[list(names)]
    if "zwarn" not in names:
        doubtful = {bit.name for bit in OF_REDSHIFT}
        kept = [[word for word in text.split(";") if word not in doubtful] for text in own["flags"]]
        own["flags"] = np.array([";".join(words) for words in kept], dtype=str)
    return own


def _joined(flags: str, bits: ZWarn) -> str:
    """The words of ``flags`` and the names of these bits, each once."""
    words = [flags, *(str(bit.name) for bit in bits if bit.name not in flags.split(";"))]
    return ";".join(filter(None, words))


def _coverage(item: Item) -> float:
    """Share of the grid's pixels that are good."""
    return float(np.mean(item.prepared.ivar > 0)) if item.prepared is not None else 0.0


def _empty(items: Sequence[Item], known: Sequence[tasks.Task]) -> Columns:
    """Columns without a prediction."""
    n = len(items)
    texts = {column_of(task) for task in known if isinstance(task, tasks.Category | tasks.Ordered)}
    columns: dict[str, Any] = {}
    for name in column_names(known):
        is_text = name in texts or name == "star_type"
        columns[name] = np.full(n, "", dtype=object) if is_text else np.full(n, np.nan)
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


def _flags(item: Item) -> str:
    """What the user should know about the input, as words joined by semicolons."""
    if item.problem:
        return ";".join([f"UNREADABLE: {item.problem}", *item.meta.get("flags", ())])
    words = []
    if not item.sn_median >= MIN_SN:
        words.append("LOW_SN")
    if _coverage(item) < MIN_COVERAGE:
        words.append("LITTLE_COVERAGE")
    if item.meta.get("has_ivar") is False:
        words.append("ERRORS_ESTIMATED")
    words += item.meta.get("flags", ())
    return ";".join(words)


def fill(columns: Columns, good: np.ndarray, task: tasks.Task, output: np.ndarray) -> None:
    """Write the predictions of a task into its columns.

    Tasks come in the order of the model, class first: what describes a star is left empty
    where the class is another.

    Parameters
    ----------
    columns : dict of arrays
        By name, with a place for every row.
    good : array of int, shape (n,)
        The rows that have a prediction.
    task : Task
        Not the redshift.
    output : array, shape (n, task.size)
        As `task.prediction` gives it.
    """
    if isinstance(task, tasks.Category):
        if "class" in columns and task.name == "subclass" and set(task.labels) <= set(SUBCLASSES):
            _fill_subclass(columns, good, task, output)
        else:
            _fill_category(columns, good, task, output)
        return
    applies = np.ones(len(good), dtype=bool)
    if task.name in STELLAR and "p_star" in columns:
        applies = columns["class"][good] == "STAR"
    if isinstance(task, tasks.Ordered):
        _fill_ordered(columns, good, applies, task, output)
    elif isinstance(task, tasks.Quantity):
        if task.name in STELLAR and "subclass" in columns:
            applies &= ~np.isin(columns["subclass"][good].astype(str), WITHOUT_PARAMETERS)
        name = column_of(task)
        columns[name][good[applies]] = output[applies, 0]
        columns[f"{name}_err"][good[applies]] = output[applies, 1]


def _fill_category(columns: Columns, good: np.ndarray, task: tasks.Category, p: np.ndarray) -> None:
    name = column_of(task)
    columns[name][good] = np.array(task.labels, dtype=object)[p.argmax(axis=1)]
    if f"{name}_prob" in columns:
        columns[f"{name}_prob"][good] = p.max(axis=1)
    if name == "class":
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
    classes = [""] * len(good)
    if task.name == "star_type" and "subclass" in columns:
        classes = list(columns["subclass"][good])
        applies = applies & np.isin(classes, list("OBAFGKMLT"))
    place, error = decoding.decode_type(p, classes)
    name = column_of(task)
    for i in np.flatnonzero(applies):
        columns[name][good[i]] = task.labels[place[i]]
        columns[f"{name}_err"][good[i]] = error[i]


def _fill_redshift(columns: Columns, good: np.ndarray, found: decoding.RedshiftPrediction) -> None:
    for name in ("z", "z_err", "z_prob", "delta_chi2"):
        columns[name][good] = getattr(found, name)
    for rank in range(decoding.ALTERNATIVES):
        columns[f"z_alt{rank + 1}"][good] = found.alt_z[:, rank]
        columns[f"z_alt{rank + 1}_prob"][good] = found.alt_prob[:, rank]


def _to_table(columns: Columns) -> Table:
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


def with_catalogue(table: Table, own: Table) -> Table:
    """Put the catalogue's own columns beside the predictions.

    Parameters
    ----------
    table : Table
        Predictions.
    own : Table
        The rows of the catalogue that asked for them.

    Returns
    -------
    Table
        The columns of `table`, then the catalogue's, untouched; one whose name is taken
        already gets ``cat_`` before it.
    """
    for name in own.colnames:
        new = name
        # FITS does not tell upper from lower case.
        while new.lower() in (taken.lower() for taken in table.colnames):
            new = f"cat_{new}"
        table[new] = own[name]
    return table
