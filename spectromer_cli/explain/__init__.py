"""Which wavelength regions a prediction rests on, by methods whose faithfulness is measured.

From Python::

    from spectromer_cli.explain import explain

    for explanation in explain(["spec-0266-51602-0001.fits"]):
        print(explanation.prediction, explanation.regions)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

METHODS = ("gradients", "occlusion", "attention")
# The one whose deletion and insertion curves are best: see docs/how-to/explain.md.
DEFAULT_METHOD = METHODS[0]


def __getattr__(name: str) -> Any:
    # Imported when first used: it needs torch.
    if name not in ("Explanation", "explain"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("spectromer_cli.explain.explanation"), name)
