"""Whatever text strangers choose, what notebooks show is text: nothing that runs, loads, links, or turns around."""

import datetime as dt
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluxsrc import Digest, Mode, Revision, notebook
from fluxsrc._html.markup import Html, join, plain, tag, text
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.entry import Entry, Skipped
from fluxsrc.inspect import Change, ChangeKind, Listed
from fluxsrc.revision import is_pointer
from fluxsrc.snapshot import ListedSnapshot

TAGS = {"div", "span", "style", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "bdi", "p", "ul", "li"}
TAGS |= {"details", "summary", "svg", "g", "line", "rect", "circle", "path", "text", "title"}
ATTRIBUTES = {"class", "title", "scope", "open", "xmlns", "viewbox", "width", "height", "role", "aria-label", "opacity"}
ATTRIBUTES |= {"fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-linecap", "text-anchor"}
ATTRIBUTES |= {"font-size", "font-family", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "d"}

WEAPONS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "</title><script>",
    "javascript:alert(1)",
    "&lt;script&gt;",
    "$\\href{javascript:alert(1)}{x}$",
    "\u202egnp.exe",
    "\u2066\u2069\u200b\ufeff\u2028",
    "\x00\x1b[2J\r\n",
    "\ud800",
    "<!--",
    "]]>",
]
hostile = st.one_of(st.sampled_from(WEAPONS), st.text(max_size=30), st.text(st.sampled_from("<>&\"'`/=\u202e\x00 a\n")))


class Reader(HTMLParser):
    """What a browser would see: elements, attributes, text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.styles, self.texts, self.values, self.open = set(), set(), [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values += [value for _, value in attrs if value is not None]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if "style" in self.open else self.texts).append(data)

    def handle_comment(self, data):
        pytest.fail(f"a comment: {data!r}")

    def handle_decl(self, decl):
        pytest.fail(f"a declaration: {decl!r}")


def is_harmless(page):
    """Only our elements, balanced; only our attributes; one style, and it is ours; no character that is not seen."""
    page.encode()  # no lone surrogate reaches the notebook's file
    reader = Reader(page)
    assert reader.open == []
    assert reader.tags <= TAGS
    assert reader.attributes <= ATTRIBUTES
    assert len(set(reader.styles)) <= 1
    assert all(char.isprintable() or char in "\n\t" for part in reader.texts for char in part)
    assert all(value.isprintable() for value in reader.values)
    assert "<script" not in page.lower()
    return reader


def artifact(words, digests):
    return Artifact(
        key=SourceKey("memory", "default", "app"),
        url=words[0],
        revision=Revision(Digest.of(digests), words[1] if is_pointer(words[1]) else None),
        content_digest=Digest.of(digests),
        digest=Digest.of(b""),
        size=1,
        content_size=2,
        files=3,
        media_type=words[2],
        recipe=Digest.of(b""),
        observed=dt.datetime(2026, 1, 1 + digests[0] % 28, tzinfo=dt.UTC),
        annotations={words[2]: words[3], "org.opencontainers.image.revision": words[4]},
        skipped=(Skipped(words[0], words[1], words[2]),),
        verification=((words[3], words[4]),),
    )


words = st.lists(hostile, min_size=5, max_size=5)


@given(words)
@example(WEAPONS[:5])
@example(WEAPONS[5:10])
@example(WEAPONS[10:])
def test_no_text_of_a_stranger_becomes_markup_or_moves_what_is_read(words):
    """Artifacts, snapshots, trees, differences, histories and pictures alike."""
    first, second = artifact(words, b"a"), artifact(words, b"b")
    modes = (Mode.FILE, Mode.EXECUTABLE, Mode.SYMLINK)
    entries = [Entry(word, modes[place % 3], 1, lambda: None) for place, word in enumerate(words)]
    snapshot = ListedSnapshot(
        revision=first.revision,
        entries=entries,
        annotations={words[0]: words[1]},
        verification=((words[2], words[3]),),
    )
    changes = [
        Change(kind=ChangeKind.CHANGED, path=word, text=f"--- a\n+++ b\n@@ -1 @@\n-{word}\n+x\n") for word in words
    ]
    history = notebook.History(first.key, (second, first), (second, first))
    for shown in (
        first,
        snapshot,
        notebook.Files(Listed(entry.path, entry.mode, 1) for entry in entries),
        notebook.Changes(changes),
        *changes,
        history,
        history.timeline(),
        history.sizes(),
    ):
        is_harmless(shown._repr_html_())
    for picture in (history.timeline(), history.sizes()):
        assert ET.fromstring(picture.svg).tag == "{http://www.w3.org/2000/svg}svg"
        is_harmless(picture.svg)


@given(hostile)
@example("\u202e")
def test_text_is_read_back_as_it_is_or_by_the_names_of_its_characters(value):
    """Escaping loses nothing, and adds nothing but the names of what cannot be seen."""
    for shown in (text(value), tag("td", value), join(value, None)):
        assert "".join(is_harmless(shown).texts) == plain(value)
    assert is_harmless(tag("td", title=value)).values == [plain(value)]


@given(hostile)
def test_lines_stay_lines(value):
    """In texts of several lines, line ends and tabs are what they are."""
    assert "".join(is_harmless(text(value, lines=True)).texts) == "".join(
        char if char in "\n\t" else plain(char) for char in value
    )


@given(hostile, hostile)
def test_markup_joined_with_text_is_text_again(first, second):
    """What was put together without the functions for it is escaped once more: ugly, and safe."""
    glued = tag("b", first) + second
    assert not isinstance(glued, Html)
    assert is_harmless(tag("td", glued)).tags <= {"td", "span"}


def test_direction_marks_are_named_and_directions_kept_apart():
    """A name in Hebrew is a name in Hebrew; a mark that turns what follows is shown as what it is."""
    assert text("\u05e9\u05dc\u05d5\u05dd.yaml") == "\u05e9\u05dc\u05d5\u05dd.yaml"
    assert "U+202E" in text("\u202etxt.exe")
    assert "\u202e" not in text("\u202etxt.exe")
    assert "unicode-bidi:isolate" in notebook.Files()._repr_html_()


def test_formulas_are_left_alone():
    """Notebooks set `$…$` as formulas, and those may hold links; ours say that they hold none."""
    assert 'class="fluxsrc tex2jax_ignore mathjax_ignore"' in notebook.Files()._repr_html_()
