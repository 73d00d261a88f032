"""Where stores are: paths of folders, and URLs."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload
from urllib.parse import unquote, urlsplit

from store_spec.errors import SchemaError, StoreExistsError
from store_spec.format.layout import ROOT
from store_spec.schema import CONVENTION

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore

StoreLocation: TypeAlias = "str | PathLike[str] | ZarrStore"  # the path of a folder, a URL, or a zarr store

SCHEMES = ("s3", "gs", "az", "https", "http", "file", "memory")
WRITABLE = ("s3://", "gs://", "az://", "memory://")  # prefixes of the URLs that stores can be written to
_UUID, _WITHIN = CONVENTION["uuid"].encode(), 1_000  # the UUID is within the first bytes of a root document
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def is_url(text: str) -> bool:
    """Return whether a text is a URL, such as `s3://bucket/store.zarr`."""
    return bool(_SCHEME.fullmatch(text.partition("//")[0])) and "://" in text


def checked_url(url: str) -> str:
    """Check the URL of a store, which has no password or query, and return it without a slash at its end."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"  # without secrets
    if parts.scheme not in SCHEMES:
        raise SchemaError(f"{shown}: the URL of a store begins with {', '.join(f'{name}://' for name in SCHEMES)}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SchemaError(
            f"{shown}: this URL may have no user name, and nothing after ? or #; obstore takes credentials from "
            "the environment, or give zarr.storage.ObjectStore(store) with a store of obstore"
        )
    if {".", ".."}.intersection(unquote(parts.path).split("/")):  # obstore would resolve them
        raise SchemaError(f"{shown}: has . or .. as a component; write the URL without it")
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise SchemaError(f"{shown}: a file of another machine; file:// URLs have three slashes")
    return shown


@overload
def place_of(store: str | PathLike[str]) -> StorePlace: ...
@overload
def place_of(store: StoreLocation) -> StorePlace | ZarrStore: ...
def place_of(store: StoreLocation) -> StorePlace | ZarrStore:
    """Return where a store is: a path for a folder, an address for a URL, otherwise the zarr store itself.

    A `file://` URL and a `LocalStore` of zarr are folders.
    """
    if isinstance(store, str) and is_url(store):
        url = checked_url(store)
        if not url.startswith("file:"):
            return Address(url)
        path = Path(unquote(urlsplit(store).path))
    elif isinstance(store, str | PathLike):
        path = Path(store)
    else:
        from zarr.storage import LocalStore  # here, because zarr takes 0.1 s to import

        if not isinstance(store, LocalStore):
            return store
        path = store.root
    if path.parts and _SCHEME.fullmatch(path.parts[0]):  # it would create folders such as `s3:`
        raise SchemaError(f"{path}: a URL was made into a Path, which drops one of its slashes; give it as a str")
    return path


def check_outside(path: Path) -> None:
    """Refuse a path for a new store inside another store."""
    for folder in path.resolve().parents:  # resolved, as the path may have `..` and links
        if is_store(folder):
            raise StoreExistsError(f"{path}: lies inside of the store {folder}; give a path that does not")


def store_place(store: str | PathLike[str]) -> StorePlace:
    """Return where a store is or will be that is written to; no path is inside another store."""
    place = place_of(store)
    if not isinstance(place, Path):
        check_writable(place)
    elif not is_store(place):
        check_outside(place)
    return place


def check_writable(place: object) -> None:
    """Refuse everything but the URL of a store that can be written to."""
    if not isinstance(place, str) or not place.startswith(WRITABLE):
        raise SchemaError(
            f"{place!s:.200}: stores are written to folders, to s3://, gs://, az:// and memory://, and to an "
            "ObjectStore of zarr"
        )


def is_store(folder: Path | str) -> bool:
    """Return whether a folder is a store, complete or not, by the UUID in its root document."""
    try:
        with open(f"{folder}/{ROOT}", "rb") as file:
            return is_root(file.read(_WITHIN))
    except OSError:
        return False


def is_root(data: bytes) -> bool:
    """Return whether bytes are those of the root document of a store, complete or not."""
    return _UUID in data[:_WITHIN]


class Address(str):
    """The name in messages of a store that is not a folder, or of one of its keys."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.rstrip("/)>\"'").rpartition("/")[2]


StorePlace: TypeAlias = Path | Address
