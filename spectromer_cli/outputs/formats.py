"""The table formats that astronomers use, and the cells of a table as plain values for them all.

Rows are written chunk by chunk into a file that grows. Of CSV, ECSV and JSON Lines that is the
result; the others, whose headers depend on the rows to come, are made from it at the end, a block
of rows at a time, so that memory does not grow with their number. A new format is a `Format` in
`FORMATS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO
from xml.sax.saxutils import escape

import numpy as np

from spectromer_cli.outputs import schema

if TYPE_CHECKING:
    import pyarrow
    from astropy.table import Column, Table

Write = Callable[["Table"], None]
Provenance = Mapping[str, str]

BLOCK = 8192  # rows that are formatted at a time; of Parquet, the rows of a row group
BLOCK_BYTES = 64_000_000  # of rows that hold much


def plain(table: Table) -> Table:
    """The same table in columns that every format can hold.

    Coordinates and times become columns of numbers, bytes and objects text, masked where there
    was nothing; display formats, which would round, and the table's own meta are dropped, that of
    columns but for their UCD.

    Parameters
    ----------
    table : astropy Table

    Returns
    -------
    astropy Table
        Shares the numbers with `table`.
    """
    from astropy.table import Table
    from astropy.table.serialize import represent_mixins_as_columns

    if table.has_mixin_columns:
        table = represent_mixins_as_columns(table)
    return Table([_plain_column(column) for column in table.itercols()], copy=False)


def _plain_column(column: Column) -> Column:
    from astropy.table import MaskedColumn

    if column.ndim > 1 or column.dtype.kind not in "OSU" or _is_unicode(column):
        copy = column.copy(copy_data=False)
        copy.info.format = None
        copy.info.meta = _ucd(column)
        return copy
    values = column.tolist()
    return MaskedColumn(
        np.array(["" if value is None else as_text(value) for value in values], dtype=str),
        mask=[value is None for value in values],
        name=column.name,
        unit=column.unit,
        description=column.description,
        meta=_ucd(column),
    )


def _ucd(column: Column) -> dict[str, str] | None:
    ucd = schema.about(column).get("ucd")
    return {"ucd": ucd} if ucd else None


def _is_unicode(column: Column) -> bool:
    """Whether a column is of text that can be encoded as it is."""
    if column.dtype.kind != "U":
        return False
    try:
        "".join(np.asarray(column).ravel().tolist()).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: Any) -> str:
    """Valid Unicode: a file name's stray bytes become visible escapes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "tolist"):
        value = value.tolist()
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def cells_of(column: Column) -> list[Any]:
    """Python values, None where masked; single precision keeps its own short decimals."""
    values = _shortest(column).tolist()
    for place in np.flatnonzero(_mask(column)):
        values[place] = None
    return values


def _shortest(column: Column) -> np.ndarray:
    """The values, single precision as the double that has its short decimals.

    0.1 in float32 is 0.10000000149 in float64: noise that nobody measured.
    """
    import pyarrow

    values = np.asarray(column)
    if values.dtype.kind != "f" or values.dtype.itemsize > 4:
        return values
    if values.dtype.itemsize < 4:
        return values.astype(str).astype(np.float64)
    flat = pyarrow.array(values.ravel().astype(np.float32, copy=False))
    text = flat.cast(pyarrow.string())
    return text.cast(pyarrow.float64()).to_numpy(zero_copy_only=False).reshape(values.shape)


def _mask(column: Column) -> np.ndarray:
    """Which rows have no value at all."""
    mask: np.ndarray = np.asarray(getattr(column, "mask", False))
    if mask.ndim > 1:
        return np.all(mask.reshape(len(column), -1), axis=1)
    return mask


def json_value(value: Any) -> Any:
    """As JSON has it: null for whatever is masked or not finite."""
    if isinstance(value, dict):
        return {name: json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, str | bytes):
        return as_text(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def json_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a table that `plain` made, as JSON objects."""
    columns = []
    for column in table.itercols():
        cells = cells_of(column)
        if column.ndim > 1:
            cells = [json_value(cell) for cell in column.tolist()]
        elif column.dtype.kind == "f":
            for place in np.flatnonzero(~np.isfinite(np.asarray(column))):
                cells[place] = None
        elif column.dtype.kind not in "biuU":
            cells = [json_value(cell) for cell in cells]
        columns.append(cells)
    for row in zip(*columns, strict=True):
        yield dict(zip(table.colnames, row, strict=True))


def stacked(chunks: Sequence[Table]) -> Table:
    """One table of chunks with the same columns; without chunks, one without columns."""
    from astropy.table import Table, vstack

    return vstack(list(chunks), metadata_conflicts="silent") if chunks else Table()


# --- cells as text --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Style:
    """How a text format writes cells that need more than their digits.

    Parameters
    ----------
    masked, nan, inf, minus_inf : str
        What stands for no value, for a number that is none, and for the infinite ones.
    true, false : str
    text : callable
        Quotes or escapes a text.
    list : callable
        Writes a cell of several values.
    """

    masked: str
    nan: str
    inf: str
    minus_inf: str
    true: str
    false: str
    text: Callable[[str], str]
    list: Callable[[Any], str]


def _text_cells(column: Column, style: _Style) -> list[str]:
    """The cells of a column of `plain`, as they are written."""
    kind = column.dtype.kind
    if column.ndim > 1:
        texts = [style.list(cell) for cell in column.tolist()]
    elif kind == "f":
        texts = _float_cells(np.asarray(column), style)
    elif kind in "iu":
        texts = list(map(str, np.asarray(column).tolist()))
    elif kind == "b":
        names = style.false, style.true
        texts = [names[value] for value in np.asarray(column).tolist()]
    else:
        texts = [style.text(str(value)) for value in np.asarray(column).tolist()]
    for place in np.flatnonzero(_mask(column)):
        texts[place] = style.masked
    return texts


def _float_cells(values: np.ndarray, style: _Style) -> list[str]:
    """Numbers in the fewest digits that give them back."""
    import pyarrow

    kind = np.float32 if values.dtype.itemsize == 4 else np.float64
    values = np.ascontiguousarray(values, kind)
    # From the buffer, since pyarrow imports pandas to look at an array.
    cells = pyarrow.Array.from_buffers(
        pyarrow.from_numpy_dtype(values.dtype), len(values), [None, pyarrow.py_buffer(values)]
    )
    texts: list[str] = cells.cast(pyarrow.string()).to_pylist()
    for place in np.flatnonzero(values == np.trunc(values)):
        texts[place] = repr(float(texts[place]))  # 1.0, not 1
    for wrong, text in (
        (np.isnan(values), style.nan),
        (np.isposinf(values), style.inf),
        (np.isneginf(values), style.minus_inf),
    ):
        for place in np.flatnonzero(wrong):
            texts[place] = text
    return texts


# What must be quoted: what separates cells and rows, and what readers would strip or take for a
# comment.
_TO_QUOTE = re.compile(r'[",\r\n]|^[\s#]|\s$')


# What astropy's readers end a line at, even within quotes; in ECSV line feeds too.
_ODD_BREAKS = re.compile(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_BREAKS = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# What XML 1.0 has no place for (https://www.w3.org/TR/xml/#charsets); a carriage return comes back
# as a line feed.
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _quoted(text: str) -> str:
    text = _ODD_BREAKS.sub(_escaped, text)
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text


def _quoted_in_ecsv(text: str) -> str:
    """Empty text is quoted, and so told from no value."""
    return _quoted(_BREAKS.sub(_escaped, text)) or '""'


def _xml_text(text: str) -> str:
    return escape(_NOT_XML.sub(_escaped, text))


def _json_cell(value: Any) -> str:
    return _quoted(json.dumps(json_value(value)))


def _ecsv_cell(value: Any) -> str:
    return _quoted(json.dumps(value, separators=(",", ":"), default=as_text))


def _votable_cell(value: Any) -> str:
    flat = np.ma.MaskedArray(value, dtype=object).ravel().tolist()
    return _xml_text(" ".join(map(_votable_number, flat)))


def _votable_number(value: Any) -> str:
    if isinstance(value, bool):
        return "TF"[not value]
    return "NaN" if value is None or value != value else as_text(value)


_CSV = _Style("", "", "inf", "-inf", "True", "False", _quoted, _json_cell)
_ECSV = _Style("", "nan", "inf", "-inf", "True", "False", _quoted_in_ecsv, _ecsv_cell)
_VOTABLE = _Style("", "NaN", "+InF", "-InF", "T", "F", _xml_text, _votable_cell)
_JSON = _Style(
    *("null",) * 4, "true", "false", json.encoder.encode_basestring,
    lambda value: json.dumps(json_value(value), ensure_ascii=False),
)  # fmt: skip


def _csv_lines(table: Table, style: _Style) -> str:
    """The rows, each with its line feed."""
    columns = [_text_cells(column, style) for column in table.itercols()]
    if len(columns) == 1:  # an empty line is no row
        columns = [[cell or '""' for cell in columns[0]]]
    return "".join(f"{line}\n" for line in map(",".join, zip(*columns, strict=True)))


# --- files that grow ------------------------------------------------------------------------


@contextmanager
def _growing(path: Path) -> Iterator[BinaryIO]:
    """A file to append to, without a buffer: after an error nothing is left to be written."""
    with path.open("ab", buffering=0) as file:
        yield file


def _append(file: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]  # a disk that is nearly full takes a part


@contextmanager
def _csv(path: Path, provenance: Provenance) -> Iterator[Write]:
    with _growing(path) as file:
        has_header = file.tell() > 0

        def write(table: Table) -> None:
            nonlocal has_header
            _append(file, (_csv_header(table, has_header) + _csv_lines(table, _CSV)).encode())
            has_header = True

        yield write


def csv_rows(file: TextIO) -> Write:
    """What writes CSV into an open file."""
    has_header = False

    def write(table: Table) -> None:
        nonlocal has_header
        file.write(_csv_header(table, has_header) + _csv_lines(table, _CSV))
        has_header = True
        file.flush()  # who reads along, reads whole chunks

    return write


def _csv_header(table: Table, is_there: bool) -> str:
    return "" if is_there else ",".join(map(_quoted, table.colnames)) + "\n"


@contextmanager
def _ecsv(path: Path, provenance: Provenance) -> Iterator[Write]:
    import io

    from astropy.table import Table

    def header(table: Table) -> str:
        empty = table[:0]
        empty.meta = dict(provenance)
        text = io.StringIO()
        empty.write(text, format="ascii.ecsv", delimiter=",")
        return text.getvalue()

    with _growing(path) as file:
        has_header = file.tell() > 0

        def write(table: Table) -> None:
            nonlocal has_header
            start = "" if has_header else header(table)
            _append(file, (start + _csv_lines(table, _ECSV)).encode())
            has_header = True

        yield write
        if not has_header:
            write(Table())


@contextmanager
def _jsonl(path: Path, provenance: Provenance) -> Iterator[Write]:
    def write(table: Table) -> None:
        names = [json.dumps(name, ensure_ascii=False) for name in table.colnames]
        line = "{" + ", ".join(f"{name.replace('%', '%%')}: %s" for name in names) + "}\n"
        columns = [_text_cells(column, _JSON) for column in table.itercols()]
        _append(file, "".join(line % row for row in zip(*columns, strict=True)).encode())

    with _growing(path) as file:
        yield write


@contextmanager
def arrow_streams(path: Path, provenance: Provenance) -> Iterator[Write]:
    """Every chunk as an Arrow stream of its own, one after the other.

    https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
    """
    import pyarrow

    with _growing(path) as file:

        def write(table: Table) -> None:
            chunk = _arrow(table)
            buffer = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(buffer, chunk.schema) as stream:
                stream.write_table(chunk)
            _append(file, buffer.getvalue().to_pybytes())

        yield write


def _arrow(table: Table) -> pyarrow.Table:
    """A chunk as an Arrow table; units, UCDs and descriptions are metadata of the fields."""
    import pyarrow

    fields, arrays = [], []
    for column in table.itercols():
        is_text = column.dtype.kind not in "biuf"
        kind = (
            pyarrow.string()
            if is_text
            else pyarrow.from_numpy_dtype(column.dtype.newbyteorder("="))
        )
        if column.ndim == 2 and column.shape[1] and not is_text and not np.any(_mask(column)):
            flat = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))
            places = pyarrow.array(np.arange(len(flat) + 1) * flat.shape[1], pyarrow.int32())
            kind = pyarrow.list_(kind)
            array = pyarrow.ListArray.from_arrays(places, pyarrow.array(np.asarray(flat).ravel()))
        elif column.ndim > 1 or is_text:
            values = column.tolist()
            if is_text and column.dtype.kind != "U":
                values = json_value(values)
            for _ in column.shape[1:]:
                kind = pyarrow.list_(kind)
            array = pyarrow.array(values, kind)
        else:
            own = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))
            mask = np.broadcast_to(_mask(column), own.shape)
            array = pyarrow.array(np.asarray(own), kind, mask=mask if mask.any() else None)
        said = {key: as_text(value) for key, value in schema.about(column).items()}
        fields.append(pyarrow.field(column.name, kind, metadata=said or None))
        arrays.append(array)
    return pyarrow.table(arrays, pyarrow.schema(fields))


# --- formats that are made from a file of Arrow streams -------------------------------------


def blocks(grown: Path) -> Iterator[pyarrow.Table]:
    """The rows that `arrow_streams` wrote, in blocks of about `BLOCK`; one at least, if empty.

    Parameters
    ----------
    grown : Path
    """
    import pyarrow

    waiting: list[pyarrow.Table] = []
    size = grown.stat().st_size
    is_any = False
    with pyarrow.OSFile(str(grown)) as file:
        while file.tell() < size:
            with pyarrow.ipc.open_stream(file) as stream:
                waiting.append(stream.read_all())
            if sum(map(len, waiting)) >= BLOCK or sum(t.nbytes for t in waiting) >= BLOCK_BYTES:
                yield pyarrow.concat_tables(waiting)
                is_any = True
                waiting.clear()
    if waiting or not is_any:
        yield pyarrow.concat_tables(waiting) if waiting else pyarrow.table({})


def _to_parquet(grown: Path, path: Path, provenance: Provenance) -> None:
    from pyarrow.parquet import ParquetWriter

    every = blocks(grown)
    first = next(every)
    fields = first.schema.with_metadata(dict(provenance))
    with ParquetWriter(path, fields) as writer:
        for block in _all(first, every):
            writer.write_table(block.replace_schema_metadata(dict(provenance)))


# So much of a comment goes onto a card with a short value.
COMMENT = 47
# The name of the table in a FITS file.
EXTNAME = "RESULTS"
# Words that mean something else in a header (FITS 4.0, appendix C).
_RESERVED = {
    "SIMPLE", "BITPIX", "NAXIS", "END", "XTENSION", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP",
    "EXTEND", "GROUPS", "EXTNAME", "EXTVER", "EXTLEVEL", "BSCALE", "BZERO", "BUNIT", "BLANK",
    "OBJECT", "OBSERVER", "TELESCOP", "INSTRUME", "EQUINOX", "EPOCH", "AUTHOR", "REFERENC",
    "COMMENT", "HISTORY", "CONTINUE", "CHECKSUM", "DATASUM", "RADESYS", "TIMESYS", "DATAMAX",
    "DATAMIN",
}  # fmt: skip


def to_fits(
    grown: Path,
    path: Path,
    provenance: Provenance,
    extname: str = EXTNAME,
    images: Sequence[Any] = (),
) -> None:
    """Make a FITS file of one that `arrow_streams` let grow.

    Parameters
    ----------
    grown, path : Path
    provenance : mapping of str to str
    extname : str
        Of the table.
    images : sequence of astropy.io.fits.ImageHDU
        What stands behind it.
    """
    from io import BytesIO

    from astropy.io import fits

    widths: dict[str, int] = {}
    masked: set[str] = set()
    types: dict[str, np.dtype] = {}
    rows = 0
    for block in blocks(grown):
        table = _common(block, types)
        rows += len(table)
        for column in table.itercols():
            if column.dtype.kind == "U":
                texts = map(str.encode, np.asarray(column).ravel().tolist())
                longest = max(map(len, texts), default=0)
                widths[column.name] = max(widths.get(column.name, 1), longest)
            if np.any(_mask(column)):
                masked.add(column.name)
    with path.open("wb") as file:
        for number, block in enumerate(blocks(grown)):
            hdu = fits.table_to_hdu(_for_fits(_common(block, types), widths, masked))
            if number == 0:
                header = hdu.header.copy()
                header["NAXIS2"] = rows
                header["EXTNAME"] = extname
                _describe(header, block)
                add_provenance(header, provenance)
                file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
                file.write(header.tostring().encode("ascii"))
            buffer = BytesIO()
            hdu.writeto(buffer)
            with fits.open(BytesIO(buffer.getvalue())) as written:
                begin = written[1].fileinfo()["datLoc"]
            size = hdu.header["NAXIS1"] * hdu.header["NAXIS2"]
            file.write(buffer.getbuffer()[begin : begin + size])
        file.write(bytes(-file.tell() % 2880))
        for image in images:
            buffer = BytesIO()
            image.writeto(buffer)  # behind a primary HDU of its own, which is left out
            with fits.open(BytesIO(buffer.getvalue())) as written:
                begin = written[1].fileinfo()["hdrLoc"]
            file.write(buffer.getbuffer()[begin:])


def _describe(header: Any, block: pyarrow.Table) -> None:
    """Say what each column is: beside its name, and, as TOPCAT reads it, in TCOMM and TUCD."""
    for number, field in enumerate(block.schema, 1):
        said = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        name = f"TTYPE{number}"
        if description := _ascii(said.get("description", "")):
            longer = max(0, len(str(header[name])) - 18)
            header.comments[name] = description[: max(0, COMMENT - longer)]
            header.set(f"TCOMM{number}", description, after=name)
        if ucd := _ascii(said.get("ucd", "")):
            header.set(f"TUCD{number}", ucd, after=name)


def _ascii(text: str) -> str:
    """The text as cards can hold it."""
    return text.encode("unicode_escape").decode("ascii")


def add_provenance(header: Any, provenance: Provenance) -> None:
    """Put provenance into a FITS header, under words that the standard leaves free."""
    for key, value in provenance.items():
        keyword = re.sub("[^A-Z0-9]", "", key.upper())[:8] or "KEY"
        if keyword == "DATE":  # the standard's own card, which has UTC and no offset
            value = value.removesuffix("+00:00")
        elif keyword in _RESERVED:
            keyword = f"X{keyword[:7]}"
        while keyword in header:  # two long names that start alike
            keyword = f"{keyword[:6]}{len(header) % 100:02d}"
        header[keyword] = _ascii(value)  # a long value goes on in CONTINUE cards


def _to_votable(grown: Path, path: Path, provenance: Provenance) -> None:
    from io import BytesIO

    from astropy.io import votable

    types: dict[str, np.dtype] = {}
    for block in blocks(grown):
        _common(block, types)
    every = blocks(grown)
    first = next(every)
    document = votable.from_table(_sample(_common(first, types)))
    _add_coordinates(document.resources[0])
    for key, value in provenance.items():
        info = votable.tree.Info(name=key, value=_NOT_XML.sub(_escaped, value))
        document.resources[0].infos.append(info)
    buffer = BytesIO()
    document.to_xml(buffer)
    text = buffer.getvalue().decode()
    start, end = _around_rows(text)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(start)
        for block in _all(first, every):
            columns = [_text_cells(c, _VOTABLE) for c in _common(block, types).itercols()]
            for row in map("</TD><TD>".join, zip(*columns, strict=True)):
                file.write(f"<TR><TD>{row}</TD></TR>\n")
        file.write(end)


def _add_coordinates(resource: Any) -> None:
    """Say of our own positions that they are ICRS."""
    from astropy.io.votable.tree import CooSys

    ours = [schema.BY_NAME["ra"], schema.BY_NAME["dec"]]
    said = [(one.name, one.description) for one in ours]
    fields = [field for table in resource.tables for field in table.fields]
    fields = [field for field in fields if (field.name, field.description) in said]
    if fields:
        resource.coordinate_systems.append(CooSys(ID="icrs", system="ICRS"))
    for field in fields:
        field.ref = "icrs"


def _sample(table: Table) -> Table:
    """A table with the same columns and one row of zeros, texts of any length."""
    from astropy.table import Column, Table

    sample = Table()
    for column in table.itercols():
        is_text = column.dtype.kind == "U"
        zeros = np.zeros((1, *column.shape[1:]), dtype=object if is_text else column.dtype)
        if is_text:
            zeros[...] = ""
        sample[column.name] = Column(
            zeros, unit=column.unit, description=column.description, meta=column.meta
        )
    return sample


def _around_rows(document: str) -> tuple[str, str]:
    """A VOTable, cut before and after its rows; of one without columns, which has none, the end."""
    start, found, rest = document.partition("<TABLEDATA>")
    if not found:
        return document, ""
    # A bit, which astropy makes of a logical, cannot be unknown.
    start = start.replace('datatype="bit"', 'datatype="boolean"')
    return f"{start}{found}\n", rest[rest.index("</TABLEDATA>") :]


def _all(first: Any, others: Iterable[Any]) -> Iterator[Any]:
    yield first
    yield from others


def table_of(block: pyarrow.Table) -> Table:
    """A block as a table, with what is known of its columns."""
    return _common(block, {})


def _common(block: pyarrow.Table, types: dict[str, np.dtype]) -> Table:
    """A block as a table, in types that FITS and VOTable both know.

    Parameters
    ----------
    block : pyarrow.Table
    types : dict
        The type of each column in all blocks so far; widened where this block needs more.
    """
    from spectromer_cli.spectra.catalogues import from_arrow

    table = from_arrow(block)
    for name in table.colnames:
        field = block.schema.field(name).metadata or {}
        said = {key.decode(): value.decode() for key, value in field.items()}
        table[name].unit = said.get("unit")
        table[name].description = said.get("description")
        table[name].meta = {"ucd": said["ucd"]} if "ucd" in said else None
        dtype = table[name].dtype
        if dtype.kind == "u" and dtype.itemsize == 8 and np.any(table[name] > 2**63 - 1):
            types[name] = np.dtype(str)
        elif dtype.kind == "u" or dtype == np.int8:
            types.setdefault(name, np.dtype(np.int64))
        elif dtype.kind == "f" and dtype.itemsize == 2:
            types.setdefault(name, np.dtype(np.float32))
        if (name in types and dtype.kind != types[name].kind) or types.get(name, dtype) != dtype:
            table[name] = table[name].astype(types[name])
    return table


def _for_fits(table: Table, widths: Mapping[str, int], masked: set[str]) -> Table:
    """Text as UTF-8 bytes, and the lowest number of the type (TNULL) for masked integers."""
    from astropy.table import MaskedColumn

    for name in table.colnames:
        column = table[name]
        if column.dtype.kind == "U":
            text = column.filled("") if hasattr(column, "filled") else column
            table[name] = np.char.encode(np.asarray(text), "utf-8").astype(f"S{widths[name]}")
            table[name].unit, table[name].description = column.unit, column.description
        elif name in masked and column.dtype.kind in "bif":
            if column.dtype.kind == "b":  # a FITS logical has no TNULL
                column = column.astype(np.int16)
            table[name] = MaskedColumn(column)
            if column.dtype.kind == "i":
                table[name].fill_value = np.iinfo(column.dtype).min
    return table


# --- which there are ------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A format of tables.

    Parameters
    ----------
    grow : callable
        ``grow(path, provenance)``, a context manager: gives what appends chunks of rows to a file
        that may hold some already.
    finish : callable, optional
        ``finish(grown, path, provenance)``: makes the result from the file that grew; without it,
        that file is the result.
    """

    grow: Callable[[Path, Provenance], Any]
    finish: Callable[[Path, Path, Provenance], None] | None = None


FORMATS: dict[str, Format] = {
    ".csv": Format(_csv),
    ".ecsv": Format(_ecsv),
    ".fits": Format(arrow_streams, to_fits),
    ".vot": Format(arrow_streams, _to_votable),
    ".parquet": Format(arrow_streams, _to_parquet),
    ".jsonl": Format(_jsonl),
}
