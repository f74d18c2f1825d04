"""`Fields`: a mapping that is read field by field, and refuses what nobody asked for. Every error says where it stands."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, NoReturn, Self
from urllib.parse import SplitResult, urlsplit

from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.manifests._tree import Node, plain

__all__ = ["Fields", "seconds"]

_DURATION: Final = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+")
_UNITS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_LONGEST: Final = Decimal(2**63 - 1) / 10**9
"""Seconds in Go's longest duration, 292 years; it refuses longer ones."""


def seconds(text: str) -> float | None:
    """A duration as Flux's API has it, "1h30m", "10m", "500ms"; None if it is none.

    >>> seconds("1h0m30s")
    3630.0
    """
    if not _DURATION.fullmatch(text):
        return None
    # In decimal: 1400ms are 1.4 s, and not the sum of what floats make of the parts.
    found = sum(Decimal(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", text))
    return float(found) if found <= _LONGEST else None


class Fields:
    """One mapping of an object.

    As a context it ends with a look at what nobody read: a field that is unknown here must not be silently without effect.
    """

    def __init__(self, node: Node, path: str, what: str) -> None:
        self._what = what
        self._path = path
        self._line = node.line
        if not isinstance(node.value, dict):
            raise ConfigurationError(f"{self.place()}: a mapping is needed, not {_kind(node.value)}")
        self._nodes: dict[str, Node] = node.value
        self._read: set[str] = set()

    def place(self, name: str | None = None) -> str:
        """`OBJECT: spec.ref.tag, line 12`."""
        node = self._nodes.get(name) if name is not None else None
        path = ".".join(part for part in (self._path, name) if part)
        line = node.line if node is not None else self._line
        where = f"{path}, line {line}" if line is not None and path else path or (f"line {line}" if line else "")
        return ": ".join(part for part in (self._what, where) if part)

    def refuse(self, name: str | None, why: str, *, hint: str | None = None) -> NoReturn:
        """Raise about a field."""
        raise ConfigurationError(f"{self.place(name)}: {why}", hint=hint)

    def __contains__(self, name: str) -> bool:
        node = self._nodes.get(name)
        return node is not None and node.value is not None

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._nodes[name].value if name in self else None

    def text(self, name: str) -> str | None:
        """Text, or None if the field is not there; empty text is none, as in Go."""
        value = self._take(name)
        if value is not None and not isinstance(value, str):
            self.refuse(name, f"text is needed, not {_kind(value)}", hint="write it in quotes")
        return value or None

    def raw_text(self, name: str) -> str | None:
        """Text that may be empty on purpose."""
        return "" if self._take(name) == "" else self.text(name)

    def need(self, name: str) -> str:
        """Text that must be there."""
        value = self.text(name)
        if value is None:
            self.refuse(name, "is missing" if name not in self else "is empty")
        return value

    def url(self, name: str) -> SplitResult:
        """A URL that must be there, taken apart; of what kind it may be is for whoever asks."""
        value = self.need(name)
        with suppress(ValueError):  # what is wrong with it may quote a password
            return urlsplit(value)
        return self.refuse(name, "is not a URL")

    def choice(self, name: str, *values: str) -> str:
        """One of some words; the first if the field is not there."""
        value = self.text(name) or values[0]
        if value not in values:
            self.refuse(name, f"{value[:80]!r} is none of {', '.join(values)}")
        return value

    def flag(self, name: str) -> bool:
        """A boolean; false if the field is not there."""
        value = self._take(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, f"true or false is needed, not {_kind(value)}")
        return bool(value)

    def number(self, name: str) -> int | None:
        """A whole number."""
        value = self._take(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            self.refuse(name, f"a number is needed, not {_kind(value)}")
        return value

    def duration(self, name: str) -> float | None:
        """Seconds."""
        value = self.text(name)
        if value is None:
            return None
        found = seconds(value)
        if not found:
            self.refuse(name, f"{value[:80]!r} is no duration", hint="write 30s, 5m or 1h30m")
        return found

    def fields(self, name: str) -> "Fields | None":
        """A mapping below."""
        self._read.add(name)
        return Fields(self._nodes[name], f"{self._path}.{name}".lstrip("."), self._what) if name in self else None

    def items(self, name: str) -> Iterator["Fields"]:
        """The mappings of a list."""
        for number, node in enumerate(self._list(name)):
            yield Fields(node, f"{self._path}.{name}[{number}]".lstrip("."), self._what)

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list."""
        nodes = self._list(name)
        for node in nodes:
            if not isinstance(node.value, str) or not node.value:
                self.refuse(name, "a list of texts is needed")
        return tuple(node.value for node in nodes)

    def _list(self, name: str) -> list[Node]:
        value = self._take(name)
        if value is not None and not isinstance(value, list):
            self.refuse(name, f"a list is needed, not {_kind(value)}")
        return value or []

    def mapping(self, name: str) -> dict[str, str]:
        """Texts by name."""
        value = self._take(name) or {}
        if not isinstance(value, dict) or not all(isinstance(each.value, str) for each in value.values()):
            self.refuse(name, "a mapping of texts is needed")
        return {key: each.value for key, each in value.items()}

    def accept(self, *names: str) -> None:
        """Fields that may be there and say nothing about the source."""
        self._read.update(names)

    def unsupported(self, name: str, why: str, *, hint: str | None = None) -> None:
        """Refuse a field of Flux's that would have no effect, or an unsafe one, if it were accepted."""
        self._read.add(name)
        if name in self:
            self.refuse(name, why, hint=hint)

    def plain(self) -> Mapping[str, Any]:
        """All of it, without lines."""
        found: Mapping[str, Any] = plain(Node(self._nodes))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unread = [name for name in self._nodes if name not in self._read]
        if error is None and unread:
            known = ", ".join(sorted(self._read)) or "none"
            self.refuse(unread[0], "there is no such field", hint=f"known here: {known}")
        if not isinstance(error, ConfigurationError) or isinstance(error, MissingExtraError):
            return
        if not error.message.startswith(self._what):
            # Of a class further down, which knows what is wrong but not where that was written.
            raise ConfigurationError(f"{self.place()}: {error.message}", hint=error.hint) from None


def _kind(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else f"the {type(value).__name__} {value!r}"[:80]
