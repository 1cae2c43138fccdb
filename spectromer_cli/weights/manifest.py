"""The manifest: what a folder of weights holds, with the hash of every file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.model.config import ModelConfig
from spectromer_cli.paths import atomic_path, bundled_weights_dir, sha256_of

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
MAX_MANIFEST = 10_000_000  # bytes, far above what any folder of weights needs


@dataclass(frozen=True)
class Manifest:
    """The weights of one folder.

    Parameters
    ----------
    folder : Path
        Where the files lie.
    default : str or None
        Name of the weights to take where none is named.
    entries : dict of str to dict
        Name → ``name, file, sha256, size, licence, trained_on, description, image, grid,
        labels, url``; only the first three are always there.
    """

    folder: Path
    default: str | None = None
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)


def load_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises
    ------
    UsageError
        If the folder has none.
    SpectromerError
        If it is broken, or of a newer program.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise ValueError(f"it has more than {MAX_MANIFEST} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] > MANIFEST_VERSION:
            raise SpectromerError(
                f"{path} needs a newer version of spectromer", "pip install --upgrade spectromer"
            )
        default = document["default"]
        entries = {entry["name"]: entry for entry in document["weights"]}
        missing = [k for e in entries.values() for k in ("file", "sha256") if k not in e]
        outside = [e["file"] for e in entries.values() if Path(e["file"]).name != e["file"]]
        sizes = [e["size"] for e in entries.values() if "size" in e]
        if not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError("a size is not a number of bytes")
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} contains no weights ({MANIFEST} is missing)",
            "give the output folder of finetune or train",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpectromerError(
            f"{path} is broken ({type(error).__name__}: {error})", "restore it, or train again"
        ) from error
    if missing or outside or default not in entries:
        raise SpectromerError(
            f"{path} is broken: it needs a default among its weights, and for each a sha256 and "
            "a file in the same folder",
            "restore it, or train again",
        )
    return Manifest(folder, default, entries)


def bundled_manifest() -> Manifest:
    """The manifest that ships with the program; empty where there is none.

    Raises
    ------
    SpectromerError
        If it is broken.
    """
    folder = bundled_weights_dir()
    return load_manifest(folder) if (folder / MANIFEST).exists() else Manifest(folder)


def describe(path: Path, config: ModelConfig, **extra: Any) -> dict[str, Any]:
    """The manifest's entry for a file of weights.

    Parameters
    ----------
    path : Path
        The safetensors file, named after the weights.
    config : ModelConfig
        The configuration in its header.
    **extra
        ``licence``, ``trained_on``, ``description``, ``url``. What follows from the file and
        the configuration cannot be given.
    """
    return {
        **extra,
        "name": path.stem,
        "file": path.name,
        "sha256": sha256_of(path),
        "size": path.stat().st_size,
        "image": config.image,
        "grid": asdict(config.grid),
        "labels": {task["name"]: task["labels"] for task in config.tasks if "labels" in task},
    }


def add_entry(folder: Path, entry: dict[str, Any]) -> None:
    """Put an entry into a folder's manifest, in place of one of the same name.

    The first weights of a folder become its default.

    Raises
    ------
    SpectromerError
        If the folder's manifest is broken or cannot be written.
    """
    has_one = (folder / MANIFEST).exists()
    manifest = load_manifest(folder) if has_one else Manifest(folder, default=entry["name"])
    document = {
        "version": MANIFEST_VERSION,
        "default": manifest.default,
        "weights": list({**manifest.entries, entry["name"]: entry}.values()),
    }
    with atomic_path(folder / MANIFEST) as temporary:
        text = json.dumps(document, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
