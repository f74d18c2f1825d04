"""Archives that others wrote, the hostile ones among them."""

import gzip
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib

import pytest

from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Mode
from fluxsrc.errors import (
    ConfigurationError,
    ContentError,
    DigestMismatchError,
    LimitExceededError,
    OperationCancelledError,
    StoreError,
    UnsafeEntryError,
)
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import Compression
from fluxsrc.tarball import MemberType, members, pack, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

END = bytes(1024)


def block(
    name=b"file",
    content=b"",
    *,
    kind=b"0",
    link=b"",
    size=None,
    mode=b"0000644\0",
    magic=b"ustar\x0000",
    prefix=b"",
    checksum=None,
):
    """One member, with any of its header's fields as wished."""
    size = b"%011o\0" % len(content) if size is None else size
    start = name.ljust(100, b"\0") + mode + b"0000000\0" * 2 + size + b"00000000000\0"
    end = kind + link.ljust(100, b"\0") + magic + bytes(80) + prefix.ljust(155, b"\0") + bytes(12)
    number = sum(start) + sum(end) + 8 * 0x20 if checksum is None else checksum
    return start + b"%06o\0 " % number + end + content + bytes(-len(content) % 512)


def pax(**records):
    body = b""
    for name, value in records.items():
        key = name.replace("__", ".")
        rest = len(key) + len(value) + 3
        length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
        body += b"%d %s=%s\n" % (length, key.encode(), value)
    return block(b"pax", body, kind=b"x")


def read(data, **options):
    return {member.path: (member.type, body.read()) for member, body in members(io.BytesIO(data), **options)}


FILE = block(content=b"content")
BASE_256 = b"\x80" + bytes(7) + b"\0\0\0\x07"

UNSAFE = {
    "absolute": block(b"/etc/passwd"),
    "absolute-after-dot": block(b".//etc/passwd"),
    "dot-dot": block(b"a/../../b"),
    "dot-dot-alone": block(b".."),
    "dot-dot-directory": block(b"..", kind=b"5"),
    "dot-dot-in-the-prefix": block(b"b", prefix=b"../.."),
    "dot-dot-in-pax": pax(path=b"../b") + block(),
    "absolute-in-pax": pax(path=b"/b") + block(),
    "dot-dot-in-a-gnu-name": block(b"././@LongLink", b"../b\0", kind=b"L") + block(),
    "empty-name": block(b""),
    "file-that-is-the-root": block(b"./"),
    "trailing-slash": block(b"a/"),
    "double-slash": block(b"a//b"),
    "inner-dot": block(b"a/./b"),
    "backslash": block(b"a\\..\\b"),
    "newline": block(b"a\nb"),
    "escape-sequence": block(b"a\x1b[2Jb"),
    "not-utf-8": block(b"a\xffb"),
    "nul-in-pax": pax(path=b"a\0b") + block(),
    "hard-link": block(b"a", b"x") + block(b"b", kind=b"1", link=b"a"),
    "hard-link-outside": block(b"b", kind=b"1", link=b"/etc/passwd"),
    "character-device": block(kind=b"3"),
    "block-device": block(kind=b"4"),
    "pipe": block(kind=b"6"),
    "gnu-sparse": block(kind=b"S", magic=b"ustar  \0"),
    "pax-sparse": pax(GNU__sparse__major=b"1") + block(),
    "pax-sparse-map": pax(GNU__sparse__map=b"0,1") + block(),
    "unknown-type": block(kind=b"D"),
    "symlink-absolute": block(b"l", kind=b"2", link=b"/etc"),
    "symlink-out": block(b"d/l", kind=b"2", link=b"../../x"),
    "symlink-out-through-a-name": block(b"l", kind=b"2", link=b"d/../../x"),
    "symlink-back-through-a-name": block(b"l", kind=b"2", link=b"d/.."),
    "symlink-empty": block(b"l", kind=b"2"),
    "symlink-out-in-pax": pax(linkpath=b"../x") + block(b"l", kind=b"2", link=b"ok"),
    "symlink-out-in-a-gnu-link": block(b"././@LongLink", b"/etc\0", kind=b"K") + block(b"l", kind=b"2", link=b"ok"),
    "below-a-symlink": block(b"l", kind=b"2", link=b"d") + block(b"l/x", b"x"),
    "below-a-symlink-in-between": block(b"a/l", kind=b"2", link=b"d") + block(b"a/l/b/c", b"x"),
    "directory-over-a-symlink": block(b"l", kind=b"2", link=b"d") + block(b"l", kind=b"5"),
    "file-over-a-symlink": block(b"l", kind=b"2", link=b"d") + block(b"l", b"x"),
    "symlink-over-a-directory": block(b"d/x", b"x") + block(b"d", kind=b"2", link=b"e"),
    "below-a-file": block(b"f", b"x") + block(b"f/x", b"x"),
    "file-over-a-directory": block(b"f/x", b"x") + block(b"f", b"x"),
    "duplicate": FILE + FILE,
    "duplicate-by-a-dot": FILE + block(b"./file", b"x"),
}
MALFORMED = {
    "empty": b"",
    "garbage": b"this is not a tar archive" * 100,
    "no-end": FILE,
    "half-an-end": FILE + bytes(512),
    "end-then-more": FILE + bytes(512) + FILE + END,
    "cut-in-a-header": FILE + block()[:300],
    "cut-in-a-content": FILE + block(b"b", b"x" * 600)[: 512 + 100],
    "cut-in-the-padding": block(content=b"x")[:600],
    "cut-in-pax": pax(path=b"x" * 600)[:600],
    "wrong-checksum": block(checksum=1) + END,
    "checksum-no-number": FILE[:148] + b"garbage!" + FILE[156:] + END,
    "garbage-after-the-end": FILE + END + b"garbage",
    "garbage-far-after-the-end": FILE + END + bytes(9000) + b"garbage",
    "endless-zeros": FILE + END + bytes(2 << 20),
    "size-no-number": block(size=b"garbage!1234") + END,
    "size-negative": block(size=b"-0000000001\0") + END,
    "size-negative-base-256": block(size=b"\xff" * 12) + END,
    "pax-size-negative": pax(size=b"-1") + block() + END,
    "pax-size-no-number": pax(size=b"1e3") + block() + END,
    "pax-size-endless": pax(size=b"9" * 30) + block() + END,
    "pax-said-twice": pax(path=b"a") + pax(path=b"b") + block() + END,
    "pax-and-gnu-name": pax(path=b"a") + block(b"L", b"b\0", kind=b"L") + block() + END,
    "pax-empty-path": pax(path=b"") + block() + END,
    "pax-without-length": block(b"pax", b"path=a\n", kind=b"x") + block() + END,
    "pax-too-long": block(b"pax", b"99 path=a\n", kind=b"x") + block() + END,
    "pax-too-short": block(b"pax", b"4 path=a\n", kind=b"x") + block() + END,
    "pax-without-value": block(b"pax", b"7 path\n", kind=b"x") + block() + END,
    "pax-before-the-end": pax(path=b"a") + END,
    "pax-huge": block(b"pax", b"", kind=b"x", size=b"77777777777\0") + END,
    "pax-without-end": pax(comment=b"x") * 50 + block() + END,
    "global-path": block(b"g", b"10 path=a\n", kind=b"g") + block() + END,
    "symlink-with-content": block(b"l", b"x" * 10, kind=b"2", link=b"t") + END,
    "directory-with-content": block(b"d", b"x" * 10, kind=b"5") + END,
    "gzip-cut": gzip.compress(FILE + END)[:-9],
    "gzip-cut-in-its-trailer": gzip.compress(FILE + END)[:-4],
    "gzip-wrong-checksum": gzip.compress(FILE + END)[:-8] + b"\0" * 8,
    "gzip-damaged": gzip.compress(random.Random(1).randbytes(9000))[:4000] + b"\xff" * 4000,
    "gzip-then-garbage": gzip.compress(FILE + END) + b"garbage",
    "gzip-alone": b"\x1f\x8b",
    "gzip-then-zeros-then-garbage": gzip.compress(FILE + END) + bytes(200_000) + b"x",
    "gzip-then-zeros-then-gzip": gzip.compress(FILE + END) + bytes(9) + gzip.compress(END),
    "zstd-then-zeros-then-garbage": zstd.compress(FILE + END) + bytes(200_000) + b"x",
    "zeros-then-gzip": bytes(9) + gzip.compress(FILE + END),
    "zstd-cut": zstd.compress(FILE + END)[:-5],
    "zstd-garbage": b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
    "zstd-then-garbage": zstd.compress(FILE + END) + b"garbage!",
}
LARGE = {
    "huge-size": (block(size=b"77777777777\0") + END, Limits(max_file_bytes=1 << 20), "max_file_bytes"),
    "base-256-size": (block(size=b"\x80" + b"\0\0\0\xff" + bytes(7)) + END, Limits(), "max_file_bytes"),
    "pax-size": (pax(size=b"99999999999999999999") + block() + END, Limits(), "max_file_bytes"),
    "sum-of-sizes": (
        block(b"a", b"x" * 900) + block(b"b", b"x" * 900) + END,
        Limits(max_content_bytes=1000),
        "max_content_bytes",
    ),
    "too-many": (b"".join(block(b"f%d" % n) for n in range(11)) + END, Limits(max_entries=10), "max_entries"),
    "too-many-directories": (
        b"".join(block(b"f%d" % n, kind=b"5") for n in range(11)) + END,
        Limits(max_entries=10),
        "max_entries",
    ),
    "long-path": (block(b"x" * 60) + END, Limits(max_path_bytes=50), "max_path_bytes"),
    "deep-path": (block(b"x/" * 30 + b"y") + END, Limits(max_path_depth=20), "max_path_depth"),
    "gzip-bomb": (gzip.compress(block(content=bytes(40 << 20)) + END), Limits(max_ratio=100), "max_ratio"),
    "zstd-bomb": (zstd.compress(block(content=bytes(40 << 20)) + END), Limits(max_ratio=100), "max_ratio"),
    "archive-bytes": (block(content=b"x" * 300_000) + END, Limits(max_archive_bytes=200_000), "max_archive_bytes"),
}


@pytest.fixture
def place(tmp_path):
    """A directory to unpack into; what is around it must not change."""
    (tmp_path / "around").mkdir()
    (tmp_path / "around" / "kept").write_text("kept")
    yield tmp_path / "around" / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["around"]
    assert (tmp_path / "around" / "kept").read_text() == "kept"


def refused(archive, place, error, **options):
    with pytest.raises(error) as caught:
        unpack(io.BytesIO(archive), place, **options)
    assert not place.exists()
    assert [path.name for path in place.parent.iterdir()] == ["kept"], "something was left behind"
    return caught.value


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_archive_is_refused_and_leaves_nothing(name, place):
    refused(UNSAFE[name] + END, place, UnsafeEntryError)
    refused(gzip.compress(UNSAFE[name] + END), place, UnsafeEntryError)


@pytest.mark.parametrize("name", UNSAFE)
def test_reading_the_members_refuses_what_unpacking_refuses(name):
    with pytest.raises(UnsafeEntryError):
        read(UNSAFE[name] + END)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_archive_is_refused_and_leaves_nothing(name, place):
    error = refused(MALFORMED[name], place, ContentError)
    assert type(error) is ContentError


@pytest.mark.parametrize("name", LARGE)
def test_an_archive_over_a_limit_is_refused_and_names_it(name, place):
    archive, limits, limit = LARGE[name]
    error = refused(archive, place, LimitExceededError, limits=limits)
    assert error.limit == limit
    assert f"Limits({limit}=" in str(error)


def test_every_cut_of_an_archive_is_refused(place):
    whole = pax(path=b"long/path") + block(content=b"x" * 700) + block(b"d", kind=b"5") + END
    for end in range(0, len(whole), 37):
        refused(whole[:end], place, ContentError)


def test_a_wrong_content_is_refused_at_the_end(place):
    error = refused(FILE + END, place, DigestMismatchError, expected=Digest.of(b"another"))
    assert error.expected == str(Digest.of(b"another"))
    assert error.actual == str(Digest.of(FILE + END))


def test_the_expected_digest_is_of_the_uncompressed_archive(place):
    assert unpack(io.BytesIO(gzip.compress(FILE + END)), place, expected=Digest.of(FILE + END)) == 1


def test_members_are_read_in_order_each_while_it_is_current():
    stream = members(io.BytesIO(block(b"b", b"1" * 2000) + block(b"a", b"22") + END))
    member, body = next(stream)
    assert (member.path, member.size, body.read(3)) == ("b", 2000, b"111")
    member, body2 = next(stream)
    assert (member.path, body2.read(), body2.read()) == ("a", b"22", b"")
    assert body.closed
    assert list(stream) == []


def test_a_member_can_be_read_in_every_way_a_stream_is_read():
    content = bytes(range(256)) * 5
    for way in (
        lambda body: body.read(),
        lambda body: body.read(-1),
        lambda body: body.readall(),
        lambda body: b"".join(iter(lambda: body.read(7), b"")),
        lambda body: b"".join(body),
        lambda body: io.BufferedReader(body).read(),
    ):
        assert [way(body) for _, body in members(io.BytesIO(block(content=content) + END))] == [content]


def test_the_stream_need_not_be_seekable_and_may_give_a_byte_at_a_time():
    class Trickle(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def read(self, _size=-1):
            return self.data.read(1)

    data = block(b"a", b"x" * 600) + END
    for whole in (data, gzip.compress(data), zstd.compress(data)):
        assert [(m.path, b.read()) for m, b in members(Trickle(whole))] == [("a", b"x" * 600)]


def test_what_git_archive_gnu_tar_and_docker_write_is_understood():
    data = (
        block(b"pax_global_header", b"52 comment=" + b"c" * 40 + b"\n", kind=b"g")
        + block(b"./", kind=b"5")
        + block(b"./chart/", kind=b"5")
        + block(b"./chart/Chart.yaml", b"name: x\n", magic=b"ustar  \0", prefix=b"not a prefix in GNU's format")
        + block(b"././@LongLink", b"n" * 150 + b"\0", kind=b"L")
        + block(b"n" * 100, b"long", magic=b"ustar  \0")
        + pax(mtime=b"1.5", SCHILY__xattr__user__x=b"a=b\nc", path="ü/ñ".encode())
        + block(b"ignored", b"pax", mode=b"0100755\0")
        + block(b"old", b"v7", kind=b"\0", magic=bytes(8))
        + block(b"old-dir/", kind=b"\0", magic=bytes(8))
        + block(b"contiguous", b"7", kind=b"7")
        + block(b"name", b"prefixed", prefix=b"some/where")
        + block(b"base-256", b"1234567", size=BASE_256)
        + block(b"spaces", b"1", size=b"          1 ")
        + block(b"chart/", kind=b"5")
        + END
        + bytes(8192)
    )
    found = {member.path: (member.type, member.mode, body.read()) for member, body in members(io.BytesIO(data))}
    file, directory = MemberType.FILE, MemberType.DIRECTORY
    assert found == {
        "chart": (directory, Mode.FILE, b""),
        "chart/Chart.yaml": (file, Mode.FILE, b"name: x\n"),
        "n" * 150: (file, Mode.FILE, b"long"),
        "ü/ñ": (file, Mode.EXECUTABLE, b"pax"),
        "old": (file, Mode.FILE, b"v7"),
        "old-dir": (directory, Mode.FILE, b""),
        "contiguous": (file, Mode.FILE, b"7"),
        "some/where/name": (file, Mode.FILE, b"prefixed"),
        "base-256": (file, Mode.FILE, b"1234567"),
        "spaces": (file, Mode.FILE, b"1"),
    }


def test_hard_links_are_given_to_who_asks_and_name_an_earlier_file():
    data = block(b"a", b"x") + block(b"d/b", kind=b"1", link=b"./a") + END
    found = [(m.path, m.type, m.target) for m, _ in members(io.BytesIO(data), hard_links=True)]
    assert found == [("a", MemberType.FILE, ""), ("d/b", MemberType.HARDLINK, "a")]
    for link in (b"later", b"../a", b"d"):
        data = block(b"d/x", b"x") + block(b"b", kind=b"1", link=link) + block(b"later", b"x") + END
        with pytest.raises(UnsafeEntryError):
            read(data, hard_links=True)


def test_gzip_members_and_zstd_frames_may_follow_each_other():
    first, second = (FILE + END)[:100], (FILE + END)[100:]
    for compress in (gzip.compress, zstd.compress):
        assert read(compress(first) + compress(b"") + compress(second)) == {"file": (MemberType.FILE, b"content")}


def test_zeros_may_fill_up_the_last_record_of_a_compressed_archive():
    """As bsdtar does where it writes to a pipe."""
    for compress in (gzip.compress, zstd.compress):
        assert read(compress(FILE + END) + bytes(300_000)) == {"file": (MemberType.FILE, b"content")}


def test_a_compression_that_is_named_is_not_guessed():
    with pytest.raises(ContentError):
        read(gzip.compress(FILE + END), compression=Compression.NONE)
    with pytest.raises(ContentError):
        read(FILE + END, compression=Compression.GZIP)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
def test_highly_compressible_content_comes_out_whole(compress):
    content = b"0" * 5_000_000
    assert read(compress(block(content=content) + END))["file"] == (MemberType.FILE, content)


def test_only_files_links_and_directories_of_the_archive_are_made(place):
    data = (
        block(b"d/", kind=b"5")
        + block(b"e/run", b"#!", mode=b"0000755\0")
        + block(b"e/l", kind=b"2", link=b"../d")
        + END
    )
    assert unpack(io.BytesIO(data), place) == 2
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*")) == ["d", "e", "e/l", "e/run"]
    assert os.access(place / "e" / "run", os.X_OK)
    assert (place / "e" / "l").readlink().as_posix() == "../d"


def test_set_id_bits_and_owners_of_an_archive_are_not_taken_over(place):
    unpack(io.BytesIO(block(content=b"x", mode=b"0006777\0") + END), place)
    assert (place / "file").stat().st_mode & 0o7000 == 0
    assert (place / "file").stat().st_uid == os.getuid()


def test_links_can_be_refused(place):
    refused(block(b"l", kind=b"2", link=b"t") + END, place, UnsafeEntryError, symlinks=False)


def test_an_empty_directory_is_a_fine_destination_and_its_parents_are_made(place):
    place.mkdir()
    unpack(io.BytesIO(FILE + END), place)
    unpack(io.BytesIO(FILE + END), place / "a" / "b")
    assert (place / "a" / "b" / "file").read_bytes() == b"content"


def test_parents_that_were_made_for_nothing_do_not_stay(place):
    """All of them go, unless somebody else has begun to use them."""
    with pytest.raises(UnsafeEntryError):
        unpack(io.BytesIO(UNSAFE["dot-dot"] + END), place / "new" / "and" / "out")
    assert not place.exists()

    class Meddler(io.BytesIO):
        def read(self, size=-1):
            (place / "new" / "theirs").mkdir(exist_ok=True)
            return super().read(size)

    with pytest.raises(UnsafeEntryError):
        unpack(Meddler(UNSAFE["dot-dot"] + END), place / "new" / "and" / "out")
    assert [path.name for path in (place / "new").iterdir()] == ["theirs"]


def test_a_destination_with_something_in_it_is_left_alone(place):
    place.mkdir()
    (place / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        unpack(io.BytesIO(FILE + END), place)
    assert [path.name for path in place.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling-link"])
def test_a_destination_that_is_no_directory_is_left_alone(kind, place):
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("/tmp" if kind == "link" else "nowhere")
    before = place.lstat()
    with pytest.raises(ConfigurationError, match="not a directory"):
        unpack(io.BytesIO(FILE + END), place)
    assert place.lstat() == before


def test_a_destination_that_fills_up_meanwhile_is_left_alone(place):
    def archive():
        yield FILE
        place.mkdir()
        (place / "mine").write_text("mine")
        yield END

    class Stream(io.RawIOBase):
        pieces = archive()

        def read(self, _size=-1):
            return next(self.pieces, b"")

    with pytest.raises(ConfigurationError, match="filled"):
        unpack(Stream(), place)
    assert sorted(path.name for path in place.parent.iterdir()) == ["kept", "out"]
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_names_that_the_file_system_takes_for_the_same_collide(place, monkeypatch):
    """As on a file system that folds case: whatever is there already is never opened."""
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **more: real(path.lower() if path == "FILE" else path, *rest, **more)
    )
    refused(FILE + block(b"FILE", b"x") + END, place, UnsafeEntryError)


def test_a_full_disk_is_the_stores_error_and_leaves_nothing(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    refused(FILE + END, place, StoreError)


def test_unpacking_obeys_its_operation(place):
    cancel = threading.Event()
    cancel.set()
    refused(FILE + END, place, OperationCancelledError, operation=Operation(cancel=cancel))


def test_no_descriptor_is_left_open(place):
    before = len(os.listdir("/proc/self/fd"))
    deep = b"".join(block(b"/".join([b"d%d" % n] * 12) + b"/f", b"x") for n in range(5))
    unpack(io.BytesIO(deep + END), place)
    refused_place = place / "inner"
    with pytest.raises(ContentError):
        unpack(io.BytesIO(deep), refused_place)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar here; the real-server lane has it")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_what_the_tar_command_writes_is_read(form, tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "in" / "sub" / "run").chmod(0o755)
    (tmp_path / "in" / "empty").touch()
    (tmp_path / "in" / "link").symlink_to("sub/run")
    if form in ("gnu", "pax"):
        (tmp_path / "in" / ("ü" * 70)).write_bytes(b"long")
    archive = subprocess.run(
        ["tar", f"--format={form}", "-C", tmp_path / "in", "-c", "."], check=True, capture_output=True
    ).stdout
    unpack(io.BytesIO(archive), tmp_path / "out")
    assert subprocess.run(["diff", "-r", tmp_path / "in", tmp_path / "out"], check=False).returncode == 0
    assert os.access(tmp_path / "out" / "sub" / "run", os.X_OK)


def test_pythons_tarfile_agrees_on_what_is_accepted():
    """Our strict reader accepts a subset of what tarfile reads, and reads it the same."""
    data = FILE + pax(path=b"p/q") + block(b"x", b"1") + END
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = {info.name: tar.extractfile(info).read() for info in tar}
    assert {path: content for path, (_, content) in read(data).items()} == theirs


def test_a_packed_archive_has_nothing_but_its_entries():
    archive = io.BytesIO()
    pack([Entry.from_bytes("a/b", b"1"), Entry.from_bytes("c", b"a/b", Mode.SYMLINK)], archive)
    raw = zlib.decompress(archive.getvalue(), 31)
    assert [(m.path, m.type) for m, _ in members(io.BytesIO(raw))] == [
        ("a/b", MemberType.FILE),
        ("c", MemberType.SYMLINK),
    ]
    assert len(raw) == 512 + 512 + 512 + 1024
