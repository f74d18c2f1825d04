"""Conformance suites for your own sources and stores, and servers that live in the test's process."""

from fluxsrc.testing.registry import Fault, Registry
from fluxsrc.testing.registry_contract import RegistryContract, Remote
from fluxsrc.testing.source_contract import Origin, SourceContract
from fluxsrc.testing.store_contract import StoreContract

__all__ = ["Fault", "Origin", "Registry", "RegistryContract", "Remote", "SourceContract", "StoreContract"]
