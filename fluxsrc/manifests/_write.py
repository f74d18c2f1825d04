"""And back: the manifest that describes a source."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from fluxsrc.auth import Anonymous, TLSConfig
from fluxsrc.bucket import AWSDefaultChain, AzureBucket, BucketSource, GCSBucket, LDAPIdentity, S3Bucket
from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.git import GitSource
from fluxsrc.http_artifact import HTTPArtifactSource
from fluxsrc.keychains import (
    AzureDevOps,
    AzureRegistry,
    ChainKeychain,
    CodeCommit,
    ElasticContainerRegistry,
    GitHubApp,
    GoogleRegistry,
)
from fluxsrc.managed import ManagedSource
from fluxsrc.oci import LayerOperation, OCISource, Reference
from fluxsrc.recipe import Dialect
from fluxsrc.source import Source

__all__ = ["to_manifest", "to_yaml"]

_API: Final = "source.toolkit.fluxcd.io/v1"
_PROVIDERS: Final[Mapping[type[Any], str]] = {
    GitHubApp: "github",
    AzureDevOps: "azure",
    CodeCommit: "aws",
    ElasticContainerRegistry: "aws",
    AzureRegistry: "azure",
    GoogleRegistry: "gcp",
}
_LINE_ENDS: Final = frozenset("\r\x85\u2028\u2029")


def to_manifest(
    source: Source | ManagedSource,
    /,
    *,
    name: str | None = None,
    namespace: str | None = None,
    interval: float = 300.0,
    secret: str | None = None,
) -> dict[str, Any]:
    """The manifest of Flux's API that describes a source.

    >>> from fluxsrc.git import GitSource
    >>> source = GitSource("https://example.com/app.git", tag="v1", dialect="flux", timeout=60)
    >>> to_manifest(source, name="app")["spec"]
    {'interval': '5m', 'url': 'https://example.com/app.git', 'ref': {'tag': 'v1'}}

    Args:
        source: A GitSource, OCISource, BucketSource or HTTPArtifactSource; or a managed one, whose name, namespace and
            interval are then the default.
        name: The object's name.
        namespace: The object's namespace.
        interval: Seconds.
        secret: The name of the Secret with the credentials, which no manifest holds itself.

    Raises:
        ConfigurationError: Flux has no field for something this source does; it would do something else there.
    """
    metadata: dict[str, Any] = {}
    suspend = False
    if isinstance(source, ManagedSource):
        metadata = {"name": source.name, "namespace": source.namespace}
        interval, suspend, source = source.interval, source.suspend, source.source
    metadata |= {key: value for key, value in (("name", name), ("namespace", namespace)) if value is not None}
    if "name" not in metadata:
        raise ConfigurationError("a manifest needs a name", hint="give name=")
    make = next((make for kind, make in _WRITERS.items() if isinstance(source, kind)), None)
    if make is None:
        raise ConfigurationError(f"Flux has no kind for {source.url}")
    kind: str
    rest: dict[str, Any]
    if getattr(source, "verify", None) is not None:
        raise ConfigurationError(
            f"{source.url}: the keys of its policy belong into a Secret", hint="write spec.verify by hand"
        )
    kind, rest = make(source)
    document: dict[str, Any] = {"apiVersion": _API, "kind": kind, "metadata": metadata}
    if kind == "ExternalArtifact":
        return {**document, **rest}
    _check_recipe(source)
    _check_way(source, secret)
    spec: dict[str, Any] = {"interval": _duration(interval)}
    if source.timeout is not None and source.timeout != 60:  # type: ignore[attr-defined]  # noqa: PLR2004 - SourceOptions; Flux's default
        spec["timeout"] = _duration(source.timeout, hours=False)  # type: ignore[attr-defined]  # as above
    spec |= rest | _login(source)
    if source.recipe.ignore is not None:
        spec["ignore"] = source.recipe.ignore
    if secret is not None:
        spec["secretRef"] = {"name": secret}
    if suspend:
        spec["suspend"] = True
    return document | {"spec": spec}


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """A manifest as YAML, fields in their order.

    Raises:
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415 - belongs to an extra
    except ImportError:
        raise MissingExtraError("writing YAML manifests", extra="manifests") from None

    class Dumper(yaml.SafeDumper):
        """Escapes the line ends that YAML reads as others than it writes."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        style = '"' if _LINE_ENDS & set(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    text: str = yaml.dump(dict(manifest), Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text


def _git(source: GitSource) -> tuple[str, dict[str, Any]]:
    if source.tag_pattern is not None or source.lfs.value != "keep":
        raise ConfigurationError(f"{source.url}: Flux knows no tag_pattern and no LFS")
    chosen = source.selector.kind.value
    value = getattr(source, chosen, None)
    if value is None:
        raise ConfigurationError(
            f"{source.url} follows the remote's HEAD, which Flux cannot", hint="say which branch: branch='main'"
        )
    spec: dict[str, Any] = {"url": source.address.plain_url}
    if source.address.scheme == "ssh" and "://" not in spec["url"]:
        user, _, rest = spec["url"].partition("@")
        spec["url"] = f"ssh://{user}@{rest.replace(':', '/', 1)}"
    spec["ref"] = {"name" if chosen == "ref" else chosen: value}
    if source.submodules:
        spec["recurseSubmodules"] = True
    if source.sparse:
        spec["sparseCheckout"] = list(source.sparse)
    return "GitRepository", spec


def _oci(source: OCISource) -> tuple[str, dict[str, Any]]:
    if not isinstance(source.reference, Reference):
        raise ConfigurationError(f"{source.url} is on this machine, where no Flux finds it")
    if source.layer_operation not in (LayerOperation.EXTRACT, LayerOperation.COPY) or source.platform is not None:
        raise ConfigurationError(f"{source.url}: Flux takes one layer, of linux/amd64")
    reference = source.reference
    spec: dict[str, Any] = {"url": f"oci://{reference.host}/{reference.repository}"}
    if source.digest is not None or (source.semver is None and source.tag is None and reference.digest is not None):
        spec["ref"] = {"digest": str(source.digest or reference.digest)}
    elif source.semver is not None:
        spec["ref"] = {"semver": source.semver}
        if source.semver_filter is not None:
            spec["ref"]["semverFilter"] = source.semver_filter
    else:
        spec["ref"] = {"tag": source.tag or reference.tag or "latest"}
    if source.layer is not None or source.layer_operation is LayerOperation.COPY:
        selector = {"mediaType": source.layer, "operation": source.layer_operation.value}
        spec["layerSelector"] = {key: value for key, value in selector.items() if value is not None}
    if source.insecure:
        spec["insecure"] = True
    return "OCIRepository", spec


def _bucket(source: BucketSource) -> tuple[str, dict[str, Any]]:
    bucket = source.bucket
    spec: dict[str, Any]
    if isinstance(bucket, S3Bucket):
        endpoint = urlsplit(bucket.endpoint or "https://s3.amazonaws.com")
        spec = {"provider": "aws" if isinstance(bucket.credentials, AWSDefaultChain) else "generic"}
        spec |= {"bucketName": bucket.name, "endpoint": endpoint.netloc}
        if endpoint.scheme == "http":
            spec["insecure"] = True
        if bucket.region is not None:
            spec["region"] = bucket.region
        if isinstance(bucket.credentials, AWSDefaultChain) and bucket.credentials.sts_endpoint is not None:
            spec["sts"] = {"provider": "aws", "endpoint": bucket.credentials.sts_endpoint}
        if isinstance(bucket.credentials, LDAPIdentity):
            raise ConfigurationError(f"{source.url}: a password belongs into a Secret", hint="write spec.sts by hand")
    elif isinstance(bucket, GCSBucket) and not isinstance(bucket.credentials, Anonymous):
        spec = {"provider": "gcp", "bucketName": bucket.name, "endpoint": "storage.googleapis.com"}
    elif isinstance(bucket, AzureBucket):
        endpoint_url = bucket.endpoint or f"https://{bucket.account}.blob.core.windows.net"
        spec = {"provider": "azure", "bucketName": bucket.name, "endpoint": endpoint_url}
    else:
        raise ConfigurationError(f"Flux has no provider for {source.url}")
    if source.prefix:
        spec["prefix"] = source.prefix
    if source.strip_prefix and source.prefix:
        raise ConfigurationError(f"{source.url}: Flux keeps the prefix in the paths", hint="strip_prefix=False")
    return "Bucket", spec


def _external(source: HTTPArtifactSource) -> tuple[str, dict[str, Any]]:
    if source.digest is None:
        raise ConfigurationError(f"{source.url} has no digest", hint="an ExternalArtifact has one")
    artifact = {"url": source.location, "digest": str(source.digest)}
    artifact["revision"] = str(source.revision or source.digest)
    metadata = dict(source.annotations)
    return "ExternalArtifact", {"status": {"artifact": artifact | ({"metadata": metadata} if metadata else {})}}


_WRITERS: Final[Mapping[type[Any], Any]] = {
    GitSource: _git,
    OCISource: _oci,
    BucketSource: _bucket,
    HTTPArtifactSource: _external,
}


def _login(source: Source) -> dict[str, Any]:
    """The `provider` by which a machine or an app logs in."""
    keychain = getattr(source, "keychain", None)
    keychains = keychain.keychains if isinstance(keychain, ChainKeychain) else (keychain,)
    found = next((_PROVIDERS[type(each)] for each in keychains if type(each) in _PROVIDERS), None)
    return {} if found is None else {"provider": found}


def _check_way(source: Source, secret: str | None) -> None:
    """What only another Secret can say of the way to the source would be lost without a word."""
    way = getattr(source, "bucket", source)
    if getattr(way, "proxy", None) is not None:
        raise ConfigurationError(
            f"{source.url}: a proxy's address belongs into a Secret", hint="write spec.proxySecretRef by hand"
        )
    in_secret = isinstance(source, GitSource) and secret is not None  # with the credentials; else in one of their own
    if getattr(way, "tls", TLSConfig()) != TLSConfig() and not in_secret:
        hint = "give secret=" if isinstance(source, GitSource) else "write spec.certSecretRef by hand"
        raise ConfigurationError(f"{source.url}: certificates belong into a Secret", hint=hint)


def _check_recipe(source: Source) -> None:
    recipe = source.recipe
    if recipe.dialect is not Dialect.FLUX:
        raise ConfigurationError(
            f"{source.url}: its ignore rules are git's, Flux decides by its own", hint="make it with dialect='flux'"
        )
    if recipe.path:
        raise ConfigurationError(f"{source.url}: Flux has no sub-trees of sources", hint="leave the path out")


def _duration(seconds: float, *, hours: bool = True) -> str:
    """As Flux's API takes it: intervals may have hours, timeouts may not."""
    if seconds != int(seconds):
        return f"{Decimal(str(seconds)) * 1000:f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(int(seconds), 60)
    full, minutes = divmod(minutes, 60) if hours else (0, minutes)
    parts = [f"{value}{unit}" for value, unit in ((full, "h"), (minutes, "m"), (rest, "s")) if value]
    return "".join(parts)
