"""From prepared spectra to rows: show them to the model in batches, and decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from spectromer_cli import console
from spectromer_cli.inference.columns import (
    coverage,
    empty_columns,
    fill,
    fill_outliers,
    redshift_task,
    to_table,
)
from spectromer_cli.model import decoding, tasks
from spectromer_cli.model.novelty import Familiar
from spectromer_cli.model.template_fit import refine
from spectromer_cli.model.zwarn import MIN_COVERAGE, MIN_DELTA_CHI2, MIN_SN, MIN_Z_PROB, ZWarn
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.loading import Item, item_of, load_all
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.sources import Target
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    import torch
    from astropy.table import Table

    from spectromer_cli.weights.store import Weights

FAMILIAR = ("centres", "whitening", "examples", "limits")


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

        from spectromer_cli.model.network import SpectralViT
        from spectromer_cli.weights.store import load_templates

        self.weights = weights
        self.config = weights.config
        self.device = device
        self.network = SpectralViT(weights.config)
        state = {name: value.float() for name, value in load_file(weights.path).items()}
        self.bases = load_templates(weights)
        known = {
            name: state.pop(f"familiar.{name}").numpy()
            for name in FAMILIAR
            if f"familiar.{name}" in state
        }
        self.familiar = Familiar(**known) if known else None
        # Redshifts less confident than this are marked.
        self.min_z_prob = 0.0
        # Populations are for simulating only (see simulation.populations).
        others = ("templates.", "populations.")
        own = {name: value for name, value in state.items() if not name.startswith(others)}
        self.network.load_state_dict(own)
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
            The columns of `classify_columns` and, with a redshift, `redshift_columns`.
        """
        good = np.array([i for i, item in enumerate(items) if item.prepared is not None], dtype=int)
        columns = empty_columns(items, self.network.tasks)
        if len(good):
            prepared = [items[i].prepared for i in good]
            p, strangeness = self._answers(prepared)
            finite = np.all([np.isfinite(values).all(axis=1) for values in p.values()], axis=0)
            if not finite.all():  # never a class or a redshift out of NaN
                for i in good[~finite]:
                    items[i].prepared = None
                    items[i].problem = "the model's answer is not a number"
                return self.answer(items, refined)
            fill_outliers(columns, good, strangeness)
            for task in self.network.tasks:
                if not isinstance(task, tasks.Redshift):
                    fill(columns, good, task, p[task.name])
            redshift = redshift_task(self.network.tasks)
            if redshift is not None:
                self._fill_redshift(columns, good, items, redshift, p[redshift.name], refined)
        return to_table(columns)

    def _fill_redshift(
        self,
        columns: dict[str, np.ndarray],
        good: np.ndarray,
        items: Sequence[Item],
        task: tasks.Redshift,
        p: np.ndarray,
        refined: bool,
    ) -> None:
        """Redshifts of the rows that have an answer, and the doubts about them."""
        names = columns.get("class", np.full(len(items), ""))[good]
        answer = decoding.decode_redshift(task, p, names == "STAR")
        columns["z"][good], columns["z_err"][good] = answer.z, answer.z_err
        columns["z_prob"][good] = answer.z_prob
        for rank in range(decoding.ALTERNATIVES):
            columns[f"z_alt{rank + 1}"][good] = answer.alt_z[:, rank]
            columns[f"z_alt{rank + 1}_prob"][good] = answer.alt_prob[:, rank]
        if refined:
            prepared = [items[row].prepared for row in good]
            found = refine(answer, prepared, list(names), self.bases, self.grid)
            has = np.isfinite(found.z)
            columns["z"][good[has]], columns["z_err"][good[has]] = found.z[has], found.z_err[has]
            columns["delta_chi2"][good] = found.delta_chi2
            far = np.abs(np.log1p(found.z)) > 0.95 * decoding.STAR_MAX_X
            answer.at_edge |= far & (names == "STAR")
        few = np.array([coverage(items[row]) < MIN_COVERAGE for row in good])
        noisy = np.array([not items[row].sn_median >= MIN_SN for row in good])
        ambiguous = (answer.z_prob < MIN_Z_PROB) | (columns["delta_chi2"][good] < MIN_DELTA_CHI2)
        columns["zwarn"][good] = (
            few * int(ZWarn.LITTLE_COVERAGE)
            + ambiguous * int(ZWarn.AMBIGUOUS)
            + answer.at_edge * int(ZWarn.Z_FITLIMIT)
            + noisy * int(ZWarn.LOW_SN)
            + (columns["delta_chi2"][good] < 0) * int(ZWarn.TEMPLATES_DISAGREE)
            + (columns["outlier_score"][good] > 1.0) * int(ZWarn.OUT_OF_DOMAIN)
            + (answer.z_prob < self.min_z_prob) * int(ZWarn.BELOW_CUT)
        )

    def answers(self, prepared: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Calibrated answers of every task for prepared spectra.

        Returns
        -------
        dict of str to array
            By task, shape (len(prepared), task.size): probabilities; of a quantity, value and
            error.
        """
        return self._answers(prepared)[0]

    def _answers(self, prepared: Sequence[Prepared]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Calibrated answers of every task, shapes (len(prepared), task.size); outlier scores."""
        import torch

        flux = torch.from_numpy(np.stack([p.flux for p in prepared])).to(self.device)
        ivar = torch.from_numpy(np.stack([p.ivar for p in prepared])).to(self.device)
        with torch.inference_mode():
            features, layers = self.network.seen(flux, ivar)
            logits = self.network.logits(features)
        temperature = self.config.temperatures
        answers = {}
        for task in self.network.tasks:
            tempered = task.temper(logits[task.name], temperature.get(task.name, 1.0))
            answers[task.name] = task.answer(tempered).double().cpu().numpy()
        if self.familiar is None:
            return answers, np.full(len(prepared), np.nan)
        return answers, self.familiar.score(layers.float().cpu().numpy())


def load_model(name: str | None = None, device: str = "auto") -> Spectromer:
    """Load a model.

    Parameters
    ----------
    name : str, optional
        Name of weights, a folder or file, or ``hf-hub:owner/name``; by default the weights that
        ship with the program.
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
    from spectromer_cli.weights.store import resolve

    return Spectromer(resolve(name), choose_device(device))


def predict_files(
    model: Spectromer,
    targets: Iterable[Target],
    *,
    options: ReadOptions,
    batch_size: int = 64,
    workers: int = 0,
    refined: bool = True,
    skip: int = 0,
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
    skip : int
        So many spectra of the first target are left out.

    Yields
    ------
    items : list of Item
    table : astropy.table.Table
        Their rows.
    """
    passed_over = 0

    def wanted() -> Iterator[Item]:
        nonlocal passed_over
        for item in load_all(targets, options, grid=model.grid, workers=workers):
            passed_over += item.skipped
            if not (item.skipped or (item.target == 0 and item.place < skip)):
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
    own = catalogue[[item.catalogue_row for item in items]]
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
