"""What decides a training run: a recipe, the options of fine-tuning, and the schedule of a fit."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from spectromer_cli.errors import UsageError
from spectromer_cli.images import DEFAULT_IMAGE


@dataclass(frozen=True)
class Recipe:
    """How weights are trained from the beginning, in one TOML file.

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
        Spectra per step, and steps.
    max_minutes : float
        The schedule ends after this time if that comes before `steps`; 0 for no limit.
        With a limit, the result depends on the machine's speed.
    learning_rate, weight_decay, warmup : float
        See `Schedule`.
    validation_fraction : float
        Share of the objects held out.
    evaluate_every : int
        Steps between checkpoints with a validation check.
    split_seed : int
        Decides which objects are held out: a run that starts from other weights must have
        theirs, or it is tested on what they have seen.
    seed : int
        Random seed of everything else.
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
    warmup: float = 0.05
    validation_fraction: float = 0.15
    evaluate_every: int = 500
    split_seed: int = 1
    seed: int = 1

    def schedule(self) -> Schedule:
        """The schedule of its one fit."""
        return Schedule(
            steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate,
            seed=self.seed, weight_decay=self.weight_decay, warmup=self.warmup,
            minutes=self.max_minutes, check_every=self.evaluate_every,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a fine-tuning.

    Parameters
    ----------
    mode : {"auto", "head", "lora", "full"}
        What learns; "auto" is "lora" for few objects, else "full".
    epochs : int or None
        Epochs over the training split; None by its size.
    max_minutes : float
        Limit for everything, reading and validation included; 0 for none.
    batch_size : int
    learning_rate : float or None
        Highest one of the head; None by the mode.
    held_out : float
        Share of the objects for validation, and again for the test.
    seed : int
        Random seed.
    compile : bool
        Compile the network with `torch.compile`.
    """

    mode: str = "auto"
    epochs: int | None = None
    max_minutes: float = 0.0
    batch_size: int = 64
    learning_rate: float | None = None
    held_out: float = 0.15
    seed: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        modes = ("auto", "head", "lora", "full")
        if self.mode not in modes:
            raise UsageError(f"invalid --mode {self.mode!r}", f"choose from {', '.join(modes)}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a fit learns.

    Parameters
    ----------
    steps, batch_size : int
    learning_rate : float
        The highest one of AdamW.
    seed : int
    weight_decay : float
    warmup : float
        Share of the fit over which the learning rate rises linearly, before it falls to zero as
        a cosine.
    minutes : float
        The fit ends after this time if that comes before `steps`; 0 for no limit.
    check_every : int
        Steps between validation checks.
    patience : int
        So many validation checks without gain end the fit; 0 for no early stopping: then the
        last state counts, not the best.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    weight_decay: float = 0.05
    warmup: float = 0.05
    minutes: float = 0.0
    check_every: int = 500
    patience: int = 0

    def progress(self, step: int, seconds: float) -> float:
        """How much of the fit is done, 0 to 1, by steps or by time, whichever is further."""
        by_time = seconds / (60.0 * self.minutes) if self.minutes else 0.0
        return max(step / self.steps, by_time)

    def rate(self, progress: float) -> float:
        """The learning rate at some progress."""
        warm = min(1.0, (progress + 1e-3) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * progress))


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
                f"the recipe {path} has an unknown key {key!r}", f"choose from {', '.join(kinds)}"
            )
        wanted = {"str": ("str",), "int": ("int",), "float": ("int", "float")}[str(kinds[key])]
        if type(value).__name__ not in wanted:
            raise UsageError(f"the recipe {path}: {key} must be of type {kinds[key]}")
    if "name" not in data:
        raise UsageError(f"the recipe {path} has no name", 'add a line: name = "mine.v1"')
    recipe = Recipe(**data)
    for key in ("warmup", "simulated_share", "validation_fraction"):
        if not 0.0 <= getattr(recipe, key) <= 1.0:
            raise UsageError(f"the recipe {path}: {key} is a fraction, between 0 and 1")
    return recipe
