"""A long table, without a model: how fast it is read and written, in how much memory.

The rows are those that `spectromer redshift --catalog` writes, with made-up numbers in place of
predictions; to read is to look for the files, and to put the columns beside the predictions. Each
step runs in a process of its own, so that its memory is its own::

    python benchmarks/many_rows.py --rows 1000000

Prints rows per second and the peak of the memory, less that of the program before the work; and
what of it grows with the rows: the same with a tenth of them beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

SUFFIXES = (".csv", ".ecsv", ".jsonl", ".parquet", ".fits", ".vot")
BATCH = 4096


def write_catalogue(path: Path, rows: int) -> None:
    """A catalogue of names, positions, magnitudes and a remark."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("file,ra,dec,mag,note\n")
        for start in range(0, rows, 100_000):
            numbers = rng.uniform(0.0, 90.0, (min(100_000, rows - start), 3)).round(5).tolist()
            file.writelines(
                f"spectra/spec-{start + i:08d}.fits,{ra},{dec},{mag},field {i % 7}\n"
                for i, (ra, dec, mag) in enumerate(numbers)
            )


def peak() -> float:
    """The most memory that this process has had, in MB."""
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e6 if sys.platform == "darwin" else 1e3)


def step(name: str, folder: Path, rows: int) -> None:
    """One step, in this process: prints rows per second and MB."""
    from astropy.table import Table

    from spectromer_cli.inference.columns import REDSHIFT_COLUMNS, with_catalogue
    from spectromer_cli.outputs import tables
    from spectromer_cli.spectra.catalogues import Catalogue

    texts = {"file": "spectra/spec.fits", "object_id": "266-51602-1", "survey": "SDSS",
             "class": "GALAXY", "flags": "LOW_SN;ERRORS_ESTIMATED"}  # fmt: skip
    rng = np.random.default_rng(0)
    batch = Table(
        {
            column: np.full(BATCH, texts[column])
            if column in texts
            else rng.integers(0, 9, BATCH)
            if column in ("row", "zwarn")
            else rng.normal(size=BATCH).astype(np.float32)
            for column in REDSHIFT_COLUMNS
        }
    )
    Catalogue(Path(__file__).parents[1] / "docs" / "examples" / "targets.csv", None)  # imports
    before, began = peak(), time.monotonic()
    if name == "read":
        catalogue = Catalogue(folder / f"{rows}.csv", None)
        numbers = (target.catalogue_row for target in catalogue.targets())
        while some := list(islice(numbers, BATCH)):
            with_catalogue(batch[: len(some)], catalogue.rows(some))
    else:
        with tables.open_writer(folder / f"out{name}", {"version": "benchmark"}) as writer:
            for start in range(0, rows, BATCH):
                writer.write(batch[: min(BATCH, rows - start)])
    print(rows / (time.monotonic() - began), peak() - before)


def main() -> None:
    """All steps, each with a tenth of the rows and with all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(options.step[0], Path(options.step[1]), options.rows)
        return
    print(f"{'step':10}{'rows/s':>12}{'MB, a tenth':>14}{'MB, all':>10}")
    with tempfile.TemporaryDirectory() as folder:
        counts = (options.rows // 10, options.rows)
        for rows in counts:
            write_catalogue(Path(folder) / f"{rows}.csv", rows)
        for name in ("read", *SUFFIXES):
            found = []
            for rows in counts:
                command = [sys.executable, __file__, "--rows", str(rows), "--step", name, folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found.append([float(word) for word in done.stdout.split()])
            print(f"{name:10}{found[1][0]:12.0f}{found[0][1]:14.0f}{found[1][1]:10.0f}")


if __name__ == "__main__":
    main()
