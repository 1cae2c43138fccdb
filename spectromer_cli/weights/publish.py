"""Publishing your own weights: a folder for a web server, and the download from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spectromer_cli.errors import UsageError
from spectromer_cli.paths import atomic_path, cache_folder, make_folder
from spectromer_cli.weights.manifest import add_entry, describe, load_manifest
from spectromer_cli.weights.store import Located, read_config, verify


def publish(folder: Path, target: Path) -> dict[str, Any]:
    """Copy the weights of a run, verified, with their card and manifest.

    Parameters
    ----------
    folder : Path
        The run's folder.
    target : Path
        Made if missing.

    Returns
    -------
    dict
        The manifest's entry: ``file``, ``sha256``, ``size``, …

    Raises
    ------
    UsageError
        If `folder` contains no weights.
    WeightsNotVerified
        If they are not those of its manifest.
    """
    own = load_manifest(folder)
    entry = own.entries[str(own.default)]
    weights = folder / entry["file"]
    verify(Located(entry["name"], weights, entry, "folder"))
    make_folder(target)
    card = weights.with_suffix(".md")
    for path in [weights, *([card] if card.is_file() else [])]:
        with atomic_path(target / path.name) as temporary:
            shutil.copyfile(path, temporary)
    add_entry(target, entry)
    return entry


def download_published(url: str, sha256: str) -> Path:
    """Download published weights into the cache.

    Parameters
    ----------
    url : str
        Of the safetensors file.
    sha256 : str
        What it must hash to.

    Returns
    -------
    Path
        The folder, for ``--model``.

    Raises
    ------
    UsageError
        If the URL is not that of a safetensors file.
    NetworkError, WeightsNotVerified, SpectromerError
        As `archives.download.download`; also if spectromer did not write the file.
    """
    from spectromer_cli.archives.download import download

    name = Path(urlsplit(url).path).name
    if not name.endswith(".safetensors") or name.startswith("."):
        raise UsageError(
            f"{url} is not the URL of a .safetensors file", "give the URL of the file itself"
        )
    path = cache_folder("weights") / Path(name).stem / name
    download(url, path, sha256=sha256)
    add_entry(path.parent, describe(path, read_config(path), url=url))
    return path.parent
