"""Rows that are damaged, lost, swapped or outdated are an error in every way to read them; other rows are not."""

import shutil
from typing import Any

import pytest

import store_spec
from store_spec.errors import ChecksumError, FormatError
from store_spec.format.times import Time
from tests.store.damage import change_places, flipped
from tests.store.kinds import KINDS, begin
from tests.store.oracle import Recipe, make, same, write

ONE: dict[str, dict[str, Any]] = {
    "windows": {"window": 2, "target": "last", "batch_size": 2},
    "padded": {"batch_size": 1},
    "packed": {"tokens": 5, "batch_size": 1},
    "streams": {"batch_size": 1, "window": 5},
}


def test_damage_is_an_error_only_where_it_is(tmp_path):
    sequences = make(Recipe(codec="none"), [20, 20, 20])
    path = write(Recipe(codec="none"), tmp_path / "store", sequences)
    flipped("inputs/c.1.0", 3)(path)  # rows 20 to 40
    store = store_spec.open_store(path)
    assert same(store[0][0], sequences[0].inputs)
    assert same(store.read(1, 5)[0], sequences[1].inputs[5:])
    with pytest.raises(ChecksumError, match=r"store/inputs/c\.1\.0: chunk 0: its bytes have crc32c"):
        store[1]
    with pytest.raises(ChecksumError):
        store.quantiles([0.5])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
def test_a_shard_in_place_of_another_is_always_found(tmp_path, kind, axis):
    """The checksums of its chunks are right; its stamp is that of another shard."""
    recipe = Recipe(label_axis=axis, chunk=60, shard=60)
    sequences = make(recipe, [5] * 6)
    write(recipe, tmp_path / "s", sequences)
    one, other = tmp_path / "s/inputs/c.0.0", tmp_path / "s/inputs/c.1.0"
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])
    store = store_spec.open_store(tmp_path / "s")
    options = ONE[kind] | ({} if axis == "step" or kind == "padded" else {"targets": "inputs"})
    says = r"inputs/c.[01].0: has the stamp of shard [01] of 'inputs', so it is a copy of another file"
    for read in (lambda: store[1], lambda: store.read(1, 0, 1), lambda: [*begin(store.select([1]), kind, **options)]):
        with pytest.raises(FormatError, match=says):
            read()
    assert same(store[5][0], sequences[5].inputs)


@pytest.mark.parametrize("array", ["inputs", "labels", "filled", "time"])
@pytest.mark.parametrize("kind", ["padded", "packed", "streams"])
def test_rows_of_another_sequence_are_found_when_a_whole_one_is_read(tmp_path, kind, array):
    """Checksums of chunks and stamps are right; the checksum of the sequence is that of others."""
    recipe = Recipe(chunk=60, shard=60, filled=True, time=Time("s"))
    sequences = make(recipe, [5] * 6)
    path = write(recipe, tmp_path / "s", sequences)
    one, other = (path / array / f"c.{number}{'.0' * (array in ('inputs', 'filled'))}" for number in (0, 1))
    change_places(one, other)
    store = store_spec.open_store(path)
    says = rf"{array}: sequence 0 \(.*\) has crc32c [0-9a-f]{{8}}, not [0-9a-f]{{8}}.*verify says which"
    if array in ("inputs", "labels"):
        with pytest.raises(ChecksumError, match=says):
            store[0]
    if array == "time":
        with pytest.raises(ChecksumError, match=says):
            store.times(0)
    else:
        with pytest.raises(ChecksumError, match=says):
            next(begin(store, kind, value_mask=True, **ONE[kind]))
    if array in ("filled", "time"):
        assert len(list(begin(store, kind, **ONE[kind]))) == 6
    assert same(store[5][0], sequences[5].inputs)
    assert {problem.where for problem in store_spec.verify(path)} <= {f"{array}/{each.name}" for each in (one, other)}


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_labels_of_sequences_are_always_found(tmp_path, kind):
    recipe = Recipe(label_axis="sequence")
    sequences = make(recipe, [5] * 6)
    write(recipe, tmp_path / "s", sequences)
    write(recipe, tmp_path / "other", sequences[::-1])
    (name,) = (path.name for path in (tmp_path / "s/labels").glob("c.*"))
    shutil.copy(tmp_path / "other/labels" / name, tmp_path / "s/labels" / name)
    store = store_spec.open_store(tmp_path / "s")
    options = ONE[kind] | ({"target": "sequence"} if kind == "windows" else {})
    reads = [lambda: store[0], lambda: store.windows(2)[0], lambda: list(begin(store, kind, **options))]
    for read in reads:
        with pytest.raises(ChecksumError, match=r"labels: sequence [0-9] \(.*\) has crc32c"):
            read()
