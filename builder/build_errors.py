"""What can go wrong in a build, as one tree.

    BuildError
    ├── UsageError    what was asked for cannot be: nothing is built, exit status 2
    │   └── NoSuchProcessError   the name of a process function leads to none: where a store records it, give another
    └── SourceError   one source cannot be used: it is quarantined, the others go on, exit status 1
        └── EmptySourceError   nothing is left of a source: it is skipped, and not tried again until it changes

A class exists only where a caller acts differently. All of them survive pickling, since workers raise them.
"""

from typing import Final

NO_ROWS: Final = "has no rows"  # such as a table with nothing but a header


class BuildError(Exception):
    """The root of what the builder raises; the message says what, where, the two numbers, and what to do."""


class UsageError(BuildError):
    """The arguments cannot be met: a folder that is not there, no matching file, options that clash."""


class NoSuchProcessError(UsageError):
    """The name of a process function leads to none: there is no such module or function, or the name can be of none."""


class SourceError(BuildError):
    """One source cannot be used.

    Args:
        source: The source's name.
        reason: What is wrong with it, where in it, and what to do.

    >>> str(SourceError("a/p17.csv", "row 17, column c3: missing value"))
    'a/p17.csv: row 17, column c3: missing value'
    """

    def __init__(self, source: str, reason: str) -> None:
        # Both go to args, from which pickle makes the exception again.
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class EmptySourceError(SourceError):
    """Nothing is left of a source: it has no rows, all were dropped, or its process function gave no sequence."""
