"""Pack, unpack and splice, for any tree."""

import hashlib
import io
import tarfile
import tempfile
import zlib
from pathlib import Path

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxsrc.entry import Entry, Mode
from fluxsrc.errors import ContentError
from fluxsrc.recipe import Compression
from fluxsrc.tarball import Changes, Reuse, members, pack, unpack

NAMES = st.one_of(
    st.text("ab.-é0", min_size=1, max_size=3),
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=60),
    st.integers(1, 255).map(lambda length: "n" * length),
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
CONTENTS = st.one_of(
    st.binary(max_size=1100),
    st.builds(
        lambda size, seed: (hashlib.sha256(bytes([seed])).digest() * (size // 32 + 1))[:size],
        st.sampled_from([5000, 131_072, 131_073, 600_000]),
        st.integers(0, 255),
    ),
)
FILES = st.tuples(CONTENTS, st.sampled_from([Mode.FILE, Mode.EXECUTABLE]))
LINKS = st.tuples(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/".join(parts).encode()), st.just(Mode.SYMLINK)
)


def consistent(files):
    """The files, less those that lie below another: no file system could hold both."""
    taken = set()
    for path in sorted(files):
        parts = path.split("/")
        if not any("/".join(parts[:end]) in taken for end in range(1, len(parts))):
            taken.add(path)
    return {path: files[path] for path in taken}


TREES = st.dictionaries(PATHS, st.one_of(FILES, LINKS), max_size=12).map(consistent)


def entries(tree, *, named=False):
    for path in sorted(tree, key=str.encode):
        data, mode = tree[path]
        yield Entry.from_bytes(path, data, mode, hashlib.sha256(data).hexdigest() if named else None)


def on_disk(root):
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = (path.readlink().as_posix().encode(), Mode.SYMLINK)
        elif path.is_file():
            found[name] = (path.read_bytes(), Mode.EXECUTABLE if path.stat().st_mode & 0o100 else Mode.FILE)
    return found


def clean(tree):
    """Links as the file system would give them back: pathlib drops `.` components."""
    return {p: (Path(d.decode()).as_posix().encode() if m is Mode.SYMLINK else d, m) for p, (d, m) in tree.items()}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(TREES, st.sampled_from(Compression))
def test_unpacking_what_was_packed_gives_the_tree_back(tree, compression):
    archive = io.BytesIO()
    packed = pack(entries(tree), archive, compression=compression)
    archive.seek(0)
    with tempfile.TemporaryDirectory() as directory:
        assert unpack(archive, Path(directory) / "out", expected=packed.content_digest) == len(tree) == packed.files
        assert on_disk(Path(directory) / "out") == clean(tree)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(TREES)
def test_pythons_tarfile_reads_what_was_packed(tree):
    archive = io.BytesIO()
    pack(entries(tree), archive)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        found = {}
        for info in tar:
            assert (info.uid, info.gid, info.mtime, info.uname, info.gname) == (0, 0, 0, "", "")
            if info.issym():
                found[info.name] = (info.linkname.encode(), Mode.SYMLINK)
            else:
                found[info.name] = (tar.extractfile(info).read(), {0o644: Mode.FILE, 0o755: Mode.EXECUTABLE}[info.mode])
    assert found == tree


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(PATHS, FILES, max_size=8).map(consistent))
def test_members_reads_what_tarfile_writes(tree):
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz", format=form) as tar:
            for path, (data, mode) in tree.items():
                info = tarfile.TarInfo(path)
                info.size, info.mode, info.mtime = len(data), mode.permissions, 1234567890.5
                tar.addfile(info, io.BytesIO(data))
        archive.seek(0)
        assert {member.path: (body.read(), member.mode) for member, body in members(archive)} == tree


def test_a_tree_of_thousands_of_files_is_the_same_for_any_number_of_threads():
    tree = {f"d{n % 40}/f{n}.yaml": (b"key: %d\n" % n * (n % 300), Mode.FILE) for n in range(3000)}
    outcomes = set()
    for threads in (1, 2, 3, 7):
        archive = io.BytesIO()
        packed = pack(entries(tree), archive, threads=threads)
        outcomes.add((packed.content_digest, archive.getvalue()))
    assert len(outcomes) == 1


COUNT = 80
BASE = {
    f"d{n % 9}/f{n:03}": (hashlib.sha256(b"%d" % n).digest() * (n * 7 % 150 if n % 40 else 5000), Mode.FILE)
    for n in range(COUNT)
}
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("remove"), st.integers(0, COUNT - 1)),
        st.tuples(st.just("change"), st.integers(0, COUNT - 1), CONTENTS),
        st.tuples(st.just("chmod"), st.integers(0, COUNT - 1)),
        st.tuples(st.just("add"), PATHS, CONTENTS),
    ),
    max_size=6,
)


def edited(tree, edits):
    paths = sorted(tree)
    tree = dict(tree)
    for kind, where, *more in edits:
        path = where if kind == "add" else paths[where % len(paths)]
        if kind == "remove":
            tree.pop(path, None)
        elif kind == "chmod":
            tree[path] = (tree.get(path, (b"",))[0], Mode.EXECUTABLE)
        else:
            tree[path] = (more[0], Mode.FILE)
    return consistent(tree)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=25)
@given(EDITS, EDITS, st.sampled_from(Compression))
def test_a_spliced_archive_is_byte_for_byte_the_one_made_from_scratch(first, second, compression):
    """Also for a chain of revisions, each spliced from the one before."""
    tree, archive = BASE, io.BytesIO()
    packed = pack(entries(tree, named=True), archive, compression=compression)
    for edits in (first, second):
        tree = edited(tree, edits)
        scratch, spliced = io.BytesIO(), io.BytesIO()
        expected = pack(entries(tree, named=True), scratch, compression=compression)
        reuse = Reuse(packed.index, archive)
        packed = pack(entries(tree, named=True), spliced, compression=compression, reuse=reuse)
        assert packed == expected
        assert spliced.getvalue() == scratch.getvalue()
        archive = spliced


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(st.data())
def test_a_damaged_archive_or_index_never_changes_the_content(data):
    """Whatever is wrong with what is reused, the outcome is what packing from scratch gives."""
    archive = io.BytesIO()
    packed = pack(entries(BASE, named=True), archive)
    old, index = bytearray(archive.getvalue()), bytearray(packed.index)
    damaged = data.draw(st.sampled_from([old, index]))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    tree = edited(BASE, data.draw(EDITS))
    out = io.BytesIO()
    result = pack(entries(tree, named=True), out, reuse=Reuse(bytes(index), io.BytesIO(old)))
    scratch = pack(entries(tree, named=True), io.BytesIO())
    assert attrs.evolve(result, index=None) == attrs.evolve(scratch, index=None)
    assert hashlib.sha256(gzip_content(out.getvalue())).hexdigest() == result.content_digest.hex


def gzip_content(data):
    reader = zlib.decompressobj(31)
    content = reader.decompress(data)
    assert reader.eof
    return content


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_archive_is_a_content_error_and_leaves_nothing(data):
    """Flip or cut anything in an uncompressed archive: what is not noticed by the reader is noticed by the digest."""
    archive = io.BytesIO()
    tree = {"a/b": (b"x" * 600, Mode.FILE), "é" * 60: (b"y", Mode.EXECUTABLE), "z": (b"a/b", Mode.SYMLINK)}
    packed = pack(entries(tree), archive, compression=Compression.NONE)
    bad = bytearray(archive.getvalue())
    if data.draw(st.booleans()):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del bad[data.draw(st.integers(0, len(bad) - 1)) :]
    with tempfile.TemporaryDirectory() as directory:
        try:
            unpack(io.BytesIO(bad), Path(directory) / "out", expected=packed.content_digest)
        except ContentError:
            assert list(Path(directory).iterdir()) == []
        else:
            raise AssertionError("damage was not noticed")


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_jumping_over_what_did_not_change_makes_the_same_archive(edits, dice):
    """Whatever is changed, added or removed, and wherever the groups of the earlier archive end."""
    tree = {f"app{n // 10:03}/f{n % 10}": (bytes([n % 251]) * dice.randrange(9000), Mode.FILE) for n in range(400)}
    changed = dict(tree)
    for number, kind in edits:
        path = f"app{number // 10:03}/f{number % 10}"
        if kind == 0:
            changed.pop(path, None)
        else:
            changed[path + "-new" * (kind == 1)] = (b"changed" * dice.randrange(30_000), Mode.FILE)
    rows = list(entries(changed, named=True))
    paths = sorted(path for path in tree.keys() | changed.keys() if tree.get(path) != changed.get(path))
    old, new, scratch = io.BytesIO(), io.BytesIO(), io.BytesIO()
    index = pack(entries(tree, named=True), old).index
    known = Changes(paths, lambda start: (entry for entry in rows if entry.path >= start))
    assert pack(rows, new, reuse=Reuse(index, old, known)) == pack(rows, scratch)
    assert new.getvalue() == scratch.getvalue()
