"""What cosign signs without a key verifies: with a Fulcio, a Rekor 2 and a timestamp authority that are the real ones."""

import importlib.util
import sys
from pathlib import Path

import attrs
import pytest

from fluxsrc.errors import VerificationError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource
from fluxsrc.oci.pushing import push
from fluxsrc.signatures import CosignKeylessSignature, Identity, TrustedRoot
from fluxsrc.stores import MemoryStore

pytestmark = pytest.mark.servers

_spec = importlib.util.spec_from_file_location("sigstore_servers", Path(__file__).with_name("sigstore_servers.py"))
sigstore_servers = importlib.util.module_from_spec(_spec)
sys.modules["sigstore_servers"] = sigstore_servers
_spec.loader.exec_module(sigstore_servers)
servers = sigstore_servers.servers

ADDRESS = "ada@example.com"


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with servers.crane_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def sigstore(tmp_path_factory, host):
    with sigstore_servers.instance(tmp_path_factory.mktemp("sigstore")) as running:
        # The very first entry of a log has the index 0, which JSON made from protocol buffers leaves out, and Sigstore's
        # Python library misses.
        running.sign(pushed(host, "first"), ADDRESS)
        yield running


def pushed(host, name):
    """An artifact in the registry, by digest."""
    url = f"oci://{host}/shop/{name}"
    digest = push(MemorySource({"app.yaml": name.encode()}), f"{url}:v1", access=Access(insecure=True)).digest
    return f"{host}/shop/{name}@{digest}"


def policy(sigstore, subject=ADDRESS, **options):
    identity = Identity(sigstore.issuer.url, subject)
    return CosignKeylessSignature(identity, trusted_root=TrustedRoot.from_file(sigstore.trusted_root), **options)


def facts(image, policy):
    source = OCISource(f"oci://{image.partition('@')[0]}", tag="v1", insecure=True, verify=policy)
    return dict(source.produce_artifact(MemoryStore()).verification)


def test_what_cosign_signs_into_the_second_rekor_verifies(sigstore, host):
    """Fulcio's certificate, a proof from the tiles, and the time from a timestamp authority."""
    image = pushed(host, "tiles")
    sigstore.sign(image, ADDRESS)
    found = facts(image, policy(sigstore, layouts="bundle"))
    assert found["oci.signer"] == ADDRESS
    assert found["oci.issuer"] == sigstore.issuer.url
    assert found["oci.inclusion"] == "proof"
    assert int(found["oci.log_index"]) > 0


def test_what_cosign_signs_into_the_first_rekor_verifies(sigstore, host):
    """The same with an entry of the kind `dsse`, and the time from the log."""
    image = pushed(host, "trillian")
    sigstore.sign(image, ADDRESS, log=1)
    assert facts(image, policy(sigstore, layouts="bundle"))["oci.inclusion"] == "proof"


def test_what_cosign_signs_in_its_first_layout_verifies(sigstore, host):
    """Annotations below a tag, with the log's promise."""
    image = pushed(host, "legacy")
    sigstore.sign_first_layout(image, ADDRESS)
    found = facts(image, policy(sigstore))
    assert found["oci.layout"] == "cosign"
    assert found["oci.inclusion"] == "promise"
    with pytest.raises(VerificationError) as caught:
        facts(image, policy(sigstore, layouts="bundle"))
    assert caught.value.check == 2


@pytest.mark.parametrize("how", ["tiles", "trillian", "first layout"])
def test_somebody_elses_signature_does_not(sigstore, host, how):
    """All is well with it, but for who it is by."""
    image = pushed(host, f"eve-{how.replace(' ', '-')}")
    if how == "first layout":
        sigstore.sign_first_layout(image, "eve@example.com")
    else:
        sigstore.sign(image, "eve@example.com", log=2 if how == "tiles" else 1)
    assert facts(image, policy(sigstore, "eve@example.com"))
    with pytest.raises(VerificationError) as caught:
        facts(image, policy(sigstore))
    assert caught.value.check == 7


def test_nothing_holds_where_another_instance_is_trusted(sigstore, host):
    """Its authorities and logs are strangers, whatever names they have."""
    image = pushed(host, "stranger")
    sigstore.sign(image, ADDRESS)
    sigstore.sign_first_layout(image, ADDRESS)
    stranger = TrustedRoot.parse(sigstore_servers.small.SmallSigstore().trusted_root())
    for layout, check in (("bundle", 5), ("cosign", 5)):
        with pytest.raises(VerificationError) as caught:
            facts(image, attrs.evolve(policy(sigstore, layouts=layout), trusted_root=stranger))
        assert caught.value.check == check


def test_a_signature_that_is_copied_to_another_image_does_not_hold(sigstore, host):
    """Moved below the other image's tag, or into a referrer of it."""
    signed, other = pushed(host, "signed"), pushed(host, "other")
    sigstore.sign_first_layout(signed, ADDRESS)

    def tag(image):
        name, _, digest = image.partition("@")
        return f"{name}:{digest.replace(':', '-')}.sig"

    servers.run("crane", "copy", "--insecure", tag(signed), tag(other))
    assert facts(signed, policy(sigstore))
    with pytest.raises(VerificationError) as caught:
        facts(other, policy(sigstore))
    assert caught.value.check == 9


def test_cosign_takes_what_we_take(sigstore, host):
    """The same signature, by the other reader: the instance is one that cosign believes."""
    image = pushed(host, "both")
    sigstore.sign(image, ADDRESS)
    assert facts(image, policy(sigstore))
    servers.run(
        "cosign", "verify", "--allow-http-registry", f"--trusted-root={sigstore.trusted_root}",
        f"--certificate-identity={ADDRESS}", f"--certificate-oidc-issuer={sigstore.issuer.url}", "--use-signed-timestamps",
        image, env={"HOME": str(sigstore.root)},
    )  # fmt: skip
