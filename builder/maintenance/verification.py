"""`verify`: check a store in several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import store_spec
from builder.build_errors import BuildError
from builder.execution.build import worker_count
from builder.workers.engine import Task, as_done, start_engine
from store_spec import DAMAGE, Problem
from store_spec.building import Checked, Part, PartCheck

SMALL_BYTES = 2**29  # checking fewer decoded bytes takes less time than starting worker processes
ROUGH_BYTES = 2**26  # parts whose sizes differ by less count as equally large
BUNDLE_BYTES = 2**28  # decoded bytes of a task, so that progress is shown several times a second

Bundle = dict[int, Part]


@dataclass(slots=True, kw_only=True)
class Checking:
    """The progress of a check."""

    to_check: int = 0  # bytes: decoded rows, or the sources' files
    checked: int = 0
    problems: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the check started."""
        return time.monotonic() - self.started


def verify(
    store: store_spec.StoreLocation,
    *,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Checking], None] = lambda _: None,
) -> list[Problem]:
    """Return all problems of a store, like `store_spec.verify`, but check in several processes.

    The result does not depend on the number of processes.

    Args:
        store: Its path, its URL as a str, or a zarr store, which is pickled for the workers.
        workers: Processes on this machine; 0: work in this process. By default one per core, or none if starting
            them would take longer.
        scheduler: The address of a dask scheduler, or a dask client, to use instead; its workers read the store.
        on_progress: Called with a `Checking` whenever there is progress.

    Raises:
        MissingStoreError: The store does not exist.
        StorageError: A process has too many open files, or too little memory; or the root or a folder cannot be read.
        BuildError: Worker processes died repeatedly.
    """
    free = workers is None and scheduler is None  # the number of workers can be chosen
    count = worker_count(workers, small=free and _decoded_bytes(store) <= SMALL_BYTES)
    checking = Checking()
    with start_engine(count, scheduler) as engine:

        def mapper(check: PartCheck, parts: Sequence[Part]) -> Iterator[Checked]:
            """Check the parts, several at once, and yield the results in the order of the parts."""
            checking.to_check = sum(part.nbytes for part in parts)
            on_progress(checking)
            done: dict[int, Checked] = {}
            following = 0

            def submit(bundle: Bundle) -> Task:
                return engine.submit(_check_each, check, list(bundle.values()), watch=True)

            for bundle, task in as_done(engine, bundles(parts, engine.workers, check.at_once), submit):
                try:
                    checked = task.result()
                except engine.lost as error:
                    part, *more = bundle.values()
                    beside = f" and of {len(more):,} more such part{'s' * (len(more) > 1)}" if more else ""
                    raise BuildError(
                        f"worker processes died repeatedly while rows {part.start:,} to {part.stop:,} of "
                        f"{part.array}{beside} were checked; they ran out of memory: check with workers=0 (--workers 0)"
                    ) from error
                done.update(zip(bundle, checked, strict=True))
                checking.checked += sum(part.nbytes for part in bundle.values())
                checking.problems += sum(each.report.count for each in checked)
                on_progress(checking)
                while following in done:
                    yield done.pop(following)
                    following += 1

        return store_spec.verify(store, mapper=mapper)


def bundles(parts: Sequence[Part], workers: int, at_once: int = 1) -> Iterator[Bundle]:
    """Group the numbered parts into tasks of decreasing size, the largest parts first.

    Each task costs the scheduler and the workers some milliseconds, so there are few. The last tasks are small, so that
    all processes end at about the same time. (Guided self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on
    Computers C-36, 1987.) Without workers, or for a remote store, a task has as many parts as are checked at once.

    >>> parts = [Part(array="inputs", start=0, stop=1, files=(), first=0, bounds=None, nbytes=10)] * 8
    >>> [list(bundle) for bundle in bundles(parts, workers=2)]
    [[0, 1, 2, 3], [4, 5], [6], [7]]
    """
    by_size = workers > 0 and at_once == 1
    left, bundle, size = sum(part.nbytes for part in parts), Bundle(), 0
    for number, part in sorted(enumerate(parts), key=lambda one: -(one[1].nbytes // ROUGH_BYTES)):
        bundle[number] = part
        size += part.nbytes
        full = size >= min(BUNDLE_BYTES, left / workers) if by_size else len(bundle) == at_once
        if full:
            yield bundle
            left, bundle, size = left - size, Bundle(), 0
    if bundle:
        yield bundle


def _check_each(check: PartCheck, parts: Sequence[Part]) -> list[Checked]:
    return list(check.each(parts))


def _decoded_bytes(store: store_spec.StoreLocation) -> int:
    """Return the decoded bytes of a store; 0 if it cannot be read, which `verify` reports."""
    try:
        root = store_spec.open_store(store).snapshot.root
    except DAMAGE:
        return 0
    return sum(root.committed(name) * root.schema.rows(name).nbytes for name in root.schema.row_arrays)
