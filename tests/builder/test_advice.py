"""What messages advise helps: the command that they name works, or is the only one that can."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import store_spec
from tests.builder.command import seqzarr
from tests.builder.source_files import write_files


def test_a_format_that_is_given_is_also_that_of_label_files_whose_suffix_says_nothing(tmp_path):
    write_files(tmp_path / "src", {"a.csv": "x\n1\n2\n", "y/a.lab": "k\n5\n6\n"})
    options = ["--labels-from", "y/{stem}.lab", "--inputs", "x", "--labels", "k", "--workers", "0"]
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", *options)
    assert "a.lab: no format has the suffix '.lab' of this label file; --format is for" in refused.stderr
    assert seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", *options, "--format", "csv").exit_code == 0
    x, y = store_spec.open_store(tmp_path / "t.zarr")[0]
    assert (x.ravel().tolist(), y.ravel().tolist()) == ([1, 2], [5, 6])


@pytest.mark.parametrize(
    ("text", "advice", "rows"),
    [
        ("1,2,3\n4,5,6\n", "--delimiter=,", [[1, 2, 3], [4, 5, 6]]),
        ("1, 2\n3, 4\n", "--delimiter=,", [[1, 2], [3, 4]]),
        ("1;2\n3;4\n", "--delimiter=;", [[1, 2], [3, 4]]),
        ("1,5\n2,5\n", "--decimal=,", [[1.5], [2.5]]),
    ],
)
def test_commas_in_a_file_whose_suffix_says_blanks(tmp_path, text, advice, rows):
    write_files(tmp_path / "src", {"a.txt": text})
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--workers", "0")
    flag, _, value = advice.partition("=")
    assert f"{flag} {value!r}" in refused.stderr
    assert "--exclude" not in refused.stderr
    more = ["--no-header"] if flag == "--delimiter" else []
    assert seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--workers", "0", advice, *more).exit_code == 0
    assert np.array_equal(store_spec.open_store(tmp_path / "t.zarr")[0][0], rows)


def test_text_with_commas_between_blanks_is_read_as_before(tmp_path):
    write_files(tmp_path / "src", {"a.txt": "1 a,b 2\n3 c,d 4\n", "b.txt": "5 6 7\n8 9 1\n"})
    assert seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--exclude", "1", "--workers", "0").exit_code == 0
    assert store_spec.open_store(tmp_path / "t.zarr")[0][0].tolist() == [[1, 2], [3, 4]]


def test_other_options_after_a_build_in_which_most_files_failed(tmp_path):
    write_files(tmp_path / "src", {"a.csv": "x,y\n1,2\n", "b.csv": "x,y\n1,u\n", "c.csv": "x,y\n1,v\n"})
    first = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--workers", "0")
    assert "remove t.zarr first" in first.stderr
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--exclude", "y")
    assert refused.exit_code == 2
    assert "or remove this store and build again\n" in refused.stderr


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_all_columns_that_cannot_be_used_are_named_at_once(tmp_path, suffix):
    columns = {"when": ["2024-01-01", "2024-01-02"], "x": [1.0, 2.0], "site": ["a", "b"], "note": ["c", "d"]}
    (tmp_path / "src").mkdir()
    if suffix == ".csv":
        pa.csv.write_csv(pa.table(columns), tmp_path / "src/a.csv")
    else:
        pq.write_table(pa.table(columns), tmp_path / "src/a.parquet")
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--workers", "0").stderr
    assert "3 columns cannot be used: " in refused
    assert "; leave them out with --exclude when,site,note, or name the columns to take with --inputs\n" in refused
    assert all(f"column {name} holds " in refused or f"column {name}: " in refused for name in ("when", "site", "note"))
    options = ["--exclude", "when,site,note", "--workers", "0"]
    assert seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", *options).exit_code == 0
    assert store_spec.open_store(tmp_path / "t.zarr")[0][0].tolist() == [[1], [2]]


def test_all_columns_with_missing_values_and_all_that_do_not_exist_are_named_at_once(tmp_path):
    write_files(tmp_path / "src", {"a.csv": "x,y,z\n1,,3\n4,5,\n"})
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--workers", "0").stderr
    assert "row 1, column y: missing value (2 in all, also in z); " in refused
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--inputs", "x,p,q", "--workers", "0").stderr
    assert "there is no column 'p'; there is no column 'q'; there are 3: x, y, z" in refused
