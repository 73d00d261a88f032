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
import sys
import time
from pathlib import Path

from tests.documents import DocumentError
from tests.frozen.building import SAMPLES
from tests.frozen.cases import HERE, of_gallery, of_repository
from tests.frozen.record import compare, record


def main() -> int:
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
    given = parser.parse_args()
    data: Path = given.data or HERE
    if not data.is_dir():
        print(f"nothing done: there is no folder {data}")
        return 0
    start = time.monotonic()
    try:
        if given.action == "compare":
            return 1 if compare(given.file, data, quick=given.quick) else 0
        cases = of_repository()
        if given.data:
            known = {case.name for case in cases}
            cases = [case for case in of_gallery() if case.name not in known]
        record(given.file, cases, data, () if given.data else SAMPLES)
    except DocumentError as error:
        print(error)
        return 1
    finally:
        print(f"took {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
