"""What a store records of its builds: the options of the first one, and which code made which sequences.

In `provenance["build"]`: `process`, either `{"tabular": its options}` or `{"function": "module:name"}`; `label_axis`,
null if it was not given; `manifest`, null or its `key`, `columns`, `only_listed` and `path`; and `code`, pairs of a
sequence's number and the SHA-256 of the source of the process function's module, from which the sequences from that
number on were made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.errors import UsageError
from builder.manifest import DEFAULT_KEY, ManifestLabels, found_below, place_below
from builder.sources import SourceList
from store_spec.schema import LabelAxis

ELSEWHERE = "build to another path"
Code = tuple[tuple[int, str], ...]  # (number of a sequence, SHA-256 of what made it and those after it), rising


def describe_build(
    process: dict[str, Any], label_axis: LabelAxis | None, manifest: ManifestLabels | None, root: Path
) -> dict[str, Any]:
    """Return what a new store records of its build."""
    table = None
    if manifest is not None and manifest.path is not None:
        table = {
            "key": manifest.key or DEFAULT_KEY,
            "columns": None if manifest.parts is None else list(manifest.parts),
            "only_listed": bool(manifest.only_listed),
            "path": place_below(manifest.path, root),
        }
    return {"process": process, "label_axis": label_axis, "manifest": table, "code": []}


def note_code(provenance: dict[str, Any], first: int, code: str) -> None:
    """Record that the sequences from number `first` on come from this code, unless those before them do too.

    So it leaves no trace how often a build was cut off and went on.
    """
    build = provenance["build"]
    pairs = build["code"]
    if not pairs or pairs[-1][1] != code:
        provenance["build"] = build | {"code": [*pairs, [first, code]]}


def of_some(provenance: dict[str, Any], numbers: NDArray[np.int64]) -> dict[str, Any]:
    """Return what a store records, for a store that holds some of its sequences alone, under new numbers.

    >>> of_some({"build": {"code": [[0, "a"], [3, "b"], [4, "c"]]}}, np.array([0, 1, 4]))
    {'build': {'code': [[0, 'a'], [2, 'c']]}}
    """
    build = provenance.get("build")
    if not (isinstance(build, dict) and _is_code(build.get("code"))):
        return provenance
    pairs: list[list[Any]] = []
    places = np.searchsorted(numbers, [first for first, _ in build["code"]]).tolist()
    for place, (_, code), end in zip(places, build["code"], [*places[1:], len(numbers)], strict=True):
        if place < end and (not pairs or pairs[-1][1] != code):
            pairs.append([place, code])
    return provenance | {"build": build | {"code": pairs}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The options of the build that made a store."""

    store: Path
    process: dict[str, Any]  # as `describe_process` gives it
    manifest: dict[str, Any] | None
    label_axis: LabelAxis  # that the store has, whether it was given or guessed
    code: Code

    @classmethod
    def of(cls, held: store_spec.Store) -> Recorded:
        """Read it from a store.

        Raises:
            UsageError: No build made the store, or what it records cannot be understood.
        """
        build = held.provenance.get("build")
        if not isinstance(build, dict):
            raise UsageError(f"{held.path}: no build made this store, so none can bring it up to date; {ELSEWHERE}")
        for name, fits in (("process", _is_process), ("manifest", _is_manifest), ("code", _is_code)):
            if not fits(build.get(name)):
                raise UsageError(
                    f"{held.path}: records {name} {str(build.get(name))[:200]} of its build, which cannot be "
                    f"understood; {ELSEWHERE}"
                )
        return cls(
            store=held.path,
            process=build["process"],
            manifest=build["manifest"],
            label_axis=held.schema.label_axis,
            code=tuple((first, code) for first, code in build["code"]),
        )

    def with_manifest(self, found: SourceList, table: ManifestLabels) -> tuple[SourceList, ManifestLabels]:
        """Find the manifest where it lay, unless a path is given; what lies there is no source.

        Raises:
            UsageError: It is not there.
        """
        place = self.manifest["path"] if self.manifest is not None else None
        path = table.path or (None if place is None else found_below(place, found.root))
        if path is None:
            lay = "did not lie below the sources" if place is None else f"lay in {found.root} as {place}, and is gone"
            raise UsageError(
                f"{self.store}: was built with a manifest that {lay}; give it again with manifest (--manifest)"
            )
        names, ignored = ([name for name in names if name != place] for names in (found.names, found.ignored))
        return replace(found, names=tuple(names), ignored=tuple(ignored)), replace(table, path=path)

    def outdated(self, code: str | None, held: store_spec.Store) -> tuple[str, ...]:
        """Return the sources of which sequences come from other code than this, in the order of the store."""
        if code is None:
            return ()
        firsts = np.array([first for first, _ in self.code], np.int64)
        codes = np.array(["", *(sha256 for _, sha256 in self.code)], object)  # "": before the first that is recorded
        other = codes[np.searchsorted(firsts, held.selection, "right")] != code
        return tuple(dict.fromkeys(held.sources[position] for position in np.flatnonzero(other)))


def _is_process(value: Any) -> bool:
    match value:
        case {"tabular": dict()} | {"function": str()}:
            return len(value) == 1
    return False


def _is_manifest(value: Any) -> bool:
    match value:
        case None:
            return True
        case {"key": str(), "columns": list() | None as columns, "only_listed": bool(), "path": str() | None}:
            return columns is None or (bool(columns) and all(isinstance(one, str) for one in columns))
    return False


def _is_code(value: Any) -> bool:
    """Tell whether it is a list of [number, text], the numbers rising from 0 on."""
    before = -1
    for pair in value if isinstance(value, list) else (None,):
        match pair:
            case [int(first), str()] if not isinstance(first, bool) and before < first < 2**63:
                before = first
            case _:
                return False
    return True
