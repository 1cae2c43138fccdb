"""Templates and populations learned from de-redshifted spectra, shipped with the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spectromer_cli.model.template_fit import Basis, learn
from spectromer_cli.simulation import populations
from spectromer_cli.simulation.populations import Population
from spectromer_cli.training.dataset import LabelledSpectra
from spectromer_cli.training.targets import Target


@dataclass(frozen=True)
class Plan:
    """How the templates of a class are learned.

    Parameters
    ----------
    vectors : int
        How many.
    min_sn : float
        Least median S/N per pixel of the spectra used.
    min_count : int
        A template pixel needs so many spectra.
    max_ivar : float
        Cap of the weights, so that a few bright spectra do not decide alone.
    """

    vectors: int
    min_sn: float
    min_count: int
    max_ivar: float


PLANS = {
    "STAR": Plan(10, 40.0, 10, 400.0),
    "GALAXY": Plan(8, 5.0, 20, 400.0),
    "QSO": Plan(4, 3.0, 8, 100.0),
}
# Surveys whose wavelengths are good to a few km/s.
PRECISE = ("SDSS", "BOSS", "eBOSS", "SEGUE", "LAMOST")
# Fewer spectra make no templates.
MIN_SPECTRA = 50
# Objects kept of each class, and the least S/N of each.
MEMBERS = 400
MIN_SN = {"STAR": 15.0, "GALAXY": 8.0, "QSO": 3.0}
# Of the variance over wavelength, what the templates may leave beyond the noise; quasars differ
# most, and have the fewest templates.
MAX_UNEXPLAINED = {"STAR": 0.1, "GALAXY": 0.1, "QSO": 0.4}


def learn_templates(
    data: LabelledSpectra, targets: Sequence[Target], train: np.ndarray
) -> dict[str, Basis]:
    """Learn the templates of each class.

    Parameters
    ----------
    data : LabelledSpectra
    targets : sequence of Target
        With ``class`` and ``z``.
    train : bool array, shape (n,)
        The training split.

    Returns
    -------
    dict of str to Basis
        By class; a class with too few spectra has none.
    """
    named = {target.name: target for target in targets}
    found = {}
    for name, plan in PLANS.items():
        usable = _usable(data, named, name, plan.min_sn) & train
        if usable.sum() >= MIN_SPECTRA:
            found[name] = learn(
                data.flux[usable], data.ivar[usable], data.grid, named["z"].values[usable],
                vectors=plan.vectors, min_count=plan.min_count, max_ivar=plan.max_ivar,
            )  # fmt: skip
    return found


def _usable(
    data: LabelledSpectra, named: Mapping[str, Target], name: str, min_sn: float
) -> np.ndarray:
    """Spectra of a class whose redshift and errors can be relied on."""
    own = np.array([*named["class"].labels, ""])[named["class"].values] == name
    own &= np.isfinite(named["z"].values) & (data.sn > min_sn)
    return own & data.has_ivar & np.isin(data.survey, PRECISE)


def learn_populations(
    data: LabelledSpectra,
    targets: Sequence[Target],
    train: np.ndarray,
    bases: Mapping[str, Basis],
) -> dict[str, Population]:
    """Describe well-measured spectra by the templates of their class.

    Parameters
    ----------
    data, targets, train
        As for `learn_templates`; targets with ``subclass`` too.
    bases : mapping of str to Basis
        Templates by class.

    Returns
    -------
    dict of str to Population
        By class; a class of which no spectrum is described well has none.
    """
    named = {target.name: target for target in targets}
    found = {}
    for name, basis in bases.items():
        usable = _usable(data, named, name, MIN_SN[name]) & train
        described = populations.describe(
            data.flux[usable], data.ivar[usable], data.grid, named["z"].values[usable],
            named["subclass"].values[usable], basis, MAX_UNEXPLAINED[name],
        )  # fmt: skip
        if name == "STAR":
            # A star of no type could not be told from one of any.
            described = described.take(described.subclass >= 0)
            described = replace(described, z=np.zeros_like(described.z))
        if len(described.z):
            found[name] = populations.drawn_evenly(described, MEMBERS)
    return found
