"""Labelled spectra: one table, from an HDF5 set, a catalogue, folders or the files' headers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.accuracy import wrong_labels
from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra import positions
from spectromer_cli.spectra.catalogues import LABEL_COLUMNS, read_catalogue
from spectromer_cli.spectra.grid import Grid, level, prepare
from spectromer_cli.spectra.loading import Item, item_of, load_all
from spectromer_cli.spectra.readers import ReadOptions, open_spectra
from spectromer_cli.spectra.sources import Target, expand
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    from astropy.table import Table

# A folder may hold the table of its labels under one of these names.
LABEL_TABLES = tuple(f"labels.{end}" for end in ("ecsv", "csv", "fits", "vot", "parquet"))
# Labels that survey files carry in their headers.
HEADER_LABELS = {"class": "survey_class", "subclass": "survey_subclass", "z": "survey_z"}
# What the general model learns, of the columns of a labelled set.
GENERAL_LABELS = ("class", "subclass", "z", "teff", "logg", "feh")
# Words that stand for a missing label.
MISSING = ("", "nan", "none", "null", "n/a", "na", "--", "-", "unknown")
# So many unreadable spectra are named one by one.
NAMED_PROBLEMS = 5
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# The grid of an HDF5 set that states none, if it has so many pixels: SDSS's sampling.
USUAL_GRID = Grid(3.55, 1e-4, 4700)


@dataclass
class LabelledSpectra:
    """Spectra on one log λ grid, with the labels that are known of them.

    Parameters
    ----------
    grid : Grid
        Grid of `flux` and `ivar`; it may reach beyond the model's.
    flux, ivar : array of float16 or float32, shape (n, grid.n)
        Flux of median level 1 and its inverse variance (0 = bad).
    has_ivar : bool array, shape (n,)
        False where the errors were estimated from the scatter.
    survey, group : array of str, shape (n,)
        Survey; object (all spectra of one object share it).
    sn : array of float, shape (n,)
        Median S/N per pixel.
    file : array of str, shape (n,)
    row : array of int, shape (n,)
        Where each spectrum comes from: its file, and its number in it.
    ra, dec : array of float, shape (n,)
        Position in degrees; NaN where unknown.
    labels : dict of str to masked array, shape (n,)
        Label columns by name, as the source has them, masked where there is no label.
    unread : list of str
        Why other spectra could not be read.
    mislabelled : list of str
        What is wrong with the labels of those whose labels are left out (see
        `accuracy.wrong_labels`).
    """

    grid: Grid
    flux: np.ndarray
    ivar: np.ndarray
    has_ivar: np.ndarray
    survey: np.ndarray
    group: np.ndarray
    sn: np.ndarray
    file: np.ndarray
    row: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    labels: dict[str, np.ma.MaskedArray]
    unread: list[str] = field(default_factory=list)
    mislabelled: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, which: np.ndarray) -> LabelledSpectra:
        """The spectra picked by a boolean or index array."""
        picked = {
            name: value[which]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        labels = {name: values[which] for name, values in self.labels.items()}
        return replace(self, labels=labels, **picked)

    def joined(self, other: LabelledSpectra) -> LabelledSpectra:
        """These spectra and others on the same grid; labels that one lacks are missing there.

        Objects are the same by position (within 1″), as copies of a spectrum, or by name, where
        their sets name them.

        Raises
        ------
        UsageError
            If the grids differ.
        """
        if self.grid != other.grid:
            raise UsageError(
                "the sets of spectra have different wavelength grids",
                "resample them to one grid first",
            )
        both: dict[str, Any] = {
            name: np.concatenate([value, getattr(other, name)])
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        both["group"] = np.concatenate([self.group, self._names_in(other)])
        known = self.labels | other.labels
        labels = {
            name: np.ma.concatenate([
                data.labels.get(name, np.ma.masked_all(len(data), known[name].dtype))
                for data in (self, other)
            ])
            for name in known
        }  # fmt: skip
        return replace(
            self, labels=labels, unread=self.unread + other.unread,
            mislabelled=self.mislabelled + other.mislabelled, **both,
        )  # fmt: skip

    def _names_in(self, other: LabelledSpectra) -> np.ndarray:
        """The objects of another set, by this set's names where it has them too."""
        n = len(self)
        # Sets of files number their objects, each from 0 on.
        numbered = {name for name in self.group.tolist() if name.isdecimal() and int(name) < n}
        own = [f"{name}+{n}" if name in numbered else name for name in other.group.tolist()]
        one = positions.same_objects(
            np.append(self.ra, other.ra),
            np.append(self.dec, other.dec),
            [flux.tobytes() for data in (self, other) for flux in data.flux],
        )
        first = dict(zip(one[:n][::-1], self.group[::-1], strict=True))
        known = {
            name: first[number]
            for name, number in zip(own, one[n:], strict=True)
            if number in first
        }
        return np.array([known.get(name, name) for name in own])

    def on_grid(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Flux and inverse variance on another grid.

        Pixel for pixel where the two grids share their pixels, rebinned where they do not.

        Returns
        -------
        flux, ivar : array of float32, shape (n, grid.n)
            Zero where the set has no pixel.
        """
        offset = (grid.loglam0 - self.grid.loglam0) / self.grid.dloglam
        first = round(offset)
        if abs(offset - first) > 0.01 or not np.isclose(grid.dloglam, self.grid.dloglam, rtol=1e-6):
            return self._rebinned(grid)
        flux, ivar = (np.zeros((len(self), grid.n), np.float32) for _ in range(2))
        low, high = max(first, 0), min(first + grid.n, self.grid.n)
        if high > low:
            flux[:, low - first : high - first] = self.flux[:, low:high]
            ivar[:, low - first : high - first] = self.ivar[:, low:high]
        for i in range(len(self)):  # the level of what the model sees
            good = ivar[i] > 0
            scale = level(flux[i, good]) if good.any() else 1.0
            if scale > 0:
                flux[i], ivar[i] = flux[i] / scale, np.minimum(ivar[i] * scale**2, 1e8)
        return flux, ivar

    def _rebinned(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        flux, ivar = (np.zeros((len(self), grid.n), np.float32) for _ in range(2))
        for i in range(len(self)):
            try:
                prepared = prepare(self.spectrum(i), grid)
            except ReadError:  # it lies beyond the grid: nothing is learned from it
                continue
            flux[i], ivar[i] = prepared.flux, prepared.ivar
        return flux, ivar

    def spectrum(self, i: int) -> Spectrum:
        """Spectrum number `i` as a reader would give it, without its labels."""
        meta = {
            "survey": str(self.survey[i]),
            "object_id": str(self.group[i]),
            "has_ivar": bool(self.has_ivar[i]),
        }
        return Spectrum(self.grid.wavelength, self.flux[i], self.ivar[i], meta)

    def items(self, rows: np.ndarray, grid: Grid) -> Iterator[Item]:
        """Some of the spectra as they would come from files, without their labels."""
        for i in rows.tolist():
            item = item_of(self.spectrum(i), str(self.file[i]), int(self.row[i]), grid)
            item.of_many = True
            yield item

    def contents(self, grid: Grid) -> np.ndarray:
        """What tells copies of a spectrum: a hash of its flux on a grid; array of str, (n,)."""
        flux, _ = self.on_grid(grid)
        return np.array([hashlib.sha256(f.astype("<f2").tobytes()).hexdigest()[:16] for f in flux])


@dataclass
class Source:
    """Where labelled spectra are, before they are read.

    Parameters
    ----------
    how : str
        For people: what was found.
    targets : list of Target
        What to read; ``catalogue_row`` points into `labels`.
    labels : astropy Table or None
        The labels; None where the files' headers have them.
    spectra : LabelledSpectra or None
        The set itself, of an HDF5 file, which is read whole.
    chosen : dict of str to str
        The user's choice of columns, by label.
    """

    how: str
    targets: list[Target] = field(default_factory=list)
    labels: Table | None = None
    spectra: LabelledSpectra | None = None
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the label columns that there are."""
        if self.spectra is not None:
            return list(self.spectra.labels)
        return list(HEADER_LABELS) if self.labels is None else list(self.labels.colnames)

    def general(self) -> list[str]:
        """The columns of `GENERAL_LABELS` that there are, under whichever alias.

        Raises
        ------
        UsageError
            If there is neither a class nor a redshift.
        """
        found = [name for name in GENERAL_LABELS if self.column(name) is not None]
        if not {"class", "z"} & {*found}:
            raise UsageError(
                f"{self.how} has neither class nor redshift labels",
                f"it has {', '.join(self.columns)}",
            )
        return found

    def column(self, name: str) -> str | None:
        """The column of a label: the chosen one, or one of that name in any case, or an alias.

        Raises
        ------
        UsageError
            If the chosen one is not there.
        """
        if name in self.chosen and self.chosen[name] not in self.columns:
            raise UsageError(
                f"{self.how} has no column {self.chosen[name]!r}",
                f"it has {', '.join(self.columns)}",
            )
        if name in self.chosen:
            return self.chosen[name]
        lower = {column.lower(): column for column in reversed(self.columns)}
        if name in self.columns:
            return name
        return next(
            (lower[a] for a in (name.lower(), *LABEL_COLUMNS.get(name, ())) if a in lower), None
        )

    def read(
        self, wanted: Sequence[str], grid: Grid, options: ReadOptions, workers: int = 0
    ) -> LabelledSpectra:
        """Read the spectra and pick the labels wanted.

        Parameters
        ----------
        wanted : sequence of str
            Names of label columns.
        grid : Grid
            What files are brought onto; an HDF5 set keeps its own.
        options : ReadOptions
        workers : int
            Processes that read.

        Returns
        -------
        LabelledSpectra

        Raises
        ------
        UsageError
            If a column is not there.
        ReadError
            If not one spectrum can be read.
        """
        columns = {name: self.column(name) for name in wanted}
        missing = [name for name, column in columns.items() if column is None]
        if missing:
            raise UsageError(
                f"{self.how} has no column {', '.join(missing)}",
                f"it has {', '.join(self.columns)}",
            )
        if self.spectra is not None:
            labels = {name: self.spectra.labels[str(columns[name])] for name in wanted}
            return replace(self.spectra, labels=labels)
        return self._read_files({name: str(column) for name, column in columns.items()},
                                grid, options, workers)  # fmt: skip

    def _read_files(
        self, columns: dict[str, str], grid: Grid, options: ReadOptions, workers: int
    ) -> LabelledSpectra:
        flux, ivar, unread, items = [], [], [], []
        with console.progress("reading", len(self.targets)) as advance:
            for item in load_all(self.targets, options, grid=grid, workers=workers):
                advance(item.begins)
                if item.prepared is None:
                    if not item.skipped:
                        unread.append(item.complaint)
                    continue
                flux.append(item.prepared.flux.astype(np.float16))
                ivar.append(item.prepared.ivar)
                item.prepared = None
                items.append(item)
        for complaint in unread[:NAMED_PROBLEMS]:
            console.warn(complaint)
        if len(unread) > NAMED_PROBLEMS:
            console.warn(f"{len(unread) - NAMED_PROBLEMS} more spectra cannot be read")
        if not items:
            raise ReadError(
                f"none of the {len(self.targets)} spectra can be read",
                "check the paths in the table, and the wavelengths against the grid",
            )
        metas = [item.meta for item in items]
        if self.labels is None:
            labels = {name: _header_label(metas, name) for name in columns}
            ra, dec = (
                positions.degrees([meta.get(key) for meta in metas]) for key in ("ra", "dec")
            )
        else:
            rows = np.array([item.catalogue_row for item in items])
            labels = {name: np.ma.asarray(self.labels[c])[rows] for name, c in columns.items()}
            ra, dec = positions.of_table(self.labels, rows, metas)
        group = positions.same_objects(ra, dec, [values.tobytes() for values in flux])
        survey, key = (
            np.array([str(meta.get(name) or "") for meta in metas])
            for name in ("survey", "object_id")
        )
        labels, mislabelled = _without_wrong(labels, survey, key, group)
        return LabelledSpectra(
            grid=grid,
            flux=np.stack(flux),
            ivar=np.stack(ivar),
            has_ivar=np.array([meta.get("has_ivar") is not False for meta in metas]),
            survey=survey,
            group=group.astype(str),
            sn=np.array([item.sn_median for item in items]),
            file=np.array([item.file for item in items]),
            row=np.array([item.row for item in items]),
            ra=ra,
            dec=dec,
            labels=labels,
            unread=unread,
            mislabelled=mislabelled,
        )

    def ranges(self, options: ReadOptions, most: int = 40) -> np.ndarray:
        """The wavelength range and sampling of some of the spectra, evenly through the list.

        Returns
        -------
        array, shape (k, 3)
            log10 of the first and last good wavelength in Å, and the median step; of those that
            can be read.
        """
        if self.spectra is not None:
            data = self.spectra
            some = (data.spectrum(i) for i in range(0, len(data), max(1, len(data) // most)))
            seen = [_range(spectrum) for spectrum in some]
        else:
            step = max(1, len(self.targets) // most)
            seen = [_range(_first_spectrum(target, options)) for target in self.targets[::step]]
        return np.array([one for one in seen if one is not None]).reshape(-1, 3)


def find(path: Path, spectra_dir: Path | None = None) -> Source:
    """Find out what a user's labelled spectra are.

    Parameters
    ----------
    path : Path
        An HDF5 set; a table of labels; or a folder with ``labels.*`` in it, or with sub-folders
        named after classes, or with survey files whose headers carry class and redshift.
    spectra_dir : Path or None
        Where a table's spectra are looked up.

    Raises
    ------
    UsageError
        If there is nothing there, or nothing in it.
    ReadError
        If it cannot be read.
    """
    if path.is_file():
        with path.open("rb") as file:
            is_hdf5 = file.read(len(HDF5_MAGIC)) == HDF5_MAGIC or path.suffix in (".h5", ".hdf5")
        return from_hdf5(path) if is_hdf5 else from_catalogue(path, spectra_dir)
    if not path.exists():
        raise UsageError(f"{path} does not exist", "check the name")
    table = next((path / name for name in LABEL_TABLES if (path / name).is_file()), None)
    if table is not None:
        return from_catalogue(table, spectra_dir or path)
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if entry.is_dir()]
    # Sub-folders are classes if all spectra lie in them and none beside them.
    if len(folders) > 1 and len(folders) == len(entries):
        return from_folders(path, folders)
    return from_headers(path)


def from_catalogue(path: Path, spectra_dir: Path | None) -> Source:
    """Spectra and labels of a table (see `spectra.catalogues.read_catalogue`)."""
    targets, labels = read_catalogue(path, spectra_dir)
    return Source(f"the table {path}", targets, labels)


def from_folders(folder: Path, classes: Sequence[str]) -> Source:
    """Spectra in sub-folders that are named after their classes."""
    from astropy.table import Table

    targets = [
        replace(target, catalogue_row=number)
        for number, name in enumerate(classes)
        for target in expand([str(folder / name)])
    ]
    how = f"folders named after classes: {', '.join(classes)}"
    return Source(how, targets, Table({"class": list(classes)}))


def from_headers(folder: Path) -> Source:
    """Survey files whose headers carry class and redshift; labels with a warning are left out."""
    targets = list(expand([str(folder)]))
    return Source(f"{folder}, whose files' headers carry the labels", targets)


def from_hdf5(path: Path) -> Source:
    """A labelled set in one HDF5 file.

    Parameters
    ----------
    path : Path
        File with datasets ``flux`` and ``ivar`` (n, pixels), ``class``, ``subclass``, ``z``,
        ``zwarning``, ``survey``, ``group``, ``has_ivar``, ``sn`` (n,), and attributes
        ``loglam0`` and ``dloglam`` (a set of 4700 pixels that states neither has `USUAL_GRID`);
        where there are any, also ``key`` (for SDSS plate-mjd-fiber), ``teff``, ``logg``, ``feh``
        of stars, ``ra`` and ``dec`` (n,). Labels with a warning (``zwarning`` > 0) are left out.

    Raises
    ------
    ReadError
        If the file or a dataset is missing, or nothing says which wavelengths its pixels have.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            text = {
                name: file[name].asstr()[:] for name in ("class", "subclass", "survey", "group")
            }
            flux, ivar = file["flux"][:], file["ivar"][:]
            numbers = {"z": file["z"][:].astype(float)}
            doubted = file["zwarning"][:] > 0
            has_ivar, sn = file["has_ivar"][:], file["sn"][:]
            numbers |= {
                name: file[name][:].astype(float) for name in ("teff", "logg", "feh")
                if name in file
            }  # fmt: skip
            ra, dec = (
                file[name][:].astype(float) if name in file else np.full(len(sn), np.nan)
                for name in ("ra", "dec")
            )
            key = file["key"].asstr()[:] if "key" in file else text["group"]
            grid = USUAL_GRID
            if {"loglam0", "dloglam"} & {*file.attrs} or flux.shape[1] != grid.n:
                first, step = file.attrs["loglam0"], file.attrs["dloglam"]
                grid = Grid(float(first), float(step), flux.shape[1])
    except (OSError, KeyError) as error:
        raise ReadError(f"{path} is not a labelled set of spectra: {error}") from error
    bad = ~np.isfinite(flux) | ~np.isfinite(ivar)
    flux[bad], ivar[bad] = 0, 0
    labels = {
        name: np.ma.MaskedArray(text[name], mask=doubted | (text[name] == ""))
        for name in ("class", "subclass")
    }
    labels |= {
        name: np.ma.MaskedArray(values, mask=doubted | ~np.isfinite(values))
        for name, values in numbers.items()
    }
    labels, mislabelled = _without_wrong(labels, text["survey"], key, text["group"])
    data = LabelledSpectra(
        grid=grid, flux=flux, ivar=ivar, has_ivar=has_ivar, survey=text["survey"],
        group=text["group"], sn=sn, file=np.full(len(sn), path.name), row=np.arange(len(sn)),
        ra=ra, dec=dec, labels=labels, mislabelled=mislabelled,
    )  # fmt: skip
    return Source(f"the labelled set {path}", spectra=data)


# --- the parts ------------------------------------------------------------------------------


def _without_wrong(
    labels: dict[str, np.ma.MaskedArray], survey: np.ndarray, key: np.ndarray, group: np.ndarray
) -> tuple[dict[str, np.ma.MaskedArray], list[str]]:
    """The labels, missing where they are known to be wrong; and what is wrong with those."""
    found = wrong_labels.wrong(survey, key, group, labels)
    if not found:
        return labels, []
    struck = np.isin(np.arange(len(group)), list(found))
    return {
        name: np.ma.MaskedArray(values, mask=np.ma.getmaskarray(values) | struck)
        for name, values in labels.items()
    }, list(found.values())


def _header_label(metas: list[dict], name: str) -> np.ma.MaskedArray:
    """A label that survey files carry; one with a warning of the survey's is missing."""
    values = [
        None if meta.get("survey_zwarning") else meta.get(HEADER_LABELS[name]) for meta in metas
    ]
    missing = [value is None for value in values]
    empty = np.nan if name == "z" else ""
    return np.ma.MaskedArray([empty if v is None else v for v in values], mask=missing)


def _first_spectrum(target: Target, options: ReadOptions) -> Spectrum | None:
    if target.problem:
        return None
    try:
        with open_spectra(target.path, options) as spectra:
            return spectra.get(target.row or 0)
    except (ReadError, IndexError):
        return None


def _range(spectrum: Spectrum | None) -> tuple[float, float, float] | None:
    if spectrum is None or spectrum.good.sum() < 2:
        return None
    loglam = np.log10(spectrum.wavelength)
    good = loglam[spectrum.good]
    return float(good[0]), float(good[-1]), float(np.median(np.diff(loglam)))


def describe(
    sources: Sequence[Source], data: LabelledSpectra, categories: Sequence[str] = ()
) -> list[str]:
    """What was found, line by line, to be read before the training.

    Parameters
    ----------
    sources : sequence of Source
    data : LabelledSpectra
        Of all of them.
    categories : sequence of str
        The label columns that are classes even if they look like numbers.
    """
    covered = (data.ivar > 0).mean(axis=1)
    sn = np.percentile(data.sn, [16, 50, 84])
    first, last = data.grid.wavelength[[0, -1]]
    objects = len(np.unique(data.group))
    return [
        *(f"found {source.how}" for source in sources),
        f"{len(data)} spectra of {objects} objects; {len(data.unread)} cannot be read; "
        f"{len(data) - objects} repeat observations of an object",
        f"S/N per pixel: median {sn[1]:.3g}, two thirds between {sn[0]:.3g} and {sn[2]:.3g}",
        f"grid {first:.0f} to {last:.0f} Å in {data.grid.n} pixels, of which the median spectrum "
        f"fills {np.median(covered):.0%}",
        *(f"{name}: {_summary(v, name in categories)}" for name, v in data.labels.items()),
        *wrong_labels.remark(data.mislabelled),
    ]


def _summary(values: np.ma.MaskedArray, is_category: bool) -> str:
    """Counts of the labels, or the range of the numbers; and how many are missing."""
    texts = [str(value).strip() for value in values.compressed()]
    texts = [text for text in texts if text.lower() not in MISSING]
    missing = f"; missing {len(values) - len(texts)}" if len(texts) < len(values) else ""
    if not texts:
        return "nothing" + missing
    if not is_category:
        try:
            numbers = np.array(texts, dtype=float)
        except ValueError:
            is_category = True
        else:
            middle = np.median(numbers)
            return f"{numbers.min():.4g} to {numbers.max():.4g}, median {middle:.4g}{missing}"
    count = Counter(texts).most_common()
    said = ", ".join(f"{label} {number}" for label, number in count[:20])
    return said + (f" and {len(count) - 20} more" if len(count) > 20 else "") + missing
