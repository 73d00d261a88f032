"""Run the commands of each set of the gallery, and compare its stores with those of its script."""

from pathlib import Path

from tests.real_data.compared import differences, windows_by_loop
from tests.real_data.gallery import Entry, run
from tests.real_data.plain import Expected
from tests.real_data.scripts import SCRIPTS

COUNTS = ("sources", "sequences", "steps", "dropped", "filled", "windows")


def compare_set(entry: Entry, data: Path, folder: Path) -> dict[str, tuple[list[int], list[str]]]:
    """Run the commands of a set; return for each store its counts, and its differences from the script.

    Raises:
        DocumentError: A command does not do what the gallery shows.
    """
    run(entry, data, folder)
    expected = SCRIPTS[entry.name](folder / entry.name)
    made = {path.name for path in folder.glob("*.zarr")}
    found = {
        name: (counts(each), list(differences(folder / name, each))) for name, each in expected.items() if name in made
    }
    for name in sorted(made ^ set(expected)):
        problem = f"{name}: {'no script tells what it is' if name in made else 'no command makes it'}"
        found[name] = [0] * len(COUNTS), [problem]
    return found


def counts(expected: Expected) -> list[int]:
    """Return the numbers in COUNTS."""
    sequences = expected.sequences
    dropped, filled = (sum(int(one.columns.get(name, 0)) for one in sequences) for name in ("dropped", "filled"))
    steps, windows = sum(len(one.inputs) for one in sequences), sum(1 for _ in windows_by_loop(expected))
    return [len({one.source for one in sequences}), len(sequences), steps, dropped, filled, windows]
