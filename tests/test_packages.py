"""Which package may import which: packages of a layer import those of the layers below, and modules beside them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each imports of its own top package, beside itself; `store` and `sequence` stand for their types everywhere.
LAYERS = {
    "store_spec/format": {"errors", "schema"},
    "store_spec/disk": {"errors", "schema", "format"},
    "store_spec/reading": {"errors", "schema", "format", "disk", "store", "notebook"},
    "store_spec/windows": {"errors", "format", "reading", "store", "notebook"},
    "store_spec/whole": {"errors", "format", "reading", "windows", "store"},
    "store_spec/verification": {"errors", "schema", "format", "disk", "reading"},
    "builder/formats": {"errors"},
    "builder/labels": {"errors", "formats", "sequence", "sources"},
    "builder/tables": {"errors", "formats", "labels", "sequence"},
    "builder/manifest": {"errors", "formats", "labels", "tables", "text_labels"},
}


def imported(folder: Path) -> set[str]:
    """Return what the modules of a package import of its top package: the first name below that."""
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
def test_packages_import_one_way(package):
    assert imported(ROOT / package) <= LAYERS[package]


def test_every_package_has_its_layer():
    found = {
        f"{top}/{path.parent.name}" for top in ("store_spec", "builder") for path in ROOT.glob(f"{top}/*/__init__.py")
    }
    assert found - set(LAYERS) == {"builder/cli", "builder/report"}  # which everything else knows nothing of


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_adapters_stay_thin(framework):
    assert len((ROOT / f"store_spec/{framework}.py").read_text().splitlines()) < 150
