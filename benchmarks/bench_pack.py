"""A directory becomes an archive: fluxsrc against Flux itself, `tar | gzip | sha256sum` and Python's tarfile.

    python benchmarks/bench_pack.py [case ...]        cases: monorepo packages blob splice

Each contestant walks the same directory, packs it, compresses it, digests it and writes it to the same disk; caches are
warm. fluxsrc does what a user does, `DirectorySource(...).produce_artifact(LocalStore(...))`: ignore rules, two digests,
manifest, record and fsync included. Time is that of the process, its start included; "in the call" is what the one call
took that does the work, as a long-running program or a controller sees it.
"""

import shutil
import subprocess
import sys

import _common as common

OURS = """
import json, sys, time
from fluxsrc.directory import DirectorySource
from fluxsrc.stores.local import LocalStore
start = time.perf_counter()
with LocalStore(sys.argv[2]) as store:
    artifact = DirectorySource(root=sys.argv[1]).produce_artifact(store)
print(json.dumps({"size": artifact.size, "seconds": time.perf_counter() - start}))
"""

TARFILE = """
import hashlib, json, os, sys, tarfile, time
start = time.perf_counter()
def plain(info):
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info
with tarfile.open(sys.argv[2], "w:gz", compresslevel=6) as tar:
    tar.add(sys.argv[1], ".", filter=plain)
with open(sys.argv[2], "rb") as archive:
    hashlib.file_digest(archive, "sha256")
print(json.dumps({"size": os.path.getsize(sys.argv[2]), "seconds": time.perf_counter() - start}))
"""

SHELL = """
tar --sort=name --owner=0 --group=0 --mtime=@0 -C "$0" -cf - . | gzip -6 | tee "$1" | sha256sum > "$1.sha256"
echo "{\\"size\\": $(stat -c %s "$1")}"
"""

SPLICE = """
import io, json, sys, time
from fluxsrc.directory import DirectorySource
from fluxsrc.entry import Entry
from fluxsrc.tarball import Reuse, pack
with DirectorySource(root=sys.argv[1]).fetch() as snapshot:
    entries = list(snapshot.entries())
old = io.BytesIO()
packed = pack(entries, old)
changed = [
    Entry.from_bytes(e.path, b"changed: true\\n" + e.read(), e.mode, f"new:{n}") if n % (len(entries) // 10) == 7 else e
    for n, e in enumerate(entries)
]
best = {}
for name in ("scratch", "splice") * 5:
    new = io.BytesIO()
    reuse = Reuse(packed.index, io.BytesIO(old.getvalue())) if name == "splice" else None
    start = time.perf_counter()
    result = pack(changed, new, reuse=reuse)
    best[name] = min(best.get(name, 1e9), time.perf_counter() - start)
    best.setdefault("digest", str(result.content_digest))
    assert best["digest"] == str(result.content_digest)
print(json.dumps(best))
"""


def contestants(tree, flux):
    """Name, command, and the place to clear before each run."""
    out = common.scratch() / "out"
    yield "fluxsrc", common.python(OURS, tree, out), out
    if flux is not None:
        yield "Flux", [flux, "archive", tree, out / "artifact.tar.gz"], out
    yield "tar | gzip -6", ["sh", "-c", SHELL, tree, out / "archive.tar.gz"], out
    yield "Python's tarfile", common.python(TARFILE, tree, out / "archive.tar.gz"), out


def clear(out):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()


def compare(title, tree, flux, bare):
    print(f"\n## {title}\n", flush=True)
    results = {}
    for name, command, out in contestants(tree, flux):
        runs = 3 if name in ("fluxsrc", "Flux") else 1
        results[name] = common.measure(command, before=lambda out=out: clear(out), runs=runs)
        clear(out)
    ours = results["fluxsrc"]
    said = common.last_json(ours.output)
    size = said["size"]
    rows = []
    for name, result in results.items():
        answer = common.last_json(result.output)
        theirs, call = answer["size"], answer.get("seconds")
        rows.append(
            [
                name,
                f"{result.seconds:.2f} s",
                f"{result.cpu:.2f} s",
                f"{result.seconds / ours.seconds:.2f}x",
                *(("", "") if call is None else (f"{call:.2f} s", f"{call / said['seconds']:.2f}x")),
                f"{theirs / 1e6:.2f} MB",
                f"{size / theirs:.3f}",
                f"{(result.peak - bare) / common.MIB:.0f} MiB",
            ]
        )
    print(
        common.table(
            [
                "",
                "time",
                "processor time",
                "to ours",
                "in the call",
                "to ours",
                "size",
                "ours to it",
                "peak over bare Python",
            ],
            rows,
        ),
        flush=True,
    )


def git_repository(root):
    """The monorepo as a Git repository: its last commit changes ten files."""
    source = common.monorepo()
    subprocess.run(["cp", "-r", f"{source}/.", root], check=True)

    def git(*words):
        subprocess.run(["git", "-C", root, "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True)

    git("init", "-q", "-b", "main")
    git("config", "gc.auto", "0")  # it would run behind our back
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    files = sorted(path for path in root.rglob("*.yaml"))
    for path in files[7 :: len(files) // 10][:10]:
        path.write_text("changed: true\n" + path.read_text())
    git("commit", "-q", "-a", "-m", "two")
    git("repack", "-a", "-d", "-q")


# What is timed is `produce_artifact` into a store that holds nothing, or the artifact of the commit before.
GIT_SPLICE = """
import json, subprocess, sys, tempfile, time
from fluxsrc.stores.local import LocalStore
from fluxsrc.urls import source_from_url
repository = sys.argv[1]
before = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD~1"], check=True, capture_output=True, text=True).stdout
best = {}
for name in ("scratch", "splice") * 5:
    with tempfile.TemporaryDirectory() as directory, LocalStore(directory) as store:
        if name == "splice":
            source_from_url(f"git+file://{repository}?commit={before.strip()}").produce_artifact(store, name="x")
        source = source_from_url(f"git+file://{repository}?branch=main")
        start = time.perf_counter()
        artifact = source.produce_artifact(store, name="x")
        best[name] = min(best.get(name, 1e9), time.perf_counter() - start)
        best.setdefault("digest", str(artifact.content_digest))
        assert best["digest"] == str(artifact.content_digest)
print(json.dumps(best))
"""


def splice():
    print("\n## (d) 10 of 20,000 files changed, contents known by name\n", flush=True)
    rows = []
    for name, script, tree in (
        ("pack, of a directory's entries", SPLICE, common.monorepo()),
        ("GitSource.produce_artifact, all of it", GIT_SPLICE, common.tree("monorepo-git", git_repository)),
    ):
        best = common.last_json(common.measure(common.python(script, tree), runs=1).output)
        scratch, spliced = best["scratch"], best["splice"]
        rows.append([name, f"{scratch:.3f} s", f"{spliced:.3f} s", f"{scratch / spliced:.1f}x"])
    print(common.table(["", "from scratch", "spliced", "faster"], rows))


def main(cases):
    print(f"# Packing, on {common.machine()}")
    flux = common.flux_peer() if {"monorepo", "packages", "blob"} & set(cases) else None
    bare = common.bare_interpreter()
    print(f"\nA bare interpreter peaks at {bare / common.MIB:.1f} MiB.")
    if "monorepo" in cases:
        compare("(a) a monorepo of 20,000 YAML files", common.monorepo(), flux, bare)
    if "packages" in cases:
        compare("(b) installed packages, 150 MB and more", common.site_packages(), flux, bare)
    if "blob" in cases:
        compare("(c) one incompressible file of 400 MB", common.incompressible(), flux, bare)
    if "splice" in cases:
        splice()


if __name__ == "__main__":
    main(sys.argv[1:] or ["monorepo", "packages", "blob", "splice"])
