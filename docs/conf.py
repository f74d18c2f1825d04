"""Sphinx: Markdown pages through MyST, reference pages from docstrings; every warning is an error in CI."""

import inspect
import re

import fluxsrc

project = "fluxsrc"
author = "The fluxsrc maintainers"
project_copyright = author
release = version = fluxsrc.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"fluxsrc {release}"
html_static_path = ["_static"]
html_css_files = ["notebooks.css"]
exclude_patterns = ["_build"]
suppress_warnings = ["epub.unknown_project_files"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The notebooks hold no outputs: each build runs them, in a directory that is gone afterwards. They need no network.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 60

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# No network: references to other people's documentation are not resolved, only those to our own are checked.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!fluxsrc\.).*"),
    ("py:.*", r"fluxsrc\.(_|.*\._).*"),  # private
    ("py:.*", r"fluxsrc(\.\w+){3,}"),  # inside a package whose face does not show it
]


def _as_rest(*arguments):
    """Turn the Markdown that docstrings use, fences, tables, code in one backtick, into reStructuredText."""
    lines = arguments[-1]  # after app, what, name, obj and options
    parts = re.split(r"^([ \t]*)```(\w*)\n(.*?)^\1```$", "\n".join(lines), flags=re.MULTILINE | re.DOTALL)
    text = "".join(
        _block(*parts[start - 3 : start]) + _prose(parts[start]) if start else _prose(parts[0])
        for start in range(0, len(parts), 4)
    )
    lines[:] = text.split("\n")


def _prose(text):
    text = re.sub(r"(?:^\|.*\|\n)+(?:^\|.*\|$)?", _table, text, flags=re.MULTILINE)
    return re.sub(r"(?<![`:\w])`([^`\n]+)`(?!`)", r"``\1``", text)


def _block(indent, language, body):
    inner = "\n".join(f"   {line}" if line else line for line in body.split("\n"))
    return f"\n{indent}.. code-block:: {language or 'text'}\n\n{inner}\n"


def _table(found):
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in found[0].strip().split("\n")]
    cells = [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-: ")]
    body = "\n".join("   * - " + "\n     - ".join(cell or "\\ " for cell in row) for row in cells)
    return f"\n.. list-table::\n   :header-rows: 1\n\n{body}\n"


def _skip_fields(*arguments):
    """Leave out the fields of attrs classes: the class docstring has a section about them."""
    obj = arguments[3]
    # Older versions of Sphinx hand over the descriptor of a slot, newer ones a mark in its place.
    return True if inspect.ismemberdescriptor(obj) or repr(obj) == "SLOTS_ATTR" else None


def setup(app):
    """Register the filters; the one of docstrings must see them before napoleon does."""
    app.connect("autodoc-process-docstring", _as_rest, priority=100)
    app.connect("autodoc-skip-member", _skip_fields)
