"""Read files that a commit has counted: a missing one was lost, and one that is too large is damaged."""

from __future__ import annotations

from store_spec.disk.storage import ReadableFile, Storage
from store_spec.errors import FormatError, MissingStoreError


def get_whole(storage: Storage, key: str, limit: int) -> bytes | memoryview:
    """Return all bytes of a file of at most `limit` bytes.

    Raises:
        FormatError: The file is larger, or missing.
    """
    data = get_part(storage, key, 0, limit + 1)
    if len(data) > limit:
        raise FormatError(f"{storage.path(key)}: larger than the {limit:,} bytes that it can need")
    return data


def get_part(storage: Storage, key: str, start: int, length: int | None) -> bytes | memoryview:
    """Return bytes of a file, as `LocalStorage.get` does.

    Raises:
        FormatError: The file is missing.
    """
    try:
        return storage.get(key, start, length)
    except MissingStoreError as error:
        raise _missing_file(storage, key) from error


def open_file(storage: Storage, key: str) -> ReadableFile:
    """Open a file for many reads.

    Raises:
        FormatError: The file is missing.
    """
    try:
        return storage.open(key)
    except MissingStoreError as error:
        raise _missing_file(storage, key) from error


def part_of(data: bytes | memoryview, start: int, length: int | None) -> bytes | memoryview:
    """Return bytes of data in memory, as `LocalStorage.get` does."""
    first = start if start >= 0 else max(0, len(data) + start)
    return data[first:] if length is None else data[first : first + max(0, length)]


def wrong_size(where: str, size: int, least: int, most: int, decoded: int) -> FormatError:
    """Return the error for a chunk whose stored size is impossible by the schema."""
    if size > most:
        return FormatError(f"{where}: a chunk of {size:,} stored bytes; it cannot have more than {most:,}")
    return FormatError(
        f"{where}: a chunk of {size:,} stored bytes cannot hold the {decoded:,} that the schema gives; "
        f"it has at least {least:,}"
    )


def _missing_file(storage: Storage, key: str) -> FormatError:
    return FormatError(f"{storage.path(key)}: missing; every committed chunk and shard is written, so it was lost")
