"""Stores: where artifacts live. `LocalStore` on disk, `MemoryStore` in memory; read `fluxsrc.store` for the contract."""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.store import Observation
    from fluxsrc.stores._reports import GCReport, Problem, ProblemKind, VerifyReport
    from fluxsrc.stores._retention import Lease
    from fluxsrc.stores.local import LocalStore
    from fluxsrc.stores.memory import MemoryStore
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "GCReport": "_reports",
            "Lease": "_retention",
            "LocalStore": "local",
            "MemoryStore": "memory",
            "Observation": "local",
            "Problem": "_reports",
            "ProblemKind": "_reports",
            "VerifyReport": "_reports",
        },
    )

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
