"""From a Git server to an artifact: us, git's own C, and Flux's own Go, on one repository, over HTTP and SSH on loopback.

    python benchmarks/bench_git.py [--files 20000] [--only http,ssh,next,unchanged,sparse,blob]

The repository has 20,000 files in 50 teams' directories and 300 commits. What is compared, each in a process of its own:

    fluxsrc             GitSource(...).produce_artifact(LocalStore(...)), interpreter start included
    git archive         git clone --bare --depth 1, then git archive --format=tar.gz
    git clone + tar     git clone --depth 1, then tar | gzip
    Flux                fluxcd/pkg/git/gogit's Clone at depth 1, then its Storage.Archive
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

OURS = """
import json, sys, time
url, cache, store, options = sys.argv[1:5]
options = json.loads(options)
from fluxsrc.git import GitCache, GitSource
from fluxsrc.stores import LocalStore
if "key" in options:
    from fluxsrc.auth import SSHKey, StaticKeychain
    key = SSHKey(identity=open(options.pop("key")).read(), known_hosts=open(options.pop("known_hosts")).read())
    options["keychain"] = StaticKeychain(((GitSource(url).address.origin, key),))
source = GitSource(url, branch="main", cache=GitCache(path=cache), **options)
wall, cpu = time.perf_counter(), time.process_time()
artifact = source.produce_artifact(LocalStore(store))
print(json.dumps({"size": artifact.size, "files": artifact.files, "content": str(artifact.content_digest),
                  "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))
"""
UNCHANGED = """
import json, sys, time
from fluxsrc.git import GitCache, GitSource
from fluxsrc.stores import LocalStore
source = GitSource(sys.argv[1], branch="main", cache=GitCache(path=sys.argv[2]))
store = LocalStore(sys.argv[3])
source.produce_artifact(store)
best = []
for _ in range(20):
    wall, cpu = time.perf_counter(), time.process_time()
    source.produce_artifact(store)
    best.append((time.process_time() - cpu, time.perf_counter() - wall))
print(json.dumps({"cpu": min(best)[0], "wall": min(b for _, b in best)}))
"""
ARCHIVE = """
set -e
rm -rf "$2"
git clone -q --bare --depth 1 --branch main "$1" "$2/r.git"
git -C "$2/r.git" archive --format=tar.gz -o "$2/out.tar.gz" HEAD
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


def change(path: Path) -> str:
    """One more commit, of `CHANGED` files, on a branch of its own; return it. What is there is left alone."""
    names = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "main"], cwd=path, check=True, capture_output=True, text=True
    )
    base = subprocess.run(
        ["git", "rev-parse", "main"], cwd=path, check=True, capture_output=True, text=True
    ).stdout.strip()
    stream = [f"commit refs/heads/next\ncommitter Ada <ada@example.com> 1800000000 +0000\ndata 1\nx\nfrom {base}\n"]
    chosen = random.Random(9).sample(names.stdout.splitlines(), CHANGED)
    stream += [f"M 100644 inline {name}\ndata 11\nchanged: 1\n" for name in chosen]
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=path, check=True, input="".join(stream).encode())
    return subprocess.run(
        ["git", "rev-parse", "next"], cwd=path, check=True, capture_output=True, text=True
    ).stdout.strip()


@contextlib.contextmanager
def moved(path: Path, commit: str) -> Iterator[None]:
    """`main` is at another commit for a while."""
    before = subprocess.run(
        ["git", "rev-parse", "main"], cwd=path, check=True, capture_output=True, text=True
    ).stdout.strip()
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
        self.cache, self.store = self.work / "cache", self.work / "store"
        self.peer = flux_peer()
        self.rows: list[list[object]] = []
        self.server: GitHTTPServer | None = None

    def clear(self) -> None:
        """Everything as on a fresh machine."""
        for path in self.work.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def ours(self, url: str, **options: object) -> list[str | Path]:
        """Our command."""
        return python(OURS, url, self.cache, self.store, json.dumps(options))

    def run(self, case: str, who: str, command, *, before=None, runs: int = 3) -> Measured:
        """Measure a command, and add it to the table."""
        if self.server is not None:
            self.server.take_served()
        result = measure(command, before=before or self.clear, runs=runs)
        received = ""
        if self.server is not None:
            time.sleep(0.1)
            received = f"{sum(served.sent for served in self.server.take_served()) / (runs + 1) / 1000:,.0f} kB"
        self.rows.append([case, who, f"{result.seconds:.3f} s", received, f"{result.peak / MIB:.0f} MiB"])
        print(" | ".join(map(str, self.rows[-1])), flush=True)
        return result

    def cold(
        self, case: str, url: str, plain: str, environment: dict[str, str], flux: list[str], **options: object
    ) -> None:
        """All four, from nothing."""
        os.environ.update(environment)
        out = self.work / "git"
        us = self.run(case, "fluxsrc", self.ours(url, **options))
        peers = {
            "git archive": self.run(case, "git archive", ["bash", "-c", ARCHIVE, "-", plain, out]),
            "git clone + tar": self.run(case, "git clone + tar", ["bash", "-c", CLONE_AND_TAR, "-", plain, out]),
        }
        if self.peer is not None:
            peers["Flux"] = self.run(case, "Flux", [self.peer, "git", plain, "main", *flux, self.work / "flux.tar.gz"])
        ratios = ", ".join(f"{result.seconds / us.seconds:.1f}x {name}" for name, result in peers.items())
        print(
            f"  {case}: fluxsrc is {ratios}; its own part after the imports took {last_json(us.output)['wall']:.3f} s"
        )

    def next(self, url: str) -> None:
        """One commit later: the state after a cold run is put back before each run."""
        commit = change(self.repository)
        saved = scratch() / "git-saved"
        shutil.rmtree(saved, ignore_errors=True)
        self.clear()
        subprocess.run(self.ours(url), check=True, stdout=subprocess.DEVNULL)
        shutil.copytree(self.work, saved)

        def restore() -> None:
            shutil.rmtree(self.work)
            shutil.copytree(saved, self.work)

        with moved(self.repository, commit):
            self.run("next commit", "fluxsrc", self.ours(url), before=restore)

    def unchanged(self, url: str) -> None:
        """The same revision again."""
        self.clear()
        result = self.run("unchanged x20", "fluxsrc", python(UNCHANGED, url, self.cache, self.store), runs=1)
        found = last_json(result.output)
        print(f"  unchanged: {found['cpu'] * 1000:.1f} ms of our own CPU, {found['wall'] * 1000:.1f} ms in all")

    def sparse(self, url: str) -> None:
        """One team of fifty."""
        self.run("sparse, 1 of 50", "fluxsrc", self.ours(url, sparse=["teams/team-07"]))


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
    parser.add_argument("--only", default="http,ssh,next,unchanged,sparse,blob")
    arguments = parser.parse_args()
    cases = set(arguments.only.split(","))
    bench = Bench(arguments.files)
    print(f"{machine()}; bare interpreter: {bare_interpreter() / MIB:.0f} MiB\n")
    with GitHTTPServer(scratch()) as server:
        bench.server = server
        url = server.url(bench.repository.name)
        if "http" in cases:
            bench.cold("http, cold", url, url.removeprefix("git+"), {}, ["-", "-"])
        for case in ("next", "unchanged", "sparse"):
            if case in cases:
                getattr(bench, case)(url)
        if "blob" in cases:
            bench.run("500 MB blob", "fluxsrc", bench.ours(server.url(blob_repository().name)), runs=1)
        bench.server = None
    if "ssh" in cases:
        with sshd(scratch() / "git-sshd") as (port, key, known_hosts):
            plain = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{bench.repository}"
            command = f"ssh -i {key} -o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes"
            files = {"key": str(key), "known_hosts": str(known_hosts)}
            bench.cold(
                "ssh, cold", f"git+{plain}", plain, {"GIT_SSH_COMMAND": command}, [str(key), str(known_hosts)], **files
            )
    print("\n" + table(["case", "who", "time", "received", "peak"], bench.rows))


if __name__ == "__main__":
    main()
