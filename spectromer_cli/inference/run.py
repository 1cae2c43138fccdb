"""From files to a table: what `classify` and `redshift` do, and Python users with `predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.inference.failures import Failures
from spectromer_cli.inference.request import Output, Settings, Which
from spectromer_cli.model.device import BATCH_SIZE, keep_freed_memory
from spectromer_cli.outputs import samp
from spectromer_cli.outputs.resume import Progress, Unfinished
from spectromer_cli.paths import claimed

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.combine import Key
    from spectromer_cli.inference.predictor import Known, Spectromer
    from spectromer_cli.model.decoding import Predictions
    from spectromer_cli.model.prior import Prior
    from spectromer_cli.outputs.tables import TableWriter
    from spectromer_cli.spectra.loading import Inputs, Item
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.spectra.sources import Target


class Run:
    """A run over inputs, with the model loaded, before the first of them is read.

    Parameters
    ----------
    inputs : Inputs
        What to read.
    settings : Settings
        How to predict.
    written : sequence of Path
        Files that will be written, which must not be inputs.

    Attributes
    ----------
    model : Known
        A Spectromer if this process runs it.
    columns : tuple of str
        Of the tables, where the settings name them; else all.
    catalogue : Catalogue or None
        Its columns are put beside the predictions.
    failures : Failures
        Of the rows that there are so far.
    provenance : dict of str to str

    Raises
    ------
    UsageError
        If the inputs, the model or what is asked of it are not there.
    """

    def __init__(
        self, inputs: Inputs, settings: Settings = Settings(), written: Sequence[Path] = ()
    ) -> None:
        from spectromer_cli.inference.layout import Layout
        from spectromer_cli.outputs.protect import checked_targets

        self.inputs = inputs
        self.settings = settings
        self._targets, self.catalogue, self._total = checked_targets(inputs, written)
        self.model, self._workers = self._shared_out()
        self._key = None
        if settings.combine is not None:
            table = None
            if self.catalogue is not None:  # rows of one object may lie far apart
                table = self.catalogue.table()
                self.catalogue = self.catalogue.with_rows_of(table)
            from spectromer_cli.inference.combine import key_of

            self._key = key_of(settings.combine, table)
        self._stated = self.catalogue  # what it states of positions and numbers
        own = None if self.catalogue is None else self.catalogue.rows([])
        self._layout = Layout(self.model, settings, own)
        self.columns = self._layout.columns
        self.provenance = self._layout.provenance
        self.failures = Failures()
        self._as_redrock: Table | None = None  # of the latest batch
        self._pz: TableWriter | None = None

    def _shared_out(self) -> tuple[Known, int]:
        """The model, loaded if this process is to run it, and how many others there are."""
        from spectromer_cli.spectra.loading import FEW_FILES, predictors, readers, size_of

        if self.settings.can_be_shared():
            size = 0
            if self._total is not None and self._total < FEW_FILES:
                targets = list(self._targets)
                self._targets, size = iter(targets), size_of(targets)
            if workers := self.inputs.processes(self._total, predictors(), size):
                return self.settings.known(), workers
        model = self.settings.load()
        most = readers(on_gpu=model.device.type != "cpu")
        return model, self.inputs.processes(self._total, most)

    def tables(self) -> Iterator[Table]:
        """The rows that are not in ``failures`` yet, batch by batch, as they are predicted."""
        done = self.failures.progress
        targets = self._targets
        with console.progress("targets", self._total) as advance:
            if done.rows and self._key is None:
                targets = _after(done, targets)
                advance(done.target + 1)
            for items, table in predict_targets(
                self.model,
                targets,
                options=self.inputs.options,
                batch_size=self.settings.batch_size,
                workers=self._workers,
                total=self._total,
                refined=self.settings.refined,
                to_table=self._to_table,
                prior=self.settings.prior,
                skip=done.place if self._key is None else done.rows,
                combine=self._key,
            ):
                self.failures.note(items)
                advance(sum(item.begins for item in items))
                yield self._finished(items, table)

    def _to_table(self, items: Sequence[Item], found: Predictions) -> Table:
        """All columns of a batch; what goes into ``--save-pz`` is written."""
        table = self._layout.table(items, found)
        if self._pz is not None or self._as_redrock is not None:
            from spectromer_cli.inference import handover

            fits = handover.Fits(self.model, items, table)
            if self._pz is not None:
                self._pz.write(handover.pz_rows(self.model, fits, items, found, table))
            if self._as_redrock is not None:
                first = self.failures.seen
                self._as_redrock = handover.redrock_rows(self.model, fits, table, first)
        return table

    @contextmanager
    def saving_pz(self, path: Path | None, part: Path | None = None) -> Iterator[None]:
        """Write p(z), χ²(z) and models of all rows that come while the block runs.

        Parameters
        ----------
        path : Path or None
            FITS or HDF5; None writes nothing.
        part : Path, optional
            As `outputs.tables.open_writer` takes it.

        Raises
        ------
        UsageError
            If the model measures no redshift.
        """
        if path is None:
            yield
            return
        from spectromer_cli.inference import handover
        from spectromer_cli.outputs import full_pz, tables

        formats = full_pz.formats_with(handover.pz_axes(self.model))
        with tables.open_writer(path, self.provenance, part, formats) as self._pz:
            yield
        self._pz = None

    def _empty(self) -> Table:
        """A table of no rows, with its columns."""
        return self._finished([], self._layout.no_rows())

    def _finished(self, items: Sequence[Item], table: Table) -> Table:
        """What is shown of a table of predictions, with what the catalogue states beside it."""
        stated, beside = (
            None if one is None else one.rows(_rows_of(items))
            for one in (self._stated, self.catalogue)
        )
        return self._layout.finished(table, stated, beside)

    def table(self) -> Table:
        """All rows in one table, whose ``meta`` is the provenance."""
        from spectromer_cli.outputs.formats import stacked

        table = stacked(list(self.tables()))
        table.meta = dict(self.provenance)
        return table

    def write(self, output: Output) -> None:
        """Write the rows to a file as they come, in memory that does not grow with them.

        Parameters
        ----------
        output : Output
            With a path. Rows that are written when the run is interrupted are kept beside it.

        Raises
        ------
        UsageError
            If an interrupted run has left rows and is not to be resumed, or it had other inputs,
            weights or options; or the model has not what the format needs.
        SomeInputsFailed
            If there is no row; or none with a prediction, and the file exists: it stays then.
        SpectromerError
            If the disk does not take the file.
        """
        from spectromer_cli.inference import handover
        from spectromer_cli.outputs import redrock, tables
        from spectromer_cli.outputs.formats import FORMATS

        path = output.path
        assert path is not None
        formats, record, empty = FORMATS, self.provenance, self._empty()
        if output.format:
            handover.check_redrock(self.model)
            nothing = self._layout.no_rows()
            fits = handover.Fits(self.model, [], nothing)
            self._as_redrock = empty = handover.redrock_rows(self.model, fits, nothing, 0)
            formats, record = redrock.FORMATS, record | handover.redrock_provenance(self.model)
        there = path.exists()
        identity = self._layout.identity(self.inputs, self.model.weights.sha256)
        identity |= {"format": output.format, "pz": str(output.save_pz or "")}
        left = Unfinished(path, identity, output.resume, output.save_pz)
        self.failures = Failures(left.progress)
        with (
            left,
            tables.open_writer(path, record, left.part, formats) as writer,
            self.saving_pz(output.save_pz, left.beside),
        ):
            writer.describe(empty)  # even if no row is left to be written
            for table in self.tables():
                writer.write(table if self._as_redrock is None else self._as_redrock)
                left.advance(self.failures.progress)
            if self.failures.status == "error" and (there or not self.failures.seen):
                left.drop()
                self.failures.raise_if_empty()
                raise SomeInputsFailed(
                    f"none of {self.failures.seen} inputs has a prediction: {path} was left "
                    f"unchanged"
                )
        replaced = ", replacing the old file" if there else ""
        console.info(f"wrote {self.failures.seen} rows to {path}{replaced}")


def predict(
    inputs: Inputs | str | Path | Sequence[str | Path] | Any,
    *,
    columns: Which | Sequence[str] = "all",
    model: str | Spectromer | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = BATCH_SIZE,
    refined: bool = True,
    max_outlier_rate: float | None = None,
    class_: str = "",
    z_range: str | tuple[float, float] | None = None,
    z_prior: Any = None,
    combine: str | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    format: str = "",
    save_pz: str | Path | None = None,
    scheduler: str | None = None,
) -> Table | None:
    """Classify the spectra in files and measure their redshifts, as the commands do.

    Parameters
    ----------
    inputs : Inputs, or path or spectrum or sequence of such
        Files, folders, patterns, ``FILE[12]``; spectra, as `objects.spectra_of` takes them; or
        `Inputs`, which takes a catalogue and other options too.
    columns : {"all", "classify", "redshift"} or sequence of str
        The columns of one command, or of both; or the names of those wanted.
    model, device, precision, batch_size, refined, max_outlier_rate, class_, z_range, z_prior
        See `Settings`.
    combine
        See `Settings`.
    output : path, optional
        Write the rows here as they come, in the format of the suffix, instead of returning
        them: memory does not grow with their number.
    resume : bool
        Resume what an interrupted run with the same `output` has left; without any, start from
        the beginning.
    format, save_pz, scheduler
        See `Output`.

    Returns
    -------
    astropy.table.Table or None
        One row per spectrum, in input order, with the columns of `spectromer classify` and
        `spectromer redshift` and those of the catalogue; its ``meta`` says how it was made. A
        spectrum that cannot be read has a row too, with the reason in ``flags``. None with
        `output`.

    Raises
    ------
    UsageError
        Before any work, if the arguments make no sense together.
    WeightsNotVerified
        If the weights are not those of their manifest.
    SpectromerError
        If no file holds a spectrum, or the output cannot be written.
    """
    from spectromer_cli.spectra.loading import Inputs

    inputs = Inputs.of(inputs)
    if resume and inputs.spectra is not None:
        raise UsageError("spectra from Python cannot be resumed", "leave out resume=True")
    only = () if isinstance(columns, str) else tuple(columns)
    settings = Settings(
        columns="all" if only else columns, only=only,  # type: ignore[arg-type]
        model=model, device=device, precision=precision, batch_size=batch_size, refined=refined,
        max_outlier_rate=max_outlier_rate, class_=class_, z_range=z_range, z_prior=z_prior,
        combine=combine,
    )  # fmt: skip
    where = Output(
        path=None if output is None else Path(output), resume=resume, format=format,
        save_pz=None if save_pz is None else Path(save_pz), scheduler=scheduler,
    )  # fmt: skip
    if where.scheduler is not None:
        from spectromer_cli.inference import cluster

        cluster.write(inputs, settings, where)
        return None
    with _all_claimed(where):
        run = Run(inputs, settings, where.written)
        table = None
        if where.path is None:
            with run.saving_pz(where.save_pz):
                table = run.table()
        else:
            run.write(where)
    run.failures.raise_if_empty()
    return table


def run(inputs: Inputs, settings: Settings, output: Output, title: str) -> None:
    """Predict, and write or print the results: the work of a command.

    Parameters
    ----------
    inputs : Inputs
    settings : Settings
    output : Output
    title : str
        Above the table on a terminal.

    Raises
    ------
    UsageError
        Before any work, if the options make no sense together.
    SomeInputsFailed
        After all the work, if some inputs have no prediction.
    """
    if output.scheduler is not None:
        from spectromer_cli.inference import cluster

        with _recipients(output) as recipients:
            failures = cluster.write(inputs, settings, output)
            if recipients is not None and output.path is not None:
                recipients.send(output.path, output.path.name)
        failures.raise_if_incomplete()
        return
    keep_freed_memory()
    with _recipients(output) as recipients, _all_claimed(output):
        this = Run(inputs, settings, output.written)
        if output.path is not None:
            this.write(output)
            if recipients is not None:
                recipients.send(output.path, output.path.name)
        else:
            with (
                _told_when_cut_off(this.failures, as_json=output.json),
                this.saving_pz(output.save_pz),
            ):
                _put(this, output, title, recipients)
    this.failures.raise_if_incomplete()


def _put(this: Run, output: Output, title: str, recipients: samp.Recipients | None) -> None:
    """Print the results, and send them if they are to be sent."""
    from spectromer_cli.outputs import screen

    table = this.table() if output.json or recipients is not None else None
    if output.json and table is not None:
        failures = this.failures
        errors = failures.lines
        print(screen.to_json_document(table, this.provenance, failures.status, errors))
    else:
        screen.put(this.tables() if table is None else [table], this.provenance, title)
    if recipients is not None and table is not None and len(table):
        samp.send_table(recipients, table, this.provenance)


def _recipients(output: Output) -> AbstractContextManager[samp.Recipients | None]:
    """Who is sent the results; looked for before the work."""
    if output.samp is None:
        return nullcontext()
    message = samp.TABLE if output.path is None else samp.MESSAGES[output.path.suffix.lower()]
    return samp.connected(output.samp, message)


@contextmanager
def _all_claimed(output: Output) -> Iterator[None]:
    """Hold the files that will be written (see `paths.claimed`)."""
    with ExitStack() as stack:
        for path in output.written:
            stack.enter_context(claimed(path))
        yield


@contextmanager
def _told_when_cut_off(failures: Failures, as_json: bool) -> Iterator[None]:
    """Say of a run to stdout that is cut off what came of it, and how to keep more."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, OSError):
        printed = "nothing" if as_json else f"up to {failures.seen} rows"
        console.warn(
            f"{printed} went to stdout and cannot be resumed; with -o FILE and --resume they can"
        )
        raise


def predict_targets(
    model: Known,
    targets: Iterable[Target],
    *,
    options: ReadOptions,
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    total: int | None = None,
    refined: bool = True,
    to_table: Callable[[Sequence[Item], Predictions], Table] | None = None,
    prior: Prior | None = None,
    skip: int = 0,
    combine: Key | None = None,
) -> Iterator[tuple[list[Item], Table]]:
    """Predict for targets, in their order, with memory that does not grow with their number.

    Parameters
    ----------
    model : Known
        A Spectromer runs here; any other is loaded and run by the processes that read.
    targets : iterable of Target
        What to read; consumed as the work goes on.
    options : ReadOptions
        What the files do not say themselves.
    batch_size : int
        Spectra per batch.
    workers : int
        Processes that read.
    total : int, optional
        How many targets there are, if that is known.
    refined : bool
        Refine redshifts with templates.
    to_table : callable, optional
        Makes the table of a batch; by default `columns.table_of`.
    prior : Prior, optional
        What is known of class and redshift.
    skip : int
        So many spectra of the first target, or where they are combined of all, are left out.
    combine : callable, optional
        The exposures of one object, as `combine.key_of` tells them, become one spectrum.

    Yields
    ------
    items : list of Item
    table : astropy.table.Table
        Their rows.
    """
    from spectromer_cli.inference.columns import table_of
    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.inference.processes import Predicting, predictions_of
    from spectromer_cli.model.device import room_for
    from spectromer_cli.spectra.loading import cores, load_all

    here = model if isinstance(model, Spectromer) else None
    then = None
    if here is None:
        threads = max(1, cores() // workers)
        then = Predicting(model.weights, model.precision, threads, refined, prior)
    skipped = 0

    def wanted() -> Iterator[Item]:
        nonlocal skipped
        for item in load_all(
            targets, options, grid=model.grid, workers=workers, total=total, then=then
        ):
            skipped += item.skipped
            done = combine is None and item.target == 0 and item.place < skip
            if not (item.skipped or done):
                yield item

    items = wanted()
    if combine is not None:
        from spectromer_cli.inference.combine import combined

        items = islice(combined(items, combine, model.grid), skip, None)
    while batch := list(islice(items, batch_size)):
        if here is None:
            found = predictions_of(batch)
        else:
            with room_for(workers, here.device, cores()):
                found = here.predictions(batch, refined, prior)
        yield batch, to_table(batch, found) if to_table else table_of(batch, found, model.tasks)
    if skipped:
        console.info(f"skipped {skipped} files without a spectrum")


def _rows_of(items: Sequence[Item]) -> list[int]:
    """The rows of the catalogue that asked for the items."""
    return [item.catalogue_row for item in items if item.catalogue_row is not None]


def _after(done: Progress, targets: Iterator[Target]) -> Iterator[Target]:
    """The inputs from the one on that the last row came from.

    Raises
    ------
    UsageError
        If another is in its place now.
    """
    last = next(islice(targets, done.target, None), None)
    if last is None or str(last.path) != done.file:
        raise UsageError(
            f"the inputs differ from those of the unfinished run: number {done.target + 1} was "
            f"{done.file}, and is {last.path if last else 'not there'}",
            "give the same inputs, or start a new run with another -o",
        )
    return chain([last], targets)
