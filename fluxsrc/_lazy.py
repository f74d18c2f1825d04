"""What is loaded when it is first used: public names of a package (PEP 562), and modules that few calls need."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["later", "names_of"]


def names_of(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package whose names live in its modules.

    Assign both where type checkers do not look (`else` of `if TYPE_CHECKING`): to them a module with a `__getattr__` has
    every name there could be, and no misspelt one would be an error.

    Args:
        package: The package's name.
        homes: For each public name the module below the package that has it. No module may be called like a name of
            another one: whichever is loaded last would win.
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        # For whoever completes by tab: no name that is there only to make the others.
        there = vars(sys.modules[package]).items()
        return sorted({*homes, *(name for name, value in there if name[0] == "_" or isinstance(value, ModuleType))})

    return load, names


def later(module: str) -> Any:
    """A module, imported when something of it is first used; for what is dear and seldom needed.

    Type checkers, and the test of the floors, see an ordinary import under `TYPE_CHECKING` beside it.
    """
    return _Later(module)


class _Later:
    __slots__ = ("_module",)

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)
