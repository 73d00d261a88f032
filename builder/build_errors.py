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
        source: The source's name.
        reason: What is wrong with it, where in it, and what to do.

    >>> str(SourceError("a/p17.csv", "row 17, column c3: missing value"))
    'a/p17.csv: row 17, column c3: missing value'
    """

    def __init__(self, source: str, reason: str) -> None:
        # pickle makes the exception again from its args.
        super().__init__(source, reason)
        self.source = source
        self.reason = reason
        self.columns: tuple[str, ...] = ()  # that cannot be read, if the others can

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class EmptySourceError(SourceError):
    """A source has no rows left: its file is empty, all rows were dropped, or its process function gave no sequence."""
