"""Metadata documents as bytes, and how two of them differ."""

import json
from typing import Any

from store_spec.errors import FormatError

LARGEST_DOCUMENT = 2**26


def encode_document(document: dict[str, Any]) -> bytes:
    """Return a metadata document as bytes, always the same for the same content."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def group_document(retired_sequences: int = 0) -> dict[str, Any]:
    """Return the metadata of a group; the group of tables has the number of retired sequences, if there are any.

    A commit may do nothing but retire sequences. Then only this document shows that a root is an older copy.
    """
    attributes = {"retired": retired_sequences} if retired_sequences else {}
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def decode_document(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in the bytes of a metadata document; refuse what JSON libraries read differently."""
    if len(data) > LARGEST_DOCUMENT:
        raise FormatError(f"{where}: a document of {len(data):,} bytes; at most {LARGEST_DOCUMENT:,} are read")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not JSON ({error!s:.200}); restore that file") from error
    if not isinstance(document, dict):
        raise FormatError(f"{where}: a JSON {type(document).__name__} where an object is due")
    return document


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) != len(members):
        # JSON libraries differ in which of two members of one name they return.
        seen: set[str] = set()
        twice = next(name for name, _ in members if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"an object with two members {twice!r:.80}")
    return document


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def same(value: object, expected: object) -> bool:
    """Return whether two JSON values are the same. Python regards 1, 1.0 and True as equal; others do not."""
    return json.dumps(value, sort_keys=True) == json.dumps(expected, sort_keys=True)


def difference(value: object, expected: object, place: str = "") -> str:
    """Describe the first wrong entry of an array's metadata."""
    if not place and not isinstance(value, dict):
        return "this array is missing from the consolidated metadata"
    if isinstance(value, dict) and isinstance(expected, dict):
        for key in [*expected, *value]:
            if not same(value.get(key), expected.get(key)):
                name = key if key.isidentifier() else f"{key!r:.80}"  # others may have control characters
                inside = f"{place}: {name:.80}" if place else f"{name:.80}"
                return difference(value.get(key), expected.get(key), inside)
    if isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        for number, (one, other) in enumerate(zip(value, expected, strict=True)):
            if not same(one, other):
                return difference(one, other, f"{place}[{number}]")
    return f"{place} is {value!r:.200}, where version 1 has {expected!r:.200}"
