"""Weights: found by name, and verified by their sha256 at every use.

A folder of weights holds safetensors files and a `manifest.json` that describes each. Such
folders are the one that ships with the program, what fine-tuning writes, and a repository
on the Hugging Face hub.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectromer_cli.errors import SpectromerError, UsageError, WeightsNotVerified
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.paths import cache_dir, cache_folder, sha256_of
from spectromer_cli.weights import hub
from spectromer_cli.weights.manifest import (
    MANIFEST,
    MAX_MANIFEST,
    Manifest,
    bundled_manifest,
    load_manifest,
)

if TYPE_CHECKING:
    from spectromer_cli.model.template_fit import Basis

# The one entry in the safetensors header: the model's configuration.
HEADER_KEY = "spectromer"
_REINSTALL = "reinstall the program: pip install --force-reinstall spectromer"


@dataclass(frozen=True)
class Located:
    """Known weights, not verified yet.

    Parameters
    ----------
    name : str
        Their name in the manifest, or the hub's name for them.
    path : Path or None
        The safetensors file; None where it has to be downloaded first.
    entry : dict
        Their entry in the manifest.
    source : {"program", "folder", "hub"}
        Whose manifest that is.
    """

    name: str
    path: Path | None
    entry: dict[str, Any]
    source: Literal["program", "folder", "hub"]


@dataclass(frozen=True)
class Weights:
    """Verified weights.

    Parameters
    ----------
    name : str
        Their name in the manifest.
    path : Path
        The safetensors file.
    sha256 : str
        Its hash, just computed and equal to the manifest's.
    config : ModelConfig
        How they were trained, from the file's own header.
    entry : dict
        Their entry in the manifest.
    """

    name: str
    path: Path
    sha256: str
    config: ModelConfig
    entry: dict[str, Any]


def locate(name: str | None, *, force: bool = False) -> Located:
    """Find weights without verifying them; only the hub's are downloaded at once.

    Parameters
    ----------
    name : str or None
        As for `resolve`.
    force : bool
        Download a hub's files again even if they are here.

    Returns
    -------
    Located

    Raises
    ------
    UsageError
        If there are no such weights; the message offers near names.
    NetworkError
        If the hub cannot be reached or has no such repository.
    """
    if name and name.startswith(hub.PREFIX):
        return _locate_on_hub(name, force)
    bundled = bundled_manifest()
    wanted = name or bundled.default
    if wanted is None:
        raise SpectromerError(
            f"this installation contains no weights ({bundled.folder} has no {MANIFEST})",
            "give a folder with --model DIR, or reinstall spectromer",
        )
    if wanted in bundled.entries:
        return _locate_bundled(bundled, wanted)
    # A folder, or what `spectromer weights download URL` put into the cache.
    folders = [f for f in (Path(wanted), cache_dir() / "weights" / wanted) if f.is_dir()]
    if folders:
        own = load_manifest(folders[0])
        entry = own.entries[str(own.default)]
        return Located(entry["name"], own.folder / entry["file"], entry, "folder")
    if Path(wanted).is_file():
        return _locate_file(Path(wanted))
    near = difflib.get_close_matches(wanted, bundled.entries, n=2, cutoff=0.5)
    known = ", ".join(bundled.entries) or "none"
    raise UsageError(
        f"no weights and no folder are named {wanted!r}",
        f"did you mean {' or '.join(near)}?" if near else f"choose from {known}",
    )


def _locate_file(path: Path) -> Located:
    """Find a file's entry, and so its hash, in the manifest beside it."""
    for entry in load_manifest(path.parent).entries.values():
        if entry["file"] == path.name:
            return Located(entry["name"], path, entry, "folder")
    raise UsageError(
        f"{path} cannot be verified: {path.with_name(MANIFEST)} does not name it",
        "keep the file in its original folder",
    )


def _locate_bundled(bundled: Manifest, name: str) -> Located:
    """Find weights of the bundled manifest: in the cache, else beside the manifest.

    The cache comes first, so that a download mends a damaged file in a folder that the user
    cannot write.
    """
    entry = bundled.entries[name]
    for folder in (cache_dir() / "weights", bundled.folder):
        if (folder / entry["file"]).is_file():
            return Located(name, folder / entry["file"], entry, "program")
    return Located(name, None, entry, "program")


def resolve(name: str | None = None, *, force: bool = False) -> Weights:
    """Find weights, download them if they are not here, and verify them.

    Parameters
    ----------
    name : str or None
        A name of the bundled manifest, a folder with a manifest, a file in one, or
        ``hf-hub:owner/name``; None takes the bundled default.
    force : bool
        Download them again even if they are here.

    Returns
    -------
    Weights

    Raises
    ------
    UsageError
        If there are no such weights; the message offers near names.
    WeightsNotVerified
        If the file's sha256 is not the manifest's.
    NetworkError
        If they have to be downloaded and that fails.
    SpectromerError
        If the file is missing, cannot be downloaded from anywhere, or was not written by
        spectromer.
    """
    found = locate(name, force=force)
    if found.path is None or (force and found.source == "program"):
        found = _download_into_cache(found)
    sha256 = verify(found)
    assert found.path is not None
    return Weights(found.name, found.path, sha256, read_config(found.path), found.entry)


def _download_into_cache(found: Located) -> Located:
    from spectromer_cli.archives.download import download

    entry = found.entry
    if not entry.get("url"):
        raise SpectromerError(f"the weights {found.name} have no download URL", _REINSTALL)
    target = cache_folder("weights") / entry["file"]
    download(entry["url"], target, sha256=entry["sha256"], size=entry.get("size"))
    return replace(found, path=target)


def verify(found: Located) -> str:
    """Hash a file of weights and compare it with its manifest.

    Returns
    -------
    str
        The sha256, hexadecimal.

    Raises
    ------
    WeightsNotVerified
        If it is another than the manifest's.
    SpectromerError
        If the file cannot be read.
    """
    path = found.path
    assert path is not None, "locate it, download it, then verify it"
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise SpectromerError(
            f"{path} cannot be read ({error.strerror})", "restore it or train it again"
        ) from error
    expected = str(found.entry["sha256"]).lower()
    if sha256 != expected:
        raise WeightsNotVerified(
            f"{path} is not the file that its manifest describes: sha256 {sha256[:12]} "
            f"instead of {expected[:12]}",
            _how_to_mend(found),
        )
    return sha256


def _how_to_mend(found: Located) -> str:
    if found.source == "folder":
        return "copy the folder again, or train the weights again"
    if found.source == "program" and not found.entry.get("url"):
        return _REINSTALL
    return f"spectromer weights download {found.name} --force"


def read_config(path: Path) -> ModelConfig:
    """The configuration in the header of a safetensors file.

    Raises
    ------
    SpectromerError
        If there is none, or it is broken or of a newer program.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SpectromerError(f"{path} is not a safetensors file ({error})") from error
    if HEADER_KEY not in header:
        raise SpectromerError(
            f"{path} was not written by spectromer: its header has no configuration",
            "see spectromer weights list",
        )
    return ModelConfig.from_json(header[HEADER_KEY], source=str(path))


def load_templates(weights: Weights) -> dict[str, Basis]:
    """The rest-frame templates that travel with weights, by class; empty if they have none."""
    from safetensors import safe_open

    from spectromer_cli.model.template_fit import PREFIX, from_arrays

    with safe_open(weights.path, framework="numpy") as file:
        names = [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118
        arrays = {name: file.get_tensor(name) for name in names}
    return from_arrays(arrays, weights.config.templates)


def _locate_on_hub(name: str, force: bool) -> Located:
    repository = name.removeprefix(hub.PREFIX)
    beside = hub.hub_file(repository, MANIFEST, force, MAX_MANIFEST)
    manifest = load_manifest(beside.parent)
    entry = manifest.entries[str(manifest.default)]
    # Their name stays the hub's, so that every message and table says where they came from.
    weights = hub.hub_file(repository, entry["file"], force, entry.get("size"))
    return Located(name, weights, entry, "hub")
