"""Codes of classes if workers do not know those of earlier batches: the same as in a loop over the sources."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import builder
import store_spec
from builder import UsageError, tabular
from builder.workers.batch import recode
from store_spec.disk.ledger import Ledger
from tests.builder.any_order import Later, Shuffled, on_engine
from tests.builder.source_files import write_files
from tests.store.oracle import files

Axis = Literal["step", "sequence", "own"]
AXES: list[Axis] = ["step", "sequence", "own"]
WORDS = ["cat", "dog", "eel", "Ä 1", "fox"]
PROCESSES = {
    "step": tabular(inputs="x", labels="y"),
    "sequence": tabular(inputs="x", label_pattern=r"-(.+)\.csv"),
    "own": tabular(inputs="x", labels_from="labels/{stem}.csv", label_axis="own"),
}


def write(folder: Path, axis: Axis, sources: list[list[str]]) -> list[str]:
    """Write sources with these labels, and return their names; one without labels cannot be read."""
    texts = {}
    for number, labels in enumerate(sources):
        name = f"{number:02}-{labels[0] if labels else 'bad'}.csv"
        here = ["-"] * (2 * len(labels)) if axis == "own" else labels
        texts[name] = "x,y\n" + ("".join(f"{row},{text}\n" for row, text in enumerate(here)) or "1,eel,2\n")
        texts[f"labels/{name}"] = "\n".join(["y", *(labels or ["gnu"]), ""])
    write_files(folder, texts)
    return [name for name in texts if not name.startswith("labels/")]


def build(place: Path, store: str, axis: Axis, engine: Any = None, **options: Any) -> builder.Report:
    """Build the sources in `src`; with an engine, in batches of one."""
    given: dict[str, Any] = {"process": PROCESSES[axis], "chunk": 40, "shard": 120, "workers": 0, "max_failures": 99}
    sources = f"{place}/src/*.csv"
    if engine is None:
        return builder.build(sources, place / store, **given | options)
    with on_engine(engine, memory=10**9):
        return builder.build(sources, place / store, **given | {"batch": 1} | options)


def expected(axis: Axis, sources: list[list[str]]) -> tuple[list[str], list[list[int]]]:
    """Give each text the next code when it first appears in a source that can be read."""
    known: list[str] = []
    codes = []
    for texts in filter(None, sources):
        here = texts[:1] if axis == "sequence" else texts
        known += [text for text in dict.fromkeys(here) if text not in known]
        codes.append([known.index(text) for text in here])
    return known, codes


def codes_of(store: store_spec.Store) -> list[list[int]]:
    return [np.ravel(y).tolist() for _, y in store]


class InOrder(Shuffled):
    """An engine that returns tasks in order, and runs none twice."""

    def __init__(self) -> None:
        super().__init__(0)
        self.random.random = lambda: 1.0  # type: ignore[method-assign]

    def finished(self) -> Later:
        """Return the first of the watched tasks."""
        return self.watched.pop(0)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(
    axis=st.sampled_from(AXES),
    sources=st.lists(st.lists(st.sampled_from(WORDS), max_size=9), min_size=1, max_size=9).filter(any),
    batch=st.sampled_from([1, 60, 200, "1GB"]),
    seed=st.integers(0, 2**32),
)
def test_codes_equal_those_of_a_loop_in_any_order_of_tasks(axis, sources, batch, seed):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(place / "src", axis, sources)
        first = build(place, "at-once", axis)
        second = build(place, "by-chance", axis, Shuffled(seed), batch=batch)
        known, codes = expected(axis, sources)
        store = store_spec.open_store(place / "at-once")
        assert (store.class_names(), codes_of(store)) == (tuple(known), codes)
        assert store_spec.verify(place / "at-once") == []  # checksums and statistics too
        assert files(place / "by-chance") == files(place / "at-once")
        assert first.failures == second.failures


def test_batches_whose_codes_differ_are_recoded_and_others_are_not(tmp_path, monkeypatch):
    names = write(tmp_path / "src", "step", [["dog"], ["cat", "dog"], ["dog"], ["cat"]])
    recoded = []

    def noted(processed, recoding, schema):
        recoded.append(processed.summary.records.sources)
        return recode(processed, recoding, schema)

    monkeypatch.setattr("builder.execution.run.recode", noted)
    build(tmp_path, "store", "step", InOrder())
    assert codes_of(store_spec.open_store(tmp_path / "store")) == [[0], [1, 0], [0], [1]]
    # Four batches are sent at once. Only the second and the fourth begin with a class other than the first one.
    assert recoded == [(names[1],), (names[3],)]


@pytest.mark.slow
@pytest.mark.parametrize("axis", AXES)
def test_classes_are_committed_with_the_sequences_that_have_them(tmp_path, axis, monkeypatch):
    """After a build that is killed at its third commit, the next one completes the store to the same bytes."""
    sources = [["dog"] * 3, ["cat", "dog"], [], ["eel"] * 5, ["fox", "cat"], ["Ä 1", "dog"]]
    write(tmp_path / "src", axis, sources)
    build(tmp_path, "whole", axis)
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    commits: list[int] = []
    commit = Ledger.commit

    def dies(ledger: Ledger) -> int:
        if ledger.ready() and len(commits) == 2:
            raise ConnectionError
        commits.append(ledger.ready())
        return commit(ledger)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", dies)
        with pytest.raises(ConnectionError):
            build(tmp_path, "store", axis, InOrder())
    half = store_spec.open_store(tmp_path / "store")
    known, codes = expected(axis, sources)
    assert 0 < len(half) < len(codes)
    assert codes_of(half) == codes[: len(half)]
    names = half.class_names()
    assert names is not None
    assert len(names) < len(known)
    assert names == tuple(known[: len(names)])
    assert store_spec.verify(tmp_path / "store") == []
    build(tmp_path, "store", axis)
    assert files(tmp_path / "store") == files(tmp_path / "whole")


def test_too_many_classes_of_batches_that_do_not_know_of_each_other_end_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr("builder.labels.text_classes.MOST_CLASSES", 3)
    write(tmp_path / "src", "step", [["dog"], ["cat"], ["dog", "eel"], ["fox"]])
    with pytest.raises(UsageError, match=r"labels y have more than 3 .* 'dog' to 'fox', .*\(what was committed stays"):
        build(tmp_path, "store", "step", InOrder())
