"""`tag`: the one place where elements are made, and where everything that is not one is escaped."""

import unicodedata
from typing import Final

__all__ = ["Child", "Html", "join", "plain", "tag", "text"]

_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


class Html(str):
    """Markup that `tag` made. Any other text is text, and becomes markup by being escaped."""

    __slots__ = ()


Child = str | int | None
"""What an element can hold: markup as it is, text and numbers escaped, None for nothing."""


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """One element.

    An attribute that is None or False is left out, and one that is True has no value. `_` is written as `-`, and one at
    the end of a name, for Python's sake, not at all.

    >>> tag("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'
    """
    opening = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        opening += f" {key.rstrip('_').replace('_', '-')}"
        if value is not True:
            opening += f'="{plain(str(value)).translate(_ESCAPES)}"'
    return Html(f"<{opening}>{join(*children)}</{name}>")


def text(value: str, /, *, lines: bool = False) -> Html:
    r"""Text that the reader sees and the page does not obey.

    What cannot be seen is named: control characters, those that turn the direction of writing, odd spaces, lone
    surrogates. Whoever chooses a file's name does not choose what it looks like.

    Args:
        value: The text.
        lines: Whether it is more than one line: line ends and tabs are what they are.

    >>> text("\u202egnp.exe")
    '<span class="fx-odd" title="RIGHT-TO-LEFT OVERRIDE">U+202E</span>gnp.exe'
    """
    if value.isprintable():
        return Html(value.translate(_ESCAPES))
    kept = "\n\t" if lines else ""
    return Html(
        "".join(char.translate(_ESCAPES) if char.isprintable() or char in kept else _named(char) for char in value)
    )


def plain(value: str, /) -> str:
    r"""The same where there can be no markup, in attributes and pictures; not escaped yet.

    >>> plain("\u202egnp.exe")
    'U+202Egnp.exe'
    """
    return "".join(char if char.isprintable() else f"U+{ord(char):04X}" for char in value)


def join(*children: Child) -> Html:
    """One after the other, with no element around them.

    >>> join("1 < 2", tag("b", "!"))
    '1 &lt; 2<b>!</b>'
    """
    return Html("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Html) else text(str(child))


def _named(char: str) -> Html:
    return tag("span", f"U+{ord(char):04X}", class_="fx-odd", title=unicodedata.name(char, "") or None)
