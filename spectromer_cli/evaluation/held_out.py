"""The spectra of a labelled set that weights may be evaluated on: those not used in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.accuracy import wrong_labels
from spectromer_cli.errors import ReadError, UsageError

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.spectra.grid import Grid
    from spectromer_cli.training.dataset import LabelledSpectra
    from spectromer_cli.training.targets import Target
    from spectromer_cli.weights.store import Weights

SPLIT = "split.ecsv"


@dataclass(frozen=True)
class HeldOut:
    """A labelled set, split as it was for training.

    Parameters
    ----------
    data : LabelledSpectra
    targets : list of Target
        The labels of the model's tasks.
    training, testing : bool array, shape (n,)
        Spectra with a label. No object is on both sides.
    said : str
        How the split was chosen, for the provenance.
    seed : int
        Of the split.
    """

    data: LabelledSpectra
    targets: list[Target]
    training: np.ndarray
    testing: np.ndarray
    said: str
    seed: int

    def remarks(self) -> list[str]:
        """Remarks of the report on the split, one line each."""
        surveys = Counter(self.data.survey[self.testing].tolist())
        counts = ", ".join(f"{name or 'unknown'} {n}" for name, n in surveys.most_common())
        count = int(self.testing.sum())
        labels = [
            "The reference values are the labels of the set, at every S/N. A label that is wrong, "
            "but not listed as wrong, counts against the prediction.",
            *wrong_labels.remark(self.data.mislabelled),
        ]
        unread = len(self.data.unread)
        missing = [f"{unread} spectra of the set cannot be read and are left out."] * bool(unread)
        if not self.training.any():
            return [
                f"Evaluated: all {count} spectra of the set that have a label ({counts}). The user "
                "states that none of them was used in training; this is not checked.",
                *labels,
                *missing,
            ]
        return [
            f"Evaluated: {count} spectra of objects not used in training ({counts}); trained on: "
            f"{int(self.training.sum())} of the set. Only spectra whose label has no warning from "
            f"the survey.",
            "The temperatures of the probabilities and, for the general model, the scales of the "
            "redshift errors, the table of confidences and the limits of the outlier score were "
            "also fitted on held-out spectra; nothing else was.",
            *labels,
            *missing,
        ]


def hold_out(
    data: LabelledSpectra,
    targets: Sequence[Target],
    weights: Weights,
    fraction: float | None,
    seed: int | None,
) -> HeldOut:
    """Split a labelled set as it was for the training of weights.

    Parameters
    ----------
    data : LabelledSpectra
    targets : sequence of Target
        The first one decides which spectra have a label, if it is a category; else any.
    weights : Weights
        They record their split in their header or, after fine-tuning, in ``split.ecsv`` beside
        them.
    fraction, seed : float, int or None
        The user's choice; a fraction of 1 evaluates all.

    Raises
    ------
    UsageError
        If it is not known what was held out, the user and the weights disagree, or nothing is held
        out.
    """
    from spectromer_cli.training import split

    first = targets[0]
    labelled = first.known if first.labels else np.any([t.known for t in targets], axis=0)
    record = weights.path.parent / SPLIT
    if fraction == 1.0 and seed is None:
        testing, said, used = np.ones(len(data), dtype=bool), "all of the set", 0
    elif not weights.config.split and record.is_file() and fraction is None and seed is None:
        testing, said, used = unseen(data, record, weights.config.grid), f"not in {record}", 0
    else:
        chosen = choose_split(weights.config.split, fraction, seed)
        used = int(chosen["seed"])
        testing = split.places(data.group, used) < chosen["fraction"]
        said = f"{chosen['fraction']:g} of the objects, seed {used}"
    if not (testing & labelled).any():
        raise UsageError(
            "no spectrum with a label is held out",
            "give a larger --held-out, or --held-out 1 for a set not used in training",
        )
    return HeldOut(data, list(targets), ~testing & labelled, testing & labelled, said, used)


def choose_split(
    recorded: dict[str, float], fraction: float | None, seed: int | None
) -> dict[str, float]:
    """The split that weights are evaluated on, by fraction and seed.

    Parameters
    ----------
    recorded : dict
        ``fraction`` and ``seed`` of the weights' own split; empty where they have none.
    fraction, seed : float, int or None
        The user's.

    Raises
    ------
    UsageError
        If neither states the split, or the user and the weights disagree.
    """
    if not recorded:
        if fraction is None or seed is None:
            raise UsageError(
                "these weights do not record which objects were held out",
                "give the split used in training, such as --held-out 0.15 --split-seed 1, or "
                "--held-out 1 for a set not used in training",
            )
        return {"fraction": fraction, "seed": seed}
    for name, value in (("fraction", fraction), ("seed", seed)):
        if value is not None and value != recorded[name]:
            raise UsageError(
                f"the weights were trained with another split: {name} {recorded[name]:g}",
                "leave out --held-out and --split-seed, or give --held-out 1 for a set not used in "
                "training",
            )
    return {"fraction": float(recorded["fraction"]), "seed": int(recorded["seed"])}


def unseen(data: LabelledSpectra, record: Path, grid: Grid) -> np.ndarray:
    """Spectra of objects that were not used in a fine-tuning.

    Parameters
    ----------
    data : LabelledSpectra
    record : Path
        ``split.ecsv`` of the run: its spectra with their positions and contents.
    grid : Grid
        Of the weights.

    Returns
    -------
    bool array, shape (n,)
        False for copies of spectra of the training and validation splits or of a fold, and for
        all spectra of their objects (within 1″).

    Raises
    ------
    ReadError
        If the record cannot be read.
    """
    from spectromer_cli.spectra.positions import same_objects

    try:
        learned = _learned(record)
        ra = np.append(np.asarray(learned["ra"], float), data.ra)
        dec = np.append(np.asarray(learned["dec"], float), data.dec)
        contents = [*map(str, learned["content"]), *data.contents(grid)]
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(
            f"{record} cannot be read: {error}", "give the split: --held-out and --split-seed"
        ) from error
    group = same_objects(ra, dec, contents)
    own = group[len(learned) :]
    # Spectra of one object of the set stay together, also without a position.
    seen = np.isin(own, group[: len(learned)])
    return ~np.isin(data.group, data.group[seen])


def _learned(record: Path) -> Table:
    from astropy.table import Table

    table = Table.read(record, format="ascii.ecsv")
    return table[np.asarray(table["split"]).astype(str) != "test"]
