"""What `delta_chi2` means: purity and completeness of held-out redshifts above cuts of it.

Usage: python benchmarks/delta_chi2.py --data real.h5 [--data more.h5] [--model NAME]

Takes the held-out spectra of labelled sets (the split that the weights record), predicts, and
prints a table as Markdown: of the spectra of each predicted class, and of those with zwarn 0, the
share above each cut, and the number of those that are wrong: in class, or by more than 0.01 in
|Δz|/(1+z).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_out import labelled, table_of

import spectromer_cli
from spectromer_cli.metrics import OUTLIERS
from spectromer_cli.model import taxonomy
from spectromer_cli.spectra.loading import item_of
from spectromer_cli.spectra.spectrum import Spectrum

CUTS = (9.0, 15.0, 40.0)


def main() -> None:
    """Predict and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--model")
    options = parser.parse_args()
    model = spectromer_cli.load_model(options.model, "cpu")
    data, named, rows = labelled(options.data, model)
    named = {name: labels[rows] for name, labels in named.items()}
    flux, ivar = data.take(rows).on_grid(model.grid)
    items = [
        item_of(
            Spectrum(model.grid.wavelength, f.astype(float), i.astype(float)), "", n, model.grid
        )
        for n, (f, i) in enumerate(zip(flux, ivar, strict=True))
    ]
    found = table_of(model, items)

    class_ = np.asarray(found["class"]).astype(str)
    z, z_true = np.asarray(found["z"], float), named["z"].astype(float)
    off = np.abs(z - z_true) / (1.0 + z_true) > OUTLIERS["0.01"]
    wrong = (class_ != named["class"]) | (off & (named["class"] != "STAR"))
    delta = np.asarray(found["delta_chi2"], float)
    groups = {"all": np.ones(len(z), dtype=bool)}
    groups |= {name: class_ == name for name in taxonomy.CLASSES}
    groups["zwarn 0"] = np.asarray(found["zwarn"], int) == 0
    print("| predicted | spectra | wrong |" + "".join(f" > {c:g} | wrong |" for c in CUTS))
    print("| --- |" + " --- |" * (2 + 2 * len(CUTS)))
    for name, group in groups.items():
        cells = [str(group.sum()), str((group & wrong).sum())]
        for cut in CUTS:
            above = group & (delta > cut)
            cells += [f"{above.sum() / group.sum():.3f}", str((above & wrong).sum())]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
