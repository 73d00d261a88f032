"""The examples in docstrings run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import builder
import store_spec

# These import a framework, and other tests run them.
FRAMEWORKS = {"store_spec.torch", "store_spec.tensorflow"}

MODULES = [
    module.name
    for package in (builder, store_spec)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if module.name not in FRAMEWORKS and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["builder", "store_spec", *MODULES])
def test_the_examples_in_the_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_docstrings_have_examples():
    """The test above would pass for a package whose modules were not found."""
    for package in (builder, store_spec):
        folder = Path(package.__path__[0])
        assert (
            len([name for name in MODULES if name.startswith(package.__name__)]) >= len(list(folder.glob("*.py"))) - 4
        )
        assert any(">>> " in file.read_text() for file in folder.glob("*.py"))
