"""The imports of packages: from layers below and modules beside them; of other projects only what is declared.

`store_spec` needs and imports less than `builder`.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    "builder/inspection": "amounts options planning",
    "builder/execution": "amounts frames inspection labels manifest options planning processes sources workers",
    "builder/maintenance": "amounts execution formats labels planning processes sequence sources workers",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {extra: needs for extra, needs in PROJECT["optional-dependencies"].items() if extra != "test"}
OURS = {"builder", "store_spec"}


def imports_of(module: Path) -> Iterator[tuple[int, str, set[str]]]:
    """Yield the line, the module and the names of each import of a module, at its top or anywhere below."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, set()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.lineno, node.module, {alias.name for alias in node.names}


def modules_of(*folders: str) -> list[Path]:
    return [module for folder in folders for module in sorted((ROOT / folder).rglob("*.py"))]


def imported(folder: Path) -> set[str]:
    """Return what the modules of a package import from its top package: the first name below that."""
    found = set()
    for module in folder.glob("*.py"):
        for _, name, names in imports_of(module):
            first, _, below = name.partition(".")
            if first == folder.parent.name:
                found |= {below.partition(".")[0]} if below else names
    return found - {folder.name}


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_only_lower_layers(package):
    assert imported(ROOT / package) <= {
        "collector",
        "lazy_property",
        "errors",
        "build_errors",
        *LAYERS[package].split(),
    }


def test_builder_uses_only_the_public_names_of_store_spec():
    public = {"store_spec": set(store_spec.__all__), "store_spec.building": set(vars(building))}
    wrong = [
        f"{module.relative_to(ROOT)}:{line}"
        for module in modules_of("builder")
        for line, name, names in imports_of(module)
        if name.partition(".")[0] == "store_spec" and (name not in public or not names <= public[name])
    ]
    assert not wrong


def test_every_package_has_its_layer():
    found = {
        f"{top}/{path.parent.name}" for top in ("store_spec", "builder") for path in ROOT.glob(f"{top}/*/__init__.py")
    }
    assert found - set(LAYERS) == {"builder/cli"}  # nothing else knows these


def third_party(*modules: Path) -> set[str]:
    """Return the top-level packages of other projects that modules import."""
    found = {name.partition(".")[0] for module in modules for _, name, _ in imports_of(module)}
    return found - OURS - sys.stdlib_module_names


def packages_of(requirements: list[str]) -> set[str]:
    """Return the packages that requirements install: each project, and each extra, has the name of its package."""
    return {name for each in map(Requirement, requirements) for name in (each.name, *each.extras)}


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


def test_builder_does_not_import_zarr():
    """Not even inside functions: `store_spec` writes stores."""
    assert "zarr" not in third_party(*modules_of("builder"))


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_adapters_stay_thin(framework):
    assert len((ROOT / f"store_spec/{framework}.py").read_text().splitlines()) < 220


NEVER = {
    *("dask", "distributed", "pyarrow", "click", "rich", "builder", "pandas"),
    *("torch", "torchdata", "tensorflow", "keras", "jax", "grain", "xarray", "tensorstore"),
}

WORK = """
import tempfile, numpy as np, pickle
for axis in ("step", "sequence", "own"):
    path = tempfile.mkdtemp() + "/store"
    labels = np.zeros(() if axis == "sequence" else 50, "int8")
    options = dict(inputs=("float32", (3,)), labels=("int8", ()), label_axis=axis, chunk=60, shard=120)
    with store_spec.create_store(path, **options) as writer:
        writer.append(np.ones((50, 3), "float32"), labels, source="a")
    with store_spec.open_store(path, "a") as writer:
        writer.append(np.ones((50, 3), "float32"), labels, source="b")
    store = pickle.loads(pickle.dumps(store_spec.open_store(path)))
    assert [x.sum() for x, y in store.split("train", {"train": 1.0})] == [150, 150]
    assert store.stats().inputs.mean.tolist() == [1, 1, 1]
    assert store_spec.verify(path) == []
    if axis == "step":
        assert len(list(store.windows(10).batches(8, shuffle=True))) == 10
    assert sum(len(batch[0]) for batch in store.padded(2)) == 2
"""


def needed_by(*distributions: str) -> set[str]:
    """Return the names under which some distributions, and all their requirements, are imported."""
    needed, found = list(distributions), set()
    while needed:
        if (name := canonicalize_name(needed.pop())) in found:
            continue
        found.add(name)
        required = map(Requirement, metadata.requires(name) or ())
        needed += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    names = metadata.packages_distributions().items()
    return {package for package, owners in names if found & {canonicalize_name(owner) for owner in owners}}


# Hides everything but the standard library, and numpy, zarr, numcodecs and crc32c with their requirements.
ONLY = f"""
import sys
allowed = {{
    "store_spec",
    *{sorted(needed_by("numpy", "zarr", "numcodecs", "crc32c"))!r},
    *sys.stdlib_module_names,
}}
class Gate:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        shown = top in allowed or (path is None and top.startswith("_"))
        return self.finder.find_spec(name, path, target) if shown else None
sys.meta_path[:] = map(Gate, sys.meta_path)
import store_spec
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code: str) -> set[str]:
    """Return the packages that some code imports, without those of the standard library."""
    listing = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    return {name for name in run(code + listing).split() if not name.startswith("_")}


def test_importing_store_spec_loads_no_engine_and_no_framework():
    found = loaded("import store_spec")
    assert not found & {*NEVER, "zarr", "obstore", "fsspec"}
    assert {"store_spec", "numpy", "numcodecs"} <= found
    ours = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert found & ours == {"store_spec"}


@pytest.mark.slow
def test_writing_and_reading_import_no_more():
    assert not loaded("import store_spec" + WORK) & NEVER


def test_reading_a_folder_loads_no_zarr():
    golden = ROOT / "tests" / "data" / "golden" / "v1" / "steps.zarr"
    work = f"""
import store_spec
store = store_spec.open_store({str(golden)!r})
list(store), list(store.windows(2).batches(2)), list(store.padded(2))
assert store_spec.verify({str(golden)!r}) == []
"""
    assert "zarr" not in loaded(work)


def test_numpy_zarr_numcodecs_and_crc32c_are_enough():
    run(ONLY + WORK)


def test_the_hiding_of_packages_in_the_test_above_works():
    code = ONLY + "try: import click\nexcept ModuleNotFoundError as error: print(error)"
    assert run(code) == "No module named 'click'\n"


def test_importing_store_spec_changes_nothing_of_zarr_and_starts_nothing():
    code = """
import threading, zarr
def settings(): return repr(zarr.config.to_dict() if hasattr(zarr.config, "to_dict") else zarr.config.config)
before = settings()
import store_spec
assert settings() == before
assert threading.active_count() == 1
"""
    run(code)
