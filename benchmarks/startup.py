"""How long `spectromer --help` and a first prediction take, against what cannot be avoided.

Usage: python benchmarks/startup.py [--rounds 7] [--write PAGE.md]

Prints medians, and their ratio to `import torch`, which a busy machine changes little.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from page import PROGRAM, lines_of, parser, put, seconds

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "simulated-sdss-galaxy.fits"
TORCH = "`import torch`"
COMMANDS = {
    "`python -c pass`": [sys.executable, "-c", "pass"],
    "`import typer`": [sys.executable, "-c", "import typer"],
    "`spectromer --help`": [*PROGRAM, "--help"],
    "`spectromer classify --help`": [*PROGRAM, "classify", "--help"],
    TORCH: [sys.executable, "-c", "import torch"],
    "`spectromer classify FILE`": [*PROGRAM, "classify", str(EXAMPLE)],
    "`spectromer redshift FILE`": [*PROGRAM, "redshift", str(EXAMPLE)],
}


def main() -> None:
    """Measure in turns, so that what else the machine does falls on all alike."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(chosen.rounds):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    middle = {
        name: [statistics.median(values) for values in zip(*runs, strict=True)]
        for name, runs in times.items()
    }
    rows = [
        [name, f"{wall:.2f}", f"{cpu:.2f}", f"{cpu / middle[TORCH][1]:.2f}"]
        for name, (wall, cpu) in middle.items()
    ]
    put(chosen.write, "startup", lines_of(["", "s", "CPU-s", f"of {TORCH}"], rows))


if __name__ == "__main__":
    main()
