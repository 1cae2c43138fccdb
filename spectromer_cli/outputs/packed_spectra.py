"""Spectra of many files packed into Parquet: one file, or a HATS catalogue part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import SomeInputsFailed, UsageError
from spectromer_cli.outputs.parts import Parts
from spectromer_cli.outputs.protect import checked_targets
from spectromer_cli.outputs.provenance import provenance
from spectromer_cli.paths import atomic_path, claimed, disk_errors, require_writable_folder
from spectromer_cli.spectra import hats, packed

if TYPE_CHECKING:
    from spectromer_cli.spectra.loading import Inputs, Item
    from spectromer_cli.spectra.sources import Target
    from spectromer_cli.spectra.spectrum import Spectrum

SUFFIX = ".parquet"
# Spectra of a row group: few enough to be read without waste wherever a reader begins, and not
# more pixels than fit into little memory.
GROUP, GROUP_PIXELS = 512, 5_000_000
# So many bad inputs are named one by one.
NAMED_PROBLEMS = 20


def pack(inputs: Inputs, output: Path, resume: bool = False) -> None:
    """Pack spectra into Parquet, from which they are read as from their own files, but faster.

    Parameters
    ----------
    inputs : Inputs
        What to read.
    output : Path
        A file ``NAME.parquet``; or a folder, if the inputs are the partitions of one HATS
        catalogue: it becomes a catalogue with the same partitions.
    resume : bool
        Resume an interrupted run in the folder -o.

    Raises
    ------
    UsageError
        Before any work, if an input would be overwritten, or the output cannot be written.
    SomeInputsFailed
        If spectra could not be packed: all others are; or none could, and nothing is written.
    SpectromerError
        If the disk does not take it.
    """
    is_file = output.suffix.lower() == SUFFIX
    if is_file:
        require_writable_folder(output)
        if resume:
            raise UsageError(
                "a single file cannot be resumed", "leave out --resume, or give a folder with -o"
            )
    targets, _, total = checked_targets(inputs, [output])
    with claimed(output):
        if is_file:
            rows, failed = _pack_file(inputs, targets, total, output)
        else:
            rows, failed = _pack_catalogue(inputs, list(targets), output, resume)
    console.info(f"packed {rows} spectra into {output}")
    if failed:
        raise SomeInputsFailed(f"{failed} of {rows + failed} spectra could not be packed")


def _pack_file(
    inputs: Inputs, targets: Iterable[Target], total: int | None, output: Path
) -> tuple[int, int]:
    """Pack into a file, which appears when it is whole; how many were packed and failed."""
    replaced = output.exists()
    packing = _Packing(inputs, total)
    with (
        console.progress("targets", total) as advance,
        disk_errors(output),
        atomic_path(output) as temporary,
    ):
        packing.write(targets, temporary, advance)
        if not packing.rows:
            stays = f": {output} was left unchanged" if replaced else ""
            raise SomeInputsFailed(f"none of {packing.failed} inputs could be packed{stays}")
    if replaced:
        console.info(f"{output} was replaced")
    return packing.rows, packing.failed


def _pack_catalogue(
    inputs: Inputs, targets: list[Target], output: Path, resume: bool
) -> tuple[int, int]:
    """Pack the partitions of a HATS catalogue, each into one of the same name."""
    names = [hats.partition_of(target.path) for target in targets]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(
            f"{output} is not a Parquet file name, and the inputs are not a HATS catalogue",
            f"give a name ending in {SUFFIX}",
        )
    inside = Path(os.path.realpath(output))
    for target in targets:
        if Path(os.path.realpath(target.path)).is_relative_to(inside):
            raise UsageError(
                f"the output {output} contains an input, {target.path}", "choose another -o"
            )
    packing = _Packing(inputs, 1)
    parts = Parts(output, {"options": [inputs.air, inputs.wavelength_unit]}, resume)

    def written(target: Target) -> Callable[[Path], dict[str, int]]:
        def write(path: Path) -> dict[str, int]:
            rows, failed = packing.rows, packing.failed
            packing.write([target], path, lambda count: None)
            return {"rows": packing.rows - rows, "failed": packing.failed - failed}

        return write

    with console.progress("partitions", len(targets), every=60.0) as advance:
        for target, name in zip(targets, names, strict=True):
            part, content = f"dataset/{name}", _content(target.path)
            if not parts.has(part, content):
                parts.add(part, content, written(target))
            advance(1)
    parts.refuse_others()
    rows = {
        name.removeprefix("dataset/"): int(record["rows"]) for name, record in parts.done.items()
    }
    if not any(rows.values()):
        raise SomeInputsFailed(f"none of {parts.total('failed')} spectra could be packed")
    with disk_errors(output):
        hats.write_catalogue(output, rows, hats.catalogue_of(targets[0].path))
    return parts.total("rows"), parts.total("failed")


def _content(path: Path) -> str:
    """What tells a partition from one that was changed."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{path} {state.st_size} {state.st_mtime_ns}"


class _Packing:
    """Packs targets, and counts.

    Parameters
    ----------
    inputs : Inputs
    total : int or None
        How many targets are packed at a time.

    Attributes
    ----------
    rows, failed : int
        Spectra that were packed, and inputs that could not be.
    """

    def __init__(self, inputs: Inputs, total: int | None) -> None:
        from spectromer_cli.spectra.loading import readers

        self.rows = self.failed = 0
        self._options = inputs.options
        self._workers = inputs.processes(total, readers())

    def write(self, targets: Iterable[Target], path: Path, advance: Any) -> None:
        """Write the rows of targets into a file, in their order."""
        from pyarrow.parquet import ParquetWriter

        flux, ivar, wavelength, mask = (f"spectrum.{n}.list.element" for n in packed.FIELDS)
        schema = packed.schema().with_metadata(provenance())
        # What spectra have in common, such as their wavelengths, takes next to no room; noise
        # cannot be packed, and is read fastest as it is.
        alike = [name for name in schema.names if name != "spectrum"] + [wavelength]
        with ParquetWriter(
            path, schema, use_dictionary=alike,
            compression={**dict.fromkeys([*alike, mask], "zstd"), flux: "none", ivar: "none"},
        ) as writer:  # fmt: skip
            for spectra, origins in self._groups(targets, advance):
                table = packed.table_of(spectra, origins)
                writer.write_table(table.replace_schema_metadata(schema.metadata))
                self.rows += len(spectra)

    def _groups(
        self, targets: Iterable[Target], advance: Any
    ) -> Iterator[tuple[list[Spectrum], list[tuple[str, int]]]]:
        """The spectra, by row group, with their files and numbers."""
        from spectromer_cli.spectra.loading import load_all

        spectra: list[Spectrum] = []
        origins: list[tuple[str, int]] = []
        pixels = 0
        for item in load_all(targets, self._options, workers=self._workers):
            advance(item.begins)
            if item.spectrum is not None:
                spectra.append(item.spectrum)
                origins.append((item.file, item.row))
                pixels += item.spectrum.flux.size
            elif not item.skipped:
                self._note(item)
            if len(spectra) == GROUP or pixels > GROUP_PIXELS:
                yield spectra, origins
                spectra, origins, pixels = [], [], 0
        if spectra:
            yield spectra, origins

    def _note(self, item: Item) -> None:
        self.failed += 1
        if self.failed <= NAMED_PROBLEMS:
            console.error(item.complaint)
        elif self.failed == NAMED_PROBLEMS + 1:
            console.error("more inputs cannot be packed; they are counted but not listed")
