"""Manifests of Flux's API: defaults, precedence, Secrets, errors with path and line, and the way back."""

import base64
import logging
from pathlib import Path

import pytest

from fluxsrc.auth import Anonymous, BasicAuth, BearerToken, Origin, Proxy, SSHKey, TLSConfig
from fluxsrc.bucket import (
    AWSDefaultChain,
    AWSKeys,
    AzureAccountKey,
    AzureBucket,
    AzureClientCertificate,
    AzureClientSecret,
    AzureManagedIdentity,
    AzureSAS,
    BucketSource,
    GCSBucket,
    LDAPIdentity,
    LocalBucket,
    S3Bucket,
)
from fluxsrc.errors import ConfigurationError
from fluxsrc.git import GitSource
from fluxsrc.http_artifact import HTTPArtifactSource
from fluxsrc.keychains import (
    AzureDevOps,
    AzureRegistry,
    CodeCommit,
    ElasticContainerRegistry,
    GitHubApp,
    GoogleRegistry,
)
from fluxsrc.manifests import load_manifests, source_from_status, to_manifest, to_yaml
from fluxsrc.memory import MemorySource
from fluxsrc.oci import LayerOperation, OCISource
from fluxsrc.recipe import Dialect
from fluxsrc.signatures import CosignKeylessSignature, TrustedRoot
from fluxsrc.testing.git import GitRepositoryBuilder

API = "source.toolkit.fluxcd.io/v1"


def manifest(kind, spec, **metadata):
    return {"apiVersion": API, "kind": kind, "metadata": {"name": "app", **metadata}, "spec": {"interval": "5m"} | spec}


def git(**spec):
    return manifest("GitRepository", {"url": "https://example.com/team/app.git"} | spec)


def oci(**spec):
    return manifest("OCIRepository", {"url": "oci://ghcr.io/team/app"} | spec)


def bucket(**spec):
    return manifest("Bucket", {"endpoint": "minio.example.com:9000", "bucketName": "apps"} | spec)


def secret(name="s", kind="Secret", **data):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "stringData": data}


def load(*manifests, **options):
    """The one source of some manifests."""
    [managed] = load_manifests(list(manifests), **options)
    return managed


# --- the podinfo manifest of Flux's own documentation ---

PODINFO = """\
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: podinfo
  namespace: default
spec:
  interval: 5m0s
  url: https://github.com/stefanprodan/podinfo
  ref:
    branch: master
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata:
  name: podinfo
spec:
  interval: 10m
  url: oci://ghcr.io/stefanprodan/manifests/podinfo
  ref:
    semver: ">= 6.0.0"
  layerSelector:
    mediaType: application/vnd.cncf.helm.chart.content.v1.tar+gzip
    operation: copy
---
# nothing here
---
apiVersion: source.toolkit.fluxcd.io/v1beta2
kind: Bucket
metadata: {name: minio-bucket, generation: 3, annotations: {reconcile.fluxcd.io/requestedAt: "2026-01-02T03:04:05Z"}}
spec:
  interval: 5m0s
  endpoint: minio.example.com
  insecure: true
  secretRef:
    name: minio-bucket-secret
  bucketName: example
  suspend: true
---
apiVersion: v1
kind: Secret
metadata:
  name: minio-bucket-secret
  namespace: default
type: Opaque
stringData:
  accesskey: AKIA
  secretkey: hunter2
"""


def test_a_file_of_several_documents_becomes_sources_in_their_order():
    """Kinds, names, intervals, and the Secret that stands beside them."""
    git_, oci_, bucket_ = load_manifests(PODINFO)
    assert git_.source == GitSource(
        "https://github.com/stefanprodan/podinfo", branch="master", dialect=Dialect.FLUX, timeout=60
    )
    assert [str(each.key) for each in (git_, oci_, bucket_)] == [
        "gitrepository/default/podinfo",
        "ocirepository/default/podinfo",
        "bucket/default/minio-bucket",
    ]
    assert (git_.interval, oci_.interval) == (300, 600)
    assert oci_.source.layer_operation is LayerOperation.COPY
    assert oci_.source.semver == ">= 6.0.0"
    assert bucket_.source.bucket == S3Bucket(
        "example", endpoint="http://minio.example.com", credentials=AWSKeys("AKIA", "hunter2")
    )
    assert (bucket_.suspend, bucket_.generation, bucket_.requested_at) == (True, 3, "2026-01-02T03:04:05Z")
    assert "hunter2" not in repr(bucket_)


def test_json_and_lists_of_the_api_server_are_read_as_well():
    """What `kubectl get -o json` prints."""
    assert load_manifests({"kind": "List", "items": [git(), oci()]})[1].source.kind == "ocirepository"
    assert load_manifests(b'{"kind": "GitRepositoryList", "items": []}') == ()


# --- defaults and precedence ---


def test_flux_defaults():
    """The branch master, the tag latest, one minute, Flux's own ignore rules."""
    source = load(git()).source
    assert (source.branch, source.timeout, source.dialect, source.ignore) == ("master", 60, Dialect.FLUX, None)
    assert load(git(ref={})).source.branch == "master"
    assert load(oci()).source.tag == "latest"
    assert load(git(ignore="")).source.ignore == ""
    assert load(git(timeout="1m30s")).source.timeout == 90


ORDER = {"commit": "a" * 40, "name": "refs/pull/1/head", "tag": "v1", "semver": "1.x", "branch": "main"}


@pytest.mark.parametrize("first", range(5))
def test_of_several_git_references_the_one_counts_that_counts_in_flux_and_the_others_are_warned_about(first):
    """Commit, name, tag, semver, branch: as Flux's code has it, not its documentation."""
    given = dict(list(ORDER.items())[first:])
    managed = load(git(ref=dict(reversed(given.items()))))
    name, value = next(iter(given.items()))
    assert getattr(managed.source, {"name": "ref"}.get(name, name)) == value
    assert len(managed.warnings) == len(given) - 1
    assert all("without effect" in warning for warning in managed.warnings)


def test_of_several_oci_references_the_digest_counts_before_the_range_before_the_tag():
    """And what has no effect is said."""
    digest = "sha256:" + "a" * 64
    managed = load(oci(ref={"digest": digest, "semver": "1.x", "semverFilter": "rc", "tag": "v1"}))
    assert (str(managed.source.digest), managed.source.semver, managed.source.tag) == (digest, None, None)
    assert len(managed.warnings) == 3
    ranged = load(oci(ref={"semver": "1.x", "semverFilter": "rc", "tag": "v1"}))
    assert (ranged.source.semver, ranged.source.semver_filter, len(ranged.warnings)) == ("1.x", "rc", 1)


def test_a_git_repository_with_an_oci_url_is_read_with_a_warning_that_names_the_right_kind(caplog):
    """Some tutorials write it; Flux refuses it."""
    with caplog.at_level(logging.WARNING, "fluxsrc.manifests"):
        managed = load(manifest("GitRepository", {"url": "oci://ghcr.io/team/app", "ref": {"tag": "v1"}}))
    assert isinstance(managed.source, OCISource)
    assert "OCIRepository" in managed.warnings[0]
    assert managed.warnings[0] in caplog.text


def test_sparse_checkout_and_a_reference_with_a_full_name():
    """Both reach the source."""
    source = load(git(sparseCheckout=["./deploy", "base/"], ref={"name": "refs/heads/main"})).source
    assert (source.sparse, source.ref) == (("base", "deploy"), "refs/heads/main")


# --- Secrets ---


def credentials(managed, url):
    return managed.source.keychain.credentials(Origin.of(url))


def test_basic_auth_is_for_the_repositorys_own_origin_only():
    """Neither another host nor plain http gets it."""
    managed = load(git(secretRef={"name": "s"}), secret(username="ada", password="pw"))
    assert credentials(managed, "https://example.com") == BasicAuth("ada", "pw")
    assert credentials(managed, "https://elsewhere.example") is None
    assert credentials(managed, "http://example.com") is None


def test_encoded_data_is_decoded_and_string_data_wins():
    """As the API server merges them."""
    encoded = secret(password="new") | {"data": {"username": "YWRh", "password": "b2xk"}}
    managed = load(git(secretRef={"name": "s"}), encoded)
    assert credentials(managed, "https://example.com") == BasicAuth("ada", "new")


def test_a_bearer_token_goes_before_a_password():
    """Flux ignores the other two then."""
    managed = load(git(secretRef={"name": "s"}), secret(bearerToken="t", username="ada", password="pw"))
    assert credentials(managed, "https://example.com") == BearerToken("t")


def test_an_ssh_identity_comes_with_its_known_hosts():
    """And `password` is its passphrase."""
    managed = load(
        git(url="ssh://git@example.com/app.git", secretRef={"name": "s"}),
        secret(identity="KEY", known_hosts="example.com ssh-ed25519 AAAA", password="pw"),
    )
    found = credentials(managed, "ssh://example.com")
    assert isinstance(found, SSHKey)
    assert (found.identity.reveal(), found.passphrase.reveal()) == ("KEY", "pw")


def test_certificates_and_a_proxy():
    """Old and new names of the keys; the new ones first."""
    managed = load(
        git(secretRef={"name": "s"}, proxySecretRef={"name": "p"}),
        secret(**{"ca.crt": "NEW", "caFile": "OLD", "tls.crt": "CERT", "tls.key": "KEY"}),
        secret("p", address="http://proxy:3128", username="u", password="pw"),
    )
    assert (managed.source.tls.ca, managed.source.tls.certificate) == ("NEW", "CERT")
    assert (managed.source.proxy.url, managed.source.proxy.username) == ("http://proxy:3128", "u")


def test_a_github_app():
    """Provider and Secret must agree."""
    app = secret(githubAppID="1", githubAppInstallationID="2", githubAppPrivateKey="PEM")
    managed = load(git(url="https://github.com/a/b", provider="github", secretRef={"name": "s"}), app)
    assert isinstance(managed.source.keychain, GitHubApp)
    with pytest.raises(ConfigurationError, match="GitHub App"):
        load(git(secretRef={"name": "s"}), app)
    with pytest.raises(ConfigurationError, match="secretRef"):
        load(git(provider="github"))


def test_a_timeout_with_hours_is_told_of():
    """Flux's API takes them in an interval only."""
    managed = load(git(timeout="1h", interval="2h"))
    assert (managed.source.timeout, managed.interval) == (3600, 7200)
    [warning] = managed.warnings
    assert "spec.timeout" in warning


def test_a_github_app_may_be_named_by_its_client_id():
    """By one of both names; with both, nobody could say which is meant."""
    facts = {"githubAppClientID": "Iv23abc", "githubAppInstallationID": "2", "githubAppPrivateKey": "PEM"}
    document = git(url="https://github.com/a/b", provider="github", secretRef={"name": "s"})
    assert load(document, secret(**facts)).source.keychain.app_id == "Iv23abc"
    with pytest.raises(ConfigurationError, match="give one"):
        load(document, secret(githubAppID="1", **facts))


DOCKER = '{"auths": {"ghcr.io": {"username": "ada", "password": "pw"}}}'


def test_registries_log_in_by_secret_by_service_account_or_as_the_cloud_says():
    """The cloud only where there is neither of the others."""
    named = load(oci(secretRef={"name": "s"}, provider="aws"), secret(**{".dockerconfigjson": DOCKER}))
    account = {"kind": "ServiceAccount", "metadata": {"name": "sa"}, "imagePullSecrets": [{"name": "s"}]}
    pulled = load(oci(serviceAccountName="sa"), account, secret(**{".dockerconfigjson": DOCKER}))
    for managed in (named, pulled):
        assert credentials(managed, "https://ghcr.io") == BasicAuth("ada", "pw")
        assert len(managed.source.keychain.keychains) == 1
    for provider, cloud in (("aws", ElasticContainerRegistry), ("azure", AzureRegistry), ("gcp", GoogleRegistry)):
        assert isinstance(load(oci(provider=provider)).source.keychain.keychains[0], cloud)
    assert load(oci()).source.keychain is None


def test_a_service_account_without_registries_leaves_the_login_to_the_machine_and_that_is_told():
    """In Flux it would be the ServiceAccount's own identity, which only its cluster can lend."""
    managed = load(oci(provider="gcp", serviceAccountName="sa"), secret("sa", "ServiceAccount"))
    assert isinstance(managed.source.keychain.keychains[0], GoogleRegistry)
    assert "spec.serviceAccountName: this machine's own identity logs in" in managed.warnings[0]
    managed = load(oci(serviceAccountName="sa"), secret("sa", "ServiceAccount"))
    assert managed.source.keychain is None
    assert "spec.serviceAccountName: nobody logs in" in managed.warnings[0]


PROXY = secret("p", address="http://proxy.example:3128")


def test_a_clouds_login_goes_through_the_proxy():
    """As the registry's and the repository's own requests do."""
    documents = [
        oci(provider="azure", proxySecretRef={"name": "p"}),
        git(url="https://dev.azure.com/o/p/_git/r", provider="azure", proxySecretRef={"name": "p"}),
    ]
    registry, repository = (
        each.source.keychain for each in load_manifests([PROXY, documents[0]]) + load_manifests([PROXY, documents[1]])
    )
    assert registry.keychains[0].proxy == repository.proxy == Proxy(url="http://proxy.example:3128")


CODE_COMMIT = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app"


def test_repositories_log_in_as_the_cloud_says():
    """Of a Secret only the certificates count then, as in Flux."""
    azure = load(
        git(url="https://dev.azure.com/o/p/_git/r", provider="azure", secretRef={"name": "s"}),
        secret(**{"ca.crt": "CA", "username": "ada", "password": "hunter2"}),
    ).source
    assert (azure.keychain, azure.tls) == (AzureDevOps(), TLSConfig(ca="CA"))
    assert load(git(url=CODE_COMMIT, provider="aws")).source.keychain == CodeCommit(CODE_COMMIT)


def test_nothing_is_looked_up_but_through_the_resolver():
    """It is asked for what is not among the manifests, in the object's own namespace."""
    asked = []

    def resolve(reference):
        asked.append(str(reference))
        return {"data": {"username": base64.b64encode(b"ada").decode()}}

    document = git(secretRef={"name": "s"})
    document["metadata"]["namespace"] = "team"
    assert credentials(load(document, resolve=resolve), "https://example.com") == BasicAuth("ada", "")
    assert asked == ["Secret team/s"]
    with pytest.raises(ConfigurationError, match=r"secretRef: Secret team/s is not there.*resolve="):
        load(document)


@pytest.mark.parametrize(
    ("spec", "data", "says"),
    [
        ({}, {"password": "hunter2"}, "no 'username'"),
        ({"url": "ssh://git@example.com/x"}, {"identity": "hunter2"}, "no key 'known_hosts'"),
        ({}, {"username": b"\xff\xfe"}, "no text"),
    ],
)
def test_a_secret_that_will_not_do_says_which_key_and_never_its_value(spec, data, says):
    """The message has names only."""
    with pytest.raises(ConfigurationError) as caught:
        load(git(secretRef={"name": "s"}, **spec), secret(**data))
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMNFHAlXYpvJwyRWoQVxJx3r0tJZqNUoaPvqSJLSR3gm"


def test_a_policy_on_signatures_reaches_the_source():
    """With its mode, and the keys of the Secret."""
    managed = load(
        git(ref={"tag": "v1"}, verify={"mode": "TagAndHEAD", "secretRef": {"name": "s"}}), secret(**{"ada.sshpub": KEY})
    )
    policy = managed.source.verify
    assert (policy.mode, policy.needs) == ("TagAndHEAD", {"commit", "tag"})
    assert load(git(verify={"secretRef": {"name": "s"}}), secret(**{"a.sshpub": KEY})).source.verify.mode == "HEAD"
    for data in ({}, {"a.sshpub": "no key"}, {"a.asc": "no key"}):
        with pytest.raises(ConfigurationError):
            load(git(verify={"secretRef": {"name": "s"}}), secret(**data))
    with pytest.raises(ConfigurationError, match="Secret"):
        to_manifest(managed)


COSIGN = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5onlVKU46y2QkwiShkCidz9YV/q4\n"
    "MEClqKzQ2lzVQl9tTzuBT3UgWDbfDm74y/i0EFWmp8+/QA/7R8JJ6UtcLw==\n"
    "-----END PUBLIC KEY-----\n"
)


def test_a_policy_on_cosign_keys_reaches_the_source():
    """All keys whose names end in .pub, as in Flux; what is beside them is left alone, and no key at all is an error."""
    spec = {"provider": "cosign", "secretRef": {"name": "s"}}
    managed = load(oci(verify=spec), secret(**{"a.pub": COSIGN, "cosign.password": "hunter2"}))
    assert [key.pem for key in managed.source.verify.keys] == [COSIGN]
    assert managed.source.verify.needs == {"bundle", "cosign"}
    both = load(
        oci(verify=spec | {"matchOIDCIdentity": [{"issuer": "a", "subject": "b"}]}), secret(**{"a.pub": COSIGN})
    )
    assert "without effect beside secretRef" in both.warnings[0]
    for data in ({}, {"a.pub": "no key"}, {"a.asc": COSIGN}):
        with pytest.raises(ConfigurationError):
            load(oci(verify=spec), secret(**data))
    with pytest.raises(ConfigurationError, match="Secret"):
        to_manifest(managed)


WORKFLOW = {"issuer": r"^https://ci\.example\.com$", "subject": r"^https://git\.example\.com/shop/.*$"}


def test_a_policy_on_names_in_certificates_reaches_the_source():
    """Issuer and subject are patterns, as in Flux; whose word counts for them is sigstore.dev's unless a Secret says otherwise."""
    spec = {"provider": "cosign", "matchOIDCIdentity": [WORKFLOW]}
    managed = load(oci(verify=spec))
    assert managed.warnings == ()
    assert managed.source.verify == CosignKeylessSignature.from_match_oidc_identity(
        [WORKFLOW], trusted_root=TrustedRoot.bundled()
    )
    own = (Path(__file__).parent / "data" / "keyless" / "trusted_root.json").read_text()
    elsewhere = load(
        oci(verify=spec | {"trustedRootSecretRef": {"name": "s"}}), secret(**{"trusted_root.json": own})
    ).source.verify
    assert elsewhere.trusted_root.content == own.encode()
    assert elsewhere.digest != managed.source.verify.digest


def test_a_pattern_that_flux_finds_anywhere_has_to_fit_the_whole_name_and_that_is_told():
    """Stricter than Flux, where the beginning of a name is enough."""
    loose = {"issuer": "https://ci.example.com", "subject": "^https://git.example.com/shop"}
    managed = load(oci(verify={"provider": "cosign", "matchOIDCIdentity": [loose]}))
    assert len(managed.warnings) == 2
    assert all("has to fit the whole name" in warning for warning in managed.warnings)
    [identity] = managed.source.verify.identities
    assert not identity.fits("https://ci.example.com", "https://git.example.com/shop/more")


@pytest.mark.parametrize(
    ("verify", "says"),
    [
        ({"provider": "cosign"}, "spec.verify.matchOIDCIdentity: is missing"),
        ({"provider": "cosign", "matchOIDCIdentity": []}, "spec.verify.matchOIDCIdentity: is missing"),
        ({"provider": "cosign", "matchOIDCIdentity": [{"issuer": "a"}]}, "matchOIDCIdentity[0].subject: is missing"),
        ({"provider": "cosign", "matchOIDCIdentity": [{"issuer": "(", "subject": "b"}]}, "regular expression"),
        (
            {"provider": "cosign", "matchOIDCIdentity": [WORKFLOW], "trustedRootSecretRef": {"name": "s"}},
            "trusted_root.json",
        ),
    ],
)
def test_a_policy_that_names_nobody_is_refused(verify, says):
    """In Flux, no keys and no names are: whoever has a certificate."""
    with pytest.raises(ConfigurationError) as caught:
        load(oci(verify=verify), secret(other="x"))
    assert says in str(caught.value)


# --- include ---


def test_included_repositories_are_mounted(tmp_path):
    """Files of one in a directory of the other, from a sub-tree, whatever order they are described in."""
    for name, files in {"app": {"app.yaml": "1"}, "lib": {"charts/x/a.yaml": "2", "README.md": "3"}}.items():
        GitRepositoryBuilder(tmp_path / f"{name}.git").commit(files)
    include = [{"repository": {"name": "lib"}, "fromPath": "./charts", "toPath": "vendor"}]

    def repository(name, **spec):
        document = git(url=f"file://{tmp_path / name}.git", ref={"branch": "main"}, **spec)
        return document | {"metadata": {"name": name}}

    app, lib = load_manifests([repository("app", include=include), repository("lib")], local=True)
    with app.source.fetch() as snapshot:
        assert [entry.path for entry in snapshot.entries()] == ["app.yaml", "vendor/x/a.yaml"]
    assert (app.depends_on, lib.depends_on) == ((lib.key,), ())
    with pytest.raises(ConfigurationError, match="includes itself"):
        load_manifests(
            [repository("app", include=include), repository("lib", include=[{"repository": {"name": "app"}}])],
            local=True,
        )
    with pytest.raises(ConfigurationError, match="no effect where it is included"):
        load_manifests([repository("app", include=include), repository("lib", ignore="x")], local=True)


# --- buckets ---


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, S3Bucket("apps", endpoint="https://minio.example.com:9000", credentials=Anonymous())),
        (
            {"provider": "aws", "endpoint": "s3.amazonaws.com", "region": "eu-west-1"},
            S3Bucket("apps", region="eu-west-1", credentials=AWSDefaultChain()),
        ),
        (
            {"provider": "aws", "endpoint": "s3.eu-west-1.amazonaws.com"},
            S3Bucket("apps", region="eu-west-1", credentials=AWSDefaultChain()),
        ),
        ({"provider": "gcp", "endpoint": "storage.googleapis.com"}, GCSBucket("apps")),
        (
            {"provider": "azure", "endpoint": "https://acct.blob.core.windows.net"},
            AzureBucket("apps", account="acct", endpoint="https://acct.blob.core.windows.net"),
        ),
    ],
)
def test_each_provider_has_its_bucket(spec, expected):
    """Endpoint, region and the credentials that nobody had to give."""
    source = load(bucket(prefix="prod/", **spec)).source
    assert (source.bucket, source.prefix, source.strip_prefix) == (expected, "prod/", False)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"accountKey": "a2V5"}, AzureAccountKey("a2V5")),
        ({"sasKey": "sig=x"}, AzureSAS("sig=x")),
        ({"clientId": "c"}, AzureManagedIdentity("c")),
        ({"clientId": "c", "accountKey": "a2V5"}, AzureManagedIdentity("c")),
        (
            {"tenantId": "t", "clientId": "c", "clientCertificate": "PEM", "authorityHost": "https://login.example"},
            AzureClientCertificate(
                tenant_id="t", client_id="c", certificate="PEM", authority_host="https://login.example"
            ),
        ),
        (
            {
                "tenantId": "t",
                "clientId": "c",
                "clientCertificate": "PEM",
                "clientCertificatePassword": "p",
                "clientCertificateSendChain": "True",
            },
            AzureClientCertificate(tenant_id="t", client_id="c", certificate="PEM", password="p", send_chain=True),
        ),
        (
            {"tenantId": "t", "clientId": "c", "clientSecret": "p"},
            AzureClientSecret(tenant_id="t", client_id="c", client_secret="p"),
        ),
    ],
)
def test_azure_secrets(data, expected):
    """All that Flux knows, in its order: who has a tenant's identity uses it before a key."""
    document = bucket(provider="azure", endpoint="https://acct.blob.core.windows.net", secretRef={"name": "s"})
    assert load(document, secret(**data)).source.bucket.credentials == expected


def test_keys_are_lent_by_the_service_that_is_named():
    """Amazon's, where the chain comes to assume a role; MinIO's, for somebody in its directory, with its own certificates."""
    sts = {"provider": "aws", "endpoint": "https://sts.example.com"}
    source = load(bucket(provider="aws", endpoint="s3.amazonaws.com", sts=sts)).source
    assert source.bucket.credentials == AWSDefaultChain(sts_endpoint="https://sts.example.com")
    assert to_manifest(source, name="app")["spec"]["sts"] == sts
    sts = {"provider": "ldap", "endpoint": "https://minio.example.com", "secretRef": {"name": "s"}}
    directory = bucket(sts=sts | {"certSecretRef": {"name": "c"}})
    source = load(directory, secret(username="ada", password="hunter2"), secret("c", **{"ca.crt": "CA"})).source
    assert source.bucket.credentials == LDAPIdentity(
        endpoint="https://minio.example.com", username="ada", password="hunter2", tls=TLSConfig(ca="CA")
    )
    assert "hunter2" not in repr(source)
    with pytest.raises(ConfigurationError, match="a password belongs into a Secret"):
        to_manifest(source, name="app")


def test_a_secret_goes_before_a_service_that_lends_keys():
    """As in Flux; and it is told."""
    sts = {"provider": "aws", "endpoint": "https://sts.example.com"}
    managed = load(
        bucket(provider="aws", sts=sts, secretRef={"name": "s"}), secret(accesskey="ada", secretkey="hunter2")
    )
    assert managed.source.bucket.credentials == AWSKeys("ada", "hunter2")
    assert "spec.sts: without effect beside secretRef" in managed.warnings[0]


# --- errors ---

STS = {"provider": "aws", "endpoint": "https://sts.example.com"}
BAD = [
    ("spec.ref.foo, line 12", "there is no such field", "    foo: bar"),
    ("spec.ref.branch, line 12", "text is needed, not the float 1.1", "    branch: 1.1"),
    ("spec.verify.secretRef", "is missing", "  verify: {mode: HEAD}"),
    ("spec.suspend, line 12", "true or false is needed", "  suspend: 'yes'"),
    ("spec.timeout, line 12", "is no duration", "  timeout: 5 minutes"),
    ("spec.timeout, line 12", "is no duration", "  timeout: 2562048h"),
    ("spec.include[0].repository, line 12", "not among", "  include: [{repository: {name: x}}]"),
    ("spec.provider, line 12", "is none of generic, github", "  provider: gitlab"),
    ("spec.serviceAccountName, line 12", "run this as that ServiceAccount", "  serviceAccountName: sa"),
    ("spec.recurseSubmodules, line 12", "true or false", "  recurseSubmodules: 1"),
    ("spec.sparseCheckout, line 12", "a list is needed", "  sparseCheckout: deploy"),
    ("spec.secretRef.nome, line 12", "there is no such field", "  secretRef: {name: x, nome: y}"),
    ("line 12", "the key 'url' is there twice", "  url: x"),
]


@pytest.mark.parametrize(("place", "says", "line"), BAD)
def test_an_error_says_which_field_on_which_line(place, says, line):
    """The path, the line, and what is wrong there."""
    text = f"""\
# a comment

apiVersion: {API}
kind: GitRepository
metadata:
  name: app
  namespace: team
spec:
  url: https://example.com/x
  interval: 1m
  ref:
{line}
"""
    if not line.startswith("    "):
        text = text.replace("  ref:\n", "  ignore: ''\n")
    with pytest.raises(ConfigurationError) as caught:
        load_manifests(text + "---\nkind: Secret\nmetadata: {name: x, namespace: team}\n")
    message = str(caught.value)
    assert place in message
    assert says in message
    assert place == "line 12" or message.startswith("GitRepository team/app: ")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"kind": "GitRepository"}, "apiVersion: is missing"),
        (git() | {"apiVersion": "v1"}, "is none of"),
        (git() | {"apiVersion": "source.toolkit.fluxcd.io/v1alpha1"}, "is none of"),
        (git() | {"kind": "HelmRepository"}, "is none of"),
        (git() | {"extra": 1}, "extra: there is no such field"),
        (git(url="git@example.com:x"), "ssh://git@host/path"),
        (git(url="file:///etc"), "must begin with"),
        (git(url="https://[example.com/x"), "spec.url: is not a URL"),
        (bucket(provider="azure", endpoint="https://[example.com"), "spec.endpoint: is not a URL"),
        (git(interval=None), "spec.interval: is missing"),
        (git(provider="github"), "spec.provider: github needs a secretRef"),
        (git(provider="azure", url="ssh://git@ssh.dev.azure.com/v3/o/p/r"), "spec.url: must begin with https://"),
        (git(provider="aws"), "no repository in CodeCommit"),
        (git(provider="azure", serviceAccountName="sa"), "spec.serviceAccountName: the identity of a ServiceAccount"),
        (bucket(provider="gcp", serviceAccountName="sa"), "spec.serviceAccountName: the identity of a ServiceAccount"),
        (oci(url="oci://ghcr.io/app:v1"), "without tag and digest"),
        (oci(verify={"provider": "cosign"}), "spec.verify"),
        (oci(ref={"digest": "sha256:1"}), "not a sha256 digest"),
        (bucket(endpoint="https://x"), "without a scheme"),
        (bucket(sts={"provider": "aws"}), "spec.sts.endpoint: is missing"),
        (bucket(sts=STS), "spec.sts.provider: 'aws' is none for the bucket provider generic (ldap is)"),
        (bucket(provider="gcp", sts=STS), "'aws' is none for the bucket provider gcp (leave sts out)"),
        (bucket(provider="aws", sts=STS | {"endpoint": "sts.example.com"}), "spec.sts.endpoint: must begin with"),
        (bucket(provider="aws", sts=STS | {"secretRef": {"name": "s"}}), "spec.sts.secretRef: is not for"),
        (bucket(sts=STS | {"provider": "ldap"}), "spec.sts.secretRef: is missing"),
        (bucket(sts=STS | {"other": 1}), "'aws' is none"),
        (manifest("ExternalArtifact", {}), "there is no such field"),
        ("a: [", "no YAML"),
        ("[1, 2]", "a mapping is needed"),
    ],
)
def test_what_is_not_understood_is_refused(document, says):
    """Never guessed, never left out in silence."""
    with pytest.raises(ConfigurationError) as caught:
        load_manifests(document)
    assert says in str(caught.value)


def test_each_of_several_texts_has_lines_of_its_own():
    """An editor opens a file, and not all of them one after the other."""
    good = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
    with pytest.raises(ConfigurationError, match=r"apiVersion, line 2: is missing"):
        load_manifests([good, "# a line\nkind: Foo\n"])
    with pytest.raises(ConfigurationError, match=r"the manifests of text 2 are no YAML, line 1"):
        load_manifests([good, "a: b: c\n"])


def test_one_object_twice_is_an_error():
    """Which of them would count?"""
    with pytest.raises(ConfigurationError, match="described twice"):
        load_manifests([git(), git()])


def test_a_few_lines_that_mean_gigabytes_are_refused():
    """Aliases of aliases."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigurationError, match="values"):
        load_manifests("\n".join(lines))


def test_a_broken_yaml_of_a_secret_is_not_quoted():
    """The parser's own message would quote the line."""
    with pytest.raises(ConfigurationError) as caught:
        load_manifests("stringData:\n  password: 'hunter2\n x: y: hunter2\n")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_files_on_this_machine_are_for_those_who_say_so():
    """A manifest of somebody else must not read them."""
    managed = load(git(url="file:///srv/app.git"), local=True)
    assert managed.source.address.is_local
    assert "this machine" in managed.warnings[0]


# --- what a running Flux made ---

STATUS = {
    "artifact": {
        "digest": "sha256:" + "b" * 64,
        "lastUpdateTime": "2026-01-02T03:04:05Z",
        "path": "gitrepository/flux-system/app/" + "a" * 40 + ".tar.gz",
        "revision": "main@sha1:" + "a" * 40,
        "size": 91318,
        "url": "http://source-controller.flux-system.svc.cluster.local./gitrepository/flux-system/app/x.tar.gz",
        "metadata": {"org.opencontainers.image.source": "https://example.com"},
    }
}


def test_an_external_artifact_is_its_archive():
    """Pinned to what the status says."""
    managed = load({"apiVersion": API, "kind": "ExternalArtifact", "metadata": {"name": "app"}, "status": STATUS})
    assert str(managed.key) == "externalartifact/default/app"
    assert str(managed.source.resolve_revision()) == STATUS["artifact"]["revision"]
    assert to_manifest(managed)["status"]["artifact"]["digest"] == STATUS["artifact"]["digest"]


def test_the_artifact_of_any_object_of_a_running_flux_can_be_read_through_a_port_forward():
    """Its URL means something only in the cluster."""
    source = source_from_status(git() | {"status": STATUS}, host="localhost:8080")
    assert source.location == "http://localhost:8080/gitrepository/flux-system/app/x.tar.gz"
    with pytest.raises(ConfigurationError, match=r"no status\.artifact yet"):
        source_from_status(git())


# --- and back ---

ROUND_TRIPS = [
    git(ref={"branch": "main"}),
    git(ref={"semver": "1.x"}, ignore="*.md\n", timeout="2m", suspend=True),
    git(ref={"commit": "a" * 40}, sparseCheckout=["deploy"]),
    git(ref={"branch": "main"}, recurseSubmodules=True),
    git(url="ssh://git@example.com/app.git", ref={"name": "refs/pull/1/head"}),
    git(ref={"branch": "main"}, ignore="a\x85b\r\u2028c\n", timeout="1400ms"),
    oci(ref={"tag": "v1"}),
    oci(ref={"semver": "1.x", "semverFilter": ".*-rc"}, insecure=True),
    oci(ref={"digest": "sha256:" + "a" * 64}, layerSelector={"mediaType": "x/y", "operation": "copy"}),
    git(url="https://dev.azure.com/a/b/_git/c", ref={"branch": "main"}, provider="azure", timeout="90m"),
    oci(ref={"tag": "v1"}, provider="gcp"),
    bucket(prefix="prod/", provider="generic", insecure=True),
    bucket(provider="aws", endpoint="s3.amazonaws.com", region="eu-west-1"),
    bucket(provider="gcp", endpoint="storage.googleapis.com"),
    bucket(provider="azure", endpoint="https://acct.blob.core.windows.net"),
]


@pytest.mark.parametrize("document", ROUND_TRIPS, ids=lambda document: document["kind"])
def test_a_manifest_survives_the_way_to_a_source_and_back(document):
    """Through YAML, with nothing gained and nothing lost."""
    managed = load(document)
    written = to_manifest(managed)
    assert written["spec"] == document["spec"]
    assert load_manifests(to_yaml(written)) == (managed,)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (MemorySource({}), "no kind"),
        (GitSource("https://e.com/x", branch="main"), "dialect"),
        (GitSource("https://e.com/x", dialect="flux"), "HEAD"),
        (GitSource("https://e.com/x", dialect="flux", branch="a", path="b"), "sub-trees"),
        (GitSource("https://e.com/x", dialect="flux", branch="a", proxy=Proxy(url="http://p:1")), "a proxy"),
        (GitSource("https://e.com/x", dialect="flux", branch="a", tls=TLSConfig(ca="PEM")), "certificates"),
        (OCISource("oci://e.com/x", dialect="flux", tls=TLSConfig(ca="PEM")), "certificates"),
        (
            BucketSource(S3Bucket("bucket", proxy=Proxy(url="http://p:1")), dialect="flux", strip_prefix=False),
            "a proxy",
        ),
        (OCISource("oci-layout:/srv/x", dialect="flux"), "this machine"),
        (OCISource("oci://e.com/x", layer_operation="image", dialect="flux"), "one layer"),
        (BucketSource(LocalBucket("/srv"), dialect="flux"), "no provider"),
        (HTTPArtifactSource("https://e.com/x"), "no digest"),
    ],
)
def test_what_flux_would_do_differently_is_not_written(source, says):
    """A manifest that means something else is worse than none."""
    with pytest.raises(ConfigurationError, match=says):
        to_manifest(source, name="x")


def test_the_name_of_the_secret_goes_into_the_manifest_and_its_content_does_not():
    """Credentials stay where they are."""
    managed = load(git(secretRef={"name": "s"}), secret(username="ada", password="hunter2"))
    written = to_manifest(managed, secret="s", namespace="team")
    assert written["spec"]["secretRef"] == {"name": "s"}
    assert written["metadata"] == {"name": "app", "namespace": "team"}
    assert "hunter2" not in to_yaml(written)
