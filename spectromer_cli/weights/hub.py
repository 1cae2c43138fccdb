"""Files from the Hugging Face hub, its errors told in a line."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectromer_cli.archives.download import MAX_BYTES
from spectromer_cli.errors import NetworkError, UsageError

PREFIX = "hf-hub:"


def hub_file(repository: str, file: str, force: bool, size: int | None = None) -> Path:
    """A file of a repository, from the hub's cache or downloaded into it.

    Without a network, or with ``HF_HUB_OFFLINE=1``, what the cache holds is used.

    Parameters
    ----------
    repository : str
        ``owner/name``.
    file : str
        Name of the file in it.
    force : bool
        Download it even if it is in the cache.
    size : int, optional
        How many bytes it has. No more are taken; without it, at most `download.MAX_BYTES`.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If `repository` is not such a name.
    NetworkError
        If the hub cannot be reached, has no such repository or file, or sends more than it should.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    name = PREFIX + repository
    options: dict[str, Any] = {"force_download": force}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # since version 1.0
        options["tqdm_class"] = _bounded(f"{name}: {file}", MAX_BYTES if size is None else size)
    try:
        with _quiet():
            return Path(hf_hub_download(repository, file, **options))
    except HFValidationError as error:
        raise UsageError(
            f"{name} is not the name of a repository", "write hf-hub:OWNER/NAME"
        ) from error
    except RepositoryNotFoundError as error:
        raise NetworkError(
            f"{name} does not exist on the hub, or is private",
            "check the name; for a private one log in: hf auth login",
        ) from error
    except LocalEntryNotFoundError as error:
        raise NetworkError(
            f"the hub cannot be reached, and {name} is not in its cache",
            "check the network, and that HF_HUB_OFFLINE is not set",
        ) from error
    except EntryNotFoundError as error:
        raise NetworkError(
            f"{name} has no file {file}", "check that it is a repository of spectromer weights"
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(f"{name} cannot be downloaded ({reason})", "try again later") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hub's client from telling each try: what comes of it is told here."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _bounded(said: str, most: int) -> type:
    """A progress bar for the hub's client, which ends the download after `most` bytes."""
    from huggingface_hub.utils import tqdm

    class Bounded(tqdm):
        _taken = 0

        def update(self, n: float | None = 1) -> bool | None:
            self._taken += int(n or 0)
            if self._taken > most:
                raise NetworkError(
                    f"{said} has more than the {most} bytes expected; it was deleted",
                    "contact the owner of the repository",
                )
            return super().update(n)

    return Bounded
