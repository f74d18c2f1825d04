"""`import fluxsrc` is cheap: other people's programs pay for what they use, and for nothing else."""

import contextlib
import gc
import json
import subprocess
import sys
from unittest.mock import patch

import pytest

from fluxsrc.cli import main
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access
from fluxsrc.oci.pushing import push
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.testing.object_server import ObjectServer
from fluxsrc.testing.registry import Registry

_OURS = {"fluxsrc"}
_STANDARD = sys.stdlib_module_names

_REPORT = "import sys, json; before = set(sys.modules); {}; print(json.dumps(sorted(set(sys.modules) - before)))"

_HEAVY = {
    "azure",
    "boto3",
    "botocore",
    "click",
    "cryptography",
    "dulwich",
    "google",
    "hypothesis",
    "isal",
    "matplotlib",
    "pandas",
    "prometheus_client",
    "pysequoia",
    "pytest",
    "rich",
    "sigstore",
    "starlette",
    "uvicorn",
    "yaml",
}


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter loads for one statement."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _REPORT.format(statement)], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def packages(modules: set[str]) -> set[str]:
    """The names of the top-level packages that somebody else maintains."""
    return {name.partition(".")[0] for name in modules} - _STANDARD - _OURS


def test_importing_the_package_loads_nothing_but_the_package():
    """Not a single third-party package, and none of our own modules but the one that loads the others."""
    loaded = modules_after("import fluxsrc")
    assert packages(loaded) == set()
    assert {name for name in loaded if name.startswith("fluxsrc")} == {"fluxsrc", "fluxsrc._lazy"}
    assert len(loaded) < 30, sorted(loaded)


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("from fluxsrc import FluxSrcError", set()),
        ("from fluxsrc import Revision, Artifact, Secret, Limits, Recipe, Operation", {"attr", "attrs"}),
        ("from fluxsrc import Source, Store", {"attr", "attrs"}),
    ],
)
def test_a_value_loads_only_what_it_is_made_of(statement, allowed):
    """Values and protocols need attrs, and no HTTP client, no Git library."""
    assert packages(modules_after(statement)) <= allowed


@pytest.mark.parametrize(
    "name", ["DirectorySource", "MemorySource", "LocalStore", "GitSource", "GitSignature", "source_from_url"]
)
def test_no_public_name_loads_what_belongs_to_an_extra(name):
    """The client libraries of clouds, signatures and terminals are loaded when they are used, not when they could be."""
    heavy = packages(modules_after(f"from fluxsrc import {name}")) & (_HEAVY - {"dulwich", "isal"})
    assert heavy == set()


def test_the_command_line_is_not_loaded_with_its_package():
    """`fluxsrc.cli` is importable without click and rich: it must be able to say that they are missing."""
    assert packages(modules_after("import fluxsrc.cli")) & _HEAVY == set()


def test_the_help_loads_no_backend():
    """`fluxsrc --help` answers at once: it reads the table of commands, and none of them."""
    loaded = modules_after(
        "import fluxsrc.cli; fluxsrc.cli.main(['--help'])".replace(
            "; ", "; import os, sys; o = os.dup(1); os.dup2(2, 1); ", 1
        )
        + "; os.dup2(o, 1)"
    )
    assert packages(loaded) & (_HEAVY - {"click"}) == set()
    assert "fluxsrc.urls" not in loaded


def test_a_command_loads_the_backend_that_its_url_names_and_no_other():
    """A person who waits for `fluxsrc resolve .` does not wait for registries, clouds and Git."""
    program = "import os, fluxsrc.cli; o = os.dup(1); os.dup2(2, 1); fluxsrc.cli.main(['resolve', '.']); os.dup2(o, 1)"
    loaded = modules_after(program)
    assert "fluxsrc.directory" in loaded
    others = {f"fluxsrc.{name}" for name in ("git", "oci", "bucket", "keychains", "_io.http")}
    assert others & loaded == set()
    assert packages(loaded) & (_HEAVY - {"click", "isal"}) == set()


def test_a_pull_of_a_repository_loads_nothing_that_it_does_not_need(tmp_path):
    """No rules to judge by, no lock file, no signature, no failure, nothing to show in a notebook: none of that is loaded."""
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", repository], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", repository, *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    words = ["pull", f"git+file://{repository}", "--output", str(tmp_path / "out")]
    loaded = modules_after(
        f"import os, fluxsrc.cli; o = os.dup(1); os.dup2(2, 1); fluxsrc.cli.main({words}); os.dup2(o, 1)"
    )
    assert {"fluxsrc.git.source", "fluxsrc.stores.local", "fluxsrc.tarball.unpacking"} <= loaded
    seldom = ("_html.tree", "_io.http", "cli.hints", "cli.policies", "directory", "git.remote", "git.transport")
    seldom += ("ignore.rules", "lock", "managed", "mounted", "semver", "signatures.oci", "signatures.git", "wrappers")
    assert {f"fluxsrc.{name}" for name in seldom} & loaded == set()
    assert packages(loaded) <= {"attr", "attrs", "click", "isal"}
    assert "difflib" not in loaded


def test_the_command_line_looks_for_garbage_less_often_and_leaves_its_caller_as_it_was():
    """Loading modules makes many objects and no garbage; whoever calls `main` has a threshold of his own."""
    before = gc.get_threshold()
    seen = []
    with patch("fluxsrc.cli.app.run", lambda _: seen.append(gc.get_threshold()) or 0):
        assert main([]) == 0
    assert seen[0][0] > before[0]
    assert gc.get_threshold() == before


_REPOSITORY = """
from fluxsrc import GitCache, GitSource, LocalStore
source = GitSource({url!r}, branch="main", cache=GitCache(path={work!r} + "/cache"))
assert source.produce_artifact(LocalStore({work!r} + "/store")).files == 1
"""
_REGISTRY = """
import os
from fluxsrc import OCISource
OCISource({url!r}, insecure=True).pull({work!r} + "/out")
assert os.listdir({work!r} + "/out") == ["a"]
"""
_BUCKET = """
from fluxsrc import BucketSource, LocalStore, S3Bucket
from fluxsrc.bucket import AWSKeys
bucket = S3Bucket("bucket", endpoint={url!r}, region="eu-1", credentials=AWSKeys("user", "password"))
assert BucketSource(bucket).produce_artifact(LocalStore({work!r} + "/store")).files == 1
"""
_DIRECTORY = """
from fluxsrc import DirectorySource, LocalStore
assert DirectorySource({url!r}).produce_artifact(LocalStore({work!r} + "/store")).files == 1
"""
_SELDOM = {"fluxsrc._html.tree", "fluxsrc._io.http.layered", "fluxsrc._io.http.proxy", "fluxsrc._io.http.tls"}
_SELDOM |= {f"fluxsrc.stores.{name}" for name in ("_fsck", "_reports", "_retention", "_statuses", "memory")}
_SELDOM |= {"certifi", "random", "secrets", "shutil", "ssl", "subprocess", "tempfile"}
"""What no job needs that goes well: checks and collections, TLS where there is none, temporary files, jitter, other processes."""
_READING = {"fluxsrc.tarball.reader", "fluxsrc.tarball.tree", "fluxsrc.tarball.unpacking"}


@contextlib.contextmanager
def a_repository(work):
    (work / "r" / "a").parent.mkdir()
    (work / "r" / "a").write_text("1")
    for words in (["init", "-b", "main"], ["add", "."], ["commit", "-m", "one"]):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *identity, *words], cwd=work / "r", check=True, capture_output=True)
    with GitHTTPServer(work) as server:
        yield server.url("r/.git")


@contextlib.contextmanager
def a_registry(_work):
    with Registry() as server:
        url = f"oci://{server.host}/a:latest"
        push(MemorySource({"a": "1"}), url, access=Access(insecure=True))
        yield url


@contextlib.contextmanager
def a_bucket(_work):
    with ObjectServer() as server:
        server.put("bucket", "a", b"1")
        yield server.url


@contextlib.contextmanager
def a_directory(work):
    (work / "d").mkdir()
    (work / "d" / "a").write_text("1")
    yield str(work / "d")


@pytest.mark.parametrize(
    ("kind", "program", "needed", "seldom"),
    [
        (a_directory, _DIRECTORY, {"directory"}, _READING | {"fluxsrc.auth", "fluxsrc._io.http"}),
        (
            a_repository,
            _REPOSITORY,
            {"git.remote", "git.transport_http"},
            _READING | {"dulwich", "fluxsrc.ignore.rules"},
        ),
        (
            a_registry,
            _REGISTRY,
            {"oci.registry", "tarball.unpacking"},
            {"concurrent.futures", "logging", "queue", "fluxsrc.ignore.rules", "fluxsrc.oci.layout", "fluxsrc.stores"}
            | {
                f"fluxsrc.{name}"
                for name in ("bucket", "git", "keychains", "semver", "signatures.oci", "tarball.packing")
            },
        ),
        (a_bucket, _BUCKET, {"bucket.s3"}, _READING | {"boto3", "fluxsrc.bucket.azure", "fluxsrc.bucket.gcs"}),
    ],
)
def test_a_job_of_a_new_process_loads_nothing_that_it_does_not_need(tmp_path, kind, program, needed, seldom):
    """Its imports are most of what a small job takes: what is for other jobs, for failures and for keeping stores waits."""
    with kind(tmp_path) as url:
        loaded = modules_after(f"exec({program.format(url=url, work=str(tmp_path))!r})")
    assert {f"fluxsrc.{name}" for name in needed} <= loaded
    assert loaded & (_SELDOM | seldom) == set()
    assert packages(loaded) <= {"attr", "attrs", "h11", "isal"}
