"""Files on disk: the cache, the weights that ship with the package, safe writing, hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spectromer_cli.errors import SpectromerError, UsageError

# No new folder is called that: whoever asks for it wants a file.
NAMES_OF_FILES = {".png", ".pdf", ".svg", ".jpg", ".html", ".csv", ".ecsv", ".fits", ".json"}


def cache_dir() -> Path:
    """The user's cache folder; the environment variable ``SPECTROMER_CACHE`` overrides it."""
    override = os.environ.get("SPECTROMER_CACHE")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("spectromer")


def cache_folder(name: str) -> Path:
    """A folder of the user's cache, created if missing.

    The cache is marked as one (CACHEDIR.TAG, https://bford.info/cachedir), so that backup
    programs skip it.

    Raises
    ------
    SpectromerError
        If it cannot be created.
    """
    folder = cache_dir() / name
    tag = cache_dir() / "CACHEDIR.TAG"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not tag.exists():
            tag.write_text(
                "Signature: 8a477f597d28d172789f06886806bc55\n"
                "# This file marks the cache of spectromer. See https://bford.info/cachedir\n"
            )
    return folder


def bundled_weights_dir() -> Path:
    """The folder of the weights that came with the program.

    A wheel carries them inside the package; a source checkout has them beside it.
    """
    return _bundled("_weights", "weights")


def bundled_examples_dir() -> Path:
    """The folder of the simulated example spectra that came with the program."""
    return _bundled("_examples", "docs/examples")


def _bundled(in_package: str, in_checkout: str) -> Path:
    inside = Path(__file__).parent / in_package
    return inside if inside.is_dir() else Path(__file__).parent.parent / in_checkout


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, moved onto it when the block ends well.

    Readers never see half a file: after an error or Ctrl-C the temporary file is removed
    and whatever `target` held before is still there. The suffix is kept, because writers
    choose their format by it.

    Raises
    ------
    UsageError
        If the folder does not exist or cannot be written.
    """
    with scratch_path(target) as temporary:
        yield temporary
        # Writers may have created it again, with private permissions.
        _make_readable(temporary)
        temporary.replace(target)


@contextmanager
def scratch_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, of the same suffix, removed when the block ends.

    Raises
    ------
    UsageError
        If the folder does not exist or cannot be written.
    """
    require_writable_folder(target)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        _make_readable(temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _make_readable(path: Path) -> None:
    """Results should be as readable as any other new file; mkstemp makes private ones."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


@contextmanager
def disk_errors(target: Path | None) -> Iterator[None]:
    """Say in one line why a file cannot be written.

    None is stdout, whose errors pass through: a closed pipe is not for us to explain.

    Raises
    ------
    SpectromerError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if target is None:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpectromerError(
                f"{target} cannot be written: the disk is full", "free some space and run it again"
            ) from error
        raise SpectromerError(
            f"{target} cannot be written: {error.strerror or error}",
            "check the permissions, shorten the name, or choose another -o",
        ) from error


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable_folder(target: Path) -> None:
    """Check, before any work is done, that `target` can be written later.

    Raises
    ------
    UsageError
        If `target` is a folder, or its own folder is missing or not writable.
    """
    folder = target.parent
    if target.is_dir():
        raise UsageError(f"{target} is a folder, not a file", "give -o a file name")
    if not folder.is_dir():
        raise UsageError(
            f"the folder {folder} does not exist", f"create it first: mkdir -p {folder}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"the folder {folder} cannot be written", "choose another -o or change its permissions"
        )


def make_folder(folder: Path) -> None:
    """Make a folder for results, with those above it.

    Raises
    ------
    UsageError
        If it cannot be created or written, or a new one has the name of a file.
    """
    if folder.suffix.lower() in NAMES_OF_FILES and not folder.is_dir():
        raise UsageError(
            f"-o {folder} is the name of a file, but a folder is written here", "give -o FOLDER"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be created: {error.strerror}", "choose another -o"
        ) from error
    require_writable_folder(folder / "any")


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Hold an output, so that a second run on the same one is refused until the block ends.

    A file beside it, ``NAME.spectromer-lock``, names the host and the process. It is locked too,
    where the system can: what a process that was killed has left is taken over on its host.

    Parameters
    ----------
    target : Path
        A file, or a folder, of the results; it need not exist.

    Raises
    ------
    UsageError
        If another run holds it.
    SpectromerError
        If the disk does not take the file.
    """
    path = target.with_name(f"{target.name}.spectromer-lock")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _take(path, target)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _take(path: Path, target: Path) -> int:
    """Make the lock of a target, or take over what a dead process left; its file descriptor."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_locked = _lock(handle)
            same = path.exists() and os.path.samestat(path.stat(), os.fstat(handle))
            if is_locked is not False and not same:  # its holder has just ended, and removed it
                os.close(handle)
                continue
            holder = _holder(os.read(handle, 1000))
            here = socket.gethostname()
            # Without locks of the system, nobody knows whether the other still runs.
            if is_locked is False or (holder and (holder[0] != here or is_locked is None)):
                raise UsageError(
                    f"another run is writing {target}" + (f" ({_said(holder)})" if holder else ""),
                    f"wait for it, or choose another -o; if it has ended: rm {path}",
                )
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"host": here, "pid": os.getpid()}).encode() + b"\n")
            return handle
        except BaseException:
            os.close(handle)
            raise


def _lock(handle: int) -> bool | None:
    """Lock an open file: whether it was free; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network disks
        return None
    return True


def _holder(text: bytes) -> tuple[str, int] | None:
    try:
        record = json.loads(text)
        return str(record["host"]), int(record["pid"])
    except (ValueError, KeyError, TypeError):
        return None


def _said(holder: tuple[str, int]) -> str:
    return f"process {holder[1]} on {holder[0]}"
