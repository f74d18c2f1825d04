"""Certificates and envelopes of the Notary Project, made with `cryptography` alone: what the tests of notation sign with."""

import base64
import datetime as dt
import functools
import io
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fluxsrc.oci.manifest import Descriptor, Manifest
from fluxsrc.oci.repository import Document
from fluxsrc.signatures.oci import NOTATION_ARTIFACT_TYPE

PREFIX = "io.cncf.notary."
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
ALGORITHMS = {
    "rsa2048": "PS256",
    "rsa3072": "PS384",
    "rsa4096": "PS512",
    "p256": "ES256",
    "p384": "ES384",
    "p521": "ES512",
}
COSE_ALGORITHMS = {"PS256": -37, "PS384": -38, "PS512": -39, "ES256": -7, "ES384": -35, "ES512": -36}
HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
_OIDS = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
}


def now():
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def new_key(kind):
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key(CURVES[kind]())


@functools.cache
def some_key(kind):
    """The same each time, for those who do not care whose it is: RSA takes long to find one."""
    return new_key(kind)


def name(common, **more):
    pairs = {"C": "US", "ST": "WA", "O": "Acme", "CN": common} | more
    return x509.Name([x509.NameAttribute(_OIDS[key], value) for key, value in pairs.items() if value])


class Signer:
    """A key with a certificate, and the chain above it."""

    def __init__(self, key, certificate, above=()):
        self.key, self.certificate, self.above = key, certificate, list(above)

    @property
    def chain(self):
        return [self.certificate, *self.above]

    @property
    def ders(self):
        return [each.public_bytes(Encoding.DER) for each in self.chain]

    @property
    def root(self):
        return self.chain[-1].public_bytes(Encoding.DER)

    def files(self, directory, stem):
        """Writes key and chain; returns the paths."""
        key, chain = directory / f"{stem}.key", directory / f"{stem}.crt"
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        chain.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in self.chain))
        return key, chain

    def raw(self, signed, algorithm=None):
        """A signature by the algorithm, whether it goes with the key or not."""
        algorithm = algorithm or algorithm_of(self.key)
        hashed = HASHES[algorithm[2:]]()
        if isinstance(self.key, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
            return self.key.sign(signed, padding.PKCS1v15() if algorithm.startswith("RS") else pss, hashed)
        size = (self.key.curve.key_size + 7) // 8
        return b"".join(
            number.to_bytes(size) for number in decode_dss_signature(self.key.sign(signed, ec.ECDSA(hashed)))
        )


def algorithm_of(key):
    if isinstance(key, rsa.RSAPrivateKey):
        return {2048: "PS256", 3072: "PS384", 4096: "PS512"}.get(key.key_size, "PS256")
    return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]


def usage(**true):
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    names += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{each: true.get(each, False) for each in names})


def issue(
    subject,
    key,
    issuer=None,
    *,
    ca=False,
    start=dt.timedelta(days=-1),
    days=30,
    now=None,
    path_length=None,
    key_usage=None,
    purposes=(ExtendedKeyUsageOID.CODE_SIGNING,),
    hashed=None,
    extensions=(),
    serial=None,
):
    """A certificate by an issuer (a `Signer`), or by itself."""
    moment = now or dt.datetime.now(dt.UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(moment + start)
        .not_valid_after(moment + start + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    if key_usage is None:
        key_usage = usage(key_cert_sign=True, crl_sign=True) if ca else usage(digital_signature=True)
    builder = builder.add_extension(key_usage, critical=True) if key_usage else builder
    if purposes and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    signing = key if issuer is None else issuer.key
    certificate = builder.sign(signing, hashed or hashes.SHA256())
    return Signer(key, certificate, [] if issuer is None else issuer.chain)


def der(tag, *contents):
    """A value in DER."""
    content = b"".join(contents)
    size = len(content)
    length = (
        bytes([size])
        if size < 0x80
        else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8)
    )
    return bytes([tag]) + length + content


def der_oid(text):
    first, second, *rest = map(int, text.split("."))
    data = bytes([40 * first + second])
    for number in rest:
        groups = [number & 127]
        while number := number >> 7:
            groups.insert(0, number & 127 | 128)
        data += bytes(groups)
    return der(0x06, data)


def der_int(number):
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1))


DIGESTS = {
    "sha1": ("1.3.14.3.2.26", hashes.SHA1),
    "sha256": ("2.16.840.1.101.3.4.2.1", hashes.SHA256),
    "sha512": ("2.16.840.1.101.3.4.2.3", hashes.SHA512),
}
TST_INFO = "1.2.840.113549.1.9.16.1.4"


def digest_of(data, name):
    hasher = hashes.Hash(DIGESTS[name][1]())
    hasher.update(data)
    return hasher.finalize()


def timestamp(authority, signature, when, *, imprint="sha256", hashed="sha256", accuracy=1, certificates=None):
    """A TimeStampToken (RFC 3161) by an authority with an RSA key, over a signature."""

    def algorithm(name):
        return der(0x30, der_oid(DIGESTS[name][0]), der(0x05))

    info = der(
        0x30,
        der_int(1),
        der_oid("1.2.3.4.1"),
        der(0x30, algorithm(imprint), der(0x04, digest_of(signature, imprint))),
        der_int(7),
        der(0x18, when.strftime("%Y%m%d%H%M%SZ").encode()),
        der(0x30, der_int(accuracy)),
    )
    attributes = sorted(
        [
            der(0x30, der_oid("1.2.840.113549.1.9.3"), der(0x31, der_oid(TST_INFO))),
            der(0x30, der_oid("1.2.840.113549.1.9.4"), der(0x31, der(0x04, digest_of(info, hashed)))),
        ]
    )
    signed = authority.key.sign(der(0x31, *attributes), padding.PKCS1v15(), DIGESTS[hashed][1]())
    certificate = authority.certificate
    signer = der(
        0x30,
        der_int(1),
        der(0x30, certificate.issuer.public_bytes(), der_int(certificate.serial_number)),
        algorithm(hashed),
        der(0xA0, *attributes),
        der(0x30, der_oid("1.2.840.113549.1.1.1"), der(0x05)),
        der(0x04, signed),
    )
    signed_data = der(
        0x30,
        der_int(3),
        der(0x31, algorithm(hashed)),
        der(0x30, der_oid(TST_INFO), der(0xA0, der(0x04, info))),
        der(0xA0, *sorted(authority.ders if certificates is None else certificates)),
        der(0x31, signer),
    )
    return der(0x30, der_oid("1.2.840.113549.1.7.2"), der(0xA0, signed_data))


def payload(digest, size, media_type, annotations=None, **more):
    target = {"mediaType": media_type, "digest": digest, "size": size} | more
    return json.dumps({"targetArtifact": target | ({"annotations": annotations} if annotations else {})}).encode()


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def headers(signer, *, when, expiry=None, scheme="notary.x509", algorithm=None, crit=None, time=str, **more):
    clock = "signingTime" if scheme == "notary.x509" else "authenticSigningTime"
    critical = [f"{PREFIX}signingScheme"]
    found = {"alg": algorithm or algorithm_of(signer.key), "cty": PAYLOAD, f"{PREFIX}signingScheme": scheme}
    found[f"{PREFIX}{clock}"] = time(when)
    if clock == "authenticSigningTime":
        critical.append(f"{PREFIX}{clock}")
    if expiry is not None:
        found[f"{PREFIX}expiry"] = time(expiry)
        critical.append(f"{PREFIX}expiry")
    found["crit"] = critical if crit is None else crit
    return {key: value for key, value in (found | more).items() if value is not None}


def rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def jws(signer, document, *, algorithm=None, unprotected=None, chain=None, stamp=None, **options):
    """A JWS envelope; `algorithm` is also what signs, as far as the key can; `stamp` makes a token over the signature."""
    protected = b64url(json.dumps(headers(signer, algorithm=algorithm, time=rfc3339, **options)).encode())
    body = b64url(document)
    real = algorithm if algorithm in COSE_ALGORITHMS or (algorithm or "").startswith("RS") else None
    signature = signer.raw(f"{protected}.{body}".encode(), real)
    x5c = [base64.b64encode(each).decode() for each in (signer.ders if chain is None else chain)]
    header = {"x5c": x5c, f"{PREFIX}signingAgent": "tests"} | (unprotected or {})
    if stamp is not None:
        header[f"{PREFIX}timestampSignature"] = base64.b64encode(stamp(signature)).decode()
    value = {"payload": body, "protected": protected, "header": header, "signature": b64url(signature)}
    return json.dumps(value).encode()


def head(major, argument):
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size)
    raise ValueError(argument)


class Tagged:
    def __init__(self, number, value):
        self.number, self.value = number, value


def cbor(value):
    """CBOR of what COSE needs."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(key) + cbor(each) for key, each in value.items())
    return head(6, value.number) + cbor(value.value)


def epoch(moment):
    return Tagged(1, int(moment.timestamp()))


def cose(signer, document, *, algorithm=None, unprotected=None, chain=None, stamp=None, **options):
    """A COSE envelope."""
    labels = {"alg": 1, "crit": 2, "cty": 3}
    found = headers(signer, algorithm=algorithm, time=epoch, **options)
    if "alg" in found:
        found["alg"] = COSE_ALGORITHMS.get(found["alg"], found["alg"])
    protected = cbor({labels.get(key, key): value for key, value in found.items()})
    signed = cbor(["Signature1", protected, b"", document])
    signature = signer.raw(signed, algorithm if algorithm in COSE_ALGORITHMS else None)
    header = {33: signer.ders if chain is None else chain, f"{PREFIX}signingAgent": "tests"} | (unprotected or {})
    if stamp is not None:
        header[f"{PREFIX}timestampSignature"] = stamp(signature)
    return cbor(Tagged(18, [protected, header, document, signature]))


def attach(signer, form="jws", *, target=None, **options):
    """What signs as notation does, and puts the signature where notation does: for `push` and `sign`."""
    media_type, make = {"jws": ("application/jose+json", jws), "cose": ("application/cose", cose)}[form]

    def signature(repository, document):
        subject = document.descriptor
        about = target or payload(str(subject.digest), len(document.data), subject.media_type)
        return put(repository, document, make(signer, about, **{"when": now()} | options), media_type)

    return signature


def put(repository, document, envelope, media_type="application/jose+json"):
    """An envelope as a referrer; nothing is told of it."""
    subject = document.descriptor
    layer, config = Descriptor.of(envelope, media_type), Descriptor.of(b"{}", NOTATION_ARTIFACT_TYPE)
    manifest = Manifest(
        config=config,
        layers=(layer,),
        annotations={"io.cncf.notary.x509chain.thumbprint#S256": "[]"},
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=len(document.data)),
    )
    for descriptor, data in ((layer, envelope), (config, b"{}")):
        repository.push(descriptor, lambda data=data: io.BytesIO(data))
    encoded = manifest.encode()
    repository.push_document(Document(Descriptor.of(encoded, manifest.media_type), encoded))
    return ()
