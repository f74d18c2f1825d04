"""The canonical archive: its bytes, its order, what it refuses, what it reuses."""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib

import attrs
import pytest

from fluxsrc.entry import Entry, Mode
from fluxsrc.errors import (
    ConfigurationError,
    LimitExceededError,
    MissingExtraError,
    OperationCancelledError,
    SourceChangedError,
    StoreError,
    UnsafeEntryError,
)
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import FORMAT_VERSION, Compression
from fluxsrc.tarball import Changes, Reuse, members, pack, read_survey, unpack
from fluxsrc.tarball.headers import MAX_USTAR_SIZE, header
from fluxsrc.tarball.index import read_index

LARGE = 600_000


def entries(tree, *, named=False):
    for path in sorted(tree, key=str.encode):
        data, mode = tree[path] if isinstance(tree[path], tuple) else (tree[path], Mode.FILE)
        yield Entry.from_bytes(path, data, mode, "id:" + hashlib.sha256(data).hexdigest() if named else None)


def packed(tree, **options):
    archive = io.BytesIO()
    return pack(entries(tree), archive, **options), archive.getvalue()


def content(archive):
    return zlib.decompress(archive, 31)


# --- the bytes -------------------------------------------------------------------------------------------------------

EVERYTHING = {
    "a": b"",
    "a-b": b"x" * 511,
    "bin/run": (b"#!/bin/sh\n", Mode.EXECUTABLE),
    "bin/tool": (b"run", Mode.SYMLINK),
    "b" * 100: b"x" * 512,
    "c/" + "d" * 101: b"no slash where USTAR needs one",
    "d" * 150 + "/" + "e" * 100: b"splits",
    "far": (b"t/" * 60 + b"t", Mode.SYMLINK),
    "large": b"0123456789" * (LARGE // 10),
    "ü": b"not ASCII",
}


def test_the_bytes_of_format_version_1_never_change():
    """If this fails, every digest in every store changes: give the format a new version instead."""
    result, archive = packed(EVERYTHING)
    assert FORMAT_VERSION == 1
    assert str(result.content_digest) == "sha256:12c89185599c362912538bfa18febf3882efff96bd7a03e5ada71f4762825cb5"
    assert (result.content_size, result.files) == (len(content(archive)), 10)
    assert hashlib.sha256(content(archive)).hexdigest() == result.content_digest.hex


def test_an_empty_tree_is_two_blocks_of_zeros():
    result, archive = packed({})
    assert content(archive) == bytes(1024)
    assert (result.files, result.content_size) == (0, 1024)


@pytest.mark.parametrize("compression", Compression)
def test_the_content_digest_does_not_depend_on_the_compression(compression):
    result, archive = packed(EVERYTHING, compression=compression)
    assert result.content_digest == packed(EVERYTHING)[0].content_digest
    assert {member.path for member, _ in members(io.BytesIO(archive))} == set(EVERYTHING)


def test_a_plain_header_is_ustar_with_everything_else_at_zero():
    block = header(b"apps/web.yaml", Mode.FILE, 1234)
    info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert (info.name, info.mode, info.size, info.type) == ("apps/web.yaml", 0o644, 1234, b"0")
    assert (info.uid, info.gid, info.mtime, info.uname, info.gname, info.linkname) == (0, 0, 0, "", "", "")
    assert block[257:265] == b"ustar\x0000"
    assert len(block) == 512


@pytest.mark.parametrize(
    ("path", "blocks"),
    [
        ("n", 1),
        ("n" * 100, 1),
        ("n" * 101, 3),
        ("p" * 155 + "/" + "n" * 100, 1),
        ("p" * 156 + "/" + "n" * 100, 3),
        ("p" * 100 + "/" + "n" * 101, 3),
        ("p" * 100 + "/" + "q" * 54 + "/" + "n" * 100, 1),
        ("n" * 300, 3),
        ("é", 3),
        ("p" * 700, 4),
    ],
)
def test_pax_is_used_only_where_ustar_cannot_express_the_path(path, blocks):
    block = header(path.encode(), Mode.FILE, 0)
    assert len(block) == blocks * 512
    with tarfile.open(fileobj=io.BytesIO(block + bytes(1024))) as tar:
        assert tar.getnames() == [path]


@pytest.mark.parametrize("size", [MAX_USTAR_SIZE, MAX_USTAR_SIZE + 1, 1 << 40, 123456789012345])
def test_sizes_from_eight_gib_up_are_said_in_pax(size):
    block = header(b"model.bin", Mode.FILE, size)
    assert (len(block) > 512) == (size > MAX_USTAR_SIZE)
    with tarfile.open(fileobj=io.BytesIO(block)) as tar:
        assert tar.next().size == size
    if tar_command := shutil.which("tar"):
        listed = subprocess.run([tar_command, "-tvf", "-"], input=block, check=False, capture_output=True).stdout
        assert str(size).encode() in listed


@pytest.mark.parametrize("target", ["t", "t" * 100, "t" * 101, "ü"])
def test_link_targets_of_any_length_come_back(target):
    with tarfile.open(fileobj=io.BytesIO(header(b"link", Mode.SYMLINK, 0, target.encode()) + bytes(1024))) as tar:
        info = tar.next()
    assert (info.linkname, info.issym(), info.mode) == (target, True, 0o777)


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar here; the real-server lane has it")
def test_the_tar_command_unpacks_it(tmp_path):
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(packed(EVERYTHING)[1])
    for place in ("theirs", "ours"):
        (tmp_path / place).mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "theirs"], check=True)
    unpack(io.BytesIO(archive.read_bytes()), tmp_path / "ours")
    subprocess.run(["diff", "-r", "--no-dereference", tmp_path / "theirs", tmp_path / "ours"], check=True)


# --- what is refused -------------------------------------------------------------------------------------------------


def pack_paths(*paths, **options):
    return pack([Entry.from_bytes(path, b"x") for path in paths], io.BytesIO(), **options)


def test_the_order_is_that_of_utf_8_bytes():
    ordered = ["Z", "a", "a-b", "a.b", "a0", "z", "\u00e9", "\uff5e", "\U0001f600"]
    assert ordered == sorted(ordered, key=str.encode)
    assert pack_paths(*ordered).files == len(ordered)


@pytest.mark.parametrize("paths", [("b", "a"), ("a", "a"), ("a/b", "a-b"), ("\U0001f600", "\uff5e"), ("a", "b", "a")])
def test_entries_out_of_order_or_twice_are_refused(paths):
    with pytest.raises(UnsafeEntryError, match="sorted"):
        pack_paths(*paths)


@pytest.mark.parametrize(
    "paths", [("a", "a/b"), ("a", "a-b", "a.b", "a/b"), ("a", "a-", "a-/b", "a/b"), ("x/y", "x/y-", "x/y/z/w")]
)
def test_a_path_below_a_file_is_refused(paths):
    with pytest.raises(UnsafeEntryError, match="lies below"):
        pack_paths(*paths)


def test_names_that_only_start_alike_do_not_collide():
    assert pack_paths("a", "a-/b", "a.b/c", "ab", "b/a", "b/a0", "b/a1/c").files == 7


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../x", b"a/../../x", b"", b"\xff", b"t" * 5000, b"t" * LARGE])
def test_a_link_that_could_not_be_unpacked_is_not_packed(target):
    with pytest.raises(UnsafeEntryError):
        packed({"link": (target, Mode.SYMLINK)})


@pytest.mark.parametrize(
    ("size", "wrong"), [(0, 1), (0, 200_000), *((n, w) for n in (10, LARGE) for w in (-1, 1, 200_000))]
)
@pytest.mark.parametrize("way", ["open", "read"])
def test_content_that_is_not_of_its_listed_size_is_an_error(size, wrong, way):
    data = b"x" * max(size + wrong, 0)
    reader = (lambda: data) if way == "read" else None
    entry = Entry("file", Mode.FILE, size, lambda: io.BytesIO(data), None, reader)
    with pytest.raises(SourceChangedError, match="file"):
        pack([entry], io.BytesIO())


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(max_entries=2), "max_entries"),
        (Limits(max_content_bytes=LARGE), "max_content_bytes"),
        (Limits(max_file_bytes=LARGE - 1), "max_file_bytes"),
    ],
)
def test_limits_hold_while_packing(limits, name):
    with pytest.raises(LimitExceededError) as caught:
        packed({"a": b"1", "b": b"x" * LARGE, "c": b"3"}, limits=limits)
    assert caught.value.limit == name


def test_a_limit_on_file_bytes_holds_for_small_files_too():
    with pytest.raises(LimitExceededError):
        packed({"a": b"x" * 11}, limits=Limits(max_file_bytes=10))


# --- one pass, several threads ---------------------------------------------------------------------------------------


class Broken:
    def write(self, _data):
        raise StoreError("disk full")


def test_what_the_sink_raises_comes_out_and_no_thread_is_left():
    before = threading.active_count()
    with pytest.raises(StoreError, match="disk full"):
        pack(entries({f"{n:04}": b"x" * 20_000 for n in range(500)}), Broken())
    assert threading.active_count() <= before


def test_what_an_entry_raises_comes_out_and_no_thread_is_left():
    def gone():
        raise SourceChangedError("gone")

    before = threading.active_count()
    with pytest.raises(SourceChangedError, match="gone"):
        pack([Entry("a", Mode.FILE, 5, gone, None, gone)], io.BytesIO())
    assert threading.active_count() <= before


def test_packing_can_be_cancelled_in_the_middle_of_a_large_file():
    cancel = threading.Event()
    read = []

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            read.append(size)
            if len(read) == 3:
                cancel.set()
            return b"x" * size

    entry = Entry("large", Mode.FILE, 1 << 32, Endless)
    with pytest.raises(OperationCancelledError):
        pack([entry], io.BytesIO(), operation=Operation(cancel=cancel))
    assert len(read) == 3


def test_progress_is_told_in_bytes():
    seen = []
    pack(entries(EVERYTHING), io.BytesIO(), operation=Operation(progress=seen.append))
    assert [report.phase for report in seen] == ["pack"] * len(seen)
    assert seen[-1].done == packed(EVERYTHING)[0].content_size


def test_only_a_bounded_number_of_bytes_is_ahead_of_a_slow_sink():
    """Memory is bounded by the window, not by the content: the source waits for the sink."""
    release = threading.Event()
    too_far = threading.Event()

    class Slow:
        def write(self, _data):
            release.wait(60)

    def source():
        ahead = 0
        for number in range(400):
            data = b"%03d" % number * 40_000
            ahead += len(data)
            if ahead > 16 << 20 and not release.is_set():
                too_far.set()
            yield Entry.from_bytes(f"{number:04}", data)

    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(pack(source(), Slow(), threads=2)))
    thread.start()
    went_too_far = too_far.wait(1.0)
    release.set()
    thread.join()
    assert not went_too_far
    assert outcome[0].files == 400


def test_a_stream_may_give_less_than_it_was_asked_for():
    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 777) if size > 0 else size)

    data = bytes(range(256)) * 3000
    entry = Entry("large", Mode.FILE, len(data), lambda: Trickle(data))
    archive = io.BytesIO()
    assert pack([entry], archive).content_digest == packed({"large": data})[0].content_digest


def test_zstd_without_its_extra_says_which_one():
    script = (
        "import sys; sys.modules['backports'] = sys.modules['compression'] = None\n"
        "import io; from fluxsrc.tarball import pack; from fluxsrc.errors import MissingExtraError\n"
        "try: pack([], io.BytesIO(), compression='zstd')\n"
        "except MissingExtraError as exc: assert exc.extra == 'zstd'\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert issubclass(MissingExtraError, ConfigurationError)


# --- reuse -----------------------------------------------------------------------------------------------------------

TREE = {
    f"app{n // 20:02}/file{n:04}.yaml": hashlib.sha256(b"%d" % n).hexdigest().encode() * (n % 60) for n in range(2000)
}
TREE["model.bin"] = b"large" * 300_000


class Counting:
    """Counts what is read of each entry."""

    def __init__(self):
        self.paths = set()

    def __call__(self, listing):
        for entry in listing:
            yield attrs.evolve(
                entry, opener=self._told(entry.path, entry.open), reader=self._told(entry.path, entry.read)
            )

    def _told(self, path, read):
        def told():
            self.paths.add(path)
            return read()

        return told


def spliced(tree, old, index, **options):
    counting, archive = Counting(), io.BytesIO()
    result = pack(counting(entries(tree, named=True)), archive, reuse=Reuse(index, io.BytesIO(old)), **options)
    return result, archive.getvalue(), counting.paths


@pytest.fixture(scope="module")
def earlier():
    archive = io.BytesIO()
    result = pack(entries(TREE, named=True), archive)
    return archive.getvalue(), result.index


def test_an_unchanged_tree_is_copied_without_reading_an_entry(earlier):
    result, archive, read = spliced(TREE, *earlier)
    assert read == set()
    assert archive == earlier[0]
    assert result.index == earlier[1]


@pytest.mark.parametrize(
    "edit",
    [
        {"app50/file1000.yaml": b"changed"},
        {"app50/new.yaml": b"added"},
        {"app50/file1000.yaml": None},
        {"app50/file1000.yaml": (TREE["app50/file1000.yaml"], Mode.EXECUTABLE)},
        {"a-first": b"added"},
        {"z-last": b"added"},
    ],
    ids=["changed", "added", "removed", "mode", "first", "last"],
)
def test_a_change_costs_only_the_files_near_it(edit, earlier):
    tree = {path: data for path, data in (TREE | edit).items() if data is not None}
    result, archive, read = spliced(tree, *earlier)
    assert len(read) <= 2, read
    assert "model.bin" not in read or "z-last" in edit
    scratch = io.BytesIO()
    assert pack(entries(tree, named=True), scratch) == result
    assert archive == scratch.getvalue()


def test_no_content_id_no_index():
    assert packed(TREE)[0].index is None


def test_an_index_of_another_compression_is_not_used(earlier):
    assert spliced(TREE, *earlier, compression=Compression.NONE)[2] == set(TREE)


@pytest.mark.parametrize(
    "index",
    [b"", b"garbage", b"fluxsrc pack index\n" + bytes(32) + zlib.compress(b"{}")],
    ids=["empty", "garbage", "unsigned"],
)
def test_a_damaged_index_is_ignored(index, earlier):
    assert read_index(index, Compression.GZIP).groups == {}
    assert spliced(TREE, earlier[0], index)[1] == earlier[0]


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        "{}",
        '{"version": [1, 2], "compression": "gzip", "groups": []}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [["a", 1, "00", -1, [[1, 1, 1]], "x"]]}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [["a", 1, "00", 1, [[1, 99999999, 1]], "x"]]}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [["a", 0, "00", 1, [[1, 1, 1]], "x"]]}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [["a", 1, "00", 1, [], "x"]]}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [[1, 1, "00", 1, [[1, 1, 1]], "x"]]}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [["a", 1, "xx", 1, [[1, 1, 1]], "x"]]}',
        '{"version": [1, 4], "compression": "gzip", "complete": true, "groups": [["a", 1, "00", 1, [["1", 1, 1]], "x"]]}',
        "[" * 100_000,
    ],
)
def test_an_index_that_is_whole_but_makes_no_sense_is_ignored(document):
    note = zlib.compress(b"")
    body = len(note).to_bytes(4, "big") + note + zlib.compress(document.encode())
    assert read_index(b"fluxsrc pack index\n" + hashlib.sha256(body).digest() + body, Compression.GZIP).groups == {}


def test_an_index_of_another_archive_changes_nothing(earlier):
    other = io.BytesIO()
    pack(entries({path: data[::-1] for path, data in TREE.items()}, named=True), other)
    _, archive, _ = spliced(TREE, other.getvalue(), earlier[1])
    assert archive == earlier[0]


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_an_archive_that_was_cut_changes_nothing(keep, earlier):
    assert spliced(TREE, earlier[0][:keep], earlier[1])[1] == earlier[0]


def test_doubt_in_the_middle_of_a_large_file_is_settled_by_reading_it(earlier):
    damaged = bytearray(earlier[0])
    place = next(
        group for group in read_index(earlier[1], Compression.GZIP).groups.values() if group.first == "model.bin"
    ).blocks[2]
    damaged[place.offset + place.length // 2] ^= 0xFF
    _, archive, read = spliced(TREE, bytes(damaged), earlier[1])
    assert read == {"model.bin"}
    assert archive == earlier[0]


def test_content_ids_with_line_breaks_are_no_trouble():
    def listing(tree):
        return [attrs.evolve(entry, content_id=f"odd\n{entry.content_id}") for entry in entries(tree, named=True)]

    old, new, scratch = io.BytesIO(), io.BytesIO(), io.BytesIO()
    first = pack(listing(TREE), old)
    changed = TREE | {"app50/file1000.yaml": b"changed"}
    assert pack(listing(changed), new, reuse=Reuse(first.index, old)) == pack(listing(changed), scratch)
    assert new.getvalue() == scratch.getvalue()


def changes(old, new, listed=None):
    """What a source that compares trees would say; the paths it was asked to list go into `listed`."""
    rows = list(entries(new, named=True))
    paths = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))

    def listing(start):
        for entry in rows:
            if entry.path >= start:
                if listed is not None:
                    listed.add(entry.path)
                yield entry

    return Changes(paths, listing)


@pytest.mark.parametrize(
    "edit",
    [
        {},
        {"app50/file1000.yaml": b"changed"},
        {"app50/new.yaml": b"added"},
        {"app50/file1000.yaml": None},
        {"app50/file1000.yaml": (TREE["app50/file1000.yaml"], Mode.EXECUTABLE)},
        {"a-first": b"added"},
        {"z-last": b"added"},
        {"model.bin": b"small now"},
        dict.fromkeys(TREE),
    ],
    ids=["nothing", "changed", "added", "removed", "mode", "first", "last", "large", "all"],
)
def test_what_is_known_not_to_have_changed_is_not_even_listed(edit, earlier):
    tree = {path: data for path, data in (TREE | edit).items() if data is not None}
    listed = set()
    known = changes(TREE, tree, listed)
    archive, scratch = io.BytesIO(), io.BytesIO()
    result = pack(known.entries(""), archive, reuse=Reuse(earlier[1], io.BytesIO(earlier[0]), known))
    assert pack(entries(tree, named=True), scratch) == result
    assert archive.getvalue() == scratch.getvalue()
    assert len(listed) < 1 + len(TREE) // 4, "only what is near the change"
    assert all(end is None or start < end for start, end in result.unlisted)


def test_a_damaged_block_is_listed_and_read_although_nothing_changed(earlier):
    damaged = bytearray(earlier[0])
    groups = list(read_index(earlier[1], Compression.GZIP).groups.values())
    for group in groups[2::2]:
        damaged[group.blocks[0].offset + 20] ^= 0xFF
    archive = io.BytesIO()
    known = changes(TREE, TREE)
    pack(known.entries(""), archive, reuse=Reuse(earlier[1], io.BytesIO(bytes(damaged)), known))
    assert archive.getvalue() == earlier[0]


def test_limits_hold_for_entries_that_are_not_listed(earlier):
    known = changes(TREE, TREE)
    reuse = Reuse(earlier[1], io.BytesIO(earlier[0]), known)
    with pytest.raises(LimitExceededError, match="max_entries"):
        pack(known.entries(""), io.BytesIO(), reuse=reuse, limits=Limits(max_entries=len(TREE) - 1))


def test_an_index_with_gaps_is_not_jumped_over():
    """Entries without a name of their content are in no group: only the listing knows of them."""
    rows = [e if "app5" not in e.path else attrs.evolve(e, content_id=None) for e in entries(TREE, named=True)]
    old, new, scratch = io.BytesIO(), io.BytesIO(), io.BytesIO()
    first = pack(rows, old)
    known = Changes([], lambda start: [entry for entry in rows if entry.path >= start])
    assert pack(rows, new, reuse=Reuse(first.index, old, known)) == pack(rows, scratch)
    assert new.getvalue() == scratch.getvalue()


def test_the_survey_comes_back_out_of_the_index():
    index = pack(entries(TREE, named=True), io.BytesIO(), survey="rules: \udc80 ü").index
    assert read_survey(index) == "rules: \udc80 ü"
    assert read_survey(index[:-1]) == read_survey(b"") == ""
