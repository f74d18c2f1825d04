"""The smallest Sigstore that can be had: Fulcio, Rekor 2 and the timestamp authority as they are, from their Go modules.

Written here: an issuer of tokens, a log of certificates (all of it that Fulcio asks for: a timestamp), and a Rekor 1 in memory, whose
real self wants a database. The first two only have to say what Fulcio accepts; the third what cosign verifies.
"""

import base64
import contextlib
import datetime as dt
import hashlib
import json
import os
import struct
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from fluxsrc.testing._loopback import Request
from helpers import small_sigstore as small
from helpers.programs import free_port, listens, process, run, tool
from helpers.web_server import WebServer

ISSUED = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
Answer = Callable[[str, bytes], tuple[int, bytes]]
"""From path and body of a request to status and body of the answer."""


@contextlib.contextmanager
def http(answer: Answer) -> Iterator[str]:
    """A server for JSON; yields its URL."""

    def told(request: Request, data: bytes) -> tuple[int, bytes, dict[str, str]]:
        status, body = answer(request.path, data)
        # A client of Rekor's looks there for the name of what it made.
        name = {"ETag": next(iter(json.loads(body)))} if status == 201 else {}
        return status, body, {"Content-Type": "application/json", **name}

    with WebServer(told) as server:
        yield server.url


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """An OpenID Connect issuer that says what it is asked to."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.url = ""

    def answer(self, path: str, _body: bytes) -> tuple[int, bytes]:
        if path == "/.well-known/openid-configuration":
            value: object = {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/auth",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        else:
            numbers = self.key.public_key().public_numbers()
            point = {name: base64url(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
            value = {"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig", **point}]}
        return 200, json.dumps(value).encode()

    def token(self, address: str) -> str:
        now = int(dt.datetime.now(dt.UTC).timestamp())
        claims = {
            "iss": self.url,
            "aud": "sigstore",
            "sub": address,
            "email": address,
            "email_verified": True,
            "iat": now,
            "nbf": now - 60,
            "exp": now + 600,
        }
        head = {"alg": "ES256", "kid": "1", "typ": "JWT"}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


_POISON = bytes.fromhex("06 0a 2b 06 01 04 01 d6 79 02 04 03")


def _read(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Tag, content, the whole value, and what follows it, of a DER value."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + size], data[: start + size], data[start + size :]


def _values(data: bytes) -> list[bytes]:
    values = []
    while data:
        _, _, whole, data = _read(data)
        values.append(whole)
    return values


def without_poison(precertificate: bytes) -> bytes:
    """The TBS certificate that the timestamp is over (RFC 6962, 3.2)."""
    tbs = _values(_read(precertificate)[1])[0]
    *fields, extensions = _values(_read(tbs)[1])
    kept = [item for item in _values(_read(_read(extensions)[1])[1]) if _POISON not in item]
    return small.tlv(0x30, b"".join([*fields, small.tlv(0xA3, small.tlv(0x30, b"".join(kept)))]))


class CertificateLog:
    """A log of certificates that forgets them: Fulcio only wants the timestamp."""

    def __init__(self) -> None:
        self.log = small.Log(small.ecdsa(), origin="ct.example.com")

    def answer(self, _path: str, body: bytes) -> tuple[int, bytes]:
        chain = [base64.b64decode(item) for item in json.loads(body)["chain"]]
        issuer = x509.load_der_x509_certificate(chain[1]).public_key()
        spki = issuer.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        tbs = without_poison(chain[0])
        stamp = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        head = struct.pack(">BBQH", 0, 0, stamp, 1) + hashlib.sha256(spki).digest()
        signature = small.sign(self.log.key, head + len(tbs).to_bytes(3, "big") + tbs + b"\0\0")
        answer = {
            "sct_version": 0,
            "id": small.b64(self.log.id),
            "timestamp": stamp,
            "extensions": "",
            "signature": small.b64(b"\4\3" + struct.pack(">H", len(signature)) + signature),
        }
        return 200, json.dumps(answer).encode()


class OldRekor:
    """As much of Rekor 1 as cosign asks for when it signs."""

    def __init__(self) -> None:
        self.log = small.Log(small.ecdsa(), origin="rekor.example.com", bodies=[b"first"])

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if path != "/api/v1/log/entries":
            return 404, b"{}"
        proposed = json.loads(body)
        if proposed["kind"] == "dsse":
            proposed = self._dsse(proposed)
        data = small.canonical(proposed)
        index, now = self.log.append(data), dt.datetime.now(dt.UTC)
        signature, payload = self.log.promise(index, now)
        proof = self.log.proof(index)
        entry = {
            "body": payload["body"],
            "integratedTime": payload["integratedTime"],
            "logID": payload["logID"],
            "logIndex": index,
            "verification": {
                "signedEntryTimestamp": small.b64(signature),
                "inclusionProof": {
                    "checkpoint": proof["checkpoint"]["envelope"],
                    "hashes": [base64.b64decode(item).hex() for item in proof["hashes"]],
                    "logIndex": index,
                    "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                    "treeSize": int(proof["treeSize"]),
                },
            },
        }
        return 201, json.dumps({small.leaf_hash(data).hex(): entry}).encode()

    @staticmethod
    def _dsse(proposed: dict[str, Any]) -> dict[str, Any]:
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        signatures = [
            {"signature": item["sig"], "verifier": verifier}
            for item, verifier in zip(envelope["signatures"], content["verifiers"], strict=True)
        ]
        return {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(content["envelope"].encode()).hexdigest(),
                },
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": signatures,
            },
        }


class Instance:
    """A running instance, and how cosign is told of it.

    Attributes:
        issuer: Who gives tokens.
        urls: Of `fulcio`, `rekor`, `tsa`, `old_rekor`.
        trusted_root: The file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.issuer = Issuer()
        self.certificate_log = CertificateLog()
        self.old_rekor = OldRekor()
        self.urls: dict[str, str] = {}
        self.trusted_root = root / "trusted_root.json"

    def sign(self, image: str, address: str, *, log: int = 2) -> None:
        """`cosign sign` into a bundle, by a certificate for this address, in this kind of log."""
        self._cosign_sign(image, address, f"--signing-config={self.signing_config(log)}")

    def sign_first_layout(self, image: str, address: str) -> None:
        """The same as cosign 1 and 2 did."""
        self._cosign_sign(
            image, address, "--new-bundle-format=false", "--use-signing-config=false",
            f"--fulcio-url={self.urls['fulcio']}", f"--rekor-url={self.urls['old_rekor']}",
            f"--oidc-issuer={self.issuer.url}",
        )  # fmt: skip

    def _cosign_sign(self, image: str, address: str, *options: str) -> None:
        token = self.root / "token"  # on the command line, cosign knows only those by RSA keys for one
        token.write_text(self.issuer.token(address))
        run(
            "cosign", "sign", "--yes", "--allow-http-registry", f"--identity-token={token}",
            f"--trusted-root={self.trusted_root}", *options, image, env={"HOME": str(self.root)},
        )  # fmt: skip

    def accepts(self, image: str, address: str, *, log: int = 2) -> bool:
        """Whether `cosign verify` ends well, for a bundle by this address in this kind of log: the second tells no time."""
        words = [
            tool("cosign"), "verify", "--allow-http-registry", f"--trusted-root={self.trusted_root}",
            f"--certificate-identity={address}", f"--certificate-oidc-issuer={self.issuer.url}",
            f"--use-signed-timestamps={log == 2}".lower(), image,
        ]  # fmt: skip
        environment = {**os.environ, "HOME": str(self.root)}
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)
        return done.returncode == 0

    def signing_config(self, log: int) -> Path:
        """The file that says who is asked when something is signed: this kind of log."""
        path = self.root / f"signing-config-{log}.json"
        path.write_text(json.dumps(self._signing_config(log)))
        return path

    def _signing_config(self, log: int) -> dict[str, Any]:
        def service(url: str, version: int = 1) -> dict[str, Any]:
            return {"url": url, "majorApiVersion": version, "operator": "small", "validFor": small.period(ISSUED)}

        return {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service(self.urls["fulcio"])],
            "oidcUrls": [service(self.issuer.url)],
            "rekorTlogUrls": [service(self.urls["rekor" if log == 2 else "old_rekor"], log)],
            "tsaUrls": [service(self.urls["tsa"] + "/api/v1/timestamp")] if log == 2 else [],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }


def _pem(key: Any, path: Path, password: str | None = None) -> Path:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return path


@contextlib.contextmanager
def instance(root: Path) -> Iterator[Instance]:
    """Everything started, wired together, and stopped again."""
    running = Instance(root)
    authority = small.Authority.make()
    log_key = ed25519.Ed25519PrivateKey.generate()
    with contextlib.ExitStack() as stack:
        running.issuer.url = stack.enter_context(http(running.issuer.answer))
        ct_url = stack.enter_context(http(running.certificate_log.answer))
        running.urls["old_rekor"] = stack.enter_context(http(running.old_rekor.answer))

        chain = root / "chain.pem"
        chain.write_text(small.pem(authority.certificate) + small.pem(authority.root))
        ct_public = root / "ct.pem"
        ct_public.write_bytes(
            running.certificate_log.log.key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        config = root / "fulcio.json"
        issuer = {"IssuerURL": running.issuer.url, "ClientID": "sigstore", "Type": "email"}
        config.write_text(json.dumps({"OIDCIssuers": {running.issuer.url: issuer}}))
        port = free_port()
        running.urls["fulcio"] = f"http://127.0.0.1:{port}"
        command = [
            tool("fulcio"), "serve", "--ca=fileca", f"--fileca-cert={chain}", "--fileca-watch=false",
            f"--fileca-key={_pem(authority.key, root / 'ca.pem', 'hunter2')}", "--fileca-key-passwd=hunter2",
            f"--ct-log-url={ct_url}", f"--ct-log-public-key-path={ct_public}", f"--config-path={config}",
            "--host=127.0.0.1", "--grpc-host=127.0.0.1", f"--port={port}", f"--grpc-port={free_port()}",
            f"--metrics-port={free_port()}", f"--legacy-unix-domain-socket={root / 'fulcio.socket'}",
        ]  # fmt: skip
        stack.enter_context(process(command, root / "fulcio.log", ready=listens(port)))

        port = free_port()
        running.urls["rekor"] = f"http://127.0.0.1:{port}"
        command = [
            tool("rekor-server-posix"), "serve", f"--http-port={port}", f"--grpc-port={free_port()}",
            f"--http-metrics-port={free_port()}", "--hostname=rekor2.example.com",
            f"--storage-dir={root / 'rekor'}", f"--signer-filepath={_pem(log_key, root / 'rekor.pem')}",
            "--checkpoint-interval=1s", "--batch-max-age=20ms",
        ]  # fmt: skip
        stack.enter_context(process(command, root / "rekor.log", ready=listens(port)))

        port = free_port()
        running.urls["tsa"] = f"http://127.0.0.1:{port}"
        command = [
            tool("timestamp-server"), "serve", "--host=127.0.0.1", f"--port={port}", "--timestamp-signer=memory",
            "--disable-ntp-monitoring",
        ]  # fmt: skip
        stack.enter_context(process(command, root / "tsa.log", ready=listens(port), env={"HOME": str(root)}))
        with urllib.request.urlopen(running.urls["tsa"] + "/api/v1/timestamp/certchain") as answer:
            tsa = x509.load_pem_x509_certificates(answer.read())

        trusted = small.SmallSigstore(
            authority=authority,
            ct=running.certificate_log.log,
            log=running.old_rekor.log,
            log2=small.Log(log_key, v2=True, origin="rekor2.example.com"),
        )
        stamping = {
            "subject": {"organization": "small", "commonName": "tsa"},
            "uri": running.urls["tsa"],
            "certChain": {"certificates": [{"rawBytes": small.b64(small.der(item))} for item in tsa]},
            "validFor": small.period(ISSUED),
        }
        running.trusted_root.write_bytes(trusted.trusted_root(timestampAuthorities=[stamping]))
        yield running
