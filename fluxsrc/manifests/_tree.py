"""Documents with the lines they stand on: YAML, JSON or plain dicts in, `Node`s out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.limits import DEFAULT_LIMITS

__all__ = ["Node", "documents", "parse_yaml", "plain"]

_MAX_NODES: Final = 50_000
"""Of one text, aliases followed: a few lines of YAML can mean more than the memory holds."""
_MAX_DEPTH: Final = 64


@attrs.frozen
class Node:
    """A value, and where it stands.

    Attributes:
        value: A dict of nodes, a list of nodes, or text, number, boolean, None.
        line: The line in its text, from 1; None of what was no text.
    """

    value: Any
    line: int | None = None


def documents(given: str | bytes | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]) -> Iterator[Node]:
    """Each document of texts or of what was parsed already; the items of a `List` one by one; empty ones not at all."""
    if isinstance(given, str | bytes):
        found: Iterator[Node] = parse_yaml(given)
    else:
        found = _several([given] if isinstance(given, Mapping) else given)
    for node in found:
        if node.value is None:
            continue
        kind = node.value.get("kind") if isinstance(node.value, dict) else None
        items = node.value.get("items") if isinstance(node.value, dict) else None
        if (
            kind is not None
            and str(kind.value).endswith("List")
            and items is not None
            and isinstance(items.value, list)
        ):
            yield from items.value
        else:
            yield node


def _several(given: Sequence[str | Mapping[str, Any]]) -> Iterator[Node]:
    for number, each in enumerate(given, 1):
        if isinstance(each, str):  # each with lines of its own
            yield from parse_yaml(each, what="the manifests" if len(given) == 1 else f"the manifests of text {number}")
        else:
            yield _of_plain(each, _Budget())


class _Budget:
    """What a text may still cost."""

    def __init__(self) -> None:
        self.left = _MAX_NODES

    def take(self, depth: int) -> None:
        self.left -= 1
        if self.left < 0 or depth > _MAX_DEPTH:
            raise ConfigurationError(f"a document of more than {_MAX_NODES:,} values or {_MAX_DEPTH} levels")


def parse_yaml(text: str | bytes, *, what: str = "the manifests") -> Iterator[Node]:
    """The documents of a YAML text (JSON is YAML).

    Raises:
        MissingExtraError: PyYAML is not installed.
        ConfigurationError: The text is no YAML, or repeats a key.
    """
    try:
        import yaml  # noqa: PLC0415 - belongs to an extra
    except ImportError:
        raise MissingExtraError("reading YAML manifests", extra="manifests") from None
    DEFAULT_LIMITS.check("max_manifest_bytes", len(text), what=what)
    loader = yaml.SafeLoader(text)
    budget = _Budget()
    try:
        while loader.check_node():
            yield _of_yaml(loader, loader.get_node(), budget)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as exc:
        if isinstance(exc, ConfigurationError):
            raise
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        # A parser's message quotes its text, and that may be a Secret's.
        raise ConfigurationError(f"{what} are no YAML{where}: {getattr(exc, 'problem', None) or 'bad text'}") from None
    finally:
        loader.dispose()


def _of_yaml(loader: Any, node: Any, budget: _Budget, depth: int = 0) -> Node:
    budget.take(depth)
    line = node.start_mark.line + 1
    if node.id == "sequence":
        return Node([_of_yaml(loader, each, budget, depth + 1) for each in node.value], line)
    if node.id == "scalar":
        if node.tag == "tag:yaml.org,2002:timestamp":
            return Node(node.value, line)  # Kubernetes has text there
        return Node(loader.construct_object(node), line)
    found: dict[str, Node] = {}
    for key, value in node.value:
        if key.id != "scalar":
            raise ConfigurationError(f"line {line}: a key is text")
        if key.value in found:
            raise ConfigurationError(f"line {key.start_mark.line + 1}: the key {key.value[:80]!r} is there twice")
        inner = _of_yaml(loader, value, budget, depth + 1)
        found[key.value] = attrs.evolve(inner, line=key.start_mark.line + 1)
    return Node(found, line)


def _of_plain(value: Any, budget: _Budget, depth: int = 0) -> Node:
    budget.take(depth)
    if isinstance(value, Mapping):
        return Node({str(key): _of_plain(each, budget, depth + 1) for key, each in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node([_of_plain(each, budget, depth + 1) for each in value])
    return Node(value)


def plain(node: Node) -> Any:
    """The value alone, without lines."""
    if isinstance(node.value, dict):
        return {key: plain(each) for key, each in node.value.items()}
    if isinstance(node.value, list):
        return [plain(each) for each in node.value]
    return node.value
