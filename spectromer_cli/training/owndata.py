"""A user's own labelled spectra: found by looking, read, and described."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra.catalogues import read_catalogue
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.loading import load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target, expand
from spectromer_cli.training.objects import same_objects

if TYPE_CHECKING:
    from astropy.table import Table

CATALOGUES = tuple(f"labels.{end}" for end in ("ecsv", "csv", "fits", "vot", "parquet"))
# What survey files say of themselves, as targets.
HEADER_LABELS = {"class": "survey_class", "subclass": "survey_subclass", "z": "survey_z"}
RA_NAMES = ("ra", "raj2000", "_raj2000", "ra_deg", "plug_ra", "target_ra")
DEC_NAMES = ("dec", "dej2000", "_dej2000", "dec_deg", "plug_dec", "target_dec")
NAMED_PROBLEMS = 5
# Words that stand for a missing label.
MISSING = ("", "nan", "none", "null", "n/a", "na", "--", "-", "unknown")


@dataclass
class Found:
    """Where labelled spectra are, before they are read.

    Parameters
    ----------
    targets : list of Target
        What to read; ``catalogue_row`` points into `labels`.
    labels : astropy Table or None
        The labels; None where the files' headers have them.
    how : str
        For people: what was found.
    """

    targets: list[Target]
    labels: Table | None
    how: str


@dataclass
class OwnSpectra:
    """A user's spectra on a grid, with what is known of them.

    Parameters
    ----------
    grid : Grid
    flux, ivar : array of float16 and float32, shape (n, grid.n)
        As `spectra.grid.prepare` gives them.
    file : array of str, shape (n,)
    row : array of int, shape (n,)
    group : array of int, shape (n,)
        Number of the object.
    sn : array of float, shape (n,)
        Median S/N a pixel.
    labels : dict of str to array, shape (n,)
        The columns asked for, as they are in the catalogue; masked arrays where some are
        missing.
    duplicates : int
        How many spectra are of an object that another one shows too.
    unread : list of str
        Why others could not be read.
    """

    grid: Grid
    flux: np.ndarray
    ivar: np.ndarray
    file: np.ndarray
    row: np.ndarray
    group: np.ndarray
    sn: np.ndarray
    labels: dict[str, np.ma.MaskedArray]
    duplicates: int
    unread: list[str]

    def __len__(self) -> int:
        return len(self.flux)


def find(folder: Path | None, catalogue: Path | None, spectra_dir: Path | None) -> Found:
    """Find out what a user's data are.

    Parameters
    ----------
    folder : Path or None
        With ``labels.*`` in it; or with sub-folders named after classes; or with survey files
        whose headers carry class and redshift.
    catalogue : Path or None
        A table of labels (see `spectra.catalogues.read_catalogue`), instead of a folder.
    spectra_dir : Path or None
        Where a catalogue's spectra are looked up.

    Returns
    -------
    Found

    Raises
    ------
    UsageError
        If there is neither or both, or nothing in it.
    """
    if (folder is None) == (catalogue is None):
        raise UsageError("give a folder or --catalog, one of them", "spectromer finetune ./mydata")
    if folder is not None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder", "for a table of labels: --catalog FILE")
        inside = [folder / name for name in CATALOGUES if (folder / name).is_file()]
        catalogue = inside[0] if inside else None
        spectra_dir = spectra_dir or folder
    if catalogue is not None:
        targets, labels = read_catalogue(catalogue, spectra_dir)
        return Found(targets, labels, f"the table {catalogue}")
    assert folder is not None
    classes = _class_folders(folder)
    if classes:
        from astropy.table import Table

        targets = [
            replace(target, catalogue_row=number)
            for number, name in enumerate(classes)
            for target in expand([str(folder / name)])
        ]
        names = ", ".join(classes)
        return Found(targets, Table({"class": classes}), f"folders named after classes: {names}")
    targets = list(expand([str(folder)]))
    return Found(targets, None, f"{folder}, whose files' headers carry the labels")


def _class_folders(folder: Path) -> list[str]:
    """Sub-folders, if all spectra lie in them and none beside them."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if entry.is_dir()]
    return folders if len(folders) > 1 and len(folders) == len(entries) else []


def read(
    found: Found, wanted: list[str], grid: Grid, options: ReadOptions, workers: int
) -> OwnSpectra:
    """Read the spectra and pick the labels wanted.

    Parameters
    ----------
    found : Found
    wanted : list of str
        Names of the label columns.
    grid : Grid
    options : ReadOptions
    workers : int
        Processes that read.

    Returns
    -------
    OwnSpectra

    Raises
    ------
    UsageError
        If a column is not there.
    ReadError
        If not one spectrum can be read.
    """
    columns = _columns(found, wanted)
    flux, ivar, unread, metas, items = [], [], [], [], []
    with console.progress("reading", len(found.targets)) as advance:
        for item in load_all(found.targets, options, grid=grid, workers=workers):
            advance(item.begins)
            if item.prepared is None:
                if not item.skipped:
                    unread.append(item.complaint)
                continue
            flux.append(item.prepared.flux.astype(np.float16))
            ivar.append(item.prepared.ivar)
            metas.append(item.meta)
            item.prepared = None
            items.append(item)
    for complaint in unread[:NAMED_PROBLEMS]:
        console.warn(complaint)
    if len(unread) > NAMED_PROBLEMS:
        console.warn(f"{len(unread) - NAMED_PROBLEMS} more spectra cannot be read")
    if not items:
        raise ReadError(
            f"none of the {len(found.targets)} spectra can be read",
            "check the paths in the table, and the wavelengths against the grid",
        )
    if found.labels is None:
        labels = {name: _from_headers(metas, name) for name in wanted}
        positions = [(meta.get("ra"), meta.get("dec")) for meta in metas]
    else:
        rows = np.array([item.catalogue_row for item in items])
        labels = {name: np.ma.asarray(columns[name])[rows] for name in wanted}
        positions = _positions(found.labels, rows, metas)
    group = same_objects(positions, [values.tobytes() for values in flux])
    return OwnSpectra(
        grid,
        np.stack(flux),
        np.stack(ivar),
        np.array([item.file for item in items]),
        np.array([item.row for item in items]),
        group,
        np.array([item.sn_median for item in items]),
        labels,
        len(group) - len(np.unique(group)),
        unread,
    )


def _columns(found: Found, wanted: list[str]) -> dict[str, np.ma.MaskedArray]:
    """The label columns of a table, found in upper or lower case."""
    if found.labels is None:
        unknown = [name for name in wanted if name not in HEADER_LABELS]
        if unknown:
            raise UsageError(
                f"the files' headers have no {', '.join(unknown)}",
                f"they may have {', '.join(HEADER_LABELS)}; for others give a table of labels",
            )
        return {}
    by_name = {name.lower(): name for name in reversed(found.labels.colnames)}
    by_name |= {name: name for name in found.labels.colnames}
    missing = [name for name in wanted if name not in by_name and name.lower() not in by_name]
    if missing:
        raise UsageError(
            f"{found.how} has no column {', '.join(missing)}",
            f"--target takes of {', '.join(found.labels.colnames)}",
        )
    return {name: found.labels[by_name.get(name, by_name.get(name.lower()))] for name in wanted}


def _from_headers(metas: list[dict], name: str) -> np.ma.MaskedArray:
    """A label that survey files carry; one with a warning of the survey's is missing."""
    values = [meta.get(HEADER_LABELS[name]) for meta in metas]
    doubted = [bool(meta.get("survey_zwarning")) for meta in metas]
    missing = [value is None or doubt for value, doubt in zip(values, doubted, strict=True)]
    empty = np.nan if name == "z" else ""
    filled = [empty if gone else v for v, gone in zip(values, missing, strict=True)]
    return np.ma.MaskedArray(filled, mask=missing)


def _positions(labels: Table, rows: np.ndarray, metas: list[dict]) -> list[tuple]:
    """Right ascension and declination of each spectrum, from the table or else from the file."""
    lower = {name.lower(): name for name in reversed(labels.colnames)}
    ra = next((lower[name] for name in RA_NAMES if name in lower), None)
    dec = next((lower[name] for name in DEC_NAMES if name in lower), None)
    if ra is None or dec is None:
        return [(meta.get("ra"), meta.get("dec")) for meta in metas]
    return list(zip(labels[ra][rows].tolist(), labels[dec][rows].tolist(), strict=True))


def describe(found: Found, data: OwnSpectra, categories: list[str]) -> list[str]:
    """What was found, line by line, for people to read before the training.

    Parameters
    ----------
    found : Found
    data : OwnSpectra
    categories : list of str
        The label columns that are classes even if they look like numbers.

    Returns
    -------
    list of str
    """
    covered = (data.ivar > 0).mean(axis=1)
    sn = np.percentile(data.sn, [16, 50, 84])
    first, last = data.grid.wavelength[[0, -1]]
    lines = [
        f"found {found.how}",
        f"{len(data)} spectra of {len(np.unique(data.group))} objects; "
        f"{len(data.unread)} cannot be read; {data.duplicates} of an object shown already",
        f"S/N a pixel: median {sn[1]:.3g}, two thirds between {sn[0]:.3g} and {sn[2]:.3g}",
        f"grid {first:.0f} to {last:.0f} Å in {data.grid.n} pixels, of which the median spectrum "
        f"fills {np.median(covered):.0%}",
    ]
    lines += [
        f"{name}: {_summary(values, name in categories)}" for name, values in data.labels.items()
    ]
    return lines


def _summary(values: np.ma.MaskedArray, is_category: bool) -> str:
    """Counts of the labels, or the range of the numbers; and how many are missing."""
    texts = [str(value).strip() for value in values.compressed()]
    texts = [text for text in texts if text.lower() not in MISSING]
    missing = f"; missing {len(values) - len(texts)}" if len(texts) < len(values) else ""
    if not is_category:
        try:
            numbers = np.array(texts, dtype=float)
        except ValueError:
            is_category = True
    if not texts:
        return "nothing" + missing
    if not is_category:
        middle = np.median(numbers)
        return f"{numbers.min():.4g} to {numbers.max():.4g}, median {middle:.4g}{missing}"
    count = Counter(texts).most_common()
    said = ", ".join(f"{label} {number}" for label, number in count[:20])
    return said + (f" and {len(count) - 20} more" if len(count) > 20 else "") + missing
