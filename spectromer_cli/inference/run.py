"""From files to a table: what `classify` and `redshift` do, and Python users with `predict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from spectromer_cli import console
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.outputs.resume import Progress, Unfinished
from spectromer_cli.paths import claimed

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.model.config import ModelConfig
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

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: invalid value", "give 1 or more")
        if self.columns not in get_args(Which):
            raise UsageError(
                f"columns {self.columns!r}: invalid value",
                f"choose from {', '.join(get_args(Which))}",
            )

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
        A file; stdout without it. With `scheduler`, it may be a folder.
    json : bool
        One JSON document on stdout.
    resume : bool
        Resume what an interrupted run with the same file has left.
    scheduler : str, optional
        Predict on a Dask cluster; see `cluster.Cluster`.

    Raises
    ------
    UsageError
        If the options contradict each other, or the file cannot be written.
    """

    path: Path | None = None
    json: bool = False
    resume: bool = False
    scheduler: str | None = None

    def __post_init__(self) -> None:
        from spectromer_cli.outputs.formats import FORMATS
        from spectromer_cli.outputs.tables import check_output

        if self.scheduler is not None and self.path is None:
            raise UsageError("--scheduler goes with -o", "give -o FOLDER, or -o FILE")
        if self.resume and self.path is None:
            raise UsageError(
                "--resume goes with -o", "what went to stdout cannot be resumed: give -o FILE"
            )
        if self.json and self.path:
            raise UsageError(
                "--json and -o exclude each other", "use -o FILE.jsonl, or --json > FILE"
            )
        is_folder = (
            self.scheduler is not None
            and self.path is not None
            and (self.path.is_dir() or self.path.suffix.lower() not in FORMATS)
        )
        if self.path is not None and not is_folder:
            check_output(self.path)


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
        from spectromer_cli.inference.columns import column_names
        from spectromer_cli.outputs.protect import checked_targets
        from spectromer_cli.outputs.provenance import provenance

        self.inputs = inputs
        self.settings = settings
        self._targets, self.catalogue, self._total = checked_targets(inputs, written)
        self.model = settings.load()
        self.columns = column_names(self.model.tasks, settings.columns)
        self._min_z_prob = least_z_prob(self.model.config, settings.max_outlier_rate)
        self.failures = Failures()
        self.provenance = provenance(self.model)

    def tables(self) -> Iterator[Table]:
        """The rows that are not in ``failures`` yet, batch by batch, as they are predicted."""
        from spectromer_cli.inference.columns import shown, with_catalogue

        done = self.failures.progress
        targets = self._targets
        with console.progress("targets", self._total) as advance:
            if done.rows:
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
                skip=done.place,
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
        }


def predict(
    inputs: Inputs | str | Path | Sequence[str | Path],
    *,
    columns: Which = "all",
    model: str | Spectromer | None = None,
    device: str = "auto",
    batch_size: int = 64,
    refined: bool = True,
    max_outlier_rate: float | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    scheduler: str | None = None,
) -> Table | None:
    """Classify the spectra in files and measure their redshifts, as the commands do.

    Parameters
    ----------
    inputs : Inputs, or path or sequence of paths
        Files, folders, patterns, ``FILE[12]``; or `Inputs`, which takes a catalogue and other
        options too.
    columns, model, device, batch_size, refined, max_outlier_rate
        See `Settings`.
    output : path, optional
        Write the rows here as they come, in the format of the suffix, instead of returning
        them: memory does not grow with their number.
    resume : bool
        Resume what an interrupted run with the same `output` has left; without any, start from
        the beginning.
    scheduler : str, optional
        Predict on a Dask cluster, as ``--scheduler`` says; `output` may be a folder then.

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

    if not isinstance(inputs, Inputs):
        inputs = Inputs(files=inputs)
    settings = Settings(
        columns=columns, model=model, device=device, batch_size=batch_size, refined=refined,
        max_outlier_rate=max_outlier_rate,
    )  # fmt: skip
    path = None if output is None else Path(output)
    Output(path=path, resume=resume, scheduler=scheduler)
    if scheduler is not None and path is not None:
        from spectromer_cli.inference import cluster

        cluster.write(scheduler, inputs, settings, path, resume)
        return None
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
    from spectromer_cli.outputs import screen

    if output.scheduler is not None and output.path is not None:
        from spectromer_cli.inference import cluster

        failures = cluster.write(output.scheduler, inputs, settings, output.path, output.resume)
        failures.raise_if_incomplete()
        return
    if output.path is not None:
        with claimed(output.path):
            this = Run(inputs, settings, [output.path])
            this.write(output.path, output.resume)
    else:
        this = Run(inputs, settings)
        with _told_when_cut_off(this.failures, as_json=output.json):
            if output.json:
                table, failures = this.table(), this.failures
                errors = failures.lines
                print(screen.to_json_document(table, this.provenance, failures.status, errors))
            else:
                screen.put(this.tables(), this.provenance, title)
    this.failures.raise_if_incomplete()


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
    skip: int = 0,
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
    skip : int
        So many spectra of the first target are left out.

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
            if not (item.skipped or (item.target == 0 and item.place < skip)):
                yield item

    items = wanted()
    while batch := list(islice(items, batch_size)):
        yield batch, model.table(batch, refined, min_z_prob)
    if skipped:
        console.info(f"skipped {skipped} files that hold no spectrum")


def _rows_of(items: Sequence[Item]) -> list[int]:
    """The rows of the catalogue that asked for the items."""
    return [item.catalogue_row for item in items if item.catalogue_row is not None]


def least_z_prob(config: ModelConfig, max_outlier_rate: float | None) -> float:
    """The probability below which a redshift is marked."""
    from spectromer_cli.model.confidence import cut_for

    if max_outlier_rate is None:
        return 0.0
    min_z_prob, kept = cut_for(config.confidence, max_outlier_rate)
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
