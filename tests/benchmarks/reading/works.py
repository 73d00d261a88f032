"""The windows that are read: their shape, their order and their store, and how fast that should be."""

from dataclasses import dataclass
from typing import Literal

WINDOW = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Windows to read in batches. As JSON (`dataclasses.asdict`) it is sent to the process that reads.

    Args:
        name: The name in the tables.
        store: A name in `stores.STORES`.
        stride: Steps between the starts of windows; equal to `window` if windows are disjoint.
        memory: The memory of the reader.
        goal: The least rate, as a share of that of `beside`; None if there is no goal.
        beside: The gather from memory, or decompressing alone with as many threads as there are cores.
    """

    name: str
    store: str = "walks"
    window: int = WINDOW
    stride: int = 1
    shuffle: bool = True
    batch: int = 256
    memory: str = "256MB"
    goal: float | None = None
    beside: Literal["gather", "decompress"] = "gather"


DENSE = Work(name="dense, shuffled", goal=1.0)
DISJOINT = Work(name="disjoint, shuffled", stride=WINDOW, goal=0.8, beside="decompress")
MAIN = (
    DENSE,
    Work(name="stride 16, shuffled", stride=16, goal=0.5),
    DISJOINT,
    Work(name="disjoint, in order", stride=WINDOW, shuffle=False, goal=0.8, beside="decompress"),
    Work(name="dense, in order", shuffle=False),
)
# Half of the goals above. A batch of 256 windows of 512 features is 67 MB, which needs a larger budget.
OTHERS = (
    Work(name="512 features, dense", store="wide", memory="600MB", goal=0.5),
    Work(name="512 features, disjoint", store="wide", memory="600MB", stride=WINDOW, goal=0.4, beside="decompress"),
    Work(name="windows of 1024, dense", window=1024, goal=0.5),
    Work(name="windows of 1024, disjoint", window=1024, stride=1024, goal=0.4, beside="decompress"),
    Work(name="tiny sequences, dense", store="tiny", window=5, goal=0.5),
    Work(name="tiny sequences, disjoint", store="tiny", window=5, stride=5, goal=0.4, beside="decompress"),
)
TINY = OTHERS[-2]
