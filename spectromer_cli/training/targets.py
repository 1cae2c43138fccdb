"""From a user's label columns to tasks of the model and their targets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.training.owndata import MISSING

# Columns of these names are classes even if they are numbers.
CLASS_NAMES = ("class", "subclass", "type", "label")
# A class with fewer objects can be learnt or judged, not both.
MIN_MEMBERS = 2


@dataclass
class Target:
    """One quantity that is to be learnt.

    Parameters
    ----------
    name : str
        Of the column, and of the task.
    values : array, shape (n,)
        Of a category: numbers of `labels` (int64), −1 unknown. Else floats, NaN unknown.
    labels : tuple of str
        Of a category; empty for a number.
    """

    name: str
    values: np.ndarray
    labels: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """Which rows have a label: bool array, shape (n,)."""
        return self.values >= 0 if self.labels else np.isfinite(self.values)

    def task(self, train: np.ndarray) -> tasks.Task:
        """The task that answers it.

        Parameters
        ----------
        train : bool array, shape (n,)
            The training split, whose median and width standardise a number.
        """
        if self.labels:
            return tasks.Category(self.name, self.labels)
        if self.name == "z":
            return tasks.Redshift()
        values = self.values[train & self.known]
        centre = float(np.median(values))
        # The robust width; the standard deviation where more than half of the values are equal.
        scale = 1.4826 * float(np.median(np.abs(values - centre))) or float(values.std())
        return tasks.Quantity(self.name, centre, scale or 1.0)


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
                f"--target {wanted}: {word!r} is no target",
                "give columns with commas between, as in class,z or grade:class",
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
    mask = np.ma.getmaskarray(column)
    texts = [
        "" if gone else str(value).strip()
        for value, gone in zip(np.ma.getdata(column), mask, strict=True)
    ]
    texts = ["" if text.lower() in MISSING else text for text in texts]
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
            f"the column {name} mixes types: {numeric} numbers and {len(given) - numeric} texts "
            f"such as {odd!r}",
            f"leave those cells empty, or take all as classes: --target {name}:class",
        )
    if name == "z":
        raise UsageError("the column z holds texts, not redshifts", "is it the right column?")
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
            f"{name}: left out, having fewer than {MIN_MEMBERS} objects: {', '.join(few[:10])}"
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
    if name == "z":
        x = np.log1p(np.maximum(values, -0.99))
        task = tasks.Redshift()
        outside = np.isfinite(values) & ((x < task.x[0]) | (x > task.x[-1]))
        if outside.any():
            console.warn(
                f"z: {outside.sum()} redshifts outside {task.x0:g} < ln(1+z) < 1.95 unused"
            )
        values = np.where(outside, np.nan, values)
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() == known.max():
        raise UsageError(
            f"the column {name} has {len(known)} usable values"
            + (", all equal" if len(known) > 1 else ""),
            "a number is learnt from spectra that differ in it",
        )
    return Target(name, values)
