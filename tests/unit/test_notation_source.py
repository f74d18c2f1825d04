"""Notation's signatures where they are used: in registries, on the command line, in manifests; and that attacks store nothing."""

import base64
import json
import logging
from functools import partial
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fluxsrc.cli import main
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, FluxSrcError, LimitExceededError, VerificationError
from fluxsrc.limits import Limits
from fluxsrc.manifests import load_manifests
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, promote, push
from fluxsrc.signatures.cosign import CosignKeySignature
from fluxsrc.signatures.notation import NotationSignature, TrustPolicy, TrustStore
from fluxsrc.signing import CosignSigner, SigningKey, sign
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.verify import AllOf, AnyOf, UnsafeNoVerification
from helpers import notation_keys as keys
from helpers.registries import let_referrers_be_endless

PLAIN = Access(insecure=True)
FORMS = ["jws", "cose"]
attach, put = keys.attach, keys.put
CA = keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True)
ADA = keys.issue(keys.name("Ada"), keys.new_key("p256"), CA)
EVE = keys.issue(keys.name("Ada"), keys.new_key("p256"), keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True))


def statement(**changes):
    return {
        "name": "all",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:acme"],
        "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme, CN=Ada"],
    } | changes


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def config(tmp_path):
    """notation's configuration directory; call it to change the statement."""
    root = tmp_path / "notation"

    def write(**changes):
        (root / "trustpolicy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [statement(**changes)]}))
        return root

    store = root / "truststore" / "x509" / "ca" / "acme"
    store.mkdir(parents=True)
    (store / "root.pem").write_bytes(CA.chain[-1].public_bytes(Encoding.PEM))
    write()
    return write


def published(registry, signer=None, *, name="team/app", tag="v1", text="replicas: 3\n"):
    """Push a tree, signed by whoever it is; its digest."""
    home = f"oci://{registry.host}/{name}:{tag}"
    return push(MemorySource({"app.yaml": text}), home, access=PLAIN, attach=signer).digest


def source(registry, config, *, name="team/app", limits=None, policy=None, **options):
    policy = policy or NotationSignature.from_directory(config(), **options)
    extra = {} if limits is None else {"limits": limits}
    return OCISource(f"oci://{registry.host}/{name}:v1", insecure=True, verify=policy, **extra)


def refused(found):
    """The number of the check that fails; no layer was read, and nothing is stored."""
    store = MemoryStore()
    with pytest.raises(VerificationError) as caught:
        found.produce_artifact(store)
    assert f"check {caught.value.check} (" in str(caught.value)
    assert not list(store.sources())
    return caught.value.check


# --- what the real notation signed ---------------------------------------------------------------------------------------

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "notation" / "vectors.json").read_text())


def restored(registry, case):
    """Put what a real notation left in a registry into ours."""
    repository = registry.repository("team/app")
    repository.manifests.update({key: (kind, text.encode()) for key, (kind, text) in case["manifests"].items()})
    repository.blobs.update({key: base64.b64decode(text) for key, text in case["blobs"].items()})
    repository.tags.update(case["tags"])


@pytest.fixture(params=VECTORS["cases"])
def recorded(request, registry):
    """A registry with an artifact that notation signed; how."""
    restored(registry, VECTORS["cases"][request.param])
    return registry, *request.param.split("/")


def recorded_policy(*stores, identities=("*",), **options):
    document = {"version": "1.0", "trustPolicies": [statement(trustStores=stores, trustedIdentities=list(identities))]}
    policy = TrustPolicy.parse(json.dumps(document))
    return NotationSignature(
        policy,
        [TrustStore.parse(kind, name, VECTORS["roots"][kind].encode()) for kind, name in policy.stores],
        **options,
    )


def test_what_notation_signed_holds(recorded):
    """Whose certificate is over by now, by the timestamp; by who signed, with the metadata, in each envelope."""
    registry, kind, form = recorded
    subject = f"x509.subject: C=US, ST=WA, O=Acme, CN={kind}"
    stores = ["ca:acme", "tsa:clock"] if kind == "stamped" else ["ca:acme"]
    policy = recorded_policy(*stores, identities=[subject], annotations={"env": "prod"})
    facts = dict(source(registry, None, policy=policy).produce_artifact(MemoryStore()).verification)
    assert facts["oci.signer"] == f"CN={kind},O=Acme,ST=WA,C=US"
    assert facts["oci.algorithm"] == {"rsa2048": "PS256"}.get(kind, "ES256")
    assert facts.get("oci.timestamped", "")[:10] == (facts["oci.signed"][:10] if kind == "stamped" else "")
    media_type = "application/jose+json" if form == "jws" else "application/cose"
    assert any(media_type in text for _, text in VECTORS["cases"][f"{kind}/{form}"]["manifests"].values())


def test_what_notation_signed_does_not_hold_for_others(recorded):
    """Without a trusted clock where it is needed, by another root, under another name, with other metadata."""
    registry, kind, _ = recorded
    refusals = {
        recorded_policy("tsa:acme"): 5,
        recorded_policy("ca:acme", identities=["x509.subject: C=US, ST=WA, O=Acme, CN=other"]): 7,
    }
    if kind == "stamped":
        refusals[recorded_policy("ca:acme")] = 5
    else:
        refusals[recorded_policy("ca:acme", annotations={"env": "test"})] = 10
        refusals[recorded_policy("ca:acme", "tsa:clock")] = 5
    for policy, check in refusals.items():
        assert refused(source(registry, None, policy=policy)) == check


# --- what holds, and where it is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_who_signed_is_recorded_and_told_everywhere(each_registry, config, form, tmp_path):
    """The subject of the certificate, its key, when, which statement: in the artifact, the store, the status, the notebook."""
    digest = published(each_registry, attach(ADA, form))
    store = LocalStore(tmp_path / "store")
    artifact = source(each_registry, config).produce_artifact(store)
    facts = dict(artifact.verification)
    assert facts["oci.signer"] == "CN=Ada,O=Acme,ST=WA,C=US"
    assert (facts["oci.layout"], facts["oci.statement"], facts["oci.level"]) == ("notation", "all", "strict")
    assert facts["oci.signed"].endswith("Z")
    assert artifact.revision.digest == digest
    assert store.lookup(artifact.key).verification == artifact.verification
    condition = SourceStatus(key=artifact.key).succeeded(artifact, 1, keys.now()).conditions["SourceVerified"]
    assert condition.status
    assert "oci.signer CN=Ada,O=Acme,ST=WA,C=US" in condition.message
    shown = artifact._repr_html_()
    assert ">verified</span>" in shown
    assert "CN=Ada,O=Acme,ST=WA,C=US" in shown


def test_a_mirror_takes_the_signatures_along_and_is_judged_as_the_origin(registry, config):
    """Statements name repositories; a copy is told which one it is a copy of."""
    published(registry, attach(ADA))
    here, there = (f"oci://{registry.host}/{name}:v1" for name in ("team/app", "mirror/app"))
    promote(here, there, referrers=True, access=PLAIN)
    only = partial(config, registryScopes=[f"{registry.host}/team/app"])
    assert source(registry, only).produce_artifact(MemoryStore()).verification
    assert refused(source(registry, only, name="mirror/app")) == 9
    mirrored = source(registry, only, name="mirror/app", repository=f"{registry.host}/team/app")
    assert mirrored.produce_artifact(MemoryStore()).verification


def test_a_changed_policy_asks_again_for_an_unchanged_revision(registry, config):
    """Another trust store, identity, or list: what was accepted before is judged anew."""
    published(registry, attach(ADA))
    store = MemoryStore()
    source(registry, config).produce_artifact(store)
    stricter = partial(config, trustedIdentities=["x509.subject: C=US, ST=WA, O=Acme, CN=Bob"])
    with pytest.raises(VerificationError) as caught:
        source(registry, stricter).produce_artifact(store)
    assert caught.value.check == 7


# --- attacks -----------------------------------------------------------------------------------------------------------


def test_attack_nothing_is_signed_or_only_with_cosign(each_registry, config):
    """A signature of another kind does not count, by whichever key."""
    published(each_registry)
    assert refused(source(each_registry, config)) == 2
    digest = published(each_registry, name="team/cosigned")
    sign(f"oci://{each_registry.host}/team/cosigned@{digest}", CosignSigner(SigningKey.generate()), access=PLAIN)
    assert refused(source(each_registry, config, name="team/cosigned")) == 2


@pytest.mark.parametrize("form", FORMS)
def test_attack_another_authority_of_the_same_names(each_registry, config, form):
    published(each_registry, attach(EVE, form))
    assert refused(source(each_registry, config)) == 5


@pytest.mark.parametrize("form", FORMS)
def test_attack_a_signature_of_another_digest_put_beside_this_one(each_registry, config, form):
    other = keys.payload(str(Digest.of(b"other")), 5, "application/vnd.oci.image.manifest.v1+json")
    published(each_registry, attach(ADA, form, target=other))
    assert refused(source(each_registry, config)) == 9


def test_attack_a_signature_for_another_repository(each_registry, config):
    """What a team may sign is up to the statement about its repository."""
    published(each_registry, attach(ADA))
    others = partial(config, registryScopes=[f"{each_registry.host}/team/other"])
    assert refused(source(each_registry, others)) == 9


def test_attack_a_stripped_signature(each_registry, config):
    """Whether the list forgets it or the manifest is gone."""
    digest = published(each_registry, attach(ADA))
    repository = each_registry.repository("team/app")
    for found in [key for key, (_, data) in repository.manifests.items() if "subject" in json.loads(data)]:
        del repository.manifests[found]
    assert refused(source(each_registry, config)) == 2
    assert str(digest) in repository.manifests


def test_attack_a_signature_added_after_the_policy_failed_is_judged_anew(registry, config):
    store = MemoryStore()
    digest = published(registry)
    home = f"oci://{registry.host}/team/app@{digest}"
    for signer, check in ((None, 2), (EVE, 5)):
        if signer is not None:
            sign(home, attach(signer), access=PLAIN)
        with pytest.raises(VerificationError) as caught:
            source(registry, config).produce_artifact(store)
        assert caught.value.check == check
    sign(home, attach(ADA), access=PLAIN)
    assert source(registry, config).produce_artifact(store).verification


def test_attack_a_downgrade_to_cosigns_keys(registry, config):
    """`AllOf` wants both: leaving the stronger one out does not help."""
    key = SigningKey.generate()
    digest = published(registry)
    sign(f"oci://{registry.host}/team/app@{digest}", CosignSigner(key), access=PLAIN)
    both = AllOf([CosignKeySignature(key.public), NotationSignature.from_directory(config())])
    assert refused(attrs.evolve(source(registry, config), verify=both)) == 2


@pytest.mark.parametrize("payload", [b"", b"{}", b"[" * 50_000, b"\xbf" * 50, b'{"payload":"e30","payload":"e30"}'])
@pytest.mark.parametrize("media_type", ["application/jose+json", "application/cose", "application/pkcs7-mime", ""])
def test_attack_a_signature_that_is_none(registry, config, payload, media_type):
    published(registry, lambda repository, document: put(repository, document, payload, media_type))
    assert refused(source(registry, config)) == 3


def test_a_bad_signature_beside_a_good_one_takes_nothing_from_it(registry, config):
    digest = published(registry, attach(EVE))
    for signer in (lambda repository, document: put(repository, document, b"{}"), attach(ADA, "cose")):
        sign(f"oci://{registry.host}/team/app@{digest}", signer, access=PLAIN)
    assert dict(source(registry, config).produce_artifact(MemoryStore()).verification)["oci.level"] == "strict"


def test_attack_too_many_or_too_large_signatures(registry, config):
    """An error and no verdict; nothing large is downloaded."""
    digest = published(registry, attach(ADA))
    home = f"oci://{registry.host}/team/app@{digest}"
    for number in range(4):
        sign(home, lambda *at, n=number: put(*at, b'{"n":%d}' % n), access=PLAIN)
    assert source(registry, config, limits=Limits(max_signatures=5)).produce_artifact(MemoryStore())
    with pytest.raises(LimitExceededError) as caught:
        source(registry, config, limits=Limits(max_signatures=4)).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_signatures"
    sign(home, lambda *at: put(*at, bytes(2_000_000)), access=PLAIN)
    with pytest.raises(LimitExceededError) as caught:
        source(registry, config).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_signature_bytes"
    assert registry.count(f"GET .*/blobs/{Digest.of(bytes(2_000_000))}") == 0


def test_attack_endless_pages_of_referrers_come_to_an_end(registry, config, monkeypatch):
    published(registry, attach(ADA))
    let_referrers_be_endless(monkeypatch)
    with pytest.raises(LimitExceededError) as caught:
        source(registry, config).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_referrers"


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 403}, {"corrupt": True}])
def test_what_cannot_be_read_is_an_error_and_no_verdict(registry, config, fault):
    """A registry that does not show the signatures is not one without signatures: `AnyOf` does not go on to the next."""
    published(registry, attach(ADA))
    registry.inject(r"GET .*/referrers/", times=None, **fault)
    either = AnyOf([NotationSignature.from_directory(config()), UnsafeNoVerification()])
    with pytest.raises(FluxSrcError) as caught:
        attrs.evolve(source(registry, config), verify=either).produce_artifact(MemoryStore())
    assert not isinstance(caught.value, VerificationError)


def test_a_level_that_only_logs_says_so_and_verifies_nobody(registry, config, caplog):
    """Flux goes on without the condition, too."""
    published(registry, attach(EVE))
    audit = partial(config, signatureVerification={"level": "audit"})
    with pytest.raises(ConfigurationError, match="verifies nobody"):
        source(registry, audit)
    with caplog.at_level(logging.WARNING):
        artifact = source(registry, audit, unsafe_levels=True).produce_artifact(MemoryStore())
    assert "in a trust store" in caplog.text
    assert "SourceVerified" not in SourceStatus(key=artifact.key).succeeded(artifact, 1, keys.now()).conditions


# --- on the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def execute(*words):
        capfd.readouterr()
        code = main(words)
        return code, *capfd.readouterr()

    return execute


def test_the_command_line_takes_notations_files(run, registry, config):
    """The trust stores beside the policy, or elsewhere; the signer is shown."""
    published(registry, attach(ADA))
    config()
    home, asked = f"oci://{registry.host}/team/app:v1", ("--verify-trust-policy", "notation/trustpolicy.json")
    code, out, err = run("pull", home, "--insecure", "--output", "out", *asked)
    assert (code, err) == (0, "")
    assert "oci.signer: CN=Ada,O=Acme,ST=WA,C=US" in out
    code, out, _ = run("resolve", home, "--insecure", "--json", *asked)
    assert ["oci.statement", "all"] in json.loads(out)["verification"]
    Path("notation/truststore").rename("elsewhere")
    code, _, err = run("resolve", home, "--insecure", *asked)
    assert (code, "cannot read the trust store" in err) == (2, True)
    assert run("resolve", home, "--insecure", *asked, "--verify-trust-store", "elsewhere")[0] == 0
    code, _, err = run("resolve", f"oci://{registry.host}/team/none:v1", "--insecure", *asked)
    assert code == 2
    published(registry, attach(EVE), name="team/eve")
    named = (*asked, "--verify-trust-store", "elsewhere")
    code, _, err = run("pull", f"oci://{registry.host}/team/eve:v1", "--insecure", "--output", "eve", *named)
    assert (code, "check 5 (certificate)" in err, Path("eve").exists()) == (4, True, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--verify-trust-policy", "absent.json"), "absent.json"),
        (("--verify-trust-store", "."), "--verify-trust-policy"),
        (("--verify-crl", "x", "--verify-key", "x"), "--verify-trust-policy"),
        (("--verify-trust-policy", "p", "--verify-key", "k"), "leave one out"),
        (("--verify-trust-policy", "p", "--verify-layout", "bundle"), "leave one out"),
        (("--verify-trust-policy", "p", "--verify-mode", "Tag"), "take no --verify-mode"),
        (("--verify-lock-source", "x"), "give --verify-lock"),
        (("--verify-lock", "fluxsrc.lock"), "--verify-key"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, words, said):
    """None of them is passed over."""
    code, out, err = run("resolve", "oci-layout:images:v1", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_git_takes_no_trust_policy(run):
    code, _, err = run("resolve", "git+file://.", "--verify-trust-policy", "p")
    assert (code, "take no --verify-trust-policy" in err) == (2, True)


# --- in manifests --------------------------------------------------------------------------------------------------------


def managed(data, **verify):
    spec = {"interval": "5m", "url": "oci://ghcr.io/team/app", "verify": {"provider": "notation"} | verify}
    kind = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository", "metadata": {"name": "app"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": data}
    [found] = load_manifests([kind | {"spec": spec}, secret])
    return found


def test_a_trust_policy_in_a_secret_reaches_the_source():
    """Certificates in `.crt` and `.pem`, for all stores that the policy names, as in Flux; others are left alone."""
    pem = CA.chain[-1].public_bytes(Encoding.PEM).decode()
    document = {"version": "1.0", "trustPolicies": [statement(trustStores=["ca:acme", "signingAuthority:acme"])]}
    data = {"trustpolicy.json": json.dumps(document), "ca.crt": pem, "other.txt": "left alone"}
    policy = managed(data, secretRef={"name": "s"}).source.verify
    assert {(store.kind.value, store.certificates) for store in policy.stores} == {
        ("ca", (CA.root,)),
        ("signingAuthority", (CA.root,)),
    }
    both = managed(data, secretRef={"name": "s"}, matchOIDCIdentity=[{"issuer": "a", "subject": "b"}])
    assert "without effect for notation" in both.warnings[0]


@pytest.mark.parametrize(
    ("data", "verify", "said"),
    [
        ({}, {"secretRef": {"name": "s"}}, "trustpolicy.json"),
        ({"trustpolicy.json": "{}"}, {"secretRef": {"name": "s"}}, "version"),
        ({"trustpolicy.json": "good"}, {"secretRef": {"name": "s"}}, "no certificate"),
        ({"trustpolicy.json": "good", "a.pem": "none"}, {"secretRef": {"name": "s"}}, "not certificates"),
        ({"trustpolicy.json": "skip", "a.pem": "good"}, {"secretRef": {"name": "s"}}, "verifies nobody"),
        ({}, {}, "spec.verify.secretRef: is missing"),
    ],
)
def test_a_secret_that_verifies_nobody_is_refused(data, verify, said):
    """Flux goes on without a condition where a policy says skip; here somebody would have to mean it."""
    skip = statement(signatureVerification={"level": "skip"}, trustStores=[], trustedIdentities=[])
    documents = {"good": [statement()], "skip": [skip]}
    texts = {name: json.dumps({"version": "1.0", "trustPolicies": each}) for name, each in documents.items()}
    texts_or_pem = {
        "trustpolicy.json": texts.get(data.get("trustpolicy.json", ""), data.get("trustpolicy.json")),
        "a.pem": CA.chain[-1].public_bytes(Encoding.PEM).decode() if data.get("a.pem") == "good" else data.get("a.pem"),
    }
    with pytest.raises(ConfigurationError) as caught:
        managed({key: text for key, text in texts_or_pem.items() if text is not None}, **verify)
    assert said in str(caught.value)
