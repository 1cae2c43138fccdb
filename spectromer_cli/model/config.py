"""The model's configuration: everything that must travel with the weights."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from spectromer_cli.errors import SpectromerError
from spectromer_cli.spectra.grid import Grid

# Raised when a configuration written from now on would be misread by older programs.
CONFIG_VERSION = 1
# Bounds on what a header may ask for, far above what any model here needs: a file of a few bytes
# must not take the memory of the machine, nor its backbone a place that timm would load from.
MAX_JSON = 4_000_000  # characters
MAX_TOKENS = 64  # along one side: an image of 1024 by 1024
MAX_PIXELS = 262_144  # of the wavelength grid
MAX_TASKS = 200
MAX_OUTPUTS = 100_000  # labels and bins of all tasks together
# A name of timm, with the tag of its weights or without. Others, such as hf-hub:…, local-dir:… or
# a path, would make timm load from there.
_BACKBONE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")
_UPGRADE = "pip install --upgrade spectromer"
_JSON_TYPES = {
    "backbone": str,
    "image": str,
    "tokens": int,
    "grid": dict,
    "tasks": list,
    "temperatures": dict,
    "templates": dict,
    "split": dict,
    "confidence": dict,
    "version": int,
}


@dataclass(frozen=True)
class ModelConfig:
    """How the weights were trained, so that nothing else can disagree with it.

    It is stored in the header of the weights file.

    Parameters
    ----------
    backbone : str
        Name of the ViT in timm, plain: letters, digits, ``_`` and, before a tag, one point.
    image : str
        Name of the image in `spectromer_cli.images.IMAGES`.
    tokens : int
        Patches along one side of the image.
    grid : Grid
        Wavelength grid of the spectra.
    tasks : list of dict
        The tasks in the order of the head's outputs, each as `model.tasks` writes it:
        ``name``, ``kind`` and what that kind needs. Plain values only (JSON).
    temperatures : dict of str to float
        Task name → temperature that its logits are divided by to calibrate them.
    templates : dict of str to dict
        Class → ``loglam0``, ``error_scale`` and ``misfit_scale`` of its templates (see
        `model.template_fit.Basis`), whose vectors lie beside the weights.
    split : dict of str to float
        ``fraction`` and ``seed`` of the objects that were held out (see
        `training.split.places`), so that they can be judged by again.
    confidence : dict of lists
        How often held-out redshifts of a given confidence are wrong (see `model.confidence`).
    version : int
        Version of this format.
    """

    backbone: str
    image: str
    tokens: int
    grid: Grid
    tasks: list[dict[str, Any]]
    temperatures: dict[str, float] = field(default_factory=dict)
    templates: dict[str, dict[str, float]] = field(default_factory=dict)
    split: dict[str, float] = field(default_factory=dict)
    confidence: dict[str, list[float]] = field(default_factory=dict)
    version: int = CONFIG_VERSION

    def to_json(self) -> str:
        """The configuration as one line of JSON.

        Raises
        ------
        ValueError, TypeError
            If a task or temperature holds NaN, infinity or no plain value.
        """
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str = "the configuration") -> ModelConfig:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.
        source : str
            What it was read from, for messages.

        Returns
        -------
        ModelConfig

        Raises
        ------
        SpectromerError
            If the text is no configuration, or one of a newer program.
        """
        try:
            if len(text) > MAX_JSON:
                raise ValueError(f"{len(text)} characters, more than {MAX_JSON}")
            values = json.loads(text)
            version = values["version"]
            if version > CONFIG_VERSION:
                raise SpectromerError(f"{source} needs a newer version of spectromer", _UPGRADE)
            unknown = set(values) - set(_JSON_TYPES)
            if unknown:
                names = ", ".join(sorted(unknown))
                raise SpectromerError(
                    f"{source} has settings unknown to this version: {names}", _UPGRADE
                )
            wrong = [key for key in values if not isinstance(values[key], _JSON_TYPES[key])]
            if wrong:
                raise TypeError(f"invalid values of {', '.join(wrong)}")
            config = cls(**{**values, "grid": Grid(**values["grid"])})
            _check_sizes(config)
            return config
        except RecursionError as error:
            raise SpectromerError(
                f"{source} has an invalid model configuration: it is nested too deeply",
                "download or train the weights again",
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpectromerError(
                f"{source} has an invalid model configuration ({type(error).__name__}: {error})",
                "download or train the weights again",
            ) from error


def _check_sizes(config: ModelConfig) -> None:
    """Refuse a configuration out of bounds.

    Raises
    ------
    ValueError
        That says which bound.
    """
    if not _BACKBONE.fullmatch(config.backbone):
        raise ValueError(f"the backbone {config.backbone[:80]!r} is not a plain name of timm")
    _bound("tokens", config.tokens, MAX_TOKENS)
    _bound("grid.n", config.grid.n, MAX_PIXELS)
    for name, low, high in (("loglam0", 0.0, 10.0), ("dloglam", 1e-7, 0.1)):
        value = getattr(config.grid, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"grid.{name} is not a number")
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"grid.{name} {value:g} is not within {low:g} to {high:g}")
    last = config.grid.loglam0 + config.grid.dloglam * config.grid.n
    if last > 10.0:
        raise ValueError(f"the grid ends at 10^{last:.0f} Å")
    _bound("the number of tasks", len(config.tasks), MAX_TASKS)
    outputs = 0
    for task in config.tasks:
        if "bins" in task:
            _bound(f"bins of {str(task.get('name'))[:40]}", task["bins"], MAX_OUTPUTS)
        outputs += task.get("bins", 0) + len(task.get("labels", ()))
    if outputs > MAX_OUTPUTS:
        raise ValueError(f"{outputs} outputs, more than {MAX_OUTPUTS}")


def _bound(name: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name} {str(value)[:40]} is not a whole number from 1 to {most}")
