"""Git repositories as sources: read from Git's objects directly, without a work tree and without running git."""

from fluxsrc.git.address import GitAddress
from fluxsrc.git.cache import GitCache
from fluxsrc.git.lfs import LFSPolicy
from fluxsrc.git.source import GitSource

__all__ = ["GitAddress", "GitCache", "GitSource", "LFSPolicy"]
