"""From the `spec` of each kind to a source: Flux's defaults, its precedence, its ignore dialect."""

from collections.abc import Mapping
from typing import Any, Final

from fluxsrc.auth import Keychain, Origin, Proxy, TLSConfig
from fluxsrc.git import GitSource
from fluxsrc.http_artifact import HTTPArtifactSource
from fluxsrc.keychains import (
    AzureDevOps,
    AzureRegistry,
    ChainKeychain,
    CodeCommit,
    ElasticContainerRegistry,
    GoogleRegistry,
)
from fluxsrc.manifests._context import IDENTITY_HINT, NO_IDENTITY, TIMEOUT, Context, Inclusion
from fluxsrc.manifests._fields import Fields
from fluxsrc.manifests._verify import git_policy, oci_policy
from fluxsrc.oci import LayerOperation, OCISource
from fluxsrc.source import Source

__all__ = ["external_artifact", "git_repository", "oci_repository"]


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
    scheme = spec.url("url").scheme
    if scheme == "file" and context.local:
        context.warnings.append(f"{spec.place('url')}: a file:// URL is for this machine only; Flux itself refuses it")
    elif scheme not in ("http", "https", "ssh"):
        spec.refuse("url", "must begin with https://, http:// or ssh://", hint="git@host:path is ssh://git@host/path")
    spec.unsupported("serviceAccountName", NO_IDENTITY, hint=IDENTITY_HINT)
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
    secret = context.secret(spec, "secretRef")
    if provider in ("azure", "aws"):
        # What else is in the Secret has no effect; so it is in Flux.
        return _cloud_repositories(spec, provider, url, proxy), TLSConfig() if secret is None else secret.tls()
    if secret is None:
        if provider == "github":
            spec.refuse("provider", "github needs a secretRef with the app's data", hint="githubAppID, …")
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


def _cloud_repositories(spec: Fields, provider: str, url: str, proxy: Proxy | None) -> Keychain:
    """The login of the machine, or of the pod, that this runs on."""
    if spec.url("url").scheme != "https":
        spec.refuse("url", f"must begin with https:// for the provider {provider}", hint="else give keys in a Secret")
    return AzureDevOps(proxy=proxy) if provider == "azure" else CodeCommit(url, proxy=proxy)


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
    certificates, proxy = context.secret(spec, "certSecretRef"), context.proxy(spec)
    return OCISource(
        url,
        **ref,
        **context.common(spec),
        verify=oci_policy(spec, context),
        keychain=_oci_keychain(spec, context, proxy),
        tls=TLSConfig() if certificates is None else certificates.tls(),
        proxy=proxy,
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


def _oci_keychain(spec: Fields, context: Context, proxy: Proxy | None) -> Keychain | None:
    """The Secret's and the ServiceAccount's registries; without any, the cloud's login."""
    provider = spec.choice("provider", "generic", "aws", "azure", "gcp")
    secret, account = context.secret(spec, "secretRef"), spec.text("serviceAccountName")
    found: list[Keychain] = [] if secret is None else [secret.registries()]
    pull = None if account is None else context.secrets.pull_secrets(context.namespace, account)
    if pull is not None:
        found.append(pull)
    if not found and provider == "generic" and account is not None:
        context.warnings.append(
            f"{spec.place('serviceAccountName')}: nobody logs in: it has no imagePullSecrets, and its tokens are the cluster's to lend"
        )
    elif not found and provider != "generic":
        if account is not None:
            context.warnings.append(
                f"{spec.place('serviceAccountName')}: this machine's own identity logs in, and not the ServiceAccount's"
            )
        found.append(_CLOUDS[provider](proxy=proxy))
    return ChainKeychain.of(*found) if found else None


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
            url = artifact.url("url")._replace(netloc=host).geturl()
        artifact.accept("lastUpdateTime", "size", "path")
        return HTTPArtifactSource(
            url,
            digest=artifact.need("digest"),
            revision=artifact.need("revision"),
            annotations=tuple(sorted(artifact.mapping("metadata").items())),
            **{"timeout": TIMEOUT, **context.options},
        )
