"""The file of ``--save-pz``: p(z), χ²(z) and the best model of every spectrum, with their grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spectromer_cli.outputs import formats
from spectromer_cli.outputs.schema import BY_NAME, Column

# What identifies a spectrum, and what was found.
HEAD = ("file", "row", "object_id", "targetid", "class", "z", "z_err")
PZ = Column("pz", "float32", "stat.probability;src.redshift",
            "probability of each bin of pz_z; each row sums to 1")  # fmt: skip
MODEL = Column("model", "float32", "phot.flux.density;em.wl",
               "best template fit at z, per Angstrom in flux_unit, at the pixels of wavelength",
               )  # fmt: skip
FLUX_UNIT = Column("flux_unit", "text", "meta.unit",
                   "unit of model; if empty, that of the input, per Angstrom")  # fmt: skip


def chi2_column(class_: str) -> Column:
    """χ² of the templates of a class."""
    return Column(f"chi2_{class_.lower()}", "float32", "stat.fit.chi2",
                  f"chi2 of the templates of {class_} at the redshifts of chi2_{class_.lower()}_z"
                  )  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """What the values of a column stand at.

    Parameters
    ----------
    values : array, shape (m,)
    unit, description : str
    """

    values: np.ndarray
    description: str
    unit: str = ""


def formats_with(axes: Mapping[str, Axis]) -> dict[str, formats.Format]:
    """The formats of such files, by suffix.

    Parameters
    ----------
    axes : mapping of str to Axis
        By name: ``pz_z``, ``wavelength``, ``chi2_star_z``, ….
    """
    hdf5 = formats.Format(formats.arrow_streams, partial(_to_hdf5, axes=axes))
    return {
        ".fits": formats.Format(formats.arrow_streams, partial(_to_fits, axes=axes)),
        ".h5": hdf5,
        ".hdf5": hdf5,
    }


def _to_fits(
    grown: Path, path: Path, provenance: formats.Provenance, axes: Mapping[str, Axis]
) -> None:
    from astropy.io import fits

    images = []
    for name, axis in axes.items():
        image = fits.ImageHDU(axis.values, name=name.upper())
        image.header["BUNIT"] = (axis.unit, axis.description[: formats.COMMENT])
        images.append(image)
    formats.to_fits(grown, path, provenance, "PZ", images)


def _to_hdf5(
    grown: Path, path: Path, provenance: formats.Provenance, axes: Mapping[str, Axis]
) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(provenance)
        for name, axis in axes.items():
            _describe(file.create_dataset(name, data=axis.values), axis.unit, axis.description)
        rows = 0
        for block in formats.blocks(grown):
            table = formats.table_of(block)
            for column in table.itercols():
                values = _plain(column)
                if column.name not in file:
                    made = file.create_dataset(
                        column.name, shape=(0, *values.shape[1:]), dtype=values.dtype,
                        maxshape=(None, *values.shape[1:]), compression="gzip", compression_opts=1,
                        chunks=(max(1, min(64, 2**16 // values[:1].size)) if values.size else 1,
                                *values.shape[1:]),
                    )  # fmt: skip
                    _describe(made, str(column.unit or ""), str(column.description or ""))
                    made.attrs["ucd"] = (column.meta or {}).get("ucd", "")
                file[column.name].resize(rows + len(table), axis=0)
                file[column.name][rows:] = values
            rows += len(table)


def _plain(column: Any) -> np.ndarray:
    """Values as HDF5 has them: UTF-8, NaN, and −1 for whole numbers that are not known."""
    import h5py

    kind = column.dtype.kind
    nothing: Any = {"U": "", "f": np.nan}.get(kind, -1)
    values = np.ma.MaskedArray(column).filled(nothing)
    return values.astype(h5py.string_dtype()) if kind == "U" else values


def _describe(dataset: Any, unit: str, description: str) -> None:
    dataset.attrs["unit"] = unit
    dataset.attrs["description"] = description


def column_of(known: Column, values: np.ndarray) -> Any:
    """A column of a table for arrays of shape (rows, m), NaN where there is nothing."""
    from astropy.table import Column as TableColumn

    return TableColumn(
        values.astype(known.type), name=known.name, unit=known.unit or None,
        description=known.description, meta={"ucd": known.ucd},
    )  # fmt: skip


def head_of(table: Any) -> Any:
    """The columns of `HEAD` that a table of results has."""
    return table[[name for name in HEAD if name in table.colnames and name in BY_NAME]]
