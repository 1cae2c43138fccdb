"""The paper's baselines of scikit-learn: support vector machines and random forests on PCA.

Settings are chosen on an inner split of the training objects; everything, the PCA too, is then
fitted again on all of the training split. No augmentation: they learn the spectra as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.spectra.grid import Grid

if TYPE_CHECKING:
    from spectromer_cli.training.dataset import LabelledSpectra
    from spectromer_cli.training.targets import Target

# Pixels averaged before the PCA; 4 pixels are 276 km/s.
BIN = 4
# In units of the spectrum's median: beyond lie cosmic rays and the strongest lines.
FLUX_RANGE = (-3.0, 20.0)
# What the inner split chooses among.
GRIDS: dict[str, dict[str, dict[str, list[Any]]]] = {
    "svm": {
        "pca": {"n_components": [50, 150, 300], "whiten": [False, True]},
        "model": {"C": [1.0, 10.0, 100.0]},
    },
    "rf": {
        "pca": {"n_components": [50, 150], "whiten": [False]},
        "model": {"min_samples_leaf": [1, 3]},
    },
}
TREES = 300


def settings(name: str) -> dict[str, Any]:
    """Everything but the data that the predictions depend on."""
    import sklearn

    return {
        "bin": BIN, "flux_range": FLUX_RANGE, "grid": GRIDS[name],
        "trees": TREES, "scikit-learn": sklearn.__version__,
    }  # fmt: skip


def flat(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Spectra as rows of numbers that a PCA understands.

    Parameters
    ----------
    flux, ivar : array, shape (n, pixels)
        Of median level 1; `ivar` is 0 where nothing was measured.

    Returns
    -------
    array of float32, shape (n, pixels // BIN)
        Gaps bridged by straight lines, dead ends filled with the median of the 50 good pixels
        next to them, averaged over `BIN` pixels, and scaled to mean 0 and σ 1.
    """
    rows = []
    pixels = np.arange(flux.shape[1])
    for one, weight in zip(flux, ivar, strict=True):
        good = np.flatnonzero(weight > 0)
        if not len(good):
            rows.append(np.zeros(len(pixels) // BIN))
            continue
        clipped = np.clip(one, *FLUX_RANGE)
        left, right = np.median(clipped[good[:50]]), np.median(clipped[good[-50:]])
        filled = np.interp(pixels, good, clipped[good], left=left, right=right)
        binned = filled[: len(pixels) // BIN * BIN].reshape(-1, BIN).mean(axis=1)
        rows.append((binned - binned.mean()) / max(binned.std(), 1e-6))
    return np.array(rows, dtype=np.float32)


def predict(
    name: str,
    data: LabelledSpectra,
    targets: Sequence[Target],
    learning: np.ndarray,
    inner: np.ndarray,
    testing: np.ndarray,
    grid: Grid,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Train a baseline and let it predict.

    Parameters
    ----------
    name : {"svm", "rf"}
    data : LabelledSpectra
    targets : sequence of Target
        What is learned: one classifier or regressor each. Redshifts are learned from all but
        stars.
    learning, inner, testing : bool array, shape (n,)
        Spectra that are learned from, that settings are chosen by (they are learned from in the
        end, too), and that are predicted.
    grid : Grid
        What the flux is brought onto.
    seed : int

    Returns
    -------
    dict of arrays, shape (m,)
        A column for each target; of the first category also ``p_<label>``, whose settings the
        other categories share.

    Raises
    ------
    UsageError
        If a class is missing from one of the parts, or there are too few numbers.
    """
    rows = flat(*data.on_grid(grid))
    train = learning | inner
    classes = next((target for target in targets if target.name == "class"), None)
    columns: dict[str, np.ndarray] = {}
    best: dict[str, Any] | None = None
    regressions = sum(not target.labels for target in targets)
    with console.progress(f"training {name}", (1 + regressions) * len(_choices(name))) as advance:
        for target in targets:
            known = train & target.known
            chosen = inner[known]
            if not target.labels:
                if target.of_z and classes is not None and "STAR" in classes.labels:
                    known &= classes.values != classes.labels.index("STAR")
                    chosen = inner[known]
                values = target.values[known]
                values = np.log1p(values) if target.of_z else values
                found = _regress(name, rows[known], values, chosen, rows[testing], advance, seed)
                columns[target.name] = np.expm1(found) if target.of_z else found
            elif best is None:
                p, best = _classify(
                    name, rows[known], target.values[known], chosen, rows[testing], advance, seed
                )
                whole = np.zeros((len(p), len(target.labels)))
                whole[:, np.unique(target.values[known])] = p
                columns[target.name] = np.array(target.labels)[whole.argmax(axis=1)]
                columns |= {f"p_{c.lower()}": whole[:, i] for i, c in enumerate(target.labels)}
            else:
                columns[target.name] = _labels(
                    name, best, rows[known], target, known, rows[testing], seed
                )
    return columns


def _labels(
    name: str,
    best: dict[str, Any],
    x: np.ndarray,
    target: Target,
    known: np.ndarray,
    asked: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Labels of a further category, with the settings of the first."""
    names = np.array(target.labels)[target.values[known]]
    if len(np.unique(names)) < 2:
        return np.full(len(asked), names[0] if len(names) else "")
    return _fit(name, False, best, seed, x, names).predict(asked).astype(str)


def _classify(
    name: str,
    x: np.ndarray,
    number: np.ndarray,
    inner: np.ndarray,
    asked: np.ndarray,
    advance: Callable[[float], None],
    seed: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities of the labels that occur, shape (len(asked), k), and the settings chosen."""
    from sklearn.linear_model import LogisticRegression

    everything = {*number}
    if len(everything) < 2 or {*number[inner]} != everything or {*number[~inner]} != everything:
        raise UsageError(
            "the training split is too small for baselines: a class is missing",
            "hold out less, or leave out --baseline",
        )
    tried = []
    for chosen in _choices(name):
        model = _fit(name, False, chosen, seed, x[~inner], number[~inner])
        tried.append((model.score(x[inner], number[inner]), chosen, model))
        advance(1)
    _, best, trial = max(tried, key=lambda each: each[0])
    final = _fit(name, False, best, seed, x, number)
    if name == "rf":
        return final.predict_proba(asked), best

    def distances(model: Any, rows: np.ndarray) -> np.ndarray:
        return model.decision_function(rows).reshape(len(rows), -1)

    # Platt's scaling, for several classes: distances to probabilities, on the inner split.
    scaling = LogisticRegression(max_iter=1000).fit(distances(trial, x[inner]), number[inner])
    return scaling.predict_proba(distances(final, asked)), best


def _regress(
    name: str,
    x: np.ndarray,
    target: np.ndarray,
    inner: np.ndarray,
    asked: np.ndarray,
    advance: Callable[[float], None],
    seed: int,
) -> np.ndarray:
    """Predicted numbers, shape (len(asked),)."""
    if len(x) < 10 or not inner.any() or inner.all():
        raise UsageError("too few numbers to train a baseline on", "leave out --baseline")
    centre, scale = target.mean(), max(target.std(), 1e-6)
    y = (target - centre) / scale
    tried = []
    for chosen in _choices(name):
        model = _fit(name, True, chosen, seed, x[~inner], y[~inner])
        tried.append((np.mean(np.abs(model.predict(x[inner]) - y[inner])), chosen))
        advance(1)
    _, best = min(tried, key=lambda each: each[0])
    return centre + scale * _fit(name, True, best, seed, x, y).predict(asked)


def _choices(name: str) -> list[dict[str, Any]]:
    """All settings of the grid."""
    grid = {
        f"{step}__{key}": values
        for step, parameters in GRIDS[name].items()
        for key, values in parameters.items()
    }
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _fit(
    name: str, regression: bool, chosen: dict[str, Any], seed: int, x: np.ndarray, y: np.ndarray
) -> Any:
    """PCA and model, fitted to rows x and their labels y."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.svm import SVC, SVR

    model: Any
    if name == "svm":
        # Classes count evenly, as they do in the batches of the ViT.
        model = SVR(epsilon=0.01) if regression else SVC(class_weight="balanced")
    elif regression:
        model = RandomForestRegressor(TREES, max_features=0.3, n_jobs=-1, random_state=seed)
    else:
        model = RandomForestClassifier(TREES, class_weight="balanced", n_jobs=-1, random_state=seed)
    pca = PCA(svd_solver="randomized", random_state=seed)
    pipeline = Pipeline([("pca", pca), ("model", model)]).set_params(**chosen)
    # A small set may have fewer spectra than components.
    pca.set_params(n_components=min(chosen["pca__n_components"], len(x) - 1))
    return pipeline.fit(x, y)
