"""What the ViT in bf16 changes in the predictions for held-out spectra, against fp32.

Usage: python benchmarks/precision.py --data real.h5 [--data more.h5] [--model NAME]
           [--write PAGE.md]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from held_out import labelled, table_of
from page import Clock, lines_of, parser, put

import spectromer_cli

TEXTS = ("class", "subclass", "star_type", "flags", "zwarn", "z_conf")
NUMBERS = ("z", "z_err", "z_prob", "p_star", "p_galaxy", "p_qso", "teff", "logg", "feh",
           "outlier_score")  # fmt: skip


def rows_of(fp32: Table, bf16: Table) -> list[list[str]]:
    """How far each column differs."""
    rows = []
    for name in TEXTS:
        differ = sum(str(a) != str(b) for a, b in zip(fp32[name], bf16[name], strict=True))
        rows.append([name, f"{differ} differ", ""])
    for name in NUMBERS:
        a, b = (np.ma.filled(table[name].astype(float), np.nan) for table in (fp32, bf16))
        change = np.abs(a - b)
        label = name
        if name in ("z", "z_err"):
            change, label = change / (1.0 + np.ma.filled(fp32["z"], np.nan)), f"{name} / (1 + z)"
        rms = np.sqrt(np.nanmean(change**2))
        rows.append([label, f"{np.nanmax(change):.2g}", f"{rms:.2g}"])
    return rows


def main() -> None:
    """Compare."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, action="append", required=True)
    options.add_argument("--model")
    chosen = options.parse_args()
    models = {
        name: spectromer_cli.load_model(chosen.model, "cpu", name) for name in ("fp32", "bf16")
    }
    data, _, testing = labelled(chosen.data, models["fp32"])
    tables = {}
    for name, model in models.items():  # a model's flags are put into its items
        tables[name] = table_of(model, list(data.items(testing, model.grid)))
    items = list(data.items(testing, models["fp32"].grid))
    prepared = [item.prepared for item in items if item.prepared is not None][:256]
    took = Clock({name: lambda m=model: m.outputs(prepared) for name, model in models.items()})
    lines = [
        f"{len(testing)} held-out spectra. Of CPU time, bf16 takes "
        f"{took.cpu['bf16'] / took.cpu['fp32']:.2f} of fp32 for images and ViT.",
        "",
        *lines_of(["", "largest difference", "rms"], rows_of(tables["fp32"], tables["bf16"])),
    ]
    put(chosen.write, "precision", lines)


if __name__ == "__main__":
    main()
