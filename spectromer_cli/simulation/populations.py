"""Noise-free spectra out of the weights: the learned templates, mixed as real objects mix them.

The weights carry principal components of each class (`training.templates`). Here are the
coefficients that some hundred real objects have in them: sums of the components with the
coefficients of one object and of another that is like it look like a third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from spectromer_cli.errors import SpectromerError
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model import taxonomy
from spectromer_cli.model.template_fit import Basis, from_arrays
from spectromer_cli.simulation.template_library import Drawn, ZRange, radial_velocity
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.weights.store import Weights

# A galaxy or quasar may be moved so far in ln(1 + z): beyond, its components are not measured.
MOVE = 0.05
# Alike is who is among the nearest in z of the same subclass.
NEIGHBOURS = 8
PREFIX = "populations."
# The templates must cover this share of the good pixels of a member.
MIN_COVERED = 0.75


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


# --- learned from real spectra -------------------------------------------------------------


def describe(
    flux: np.ndarray,
    ivar: np.ndarray,
    grid: Grid,
    z: np.ndarray,
    subclass: np.ndarray,
    basis: Basis,
    max_unexplained: float,
) -> Population:
    """Describe spectra of one class by its templates; those that do not fit are left out.

    Parameters
    ----------
    flux, ivar : array, shape (n, grid.n)
        Flux of median level 1 and its inverse variance.
    grid : Grid
    z : array, shape (n,)
    subclass : array of int, shape (n,)
        Numbers in `taxonomy.SUBCLASSES`.
    basis : Basis
    max_unexplained : float
        Of the variance over wavelength, what the templates may leave beyond the noise.
    """
    coefficients, kept, seen = [], [], []
    for i in range(len(flux)):
        vectors = basis.at_redshift(float(z[i]), grid)
        covered = np.isfinite(vectors[0])
        weight, values = ivar[i].astype(np.float64), flux[i].astype(np.float64)
        good = (weight > 0) & covered
        if good.sum() < MIN_COVERED * (weight > 0).sum() or good.sum() < grid.n // 4:
            continue
        root = np.sqrt(np.minimum(weight[good], 1e4))
        own = vectors[:, good]
        solved, *_ = np.linalg.lstsq((own * root).T, values[good] * root, rcond=None)
        model = solved @ own
        level = float(np.median(model))
        unexplained = np.mean((values[good] - model) ** 2 - 1.0 / weight[good])
        if level <= 0 or unexplained > max_unexplained * np.var(values[good]):
            continue
        coefficients.append(solved / level)
        kept.append(i)
        ends = grid.loglam[np.flatnonzero(good)[[0, -1]]]
        seen.append(ends - np.log10(1.0 + z[i]))
    reach = np.array(seen, np.float32).reshape(-1, 2)
    return Population(
        coefficients=np.array(coefficients, np.float32).reshape(len(kept), len(basis.vectors)),
        subclass=subclass[kept].astype(int),
        z=z[kept].astype(np.float32),
        low=reach[:, 0],
        high=reach[:, 1],
    )


def drawn_evenly(population: Population, count: int) -> Population:
    """`count` members or fewer, the rare subclasses first of all."""
    subclass = population.subclass
    rng = np.random.default_rng(0)
    order = rng.permutation(len(subclass))
    # How many of the same subclass came before: all the firsts, then all the seconds, …
    turn = np.zeros(len(subclass), dtype=int)
    for kind in np.unique(subclass):
        own = order[subclass[order] == kind]
        turn[own] = np.arange(len(own))
    return population.take(np.sort(order[np.argsort(turn[order], kind="stable")][:count]))


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
    number = {name: i for i, name in enumerate(taxonomy.SUBCLASSES)}
    # Weights number the subclasses that they know, which may be fewer.
    own = next((t["labels"] for t in weights.config.tasks if t["name"] == "subclass"), ())
    if not own or not {*own} <= {*number}:  # labels of the user's own say nothing of these
        own = tuple(number)
    numbers = np.array([*(number[name] for name in own), -1])
    for name, basis in from_arrays(tensors, weights.config.templates).items():
        if f"{PREFIX}{name}.z" not in tensors:
            continue
        bases[name] = basis
        parts = {part.name: tensors[f"{PREFIX}{name}.{part.name}"] for part in fields(Population)}
        parts["subclass"] = numbers[parts["subclass"].round().astype(int)]
        members[name] = Population(**parts)
    if not members:
        raise SpectromerError(
            f"the weights {weights.name} contain no populations to simulate from",
            "use the weights included in the package, or give --templates FILE.npz",
        )
    return Populations(bases, members, grid)


# --- drawing ------------------------------------------------------------------------------


class Populations:
    """Draws noise-free spectra; a `simulation.simulator.Source`.

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
        flux = np.clip(mixed @ self.bases[name].at_redshift(z, self.grid), 0.0, None)
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
                f"the weights have no {name} at z {np.expm1(low):g} to {np.expm1(high):g}, only at "
                f"{np.expm1(known.min()):.2f} to {np.expm1(known.max()):.2f}",
                "choose another --z, or give --templates FILE.npz",
            )
        chosen = rng.choice(within)
        x = rng.uniform(max(chosen - MOVE, low, 1e-4), min(chosen + MOVE, high))
        return float(np.expm1(x)), np.flatnonzero(np.abs(known - x) <= 1.001 * MOVE)
