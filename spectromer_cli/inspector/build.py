"""From a results file to the page that shows every row with its spectrum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.inspector.packing import Importance, pack_spectrum, pack_templates
from spectromer_cli.inspector.page import Page, html
from spectromer_cli.inspector.results import read_results
from spectromer_cli.paths import atomic_path
from spectromer_cli.spectra.loading import Item, load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target, home_expanded

if TYPE_CHECKING:
    from spectromer_cli.model.template_fit import Basis
    from spectromer_cli.weights.store import Weights

# So many spectra open within three seconds.
ROWS_A_PAGE = 500


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
    results: Path,
    output: Path,
    weights: Weights,
    *,
    spectra_dir: Path | None = None,
    importance: Path | None = None,
    options: ReadOptions | None = None,
) -> Written:
    """Write the pages of a report.

    Parameters
    ----------
    results : Path
        A table that `spectromer redshift` or `classify` wrote, in any of its formats.
    output : Path
        The first page; further ones get -2, -3, … behind its stem.
    weights : Weights
        Their templates are fitted in the page.
    spectra_dir : Path, optional
        Where the spectra lie, if neither beside the results nor below the working directory.
    importance : Path, optional
        A table with columns wavelength and importance, or a folder of them, NAME.ecsv or
        NAME.12.ecsv for number 12 of a file of many.
    options : ReadOptions, optional
        What plain tables do not say themselves.

    Returns
    -------
    Written

    Raises
    ------
    UsageError
        If the results name no files, or the output cannot be written.
    ReadError
        If the results cannot be read.
    """
    rows, provenance = read_results(results)
    if importance is not None and not importance.exists():
        raise UsageError(f"--importance {importance} does not exist", "check the name")
    if importance is not None and importance.is_file() and len(rows) > 1:
        raise UsageError(
            f"--importance {importance} is one file, but the results have {len(rows)} rows",
            "give a folder with a file for each spectrum",
        )
    parts = [rows[start : start + ROWS_A_PAGE] for start in range(0, len(rows), ROWS_A_PAGE)]
    first = output.name.removesuffix(output.suffix)
    names = [output.name, *(f"{first}-{n}{output.suffix}" for n in range(2, len(parts) + 1))]
    templates = pack_templates(templates_of(weights), weights.config.grid.dloglam)
    targets = find_spectra(rows, results, spectra_dir)
    found = load_all(targets, options or ReadOptions())
    written = Written([], len(rows), 0)
    missing = 0
    with console.progress("spectra", len(rows)) as advance:
        for number, part in enumerate(parts):
            spectra, problems = [], []
            for _ in part:
                packed, problem = _packed(next(found), importance)
                spectra.append(packed)
                problems.append(problem)
                advance(1)
            page = Page(
                title=f"{results.name}" + (f", page {number + 1}" if len(parts) > 1 else ""),
                key=_key(part), rows=part, problems=problems, spectra=spectra,
                templates=templates, provenance=provenance, names=names, number=number,
            )  # fmt: skip
            path = output.with_name(names[number])
            with atomic_path(path) as temporary:
                temporary.write_text(html(page), encoding="utf-8")
            written.pages.append(path)
            missing += sum(map(bool, problems))
    return Written(written.pages, len(rows), missing)


def _key(rows: Sequence[dict[str, Any]]) -> str:
    """The same for the same spectra, so that a report made anew finds the verdicts again."""
    names = "\n".join(f"{row['file']}[{row.get('row') or 0}]" for row in rows)
    return hashlib.sha256(names.encode("utf-8", "backslashreplace")).hexdigest()[:16]


# --- their spectra --------------------------------------------------------------------------


def find_spectra(
    rows: Iterable[dict[str, Any]], results: Path, spectra_dir: Path | None
) -> Iterator[Target]:
    """Where the spectrum of each row lies, with `problem` where it is not found.

    Looked for are the name as it stands, from the working directory, then from the folder of
    the results, then from `spectra_dir`, there also without the folders in the name.
    """
    for row in rows:
        name = home_expanded(str(row["file"] or ""))
        places = [name, results.parent / name]
        if spectra_dir is not None:
            places = [spectra_dir / name, spectra_dir / name.name, *places]
        path = next((place for place in places if _is_file(place)), None)
        number = row.get("row")
        if not row["file"]:
            yield Target(name, problem="the results give no file in this row")
        elif path is None:
            yield Target(name, problem=f"{name} is not found; name its folder with --spectra DIR")
        else:
            yield Target(path, row=number if isinstance(number, int) else 0)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no disk can have
        return False


def _packed(found: Item, importance: Path | None) -> tuple[dict[str, Any] | None, str]:
    """The packed spectrum, or None and the reason."""
    if found.spectrum is None:
        return None, found.problem
    try:
        return pack_spectrum(found.spectrum, _importance_of(found, importance)), ""
    except ReadError as error:
        return None, str(error)


def _importance_of(found: Item, place: Path | None) -> Importance | None:
    """The importance of a spectrum, or None, said on stderr where its file is broken."""
    if place is None:
        return None
    if place.is_dir():
        stem = file_stem(Path(found.file))
        names = [f"{stem}.{found.row}.ecsv"] + ([] if found.row else [f"{stem}.ecsv"])
        place = next((place / name for name in names if (place / name).is_file()), place)
        if place.is_dir():
            return None
    import numpy as np
    from astropy.table import Table

    try:
        table = Table.read(place, format="ascii.ecsv")
        name = next(name for name in table.colnames if name.startswith("importance"))
        wavelength = np.asarray(table["wavelength"], dtype=float)
        values = np.nan_to_num(np.asarray(table[name], dtype=float))
        if wavelength.size < 2 or not (wavelength[0] > 0 and np.all(np.diff(wavelength) > 0)):
            raise ValueError("its wavelengths do not increase")
    except StopIteration:
        console.warn(f"{place} is left out: it has no column importance")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        console.warn(f"{place} is left out: {reason}")
    else:
        return Importance(wavelength, values)
    return None


def file_stem(path: Path) -> str:
    """The file's name without its suffix, nor the one of what is packed in it."""
    return Path(path.stem).stem if path.suffix.lower() in (".gz", ".fz") else path.stem


# --- the templates --------------------------------------------------------------------------


def templates_of(weights: Weights) -> dict[str, Basis]:
    """The rest-frame templates that travel with weights, by class; empty if they have none."""
    import numpy as np
    from safetensors import safe_open

    from spectromer_cli.model.template_fit import Basis

    with safe_open(weights.path, framework="numpy") as file:
        return {
            name: Basis(vectors=file.get_tensor(f"templates.{name}").astype(np.float32), **values)
            for name, values in weights.config.templates.items()
        }
