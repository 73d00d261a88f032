"""Check that a file can be read, and that its first bytes do not belong to another format."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from builder.build_errors import SourceError

# A file may unpack to 256 MiB or to 100 times its size; a larger one was probably made to fill the memory.
UNPACKED_FREELY: Final = 2**28
UNPACKED_PER_BYTE: Final = 100

_WHAT_TO_DO: Final = {
    errno.ENOENT: "it was removed since it was listed, is a broken link, or is on a disk that the worker lacks; "
    "restore it, remove the link, or use a disk that all workers share, or a bucket",
    errno.ELOOP: "its links form a circle; remove them",
    errno.EACCES: "give this user permission to read it, and to enter its folders",
}
# Formats that occur under a wrong suffix. A table in text cannot start with any of these.
_FIRST_BYTES: Final = {
    b"\x1f\x8b\x08": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"PK\x03\x04": "a ZIP archive (also an NPZ or Excel file)",
    b"PAR1\x15": "a Parquet file",
    b"ARROW1\0\0": "an Arrow file",
    b"\x93NUMPY": "an NPY file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"SQLite format 3\0": "an SQLite file",
    b"%PDF-": "a PDF file",
    b"\x80\x04\x95": "a Python pickle",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs.github.com/": "a pointer of Git LFS (fetch the file with git lfs pull)",
}
_LONGEST: Final = max(map(len, _FIRST_BYTES))


def unreadable_file(error: OSError) -> SourceError:
    """Return the error for a file that the operating system cannot read, with advice."""
    # pyarrow's own message would contain the path on this machine.
    why = os.strerror(error.errno) if error.errno is not None else str(error)
    advice = _WHAT_TO_DO.get(error.errno or 0, "check the file and its disk")
    return SourceError(f"cannot be read: {why}: {advice}")


def check_file(path: Path) -> None:
    """Raise SourceError unless `path` is a regular file that is not empty; reading a pipe could block."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable_file(error) from error
    check_status(status)


def check_status(status: os.stat_result) -> None:
    """Raise SourceError unless the status is that of a regular file that is not empty."""
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise SourceError(f"is not a file but {kind}; remove it, or give it another suffix")
    if not status.st_size:
        raise SourceError("is empty: 0 bytes; write it again, or remove it")


def first_bytes(path: Path, most: int) -> tuple[bytearray, int]:
    """Return at most `most` first bytes of a regular file, and its size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would block
        try:
            status = os.fstat(descriptor)
            check_status(status)
            start = bytearray(min(status.st_size, most))
            read = os.readv(descriptor, [start])
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable_file(error) from error
    if read != len(start):
        raise SourceError(f"was truncated from {status.st_size:,} to {read:,} bytes while it was read")
    return start, status.st_size


def check_first_bytes(format: str, start: bytes | bytearray) -> None:  # noqa: A002 - the option's name
    """Refuse a file whose first bytes belong to another format."""
    lowered = bytes(start[:_LONGEST]).lower()
    for first, kind in _FIRST_BYTES.items():
        if format in kind:
            continue
        if start.startswith(first) or (first.startswith(b"<") and lowered.startswith(first)):
            raise SourceError(
                f"is no {format} file, but begins like {kind}; correct its suffix, or put the right file in its place"
            )


def unpacked_limit(size: int) -> int:
    """Return how many bytes a file of `size` bytes may unpack to."""
    return max(UNPACKED_FREELY, UNPACKED_PER_BYTE * size)


def unpacks_too_much(size: int, advice: str = "unpack it, and use that file") -> SourceError:
    """Return the error for a file that would fill the memory."""
    return SourceError(
        f"its {size:,} bytes unpack to more than {unpacked_limit(size):,}, as if made to fill the memory; if "
        f"this is intended, {advice}"
    )
