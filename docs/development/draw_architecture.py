"""Draw architecture.svg: the rooms of the package on their floors, and who imports whom.

Usage: python docs/development/draw_architecture.py [FILE]

Floors and imports are those that tests/test_layers.py checks. An arrow that a chain of other
arrows implies is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
from test_layers import FLOORS, MODULES, ROOT, imports  # noqa: E402

# Where rooms stand from left to right, so that arrows pass between them.
ACROSS = {
    "cli": 0, "evaluation": -2, "training": -2, "accuracy": -1, "explain": 0.5, "inspector": 2,
    "simulation": -2, "inference": 0, "weights": 0, "model": 0.5, "outputs": 2,
    "archives": -1, "images": 1.2, "spectra": 0,
}  # fmt: skip
WIDTH, HEIGHT = 0.74, 0.5  # of a box
GROUND = 1  # the floor whose modules every room may use: no arrows


def is_room(name: str) -> bool:
    """A folder above the ground floor."""
    return FLOORS[name] > GROUND and (ROOT / name).is_dir()


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second, without those that others imply."""
    below: dict[str, set[str]] = {name: set() for name in filter(is_room, FLOORS)}
    for module in MODULES:
        for other in imports(module):
            a, b = (name.removeprefix("spectromer_cli.").split(".")[0] for name in (module, other))
            if a != b and {a, b} <= set(below):
                below[a].add(b)

    def reached(room: str) -> set[str]:
        return below[room].union(*map(reached, below[room]))

    return {(a, b) for a in below for b in below[a] if not any(b in reached(c) for c in below[a])}


def draw(axes: Axes) -> None:
    """A row of boxes per floor, and the arrows between them."""
    ground = [name for name, floor in FLOORS.items() if floor == GROUND]
    across = ACROSS | {name: i - (len(ground) - 1) / 2 for i, name in enumerate(ground)}
    where = {name: (across.get(name, 3), FLOORS[name]) for name in filter(is_room, FLOORS)}
    where |= {name: (across[name], GROUND) for name in ground}
    for name, (x, y) in where.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.08", ec="none",
                fc="#eeeeee" if y == GROUND else "#dbe7f3",
            )
        )  # fmt: skip
        label = f"{name}/" if (ROOT / name).is_dir() else f"{name}.py"
        axes.text(x, y, label, ha="center", va="center", fontsize=11)
    for y in sorted({y for _, y in where.values()}):
        axes.text(-2.9, y, str(y), ha="center", va="center", fontsize=11, color="#888888")
    for upper, lower in sorted(arrows()):
        (x0, y0), (x1, y1) = where[upper], where[lower]
        style = {"arrowstyle": "-|>", "color": "#44546a", "shrinkA": 1, "shrinkB": 1}
        axes.annotate("", (x1, y1 + HEIGHT / 2), (x0, y0 - HEIGHT / 2), arrowprops=style)


def main() -> None:
    """Draw and write."""
    plt.rcParams["svg.hashsalt"] = "architecture"  # the same picture is the same file
    figure, axes = plt.subplots(figsize=(9, 8))
    draw(axes)
    axes.autoscale_view()
    axes.set_axis_off()
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "architecture.svg"
    dated = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, bbox_inches="tight", metadata=dated)


if __name__ == "__main__":
    main()
