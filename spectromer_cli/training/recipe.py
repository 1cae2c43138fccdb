"""A recipe: everything that decides what a training run does, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from spectromer_cli.errors import UsageError
from spectromer_cli.images import DEFAULT_IMAGE


@dataclass(frozen=True)
class Recipe:
    """How weights are made.

    Parameters
    ----------
    name : str
        Name of the weights, ``name.tag``.
    description : str
        One line for people.
    backbone : str
        A ViT by timm's name.
    image : str
        Representation, one of `images.IMAGES`.
    tokens : int
        Patches along a side of the image.
    simulated_share : float
        Share of every batch that is simulated; the rest is real.
    batch_size, steps : int
        Spectra a step, and steps.
    max_minutes : float
        The schedule ends after this time if that comes before `steps`; 0 for no limit.
        With a limit, the result depends on the machine's speed.
    learning_rate, weight_decay : float
        AdamW's; the rate warms up linearly for `warmup` steps, then falls as a cosine to 0.
    warmup : int
        Steps.
    validation_fraction : float
        Share of the objects held out.
    evaluate_every : int
        Steps between checkpoints and looks at the validation split.
    split_seed : int
        Decides which objects are held out: a run that goes on from other weights must have
        theirs, or it is judged on what they have seen.
    seed : int
        Decides every draw.
    """

    name: str
    description: str = ""
    backbone: str = "vit_tiny_patch16_224"
    image: str = DEFAULT_IMAGE
    tokens: int = 7
    simulated_share: float = 0.5
    batch_size: int = 96
    steps: int = 4000
    max_minutes: float = 0.0
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: int = 200
    validation_fraction: float = 0.15
    evaluate_every: int = 500
    split_seed: int = 1
    seed: int = 1


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    UsageError
        If the file is missing or not TOML, or a key is missing, unknown or of a wrong type.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe {path} is not TOML: {error}") from error
    kinds = {field.name: field.type for field in fields(Recipe)}
    for key, value in data.items():
        if key not in kinds:
            raise UsageError(
                f"the recipe {path} has an unknown key {key!r}", f"known are {', '.join(kinds)}"
            )
        wanted = {"str": ("str",), "int": ("int",), "float": ("int", "float")}[str(kinds[key])]
        if type(value).__name__ not in wanted:
            raise UsageError(f"the recipe {path}: {key} must be of type {kinds[key]}")
    if "name" not in data:
        raise UsageError(f"the recipe {path} has no name", 'add a line: name = "mine.v1"')
    return Recipe(**data)
