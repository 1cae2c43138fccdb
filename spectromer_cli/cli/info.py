"""`spectromer info`: versions, devices, places and weights, for a bug report."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from spectromer_cli._version import __version__
from spectromer_cli.cli import options

EPILOG = """Examples:

spectromer info

spectromer info --json
"""

PACKAGES = (
    *("torch", "timm", "numpy", "scipy", "astropy", "astroquery", "pyvo", "h5py", "pyarrow"),
    *("matplotlib", "bokeh", "safetensors", "huggingface_hub", "typer", "rich", "specutils"),
)
# What changes how the program runs; no token is among them.
VARIABLES = (
    *("SPECTROMER_CACHE", "SPECTROMER_DEBUG", "HF_HUB_OFFLINE", "HF_HOME", "OMP_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "PYTHONIOENCODING", "NO_COLOR"),
)


def info(as_json: options.Json = False) -> None:
    """Print what a bug report needs: versions, devices, paths, weights.

    Contains no tokens, and no file or user names except in the paths of the
    program.
    """
    from spectromer_cli.outputs import screen

    found = {
        "spectromer": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.platform()}, {os.cpu_count()} cores",
        **_versions(),
        **_devices(),
        **_places(),
        **_weights(),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        screen.print_pairs(found)


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _devices() -> dict[str, str]:
    """The devices that a model may run on."""
    import torch

    from spectromer_cli.model.device import choose_device, choose_precision

    chosen = choose_device("auto")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    gpus += ["mps"] if torch.backends.mps.is_available() else []
    return {
        "devices": ", ".join(["cpu", *gpus]),
        "--device auto": str(chosen),
        "--precision auto": choose_precision("auto", chosen),
        "threads": str(torch.get_num_threads()),
    }


def _places() -> dict[str, str]:
    from spectromer_cli.paths import bundled_weights_dir, cache_dir

    return {
        "program": str(Path(__file__).parents[1]),
        "included weights": str(bundled_weights_dir()),
        "cache": str(cache_dir()),
    }


def _weights() -> dict[str, str]:
    """The weights that this version knows, the default first."""
    from spectromer_cli.weights.manifest import bundled_manifest
    from spectromer_cli.weights.store import locate

    manifest = bundled_manifest()
    names = sorted(manifest.entries, key=lambda name: name != manifest.default)
    where = {name: locate(name) for name in names}
    return {
        f"weights {name}": f"{found.path or 'not on this machine'}, sha256 "
        f"{found.entry.get('sha256', 'unknown')}"
        for name, found in where.items()
    }
