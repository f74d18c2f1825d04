"""OCI registries: acquire, publish, promote and look into artifacts."""

from fluxsrc.oci.access import Access
from fluxsrc.oci.layers import LayerOperation
from fluxsrc.oci.manifest import Descriptor, Platform
from fluxsrc.oci.reference import LayoutReference, Reference, parse_reference
from fluxsrc.oci.source import OCISource
from fluxsrc.oci.tokens import TokenCache

__all__ = [
    "Access",
    "Descriptor",
    "LayerOperation",
    "LayoutReference",
    "OCISource",
    "Platform",
    "Reference",
    "TokenCache",
    "parse_reference",
]
