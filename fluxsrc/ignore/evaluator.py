"""`Evaluator`: which rule decides a path. One pass over the directories on the way, remembered, then one name."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import attrs

from fluxsrc.ignore.flux import FluxPaths, Part, flux_names, parse_glob, parse_parts
from fluxsrc.ignore.gitignore import GitPaths, git_names, parse_pattern
from fluxsrc.ignore.names import NameIndex, Probe
from fluxsrc.ignore.parsing import Rule
from fluxsrc.recipe import Dialect

__all__ = ["Evaluator"]

_MAX_DIRECTORIES: Final = 4096
_MAX_STATE_BYTES: Final = 8 * 1024 * 1024
"""What remembering directories may cost: whichever of the two is reached first."""

_State: TypeAlias = Any
"""Whatever a dialect's path rules say about a directory; only they look inside."""


class PathRules(Protocol):
    """The rules of one ignore file that look at more than one component."""

    start: _State
    state_bytes: int

    def enter(self, state: _State, name: str, /) -> _State: ...
    def names(self, state: _State, /) -> NameIndex | None: ...
    def reincludes(self, state: _State, /) -> int: ...


@attrs.frozen
class _Layer:
    """All rules that govern the same directory. Their numbers are global: a higher number has the last word."""

    names: NameIndex | None
    paths: PathRules | None
    last_negated: int
    last_negated_name: int


@attrs.frozen
class _Directory:
    """What is known about a directory before any of its names is looked at."""

    inherited: int
    """The last rule that matched the directory, or one above it; it holds for everything below. -1: none."""
    settled: bool
    """Nothing below is looked at: `inherited` decides."""
    files: tuple[Probe, ...]
    dirs: tuple[Probe, ...]
    layers: tuple[tuple[_Layer, _State], ...]


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
        state_bytes = sum(layer.paths.state_bytes for layer in self._layers.values() if layer.paths)
        self._max_directories = max(16, min(_MAX_DIRECTORIES, _MAX_STATE_BYTES // (state_bytes + 1)))
        self._root = self._directory(-1, settled=False, layers=self._added((), ""))
        self._directories: dict[str, _Directory] = {"": self._root}

    def deciding(self, path: str) -> int:
        """The number of the rule that decides this file, -1 if none does."""
        parent, _, name = path.rpartition("/")
        directory = self._directories.get(parent)
        if directory is None:
            directory = self._enter(parent)
        best = directory.inherited
        if directory.settled:
            return best
        for probe in directory.files:
            found = probe(name)
            if found > best:
                best = found
        return best

    def prunable(self, path: str) -> bool:
        """Is there surely nothing to keep below this directory? (False says nothing.)"""
        directory = self._directories.get(path) or self._enter(path)
        decisive = directory.inherited
        if decisive < 0 or self._negated[decisive]:
            return False
        if self._prunes:
            return True
        below = path + "/" if path else ""
        nested = (layer.last_negated for base, layer in self._layers.items() if base.startswith(below) and base != path)
        active = (
            max(layer.last_negated_name, layer.paths.reincludes(state) if layer.paths else -1)
            for layer, state in directory.layers
        )
        return max((*nested, *active), default=-1) < decisive

    def _enter(self, path: str) -> _Directory:
        """Walk down to a directory from the nearest one above that is remembered."""
        known = path
        while known not in self._directories:
            known = known.rpartition("/")[0]
        directory = self._directories.get(known, self._root)
        rest = path[len(known) :].removeprefix("/") if known else path
        for name in rest.split("/") if rest else ():
            known = f"{known}/{name}" if known else name
            directory = self._child(directory, name, known)
            if len(self._directories) >= self._max_directories:
                self._directories = {"": self._root}
            self._directories[known] = directory
        return directory

    def _child(self, parent: _Directory, name: str, path: str) -> _Directory:
        if parent.settled:
            return parent
        best = parent.inherited
        for probe in parent.dirs:
            best = max(best, probe(name))
        if self._prunes:
            # Git asks again on each level, unless the directory itself is excluded.
            if best >= 0 and not self._negated[best]:
                return _Directory(best, True, (), (), ())
            best = -1
        layers = tuple((la, la.paths.enter(state, name) if la.paths else None) for la, state in parent.layers)
        return self._directory(best, settled=False, layers=self._added(layers, path))

    def _added(self, layers: tuple[tuple[_Layer, _State], ...], path: str) -> tuple[tuple[_Layer, _State], ...]:
        layer = self._layers.get(path)
        return layers if layer is None else (*layers, (layer, layer.paths.start if layer.paths else None))

    @staticmethod
    def _directory(inherited: int, *, settled: bool, layers: tuple[tuple[_Layer, _State], ...]) -> _Directory:
        indexes = [layer.names for layer, _ in layers]
        indexes += [layer.paths.names(state) for layer, state in layers if layer.paths]
        found = [index for index in indexes if index is not None]
        files, dirs = tuple(index.files.best for index in found), tuple(index.dirs.best for index in found)
        return _Directory(inherited, settled, files, dirs, layers)


def _git_layer(rules: Iterable[tuple[int, Rule]]) -> _Layer:
    names, paths = [], []
    for number, rule in rules:
        for_names, items = parse_pattern(rule.pattern)
        if items is not None:
            (names if for_names else paths).append((number, rule, items))
    return _Layer(git_names(names), GitPaths(paths) if paths else None, -1, -1)


def _flux_layer(rules: Iterable[tuple[int, Rule]]) -> _Layer:
    names, paths = [], []
    last_negated = last_negated_name = -1
    for number, rule in rules:
        parts: tuple[Part, ...] | None
        if "/" in rule.pattern:
            parts = parse_parts(rule.pattern)
            for_names = parts is not None and len(parts) == 1 and parts[0].anywhere  # `**/name` is `name`
        else:
            glob = parse_glob(rule.pattern)
            parts = None if not glob else (Part(tuple(glob), True),)
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
    return _Layer(flux_names(names), FluxPaths(paths) if paths else None, last_negated, last_negated_name)
