"""ls, cat and diff of any two sources or artifacts."""

import subprocess

import pytest

from fluxsrc.directory import DirectorySource
from fluxsrc.entry import Mode
from fluxsrc.errors import PathNotFoundError
from fluxsrc.inspect import ChangeKind, Stored, cat, diff, ls, unified
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.oci import Access, OCISource
from fluxsrc.oci.publish import tag
from fluxsrc.oci.pushing import push
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.registry import Registry

OLD = MemorySource(
    {
        "app.yaml": "replicas: 2\nimage: a\n",
        "bin": MemoryFile(b"\x00\x01"),
        "gone": "x\n",
        "same": "same\n",
        "run.sh": "#!/bin/sh\n",
    }
)
NEW = MemorySource(
    {
        "app.yaml": "replicas: 3\nimage: a\n",
        "bin": MemoryFile(b"\x00\x02"),
        "new": "no end",
        "same": "same\n",
        "run.sh": MemoryFile(b"#!/bin/sh\n", Mode.EXECUTABLE),
    }
)


def kinds(old, new):
    return {change.path: change.kind for change in diff(old, new)}


EXPECTED = {
    "app.yaml": ChangeKind.CHANGED,
    "bin": ChangeKind.CHANGED,
    "gone": ChangeKind.REMOVED,
    "new": ChangeKind.ADDED,
    "run.sh": ChangeKind.MODE,
}


def test_every_difference_is_named():
    assert kinds(OLD, NEW) == EXPECTED
    assert list(kinds(OLD, NEW)) == sorted(EXPECTED)
    assert kinds(OLD, OLD) == {}


def test_any_two_places_can_be_compared(tmp_path):
    """A registry, an artifact in a store, a directory, memory."""
    store = MemoryStore()
    stored = Stored(NEW.produce_artifact(store), store)
    for path, file in NEW.files.items():
        (tmp_path / path).write_bytes(file.data)
        (tmp_path / path).chmod(file.mode.permissions)
    with Registry() as registry:
        push(NEW, f"oci://{registry.host}/app:v1", access=Access(insecure=True))
        remote = OCISource(f"oci://{registry.host}/app:v1", insecure=True)
        for new in (stored, remote, DirectorySource(tmp_path), NEW):
            assert kinds(OLD, new) == EXPECTED
            assert kinds(new, NEW) == {}
            assert b"".join(cat(new, "app.yaml")) == b"replicas: 3\nimage: a\n"
            assert [(file.path, file.mode, file.size) for file in ls(new)] == [
                (path, file.mode, len(file.data)) for path, file in NEW.files.items()
            ]


def test_equal_layers_are_not_downloaded_to_be_compared():
    with Registry() as registry:
        access = Access(insecure=True)
        push(NEW, f"oci://{registry.host}/app:v1", access=access)
        tag(f"oci://{registry.host}/app:v1", "v2", access=access)
        registry.requests.clear()
        one, other = (OCISource(f"oci://{registry.host}/app:{name}", insecure=True) for name in ("v1", "v2"))
        assert kinds(one, other) == {}
        assert registry.count("/blobs/") == 0


def test_the_unified_diff_is_one_that_patch_applies(tmp_path):
    texts_old = {"a": "1\n2\n3\n", "b": "x", "c\u2028d": "a\x0bb\nc\n", "e": "gone\n"}
    texts_new = {"a": "1\n3\n4\n", "b": "x\n", "c\u2028d": "a\x0bb\nd\n", "f": "no newline"}
    lines = list(unified(diff(MemorySource(texts_old), MemorySource(texts_new))))
    for name, text in texts_old.items():
        (tmp_path / name).write_text(text)
    patch = "".join(lines)
    done = subprocess.run(["git", "apply", "-"], input=patch, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr + patch
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == texts_new


def test_ignored_files_are_not_there():
    ignoring = MemorySource({"a": "1", "b": "2", ".sourceignore": "b\n"})
    assert [file.path for file in ls(ignoring)] == [".sourceignore", "a"]
    with pytest.raises(PathNotFoundError):
        b"".join(cat(ignoring, "b"))


def test_what_is_too_long_or_binary_is_named_with_its_sizes():
    old, new = (
        MemorySource({"big": "x" * 2_000_000}),
        MemorySource({"big": "y" * 2_000_000, "bin": MemoryFile(b"\xff")}),
    )
    changes = list(diff(old, new))
    assert [(change.path, change.text) for change in changes] == [("big", ""), ("bin", "")]
    assert "Binary files differ: 2,000,000 and 2,000,000 bytes\n" in list(unified(changes))
