"""The journal of a run: a line of JSON a look and, where it is installed, TensorBoard."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def write(folder: Path, line: dict[str, Any]) -> None:
    """Add a look at a run.

    Parameters
    ----------
    folder : Path
        Of the run; gets ``metrics.jsonl`` and, with TensorBoard, ``tensorboard/``.
    line : dict
        Numbers by name, with ``step``; ``stage``, if there is one, names the fit.
    """
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    stage = str(line.get("stage", "")).replace(" ", "-")
    with SummaryWriter(str(folder / "tensorboard" / stage)) as board:
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step":
                board.add_scalar(name, value, line["step"])
