"""Put the page together: rows, packed spectra, templates, the plot and its scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from spectromer_cli.inspector.plot import BAND, bokeh_script, plot_json
from spectromer_cli.model.taxonomy import CLASSES
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.outputs.plotting import DARK, LIGHT
from spectromer_cli.spectra.lines import LINES, lines_for, spectral_type_of

SCRIPTS = ("spectrum.js", "view.js", "page.js")


@dataclass(frozen=True)
class Page:
    """What one page shows.

    Parameters
    ----------
    title : str
        Usually the name of the results file.
    key : str
        Names the spectra of this page, so that the browser finds verdicts again.
    rows : sequence of dict
        The rows of the results, as JSON takes them.
    problems : sequence of str
        Why a row has no spectrum; empty if it has one.
    spectra : sequence of dict or None
        As `packing.pack_spectrum` gives them, one a row.
    templates : dict
        As `packing.pack_templates` gives them.
    provenance : dict of str to str
        How the results were made.
    names : sequence of str
        The files of all pages, in order.
    number : int
        Which of them this one is, from 0.
    """

    title: str
    key: str
    rows: Sequence[dict[str, Any]]
    problems: Sequence[str]
    spectra: Sequence[dict[str, Any] | None]
    templates: dict[str, Any]
    provenance: dict[str, str]
    names: Sequence[str]
    number: int


def html(page: Page) -> str:
    """The page, whole: no other file and no network is needed to show it.

    Whatever comes from data reaches the page as JSON and is shown as text, never as HTML.
    """
    here = Path(__file__).parent
    types = {spectral_type_of(row) for row in page.rows}
    data = {
        "key": page.key,
        "stem": Path(page.names[page.number]).stem,
        "rows": page.rows,
        "problems": page.problems,
        "templates": page.templates,
        "lines": {name: [asdict(line) | {"molecular": line.molecular}
                         for line in LINES if line.class_name == name]
                  for name in CLASSES},
        "starLines": {name: [line.name for line in lines_for("STAR", name)] for name in types},
        "colours": {"light": asdict(LIGHT), "dark": asdict(DARK)},
        "zwarn": {int(bit): bit.name for bit in ZWarn},
        "provenance": page.provenance,
        "band": BAND,
    }  # fmt: skip
    parts = {
        "title": escape(page.title),
        "pages": _links(page),
        "bokeh": bokeh_script(),
        "plot": _json(plot_json()),
        "data": _json(data),
        "spectra": "\n".join(
            f'<script type="application/json" id="spectrum-{number}">{_json(packed)}</script>'
            for number, packed in enumerate(page.spectra)
            if packed is not None
        ),
        "style": (here / "page.css").read_text("utf-8"),
        "script": "\n".join((here / name).read_text("utf-8") for name in SCRIPTS),
    }
    template = (here / "page.html").read_text("utf-8")
    # In one pass: what is put in is not searched again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _links(page: Page) -> str:
    if len(page.names) == 1:
        return ""
    links = [
        f'<b aria-current="page">{number + 1}</b>'
        if number == page.number
        else f'<a href="{escape(_as_url(name))}">{number + 1}</a>'
        for number, name in enumerate(page.names)
    ]
    return f'<nav aria-label="pages">page {" ".join(links)}</nav>'


def _as_url(name: str) -> str:
    from urllib.parse import quote

    # ./ so that a colon in the name is no scheme.
    return "./" + quote(name)
