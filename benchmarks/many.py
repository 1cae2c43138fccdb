"""Many spectra: how fast, and in how much memory; and long tables without a model.

Usage: python benchmarks/many.py [--sizes 1000 10000 100000] [--rows 1000000] [--write PAGE.md]

By --sizes, `spectromer redshift` goes from a Parquet file of so many simulated spectra to another
one; 100,000 take 4 GB of the temporary folder. By --rows, the rows are those that
`spectromer redshift --catalog` writes, with made-up numbers in place of predictions; to read is to
look for the files, and to put the columns beside the predictions. Each step is given with the peak
of the memory, less that of the program before the work, and the same with a tenth of the rows
beside it. Everything runs in processes of its own, so that its memory is its own; --sizes or --rows
0 leaves a part out.
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
from page import lines_of, parser, put
from samples import simulated, write_parquet

import spectromer_cli

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


def spectra(sizes: list[int]) -> list[str]:
    """From a file of spectra to rows, by the command line."""
    model = spectromer_cli.load_model(device="cpu")
    drawn = simulated(model, 256)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spectra.parquet"
        for size in sizes:
            write_parquet(path, drawn, model.grid.wavelength, size)
            out = path.with_name("z.parquet")
            words = ["redshift", str(path), "-o", str(out), "-qq"]
            done = subprocess.run(
                [sys.executable, __file__, "--command", *words],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            wall, cpu, memory = (float(word) for word in done.stdout.split())
            rows.append(
                [f"{size}", f"{wall:.0f}", f"{size / wall:.1f}", f"{cpu:.0f}", f"{memory:.0f}"]
            )
    head = ["spectra", "s, start-up included", "spectra/s", "CPU-s", "MB of the largest process"]
    return lines_of(head, rows)


def command(words: list[str]) -> None:
    """`spectromer` in a process of its own: prints seconds, CPU seconds, and MB."""
    import resource

    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "spectromer_cli", *words], check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(time.monotonic() - began, used.ru_utime + used.ru_stime, size)


def tables(count: int) -> list[str]:
    """All steps, each with a tenth of the rows and with all."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        counts = (count // 10, count)
        for rows in counts:
            write_catalogue(Path(folder) / f"{rows}.csv", rows)
        for name in ("read", *SUFFIXES):
            found = []
            for rows in counts:
                call = [sys.executable, __file__, "--rows", str(rows), "--step", name, folder]
                done = subprocess.run(call, check=True, capture_output=True, text=True)
                found.append([float(word) for word in done.stdout.split()])
            lines.append([name, f"{found[1][0]:.0f}", f"{found[0][1]:.0f}", f"{found[1][1]:.0f}"])
    return lines_of(["step", "rows/s", f"MB, {count // 10} rows", f"MB, {count} rows"], lines)


def main() -> None:
    """Measure."""
    if sys.argv[1:2] == ["--command"]:
        command(sys.argv[2:])
        return
    made = parser(__doc__)
    made.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.step:
        step(options.step[0], Path(options.step[1]), options.rows)
        return
    if any(options.sizes):
        put(options.write, "many spectra", spectra(options.sizes))
    if options.rows:
        put(options.write, "many rows", tables(options.rows))


if __name__ == "__main__":
    main()
