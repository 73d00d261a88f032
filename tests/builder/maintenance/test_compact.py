"""`compact` writes the sequences that readers see into a new store, as if there had never been others."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

import builder
import store_spec
from builder import BuildError, UsageError, build, compact
from builder.workers.engine import start_engine
from store_spec import StoreError
from tests.builder.command import seqzarr
from tests.builder.made_sources import Made, expected, read_made, write_made
from tests.store.damage import change_places, flipped
from tests.store.hostile_stores import lie_of_counts
from tests.store.make_golden import GOLDEN
from tests.store.oracle import assert_holds, files, store_of

SOURCES = {
    f"{letter}.made": Made(lengths=(3, number + 1, 0, 7), seed=number) for number, letter in enumerate("abcdefg")
}


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
    (tmp_path / "all").mkdir()
    (tmp_path / "alone").mkdir()
    built(tmp_path / "all", made, label_axis=axis, chunk=60, shard=240)
    built(tmp_path / "all", left)
    built(tmp_path / "alone", left, label_axis=axis, chunk=60, shard=240)
    done = builder.compact(tmp_path / "all" / "store", tmp_path / "new", workers=workers)
    assert (done.sequences, done.copied, done.retired) == (16, 16, 12)
    assert files(tmp_path / "new") == files(tmp_path / "alone" / "store")
    assert build(tmp_path / "all" / "src", tmp_path / "new", process=read_made, workers=0).unchanged == 4


def test_updated_sources_stay_in_the_order_that_readers_see(tmp_path):
    built(tmp_path, SOURCES)
    now = SOURCES | {"b.made": Made(lengths=(9,), seed=77)}
    built(tmp_path, now, update=True)
    builder.compact(tmp_path / "store", tmp_path / "new")
    old, new = (store_spec.open_store(tmp_path / name) for name in ("store", "new"))
    assert new.sources == old.sources
    assert new.counts.sequences == len(old) < old.counts.sequences
    order = [name for name in sorted(now) if name != "b.made"]
    assert_holds(new, [*expected({name: now[name] for name in order}), *expected({"b.made": now["b.made"]})])
    assert store_spec.verify(tmp_path / "new") == []


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
        result = seqzarr("compact", tmp_path / one, tmp_path / other, "--workers", "0")
        message = f"{tmp_path / other}: STORE and NEW are the same folder, also known as {tmp_path / one}; give NEW"
        assert (result.exit_code, result.stdout, message in result.stderr) == (2, "", True)
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


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
def test_sequences_longer_than_a_batch_are_copied_in_parts_and_compared_with_their_checksums(
    tmp_path, monkeypatch, axis
):
    made = {name: replace(one, axis=axis) for name, one in SOURCES.items()}
    built(tmp_path, made, label_axis=axis, chunk=24, shard=48, codec="none")
    builder.compact(tmp_path / "store", tmp_path / "whole", workers=0)
    for size in (1, 25, 40):
        monkeypatch.setattr(sys.modules["builder.maintenance.compact"], "BATCH_BYTES", size)
        builder.compact(tmp_path / "store", tmp_path / str(size), workers=0)
        assert files(tmp_path / str(size)) == files(tmp_path / "whole")
    change_places(*sorted((tmp_path / "store").glob("inputs/c.[01].0")))
    with pytest.raises(StoreError, match=r"inputs: sequence \d \(.\.made\) has crc32c"):
        builder.compact(tmp_path / "store", tmp_path / "new", workers=0)


def test_changed_rows_are_not_copied(tmp_path):
    built(tmp_path, SOURCES, codec="none")
    flipped("inputs/c.0.0", 5)(tmp_path / "store")
    with pytest.raises(store_spec.StoreError, match="crc32c"):
        builder.compact(tmp_path / "store", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_path_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    built(tmp_path, SOURCES)
    (tmp_path / "other").mkdir()
    built(tmp_path / "other", {"z.made": Made(seed=5)})
    before = files(tmp_path / "other" / "store")
    with pytest.raises(UsageError, match="is not a copy of the first sequences"):
        builder.compact(tmp_path / "store", tmp_path / "other" / "store")
    assert files(tmp_path / "other" / "store") == before
    with pytest.raises(UsageError, match="is not a copy of the first sequences"):
        builder.compact(tmp_path / "other" / "store", tmp_path / "store")
    with pytest.raises(UsageError, match="there is no store"):
        builder.compact(tmp_path / "nothing", tmp_path / "new")


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
    arguments = ["compact", str(tmp_path / "store"), str(tmp_path / "new.zarr")]
    result = seqzarr(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("new.zarr: 24 sequences, ")
    assert "4 retired ones left behind" in result.stdout
    again = json.loads(seqzarr(*arguments, "--json").stdout)
    assert (again["sequences"], again["copied"]) == (24, 0)
    assert seqzarr("compact", tmp_path / "none", tmp_path / "x").exit_code == 2


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
    with pytest.raises(BuildError, match="another process changed it meanwhile; nothing was copied: start again"):
        compact(tmp_path / "store", tmp_path / "new", workers=0)
    assert files(tmp_path / "new") == files(tmp_path / "store")
