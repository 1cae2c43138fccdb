"""What every reader shares: an opened file, and the spectra found in it."""

from __future__ import annotations

import codecs
import ctypes
import io
import re
import signal
import stat
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np

from spectromer_cli.errors import ReadError, UsageError
from spectromer_cli.spectra.quantities import card, comments_of
from spectromer_cli.spectra.readers import fits_bytes, structure
from spectromer_cli.spectra.readers.fits_bytes import NotPlain
from spectromer_cli.spectra.spectrum import Spectrum, joined

# A spectrum of a million pixels in text has some 60 MB.
MAX_TEXT_BYTES = 200_000_000
# What a file may unpack to, and a part of it take in memory: kilobytes may claim terabytes.
MAX_FILE_SIZE = "2GB"
# Seconds for a file, or for a piece of one that holds many spectra.
FILE_TIMEOUT = 60.0

Kind = Literal["fits", "hdf5", "parquet", "text"]
T = TypeVar("T")


@dataclass(frozen=True)
class ReadOptions:
    """What a user knows about files that do not say it themselves.

    Parameters
    ----------
    air : bool, optional
        The wavelengths are in air (True) or vacuum (False), whatever the file says; None: as it
        says. The surveys' own files are not asked: theirs are known.
    wavelength_unit : str, optional
        Unit of a plain table's wavelengths where the table has none ("Angstrom", "nm", "um").
    max_file_size : int or str
        Bytes that a file may unpack to, and a part of it take in memory; or "500MB", "2GB".
    file_timeout : float
        Seconds for a file, or for a piece of one that holds many spectra; 0 for any time.

    Raises
    ------
    UsageError
        If a limit is none.
    """

    air: bool | None = None
    wavelength_unit: str = ""
    max_file_size: int | str = MAX_FILE_SIZE
    file_timeout: float = FILE_TIMEOUT

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise UsageError("--max-file-size is too small", "give a size such as 2GB")
        if not 0 <= self.file_timeout < 1e8:
            raise UsageError(
                f"invalid --file-timeout {self.file_timeout}", "give seconds, or 0 for no limit"
            )

    @cached_property
    def max_bytes(self) -> int:
        """`max_file_size` in bytes."""
        said = re.fullmatch(
            r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kMGT]?)B?\s*", str(self.max_file_size), re.IGNORECASE
        )
        if said is None:
            raise UsageError(
                f"invalid --max-file-size {self.max_file_size!r}", "give a size such as 2GB"
            )
        return int(float(said[1]) * 1000 ** ["", "k", "m", "g", "t"].index(said[2].lower()))


@dataclass
class Source:
    """A file opened once, so that all readers can look at its structure.

    Parameters
    ----------
    path : Path
        The file.
    kind : {"fits", "hdf5", "parquet", "text"}
        What it is by its first bytes, never by its name.
    opening : callable
        Gives the `handle` at its first use.
    hdus : fits_bytes.Hdus, optional
        Of a FITS file that needs no astropy: what costs no time to open.
    """

    path: Path
    kind: Kind
    opening: Callable[[], Any] = field(repr=False)
    hdus: fits_bytes.Hdus | None = field(default=None, repr=False)

    @cached_property
    def handle(self) -> Any:
        """The open file.

        An ``astropy.io.fits.HDUList``, an ``h5py.File``, a ``pyarrow.parquet.ParquetFile``, or for
        text the decoded ``str``.
        """
        return self.opening()

    @property
    def quick(self) -> Source | None:
        """The same file with its `hdus` in place of the handle; None if there are none."""
        return None if self.hdus is None else Source(self.path, self.kind, lambda: self.hdus)


def without_astropy(source: Source, work: Callable[[Source], T]) -> T:
    """Do what takes long with astropy on the bytes of a plain FITS file.

    Whatever goes wrong there is done again with astropy, so that what is said of a file does not
    depend on it.
    """
    if source.quick is not None:
        try:
            return work(source.quick)
        except (Exception, NotPlain):
            pass
    return work(source)


@dataclass
class Spectra:
    """The spectra of one file, each read on demand.

    Parameters
    ----------
    count : int
        How many there are.
    get : callable
        ``get(row) -> Spectrum`` for ``0 <= row < count``; raises `ReadError` for a spectrum
        that cannot be read, which leaves the others untouched.
    left_out : str
        What else the file holds that is not read, and how many of it.
    """

    count: int
    get: Callable[[int], Spectrum] = field(repr=False)
    left_out: str = ""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Spectrum]:
        return (self.get(row) for row in range(self.count))


class TookTooLong(BaseException):
    """The time of a file is over; no `except Exception` of a library may take it for its own."""


class _Limit(threading.local):
    """Whether this thread is within a limit."""

    holds = False


_limit = _Limit()
# Once more after so many seconds, if a library swallows the first.
_AGAIN = 5.0


def _stop(number: int, frame: Any) -> None:
    raise TookTooLong


@contextmanager
def time_limit(seconds: float, file: str) -> Iterator[None]:
    """Give up what takes too long, unless a library stays in compiled code.

    Within another limit, that one holds.

    Parameters
    ----------
    seconds : float
        0 for any time.
    file : str
        For the message.

    Raises
    ------
    ReadError
        If the time is over.
    """
    if not seconds or _limit.holds:
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    by_signal = main and hasattr(signal, "setitimer")
    _limit.holds = True
    try:
        with _stopped_by_signal(seconds) if by_signal else _stopped_by_thread(seconds):
            yield
    except TookTooLong:
        raise ReadError(f"{file} took longer than {seconds:g} s", "--file-timeout") from None
    finally:
        _limit.holds = False


@contextmanager
def _stopped_by_signal(seconds: float) -> Iterator[None]:
    """`TookTooLong` is raised in the main thread when the time is over."""
    before = signal.signal(signal.SIGALRM, _stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _stopped_by_thread(seconds: float) -> Iterator[None]:
    """The same in a thread, or on a system, that gets no signals: a second thread watches."""
    raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
    this, lock, is_over = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not is_over.wait(wait):
            with lock:
                if not is_over.is_set():
                    raise_in_thread(this, ctypes.py_object(TookTooLong))
            wait = _AGAIN

    watching = threading.Thread(target=watch, daemon=True)
    try:
        watching.start()
        yield
    finally:
        with lock:
            is_over.set()
            raise_in_thread(this, None)  # one that has not arrived yet


@contextmanager
def opened(path: Path, options: ReadOptions | None = None) -> Iterator[Source]:
    """Open `path` as what its first bytes say it is, packed by gzip, bzip2, xz or zstd or not.

    Parameters
    ----------
    path : Path
    options : ReadOptions, optional
        How large the file may be, and how long it may stay open.

    Raises
    ------
    ReadError
        If there is no such file, it is empty, truncated, larger than allowed, or no format
        known here; or if the time is over.
    """
    options = options or ReadOptions()
    limit = options.max_bytes
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise ReadError(f"{path} is a folder or a device, not a file", "give the files in it")
        with path.open("rb") as file:
            magic = file.read(LOOK)
    except FileNotFoundError:
        raise ReadError(f"{path} does not exist", "check the name") from None
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
        reason = getattr(error, "strerror", None) or error
        raise ReadError(f"{path} cannot be opened: {reason}", "check the name") from error
    with ExitStack() as stack:
        stack.enter_context(time_limit(options.file_timeout, str(path)))
        plain, magic = stack.enter_context(_unpacked(path, magic, limit))
        if not magic:
            raise ReadError(f"{path} is empty", "download the file again")
        _refuse_archives(path, magic)
        kind = _kind(magic)
        if kind == "fits":
            hdus = stack.enter_context(_plain_hdus(path, plain, limit))
            yield Source(path, kind, lambda: stack.enter_context(_open_fits(path, plain)), hdus)
            return
        openers = {"hdf5": _open_hdf5, "parquet": _open_parquet, "text": _open_text}
        handle = stack.enter_context(openers[kind](path, plain))
        yield Source(path, kind, lambda: handle)


def _kind(magic: bytes) -> Kind:
    # A FITS file has no line ends; a text may begin with the cards of one.
    if magic.startswith(b"SIMPLE") and b"\n" not in magic:
        return "fits"
    if magic.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if magic.startswith(b"PAR1"):
        return "parquet"
    return "text"


# --- packed files -----------------------------------------------------------------------------

# So many bytes tell what a file is.
LOOK = 300
# What is unpacked stays in memory up to this many bytes, and beyond in a temporary file.
_IN_MEMORY = 1 << 25
# Headers lie tens of kilobytes apart: few calls read them all.
_BUFFER = 1 << 16
# A file, or what was packed in one.
Plain = Path | io.BytesIO
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# What may hold any number of files, or needs a program of its own: by the first bytes, how.
_ARCHIVES = {
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unzip it, or save the sheet as CSV"),
    b"\x1f\x9d": ("compressed by compress", "uncompress it"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x it"),
}


def _unpacking(kind: str, path: Path) -> Any:
    """The unpacked file, to be read in pieces."""
    if kind == "gzip":
        import gzip

        return gzip.open(path)
    if kind == "bzip2":
        import bz2

        return bz2.open(path)
    if kind == "xz":
        import lzma

        return lzma.open(path)
    import pyarrow

    return pyarrow.input_stream(path, compression="zstd")


@contextmanager
def _unpacked(path: Path, magic: bytes, limit: int) -> Iterator[tuple[Plain, bytes]]:
    """The file itself, or what it holds unpacked, and its first bytes."""
    kind = next((kind for start, kind in _PACKED.items() if magic.startswith(start)), "")
    if not kind:
        yield path, magic
        return
    import lzma
    import shutil
    import tempfile
    import zlib

    with ExitStack() as stack:
        plain: Plain = io.BytesIO()
        file: Any = plain
        first, size, is_text = b"", 0, False
        try:
            with _unpacking(kind, path) as packed:
                while piece := packed.read(1 << 20):
                    if not size:
                        first = piece[:LOOK]
                        is_text = _kind(first) == "text"
                    size += len(piece)
                    if is_text and size > MAX_TEXT_BYTES:
                        raise ReadError(
                            f"{path} unpacks to more than {MAX_TEXT_BYTES / 1e6:.0f} MB of text",
                            "split it into one table per spectrum",
                        )
                    if size > limit:
                        raise ReadError(
                            f"{path} unpacks to more than {limit / 1e9:.2g} GB",
                            "raise the limit with --max-file-size",
                        )
                    if size > _IN_MEMORY and isinstance(plain, io.BytesIO):
                        folder = tempfile.TemporaryDirectory(prefix="spectromer-")
                        before, plain = plain, Path(stack.enter_context(folder)) / "unpacked"
                        file = stack.enter_context(plain.open("wb"))
                        before.seek(0)
                        shutil.copyfileobj(before, file)
                    file.write(piece)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise ReadError(
                f"{path} is a damaged {kind} file: {error}", "download it again"
            ) from error
        if isinstance(plain, Path):
            file.close()
        else:
            plain.seek(0)
        yield plain, first


def _length(plain: Plain) -> int:
    return plain.stat().st_size if isinstance(plain, Path) else plain.getbuffer().nbytes


def _binary(plain: Plain) -> AbstractContextManager[BinaryIO]:
    """A file for reading."""
    return plain.open("rb", _BUFFER) if isinstance(plain, Path) else nullcontext(plain)


def _refuse_archives(path: Path, magic: bytes) -> None:
    """Say how to unpack what holds other files.

    Raises
    ------
    ReadError
        If it does.
    """
    for start, (what, how) in _ARCHIVES.items():
        if magic.startswith(start):
            raise ReadError(f"{path} is {what}", f"unpack it first: {how}")
    if magic[257:262] == b"ustar":
        raise ReadError(f"{path} is a tar archive", "unpack it first: tar xf")


# --- each kind ----------------------------------------------------------------------------------


@contextmanager
def _plain_hdus(path: Path, plain: Plain, limit: int) -> Iterator[fits_bytes.Hdus | None]:
    """The HDUs of a FITS file by their bytes, where these are in order; None where they are not.

    Raises
    ------
    ReadError
        If the file cannot be what its headers claim.
    """
    import warnings

    length = _length(plain)
    with _binary(plain) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            extents = structure.check(file, length, limit)
        except ReadError as error:
            raise ReadError(f"{path}: {error}", error.hint) from None
        yield fits_bytes.hdus_of(file, extents, length)


@contextmanager
def _open_fits(path: Path, plain: Plain) -> Iterator[Any]:
    import warnings

    from astropy.io import fits

    length = _length(plain)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if not isinstance(plain, Path):
                plain.seek(0)
            # Mapped files cannot be read where integers are scaled, as masks are.
            hdus = fits.open(plain, memmap=False)
            len(hdus)  # reads every header
        except Exception as error:  # astropy raises whatever a damaged header leads to
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ReadError(
                f"{path} is not a whole FITS file: {reason}", "download it again"
            ) from error
    # Old files break the standard in harmless ways, but a part of a file must not pass for it.
    messages = [str(warning.message) for warning in said]
    if any("truncated" in m or ("validating header" in m and length % 2880) for m in messages):
        hdus.close()
        raise ReadError(f"{path} is cut off: its end is missing", "download it again")
    with hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield hdus


@contextmanager
def _open_hdf5(path: Path, plain: Plain) -> Iterator[Any]:
    import h5py

    try:
        handle = h5py.File(plain, "r")
    except OSError as error:
        raise ReadError(f"{path} is a damaged HDF5 file: {error}", "download it again") from error
    with handle:
        yield handle


@contextmanager
def _open_parquet(path: Path, plain: Plain) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        handle = pyarrow.parquet.ParquetFile(plain)
    except (pyarrow.ArrowException, OSError) as error:
        raise ReadError(
            f"{path} is a damaged Parquet file: {error}", "download it again"
        ) from error
    with handle:
        yield handle


@contextmanager
def _open_text(path: Path, plain: Plain) -> Iterator[str]:
    size = _length(plain)
    if size > MAX_TEXT_BYTES:
        raise ReadError(
            f"{path} is a text file of {size / 1e6:.0f} MB: too large for a spectrum",
            "split it into one table per spectrum, or convert it to a FITS, HDF5 or Parquet table",
        )
    raw = plain.read_bytes() if isinstance(plain, Path) else plain.getvalue()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # spreadsheets on Windows
        yield raw.decode("utf-16", errors="replace")
        return
    if b"\x00" in raw[:4096]:
        raise ReadError(
            f"{path} is a binary file of unknown format",
            "supported are FITS, HDF5, Parquet and text tables",
        )
    try:
        yield raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield raw.decode("latin-1")


@contextmanager
def damaged_headers_named() -> Iterator[None]:
    """Say of a card that cannot be read that it is the header that is damaged.

    Raises
    ------
    ValueError
    """
    try:
        yield
    except Exception as error:
        from astropy.io.fits import VerifyError

        if isinstance(error, VerifyError | OverflowError):
            raise ValueError(f"the header is damaged: {error}") from error
        raise


# --- what a FITS file says beside its data --------------------------------------------------


def header_of(hdus: Any, hdu: Any) -> tuple[Mapping[str, Any], str]:
    """The cards that speak for an HDU, its own before those of the primary HDU, and its comments.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
    hdu : HDU

    Returns
    -------
    header : mapping
    comments : str
        COMMENT and HISTORY of both, a line each.
    """
    own, primary = hdu.header, hdus[0].header
    return ChainMap(own, primary), "\n".join(comments_of(h) for h in (own, primary))


def described(header: Any, number: int) -> str:
    """What a FITS table says about its column `number`, counted from 1: UCD and comments."""
    said = []
    for name in (f"TUCD{number}", f"TUTYP{number}", f"TCOMM{number}", f"TDESC{number}"):
        said.append(str(card(header, name) or ""))
    for name in (f"TTYPE{number}", f"TUNIT{number}", f"TUCD{number}"):
        try:
            said.append(str(header.comments[name]))
        except Exception:  # no such card, or one that cannot be read
            continue
    return " ".join(filter(None, said))


def file_stem(source: Source) -> str:
    """The name of a file without what says its format."""
    return re.sub(r"(\.(fits?|fts|fz|gz|bz2|xz|zst))+$", "", source.path.name, flags=re.IGNORECASE)


# --- several spectra of a FITS file ---------------------------------------------------------

_ARM = re.compile(
    r"(?<![a-z])(blue|red|green|uvb|vis|nir|ir|[bgrzuviyjhk]|(arm|ccd|det)?[ _-]?\d+)(?![a-z\d])"
)
MAX_ARMS = 6
# Arms share less than this part of the shorter one; two objects share nearly all.
MAX_SHARED = 0.3


def is_arm(name: str) -> bool:
    """Whether an extension is called by nothing but an arm, as RED or CCD2."""
    return _ARM.fullmatch(name.strip().lower()) is not None


@dataclass
class Part:
    """A spectrum found in a file, or an arm of one.

    Parameters
    ----------
    name : str
        Of the extension; an arm is known by it.
    identity : str
        The object, where the extension has its own; what belongs to two is not joined.
    get : callable
    """

    name: str
    identity: str
    get: Callable[[], Spectrum] = field(repr=False)


def spectra_of_parts(source: Source, parts: list[Part]) -> Spectra:
    """The spectra of a file in order, arms of one object joined to one.

    Arms are extensions whose names differ by no more than an arm's name or a number and whose
    wavelengths hardly overlap.
    """
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        base = _ARM.sub("", part.name.strip().lower()).strip(" _-")
        groups.setdefault((base, part.identity), []).append(part)
    found: list[Callable[[], Spectrum]] = []
    for group in groups.values():
        whole = _joined(group) if 1 < len(group) <= MAX_ARMS else None
        found += [part.get for part in group] if whole is None else [_giving(whole)]
    stem = file_stem(source)

    def get(row: int) -> Spectrum:
        spectrum = found[row]()
        if len(found) > 1 and spectrum.meta.get("object_id") == stem:
            return replace(spectrum, meta=spectrum.meta | {"object_id": f"{stem}[{row}]"})
        return spectrum

    return Spectra(len(found), get)


def _giving(spectrum: Spectrum) -> Callable[[], Spectrum]:
    return lambda: spectrum


def _joined(parts: list[Part]) -> Spectrum | None:
    """One spectrum of its arms; None if they are not arms, or one of them cannot be read."""
    try:
        arms = sorted((part.get() for part in parts), key=lambda arm: float(arm.wavelength[0]))
    except Exception:  # a damaged one is refused when it is asked for, and costs no other
        return None
    for blue, red in pairwise(arms):
        shorter = min(np.ptp(blue.wavelength), np.ptp(red.wavelength))
        if blue.wavelength[-1] - red.wavelength[0] > MAX_SHARED * shorter:
            return None
    return joined(arms)
