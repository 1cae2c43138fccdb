"""Results as redrock writes them, for the tools that read its files.

The layout is that of `redrock.external.desi.write_zbest` (redrock 0.21): HDU REDSHIFTS, and for
spectra of DESI the FIBERMAP of their files, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.outputs import formats

if TYPE_CHECKING:
    from astropy.table import Table

EXTNAME = "REDSHIFTS"
# Widths of the columns of text.
WIDTHS = {"SPECTYPE": 6, "SUBTYPE": 20, "FITMETHOD": 4}
COLUMNS = (
    ("TARGETID", "int64"), ("Z", "float64"), ("ZERR", "float64"), ("ZWARN", "int64"),
    ("CHI2", "float64"), ("COEFF", "float64"), ("FITMETHOD", "U4"), ("NPIXELS", "int64"),
    ("SPECTYPE", "U6"), ("SUBTYPE", "U20"), ("NCOEFF", "int64"), ("DELTACHI2", "float64"),
)  # fmt: skip
# Beside them while the file grows: which row of which FIBERMAP is wanted.
WHERE = ("file", "row")
# A redshift further than this from another is another [km/s], a star's velocity than that; a fit
# that is better by less is not certain (redrock/constants.py).
MAX_VELOCITY, MAX_VELOCITY_OF_STARS, MIN_DELTA_CHI2 = 1000.0, 100.0, 9.0


def targetid_of(plate: int, mjd: int, fiberid: int) -> int:
    """The TARGETID that `rrboss` gives to a spectrum of SDSS (redrock/external/boss.py)."""
    return plate * 1_000_000_000 + mjd * 10_000 + fiberid


def finish(grown: Path, path: Path, provenance: formats.Provenance) -> None:
    """Make redrock's file of rows that `formats.FORMATS` has let grow.

    Parameters
    ----------
    grown : Path
        Arrow streams with `COLUMNS` and `WHERE`.
    path : Path
    provenance : mapping of str to str
        Into the header; ``TEMNAM…`` and ``TEMVER…`` say which templates COEFF are of.
    """
    from astropy.io import fits
    from astropy.table import Table, vstack

    blocks = [formats.table_of(block) for block in formats.blocks(grown)]
    table = vstack(blocks, metadata_conflicts="silent")
    where = list(zip(*(table[name].tolist() for name in WHERE), strict=True))
    redshifts = Table()
    for name, kind in COLUMNS:
        values = np.ma.filled(table[name], "" if kind.startswith("U") else None)
        redshifts[name] = np.asarray(values).astype(kind.replace("U", "S"))
    hdus = [fits.PrimaryHDU(), fits.table_to_hdu(redshifts)]
    hdus[1].name = EXTNAME
    for hdu in hdus:
        formats.add_provenance(hdu.header, provenance)
    fibermap = _fibermap(where)
    if fibermap is not None:
        hdus.append(fits.table_to_hdu(fibermap))
        hdus[-1].name = "FIBERMAP"
    fits.HDUList(hdus).writeto(path, overwrite=True)


def _fibermap(where: Sequence[tuple[str, int]]) -> Table | None:
    """The rows of the files' FIBERMAPs; None if a file has none."""
    from astropy.table import vstack

    parts = {
        (number, file): _fibermap_rows(Path(file), [row for _, row in group])
        for number, (file, group) in enumerate(groupby(where, key=itemgetter(0)))
    }
    without = [file for (_, file), part in parts.items() if part is None]
    if without:
        if len(without) < len(parts):
            console.warn(f"{without[0]} has no FIBERMAP, so the output has none either")
        return None
    return vstack(list(parts.values()), join_type="inner", metadata_conflicts="silent")


def _fibermap_rows(file: Path, rows: Sequence[int]) -> Any:
    from astropy.table import Table

    from spectromer_cli.errors import ReadError
    from spectromer_cli.spectra.readers import desi
    from spectromer_cli.spectra.readers.base import opened

    try:
        with opened(file) as source:
            found = desi.fibermap_rows(source.handle, rows) if source.kind == "fits" else None
            return None if found is None else Table(found)
    except (ReadError, OSError, IndexError):  # what could not be read has its row, with NODATA
        return None


FORMATS = {".fits": formats.Format(formats.arrow_streams, finish)}
