"""`verify`: check a store in several processes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import store_spec
from builder.amounts import bytes_text, count_text
from builder.build_errors import BuildError
from builder.execution.build import worker_count
from builder.execution.progress_bar import View, view_of
from builder.planning.resolved_sources import split_into_batches
from builder.workers.engine import Task, as_done, start_engine
from store_spec import DAMAGE, Problem
from store_spec.building import Checked, Part, PartCheck

SMALL_BYTES = 2**29  # checking fewer decoded bytes takes less time than starting worker processes
BUNDLE_BYTES = 2**28  # decoded bytes of a task, so that progress is shown several times a second


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


def of_check(checking: Checking) -> View:
    """Return the progress of a check.

    >>> of_check(Checking(to_check=5000, checked=1200, problems=2)).account
    '1.2 kB of 5.0 kB checked; 2 problems'
    """
    problems = f"; {count_text(checking.problems, 'problem')}" if checking.problems else ""
    account = f"{bytes_text(checking.checked)} of {bytes_text(checking.to_check)} checked{problems}"
    done = checking.checked / checking.to_check if checking.checked else None
    return view_of(account, done, checking.checked, checking.seconds)


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
    is_default = workers is None and scheduler is None
    count = worker_count(workers, small=is_default and _decoded_bytes(store) <= SMALL_BYTES)
    checking = Checking()
    with start_engine(count, scheduler) as engine:

        def mapper(check: PartCheck, parts: Sequence[Part]) -> Iterator[Checked]:
            """Check the parts, several at once, and yield the results in the order of the parts."""
            checking.to_check = sum(part.nbytes for part in parts)
            on_progress(checking)
            done: dict[int, list[Checked]] = {}
            number_due = 0  # of the task whose results are yielded next
            sizes = [part.nbytes for part in parts]
            if engine.workers and check.at_once == 1:
                tasks = [one for one, _ in split_into_batches(sizes, BUNDLE_BYTES, 1.0, workers=engine.workers)]
            else:  # in this process, or a remote store
                tasks = [slice(at, at + check.at_once) for at in range(0, len(parts), check.at_once)]

            def submit(number: int) -> Task:
                return engine.submit(_check_each, check, parts[tasks[number]], watch=True)

            def death_error(number: int) -> BuildError:
                part, *more = parts[tasks[number]]
                beside = f" and {count_text(len(more), 'such part')} more" if more else ""
                return BuildError(
                    f"worker processes died repeatedly while rows {part.start:,} to {part.stop:,} of {part.array}"
                    f"{beside} were checked; they ran out of memory: check with workers=0 (--workers 0)"
                )

            for number, checked in as_done(engine, range(len(tasks)), submit, death_error):
                done[number] = checked
                checking.checked += sum(sizes[tasks[number]])
                checking.problems += sum(each.report.count for each in checked)
                on_progress(checking)
                while number_due in done:
                    yield from done.pop(number_due)
                    number_due += 1

        return store_spec.verify(store, mapper=mapper)


def _check_each(check: PartCheck, parts: Sequence[Part]) -> list[Checked]:
    return list(check.each(parts))


def _decoded_bytes(store: store_spec.StoreLocation) -> int:
    """Return the decoded bytes of a store; 0 if it cannot be read, which `verify` reports."""
    try:
        root = store_spec.open_store(store).snapshot.root
    except DAMAGE:
        return 0
    return sum(root.committed(name) * root.schema.rows(name).nbytes for name in root.schema.row_arrays)
