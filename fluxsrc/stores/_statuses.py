"""How each source is doing, in `status/<kind>/<namespace>/<name>.json`: for people and programs that ask later.

Version 1 has, beside `version` and `key`, what whoever wrote it says. It is a remark, and never the truth about an artifact: it is not
fsynced, and one that is missing, damaged or of another version is none.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from fluxsrc._io.atomic import store_errors
from fluxsrc.artifact import SourceKey
from fluxsrc.errors import StoreError
from fluxsrc.stores._layout import Layout

__all__ = ["forget", "read", "write"]

_VERSION: Final = 1


def write(layout: Layout, key: SourceKey, status: Mapping[str, Any]) -> None:
    """Replace what is said of a source."""
    if not layout.ingest.exists():
        layout.create()
    document = {"version": _VERSION, "key": str(key), **status}
    layout.write(layout.status(key), json.dumps(document, separators=(",", ":")).encode() + b"\n", durable=False)


def read(layout: Layout, key: SourceKey) -> Mapping[str, Any] | None:
    """What was said last of a source, or None."""
    with suppress(StoreError, ValueError):
        document = json.loads(layout.read(layout.status(key)) or b"null")
        if isinstance(document, dict) and document.get("version") == _VERSION and document.get("key") == str(key):
            return document
    return None


def forget(layout: Layout, key: SourceKey) -> None:
    """Say nothing of a source any more."""
    path = layout.status(key)
    with store_errors("remove", path):
        path.unlink(missing_ok=True)
