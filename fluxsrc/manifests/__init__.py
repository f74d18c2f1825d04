"""Manifests of Flux's API as sources, and back. YAML needs the extra `manifests`; objects as dicts need nothing."""

from fluxsrc.manifests._load import KINDS, REQUESTED_AT, load_manifests, source_from_status
from fluxsrc.manifests._secrets import ObjectReference, Resolver
from fluxsrc.manifests._write import to_manifest, to_yaml

__all__ = [
    "KINDS",
    "REQUESTED_AT",
    "ObjectReference",
    "Resolver",
    "load_manifests",
    "source_from_status",
    "to_manifest",
    "to_yaml",
]
