"""Checkpoints: all that a run needs to resume to the bit, and the journal of its losses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.paths import atomic_path, make_folder
from spectromer_cli.training import distributed

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"


@dataclass
class State:
    """How far a run is.

    Parameters
    ----------
    stage : str
        The fit that is under way.
    step : int
        Steps that it has made.
    seconds : float
        Time that it has taken.
    earlier_seconds : float
        Time that all before it has taken.
    best_step, checks_without_gain : int
    best_loss : float or None
        On the validation split.
    best_steps : dict of str to int
        Fits that are over → after how many steps they were best.
    autocast : bool or None
        Whether forward passes are in bfloat16: decided once per run.
    """

    stage: str = ""
    step: int = 0
    seconds: float = 0.0
    earlier_seconds: float = 0.0
    best_step: int = 0
    checks_without_gain: int = 0
    best_loss: float | None = None
    best_steps: dict[str, int] = field(default_factory=dict)
    autocast: bool | None = None


class Run:
    """A run: its folder, the settings that decide it, and how far it is.

    Parameters
    ----------
    folder : Path
        Gets the checkpoint and ``metrics.jsonl``.
    settings : dict
        What must be the same to resume; plain values.
    resume : bool
        Resume from the checkpoint in the folder; without one, start from the beginning.
    overwrite : bool
        Overwrite the run in the folder.

    Raises
    ------
    UsageError
        If the folder holds a run, and neither is set; or one with other settings.
    ReadError
        If the checkpoint cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.state = State()
        # Further tensors that a run keeps, by name.
        self.kept: dict[str, torch.Tensor] = {}
        self._path = folder / CHECKPOINT
        self._loaded: dict[str, torch.Tensor] = {}
        if distributed.rank() == 0:
            make_folder(folder)
            if self._path.exists() and not (resume or overwrite):
                raise UsageError(
                    f"{folder} already contains a run",
                    "--resume it, --overwrite it, or choose another -o",
                )
            if overwrite or not self._path.exists():
                for path in (self._path, folder / METRICS):
                    path.unlink(missing_ok=True)
        distributed.wait_for_all()
        if not resume:
            return
        if self._path.exists():
            self._read()
        else:
            console.info(f"{folder} contains no checkpoint: starting from the beginning")

    def _read(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path, framework="pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings, state = json.loads(header["settings"]), State(**json.loads(header["state"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ReadError(
                f"the checkpoint {self._path} cannot be read: {error}",
                "--overwrite it, or choose another -o",
            ) from error
        if settings != self.settings:
            raise UsageError(
                f"{self._path} was written with other settings or data",
                "resume with the original settings and data, or choose another -o",
            )
        self.state = state
        self.kept = _under("kept.", tensors)
        self._loaded = tensors

    def restore(
        self, stage: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> dict[str, torch.Tensor] | None:
        """Put a fit back to where it was, if it is the one that was under way.

        Returns
        -------
        dict of str to Tensor, or None
            The best state of the model so far (empty if there is none yet); None if the fit has
            to start.
        """
        tensors, self._loaded = self._loaded, {}
        if not tensors or self.state.stage != stage:
            return None
        model.load_state_dict(_under("model.", tensors))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _under("adamw.", tensors).items():
            number, key = name.split(".")
            moments.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return _under("best.", tensors)

    def save(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        best: dict[str, torch.Tensor],
    ) -> None:
        """Write the checkpoint, under a temporary name first."""
        from safetensors.torch import save_file

        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"adamw.{number}.{name}": value for name, value in values.items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        tensors |= {f"kept.{name}": value for name, value in self.kept.items()}
        header = {"state": json.dumps(asdict(self.state)), "settings": json.dumps(self.settings)}
        with atomic_path(self._path) as temporary:
            save_file(
                {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
                temporary,
                metadata=header,
            )

    def log(self, line: dict[str, Any]) -> None:
        """Add a line to the journal: JSON and, where it is installed, TensorBoard.

        Parameters
        ----------
        line : dict
            Numbers by name, with ``step`` and ``stage``.
        """
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if find_spec("tensorboard") is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        stage = str(line["stage"]).replace(" ", "-")
        with SummaryWriter(str(self.folder / "tensorboard" / stage)) as board:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    board.add_scalar(name, value, line["step"])

    def journal(self) -> list[dict[str, Any]]:
        """The lines of the journal so far."""
        path = self.folder / METRICS
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
