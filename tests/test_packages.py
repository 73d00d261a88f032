"""The imports of packages: from layers below and modules beside them; of other projects only what is declared."""

import ast
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import store_spec
from store_spec import building

ROOT = Path(__file__).parents[1]
# What each imports from its own top package, besides itself and the errors; `store`, `sequence` and `options` are
# imported everywhere for their types.
LAYERS = {
    "store_spec/format": "schema",
    "store_spec/disk": "format schema",
    "store_spec/reading": "disk format schema store",
    "store_spec/windows": "format reading store",
    "store_spec/sequences": "format reading store windows",
    "store_spec/verification": "disk format reading schema",
    "builder/formats": "amounts options",
    "builder/sources": "formats",
    "builder/labels": "formats sources",
    "builder/options": "formats labels sources",
    "builder/manifest": "amounts formats labels options sources",
    "builder/frames": "formats labels options sequence sources",
    "builder/processes": "amounts formats frames labels sequence",
    "builder/workers": "amounts formats frames labels manifest processes sequence sources",
    "builder/planning": "amounts formats frames labels manifest options processes sources workers",
    "builder/inspection": "amounts frames planning",
    "builder/execution": "amounts frames inspection labels manifest options planning processes sources workers",
    "builder/maintenance": "amounts execution formats labels planning processes sequence sources workers",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {extra: needs for extra, needs in PROJECT["optional-dependencies"].items() if extra != "test"}
OURS = {"builder", "store_spec"}


def imported(folder: Path) -> set[str]:
    """Return what the modules of a package import from its top package: the first name below that."""
    top, own = folder.parent.name, folder.name
    found = set()
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                first, _, below = node.module.partition(".")
                if first == top:
                    found |= {below.partition(".")[0]} if below else {alias.name for alias in node.names}
    return found - {own}


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_only_lower_layers(package):
    assert imported(ROOT / package) <= {"collector", "errors", "build_errors", *LAYERS[package].split()}


def test_builder_uses_only_the_public_names_of_store_spec():
    public = {"store_spec": set(store_spec.__all__), "store_spec.building": set(vars(building))}
    wrong = [
        f"{module.relative_to(ROOT)}:{node.lineno}"
        for module in modules_of("builder")
        for node in ast.walk(ast.parse(module.read_text()))
        if (
            isinstance(node, ast.ImportFrom)
            and str(node.module).partition(".")[0] == "store_spec"
            and not {alias.name for alias in node.names} <= public.get(str(node.module), set())
        )
        or (isinstance(node, ast.Import) and any(alias.name.startswith("store_spec.") for alias in node.names))
    ]
    assert not wrong


def test_every_package_has_its_layer():
    found = {
        f"{top}/{path.parent.name}" for top in ("store_spec", "builder") for path in ROOT.glob(f"{top}/*/__init__.py")
    }
    assert found - set(LAYERS) == {"builder/cli"}  # nothing else knows these


def third_party(*modules: Path) -> set[str]:
    """Return the top-level packages of other projects that modules import, at their top or anywhere below."""
    found = set()
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                found.add(node.module)
    return {name.partition(".")[0] for name in found} - OURS - sys.stdlib_module_names


def modules_of(*folders: str) -> list[Path]:
    return [module for folder in folders for module in sorted((ROOT / folder).rglob("*.py"))]


def packages_of(requirements: list[str]) -> set[str]:
    """Return the packages that requirements install:

    each project, and each extra of one, has the name of its package.
    """
    names = [name for each in requirements for name in re.findall(r"[\w-]+", re.split("[<>=!~;]", each)[0])]
    return {name.replace("-", "_").lower() for name in names}


def test_requirements_name_packages():
    assert packages_of(["Dask[distributed] >= 2025.1", "google-crc32c"]) == {"dask", "distributed", "google_crc32c"}


def test_every_import_is_declared():
    """In the dependencies, or in an extra other than `test`, which users do not install."""
    declared = packages_of([*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values())])
    undeclared = {module: third_party(module) - declared for module in modules_of(*OURS)}
    assert {module: names for module, names in undeclared.items() if names} == {}


def test_every_dependency_is_imported():
    assert packages_of(PROJECT["dependencies"]) - third_party(*modules_of(*OURS)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_packages_of_extras_are_imported(extra):
    assert packages_of(EXTRAS[extra]) - third_party(*modules_of(*OURS, "tests/frameworks")) == set()


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_adapters_stay_thin(framework):
    assert len((ROOT / f"store_spec/{framework}.py").read_text().splitlines()) < 220
