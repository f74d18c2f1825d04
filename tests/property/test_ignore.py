"""Ignore rules against any text: the real git, consistency, and a bound on the work."""

import random
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxsrc.ignore import IgnoreRules, flux, gomatch, names
from fluxsrc.ignore.automaton import Automaton
from fluxsrc.ignore.gomatch import AnyRune, RuneSet, parse_glob

component = st.text("ab.é[*\\ !", min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})
paths = st.lists(component, min_size=1, max_size=5).map("/".join)
patterns = st.text("ab.é/*?[]!^-\\ :#", max_size=12)
texts = st.lists(patterns, max_size=8).map("\n".join)
dialects = st.sampled_from(["gitignore", "flux"])
files = st.dictionaries(st.one_of(st.just(""), paths), texts, max_size=3)


@given(dialects, files, st.one_of(st.none(), texts), st.lists(paths, max_size=12))
def test_explain_and_excluded_cannot_disagree(dialect, files, extra, some):
    rules = IgnoreRules(dialect, files, extra)
    for path in some:
        match = rules.explain(path)
        assert rules.excluded(path) is (match is not None and match.excluded)
        if match is not None:
            assert match.excluded is not match.negated


@given(dialects, files, st.lists(paths, max_size=12), st.randoms())
def test_the_order_of_questions_does_not_matter(dialect, files, some, shuffle):
    asked = IgnoreRules(dialect, files)
    verdicts = {path: asked.excluded(path) for path in some}
    shuffle.shuffle(some)
    again = IgnoreRules(dialect, files)
    again._evaluator._room = 0  # forgets every directory at once
    assert {path: again.excluded(path) for path in some} == verdicts


@given(dialects, files, paths, st.lists(paths, max_size=8))
def test_nothing_is_kept_below_a_directory_that_may_be_pruned(dialect, files, directory, below):
    rules = IgnoreRules(dialect, files)
    if rules.excluded_dir(directory):
        assert all(rules.excluded(f"{directory}/{path}") for path in below)


@given(st.text("ab*?[^]-\\", max_size=10), st.text("ab[]-^", min_size=1, max_size=6))
def test_a_go_glob_means_what_it_says(pattern, name):
    """Against a regular expression; only outside ASCII do the bytes that Go tries make a difference."""
    items = parse_glob(pattern)
    if not items:
        return
    expected = re.fullmatch("".join(map(_as_expression, items)), name) is not None
    assert (flux._name_probe([(0, items)])(name) == 0) is expected
    assert (flux._name_probe([(at, items) for at in range(20)])(name) == 19) is expected


def _as_expression(item) -> str:
    if isinstance(item, str):
        return re.escape(item)
    if isinstance(item, frozenset):
        return "[" + "".join(map(re.escape, sorted(item))) + "]"
    if isinstance(item, RuneSet):
        ranges = [(low, high) for low, high in item.ranges if low <= high]
        inside = "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)
        return f"[{'^' * item.negated}{inside}]" if inside else "." if item.negated else "(?!)"
    return "." if isinstance(item, AnyRune) else ".*"


# --- the work is bounded ---------------------------------------------------------------------------------------------

HOSTILE = {
    "chain of **/": "**/" * 20_000 + "b",
    "chain of **/a/": "**/a/" * 12_000 + "b",
    "stars": "*a" * 30_000 + "b",
    "stars and sets": "*[!b]" * 12_000 + "b",
    "stars in a path": "x/" + "**/*a*b?/" * 6_000 + "c",
    "question marks": "*" + "?" * 60_000,
    "one long name": "a" * 65_000,
    "many wild rules": "\n".join(f"*a*{number}?[ab]*b" for number in range(2_000)),
    "many deep rules": "\n".join(f"**/a{number}/[!b]*c" for number in range(2_000)),
    "many stars in many rules": "\n".join("*a*a*a*a*a*a*b" for _ in range(2_000)),
}


class Steps:
    """Counts what the matchers do: bytes an automaton reads, items that are compared, globs that are tried."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        advance, fit, chunks_match = Automaton.advance, gomatch._fit, names.chunks_match

        def counted_advance(automaton, state, text):
            self.count += len(text)
            return advance(automaton, state, text)

        def counted_fit(chunk, name, at):
            self.count += min(len(chunk), len(name) - at) + 1
            return fit(chunk, name, at)

        def counted_chunks(chunks, name):
            self.count += len(chunks)
            return chunks_match(chunks, name)

        patch.setattr(Automaton, "advance", counted_advance)
        patch.setattr(gomatch, "_fit", counted_fit)
        patch.setattr(names, "chunks_match", counted_chunks)


@pytest.mark.parametrize("dialect", ["gitignore", "flux"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pattern_takes_no_more_steps_than_pattern_times_path(dialect, kind, monkeypatch):
    """And most take about as many as the path has bytes: no pattern can make a name be read twice."""
    text = HOSTILE[kind]
    rules = IgnoreRules(dialect, {"": text})
    for path in ("/".join(["a" * 200] * 15), "a" * 250, "é" * 100, "a/" * 100 + "b"):
        steps = Steps(monkeypatch)
        rules.excluded(path)
        assert steps.count <= len(text) + len(path.encode()) ** 2


@settings(max_examples=60)
@given(dialects, st.lists(st.text("ab*?[]!/", max_size=30), max_size=20).map("\n".join), paths)
def test_no_pattern_takes_more_steps_than_pattern_times_path(dialect, text, path):
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        IgnoreRules(dialect, {"": text}).excluded(path)
        assert steps.count <= (len(text) + 1) * (len(path.encode()) + 1)


# --- the real git ----------------------------------------------------------------------------------------------------

_NAMES = [
    "a",
    "b",
    "ab",
    "abab",
    "foo",
    "x.c",
    "A1",
    "é",
    "日本",
    "a b",
    "[x]",
    "!x",
    "#y",
    "\\",
    "tail ",
    "\udcff",
    ":",
    "-",
]
_WILD = [
    "*",
    "**",
    "?",
    "[ab]",
    "[!a]",
    "[^b-x]",
    "[[:alpha:]]",
    "[[:punct:]x]",
    "[]a]",
    "[a",
    "\\*",
    "***",
    "[\\]]",
    "*?",
    "[[:x:]",
]


def _pattern(seen: random.Random) -> str:
    parts = []
    for _ in range(seen.choice([1, 1, 1, 2, 2, 3, 4])):
        pieces = seen.choices(
            [seen.choice(_NAMES), seen.choice(_NAMES)[:1], seen.choice(_WILD)], k=seen.choice([1, 1, 2, 3])
        )
        parts.append("".join(pieces) if seen.random() < 0.8 else seen.choice(["**", "*", ""]))
    text = (
        seen.choice(["", "", "", "/", "**/"])
        + "/".join(parts)
        + seen.choice(["", "", "", "/", "/**", " ", "\\ ", "\r"])
    )
    return seen.choice(["", "", "!"]) + text


@pytest.mark.parametrize("seed", range(60))
def test_git_itself_decides_the_same(seed, tmp_path):
    """Random rules over random trees, asked of the real `git ls-files`."""
    seen = random.Random(seed)
    tree = sorted({"/".join(seen.choices(_NAMES, k=seen.choice([1, 2, 2, 3, 4]))) for _ in range(60)})
    tree = [path for path in tree if not any(other.startswith(path + "/") for other in tree)]
    nested = seen.choice(tree).rpartition("/")[0]
    files = {directory: "\n".join(_pattern(seen) for _ in range(seen.choice([2, 5, 12]))) for directory in ("", nested)}
    extra = [
        pattern
        for _ in range(seen.choice([0, 0, 3]))
        if (pattern := _pattern(seen).strip(" \r\\")) and pattern[0] != "#"
    ]
    for path in tree:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    for directory, text in files.items():
        (tmp_path / directory / ".sourceignore").write_bytes(text.encode("utf-8", "surrogateescape"))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-per-directory=.sourceignore"]
        + [word for pattern in extra for word in ("-x", pattern)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    ).stdout.decode("utf-8", "surrogateescape")
    rules = IgnoreRules("gitignore", files, "\n".join(extra))
    kept = {path for path in tree if not rules.excluded(path)}
    assert kept == set(listed.split("\0")) & set(tree)


@pytest.mark.parametrize("seed", range(20))
def test_git_itself_names_the_same_rule(seed, tmp_path):
    """`git check-ignore --verbose` says which line of which file decides; so does `explain`, kept files included."""
    seen = random.Random(seed)
    tree = sorted({"/".join(seen.choices(_NAMES, k=seen.choice([1, 2, 2, 3, 4]))) for _ in range(60)})
    tree = [path for path in tree if not any(other.startswith(path + "/") for other in tree)]
    parents = sorted({path.rpartition("/")[0] for path in tree})
    chosen = {"", *seen.sample(parents, min(4, len(parents)))}
    files = {directory: "\n".join(_pattern(seen) for _ in range(seen.choice([2, 5, 12]))) for directory in chosen}
    for path in tree:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    for directory, text in files.items():
        (tmp_path / directory / ".gitignore").write_bytes(text.encode("utf-8", "surrogateescape"))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    done = subprocess.run(
        ["git", "check-ignore", "-z", "--verbose", "--non-matching", "--no-index", "--stdin"],
        cwd=tmp_path,
        input="\0".join(f"./{path}" for path in tree).encode("utf-8", "surrogateescape"),  # `:` may begin a name
        check=False,  # 1 where it ignores nothing
        capture_output=True,
    )
    assert done.stderr == b""
    answer = done.stdout.decode("utf-8", "surrogateescape")
    source, line, _, path = (answer.split("\0")[column:-1:4] for column in range(4))
    rules = IgnoreRules("gitignore", files)
    found = [rules.explain(each) for each in tree]
    assert path == [f"./{each}" for each in tree]
    assert [
        (match.file.replace(".sourceignore", ".gitignore"), str(match.line)) if match else ("", "") for match in found
    ] == [*zip(source, line, strict=True)]


def test_git_agrees_on_each_byte_of_each_class(tmp_path):
    """One pattern for each POSIX class, over all names of one byte and a mark."""
    classes = [
        "alnum",
        "alpha",
        "blank",
        "cntrl",
        "digit",
        "graph",
        "lower",
        "print",
        "punct",
        "space",
        "upper",
        "xdigit",
    ]
    singles = [bytes([byte]).decode("utf-8", "surrogateescape") for byte in range(1, 256) if byte != ord("/")]
    for name in classes:
        (tmp_path / name).mkdir()
        for single in singles:
            (tmp_path / name / f"{single}_").touch()
    text = "\n".join(f"/{name}/[[:{name}:]]_" for name in classes)
    (tmp_path / ".sourceignore").write_text(text)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    command = ["git", "ls-files", "-z", "--others", "--exclude-per-directory=.sourceignore"]
    listed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    rules = IgnoreRules("gitignore", {"": text})
    kept = {path for name in classes for single in singles if not rules.excluded(path := f"{name}/{single}_")}
    assert kept == set(listed.decode("utf-8", "surrogateescape").split("\0")) - {"", ".sourceignore"}
