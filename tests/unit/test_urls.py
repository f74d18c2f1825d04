"""`source_from_url`: every kind of source by one line of text, and back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fluxsrc import (
    AzureBucket,
    BucketSource,
    DirectorySource,
    GCSBucket,
    GitSource,
    LocalBucket,
    OCISource,
    S3Bucket,
    source_from_url,
)
from fluxsrc.auth import Anonymous
from fluxsrc.bucket import Etags
from fluxsrc.errors import ConfigurationError
from fluxsrc.urls import source_options

DIGEST = "sha256:" + "ab" * 32

SOURCES = [
    DirectorySource("/srv/a b"),
    DirectorySource("/srv/\udcff"),
    DirectorySource("deploy", path="prod/eu"),
    GitSource("git+file:///srv/a%20b.git"),
    GitSource("git+https://example.com/team/app.git", branch="feature/x+y&z"),
    GitSource("git+https://example.com:8443/team/app.git", semver=">=1.0 <2", tag_pattern=r"^app/(v.+)$"),
    GitSource("git+ssh://git@example.com/team/app.git", tag="v1.0.0", path="deploy/prod"),
    GitSource("git@example.com:team/app.git", commit="ab" * 20),
    GitSource("git@[::1]:team/app.git"),
    GitSource("git://example.com/app.git", ref="refs/pull/1/head"),
    OCISource("oci://localhost:5000/team/app:v1"),
    OCISource(f"oci://ghcr.io/team/app@{DIGEST}"),
    OCISource("oci://ghcr.io/team/app", semver=">=1.0.0-0", semver_filter="^v(.*)$", path="deploy"),
    OCISource("oci-layout:/media/usb stick/100%:app"),
    OCISource("oci-layout:images:latest"),
    BucketSource(S3Bucket("models", endpoint="http://localhost:9000", region="eu-west-1"), "prod/v 1/"),
    BucketSource(S3Bucket("models"), "prod/", strip_prefix=True),
    BucketSource(GCSBucket("models"), "a?b#c/", path="a?b#c/d"),
    BucketSource(AzureBucket("models", account="account1")),
    BucketSource(LocalBucket("/srv/mirror"), "prod/"),
    BucketSource(LocalBucket("/srv/mirror", etags=Etags.STAT)),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.url)
def test_the_url_of_a_source_gives_the_source(source):
    """What is printed can be pasted."""
    assert source_from_url(source.url) == source
    assert source_from_url(source.url).url == source.url


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("deploy", DirectorySource("deploy")),
        ("git@example.com:team/app.git?branch=main#path=deploy", None),
        ("oci://ghcr.io/team/app", OCISource("oci://ghcr.io/team/app")),
        ("oci://ghcr.io/team/app:v1?operation=copy", OCISource("oci://ghcr.io/team/app:v1", layer_operation="copy")),
        ("oci://ghcr.io/team/app?platform=linux/arm64", OCISource("oci://ghcr.io/team/app", platform="linux/arm64")),
        (
            "git+https://example.com/app.git?submodules=true&sparse=deploy,a%252Cb&lfs=fetch",
            GitSource("git+https://example.com/app.git", submodules=True, sparse=["deploy", "a,b"], lfs="fetch"),
        ),
        ("s3://models?anonymous=true", None),
        ("git+https://example.com/app.git#path=./deploy/", GitSource("git+https://example.com/app.git", path="deploy")),
        ("git+file:///srv/a.git#path=.", GitSource("/srv/a.git")),
        ("git@h:app.git", GitSource("git@h:app.git")),
        ("az://models/x/?account=account1", BucketSource(AzureBucket("models", account="account1"), "x/")),
    ],
)
def test_what_a_url_says_is_what_the_source_has(text, source):
    """Options of each kind arrive."""
    made = source_from_url(text)
    if source is not None:
        assert made == source
    assert made.kind in {"directory", "gitrepository", "ocirepository", "bucket"}


def test_the_form_of_scp_is_a_git_repository(tmp_path, monkeypatch):
    """As git has it: unless there is a file of that name."""
    made = source_from_url("git@example.com:team/app.git?branch=main#path=deploy")
    assert made == GitSource("git@example.com:team/app.git", branch="main", path="deploy")
    monkeypatch.chdir(tmp_path)
    Path("git@example.com:x").mkdir()
    assert source_from_url("git@example.com:x") == DirectorySource("git@example.com:x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://example.com/app.git", "for a Git repository write git+https://example.com/app.git"),
        ("https://ada:pw@example.com/app.git", "write git+https://example.com/app.git"),
        ("ssh://git@example.com/app.git", "write git+ssh://git@example.com/app.git"),
        ("ssh://git:pw@example.com/app.git", "write git+ssh://example.com/app.git"),
        ("git+https://example.com/app.git#pw", "the fragment of git+https://example.com/app.git is not"),
        ("git+file:///srv/%FF.git", "not UTF-8"),
        ("git+https://example.com/app.git?branch=%FF", "UTF-8"),
        ("git+https://example.com/app.git#path=%FF", "UTF-8"),
        ("git+https://example.com/app.git?branch=ma\nin", "not a name git allows"),
        ("git+https://example.com/app.git#path=../x", "'..' component"),
        ("git+https://example.com/app.git?sparse=a,../x", "'..' component"),
        ("file:srv#path=a//b", "component"),
        ("git+https:/example.com/app.git", "two slashes"),
        ("git+ssh:/example.com/app.git", "two slashes"),
        ("git@example.com:\udcff", "not UTF-8"),
        ("ftp://example.com/x", "known: "),
        ("oci://ghcr.io/team/app?tag=v1", "known: semver"),
        ("oci://ghcr.io/team/app?insecure=true", "known: semver"),
        ("git+https://example.com/app.git?submodules=yes", "true or false"),
        ("oci-layout:images%3F?semver=1.x&x=y", "known: semver"),
        ("git+https://example.com/app.git?lfs=maybe", "'maybe' is no LFSPolicy (choose one of keep, error, fetch)"),
        ("oci://ghcr.io/team/app?operation=maybe", "choose one of extract, copy"),
        ("s3://models?addressing=maybe", "choose one of auto, path"),
        ("bucket+file:///srv/x?etags=maybe", "choose one of md5, stat"),
        ("az://models", "account"),
        ("s3://user@models", "BUCKET"),
        ("oci://user:pw@ghcr.io/team/app", "oci://HOST"),
        ("deploy?branch=main", ""),
        ("file:deploy?branch=main", "known: none"),
        ("", "for example"),
    ],
)
def test_what_is_no_source_says_what_would_be(text, words):
    """The hint is the way out."""
    if text == "deploy?branch=main":
        assert source_from_url(text) == DirectorySource(text)  # a path, to the letter
        return
    with pytest.raises(ConfigurationError) as caught:
        source_from_url(text)
    assert words in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("git+https://example.com/app.git?branch=main", {"branch": "main"}),
        ("git+https://example.com/app.git?sparse=a,b", {"sparse": ["a"]}),
        ("oci://ghcr.io/team/app?operation=copy", {"layer_operation": "copy"}),
        ("s3://models?region=eu-west-1", {"region": "eu-west-2"}),
        ("s3://models?anonymous=true&profile=ops", {}),
        ("s3://models?profile=ops", {"credentials": Anonymous()}),
        ("s3://models/a/?strip_prefix=true", {"strip_prefix": False}),
        ("file:///srv/a#path=x", {"path": "y"}),
    ],
)
def test_what_is_said_twice_is_a_mistake_of_the_caller(text, options):
    """Nobody has to know which of the two wins."""
    with pytest.raises(ConfigurationError, match="given twice"):
        source_from_url(text, **options)


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("deploy", "keychain"),
        ("oci://ghcr.io/team/app", "sparse"),
        ("git+file:///srv/a.git", "insecure"),
        ("s3://models", "keychain"),
        ("gs://models", "region"),
        ("deploy", "root"),
        ("s3://models", "_shared"),
        ("git+file:///srv/a.git", "_depth"),
    ],
)
def test_an_option_of_another_kind_is_a_mistake_of_the_caller(text, option):
    """Not a `TypeError` out of a constructor nobody called."""
    with pytest.raises(ConfigurationError, match=f"no option '{option}'"):
        source_from_url(text, **{option: "x"})
    assert option not in source_options(text)


def test_each_kind_says_which_options_it_takes():
    """So that a program can ask before it offers them."""
    assert {"ignore", "path", "limits", "timeout"} <= source_options("deploy")
    assert {"keychain", "tls", "proxy", "sparse", "lfs"} <= source_options("git+https://example.com/app.git")
    assert {"keychain", "tls", "proxy", "insecure"} <= source_options("oci://ghcr.io/team/app")
    assert {"credentials", "tls", "proxy", "strip_prefix"} <= source_options("s3://models")


@pytest.mark.parametrize(
    ("text", "mine"),
    [
        ("deploy", "directory"),
        ("git+file:///srv/a.git", "git"),
        ("oci://ghcr.io/team/app", "oci"),
        ("s3://models", "bucket"),
    ],
)
def test_a_url_loads_its_own_backend_and_no_other(text, mine):
    """Each costs only those who use it."""
    program = (
        "import json, sys; from fluxsrc import source_from_url;"
        f"source_from_url({text!r}); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert f"fluxsrc.{mine}" in loaded
    assert {f"fluxsrc.{name}" for name in ("directory", "git", "oci", "bucket") if name != mine} & loaded == set()
    assert {"boto3", "google.auth", "azure.identity"} & loaded == set()
