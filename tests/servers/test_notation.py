"""What `notation` itself signs, in JWS and COSE, with keys of every kind, in real registries; and its verdicts beside ours."""

import contextlib
import datetime as dt
import shutil
import subprocess
from pathlib import Path

import pytest

from fluxsrc.errors import VerificationError
from fluxsrc.signatures.notation import NotationSignature
from helpers import notation_keys as keys
from helpers import oci_servers as servers
from helpers import programs
from helpers.notation_workshop import KINDS, Workshop, timestamp_authority
from helpers.web_server import WebServer

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", params=["docker-registry", "crane", "zot"])
def registry(request, tmp_path_factory):
    """Debian's knows no referrers API, so signatures are listed below a tag; the others know it. zot wants a login."""
    start = {"docker-registry": servers.docker_registry, "crane": servers.crane_registry, "zot": servers.zot}
    with start[request.param](tmp_path_factory.mktemp(request.param)) as host:
        yield host, request.param


@pytest.fixture
def work(registry, tmp_path):
    host, name = registry
    return Workshop(tmp_path, host, log_in=name == "zot")


@pytest.mark.parametrize("where", ["tag", "api"])
def test_signatures_are_found_wherever_notation_lists_them(work, where):
    """Below the tag `sha256-…`, which is its default, or by the referrers API, where there is one."""
    reference = work.artifact(f"listed/{where}")
    work.sign(reference, f"--force-referrers-tag={str(where == 'tag').lower()}")
    assert work.theirs(reference)
    assert work.ours(reference)["oci.layout"] == "notation"
    assert work.ours(reference, repository=reference.partition("@")[0])["oci.statement"] == "all"


@pytest.mark.parametrize("form", ["jws", "cose"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_notation_signs_we_verify(work, kind, form):
    """With every kind of key that the specification has, in both envelopes."""
    reference = work.artifact(f"good/{kind}/{form}")
    work.sign(reference, "--key", kind, "--signature-format", form, "-m", "env=prod", "--expiry", "24h")
    facts = work.ours(reference, annotations={"env": "prod"})
    assert facts["oci.algorithm"] == keys.ALGORITHMS[kind]
    assert facts["oci.scheme"] == "notary.x509"
    assert f"CN={kind}" in facts["oci.signer"]
    assert work.theirs(reference)


def test_our_verdicts_are_notations(work):
    """Unsigned, by an unknown CA, by another name, for another repository: neither of us lets it through."""
    reference = work.artifact("verdicts/one")
    assert work.refused(reference) == 2
    work.sign(reference, "--key", "other")
    assert work.refused(reference) == 5
    work.sign(reference, "--key", "p256")
    assert work.theirs(reference)
    assert work.ours(reference)["oci.level"] == "strict"
    work.policy(trustedIdentities=["x509.subject: C=US, ST=WA, O=Acme, CN=p384"])
    assert work.refused(reference) == 7
    work.policy(trustedIdentities=["x509.subject: C=US, ST=WA, O=Acme, CN=p256"])
    assert work.theirs(reference)
    assert work.ours(reference)["oci.statement"] == "all"
    work.policy(registryScopes=[f"{work.registry}/verdicts/two"])
    assert work.refused(reference) == 9
    work.policy(registryScopes=[f"{work.registry}/verdicts/one"])
    assert work.theirs(reference)
    assert work.ours(reference)


def test_a_signature_of_another_digest_is_none(work):
    """Each artifact needs its own."""
    work.sign(work.artifact("digests/app", {"a": "1"}))
    other = work.artifact("digests/app", {"a": "2"})
    assert work.refused(other) == 2


def test_other_metadata_than_was_signed_is_refused(work):
    """By us, who were asked for it; notation lists it."""
    reference = work.artifact("metadata/app")
    work.sign(reference, "-m", "env=test")
    with pytest.raises(VerificationError) as caught:
        work.ours(reference, annotations={"env": "prod"})
    assert caught.value.check == 10


def test_a_manifest_that_is_an_index_is_verified_as_one(work):
    """The descriptor that is signed has the index's size and media type."""
    first = work.artifact("index/app")
    crane = programs.tool("crane")
    tag = f"{work.registry}/index/app:all"
    where = {"env": work.docker_config(), "check": True, "capture_output": True, "text": True}
    subprocess.run([crane, "index", "append", "--insecure", "-m", first, "-t", tag], **where)
    digest = subprocess.run([crane, "digest", "--insecure", tag], **where).stdout.strip()
    reference = f"{work.registry}/index/app@{digest}"
    work.sign(reference)
    policy = NotationSignature.from_directory(work.config)
    with work.source(reference, policy).fetch() as snapshot:
        assert dict(snapshot.verification)["oci.level"] == "strict"


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_a_timestamp_by_a_trusted_authority_counts(work, tmp_path, form):
    """notation asks an RFC 3161 authority for it; both of us demand it where the policy does, of that authority only."""
    with timestamp_authority(tmp_path) as (url, root):
        (tmp_path / "tsa-root.crt").write_bytes(root.files(tmp_path, "tsa-root")[1].read_bytes())
        work.trust("tsa", "clock", root)
        work.policy(trustStores=["ca:acme", "tsa:clock"])
        stamped, plain = work.artifact(f"stamped/{form}"), work.artifact(f"plain/{form}")
        words = ["--signature-format", form]
        work.sign(plain, *words)
        work.sign(stamped, *words, "--timestamp-url", url, "--timestamp-root-cert", tmp_path / "tsa-root.crt")
    assert work.theirs(stamped)
    assert work.ours(stamped)["oci.level"] == "strict"
    assert work.refused(plain) == 5
    work.trust("tsa", "clock", keys.issue(keys.name("TSA Root"), keys.new_key("rsa2048"), ca=True))
    assert work.refused(stamped) == 5


@contextlib.contextmanager
def published_list(path: Path):
    """A place that certificates name, where whatever is in this file is the list of revoked ones."""

    with WebServer(lambda _request, _body: (200, path.read_bytes())) as server:
        yield f"{server.url}/ca.crl"


def test_what_was_revoked_is_refused_by_both(work, tmp_path):
    """notation asks the place that the certificate names, we are given the list; not to know is no answer for either."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    file = tmp_path / "ca.crl"

    def revoke(*certificates):
        moment = keys.now()
        builder = x509.CertificateRevocationListBuilder().issuer_name(work.ca.certificate.subject)
        builder = builder.last_update(moment - dt.timedelta(hours=1)).next_update(moment + dt.timedelta(hours=1))
        for each in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(moment - dt.timedelta(hours=1)).build())
        file.write_bytes(builder.sign(work.ca.key, hashes.SHA256()).public_bytes(Encoding.DER))
        shutil.rmtree(tmp_path / ".cache", ignore_errors=True)  # notation keeps lists until they are over

    with published_list(file) as url:
        place = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
        signer = keys.issue(
            keys.name("p256"), keys.new_key("p256"), work.ca, extensions=[(x509.CRLDistributionPoints([place]), False)]
        )
        signer.files(work.root, "p256")
        reference = work.artifact("revoked/app")
        revoke()
        work.sign(reference)
        assert work.theirs(reference)
        assert work.ours(reference, crls=[file])["oci.level"] == "strict"
        revoke(signer.certificate)
        assert work.refused(reference, crls=[file]) == 5
    shutil.rmtree(tmp_path / ".cache", ignore_errors=True)
    assert work.refused(reference) == 5, "nobody tells"
    work.policy(signatureVerification={"level": "strict", "override": {"revocation": "log"}})
    assert work.theirs(reference)
    assert "could be revoked" in work.ours(reference)["oci.warning.revocation"]
