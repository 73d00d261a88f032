"""What a prompt and a notebook show of objects: short, readable, and harmless."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from store_spec import Rows, Schema, Store, create_store, open_store
from store_spec.format.moments import moments
from store_spec.notebook import names_text
from store_spec.reading.statistics import Statistics
from store_spec.windows.mixing import measure

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with create_store(
        tmp_path / f"{HOSTILE}.zarr",
        inputs=Rows(np.dtype("float32"), (2,), (HOSTILE, "b\x1b[2J")),
        labels=("float32", (1,)),
    ) as writer:
        for number in range(4):
            rows = np.arange(20 * (number + 1), dtype=np.float32).reshape(-1, 2)
            writer.append(rows, rows[:, :1], source=f"s{number}")
    return open_store(tmp_path / f"{HOSTILE}.zarr")


def text_of(html: str) -> str:
    """Return the words of a piece of HTML, which must hold nothing but a table."""
    parts: list[str] = []

    class Words(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in {"div", "strong", "table", "tr", "th", "td"}
            assert {name for name, _ in attrs} <= {"style", "scope"}

        def handle_data(self, data: str) -> None:
            parts.append(data)

    Words().feed(html)
    return " ".join(parts)


def test_a_notebook_shows_a_store_and_no_name_is_markup(store: Store):
    html = store._repr_html_()
    text = text_of(html)
    assert text.startswith(
        f"{HOSTILE}.zarr sequences 4 steps 100 lengths 10 to 40, median 25 inputs float32 (2,) a step: "
    )
    assert "\x1b" not in html
    assert "sequences 2 of 4" in text_of(store[:2]._repr_html_())
    assert "lengths -" in text_of(store[:0]._repr_html_())


def test_a_notebook_shows_the_names_of_classes(tmp_path: Path):
    classes = [["cat", HOSTILE]]
    with create_store(tmp_path / "c.zarr", inputs=("float32", ()), labels=("int64", ()), classes=classes) as writer:
        writer.append(np.ones(2, np.float32), np.array([0, 1]), source="a")
    html = open_store(tmp_path / "c.zarr")._repr_html_()
    assert f"classes cat, {HOSTILE} NaN" in text_of(html)


def test_options_of_windows_are_shown_where_they_are_not_as_usual(tmp_path: Path):
    path = tmp_path / "t.zarr"
    with create_store(
        path,
        inputs=Rows(np.dtype("float32"), (2,), ("a", "b")),
        labels=("float32", ()),
        columns={"age": "int64"},
        time="s",
        missing="keep",
    ) as writer:
        when = np.arange(9).astype("M8[s]")
        writer.append(np.ones((9, 2), "f4"), np.ones(9, "f4"), source="s", time=when, columns={"age": 3})
    store = open_store(path)
    assert repr(store.windows(3)).endswith(", phase='first')>")
    windows = store.windows(
        3, missing="skip", mask=True, features=["b"], static=["age"], normalize=store.stats(), before="2020-01-01"
    )
    given = "phase='first'), normalize=Scaler, features=b, static=age, before=2020-01-01, missing=skip, mask=True>"
    assert repr(windows).endswith(given)
    assert text_of(windows._repr_html_()).endswith(
        "normalized yes features b static age before 2020-01-01 missing skip mask True"
    )


def test_a_notebook_shows_windows(store: Store):
    text = text_of(store.windows(8, horizon=3, stride=2)._repr_html_())
    assert "windows 30 of 4 sequences inputs float32 (8, 2) labels float32 (3, 1), future stride 2" in text
    normalized = store.windows(8, target="last", normalize=store.stats())
    assert "labels float32 (1,), last" in text_of(normalized._repr_html_())
    assert "normalized yes" in text_of(normalized._repr_html_())


def test_batches_say_where_they_stand(store: Store):
    windows = store.windows(8)
    batches = windows.batches(16, shuffle=True, seed=3, epoch=2)
    next(batches)
    assert repr(batches).startswith("<5 batches of 16 windows, 1 taken, shuffled, seed 3, epoch 2: <68 windows of ")
    assert ", in order, rank 1 of 2: " in repr(windows.batches(16, rank=1, world_size=2))
    padded = store.padded(2)
    next(padded)
    assert re.match(
        r"<2 batches of up to 2 sequences, 1 taken, in order, 16.7 % padding: <seqzarr store ", repr(padded)
    )
    assert " of up to 90 padded steps, 0 taken, shuffled, seed 1, epoch 0, " in repr(
        store.padded(max_steps=90, shuffle=True, seed=1)
    )
    streams = store.streams(2, 10)
    assert re.match(
        r"<[0-9]+ batches of 2 lanes of 10 steps, 0 taken, in order, [0-9.]+ % padding: <seq", repr(streams)
    )


def test_a_writer_says_what_is_not_committed(store: Store):
    rows = np.ones((3, 2), np.float32)
    with open_store(store.path, "a") as writer:
        writer.append(rows, rows[:, :1], source="new")
        assert repr(writer) == "<seqzarr writer: 5 sequences, 1 of them not committed yet>"


def test_statistics_of_many_features_are_short():
    one = Statistics(inputs=moments(np.arange(4000.0).reshape(2, 2000)), labels=moments(np.array([1.0, 4.0])))
    assert repr(one) == (
        "Statistics(inputs=Moments(count=[2, 2, 2, ..., 2, 2, 2], "
        "mean=[1000, 1001, 1002, ..., 2997, 2998, 2999], std=[1000, 1000, 1000, ..., 1000, 1000, 1000], "
        "min=[0, 1, 2, ..., 1997, 1998, 1999], max=[2000, 2001, 2002, ..., 3997, 3998, 3999]), "
        "labels=Moments(count=[2], mean=[2.5], std=[1.5], min=[1], max=[4]))"
    )


def test_a_schema_of_many_names_is_short():
    rows = Rows(np.dtype("float32"), (500,), tuple(f"n{number}" for number in range(500)))
    assert repr(rows) == (
        "Rows('float32', (500,), names=('n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', ..., 'n499'; 500 in all))"
    )
    assert repr(Rows(np.dtype("int8"), ())) == "Rows('int8', ())"
    assert eval(repr(Rows(np.dtype("int8"), (2,), ("a", "b")))) == Rows(np.dtype("int8"), (2,), ("a", "b"))  # noqa: S307
    assert len(repr(Schema.plan(rows, rows))) < 500


def test_other_objects_are_short(store: Store):
    windows = store.windows(8)
    assert repr(windows.index).startswith("<index of 68 windows of 4 sequences: WindowShape(window=8, ")
    assert repr(store.snapshot) == f"<snapshot of {HOSTILE}.zarr: 4 sequences, 100 steps>"
    assert re.fullmatch(
        r"<mixing of 68 windows in batches of 8, 1 pools: a batch has [0-9]+ % of the sequences of a permutation's>",
        repr(measure(windows, 8)),
    )


def test_long_and_many_names_are_cut():
    assert names_text(["x" * 99]) == "x" * 39 + "…"
    assert names_text([*"abcdefghij"]) == "a, b, c, d, e, f, g, h and 2 more"
