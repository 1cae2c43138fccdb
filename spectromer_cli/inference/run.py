"""What `classify` and `redshift` share: from the options to the table that is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectromer_cli import __version__, console
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.inference.failures import Failures
from spectromer_cli.outputs import resume
from spectromer_cli.outputs.resume import Progress, Unfinished
from spectromer_cli.spectra.loading import Inputs

if TYPE_CHECKING:
    from astropy.table import Table

    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.model.tasks import Task
    from spectromer_cli.spectra.sources import Target


@dataclass(frozen=True)
class Request:
    """The options of a run.

    Parameters have the names and meanings of the options in `cli.options`.
    """

    files: list[str] | None
    catalog: Path | None
    spectra_dir: Path | None
    model: str | None
    device: str
    batch_size: int
    workers: int | None
    output: Path | None
    json: bool
    air: bool
    wavelength_unit: str
    refined: bool
    max_outlier_rate: float | None = None
    resume: bool = False

    @property
    def grows(self) -> bool:
        """Whether the output is a file that grows row by row."""
        return self.output is not None and self.output.suffix.lower() in resume.SUFFIXES


def run(
    request: Request, columns_of: Callable[[Sequence[Task]], tuple[str, ...]], title: str
) -> None:
    """Read, ask the model, and write the columns that the model's tasks give.

    Raises
    ------
    UsageError
        Before any work, if the options make no sense together.
    SomeInputsFailed
        After all the work, if some inputs have no answer.
    """
    from spectromer_cli.inference.predictor import load_model
    from spectromer_cli.outputs import screen, tables

    check(request)
    if request.output is not None:
        tables.check_output(request.output)
    targets, catalogue, total = targets_of(request)
    model = load_model(request.model, request.device)
    columns = columns_of(model.network.tasks)
    if request.max_outlier_rate is not None:
        demand(model, request.max_outlier_rate)
    provenance = provenance_of(model)
    left = _unfinished(request, model, columns)
    failed = Failures(left.begin(request.resume) if left else Progress())
    chunks = chunks_of(request, columns, model, targets, catalogue, total, failed)
    if request.json:
        whole = stack(list(chunks))
        status = failed.status
        print(screen.to_json_document(whole, provenance, status, failed.lines))
    elif left is not None:
        _write(left, provenance, chunks, failed)
    elif request.output is not None or not sys.stdout.isatty():
        with tables.open_writer(request.output, provenance) as writer:
            for chunk in chunks:
                writer.write(chunk)
    else:
        screen.show(stack(list(chunks)), title)
    if request.output is not None:
        console.info(f"wrote {failed.seen} rows to {request.output}")
    if not failed.seen:
        raise SomeInputsFailed("none of the files found holds a spectrum", "name the files")
    if failed.count:
        raise SomeInputsFailed(
            f"{failed.count} of {failed.seen} inputs have no answer; the column flags says why"
        )


def _unfinished(request: Request, model: Spectromer, columns: tuple[str, ...]) -> Unfinished | None:
    """The place of rows that an interruption may not cost, for a file that grows row by row."""
    if request.output is None or not request.grows:
        return None
    run = {
        "weights": model.weights.sha256,
        "columns": columns,
        "catalog": str(request.catalog or ""),
        "options": [request.air, request.wavelength_unit, request.refined],
        "max-outlier-rate": request.max_outlier_rate,
    }
    return Unfinished(request.output, run)


def _write(
    left: Unfinished, provenance: dict[str, str], chunks: Iterator[Table], failed: Failures
) -> None:
    """Write row by row; what is written when the run is interrupted is kept."""
    from spectromer_cli.outputs import tables

    written = failed.progress
    try:
        with tables.open_writer(left.output, provenance, left.part) as writer:
            for chunk in chunks:
                writer.write(chunk)
                written = left.advance(failed.progress)
    except BaseException:
        left.keep(written)
        raise
    left.discard()


def demand(model: Spectromer, rate: float) -> None:
    """Have redshifts marked that are not confident enough for the outlier rate promised."""
    from spectromer_cli.model.confidence import cut_for

    model.min_z_prob, kept = cut_for(model.config.confidence, rate)
    console.info(
        f"z_prob below {model.min_z_prob:.3g} is marked in zwarn (bit 18); "
        f"{kept:.0%} of held-out galaxies and quasars were above it"
    )


def inputs_of(request: Request) -> Inputs:
    """What the request reads."""
    return Inputs(
        files=request.files,
        catalog=request.catalog,
        spectra_dir=request.spectra_dir,
        air=request.air,
        wavelength_unit=request.wavelength_unit,
        workers=request.workers,
    )


def check(request: Request) -> None:
    """Refuse options that make no sense together."""
    inputs_of(request)
    if request.resume and not request.grows:
        raise UsageError(
            "--resume goes with -o and a format that grows row by row",
            f"end its name in {' '.join(resume.SUFFIXES)}",
        )
    if request.json and request.output:
        raise UsageError("--json and -o exclude each other", "use -o FILE.jsonl, or --json > FILE")


def targets_of(request: Request) -> tuple[Iterator[Target], Table | None, int | None]:
    """What to read, the catalogue if there is one, and how many, where that is soon known."""
    return inputs_of(request).targets()


def chunks_of(
    request: Request,
    columns: tuple[str, ...],
    model: Spectromer,
    targets: Iterator[Target],
    catalogue: Table | None,
    total: int | None,
    failed: Failures,
) -> Iterator[Table]:
    """Tables of the wanted columns, batch by batch."""
    from spectromer_cli.inference.predictor import predict_files, with_catalogue
    from spectromer_cli.spectra.readers import ReadOptions

    done = failed.progress
    with console.progress("targets", total) as advance:
        if done.rows:
            targets = after(done, targets)
            advance(done.target + 1)
        for items, table in predict_files(
            model,
            targets,
            options=ReadOptions(request.air, request.wavelength_unit),
            batch_size=request.batch_size,
            workers=inputs_of(request).processes(total),
            refined=request.refined,
            skip=done.place,
        ):
            failed.note(items)
            advance(sum(item.begins for item in items))
            chunk = table[list(columns)]
            yield chunk if catalogue is None else with_catalogue(chunk, items, catalogue)


def after(done: Progress, targets: Iterator[Target]) -> Iterator[Target]:
    """The inputs from the one on that the last row came from.

    Raises
    ------
    UsageError
        If another is in its place now.
    """
    from itertools import chain, islice

    last = next(islice(targets, done.target, None), None)
    if last is None or str(last.path) != done.file:
        raise UsageError(
            f"the inputs are not those of the unfinished run: number {done.target + 1} was "
            f"{done.file}, and is {last.path if last else 'not there'}",
            "give the same inputs, or begin anew in another -o",
        )
    return chain([last], targets)


def stack(chunks: list[Table]) -> Table:
    """One table of all chunks."""
    from astropy.table import Table, vstack

    return vstack(chunks, metadata_conflicts="silent") if chunks else Table()


def provenance_of(model: Spectromer) -> dict[str, str]:
    """How the numbers were obtained, for the header of the result."""
    import shlex
    from datetime import UTC, datetime

    return {
        "version": f"spectromer {__version__}",
        "weights": model.weights.name,
        "sha256": model.weights.sha256,
        "image": f"{model.config.image} {model.config.tokens}x{model.config.tokens}",
        "device": str(model.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["spectromer", *sys.argv[1:]]),
    }
