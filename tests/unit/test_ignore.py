"""Ignore rules: verdicts of the real tools, explanations, defaults, limits."""

import gzip
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pathspec
import pytest

from fluxsrc.errors import ConfigurationError, LimitExceededError
from fluxsrc.ignore import EXCLUDE_CI, EXCLUDE_EXT, EXCLUDE_EXTRA, EXCLUDE_VCS, NAMED_SETS, IgnoreRules, Match
from fluxsrc.limits import Limits

VECTORS = Path(__file__).parents[1] / "vectors" / "ignore.jsonl.gz"


@pytest.mark.parametrize(("dialect", "tool"), [("gitignore", "git"), ("flux", "flux")])
def test_every_verdict_of_the_real_tool_is_ours(dialect, tool):
    """37,110 paths under 1,500 rule sets, judged by git and by Flux themselves."""
    paths, different = 0, []
    with gzip.open(VECTORS, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            rules = IgnoreRules(dialect, {file["dir"]: file["text"] for file in row["files"]}, row["spec"])
            for path, kept in zip(row["paths"], row[tool], strict=True):
                paths += 1
                if rules.excluded(path) is kept:
                    different.append((row["files"], row["spec"], path, kept))
    assert paths == 37_110
    assert different == []


GIT_QUIRKS = [
    # rules, excluded, kept
    ("build/\n!build/keep.txt", ["build/keep.txt"], ["src/build"]),
    ("a**/b", ["ab", "ax/y/b", "a/b"], ["x/ab", "axb/c"]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "x/a/b"]),
    ("abc/**", ["abc/x", "abc/x/y"], ["abc"]),
    ("/**", ["a", "a/b"], []),
    ("**\\/a", ["x/a"], ["a"]),
    ("x**/**", ["x", "xy", "xy/z"], ["a/x"]),
    ("a/b**c", ["a/bc", "a/bxc"], ["a/b/c"]),
    ("a//b", [], ["a/b"]),
    ("[!a]x", ["bx"], ["ax"]),
    ("[]-]", ["]", "-"], ["a"]),
    ("[[:digit:][:upper:]]x", ["1x", "Zx"], ["ax", "[x"]),
    ("[[:nope:]x", [], ["nx", "[x"]),
    ("[[:a]x", ["[x", ":x", "ax"], ["bx"]),
    ("[[:space:]]", [" ", "\t"], ["\x0b", "\x0c"]),
    ("??", ["é", "ab"], ["日", "a"]),
    ("*[!a]b", ["éb"], ["ab", "b"]),
    ("\ufefffoo", ["foo"], ["\ufefffoo"]),
    ("foo\\  ", ["foo "], ["foo", "foo  "]),
    ("foo\\\\  ", ["foo\\"], ["foo\\ "]),
    ("foo\r\nbar\r\n", ["foo", "bar"], ["foo\r"]),
    ("foo\0bar", ["foo"], ["bar"]),
    ("foo\\", [], ["foo", "foo\\"]),
    ("\\#a\n\\!b\n#c", ["#a", "!b"], ["c", "#c"]),
    ("\udcff*", ["\udcffx"], ["x"]),
]

FLUX_QUIRKS = [
    ("build/\n!build/keep.txt", ["build/x"], ["build/keep.txt"]),
    ("**/a/b", ["a/b", "x/a/b/c"], ["a/x/a/b"]),
    ("/**", [], ["a"]),
    ("abc/**", ["abc", "abc/x"], []),
    ("a/b**c", [], ["a/bc"]),
    ("a//b", ["a/b"], []),
    ("foo/**/", ["foo/x/y", "foo/x"], ["foo"]),
    ("[!a]x", ["!x", "ax"], ["bx"]),
    ("[^a]x", ["bx"], ["ax"]),
    ("[[:digit:]]x", [":]x", "d]x"], ["1x"]),
    ("[]a]\n[a-]\n[-a]\n[a", [], ["a", "]", "-", "[a"]),
    ("?", ["é", "日", "a"], ["ab"]),
    ("*[^é]", ["é", "a"], []),  # Go's star stops in the middle of a rune
    ("[^\ufffd]", ["a"], ["\udcff"]),
    ("\ufefffoo", ["\ufefffoo"], ["foo"]),
    ("foo\\  ", [], ["foo"]),
    ("\u00a0\nx", ["x"], ["\u00a0"]),
    ("\x1c", ["\x1c"], []),
    ("a" * 65_536 + "\nfoo", [], ["foo"]),
    ("a" * 65_535 + "\nfoo", ["foo"], []),
    ("*.txt\n!keep/", ["a.txt"], ["keep/a.txt"]),
]


@pytest.mark.parametrize(
    ("dialect", "text", "excluded", "kept"),
    [("gitignore", *quirk) for quirk in GIT_QUIRKS] + [("flux", *quirk) for quirk in FLUX_QUIRKS],
    ids=lambda value: repr(value)[:30] if isinstance(value, str) else "",
)
def test_a_quirk_is_kept(dialect, text, excluded, kept):
    """Each is what the real tool does; many look like mistakes."""
    rules = IgnoreRules(dialect, {"": text})
    verdicts = {path: rules.excluded(path) for path in [*excluded, *kept]}
    assert verdicts == dict.fromkeys(excluded, True) | dict.fromkeys(kept, False)


class TestExplain:
    def test_names_rule_file_and_line(self):
        rules = IgnoreRules(files={"": "# logs\n\n*.log\n", "web": "!keep.log  \n"}, extra="secret\n")
        assert rules.explain("a.log") == Match(rule="*.log", file=".sourceignore", line=3, negated=False, excluded=True)
        assert rules.explain("web/keep.log") == Match(
            rule="!keep.log", file="web/.sourceignore", line=1, negated=True, excluded=False
        )
        assert str(rules.explain("web/secret")) == "<ignore>:1: secret"
        assert rules.explain("main.py") is None

    def test_names_the_rule_that_excludes_the_directory(self):
        rules = IgnoreRules(files={"": "build/\n!keep\n", "build": "!*\n"})
        found = rules.explain("build/x/keep")
        assert found is not None
        assert (found.rule, found.excluded) == ("build/", True)

    def test_names_the_default_set(self):
        rules = IgnoreRules("flux")
        assert str(rules.explain("a/horse.jpg")) == "<defaults:ext>:1: *.jpg"
        assert str(rules.explain(".git/config")) == "<defaults:vcs>:1: .git/"

    def test_shows_a_rule_as_it_is_written(self):
        assert str(IgnoreRules(files={"é": "日*\n"}).explain("é/日本")) == "é/.sourceignore:1: 日*"


class TestDefaults:
    def test_are_the_constants_of_flux(self):
        assert ",".join(EXCLUDE_VCS) == ".git/,.gitignore,.gitmodules,.gitattributes"
        assert ",".join(EXCLUDE_EXT) == "*.jpg,*.jpeg,*.gif,*.png,*.wmv,*.flv,*.tar.gz,*.zip"
        assert ",".join(EXCLUDE_CI) == (
            ".github/,.circleci/,.travis.yml,.gitlab-ci.yml,appveyor.yml,.drone.yml,cloudbuild.yaml,"
            "codeship-services.yml,codeship-steps.yml"
        )
        assert ",".join(EXCLUDE_EXTRA) == "**/.goreleaser.yml,**/.sops.yaml,**/.flux.yaml"

    @pytest.mark.parametrize("user", [{"extra": "# only a comment\n"}, {"files": {"": "  \n"}}, {}])
    def test_flux_has_them_all_where_there_is_no_rule(self, user):
        rules = IgnoreRules("flux", **user)
        assert all(map(rules.excluded, ["a.jpg", ".github/x", "a/.sops.yaml", ".gitignore"]))

    def test_flux_keeps_only_vcs_beside_one_rule_anywhere(self):
        rules = IgnoreRules("flux", {"far/away": "x"})
        assert [rules.excluded(path) for path in ("a.jpg", ".github/x", ".gitignore")] == [False, False, True]

    def test_flux_does_not_read_files_in_a_git_directory(self):
        assert IgnoreRules("flux", {"a/.git": "x"}).excluded("a.jpg")

    def test_buckets_have_none(self):
        rules = IgnoreRules("flux", defaults=())
        assert not any(map(rules.excluded, ["a.jpg", ".git/config"]))

    def test_gitignore_has_none_unless_asked(self):
        assert not IgnoreRules().excluded(".gitignore")
        assert IgnoreRules(defaults=("vcs",)).excluded(".gitignore")

    def test_a_named_set_is_of_lowest_priority(self):
        rules = IgnoreRules(files={"": "!horse.jpg"}, defaults=tuple(NAMED_SETS))
        assert [rules.excluded(path) for path in ("horse.jpg", "cow.jpg")] == [False, True]


class TestExcludedDirectories:
    def test_git_prunes_what_it_excludes(self):
        rules = IgnoreRules(files={"": "build/\n!build/keep\nx/*\n"})
        assert [rules.excluded_dir(path) for path in ("build", "build/deep", "x", "src", "")] == [
            True,
            True,
            False,
            False,
            False,
        ]

    @pytest.mark.parametrize(
        ("text", "prunable"),
        [
            ("build/", True),
            ("build/\n!keep", False),
            ("!keep\nbuild/", True),
            ("build/\n!/src/keep", True),
            ("build/\n!/build/keep", False),
            ("build/\n!**/keep/me", False),
        ],
    )
    def test_flux_prunes_only_where_nothing_can_come_back(self, text, prunable):
        assert IgnoreRules("flux", {"": text}).excluded_dir("build") is prunable

    def test_flux_asks_the_files_below(self):
        assert not IgnoreRules("flux", {"": "build/", "build/deep": "!x"}).excluded_dir("build")
        assert IgnoreRules("flux", {"": "build/", "src": "!x"}).excluded_dir("build")


class TestValue:
    def test_is_a_value(self):
        one = IgnoreRules("gitignore", {"a": "x", "": "y"}, "z")
        other = IgnoreRules("gitignore", {"": "y", "a": "x"}, "z")
        assert one == other
        assert hash(one) == hash(other)
        assert one != IgnoreRules("flux", {"a": "x", "": "y"}, "z")

    def test_pickles(self):
        rules = IgnoreRules(
            "flux", {"": "*.txt"}, extra="!a.txt", defaults=("ext",), limits=Limits(max_ignore_rules=50)
        )
        rules.excluded("b/c.txt")
        copy = pickle.loads(pickle.dumps(rules))
        assert copy == rules
        assert copy.explain("b/c.txt") == rules.explain("b/c.txt")

    def test_is_safe_to_share_between_threads(self):
        rules = IgnoreRules(files={"": "a*/b?\n!**/x/[cd]*\n", "q": "z"})
        paths = [f"a{n % 7}/b{n % 13}/x/c{n}" for n in range(2000)]
        alone = [rules.excluded(path) for path in paths]
        with ThreadPoolExecutor(4) as pool:
            shared = IgnoreRules(files={"": "a*/b?\n!**/x/[cd]*\n", "q": "z"})
            assert all(result == alone for result in pool.map(lambda _: [*map(shared.excluded, paths)], range(8)))

    @pytest.mark.parametrize("directory", ["/a", "a/", "a//b", "../a", "./a", "."])
    def test_refuses_what_is_no_directory_of_a_tree(self, directory):
        with pytest.raises(ConfigurationError, match="not a directory of a tree"):
            IgnoreRules(files={directory: "x"})

    def test_refuses_an_unknown_dialect(self):
        with pytest.raises(ConfigurationError, match=r"'hg'.*gitignore, flux"):
            IgnoreRules("hg")

    def test_refuses_an_unknown_set(self):
        with pytest.raises(ConfigurationError, match=r"'svn'.*vcs, ext, ci, extra"):
            IgnoreRules(defaults=("svn",))


@pytest.mark.parametrize(
    ("knob", "text"),
    [("max_ignore_rules", "a\nb\nc\n"), ("max_ignore_line_bytes", "abcd"), ("max_ignore_bytes", "a\nb\n")],
)
def test_too_much_text_names_the_limit_and_the_knob(knob, text):
    with pytest.raises(LimitExceededError, match=rf"Limits\({knob}=") as caught:
        IgnoreRules(files={"sub": text}, limits=Limits(**{knob: 2}))
    assert (caught.value.limit, caught.value.path) == (knob, "sub/.sourceignore")


def test_pathspec_agrees_where_patterns_are_plain():
    """Names, endings and anchored paths, without negation: the part of the syntax nobody reads differently."""
    patterns = ["*.log", "build/", "/dist", "docs/_build", "a/*/c", "tmp*", "**/cache"]
    names = ["a", "b", "c", "x.log", "build", "dist", "docs", "_build", "tmp1", "cache"]
    paths = ["/".join(parts) for one in names for two in names for parts in ([one], [one, two], [one, two, "c"])]
    spec = pathspec.GitIgnoreSpec.from_lines(patterns)
    rules = IgnoreRules(files={"": "\n".join(patterns)})
    assert [rules.excluded(path) for path in paths] == [spec.match_file(path) for path in paths]
