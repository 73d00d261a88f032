"""How a command ends: 0 all well, 1 something failed and is named, 2 wrong usage, 128 + number for a signal.

A user's mistake, a full disk, or a Ctrl-C never shows a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import click

from builder.amounts import printable

FAILED, WRONG_USAGE = 1, 2
REPEAT_SECONDS = 2.0  # in which a second signal is taken for an impatient repetition of the first
AGAIN_SECONDS = 0.01  # until a signal is repeated whose exception was lost: at once it would be so again


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ending_plainly(store: Path | None = None) -> Iterator[None]:
    """Turn errors and signals into a message on stderr and an exit status.

    Args:
        store: What is being built: after a signal, the message says how much of it is committed.

    Raises:
        SystemExit: Always, where an error or a signal came.
    """
    with _raising_on_signals() as came:
        try:
            yield
        except KeyboardInterrupt as stop:
            _interrupted(stop.number if isinstance(stop, Interrupted) else signal.SIGINT, store)
        except Exception as error:
            if came and not _is_imported():  # modules in C make an ImportError of whatever ends an import of theirs
                _interrupted(came[0], store)
            status = _status(error)
            if status is None:
                raise
            click.echo(f"Error: {printable(_text(error))}", err=True)
            sys.exit(status)


def _interrupted(number: int, store: Path | None) -> NoReturn:
    for one in (signal.SIGINT, signal.SIGTERM):  # a repetition would cut off the end of this process
        signal.signal(one, signal.SIG_IGN)
    click.echo("interrupted" if store is None else f"interrupted: {_committed(store)}", err=True)
    sys.exit(128 + number)


def _is_imported() -> bool:
    """Tell whether all was imported that a build needs: an import that was cut off leaves no module of its name.

    Before that nothing was done; and no store can be read, since NumPy cannot be imported again after half of it was.
    """
    return "builder.execution.build" in sys.modules


def _status(error: Exception) -> int | None:
    """Return the exit status for an error that a user can do something about; None for a fault of ours.

    What the system refuses is one: a path that is too long, or below a folder that one may not enter.
    """
    from builder.build_errors import BuildError, UsageError
    from store_spec import MissingStoreError, SchemaError, StoreError, StoreExistsError

    if isinstance(error, UsageError | SchemaError | StoreExistsError | MissingStoreError):
        return WRONG_USAGE
    if isinstance(error, OSError) and not isinstance(error, StoreError) and error.filename is not None:
        return WRONG_USAGE
    return FAILED if isinstance(error, BuildError | StoreError | OSError) else None


def _text(error: Exception) -> str:
    """Return what an error says; what the system says without a number, behind the path that it is about."""
    from store_spec import StoreError

    if not isinstance(error, OSError) or isinstance(error, StoreError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _committed(store: Path) -> str:
    """Say what a build that was cut off leaves."""
    if not _is_imported():
        return "nothing was done yet; the same command starts again"
    from store_spec import StoreError, open_store

    try:
        count = open_store(store).counts.sequences
    except StoreError:
        count = 0
    if not count:
        return "nothing is committed yet; the same command starts again"
    are = "1 sequence is" if count == 1 else f"{count:,} sequences are"
    return f"{are} committed; the same command goes on from there"


@contextmanager
def _raising_on_signals() -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM raise Interrupted in here, so that what was begun is put in order; give which did.

    Python prints and drops an exception that comes while it collects garbage or takes an object down, and dask has
    work to do then: the build would go on. So a thread repeats a signal that was lost.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python sets no handlers
        yield []
        return
    came: list[int] = []
    main, last, over = threading.get_ident(), float("-inf"), False
    dropped: SimpleQueue[int | None] = SimpleQueue()  # signals to repeat; it takes them wherever Python is just then

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if over:
            return
        before, last = last, time.monotonic()
        if last - before > REPEAT_SECONDS:
            came.append(number)
            raise Interrupted(number)

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, Interrupted):
            dropped.put(what.exc_value.number)
        else:
            hook(what)

    def repeat() -> None:
        nonlocal last
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # they are for the main thread
        while (number := dropped.get()) is not None:
            time.sleep(AGAIN_SECONDS)
            last = float("-inf")  # no sooner: another one that came meanwhile would be lost as well
            signal.pthread_kill(main, number)

    repeating = threading.Thread(target=repeat, name="seqzarr signals", daemon=True)
    repeating.start()
    # What is ignored stays ignored: so it is for commands in the background, and under nohup.
    handlers = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield came
    finally:
        over = True  # what is still to be repeated came too late
        dropped.put(None)
        repeating.join()
        sys.unraisablehook = hook
        if last == float("-inf"):
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Send to stderr what others print in here, workers among them: stdout is for the result."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
