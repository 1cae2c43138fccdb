"""What a catalogue states as the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli.errors import UsageError

if TYPE_CHECKING:
    from astropy.table import Table

# Names under which catalogues state the truth, in lower case.
CLASS_NAMES = ("class", "spectype", "true_class", "class_true", "survey_class")
Z_NAMES = ("z", "redshift", "true_z", "z_true", "survey_z")


def find_truth(
    columns: list[str], class_column: str | None, z_column: str | None
) -> tuple[str | None, str | None]:
    """The columns that hold the truth.

    Parameters
    ----------
    columns : list of str
        Those of the catalogue.
    class_column, z_column : str or None
        The user's choice; None finds the usual names.

    Returns
    -------
    class_column, z_column : str or None
        None where the catalogue has none; not both.

    Raises
    ------
    UsageError
        If a chosen column is not there, or there is neither.
    """
    lower = {name.lower(): name for name in reversed(columns)}
    found = []
    for chosen, known in ((class_column, CLASS_NAMES), (z_column, Z_NAMES)):
        if chosen is not None and chosen not in columns:
            raise UsageError(
                f"the catalogue has no column {chosen!r}", f"it has {', '.join(columns)}"
            )
        found.append(chosen or next((lower[name] for name in known if name in lower), None))
    if found == [None, None]:
        raise UsageError(
            "the catalogue states no truth: neither a class nor a redshift",
            f"name its columns: --class-column, --z-column; it has {', '.join(columns)}",
        )
    return found[0], found[1]


def truth_of(
    catalogue: Table, class_column: str | None, z_column: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """The truth that a catalogue states.

    Parameters
    ----------
    catalogue : astropy Table, n rows
    class_column, z_column : str or None
        As `find_truth` gives them.

    Returns
    -------
    class_true : array of str, shape (n,)
        In capitals; empty where unknown.
    z_true : array of float, shape (n,)
        NaN where unknown.

    Raises
    ------
    UsageError
        If the redshifts are no numbers.
    """
    n = len(catalogue)
    class_true, z_true = np.full(n, "", dtype=object), np.full(n, np.nan)
    if class_column is not None:
        texts = np.ma.filled(np.ma.asarray(catalogue[class_column]).astype(str), "")
        class_true = np.array([text.strip().upper() for text in texts], dtype=object)
    if z_column is not None:
        try:
            values = np.ma.asarray(catalogue[z_column]).astype(np.float64)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"the column {z_column!r} holds values that are no redshifts ({error})",
                "choose another with --z-column",
            ) from error
        z_true = np.ma.filled(values, np.nan)
        z_true[z_true <= -1.0] = np.nan  # −9999 and its like say that nobody knows
    return class_true.astype(str), z_true
