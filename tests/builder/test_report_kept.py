"""What the page says of kept columns, class names and cleaning, where a store has them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from builder import inspect_source
from builder.cli import main
from builder.cli.inspection import _cleaning
from builder.labels.beside import LABELS_SHA256
from builder.report import charts
from builder.report.content import describe
from builder.report.kept import KeptColumn, describe_column
from builder.report.page import html_of
from builder.sequence_values import COMMON, column_values
from store_spec import Rows, create_store, open_store
from store_spec.format.times import Time
from tests.builder.report_stores import HOSTILE, hostile_store
from tests.builder.test_report_page import checked


def described(name: str, values: np.ndarray) -> KeptColumn:
    """Describe a column as the page does."""
    dtype = "string" if values.dtype == object else values.dtype.name
    return describe_column(column_values(name, dtype, values), values)


@given(st.lists(st.sampled_from(["", *"abcdefgh", HOSTILE[0]])))
def test_text_is_counted(values: list[str]):
    found = described("site", np.array(values, object)).found
    counts = Counter(value for value in values if value)
    assert (found.missing, found.distinct) == (values.count(""), len(counts))
    assert found.common == tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))[:COMMON]


@given(st.lists(st.just(np.nan) | st.integers(-5, 5).map(float)))
def test_numbers_are_summed_up(values: list[float]):
    column = described("age", np.array(values, np.float64))
    found, real = column.found, [value for value in values if not np.isnan(value)]
    assert (found.missing, found.distinct) == (len(values) - len(real), len(set(real)))
    assert (found.min, found.max) == (min(real, default=None), max(real, default=None))
    assert column.mean == (pytest.approx(sum(real) / len(real)) if real else None)
    assert found.common == ()


def test_what_a_store_keeps_is_told(tmp_path: Path):
    with create_store(
        tmp_path / "k.zarr",
        inputs=("float32", ()),
        labels=Rows(np.dtype("int8"), (), None, (("calm", HOSTILE[0]),)),
        columns={"site": "string", "dropped": "int64", LABELS_SHA256: "string"},
        time=Time("s", zone="UTC"),
    ) as writer:
        for number in range(3):
            times = np.arange(3) * 60 + 86400 * number
            writer.append(
                np.arange(3, dtype=np.float32),
                np.array([0, 1, 1], np.int8),
                source=f"s{number}",
                time=times,
                columns={"site": HOSTILE[1], "dropped": 0},
            )
        writer.append(
            np.zeros(0, np.float32), np.zeros(0, np.int8), source="z", time=[], columns={"site": "", "dropped": 1}
        )
    content = describe(open_store(tmp_path / "k.zarr"))
    assert [one.found.name for one in content.kept] == ["site"]
    assert content.kept[0].found.common == ((HOSTILE[1], 3),)
    page = checked(html_of(content))
    assert "Steps are from 1970-01-01T00:00:00Z to 1970-01-03T00:02:00Z." in page.text
    assert f"{HOSTILE[0]}: steps 1 to 2" in page.text
    found = inspect_source(tmp_path / "k.zarr", "s1")
    assert found.parts[0].times == ("1970-01-02T00:00:00Z", "1970-01-02T00:02:00Z")
    assert inspect_source(tmp_path / "k.zarr", "z").parts[0].times is None
    command = ["inspect", str(tmp_path / "k.zarr"), "--sequence", "s1"]
    text = CliRunner().invoke(main, command, env={"COLUMNS": "80"}).stdout
    assert "1970-01-02T00:00:00Z to 1970-01-02T00:02:00Z" in " ".join(text.split())


def test_columns_and_cleaning_have_sections_where_there_are_some(tmp_path: Path):
    content = describe(open_store(hostile_store(tmp_path / "h.zarr")))
    assert not {"kept", "cleaning"} & set(checked(html_of(content)).ids)
    kept = (
        described(HOSTILE[0], np.array([HOSTILE[1], HOSTILE[1], ""], object)),
        described("age", np.array([1.5, np.nan, 40.0])),
        described("always", np.array([7, 7])),
        described("never", np.array([np.nan])),
        described("ok", np.array([True, False])),
    )
    text = html_of(replace(content, kept=kept))
    page = checked(text)
    assert "kept" in page.ids
    assert f"{HOSTILE[1]} 2" in page.text
    assert "always 7" in page.text
    assert "from 1.5 to 40" in page.text
    assert "<script" not in text


def test_cleaning_is_told_with_the_worst_sources(tmp_path: Path):
    content = describe(open_store(hostile_store(tmp_path / "h.zarr")))
    worst = SimpleNamespace(source=HOSTILE[0], sequences=2, steps=75, dropped=25, filled=3)
    total = SimpleNamespace(dropped=26, filled=1, several=1)
    cleaning: Any = SimpleNamespace(total=total, touched=4, named=4, worst=(worst,))
    page = checked(html_of(replace(content, found=replace(content.found, cleaning=cleaning))))
    assert "26 steps dropped and 1 value filled in, of 4 sources;\n1 source gave several sequences." in page.text
    assert "25 %" in page.text
    assert "and 3 sources more" in page.text
    nothing: Any = SimpleNamespace(total=SimpleNamespace(dropped=0, filled=0, several=0), touched=0, named=0, worst=())
    page = checked(html_of(replace(content, found=replace(content.found, cleaning=nothing))))
    said = "No step was dropped, no value was filled in, and no source gave several sequences."
    assert said in page.text
    text = "".join(map(str, _cleaning(nothing)))
    assert text == said[0].lower() + said[1:-1]


def test_classes_have_their_names_everywhere(tmp_path: Path):
    content = replace(describe(open_store(hostile_store(tmp_path / "h.zarr"))), classes=(("calm", HOSTILE[0]),))
    text = html_of(content)
    page = checked(text)
    assert "calm: steps 0 to 49" in page.text
    assert f"{HOSTILE[0]}: steps 50 to 99" in page.text
    assert "2: steps 100 to 149" in page.text  # a code without a name
    assert charts.label_text(content, 0, 0.5) == "0.5"
    assert charts.label_text(replace(content, classes=(None,)), 0, 1) == "1"
