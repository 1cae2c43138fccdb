"""Settings of the documentation: python -m sphinx -W -b html docs docs/_build/html"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from spectromer_cli import __version__  # noqa: E402

project = "spectromer"
author = "the authors of spectromer"
copyright = author
release = version = __version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "_generated", "examples"]
highlight_language = "none"
default_role = "code"
smartquotes = False

html_theme = "pydata_sphinx_theme"
html_title = f"spectromer {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 4
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
autodoc_member_order = "bysource"

# The tutorials are executed, each in a folder of its own, as a user would who has only installed
# the package.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
# Kernels, and the commands in them, run in this environment.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.update(
    NO_COLOR="1", COLUMNS="110", MPLBACKEND="agg", IPYTHONDIR=str(DOCS / "_generated" / "ipython")
)


def setup(app):  # noqa: D103
    import generate

    app.connect("builder-inited", lambda app: generate.build(DOCS / "_generated"))
