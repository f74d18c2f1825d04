"""What a page is put together from: cards, tables, properties, folds, badges, and their one style."""

from collections.abc import Iterable, Sequence
from typing import Final

from fluxsrc._html.markup import Child, Html, tag

__all__ = ["badge", "card", "code", "fold", "note", "properties", "table", "vouched", "wide"]

_STYLE: Final = Html(
    """
.fluxsrc{color:inherit;font-size:.9em;line-height:1.5;max-width:60em;margin:.3em 0}
.fluxsrc bdi,.fluxsrc code{unicode-bidi:isolate;overflow-wrap:anywhere}
.fluxsrc code.fx-code,.fluxsrc pre.fx-patch{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
 font-size:.92em;color:inherit;background:none;border:0;padding:0;margin:0}
.fluxsrc .fx-title{font-weight:600;margin:0 0 .3em}
.fluxsrc .fx-title .fx-badge,.fluxsrc .fx-title .fx-note{margin-left:.6em}
.fluxsrc .fx-note{opacity:.72;font-weight:400}
.fluxsrc p.fx-note{margin:.2em 0}
.fluxsrc .fx-badge{display:inline-block;padding:0 .55em;border-radius:1em;font-size:.88em;font-weight:500;
 background:rgba(128,128,128,.2)}
.fluxsrc .fx-good{background:rgba(46,160,67,.28)}
.fluxsrc .fx-bad{background:rgba(229,83,75,.28)}
.fluxsrc .fx-warn{background:rgba(212,153,23,.3)}
.fluxsrc .fx-odd{font-family:ui-monospace,monospace;font-size:.85em;padding:0 .25em;border-radius:.3em;
 background:rgba(229,83,75,.3)}
.fluxsrc table.fx-table{border-collapse:collapse;border:0;margin:.2em 0;width:auto;color:inherit;background:none;
 font-size:1em;display:table;table-layout:auto;box-shadow:none}
.fluxsrc .fx-table tr,.fluxsrc .fx-table tbody tr:nth-child(odd),.fluxsrc .fx-table tbody tr:nth-child(even),
 .fluxsrc .fx-table tbody tr:hover{background:none;border:0;color:inherit}
.fluxsrc .fx-table th,.fluxsrc .fx-table td{text-align:left;vertical-align:baseline;padding:.16em 1em .16em 0;border:0;
 max-width:none;background:none;color:inherit;white-space:normal;line-height:1.5}
.fluxsrc .fx-table th:last-child,.fluxsrc .fx-table td:last-child{padding-right:0}
.fluxsrc .fx-table th{font-weight:400;white-space:nowrap}
.fluxsrc .fx-table th .fx-dim,.fluxsrc .fx-dim{opacity:.72}
.fluxsrc .fx-properties td{overflow-wrap:anywhere}
.fluxsrc .fx-properties th .fx-dim{display:inline-block;max-width:14em;white-space:normal;overflow-wrap:break-word}
.fluxsrc .fx-grid thead th{border-bottom:1px solid rgba(128,128,128,.45)}
.fluxsrc .fx-grid tbody td{border-bottom:1px solid rgba(128,128,128,.18);white-space:nowrap}
.fluxsrc .fx-table .fx-number{text-align:right;font-variant-numeric:tabular-nums}
.fluxsrc .fx-lines{white-space:pre-wrap}
.fluxsrc .fx-wide{overflow-x:auto}
.fluxsrc details{margin:0;padding:0;border:0;background:none;box-shadow:none}
.fluxsrc summary{cursor:pointer;padding:.05em 0;font-weight:400;background:none}
.fluxsrc .fx-fold{margin:.25em 0}
.fluxsrc .fx-flat{padding-left:1.05em}
.fluxsrc ul.fx-tree{list-style:none;margin:0;padding:0;max-width:46em}
.fluxsrc ul.fx-tree ul{list-style:none;margin:0 0 0 .42em;padding:0 0 0 .95em;border-left:1px solid rgba(128,128,128,.3)}
.fluxsrc ul.fx-tree li{margin:0;padding:0;list-style:none}
.fluxsrc ul.fx-tree li.fx-leaf{padding:.05em 0 .05em 1.05em}
.fluxsrc .fx-leaf,.fluxsrc .fx-flat,.fluxsrc summary{clear:right}
.fluxsrc .fx-side{float:right;opacity:.72;font-variant-numeric:tabular-nums;padding-left:1em}
.fluxsrc pre.fx-patch{overflow-x:auto;white-space:pre;line-height:1.45;margin:.2em 0 .6em 1.05em;padding:.3em 0;
 border-left:2px solid rgba(128,128,128,.3)}
.fluxsrc pre.fx-patch span.fx-line{display:block;padding:0 .7em;min-width:max-content}
.fluxsrc span.fx-line.fx-add{background:rgba(46,160,67,.2)}
.fluxsrc span.fx-line.fx-del{background:rgba(229,83,75,.2)}
.fluxsrc span.fx-line.fx-hunk{opacity:.72}
.fluxsrc svg{display:block;max-width:100%;min-width:36em;height:auto}
"""
)
"""No rule reaches beyond `.fluxsrc`. Most of them undo what notebooks and documentation themes do to tables."""

_POLICY: Final = frozenset({"policy", "oci.level", "oci.statement"})
"""Facts that say what was asked, and of nobody who answered: all there is where a policy accepts everything."""


def card(title: Child, /, *sections: Html | None) -> str:
    """All of an output: what `_repr_html_` returns. Notebooks' formula renderers are told to leave it alone."""
    head = tag("div", title, class_="fx-title") if title is not None else None
    return tag("div", tag("style", _STYLE), head, *sections, class_="fluxsrc tex2jax_ignore mathjax_ignore")


def properties(rows: Iterable[tuple[str, Child]], /) -> Html:
    """Names and values, one pair a row; without the pairs whose value is None."""
    body = [
        tag("tr", tag("th", tag("span", name, class_="fx-dim"), scope="row"), tag("td", value))
        for name, value in rows
        if value is not None
    ]
    return tag("table", tag("tbody", *body), class_="fx-table fx-properties")


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], /, *, right: frozenset[int] = frozenset()) -> Html:
    """Columns under their names; a wide one scrolls by itself.

    Args:
        head: The names.
        rows: The cells, as many in each row as there are names.
        right: Columns of numbers.
    """

    def kind(column: int) -> str | None:
        return "fx-number" if column in right else None

    names = [
        tag("th", tag("span", name, class_="fx-dim"), scope="col", class_=kind(column))
        for column, name in enumerate(head)
    ]
    body = [tag("tr", *(tag("td", cell, class_=kind(column)) for column, cell in enumerate(row))) for row in rows]
    grid = tag("table", tag("thead", tag("tr", *names)), tag("tbody", *body), class_="fx-table fx-grid")
    return wide(grid)


def fold(summary: Child, /, *children: Html | None, is_open: bool = False) -> Html:
    """Something that is one line until it is asked for."""
    return tag("details", tag("summary", summary), *children, class_="fx-fold", open=is_open)


def badge(value: str, /, kind: str = "", *, full: str | None = None) -> Html:
    """A word to be seen first, and what it stands for; the kinds are "", good, warn and bad."""
    return tag("span", value, class_=f"fx-badge fx-{kind}" if kind else "fx-badge", title=full)


def vouched(facts: Sequence[tuple[str, str]], /, *, short: bool = False) -> Html:
    """Whether anybody vouched for it, as the facts of `verify` policies say.

    Who did is for the properties beside it; where there are none (`short`), for those who point at it.
    """
    if not facts:
        return badge("no" if short else "not verified: no policy asked")
    full = ", ".join(f"{name}: {value}" for name, value in facts) if short else None
    names = {name for name, _ in facts}
    if names <= _POLICY:
        return badge("no" if short else "not verified, as configured", "warn", full=full)
    if any(".warning." in name for name in names):
        return badge("with warnings" if short else "verified, with warnings", "warn", full=full)
    return badge("yes" if short else "verified", "good", full=full)


def wide(content: Html, /) -> Html:
    """Something that scrolls by itself where the page is narrower than it can be."""
    return tag("div", content, class_="fx-wide")


def code(value: str, /, *, full: str | None = None) -> Html:
    """A name for machines; `full` is what it was shortened from."""
    return tag("code", value, class_="fx-code", title=full)


def note(value: Child, /) -> Html:
    """A remark of ours, such as what was left out."""
    return tag("p", value, class_="fx-note")
