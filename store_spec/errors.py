"""The exceptions of `store_spec`: one hierarchy, divided by what a caller can do about them.

StoreError
├── SchemaError         a store like this is impossible: change the arguments (also a ValueError)
├── SequenceError       a sequence does not fit the store: fix or leave out that sequence (also a ValueError)
├── WindowError         windows or batches like this are impossible: change the arguments (also a ValueError)
├── StateError          a state does not belong to these batches: make batches that match it (also a ValueError)
├── SequenceIndexError  a number beyond the last sequence, step or window (also an IndexError)
├── MissingStoreError   there is no store at that path (also a FileNotFoundError)
├── StoreExistsError    something is at that path already (also a FileExistsError)
├── LockedError         another writer has the store open: wait for it
├── ConflictError       the store was changed by a writer without the lock: open it again
├── StorageError        the disk reported an error: make room, raise the limit, try again
│   └── UnreadableError a file cannot be read: restore that file
└── FormatError         what is on disk is not a store that this version can read
    ├── VersionError    it has a later major version: upgrade seqzarr
    └── ChecksumError   bytes are not those that were written: restore or rebuild that file
"""


class StoreError(Exception):
    """The base class of all errors of `store_spec`."""


class SchemaError(StoreError, ValueError):
    """A store like this is impossible."""


class SequenceError(StoreError, ValueError):
    """A sequence does not fit the store; the writer stays usable."""


class WindowError(StoreError, ValueError):
    """Windows or batches like this are impossible."""


class StateError(StoreError, ValueError):
    """A state does not belong to the batches that load it."""


class SequenceIndexError(StoreError, IndexError):
    """A number beyond the last sequence, step or window."""


class MissingStoreError(StoreError, FileNotFoundError):
    """There is no store at that path."""


class StoreExistsError(StoreError, FileExistsError):
    """Something is at that path already."""


class LockedError(StoreError):
    """Another writer has the store open."""


class ConflictError(StoreError):
    """The store was changed by a writer without the lock."""


class StorageError(StoreError, OSError):
    """The disk reported an error; the message names the file and the step."""


class UnreadableError(StorageError):
    """A file cannot be read."""


class FormatError(StoreError):
    """What is on disk is not a store that this version can read."""


class VersionError(FormatError):
    """The store has a later major version."""


class ChecksumError(FormatError):
    """Bytes are not those that were written."""


# Errors that mean that a file is damaged. Other errors, for example of a full disk or too many open files, do not.
DAMAGE = (FormatError, MissingStoreError, UnreadableError)
