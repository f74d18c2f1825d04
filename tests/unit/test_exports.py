"""The public names: sorted, complete, loadable, documented."""

import importlib
import pkgutil
import pydoc
from pathlib import Path

import pytest

import fluxsrc
from fluxsrc import _HOMES

ROOT = Path(__file__).parents[2]

MODULES = sorted(module.name for module in pkgutil.iter_modules(fluxsrc.__path__) if not module.name.startswith("_"))


def test_all_is_sorted_and_has_no_repeats():
    """A sorted list merges without conflicts."""
    assert fluxsrc.__all__ == sorted(set(fluxsrc.__all__))


def test_all_is_exactly_what_has_a_home():
    """No name is promised that cannot be loaded, none can be loaded that is not promised."""
    assert fluxsrc.__all__ == sorted(_HOMES)


@pytest.mark.parametrize("name", fluxsrc.__all__)
def test_every_public_name_loads_and_has_a_docstring(name):
    """A public name without a docstring is not public yet."""
    value = getattr(fluxsrc, name)
    assert pydoc.getdoc(value), name
    assert name in dir(fluxsrc)


def test_an_unknown_name_is_an_attribute_error():
    """As of any module, so that `hasattr` and typos behave."""
    assert not hasattr(fluxsrc, "GitSorce")
    with pytest.raises(AttributeError, match="GitSorce"):
        fluxsrc.GitSorce  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_every_public_module_names_what_it_exports(name):
    """`__all__` of every public module is sorted and true."""
    module = importlib.import_module(f"fluxsrc.{name}")
    assert list(module.__all__) == sorted(set(module.__all__), key=_export_order)
    assert all(hasattr(module, exported) for exported in module.__all__)


def _export_order(name: str) -> tuple[int, str]:
    """As ruff sorts `__all__`: constants, classes, the rest."""
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, name


@pytest.mark.parametrize("name", MODULES)
def test_every_public_module_has_a_reference_page(name):
    """What one may import, one may look up."""
    page = ROOT / "docs" / "reference" / f"{name}.md"
    assert page.exists(), f"write {page.relative_to(ROOT)}"
    assert name == "cli" or f"automodule:: fluxsrc.{name}" in page.read_text()
