"""The paper's baselines, trained on the training split and asked about the held-out one.

Their answers are kept: weights trained with the same split are compared with the same baselines,
which need not be trained again.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.evaluation.baselines import svm_rf
from spectromer_cli.evaluation.held_out import Split, letters_of
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training import dataset
from spectromer_cli.training.dataset import LabelledSpectra

if TYPE_CHECKING:
    import torch
    from astropy.table import Table

# What each is, for the report.
BASELINES = {
    "svm": "support vector machines (RBF) on principal components of the flux: SVC and SVR",
    "rf": "random forests on principal components of the flux",
    "specformer": "a 1-D transformer on the flux, like AstroCLIP's spectrum encoder, from scratch",
}
# Share of the training objects that settings are chosen by.
INNER_SHARE = 0.1


def parse(text: str) -> list[str]:
    """The baselines of a comma-separated list.

    Raises
    ------
    UsageError
        If one is unknown, or scikit-learn is needed and missing.
    """
    names = list(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    unknown = [name for name in names if name not in BASELINES]
    if unknown or not names:
        raise UsageError(
            f"--baseline {text}: no such baseline", f"choose among {','.join(BASELINES)}"
        )
    if {"svm", "rf"} & {*names} and importlib.util.find_spec("sklearn") is None:
        raise UsageError(
            "svm and rf need scikit-learn, which is not installed",
            "pip install 'spectromer[baselines]'",
        )
    return names


def answers_of(
    name: str,
    split: Split,
    grid: Grid,
    *,
    origin: Mapping[str, Any],
    folder: Path,
    minutes: float,
    device: torch.device,
) -> Table:
    """What a baseline says of the held-out spectra: kept from before, or trained now.

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    split : Split
    grid : Grid
        The model's, which the flux is cut to.
    origin : mapping
        What tells these data and this split from others: ``data_sha256``, ``split``.
    folder : Path
        Where ``baseline-NAME.ecsv`` is kept.
    minutes : float
        Of training, for the specformer.
    device : torch.device

    Returns
    -------
    astropy.table.Table
        ``class``, ``p_star``, ``p_galaxy``, ``p_qso``, ``subclass``, ``z``, one row a spectrum.

    Raises
    ------
    UsageError
        If the set's grid does not hold the model's, or the set is too small.
    """
    path = folder / f"baseline-{name}.ecsv"
    own = {"minutes": minutes} if name == "specformer" else {}
    recipe = _specformer_settings() if name == "specformer" else svm_rf.settings(name)
    # Another seed than that of the split itself, whose hash has no training object so low.
    inner_seed = int(origin["split"]["seed"]) + 1
    inner = {"share": INNER_SHARE, "seed": inner_seed}
    made_by = json.loads(
        json.dumps({**origin, "grid": asdict(grid), "settings": recipe, "inner": inner, **own})
    )
    kept = _read_kept(path, made_by)
    if kept is not None and len(kept) == len(split.held_out):
        console.info(f"{name}: answers of an earlier run, from {path}")
        return kept
    columns = _train(name, split, grid, inner_seed, minutes, device)
    return _keep(path, columns, made_by)


def _train(
    name: str, split: Split, grid: Grid, inner_seed: int, minutes: float, device: torch.device
) -> dict[str, np.ndarray]:
    try:
        flux, ivar = dataset.on_model_grid(split.held_out, grid)
        training = _training(split.training, grid)
    except ValueError as error:
        raise UsageError(f"no baseline can be trained: {error}", "leave out --baseline") from error
    inner = dataset.validation_mask(split.training.group, INNER_SHARE, inner_seed)
    if not inner.any() or inner.all():
        raise UsageError("too few objects to train a baseline on", "leave out --baseline")
    if name != "specformer":
        return svm_rf.answer(name, training, inner, flux, ivar)
    from spectromer_cli.evaluation.baselines import specformer

    return specformer.answer(training, inner, flux, ivar, grid, minutes=minutes, device=device)


def _training(data: LabelledSpectra, grid: Grid) -> dict[str, np.ndarray]:
    flux, ivar = dataset.on_model_grid(data, grid)
    letters = letters_of(data)
    return {"flux": flux, "ivar": ivar, "class": data.class_, "letter": letters, "z": data.z}


def _specformer_settings() -> dict[str, Any]:
    from spectromer_cli.evaluation.baselines.specformer import SETTINGS

    return SETTINGS


def _read_kept(path: Path, made_by: dict[str, Any]) -> Table | None:
    """Answers of an earlier run; None where there are none, or they were made otherwise."""
    from astropy.table import Table

    if not path.exists():
        return None
    try:
        table = Table.read(path, format="ascii.ecsv")
        same = json.loads(table.meta["made_by"]) == made_by
    except (OSError, ValueError, KeyError, TypeError) as error:
        console.warn(f"{path} cannot be used again ({error}): the baseline is trained anew")
        return None
    return table if same else None


def _keep(path: Path, columns: dict[str, np.ndarray], made_by: dict[str, Any]) -> Table:
    from astropy.table import Table

    table = Table(columns, meta={"made_by": json.dumps(made_by)})
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return table


def remarks(names: Sequence[str], minutes: float) -> list[str]:
    """What the report must say about the baselines, one line each."""
    if not names:
        return []
    lines = []
    for name in names:
        more = f", trained for {minutes:g} minutes" if name == "specformer" else ""
        lines.append(f"`{name}`: {BASELINES[name]}{more}.")
    return [
        *lines,
        f"All learn from the same training split, with settings chosen by {INNER_SHARE:.0%} of "
        "its objects. `svm` and `rf` learn those spectra as they are; the `specformer` learns "
        "from them with the changes that the ViT's batches make (noise, windows, shifts in z, "
        "warps), classes drawn evenly. None sees simulated spectra or starts from other weights.",
        "Redshifts of the baselines are learned from galaxies and quasars (`svm`, `rf`) or from "
        "all (`specformer`), and count whatever class they found; so does the letter of a star, "
        "where the class is right. They measure no radial velocities.",
    ]
