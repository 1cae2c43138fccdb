"""One step of learning, whole or in pieces, alone or among processes; and checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from spectromer_cli import console
from spectromer_cli.errors import ReadError, SpectromerError, UsageError
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.paths import atomic_path

CHECKPOINT = "checkpoint.safetensors"
CLIP_NORM = 1.0

Batch = dict[str, torch.Tensor]


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes that `torchrun` started, if it did.

    Parameters
    ----------
    device : torch.device
        Asked for; "cuda" becomes the process's own GPU.

    Yields
    ------
    torch.device
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if rank() > 0:
        console.set_quiet(2)
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process among those that learn together; 0 if it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes learn together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Wait until all processes are here."""
    if distributed.is_initialized():
        distributed.barrier()


def agreed(value: float, device: torch.device) -> float:
    """The first process's value, in all of them: no two may decide differently."""
    if world() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return float(shared)


def share(part: torch.nn.Module) -> None:
    """Give all processes the first one's parameters."""
    if world() > 1:
        for parameter in part.parameters():
            distributed.broadcast(parameter.data, 0)


def fastest_precision(model: SpectralViT, device: torch.device) -> torch.dtype | None:
    """The precision of the forward pass that is faster here: bfloat16, or None for float32.

    GPUs that have bfloat16 are faster with it; of CPUs only some, so a batch is timed.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    if device.type != "cpu":
        return None
    spectra = torch.ones(16, model.config.grid.n)
    seconds = {}
    for dtype in (None, torch.bfloat16):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                sum(part.sum() for part in model(spectra, spectra).values()).backward()
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    model.zero_grad(set_to_none=True)
    return min(seconds, key=seconds.__getitem__)


@dataclass
class Stepper:
    """Makes steps; remembers into how many pieces a batch must be cut to fit the memory.

    Parameters
    ----------
    model : SpectralViT
    optimizer : torch.optim.Optimizer
    device : torch.device
    autocast : torch.dtype or None
        Precision of the forward pass; None for float32.
    """

    model: SpectralViT
    optimizer: torch.optim.Optimizer
    device: torch.device
    autocast: torch.dtype | None = torch.bfloat16
    pieces: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.device.type == "cpu":
            # With some fifty tokens the fused kernel's backward pass on a CPU takes as long as
            # all the rest of the step; plain products are the same to rounding.
            for part in self.model.backbone.modules():
                if hasattr(part, "fused_attn"):
                    part.fused_attn = False  # type: ignore[assignment]

    def step(self, batch: Batch) -> dict[str, float]:
        """Learn from a batch.

        The gradient is that of the whole batch, however many processes share it and into how
        many pieces it is cut: every process takes its own rows of the same batch.

        Returns
        -------
        dict of str to float
            The loss of each task over the rows of this process.

        Raises
        ------
        SpectromerError
            If not even one spectrum fits into the GPU's memory.
        """
        self.model.train()
        counts = {
            task.name: int(task.known(batch[task.name]).sum().clamp_min(1))
            for task in self.model.tasks
        }
        own = {name: value[rank() :: world()] for name, value in batch.items()}
        own = {name: value.to(self.device, non_blocking=True) for name, value in own.items()}
        while True:
            try:
                losses = self._accumulate(own, counts)
                break
            except torch.OutOfMemoryError as error:
                self.pieces *= 2
                if self.pieces > len(own["flux"]):
                    raise SpectromerError(
                        "one spectrum alone does not fit into the GPU's memory",
                        "take a smaller --backbone, or --device cpu",
                    ) from error
                torch.cuda.empty_cache()
                console.warn(f"out of memory: each batch goes in {self.pieces} pieces from now on")
        if world() > 1:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    distributed.all_reduce(parameter.grad)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return losses

    def _accumulate(self, batch: Batch, counts: dict[str, int]) -> dict[str, float]:
        """Gradients of a batch, piece by piece; a task's loss is its mean over known labels."""
        self.optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(counts, 0.0)
        for piece in range(self.pieces):
            part = {name: value[piece :: self.pieces] for name, value in batch.items()}
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                out = self.model(part["flux"], part["ivar"])
            losses = {}
            for task in self.model.tasks:
                target = part[task.name]
                share = task.known(target).sum() / counts[task.name]
                losses[task.name] = task.loss(out[task.name], target) * share
            total = torch.stack([task.weight * losses[task.name] for task in self.model.tasks])
            total.sum().backward()
            for name, loss in losses.items():
                sums[name] += float(loss.detach())
        return sums


def save_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
    state: dict[str, Any],
    further: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write all that a run needs to go on to the bit, under a temporary name first.

    Parameters
    ----------
    path : Path
    model, optimizer
        What learns.
    settings : dict
        What decides the run; going on with other settings is refused.
    state : dict
        How far it is.
    further : dict of str to Tensor, optional
        Other tensors to be kept.
    """
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"adamw.{number}.{name}": value for name, value in values.items()}
    tensors |= {f"further.{name}": value for name, value in (further or {}).items()}
    header = {"state": json.dumps(state), "recipe": json.dumps(settings)}
    with atomic_path(path) as temporary:
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
            temporary,
            metadata=header,
        )


def load_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Go back to where `save_checkpoint` was called.

    Returns
    -------
    state : dict
    further : dict of str to Tensor

    Raises
    ------
    ReadError
        If the file cannot be read.
    UsageError
        If the run had other settings.
    """
    state, tensors = _read(path, settings)
    model.load_state_dict(_under("model.", tensors))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _under("adamw.", tensors).items():
        number, key = name.split(".")
        moments.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return state, _under("further.", tensors)


def peek(path: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """How far a run is, as `load_checkpoint` returns it, without a model."""
    state, tensors = _read(path, settings)
    return state, _under("further.", tensors)


def _read(path: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ReadError(
            f"the checkpoint {path} cannot be read: {error}", "start again with another -o"
        ) from error
    if json.loads(header["recipe"]) != json.loads(json.dumps(settings)):
        raise UsageError(
            f"{path} was made with other settings or data",
            "go on with those that began the run, or take another -o",
        )
    return json.loads(header["state"]), tensors


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
