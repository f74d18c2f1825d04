"""What cosign signs without a key verifies: with a Fulcio, a Rekor 2 and a timestamp authority that are the real ones."""

import traceback
from pathlib import Path

import attrs
import pytest

from fluxsrc.auth import Secret
from fluxsrc.cli import main
from fluxsrc.errors import FluxSrcError, SourceError, VerificationError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, push
from fluxsrc.signatures import CosignKeylessSignature, Identity, TrustedRoot
from fluxsrc.signing import CosignKeylessSigner, SigningConfig, sign
from fluxsrc.stores import MemoryStore
from helpers import oci_servers as servers
from helpers import programs, sigstore_servers
from helpers.small_sigstore import SmallSigstore

pytestmark = pytest.mark.servers

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
    stranger = TrustedRoot.parse(SmallSigstore().trusted_root())
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

    programs.run("crane", "copy", "--insecure", tag(signed), tag(other))
    assert facts(signed, policy(sigstore))
    with pytest.raises(VerificationError) as caught:
        facts(other, policy(sigstore))
    assert caught.value.check == 9


def test_cosign_takes_what_we_take(sigstore, host):
    """The same signature, by the other reader: the instance is one that cosign believes."""
    image = pushed(host, "both")
    sigstore.sign(image, ADDRESS)
    assert facts(image, policy(sigstore))
    assert sigstore.accepts(image, ADDRESS)
    assert not sigstore.accepts(image, "eve@example.com")


@pytest.mark.parametrize("log", [1, 2])
def test_what_we_sign_with_a_name_cosign_verifies_and_so_do_we(sigstore, host, log):
    """A certificate of Fulcio's for the token, an entry in either kind of log, and the annotations signed."""
    image = pushed(host, f"ours-{log}")
    signer = CosignKeylessSigner(
        Secret(sigstore.issuer.token(ADDRESS)),
        config=SigningConfig.from_file(sigstore.signing_config(log)),
        trusted_root=TrustedRoot.from_file(sigstore.trusted_root),
        annotations={"env": "prod"},
    )
    (signed,) = sign(f"oci://{image}", signer, access=Access(insecure=True))
    assert signed.by == f"{ADDRESS} ({sigstore.issuer.url})"
    found = facts(image, policy(sigstore, annotations={"env": "prod"}, repository=image.partition("@")[0]))
    assert (found["oci.signer"], found["oci.log_index"]) == (ADDRESS, str(signed.log_index))
    assert found["oci.signature"] == str(signed.manifest)
    assert sigstore.accepts(image, ADDRESS, log=log)
    assert not sigstore.accepts(image, "eve@example.com", log=log)


def test_the_command_line_signs_with_a_name_and_asks_for_it(sigstore, host, tmp_path, monkeypatch, capfd):
    """`push --keyless`, and `pull` with the name; another name is refused with the number of the check."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", sigstore.issuer.token(ADDRESS))
    Path("app").mkdir()
    Path("app/app.yaml").write_text("replicas: 3\n")
    root = ("--trusted-root", str(sigstore.trusted_root))
    place = (f"oci://{host}/shop/cli:v1", "--insecure")
    config = ("--signing-config", str(sigstore.signing_config(2)))
    assert main(["push", "app", *place, "--keyless", *root, *config]) == 0
    assert f"by {ADDRESS} ({sigstore.issuer.url}), log entry " in capfd.readouterr().out
    asked = ("--verify-trusted-root", str(sigstore.trusted_root), "--verify-issuer", sigstore.issuer.url)
    assert main(["pull", *place, "--output", "out", *asked, "--verify-identity", "/[a-z]+@example[.]com/"]) == 0
    assert f"oci.signer: {ADDRESS}" in capfd.readouterr().out
    assert Path("out/app.yaml").read_text() == "replicas: 3\n"
    assert main(["pull", *place, "--output", "no", *asked, "--verify-identity", "example.com"]) == 4
    assert "check 7 (signer)" in capfd.readouterr().err
    assert not Path("no").exists()


def test_what_was_signed_elsewhere_is_not_put_into_the_registry(sigstore, host):
    """The services' answers are verified before anybody sees them."""
    image = pushed(host, "distrusted")
    signer = CosignKeylessSigner(
        Secret(sigstore.issuer.token(ADDRESS)),
        config=SigningConfig.from_file(sigstore.signing_config(2)),
        trusted_root=TrustedRoot.parse(SmallSigstore().trusted_root()),
    )
    with pytest.raises(FluxSrcError, match=r"cannot sign|check"):
        sign(f"oci://{image}", signer, access=Access(insecure=True))
    with pytest.raises(VerificationError) as caught:
        facts(image, policy(sigstore))
    assert caught.value.check == 2


def test_a_token_that_fulcio_refuses_is_not_told(sigstore, host):
    """Signed by another issuer's key: an error that says so, and has no token in it."""
    image = pushed(host, "refused")
    stranger = sigstore_servers.Issuer()
    stranger.url = sigstore.issuer.url
    token = stranger.token(ADDRESS)
    signer = CosignKeylessSigner(
        Secret(token),
        config=SigningConfig.from_file(sigstore.signing_config(2)),
        trusted_root=TrustedRoot.from_file(sigstore.trusted_root),
    )
    with pytest.raises(SourceError, match="cannot sign") as caught:
        sign(f"oci://{image}", signer, access=Access(insecure=True))
    shown = "".join(traceback.format_exception(caught.value))
    assert token not in shown
    assert token.partition(".")[2] not in shown
