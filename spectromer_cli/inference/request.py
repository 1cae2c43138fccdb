"""What is asked of a run: how to predict, and where the results go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from spectromer_cli.errors import UsageError
from spectromer_cli.model.device import BATCH_SIZE
from spectromer_cli.outputs import samp

if TYPE_CHECKING:
    from spectromer_cli.inference.predictor import Known, Spectromer
    from spectromer_cli.model.prior import Prior

# Of the tables: those that one command shows, or those of both.
Which = Literal["all", "classify", "redshift"]
REDROCK = "redrock"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to predict; the fields are the options of the command line.

    Parameters
    ----------
    columns : {"all", "classify", "redshift"}
        Those of one command, or of both.
    only : sequence of str, or str
        Of these and those of a catalogue, the ones wanted, in their order, also as ``"a,b,c"``;
        all without any.
    model : str or Spectromer, optional
        As `load_model` takes it, or loaded already.
    device, precision : str
        As `load_model` takes them.
    batch_size : int
        Spectra per batch.
    refined : bool
        Refine redshifts with templates.
    max_outlier_rate : float, optional
        Limit the outlier rate: flag the least confident redshifts (zwarn bit 18), so that at most
        this fraction of the rest is off by more than 0.01 (1 + z).
    class_, z_range, z_prior
        What is known beforehand, as `prior.prior_of` takes it.
    combine : str, optional
        Exposures that agree in this, a column of the catalogue or one of `combine.KEYS`, become
        one spectrum.

    Raises
    ------
    UsageError
        If a value is invalid.
    """

    columns: Which = "all"
    only: str | Sequence[str] = ""
    model: str | Spectromer | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = BATCH_SIZE
    refined: bool = True
    max_outlier_rate: float | None = None
    class_: str = ""
    z_range: str | tuple[float, float] | None = None
    z_prior: Any = None
    combine: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.only, str):
            names = tuple(filter(None, (name.strip() for name in self.only.split(","))))
            object.__setattr__(self, "only", names if names or not self.only else (self.only,))
        if self.batch_size < 1:
            raise UsageError(f"invalid batch size {self.batch_size}", "give 1 or more")
        if self.columns not in get_args(Which):
            raise UsageError(
                f"invalid columns {self.columns!r}",
                f"choose from {', '.join(get_args(Which))}",
            )
        _ = self.prior  # refuses what is no prior

    @cached_property
    def prior(self) -> Prior | None:
        """What is known beforehand; None if nothing is."""
        if not self.class_ and self.z_range is None and self.z_prior is None:
            return None
        from spectromer_cli.model.prior import prior_of

        return prior_of(self.class_, self.z_range, self.z_prior)

    def load(self) -> Spectromer:
        """The model."""
        from spectromer_cli.inference.predictor import Spectromer, load_model

        if isinstance(self.model, Spectromer):
            return self.model
        return load_model(self.model, self.device, self.precision)

    def can_be_shared(self) -> bool:
        """Whether several processes may load the model and run it on the CPU.

        Not if it is loaded already, runs on a GPU, or is given exposures that one process has to
        put together.
        """
        from spectromer_cli.model.device import choose_device, is_surely_cpu

        by_name = self.model is None or isinstance(self.model, str)
        if not by_name or self.combine is not None:
            return False
        return is_surely_cpu(self.device) or choose_device(self.device).type == "cpu"

    def known(self) -> Known:
        """What the weights say of a model that can be shared."""
        from spectromer_cli.inference.predictor import Known
        from spectromer_cli.weights.store import resolve

        return Known(resolve(self.model), "cpu", self.precision)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go; the fields are the options of the command line.

    Parameters
    ----------
    path : Path, optional
        A file; stdout without it.
    json : bool
        One JSON document on stdout.
    resume : bool
        Resume what an interrupted run with the same file has left.
    format : {"", "redrock"}
        Write the file as redrock does; by default its suffix chooses the format.
    save_pz : Path, optional
        Write p(z), χ²(z) and the best model of each spectrum here, FITS or HDF5.
    scheduler : str, optional
        Predict on a Dask cluster; see `cluster.Cluster`. The path may be a folder then.
    samp : str, optional
        Send the table to the program of this name, or to "all", by SAMP.

    Raises
    ------
    UsageError
        If the options contradict each other, or a file cannot be written.
    """

    path: Path | None = None
    json: bool = False
    resume: bool = False
    format: str = ""
    save_pz: Path | None = None
    scheduler: str | None = None
    samp: str | None = None

    @property
    def written(self) -> list[Path]:
        """The files that will be written."""
        return [path for path in (self.path, self.save_pz) if path is not None]

    def __post_init__(self) -> None:
        from spectromer_cli.outputs import full_pz, redrock
        from spectromer_cli.outputs.formats import FORMATS
        from spectromer_cli.outputs.tables import check_output

        if self.format not in ("", REDROCK):
            raise UsageError(f"invalid --format {self.format!r}", f"choose from {REDROCK}")
        if self.format and self.path is None:
            raise UsageError("--format needs -o", "give -o FILE.fits")
        if self.scheduler is not None:
            self._check_for_cluster()
        if self.save_pz is not None:
            check_output(self.save_pz, full_pz.formats_with({}))
            if self.path is not None and self.path.resolve() == self.save_pz.resolve():
                raise UsageError("-o and --save-pz are the same file", "give two different names")
        if self.resume and self.path is None:
            raise UsageError(
                "--resume needs -o", "give -o FILE: output to stdout cannot be resumed"
            )
        if self.json and self.path:
            raise UsageError(
                "--json and -o exclude each other", "use -o FILE.jsonl, or --json > FILE"
            )
        if self.path is not None and not self.is_folder:
            check_output(self.path, redrock.FORMATS if self.format else FORMATS)
            if self.samp and self.path.suffix.lower() not in samp.MESSAGES:
                raise UsageError(
                    f"--samp cannot send {self.path.suffix} files",
                    f"choose from {' '.join(samp.MESSAGES)}, or leave out -o",
                )

    @property
    def is_folder(self) -> bool:
        """Whether a cluster writes a folder of parts."""
        from spectromer_cli.outputs.formats import FORMATS

        path = self.path
        if path is None or self.scheduler is None:
            return False
        return path.is_dir() or path.suffix.lower() not in FORMATS

    def _check_for_cluster(self) -> None:
        if self.path is None:
            raise UsageError("--scheduler needs -o", "give -o FOLDER, or -o FILE")
        for name, given in (("--format", self.format), ("--save-pz", self.save_pz)):
            if given:
                raise UsageError(f"{name} and --scheduler exclude each other", "use one of them")
        if self.samp is not None and self.is_folder:
            raise UsageError("--samp sends a file, but -o is a folder", "give -o FILE.fits")
