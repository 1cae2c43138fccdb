"""A result as a folder of parts: each is there whole or not at all, and a manifest names them.

``manifest.jsonl`` has a line about the run, then one per part, written after the part itself: what
it names is done, and a run that is resumed makes the rest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spectromer_cli import console
from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.paths import atomic_path, disk_errors, make_folder

MANIFEST = "manifest.jsonl"


class Parts:
    """The folder of a run and what is done of it.

    Parameters
    ----------
    folder : Path
        Made if missing. One that holds something else is refused.
    run : dict
        What must be the same for a run to be resumed: weights, columns, options.
    resume : bool
        Continue with what is there; without any, start from the beginning.

    Attributes
    ----------
    done : dict
        The parts that are whole, name → what the manifest says of it.

    Raises
    ------
    UsageError
        If the folder holds parts and `resume` is not set, or other files, or parts of another run.
    SpectromerError
        If the manifest is damaged.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], resume: bool) -> None:
        self.folder = folder
        self.manifest = folder / MANIFEST
        self.done: dict[str, dict[str, Any]] = {}
        self._met: set[str] = set()
        # The line about the run, until it is written.
        self._head: dict[str, Any] | None = None
        make_folder(folder)
        with disk_errors(self.manifest):
            wanted = json.loads(json.dumps(run))
            if self.manifest.exists():
                self._take_up(wanted, resume)
                return
            if any(not entry.name.startswith(".") for entry in folder.iterdir()):
                raise UsageError(
                    f"{folder} contains other files", "choose another -o, or an empty folder"
                )
            if resume:
                console.info("nothing to resume: starting from the beginning")
            self._head = {"run": wanted}

    def _take_up(self, wanted: Mapping[str, Any], resume: bool) -> None:
        """Find out what is done."""
        afresh = f"start from the beginning: rm -r {self.folder}"
        if not resume:
            raise UsageError(
                f"{self.folder} contains the parts of another run",
                f"if it was interrupted, resume it with --resume, or {afresh}",
            )
        try:
            text = self.manifest.read_text(encoding="utf-8")
            # What a kill left of a last line is no line.
            whole = text[: text.rfind("\n") + 1]
            first, *records = [json.loads(line) for line in whole.splitlines()]
            run = dict(first["run"])
            found = {str(record["part"]): dict(record) for record in records}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpectromerError(f"{self.manifest} cannot be read: {error}", afresh) from error
        if run != wanted:
            differs = [name for name in wanted if run.get(name) != wanted[name]]
            raise UsageError(
                f"{self.folder} was written with other {', '.join(differs)}",
                f"resume it with the same command, or {afresh}",
            )
        if whole != text:
            os.truncate(self.manifest, len(whole.encode()))
        for name, record in found.items():
            path = self.folder / name
            if path.is_file() and path.stat().st_size == record.get("bytes"):
                self.done[name] = record
        console.info(f"resuming: {len(self.done)} parts are done")

    def has(self, name: str, content: str) -> bool:
        """Whether a part is done.

        Parameters
        ----------
        name : str
            Its path in the folder.
        content : str
            What it is made of; see `add`.

        Raises
        ------
        UsageError
            If the part that is there was made of something else.
        """
        self._met.add(name)
        record = self.done.get(name)
        if record is not None and record["content"] != content:
            raise UsageError(
                f"the inputs differ from those of the unfinished run: {self.folder / name} has "
                "other inputs",
                "give the same inputs, or start a new run with another -o",
            )
        return record is not None

    def add(
        self, name: str, content: str, write: Callable[[Path], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Make a part.

        Parameters
        ----------
        name : str
            Its path in the folder; the suffix is that of its format.
        content : str
            What it is made of, such as a hash of its inputs: a resumed run compares it.
        write : callable
            ``write(path)`` writes the part; what it returns is said of it in the manifest.

        Returns
        -------
        mapping
            Its record in the manifest.

        Raises
        ------
        SpectromerError
            If the disk does not take it.
        """
        path = self.folder / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                said = write(temporary)
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())  # the manifest must not be older than the part
            record = {"part": name, "content": content, "bytes": path.stat().st_size, **said}
            self._append(record)
        self.done[name] = record
        return record

    def note(self, name: str, content: str, problem: str) -> None:
        """Say in the manifest why there is no such part; a resumed run tries it again.

        Raises
        ------
        SpectromerError
            If the disk does not take it.
        """
        with disk_errors(self.manifest):
            self._append({"part": name, "content": content, "problem": problem})

    def remove(self) -> None:
        """Remove the folder, whose parts have become something else."""
        shutil.rmtree(self.folder)

    def refuse_others(self) -> None:
        """When all parts were asked for: refuse a folder that has some of other inputs.

        Raises
        ------
        UsageError
        """
        if others := sorted(self.done.keys() - self._met):
            raise UsageError(
                f"{self.folder} has {len(others)} parts of inputs that are no longer given, the "
                f"first: {others[0]}",
                "give the same inputs, or start a new run with another -o",
            )

    def total(self, name: str) -> int:
        """The sum of a number over all parts that are done."""
        return sum(int(record.get(name, 0)) for record in self.done.values())

    def _append(self, record: Mapping[str, Any]) -> None:
        lines = [record] if self._head is None else [self._head, record]
        with self.manifest.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        self._head = None
