"""Numbers with a decimal comma equal those of the same table with points, bit for bit; nothing is guessed."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import SourceError, UsageError, tabular
from builder.formats import text_header, text_table
from builder.formats.text_numbers import MISSING
from builder.labels.text_classes import is_number
from builder.options.option_syntax import parse_missing_words
from store_spec import open_store
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, refusal, write_file

SUFFIXES = {".csv": ";", ".txt": " ", ".tsv": "\t", ".tab": "|", ".csv.gz": ";", ".dat.zst": "  "}


def text_of(rows: list[list[str]], between: str, decimal: str = ".") -> str:
    """Write rows as text; the first one has the names."""
    names, *others = rows
    lines = [names, *([cell.replace(".", decimal) for cell in row] for row in others)]
    return "".join(f"{between.join(row)}\n" for row in lines)


def read(path: Path, **options: Any) -> list[tuple[Any, ...]] | None:
    """Return everything in the sequences of a file, bit by bit; None if it is refused."""

    def bits(values: Any) -> Any:
        if values is None:
            return None
        if values.dtype == object:  # text, as it is written
            return [str(one).replace(",", ".") for one in values.ravel()]
        return values.dtype.str, values.shape, values.tobytes()

    try:
        found = list(tabular(**options).sequences(path))
    except SourceError:
        return None
    return [(bits(one.inputs), bits(one.labels), dict(one.columns), bits(one.time), one.zone) for one in found]


def numbers_of(kind: str) -> st.SearchStrategy[str]:
    """Draw numbers as they occur in files, with points."""
    whole = st.integers(-(2**31), 2**31 - 1).map(str)
    floats = st.floats(allow_nan=False, allow_infinity=False)
    written = st.sampled_from(["{!r}", "{:.3f}", "{:+.2e}", "{:.1E}", "{:.17g}"])
    decimals = st.builds(str.format, written, floats)
    return {
        "whole": whole,
        "plus": whole.map(lambda text: f"+{text.lstrip('-')}"),
        "whole decimals": st.integers(-99, 99).map(lambda number: f"{number}.0"),
        "decimals": decimals,
        "odd": decimals
        | st.sampled_from([".5", "-.5", "5.", "+1.5", "1.5e-3", "-0.0", "1e5", "inf", "9007199254740993"]),
        "gaps": decimals | whole | st.sampled_from([word for word in MISSING if word]),
        "missing": decimals | st.sampled_from(["-999.5", "?", "7.0"]),
        "words": st.sampled_from(["true", "false", "True"]),
        "faults": decimals | st.sampled_from(["cat", "1.2.3", ".", "-", "1e", "1 5"]),
    }[kind]


KINDS = ("whole", "plus", "whole decimals", "decimals", "odd", "gaps", "missing", "words")


@given(data=st.data(), suffix=st.sampled_from([*SUFFIXES]))
def test_a_table_with_commas_equals_the_same_table_with_points(tmp_path, data, suffix):
    """For any format, dtype, policies and columns; if one table is refused, so is the other."""
    kinds = [data.draw(st.sampled_from([*KINDS, *KINDS, "faults"])) for _ in range(3)]
    count = data.draw(st.integers(0, 6))
    between = SUFFIXES[suffix]
    quoted = data.draw(st.booleans()) and between.strip()
    rows = [["a", "b", "y", "t", "g"]]
    for number in range(count):
        cells = [data.draw(numbers_of(kind)) for kind in kinds]
        cells = [cell if between.strip() else cell.replace(" ", "") for cell in cells]
        time = data.draw(st.sampled_from([f"{number}", f"{number}.25", f"{number}.5e0"]))
        rows.append([*(f'"{one}"' if quoted else one for one in cells), time, data.draw(st.sampled_from(["7", "x"]))])
    options: dict[str, Any] = {"header": True, "exclude": data.draw(st.sampled_from(["t,g", ["t", "g"]]))}
    if data.draw(st.booleans()):
        options |= {"time": "t", "time_unit": "s", "elapsed": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        options |= {"group_by": "g"}
    if data.draw(st.booleans()):
        options |= {"labels": "y"}
    if between in ";|":
        options["delimiter"] = between
    dtype = data.draw(st.sampled_from([None, "float64", "float32", "int64", "int16", "uint64", "bool"]))
    options |= {"dtype": dtype, "missing": data.draw(st.sampled_from([None, "drop", "split", "interpolate+drop"]))}
    if data.draw(st.booleans()):
        options["na_values"] = ["-999.5", "?", "7.0"]
    points = write_file(tmp_path / f"points{suffix}", text_of(rows, between))
    commas = write_file(tmp_path / f"commas{suffix}", text_of(rows, between, ","))
    expected = read(points, **options)
    if "na_values" in options:
        options["na_values"] = ["-999,5", "?", "7,0"]
    assert read(commas, **options, decimal=",") == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_read_in_parts_has_the_same_start(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text_header, "FIRST", 1_000)
    monkeypatch.setattr(text_table, "_BLOCK", 1_000)
    values = np.random.default_rng(5).normal(size=(600, 2))
    rows = [["a", "b"], *([repr(one) for one in row] for row in values.tolist())]
    path = write_file(tmp_path / f"x{suffix}", text_of(rows, SUFFIXES[suffix], ","))
    process = tabular(decimal=",", header=True, delimiter={";": ";", "|": "|"}.get(SUFFIXES[suffix]))
    inputs, _ = process(path)
    assert inputs.tobytes() == values.tobytes()


# The decimal mark, what the message says, and cells.
OTHER_MARKS = [
    (",", "with --decimal , decimals have a comma", ["1.5", ".5", "1.500", "1.0e3"]),
    (",", "thousands have no separators, as in 1234,5; write the file without points", ["1.234.567", "1.234,56"]),
    (",", "correct it", ["1,234.56", "1,2,3", ",", "1?5"]),
    (".", "say --decimal ,", ["1,5", ",5", "1,5e-3"]),
    (".", "thousands have no separators, as in 1234.5; write the file without commas", ["1,234.56"]),
]


@pytest.mark.parametrize(
    ("cell", "decimal", "says"), [(cell, decimal, says) for decimal, says, cells in OTHER_MARKS for cell in cells]
)
@pytest.mark.parametrize("role", ["input", "label"])
@pytest.mark.parametrize("dtype", [None, "int64", "float32"])
def test_a_number_with_the_other_mark_is_refused_by_row(tmp_path, cell, decimal, says, role, dtype):
    path = write_file(tmp_path / "x.csv", f"x;y\n1;1\n2{decimal}0;2{decimal}0\n{cell};{cell}\n")
    options = {"labels": "y"} if role == "label" else {"exclude": "y"}
    text = refusal(path, delimiter=";", decimal=decimal, dtype=dtype, **options)
    assert text.startswith("row 3, column ")
    assert repr(cell) in text
    assert says in text


def test_numbers_with_commas_are_not_classes(tmp_path):
    """They do not become classes either if another source has classes."""
    contents = {"a.csv": "x;y\n1;cat\n2;dog\n", "b.csv": "x;y\n1;eel\n2;1,5\n", "c.csv": "x;y\n1;2,5\n2;1,5\n"}
    process = tabular(labels="y", delimiter=";", decimal=",")
    built = build_files(tmp_path, contents, process)
    assert [str(failure).partition(";")[0] for failure in built.report.failures] == [
        "b.csv: row 1, column y: 'eel' is not a number, and '1,5' in row 2 is one",
        "c.csv: row 1, column y: '2,5' is a number, but the store has classes",
    ]
    (one,) = process.sequences(tmp_path / "src" / "c.csv")
    assert (one.labels.dtype, one.labels.tolist()) == (np.float64, [[2.5], [1.5]])


def test_labels_that_are_text_are_classes_beside_decimal_commas(tmp_path):
    path = write_file(tmp_path / "x.csv", "x;y\n1,5;cat\n2,5;dog\n")
    (one,) = tabular(labels="y", delimiter=";", decimal=",").sequences(path)
    assert (one.inputs.tolist(), one.labels.tolist()) == ([[1.5], [2.5]], [["cat"], ["dog"]])
    path = write_file(tmp_path / "y.csv", "x;y\n1,5;cat\n2,5;1,5\n")
    assert "'cat' is not a number, and '1,5' in row 2 is one" in refusal(path, labels="y", delimiter=";", decimal=",")
    given = tabular(labels="y", delimiter=";", decimal=",", classes='cat,"1,5"')
    assert given(path)[1].tolist() == [[0], [1]]
    options = {"labels": "y", "delimiter": ";", "decimal": ",", "classes": "cat,dog"}
    assert "'1,5' is a number, but --classes names 2 classes" in refusal(path, **options)
    assert [is_number(text, ",") for text in ("1,5", "1.5", "1_5")] == [True, False, False]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_part_before_decimals_distinguishes_names_from_numbers(tmp_path, suffix):
    between = {".csv": ";", ".tsv": "\t", ".txt": " "}[suffix]
    options: dict[str, Any] = {"delimiter": ";"} if suffix == ".csv" else {}
    path = write_file(tmp_path / f"x{suffix}", text_of([["1,5", "2,5"], ["3,5", "4,5"]], between))
    if suffix == ".txt":
        assert tabular(decimal=",")(path)[0].tolist() == [[1.5, 2.5], [3.5, 4.5]]
        for line in ("a b", ".5 .6"):
            names = write_file(tmp_path / "names.txt", f"{line}\n1,5 2,5\n")
            assert "say --header if it holds the column names" in refusal(names, decimal=",")
    else:
        assert 'the first line holds only numbers ("1,5", "2,5")' in refusal(path, decimal=",", **options)
        assert tabular(decimal=",", header=False, **options)(path)[0].tolist() == [[1.5, 2.5], [3.5, 4.5]]


def test_words_for_missing_values_are_matched_exactly(tmp_path):
    path = write_file(tmp_path / "x.csv", "x;y\n1,5;2\n-999,0;3\n-999;4\n4,5;-999,00\n")
    for words in ('"-999,0"', ["-999,0"], "-999", ["-999.0"]):
        (one,) = tabular(delimiter=";", decimal=",", na_values=words, missing="drop")(path)
        assert one.inputs.tolist() == [[1.5, 2]], words
    pq.write_table(pa.table({"x": [1.5, -999.0], "y": [2.0, 3.0]}), tmp_path / "x.parquet")
    (one,) = tabular(decimal=",", na_values=["-999,0"], missing="drop")(tmp_path / "x.parquet")
    assert one.inputs.tolist() == [[1.5, 2]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("-999,?", ("-999", "?")),
        ("-999,-9999", ("-999", "-9999")),
        ("-999, 0", ("-999", "0")),
        ('"-999,0"', ("-999,0",)),
        ('?, "-999,0" ,"-1,5e3"', ("?", "-999,0", "-1,5e3")),
        (["-999,0", "?"], ("-999,0", "?")),
        (None, ()),
    ],
)
def test_words_may_contain_commas_with_a_decimal_comma(given, words):
    assert parse_missing_words(given, ",") == words
    assert tabular(na_values=given or (), decimal=",").options.na_values == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("-999,0", ("-999", "0")),
        ("?,-999,0", ("?", "-999", "0")),
        ("0,5,?", ("0", "5", "?")),
        ('"-1,5",-999,0', ("-1,5", "-999", "0")),
    ],
)
def test_an_ambiguous_comma_between_words_is_refused(given, words):
    with pytest.raises(UsageError, match=r"it is unclear whether '.*' is one number; write"):
        tabular(na_values=given, decimal=",")
    assert tabular(na_values=given).options.na_values == words


def test_time_stamps_may_have_either_mark(tmp_path):
    """ISO 8601 permits both marks before fractions of a second, and other formats may have points."""
    path = write_file(tmp_path / "x.csv", "t;x\n2020-01-31 12:00:00,25;1,5\n2020-01-31 12:00:00.5;2,5\n")
    (one,) = tabular(time="t", delimiter=";", decimal=",").sequences(path)
    assert one.time.astype(str).tolist() == ["2020-01-31T12:00:00.250000000", "2020-01-31T12:00:00.500000000"]
    path = write_file(tmp_path / "y.csv", "t;x\n31.01.2020;1,5\n1.2.2020;2,5\n")
    (one,) = tabular(time="t", time_format="%d.%m.%Y", delimiter=";", decimal=",").sequences(path)
    assert one.time.astype("M8[D]").astype(str).tolist() == ["2020-01-31", "2020-02-01"]
    path = write_file(tmp_path / "z.csv", "year;month;day;x\n2020;1;31;1,5\n")
    (one,) = tabular(time="year,month,day", delimiter=";", decimal=",").sequences(path)
    assert one.time.astype("M8[D]").astype(str).tolist() == ["2020-01-31"]


def test_rows_are_grouped_by_text_as_it_is_written_and_by_integers(tmp_path):
    path = write_file(tmp_path / "x.csv", "g;h;x\n1,5;7;0,5\n1.5;7;1,5\n1,5;7;2,5\n")
    found = list(tabular(group_by="g,h", delimiter=";", decimal=",").sequences(path))
    assert [(one.columns["g"], one.columns["h"], one.inputs[:, 0].tolist()) for one in found] == [
        ("1,5", 7, [0.5, 2.5]),
        ("1.5", 7, [1.5]),
    ]


@pytest.mark.parametrize("labels", [".csv", ".tsv", ".txt", ".parquet"])
def test_labels_in_a_file_beside_it(tmp_path, labels):
    """It has the same decimal mark; rows are matched by numbers with any number of digits."""
    write_file(tmp_path / "in" / "a.csv", "t;x\n0,5;1,5\n1,50;2,5\n2;3,5\n")
    rows = [["t", "y"], ["1,5", "10,5"], ["0,50", "20,5"], ["2,0", "30,5"]]
    if labels == ".parquet":
        pq.write_table(pa.table({"t": [1.5, 0.5, 2.0], "y": [10.5, 20.5, 30.5]}), tmp_path / "a.parquet")
    else:
        write_file(tmp_path / f"a{labels}", text_of(rows, SUFFIXES[labels]))
    if labels == ".txt":  # another suffix than the source's, so that its columns have numbers
        write_file(tmp_path / "a.txt", text_of(rows[1:], " "))
    on = "t=0" if labels == ".txt" else "t"
    process = tabular(labels_from=f"{{stem}}{labels}", on=on, delimiter=";", decimal=",", inputs="x").under(tmp_path)
    (one,) = process(tmp_path / "in" / "a.csv")
    assert (one.inputs.tolist(), one.labels.tolist()) == ([[1.5], [2.5], [3.5]], [[20.5], [10.5], [30.5]])


def test_both_files_may_have_their_own_decimal_mark(tmp_path):
    write_file(tmp_path / "in" / "a.tsv", "t\tx\n1,5\t1,5\n2,50\t2,5\n")
    write_file(tmp_path / "a.csv", "t,y\n2.5,20.5\n1.50,10.5\n")
    process = tabular(labels_from="{stem}.csv", on="t", decimal=",", inputs="x").under(tmp_path)
    (one,) = process(tmp_path / "in" / "a.tsv")
    assert (one.inputs.tolist(), one.labels.tolist()) == ([[1.5], [2.5]], [[10.5], [20.5]])
    timed = tabular(labels_from="{stem}.csv", on="t", decimal=",", time="t", time_unit="s", inputs="x").under(tmp_path)
    (one,) = timed(tmp_path / "in" / "a.tsv")
    assert one.time.astype(np.int64).tolist() == [1_500_000_000, 2_500_000_000]


def test_keys_with_the_other_mark_are_text(tmp_path):
    """1.5 is not a number here, so 1.50 is another key."""
    write_file(tmp_path / "in" / "a.csv", "t;x\n1.5;1,5\n2.50;2,5\n")
    write_file(tmp_path / "a.csv", "t;y\n1.5;1\n2.5;2\n")
    process = tabular(labels_from="{stem}.csv", on="t", delimiter=";", decimal=",", inputs="x").under(tmp_path)
    (one,) = process(tmp_path / "in" / "a.csv")
    assert (one.inputs.tolist(), one.labels.tolist()) == ([[1.5]], [[1.0]])


def test_a_later_build_uses_the_recorded_mark(tmp_path):
    """With or without the option, the recorded mark is used; another one is refused, and the message has both."""
    src, store = tmp_path / "src", tmp_path / "t.zarr"
    options = ["--delimiter", ";", "--decimal", ",", "--na-values", '"-999,0"', "--missing", "drop", "--workers", 0]
    write_file(src / "a.csv", "x;y\n1,5;2\n-999,0;3\n")
    assert seqzarr("build", src, store, *options).exit_code == 0
    write_file(src / "b.csv.gz", "x;y\n2,5;3,25\n")
    assert gzip.decompress((src / "b.csv.gz").read_bytes()).startswith(b"x;y")
    assert seqzarr("build", src, store, "--workers", 0).exit_code == 0
    opened = open_store(store)
    assert [opened.read(number)[0].tolist() for number in range(2)] == [[[1.5, 2]], [[2.5, 3.25]]]
    for given_again in (["--decimal", ","], ["--na-values", '"-999,0"'], options[:6]):
        assert seqzarr("build", src, store, "--workers", 0, *given_again).exit_code == 0, given_again
    result = seqzarr("build", src, store, "--decimal", ".")
    assert (result.exit_code, "was built with decimal ,, but the option is now decimal ." in result.output) == (2, True)
    assert seqzarr("verify", "--sources", src, store).exit_code == 0
    assert "decimal    ," in seqzarr("inspect", store).output
