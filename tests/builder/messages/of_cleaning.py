"""Mistakes with missing values, and with changes to columns."""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.builder.messages.mistakes import Mistake

GAPS: Final = {"a.csv": "x,y\n,2\n3,\n5,6\n"}

MISTAKES: Final = (
    Mistake("nothing is said of missing values", "", GAPS),
    Mistake("a policy that is none", "--missing fill", GAPS),
    Mistake("policies in the wrong order", "--missing drop+ffill", GAPS),
    Mistake("two policies for all columns", "--missing drop --missing keep", GAPS),
    Mistake("a policy for a column that is not there", "--missing z=drop", GAPS),
    Mistake("a policy for a column that is not taken", "--inputs x --missing y=drop", GAPS),
    Mistake("two policies for a column", "--missing x:y=drop --missing y=keep", GAPS),
    Mistake("ffill has nothing before a leading gap", "--missing ffill", GAPS),
    Mistake(
        "a policy that leaves nothing of a file",
        "--missing drop --empty error",
        {"a.csv": "x,y\n1,\n2,\n", "b.csv": "x,y\n1,2\n"},
    ),
    Mistake("NaN in whole numbers", "--missing keep --dtype int32", GAPS),
    Mistake("a limit without ffill", "--missing drop --ffill-limit 3", GAPS),
    Mistake("a limit of nothing", "--missing ffill --ffill-limit 0", GAPS),
    Mistake("a sentinel that nothing is said of", "--na-values -999", {"a.csv": "x,y\n1,2\n3,-999\n"}),
    Mistake("a mark for a missing value, at first", "", {"a.csv": "x,my y\n1,**\n3,4\n"}),
    Mistake("a mark for a missing value, later", "", {"a.csv": 'x,"y, %"\n1,2\n3,n.a.\n'}),
    Mistake(
        "a sentinel of which the comma may stand in it or behind it",
        "--delimiter ; --decimal , --na-values=-999,0",
        {"a.csv": "x;y\n1,5;2\n3;-999,0\n"},
    ),
    Mistake("decimals with a comma", "--delimiter ;", {"a.csv": "x;y\n1,5;2\n"}),
    Mistake(
        "decimals with a point among those with a comma", "--delimiter ; --decimal ,", {"a.csv": "x;y\n1,5;2\n2.5;3\n"}
    ),
    Mistake(
        "decimals with a comma between columns of which nobody said what is between them",
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
    Mistake(
        "limits beyond what the file's numbers hold", "--clip x=300:", {"a.parquet": {"x": np.array([1, 2], "uint8")}}
    ),
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
    Mistake(
        "a column among many that is not there", "--inputs w", {"a.csv": ",".join(f"c{n}" for n in range(90)) + "\n"}
    ),
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
