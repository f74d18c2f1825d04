"""`import fluxsrc` is cheap: other people's programs pay for what they use, and for nothing else."""

import gc
import json
import subprocess
import sys
from unittest.mock import patch

import pytest

from fluxsrc.cli import main

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


def test_a_pull_from_a_registry_loads_nothing_that_it_does_not_need():
    """A new process that pulls spends its time on imports: ignore rules, packer, formats of signatures stay where they are."""
    program = "from fluxsrc import OCISource; OCISource('oci://127.0.0.1:9/a')"
    loaded = modules_after(program)
    assert {"fluxsrc.oci.source", "fluxsrc.oci.registry", "fluxsrc.tarball.tree"} <= loaded
    seldom = ("ignore.rules", "tarball.packing", "signatures.oci", "semver", "keychains.docker", "git", "bucket")
    assert {f"fluxsrc.{name}" for name in seldom} & loaded == set()
    assert packages(loaded) <= {"attr", "attrs", "certifi", "h11", "isal"}
