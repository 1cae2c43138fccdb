"""Several processes that learn together, as `torchrun` starts them; or one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from spectromer_cli import console


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes that `torchrun` started, if it did.

    Parameters
    ----------
    device : torch.device
        As chosen by the user; "cuda" becomes the process's own GPU.

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


def share_parameters(part: torch.nn.Module) -> None:
    """Give all processes the first one's parameters."""
    if world() > 1:
        for parameter in part.parameters():
            distributed.broadcast(parameter.data, 0)


def sum_gradients(model: torch.nn.Module) -> None:
    """Add the gradients of all processes, in all of them."""
    if world() > 1:
        for parameter in model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)
