"""One fit after the other on a user's data, with early stopping and a checkpoint of it all."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from spectromer_cli import console
from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.training import journal, linear_probe, loop, lora
from spectromer_cli.training.ownbatches import OwnBatches
from spectromer_cli.training.owndata import OwnSpectra
from spectromer_cli.training.schedule import Schedule, Scheduled, rate
from spectromer_cli.training.targets import Target

WEIGHT_DECAY = 0.05
# Looks at the validation split in a fit, and how many without gain end it.
LOOKS = 30
PATIENCE = 8
ANSWER_BATCH = 256


@dataclass
class Done:
    """What a run has got so far.

    Parameters
    ----------
    best_steps : dict of str to int
        Fits that are over → after how many steps they were best.
    logits : dict of str to array, shape (n, task.size)
        Answers for spectra that the answering fit had not learned from; NaN for the others.
    stage : str
        The fit that is under way.
    step, best_step, without_gain : int
    best_loss, seconds : float
    autocast : bool
        Whether the forward pass is in bfloat16: decided once a run.
    """

    best_steps: dict[str, int] = field(default_factory=dict)
    logits: dict[str, np.ndarray] = field(default_factory=dict)
    stage: str = ""
    step: int = 0
    best_step: int = 0
    without_gain: int = 0
    best_loss: float = math.inf
    seconds: float = 0.0
    autocast: bool | None = None


class Run:
    """A run: its data and its folder.

    Parameters
    ----------
    data : OwnSpectra
    targets : list of Target
    output : Path
    device : torch.device
    workers : int
    settings : dict
        What must be the same to go on.
    compile : bool
    """

    def __init__(
        self,
        data: OwnSpectra,
        targets: list[Target],
        output: Path,
        device: torch.device,
        workers: int,
        settings: dict[str, Any],
        compile: bool,
    ) -> None:
        self.data = data
        self.targets = targets
        self.output = output
        self.device = device
        self.workers = workers
        self.settings = settings
        self.compile = compile
        self._resumed: Path | None = None

    def resume(self) -> Done:
        """What the checkpoint says was done; the fit under way goes on from it."""
        path = self.output / loop.CHECKPOINT
        if not path.exists():
            raise UsageError(f"{self.output} holds no run to go on with", "leave out --resume")
        state, tensors = loop.peek(path, self.settings)
        self._resumed = path
        logits = {
            name.removeprefix("logits."): value.numpy()
            for name, value in tensors.items()
            if name.startswith("logits.")
        }
        return Done(**{**state, "best_loss": float(state["best_loss"])}, logits=logits)

    def fit(
        self,
        stage: str,
        model: SpectralViT,
        mode: str,
        train: np.ndarray,
        validation: np.ndarray | None,
        plan: Scheduled,
        done: Done,
        stop_at: int | None = None,
    ) -> None:
        """Fit a model; it ends as the best that the validation split saw.

        Parameters
        ----------
        stage : str
            Name of the fit.
        model : SpectralViT
            As `lora.prepare` left it; a plain ViT afterwards.
        mode : str
        train : bool array, shape (n,)
        validation : bool array, shape (n,), or None
            None learns to the end.
        plan : Scheduled
        done : Done
            Is kept up to date.
        stop_at : int
            End after so many steps; None for all of the schedule.
        """
        rows = np.flatnonzero(train)
        schedule = plan.schedule(rows)
        groups = lora.groups(model, mode, WEIGHT_DECAY)
        optimizer = torch.optim.AdamW(groups, lr=schedule.rate)
        batches = OwnBatches(
            self.data,
            self.targets,
            rows,
            batch_size=schedule.batch_size,
            steps=schedule.steps,
            seed=schedule.seed,
        )
        if done.autocast is None:
            done.autocast = bool(
                loop.agreed(loop.fastest_precision(model, self.device) is not None, self.device)
            )
        best: dict[str, torch.Tensor] = {}
        if self._resumed and done.stage == stage:
            _, tensors = loop.load_checkpoint(self._resumed, model, optimizer, self.settings)
            best = {k.removeprefix("best."): v for k, v in tensors.items() if k[:5] == "best."}
        else:
            done.stage, done.step, done.best_step, done.without_gain = stage, 0, 0, 0
            done.best_loss = math.inf
            began = time.monotonic()
            self._fit_head(model, batches)
            done.seconds = time.monotonic() - began
        self._resumed = None
        if self.compile:
            model.backbone.compile()
        best = self._learn(model, optimizer, batches, validation, schedule, done, best, stop_at)
        if best:
            model.load_state_dict(best)
        lora.merge(model)
        done.best_steps[stage] = done.best_step if validation is not None else done.step

    def _fit_head(self, model: SpectralViT, batches: OwnBatches) -> None:
        """The head that the trunk as it is allows, the same in all processes."""
        if loop.rank() == 0:
            linear_probe.fit_head(model, batches, self.data.group, self.device)
        loop.share(model.head)

    def _learn(
        self,
        model: SpectralViT,
        optimizer: torch.optim.Optimizer,
        batches: OwnBatches,
        validation: np.ndarray | None,
        schedule: Schedule,
        done: Done,
        best: dict[str, torch.Tensor],
        stop_at: int | None,
    ) -> dict[str, torch.Tensor]:
        """Step until the schedule, patience or time ends; return the best state."""
        stepper = loop.Stepper(
            model, optimizer, self.device, torch.bfloat16 if done.autocast else None
        )
        every = max(5, schedule.steps // LOOKS)
        last = schedule.steps if stop_at is None else min(stop_at, schedule.steps)
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=range(done.step, last),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
        )
        began = time.monotonic() - done.seconds
        if done.step == 0 and validation is not None:
            # A small set may teach the trunk nothing: then the head's fit is the best.
            best = self._look(model, optimizer, validation, {}, done, best)
        with console.progress(done.stage, last) as advance:
            advance(done.step)
            for batch in loader:
                progress = loop.agreed(self._progress(schedule, done), self.device)
                if progress >= 1.0 or done.without_gain >= PATIENCE:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate * group["scale"] * rate(progress)
                losses = stepper.step(batch)
                done.step += 1
                done.seconds = time.monotonic() - began
                speed = done.step * schedule.batch_size / max(done.seconds, 1e-9)
                advance(1, f"loss {sum(losses.values()):.3f}  {speed:.0f}/s")
                if done.step % every == 0 or done.step == last:
                    best = self._look(model, optimizer, validation, losses, done, best)
        return best

    @staticmethod
    def _progress(schedule: Schedule, done: Done) -> float:
        by_time = done.seconds / (60.0 * schedule.minutes) if schedule.minutes else 0.0
        return max(done.step / schedule.steps, by_time)

    def _look(
        self,
        model: SpectralViT,
        optimizer: torch.optim.Optimizer,
        validation: np.ndarray | None,
        losses: dict[str, float],
        done: Done,
        best: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Judge by the validation split, keep the best state, write the checkpoint."""
        line: dict[str, Any] = {"stage": done.stage, "step": done.step}
        line |= {f"loss_{name}": round(value, 5) for name, value in losses.items()}
        if validation is not None:
            own = self._validation_loss(model, validation) if loop.rank() == 0 else 0.0
            loss = loop.agreed(own, self.device)
            line["validation_loss"] = round(loss, 5)
            if loss < done.best_loss:
                done.best_loss, done.best_step, done.without_gain = loss, done.step, 0
                best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            else:
                done.without_gain += 1
        if loop.rank() == 0:
            journal.write(self.output, {**line, "seconds": round(done.seconds, 2)})
            kept = {f"best.{name}": value for name, value in best.items()}
            kept |= {f"logits.{k}": torch.from_numpy(v) for k, v in done.logits.items()}
            state = {k: v for k, v in asdict(done).items() if k != "logits"}
            loop.save_checkpoint(
                self.output / loop.CHECKPOINT, model, optimizer, self.settings, state, kept
            )
        return best

    def _validation_loss(self, model: SpectralViT, rows: np.ndarray) -> float:
        out = self.logits(model, rows)
        total = 0.0
        for task, target in zip(model.tasks, self.targets, strict=True):
            truth = torch.from_numpy(target.values[rows])
            truth = truth if target.labels else truth.float()
            total += task.weight * float(task.loss(out[task.name], truth))
        return total

    def logits(self, model: SpectralViT, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """The model's logits for some spectra, on the CPU; shapes (rows, task.size)."""
        model.eval()
        parts = []
        index = np.flatnonzero(rows)
        with torch.inference_mode():
            for start in range(0, len(index), ANSWER_BATCH):
                flux, ivar = self._spectra(index[start : start + ANSWER_BATCH])
                parts.append({k: v.cpu() for k, v in model(flux, ivar).items()})
        return {task.name: torch.cat([part[task.name] for part in parts]) for task in model.tasks}

    def features(self, model: SpectralViT, index: np.ndarray) -> np.ndarray:
        """What tells the familiar from the strange (`SpectralViT.seen`); shape (rows, layers)."""
        model.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(index), ANSWER_BATCH):
                flux, ivar = self._spectra(index[start : start + ANSWER_BATCH])
                parts.append(model.seen(flux, ivar)[1].float().cpu().numpy())
        return np.concatenate(parts)

    def _spectra(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        flux = torch.from_numpy(self.data.flux[index].astype(np.float32)).to(self.device)
        return flux, torch.from_numpy(self.data.ivar[index]).to(self.device)

    def answer(
        self, model: SpectralViT, rows: np.ndarray, done: Done, common: list[tasks.Task]
    ) -> None:
        """Keep the answers for spectra that the model has not learned from.

        Parameters
        ----------
        model : SpectralViT
        rows : bool array, shape (n,)
        done : Done
        common : list of Task
            A number's logits are kept as this list standardises it: each fold does it anew.
        """
        out = self.logits(model, rows)
        for task, shared in zip(model.tasks, common, strict=True):
            values = out[task.name]
            if isinstance(task, tasks.Quantity) and isinstance(shared, tasks.Quantity):
                values = task.restandardised(values, shared)
            kept = done.logits.setdefault(
                task.name, np.full((len(self.data), values.shape[1]), np.nan, dtype=np.float32)
            )
            kept[rows] = values.numpy()
