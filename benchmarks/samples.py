"""Spectra to measure with, simulated from what the weights have learned, as files of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from spectromer_cli.inference.predictor import Spectromer
from spectromer_cli.simulation.populations import load_populations
from spectromer_cli.simulation.simulator import Simulated, Simulator

# Spectra per row group: 64 are a batch.
GROUP = 64


def simulated(model: Spectromer, count: int, seed: int = 1) -> Simulated:
    """Spectra of S/N 3 to 60, as SDSS and BOSS would take them."""
    source = load_populations(model.weights, model.grid)
    draws = Simulator(source, model.grid, sn_range=(3.0, 60.0), taken_by=("SDSS", "BOSS"))
    return draws.draw(np.random.default_rng(seed), count)


def write_lite(path: Path, flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray) -> None:
    """The four tables of an SDSS `spec` file without its exposures."""
    _sdss(path, flux, ivar, loglam, exposures=0)


def write_full(path: Path, flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray) -> None:
    """The same with eight exposures."""
    _sdss(path, flux, ivar, loglam, exposures=8)


def _sdss(
    path: Path, flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray, exposures: int
) -> None:
    bad = (ivar == 0).astype(np.int32) << 22
    nothing = np.zeros(len(flux), np.float32)
    coadd = fits.BinTableHDU.from_columns(
        [
            fits.Column("flux", "E", array=flux),
            fits.Column("loglam", "E", array=loglam),
            fits.Column("ivar", "E", array=ivar),
            fits.Column("and_mask", "J", array=bad),
            fits.Column("or_mask", "J", array=bad),
            *(fits.Column(name, "E", array=nothing) for name in ("wdisp", "sky", "model")),
        ],
        name="COADD",
    )
    # The surveys' own tables have some hundred columns and one row, and a row for each line.
    ids = {"PLATE": 900, "MJD": 50000, "FIBERID": int(path.stem[-3:]) + 1}
    columns = [fits.Column(name, "J", array=[value]) for name, value in ids.items()]
    columns += [fits.Column(f"VALUE{number}", "5E", array=np.ones((1, 5))) for number in range(120)]
    every = fits.BinTableHDU.from_columns(columns, name="SPECOBJ")
    lines = fits.BinTableHDU.from_columns(
        [fits.Column(f"LINE{number}", "E", array=np.ones(32)) for number in range(19)],
        name="SPZLINE",
    )
    primary = fits.PrimaryHDU()
    primary.header.update(
        TELESCOP="SIMULATED", PLATEID=900, MJD=50000, FIBERID=ids["FIBERID"], RUN2D="26",
        PLUG_RA=10.0, PLUG_DEC=10.0, VACUUM=True,
    )  # fmt: skip
    taken = [
        fits.BinTableHDU(coadd.data, name=f"{'BR'[number % 2]}{number // 2 + 1}-{number:08d}")
        for number in range(exposures)
    ]
    fits.HDUList([primary, coadd, every, lines, *taken]).writeto(path)


def write_lamost(path: Path, flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray) -> None:
    """One image of five rows, packed by gzip, as LAMOST has them to DR8."""
    bad = ivar == 0
    image = fits.PrimaryHDU(np.array([flux, ivar, 10.0**loglam, bad, bad], dtype=np.float32))
    image.header.update(
        TELESCOP="LAMOST", OBSID=900000001, LMJD=50000, PLANID="SIMULATED", SPID=1, FIBERID=1,
        COEFF0=float(loglam[0]), COEFF1=1e-4, DATA_V="LAMOST DR5", VACUUM=True, RA=10.0, DEC=10.0,
    )  # fmt: skip
    image.writeto(path)


FILES: dict[str, tuple[str, Callable[..., None]]] = {
    "SDSS lite": ("spec-0900-50000-{:04d}.fits", write_lite),
    "SDSS full": ("spec-0900-50000-{:04d}.fits", write_full),
    "LAMOST .fits.gz": ("spec-50000-SIMULATED_sp01-{:03d}.fits.gz", write_lamost),
}


def write_files(folder: Path, kind: str, drawn: Simulated, loglam: np.ndarray) -> list[str]:
    """One file per spectrum, of a kind in `FILES`, from its first to its last good pixel."""
    folder.mkdir()
    name, write = FILES[kind]
    paths = []
    for number, (flux, ivar) in enumerate(zip(drawn.flux, drawn.ivar, strict=True)):
        good = np.flatnonzero(ivar)
        cut = slice(good[0], good[-1] + 1)
        path = folder / name.format(number)
        write(path, 12.0 * flux[cut], ivar[cut] / 144.0, loglam[cut])
        paths.append(str(path))
    return paths


def write_parquet(path: Path, drawn: Simulated, wavelength: np.ndarray, count: int) -> None:
    """Nested columns as LSDB and the Multimodal Universe have them; spectra again in turn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.list_(pa.float32())
    parts = [(name, lists) for name in ("flux", "ivar", "lambda")] + [
        ("mask", pa.list_(pa.bool_()))
    ]
    fields = [("object_id", pa.string()), ("ra", pa.float64()), ("dec", pa.float64()),
              ("spectrum", pa.struct(parts))]  # fmt: skip
    schema = pa.schema(fields)
    shown = wavelength.astype(np.float32)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, count, GROUP):
            numbers = np.arange(start, min(start + GROUP, count))
            which = numbers % len(drawn.flux)
            spectra = [
                {"flux": flux, "ivar": ivar, "lambda": shown, "mask": ivar == 0}
                for flux, ivar in zip(drawn.flux[which], drawn.ivar[which], strict=True)
            ]
            rows = {
                "object_id": [f"simulated-{number}" for number in numbers],
                "ra": np.full(len(numbers), 10.0),
                "dec": np.full(len(numbers), 10.0),
                "spectrum": pa.array(spectra, schema.field("spectrum").type),
            }
            writer.write_table(pa.table(rows, schema))
