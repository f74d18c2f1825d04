"""`FileTree` and `Spool`, as the layers of a registry use them; they live with the archives they are made of."""

from fluxsrc.tarball.tree import FileTree, Spool

__all__ = ["FileTree", "Spool"]
