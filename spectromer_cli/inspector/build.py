"""From a table of results, or a catalogue, to pages that show every row with its spectrum."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spectromer_cli import console
from spectromer_cli._version import __version__
from spectromer_cli.archives import services
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.inspector.packing import pack_spectrum, pack_templates
from spectromer_cli.inspector.plot import bokeh_script, plot_json
from spectromer_cli.inspector.results import Found, Row, position_of, read_importance, read_rows
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

# A page of so many spectra, or of so many bytes of them, opens within three seconds.
ROWS_PER_PAGE = 5000
BYTES_PER_PAGE = 80_000_000
SCRIPTS = ("spectrum.js", "view.js", "list.js", "verdicts.js", "page.js")


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


@dataclass(frozen=True)
class Shown:
    """The spectrum of a row, as the page takes it.

    Parameters
    ----------
    packed : dict or None
        See `packing.pack_spectrum`; with the importance, where there is one.
    problem : str
        Why there is no spectrum; empty if there is one.
    """

    packed: dict[str, Any] | None
    problem: str


class Material:
    """What pages are made from: the rows of a table, and how their spectra are read.

    Parameters
    ----------
    results : Path or None
        A table that `spectromer redshift` or `classify` wrote, in any of its formats.
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

    Raises
    ------
    UsageError
        If the table names no spectra, or none of them has an importance.
    ReadError
        If the table cannot be read.
    """

    def __init__(
        self,
        results: Path | None,
        weights: Weights,
        *,
        catalog: Path | None = None,
        spectra_dir: Path | None = None,
        importance: Path | None = None,
        air: bool | None = None,
        wavelength_unit: str = "",
        max_file_size: int | str = "2GB",
        file_timeout: float = 60.0,
    ) -> None:
        table = results or catalog
        if table is None or (results and catalog):
            raise UsageError("give either RESULTS or --catalog", "spectromer report z.ecsv")
        inputs = Inputs(
            catalog=table, spectra_dir=spectra_dir, air=air, wavelength_unit=wavelength_unit,
            max_file_size=max_file_size, file_timeout=file_timeout,
        )  # fmt: skip
        self.table = table
        self.found: Found = read_rows(inputs, is_catalogue=results is None)
        self.rows = self.found.rows
        targets, provenance = self.found.targets, self.found.provenance
        self.inputs = [table, *([importance] if importance else []), *(t.path for t in targets)]
        self._options = inputs.options
        self._bands = read_importance(importance, targets) if importance else [None] * len(targets)
        # The same weights and program give the same spectrum the same S/N.
        same = provenance.get("sha256") == weights.sha256
        same &= provenance.get("version") == f"spectromer {__version__}"
        self._grid = weights.config.grid if results and same else None
        self.shared = {
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
            "links": _sky_links(),
            "provenance": provenance,
        }

    def shown(self, numbers: Iterable[int]) -> Iterator[Shown]:
        """Read and pack the spectra of some rows.

        A row gets what its spectrum says of itself, where the table has no column for it. A file
        that has no id but its name is compared by its S/N, where the results were made by the
        same program and weights: a file of that name may lie in another folder too.
        """
        wanted = list(numbers)
        items = load_all((self.found.targets[number] for number in wanted), self._options)
        for number, item in zip(wanted, items, strict=True):
            row, band = self.rows[number], self._bands[number]
            if self._grid is not None and (another := _another_by_sn(row, item, self._grid)):
                item.problem, item.spectrum = another, None
            for name in ("object_id", "survey"):
                row.setdefault(name, item.meta.get(name))
            row.setdefault("sn_median", item.sn_median if math.isfinite(item.sn_median) else None)
            if self.found.positions[number] is None:
                place = position_of(item.meta.get("ra"), item.meta.get("dec"))
                self.found.positions[number] = place
            try:
                if item.spectrum is None:
                    raise ReadError(item.problem)
                packed = pack_spectrum(item.spectrum) | ({"importance": band} if band else {})
                yield Shown(packed, "")
            except ReadError as error:
                yield Shown(None, str(error))

    def page_data(self, part: range, problems: Sequence[str], stem: str) -> dict[str, Any]:
        """What a page of these rows knows, but for the spectra.

        Parameters
        ----------
        part : range
            Of the rows.
        problems : sequence of str
            Why they have no spectrum; empty where they have one.
        stem : str
            Of the name of the file of exported verdicts.
        """
        rows = [self.rows[number] for number in part]
        types = {
            name: {"", *(spectral_type_of(row) for row in rows if row.get("class") == name)}
            for name in CLASSES
        }
        return {
            "shownBy": {name: {kind: [line.name for line in lines_for(name, kind)]
                               for kind in kinds} for name, kinds in types.items()},
            "key": _key(rows), "stem": stem, "rows": rows, "problems": list(problems),
            "positions": [self.found.positions[number] for number in part], **self.shared,
        }  # fmt: skip


def spectrum_name(row: Row) -> str:
    """What a verdict is about: the file, and the number of the spectrum in it."""
    return f"{row['file']}[{row['row']}]"


def _key(rows: Sequence[Row]) -> str:
    """The same for the same spectra, so that a new report of the results finds the verdicts."""
    names = "\n".join(map(spectrum_name, rows))
    return hashlib.sha256(names.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _sky_links() -> dict[str, str]:
    """Where the surroundings of a position are shown; the page puts ra and dec in [deg]."""
    return {
        "SIMBAD": "https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={ra}+{dec}"
        "&CooFrame=ICRS&CooEqui=2000&Radius=10&Radius.unit=arcsec",
        "Legacy Survey": "https://www.legacysurvey.org/viewer?ra={ra}&dec={dec}"
        "&layer=ls-dr10&zoom=16&mark={ra},{dec}",
        "SkyServer": f"{services.base('SKYSERVER')}/dr19/VisualTools/navi"
        "?ra={ra}&dec={dec}&scale=0.2",
    }


def _another_by_sn(row: Row, item: Item, grid: Grid) -> str:
    """What tells that a spectrum without an id is not the one of the row; empty if nothing does."""
    expected, identity = row.get("sn_median"), told(item.meta, item.label)["object_id"]
    if item.spectrum is None or identity is not None or not isinstance(expected, int | float):
        return ""
    found = item_of(item.spectrum, item.file, item.row, grid).sn_median
    if not math.isfinite(found) or math.isclose(found, expected, rel_tol=0.01, abs_tol=0.01):
        return ""
    return (
        f"the results are for a spectrum with S/N {expected:.4g}, but {item.label} has S/N "
        f"{found:.4g}: is it another file of the same name?"
    )


def write_report(results: Path | None, output: Path, weights: Weights, **inputs: Any) -> Written:
    """Write the pages of a report.

    Parameters
    ----------
    results : Path or None
    output : Path
        The first page; further ones get -2, -3, … behind its stem.
    weights : Weights
    **inputs
        As `Material` takes them.

    Returns
    -------
    Written

    Raises
    ------
    UsageError
        As `Material`, or if the output cannot be written or is an input.
    ReadError
        If the table cannot be read.
    SpectromerError
        If the disk does not take a page.
    """
    material = Material(results, weights, **inputs)
    first = output.name.removesuffix(output.suffix)

    def name(page: int) -> str:
        return f"{first}-{page + 1}{output.suffix}" if page else output.name

    count = len(material.rows)
    # How many pages there will be is not known yet: no input may have the name of any.
    Outputs(output.with_name(name(page)) for page in range(count)).refuse_all(material.inputs)
    problems: list[str] = []
    # Packed spectra wait on the disk: every page has links to all others.
    with disk_errors(output), _spool(output.parent) as spool:
        starts, size = [0], 0
        with console.progress("spectra", count) as advance:
            for number, shown in enumerate(material.shown(range(count))):
                text = json_text(shown.packed)
                size += len(text)
                full = size > BYTES_PER_PAGE or number - starts[-1] == ROWS_PER_PAGE
                if full and number > starts[-1]:
                    starts.append(number)
                    size = len(text)
                spool.write(text + "\n")
                problems.append(shown.problem)
                advance(1)
        names = [name(page) for page in range(len(starts))]
        spool.seek(0)
        for page, (start, end) in enumerate(zip(starts, [*starts[1:], count], strict=True)):
            data = material.page_data(
                range(start, end), problems[start:end], Path(names[page]).stem
            )
            title = material.table.name + (f", page {page + 1}" if len(starts) > 1 else "")
            spectra = (
                f'<script type="application/json" id="spectrum-{number}">{text}</script>\n'
                for number, text in enumerate(spool.readline().rstrip("\n") for _ in data["rows"])
                if text != "null"
            )
            path = output.with_name(names[page])
            with disk_errors(path), atomic_path(path) as temporary:
                _write_text(temporary, html(title, data, _links(names, page), spectra))
    missing = sum(map(bool, problems))
    return Written([output.with_name(own) for own in names], count, missing)


def _spool(folder: Path) -> Any:
    """A file without a name, which ends with the block."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=folder)


def _write_text(path: Path, parts: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(parts)


# --- the page -------------------------------------------------------------------------------


def html(
    title: str,
    data: dict[str, Any],
    links: str = "",
    spectra: Iterable[str] = (),
    *,
    connect: str = "'none'",
) -> Iterator[str]:
    """The page in parts, whole: no other file is needed to show it.

    Whatever comes from data reaches the page as JSON and is shown as text, never as HTML; and the
    browser is told to run no other script than the page's own, by their hashes.

    Parameters
    ----------
    title : str
    data : dict
        As `Material.page_data` gives it.
    links : str
        HTML of the links between pages.
    spectra : iterable of str
        Their script elements.
    connect : str
        Where the page may fetch from, in the words of a Content-Security-Policy.
    """
    here = Path(__file__).parent
    bokeh = bokeh_script()
    script = "\n".join((here / name).read_text("utf-8") for name in SCRIPTS)
    parts: dict[str, Iterable[str]] = {
        "policy": [
            f"default-src 'none'; script-src {_hashed(bokeh)} {_hashed(script)}; "
            f"style-src 'unsafe-inline'; img-src data: blob:; connect-src {connect}; "
            "base-uri 'none'; form-action 'none'"
        ],
        "title": [escape(_text(title))],
        "pages": [links],
        "bokeh": [bokeh],
        "plot": [json_text(plot_json())],
        "data": [json_text(data)],
        "spectra": spectra,
        "style": [(here / "page.css").read_text("utf-8")],
        "script": [script],
    }
    template = re.split(r"\{\{(\w+)\}\}", (here / "page.html").read_text("utf-8"))
    for number, text in enumerate(template):
        yield from parts[text] if number % 2 else [text]


def _hashed(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{b64encode(digest).decode('ascii')}'"


def json_text(value: Any) -> str:
    """JSON that cannot end the script element it stands in; valid Unicode, whatever it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    return _text(text).replace("<", "\\u003c")


def _text(text: str) -> str:
    """Valid Unicode: stray bytes of a file's name become escapes, which JSON has too."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


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
