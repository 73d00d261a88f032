"""Impossible options of tables, and impossible combinations, are refused at once.

`tests/builder/messages/mistakes.txt` has the messages of many others.
"""

from __future__ import annotations

import pytest

from builder import UsageError, tabular

REFUSED = [
    # Formats and text.
    ({"format": "xml"}, "format='xml' is not one of csv, tsv, blank, jsonl, parquet, arrow, npy, npz"),
    ({"delimiter": "::"}, "delimiter='::' must be one ASCII character"),
    ({"delimiter": "\n"}, "must be one ASCII character, and no quote or line end"),
    ({"delimiter": ",", "format": "npy"}, "delimiter=',' has no meaning for format='npy'"),
    *(({"decimal": ",", "format": one}, "decimal=',' has no meaning") for one in ("parquet", "arrow", "npy", "npz")),
    *(({"decimal": mark}, "is not a decimal mark") for mark in ("", ";", ",,", "\u066b")),
    ({"decimal": ".", "delimiter": "."}, r"decimal='.' \(--decimal\) and delimiter='.' \(--delimiter\)"),
    ({"column_names": ("a",), "header": True}, "column_names are for files without a header"),
    ({"column_names": ("a", "a")}, "column_names names 'a' twice"),
    ({"comment": "//"}, "comment='//' must be one ASCII character"),
    ({"comment": "#", "format": "npy"}, "comment='#' has no meaning for format='npy'"),
    ({"skip_lines": -1}, "skip_lines=-1; it is a number of lines"),
    ({"skip_lines": 3, "format": "parquet"}, "skip_lines=3 has no meaning for format='parquet'"),
    ({"skip_after_header": -1}, "skip_after_header=-1; it is a number of lines"),
    ({"skip_after_header": 1, "header": False}, r"skip_after_header=1 \(--skip-after-header\) is for files with a"),
    ({"encoding": "latin-1", "format": "parquet"}, "encoding='iso8859-1' has no meaning for format='parquet'"),
    *(({"encoding": name}, "is not known; latin-1, cp1252 and utf-16 are some") for name in ("klingon", "hex", "a\0b")),
    # Columns and labels.
    ({"inputs": ""}, "inputs='' names no column somewhere"),
    ({"inputs": "a,,b"}, "inputs='a,,b' names no column somewhere"),
    *(({"inputs": text}, "quotes go around a whole name") for text in ('"a', 'a,"b', '"a"b', 'a:"b,c', '"')),
    ({"exclude": "a,a"}, "exclude names 'a' twice"),
    ({"labels": "a", "label_pattern": "(1)"}, "labels come from labels and from label_pattern; choose one"),
    ({"labels": "a", "labels_in_manifest": True}, "labels come from labels and from the manifest"),
    ({"label_pattern": "(1"}, "is not a regular expression: "),
    ({"dtype": "float23"}, "dtype='float23' is not a dtype"),
    ({"dtype": "4:"}, "dtype='4:' is not a dtype"),
    ({"dtype": "complex64"}, "dtype='complex64' cannot be stored"),
    ({"dtype": "str"}, "dtype='str' cannot be stored"),
    # Missing values and transforms.
    ({"missing": "drop+keep"}, "then at most one of"),
    ({"missing": "ffill+ffill"}, "each once"),
    ({"missing": ["a=drop", "a=keep"]}, "missing is given twice for a"),
    ({"missing": "=drop"}, "names no column somewhere"),
    *(({"missing": one, "mask": True}, "keeps which values were filled in, and goes with missing=")
      for one in (None, "drop", "keep", ["a=split"])),
    ({"transforms": "square a"}, "transform 'square a' begins with none of scale, clip, diff, log"),
    ({"transforms": "scale a=0"}, "a factor of 0 makes all values 0"),
    ({"transforms": "scale a=nan"}, "'nan' is not a number"),
    ({"transforms": "clip a=5"}, "is not of the form COL=LOW:HIGH"),
    ({"transforms": "clip a=:"}, "is not of the form COL=LOW:HIGH"),
    ({"transforms": "diff"}, "diff names no column; write COL"),
    # Times.
    ({"time": list("abcdefg")}, "time=a,b,c,d,e,f,g has 7 columns; give one, or a date and a time"),
    ({"time": "t,u", "elapsed": True, "time_unit": "s"}, "elapsed is for one column of numbers"),
    ({"time": "t", "time_unit": "min"}, "time_unit='min' is not one of s, ms, us, ns"),
    ({"time_unit": "s"}, r"time_unit \(--time-unit\) goes with time: name the column of times with --time"),
    ({"sort_time": True}, r"sort_time \(--sort-time\) goes with time"),
    ({"time": "t", "duplicates": "median"}, "duplicates='median' is not one of error, first, last, mean"),
    ({"time": "t", "every": "0s"}, "every='0s' is not a duration"),
    ({"time": "t", "every": "0.5ns"}, "every='0.5ns' is not a duration"),
    *(({"time": "t", "every": one}, f"every='{one}' may mean months or minutes; write {number}min for minu")
      for one, number in (("15m", "15"), ("1M", "1"), ("1.5 M", "1.5"))),
    *(({"time": "t", "max_gap": one}, "is not a duration; write a number and one of ns, us, ms, s, min, h, d, w")
      for one in ("1MS", "1Ms", "1NS", "1US", "1ME", "1Y", "1 month", "2 years", "1L", "1t", "1hs", "1hours2", "D", "1",
                  "1B")),
    ({"time": "t", "time_zone": "Atlantis"}, "time_zone='Atlantis' is not a time zone; Europe/Berlin is one"),
    ({"time": "t", "time_zone": "../etc"}, "is not a time zone"),
    ({"time": "t", "time_zone": "UTC", "elapsed": True, "time_unit": "s"}, r"time_zone=UTC .* is for times of day"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_impossible_options_are_refused_with_the_reason(options, message):
    with pytest.raises(UsageError, match=message):
        tabular(**options)
