"""How a value with many options shows itself: as it would be written, without what is as always."""

from enum import Enum
from typing import Any, Final

import attrs

__all__ = ["as_written"]

_FACTORY: Final[Any] = type(attrs.Factory(list))
"""A class; to type checkers `attrs.Factory` is a function."""


def as_written(value: Any) -> str:
    """The repr of an attrs instance that names what is its own first, then what it inherits, and leaves defaults out.

    >>> @attrs.frozen(repr=False)
    ... class Server:
    ...     host: str
    ...     port: int = 443
    ...     __repr__ = as_written
    >>> Server("example.com"), Server("example.com", 8443)
    (Server(host='example.com'), Server(host='example.com', port=8443))
    """
    shown = []
    for field in sorted(attrs.fields(type(value)), key=lambda field: field.inherited):
        found = getattr(value, field.name)
        if field.repr is False or found == _default(field):
            continue
        text = field.repr(found) if callable(field.repr) else repr(found.value if isinstance(found, Enum) else found)
        shown.append(f"{field.alias}={text}")
    return f"{type(value).__name__}({', '.join(shown)})"


def _default(field: "attrs.Attribute[Any]") -> object:
    default: Any = field.default
    return default.factory() if isinstance(default, _FACTORY) and not default.takes_self else default
