"""How the tables of a run are made: which columns they have, and what fills them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectromer_cli import console
from spectromer_cli.inference.columns import (
    column_names,
    complete,
    redshift_task,
    shown,
    table_of,
    with_catalogue,
)
from spectromer_cli.model.confidence import cut_for
from spectromer_cli.model.decoding import Predictions
from spectromer_cli.outputs import schema
from spectromer_cli.outputs.provenance import provenance

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.predictor import Known
    from spectromer_cli.inference.request import Settings
    from spectromer_cli.spectra.loading import Inputs, Item


class Layout:
    """How the tables of a run are made, in whichever process.

    Parameters
    ----------
    model : Known
    settings : Settings
    catalogue : Table or None
        Any rows of the catalogue, or none: it is asked for its columns.

    Attributes
    ----------
    columns : tuple of str
        Of the tables, where the settings name them; else all.
    provenance : dict of str to str

    Raises
    ------
    UsageError
        If the model has not what is asked of it.
    """

    def __init__(self, model: Known, settings: Settings, catalogue: Table | None) -> None:
        self._settings = settings
        self._tasks = model.tasks
        self._shown = column_names(model.tasks, settings.columns)
        if settings.only and settings.columns == schema.REDSHIFT:  # all is at hand then
            self._shown = column_names(model.tasks)
        known = {}
        if settings.prior is not None:
            settings.prior.check(model.labels, redshift_task(model.tasks))
            known["prior"] = str(settings.prior)
        self.columns: tuple[str, ...] = ()
        self._min_z_prob = 0.0
        if settings.only:
            empty = self.finished(self.no_rows(), catalogue, catalogue)
            self.columns = schema.chosen(empty, settings.only)
        self._min_z_prob = _cut(model, settings.max_outlier_rate)
        self.provenance = provenance(model, **known)

    def table(self, items: Sequence[Item], found: Predictions) -> Table:
        """All columns of a batch."""
        return table_of(items, found, self._tasks, self._min_z_prob)

    def no_rows(self) -> Table:
        """As `table` makes it of no spectra."""
        import numpy as np

        return self.table([], Predictions(np.empty(0, dtype=int)))

    def finished(
        self, table: Table, stated: Table | None = None, beside: Table | None = None
    ) -> Table:
        """What is shown of a table of predictions.

        Parameters
        ----------
        table : Table
            As `table` makes it; changed in place.
        stated : Table, optional
            The rows of the catalogue that asked for its rows: positions and numbers that files
            leave out are taken from there.
        beside : Table, optional
            Further columns.
        """
        if stated is not None:
            complete(table, stated)
        table = shown(table, self._shown)
        if beside is not None:
            table = with_catalogue(table, beside)
        return table[list(self.columns)] if self.columns else table

    def identity(self, inputs: Inputs, sha256: str) -> dict[str, object]:
        """What must be the same for a run with these weights to be resumed."""
        settings = self._settings
        return {
            "weights": sha256,
            "columns": self.columns or self._shown,
            "catalog": str(inputs.catalog or ""),
            "options": [inputs.air, inputs.wavelength_unit, settings.refined],
            "max-outlier-rate": settings.max_outlier_rate,
            "prior": str(settings.prior or ""),
            "combine": settings.combine,
        }


def _cut(model: Known, max_outlier_rate: float | None) -> float:
    """The probability below which a redshift is marked."""
    if max_outlier_rate is None:
        return 0.0
    min_z_prob, kept = cut_for(model.config.confidence, max_outlier_rate)
    console.info(
        f"z_prob below {min_z_prob:.3g} is marked in zwarn (bit 18); "
        f"{kept:.0%} of held-out galaxies and quasars were above it"
    )
    return min_z_prob
