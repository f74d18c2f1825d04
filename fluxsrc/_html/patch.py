"""One path's difference: `changed` folds it, `patch` shows its lines in colors.

The signs at their beginnings stay: colors alone tell some readers nothing.
"""

from itertools import islice
from typing import Final

from fluxsrc._html.cards import badge, fold, note
from fluxsrc._html.markup import Html, join, tag, text
from fluxsrc._units import plural

__all__ = ["changed", "patch"]

_KINDS: Final = {"+": "fx-line fx-add", "-": "fx-line fx-del", "@": "fx-line fx-hunk", "\\": "fx-line fx-hunk"}
_BADGES: Final = {"added": "good", "removed": "bad", "mode": "warn"}
_MAX_COLUMNS: Final = 2000


def changed(kind: str, path: str, detail: str, diff: str, /, *, at_most: int, is_open: bool = False) -> Html:
    """A path that differs, on one line that unfolds where there are lines to show.

    Args:
        kind: "added", "removed", "changed" or "mode".
        path: The path.
        detail: What is known besides the lines.
        diff: The unified diff, "" if there is none.
        at_most: Lines of it to show.
        is_open: Whether it is unfolded already.
    """
    line = join(badge(kind, _BADGES.get(kind, "")), " ", tag("bdi", path), " ", tag("span", detail, class_="fx-side"))
    if not diff:
        return tag("div", line, class_="fx-fold fx-flat")
    return fold(line, patch(diff, at_most=at_most), is_open=is_open)


def patch(diff: str, /, *, at_most: int) -> Html:
    """The lines of a unified diff, without the two that name the file.

    Args:
        diff: The text, each line with its end.
        at_most: Lines to show; how many more there are is said below them.
    """
    # Only "\n" ends a line of a diff; the file's two names are in its first two.
    lines = diff.removesuffix("\n").split("\n")[2:]
    shown = tag("pre", *map(_line, islice(lines, at_most)), class_="fx-patch")
    if len(lines) <= at_most:
        return shown
    return join(shown, note(f"{plural(len(lines) - at_most, 'more line')} not shown"))


def _line(line: str) -> Html:
    cut = len(line) - _MAX_COLUMNS
    more = tag("span", f" … {plural(cut, 'more character')}", class_="fx-note") if cut > 0 else None
    return tag("span", text(line[:_MAX_COLUMNS] or " ", lines=True), more, class_=_KINDS.get(line[:1], "fx-line"))
