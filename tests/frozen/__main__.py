"""Record what seqzarr makes of known files, or compare with such a record, in the root of the repository.

    python -m tests.frozen record tests/data/frozen.json
    python -m tests.frozen compare tests/data/frozen.json
    python -m tests.frozen compare tests/data/frozen-gallery.json --data FOLDER

The cases are from the documents, from the gallery of builder/README.md, and from `tests/frozen/cases.py`. A record has
their commands and files, and the SHA-256 of every file of their stores and of everything that the reader returns. Each
case is made as written, with 0 and 2 worker processes, and with small shards, with 0 and 2 worker processes, and killed
and resumed. `compare` runs the commands of the record, even if the documents have changed, prints a line for each
difference, and exits with 1 if there is any.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.frozen.building import BuildingError
from tests.frozen.cases import HERE, Case, of_gallery, of_repository
from tests.frozen.record import Counts, compare, made_by, other_cases, other_versions, record
from tests.frozen.samples import SAMPLES


def main(arguments: list[str] | None = None) -> int:
    """Record or compare; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.frozen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("file", type=Path, metavar="FILE", help="the record")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the gallery's sets in FOLDER, instead of what is in the repository"
    )
    parser.add_argument("--quick", action="store_true", help="compare some cases alone, as written and without workers")
    given = parser.parse_args(arguments)
    data = given.data or HERE
    if not data.is_dir():
        print(f"nothing done: there is no folder {data}")
        return 0
    cases = cases_of(given.data)
    start = time.monotonic()
    try:
        if given.action == "record":
            return write_record(given.file, cases, data, samples=given.data is None)
        return print_differences(given.file, cases, data, quick=given.quick)
    except BuildingError as error:
        print(error)
        return 1
    finally:
        print(f"took {time.monotonic() - start:.0f} s", file=sys.stderr)


def cases_of(data: Path | None) -> list[Case]:
    """Return the current cases: of the repository, or of the data sets of the gallery in a folder."""
    known = of_repository()
    return known if data is None else [case for case in of_gallery() if case.name not in {one.name for one in known}]


def write_record(file: Path, cases: list[Case], data: Path, *, samples: bool) -> int:
    """Record all cases."""
    kept, counts = record(cases, data, SAMPLES if samples else ())
    file.write_text(json.dumps(kept, sort_keys=True, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: {counts}; by {', '.join(f'{name} {which}' for name, which in made_by().items())}")
    return 0


def print_differences(file: Path, cases: list[Case], data: Path, *, quick: bool) -> int:
    """Compare all cases of a record; return the exit status."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    for line in other_cases(recorded, cases):
        print(f"note: {line}")
    counts, found = Counts(), 0
    for line in compare(recorded, data, counts, quick=quick):
        print(line, flush=True)
        found += 1
    others = other_versions(recorded)
    if others:
        print(f"note: run by {', '.join(others)}" + ("; compressed bytes may differ by that" if found else ""))
    left_out = len(recorded["cases"]) - counts.cases
    print(
        f"{file}: {found:,} differences in {counts}"
        + (f"; quick: {left_out:,} cases left out, and all ways but one" if quick else "")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
