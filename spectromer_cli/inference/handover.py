"""Predictions for other programs: as redrock writes them, and p(z), χ²(z) and models in full."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.inference.columns import redshift_task
from spectromer_cli.metrics import LIGHT_SPEED
from spectromer_cli.model import template_fit
from spectromer_cli.model.best_fit import BestFit, best_fit
from spectromer_cli.model.decoding import Predictions
from spectromer_cli.model.taxonomy import CLASSES
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.outputs import full_pz, redrock
from spectromer_cli.outputs.full_pz import Axis
from spectromer_cli.outputs.schema import Column
from spectromer_cli.spectra.loading import Item

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.predictor import Known

# Surveys whose files have this unit of flux, by a convention that all of their products keep.
E17 = "1e-17 erg / (s cm2 Angstrom)"
FLUX_UNITS = dict.fromkeys(("SDSS", "BOSS", "eBOSS", "SEGUE", "SDSS-V", "DESI"), E17)


class Fits:
    """The templates fitted to the spectra of a batch.

    Parameters
    ----------
    model : Known
    items : sequence of Item
    table : Table
        Their rows, as `columns.table_of` makes them.
    """

    def __init__(self, model: Known, items: Sequence[Item], table: Table) -> None:
        self._model, self._items = model, items
        self.classes = ["" if c is None else str(c) for c in table["class"].tolist()]
        self.z = np.asarray(np.ma.filled(table["z"], np.nan))

    @cached_property
    def best(self) -> list[BestFit | None]:
        """The best fit at z of each row; None where there is none."""
        model = self._model
        return [
            best_fit(item.prepared, model.bases[name], model.grid, float(z))
            if item.prepared is not None and name in model.bases and np.isfinite(z)
            else None
            for item, name, z in zip(self._items, self.classes, self.z, strict=True)
        ]

    @cached_property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By class, ln(1 + z) and χ² of shape (rows, m), NaN where there is none."""
        prepared = [item.prepared for item in self._items if item.prepared is not None]
        rows = [i for i, item in enumerate(self._items) if item.prepared is not None]
        found = {}
        curves = template_fit.chi2_curves(prepared, self._model.bases, self._model.grid)
        for name, curve in curves.items():
            chi2 = np.full((len(self._items), len(curve.x)), np.nan)
            chi2[rows] = np.where(np.isfinite(curve.chi2), curve.chi2, np.nan)
            found[name] = curve.x, chi2
        return found

    def delta_chi2(self, row: int) -> float:
        """By how much χ² at z is below that of the next best fit of any class; 0 if it is not.

        Notes
        -----
        As redrock counts: fits are local minima of χ², further than `redrock.MAX_VELOCITY` from z
        in velocity, of stars than `redrock.MAX_VELOCITY_OF_STARS`, or of another class.
        """
        name = self.classes[row]
        if name not in self.curves or not np.isfinite(self.z[row]):
            return float("nan")
        at = np.log1p(self.z[row])
        own = others = np.inf
        for other, (x, all_chi2) in self.curves.items():
            chi2 = np.where(np.isfinite(all_chi2[row]), all_chi2[row], np.inf)
            padded = np.concatenate([[np.inf], chi2, [np.inf]])
            minimum = (chi2 <= padded[:-2]) & (chi2 <= padded[2:]) & np.isfinite(chi2)
            if other == name:
                most = redrock.MAX_VELOCITY_OF_STARS if name == "STAR" else redrock.MAX_VELOCITY
                near = np.abs(x - at) <= max(most / LIGHT_SPEED, np.median(np.diff(x)))
                own = min(own, float(chi2[near].min(initial=np.inf)))
                minimum &= ~near
            others = min(others, float(chi2[minimum].min(initial=np.inf)))
        if not np.isfinite(own):
            return float("nan")
        return max(others - own, 0.0) if np.isfinite(others) else float("nan")


def check_redrock(model: Known) -> None:
    """Refuse a model whose results redrock's layout cannot hold.

    Raises
    ------
    UsageError
    """
    labels = next((getattr(t, "labels", ()) for t in model.tasks if t.name == "class"), ())
    if not labels or not set(labels) <= set(CLASSES) or redshift_task(model.tasks) is None:
        raise UsageError(
            f"--format redrock needs the classes {', '.join(CLASSES)} and redshifts, which "
            f"{model.weights.name} does not predict",
            "leave it out, or use another --model",
        )


def redrock_provenance(model: Known) -> dict[str, str]:
    """Which templates COEFF are of, as redrock's headers say it: none of its own."""
    said = {}
    for number, name in enumerate(model.bases):
        said[f"TEMNAM{number:02d}"] = f"{name}:::spectromer"
        said[f"TEMVER{number:02d}"] = f"{model.weights.name}-{model.weights.sha256[:12]}"
    return said


def redrock_rows(model: Known, fits: Fits, table: Table, first: int) -> Table:
    """The rows of redrock's table REDSHIFTS, and which file and row they come from.

    Parameters
    ----------
    model : Known
    fits : Fits
    table : Table
        As `columns.table_of` makes it.
    first : int
        Number of the first row in the output, for spectra that have no number of a survey.

    Returns
    -------
    Table
        With `redrock.COLUMNS` and `redrock.WHERE`.
    """
    from astropy.table import Table as Sheet

    n = len(table)
    size = max((len(basis.vectors) for basis in model.bases.values()), default=0)
    size += template_fit.POLYNOMIALS
    coefficients = np.zeros((n, size))
    chi2, delta = np.full(n, np.nan), np.full(n, np.nan)
    pixels, count = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i, best in enumerate(fits.best):
        if best is not None:
            count[i], pixels[i], chi2[i] = len(best.coefficients), best.pixels, best.chi2
            coefficients[i, : count[i]] = best.coefficients
            delta[i] = fits.delta_chi2(i)
    zwarn = np.asarray(table["zwarn"], dtype=np.int64)
    zwarn[delta < redrock.MIN_DELTA_CHI2] |= int(ZWarn.AMBIGUOUS)
    subclasses = np.ma.filled(table["subclass"], "") if "subclass" in table.colnames else [""] * n
    is_star = np.array(fits.classes, dtype=object) == "STAR"
    rows = Sheet()
    rows["TARGETID"] = _targetids(table, first)
    rows["Z"], rows["ZERR"] = fits.z, np.ma.filled(table["z_err"], np.nan).astype(np.float64)
    rows["ZWARN"], rows["CHI2"], rows["COEFF"] = zwarn, chi2, coefficients
    rows["FITMETHOD"] = ["PCA"] * n if n else np.array([], dtype=str)
    rows["NPIXELS"] = pixels
    rows["SPECTYPE"] = np.array(fits.classes, dtype=str)
    rows["SUBTYPE"] = np.where(is_star, subclasses, "").astype(str)
    rows["NCOEFF"], rows["DELTACHI2"] = count, delta
    rows["file"], rows["row"] = np.ma.filled(table["file"], ""), np.asarray(table["row"])
    return rows


def _targetids(table: Table, first: int) -> np.ndarray:
    found = np.arange(first, first + len(table), dtype=np.int64)
    for i, row in enumerate(table):
        sdss = [row[name] for name in ("plate", "mjd", "fiberid")]
        if row["targetid"] is not np.ma.masked:
            found[i] = row["targetid"]
        elif all(number is not np.ma.masked for number in sdss):
            found[i] = redrock.targetid_of(*map(int, sdss))
        elif row["obsid"] is not np.ma.masked:
            found[i] = row["obsid"]
    return found


# --- in full --------------------------------------------------------------------------------


def pz_axes(model: Known) -> dict[str, Axis]:
    """What the columns of `pz_rows` stand at.

    Raises
    ------
    UsageError
        If the model measures no redshift.
    """
    task = redshift_task(model.tasks)
    if task is None:
        raise UsageError(
            f"--save-pz needs redshifts, which {model.weights.name} does not predict",
            "leave it out, or use another --model",
        )
    axes = {
        "pz_z": Axis(np.expm1(task.x), "redshift at the middle of each bin of pz, even in ln(1+z)"),
        "wavelength": Axis(
            model.grid.wavelength, "vacuum wavelength of the pixels of model", "Angstrom"
        ),
    }
    for name, curve in template_fit.chi2_curves([], model.bases, model.grid).items():
        column = full_pz.chi2_column(name).name
        axes[f"{column}_z"] = Axis(np.expm1(curve.x), f"redshifts of {column}")
    return axes


def pz_rows(
    model: Known, fits: Fits, items: Sequence[Item], found: Predictions, table: Table
) -> Table:
    """p(z), χ²(z) of every class, and the best model, of each row.

    Parameters
    ----------
    model : Known
    fits : Fits
    items : sequence of Item
    found : Predictions
        For them.
    table : Table
        As `columns.table_of` makes it of these.

    Returns
    -------
    Table
        NaN where there is no prediction, or no template.
    """
    task = redshift_task(model.tasks)
    assert task is not None
    n = len(items)
    rows = full_pz.head_of(table)

    def add(known: Column, values: Any) -> None:
        rows[known.name] = full_pz.column_of(known, values)

    p = np.full((n, task.bins), np.nan)
    if len(found.rows):
        p[found.rows] = found.outputs[task.name]
    add(full_pz.PZ, p)
    for name, (_, chi2) in fits.curves.items():
        add(full_pz.chi2_column(name), chi2)
    spectra = np.full((n, model.grid.n), np.nan)
    for i, (item, best) in enumerate(zip(items, fits.best, strict=True)):
        if best is not None and item.prepared is not None:
            spectra[i] = best.model * item.prepared.scale
    add(full_pz.MODEL, spectra)
    units = [FLUX_UNITS.get(str(item.meta.get("survey")), "") for item in items]
    rows["flux_unit"] = np.array(units, dtype=str)
    rows["flux_unit"].description = full_pz.FLUX_UNIT.description
    return rows
