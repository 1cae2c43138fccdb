"""Spectromer: classes and redshifts of astronomical spectra with a Vision Transformer.

What the commands do, in Python::

    import spectromer_cli as spectromer

    table = spectromer.predict("spectra/*.fits")

or step by step::

    spectra = spectromer.read("spec-0266-51602-0001.fits")
    model = spectromer.load_model()
    table = model.predict(spectra)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spectromer_cli._version import __version__

if TYPE_CHECKING:
    from spectromer_cli.archives.fetch import fetch
    from spectromer_cli.evaluation.run import evaluate
    from spectromer_cli.inference.frames import frame_meta, predict_frame
    from spectromer_cli.inference.predictor import Spectromer, load_model
    from spectromer_cli.inference.run import predict
    from spectromer_cli.outputs.packed_spectra import pack
    from spectromer_cli.spectra.loading import Inputs
    from spectromer_cli.spectra.readers import read
    from spectromer_cli.spectra.spectrum import Spectrum
    from spectromer_cli.training.finetune import finetune

__all__ = [
    "Inputs",
    "Spectromer",
    "Spectrum",
    "__version__",
    "evaluate",
    "fetch",
    "finetune",
    "frame_meta",
    "load_model",
    "pack",
    "predict",
    "predict_frame",
    "read",
]

_HOMES = {
    "Inputs": "spectromer_cli.spectra.loading",
    "Spectromer": "spectromer_cli.inference.predictor",
    "Spectrum": "spectromer_cli.spectra.spectrum",
    "evaluate": "spectromer_cli.evaluation.run",
    "fetch": "spectromer_cli.archives.fetch",
    "finetune": "spectromer_cli.training.finetune",
    "frame_meta": "spectromer_cli.inference.frames",
    "load_model": "spectromer_cli.inference.predictor",
    "pack": "spectromer_cli.outputs.packed_spectra",
    "predict": "spectromer_cli.inference.run",
    "predict_frame": "spectromer_cli.inference.frames",
    "read": "spectromer_cli.spectra.readers",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that `spectromer --help` stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    # What completion offers: the public names alone.
    return sorted(__all__)
