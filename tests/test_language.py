"""Help, messages and pages use the field's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from spectromer_cli.cli.app import app

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "spectromer_cli"

# Phrase to avoid → what to write.
GLOSSARY = {
    r"(row|table|page|column|file|line|degree) a (pixel|spectrum|class|file|row|degree)": "per",
    r"χ² a degree": "per degree",
    r"strange|familiar|unlike": "out of distribution",
    r"trunk": "backbone",
    r"stretch": "wavelength region",
    r"(the|one|a) letters?( of|\b)": "spectral class, or character",
    r"the truth": "reference values, labels",
    r"(is|are) no (folder|directory|file|number|table|range|angle|spectrum|time|size)": "is not a",
    r"(?<!there )is none": "invalid value: choose from",
    r"invalid value": "invalid --option 'value'",
    r"known are|there are no weights named": "choose from",
    r"passed over": "skipped",
    r"go on\b|goes on": "resume, continue",
    r"anew|afresh": "again, from the beginning",
    r"decides every draw|another seed": "random seed",
    r"so many": "N",
    r"say(s)? (less|so|why|how many)": "reduce output, give the reason",
    r"thrown away": "deleted",
    r"of one's own|of your own": "your own",
    r"all the same": "(leave out)",
    r"there are \{": "choose from",
    r"holds? (no|a run|only)": "contains no",
    r"asked for|asking": "requested, querying",
    r"is said|was said|is told|was told": "is reported",
    r"not understood": "invalid",
    r"cannot be obeyed": "invalid",
    r"what (redshift|classify|explain) wrote": "output of",
}
TICS = re.compile("|".join(rf"\b(?:{phrase})" for phrase in GLOSSARY), re.IGNORECASE)
# Where one of the phrases is right.
ALLOWED = (
    "shifted or stretched",  # a wavelength scale
    "not understood: ",  # the filter of the page quotes what was typed
)
# Functions that show text to a user: what is said in their arguments is a message.
SHOWING = {
    *("ReadError", "UsageError", "SpectromerError", "NetworkError", "WeightsNotVerified"),
    *("SomeInputsFailed", "NotASpectrum", "Unreachable", "TryAgain", "Refused", "Column"),
    *("info", "warn", "error", "progress", "Option", "Argument"),
}


def tics(text: str) -> list[str]:
    """What a text has of the phrases to avoid."""
    for right in ALLOWED:
        text = text.replace(right, "")
    return [match.group(0) for match in TICS.finditer(" ".join(text.split()))]


def texts_of(command: Any) -> Iterator[tuple[str, str]]:
    """Name and text of the help of a command, its options and its subcommands."""
    yield command.name or "", command.help or ""
    for parameter in command.params:
        yield f"{command.name} {parameter.name}", getattr(parameter, "help", None) or ""
    for sub in getattr(command, "commands", {}).values():
        yield from texts_of(sub)


def messages_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the messages in a module, an expression in one as `{…}`."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name not in SHOWING:
            continue
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
            for part in ast.walk(argument):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def test_help_uses_the_words_of_the_field() -> None:
    found = {name: tics(text) for name, text in texts_of(typer.main.get_command(app))}
    assert len(found) > 90
    assert {name: words for name, words in found.items() if words} == {}


def test_messages_use_the_words_of_the_field() -> None:
    messages = [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in messages_of(path)
    ]
    assert len(messages) > 400
    assert {place: tics(text) for place, text in messages if tics(text)} == {}


@pytest.mark.parametrize("name", ["page.html", "list.js", "page.js", "verdicts.js", "view.js"])
def test_the_page_uses_the_words_of_the_field(name: str) -> None:
    text = (PACKAGE / "inspector" / name).read_text(encoding="utf-8")
    # Comments are for developers.
    text = re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.MULTILINE)
    assert tics(text) == []


def test_the_changelog_uses_the_words_of_the_field() -> None:
    assert tics((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ["One row a spectrum", "x.txt is no folder", "Start anew", "The first so many spectra"]
)
def test_tics_are_found(text: str) -> None:
    assert tics(text)
