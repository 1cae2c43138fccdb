"""HATS catalogues: which files of such a folder hold the rows, and what it says of itself.

A catalogue is a folder of ``dataset/Norder=K/Dir=D/Npix=N.parquet`` beside a file of properties
(IVOA Note, Hierarchical Adaptive Tiling Scheme; HiPSCat, its forerunner, has no ``dataset``).
Several of them, with copies of their rows for matching, may make a collection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from spectromer_cli.paths import atomic_path

_PROPERTIES = ("hats.properties", "properties")
_PART = re.compile(r"(?:Norder|Dir|Npix)=(\d+)")
_PARTITION = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)\.\w+$")
# What a catalogue may hold beside objects: copies of rows of another one, or none.
_COPIES = ("margin", "index", "association", "map")
# A file of properties has some thirty lines.
_MAX_BYTES = 100_000


def entries(
    folder: Path, listing: list[os.DirEntry[str]], *, asked_for: bool
) -> list[os.DirEntry[str]]:
    """What of a folder is to be searched for spectra.

    Parameters
    ----------
    folder : Path
    listing : list of DirEntry
        All that is in it, sorted by name.
    asked_for : bool
        Somebody named the folder, so that even copies of rows are wanted.

    Returns
    -------
    list of DirEntry
        `listing` itself, unless the folder is a catalogue or a part of one: then the partitions,
        by order and number, without indices, maps and the rows that are there for a preview.
    """
    names = {entry.name for entry in listing}
    if "dataset" in names and not names.isdisjoint(_PROPERTIES):
        if properties(folder).get("dataproduct_type") in _COPIES and not asked_for:
            return []
        return [entry for entry in listing if entry.name == "dataset"]
    parts = [(int(part[1]), e) for e in listing if (part := _PART.match(e.name))]
    return [entry for _, entry in sorted(parts, key=lambda part: part[0])] or listing


def properties(folder: Path) -> dict[str, str]:
    """What a catalogue says of itself, by the names of its file of properties.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict
        Empty if there is no such file, or it cannot be read.
    """
    for name in _PROPERTIES:
        try:
            if not (folder / name).is_file():
                continue
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                lines = file.read(_MAX_BYTES).splitlines()
        except OSError:
            continue
        pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        return {key.strip(): value.strip() for key, value in pairs}
    return {}


def catalogue_of(path: Path) -> dict[str, str]:
    """The properties of the catalogue that a partition belongs to; empty if it is of none."""
    folder = path.parent
    if not _PART.match(path.name) and not _PART.match(folder.name):
        return {}
    while _PART.match(folder.name):
        folder = folder.parent
    return properties(folder.parent if folder.name == "dataset" else folder)


def partition_of(path: Path) -> str:
    """The name of a partition in its catalogue, such as ``Norder=1/Dir=0/Npix=7.parquet``.

    Returns
    -------
    str
        Empty if the file is no partition.
    """
    found = _PARTITION.search(path.as_posix())
    return "" if found is None else found[0]


def write_catalogue(folder: Path, rows: Mapping[str, int], said: Mapping[str, str]) -> None:
    """Make a catalogue of partitions that are there: its properties and the list of partitions.

    Parameters
    ----------
    folder : Path
        With the partitions, of packed spectra, in ``dataset``.
    rows : mapping
        How many rows each has, by the names that `partition_of` gives.
    said : mapping
        What the catalogue says of itself, as `properties` gives it.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    from pyarrow import parquet

    from spectromer_cli.spectra.packed import ORDER, schema

    own = {
        "obs_collection": "spectra",
        "dataproduct_type": "object",
        **{key: said[key] for key in ("obs_collection", "dataproduct_type") if key in said},
        "hats_nrows": str(sum(rows.values())),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": f"_healpix_{ORDER}",
        "hats_col_healpix_order": str(ORDER),
        "hats_npix_suffix": ".parquet",
    }
    places = [
        (int(found[1]), int(found[2]))
        for name, count in rows.items()
        if count and (found := _PARTITION.search(name))
    ]
    if places:
        own["hats_order"] = str(max(places)[0])
    for name, lines in (
        (_PROPERTIES[0], [f"{key}={text}" for key, text in own.items()]),
        (
            "partition_info.csv",
            ["Norder,Npix", *(f"{order},{pixel}" for order, pixel in sorted(places))],
        ),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    parquet.write_metadata(schema(), folder / "dataset" / "_common_metadata")
