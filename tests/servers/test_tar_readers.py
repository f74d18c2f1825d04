"""The real GNU tar and bsdtar read what we write, and we read what they write."""

import io
import os
import subprocess

import pytest

from fluxsrc.entry import Entry, Mode
from fluxsrc.tarball import pack, unpack
from fluxsrc.tarball.headers import header

pytestmark = pytest.mark.servers

TREE = {
    "a": (b"", Mode.FILE),
    "a-b": (b"x" * 511, Mode.FILE),
    "bin/run": (b"#!/bin/sh\n", Mode.EXECUTABLE),
    "bin/tool": (b"run", Mode.SYMLINK),
    "b" * 100: (b"x" * 512, Mode.FILE),
    "c/" + "d" * 101: (b"no slash where USTAR needs one", Mode.FILE),
    "d" * 150 + "/" + "e" * 100: (b"splits", Mode.FILE),
    "e/" + "f" * 250: (b"too long a name for USTAR", Mode.EXECUTABLE),
    "far": (b"t/" * 60 + b"t", Mode.SYMLINK),
    "large": (os.urandom(700_000) + b"0123456789" * 70_000, Mode.FILE),
    "ü/ñ \U0001f600": (b"not ASCII", Mode.FILE),
    "with space\u00a0and 'quotes'": (b"x", Mode.FILE),
}
READERS = ["tar", "bsdtar"]
ENVIRONMENT = os.environ | {"LC_ALL": "C.UTF-8"}


def entries(tree):
    return [Entry.from_bytes(path, *tree[path]) for path in sorted(tree, key=str.encode)]


def on_disk(root):
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[path.relative_to(root).as_posix()] = (os.readlink(path).encode(), Mode.SYMLINK)
        elif path.is_file():
            mode = Mode.EXECUTABLE if path.stat().st_mode & 0o100 else Mode.FILE
            found[path.relative_to(root).as_posix()] = (path.read_bytes(), mode)
    return found


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("reader", READERS)
def test_they_unpack_what_we_packed(reader, compression, tmp_path):
    if (reader, compression) == ("tar", "zstd"):
        options = ["--use-compress-program=unzstd"]
    else:
        options = ["-z"] if (reader, compression) == ("tar", "gzip") else []
    with (tmp_path / "archive").open("wb") as archive:
        pack(entries(TREE), archive, compression=compression)
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [reader, *options, "-xf", tmp_path / "archive", "-C", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert on_disk(tmp_path / "out") == TREE


@pytest.mark.parametrize("reader", READERS)
def test_they_understand_a_size_beyond_what_ustar_can_say(reader):
    """The content is not there: what is looked at is the header they list before they miss it."""
    size = 123_456_789_012
    archive = header(b"model.bin", Mode.FILE, size) + bytes(10240)
    listed = subprocess.run([reader, "-tvf", "-"], input=archive, capture_output=True, check=False).stdout.decode()
    assert str(size) in listed
    assert "model.bin" in listed


@pytest.mark.parametrize(
    "command",
    [
        ["tar", "--format=gnu", "-c"],
        ["tar", "--format=pax", "-c"],
        ["tar", "--format=pax", "-cz"],
        ["bsdtar", "--format=pax", "-c"],
        ["bsdtar", "--format=gnutar", "-c"],
        ["bsdtar", "--format=pax", "--zstd", "-c"],
        ["bsdtar", "--format=pax", "--gzip", "-c"],
    ],
    ids=" ".join,
)
def test_we_unpack_what_they_packed(command, tmp_path):
    root = tmp_path / "in"
    for path, (data, mode) in TREE.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if mode is Mode.SYMLINK:
            (root / path).symlink_to(data.decode())
        else:
            (root / path).write_bytes(data)
            (root / path).chmod(mode.permissions)
    archive = subprocess.run(
        [*command, "-f", "-", "-C", root, "."], capture_output=True, env=ENVIRONMENT, check=True
    ).stdout
    assert unpack(io.BytesIO(archive), tmp_path / "out") == len(TREE)
    assert on_disk(tmp_path / "out") == TREE
