"""The public names: sorted, complete, loadable, documented."""

import ast
import importlib
import pkgutil
import pydoc
from pathlib import Path

import pytest

import fluxsrc

ROOT = Path(__file__).parents[2]

LAZY = [
    "fluxsrc",
    "fluxsrc.ignore",
    "fluxsrc.keychains",
    "fluxsrc.oci",
    "fluxsrc.signatures",
    "fluxsrc.tarball",
]

MODULES = sorted(module.name for module in pkgutil.iter_modules(fluxsrc.__path__) if not module.name.startswith("_"))


def test_all_is_sorted_and_has_no_repeats():
    """A sorted list merges without conflicts."""
    assert fluxsrc.__all__ == sorted(set(fluxsrc.__all__))


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_loaders_and_all_agree_about_every_name(package):
    """What is loaded at first use is written three times: no name is promised that cannot be loaded, and the reverse."""
    tree = ast.parse(Path(str(importlib.import_module(package).__file__)).read_text())
    (choice,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in choice.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: f"{node.module}" for node in imports for alias in node.names}
    (homes,) = (node for node in ast.walk(choice) if isinstance(node, ast.Dict))
    loaded = {name: f"{package}.{home}" for name, home in ast.literal_eval(homes).items()}
    assert seen == loaded
    assert set(importlib.import_module(package).__all__) - {"__version__"} == set(loaded)


@pytest.mark.parametrize("package", LAZY)
def test_no_module_hides_a_name_that_is_loaded_at_first_use(package):
    """`package.push` would be the function or the module, whichever was loaded last."""
    module = importlib.import_module(package)
    assert {found.name for found in pkgutil.iter_modules(module.__path__)} & set(module.__all__) == set()


@pytest.mark.parametrize("name", fluxsrc.__all__)
def test_every_public_name_loads_and_has_a_docstring(name):
    """A public name without a docstring is not public yet."""
    value = getattr(fluxsrc, name)
    assert pydoc.getdoc(value), name
    assert name in dir(fluxsrc)


@pytest.mark.parametrize("package", LAZY)
def test_tab_shows_public_names_and_modules_and_nothing_that_makes_them(package):
    """`TYPE_CHECKING` is nobody's."""
    module = importlib.import_module(package)
    shown = {name for name in dir(module) if not name.startswith("_")}
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert shown - modules == set(module.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error():
    """As of any module, so that `hasattr` and typos behave."""
    assert not hasattr(fluxsrc, "GitSorce")
    with pytest.raises(AttributeError, match="GitSorce"):
        getattr(fluxsrc, "GitSorce")  # noqa: B009 - to type checkers the name is an error already


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
