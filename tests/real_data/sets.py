"""Run the commands of each set of the gallery, and compare its stores with those of its script."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real_data import camels, cmapss, japanese_vowels, nab, spoken_digits, watch
from tests.real_data.compared import differences, windows_by_loop
from tests.real_data.gallery import Entry, run
from tests.real_data.plain import Expected

SCRIPTS: Mapping[str, Callable[[Path], dict[str, Expected]]] = {
    "nab": nab.expected,
    "cmapss": cmapss.expected,
    "watch": watch.expected,
    "japanese-vowels": japanese_vowels.expected,
    "camels": camels.expected,
    "spoken-digits": spoken_digits.expected,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A store, and its differences from the script."""

    name: str
    sources: int
    sequences: int
    steps: int
    dropped: int
    filled: int
    windows: int
    differences: tuple[str, ...]


def seen(entry: Entry, data: Path, folder: Path) -> list[Seen]:
    """Run the commands of a set, and compare every store that they make.

    Raises:
        DocumentError: A command does not do what the gallery shows.
    """
    run(entry, data, folder)
    expected = SCRIPTS[entry.name](folder / entry.name)
    made = {path.name for path in folder.glob("*.zarr")}
    stores = [outcome(folder / name, each) for name, each in expected.items() if name in made]
    others = sorted(made ^ set(expected))
    return stores + [
        Seen(name=name, sources=0, sequences=0, steps=0, dropped=0, filled=0, windows=0,
             differences=(f"{name}: {'no script tells what it is' if name in made else 'no command makes it'}",))
        for name in others
    ]  # fmt: skip


def outcome(path: Path, expected: Expected) -> Seen:
    """Compare a store."""
    sequences = expected.sequences
    counts = {name: sum(int(one.columns.get(name, 0)) for one in sequences) for name in ("dropped", "filled")}
    return Seen(
        name=path.name,
        sources=len({one.source for one in sequences}),
        sequences=len(sequences),
        steps=sum(len(one.inputs) for one in sequences),
        dropped=counts["dropped"],
        filled=counts["filled"],
        windows=sum(1 for _ in windows_by_loop(expected)),
        differences=tuple(differences(path, expected)),
    )
