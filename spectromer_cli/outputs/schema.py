"""The one list of columns of results: name, type, unit, UCD, description, and who shows them.

Every format, the terminal and the tables in Python take what they say of a column from here, and so
does the list in the documentation. A new column is an entry in `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spectromer_cli.errors import UsageError
from spectromer_cli.model import tasks
from spectromer_cli.model.decoding import ALTERNATIVES

if TYPE_CHECKING:
    from astropy.table import Table

CLASSIFY, REDSHIFT = "classify", "redshift"
BOTH = (CLASSIFY, REDSHIFT)


@dataclass(frozen=True)
class Column:
    """A column of the results.

    Parameters
    ----------
    name : str
    type : {"text", "int32", "int64", "float32", "float64"}
        In every format, whatever the values of a batch are.
    ucd : str
        What kind of quantity it is, in words of the IVOA (UCD1+ 1.5).
    description : str
        In ASCII, for the headers of files.
    unit : str
        As FITS and VOTable write it; empty for a number without one.
    commands : tuple of str
        The commands that show it.
    decimals : int, optional
        How many are worth showing on a terminal; without it, six significant digits.
    """

    name: str
    type: str
    ucd: str
    description: str
    unit: str = ""
    commands: tuple[str, ...] = BOTH
    decimals: int | None = None


_C, _Z = (CLASSIFY,), (REDSHIFT,)

# What says whose spectrum it is. The first four begin every table of results (see
# `spectra.identity.RESULT_HEAD`).
HEAD = (
    Column("file", "text", "meta.id;meta.file", "file of the spectrum"),
    Column("row", "int64", "meta.record", "index of the spectrum in the file, from 0"),
    Column("object_id", "text", "meta.id;src", "name of the object, from the file"),
    Column("survey", "text", "meta.id;obs", "survey or instrument, from the file"),
    Column("ra", "float64", "pos.eq.ra;meta.main",
           "right ascension (ICRS), from the file or else the catalogue", "deg", decimals=5),
    Column("dec", "float64", "pos.eq.dec;meta.main",
           "declination (ICRS), from the file or else the catalogue", "deg", decimals=5),
    Column("plate", "int32", "meta.id;instr", "SDSS plate"),
    Column("mjd", "int32", "time.epoch;obs", "SDSS MJD of the plate", "d"),
    Column("fiberid", "int32", "meta.id;instr", "SDSS fibre on the plate"),
    Column("obsid", "int64", "meta.id;obs", "LAMOST observation identifier"),
    Column("targetid", "int64", "meta.id;src", "DESI target identifier"),
)  # fmt: skip
GENERAL = (
    Column("class", "text", "src.class", "STAR, GALAXY or QSO"),
    Column("class_prob", "float32", "stat.probability;src.class",
           "probability of the class", commands=_Z, decimals=3),
    Column("p_star", "float32", "stat.probability;src.class",
           "probability of the class STAR", commands=_C, decimals=3),
    Column("p_galaxy", "float32", "stat.probability;src.class",
           "probability of the class GALAXY", commands=_C, decimals=3),
    Column("p_qso", "float32", "stat.probability;src.class",
           "probability of the class QSO", commands=_C, decimals=3),
    Column("subclass", "text", "src.class", "subclass of the predicted class", commands=_C),
    Column("subclass_prob", "float32", "stat.probability;src.class",
           "probability of the subclass, given the class", commands=_C, decimals=3),
    Column("star_type", "text", "src.spType", "spectral type of a star, O0 to T9", commands=_C),
    Column("star_type_err", "float32", "stat.error;src.spType",
           "1-sigma error of star_type, in tenths of a class", commands=_C, decimals=1),
    Column("teff", "float32", "phys.temperature.effective",
           "effective temperature of a star", "K", _C, 0),
    Column("teff_err", "float32", "stat.error;phys.temperature.effective",
           "1-sigma error of teff", "K", _C, 0),
    Column("logg", "float32", "phys.gravity",
           "log10 of a star's surface gravity in cm/s2", commands=_C, decimals=2),
    Column("logg_err", "float32", "stat.error;phys.gravity",
           "1-sigma error of logg", commands=_C, decimals=2),
    Column("feh", "float32", "phys.abund.Fe", "[Fe/H] of a star, in dex", commands=_C, decimals=2),
    Column("feh_err", "float32", "stat.error;phys.abund.Fe",
           "1-sigma error of feh", commands=_C, decimals=2),
)  # fmt: skip
OF_REDSHIFT = (
    Column("z", "float64", "src.redshift", "redshift, barycentric", commands=_Z, decimals=5),
    Column("z_err", "float32", "stat.error;src.redshift",
           "1-sigma error of z", commands=_Z, decimals=5),
    Column("z_prob", "float32", "stat.probability;src.redshift",
           "probability that z is correct to within 0.01 (1 + z)", commands=_Z, decimals=3),
    Column("zwarn", "int32", "meta.code.qual;src.redshift",
           "bit mask of warnings about z, 0 if none", commands=_Z),
    Column("z_conf", "int32", "meta.code.qual;src.redshift",
           "confidence level of z: 0 with a warning, 1 without, 3 if the risk of error is 1 %",
           commands=_Z),
    Column("rv", "float32", "spect.dopplerVeloc.opt",
           "radial velocity of a star: c z, barycentric", "km/s", _Z, 1),
    Column("rv_err", "float32", "stat.error;spect.dopplerVeloc.opt",
           "1-sigma error of rv", "km/s", _Z, 1),
    Column("delta_chi2", "float32", "stat.fit.chi2;arith.diff",
           "chi2 at the best other redshift, of any class, minus chi2 at z",
           commands=_Z, decimals=1),
    Column("chi2_nu", "float32", "stat.fit.chi2",
           "chi2 per degree of freedom of the template fit at z", commands=_Z, decimals=2),
    *(
        column
        for rank in range(1, ALTERNATIVES + 1)
        for column in (
            # The word src.redshift alone is kept for z, by which tools find it.
            Column(f"z_alt{rank}", "float64", "stat.value;src.redshift",
                   f"alternative redshift number {rank}", commands=_Z, decimals=5),
            Column(f"z_alt{rank}_prob", "float32", "stat.probability;src.redshift",
                   f"probability of z_alt{rank}", commands=_Z, decimals=3),
        )
    ),
)  # fmt: skip
TAIL = (
    Column("outlier_score", "float32", "stat.value",
           "out-of-distribution score, above 1 out of domain", decimals=3),
    Column("sn_median", "float32", "stat.snr;stat.median",
           "median signal-to-noise ratio per pixel", decimals=1),
    Column("flags", "text", "meta.code", "remarks on the input, and zwarn bits by name"),
)  # fmt: skip
COLUMNS = (*HEAD, *GENERAL, *OF_REDSHIFT, *TAIL)
BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
# Identifiers that surveys give, whole numbers.
IDENTIFIERS = ("plate", "mjd", "fiberid", "obsid", "targetid")


def names_of(columns: Iterable[Column], command: str = "") -> tuple[str, ...]:
    """The names of columns, of those alone that a command shows if one is given."""
    return tuple(c.name for c in columns if not command or command in c.commands)


def of_task(name: str, task: tasks.Task, probabilities: Mapping[str, str]) -> list[Column]:
    """The columns of a task that the general model does not have.

    Parameters
    ----------
    name : str
        Of its first column.
    task : Task
    probabilities : mapping of str to str
        The columns of its labels' probabilities → the labels.

    Returns
    -------
    list of Column
        Those of the list by the same name as they are there, but for the labels.
    """
    if isinstance(task, tasks.Category):
        labels = ", ".join(task.labels)
        found = [
            Column(name, "text", "src.class" if name == "class" else "meta.code.class",
                   f"predicted {task.name}, one of {len(task.labels)} labels: {_cut(labels)}"),
            Column(f"{name}_prob", "float32", "stat.probability",
                   f"probability of {name}", decimals=3),
            *(Column(column, "float32", "stat.probability",
                     f"probability of the {task.name} {label}", decimals=3)
              for column, label in probabilities.items()),
        ]  # fmt: skip
    else:
        kind = "text" if isinstance(task, tasks.Ordered) else "float32"
        found = [
            Column(name, kind, "stat.value", f"predicted {task.name}"),
            Column(f"{name}_err", "float32", "stat.error", f"1-sigma error of {name}"),
        ]
    return found


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


# --- tables ---------------------------------------------------------------------------------


def filled(name: str, values: Sequence[Any] | np.ndarray, column: Column) -> Any:
    """A column of a table, with its type, unit, description and UCD; masked where nothing is.

    Parameters
    ----------
    name : str
    values : sequence
        NaN, None or empty text where there is no value; ``flags`` without a word are no such case.
    column : Column
        What is known of it.

    Returns
    -------
    astropy.table.MaskedColumn
        Beneath the mask stands NaN, 0 or empty text.
    """
    from astropy.table import MaskedColumn

    if column.type == "text":
        texts = ["" if value is None else str(value) for value in values]
        data: np.ndarray = np.array(texts, dtype=str)
        mask = np.zeros(len(data), dtype=bool) if name == "flags" else data == ""
    elif column.type.startswith("int"):
        mask = np.array([value is None for value in values], dtype=bool)
        data = np.array([0 if value is None else value for value in values], dtype=column.type)
    else:
        data = np.asarray(values, dtype=np.float64).astype(column.type)
        mask = ~np.isfinite(data)
        data[mask] = np.nan
    return MaskedColumn(
        data, name=name, mask=mask, unit=column.unit or None, description=column.description,
        meta={"ucd": column.ucd},
    )  # fmt: skip


def about(column: Any) -> dict[str, str]:
    """Unit, UCD and description of a column of a table, those that it has."""
    said = {
        "unit": str(column.unit or ""),
        "ucd": str((column.meta or {}).get("ucd") or ""),
        "description": str(column.description or ""),
    }
    return {key: value for key, value in said.items() if value}


def is_ours(column: Any) -> bool:
    """Whether a column of a table is the one of `COLUMNS` by its name, and not a user's own."""
    known = BY_NAME.get(column.name)
    return known is not None and column.description == known.description


def chosen(table: Table, wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns that a user has chosen.

    Parameters
    ----------
    table : Table
        With the columns that there are to choose from.
    wanted : sequence of str
        What was chosen, in that order.

    Returns
    -------
    tuple of str
        Each once.

    Raises
    ------
    UsageError
        If there is no such column.
    """
    unknown = [name for name in wanted if name not in table.colnames]
    if unknown:
        raise UsageError(
            "invalid --columns: there is no column "
            + ", ".join(name or repr(name) for name in unknown),
            f"choose from {', '.join(table.colnames)}",
        )
    return tuple(dict.fromkeys(wanted))


# --- documentation --------------------------------------------------------------------------


def markdown(command: str) -> str:
    """The columns of a command as a table of Markdown, for the documentation."""
    lines = ["| column | type | unit | UCD | what |", "| --- | --- | --- | --- | --- |"]
    for column in COLUMNS:
        if command in column.commands:
            cells = (f"`{column.name}`", column.type, column.unit, f"`{column.ucd}`",
                     column.description.replace("1-sigma", "1-σ").replace("|", "\\|"))  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(line.replace("|  |", "| |") for line in lines) + "\n"
