"""Conformance suites for your own sources and stores, and servers that live in the test's process."""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.testing.bucket_contract import BucketContract, BucketOrigin, RecordingBucket
    from fluxsrc.testing.object_server import ObjectServer
    from fluxsrc.testing.registry import Fault, Registry
    from fluxsrc.testing.registry_contract import RegistryContract, Remote
    from fluxsrc.testing.source_contract import Origin, SourceContract
    from fluxsrc.testing.store_contract import StoreContract
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "BucketContract": "bucket_contract",
            "BucketOrigin": "bucket_contract",
            "Fault": "registry",
            "ObjectServer": "object_server",
            "Origin": "source_contract",
            "RecordingBucket": "bucket_contract",
            "Registry": "registry",
            "RegistryContract": "registry_contract",
            "Remote": "registry_contract",
            "SourceContract": "source_contract",
            "StoreContract": "store_contract",
        },
    )

__all__ = [
    "BucketContract",
    "BucketOrigin",
    "Fault",
    "ObjectServer",
    "Origin",
    "RecordingBucket",
    "Registry",
    "RegistryContract",
    "Remote",
    "SourceContract",
    "StoreContract",
]
