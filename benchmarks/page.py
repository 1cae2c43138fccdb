"""What the benchmarks of speed share: the machine, a clock, and their tables in a page."""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch


class Clock:
    """Seconds of the wall and of the CPU, medians of several rounds.

    What is compared is measured in turns, so that what else the machine does falls on all alike.

    Parameters
    ----------
    works : mapping of str to callable
        What to measure, by name.
    rounds : int
    """

    def __init__(self, works: Mapping[str, Callable[[], object]], rounds: int = 3) -> None:
        walls: dict[str, list[float]] = {name: [] for name in works}
        cpus: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(rounds):
            for name, work in works.items():
                wall, cpu = time.perf_counter(), time.process_time()
                work()
                walls[name].append(time.perf_counter() - wall)
                cpus[name].append(time.process_time() - cpu)
        self.wall = {name: statistics.median(values) for name, values in walls.items()}
        self.cpu = {name: statistics.median(values) for name, values in cpus.items()}


PROGRAM = [sys.executable, "-m", "spectromer_cli"]


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU time of one run of a command, with all processes that it starts."""
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    return wall, cpu - before.children_user - before.children_system


def machine(device: str = "cpu") -> str:
    """The machine in words: processor, cores, threads, versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags")).split()
        for wide in ("amx_bf16", "avx512f", "avx2"):
            if wide in flags:
                name += f" ({wide})"
                break
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if device.startswith("cuda"):
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return (
        f"{name}, {cores} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    )


def matrix_rate(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Products of large square matrices that the device makes [FLOP per second], the best of 5."""
    n = 8192 if device.startswith("cuda") else 1536
    a = torch.randn(n, n, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        for _ in range(4):
            a @ a
        synchronise(device)
        best = min(best, (time.perf_counter() - began) / 4)
    return 2.0 * n**3 / best


def synchronise(device: str) -> None:
    """Wait for what a GPU was given to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def flops_of(width: int, depth: int, tokens: int, pixels: int = 768) -> float:
    """What a ViT computes for an image, in multiplications and additions, products only."""
    block = 24.0 * tokens * width**2 + 4.0 * tokens**2 * width
    return depth * block + 2.0 * (tokens - 1) * pixels * width


def lines_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def parser(description: str) -> argparse.ArgumentParser:
    """With the option that `put` needs."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--write", type=Path, metavar="PAGE.md", help="put the tables into this page")
    return made


def put(page: Path | None, name: str, lines: Sequence[str], device: str = "cpu") -> None:
    """Print tables, and put them between the markers of that name in a page, if there is one."""
    script = Path(sys.argv[0]).name
    text = "\n".join([*lines, "", f"`python benchmarks/{script}`: {machine(device)}."])
    print(text)
    if page is not None:
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        old = page.read_text(encoding="utf-8")
        if begin not in old or end not in old:
            raise SystemExit(f"{page} has no place for {name}: {begin.strip()} … {end.strip()}")
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        page.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n\n{end}", old), encoding="utf-8")


def put_section(page: Path | None, heading: str, lines: Sequence[str]) -> None:
    """Print a section, and put it into a page: in place of that of its heading, or at the end."""
    text = "\n".join([f"## {heading}", "", *lines])
    print(text)
    if page is not None:
        old = page.read_text(encoding="utf-8").rstrip("\n") + "\n"
        pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
        new, found = pattern.subn(lambda _: f"{text}\n\n", old)
        page.write_text((new if found else f"{old}\n{text}").rstrip("\n") + "\n", encoding="utf-8")
