"""Conformance suites for your own sources and stores, and servers that live in the test's process."""

from fluxsrc.testing.source_contract import Origin, SourceContract
from fluxsrc.testing.store_contract import StoreContract

__all__ = ["Origin", "SourceContract", "StoreContract"]
