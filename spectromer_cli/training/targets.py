"""From label columns to tasks of the model and their targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.metrics import robust_sigma
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.training.dataset import MISSING, LabelledSpectra

# Columns of these names are classes even if they are numbers.
CLASS_NAMES = ("class", "subclass", "type", "label")
# A class with fewer objects can be learned or tested, not both.
MIN_MEMBERS = 2
# The surveys whose pipelines classify galaxies and quasars by their emission lines.
LINE_CLASSIFYING = ("SDSS", "BOSS", "eBOSS")


@dataclass
class Target:
    """One quantity that is to be learned.

    Parameters
    ----------
    name : str
        Of the task.
    values : array, shape (n,)
        Of a category: numbers of `labels` (int64), −1 unknown. Else floats, NaN unknown.
    labels : tuple of str
        Of a category; empty for a number.
    fixed : Task, optional
        The task, where it does not depend on the data.
    of_z : callable, optional
        The value as a function of the redshift, for what changes with it when a spectrum is
        shifted.
    """

    name: str
    values: np.ndarray
    labels: tuple[str, ...] = ()
    fixed: tasks.Task | None = None
    of_z: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def known(self) -> np.ndarray:
        """Which rows have a label: bool array, shape (n,)."""
        return self.values >= 0 if self.labels else np.isfinite(self.values)

    @property
    def shown(self) -> np.ndarray:
        """The labels of a category as texts, empty where unknown; numbers as they are."""
        return np.array([*self.labels, ""])[self.values] if self.labels else self.values

    def tensor(self, rows: np.ndarray) -> torch.Tensor:
        """The values of some rows as the loss takes them."""
        values = torch.from_numpy(self.values[rows])
        return values if self.labels else values.float()

    def task(self, train: np.ndarray) -> tasks.Task:
        """The task that predicts it.

        Parameters
        ----------
        train : bool array, shape (n,)
            The training split, whose median and width standardise a number.
        """
        if self.fixed is not None:
            return self.fixed
        if self.labels:
            return tasks.Category(self.name, self.labels)
        values = self.values[train & self.known]
        centre = float(np.median(values))
        # The robust width; the standard deviation where more than half of the values are equal.
        scale = robust_sigma(values - centre) or float(values.std())
        return tasks.Quantity(self.name, centre, scale or 1.0)


def general(data: LabelledSpectra, known: Sequence[tasks.Task] = ()) -> list[Target]:
    """Targets of the general model's tasks, from the labels in the surveys' own words.

    Parameters
    ----------
    data : LabelledSpectra
        With any of the labels of `dataset.GENERAL_LABELS`.
    known : sequence of Task
        Of weights, which may know fewer types than `model.tasks.default_tasks`.

    Returns
    -------
    list of Target
        One per task of `model.tasks.default_tasks`, in their order; as the weights have it, where
        they do.
    """
    n = len(data)
    own = {(task.name, task.kind): task for task in known}
    general_tasks = [own.get((task.name, task.kind), task) for task in tasks.default_tasks()]
    labels = {
        task.name: task.labels
        for task in general_tasks
        if isinstance(task, tasks.Category | tasks.Ordered)
    }
    text = {
        name: np.ma.filled(data.labels[name].astype(str), "")
        if name in data.labels
        else np.full(n, "")
        for name in ("class", "subclass")
    }
    classes = np.array([name.strip().upper() for name in text["class"]])
    star = classes == "STAR"
    subclasses = [
        taxonomy.subclass_label(name, sub, survey in LINE_CLASSIFYING) or ""
        for name, sub, survey in zip(classes, text["subclass"], data.survey, strict=True)
    ]
    place = np.array([taxonomy.star_place(name) for name in text["subclass"]])
    place = np.where(star & (place <= len(labels["star_type"]) - 0.5), place, np.nan)
    values: dict[str, np.ndarray] = {
        "class": _numbers(classes, labels["class"]),
        "subclass": _numbers(np.array(subclasses), labels["subclass"]),
        "star_type": place,
        "z": _floats("z", data.labels.get("z"), n),
    }  # fmt: skip
    for name in taxonomy.PARAMETERS:
        values[name] = np.where(star, _floats(name, data.labels.get(name), n), np.nan)
    return [
        Target(
            task.name,
            values[task.name],
            task.labels if isinstance(task, tasks.Category) else (),
            fixed=task,
            of_z=np.array if isinstance(task, tasks.Redshift) else None,
        )
        for task in general_tasks
    ]


def of_tasks(
    labels: Mapping[str, np.ma.MaskedArray], known: Sequence[tasks.Task], n: int
) -> list[Target]:
    """Targets of a model's tasks, from label columns of the same names.

    Parameters
    ----------
    labels : mapping of str to masked array, shape (n,)
        A label that the task does not know, and a redshift of −1 or less, count as unknown.
    known : sequence of Task
    n : int

    Returns
    -------
    list of Target
        Of the tasks that there is a column of.

    Raises
    ------
    UsageError
        If a number is expected and there is a text.
    """
    found = []
    for task in known:
        if task.name not in labels:
            continue
        column = labels[task.name]
        if isinstance(task, tasks.Category):
            texts = np.array(_texts(column))
            if task.labels == taxonomy.CLASSES:
                texts = np.char.upper(texts)
            found.append(Target(task.name, _numbers(texts, task.labels), task.labels, task))
            continue
        if isinstance(task, tasks.Ordered):
            values = np.array([taxonomy.star_place(text) for text in _texts(column)])
        else:
            values = _floats(task.name, column, n)
        if isinstance(task, tasks.Redshift):
            values = np.where(values > -1.0, values, np.nan)  # −9999 and its like: unknown
        is_z = isinstance(task, tasks.Redshift)
        found.append(Target(task.name, values, fixed=task, of_z=np.array if is_z else None))
    return found


def true_columns(targets: Sequence[Target], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The labels of some rows as columns ``<task>_true``: texts, or numbers as they are."""
    return {f"{target.name}_true": target.shown[rows] for target in targets}


def references(targets: Sequence[Target], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The labels of some rows by task, as `accuracy.summary.summarise` takes them.

    Of the general model's stars there is also the ``letter`` of the type.
    """
    found = {target.name: target.shown[rows] for target in targets}
    labels = {target.name: target.labels for target in targets}
    subclasses = labels.get("subclass", ())
    if "class" in found and subclasses and {*subclasses} <= {*taxonomy.SUBCLASSES}:
        letters = np.char.replace(found["subclass"].astype(str), "STAR ", "")
        found["letter"] = np.where(found["class"] == "STAR", letters, "")
    return found


def _numbers(names: np.ndarray, known: tuple[str, ...]) -> np.ndarray:
    number = {name: i for i, name in enumerate(known)}
    return np.array([number.get(name, -1) for name in names], dtype=np.int64)


def _floats(name: str, column: np.ma.MaskedArray | None, n: int) -> np.ndarray:
    """A label column as numbers, NaN where there is none."""
    if column is None:
        return np.full(n, np.nan)
    texts = _texts(column)
    numbers = [_number(text) for text in texts]
    odd = [text for text, number in zip(texts, numbers, strict=True) if text and number is None]
    if odd:
        raise UsageError(
            f"the column {name} holds {odd[0]!r}, which is not a number", "choose another column"
        )
    return np.array([np.nan if number is None else number for number in numbers])


def _texts(column: np.ma.MaskedArray) -> list[str]:
    """The cells as text, empty for whatever stands for a missing label."""
    mask = np.ma.getmaskarray(column)
    texts = [
        "" if gone else str(value).strip()
        for value, gone in zip(np.ma.getdata(column), mask, strict=True)
    ]
    return ["" if text.lower() in MISSING else text for text in texts]


def parse(wanted: str) -> dict[str, bool]:
    """What ``--target`` asks for.

    Parameters
    ----------
    wanted : str
        ``class,z`` or ``grade:class,teff``; ``:class`` makes a column of numbers a category.

    Returns
    -------
    dict of str to bool
        Column → whether it is a category for certain.
    """
    asked = {}
    for word in (word.strip() for word in wanted.split(",")):
        name, _, kind = word.partition(":")
        if not name or kind not in ("", "class"):
            raise UsageError(
                f"invalid --target {wanted!r}: {word!r}",
                "give column names separated by commas, such as class,z or grade:class",
            )
        asked[name] = kind == "class" or name.lower() in CLASS_NAMES
    return asked


def make(
    columns: dict[str, np.ma.MaskedArray], group: np.ndarray, category: dict[str, bool]
) -> list[Target]:
    """Turn label columns into targets.

    Parameters
    ----------
    columns : dict of str to masked array, shape (n,)
    group : array of int, shape (n,)
        The object of each row.
    category : dict of str to bool
        As `parse` gives it.

    Returns
    -------
    list of Target

    Raises
    ------
    UsageError
        If a column has no labels, one class only, labels of mixed type or one value only.
    """
    return [_target(name, values, group, category[name]) for name, values in columns.items()]


def _target(name: str, column: np.ma.MaskedArray, group: np.ndarray, is_category: bool) -> Target:
    texts = _texts(column)
    numbers = [_number(text) for text in texts]
    given = [text for text in texts if text]
    numeric = sum(number is not None for number in numbers)
    if not given:
        raise UsageError(f"the column {name} has no label in any row", "is it the right column?")
    if is_category:
        return _category(name, texts, group)
    if numeric == len(given):
        return _quantity(name, np.array([np.nan if n is None else n for n in numbers]))
    if numeric > 0 and name != "z":
        odd = next(t for t, n in zip(texts, numbers, strict=True) if t and n is None)
        raise UsageError(
            f"the column {name} mixes {numeric} numbers and {len(given) - numeric} texts such as "
            f"{odd!r}",
            f"leave those cells empty, or treat all as classes: --target {name}:class",
        )
    if name == "z":
        raise UsageError("the column z contains text, not redshifts", "is it the right column?")
    return _category(name, texts, group)


def _number(text: str) -> float | None:
    if text.lower() in ("true", "false"):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _category(name: str, texts: list[str], group: np.ndarray) -> Target:
    members = Counter(text for text, _ in {(t, g) for t, g in zip(texts, group, strict=True) if t})
    few = sorted(label for label, number in members.items() if number < MIN_MEMBERS)
    if few:
        console.warn(
            f"{name}: left out classes with fewer than {MIN_MEMBERS} objects: {', '.join(few[:10])}"
        )
    labels = sorted(set(members) - set(few))
    if len(labels) < 2:
        raise UsageError(
            f"the column {name} has {len(labels)} class{'es'[: 2 * (len(labels) != 1)]} with "
            f"{MIN_MEMBERS} objects or more; two are needed",
            "add spectra of another class",
        )
    if name == "class" and set(labels) <= set(taxonomy.CLASSES):
        labels = [label for label in taxonomy.CLASSES if label in labels]
    number = {label: i for i, label in enumerate(labels)}
    return Target(name, np.array([number.get(text, -1) for text in texts]), tuple(labels))


def _quantity(name: str, values: np.ndarray) -> Target:
    values = np.where(np.isfinite(values), values, np.nan)
    task = tasks.Redshift()
    if name == "z":
        x = np.log1p(np.maximum(values, -0.99))
        outside = np.isfinite(values) & ((x < task.x[0]) | (x > task.x[-1]))
        if outside.any():
            console.warn(
                f"z: skipped {outside.sum()} redshifts outside {task.x0:g} < ln(1+z) < "
                f"{task.x[-1]:.2f}"
            )
        values = np.where(outside, np.nan, values)
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() == known.max():
        raise UsageError(
            f"the column {name} has {len(known)} usable values"
            + (", all equal" if len(known) > 1 else ""),
            "a regression needs spectra with different values",
        )
    if name == "z":
        return Target(name, values, fixed=task, of_z=np.array)
    return Target(name, values)
