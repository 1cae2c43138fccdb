"""Labelled spectra in memory, and their split by object."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spectromer_cli.errors import ReadError
from spectromer_cli.model import taxonomy
from spectromer_cli.spectra.grid import Grid

# The surveys whose pipelines classify galaxies and quasars by their emission lines.
LINE_CLASSIFYING = ("SDSS", "BOSS", "eBOSS")
# What a set may tell of its stars: K, log10 of cm/s², dex.
STELLAR = ("teff", "logg", "feh")


@dataclass
class LabelledSpectra:
    """Spectra on one log λ grid with the labels that are known.

    Parameters
    ----------
    grid : Grid
        Grid of `flux` and `ivar`; it may reach beyond the model's.
    flux, ivar : array of float16, shape (n, grid.n)
        Flux of median level 1 and its inverse variance (0 = bad).
    has_ivar : bool array, shape (n,)
        False where the errors were estimated from the scatter.
    survey, group, subclass_name : array of str, shape (n,)
        Survey; object (all spectra of one object share it); the survey's own subclass.
    class_ : array of int, shape (n,)
        Number in `taxonomy.CLASSES`; −1 unknown.
    subclass : array of int, shape (n,)
        Number in `taxonomy.SUBCLASSES`; −1 unknown.
    z : array of float, shape (n,)
        Redshift; NaN unknown.
    sn : array of float, shape (n,)
        Median S/N a pixel.
    labels : dict of str to array of float, shape (n,)
        Further labels by the task's name; NaN unknown.
    """

    grid: Grid
    flux: np.ndarray
    ivar: np.ndarray
    has_ivar: np.ndarray
    survey: np.ndarray
    group: np.ndarray
    subclass_name: np.ndarray
    class_: np.ndarray
    subclass: np.ndarray
    z: np.ndarray
    sn: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, which: np.ndarray) -> LabelledSpectra:
        """The spectra picked by a boolean or index array."""
        picked = {
            name: value[which]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        labels = {name: value[which] for name, value in self.labels.items()}
        return LabelledSpectra(grid=self.grid, labels=labels, **picked)


def load(path: Path) -> LabelledSpectra:
    """Read a labelled set from HDF5.

    Parameters
    ----------
    path : Path
        File with datasets ``flux`` and ``ivar`` (n, pixels), ``class``, ``subclass``, ``z``,
        ``zwarning``, ``survey``, ``group``, ``has_ivar``, ``sn`` (n,), and attributes
        ``loglam0`` and ``dloglam``; where there are any, also ``teff``, ``logg`` and ``feh``
        of stars (n,). Labels with a warning (``zwarning`` > 0) are left out.

    Returns
    -------
    LabelledSpectra

    Raises
    ------
    ReadError
        If the file is missing or a dataset is.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            text = {
                name: file[name].asstr()[:] for name in ("class", "subclass", "survey", "group")
            }
            flux, ivar = file["flux"][:], file["ivar"][:]
            z, zwarning = file["z"][:], file["zwarning"][:]
            has_ivar, sn = file["has_ivar"][:], file["sn"][:]
            measured = {
                name: file[name][:].astype(float) if name in file else np.full(len(z), np.nan)
                for name in STELLAR
            }
            loglam0, dloglam = float(file.attrs["loglam0"]), float(file.attrs["dloglam"])
    except (OSError, KeyError) as error:
        raise ReadError(f"{path} is not a labelled set of spectra: {error}") from error
    trusted = zwarning <= 0
    class_ = _numbers(text["class"], taxonomy.CLASSES)
    subclass_names = [
        taxonomy.subclass_label(name, sub, survey in LINE_CLASSIFYING) or ""
        for name, sub, survey in zip(text["class"], text["subclass"], text["survey"], strict=True)
    ]
    subclass = _numbers(np.array(subclass_names), tuple(taxonomy.SUBCLASSES))
    star = trusted & (class_ == taxonomy.CLASSES.index("STAR"))
    measured["star_type"] = np.array([taxonomy.star_place(name) for name in text["subclass"]])
    bad = ~np.isfinite(flux) | ~np.isfinite(ivar)
    flux[bad], ivar[bad] = 0, 0
    return LabelledSpectra(
        grid=Grid(loglam0, dloglam, flux.shape[1]),
        flux=flux,
        ivar=ivar,
        has_ivar=has_ivar,
        survey=text["survey"],
        group=text["group"],
        subclass_name=text["subclass"],
        class_=np.where(trusted, class_, -1),
        subclass=np.where(trusted, subclass, -1),
        z=np.where(trusted, z, np.nan),
        sn=sn,
        labels={name: np.where(star, values, np.nan) for name, values in measured.items()},
    )


def _numbers(names: np.ndarray, known: tuple[str, ...]) -> np.ndarray:
    number = {name: i for i, name in enumerate(known)}
    return np.array([number.get(name, -1) for name in names])


def validation_mask(group: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which spectra belong to the validation split.

    The object's name decides, through a hash, so that all spectra of one object fall on the
    same side, whatever else is in the set.

    Parameters
    ----------
    group : array of str, shape (n,)
        The object of each spectrum.
    fraction : float
        Share of the objects to be held out.
    seed : int
        Another seed, another split.

    Returns
    -------
    bool array, shape (n,)
    """

    def position(name: str) -> float:
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    return np.array([position(name) < fraction for name in group], dtype=bool)


def on_model_grid(data: LabelledSpectra, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Cut the model's grid out of the set's, pixel for pixel.

    Returns
    -------
    flux, ivar : array of float32, shape (n, grid.n)

    Raises
    ------
    ValueError
        If the two grids do not share their pixels.
    """
    start = (grid.loglam0 - data.grid.loglam0) / data.grid.dloglam
    first = round(start)
    if abs(start - first) > 0.01 or first < 0 or first + grid.n > data.grid.n:
        raise ValueError("the set's grid does not hold the model's grid pixel for pixel")
    cut = slice(first, first + grid.n)
    return data.flux[:, cut].astype(np.float32), data.ivar[:, cut].astype(np.float32)
