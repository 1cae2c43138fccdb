"""The model's configuration: everything that must travel with the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from spectromer_cli.errors import SpectromerError
from spectromer_cli.spectra.grid import Grid

# Raised when a configuration written from now on would be misread by older programs.
CONFIG_VERSION = 1
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
        Name of the ViT in timm.
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
            values = json.loads(text)
            version = values["version"]
            if version > CONFIG_VERSION:
                raise SpectromerError(f"{source} is for a newer spectromer", _UPGRADE)
            unknown = set(values) - set(_JSON_TYPES)
            if unknown:
                names = ", ".join(sorted(unknown))
                raise SpectromerError(
                    f"{source} has settings that this version does not know: {names}", _UPGRADE
                )
            wrong = [key for key in values if not isinstance(values[key], _JSON_TYPES[key])]
            if wrong:
                raise TypeError(f"unfit values of {', '.join(wrong)}")
            return cls(**{**values, "grid": Grid(**values["grid"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpectromerError(
                f"{source} holds a broken model configuration ({type(error).__name__}: {error})",
                "fetch or train the weights again",
            ) from error
