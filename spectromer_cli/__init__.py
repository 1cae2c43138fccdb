"""Spectromer: classes and redshifts of astronomical spectra with a Vision Transformer.

The Python side is small::

    import spectromer_cli as spectromer

    spectra = spectromer.read("spec-0266-51602-0001.fits")
    model = spectromer.load_model()
    table = model.predict(spectra)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectromer_cli.archives.fetch import fetch
    from spectromer_cli.inference.predictor import Spectromer, load_model
    from spectromer_cli.spectra.readers import read
    from spectromer_cli.spectra.spectrum import Spectrum

__version__ = "0.1.0"
__all__ = ["Spectromer", "Spectrum", "__version__", "fetch", "load_model", "read"]

_HOMES = {
    "Spectromer": "spectromer_cli.inference.predictor",
    "fetch": "spectromer_cli.archives.fetch",
    "load_model": "spectromer_cli.inference.predictor",
    "read": "spectromer_cli.spectra.readers",
    "Spectrum": "spectromer_cli.spectra.spectrum",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that `spectromer --help` stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
