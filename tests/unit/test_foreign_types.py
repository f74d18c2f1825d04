"""The transport stays behind its door: no type of somebody else's HTTP library or cloud client is in a public signature."""

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Iterator

import attrs
import pytest

import fluxsrc

OURS = {"fluxsrc", "attr", "attrs", *sys.stdlib_module_names}
MODULES = [
    "fluxsrc",
    "fluxsrc.auth",
    "fluxsrc.bucket",
    "fluxsrc.errors",
    "fluxsrc.http_artifact",
    "fluxsrc.inspect",
    "fluxsrc.keychains",
    "fluxsrc.oci",
    "fluxsrc.operation",
    "fluxsrc.source",
    "fluxsrc.store",
]


def annotations_of(value: object) -> Iterator[object]:
    """Those of a function; of a class's fields, and of its public methods and properties."""
    if inspect.isfunction(value):
        yield from typing.get_type_hints(value).values()
    elif inspect.isclass(value):
        if attrs.has(value):
            yield from typing.get_type_hints(value).values()
        for name, member in vars(value).items():
            member = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            if inspect.isfunction(member) and (not name.startswith("_") or name == "__init__"):
                yield from typing.get_type_hints(member).values()


def types_in(annotation: object) -> Iterator[type]:
    """The classes in an annotation, however deep."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from types_in(argument)


@pytest.mark.parametrize("module", MODULES)
def test_public_signatures_name_only_our_own_types_and_the_standard_library_s(module):
    loaded = importlib.import_module(module)
    found = 0
    for name in loaded.__all__:
        for annotation in annotations_of(getattr(loaded, name)):
            for kind in types_in(annotation):
                found += 1
                assert kind.__module__.partition(".")[0] in OURS, f"{module}.{name}: {kind}"
    assert found > 10


def test_the_look_would_find_a_foreign_type():
    """What the test above relies on."""

    class Foreign:
        __module__ = "httpx"

    def function(value: list[Foreign | None]) -> fluxsrc.Digest: ...

    function.__annotations__["value"] = list[Foreign | None]
    modules = {kind.__module__ for annotation in annotations_of(function) for kind in types_in(annotation)}
    assert {"httpx", "fluxsrc.digest"} <= modules
