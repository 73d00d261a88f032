"""The chunks that a thread decompressed last, where only some of their rows were wanted: those beside may be next."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

MOST_CHUNKS = 6  # two of inputs, of labels and of what was filled in: a window may lie in two
MOST_BYTES = 2**20  # of each; larger ones are not kept

Key = tuple[object, str, int, int]  # what nothing but one snapshot has, array, shard, chunk


class RecentChunks(threading.local):
    """Decompressed chunks of a thread, in memory that it uses again.

    Made anew each time, that is given back to the system and cleared again: a window then takes three times as long.
    Of a chunk without a key nothing is asked for again: its memory is the same each time, which stays in the
    processor's cache.
    """

    def __init__(self) -> None:
        self.chunks: dict[Key, NDArray[np.uint8]] = {}  # the oldest first; without those in use
        self.spare: list[NDArray[np.uint8]] = []  # one at most; none while it is in use

    def take(self, key: Key) -> NDArray[np.uint8] | None:
        """Return the bytes of a chunk, if it is there, and maybe others after them; nobody else gets them meanwhile."""
        return self.chunks.pop(key, None)

    def room(self, key: Key | None, nbytes: int) -> NDArray[np.uint8]:
        """Return that many bytes or more for a chunk; nobody else gets them before they are given back."""
        room = None
        if key is None:
            room = self.spare.pop() if self.spare else None
        elif len(self.chunks) >= MOST_CHUNKS:
            room = self._oldest()
        return room if room is not None and len(room) >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, key: Key | None, room: NDArray[np.uint8]) -> None:
        """Keep them, with that chunk in them, unless they are many."""
        if len(room) > MOST_BYTES:
            return
        if key is None:
            self.spare = [room]
            return
        self.chunks[key] = room
        if len(self.chunks) > MOST_CHUNKS:
            self._oldest()

    def _oldest(self) -> NDArray[np.uint8] | None:
        # What interrupts this thread between the two calls, as a signal does, may read too, and take it.
        keys = list(self.chunks)
        return self.chunks.pop(keys[0], None) if keys else None
