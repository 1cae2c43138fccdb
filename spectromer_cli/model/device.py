"""The device that a model runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spectromer_cli.errors import UsageError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Turn `--device` into a device.

    Parameters
    ----------
    name : str
        "auto" takes a CUDA GPU, else Apple's, else the CPU; or "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    UsageError
        If there is no such device here.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"invalid --device {name!r}", "choose from auto, cpu, cuda, cuda:1, mps"
        ) from None
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UsageError(f"--device {name}: there are {gpus} CUDA devices here", "use --device cpu")
    if device.type == "mps" and not has_mps:
        raise UsageError("--device mps: this is not a Mac with a GPU", "use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(
            f"--device {name} is not supported", "choose from auto, cpu, cuda, cuda:1, mps"
        )
    return device


@contextmanager
def room_for(processes: int, device: torch.device, cores: int) -> Iterator[None]:
    """Leave cores to processes that work beside a model.

    Threads of torch that wait for one another on a core that is taken lose more than that core.

    Parameters
    ----------
    processes : int
    device : torch.device
        A GPU needs no cores.
    cores : int
        How many there are.
    """
    import torch

    before = torch.get_num_threads()
    if processes and device.type == "cpu":
        torch.set_num_threads(max(1, min(before, cores - processes)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
