"""What a bucket value finds out once, for all of its clients: who gives credentials, and where the bucket is."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

__all__ = ["Found", "Unfound"]

_Finder = TypeVar("_Finder")


@attrs.define(eq=False, repr=False)
class Found(Generic[_Finder]):
    """Shared by threads. No pickle carries it, and no comparison looks at it.

    Attributes:
        region: Where the bucket turned out to be.
    """

    region: str | None = None
    _finder: _Finder | None = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def finder(self, make: Callable[[], _Finder]) -> _Finder:
        """What finds credentials, made when it is first asked for."""
        with self._lock:
            if self._finder is None:
                self._finder = make()
            return self._finder


class Unfound:
    """Pickles an attrs class as the fields that it was made of: on the other side, everything is found out anew."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        fields = attrs.fields(type(self))  # type: ignore[arg-type]  # only attrs classes have this base
        return _rebuild, (type(self), {field.name: getattr(self, field.name) for field in fields if field.init})


def _rebuild(kind: type[Any], fields: dict[str, Any]) -> Any:
    return kind(**fields)
