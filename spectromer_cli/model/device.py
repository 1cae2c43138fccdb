"""The device that a model runs on, and the precision of the ViT there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

# Spectra per batch: the more, the fewer times the template fit goes over its templates.
BATCH_SIZE = 256
# One of these is there on Linux if there is a GPU of NVIDIA, also under Windows, or of AMD.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
# Of the ViT's matrix products. "auto" is bf16 on CPUs with instructions for it, which are more than
# twice as fast then; others are many times slower.
PRECISIONS = ("auto", "fp32", "bf16")


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


def is_surely_cpu(name: str) -> bool:
    """Whether `choose_device` would take the CPU, as far as is known without torch.

    Parameters
    ----------
    name : str
        Of `--device`.
    """
    if name != "auto":
        return name == "cpu"
    return sys.platform == "linux" and not any(Path(path).exists() for path in GPU_FILES)


def choose_precision(name: str, device: torch.device | str) -> str:
    """Turn `--precision` into "fp32" or "bf16"; without torch, unless a GPU is to have bf16.

    Parameters
    ----------
    name : str
        One of `PRECISIONS`.
    device : torch.device or str
        Where the model runs.

    Raises
    ------
    UsageError
        If the precision is unknown, or not one of the device.
    """
    if name not in PRECISIONS:
        raise UsageError(f"invalid --precision {name!r}", f"choose from {', '.join(PRECISIONS)}")
    kind = str(device).partition(":")[0]
    if name == "auto":
        return "bf16" if kind == "cpu" and _has_amx() else "fp32"
    if name == "bf16":
        if kind == "cuda":
            import torch

            able = torch.cuda.is_bf16_supported()
        else:  # "auto" is decided elsewhere, by whoever loads the model
            able = kind == "auto" or (kind == "cpu" and _has_amx())
        if not able:
            raise UsageError(
                f"--precision bf16: this {kind} has no instructions for it", "use fp32"
            )
    return name


@lru_cache
def _has_amx() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 (AMX, of Intel's Xeon from 2023 on)."""
    try:
        return " amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


def keep_freed_memory() -> None:
    """Have glibc keep what a batch frees for the next one.

    Otherwise every batch asks the system for its memory anew, which takes a tenth of the ViT's time
    on a CPU, and half of it where Dask has set MALLOC_TRIM_THRESHOLD_.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # of glibc; the numbers are those of malloc.h
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 25)


@contextmanager
def one_thread_each(
    device: torch.device,
) -> Iterator[Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]]:
    """Give a `map` that works on as many pieces at a time as torch has threads, one thread each.

    On a GPU it is the plain one. On a CPU that is faster than all threads on one piece, and no
    result depends on their number: sums that threads share are added in another order.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    threads = torch.get_num_threads()
    if threads == 1 or device.type != "cpu":
        yield map
        return
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


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
