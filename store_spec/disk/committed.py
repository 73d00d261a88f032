"""Files that a commit has counted: one that is missing was lost, and one that is larger than it can be is wrong."""

from __future__ import annotations

from store_spec.disk.storage import Readable, Storage
from store_spec.errors import FormatError, MissingStoreError


def get_whole(storage: Storage, key: str, limit: int) -> bytes | memoryview:
    """Return all bytes of a file, which are no more than that.

    Raises:
        FormatError: They are more, or it is missing.
    """
    data = get_part(storage, key, 0, limit + 1)
    if len(data) > limit:
        raise FormatError(f"{storage.path(key)}: larger than the {limit:,} bytes that it can need")
    return data


def get_part(storage: Storage, key: str, start: int, length: int | None) -> bytes | memoryview:
    """Return bytes of a file, as `LocalStorage.get` does.

    Raises:
        FormatError: It is missing.
    """
    try:
        return storage.get(key, start, length)
    except MissingStoreError as error:
        raise _lost(storage, key) from error


def open_file(storage: Storage, key: str) -> Readable:
    """Open a file for many reads.

    Raises:
        FormatError: It is missing.
    """
    try:
        return storage.open(key)
    except MissingStoreError as error:
        raise _lost(storage, key) from error


def part_of(data: bytes | memoryview, start: int, length: int | None) -> bytes | memoryview:
    """Return bytes of a value that is there, as `LocalStorage.get` does."""
    begin = start if start >= 0 else max(0, len(data) + start)
    return data[begin:] if length is None else data[begin : begin + max(0, length)]


def wrong_size(where: str, found: int, least: int, most: int, decoded: int) -> FormatError:
    """Say that a chunk has fewer or more stored bytes than one of the schema can have."""
    if found > most:
        return FormatError(f"{where}: a chunk of {found:,} stored bytes; it cannot have more than {most:,}")
    return FormatError(
        f"{where}: a chunk of {found:,} stored bytes cannot hold the {decoded:,} that the schema gives; "
        f"it has at least {least:,}"
    )


def _lost(storage: Storage, key: str) -> FormatError:
    return FormatError(f"{storage.path(key)}: missing; every committed chunk and shard is written, so it was lost")
