"""From files to a table: what `classify` and `redshift` do, and Python users with `predict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from spectromer_cli import console
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.inference.combine import Key, combined, key_of
from spectromer_cli.model.prior import Prior, prior_of
from spectromer_cli.outputs import samp
from spectromer_cli.outputs.resume import Progress, Unfinished
from spectromer_cli.paths import claimed

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.spectra.loading import Inputs, Item
    from spectromer_cli.spectra.readers import ReadOptions
    from spectromer_cli.spectra.sources import Target

# Of the tables: those that one command shows, or those of both.
Which = Literal["all", "classify", "redshift"]
# So many bad files are named one by one; the rest are in the table.
NAMED_PROBLEMS = 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to predict; the fields are the options of the command line.

    Parameters
    ----------
    columns : {"all", "classify", "redshift"}
        Those of one command, or of both.
    model : str or Spectromer, optional
        As `load_model` takes it, or loaded already.
    device : str
        As `load_model` takes it.
    batch_size : int
        Spectra per batch.
    refined : bool
        Refine redshifts with templates.
    max_outlier_rate : float, optional
        Mark redshifts (zwarn bit 18) that are not confident enough for at most this share of
        the rest to be off by more than 0.01 (1 + z).
    class_, z_range, z_prior
        What is known beforehand, as `prior.prior_of` takes it.
    combine : str, optional
        Exposures that agree in this, a column of the catalogue or one of `combine.KEYS`, become
        one spectrum.

    Raises
    ------
    UsageError
        If a value is invalid.
    """

    columns: Which = "all"
    model: str | Spectromer | None = None
    device: str = "auto"
    batch_size: int = 64
    refined: bool = True
    max_outlier_rate: float | None = None
    class_: str = ""
    z_range: str | tuple[float, float] | None = None
    z_prior: Any = None
    combine: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: invalid value", "give 1 or more")
        if self.columns not in get_args(Which):
            raise UsageError(
                f"columns {self.columns!r}: invalid value",
                f"choose from {', '.join(get_args(Which))}",
            )
        _ = self.prior  # refuses what is no prior

    @cached_property
    def prior(self) -> Prior | None:
        """What is known beforehand; None if nothing is."""
        return prior_of(self.class_, self.z_range, self.z_prior)

    def load(self) -> Spectromer:
        """The model."""
        from spectromer_cli.inference.predictor import Spectromer, load_model

        if isinstance(self.model, Spectromer):
            return self.model
        return load_model(self.model, self.device)


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go; the fields are the options of the command line.

    Parameters
    ----------
    path : Path, optional
        A file; stdout without it.
    json : bool
        One JSON document on stdout.
    resume : bool
        Resume what an interrupted run with the same file has left.
    samp : str, optional
        Send the table to the program of this name, or to "all", by SAMP.

    Raises
    ------
    UsageError
        If the options contradict each other, or the file cannot be written.
    """

    path: Path | None = None
    json: bool = False
    resume: bool = False
    samp: str | None = None

    def __post_init__(self) -> None:
        from spectromer_cli.outputs.tables import check_output

        if self.resume and self.path is None:
            raise UsageError(
                "--resume goes with -o", "what went to stdout cannot be resumed: give -o FILE"
            )
        if self.json and self.path:
            raise UsageError(
                "--json and -o exclude each other", "use -o FILE.jsonl, or --json > FILE"
            )
        if self.path is not None:
            check_output(self.path)
            if self.samp and self.path.suffix.lower() not in samp.MESSAGES:
                raise UsageError(
                    f"--samp sends no {self.path.suffix} file",
                    f"choose from {' '.join(samp.MESSAGES)}, or leave out -o",
                )


class Failures:
    """Counts the rows and names the inputs that have no prediction.

    Parameters
    ----------
    progress : Progress, optional
        Of the run that is resumed.
    """

    def __init__(self, progress: Progress = Progress()) -> None:
        self.progress = progress
        self.lines: list[str] = []
        # Where the inputs of this run begin among all.
        self._first = progress.target

    @property
    def seen(self) -> int:
        """Rows."""
        return self.progress.rows

    @property
    def count(self) -> int:
        """Rows without a prediction."""
        return self.progress.failed

    @property
    def status(self) -> str:
        """Of the JSON document: whether all inputs have a prediction, some, or none."""
        if self.count == self.seen:
            return "error"
        return "partial" if self.count else "success"

    def note(self, items: Sequence[Item]) -> None:
        """Count a batch, and say on stderr what is wrong with which file."""
        count = self.count
        for item in items:
            if not item.problem:
                continue
            count += 1
            if count <= NAMED_PROBLEMS:
                self.lines.append(item.complaint)
                console.error(item.complaint)
            elif count == NAMED_PROBLEMS + 1:
                console.error("more inputs cannot be read; the column flags names each")
        last = items[-1]
        self.progress = Progress(
            rows=self.seen + len(items),
            failed=count,
            target=self._first + last.target,
            file=last.file,
            place=last.place + 1,
        )

    def raise_if_empty(self) -> None:
        """Refuse a run without a single row.

        Raises
        ------
        SomeInputsFailed
        """
        if not self.seen:
            raise SomeInputsFailed("none of the files found holds a spectrum", "name the files")

    def raise_if_incomplete(self) -> None:
        """End a run with the exit code that is due.

        Raises
        ------
        SomeInputsFailed
            If there is no row, or one without a prediction.
        """
        self.raise_if_empty()
        if self.count:
            raise SomeInputsFailed(
                f"{self.count} of {self.seen} inputs have no prediction; the column flags says why"
            )


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
    model : Spectromer
    columns : tuple of str
        Of the tables.
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
        from spectromer_cli.inference.columns import column_names, redshift_task
        from spectromer_cli.outputs.protect import checked_targets
        from spectromer_cli.outputs.provenance import provenance

        self.inputs = inputs
        self.settings = settings
        self._targets, self.catalogue, self._total = checked_targets(inputs, written)
        self.model = settings.load()
        self.columns = column_names(self.model.tasks, settings.columns)
        if settings.prior is not None:
            settings.prior.check(self.model.labels, redshift_task(self.model.tasks))
        self._key = None
        if settings.combine is not None:
            table = None
            if self.catalogue is not None:  # rows of one object may lie far apart
                table = self.catalogue.table()
                self.catalogue = self.catalogue.with_rows_of(table)
            self._key = key_of(settings.combine, table)
        self._min_z_prob = _cut(self.model, settings.max_outlier_rate)
        self.failures = Failures()
        known = {} if settings.prior is None else {"prior": str(settings.prior)}
        self.provenance = provenance(self.model, **known)

    def tables(self) -> Iterator[Table]:
        """The rows that are not in ``failures`` yet, batch by batch, as they are predicted."""
        from spectromer_cli.inference.columns import shown, with_catalogue

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
                workers=self.inputs.processes(self._total),
                refined=self.settings.refined,
                min_z_prob=self._min_z_prob,
                prior=self.settings.prior,
                skip=done.place if self._key is None else done.rows,
                combine=self._key,
            ):
                self.failures.note(items)
                advance(sum(item.begins for item in items))
                own = shown(table, self.columns)
                if self.catalogue is None:
                    yield own
                else:
                    yield with_catalogue(own, self.catalogue.rows(_rows_of(items)))

    def table(self) -> Table:
        """All rows in one table, whose ``meta`` is the provenance."""
        from spectromer_cli.outputs.formats import stacked

        table = stacked(list(self.tables()))
        table.meta = dict(self.provenance)
        return table

    def write(self, path: Path, resume: bool = False) -> None:
        """Write the rows to a file as they come, in memory that does not grow with them.

        Parameters
        ----------
        path : Path
            As `outputs.tables.open_writer` takes it. Rows that are written when the run is
            interrupted are kept beside it.
        resume : bool
            Resume what an interrupted run has left.

        Raises
        ------
        UsageError
            If an interrupted run has left rows and `resume` is not set, or it had other inputs,
            weights or options.
        SomeInputsFailed
            If there is no row; or none with a prediction, and the file exists: it stays then.
        SpectromerError
            If the disk does not take the file.
        """
        from spectromer_cli.outputs import tables

        there = path.exists()
        left = Unfinished(path, self._identity(), resume)
        self.failures = Failures(left.progress)
        with left, tables.open_writer(path, self.provenance, left.part) as writer:
            for table in self.tables():
                writer.write(table)
                left.advance(self.failures.progress)
            if self.failures.status == "error" and (there or not self.failures.seen):
                left.drop()
                self.failures.raise_if_empty()
                raise SomeInputsFailed(
                    f"none of {self.failures.seen} inputs has a prediction: {path} stays as it was"
                )
        replaced = ", in place of what was there" if there else ""
        console.info(f"wrote {self.failures.seen} rows to {path}{replaced}")

    def _identity(self) -> dict[str, object]:
        """What must be the same for a run to be resumed."""
        inputs, settings = self.inputs, self.settings
        return {
            "weights": self.model.weights.sha256,
            "columns": self.columns,
            "catalog": str(inputs.catalog or ""),
            "options": [inputs.air, inputs.wavelength_unit, settings.refined],
            "max-outlier-rate": settings.max_outlier_rate,
            "prior": str(settings.prior or ""),
            "combine": settings.combine,
        }


def predict(
    inputs: Inputs | str | Path | Sequence[str | Path] | Any,
    *,
    columns: Which = "all",
    model: str | Spectromer | None = None,
    device: str = "auto",
    batch_size: int = 64,
    refined: bool = True,
    max_outlier_rate: float | None = None,
    class_: str = "",
    z_range: str | tuple[float, float] | None = None,
    z_prior: Any = None,
    combine: str | None = None,
    output: str | Path | None = None,
    resume: bool = False,
) -> Table | None:
    """Classify the spectra in files and measure their redshifts, as the commands do.

    Parameters
    ----------
    inputs : Inputs, or path or spectrum or sequence of such
        Files, folders, patterns, ``FILE[12]``; spectra, as `objects.spectra_of` takes them; or
        `Inputs`, which takes a catalogue and other options too.
    columns, model, device, batch_size, refined, max_outlier_rate, class_, z_range, z_prior,
    combine
        See `Settings`.
    output : path, optional
        Write the rows here as they come, in the format of the suffix, instead of returning
        them: memory does not grow with their number.
    resume : bool
        Resume what an interrupted run with the same `output` has left; without any, start from
        the beginning.

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
    settings = Settings(
        columns=columns, model=model, device=device, batch_size=batch_size, refined=refined,
        max_outlier_rate=max_outlier_rate, class_=class_, z_range=z_range, z_prior=z_prior,
        combine=combine,
    )  # fmt: skip
    path = None if output is None else Path(output)
    Output(path=path, resume=resume)
    with nullcontext() if path is None else claimed(path):
        run = Run(inputs, settings, () if path is None else [path])
        table = None
        if path is None:
            table = run.table()
        else:
            run.write(path, resume)
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
    with _recipients(output) as recipients:
        if output.path is not None:
            with claimed(output.path):
                this = Run(inputs, settings, [output.path])
                this.write(output.path, output.resume)
            if recipients is not None:
                recipients.send(output.path, output.path.name)
        else:
            this = Run(inputs, settings)
            with _told_when_cut_off(this.failures, as_json=output.json):
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
def _told_when_cut_off(failures: Failures, as_json: bool) -> Iterator[None]:
    """Say of a run to stdout that is cut off what came of it, and how to keep more."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, OSError):
        printed = "nothing" if as_json else f"up to {failures.seen} rows"
        console.warn(
            f"{printed} went to stdout and no row is kept; with -o FILE they are, and --resume "
            "continues after them"
        )
        raise


def predict_targets(
    model: Spectromer,
    targets: Iterable[Target],
    *,
    options: ReadOptions,
    batch_size: int = 64,
    workers: int = 0,
    refined: bool = True,
    min_z_prob: float = 0.0,
    prior: Prior | None = None,
    skip: int = 0,
    combine: Key | None = None,
) -> Iterator[tuple[list[Item], Table]]:
    """Predict for targets, in their order, with memory that does not grow with their number.

    Parameters
    ----------
    model : Spectromer
    targets : iterable of Target
        What to read; consumed as the work goes on.
    options : ReadOptions
        What the files do not say themselves.
    batch_size : int
        Spectra per batch.
    workers : int
        Processes that read beside the model.
    refined : bool
        Refine redshifts with templates.
    min_z_prob : float
        See `columns.table_of`.
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
    from spectromer_cli.spectra.loading import load_all

    skipped = 0

    def wanted() -> Iterator[Item]:
        nonlocal skipped
        for item in load_all(targets, options, grid=model.grid, workers=workers):
            skipped += item.skipped
            done = combine is None and item.target == 0 and item.place < skip
            if not (item.skipped or done):
                yield item

    items = wanted()
    if combine is not None:
        items = islice(combined(items, combine, model.grid), skip, None)
    while batch := list(islice(items, batch_size)):
        yield batch, model.table(batch, refined, min_z_prob, prior)
    if skipped:
        console.info(f"skipped {skipped} files that hold no spectrum")


def _rows_of(items: Sequence[Item]) -> list[int]:
    """The rows of the catalogue that asked for the items."""
    return [item.catalogue_row for item in items if item.catalogue_row is not None]


def _cut(model: Spectromer, max_outlier_rate: float | None) -> float:
    """The probability below which a redshift is marked."""
    from spectromer_cli.model.confidence import cut_for

    if max_outlier_rate is None:
        return 0.0
    min_z_prob, kept = cut_for(model.config.confidence, max_outlier_rate)
    console.info(
        f"z_prob below {min_z_prob:.3g} is marked in zwarn (bit 18); "
        f"{kept:.0%} of held-out galaxies and quasars were above it"
    )
    return min_z_prob


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
            f"the inputs are not those of the unfinished run: number {done.target + 1} was "
            f"{done.file}, and is {last.path if last else 'not there'}",
            "give the same inputs, or start afresh with another -o",
        )
    return chain([last], targets)
