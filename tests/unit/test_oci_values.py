"""References, challenges, manifests: bytes in, values out."""

import json

import pytest

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, RemoteProtocolError, RevisionNotFoundError
from fluxsrc.oci import OCISource
from fluxsrc.oci.challenge import Challenge, parse_challenges
from fluxsrc.oci.manifest import Descriptor, Index, Manifest, Platform, parse_document
from fluxsrc.oci.reference import LayoutReference, Reference, check_name, parse_reference
from fluxsrc.urls import source_from_url

HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("oci://ghcr.io/team/app", "ghcr.io", "team/app", None, None),
        ("oci://ghcr.io/team/app:v1.2.3", "ghcr.io", "team/app", "v1.2.3", None),
        (f"oci://ghcr.io/team/app@{SHA}", "ghcr.io", "team/app", None, SHA),
        (f"oci://localhost:5000/app:v1@{SHA}", "localhost:5000", "app", "v1", SHA),
        ("oci://[::1]:5000/a/b_c/d--e.f", "[::1]:5000", "a/b_c/d--e.f", None, None),
        ("oci://[::1]/a", "[::1]", "a", None, None),
        ("OCI://GHCR.io/app:V1", "ghcr.io", "app", "V1", None),
    ],
)
def test_references_are_taken_apart_and_put_together(text, host, repository, tag, digest):
    reference = Reference.parse(text)
    assert (reference.host, reference.repository, reference.tag) == (host, repository, tag)
    assert reference.digest == (None if digest is None else Digest.parse(digest))
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "", "oci://", "oci://host", "oci://host/", "host/app", "docker://host/app", "https://host/app",
        "oci://host/App", "oci://host/a//b", "oci://host/../b", "oci://host/a/", "oci://host/a:", "oci://host/a:-x",
        "oci://host/a@", "oci://host/a@sha256:beef", "oci://host/a:v1:v2", "oci://host:port/a", "oci://host:99999/a",
        "oci://user:hunter2@host/a", "oci://host/a?x=y", "oci://host/a#x", "oci://-host/a", "oci://ho st/a",
        "oci://host/a:" + "x" * 129, "oci://host/" + "a" * 256, "oci://host/a\n", "oci://host/a:v1\n", "oci://h/a___b",
    ],
)  # fmt: skip
def test_what_is_not_a_reference_is_refused_without_its_password(text):
    with pytest.raises(ConfigurationError) as caught:
        Reference.parse(text)
    assert "hunter2" not in str(caught.value)


def test_docker_hub_is_where_its_api_is():
    reference = Reference.parse("oci://docker.io/alpine:3")
    assert (reference.api_host, reference.api_repository) == ("registry-1.docker.io", "library/alpine")
    assert Reference.parse("oci://docker.io/team/app").api_repository == "team/app"
    assert str(reference) == "oci://docker.io/alpine:3"


@pytest.mark.parametrize(
    ("text", "path", "tag"),
    [
        ("oci-layout:/media/usb", "/media/usb", None),
        ("oci-layout:///media/usb:v1", "/media/usb", "v1"),
        ("oci-layout:store:gitrepository/default/podinfo", "store", "gitrepository/default/podinfo"),
        ("oci-layout:a/../b:v1+x", "b", "v1+x"),
        ("oci-layout:/a@b/c", "/a@b/c", None),
    ],
)
def test_layout_references_name_a_directory_and_a_name(text, path, tag):
    reference = parse_reference(text)
    assert isinstance(reference, LayoutReference)
    assert (reference.path, reference.tag) == (path, tag)
    assert LayoutReference.parse(str(reference)) == reference
    pinned = LayoutReference.parse(f"{reference}@{SHA}")
    assert pinned.digest == Digest.parse(SHA)
    assert LayoutReference.parse(str(pinned)) == pinned


@pytest.mark.parametrize(
    "text", ["oci-layout:", "oci-layout::v1", "oci-layout:/a:", "oci-layout:/a:-", "oci-layout:/a\0"]
)
def test_what_is_not_a_layout_reference_is_refused(text):
    with pytest.raises(ConfigurationError):
        parse_reference(text)


@pytest.mark.parametrize(
    "name", ["v1", "_x", "v1.", "a__b", "gitrepository/default/a-b+63e5", "ghcr.io:443/a/b:v1", "a--b"]
)
def test_a_layout_takes_tags_and_what_its_grammar_has_for_names(name):
    """Tags too that the grammar has not: a registry gives them, and what is copied keeps its name."""
    assert check_name(LayoutReference("x"), name) == name
    assert LayoutReference.parse(f"oci-layout:x:{name}").tag == name


@pytest.mark.parametrize("name", ["", " ", "a b", "-", "/", "a//b", "a/", "a::b", "a\n", "\u00e4", "x" * 129 + ".", SHA,
                                  f"v1@{SHA}", "a@shaky", "sha256:short"])  # fmt: skip
@pytest.mark.parametrize("text", ["oci-layout:x", "oci://host/app"])
def test_what_could_be_no_name_is_given_to_nothing(text, name):
    """Nor what would be taken for a digest when it is read."""
    with pytest.raises(ConfigurationError, match=r"^not a (tag|name for something in an image layout): "):
        check_name(parse_reference(text), name)


@pytest.mark.parametrize("name", ["a/b", "a:b", "a+b", "a@b", "x" * 129])
def test_names_of_layouts_that_are_no_tags_are_none_in_a_registry(name):
    assert check_name(LayoutReference("x"), name) == name
    with pytest.raises(ConfigurationError, match="not a tag"):
        check_name(Reference("host", "app"), name)


@pytest.mark.parametrize("name", ["a__b/c", "a//b", "a..b:c"])
def test_names_that_others_gave_are_read_though_we_would_not_give_them(name):
    assert LayoutReference.parse(f"oci-layout:x:{name}").tag == name
    with pytest.raises(ConfigurationError):
        check_name(LayoutReference("x"), name)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"'],
         [Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"})]),
        (['Basic realm="x", Bearer realm="y"'], [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"})]),
        (["Basic", 'BEARER Realm=plain , Service = "a\\"b"'],
         [Challenge("basic"), Challenge("bearer", {"realm": "plain", "service": 'a"b'})]),
        (["Negotiate dG9rZW4=, Basic realm=x"], [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (['Bearer realm="unclosed'], [Challenge("bearer")]),
        (["", ",,, ", "=", '"'], []),
        (['Bearer realm="a",realm="b"'], [Challenge("bearer", {"realm": "a"})]),
    ],
)  # fmt: skip
def test_challenges_are_understood(headers, expected):
    assert parse_challenges(headers) == expected


def document(**changes) -> bytes:
    blob = {"mediaType": "x/y", "digest": SHA, "size": 0}
    value = {"schemaVersion": 2, "config": blob, "layers": [blob]} | changes
    return json.dumps({k: v for k, v in value.items() if v != "absent"}).encode()


def test_a_manifest_is_read_and_written_the_same_every_time():
    parsed = parse_document(document(annotations={"b": "1", "a": "2"}), where="x")
    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].digest == Digest.parse(SHA)
    assert parse_document(parsed.encode(), where="x") == parsed
    assert parsed.encode() == parse_document(document(annotations={"a": "2", "b": "1"}), where="x").encode()
    assert b'"annotations":{"a":"2","b":"1"}' in parsed.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"nonsense", b"[]", b"null", b"<html>", b"{}", b"[" * 100_000,
        document(schemaVersion=1), document(schemaVersion="2"), document(layers="absent"), document(config="absent"),
        document(layers=[{"mediaType": "x", "digest": SHA}]), document(layers=[{"mediaType": "x", "digest": SHA, "size": -1}]),
        document(layers=[{"mediaType": "x", "digest": SHA, "size": True}]),
        document(layers=[{"mediaType": "x", "digest": "sha256:xyz", "size": 1}]),
        document(layers=[{"mediaType": 1, "digest": SHA, "size": 1}]), document(layers={}), document(layers=[1]),
        document(annotations={"a": 1}), document(annotations=[]), document(manifests=[]),
        document(mediaType="application/vnd.oci.image.index.v1+json"),
        b'{"schemaVersion":2,"config":null,"layers":[],"layers":[]}',
    ],
)  # fmt: skip
def test_what_is_not_a_manifest_is_a_protocol_error(data):
    with pytest.raises(RemoteProtocolError):
        parse_document(data, where="oci://host/app", media_type="application/vnd.oci.image.manifest.v1+json")


def test_html_is_named():
    with pytest.raises(RemoteProtocolError, match="HTML"):
        parse_document(b"<html>log in</html>", where="x")


def child(platform: str | None) -> Descriptor:
    data = str(platform).encode()
    described = Descriptor.of(data, "application/vnd.oci.image.manifest.v1+json")
    return Descriptor(
        media_type=described.media_type, digest=described.digest, size=described.size,
        platform=None if platform is None else Platform.parse(platform),
    )  # fmt: skip


def test_an_index_is_chosen_from_by_platform():
    index = Index(manifests=(child("linux/amd64"), child("linux/arm64/v8"), child("unknown/unknown")))
    assert index.choose(Platform.parse("linux/arm64"), where="x") == child("linux/arm64/v8")
    with pytest.raises(ConfigurationError, match="linux/amd64, linux/arm64/v8"):
        index.choose(None, where="x")
    with pytest.raises(RevisionNotFoundError, match="only linux/amd64, linux/arm64/v8"):
        index.choose(Platform.parse("linux/arm/v7"), where="x")
    assert parse_document(index.encode(), where="x") == index


def test_an_index_of_one_needs_no_choice():
    assert Index(manifests=(child(None), child("unknown/unknown"))).choose(None, where="x") == child(None)


@pytest.mark.parametrize("text", ["", "linux", "linux/", "a/b/c/d", "linux/am\n"])
def test_what_is_not_a_platform_is_refused(text):
    with pytest.raises(ConfigurationError):
        Platform.parse(text)


@pytest.mark.parametrize(
    "url",
    [
        "oci://ghcr.io/team/app:v1",
        f"oci://localhost:5000/app@{SHA}",
        "oci://ghcr.io/app?semver=%3E%3D1.0+%3C2.0&filter=%5Ev",
        "oci-layout:/media/usb:v1#path=deploy/prod",
    ],
)
def test_a_sources_url_names_it(url):
    source = source_from_url(url)
    assert isinstance(source, OCISource)
    assert source.url == url
    assert source_from_url(source.url) == source


def test_a_url_takes_what_chooses_the_content():
    source = source_from_url("oci://h/app?layer=x/y&operation=image&platform=linux/arm64", insecure=True)
    assert source == OCISource(
        "oci://h/app", layer="x/y", layer_operation="image", platform="linux/arm64", insecure=True
    )
    with pytest.raises(ConfigurationError, match="no option 'tag'"):
        source_from_url("oci://h/app?tag=v1")
