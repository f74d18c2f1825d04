"""The values: digests, revisions, paths, secrets, limits, recipes, artifacts, errors."""

import inspect
import logging
import pickle
import threading

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluxsrc import errors
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.auth import BasicAuth, BearerToken, Origin, Secret, SSHKey, StaticKeychain, TLSConfig, redact_url
from fluxsrc.digest import Digest
from fluxsrc.directory import DirectorySource
from fluxsrc.entry import Entry, Mode, check_path
from fluxsrc.errors import ConfigurationError, FluxSrcError, LimitExceededError, SourceChangedError, UnsafeEntryError
from fluxsrc.git import GitSource
from fluxsrc.limits import Limits
from fluxsrc.memory import MemorySource
from fluxsrc.oci import OCISource
from fluxsrc.operation import Operation
from fluxsrc.recipe import Recipe, SymlinkPolicy
from fluxsrc.revision import Revision, is_pointer

SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
pointers = st.none() | st.text(min_size=1).filter(is_pointer)


@given(pointers)
def test_revisions_round_trip(pointer):
    revision = Revision(Digest("sha1", SHA1), pointer)
    assert Revision.parse(str(revision)) == revision


@given(st.text())
def test_a_revision_that_can_be_made_can_be_read(pointer):
    try:
        revision = Revision(Digest("sha1", SHA1), pointer)
    except ConfigurationError:
        assert not is_pointer(pointer)
    else:
        assert Revision.parse(str(revision).encode().decode()) == revision


def test_a_revision_splits_at_the_last_at():
    assert Revision.parse(f"a@b@sha1:{SHA1}").pointer == "a@b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "main",
        "main@",
        "@sha1:" + SHA1,
        "main@md5:00",
        "sha1:" + SHA1[:-1],
        "sha1:" + SHA1.upper(),
        f"a\nb@sha1:{SHA1}",
    ],
)
def test_what_is_no_revision_is_refused(text):
    with pytest.raises(ConfigurationError):
        Revision.parse(text)


@given(st.text(max_size=60))
def test_a_checked_path_is_relative_and_stays_inside(path):
    try:
        check_path(path)
    except UnsafeEntryError:
        return
    parts = path.split("/")
    assert "" not in parts
    assert ".." not in parts
    assert "." not in parts
    assert "\\" not in path
    assert "\0" not in path


@pytest.mark.parametrize(
    "path", ["", "/a", "a//b", "a/", "../a", "a/..", ".", "a/./b", "a\\b", "a\0b", "a\nb", "\ud800"]
)
def test_unsafe_paths_are_refused(path):
    with pytest.raises(UnsafeEntryError):
        check_path(path)


def test_paths_have_limits():
    with pytest.raises(LimitExceededError, match="max_path_bytes"):
        check_path("a" * 5000)
    with pytest.raises(LimitExceededError, match="max_path_depth"):
        check_path("a/" * 300 + "a")


def test_a_secret_shows_itself_to_nobody(caplog):
    secret = Secret("hunter2")
    values = [
        secret,
        BasicAuth("user", "hunter2"),
        BearerToken("hunter2"),
        SSHKey(identity="hunter2", passphrase="hunter2", known_hosts=""),
        TLSConfig(certificate="c", key="hunter2"),
        StaticKeychain.for_url("https://example.com", BasicAuth("user", "hunter2")),
    ]
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%s %r", secret, secret)
    texts = [caplog.text, f"{secret:>20}", f"{secret!s:10}", *map(repr, values), *map(str, values)]
    assert all("hunter2" not in text for text in texts)
    assert pickle.loads(pickle.dumps(secret)).reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("other")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:pw@h/x", "https://h/x"),
        ("https://h/x?sv=1&sig=s", "https://h/x?sv=**********&sig=**********"),
        ("git@host:path", "host:path"),
        ("ssh://git@host/x", "ssh://host/x"),
        ("http://[bad", "<unparsable URL>"),
    ],
)
def test_urls_are_redacted(url, shown):
    assert redact_url(url) == shown


def test_credentials_are_bound_to_their_origin():
    keychain = StaticKeychain.for_url("https://example.com/a", BearerToken("t"))
    assert keychain.credentials(Origin.of("https://EXAMPLE.com:443/b")) == BearerToken("t")
    for other in ("http://example.com/a", "https://example.com:444/a", "https://example.com.evil.test/a"):
        assert keychain.credentials(Origin.of(other)) is None


@given(st.text(max_size=40))
@example("\udcff=\ud800")
def test_redacting_never_fails_and_drops_userinfo(text):
    assert "hunter2" not in redact_url(f"https://user:hunter2@example.com/{text.replace('@', '')}")
    redact_url(text)


def test_limits_are_positive_and_name_their_knob():
    with pytest.raises(ConfigurationError):
        Limits(max_entries=0)
    with pytest.raises(LimitExceededError, match=r"Limits\(max_entries=\.\.\.\)") as caught:
        Limits(max_entries=3).check("max_entries", 4, what="the tree")
    assert (caught.value.allowed, caught.value.actual, caught.value.limit) == (3, 4, "max_entries")


def test_an_option_is_one_of_its_words():
    """Whatever it is an option of: the error is of the caller's kind, and says which there are."""
    assert Recipe(symlinks="keep").symlinks is SymlinkPolicy.KEEP
    with pytest.raises(ConfigurationError, match=r"'follow' is no SymlinkPolicy.*error, skip, keep, dereference"):
        Recipe(symlinks="follow")


def test_a_recipe_s_digest_depends_on_each_field():
    recipes = [
        Recipe(),
        Recipe(ignore=""),
        Recipe(ignore="*.md"),
        Recipe(dialect="flux"),
        Recipe(path="deploy"),
        Recipe(symlinks="keep"),
        Recipe(compression="none"),
        Recipe(options=(("sparse", "a"),)),
    ]
    assert len({recipe.digest for recipe in recipes}) == len(recipes)
    assert Recipe().digest == Recipe().digest


def test_an_entry_notices_content_of_another_size():
    entry = Entry("a", Mode.FILE, 3, lambda: __import__("io").BytesIO(b"four"))
    with pytest.raises(SourceChangedError):
        entry.read()


def test_an_artifact_pickles_and_does_not_change():
    digest = Digest.of(b"")
    artifact = Artifact(
        key=SourceKey("memory", "default", "x"),
        url="memory:x",
        revision=Revision(digest),
        content_digest=digest,
        digest=digest,
        size=1,
        content_size=1,
        files=0,
        media_type="t",
        recipe=digest,
        annotations={"b": "1", "a": "2"},
    )
    assert pickle.loads(pickle.dumps(artifact)) == artifact
    assert list(artifact.annotations) == ["a", "b"]
    with pytest.raises(TypeError):
        artifact.annotations["c"] = "3"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        artifact.size = 2


@pytest.mark.parametrize(
    "value",
    [
        Digest("sha1", SHA1),
        Revision(Digest("sha1", SHA1), "it's@main"),
        SourceKey("gitrepository", "default", "podinfo"),
        Limits(),
        Limits(max_entries=2, max_refs=3),
        Recipe(),
        Recipe(ignore="*.md\n", symlinks=SymlinkPolicy.KEEP, options=(("lfs", "fetch"),)),
        TLSConfig(ca="PEM"),
        DirectorySource("src", dialect="flux", path="deploy", limits=Limits(max_entries=2), timeout=None),
        GitSource("git@example.com:team/app.git", tag="v1"),
        GitSource("git+https://example.com/app", semver=">= 1.0.0", sparse=["deploy"]),
        OCISource("oci://example.com/team/app", semver="1.x"),
        OCISource(f"oci-layout:images@sha256:{'0' * 64}"),
    ],
    ids=repr,
)
def test_a_value_shows_itself_as_it_is_written(value):
    """What is pasted from a log or a notebook is that value; what is as always is not in the way."""
    assert eval(repr(value)) == value


def test_a_source_shows_what_it_is_first_and_nothing_that_is_as_always():
    """The default limits alone would be ten lines."""
    source = GitSource("git+https://ada:hunter2@example.com/app", branch="main", ignore="*.md")
    assert repr(source) == "GitSource(address='git+https://example.com/app', branch='main', ignore='*.md')"
    assert repr(MemorySource({"a": ""})) == "MemorySource(files=<1 file>)"


@pytest.mark.parametrize("text", ["a/b", "a/b/c/d", "A/b/c", "a/../c", "a//c", "a/b/c..d", "-a/b/c"])
def test_what_is_no_source_key_is_refused(text):
    with pytest.raises(ConfigurationError):
        SourceKey.parse(text)


ERRORS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, FluxSrcError)]


@pytest.mark.parametrize("cls", ERRORS)
def test_errors_pickle_with_their_facts(cls):
    required = {"extra": "x", "expected": "a", "actual": "b", "limit": "max_entries", "allowed": 1}
    required |= {"old": "a", "new": "b"}
    wanted = inspect.signature(cls).parameters
    error = cls("message", **{name: value for name, value in required.items() if name in wanted})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert copy.__dict__ == error.__dict__
    assert str(copy) == str(error)
    assert cls.reason.isidentifier()
    assert cls.reason[0].isupper()


def test_every_error_stands_in_the_tree_of_the_docstring():
    for cls in ERRORS:
        assert cls.__name__ in errors.__doc__
        assert (
            "[retryable]"
            in next(line for line in errors.__doc__.splitlines() if f" {cls.__name__}" in f" {line.lstrip('│├└ ')}")
        ) == ("retryable" in vars(cls)) or cls is FluxSrcError


# --- operations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("whole", "part", "bound"), [(None, 500, 500), (3000, 500, 500), (500, 3000, 500)])
def test_a_part_of_a_call_ends_by_whichever_deadline_comes_first_and_names_it(whole, part, bound):
    cancelled = threading.Event()
    found = Operation(whole, cancelled).part(part)
    assert found.remaining("log in") <= bound
    assert f"timed out after {bound} s during log in" in str(found.timed_out("log in"))
    cancelled.set()
    assert found.cancelled
