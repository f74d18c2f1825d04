"""Packs that lie: what is declared is checked, whatever it is, and nothing is left behind."""

import hashlib
import struct
import subprocess
import zlib

import pytest

from fluxsrc.errors import (
    ContentError,
    FluxSrcError,
    LimitExceededError,
    OperationCancelledError,
    RemoteProtocolError,
    TransportTimeoutError,
)
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.pack import receive_pack
from fluxsrc.git.packfile import Kind, ObjectFormat, encode_header
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation

BLOB, TREE, OFS, REF = Kind.BLOB, Kind.TREE, Kind.OFS_DELTA, Kind.REF_DELTA


def oid(data, kind=b"blob"):
    return hashlib.sha1(b"%s %d\0%s" % (kind, len(data), data)).digest()


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def distance(number):
    out = [number & 0x7F]
    while number := number >> 7:
        number -= 1
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))


def delta(base, result, *, copy=0, base_size=None, size=None):
    """A delta that copies the first `copy` bytes of its base and inserts the rest."""
    body = b"\x90" + bytes([copy]) if copy else b""
    rest = result[copy:]
    for start in range(0, len(rest), 127):
        piece = rest[start : start + 127]
        body += bytes([len(piece)]) + piece
    sizes = (len(base) if base_size is None else base_size, len(result) if size is None else size)
    return varint(sizes[0]) + varint(sizes[1]) + body


def entry(kind, data, *, base=b"", size=None):
    return encode_header(kind, len(data) if size is None else size) + base + zlib.compress(data)


def pack(*entries, count=None, magic=b"PACK", version=2):
    data = magic + struct.pack(">II", version, len(entries) if count is None else count) + b"".join(entries)
    return data + hashlib.sha1(data).digest()


def receive(data, directory, *, bases=None, limits=DEFAULT_LIMITS, operation=None, chunk=7000):
    directory.mkdir(exist_ok=True)
    chunks = (data[start : start + chunk] for start in range(0, len(data), chunk))
    bases = ObjectDatabase([], ObjectFormat.SHA1) if bases is None else bases
    operation = Operation() if operation is None else operation
    return receive_pack(chunks, directory, bases=bases, limits=limits, operation=operation, url="test")


def open_received(tmp_path):
    return ObjectDatabase([tmp_path / "objects"], ObjectFormat.SHA1)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "objects" / "pack"
    path.mkdir(parents=True)
    return path


class TestGoodPacks:
    def test_every_kind_of_delta_resolves(self, tmp_path, directory):
        one, two, three, four = b"a" * 50, b"a" * 50 + b"b", b"a" * 50 + b"bc", b"a" * 40 + b"d"
        first = entry(BLOB, one)
        second = entry(OFS, delta(one, two, copy=50), base=distance(len(first)))
        third = entry(REF, delta(two, three, copy=51), base=oid(two))
        fourth = entry(REF, delta(one, four, copy=40), base=oid(one))
        received = receive(pack(first, second, third, fourth), directory)
        assert received.objects == 4
        with open_received(tmp_path) as objects:
            for data in (one, two, three, four):
                assert objects.read(oid(data)) == (BLOB, data)
                assert objects.size(oid(data)) == len(data)
                assert objects.open(oid(data)).read() == data

    def test_a_base_may_come_after_its_deltas(self, tmp_path, directory):
        one, two, three = b"a" * 50, b"a" * 50 + b"b", b"a" * 50 + b"bc"
        entries = [
            entry(REF, delta(two, three, copy=51), base=oid(two)),
            entry(REF, delta(one, two, copy=50), base=oid(one)),
            entry(BLOB, one),
        ]
        receive(pack(*entries), directory)
        with open_received(tmp_path) as objects:
            assert objects.read(oid(three)) == (BLOB, three)

    def test_a_delta_may_wait_for_a_delta_by_offset(self, tmp_path, directory):
        one, two, three = b"a" * 50, b"a" * 50 + b"b", b"a" * 50 + b"bc"
        first = entry(REF, delta(one, two, copy=50), base=oid(one))
        second = entry(OFS, delta(two, three, copy=51), base=distance(len(first)))
        receive(pack(first, second, entry(BLOB, one)), directory)
        with open_received(tmp_path) as objects:
            assert objects.read(oid(three)) == (BLOB, three)

    def test_a_thin_pack_is_completed(self, tmp_path, directory):
        one, two = b"a" * 50, b"a" * 50 + b"b"
        receive(pack(entry(BLOB, one)), directory)
        other = tmp_path / "other" / "pack"
        other.mkdir(parents=True)
        received = receive(
            pack(entry(REF, delta(one, two, copy=50), base=oid(one))), other, bases=open_received(tmp_path)
        )
        with ObjectDatabase([tmp_path / "other"], ObjectFormat.SHA1) as objects:
            assert objects.read(oid(two)) == (BLOB, two)
            assert objects.read(oid(one)) == (BLOB, one)
        subprocess.run(["git", "verify-pack", received.path], check=True)

    def test_an_empty_pack_leaves_nothing(self, directory):
        assert receive(pack(), directory).path is None
        assert list(directory.iterdir()) == []

    def test_a_large_object_is_hashed_in_pieces_and_streams(self, tmp_path, directory):
        data = b"line of text\n" * 400_000
        receive(pack(entry(BLOB, data)), directory, chunk=100_000)
        with open_received(tmp_path) as objects, objects.open(oid(data)) as stream:
            assert hashlib.file_digest(stream, "sha256").digest() == hashlib.sha256(data).digest()

    def test_an_object_twice_is_one(self, tmp_path, directory):
        receive(pack(entry(BLOB, b"x"), entry(BLOB, b"x")), directory)
        with open_received(tmp_path) as objects:
            assert objects.read(oid(b"x")) == (BLOB, b"x")

    def test_the_index_is_the_one_git_would_write(self, directory, tmp_path):
        received = receive(pack(*(entry(BLOB, b"%d" % number) for number in range(300))), directory)
        copy = tmp_path / "copy.pack"
        copy.write_bytes(received.path.with_suffix(".pack").read_bytes())
        subprocess.run(["git", "index-pack", copy], check=True, capture_output=True)
        assert copy.with_suffix(".idx").read_bytes() == received.path.read_bytes()


ONE = b"a" * 50


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", RemoteProtocolError),
        (b"PACK", RemoteProtocolError),
        (pack(magic=b"KCAP"), RemoteProtocolError),
        (pack(version=9), RemoteProtocolError),
        (pack(entry(BLOB, b"x"))[:-1], ContentError),
        (pack(entry(BLOB, b"x"))[:-30], RemoteProtocolError),
        (pack(entry(BLOB, b"x"), entry(BLOB, b"y" * 100))[:-22], ContentError),
        (pack(entry(BLOB, b"x"), count=2), ContentError),
        (pack(entry(BLOB, b"x"), count=0), ContentError),
        (pack(entry(BLOB, b"x"), count=0xFFFFFFFF), ContentError),
        (pack(entry(BLOB, b"x" * 10, size=5)), ContentError),
        (pack(entry(BLOB, b"x" * 10, size=500)), ContentError),
        (pack(entry(BLOB, b"x" * 10, size=5_000_000)), ContentError),
        (pack(entry(BLOB, b"x" * 3_000_000, size=2_000_000)), ContentError),
        (pack(encode_header(BLOB, 5) + b"not a zlib stream"), ContentError),
        (pack(encode_header(BLOB, 2_000_000) + b"not a zlib stream"), ContentError),
        (pack(b"\x00" + zlib.compress(b"")), ContentError),
        (pack(b"\x50" + zlib.compress(b"")), ContentError),
        (pack(b"\xb0" + b"\xff" * 30), ContentError),
        (pack(b"\xb0" + b"\xff" * 10 + b"\x7f" + zlib.compress(b"")), ContentError),
        (pack(entry(OFS, delta(ONE, ONE, copy=50), base=distance(9999))), ContentError),
        (pack(entry(OFS, delta(ONE, ONE, copy=50), base=b"\0")), ContentError),
        (pack(entry(BLOB, ONE), entry(OFS, delta(ONE, ONE, copy=50), base=distance(3))), ContentError),
        (pack(entry(REF, delta(ONE, ONE, copy=50), base=oid(b"nowhere"))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, delta(ONE, ONE, copy=50, base_size=49), base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, delta(ONE, ONE, copy=50, size=51), base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, delta(ONE, ONE, copy=51), base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, varint(50) + varint(5) + b"\x00", base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, varint(50) + varint(5) + b"\x05ab", base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, b"", base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, b"\xff" * 20, base=oid(ONE))), ContentError),
        (pack(entry(BLOB, ONE), entry(REF, varint(50) + b"\xff" * 8 + b"\x7f", base=oid(ONE))), ContentError),
    ],
)  # fmt: skip
def test_a_pack_that_lies_is_refused_and_leaves_nothing(directory, data, error):
    """Whatever is wrong with it."""
    with pytest.raises(error):
        receive(data, directory)
    assert list(directory.iterdir()) == []


def test_deltas_in_a_circle_end(directory):
    """Each is the base of the other: impossible by hash, so the names are made up, and the bases never come."""
    one = entry(REF, delta(ONE, ONE, copy=50), base=b"1" * 20)
    two = entry(REF, delta(ONE, ONE, copy=50), base=b"2" * 20)
    with pytest.raises(ContentError, match="nowhere, or are in a circle"):
        receive(pack(one, two), directory)


def test_a_delta_bomb_is_defused_before_it_is_lit(directory):
    """Forty bytes that declare a result of gigabytes are refused by what they declare."""
    bomb = varint(50) + varint(5 << 30) + b"\x90\x32" * 10
    with pytest.raises(LimitExceededError, match="file bytes"):
        receive(pack(entry(BLOB, ONE), entry(REF, bomb, base=oid(ONE))), directory)


def test_many_small_bombs_are_counted_together(directory):
    """Each delta doubles its base; the sum is held against the limit on all content."""
    data = b"a" * 50_000
    copy = b"\xb0\x50\xc3" * 2  # twice: 0xc350 bytes from the start
    bombs = [entry(BLOB, data)]
    for number in range(100):
        bombs.append(entry(REF, varint(50_000) + varint(100_001) + copy + b"\x01" + bytes([number]), base=oid(data)))
    with pytest.raises(LimitExceededError, match="content bytes"):
        receive(pack(*bombs), directory, limits=Limits(max_content_bytes=1_000_000))


def test_a_tree_above_the_limit_for_documents_is_refused(directory):
    """Trees and commits are held in memory."""
    with pytest.raises(LimitExceededError, match="manifest bytes"):
        receive(pack(entry(TREE, b"x" * 2000)), directory, limits=Limits(max_manifest_bytes=1000))


def test_a_chain_longer_than_any_of_gits_resolves_without_recursion(tmp_path, directory):
    """Three thousand deltas, each on the one before."""
    data, entries = b"a" * 50, [entry(BLOB, b"a" * 50)]
    for number in range(3000):
        after = data[:40] + b"%010d" % number
        entries.append(entry(OFS, delta(data, after, copy=40), base=distance(len(entries[-1]))))
        data = after
    receive(pack(*entries), directory)
    with open_received(tmp_path) as objects:
        assert objects.read(oid(data)) == (BLOB, data)


def test_the_deadline_and_the_cancel_switch_hold(directory):
    """While receiving as while indexing."""
    data = pack(*(entry(BLOB, b"%d" % number) for number in range(2000)))
    with pytest.raises(TransportTimeoutError):
        receive(data, directory, operation=Operation(1e-6))
    with pytest.raises(OperationCancelledError):
        receive(data, directory, operation=Operation(cancel=lambda: True))
    assert list(directory.iterdir()) == []


def test_a_circle_of_deltas_on_disk_ends(tmp_path, directory):
    """A local repository is not indexed by us: its packs may hold what `receive_pack` refuses."""
    first = encode_header(REF, 54) + b"\x11" * 20 + zlib.compress(delta(ONE, ONE, copy=50).ljust(54, b"\0"))
    data = pack(first)
    name = b"\x11" * 20
    (directory / "pack-1.pack").write_bytes(data)
    index = b"\xfftOc\0\0\0\2" + struct.pack(">256I", *([0] * 17 + [1] * 239)) + name + b"\0" * 4
    index += struct.pack(">I", 12) + data[-20:]
    (directory / "pack-1.idx").write_bytes(index + hashlib.sha1(index).digest())
    with open_received(tmp_path) as objects:
        for ask in (objects.read, objects.kind):
            with pytest.raises(ContentError):
                ask(name)


@pytest.mark.parametrize("damage", [b"", b"\xfftOc\0\0\0\2", b"\xfftOc\0\0\0\2" + b"\xff" * 1024, b"x" * 2000])
def test_a_damaged_index_is_an_error(tmp_path, directory, damage):
    """Not a crash of struct or mmap."""
    receive(pack(entry(BLOB, b"x")), directory)
    (path,) = directory.glob("*.idx")
    path.chmod(0o644)
    path.write_bytes(damage)
    with pytest.raises(FluxSrcError):
        open_received(tmp_path).read(oid(b"x"))
