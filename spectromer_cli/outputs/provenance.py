"""How results were made: the one record that every kind of output carries."""

from __future__ import annotations

import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spectromer_cli._version import __version__

HIDDEN = "***"
_TOKEN_OPTION = "--token"
# What an access token of the Hugging Face Hub looks like, wherever it stands.
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")


def provenance(model: Any = None, **further: str) -> dict[str, str]:
    """How results were made, for their header.

    Parameters
    ----------
    model : Spectromer, optional
        The model that made them.
    **further : str
        What else there is to say.

    Returns
    -------
    dict of str to str
        ``version``; of a model ``weights``, ``sha256``, ``image``, ``device`` and
        ``precision``; ``date``
        (UTC); ``command``, in which a token is hidden; and what is said further.
    """
    record = {"version": f"spectromer {__version__}"}
    if model is not None:
        record |= {
            "weights": model.weights.name,
            "sha256": model.weights.sha256,
            "image": f"{model.config.image} {model.config.tokens}x{model.config.tokens}",
            "device": str(model.device),
            "precision": model.precision,
        }
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return record | {"date": date, "command": command_line()} | further


def command_line() -> str:
    """The command that runs, as a shell would take it; a token in it is hidden."""
    program = Path(sys.argv[0])
    if program.stem == "spectromer" or program.parent.name == "spectromer_cli":
        words = ["spectromer"]
    else:  # from Python: a script, or, without a name of its own, the interpreter
        words = ["python" if program.name in ("", "-", "-c") else program.name]
    for word in sys.argv[1:]:
        after_option = words[-1] == _TOKEN_OPTION
        if after_option:
            words.append(HIDDEN)
        elif word.startswith(f"{_TOKEN_OPTION}="):
            words.append(f"{_TOKEN_OPTION}={HIDDEN}")
        else:
            words.append(_HUB_TOKEN.sub(f"hf_{HIDDEN}", shlex.quote(word)))
    return " ".join(words)
