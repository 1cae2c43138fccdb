"""What a release says of itself in several places is the same everywhere."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from spectromer_cli import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Names that conda-forge has for packages of PyPI.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def loaded(*parts: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*parts).read_text("utf-8"))


def test_the_version_and_its_date() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.M)
    assert newest is not None
    citation = loaded("CITATION.cff")
    assert (citation["version"], citation["date-released"]) == newest.groups()
    assert newest[1] == __version__
    assert "\n## [Unreleased]\n" in changelog[: newest.start()]
    recipe = (ROOT / "packaging" / "conda-recipe.yaml").read_text("utf-8")
    assert f'version: "{__version__}"' in recipe


def test_conda_asks_for_what_pip_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    run = loaded("packaging", "conda-recipe.yaml")["requirements"]["run"]
    wanted = [f"python {project['requires-python']}"]
    for one in project["dependencies"]:
        name, floor = re.fullmatch(r"([\w-]+)(>=[\d.]+)", one).groups()  # type: ignore[union-attr]
        wanted.append(f"{CONDA.get(name, name)} {floor}")
    assert run == wanted


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_pinned_and_may_little(path: Path) -> None:
    text = path.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        rights = job.get("permissions", {})
        assert rights in ({}, {"id-token": "write"}) and job["runs-on"] and job["steps"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
    for used in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+)*", used), used


def test_the_furniture_is_well_formed() -> None:
    assert json.loads((ROOT / ".zenodo.json").read_text("utf-8"))["license"] == "BSD-3-Clause"
    assert loaded("CITATION.cff")["cff-version"] == "1.2.0"
    assert loaded(".github", "dependabot.yml")["version"] == 2
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text("utf-8"))
        ids = [part["id"] for part in form.get("body", ())]
        assert len(ids) == len(set(ids)), path


def test_the_wheel_and_the_sdist_carry_what_they_need() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {
        "weights": "spectromer_cli/_weights",
        "docs/examples": "spectromer_cli/_examples",
    }
    assert {".ci", ".github"} <= set(build["targets"]["sdist"]["exclude"])
