"""The options for chunks, shards and codec of a new store; for an old store they must agree with its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from builder.build_errors import UsageError
from store_spec import Chunking, Codec, Schema, SchemaError, parse_bytes
from store_spec.building import StorePlace, sizes_for

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The options; None: the default for a new store, and no requirement for an old store."""

    chunk: int | None = None  # decoded bytes that are compressed together
    shard: int | None = None  # decoded bytes in one file
    codec: Codec | None = None
    measure: bool = False  # whether to choose the codec of a new store by its first rows

    def __post_init__(self) -> None:
        Chunking.for_rows(1, chunk_bytes=self.chunk_bytes, shard_bytes=self.shard_bytes)

    @classmethod
    def parse(cls, chunk: int | str | None, shard: int | str | None, codec: str | None) -> Self:
        """Parse sizes such as `"1MB"`, and a codec such as `"zstd:5"` or `"auto"`; invalid text is a SchemaError."""
        return cls(
            chunk=None if chunk is None else parse_bytes(chunk),
            shard=None if shard is None else parse_bytes(shard),
            codec=None if codec is None or codec == AUTO else _codec(codec),
            measure=codec == AUTO,
        )

    @property
    def chunk_bytes(self) -> int:
        """Decoded bytes of a chunk of a new store."""
        return sizes_for(self.chunk, self.shard)[0]

    @property
    def shard_bytes(self) -> int:
        """Decoded bytes of a shard of a new store."""
        return sizes_for(self.chunk, self.shard)[1]

    def check(self, schema: Schema, store: StorePlace) -> None:
        """Refuse options that differ from those of a store; the message names both values."""
        row_bytes, steps = schema.step_bytes, schema.steps
        chunk, shard = steps.chunk, steps.shard
        if self.chunk is not None:
            chunk = Chunking.for_rows(row_bytes, chunk_bytes=self.chunk_bytes, shard_bytes=self.shard_bytes).chunk
        if self.shard is not None:
            least = steps.chunk * max(1, row_bytes)
            shard = Chunking.for_rows(row_bytes, chunk_bytes=least, shard_bytes=max(least, self.shard)).shard
        for before, now in (
            (f"chunks of {steps.chunk:,} steps", f"chunks of {chunk:,} steps"),
            (f"shards of {steps.shard:,} steps", f"shards of {shard:,} steps"),
            (f"codec {schema.codec}", f"codec {self.codec or schema.codec}"),
        ):
            if before != now:
                raise UsageError(
                    f"{store}: has {before}, but the option is now {now}; leave it out, or build to another path"
                )


def _codec(text: str) -> Codec:
    if text.partition(":")[0] not in Codec.NAMES:
        known = ", ".join(Codec.NAMES)
        raise SchemaError(f"codec {text!r:.80} is not known; use one of {known}, {AUTO}, or with a level as 'zstd:5'")
    return Codec.parse(text)
