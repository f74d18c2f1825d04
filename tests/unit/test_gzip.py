"""Gzip in independent blocks."""

import gzip as stdlib_gzip
import random
import subprocess
import sys
import zlib

import pytest

from fluxsrc import gzip

TEXT = b"".join(b"line %d of some text that compresses\n" % number for number in range(20_000))
NOISE = random.Random(1).randbytes(300_000)


def member(*contents):
    """A whole gzip member of these blocks."""
    crc = size = 0
    parts = [gzip.HEADER]
    for content in contents:
        block = gzip.compress(content)
        crc, size = gzip.crc32_combine(crc, block.crc, block.size), size + block.size
        parts.append(block.payload)
    return b"".join([*parts, gzip.trailer(crc, size)])


@pytest.mark.parametrize("contents", [(), (b"x",), (TEXT,), (NOISE,), (TEXT, NOISE, b"", TEXT)], ids=len)
def test_blocks_put_after_each_other_are_one_ordinary_member(contents):
    data = member(*contents)
    reader = zlib.decompressobj(31)
    assert reader.decompress(data) == b"".join(contents)
    assert reader.eof
    assert reader.unused_data == b""
    assert stdlib_gzip.decompress(data) == b"".join(contents)


def test_the_header_has_no_name_and_no_time():
    assert member(TEXT)[:10] == b"\x1f\x8b\x08" + bytes(6) + b"\xff"


@pytest.mark.parametrize("size", [1, 1000, 65535, 65536, 300_000])
def test_incompressible_data_grows_by_at_most_five_bytes_in_64_kib(size):
    block = gzip.compress(NOISE[:size])
    assert len(block.payload) <= size + 5 * (size // 65535 + 1)


def test_incompressible_data_is_stored_as_it_is():
    assert NOISE[:65535] in gzip.compress(NOISE).payload


def test_a_sample_that_only_looks_incompressible_does_not_make_text_incompressible():
    half = gzip.compress(NOISE[:150_000] + TEXT[:150_000])
    assert len(half.payload) < 200_000


@pytest.mark.parametrize("content", [b"x", TEXT, NOISE], ids=["byte", "text", "noise"])
def test_a_block_can_be_inflated_by_itself(content):
    block = gzip.compress(content)
    assert gzip.inflate(block.payload, len(content)) == content
    assert block.crc == zlib.crc32(content) == gzip.crc32(content)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage that is no deflate data",
        gzip.compress(TEXT).payload[:-20],
        gzip.compress(TEXT[:-1]).payload,
        gzip.compress(TEXT + b"x").payload,
        gzip.compress(TEXT).payload + gzip.trailer(0, 0),
    ],
    ids=["empty", "garbage", "short", "one-less", "one-more", "ended"],
)
def test_what_is_not_one_block_of_the_right_size_is_none(payload):
    assert gzip.inflate(payload, len(TEXT)) is None


def test_the_checksum_of_joined_data_needs_only_those_of_the_parts():
    for cut in (0, 1, 7, 65536, len(TEXT)):
        first, second = TEXT[:cut], TEXT[cut:]
        assert gzip.crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(TEXT)
        assert gzip._crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(TEXT)


def test_without_isal_zlib_makes_the_blocks():
    script = (
        "import sys; sys.modules['isal'] = None\n"
        "from fluxsrc import gzip; import zlib\n"
        "assert gzip._deflate is zlib\n"
        "text = b'some text ' * 50000; block = gzip.compress(text)\n"
        "assert gzip.inflate(block.payload, len(text)) == text\n"
        "assert zlib.decompress(gzip.HEADER + block.payload + gzip.trailer(block.crc, block.size), 31) == text\n"
        "assert gzip.inflate(b'garbage', 10) is None\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
