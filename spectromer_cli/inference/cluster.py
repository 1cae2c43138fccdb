"""A run on a Dask cluster: units handed out, parts taken in, nothing lost with a worker.

The cluster is somebody else's; only ``local`` starts one, of processes on this machine, for the
run. The model never travels: every worker loads it by name and compares its sha256.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import NetworkError, SomeInputsFailed, UsageError
from spectromer_cli.inference.failures import NAMED_PROBLEMS, Failures
from spectromer_cli.inference.units import (
    UNIT,
    Done,
    OtherVersion,
    Unit,
    Work,
    answer,
    loaded,
    predict_unit,
    units_of,
)
from spectromer_cli.outputs.parts import Parts
from spectromer_cli.paths import claimed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

    from spectromer_cli.inference.predictor import Spectromer
    from spectromer_cli.inference.request import Output, Settings
    from spectromer_cli.spectra.loading import Inputs

# Units handed out ahead of the workers, per thread of theirs.
AHEAD = 2
# How often a unit is tried.
TRIES = 3
# Seconds to wait for a scheduler, and for its first worker.
CONNECTING, FIRST_WORKER = 20.0, 600.0
# How often the number of workers is looked at [s].
LOOK_EVERY = 10.0
_INSTALL = "pip install 'spectromer[dask]'"


class Cluster:
    """A Dask cluster that units are sent to; a context.

    Parameters
    ----------
    scheduler : str
        Its address, a file that has it, ``auto`` for the one that Dask is configured for, or
        ``local``.
    workers : int, optional
        Of a local cluster; by default one per core.

    Raises
    ------
    UsageError
        If Dask is not installed, or `scheduler` names nothing.
    NetworkError
        If there is no scheduler, or it has no workers.
    """

    def __init__(self, scheduler: str, workers: int | None = None) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise UsageError(f"--scheduler needs Dask ({error})", _INSTALL) from error
        # That a scheduler is gone is said in one line, not by a traceback of Dask's.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        self._how = _how(scheduler)
        if workers is not None and self._how:
            raise UsageError(
                "--workers needs --scheduler local", "start workers on the cluster itself"
            )
        if workers == 0:
            raise UsageError("--workers 0 leaves no workers", "give 1 or more")
        self._workers = workers
        self._stack = ExitStack()
        self._threads, self._looked = 1, float("-inf")

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            self.client = stack.enter_context(self._connected())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        import dask
        from distributed import Client, LocalCluster

        if self._how:
            what = self._how.get("address") or self._how.get("scheduler_file")
            try:
                client = Client(**self._how, timeout=CONNECTING, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise NetworkError(
                    f"no Dask scheduler responds at {what} ({reason})", "start it: dask scheduler"
                ) from error
            with client:
                yield client
            return
        from dask.system import CPU_COUNT

        count = self._workers or CPU_COUNT
        settings = {
            "distributed.scheduler.allowed-failures": TRIES - 1,
            "distributed.worker.profile.enabled": False,  # looks at each thread every 10 ms
        }
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client

    def prepare(self, work: Work) -> str:
        """Wait for workers, compare their program and weights, and have them load the model.

        Returns
        -------
        str
            The devices that they predict on.

        Raises
        ------
        UsageError
            If a worker has others.
        NetworkError
            If no worker comes.
        """
        client = self.client
        if not client.scheduler_info(n_workers=-1)["workers"]:
            console.info(f"waiting for workers at {self.address}")
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        except TimeoutError as error:
            raise NetworkError(
                f"no worker has connected to {self.address} in {FIRST_WORKER:g} s",
                "start some: dask worker",
            ) from error
        try:
            found = client.run(answer, work)
        except (ImportError, AttributeError, TypeError) as error:
            raise UsageError(
                f"the workers do not have this version of spectromer ({error})",
                "install the same version on all of them",
            ) from error
        others = {address: said.differs for address, said in found.items() if said.differs}
        if others:
            address, differs = next(iter(others.items()))
            raise UsageError(
                f"{len(others)} of {len(found)} workers differ; {address}: {differs}",
                "install the same program and weights on all of them",
            )
        client.register_plugin(_plugin(work))
        workers = "worker" if len(found) == 1 else "workers"
        console.info(f"{len(found)} {workers} at {self.address}, dashboard: "
                     f"{client.dashboard_link}")  # fmt: skip
        return ", ".join(sorted({said.device for said in found.values()}))

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return str(getattr(self.client.scheduler, "address", ""))

    @property
    def ahead(self) -> int:
        """How many units should be handed out by now."""
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._threads = max(1, sum(self.client.nthreads().values()))
            self._looked = time.monotonic()
        return AHEAD * self._threads

    def results(self, work: Work, units: Iterator[Unit]) -> Iterator[tuple[Unit, Done | str]]:
        """Have units predicted, a few ahead at a time, in whatever order they are done.

        Parameters
        ----------
        work : Work
        units : iterator of Unit
            Taken as there is room.

        Yields
        ------
        unit : Unit
        done : Done or str
            Or why it failed, after `TRIES` tries.

        Raises
        ------
        SpectromerError
            If the scheduler is gone.
        """
        from distributed import as_completed

        running: dict[Any, Unit] = {}
        completed = as_completed(loop=self.client.loop)

        def hand_out(more: list[Unit]) -> None:
            sent = [_packed(unit, work) for unit in more]
            futures = self.client.map(_predict, sent, retries=TRIES - 1, pure=False, batch_size=1)
            running.update(zip(futures, more, strict=True))
            completed.update(futures)

        hand_out(list(islice(units, self.ahead)))
        for future in completed:
            unit = running.pop(future)
            if future.status == "cancelled":
                raise NetworkError(
                    f"the scheduler at {self.address} is no longer running",
                    "resume with the same command and --resume",
                )
            error = future.exception() if future.status == "error" else None
            if isinstance(error, OtherVersion):
                self._send_away(error)
                hand_out([unit])
                continue
            done = future.result() if error is None else _reason(error)
            del future
            yield unit, done
            more = list(islice(units, max(0, self.ahead - len(running))))
            if more:
                hand_out(more)

    def _send_away(self, error: OtherVersion) -> None:
        """Retire a worker that came later and has another program."""
        address = error.hint
        console.warn(f"the worker {address} is excluded: {error}")
        self.client.retire_workers([address], close_workers=True)
        self.client.wait_for_workers(1, timeout=FIRST_WORKER)


def _how(scheduler: str) -> dict[str, Any]:
    """How to connect; nothing for a local cluster.

    Raises
    ------
    UsageError
        If that cannot be told.
    """
    import dask

    if scheduler == "local":
        return {}
    if scheduler == "auto":
        for key, name in (("scheduler-address", "address"), ("scheduler-file", "scheduler_file")):
            if value := dask.config.get(key, None):
                return {name: value}
        raise UsageError(
            "--scheduler auto: no scheduler is configured for Dask",
            "set DASK_SCHEDULER_ADDRESS, or give --scheduler tcp://HOST:8786",
        )
    end = time.monotonic() + CONNECTING
    while scheduler.endswith(".json") and not Path(scheduler).exists() and time.monotonic() < end:
        time.sleep(0.1)  # a scheduler that has just been started writes it soon
    if Path(scheduler).is_file():
        return {"scheduler_file": scheduler}
    host, found, port = scheduler.rpartition(":")
    if "://" in scheduler or (found and host and port.isdigit()):
        return {"address": scheduler}
    raise UsageError(
        f"invalid --scheduler {scheduler}: not a file or an address",
        "give tcp://HOST:8786, a scheduler file, auto or local",
    )


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _packed(unit: Unit, work: Work) -> bytes:
    """What a worker is sent: few bytes, which the scheduler has not to look into.

    The names of 2,000 files are much alike.
    """
    return zlib.compress(pickle.dumps((unit, work)), 1)


def _predict(packed: bytes) -> Done:
    """Predict a unit on a worker."""
    from distributed import get_worker

    worker = get_worker()
    unit, work = pickle.loads(zlib.decompress(packed))
    try:
        return predict_unit(work, unit, worker.state.nthreads)
    except OtherVersion as error:
        raise OtherVersion(str(error), worker.address) from None


def _plugin(work: Work) -> Any:
    """What has every worker, also one that comes later, load the model before its first unit."""
    from distributed import WorkerPlugin

    class LoadModel(WorkerPlugin):
        name = "spectromer-model"

        async def setup(self, worker: Any) -> None:
            import asyncio

            await asyncio.to_thread(loaded, work, worker.state.nthreads)

    return LoadModel()


# --- a run ----------------------------------------------------------------------------------------


class ClusterRun:
    """A run over inputs on a cluster, before the first of them is read.

    Parameters
    ----------
    inputs : Inputs
        What to read.
    settings : Settings
        How to predict.
    output : Output
        With a path: a folder for the parts; or a file, in the format of its suffix, that is made
        of them.
    unit_size : int
        Spectra per unit.

    Attributes
    ----------
    failures : Failures
        Of the rows that there are, when all is done.

    Raises
    ------
    UsageError
        If the inputs, the model or what is asked of it are not there, or an input would be
        overwritten; if parts are there and `resume` is not set, or they are of other weights or
        options.
    """

    def __init__(
        self, inputs: Inputs, settings: Settings, output: Output, unit_size: int = UNIT
    ) -> None:
        from spectromer_cli.inference.layout import Layout
        from spectromer_cli.inference.predictor import Known
        from spectromer_cli.outputs.protect import checked_targets
        from spectromer_cli.weights.store import resolve

        assert output.path is not None
        if inputs.spectra is not None:
            raise UsageError("a cluster reads files, not spectra from Python", "give files")
        if settings.combine is not None:
            raise UsageError(
                "--combine and --scheduler exclude each other: the exposures of one object may be "
                "in different units of work",
                "combine them without --scheduler",
            )
        self._output, self._unit_size, self._is_file = output.path, unit_size, not output.is_folder
        self._folder = self._output
        if self._is_file:
            self._folder = self._output.with_name(f"{self._output.name}.spectromer-parts")
        targets, self._catalogue, self._total = checked_targets(inputs, output.written)
        inside = os.path.abspath(self._folder)  # noqa: PTH100
        # What an interrupted run has left there is no input.
        self._targets = (
            target for target in targets
            if not (target.found_in_folder and _is_inside(target.path, inside))
        )  # fmt: skip
        if settings.model is not None:
            settings = replace(settings, model=_name_for_all(settings.model))
        if settings.precision == "auto":  # workers may differ, their predictions may not
            settings = replace(settings, precision="fp32")
        weights = resolve(settings.model)  # type: ignore[arg-type]
        own = None if self._catalogue is None else self._catalogue.rows([])
        layout = Layout(Known(weights, settings.device, settings.precision), settings, own)
        self._work = Work(
            settings=settings, layout=layout, sha256=weights.sha256, options=inputs.options,
            folder=str(Path.cwd()),
        )  # fmt: skip
        identity = layout.identity(inputs, weights.sha256) | {"unit size": unit_size}
        self._parts = Parts(self._folder, identity, output.resume)
        self.failures = Failures()

    def write(self, cluster: Cluster) -> None:
        """Predict, and write the output.

        Parameters
        ----------
        cluster : Cluster
            Connected.

        Raises
        ------
        UsageError
            If parts that are there are of other inputs; or a worker has another program or other
            weights.
        NetworkError
            If there are no workers, or the scheduler is gone.
        SpectromerError
            If the disk does not take a part.
        SomeInputsFailed
            If there is no row, or a unit failed `TRIES` times; all others are done.
        """
        from spectromer_cli.outputs.resume import Progress

        self._work.layout.provenance["device"] = cluster.prepare(self._work)
        parts = self._parts
        try:
            lost = self._predict(cluster, parts)
        except BaseException:
            if kept := parts.total("rows"):
                console.warn(
                    f"{kept} rows are kept in {self._folder}; resume with the same command and "
                    "--resume"
                )
            raise
        self.failures = Failures(Progress(parts.total("rows"), parts.total("failed")))
        if skipped := parts.total("skipped"):
            console.info(f"skipped {skipped} files without a spectrum")
        if lost:
            raise SomeInputsFailed(
                f"{lost} units failed {TRIES} times and have no rows; {self.failures.seen} rows "
                f"are in {self._folder}",
                "try these units again with --resume",
            )
        self.failures.raise_if_empty()
        if self._is_file:
            self._join(parts)
        console.info(f"wrote {self.failures.seen} rows to {self._output}")

    def _predict(self, cluster: Cluster, parts: Parts) -> int:
        """Make the parts that are missing; how many units failed."""
        from spectromer_cli.spectra.loading import COUNTABLE

        lost = named = 0
        units: Iterable[Unit] = units_of(
            self._targets, self._catalogue, self._work.options, self._unit_size
        )
        size = self._total
        if size is not None and size <= COUNTABLE:
            units = list(units)
            size = sum(unit.size for unit in units)
        with console.progress("spectra", size, every=60.0) as advance:

            def missing() -> Iterator[Unit]:
                for unit in units:
                    if parts.has(unit.part, unit.content):
                        advance(unit.size)
                    else:
                        yield unit

            for unit, done in cluster.results(self._work, missing()):
                if isinstance(done, str):
                    lost += 1
                    console.error(f"{unit.label} failed {TRIES} times: {done}")
                    parts.note(unit.part, unit.content, done)
                else:
                    _add(parts, unit, done)
                    for complaint in done.complaints[: max(0, NAMED_PROBLEMS - named)]:
                        console.error(complaint)
                    named += done.failed
                    for text in done.left_out:
                        console.warn(text)
                advance(unit.size)
        if named > NAMED_PROBLEMS:
            console.error("more inputs cannot be read; see the column flags")
        parts.refuse_others()
        return lost

    def _join(self, parts: Parts) -> None:
        """Make the one file of its parts, which go."""
        from pyarrow import Table
        from pyarrow.parquet import ParquetFile

        from spectromer_cli.outputs.formats import BLOCK, table_of
        from spectromer_cli.outputs.tables import open_writer

        if self._output.exists() and self.failures.status == "error":
            raise SomeInputsFailed(
                f"none of {self.failures.seen} inputs has a prediction: {self._output} was left "
                "unchanged"
            )
        with open_writer(self._output, self._work.layout.provenance) as writer:
            for name in sorted(parts.done):
                with ParquetFile(self._folder / name) as part:
                    for batch in part.iter_batches(BLOCK):
                        writer.write(table_of(Table.from_batches([batch])))
        parts.remove()


def _add(parts: Parts, unit: Unit, done: Done) -> None:
    def write(path: Path) -> Mapping[str, int]:
        path.write_bytes(done.data)
        return {"rows": done.rows, "failed": done.failed, "skipped": done.skipped}

    parts.add(unit.part, unit.content, write)


def _is_inside(path: Path, folder: str) -> bool:
    return os.path.abspath(path).startswith(folder + os.sep)  # noqa: PTH100


def _name_for_all(model: str | Spectromer) -> str:
    """The name of weights as workers with other working folders find them."""
    if not isinstance(model, str):
        return str(model.weights.path.resolve())
    return str(Path(model).resolve()) if Path(model).exists() else model


def write(inputs: Inputs, settings: Settings, output: Output) -> Failures:
    """Predict on a Dask cluster and write the rows to a folder of parts, or to one file.

    Parameters
    ----------
    inputs, settings, output
        As `ClusterRun` takes them; `output` with a scheduler, as `Cluster` takes it.

    Returns
    -------
    Failures
        Of the rows.

    Raises
    ------
    SpectromerError
        As `Cluster`, `ClusterRun` and `ClusterRun.write`.
    """
    assert output.scheduler is not None and output.path is not None
    cluster = Cluster(output.scheduler, inputs.workers)
    with claimed(output.path):
        run = ClusterRun(inputs, settings, output, UNIT)
        with cluster:
            run.write(cluster)
    return run.failures
