"""What all benchmarks share: measuring a command, the trees to work on, Flux's own code to compare with, tables.

Everything that is measured runs in a process of its own, started by a launcher that is smaller than any of them: Linux
counts the memory a child shares with its parent before `exec` against the child.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent
MIB = 1 << 20


class Measured(NamedTuple):
    """One run: seconds on the clock and of all processors, the largest process's peak resident bytes, what it printed."""

    seconds: float
    cpu: float
    peak: int
    output: str


_LAUNCHER = """
import os, sys, time
start = time.perf_counter()
pid = os.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
with open(sys.argv[1], "w") as out:
    print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, file=out)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def scratch() -> Path:
    """Where trees and results are kept between runs: $FLUXSRC_BENCH, or a directory below the temporary one."""
    path = Path(os.environ.get("FLUXSRC_BENCH", Path(tempfile.gettempdir()) / "fluxsrc-bench"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def measure(
    command: Sequence[str | Path], *, before: Callable[[], object] = lambda: None, runs: int = 3, warm: bool = True
) -> Measured:
    """The fastest of some runs, after one that is not counted and warms the caches; and the highest peak.

    Args:
        command: What to run; it must succeed.
        before: Called before each run, outside the measured time: removes what the last one left.
        runs: How many are counted.
        warm: Whether there is one that is not.
    """
    results = []
    for _ in range(runs + warm):
        before()
        results.append(_once(command))
    fastest = min(results[warm:], key=lambda result: result.seconds)
    return fastest._replace(peak=max(result.peak for result in results))


def _once(command: Sequence[str | Path]) -> Measured:
    os.sync()  # one run's dirty pages are not the next one's bill
    with tempfile.NamedTemporaryFile("r") as report:
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCHER, report.name, *map(os.fspath, command)]
        done = subprocess.run(
            launch, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, check=False, env=_environment()
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))[:200]}: exit status {done.returncode}")
        seconds, cpu, peak = report.read().split()
    return Measured(float(seconds), float(cpu), int(peak), done.stdout)


def _environment() -> dict[str, str]:
    """That of this process, but modules are compiled once, as those of an installed package are."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": os.fspath(scratch() / "bytecode")}


def python(script: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs some Python source with this interpreter."""
    return [sys.executable, "-c", script, *arguments]


def bare_interpreter() -> int:
    """Peak resident bytes of an interpreter that does nothing."""
    return measure(python("pass"), runs=1).peak


# --- Flux's own code -------------------------------------------------------------------------------------------------


def flux_peer() -> Path | None:
    """The program of `peers/flux`, built; None, and a line that says so, where Go is missing."""
    go = shutil.which("go")
    if go is None:
        print("Flux's own code is not measured: there is no `go` on the PATH")
        return None
    binary = scratch() / "flux-peer"
    subprocess.run([go, "build", "-o", binary, "."], cwd=BENCHMARKS / "peers" / "flux", check=True)
    return binary


# --- trees -----------------------------------------------------------------------------------------------------------


def tree(name: str, make: Callable[[Path], None]) -> Path:
    """A tree that is made once and kept; half-made ones are not."""
    path = scratch() / name
    if not path.exists():
        shutil.rmtree(partial := scratch() / f"{name}.partial", ignore_errors=True)
        partial.mkdir()
        make(partial)
        partial.rename(path)
    return path


def monorepo(files: int = 20_000, seed: int = 1) -> Path:
    """Kubernetes manifests as a team keeps them: an application per directory, about ten files in each."""
    return tree(f"monorepo-{files}-{seed}", lambda root: _write_monorepo(root, files, seed))


def _write_monorepo(root: Path, files: int, seed: int) -> None:
    dice = random.Random(seed)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 10))) for _ in range(3000)]
    kinds = ["Deployment", "Service", "Kustomization", "ConfigMap", "Ingress", "HelmRelease", "Secret", "NetworkPolicy"]
    for number in range(files):
        application = f"{words[number // 10 % 3000]}-{number // 10:05d}"
        directory = root / "clusters" / words[number // 2000] / words[number // 200] / application
        if number % 10 == 0:
            directory.mkdir(parents=True)
        kind = dice.choice(kinds)
        lines = [
            f"apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {application}\n  namespace: {words[number // 200]}\n"
        ]
        lines += ["  labels:\n"]
        for _ in range(dice.randint(4, 60)):
            lines.append(
                f"    {dice.choice(words)}/{dice.choice(words)}: {dice.choice(words)}-{dice.randrange(100000)}\n"
            )
        lines.append(f"spec:\n  replicas: {dice.randrange(9)}\n  hash: {dice.getrandbits(128):032x}\n")
        (directory / f"{kind.lower()}-{number % 10}.yaml").write_text("".join(lines))


def site_packages(at_least: int = 150 * MIB) -> Path:
    """A mixed tree: this interpreter's installed packages and standard library, in as many copies as it takes.

    Without links, and without what Flux's default rules leave out, so that everybody packs the same files.
    """
    return tree(f"site-packages-{at_least // MIB}", lambda root: _copy_packages(root, at_least))


_LEFT_OUT = {".jpg", ".jpeg", ".gif", ".png", ".wmv", ".flv", ".tar.gz", ".zip", ".gz", ".sourceignore"}


def _copy_packages(root: Path, at_least: int) -> None:
    total = copy = 0
    while total < at_least:
        for source in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
            for directory, names, files in os.walk(source):
                names[:] = sorted(name for name in names if name not in {"site-packages", "__pycache__", ".git"})
                for name in sorted(files):
                    path = Path(directory, name)
                    if path.is_symlink() or path.suffix in _LEFT_OUT or name.startswith(".git") or total >= at_least:
                        continue
                    target = root / f"copy{copy}" / Path(source).name / path.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target)
                    total += path.stat().st_size
        copy += 1


def incompressible(size: int = 400 * MIB) -> Path:
    """One file of random bytes."""

    def write(root: Path) -> None:
        dice = random.Random(7)
        with (root / "model.bin").open("wb") as out:
            for _ in range(size // MIB):
                out.write(dice.randbytes(MIB))

    return tree(f"incompressible-{size // MIB}", write)


# --- reporting -------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    cells = [list(head), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> str:
    """One line about where this runs."""
    model = "unknown processor"
    try:
        with open("/proc/cpuinfo") as info:
            model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} x {model}, Python {sys.version.split()[0]}"


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def last_json(output: str) -> dict:
    """What a measured script printed in its last line."""
    return json.loads(output.splitlines()[-1])
