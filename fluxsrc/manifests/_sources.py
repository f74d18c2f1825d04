"""From the `spec` of each kind to a source: Flux's defaults, its precedence, its ignore dialect."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from fluxsrc.auth import Anonymous, Keychain, Origin, Proxy, TLSConfig
from fluxsrc.bucket import (
    AWSDefaultChain,
    AWSKeys,
    AzureAccountKey,
    AzureBucket,
    AzureClientSecret,
    AzureDefaultCredential,
    AzureManagedIdentity,
    AzureSAS,
    Bucket,
    BucketSource,
    GCSBucket,
    GoogleDefaultCredentials,
    GoogleServiceAccount,
    S3Bucket,
)
from fluxsrc.errors import ConfigurationError
from fluxsrc.git import GitSource
from fluxsrc.http_artifact import HTTPArtifactSource
from fluxsrc.keychains import AzureRegistry, ChainKeychain, ElasticContainerRegistry, GoogleRegistry
from fluxsrc.manifests._context import TIMEOUT, Context, Inclusion
from fluxsrc.manifests._fields import Fields
from fluxsrc.manifests._secrets import SecretData
from fluxsrc.manifests._verify import git_policy, oci_policy
from fluxsrc.oci import LayerOperation, OCISource
from fluxsrc.source import Source

__all__ = ["bucket", "external_artifact", "git_repository", "oci_repository"]

_AWS: Final = re.compile(r"(?:s3[.-](?:dualstack\.)?([a-z0-9-]+)|s3)\.amazonaws\.com(?:\.cn)?")
_NO_IDENTITY: Final = "a pod's identity is not to be had outside of its cluster"


# --- Git -------------------------------------------------------------------------------------------------------------


def git_repository(spec: Fields, context: Context) -> Source:
    """A GitRepository; one whose URL begins with `oci://` is the OCIRepository it should have been."""
    url = spec.need("url")
    if url.startswith("oci://"):
        context.warnings.append(
            f"{spec.place('url')}: an oci:// URL belongs to the kind OCIRepository; it is read as one, "
            "and Flux itself refuses it"
        )
        return oci_repository(spec, context)
    scheme = urlsplit(url).scheme
    if scheme == "file" and context.local:
        context.warnings.append(f"{spec.place('url')}: a file:// URL is for this machine only; Flux itself refuses it")
    elif scheme not in ("http", "https", "ssh"):
        spec.refuse("url", "must begin with https://, http:// or ssh://", hint="git@host:path is ssh://git@host/path")
    spec.unsupported("serviceAccountName", _NO_IDENTITY)
    spec.unsupported("accessFrom", "Flux never implemented it")
    if spec.choice("gitImplementation", "go-git", "libgit2") == "libgit2":
        context.warnings.append(f"{spec.place('gitImplementation')}: without effect, in Flux too")
    for item in spec.items("include"):
        context.includes.append(_include(item))
    proxy = context.proxy(spec)
    keychain, tls = _git_access(spec, context, url, proxy)
    return GitSource(
        url,
        submodules=spec.flag("recurseSubmodules"),
        verify=git_policy(spec, context),
        **_git_ref(spec, context),
        **context.common(spec),
        sparse=spec.texts("sparseCheckout"),
        keychain=keychain,
        tls=tls,
        proxy=proxy,
    )


def _include(item: Fields) -> Inclusion:
    with item:
        repository = item.fields("repository")
        if repository is None:
            item.refuse("repository", "is missing")
        with repository:
            name = repository.need("name")
        return Inclusion(
            name=name,
            from_path=(item.text("fromPath") or "").removeprefix("./").strip("/"),
            to_path=item.text("toPath") or name,
            place=item.place("repository"),
        )


def _git_ref(spec: Fields, context: Context) -> dict[str, Any]:
    """What is followed: commit, else name, tag, semver, branch. So Flux's code has it; its documentation swaps two."""
    ref = spec.fields("ref")
    if ref is None:
        return {"branch": "master"}
    with ref:
        given = {name: ref.text(name) for name in ("commit", "name", "tag", "semver", "branch")}
        found = [(name, value) for name, value in given.items() if value is not None]
        if not found:
            return {"branch": "master"}
        name, value = found[0]
        for other, _ in found[1:]:
            context.warnings.append(f"{ref.place(other)}: without effect beside {name}, which goes before it")
        return {"ref" if name == "name" else name: value}


def _git_access(spec: Fields, context: Context, url: str, proxy: Proxy | None) -> tuple[Keychain | None, TLSConfig]:
    provider = spec.choice("provider", "generic", "github", "azure", "aws")
    if provider in ("azure", "aws"):
        spec.refuse("provider", _NO_IDENTITY, hint="give a Secret with username and password")
    secret = context.secret(spec, "secretRef")
    if secret is None:
        if provider == "github":
            spec.refuse("provider", "github needs a secretRef with the app's data")
        return None, TLSConfig()
    if secret.is_github_app != (provider == "github"):
        spec.refuse(
            "provider",
            f"is {provider}, and {secret.reference} is {'' if secret.is_github_app else 'not '}of a GitHub App",
        )
    if provider == "github":
        return secret.github_app(proxy), secret.tls()
    origin = Origin.of(url)
    if origin.scheme == "ssh":
        return secret.ssh(origin), TLSConfig()
    return secret.http(origin), secret.tls()


# --- OCI -------------------------------------------------------------------------------------------------------------

_CLOUDS: Final[Mapping[str, type[Any]]] = {
    "aws": ElasticContainerRegistry,
    "azure": AzureRegistry,
    "gcp": GoogleRegistry,
}


def oci_repository(spec: Fields, context: Context) -> Source:
    """An OCIRepository."""
    url = spec.need("url")
    _, slash, repository = url.removeprefix("oci://").partition("/")
    if not url.startswith("oci://") or not slash or ":" in repository or "@" in url:
        spec.refuse(
            "url", "must be oci://HOST/REPOSITORY, without tag and digest", hint="what is followed goes into ref"
        )
    ref = _oci_ref(spec, context)
    selector = spec.fields("layerSelector")
    if selector is not None:
        with selector:
            ref["layer"] = selector.text("mediaType")
            ref["layer_operation"] = LayerOperation(selector.choice("operation", "extract", "copy"))
    insecure = spec.flag("insecure")
    certificates = context.secret(spec, "certSecretRef")
    return OCISource(
        url,
        **ref,
        **context.common(spec),
        verify=oci_policy(spec, context),
        keychain=_oci_keychain(spec, context),
        tls=TLSConfig() if certificates is None else certificates.tls(),
        proxy=context.proxy(spec),
        insecure=insecure,
    )


def _oci_ref(spec: Fields, context: Context) -> dict[str, Any]:
    """What is followed: digest, else semver, else tag, else the tag `latest`."""
    ref = spec.fields("ref")
    if ref is None:
        return {"tag": "latest"}
    with ref:
        digest, semver, tag = ref.text("digest"), ref.text("semver"), ref.text("tag")
        pattern = ref.text("semverFilter")
        first = next((name for name in ("digest", "semver", "tag") if name in ref), None)
        for other in ("semver", "tag", "semverFilter"):
            if other in ref and other != first and not (other == "semverFilter" and first == "semver"):
                context.warnings.append(f"{ref.place(other)}: without effect beside {first or 'the tag latest'}")
        if digest is not None:
            return {"digest": digest}
        if semver is not None:
            return {"semver": semver, "semver_filter": pattern}
        return {"tag": tag or "latest"}


def _oci_keychain(spec: Fields, context: Context) -> Keychain | None:
    """The Secret's and the ServiceAccount's registries; without any, the cloud's login."""
    provider = spec.choice("provider", "generic", "aws", "azure", "gcp")
    secret, account = context.secret(spec, "secretRef"), spec.text("serviceAccountName")
    found: list[Keychain] = [] if secret is None else [secret.registries()]
    pull = None if account is None else context.secrets.pull_secrets(context.namespace, account)
    if pull is not None:
        found.append(pull)
    if not found and provider != "generic":
        found.append(_CLOUDS[provider]())
    return ChainKeychain.of(*found) if found else None


# --- buckets ---------------------------------------------------------------------------------------------------------


def bucket(spec: Fields, context: Context) -> Source:
    """A Bucket."""
    provider = spec.choice("provider", "generic", "aws", "gcp", "azure")
    spec.unsupported("sts", "a token service of its own is not supported", hint="give keys in a Secret")
    spec.unsupported("serviceAccountName", _NO_IDENTITY)
    spec.unsupported("accessFrom", "Flux never implemented it")
    secret = context.secret(spec, "secretRef")
    certificates = context.secret(spec, "certSecretRef")
    tls, proxy = TLSConfig() if certificates is None else certificates.tls(), context.proxy(spec)
    make = {"gcp": _gcs, "azure": _azure}.get(provider, _s3)
    return BucketSource(
        make(spec, provider, secret, {"tls": tls, "proxy": proxy}), spec.text("prefix") or "", **context.common(spec)
    )


def _s3(spec: Fields, provider: str, secret: SecretData | None, access: dict[str, Any]) -> Bucket:
    endpoint, region = spec.need("endpoint"), spec.text("region")
    if "://" in endpoint:
        spec.refuse("endpoint", "is HOST[:PORT], without a scheme", hint="insecure: true means plain HTTP")
    insecure = spec.flag("insecure")
    aws = _AWS.fullmatch(endpoint)
    if secret is not None:
        credentials: Any = AWSKeys(secret.need("accesskey"), secret.need("secretkey"))
    else:
        credentials = AWSDefaultChain() if provider == "aws" else Anonymous()
    return S3Bucket(
        spec.need("bucketName"),
        endpoint=None if aws and not insecure else f"{'http' if insecure else 'https'}://{endpoint}",
        region=region or (aws[1] if aws else None),
        credentials=credentials,
        **access,
    )


def _gcs(spec: Fields, _: str, secret: SecretData | None, access: dict[str, Any]) -> Bucket:
    spec.accept("endpoint", "region", "insecure")  # Google's own is asked whatever they say; so it is in Flux
    credentials = GoogleDefaultCredentials() if secret is None else GoogleServiceAccount(secret.need("serviceaccount"))
    return GCSBucket(spec.need("bucketName"), credentials=credentials, **access)


def _azure(spec: Fields, _: str, secret: SecretData | None, access: dict[str, Any]) -> Bucket:
    spec.accept("region", "insecure")
    endpoint = spec.need("endpoint")
    parts = urlsplit(endpoint)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        spec.refuse("endpoint", "must be https://ACCOUNT.blob.core.windows.net")
    # An emulator's account is the first part of the path, the cloud's is the first part of the host.
    account = parts.path.strip("/").partition("/")[0] or parts.hostname.partition(".")[0]
    return AzureBucket(
        spec.need("bucketName"),
        account=account,
        endpoint=endpoint,
        credentials=AzureDefaultCredential() if secret is None else _azure_credentials(secret),
        **access,
    )


def _azure_credentials(secret: SecretData) -> Any:
    if secret.get("clientCertificate") is not None:
        raise ConfigurationError(
            f"{secret.reference}: client certificates are not supported", hint="use a client secret"
        )
    tenant, client, password = secret.get("tenantId"), secret.get("clientId"), secret.get("clientSecret")
    if tenant and client and password:
        return AzureClientSecret(
            tenant_id=tenant, client_id=client, client_secret=password, authority_host=secret.get("authorityHost")
        )
    if (key := secret.get("accountKey")) is not None:
        return AzureAccountKey(key)
    if (token := secret.get("sasKey")) is not None:
        return AzureSAS(token)
    if client and not tenant and not password:
        return AzureManagedIdentity(client)
    raise ConfigurationError(
        f"{secret.reference} has no credentials for Azure",
        hint="accountKey, sasKey, clientId, or tenantId with clientId and clientSecret",
    )


# --- what a running Flux made ----------------------------------------------------------------------------------------


def external_artifact(artifact: Fields, context: Context, *, host: str | None = None) -> Source:
    """The archive that a `status.artifact` describes.

    Args:
        artifact: The mapping.
        context: Where warnings go.
        host: `HOST[:PORT]` to ask instead of the one in the URL, which often means something in its cluster only.
    """
    with artifact:
        url = artifact.need("url")
        if host is not None:
            url = urlsplit(url)._replace(netloc=host).geturl()
        artifact.accept("lastUpdateTime", "size", "path")
        return HTTPArtifactSource(
            url,
            digest=artifact.need("digest"),
            revision=artifact.need("revision"),
            annotations=tuple(sorted(artifact.mapping("metadata").items())),
            **{"timeout": TIMEOUT, **context.options},
        )
