"""cosign itself, at real registries: what it signs verifies here, what is signed here it verifies, and both refuse the same."""

import os
import subprocess

import pytest

from fluxsrc.auth import BasicAuth, Secret, StaticKeychain
from fluxsrc.errors import RevisionNotFoundError, VerificationError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, promote, push
from fluxsrc.signatures import CosignKeySignature
from fluxsrc.signatures.publickeys import read_public_keys
from fluxsrc.signing import CosignSigner, SigningKey, sign
from fluxsrc.stores import MemoryStore
from helpers import oci_servers as servers
from helpers import programs

pytestmark = pytest.mark.servers


LAYOUTS = {"bundle": (), "cosign": ("--new-bundle-format=false",)}
KEYS = {
    "cosign": None,
    "p384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "p521": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
    "ed25519": ("-algorithm", "ED25519"),
}
PASSWORD = {"COSIGN_PASSWORD": "hunter2"}
# Keys need neither log nor clock; without these flags cosign would ask the public good instance.
OFFLINE_SIGN = ("--use-signing-config=false", "--tlog-upload=false", "--yes", "--allow-http-registry")
OFFLINE_VERIFY = ("--insecure-ignore-tlog=true", "--allow-http-registry")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a pair of keys of each kind, in cosign's own format."""
    directory = tmp_path_factory.mktemp("keys")
    for name, options in KEYS.items():
        if options is None:
            programs.run("cosign", "generate-key-pair", "--output-key-prefix", name, env=PASSWORD, cwd=directory)
        else:
            programs.run("openssl", "genpkey", *options, "-out", f"{name}.pem", cwd=directory)
            programs.run("cosign", "import-key-pair", "--key", f"{name}.pem", "--output-key-prefix", name,
                        env=PASSWORD, cwd=directory)  # fmt: skip
    return directory


class Place:
    """A registry, and how it is reached by us and by cosign."""

    def __init__(self, host, name, *, login=False):
        self.host, self.name = host, name
        keychain = (
            StaticKeychain.for_url(f"http://{host}", BasicAuth(servers.USER, servers.PASSWORD)) if login else None
        )
        self.access = Access(insecure=True, keychain=keychain)
        user = ("--registry-username", servers.USER, "--registry-password", servers.PASSWORD)
        self.flags = user if login else ()

    def publish(self, repository):
        """Push a tree; the reference with its digest, without a scheme, as cosign has it."""
        tree = MemorySource({"app.yaml": f"repository: {repository}\n"})
        pushed = push(tree, f"oci://{self.host}/{repository}:v1", access=self.access)
        return f"{self.host}/{repository}@{pushed.digest}"

    def produce(self, repository, policy):
        source = OCISource(
            f"oci://{self.host}/{repository}:v1", insecure=True, keychain=self.access.keychain, verify=policy
        )
        return source.produce_artifact(MemoryStore())


@pytest.fixture(scope="module", params=["docker-registry", "crane", "zot"])
def place(request, tmp_path_factory):
    """Debian's registry has no referrers API, so cosign keeps a tag instead; the other two have it."""
    start = {"docker-registry": servers.docker_registry, "crane": servers.crane_registry, "zot": servers.zot}
    with start[request.param](tmp_path_factory.mktemp("registry")) as host:
        yield Place(host, request.param, login=request.param == "zot")


def cosign_accepts(place, home, key, image, *flags):
    """Whether `cosign verify` ends well."""
    words = [programs.tool("cosign"), "verify", "--key", f"{key}.pub", *OFFLINE_VERIFY, *place.flags, *flags, image]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=120, check=False, env=os.environ)
    return done.returncode == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", [name for name in KEYS if name != "ed25519"])
def test_what_cosign_signs_verifies(place, home, key, layout):
    """With each kind of key, in both layouts; with its annotations, and not with other ones or another key."""
    repository = f"theirs/{key}/{layout}"
    image = place.publish(repository)
    programs.run("cosign", "sign", "--key", f"{key}.key", "--annotations", "env=prod", *OFFLINE_SIGN, *LAYOUTS[layout],
                *place.flags, image, env=PASSWORD, cwd=home)  # fmt: skip
    keys = read_public_keys(home / f"{key}.pub")
    good = CosignKeySignature(keys, annotations={"env": "prod"})
    facts = dict(place.produce(repository, good).verification)
    assert (facts["oci.layout"], facts["oci.key"]) == (layout, keys[0].fingerprint)
    other = next(name for name in KEYS if name != key)
    for bad, check in (
        (CosignKeySignature(keys, annotations={"env": "test"}), 10),
        (CosignKeySignature.from_files(home / f"{other}.pub"), 8),
        (CosignKeySignature(keys, layouts="cosign" if layout == "bundle" else "bundle"), 2),
    ):
        with pytest.raises(VerificationError) as caught:
            place.produce(repository, bad)
        assert caught.value.check == check


def test_what_cosign_2_signs_as_a_referrer_verifies(place, home):
    """Its first layout, but found through the list of referrers, and not below a tag."""
    image = place.publish("theirs/referrer")
    programs.run("cosign", "sign", "--key", "cosign.key", *OFFLINE_SIGN, *LAYOUTS["cosign"],
                "--registry-referrers-mode=oci-1-1", *place.flags, image,
                env=PASSWORD | {"COSIGN_EXPERIMENTAL": "1"}, cwd=home)  # fmt: skip
    tag = f"{image.partition('@')[2].replace(':', '-')}.sig"
    below = OCISource(f"oci://{place.host}/theirs/referrer:{tag}", insecure=True, keychain=place.access.keychain)
    with pytest.raises(RevisionNotFoundError):
        below.fetch().__enter__()
    facts = dict(place.produce("theirs/referrer", CosignKeySignature.from_files(home / "cosign.pub")).verification)
    assert facts["oci.layout"] == "cosign"
    with pytest.raises(VerificationError) as caught:
        place.produce("theirs/referrer", CosignKeySignature.from_files(home / "rsa.pub"))
    assert caught.value.check == 8


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", KEYS)
def test_what_we_sign_cosign_verifies(place, home, key, layout):
    """With its annotations, and not with other ones or another key; signing again changes nothing."""
    image = place.publish(f"ours/{key}/{layout}")
    signer = CosignSigner(
        SigningKey.read(home / f"{key}.key", Secret("hunter2")), layouts=layout, annotations={"env": "prod"}
    )
    first = sign(f"oci://{image}", signer, access=place.access)
    assert sign(f"oci://{image}", signer, access=place.access) == first
    assert cosign_accepts(place, home, key, image, "--annotations", "env=prod")
    assert not cosign_accepts(place, home, key, image, "--annotations", "env=test")
    assert not cosign_accepts(place, home, next(name for name in KEYS if name != key), image)
    assert place.produce(f"ours/{key}/{layout}", CosignKeySignature(signer.key.public)).verification


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cosign_and_we_sign_side_by_side(place, home, layout):
    """Neither loses the other's signature: cosign first and then us, with two keys, and each verifies both."""
    repository = f"both/{layout}"
    image = place.publish(repository)
    programs.run("cosign", "sign", "--key", "cosign.key", *OFFLINE_SIGN, *LAYOUTS[layout], *place.flags, image,
                env=PASSWORD, cwd=home)  # fmt: skip
    sign(
        f"oci://{image}",
        CosignSigner(SigningKey.read(home / "p384.key", Secret("hunter2")), layouts=layout),
        access=place.access,
    )
    programs.run("cosign", "sign", "--key", "rsa.key", *OFFLINE_SIGN, *LAYOUTS[layout], *place.flags, image,
                env=PASSWORD, cwd=home)  # fmt: skip
    for key in ("cosign", "p384", "rsa"):
        assert cosign_accepts(place, home, key, image)
        assert place.produce(
            repository, CosignKeySignature.from_files(home / f"{key}.pub", layouts=layout)
        ).verification


def test_a_promoted_artifact_keeps_what_cosign_signed(place, home):
    """Both layouts come along, and cosign itself finds them at the other place."""
    image = place.publish("staging/app")
    for flags in LAYOUTS.values():
        programs.run("cosign", "sign", "--key", "cosign.key", *OFFLINE_SIGN, *flags, *place.flags, image,
                    env=PASSWORD, cwd=home)  # fmt: skip
    target = f"oci://{place.host}/production/app:v1"
    promote(f"oci://{place.host}/staging/app:v1", target, referrers=True, access=place.access)
    for layout in LAYOUTS:
        assert place.produce(
            "production/app", CosignKeySignature.from_files(home / "cosign.pub", layouts=layout)
        ).verification
    assert cosign_accepts(place, home, "cosign", f"{place.host}/production/app:v1")


def test_cosign_does_not_verify_the_images_that_it_signs_with_ed25519(place, home):
    """It signs with Ed25519ph and verifies plain Ed25519. If this fails, cosign has changed, and so should we."""
    image = place.publish("theirs/ed25519/bundle")
    programs.run("cosign", "sign", "--key", "ed25519.key", *OFFLINE_SIGN, *place.flags, image, env=PASSWORD, cwd=home)
    assert not cosign_accepts(place, home, "ed25519", image)
    with pytest.raises(VerificationError) as caught:
        place.produce("theirs/ed25519/bundle", CosignKeySignature.from_files(home / "ed25519.pub"))
    assert caught.value.check == 8
