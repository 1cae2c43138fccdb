"""Imports point downward: no module knows one above it, and none go in a circle."""

import ast
from pathlib import Path

import pytest

import spectromer_cli

ROOT = Path(spectromer_cli.__file__).parent
FLOORS = {
    "errors": 1, "paths": 1, "console": 1, "metrics": 1, "_version": 1,
    "spectra": 2, "images": 3,
    "archives": 3, "model": 4, "outputs": 4,
    "weights": 5, "simulation": 6, "inference": 6,
    "accuracy": 7, "explain": 7, "inspector": 7,
    "training": 8, "evaluation": 9,
    "cli": 10, "__main__": 10,
    # The package itself, whose names are for users: nothing below takes one of them.
    "spectromer_cli": 11,
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}
GRAPH: dict[str, set[str]] = {}


def imports(name: str) -> set[str]:
    """The project's modules that a module imports, anywhere in it."""
    if name in GRAPH:
        return GRAPH[name]
    found = imported(MODULES[name].read_text(encoding="utf-8"))
    GRAPH[name] = {module for module in found if module in MODULES}
    return GRAPH[name]


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return found


def floor(name: str) -> int:
    room = name.removeprefix("spectromer_cli.").split(".")[0]
    assert room in FLOORS, f"{name} lies on no floor: name it in FLOORS"
    return FLOORS[room]


def test_a_name_of_the_package_is_an_import_from_the_top_floor() -> None:
    assert imported("from spectromer_cli import console") == {"spectromer_cli.console"}
    assert imported("from spectromer_cli import __version__") == {"spectromer_cli"}
    assert imported("import spectromer_cli") == {"spectromer_cli"}
    assert floor("spectromer_cli") > max(floor(name) for name in set(MODULES) - {"spectromer_cli"})


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downward(name: str) -> None:
    upward = {other for other in imports(name) if floor(other) > floor(name)}
    assert not upward, f"{name} (floor {floor(name)}) imports from above: {upward}"


def test_no_import_goes_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way, name))
        if name not in done:
            for other in imports(name):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(MODULES):
        visit(name, ())
