"""What `notation` itself signs, in JWS and COSE, with keys of every kind, in real registries; and its verdicts beside ours."""

import base64
import contextlib
import datetime as dt
import importlib.util
import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.errors import VerificationError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, push
from fluxsrc.signatures.notation import NotationSignature
from fluxsrc.stores import MemoryStore

pytestmark = pytest.mark.servers


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


servers = _load("notation_oci_servers", Path(__file__).with_name("oci_servers.py"))
keys = _load("notation_keys", Path(__file__).parents[1] / "notation_keys.py")

KINDS = ["rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521"]


class Workshop:
    """notation's configuration directory, with a CA and a signer for each kind of key."""

    def __init__(self, root: Path, registry: str, *, log_in: bool = False):
        self.root, self.registry = root, registry
        self.login = ["--username", servers.USER, "--password", servers.PASSWORD] if log_in else []
        credentials = BasicAuth(servers.USER, servers.PASSWORD)
        keychain = StaticKeychain.for_url(f"http://{registry}", credentials) if log_in else None
        self.access = Access(insecure=True, keychain=keychain)
        self.config = root / "config" / "notation"
        self.ca = keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True)
        self.signers = {kind: keys.issue(keys.name(kind), keys.new_key(kind), self.ca) for kind in KINDS}
        other = keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True)
        self.signers["other"] = keys.issue(keys.name("p256"), keys.new_key("p256"), other)
        self.config.mkdir(parents=True)
        document = {"default": "p256", "keys": []}
        for name, signer in self.signers.items():
            key, chain = signer.files(root, name)
            document["keys"].append({"name": name, "keyPath": str(key), "certPath": str(chain)})
        (self.config / "signingkeys.json").write_text(json.dumps(document))
        self.trust("ca", "acme", self.ca)
        self.policy()

    def trust(self, kind, name, signer):
        directory = self.config / "truststore" / "x509" / kind / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "root.crt").write_bytes(signer.files(self.root, "root")[1].read_bytes())

    def policy(self, **statement):
        statement = {
            "name": "all",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:acme"],
            "trustedIdentities": ["*"],
        } | statement
        document = {"version": "1.0", "trustPolicies": [statement]}
        (self.config / "trustpolicy.json").write_text(json.dumps(document))

    def notation(self, *words, check=True):
        tool = shutil.which("notation", path=os.pathsep.join([os.environ.get("GOBIN", ""), os.environ["PATH"]]))
        if tool is None:
            pytest.fail("notation is not installed: run tests/servers/install-notation.sh")
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.root / "config"), "HOME": str(self.root)}
        done = subprocess.run(
            [tool, *map(str, words)], capture_output=True, text=True, timeout=120, check=False, env=environment
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def docker_config(self):
        """An environment in which other tools log in, too."""
        auth = base64.b64encode(f"{servers.USER}:{servers.PASSWORD}".encode()).decode()
        auths = {self.registry: {"auth": auth}} if self.login else {}
        (self.root / "config.json").write_text(json.dumps({"auths": auths}))
        return {**os.environ, "DOCKER_CONFIG": str(self.root)}

    def artifact(self, repository, files=None):
        """A new artifact; its reference by digest."""
        source = MemorySource(files or {"app.yaml": f"kind: App\nname: {repository}\n"})
        pushed = push(source, f"oci://{self.registry}/{repository}:v1", access=self.access)
        return f"{self.registry}/{repository}@{pushed.digest}"

    def sign(self, reference, *words):
        self.notation("sign", "--insecure-registry", *self.login, *words, reference)

    def theirs(self, reference):
        """Whether notation verifies it."""
        return self.notation("verify", "--insecure-registry", *self.login, reference, check=False).returncode == 0

    def ours(self, reference, **options):
        """The facts."""
        policy = NotationSignature.from_directory(self.config, **options)
        return dict(self.source(reference, policy).produce_artifact(MemoryStore()).verification)

    def source(self, reference, policy):
        return OCISource(f"oci://{reference}", insecure=True, keychain=self.access.keychain, verify=policy)

    def refused(self, reference, **options):
        """The number of our check that fails; notation has to agree that one does."""
        assert not self.theirs(reference)
        with pytest.raises(VerificationError) as caught:
            self.ours(reference, **options)
        return caught.value.check


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
    crane = servers.tool("crane")
    tag = f"{work.registry}/index/app:all"
    where = {"env": work.docker_config(), "check": True, "capture_output": True, "text": True}
    subprocess.run([crane, "index", "append", "--insecure", "-m", first, "-t", tag], **where)
    digest = subprocess.run([crane, "digest", "--insecure", tag], **where).stdout.strip()
    reference = f"{work.registry}/index/app@{digest}"
    work.sign(reference)
    policy = NotationSignature.from_directory(work.config)
    with work.source(reference, policy).fetch() as snapshot:
        assert dict(snapshot.verification)["oci.level"] == "strict"


@contextlib.contextmanager
def timestamp_authority(root: Path):
    """OpenSSL as an RFC 3161 authority; yields its URL and its root."""
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca = keys.issue(keys.name("TSA Root"), keys.new_key("rsa2048"), ca=True, start=dt.timedelta(days=-10))
    plain = {"purposes": (), "start": dt.timedelta(days=-10), "days": 100}
    from cryptography import x509

    eku = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
    ski = (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False)
    tsa = keys.issue(keys.name("TSA"), keys.new_key("rsa2048"), ca, extensions=[eku, ski], **plain)
    key, chain = tsa.files(root, "tsa")
    signer = root / "tsa-only.crt"
    from cryptography.hazmat.primitives.serialization import Encoding

    signer.write_bytes(tsa.certificate.public_bytes(Encoding.PEM))
    (root / "serial").write_text("01\n")
    config = root / "tsa.cnf"
    config.write_text(
        f"""[tsa]
default_tsa = one
[one]
serial = {root}/serial
signer_cert = {signer}
certs = {chain}
signer_key = {key}
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""
    )

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            query = root / "query.tsq"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-queryfile", query, "-config", config, "-out", root / "answer.tsr"]
            subprocess.run(command, check=True, capture_output=True)
            body = (root / "answer.tsr").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", ca
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ca.crl"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
