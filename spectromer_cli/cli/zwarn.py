"""`spectromer zwarn`: what a number of the column zwarn means."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from spectromer_cli.cli import options
from spectromer_cli.errors import UsageError

EPILOG = """Examples:

spectromer zwarn 133124

spectromer zwarn 4 2048 --json
"""

# As wide as the column is: a signed integer of 32 bits.
LARGEST = 2**31 - 1


def zwarn(
    numbers: Annotated[
        list[str], typer.Argument(metavar="NUMBER...", help="Values of the column zwarn.")
    ],
    as_json: options.Json = False,
) -> None:
    """Explain values of the column zwarn.

    Prints one line per bit that is set: number, bit, value, name and meaning.
    """
    from spectromer_cli.outputs import screen

    rows = [row for text in numbers for row in _explained(_number(text))]
    if as_json:
        print(json.dumps({"zwarn": rows}, indent=2, ensure_ascii=False))
    else:
        screen.print_rows(rows)


def _number(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= LARGEST:
        raise UsageError(f"invalid zwarn {text!r}", f"give whole numbers from 0 to {LARGEST}")
    return number


def _explained(number: int) -> list[dict[str, Any]]:
    """The bits that are set; one row that says so if none is."""
    from spectromer_cli.model.zwarn import MEANINGS, ZWarn

    if not number:
        return [{"zwarn": 0, "bit": None, "value": 0, "name": "", "meaning": "no warning"}]
    bits = [1 << bit for bit in range(number.bit_length()) if number >> bit & 1]
    return [
        {
            "zwarn": number,
            "bit": bit.bit_length() - 1,
            "value": bit,
            "name": str(ZWarn(bit).name) if bit in MEANINGS else "",
            "meaning": MEANINGS[ZWarn(bit)] if bit in MEANINGS else "not used by spectromer",
        }
        for bit in bits
    ]
