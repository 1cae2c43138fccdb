"""Noise-free spectra out of the weights: the learned templates, mixed as real objects mix them.

The weights carry principal components of each class (`training.templates`). Here are the
coefficients that some hundred real objects have in them: sums of the components with the
coefficients of one object and of another that is like it look like a third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from spectromer_cli.errors import SpectromerError
from spectromer_cli.model import taxonomy
from spectromer_cli.model.redshift import Basis
from spectromer_cli.model.weights import Weights
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.library import Drawn, ZRange, radial_velocity
from spectromer_cli.training.restframe import LIGHT_SPEED
from spectromer_cli.training.templates import PRECISE

# Objects kept of each class, and the least S/N of each.
MEMBERS = 400
MIN_SN = {"STAR": 15.0, "GALAXY": 8.0, "QSO": 3.0}
# The templates must cover this share of the good pixels.
MIN_COVERED = 0.75
# Of the variance over wavelength, what the templates may leave beyond the noise; quasars differ
# most, and have the fewest templates.
MAX_UNEXPLAINED = {"STAR": 0.1, "GALAXY": 0.1, "QSO": 0.4}
# A galaxy or quasar may be moved so far in ln(1 + z): beyond, its components are not measured.
MOVE = 0.05
# Alike is who is among the nearest in z of the same subclass.
NEIGHBOURS = 8
PREFIX = "populations."


@dataclass(frozen=True)
class Population:
    """The objects of a class as coefficients of its templates.

    Parameters
    ----------
    coefficients : array of float32, shape (k, vectors)
        Of flux with median 1 where it was seen.
    subclass : array of int, shape (k,)
        Number in `taxonomy.SUBCLASSES`; −1 where none is known.
    z : array of float32, shape (k,)
        Where each was seen; zero for stars.
    low, high : array of float32, shape (k,)
        Rest-frame log10 λ between which each was seen: nothing is known beyond.
    """

    coefficients: np.ndarray
    subclass: np.ndarray
    z: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def take(self, which: np.ndarray) -> Population:
        """The members picked by a boolean or index array."""
        return Population(**{name: values[which] for name, values in vars(self).items()})


# --- learning -----------------------------------------------------------------------------


def learn_populations(data: LabelledSpectra, bases: Mapping[str, Basis]) -> dict[str, Population]:
    """Describe well-measured spectra by the templates of their class.

    Parameters
    ----------
    data : LabelledSpectra
        The training split.
    bases : mapping of str to Basis
        Templates by class.

    Returns
    -------
    dict of str to Population
        By class; a class of which no spectrum is described well has none.
    """
    found = {}
    for name, basis in bases.items():
        usable = (data.class_ == taxonomy.CLASSES.index(name)) & np.isfinite(data.z)
        usable &= data.has_ivar & np.isin(data.survey, PRECISE) & (data.sn > MIN_SN[name])
        described = _describe(data.take(usable), basis, MAX_UNEXPLAINED[name])
        if name == "STAR":
            # A star of no type could not be told from one of any.
            described = described.take(described.subclass >= 0)
            described = replace(described, z=np.zeros_like(described.z))
        if len(described.z):
            found[name] = described.take(_evenly(described.subclass, MEMBERS))
    return found


def _describe(data: LabelledSpectra, basis: Basis, max_unexplained: float) -> Population:
    """Coefficients by weighted least squares; spectra that do not fit are left out."""
    coefficients, kept, seen = [], [], []
    for i in range(len(data)):
        vectors = _shifted(basis, float(data.z[i]), data.grid)
        covered = np.isfinite(vectors[0])
        ivar, flux = data.ivar[i].astype(np.float64), data.flux[i].astype(np.float64)
        good = (ivar > 0) & covered
        if good.sum() < MIN_COVERED * (ivar > 0).sum() or good.sum() < data.grid.n // 4:
            continue
        root = np.sqrt(np.minimum(ivar[good], 1e4))
        own = vectors[:, good]
        solved, *_ = np.linalg.lstsq((own * root).T, flux[good] * root, rcond=None)
        model = solved @ own
        level = float(np.median(model))
        unexplained = np.mean((flux[good] - model) ** 2 - 1.0 / ivar[good])
        if level <= 0 or unexplained > max_unexplained * np.var(flux[good]):
            continue
        coefficients.append(solved / level)
        kept.append(i)
        ends = data.grid.loglam[np.flatnonzero(good)[[0, -1]]]
        seen.append(ends - np.log10(1.0 + data.z[i]))
    reach = np.array(seen, np.float32).reshape(-1, 2)
    return Population(
        coefficients=np.array(coefficients, np.float32).reshape(len(kept), len(basis.vectors)),
        subclass=data.subclass[kept].astype(int),
        z=data.z[kept].astype(np.float32),
        low=reach[:, 0],
        high=reach[:, 1],
    )


def _shifted(basis: Basis, z: float, grid: Grid) -> np.ndarray:
    """The templates at redshift z on the grid, shape (vectors, grid.n); NaN beyond them."""
    start = (grid.loglam0 - np.log10(1.0 + z) - basis.loglam0) / grid.dloglam
    position = start + np.arange(grid.n)
    pixels = np.arange(basis.vectors.shape[1])
    return np.array([np.interp(position, pixels, v, np.nan, np.nan) for v in basis.vectors])


def _evenly(subclass: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` members or fewer, the rare subclasses first of all."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(subclass))
    # How many of the same subclass came before: all the firsts, then all the seconds, …
    turn = np.zeros(len(subclass), dtype=int)
    for kind in np.unique(subclass):
        own = order[subclass[order] == kind]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:count])


# --- in the weights -----------------------------------------------------------------------


def to_arrays(populations: Mapping[str, Population]) -> dict[str, np.ndarray]:
    """The populations by the names that they have in the weights."""
    return {
        f"{PREFIX}{name}.{part}": np.asarray(values, np.float32)
        for name, population in populations.items()
        for part, values in vars(population).items()
    }


def load_populations(weights: Weights, grid: Grid) -> Populations:
    """The populations that weights carry.

    Raises
    ------
    SpectromerError
        If they carry none.
    """
    from safetensors.numpy import load_file

    tensors = {k: np.asarray(v, np.float32) for k, v in load_file(weights.path).items()}
    bases, members = {}, {}
    for name, values in weights.config.templates.items():
        if f"{PREFIX}{name}.z" not in tensors:
            continue
        bases[name] = Basis(vectors=tensors[f"templates.{name}"], **values)
        parts = {part.name: tensors[f"{PREFIX}{name}.{part.name}"] for part in fields(Population)}
        parts["subclass"] = parts["subclass"].round().astype(int)
        members[name] = Population(**parts)
    if not members:
        raise SpectromerError(
            f"the weights {weights.name} carry no populations to draw spectra from",
            "take those that ship with the program, or give --templates FILE.npz",
        )
    return Populations(bases, members, grid)


# --- drawing ------------------------------------------------------------------------------


class Populations:
    """Draws noise-free spectra; a `training.simulate.Source`.

    Parameters
    ----------
    bases : mapping of str to Basis
        Templates by class.
    members : mapping of str to Population
        Of the same classes.
    grid : Grid
        Where the spectra are drawn; its step is that of the templates.
    """

    def __init__(
        self, bases: Mapping[str, Basis], members: Mapping[str, Population], grid: Grid
    ) -> None:
        self.bases = bases
        self.members = members
        self.grid = grid
        self.classes: tuple[str, ...] = tuple(members)

    def draw(self, rng: np.random.Generator, name: str, z_range: ZRange | None = None) -> Drawn:
        """Draw a spectrum of a class: an object's, mixed with that of another that is like it.

        Parameters
        ----------
        rng : numpy.random.Generator
        name : str
            One of `classes`.
        z_range : pair of float, optional
            Least and greatest redshift of galaxies and quasars. An object is moved in z by
            little only, so objects must have been learned there.

        Returns
        -------
        Drawn

        Raises
        ------
        SpectromerError
            If no object was learned in the range.
        """
        members = self.members[name]
        if name == "STAR":
            z = radial_velocity(rng) / LIGHT_SPEED
            # Types evenly; alike are stars of the type with the nearest coefficients.
            kind = rng.choice(np.unique(members.subclass))
            alike = np.flatnonzero(members.subclass == kind)
            one = rng.choice(alike)
            distance = ((members.coefficients[alike] - members.coefficients[one]) ** 2).sum(axis=1)
        else:
            z, near = self._redshift(rng, name, z_range)
            one = rng.choice(near)
            alike = near[members.subclass[near] == members.subclass[one]]
            distance = np.abs(members.z[alike] - members.z[one])
        other = rng.choice(alike[np.argsort(distance, kind="stable")[:NEIGHBOURS]])
        share = rng.random()
        mixed = share * members.coefficients[one] + (1.0 - share) * members.coefficients[other]
        flux = np.clip(mixed @ _shifted(self.bases[name], z, self.grid), 0.0, None)
        rest = self.grid.loglam - np.log10(1.0 + z)
        both = [one, other]
        seen = (rest >= members.low[both].max()) & (rest <= members.high[both].min())
        flux = np.where(seen, flux, np.nan)
        number = members.subclass[one]
        return Drawn(flux, z, list(taxonomy.SUBCLASSES)[number] if number >= 0 else "")

    def _redshift(
        self, rng: np.random.Generator, name: str, z_range: ZRange | None
    ) -> tuple[float, np.ndarray]:
        """A redshift, and the members that were seen near it."""
        known = np.log1p(self.members[name].z)
        low, high = np.log1p(z_range) if z_range else (0.0, np.inf)
        within = known[(known > low - MOVE) & (known < high + MOVE)]
        if not len(within):
            raise SpectromerError(
                f"the weights know no {name} at z {np.expm1(low):g} to {np.expm1(high):g}: theirs "
                f"lie at {np.expm1(known.min()):.2f} to {np.expm1(known.max()):.2f}",
                "take another --z, or give --templates FILE.npz",
            )
        chosen = rng.choice(within)
        x = rng.uniform(max(chosen - MOVE, low, 1e-4), min(chosen + MOVE, high))
        return float(np.expm1(x)), np.flatnonzero(np.abs(known - x) <= 1.001 * MOVE)
