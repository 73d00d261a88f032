"""Stores of every release stay readable, also by other software, which finds sequences through `offsets`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import MemoryStore

import store_spec
from store_spec.format.layout import ROOT
from tests.store.make_golden import STORES, Golden
from tests.store.oracle import assert_holds, files, same


@pytest.fixture(params=STORES, ids=lambda golden: golden.name)
def golden(request) -> Golden:
    found: Golden = request.param
    return found


def test_golden_stores_have_the_rows_of_their_formula(golden):
    store = store_spec.open_store(golden.path)
    assert store_spec.verify(golden.path) == []
    assert_holds(store, golden.live)
    assert (store.schema.inputs, replace(store.schema.labels, classes=None)) == (golden.inputs, golden.labels)
    named = golden.classes[-1] or [None] * golden.labels.features
    assert [
        None if names is None else list(names) for names in store.schema.labels.classes or [None] * len(named)
    ] == named
    assert (store.schema.label_axis, store.schema.missing) == (golden.label_axis, golden.missing)
    assert store.schema.columns == golden.columns
    assert store.schema.time == golden.time


def test_the_current_writer_writes_the_bytes_of_the_golden_stores(golden, tmp_path):
    golden.write(tmp_path / "again.zarr")
    assert files(tmp_path / "again.zarr") == files(golden.path)


def check(arrays, golden: Golden) -> None:
    """Find each sequence from offsets, as the format says, in arrays that other software read."""
    offsets, sequences = arrays["offsets"], golden.sequences()
    label_offsets = {
        "step": offsets,
        "sequence": np.arange(len(sequences) + 1),
        "own": arrays.get("label_offsets"),
    }[golden.label_axis]
    assert len(offsets) == len(sequences) + 1
    assert offsets[-1] == len(arrays["inputs"])
    assert label_offsets[-1] == len(arrays["labels"])
    for number, sequence in enumerate(sequences):
        for name in ("inputs", "filled", "time"):
            if sequence.rows(name) is not None:
                assert same(arrays[name][offsets[number] : offsets[number + 1]], sequence.rows(name))
        labels = arrays["labels"][label_offsets[number] : label_offsets[number + 1]]
        assert same(labels[0] if golden.label_axis == "sequence" else labels, sequence.labels)


def arrays_by_folder(path: Path) -> dict[str, np.ndarray]:
    """Read each array by its own metadata, without those of the store."""
    folders = [file.parent for file in path.glob("*/zarr.json") if file.parent.name not in ("sequences", "stats")]
    return {folder.name: np.asarray(zarr.open_array(folder, mode="r")) for folder in folders}


def read(group: zarr.Group, name: str) -> np.ndarray:
    """Return a whole array of a group."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def test_zarr_reads_the_store_as_a_group_with_and_without_consolidated_metadata_and_each_array_by_its_folder(golden):
    path, sequences = golden.path, golden.sequences()
    for consolidated in (True, False):
        group = zarr.open_group(path, mode="r", use_consolidated=consolidated)
        assert (group.metadata.consolidated_metadata is not None) == consolidated
        check({name: np.asarray(array) for name, array in group.arrays()}, golden)
        assert sorted(name for name, _ in group.groups()) == ["sequences", "stats"]
    assert read(group, "sequences/source").tolist() == [sequence.source for sequence in sequences]
    assert read(group, "stats/inputs_count").shape == (len(sequences), golden.inputs.features)
    for column in golden.columns:
        found = read(group, f"sequences/{column.name}").tolist()
        assert list(map(repr, found)) == [repr(sequence.columns[column.name]) for sequence in sequences]
    inputs = group["inputs"]
    assert isinstance(inputs.metadata, ArrayV3Metadata)
    assert (inputs.metadata.dimension_names or ())[0] == "step"
    check(arrays_by_folder(path), golden)
    for file in path.glob("*/*/zarr.json"):
        assert len(np.asarray(zarr.open_array(file.parent, mode="r"))) == len(sequences)


def test_xarray_reads_the_store_as_a_contiguous_ragged_array(golden):
    sequences = golden.sequences()
    with xarray.open_zarr(golden.path, decode_times=False) as dataset:
        dataset.load()
        check({name: np.asarray(array) for name, array in dataset.items()}, golden)
        assert dataset.attrs["Conventions"].startswith("CF-1.")
        assert dataset.attrs["featureType"] == "timeSeries"
        # An attribute that is an object makes `cfdm.read` fail.
        assert not [name for name, value in dataset.attrs.items() if isinstance(value, dict)]
        rows = {"step": "inputs"} | ({"label_step": "labels"} if golden.label_axis == "own" else {})
        for dimension, name in rows.items():
            (count,) = (array for array in dataset.values() if array.attrs.get("sample_dimension") == dimension)
            assert count.dims == ("sequence",)
            stops = np.cumsum(count.values)
            for size, stop, sequence in zip(count.values, stops, sequences, strict=True):
                found = dataset[name].isel({dimension: slice(stop - size, stop)}).values
                assert same(found, sequence.rows(name))


def test_tensorstore_reads_the_arrays(golden):
    arrays = {}
    optional = {"label_offsets": golden.label_axis == "own", "filled": golden.filled, "time": golden.time}
    for name in ("inputs", "labels", "offsets", *(name for name, present in optional.items() if present)):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(golden.path / name)}}
        array = tensorstore.open(spec, open=True, read=True).result()
        arrays[name] = array.read().result()
        assert array.domain.labels[0] in ("step", "sequence", "label_step", "sequence_bound", "label_sequence_bound")
    check(arrays, golden)


def test_zarr_writes_the_documents_of_all_arrays(golden):
    """`zarr.create_array` gives the same JSON, apart from a member that it adds to vlen-utf8: `"configuration": {}`.

    That codec has no configuration, and the specification of Zarr permits leaving out the member if it is empty.
    """
    documents = [json.loads(file.read_bytes()) for file in golden.path.rglob("zarr.json")]
    arrays = [document for document in documents if document["node_type"] == "array"]
    assert len(arrays) > 10
    for document in arrays:
        written = written_by_zarr(document)
        if document["data_type"] == "string":
            assert written["codecs"][0].pop("configuration") == {}
        assert written == document


def written_by_zarr(document: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of an array that zarr creates from a document."""
    chunks, shards = document["chunk_grid"]["configuration"]["chunk_shape"], None
    codecs = document["codecs"]
    if codecs[0]["name"] == "sharding_indexed":
        chunks, shards = codecs[0]["configuration"]["chunk_shape"], chunks
        codecs = codecs[0]["configuration"]["codecs"]
    store = MemoryStore()
    zarr.create_array(
        store,
        shape=document["shape"],
        chunks=chunks,
        shards=shards,
        dtype=str if document["data_type"] == "string" else document["data_type"],
        compressors=[BloscCodec.from_dict(one) if one["name"] == "blosc" else Crc32cCodec() for one in codecs[1:]],
        fill_value=complex(*fill) if isinstance(fill := document["fill_value"], list) else fill,
        attributes=document["attributes"],
        dimension_names=document["dimension_names"],
        chunk_key_encoding=document["chunk_key_encoding"],
    )
    data = store.get_sync(ROOT, prototype=default_buffer_prototype())
    assert data is not None
    found: dict[str, Any] = json.loads(data.to_bytes())
    return found
