"""The exceptions of `store_spec`: one hierarchy, divided by what a caller can do about them."""


class StoreError(Exception):
    """The base class of all errors of `store_spec`."""


class SchemaError(StoreError, ValueError):
    """A store like this is impossible: change the arguments."""


class SequenceError(StoreError, ValueError):
    """A sequence does not fit the store: fix it or leave it out; the writer stays usable."""


class WindowError(StoreError, ValueError):
    """Windows or batches like this are impossible: change the arguments."""


class StateError(StoreError, ValueError):
    """A state does not belong to the batches that load it: make batches that match it."""


class SequenceIndexError(StoreError, IndexError):
    """A number beyond the last sequence, step or window."""


class MissingStoreError(StoreError, FileNotFoundError):
    """There is no store at that path."""


class StoreExistsError(StoreError, FileExistsError):
    """Something is at that path already."""


class LockedError(StoreError):
    """Another writer has the store open: wait for it."""


class ConflictError(StoreError):
    """The store was changed by a writer without the lock: open it again."""


class StorageError(StoreError, OSError):
    """The disk reported an error: make room, raise the limit, try again. The message names the file and the step."""


class UnreadableError(StorageError):
    """A file cannot be read: restore it."""


class FormatError(StoreError):
    """What is on disk is not a store that this version can read."""


class VersionError(FormatError):
    """The store has a later major version: upgrade seqzarr."""


class ChecksumError(FormatError):
    """Bytes are not those that were written: restore or rebuild that file."""


# Errors that mean that a file is damaged. Other errors, for example of a full disk or too many open files, do not.
DAMAGE = (FormatError, MissingStoreError, UnreadableError)
