"""Fine-tune on a user's own labelled spectra.

Data → targets → split → model → fit → export: the same steps as in `pretrain`.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectromer_cli import console
from spectromer_cli.accuracy import summary
from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks, taxonomy
from spectromer_cli.model.device import choose_device
from spectromer_cli.model.network import SpectralViT
from spectromer_cli.model.template_fit import from_arrays
from spectromer_cli.outputs.protect import Outputs
from spectromer_cli.paths import claimed
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.training import (
    dataset,
    distributed,
    learning_curves,
    linear_probe,
    lora,
    model_card,
    split,
    targets,
)
from spectromer_cli.training.batches import Batches
from spectromer_cli.training.checkpoint import METRICS, Run
from spectromer_cli.training.dataset import LabelledSpectra, Source
from spectromer_cli.training.export import PREDICTIONS, SPLIT, HeldOutLogits, export
from spectromer_cli.training.initialise import Origin, choose_origin, start
from spectromer_cli.training.loop import fit, predict_logits, validation_loss
from spectromer_cli.training.settings import Schedule, Settings
from spectromer_cli.training.targets import Target

# Below so many objects, figures come from folds, and only a few parameters learn.
FEW_OBJECTS = 500
FOLDS = 5
# Validation checks in a fit, and how many without gain end it.
CHECKS = 30
PATIENCE = 8
# What calibration, figures and writing are left of the time: a tenth, or more of a short one.
RESERVE, LEAST_RESERVE, MOST_RESERVE = 0.1, 30.0, 0.4


def finetune(
    data: str | Path,
    *,
    spectra_dir: str | Path | None = None,
    target: str = "",
    model: str | None = None,
    backbone: str = "",
    pretrained: str | Path | None = None,
    random_start: bool = False,
    grid: str = "auto",
    settings: Settings | None = None,
    options: ReadOptions | None = None,
    device: str = "auto",
    workers: int = 0,
    output: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    command: str = "",
) -> dict[str, float]:
    """Fine-tune, test and write.

    Parameters
    ----------
    data : path
        Labelled spectra, in any form that `dataset.find` knows.
    spectra_dir : path, optional
        Where the spectra of a table of labels lie.
    target : str
        Label columns to learn, as `targets.parse` takes them; by default class, and z where
        there is one.
    model, backbone, pretrained, random_start
        What to start from: see `initialise.choose_origin`.
    grid : {"auto", "model"}
        Whether the wavelength grid may change to fit the spectra.
    settings : Settings, optional
    options : ReadOptions, optional
        What the files do not say themselves.
    device : str
        As `model.device.choose_device` takes it.
    workers : int
        Processes that read, and make batches.
    output : path, optional
        Folder for everything: weights, manifest, card, checkpoint, metrics, split, predictions,
        figures. By default ``runs/NAME``, by the name of the data.
    resume : bool
        Resume from the checkpoint in `output`; without one, start from the beginning.
    overwrite : bool
        Overwrite the run in `output`.
    dry_run : bool
        Say what was found, and stop.
    command : str
        The command line, for the card.

    Returns
    -------
    dict of str to float
        Figures on objects that the weights have not learned from (see
        `accuracy.summary.headline`); empty after a dry run.

    Raises
    ------
    UsageError
        If the options contradict each other, the labels will not do, a table of the run would
        overwrite an input, or `output` holds a run and neither `resume` nor `overwrite` is set.
    ReadError
        If nothing can be read.
    """
    began = time.monotonic()
    settings, options = settings or Settings(), options or ReadOptions()
    if grid not in ("auto", "model"):
        raise UsageError(f"invalid --grid {grid!r}", "choose from auto, model")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", "give one of them")
    chosen_device = choose_device(device)
    source = dataset.find(Path(data), Path(spectra_dir) if spectra_dir else None)
    folder = Path(output) if output else Path("runs") / Path(data).resolve().stem
    own = Outputs(folder / name for name in (PREDICTIONS, SPLIT, METRICS))
    own.refuse_all([Path(data), *(one.path for one in source.targets or ())])
    asked = targets.parse(target or _default_target(source))
    if backbone and not pretrained and not random_start:
        console.info(f"downloading the ImageNet weights of {backbone} from the Hugging Face hub")
    origin = choose_origin(model, backbone, Path(pretrained) if pretrained else None, random_start)
    said = "using the grid of the weights, as chosen"
    if grid == "auto":
        origin, said = origin.on_grid_of(source, options)
    spectra = source.read(list(asked), origin.config.grid, options, workers)
    categories = [name for name, is_class in asked.items() if is_class]
    found = [*dataset.describe([source], spectra, categories), said]
    for line in found:
        console.info(line)
    learned = targets.make(spectra.labels, spectra.group, asked)
    for one in learned:
        kind = f"{len(one.labels)} classes" if one.labels else "a number"
        console.info(f"target: {one.name}, {kind}, from {int(one.known.sum())} spectra")
    if dry_run:
        return {}
    with distributed.processes(chosen_device) as joined, _alone(folder):
        run = Run(
            folder, _fingerprint(spectra, learned, origin, settings),
            resume=resume, overwrite=overwrite,
        )  # fmt: skip
        job = _Job(spectra, learned, origin, settings, run, joined, workers,
                   reading=time.monotonic() - began)  # fmt: skip
        final, held_out = job.fit_all()
        if distributed.rank() > 0:
            return {}
        report = _export(job, final, held_out)
        _write_card(job, final, held_out, report, found, command)
        return summary.headline(report)


def _alone(folder: Path) -> AbstractContextManager[None]:
    """One run at a time in a folder, of however many processes."""
    return claimed(folder / "run") if distributed.rank() == 0 else nullcontext()


def _default_target(source: Source) -> str:
    """Class, and z where there is one."""
    lower = [name.lower() for name in source.columns]
    names = [name for name in ("class", "z") if name in lower]
    if not names:
        raise UsageError(
            f"{source.how} has no column class or z",
            f"choose the columns to predict with --target, from {', '.join(source.columns)}",
        )
    return ",".join(names)


def _fingerprint(
    data: LabelledSpectra, learned: Sequence[Target], origin: Origin, settings: Settings
) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    digest = hashlib.sha256()
    for target in learned:
        digest.update(target.name.encode() + np.ascontiguousarray(target.values).tobytes())
    digest.update("\n".join(data.file.tolist()).encode())
    return {
        **asdict(settings),
        "origin": origin.said,
        "grid": asdict(origin.config.grid),
        "data": digest.hexdigest(),
    }


# --- the split ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How the data are used.

    Parameters
    ----------
    mode : str
    part : array of int, shape (n,)
        Without folds: TRAIN, VALIDATION or TEST of `training.split`; with folds: the fold.
    folds : int
        0 for none.
    epochs : int
    said : str
        For people.
    """

    mode: str
    part: np.ndarray
    folds: int
    epochs: int
    said: str

    @property
    def names(self) -> np.ndarray:
        """Where each spectrum is, in words."""
        if self.folds:
            return np.array([f"fold {number + 1}" for number in self.part])
        return np.array(split.NAMES)[self.part]


def make_plan(data: LabelledSpectra, learned: Sequence[Target], settings: Settings) -> Plan:
    """Decide how the data are used: by folds for few objects, else in three parts."""
    objects = len(np.unique(data.group))
    category = next((target for target in learned if target.labels), None)
    stratum = category.values if category else np.zeros(len(data), dtype=int)
    place = split.places(data.group, settings.seed, stratum)
    few = objects < FEW_OBJECTS
    mode = settings.mode if settings.mode != "auto" else "lora" if few else "full"
    # As many epochs as bring a small set a few hundred steps, and a large one a few epochs.
    epochs = settings.epochs or int(np.clip(60 * math.sqrt(300 / len(data)), 3, 60))
    folds = min(FOLDS, _smallest_class(data, category)) if few else 0
    if few:
        part = split.folds(place, folds)
        said = f"{objects} objects: {folds} folds to measure accuracy, then a fit to all"
    else:
        part = split.three_parts(place, settings.held_out)
        count = [int((part == i).sum()) for i in range(3)]
        said = (
            f"{count[0]} spectra for training, {count[1]} for validation, {count[2]} for the test"
        )
    said += f"; mode {mode}, {epochs} epochs"
    if category:
        said += (
            f"; labels of {category.name} are sampled by the square root of their number of objects"
        )
    return Plan(mode, part, folds, epochs, said)


def _smallest_class(data: LabelledSpectra, category: Target | None) -> int:
    """How many objects the rarest class has; all of them where there are no classes."""
    if category is None:
        return len(np.unique(data.group))
    known = category.values >= 0
    pairs = {*zip(category.values[known].tolist(), data.group[known].tolist(), strict=True)}
    counts = np.bincount([number for number, _ in pairs])
    return int(counts[counts > 0].min())


# --- the fits -------------------------------------------------------------------------------


@dataclass
class _Job:
    """What all fits of a run share."""

    data: LabelledSpectra
    learned: list[Target]
    origin: Origin
    settings: Settings
    run: Run
    device: torch.device
    workers: int
    reading: float  # seconds

    def __post_init__(self) -> None:
        self.plan = make_plan(self.data, self.learned, self.settings)
        console.info(self.plan.said)
        # What was not done for want of time, for people.
        self.undone: list[str] = []

    @property
    def kept_tasks(self) -> list[tasks.Task]:
        """Tasks of the weights that are not fine-tuned; they are kept."""
        if not self.origin.keeps_tasks:
            return []
        names = {target.name for target in self.learned}
        return [
            task for task in map(tasks.from_dict, self.origin.config.tasks)
            if task.name not in names
        ]  # fmt: skip

    def model(self, train: np.ndarray) -> SpectralViT:
        """A fresh model for a training split, ready to learn."""
        torch.manual_seed(self.settings.seed)
        asked = [*(target.task(train) for target in self.learned), *self.kept_tasks]
        kept = {task.name for task in self.kept_tasks}
        old = self.origin.config
        config = replace(
            old,
            tasks=[tasks.to_dict(task) for task in asked],
            temperatures={k: v for k, v in old.temperatures.items() if k in kept},
            confidence=old.confidence if "z" in kept else {},
            templates=old.templates if _refines(asked) and self.origin.templates else {},
            split={},
        )
        model = start(config, self.origin.weights).to(self.device)
        lora.prepare(model, self.plan.mode)
        return model.to(self.device)

    def fit_all(self) -> tuple[SpectralViT, HeldOutLogits]:
        """Fit on part of the data, predict the rest; with folds, then fit on all of them."""
        plan, n = self.plan, len(self.data)
        if not plan.folds:
            train = plan.part == split.TRAIN
            model = self.model(train)
            self.fit("the fit", model, train, plan.part == split.VALIDATION)
            self.predict(model, ~train, model.tasks)
            held_out = HeldOutLogits(
                self.logits(), plan.part == split.VALIDATION, plan.part == split.TEST, plan.names
            )
            return model, held_out
        everything = np.ones(n, dtype=bool)
        common = [*(target.task(everything) for target in self.learned), *self.kept_tasks]
        stages = [f"fold {number + 1} of {plan.folds}" for number in range(plan.folds)]
        for number, stage in enumerate(stages):
            if stage in self.run.state.best_steps:
                continue
            train = plan.part != number
            model = self.model(train)
            self.fit(stage, model, train, ~train)
            self.predict(model, ~train, common)
        steps = int(np.median([self.run.state.best_steps[stage] for stage in stages]))
        model = self.model(everything)
        self.fit("all data", model, everything, None, stop_at=steps)
        return model, HeldOutLogits(self.logits(), everything, everything, plan.names)

    def fit(
        self,
        stage: str,
        model: SpectralViT,
        train: np.ndarray,
        validation: np.ndarray | None,
        stop_at: int | None = None,
    ) -> None:
        """Fit a model; with a validation split it ends as the best that this one saw."""
        rows = np.flatnonzero(train)
        batch_size = min(self.settings.batch_size, max(len(rows), 2))
        steps = math.ceil(len(rows) / batch_size) * self.plan.epochs
        schedule = Schedule(
            steps=steps, batch_size=batch_size,
            learning_rate=self.settings.learning_rate or lora.RATES[self.plan.mode],
            seed=self.settings.seed, minutes=self.minutes(stage),
            check_every=max(5, steps // CHECKS), patience=PATIENCE if validation is not None else 0,
        )  # fmt: skip
        batches = Batches(
            self.data, self.learned, rows, model.config.grid,
            batch_size=batch_size, steps=steps, seed=self.settings.seed,
        )  # fmt: skip
        self.batches = batches
        check = None
        if validation is not None:
            flux, ivar = self.data.take(validation).on_grid(model.config.grid)
            references = {t.name: t.tensor(np.flatnonzero(validation)) for t in self.learned}

            def check() -> tuple[float, dict[str, float]]:
                logits = predict_logits(model, flux, ivar, self.device)
                return validation_loss(model.tasks, logits, references), {}

        first = sum(task.size for task in model.tasks[: len(self.learned)])
        kept = slice(first, None)
        before = model.head.weight[kept].detach().clone(), model.head.bias[kept].detach().clone()

        def prepare() -> None:
            # The head that the backbone as it is allows, the same in all processes.
            if distributed.rank() == 0:
                linear_probe.fit_head(model, batches, self.device, 30.0 * schedule.minutes)
            distributed.share_parameters(model.head)

        fit(
            model, batches, schedule, self.run, stage=stage, device=self.device,
            groups=lora.groups(model, self.plan.mode, schedule.weight_decay), check=check,
            prepare=prepare, teacher=self.teacher(), stop_at=stop_at, workers=self.workers,
            compile=self.settings.compile,
        )  # fmt: skip
        lora.merge(model)
        if self.plan.mode == "head":
            # The backbone is what it was, so the outputs that are kept can be, too.
            with torch.no_grad():
                model.head.weight[kept], model.head.bias[kept] = before
        wanted = steps if stop_at is None else min(stop_at, steps)
        state = self.run.state
        stopped_early = schedule.patience and state.checks_without_gain >= schedule.patience
        if state.step < wanted and not stopped_early:
            done = state.step * batch_size / max(len(batches.rows), 1)
            self.undone.append(
                f"{stage}: stopped by the time limit after {done:.2g} of {self.plan.epochs} epochs"
                + ("; only the head was fitted" if not state.step else "")
            )
            console.warn(self.undone[-1])

    def minutes(self, stage: str) -> float:
        """The time that a fit may take: an even share of what is left; 0 for no limit."""
        if not self.settings.max_minutes:
            return 0.0
        state = self.run.state
        under_way = 0.0 if state.stage == stage else state.seconds
        spent = self.reading + state.earlier_seconds + under_way
        limit = 60.0 * self.settings.max_minutes
        reserve = max(RESERVE * limit, min(LEAST_RESERVE, MOST_RESERVE * limit))
        left = limit - reserve - spent
        over = [name for name in state.best_steps if name != stage]
        return max(left, 1.0) / 60.0 / max(self.plan.folds + 1 - len(over), 1)

    def teacher(self) -> SpectralViT | None:
        """The weights as they were, for tasks that are kept; None if nothing can change them."""
        if not self.kept_tasks or self.plan.mode == "head":
            return None
        model = start(self.origin.config, self.origin.weights).to(self.device).eval()
        return model.requires_grad_(False)

    def predict(self, model: SpectralViT, rows: np.ndarray, common: Sequence[tasks.Task]) -> None:
        """Keep the logits of spectra that the model has not learned from.

        A number's logits are kept as the tasks in `common` standardise it: each fold has its own
        centre and scale.
        """
        flux, ivar = self.data.take(rows).on_grid(model.config.grid)
        logits = predict_logits(model, flux, ivar, self.device)
        for task, shared in zip(model.tasks, common, strict=True):
            values = logits[task.name]
            if isinstance(task, tasks.Quantity) and isinstance(shared, tasks.Quantity):
                values = task.restandardised(values, shared)
            empty = torch.full((len(self.data), values.shape[1]), torch.nan)
            kept = self.run.kept.setdefault(f"logits.{task.name}", empty)
            kept[torch.from_numpy(rows)] = values

    def logits(self) -> dict[str, torch.Tensor]:
        """All logits that were kept, by task."""
        return {name.removeprefix("logits."): value for name, value in self.run.kept.items()}


def _refines(asked: Sequence[tasks.Task]) -> bool:
    """Whether the templates of the general model fit: they are of its classes."""
    named = {task.name: task for task in asked}
    class_ = named.get("class")
    known = isinstance(class_, tasks.Category) and set(class_.labels) <= set(taxonomy.CLASSES)
    return known and "z" in named


# --- what is left ---------------------------------------------------------------------------


def _export(job: _Job, model: SpectralViT, held_out: HeldOutLogits) -> dict[str, Any]:
    """Weights, manifest, tables and figures."""
    bases = from_arrays(job.origin.templates, model.config.templates)
    report = export(
        model, job.data, job.learned, held_out, folder=job.run.folder, name=_name(job.run.folder),
        entry={
            "licence": "the user's",
            "description": f"fine-tuned from {job.origin.said} for "
            + ", ".join(target.name for target in job.learned),
            "trained_on": f"{len(job.data)} spectra of the user's",
        },
        batches=job.batches, device=job.device, bases=bases, fit_errors=False,
    )  # fmt: skip
    lines = job.run.journal()
    if any(line["step"] for line in lines):
        learning_curves.plot(job.run.folder / "learning.png", lines)
    return report


def _name(folder: Path) -> str:
    """The name of the weights of a run."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name).strip("._-") or "mine"
    return f"{name}.v1"


def _write_card(
    job: _Job,
    model: SpectralViT,
    held_out: HeldOutLogits,
    report: Mapping[str, Any],
    found: Sequence[str],
    command: str,
) -> None:
    """The card."""
    state, plan = job.run.state, job.plan
    total = job.reading + state.earlier_seconds + state.seconds
    training = [
        plan.said,
        *(f"{stage}: best after {steps} steps" for stage, steps in state.best_steps.items()),
        *job.undone,
        f"{total / 60:.1f} minutes, including reading",
    ]
    if job.kept_tasks:
        names = ", ".join(task.name for task in job.kept_tasks)
        training.append(
            f"kept from {job.origin.said}, trained to reproduce its predictions: {names}"
        )
    testing = (
        f"Every object was tested with a fit that did not use it ({plan.folds} folds by object); "
        "these weights were trained on all of them. Temperatures were fitted on the same "
        "predictions."
        if plan.folds
        else "Objects were split once into training, validation (early stopping, temperatures) and "
        "test; the accuracy is that of the test split."
    )
    name = _name(job.run.folder)
    model_card.write_card(
        job.run.folder / f"{name}.md",
        config=model.config,
        description=f"Fine-tuned for {', '.join(target.name for target in job.learned)}",
        origin=job.origin.said,
        found=found,
        training=training,
        testing=testing,
        part=held_out.part,
        report=report,
        settings=asdict(job.settings),
        command=command,
    )
