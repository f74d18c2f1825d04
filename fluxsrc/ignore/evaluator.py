"""`Evaluator`: which rule decides a path. One pass over the directories on the way, remembered, then one name."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from fluxsrc._lazy import later
from fluxsrc.ignore.gitignore import GitPaths, git_names
from fluxsrc.ignore.glob import Item
from fluxsrc.ignore.names import NO_RULE, NameIndex, Probe, best_of
from fluxsrc.ignore.parsing import Rule
from fluxsrc.ignore.wildmatch import parse_pattern
from fluxsrc.recipe import Dialect

if TYPE_CHECKING:
    from fluxsrc.ignore import flux, gomatch
else:  # for the other dialect
    flux, gomatch = later("fluxsrc.ignore.flux"), later("fluxsrc.ignore.gomatch")

__all__ = ["Evaluator"]

_MAX_STATE_BYTES: Final = 8 * 1024 * 1024
"""What remembering directories may cost, roughly. Beyond it, all are forgotten and found again."""
_ENTRY_BYTES: Final = 150
_DIRECTORY_BYTES: Final = 1500

_State: TypeAlias = Any
"""Whatever a dialect's path rules say about a directory; only they look inside."""


class PathRules(Protocol):
    """The rules of one directory's ignore files that look at more than one component."""

    start: _State

    def enter(self, state: _State, name: str, /) -> _State:
        """The state of a sub-directory; a false one where no rule can match any more."""

    def names(self, state: _State, /) -> NameIndex | None:
        """What the rules say about the names in a directory of this state."""

    def reincludes(self, state: _State, /) -> int:
        """The number of the last rule that may keep something below, NO_RULE for none."""

    def size(self, state: _State, /) -> int:
        """About how many bytes the state takes."""


class _Layer(NamedTuple):
    """All rules that govern the same directory. Their numbers are global: a higher number has the last word."""

    names: NameIndex | None
    paths: PathRules | None
    last_negated: int
    last_negated_name: int


class _Directory(NamedTuple):
    """What is known about a directory before any of its names is looked at. Never changed once made."""

    inherited: int
    """The last rule that matched the directory, or one above it; it holds for everything below."""
    settled: bool
    """Nothing below is looked at: `inherited` decides."""
    file: Probe
    """The rule that decides a file of this name."""
    dir: Probe
    layers: tuple[_Layer, ...]
    paths: tuple[tuple[PathRules, _State], ...]
    """The path rules that are still alive here."""


class Evaluator:
    """The rules of one tree, compiled. Paths and bases are byte text. Safe to share between threads."""

    def __init__(self, dialect: Dialect, rules: Sequence[Rule]) -> None:
        self._prunes = dialect is Dialect.GITIGNORE
        self._negated = [rule.negated for rule in rules]
        by_base: dict[str, list[tuple[int, Rule]]] = {}
        for number, rule in enumerate(rules):
            by_base.setdefault(rule.base, []).append((number, rule))
        compile_layer = _git_layer if dialect is Dialect.GITIGNORE else _flux_layer
        self._layers = {base: compile_layer(some) for base, some in by_base.items()}
        top = self._layers.get("")
        self._root = self._directory(
            NO_RULE, (top,) if top else (), ((top.paths, top.paths.start),) if top and top.paths else ()
        )
        self._directories: dict[str, _Directory] = {"": self._root}
        self._room = _MAX_STATE_BYTES

    def deciding(self, path: str) -> int:
        """The number of the rule that decides this file, or NO_RULE."""
        parent, _, name = path.rpartition("/")
        directory = self._directories.get(parent) or self._enter(parent)
        return directory.file(name)

    def prunable(self, path: str) -> bool:
        """Is there surely nothing to keep below this directory? (False says nothing.)"""
        directory = self._directories.get(path) or self._enter(path)
        decisive = directory.inherited
        if decisive == NO_RULE or self._negated[decisive]:
            return False
        if self._prunes:
            return True
        below = path + "/" if path else ""
        nested = (layer.last_negated for base, layer in self._layers.items() if base.startswith(below) and base != path)
        active = [layer.last_negated_name for layer in directory.layers]
        active += [paths.reincludes(state) for paths, state in directory.paths]
        return max((*nested, *active), default=NO_RULE) < decisive

    def _enter(self, path: str) -> _Directory:
        """Walk down to a directory from the nearest one above that is remembered."""
        directories = self._directories  # another thread may start a new one
        known, missing = path, []
        while (directory := directories.get(known)) is None:
            known, _, name = known.rpartition("/")
            missing.append(name)
        for name in reversed(missing):
            known = f"{known}/{name}" if known else name
            parent, directory = directory, self._child(directory, name, known)
            self._room -= _ENTRY_BYTES + len(known)
            if directory is not parent:
                self._room -= _DIRECTORY_BYTES + sum([paths.size(state) for paths, state in directory.paths])
            if self._room < 0:
                self._directories = directories = {"": self._root}
                self._room = _MAX_STATE_BYTES
            directories[known] = directory
        return directory

    def _child(self, parent: _Directory, name: str, path: str) -> _Directory:
        if parent.settled:
            return parent
        best = parent.dir(name)
        if self._prunes:
            if best != NO_RULE and not self._negated[best]:
                return _Directory(best, True, best_of((), best), best_of((), best), (), ())
            best = NO_RULE  # git asks again on each level
        layer = self._layers.get(path)
        if layer is None and not parent.paths and best == parent.inherited:
            return parent  # nothing is different here
        paths = [(some, after) for some, state in parent.paths if (after := some.enter(state, name))]
        layers = parent.layers
        if layer is not None:
            layers = (*layers, layer)
            if layer.paths is not None:
                paths.append((layer.paths, layer.paths.start))
        return self._directory(best, layers, tuple(paths))

    @staticmethod
    def _directory(
        inherited: int, layers: tuple[_Layer, ...], paths: tuple[tuple[PathRules, _State], ...]
    ) -> _Directory:
        indexes = [layer.names for layer in layers if layer.names is not None]
        indexes += [index for some, state in paths if (index := some.names(state)) is not None]
        file = best_of([index.files for index in indexes], inherited)
        directory = best_of([index.dirs for index in indexes], inherited)
        return _Directory(inherited, False, file, directory, layers, paths)


def _git_layer(rules: Iterable[tuple[int, Rule]]) -> _Layer:
    names: list[tuple[int, Rule, list[Item]]] = []
    paths: list[tuple[int, Rule, list[Item]]] = []
    for number, rule in rules:
        for_names, items = parse_pattern(rule.pattern)
        if items is not None:
            (names if for_names else paths).append((number, rule, items))
    return _Layer(git_names(names), GitPaths(paths) if paths else None, NO_RULE, NO_RULE)


def _flux_layer(rules: Iterable[tuple[int, Rule]]) -> _Layer:
    names: list[tuple[int, Rule, tuple[gomatch.GoItem, ...]]] = []
    paths: list[tuple[int, Rule, tuple[flux.Part, ...]]] = []
    last_negated = last_negated_name = NO_RULE
    for number, rule in rules:
        parts: tuple[flux.Part, ...] | None
        if "/" in rule.pattern:
            parts = flux.parse_parts(rule.pattern)
            for_names = parts is not None and len(parts) == 1 and parts[0].anywhere  # `**/name` is `name`
        else:
            glob = gomatch.parse_glob(rule.pattern)
            parts = None if not glob else (flux.Part(tuple(glob), True),)
            for_names = True
        if parts is None:
            continue
        if for_names:
            names.append((number, rule, parts[0].glob))
        else:
            paths.append((number, rule, parts))
        if rule.negated:
            last_negated = number
            if for_names:
                last_negated_name = number
    return _Layer(flux.flux_names(names), flux.FluxPaths(paths) if paths else None, last_negated, last_negated_name)
