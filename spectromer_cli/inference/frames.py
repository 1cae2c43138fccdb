"""Predictions for data frames: what `map_partitions` of LSDB or Dask takes."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.model.device import BATCH_SIZE

if TYPE_CHECKING:
    import pandas
    from astropy.table import Table

    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.inference.request import Which
    from spectromer_cli.spectra.grid import Grid
    from spectromer_cli.spectra.loading import Item
    from spectromer_cli.spectra.spectrum import Spectrum

_loading = threading.Lock()


def predict_frame(
    frame: pandas.DataFrame,
    *,
    columns: Which = "all",
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = BATCH_SIZE,
    refined: bool = True,
) -> pandas.DataFrame:
    """Classify the spectra in a data frame and measure their redshifts.

    ``catalog.map_partitions(predict_frame)`` does so for a whole LSDB catalogue.

    Parameters
    ----------
    frame : pandas.DataFrame
        One spectrum per row, in nested columns as LSDB, HATS, the Multimodal Universe and
        `spectromer pack` have them.
    columns, model, device, precision, batch_size, refined
        As `predict` takes them. The model is loaded once in a process.

    Returns
    -------
    pandas.DataFrame
        One row per row of `frame`, with its index, and the columns of `frame_meta`. A spectrum
        that cannot be read has its reason in ``flags``.

    Raises
    ------
    UsageError
        If the frame has no spectra, or several in a row.
    WeightsNotVerified
        If the weights are not those of their manifest.
    """
    from spectromer_cli.inference.layout import Layout
    from spectromer_cli.inference.request import Settings
    from spectromer_cli.outputs.formats import stacked

    settings = Settings(columns=columns, batch_size=batch_size)
    if not len(frame):
        meta = frame_meta(columns=columns, model=model)
        return meta.set_index(frame.index)
    with _loading:
        predictor = _loaded(model, device, precision)
    layout = Layout(predictor, settings, None)
    items = _items(frame, predictor.grid)
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    tables = [
        layout.finished(layout.table(batch, predictor.predictions(batch, refined)))
        for batch in batches
    ]
    return _as_frame(stacked(tables), frame.index)


def frame_meta(*, columns: Which = "all", model: str | None = None) -> pandas.DataFrame:
    """An empty data frame with the columns and types that `predict_frame` gives.

    Parameters
    ----------
    columns, model
        As `predict_frame` takes them.

    Returns
    -------
    pandas.DataFrame
        For the argument ``meta`` of ``map_partitions``.
    """
    from spectromer_cli.inference.layout import Layout
    from spectromer_cli.inference.predictor import Known
    from spectromer_cli.inference.request import Settings
    from spectromer_cli.weights.store import resolve

    layout = Layout(Known(resolve(model), ""), Settings(columns=columns), None)
    return _as_frame(layout.finished(layout.no_rows()), None)


@lru_cache(maxsize=2)
def _loaded(model: str | None, device: str, precision: str) -> Spectromer:
    from spectromer_cli.inference.predictor import load_model

    return load_model(model, device, precision)


def _as_frame(table: Table, index: Any) -> pandas.DataFrame:
    """The table without the columns that name files, which a frame has not."""
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in table.colnames:
        if name in ("file", "row"):
            continue
        values, mask = np.asarray(table[name]), np.ma.getmaskarray(table[name])
        if values.dtype.kind == "U":
            texts = np.ma.MaskedArray(values.astype(object), mask).tolist()
            columns[name] = pd.array(texts, "string[pyarrow]")
        elif values.dtype.kind == "i":  # may be missing, and is whole all the same
            columns[name] = pd.arrays.IntegerArray(values, mask)
        else:
            columns[name] = values
    return pd.DataFrame(columns, index=index)


def _items(frame: pandas.DataFrame, grid: Grid) -> list[Item]:
    """The rows of a frame on their way to predictions."""
    import pyarrow
    from pyarrow import parquet

    from spectromer_cli.spectra.loading import Item, item_of
    from spectromer_cli.spectra.packed import META
    from spectromer_cli.spectra.readers import ReadOptions, parquet_tables
    from spectromer_cli.spectra.readers.base import Source
    from spectromer_cli.spectra.readers.records import SCALARS

    kept = [
        name
        for name, dtype in frame.dtypes.items()
        if str(name).lower() in (*SCALARS, META) or getattr(dtype, "kind", "O") == "O"
    ]
    sink = pyarrow.BufferOutputStream()
    try:
        table = pyarrow.Table.from_pandas(frame[kept], preserve_index=False)
        parquet.write_table(table, sink, compression="none", use_dictionary=False)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"the frame cannot be read: {error}", "use nested columns") from error
    # Through Parquet, so that there is one reader for all that such tables may look like.
    file = parquet.ParquetFile(pyarrow.BufferReader(sink.getvalue()))
    source = Source(Path(), "parquet", lambda: file)
    if not parquet_tables.identify(source):
        raise UsageError(
            "the frame has no spectra",
            "it needs a nested column with flux, ivar and lambda",
        )
    spectra = parquet_tables.read(source, ReadOptions())
    if len(spectra) != len(frame):
        raise UsageError(
            f"the frame has {len(spectra) // len(frame)} spectra per row",
            "select the columns of one spectrum",
        )

    def item(row: int) -> Item:
        try:
            spectrum: Spectrum = spectra.get(row)
        except ReadError as error:
            return Item("", row, problem=f"{error}")
        except Exception as error:  # whatever a damaged row leads to costs no other
            return Item("", row, problem=f"it is damaged ({type(error).__name__}: {error})")
        return item_of(spectrum, "", row, grid)

    return [item(row) for row in range(len(frame))]
