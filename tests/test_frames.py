"""Predictions for data frames, as LSDB and Dask map them over partitions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import emission_galaxy

from spectromer_cli.errors import UsageError
from spectromer_cli.inference import frame_meta, predict_frame
from spectromer_cli.inference.predictor import load_model
from spectromer_cli.spectra import packed


@pytest.fixture
def frame() -> pd.DataFrame:
    """Four packed spectra with an index of their own, and a column that is no matter."""
    spectra = [emission_galaxy(0.1 * i, seed=i) for i in range(4)]
    table = packed.table_of(spectra, [("a.fits", i) for i in range(4)])
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    frame["photo"] = [b"x" * 1000] * 4
    return frame.set_index(pd.Index([7, 3, 5, 1], name="_healpix_29"))


def test_a_frame_of_packed_spectra(frame: pd.DataFrame, random_weights: Path) -> None:
    # The flux is packed in single precision, whose rounding bf16 shows.
    found = predict_frame(frame, model=str(random_weights), device="cpu", precision="fp32")
    assert list(found.index) == [7, 3, 5, 1]
    spectra = [emission_galaxy(0.1 * i, seed=i) for i in range(4)]
    table = load_model(str(random_weights), "cpu", "fp32").predict(spectra)
    assert list(found.columns) == table.colnames[2:]
    for name in found.columns:
        if table[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name], table[name], rtol=1e-3, atol=1e-5, err_msg=name)
        else:
            there = [None if value is pd.NA else value for value in found[name]]
            assert there == table[name].tolist(), name


@pytest.mark.parametrize("columns", ["all", "classify", "redshift"])
def test_types_are_those_of_the_meta(frame, random_weights, columns: str) -> None:
    options = {"columns": columns, "model": str(random_weights)}
    meta = frame_meta(**options)
    assert not len(meta)
    found = predict_frame(frame.iloc[:1], device="cpu", **options)
    empty = predict_frame(frame.iloc[:0], device="cpu", **options)
    assert found.dtypes.to_dict() == meta.dtypes.to_dict() == empty.dtypes.to_dict()
    assert empty.index.name == "_healpix_29"


def test_lists_in_columns_of_their_own(random_weights: Path) -> None:
    spectra = [emission_galaxy(0.1, seed=i) for i in range(2)]
    frame = pd.DataFrame(
        {
            "object_id": ["a", "b"],
            "wavelength": [s.wavelength for s in spectra],
            "flux": [s.flux for s in spectra],
            "ivar": [s.ivar for s in spectra],
        }
    )
    found = predict_frame(frame, model=str(random_weights), device="cpu")
    assert found["object_id"].tolist() == ["a", "b"]
    assert all("MEDIUM_ASSUMED" in flags for flags in found["flags"])


def test_a_row_without_spectrum_costs_no_other(frame, random_weights) -> None:
    cells = frame["spectrum"].tolist()
    cells[1] = None
    kind = frame["spectrum"].dtype
    frame["spectrum"] = pd.array(cells, dtype=kind)
    found = predict_frame(frame, model=str(random_weights), device="cpu")
    assert [flags.startswith("UNREADABLE") for flags in found["flags"]] == [
        False, True, False, False
    ]  # fmt: skip


def test_a_frame_without_spectra_is_refused(random_weights: Path) -> None:
    frame = pd.DataFrame({"ra": [1.0], "name": ["a"]})
    with pytest.raises(UsageError, match="no spectra"):
        predict_frame(frame, model=str(random_weights), device="cpu")


def test_dask_maps_it_over_partitions(frame, random_weights, tmp_path) -> None:
    import dask
    import dask.dataframe as dd

    whole = frame.reset_index(drop=True)
    for i in range(2):
        table = pa.Table.from_pandas(whole.iloc[2 * i : 2 * i + 2], preserve_index=False)
        # Older versions of pandas do not read their own names of nested types.
        pq.write_table(table.replace_schema_metadata(None), tmp_path / f"{i}.parquet")
    options = {"model": str(random_weights), "device": "cpu"}
    with dask.config.set(scheduler="synchronous"):
        parts = dd.from_map(
            lambda path: pd.read_parquet(path, dtype_backend="pyarrow"),
            sorted(tmp_path.glob("*.parquet")),
        )
        meta = frame_meta(model=str(random_weights))
        found = parts.map_partitions(predict_frame, meta=meta, **options).compute()
    expected = predict_frame(whole, **options)
    assert found["class"].tolist() == expected["class"].tolist()
    np.testing.assert_allclose(found["z"], expected["z"], rtol=1e-6)
