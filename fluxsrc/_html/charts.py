"""Two pictures, as SVG: where something was over time (`steps`), and how large things are (`bars`)."""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from fluxsrc._html.cards import card, wide
from fluxsrc._html.markup import Child, Html, join, plain, tag
from fluxsrc._units import moment, plural, size

__all__ = ["Bar", "Mark", "Picture", "bars", "steps"]

_WIDTH: Final = 760
_BLUE: Final = "#2f81f7"
"""Three times as bright as the dark backgrounds of notebooks, a third as bright as the light ones."""
_ROW: Final = 40
_AXIS: Final = 44
_TOP: Final = 14
_MAX_LANES: Final = 20
_MAX_MARKS: Final = 200
_MAX_BARS: Final = 60
_LABELS: Final = 10
_LABEL_COLUMNS: Final = 26
_LETTER: Final = 6.9
"""Width of a letter of the labels, generously."""
_PLOT: Final = 150
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_INTERVALS: Final = (
    *(1, 5, 15, 30, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY, 91 * _DAY, 182 * _DAY, 365 * _DAY),
)
_MAX_TICKS: Final = 6

_STANDALONE: Final = Html(
    "svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}text{font-family:sans-serif}"
)


@attrs.frozen
class Mark:
    """From this moment on, until the next mark.

    Attributes:
        at: The moment, with a time zone.
        lane: Where: equal names are the same place.
        note: A second line about the place.
    """

    at: dt.datetime
    lane: str
    note: str = ""


@attrs.frozen
class Bar:
    """One thing and its size.

    Attributes:
        label: Its short name.
        note: What to say about it when it is pointed at.
        inner: The smaller size, in bytes.
        outer: The larger size, in bytes.
    """

    label: str
    note: str
    inner: int
    outer: int


@attrs.frozen
class Picture:
    """A picture that notebooks show; `svg` is what to save.

    Attributes:
        title: What it shows, in a sentence, for those who cannot see it.
        width: In pixels.
        height: In pixels.
    """

    title: str
    width: int
    height: int
    _shapes: Html = attrs.field(repr=False)

    @property
    def svg(self) -> str:
        """A file of its own, dark or light as its reader prefers."""
        return self._svg(tag("style", _STANDALONE))

    def inline(self) -> Html:
        """A part of a page, with the color of its text."""
        return wide(self._svg(None))

    def _repr_html_(self) -> str:
        return card(None, self.inline())

    def _repr_svg_(self) -> str:
        return self.svg

    def _svg(self, style: Child) -> Html:
        return tag(
            "svg",
            tag("title", plain(self.title)),
            style,
            self._shapes,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {self.width} {self.height}",
            width=self.width,
            height=self.height,
            role="img",
            aria_label=self.title,
            font_size=12,
            fill="currentColor",
        )


# --- where something was ---------------------------------------------------------------------------------------------


def steps(title: str, marks: Sequence[Mark], /) -> Picture:
    """A line that goes from place to place, one row for each, the newest place on top.

    1. The newest marks, as long as there are rows for their places.
    2. The rows, and each one's label.
    3. The line. What lasts until now has an arrow: how long it lasted is not known here, there is no clock.
    """
    shown = _newest(marks)  # 1
    lanes = list(dict.fromkeys(mark.lane for mark in shown))[::-1]
    notes = {mark.lane: mark.note for mark in shown}
    height = _TOP + _ROW * len(lanes) + _AXIS
    if not shown:
        return Picture(title, _WIDTH, height, _text(0, _TOP + 6, "nothing was seen yet"))
    longest = max(len(_short(line)) for lane in lanes for line in (lane, notes[lane]))
    left, right = longest * _LETTER + 16, _WIDTH - 40
    x = _time_scale(shown, left + 8, right)
    y = {lane: _TOP + _ROW * (place + 0.5) for place, lane in enumerate(lanes)}
    shapes = [_lane(lane, notes[lane], y[lane], left) for lane in lanes]  # 2
    for mark, following in zip(shown, [*shown[1:], None], strict=True):  # 3
        shapes.append(_stay(mark, following, x, y))
    shapes.append(_time_axis(shown, x, height - _AXIS + 8, hidden=len(marks) - len(shown)))
    return Picture(title, _WIDTH, height, join(*shapes))


def _newest(marks: Sequence[Mark]) -> list[Mark]:
    ordered = sorted(marks, key=lambda mark: mark.at)[-_MAX_MARKS:]
    lanes: set[str] = set()
    for place in range(len(ordered) - 1, -1, -1):
        lanes.add(ordered[place].lane)
        if len(lanes) > _MAX_LANES:
            return ordered[place + 1 :]
    return ordered


def _time_scale(marks: Sequence[Mark], left: float, right: float) -> Callable[[dt.datetime], float]:
    first, span = marks[0].at, (marks[-1].at - marks[0].at).total_seconds()
    # The last stay gets some room, and a single one all there is.
    room = (right - left) * (0.88 if span else 0.0)
    return lambda at: left + ((at - first).total_seconds() / span * room if span else 0.0)


def _lane(lane: str, note: str, y: float, left: float) -> Html:
    return join(
        _line(left, y, _WIDTH, y, stroke_opacity="0.18"),
        _text(0, y - 1 if note else y + 4, _short(lane), full=lane, font_family="ui-monospace,monospace"),
        _text(0, y + 13, _short(note), full=note, opacity="0.72", font_size=11) if note else None,
    )


def _stay(mark: Mark, following: Mark | None, x: Callable[[dt.datetime], float], y: dict[str, float]) -> Html:
    start, row = x(mark.at), y[mark.lane]
    end = _WIDTH - 14 if following is None else x(following.at)
    title = tag("title", plain(f"{moment(mark.at)}: {mark.lane} {mark.note}".rstrip()))
    bold: dict[str, str | int] = {"stroke": _BLUE, "stroke_width": 5, "stroke_linecap": "round"}
    return join(
        None if following is None else _line(end, row, end, y[following.lane], stroke_opacity="0.6"),
        tag("g", title, _line(start, row, end, row, **bold), tag("circle", cx=_f(start), cy=_f(row), r=6, fill=_BLUE)),
        tag("path", d=f"M{end:.1f} {row - 7:.1f}l11 7l-11 7z", fill=_BLUE) if following is None else None,
    )


def _time_axis(marks: Sequence[Mark], x: Callable[[dt.datetime], float], y: float, *, hidden: int) -> Html:
    first, last = marks[0].at, marks[-1].at
    said = moment(first) if first == last else f"{moment(first)} to {moment(last)}"
    if hidden:
        said += f"; {plural(hidden, 'earlier move')} not shown"
    return join(
        *(
            join(_line(x(at), y - 8, x(at), y - 3, stroke_opacity="0.6"), _text(x(at), y + 10, label, middle=True))
            for at, label in _ticks(first, last)
        ),
        _text(_WIDTH - 3, y + 29, said, opacity="0.72", font_size=11, text_anchor="end"),
    )


def _ticks(first: dt.datetime, last: dt.datetime) -> Iterable[tuple[dt.datetime, str]]:
    """Round moments between two others."""
    span = (last - first).total_seconds()
    interval = next((each for each in _INTERVALS if span / each <= _MAX_TICKS), math.ceil(span / _MAX_TICKS))
    pattern = "%H:%M:%S" if interval < _MINUTE else "%H:%M" if interval < _DAY else "%Y-%m-%d"
    at = math.ceil(first.timestamp() / interval) * interval
    while at <= last.timestamp():
        tick = dt.datetime.fromtimestamp(at, dt.UTC)
        yield tick, tick.strftime(pattern)
        at += interval


# --- how large things are --------------------------------------------------------------------------------------------


def bars(title: str, items: Sequence[Bar], /, *, inner: str, outer: str) -> Picture:
    """Two bars for each thing, the smaller one before the larger one, in the order given.

    Args:
        title: The picture, in a sentence.
        items: The things; of more than sixty, the last ones are shown.
        inner: What the smaller size is.
        outer: What the larger size is.
    """
    shown = items[-_MAX_BARS:]
    height = _TOP + 26 + _PLOT + _AXIS
    if not shown:
        return Picture(title, _WIDTH, height, _text(0, _TOP + 6, "there is nothing yet"))
    largest = max(max(item.outer, item.inner) for item in shown)
    step = 1 << max(0, math.ceil(math.log2(max(largest, 1) / 4)))
    top = max(1, math.ceil(largest / step)) * step
    left, base = 76.0, _TOP + 26 + _PLOT

    def y(value: int) -> float:
        return base - value / top * _PLOT

    slot = (_WIDTH - left) / len(shown)
    shapes: list[Child] = [_legend(inner, outer)]
    for value in range(0, top + 1, step):
        shapes.append(_line(left, y(value), _WIDTH, y(value), stroke_opacity="0.18" if value else "0.6"))
        shapes.append(_text(left - 8, y(value) + 4, size(value), text_anchor="end", opacity="0.72", font_size=11))
    every = math.ceil(len(shown) / _LABELS)
    for place, item in enumerate(shown):
        center, half = left + slot * (place + 0.5), min(slot * 0.36, 26)
        shapes.append(
            tag(
                "g",
                tag("title", plain(f"{item.note}: {size(item.inner)} {inner}, {size(item.outer)} {outer}")),
                _box(center - half, y(item.outer), half * 2, base - y(item.outer), fill_opacity="0.22"),
                _box(center - half * 0.6, y(item.inner), half * 1.2, base - y(item.inner), fill=_BLUE),
            )
        )
        if (len(shown) - 1 - place) % every == 0:  # the last one, in any case
            shapes.append(_text(center, base + 17, _short(item.label, 12), full=item.label, middle=True, font_size=11))
    hidden = len(items) - len(shown)
    said = f"{plural(hidden, 'earlier one')} not shown" if hidden else ""
    shapes.append(_text(_WIDTH - 3, base + 36, said, opacity="0.72", font_size=11, text_anchor="end"))
    return Picture(title, _WIDTH, height, join(*shapes))


def _legend(inner: str, outer: str) -> Html:
    second = 76 + 22 + len(inner) * _LETTER + 18
    return join(
        _box(76, 4, 12, 12, fill=_BLUE),
        _text(94, 14, inner),
        _box(second, 4, 12, 12, fill_opacity="0.22"),
        _text(second + 18, 14, outer),
    )


# --- shapes ----------------------------------------------------------------------------------------------------------


def _line(x1: float, y1: float, x2: float, y2: float, **style: str | int) -> Html:
    return tag("line", x1=_f(x1), y1=_f(y1), x2=_f(x2), y2=_f(y2), **({"stroke": "currentColor"} | style))


def _box(x: float, y: float, width: float, height: float, **style: str | int) -> Html:
    return tag("rect", x=_f(x), y=_f(y), width=_f(width), height=_f(height), rx=2, **style)


def _text(x: float, y: float, value: str, *, full: str = "", middle: bool = False, **style: str | int) -> Html:
    """Text, and as a tooltip what it was shortened from."""
    title = tag("title", plain(full)) if full and full != value else None
    anchor = {"text_anchor": "middle"} if middle else {}
    return tag("text", title, plain(value), x=_f(x), y=_f(y), **(anchor | style))


def _short(label: str, columns: int = _LABEL_COLUMNS) -> str:
    return label if len(label) <= columns else f"{label[: columns - 1]}…"


def _f(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
