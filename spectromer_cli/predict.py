"""From prepared spectra to rows: show them to the model in batches, and decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli import console
from spectromer_cli.model import tasks
from spectromer_cli.model.outliers import Familiar
from spectromer_cli.model.redshift import Basis, refine
from spectromer_cli.model.zwarn import MIN_COVERAGE, MIN_SN, MIN_Z_PROB, ZWarn
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.loading import Item, item_of, load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    import torch
    from astropy.table import Table

    from spectromer_cli.model.weights import Weights

CLASSIFY_COLUMNS = (
    "file", "row", "object_id", "survey", "class", "p_star", "p_galaxy", "p_qso",
    "subclass", "subclass_prob", "star_type", "star_type_err", "teff", "teff_err",
    "logg", "logg_err", "feh", "feh_err", "outlier_score", "sn_median", "flags",
)  # fmt: skip
ALTERNATIVE_COLUMNS = tuple(
    f"z_alt{rank}{end}" for rank in range(1, tasks.ALTERNATIVES + 1) for end in ("", "_prob")
)
REDSHIFT_COLUMNS = (
    "file", "row", "object_id", "survey", "class", "class_prob", "z", "z_err", "z_prob",
    "zwarn", "delta_chi2", *ALTERNATIVE_COLUMNS, "outlier_score", "sn_median", "flags",
)  # fmt: skip
FAMILIAR = ("centres", "whitening", "examples", "limits")
STELLAR_QUANTITIES = ("teff", "logg", "feh")


class Spectromer:
    """A model ready to answer.

    Parameters
    ----------
    weights : Weights
        Verified weights with their configuration.
    device : torch.device
        Where it runs.
    """

    def __init__(self, weights: Weights, device: torch.device) -> None:
        from safetensors.torch import load_file

        from spectromer_cli.model.spectromer import SpectralViT

        self.weights = weights
        self.config = weights.config
        self.device = device
        self.network = SpectralViT(weights.config)
        state = {name: value.float() for name, value in load_file(weights.path).items()}
        self.bases = {
            name: Basis(vectors=state.pop(f"templates.{name}").numpy(), **values)
            for name, values in weights.config.templates.items()
        }
        known = {
            name: state.pop(f"familiar.{name}").numpy()
            for name in FAMILIAR
            if f"familiar.{name}" in state
        }
        self.familiar = Familiar(**known) if known else None
        # Redshifts less confident than this are marked.
        self.min_z_prob = 0.0
        self.network.load_state_dict(state)
        self.network.to(device).eval()

    @property
    def grid(self) -> Grid:
        """The wavelength grid that the weights were trained on."""
        return self.config.grid

    def predict(
        self, spectra: Sequence[Spectrum], batch_size: int = 64, refined: bool = True
    ) -> Table:
        """Classify spectra and measure their redshifts.

        Parameters
        ----------
        spectra : sequence of Spectrum
            As `read` gives them, or made by hand.
        batch_size : int
            Spectra a batch.
        refined : bool
            Refine redshifts with templates.

        Returns
        -------
        astropy.table.Table
            One row a spectrum, in order, with the columns of `spectromer classify` and
            `spectromer redshift`. A spectrum without enough good pixels has its reason in
            ``flags``.
        """
        from astropy.table import vstack

        items = [
            item_of(spectrum, "", number, self.grid) for number, spectrum in enumerate(spectra)
        ]
        tables = [self.answer(part, refined) for part in _batched(items, batch_size)]
        return vstack(tables or [self.answer([])], metadata_conflicts="silent")

    def answer(self, items: Sequence[Item], refined: bool = True) -> Table:
        """Rows for one batch of items, in order.

        Parameters
        ----------
        items : sequence of Item
        refined : bool
            Refine redshifts with templates.

        Returns
        -------
        astropy.table.Table
            All columns of `CLASSIFY_COLUMNS` and `REDSHIFT_COLUMNS`.
        """
        good = [i for i, item in enumerate(items) if item.prepared is not None]
        columns = _empty_columns(items)
        if good:
            prepared = [items[i].prepared for i in good]
            p, strangeness = self._answers(prepared)  # type: ignore[arg-type]
            finite = np.all([np.isfinite(values).all(axis=1) for values in p.values()], axis=0)
            if not finite.all():  # never a class or a redshift out of NaN
                for i in np.array(good)[~finite]:
                    items[i].prepared = None
                    items[i].problem = "the model's answer is not a number"
                return self.answer(items, refined)
            of = {t.name: t.labels for t in self.network.tasks if isinstance(t, tasks.Category)}
            columns["outlier_score"][good] = strangeness
            for i in np.array(good)[strangeness > 1.0]:
                columns["flags"][i] = ";".join(filter(None, [columns["flags"][i], "OUT_OF_DOMAIN"]))
            _fill_class(columns, np.array(good), p, of["subclass"])
            _fill_star(columns, np.array(good), p)
            self._fill_redshift(columns, np.array(good), items, p["z"], refined)
        return _table(columns)

    def _fill_redshift(
        self,
        columns: dict[str, np.ndarray],
        rows: np.ndarray,
        items: Sequence[Item],
        p: np.ndarray,
        refined: bool,
    ) -> None:
        """Redshifts of the rows that have an answer, and the doubts about them."""
        task = next(task for task in self.network.tasks if isinstance(task, tasks.Redshift))
        names = columns["class"][rows]
        answer = tasks.decode_redshift(task, p, names == "STAR")
        columns["z"][rows], columns["z_err"][rows] = answer.z, answer.z_err
        columns["z_prob"][rows] = answer.z_prob
        for rank in range(tasks.ALTERNATIVES):
            columns[f"z_alt{rank + 1}"][rows] = answer.alt_z[:, rank]
            columns[f"z_alt{rank + 1}_prob"][rows] = answer.alt_prob[:, rank]
        if refined:
            prepared = [items[row].prepared for row in rows]
            found = refine(answer, prepared, names, self.bases, self.grid)
            has = np.isfinite(found.z)
            columns["z"][rows[has]], columns["z_err"][rows[has]] = found.z[has], found.z_err[has]
            columns["delta_chi2"][rows] = found.delta_chi2
            far = np.abs(np.log1p(found.z)) > 0.95 * tasks.STAR_MAX_X
            answer.at_edge |= far & (names == "STAR")
        few = np.array([_coverage(items[row]) < MIN_COVERAGE for row in rows])
        noisy = np.array([not items[row].sn_median >= MIN_SN for row in rows])
        columns["zwarn"][rows] = (
            few * int(ZWarn.LITTLE_COVERAGE)
            + (answer.z_prob < MIN_Z_PROB) * int(ZWarn.AMBIGUOUS)
            + answer.at_edge * int(ZWarn.Z_FITLIMIT)
            + noisy * int(ZWarn.LOW_SN)
            + (columns["delta_chi2"][rows] < 0) * int(ZWarn.TEMPLATES_DISAGREE)
            + (columns["outlier_score"][rows] > 1.0) * int(ZWarn.OUT_OF_DOMAIN)
            + (answer.z_prob < self.min_z_prob) * int(ZWarn.BELOW_CUT)
        )

    def _answers(self, prepared: Sequence[Prepared]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Calibrated answers of every task, shapes (len(prepared), task.size); outlier scores."""
        import torch

        flux = torch.from_numpy(np.stack([p.flux for p in prepared])).to(self.device)
        ivar = torch.from_numpy(np.stack([p.ivar for p in prepared])).to(self.device)
        with torch.inference_mode():
            features = self.network.features(flux, ivar)
            logits = self.network.logits(features)
        temperature = self.config.temperatures
        answers = {}
        for task in self.network.tasks:
            tempered = task.temper(logits[task.name], temperature.get(task.name, 1.0))
            answers[task.name] = task.answer(tempered).double().cpu().numpy()
        if self.familiar is None:
            return answers, np.full(len(prepared), np.nan)
        return answers, self.familiar.score(features.float().cpu().numpy())


def load_model(name: str | None = None, device: str = "auto") -> Spectromer:
    """Load a model.

    Parameters
    ----------
    name : str, optional
        Name of weights, a folder, or ``hf-hub:owner/name``; by default the weights that ship
        with the program.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".

    Returns
    -------
    Spectromer

    Raises
    ------
    UsageError
        If there are no such weights or there is no such device.
    WeightsNotVerified
        If the weights are not those of their manifest.
    """
    from spectromer_cli.model.device import choose_device
    from spectromer_cli.model.weights import resolve

    return Spectromer(resolve(name), choose_device(device))


def predict_files(
    model: Spectromer,
    targets: Iterable[Target],
    *,
    options: ReadOptions,
    batch_size: int = 64,
    workers: int = 0,
    refined: bool = True,
) -> Iterator[tuple[list[Item], Table]]:
    """Answer for files, in their order, with memory that does not grow with their number.

    Parameters
    ----------
    model : Spectromer
    targets : iterable of Target
        What to read; consumed as the work goes on.
    options : ReadOptions
        What the files do not say themselves.
    batch_size : int
        Spectra a batch.
    workers : int
        Processes that read beside the model.
    refined : bool
        Refine redshifts with templates.

    Yields
    ------
    items : list of Item
    table : astropy.table.Table
        Their rows.
    """
    passed_over = 0

    def wanted() -> Iterator[Item]:
        nonlocal passed_over
        for item in load_all(targets, model.grid, options, workers):
            passed_over += item.skipped
            if not item.skipped:
                yield item

    for batch in _batched(wanted(), batch_size):
        yield batch, model.answer(batch, refined)
    if passed_over:
        console.info(f"passed over {passed_over} files that hold no spectrum")


def with_catalogue(table: Table, items: Sequence[Item], catalogue: Table) -> Table:
    """Put the catalogue's own columns beside the answers.

    Parameters
    ----------
    table : Table
        Rows of `items`.
    items : sequence of Item
        They know the catalogue's row that asked for them.
    catalogue : Table
        The whole catalogue.

    Returns
    -------
    Table
        The columns of `table`, then the catalogue's, untouched; one whose name is taken
        already gets ``cat_`` before it.
    """
    rows = [item.catalogue_row for item in items]
    own = catalogue[rows]
    for name in own.colnames:
        new = name
        # FITS does not tell upper from lower case.
        while new.lower() in (taken.lower() for taken in table.colnames):
            new = f"cat_{new}"
        table[new] = own[name]
    return table


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _empty_columns(items: Sequence[Item]) -> dict[str, np.ndarray]:
    """Columns for rows that have no answer yet."""
    n = len(items)
    numbers = (
        "class_prob", "p_star", "p_galaxy", "p_qso", "subclass_prob", "star_type_err",
        "teff", "teff_err", "logg", "logg_err", "feh", "feh_err", "z", "z_err", "z_prob",
        "delta_chi2", *ALTERNATIVE_COLUMNS, "outlier_score",
    )  # fmt: skip
    columns: dict[str, Any] = {name: np.full(n, np.nan) for name in numbers}
    columns["class"] = np.full(n, "", dtype=object)
    columns["subclass"] = np.full(n, "", dtype=object)
    columns["star_type"] = np.full(n, "", dtype=object)
    columns["zwarn"] = np.full(n, int(ZWarn.NODATA))
    columns["file"] = np.array([item.file for item in items], dtype=object)
    columns["row"] = np.array([item.row for item in items])
    columns["object_id"] = np.array([_text(item.meta.get("object_id")) for item in items], object)
    columns["survey"] = np.array([_text(item.meta.get("survey")) for item in items], object)
    columns["sn_median"] = np.array([item.sn_median for item in items])
    columns["flags"] = np.array([_flags(item) for item in items], dtype=object)
    return columns


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _coverage(item: Item) -> float:
    return float(np.mean(item.prepared.ivar > 0)) if item.prepared else 0.0


def _flags(item: Item) -> str:
    """What the user should know about the input, as words joined by semicolons."""
    if item.problem:
        return f"UNREADABLE: {item.problem}"
    words = []
    if not item.sn_median >= MIN_SN:
        words.append("LOW_SN")
    if _coverage(item) < MIN_COVERAGE:
        words.append("LITTLE_COVERAGE")
    if item.meta.get("has_ivar") is False:
        words.append("ERRORS_ESTIMATED")
    return ";".join(words)


def _fill_class(
    columns: dict[str, np.ndarray],
    rows: np.ndarray,
    p: dict[str, np.ndarray],
    subclasses: Sequence[str],
) -> None:
    """Classes and subclasses of the rows that have an answer."""
    names = np.array(tasks.CLASSES, dtype=object)[p["class"].argmax(axis=1)]
    columns["class"][rows] = names
    columns["class_prob"][rows] = p["class"].max(axis=1)
    for number, name in enumerate(tasks.CLASSES):
        columns[f"p_{name.lower()}"][rows] = p["class"][:, number]
    for i, row in enumerate(rows):
        found = _subclass(names[i], p["subclass"][i], subclasses)
        columns["subclass"][row], columns["subclass_prob"][row] = found


def _subclass(class_name: str, p: np.ndarray, labels: Sequence[str]) -> tuple[str, float]:
    """The likeliest subclass of that class, and its probability among them."""
    of_class = np.array([label.startswith(f"{class_name} ") for label in labels])
    total = p[of_class].sum()
    if not of_class.any() or total <= 0:
        return "", float("nan")
    best = int(np.where(of_class, p, -1.0).argmax())
    return labels[best].split(" ", 1)[1], float(p[best] / total)


def _fill_star(columns: dict[str, np.ndarray], rows: np.ndarray, p: dict[str, np.ndarray]) -> None:
    """What describes a star, where the class is STAR."""
    star = columns["class"][rows] == "STAR"
    sequence = np.isin(columns["subclass"][rows], list("OBAFGKML"))
    if "star_type" in p:
        place, error = tasks.decode_type(p["star_type"], columns["subclass"][rows])
        for i in np.flatnonzero(star & sequence):
            columns["star_type"][rows[i]] = tasks.SEQUENCE[place[i]]
            columns["star_type_err"][rows[i]] = error[i]
    for name in STELLAR_QUANTITIES:
        if name in p:
            columns[name][rows[star]] = p[name][star, 0]
            columns[f"{name}_err"][rows[star]] = p[name][star, 1]


def _table(columns: dict[str, np.ndarray]) -> Table:
    from astropy.table import Table

    names = dict.fromkeys(CLASSIFY_COLUMNS + REDSHIFT_COLUMNS)
    texts = ("file", "object_id", "survey", "class", "subclass", "star_type", "flags")
    for name, values in columns.items():
        if name == "z" or name in ALTERNATIVE_COLUMNS[::2]:
            columns[name] = values.round(7)  # 30 m/s; what follows is noise
        elif values.dtype == np.float64:
            columns[name] = values.astype(np.float32)
    return Table(
        {name: columns[name].astype(str) if name in texts else columns[name] for name in names}
    )
