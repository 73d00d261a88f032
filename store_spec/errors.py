"""Everything that `store_spec` raises, one tree, branching by what a caller would do about it.

StoreError
├── SchemaError         the store asked for is impossible: change the arguments (also a ValueError)
├── SequenceError       a sequence does not fit the store: fix or leave out that sequence (also a ValueError)
├── WindowError         windows or batches asked for are impossible: change the arguments (also a ValueError)
├── StateError          a state is not of these batches: make those that it is of (also a ValueError)
├── SequenceIndexError  a number beyond the last sequence, step or window (also an IndexError)
├── MissingStoreError   there is no store at that path (also a FileNotFoundError)
├── StoreExistsError    something is at that path already (also a FileExistsError)
├── LockedError         another writer has the store open: wait for it
├── ConflictError       the store was changed by somebody who did not hold the lock: open it again
├── StorageError        the disk refused an operation: make room, raise the limit, try again
│   └── UnreadableError it does not give what a file holds: restore that file
└── FormatError         what is on disk is not a store that this version may read
    ├── VersionError    it is of a later major version: upgrade seqzarr
    └── ChecksumError   bytes are not those that were written: restore or rebuild that file
"""


class StoreError(Exception):
    """Root of all errors of `store_spec`."""


class SchemaError(StoreError, ValueError):
    """The store asked for is impossible."""


class SequenceError(StoreError, ValueError):
    """A sequence does not fit the store; the writer stays usable."""


class WindowError(StoreError, ValueError):
    """The windows or batches asked for are impossible."""


class StateError(StoreError, ValueError):
    """A state is not of the batches that are to go on from it."""


class SequenceIndexError(StoreError, IndexError):
    """A number beyond the last sequence, step or window."""


class MissingStoreError(StoreError, FileNotFoundError):
    """There is no store at that path."""


class StoreExistsError(StoreError, FileExistsError):
    """Something is at that path already."""


class LockedError(StoreError):
    """Another writer has the store open."""


class ConflictError(StoreError):
    """The store was changed by somebody who did not hold the lock."""


class StorageError(StoreError, OSError):
    """The disk refused an operation; the message names the file and the step."""


class UnreadableError(StorageError):
    """The disk does not give what a file holds."""


class FormatError(StoreError):
    """What is on disk is not a store that this version may read."""


class VersionError(FormatError):
    """The store is of a later major version."""


class ChecksumError(FormatError):
    """Bytes are not those that were written."""


# What tells that something is wrong with a file; other errors, as of a full disk or of too many open files, do not.
DAMAGE = (FormatError, MissingStoreError, UnreadableError)
