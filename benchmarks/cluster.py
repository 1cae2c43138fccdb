"""What a Dask cluster costs beside the work itself.

Usage: python benchmarks/cluster.py [--sizes 512 1024 2048] [--workers 1 2] [--units 4]
       python benchmarks/cluster.py --tasks 50000

The first predicts packed simulated spectra in units of several sizes, on a local cluster and in as
many plain processes, and prints for both the spectra per second and the CPU time per spectrum, and
the CPU time of client and scheduler. Start-up is left out. On a machine that does
other work too, CPU times hold and rates do not.

The second hands out tasks that do nothing, with inputs and results of the size of real ones, and
prints the memory of the scheduler and of the client, and the CPU time of each per task. Divided by
the CPU time of a unit, which the first prints, that is the overhead of the cluster.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spectromer_cli import console
from spectromer_cli.inference import cluster
from spectromer_cli.inference.request import Output, Settings
from spectromer_cli.inference.units import Done, Slice, Unit, loaded, predict_unit, units_of
from spectromer_cli.outputs.packed_spectra import pack
from spectromer_cli.spectra.loading import Inputs
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target, expand


def packed(folder: Path, spectra: int) -> Path:
    """Simulated spectra in one file: some of them again and again."""
    made = folder / "simulated"
    some = min(spectra, 256)
    command = [sys.executable, "-m", "spectromer_cli", "simulate", "-q", "-n", str(some), "-o"]
    subprocess.run([*command, str(made)], check=True, stdout=subprocess.DEVNULL)
    names = sorted(map(str, made.glob("*.fits")))
    path = folder / "spectra.parquet"
    pack(Inputs(files=[names[i % some] for i in range(spectra)], workers=0), path)
    return path


def plain(share: list[Unit], work: Any, ready: Any, start: Any, spent: Any) -> None:
    """Units in a process of its own, without Dask."""
    loaded(work, 1)
    ready.release()
    start.wait()
    before = time.process_time()
    for unit in share:
        predict_unit(work, unit, 1)
    spent.put(time.process_time() - before)


def in_processes(path: Path, size: int, workers: int, work: Any) -> tuple[float, float]:
    """Wall and CPU time of plain processes."""
    cut = list(units_of(expand([str(path)]), None, ReadOptions(), size))
    context = multiprocessing.get_context("spawn")
    ready, start, spent = context.Semaphore(0), context.Event(), context.Queue()
    shares = [cut[i::workers] for i in range(workers)]
    every = [context.Process(target=plain, args=(s, work, ready, start, spent)) for s in shares]
    for process in every:
        process.start()
    for _ in every:
        ready.acquire()
    begin = time.perf_counter()
    start.set()
    cpu = sum(spent.get() for _ in every)
    wall = time.perf_counter() - begin
    for process in every:
        process.join()
    return wall, cpu


def on_cluster(
    path: Path, output: Path, size: int, workers: int, settings: Settings
) -> tuple[float, float, float, Any]:
    """Wall time, CPU time of the workers, and that of client and scheduler; the work."""
    where = Output(path=output, scheduler="local")
    run = cluster.ClusterRun(Inputs(files=[path]), settings, where, unit_size=size)
    with cluster.Cluster("local", workers) as dask:
        dask.prepare(run._work)
        before = sum(dask.client.run(time.process_time).values())
        own, begin = time.process_time(), time.perf_counter()
        run.write(dask)
        wall, own = time.perf_counter() - begin, time.process_time() - own
        cpu = sum(dask.client.run(time.process_time).values()) - before
    return wall, cpu, own, run._work


def costs(sizes: list[int], counts: list[int], number: int) -> None:
    """A table of rates and times."""
    settings = Settings(columns="redshift", device="cpu")
    print("workers  unit  units   spectra/s  plain   CPU ms/spectrum  plain   client CPU s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = packed(folder, max(sizes) * number)
        for workers in counts:
            for size in sizes:
                output = folder / f"{workers}-{size}"
                wall, cpu, own, work = on_cluster(path, output, size, workers, settings)
                alone, alone_cpu = in_processes(path, size, workers, work)
                total = max(sizes) * number
                units = -(-total // size)
                print(
                    f"{workers:7d} {size:5d} {units:6d} {total / wall:11.1f} {total / alone:6.1f}"
                    f"{1e3 * cpu / total:18.2f} {1e3 * alone_cpu / total:6.2f}"
                    f"{own:15.2f}",
                    flush=True,
                )


def _nothing(packed: bytes) -> Done:
    unit, _ = pickle.loads(zlib.decompress(packed))
    return Done(bytes(200_000), len(unit.slices), 0, 0, [], [])


def _memory(pid: int) -> float:
    import psutil

    return psutil.Process(pid).memory_info().rss / 1e6


def _cpu(pids: list[int]) -> float:
    """CPU time [s] of processes and their children."""
    import psutil

    own = [psutil.Process(pid) for pid in pids]
    every = [*own, *(child for one in own for child in one.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in every)


def _spent(groups: dict[str, list[int]]) -> dict[str, float]:
    """CPU time [s] of each; of the one without others, that of this process."""
    return {name: _cpu(pids) if pids else time.process_time() for name, pids in groups.items()}


def scheduler(tasks: int, files: int) -> None:
    """Memory and CPU time for many tasks, each of so many files."""
    cluster._predict = _nothing
    names = [Target(Path(f"/data/spectra/0266/spec-0266-51602-{i:04d}.fits")) for i in range(files)]

    def units() -> Iterator[Unit]:
        for number in range(tasks):
            yield Unit(number, tuple(map(Slice, names)), files, "0" * 16)

    with tempfile.TemporaryDirectory() as name:
        inputs, where = Inputs(files=[__file__]), Output(path=Path(name) / "out", scheduler="local")
        work = cluster.ClusterRun(inputs, Settings(columns="redshift"), where)._work
        file = Path(name) / "scheduler.json"
        dask = [sys.executable, "-m", "dask"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        at = ["--scheduler-file", str(file)]
        started = [subprocess.Popen([*dask, "scheduler", *at, "--port", "0"], **quiet)]
        worker = [*dask, "worker", *at, "--nthreads", "1", "--no-dashboard"]
        started += [subprocess.Popen(worker, **quiet) for _ in range(2)]
        try:
            while not file.exists():
                time.sleep(0.1)
            with cluster.Cluster(str(file)) as this:
                this.client.wait_for_workers(2)
                pids = [[process.pid] for process in started]
                groups = {"scheduler": pids[0], "workers": [*pids[1], *pids[2]], "client": []}
                first, peak, before = _memory(pids[0][0]), 0.0, _spent(groups)
                for number, _ in enumerate(this.results(work, units()), 1):
                    if number % 100 == 0 or number == tasks:
                        peak = max(peak, _memory(pids[0][0]))
                    if number % 5000 == 0 or number == tasks:
                        each = {
                            name: 1e3 * (spent - before[name]) / number
                            for name, spent in _spent(groups).items()
                        }
                        print(
                            f"{number} tasks of {files} files: scheduler {first:.0f} MB before, "
                            f"{peak:.0f} MB at most; client {_memory(os.getpid()):.0f} MB; "
                            "CPU ms per task: "
                            + ", ".join(f"{name} {value:.1f}" for name, value in each.items()),
                            flush=True,
                        )
        finally:
            for process in started:
                process.kill()


def main() -> None:
    """Measure one or the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--units", type=int, default=4, help="of the largest size")
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--files", type=int, default=2048, help="per task")
    arguments = parser.parse_args()
    console.set_quiet(1)
    if arguments.tasks:
        scheduler(arguments.tasks, arguments.files)
    else:
        costs(arguments.sizes, arguments.workers, arguments.units)


if __name__ == "__main__":
    main()
