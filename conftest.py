"""Every example runs: Python and console blocks of the Markdown pages, doctests and Python blocks of docstrings.

Each document has a directory of its own, which is a small Git repository (`_CHECKOUT`) on the branch `main`, with fixed
names and times, so that its commits have the same ids everywhere. In a console block, lines that begin with `$ ` are given
to bash, `> ` goes on with the line before, and what follows is what they print; `...` stands for anything. A command that
fails must say so: `$ fluxsrc …; echo "exit code $?"`. Blocks marked `sh` or `text` are not run: what needs a network.
"""

import doctest
import gc
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

_FLAGS: Final = doctest.ELLIPSIS

_CHECKOUT: Final = {
    ".sourceignore": "*.md\n",
    "README.md": "# podinfo\n",
    "deploy/base/app.yaml": "kind: Deployment\nreplicas: 1\n",
    "deploy/prod/app.yaml": "kind: Deployment\nreplicas: 3\n",
    "run.sh": "#!/bin/sh\nkubectl apply -f deploy\n",
}

_IDENTITY: Final = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in {"NAME": "Ada", "EMAIL": "ada@example.com", "DATE": "2026-01-02T03:04:05Z"}.items()
}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors, since many tests wait: for deadlines, for disks, for other programs.

    But none for those that somebody names: starting workers costs more than it saves.
    """
    return (os.cpu_count() or 1) + 1 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collecting keeps what it makes: to look for garbage in it, now or in each test that does so, costs seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of one document's examples."""
    home = tmp_path_factory.mktemp("home")
    directory = home / "podinfo"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "FLUXSRC_", "XDG_"))]:
            patch.delenv(name)
        fixed = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
        fixed |= {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for name, value in (fixed | _IDENTITY).items():
            patch.setenv(name, value)
        for path, text in _CHECKOUT.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(text)
        (directory / "run.sh").chmod(0o755)
        (directory / "latest").symlink_to("deploy/prod")
        commands = "git init -q -b main && git add . && git commit -q -m 'Deploy podinfo' && git tag v1.0.0"
        subprocess.run(commands, shell=True, check=True, cwd=directory)
        patch.chdir(directory)
        yield directory


class _Console:
    """Runs the commands of a console block one by one, and holds what they print against what the page shows."""

    def __call__(self, example: Example) -> str | None:
        source = str(example.parsed)
        found = list(re.finditer(r"^\$ (.*(?:\n> .*)*)\n?", source, re.MULTILINE))
        assert found, f"a console block without a command: {source!r}"
        for match, following in zip(found, [*found[1:], None], strict=True):
            command = match[1].replace("\n> ", "\n")
            expected = source[match.end() : following.start() if following else None]
            done = subprocess.run(
                ["bash", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=100,
                check=False,
            )
            printed = re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE)
            if done.returncode:
                return f"$ {command}\nended with exit code {done.returncode}:\n{printed}"
            if not doctest.OutputChecker().check_output(expected, printed, _FLAGS):
                return f"$ {command}\nprinted:\n{printed}\ninstead of:\n{expected}"
        return None


class _DocstringBlocks(CodeBlockParser):
    """The Python blocks of docstrings; those that are doctests belong to the doctest parser."""

    def __init__(self) -> None:
        super().__init__("python", PythonEvaluator())

    def __call__(self, document: Document) -> Iterable[Region]:
        return (region for region in super().__call__(document) if not str(region.parsed).startswith(">>>"))


pytest_collect_file = (
    Sybil(
        parsers=[
            PythonCodeBlockParser(doctest_optionflags=_FLAGS),
            CodeBlockParser("console", _Console()),
            SkipParser(),
        ],
        pattern="*.md",
        fixtures=["checkout"],
    )
    + Sybil(
        parsers=[DocTestParser(_FLAGS), _DocstringBlocks()],
        patterns=["fluxsrc/*.py", "fluxsrc/**/*.py"],
        fixtures=["checkout"],
    )
).pytest()
