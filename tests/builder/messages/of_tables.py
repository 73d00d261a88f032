"""Mistakes with missing values and changes to columns, with many sequences in a file, and with times of steps."""

import datetime as dt
import math
from decimal import Decimal
from typing import Final

import numpy as np

from tests.builder.messages.mistakes import Mistake

GAPS: Final = {"a.csv": "x,y\n,2\n3,\n5,6\n"}

CLEANING: Final = (
    Mistake("nothing is said of missing values", "", GAPS),
    Mistake("a policy that is none", "--missing fill", GAPS),
    Mistake("policies in the wrong order", "--missing drop+ffill", GAPS),
    Mistake("two policies for all columns", "--missing drop --missing keep", GAPS),
    Mistake("a policy for a column that is not there", "--missing z=drop", GAPS),
    Mistake("a policy for a column that is not taken", "--inputs x --missing y=drop", GAPS),
    Mistake("two policies for a column", "--missing x:y=drop --missing y=keep", GAPS),
    Mistake("ffill has nothing before a leading gap", "--missing ffill", GAPS),
    Mistake(
        "a file of which nothing is left",
        "--missing drop --empty error",
        {"a.csv": "x,y\n1,\n2,\n", "b.csv": "x,y\n1,2\n"},
    ),
    Mistake("NaN in whole numbers", "--missing keep --dtype int32", GAPS),
    Mistake("a limit without ffill", "--missing drop --ffill-limit 3", GAPS),
    Mistake("a limit of nothing", "--missing ffill --ffill-limit 0", GAPS),
    Mistake("a sentinel that nothing is said of", "--na-values -999", {"a.csv": "x,y\n1,2\n3,-999\n"}),
    Mistake("a mark for a missing value, at first", "", {"a.csv": "x,my y\n1,**\n3,4\n"}),
    Mistake("a mark for a missing value, later", "", {"a.csv": 'x,"y, %"\n1,2\n3,n.a.\n'}),
    Mistake("a sentinel with a comma", "--delimiter ; --decimal , --na-values=-999,0", {"a.csv": "x;y\n3;-999,0\n"}),
    Mistake("decimals with a comma", "--delimiter ;", {"a.csv": "x;y\n1,5;2\n"}),
    Mistake("a decimal point among commas", "--delimiter ; --decimal ,", {"a.csv": "x;y\n1,5;2\n2.5;3\n"}),
    Mistake(
        "decimal commas without a delimiter",
        "--decimal ,",
        {"a.csv": "x;y\n1,5;2,5\n", "b.csv": "x,y\n1,2\n", "c.csv": "x;y\n1;2\n", "d.csv": "x\n1\n"},
    ),
    *(
        Mistake(what, f"--delimiter ; --decimal {mark} --time t {options}", {"a.csv": f"t;x\n{first};1\n{then};1\n"})
        for what, mark, options, first, then in (
            ("a time with a point among those with a comma", ",", "--time-unit s", "0,5", "1.5"),
            ("times with points beside decimals with a comma", ",", "--time-unit s", "0.5", "1.5"),
            ("elapsed times with points beside decimals with a comma", ",", "--time-unit s --elapsed", "0.5", "1.5"),
            ("times with commas and without a unit", ",", "", "0,5", "1,5"),
            ("a time with a comma among those with a point", ".", "--time-unit s", "0.5", "1,5"),
        )
    ),
    Mistake("labels with a comma", "--delimiter ; --labels y", {"a.csv": "x;y\n1;1,5\n2;2,5\n"}),
    Mistake("labels with a point", "--delimiter ; --decimal , --labels y", {"a.csv": "x;y\n1;1.5\n2;2.5\n"}),
    Mistake("the same mark between columns and before decimals", "--delimiter , --decimal ,"),
    Mistake("another policy than the store has", "--missing split", before="--missing drop"),
    Mistake("policies for a function of one's own", "--process mine:read --missing drop"),
    Mistake("a factor that is not a number", "--scale x=kW"),
    Mistake("a factor without a column", "--scale 0.001"),
    Mistake("limits the wrong way round", "--clip x=100:0"),
    Mistake("limits beyond uint8", "--clip x=300:", {"a.parquet": {"x": np.array([1, 2], "uint8")}}),
    Mistake("a logarithm of nothing", "--log x", {"a.csv": "x,y\n1,2\n0,4\n"}),
    Mistake("a transform of a column that is no input", "--inputs x --diff y"),
    Mistake("a result that floats do not hold", "--scale x=1e300", {"a.csv": "x,y\n1,2\n1e200,4\n"}),
    Mistake("the same after a row that is dropped", "--scale x=1e300 --missing drop", {"a.csv": "x,y\n,\n1e10,1\n"}),
    Mistake("a value too large for the dtype after it", "--dtype int8 --missing drop", {"a.csv": "x,y\n,\n1e10,1\n"}),
    Mistake("a difference to a missing value", "--diff x", {"a.csv": "x,y\n1,5\n4,6\n,7\n9,8\n"}),
    Mistake("a difference in a file of one row", "--diff x --empty error", {"a.csv": "x,y\n1,2\n"}),
    Mistake("a difference beyond int64", "--diff x", {"a.parquet": {"x": [-(2**62), 2**62, 0]}}),
    Mistake("a difference of a large integer", "--diff x", {"a.parquet": {"x": np.array([1, 2**63], np.uint64)}}),
    Mistake("a factor of an integer that floats do not hold", "--scale x=2", {"a.parquet": {"x": [1, 2**53 + 1]}}),
    Mistake("logarithms of nothing and less", "--log x", {"a.parquet": {"x": [3, 0, -1]}}),
    *(
        Mistake(what, options, {"a.csv": "x,y,z\n1,2,3\n"})
        for what, options in (
            ("a range that ends at no column", "--labels y:w"),
            ("a column to exclude that is not there", "--exclude w"),
            ("a range that runs backwards", "--inputs z:y"),
            ("a column in two ranges", "--inputs x:z,y"),
            ("numbers for columns with names", "--inputs 0:1"),
            ("too few names of columns", "--no-header --column-names p,q"),
        )
    ),
    Mistake("no such column among many", "--inputs w", {"a.csv": ",".join(f"c{n}" for n in range(90)) + "\n"}),
    Mistake("too few names of columns of an array", "--column-names p", {"a.npy": np.ones((3, 2))}),
    *(
        Mistake(f"integers like {' and '.join(values)}", options, {"a.csv": "\n".join(["x", *values, ""])})
        for values, options in (
            (("-1", "9007199254740993"), ""),
            (("1.5", "9007199254740993"), ""),
            (("1", "9223372036854775808"), "--dtype int64"),
            (("0", "18446744073709551616"), "--dtype uint64"),
        )
    ),
    Mistake("a missing value in a whole array", "", {"a.npz": {"inputs": [[1.0, np.nan]], "labels": [1]}}),
    Mistake("an infinite label of a whole array", "", {"a.npz": {"inputs": [1.0], "labels": [np.inf]}}),
    Mistake("a single value as inputs", "", {"a.npz": {"inputs": 1.0, "labels": 1}}),
    Mistake("columns of a whole array", "--inputs 0", {"a.npz": {"inputs": [1.0], "labels": [1]}}),
    Mistake("text of another encoding", "--encoding cp1252", {"a.csv": "x,y\n1,\x81\n"}),
    Mistake("more lines to skip than there are", "--skip-lines 2", {"a.csv": "x,y\n1,2\n"}),
    Mistake("a column with the name of a hidden one", "", {"a.parquet": {"x": [1], "\0row": [7]}}),
    Mistake("a large integer in JSON", "", {"a.jsonl": '{"x": 0.5}\n\n{"x": 12345678901234567890}\n'}),
    Mistake("a large integer in a list in JSON", "", {"a.jsonl": '{"x": [1e300, -9007199254740993]}\n'}),
    Mistake("text in JSON", "", {"a.jsonl": '{"x": "walk"}\n'}),
)

GROUPS: Final = (
    Mistake("a column to group by that is not there", "--group-by unit"),
    Mistake("a column to group by, twice", "--group-by x,x"),
    Mistake("a row of no group", "--group-by k", {"a.csv": "k,y\nA,1\n,2\n"}),
    Mistake("groups of fractions", "--group-by k", {"a.parquet": {"k": [1.0, 1.5], "y": [1.0, 2.0]}}),
    Mistake("groups of decimals", "--group-by k", {"a.parquet": {"k": [Decimal(7), Decimal("7.50")], "y": [1.0, 2.0]}}),
    Mistake("groups beyond int64", "--group-by k", {"a.parquet": {"k": np.array([1, 2**63], "u8"), "y": [1.0, 2.0]}}),
    Mistake("groups of NaN", "--group-by k", {"a.parquet": {"k": [1.0, math.nan], "y": [1.0, 2.0]}}),
    Mistake("groups of times", "--group-by k", {"a.parquet": {"k": np.zeros(2, "M8[s]"), "y": [1.0, 2.0]}}),
    Mistake("groups by a list", "--group-by k", {"a.parquet": {"k": [[1], [2]], "y": [1.0, 2.0]}}),
    Mistake("groups of whole arrays", "--group-by k", {"a.npz": {"inputs": [1.0], "labels": 1}}),
    Mistake("a file without rows", "--group-by k --empty error", {"a.csv": "k,y\n", "b.csv": "k,y\n1,2\n"}),
    Mistake("nothing but what is grouped by", "--group-by x,y"),
    Mistake("a column to group by with a name of the format", "--group-by part", {"a.csv": "part,y\n1,2\n"}),
    Mistake("a group with the name of a count", "--group-by dropped --missing drop", {"a.csv": "dropped,y\n1,2\n"}),
)


def _mistake(what: str, options: str, *stamps: str) -> Mistake:
    rows = "".join(f"{stamp},{number}\n" for number, stamp in enumerate(stamps))
    return Mistake(what, f"--time t {options}", {"a.csv": f"t,y\n{rows}"})


TIMES: Final = (
    Mistake("dates as an input", "", {"a.parquet": {"my day": [dt.date(2020, 1, 1)], "x": [1.0]}}),
    Mistake("a column of times that is not there", "--time when"),
    Mistake("an option of times, and no times", "--max-gap 2h"),
    _mistake("a day or a month", "", "01/02/2020", "02/02/2020"),
    _mistake("two formats that say different days", "--time-format %d/%m/%Y --time-format %m/%d/%Y", "1/2/2020"),
    _mistake("a format that does not fit", "--time-format %d.%m.%Y", "31.01.2020", "1/2/2020"),
    _mistake("a format without a year", "--time-format %H:%M", "10:00"),
    _mistake("a time of day alone", "", "10:00"),
    _mistake("a day that is in no calendar", "", "2020-02-28", "2021-02-29"),
    _mistake("numbers of nobody knows what", "", "1577836800", "1577836810"),
    _mistake("a unit that is none", "--time-unit min", "1"),
    _mistake("a stamp with a zone among others without", "", "2020-01-01T00:00", "2020-01-01T01:00+01:00"),
    _mistake("a year beyond nanoseconds", "", "1600-01-01"),
    _mistake("a fraction of a second in whole seconds", "--time-unit s", "2020-01-01T00:00:00.5"),
    _mistake("times in no order", "", "2020-01-01", "2020-01-03", "2020-01-02"),
    _mistake("the hour that comes twice in autumn", "", "2020-10-25T02:00", "2020-10-25T02:30", "2020-10-25T02:00"),
    _mistake("a time that comes twice", "", "2020-01-01", "2020-01-01"),
    _mistake("a row without a time", "", "2020-01-01", "", "2020-01-03"),
    _mistake("no row with a time", "--missing drop --empty error", "", ""),
    _mistake("a step that is off", "--every 10s", *(f"2020-01-01T00:00:{second}Z" for second in ("00", "10", "25.5"))),
    _mistake("a gap that is no time", "--max-gap 2", "2020-01-01"),
    _mistake("a gap of months or of minutes", "--max-gap 15M", "2020-01-01"),
    _mistake("gaps shorter than steps", "--max-gap 1s --every 1min", "2020-01-01"),
    _mistake("stamps that have elapsed", "--elapsed", "2020-01-01"),
    Mistake("a calendar of fractions", "--time year,month,day", {"a.csv": "year,month,day,y\n2020,1,1.5,0\n"}),
    *(
        Mistake(f"a calendar that has no {what}", "--time year,month,day", {"a.csv": f"year,month,day,y\n{day},0\n"})
        for what, day in (("such day", "2020,2,30"), ("such month", "2021,13,1"), ("such year", "-999,1,1"))
    ),
    Mistake("a year without its century", "--time year,month,day", {"a.csv": "year,month,day,y\n21,2,29,0\n"}),
)
