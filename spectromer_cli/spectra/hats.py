"""HATS catalogues: which files of such a folder hold the rows, and what it says of itself.

A catalogue is a folder of ``dataset/Norder=K/Dir=D/Npix=N.parquet`` beside a file of properties
(IVOA Note, Hierarchical Adaptive Tiling Scheme; HiPSCat, its forerunner, has no ``dataset``).
Several of them, with copies of their rows for matching, may make a collection.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_PROPERTIES = ("hats.properties", "properties")
_PART = re.compile(r"(?:Norder|Dir|Npix)=(\d+)")
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
