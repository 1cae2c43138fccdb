"""Labels that are known to be wrong: they are used neither in training nor in evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# plate-mjd-fiber is one numbering over all of these.
SDSS = ("SDSS", "SEGUE", "BOSS", "eBOSS")
# |Δz| within which a stated redshift is the wrong one.
SAME_Z = 0.01


@dataclass(frozen=True)
class WrongLabel:
    """What is wrong with the label of one object.

    Parameters
    ----------
    survey, key : str
        The spectrum; plate-mjd-fiber for SDSS and its successors.
    class_, z :
        The survey's labels. Other labels of the same spectrum do not count as wrong.
    reason : str
        What the object is, and the evidence.
    """

    survey: str
    key: str
    class_: str
    z: float
    reason: str

    def is_of(self, survey: str, key: str) -> bool:
        """Whether a spectrum is this one, by its survey and key."""
        same = survey == self.survey or {survey, self.survey} <= {*SDSS}
        return same and _numbers(key) == _numbers(self.key)

    def is_stated(self, class_: str | None, z: float | None) -> bool:
        """Whether a spectrum's labels, None where there is none, are the wrong ones."""
        if class_ is not None and class_.strip().upper() != self.class_:
            return False
        if z is not None and np.isfinite(z) and abs(z - self.z) > SAME_Z:
            return False
        return class_ is not None or z is not None


KNOWN = (
    WrongLabel(
        "BOSS", "5207-56018-260", "QSO", 3.82563,
        "a DB white dwarf: He I 4473 and 5877 (vacuum) in broad absorption at rest on a smooth "
        "blue continuum, and no emission line",
    ),
)  # fmt: skip


def wrong(
    survey: np.ndarray,
    key: np.ndarray,
    group: np.ndarray,
    labels: Mapping[str, np.ma.MaskedArray],
) -> dict[int, str]:
    """Spectra whose stated labels are known to be wrong.

    Parameters
    ----------
    survey, key : array of str, shape (n,)
        As readers name them: survey and object id.
    group : array, shape (n,)
        The object: a label that is wrong for one of its spectra is wrong for all that have it.
    labels : mapping of str to masked array, shape (n,)
        ``class`` and ``z`` are used.

    Returns
    -------
    dict of int to str
        Number of the spectrum → what is wrong.
    """
    names = [str(name) for name in survey]
    found: dict[int, str] = {}
    for entry in KNOWN:
        own = {str(group[i]) for i, name in enumerate(names) if entry.is_of(name, str(key[i]))}
        for i in np.flatnonzero(np.isin(np.asarray(group).astype(str), sorted(own))):
            class_, z = (_label(labels, name, int(i)) for name in ("class", "z"))
            if entry.is_stated(None if class_ is None else str(class_), _float(z)):
                found[int(i)] = f"{entry.survey} {entry.key} is {entry.reason}"
    return found


def remark(reasons: Sequence[str]) -> list[str]:
    """The report's remark on the spectra left out; empty if there are none."""
    if not reasons:
        return []
    return [
        f"Left out because their labels are known to be wrong: {len(reasons)} "
        f"spectr{'um' if len(reasons) == 1 else 'a'}. " + ". ".join(dict.fromkeys(reasons)) + "."
    ]


def _numbers(key: str) -> tuple[int, ...] | str:
    """plate, mjd and fiber of a key with or without leading zeros; any other key as it is."""
    match = re.fullmatch(r"(\d+)-(\d+)-(\d+)", key.strip())
    return tuple(map(int, match.groups())) if match else key.strip()


def _label(labels: Mapping[str, np.ma.MaskedArray], name: str, i: int) -> Any:
    if name not in labels or np.ma.getmaskarray(labels[name])[i]:
        return None
    return np.ma.getdata(labels[name])[i]


def _float(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None
