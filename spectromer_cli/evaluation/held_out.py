"""A labelled set, parted as it was for training: the held-out side as items, and its truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import taxonomy
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.loading import Item, item_of
from spectromer_cli.spectra.spectrum import Spectrum
from spectromer_cli.training import dataset
from spectromer_cli.training.dataset import LabelledSpectra

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass
class Split:
    """The two sides of a labelled set; only spectra with a trusted class.

    Parameters
    ----------
    training, held_out : LabelledSpectra
        No object is on both sides.
    rows : array of int, shape (len(held_out),)
        Where the held-out spectra are in the file.
    """

    training: LabelledSpectra
    held_out: LabelledSpectra
    rows: np.ndarray


def choose_split(
    recorded: Mapping[str, float], fraction: float | None, seed: int | None
) -> dict[str, float]:
    """The split that weights are to be judged by.

    Parameters
    ----------
    recorded : mapping
        ``fraction`` and ``seed`` of the weights' own split; empty in older weights.
    fraction, seed : float, int or None
        The user's.

    Returns
    -------
    dict
        ``fraction`` and ``seed``.

    Raises
    ------
    UsageError
        If nobody says, or the user and the weights do not agree.
    """
    given = {"fraction": fraction, "seed": seed}
    if fraction == 1.0 and seed is None:
        return {"fraction": 1.0, "seed": 0}  # a set that nothing was trained on
    if not recorded:
        if fraction is None or seed is None:
            raise UsageError(
                "these weights do not record which objects were held out",
                "give the split they were trained with, such as --held-out 0.15 --split-seed 1",
            )
        return {"fraction": fraction, "seed": seed}
    for name, value in given.items():
        if value is not None and value != recorded[name]:
            raise UsageError(
                f"the weights were trained with another split: {name} {recorded[name]:g}",
                "leave out --held-out and --split-seed; for a set that they have not seen at all, "
                "say --held-out 1",
            )
    return {"fraction": float(recorded["fraction"]), "seed": int(recorded["seed"])}


def load_split(path: Path, split: Mapping[str, float]) -> Split:
    """Read a labelled set and part it.

    Parameters
    ----------
    path : Path
        See `dataset.load`.
    split : mapping
        As `choose_split` gives it.

    Returns
    -------
    Split

    Raises
    ------
    ReadError
        If the file is no labelled set.
    UsageError
        If nothing is held out.
    """
    data = dataset.load(path)
    held_out = dataset.validation_mask(data.group, split["fraction"], int(split["seed"]))
    trusted = data.class_ >= 0
    rows = np.flatnonzero(held_out & trusted)
    if not len(rows):
        raise UsageError(f"{path}: no spectrum with a class is held out", "give more --held-out")
    return Split(data.take(~held_out & trusted), data.take(rows), rows)


def items_of(split: Split, path: Path, grid: Grid) -> Iterator[Item]:
    """The held-out spectra as they would come from files.

    Parameters
    ----------
    split : Split
    path : Path
        Their file, for the rows.
    grid : Grid
        The model's.

    Yields
    ------
    Item
        Labels are not in it.
    """
    data = split.held_out
    for number, row in enumerate(split.rows):
        meta = {
            "survey": str(data.survey[number]),
            "object_id": str(data.group[number]),
            "has_ivar": bool(data.has_ivar[number]),
        }
        spectrum = Spectrum(data.grid.wavelength, data.flux[number], data.ivar[number], meta)
        yield item_of(spectrum, str(path), int(row), grid)


def letters_of(data: LabelledSpectra) -> np.ndarray:
    """The letter of each star, one of `taxonomy.STAR_TYPES`; empty where there is none."""
    letters = np.array([name.removeprefix("STAR ") for name in _subclasses_of(data)])
    return np.where(data.class_ == taxonomy.CLASSES.index("STAR"), letters, "")


def _subclasses_of(data: LabelledSpectra) -> np.ndarray:
    """One of `taxonomy.SUBCLASSES` each; empty where there is none."""
    return np.array([*taxonomy.SUBCLASSES, ""])[data.subclass]


def details_of(data: LabelledSpectra) -> dict[str, np.ndarray]:
    """What is known beyond class and redshift, as `evaluate.evaluate` takes it."""
    return {"subclass": _subclasses_of(data), "letter": letters_of(data), **data.labels}


def truth_table(data: LabelledSpectra) -> Table:
    """Columns of the truth, to be put beside the answers.

    Returns
    -------
    astropy.table.Table
        ``class_true``, ``z_true``, ``subclass_true`` (the survey's own words), ``teff_true``,
        ``logg_true``, ``feh_true``.
    """
    from astropy.table import Table

    table = Table({"class_true": np.array(taxonomy.CLASSES)[data.class_], "z_true": data.z})
    table["subclass_true"] = data.subclass_name.astype(str)
    for name in dataset.STELLAR:
        table[f"{name}_true"] = data.labels[name]
    return table


def remarks(split: Split) -> list[str]:
    """What the report must say about the split, one line each."""
    surveys = Counter(split.held_out.survey)
    counts = ", ".join(f"{name} {count}" for name, count in surveys.most_common())
    truth = (
        "The truth is what the surveys say, at whatever S/N. Some of it is wrong, and counts "
        "against the answer all the same."
    )
    if not len(split.training):
        return [
            f"Judged: all {len(split.held_out)} spectra of the set whose class has no warning of "
            f"the survey ({counts}). That training saw none of them was said, not checked.",
            truth,
        ]
    return [
        f"Judged: {len(split.held_out)} spectra of objects that training did not see ({counts}); "
        f"trained on: {len(split.training)} spectra, and simulated ones. Only spectra whose class "
        "has no warning of the survey.",
        "The temperatures of the probabilities, the scales of the redshift errors, the table of "
        "confidences and the limits of the outlier score were fitted on these same held-out "
        "spectra; nothing else was.",
        truth,
    ]
