"""From a table of results, or a catalogue, to pages that show every row with its spectrum."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spectromer_cli import console
from spectromer_cli._version import __version__
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.inspector.packing import pack_spectrum, pack_templates
from spectromer_cli.inspector.plot import bokeh_script, plot_json
from spectromer_cli.inspector.results import Row, read_importance, read_rows
from spectromer_cli.model.taxonomy import CLASSES
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.outputs.protect import Outputs
from spectromer_cli.paths import atomic_path, disk_errors
from spectromer_cli.spectra.drawing import DARK, LIGHT
from spectromer_cli.spectra.grid import Grid
from spectromer_cli.spectra.identity import told
from spectromer_cli.spectra.lines import LINES, lines_for, spectral_type_of
from spectromer_cli.spectra.loading import Inputs, Item, item_of, load_all
from spectromer_cli.weights.store import Weights, load_templates

# So many spectra open within three seconds.
ROWS_PER_PAGE = 500
SCRIPTS = ("spectrum.js", "view.js", "page.js")


@dataclass(frozen=True)
class Written:
    """What a report came to.

    Parameters
    ----------
    pages : list of Path
    rows : int
    missing : int
        Rows whose spectrum could not be found or read.
    """

    pages: list[Path]
    rows: int
    missing: int


def write_report(
    results: Path | None,
    output: Path,
    weights: Weights,
    *,
    catalog: Path | None = None,
    spectra_dir: Path | None = None,
    importance: Path | None = None,
    air: bool | None = None,
    wavelength_unit: str = "",
    max_file_size: int | str = "2GB",
    file_timeout: float = 60.0,
) -> Written:
    """Write the pages of a report.

    Parameters
    ----------
    results : Path or None
        A table that `spectromer redshift` or `classify` wrote, in any of its formats.
    output : Path
        The first page; further ones get -2, -3, … behind its stem.
    weights : Weights
        Their templates are fitted in the page.
    catalog : Path, optional
        Instead of results: a catalogue of targets, whose own class and redshift are shown.
    spectra_dir : Path, optional
        Where the spectra lie, if neither beside the table nor below the working directory.
    importance : Path, optional
        A table with columns wavelength and importance, or a folder of them, NAME.ecsv or
        NAME.12.ecsv for number 12 of a file of many.
    air : bool
    wavelength_unit : str
    max_file_size : int or str
    file_timeout : float
        What files do not say themselves, and how much they may ask for, see `ReadOptions`.

    Returns
    -------
    Written

    Raises
    ------
    UsageError
        If the table names no spectra, none of them has an importance, or the output cannot be
        written or is an input.
    ReadError
        If the table cannot be read.
    SpectromerError
        If the disk does not take a page.
    """
    table = results or catalog
    if table is None or (results and catalog):
        raise UsageError("give RESULTS or --catalog, one of them", "spectromer report z.ecsv")
    inputs = Inputs(
        catalog=table, spectra_dir=spectra_dir, air=air, wavelength_unit=wavelength_unit,
        max_file_size=max_file_size, file_timeout=file_timeout,
    )  # fmt: skip
    rows, targets, provenance = read_rows(inputs, is_catalogue=results is None)
    bands = read_importance(importance, targets) if importance else [None] * len(rows)
    shared = {
        "templates": pack_templates(load_templates(weights), weights.config.grid.dloglam),
        "lines": {
            name: [
                asdict(line) | {"molecular": line.molecular}
                for line in LINES
                if line.class_name == name
            ]
            for name in CLASSES
        },
        "colours": {"light": asdict(LIGHT), "dark": asdict(DARK)},
        # The bits of a catalogue's own zwarn are not ours.
        "zwarn": {int(bit): bit.name for bit in ZWarn} if results else {},
        "provenance": provenance,
    }
    parts = range(0, len(rows), ROWS_PER_PAGE)
    first = output.name.removesuffix(output.suffix)
    names = [output.name, *(f"{first}-{n}{output.suffix}" for n in range(2, len(parts) + 1))]
    own = Outputs(output.with_name(name) for name in names)
    own.refuse_all([table, *([importance] if importance else []), *(t.path for t in targets)])
    missing = 0
    with console.progress("spectra", len(rows)) as advance:
        # The same weights and program give the same spectrum the same S/N.
        same = provenance.get("sha256") == weights.sha256
        same &= provenance.get("version") == f"spectromer {__version__}"
        grid = weights.config.grid if results and same else None
        shown = _shown(rows, bands, load_all(targets, inputs.options), grid)
        for number, start in enumerate(parts):
            spectra, problems = [], []
            for _ in rows[start : start + ROWS_PER_PAGE]:
                packed, problem = next(shown)
                spectra.append(packed)
                problems.append(problem)
                advance(1)
            part = rows[start : start + ROWS_PER_PAGE]
            types = {
                name: {"", *(spectral_type_of(row) for row in part if row.get("class") == name)}
                for name in CLASSES
            }
            data = {
                "shownBy": {name: {kind: [line.name for line in lines_for(name, kind)]
                                   for kind in kinds} for name, kinds in types.items()},
                "key": _key(part), "stem": Path(names[number]).stem, "rows": part,
                "problems": problems, **shared,
            }  # fmt: skip
            title = table.name + (f", page {number + 1}" if len(parts) > 1 else "")
            path = output.with_name(names[number])
            with disk_errors(path), atomic_path(path) as temporary:
                page = _html(title, _links(names, number), data, spectra)
                temporary.write_text(page, encoding="utf-8")
            missing += sum(map(bool, problems))
    return Written([output.with_name(name) for name in names], len(rows), missing)


def _key(rows: Sequence[Row]) -> str:
    """The same for the same spectra, so that a report made anew finds the verdicts again."""
    names = "\n".join(f"{row['file']}[{row['row']}]" for row in rows)
    return hashlib.sha256(names.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _shown(
    rows: Sequence[Row],
    bands: Sequence[dict[str, Any] | None],
    items: Iterator[Item],
    grid: Grid | None,
) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """The packed spectrum of each row, or None and the reason.

    A row gets what its spectrum says of itself, where the table has no column for it.

    With `grid`, that of the model which made the rows, a file that has no id but its name is
    compared by its S/N: a file of that name may lie in another folder too.
    """
    for row, band, item in zip(rows, bands, items, strict=True):
        if grid is not None and (another := _another_by_sn(row, item, grid)):
            item.problem, item.spectrum = another, None
        for name in ("object_id", "survey"):
            row.setdefault(name, item.meta.get(name))
        row.setdefault("sn_median", item.sn_median if math.isfinite(item.sn_median) else None)
        try:
            if item.spectrum is None:
                raise ReadError(item.problem)
            yield pack_spectrum(item.spectrum) | ({"importance": band} if band else {}), ""
        except ReadError as error:
            yield None, str(error)


def _another_by_sn(row: Row, item: Item, grid: Grid) -> str:
    """What tells that a spectrum without an id is not the one of the row; empty if nothing does."""
    expected, identity = row.get("sn_median"), told(item.meta, item.label)["object_id"]
    if item.spectrum is None or identity is not None or not isinstance(expected, int | float):
        return ""
    found = item_of(item.spectrum, item.file, item.row, grid).sn_median
    if not math.isfinite(found) or math.isclose(found, expected, rel_tol=0.01, abs_tol=0.01):
        return ""
    return (
        f"the results are of a spectrum with S/N {expected:.4g}, but {item.label} has {found:.4g}: "
        "another file of this name?"
    )


# --- the page -------------------------------------------------------------------------------


def _html(
    title: str, links: str, data: dict[str, Any], spectra: Sequence[dict[str, Any] | None]
) -> str:
    """The page, whole: no other file and no network is needed to show it.

    Whatever comes from data reaches the page as JSON and is shown as text, never as HTML.
    """
    here = Path(__file__).parent
    parts = {
        "title": escape(title),
        "pages": links,
        "bokeh": bokeh_script(),
        "plot": _json(plot_json()),
        "data": _json(data),
        "spectra": "\n".join(
            f'<script type="application/json" id="spectrum-{number}">{_json(packed)}</script>'
            for number, packed in enumerate(spectra)
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
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str).replace(
        "<", "\\u003c"
    )


def _links(names: Sequence[str], current: int) -> str:
    """Links between the pages; empty if there is one only."""
    if len(names) == 1:
        return ""
    links = [
        f'<b aria-current="page">{number + 1}</b>'
        if number == current
        else f'<a href="./{escape(quote(name))}">{number + 1}</a>'  # a colon makes no scheme
        for number, name in enumerate(names)
    ]
    return f'<nav aria-label="pages">page {" ".join(links)}</nav>'
