"""The documents as a site: Sphinx with MyST and furo. `make site` builds it, without a network.

Two things are not in the pages, which are plain Markdown and read the same on GitHub:

- The tree of pages is taken from the links of `index.md`, so that what the index leaves out is a warning.
- `<!-- made with the site: NAME -->` is replaced by what `site_parts.py` makes of the code and the configuration.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from site_parts import PARTS

project = "Backbeat"
html_title = "Backbeat"
language = "en"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_*"]
nitpicky = True

# As GitHub makes them, down to the headings of single commands.
myst_heading_anchors = 4
# A block without a language is what a program printed.
highlight_language = "text"
copybutton_exclude = ".linenos, .gp, .go"

# In the docstrings a word in single backquotes is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_preserve_defaults = True
# Other projects' names would need their inventories, which are on the network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!backbeat\.).*"),
    # What checks a type, what stands for one, and what is not for other programs.
    ("py:.*", r"backbeat\..*\.(_\w+|\w+T|ComputePrices)"),
]
# The fields of a named tuple are described once.
napoleon_use_ivar = True

html_theme = "furo"
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6b61",
        "color-brand-content": "#0b6b61",
        "color-brand-visited": "#0b6b61",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5cc9bb",
        "color-brand-content": "#5cc9bb",
        "color-brand-visited": "#5cc9bb",
    },
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# For `make links`: addresses that answer to people only, or to nobody.
linkcheck_ignore = [r"http://127\.0\.0\.1"]

MADE = re.compile(r"<!-- made with the site: ([\w.]+) -->")


def complete(app: Sphinx, document: str, source: list[str]) -> None:
    """Fill in what is made with the site; add the tree of pages to the index."""
    # The tests look at the rest many times; importing PyTorch takes longer than all of it.
    left_out = ("backbeat.",) if app.tags.has("without_modules") else ()
    source[0] = MADE.sub(lambda mark: "" if mark[1].startswith(left_out) else PARTS[mark[1]](), source[0])
    if document == "index":
        source[0] += page_tree(source[0])


def page_tree(index: str) -> str:
    """Return a hidden table of contents for each section of the index, of the pages that it links to."""
    trees = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        caption, _, body = section.partition("\n")
        pages = "\n".join(re.findall(r"\]\(([\w/-]+\.md)\)", body))
        trees.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n")
    return "".join(trees)


def open_to_keys(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:  # noqa: ARG001
    """Add what Sphinx and furo leave out for readers without a mouse or a screen.

    Headings of the navigation get their level; tables and blocks that scroll in themselves can be reached by keys.
    """
    context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )
    body = context.get("body", "").replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    context["body"] = body.replace("<pre>", '<pre tabindex="0">')


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", complete)
    # After furo has put it there.
    app.connect("html-page-context", open_to_keys, priority=900)
