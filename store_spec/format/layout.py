"""The Zarr metadata documents: written from a schema, and checked against the schema when they are read."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Any

from store_spec import schema as facts
from store_spec.errors import ChecksumError, FormatError, SchemaError, VersionError
from store_spec.format import retired
from store_spec.format.codec import Codec
from store_spec.format.documents import decode_document, difference, encode_document, group_document, same
from store_spec.format.names import Classes
from store_spec.format.sequence_columns import SequenceColumn
from store_spec.format.times import Time
from store_spec.schema import ArrayFact, Chunking, Rows, Schema

ROOT = "zarr.json"
LARGEST_COUNT = 2**62
LARGEST_DIMENSIONS = 63  # of a row: a NumPy array has 64 at most
BLANK = "0" * 64  # the identity of an empty store, and what stands for the digest while that is computed
# By the axis of an array with rows of sequences: the tables that say where each sequence begins, and how long it is.
BOUNDS = {"step": ("offsets", "row_size"), "label_step": ("label_offsets", "label_row_size")}
OFFSETS = tuple(offsets for offsets, _ in BOUNDS.values())
ROOT_COUNTS = ("sequences", "steps", "label_steps")  # in the root of every store
_HEX = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much is committed."""

    sequences: int = 0
    steps: int = 0
    label_steps: int = 0  # rows of `labels` if these have lengths of their own, otherwise 0
    missing_inputs: int = 0  # runs of rows with a missing value, if the store allows these, otherwise 0
    missing_labels: int = 0

    def of(self, axis: str) -> int:
        """Return the size of a dimension."""
        return {
            "step": self.steps,
            "label_step": self.label_steps,
            "sequence": self.sequences,
            "sequence_bound": self.sequences + 1,
            "label_sequence_bound": self.sequences + 1,
            "missing_inputs_run": self.missing_inputs,
            "missing_labels_run": self.missing_labels,
        }[axis]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The content of the root document: everything that one commit makes visible."""

    schema: Schema
    counts: Counts = field(default_factory=Counts)
    retired: retired.Ranges = ()
    identity: str = BLANK
    provenance: dict[str, Any] = field(default_factory=dict)
    writer: str = ""  # a random text of the writer that has claimed the store; in a folder it is empty

    def committed(self, name: str) -> int:
        """Return how many rows of an array are committed."""
        return self.counts.of(self.schema.axis(self.schema.fact(name)))

    def files(self, name: str) -> int:
        """Return in how many files these rows are."""
        return -(-self.committed(name) // self.schema.chunking(name).shard)

    def documents(self) -> dict[str, bytes]:
        """Return the own metadata of groups and arrays by key, which is for readers that skip the root.

        Offsets come last, so that no such reader sees more than the other arrays have.
        """
        members = self._members() | {facts.TABLES: group_document(retired.count(self.retired))}
        in_order = sorted(members, key=lambda name: (name in OFFSETS, name))
        return {f"{name}/{ROOT}": encode_document(members[name]) for name in in_order}

    def _members(self) -> dict[str, dict[str, Any]]:
        """Return the documents of groups and arrays as the root has them, by name."""
        arrays = {fact.name: array_document(self.schema, fact, self.counts) for fact in self.schema.arrays()}
        return {name: group_document() for name in facts.GROUPS} | arrays

    @property
    def whole_identity(self) -> str:
        """A hash that identifies the sequences that are not retired; `identity` covers all that were appended."""
        if not self.retired:
            return self.identity
        ranges = ",".join(f"{start}-{stop}" for start, stop in self.retired)
        return hashlib.sha256(f"{self.identity}\n{ranges}".encode()).hexdigest()

    def encode(self) -> bytes:
        """Return the bytes of the root `zarr.json`. The digest in it is computed with 64 zeros in its place."""
        labels = self.schema.labels
        own = {
            "version": ".".join(map(str, facts.VERSION)),
            **({"writer": self.writer} if self.writer else {}),
            "counts": {name: getattr(self.counts, name) for name in _count_names(self.schema)},
            "retired": [list(pair) for pair in self.retired],
            "inputs": self.schema.inputs.to_json(),
            "labels": labels.to_json() | {"classes": labels.classes, "axis": self.schema.label_axis},
            "columns": [{"name": one.name, "dtype": one.dtype} for one in self.schema.columns],
            "time": None if self.schema.time is None else self.schema.time.to_json(),
            "missing": self.schema.missing,
            **({"filled": True} if self.schema.filled else {}),
            "provenance": self.provenance,
            "identity": self.identity,
            "digest": BLANK,
        }
        document = group_document() | {
            "attributes": facts.CF_ATTRIBUTES | {"zarr_conventions": [facts.CONVENTION], facts.ATTRIBUTE: [own]},
            "consolidated_metadata": {
                "kind": "inline",
                "must_understand": False,
                "metadata": dict(sorted(self._members().items())),
            },
        }
        try:
            blank = encode_document(document)
            decode_document(blank, "the root document")  # so that no commit writes what a reader would refuse
        except (TypeError, ValueError, RecursionError, FormatError) as error:
            raise SchemaError(f"provenance or names cannot be stored as JSON: {error!s:.200}") from error
        digest = hashlib.sha256(blank).hexdigest()
        mark = f'"digest": "{BLANK}"'.encode()
        if blank.count(mark) != 1:
            raise SchemaError(f"provenance may not hold the text {mark.decode()}")
        return blank.replace(mark, f'"digest": "{digest}"'.encode())

    @classmethod
    def decode(cls, data: bytes, where: str) -> Root:
        """Read the bytes of a root `zarr.json`, refusing everything that SPEC.md tells a reader to refuse."""
        document = decode_document(data, where)
        if document.get("zarr_format") != 3 or document.get("node_type") != "group":
            raise FormatError(
                f"{where}: zarr_format {document.get('zarr_format')!r:.80} and node_type "
                f"{document.get('node_type')!r:.80}, where a store is a group of Zarr format 3"
            )
        attributes = _own_attributes(document, where)
        _check_version(attributes.get("version"), where)
        _check_digest(data, attributes.get("digest"), where)
        counts = Counts(**{name: _count(attributes, name, where) for name in ROOT_COUNTS})
        retired_ranges = retired.decode(attributes.get("retired"), counts.sequences, where)
        consolidated = _dict(document, "consolidated_metadata", where)
        members = _dict(consolidated, "metadata", where)
        schema = _schema(attributes, members, where)
        counts = replace(counts, **{name: _count(attributes, name, where) for name in _count_names(schema)})
        if counts.label_steps and schema.label_axis != "own":
            raise FormatError(
                f"{where}: counts: label_steps is {counts.label_steps:,} on label axis {schema.label_axis!r}, "
                "where only labels of the axis 'own' have steps of their own"
            )
        for fact in schema.arrays():
            try:
                expected = array_document(schema, fact, counts)
            except SchemaError as error:
                raise FormatError(f"{where}: {fact.name}: {error}") from error
            if not same(members.get(fact.name), expected):
                raise FormatError(f"{where}: {fact.name}: {difference(members.get(fact.name), expected)}")
        identity = attributes.get("identity")
        if not isinstance(identity, str) or not _HEX.fullmatch(identity):
            raise FormatError(f"{where}: identity {identity!r:.80} is not 64 hexadecimal digits")
        provenance = _dict(attributes, "provenance", where)
        return cls(schema=schema, counts=counts, retired=retired_ranges, identity=identity, provenance=provenance)


def _count_names(schema: Schema) -> tuple[str, ...]:
    """Return the names of the counts in the root; stores with missing values also count the runs of such rows."""
    return (*ROOT_COUNTS, *(facts.MISSING_RUNS.values() if schema.missing == "keep" else ()))


def array_document(schema: Schema, fact: ArrayFact, counts: Counts) -> dict[str, Any]:
    """Return the metadata of an array with as many rows as are committed."""
    shape, dtype, axis = schema.shape(fact), schema.dtype(fact), schema.axis(fact)
    itemsize = 1 if fact.dtype == "string" else dtype.itemsize
    endian = {"configuration": {"endian": "little"}} if itemsize > 1 else {}
    chunk_codecs = [{"name": "bytes"} | endian, *schema.codec_of(fact).metadata(itemsize)]
    if fact.dtype == "string":
        chunk_codecs[0] = {"name": "vlen-utf8"}
    codecs, chunking = chunk_codecs, schema.chunking(fact.name)
    if schema.is_sharded(fact.name):
        codecs = [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [chunking.chunk, *shape],
                    "codecs": chunk_codecs,
                    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                    "index_location": "end",
                },
            }
        ]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [counts.of(axis), *shape],
        "data_type": fact.dtype or dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunking.shard, *shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": _fill_value(fact.dtype or dtype.name),
        "codecs": codecs,
        "attributes": _array_attributes(schema, fact, counts),
        "dimension_names": [axis, *_tail_names(fact, len(shape))],
        "storage_transformers": [],
    }


def chunk_key(schema: Schema, name: str, number: int) -> str:
    """Return the key of chunk (or shard) `number` of an array: `inputs/c.3.0`."""
    return f"{name}/c.{number}" + ".0" * len(schema.shape(schema.fact(name)))


def chunk_number(schema: Schema, name: str, file: str) -> int | None:
    """Return the number of a chunk (or shard) of an array from the name of its file; None for any other name."""
    match = re.fullmatch(r"c\.(0|[1-9][0-9]{0,18})((?:\.0)*)", file)
    return None if match is None or len(match[2]) != 2 * len(schema.shape(schema.fact(name))) else int(match[1])


def _array_attributes(schema: Schema, fact: ArrayFact, counts: Counts) -> dict[str, Any]:
    if fact.name == "time" and schema.time is not None:
        return dict(schema.time.attributes())
    # The count variables of CF contiguous ragged arrays (CF conventions, section 9.3.3). Readers such as cfdm take only
    # the first one, so that of labels that are not there would hide that of the inputs.
    if fact.name == "row_size":
        return {"sample_dimension": "step"}
    if fact.name == "label_row_size" and counts.label_steps:
        return {"sample_dimension": "label_step"}
    if fact.name in ("inputs", "labels"):
        one = "feature" if fact.name == "inputs" else "target"
        return {f"{one}_{what}": texts for what, texts in schema.rows(fact.name).notes().items()}
    return {}


def _tail_names(fact: ArrayFact, dimensions: int) -> list[str]:
    if fact.tail in ("hash", "run"):
        return ["hash_byte" if fact.tail == "hash" else "run_bound"]
    kind, last = ("input", "feature") if fact.tail in ("inputs", "features") else ("label", "target")
    return [*(f"{kind}_axis_{number}" for number in range(1, dimensions)), last][: max(0, dimensions)]


def _fill_value(dtype: str) -> Any:
    if dtype == "string":
        return ""
    if dtype == "bool":
        return False
    if dtype.startswith("complex"):
        return [0.0, 0.0]
    return 0.0 if dtype.startswith("float") else 0


def _schema(attributes: dict[str, Any], members: dict[str, Any], where: str) -> Schema:
    """Read the schema from the attribute `seqzarr`, and chunks and codec from the documents of the arrays."""
    labels = _dict(attributes, "labels", where)
    documents = {name: _dict(members, name, where) for name in ("inputs", "labels")}
    for name, document in documents.items():
        if not same(document.get("zarr_format"), 3):
            raise FormatError(
                f"{where}: {name}: zarr_format is {document.get('zarr_format')!r:.80}, where version 1 has 3"
            )
    try:
        rows = {name: _rows(_dict(attributes, name, where)) for name in documents}
        rows["labels"] = replace(rows["labels"], classes=_classes(labels["classes"]))
        axis = labels["axis"]
        chunking = {
            name: _chunking(documents[name], f"{where}: {name}")
            for name in documents
            if name == "inputs" or axis != "sequence"
        }
        configuration = documents["inputs"]["codecs"][0]["configuration"]
        codec = Codec.from_metadata(configuration["codecs"][1:], rows["inputs"].dtype.itemsize, f"{where}: inputs")
        return Schema(
            inputs=rows["inputs"],
            labels=rows["labels"],
            label_axis=axis,
            missing=attributes["missing"],
            steps=chunking["inputs"],
            label_steps=chunking["labels"] if axis == "own" else None,
            codec=codec,
            columns=_columns(attributes.get("columns")),
            time=_time(attributes["time"]),
            filled=_filled(attributes),
        )
    except SchemaError as error:
        raise FormatError(f"{where}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{where}: its schema cannot be read ({type(error).__name__}: {error!s:.200})") from error


def _rows(entry: dict[str, Any]) -> Rows:
    dtype, shape, names = entry["dtype"], entry["shape"], entry["names"]
    if dtype not in facts.DTYPES:
        raise SchemaError(f"dtype {dtype!r:.80} is not one of {', '.join(facts.DTYPES)}")
    if not isinstance(shape, list) or not all(_is_count(size) for size in shape) or len(shape) > LARGEST_DIMENSIONS:
        raise SchemaError(f"shape {shape!r:.80} is not a list of at most {LARGEST_DIMENSIONS} sizes")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise SchemaError(f"names {names!r:.80} are not a list of strings")
    notes = {what: entry[what] for what in ("units", "descriptions") if what in entry}
    for what, texts in notes.items():
        if not isinstance(texts, list) or not any(texts):
            raise SchemaError(f"{what} {texts!r:.80} are not a list of strings, of which one is not empty")
    return replace(facts.rows_of(dtype, shape, names), **notes)


def _classes(entry: Any) -> Classes | None:
    if entry is None:
        return None
    lists = entry if isinstance(entry, list) else [""]
    if not all(names is None or isinstance(names, list) for names in lists):
        raise SchemaError(f"classes {entry!r:.200} are not null, and no list with null or names for each target")
    return tuple(lists)


def _columns(entry: Any) -> tuple[SequenceColumn, ...]:
    if not isinstance(entry, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("dtype"), str)
        for one in entry
    ):
        raise SchemaError(f"columns {entry!r:.200} are not a list of names and dtypes")
    return tuple(SequenceColumn(one["name"], one["dtype"]) for one in entry)


def _time(entry: Any) -> Time | None:
    if entry is None:
        return None
    if not isinstance(entry, dict) or not entry.keys() >= {"unit", "since", "zone"}:
        raise SchemaError(f"time {entry!r:.200} is not null, and no unit, since and zone")
    return Time(entry["unit"], entry["since"], entry["zone"])


def _filled(attributes: dict[str, Any]) -> bool:
    """Return whether the store records which values were filled in: then the member exists, and is true."""
    if "filled" in attributes and attributes["filled"] is not True:
        raise SchemaError(f"filled is {attributes['filled']!r:.80}, where it is true if it is there")
    return "filled" in attributes


def _chunking(document: dict[str, Any], where: str) -> Chunking:
    codecs = document["codecs"]
    if not isinstance(codecs, list) or len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
        raise FormatError(f"{where}: codecs {codecs!r:.200} are not one sharding_indexed codec")
    chunk = codecs[0]["configuration"]["chunk_shape"][0]
    shard = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    if not (_is_count(chunk) and _is_count(shard)):
        raise FormatError(f"{where}: chunks of {chunk!r:.80} and shards of {shard!r:.80} steps are not counts")
    return Chunking(chunk, shard)


def _dict(document: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise FormatError(f"{where}: {key!r} is {value!r:.80} where an object is due")
    return value


def _own_attributes(document: dict[str, Any], where: str) -> dict[str, Any]:
    match document.get("attributes"):
        case {facts.ATTRIBUTE: [dict(own)]}:
            return own
    raise FormatError(f"{where}: no attribute {facts.ATTRIBUTE!r}, a list of one object; this is not a seqzarr store")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def _count(attributes: dict[str, Any], name: str, where: str) -> int:
    value = _dict(attributes, "counts", where).get(name)
    if type(value) is not int or not _is_count(value):
        raise FormatError(f"{where}: counts: {name} is {value!r:.80}, not a whole number from 0 to {LARGEST_COUNT:,}")
    return value


def _check_version(version: object, where: str) -> None:
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise FormatError(f"{where}: format version {version!r:.80} is not of the form major.minor")
    if int(match[1]) != facts.VERSION[0]:
        raise VersionError(
            f"{where}: format version {version}, but this seqzarr reads {facts.VERSION[0]}.x; install one that reads it"
        )


def _check_digest(data: bytes, digest: object, where: str) -> None:
    if not isinstance(digest, str) or not _HEX.fullmatch(digest):
        raise FormatError(f"{where}: digest {digest!r:.80} is not 64 hexadecimal digits")
    mark = f'"digest": "{digest}"'.encode()
    actual = hashlib.sha256(data.replace(mark, f'"digest": "{BLANK}"'.encode())).hexdigest()
    if data.count(mark) != 1 or actual != digest:
        raise ChecksumError(
            f"{where}: its bytes have the digest {actual[:16]}, not {digest[:16]} as stored; restore that file "
            "(a store's attributes may be changed through seqzarr only)"
        )
