"""`spectromer --help` answers at once, because nothing heavy is imported for it."""

import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from spectromer_cli import __version__

RUFF = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
BANNED = RUFF["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
HEAVY = ("numpy", *BANNED)
COMMANDS = (
    "", "classify", "redshift", "explain", "evaluate", "render", "plot", "report", "fetch",
    "weights", "finetune", "train", "simulate", "pack", "zwarn", "info",
)  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy_and_ends_with_examples(command: str) -> None:
    arguments = [*([command] if command else []), "--help"]
    out = run(
        "import sys\n"
        "from spectromer_cli.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert out.rstrip().endswith("HEAVY []")
    assert "Example" in out
    assert "spectromer" in out.split("Example")[-1]


def test_importing_the_package_is_light() -> None:
    out = run(
        "import sys, spectromer_cli\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], spectromer_cli.__version__)"
    )
    assert out.startswith("[]")


def test_the_version_is_stated_once() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in settings["project"]
    place = ROOT / settings["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{__version__}"' in place.read_text(encoding="utf-8")


def test_both_ways_in_are_the_same_program() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "spectromer_cli", "--version"], capture_output=True, text=True
    )
    assert out.stdout == f"spectromer {__version__}\n"
