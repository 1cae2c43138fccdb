"""Files from the Hugging Face hub, its errors told in a line."""

from __future__ import annotations

from pathlib import Path

from spectromer_cli.errors import NetworkError, UsageError

PREFIX = "hf-hub:"


def hub_file(repository: str, file: str, force: bool) -> Path:
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

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If `repository` is not such a name.
    NetworkError
        If the hub cannot be reached, or has no such repository or file.
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
    try:
        return Path(hf_hub_download(repository, file, force_download=force))
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
            f"{name} has no file {file}", "is it a repository of spectromer weights?"
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(f"{name} cannot be downloaded ({reason})", "try again later") from error
