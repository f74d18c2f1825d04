"""Objects in, managed sources out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ConfigurationError
from fluxsrc.managed import ManagedSource
from fluxsrc.manifests._buckets import bucket
from fluxsrc.manifests._context import Context, Inclusion
from fluxsrc.manifests._fields import Fields
from fluxsrc.manifests._include import composed
from fluxsrc.manifests._secrets import ObjectReference, Resolver, Secrets
from fluxsrc.manifests._sources import external_artifact, git_repository, oci_repository
from fluxsrc.manifests._tree import Node, documents, plain
from fluxsrc.source import Source

__all__ = ["KINDS", "REQUESTED_AT", "load_manifests", "source_from_status"]

REQUESTED_AT: Final = "reconcile.fluxcd.io/requestedAt"
"""The annotation that asks for a look now."""

_log: Final = logging.getLogger("fluxsrc.manifests")
_GROUP: Final = "source.toolkit.fluxcd.io"
_VERSIONS: Final = (f"{_GROUP}/v1", f"{_GROUP}/v1beta2")
_DEFAULT_NAMESPACE: Final = "default"
_METADATA: Final = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "finalizers",
    "ownerReferences",
    "selfLink",
    "labels",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
]

KINDS: Final[Mapping[str, Callable[[Fields, Context], Source]]] = {
    "GitRepository": git_repository,
    "OCIRepository": oci_repository,
    "Bucket": bucket,
}
"""The kinds that say where their content comes from."""


@attrs.frozen
class _Metadata:
    name: str
    namespace: str
    generation: int
    requested_at: str | None


def load_manifests(
    manifests: str | bytes | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
    /,
    *,
    resolve: Resolver | None = None,
    local: bool = False,
    host: str | None = None,
    **options: Any,
) -> tuple[ManagedSource, ...]:
    """The sources that manifests of Flux's API describe, in their order.

    Kinds are GitRepository, OCIRepository, Bucket and ExternalArtifact, of v1 and v1beta2. Secrets and ServiceAccounts
    among the manifests are used where others refer to them.

    >>> [podinfo] = load_manifests({
    ...     "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "podinfo"},
    ...     "spec": {"url": "https://github.com/stefanprodan/podinfo", "interval": "5m", "ref": {"semver": "6.x"}},
    ... })
    >>> podinfo.source.url, podinfo.interval
    ('git+https://github.com/stefanprodan/podinfo?semver=6.x', 300.0)

    Args:
        manifests: YAML of any number of documents, or an object as Kubernetes' clients give it, or several of these.
        resolve: Gives the objects that are referred to and not among the manifests. Nothing is looked up without it.
        local: Accept `file://` URLs in GitRepositories. Only for manifests that may read what the process may.
        host: Of an ExternalArtifact: `HOST[:PORT]` to ask in place of the one in its URL.
        options: More arguments for every source, such as `limits`.

    Raises:
        ConfigurationError: A field is wrong, unknown or not supported; the message has its path, and its line in YAML.
        MissingExtraError: YAML is given, and PyYAML is not installed.
    """
    nodes = list(documents(manifests))
    given: dict[ObjectReference, Mapping[str, Any]] = {}
    for node in nodes:
        if _kind(node) in ("Secret", "ServiceAccount"):
            manifest = plain(node)
            metadata = manifest.get("metadata") or {}
            reference = ObjectReference(
                manifest["kind"], str(metadata.get("namespace") or _DEFAULT_NAMESPACE), str(metadata.get("name"))
            )
            given[reference] = manifest
    secrets = Secrets(given, resolve)
    found: dict[SourceKey, ManagedSource] = {}
    includes: dict[SourceKey, Sequence[Inclusion]] = {}
    for node in nodes:
        if _kind(node) not in ("Secret", "ServiceAccount"):
            managed, included = _load(node, secrets, local=local, host=host, options=options)
            if managed.key in found:
                raise ConfigurationError(f"{managed.key} is described twice")
            found[managed.key], includes[managed.key] = managed, included
    return tuple(composed(found, includes).values())


def source_from_status(
    manifest: Mapping[str, Any] | str | bytes, /, *, host: str | None = None, **options: Any
) -> Source:
    """What a running Flux made of an object: its `status.artifact`, as a source.

    Args:
        manifest: A GitRepository, OCIRepository, Bucket, HelmChart or ExternalArtifact as the API server has it.
        host: `HOST[:PORT]` to ask in place of the one in the URL: that of a port-forward.
        options: More arguments of `HTTPArtifactSource`.

    Raises:
        ConfigurationError: There is no artifact yet, or it has no digest.
    """
    [node] = documents(manifest)
    top = Fields(node, "", _what(node))
    status = top.fields("status")
    artifact = None if status is None else status.fields("artifact")
    if artifact is None:
        top.refuse(None, "there is no status.artifact yet")
    return external_artifact(artifact, Context("", Secrets({}, None), local=False, options=options), host=host)


def _load(
    node: Node, secrets: Secrets, *, local: bool, host: str | None, options: Mapping[str, Any]
) -> tuple[ManagedSource, Sequence[Inclusion]]:
    what = _what(node)
    with Fields(node, "", what) as top:
        kind, version = top.need("kind"), top.need("apiVersion")
        if (kind not in KINDS and kind != "ExternalArtifact") or version.partition("/")[0] != _GROUP:
            top.refuse("kind", f"{version} {kind} is none of {', '.join(KINDS)}, ExternalArtifact of {_GROUP}")
        if version not in _VERSIONS:
            top.refuse("apiVersion", f"{version} is none of {', '.join(_VERSIONS)}")
        metadata = _metadata(top)
        context = Context(metadata.namespace, secrets, local, options)
        spec = top.fields("spec")
        if kind == "ExternalArtifact":
            return _external(top, spec, metadata, context, host), ()
        top.accept("status")
        if spec is None:
            top.refuse("spec", "is missing")
        with spec:
            interval, suspend = spec.duration("interval"), spec.flag("suspend")
            if interval is None:
                spec.refuse("interval", "is missing", hint="such as 5m")
            source = KINDS[kind](spec, context)
    for warning in context.warnings:
        _log.warning("%s", warning)
    managed = ManagedSource(
        name=metadata.name,
        namespace=metadata.namespace,
        source=source,
        interval=interval,
        suspend=suspend,
        generation=metadata.generation,
        requested_at=metadata.requested_at,
        warnings=tuple(context.warnings),
    )
    return managed, context.includes


def _external(
    top: Fields, spec: Fields | None, metadata: _Metadata, context: Context, host: str | None
) -> ManagedSource:
    if spec is not None:
        with spec:
            spec.accept("sourceRef")
    status = top.fields("status")
    artifact = None if status is None else status.fields("artifact")
    if artifact is None:
        top.refuse("status", "there is no status.artifact yet")
    return ManagedSource(
        name=metadata.name,
        namespace=metadata.namespace,
        source=external_artifact(artifact, context, host=host),
        generation=metadata.generation,
        requested_at=metadata.requested_at,
    )


def _metadata(top: Fields) -> _Metadata:
    fields = top.fields("metadata")
    if fields is None:
        top.refuse("metadata", "is missing")
    with fields:
        fields.accept(*_METADATA)
        return _Metadata(
            fields.need("name"),
            fields.text("namespace") or _DEFAULT_NAMESPACE,
            fields.number("generation") or 1,
            fields.mapping("annotations").get(REQUESTED_AT),
        )


def _kind(node: Node) -> str | None:
    kind = node.value.get("kind") if isinstance(node.value, dict) else None
    return kind.value if kind is not None and isinstance(kind.value, str) else None


def _what(node: Node) -> str:
    """The object's name, for messages, as far as it has one."""
    metadata = node.value.get("metadata") if isinstance(node.value, dict) else None
    names = metadata.value if metadata is not None and isinstance(metadata.value, dict) else {}
    name, namespace = (str(names[key].value)[:80] if key in names else None for key in ("name", "namespace"))
    return (
        f"{_kind(node) or 'manifest'} {namespace or _DEFAULT_NAMESPACE}/{name}" if name else _kind(node) or "manifest"
    )
