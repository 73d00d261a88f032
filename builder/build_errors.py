"""The errors of the builder.

    BuildError
    ├── UsageError    the arguments are wrong: nothing is built, exit status 2
    │   └── NoSuchProcessError   no process function has this name: if a store records the name, pass another one
    └── SourceError   one source cannot be used: it is quarantined, the build continues, exit status 1
        └── EmptySourceError   a source has no rows left: it is skipped, and not tried again until it changes

Each class exists because some caller handles it differently. All can be pickled, since workers raise them.
"""

from typing import Final

NO_ROWS: Final = "has no rows"  # such as a table with nothing but a header


class BuildError(Exception):
    """The base of all errors of the builder; the message says what is wrong, where, and what to do."""


class UsageError(BuildError):
    """The arguments are wrong: a folder does not exist, no file matches, or options conflict."""


class NoSuchProcessError(UsageError):
    """No process function has this name: there is no such module or function, or the name is not valid."""


class SourceError(BuildError):
    """One source cannot be used.

    Args:
        reason: What is wrong with it, where in it, and what to do.

    >>> with of_source("a/p17.csv"):
    ...     raise SourceError("row 17, column c3: missing value")
    Traceback (most recent call last):
    builder.build_errors.SourceError: a/p17.csv: row 17, column c3: missing value
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.source: str | None = None  # its name, or that of one of its files; None: not known yet
        self.columns: tuple[str, ...] = ()  # that cannot be read, if the others can

    def __str__(self) -> str:
        return self.reason if self.source is None else f"{self.source}: {self.reason}"


class EmptySourceError(SourceError):
    """A source has no rows left: its file is empty, all rows were dropped, or its process function gave no sequence."""


class of_source:  # noqa: N801 - used like a function; a class, as it takes less time than a generator
    """Set the name of the source, or of one of its files, in a SourceError that has none yet."""

    __slots__ = ("_name",)

    def __init__(self, name: str | None) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, SourceError):
            error.source = error.source or self._name
