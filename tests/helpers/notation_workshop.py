"""The real `notation` with keys of every kind, and OpenSSL as an authority for timestamps; needs tests/servers/install-notation.sh."""

import base64
import contextlib
import datetime as dt
import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.errors import VerificationError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, push
from fluxsrc.signatures.notation import NotationSignature
from fluxsrc.stores import MemoryStore
from helpers import notation_keys as keys
from helpers import oci_servers as servers
from helpers.programs import tool
from helpers.web_server import WebServer

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
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.root / "config"), "HOME": str(self.root)}
        done = subprocess.run(
            [tool("notation"), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
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


@contextlib.contextmanager
def timestamp_authority(root: Path):
    """OpenSSL as an RFC 3161 authority; yields its URL and its root."""
    ca = keys.issue(keys.name("TSA Root"), keys.new_key("rsa2048"), ca=True, start=dt.timedelta(days=-10))
    plain = {"purposes": (), "start": dt.timedelta(days=-10), "days": 100}
    eku = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
    ski = (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False)
    tsa = keys.issue(keys.name("TSA"), keys.new_key("rsa2048"), ca, extensions=[eku, ski], **plain)
    key, chain = tsa.files(root, "tsa")
    signer = root / "tsa-only.crt"
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

    def stamp(_request, query):
        (root / "query.tsq").write_bytes(query)
        words = ["-queryfile", root / "query.tsq", "-config", config, "-out", root / "answer.tsr"]
        subprocess.run(["openssl", "ts", "-reply", *words], check=True, capture_output=True)
        return 200, (root / "answer.tsr").read_bytes(), {"Content-Type": "application/timestamp-reply"}

    with WebServer(stamp) as server:
        yield server.url, ca
