"""The folder of the sources, on a local disk or in a bucket."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.sources.bucket import Bucket
from builder.sources.fingerprints import Fingerprint, State, read_fingerprint


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on a disk, with the methods of a `Bucket`."""

    path: Path  # as the caller wrote it; it may be relative

    def __str__(self) -> str:
        return str(self.path)

    @property
    def root(self) -> Path:
        """The absolute path of the folder."""
        return self.path.absolute()

    def for_worker(self, names: Iterable[str]) -> "LocalFolder":  # noqa: ARG002
        """Return the folder for another process, whose working folder may differ."""
        return LocalFolder(self.root)

    def with_label_files(self, names: Iterable[str]) -> "LocalFolder":  # noqa: ARG002
        """Return the folder unchanged."""
        return self

    def state(self, name: str) -> State:
        """Return the state of a file; OSError if it does not exist."""
        return State.of(os.stat(os.path.join(self.path, name)))

    def read(self, name: str) -> Fingerprint:
        """Read a file and hash it; OSError if it cannot be read."""
        return read_fingerprint(os.path.join(self.path, name))

    def as_listed(self, read: Fingerprint, name: str) -> Fingerprint:  # noqa: ARG002
        """Return the fingerprint unchanged."""
        return read

    def place_of(self, path: Path) -> str | None:
        """Return the POSIX path of a manifest relative to the folder; None: it is outside, or its name is not UTF-8."""
        try:
            place = path.resolve().relative_to(self.path.resolve()).as_posix()
            place.encode()
        except ValueError:
            return None
        return place

    def find(self, place: str) -> Path | None:
        """Return the file with a path from `place_of`, if it exists; never a file outside the folder."""
        if Path(place).is_absolute() or ".." in Path(place).parts:
            return None
        try:
            path = (self.root / place).resolve()
            return path if path.is_relative_to(self.root.resolve()) and path.is_file() else None
        except (OSError, RuntimeError, ValueError):  # a name that no file can have, or a cycle of links
            return None

    @contextmanager
    def fetch(self, names: Iterable[str]) -> Iterator[tuple[Path, Mapping[str, OSError]]]:  # noqa: ARG002
        """Yield the absolute path of the folder, and no errors."""
        yield self.root, {}


Folder = LocalFolder | Bucket
