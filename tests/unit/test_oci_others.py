"""What registries, layouts and images look like that others made: each of these was met with a real server or tool."""

import hashlib
import io
import json
import os
import sys
import tarfile

import pytest

from fluxsrc.auth import BasicAuth, Origin, StaticKeychain
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    ContentError,
    RemoteProtocolError,
    RevisionNotFoundError,
    UnsafeEntryError,
)
from fluxsrc.keychains import DockerConfig
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, LayoutReference, OCISource, Platform, parse_reference
from fluxsrc.oci.access import open_repository
from fluxsrc.oci.listing import candidates, list_tags
from fluxsrc.oci.manifest import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, parse_document
from fluxsrc.oci.publish import promote, tag
from fluxsrc.oci.pushing import push
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.registry import Registry

ACCESS = Access(insecure=True)
LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
TAR = "application/vnd.oci.image.layer.v1.tar"
TITLE = "org.opencontainers.image.title"


pytestmark = pytest.mark.usefixtures("impatient")


def tar(*members: tuple[str, bytes | str | int]) -> bytes:
    """A layer: files by their bytes, links by their targets, anything else by its type."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if (
                isinstance(what, bytes)
                and len(what) == 1
                and what in (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
            ):
                info.type = what
            elif isinstance(what, bytes):
                info.size = len(what)
            else:
                info.type, info.linkname = tarfile.SYMTYPE, str(what)
            archive.addfile(info, io.BytesIO(what) if info.type == tarfile.REGTYPE else None)
    return buffer.getvalue()


def image(registry: Registry, *layers: bytes) -> OCISource:
    registry.put("app", "v1", layers=[(TAR, layer) for layer in layers])
    return OCISource(f"oci://{registry.host}/app:v1", insecure=True, layer_operation="image")


def seen(source: OCISource) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Text of the files, targets of the links; and what was skipped."""
    with source.fetch() as snapshot:
        return (
            {entry.path: entry.read().decode() for entry in snapshot.entries()},
            [(item.path, item.reason) for item in snapshot.skipped],
        )


# --- images ---


def test_devices_and_pipes_of_an_image_are_reported(registry):
    source = image(
        registry, tar(("dev/console", tarfile.CHRTYPE), ("run/pipe", tarfile.FIFOTYPE), ("etc/issue", b"here"))
    )
    assert seen(source) == ({"etc/issue": "here"}, [("dev/console", "special-file"), ("run/pipe", "special-file")])
    artifact = source.produce_artifact(MemoryStore())
    assert [item.path for item in artifact.skipped] == ["dev/console", "run/pipe"]


def test_names_with_a_backslash_which_systemd_has_are_reported(registry):
    slices = "lib/systemd/system/system-systemd\\x2dcryptsetup.slice"
    source = image(registry, tar((slices, b"[Unit]\n"), ("od\\d", tarfile.DIRTYPE), ("od\\d/x", b"1"), ("ok", b"2")))
    assert seen(source) == ({"ok": "2"}, [(slices, "unsafe-path"), ("od\\d/x", "unsafe-path")])


def test_what_a_later_layer_removes_or_replaces_is_not_reported(registry):
    source = image(
        registry,
        tar(("dev/null", tarfile.CHRTYPE), ("dev/tty", tarfile.CHRTYPE)),
        tar(("dev/.wh.null", b""), ("dev/tty", b"a file now")),
    )
    assert seen(source) == ({"dev/tty": "a file now"}, [])


@pytest.mark.parametrize("name", ["../dev/x", "a/../../x", "/dev/x"])
def test_a_device_that_would_be_outside_is_refused_all_the_same(registry, name):
    with pytest.raises(UnsafeEntryError):
        seen(image(registry, tar((name, tarfile.CHRTYPE))))


def test_without_being_asked_for_an_image_a_device_is_refused(registry):
    registry.put("app", "v1", layers=[(TAR, tar(("dev/console", tarfile.CHRTYPE)))])
    with pytest.raises(UnsafeEntryError, match="character device"):
        seen(OCISource(f"oci://{registry.host}/app:v1", insecure=True))


def test_a_layer_is_laid_through_the_links_of_those_below(registry):
    """As where it runs: Debian's `/lib` is a link, and ko writes below `/var/run`, which is one too."""
    source = image(
        registry,
        tar(("lib", "usr/lib"), ("usr/lib/old", b"1"), ("usr/lib/gone", b"1"), ("var/run", "/run"), ("loop", "loop")),
        tar(("lib/new", b"2"), ("lib/.wh.gone", b""), ("var/run/ko/data", b"three")),
    )
    found, _ = seen(source)
    assert found == {
        "lib": "usr/lib",
        "loop": "loop",
        "run/ko/data": "three",
        "usr/lib/new": "2",
        "usr/lib/old": "1",
        "var/run": "/run",
    }


def test_a_directory_that_a_layer_brings_replaces_a_link(registry):
    source = image(
        registry, tar(("lib", "usr/lib"), ("usr/lib/x", b"1")), tar(("lib", tarfile.DIRTYPE), ("lib/y", b"2"))
    )
    assert seen(source)[0] == {"lib/y": "2", "usr/lib/x": "1"}


@pytest.mark.parametrize("target", ["../../../etc", "/../etc", "a/../../etc"])
def test_no_link_leads_out_of_an_image(registry, target):
    source = image(registry, tar(("out", target)), tar(("out/passwd", b"x")))
    assert seen(source)[0] == {"out": target, "etc/passwd": "x"}


@pytest.mark.parametrize("links", [[("a", "b"), ("b", "a")], [("a", "./a")], [("a", "./" * 2000)]])
def test_links_without_end_are_refused(registry, links):
    with pytest.raises(UnsafeEntryError, match="without end"):
        seen(image(registry, tar(*links), tar(("a/x", b"1"))))


# --- files ---


def test_a_file_that_oras_calls_a_tar_by_default_is_a_file(registry):
    registry.put("app", "v1", layers=[(TAR, b"kind: Deployment\n", {TITLE: "app.yaml"})])
    assert seen(OCISource(f"oci://{registry.host}/app:v1", insecure=True))[0] == {"app.yaml": "kind: Deployment\n"}
    registry.put("app", "v2", layers=[(TAR, b"kind: Deployment\n")])
    with pytest.raises(ContentError):
        seen(OCISource(f"oci://{registry.host}/app:v2", insecure=True))


# --- registries ---


def test_tags_go_on_after_a_page_that_does_not_say_so(registry):
    """The registry of go-containerregistry cuts where it was asked to, and gives no link."""
    document = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:v1", access=ACCESS)
    for number in range(2500):
        registry.repository("app").tags[f"t{number:04}"] = str(document.digest)
    del registry.repository("app").tags["v1"]
    pages = [sorted(registry.repository("app").tags)[start : start + 1000] for start in (0, 1000, 2000)]
    for page in pages:
        registry.inject(
            r"tags/list\?n=1000(&last=t0999|&last=t1999)?$", status=200, body=json.dumps({"tags": page}).encode()
        )
    assert len(list_tags(f"oci://{registry.host}/app", details=False, access=ACCESS)) == 2500


def test_exactly_a_full_page_of_tags_is_all_of_them(registry):
    document = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:v0000", access=ACCESS)
    registry.repository("app").tags |= {f"v{number:04}": str(document.digest) for number in range(1000)}
    assert len(list_tags(f"oci://{registry.host}/app", details=False, access=ACCESS)) == 1000
    assert registry.count("tags/list") == 2


@pytest.mark.parametrize(
    "link",
    [
        '/v2/app/tags/list?n=2&last=b; rel="next"',
        "</v2/app/tags/list?n=2&last=b>;rel=next",
        '</v2/app/tags/list?n=2>; rel="prev", </v2/app/tags/list?n=2&last=b>; title="more"; Rel="next"',
    ],
)
def test_a_link_to_the_next_page_is_understood_as_old_zots_write_it(registry, link):
    body = json.dumps({"tags": ["a", "b"]}).encode()
    registry.inject(r"tags/list\?n=1000$", status=200, headers={"Link": link}, body=body)
    registry.inject(r"tags/list\?n=2&last=b$", status=200, body=json.dumps({"tags": ["c"]}).encode())
    assert {info.tag for info in list_tags(f"oci://{registry.host}/app", details=False, access=ACCESS)} == {
        "a",
        "b",
        "c",
    }


@pytest.mark.parametrize(
    "link", ["a" * 60_000, "<>" * 30_000, "," * 60_000, "<a>" + ";" * 60_000, "<a>; " + "rel=" * 14_000]
)
def test_a_link_of_any_length_is_looked_through_at_once(registry, link):
    """A search that goes back over what it has seen would take days for these."""
    registry.inject(
        "tags/list", times=None, status=200, headers={"Link": link}, body=json.dumps({"tags": ["a"]}).encode()
    )
    assert [info.tag for info in list_tags(f"oci://{registry.host}/app", details=False, access=ACCESS)] == ["a"]


def test_only_what_signatures_are_kept_by_is_left_out_of_a_list(registry):
    digest = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:sha256-of-it", access=ACCESS).digest
    for name in (f"sha256-{digest.hex}", f"sha256-{digest.hex}.sig", "sha512-" + "0" * 64):
        registry.repository("app").tags[name] = str(digest)
    assert [info.tag for info in list_tags(f"oci://{registry.host}/app", access=ACCESS)] == ["sha256-of-it"]


@pytest.mark.parametrize("stated", ["application/json", "text/plain; charset=utf-8", "application/octet-stream"])
def test_a_manifest_keeps_its_type_though_a_cache_calls_it_json(registry, stated):
    pushed = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:v1", access=ACCESS)
    body = registry.repository("app").manifests[str(pushed.digest)][1]
    registry.inject("GET /v2/app/manifests/", status=200, headers={"Content-Type": stated}, body=body)
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    assert registry.repository("copy").manifests[str(pushed.digest)][0] == MANIFEST_MEDIA_TYPE


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_a_registry_that_never_heard_of_referrers_is_asked_for_the_tag(registry, status):
    registry.has_referrers = False
    digest = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:v1", access=ACCESS).digest
    sbom = _sbom(registry, digest, annotations={"made.by": "ada"})
    registry.put_document("other", "sbom", sbom, MANIFEST_MEDIA_TYPE)
    registry.repository("other").blobs |= registry.repository("app").blobs
    promote(f"oci://{registry.host}/other:sbom", f"oci://{registry.host}/app:sbom", access=ACCESS)
    registry.inject("referrers/", times=None, status=status, body=b"")
    with open_repository(parse_reference(f"oci://{registry.host}/app"), ACCESS, Operation()) as repository:
        [found] = repository.referrers(digest)
    assert (found.artifact_type, found.annotations) == ("application/vnd.example.sbom", {"made.by": "ada"})


def _sbom(registry: Registry, subject: object, **fields: object) -> bytes:
    """A manifest that refers to another one."""
    referrer = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": _descriptor(registry, "application/vnd.example.sbom", b"{}"),
        "layers": [],
        "subject": {"mediaType": MANIFEST_MEDIA_TYPE, "digest": str(subject), "size": 1},
    }
    return json.dumps(referrer | fields).encode()


def _descriptor(registry: Registry, media_type: str, data: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    registry.repository("app").blobs[digest] = data
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def test_a_tag_for_referrers_that_holds_nonsense_is_a_protocol_error(registry):
    registry.has_referrers = False
    digest = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:v1", access=ACCESS).digest
    registry.put_document("app", f"sha256-{digest.hex}", b"not JSON", INDEX_MEDIA_TYPE)
    with (
        open_repository(parse_reference(f"oci://{registry.host}/app"), ACCESS, Operation()) as repository,
        pytest.raises(RemoteProtocolError),
    ):
        repository.referrers(digest)


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "gö", "\ud800", "a b", ""])
def test_a_token_that_no_header_can_carry_is_none(token):
    with Registry(users={"ada": "secret"}, token=True) as registry:
        registry.inject("GET /token", status=200, body=json.dumps({"token": token}).encode())
        source = OCISource(f"oci://{registry.host}/app:v1", insecure=True, keychain=_ada(registry))
        with pytest.raises(RemoteProtocolError, match="no token"):
            source.resolve_revision()


def test_a_token_service_that_is_not_there_is_not_a_tag_that_is_not_there():
    with Registry(users={"ada": "secret"}, token=True) as registry:
        registry.inject("GET /token", status=404, body=b"")
        source = OCISource(f"oci://{registry.host}/app:v1", insecure=True, keychain=_ada(registry))
        with pytest.raises(RemoteProtocolError, match="log in"):
            source.resolve_revision()


def _ada(registry: Registry) -> StaticKeychain:
    return StaticKeychain.for_url(f"http://{registry.host}", BasicAuth("ada", "secret"))


# --- manifests ---


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ],
)
def test_a_layer_that_nobody_may_hand_on_is_neither_copied_nor_missed(registry, media_type):
    registry.put("app", "v1", layers=[(media_type, b"windows"), (LAYER, b"mine")])
    windows = f"sha256:{hashlib.sha256(b'windows').hexdigest()}"
    del registry.repository("app").blobs[windows]
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    assert windows not in registry.repository("copy").blobs
    [candidate] = candidates(f"oci://{registry.host}/copy", access=ACCESS)
    assert candidate.complete


def test_a_strange_tag_is_no_candidate_and_hides_none(registry):
    push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:v1", access=ACCESS)
    signed = b'{"schemaVersion": 1, "fsLayers": []}'
    registry.put_document("app", "old", signed, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert [one.tags for one in candidates(f"oci://{registry.host}/app", access=ACCESS)] == [("v1",)]


@pytest.mark.parametrize(
    ("offered", "asked", "chosen"),
    [
        (["linux/arm/v5", "linux/arm/v7"], "linux/arm", "linux/arm/v7"),
        (["linux/arm/v5", "linux/arm"], "linux/arm/v7", "linux/arm"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/arm64"], "linux/arm64/v8", "linux/arm64"),
        (["linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["linux/arm/v5"], "linux/arm", "linux/arm/v5"),
    ],
)
def test_a_variant_that_is_not_written_is_the_usual_one(offered, asked, chosen):
    manifests = [
        {"mediaType": MANIFEST_MEDIA_TYPE, "digest": f"sha256:{number:064}", "size": 1,
         "platform": dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))}
        for number, name in enumerate(offered)
    ]  # fmt: skip
    index = parse_document(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode(), where="here")
    assert str(index.choose(Platform.parse(asked), where="here").platform) == chosen


def test_what_refers_to_one_manifest_of_an_index_comes_along(registry):
    """As `cosign sign --recursive` and per-platform attestations do."""
    child = push(MemorySource({"a": b"1"}), f"oci://{registry.host}/app:amd64", access=ACCESS).digest
    registry.put_index("app", "v1", {"linux/amd64": str(child)})
    push(MemorySource({"sig": b"1"}), f"oci://{registry.host}/app:sha256-{child.hex}.sig", access=ACCESS)
    sbom = registry.put_document("app", None, _sbom(registry, child), MANIFEST_MEDIA_TYPE)
    copied = promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", referrers=True, access=ACCESS)
    assert sbom in {str(digest) for digest in copied.referrers}
    assert f"sha256-{child.hex}.sig" in registry.repository("copy").tags


@pytest.mark.parametrize("reference", ["oci://host/app@sha1:" + "0" * 40, "oci-layout:here@sha1:" + "0" * 40])
def test_only_digests_that_registries_know_name_anything(reference):
    with pytest.raises(ConfigurationError, match=r"sha1 is no digest algorithm of OCI"):
        OCISource(reference)
    with pytest.raises(ConfigurationError, match=r"sha1 is no digest algorithm of OCI"):
        OCISource("oci://host/app", digest="sha1:" + "0" * 40)


# --- layouts ---


def test_a_name_that_could_be_none_moves_no_other(tmp_path):
    """Not by `tag`, not by `promote`, and not by `push`; and nothing of it is there afterwards."""
    here = f"oci-layout:{tmp_path / 'here'}"
    push(MemorySource({"a": b"1"}), f"{here}:v1")
    for give in (
        lambda: tag(f"{here}:v1", "good", "not good"),
        lambda: promote(f"{here}:v1", f"{here}:a//b"),
        lambda: push(MemorySource({"a": b"2"}), f"{here}:a//b"),
        lambda: push(MemorySource({"a": b"2"}), LayoutReference(str(tmp_path / "here"), "v 2")),
    ):
        with pytest.raises(ConfigurationError, match="not a name for something in an image layout"):
            give()
    assert [info.tag for info in list_tags(here)] == ["v1"]


def test_a_name_of_a_layout_that_is_no_tag_is_not_taken_along_to_a_registry(registry, tmp_path):
    push(MemorySource({"a": b"1"}), f"oci-layout:{tmp_path}:team/app")
    with pytest.raises(ConfigurationError, match="not a tag: 'team/app'"):
        promote(f"oci-layout:{tmp_path}:team/app", f"oci://{registry.host}/app", access=ACCESS)
    assert registry.requests == []


def test_the_only_manifest_of_a_layout_needs_no_name(tmp_path):
    """As `skopeo copy docker://… oci:DIRECTORY` writes it."""
    layout = tmp_path / "layout"
    push(MemorySource({"a": b"1"}), f"oci-layout:{layout}")
    index = json.loads((layout / "index.json").read_bytes())
    del index["manifests"][0]["annotations"]
    (layout / "index.json").write_text(json.dumps(index))
    source = OCISource(f"oci-layout:{layout}")
    assert seen(source)[0] == {"a": "1"}
    assert source.url == f"oci-layout:{layout}"
    promote(f"oci-layout:{layout}", f"oci-layout:{layout}:latest")
    push(MemorySource({"a": b"2"}), f"oci-layout:{layout}:other")
    assert seen(OCISource(f"oci-layout:{layout}:latest"))[0] == {"a": "1"}


def test_of_several_manifests_without_a_name_none_is_chosen(tmp_path):
    layout = tmp_path / "layout"
    for name in ("one", "two"):
        push(MemorySource({"a": name.encode()}), f"oci-layout:{layout}:{name}")
    with pytest.raises(RevisionNotFoundError, match="only one, two"):
        seen(OCISource(f"oci-layout:{layout}"))


# --- helpers ---


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://ghcr.io", "ghcr.io:443"),
        ("https://ghcr.io:443", "ghcr.io"),
        ("http://[::1]", "[::1]:80"),
        ("https://[::1]:5000", "https://[::1]:5000/v2/"),
    ],
)
def test_a_login_is_found_whether_its_usual_port_was_typed_or_not(url, key):
    config = DockerConfig.from_secret(json.dumps({"auths": {key: {"username": "ada", "password": "secret"}}}))
    assert config.credentials(Origin.of(url)) == BasicAuth("ada", "secret")


def test_a_login_at_another_port_is_not_found():
    config = DockerConfig.from_secret(json.dumps({"auths": {"ghcr.io:443": {"username": "ada", "password": "secret"}}}))
    assert config.credentials(Origin.of("https://ghcr.io:8443")) is None
    assert config.credentials(Origin.of("http://ghcr.io")) is None


def test_a_helper_whose_answer_has_no_end_is_ended(tmp_path, monkeypatch):
    program = tmp_path / "docker-credential-endless"
    program.write_text(f"#!{sys.executable}\nwhile True: print('x' * 4096)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credsStore": "endless"}))
    with pytest.raises(AuthenticationError, match="nonsense"):
        DockerConfig(path=str(config)).credentials(Origin.of("https://ghcr.io"))
