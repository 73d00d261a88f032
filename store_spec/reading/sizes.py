"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

from store_spec.errors import SchemaError, StoreError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(size: int | str, error: type[StoreError] = SchemaError) -> int:
    """Parse a size: a number of bytes, or text such as `256MB` (10**6) or `64MiB` (2**20).

    Raises:
        StoreError: The text is not a size; the class of the error is the argument `error`.

    >>> parse_bytes("1.5kB"), parse_bytes("64MiB"), parse_bytes(4096)
    (1500, 67108864, 4096)
    """
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", size, re.IGNORECASE)
    if match is None:
        raise error(f"{size!r} is not a size in bytes; write for example '64MB' or '64MiB'")
    return round(float(match[1]) * UNITS[(match[2] or "").lower()])
