"""Every public name says what it is, and shows it in an example that runs."""

import doctest
import inspect
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

import slt_jax

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import public_names  # noqa: E402

MODULES = [module.name for module in pkgutil.walk_packages(slt_jax.__path__, "slt_jax.")]
NAMES = [(module, name) for _, module, name in public_names.public_names()]
LISTED = {module for family in public_names.FAMILIES for module in family.modules}


def is_documented(module, name):
    """Functions and classes of this library; constants and aliases of types have no docstring of their own."""
    value = inspect.unwrap(getattr(import_module(module), name))
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("slt_jax.")


DOCUMENTED = [(module, name) for module, name in NAMES if is_documented(module, name)]


@pytest.mark.parametrize(("module", "name"), DOCUMENTED, ids=lambda part: part.removeprefix("slt_jax."))
def test_a_public_name_has_a_docstring_with_an_example(module, name):
    text = inspect.getdoc(inspect.unwrap(getattr(import_module(module), name))) or ""
    assert len(text.split(">>>")[0].strip()) > 20, f"{module}.{name} does not say what it is"
    assert ">>> " in text, f"{module}.{name} has no example"


def test_no_module_is_left_out_of_the_reference():
    exporting = {name for name in MODULES if hasattr(import_module(name), "__all__")}
    assert exporting == LISTED | set(public_names.INSIDE)
    assert not LISTED & set(public_names.INSIDE)


def test_what_the_package_exports_is_in_the_reference():
    names = {name for _, name in NAMES}
    packages = {name for name in slt_jax.__all__ if inspect.ismodule(getattr(slt_jax, name))}
    assert set(slt_jax.__all__) - packages - {"__version__"} <= names
    assert set(slt_jax.theory.__all__) <= names
    assert len(DOCUMENTED) > 250


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in MODULES:
        for test in finder.find(import_module(module), globs={}):
            if test.examples:
                yield test


# An example that several modules show is, to `watch_compilations`, one function defined again and again.
@pytest.mark.filterwarnings("ignore::slt_jax.sampling.recompilation.RecompilationWarning")
@pytest.mark.parametrize("test", list(examples()), ids=lambda test: test.name.removeprefix("slt_jax."))
def test_the_example_does_what_it_says(test, capsys):
    """Each starts with nothing, so that it can be copied as it stands."""
    test.globs = {"__name__": "example"}
    results = doctest.DocTestRunner(verbose=False).run(test)
    assert results.failed == 0, capsys.readouterr().out
    assert results.attempted
