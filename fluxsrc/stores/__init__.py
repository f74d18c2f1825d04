"""Stores: where artifacts live. `LocalStore` on disk, `MemoryStore` in memory; read `fluxsrc.store` for the contract."""

from fluxsrc.store import Observation
from fluxsrc.stores._reports import GCReport, Problem, ProblemKind, VerifyReport
from fluxsrc.stores._retention import Lease
from fluxsrc.stores.local import LocalStore
from fluxsrc.stores.memory import MemoryStore

__all__ = [
    "GCReport",
    "Lease",
    "LocalStore",
    "MemoryStore",
    "Observation",
    "Problem",
    "ProblemKind",
    "VerifyReport",
]
