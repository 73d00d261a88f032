"""Run the gallery of builder/README.md on real files: `python -m tests.real_data FOLDER [SET ...]`, in the root.

FOLDER holds the data sets. Prints a table, and exits with 1 if a store differs from what the plain script of its set
returns.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.results import print_table
from tests.documents import DocumentError
from tests.real_data.gallery import gallery
from tests.real_data.sets import COUNTS, compare_set

SHOWN = 10  # differences of a store


def main() -> int:
    """Run the named sets, or all."""
    every = gallery()
    parser = argparse.ArgumentParser(prog="python -m tests.real_data", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder that holds the sets")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"by default all: {', '.join(every)}")
    given = parser.parse_args()
    rows, problems = [], []
    for name in given.sets or every:
        if name not in every:
            parser.error(f"{name} is no set of builder/README.md; there are {', '.join(every)}")
        if not (given.folder / name).is_dir():
            parser.error(f"there is no folder {given.folder / name}; name the sets that are there")
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                stores = compare_set(every[name], given.folder, Path(folder))
            except DocumentError as error:
                problems.append(str(error))
                continue
        seconds = f"{time.monotonic() - start:.0f}"
        for store, (counts, found) in stores.items():
            rows.append((name, store, *(f"{count:,}" for count in counts), seconds, "differs" if found else "equal"))
            problems += found[:SHOWN]
            problems += [f"and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
            seconds = ""  # only at the first
    if rows:
        print_table(("set", "store", *COUNTS, "s", ""), rows)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
