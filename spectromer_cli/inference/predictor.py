"""From prepared spectra to predictions: the network, calibration, and redshifts refined."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import SpectromerError
from spectromer_cli.inference.columns import redshift_task, table_of
from spectromer_cli.model import decoding
from spectromer_cli.model import novelty as novelty_score
from spectromer_cli.model.decoding import Predictions, RedshiftPrediction
from spectromer_cli.model.device import BATCH_SIZE, choose_precision, one_thread_each
from spectromer_cli.model.prior import UNLIKE_PRIOR, Prior
from spectromer_cli.model.tasks import Category, Task, calibrated, from_dict
from spectromer_cli.model.template_fit import refine
from spectromer_cli.outputs.formats import stacked
from spectromer_cli.outputs.provenance import provenance
from spectromer_cli.spectra.grid import Grid, Prepared
from spectromer_cli.spectra.loading import Item, load_all, made_targets
from spectromer_cli.spectra.objects import spectra_of
from spectromer_cli.spectra.readers import ReadOptions
from spectromer_cli.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    import torch
    from astropy.table import Table

    from spectromer_cli.model.template_fit import Basis
    from spectromer_cli.weights.store import Weights

# Tensors in the weights that are none of the network's: `familiar` was the novelty score before
# `novelty`, and populations are for simulating only (see simulation.populations).
BESIDE_NETWORK = ("templates.", "populations.", "novelty.", "familiar.")
# Features that a layer of the ViT has at once: what stays in a core's cache from layer to layer.
AT_ONCE_CPU = 310_000


class Known:
    """What weights say of their model, without its network.

    Parameters
    ----------
    weights : Weights
        Verified weights with their configuration.
    device : torch.device or str
        Where the model runs.
    precision : {"auto", "fp32", "bf16"}
        Of the ViT's matrix products.

    Attributes
    ----------
    config : ModelConfig
    precision : {"fp32", "bf16"}
    tasks : list of Task
        What it predicts, in the order of the network's outputs.

    Raises
    ------
    UsageError
        If the device has no such precision.
    SpectromerError
        If the weights hold no model that is known here.
    """

    def __init__(
        self, weights: Weights, device: torch.device | str, precision: str = "auto"
    ) -> None:
        self.weights = weights
        self.config = weights.config
        self.device = device
        self.precision = choose_precision(precision, device)
        try:
            self.tasks: list[Task] = [from_dict(task) for task in self.config.tasks]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unfit(weights, error) from error

    @cached_property
    def bases(self) -> dict[str, Basis]:
        """Templates by class; empty of weights that have none."""
        from spectromer_cli.weights.store import load_templates

        return load_templates(self.weights)

    @property
    def grid(self) -> Grid:
        """The wavelength grid that the weights were trained on."""
        return self.config.grid

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it tells apart; none of a model without classes."""
        of = (t.labels for t in self.tasks if t.name == "class" and isinstance(t, Category))
        return next(of, ())


class Spectromer(Known):
    """A model with its weights, ready to predict; by several threads, one after the other.

    Parameters
    ----------
    weights : Weights
        Verified weights with their configuration.
    device : torch.device
        Where it runs.
    precision : {"auto", "fp32", "bf16"}
        Of the ViT's matrix products.
    """

    def __init__(self, weights: Weights, device: torch.device, precision: str = "auto") -> None:
        from safetensors.torch import load_file

        from spectromer_cli.model.network import SpectralViT
        from spectromer_cli.model.vit import plain_vit

        super().__init__(weights, device, precision)
        self.device: torch.device = device
        self._lock = threading.RLock()
        try:
            self.network = SpectralViT(weights.config, backbone=plain_vit(weights.config))
        except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
            raise _unfit(weights, error) from error
        state = {name: value.float() for name, value in load_file(weights.path).items()}
        self.novelty = novelty_score.from_arrays(state)
        own = {name: value for name, value in state.items() if not name.startswith(BESIDE_NETWORK)}
        try:
            self.network.load_state_dict(own)
        except RuntimeError as error:
            raise _unfit(weights, error) from error
        self.network.to(device).eval()

    def predict(
        self,
        spectra: Spectrum | Sequence[Spectrum] | Any,
        batch_size: int = BATCH_SIZE,
        refined: bool = True,
    ) -> Table:
        """Classify spectra and measure their redshifts.

        Parameters
        ----------
        spectra : Spectrum or sequence of Spectrum
            As `read` gives them, made by hand, of specutils, or Quantities: one or many, as
            `objects.spectra_of` takes them.
        batch_size : int
            Spectra per batch.
        refined : bool
            Refine redshifts with templates.

        Returns
        -------
        astropy.table.Table
            One row per spectrum, in order, with the columns of `spectromer classify` and
            `spectromer redshift`; its ``meta`` says how it was made. A spectrum without enough
            good pixels has its reason in ``flags``.
        """
        targets = made_targets(spectra_of(spectra))
        items = list(load_all(targets, ReadOptions(), grid=self.grid))
        starts = range(0, max(len(items), 1), batch_size)
        table = stacked([self.table(items[i : i + batch_size], refined) for i in starts])
        table.meta = provenance(self)
        return table

    def table(
        self,
        items: Sequence[Item],
        refined: bool = True,
        min_z_prob: float = 0.0,
        prior: Prior | None = None,
    ) -> Table:
        """The table of one batch, as `columns.table_of` makes it of the predictions."""
        return table_of(items, self.predictions(items, refined, prior), self.tasks, min_z_prob)

    def predictions(
        self, items: Sequence[Item], refined: bool = True, prior: Prior | None = None
    ) -> Predictions:
        """Predictions for one batch.

        Parameters
        ----------
        items : sequence of Item
            Those without a prepared spectrum get no prediction. Where the prediction is not
            finite, the item's ``problem`` says so, and there is none either.
        refined : bool
            Refine redshifts with templates.
        prior : Prior, optional
            What is known of class and redshift; where the model finds that unlikely, the item's
            flags say so.

        Returns
        -------
        Predictions
        """
        with self._lock:
            return self._predictions(items, refined, prior)

    def _predictions(
        self, items: Sequence[Item], refined: bool, prior: Prior | None
    ) -> Predictions:
        prepared = [item.prepared for item in items if item.prepared is not None]
        rows = np.array([i for i, item in enumerate(items) if item.prepared is not None], dtype=int)
        if not prepared:
            return Predictions(rows)
        outputs, novelty = self._calibrated(prepared)
        finite = np.all([np.isfinite(values).all(axis=1) for values in outputs.values()], axis=0)
        if not finite.all():  # never a class or a redshift out of NaN
            for i in rows[~finite]:
                items[i].prepared = None
                items[i].problem = "the model's prediction is not a number"
            return self._predictions(items, refined, prior)
        if prior is not None:
            outputs, unlike = prior.applied(outputs, self.labels, redshift_task(self.tasks))
            for i in rows[unlike]:
                flags = (*items[i].meta.get("flags", ()), UNLIKE_PRIOR)
                items[i].meta = items[i].meta | {"flags": flags}
        redshift = self._redshift(prepared, outputs, refined, prior)
        return Predictions(rows, outputs, novelty, redshift)

    def outputs(self, prepared: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Calibrated outputs of every task for prepared spectra.

        Returns
        -------
        dict of str to array, shape (len(prepared), task.size)
            By task: probabilities; of a quantity, value and 1-σ error.
        """
        return self._calibrated(prepared)[0]

    def _calibrated(self, prepared: Sequence[Prepared]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Calibrated outputs of every task, shapes (n, task.size); novelty scores."""
        import torch

        at_once = self._at_once(len(prepared))
        pieces = [prepared[i : i + at_once] for i in range(0, len(prepared), at_once)]
        with one_thread_each(self.device) as every:
            seen = list(every(self._seen, pieces))
        with torch.inference_mode():
            features, layers = (torch.cat(parts) for parts in zip(*seen, strict=True))
            logits = self.network.logits(features)
            outputs = calibrated(self.tasks, logits, self.config.temperatures)
        if self.novelty is None:
            return outputs, np.full(len(prepared), np.nan)
        return outputs, self.novelty.score(layers.cpu().numpy())

    def _at_once(self, count: int) -> int:
        """How many of so many spectra the ViT is given at a time."""
        if self.device.type != "cpu":
            return count
        width = int(self.network.backbone.num_features)  # type: ignore[arg-type]
        return max(1, AT_ONCE_CPU // (width * self.config.tokens**2))

    def _seen(self, prepared: Sequence[Prepared]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network makes of some spectra, in single precision."""
        import torch

        flux = torch.from_numpy(np.stack([p.flux for p in prepared])).to(self.device)
        ivar = torch.from_numpy(np.stack([p.ivar for p in prepared])).to(self.device)
        half = self.precision == "bf16"
        with torch.inference_mode():
            image = self.network.image(flux, ivar)
            missing = self._at_once(len(image)) - len(image)
            if half and missing:
                # Products of other sizes are summed in another order, which bf16 would show: with
                # black images to the full number, no prediction depends on its batch.
                image = torch.cat([image, image.new_zeros(missing, *image.shape[1:])])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                features, layers = self.network.see(image)
            n = len(prepared)
            return features[:n].float(), layers[:n].float()

    def _redshift(
        self,
        prepared: Sequence[Prepared],
        outputs: dict[str, np.ndarray],
        refined: bool,
        prior: Prior | None,
    ) -> RedshiftPrediction | None:
        task = redshift_task(self.tasks)
        if task is None:
            return None
        classes = self._classes(outputs, len(prepared))
        is_star = classes == "STAR"
        found = decoding.decode_redshift(task, outputs[task.name], is_star)
        if prior is not None:
            found = prior.kept_in(found, 0.0 if refined else 0.25 * task.dx)
        if not refined:
            return found
        fits = refine(found, prepared, list(classes), self.bases, self.grid, self.device, prior)
        found = fits.merged(found, is_star)
        pixel = np.log(10.0) * self.grid.dloglam
        return found if prior is None else prior.kept_in(found, 1.5 * pixel)

    def _classes(self, outputs: dict[str, np.ndarray], n: int) -> np.ndarray:
        """The likeliest classes, shape (n,); empty texts of a model without classes."""
        if not self.labels:
            return np.full(n, "", dtype=object)
        return np.array(self.labels, dtype=object)[outputs["class"].argmax(axis=1)]


def _unfit(weights: Weights, error: Exception) -> SpectromerError:
    reason = " ".join(str(error).split())[:200]
    return SpectromerError(
        f"{weights.path} does not hold the model that its header describes ({reason})",
        "download or train the weights again",
    )


def load_model(
    name: str | None = None, device: str = "auto", precision: str = "auto"
) -> Spectromer:
    """Load a model.

    Parameters
    ----------
    name : str, optional
        Name of weights, a folder or file, or ``hf-hub:owner/name``; by default the weights that
        ship with the program.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision : {"auto", "fp32", "bf16"}
        Of the ViT's matrix products; "auto" is bf16 on CPUs with AMX, else fp32.

    Returns
    -------
    Spectromer

    Raises
    ------
    UsageError
        If there are no such weights, no such device, or it has no such precision.
    WeightsNotVerified
        If the weights are not those of their manifest.
    """
    from spectromer_cli.model.device import choose_device
    from spectromer_cli.weights.store import resolve

    return Spectromer(resolve(name), choose_device(device), precision)
