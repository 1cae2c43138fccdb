"""Write the lists of columns and bits into docs/results.md, from the lists of the program.

python docs/development/write_columns.py
"""

import re
from pathlib import Path

from spectromer_cli.model import zwarn
from spectromer_cli.outputs import schema

PAGE = Path(__file__).parents[1] / "results.md"
SECTIONS = {
    "columns of classify": schema.markdown(schema.CLASSIFY),
    "columns of redshift": schema.markdown(schema.REDSHIFT),
    "bits of zwarn": zwarn.markdown(),
}


def written(text: str) -> str:
    """The page with its generated parts as they should be."""
    for name, content in SECTIONS.items():
        begin, end = (
            f"<!-- {name}: python docs/development/{Path(__file__).name} -->\n",
            "<!-- end -->",
        )
        pattern = f"({re.escape(begin)}).*?({re.escape(end)})"
        text, count = re.subn(pattern, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        assert count == 1, f"{PAGE} has no place for the {name}"
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
