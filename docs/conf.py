"""Sphinx: Markdown pages through MyST, reference pages from docstrings; every warning is an error in CI."""

import re

import fluxsrc

project = "fluxsrc"
author = "The fluxsrc maintainers"
project_copyright = author
release = version = fluxsrc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"fluxsrc {release}"
exclude_patterns = ["_build"]
suppress_warnings = ["epub.unknown_project_files"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# In docstrings one backtick is code, as in Markdown.
default_role = "code"
autodoc_default_options = {"members": True, "show-inheritance": True, "undoc-members": False}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# No network: references to other people's documentation are not resolved, only those to our own are checked.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!fluxsrc\.).*"), ("py:.*", r"fluxsrc\.(_io|.*\._[a-z]).*")]


def _as_rest(*arguments):
    """Turn the Markdown that docstrings use for blocks, fences and tables, into reStructuredText."""
    lines = arguments[-1]  # after app, what, name, obj and options
    text = "\n".join(lines)
    text = re.sub(r"^([ \t]*)```(\w*)\n(.*?)^\1```$", _block, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?:^\|.*\|\n)+(?:^\|.*\|$)?", _table, text, flags=re.MULTILINE)
    lines[:] = text.split("\n")


def _block(found):
    indent, language, body = found.groups()
    inner = "\n".join(f"   {line}" if line else line for line in body.split("\n"))
    return f"\n{indent}.. code-block:: {language or 'text'}\n\n{inner}\n"


def _table(found):
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in found[0].strip().split("\n")]
    cells = [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-: ")]
    body = "\n".join("   * - " + "\n     - ".join(cell or "\\ " for cell in row) for row in cells)
    return f"\n.. list-table::\n   :header-rows: 1\n\n{body}\n"


def setup(app):
    """Register the docstring filter; it must see the text before napoleon does."""
    app.connect("autodoc-process-docstring", _as_rest, priority=100)
