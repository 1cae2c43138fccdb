"""Accuracy on files of other instruments, by instrument.

Usage: python benchmarks/instruments.py FOLDER TABLE.csv [FOLDER TABLE.csv …] --training real.h5
           [--training more.h5] [--model NAME] [--write docs/accuracy.md]

TABLE.csv has the columns file (in FOLDER), class (STAR, GALAXY, QSO; OOD for what is none of
them), z, subclass, and instrument or survey. Each file is read as `spectromer redshift` reads it,
predicted, and counted with its instrument. Files whose name has that of an object of the training
sets are counted apart.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from held_out import share, table_of
from page import lines_of, put_section

import spectromer_cli
from spectromer_cli.errors import SpectromerError
from spectromer_cli.metrics import LIGHT_SPEED, OUTLIERS
from spectromer_cli.model import taxonomy
from spectromer_cli.model.zwarn import ZWarn
from spectromer_cli.spectra.loading import Item, item_of

# Above redshift 5 the label is often that of the Lyα break, and a quasar's Lyα is no narrow line.
FAR, FAR_LIMIT = 5.0, 0.02
STAR_LIMIT = 100.0  # km/s


@dataclass
class Found:
    """The predictions of all spectra, and their labels."""

    instrument: np.ndarray
    class_true: np.ndarray
    subclass: np.ndarray
    z_true: np.ndarray
    class_: np.ndarray
    z: np.ndarray
    zwarn: np.ndarray
    flags: np.ndarray
    file: np.ndarray
    seen: np.ndarray

    def right_class(self) -> np.ndarray:
        """Whether the class is that of the label."""
        return self.class_ == self.class_true

    def right_z(self) -> np.ndarray:
        """Whether z agrees with the label; true where there is none."""
        limit = np.where(self.z_true > FAR, FAR_LIMIT, OUTLIERS["0.01"]) * (1.0 + self.z_true)
        limit = np.where(self.class_true == "STAR", STAR_LIMIT / LIGHT_SPEED, limit)
        return ~(np.abs(self.z - self.z_true) > limit)


def main() -> None:
    """Predict, print, and write the tables into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", type=Path, metavar="FOLDER TABLE.csv")
    parser.add_argument("--training", type=Path, action="append", required=True)
    parser.add_argument("--model")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if len(options.pairs) % 2:
        parser.error("each folder needs its table")
    model = spectromer_cli.load_model(options.model, "cpu")
    items: list[Item] = []
    labels: list[dict[str, str]] = []
    unread: list[str] = []
    for folder, truth in zip(options.pairs[::2], options.pairs[1::2], strict=True):
        with truth.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                try:
                    spectra = spectromer_cli.read(folder / row["file"])
                except SpectromerError as error:
                    unread.append(f"{row['file']}: {error}")
                    continue
                own = [item_of(one, row["file"], i, model.grid) for i, one in enumerate(spectra)]
                items += [item for item in own if item.prepared is not None]
                labels += [row for item in own if item.prepared is not None]
                unread += [f"{row['file']}: {item.problem}" for item in own if not item.prepared]
    table = table_of(model, items)
    found = Found(
        instrument=np.array([row.get("instrument") or row.get("survey", "") for row in labels]),
        class_true=np.array([row["class"] for row in labels]),
        subclass=np.array([row["subclass"] for row in labels]),
        z_true=np.array([float(row["z"] or "nan") for row in labels]),
        class_=np.asarray(table["class"]).astype(str),
        z=np.asarray(table["z"], float),
        zwarn=np.asarray(table["zwarn"], int),
        flags=np.asarray(table["flags"]).astype(str),
        file=np.array([row["file"] for row in labels]),
        seen=seen_in(options.training, [row["file"] for row in labels]),
    )
    name = model.weights.name
    lines = [
        f"Weights {name}; made by `python benchmarks/instruments.py`. The tables are of objects "
        f"that were not in the training sets; {found.seen.sum()} spectra of objects that were, or "
        "may have been (known by name), are counted in the last line of the first only. Of most "
        "of these instruments no spectrum was used in training: for them this is a test with the "
        "instrument left out. z right: "
        f"within 0.01 (1+z), {FAR_LIMIT} (1+z) above z {FAR:g}, {STAR_LIMIT:g} km/s for stars; "
        "empty where no redshift is known. The last two columns are fractions of the spectra with "
        "the right class and z.",
        "",
        *totals(found),
        "",
        *by_instrument(found),
        "",
        *not_right(found),
    ]
    put_section(options.write, "Other instruments", lines)
    print("\n".join(["", "Not read:", *unread]))


HEAD = ["spectra", "class right", "with z", "z right", "zwarn 0 of right", "out of domain of right"]


def seen_in(paths: list[Path], files: list[str]) -> np.ndarray:
    """Which files have in their name that of an object of these sets."""
    words: Counter[str] = Counter()
    for path in paths:
        with h5py.File(path) as file:
            for key in file["key"].asstr()[:]:
                words.update(set(re.split(r"[ _]", key.lower())))
    # Of two sets one may shorten a name; what several objects share is a reference or a survey.
    names = [
        word
        for word, count in words.items()
        if count <= 3 and len(word) >= 5 and any(letter.isdigit() for letter in word)
    ]
    return np.array([any(name in Path(file).name.lower() for name in names) for file in files])


def totals(found: Found) -> list[str]:
    """By class, with the rows that are hard."""
    new = ~found.seen
    far = (found.class_true == "QSO") & (found.z_true > FAR)
    letters = np.array([name[:1] for name in found.subclass])
    supernova = np.char.startswith(found.subclass.astype(str), "SN")
    cool = (found.class_true == "STAR") & np.isin(letters, ["L", "T"])
    rows = [[name, *cells(found, new & (found.class_true == name))] for name in taxonomy.CLASSES]
    rows += [
        [f"quasars above z {FAR:g}", *cells(found, new & far)],
        ["L and T dwarfs", *cells(found, new & cool)],
    ]
    flagged = (found.zwarn & int(ZWarn.OUT_OF_DOMAIN)) > 0
    neither = found.class_true == "OOD"
    rows += [
        [name, str(which.sum()), "", "", "", "", f"{flagged[which].mean():.3f} of all"]
        for name, which in {
            "supernovae": neither & supernova,
            "others out of domain": neither & ~supernova,
        }.items()
        if which.any()
    ]
    known = np.isin(found.class_true, taxonomy.CLASSES)
    rows.append(["objects of the training sets", *cells(found, found.seen & known)])
    return lines_of(["", *HEAD], rows)


def by_instrument(found: Found) -> list[str]:
    """A row per instrument and class."""
    known = ~found.seen & np.isin(found.class_true, taxonomy.CLASSES)
    pairs = sorted(set(zip(found.instrument[known], found.class_true[known], strict=True)))
    rows = [
        [
            *pair,
            *cells(found, known & (found.instrument == pair[0]) & (found.class_true == pair[1])),
        ]
        for pair in pairs
    ]
    return lines_of(["instrument", "class", *HEAD], rows)


def not_right(found: Found) -> list[str]:
    """What is wrong, by file."""
    known = ~found.seen & np.isin(found.class_true, taxonomy.CLASSES)
    wrong = np.flatnonzero(known & ~(found.right_class() & found.right_z()))
    rows = [
        [
            found.file[i],
            f"{found.class_true[i]} {shown(found.z_true[i])}",
            f"{found.class_[i]} {shown(found.z[i])}",
            str(found.zwarn[i]),
            found.flags[i].replace(";", ", "),
        ]
        for i in wrong
    ]
    return lines_of(["file", "label", "predicted", "zwarn", "flags"], rows)


def shown(z: float) -> str:
    """A redshift as text; empty where it is unknown."""
    return f"{z:.4f}" if np.isfinite(z) else ""


def cells(found: Found, which: np.ndarray) -> list[str]:
    """The figures of some of the spectra."""
    right_z, known = found.right_z(), np.isfinite(found.z_true)
    right = which & found.right_class() & right_z
    out = (found.zwarn & int(ZWarn.OUT_OF_DOMAIN)) > 0
    return [
        str(which.sum()),
        share(found.right_class()[which]),
        str((which & known).sum()),
        share(right_z[which & known]),
        share((found.zwarn == 0)[right]),
        share(out[right]),
    ]


if __name__ == "__main__":
    main()
