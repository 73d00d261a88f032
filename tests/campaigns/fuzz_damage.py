"""Hypothesis strategies that change metadata documents: edits of the JSON, damaged bytes, and forgeries.

A forgery is a valid root document for another schema or other counts than those of the store. It is consistent in
itself, so only the other files show that it is wrong.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from hypothesis import strategies as st

from store_spec.errors import SchemaError
from store_spec.format.codec import Codec
from store_spec.format.layout import Root
from store_spec.format.sequence_columns import COLUMN_TYPES, SequenceColumn
from store_spec.format.times import Time
from store_spec.schema import DTYPES, LABEL_AXES, MISSING, Chunking, Rows
from tests.builder.fuzzed_sources import damage as byte_damage

How = Literal["replaced", "deleted", "inserted", "twice", "copied"]
Change = Callable[[bytes], bytes | None]  # None: the change is impossible
MARK = "\ue000"  # around the numbers of values that json.dumps cannot write
OBJECT_ARRAY = {
    "zarr_format": 2, "shape": [7], "chunks": [7], "dtype": "|O", "order": "C", "fill_value": None,
    "compressor": None, "filters": [{"id": "pickle"}],
}  # fmt: skip

NUMBERS = (
    "-1", "0", "1", "2", "7", "1.0", "-0", "2.5", "1E2", "1e308", "1e400", "-1e400", "NaN", "Infinity", "true", "null",
    *(str(2**power + more) for power in (31, 32, 53, 62, 63, 64, 200) for more in (-1, 0, 1)),
    *(str(-(2**power)) for power in (31, 62, 63, 200)),
)  # fmt: skip
TEXTS = (
    "", "../x", "/etc/passwd", "c.0/../../x", "\0", "\n", "\x1b[2J", "\ud800", "object", "O", "<f4", "float128",
    "string", "numpy.datetime64", "bytes", "vlen-bytes", "gzip", "zfpy", "numcodecs.pickle", "sharding_indexed",
    "regular", "start", "big", "array", "step", "own", "keep", "1.1", "2.0", "0" * 64,
)  # fmt: skip


def _members(count: int, last: int) -> str:
    return "{" + "".join(f'"a{number}": 0, ' for number in range(count)) + f'"a{last}": 0' + "}"


ODD = (
    '"' + "x" * 3_000_000 + '"',
    "9" * 4_299,  # Python reads numbers of at most 4,300 digits
    "9" * 5_000,
    "[[0, " + "9" * 4_299 + "]]",
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    "[" * 9_000 + "]" * 9_000,
    json.dumps([*range(200_000)]),
    json.dumps([f"a{number}" for number in range(200_000)]),
    _members(60_000, 59_999),  # the last one twice
    _members(300_000, 300_000),
    json.dumps(OBJECT_ARRAY),
    json.dumps({"name": "numcodecs.pickle", "configuration": {"protocol": 5}}),
    json.dumps({"name": "blosc"}),  # without configuration
    json.dumps({"name": "structured", "configuration": {"fields": [["a", "object"]]}}),
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a JSON document."""

    how: How
    place: int  # the number of the value, modulo the number of values
    value: str  # the new value: JSON text
    name: str  # of a new member of an object
    other: int  # the number of the value to copy
    inside: bool  # only count values in the attribute `seqzarr`, if there is one

    def __repr__(self) -> str:
        place = f"{self.place}{' of the attribute' * self.inside}"
        return f"{self.how} {place}: {self.value:.40} of {len(self.value):,}, {self.name!r:.40}, {self.other}"


class Forgery(NamedTuple):
    """A change of a root, or of its schema."""

    name: str
    change: Callable[[Root, Any], dict[str, Any]]
    drawn: Any


def edits() -> st.SearchStrategy[list[Edit]]:
    value = st.one_of(
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS).map(json.dumps),
        st.sampled_from(range(len(ODD))).map(lambda number: ODD[number]),
        st.sampled_from(("[]", "{}", "[[0, 1]]", "[[1, 3], [3, 4]]", ODD[1])),
        # Around the depth at which some functions of Python reach the recursion limit.
        st.integers(900, 1_000).map(lambda depth: "[" * depth + "]" * depth),
        st.integers(-(2**70), 2**70).map(str),
        st.lists(st.integers(-3, 2**63), max_size=3).map(json.dumps),
    )
    place = st.integers(0, 4_095)
    name = st.sampled_from(("x", *TEXTS)) | st.sampled_from(("configuration", "must_understand", "shape"))
    edit = st.builds(Edit, st.sampled_from(get_args(How)), place, value, name, place, st.booleans())
    return st.lists(edit, min_size=1, max_size=3)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    document = json.loads(data)
    raw: list[str] = []
    for edit in changes:
        _edit(document, edit, raw)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    for number, value in enumerate(raw):
        text = text.replace(f'"{MARK}{number}{MARK}"', value)
    return text.replace(MARK, "").encode("utf-8", "surrogatepass")


def _edit(document: Any, edit: Edit, raw: list[str]) -> None:
    try:
        attribute = document["attributes"]["seqzarr"][0]
    except (KeyError, TypeError, IndexError):
        attribute = None
    places = list(_places(attribute if edit.inside and attribute else document))
    if not places:
        return
    inside, key = places[edit.place % len(places)]
    if edit.how == "copied":
        from_inside, from_key = places[edit.other % len(places)]
        value = json.loads(json.dumps(from_inside[from_key]))
    else:
        value = f"{MARK}{len(raw)}{MARK}"
        raw.append(edit.value)
    if edit.how == "deleted":
        del inside[key]
    elif edit.how in ("replaced", "copied"):
        inside[key] = value
    elif isinstance(inside, list):
        inside.insert(key, inside[key] if edit.how == "twice" else value)
    else:
        inside[key + MARK if edit.how == "twice" else edit.name] = value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return the container and the key of each value in a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def forgeries() -> st.SearchStrategy[tuple[str, Change]]:
    """Draw one or two changes of a root, each with a description."""
    count = st.integers(0, 30) | st.sampled_from([2**31, 2**53, 2**62 - 1, 2**62])
    size = st.integers(1, 13) | st.sampled_from([2**20, 2**28, 2**29 - 5, 2**31, 2**62])
    dtypes = st.sampled_from([dtype for dtype in DTYPES if dtype != "bool"])  # a bool cannot have arbitrary bytes
    rows = st.tuples(st.sampled_from(["inputs", "labels"]), dtypes, st.lists(size, max_size=3).map(tuple))
    ranges = st.lists(st.integers(0, 12), max_size=6, unique=True).map(
        lambda ends: tuple(zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False))
    )
    names = st.sampled_from(["site", "age", "visits", "left handed", "inputs", "s"]) | st.text(max_size=9)
    counts = st.tuples(st.sampled_from(["sequences", "steps", "label_steps"]), count)
    codecs = st.tuples(st.sampled_from(["zstd", "lz4", "none"]), st.integers(1, 9))
    columns = st.lists(st.tuples(names, st.sampled_from(COLUMN_TYPES)), max_size=4)
    times = st.sampled_from([None, Time("s"), Time("ns", None), Time("us", zone="UTC")])
    axes = st.tuples(st.sampled_from(LABEL_AXES), st.sampled_from(MISSING), size)
    classes = st.lists(st.none() | st.lists(names, max_size=3).map(tuple), max_size=2).map(tuple)
    # By name: what is drawn, and the members of the root or of its schema that follow from it.
    changes: dict[str, tuple[st.SearchStrategy[Any], Callable[[Root, Any], dict[str, Any]]]] = {
        "set count": (counts, lambda root, drawn: {"counts": replace(root.counts, **dict([drawn]))}),
        "set rows": (rows, lambda _, drawn: {drawn[0]: Rows(np.dtype(drawn[1]), drawn[2])}),
        "regroup bytes": (st.tuples(dtypes, st.integers(1, 4)), _regrouped),
        "set chunking": (st.tuples(size, st.integers(1, 4)), lambda _, drawn: {"steps": _chunking(*drawn)}),
        "multiply chunks": (st.integers(1, 2**27), _multiplied),
        "retire": (ranges, lambda _, drawn: {"retired": drawn}),
        "set label axis": (axes, _with_label_axis),
        "set codec": (codecs, lambda _, drawn: {"codec": Codec(*drawn)}),
        "set columns": (columns, lambda _, drawn: {"columns": tuple(SequenceColumn(*one) for one in drawn)}),
        "set classes": (classes, lambda root, drawn: {"labels": replace(root.schema.labels, classes=drawn)}),
        "set time": (times, lambda _, drawn: {"time": drawn}),
    }
    one = st.one_of([drawn.map(partial(Forgery, name, change)) for name, (drawn, change) in changes.items()])
    return st.lists(one, min_size=1, max_size=2).map(
        lambda drawn: (", ".join(f"{one.name} {one.drawn!r}" for one in drawn), partial(_forge, drawn))
    )


def _forge(changes: list[Forgery], data: bytes) -> bytes | None:
    root = Root.decode(data, "an undamaged store")
    try:
        for forgery in changes:
            members = forgery.change(root, forgery.drawn)
            own = {name: members.pop(name) for name in ("counts", "retired") if name in members}
            root = replace(root, schema=replace(root.schema, **members), **own)
        return root.encode()
    except SchemaError:
        return None


def _chunking(chunk: int, chunks: int) -> Chunking:
    return Chunking(chunk, chunk * chunks)


def _regrouped(root: Root, drawn: tuple[str, int]) -> dict[str, Any]:
    """Divide the bytes of each chunk of inputs into other rows."""
    rows, steps = Rows(np.dtype(drawn[0]), (drawn[1],)), root.schema.steps
    chunk = steps.chunk * root.schema.inputs.nbytes // rows.nbytes
    return {"inputs": rows, "steps": _chunking(chunk, steps.shard // steps.chunk)}


def _multiplied(root: Root, times: int) -> dict[str, Any]:
    """Multiply the sizes of chunks and shards, so that an index still has as many entries."""
    return {"steps": Chunking(root.schema.steps.chunk * times, root.schema.steps.shard * times)}


def _with_label_axis(_: Root, drawn: tuple[Any, Any, int]) -> dict[str, Any]:
    axis, missing, chunk = drawn
    return {"label_axis": axis, "missing": missing, "label_steps": _chunking(chunk, 2) if axis == "own" else None}


def damages() -> st.SearchStrategy[tuple[str, Change]]:
    """Draw a change of a document, with a description."""
    return st.one_of(
        *(edits().map(lambda changes: (f"{changes}", partial(edited, changes=changes))) for _ in range(2)),
        st.lists(byte_damage(), min_size=1, max_size=3).map(
            lambda changes: ("bytes", lambda data: reduce(lambda left, change: change(left), changes, data))
        ),
    )
