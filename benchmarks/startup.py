"""How long `spectromer --help` takes, against what no Python program can avoid.

Usage: python benchmarks/startup.py

Prints the median of each in seconds, and their ratio, which a busy machine changes little.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "spectromer --help": [sys.executable, "-m", "spectromer_cli", "--help"],
    "spectromer classify --help": [sys.executable, "-m", "spectromer_cli", "classify", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns, so that what else the machine does falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    baseline = statistics.median(times["python -c pass"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:28s} {middle:.3f} s   {middle / baseline:5.1f} × python")


if __name__ == "__main__":
    main()
