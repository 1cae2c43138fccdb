"""Baselines: trained on the training split of the weights, and judged by the same spectra.

Their predictions are kept: weights trained with the same split are compared with the same
baselines, which need not be trained again.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.model import taxonomy
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.grid import Grid

if TYPE_CHECKING:
    import torch
    from astropy.table import Table

    from spectromer_cli.evaluation.held_out import HeldOut
    from spectromer_cli.training.targets import Target

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
    if not names or not {*names} <= {*BASELINES}:
        raise UsageError(f"invalid --baseline {text!r}", f"choose from {','.join(BASELINES)}")
    if {"svm", "rf"} & {*names} and importlib.util.find_spec("sklearn") is None:
        raise UsageError(
            "svm and rf need scikit-learn, which is not installed",
            "pip install 'spectromer[baselines]'",
        )
    return names


def targets_of(targets: Sequence[Target]) -> list[Target]:
    """What the baselines learn of the targets of a model.

    Of the general model class, letter of stars (as ``subclass``) and redshift; of others all
    labels and numbers.
    """
    named = {target.name: target for target in targets}
    if not ("subclass" in named and {*named["subclass"].labels} <= {*taxonomy.SUBCLASSES}):
        return list(targets)
    letters = tuple(taxonomy.STAR_TYPES)
    number = {f"STAR {name}": i for i, name in enumerate(letters)}
    of_subclass = np.array([*(number.get(name, -1) for name in named["subclass"].labels), -1])
    values = of_subclass[named["subclass"].values]
    subclass = replace(named["subclass"], values=values, labels=letters, fixed=None)
    own = {"class": named["class"], "subclass": subclass, "z": named["z"]}
    further = [t for t in targets if t.name not in (*own, "star_type", *taxonomy.PARAMETERS)]
    return [*own.values(), *further]


def predictions_of(
    name: str,
    held_out: HeldOut,
    grid: Grid,
    *,
    origin: Mapping[str, Any],
    folder: Path,
    minutes: float,
    device: torch.device,
) -> Table:
    """Predictions of a baseline for the held-out spectra, from an earlier run if possible.

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    held_out : HeldOut
    grid : Grid
        The model's, which the flux is brought onto.
    origin : mapping
        What tells these data and this split from others.
    folder : Path
        Where ``baseline-NAME.ecsv`` is kept.
    minutes : float
        Of training, for the specformer.
    device : torch.device

    Returns
    -------
    astropy.table.Table
        One row per spectrum: a column for each target, and of the class ``p_<label>``.

    Raises
    ------
    UsageError
        If the set is too small.
    """
    from spectromer_cli.evaluation.baselines import specformer, svm_rf
    from spectromer_cli.training import split

    path = folder / f"baseline-{name}.ecsv"
    own = {"minutes": minutes} if name == "specformer" else {}
    recipe = specformer.SETTINGS if name == "specformer" else svm_rf.settings(name)
    targets = targets_of(held_out.targets)
    # Another seed than that of the split itself, whose hash has no training object so low.
    inner_seed = int(held_out.seed) + 1
    made_by = json.loads(json.dumps({
        **origin, "grid": asdict(grid), "settings": recipe,
        "targets": [target.name for target in targets],
        "inner": {"share": INNER_SHARE, "seed": inner_seed}, **own,
    }))  # fmt: skip
    kept = _read_kept(path, made_by)
    if kept is not None and len(kept) == held_out.testing.sum():
        console.info(f"{name}: using predictions of an earlier run from {path}")
        return kept
    inner = split.places(held_out.data.group, inner_seed) < INNER_SHARE
    inner &= held_out.training
    learning = held_out.training & ~inner
    if not inner.any() or not learning.any():
        raise UsageError("too few objects to train a baseline on", "leave out --baseline")
    if name == "specformer":
        columns = specformer.predict(
            held_out.data, targets, learning, inner, held_out.testing, grid,
            minutes=minutes, device=device,
        )  # fmt: skip
    else:
        columns = svm_rf.predict(
            name, held_out.data, targets, learning, inner, held_out.testing, grid
        )
    return _keep(path, columns, made_by)


def _read_kept(path: Path, made_by: dict[str, Any]) -> Table | None:
    """Predictions of an earlier run; None if there are none, or with other settings."""
    from astropy.table import Table

    if not path.exists():
        return None
    try:
        table = Table.read(path, format="ascii.ecsv")
        same = json.loads(table.meta["made_by"]) == made_by
    except (OSError, ValueError, KeyError, TypeError) as error:
        console.warn(f"{path} cannot be reused ({error}): training the baseline again")
        return None
    return table if same else None


def _keep(path: Path, columns: dict[str, np.ndarray], made_by: dict[str, Any]) -> Table:
    from astropy.table import Table

    table = Table(columns, meta={"made_by": json.dumps(made_by)})
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return table


def remarks(names: Sequence[str], minutes: float) -> list[str]:
    """Remarks of the report on the baselines, one line each."""
    if not names:
        return []
    lines = []
    for name in names:
        more = f", trained for {minutes:g} minutes" if name == "specformer" else ""
        lines.append(f"`{name}`: {BASELINES[name]}{more}.")
    return [
        *lines,
        f"All are trained on the same training split, with settings chosen on {INNER_SHARE:.0%} of "
        "its objects. `svm` and `rf` are trained on the spectra as they are; the `specformer` is "
        "trained with the augmentations of the ViT (noise, windows, shifts in z, warps) and "
        "balanced classes. None uses simulated spectra or starts from other weights.",
        "Redshifts of the baselines are learned from galaxies and quasars (`svm`, `rf`) or from "
        "all spectra (`specformer`), and are evaluated whatever class is predicted; spectral "
        "classes of stars only where the class is correct. The baselines measure no radial "
        "velocities.",
    ]
