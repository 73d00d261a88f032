"""The record of builds in a store: the options of the first build, and the code that made each sequence.

`provenance["build"]` contains:

* `process`: `{"tabular": its options}`, or `{"function": "module:name"}` and, if given, its `arguments`, `missing`,
  `classes` and `label_pattern`.
* `label_axis`, or null if it was not given.
* `manifest`: its `key`, `columns`, `keep`, `only_listed` and `path`, or null.
* `code`: pairs of a sequence's number and the fingerprint of the process function that made the sequences from that
  number on (see `process_code`).
* `sequence_from`, if that option was given.
* `text_dtype`, if tables are float32 because the first source is text.
* `converted`, if `compact` changed a dtype: pairs of `inputs` or `labels` and a dtype. Rows are converted to these
  dtypes in that order.

`provenance["failures"]` has the sources that the last build could not use, and `provenance["skipped"]`, if it exists,
the empty sources. Later builds try failed sources again, but not empty ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.build_errors import UsageError
from builder.frames.tabular import tabular
from builder.manifest.manifest_table import DEFAULT_KEY
from builder.options.declaration import describe, options_of
from builder.planning.build_options import BuildOptions
from builder.processes.function_process import is_valid_record
from builder.processes.row_dtypes import Conversions, parse_conversions
from builder.sources.source_list import SourceList, check_sequence_from
from builder.workers.process_source import Failure, Skipped
from store_spec import LabelAxis

# The options of a manifest, with their names in the record.
OF_MANIFEST: Final = {"key": "key", "label_column": "columns", "keep": "keep", "manifest_only": "only_listed"}
ELSEWHERE = "build to another path"
OTHERWISE = f"{ELSEWHERE}, or remove this store and build again"
FAILURES: Final = "failures"  # in the provenance
LISTED_FAILURES: Final = 1_000  # at most so many are listed; all are counted
SKIPPED: Final = "skipped"  # in the provenance; absent if no source is skipped
MOST_RECORDED: Final = 100_000  # the root document is read whole; further sources are tried again by each build
_DIGITS: Final = 32  # of the fingerprint of a skipped source, hexadecimal


def describe_build(
    process: dict[str, Any], options: BuildOptions, listing: SourceList, manifest: Path | None
) -> dict[str, Any]:
    """Return the record of a build for a new store; `manifest` is its path."""
    table = None
    if manifest is not None:
        described = describe(options)
        table = {recorded: described[name] for name, recorded in OF_MANIFEST.items()}
        table |= {"key": options.key or DEFAULT_KEY, "path": listing.folder.place_of(manifest)}
    given = {} if options.sequence_from is None else {"sequence_from": options.sequence_from}
    return {"process": process, "label_axis": options.label_axis, "manifest": table, "code": []} | given


def note_code(provenance: dict[str, Any], first: int, code: str) -> None:
    """Record that the sequences from number `first` on come from this code.

    Nothing is added if the last entry has the same code, so that the record does not depend on interruptions. An
    unfinished copy (`compact`) has entries of sequences that were not copied; they are dropped.

    >>> provenance = {"build": {"code": [[0, "a"], [30, "b"]]}}
    >>> note_code(provenance, 12, "c")
    >>> provenance
    {'build': {'code': [[0, 'a'], [12, 'c']]}}
    """
    build = provenance["build"]
    pairs = [pair for pair in build["code"] if pair[0] < first]
    if not pairs or pairs[-1][1] != code:
        pairs.append([first, code])
    provenance["build"] = build | {"code": pairs}


def select_provenance(provenance: dict[str, Any], numbers: NDArray[np.int64]) -> dict[str, Any]:
    """Return the record for a copy of a store with these sequences, in this order.

    >>> select_provenance({"build": {"code": [[0, "a"], [3, "b"], [4, "c"]]}}, np.array([0, 1, 4]))
    {'build': {'code': [[0, 'a'], [2, 'c']]}}
    >>> select_provenance({"build": {"code": [[0, "a"], [3, "b"]]}}, np.array([3, 0, 4]))
    {'build': {'code': [[0, 'b'], [1, 'a'], [2, 'b']]}}
    """
    build = provenance.get("build")
    if not (isinstance(build, dict) and _is_code(build.get("code"))):
        return provenance
    codes = _codes(build["code"], numbers)
    changes = np.flatnonzero(codes != np.concatenate([[""], codes[:-1]])[: len(codes)])
    pairs = [[place, codes[place]] for place in changes.tolist()]
    return provenance | {"build": build | {"code": pairs}}


def _codes(pairs: Iterable[tuple[int, str]], numbers: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the recorded fingerprint of the code of each sequence; "" before the first one."""
    firsts, codes = zip((-1, ""), *pairs, strict=True)
    return np.array(codes, object)[np.searchsorted(np.array(firsts), numbers, "right") - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBuild:
    """The options of the build that made a store."""

    store: Path
    process: dict[str, Any]  # from `describe_process`
    manifest: dict[str, Any] | None
    label_axis: LabelAxis  # of the store
    sequence_from: str | None = None
    text_dtype: str | None = None  # of tables, if the first source is text; None: they keep their dtypes

    @classmethod
    def of(cls, old_store: store_spec.Store) -> Self:
        """Read the record of a store; UsageError if no build made the store, or the record is not valid."""
        build = old_store.provenance.get("build")
        if not isinstance(build, dict):
            raise UsageError(
                f"{old_store.path}: no build made this store, so it cannot be brought up to date; {ELSEWHERE}"
            )
        checks: dict[str, Callable[[Any], bool]] = {
            "process": _is_process,
            "manifest": _is_manifest,
            "code": _is_code,
            "converted": lambda value: value is None or parse_conversions(value) is not None,
            "sequence_from": _is_pattern,
            "text_dtype": lambda value: value in (None, "float32"),
        }
        for name, is_valid in checks.items():
            if name not in build and name not in ("converted", "sequence_from", "text_dtype"):
                raise UsageError(
                    f"{old_store.path}: records no {name} of its build, so it cannot be brought up to date; {ELSEWHERE}"
                )
            if not is_valid(build.get(name)):
                raise UsageError(
                    f"{old_store.path}: records {name} {str(build.get(name))[:200]} of its build, which is not valid; "
                    f"{ELSEWHERE}"
                )
        return cls(
            store=old_store.path,
            process=build["process"],
            manifest=build["manifest"],
            label_axis=old_store.schema.label_axis,
            sequence_from=build.get("sequence_from"),
            text_dtype=build.get("text_dtype"),
        )

    def with_manifest(self, listing: SourceList, path: Path | None) -> tuple[SourceList, Path]:
        """Find the manifest at its recorded path, unless a path is given; the file at that path is not a source."""
        place = self.manifest["path"] if self.manifest is not None else None
        path = path or (None if place is None else listing.folder.find(place))
        if path is None:
            what = (
                "was outside the sources" if place is None else f"was {place} in {listing.folder}, and no longer exists"
            )
            raise UsageError(
                f"{self.store}: was built with a manifest that {what}; repeat the option manifest (--manifest)"
            )
        names, ignored = ([name for name in names if name != place] for names in (listing.names, listing.ignored))
        return replace(listing, names=tuple(names), ignored=tuple(ignored)), path


def outdated_sources(store: store_spec.Store, code: str | None) -> tuple[str, ...]:
    """Return the sources with sequences that other code made, in the order of a store whose record is valid."""
    if code is None:
        return ()
    other = _codes(store.provenance["build"]["code"], store.selection) != code
    return tuple(dict.fromkeys(store.sources[position] for position in np.flatnonzero(other)))


def earlier_conversions(store: store_spec.Store) -> Conversions:
    """Return the conversions of the rows of a store by earlier copies."""
    build = store.provenance.get("build")
    return (parse_conversions(build.get("converted")) if isinstance(build, dict) else None) or ()


def _is_process(value: Any) -> bool:
    match value:
        case {"tabular": dict()} if len(value) == 1:
            return True
        case {"function": str()}:
            return is_valid_record(value)
    return False


def _is_manifest(value: Any) -> bool:
    match value:
        case None:
            return True
        case {"key": str(), "columns": _, "keep": _, "only_listed": _, "path": str() | None}:
            options = options_of(BuildOptions)
            recorded = {name: value[one] for name, one in OF_MANIFEST.items()}
            return all(options[name].can_be_recorded(one) and one != [] for name, one in recorded.items())
    return False


def _is_pattern(value: Any) -> bool:
    try:
        return value is None or bool(check_sequence_from(value))
    except (UsageError, TypeError):
        return False


def _is_code(value: Any) -> bool:
    """Return whether a value is a list of [number, text] with ascending, non-negative numbers."""
    before = -1
    for pair in value if isinstance(value, list) else (None,):
        match pair:
            case [int(first), str()] if not isinstance(first, bool) and before < first < 2**63:
                before = first
            case _:
                return False
    return True


def options_given(build: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the options of a build and of its process that differ from the default, as text.

    >>> list(options_given({"process": {"function": "made:read"}, "label_axis": None, "manifest": None, "code": []}))
    [('function', 'made:read')]
    """
    defaults = tabular().describe() | {"only_listed": False, "code": []}
    for name, value in build.items():
        if isinstance(value, dict):
            yield from options_given(value)
        elif name != "text_dtype" and value not in (None, defaults.get(name)):
            yield name, _code_text(value) if name == "code" else _value_text(value)


def _value_text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(one, str) and one and "," not in one for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _code_text(pairs: Any) -> str:
    """Return text about the code that made the sequences, the latest first."""
    match pairs:
        case [*earlier, [int(first), str(sha256)]]:
            rest = f"; {_code_text(earlier)}" if earlier else ""
            return f"{sha256[:12]} from sequence {first:,}{rest}"
    return _value_text(pairs)


def failures_record(failures: Sequence[Failure]) -> dict[str, Any]:
    """Return the record of failures for a store."""
    listed = [{"source": one.source, "reason": one.reason} for one in failures[:LISTED_FAILURES]]
    return {"count": len(failures), "listed": listed}


def failures_in(provenance: Mapping[str, Any]) -> tuple[int, tuple[Failure, ...]]:
    """Return the number of failures, and the listed failures. Any record is accepted, since a store can be corrupt."""
    recorded = provenance.get(FAILURES)
    if not isinstance(recorded, dict):
        return 0, ()
    count, listed = recorded.get("count"), recorded.get("listed")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    failures = tuple(Failure(str(one.get("source")), str(one.get("reason"))) for one in entries)
    return count if isinstance(count, int) else len(entries), failures


@dataclass(frozen=True, slots=True)
class RecordedSkips:
    """The skipped sources that a store records, by name, with a fingerprint of each.

    The fingerprint is of the source, its label file, and the process function: if one of them changes, the source is
    new again. The store has no sequences of it, so nothing has to be replaced.
    """

    by_name: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None  # the fingerprint of the process function now

    @classmethod
    def of(cls, provenance: Mapping[str, Any], code: str | None = None) -> Self:
        """Read the record in a store. Any record is accepted, since a store can be corrupt."""
        recorded = provenance.get(SKIPPED)
        return cls({name: str(one) for name, one in recorded.items()} if isinstance(recorded, dict) else {}, code)

    def __contains__(self, source: str) -> bool:
        return source in self.by_name

    def is_same(self, source: str, hashes: Iterable[bytes]) -> bool:
        """Return whether a source was skipped with these hashes of its files and the present process function."""
        return self.by_name.get(source) == self._fingerprint(hashes)

    def record(self, untried: Iterable[str], skipped: Iterable[Skipped]) -> dict[str, str]:
        """Return the record after a build, sorted by name; `untried` are the sources that it did not process again."""
        every = {name: self.by_name[name] for name in untried}
        every |= {one.source: self._fingerprint(one.read.hashes) for one in skipped}
        return dict(sorted(every.items())[:MOST_RECORDED])

    def _fingerprint(self, hashes: Iterable[bytes]) -> str:
        return hashlib.sha256(b"".join(hashes) + (self.code or "").encode()).hexdigest()[:_DIGITS]
