"""A Sigstore small enough to lie: an authority, a log of certificates, both kinds of transparency log, a timestamp authority.

Everything is made in the test's process and with other code than what is tested: the formats are written here from their
specifications (RFC 6962, the signed note, Rekor's canonical entries), so that each of them can be written wrong as well.
"""

import base64
import datetime as dt
import hashlib
import json
import struct

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fluxsrc.digest import Digest
from fluxsrc.signatures import OCIEvidence, SignatureKind, SignatureRecord

NOW = dt.datetime(2026, 5, 1, 12, 0, tzinfo=dt.UTC)
SIGNED = NOW - dt.timedelta(days=30)
EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
ISSUER = "https://accounts.example.com"
SUBJECT = "ada@example.com"
_SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def b64(data):
    return base64.b64encode(data).decode()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def public_der(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def tlv(tag, data):
    """A DER value of less than 64 KiB."""
    if len(data) < 128:
        return bytes([tag, len(data)]) + data
    length = len(data).to_bytes(1 if len(data) < 256 else 2, "big")
    return bytes([tag, 0x80 | len(length)]) + length + data


def utf8string(text):
    return tlv(0x0C, text.encode())


def sign(key, data):
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def leaf_hash(body):
    return hashlib.sha256(b"\0" + body).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_hash(leaves):
    """RFC 6962, 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_hash(leaves[:split]), root_hash(leaves[split:]))


def inclusion_path(index, leaves):
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*inclusion_path(index, leaves[:split]), root_hash(leaves[split:])]
    return [*inclusion_path(index - split, leaves[split:]), root_hash(leaves[:split])]


def period(start=EPOCH, end=None):
    shown = {"start": start.isoformat().replace("+00:00", "Z")}
    return shown if end is None else {**shown, "end": end.isoformat().replace("+00:00", "Z")}


@attrs.define
class Authority:
    """A certificate authority: a root, and one below it that issues, as Fulcio has it."""

    key: object = attrs.field(factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    certificate: object = None
    root: object = None

    @classmethod
    def make(cls, *, ca=True):
        root_key = ec.generate_private_key(ec.SECP384R1())
        root = _ca("root", root_key, "root", root_key)
        authority = cls(root=root)
        authority.certificate = _ca(
            "issuing", authority.key, "root", root_key, ca=ca, usage=ExtendedKeyUsageOID.CODE_SIGNING
        )
        return authority


def _ca(name, key, issuer, issuer_key, *, ca=True, usage=None):
    def named(text):
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "small"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
        )

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(EPOCH)
        .not_valid_after(NOW + dt.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_usage(certs=ca), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def _usage(*, certs=False, signature=True):
    return x509.KeyUsage(
        digital_signature=signature and not certs,
        content_commitment=False,
        key_encipherment=not signature,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certs,
        crl_sign=certs,
        encipher_only=False,
        decipher_only=False,
    )


@attrs.define
class Log:
    """A transparency log; of the second kind, if it says so."""

    key: object
    v2: bool = False
    origin: str = "log.example.com"
    bodies: list = attrs.field(factory=list)

    @property
    def id(self):
        if not self.v2:
            return hashlib.sha256(public_der(self.key)).digest()
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(self.origin.encode() + b"\n\x01" + raw).digest()

    def append(self, body):
        self.bodies.append(body)
        return len(self.bodies) - 1

    def checkpoint(self, *, root=None, key=None, size=None):
        leaves = [leaf_hash(body) for body in self.bodies]
        # Rekor 1 names its tree as well; by that Go's clients tell the two apart.
        origin = self.origin if self.v2 else f"{self.origin} - 1234567890123456789"
        text = f"{origin}\n{size or len(leaves)}\n{b64(root or root_hash(leaves))}\n"
        return f"{text}\n\u2014 {self.origin} {b64(self.id[:4] + sign(key or self.key, text.encode()))}\n"

    def proof(self, index):
        leaves = [leaf_hash(body) for body in self.bodies]
        return {
            "logIndex": str(index),
            "rootHash": b64(root_hash(leaves)),
            "treeSize": str(len(leaves)),
            "hashes": [b64(item) for item in inclusion_path(index, leaves)],
            "checkpoint": {"envelope": self.checkpoint()},
        }

    def promise(self, index, time, *, body=None, key=None):
        payload = {
            "body": b64(self.bodies[index] if body is None else body),
            "integratedTime": int(time.timestamp()),
            "logID": self.id.hex(),
            "logIndex": index,
        }
        return sign(key or self.key, canonical(payload)), payload

    def service(self, *, valid=None):
        details = "PKIX_ED25519" if self.v2 else "PKIX_ECDSA_P256_SHA_256"
        return {
            "baseUrl": f"https://{self.origin}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": b64(public_der(self.key)), "keyDetails": details, "validFor": valid or period()},
            "logId": {"keyId": b64(self.id)},
        }


def ecdsa():
    return ec.generate_private_key(ec.SECP256R1())


@attrs.define
class SmallSigstore:
    """One instance of everything, and what it would publish as its `trusted_root.json`."""

    authority: Authority = attrs.field(factory=Authority.make)
    ct: Log = attrs.field(factory=lambda: Log(ecdsa(), origin="ct.example.com"))
    log: Log = attrs.field(factory=lambda: Log(ecdsa(), bodies=[b"first", b"second"]))
    log2: Log = attrs.field(
        factory=lambda: Log(ed25519.Ed25519PrivateKey.generate(), v2=True, origin="log2.example.com", bodies=[b"zero"])
    )
    tsa_root: object = None
    tsa: object = None

    def trusted_root(self, **changes):
        def chain(*certificates):
            return {
                "subject": {"organization": "small", "commonName": "small"},
                "uri": "https://ca.example.com",
                "certChain": {"certificates": [{"rawBytes": b64(der(item))} for item in certificates]},
                "validFor": period(),
            }

        value = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.log.service(), self.log2.service()],
            "certificateAuthorities": [chain(self.authority.certificate, self.authority.root)],
            "ctlogs": [self.ct.service()],
            "timestampAuthorities": [],
        }
        return canonical({**value, **changes})

    def issue(
        self,
        key=None,
        *,
        subject=SUBJECT,
        issuer=ISSUER,
        at=SIGNED,
        names=None,
        issuers=None,
        usage=ExtendedKeyUsageOID.CODE_SIGNING,
        digital_signature=True,
        sct=True,
        sct_key=None,
        sct_over=None,
        authority=None,
    ):
        """A key and its certificate. Everything that Fulcio would never do can be asked for."""
        key = key or ecdsa()
        authority = authority or self.authority
        if names is None:
            is_uri = "://" in subject
            names = [x509.UniformResourceIdentifier(subject) if is_uri else x509.RFC822Name(subject)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - dt.timedelta(seconds=5))
            .not_valid_after(at + dt.timedelta(minutes=10))
            .add_extension(_usage(signature=digital_signature), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if issuers is None:
            issuers = [("1", issuer.encode()), ("8", utf8string(issuer))]
        for number, value in issuers:
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        if sct:
            other = sct_over or builder.sign(authority.key, hashes.SHA384())
            scts = self.sct_list(other, authority, at, key=sct_key)
            builder = builder.add_extension(x509.UnrecognizedExtension(_SCT_OID, tlv(0x04, scts)), critical=False)
        return key, builder.sign(authority.key, hashes.SHA384())

    def sct_list(self, precertificate, authority, at, *, key=None):
        """RFC 6962, 3.2 and 3.3: a list of one timestamp."""
        stamp = int(at.timestamp() * 1000)
        tbs = precertificate.tbs_certificate_bytes
        issuer_hash = hashlib.sha256(public_der(authority.key)).digest()
        signed = struct.pack(">BBQH", 0, 0, stamp, 1) + issuer_hash + len(tbs).to_bytes(3, "big") + tbs + b"\0\0"
        signature = sign(key or self.ct.key, signed)
        timestamp = (
            b"\0" + self.ct.id + struct.pack(">QH", stamp, 0) + b"\4\3" + struct.pack(">H", len(signature)) + signature
        )
        return struct.pack(">HH", len(timestamp) + 2, len(timestamp)) + timestamp

    # --- signatures as they lie in a registry ---

    def legacy(self, payload, *, key=None, certificate=None, at=SIGNED, **issue):
        """The annotations of cosign's first layout, and the index of the log entry."""
        if certificate is None:
            key, certificate = self.issue(at=at, **issue)
        signature = sign(key, payload)
        body = hashedrekord(payload, signature, certificate)
        index = self.log.append(body)
        return self.annotated(signature, certificate, *self.log.promise(index, at))

    @staticmethod
    def annotated(signature, certificate, set_, promised):
        return {
            "dev.cosignproject.cosign/signature": b64(signature),
            "dev.sigstore.cosign/certificate": pem(certificate),
            "dev.sigstore.cosign/bundle": json.dumps({"SignedEntryTimestamp": b64(set_), "Payload": promised}),
        }

    def bundle(
        self, payload, *, at=SIGNED, key=None, certificate=None, payload_type="application/vnd.in-toto+json", **issue
    ):
        """A bundle around a statement, logged in the first kind of log."""
        if certificate is None:
            key, certificate = self.issue(at=at, **issue)
        kind = payload_type.encode()
        signature = sign(key, b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
        envelope = {"payload": b64(payload), "payloadType": payload_type, "signatures": [{"sig": b64(signature)}]}
        body = dsse_entry(payload, signature, certificate)
        entry = self.entry(self.log.append(body), at, kind="dsse")
        return bundle_of(certificate, entry, dsseEnvelope=envelope)

    def message_bundle(self, message, *, at=SIGNED, **issue):
        """A bundle around a signature of the manifest itself."""
        key, certificate = self.issue(at=at, **issue)
        signature = sign(key, message)
        entry = self.entry(self.log.append(hashedrekord(message, signature, certificate)), at, kind="hashedrekord")
        return bundle_of(
            certificate,
            entry,
            messageSignature={
                "messageDigest": {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(message).digest())},
                "signature": b64(signature),
            },
        )

    def entry(self, index, at, *, kind):
        set_, _ = self.log.promise(index, at)
        return {
            "logIndex": str(index),
            "logId": {"keyId": b64(self.log.id)},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": str(int(at.timestamp())),
            "inclusionPromise": {"signedEntryTimestamp": b64(set_)},
            "inclusionProof": self.log.proof(index),
            "canonicalizedBody": b64(self.log.bodies[index]),
        }


def bundle_of(certificate, entry, **content):
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": b64(der(certificate))},
            "tlogEntries": [entry],
        },
        **content,
    }


def hashedrekord(message, signature, certificate):
    return canonical(
        {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(message).hexdigest()}},
                "signature": {"content": b64(signature), "publicKey": {"content": b64(pem(certificate).encode())}},
            },
        }
    )


def dsse_entry(payload, signature, certificate):
    return canonical(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(b"whatever").hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(pem(certificate).encode())}],
            },
        }
    )


# --- what is signed, and the evidence around it ---

MANIFEST = canonical({"schemaVersion": 2, "layers": [], "config": {}})
DIGEST = Digest.of(MANIFEST)
REPOSITORY = "registry.example.com/shop/app"


def simple_payload(digest=DIGEST, *, repository=REPOSITORY, annotations=None, kind="cosign container image signature"):
    return canonical(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": str(digest)},
                "type": kind,
            },
            "optional": annotations,
        }
    )


def statement(digest=DIGEST, *, predicate="https://sigstore.dev/cosign/sign/v1", annotations=None):
    subject = {"digest": {digest.algorithm: digest.hex}}
    if annotations:
        subject["annotations"] = annotations
    return canonical(
        {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": predicate, "predicate": {}}
    )


def legacy_record(payload, annotations):
    return SignatureRecord(
        kind=SignatureKind.COSIGN,
        manifest=Digest.of(b"signature manifest"),
        media_type="application/vnd.dev.cosign.simplesigning.v1+json",
        payload=payload,
        annotations=annotations,
    )


def bundle_record(value):
    return SignatureRecord(
        kind=SignatureKind.BUNDLE,
        manifest=Digest.of(b"bundle manifest"),
        media_type="application/vnd.dev.sigstore.bundle.v0.3+json",
        payload=value if isinstance(value, bytes) else json.dumps(value).encode(),
    )


def evidence(*records, now=NOW):
    return OCIEvidence(
        subject=f"oci://{REPOSITORY} at {DIGEST}",
        now=now,
        repository=REPOSITORY,
        digest=DIGEST,
        media_type="application/vnd.oci.image.manifest.v1+json",
        content=MANIFEST,
        records=records,
    )
