"""Write the parts of the documentation that come from the code.

`python docs/generate.py` writes the tables that are kept in the pages. `conf.py` calls `build`,
which writes into `_generated/` what is made anew with every build: the commands, the images and the
card of the default weights.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from spectromer_cli.model import zwarn
from spectromer_cli.outputs import schema

DOCS = Path(__file__).parent
PAGE = DOCS / "reference" / "results.md"
SECTIONS = {
    "columns of classify": schema.markdown(schema.CLASSIFY),
    "columns of redshift": schema.markdown(schema.REDSHIFT),
    "bits of zwarn": zwarn.markdown(),
}
# The spectra whose images are drawn, by name of the file.
DRAWN = ("simulated-sdss-galaxy.fits", "simulated-boss-quasar.fits")


def written(text: str) -> str:
    """The page with its generated parts as they should be."""
    for name, content in SECTIONS.items():
        begin, end = f"<!-- {name}: python docs/{Path(__file__).name} -->\n", "<!-- end -->"
        pattern = f"({re.escape(begin)}).*?({re.escape(end)})"
        text, count = re.subn(pattern, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        assert count == 1, f"{PAGE} has no place for the {name}"
    return text


def build(folder: Path) -> None:
    """Write the generated pages and pictures into a folder."""
    folder.mkdir(exist_ok=True)
    # Kernels call themselves a colour terminal; on a plain one, commands draw no progress bars.
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "terminal.py").write_text("import os\n\nos.environ['TERM'] = 'dumb'\n")
    for name, text in {
        "commands.md": commands(),
        "images.md": images(folder),
        "weights.md": card_of_the_weights(),
        "changelog.md": changelog(),
    }.items():
        page = folder / name
        # A page that did not change is not built again.
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


# Commands ---------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    import typer

    from spectromer_cli.cli.app import app

    program = typer.main.get_command(app)
    return "\n".join(
        part
        for name, command in program.commands.items()  # type: ignore[attr-defined]
        for part in _command(f"spectromer {name}", command)
    )


def _command(name: str, command: Any) -> list[str]:
    inner = getattr(command, "commands", {})
    help_, _, epilog = (command.help or "", None, command.epilog or "")
    parts = [f"## `{name}`\n", _paragraphs(help_), ""]
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    usage = " ".join([name, "[OPTIONS]", *(["COMMAND"] if inner else map(_metavar, arguments))])
    parts += ["```", usage, "```", ""]
    panels: dict[str, list[Any]] = {}
    for param in shown:
        if "--install-completion" in param.opts or "--show-completion" in param.opts:
            continue
        default = "Arguments" if param in arguments else "Options"
        panels.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(param)
    for panel, params in panels.items():
        parts += [f"**{panel}**", ""]
        parts += [row for param in params for row in _definition(param)]
    examples = epilog.removeprefix("Examples:").replace("·", "\n").split("\n")
    lines = [line.strip() for line in examples if line.strip()]
    if lines:
        parts += ["**Examples**", "", "```", *lines, "```", ""]
    for word, one in inner.items():
        parts += [part.replace("## `", "### `", 1) for part in _command(f"{name} {word}", one)]
    return parts


def _definition(param: Any) -> list[str]:
    """One argument or option as an item of a list of definitions."""
    if param.param_type_name == "argument":
        names = f"`{_metavar(param)}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
        if not getattr(param, "is_flag", False) and not getattr(param, "count", False):
            names += f" `{_metavar(param)}`"
    help_ = " ".join((param.help or "").split())
    default = param.default
    shown = getattr(param, "show_default", True)
    if isinstance(shown, str):
        help_ += f" Default: {shown}."
    elif shown and default not in (None, False, True, (), "") and not callable(default):
        help_ += f" Default: `{default}`."
    return [names, f": {_escaped(help_) or '&nbsp;'}", ""]


def _metavar(param: Any) -> str:
    if param.metavar:
        return str(param.metavar)
    kind = getattr(param.type, "name", "") if hasattr(param, "type") else ""
    return (kind if param.param_type_name == "option" and kind else str(param.name)).upper()


def _paragraphs(text: str) -> str:
    return _escaped("\n\n".join(" ".join(part.split()) for part in text.split("\n\n")))


def _escaped(text: str) -> str:
    """Text whose characters Markdown would take for its own."""
    return re.sub(r"([\\*_<>\[\]|$#])", r"\\\1", text)


# Images -----------------------------------------------------------------------------------


def images(folder: Path) -> str:
    """Every image with its summary, its three channels and a picture, as Markdown."""
    from spectromer_cli.images import DEFAULT_IMAGE, IMAGES, get_image

    pictures = folder / "images"
    pictures.mkdir(exist_ok=True)
    parts = []
    for name in IMAGES:
        picture = pictures / f"{name}.png"
        if not picture.exists():
            _draw(name, picture)
        default = " (default)" if name == DEFAULT_IMAGE else ""
        summary = get_image(name).summary
        parts += [f"## `{name}`{default}\n", f"{summary[0].upper()}{summary[1:]}.\n"]
        parts += [f"![The image {name} of a galaxy and a quasar](images/{name}.png)\n"]
    return "\n".join(parts)


def _draw(name: str, picture: Path) -> None:
    """The image of each spectrum in `DRAWN`, side by side."""
    import torch
    from matplotlib.figure import Figure

    from spectromer_cli.images import render
    from spectromer_cli.spectra.grid import Grid, prepare
    from spectromer_cli.spectra.readers import read

    grid = Grid()
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    for axes, file in zip(figure.subplots(1, len(DRAWN)), DRAWN, strict=True):
        (spectrum,) = read(DOCS / "examples" / file)
        prepared = prepare(spectrum, grid)
        flux, ivar = (torch.from_numpy(a)[None] for a in (prepared.flux, prepared.ivar))
        (drawn,) = render(name, flux, ivar, grid)
        axes.imshow(((drawn + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(file.removeprefix("simulated-").removesuffix(".fits"), fontsize=9)
        axes.set_axis_off()
    figure.savefig(picture, dpi=100)


# Weights ----------------------------------------------------------------------------------


def card_of_the_weights() -> str:
    """The card of the default weights."""
    from spectromer_cli.weights.manifest import bundled_manifest

    card = DOCS.parent / "weights" / f"{bundled_manifest().default}.md"
    return card.read_text(encoding="utf-8")


def changelog() -> str:
    """The changelog, its links made for a page in `development/`."""
    text = (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](../").replace("](CONTRIBUTING.md)", "](contributing.md)")


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
