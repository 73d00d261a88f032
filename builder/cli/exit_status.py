"""The exit status of a command: 0 success, 1 a failure, 2 wrong usage, 128 + number after a signal.

A user's mistake, a full disk and Ctrl-C never show a traceback.
"""

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
REPEAT_SECONDS = 1.0  # within this time another signal counts as a repetition of the first
AGAIN_SECONDS = 0.01  # a lost signal is repeated after this time; at once it would be lost again


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def exit_with_status(store: Path | str | None = None) -> Iterator[None]:
    """Turn errors and signals into a message on stderr and a SystemExit.

    Args:
        store: The store that is being built; after a signal, the message says how much of it is committed.
    """
    with _raise_on_signals() as signals:
        try:
            yield
        except KeyboardInterrupt as stop:
            _exit_interrupted(stop.number if isinstance(stop, Interrupted) else signal.SIGINT, store)
        except Exception as error:
            if signals and not _has_imports():  # modules in C turn an exception during their import into ImportError
                _exit_interrupted(signals[0], store)
            explained = _explain(error)
            if explained is None:
                raise
            status, text = explained
            click.echo(f"Error: {printable(text)}", err=True)
            sys.exit(status)


def _exit_interrupted(number: int, store: Path | str | None) -> NoReturn:
    for one in (signal.SIGINT, signal.SIGTERM):  # another signal would interrupt the exit
        signal.signal(one, signal.SIG_IGN)
    click.echo("interrupted" if store is None else f"interrupted: {_committed_text(store)}", err=True)
    sys.exit(128 + number)


def _has_imports() -> bool:
    """Return whether all modules of a build are imported; an interrupted import removes its module from sys.modules.

    Before that, nothing is built, and the store cannot be read, since NumPy cannot be imported a second time.
    """
    return "builder.execution.build" in sys.modules


def _explain(error: Exception) -> tuple[int, str] | None:
    """Return the exit status and the text of an error that the user can fix; None for a bug.

    The user can also fix errors of the system, such as a path that is too long or a folder without permission.
    """
    from builder.build_errors import BuildError, UsageError
    from store_spec import MissingStoreError, SchemaError, StoreError, StoreExistsError

    if isinstance(error, UsageError | SchemaError | StoreExistsError | MissingStoreError):
        return WRONG_USAGE, str(error)
    if isinstance(error, BuildError | StoreError):
        return FAILED, str(error)
    if not isinstance(error, OSError):
        return None
    text = error.strerror or str(error)
    return (FAILED, text) if error.filename is None else (WRONG_USAGE, f"{error.filename}: {text}")


def _committed_text(store: Path | str) -> str:
    """Return how much an interrupted build has committed, as text."""
    if not _has_imports():
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
def _raise_on_signals() -> Iterator[list[int]]:
    """Make SIGINT and SIGTERM raise Interrupted, so that clean-up code runs; yield the list of received signals.

    Python prints and drops exceptions in destructors and in the garbage collector, where dask does some of its work;
    the build would then continue. Therefore a thread repeats lost signals.
    """
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers only in the main thread
        yield []
        return
    received: list[int] = []
    main, raised_at, is_over = threading.get_ident(), float("-inf"), False
    lost: SimpleQueue[int | None] = SimpleQueue()  # signals to repeat; a SimpleQueue is safe in destructors

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal raised_at
        if is_over:
            return
        now = time.monotonic()
        if now - raised_at > REPEAT_SECONDS:
            raised_at = now
            received.append(number)
            raise Interrupted(number)

    def note_lost(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, Interrupted):
            lost.put(what.exc_value.number)
        else:
            old_hook(what)

    def repeat() -> None:
        nonlocal raised_at
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # the main thread receives them
        while (number := lost.get()) is not None:
            time.sleep(AGAIN_SECONDS)
            raised_at = float("-inf")  # only now, since a signal during the wait would be lost as well
            signal.pthread_kill(main, number)

    thread = threading.Thread(target=repeat, name="seqzarr signals", daemon=True)
    thread.start()
    # Ignored signals stay ignored, as for commands in the background or under nohup.
    handlers = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    old_hook, sys.unraisablehook = sys.unraisablehook, note_lost
    try:
        yield received
    finally:
        is_over = True  # later repetitions are ignored
        lost.put(None)
        thread.join()
        sys.unraisablehook = old_hook
        if raised_at == float("-inf"):  # otherwise signals stay ignored while the process exits
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr, also for workers: stdout is for the result of the command."""
    sys.stdout.flush()
    try:
        stdout = os.dup(1)
    except OSError:  # stdout is closed
        yield
        return
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
