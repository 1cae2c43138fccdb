"""The paper's baselines of scikit-learn: support vector machines and random forests on PCA.

Settings are chosen on an inner split of the training objects; everything, the PCA too, is then
fitted again on all of the training split. No augmentation: they learn the spectra as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.model import taxonomy

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
    """Everything that the answers depend on but the data."""
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


def answer(
    name: str,
    training: dict[str, np.ndarray],
    inner: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Train a baseline and let it answer.

    Parameters
    ----------
    name : {"svm", "rf"}
    training : dict of arrays, shape (n,) or (n, pixels)
        ``flux``, ``ivar``, ``class`` (number), ``letter``, ``z``.
    inner : bool array, shape (n,)
        The training spectra that settings are chosen by.
    flux, ivar : array, shape (m, pixels)
        What is asked.
    seed : int

    Returns
    -------
    dict of arrays
        ``class``, ``p_star``, ``p_galaxy``, ``p_qso``, ``subclass`` (a star's letter,
        whatever the class) and ``z``, learned from galaxies and quasars, shape (m,).

    Raises
    ------
    UsageError
        If a class is missing from the training split.
    """
    x, asked = flat(training["flux"], training["ivar"]), flat(flux, ivar)
    number, letter, z = training["class"], training["letter"], training["z"]
    everything = range(len(taxonomy.CLASSES))
    if {*number[inner]} != {*everything} or {*number[~inner]} != {*everything}:
        raise UsageError(
            "the training split is too small for baselines: a class is missing",
            "hold out less, or leave out --baseline",
        )
    far = (number != taxonomy.CLASSES.index("STAR")) & np.isfinite(z)
    with console.progress(f"training {name}", 2 * len(_choices(name))) as advance:
        probabilities, best = _classify(name, x, number, inner, asked, advance, seed)
        redshift = _regress(name, x[far], np.log1p(z[far]), inner[far], asked, advance, seed)
    typed = letter != ""
    found = np.full(len(asked), "", dtype=object)
    if typed.any():
        found[:] = letter[typed][0]
        if len(np.unique(letter[typed])) > 1:
            found = _fit(name, False, best, seed, x[typed], letter[typed]).predict(asked)
    return {
        "class": np.array(taxonomy.CLASSES)[probabilities.argmax(axis=1)],
        **{f"p_{c.lower()}": probabilities[:, i] for i, c in enumerate(taxonomy.CLASSES)},
        "subclass": found.astype(str),
        "z": np.expm1(redshift),
    }


def _classify(
    name: str,
    x: np.ndarray,
    number: np.ndarray,
    inner: np.ndarray,
    asked: np.ndarray,
    advance: Callable[[float], None],
    seed: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities of the classes, shape (len(asked), 3), and the settings chosen."""
    from sklearn.linear_model import LogisticRegression

    tried = []
    for chosen in _choices(name):
        model = _fit(name, False, chosen, seed, x[~inner], number[~inner])
        tried.append((model.score(x[inner], number[inner]), chosen, model))
        advance(1)
    _, best, trial = max(tried, key=lambda each: each[0])
    final = _fit(name, False, best, seed, x, number)
    if name == "rf":
        return final.predict_proba(asked), best
    # Platt's scaling, for several classes: distances to probabilities, on the inner split.
    scaling = LogisticRegression(max_iter=1000).fit(
        trial.decision_function(x[inner]), number[inner]
    )
    return scaling.predict_proba(final.decision_function(asked)), best


def _regress(
    name: str,
    x: np.ndarray,
    target: np.ndarray,
    inner: np.ndarray,
    asked: np.ndarray,
    advance: Callable[[float], None],
    seed: int,
) -> np.ndarray:
    """ln(1 + z), shape (len(asked),)."""
    if len(x) < 10 or not inner.any() or inner.all():
        raise UsageError("too few redshifts to train a baseline on", "leave out --baseline")
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
