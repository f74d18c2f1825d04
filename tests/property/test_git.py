"""Properties of what reads Git's formats: round trips, agreement, and no foreign exception for any bytes."""

import contextlib
import hashlib
import os
import random
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxsrc.errors import FluxSrcError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.commit import Commit, Tag
from fluxsrc.git.config import parse_config
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.objects import ObjectDatabase, apply_delta
from fluxsrc.git.pack import receive_pack
from fluxsrc.git.packfile import Kind, ObjectFormat, decode_header, encode_header, inflate
from fluxsrc.git.pktline import PktReader, pkt
from fluxsrc.git.protocol import Advertisement, read_refs
from fluxsrc.git.refs import check_ref_name
from fluxsrc.git.source import GitSource
from fluxsrc.git.tree import parse_tree
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.operation import Operation


class Bytes:
    """A stream that gives its bytes in pieces."""

    def __init__(self, data, piece):
        self.data, self.piece = data, piece

    def readinto(self, buffer):
        chunk = self.data[: min(self.piece, len(buffer))]
        self.data = self.data[len(chunk) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


@given(st.sampled_from([Kind.COMMIT, Kind.TREE, Kind.BLOB, Kind.TAG]), st.integers(0, 2**62))
def test_object_headers_round_trip(kind, size):
    """Any kind and size."""
    data = encode_header(kind, size)
    assert decode_header(data, 0, 20) == (kind, size, len(data), None)


@given(st.binary(max_size=5000), st.binary(max_size=50), st.integers(0, 9))
def test_inflate_finds_the_end_of_its_stream(data, rest, level):
    """Whatever follows."""
    packed = zlib.compress(data, level)
    assert inflate(packed + rest, 0, len(data)) == (data, len(packed))


@given(st.lists(st.binary(max_size=1000)), st.integers(1, 2000))
def test_pkt_lines_round_trip(lines, piece):
    """However the stream is cut."""
    reader = PktReader(Bytes(b"".join(map(pkt, lines)) + b"0000", piece), url="test")
    assert list(reader.lines()) == [line.removesuffix(b"\n") for line in lines]


@st.composite
def packs(draw):
    """A valid pack and what is in it: some objects are deltas on earlier ones, by offset or by name."""
    contents, entries, offsets = [], [], []
    offset = 12
    for _ in range(draw(st.integers(1, 8))):
        data = draw(st.binary(max_size=300))
        how = draw(st.sampled_from(["whole", "ofs", "ref"])) if contents else "whole"
        if how == "whole":
            raw = encode_header(Kind.BLOB, len(data)) + zlib.compress(data)
        else:
            place = draw(st.integers(0, len(contents) - 1))
            base = contents[place]
            body = b"".join(bytes([len(data[i : i + 127])]) + data[i : i + 127] for i in range(0, len(data), 127))
            delta = _varint(len(base)) + _varint(len(data)) + body
            if how == "ofs":
                raw = encode_header(Kind.OFS_DELTA, len(delta)) + _distance(offset - offsets[place])
            else:
                raw = encode_header(Kind.REF_DELTA, len(delta)) + _oid(base)
            raw += zlib.compress(delta)
        contents.append(data)
        entries.append(raw)
        offsets.append(offset)
        offset += len(raw)
    pack = b"PACK" + struct.pack(">II", 2, len(entries)) + b"".join(entries)
    return contents, pack + hashlib.sha1(pack).digest()


def _oid(data):
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).digest()


def _varint(number):
    return bytes([number & 0x7F | 0x80, *_varint(number >> 7)]) if number > 0x7F else bytes([number])


def _distance(number):
    out = [number & 0x7F]
    while number := number >> 7:
        number -= 1
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))


def _receive(data, directory):
    (directory / "pack").mkdir()
    nothing = ObjectDatabase([], ObjectFormat.SHA1)
    return receive_pack(
        iter([data]), directory / "pack", bases=nothing, limits=DEFAULT_LIMITS, operation=Operation(), url="test"
    )


@settings(max_examples=60, deadline=None)
@given(packs())
def test_what_is_in_a_pack_is_what_is_read_from_it(packed):
    """By name, size and stream."""
    contents, data = packed
    with tempfile.TemporaryDirectory() as name:
        _receive(data, Path(name))
        with ObjectDatabase([Path(name)], ObjectFormat.SHA1) as objects:
            for content in contents:
                oid = _oid(content)
                assert objects.size(oid) == len(content)
                assert objects.read(oid) == (Kind.BLOB, content)
                assert objects.open(oid).read() == content


@settings(max_examples=100, deadline=None)
@given(packs(), st.integers(0), st.integers(1, 255), st.booleans())
def test_a_damaged_pack_is_refused_even_if_its_checksum_holds(packed, place, flip, mend):
    """One byte is changed: never a foreign exception, never an object under a name that is not its own."""
    _, data = packed
    body = bytearray(data)
    body[place % (len(body) - 20)] ^= flip
    if mend:
        body[-20:] = hashlib.sha1(body[:-20]).digest()
    with tempfile.TemporaryDirectory() as name:
        try:
            received = _receive(bytes(body), Path(name))
        except FluxSrcError:
            return
        assert mend
        for oid, (_, content) in received.contents.items():
            with ObjectDatabase([Path(name)], ObjectFormat.SHA1) as objects:
                assert objects.read(oid)[1] == content


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_delta_of_any_bytes_makes_an_object_or_one_of_our_errors(base, delta):
    """Compiled or not."""
    try:
        result = apply_delta(
            base, delta, check_size=lambda size: DEFAULT_LIMITS.check("max_file_bytes", size, what="x")
        )
    except FluxSrcError:
        return
    assert isinstance(result, bytes)


@given(st.binary(max_size=400))
def test_parsers_take_any_bytes(data):
    """A value, or one of our errors."""
    for parse in (
        Commit.parse,
        Tag.parse,
        parse_config,
        LFSPointer.parse,
        lambda raw: parse_tree(raw, 20),
        lambda raw: decode_header(raw, 0, 20),
        lambda raw: inflate(raw, 0, 10),
        lambda raw: list(PktReader(Bytes(raw, 50), url="test").lines()),
        lambda raw: Advertisement.parse(raw.split(b"\n"), limits=DEFAULT_LIMITS, url="test"),
        lambda raw: read_refs(raw.split(b"\n"), limits=DEFAULT_LIMITS, url="test"),
    ):
        with contextlib.suppress(FluxSrcError):
            parse(data)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A repository with something in every place where git keeps something, and what it holds."""
    path = tmp_path_factory.mktemp("intact") / "app"
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*arguments):
        subprocess.run(["git", "-C", path, *arguments], check=True, capture_output=True, env={**os.environ, **who})

    path.mkdir()
    git("init", "-q", "-b", "main")
    for number in range(3):
        (path / f"file-{number}").write_bytes(b"line\n" * 50)
        (path / "changes").write_bytes(b"%d\n" % number * 50)
        git("add", "-A")
        git("commit", "-qm", "a commit")
        git("tag", "-am", "a tag", f"v1.0.{number}")
        if number == 1:
            git("repack", "-adq")
            git("pack-refs", "--all")
    (path / ".git/objects/info/alternates").write_text('"../nowhere"\n')
    keep = {"HEAD", "config", "packed-refs", "refs", "objects"}
    files = sorted(file for file in (path / ".git").rglob("*") if file.is_file())
    return path, [file for file in files if file.relative_to(path / ".git").parts[0] in keep]


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_repository_is_one_of_our_errors(intact, data):
    """Or nothing that matters is damaged."""
    path, files = intact
    file = data.draw(st.sampled_from(files))
    before = file.read_bytes()
    start = data.draw(st.integers(0, len(before)))
    end = data.draw(st.integers(start, min(len(before), start + 40)))
    filling = data.draw(
        st.sampled_from([b"", b"\0", b"\xff" * 20, b"\n", b"ref: refs/heads/\xff\n", b"z" * 20]) | st.binary()
    )
    file.chmod(0o644)
    file.write_bytes(before[:start] + filling + before[end:])
    try:
        for source in (GitSource(path), GitSource(path, semver="1.x")):
            with contextlib.suppress(FluxSrcError), source.fetch() as snapshot:
                for entry in snapshot.entries():
                    with contextlib.suppress(FluxSrcError):
                        entry.read()
    finally:
        file.write_bytes(before)


PIECES = [
    *['[submodule "a"]', '[submodule "a \\"b\\\\"]', "[submodule.Old]", "[CORE]", "[x-1]\n", '\n[submodule "a"]\n\t'],
    *[
        "path",
        "Url",
        "x-y",
        "v",
        "1k",
        "\u00e9",
        "../lib.git",
        '"q"',
        '"a # b ; "',
        'a"b"c',
        '""',
        "\\n",
        '\\"',
        "\\\\",
    ],
    *[" = ", "=", "\n", "\r\n", "\n\tpath = ", "\n\turl = ", " ", " # c", ";c", "\\\n", "[", "]"],
]


def test_git_reads_the_same_configuration(tmp_path):
    """What `git config` accepts means the same here; what it refuses does not matter."""
    dice = random.Random(20261121)
    file = tmp_path / "config"
    accepted = 0
    for _ in range(200):
        text = dice.choice(["", "\ufeff"]) + "[core]" + "".join(dice.choices(PIECES, k=dice.randint(1, 12)))
        file.write_bytes(text.encode())
        done = subprocess.run(["git", "config", "--file", file, "--null", "--list"], capture_output=True, check=False)
        if done.returncode:
            continue
        accepted += 1
        listed = (entry.decode().partition("\n") for entry in done.stdout.split(b"\0")[:-1])
        expected = {key: value if equals else "true" for key, equals, value in listed}
        ours = {
            f"{'.'.join(filter(None, section))}.{key}": value
            for section, values in parse_config(text.encode()).items()
            for key, value in values.items()
        }
        assert ours == expected, text
    assert accepted > 30


@given(
    st.lists(st.tuples(st.sampled_from([0o100644, 0o040000, 0o120000]), st.binary(min_size=1, max_size=8)), max_size=6)
)
def test_trees_are_parsed_whole_or_refused(rows):
    """What comes out, written again, is what went in."""
    data = b"".join(b"%o %s\0%s" % (mode, name, bytes(20)) for mode, name in rows)
    try:
        nodes = parse_tree(data, 20)
    except FluxSrcError:
        return
    assert [(node.mode, node.path.encode()) for node in nodes] == rows


@given(st.text(max_size=60))
def test_addresses_are_canonical_or_refused(text):
    """The canonical spelling reads as itself."""
    try:
        url = GitAddress.parse(text).url
    except FluxSrcError:
        return
    assert GitAddress.parse(url).url == url


@given(st.text(max_size=60))
def test_an_odd_name_is_quoted_in_the_url_or_refused(name):
    """A branch's name cannot add an option."""
    try:
        check_ref_name(f"refs/heads/{name}")
        source = GitSource("https://example.com/r.git", branch=name)
    except FluxSrcError:
        return
    assert "&" not in source.url
    assert source.url.count("?") == 1
    assert "#" not in source.url
