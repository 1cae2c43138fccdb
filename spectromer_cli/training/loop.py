"""The one training loop: the same for every model here, on a CPU, a GPU, or several."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from spectromer_cli import console
from spectromer_cli.errors import SpectromerError
from spectromer_cli.model import tasks
from spectromer_cli.training import distributed
from spectromer_cli.training.batches import Batch, Batches
from spectromer_cli.training.checkpoint import Run
from spectromer_cli.training.settings import Schedule

CLIP_NORM = 1.0
# Spectra per forward pass where nothing is learned.
PREDICTION_BATCH = 256


class Network(Protocol):
    """What can be trained: a module that gives the logits of tasks from flux and ivar."""

    tasks: Any

    def __call__(self, flux: Tensor, ivar: Tensor) -> dict[str, Tensor]:
        """Logits by task, shapes (batch, task.size)."""


# The loss on the validation split (None: nothing to stop by), and figures for the journal.
Check = Callable[[], tuple[float | None, dict[str, float]]]


def fit(
    model: Any,
    batches: Batches,
    schedule: Schedule,
    run: Run,
    *,
    stage: str,
    device: torch.device,
    groups: list[dict[str, Any]] | None = None,
    check: Check | None = None,
    prepare: Callable[[], None] | None = None,
    teacher: Any = None,
    stop_at: int | None = None,
    workers: int = 0,
    compile: bool = False,
) -> None:
    """Fit a model to batches.

    With early stopping (`Schedule.patience`) the model ends as the best that the validation
    split saw, else as it is after the last step.

    Parameters
    ----------
    model : Network
        On `device`.
    batches : Batches
    schedule : Schedule
    run : Run
        Gets checkpoints and the journal; its state is kept up to date.
    stage : str
        Name of the fit in the run.
    device : torch.device
    groups : list of dict, optional
        Parameter groups for AdamW, each with ``scale``, its share of the learning rate; all
        parameters alike by default.
    check : callable, optional
        Validates the model.
    prepare : callable, optional
        Done before the first step, within the time of the fit.
    teacher : Network, optional
        Tasks of the model that the batches have no labels of learn to predict what this one
        does (Li & Hoiem 2018, IEEE TPAMI 40, 2935: learning without forgetting).
    stop_at : int, optional
        Number of steps to stop after.
    workers : int
        Processes that make batches.
    compile : bool
        Compile the network with `torch.compile`.
    """
    job = _Fit(model, batches, schedule, run, stage, device, check)
    job.begin(groups, prepare)
    if compile:
        getattr(model, "backbone", model).compile()
    job.learn(teacher, stop_at, workers)
    job.end()


class _Fit:
    """One fit under way; its parameters are those of `fit`."""

    def __init__(
        self,
        model: Any,
        batches: Batches,
        schedule: Schedule,
        run: Run,
        stage: str,
        device: torch.device,
        check: Check | None,
    ) -> None:
        self.model = model
        self.batches = batches
        self.schedule = schedule
        self.run = run
        self.state = run.state
        self.stage = stage
        self.device = device
        self.check = check
        self.best: dict[str, Tensor] = {}
        self._began = 0.0

    def begin(
        self, groups: list[dict[str, Any]] | None, prepare: Callable[[], None] | None
    ) -> None:
        """Start from the beginning, or from the checkpoint if it is of this fit."""
        state, schedule = self.state, self.schedule
        groups = groups or [{"params": list(self.model.parameters()), "scale": 1.0}]
        for group in groups:
            group.setdefault("weight_decay", schedule.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate)
        if state.autocast is None:
            fastest = fastest_precision(self.model, self.device, self.batches.grid.n)
            state.autocast = bool(distributed.agreed(fastest is not None, self.device))
        best = self.run.restore(self.stage, self.model, self.optimizer)
        if best is not None:
            self.best = best
            self._began = time.monotonic() - state.seconds
            return
        state.earlier_seconds += state.seconds
        state.stage, state.step, state.seconds = self.stage, 0, 0.0
        state.best_loss, state.best_step, state.checks_without_gain = None, 0, 0
        self._began = time.monotonic()
        if prepare is not None:
            prepare()
        if self.check is not None and schedule.patience:
            # A small set may teach the backbone nothing: then the prepared head is the best.
            self._validate({})
        state.seconds = time.monotonic() - self._began

    def learn(self, teacher: Any, stop_at: int | None, workers: int) -> None:
        """Step until the schedule, the patience or the time ends."""
        state, schedule = self.state, self.schedule
        precision = torch.bfloat16 if state.autocast else None
        stepper = Stepper(self.model, self.optimizer, self.device, precision, teacher)
        last = schedule.steps if stop_at is None else min(stop_at, schedule.steps)
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(state.step, last),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
        with console.progress(self.stage, last, every=60.0) as advance:
            advance(state.step)
            for batch in loader:
                progress = schedule.progress(state.step, state.seconds)
                progress = distributed.agreed(progress, self.device)
                if progress >= 1.0 or self._out_of_patience():
                    break
                for group in self.optimizer.param_groups:
                    group["lr"] = schedule.rate(progress) * group["scale"]
                losses = stepper.step(batch)
                state.step += 1
                state.seconds = time.monotonic() - self._began
                speed = state.step * schedule.batch_size / max(state.seconds, 1e-9)
                advance(1, f"loss {sum(losses.values()):.3f}  {speed:.0f} spectra/s")
                if state.step % schedule.check_every == 0 or state.step == last:
                    self._validate(losses)

    def end(self) -> None:
        """Keep the last state, and take the best one if there is early stopping."""
        if distributed.rank() == 0:  # the time may have ended between two checks
            self.run.save(self.model, self.optimizer, self.best)
        step = self.state.step
        if self.schedule.patience and self.best:
            self.model.load_state_dict(self.best)
            step = self.state.best_step
        self.state.best_steps[self.stage] = step

    def _out_of_patience(self) -> bool:
        patience = self.schedule.patience
        return bool(patience) and self.state.checks_without_gain >= patience

    def _validate(self, losses: dict[str, float]) -> None:
        """Check on the validation split, remember the best state, write journal and checkpoint."""
        state = self.state
        line: dict[str, Any] = {"stage": self.stage, "step": state.step}
        line |= {f"loss_{name}": round(value, 5) for name, value in losses.items()}
        if self.check is not None:
            loss, figures = self.check() if distributed.rank() == 0 else (None, {})
            line |= figures
            if self.schedule.patience:
                own = np.nan if loss is None else loss
                line["validation_loss"] = self._judge(distributed.agreed(own, self.device))
        state.seconds = time.monotonic() - self._began
        if distributed.rank() == 0:
            self.run.log({**line, "seconds": round(state.seconds, 2)})
            self.run.save(self.model, self.optimizer, self.best)

    def _judge(self, loss: float) -> float:
        """Whether a loss on the validation split is the best; the loss, rounded."""
        state = self.state
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.best_step, state.checks_without_gain = loss, state.step, 0
            copy = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
            self.best = copy
        else:
            state.checks_without_gain += 1
        return round(loss, 5)


def fastest_precision(model: Any, device: torch.device, pixels: int) -> torch.dtype | None:
    """The faster precision of forward passes here: bfloat16, or None for float32.

    GPUs that have bfloat16 are faster with it; of CPUs only those with AMX or AVX512-BF16 are,
    and others many times slower, so a few steps are timed.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    if device.type != "cpu":
        return None
    spectra = torch.ones(16, pixels)
    seconds: dict[torch.dtype | None, float] = {}
    for dtype in (None, torch.bfloat16):
        times: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                sum(part.sum() for part in model(spectra, spectra).values()).backward()
            times.append(time.perf_counter() - began)
            if dtype and times[0] > 3.0 * seconds[None]:
                break  # it is hopeless: not worth a second try
        seconds[dtype] = min(times)
    model.zero_grad(set_to_none=True)
    return min(seconds, key=lambda dtype: seconds[dtype])


@dataclass
class Stepper:
    """Makes steps; remembers into how many pieces a batch must be cut to fit the memory.

    Parameters
    ----------
    model : Network
    optimizer : torch.optim.Optimizer
    device : torch.device
    autocast : torch.dtype or None
        Precision of the forward pass; None for float32.
    teacher : Network or None
        See `fit`.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    device: torch.device
    autocast: torch.dtype | None = None
    teacher: Any = None
    pieces: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.device.type == "cpu":
            # With some fifty tokens the fused kernel's backward pass on a CPU takes as long as
            # all the rest of the step; plain products are the same to rounding.
            for part in self.model.modules():
                if hasattr(part, "fused_attn"):
                    part.fused_attn = False

    def step(self, batch: Batch) -> dict[str, float]:
        """Learn from a batch.

        The gradient is that of the whole batch, however many processes share it and into how
        many pieces it is cut: every process takes its own rows of the same batch.

        Returns
        -------
        dict of str to float
            The loss of each task over the rows of this process.

        Raises
        ------
        SpectromerError
            If not even one spectrum fits into the GPU's memory.
        """
        self.model.train()
        counts = {
            task.name: int(task.known(batch[task.name]).sum().clamp_min(1))
            for task in self.model.tasks
            if task.name in batch
        }
        total = len(batch["flux"])
        own = {
            name: value[distributed.rank() :: distributed.world()] for name, value in batch.items()
        }
        own = {name: value.to(self.device, non_blocking=True) for name, value in own.items()}
        while True:
            try:
                losses = self._accumulate(own, counts, total)
                break
            except torch.OutOfMemoryError as error:
                self.pieces *= 2
                if self.pieces > len(own["flux"]):
                    raise SpectromerError(
                        "a single spectrum does not fit into the GPU memory",
                        "choose a smaller --backbone, or --device cpu",
                    ) from error
                torch.cuda.empty_cache()
                console.warn(
                    f"out of memory: splitting each batch into {self.pieces} parts from now on"
                )
        distributed.sum_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return losses

    def _accumulate(self, batch: Batch, counts: dict[str, int], total: int) -> dict[str, float]:
        """Gradients of a batch, piece by piece; a task's loss is its mean over known labels."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for piece in range(self.pieces):
            part = {name: value[piece :: self.pieces] for name, value in batch.items()}
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                out = self.model(part["flux"], part["ivar"])
                with torch.no_grad():
                    taught = self.teacher(part["flux"], part["ivar"]) if self.teacher else {}
            losses = {}
            for task in self.model.tasks:
                if task.name in counts:
                    target = part[task.name]
                    share = task.known(target).sum() / counts[task.name]
                    losses[task.name] = task.loss(out[task.name], target) * share
                elif task.name in taught:
                    share = len(part["flux"]) / total
                    losses[task.name] = task.imitation(out[task.name], taught[task.name]) * share
            weights = {task.name: task.weight for task in self.model.tasks}
            torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach())
        return sums


def predict_logits(
    model: Any, flux: np.ndarray, ivar: np.ndarray, device: torch.device
) -> dict[str, Tensor]:
    """Logits of every task for spectra on the model's grid.

    Parameters
    ----------
    model : Network
    flux, ivar : array, shape (n, pixels)
    device : torch.device

    Returns
    -------
    dict of str to Tensor
        By task, on the CPU, float32, shapes (n, task.size).
    """
    return _in_batches(model, model, flux, ivar, device)


def novelty_features(
    model: Any, flux: np.ndarray, ivar: np.ndarray, device: torch.device
) -> np.ndarray:
    """What the novelty score compares (`SpectralViT.seen`), shape (n, features)."""

    def features(flux: Tensor, ivar: Tensor) -> dict[str, Tensor]:
        return {"features": model.seen(flux, ivar)[1]}

    return _in_batches(model, features, flux, ivar, device)["features"].numpy()


def _in_batches(
    model: Any,
    function: Callable[[Tensor, Tensor], Mapping[str, Tensor]],
    flux: np.ndarray,
    ivar: np.ndarray,
    device: torch.device,
) -> dict[str, Tensor]:
    model.eval()
    parts: list[dict[str, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, max(len(flux), 1), PREDICTION_BATCH):
            cut = slice(start, start + PREDICTION_BATCH)
            some = (
                torch.from_numpy(np.asarray(values[cut], np.float32)).to(device)
                for values in (flux, ivar)
            )
            parts.append({name: part.float().cpu() for name, part in function(*some).items()})
    return {name: torch.cat([part[name] for part in parts]).clone() for name in parts[0]}


def validation_loss(asked: list[tasks.Task], logits: Mapping[str, Tensor],
                    targets: Mapping[str, Tensor]) -> float:  # fmt: skip
    """The weighted loss of the tasks that there are targets of."""
    return sum(
        task.weight * float(task.loss(logits[task.name], targets[task.name]))
        for task in asked
        if task.name in targets
    )
