"""Source abstractions for continuous delivery.

A *source* (a Git repository, an OCI repository, an object-store bucket, a directory) is resolved to a *revision*,
fetched as a *snapshot*, and produced as an *artifact*: a reproducible, content-addressed archive in a *store*.

```python
from fluxsrc import LocalStore, source_from_url

artifact = source_from_url("git+file://.?branch=main").produce_artifact(LocalStore("store"))
```

Names are loaded when they are first used: importing this package costs next to nothing.
"""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.artifact import Artifact, SourceKey
    from fluxsrc.auth import BasicAuth, BearerToken, Keychain, Proxy, Secret, SSHKey, StaticKeychain, TLSConfig
    from fluxsrc.bucket import AzureBucket, BucketSource, GCSBucket, LocalBucket, S3Bucket
    from fluxsrc.digest import Digest
    from fluxsrc.directory import DirectorySource
    from fluxsrc.entry import Entry, Mode, Skipped
    from fluxsrc.errors import FluxSrcError
    from fluxsrc.git import GitCache, GitSource
    from fluxsrc.http_artifact import HTTPArtifactSource
    from fluxsrc.ignore import IgnoreRules
    from fluxsrc.limits import Limits
    from fluxsrc.lock import LockFile
    from fluxsrc.managed import ManagedSource
    from fluxsrc.manifests import load_manifests
    from fluxsrc.memory import MemoryFile, MemorySource
    from fluxsrc.oci import OCISource
    from fluxsrc.operation import Operation, Progress
    from fluxsrc.produce import produce_artifact
    from fluxsrc.recipe import Compression, Dialect, Recipe, SymlinkPolicy
    from fluxsrc.reconcile import Reconciler
    from fluxsrc.revision import Revision
    from fluxsrc.signatures import AllowedSigners, CosignKeylessSignature, CosignKeySignature, GitSignature, OpenPGPKeys
    from fluxsrc.signatures.notation import NotationSignature
    from fluxsrc.signed_lock import SignedLock
    from fluxsrc.source import Snapshot, Source
    from fluxsrc.status import SourceStatus
    from fluxsrc.store import Store
    from fluxsrc.stores import LocalStore, MemoryStore
    from fluxsrc.urls import source_from_url
    from fluxsrc.verify import AllOf, AnyOf, Policy, UnsafeNoVerification
    from fluxsrc.wrappers import Include, Included
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "AllOf": "verify",
            "AllowedSigners": "signatures",
            "AnyOf": "verify",
            "Artifact": "artifact",
            "AzureBucket": "bucket",
            "BasicAuth": "auth",
            "BearerToken": "auth",
            "BucketSource": "bucket",
            "Compression": "recipe",
            "CosignKeySignature": "signatures",
            "CosignKeylessSignature": "signatures",
            "Dialect": "recipe",
            "Digest": "digest",
            "DirectorySource": "directory",
            "Entry": "entry",
            "FluxSrcError": "errors",
            "GCSBucket": "bucket",
            "GitCache": "git",
            "GitSignature": "signatures",
            "GitSource": "git",
            "HTTPArtifactSource": "http_artifact",
            "IgnoreRules": "ignore",
            "Include": "wrappers",
            "Included": "wrappers",
            "Keychain": "auth",
            "Limits": "limits",
            "LocalBucket": "bucket",
            "LocalStore": "stores",
            "LockFile": "lock",
            "ManagedSource": "managed",
            "MemoryFile": "memory",
            "MemorySource": "memory",
            "MemoryStore": "stores",
            "Mode": "entry",
            "NotationSignature": "signatures.notation",
            "OCISource": "oci",
            "OpenPGPKeys": "signatures",
            "Operation": "operation",
            "Policy": "verify",
            "Progress": "operation",
            "Proxy": "auth",
            "Recipe": "recipe",
            "Reconciler": "reconcile",
            "Revision": "revision",
            "S3Bucket": "bucket",
            "SSHKey": "auth",
            "Secret": "auth",
            "SignedLock": "signed_lock",
            "Skipped": "entry",
            "Snapshot": "source",
            "Source": "source",
            "SourceKey": "artifact",
            "SourceStatus": "status",
            "StaticKeychain": "auth",
            "Store": "store",
            "SymlinkPolicy": "recipe",
            "TLSConfig": "auth",
            "UnsafeNoVerification": "verify",
            "load_manifests": "manifests",
            "produce_artifact": "produce",
            "source_from_url": "urls",
        },
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "AllOf",
    "AllowedSigners",
    "AnyOf",
    "Artifact",
    "AzureBucket",
    "BasicAuth",
    "BearerToken",
    "BucketSource",
    "Compression",
    "CosignKeySignature",
    "CosignKeylessSignature",
    "Dialect",
    "Digest",
    "DirectorySource",
    "Entry",
    "FluxSrcError",
    "GCSBucket",
    "GitCache",
    "GitSignature",
    "GitSource",
    "HTTPArtifactSource",
    "IgnoreRules",
    "Include",
    "Included",
    "Keychain",
    "Limits",
    "LocalBucket",
    "LocalStore",
    "LockFile",
    "ManagedSource",
    "MemoryFile",
    "MemorySource",
    "MemoryStore",
    "Mode",
    "NotationSignature",
    "OCISource",
    "OpenPGPKeys",
    "Operation",
    "Policy",
    "Progress",
    "Proxy",
    "Recipe",
    "Reconciler",
    "Revision",
    "S3Bucket",
    "SSHKey",
    "Secret",
    "SignedLock",
    "Skipped",
    "Snapshot",
    "Source",
    "SourceKey",
    "SourceStatus",
    "StaticKeychain",
    "Store",
    "SymlinkPolicy",
    "TLSConfig",
    "UnsafeNoVerification",
    "load_manifests",
    "produce_artifact",
    "source_from_url",
]
