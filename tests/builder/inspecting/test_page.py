"""The HTML page of a store: well-formed, complete, harmless, small and reproducible; other tests use a browser."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.text import Text

import builder
from builder import Inspection, UsageError, inspect
from builder.amounts import LONGEST_NAME, number_text, short_name
from builder.inspection import Shuffle, as_html
from builder.inspection.as_html import LISTED_FAILURES, html_of
from builder.inspection.as_text import inspection_text
from builder.inspection.sampling import Line
from builder.inspection.values import CleanedSource, StoreCleaning
from store_spec import Rows, open_store
from store_spec.errors import MissingStoreError, StoreError
from store_spec.format.times import Time
from tests.builder.command import run_inspect as run
from tests.builder.inspected_stores import HOSTILE, SECTIONS, hostile_store, wide_store
from tests.store.damage import flipped
from tests.store.oracle import Recipe, store_of

LARGEST = 2 * 10**6
GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "v1"
VOID = {"meta", "br", "hr", "img", "input", "link", "wbr"}


class Page(HTMLParser):
    """The elements of a page, checked to be closed in order, with their attributes and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def page_of(store: Path, shuffle: Shuffle | None = None) -> str:
    """Return the page, written beside the store."""
    path = store.with_suffix(".html")
    builder.write_report(store, path, shuffle=shuffle)
    return path.read_text()


def checked(text: str) -> Page:
    """Parse a page, and check what holds for every one."""
    assert len(text.encode()) < LARGEST
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert [section for section in page.ids if section in SECTIONS] == list(SECTIONS)
    linked = {value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert linked <= set(page.ids)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form", "base"}
    assert not [one for one in page.attributes if one[1].startswith("on") or one[1] in {"src", "srcset", "action"}]
    # Nothing that a browser loads has an address; the text of names may.
    assert not [one for one in page.attributes if "//" in one[2] or "url(" in one[2] or "javascript" in one[2]]
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 1
    assert not re.search(r"url\(|@import|https?:", styles[0])
    return page


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_store(tmp_path_factory.mktemp("hostile") / "hostile <script>.zarr")


@pytest.fixture
def hostile(made_once: Path, tmp_path: Path) -> Path:
    """A store in which each name is an attack."""
    return Path(shutil.copytree(made_once, tmp_path / made_once.name))


def of_one_sequence(path: Path, **options: Any) -> Path:
    """Make a store of three steps."""
    store_of(path, [np.zeros(3, np.int8)], sources="a", **options)
    return path


def test_untrusted_names_are_only_text(hostile: Path):
    text = page_of(hostile)
    page = checked(text)
    assert "hostile <script>.zarr" in page.text
    for name in ("<script>alert(1)</script>", "<img src=https://example.org/x onerror=alert(1)>", "{{ 7 * 6 }} {% raw"):
        assert name in page.text
    assert "turned \\u202e round \\x1b[2J" in page.text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "<script" not in text


def test_the_page_of_a_store_is_reproducible(hostile: Path, tmp_path: Path):
    first = page_of(hostile)
    assert page_of(hostile) == first
    (tmp_path / "elsewhere").mkdir()
    assert page_of(Path(shutil.copytree(hostile, tmp_path / "elsewhere" / hostile.name))) == first
    assert str(tmp_path) not in first


def test_the_page_has_its_figures(hostile: Path):
    page = checked(page_of(hostile))
    for said in (
        "29 sequences",
        "1 more, retired",
        "NaN means a missing value",
        "2 sources could not be used",
        "broken",
        f"Classes of {HOSTILE[0]}",
        "seqzarr inspect STORE --shuffle WINDOW measures how well windows mix",
        "zstd:3",
        open_store(hostile).identity,
        "label_axis",
    ):
        assert said in page.text, said


def test_the_page_of_500_features_is_small(tmp_path: Path):
    page = checked(page_of(wide_store(tmp_path / "w.zarr")))
    assert "feature 499" in page.text
    assert "and 461 columns more, which seqzarr inspect --json has" in page.text


def test_the_page_of_500_long_names_is_small(tmp_path: Path):
    names = tuple("\U0001f600<&>" * 300 + str(number) for number in range(500))
    rows = [np.random.default_rng(number).normal(size=(9, 500)) for number in range(3)]
    inputs, sources = Rows(np.dtype("float64"), (500,), names), [name[:900] for name in names]
    store_of(tmp_path / "n.zarr", rows, [*range(3)], inputs=inputs, label_axis="sequence", sources=sources)
    checked(page_of(tmp_path / "n.zarr"))


def test_the_page_says_that_it_shows_some_features(tmp_path: Path):
    rows = (np.arange(7000).reshape(10, 700) % 100).astype(np.int8)
    store_of(tmp_path / "f.zarr", [rows], [rows[:, :300]])
    assert "and 200 more, which seqzarr inspect --json has" in checked(page_of(tmp_path / "f.zarr")).text


@pytest.mark.slow
def test_the_page_of_20_000_sequences_is_small(tmp_path: Path):
    rows = [np.arange(2 * (number % 5), dtype=np.float32).reshape(-1, 2) for number in range(20_000)]
    more = [{"columns": {"site": f"site-{number % 3}", "age": float(number % 5)}} for number in range(20_000)]
    store_of(tmp_path / "m.zarr", rows, columns={"site": "string", "age": "float64"}, more=more)
    text = page_of(tmp_path / "m.zarr")
    assert len(text) < 40_000  # a list of them would have more
    page = checked(text)
    assert "20,000 sequences" in page.text
    assert "4,000 sequences without any step" in page.text
    assert "site-0 6,667, site-1 6,667, site-2 6,666" in page.text


def test_a_store_without_sequences_has_a_page(tmp_path: Path):
    Recipe().create(tmp_path / "e.zarr").commit()
    assert "There is no sequence." in checked(page_of(tmp_path / "e.zarr")).text


@pytest.mark.parametrize(
    ("lengths", "said"),
    [([1], "The only sequence has 1 step."), ([7, 7], "Every sequence has 7 steps."), ([1, 7], "longest 7 steps")],
)
def test_sequences_of_one_length_make_no_chart(tmp_path: Path, lengths: list[int], said: str):
    store_of(tmp_path / "l.zarr", [np.zeros(length, np.int8) for length in lengths])
    text = page_of(tmp_path / "l.zarr")
    assert said in checked(text).text
    assert ('aria-label="Lengths"' in text) == (len(set(lengths)) > 1)


def test_values_at_the_ends_of_float64_have_a_page(tmp_path: Path):
    rows = np.array([[-1.7e308, 5e-324], [1.7e308, 0.0], [0.0, 5e-324]])
    store_of(tmp_path / "x.zarr", [rows] * 20, [rows[:, 0]] * 20)
    text = page_of(tmp_path / "x.zarr")
    assert "-1.7e+308" in checked(text).text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_requested_windows_are_shown(hostile: Path):
    page = checked(page_of(hostile, shuffle=Shuffle(window=5, stride=3, batch=16, memory="64MB")))
    assert "With window 5, stride 3, horizon 1, " in page.text
    assert "batch 16, memory 64MB, seed 0, epoch 0: " in page.text
    assert "sequences in a batch" in page.text
    with pytest.raises(UsageError, match="fit nowhere: the longest of"):
        page_of(hostile, shuffle=Shuffle(window=5000))


def test_the_command_writes_the_page_and_says_so(hostile: Path, tmp_path: Path):
    path = tmp_path / "p.html"
    result = run(hostile, "--html", path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"wrote {path}\n", "")
    assert path.read_text() == page_of(hostile)
    assert [one.name for one in tmp_path.glob("*p.html*")] == ["p.html"]
    assert json.loads(run(hostile, "--html", path, "--json").stdout)["sequences"] == 29


def test_a_page_that_cannot_be_written_is_wrong_usage(hostile: Path, tmp_path: Path):
    for path, reason in (
        (hostile / "p.html", "is inside the store"),
        (tmp_path / "nowhere" / "p.html", "cannot be written: No such file or directory"),
        (tmp_path, "cannot be written: Is a directory"),
    ):
        assert reason in run(hostile, "--html", path, status=2).stderr
    with pytest.raises(MissingStoreError):
        builder.write_report(tmp_path / "none.zarr", tmp_path / "p.html")
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_store_has_no_page_and_the_old_one_stays(hostile: Path, tmp_path: Path):
    page = tmp_path / "p.html"
    page.write_text("old")
    shard = next((hostile / "inputs").glob("c.*"))
    flipped(f"inputs/{shard.name}", 50)(hostile)
    result = run(hostile, "--html", page)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "crc32c" in result.stderr
    assert page.read_text() == "old"
    assert not list(tmp_path.glob(".p.html*"))


def test_a_page_of_too_many_options_is_cut(tmp_path: Path):
    build = {"build": {f"option {number}": "x" * 500 for number in range(20_000)}}
    assert "option 99" in checked(page_of(of_one_sequence(tmp_path / "o.zarr", provenance=build))).text


def test_options_and_schema_are_told_apart(tmp_path: Path):
    for name, provenance, said in (
        ("o", {"build": {"inputs": ["a", "b"], "on": ["a,b"]}}, 'inputs\na, b\non\n["a,b"]\n'),
        ("n", {"build": {}}, "Options of the build\nNo options were given."),
        ("a", {}, "Options of the build\nNo build made this store: its arrays were appended."),
    ):
        path = of_one_sequence(tmp_path / f"{name}.zarr", provenance=provenance)
        text = re.sub(r"\s*\n\s*", "\n", checked(page_of(path)).text)
        assert said in re.sub(r"(inputs|on)(?=[a\[])", r"\1\n", text), name


def test_the_first_of_many_failures_are_listed(tmp_path: Path):
    listed = [{"source": f"bad-{number}.csv", "reason": "broken"} for number in range(150)]
    failures = {"failures": {"count": 170, "listed": listed}}
    page = checked(page_of(of_one_sequence(tmp_path / "f.zarr", provenance=failures)))
    assert [number for number in range(150) if f"bad-{number}.csv" in page.text] == list(range(LISTED_FAILURES))
    assert "and 70 more." in page.text


def test_notes_lead_to_the_section_that_says_more(tmp_path: Path):
    floats, labels = np.dtype("float32"), np.array([[1, np.nan], [1, np.nan], [1, 5]], np.float32)
    named: Any = {"inputs": Rows(floats, (7,), tuple("abcdefg")), "labels": Rows(floats, (2,), ("still", "gaps"))}
    store_of(tmp_path / "n.zarr", [np.zeros((3, 7), floats)] * 3, [labels] * 3, missing="keep", **named)
    text = re.sub(r"\s+", " ", page_of(tmp_path / "n.zarr"))
    for note in (
        '7 features have one value only: a, b, c, d, e and 2 more. <a href="#features">',
        '2 targets have one value only: still, gaps. <a href="#labels">',
        'More than 50 % of the values are missing in gaps. <a href="#labels">',
    ):
        assert note in text, note


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.zarr")))
def test_every_golden_store_has_a_page(name: str, tmp_path: Path):
    builder.write_report(GOLDEN / name, tmp_path / "p.html")
    checked((tmp_path / "p.html").read_text())


def test_a_malformed_store_is_refused_with_its_own_error(tmp_path: Path):
    stores = [path for path in (GOLDEN.parents[1] / "malformed").iterdir() if path.is_dir()]
    assert len(stores) > 50
    for store in stores:
        with pytest.raises(StoreError):
            builder.write_report(store, tmp_path / "p.html")
    assert not list(tmp_path.iterdir())


def test_a_line_of_missing_values_has_nothing_to_draw(tmp_path: Path):
    rows = np.array([[0, np.nan], [1, np.nan]], np.float32)
    store_of(tmp_path / "l.zarr", [rows], [np.int8(0)], missing="keep", label_axis="sequence")
    assert "feature 1 <small>all missing</small>" in page_of(tmp_path / "l.zarr")


def test_charts_are_proportional_and_interrupted_at_missing_values():
    assert (
        as_html.bars([(0, 0, 1), (1, 1, 0), (2, 2, 4), (3, 3, 1000)]) == "M.1 1V.98h.8V1zM2.1 1V.98h.8V1zM3.1 1V0h.8V1z"
    )
    line = Line(array="inputs", title="a", low=1.0, high=2.0, spans=((1.0, 1.0), (2.0, 2.0), None, (1.0, 1.5)))
    assert as_html.curve(line) == "M.5 1L1.5 0L1.5 0L.5 1M3.5 .5L3.5 1"
    far = Line(array="inputs", title="a", low=-1.7e308, high=1.7e308, spans=((-1.7e308, 1.7e308),))
    assert as_html.curve(far) == "M.5 0L.5 1"


@pytest.fixture(scope="module")
def document(made_once: Path) -> Inspection:
    return inspect(made_once, rows=True)


def test_columns_times_and_names_of_classes_are_shown(tmp_path: Path):
    columns: Any = {"<b>site": "string", "age": "float64", "always": "int64", "never": "float64", "ok": "bool"}
    ages, always = (1.5, None, 40.0), {"<b>site": HOSTILE[1], "always": 7}
    more = [
        {"time": np.arange(3) * 60 + 86400 * number, "columns": always | {"age": age, "ok": number > 0}}
        for number, age in enumerate(ages)
    ]
    store_of(
        tmp_path / "k.zarr",
        [np.arange(3, dtype="float32")] * 3,
        [np.array([0, 1, 1], np.int8)] * 3,
        labels=Rows(np.dtype("int8"), (), None, (("calm", HOSTILE[0]),)),
        columns=columns,
        time=Time("s", zone="UTC"),
        more=more,
    )
    page = checked(page_of(tmp_path / "k.zarr"))
    assert "Steps are from 1970-01-01T00:00:00Z to 1970-01-03T00:02:00Z." in page.text
    assert "columns" in page.ids
    assert "<b>site" in page.text
    assert f"{HOSTILE[1]} 3" in page.text
    assert "always 7" in page.text
    assert "mean 20.75" in page.text
    assert f"1 {HOSTILE[0]}" in page.text
    assert "0 calm" in page.text


def test_the_label_of_a_sequence_has_its_name(tmp_path: Path):
    rows = Rows(np.dtype("int8"), (2,), ("kind", "more"), (("calm", HOSTILE[0]), None))
    store_of(tmp_path / "k.zarr", [np.zeros(3)], [np.array([1, 5], np.int8)], labels=rows, label_axis="sequence")
    assert f", kind {HOSTILE[0]}, more 5" in checked(page_of(tmp_path / "k.zarr")).text


def test_cleaning_is_shown_with_the_worst_sources(document: Inspection):
    assert not {"columns", "cleaning"} & set(checked(html_of(document)).ids)
    worst = CleanedSource(source=HOSTILE[0], sequences=2, steps=75, dropped=25, filled=3)
    cleaning = StoreCleaning(dropped=26, filled=1, several=1, touched=4, named=4, worst=(worst,))
    page = checked(html_of(replace(document, cleaning=cleaning)))
    assert "26 steps dropped, 1 value filled in, in 4 sources; 1 source split into several sequences" in page.text
    assert "25 %" in page.text
    assert "and 3 sources more" in page.text
    none = StoreCleaning(dropped=0, filled=0, several=0, touched=0, named=0, worst=())
    nothing = replace(document, cleaning=none)
    sentence = "no step was dropped, no value was filled in, and no source was split into several sequences"
    assert sentence in checked(html_of(nothing)).text
    assert ("Cleaning", Text(sentence)) in list(inspection_text(nothing))


def test_names_and_reasons_are_cut_to_what_a_page_can_show(document: Inspection):
    assert len(short_name("x" * 9999)) == LONGEST_NAME
    assert short_name("x" * LONGEST_NAME) == "x" * LONGEST_NAME
    page = checked(html_of(replace(document, failures_listed=(("s" * 9999, "y" * 9999),))))
    assert [max(map(len, re.findall(f"{letter}+…{letter}+", page.text))) for letter in "sy"] == [LONGEST_NAME, 300]


def test_infinity_and_nan_have_a_text():
    assert (number_text(np.inf), number_text(np.nan)) == ("inf", "nan")
