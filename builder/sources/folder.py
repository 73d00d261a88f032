"""The folder of the sources: on a local disk, or in a bucket, which is listed once.

An object of a bucket is fetched to a temporary folder while it is processed.
"""

import errno
import hashlib
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote, unquote

from builder.build_errors import UsageError
from builder.sources.fingerprints import Fingerprint, State, read_fingerprint
from builder.sources.patterns import is_wanted, split_pattern
from store_spec.building import BUILD_SUFFIX, is_root, object_store, place_of

_PIECE_BYTES = 2**20
REQUESTS = 16  # in parallel
# Errors of this machine, not of an object.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS})


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


class Object(NamedTuple):
    """An object in a listing. The e-tag, if there is one, changes when the object is replaced."""

    state: State  # with a hash of the e-tag in place of the time of a change
    e_tag: str


@dataclass(frozen=True)
class Bucket:
    """A folder of a bucket."""

    url: str
    objects: Mapping[str, Object]  # by their name relative to the folder; those of label files may begin with `../`

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> Any:
        return Bucket, (self.url, self.objects)  # a worker makes its own store

    @cached_property
    def _client(self) -> Callable[[str], Any]:
        # Not shared with other listings of the same URL, since the credentials may have changed.
        return cache(lambda url: object_store(url).store)

    def _place(self, name: str) -> tuple[str, str]:
        """Return the URL of a folder that contains an object, and the name of the object there."""
        up = _levels_up(name)
        return self.url.rsplit("/", up)[0] if up else self.url, name[len("../") * up :]

    def content(self, name: str) -> bytes:
        """Return the bytes of an object; OSError if it cannot be fetched, or was replaced since it was listed."""
        data = bytearray()
        self._fetch(name, data.extend)
        return bytes(data)

    def for_worker(self, names: Iterable[str]) -> Self:
        """Return the bucket with only these objects, for another process; unknown names are left out."""
        return replace(self, objects={name: self.objects[name] for name in names if name in self.objects})

    def with_label_files(self, names: Iterable[str]) -> Self:
        """Return the bucket with the named label files that are outside of its folder, too, if they exist."""
        objects = dict(self.objects)
        outside = sorted((name for name in names if _levels_up(name)), key=_levels_up)
        for _, group in groupby(outside, _levels_up):
            wanted = set(group)
            folder = posixpath.commonpath(map(posixpath.dirname, wanted))
            url, rest = self._place(f"{folder}/")
            if "//" not in url:  # outside of the bucket
                continue
            found = _list_objects(f"{url}/{quote(rest)}").objects.items()
            objects |= {path: one for name, one in found if (path := f"{folder}/{name}") in wanted}
        return replace(self, objects=objects)

    def state(self, name: str) -> State:
        """Return the state of an object when it was listed; FileNotFoundError if it was not listed."""
        return self._object(name).state

    def read(self, name: str) -> Fingerprint:
        """Fetch an object and hash it; OSError as for `content`."""
        digest = hashlib.sha256()
        self._fetch(name, digest.update)
        return Fingerprint(sha256=digest.digest(), state=self.state(name), settled=True)

    def as_listed(self, read: Fingerprint, name: str) -> Fingerprint:
        """Return the fingerprint of a fetched file, with the state of its object instead of the file's."""
        return replace(read, state=self.state(name), settled=True)

    def place_of(self, path: Path) -> str | None:  # noqa: ARG002
        """Return None: a manifest is never in a bucket."""
        return None

    def find(self, place: str) -> Path | None:  # noqa: ARG002
        """Return None: a manifest is never in a bucket."""
        return None

    @contextmanager
    def fetch(self, names: Iterable[str]) -> Iterator[tuple[Path, Mapping[str, OSError]]]:
        """Fetch objects into a temporary folder under their names; yield the folder, and the errors by name.

        Unknown names are left out, so that there is no such file. If the disk is full, an OSError is raised, since this
        is not the fault of an object.
        """
        there = [name for name in names if name in self.objects]  # other names are never used as paths
        with tempfile.TemporaryDirectory(prefix="seqzarr-", ignore_cleanup_errors=True) as folder:
            # The root is so deep that names with `../` stay in the temporary folder.
            root = Path(folder, *[Path(folder).name] * max(map(_levels_up, there), default=0))
            root.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(REQUESTS) as pool:
                errors = dict(one for one in pool.map(partial(self._fetch_into, root), there) if one is not None)
            yield root, errors

    def _fetch_into(self, folder: Path, name: str) -> tuple[str, OSError] | None:
        try:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                self._fetch(name, file.write)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            return name, error
        return None

    def _object(self, name: str) -> Object:
        if name not in self.objects:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self.objects[name]

    def _fetch(self, name: str, take: Callable[[Any], object]) -> None:
        """Call `take` with each piece of an object; the errors of obstore become OSErrors."""
        import obstore
        from obstore.exceptions import PreconditionError

        e_tag = self._object(name).e_tag
        options: Any = {"if_match": e_tag} if e_tag else {}
        url, key = self._place(name)
        try:
            for piece in obstore.get(self._client(url), key, options=options).stream(_PIECE_BYTES):
                take(piece)
        except PreconditionError as error:
            raise OSError("it was replaced since it was listed; the next build tries it again") from error
        except FileNotFoundError as error:
            raise OSError("it was deleted since it was listed") from error
        except OSError:
            raise  # of `take`
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.500}") from error


Folder = LocalFolder | Bucket


def list_bucket(url: str) -> tuple[Bucket, list[str], tuple[str, ...]]:
    """List a folder of a bucket, one object, or the objects that a pattern matches, by the rules for folders.

    The folder of a pattern is the part before its first wildcard.

    Returns:
        The folder, the names that match, unsorted, and the components of the pattern; none if the URL is not one.
    """
    scheme, _, place = url.partition("://")
    parts = place.rstrip("/").split("/")
    fixed, pattern = split_pattern(parts, in_folders=url.endswith("/"))
    bucket = _list_objects(f"{scheme}://{'/'.join(fixed)}")
    # An existing object or folder takes precedence over a pattern: run[1].csv can be an object.
    rest = unquote("/".join(parts[len(fixed) :]))
    if pattern and any(name == rest or name.startswith(f"{rest}/") for name in bucket.objects):
        bucket, pattern = _list_objects(url), ()
    if not bucket.objects and not pattern:  # one object?
        folder, _, name = url.rstrip("/").rpartition("/")
        bucket = bucket if folder.endswith(":/") else _list_objects(folder, unquote(name))
    stores = _find_stores(bucket)
    names = [name for name in bucket.objects if not stores.intersection(_folders(name))]
    return bucket, [name for name in names if is_wanted(name, pattern)], pattern


def _levels_up(name: str) -> int:
    """Return how many folders above the folder of the sources the path to an object begins."""
    return name.split("/").count("..")


def _folders(name: str) -> Iterator[str]:
    """Yield the names of the folders of an object, the outermost first, each with a slash at its end."""
    yield from (name[: end + 1] for end, letter in enumerate(name) if letter == "/")


def _find_stores(bucket: Bucket) -> set[str]:
    """Return the stores of seqzarr in a bucket, and the folders beside them; each has a slash at its end."""
    stores: set[str] = set()
    for name in sorted(bucket.objects):
        if name.endswith("/zarr.json") and not stores.intersection(_folders(name)):
            try:
                if is_root(bucket.content(name)):
                    store = name.removesuffix("/zarr.json")
                    stores |= {f"{store}/", f"{store}{BUILD_SUFFIX}/"}
            except OSError as error:
                raise UsageError(f"{bucket.url}/{name}: cannot be read: {error}") from error
    return stores


def _list_objects(url: str, name: str | None = None) -> Bucket:
    """List a folder, or only the object with this name in it; an unknown folder or object gives an empty bucket."""
    url = str(place_of(url))  # checked, without a slash at its end
    objects: dict[str, Object] = {}
    try:
        store = object_store(url).store  # refused if obstore is not installed
        import obstore

        found = obstore.list(store) if name is None else [[obstore.head(store, name)]]
        for one in (one for page in found for one in page):
            modified, e_tag = int(one["last_modified"].timestamp() * 1e9), one.get("e_tag") or ""
            changed = int.from_bytes(hashlib.sha256(e_tag.encode()).digest()[:8], "big", signed=True)
            state = State(size=one["size"], modified_ns=modified, changed_ns=changed)
            if one["size"] or one["path"] not in objects:
                objects[one["path"]] = Object(state, e_tag)
    except FileNotFoundError:
        pass
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{url}: cannot be listed: {reason:.500}") from error
    folders = {folder.rstrip("/") for name in objects for folder in _folders(name)}
    # Web consoles represent a folder by an empty object; obstore drops the slash at the end of its name.
    return Bucket(url, {name: one for name, one in objects.items() if one.state.size or name not in folders})
