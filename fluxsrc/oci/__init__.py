"""OCI registries and image layouts: acquire from them (`OCISource`), publish to them, promote, list and look back.

All functions take an `Access` (credentials, TLS, proxy), and an `Operation` (deadline, cancel switch, progress); all raise
only `FluxSrcError`. References are `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]` or `oci-layout:PATH[:NAME][@DIGEST]`.
"""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.oci.access import Access
    from fluxsrc.oci.layers import LayerOperation
    from fluxsrc.oci.listing import Candidate, Observed, RefMoved, TagInfo, candidates, history, list_tags, moves
    from fluxsrc.oci.manifest import Descriptor, Platform
    from fluxsrc.oci.publish import Copied, copy, delete, promote, tag
    from fluxsrc.oci.pushing import Pushed, build, push
    from fluxsrc.oci.reference import LayoutReference, Reference, parse_reference
    from fluxsrc.oci.source import OCISource
    from fluxsrc.oci.tokens import TokenCache
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "Access": "access",
            "Candidate": "listing",
            "Copied": "publish",
            "Descriptor": "manifest",
            "LayerOperation": "layers",
            "LayoutReference": "reference",
            "OCISource": "source",
            "Observed": "listing",
            "Platform": "manifest",
            "Pushed": "pushing",
            "RefMoved": "listing",
            "Reference": "reference",
            "TagInfo": "listing",
            "TokenCache": "tokens",
            "build": "pushing",
            "candidates": "listing",
            "copy": "publish",
            "delete": "publish",
            "history": "listing",
            "list_tags": "listing",
            "moves": "listing",
            "parse_reference": "reference",
            "promote": "publish",
            "push": "pushing",
            "tag": "publish",
        },
    )

__all__ = [
    "Access",
    "Candidate",
    "Copied",
    "Descriptor",
    "LayerOperation",
    "LayoutReference",
    "OCISource",
    "Observed",
    "Platform",
    "Pushed",
    "RefMoved",
    "Reference",
    "TagInfo",
    "TokenCache",
    "build",
    "candidates",
    "copy",
    "delete",
    "history",
    "list_tags",
    "moves",
    "parse_reference",
    "promote",
    "push",
    "tag",
]
