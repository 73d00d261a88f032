"""Codes of classes where workers cannot know those of earlier batches: as a loop over the sources gives them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import store_spec
from builder.build_errors import UsageError
from builder.execution import run as run_module
from builder.execution.report import Tally
from builder.execution.run import Run, RunSteps
from builder.frames.tabular import Tabular, tabular
from builder.sources.folder import LocalFolder
from builder.sources.label_files import LABELS_SHA256
from builder.workers.batch import recode
from builder.workers.engine import InProcessEngine
from builder.workers.process_source import SourceBatch
from store_spec.disk.ledger import Ledger
from store_spec.format.sequence_columns import SequenceColumn
from store_spec.schema import Rows, Schema
from tests.builder.any_order import Later, Shuffled
from tests.store.oracle import files

Axis = Literal["step", "sequence", "own"]
AXES: list[Axis] = ["step", "sequence", "own"]
WORDS = ["cat", "dog", "eel", "Ä 1", "fox"]


def write(folder: Path, axis: Axis, sources: list[list[str]]) -> list[str]:
    """Write sources with these labels, of which one without any cannot be read; return their names."""
    (folder / "labels").mkdir(parents=True)
    names = []
    for number, texts in enumerate(sources):
        word = texts[0] if texts else "bad"
        names.append(f"{number:02}-{word}.csv")
        steps = 2 * len(texts) if axis == "own" else len(texts)
        here = [texts[row] if axis != "own" else "-" for row in range(steps if axis != "own" else 0)] or ["-"] * steps
        rows = "".join(f"{row},{text}\n" for row, text in enumerate(here)) or "1,eel,2\n"
        (folder / names[-1]).write_text(f"x,y\n{rows}", encoding="utf-8")
        (folder / "labels" / f"{number:02}-{word}.csv").write_text(
            "y\n" + "".join(f"{text}\n" for text in texts or ["gnu"]), encoding="utf-8"
        )
    return names


def process_of(axis: Axis) -> Tabular:
    if axis == "step":
        return tabular(inputs="x", labels="y")
    if axis == "sequence":
        return tabular(inputs="x", label_pattern=r"-(.+)\.csv")
    return tabular(inputs="x", labels_from="labels/{stem}.csv", label_axis="own")


def expected(axis: Axis, sources: list[list[str]]) -> tuple[list[str], list[list[int]]]:
    """Give each text the next code when it first appears in a source that can be read."""
    known: list[str] = []
    codes = []
    for texts in filter(None, sources):
        here = texts[:1] if axis == "sequence" else texts
        known += [text for text in dict.fromkeys(here) if text not in known]
        codes.append([known.index(text) for text in here])
    return known, codes


class Sources:
    """Sources on disk, and the stores that are made of them."""

    def __init__(self, folder: Path, axis: Axis, sources: list[list[str]]) -> None:
        self.folder, self.axis, self.sources = folder, axis, sources
        self.names = write(folder, axis, sources)
        labels = Rows(np.dtype(np.int64), (1,), None if axis == "sequence" else ("y",), ((),))
        inputs = Rows(np.dtype(np.float64), (1,), ("x",))
        columns = (SequenceColumn(LABELS_SHA256, "string"),) if axis == "own" else ()
        self.schema = Schema.plan(inputs, labels, label_axis=axis, columns=columns, chunk_bytes=40, shard_bytes=120)

    def run(self, store: Path, engine: Any, size: int, **options: Any) -> Tally:
        """Add the sources that a store lacks, in batches of a size."""
        opened = Ledger.open(store) if store.exists() else Ledger.create(store, self.schema, {})
        tally = Tally(sources=len(self.names))
        with opened as ledger:
            schema = ledger.schema
            process = process_of(self.axis).under(self.folder)
            process = process.for_store(schema.inputs.names, schema.labels.names).with_classes(schema.labels.classes)
            there = set(store_spec.open_store(store).sources) if store.exists() else set()
            names = [name for name in self.names if name not in there]
            batches = (
                (
                    SourceBatch(
                        folder=LocalFolder(self.folder),
                        names=tuple(names[start : start + size]),
                        labels=None,
                        process=process,
                    ),
                    100,
                )
                for start in range(0, len(names), size)
            )
            options.setdefault("memory", 10**9)
            Run(engine, ledger, batches, tally, on_progress=lambda _: None, **options).finish()
        return tally

    def check(self, store: Path) -> None:
        """Check that a store has what a loop over the sources gives."""
        known, codes = expected(self.axis, self.sources)
        found = store_spec.open_store(store)
        assert found.class_names() == tuple(known)
        assert [np.ravel(y).tolist() for _, y in found] == codes
        assert store_spec.verify(store) == []  # checksums and statistics too


class InOrder(Shuffled):
    """Gives tasks back in their order, and does none twice."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.random.random = lambda: 1.0  # type: ignore[method-assign]

    def finished(self) -> Later:
        """Return the first of the watched tasks."""
        return self.watched.pop(0)


some_texts = st.lists(st.sampled_from(WORDS), max_size=9)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(
    axis=st.sampled_from(AXES),
    sources=st.lists(some_texts, min_size=1, max_size=9).filter(any),
    size=st.integers(1, 4),
    batch_memory=st.sampled_from([1, 60, 10**9]),
    seed=st.integers(0, 2**32),
)
def test_codes_are_those_of_a_loop_whatever_the_order_of_tasks(axis, sources, size, batch_memory, seed):
    with tempfile.TemporaryDirectory() as place:
        made = Sources(Path(place, "src"), axis, sources)
        at_once, by_chance = Path(place, "at-once"), Path(place, "by-chance")
        first = made.run(at_once, InProcessEngine(), size=99)
        second = made.run(by_chance, Shuffled(seed), size=size, batch_memory=batch_memory)
        made.check(at_once)
        assert files(by_chance) == files(at_once)
        assert first.failures == second.failures


def test_batches_whose_codes_differ_are_recoded_and_others_are_not(tmp_path, monkeypatch):
    made = Sources(tmp_path / "src", "step", [["dog"], ["cat", "dog"], ["dog"], ["cat"]])
    recoded = []

    def noted(processed, recoding, schema):
        recoded.append(processed.summary.records.sources)
        return recode(processed, recoding, schema)

    monkeypatch.setattr(run_module, "recode", noted)

    made.run(tmp_path / "store", InOrder(0), size=1)
    made.check(tmp_path / "store")
    # Four batches are sent at once. Only the second and the fourth begin with a class that is not the first one.
    assert recoded == [(made.names[1],), (made.names[3],)]


@pytest.mark.slow
@pytest.mark.parametrize("axis", AXES)
def test_classes_are_committed_with_the_sequences_that_have_them(tmp_path, axis, monkeypatch):
    """A build that dies at its second commit leaves a store that the next build completes to the same bytes."""
    sources = [["dog"] * 3, ["cat", "dog"], [], ["eel"] * 5, ["fox", "cat"], ["Ä 1", "dog"]]
    made = Sources(tmp_path / "src", axis, sources)
    made.run(tmp_path / "whole", InProcessEngine(), size=99)
    monkeypatch.setattr(run_module, "COMMIT_SECONDS", -1.0)
    commits: list[int] = []

    def dies(ledger: Ledger) -> None:
        if ledger.ready() and len(commits) == 2:
            raise ConnectionError
        commits.append(ledger.ready())

    store = tmp_path / "store"
    with pytest.raises(ConnectionError):
        made.run(store, InOrder(0), size=1, steps=RunSteps(before_commit=dies))
    half = store_spec.open_store(store)
    known, codes = expected(axis, sources)
    assert 0 < len(half) < len(codes)
    assert [np.ravel(y).tolist() for _, y in half] == codes[: len(half)]
    names = half.class_names()
    assert names is not None
    assert len(names) < len(known)
    assert names == tuple(known[: len(names)])
    assert store_spec.verify(store) == []
    made.run(store, InProcessEngine(), size=2)
    assert files(store) == files(tmp_path / "whole")


def test_too_many_classes_end_the_build_and_what_was_committed_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("builder.labels.text_classes.MOST_CLASSES", 3)
    made = Sources(tmp_path / "src", "step", [["dog"], ["cat"], ["dog", "eel"], ["fox"]])
    monkeypatch.setattr(run_module, "COMMIT_SECONDS", -1.0)
    with pytest.raises(UsageError, match=r"labels y have more than 3 .* 'dog' to 'fox', .*\(what was committed stays"):
        made.run(tmp_path / "store", InProcessEngine(), size=1)
    found = store_spec.open_store(tmp_path / "store")
    assert [np.ravel(y).tolist() for _, y in found] == [[0], [1], [0, 2]]
    assert found.class_names() == ("dog", "cat", "eel")
