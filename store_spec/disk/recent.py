"""A cache of the chunks that a thread decompressed last and needed only in part: it may need the rest next."""

import threading

import numpy as np
from numpy.typing import NDArray

MOST_CHUNKS = 6  # two of each of inputs, labels and filled: a window may be in two chunks
MOST_BYTES = 2**20  # larger chunks are not cached

ChunkKey = tuple[object, str, int, int]  # a unique object of the snapshot, array, shard, chunk


class RecentChunks(threading.local):
    """Decompressed chunks of a thread, in memory that is reused.

    The system would clear new memory for each chunk, and a window would take three times as long. A chunk without a key
    is not cached: such chunks share one buffer, which stays in the processor's cache.
    """

    def __init__(self) -> None:
        self.chunks: dict[ChunkKey, NDArray[np.uint8]] = {}  # the oldest first; without those in use
        self.spare: list[NDArray[np.uint8]] = []  # at most one buffer; empty while that is in use

    def take(self, key: ChunkKey) -> NDArray[np.uint8] | None:
        """Remove a chunk from the cache and return its buffer, which may be longer; None if it is not cached."""
        return self.chunks.pop(key, None)

    def buffer(self, key: ChunkKey | None, nbytes: int) -> NDArray[np.uint8]:
        """Return a buffer of at least `nbytes` bytes, which nothing else uses until it is given back."""
        buffer = None
        if key is None:
            buffer = self.spare.pop() if self.spare else None
        elif len(self.chunks) >= MOST_CHUNKS:
            buffer = self._remove_oldest()
        return buffer if buffer is not None and len(buffer) >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, key: ChunkKey | None, buffer: NDArray[np.uint8]) -> None:
        """Cache a buffer with a chunk in it, unless it is large."""
        if len(buffer) > MOST_BYTES:
            return
        if key is None:
            self.spare = [buffer]
            return
        self.chunks[key] = buffer
        if len(self.chunks) > MOST_CHUNKS:
            self._remove_oldest()

    def _remove_oldest(self) -> NDArray[np.uint8] | None:
        # A signal handler that runs between the two calls may read too, and take the chunk.
        keys = list(self.chunks)
        return self.chunks.pop(keys[0], None) if keys else None
