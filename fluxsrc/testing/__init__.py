"""Conformance suites for your own sources and stores, and servers that live in the test's process."""

from fluxsrc.testing.bucket_contract import BucketContract, BucketOrigin, RecordingBucket
from fluxsrc.testing.object_server import ObjectServer
from fluxsrc.testing.registry import Fault, Registry
from fluxsrc.testing.registry_contract import RegistryContract, Remote
from fluxsrc.testing.source_contract import Origin, SourceContract
from fluxsrc.testing.store_contract import StoreContract

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
