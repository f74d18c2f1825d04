"""References, challenges, manifests and layered images: for whatever comes."""

import io
import json
import tarfile

import hypothesis.strategies as st
from hypothesis import example, given, reject

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, ContentError, RemoteProtocolError
from fluxsrc.limits import Limits
from fluxsrc.oci.challenge import parse_challenges
from fluxsrc.oci.manifest import Descriptor, Index, Manifest, Platform, parse_document
from fluxsrc.oci.reference import LayoutReference, Reference, check_name, parse_reference
from fluxsrc.operation import Operation
from fluxsrc.tarball.tree import FileTree

words = st.text("abcz09", min_size=1, max_size=6)
digests = st.binary(max_size=4).map(Digest.of)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@example("90000", None, "app", None, None)  # a name, and no port
@given(
    st.lists(words, min_size=1, max_size=3).map(".".join),
    st.none() | st.integers(0, 65535),
    st.lists(words, min_size=1, max_size=3).map("/".join),
    st.none() | tags,
    st.none() | digests,
)
def test_every_reference_survives_its_text(host, port, repository, tag, digest):
    reference = Reference(host if port is None else f"{host}:{port}", repository, tag, digest)
    assert parse_reference(str(reference)) == reference


@given(st.from_regex(r"(/[a-z@]{1,3}){1,3}", fullmatch=True), st.none() | tags.filter(str.isalnum), st.none() | digests)
def test_every_layout_reference_survives_its_text(path, tag, digest):
    reference = LayoutReference(path, tag, digest)
    assert parse_reference(str(reference)) == reference


@given(st.text("ab1-._:@+/sh256", min_size=1, max_size=12), st.none() | digests)
def test_every_name_that_can_be_given_in_a_layout_survives_its_text(name, digest):
    reference = LayoutReference("/a", name, digest)
    try:
        check_name(reference, name)
    except ConfigurationError:
        return
    assert parse_reference(str(reference)) == reference


@given(st.text() | st.text("oci:/@.-_ahst256", max_size=80).map("oci://".__add__))
def test_any_text_is_a_reference_or_a_configuration_error(text):
    try:
        reference = parse_reference(text)
    except ConfigurationError:
        return
    assert parse_reference(str(reference)) == reference


@given(st.lists(st.text() | st.text('Bearer ,="\\ realm', max_size=60), max_size=3))
def test_any_header_is_taken_apart_without_an_error(headers):
    assert all(challenge.scheme for challenge in parse_challenges(headers))


@given(st.lists(st.tuples(words, st.dictionaries(words, st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=9), min_size=1, max_size=3)), min_size=1, max_size=3))  # fmt: skip
def test_quoted_challenges_come_back_as_they_were(challenges):
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"')

    header = ", ".join(
        f"{scheme} " + ",".join(f'{key}="{quoted(value)}"' for key, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges([header])] == challenges


annotations = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
descriptors = st.builds(
    Descriptor,
    media_type=st.text(max_size=9),
    digest=digests,
    size=st.integers(0, 2**60),
    annotations=annotations,
    platform=st.none() | st.builds(Platform, words, words, st.none() | words),
    artifact_type=st.none() | words,
)
documents = st.builds(
    Manifest,
    config=descriptors,
    layers=st.lists(descriptors, max_size=3).map(tuple),
    annotations=annotations,
    subject=st.none() | descriptors,
    artifact_type=st.none() | words,
) | st.builds(Index, manifests=st.lists(descriptors, max_size=3).map(tuple), annotations=annotations)


@given(documents)
def test_every_manifest_survives_its_bytes(document):
    assert parse_document(document.encode(), where="x") == document
    assert parse_document(document.encode(), where="x").encode() == document.encode()


keys = st.sampled_from(
    ["schemaVersion", "config", "layers", "manifests", "subject", "platform", "digest", "size", "mediaType"]
)
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 2, -1, "x", "sha256:" + 64 * "0"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.binary() | st.dictionaries(keys, values).map(lambda value: json.dumps({"schemaVersion": 2} | value).encode()))
def test_any_bytes_are_a_manifest_or_a_protocol_error(data):
    try:
        parsed = parse_document(data, where="x")
    except RemoteProtocolError:
        return
    assert parse_document(parsed.encode(), where="x") == parsed


# --- images, against a model ---

names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
changes = st.lists(
    st.tuples(st.sampled_from(["file", "directory", "remove", "opaque"]), paths, st.binary(max_size=3)), max_size=5
)


def layer(entries) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind, path, data in entries:
            directory, _, name = path.rpartition("/")
            prefix = f"{directory}/" if directory else ""
            info = tarfile.TarInfo({"remove": f"{prefix}.wh.{name}", "opaque": f"{path}/.wh..wh..opq"}.get(kind, path))
            if kind == "directory":
                info.type = tarfile.DIRTYPE
            elif kind == "file":
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data if kind == "file" else b""))
    return buffer.getvalue()


def model(layers) -> dict[str, bytes]:
    """Layers as the specification has them: whiteouts first, then what each brings, whatever it stood in the way of."""
    files: dict[str, bytes] = {}

    def below(path: str) -> list[str]:
        return [name for name in files if name.startswith(f"{path}/")]

    for entries in layers:
        for kind, path, _ in entries:
            if kind in ("remove", "opaque"):
                for name in below(path) + ([path] if kind == "remove" else []):
                    files.pop(name, None)
        for kind, path, data in entries:
            if kind not in ("file", "directory"):
                # The whiteout's own directory is a directory of this layer, too, but nothing says so in the tar.
                continue
            parts = path.split("/")
            for depth in range(1, len(parts)):
                files.pop("/".join(parts[:depth]), None)
            if kind == "file":
                for name in below(path):
                    files.pop(name)
                files[path] = data
            else:
                files.pop(path, None)
    return files


@given(st.lists(changes, max_size=4))
def test_an_image_is_what_its_layers_say(layers):
    tree = FileTree(Limits(), Operation())
    for entries in layers:
        try:
            tree.add_layer(io.BytesIO(layer(entries)))
        except ContentError:
            reject()  # a layer that contradicts itself: a path twice, a file below a file
    assert {entry.path: entry.read() for entry in tree.entries()} == model(layers)
    tree.close()
