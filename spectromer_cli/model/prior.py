"""What is known of an object beforehand: its class, and where its redshift may lie.

Applied by Bayes' rule: the model's probabilities are multiplied by the prior and normalised, and
−2 ln of the prior is added to the χ² of the template fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.model.decoding import STAR_MAX_X, RedshiftPrediction
from spectromer_cli.model.tasks import Redshift

# Less of the model's own probability than this where the prior is highest is said in flags.
UNLIKELY = 0.01
UNLIKE_PRIOR = "UNLIKE_PRIOR"
# ln of the prior where it is zero: far below what any χ² makes up for, but finite.
FORBIDDEN = -1e9
_Z_NAMES = ("z", "redshift", "zphot", "z_phot", "photo_z", "photoz")
_P_NAMES = ("p", "pz", "p_z", "p(z)", "pdf", "prob", "probability", "density", "prior")


@dataclass(frozen=True)
class Prior:
    """A prior on class and redshift; `prior_of` makes one of what users give.

    Parameters
    ----------
    class_ : str
        The class that the object is of; empty if that is not known.
    z, p : array, shape (n,)
        Redshifts, increasing, and the relative probability density there, by straight lines
        between them and zero beyond; empty if nothing is known.
    said : mapping of str to str
        For the provenance.
    """

    class_: str = ""
    z: np.ndarray = field(default_factory=lambda: np.empty(0))
    p: np.ndarray = field(default_factory=lambda: np.empty(0))
    said: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(f"{name} {value}" for name, value in self.said.items())

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest ln(1 + z) that are possible."""
        if not self.z.size:
            return -np.inf, np.inf
        possible = np.flatnonzero(self.p > 0)
        first, last = max(possible[0] - 1, 0), min(possible[-1] + 1, self.z.size - 1)
        return float(np.log1p(self.z[first])), float(np.log1p(self.z[last]))

    def log(self, x: np.ndarray) -> np.ndarray:
        """ln of the prior at ln(1 + z), 0 at its highest, `FORBIDDEN` where it is zero."""
        if not self.z.size:
            return np.zeros(np.shape(x))
        p = np.interp(np.expm1(x), self.z, self.p, left=0.0, right=0.0) / self.p.max()
        return np.where(p > 0, np.log(np.maximum(p, 1e-300)), FORBIDDEN)

    def of_bins(self, task: Redshift) -> np.ndarray:
        """The mean prior of each bin of p(z), shape (bins,), 1 for the highest density."""
        if not self.z.size:
            return np.ones(task.bins)
        edges = np.expm1(task.x0 + task.dx * (np.arange(task.bins + 1) - 0.5))
        # Straight lines are integrated exactly, so that no prior falls between the bins' centres.
        knots = np.union1d(self.z, edges)
        density = np.interp(knots, self.z, self.p, left=0.0, right=0.0) / self.p.max()
        # At its ends the prior drops to zero: a knot there counts for the piece inside only.
        middle = 0.5 * (knots[1:] + knots[:-1])
        inside = (middle > self.z[0]) & (middle < self.z[-1])
        pieces = 0.5 * (density[1:] + density[:-1]) * np.diff(knots) * inside
        area = np.concatenate([[0.0], np.cumsum(pieces)])
        return np.diff(np.interp(edges, knots, area)) / np.diff(edges)

    def of_classes(self, labels: tuple[str, ...], task: Redshift | None) -> np.ndarray:
        """The prior of each class, 0 or 1, shape (classes,).

        A star is impossible where its radial velocity is.
        """
        factor = np.ones(len(labels))
        if self.class_:
            known = self.class_.upper()
            factor = np.array([float(label.upper() == known) for label in labels])
        if task is not None and "STAR" in labels:
            factor[labels.index("STAR")] *= (self.of_bins(task) * star_bins(task)).any()
        return factor

    def applied(
        self, outputs: Mapping[str, np.ndarray], labels: tuple[str, ...], task: Redshift | None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Probabilities times the prior, normalised.

        Parameters
        ----------
        outputs : mapping of str to array, shape (n, outputs of the task)
            By task.
        labels : tuple of str
            The model's classes.
        task : Redshift or None
            The model's redshift.

        Returns
        -------
        outputs : dict of str to array
            Where the model finds all impossible that the prior allows, the prior alone is left.
        unlike : bool array, shape (n,)
            The model's own probability of what the prior allows is below `UNLIKELY`.
        """
        found = dict(outputs)
        factors = {}
        if labels:
            factors["class"] = self.of_classes(labels, task)
        if task is not None:
            bins = self.of_bins(task)
            factors[task.name] = bins * star_bins(task) if self.class_.upper() == "STAR" else bins
        unlike = np.zeros(len(next(iter(outputs.values()))), dtype=bool)
        for name, factor in factors.items():
            own = outputs[name] * factor
            total = own.sum(axis=1, keepdims=True)
            unlike |= total[:, 0] < UNLIKELY * outputs[name].sum(axis=1)
            own = np.where(total > 0, own, factor)
            found[name] = own / own.sum(axis=1, keepdims=True)
        return found, unlike

    def kept_in(self, found: RedshiftPrediction, pixel: float) -> RedshiftPrediction:
        """Redshifts within the limits; those that lie at one are marked ``at_edge``.

        Parameters
        ----------
        found : RedshiftPrediction
        pixel : float
            Nearer to a limit than this in ln(1 + z) is at it.
        """
        low, high = self.limits
        x = np.log1p(found.z)
        return replace(
            found,
            z=np.expm1(np.clip(x, low, high)),
            alt_z=np.expm1(np.clip(np.log1p(found.alt_z), low, high)),
            at_edge=found.at_edge | (x < low + pixel) | (x > high - pixel),
        )

    def check(self, labels: tuple[str, ...], task: Redshift | None) -> None:
        """Refuse what a model cannot apply, or what leaves nothing possible.

        Parameters
        ----------
        labels : tuple of str
            The model's classes.
        task : Redshift or None
            The model's redshift.

        Raises
        ------
        UsageError
        """
        if self.class_ and not labels:
            raise UsageError("these weights predict no class", "leave out the prior on it")
        if self.class_ and self.class_.upper() not in (label.upper() for label in labels):
            choices = ", ".join(labels)
            raise UsageError(f"invalid --class {self.class_!r}", f"choose from {choices}")
        if not self.z.size:
            return
        if task is None:
            raise UsageError("these weights predict no redshift", "leave out the prior on it")
        if not self.of_bins(task).any():
            low, high = np.expm1(task.x[[0, -1]])
            raise UsageError(
                f"the prior ({self}) excludes all redshifts of the model",
                f"it measures from {low:.2f} to {high:.2f}",
            )
        if labels and not self.of_classes(labels, task).any():
            raise UsageError(
                f"the prior ({self}) excludes every class and redshift",
                f"stars are within {np.expm1(STAR_MAX_X):.4f} of redshift 0",
            )


def star_bins(task: Redshift) -> np.ndarray:
    """Which bins of p(z) are radial velocities of the Galaxy's stars, shape (bins,)."""
    return np.abs(task.x) <= STAR_MAX_X + 0.5 * task.dx


def prior_of(
    class_: str = "",
    z_range: str | tuple[float, float] | None = None,
    z_prior: Any = None,
) -> Prior | None:
    """The prior that a user gives.

    Parameters
    ----------
    class_ : str
        A class, in any case.
    z_range : str or (float, float), optional
        As "2:4"; one of the two may be left out.
    z_prior : path or astropy Table or (z, p), optional
        Redshifts and relative probability densities; a file of any format of tables.

    Returns
    -------
    Prior or None
        None if nothing is given. A range and a density are multiplied.

    Raises
    ------
    UsageError
        If a value is invalid.
    """
    if not class_ and z_range is None and z_prior is None:
        return None
    said = {"class": class_} if class_ else {}
    z = p = np.empty(0)
    if z_prior is not None:
        z, p, said["z-prior"] = _density(z_prior)
    if z_range is not None:
        low, high = _limits(z_range)
        said["z-range"] = f"{low:g}:{high:g}"
        if not z.size:
            z, p = np.array([low, high]), np.ones(2)
        else:
            inside = np.union1d(z[(z > low) & (z < high)], np.clip([low, high], z[0], z[-1]))
            p = np.interp(inside, z, p) * ((inside >= low) & (inside <= high))
            z = inside
            if z.size < 2 or not p.any():
                both = f"--z-range {said['z-range']} and --z-prior {z_prior}"
                raise UsageError(f"{both} exclude all redshifts", "leave out one of them")
    return Prior(class_, z, p, said)


def _limits(given: str | tuple[float, float]) -> tuple[float, float]:
    """Least and greatest redshift."""
    text = given if isinstance(given, str) else ":".join("" if v is None else str(v) for v in given)
    ends = text.split(":")
    try:
        if len(ends) != 2:
            raise ValueError
        low, high = float(ends[0] or "-0.9"), float(ends[1] or "1000")
    except ValueError:
        raise UsageError(f"invalid --z-range {text!r}", "give a range such as 2:4") from None
    if not -1.0 < low < high:  # NaN too
        raise UsageError(
            f"invalid --z-range {text!r}", "give the lower limit first, both above -1, such as 2:4"
        )
    return low, high


def _density(given: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Redshifts and densities of a table, and its name with the hash of what it holds."""
    from hashlib import sha256

    if isinstance(given, tuple):
        z, p, name = *map(np.asarray, given), "given"
    else:
        z, p, name = _columns(given)
    try:
        z = np.asarray(np.ma.filled(np.ma.asarray(z, dtype=float), np.nan))
        p = np.asarray(np.ma.filled(np.ma.asarray(p, dtype=float), np.nan))
    except (TypeError, ValueError):
        raise UsageError(
            f"--z-prior {name}: z and p are not numbers", "check its columns"
        ) from None
    if z.ndim != 1 or z.shape != p.shape or z.size < 2:
        raise UsageError(f"--z-prior {name}: too few rows", "give at least two rows of z and p")
    order = np.argsort(z, kind="stable")
    z, p = z[order], p[order]
    if not (np.isfinite(z).all() and np.isfinite(p).all()):
        raise UsageError(f"--z-prior {name}: a value of z or p is missing", "remove such rows")
    if not (np.diff(z) > 0).all() or z[0] <= -1.0:
        raise UsageError(
            f"--z-prior {name}: values of z are repeated or not above -1",
            "give each z once, above -1",
        )
    if (p < 0).any() or not p.any():
        raise UsageError(
            f"--z-prior {name}: p is {'negative' if (p < 0).any() else 'zero everywhere'}",
            "give relative probability densities",
        )
    return z, p, f"{name} sha256={sha256(np.stack([z, p]).tobytes()).hexdigest()[:16]}"


def _columns(given: Any) -> tuple[Any, Any, str]:
    """The columns z and p of a table, by their usual names, or else its only two."""
    from spectromer_cli.spectra.catalogues import read_table

    name = "given"
    if isinstance(given, str | Path):
        name = str(given)
        if not Path(given).is_file():
            raise UsageError(f"--z-prior {name} does not exist", "check the name")
        try:
            given = read_table(Path(given))
        except UsageError:
            raise
        except SpectromerError as error:
            raise UsageError(f"--z-prior {error}", error.hint) from error
    columns = {column.lower(): column for column in reversed(given.colnames)}
    found = [next((columns[n] for n in names if n in columns), None)
             for names in (_Z_NAMES, _P_NAMES)]  # fmt: skip
    if None in found and len(given.colnames) == 2 and not set(columns) & {*_Z_NAMES, *_P_NAMES}:
        found = list(given.colnames)
    if None in found:
        raise UsageError(
            f"--z-prior {name} has no columns z and p; it has {', '.join(given.colnames)}",
            "name them z and p",
        )
    return given[found[0]], given[found[1]], name
