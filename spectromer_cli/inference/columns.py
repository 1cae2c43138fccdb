"""The table of results: which columns there are, and how predictions fill them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model import decoding, tasks
from spectromer_cli.model.taxonomy import CLASSES, SUBCLASSES
from spectromer_cli.model.zwarn import MIN_SN, OF_REDSHIFT, ZWarn, doubts, z_conf
from spectromer_cli.outputs import schema
from spectromer_cli.spectra import identity, positions
from spectromer_cli.spectra.loading import Item

if TYPE_CHECKING:
    from astropy.table import Table

Columns = dict[str, np.ndarray]

TAIL = schema.names_of(schema.TAIL)
# Of the general model: stars, galaxies and quasars.
CLASSIFY_COLUMNS = schema.names_of(schema.COLUMNS, schema.CLASSIFY)
REDSHIFT_COLUMNS = schema.names_of(schema.COLUMNS, schema.REDSHIFT)
# What describes a star, and is left empty for a galaxy.
STELLAR = ("star_type", "teff", "logg", "feh")
# Stars without reference values of Teff, log g and [Fe/H] in any training set.
WITHOUT_PARAMETERS = ("L", "T", "WD", "CV", "Carbon")
# Below this, half of a grid's pixels, lines that a prediction rests on are often missing.
MIN_COVERAGE = 0.5
# A star's radial velocity that is known no better [km/s] has a word in `flags`. Its error says so
# too: the prediction is not doubted for it.
MAX_VELOCITY_ERROR, VELOCITY_UNCERTAIN = 50.0, "VELOCITY_UNCERTAIN"
# A class scheme of one's own with more labels has no column of probability for each.
MAX_PROBABILITIES = 20
# Columns that a task of one's own may not take by its name.
TAKEN = set(schema.BY_NAME) - {"class", "subclass", "z", *STELLAR}


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
    """The columns of a model with these tasks, by name; see `columns_of`."""
    return schema.names_of(columns_of(known, which))


def classify_columns(known: Sequence[tasks.Task]) -> tuple[str, ...]:
    """The columns that `spectromer classify` shows for a model with these tasks."""
    return column_names(known, schema.CLASSIFY)


def columns_of(known: Sequence[tasks.Task], which: str = "all") -> list[schema.Column]:
    """The columns of a model with these tasks.

    Those of the general model, where its tasks are there, then those of further tasks.

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
    own = [task for task in known if _is_no_redshift(task)]
    found: list[schema.Column] = [*schema.HEAD]
    if which != schema.REDSHIFT:
        if which == schema.CLASSIFY and not own:
            raise UsageError("these weights predict redshifts only", "use spectromer redshift")
        of_tasks = [column for task in own for column in _columns_of(task)]
        if is_general(known):
            left_out = {"class_prob"} if which == schema.CLASSIFY else set()
            of_tasks = [c for c in (*schema.GENERAL, *of_tasks) if c.name not in left_out]
        found += of_tasks
    elif any(task.name == "class" for task in known):
        found += _columns_of(next(task for task in own if task.name == "class"))[:2]
    if which != schema.CLASSIFY and redshift_task(known) is not None:
        has_stars = any(
            "STAR" in getattr(task, "labels", ()) for task in own if task.name == "class"
        )
        found += [c for c in schema.OF_REDSHIFT if has_stars or c.name not in ("rv", "rv_err")]
    elif which == schema.REDSHIFT:
        raise UsageError(
            f"these weights predict no redshift, only {', '.join(task.name for task in known)}",
            "use spectromer classify, or another --model",
        )
    return list({column.name: column for column in (*found, *schema.TAIL)}.values())


def _is_no_redshift(task: tasks.Task) -> bool:
    return not isinstance(task, tasks.Redshift)


def column_of(task: tasks.Task) -> str:
    """The column of a task; of a name that is taken, ``predicted_<name>``."""
    return f"predicted_{task.name}" if task.name in TAKEN else task.name


def _columns_of(task: tasks.Task) -> list[schema.Column]:
    """The columns of a task: those of the list where it means what they mean."""
    name = column_of(task)
    labels = task.labels if isinstance(task, tasks.Category) and name == "class" else ()
    shown_labels = labels if len(labels) <= MAX_PROBABILITIES else ()
    found = schema.of_task(name, task, {_probability(label): label for label in shown_labels})
    general = {
        "class": labels == CLASSES,
        "subclass": isinstance(task, tasks.Category) and set(task.labels) <= set(SUBCLASSES),
        "star_type": isinstance(task, tasks.Ordered),
    }
    stellar = task.name in STELLAR and isinstance(task, tasks.Quantity)
    if general.get(task.name, stellar):
        return [schema.BY_NAME[column.name] for column in found]
    return found


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
    described = columns_of(known)
    columns = _empty(items, described)
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
            errors_doubtful=np.array([_errors_doubtful(items[i]) for i in good], dtype=bool),
            min_z_prob=min_z_prob,
        )
    if "zwarn" in columns:
        columns["zwarn"] |= np.array([int(item.meta.get("zwarn", 0)) for item in items], dtype=int)
        columns["z_conf"] = z_conf(columns["zwarn"], columns["z_prob"])
        for i, bits in enumerate(columns["zwarn"]):
            columns["flags"][i] = _joined(columns["flags"][i], ZWarn(int(bits)))
        if "class" in columns:
            uncertain = columns["z_err"] * LIGHT_SPEED > MAX_VELOCITY_ERROR
            for i in np.flatnonzero((columns["class"] == "STAR") & uncertain):
                words = filter(None, [columns["flags"][i], VELOCITY_UNCERTAIN])
                columns["flags"][i] = ";".join(words)
    return _to_table(columns, described)


def shown(table: Table, names: Sequence[str]) -> Table:
    """These columns of a table of `table_of`.

    Without ``z`` and ``zwarn``, ``flags`` is without the doubts about the redshift alone.
    """
    own = table[list(names)]
    if "flags" in names and not {"z", "zwarn"} & set(names):
        doubtful = {VELOCITY_UNCERTAIN, *(bit.name for bit in OF_REDSHIFT)}
        kept = [[word for word in text.split(";") if word not in doubtful] for text in own["flags"]]
        own["flags"][:] = [";".join(words) for words in kept]
    return own


def _joined(flags: str, bits: ZWarn) -> str:
    """The words of ``flags`` and the names of these bits, each once."""
    words = [flags, *(str(bit.name) for bit in bits if bit.name not in flags.split(";"))]
    return ";".join(filter(None, words))


def _coverage(item: Item) -> float:
    """Share of the grid's pixels that are good."""
    return float(np.mean(item.prepared.ivar > 0)) if item.prepared is not None else 0.0


def _empty(items: Sequence[Item], described: Sequence[schema.Column]) -> Columns:
    """Columns without a prediction: NaN, None or empty text where there is nothing."""
    n = len(items)
    empty: dict[str, Any] = {"text": "", "int32": None, "int64": None}
    columns: dict[str, Any] = {
        one.name: np.full(n, empty[one.type], dtype=object) if one.type in empty
        else np.full(n, np.nan)
        for one in described
    }  # fmt: skip
    columns["file"] = np.array([item.file for item in items], dtype=object)
    columns["row"] = np.array([item.row for item in items], dtype=int)
    columns["object_id"] = np.array([_text(item.meta.get("object_id")) for item in items], object)
    columns["survey"] = np.array([_text(item.meta.get("survey")) for item in items], object)
    columns["ra"], columns["dec"] = positions.of_spectra([item.meta for item in items])
    numbers = [identity.numbers(item.meta, item.label) for item in items]
    for name in schema.IDENTIFIERS:
        columns[name] = np.array([one.get(name) for one in numbers], dtype=object)
    columns["sn_median"] = np.array([item.sn_median for item in items], dtype=float)
    columns["flags"] = np.array([_flags(item) for item in items], dtype=object)
    if "zwarn" in columns:
        columns["zwarn"] = np.full(n, int(ZWarn.NODATA))
        columns["z_conf"] = np.zeros(n, dtype=int)
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
    if _errors_doubtful(item):
        words.append("ERRORS_DOUBTFUL")
    words += item.meta.get("flags", ())
    return ";".join(words)


def _errors_doubtful(item: Item) -> bool:
    return item.prepared is not None and item.prepared.errors_doubtful


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
    for column in schema.OF_REDSHIFT:
        if hasattr(found, column.name):
            columns[column.name][good] = getattr(found, column.name)
    for rank in range(decoding.ALTERNATIVES):
        columns[f"z_alt{rank + 1}"][good] = found.alt_z[:, rank]
        columns[f"z_alt{rank + 1}_prob"][good] = found.alt_prob[:, rank]
    if "rv" in columns:
        is_star = columns["class"][good] == "STAR"
        columns["rv"][good[is_star]] = LIGHT_SPEED * found.z[is_star]
        columns["rv_err"][good[is_star]] = LIGHT_SPEED * found.z_err[is_star]


def _to_table(columns: Columns, described: Sequence[schema.Column]) -> Table:
    """A table of these columns, masked where there is nothing."""
    from astropy.table import Table

    table = Table()
    for column in described:
        values = columns[column.name]
        if column.type == "float64":
            values = values.round(7)  # of z 30 m/s, of a position 0.4 mas; what follows is noise
        table[column.name] = schema.filled(column.name, values, column)
    return table


def complete(table: Table, own: Table) -> None:
    """Fill positions and numbers that files leave out with those that a catalogue states.

    Parameters
    ----------
    table : Table
        As `table_of` makes it; changed in place.
    own : Table
        The rows of the catalogue that asked for them.
    """
    rows = identity.of_table(own)
    values: dict[str, Any] = {
        name: [row.get(name) for row in rows] for name in schema.IDENTIFIERS
    }  # fmt: skip
    if np.any(table["ra"].mask):
        try:
            places = positions.in_degrees(own)
        except UsageError:  # positions of an unknown kind are none; nothing is looked up by them
            places = None
        if places is not None:
            values |= {"ra": places.ra, "dec": places.dec}
    for name, known in values.items():
        column = table[name]
        for i in np.flatnonzero(column.mask).tolist():
            if known[i] is not None and known[i] == known[i]:
                column[i] = known[i]


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
