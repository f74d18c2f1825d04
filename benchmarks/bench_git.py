"""From a Git server to an artifact: us, git's own C, and Flux's own Go, on one repository, over HTTP and SSH on loopback.

    python benchmarks/bench_git.py [--files 20000] [--only http,ssh,next,unchanged,sparse,blob]

The repository has 20,000 files in 50 teams' directories and 300 commits. What is compared, each in a process of its own:

    fluxsrc             GitSource(...).produce_artifact(LocalStore(...)), interpreter start included
    git archive         git clone --bare --depth 1, then git archive --format=tar.gz
    git clone + tar     git clone --depth 1, then tar | gzip
    Flux                fluxcd/pkg/git/gogit's Clone at depth 1, then its Storage.Archive
    git fetch           (one commit later) git fetch --depth 1 into the bare clone of before, then git archive

Of each: time on the clock, CPU of its own processes without the server's, bytes that the server sent (over HTTP), and the
peak memory of its largest process.

What we are compared with clones afresh each time, as Flux does; `git fetch` is what git could do at its best. We are
measured twice: as a process, a third of whose time goes into starting Python, and within a process that runs already, as a
controller does.
"""

import argparse
import contextlib
import getpass
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from _common import (
    MIB,
    Measured,
    bare_interpreter,
    flux_peer,
    last_json,
    machine,
    measure,
    monorepo,
    python,
    scratch,
    table,
)

from fluxsrc.testing.git_server import GitHTTPServer

TEAMS = 50
COMMITS = 300
CHANGED = 10

PREPARE = """
import json, shutil, subprocess, sys, time
from fluxsrc.git import GitCache, GitSource
from fluxsrc.stores import LocalStore
url, work, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if "key" in options:
    from fluxsrc.auth import SSHKey, StaticKeychain
    key = SSHKey(identity=open(options.pop("key")).read(), known_hosts=open(options.pop("known_hosts")).read())
    options["keychain"] = StaticKeychain(((GitSource(url).address.origin, key),))
def produce(work):
    source = GitSource(url, branch="main", cache=GitCache(path=f"{work}/cache"), **options)
    store = LocalStore(f"{work}/store")
    wall, cpu = time.perf_counter(), time.process_time()
    artifact = source.produce_artifact(store)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "files": artifact.files}
"""
OURS = (
    PREPARE
    + """
print(json.dumps(produce(work)))
"""
)
WARM = (
    PREPARE
    + """
runs = []
for number in range(4):
    shutil.rmtree(f"{work}/warm", ignore_errors=True)
    runs.append(produce(f"{work}/warm"))
print(json.dumps(min(runs[1:], key=lambda run: run["wall"])))
"""
)
NEXT = (
    PREPARE
    + """
repository, saved, commits = sys.argv[4], sys.argv[5], sys.argv[6:]
runs = []
for number in range(4):
    shutil.rmtree(f"{work}/warm", ignore_errors=True)
    shutil.copytree(saved, f"{work}/warm")
    for commit in commits:  # the one that is there, as a controller has seen it a minute ago, then the new one
        subprocess.run(["git", "update-ref", "refs/heads/main", commit], cwd=repository, check=True)
        found = produce(f"{work}/warm")
    runs.append(found)
print(json.dumps(min(runs[1:], key=lambda run: run["wall"])))
"""
)
UNCHANGED = (
    PREPARE
    + """
produce(work)
runs = [produce(work) for _ in range(20)]
print(json.dumps({"cpu": min(run["cpu"] for run in runs), "wall": min(run["wall"] for run in runs)}))
"""
)
ARCHIVE = """
set -e
rm -rf "$2"
git clone -q --bare --depth 1 --branch main "$1" "$2/r.git"
git -C "$2/r.git" archive --format=tar.gz -o "$2/out.tar.gz" HEAD
"""
FETCH = """
set -e
git -C "$2/r.git" fetch -q --depth 1 "$1" main
git -C "$2/r.git" archive --format=tar.gz -o "$2/out.tar.gz" FETCH_HEAD
"""
CLONE_AND_TAR = """
set -e
rm -rf "$2"
git clone -q --depth 1 --branch main "$1" "$2/r"
tar -C "$2/r" --exclude=.git -cf - . | gzip > "$2/out.tar.gz"
"""


def repository(files: int) -> Path:
    """A bare repository of `files` files in `TEAMS` directories, packed, with `COMMITS` commits on `main`."""
    path = scratch() / f"git-{files}.git"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", partial], check=True)
    paths = sorted(item for item in monorepo(files).rglob("*") if item.is_file())
    named = {
        f"teams/team-{place * TEAMS // len(paths):02}/{item.parent.name}/{item.name}": item
        for place, item in enumerate(paths)
    }
    importer = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=partial, stdin=subprocess.PIPE)
    write = importer.stdin.write

    def commit(number: int, changes: dict[str, bytes]) -> None:
        write(b"commit refs/heads/main\ncommitter Ada <ada@example.com> %d +0000\ndata 1\nx\n" % (1767323045 + number))
        for name, data in changes.items():
            write(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))

    commit(0, {name: item.read_bytes() for name, item in named.items()})
    dice = random.Random(5)
    for number in range(1, COMMITS):
        commit(
            number,
            {name: named[name].read_bytes() + b"# change %d\n" % number for name in dice.sample(sorted(named), 3)},
        )
    importer.stdin.close()
    assert importer.wait() == 0
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "config", key, "true"], cwd=partial, check=True)
    subprocess.run(["git", "repack", "-adfq"], cwd=partial, check=True)
    partial.rename(path)
    return path


def revision(path: Path, name: str) -> str:
    """The commit of a branch."""
    done = subprocess.run(["git", "rev-parse", name], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def change(path: Path) -> str:
    """One more commit, of `CHANGED` files, on a branch of its own; return it. What is there is left alone."""
    names = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "main"], cwd=path, check=True, capture_output=True, text=True
    )
    base = revision(path, "main")
    stream = [f"commit refs/heads/next\ncommitter Ada <ada@example.com> 1800000000 +0000\ndata 1\nx\nfrom {base}\n"]
    chosen = random.Random(9).sample(names.stdout.splitlines(), CHANGED)
    stream += [f"M 100644 inline {name}\ndata 11\nchanged: 1\n" for name in chosen]
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=path, check=True, input="".join(stream).encode())
    return revision(path, "next")


@contextlib.contextmanager
def moved(path: Path, commit: str) -> Iterator[None]:
    """`main` is at another commit for a while."""
    before = revision(path, "main")
    subprocess.run(["git", "update-ref", "refs/heads/main", commit], cwd=path, check=True)
    try:
        yield
    finally:
        subprocess.run(["git", "update-ref", "refs/heads/main", before], cwd=path, check=True)


class Bench:
    """What all cases share: where things are, and how a contender is run and reported."""

    def __init__(self, files: int) -> None:
        self.repository = repository(files)
        self.work = scratch() / "git-work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        self.peer = flux_peer()
        self.rows: list[list[object]] = []
        self.server: GitHTTPServer | None = None
        self.received = 0.0
        self.full: dict[str, tuple[float, float, float]] = {}

    def clear(self) -> None:
        """Everything as on a fresh machine."""
        for path in self.work.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def ours(self, url: str, script: str = OURS, *arguments: str | Path, **options: object) -> list[str | Path]:
        """Our command."""
        return python(script, url, self.work / "ours", json.dumps(options), *arguments)

    def run(self, case: str, who: str, command, *, before=None, runs: int = 3) -> Measured:
        """Measure a command, and add it to the table."""
        if self.server is not None:
            self.server.take_served()
        result = measure(command, before=before or self.clear, runs=runs)
        self.received = 0.0
        if self.server is not None:
            time.sleep(0.1)
            self.received = sum(served.sent for served in self.server.take_served()) / (runs + 1)
        received = f"{self.received / 1000:,.0f} kB" if self.received else ""
        self.rows.append(
            [case, who, f"{result.seconds:.3f} s", f"{result.cpu:.3f} s", received, f"{result.peak / MIB:.0f} MiB"]
        )
        print(" | ".join(map(str, self.rows[-1])), flush=True)
        return result

    def within(self, case: str, command: list[str | Path]) -> dict[str, float]:
        """Measure what a process that runs already takes: the best of three, after one that warms up."""
        self.clear()
        found = last_json(measure(command, runs=1, warm=False).output)
        self.rows.append([case, "fluxsrc, in process", f"{found['wall']:.3f} s", f"{found['cpu']:.3f} s", "", ""])
        print(" | ".join(map(str, self.rows[-1])), flush=True)
        return found

    def peers(self, case: str, remote: "Remote", runs: int) -> dict[str, Measured]:
        """Those who clone afresh each time."""
        os.environ.update(remote.environment)
        out = self.work / "git"
        found = {
            "git archive": self.run(case, "git archive", ["bash", "-c", ARCHIVE, "-", remote.plain, out], runs=runs),
            "git clone + tar": self.run(
                case, "git clone + tar", ["bash", "-c", CLONE_AND_TAR, "-", remote.plain, out], runs=runs
            ),
        }
        if self.peer is not None:
            command = [self.peer, "git", remote.plain, "main", *remote.flux, self.work / "flux.tar.gz"]
            found["Flux"] = self.run(case, "Flux", command, runs=runs)
        return found

    def cold(self, name: str, remote: "Remote") -> None:
        """All four, from nothing."""
        case = f"{name}, cold"
        us = self.run(case, "fluxsrc", self.ours(remote.url, **remote.options))
        within = self.within(case, self.ours(remote.url, WARM, **remote.options))
        self.full[name] = us.seconds, within["wall"], self.received
        self.ratios(case, us, within, self.peers(case, remote, 3))

    def ratios(self, case: str, us: Measured, within: dict[str, float], peers: dict[str, Measured]) -> None:
        """How often we could have done it in the others' time."""
        for how, seconds in (("as a process", us.seconds), ("in process", within["wall"])):
            ratios = ", ".join(f"{result.seconds / seconds:.1f}x {name}" for name, result in peers.items())
            print(f"  {case}: fluxsrc {how} is {ratios}")

    def next(self, name: str, remote: "Remote") -> None:
        """One commit later: the state after a cold run is put back before each run."""
        case = f"{name}, next commit"
        commits = revision(self.repository, "main"), change(self.repository)
        saved = scratch() / "git-saved"
        shutil.rmtree(saved, ignore_errors=True)
        self.clear()
        subprocess.run(self.ours(remote.url, **remote.options), check=True, stdout=subprocess.DEVNULL)
        (self.work / "git").mkdir()
        clone = ["git", "clone", "-q", "--bare", "--depth", "1", "--branch", "main", remote.plain, "git/r.git"]
        subprocess.run(clone, cwd=self.work, check=True, env={**os.environ, **remote.environment})
        shutil.copytree(self.work, saved)

        def restore() -> None:
            shutil.rmtree(self.work)
            shutil.copytree(saved, self.work)

        with moved(self.repository, commits[1]):
            us = self.run(case, "fluxsrc", self.ours(remote.url, **remote.options), before=restore)
            peers = self.peers(case, remote, 1)
            fetch = ["bash", "-c", FETCH, "-", remote.plain, self.work / "git"]
            peers["git fetch"] = self.run(case, "git fetch", fetch, before=restore)
            command = self.ours(remote.url, NEXT, self.repository, saved / "ours", *commits, **remote.options)
            self.ratios(case, us, self.within(case, command), peers)

    def unchanged(self, name: str, remote: "Remote") -> None:
        """The same revision again."""
        self.clear()
        if self.server is not None:
            self.server.take_served()
        found = last_json(measure(self.ours(remote.url, UNCHANGED, **remote.options), runs=1, warm=False).output)
        requests = ""
        if self.server is not None:
            time.sleep(0.1)
            requests = f", {(len(self.server.take_served()) - 3) / 20:.2f} requests"  # the first time it takes three
        cpu, wall = found["cpu"] * 1000, found["wall"] * 1000
        self.rows.append([f"{name}, unchanged", "fluxsrc, in process", f"{wall:.1f} ms", f"{cpu:.1f} ms", "", ""])
        print(" | ".join(map(str, self.rows[-1])) + requests, flush=True)

    def sparse(self, name: str, remote: "Remote") -> None:
        """One team of fifty."""
        case = f"{name}, sparse, 1 of 50"
        options = {**remote.options, "sparse": ["teams/team-07"]}
        us = self.run(case, "fluxsrc", self.ours(remote.url, **options))
        parts = [f"{self.received / 1000:,.0f} kB"]
        within = self.within(case, self.ours(remote.url, WARM, **options))
        if name in self.full:
            process, wall, received = self.full[name]
            parts = [f"{self.received / received:.3f} of the bytes"] if received else []
            parts += [f"{us.seconds / process:.3f} of the time as a process"]
            parts += [f"{within['wall'] / wall:.3f} of the time in process"]
        print(f"  {case}: {', '.join(parts)} of our own full fetch")


class Remote(NamedTuple):
    """The repository behind a server, for each contender.

    Attributes:
        url: For us.
        plain: For git and Flux.
        options: Of ours, besides.
        environment: Of git's.
        flux: Arguments of Flux's, besides.
    """

    url: str
    plain: str
    options: dict[str, object]
    environment: dict[str, str]
    flux: list[str]


@contextlib.contextmanager
def sshd(root: Path) -> Iterator[tuple[int, Path, Path]]:
    """OpenSSH's sshd with fresh keys: its port, a user's key, and known_hosts."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o700, parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
    shutil.copy(root / "user.pub", root / "authorized_keys")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (root / "known_hosts").write_text(
        f"[127.0.0.1]:{port} " + " ".join((root / "host.pub").read_text().split()[:2]) + "\n"
    )
    (root / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized_keys\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\nPermitRootLogin yes\n"
        f"SetEnv HOME={root}\n"  # or each command would wait for whatever this account's ~/.bashrc does
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-f", root / "sshd_config"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port, root / "user", root / "known_hosts"
    finally:
        process.terminate()
        process.wait()


def blob_repository() -> Path:
    """A bare repository with one incompressible file of 500 MB."""
    path = scratch() / "git-blob.git"
    if not path.exists():
        partial = path.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", partial], check=True)
        importer = subprocess.Popen(
            ["git", "-c", "core.compression=0", "fast-import", "--quiet"], cwd=partial, stdin=subprocess.PIPE
        )
        importer.stdin.write(b"commit refs/heads/main\ncommitter Ada <ada@example.com> 1767323045 +0000\ndata 1\nx\n")
        importer.stdin.write(b"M 100644 inline model.bin\ndata %d\n" % (500 * 10**6))
        dice = random.Random(3)
        for _ in range(500):
            importer.stdin.write(dice.randbytes(10**6))
        importer.stdin.write(b"\n")
        importer.stdin.close()
        assert importer.wait() == 0
        partial.rename(path)
    return path


def main() -> None:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--over", default="http,ssh")
    parser.add_argument("--only", default="cold,next,unchanged,sparse,blob")
    arguments = parser.parse_args()
    cases = arguments.only.split(",")
    transports = arguments.over.split(",")
    bench = Bench(arguments.files)
    print(f"{machine()}; bare interpreter: {bare_interpreter() / MIB:.0f} MiB\n")

    def run(name: str, remote: Remote) -> None:
        for case in ("cold", "next", "unchanged", "sparse"):
            if case in cases:
                getattr(bench, case)(name, remote)

    if "http" in transports:
        with GitHTTPServer(scratch()) as bench.server:
            url = bench.server.url(bench.repository.name)
            run("http", Remote(url, url.removeprefix("git+"), {}, {}, ["-", "-"]))
            if "blob" in cases:
                bench.run("500 MB blob", "fluxsrc", bench.ours(bench.server.url(blob_repository().name)), runs=1)
        bench.server = None
    if "ssh" in transports:
        with sshd(scratch() / "git-sshd") as (port, key, known_hosts):
            plain = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{bench.repository}"
            environment = {"GIT_SSH_COMMAND": f"ssh -i {key} -o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes"}
            options = {"key": str(key), "known_hosts": str(known_hosts)}
            run("ssh", Remote(f"git+{plain}", plain, options, environment, [str(key), str(known_hosts)]))
    print("\n" + table(["case", "who", "time", "own CPU", "received", "peak"], bench.rows))


if __name__ == "__main__":
    main()
