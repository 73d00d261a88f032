"""Ways to make a metadata document of a store another one: edits of its JSON, damaged bytes, lies that fit together.

A lie is a whole root document as a writer might have made it for another schema or other counts, over the files of a
store that has neither. Nothing in it contradicts itself, so only the files can show that it is not true.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from hypothesis import strategies as st

from store_spec.errors import SchemaError
from store_spec.format.codec import Codec
from store_spec.format.layout import BLANK, Root
from store_spec.format.sequence_columns import COLUMN_TYPES, SequenceColumn
from store_spec.format.times import Time
from store_spec.schema import DTYPES, LABEL_AXES, MISSING, Chunking, Rows
from tests.builder.fuzzed_sources import damage as byte_damage

How = Literal["replaced", "deleted", "inserted", "twice", "copied"]
Change = Callable[[bytes], bytes | None]  # gives other bytes of a document; None: this cannot be done to it
MARK = "\ue000"  # stands where JSON text comes that json.dumps would not write
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
# Too large to stand in the report of an example, where their names do.
ODD: dict[str, Callable[[], str]] = {
    "a text of 3 MB": lambda: '"' + "x" * 3_000_000 + '"',
    "a number of 4,299 digits": lambda: "9" * 4_299,
    "a number of 5,000 digits": lambda: "9" * 5_000,
    "a range to a number of 4,299 digits": lambda: "[[0, " + "9" * 4_299 + "]]",
    "100,000 lists": lambda: "[" * 100_000 + "]" * 100_000,
    "100,000 objects": lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "9,000 lists": lambda: "[" * 9_000 + "]" * 9_000,
    "a list of 200,000 numbers": lambda: "[" + ",".join(map(str, range(200_000))) + "]",
    "a list of 200,000 texts": lambda: json.dumps([f"a{number}" for number in range(200_000)]),
    "60,000 members, the last one twice": lambda: _members(60_000, 59_999),
    "300,000 members": lambda: _members(300_000, 300_000),
    "an array of Zarr 2": lambda: json.dumps(OBJECT_ARRAY),
    "a codec of other software": lambda: json.dumps({"name": "numcodecs.pickle", "configuration": {"protocol": 5}}),
    "a codec without configuration": lambda: '{"name": "blosc"}',
    "a structured dtype": lambda: '{"name": "structured", "configuration": {"fields": [["a", "object"]]}}',
}


def _members(count: int, last: int) -> str:
    return "{" + "".join(f'"a{number}": 0, ' for number in range(count)) + f'"a{last}": 0' + "}"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a JSON document.

    Args:
        how: What is done to the value there.
        place: Which of the document's places, counted round and round.
        value: What comes there: JSON text, or the name of an odd value.
        name: What a new member of an object is called.
        other: The place whose value is copied.
        inside: Whether only places in the attribute `seqzarr` count, where there is one.
    """

    how: How
    place: int
    value: str
    name: str
    other: int
    inside: bool


def edits() -> st.SearchStrategy[list[Edit]]:
    value = st.one_of(
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS).map(json.dumps),
        st.sampled_from(sorted(ODD)),
        st.sampled_from(("[]", "{}", "[[0, 1]]", "[[1, 3], [3, 4]]", "a number of 4,299 digits")),
        # Near the depth at which one function of Python's still goes on, and another one does not.
        st.integers(900, 1_000).map("lists in lists, {}".format),
        st.integers(-(2**70), 2**70).map(str),
        st.lists(st.integers(-3, 2**63), max_size=3).map(json.dumps),
    )
    place = st.integers(0, 4_095)
    return st.lists(
        st.builds(
            Edit,
            st.sampled_from(get_args(How)),
            place,
            value,
            st.sampled_from(("x", *TEXTS)) | st.sampled_from(("configuration", "must_understand", "shape")),
            place,
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    )


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """Return a document with these edits, one after another."""
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
        ours = document["attributes"]["seqzarr"][0]
    except (KeyError, TypeError, IndexError):
        ours = None
    places = list(_places(ours if edit.inside and ours else document))
    if not places:
        return
    inside, key = places[edit.place % len(places)]
    if edit.how == "copied":
        from_inside, from_key = places[edit.other % len(places)]
        value = json.loads(json.dumps(from_inside[from_key]))
    else:
        value = f"{MARK}{len(raw)}{MARK}"
        raw.append(_text(edit.value))
    if edit.how == "deleted":
        del inside[key]
    elif edit.how in ("replaced", "copied"):
        inside[key] = value
    elif isinstance(inside, list):
        inside.insert(key, inside[key] if edit.how == "twice" else value)
    else:
        inside[key + MARK if edit.how == "twice" else edit.name] = value


def _text(value: str) -> str:
    """Return the JSON text of a value that may be given by name."""
    if value.startswith("lists in lists"):
        depth = int(value.rpartition(" ")[2])
        return "[" * depth + "]" * depth
    return ODD[value]() if value in ODD else value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return the places of a JSON value as what they are in and their key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def signed(data: bytes) -> bytes:
    """Return a root document with a digest that fits it, if it has a place for one."""
    blank, found = re.subn(rb'"digest": "[^"]*"', f'"digest": "{BLANK}"'.encode(), data, count=1)
    digest = f'"digest": "{hashlib.sha256(blank).hexdigest()}"'.encode()
    return blank.replace(f'"digest": "{BLANK}"'.encode(), digest) if found else data


Lie = Callable[[Root], Root]


def lies() -> st.SearchStrategy[list[tuple[str, Lie]]]:
    """Draw one lie or several, each with what it says."""
    count = st.integers(0, 30) | st.sampled_from([2**31, 2**53, 2**62 - 1, 2**62])
    size = st.integers(1, 13) | st.sampled_from([2**20, 2**28, 2**29 - 5, 2**31, 2**62])
    dtypes = st.sampled_from([dtype for dtype in DTYPES if dtype != "bool"])  # other bytes than 0 and 1 are no bool
    rows = st.tuples(st.sampled_from(["inputs", "labels"]), dtypes, st.lists(size, max_size=3))
    ranges = st.lists(st.integers(0, 12), max_size=6, unique=True).map(
        lambda ends: tuple(zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False))
    )
    names = st.sampled_from(["site", "age", "visits", "left handed", "inputs", "s"]) | st.text(max_size=9)
    return st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["sequences", "steps", "label_steps"]), count).map(_counts),
            rows.map(_rows),
            st.tuples(dtypes, st.integers(1, 4)).map(_regrouped),
            st.tuples(size, st.integers(1, 4)).map(_chunking),
            st.integers(1, 2**27).map(_longer),
            ranges.map(lambda gone: (f"retired {gone}", lambda root: replace(root, retired=gone))),
            st.tuples(st.sampled_from(LABEL_AXES), st.sampled_from(MISSING), size).map(_axis),
            st.tuples(st.sampled_from(["zstd", "lz4", "none"]), st.integers(1, 9)).map(_codec),
            st.lists(st.tuples(names, st.sampled_from(COLUMN_TYPES)), max_size=4).map(_columns),
            st.lists(st.none() | st.lists(names, max_size=3), max_size=2).map(_named),
            st.sampled_from([None, Time("s"), Time("ns", None), Time("us", zone="UTC")]).map(_time),
        ),
        min_size=1,
        max_size=2,
    )


def lied(data: bytes, changes: list[tuple[str, Lie]]) -> bytes | None:
    """Return a root document that lies; None where there can be no such schema."""
    root = Root.decode(data, "a sound store")
    try:
        for _, change in changes:
            root = change(root)
        return root.encode()
    except SchemaError:
        return None


def _counts(drawn: tuple[str, int]) -> tuple[str, Lie]:
    return f"{drawn[1]:,} {drawn[0]}", lambda root: replace(root, counts=replace(root.counts, **{drawn[0]: drawn[1]}))


def _rows(drawn: tuple[str, str, list[int]]) -> tuple[str, Lie]:
    name, dtype, shape = drawn
    rows = Rows(np.dtype(dtype), tuple(shape))
    return f"{name} {dtype} {shape}", lambda root: replace(root, schema=replace(root.schema, **{name: rows}))


def _regrouped(drawn: tuple[str, int]) -> tuple[str, Lie]:
    """Cut the bytes of the same chunks of inputs into other rows."""
    dtype, features = drawn
    rows = Rows(np.dtype(dtype), (features,))

    def change(root: Root) -> Root:
        chunk = root.schema.steps.chunk * root.schema.inputs.nbytes // rows.nbytes
        shards = root.schema.steps.shard // root.schema.steps.chunk
        steps = Chunking(chunk, chunk * shards)
        return replace(root, schema=replace(root.schema, inputs=rows, steps=steps))

    return f"rows of {features} {dtype} in the bytes of the inputs", change


def _chunking(drawn: tuple[int, int]) -> tuple[str, Lie]:
    chunk, shards = drawn

    def change(root: Root) -> Root:
        return replace(root, schema=replace(root.schema, steps=Chunking(chunk, chunk * shards)))

    return f"{shards} chunks of {chunk:,} steps in a shard", change


def _longer(times: int) -> tuple[str, Lie]:
    """Multiply chunk and shard alike: an index has as many entries as before."""

    def change(root: Root) -> Root:
        steps = root.schema.steps
        return replace(root, schema=replace(root.schema, steps=Chunking(steps.chunk * times, steps.shard * times)))

    return f"chunks and shards of {times:,} times as many steps", change


def _axis(drawn: tuple[Any, Any, int]) -> tuple[str, Lie]:
    axis, missing, chunk = drawn

    def change(root: Root) -> Root:
        steps = Chunking(chunk, 2 * chunk) if axis == "own" else None
        return replace(root, schema=replace(root.schema, label_axis=axis, missing=missing, label_steps=steps))

    return f"label axis {axis}, missing {missing}", change


def _codec(drawn: tuple[str, int]) -> tuple[str, Lie]:
    codec = Codec(*drawn)
    return f"{codec}", lambda root: replace(root, schema=replace(root.schema, codec=codec))


def _columns(drawn: list[tuple[str, Any]]) -> tuple[str, Lie]:
    def change(root: Root) -> Root:
        columns = tuple(SequenceColumn(name, dtype) for name, dtype in drawn)
        return replace(root, schema=replace(root.schema, columns=columns))

    return f"columns {drawn!r}", change


def _named(drawn: list[list[str] | None]) -> tuple[str, Lie]:
    classes = tuple(None if names is None else tuple(names) for names in drawn)

    def change(root: Root) -> Root:
        labels = replace(root.schema.labels, classes=classes)
        return replace(root, schema=replace(root.schema, labels=labels))

    return f"classes {drawn!r}", change


def _time(drawn: Time | None) -> tuple[str, Lie]:
    return f"{drawn}", lambda root: replace(root, schema=replace(root.schema, time=drawn))


def damages() -> st.SearchStrategy[tuple[str, Change]]:
    """Draw what is done to a document, with a few words about it."""
    return st.one_of(
        edits().map(lambda changes: (f"{changes}", lambda data: edited(data, changes))),
        edits().map(lambda changes: (f"{changes}", lambda data: edited(data, changes))),
        st.lists(byte_damage(), min_size=1, max_size=3).map(
            lambda changes: ("bytes", lambda data: _all(changes, data))
        ),
    )


def root_lies() -> st.SearchStrategy[tuple[str, Change]]:
    return lies().map(lambda changes: (", ".join(text for text, _ in changes), lambda data: lied(data, changes)))


def _all(changes: list[Callable[[bytes], bytes]], data: bytes) -> bytes:
    for change in changes:
        data = change(data)
    return data
