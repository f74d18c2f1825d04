"""What the clouds' own libraries take: they come with the extras that this lane installs, and the default tests do without."""

import datetime as dt

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fluxsrc.bucket import AzureClientCertificate
from fluxsrc.bucket.microsoft import token_finder
from fluxsrc.errors import ConfigurationError

pytestmark = pytest.mark.servers

PASSWORD = "hunter2"


def certificate():
    """A certificate and its encrypted key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ada")]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now)
    encryption = serialization.BestAvailableEncryption(PASSWORD.encode())
    both = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    both += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return both.decode()


def test_azure_identity_takes_a_certificate_with_its_key():
    """One PEM, which only the right password opens; no request is made for that."""
    given = AzureClientCertificate(tenant_id="t", client_id="c", certificate=certificate(), password=PASSWORD)
    assert callable(token_finder(given, url="az://models", proxy=None))
    for wrong in ({"password": "wrong"}, {"password": None}, {"certificate": "PEM"}):
        with pytest.raises(ConfigurationError, match="the certificate of the client c"):
            token_finder(attrs.evolve(given, **wrong), url="az://models", proxy=None)
