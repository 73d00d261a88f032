"""Check that the sdist and the wheel in a folder contain the files whose absence no import would notice.

python .ci/check_distributions.py DIST
"""

import sys
import tarfile
import zipfile
from pathlib import Path

NEEDED = (
    "builder/__init__.py",
    "builder/py.typed",
    "builder/inspection/templates/page.html",
    "builder/inspection/templates/style.css",
    "store_spec/__init__.py",
    "store_spec/py.typed",
    "store_spec/SPEC.md",
)


def names_in(distribution: Path) -> set[str]:
    """List the files of a wheel, or of an sdist without the name of its one top folder."""
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            return set(wheel.namelist())
    with tarfile.open(distribution) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def main(folder: Path) -> int:
    """Print a line for each distribution and each file that it lacks; return the exit status."""
    distributions = sorted(folder.iterdir())
    kinds = sorted(path.suffix for path in distributions)
    if kinds != [".gz", ".whl"]:
        print(f"{folder}: holds {kinds}, but one sdist (.gz) and one wheel (.whl) are needed")
        return 1
    lacking = {path.name: sorted(set(NEEDED) - names_in(path)) for path in distributions}
    for name, missing in lacking.items():
        print(f"{name}: " + (f"lacks {', '.join(missing)}" if missing else f"holds all {len(NEEDED)} files needed"))
    return 1 if any(lacking.values()) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
