"""Ways to damage a store. Each function returns a damage, which is a function of the store."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import google_crc32c
import numpy as np
from numcodecs import blosc
from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray

from store_spec.format.layout import BLANK
from store_spec.format.shard import STAMP_BYTES, ShardId

ROOT = "zarr.json"
GONE = object()  # instead of a value: remove the member

Document = dict[str, Any]
Damage = Callable[[Path], object]
P = ParamSpec("P")


def encode_text(strings: Sequence[str], chunk: int) -> bytes:
    """Return the bytes of a chunk of strings before compression, with empty ones after the last."""
    padded = np.full(chunk, "", object)
    padded[: len(strings)] = strings
    return bytes(VLenUTF8().encode(padded))


def signed(data: bytes) -> bytes:
    """Return a root document with a correct digest, if it has a member for it."""
    blank, found = re.subn(rb'"digest": "[^"]*"', f'"digest": "{BLANK}"'.encode(), data, count=1)
    digest = f'"digest": "{hashlib.sha256(blank).hexdigest()}"'.encode()
    return blank.replace(f'"digest": "{BLANK}"'.encode(), digest) if found else data


def put_at(document: Document, place: str, value: object) -> None:
    """Set the member at a place such as `counts steps` or `codecs 0 name`, or remove it."""
    *way, last = (int(word) if word.isdecimal() else word for word in place.split())
    inside: Any = document
    for word in way:
        inside = inside[word]
    if value is GONE:
        del inside[last]
    else:
        inside[last] = value


def damage(function: Callable[Concatenate[Path, P], object]) -> Callable[P, Damage]:
    """Make a function of a store and other arguments a function of these, which returns a damage."""

    def prepared(*args: P.args, **kwargs: P.kwargs) -> Damage:
        return lambda store: function(store, *args, **kwargs)

    return prepared


def contents(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change the bytes of a file."""
    return lambda store: (store / name).write_bytes(change((store / name).read_bytes()))


def file_damage(function: Callable[Concatenate[bytes, P], bytes]) -> Callable[Concatenate[str, P], Damage]:
    """Make a function of the bytes of a file and other arguments a function of its name and these."""

    def prepared(name: str, /, *args: P.args, **kwargs: P.kwargs) -> Damage:
        return contents(name, lambda data: function(data, *args, **kwargs))

    return prepared


@damage
def root(store: Path, change: Callable[[Document], object]) -> None:
    """Change the root document, and update its digest."""
    document = json.loads((store / ROOT).read_text())
    change(document)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (store / ROOT).write_bytes(signed(text.encode()))


def member(place: str, value: object) -> Damage:
    """Set a member of the root document."""
    return root(lambda document: put_at(document, place, value))


def attribute(place: str, value: object) -> Damage:
    """Set a member of the attribute `seqzarr`."""
    return root(lambda document: put_at(document["attributes"]["seqzarr"][0], place, value))


def metadata(place: str, value: object) -> Damage:
    """Set a member of the consolidated metadata."""
    return root(lambda document: put_at(document["consolidated_metadata"]["metadata"], place, value))


@file_damage
def swapped(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace the first bytes that match a pattern."""
    return re.sub(old, lambda _: new, data, count=1)


@file_damage
def flipped(data: bytes, place: int) -> bytes:
    """Flip a bit of the byte at a place."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def checksummed(body: bytes) -> bytes:
    """Return bytes and their crc32c."""
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


def compressed(rows: NDArray[Any]) -> bytes:
    """Return a valid chunk."""
    shuffle = blosc.BITSHUFFLE if rows.itemsize > 1 else blosc.NOSHUFFLE
    # Not in the main thread, where Blosc's own threads would decide the order of its blocks.
    with ThreadPoolExecutor(1) as pool:
        return checksummed(pool.submit(blosc.compress, rows, b"zstd", 3, shuffle, 0).result())


def garbled(chunk: bytes) -> bytes:
    """Return a chunk with a valid Blosc header and checksum, and ones between them."""
    return checksummed(chunk[:16] + b"\xff" * (len(chunk) - 20))


@file_damage
def table(data: bytes, change: Callable[[NDArray[Any]], NDArray[Any]]) -> bytes:
    """Replace the rows of a chunk of int64; it stays valid."""
    return compressed(change(np.frombuffer(blosc.decompress(data[:-4]), "<i8").copy()))


def values(name: str, new: dict[int, int]) -> Damage:
    """Set some rows of a chunk of int64; it stays valid."""

    def put(rows: NDArray[Any]) -> NDArray[Any]:
        rows[list(new)] = list(new.values())
        return rows

    return table(name, put)


def column(name: str, dtype: str = "string") -> Damage:
    """Declare one more column of sequences."""
    return root(lambda document: document["attributes"]["seqzarr"][0]["columns"].append({"name": name, "dtype": dtype}))


@file_damage
def table_bytes(data: bytes, place: slice, new: bytes) -> bytes:
    """Change some bytes in a chunk of strings or bools; it stays valid."""
    changed = bytearray(blosc.decompress(data[:-4]))
    changed[place] = new
    return compressed(np.frombuffer(bytes(changed), np.uint8))


@file_damage
def index(data: bytes, chunk: int, entry: tuple[int, int]) -> bytes:
    """Change where the index of a shard with two chunks places a chunk; the index stays valid."""
    entries = np.frombuffer(data[-36:-4], "<u8").reshape(2, 2).copy()
    entries[chunk] = entry
    return data[:-36] + checksummed(entries.tobytes())


@file_damage
def second_chunk(data: bytes, new: Callable[[bytes], bytes]) -> bytes:
    """Replace the second of the two chunks of a shard, and adapt the index."""
    start, size = np.frombuffer(data[-20:-4], "<u8").tolist()
    chunk = new(data[start : start + size])
    entries = np.array([0, start, start, len(chunk)], "<u8")
    return data[:start] + chunk + data[-36 - STAMP_BYTES : -36] + checksummed(entries.tobytes())


@file_damage
def stamped(data: bytes, place: ShardId, rows: int) -> bytes:
    """Change the stamp of a shard with two chunks; it stays valid."""
    return data[: -36 - STAMP_BYTES] + place.stamp(rows) + data[-36:]


def replace_file(path: Path, data: bytes) -> None:
    """Rename a new file to a path, as a repair does; who has the old file open continues to read it."""
    path.with_name("new").write_bytes(data)
    path.with_name("new").rename(path)


def change_places(one: Path, other: Path) -> None:
    """Swap two shards of an array, with the stamps of their new places: only checksums of sequences differ."""
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(_stamped_like(first, second, one.parent.name))
    other.write_bytes(_stamped_like(second, first, one.parent.name))


def _stamped_like(shard: bytes, rows: bytes, name: str) -> bytes:
    begin, own = (data.rfind(name.encode().ljust(16, b"\0")) for data in (rows, shard))
    return rows[:begin] + shard[own : own + STAMP_BYTES] + rows[begin + STAMP_BYTES :]


@damage
def removed(store: Path, name: str) -> None:
    """Remove a file or a folder."""
    if (store / name).is_dir():
        shutil.rmtree(store / name)
    else:
        (store / name).unlink()


@damage
def renamed(store: Path, name: str, new: str) -> None:
    """Rename a file."""
    (store / name).rename(store / new)


@damage
def link(store: Path, name: str) -> None:
    """Move a file or a folder out of the store, and put a link to it in its place."""
    outside = store.with_name("outside")
    (store / name).rename(outside)
    (store / name).symlink_to(outside)


@damage
def linked(store: Path, name: str, target: str) -> None:
    """Put a link in place of a file or a folder, if it is there."""
    if (store / name).exists():
        removed(name)(store)
    (store / name).symlink_to(target)


@damage
def replaced(store: Path, name: str, inside: str | None) -> None:
    """Put a file in place of a folder, or (`inside`: the name of a file in it) a folder in place of a file."""
    removed(name)(store)
    if inside is None:
        (store / name).write_bytes(b"")
    else:
        (store / name).mkdir()
        (store / name / inside).write_bytes(b"")


@damage
def sparse(store: Path, name: str, size: int) -> None:
    """Make a file long without using space on the disk."""
    os.truncate(store / name, size)


def codec_twice(store: Path) -> None:
    """Add a second checksum after the first."""

    def add(document: Document) -> None:
        (sharding,) = document["consolidated_metadata"]["metadata"]["inputs"]["codecs"]
        sharding["configuration"]["codecs"].append({"name": "crc32c"})

    root(add)(store)


def huge_chunk(store: Path) -> None:
    """Declare chunks of 3 GiB."""
    metadata("inputs codecs 0 configuration chunk_shape", [2**28, 3])(store)
    metadata("inputs chunk_grid configuration chunk_shape", [2**28, 3])(store)


def many_steps(store: Path) -> None:
    """Claim 2**50 steps, in counts, shapes and offsets alike."""
    attribute("counts steps", 2**50)(store)
    metadata("inputs shape 0", 2**50)(store)
    metadata("labels shape 0", 2**50)(store)
    values("offsets/c.0", {7: 2**50})(store)
    values("row_size/c.0", {6: 2**50 - 19})(store)


def many_sequences(store: Path) -> None:
    """Claim 2**50 sequences, in counts and shapes alike."""
    attribute("counts sequences", 2**50)(store)
    for name, array in json.loads((store / ROOT).read_text())["consolidated_metadata"]["metadata"].items():
        axis = array.get("dimension_names", [""])[0]
        if axis.startswith("sequence"):
            metadata(f"{name} shape 0", 2**50 + (axis == "sequence_bound"))(store)


def wrap_around(store: Path) -> None:
    """Write offsets that go up and down, so that their differences wrap to positive numbers, like `row_size`."""
    bounds = np.array([0, 2**63 - 1, -(2**62), 23, 23, 23, 23, 23], np.int64)
    values("offsets/c.0", dict(enumerate(bounds.tolist())))(store)
    values("row_size/c.0", dict(enumerate(np.diff(bounds).tolist())))(store)
