"""How fast files are read and brought onto the grid, by kind, and what of it is which.

Usage: python benchmarks/reading.py [--rounds 5] [--against OTHER] FOLDER|FILE...

Each argument is a kind of file of its own, measured in turns with the others, so that what else
the machine does falls on all alike. Processor time counts, not the clock. With ``--against``, the
folder of another version of the program, that one is measured in the same turns, and the ratio is
printed. The last line says how long a process that reads takes to start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def measured(names: list[str]) -> dict[str, float]:
    """Seconds of processor time per spectrum, of one kind of files, in this process."""
    from spectromer_cli.spectra.grid import Grid
    from spectromer_cli.spectra.loading import load_all
    from spectromer_cli.spectra.readers import ReadOptions, open_spectra
    from spectromer_cli.spectra.sources import expand

    targets = [target for target in expand(names) if not target.problem]
    targets *= -(-50 // len(targets))
    steps = {"all": Grid(), "read": None}
    found = {}
    for name, grid in steps.items():
        sum(1 for _ in load_all(targets, ReadOptions(), grid=grid))  # imports, and the disk
        start = time.process_time()
        items = list(load_all(targets, ReadOptions(), grid=grid))
        found[name] = (time.process_time() - start) / max(1, len(items))
    start = time.process_time()
    for target in targets:
        try:
            with open_spectra(target.path):
                pass
        except Exception:  # what is no spectrum is no part of the measure
            continue
    return found | {"open": (time.process_time() - start) / max(1, len(items)),
                    "spectra": len(items)}  # fmt: skip


def elsewhere(program: Path, names: list[str]) -> dict[str, float]:
    """`measured` in a fresh process, of a version of the program."""
    environment = os.environ | {"PYTHONPATH": str(program)}
    command = [sys.executable, __file__, "--here", *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def start_of_a_process() -> float:
    """Seconds of processor time until a process could read its first file."""
    before = os.times()
    command = [sys.executable, "-c", "import spectromer_cli.spectra.loading"]
    subprocess.run(command, check=True)
    after = os.times()
    return (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )


def main() -> None:
    """Measure in turns, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measured(options.kinds)))
        return
    programs = [Path(__file__).parents[1], *([options.against] if options.against else [])]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for kind in options.kinds:
            for number, program in enumerate(programs):
                runs.setdefault((kind, number), []).append(elsewhere(program, [kind]))
    best = {key: {name: min(run[name] for run in found) for name in found[0]}
            for key, found in runs.items()}  # fmt: skip
    print(f"{'kind':30} {'spectra':>7} {'per s':>7} {'open':>6} {'read':>6} {'grid':>6}  other")
    for kind in options.kinds:
        own = best[kind, 0]
        shares = [own["open"], own["read"] - own["open"], own["all"] - own["read"]]
        line = f"{kind[-30:]:30} {own['spectra']:7.0f} {1.0 / own['all']:7.0f} "
        line += " ".join(f"{max(0.0, share) / own['all']:6.0%}" for share in shares)
        if options.against:
            line += f"  {best[kind, 1]['all'] / own['all']:.1f} × its rate"
        print(line)
    start = statistics.median(start_of_a_process() for _ in range(options.rounds))
    files = start / best[options.kinds[0], 0]["all"]
    print(f"a process that reads starts in the time of {files:.0f} spectra of the first kind")


if __name__ == "__main__":
    main()
