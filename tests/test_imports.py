"""What store_spec needs, and what it never imports."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parents[1]
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


def packages_of(*distributions: str) -> set[str]:
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
    *{sorted(packages_of("numpy", "zarr", "numcodecs", "crc32c"))!r},
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
        [sys.executable, "-W", "error", "-c", code], cwd=HERE, capture_output=True, text=True, check=False
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
    ours = {file.parent.name for file in HERE.glob("*/__init__.py")}
    assert found & ours == {"store_spec"}


@pytest.mark.slow
def test_writing_and_reading_import_no_more():
    assert not loaded("import store_spec" + WORK) & NEVER


def test_reading_a_folder_loads_no_zarr():
    golden = HERE / "tests" / "data" / "golden" / "v1" / "steps.zarr"
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
before = zarr.config.to_dict() if hasattr(zarr.config, "to_dict") else dict(zarr.config.config)
before = repr(before)
import store_spec
after = zarr.config.to_dict() if hasattr(zarr.config, "to_dict") else dict(zarr.config.config)
assert repr(after) == before
assert threading.active_count() == 1
"""
    run(code)
