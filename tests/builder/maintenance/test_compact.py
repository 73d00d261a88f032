"""`compact` writes what readers see into a new store, in another order or dtype, as if it was appended like this."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builder
import store_spec
from builder import BuildError, UsageError, build, compact, tabular
from builder.execution.report import Tally
from builder.maintenance.checks import verify_sources
from builder.maintenance.partial_copy import parse_order
from builder.processes.row_dtypes import convert_like_store
from builder.workers.engine import start_engine
from store_spec import SequenceError, StoreError
from store_spec.building import Ledger, LocalLedger, object_store
from tests.builder.command import seqzarr
from tests.builder.features import FEATURES, build_feature, write_feature
from tests.builder.made_sources import Made, expected, read_made, write_made
from tests.builder.running.test_same_bytes import killed
from tests.builder.source_files import write_files
from tests.campaigns.buckets import objects
from tests.store.damage import change_places, flipped
from tests.store.hostile_stores import lie_of_counts
from tests.store.make_golden import GOLDEN
from tests.store.oracle import Recipe, Sequence, append, assert_holds, files, make, recipes, store_of

SOURCES = {f"{name}.made": Made(lengths=(3, number + 1, 0, 7), seed=number) for number, name in enumerate("abcdefg")}


def built(place, sources, **options):
    """Build, and retire what is not among the sources."""
    for path in (place / "src").glob("*"):
        path.unlink()
    write_made(place / "src", sources)
    return build(place / "src", place / "store", process=read_made, workers=0, retire_missing=True, yes=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "workers"), [("step", 0), ("sequence", 0), ("own", 0), ("own", 2)])
def test_a_compacted_store_equals_a_build_of_the_live_sources(tmp_path, axis, workers):
    made = {name: replace(one, axis=axis) for name, one in SOURCES.items()}
    left = {name: one for name, one in made.items() if name[0] not in "bcg"}
    built(tmp_path / "all", made, label_axis=axis, chunk=60, shard=240)
    built(tmp_path / "all", left)
    built(tmp_path / "alone", left, label_axis=axis, chunk=60, shard=240)
    done = builder.compact(tmp_path / "all" / "store", tmp_path / "new", workers=workers)
    assert (done.sequences, done.copied, done.retired) == (16, 16, 12)
    assert files(tmp_path / "new") == files(tmp_path / "alone" / "store")
    assert build(tmp_path / "all" / "src", tmp_path / "new", process=read_made, workers=0).unchanged == 4


@pytest.mark.parametrize("retired", [False, True])
@pytest.mark.parametrize("way", ["store", "src/../store", "link", "hop/store"])
def test_a_store_is_not_compacted_into_itself(tmp_path, retired, way):
    built(tmp_path, SOURCES)
    if retired:
        built(tmp_path, {"a.made": SOURCES["a.made"]})
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "hop").symlink_to(tmp_path)
    before = files(tmp_path / "store")
    for one, other in (("store", way), (way, "store")):
        message = f"{tmp_path / other}: STORE and NEW are the same folder, also known as {tmp_path / one}; give NEW"
        assert message in seqzarr("compact", tmp_path / one, tmp_path / other, "--workers", "0", status=2).stderr
    assert files(tmp_path / "store") == before


def test_another_codec_and_other_chunks_hold_the_same_rows_and_checksums(tmp_path):
    built(tmp_path, SOURCES)
    builder.compact(tmp_path / "store", tmp_path / "new", codec="lz4:1", chunk=240, shard=480)
    old, new = (store_spec.open_store(tmp_path / name) for name in ("store", "new"))
    assert (new.schema.codec.name, new.schema.steps.chunk) == ("lz4", 16)
    assert new.identity == old.identity
    assert_holds(new, expected(SOURCES))
    builder.compact(tmp_path / "store", tmp_path / "codec", codec="none")
    assert store_spec.open_store(tmp_path / "codec").schema == replace(old.schema, codec=type(new.schema.codec)("none"))


@pytest.mark.parametrize("size", [25, 2**20], ids=["in parts", "at once"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped("inputs/c.0.0", 5), "crc32c"),
        (lambda store: change_places(store / "inputs/c.0.0", store / "inputs/c.1.0"), r"sequence \d .* has crc32c"),
    ],
    ids=["a bit", "two shards"],
)
def test_changed_rows_are_not_copied(tmp_path, monkeypatch, size, damage, message):
    built(tmp_path, SOURCES, chunk=60, shard=120, codec="none")
    damage(tmp_path / "store")
    monkeypatch.setattr("builder.maintenance.copying.BATCH_BYTES", size)
    with pytest.raises(StoreError, match=message):
        builder.compact(tmp_path / "store", tmp_path / "new", workers=0)
    assert not (tmp_path / "new").exists()


def test_a_store_without_live_sequences_has_no_copy(tmp_path):
    built(tmp_path, SOURCES)
    built(tmp_path, {})
    with pytest.raises(UsageError, match="nothing to copy"):
        builder.compact(tmp_path / "store", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["steps", "own", "empty"])
@pytest.mark.parametrize("count", [10**12, 2**62 - 1])
def test_impossibly_large_counts_are_refused_before_memory_is_allocated(tmp_path, kind, count):
    store = tmp_path / "s.zarr"
    shutil.copytree(GOLDEN / f"{kind}.zarr", store)
    lie_of_counts(sequences=count)(store)
    for option in ([], ["--dtype", "float32"], ["--order", "length"]):
        result = seqzarr("compact", store, tmp_path / "n.zarr", *option)
        assert result.exit_code == 1, (option, result.exception)
        assert "are committed; some were lost" in result.stderr
        assert [one.name for one in tmp_path.iterdir()] == ["s.zarr"]


def test_the_command_reports_what_it_copied_and_left_out(tmp_path):
    built(tmp_path, SOURCES)
    built(tmp_path, {name: one for name, one in SOURCES.items() if name[0] != "c"})
    arguments = ["compact", tmp_path / "store", tmp_path / "new.zarr", "--dtype", "float64", "--order", "name"]
    result = seqzarr(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("new.zarr: 24 sequences, ")
    assert "4 retired ones left behind" in result.stdout
    again = json.loads(seqzarr(*arguments, "--json").stdout)
    assert (again["sequences"], again["copied"]) == (24, 0)
    new = store_spec.open_store(tmp_path / "new.zarr")
    assert (new.schema.inputs.dtype.name, new.provenance["compacted"]["order"]) == ("float64", "name")
    assert "none: there is no store" in seqzarr("compact", tmp_path / "none", tmp_path / "x", status=2).stderr


def test_a_continued_copy_has_the_classes_that_the_store_got_since(tmp_path):
    old = tmp_path / "old"
    store_of(old, [np.zeros(2, np.float32)], [np.array([0, 1], np.int8)], sources="a", classes=[["cat", "dog"]])
    compact(old, tmp_path / "new", workers=0)
    assert store_spec.open_store(tmp_path / "new").class_names() == ("cat", "dog")
    with store_spec.open_store(old, "a") as writer:
        writer.extend_classes([["cat", "dog", "fox"]])
    assert compact(old, tmp_path / "new", workers=0).copied == 0
    assert store_spec.open_store(tmp_path / "new").class_names() == ("cat", "dog", "fox")
    with store_spec.open_store(old, "a") as writer:
        writer.extend_classes([["cat", "dog", "fox", "owl"]])
        writer.append(np.zeros(1, np.float32), np.array([3], np.int8), source="b")
    assert compact(old, tmp_path / "new", workers=0).copied == 1
    assert store_spec.open_store(tmp_path / "new").identity == store_spec.open_store(old).identity
    assert store_spec.verify(tmp_path / "new") == []


def test_a_copy_that_another_call_continued_meanwhile_is_refused(tmp_path, monkeypatch):
    built(tmp_path, {"a.made": SOURCES["a.made"]})
    compact(tmp_path / "store", tmp_path / "new", workers=0)
    built(tmp_path, SOURCES)

    def start_late(*arguments):
        monkeypatch.undo()
        assert compact(tmp_path / "store", tmp_path / "new", workers=0).sequences == 28
        return start_engine(*arguments)

    monkeypatch.setattr("builder.maintenance.compact.start_engine", start_late)
    with pytest.raises(BuildError, match="another process changed it meanwhile; nothing was done: start again"):
        compact(tmp_path / "store", tmp_path / "new", workers=0)
    assert files(tmp_path / "new") == files(tmp_path / "store")


@pytest.mark.parametrize("order", ["store", "shuffle"])
def test_a_copy_has_no_rows_of_a_store_that_replaced_the_old_one(tmp_path, monkeypatch, order):
    def write(place: Any, letter: str, value: float) -> None:
        with store_spec.create_store(place, inputs=("float32", (1,)), labels=("float32", ())) as writer:
            for number in range(20):
                rows = np.full((100, 1), value + number, np.float32)
                writer.append(rows, rows[:, 0], source=f"{letter}{number}")

    def replace_it(tally: Tally) -> None:
        if tally.committed == 5:
            obstore.delete(old.store, list(objects(old)))
            write(old, "b", 1000)

    monkeypatch.setattr("builder.maintenance.compact.BATCH_BYTES", 4000)
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", 0)
    url: Any = f"memory://{tmp_path}/old.zarr"
    old = object_store(url)
    write(old, "a", 0)
    before = objects(old)
    with pytest.raises(StoreError, match="another store was written here since this one was opened"):
        compact(url, tmp_path / "new", order=order, workers=0, on_progress=replace_it)
    copied = store_spec.open_store(tmp_path / "new")
    assert len(copied) == 5
    assert [f"a{inputs[0, 0]:.0f}" for inputs, _ in copied] == list(copied.sources)
    obstore.delete(old.store, list(objects(old)))
    for key, data in before.items():
        obstore.put(old.store, key, data)
    compact(url, tmp_path / "new", order=order, workers=0)
    compact(url, tmp_path / "whole", order=order, workers=0)
    assert files(tmp_path / "new") == files(tmp_path / "whole")


ORDERS = ("store", "name", "length", "shuffle:3")


def in_order(sequences, order):
    """Sort lists of sequences, one for each source, in the simple way."""
    by_source: dict[str, list[Sequence]] = {}
    for one in sequences:
        by_source.setdefault(one.source, []).append(one)
    groups = list(by_source.values())
    if order == "name":
        groups.sort(key=lambda group: group[0].source)
    if order == "length":
        groups.sort(key=lambda group: sum(len(one.inputs) for one in group))
    if order.startswith("shuffle"):
        seed = order.partition(":")[2]
        groups.sort(key=lambda group: hashlib.sha256(f"order {seed}:{group[0].source}".encode()).digest()[:7])
    return [one for group in groups for one in group]


def as_dtype(sequences, recipe, inputs=None, labels=None):
    """Return sequences, and a recipe, of other dtypes: value by value."""

    def changed(rows, dtype):
        flat = [np.dtype(dtype).type(value) for value in rows.reshape(-1)]
        return np.array(flat, dtype).reshape(rows.shape)

    for name, dtype in (("inputs", inputs), ("labels", labels)):
        if dtype is not None:
            sequences = [replace(one, **{name: changed(getattr(one, name), dtype)}) for one in sequences]
            recipe = replace(recipe, **{name: (dtype, getattr(recipe, name)[1])})
    return sequences, recipe


def write(recipe, path, sequences, provenance):
    with recipe.create(path) as writer:
        writer._ledger.provenance = provenance
        append(writer, sequences)


def several(recipe, lengths, seed):
    """Return sequences of unordered sources, some of which have several parts."""
    rng = np.random.default_rng(seed)
    names = [f"s{number}" for number in rng.permutation(len(lengths)) for _ in range(int(rng.integers(1, 4)))]
    return make(recipe, lengths, seed=seed, sources=names[: len(lengths)])


def everything_of(path):
    """Return everything in each sequence of a valid store: rows, times, filled values, and columns."""
    assert store_spec.verify(path) == []
    store = store_spec.open_store(path)
    found = []
    for number, first in enumerate(store.starts.tolist()):
        rows = [*store[number], store.sequences["source"][number]]
        rows += [store.sequences[column.name][number] for column in store.schema.columns]
        if store.schema.time:
            rows.append(store.times(number))
        if store.schema.filled:
            rows.append(store.snapshot.rows("filled", first, first + int(store.lengths[number])))
        found.append([repr(one) if isinstance(one, str) else (one.dtype, one.shape, one.tobytes()) for one in rows])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("feature", FEATURES)
def test_everything_in_a_store_is_copied(tmp_path, feature):
    options: dict[str, Any] = {"codec": "zstd", "chunk": 256, "shard": 1024}
    source = write_feature(feature, tmp_path / "src")
    store = build_feature(feature, source, tmp_path / "store")
    compact(store, tmp_path / "same", workers=0)
    assert files(tmp_path / "same") == files(store)
    sorted(path for path in source.iterdir() if path.name != "manifest.csv")[1].unlink()
    build_feature(feature, source, store, retire_missing=True)
    compact(store, tmp_path / "new", workers=0, **options)
    assert everything_of(tmp_path / "new") == everything_of(store)
    assert compact(store, tmp_path / "new", workers=0, **options).copied == 0


@pytest.mark.slow
@given(
    recipe=recipes(),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    order=st.sampled_from(ORDERS),
    dtypes=st.tuples(st.sampled_from([None, "float16", "float32"]), st.sampled_from([None, "float32"])),
    missing=st.sampled_from(["error", "keep"]),
)
def test_another_order_or_dtype_equals_appending_like_that(tmp_path_factory, recipe, lengths, order, dtypes, missing):
    place, (inputs, labels) = tmp_path_factory.mktemp("order"), dtypes
    options = {"dtype": inputs, "label_dtype": labels}
    if any(dtypes):
        floats = {"inputs": ("float64", recipe.inputs[1]), "labels": ("float32", recipe.labels[1])}
        recipe = replace(recipe, missing=missing, **floats)
        options |= {name: getattr(recipe, name) for name in ("chunk", "shard", "codec")}
    sequences = several(recipe, lengths, len(lengths))
    write(recipe, place / "old", sequences, {"made": "by a test"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["builder.maintenance.compact"], "BATCH_BYTES", 200)
        patch.setattr("builder.maintenance.copying.BATCH_BYTES", 50)  # longer sequences are copied in parts
        compact(place / "old", place / "new", order=order, workers=0, **options)
    # The copy records the identity that the old store would have in that order.
    sequences = in_order(sequences, order)
    write(recipe, place / "ordered", sequences, {})
    record = {"order": order}
    if inputs is not None:
        record["identity"] = store_spec.open_store(place / "ordered").identity
    sequences, recipe = as_dtype(sequences, recipe, inputs, labels or inputs)  # all are floats
    record = {"compacted": record} if inputs or order != "store" else {}
    write(recipe, place / "expected", sequences, {"made": "by a test"} | record)
    assert files(place / "new") == files(place / "expected")


@pytest.mark.slow
@settings(max_examples=4)
@given(
    kills=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    options=st.sampled_from([{}, {"order": "shuffle", "dtype": "float32"}]),
)
def test_a_copy_that_is_killed_anywhere_ends_with_the_same_bytes(tmp_path_factory, kills, options):
    place = tmp_path_factory.mktemp("cut").resolve()
    recipe = Recipe(inputs=("float64", (3,)), columns=(("note", "string"),))
    write(recipe, place / "old", several(recipe, list(range(12)), 5), {})
    compact(place / "old", place / "whole", workers=0, **options)
    (place / "copy").mkdir()
    with pytest.MonkeyPatch.context() as patch:  # many batches, and a commit after each
        patch.setattr("builder.execution.run.COMMIT_SECONDS", 0.0)
        patch.setattr(sys.modules["builder.maintenance.compact"], "BATCH_BYTES", 100)
        for kill in kills:
            killed(place / "copy", lambda: compact(place / "old", place / "copy/new", workers=0, **options), kill)
    if (place / "copy/new").exists():
        compact(place / "old", place / "copy/new", workers=0)  # it was started with these, and continues with them
    compact(place / "old", place / "copy/new", workers=0, **options)
    assert files(place / "copy/new") == files(place / "whole")


def test_a_copy_that_is_killed_after_its_last_root_is_completed(tmp_path, monkeypatch):
    write(Recipe(), tmp_path / "old", several(Recipe(), list(range(12)), 5), {})
    compact(tmp_path / "old", tmp_path / "whole", workers=0)
    put = LocalLedger._put_documents

    def killed(ledger: LocalLedger, root: Any) -> list[str]:
        if root.counts.sequences == 12:
            raise MemoryError
        return put(ledger, root)

    with monkeypatch.context() as patch:
        patch.setattr("builder.execution.run.COMMIT_SECONDS", 0.0)
        patch.setattr(sys.modules["builder.maintenance.compact"], "BATCH_BYTES", 100)
        patch.setattr(LocalLedger, "_put_documents", killed)
        with pytest.raises(MemoryError):
            compact(tmp_path / "old", tmp_path / "copy", workers=0)
    assert len(store_spec.open_store(tmp_path / "copy")) == 12
    compact(tmp_path / "old", tmp_path / "copy", workers=0)
    assert files(tmp_path / "copy") == files(tmp_path / "whole")


def begun(place, **options):
    """Copy the first sequences of a store, then append more to the store."""
    recipe = Recipe(inputs=("float64", (2,)), labels=("float64", ()), label_axis="sequence")
    sequences = make(recipe, [4, 3, 5], sources=["b", "a", "c"])
    write(recipe, place / "old", sequences[:2], {})
    compact(place / "old", place / "new", workers=0, **options)
    with store_spec.open_store(place / "old", "a") as writer:
        append(writer, sequences[2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({"order": "name"}, {"order": "shuffle"}, "begun in the order name, but the option is now shuffle:0"),
        ({"order": "name"}, {"order": "store"}, "begun in the order name, but the option is now store"),
        ({}, {"order": "name"}, "begun in the order store, but the option is now name"),
        ({"dtype": "float32"}, {"dtype": "float16"}, "inputs are float32 there, but the option is now float16"),
        ({"dtype": "float32"}, {"dtype": "float64"}, "inputs are float32 there, but the option is now float64"),
        ({}, {"label_dtype": "float32"}, "labels are float64 there, but the option is now float32"),
    ],
)
def test_a_copy_is_continued_with_its_options_and_refuses_another_order_or_dtype(tmp_path, before, now, words):
    begun(tmp_path, **before)
    there = files(tmp_path / "new")
    with pytest.raises(UsageError, match=words):
        compact(tmp_path / "old", tmp_path / "new", workers=0, **now)
    assert files(tmp_path / "new") == there
    assert compact(tmp_path / "old", tmp_path / "new", workers=0, **before).copied == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, [[0, "first"], [1, "second"]]),
        ({"dtype": "float32", "order": "name"}, [[0, "second"], [1, "first"], [2, "second"]]),
    ],
)
def test_a_continued_copy_of_a_store_that_has_grown_equals_a_new_copy(tmp_path, options, code):
    begun(tmp_path, **options)
    with Ledger.open(tmp_path / "old") as ledger:
        ledger.provenance = {"build": {"code": [[0, "first"], [1, "second"]]}}
        ledger.commit()
    for name in ("new", "fresh"):
        compact(tmp_path / "old", tmp_path / name, workers=0, **options)
    assert store_spec.open_store(tmp_path / "new").provenance["build"]["code"] == code
    assert files(tmp_path / "new") == files(tmp_path / "fresh")


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_store_of_other_rows_is_refused_and_left_alone(tmp_path, dtype):
    recipe = Recipe(inputs=("float64", (2,)))
    for seed, (name, lengths) in enumerate((("one", [3]), ("two", [3, 4]))):
        write(recipe, tmp_path / name, make(recipe, lengths, seed=seed, sources=["a", "b"]), {})
        compact(tmp_path / name, tmp_path / f"copy of {name}", dtype=dtype, workers=0)
    before = files(tmp_path)
    for name, other in (("one", "two"), ("two", "one")):
        with pytest.raises(UsageError, match="is not a copy of the first sequences"):
            compact(tmp_path / name, tmp_path / f"copy of {other}", dtype=dtype, workers=0)
    assert compact(tmp_path / "two", tmp_path / "copy of two", dtype=dtype, workers=0).copied == 0
    assert files(tmp_path) == before


def test_an_order_in_which_new_sequences_are_not_last_cannot_be_continued(tmp_path):
    begun(tmp_path, order="length")  # those of c are the longest
    assert compact(tmp_path / "old", tmp_path / "new", order="length").copied == 1
    with store_spec.open_store(tmp_path / "old", "a") as writer:
        writer.append(np.zeros((1, 2)), np.zeros(()), source="d")
    with pytest.raises(UsageError, match="in the order length; give another"):
        compact(tmp_path / "old", tmp_path / "new")


@pytest.mark.parametrize(
    ("given", "dtype", "words"),
    [
        ([[1.5, 2.0]], "int16", r"a: inputs: row 0, column 0 is 1.5, which does not fit into int16 \(1 such values\)"),
        ([[1.0, 4e4]], "int16", "row 0, column 1 is 40000.0"),
        ([[1.0, np.nan]], "int16", "row 0, column 1 is nan"),
        ([[1.0, 1e300]], "float32", r"1e\+300, which does not fit into float32"),
        ([[1.0, 3.0]], "bool", "is 3.0"),
    ],
)
def test_lossy_conversions_are_refused_and_make_no_store(tmp_path, given, dtype, words):
    store_of(tmp_path / "old", [np.array(given)], [[0]], sources="a", missing="keep")
    with pytest.raises(UsageError, match=words):
        compact(tmp_path / "old", tmp_path / "new", dtype=dtype, workers=0)
    assert not (tmp_path / "new").exists()


def test_complex_numbers_classes_and_words_that_are_no_option_are_refused(tmp_path):
    store_of(tmp_path / "c", [np.ones(3, np.complex64)], [[0, 0, 0]])
    with pytest.raises(UsageError, match="inputs are complex64, which cannot be converted"):
        compact(tmp_path / "c", tmp_path / "new", dtype="float32")
    for text in ("size", "shuffle:x", "name:1", "shuffle:"):
        with pytest.raises(UsageError, match="not one of store, name, length, shuffle"):
            compact(tmp_path / "c", tmp_path / "new", order=text)
    assert parse_order("shuffle:0") == parse_order("shuffle")
    with pytest.raises(UsageError, match="is not a dtype"):
        compact(tmp_path / "c", tmp_path / "new", label_dtype="number")
    store_of(tmp_path / "k", [np.ones(2, np.float32)], [[0, 1]], classes=[["cat", "dog"]])
    with pytest.raises(UsageError, match="labels are int64 and have classes, whose codes are integers"):
        compact(tmp_path / "k", tmp_path / "new", label_dtype="float32")
    compact(tmp_path / "k", tmp_path / "new", dtype="float64", label_dtype="int8")
    new = store_spec.open_store(tmp_path / "new")
    assert [rows.dtype.name for rows in (new.schema.inputs, new.schema.labels)] == ["float64", "int8"]
    assert new.class_names() == ("cat", "dog")


def csvs(place, names):
    for seed, name in enumerate(names):
        values = np.random.default_rng(seed).normal(size=(5 + seed, 2)).tolist()
        write_files(place, {f"{name}.csv": "x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in values)})


@pytest.mark.slow
def test_a_later_build_of_the_copy_knows_its_sources_and_converts_new_ones(tmp_path):
    csvs(tmp_path / "src", "abc")
    process = tabular(inputs="x", labels="y", transforms="scale x=0.1")
    build(tmp_path / "src", tmp_path / "old", process=process)
    compact(tmp_path / "old", tmp_path / "half", dtype="float32", order="length")
    compact(tmp_path / "half", tmp_path / "new", dtype="float16")  # rounded twice, so new ones have to be as well
    csvs(tmp_path / "src", "abcdef")
    report = build(tmp_path / "src", tmp_path / "new")
    assert (report.unchanged, report.added, report.failures) == (3, 3, ())
    build(tmp_path / "src", tmp_path / "old")
    compact(tmp_path / "old", tmp_path / "half-2", dtype="float32", order="length")
    compact(tmp_path / "half-2", tmp_path / "all", dtype="float16")
    one, other = (store_spec.open_store(tmp_path / name) for name in ("new", "all"))
    assert one.identity == other.identity
    assert one.schema.inputs.dtype == np.float16
    assert verify_sources(tmp_path / "new", tmp_path / "src") == []
    assert store_spec.verify(tmp_path / "new") == []


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [("float16", "float64"), ("float16", "float32"), ("int8", "float32")])
def test_a_narrowed_copy_is_not_widened(tmp_path, first, then):
    write_files(tmp_path / "src", {"a.csv": "x,y\n1,2\n"})
    build(tmp_path / "src", tmp_path / "old", process=tabular(inputs="x", labels="y"))
    compact(tmp_path / "old", tmp_path / "less", dtype=first)
    with pytest.raises(UsageError, match=rf"dtype={then} \(--dtype\): an earlier compact .* inputs .* to {first}"):
        compact(tmp_path / "less", tmp_path / "more", dtype=then)
    assert not (tmp_path / "more").exists()
    compact(tmp_path / "less", tmp_path / "same", dtype=first, order="shuffle")


def test_a_later_build_of_the_copy_names_a_source_that_does_not_fit_the_dtype(tmp_path):
    csvs(tmp_path / "src", "a")
    build(tmp_path / "src", tmp_path / "old", process=tabular(inputs="x", labels="y"))
    compact(tmp_path / "old", tmp_path / "new", dtype="float16")
    (tmp_path / "src" / "b.csv").write_text("x,y\n1,2\n70000,3\n")
    (failure,) = build(tmp_path / "src", tmp_path / "new").failures
    assert failure.source == "b.csv"
    assert "row 1, column 0 is 70000.0, which does not fit into float16" in failure.reason


def test_masked_rows_are_converted_and_stay_masked():
    rows = np.ma.masked_greater(np.array([[0.1, 9.0], [0.2, 0.3]]), 1)
    found = convert_like_store((("inputs", "float32"), ("labels", "float16")), rows, "inputs", "a.wav")
    assert (found.dtype, found.tolist()) == (np.float32, rows.astype(np.float32).tolist())
    assert found[0, 1] is np.ma.masked


def test_masked_rows_in_a_list_are_refused():
    masked = np.ma.masked_greater(np.ones((2, 3)), 0)
    with pytest.raises(SequenceError, match=r"a.wav: inputs are a list of masked arrays"):
        convert_like_store((("inputs", "float32"),), list(masked), "inputs", "a.wav")


def test_chunks_of_a_build_are_chosen_again_for_the_new_rows_and_others_stay(tmp_path):
    csvs(tmp_path / "src", "a")
    for name, chunk, shard in (("usual", None, None), ("own", 64, 128)):
        build(tmp_path / "src", tmp_path / name, process=tabular(inputs="x", labels="y"), chunk=chunk, shard=shard)
        compact(tmp_path / name, tmp_path / f"{name}-new", dtype="float32")
    build(tmp_path / "src", tmp_path / "float32", process=tabular(inputs="x", labels="y", dtype="float32"))
    usual, expected, own = (store_spec.open_store(tmp_path / one) for one in ("usual-new", "float32", "own-new"))
    assert usual.schema.steps == expected.schema.steps
    assert own.schema.steps == store_spec.open_store(tmp_path / "own").schema.steps
